"""Predictive coding with fixed predictions on an unrolled recurrent network: gradients by iterating towards them.

    h_t = tanh(Wx x_t + Wh h_{t-1}),   y_t = Wy h_t,   loss = mean over batch and time of the cross-entropy of y_t

A forward pass fixes the predictions hhat_t and with them all derivatives. Then the values h_t are free, and each
descends the energy 1/2 sum_t |eps_t|^2 that its own error and those of its children, the output and the next value,
give it:

    eps_t = h_t - hhat_t
    h_t  <- h_t + rate (-eps_t + Wy' e_t + Wh' (eps_{t+1} tanh'_{t+1})),        e_t = onehot(x_{t+1}) - softmax(y_t)

Where nothing moves any more eps_t is minus the loss gradient in hhat_t, and the weights learn from products of errors
and activities next to them. Source: Millidge, Tschantz & Buckley, "Predictive coding approximates backprop along
arbitrary computation graphs" (2020); its published code relaxes one step after the other, from the last to the first
(`in_turn`), its algorithm all at once (`at_once`).

Shapes: B batch, T time, H hidden units, V symbols.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Weights(NamedTuple):
    """A recurrent network without biases; also its gradient."""

    into: Tensor  # Wx, [H, V]
    recurrent: Tensor  # Wh, [H, H]
    out: Tensor  # Wy, [V, H]

    @classmethod
    def draw(cls, symbols: int, hidden: int) -> "Weights":
        """Uniform within 1 / sqrt(H), as torch.nn.RNN, from torch's global generator."""
        bound = hidden**-0.5
        shapes = ((hidden, symbols), (hidden, hidden), (symbols, hidden))
        return cls(*(torch.empty(shape).uniform_(-bound, bound) for shape in shapes))


class Predictions(NamedTuple):
    """What the forward pass fixes."""

    hidden: Tensor  # hhat_t, [B, T, H]
    slope: Tensor  # tanh' there, [B, T, H]
    signal: Tensor  # Wy' e_t is made of this e_t, over the number of predictions, [B, T, V]


Relaxation = Callable[[Weights, Predictions, int, float], Tensor]


def forward(weights: Weights, x: Tensor) -> Tensor:
    """Hidden values [B, T, H] of symbols x [B, T], from a zero state."""
    values, hidden = [], weights.into.new_zeros(x.shape[0], weights.recurrent.shape[0])
    for drive in F.embedding(x, weights.into.T).unbind(1):
        hidden = torch.tanh(drive + hidden @ weights.recurrent.T)
        values.append(hidden)
    return torch.stack(values, 1)


def loss(weights: Weights, x: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the next symbol: what autograd differentiates."""
    return F.cross_entropy((forward(weights, x) @ weights.out.T).flatten(0, 1), targets.flatten())


def predict(weights: Weights, x: Tensor, targets: Tensor) -> Predictions:
    """The forward pass, and the output errors it leaves."""
    hidden = forward(weights, x)
    expected = (hidden @ weights.out.T).softmax(-1)
    error = F.one_hot(targets, expected.shape[-1]) - expected
    return Predictions(hidden, 1 - hidden.square(), error / targets.numel())


def in_turn(weights: Weights, predictions: Predictions, iterations: int, rate: float) -> Tensor:
    """Errors eps [B, T, H] after relaxing every value for so many iterations, the last one first."""
    errors = []
    child = torch.zeros_like(predictions.hidden[:, 0])  # eps_{t+1} tanh'_{t+1}
    steps = zip(*(part.unbind(1) for part in predictions), strict=True)
    for predicted, slope, signal in reversed(list(steps)):
        value = predicted.clone()
        for _ in range(iterations):
            value += rate * (predicted - value + signal @ weights.out + child @ weights.recurrent)
        errors.append(value - predicted)
        child = errors[-1] * slope
    return torch.stack(errors[::-1], 1)


def at_once(weights: Weights, predictions: Predictions, iterations: int, rate: float) -> Tensor:
    """Errors eps [B, T, H] after so many iterations in which every value moves."""
    predicted, slope, signal = predictions
    value = predicted.clone()
    for _ in range(iterations):
        error = value - predicted
        from_next = (error[:, 1:] * slope[:, 1:]) @ weights.recurrent
        value += rate * (signal @ weights.out - error + F.pad(from_next, (0, 0, 0, 1)))
    return value - predicted


def gradient(weights: Weights, x: Tensor, predictions: Predictions, errors: Tensor) -> Weights:
    """Gradient of the loss from errors eps [B, T, H]: products of the quantities at both ends of each weight."""
    hidden, slope, signal = predictions
    reaching = -(errors * slope).flatten(0, 1)
    before = F.pad(hidden[:, :-1], (0, 0, 1, 0)).flatten(0, 1)
    into = torch.zeros_like(weights.into.T).index_add_(0, x.flatten(), reaching).T
    return Weights(into, reaching.T @ before, -signal.flatten(0, 1).T @ hidden.flatten(0, 1))


@torch.no_grad()
def learn(
    weights: Weights, x: Tensor, targets: Tensor, iterations: int, *, rate: float = 0.1, relax: Relaxation = in_turn
) -> Weights:
    """Gradient of the loss at symbols x and targets [B, T] by that many iterations of inference."""
    predictions = predict(weights, x, targets)
    return gradient(weights, x, predictions, relax(weights, predictions, iterations, rate))
