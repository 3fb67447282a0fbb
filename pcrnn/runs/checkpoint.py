"""Checkpoints that are whole or absent, and that say so when they are not what they were.

A checkpoint is a folder `step_N`: two safetensors files (weights; every other tensor), JSON documents and,
written last, `manifest.json` with the size and SHA-256 of each. It is written under another name, synced to
disk and then renamed, so a kill or a full disk at any moment leaves the one before as it was. Nothing is
pickled, so loading a stranger's checkpoint runs nothing.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pcrnn.errors import CheckpointError
from pcrnn.memory import machine_memory
from pcrnn.writing import remove, write_folder

FORMAT = 1
_WEIGHTS, _TRAINER, _MANIFEST = "weights.safetensors", "trainer.safetensors", "manifest.json"
_MANIFEST_LIMIT = 1 << 20  # bytes; a real one has under two thousand
# .old: moved aside while its successor takes its name
_STEP_FOLDER = re.compile(r"step_(\d{1,18})(\.old-\d+)?")
_FILE_NAME = re.compile(r"\w+\.(json|safetensors)")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped."""

    step: int  # updates done
    weights: dict[str, Tensor]  # the stack's state_dict
    trainer: dict[str, Tensor]  # optimiser, carried state and traces, random state
    documents: dict[str, Any]  # JSON-able, by file name without .json


class Loaded(NamedTuple):
    """A checkpoint, where it lay, and what a person should know about how it was chosen."""

    checkpoint: Checkpoint
    folder: Path
    warnings: tuple[str, ...]


def save(folder: Path, checkpoint: Checkpoint, keep_last: int = 1) -> Path:
    """Write `checkpoint` as `folder`/step_N, remove all but the newest `keep_last`, return its path.

    Raises CheckpointError when the disk refuses; earlier checkpoints stay and nothing half-written is left.
    """
    target = folder_of(folder, checkpoint.step)
    write(target, checkpoint)
    _prune(folder, target, keep_last)
    return target


def write(target: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` as the folder `target` and return that; raises what `save` does."""
    try:
        write_folder(target, _files(checkpoint))
    except OSError as error:
        raise CheckpointError(
            f"{target}: the checkpoint could not be written ({error.strerror or error}); earlier ones are "
            "untouched; free space or make the folder writable, then resume"
        ) from error
    return target


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` updates lies in the folder of checkpoints."""
    return folder / f"step_{step}"


def steps(folder: Path) -> list[int]:
    """The updates after which the checkpoints in `folder` were written, good or not, the newest first."""
    return [_step(path) for path in _newest_first(folder)]


def load(path: Path) -> Checkpoint:
    """Read the checkpoint folder `path`; every byte is checked against the manifest before it is parsed.

    Raises CheckpointError for a file that is missing, cut or altered, and for a later format.
    """
    manifest = _read_manifest(path)
    contents = {name: _read_verified(path / name, entry) for name, entry in manifest["files"].items()}
    try:  # what the manifest vouches for may still be a stranger's
        weights, trainer = (safetensors.torch.load(contents.pop(name)) for name in (_WEIGHTS, _TRAINER))
        documents = {Path(name).stem: json.loads(content) for name, content in contents.items()}
    except (KeyError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint of pcrnn, but parsing gave {error!r}") from None
    return Checkpoint(step=manifest["step"], weights=weights, trainer=trainer, documents=documents)


def load_newest(folder: Path) -> Loaded:
    """The newest checkpoint in `folder` that verifies, with a notice for each newer one that does not.

    Raises CheckpointError when there is none, or when the newest comes from a later version of pcrnn.
    """
    rejected: list[str] = []
    for path in _newest_first(folder):
        try:
            return Loaded(load(path), path, tuple(f"{why}; stepping back" for why in rejected))
        except LaterFormatError:
            raise
        except CheckpointError as error:
            rejected.append(str(error))
    if not rejected:
        raise CheckpointError(
            f"{folder}: expected a checkpoint that can be loaded, but no folder step_N is there; "
            f"pcrnn train --resume {folder.parent} begins the run at its first update"
        )
    why = "\n".join(rejected)
    raise CheckpointError(f"{folder}: expected a checkpoint that can be loaded, but\n{why}\nstart a new run")


class Verdict(NamedTuple):
    """What `verify` found out about one checkpoint folder."""

    folder: Path
    bytes: int  # of all files the manifest lists
    damage: str | None  # None where it is sound


def verify(folder: Path) -> list[Verdict]:
    """Read every checkpoint in `folder` as `load` does, newest first; a later format counts as damage."""
    return [verdict(path) for path in _newest_first(folder)]


def verdict(path: Path) -> Verdict:
    """Whether `load` can read the checkpoint folder `path`."""
    try:
        load(path)
        return Verdict(path, sum(entry["bytes"] for entry in _read_manifest(path)["files"].values()), None)
    except CheckpointError as error:
        return Verdict(path, 0, str(error))


class LaterFormatError(CheckpointError):
    """A checkpoint of a later version of pcrnn: not damaged, so not to be stepped over in silence."""


def check_fits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Raises one CheckpointError that lists every tensor whose presence, shape or dtype differs."""
    differences = [
        f"  {name}: expected {_looks(expected, name)}, found {_looks(found, name)}"
        for name in sorted(expected.keys() | found.keys())
        if _looks(expected, name) != _looks(found, name)
    ]
    if differences:
        raise CheckpointError(
            f"{what}: does not fit the stack and learning rule it is loaded into:\n"
            + "\n".join(differences)
            + "\nbuild them with the settings in the run's config.json"
        )


def _looks(tensors: Mapping[str, Tensor], name: str) -> str:
    if name not in tensors:
        return "nothing"
    return f"{list(tensors[name].shape)} {str(tensors[name].dtype).removeprefix('torch.')}"


def _files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint in the order in which they are written, the manifest last."""
    contents = {_WEIGHTS: packed(checkpoint.weights), _TRAINER: packed(checkpoint.trainer)}
    contents |= {f"{name}.json": as_json(document) for name, document in checkpoint.documents.items()}
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    return contents | {_MANIFEST: as_json(_manifest(checkpoint.step, entries))}


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors by name as a safetensors file."""
    # Cloned: safetensors refuses tensors that share memory, such as two views of one chunk.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain)


def as_json(document: Any) -> bytes:
    """A JSON document as the bytes of a file."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _prune(folder: Path, newest: Path, keep_last: int) -> None:
    """Remove older checkpoints, those that were stepped over, and what a killed process left half-written."""
    kept = [path for path in _newest_first(folder) if not path.suffix and _step(path) <= _step(newest)][:keep_last]
    for path in folder.glob("step_*"):
        if path not in kept:
            remove(path)


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step_*") if _STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda path: (-_step(path), path.name))  # one moved aside after its successor


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _manifest(step: int, files: dict[str, Any]) -> dict[str, Any]:
    body = {"format": FORMAT, "step": step, "files": files}
    return body | {"checksum": _checksum(body)}


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(as_json(body)).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    content = read_file(path / _MANIFEST, limit=_MANIFEST_LIMIT)
    try:
        manifest = json.loads(content)
        body = {key: value for key, value in manifest.items() if key != "checksum"}
        # Byte for byte as it would be written again, so that no altered byte passes for layout.
        sound = content == as_json(body | {"checksum": _checksum(body)})
        if sound and body["format"] > FORMAT:
            raise LaterFormatError(
                f"{path}: expected checkpoint format {FORMAT} or earlier, got {body['format']}; "
                "use the version of pcrnn that wrote it, or a newer one"
            )
        sound = sound and type(body["step"]) is int and all(map(_FILE_NAME.fullmatch, body["files"]))
        sound = sound and all(_is_entry(entry) for entry in body["files"].values())
    except LaterFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound, manifest = False, {}
    if not sound:
        raise CheckpointError(f"{path / _MANIFEST}: expected the manifest of a checkpoint, but it is damaged")
    return manifest


def _is_entry(entry: Mapping[str, Any]) -> bool:
    return type(entry["bytes"]) is int and isinstance(entry["sha256"], str)


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    content = read_file(path, limit=entry["bytes"])
    if len(content) != entry["bytes"]:
        raise CheckpointError(f"{path}: expected {entry['bytes']} bytes, got {len(content)}: the file is cut")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: expected the SHA-256 in {_MANIFEST}, got another: the file is damaged")
    return content


def read_file(path: Path, *, limit: int = sys.maxsize) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; nothing is allocated for a larger one."""
    require_file(path, limit=limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def require_file(path: Path, *, limit: int = sys.maxsize) -> None:
    """CheckpointError where a path is no regular file of at most `limit` bytes that fits into the machine's memory."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path}: expected a file, found none")
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    if size > (most := min(limit, machine_memory())):
        raise CheckpointError(f"{path}: expected at most {most} bytes, got {size}")


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: expected a file that can be read, got: {error.strerror}")
