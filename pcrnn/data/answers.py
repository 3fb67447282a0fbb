"""What a data set answers when it is asked: small types that hold tensors and words.

Shapes: B sequences side by side, T steps, D channels, C covariates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Piece(NamedTuple):
    """Consecutive steps of B sequences side by side, at which a stack is evaluated."""

    observations: Tensor  # [B, T] symbols or [B, T, D + C]
    targets: Tensor | None  # what is expected after each step; None where the steps are context only
    mask: Tensor | None  # True where a target counts, [B, T]; None means everywhere
    restart: bool  # True at the front of the sequences, where the state is the initial one


class Excerpt(NamedTuple):
    """Consecutive steps of one sequence, at which a stack's surprise is shown."""

    observations: Tensor  # the steps of context, then its own: [T] symbols or [T, D + C]
    context: int  # how many steps of context there are
    start: int  # number of the first step of its own
    targets: Tensor | None  # the label that is asked for at each step, [T]; None where it is the next observation


class Track(NamedTuple):
    """How steps are drawn under the time axis: as symbols or as values."""

    symbols: Sequence[str] | None = None  # T characters
    values: np.ndarray | None = None  # [T, D], gaps interpolated
    names: tuple[str, ...] = ()  # of the D channels, if they have any
    roll: bool = False  # whether the values are a piano roll's zeros and ones
    film: tuple[int, int] | None = None  # height and width of frames whose pixels the values are


class Opening(NamedTuple):
    """The steps from which a stack continues by itself, and what becomes of the steps that it draws."""

    steps: Tensor  # [T] symbols or [T, D]
    render: Callable[[Tensor], str | bytes]  # drawn steps as a text, or as the content of a file
    text: str | None = None  # the steps as a text; None where drawn steps become a file
    suffix: str = ""  # of that file's name
