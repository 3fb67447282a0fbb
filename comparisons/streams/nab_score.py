"""The score of a detector on the Numenta Anomaly Benchmark.

A detector gives every row of every series a number. Rows at or above a threshold, one for all series, are detections;
those of a series' first rows, its probation, do not count. Row i of a window of n rows that ends at row e, or after it:

    p = -(e - i + 1) / n     in the window: from -1 at its first row
    p = (i - e) / (n - 1)    after it, up to the next window; infinite before the first
    S(p) = 2 / (1 + exp(5 p)) - 1;    -1 beyond p = 3

A window whose first detection is at p counts A_TP S(p) / S(-1), one without any -A_FN, and every detection outside of
windows A_FP S(p), which is negative. Of the sums at all thresholds the largest is taken, for each profile of weights A:

    score = 100 (sum - null) / (perfect - null)     null = -A_FN windows, perfect = A_TP windows

Sources: Lavin & Ahmad (2015), "Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark";
weights and the cases at the edges as in the code of github.com/numenta/NAB (sweeper, runner, profiles).

Shapes: T rows of a series, N scored rows of all series.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcrnn.errors import DataError

from .nab import Floats, LabelledSeries

Rows = NDArray[np.int64]

FAR = 3.0  # position after a window from which on it says nothing


class Profile(NamedTuple):
    """What an outcome weighs: A_TP, A_FP and A_FN of the papers."""

    hit: float
    false_alarm: float
    miss: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_FP_rate": Profile(1.0, 0.22, 1.0),
    "reward_low_FN_rate": Profile(1.0, 0.11, 2.0),
}


class NabScore(NamedTuple):
    """How a detector does by one profile."""

    score: float  # 0 for the null detector, 100 for the perfect one
    threshold: float  # the best one, of all series; infinite where it is best to detect nothing
    found: int  # windows with a detection
    windows: int  # that count
    false_alarms: int  # rows detected outside of them


def nab_scores(corpus: Sequence[LabelledSeries], scores: Mapping[str, Floats]) -> dict[str, NabScore]:
    """The score by every profile of what a detector gave the rows of each series, [T] by its name."""
    return {name: nab_score(corpus, scores, profile) for name, profile in PROFILES.items()}


def nab_score(corpus: Sequence[LabelledSeries], scores: Mapping[str, Floats], profile: Profile) -> NabScore:
    """The score by one profile, at the threshold that is best for it; of several, the highest.

    >>> times = np.arange(40).astype("datetime64[s]")
    >>> series = LabelledSeries("a/b.csv", times, np.zeros(40), ((20, 23),))
    >>> nab_score([series], {"a/b.csv": (np.arange(40) == 20) * 0.9}, PROFILES["standard"])
    NabScore(score=100.0, threshold=0.9, found=1, windows=1, false_alarms=0)

    Raises DataError where no window counts, ValueError for scores that are not finite or of another length.
    """
    rows = _scored_rows(corpus, scores)
    thresholds, totals = _sweep(rows, profile)
    best = int(totals.argmax())
    null, perfect = -profile.miss * rows.windows, profile.hit * rows.windows
    detected = rows.window[rows.score >= thresholds[best]]
    return NabScore(
        float(100 * (totals[best] - null) / (perfect - null)),
        float(thresholds[best]),
        len(np.unique(detected[detected >= 0])),
        rows.windows,
        int((detected < 0).sum()),
    )


class _ScoredRows(NamedTuple):
    """The rows of all series that count."""

    score: Floats  # of the detector, [N]
    reward: Floats  # S(p), in a window divided by S(-1), [N]
    window: Rows  # the number of the window a row is in, counted over all series; -1 outside, [N]
    windows: int  # how many have rows that count


def scaled_sigmoid(position: Floats) -> Floats:
    """S(p): 0.99 at p = -1, 0 at p = 0, and -1 far after a window."""
    return np.where(position > FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, FAR))) - 1)


def _scored_rows(corpus: Sequence[LabelledSeries], scores: Mapping[str, Floats]) -> _ScoredRows:
    score: list[Floats] = [np.zeros(0)]
    reward: list[Floats] = [np.zeros(0)]
    window: list[Rows] = [np.zeros(0, np.int64)]
    numbered = 0
    for series in corpus:
        given = _checked(series, scores)
        position, inside = _positions(series)
        of_row = scaled_sigmoid(position)
        of_row[inside >= 0] /= scaled_sigmoid(np.array(-1.0))
        inside[inside >= 0] += numbered
        numbered += len(series.windows)
        score.append(given[series.probation :])
        reward.append(of_row[series.probation :])
        window.append(inside[series.probation :])
    numbers = np.concatenate(window)
    windows = len(np.unique(numbers[numbers >= 0]))
    if not windows:
        raise DataError("expected a window after the probation of some series, got none; a score needs anomalies")
    return _ScoredRows(np.concatenate(score), np.concatenate(reward), numbers, windows)


def _checked(series: LabelledSeries, scores: Mapping[str, Floats]) -> Floats:
    """What a detector gave the rows of a series, [T]."""
    score = np.asarray(scores[series.name], np.float64)
    if score.shape != series.values.shape or not np.isfinite(score).all():
        raise ValueError(
            f"{series.name}: expected {len(series.values)} finite scores, one a row, got {list(score.shape)}, "
            f"{int((~np.isfinite(score)).sum())} of them not finite; score every row"
        )
    return score


def _positions(series: LabelledSeries) -> tuple[Floats, Rows]:
    """p of every row, and the number of its window in the series, -1 outside, [T] each."""
    rows = np.arange(len(series.values))
    position, window = np.full(len(rows), np.inf), np.full(len(rows), -1)
    for number, (first, last) in enumerate(series.windows):
        size, inside, after = last - first + 1, slice(first, last + 1), slice(last + 1, None)
        position[inside], window[inside] = (rows[inside] - last - 1) / size, number
        position[after] = (rows[after] - last) / (size - 1) if size > 1 else np.inf
    return position, window


def _sweep(rows: _ScoredRows, profile: Profile) -> tuple[Floats, Floats]:
    """Every threshold that differs in what it detects, from infinity down, and the sum at each.

    Rows become detections one after the other as the threshold falls; each adds what it changes.
    """
    order = np.argsort(-rows.score, kind="stable")
    score, reward, window = rows.score[order], rows.reward[order], rows.window[order]
    change = profile.false_alarm * reward
    for number in np.unique(window[window >= 0]):
        inside = np.flatnonzero(window == number)
        best = np.maximum.accumulate(profile.hit * reward[inside])  # that of its first detection so far
        change[inside] = np.diff(best, prepend=-profile.miss)
    null = -profile.miss * rows.windows
    together = np.append(score[1:] != score[:-1], True)  # equal scores are detected together
    return np.append(np.inf, score[together]), np.append(null, null + change.cumsum()[together])
