"""The weights that a layer computes with, each read once a chunk, where some of them are made from other parameters.

Weight norm, spectral norm, an orthogonal map, a pruning mask, a hypernetwork: the matrix W that a layer reads is then
no parameter but a function of some, W = f(v), made anew (by spectral norm even as a step of an iteration) whenever it
is read. A rule knows the gradient in W; that in v follows by the chain rule, which autograd applies:

    dL/dv = (dL/dW) dW/dv

Both ways in which torch makes such weights are known: `torch.nn.utils.parametrize`, and the forward pre-hooks of
`torch.nn.utils.weight_norm`, `spectral_norm` and `prune`.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from learning_rules.rule import Hook
from pcrnn.nn.layer import PredictiveLayer
from pcrnn.nn.sensory import BaseRate
from pcrnn.nn.stack import PredictiveStack

_REMAKING = (WeightNorm, SpectralNorm, BasePruningMethod)  # forward pre-hooks that set a weight


def weights_of(layer: PredictiveLayer) -> list[Tensor]:
    """Every weight of a layer that a rule learns, as the layer reads it."""
    return [weight for module, name in _places(layer) if (weight := getattr(module, name)) is not None]


@contextmanager
def read_once(stack: PredictiveStack) -> Iterator[None]:
    """Inside the block every weight of a stack is one tensor, also where it is made from other parameters."""
    if are_plain(stack):
        yield
        return
    modules = [module for part in _parts(stack) for module, _ in _places(part)]
    with ExitStack() as exits:
        if any(parametrize.is_parametrized(module) for module in modules):
            exits.enter_context(parametrize.cached())
        for module in dict.fromkeys(modules):
            exits.enter_context(_remade_once(module))
        yield


@contextmanager
def passing_on(stack: PredictiveStack, on_grad_ready: Hook) -> Iterator[Hook]:
    """As `read_once`, for a rule that fills `.grad` itself: what it adds to a made weight's goes on to the parameters.

    Yields what the rule is to call with a layer whose gradients are complete: it passes them on, then calls
    `on_grad_ready`.
    """
    if are_plain(stack):
        yield on_grad_ready
        return
    with read_once(stack):
        made = {part: _made(part) for part in _parts(stack)}

        def ready(layer: PredictiveLayer) -> None:
            _pass_on(made.pop(layer))
            on_grad_ready(layer)

        yield ready
        for weights in made.values():
            _pass_on(weights)


def _parts(stack: PredictiveStack) -> list[nn.Module]:
    """The parts of a stack that have weights."""
    return [*stack.layers, *{level for level in (stack.sensory, stack.base) if isinstance(level, BaseRate)}]


def _places(part: nn.Module) -> list[tuple[nn.Module, str]]:
    """Where the weights of a part stand: a module and a name each."""
    if not isinstance(part, PredictiveLayer):
        return [(part, "eta")]
    own = ("weight", "bias", "predictor", "readout", "mixing", "top_down_weight")
    return [*((part, name) for name in own), *((part.cell, name) for name in ("recurrent", "recurrent_bias"))]


def are_plain(stack: PredictiveStack) -> bool:
    """Whether every weight is a parameter, or None."""
    places = (place for part in _parts(stack) for place in _places(part))
    return all(name in module._parameters or vars(module).get(name, module) is None for module, name in places)


def _made(part: nn.Module) -> list[Tensor]:
    """The weights of a part that are no parameters themselves, ready to take a gradient."""
    found = []
    for module, name in _places(part):
        if name in module._parameters:
            continue
        with torch.enable_grad():
            weight = getattr(module, name)
        if weight is not None and weight.requires_grad:
            weight.retain_grad()
            found.append(weight)
    return found


@torch.enable_grad()
def _pass_on(weights: Iterable[Tensor]) -> None:
    weights = [weight for weight in weights if weight.grad is not None]
    if weights:  # what several layers' weights are made from, a network perhaps, is gone through again
        torch.autograd.backward(weights, [weight.grad for weight in weights], retain_graph=True)


@contextmanager
def _remade_once(module: nn.Module) -> Iterator[None]:
    """Run the pre-hooks that set a weight of the module with autograd on, and leave them out inside the block."""
    hooks = {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, _REMAKING)}
    if not hooks:
        yield
        return
    before = list(module._forward_pre_hooks.items())
    with torch.enable_grad():
        for key, hook in hooks.items():
            hook(module, None)
            del module._forward_pre_hooks[key]
    try:
        yield
    finally:
        added = [item for item in module._forward_pre_hooks.items() if item not in before]
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update([*before, *added])
