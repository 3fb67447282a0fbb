"""What a training run is made of: one frozen dataclass, checked when it is built.

Values come from three places, the later one winning: the defaults below, a TOML file, the command line.
The flags are generated from this class (pcrnn/cli/main.py), so a field's docstring is its help text.
"""

import dataclasses
import math
import sys
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal

from pcrnn.errors import CheckpointError, UsageError, nearest
from pcrnn.nn import connections

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned."""

    data: str = "pydoc"
    """`pydoc` (Python's language reference) or a file: .csv, .npy, .parquet series; .fa(.gz) genome; .mid music; .npz
    labelled sequences; else text."""
    tokens: Literal["characters", "bytes"] = "characters"
    """What one symbol of a text is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The stack."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Units of each layer, bottom first."""
    cell: Literal["gated", "rotating", "leaky", "rnn", "lstm", "gru"] = "gated"
    """Of every layer; the local rule is exact in time for `gated` and `rotating`, e-prop for the others."""
    num_taps: int = 2
    """How many of the last messages a layer's gates see."""
    mixing: bool = False
    """Let the units of a layer meet within a step, through a gated linear unit."""
    normalize_errors: bool = True
    """Send prediction errors up in units of their running root mean square, so that small ones are still heard."""
    precision_weighting: bool = True
    """Real values: send each channel's errors up weighted by its precision, not in the data's own units."""
    skip: Literal["none", "residual", "dense", "every-other"] = "none"
    """What a layer hears besides the level right below: the state errors of all below, added to that one's; all levels
    below; or the level two below."""
    top_down: bool = False
    """Let each layer say, one step late, what it expects of the layer below: only what neither explains goes up."""
    inference_steps: int = 0
    """How often each state is corrected by what comes before the next one is foretold from it; 0 never corrects."""
    dropout: float = 0.0
    """Share of every message that the layer above does not hear while it learns; for small data sets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How gradients become updates: AdamW, a linear warm-up and a cosine, clipping."""

    lr: float = 3e-3
    """Learning rate after the warm-up; it then falls along a cosine to 5 %."""
    weight_decay: float = 0.01
    """Decay of the weight matrices (AdamW); biases and scales never decay."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's averaging constants of gradient and squared gradient."""
    warmup: int = 50
    """Updates over which the learning rate rises linearly."""
    clip: float = 1.0
    """Largest gradient norm, of each layer for the local rule and of the stack for bptt; 0 never clips."""
    steps: int = 360
    """Updates in all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: how data is read, where it is computed, what is written."""

    chunk: int = 128
    """Time steps between two updates."""
    batch: int = 32
    """Sequences read side by side."""
    seed: int = 0
    """Seed of the initial weights."""
    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the matrix products; states, traces, gradients and weights are float32 in both."""
    parallel: Literal["none", "data", "layers"] = "none"
    """Under torchrun: `data` gives every process a share of the batch, `layers` (credit layer) of the layers."""
    cuda_graph: bool | None = None
    """Replay the whole update as one CUDA graph; by default on a GPU."""
    log_every: int = 10
    """Updates between two rows of metrics."""
    evaluate_every: int = 100
    """Updates between two passes over the validation split; 0 evaluates at the end only."""
    checkpoint_every: int = 200
    """Updates between two checkpoints; 0 writes one at the end only (and one when interrupted)."""
    keep_last: int = 2
    """Checkpoints to keep."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too (needs the package tensorboard)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig, ModelConfig, OptimiserConfig, RunConfig):
    """Every choice of a training run; `TrainConfig()` is the default run.

    Raises UsageError for a value of the wrong type or range: the field, what was expected, what came.

    >>> TrainConfig(hidden=[64, 64], steps=100).hidden
    (64, 64)
    """

    rule: Literal["local", "bptt"] = "local"
    """`local`: every layer learns from errors near it; `bptt`: the same stack, trained end to end."""
    credit: Literal["layer", "top", "neighbour", "hierarchy", "cascade"] = "cascade"
    """Local rule: whose error a layer learns from."""
    hops: int | None = None
    """Local rule: how many layers credit crosses on its way down, in place of `credit`; 0 is `top`, 1 `neighbour`."""
    trace: Literal["exact", "chunk", "none"] = "exact"
    """Local rule: eligibility carried across chunks, kept inside a chunk, or left out."""
    feedback: Literal["symmetric", "random"] = "symmetric"
    """Local rule: errors come back through the readout's transpose or through a fixed random matrix."""
    auxiliary: float = 0.0
    """bptt: weight of the lower levels' surprise in the loss."""
    gate_coordination: float = 0.0
    """Cell lstm: weight of the penalty on a layer's output gate and the next layer's input gate both being closed."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _typed(field.name, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        _check_ranges(self)
        _check_rule_options(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], origin: str) -> "TrainConfig":
        """The config with these values in place of defaults; `origin` (a file) begins every error message."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"{origin}: unknown setting '{key}'{nearest(key, known)}")
        try:
            return cls(**values)
        except UsageError as error:
            raise UsageError(f"{origin}: {error}") from None

    def as_mapping(self) -> dict[str, Any]:
        """JSON-able values by name; `from_mapping` reads them back."""
        return dataclasses.asdict(self)

    @property
    def rule_in_words(self) -> str:
        """The rule as pictures name it."""
        if self.rule == "bptt":
            return self.rule
        return f"{self.rule} ({self.credit if self.hops is None else f'hops {self.hops}'})"

    def stack_options(self) -> dict[str, Any]:
        """Keyword arguments of `PredictiveStack(observation, config.hidden, ...)`."""
        return {
            "cell": self.cell,
            "num_taps": self.num_taps,
            "dropout": self.dropout,
            "mixing": self.mixing,
            "normalize_errors": self.normalize_errors,
            "skip": self.skip,
            "top_down": self.top_down,
            "inference_steps": self.inference_steps,
        }

    def rule_options(self) -> dict[str, Any]:
        """Keyword arguments of `learning_rules.make(config.rule, ...)`."""
        if self.rule == "bptt":
            return {"auxiliary": self.auxiliary, "gate_coordination": self.gate_coordination}
        return {
            "credit": self.credit,
            "hops": self.hops,
            "trace": self.trace,
            "feedback": self.feedback,
            "seed": self.seed,
            "gate_coordination": self.gate_coordination,
        }


def read_toml(path: Path) -> TrainConfig:
    """The config of a TOML file of `name = value` lines; names it leaves out keep their defaults.

    Raises UsageError for a file that cannot be read or parsed, an unknown name (naming the nearest one) or a
    wrong value.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: expected a TOML file, but it cannot be read: {error.strerror}") from None
    except ValueError as error:  # bad TOML, or bytes that are not UTF-8
        raise UsageError(f"{path}: expected a TOML file: {error}") from None
    return TrainConfig.from_mapping({key.replace("-", "_"): item for key, item in values.items()}, str(path))


# What the weights, the carried state and the place in the data depend on: a run keeps these for life.
_FIXED_FOR_A_RUN = (
    "data", "tokens", "rule", "hidden", "cell", "num_taps", "mixing", "normalize_errors", "precision_weighting", "skip",
    "top_down", "inference_steps", "credit", "hops", "trace", "feedback", "auxiliary", "gate_coordination", "chunk",
    "batch", "seed",
)  # fmt: skip


def check_resumable(saved: TrainConfig, asked: TrainConfig) -> None:
    """Raises one CheckpointError that lists every setting a resumed run may not change."""
    changed = [
        f"  {name}: the run has {_shown(old)}, asked for {_shown(new)}"
        for name in _FIXED_FOR_A_RUN
        if (old := getattr(saved, name)) != (new := getattr(asked, name))
    ]
    if changed:
        raise CheckpointError(
            "a resumed run keeps its architecture, data and learning rule, but these differ:\n"
            + "\n".join(changed)
            + "\nleave these settings out to resume, or start a new run in another folder"
        )


def resolve_device(name: str) -> "torch.device":
    """The device behind `auto`, `cpu`, `cuda` or `cuda:N`; UsageError where it is not there."""
    import torch  # here, so that reading flags and files does not wait for it

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device: expected auto, cpu, cuda or cuda:N, got '{name}'") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device: expected auto, cpu, cuda or cuda:N, got '{name}'")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = "is built without CUDA" if torch.version.cuda is None else f"finds {count} CUDA devices"
        raise UsageError(f"device: expected {name} to exist, but this torch {found}; use auto or cpu")
    return device


def _typed(name: str, hint: Any, value: Any) -> Any:
    """`value` as `hint` asks for: a list becomes a tuple and a whole number a float, nothing else changes."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        expected = " or ".join(arguments)
        raise UsageError(f"{name}: expected {expected}, got {value!r}{nearest(str(value), arguments)}")
    if origin is UnionType:
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _typed(name, inner, value)
    if origin is tuple:
        any_length = Ellipsis in arguments
        if not isinstance(value, list | tuple) or not (any_length or len(value) == len(arguments)):
            expected = "a list of values" if any_length else f"a list of {len(arguments)} values"
            raise UsageError(f"{name}: expected {expected}, got {value!r}")
        return tuple(_typed(name, arguments[0], item) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    return value


_AT_LEAST = {
    "num_taps": 1, "inference_steps": 0, "hops": 0, "auxiliary": 0, "gate_coordination": 0, "chunk": 1, "batch": 1,
    "steps": 1, "weight_decay": 0, "warmup": 0, "clip": 0, "seed": 0, "log_every": 1, "evaluate_every": 0,
    "checkpoint_every": 0, "keep_last": 1,
}  # fmt: skip


def _check_ranges(config: TrainConfig) -> None:
    for name, least in _AT_LEAST.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= sys.maxsize:
            raise UsageError(f"{name}: expected at least {least}, got {value}")
    if not (0 < config.lr < math.inf):
        raise UsageError(f"lr: expected a number above 0, got {config.lr}")
    if not config.hidden or min(config.hidden) < 1:
        raise UsageError(f"hidden: expected one or more sizes of at least 1, got {_shown(config.hidden)}")
    try:
        connections.check(config.skip, config.hidden)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if config.top_down and len(config.hidden) < 2:
        raise UsageError(f"top_down: expected two layers or more to expect one another, got {len(config.hidden)}")
    if not 0 <= config.dropout < 1:
        raise UsageError(f"dropout: expected at least 0 and below 1, got {config.dropout}")
    if not all(0 <= beta < 1 for beta in config.betas):
        raise UsageError(f"betas: expected two numbers of at least 0 and below 1, got {_shown(config.betas)}")


_FORMER_DEFAULTS = {"credit": "neighbour"}  # stand in saved runs of either rule


def _check_rule_options(config: TrainConfig) -> None:
    """An option that the rule would ignore is a mistake: say so instead of ignoring it."""
    others = ("auxiliary",) if config.rule == "local" else ("credit", "hops", "trace", "feedback")
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for name in others:
        if getattr(config, name) not in (defaults[name], _FORMER_DEFAULTS.get(name, defaults[name])):
            owner = "bptt" if config.rule == "local" else "local"
            raise UsageError(f"{name}: expected only with rule {owner}, got rule {config.rule}; leave it out")
    if config.gate_coordination and (config.cell != "lstm" or len(config.hidden) < 2):
        raise UsageError(
            f"gate_coordination: expected only with two or more layers of cell lstm, got {len(config.hidden)} of cell "
            f"{config.cell}; leave it out"
        )


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
