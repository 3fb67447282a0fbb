"""What a training run is made of: one frozen dataclass of groups of settings, checked when it is built.

Values come from three places, the later one winning: the defaults below, a TOML file, the command line.
Flags are generated from these classes (pcrnn/cli/settings.py), so the string below a field is its help text. The
options of a learning rule are fields of the rule (learning_rules/options.py); in files and flags they stand beside the
others: `--credit top`, `credit = "top"`.
"""

import dataclasses
import math
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pcrnn.errors import CheckpointError, UsageError, nearest
from pcrnn.tables import CELLS, FAMILIES, RULES, options_of
from pcrnn.validation import (
    AT_LEAST_0,
    AT_LEAST_1,
    POSITIVE,
    SEED,
    SIZES,
    OneOf,
    Range,
    as_flag,
    check,
    check_widths,
    checked,
    field_types,
)

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


class _Families(Collection[str]):
    """Names of --family: those of the table, and `auto`."""

    def __contains__(self, name: object) -> bool:
        return name == "auto" or name in FAMILIES

    def __iter__(self) -> Iterator[str]:
        yield from ("auto", *FAMILIES)

    def __len__(self) -> int:
        return 1 + len(FAMILIES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The stack."""

    hidden: Annotated[tuple[int, ...], SIZES] = (256, 256, 256)
    """Units of each layer, bottom first."""
    cell: Annotated[str, OneOf(CELLS)] = "gated"
    """Of every layer; the local rule is exact in time for `gated` and `rotating`, e-prop for the others."""
    num_taps: Annotated[int | None, AT_LEAST_1] = None
    """How many of the last messages a layer's gates read; by default 2, of real values 1."""
    mixing: bool | None = None
    """Let the units of a layer interact within a step, through a gated linear unit; by default of real values only."""
    max_time_constant: Annotated[
        float | None, Range(at_least=1, at_most=math.inf, words="a number of steps of at least 1")
    ] = None
    """Longest time constant of a new layer's units, in steps; they are spread between 1 and this; by default 64, of
    real values 2."""
    normalize_errors: bool = True
    """Send prediction errors up in units of the spread of the data: the running deviation from its base rate."""
    half_life: Annotated[float, POSITIVE] = 64.0
    """Steps after which an error counts half in running statistics: precisions, the unit of errors."""
    family: Annotated[str, OneOf(_Families())] = "auto"
    """Likelihood of real values: `auto` for the one that fits the data, `gaussian`, `student-t` (heavy tails)."""
    skip: Literal["none", "residual", "dense", "every-other"] = "none"
    """What a layer receives besides the level right below: the state errors of all below, added to that one's; all
    levels below; or the level two below. It takes three layers or more (residual), or two."""
    top_down: bool = False
    """Let each layer predict the layer below, one step late: only what neither of them explains goes up."""
    inference_steps: Annotated[int, AT_LEAST_0] = 0
    """How often each state is refined by the current observation before it predicts the next; 0 never."""
    dropout: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Share of every message that is dropped during training; for small data sets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleConfig:
    """How the stack learns."""

    rule: Annotated[str, OneOf(RULES)] = "local"
    """`local`: every layer learns from errors near it; `bptt`: the same stack, trained end to end."""
    rule_options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    """Options of the rule by name; those left out get their defaults."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How gradients become updates: AdamW, a linear warm-up and a cosine, clipping."""

    lr: Annotated[float, Range(above=0, at_most=math.inf, words="a number above 0")] = 3e-3
    """Learning rate after the warm-up; it then falls along a cosine to 5 %."""
    weight_decay: Annotated[float, AT_LEAST_0] = 0.01
    """Decay of the weight matrices (AdamW); biases and scales never decay."""
    betas: Annotated[tuple[float, float], Range(at_least=0, below=1, words="two numbers of at least 0 and below 1")] = (
        0.9,
        0.99,
    )
    """AdamW's averaging constants of gradient and squared gradient."""
    warmup: Annotated[int, AT_LEAST_0] = 50
    """Updates over which the learning rate rises linearly."""
    clip: Annotated[float, AT_LEAST_0] = 1.0
    """Largest gradient norm, of each layer for the local rule and of the stack for bptt; 0 never clips."""
    steps: Annotated[int, AT_LEAST_1] = 360
    """Updates in all; a resumed run that is made longer stays at the learning rate that it ended with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: how data is read, where it is computed, what is written."""

    chunk: Annotated[int, AT_LEAST_1] = 128
    """Time steps between two updates."""
    batch: Annotated[int, AT_LEAST_1] = 32
    """Sequences read side by side."""
    seed: Annotated[int, SEED] = 0
    """Seed of the initial weights, and of what is drawn while learning."""
    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the matrix products; states, traces, gradients and weights are float32 in both."""
    parallel: Literal["none", "data", "layers"] = "none"
    """Under torchrun: `data` gives every process a share of the batch, `layers` (credit layer) of the layers."""
    cuda_graph: bool | None = None
    """Replay the whole update as one CUDA graph; by default on a GPU."""
    log_every: Annotated[int, AT_LEAST_1] = 10
    """Updates between two rows of metrics."""
    evaluate_every: Annotated[int, AT_LEAST_0] = 100
    """Updates between two passes over the validation split, of which the best is kept; 0 evaluates at the end only."""
    checkpoint_every: Annotated[int, AT_LEAST_0] = 200
    """Updates between two checkpoints; 0 writes one at the end only (and one when interrupted)."""
    keep_last: Annotated[int, AT_LEAST_1] = 2
    """Checkpoints to keep, beside the best."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too (needs the package tensorboard)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(DataConfig, ModelConfig, RuleConfig, OptimiserConfig, RunConfig):
    """Every choice of a training run; `TrainConfig()` is the default run.

    Raises UsageError for a value of the wrong type or range: the field, what was expected, what it got.

    >>> config = TrainConfig(hidden=[64, 64], rule="local", rule_options={"credit": "top"})
    >>> config.hidden, config.rule_options["trace"]
    ((64, 64), 'exact')
    """

    def __post_init__(self) -> None:
        check(self)
        _check_stack(self)
        object.__setattr__(self, "rule_options", _checked_options(self))
        try:
            options = self.options
            resolved = {name: getattr(options, name) for name in rule_option_names(self.rule)}
            object.__setattr__(self, "rule_options", resolved)
            if check_stack := getattr(options, "check_stack", None):
                check_stack(self.cell, self.hidden)
        except ValueError as error:  # of a user's rule
            raise UsageError(str(error)) from None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], origin: str = "") -> "TrainConfig":
        """The config with these values, rule options among them, in place of defaults.

        `origin` (a file) begins every error message.

        >>> TrainConfig.from_mapping({"rule": "bptt", "auxiliary": 0.5}).rule_options["auxiliary"]
        0.5
        """
        prefix = f"{origin}: " if origin else ""
        if isinstance(rule := values.get("rule", "local"), str):
            OneOf(RULES).check(f"{prefix}rule", rule)  # before options of a rule that is not there
        options = {name for rule in RULES for name in rule_option_names(rule)}
        known = [*_SETTINGS, *options]
        for key in values:
            if key not in known:
                raise UsageError(f"{prefix}unknown setting '{key}'{nearest(key, known)}")
        settings = {name: value for name, value in values.items() if name in _SETTINGS}
        of_rule = {name: value for name, value in values.items() if name not in _SETTINGS}
        try:
            return cls(**settings, rule_options=of_rule)
        except UsageError as error:
            raise UsageError(f"{prefix}{error}") from None

    def settled(self, defaults: Mapping[str, Any]) -> "TrainConfig":
        """With these in place of settings that are None: those that are left to the family of what is expected."""
        return dataclasses.replace(self, **{n: value for n, value in defaults.items() if getattr(self, n) is None})

    def as_mapping(self) -> dict[str, Any]:
        """JSON-able values by name, rule options among them; `from_mapping` reads them back."""
        return {name: getattr(self, name) for name in _SETTINGS} | dict(self.rule_options)

    def updated(self, **values: Any) -> "TrainConfig":
        """A copy with some values, rule options among them, in place of this one's; another rule has its own options.

        An option that stands in place of another, as `hops` of `credit`, replaces that one, too.

        >>> TrainConfig().updated(credit="top", lr=1.0).updated(rule="bptt").lr
        1.0
        >>> TrainConfig().updated(hops=1).rule_in_words
        'local (hops 1)'
        """
        before = self.as_mapping()
        in_place_of = getattr(options_of(self.rule), "in_place_of", {})
        replaced = {in_place_of.get(name) for name, value in values.items() if value is not None}
        before = {name: value for name, value in before.items() if name not in replaced}
        if values.get("rule", self.rule) != self.rule:
            before = {name: value for name, value in before.items() if name in _SETTINGS}
        return TrainConfig.from_mapping(before | values)

    @property
    def options(self) -> Any:
        """The rule's options as the dataclass that has them (for a user's rule, the rule)."""
        return options_of(self.rule)(**self.rule_arguments())

    def rule_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `learning_rules.make(config.rule, ...)`: its options, and settings it shares (seed)."""
        shared = [name for name in field_types(options_of(self.rule)) if name in _SETTINGS]
        return {**self.rule_options, **{name: getattr(self, name) for name in shared}}

    @property
    def rule_in_words(self) -> str:
        """The rule as pictures name it."""
        label = getattr(self.options, "label", "")
        return f"{self.rule} ({label})" if label else self.rule

    @property
    def calibrated(self) -> bool:
        """Whether every level learns to predict the next observation itself, and not only the top."""
        return len(self.hidden) == 1 or bool(getattr(self.options, "calibrated", False))

    def stack_options(self) -> dict[str, Any]:
        """Keyword arguments of `PredictiveStack(observation, config.hidden, ...)`."""
        return {
            "cell": self.cell,
            "num_taps": self.num_taps,
            "max_time_constant": self.max_time_constant,
            "dropout": self.dropout,
            "mixing": self.mixing,
            "normalize_errors": self.normalize_errors,
            "half_life": self.half_life,
            "skip": self.skip,
            "top_down": self.top_down,
            "inference_steps": self.inference_steps,
        }


_SETTINGS = tuple(field.name for field in dataclasses.fields(TrainConfig) if field.name != "rule_options")


def rule_option_names(rule: str) -> list[str]:
    """The options of a rule: its fields but for those that are settings of every run (the seed)."""
    return [name for name in field_types(options_of(rule)) if name not in _SETTINGS]


def _checked_options(config: TrainConfig) -> dict[str, Any]:
    """The given options of the config's rule; UsageError for one that it does not have or of a wrong type or range."""
    names, kind, given = rule_option_names(config.rule), options_of(config.rule), config.rule_options
    for name in given:
        if name not in names:
            _refuse_option(name, config.rule)
    for field in dataclasses.fields(kind):
        if field.name in names and field.name not in given and _is_required(field):
            raise UsageError(f"{field.name}: expected a value, which rule {config.rule} needs, got none")
    types = field_types(kind)
    return {name: checked(name, types[name], value) for name, value in given.items()}


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _refuse_option(name: str, rule: str) -> None:
    """An option that the rule would ignore is a mistake: say so instead of ignoring it."""
    owners = [other for other in RULES if name in rule_option_names(other)]
    if owners:
        raise UsageError(f"{name}: expected only with rule {' or '.join(owners)}, got rule {rule}; leave it out")
    known = rule_option_names(rule)
    offered = f"an option of rule {rule} ({', '.join(known)})" if known else f"no option, rule {rule} has none"
    raise UsageError(f"rule_options: expected {offered}, got {name!r}{nearest(name, known)}")


LAYERS_TO_SKIP = {"none": 1, "dense": 2, "every-other": 2, "residual": 3}
"""From how many layers on a skip connection adds anything; residual ones add eps[l-2] to eps[l-1], from layer 3 on."""


def _check_stack(config: TrainConfig) -> None:
    check_widths(config.skip, config.hidden)
    if len(config.hidden) < (least := LAYERS_TO_SKIP[config.skip]):
        raise UsageError(
            f"skip: expected {least} layers or more for {config.skip}, which adds nothing to fewer, got "
            f"{len(config.hidden)}; leave it out"
        )
    if config.top_down and len(config.hidden) < 2:
        raise UsageError(f"top_down: expected two layers or more to expect one another, got {len(config.hidden)}")


def read_toml(path: Path) -> TrainConfig:
    """The config of a TOML file; names it leaves out keep their defaults.

    Raises UsageError for a file that cannot be read or parsed, an unknown name (naming the nearest one) or a wrong
    value.
    """
    return TrainConfig.from_mapping(toml_values(path), str(path))


def toml_values(path: Path) -> dict[str, Any]:
    """The `name = value` lines of a TOML file.

    Raises UsageError for a file that cannot be read or parsed.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: expected a TOML file, but it cannot be read: {error.strerror}") from None
    except ValueError as error:  # bad TOML, or bytes that are not UTF-8
        raise UsageError(f"{path}: expected a TOML file: {error}") from None
    return {key.replace("-", "_"): item for key, item in values.items()}


# May be changed when a run is resumed; the others decide weights, carried state and the place in the data.
_FREE = {field.name for group in (OptimiserConfig, RunConfig) for field in dataclasses.fields(group)}
_FREE = (_FREE | {"dropout"}) - {"chunk", "batch", "seed"}


def check_resumable(saved: TrainConfig, asked: TrainConfig) -> None:
    """Raises one CheckpointError that lists every setting a resumed run may not change."""
    old, new = saved.as_mapping(), asked.as_mapping()
    names: Iterable[str] = dict.fromkeys([*old, *new])
    changed = [
        f"  {name}: the run has {as_flag(old.get(name))}, asked for {as_flag(new.get(name))}"
        for name in names
        if name not in _FREE and old.get(name) != new.get(name)
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
        state = "is built without CUDA" if torch.version.cuda is None else f"finds {count} CUDA devices"
        raise UsageError(f"device: expected {name} to exist, but this torch {state}; use auto or cpu")
    return device
