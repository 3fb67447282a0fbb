"""A trained stack as a folder to hand on: `config.json` and `model.safetensors`, as model hubs hold them.

    config.json         the stack's settings, its likelihood, how its data was read, the modules it needs imported
    model.safetensors   its weights and running variances

There is no optimiser, no carried state and no trace in it, and nothing is pickled: loading a stranger's folder runs
nothing. Of files it has the names and not the folders. To go on with a run, use its checkpoints.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from pcrnn import extensions
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import recipe
from pcrnn.runs.load import TrainedRun
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
    document = {
        "format": FORMAT,
        "library": "pcrnn",
        "imports": [Path(name).name if name.endswith(".py") else name for name in extensions.loaded()],
        **recipe.describe(run.stack),
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
    stack = parts.build()
    checkpoints.check_fits(stack.state_dict(), weights, str(path / MODEL))
    stack.load_state_dict(weights)
    return stack.eval()


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


def _parse_config(document: dict[str, Any], path: Path, shapes: Mapping[str, Sequence[int]]) -> recipe.Parts:
    try:
        return recipe.parse(document, str(path), shapes)
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from None


_DAMAGE = recipe.DAMAGE


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = str(error) if isinstance(error, PcrnnError) else repr(error)
    return CheckpointError(
        f"{path}: expected what pcrnn export writes, but reading it gave {reason}; export the run again"
    )


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
