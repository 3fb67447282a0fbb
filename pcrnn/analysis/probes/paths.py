"""Gradient paths: the ways by which an error at the top layer reaches the bottom one within a step.

A path goes along edges of the stack's wiring, from a layer to one whose errors it receives. With adjacent connections
alone there is one. With connections over one layer too, a path into layer L comes from layer L - 1 or L - 2, so that
their number

    F(L) = F(L - 1) + F(L - 2),    F(1) = F(2) = 1

is the L-th Fibonacci number; with dense or residual connections it is 2^(L - 2).
"""

from functools import partial

import torch
from torch import Tensor

from pcrnn.nn.connections import Skip, blocks, source_levels
from pcrnn.nn.stack import PredictiveStack


def gradient_paths(depth: int, skip: Skip = "every-other") -> int:
    """The number of paths from the top of so many layers to the bottom one, by the wiring's table.

    Raises ValueError for less than one layer.
    """
    if depth < 1:
        raise ValueError(f"gradient_paths: expected at least 1 layer, got {depth}")
    wiring = blocks(skip, 1, (1,) * depth)
    return _count([[level - 1 for level in source_levels(message) if level] for message in wiring])


def counted_paths(stack: PredictiveStack) -> int:
    """The same number, counted by gradients through one step of a stack.

    There is an edge where a gradient in a layer's output reaches another's without passing a third one's.
    """
    eta = stack.base.eta
    x = torch.zeros(1, 1, dtype=torch.long)
    if not stack.observation.symbolic:  # not zero, at which gates may let no gradient pass
        x = torch.linspace(-1, 2, stack.observation.size + stack.covariates, dtype=eta.dtype).view(1, 1, -1)
    with torch.enable_grad():
        activity, _ = stack.observe(x.to(eta.device))
    outputs = [layer.output for layer in activity.layers]
    return _count([_edges(outputs, index) for index in range(len(outputs))])


def _count(edges: list[list[int]]) -> int:
    """Paths from the last node to node 0, where every node lists the lower ones it comes from."""
    paths = [1]
    for below in edges[1:]:
        paths.append(sum(paths[index] for index in below))
    return paths[-1]


def _edges(outputs: list[Tensor], index: int) -> list[int]:
    """The lower outputs that a gradient in one of them reaches where each of them lets none pass."""
    reached: list[int] = []

    def stop(lower: int, gradient: Tensor) -> Tensor:
        if gradient.any():
            reached.append(lower)
        return torch.zeros_like(gradient)

    if index:
        hooks = [outputs[lower].register_hook(partial(stop, lower)) for lower in range(index)]
        torch.autograd.grad(outputs[index].sum(), outputs[:index], retain_graph=True, allow_unused=True)
        for hook in hooks:
            hook.remove()
    return reached
