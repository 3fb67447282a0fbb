"""One layer's share of the local rule: turn errors into learning signals, learn, and send signals one layer down.

Sign: every quantity here is a gradient of the mean loss (minus the error), so `.grad` can be handed to an optimiser.
Shapes: B batch, T time, N hidden units, D natural parameters, M message width, K delay line, G traced gate blocks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from pcrnn import ops
from pcrnn.nn.activity import flip_time
from pcrnn.nn.connections import Block, source_levels
from pcrnn.nn.layer import LayerActivity, PredictiveLayer
from pcrnn.nn.sensory import BaseRate
from pcrnn.nn.stack import PredictiveStack
from pcrnn.ops.layer_update import LayerTensors, UpdateInputs, for_products, layer_update_
from pcrnn.ops.reference import accumulation_dtype, add_product_
from pcrnn.trees import portable


class FeedbackGrad(NamedTuple):
    """Gradients in what a layer receives from one level below, computed from one of its learning signals."""

    expectation: Tensor | None = None  # gradient in eta of the layer right below, beyond the broadcast error, [B, T, D]
    error: Tensor | None = None  # gradient in the message's pi e_t, [B, T, D]
    state_error: Tensor | None = None  # gradient in the message's eps_t, [B, T, N below]

    def __add__(self, other: "FeedbackGrad") -> "FeedbackGrad":  # type: ignore[override]
        """The sum of what two layers send down."""
        pairs = zip(self, other, strict=True)
        return FeedbackGrad(*(b if a is None else a if b is None else a + b for a, b in pairs))

    def flip_time(self, direction: int) -> "FeedbackGrad":
        """The same in the time of a direction; see `pcrnn.nn.bidirectional`."""
        return (
            FeedbackGrad(*(None if part is None else flip_time(part, direction) for part in self))
            if direction
            else self
        )

    def split_directions(self, directions: int) -> tuple["FeedbackGrad", ...]:
        """The part of each of a level's layers, in its own time; two layers send up state errors alone."""
        if directions == 1 or self.state_error is None:
            return (self,) * directions
        parts = self.state_error.chunk(directions, -1)
        return tuple(FeedbackGrad(state_error=part).flip_time(direction) for direction, part in enumerate(parts))


class GradAccumulator:
    """What the layers above have sent down to every level, added up for each of its signals."""

    def __init__(self, depth: int) -> None:
        self.feedback: list[dict[int, FeedbackGrad]] = [{} for _ in range(depth)]

    def add(self, index: int, signal: int, grad: FeedbackGrad) -> None:
        """Send down to level `index` (0 = bottom), for that signal of its own."""
        before = self.feedback[index].get(signal)
        self.feedback[index][signal] = grad if before is None else before + grad

    def pop(self, index: int) -> dict[int, FeedbackGrad]:
        """All that was sent down to level `index`, by signal; it is not kept."""
        feedback, self.feedback[index] = self.feedback[index], {}
        return feedback


class Signal(NamedTuple):
    """A learning signal: gradients of the loss in what a layer computed."""

    expectation: Tensor  # in eta_t through every path counted, [B, T, D]
    feedback_part: Tensor | None  # the part of it that is not the broadcast error
    state_residual: Tensor | None  # in r_t - Q r_{t-1}, [B, T, N]
    output: Tensor  # in r_t, [B, T, N]


@portable
class Trace(NamedTuple):
    """Eligibility trace of one layer's traced gate blocks: ds/dW and ds/db of every sequence of the batch; of R alike.

    Where a unit's memory has C real components, those of a sequence lie one after the other.
    """

    weight: Tensor  # [B, C G N, K M]
    bias: Tensor  # [B, C G N]

    @classmethod
    def zeros(cls, layer: PredictiveLayer, presynaptic: int, batch_size: int) -> "Trace":
        """Before a sequence, of a matrix that reads so many numbers; without rows where it reads none."""
        rows = layer.cell.components * layer.cell.traced_blocks * layer.hidden_size if presynaptic else 0
        zeros = partial(layer.bias.new_zeros, dtype=accumulation_dtype(layer.bias.dtype))
        return cls(zeros((batch_size, rows, presynaptic)), zeros((batch_size, rows)))


class Credit(NamedTuple):
    """Gradient of the loss in the gate preactivations."""

    traced: Tensor  # blocks that act through the state, [B, T, G N]
    gate: Tensor  # the output gate, [B, T, N]


def signal_hops(reach: int, index: int, depth: int) -> list[int]:
    """How far up the signals see that layer `index` (0 = bottom) of `depth` computes; the one it learns from first.

    A layer learns from paths along at most `reach` edges of the stack's connections. What it sends down may go along
    one fewer, and what a layer below sends on one fewer again; no path has more edges than there are layers above.
    """
    above = depth - 1 - index
    return sorted({min(n, above) for n in range(max(reach - index, 0), reach + 1)}, reverse=True)


def feedback_routes(reach: int, index: int, sources: Sequence[int], depth: int) -> dict[int, list[tuple[int, int]]]:
    """Which signals of layer `index` are sent down, and for which signals n of which source levels, (level, n)."""
    above, found = depth - 1 - index, {}
    for level in filter(None, sources):  # level 0 has no layer
        for n in filter(None, signal_hops(reach, level - 1, depth)):
            found.setdefault(min(n - 1, above), []).append((level, n))
    return found


@contextmanager
def gradients(*parameters: Tensor | None) -> Iterator[tuple[Tensor | None, ...]]:
    """What a rule adds the gradients of some parameters to: their `.grad`, made where missing.

    For frozen ones it is a throw-away buffer. Those of half precision are added up in float32 and rounded once, at the
    end of the block.
    """
    buffers = tuple(None if p is None else _gradient_buffer(p) for p in parameters)
    yield buffers
    for parameter, buffer in zip(parameters, buffers, strict=True):
        if parameter is not None and buffer is not None and parameter.requires_grad and buffer.dtype != parameter.dtype:
            rounded = buffer.to(parameter.dtype)
            parameter.grad = rounded if parameter.grad is None else parameter.grad.add_(rounded)


def _gradient_buffer(parameter: Tensor) -> Tensor:
    wide = accumulation_dtype(parameter.dtype)
    if not parameter.requires_grad or wide != parameter.dtype:
        return torch.zeros_like(parameter, dtype=wide)
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def parameters_of(layer: PredictiveLayer) -> LayerTensors:
    """The layer's weights by their symbols."""
    return LayerTensors(layer.weight, layer.bias, layer.predictor, layer.readout, layer.mixing)


def learn_base_rates(stack: PredictiveStack, error: Tensor, sensory_error: Tensor, weight: Tensor) -> None:
    """Level 0 learns from its error at the targets; with labels, the sensory level from its own at the observations.

    Args:
        error, sensory_error: [B, T, D].
        weight: of each step in the mean loss, [B, T, 1].
    """
    _learn_base_rate(stack.base.eta, weight * error)
    if isinstance(stack.sensory, BaseRate) and stack.sensory is not stack.base:
        _learn_base_rate(stack.sensory.eta, sensory_error / weight.numel())


def _learn_base_rate(eta: nn.Parameter, weighted_error: Tensor) -> None:
    """Add the gradient of a base rate's own surprise, minus the sum of its weighted errors [B, T, D]."""
    if eta.requires_grad:
        gradient = -weighted_error.sum((0, 1)).to(eta.dtype)
        eta.grad = gradient if eta.grad is None else eta.grad.add_(gradient)


def family_loss(
    level: BaseRate | PredictiveLayer, expectation: Tensor, targets: Tensor, weight: Tensor
) -> Tensor | None:
    """A level's own mean surprise as a function of its family's parameters alone; None where it has none that learn.

    Args:
        expectation: eta_t of the level, [B, T, D], held constant.
        targets: without covariates.
        weight: of each step in the mean loss, [B, T, 1].
    """
    if not any(parameter.requires_grad for parameter in level.observation.parameters()):
        return None
    with torch.enable_grad():
        return (level.observation.surprise(expectation.detach(), targets) * weight.squeeze(-1)).sum()


def learn_family(level: BaseRate | PredictiveLayer, expectation: Tensor, targets: Tensor, weight: Tensor) -> None:
    """Add the gradient of `family_loss`, if the level has one, to the parameters' `.grad`."""
    loss = family_loss(level, expectation, targets, weight)
    if loss is not None:
        loss.backward()


class LayerBackward:
    """The backward pass of one layer over one chunk, shared by every learning signal routed through it."""

    def __init__(
        self, layer: PredictiveLayer, activity: LayerActivity, feedback: Tensor, observed: Tensor | None
    ) -> None:
        self.layer, self.activity, self.feedback, self.observed = layer, _widened(activity), feedback, observed
        self.immediate = layer.cell.immediate(self.activity.saved.cell)  # [B C, T, G N], as pcrnn.nn.cells has it

    def signal(self, broadcast_error: Tensor, feedback: FeedbackGrad | None) -> Signal:
        """Learning signal from the broadcast (or own) error and what layers above sent down, if anything."""
        if feedback is None:
            return Signal(broadcast_error, None, None, _product(broadcast_error, self.feedback))
        feedback_part = feedback.expectation
        if feedback.error is not None:
            feedback_part = self._through_error(feedback.error, feedback_part)
        expectation = broadcast_error if feedback_part is None else broadcast_error + feedback_part
        output = _product(expectation, self.feedback)
        if feedback.state_error is None:
            return Signal(expectation, feedback_part, None, output)
        state_residual = ops.state_error_backward(
            feedback.state_error, self.activity.state_error, self.activity.saved.inverse_rms
        )
        output += state_residual
        inferred = self.activity.saved.inferred_output is not None
        if output.shape[1] > 1 and not inferred:  # else what Q reads is of the chunk before, or held constant
            output[:, :-1].sub_(_product(state_residual[:, 1:], self.layer.predictor))
        return Signal(expectation, feedback_part, state_residual, output)

    def learn(self, signal: Signal, trace: Trace | None, through_time: bool, recurrent: Trace | None = None) -> Credit:
        """Add the layer's gradients for its learning signal, advance its trace; returns the credit of its gates."""
        layer, activity = self.layer, self.activity
        grad_residual = activity.saved.state_residual / activity.output.numel()
        if signal.state_residual is not None:
            grad_residual += signal.state_residual
        grad_mixing, grad_gated = self._through_mixing(signal.output)
        grad_state, grad_gate = layer.cell.output_credit(activity.saved.cell, grad_gated)
        step = UpdateInputs(
            window=activity.saved.window,
            output=activity.output,
            predictor_input=activity.saved.predictor_input,
            decay=self._decay(through_time),
            immediate=self.immediate,
            grad_expectation=signal.expectation,
            grad_residual=grad_residual,
            grad_state=grad_state,
            grad_gate=grad_gate,
            gated=activity.saved.cell.output,
            grad_mixing=grad_mixing,
        )
        weight_trace, bias_trace = self._components(trace)
        with gradients(*parameters_of(layer), layer.top_down_weight) as (*of_layer, top_down_weight):
            traced = layer_update_(LayerTensors(*of_layer), weight_trace, bias_trace, step)  # type: ignore[arg-type]
            if top_down_weight is not None and activity.saved.previous_above is not None:
                add_product_(top_down_weight, grad_residual, for_products(activity.saved.previous_above), sign=-1)
        if activity.saved.cell.hidden is not None:
            self._learn_recurrent(activity.saved.cell.hidden, recurrent, step)
        for part in (weight_trace, bias_trace):
            if part is not None:
                layer.cell.rotate_trace_(part, activity.output.shape[1])
        return Credit(self._joined(traced), grad_gate)

    def credit(self, signal: Signal, through_time: bool) -> Credit:
        """Credit of the gate preactivations under a signal the layer does not learn from."""
        grad_state, grad_gate = self._in_cell(signal)
        return Credit(self._joined(ops.credit(self._decay(through_time), self.immediate, grad_state)), grad_gate)

    def cascade_credit(self, own: Signal, signal: Signal) -> Credit:
        """Credit of the gate preactivations: of the layer's own signal through memory, of the rest at its own step."""
        through, _ = self._in_cell(own)
        grad_state, grad_gate = self._in_cell(signal)
        remembered = ops.credit(self._decay(True), self.immediate, through)
        at_once = ops.credit(self._decay(False), self.immediate, grad_state - through)
        return Credit(self._joined(remembered + at_once), grad_gate)

    def input_grads(self, signal: Signal, credit: Credit, blocks: Sequence[Block]) -> dict[int, FeedbackGrad]:
        """Gradients, under one signal, in the message and in the expectation from below, by their level."""
        layer = self.layer
        rows = layer.cell.traced_blocks * layer.hidden_size
        window = _product(credit.traced, layer.weight[:rows])
        window += _product(credit.gate, layer.weight[rows:])
        message, *delayed = window.split(layer.input_size, -1)
        for steps, late in enumerate(delayed, 1):
            message[:, :-steps].add_(late[:, steps:])
        if self.activity.saved.dropout_mask is not None:
            message *= self.activity.saved.dropout_mask
        feedback: dict[int, FeedbackGrad] = {max(source_levels(blocks)): FeedbackGrad(expectation=signal.feedback_part)}
        for block, gradient in zip(blocks, message.split([block.width for block in blocks], -1), strict=True):
            for level in filter(None, block.levels):  # level 0 has no layer
                feedback[level] = feedback.get(level, FeedbackGrad()).__add__(FeedbackGrad(**{block.part: gradient}))
        return feedback

    def _learn_recurrent(self, hidden: Tensor, trace: Trace | None, step: UpdateInputs) -> None:
        """Add the gradients of R and of its bias, h_{t-1} held constant: as of another delay line, of h."""
        cell = self.layer.cell
        rows = cell.traced_blocks * cell.hidden_size
        presynaptic = for_products(hidden)
        with gradients(cell.recurrent, cell.recurrent_bias) as (matrix, bias):
            assert matrix is not None
            bias = matrix.new_zeros(len(matrix)) if bias is None else bias
            add_product_(matrix[rows:], step.grad_gate, presynaptic)
            bias[rows:].add_(step.grad_gate.sum((0, 1)))
            ops.eligibility_update_(
                matrix[:rows],
                bias[:rows],
                *(trace or (None, None)),
                step.decay,
                cell.recurrent_immediate(self.activity.saved.cell, self.immediate),
                presynaptic,
                step.grad_state,
            )

    def _components(self, trace: Trace | None) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Views of the two tensors of a trace with a row a component, [B C, ...]."""
        if trace is None or self.layer.cell.components == 1:
            return trace or (None, None)
        rows = trace.bias.shape[0] * self.layer.cell.components
        return trace.weight.view(rows, -1, trace.weight.shape[2]), trace.bias.view(rows, -1)

    def _joined(self, credit: Tensor) -> Tensor:
        """Credit of the preactivations, [B, T, G N], of that through every component, [B C, T, G N]."""
        components = self.layer.cell.components
        return credit if components == 1 else credit.unflatten(0, (-1, components)).sum(1)

    def _through_error(self, gradient: Tensor, feedback_part: Tensor | None) -> Tensor | None:
        """Gradient in eta_{t-1} of one in the bounded pi (T(x_t) - mu(eta_{t-1})), added to what else is fed back."""
        if gradient.shape[1] == 1:  # eta_{t-1} is of the chunk before
            return feedback_part
        observation, saved = self.layer.observation, self.activity.saved
        assert self.observed is not None and saved.residual is not None
        observed, residual = self.observed[:, 1:], saved.residual[:, 1:]
        unbounded, known = (saved.unit * residual).abs() <= saved.limit, observation.known(observed)
        sent = saved.unit * gradient[:, 1:] * (unbounded if known is None else unbounded & known)
        feedback_part = torch.zeros_like(gradient) if feedback_part is None else feedback_part.clone()
        mean = observation.statistic(observed, residual.dtype) - residual
        mean = mean if known is None else mean.masked_fill(~known, 0)  # nothing is sent there, and 0 times NaN is not 0
        feedback_part[:, :-1].sub_(observation.mean_jvp(mean, sent))
        return feedback_part

    def _through_mixing(self, grad_output: Tensor) -> tuple[Tensor | None, Tensor]:
        """Gradients in the mixing's products and in the output of the cell, from a gradient in r_t."""
        mixed = self.activity.saved.mixed
        return (None, grad_output) if mixed is None else ops.mixing_credit(mixed, grad_output)

    def _in_cell(self, signal: Signal) -> tuple[Tensor, Tensor]:
        """Gradients in the cell's state s_t and in its output gate, at their own step."""
        _, grad_gated = self._through_mixing(signal.output)
        return self.layer.cell.output_credit(self.activity.saved.cell, grad_gated)

    def _decay(self, through_time: bool) -> Tensor:
        """The cell's decays; zeros, so that credit stays at its own step, without memory."""
        decay = self.activity.saved.cell.decay
        return decay if through_time else decay.new_zeros(()).expand_as(decay)


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix in x's dtype, also where autocast took the product in half precision."""
    return (x @ matrix.to(x.dtype)).to(x.dtype)


def _widened(activity: LayerActivity) -> LayerActivity:
    """The activity of a layer of half precision in float32, in which credit, far smaller than it, keeps its digits."""
    if accumulation_dtype(activity.output.dtype) == activity.output.dtype:
        return activity
    return tree_map_only(Tensor, lambda x: x.float() if x.is_floating_point() else x, activity)
