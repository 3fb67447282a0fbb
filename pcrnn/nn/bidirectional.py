"""A stack that reads a whole sequence in both directions, to label every place of it in the context of both sides.

Every level has two predictive layers, of the same class as everywhere: one reads forward, one backward, and each
predicts its own next state in its own direction. Both errors are sent up, in forward time; both readouts
correct the level's expectation of the target y_t.

    u[l+1]_t = concat(eps_forward[l]_t, eps_backward[l]_t)
    eta[l]_t = eta[l-1]_t + P_forward r_forward_t + P_backward r_backward_t

A backward stream begins at the end of the sequence: what is read must be bounded and there at once, and nothing is
carried to a next sequence. Source: Schuster & Paliwal, "Bidirectional recurrent neural networks" (1997).

Shapes: B batch, T time, N units of a layer, L levels.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from pcrnn.nn.activity import LevelActivity, StackActivity, StackState, assemble_message, flip_time
from pcrnn.nn.layer import LayerState, Message, PredictiveLayer
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import PredictiveStack


class BidirectionalActivity(StackActivity):
    """What a bidirectional stack did: two layers a level, the backward one's activity last place first."""

    __slots__ = ()

    @property
    def expectations(self) -> tuple[Tensor, ...]:
        """eta[l]_t, L + 1 times [B, T, D]."""
        return (self.base_expectation, *(flip_time(layer.expectation, 1) for layer in self.layers[1::2]))

    @property
    def output(self) -> Tensor:
        """r_t of both top layers, [B, T, 2 N]."""
        return torch.cat([flip_time(layer.output, k) for k, layer in enumerate(self.layers[-2:])], -1)

    @property
    def state_surprise(self) -> Tensor:
        """How badly each layer predicted its own next state, nats, [2 L, B, T]."""
        return torch.stack([flip_time(layer.state_surprise, k % 2) for k, layer in enumerate(self.layers)])


class BidirectionalStack(PredictiveStack):
    """L levels of a forward and a backward layer for labelling; both rules train it as they train a PredictiveStack.

    Args:
        observation: family of what is observed.
        hidden_sizes: number of units of each of a level's two layers, bottom first.
        target: family of the labels, given at every step or where a mask says.
        options: as for `PredictiveStack`.

    >>> from pcrnn import Categorical
    >>> stack = BidirectionalStack(Categorical(27), (32, 32), target=Categorical(5))
    >>> expectation, _ = stack(torch.zeros(4, 10, dtype=torch.long))
    >>> expectation.shape
    torch.Size([4, 10, 5])
    """

    directions: ClassVar[int] = 2
    activity_type: ClassVar[type[StackActivity]] = BidirectionalActivity

    def __init__(
        self, observation: Observation, hidden_sizes: Sequence[int], *, target: Observation, **options: Any
    ) -> None:
        super().__init__(observation, hidden_sizes, target=target, **options)
        if self.top_down:
            raise ValueError(
                "BidirectionalStack: expected top_down False, got True; what comes one step late in one direction "
                "comes one step early in the other, so leave it out"
            )

    @property
    def streams(self) -> list[tuple[PredictiveLayer, PredictiveLayer]]:
        """The forward and the backward layer of every level, bottom first."""
        layers = list(self.layers)
        return list(zip(layers[::2], layers[1::2], strict=True))

    def initial_state(self, batch_size: int) -> StackState:
        """Nothing: every sequence is read from both its ends."""
        return StackState(())

    def observe(self, x: Tensor, state: StackState | None = None) -> tuple[StackActivity, StackState]:
        """Read whole sequences x [B, T] or [B, T, D (+ C)] in both directions and return everything that happened.

        The state that is returned is each layer's at its own end of the sequence; nothing can go on from it.
        """
        return super().observe(x, state)

    def observe_layers(
        self,
        indices: range,
        observed: Tensor,
        states: Sequence[LayerState],
        messages: dict[int, Message],
        expectation: Tensor,
        unit: Tensor | None,
    ) -> Iterator[LevelActivity]:
        """As a PredictiveStack, whole levels at a time; states are ignored: a sequence starts at both its ends.

        The unit of errors is ignored, too: no layer sees what is observed, so none has errors to send up.
        """
        for level in range(indices.start // 2, indices.stop // 2):
            message, activities, states_after, errors = assemble_message(self.connections[level], messages), [], [], []
            for direction, layer in enumerate(self.streams[level]):
                activity, after = layer.observe(flip_time(message, direction), below=flip_time(expectation, direction))
                expectation = flip_time(activity.expectation, direction)
                errors.append(flip_time(activity.state_error, direction))
                activities.append(activity)
                states_after.append(after)
            messages[level + 1] = Message(None, torch.cat(errors, -1))
            yield LevelActivity(tuple(activities), tuple(states_after), expectation)

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Expectation of the target at every place of whole sequences x, [B, T, D], and each stream's last state."""
        activity, state = self.observe(x, state)
        return activity.expectations[-1], state

    def check(self, x: Tensor, state: StackState | None) -> StackState | None:
        """Raise ValueError or TypeError for observations of a wrong shape, dtype or range, ValueError for a state."""
        if state is not None and StackState.of(state).layers:
            raise ValueError(
                "BidirectionalStack: expected a whole sequence and no state, got a state to go on from; the backward "
                "stream begins at the sequence's end, so read all of it in one call, or use a PredictiveStack"
            )
        return super().check(x, None)
