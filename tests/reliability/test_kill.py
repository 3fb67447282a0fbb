"""Row 1: a run killed at any moment goes on from a verified checkpoint, bit for bit as if it had not been."""

import random
import signal
import time
from functools import partial
from itertools import cycle

import pytest

from pcrnn.runs.checkpoint import Checkpoint, load
from pcrnn.runs.checkpoint import load_newest as newest_of
from pcrnn.runs.folder import RunFolder
from pcrnn.training.train import TrainResult, train
from tests.reliability.tiny import config, rows, same

pytestmark = pytest.mark.row(1)
STEPS = 60


def settings(text, rule):
    return config(text, rule, steps=STEPS, checkpoint_every=1, keep_last=2)


@pytest.fixture(scope="module")
def unbroken(short_text, tmp_path_factory) -> dict[str, tuple[TrainResult, list[Checkpoint]]]:
    """A run by each rule that nobody kills, and its checkpoint after every update."""
    runs = {}
    for rule in ("bptt", "dropout-mixing"):
        folder = tmp_path_factory.mktemp("unbroken") / rule
        summary = train(config(short_text, rule, steps=STEPS, checkpoint_every=1, keep_last=STEPS), folder)
        runs[rule] = summary, [load(folder / "checkpoints" / f"step_{step}") for step in range(1, STEPS + 1)]
    return runs


def test_killed_at_random_times_it_goes_on_bit_for_bit(short_text, tmp_path, unbroken, counts, child, injected):
    """Runs are killed, resumed and killed again until they are done: while they load, write or do anything."""
    chance, kills, in_mid_write = random.Random(0), 0, 0
    for number, rule in enumerate(cycle(unbroken)):
        whole, checkpoints = unbroken[rule]
        folder, done = RunFolder(tmp_path / f"run-{number}"), 0
        while done < STEPS:
            process = child(partial(train, resume=done > 0), settings(short_text, rule), folder.path)
            moment = chance.choice(["while loading", "while writing", "at any time"])
            if moment == "while loading" and done:
                time.sleep(chance.uniform(0, 0.3))
            else:
                wait_for(folder.checkpoints, partial(is_newer, done), process)
                if moment == "while writing":
                    wait_for(folder.checkpoints, is_being_written, process)
                time.sleep(chance.expovariate(1 / 0.003 if moment == "while writing" else 1 / 0.03))
            if kills < counts.kills:
                process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "child.log").read_text()
            kills += process.exitcode == -signal.SIGKILL
            in_mid_write += any(".tmp-" in path.name for path in folder.checkpoints.iterdir())
            loaded = newest_of(folder.checkpoints)
            assert loaded.warnings == () and loaded.checkpoint.step >= done
            done = loaded.checkpoint.step
            assert same(loaded.checkpoint, checkpoints[done - 1])
        assert rows(folder) == rows(whole.folder)
        if kills >= counts.kills:
            break
    assert in_mid_write, "no kill came while a checkpoint was written: this test has lost its point"
    injected(kills)


def wait_for(folder, found, process) -> None:
    """Until there is a checkpoint folder of such a name, or the process has ended."""
    while process.is_alive() and not any(found(path.name) for path in folder.glob("step_*")):
        time.sleep(0.0005)


def is_being_written(name) -> bool:
    return ".tmp-" in name


def is_newer(step, name) -> bool:
    """Whether a checkpoint folder is whole and of a later step."""
    return "." not in name and int(name.removeprefix("step_")) > step
