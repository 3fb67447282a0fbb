"""A run read back from its folder, and a stack built from a run's settings and data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcrnn import extensions
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.data import Source, open_beside, open_source
from pcrnn.errors import CheckpointError, DataError, UsageError
from pcrnn.memory import require_memory
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.sizes import count_weights


class TrainedRun(NamedTuple):
    """A run as its newest good checkpoint left it."""

    folder: runs.RunFolder
    config: TrainConfig
    source: Source
    stack: PredictiveStack
    step: int  # updates done
    warnings: tuple[str, ...]

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
    observation, target = _observation(config, source), source.target()
    if target is not None and config.inference_steps:
        raise UsageError(
            f"inference_steps: expected 0 for {source.name}, whose labels are unknown when they are predicted, got "
            f"{config.inference_steps}; leave it out"
        )
    numbers = count_weights(config, observation.size, None if target is None else target.size, source.covariates)
    require_memory(numbers, torch.device("cpu"), "hidden")
    options = config.stack_options()
    return PredictiveStack(observation, config.hidden, target=target, covariates=source.covariates, **options)


def _observation(config: TrainConfig, source: Source) -> Observation:
    observation = source.observation()
    if config.precision_weighting:
        return observation
    options = observation.options()
    if "weighted" not in options:
        raise UsageError(
            f"precision_weighting: expected true for {source.name}, whose {type(observation).__name__} "
            "observations have no precisions, got false; leave it out"
        )
    return type(observation)(observation.size, **options | {"weighted": False})


def load_run(
    path: Path,
    *,
    data: str | None = None,
    options: Mapping[str, str] | None = None,
    source: Source | None = None,
    device: str = "auto",
) -> TrainedRun:
    """Open the run in the folder `path`, with its own data, another file beside it, or a source in memory.

    A run of `train(..., source=source)` has no file to find its data in: give it the same source.

    Args:
        data: another file, read as the run's data was; all of it is evaluated (`open_beside`).
        options: of its kind, beside those in `data`.

    Raises CheckpointError for a folder without a checkpoint that can be loaded, DataError for the data.
    """
    folder = runs.existing(path)
    loaded = checkpoints.load_newest(folder.checkpoints)
    notes: tuple[str, ...] = ()
    with extensions.required(recorded_imports(loaded)):
        config, state = read_documents(loaded)
        if data is not None:
            own, notes = _own_data(config, state)
            digest = str(loaded.checkpoint.documents["data"].get("sha256"))
            source = open_beside(data, state, digest, trained_on=own, options=options)
        source = source or open_source(config.data, tokens=config.tokens, state=state)
        stack = build_stack(config, source)
    checkpoints.check_fits(stack.state_dict(), loaded.checkpoint.weights, str(loaded.folder))
    stack.load_state_dict(loaded.checkpoint.weights)
    stack.to(resolve_device(device))
    warnings = (*loaded.warnings, *notes, *source.notes)
    return TrainedRun(folder, config, source, stack, loaded.checkpoint.step, warnings)


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
