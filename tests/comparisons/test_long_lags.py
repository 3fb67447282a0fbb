"""The tasks that ask for memory, against what their definitions say, and the suite at a tiny size."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pcrnn.comparisons.gradients import split_chunk
from pcrnn.comparisons.mechanisms import long_lags
from pcrnn.comparisons.mechanisms.memory_tasks import Adding, CopyMemory
from pcrnn.comparisons.suite import Request

from pcrnn import Chunk

LADDER = long_lags.Ladder(tasks=(CopyMemory(lag=6, items=2, kinds=3),), hidden=(4, 3), updates=4, rates=(4e-2,))
TINY = long_lags.LongLagsSetup(
    ladders=(LADDER, replace(LADDER, tasks=(Adding(lag=10),), rates=(1e-2, 4e-2))),
    weighed=(CopyMemory(lag=6),),
    chunk=4,
    evaluate_every=2,
    held_out=8,
    widenings=1,
)
ONE_OF_TWO = long_lags.Ladder(tasks=(), hidden=(8,), updates=100)


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
    assert (surprise * drawn.weights(surprise.dtype)).sum().item() == pytest.approx(task.chance_nats, rel=1e-5)
    assert task.chance_nats == pytest.approx(math.log(8))
    assert task.score(expectation, drawn) == pytest.approx(task.chance, abs=0.03)
    perfect = torch.nn.functional.one_hot(drawn.targets, 10).float()
    assert task.score(perfect, drawn) == 1
    assert task.solved(1.0) and not task.solved(task.chance)
    assert task.solved(0.99) and not task.solved(0.989)


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
    pieces = split_chunk(whole, 4)
    assert [piece.targets.shape[1] for piece in pieces] == [4, 4, 2]
    for i, part in enumerate(whole):
        assert torch.equal(torch.cat([piece[i] for piece in pieces], 1), part)
    assert split_chunk(Chunk(whole.observations, whole.targets), 4)[0].mask is None


# The suite


@pytest.mark.parametrize("ladder", TINY.ladders, ids=lambda ladder: ladder.name)
def test_contenders_begin_with_the_same_weights(ladder):
    weights = []
    for rule in long_lags.chunked_rules(4).values():
        stack = long_lags.new_learner(rule, ladder.tasks[0], ladder, TINY, 1e-2, seed=3).model
        weights.append(torch.cat([p.detach().flatten() for p in stack.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_exact_traces_recall_ten_chunks_back_where_truncation_cannot():
    """One symbol of two kinds, at chunks of 4; inside a chunk both learn it."""
    setting = replace(TINY, evaluate_every=25, held_out=64)

    def solves(name: str, lag: int) -> bool:
        task, contender = CopyMemory(lag=lag, items=1, kinds=2), long_lags.chunked_rules(4)[name]
        row = long_lags.trial(contender, task, ONE_OF_TWO, setting, 8e-2, seed=0)
        assert row["curve"][-1] == (row["updates"], row["score"])
        return row["solved"]

    assert solves(long_lags.EXACT, 40) and solves(long_lags.TRUNCATED, 2)
    assert not solves(long_lags.TRUNCATED, 40)


def rows_of(learner: str, lags: dict[int, list[bool]], ladder: str = "a task") -> list[dict]:
    """A row for every lag and seed: was it solved."""
    return [
        {"ladder": ladder, "learner": learner, "lag": lag, "seed": seed, "solved": solved, "score": 0.5, "chance": 0.1}
        for lag, of_seeds in lags.items()
        for seed, solved in enumerate(of_seeds)
    ]


def test_a_lag_counts_where_every_seed_solves_it():
    rows = rows_of("one", {5: [True, True], 10: [True, False], 20: [True]}) + rows_of("other", {40: [True]})
    assert long_lags.longest_solved(rows, "a task", "one") == 5
    assert long_lags.longest_solved(rows, "a task", "other") == 40
    assert long_lags.longest_solved(rows_of("one", {5: [False, True]}), "a task", "one") is None


def climbs(learner: str, ladder: str, rates: tuple[float, ...] = (0.01, 0.02, 0.04)) -> list[dict]:
    """The rows of a search whose best rate is 0.02."""
    about = {"ladder": ladder, "learner": learner, "updates": 9}
    return [about | {"rate": rate, "solved": rate == 0.02, "nats": 1.0} for rate in rates]


def test_longest_lags_are_not_compared_where_a_search_ended_at_its_edge():
    rows = [row for name in long_lags.chunked_rules(4) for row in rows_of(name, {10: [name == long_lags.EXACT]})]
    peaks = [{"learner": "one", "lag": 1, "peak_mib": 1.0}]
    search = [row for name in long_lags.chunked_rules(4) for row in climbs(name, "a task")]
    assert "a task: at chunk 4 local" in long_lags.summary(rows, search, peaks, 4)[0]
    cut = [row for row in search if row["learner"] != long_lags.TRUNCATED]
    cut += climbs(long_lags.TRUNCATED, "a task", rates=(0.01, 0.02))
    said = "No claim: a task: the search ended at its edge for bptt, truncated (rate 0.02)."
    assert long_lags.summary(rows, cut, peaks, 4)[0] == said
    assert long_lags.summary(rows, [], peaks, 4)[0].startswith("No claim: a task: there is no search on record for")


def test_a_rate_that_diverges_early_is_no_better_than_one_that_uses_all_its_updates():
    diverged, slow = ({"solved": False, "updates": updates, "nats": nats} for updates, nats in ((5, None), (400, 2.0)))
    assert long_lags.climb_loss([slow]) < long_lags.climb_loss([diverged])


def test_the_summary_compares_the_longest_lags():
    names = [ladder.name for ladder in TINY.ladders]
    rows = rows_of(long_lags.EXACT, {2: [True], 40: [True]}, names[0])
    rows += rows_of(long_lags.TRUNCATED, {2: [True], 40: [False]}, names[0])
    rows += [row for name in long_lags.chunked_rules(4) for row in rows_of(name, {10: [False]}, names[1])]
    peaks = [{"learner": name, "lag": lag, "peak_mib": lag} for name in long_lags.chunked_rules(4) for lag in (1, 7)]
    search = [row for name in names for learner in long_lags.chunked_rules(4) for row in climbs(learner, name)]
    solved, unsolved, memory = long_lags.summary(rows, search, peaks, TINY.chunk)
    assert "solves a lag of 40, truncated BPTT of 2 (20 times), BPTT over whole sequences none" in solved
    assert "not solved" in unsolved and "local, exact 0.5000" in unsolved and "without memory 0.1000" in unsolved
    assert memory.startswith("Peak memory at a lag of 7") and "bptt, whole 7 MiB" in memory


def test_a_climb_ends_when_lags_in_a_row_are_not_solved(monkeypatch):
    monkeypatch.setattr(long_lags, "trial", lambda c, task, *_: {"lag": task.lag, "solved": task.lag not in (6, 8, 9)})
    tasks = tuple(CopyMemory(lag=lag) for lag in (5, 6, 7, 8, 9, 10))
    contender = long_lags.chunked_rules(4)[long_lags.EXACT]

    def climbed(*, known: dict, misses: int) -> list[dict]:
        return list(long_lags.climb(tasks, contender, LADDER, TINY, 1e-2, 0, known, misses))

    assert [row["lag"] for row in climbed(known={}, misses=2)] == [5, 6, 7, 8, 9]
    assert [row["lag"] for row in climbed(known={}, misses=1)] == [5, 6]
    known = {5: {"lag": 5, "solved": False}}
    assert climbed(known=known, misses=1) == [known[5]]


@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        ({0.1: [(True, 50, 0.0), (False, 99, 2.0)], 0.2: [(False, 99, 1.0)]}, 0.1),  # more lags
        ({0.1: [(True, 75, 0.0), (False, 99, 0.1)], 0.2: [(True, 50, 0.5), (False, 99, 2.0)]}, 0.2),  # fewer updates
        ({0.1: [(False, 99, 2.0)], 0.2: [(False, 99, 1.9)]}, 0.2),  # less surprise
    ],
)
def test_the_rate_that_climbs_best_is_chosen(monkeypatch, outcomes, best):
    def trial(rule, task, ladder, setup, rate, seed):
        return dict(zip(("solved", "updates", "nats"), outcomes[rate][task.lag], strict=True))

    monkeypatch.setattr(long_lags, "trial", trial)
    ladder = replace(LADDER, tasks=(CopyMemory(lag=0), CopyMemory(lag=1))[: len(outcomes[0.1])], rates=tuple(outcomes))
    setup = replace(TINY, widenings=0)
    rate, tried = long_lags.chosen_rate(long_lags.chunked_rules(4)[long_lags.EXACT], ladder, setup)
    assert rate == best
    assert len(tried) == sum(map(len, outcomes.values()))


def test_the_peak_is_measured_in_a_process_of_its_own():
    setting = replace(TINY, ladders=(replace(LADDER, hidden=(64,)),))
    whole = long_lags.chunked_rules(4)[long_lags.WHOLE]
    assert 1 < long_lags.peak_in_fresh_process(whole, CopyMemory(lag=500), setting) < 500


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(long_lags, "QUICK", TINY)
    monkeypatch.setattr(long_lags, "peak_in_fresh_process", lambda *_: 1.5)
    paths = long_lags.run(Request(quick=True, seeds=2, out=tmp_path))
    assert {path.name for path in paths} >= {"long_lags.json", "long_lags.md", "long_lags.png"}
    found = json.loads((tmp_path / "long_lags.json").read_text())
    assert len(found["rows"]) == 4 * 2 * 2  # contenders, ladders, seeds
    assert len(found["search"]) == 4 * (1 + 3)  # contenders; rates of both ladders, and one beyond the second's edge
    assert len(found["peaks"]) == 4
    assert {row["chance"] for row in found["rows"]} == {1 / 3, 1 / 6}
    assert all(row["updates"] <= 4 for row in found["rows"])
    assert len(found["summary"]) == 3
