"""Data files inside installed packages, found without importing the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pcrnn.errors import DataError


def in_package(package: str, path: str, name: str, install: str) -> Path:
    """A file or folder of an installed package.

    Args:
        package: as it is imported.
        name: what the data is called in the message.
        install: what to give to pip.

    Raises:
        DataError: it is not installed.
    """
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module without a spec stands in its place
        spec = None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (target := Path(folder) / path).exists():
            return target
    raise DataError(f"{name} need the package {install}, which is not installed; pip install {install}")
