"""The running standardisation: that of `pcrnn.Online`; against the definition, written out; what is missing or far."""

import math

import numpy as np
import pytest
from pcrnn.comparisons.streams.scaled import differences, places, running_scale

from pcrnn import Online

GAP = math.nan


def series(seed: int, steps: int) -> np.ndarray:
    """One channel, of which no value is far out; [T]."""
    return 50 + 3 * np.random.default_rng(seed).uniform(-1, 1, steps)


def by_definition(values: np.ndarray) -> np.ndarray:
    """Each value of one channel in the deviation of all that were before it, computed anew; nothing far out.

    Of the second value all that is known of the scale is a thousandth of the first.
    """
    scaled = [0.0, (values[1] - values[0]) / (1e-3 * abs(values[0]))]
    for step in range(2, len(values)):
        before = values[:step]
        scaled.append((values[step] - before.mean()) / before.std())
    return np.array(scaled)


def test_values_are_in_deviations_of_those_before_them():
    values = np.stack([series(0, 200), -0.01 * series(1, 200)], 1)
    expected = np.stack([by_definition(channel) for channel in values.T], 1)
    assert np.abs(expected[2:]).max() < 16
    np.testing.assert_allclose(running_scale(values), expected, rtol=1e-8)


def test_everybody_reads_the_numbers_that_online_makes():
    """A row of `Online` ends with what 0 stood for and the deviation by which it standardised, before the tail."""
    values = np.stack([np.random.default_rng(4).normal(5, 2, 120), np.repeat(3.0, 120)], 1)
    values[7, 0], values[60:, 1], values[30, 1] = GAP, 40.0, GAP
    rows = Online(channels=2, hidden=(3,), compiled=False).learn_many(values).rows
    centre, deviation = rows[:, -7:-5], rows[:, -5:-3]
    scaled = running_scale(differences(values))
    known = ~np.isnan(scaled)
    assert scaled[1].tolist() == [0, 0] and not known[0].any()  # before the first move there is no mean
    known[1] = False
    np.testing.assert_allclose(scaled[known], ((values - centre) / deviation)[known], rtol=1e-6, atol=1e-9)


def test_a_place_is_at_most_four_deviations_out_and_stays_where_a_value_is_missing():
    z = np.array([[0.5, GAP], [9.0, GAP], [GAP, -7.0]])
    assert places(z).tolist() == [[0.5, 0], [4, 0], [4, -4]]


def test_nothing_is_known_at_first():
    assert running_scale(np.array([[1e9, -3.0]])).tolist() == [[0, 0]]


@pytest.mark.parametrize(("constant", "unit"), [(45.0, 0.045), (-2.0, 0.002), (0.0, 1.0)])
def test_a_channel_that_was_constant_has_a_thousandth_of_it_as_deviation(constant, unit):
    scaled = running_scale(np.array([[constant]] * 5 + [[constant + 3 * unit]]))
    assert scaled[:5].ravel().tolist() == [0] * 5
    assert scaled[5, 0] == pytest.approx(3)


def test_what_is_missing_stays_so_and_changes_nothing():
    values = np.random.default_rng(1).normal(size=50)
    with_gaps = np.insert(values, [0, 7, 7, 30], GAP)
    scaled = running_scale(with_gaps[:, None])[:, 0]
    assert np.isnan(scaled[[0, 8, 9, 33]]).all()
    np.testing.assert_array_equal(scaled[~np.isnan(with_gaps)], running_scale(values[:, None])[:, 0])


def test_a_value_far_out_counts_as_16_deviations_in_what_follows():
    before = np.concatenate([[48, 52], series(2, 98)])
    mean, deviation = before.mean(), before.std()
    far, near = (np.append(before, [mean + size * deviation, 49]) for size in (1e5, 16))
    scaled_far, scaled_near = (running_scale(values[:, None])[:, 0] for values in (far, near))
    assert scaled_far[100] == pytest.approx(1e5)
    assert scaled_near[100] == pytest.approx(16)
    assert scaled_far[101] == pytest.approx(scaled_near[101])


def test_nothing_looks_ahead():
    values = np.random.default_rng(3).normal(size=(60, 1))
    changed = values.copy()
    changed[40:] = 100.0
    np.testing.assert_array_equal(running_scale(values)[:40], running_scale(changed)[:40])


@pytest.mark.parametrize(
    ("values", "got"), [(np.zeros(5), r"got \[5\], 0 of them"), (np.full((2, 1), np.inf), r"got \[2, 1\], 2 of them")]
)
def test_what_is_no_series_is_refused(values, got):
    with pytest.raises(ValueError, match=rf"expected finite values or NaN, \[T, D\], {got} infinite"):
        running_scale(values)
