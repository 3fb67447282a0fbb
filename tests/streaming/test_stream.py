"""What is carried beside the stack: the scale, the clock, the likelihood. Oracles: numpy's mean, datetime, scipy-free
closed forms, and the past alone."""

import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcrnn.data.calendar import cycles
from pcrnn.errors import UsageError
from pcrnn.streaming import clock, likelihood, scaling
from pcrnn.streaming.score import _poisson_quantile, _t_quantile
from pcrnn.streaming.stream import beyond


def scaled(values, horizon=math.inf):
    """z of every value, and the arrays after the last."""
    mean, variance, count = (np.zeros(1) for _ in range(3))
    z, deviation, found = np.zeros(1), np.zeros(1), []
    for value in values:
        x = np.array([value], float)
        scaling.standardise(x, mean, variance, count, z, deviation)
        scaling.follow(x, mean, variance, count, horizon)
        found.append((z[0], deviation[0]))
    return np.array(found), mean[0], variance[0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-2, 2).map(float), min_size=3, max_size=12))
def test_the_scale_is_mean_and_deviation_of_the_past(values):
    """Without outliers, Welford's recursion is numpy's mean and variance of the values before."""
    found, mean, variance = scaled(values)
    distinct = next((k for k, value in enumerate(values) if value != values[0]), None)
    if distinct is None:
        assert mean == values[0] and variance == 0
        return
    kept = np.array(values[distinct - 1 :])  # a constant beginning counts as one value
    np.testing.assert_allclose([mean, variance], [kept.mean(), kept.var()], rtol=1e-9, atol=1e-12)
    for t in range(distinct + 1, len(values)):
        past = np.array(values[distinct - 1 : t])
        assert found[t, 0] == pytest.approx((values[t] - past.mean()) / past.std(), rel=1e-6, abs=1e-9)


def test_the_scale_never_looks_ahead():
    values = np.random.default_rng(0).standard_normal(50)
    other = np.concatenate([values[:30], 100 * values[30:]])
    np.testing.assert_array_equal(scaled(values)[0][:30], scaled(other)[0][:30])


def test_one_outlier_does_not_throw_the_scale_and_a_new_scale_is_reached():
    noise = np.random.default_rng(0).standard_normal(2000)
    _, mean, variance = scaled([*noise, 1e12, *noise])
    assert abs(mean) < 0.1 and math.sqrt(variance) < 1.1
    _, mean, variance = scaled([*noise, *(1000 * noise)], horizon=500)
    assert math.sqrt(variance) == pytest.approx(1000, rel=0.15)


@pytest.mark.parametrize("constant", [0.0, 20.0, -1e9, 1e-9])
def test_a_constant_has_no_scale_and_what_moves_after_it_begins_one(constant):
    found, _, _ = scaled([constant] * 100 + [constant + 0.01 * abs(constant) + 1e-3])
    assert (found[:100, 0] == 0).all()
    assert 0 < found[100, 0] <= scaling.FARTHEST
    tail, _, variance = scaled([constant] * 100 + list(constant + np.random.default_rng(0).standard_normal(3000)))
    assert math.sqrt(variance) == pytest.approx(1, rel=0.1)
    assert np.abs(tail[-100:, 0]).max() < 6


def test_a_missing_value_changes_nothing():
    values = [1.0, 2.0, 4.0, 3.0]
    found, *after = scaled([1.0, math.nan, 2.0, math.nan, 4.0, 3.0])
    assert after == list(scaled(values)[1:])
    assert math.isnan(found[1, 0]) and math.isnan(found[3, 0])


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(1905, 1, 1), datetime(2199, 12, 31)))
def test_the_calendar_is_that_of_the_data(moment):
    """Oracle: `pcrnn.data.calendar`, which numpy's calendar computes."""
    features = ("hour", "weekday", "month")
    ours = np.zeros(6)
    clock.calendar(clock.to_seconds(moment), clock.number_of(features), ours)
    theirs = cycles(np.array([moment], "datetime64[us]"), features)[0]
    np.testing.assert_allclose(ours, theirs, atol=2e-6)  # theirs are float32


def test_times_of_every_kind_are_one_time():
    moment = datetime(2026, 3, 29, 12, 30)
    east = timezone(timedelta(hours=2))
    seconds = {
        clock.to_seconds(each)
        for each in (moment, moment.replace(tzinfo=east), np.datetime64(moment), 1774787400, 1774787400.0)
    }
    assert seconds == {1774787400.0}  # an offset says where the clock hangs; people follow the clock
    for wrong in ("12:30", None, math.nan, np.datetime64("NaT"), True, [moment]):
        with pytest.raises(UsageError, match="time: expected a datetime"):
            clock.to_seconds(wrong)


def test_the_next_time_is_at_the_usual_distance():
    held = np.zeros(2 + clock.DISTANCES)
    held[0] = math.nan
    assert clock.follow(100.0, held) == 100.0  # nothing is known of the distance
    for t in (110.0, 120.0, 130.0):
        clock.follow(t, held)
    assert clock.follow(1e6, held) == 1e6 + 10  # a gap is not the usual distance
    assert clock.follow(5.0, held) == 15.0  # nor is a clock that is set back
    assert clock.interval(held) == 10.0


def tails(surprises, short=10, long=8000.0, quiet=100.0):
    past = np.zeros(likelihood.numbers(short))
    return np.array([likelihood.follow(surprise, past, long, quiet) for surprise in surprises])


def test_the_tail_is_that_of_the_mean_over_the_last_steps_against_its_own_past():
    """Oracle: the definition, with numpy's mean and variance of all means before, the k-th of weight k."""
    surprises = np.random.default_rng(0).standard_normal(200)
    means = np.array([surprises[max(0, t - 9) : t + 1].mean() for t in range(200)])
    found = tails(surprises)[:, 0]
    for t in range(30, 200):
        mean = np.average(means[:t], weights=np.arange(1, t + 1))
        z = (means[t] - mean) / np.sqrt(np.average((means[:t] - mean) ** 2, weights=np.arange(1, t + 1)))
        assert found[t] == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), rel=1e-6)


def test_noise_raises_few_alarms_and_a_burst_one():
    generator = np.random.default_rng(1)
    surprises = generator.gamma(2.0, size=20_000)
    usual = tails(surprises)
    assert (usual[1000:, 0] < 1e-5).sum() <= 20  # of a gamma distribution's mean, whose tail is heavier than normal
    surprises[15_000:15_020] += 30
    found = tails(surprises)
    assert found[15_000:15_030, 0].min() < 1e-12
    strong = (found[:, 0] < 1e-12) & (found[:, 1] > 0)
    assert 1 <= strong[15_000:15_100].sum() <= 10 and strong.sum() == strong[15_000:15_100].sum()


def test_an_infinite_surprise_is_an_alarm_and_the_stream_goes_on():
    surprises = np.random.default_rng(0).standard_normal(1000)
    surprises[500] = math.inf
    found = tails(surprises)
    assert found[500, 0] < 1e-100 and np.isfinite(found).all()
    assert found[600:, 0].min() > 1e-6


def test_range():
    low, high = np.array([math.inf]), np.array([-math.inf])
    found = [beyond(np.array([x]), low, high) for x in (0.0, 10.0, 5.0, math.nan, 11.0, -9.0, 11.0)]
    assert found == pytest.approx([0, 0, 0, 0, 0.1, 9 / 11, 0])


@pytest.mark.parametrize(
    ("degrees", "share", "value"), [(1.0, 0.75, 1.0), (2.0, 0.975, 4.302653), (4.0, 0.95, 2.131847)]
)
def test_quantiles_of_student_t(degrees, share, value):
    """Closed forms (Cauchy) and printed tables."""
    assert _t_quantile(share, degrees) == pytest.approx(value, rel=1e-3)


def test_quantiles_of_poisson():
    """Against torch's own sampler, and where the sum underflows."""
    torch.manual_seed(0)
    for rate in (0.01, 1.0, 30.0, 600.0, 1000.0):
        drawn = torch.poisson(torch.full((200_000,), rate)).double()
        for share in (0.05, 0.95):
            want = (
                drawn.quantile(share).item() if rate < 500 else rate + (2 * share - 1) / 0.9 * 1.645 * math.sqrt(rate)
            )
            assert _poisson_quantile(np.array([rate]), share)[0] == pytest.approx(want, abs=max(1.01, 0.003 * rate))


def test_a_surprise_that_was_constant_for_long_is_followed_when_it_begins_to_vary():
    past = np.zeros(likelihood.numbers(1))
    for _ in range(50):
        likelihood.follow(0.0, past, 8000.0, 200.0)
    tails = [likelihood.follow(surprise, past, 8000.0, 200.0)[0] for surprise in [1.0, 2.0] * 40 + [9.0]]
    assert past[likelihood.VARIANCE] > 0 and tails[-1] < 1e-6
