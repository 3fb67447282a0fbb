"""Loops over single numbers, compiled where Numba is installed: figures of time are then of the arithmetic."""

import importlib.util
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Decorator: the function, compiled by Numba at its first call; without Numba as it is."""
    if importlib.util.find_spec("numba") is None:
        return function
    import numba

    compile_at_first_call: Any = numba.njit
    return compile_at_first_call(function)
