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
        """Learn from one chunk, the tensors x on the device; every chunk's have the same shapes."""
        self.calls += 1
        if self.calls > WARM_UP and self.graph is None and self.captures:
            self._capture(x)
        if self.graph is None:
            self.update(*x)
            return
        copy_into(self.x, x)
        self.graph.replay()

    def _capture(self, x: tuple[Tensor, ...]) -> None:
        self.x = tuple(part.clone() for part in x)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph):
                self.update(*self.x)  # recorded, not run
        except RuntimeError as error:
            self.captures = False
            self.warn(f"no CUDA graph, going on without: {str(error).splitlines()[0]}")
            return
        self.graph = graph
