"""The learning rate of a run that goes on: as if it had never stopped, or what a line says instead."""

import math

import pytest

from pcrnn.errors import CheckpointError
from pcrnn.runs.metrics import read_metrics
from pcrnn.training.optimiser import Annealing, annealing_of_resumed, learning_rate
from pcrnn.training.train import Callback, train
from tests.reliability.tiny import StopAt, config

LR, FLOOR = 3e-3, 3e-3 * 0.05


class Listening(Callback):
    """Keeps what a person would be told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def rates(folder) -> list[float]:
    return [row["learning_rate"] for row in read_metrics(folder)]


def cosine(step: int, steps: int, warmup: int, lr: float = LR) -> float:
    """Update `step` = 0, 1, ... of so many, written out."""
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * (0.05 + 0.95 / 2 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


@pytest.fixture
def settings(text):
    often = {"steps": 10, "warmup": 3, "log_every": 1, "evaluate_every": 0}
    return lambda **changes: config(text, "top-chunk", **often | changes)


def resumed(settings, folder, **changes) -> list[str]:
    callback = Listening()
    train(settings(**changes), folder, resume=True, callback=callback)
    return callback.said


def test_an_interrupted_run_has_the_rates_of_the_unbroken_one_and_is_told_nothing(settings, tmp_path):
    train(settings(), tmp_path, callback=StopAt(6))
    assert resumed(settings, tmp_path) == []
    assert rates(train(settings(), tmp_path, resume=True).folder) == [cosine(step, 10, 3) for step in range(10)]


def test_a_longer_run_stays_at_the_rate_that_it_ended_with_however_often_it_is_resumed(settings, tmp_path):
    folder = train(settings(), tmp_path).folder
    (said,) = resumed(settings, tmp_path, steps=14)
    assert said.startswith("steps: the learning rate stays at 0.00015 after update 10, where its schedule ends")
    resumed(settings, tmp_path, steps=16)
    expected = [cosine(step, 10, 3) for step in range(10)] + [FLOOR] * 6
    assert rates(folder) == pytest.approx(expected, rel=1e-12)


def test_a_run_made_longer_while_it_is_interrupted_ends_its_schedule_first(settings, tmp_path):
    folder = train(settings(), tmp_path, callback=StopAt(4)).folder
    resumed(settings, tmp_path, steps=14)
    assert rates(folder) == pytest.approx([cosine(min(step, 10), 10, 3) for step in range(14)], rel=1e-12)


def test_a_longer_run_with_another_rate_is_annealed_anew_and_can_be_interrupted(settings, tmp_path):
    folder = train(settings(), tmp_path).folder
    callback = Listening()
    train(settings(steps=20, lr=1e-3), tmp_path, resume=True, callback=callback)
    assert callback.said == [
        "lr: 0.003 up to update 10, 0.001 after it",
        "steps: the learning rate is annealed anew, with its warm-up, over updates 11 to 20",
    ]
    expected = [cosine(step, 10, 3) for step in range(10)] + [cosine(step, 10, 3, 1e-3) for step in range(10)]
    assert rates(folder) == pytest.approx(expected, rel=1e-12)


def test_the_new_annealing_is_kept_in_the_checkpoint(settings, tmp_path):
    folder = train(settings(), tmp_path).folder
    train(settings(steps=20, lr=1e-3), tmp_path, resume=True, callback=StopAt(5))
    assert resumed(settings, tmp_path, steps=20, lr=1e-3) == []
    assert rates(folder)[10:] == pytest.approx([cosine(step, 10, 3, 1e-3) for step in range(10)], rel=1e-12)


def test_another_rate_within_the_schedule_has_its_shape(settings, tmp_path):
    folder = train(settings(), tmp_path, callback=StopAt(5)).folder
    assert resumed(settings, tmp_path, lr=1e-3) == ["lr: 0.003 up to update 5, 0.001 after it"]
    assert rates(folder)[5:] == pytest.approx([cosine(step, 10, 3, 1e-3) for step in range(5, 10)], rel=1e-12)


def test_a_shorter_run_ends_within_its_schedule(settings, tmp_path):
    folder = train(settings(), tmp_path, callback=StopAt(5)).folder
    rate = cosine(6, 10, 3)
    assert resumed(settings, tmp_path, steps=7) == [
        f"steps: the run ends at update 7 with a learning rate of {rate:.3g}, within its schedule of 10 updates"
    ]
    assert rates(folder) == pytest.approx([cosine(step, 10, 3) for step in range(7)], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("clip", 0.5, "clip: 1.0 up to update 5, 0.5 after it"),
        ("weight_decay", 0.0, "weight_decay: 0.01 up to update 5, 0.0 after it"),
        ("betas", (0.5, 0.9), "betas: 0.9 0.99 up to update 5, 0.5 0.9 after it"),
        ("warmup", 2, "warmup: 3 up to update 5, 2 after it"),
        ("dropout", 0.5, "dropout: 0.0 up to update 5, 0.5 after it"),
    ],
)
def test_a_setting_that_weights_depend_on_is_told(settings, tmp_path, name, value, said):
    train(settings(), tmp_path, callback=StopAt(5))
    assert resumed(settings, tmp_path, **{name: value}) == [said]


@pytest.mark.parametrize("change", [{"log_every": 3}, {"checkpoint_every": 2}, {"keep_last": 1}, {"evaluate_every": 5}])
def test_a_setting_that_no_weight_depends_on_is_not(settings, tmp_path, change):
    train(settings(), tmp_path, callback=StopAt(5))
    assert resumed(settings, tmp_path, **change) == []


@pytest.mark.parametrize("change", [{"batch": 3}, {"chunk": 9}, {"seed": 1}])
def test_what_decides_the_place_in_the_data_may_not_change(settings, tmp_path, change):
    train(settings(), tmp_path, callback=StopAt(5))
    with pytest.raises(CheckpointError, match=f"{next(iter(change))}: the run has"):
        resumed(settings, tmp_path, **change)


def test_a_warm_up_longer_than_the_schedule_stays_where_it_ends(settings):
    short = settings(steps=4, warmup=8)
    assert [learning_rate(short, step, Annealing(0, 4)) for step in range(6)] == pytest.approx(
        [LR * part / 8 for part in (1, 2, 3, 4, 5, 5)]
    )


def test_a_new_rate_anneals_anew_only_past_the_end(settings):
    before = Annealing(0, 10)
    assert annealing_of_resumed(settings(steps=10), before, 5, new_rate=True) == before
    assert annealing_of_resumed(settings(steps=20), before, 12, new_rate=False) == before
    assert annealing_of_resumed(settings(steps=20), before, 12, new_rate=True) == Annealing(12, 20)
