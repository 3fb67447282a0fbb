"""A whole layer's chunk in one call: forward pass, errors, every gradient of its own error, the carried trace.

Tensors only, composed of the ops; `pcrnn.ops` registers it as `pcrnn::local_update_`. Fixed shapes, no autograd graph,
nothing that waits for the device: it can be captured in a CUDA graph and compiled without a graph break.

Shapes: B batch, T time, N hidden units, D natural parameters, J = K M presynaptic width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn import ops
from pcrnn.ops import reference


class LayerTensors(NamedTuple):
    """The parameters of a gated predictive layer, or their gradients."""

    weight: Tensor  # W, [3 N, J]
    bias: Tensor  # b, [3 N]
    predictor: Tensor  # Q, [N, N]
    readout: Tensor  # P, [D, N]
    mixing: Tensor | None = None  # [A; B], [2 N, N]; None where the units of a layer do not meet

    def present(self) -> list[Tensor]:
        """Those there are, in order."""
        return [part for part in self if part is not None]


class UpdateInputs(NamedTuple):
    """What a layer learns from one chunk besides its trace: activities and the signals that meet them.

    C real components of a unit's memory: 1, or 2 where it is complex.
    """

    window: Tensor  # presynaptic delay line, [B, T, J]
    output: Tensor  # r_t, [B, T, N]
    previous_output: Tensor  # r_{t-1}, [B, T, N]
    decay: Tensor  # a_t, [B C, T, N]
    immediate: Tensor  # ds_t/dk_t of the traced blocks, [B C, T, G N]
    grad_expectation: Tensor  # gradient of the loss in eta_t, [B, T, D]
    grad_residual: Tensor  # in r_t - Q r_{t-1}, [B, T, N]
    grad_state: Tensor  # in s_t at its own step: the learning signal, [B C, T, N]
    grad_gate: Tensor  # in the preactivations that act at once, [B, T, (blocks - G) N]
    gated: Tensor  # q_t, what the cell put out before its units were mixed, [B, T, N]
    grad_mixing: Tensor | None  # in A q_t and B q_t, [B, T, 2 N]; None without mixing


def learn_(gradients: LayerTensors, trace: Tensor | None, bias_trace: Tensor | None, step: UpdateInputs) -> Tensor:
    """Add one chunk's gradients, advance the trace; returns the credit of the traced preactivations, [B C, T, G N].

    dP += in_expectation' r,   dQ -= in_difference' r_prev,   dW_o += in_gate' u,   dW_cf: the three-factor update,
    d[A; B] += in_mixing' q
    """
    rows, components = step.immediate.shape[-1], len(step.decay) // len(step.window)
    window = for_products(step.window)
    reference.add_product_(gradients.readout, step.grad_expectation, for_products(step.output))
    reference.add_product_(gradients.predictor, step.grad_residual, for_products(step.previous_output), sign=-1)
    reference.add_product_(gradients.weight[rows:], step.grad_gate, window)
    if gradients.mixing is not None and step.grad_mixing is not None:
        reference.add_product_(gradients.mixing, step.grad_mixing, for_products(step.gated))
    gradients.bias[rows:].add_(step.grad_gate.sum((0, 1)))
    return ops.eligibility_update_(
        gradients.weight[:rows],
        gradients.bias[:rows],
        trace,
        bias_trace,
        step.decay,
        step.immediate,
        window if components == 1 else window.repeat_interleave(components, 0),
        step.grad_state,
    )


def for_products(x: Tensor) -> Tensor:
    """x in autocast's precision where autocast is on: states, traces and gradients stay in their own."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class LayerUpdate(NamedTuple):
    """What a layer's chunk leaves besides gradients and trace."""

    cell: Tensor  # s_T, [B, N]
    output: Tensor  # r_t, [B, T, N]
    expectation: Tensor  # eta_t, [B, T, D]
    error: Tensor  # e_1 .. e_{T+1}: of the expectation carried in and of the T formed here, [B, T + 1, D]
    surprise: Tensor  # of x_1 .. x_{T+1}, nats, [B, T + 1]
    state_error: Tensor  # eps_t, [B, T, N]
    difference: Tensor  # r_t - Q r_{t-1}, [B, T, N]


@torch.no_grad()
def local_update_(
    gradients: list[Tensor],
    trace: Tensor | None,
    bias_trace: Tensor | None,
    parameters: list[Tensor],
    window: Tensor,
    state: list[Tensor],
    below: Tensor,
    observed: Tensor,
    step_weight: Tensor,
    precision: Tensor | None,
    family: str,
) -> tuple[Tensor, ...]:
    """One layer's chunk under spatial credit `layer`; returns the fields of `LayerUpdate`.

    Args: gradients and parameters, the fields of `LayerTensors`, gradients added to; trace and bias_trace, advanced in
    place, or None; state = [s_0, r_0, eta_0]; below, eta of the level below, [B, T, D]; observed x_1 .. x_{T+1};
    step_weight [B, T], weight of each step in the mean loss; precision [D] for the Gaussian family.
    """
    into, layer = LayerTensors(*gradients), LayerTensors(*parameters)
    cell, output_before, expectation_before = state
    preactivation = F.linear(window, layer.weight, layer.bias).to(cell.dtype)
    decay, candidate, states, gated = ops.gated_cell(preactivation, cell)
    output, mixed = (gated, None) if layer.mixing is None else reference.mix(gated, layer.mixing)
    previous_output = reference.shifted(output_before, output)
    predicted = F.linear(previous_output, layer.predictor).to(cell.dtype)
    difference = output - predicted
    state_error, _ = ops.state_error(output, predicted)
    expectation = below + F.linear(output, layer.readout).to(cell.dtype)
    formed = torch.cat([expectation_before.unsqueeze(1), expectation], 1)
    error, surprise = ops.prediction_error(family, formed, observed, precision)
    grad_expectation = error[:, 1:] * -step_weight.unsqueeze(-1)
    grad_output, grad_mixing = (grad_expectation @ layer.readout).to(cell.dtype), None
    if mixed is not None:
        grad_mixing, grad_output = reference.mixing_credit(mixed, grad_output)
    grad_state, grad_gate = ops.gated_output_credit(grad_output, states, preactivation.chunk(3, -1)[2])
    step = UpdateInputs(
        window=window,
        output=output,
        previous_output=previous_output,
        decay=decay,
        immediate=ops.gated_immediate(decay, candidate, states),
        grad_expectation=grad_expectation,
        grad_residual=difference / output.numel(),
        grad_state=grad_state,
        grad_gate=grad_gate,
        gated=gated,
        grad_mixing=grad_mixing,
    )
    learn_(into, trace, bias_trace, step)
    return tuple(LayerUpdate(states[:, -1].clone(), output, expectation, error, surprise, state_error, difference))
