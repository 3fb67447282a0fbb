"""One predictive layer: a recurrent cell that predicts its own next state and corrects an expectation.

Shapes: B batch, T time, M message width, K delay-line length, N hidden units, D natural parameters.

    k_t   = W [u_t, ..., u_{t-K+1}] + b            delay line of the last K messages
    q_t   = cell(k_t, s_{t-1})                     one of pcrnn.nn.cells
    r_t   = q_t + (A q_t) sigmoid(B q_t)           where units are mixed, else r_t = q_t
    eps_t = rms_norm(r_t - Q r_{t-1})              error of the layer's prediction of its own next output; less
                                                   D r_{t-1} of the layer above with top-down prediction, and of
                                                   r*_{t-1} where states are inferred, see pcrnn.nn.state_inference
    eta_t = eta_below_t + P r_t                    corrected expectation of the NEXT observation
    e_t   = d/d eta log p(x_t given eta_{t-1})     error of the expectation formed one step before; what is sent up is
                                                   pi (T(x_t) - mu(eta_{t-1})), bounded, and eps_t
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.errors import InputError
from pcrnn.nn import cells
from pcrnn.nn.cells import Cell, CellActivity
from pcrnn.nn.delay_line import delay_line
from pcrnn.nn.inputs import check_message, check_state, check_tensor, in_weight_dtype
from pcrnn.nn.observations import Gaussian, Observation
from pcrnn.nn.running_variance import HALF_LIFE, RunningVariance
from pcrnn.nn.state_inference import Belief, StateInference
from pcrnn.nn.top_down import Gates, TopDownInput, complete
from pcrnn.trees import portable


@portable
class LayerState(NamedTuple):
    """What a layer carries from one chunk to the next."""

    cell: Tensor  # the cell's state, [B, S N]
    output: Tensor  # r, [B, N]
    messages: Tensor  # the last K - 1 messages as the gates received them, oldest first, [B, K - 1, M]
    expectation: Tensor  # eta of the observation that comes next, [B, D]

    def detach(self) -> "LayerState":
        """The same state without an autograd graph."""
        return LayerState(*(part.detach() for part in self))

    @classmethod
    def of(cls, parts: Any) -> "LayerState":
        """A state from its parts in a plain tuple, as code that cuts any RNN's state from its past returns it.

        Raises InputError where they are not its four tensors.
        """
        if isinstance(parts, cls):
            return parts
        if not (isinstance(parts, tuple | list) and len(parts) == 4 and all(isinstance(p, Tensor) for p in parts)):
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise InputError(
                f"PredictiveLayer: expected a state of 4 tensors ({', '.join(cls._fields)}), got {got}; pass on what "
                "the layer returned, or start from layer.initial_state(batch_size)"
            )
        return cls(*parts)


class Message(NamedTuple):
    """What a level sends up over one chunk."""

    error: Tensor | None  # pi (T(x_t) - mu(eta_{t-1})), bounded, [B, T, D]; None where a level does not see x_t
    state_error: Tensor | None  # eps_t, [B, T, N]; None of the sensory level, which has no state
    covariates: Tensor | None = None  # of the sensory level, [B, T, C]; None where a stack has none


class Saved(NamedTuple):
    """What a layer keeps of one chunk for its learning rule."""

    window: Tensor  # delay line [u_t, ..., u_{t-K+1}], [B, T, K M]
    cell: CellActivity
    state_residual: Tensor  # r_t - r_hat_t, the state error before normalisation, [B, T, N]
    inverse_rms: Tensor  # of the residual, [B, T, 1]
    previous_output: Tensor  # r_{t-1}, [B, T, N]
    predicted: Tensor  # r_hat_t, [B, T, N]
    residual: Tensor | None  # T(x_t) - mu(eta_{t-1}), what e_t is sent up as, [B, T, D]; None where none is observed
    unit: Tensor  # pi, what the residual is multiplied with on its way up, [1]
    limit: float  # at which the product is cut off
    mixed: ops.Mixed | None = None  # of r_t, where the layer mixes its units
    scores: tuple[Tensor, Tensor] | None = None  # error and surprise of eta_t against x_{t+1}, where that was given
    dropout_mask: Tensor | None = None  # what dropout multiplied the message with, [B, T, M]
    previous_above: Tensor | None = None  # r_{t-1} of the layer above, where that predicts this one, [B, T, N above]
    inferred_output: Tensor | None = None  # r*_{t-1}, where inference steps are taken, [B, T, N]

    @property
    def predictor_input(self) -> Tensor:
        """What Q reads, [B, T, N]: r_{t-1}, or r*_{t-1} where inference steps are taken."""
        return self.previous_output if self.inferred_output is None else self.inferred_output


class LayerActivity(NamedTuple):
    """What a layer did over one chunk of T steps.

    `error` and `surprise` compare the observation x_t with the expectation formed one step before; they are None where
    the layer does not see what was observed.
    """

    output: Tensor  # r_t, [B, T, N]
    expectation: Tensor  # eta_t, [B, T, D]
    state_error: Tensor  # eps_t, [B, T, N], root mean square 1
    state_surprise: Tensor  # -log Normal(r_t; Q r_{t-1}, sigma^2) in nats, [B, T]
    error: Tensor | None  # e_t, [B, T, D]
    surprise: Tensor | None  # -log p(x_t given eta_{t-1}) in nats, [B, T]
    saved: Saved

    @property
    def message(self) -> Message:
        """What is sent up: the two prediction errors."""
        residual, unit, limit = self.saved.residual, self.saved.unit, self.saved.limit
        return Message(None if residual is None else (unit * residual).clamp(-limit, limit), self.state_error)

    @property
    def error_and_surprise(self) -> tuple[Tensor, Tensor]:
        """Error and surprise of what was observed; ValueError where the layer does not see it."""
        if self.error is None or self.surprise is None:
            raise ValueError("surprise: this stack has a target, compare with it by stack.score_targets(...)")
        return self.error, self.surprise


class Surroundings(NamedTuple):
    """What a stack tells a layer besides its message; see `PredictiveLayer.observe`."""

    observed: Tensor | None = None
    below: Tensor | None = None
    top_down: TopDownInput | None = None
    inference: StateInference | None = None
    unit: Tensor | None = None


class PredictiveLayer(nn.Module):
    """A recurrent layer that predicts its own next state and corrects an expectation of the next observation.

    Called like torch.nn.LSTM with batch_first: `output, state = layer(x)`, `output, state = layer(x, state)`, with x
    [B, T, input_size] or, unbatched, [T, input_size]. `observe` returns everything the layer computed.

    Args:
        input_size: width M of the incoming message.
        hidden_size: number of units N.
        observation: the family whose natural parameters the layer corrects; by default a Gaussian over the
            layer's own input, so a layer on its own learns to predict its next input.
        cell: name of one of `pcrnn.nn.cells.CELLS`, or a cell of hidden_size units.
        num_taps: length K of the delay line: how many of the last messages the gates see.
        max_time_constant: longest initial time constant, in steps; decays are spread between 1 and this.
        half_life: of the running variance behind the state surprise, in steps; see `RunningVariance`.
        dropout: probability with which a number of the message is zeroed, in training mode.
        mixing: let the units meet within a step, through a gated linear unit on the output of the cell; the memory
            stays elementwise, so traces stay exact.
        top_down_size: units of a layer above that predicts this one, too; see `pcrnn.nn.top_down`.

    Raises InputError, a ValueError and a RuntimeError as torch.nn.RNN raises the one or the other, for input or a state
    of a wrong shape, dtype or device; TypeError for input that is no tensor. Under autocast input of another floating
    dtype is taken.

    >>> layer = PredictiveLayer(3, 8)
    >>> output, state = layer(torch.zeros(2, 5, 3))
    >>> output.shape, state.cell.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        observation: Observation | None = None,
        cell: str | Cell = "gated",
        num_taps: int = 2,
        max_time_constant: float = 64.0,
        dropout: float = 0.0,
        mixing: bool = False,
        top_down_size: int | None = None,
        half_life: float | None = HALF_LIFE,
    ) -> None:
        super().__init__()
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_taps", num_taps)):
            if value < 1:
                raise ValueError(f"PredictiveLayer: {name} must be at least 1, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"PredictiveLayer: dropout must be at least 0 and below 1, got {dropout}")
        self.input_size, self.hidden_size, self.num_taps = input_size, hidden_size, num_taps
        self.dropout = dropout
        self.share: tuple[int, int] = (0, 1)  # of the lanes, of how many: dropout is drawn for all of them
        self.cell = cells.make(cell, hidden_size, max_time_constant)
        self.observation = Gaussian(input_size) if observation is None else observation
        self.weight = nn.Parameter(torch.empty(self.cell.blocks * hidden_size, num_taps * input_size))
        self.bias = nn.Parameter(torch.empty(self.cell.blocks * hidden_size))
        self.predictor = nn.Parameter(torch.empty(hidden_size, hidden_size))  # Q
        self.readout = nn.Parameter(torch.empty(self.observation.size, hidden_size))  # P
        self.mixing = nn.Parameter(torch.empty(2 * hidden_size, hidden_size)) if mixing else None  # [A; B]
        self.top_down_weight = (
            None if top_down_size is None else nn.Parameter(torch.empty(hidden_size, top_down_size))
        )  # D
        self.running = RunningVariance(hidden_size, half_life)
        self._draw()

    @property
    def state_variance(self) -> Tensor:
        """sigma^2, running variance of r_t - Q r_{t-1} per unit, [N]."""
        return self.running.believed

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator; running statistics as at the start."""
        self.cell.reset_parameters()  # which draws when it is made, before the layer does
        self._draw()
        for statistics in (self.observation, self.running):
            statistics.reset_parameters()

    def _draw(self) -> None:
        for matrix in (self.weight, self.predictor, self.readout, self.mixing):
            if matrix is not None:
                # as torch's recurrent layers: a message narrower than the layer does not drive its units harder
                bound = 1 / math.sqrt(max(matrix.shape[1], self.hidden_size))
                nn.init.uniform_(matrix, -bound, bound)
        self.cell.reset_parameters()
        if self.top_down_weight is not None:
            nn.init.zeros_(self.top_down_weight)  # the layer above predicts nothing before it has learned to
        with torch.no_grad():
            self.bias.copy_(self.cell.initial_bias())

    def initial_state(self, batch_size: int) -> LayerState:
        """State before the first observation: all zeros."""
        return LayerState(*(self.bias.new_zeros(shape) for shape in self._state_shapes(batch_size)))

    def _state_shapes(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        """Of the parts of a state."""
        n, b = self.hidden_size, batch_size
        return (b, self.cell.parts * n), (b, n), (b, self.num_taps - 1, self.input_size), (b, self.observation.size)

    def forward(
        self, x: Tensor, state: LayerState | None = None, surroundings: Surroundings | None = None
    ) -> tuple[Any, LayerState]:
        """Run over x [B, T, M] or [T, M]; returns the outputs r [B, T, N] or [T, N] and the state after the last.

        With `surroundings`, which `observe` passes, everything that happened stands in place of the outputs.
        """
        check_tensor(x, "PredictiveLayer")
        if x.dim() not in (2, 3):
            raise InputError(f"PredictiveLayer: expected 2-D or 3-D input, got {x.dim()}-D {list(x.shape)}; reshape it")
        state = None if state is None else LayerState.of(state)
        if surroundings is not None:
            return self._observe(x, state, surroundings)
        if x.dim() == 3:
            activity, state = self._observe(x, state, Surroundings())
            return activity.output, state
        batched = None if state is None else LayerState(*(part.unsqueeze(0) for part in state))
        activity, state = self._observe(x.unsqueeze(0), batched, Surroundings())
        return activity.output.squeeze(0), LayerState(*(part.squeeze(0) for part in state))

    def observe(
        self,
        message: Tensor,
        state: LayerState | None = None,
        *,
        observed: Tensor | None = None,
        below: Tensor | None = None,
        top_down: TopDownInput | None = None,
        inference: StateInference | None = None,
        unit: Tensor | None = None,
    ) -> tuple[LayerActivity, LayerState]:
        """Run over one chunk and return everything that happened.

        The layer is called, so its forward hooks fire, with `(LayerActivity, LayerState)` as the output.

        Args:
            message: incoming message u, [B, T, M].
            state: state before the chunk; zeros when None.
            observed: x_1 .. x_T, to be compared with what the layer expected one step before; or x_1 .. x_{T+1}, and
                what it expects now is compared, too.
            below: expectation of the levels below, eta_below [B, T, D] or broadcastable; zero when None.
            top_down: what the message lacks until this layer has predicted the one below.
            inference: refines r_{t-1} by x_t before Q reads it; needs `observed`.
            unit: what the layer's own errors are multiplied with on their way up, [1]; 1 when None. All layers of a
                stack have that of level 0, see `ErrorNorm`.
        """
        return self(message, state, Surroundings(observed, below, top_down, inference, unit))

    def _observe(
        self, message: Tensor, state: LayerState | None, surroundings: Surroundings
    ) -> tuple[LayerActivity, LayerState]:
        """The pass over one chunk, [B, T, M]."""
        observed, below, top_down, inference, unit = surroundings
        weight, bias = self.weight, self.bias
        message = in_weight_dtype(message, bias)
        check_message(message, self.input_size, bias)
        if state is None:
            state = self.initial_state(message.shape[0])
        else:
            check_state(state, self._state_shapes(message.shape[0]), LayerState._fields, bias)
        dtype = state.cell.dtype  # under autocast only the matrix products are in half precision
        message, dropout_mask = self.apply_dropout(message)
        if top_down is None:
            window, messages = delay_line(message, state.messages)
            preactivation = F.linear(window, weight, bias).to(dtype)
        else:
            gates, before = Gates(weight, bias, self._step), state.messages
            completed = complete(gates, message, dropout_mask, before, state.cell, state.output, top_down)
            message, preactivation = completed
            window, messages = delay_line(message, state.messages)
        cell = self.cell(preactivation, state.cell)
        output, mixed = self.mix(cell.output)
        previous_output = ops.shifted(state.output, output)
        expectation = F.linear(output, self.readout).to(dtype)
        if below is not None:
            expectation = expectation + below
        error = surprise = scores = seen = inferred_output = None
        if observed is not None:
            formed = torch.cat([state.expectation.unsqueeze(1), expectation], 1)[:, : observed.shape[1]]
            error, surprise = self.observation.prediction_error(formed, observed)
            steps = message.shape[1]
            seen = self.observation.residual(formed, observed, error)[:, :steps]
            if observed.shape[1] > steps:
                scores = error[:, 1:], surprise[:, 1:]
                error, surprise = error[:, :steps], surprise[:, :steps]
            if inference is not None:
                belief = Belief(previous_output, self.state_variance, formed[:, :steps], self.readout)
                inferred_output = inference.refine(belief, self.observation, observed[:, :steps])
        predicted = self.predict(previous_output if inferred_output is None else inferred_output)
        residual, state_error, inverse_rms = prediction_residual(output, predicted)
        saved = Saved(
            window=window,
            cell=cell,
            state_residual=residual,
            inverse_rms=inverse_rms,
            previous_output=previous_output,
            predicted=predicted,
            residual=seen,
            unit=message.new_ones(1) if unit is None else unit.to(dtype),
            limit=self.observation.message_limit,
            mixed=mixed,
            scores=scores,
            dropout_mask=dropout_mask,
            inferred_output=inferred_output,
        )
        surprise_of_state = self.state_surprise(residual)
        activity = LayerActivity(output, expectation, state_error, surprise_of_state, error, surprise, saved)
        return activity, LayerState(cell.last, output[:, -1], messages, expectation[:, -1])

    def apply_dropout(self, message: Tensor) -> tuple[Tensor, Tensor | None]:
        """The message [B, T, M] that reaches the gates, and the mask dropout multiplied it with, if there is one.

        In training mode each number is zeroed with probability `dropout` and the others are scaled up
        (Srivastava et al. 2014); it draws from torch's global generator.
        """
        if not (self.training and self.dropout):
            return message, None
        kept, (own, shares) = 1 - self.dropout, self.share
        drawn = message.new_empty(shares * len(message), *message.shape[1:]).bernoulli_(kept).div_(kept)
        dropout_mask = drawn.chunk(shares)[own]
        return message * dropout_mask, dropout_mask

    def mix(self, gated: Tensor) -> tuple[Tensor, ops.Mixed | None]:
        """r_t from the output of the cell, [B, T, N], and what the mixing's own credit needs."""
        return (gated, None) if self.mixing is None else ops.mix(gated, self.mixing)

    def predict(self, predictor_input: Tensor, previous_above: Tensor | None = None) -> Tensor:
        """r_hat_t = Q r_{t-1} + D r_{t-1} of the layer above, [B, T, N]; of r*_{t-1} where it is inferred."""
        own = F.linear(predictor_input, self.predictor)
        if previous_above is None or self.top_down_weight is None:
            return own.to(predictor_input.dtype)
        return (own + F.linear(previous_above, self.top_down_weight)).to(predictor_input.dtype)

    def with_top_down(self, activity: LayerActivity, previous_above: Tensor) -> LayerActivity:
        """The same activity once the layer above, whose r_{t-1} is [B, T, N above], has predicted this one as well."""
        assert self.top_down_weight is not None
        predicted = activity.saved.predicted
        predicted = predicted + F.linear(previous_above, self.top_down_weight).to(predicted.dtype)
        residual, state_error, inverse_rms = prediction_residual(activity.output, predicted)
        saved = activity.saved._replace(
            predicted=predicted, previous_above=previous_above, state_residual=residual, inverse_rms=inverse_rms
        )
        return activity._replace(state_error=state_error, state_surprise=self.state_surprise(residual), saved=saved)

    def _step(self, preactivation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The cell's state and r_t [B, N] after one step, from its preactivation [B, blocks N] and state."""
        cell = self.cell(preactivation.unsqueeze(1), memory)
        return cell.last, self.mix(cell.output)[0][:, 0]

    def adapt(self, state_residual: Tensor) -> None:
        """Move the running variance sigma^2 of the state predictor's error towards that of one chunk, [B, T, N]."""
        self.running.update(state_residual)

    def state_surprise(self, state_residual: Tensor) -> Tensor:
        """-log Normal(r_t; Q r_{t-1}, sigma^2) in nats, [B, T], from r_t - Q r_{t-1}; without a graph."""
        variance = self.state_variance
        constant = variance.log().sum() + self.hidden_size * math.log(2 * math.pi)
        squares = state_residual.detach().to(variance.dtype).square()
        return 0.5 * (squares @ variance.reciprocal() + constant)

    def extra_repr(self) -> str:
        dropped = f", dropout={self.dropout}" if self.dropout else ""
        mixes = ", mixing=True" if self.mixing is not None else ""
        top_down_size = "" if self.top_down_weight is None else f", top_down_size={self.top_down_weight.shape[1]}"
        options = f"{dropped}{mixes}{top_down_size}"
        return f"{self.input_size}, {self.hidden_size}, num_taps={self.num_taps}{options}"


def prediction_residual(output: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r_t - r_hat_t [B, T, N], detached; the same normalised, eps_t; and 1 / its root mean square, [B, T, 1]."""
    state_error, inverse_rms = ops.state_error(output, predicted)
    return (output - predicted).detach(), state_error, inverse_rms
