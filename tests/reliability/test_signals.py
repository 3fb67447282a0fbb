"""Ctrl-C and SIGTERM leave a run that can be resumed; the second one ends the process at once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcrnn.cli.main import main
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import read_metrics

pytestmark = pytest.mark.row(7)
LONG = ["--hidden", "8", "8", "--chunk", "8", "--batch", "2", "--steps", "100000", "--log-every", "1"]


def started(text: Path, out: Path, updates: int) -> "subprocess.Popen[str]":
    """A run in a process of its own, once it has made so many updates."""
    command = [sys.executable, "-m", "pcrnn", "train", *LONG, "--data", str(text), "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    while updates:
        updates -= process.stdout.readline().startswith("update")
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_at_a_random_update_leaves_a_checkpoint_to_resume_from(text, tmp_path, number, code, counts, injected):
    chance = random.Random(int(number))
    for case in range(counts.signals):
        out = tmp_path / f"run-{case}"
        process = started(text, out, chance.randint(1, 50))
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(number)
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == code
        assert f"pcrnn train --resume {out}" in printed
        assert "Traceback" not in errors
        done = read_metrics(RunFolder(out))[-1]["step"]
        assert (out / "checkpoints" / f"step_{done:.0f}").is_dir()
        assert main(["train", "--resume", str(out), "--steps", str(done + 2), "--no-plots"]) == 0
        assert read_metrics(RunFolder(out))[-1]["step"] == done + 2
    injected(counts.signals)


def test_a_second_signal_does_not_wait_for_the_update():
    script = (
        "import os, signal; from pcrnn.cli.train import _stop_signals\n"
        "with _stop_signals() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(stop.signal, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('still here')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "15\n")


def test_handlers_are_put_back_after_training(text, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    tiny = ["--hidden", "4", "--chunk", "8", "--batch", "2", "--steps", "1", "--no-plots"]
    assert main(["train", *tiny, "--data", str(text), "--out", str(tmp_path / "run")]) == 0
    assert signal.getsignal(signal.SIGINT) is before
