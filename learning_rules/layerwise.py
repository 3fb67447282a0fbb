"""Spatial credit `layer`, bottom up: every level learns from its own error as soon as it has run over the chunk.

Nothing is sent down, so a level has learned before the one above it runs, and its activity can be dropped: memory is
that of a level or two, not of the stack. The forward pass is the stack's own, one level at a time.
"""

from collections.abc import Callable

from torch import Tensor

from learning_rules.credit import learn_base_rates, learn_family
from pcrnn.nn.activity import BaseActivity, Chunk, LevelActivity, flip_time
from pcrnn.nn.layer import LayerActivity
from pcrnn.nn.stack import PredictiveStack

LayerLearns = Callable[[int, LayerActivity, Tensor], None]
"""Layer `index` (0 = bottom) learns from its activity and the gradient of the loss in eta_t, [B, T, D], in its time."""


def base_update(stack: PredictiveStack, base: BaseActivity, chunk: Chunk, weight: Tensor) -> Tensor:
    """Level 0 learns from one chunk and adapts; its surprise at the targets, nats, [B, T].

    Args:
        chunk: without covariates.
        weight: of each step in the mean loss, [B, T, 1].
    """
    error, surprise = stack.score_level(stack.base, base.expectation, chunk, base.scores)
    learn_base_rates(stack, error, base.error, weight)
    learn_family(stack.base, base.expectation, chunk.targets, weight)
    stack.adapt_sensory(base.error, chunk)
    stack.adapt_level(stack.base, base.expectation, error, chunk)
    return surprise


def level_update(
    stack: PredictiveStack, number: int, level: LevelActivity, chunk: Chunk, weight: Tensor, learn: LayerLearns
) -> Tensor:
    """Level `number` = 1..L learns from one chunk and adapts; its surprise at the targets, nats, [B, T].

    Args:
        chunk: without covariates.
        weight: of each step in the mean loss, [B, T, 1].
        learn: called for the level's layer, or for both.
    """
    top, module, first = level.layers[-1], stack.levels[number], (number - 1) * stack.directions
    error, surprise = stack.score_level(module, level.expectation, chunk, top.saved.scores)
    learn_family(module, level.expectation, chunk.targets, weight)
    grad = -weight * error
    for direction, activity in enumerate(level.layers):
        learn(first + direction, activity, flip_time(grad, direction))
    stack.adapt_level(module, level.expectation, error, chunk)
    for direction, activity in enumerate(level.layers):
        stack.layers[first + direction].adapt(activity.saved.state_residual)
    return surprise
