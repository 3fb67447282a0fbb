"""The arithmetic of pcrnn in plain torch: any dtype, any device, the oracle of every kernel.

Shapes: B batch, T time, N hidden units, G traced gate blocks, J presynaptic width, D natural parameters.
Every function takes and returns tensors only; names ending in an underscore update their arguments in place.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

RMS_EPSILON = 1e-6
FORGOTTEN = 1e-30  # what has decayed to less counts as 0: a CPU takes up to 100 times as long for subnormal products


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precisions are summed in float32."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def add_product_(gradient: Tensor, left: Tensor, right: Tensor, sign: int = 1) -> None:
    """gradient += sign sum_{b,t} left_t outer right_t, the products taken in `right`'s dtype.

    Args: gradient [I, J]; left [B, T, I]; right [B, T, J], of the gradient's dtype or a half precision.
    """
    _add_matrix_product_(gradient, left.flatten(0, 1), right.flatten(0, 1), sign)


def _add_matrix_product_(gradient: Tensor, left: Tensor, right: Tensor, sign: int = 1) -> None:
    """The same of left [B T, I] and right [B T, J]."""
    if right.dtype == gradient.dtype:
        gradient.addmm_(left.t(), right, alpha=sign)
    elif right.is_cuda:
        gradient.add_(torch.mm(left.to(right.dtype).t(), right, out_dtype=gradient.dtype), alpha=sign)
    else:
        gradient.add_(torch.mm(left.to(right.dtype).t(), right), alpha=sign)


def shifted(first: Tensor, series: Tensor) -> Tensor:
    """Series one step late: [first, series_1, ..., series_{T-1}]; first [B, N], series [B, T, N]."""
    return torch.cat([first.unsqueeze(1), series[:, :-1]], 1)


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    """Elementwise first-order recurrence s_t = decay_t s_{t-1} + drive_t over axis 1.

    With `reverse`, s_t = decay_t s_{t+1} + drive_t. `decay`, `drive` and the result are [B, T, N]; `initial`,
    the state just before the first step taken, is [B, N].
    """
    dtype, wide = drive.dtype, accumulation_dtype(drive.dtype)
    decay, drive, carried = decay.to(wide), drive.to(wide), initial.to(wide)
    if drive.shape[1] == 1:
        return torch.hardshrink(torch.addcmul(drive, decay, carried.unsqueeze(1)), FORGOTTEN).to(dtype)
    states = torch.empty_like(drive, memory_format=torch.contiguous_format)
    steps = zip(decay.unbind(1), drive.unbind(1), states.unbind(1), strict=True)
    for decay_BN, drive_BN, state_BN in reversed(list(steps)) if reverse else steps:
        carried = torch.addcmul(drive_BN, decay_BN, carried, out=state_BN)
    return torch.hardshrink(states, FORGOTTEN).to(dtype)


def credit_scan(decay: Tensor, signal: Tensor) -> Tensor:
    """Credit of every state inside the chunk: lambda_t = signal_t + decay_{t+1} lambda_{t+1}, [B, T, N]."""
    if signal.shape[1] < 2:
        return torch.hardshrink(signal, FORGOTTEN)
    credit = torch.empty_like(signal, memory_format=torch.contiguous_format)
    signals, decays, credits = signal.unbind(1), decay.unbind(1), credit.unbind(1)
    carried = credits[-1].copy_(signals[-1])
    for t in range(len(signals) - 2, -1, -1):
        carried = torch.addcmul(signals[t], decays[t + 1], carried, out=credits[t])
    return torch.hardshrink(credit, FORGOTTEN)


def suffix_products(decay: Tensor) -> Tensor:
    """What is left at the chunk's end of a unit added at step t: prod_{s>t} decay_s, [B, T, N].

    Taken by a reverse scan: dividing prefix products would lose everything once they underflow.
    """
    products = torch.empty_like(decay, memory_format=torch.contiguous_format)
    decays, outputs = decay.unbind(1), products.unbind(1)
    carried = outputs[-1].fill_(1.0)
    for t in range(len(decays) - 2, -1, -1):
        carried = torch.mul(decays[t + 1], carried, out=outputs[t])
    return torch.hardshrink(products, FORGOTTEN)


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised error of a layer's prediction of its own next state, and the inverse of its norm.

    eps_t = d_t / sqrt(mean(d_t^2) + RMS_EPSILON), d_t = output_t - prediction_t; both arguments [..., N]. Returns eps
    [..., N] and the inverse root mean square [..., 1], so that d = eps / inverse.
    """
    wide = accumulation_dtype(output.dtype)
    difference = output.to(wide) - prediction.to(wide)
    mean_square = torch.linalg.vector_norm(difference, dim=-1, keepdim=True).square_().div_(difference.shape[-1])
    inverse_rms = mean_square.add_(RMS_EPSILON).rsqrt_()
    return difference.mul_(inverse_rms).to(output.dtype), inverse_rms


def state_error_backward(gradient: Tensor, error: Tensor, inverse_rms: Tensor) -> Tensor:
    """Gradient in the raw difference d of a gradient in eps, [..., N]."""
    return (gradient - error * (gradient * error).mean(-1, keepdim=True)) * inverse_rms


def categorical_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Error onehot(x) - softmax(eta), [..., D], and cross-entropy in nats, [...]; x int64 [...]."""
    log_p = eta.to(accumulation_dtype(eta.dtype)).log_softmax(-1)
    index = x.unsqueeze(-1)
    error = log_p.exp().neg_()
    error.scatter_add_(-1, index, torch.ones_like(index, dtype=error.dtype))
    return error.to(eta.dtype), -log_p.gather(-1, index).squeeze(-1)


def bernoulli_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Error x - sigmoid(eta), [..., D], and the sum over D of binary cross-entropies in nats, [...]."""
    wide = eta.to(accumulation_dtype(eta.dtype))
    surprise = (1 - x) * wide - torch.nn.functional.logsigmoid(wide)  # softplus is cut off at 20 and would cancel
    return (x - wide.sigmoid()).to(eta.dtype), surprise.sum(-1)


def gaussian_error(eta: Tensor, x: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Error precision (x - eta), [..., D], and -log Normal(x; eta, 1/precision) in nats, [...]; precision [D]."""
    wide = accumulation_dtype(eta.dtype)
    difference = x.to(wide) - eta.to(wide)
    error = precision * difference
    constant = (precision / (2 * math.pi)).rsqrt().log()  # of the density, a channel
    return error.to(eta.dtype), torch.addcmul(constant, error, difference, value=0.5).sum(-1)


def poisson_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Error x - exp(eta), [..., D], and sum over D of exp(eta) - x eta + log x! in nats, [...]."""
    wide = eta.to(accumulation_dtype(eta.dtype))
    rate = wide.exp()
    return (x - rate).to(eta.dtype), (rate - x * wide + torch.lgamma(x.to(wide.dtype) + 1)).sum(-1)


def gated_cell(
    preactivation: Tensor, initial: Tensor, scan: Callable[..., Tensor] = scan
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gated leaky integrator over one chunk: decay a, candidate tanh(c), state s and output r, each [B, T, N].

    a_t = sigmoid(f_t),  s_t = a_t s_{t-1} + (1 - a_t) tanh(c_t),  r_t = s_t silu(o_t),  preactivation = [c, f, o]

    Args: preactivation [B, T, 3 N]; initial, the state before the first step, [B, N]; scan, in place of the one above,
    which has no gradient. Differentiable as written, as far as it is.
    """
    dtype = preactivation.dtype
    c, f, o = preactivation.to(accumulation_dtype(dtype)).chunk(3, -1)
    decay, candidate = f.sigmoid(), c.tanh()
    drive = torch.addcmul(candidate, decay, candidate, value=-1)
    state = scan(decay, drive, initial, False)
    output = state * torch.nn.functional.silu(o)
    return decay.to(dtype), candidate.to(dtype), state.to(dtype), output.to(dtype)


def gated_immediate(decay: Tensor, candidate: Tensor, state: Tensor) -> Tensor:
    """ds_t/dk_t of the traced blocks c and f at fixed s_{t-1}, [B, T, 2 N].

    m^c = (1 - a) (1 - tanh(c)^2),   m^f = (s_{t-1} - tanh(c)) a (1 - a) = (s_t - tanh(c)) (1 - a)
    """
    update = 1 - decay
    immediate = update.new_empty(*update.shape[:-1], 2 * update.shape[-1])
    of_c, of_f = immediate.chunk(2, -1)
    torch.addcmul(update, update * candidate, candidate, value=-1, out=of_c)
    torch.mul(state - candidate, update, out=of_f)
    return immediate


def gated_output_credit(signal: Tensor, state: Tensor, output_gate: Tensor) -> tuple[Tensor, Tensor]:
    """Split a gradient in r_t = s_t silu(o_t) into one in s_t and one in o_t, each [B, T, N]."""
    grad_state = signal * torch.nn.functional.silu(output_gate)
    return grad_state, torch.ops.aten.silu_backward(signal * state, output_gate)


class Mixed(NamedTuple):
    """What mixing the units of a layer leaves for its credit."""

    weight: Tensor  # [A; B], [2 N, N]
    candidate: Tensor  # A q_t, [B, T, N]
    gate: Tensor  # sigmoid(B q_t), [B, T, N]


def mix(gated: Tensor, weight: Tensor) -> tuple[Tensor, Mixed]:
    """Units of one layer meet within a step: r_t = q_t + (A q_t) sigmoid(B q_t), with weight = [A; B], [2 N, N].

    A gated linear unit (Dauphin et al. 2017) beside the identity; differentiable.
    """
    candidate, gate = torch.nn.functional.linear(gated, weight).to(gated.dtype).chunk(2, -1)
    gate = gate.sigmoid()
    return gated + candidate * gate, Mixed(weight, candidate, gate)


def mixing_credit(mixed: Mixed, signal: Tensor) -> tuple[Tensor, Tensor]:
    """Turn a gradient in r_t, [B, T, N], into one in [A q_t; B q_t], [B, T, 2 N], and one in q_t, [B, T, N]."""
    grad_gate = signal * mixed.candidate * mixed.gate * (1 - mixed.gate)
    in_products = torch.cat([signal * mixed.gate, grad_gate], -1)
    return in_products, signal + (in_products @ mixed.weight).to(signal.dtype)


def credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor) -> Tensor:
    """Credit of the traced preactivations, lambda_t immediate_t with lambda of `credit_scan`, [B, T, G N]."""
    dtype = torch.promote_types(immediate.dtype, learning_signal.dtype)
    wide = accumulation_dtype(dtype)
    return credited(immediate, credit_scan(decay.to(wide), learning_signal.to(wide))).to(dtype)


def credited(immediate: Tensor, credit: Tensor) -> Tensor:
    """Credit of each traced preactivation: immediate [B, T, G N] times the credit [B, T, N] of its unit's state."""
    by_block = immediate.unflatten(-1, (-1, credit.shape[-1]))
    return (by_block * credit.unsqueeze(2)).flatten(2)


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
    """Three-factor update of the traced gate blocks over one chunk; returns lambda_t immediate_t, [B, T, G N].

    With E the eligibility trace, E_t = decay_t E_{t-1} + immediate_t outer presynaptic_t, this adds
    sum_{b,t} learning_signal_t E_t to `gradient` without ever forming E inside the chunk:

        lambda_t  = learning_signal_t + decay_{t+1} lambda_{t+1}
        gradient += sum_{b,t} (lambda_t immediate_t) outer presynaptic_t + sum_b (decay_1 lambda_1) E_0
        E_0      <- (prod_t decay_t) E_0 + sum_t (prod_{s>t} decay_s) immediate_t outer presynaptic_t

    Args: gradient [G N, J] and bias_gradient [G N] are added to; trace [B, G N, J] and bias_trace [B, G N] are
    read and advanced to the chunk's end, or None to drop credit at the chunk's start; decay and learning_signal
    [B, T, N]; immediate [B, T, G N]; presynaptic [B, T, J], whose dtype, if a half precision, is that of the products.
    """
    credit = credit_scan(decay, learning_signal)
    traced = credited(immediate, credit)
    add_product_(gradient, traced, presynaptic)
    bias_gradient.add_(traced.sum((0, 1)))
    if trace is None or bias_trace is None:
        return traced
    blocks = immediate.shape[-1] // decay.shape[-1]
    left, arriving = decay[:, 0], immediate
    into_trace = torch.cat([left * credit[:, 0]] * blocks, 1)
    if decay.shape[1] > 1:  # else nothing decays between the step and the chunk's end
        suffix = suffix_products(decay)
        left, arriving = suffix[:, 0] * left, credited(immediate, suffix)
    left = torch.cat([left] * blocks, 1)
    bias_gradient.add_((into_trace * bias_trace).sum(0))
    bias_trace.mul_(left).add_(arriving.sum(1))
    # a batch row at a time: its trace is read, made to contribute and advanced while it is in the cache
    columns = (into_trace.unsqueeze(-1), left.unsqueeze(-1), arriving.to(presynaptic.dtype), presynaptic)
    for row, into_row, left_row, arriving_row, u in zip(trace, *(c.unbind() for c in columns), strict=True):
        gradient.addcmul_(into_row, row)
        _add_matrix_product_(row.mul_(left_row), arriving_row, u)
    return traced
