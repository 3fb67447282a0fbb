"""What is timed by `step_cost`."""

from collections.abc import Callable
from typing import NamedTuple


class Timed(NamedTuple):
    """Something that learns at every step."""

    read: Callable[[int], object]  # so many steps
    parameters: int
