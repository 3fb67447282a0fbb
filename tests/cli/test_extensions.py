"""`pcrnn --import MODULE`: a user's cell, rule, likelihood, reader and probe work wherever built-in ones do."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pcrnn
from pcrnn import extensions, tables
from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs.load import load_run
from pcrnn.runs.sizes import count_weights
from tests.conftest import TINY, refused

TABLES = (tables.CELLS, tables.FAMILIES, tables.RULES, tables.READERS, tables.PROBES)
MODULE = Path(__file__).with_name("extension.py")


@pytest.fixture
def forget(monkeypatch):
    """Leaves the tables as they were; called in between, it does as a new process would."""
    built_in = [dict(table._parts) for table in TABLES]
    monkeypatch.setattr(sys, "path", list(sys.path))

    def start_anew():
        for table, parts in zip(TABLES, built_in, strict=True):
            monkeypatch.setattr(table, "_parts", dict(parts))
        monkeypatch.setattr(extensions, "_loaded", [])
        sys.modules.pop("mine", None)

    start_anew()
    yield start_anew
    start_anew()


@pytest.fixture
def mine(tmp_path, forget):
    """The module as a file mine.py."""
    return Path(shutil.copy(MODULE, tmp_path / "mine.py"))


@pytest.fixture
def waves(tmp_path):
    path = tmp_path / "waves.numbers"
    path.write_text("".join(f"{math.sin(t / 3):.5f}\n" for t in range(300)))
    return path


@pytest.fixture
def trained(program, mine, waves, tmp_path, forget):
    """A run of the user's cell, rule, likelihood and reader, and a program that has forgotten them."""
    out = tmp_path / "run"
    flags = ("--cell", "slow", "--rule", "damped", "--factor", 0.25, "--data", waves, "--out", out)
    called = program("--import", mine, "train", *TINY, *flags)
    assert (called.code, called.err) == (0, "")
    assert (
        "rule    damped: credit top, trace exact, feedback symmetric, gate_coordination 0.0, factor 0.25" in called.out
    )
    forget()
    return out


def test_a_run_of_a_users_parts_is_used_by_every_command(program, mine, trained, waves, tmp_path):
    document = json.loads((trained / "config.json").read_text())
    assert document["imports"] == [str(mine)]
    assert (document["settings"]["rule"], document["settings"]["factor"]) == ("damped", 0.25)
    for command in (
        ("evaluate", trained),
        ("evaluate", trained, "--data", waves),
        ("plot", "all", trained),
        ("detect", trained),
        ("probe", "jacobian", trained, "--steps", 8),
        ("probe", "sizes", trained),
        ("verify", trained),
        ("train", "--resume", trained, "--steps", 6),
        ("export", trained, tmp_path / "model"),
    ):
        called = program("--import", mine, *command)
        assert called.code == 0, (command, called.err)


@pytest.mark.parametrize("command", ["evaluate", "plot all", "export", "train --resume"])
def test_without_the_import_the_error_names_the_part_and_the_module(program, mine, trained, tmp_path, command):
    more = (tmp_path / "model",) if command == "export" else ()
    called = program(*command.split(), trained, *more)
    words = (
        "rule: expected one of local, bptt, got 'damped'",
        f"made with `pcrnn --import {mine} ...`: pass --import again",
    )
    refused(called, 4, *words)


def test_an_export_is_loaded_by_whoever_has_imported_the_module(program, mine, trained, tmp_path, forget):
    folder = tmp_path / "model"
    assert program("--import", mine, "export", trained, folder).code == 0
    stack = pcrnn.load(folder)
    assert stack.observation.options() == {"sharpness": 4.0}
    stored = load_run(trained, device="cpu").stack.eval()
    x = torch.randn(1, 9, 1)
    assert torch.equal(stack(x)[0], stored(x)[0])
    forget()
    with pytest.raises(CheckpointError, match=r"family: expected one of .* got 'sharp'.*--import .*mine\.py"):
        pcrnn.load(folder)


def test_options_of_an_observation_are_no_door_for_strangers(program, mine, trained, tmp_path):
    folder = tmp_path / "model"
    assert program("--import", mine, "export", trained, folder).code == 0
    document = json.loads((folder / "config.json").read_text())
    for options in ({"sharpness": [1]}, {"unknown": 1}, [1]):
        document["observation"]["options"] = options
        (folder / "config.json").write_text(json.dumps(document))
        with pytest.raises(CheckpointError, match="expected what pcrnn export writes"):
            pcrnn.load(folder)


def test_flags_of_every_rule_are_offered_with_their_owner_and_refused_with_others(program, mine, tmp_path, waves):
    shown = " ".join(program("--import", mine, "train", "--help").out.replace("│", " ").split())
    assert "--factor FLOAT Rule damped: what gradients are multiplied by. (default: 0.5)" in shown
    assert "--credit {layer,top,neighbour,hierarchy,cascade} Rule local or damped: whose error" in shown
    assert "{gated,rotating,leaky,rnn,lstm,gru,slow}" in shown and "{local,bptt,damped}" in shown
    for title in ("data options", "model options", "rule options", "optimiser options", "run options"):
        assert title in shown
    called = program("train", "--factor", 2, "--data", waves, "--out", tmp_path / "run")
    refused(called, 2, "factor: expected only with rule damped, got rule local; leave it out")
    called = program("train", "--rule", "damped", "--factor", 0, "--data", waves, "--out", tmp_path / "run")
    refused(called, 2, "factor: expected above 0, got 0.0")
    called = program("train", "--rule", "damped", "--credit", "tpo", "--data", waves)
    refused(called, 2, "credit: expected layer or top or", "did you mean 'top'?")
    assert program("train", "--rule", "local", "--factor", 1).code == 2


def test_a_rules_own_default_of_a_shared_option_holds(mine):
    extensions.load(str(mine))
    assert TrainConfig(rule="damped").rule_options["credit"] == "top"
    assert TrainConfig(rule="damped", seed=7).rule_arguments()["seed"] == 7
    assert TrainConfig.from_mapping({"rule": "damped", "factor": 1}).rule_in_words == "damped (top)"
    with pytest.raises(
        UsageError, match=r"rule_options: expected an option of rule damped .*, got 'fctor'; did you mean"
    ):
        TrainConfig(rule="damped", rule_options={"fctor": 1})


def test_sizes_count_a_users_cell_as_its_base(mine):
    extensions.load(str(mine))
    slow, leaky = (count_weights(TrainConfig(hidden=(5, 4), cell=cell, num_taps=2), 3) for cell in ("slow", "leaky"))
    assert slow == leaky


def test_a_probes_own_flags_have_ranges(program, mine, trained):
    refused(program("--import", mine, "probe", "sizes", trained, "--steps", 1), 2, "steps: expected at least 2, got 1")
    assert "the largest output has a size of" in program("probe", "sizes", trained, "--steps", 4).out


def test_a_module_is_found_by_name_in_the_working_folder(mine, tmp_path):
    command = [sys.executable, "-m", "pcrnn", "--import", "mine", "probe", "--help"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=_environment())
    assert ended.returncode == 0 and "How large every layer's output is." in ended.stdout


def _environment():
    import os

    return os.environ | {"PYTHONPATH": str(Path(pcrnn.__file__).parents[1])}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 / 0\n", ["ZeroDivisionError: division by zero"]),
        ("def f(:\n", ["SyntaxError"]),
        ("import nowhere_at_all\n", ["ModuleNotFoundError: No module named 'nowhere_at_all'"]),
        ("from pcrnn.tables import CELLS\n@CELLS.register('gru')\nclass A: ...\n", ["cell 'gru': expected a name of"]),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_message(program, tmp_path, forget, content, words):
    (tmp_path / "mine.py").write_text(content)
    called = program("--import", tmp_path / "mine.py", "info")
    refused(called, 2, f"--import {tmp_path / 'mine.py'}: expected a module or a .py file", *words)


def test_a_module_that_is_not_there_is_one_message(program, tmp_path, forget):
    refused(program("--import", tmp_path / "none.py", "info"), 2, "none.py: expected a module", "No such file")
    refused(
        program("--import", "no.such.module", "info"), 2, "--import no.such.module: expected", "No module named 'no'"
    )
    refused(program("--import"), 2, "--import: expected a module or a .py file before the command, got nothing")
    (tmp_path / "json.py").write_text("")
    refused(program("--import", tmp_path / "json.py", "info"), 2, "the module json, which is loaded already; rename it")


def test_a_likelihood_that_is_not_registered_cannot_be_exported(program, mine, trained, tmp_path, monkeypatch):
    extensions.load(str(mine))
    monkeypatch.delitem(tables.FAMILIES._parts, "sharp")
    called = program("export", trained, tmp_path / "model")
    refused(called, 2, "family: expected a registered one, got 'Sharp'")
    assert not (tmp_path / "model").exists()
