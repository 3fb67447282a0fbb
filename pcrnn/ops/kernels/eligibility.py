"""Three-factor update of a layer's traced gate blocks: credit, one matrix product, the carried trace."""

from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64
from pcrnn.ops.kernels.credit import chunk_credit
from pcrnn.ops.kernels.trace import advance_trace_


def eligibility_update_(
    gradient: Tensor,
    bias_gradient: Tensor,
    trace: Tensor | None,
    bias_trace: Tensor | None,
    decay: Tensor,
    immediate: Tensor,
    presynaptic: Tensor,
    learning_signal: Tensor,
) -> Tensor:
    """`reference.eligibility_update_` in two kernels around a product by cuBLAS; float64 runs the reference.

    Where only `presynaptic` is in half precision, the products are taken in it and summed in float32.
    """
    arguments = (gradient, bias_gradient, trace, bias_trace, decay, immediate, presynaptic, learning_signal)
    if decay.numel() == 0 or any_float64(*arguments):
        return reference.eligibility_update_(*arguments)
    step = chunk_credit(decay, immediate, learning_signal, None if trace is None else bias_trace)
    bias_gradient.add_(step.bias.sum(0))
    reference.add_product_(gradient, step.traced, presynaptic)
    if trace is not None and step.carried is not None:
        advance_trace_(gradient, trace, presynaptic, *step.carried)
    return step.traced
