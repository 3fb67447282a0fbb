"""Which levels' errors a layer receives: the connections of a stack.

    skip          layer l receives, nearest level first
    none          m[l-1]
    every-other   m[l-1], m[l-2]
    dense         m[l-1], m[l-2], ..., m[0]
    residual      pi e[l-1], and eps[l-1] + eps[l-2] + ... + eps[1]

where m[0] = pi e[0], with the covariates of a stack that has some, and m[l] = concat(pi e[l], eps[l]), without e[l]
where a target is learned. A residual connection adds a layer's input to its output. Of
the two prediction errors only the state error gains by one: an observation's error e[l] = e[l-1] + mu(eta[l-1]) -
mu(eta[l]) is what arrived minus what the layer explained already, since expectations add. So the state error that goes
up is the layer's own plus the one it received.

An edge is a level whose errors stand in a layer's message, alone or in a sum; the hops of the local rule
count edges. Sources: He et al. (2016) for residual, Huang et al. (2017) for dense connections.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pcrnn.validation import check_widths

Skip = Literal["none", "residual", "dense", "every-other"]


class Block(NamedTuple):
    """Neighbouring columns of a message: covariates, or one kind of error, summed over the levels it comes from."""

    part: Literal["error", "state_error", "covariates"]
    levels: tuple[int, ...]  # 0 is the sensory level, l is layer l
    width: int


def blocks(
    skip: Skip, observed: int, hidden_sizes: Sequence[int], *, errors_rise: bool = True, covariates: int = 0
) -> tuple[tuple[Block, ...], ...]:
    """What the message of every layer is made of, bottom first.

    Args:
        observed: natural parameters of an observation.
        errors_rise: whether layers send their expectation's errors up; not where they expect a target.
        covariates: numbers of a step that are known beforehand, which are sent up beside the sensory level's error.

    Raises ValueError as `check` does.
    """
    check(skip, hidden_sizes)

    def sent(level: int) -> list[Block]:
        if level == 0:
            return [Block("error", (0,), observed)] + ([Block("covariates", (0,), covariates)] if covariates else [])
        error = [Block("error", (level,), observed)] if errors_rise else []
        return [*error, Block("state_error", (level,), hidden_sizes[level - 1])]

    def received(below: int) -> list[Block]:
        """The blocks of the layer right above level `below`."""
        if skip == "residual" and below:
            *error, last = sent(below)
            return [*error, last._replace(levels=tuple(range(below, 0, -1)))]
        lowest = {"every-other": max(below - 1, 0), "dense": 0}.get(skip, below)
        return [block for level in range(below, lowest - 1, -1) for block in sent(level)]

    return tuple(tuple(received(below)) for below in range(len(hidden_sizes)))


def check(skip: str, hidden_sizes: Sequence[int]) -> None:
    """Raise ValueError for an unknown skip, and for residual layers of unequal width."""
    if skip not in Skip.__args__:
        raise ValueError(f"skip must be one of {', '.join(Skip.__args__)}; got {skip!r}")
    check_widths(skip, hidden_sizes)


def width(message: Sequence[Block]) -> int:
    """Columns of a message, M."""
    return sum(block.width for block in message)


def source_levels(message: Sequence[Block]) -> list[int]:
    """The levels a message comes from, nearest first."""
    return sorted({level for block in message for level in block.levels}, reverse=True)


def lowest_sources(messages: Sequence[Sequence[Block]]) -> list[int]:
    """For every number of layers that have run, 0 to L, the lowest level whose message one of the others reads."""
    lowest = [len(messages)]
    for blocks in reversed(messages):
        lowest.append(min(lowest[-1], *source_levels(blocks)))
    return lowest[::-1]
