"""A running variance against the recursion that states it: however a sequence is cut, pooled or laid out in lanes."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pcrnn.nn.running_variance import DRIFT, OUTLIER, PRIOR, ErrorNorm, PooledVariances, RunningVariance

SIZE = 3
TOLERANCE = dict(rtol=1e-12, atol=0)
MASKS = ("none", "steps", "values")

seeds, lengths, batches = st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 4)
half_lives = st.one_of(st.floats(2, 1e6), st.just(math.inf))
masks = st.sampled_from(MASKS)


@pytest.fixture(autouse=True, scope="module")
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def drawn(seed: int, batch: int, steps: int, mask: str = "none") -> tuple[torch.Tensor, torch.Tensor | None]:
    """Errors [B, T, D] of other deviations a channel, none an outlier, and where they count; NaN where not."""
    generator = torch.Generator().manual_seed(seed)
    error = torch.randn(batch, steps, SIZE, generator=generator).clamp(-3, 3) * torch.tensor([0.8, 1.0, 2.0])
    if mask == "none":
        return error, None
    counted = torch.rand(batch, steps, SIZE if mask == "values" else 1, generator=generator) < 0.6
    return error.masked_fill(~counted, math.nan), counted


def taken_in(error, counted, half_life, cuts=()) -> RunningVariance:
    """A new running variance after the pieces of a sequence that is cut before these steps."""
    running, ends = RunningVariance(SIZE, half_life), sorted({*cuts, error.shape[1]} - {0})
    for start, end in zip([0, *ends], ends, strict=False):
        running.update(error[:, start:end], None if counted is None else counted[:, start:end])
    return running


def by_the_formula(error, counted, half_life) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance and weight of every channel, by a loop over steps and lanes."""
    known = torch.ones_like(error, dtype=torch.bool) if counted is None else counted.expand_as(error)
    decay, variance, weight = 2 ** (-1 / half_life), [1.0] * SIZE, [PRIOR] * SIZE
    for channel in range(SIZE):
        for t in range(error.shape[1]):
            squares = [error[b, t, channel].item() ** 2 for b in range(len(error)) if known[b, t, channel]]
            kept = decay * weight[channel]
            weight[channel] = kept + len(squares)
            variance[channel] = (kept * variance[channel] + sum(squares)) / weight[channel]
    return torch.tensor(variance), torch.tensor(weight)


def assert_same(mine: RunningVariance, theirs: RunningVariance) -> None:
    torch.testing.assert_close(mine.variance, theirs.variance, **TOLERANCE)
    torch.testing.assert_close(mine.weight, theirs.weight, **TOLERANCE)


@given(seeds, batches, lengths, half_lives, masks)
@settings(max_examples=30, deadline=None)
def test_a_chunk_is_the_recursion_over_its_steps(seed, batch, steps, half_life, mask):
    error, counted = drawn(seed, batch, steps, mask)
    if counted is not None:
        half_life = max(half_life, steps)  # as long as a gap is no longer than that, nothing of the past is held back
    running = taken_in(error, counted, half_life)
    variance, weight = by_the_formula(error, counted, half_life)
    torch.testing.assert_close(running.variance, variance, **TOLERANCE)
    torch.testing.assert_close(running.weight, weight, **TOLERANCE)


@given(seeds, batches, lengths, half_lives, masks, st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=40, deadline=None)
def test_it_is_equal_however_a_sequence_is_cut(seed, batch, steps, half_life, mask, cuts):
    error, counted = drawn(seed, batch, steps, mask)
    if counted is not None:
        half_life = max(half_life, steps)
    whole = taken_in(error, counted, half_life)
    assert_same(taken_in(error, counted, half_life, [cut for cut in cuts if cut < steps]), whole)
    assert_same(taken_in(error, counted, half_life, range(steps)), whole)


@pytest.mark.parametrize("half_life", [2.0, 16.0, 512.0])
def test_a_chunk_of_many_half_lives_forgets_the_past_as_single_steps_do(half_life):
    error, _ = drawn(0, 1, 4000)
    assert_same(taken_in(error, None, half_life), taken_in(error, None, half_life, range(4000)))


@given(seeds, st.integers(2, 7), lengths, half_lives, masks)
@settings(max_examples=30, deadline=None)
def test_lanes_that_are_alike_count_each(seed, batch, steps, half_life, mask):
    """The variance of B of them is that of one, but for the prior, which counts once; their weight is B times one's."""
    error, counted = drawn(seed, 1, steps, mask)
    if counted is not None:
        half_life = max(half_life, steps)
    one = taken_in(error, counted, half_life)
    many = taken_in(error.expand(batch, -1, -1), None if counted is None else counted.expand(batch, -1, -1), half_life)
    of_prior = PRIOR * 2 ** (-steps / half_life)
    torch.testing.assert_close(many.weight - of_prior, batch * (one.weight - of_prior), rtol=1e-12, atol=1e-12)
    sums = [part.weight * part.variance - of_prior for part in (one, many)]
    torch.testing.assert_close(sums[1], batch * sums[0], rtol=1e-11, atol=1e-11)


@given(seeds, batches, lengths, masks)
@settings(max_examples=40, deadline=None)
def test_without_a_half_life_all_steps_weigh_alike(seed, batch, steps, mask):
    error, counted = drawn(seed, batch, steps, mask)
    running = taken_in(error, counted, math.inf, range(0, steps, 7))
    known = ~error.isnan()
    wanted = (PRIOR + error.nan_to_num().square().sum((0, 1))) / (PRIOR + known.sum((0, 1)))
    torch.testing.assert_close(running.variance, wanted, **TOLERANCE)
    torch.testing.assert_close(running.weight, PRIOR + known.sum((0, 1)).double(), **TOLERANCE)


def test_the_weight_of_a_step_halves_every_half_life():
    error = torch.zeros(1, 1, SIZE)
    once = taken_in(error, None, 8.0)
    running = copy.deepcopy(once)
    running.update(torch.zeros(1, 8, SIZE))
    rest = sum(2 ** (-age / 8) for age in range(8))
    torch.testing.assert_close(running.weight, once.weight / 2 + rest, **TOLERANCE)


def test_none_never_moves():
    running = RunningVariance(SIZE, None)
    running.update(torch.full((2, 9, SIZE), 7.0))
    running.move(torch.full((SIZE,), 7.0), torch.ones(SIZE), 3)
    assert running.variance.tolist() == [1] * SIZE and running.weight.tolist() == [PRIOR] * SIZE


@pytest.mark.parametrize("half_life", [0.0, -1.0, math.nan])
def test_a_half_life_that_is_none_is_refused(half_life):
    with pytest.raises(ValueError, match=f"half_life: expected a number of steps above 0, or None, got {half_life}"):
        RunningVariance(SIZE, half_life)


@pytest.mark.parametrize("half_life", [math.inf, 512.0])
def test_ten_errors_of_zero_are_not_believed_to_be_all_there_is(half_life):
    running = taken_in(torch.zeros(1, 10, SIZE), None, half_life)
    least = PRIOR / (PRIOR + sum(2 ** (step / half_life) for step in range(1, 11)))
    assert (running.variance >= least * (1 - 1e-12)).all()
    assert least == PRIOR / (PRIOR + 10) if half_life == math.inf else least > 0.99 * PRIOR / (PRIOR + 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e3, -1e10, 1e19, -1e30, math.inf])
def test_an_outlier_moves_it_by_no_more_than_16_deviations_would(dtype, size):
    error, _ = drawn(0, 2, 20)
    running = taken_in(error, None, 512.0).to(dtype)
    bounded, before = copy.deepcopy(running), running.variance.clone()
    error = error.to(dtype)
    error[1, 7, 2] = size
    running.update(error)
    error[1, 7, 2] = math.copysign(OUTLIER * before[2].sqrt(), size)
    bounded.update(error)
    torch.testing.assert_close(running.variance, bounded.variance, rtol=1e-6, atol=0)
    running = taken_in(error.double(), None, 512.0).to(dtype)
    weight, before = running.weight * 2 ** (-1 / 512), running.variance.clone()
    running.update(torch.full((1, 1, SIZE), size, dtype=dtype))
    most = (weight + OUTLIER**2) / (weight + 1)
    assert (running.variance <= 1.00001 * most * before).all()


def test_a_scale_that_has_changed_is_reached():
    """The bound is in running deviations, so it rises with them: 1e6 times the deviation within few chunks."""
    running, generator = RunningVariance(1, 512.0), torch.Generator().manual_seed(0)
    for _ in range(40):
        running.update(1e6 * torch.randn(4, 128, 1, generator=generator))
    assert running.variance.item() == pytest.approx(1e12, rel=0.1)


@pytest.mark.parametrize("half_life", [3.0, 512.0])
@pytest.mark.parametrize("steps", [1, 100, 20_000, 10**9])
def test_a_gap_of_any_length_leaves_a_weight_that_one_error_does_not_outweigh(half_life, steps):
    running = taken_in(drawn(0, 2, 400)[0], None, half_life)
    before = running.variance.clone()
    if steps <= 20_000:
        running.update(torch.full((1, steps, SIZE), math.nan), torch.zeros(1, steps, 1, dtype=torch.bool))
    else:  # move alone knows of no steps
        running.move(torch.zeros(SIZE), torch.zeros(SIZE), steps)
    torch.testing.assert_close(running.variance, before, **TOLERANCE)
    assert (running.weight >= PRIOR / 2).all()
    running.update(torch.zeros(1, 1, SIZE))
    assert (running.variance > 0.55 * before).all()


@pytest.mark.parametrize("half_life", [3.0, 512.0])
def test_neither_does_one_error_at_the_end_of_a_chunk_that_is_a_gap(half_life):
    running = taken_in(drawn(0, 2, 400)[0], None, half_life)
    before, counted = running.variance.clone(), torch.zeros(1, 20_000, 1, dtype=torch.bool)
    counted[:, -1] = True
    running.update(torch.zeros(1, 20_000, SIZE), counted)
    assert (running.weight >= PRIOR / 2).all()
    assert (running.variance >= 0.5 * before * (1 - 1e-12)).all()


@given(seeds, batches, lengths, half_lives, masks)
@settings(max_examples=30, deadline=None)
def test_pooled_is_not_pooled_and_two_halves_are_the_whole(seed, batch, steps, half_life, mask):
    error, counted = drawn(seed, 2 * batch, steps, mask)
    one = RunningVariance(SIZE, half_life)
    model, halves = nn.ModuleList([copy.deepcopy(one)]), [nn.ModuleList([copy.deepcopy(one)]) for _ in range(2)]
    one.update(error, counted)
    pooled = PooledVariances(model)
    with pooled.held():
        model[0].update(error, counted)
        assert model[0].variance.tolist() == [1] * SIZE
    pooled.move()
    assert_same(model[0], one)
    pools = [PooledVariances(half) for half in halves]
    for pool, half, lanes in zip(pools, halves, (slice(batch), slice(batch, None)), strict=True):
        with pool.held():
            half[0].update(error[lanes], None if counted is None else counted[lanes])
    total = pools[0].pool + pools[1].pool
    for pool, half in zip(pools, halves, strict=True):
        pool.pool.copy_(total)
        pool.move()
        assert_same(half[0], one)


def test_an_outlier_counts_as_little_in_a_pool():
    """Each with its own bound and its own floor."""
    parts = [RunningVariance(SIZE), RunningVariance(SIZE, floor=0.5), ErrorNorm(True, 64.0, limit=3.0)]
    for part in parts:
        part.variance.fill_(1e-3)
    alone, model = copy.deepcopy(parts), nn.ModuleList(parts)
    pooled, error = PooledVariances(model), torch.full((2, 4, SIZE), 100.0)
    with pooled.held():
        for part, other in zip(model, alone, strict=True):
            torch.testing.assert_close(part.believed, other.believed, rtol=0, atol=0)
            size = len(part.variance)
            part.update(error[..., :size])
            other.update(error[..., :size])
    pooled.move()
    for part, other in zip(model, alone, strict=True):
        assert_same(part, other)


def test_a_model_without_running_variances_has_none_to_move():
    pooled = PooledVariances(nn.Linear(2, 2))
    with pooled.held():
        pass
    pooled.move()


def test_where_a_chunk_is_unsound_nothing_moves():
    model = nn.ModuleList([RunningVariance(SIZE)])
    pooled = PooledVariances(model)
    with pooled.held():
        model[0].update(torch.full((1, 4, SIZE), 3.0))
    pooled.move(torch.tensor(1))
    assert model[0].variance.tolist() == [1] * SIZE and model[0].weight.tolist() == [PRIOR] * SIZE


def test_errors_of_more_than_three_dimensions_count_each_number():
    """As those of `ErrorNorm`, which have the channels as one of them."""
    error = drawn(0, 2, 9)[0]
    norm = ErrorNorm(True, math.inf)
    norm.adapt(error)
    variance = (PRIOR + error.square().sum()) / (PRIOR + error.numel())
    torch.testing.assert_close(norm.value, variance.rsqrt().view(1), **TOLERANCE)


def test_the_unit_hardly_moves_while_the_scale_stays():
    """A gain that fluctuates is noise in every input: ten times the spread of errors of one lane hardly shows."""
    norm, generator = ErrorNorm(True, 64.0), torch.Generator().manual_seed(0)
    sizes = torch.rand(4000, generator=generator)
    units = []
    for size in sizes:
        norm.adapt(size * torch.randn(1, 1, 1, generator=generator))
        units.append(norm.value)
    later = torch.cat(units[2000:])
    assert later.std() < 0.02 * later.mean()


@pytest.mark.parametrize("factor", [1e-4, 1e6])
@pytest.mark.parametrize("chunk", [1, 16])
def test_the_unit_follows_when_the_scale_has_changed(factor, chunk):
    """It stays within a factor sqrt(DRIFT) of the deviation of the last few half-lives."""
    norm, generator = ErrorNorm(True, 64.0), torch.Generator().manual_seed(0)
    for scale, steps in ((1.0, 512), (factor, 2048), (1.0, 4096)):
        for error in (scale * torch.randn(2, steps, 3, generator=generator)).split(chunk, 1):
            norm.adapt(error)
        assert 1 / math.sqrt(DRIFT) < 1.1 * norm.value * scale < 1.21 * math.sqrt(DRIFT)


def test_a_unit_that_is_off_is_1():
    norm = ErrorNorm(False)
    norm.adapt(torch.full((2, 9, 3), 7.0))
    assert norm.value == 1
