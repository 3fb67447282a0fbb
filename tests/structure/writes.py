"""Writes to the disk, read from the sources without running them."""

import ast
from collections.abc import Iterator
from pathlib import Path

WRITER = "pcrnn/writing.py"
"""The one module that may write."""

_METHODS = {
    "write_text",
    "write_bytes",
    "touch",
    "symlink_to",
    "hardlink_to",
    "link_to",
    "savefig",
    "print_figure",
    "imsave",
    "tofile",
    "to_csv",
    "to_json",
    "to_parquet",
    "to_excel",
    "to_pickle",
    "save_file",
    "SummaryWriter",
    "NamedTemporaryFile",
    "mkstemp",
    "FileHandler",
    "memmap",
    "open_memmap",
    "write_table",
}
_FUNCTIONS = {
    *(f"{numpy}.{name}" for numpy in ("np", "numpy") for name in ("save", "savez", "savez_compressed", "savetxt")),
    "torch.save",
    *(f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "move", "make_archive", "unpack_archive")),
    *(f"os.{name}" for name in ("rename", "replace", "link", "symlink", "truncate", "mkfifo", "mknod")),
}
_MODE_SECOND = {"open", "io.open", "gzip.open", "bz2.open", "lzma.open", "codecs.open", "tarfile.open"}
_MODE_SECOND |= {"ZipFile", "zipfile.ZipFile", "GzipFile", "gzip.GzipFile", "os.fdopen", "np.lib.format.open_memmap"}
_READING = {"r", "rb", "rt", "br", "U"}


def writes(root: Path, *packages: str) -> list[str]:
    """`file:line: call` for each call in the packages under `root` that writes, but for those of `WRITER`."""
    found = []
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            file = path.relative_to(root).as_posix()
            if file != WRITER:
                tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
                found += [f"{file}:{line}: {call}" for line, call in _calls(tree)]
    return found


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_write(node):
            yield node.lineno, ast.unparse(node.func)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:  # under a name of its own it could not be seen
                if f"{node.module}.{alias.name}" in _FUNCTIONS or (alias.asname and alias.name in _METHODS):
                    yield node.lineno, f"{node.module}.{alias.name}"


def _is_write(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if last in _METHODS or name in _FUNCTIONS:
        return True
    if name == "os.open":
        return not _is_harmless_open(call)
    if name in _MODE_SECOND:
        mode = _argument(call, 1, "mode")
        return _may_write(mode) or not isinstance(mode, ast.Constant | None)
    return last == "open" and _may_write(_argument(call, 0, "mode"))


def _is_harmless_open(call: ast.Call) -> bool:
    path, flags = (ast.unparse(argument) for argument in call.args[:2])
    return path == "os.devnull" or flags == "os.O_RDONLY"


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if len(call.args) > position else None


def _may_write(mode: ast.expr | None) -> bool:
    """Whether a mode is one that writes, or not written out; the first argument of another `open` may be no mode."""
    if mode is None:
        return False
    if not isinstance(mode, ast.Constant):
        return isinstance(mode, ast.IfExp | ast.JoinedStr) or ast.unparse(mode).endswith("mode")
    return isinstance(mode.value, str) and mode.value not in _READING and set(mode.value) <= set("rwxabt+U")
