"""A trained stack as a folder to hand on: `config.json` and `model.safetensors`, as model hubs hold them.

    config.json         the stack's settings, its likelihood, how its data was read, the modules it needs imported
    model.safetensors   its weights and running variances

There is no optimiser, no carried state and no trace in it, and nothing is pickled: loading a stranger's folder runs
nothing. Of files it has the names and not the folders. To go on with a run, use its checkpoints.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from pcrnn import extensions
from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.load import TrainedRun, settled
from pcrnn.runs.sizes import check_claims
from pcrnn.tables import FAMILIES
from pcrnn.writing import write_folder

FORMAT = 1
CONFIG, MODEL = "config.json", "model.safetensors"
_CONFIG_LIMIT = 1 << 26  # bytes; a vocabulary of all of Unicode takes a tenth


def export(run: TrainedRun, folder: Path) -> Path:
    """Write the stack of a run as a new folder; returns its path.

    Raises UsageError where the folder exists, CheckpointError where the disk refuses; nothing half-written is left.
    """
    if os.path.lexists(folder):
        raise UsageError(f"{folder}: expected the name of a new folder, got one that exists; choose another")
    target = run.source.target()
    document = {
        "format": FORMAT,
        "library": "pcrnn",
        "imports": [Path(name).name if name.endswith(".py") else name for name in extensions.loaded()],
        "observation": _as_document(run.stack.observation),
        "target": None if target is None else _as_document(target),
        "covariates": run.stack.covariates,
        "stack": {"hidden": list(run.stack.hidden_sizes), **run.config.stack_options()},
        "data": run.source.state(),
        "trained": {
            "settings": run.config.as_mapping() | {"data": Path(run.source.name).name},
            "updates": run.step,
        },
    }
    contents = {CONFIG: checkpoints.as_json(document), MODEL: checkpoints.packed(run.stack.state_dict())}
    try:
        write_folder(folder, contents)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the stack could not be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    return folder


def load(folder: str | Path) -> PredictiveStack:
    """The stack of a folder that `pcrnn export` wrote, on the CPU and in evaluation mode.

    A stack with a cell or a likelihood of a user's own needs the module that registers it imported before.

    Raises CheckpointError for a folder that is none, is damaged, or was written by a later version, and for settings
    that ask for more than the weights' file holds, before anything is allocated for them.

    >>> stack = load("my-model")  # doctest: +SKIP
    >>> expectation, state = stack(torch.zeros(1, 10, dtype=torch.long))  # doctest: +SKIP
    """
    path = Path(folder)
    document, shapes = _read_config(path / CONFIG), _shapes(path / MODEL)
    with extensions.required(document.get("imports")):
        parts = _parse_config(document, path / CONFIG, shapes)
    weights = _weights(path / MODEL)
    options = parts.config.stack_options()
    stack = PredictiveStack(
        parts.observation, parts.config.hidden, target=parts.target, covariates=parts.covariates, **options
    )
    checkpoints.check_fits(stack.state_dict(), weights, str(path / MODEL))
    stack.load_state_dict(weights)
    return stack.eval()


class _Parts(NamedTuple):
    """What a stack is built from."""

    observation: Observation
    target: Observation | None
    covariates: int
    config: TrainConfig


def _read_config(path: Path) -> dict[str, Any]:
    content = checkpoints.read_file(path, limit=_CONFIG_LIMIT)
    try:
        document = json.loads(content)
        if document["format"] > FORMAT:
            raise CheckpointError(
                f"{path}: expected format {FORMAT} or earlier, got {document['format']}; "
                "use the version of pcrnn that wrote it, or a newer one"
            )
        return document
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _parse_config(document: dict[str, Any], path: Path, shapes: Mapping[str, Sequence[int]]) -> _Parts:
    """The parts of a stack that is no larger than the file of its weights, whose tensors have these shapes."""
    try:
        recipe = _recipe(document["observation"])
        of_target = None if document.get("target") is None else _recipe(document["target"])
        covariates = _size(document.get("covariates", 0), at_least=0)
        config = TrainConfig.from_mapping(document["stack"], str(path))
        target_family = None if of_target is None else cast(type[Observation], of_target.func)
        config = settled(config, cast(type[Observation], recipe.func), target_family)
        target_size = None if of_target is None else of_target.args[0]
        check_claims(config, recipe.args[0], shapes, str(path), target=target_size, covariates=covariates)
        observation, target = recipe(), None if of_target is None else of_target()
        if covariates and observation.symbolic:
            raise ValueError(f"covariates {covariates}")
        return _Parts(observation, target, covariates, config)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None


_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error) if isinstance(error, PcrnnError) else repr(error)
    return CheckpointError(
        f"{path}: expected what pcrnn export writes, but reading it gave {reason}; export the run again"
    )


def _as_document(observation: Observation) -> dict[str, Any]:
    """UsageError for a likelihood that is not registered, since nobody could load it."""
    family = FAMILIES.name_of(type(observation))
    return {"family": family, "size": observation.size, "options": observation.options()}


def _recipe(document: dict[str, Any]) -> "partial[Observation]":
    """What makes an observation model of a size, when it is called: until then nothing is allocated for it."""
    family, options = FAMILIES[document["family"]], document["options"]
    for name, value in options.items():
        if not isinstance(value, bool | int | float | str | None):
            raise TypeError(f"option {name} {value!r}")
    return partial(family, _size(document["size"], at_least=1), **options)


def _size(number: object, *, at_least: int) -> int:
    if type(number) is not int or number < at_least:
        raise ValueError(f"size {number!r}, where a whole number of at least {at_least} belongs")
    return number


def _shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of a safetensors file's tensors, by its header, which is checked against the size of the file."""
    checkpoints.require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise _foreign(path, error) from None


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(checkpoints.read_file(path))
    except (SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _foreign(path, error) from None


def _foreign(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: expected a safetensors file, but reading it gave {error!r}")
