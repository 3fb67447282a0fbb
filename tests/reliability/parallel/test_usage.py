"""What a person can get wrong, and a process group of one rank, which needs no torchrun to be tested."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pcrnn.cli.main import main
from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.runs import best
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import read_metrics
from pcrnn.training.parallel import join
from pcrnn.training.parallel.layers import LayerTeam, shares
from pcrnn.training.parallel.ranks import connected
from pcrnn.training.train import train
from tests.reliability.parallel.test_torchrun import check_same
from tests.reliability.tiny import StopAt, same

SIZE = {"hidden": (5, 4), "chunk": 8, "batch": 2, "steps": 6, "warmup": 2, "log_every": 1, "evaluate_every": 4}


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """The environment of a process of torchrun, of which there is one; a call gives it to another launch."""

    def by(run_id: str, ranks: int = 1) -> None:
        found = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        found |= {"TORCHELASTIC_RUN_ID": run_id, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
        for name, value in found.items():
            monkeypatch.setenv(name, str(value))

    by("first")
    return by


def settings(text: Path, **more: object) -> TrainConfig:
    local = {} if more.get("rule") == "bptt" else {"credit": "layer"}
    return TrainConfig.from_mapping({"data": str(text)} | local | SIZE | more)


# Usage errors


@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_without_torchrun_the_command_to_type_is_said(text, tmp_path, capsys, parallel):
    out = tmp_path / "run"
    assert main(["train", "--parallel", parallel, "--data", str(text), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"torchrun --nproc-per-node 2 -m pcrnn train --parallel {parallel}" in said
    assert "Traceback" not in said and len(said.splitlines()) == 1
    assert not out.exists()


def test_under_torchrun_without_parallel(text, tmp_path, capsys, launched):
    launched("first", ranks=2)
    assert main(["train", "--data", str(text), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pcrnn: rank 0: error: parallel: expected data or layers, got none in 2 processes of torch")


def test_parallel_needs_a_folder_that_all_find(text, capsys, launched):
    assert main(["train", "--parallel", "data", "--data", str(text)]) == 2
    assert "--out: expected a folder with --parallel data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"credit": "neighbour"}, r"parallel: expected, with layers, a rule that sends nothing down: --rule local"),
        ({"feedback": "random"}, r"sends nothing down: .*got Local\(.*feedback='random'"),
        ({"trace": "none"}, r"sends nothing down: .*trace='none'"),
        ({"rule": "bptt"}, r"sends nothing down: .*got BPTT\("),
        ({"dropout": 0.2}, r"dropout: expected 0 with parallel layers.*got 0.2"),
        ({"skip": "dense"}, r"skip: expected none with parallel layers.*got dense"),
        ({"top_down": True}, r"top_down: expected false with parallel layers.*got true"),
        ({"cuda_graph": True}, r"cuda_graph: expected not with parallel layers"),
    ],
)
def test_settings_that_layers_cannot_share(text, tmp_path, launched, wrong, message):
    config = settings(text, parallel="layers", **wrong)
    with pytest.raises(UsageError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_ranks_than_layers_or_lanes_that_do_not_divide(text, tmp_path, launched, monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(UsageError, match=r"at least as many layers as ranks with layers, got 2 for 3; take --nproc"):
        train(settings(text, parallel="layers"), tmp_path / "run")
    with pytest.raises(UsageError, match=r"batch: expected a multiple of the 3 ranks .* got 4; take 6"):
        train(settings(text, parallel="data", batch=4), tmp_path / "run")


# One rank


@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_one_rank_is_bitwise_one_process(text, tmp_path, launched, parallel):
    train(settings(text, parallel=parallel), tmp_path / "rank")
    train(settings(text), tmp_path / "alone")
    check_same(tmp_path / "rank", tmp_path / "alone")


# Whose folder it is


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_launch_goes_on_with_the_run_that_it_began(text, tmp_path, launched, checkpoints):
    out = tmp_path / "run"
    config = settings(text, parallel="data")
    train(config, out, callback=StopAt(3))
    if not checkpoints:  # killed before it wrote one
        for path in (out / "checkpoints").rglob("*.*"):
            path.unlink()
        (out / "checkpoints" / "step_3").rmdir()
    train(config, out)
    train(settings(text), tmp_path / "alone")
    check_same(out, tmp_path / "alone")


def test_a_launch_refuses_the_folder_of_another(text, tmp_path, launched):
    out = tmp_path / "run"
    config = settings(text, parallel="data")
    train(config, out, callback=StopAt(3))
    launched("second")
    for _ in range(2):  # torchrun starts it again: it is refused once more
        with pytest.raises(UsageError, match="expected a new or empty folder for the run"):
            train(config, out)
    assert read_metrics(RunFolder(out))[-1]["step"] == 3


def test_without_a_run_id_the_agent_tells_launches_apart(text, tmp_path, launched, monkeypatch):
    launched("none")
    config = settings(text, parallel="data")
    train(config, tmp_path, callback=StopAt(3))
    _, number, _ = json.loads(RunFolder(tmp_path).launch.read_text())["agent"].rsplit(":", 2)
    assert number == str(os.getppid())
    assert train(config, tmp_path, callback=StopAt(1)).step == 4
    monkeypatch.setattr(os, "getppid", os.getpid)
    with pytest.raises(UsageError, match="expected a new or empty folder for the run"):
        train(config, tmp_path)


def test_going_on_in_another_way_is_allowed(text, tmp_path, launched):
    train(settings(text, parallel="data"), tmp_path / "run", callback=StopAt(2))
    train(settings(text, parallel="layers"), tmp_path / "run", resume=True, callback=StopAt(2))
    train(settings(text), tmp_path / "run", resume=True)
    train(settings(text), tmp_path / "alone")
    check_same(tmp_path / "run", tmp_path / "alone")


def test_the_team_is_alone_without_parallel(text):
    with join(settings(text)) as team:
        assert (team.rank, team.size, team.is_main, team.sync_should_stop(True)) == (0, 1, True, True)


def test_what_ranks_tell_each_other_at_a_start_is_not_found_by_the_next(launched, monkeypatch):
    """torchrun keeps one store for all starts; ranks that found addresses of killed ones would call them in vain."""
    store = torch.distributed.TCPStore("localhost", 0, is_master=True)
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    counts = []
    for start in ("0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", start)
        before = store.num_keys()
        with connected("cpu"):
            counts.append(store.num_keys() - before)
    assert counts[1] > 0  # under names of its own


# Shares of the layers


@pytest.mark.parametrize(
    ("costs", "ranks", "expected"),
    [
        ([1, 1, 1, 1, 1, 1], 2, [range(0, 3), range(3, 6)]),
        ([1, 2, 2, 2, 2, 2], 2, [range(0, 3), range(3, 6)]),
        ([9, 1, 1, 1], 2, [range(0, 1), range(1, 4)]),
        ([1, 1, 1, 9], 3, [range(0, 1), range(1, 3), range(3, 4)]),
        ([5], 1, [range(0, 1)]),
        ([1, 1, 9], 3, [range(0, 1), range(1, 2), range(2, 3)]),
    ],
)
def test_the_dearest_share_is_as_cheap_as_can_be(costs, ranks, expected):
    assert shares(costs, ranks) == expected


def test_shares_of_a_deep_stack_are_found_at_once():
    found = shares([1.0] * 256, 16)
    assert {len(share) for share in found} == {16}


def test_a_checkpoint_belongs_to_the_rank_of_its_layer():
    team = LayerTeam.__new__(LayerTeam)
    team.shares = [range(0, 1), range(1, 3)]
    owners = {"sensory.eta": 0, "layers.0.weight": 0, "layers.2.running.variance": 1, "carry.traces.1.bias": 1}
    owners |= {"state.layers.0.cell": 0, "optimiser.layers.2.weight.exp_avg": 1, "random.cpu": 0, "window": 0}
    assert {name: team._owner(name) for name in owners} == owners


# Checkpoints


@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_the_best_is_kept_by_one_rank_as_by_one_process(text, tmp_path, launched, parallel):
    train(settings(text, parallel=parallel, evaluate_every=2), tmp_path / "rank")
    train(settings(text, evaluate_every=2), tmp_path / "alone")
    rank, alone = (best.load(tmp_path / name / "checkpoints") for name in ("rank", "alone"))
    assert rank.folder.name == alone.folder.name and same(rank.checkpoint, alone.checkpoint)


@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_a_run_without_a_checkpoint_begins_again(text, tmp_path, launched, parallel):
    out, config = tmp_path / "run", settings(text, parallel=parallel)
    train(config, out, callback=StopAt(2))
    shutil.rmtree(out / "checkpoints")
    launched("second")
    train(config, out, resume=True)
    train(settings(text), tmp_path / "alone")
    check_same(out, tmp_path / "alone")
