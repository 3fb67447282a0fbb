"""Predictive layers that learn by their own rule inside another model, whose other parts use backprop.

The layer learns in the backward pass, like every other part: it computes its local gradient while it runs forward, and
hands it to autograd when a gradient of its output arrives, whatever that gradient is. What follows backpropagation in
torch thus finds it in its place: `zero_grad` before or after the forward pass, hooks of parameters (with which
DistributedDataParallel sends gradients), checkpointing, accumulation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map

from learning_rules.grad_scale import current_scale, watch_scalers
from learning_rules.local import Local, LocalCarry
from learning_rules.rule import Result, wrap_as_stack
from learning_rules.weights import read_once, weights_of
from pcrnn.errors import InputError
from pcrnn.nn.activity import Chunk, StackState
from pcrnn.nn.inputs import check_tensor
from pcrnn.nn.layer import LayerState, PredictiveLayer
from pcrnn.nn.running_variance import PooledVariances
from pcrnn.nn.stack import PredictiveStack
from pcrnn.trees import portable


@portable
class LearningState(NamedTuple):
    """State of a layer that learns as it runs."""

    layer: LayerState
    carry: LocalCarry  # eligibility traces

    def detach(self) -> "LearningState":
        """The same state without an autograd graph."""
        return LearningState(self.layer.detach(), self.carry)

    @classmethod
    def of(cls, parts: Any) -> "LearningState":
        """A state from its parts in plain tuples; see `LayerState.of`. Raises InputError where they are no state."""
        if not (isinstance(parts, tuple | list) and len(parts) == 2 and isinstance(parts[1], tuple | list)):
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise InputError(
                f"LearnsLocally: expected a state of two parts, the layer's and its traces, got {got}; pass on what "
                "the module returned, or None to begin"
            )
        return cls(LayerState.of(parts[0]), LocalCarry.of(parts[1]))


class LearnsLocally(nn.Module):
    """A predictive layer that learns by its own rule in the backward pass and lets no gradient through.

    Called like the layer it holds: `output, state = module(x)`, x [B, T, M] or [T, M]. In training mode the layer
    learns to predict its next input (steps 1..T-1 have one; the last teaches nothing): when the backward pass of your
    loss reaches its output or its state, the parameters get the gradient of the layer's own loss, whatever gradient
    arrived. x gets none: nothing crosses the layer's border in either direction, so put it where a path beside it
    exists if modules below must learn too (a residual branch).

    Every call learns once for each backward pass through it, in the order of the states: the traces of a call begin
    where those in its `state` end. Running statistics (precisions, variances) move in the backward pass as well, once a
    call. Under `torch.amp.GradScaler` the local gradient carries the scale of the loss that was scaled.

    `last` is the Result of the latest forward pass in training mode. Its `loss`, the mean surprise of the next input in
    nats a step, belongs to the graph: where nothing depends on the output, `module.last.loss.backward()` learns; in a
    loss of your own its factor weighs the layer's gradient, which is 1 where it does not occur.

    Args:
        layer: the layer; its observation must be a family over its own input.
        rule: a local rule with credit `layer` (default exact traces).

    Raises ValueError for a layer that expects something else, TypeError for a rule that is not local.
    """

    last: Result | None

    def __init__(self, layer: PredictiveLayer, rule: Local | None = None) -> None:
        super().__init__()
        if layer.observation.symbolic or layer.observation.size != layer.input_size:
            raise ValueError(
                f"LearnsLocally: the layer must expect its own input ({layer.input_size} real values), its observation "
                f"is {type(layer.observation).__name__}({layer.observation.size}); use PredictiveLayer's default"
            )
        if rule is not None and not isinstance(rule, Local):
            raise TypeError(
                f"LearnsLocally: expected a Local rule, got {type(rule).__name__}; a layer that is to learn by "
                "backpropagation needs no rule, leave it as it is"
            )
        self.layer, self.rule, self.last = layer, rule or Local(credit="layer"), None
        watch_scalers()

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator; running statistics as at the start."""
        self.layer.reset_parameters()
        self.last = None

    def forward(self, x: Tensor, state: LearningState | None = None) -> tuple[Tensor, LearningState]:
        """Outputs r [B, T, N] or [T, N] and the state after the last step."""
        check_tensor(x, "LearnsLocally")
        x, state = x.detach(), None if state is None else LearningState.of(state)
        run: Any = self._learn if self.training else self._run
        if x.dim() != 2:
            return run(x, state)
        if state is not None:
            state = state._replace(layer=LayerState(*(part.unsqueeze(0) for part in state.layer)))
        output, (after, carry) = run(x.unsqueeze(0), state)
        return output.squeeze(0), LearningState(LayerState(*(part.squeeze(0) for part in after)), carry)

    @torch.no_grad()
    def _run(self, x: Tensor, state: LearningState | None) -> tuple[Tensor, LearningState]:
        """The plain layer; traces stay as they are."""
        before, carry = state or (None, LocalCarry((), ()))  # none where none are needed yet
        output, after = self.layer(x, before)
        return output, LearningState(after, carry)

    @torch.compiler.disable
    def _learn(self, x: Tensor, state: LearningState | None) -> tuple[Tensor, LearningState]:
        stack, _ = wrap_as_stack(self.layer, None)
        with read_once(stack):
            weights = weights_of(self.layer)
            for weight in weights:
                if weight.requires_grad and not weight.is_leaf:
                    weight.retain_grad()  # so that its `.grad` may be used, as a parameter's is
            local = _Pass(self, stack, x, state, weights)
            output, loss, *after = _LocalGradients.apply(local, *weights)  # type: ignore[misc]
        self.last = local.result._replace(loss=loss)
        return output, LearningState(LayerState(*after), local.carry)

    def __getstate__(self) -> dict[str, Any]:
        """Without `last`, whose graph can be neither copied nor pickled."""
        return self.__dict__ | {"last": None}


class _Pass:
    """One forward pass that learns, which changes nothing: gradients and advanced traces are new tensors.

    `variances` has what the running statistics of the layer move by in the backward pass.
    """

    result: Result
    carry: LocalCarry

    def __init__(
        self, module: LearnsLocally, stack: PredictiveStack, x: Tensor, state: LearningState | None, weights: list
    ) -> None:
        self.rule, self.stack, self.x, self.weights = module.rule, stack, x, weights
        self.variances = PooledVariances(module.layer)
        self.before = None if state is None else StackState((state.layer,))
        if state is None or not any(state.carry):
            self.carry = module.rule.init(module.layer, x.shape[0])
        else:
            self.carry = tree_map(Tensor.clone, state.carry)

    def __call__(self) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Output, loss and the state after; and the gradient of every weight."""
        x, stack = self.x, self.stack
        known = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        known[:, -1] = False
        chunk = Chunk(x, torch.cat([x[:, 1:], x[:, -1:]], 1), known)
        activity, after = stack.observe_chunk(chunk, self.before)
        scores = stack.score_targets(activity, chunk)
        with _apart(self.weights) as gradients:
            self.rule.learn(stack, activity, scores, chunk, self.carry)
        with self.variances.held():
            stack.adapt(activity, scores, chunk)
        loss = (scores.surprise[-1] * chunk.weights(scores.surprise.dtype)).sum()
        output, expectation = activity.output.detach(), activity.expectations[-1].detach()
        self.result = Result(loss, scores.surprise, activity.state_surprise, output, expectation)
        return (activity.output, loss, *after.layers[0]), gradients


class _LocalGradients(torch.autograd.Function):
    """What a pass computed, whose backward pass gives the weights the gradients it found."""

    @staticmethod
    def forward(ctx: Any, local: _Pass, *weights: Tensor) -> tuple[Tensor, ...]:
        outputs, gradients = local()
        ctx.save_for_backward(*gradients)
        ctx.variances = local.variances
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_outputs: Tensor | None) -> Any:  # type: ignore[override]
        grad_loss = of_outputs[1]
        factor = current_scale() if grad_loss is None else grad_loss
        gradients = ctx.saved_tensors
        if ctx.variances is not None:
            ctx.variances.move()
            ctx.variances = None
        # new tensors: autograd may make what it is given the parameter's `.grad`, and add to it
        return None, *(g.clone() if factor is None else g * factor.to(g) for g in gradients)


@contextmanager
def _apart(weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Inside the block `.grad` of the weights is empty; after it the list has what was added there, or zeros."""
    before, found = [weight.grad for weight in weights], []
    for weight in weights:
        weight.grad = None
    try:
        yield found
        found += [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    finally:
        for weight, gradient in zip(weights, before, strict=True):
            weight.grad = gradient


def learns_locally(model: nn.Module, rule: Local | None = None) -> nn.Module:
    """Replace every predictive layer inside `model` by one that learns locally as it runs; returns the model.

    A layer that stands in several places is replaced by one and the same. Raises TypeError for a PredictiveStack inside
    the model, whose layers learn together.

    >>> model = nn.Sequential(nn.Linear(4, 3), PredictiveLayer(3, 8))
    >>> learns_locally(model)[1].__class__.__name__
    'LearnsLocally'
    """
    for name, part in model.named_modules():
        if isinstance(part, PredictiveStack):
            raise TypeError(
                f"learns_locally: expected predictive layers, got a {type(part).__name__} at {name or 'the top'!r}, "
                "whose layers learn together; train it with pcrnn.Learner, or replace single layers with "
                "LearnsLocally(layer)"
            )
    return _replaced(model, rule, {})


def _replaced(model: nn.Module, rule: Local | None, done: dict[nn.Module, LearnsLocally]) -> nn.Module:
    if isinstance(model, PredictiveLayer):
        if model not in done:
            done[model] = LearnsLocally(model, rule)
        return done[model]
    if not isinstance(model, LearnsLocally):
        for name, child in model._modules.items():  # named_children would leave out a second name
            if child is not None:
                setattr(model, name, _replaced(child, rule, done))
    return model
