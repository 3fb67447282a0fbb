"""Gradient paths: the ways by which an error at the top layer reaches the bottom one within a step.

A path goes along edges of the stack's wiring, from a layer to one that it hears. With adjacent connections alone there
is one. With connections over one layer too, a path into layer L comes from layer L - 1 or L - 2, so that their number

    F(L) = F(L - 1) + F(L - 2),    F(1) = F(2) = 1

is the L-th Fibonacci number; with dense or residual connections it is 2^(L - 2).
"""

from typing import Any

import torch

from pcrnn.nn.connections import Skip, blocks, source_levels
from pcrnn.nn.stack import PredictiveStack


def gradient_paths(depth: int, skip: Skip = "every-other") -> int:
    """The number of paths from the top of so many layers to the bottom one, by the wiring's table.

    Raises ValueError for less than one layer.
    """
    if depth < 1:
        raise ValueError(f"gradient_paths: expected at least 1 layer, got {depth}")
    wiring = blocks(skip, 1, (1,) * depth)
    return _count([[level - 1 for level in source_levels(heard) if level] for heard in wiring])


def counted_paths(stack: PredictiveStack) -> int:
    """The same number, counted on the graph that autograd records while the stack observes one step.

    An edge is there where a walk back from a layer's output meets another's before any third one's. What a layer
    computes inside, with however many nodes, is no path of its own.
    """
    observation = stack.observation
    step = (1, 1) if observation.symbolic else (1, 1, observation.size + stack.covariates)
    dtype = torch.long if observation.symbolic else stack.base.eta.dtype
    with torch.enable_grad():
        activity, _ = stack.observe(torch.zeros(step, dtype=dtype, device=stack.base.eta.device))
    nodes = [layer.output.grad_fn for layer in activity.layers]
    return _count([_met(node, {other: index for index, other in enumerate(nodes)}) for node in nodes])


def _count(edges: list[list[int]]) -> int:
    """Paths from the last node to node 0, where every node lists the lower ones it comes from."""
    paths = [1]
    for below in edges[1:]:
        paths.append(sum(paths[index] for index in below))
    return paths[-1]


def _met(start: Any, marked: dict[Any, int]) -> list[int]:
    """The marked nodes of an autograd graph that a walk from `start` meets first."""
    waiting, seen, met = [start], {start}, []
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None or node in seen or _is_empty(node):
                continue
            seen.add(node)
            if node in marked:
                met.append(marked[node])
            else:
                waiting.append(node)
    return met


def _is_empty(node: Any) -> bool:
    """Whether no number passes a node: of a chunk of one step, the expectations formed before its last one are none."""
    return all(0 in output.shape for output in node._input_metadata)
