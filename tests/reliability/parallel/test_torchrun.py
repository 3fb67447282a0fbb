"""The program under torchrun: killed ranks are started again, signals leave a checkpoint that any can go on from."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from pcrnn.cli.main import main
from pcrnn.runs.checkpoint import load_newest
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import read_metrics
from tests.reliability.parallel.conftest import command, environment

TINY = ("--hidden", 6, 5, "--chunk", 8, "--batch", 4, "--warmup", 2, "--credit", "layer")
OFTEN = ("--log-every", 1, "--evaluate-every", 0, "--checkpoint-every", 3, "--no-plots")
TIMING = {"seconds", "tokens_per_second"}
FAULTY = Path(__file__).parent / "faulty.py"


def train(text: Path, out: Path, parallel: str, steps: int) -> tuple[object, ...]:
    where = ("--data", text, "--out", out, "--parallel", parallel)
    return ("train", *TINY, *OFTEN, *where, "--steps", steps)


def left(out: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Every tensor of the newest checkpoint, and the metrics but for what a clock writes."""
    rows = read_metrics(RunFolder(out))
    checkpoint = load_newest(out / "checkpoints").checkpoint
    kept = [{name: value for name, value in row.items() if name not in TIMING} for row in rows]
    return checkpoint.weights | checkpoint.trainer, kept


def check_same(found: Path, expected: Path) -> None:
    (mine, rows), (theirs, wanted) = left(found), left(expected)
    assert mine.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []
    assert rows == wanted


@pytest.mark.row(16)
def test_a_killed_data_rank_is_started_again_and_the_run_ends_as_if_unbroken(torchrun, text, tmp_path):
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    ended = torchrun(2, FAULTY, "kill:1:5", *train(text, broken, "data", 8), restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert "going on after update 3" in ended.stdout
    assert torchrun(2, "-m", "pcrnn", *train(text, unbroken, "data", 8)).returncode == 0
    check_same(broken, unbroken)


@pytest.mark.row(16)
def test_a_killed_layer_rank_is_started_again_and_the_run_ends_as_that_of_one_process(torchrun, text, tmp_path):
    """Killed before the first checkpoint: the run begins anew in its own folder. No bit depends on who held a layer."""
    broken, alone = tmp_path / "broken", tmp_path / "alone"
    ended = torchrun(2, FAULTY, "kill:0:2", *train(text, broken, "layers", 8), restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert main([str(part) for part in train(text, alone, "none", 8)]) == 0
    check_same(broken, alone)


@pytest.mark.parametrize("parallel", ["data", pytest.param("layers", marks=pytest.mark.full)])
def test_sigterm_leaves_a_checkpoint_that_one_process_goes_on_from(text, tmp_path, parallel):
    out = tmp_path / "run"
    started = command(2, "-m", "pcrnn", *train(text, out, parallel, 100_000))
    process = subprocess.Popen(
        started, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("update"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    done = int(read_metrics(RunFolder(out))[-1]["step"])
    assert f"stopped after update {done}; go on with: pcrnn train --resume {out}" in printed
    resumed = ("train", "--resume", out, "--steps", done + 2, "--parallel", "none", "--no-plots")
    assert main([str(part) for part in resumed]) == 0
    assert read_metrics(RunFolder(out))[-1]["step"] == done + 2


@pytest.mark.full
@pytest.mark.row(16)
@pytest.mark.parametrize("parallel", ["data", "layers"])
@pytest.mark.parametrize("victim", [0, 1])
def test_kills_from_outside_at_any_time(text, tmp_path, parallel, victim):
    """Kill -9 one rank of every start, as long as torchrun starts them again; the run still ends as if unbroken."""
    kills, steps, broken, unbroken = 3, 400, tmp_path / "broken", tmp_path / "unbroken"
    started = command(2, "-m", "pcrnn", *train(text, broken, parallel, steps), restarts=kills)
    with subprocess.Popen(started, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        seen: set[int] = set()
        while len(seen) < kills and agent.poll() is None:
            time.sleep(0.5)
            ranks = [pid for pid in children(agent.pid) if rank_of(pid) == str(victim)]
            if (broken / "checkpoints").is_dir() and ranks and ranks[0] not in seen:
                time.sleep(3 * torch.rand(()).item())
                os.kill(ranks[0], signal.SIGKILL)
                seen.add(ranks[0])
        assert agent.wait(timeout=300) == 0
    assert seen
    whole = command(2, "-m", "pcrnn", *train(text, unbroken, parallel, steps))
    assert subprocess.run(whole, env=environment(), capture_output=True).returncode == 0
    check_same(broken, unbroken)


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def rank_of(pid: int) -> str:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((entry[5:].decode() for entry in entries if entry.startswith(b"RANK=")), "")
