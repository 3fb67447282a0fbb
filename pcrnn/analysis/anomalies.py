"""Anomalies, steps that surprise a trained stack more than nearly all that it was validated on; and regimes,
stretches whose mean surprise differs from that of their neighbours.

Shapes: T steps, L layers.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcrnn.analysis.evaluate import WARM_UP
from pcrnn.analysis.surprise import PIECE, iter_activity, overflow_in_words
from pcrnn.data import Source
from pcrnn.errors import UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.windows import trailing_means

SETTLING = 32  # first steps of a data set, never anomalies: they are surprising because the state begins at zero
FEWEST_STRETCHES = 8  # stretches of the validation split, from whose means the variance of a mean is estimated


class Regime(NamedTuple):
    """Steps from `first` to the one before `end`, and how surprising they are."""

    first: int
    end: int
    mean: float  # surprise of the top level, nats


class Anomalies(NamedTuple):
    """Where a data set surprised a stack."""

    surprise: NDArray[np.float64]  # of the top level, averaged over the last `window` steps, nats, [T]
    threshold: float  # nats
    spans: list[tuple[int, int]]  # anomalies as first step and the one after the last
    regimes: list[Regime]  # where there is more than one
    notes: tuple[str, ...] = ()  # steps whose surprise overflows, a line for the data and one for the validation split


def find_anomalies(
    stack: PredictiveStack,
    calibration: Source,
    source: Source,
    *,
    quantile: float = 0.999,
    window: int = 1,
    shortest: int = 0,
) -> Anomalies:
    """Steps of `source` more surprising than the `quantile` of the validation split of `calibration`.

    Args:
        calibration: the data of the run, whose validation split says which surprises are normal.
        window: steps over which the surprise is averaged, so that what lasts stands out from single steps.
        shortest: fewest steps of a regime; 0 looks for none.

    Anomalous steps at most `window` apart are one anomaly; the first SETTLING steps are never one. A step whose
    surprise overflows is one, with an infinite peak; in the validation split it is left out of the threshold.

    Raises UsageError for a quantile or a window that cannot be, and where no surprise of the split is finite.
    """
    if not (0 < quantile < 1 and window >= 1):
        raise UsageError(
            f"detect: expected a quantile between 0 and 1 and a window of at least 1, got {quantile} and {window}"
        )
    normal = validation_surprises(stack, calibration)
    usual = trailing_means(normal, window)
    usual = usual[np.isfinite(usual)]
    if not len(usual):
        raise UsageError(
            f"detect: expected finite surprises in the validation split of {calibration.name}, got none in "
            f"{window:,} neighbouring steps; take a smaller window, or train on data without numbers this large"
        )
    threshold = float(np.quantile(usual, quantile))
    surprise = surprises(stack, source)
    averaged = trailing_means(surprise, window)
    above = np.flatnonzero(averaged > threshold)
    stretches = regimes(surprise, normal, shortest, begin=SETTLING) if shortest else []
    notes = [
        f"{where}: {overflow_in_words(series, first)}"
        for where, series, first in (
            ("validation split, left out of the threshold", normal, calibration.split_point),
            (source.name, surprise, 0),
        )
        if not np.isfinite(series).all()
    ]
    return Anomalies(averaged, threshold, spans(above[above >= SETTLING], window), stretches, tuple(notes))


def regimes(
    surprise: NDArray[np.float64], normal: NDArray[np.float64], shortest: int, *, begin: int = 0
) -> list[Regime]:
    """Stretches of at least `shortest` steps whose mean surprise differs from their neighbours'; none if there is one.

    Binary segmentation (Scott & Knott, 1974): a stretch is cut where that lowers its squared deviations most,
    n m / (n + m) times the squared difference of the means of n steps before and m after; then each cut is refined
    between its neighbours (Bai, 1997), because a first cut may have two changes on one side. A cut is kept if it saves
    more than 4 log T times the variance of one step, so that T steps that resemble the validation split are cut with a
    probability of about 1 / T. The variance is that of means of `shortest` steps, times `shortest`, over the validation
    split, because the surprises of neighbouring steps are correlated. Surprises above the split's 0.99 quantile are
    clipped there, so that single anomalies make no regime; the mean of a regime is that of its finite ones.

    Args:
        surprise: of every step, [T].
        normal: surprise of every step of the validation split.
        begin: steps at the front that are in no regime.

    Raises UsageError where the validation split has fewer than FEWEST_STRETCHES times `shortest` steps.
    """
    stretches = len(normal) // max(shortest, 1)
    if shortest < 1 or stretches < FEWEST_STRETCHES:
        raise UsageError(
            f"regimes: expected from 1 to {len(normal) // FEWEST_STRETCHES} steps as the shortest, so that the "
            f"validation split has {FEWEST_STRETCHES} such stretches, got {shortest}"
        )
    most = np.quantile(normal[np.isfinite(normal)], 0.99)
    means = np.minimum(normal, most)[: stretches * shortest].reshape(stretches, shortest).mean(1)
    least = 4 * np.log(max(len(surprise), 2)) * shortest * max(means.var(ddof=1), np.finfo(np.float64).tiny)
    total = np.cumsum(np.concatenate([np.zeros(1), np.minimum(surprise, most)]))
    cuts, left = [], [(begin, len(surprise))]
    while left:
        first, end = left.pop()
        cut, gain = _best_cut(total, first, end, shortest)
        if gain > least:
            cuts.append(cut)
            left += [(first, cut), (cut, end)]
    borders = [begin]
    for end in [*sorted(cuts)[1:], len(surprise)] if cuts else []:
        cut, gain = _best_cut(total, borders[-1], end, shortest)
        borders += [cut] if gain > least else []
    pairs = list(pairwise([*borders, len(surprise)]))
    return [Regime(*pair, _finite_mean(surprise[slice(*pair)])) for pair in pairs] if len(pairs) > 1 else []


def _best_cut(total: NDArray[np.float64], first: int, end: int, shortest: int) -> tuple[int, float]:
    """Where the steps from `first` to `end` are best cut in two, and the squared deviations that this saves."""
    at = np.arange(first + shortest, end - shortest + 1)
    if not len(at):
        return first, 0.0
    before, after = at - first, end - at
    difference = (total[at] - total[first]) / before - (total[end] - total[at]) / after
    gains = before * after / (before + after) * difference**2
    return int(at[gains.argmax()]), float(gains.max())


def _finite_mean(surprise: NDArray[np.float64]) -> float:
    """Of the finite ones; infinite where there is none."""
    finite = surprise[np.isfinite(surprise)]
    return float(finite.mean()) if len(finite) else math.inf


def validation_surprises(stack: PredictiveStack, source: Source) -> NDArray[np.float64]:
    """Surprise of the top level at every step of the validation split, observed after what is before it, nats, [T]."""
    begin = max(0, source.split_point - WARM_UP)
    return surprises(stack, source, begin)[source.split_point - begin :]


def surprises(stack: PredictiveStack, source: Source, begin: int = 0) -> NDArray[np.float64]:
    """Surprise of the top level at every step from `begin` on, nats, [T]; the first is expected at the base rate."""
    activities = iter_activity(stack, source.iter_observations(begin, PIECE))
    return torch.cat([each.layers[-1].error_and_surprise[1][0].double().cpu() for each in activities]).numpy()


def spans(steps: NDArray[np.intp], gap: int) -> list[tuple[int, int]]:
    """Runs of ascending steps that lie at most `gap` apart, as first step and the one after the last."""
    if not len(steps):
        return []
    ends = np.flatnonzero(np.diff(steps) > gap)
    firsts, lasts = steps[np.concatenate([[0], ends + 1])], steps[np.concatenate([ends, [len(steps) - 1]])]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]
