"""A run read back from its folder, and a stack built from a run's settings and data."""

from pathlib import Path
from typing import NamedTuple

import torch

from pcrnn import extensions
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.data import Source, open_source
from pcrnn.errors import CheckpointError, UsageError
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


def build_stack(config: TrainConfig, source: Source) -> PredictiveStack:
    """A new stack for this data; its weights come from torch's global generator.

    Raises UsageError, before anything is allocated, for one that the machine's memory cannot hold.
    """
    target = source.target()
    observation = weighted(config, source.observation(), target, source.name)
    if target is not None and config.inference_steps:
        raise UsageError(
            f"inference_steps: expected 0 for {source.name}, whose labels are unknown when they are predicted, got "
            f"{config.inference_steps}; leave it out"
        )
    numbers = count_weights(config, observation.size, None if target is None else target.size, source.covariates)
    require_memory(numbers, torch.device("cpu"), "hidden")
    options = config.stack_options()
    return PredictiveStack(observation, config.hidden, target=target, covariates=source.covariates, **options)


def weighted(config: TrainConfig, observation: Observation, target: Observation | None, name: str) -> Observation:
    """The observation with its errors weighted by its precisions, or not, as the settings have it.

    Raises UsageError where the setting would change nothing: for observations without precisions, and where a target is
    expected in their place, so that theirs are never learned. `name` is that of the data.
    """
    if config.precision_weighting:
        return observation
    options = observation.options()
    if "weighted" not in options or target is not None:
        why = "observations have no precisions" if target is None else "inputs are not what it learns to expect"
        raise UsageError(
            f"precision_weighting: expected true for {name}, whose {type(observation).__name__} {why}, got false; "
            "leave it out"
        )
    return type(observation)(observation.size, **options | {"weighted": False})


def load_run(path: Path, *, data: str | None = None, source: Source | None = None, device: str = "auto") -> TrainedRun:
    """Open the run in the folder `path`, with its own data, another file read the same way, or a source in memory.

    A run of `train(..., source=source)` has no file to find its data in: give it the same source.

    Raises CheckpointError for a folder without a checkpoint that can be loaded, DataError for the data.
    """
    folder = runs.existing(path)
    loaded = checkpoints.load_newest(folder.checkpoints)
    with extensions.required(recorded_imports(loaded)):
        config, state = read_documents(loaded)
        source = source or open_source(data or config.data, tokens=config.tokens, state=state)
        stack = build_stack(config, source)
    checkpoints.check_fits(stack.state_dict(), loaded.checkpoint.weights, str(loaded.folder))
    stack.load_state_dict(loaded.checkpoint.weights)
    stack.to(resolve_device(device))
    return TrainedRun(folder, config, source, stack, loaded.checkpoint.step, loaded.warnings)


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
