"""A user's own modules, whose cells, rules, likelihoods, readers and probes join the tables of `pcrnn.tables`.

`pcrnn --import MODULE ...` loads them before the flags are read. A run folder records their names and never loads
them by itself: a folder is data, and may come from a stranger.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pcrnn.errors import PcrnnError, UsageError

_loaded: list[str] = []


def load(module: str) -> None:
    """Import a module by its name (the working folder counts) or by the path of its .py file.

    Raises UsageError that names the module and what went wrong.
    """
    path = Path(module).resolve()
    by_path = path.suffix == ".py"
    folder = str(path.parent if by_path else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        if by_path:
            _import_file(path)
        else:
            importlib.import_module(module)
    except Exception as error:  # the module may raise anything
        raise UsageError(
            f"--import {module}: expected a module or a .py file that can be imported, got "
            f"{type(error).__name__}: {error}"
        ) from error
    recorded = str(path) if by_path else module
    if recorded not in _loaded:
        _loaded.append(recorded)


def _import_file(path: Path) -> None:
    """Import a file under its own name, as `import` does where its folder is searched first."""
    if path.stem in sys.modules:
        known = sys.modules[path.stem].__file__
        if known is None or Path(known).resolve() != path:
            raise ImportError(f"a file with the name of the module {path.stem}, which is loaded already; rename it")
        return
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # as for every .py
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def loaded() -> list[str]:
    """The modules loaded so far: names, and absolute paths of files."""
    return list(_loaded)


@contextmanager
def required(modules: object) -> Iterator[None]:
    """Inside the block, an error ends with the modules that a run or an export was made with and that are missing."""
    try:
        yield
    except PcrnnError as error:
        missing = _missing(modules)
        if not missing:
            raise
        flags = " ".join(f"--import {name}" for name in missing)
        raise type(error)(f"{error}; it was made with `pcrnn {flags} ...`: pass --import again") from None


def _missing(modules: object) -> Sequence[str]:
    names = [name for name in modules if isinstance(name, str)] if isinstance(modules, list) else []
    return [name for name in names if name not in _loaded and _module_name(name) not in sys.modules]


def _module_name(recorded: str) -> str:
    return Path(recorded).stem if recorded.endswith(".py") else recorded
