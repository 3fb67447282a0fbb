"""Ctrl-C and SIGTERM leave a run that can be resumed; the second one ends the process at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pcrnn.cli import main
from pcrnn.run import RunFolder, read_metrics

LONG = ["--hidden", "8", "8", "--chunk", "8", "--batch", "2", "--steps", "100000", "--log-every", "1"]


def started(text: Path, out: Path) -> "subprocess.Popen[str]":
    """A run in a process of its own, once it has made updates."""
    command = [sys.executable, "-m", "pcrnn", "train", *LONG, "--data", str(text), "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("update"):
        assert process.poll() is None
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_to_resume_from(text, tmp_path, number, code):
    out = tmp_path / "run"
    process = started(text, out)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"pcrnn train --resume {out}" in printed
    assert "Traceback" not in errors
    done = read_metrics(RunFolder(out))[-1]["step"]
    assert (out / "checkpoints" / f"step_{done:.0f}").is_dir()
    assert main(["train", "--resume", str(out), "--steps", str(done + 2), "--no-plots"]) == 0
    assert read_metrics(RunFolder(out))[-1]["step"] == done + 2


def test_a_second_signal_does_not_wait_for_the_update():
    script = (
        "import os, signal; from pcrnn.cli import _stop_signals\n"
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
