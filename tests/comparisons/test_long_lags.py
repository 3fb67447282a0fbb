"""The tasks that ask for memory, against what their definitions say, and the suite at a tiny size."""

import json
import math
from dataclasses import replace

import pytest
import torch

from comparisons import long_lags
from comparisons.learner import cut
from comparisons.memory_tasks import Adding, CopyMemory
from comparisons.suite import Request
from pcrnn import Chunk

TINY = long_lags.Setting(
    tasks=(CopyMemory(lag=6, items=2, kinds=3), Adding(lag=10)),
    hidden=(4, 3),
    chunk=4,
    updates=4,
    judge_every=2,
    judged=8,
)


@pytest.fixture(autouse=True)
def _threads_restored():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# Tasks


@pytest.mark.parametrize("multiple", [1, 4, 16])
@pytest.mark.parametrize("lag", [1, 7, 30])
def test_copy_asks_for_what_was_heard_lag_steps_after_the_last_symbol(generator, lag, multiple):
    task = CopyMemory(lag=lag, items=3, kinds=4)
    drawn = task.draw(5, multiple, generator)
    steps = drawn.targets.shape[1]
    assert steps % multiple == 0
    assert 0 <= steps - (lag + 6) < multiple
    heard = drawn.observations
    symbols = heard[:, -lag - 6 : -lag - 3]
    assert 1 <= symbols.min() <= symbols.max() <= 4
    assert (heard == 5).sum() == 5 and (heard[:, -4] == 5).all()
    assert torch.equal(drawn.targets[:, -3:], symbols)
    assert not drawn.targets[:, :-3].any()
    assert (heard != 0).sum() == 5 * (3 + 1)


def test_guessing_a_symbol_scores_the_chance_of_copy():
    """In closed form: certain of the blanks, uniform over the kinds where a symbol is asked for."""
    task = CopyMemory(lag=20)
    drawn = task.draw(400, 1, torch.Generator().manual_seed(0))
    expectation = torch.full((400, 40, 10), -1e4)
    expectation[:, -10:, 1:9] = 0
    surprise = task.families()[1].surprise(expectation, drawn.targets)
    assert (surprise * drawn.weight).sum().item() == pytest.approx(task.chance_nats, rel=1e-5)
    assert task.chance_nats == pytest.approx(math.log(8))
    assert task.score(expectation, drawn) == pytest.approx(task.chance, abs=0.03)
    perfect = torch.nn.functional.one_hot(drawn.targets, 10).float()
    assert task.score(perfect, drawn) == 1
    assert task.solved(1.0) and not task.solved(task.chance)


def test_adding_marks_one_number_in_either_half_and_asks_for_their_sum_at_the_end(generator):
    task = Adding(lag=11)
    drawn = task.draw(6, 4, generator)
    numbers, marks = drawn.observations.unbind(-1)
    assert drawn.observations.shape == (6, 12, 2)
    assert torch.equal(marks[:, :6].sum(1), torch.ones(6))  # a blank, then a half of 5
    assert torch.equal(marks[:, 6:].sum(1), torch.ones(6))
    torch.testing.assert_close(drawn.targets[:, -1, 0], (numbers * marks).sum(1))
    assert drawn.mask is not None
    assert drawn.mask.sum() == 6 and drawn.mask[:, -1].all()


def test_always_saying_one_scores_the_chance_of_adding():
    task = Adding(lag=8)
    drawn = task.draw(20_000, 1, torch.Generator().manual_seed(0))
    assert task.score(torch.ones_like(drawn.targets), drawn) == pytest.approx(task.chance, rel=0.03)
    assert task.solved(0.001) and not task.solved(task.chance)


def test_pieces_of_a_sequence_are_the_sequence():
    whole = Adding(lag=10).draw(2, 1, torch.Generator().manual_seed(0))
    pieces = cut(whole, 4)
    assert [piece.targets.shape[1] for piece in pieces] == [4, 4, 2]
    for i, part in enumerate(whole):
        assert torch.equal(torch.cat([piece[i] for piece in pieces], 1), part)
    assert cut(Chunk(whole.observations, whole.targets), 4)[0].mask is None


# The suite


@pytest.mark.parametrize("task", TINY.tasks, ids=lambda task: task.name)
def test_contenders_begin_with_the_same_weights_and_judge_alike(task):
    weights = []
    for contender in long_lags.contenders(4).values():
        stack = long_lags.learner_of(contender, task, TINY, seed=3).stack
        weights.append(torch.cat([p.detach().flatten() for p in stack.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_local_learning_at_a_small_chunk_recalls_across_it():
    """One symbol of two kinds, three chunks ago."""
    task = CopyMemory(lag=8, items=1, kinds=2)
    setting = replace(TINY, hidden=(16, 16), updates=150, judge_every=50, judged=64, train=replace(TINY.train, lr=1e-2))
    row = long_lags.trial(long_lags.contenders(4)["local, exact"], task, setting, seed=0)
    assert row["solved"]
    assert row["curve"][-1] == (row["updates"], row["score"])


def test_the_peak_is_measured_in_a_process_of_its_own():
    setting = replace(TINY, hidden=(64,))
    whole = long_lags.contenders(4)["bptt, whole"]
    assert 1 < long_lags.peak_in_fresh_process(whole, CopyMemory(lag=500), setting) < 500


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(long_lags, "QUICK", TINY)
    monkeypatch.setattr(long_lags, "peak_in_fresh_process", lambda *_: 1.5)
    paths = long_lags.run(Request(quick=True, seeds=2, out=tmp_path))
    assert {path.name for path in paths} >= {"long_lags.json", "long_lags.md", "long_lags.png"}
    rows = json.loads((tmp_path / "long_lags.json").read_text())["rows"]
    assert len(rows) == 2 * 4 * 2  # tasks, contenders, seeds
    assert {row["chance"] for row in rows} == {1 / 3, 1 / 6}
    assert all(row["updates"] <= 4 for row in rows)
