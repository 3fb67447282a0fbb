"""torch's own LSTM and GRU with a linear readout, of about as many parameters as a stack, and BPTT through them.

Shapes: B batch, T time, D natural parameters of the target.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from learning_rules import Result
from pcrnn import Chunk
from pcrnn.nn.observations import Observation

NETWORKS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}


class NetworkActivity(NamedTuple):
    """What a network did over a chunk, under the name that a stack's activity has for it."""

    expectations: tuple[Tensor]  # [B, T, D]


class NetworkScores(NamedTuple):
    """Surprise of the chunk's targets."""

    surprise: Tensor  # [1, B, T], nats


class Recurrent(nn.Module):
    """Receives observations, emits natural parameters of the target: the usual language model, for any family.

    Dropout works where it usually does (Zaremba et al. 2014): between the layers and before the readout. It answers to
    the names of a `PredictiveStack` that a `Learner` and an evaluation use, so that both are trained and scored alike.
    """

    def __init__(
        self, name: str, observation: Observation, target: Observation, width: int, layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.observation, self.target = observation, target
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between the layers of a single one
        self.core = NETWORKS[name](observation.size, width, num_layers=layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(width, target.size)

    @property
    def layers(self) -> list[nn.Linear]:
        """What stands for a stack's layers."""
        return [self.readout]

    def initial_state(self, batch: int) -> Any:
        """Zeros for every layer, [layers, B, width]."""
        zeros = self.readout.weight.new_zeros(self.core.num_layers, batch, self.core.hidden_size)
        return (zeros, zeros.clone()) if isinstance(self.core, nn.LSTM) else zeros

    def observe(self, x: Tensor, state: Any = None) -> tuple[NetworkActivity, Any]:
        """Run over observations x [B, T] or [B, T, D]; what it did, and the state after."""
        if self.observation.symbolic:
            x = self.observation.statistic(x, self.readout.weight.dtype)
        output, state = self.core(x, state)
        return NetworkActivity((self.readout(self.dropout(output)),)), state

    def score_targets(self, activity: NetworkActivity, chunk: Chunk) -> NetworkScores:
        """Surprise of a chunk's targets."""
        return NetworkScores(self.target.surprise(activity.expectations[-1], chunk.targets).unsqueeze(0))


class NetworkBptt:
    """Truncated backpropagation through time of a `Recurrent`: a rule of `learning_rules`, for this kind of model."""

    def init(self, model: Any, batch_size: int) -> tuple[()]:
        """BPTT carries nothing but the state."""
        return ()

    def accumulate(
        self, model: Any, chunk: Chunk, state: Any, carry: tuple[()], on_grad_ready: Any = None
    ) -> tuple[Result, Any, tuple[()]]:
        """Add the gradient of the chunk's mean surprise to `.grad`; see `learning_rules.Rule.accumulate`."""
        activity, state = model.observe(chunk.observations, state)
        surprise = model.score_targets(activity, chunk).surprise
        loss = (surprise[-1] * chunk.weights(surprise.dtype)).sum()
        loss.backward()
        expectation = activity.expectations[-1].detach()
        model.target.adapt(expectation, chunk.targets, chunk.mask)
        surprise = surprise.detach()  # there is no level below: both have the same surprise
        result = Result(loss.detach(), torch.cat([surprise, surprise]), torch.zeros_like(surprise), expectation)
        return result, tree_map(Tensor.detach, state), carry

    def clip_groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """One group: BPTT's gradient is one vector."""
        return {"network": list(model.parameters())}


def equal_width(wanted: int, build: Callable[[int], nn.Module]) -> int:
    """The width at which the parameters of what `build` makes come closest to a wanted number."""

    def distance(width: int) -> int:
        return abs(planned_size(lambda: build(width)) - wanted)

    width = 1
    while distance(width + 1) < distance(width):
        width += 1
    return width


def planned_size(build: Callable[[], nn.Module]) -> int:
    """Number of parameters of what `build` makes, none of which is allocated."""
    with torch.device("meta"):
        return size_of(build())


def size_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
