"""A trained stack as a folder to hand on: `config.json` and `model.safetensors`, as model hubs hold them.

    config.json         the stack's settings, the family it observes, how its data was read, the versions it was made by
    model.safetensors   its weights and running variances

There is no optimiser, no carried state and no trace in it, and nothing is pickled: loading a stranger's folder runs
nothing. To go on with a run, use its checkpoints.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.memory import require_memory
from pcrnn.nn import observations
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.sizes import count_weights

if TYPE_CHECKING:
    from pcrnn.runs.load import TrainedRun

FORMAT = 1
CONFIG, MODEL = "config.json", "model.safetensors"
_CONFIG_LIMIT = 1 << 26  # bytes; a vocabulary of all of Unicode takes a tenth
_FAMILIES: dict[str, type[Observation]] = {
    family.family: family
    for family in (observations.Categorical, observations.Bernoulli, observations.Gaussian, observations.Poisson)
}


def export(run: "TrainedRun", folder: Path) -> Path:
    """Write the stack of a run as a new folder; returns its path.

    Raises UsageError where the folder exists, CheckpointError where the disk refuses; nothing half-written is left.
    """
    if folder.exists():
        raise UsageError(f"{folder}: expected the name of a new folder, got one that exists; choose another")
    observation = run.stack.observation
    weighting = {} if run.config.precision_weighting else {"weighted": False}
    target = run.source.target()
    document = {
        "format": FORMAT,
        "library": "pcrnn",
        "observation": {"family": observation.family, "size": observation.size, **weighting},
        "target": None if target is None else {"family": target.family, "size": target.size},
        "covariates": run.stack.covariates,
        "stack": {"hidden": list(run.stack.hidden_sizes), **run.config.stack_options()},
        "data": run.source.state(),
        "trained": {"settings": run.config.as_mapping(), "updates": run.step},
    }
    contents = {CONFIG: checkpoints.as_json(document), MODEL: checkpoints.packed(run.stack.state_dict())}
    try:
        checkpoints.write_folder(folder, contents)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the stack could not be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    return folder


def load(folder: str | Path) -> PredictiveStack:
    """The stack of a folder that `pcrnn export` wrote, on the CPU and in evaluation mode.

    Raises CheckpointError for a folder that is none, is damaged, or was written by a later version; UsageError for a
    stack that the machine's memory cannot hold.

    >>> stack = load("my-model")  # doctest: +SKIP
    >>> expectation, state = stack(torch.zeros(1, 10, dtype=torch.long))  # doctest: +SKIP
    """
    path = Path(folder)
    family, target, covariates, config = _described(path)
    weights = _weights(path / MODEL)
    numbers = count_weights(config, family.size, None if target is None else target.size, covariates)
    require_memory(numbers, torch.device("cpu"), f"{path / CONFIG}: hidden")
    stack = PredictiveStack(family, config.hidden, target=target, covariates=covariates, **config.stack_options())
    checkpoints.check_fits(stack.state_dict(), weights, str(path / MODEL))
    stack.load_state_dict(weights)
    return stack.eval()


def _described(path: Path) -> tuple[Observation, Observation | None, int, TrainConfig]:
    """The observation, the target, the number of covariates and the settings in a folder's config."""
    name = path / CONFIG
    content = checkpoints.read_file(name, limit=_CONFIG_LIMIT)
    try:
        document: dict[str, Any] = json.loads(content)
        if document["format"] > FORMAT:
            raise CheckpointError(
                f"{name}: expected format {FORMAT} or earlier, got {document['format']}; "
                "use the version of pcrnn that wrote it, or a newer one"
            )
        observation, stack = document["observation"], document["stack"]
        weighting = {} if observation.get("weighted", True) else {"weighted": False}
        family = _FAMILIES[observation["family"]](_whole(observation["size"]), **weighting)
        expected = document.get("target")
        target = None if expected is None else _FAMILIES[expected["family"]](_whole(expected["size"]))
        covariates = _whole(document.get("covariates", 0))
        if covariates < 0 or (covariates and family.symbolic):
            raise ValueError(f"covariates {covariates}")
        return family, target, covariates, TrainConfig.from_mapping(stack, str(name))
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{name}: expected what pcrnn export writes, but reading it gave {error!r}; export the run again"
        ) from None


def _whole(number: object) -> int:
    if type(number) is not int:
        raise TypeError(f"size {number!r}")
    return number


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(checkpoints.read_file(path))
    except (SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: expected a safetensors file, but reading it gave {error!r}") from None
