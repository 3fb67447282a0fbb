"""The whole update of one layer from one chunk, composed of the ops: every gradient, and the carried trace.

    dP += dL/d eta' r        dQ -= dL/d residual' r_prev        dW_o += dL/d k_o' u        d[A; B] += dL/d products' q
    dW_cf: the three-factor update, `pcrnn::eligibility_update_`

Tensors only; fixed shapes, no autograd graph, nothing that waits for the device: a CUDA graph can hold it.

Shapes: B batch, T time, N hidden units, D natural parameters, J = K M presynaptic width, G traced blocks, C real
components of a unit's memory: 1, or 2 where it is complex.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn import ops
from pcrnn.ops import reference


class LayerTensors(NamedTuple):
    """The parameters of a predictive layer, or their gradients."""

    weight: Tensor  # W, [blocks N, J]
    bias: Tensor  # b, [blocks N]
    predictor: Tensor  # Q, [N, N]
    readout: Tensor  # P, [D, N]
    mixing: Tensor | None = None  # [A; B], [2 N, N]; None without mixing


class UpdateInputs(NamedTuple):
    """What a layer learns from one chunk, besides its trace: activities, and the gradients in what they led to."""

    window: Tensor  # presynaptic delay line, [B, T, J]
    output: Tensor  # r_t, [B, T, N]
    predictor_input: Tensor  # r_{t-1}, what Q reads, [B, T, N]
    decay: Tensor  # a_t, [B C, T, N]
    immediate: Tensor  # ds_t/dk_t of the traced blocks, [B C, T, G N]
    grad_expectation: Tensor  # gradient of the loss in eta_t, [B, T, D]
    grad_residual: Tensor  # in r_t - Q r_{t-1}, [B, T, N]
    grad_state: Tensor  # in s_t at its own step: the learning signal, [B C, T, N]
    grad_gate: Tensor  # in the preactivations that act at once, [B, T, (blocks - G) N]
    gated: Tensor  # q_t, the cell's output before its units are mixed, [B, T, N]
    grad_mixing: Tensor | None  # in A q_t and B q_t, [B, T, 2 N]; None without mixing


def layer_update_(
    gradients: LayerTensors, trace: Tensor | None, bias_trace: Tensor | None, inputs: UpdateInputs
) -> Tensor:
    """Add one chunk's gradients and advance the trace, both in place.

    Returns the gradient in the traced preactivations, [B C, T, G N].
    """
    rows, components = inputs.immediate.shape[-1], len(inputs.decay) // len(inputs.window)
    window = for_products(inputs.window)
    reference.add_product_(gradients.readout, inputs.grad_expectation, for_products(inputs.output))
    predictor_input = for_products(inputs.predictor_input)
    reference.add_product_(gradients.predictor, inputs.grad_residual, predictor_input, sign=-1)
    reference.add_product_(gradients.weight[rows:], inputs.grad_gate, window)
    if gradients.mixing is not None and inputs.grad_mixing is not None:
        reference.add_product_(gradients.mixing, inputs.grad_mixing, for_products(inputs.gated))
    gradients.bias[rows:].add_(inputs.grad_gate.sum((0, 1)))
    return ops.eligibility_update_(
        gradients.weight[:rows],
        gradients.bias[:rows],
        trace,
        bias_trace,
        inputs.decay,
        inputs.immediate,
        window if components == 1 else window.repeat_interleave(components, 0),
        inputs.grad_state,
    )


def for_products(x: Tensor) -> Tensor:
    """x in autocast's precision where autocast is on: states, traces and gradients keep their own."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
