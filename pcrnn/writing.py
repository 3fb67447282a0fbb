"""Every file that pcrnn writes is written here: whole or not at all, or appended to, and never through a link.

A file is written under another name, synced to disk and renamed; a rename replaces a name and follows no link. What
stands in the way and is no file (a link, a pipe, a device) is refused, since a run folder may come from a stranger.
Only a file that a person names, as with `--out`, may be a link or a device: `follow=True`.

`tests/structure/test_writes.py` looks for writes anywhere else.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pcrnn.errors import UsageError

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # of POSIX and of Windows
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe waits for its reader
TEMPORARY = ".tmp-"
"""In the name of what is being written; what a killed process left has it, too."""


def write_file(path: Path, content: str | bytes, *, follow: bool = False) -> None:
    """Write a file, synced to disk; whoever reads it finds it whole, or as it was before.

    Args:
        path: in a folder that is there. A `str` is written as UTF-8.
        follow: for a name that a person has given: what a link points at is replaced, and a device or pipe written to.

    Raises UsageError where the disk refuses or the name belongs to something that is no file.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if follow and _is_stream(path):
            with path.open("wb") as stream:
                stream.write(data)
            return
        target = path.resolve() if follow else path
        refuse_others(target)
        temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            _write_synced(temporary, data)
            _rename(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from None


def write_folder(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write files as the folder `target`, which is there whole, synced to disk, or not at all.

    Raises OSError when the disk refuses; nothing half-written is left.
    """
    temporary = target.with_name(f"{target.name}{TEMPORARY}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        temporary.mkdir()
        for name, content in contents.items():
            _write_synced(temporary / name, content)
        _sync_folder(temporary)
        _put_in_place(temporary, target)
    finally:
        remove(temporary)


def require_place(folder: Path) -> None:
    """UsageError, with nothing made, where a folder is not there and cannot be made."""
    place = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"{folder}: expected a folder that can be written to, got one in {place}, which cannot be")


def make_folder(path: Path) -> None:
    """Make a folder, where it is not there; UsageError where the disk refuses or the name is no folder's."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def write_figure(path: Path, figure: Any, **options: Any) -> None:
    """Write a matplotlib figure in the format that the ending of `path` says; `options` are those of `savefig`."""
    import io

    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."), **options)
    write_file(path, drawn.getvalue())


def open_to_append(path: Path) -> IO[str]:
    """Open a text file to add to its end; UsageError where the disk refuses or the name is no file's."""
    return open(_opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8", newline="")


def open_lock(path: Path) -> IO[bytes]:
    """Open a file that is there to be locked; nothing is written to it. Raises what `open_to_append` does."""
    return open(_opened(path, os.O_RDWR | os.O_CREAT), "rb")


def summary_writer(folder: Path, last_step: int) -> Any:
    """TensorBoard's writer of event files, which drops what it has after `last_step`."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=last_step + 1)


def refuse_others(path: Path) -> None:
    """UsageError where something has this name that is no file, such as a link to one."""
    with suppress(FileNotFoundError):
        kind = os.lstat(path).st_mode
        if not stat.S_ISREG(kind):
            raise UsageError(
                f"{path}: expected a file or a free name to write to, got {_kind_in_words(kind)}; "
                "remove it or choose another name"
            )


def unwritable(path: Path, error: OSError) -> UsageError:
    """The error of a folder that the disk refuses to write to."""
    return UsageError(f"{path}: expected a folder that can be written to, got: {error.strerror or error}")


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, a file or a link, as far as the disk allows; a link leads nowhere."""
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_stream(path: Path) -> bool:
    """Whether a name leads to what is written to and not replaced: a device, a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _kind_in_words(mode: int) -> str:
    kinds = {stat.S_ISLNK: "a link", stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe"}
    return next((words for is_kind, words in kinds.items() if is_kind(mode)), "a device or socket")


def _opened(path: Path, flags: int) -> int:
    """A descriptor of a regular file, made if it is not there; whoever exchanges it meanwhile is noticed."""
    refuse_others(path)
    try:
        descriptor = _open(path, flags | _NO_WAIT)
    except OSError as error:
        raise unwritable(path.parent, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        refuse_others(path)
    return descriptor


def _open(path: Path, flags: int) -> int:
    """A descriptor, of a mode that the umask asks for; OSError where `path` is a link."""
    return os.open(path, flags | _NO_LINK, 0o666)


def _write_synced(path: Path, content: bytes) -> None:
    """Write a file that is not there yet."""
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename(temporary: Path, target: Path) -> None:
    temporary.replace(target)
    _sync_folder(target.parent)


def _sync_folder(path: Path) -> None:
    """Make renames and new names in a folder survive a power cut (a folder cannot be synced on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename; what has the name already (a checkpoint that was stepped over) moves aside first."""
    if os.path.lexists(target):
        aside = target.with_name(f"{target.name}.old-{os.getpid()}")
        target.rename(aside)
        temporary.rename(target)
        remove(aside)
    else:
        temporary.rename(target)
    _sync_folder(target.parent)
