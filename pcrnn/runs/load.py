"""A run read back from its folder, and a stack built from a run's settings and data."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcrnn import extensions
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.data import Source, open_beside, open_source
from pcrnn.errors import CheckpointError, DataError, UsageError
from pcrnn.memory import require_memory
from pcrnn.nn.observations import Bernoulli, Categorical, Observation, Poisson, RealObservation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import best
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.sizes import check_claims, count_weights
from pcrnn.tables import FAMILIES


class TrainedRun(NamedTuple):
    """A run as one of its checkpoints left it."""

    folder: runs.RunFolder
    config: TrainConfig
    source: Source
    stack: PredictiveStack
    step: int  # updates done
    checkpoint: Path
    valid: tuple[float, ...] | None  # mean surprise of every level on its validation split then, nats; if it was taken
    warnings: tuple[str, ...]

    def describe_checkpoint(self) -> str:
        """Which checkpoint it is, in a line: `checkpoint best: update 300 of 360, validation 1.604 bits/char`."""
        name = best.BEST if self.checkpoint.name.startswith(best.BEST) else self.checkpoint.name
        taken = f"checkpoint {name}: update {self.step} of {self.config.steps}"
        if self.valid is None:
            return taken
        return f"{taken}, validation {self.valid[-1] / self.source.nats_per_unit:.3f} {self.source.unit}"

    @property
    def trained_on(self) -> Source:
        """The run's own data, where `source` is another file too; DataError where it cannot be read."""
        own = self.source.trained_on if self.source.whole else self.source
        if own is None:
            raise DataError(
                f"{self.config.data}: expected the data that the run was trained on, which is needed beside "
                f"{self.source.name}, got none that can be read; put it back"
            )
        return own


def build_stack(config: TrainConfig, source: Source) -> PredictiveStack:
    """A new stack for this data; its weights come from torch's global generator.

    Raises UsageError, before anything is allocated, for one that the machine's memory cannot hold.
    """
    target = source.target()
    observation = observation_of(config, source)
    config = settled(config, observation, target)
    if target is not None and config.inference_steps:
        raise UsageError(
            f"inference_steps: expected 0 for {source.name}, whose labels are unknown when they are predicted, got "
            f"{config.inference_steps}; leave it out"
        )
    numbers = count_weights(config, observation.size, None if target is None else target.size, source.covariates)
    require_memory(numbers, torch.device("cpu"), "hidden")
    options = config.stack_options()
    return PredictiveStack(observation, config.hidden, target=target, covariates=source.covariates, **options)


def settled(
    config: TrainConfig, observation: Observation | type[Observation], target: Observation | type[Observation] | None
) -> TrainConfig:
    """The settings with the defaults of what a stack expects, the target if it has one, for those that are None."""
    return config.settled((observation if target is None else target).stack_defaults._asdict())


def observation_of(config: TrainConfig, source: Source) -> Observation:
    """A new observation model of a data set, as the settings have it.

    Raises UsageError for a family that does not take such data.
    """
    return as_configured(config, source.observation(), source.name)


def as_configured(config: TrainConfig, observation: Observation, name: str) -> Observation:
    """The observation model of the settings in place of the one that fits the data, whose name is `name`."""
    kind: type[Observation] = type(observation)
    if config.family != "auto":
        kind = FAMILIES[config.family]
        if isinstance(observation, Bernoulli):
            takes, which = issubclass(kind, Bernoulli), "one of zeros and ones"
        elif isinstance(observation, RealObservation):
            takes = not issubclass(kind, Bernoulli | Categorical | Poisson)  # what others take we do not know
            which = "one of real values"
        else:
            takes, which = False, f"auto, which is {type(observation).__name__},"
        if not takes:
            raise UsageError(f"family: expected {which} for {name}, got {config.family}; leave it out")
    if issubclass(kind, RealObservation):
        return kind(observation.size, half_life=config.half_life)
    return observation if kind is type(observation) else kind(observation.size)


def load_run(
    path: Path,
    *,
    checkpoint: str | int = best.BEST,
    data: str | None = None,
    options: Mapping[str, str] | None = None,
    source: Source | None = None,
    device: str = "auto",
) -> TrainedRun:
    """Open the run in the folder `path`, with its own data, another file beside it, or a source in memory.

    Args:
        checkpoint: `best` by its validation surprise (the newest of a run that was never evaluated), `newest`, or
            that of an update.
        source: of a run of `train(..., source=source)`, which has no file to find its data in, the same source.

        data: another file, read as the run's data was; all of it is evaluated (`open_beside`).
        options: of its kind, beside those in `data`.

    Raises CheckpointError for a folder without a checkpoint that can be loaded, or whose settings ask for more than its
    weights; DataError for the data.
    """
    folder = runs.existing(path)
    loaded = best.load(folder.checkpoints, checkpoint)
    notes: tuple[str, ...] = ()
    with extensions.required(recorded_imports(loaded)):
        config, state = read_documents(loaded)
        if data is not None:
            own, notes = _own_data(config, state)
            digest = str(loaded.checkpoint.documents["data"].get("sha256"))
            source = open_beside(data, state, digest, trained_on=own, options=options)
        source = source or open_source(config.data, tokens=config.tokens, state=state)
        check_loaded(loaded, config, source)
        stack = build_stack(config, source)
    checkpoints.check_fits(stack.state_dict(), loaded.checkpoint.weights, str(loaded.folder))
    stack.load_state_dict(loaded.checkpoint.weights)
    stack.to(resolve_device(device))
    warnings = (*loaded.warnings, *notes, *source.notes)
    step, valid = loaded.checkpoint.step, validation_of(loaded, len(config.hidden))
    return TrainedRun(folder, config, source, stack, step, loaded.folder, valid, warnings)


def check_loaded(loaded: checkpoints.Loaded, config: TrainConfig, source: Source) -> None:
    """Raise CheckpointError where settings and data ask for a larger stack than a checkpoint has the weights of."""
    shapes = {name: tensor.shape for name, tensor in loaded.checkpoint.weights.items()}
    target = source.target()
    sizes = {"target": None if target is None else target.size, "covariates": source.covariates}
    observation = observation_of(config, source)
    config = settled(config, observation, target)
    check_claims(config, observation.size, shapes, f"{loaded.folder}/config.json", **sizes)


def validation_of(loaded: checkpoints.Loaded, layers: int) -> tuple[float, ...] | None:
    """The validation surprises that a checkpoint has of its own weights."""
    progress = loaded.checkpoint.documents.get("progress")
    valid = progress.get("valid") if isinstance(progress, dict) else None
    if not isinstance(valid, list) or len(valid) != layers + 1:
        return None
    return tuple(valid) if all(type(nats) is float and math.isfinite(nats) for nats in valid) else None


def _own_data(config: TrainConfig, state: Mapping[str, Any]) -> tuple[Source | None, tuple[str, ...]]:
    """The data that a run was trained on or, where it cannot be read, a note that says why."""
    try:
        return open_source(config.data, tokens=config.tokens, state=state), ()
    except DataError as error:
        return None, (f"the run's own data cannot be read: {error}",)


def recorded_imports(loaded: checkpoints.Loaded) -> object:
    """The modules that were imported when a checkpoint was written, by its config.json; whatever stands there."""
    document = loaded.checkpoint.documents.get("config")
    return document.get("imports") if isinstance(document, dict) else None


def read_documents(loaded: checkpoints.Loaded) -> tuple[TrainConfig, dict]:
    """The settings and the data's state (its vocabulary or standardisation) in a checkpoint."""
    documents = loaded.checkpoint.documents
    try:
        config = TrainConfig.from_mapping(documents["config"]["settings"], f"{loaded.folder}/config.json")
        return config, dict(documents["data"]["state"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # UsageError is a ValueError
        raise CheckpointError(f"{loaded.folder}: expected settings and data in it, but {error}") from None
