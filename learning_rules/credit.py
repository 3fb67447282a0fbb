"""One layer's share of the local rule: turn errors into learning signals, learn, and hand signals one layer down.

Sign: every quantity here is a gradient of the mean loss (minus the error), so `.grad` can be handed to an optimiser.
Shapes: B batch, T time, N hidden units, D natural parameters, M message width, K delay line, G traced gate blocks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.layer import LayerActivity, PredictiveLayer
from pcrnn.ops.local import LayerTensors, Learned, learn_


class Handed(NamedTuple):
    """What a layer tells the one below, computed from one learning signal of its own."""

    expectation: Tensor | None  # gradient in eta of the layer below, beyond the broadcast error, [B, T, D]
    error: Tensor | None  # gradient in the message's pi e_t, [B, T, D]
    state_error: Tensor  # gradient in the message's eps_t, [B, T, N below]


class Signal(NamedTuple):
    """A learning signal: gradients of the loss in what the layer put out."""

    expectation: Tensor  # in eta_t through every path counted, [B, T, D]
    beyond: Tensor | None  # the part of it that is not the broadcast error
    difference: Tensor | None  # in r_t - Q r_{t-1}, [B, T, N]
    output: Tensor  # in r_t, [B, T, N]


class Credit(NamedTuple):
    """Gradient of the loss in the gate preactivations."""

    traced: Tensor  # blocks that act through the state, [B, T, G N]
    gate: Tensor  # the output gate, [B, T, N]


def reaches(reach: int, index: int, depth: int) -> list[int]:
    """How far up the signals see that layer `index` (0 = bottom) of `depth` computes; the one it learns from first.

    A layer learns from paths that cross at most `reach` layer borders. What it hands down may cross one fewer, and
    what the layer below hands on one fewer again; no path crosses more borders than there are layers above.
    """
    above = depth - 1 - index
    return sorted({min(n, above) for n in range(max(reach - index, 0), reach + 1)}, reverse=True)


def gradients_of(layer: PredictiveLayer) -> LayerTensors:
    """`.grad` of the layer's parameters, made where missing; throw-away buffers for frozen ones."""

    def gradient(parameter: Tensor) -> Tensor:
        if not parameter.requires_grad:
            return torch.zeros_like(parameter)
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad

    return LayerTensors._make(None if p is None else gradient(p) for p in parameters_of(layer))


def parameters_of(layer: PredictiveLayer) -> LayerTensors:
    """The layer's parameters by their symbols."""
    return LayerTensors(layer.weight, layer.bias, layer.predictor, layer.readout, layer.mixing)


def learn_base_rate(eta: nn.Parameter, weighted_error: Tensor) -> None:
    """Add the gradient of a base rate's own surprise, minus the sum of its weighted errors [B, T, D]."""
    if eta.requires_grad:
        gradient = -weighted_error.sum((0, 1))
        eta.grad = gradient if eta.grad is None else eta.grad.add_(gradient)


class LayerBackward:
    """The backward pass of one layer over one chunk, shared by every learning signal routed through it."""

    def __init__(
        self, layer: PredictiveLayer, activity: LayerActivity, feedback: Tensor, observed: Tensor | None
    ) -> None:
        self.layer, self.activity, self.feedback, self.observed = layer, activity, feedback, observed
        self.immediate = layer.cell.immediate(activity.cell)

    def signal(self, direct: Tensor, handed: Handed | None) -> Signal:
        """Learning signal from the broadcast (or own) error and what the layer above handed down, if anything."""
        if handed is None:
            return Signal(direct, None, None, _product(direct, self.feedback))
        beyond = handed.expectation
        if handed.error is not None:
            beyond = self._through_error(handed.error, beyond)
        expectation = direct if beyond is None else direct + beyond
        output = _product(expectation, self.feedback)
        difference = ops.state_error_backward(handed.state_error, self.activity.state_error, self.activity.inverse_rms)
        output += difference
        output[:, :-1] -= _product(difference[:, 1:], self.layer.predictor)
        return Signal(expectation, beyond, difference, output)

    def learn(self, signal: Signal, trace: tuple[Tensor, Tensor] | None, memory: bool) -> Credit:
        """Add the layer's gradients for its learning signal, advance its trace; returns the credit of its gates."""
        layer, activity = self.layer, self.activity
        in_difference = activity.difference / activity.output.numel()
        if signal.difference is not None:
            in_difference += signal.difference
        in_mixing, in_gated = self._through_mixing(signal.output)
        in_state, in_gate = layer.cell.output_credit(activity.cell, in_gated)
        step = Learned(
            window=activity.window,
            output=activity.output,
            previous_output=activity.previous_output,
            decay=self._decay(memory),
            immediate=self.immediate,
            in_expectation=signal.expectation,
            in_difference=in_difference,
            in_state=in_state,
            in_gate=in_gate,
            gated=activity.cell.output,
            in_mixing=in_mixing,
        )
        return Credit(learn_(gradients_of(layer), *(trace or (None, None)), step), in_gate)

    def credit(self, signal: Signal, memory: bool) -> Credit:
        """Credit of the gate preactivations under a signal the layer does not learn from."""
        in_state, in_gate = self._in_cell(signal)
        return Credit(ops.credit(self._decay(memory), self.immediate, in_state), in_gate)

    def cascaded(self, own: Signal, signal: Signal) -> Credit:
        """Credit of the gate preactivations: of the layer's own signal through memory, of the rest at its own step."""
        through, _ = self._in_cell(own)
        in_state, in_gate = self._in_cell(signal)
        remembered = ops.credit(self._decay(True), self.immediate, through)
        return Credit(remembered + ops.credit(self._decay(False), self.immediate, in_state - through), in_gate)

    def hand_down(self, signal: Signal, credit: Credit) -> Handed:
        """What a signal says about the message that came in and the expectation it came with."""
        layer = self.layer
        rows = layer.cell.traced_blocks * layer.hidden_size
        window = _product(credit.traced, layer.weight[:rows])
        window += _product(credit.gate, layer.weight[rows:])
        message, *delayed = window.split(layer.input_size, -1)
        for steps, late in enumerate(delayed, 1):
            message[:, :-steps] += late[:, steps:]
        if self.activity.kept is not None:
            message *= self.activity.kept
        if self.observed is None:
            return Handed(signal.beyond, None, message)
        size = layer.observation.size
        return Handed(signal.beyond, message[..., :size], message[..., size:])

    def _through_error(self, gradient: Tensor, beyond: Tensor | None) -> Tensor:
        """Gradient in eta_{t-1} of a gradient in pi e_t, e_t = T(x_t) - mu(eta_{t-1}), added to `beyond`."""
        observation, error = self.layer.observation, self.activity.error
        assert self.observed is not None and error is not None
        mean = observation.statistic(self.observed[:, 1:], error.dtype) - error[:, 1:]
        beyond = torch.zeros_like(gradient) if beyond is None else beyond.clone()
        beyond[:, :-1] -= observation.mean_jvp(mean, self.activity.error_weight * gradient[:, 1:])
        return beyond

    def _through_mixing(self, in_output: Tensor) -> tuple[Tensor | None, Tensor]:
        """Gradients in the mixing's products and in what the cell put out, of a gradient in r_t."""
        mixed = self.activity.mixed
        return (None, in_output) if mixed is None else ops.mixing_credit(mixed, in_output)

    def _in_cell(self, signal: Signal) -> tuple[Tensor, Tensor]:
        """Gradients in the cell's state s_t and in its output gate, at their own step."""
        _, in_gated = self._through_mixing(signal.output)
        return self.layer.cell.output_credit(self.activity.cell, in_gated)

    def _decay(self, memory: bool) -> Tensor:
        """The cell's decays; zeros, so that credit stays at its own step, without memory."""
        decay = self.activity.cell.decay
        return decay if memory else decay.new_zeros(()).expand_as(decay)


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix, back in x's dtype where autocast took the product in half precision."""
    return (x @ matrix).to(x.dtype)
