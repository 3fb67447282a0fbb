"""How long every unit remembers: by its decays, and by how its memory resembles itself later.

Over a passage a unit forgets by the product of its decays, so its time constant is -1 / mean log a_t. What it then
holds also depends on its input: the second time constant is the lag at which the autocorrelation of s_t has
fallen to 1 / e. For a leaky integrator in white noise both are -1 / log a.

Shapes: B lanes, T time, L layers, N units of a layer.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.analysis.probes.drive import decays, driven, falls, states, statistics
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.errors import UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import probes as pictures
from pcrnn.validation import AT_LEAST_1


class Timescales(NamedTuple):
    """Time constants of every unit, in steps."""

    of_decay: tuple[Tensor, ...]  # -1 / mean log a_t; 0 for a cell without memory of its own, L times [N]
    of_states: tuple[Tensor, ...]  # lag at which the autocorrelation is 1 / e; NaN for a unit that never moves or
    # whose autocorrelation does not fall so far, L times [N]
    autocorrelation: tuple[Tensor, ...]  # of s_t at lags 0, 1, ..., L times [lags, N]

    def table(self) -> list[dict[str, Any]]:
        """One row a layer: medians and, in a tenth of the units, shorter and longer ones; in steps."""
        rows = []
        for layer, (decay, state) in enumerate(zip(self.of_decay, self.of_states, strict=True), 1):
            row: dict[str, Any] = {"layer": layer}
            for name, values in (("decay", decay), ("states", state)):
                low, middle, high = values.nanquantile(torch.tensor([0.1, 0.5, 0.9], dtype=values.dtype)).tolist()
                row |= {f"{name}, 10 %": low, f"{name}, median": middle, f"{name}, 90 %": high}
            rows.append(row)
        return rows

    def summary(self) -> str:
        """What the numbers mean."""
        medians = [row["states, median"] for row in self.table()]
        shown = ", ".join(f"{value:.3g}" for value in medians)
        if len(medians) == 1 or any(math.isnan(value) for value in medians):
            return f"the states of a layer resemble themselves for {shown} steps (median unit)"
        pairs = list(pairwise(medians))
        order = (
            "every layer is slower than the one below"
            if all(a < b for a, b in pairs)
            else "every layer is faster than the one below"
            if all(a > b for a, b in pairs)
            else "layers are not ordered by their speed"
        )
        return f"{order}: bottom first, their states resemble themselves for {shown} steps (median unit)"


@torch.no_grad()
def timescales(stack: PredictiveStack, x: Tensor, *, lags: int | None = None, warm_up: float = 0.125) -> Timescales:
    """Measure the time constants of every unit while the stack observes x [B, T] or [B, T, D].

    Args:
        stack: any stack; it is copied and not changed.
        x: observations.
        lags: how many lags of the autocorrelation, 0 among them; by default half of the measured steps.
        warm_up: share of the steps that pass before anything is measured.

    Raises UsageError for fewer than 4 steps to measure in, or more lags than steps.
    """
    copy, background = driven(stack), statistics(stack, x)
    start = int(x.shape[1] * warm_up)
    steps = x.shape[1] - start
    lags = steps // 2 if lags is None else lags
    if steps < 4 or not 2 <= lags <= steps:
        raise UsageError(f"timescales: expected 2 to {steps} lags in at least 4 measured steps, got {lags}; give more")
    _, state = copy.observe(background[:, :start]) if start else (None, None)
    activity, _ = copy.observe(background[:, start:], state)
    curves = [autocorrelation(each, lags) for each in states(copy, activity)]
    level = torch.tensor(math.exp(-1), dtype=torch.float64)
    lag = torch.arange(lags, dtype=torch.float64)
    return Timescales(
        of_decay=tuple(-1 / decay.log() + 0.0 for decay in decays(copy, activity)),
        of_states=tuple(falls(lag, each, level.expand(each.shape[1]), first=True) for each in curves),
        autocorrelation=tuple(curves),
    )


def autocorrelation(signal: Tensor, lags: int) -> Tensor:
    """Autocorrelation of [B, T, N] around its mean at lags 0, 1, ..., pooled over lanes, [lags, N]; NaN if constant.

    By Fourier transform, padded so that the end does not meet the beginning; every lag is divided by its own count.
    """
    steps = signal.shape[1]
    centred = signal - signal.mean((0, 1))
    spectrum = torch.fft.rfft(centred, 2 * steps, dim=1)
    products = torch.fft.irfft(spectrum.abs().square(), 2 * steps, dim=1)[:, :lags].sum(0)
    count = torch.arange(steps, steps - lags, -1, dtype=signal.dtype).unsqueeze(1)
    variance = products[0] / steps
    still = variance <= 1e-24 * signal.square().mean((0, 1)).clamp_min(1e-300)
    return torch.where(still, math.nan, products / count / variance)


@dataclass(frozen=True, kw_only=True)
class TimeConstants:
    """Time constants of every unit, by its decays and by the autocorrelation of its states."""

    steps: Annotated[int, AT_LEAST_1] = 2048
    """Of every passage; the first eighth is warm-up."""
    lanes: Annotated[int, AT_LEAST_1] = 8
    """Passages."""

    def measure(self, target: ProbeTarget) -> Timescales:
        """See `timescales`."""
        return timescales(target.stack, target.passages(self.lanes, self.steps))

    def draw(self, result: Timescales, target: ProbeTarget, stem: Path) -> list[Path]:
        """Every unit a dot; autocorrelations over lags."""
        return pictures.time_constants(
            stem,
            [each.numpy() for each in result.of_decay],
            [each.numpy() for each in result.of_states],
            [each.numpy() for each in result.autocorrelation],
            info=target.info,
        )
