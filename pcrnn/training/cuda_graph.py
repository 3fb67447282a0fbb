"""A whole update in one CUDA graph: launch overhead once, replayed for every chunk.

Fixed shapes are what makes it possible: every chunk has the same size, state and traces live in fixed places, and the
update never waits for the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pcrnn.trees import copy_into

WARM_UP = 3  # updates made as usual before the capture: lazy initialisation and autotuning happen in them


class GraphedUpdate:
    """Calls `update(*x)` as it is for the first chunks, then replays a CUDA graph of it.

    Args:
        update: works in place on tensors that stay where they are, and reads nothing from the host but `x`.
        warn: called, with one line, where the update cannot be captured; it then goes on without a graph.
    """

    def __init__(self, update: Callable[..., None], warn: Callable[[str], None]) -> None:
        self.update, self.warn = update, warn
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captures = True
        self.x: tuple[Tensor, ...] = ()

    def __call__(self, *x: Tensor) -> None:
        """Learn from one chunk, the tensors x on the device; ValueError where their shapes differ from the captured."""
        self.calls += 1
        if self.calls > WARM_UP and self.graph is None and self.captures:
            self._capture(x)
        if self.graph is None:
            self.update(*x)
            return
        captured, given = ([tuple(part.shape) for part in parts] for parts in (self.x, x))
        if captured != given:  # copying would broadcast
            raise ValueError(f"x: expected the shapes the graph was captured with, {captured}, got {given}")
        copy_into(self.x, x)
        self.graph.replay()

    def _capture(self, x: tuple[Tensor, ...]) -> None:
        self.x = tuple(part.clone() for part in x)
        try:
            self.graph = _captured(self.update, self.x)
        except RuntimeError as error:
            self.captures = False
            first = str(_first_cause(error)).strip() or type(error).__name__
            self.warn(f"no CUDA graph, going on without: {first.splitlines()[0]}")


def _captured(update: Callable[..., None], x: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
    """A graph of `update(*x)`, which is recorded, not run.

    Where that fails the process is left as it was: `torch.cuda.graph` itself stays on its capture stream when ending
    the capture fails, too, and leaves the random generator in a capture that nothing ends.
    """
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    stream = torch.cuda.current_stream()
    generator = torch.cuda.default_generators[stream.device_index]
    state = generator.clone_state()
    try:
        with torch.cuda.graph(graph):
            update(*x)
    except BaseException:
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(state)
        raise
    return graph


def _first_cause(error: BaseException) -> BaseException:
    """The error that was raised first: ending a broken capture raises one more, which says less."""
    while error.__context__ is not None:
        error = error.__context__
    return error
