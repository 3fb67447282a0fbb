"""Row 1, of a stream: `pcrnn watch` killed at any moment goes on from what it saved, bit for bit."""

import random
import signal
import time

import pytest

from pcrnn.cli.main import main
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.streaming.online import Online
from tests.reliability.conftest import program

pytestmark = pytest.mark.row(1)
ROWS, KILLS, EVERY = 100, 6, 5
FLAGS = ("--hidden", 4, "--engine", "general")  # without Numba to load a child is learning at once


def test_killed_at_random_times_a_stream_loses_nothing_that_was_saved(tmp_path, child, injected):
    """In the end the table is that of a stream which nobody killed: no row is missing, none is there twice."""
    chance, kills, in_mid_write, done = random.Random(0), 0, 0, 0
    path, state, out = tmp_path / "s.csv", tmp_path / "state", tmp_path / "out"
    command = ("watch", path, *FLAGS, "--save-every", EVERY, "--state", state, "--out", out)
    path.write_text("a,b\n" + "".join(f"{n % 7},{n * n % 11}.5\n" for n in range(ROWS)))
    while kills < KILLS and done < ROWS:
        process = child(program, None, *command)
        wait_for(process, lambda done=done: checkpoints.steps(state)[:1] > [done])
        if kills % 2:
            wait_for(process, lambda: is_being_saved(state))
            time.sleep(chance.expovariate(1 / 0.002))
        else:
            time.sleep(chance.expovariate(1 / 0.03))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "child.log").read_text()
        kills += process.exitcode == -signal.SIGKILL
        in_mid_write += is_being_saved(state)
        loaded = Online.load(state)
        assert loaded.seen >= done and (loaded.seen % EVERY == 0 or loaded.seen == ROWS)
        done = loaded.seen
    assert in_mid_write, "no kill came while the stream was saved: this test has lost its point"
    assert main([str(part) for part in command]) == 0
    assert main([str(part) for part in ("watch", path, *FLAGS, "--out", tmp_path / "unbroken")]) == 0
    assert out.read_bytes() == (tmp_path / "unbroken").read_bytes()
    assert len(out.read_bytes().splitlines()) == ROWS + 1
    injected(kills)


def wait_for(process, condition) -> None:
    """Until a condition holds, or the process has ended."""
    while process.is_alive() and not condition():
        time.sleep(0.002)


def is_being_saved(state) -> bool:
    """Whether a checkpoint is half written."""
    return any(".tmp-" in found.name for found in state.iterdir())
