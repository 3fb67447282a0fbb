"""The commands, used as a person would: what they write, print and return."""

import ast
import csv
import inspect
import json
import math
import shutil
import subprocess
import sys
from importlib import import_module

import pytest
import torch

import pcrnn
from pcrnn.config import TrainConfig
from pcrnn.nn.cells import CELLS
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import columns, read_metrics
from pcrnn.training.optimiser import learning_rate
from tests.conftest import TINY, refused


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("plot", "surprise", "--help")])
def test_the_flags_are_read_without_waiting_for_torch(arguments):
    asked = f"""
import sys
from pcrnn.cli.main import main
try:
    main({arguments!r})
except SystemExit as stopped:
    sys.exit(stopped.code or 10 * ("torch" in sys.modules))
sys.exit("no help")
"""
    assert subprocess.run([sys.executable, "-c", asked], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_public_names_are_there_when_asked_for_and_no_others():
    declared = [node for node in ast.walk(ast.parse(inspect.getsource(pcrnn))) if isinstance(node, ast.ImportFrom)]
    names = {
        a.asname: node.module for node in declared if node.module != "pcrnn.version" for a in node.names if a.asname
    }
    for name, module in names.items():
        public = getattr(pcrnn, name)
        assert public is getattr(import_module(module), name)
        assert f"{public.__module__}.".startswith(f"{module}."), f"{name} is declared to be in {module}"
    assert set(names) <= set(dir(pcrnn))
    with pytest.raises(AttributeError, match="module 'pcrnn' has no attribute 'Stack'"):
        _ = pcrnn.Stack


def test_train_leaves_settings_metrics_pictures_and_a_checkpoint(run):
    settings = json.loads((run / "config.json").read_text())
    assert settings["settings"]["hidden"] == [8, 8]
    assert settings["versions"]["torch"] == torch.__version__
    assert json.loads((run / "data.json").read_text())["state"]["vocabulary"] == "\n .acehmnost"
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step_4", "best_4"}
    pictures = {path.name for path in (run / "plots").iterdir()}
    names = ("surprise_over_time", "surprise_over_training", "gradient_norms", "nats_explained")
    assert pictures == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}


def test_both_metrics_files_hold_the_same_rows(run):
    rows = read_metrics(RunFolder(run))
    with (run / "metrics.csv").open(newline="") as file:
        table = csv.DictReader(file)
        assert table.fieldnames == columns(2)
        for row, cells in zip(rows, table, strict=True):
            assert {name: float(cell) for name, cell in cells.items() if cell} == row
    assert [row["step"] for row in rows] == [1, 2, 4]
    assert [row["tokens"] for row in rows] == [16, 32, 64]
    assert ["valid_metric" in row for row in rows] == [False, False, True]


def test_a_row_is_given_in_nats_and_in_the_unit_of_the_data(run):
    for row in read_metrics(RunFolder(run)):
        assert row["loss"] == pytest.approx(row["surprise_2"], rel=1e-6)
        assert row["metric"] == pytest.approx(row["loss"] / math.log(2))


def test_train_prints_settings_progress_figures_a_sample_and_paths(program, text, tmp_path):
    called = program("train", *TINY, "--data", text, "--out", tmp_path / "run", "--rule", "bptt", "--no-plots")
    assert (called.code, called.err) == (0, "")
    for expected in (
        "1,200 characters, 12 symbols",
        "8 + 8 units",
        "rule    bptt: auxiliary 0.0",
        "update 1/4",
        "bits/char",
        "tokens/s",
        "validation after 4 updates",
        "bigram",
        "sample, going on from",
        str(tmp_path / "run" / "metrics.csv"),
        str(tmp_path / "run" / "checkpoints" / "step_4"),
    ):
        assert expected in called.out
    assert "pictures" not in called.out


def test_flags_win_over_the_file_and_the_file_over_defaults(program, text, tmp_path):
    (tmp_path / "s.toml").write_text('hidden = [4]\nchunk = 8\nbatch = 2\nsteps = 2\ncredit = "top"\n')
    out = tmp_path / "run"
    called = program(
        "train", "--config", tmp_path / "s.toml", "--hidden", 8, 4, "--data", text, "--out", out, "--no-plots"
    )
    assert called.code == 0
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert (settings["hidden"], settings["credit"], settings["num_taps"]) == ([8, 4], "top", 2)


def test_the_default_folder_is_named_after_data_and_rule_and_counts(program, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert program("train", *TINY, "--data", text, "--steps", 1, "--no-plots").code == 0
        assert (tmp_path / "runs" / f"cats-local-{number}" / "config.json").is_file()


def test_evaluate_prints_every_level_beside_the_baselines(program, run):
    called = program("evaluate", run)
    assert called.code == 0
    for name in ("level 0, the base rate", "level 1", "level 2, the stack", "unigram", "bigram", "copy-last"):
        assert name in called.out
    last = read_metrics(RunFolder(run))[-1]
    assert f"{last['valid_metric']:.3f}" in called.out


def test_evaluate_reads_another_file_with_the_vocabulary_of_the_run(program, run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("the mat sat on the cat.\n" * 20)
    called = program("evaluate", run, "--data", other)
    assert called.code == 0
    assert "480 characters, 12 symbols" in called.out


def test_plot_writes_the_pictures_again_and_prints_their_paths(program, run):
    for name, first, files in (("all", "surprise_over_time", 8), ("training", "surprise_over_training", 6)):
        called = program("plot", name, run)
        assert called.code == 0
        assert len(called.out.splitlines()) == files
        assert called.out.splitlines()[0] == str(run / "plots" / f"{first}.png")


def test_any_stretch_of_any_file_is_drawn_letter_by_letter_or_averaged(program, run, text, tmp_path):
    """A passage of the run's data is that of a file of its own, met in the same context; steps are counted as there."""
    (tmp_path / "tail.txt").write_text(text.read_text()[-1190:])
    of_data = {"validation": ("--start", 1080), "file": ("--data", tmp_path / "tail.txt", "--start", 1070)}
    svgs = {}
    for name, flags in (*of_data.items(), ("long", ("--start", 0, "--length", 1200))):
        called = program("plot", "surprise", run, "--length", 60, *flags, "--out", tmp_path / name)
        assert called.out.split() == [str(tmp_path / f"{name}.{ending}") for ending in ("png", "svg")], called
        svgs[name] = (tmp_path / f"{name}.svg").read_text()
    assert ">1,100</text>" in svgs["validation"] and ">1,090</text>" in svgs["file"]
    assert svgs["validation"].count(">a</text>") == svgs["file"].count(">a</text>") > 3
    assert ">a</text>" not in svgs["long"] and "mean of 10 characters" in svgs["long"] and "bits/char" in svgs["long"]


def test_sample_goes_on_from_the_prompt_and_repeats_with_the_seed(program, run):
    first, again, other = (
        program("sample", run, "--prompt", "the ", "--length", 20, "--seed", seed).out for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first.startswith("the ")
    assert len(first) == len("the ") + 20 + 1


def test_a_cold_sample_of_a_sure_stack_takes_the_likeliest_symbol(program, run):
    texts = {program("sample", run, "--temperature", 0, "--seed", seed).out for seed in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize("rule", ["local", "bptt"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains_goes_on_and_samples_under_either_rule(program, text, tmp_path, cell, rule):
    out = tmp_path / "run"
    flags = ("--cell", cell, "--rule", rule, "--no-plots", "--data", text, "--out", out)
    called = program("train", *TINY, *flags)
    assert (called.code, called.err) == (0, "")
    assert program("train", "--resume", out, "--steps", 6, "--no-plots").code == 0
    assert program("sample", out, "--length", 5).code == 0
    other = "gated" if cell != "gated" else "lstm"
    refused(program("train", "--resume", out, "--cell", other), 4, f"cell: the run has {cell}, asked for {other}")


def test_verify_tells_which_checkpoints_are_sound(program, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert program("train", "--resume", copy, "--steps", 6, "--no-plots").code == 0
    called = program("verify", copy)
    assert called.code == 0
    assert [line.split()[:2] for line in called.out.splitlines()] == [
        [name, "ok"] for name in ("step_6", "step_4", "best_6", "best_4")
    ]
    (copy / "checkpoints" / "step_6" / "weights.safetensors").write_bytes(b"")
    called = program("verify", copy)
    refused(called, 4, "got 1 damaged of 4; --resume goes on from step_4")
    assert "step_6  damaged" in called.out and "weights.safetensors" in called.out
    shutil.rmtree(copy / "checkpoints")
    refused(program("verify", copy), 4, "expected a checkpoint to go on from, got none; --resume begins the run")


def test_info_tells_versions_devices_and_the_ops(program):
    called = program("info")
    assert called.code == 0
    for name in ("pcrnn", torch.__version__, "threads", "devices   cpu", "ops"):
        assert name in called.out


def test_a_finished_run_can_be_made_longer(program, run, tmp_path):
    longer = tmp_path / "longer"
    shutil.copytree(run, longer)
    called = program("train", "--resume", longer, "--steps", 6, "--no-plots")
    assert called.code == 0
    assert "going on after update 4" in called.out
    assert [row["step"] for row in read_metrics(RunFolder(longer))] == [1, 2, 4, 6]


def test_resuming_a_finished_run_shows_its_figures_again(program, run, tmp_path):
    same = tmp_path / "same"
    shutil.copytree(run, same)
    called = program("train", "--resume", same, "--no-plots")
    assert called.code == 0
    assert "validation after 4 updates" in called.out
    assert (same / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()


def test_a_series_is_trained_evaluated_and_drawn(program, tmp_path):
    steps = torch.arange(200)
    waves = torch.stack([(steps / 5).sin(), (steps / 9).cos()], 1)
    lines = ["up,down", *(",".join(f"{value:.6f}" for value in row) for row in waves.tolist())]
    (tmp_path / "waves.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "run"
    called = program("train", *TINY, "--data", tmp_path / "waves.csv", "--out", out)
    assert called.code == 0
    assert "nats/step" in called.out
    assert "sample" not in called.out
    assert (out / "plots" / "surprise_over_time.png").is_file()
    assert program("evaluate", out).code == 0
    assert program("sample", out).code == 2


def test_the_learning_rate_rises_and_falls_as_documented():
    config = TrainConfig(lr=1.0, warmup=4, steps=104)
    rates = [learning_rate(config, step) for step in range(config.steps)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[54] == pytest.approx(0.05 + 0.95 / 2)
    assert learning_rate(config, config.steps) == pytest.approx(0.05)
    assert rates[4:] == sorted(rates[4:], reverse=True)
