"""Means over windows: each from its own steps alone, whatever stands beside it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcrnn.plots.passage import averaged
from pcrnn.windows import trailing_means, window_means

ANY_SIZE = st.floats(min_value=1e3, allow_infinity=True, allow_nan=False) | st.just(np.nan)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 100, 500])
def test_a_trailing_mean_is_the_mean_of_the_last_steps(window):
    series = np.random.default_rng(0).standard_normal((2, 100))
    wanted = [series[:, max(0, end - window) : end].mean(1) for end in range(1, 101)]
    np.testing.assert_allclose(trailing_means(series, window), np.stack(wanted, 1), rtol=1e-13, atol=1e-15)


@given(st.integers(0, 299), ANY_SIZE, st.integers(1, 80))
@settings(deadline=None, max_examples=60)
def test_an_outlier_of_any_size_changes_no_window_without_it(place, outlier, window):
    series = np.random.default_rng(1).standard_normal(300)
    spoilt = series.copy()
    spoilt[place] = outlier
    without = np.ones(300, bool)
    without[place : place + window] = False
    assert np.array_equal(trailing_means(spoilt, window)[without], trailing_means(series, window)[without])
    changed = np.count_nonzero(averaged(series, window) != averaged(spoilt, window))
    assert changed <= -(-window // max(1, window // 8)), "columns of a picture, each a mean of `window` steps"


def test_a_small_value_beside_a_huge_one_keeps_its_digits():
    series = np.full(1000, 0.1)
    series[10] = 1e300
    assert trailing_means(series, 8)[-1] == pytest.approx(0.1, rel=1e-15)


def test_no_window_is_empty():
    with pytest.raises(ValueError, match="expected windows of at least 1 step, got one of 0"):
        window_means(np.ones(3), np.array([1]), np.array([1]))
