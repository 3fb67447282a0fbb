"""Whether the compiled engine can be had, and why not; asked without importing Numba."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcrnn.training.learner import Learner


def why_not_installed() -> str | None:
    """None where Numba is installed."""
    return None if importlib.util.find_spec("numba") else "numba is not installed; pip install 'pcrnn[online]'"


def why_not_compiled(learner: Learner) -> str | None:
    """What keeps a learner from the compiled engine; None where nothing does."""
    missing = why_not_installed()
    if missing is not None:
        return missing
    from pcrnn.streaming.compiled import obstacle

    return obstacle(learner)
