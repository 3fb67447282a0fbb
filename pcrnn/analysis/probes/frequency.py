"""Gain and phase of every layer at every frequency of its input.

The stack is driven with T(x_t) + A sin(omega t) d over a background x, see `probes.drive`, and the response of
every unit's memory, the difference to the run without the sine, is fitted by least squares after a warm-up:

    delta s_t = Re(A H exp(i omega t) / i) + rest        H(omega) complex, one number a unit

A leaky integrator with decay a answers with H = (1 - a) / (1 - a exp(-i omega)) times its input: it keeps what is
slower than its half-power frequency, which falls as a grows.

Shapes: F frequencies, B lanes, T time, L layers, N units of a layer.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.analysis.probes.drive import decays, directions, driven, falls, states, statistics
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.errors import UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import probes as pictures
from pcrnn.validation import AT_LEAST_1, POSITIVE


class FrequencyResponse(NamedTuple):
    """What every layer's memory does with a sine."""

    omega: Tensor  # radians a step, [F]
    transfer: tuple[Tensor, ...]  # H of every lane's direction and unit, complex, L times [F, B, N]
    gain: Tensor  # root mean square of |H| over lanes and units, [F, L]
    phase: Tensor  # of H, up to a unit's sign; radians, continuous in omega and in (-pi/2, pi/2] at the lowest, [F, L]
    rest: Tensor  # share of the response's power that is no sine of that frequency, [F, L]
    nonlinearity: Tensor  # |H(A) - H(A/2)| / |H(A)|, 0 where the response is linear, [F, L]
    peak: Tensor  # frequency of the largest gain, radians a step, [L]
    half_power: Tensor  # above it the gain stays below its maximum / sqrt 2; NaN where it does not fall so far, [L]
    unit_half_power: tuple[Tensor, ...]  # the same of every unit, L times [N]
    unit_decay: tuple[Tensor, ...]  # a, geometric mean over the background, L times [N]

    def table(self) -> list[dict[str, Any]]:
        """One row a layer; times are in steps."""
        return [
            {
                "layer": layer + 1,
                "largest gain": float(self.gain[:, layer].max()),
                "peak period": 2 * math.pi / float(self.peak[layer]),
                "half-power frequency": float(self.half_power[layer]),
                "half-power period": 2 * math.pi / float(self.half_power[layer]),
                "nonlinearity": float(self.nonlinearity[:, layer].max()),
                "no sine": float(self.rest[:, layer].mean()),
            }
            for layer in range(self.gain.shape[1])
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        finite = {layer: value for layer, value in enumerate(self.half_power.tolist(), 1) if not math.isnan(value)}
        if not finite:
            return "no layer's gain falls to half its power: all pass every frequency"
        slowest = min(finite, key=lambda layer: finite[layer])
        lost = ", ".join(f"layer {layer} {2 * math.pi / value:.3g}" for layer, value in finite.items())
        others = "; the others pass every frequency" if len(finite) < self.gain.shape[1] else ""
        return (
            f"a layer loses what is faster than its half-power period, in steps: {lost}; the slowest is layer {slowest}"
            + others
        )


@torch.no_grad()
def frequency(
    stack: PredictiveStack,
    x: Tensor,
    *,
    frequencies: int = 20,
    amplitude: float = 1e-3,
    warm_up: float = 0.5,
    omega: Tensor | None = None,
    seed: int = 0,
) -> FrequencyResponse:
    """Measure the response of every layer to sines.

    Args:
        stack: any stack; it is copied and not changed.
        x: background, observations [B, T] or [B, T, D]; every lane is driven in its own random direction.
        frequencies: how many, evenly spaced in log omega from one whole period in the fitted steps to 3 radians.
        amplitude: A, small so that the response is linear; `nonlinearity` says whether it is.
        warm_up: share of the steps that pass before the fit begins.
        omega: frequencies to use instead, radians a step, [F].
        seed: of the directions.

    Raises UsageError for fewer than 8 steps to fit, since sine, cosine and noise cannot be separated in them.
    """
    copy, background = driven(stack), statistics(stack, x)
    steps = x.shape[1]
    start = int(steps * warm_up)
    if frequencies < 1 or not 0 < amplitude < math.inf:
        raise UsageError(f"frequency: expected frequencies and an amplitude above 0, got {frequencies} and {amplitude}")
    if steps - start < 8:
        raise UsageError(f"frequency: expected at least 8 steps after the warm-up, got {steps - start}; give more")
    if omega is None:
        lowest = torch.tensor(2 * math.pi / (steps - start), dtype=torch.float64)
        omega = torch.logspace(float(lowest.log10()), math.log10(3.0), frequencies, dtype=torch.float64)
    omega = omega.to("cpu", torch.float64)
    direction = directions(stack, len(x), seed).unsqueeze(1)
    activity, _ = copy.observe(background)
    before = states(copy, activity)
    time = torch.arange(steps, dtype=torch.float64)

    def respond(frequency: Tensor, size: float) -> tuple[list[Tensor], list[Tensor]]:
        """H, L times [B, N], and the share of no sine, L times []."""
        drive = size * torch.sin(frequency * time).view(1, -1, 1) * direction
        after = states(copy, copy.observe(background + drive)[0])
        fits = [_fit((a - b)[:, start:], frequency, time[start:]) for a, b in zip(after, before, strict=True)]
        return [1j * c / size for c, _ in fits], [rest for _, rest in fits]

    whole = [respond(each, amplitude) for each in omega]
    halved = [respond(each, amplitude / 2)[0] for each in omega]
    transfer = [torch.stack(each) for each in zip(*(h for h, _ in whole), strict=True)]
    half = [torch.stack(each) for each in zip(*halved, strict=True)]
    units = [h.abs().square().mean(1).sqrt() for h in transfer]
    gain = torch.stack([unit.square().mean(-1).sqrt() for unit in units], 1)
    change = [(a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1) for a, b in zip(transfer, half, strict=True)]
    return FrequencyResponse(
        omega=omega,
        transfer=tuple(transfer),
        gain=gain,
        phase=torch.stack([_phase(h) for h in transfer], 1),
        rest=torch.stack([torch.stack(rest) for _, rest in whole]),
        nonlinearity=torch.stack(change, 1).nan_to_num(0.0),  # 0/0 where a layer has no input
        peak=omega[gain.argmax(0)],
        half_power=_half_power(omega, gain),
        unit_half_power=tuple(_half_power(omega, unit) for unit in units),
        unit_decay=tuple(decays(copy, activity)),
    )


def leaky_transfer(decay: Tensor, omega: Tensor) -> Tensor:
    """H = (1 - a) / (1 - a exp(-i omega)) of a leaky integrator; complex, broadcast."""
    return (1 - decay) / (1 - decay * torch.exp(-1j * omega))


def leaky_half_power(decay: Tensor) -> Tensor:
    """The frequency at which |H|^2 is half of what it is at 0: cos omega = (4 a - 1 - a^2) / 2 a; NaN if none is."""
    return torch.arccos((4 * decay - 1 - decay.square()) / (2 * decay))


def _fit(response: Tensor, omega: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The complex c of Re(c exp(i omega t)) + constant nearest to a response [B, T, N], [B, N]; the rest's share."""
    basis = torch.stack([torch.cos(omega * time), -torch.sin(omega * time), torch.ones_like(time)], 1)
    weights = torch.linalg.pinv(basis) @ response  # [B, 3, N]
    rest = response - basis @ weights
    power = response.square().sum()
    return torch.complex(weights[:, 0], weights[:, 1]), (rest.square().sum() / power).nan_to_num(0.0)


def _phase(transfer: Tensor) -> Tensor:
    """Phase of [F, B, N] numbers that may differ in sign: half that of their squares' sum, continuous over F, [F]."""
    turns = transfer.square().sum((1, 2)).angle()
    steps = torch.remainder(turns.diff() + math.pi, 2 * math.pi) - math.pi
    return torch.cat([turns[:1], turns[:1] + steps.cumsum(0)]) / 2


def _half_power(omega: Tensor, gain: Tensor) -> Tensor:
    return falls(omega.log(), gain, gain.amax(0) / math.sqrt(2)).exp()


@dataclass(frozen=True, kw_only=True)
class Frequency:
    """Gain and phase of every layer at every frequency of its input."""

    frequencies: Annotated[int, AT_LEAST_1] = 20
    """How many, from one period in the fitted half of the steps to 3 radians a step."""
    amplitude: Annotated[float, POSITIVE] = 1e-3
    """Of the sine; small, so that the response is linear."""
    steps: Annotated[int, AT_LEAST_1] = 2048
    """Of every passage; the first half is warm-up."""
    lanes: Annotated[int, AT_LEAST_1] = 4
    """Passages, each driven in a direction of its own."""

    def measure(self, target: ProbeTarget) -> FrequencyResponse:
        """See `frequency`."""
        x = target.passages(self.lanes, self.steps)
        options = {"frequencies": self.frequencies, "amplitude": self.amplitude}
        return frequency(target.stack, x, **options, seed=target.seed)

    def draw(self, result: FrequencyResponse, target: ProbeTarget, stem: Path) -> list[Path]:
        """Gain and phase over frequency; half-power frequencies of units over their time constants."""
        return pictures.frequency_response(
            stem,
            result.omega,
            result.gain,
            result.phase,
            result.rest,
            result.half_power,
            unit_decay=[each.numpy() for each in result.unit_decay],
            unit_half_power=[each.numpy() for each in result.unit_half_power],
            info=target.info,
        )
