"""Anomalies: steps of a data set that surprise a trained stack more than nearly all that it was validated on.

Shapes: T steps, L layers.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.data import Source
from pcrnn.errors import UsageError
from pcrnn.evaluate import WARM_UP, watching
from pcrnn.stack import PredictiveStack

SETTLING = 32  # first steps of a data set that are watched and not judged: a state that begins at zero surprises itself


class Detected(NamedTuple):
    """Where a data set surprised a stack."""

    surprise: NDArray[np.float64]  # of the top level, averaged over the last `window` steps, nats, [T]
    threshold: float  # nats
    spans: list[tuple[int, int]]  # anomalies as first step and the one after the last


def detect(
    stack: PredictiveStack, calibration: Source, watched: Source, *, quantile: float = 0.999, window: int = 1
) -> Detected:
    """Steps of `watched` more surprising than the `quantile` of the validation split of `calibration`.

    Args:
        calibration: the data of the run; what is normal is how its validation split surprises the stack.
        window: steps over which the surprise is averaged, so that what lasts is told from what is over at once.

    Anomalous steps at most `window` apart are one anomaly; the first SETTLING steps are never one.

    Raises UsageError for a quantile or a window that cannot be.
    """
    if not (0 < quantile < 1 and window >= 1):
        raise UsageError(
            f"detect: expected a quantile between 0 and 1 and a window of at least 1, got {quantile} and {window}"
        )
    valid = calibration.sequence("valid")
    before = calibration.context(WARM_UP)
    normal = smoothed(surprises(stack, torch.cat([before, valid]))[len(before) :], window)
    threshold = float(np.quantile(normal, quantile))
    found = smoothed(surprises(stack, watched.sequence("all")), window)
    above = np.flatnonzero(found > threshold)
    return Detected(found, threshold, spans(above[above >= SETTLING], window))


def surprises(stack: PredictiveStack, steps: Tensor) -> NDArray[np.float64]:
    """Surprise of the top level at every step of a sequence, nats, [T]; the first is met at the base rate."""
    return torch.cat([activity.layers[-1].met[1][0].double().cpu() for activity in watching(stack, steps)]).numpy()


def smoothed(series: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the last `window` steps, over fewer at the beginning, [T]."""
    total = np.cumsum(np.concatenate([np.zeros(1), series]))
    at = np.arange(1, len(series) + 1)
    since = np.maximum(at - window, 0)
    return (total[at] - total[since]) / (at - since)


def spans(steps: NDArray[np.intp], gap: int) -> list[tuple[int, int]]:
    """Runs of ascending steps that lie at most `gap` apart, as first step and the one after the last."""
    if not len(steps):
        return []
    ends = np.flatnonzero(np.diff(steps) > gap)
    firsts, lasts = steps[np.concatenate([[0], ends + 1])], steps[np.concatenate([ends, [len(steps) - 1]])]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]
