"""Models of the outside world at about a stack's number of parameters, and BPTT through them.

torch's LSTM and GRU with a linear readout, a causal transformer of torch's own layers, a linear autoregression. Each
answers to the names of a `PredictiveStack` that a `Learner` and an evaluation use, so that all are trained and scored
alike.

Shapes: B batch, T time, D natural parameters of the target, I channels of the input (one-hot for symbols).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from learning_rules import Result
from pcrnn import Chunk
from pcrnn.nn.observations import Observation

NETWORKS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}
TRANSFORMER, LINEAR = "transformer", "linear AR"
HEADS = 4
FEED_FORWARD = 4  # times as wide as the model
INITIAL_DEVIATION = 0.02  # of a transformer's weights


class NetworkActivity(NamedTuple):
    """What a network did over a chunk, under the name that a stack's activity has for it."""

    expectations: tuple[Tensor]  # [B, T, D]


class NetworkScores(NamedTuple):
    """Surprise of the chunk's targets."""

    surprise: Tensor  # [1, B, T], nats


class Window(NamedTuple):
    """The last N inputs of a network whose memory they are, zeros where there were fewer."""

    inputs: Tensor  # [B, N, I]
    seen: Tensor  # [] int64, how many of them there were: as many in every lane

    @classmethod
    def empty(cls, batch: int, steps: int, channels: int, like: Tensor) -> "Window":
        """That of a sequence that has not begun."""
        seen = torch.zeros((), dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(batch, steps, channels), seen)

    def then(self, x: Tensor) -> "Window":
        """The window after inputs x [B, T, I]."""
        steps = self.inputs.shape[1]
        inputs = torch.cat([self.inputs, x], 1)
        return Window(inputs[:, inputs.shape[1] - steps :], (self.seen + x.shape[1]).clamp_max(steps))


class Network(nn.Module, ABC):
    """Receives observations, emits natural parameters of the target: the usual language model, for any family."""

    readout: nn.Linear

    def __init__(self, observation: Observation, target: Observation) -> None:
        super().__init__()
        self.observation, self.target = observation, target

    @property
    def layers(self) -> list[nn.Linear]:
        """What stands for a stack's layers."""
        return [self.readout]

    @abstractmethod
    def initial_state(self, batch: int) -> Any:
        """The state before the first observation."""

    @abstractmethod
    def expect(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Natural parameters after each of the inputs x [B, T, I], [B, T, D], and the state after the last."""

    def observe(self, x: Tensor, state: Any = None) -> tuple[NetworkActivity, Any]:
        """Run over observations x [B, T] or [B, T, I]; what it did, and the state after."""
        if self.observation.symbolic:
            x = self.observation.statistic(x, self.readout.weight.dtype)
        expectation, state = self.expect(x, self.initial_state(len(x)) if state is None else state)
        return NetworkActivity((expectation,)), state

    def score_targets(self, activity: NetworkActivity, chunk: Chunk) -> NetworkScores:
        """Surprise of a chunk's targets."""
        return NetworkScores(self.target.surprise(activity.expectations[-1], chunk.targets).unsqueeze(0))


class Recurrent(Network):
    """torch's LSTM or GRU with a linear readout.

    Weights begin as torch draws them, except that the biases of an LSTM's forget gate add up to 1 (`bias_ih` 1,
    `bias_hh` 0), so that it remembers before it has learned to: Jozefowicz, Zaremba & Sutskever (2015), "An empirical
    exploration of recurrent network architectures". Dropout works where it usually does (Zaremba et al. 2014): between
    the layers and before the readout.
    """

    def __init__(
        self, name: str, observation: Observation, target: Observation, width: int, layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__(observation, target)
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between the layers of a single one
        self.core = NETWORKS[name](observation.size, width, num_layers=layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(width, target.size)
        if isinstance(self.core, nn.LSTM):
            forget = slice(width, 2 * width)  # torch stacks the gates as input, forget, cell, output
            for layer in range(layers):
                nn.init.ones_(getattr(self.core, f"bias_ih_l{layer}").data[forget])
                nn.init.zeros_(getattr(self.core, f"bias_hh_l{layer}").data[forget])

    def initial_state(self, batch: int) -> Any:
        """Zeros for every layer, [layers, B, width]."""
        zeros = self.readout.weight.new_zeros(self.core.num_layers, batch, self.core.hidden_size)
        return (zeros, zeros.clone()) if isinstance(self.core, nn.LSTM) else zeros

    def expect(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = self.core(x, state)
        return self.readout(self.dropout(output)), state


class Transformer(Network):
    """A causal transformer of torch's own layers, by the recipe of GPT-2 and nanoGPT (Radford et al. 2019).

    Normalisation before each block, GELU, learned positions, weights from N(0, 0.02), those that write into the
    residual stream from N(0, 0.02 / sqrt(2 layers)), biases 0. Symbols and real vectors enter through a linear map.

    Its state is the last C - 1 inputs, C being the `context`. A chunk is read in pieces of at most C steps, each
    together with those inputs, so that every step of every chunk, in training and in scoring, has between C - 1 and
    2 C - 2 steps behind it, or all that there were since the sequence began. Nothing that it computed before is kept:
    the inputs carried over are read anew, and the gradient goes through them.

    Args:
        width: of the model, a multiple of `heads`.
        feed_forward: width of the hidden layer of each block's perceptron.
        context: C, steps.
        dropout: of the embedded input, of attention and of what each block adds.
    """

    def __init__(
        self,
        observation: Observation,
        target: Observation,
        width: int,
        feed_forward: int,
        layers: int,
        context: int,
        *,
        heads: int = HEADS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(observation, target)
        self.context = context
        self.embedding = nn.Linear(observation.size, width, bias=False)  # positions have one
        self.positions = nn.Parameter(torch.empty(2 * context - 1, width))
        self.dropout = nn.Dropout(dropout)
        shared = {"activation": "gelu", "norm_first": True, "batch_first": True}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, **shared) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, target.size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of the recipe."""
        into_residual = INITIAL_DEVIATION / (2 * len(self.blocks)) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                writes = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(parameter, std=into_residual if writes else INITIAL_DEVIATION)

    def initial_state(self, batch: int) -> Window:
        """A window with nothing in it."""
        return Window.empty(batch, self.context - 1, self.observation.size, self.readout.weight)

    def expect(self, x: Tensor, state: Window) -> tuple[Tensor, Window]:
        expected = []
        for piece in x.split(self.context, 1):
            expected.append(self._piece(piece, state.inputs[:, self.context - 1 - int(state.seen) :]))
            state = state.then(piece)
        return torch.cat(expected, 1), state

    def _piece(self, x: Tensor, before: Tensor) -> Tensor:
        """Natural parameters after each of at most C inputs, given those before them, [B, T, D]."""
        inputs = torch.cat([before, x], 1)
        first, steps = self.context - 1 - before.shape[1], inputs.shape[1]
        hidden = self.dropout(self.embedding(inputs) + self.positions[first : first + steps])
        mask = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return self.readout(self.norm(hidden[:, before.shape[1] :]))


class LinearAutoregression(Network):
    """A linear map, with a bias, from the last K inputs of all channels to the natural parameters of the next step.

    It has D (K I + 1) parameters, whatever the stack has. It begins at 0, which expects the mean of a standardised
    series; before the sequence began all inputs are 0.

    Args:
        steps: K.
    """

    def __init__(self, observation: Observation, target: Observation, steps: int = 48) -> None:
        super().__init__(observation, target)
        self.steps = steps
        self.readout = nn.Linear(steps * observation.size, target.size)  # of the oldest step first
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def initial_state(self, batch: int) -> Window:
        """A window with nothing in it."""
        return Window.empty(batch, self.steps - 1, self.observation.size, self.readout.weight)

    def expect(self, x: Tensor, state: Window) -> tuple[Tensor, Window]:
        last = torch.cat([state.inputs, x], 1).unfold(1, self.steps, 1)  # [B, T, I, K]
        return self.readout(last.transpose(-1, -2).flatten(-2)), state.then(x)


class NetworkBptt:
    """Truncated backpropagation through time of a `Network`: a rule of `learning_rules`, for this kind of model."""

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
        both = torch.cat([surprise, surprise])
        result = Result(loss.detach(), both, torch.zeros_like(surprise), expectation, expectation)
        return result, tree_map(Tensor.detach, state), carry

    def clip_groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """One group: BPTT's gradient is one vector."""
        return {"network": list(model.parameters())}


def equal_width(wanted: int, build: Callable[[int], nn.Module], step: int = 1) -> int:
    """The width, a multiple of `step`, at which the parameters of what `build` makes come closest to a wanted number.

    Their number grows with the width; of two widths as close the narrower one is taken.
    """

    def size(steps: int) -> int:
        return planned_size(lambda: build(step * steps))

    below, enough = 0, 1
    while size(enough) < wanted:
        below, enough = enough, 2 * enough
    while enough - below > 1:
        middle = (below + enough) // 2
        below, enough = (middle, enough) if size(middle) < wanted else (below, middle)
    if below and wanted - size(below) <= size(enough) - wanted:
        return step * below
    return step * enough


def planned_size(build: Callable[[], nn.Module]) -> int:
    """Number of parameters of what `build` makes, none of which is allocated."""
    with torch.device("meta"):
        return size_of(build())


def size_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
