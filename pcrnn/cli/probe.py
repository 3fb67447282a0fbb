"""The command `pcrnn probe`: the flags of every instrument, what it looks into, and the files it leaves.

A probe writes probe_KIND.png and .svg, .csv (the table it prints) and .json (its arrays) into RUN/plots or --out.
An instrument is a class of flags below and a function that measures and draws, named together in `PROBES`.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, Union

from tyro.conf import Positional, arg, subcommand

from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.runs import folder as runs

if TYPE_CHECKING:
    from torch import Tensor

    from pcrnn.nn.stack import PredictiveStack
    from pcrnn.plots import RunInfo

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """What every probe is told."""

    run: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """Folder of a run; or --untrained."""
    untrained: bool = False
    """Look into new weights, over white noise; --cell, --hidden, --num-taps and --channels say what is built."""
    cell: str | None = None
    """With --untrained: of every layer (gated)."""
    hidden: tuple[int, ...] | None = None
    """With --untrained: units of each layer, bottom first (64 64 64)."""
    num_taps: int | None = None
    """With --untrained: how many of the last messages a layer's gates see (2)."""
    channels: int | None = None
    """With --untrained: of the series (4)."""
    seed: int = 0
    """Of directions and of all else that is drawn, new weights among it."""
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where the files go; by default RUN/plots."""


@dataclass(frozen=True, kw_only=True)
class Frequency(_Probe):
    """Gain and phase of every layer at every frequency of its input."""

    frequencies: int = 20
    """How many, from one period in the fitted half of the steps to 3 radians a step."""
    amplitude: float = 1e-3
    """Of the sine; small, so that the response is linear."""
    steps: int = 2048
    """Of every passage; the first half is warm-up."""
    lanes: int = 4
    """Passages, each driven in a direction of its own."""


@dataclass(frozen=True, kw_only=True)
class Impulse(_Probe):
    """How long every layer keeps an impulse, with recurrence and without: accumulating or denoising."""

    amplitude: float = 1.0
    """Of the impulse."""
    steps: int = 512
    """Of every passage; the impulse comes in the middle."""
    lanes: int = 16
    """Passages, each hit in a direction of its own."""


@dataclass(frozen=True, kw_only=True)
class Jacobian(_Probe):
    """Eigenvalues of one whole update: is the stack stable, unstable, oscillating?"""

    at: Literal["fixed", "zero"] = "fixed"
    """At a fixed point, which Newton's method looks for, or at the state before the first step."""
    steps: int = 256
    """Of the passage after which the search begins."""


@dataclass(frozen=True, kw_only=True)
class Timescales(_Probe):
    """Time constants of every unit, by its decays and by the autocorrelation of its states."""

    steps: int = 2048
    """Of every passage; the first eighth is warm-up."""
    lanes: int = 8
    """Passages."""


@dataclass(frozen=True, kw_only=True)
class Euler(_Probe):
    """A stack of leaky cells against the differential equation it discretises."""

    halvings: int = 6
    """How often the step dt is halved, from 1/8 of a unit of time."""
    span: float = 8.0
    """How long to run, in units of time; time constants are 1 or more."""
    lanes: int = 4
    """Beginnings, each driven in a direction of its own."""


@dataclass(frozen=True, kw_only=True)
class Gradients(_Probe):
    """How much of the gradient reaches the bottom layer of new stacks, over depths, skips, losses and rules."""

    depths: tuple[int, ...] = (2, 4, 8, 12, 16)
    """Numbers of layers."""
    units: int = 32
    """Of every layer."""
    seeds: int = 3
    """How many stacks to take the geometric mean over."""
    steps: int = 32
    """Of every passage."""
    lanes: int = 8
    """Passages."""


@dataclass(frozen=True, kw_only=True)
class Lags(_Probe):
    """How far back in time every layer's gradient reaches, under every rule."""

    lags: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    """Steps before the loss."""
    lanes: int = 16
    """Passages, one step longer than the largest lag."""


@dataclass(frozen=True, kw_only=True)
class Gates(_Probe):
    """How much of a signal passes both gates between two stacked LSTM layers."""

    beside: Annotated[Path | None, arg(metavar="RUN")] = None
    """Another run of as many layers, drawn into the same picture."""
    steps: int = 256
    """Of every passage."""
    lanes: int = 8
    """Passages."""


class ProbeResult(Protocol):
    """What a probe returns: a NamedTuple of tensors that can say what is in it."""

    def table(self) -> list[dict[str, Any]]:
        """Rows for a person, one a layer."""
        ...

    def summary(self) -> str:
        """What the numbers mean."""
        ...


class ProbeTarget(NamedTuple):
    """What is looked into, and what it usually sees."""

    stack: "PredictiveStack"
    passages: Callable[[int, int], "Tensor"]  # lanes, steps -> observations [B, T] or [B, T, D]
    info: "RunInfo"
    warnings: tuple[str, ...] = ()


def probe(command: Any) -> int:
    """Measure, write the files, print the table and what it means; returns the exit code."""
    for name in ("steps", "lanes"):
        if (value := getattr(command, name, 1)) < 1:
            raise UsageError(f"{name}: expected at least 1, got {value}")
    specimen, folder = _specimen(command), _folder(command)
    stem = folder / f"probe_{type(command).__name__.lower()}"
    finding, pictures = PROBES[type(command)](command, specimen, stem)
    rows = finding.table()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    csv_file, json_file = stem.with_suffix(".csv"), stem.with_suffix(".json")
    csv_file.write_text(text.getvalue(), encoding="utf-8", newline="")
    runs.write_json(json_file, arrays(finding._asdict()), indent=None)  # type: ignore[attr-defined]
    for line in aligned(rows):
        print(line)
    print(finding.summary())
    for path in (*pictures, csv_file, json_file):
        print(path)
    return 0


def arrays(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as nested lists, NaN and infinity as null, complex numbers as pairs of lists.

    Fields of more than 100,000 numbers are left out and named under `left_out`; the functions of
    pcrnn.analysis.probes return them.
    """
    kept = {name: value for name, value in fields.items() if _count(value) <= _MOST_NUMBERS}
    document = {name: _plain(value) for name, value in kept.items()}
    return document | {"left_out": [name for name in fields if name not in kept]}


def aligned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for the screen: names, then a row each, right-aligned."""
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _frequency(command: Frequency, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.plots import probes as pictures

    found = probes.frequency(
        specimen.stack,
        specimen.passages(command.lanes, command.steps),
        frequencies=command.frequencies,
        amplitude=command.amplitude,
        seed=command.seed,
    )
    return found, pictures.frequency_response(
        stem,
        found.omega,
        found.gain,
        found.phase,
        found.rest,
        found.half_power,
        unit_decay=[each.numpy() for each in found.unit_decay],
        unit_half_power=[each.numpy() for each in found.unit_half_power],
        info=specimen.info,
    )


def _impulse(command: Impulse, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.plots import probes as pictures

    x = specimen.passages(command.lanes, command.steps)
    found = probes.impulse(specimen.stack, x, amplitude=command.amplitude, seed=command.seed)
    accumulating = found.accumulating.tolist()
    return found, pictures.impulse_response(stem, found.size, found.half_life, accumulating, info=specimen.info)


def _jacobian(command: Jacobian, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.plots import probes as pictures

    found = probes.jacobian(specimen.stack, specimen.passages(1, command.steps), at=command.at)
    values, rates, layer = found.eigenvalues.numpy(), found.rates.numpy(), found.layer.numpy()
    return found, pictures.eigenvalues(
        stem, values, rates, layer, layer[: len(rates)], found.verdict(), dt=found.dt, info=specimen.info
    )


def _timescales(command: Timescales, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.plots import probes as pictures

    found = probes.timescales(specimen.stack, specimen.passages(command.lanes, command.steps))
    return found, pictures.time_constants(
        stem,
        [each.numpy() for each in found.of_decay],
        [each.numpy() for each in found.of_states],
        [each.numpy() for each in found.autocorrelation],
        info=specimen.info,
    )


def _euler(command: Euler, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.plots import probes as pictures

    options = {"halvings": command.halvings, "span": command.span, "lanes": command.lanes, "seed": command.seed}
    found = probes.euler(specimen.stack, **options)
    return found, pictures.convergence(stem, found.dt, found.error, found.order, info=specimen.info)


def _gradients(command: Gradients, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    import learning_rules
    from pcrnn.analysis import probes
    from pcrnn.analysis.probes.gradients import Measure, of_plain, of_rule
    from pcrnn.nn.cells import CELLS
    from pcrnn.nn.connections import Skip
    from pcrnn.nn.stack import Chunk
    from pcrnn.plots import RunInfo
    from pcrnn.plots import depth as pictures

    if command.units < 1 or command.seeds < 1:
        raise UsageError(f"units, seeds: expected at least 1, got {command.units}, {command.seeds}")
    if not command.depths or min(command.depths) < 1:
        raise UsageError(f"depths: expected one or more of at least 1, got {list(command.depths)}")
    chunk = Chunk.of_stream(specimen.passages(command.lanes, command.steps + 1))
    of_data = (specimen.stack.observation, chunk, command.units)
    cell = next(name for name, kind in CELLS.items() if type(specimen.stack.layers[0].cell) is kind)
    auxiliary = " + aux"
    wirings: dict[str, Skip] = {"no skips": "none", "every-other": "every-other", "residual": "residual"}
    plain: dict[str, Measure] = {
        name + more: of_plain(*of_data, skip=skip, auxiliary=weight)
        for name, skip in wirings.items()
        for more, weight in (("", 0.0), (auxiliary, 1.0))
    }
    bptt, with_auxiliary = learning_rules.make("bptt"), learning_rules.make("bptt", auxiliary=1.0)
    errors: dict[str, Measure] = {
        "bptt": of_rule(bptt, *of_data, cell=cell),
        "bptt" + auxiliary: of_rule(with_auxiliary, *of_data, cell=cell),
        "bptt, every-other": of_rule(bptt, *of_data, cell=cell, skip="every-other"),
        "bptt, residual": of_rule(bptt, *of_data, cell=cell, skip="residual"),
    }
    for credit in ("cascade", "neighbour", "top", "layer"):
        errors[credit] = of_rule(learning_rules.make("local", credit=credit), *of_data, cell=cell)
    panels = {"plain: outputs go up, rnn cells": plain, f"this library: errors go up, {cell} cells": errors}
    measures = {
        f"{kind}, {name}": each
        for kind, names in zip(("plain", "errors"), panels.values(), strict=True)
        for name, each in names.items()
    }
    found = probes.over_depths(measures, command.depths, range(command.seed, command.seed + command.seeds))
    info = RunInfo(about=f"new stacks of {command.units} units a layer, geometric mean of {command.seeds} seeds")
    bottom = iter(found.bottom.numpy())
    drawn = {title: {name: next(bottom) for name in names} for title, names in panels.items()}
    return found, pictures.gradients_by_depth(stem, found.depths, drawn, dashed=auxiliary, info=info)


def _lags(command: Lags, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    import learning_rules
    from pcrnn.analysis import probes
    from pcrnn.plots import depth as pictures

    if not command.lags or min(command.lags) < 0:
        raise UsageError(f"lags: expected one or more of at least 0, got {list(command.lags)}")
    rules = {"bptt": learning_rules.make("bptt")}
    for credit in ("neighbour", "cascade", "top", "layer"):
        rules[credit] = learning_rules.make("local", credit=credit)
    x = specimen.passages(command.lanes, max(command.lags) + 2)
    found = probes.over_lags(specimen.stack, rules, x, command.lags)
    norms = {name: each.numpy() for name, each in zip(found.rules, found.norms, strict=True)}
    return found, pictures.gradients_by_lag(stem, found.lags, norms, info=specimen.info)


def _gates(command: Gates, specimen: ProbeTarget, stem: Path) -> tuple[ProbeResult, list[Path]]:
    from pcrnn.analysis import probes
    from pcrnn.nn.gate_pairs import check_gates
    from pcrnn.plots import depth as pictures

    def watched(specimen: ProbeTarget) -> probes.GatePassage:
        try:
            check_gates(specimen.stack, "gates")
        except ValueError as error:
            raise UsageError(str(error)) from None
        return probes.gates(specimen.stack, specimen.passages(command.lanes, command.steps))

    found = {command.run.name if command.run else "untrained": watched(specimen)}
    first, *_ = found.values()
    if command.beside is not None:
        found[command.beside.name] = other = watched(_trained(command.beside))
        if len(other.passed) != len(first.passed):
            raise UsageError(f"beside: expected a run of {len(first.passed) + 1} layers, got {len(other.passed) + 1}")
    passed = {name: [each.numpy() for each in passage.passed] for name, passage in found.items()}
    return first, pictures.gate_transmission(stem, passed, info=specimen.info)


PROBES: dict[type, Callable[[Any, ProbeTarget, Path], tuple[ProbeResult, list[Path]]]] = {
    Frequency: _frequency,
    Impulse: _impulse,
    Jacobian: _jacobian,
    Timescales: _timescales,
    Euler: _euler,
    Gradients: _gradients,
    Lags: _lags,
    Gates: _gates,
}

if TYPE_CHECKING:
    Kinds = Any
else:
    Kinds = Union[tuple(Annotated[kind, subcommand(kind.__name__.lower())] for kind in PROBES)]  # noqa: UP007

_BUILT = {"cell": "gated", "hidden": (64, 64, 64), "num_taps": 2, "channels": 4}  # where a flag does not say
_MOST_NUMBERS = 100_000


def _specimen(command: _Probe) -> ProbeTarget:
    if (command.run is not None) == command.untrained:
        got = "both" if command.untrained else "neither"
        raise UsageError(f"probe: expected the folder of a run or --untrained, got {got}; give one of them")
    given = {name: getattr(command, name) for name in _BUILT if getattr(command, name) is not None}
    if command.run is None:
        return _new(_BUILT | given, command.seed)
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"{names}: expected only with --untrained, a run has its own; leave it out")
    return _trained(command.run)


def _new(built: dict[str, Any], seed: int) -> ProbeTarget:
    import torch

    from pcrnn.analysis.probes import noise
    from pcrnn.memory import require_memory
    from pcrnn.nn.observations import Gaussian
    from pcrnn.nn.stack import PredictiveStack
    from pcrnn.plots import RunInfo
    from pcrnn.runs.sizes import count_weights

    channels = built.pop("channels")
    if channels < 1:
        raise UsageError(f"channels: expected at least 1, got {channels}")
    config = TrainConfig(**built, seed=seed)
    require_memory(count_weights(config, channels), torch.device("cpu"), "hidden")
    torch.manual_seed(seed)
    stack = PredictiveStack(Gaussian(channels), config.hidden, **config.stack_options())
    about = f"untrained, {config.cell}, white noise, seed {seed}"
    return ProbeTarget(stack, lambda lanes, steps: noise(lanes, steps, channels, seed), RunInfo(about=about))


def _trained(path: Path) -> ProbeTarget:
    import torch

    from pcrnn.plots import RunInfo
    from pcrnn.runs.load import load_run

    run = load_run(path, device="cpu")
    if run.source.target() is not None:
        raise UsageError(f"{path}: expected a run that expects its next observation, got one that expects labels")
    valid = run.source.sequence("valid")

    def passages(lanes: int, steps: int) -> torch.Tensor:
        """Parts of the validation split that begin evenly spaced; where it ends it begins again."""
        begin = torch.arange(lanes).unsqueeze(1) * len(valid) // lanes
        return valid[(begin + torch.arange(steps)) % len(valid)]

    about = f"{run.config.rule_in_words}, {run.config.cell}, {Path(run.source.name).name}, {run.step} updates"
    return ProbeTarget(run.stack, passages, RunInfo(about=about), run.warnings)


def _folder(command: _Probe) -> Path:
    if command.out is None and command.run is None:
        raise UsageError("--out: expected a folder for the files with --untrained, got none")
    folder = runs.existing(command.run).plots if command.out is None and command.run else command.out
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "is_complex"):
        if value.is_complex():
            return {"real": _plain(value.real), "imaginary": _plain(value.imag)}
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_count, value))
    return value.numel() * (2 if value.is_complex() else 1) if hasattr(value, "numel") else 1


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "none" if not math.isfinite(value) else f"{value:.4g}"
