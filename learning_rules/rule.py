"""What every learning rule provides: one chunk in, gradients added to `.grad`, the surprise of every layer out.

Shapes: B batch, T time, L layers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from pcrnn.nn.activity import Chunk, StackState
from pcrnn.nn.layer import LayerState, PredictiveLayer
from pcrnn.nn.stack import PredictiveStack

Model = PredictiveStack | PredictiveLayer
ModelState = StackState | LayerState
Hook = Callable[[PredictiveLayer], None]


def no_op(layer: PredictiveLayer) -> None:
    """Default hook: does nothing."""


class Result(NamedTuple):
    """What a rule saw while it learned from one chunk; everything detached."""

    loss: Tensor  # mean surprise of the top level where targets count, nats per step, scalar
    surprise: Tensor  # surprise[l]_t of the targets, level 0 first, nats, [L + 1, B, T]
    state_surprise: Tensor  # nats, [L, B, T]
    output: Tensor  # r_t of the top layer, [B, T, N]
    expectation: Tensor  # eta_t of the top level, which the targets were compared with, [B, T, D]


class Rule(Protocol):
    """A learning rule. It reads stacks and layers, never data, files or flags."""

    def init(self, model: Model, batch_size: int) -> Any:
        """What the rule carries between chunks (eligibility traces; nothing for BPTT)."""
        ...

    def accumulate(
        self, model: Model, chunk: Chunk, state: ModelState | None, carry: Any, on_grad_ready: Hook = no_op
    ) -> tuple[Result, ModelState, Any]:
        """Add the gradient of the mean loss over one chunk to `.grad` of the model's parameters.

        `on_grad_ready` is called with each layer as soon as its gradient is complete, while others are still at work.
        Returns the result, the state after the chunk and the carry after it, which may be the one passed in,
        advanced in place. Any torch.optim optimiser then makes the step.
        """
        ...

    def clip_groups(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Parameters whose gradients are clipped together, by name."""
        ...


def wrap_as_stack(model: Model, state: ModelState | None) -> tuple[PredictiveStack, StackState | None]:
    """See a single layer, and its state, as a stack of one."""
    if isinstance(model, PredictiveStack) and not isinstance(state, LayerState):
        return model, state
    if isinstance(model, PredictiveLayer) and not isinstance(state, StackState):
        return PredictiveStack.of_layer(model), None if state is None else StackState((LayerState.of(state),))
    raise TypeError(
        "expected a PredictiveStack with its StackState or a PredictiveLayer with its LayerState, got "
        f"{type(model).__name__} with {type(state).__name__}; for layers inside another model use "
        "learning_rules.learns_locally(model)"
    )


def unwrap_state(model: Model, state: StackState) -> ModelState:
    """The state of a stack of one as the state of its layer, where the model is a layer."""
    return state.layers[0] if isinstance(model, PredictiveLayer) else state
