"""A stack of predictive layers in which only prediction errors travel upward.

Shapes: B batch, T time, L layers, D natural parameters. Level 0 is the sensory level, whose expectation is a learned
base rate; level l = 1..L is layer l. By default the stack predicts the next observation; given a `target` family it
learns a label or a regression target at every step instead.

    e[0]_t   = T(x_t) - mu(eta[0]),    u[1]_t = pi e[0]_t
    eta[l]_t = eta[l-1]_t + P[l] r[l]_t
    e[l]_t   = T(x_t) - mu(eta[l]_{t-1})
    u[l+1]_t = concat(pi e[l]_t, eps[l]_t)    with a target: eps[l]_t alone, a target is not seen at test time

With top-down expectations eps[l]_t is what r[l+1]_{t-1} does not explain either, see `pcrnn.nn.top_down`.
With skip connections u[l+1]_t is made of the errors of several levels, see `pcrnn.nn.connections`.
With covariates what is known of the next step beforehand stands in u[1]_t beside pi e[0]_t; it is never expected.
With inference steps x_t refines r[l]_{t-1} before the next state is predicted from it, see `pcrnn.nn.state_inference`.

pi is the unit of all messages, 1 / running root mean square of level 0's errors, see `ErrorNorm`; or 1 where errors are
not normalised. pi e is cut off far out, at `Observation.message_limit`, so that nothing that happens throws the stack.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pcrnn.nn.activity import (
    BaseActivity,
    Chunk,
    LevelActivity,
    StackActivity,
    StackState,
    TargetScores,
    assemble_message,
)
from pcrnn.nn.cells import Cell
from pcrnn.nn.connections import Block, Skip, blocks, lowest_sources, width
from pcrnn.nn.inputs import check_observations
from pcrnn.nn.layer import LayerActivity, LayerState, Message, PredictiveLayer
from pcrnn.nn.observations import Observation
from pcrnn.nn.running_variance import HALF_LIFE
from pcrnn.nn.sensory import BaseRate, PassThrough
from pcrnn.nn.state_inference import StateInference
from pcrnn.nn.top_down import TopDownInput


class Layers(nn.ModuleList):
    """The layers of a stack, bottom first."""

    def __iter__(self) -> Iterator[PredictiveLayer]:  # type: ignore[override]
        return iter(self._modules.values())  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> PredictiveLayer:  # type: ignore[override]
        return list(self)[index]


class PredictiveStack(nn.Module):
    """L predictive layers over a sensory level; only prediction errors are sent up.

    Args:
        observation: family of what is observed; every level has a copy of its own, with its own statistics.
        hidden_sizes: number of units of each layer, bottom first.
        target: family of a supervised target, given at every step or where a mask says, copied likewise; None predicts
            the next observation.
        cell: name of one of `pcrnn.nn.cells.CELLS`, for every layer; or a function from a number of units to a cell.
        num_taps: length of every layer's delay line; None is the number that suits the family of what is expected, see
            `pcrnn.nn.observations.StackDefaults`.
        max_time_constant: longest initial time constant, in steps; None as suits that family.
        dropout: probability with which a number of a message is zeroed, in training mode.
        mixing: let the units of a layer meet within a step, see `PredictiveLayer`; None as suits that family.
        normalize_errors: send errors up in units of the running root mean square of level 0's; pi is 1 if False.
        half_life: of that, and of what the state surprises are measured by, in steps; see `RunningVariance`.
        skip: what a layer receives besides the errors of the level right below it; see `pcrnn.nn.connections`.
        top_down: send up only what the layer above did not expect; see `pcrnn.nn.top_down`.
        inference_steps: how often x_t refines every r_{t-1} before the next state is predicted from it; see
            `pcrnn.nn.state_inference`. Not with a target, which is not seen at test time.
        covariates: the number C of covariates: a step of x is then [D + C], and its last C numbers, which must be
            finite, are inputs of layer 1 beside the sensory error, but never predicted, scored or learned from. At step
            t they hold what is known beforehand of step t + 1: its hour, an action taken. Not with symbols.

    `connections` has the blocks of every layer's message, bottom first; `options` the arguments above from `cell` on,
    with what was None settled.

    >>> from pcrnn import Categorical
    >>> stack = PredictiveStack(Categorical(27), (32, 32))
    >>> expectation, state = stack(torch.zeros(4, 10, dtype=torch.long))
    >>> expectation.shape
    torch.Size([4, 10, 27])
    """

    directions: ClassVar[int] = 1  # in which a level reads time, with a layer for each
    activity_type: ClassVar[type[StackActivity]] = StackActivity

    def __init__(
        self,
        observation: Observation,
        hidden_sizes: Sequence[int],
        *,
        target: Observation | None = None,
        cell: str | Callable[[int], Cell] = "gated",
        num_taps: int | None = None,
        max_time_constant: float | None = None,
        dropout: float = 0.0,
        mixing: bool | None = None,
        normalize_errors: bool = True,
        half_life: float | None = HALF_LIFE,
        skip: Skip = "none",
        top_down: bool = False,
        inference_steps: int = 0,
        covariates: int = 0,
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ValueError("PredictiveStack: expected at least one hidden size, got none")
        if inference_steps < 0 or (inference_steps and target is not None):
            wanted = "at least 0" if target is None else "0 with a target, which is not seen at test time"
            raise ValueError(f"PredictiveStack: expected inference_steps of {wanted}, got {inference_steps}")
        if inference_steps:
            _ = observation.curvature  # raises for a family that has none
        if covariates < 0 or (covariates and observation.symbolic):
            wanted = "0 with symbols, beside which no number can stand" if observation.symbolic else "at least 0"
            raise ValueError(f"PredictiveStack: expected covariates of {wanted}, got {covariates}")
        defaults = (observation if target is None else target).stack_defaults
        num_taps = defaults.num_taps if num_taps is None else num_taps
        mixing = defaults.mixing if mixing is None else mixing
        if max_time_constant is None:
            max_time_constant = defaults.max_time_constant
        self.inference = StateInference(inference_steps) if inference_steps else None
        self.covariates = covariates
        self.options: dict[str, Any] = {
            "cell": cell, "num_taps": num_taps, "max_time_constant": max_time_constant, "dropout": dropout,
            "mixing": mixing, "normalize_errors": normalize_errors, "half_life": half_life, "skip": skip,
            "top_down": top_down, "inference_steps": inference_steps,
        }  # fmt: skip
        # Every level has a copy, because a family has running statistics: shared, they would be those of no level.
        self.sensory = BaseRate(deepcopy(observation), normalize_errors, half_life)
        self.prior = None if target is None else BaseRate(deepcopy(target))
        sizes = [self.directions * size for size in hidden_sizes]  # of the state errors
        self.connections = blocks(skip, observation.size, sizes, errors_rise=target is None, covariates=covariates)
        self._lowest_source = lowest_sources(self.connections)
        self.top_down = top_down
        layers = []
        for level, (size, input_blocks) in enumerate(zip(hidden_sizes, self.connections, strict=True), 1):
            layers += [
                PredictiveLayer(
                    width(input_blocks),
                    size,
                    observation=deepcopy(observation if target is None else target),
                    cell=cell if isinstance(cell, str) else cell(size),
                    num_taps=num_taps,
                    max_time_constant=max_time_constant,
                    dropout=dropout,
                    mixing=mixing,
                    half_life=half_life,
                    top_down_size=hidden_sizes[level] if top_down and level < len(hidden_sizes) else None,
                )
                for _ in range(self.directions)
            ]
        self.layers = Layers(layers)

    @classmethod
    def of_layer(cls, layer: PredictiveLayer) -> "PredictiveStack":
        """A one-layer view that shares `layer`: messages pass through, targets are what the layer expects."""
        stack = cls.__new__(cls)
        nn.Module.__init__(stack)
        stack.sensory = PassThrough(layer.input_size)
        stack.prior = BaseRate(deepcopy(layer.observation)).to(layer.weight).requires_grad_(False)
        stack.connections = blocks("none", layer.input_size, (layer.hidden_size,))
        stack._lowest_source = lowest_sources(stack.connections)
        stack.top_down, stack.inference, stack.covariates = False, None, 0
        stack.layers = Layers([layer])
        return stack

    @property
    def observation(self) -> Observation:
        """Family of what is observed."""
        return self.sensory.observation

    @property
    def base(self) -> BaseRate:
        """The level whose base rate starts the expectation: of the target if there is one."""
        return self.sensory if self.prior is None else self.prior

    @property
    def levels(self) -> list[BaseRate | PredictiveLayer]:
        """What forms the expectations eta[0], ..., eta[L]: the base, and each level's last layer."""
        return [self.base, *list(self.layers)[self.directions - 1 :: self.directions]]

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Number of units of each level's layers, bottom first."""
        return tuple(layer.hidden_size for layer in list(self.layers)[:: self.directions])

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator; base rates and running statistics as at the start."""
        for level in (self.base, self.sensory, *self.layers):
            level.reset_parameters()

    def initial_state(self, batch_size: int) -> StackState:
        """State before the first observation: layers at zero, the next observation expected at its base rate."""
        base = self.base.eta.detach().expand(batch_size, -1)
        return StackState(
            tuple(layer.initial_state(batch_size)._replace(expectation=base.clone()) for layer in self.layers)
        )

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Expectation of the next observation after each step of x (or of the step's target), [B, T, D], and state."""
        activity, state = self.observe(x, state)
        return activity.layers[-1].expectation, state

    def observe(self, x: Tensor, state: StackState | None = None) -> tuple[StackActivity, StackState]:
        """Run over observations x [B, T] or [B, T, D (+ C)] and return everything that happened, with the state after.

        Raises ValueError or TypeError for observations or a state of a wrong shape, dtype or range.
        """
        state = self.check(x, state)
        return self._observe(self.observe_base(x), x, state)

    def observe_chunk(self, chunk: Chunk, state: StackState | None = None) -> tuple[StackActivity, StackState]:
        """As `observe`, of a chunk that is learned from: its next-step targets are compared in the same pass."""
        state = self.check(chunk.observations, state)
        return self._observe(self.observe_base_of(chunk), chunk.observations, state)

    def _observe(self, base: BaseActivity, x: Tensor, state: StackState | None) -> tuple[StackActivity, StackState]:
        levels = list(self.observe_levels(base, self.initial_state(x.shape[0]) if state is None else state))
        layers = tuple(layer for level in levels for layer in level.layers)
        activity = self.activity_type(layers, base.expectation, base.error, base.surprise, base.scores)
        return activity, StackState(tuple(part for level in levels for part in level.state))

    def observe_base(self, x: Tensor, following: Tensor | None = None) -> BaseActivity:
        """Level 0 over observations x [B, T] or [B, T, D (+ C)].

        Args:
            following: x_{T+1} without covariates, [B, 1] or [B, 1, D], to be compared with what is expected now.
        """
        (observed, covariates), steps, scores = self.split_covariates(x), x.shape[1], None
        if following is not None:
            observed = torch.cat([observed, following], 1)
        error, surprise = self.sensory(observed)
        if following is not None:
            scores = error[:, 1:], surprise[:, 1:]
            error, surprise = error[:, :steps], surprise[:, :steps]
        expectation = self.base.eta.expand(x.shape[0], steps, -1)
        message = Message(self.sensory.message(observed[:, :steps], error), None, covariates)
        return BaseActivity(observed, expectation, error, surprise, message, self.sensory.unit, scores)

    def observe_base_of(self, chunk: Chunk) -> BaseActivity:
        """Level 0 over a chunk that is learned from; ValueError where its next-step targets are none."""
        if self.prior is not None:
            return self.observe_base(chunk.observations)
        self.check_shifted(chunk)
        return self.observe_base(chunk.observations, self.split_covariates(chunk.targets[:, -1:])[0])

    def observe_levels(self, base: BaseActivity, state: StackState) -> Iterator[LevelActivity]:
        """Run the levels over one chunk, bottom up; each comes as soon as nothing above it can change it.

        A caller that drops a level's activity before it asks for the next keeps the memory of a pass to that of a level
        or two.
        """
        yield from self.observe_layers(
            range(len(self.layers)), base.observed, state.layers, {0: base.message}, base.expectation, base.unit
        )

    def observe_layers(
        self,
        indices: range,
        observed: Tensor,
        states: Sequence[LayerState],
        messages: dict[int, Message],
        expectation: Tensor,
        unit: Tensor | None,
    ) -> Iterator[LevelActivity]:
        """Run some neighbouring layers (0 = bottom) over one chunk, as `observe_levels` does.

        Args:
            states: of every layer of the stack.
            messages: of the levels below that these layers read; those of the layers are added.
            expectation: eta of the level below the lowest, [B, T, D].
            unit: pi, of all messages, [1]; level 0 has it.
        """
        waiting: LevelActivity | None = None  # with top-down prediction, for what the layer above predicts of it
        for index in indices:
            layer, blocks, top_down = self.layers[index], self.connections[index], None
            if waiting is not None:
                top_down = self._top_down_input(index - 1, waiting.layers[0], blocks)
                messages[index] = messages[index]._replace(state_error=torch.zeros_like(top_down.output))
            activity, after = layer.observe(
                assemble_message(blocks, messages),
                states[index],
                observed=observed if self.prior is None else None,
                below=expectation,
                top_down=top_down,
                inference=self.inference,
                unit=unit,
            )
            if waiting is not None:
                revised = self.layers[index - 1].with_top_down(waiting.layers[0], activity.saved.previous_output)
                messages[index] = revised.message
                yield waiting._replace(layers=(revised,))
            expectation, messages[index + 1] = activity.expectation, activity.message
            for level in [level for level in messages if level < self._lowest_source[index + 1]]:
                del messages[level]  # no layer above reads it
            waiting = LevelActivity((activity,), (after,), expectation)
            del activity  # so that nothing here keeps it while the next layer runs
            if not self.top_down:
                yield waiting
                waiting = None
        if waiting is not None:
            yield waiting

    def split_covariates(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What of x [..., D + C] is observed, [..., D], and its covariates, [..., C]; x and None where it has none."""
        if not self.covariates:
            return x, None
        seen, covariates = x.split((x.shape[-1] - self.covariates, self.covariates), -1)
        return seen, covariates

    def without_covariates(self, chunk: Chunk) -> Chunk:
        """What of a chunk is learned from: its observations and targets without covariates."""
        if not self.covariates:
            return chunk
        targets = self.split_covariates(chunk.targets)[0] if self.prior is None else chunk.targets
        return chunk._replace(observations=self.split_covariates(chunk.observations)[0], targets=targets)

    def _top_down_input(self, index: int, activity: LayerActivity, blocks: Sequence[Block]) -> TopDownInput:
        """What of layer `index` (0 = bottom) the layer above, whose message has these blocks, predicts."""
        weight = self.layers[index].top_down_weight
        assert weight is not None
        at, block = next(
            (i, block) for i, block in enumerate(blocks) if block.part == "state_error" and index + 1 in block.levels
        )
        start = width(blocks[:at])
        columns = slice(start, start + block.width)
        return TopDownInput(activity.output, activity.saved.predicted, weight, columns)

    def score_targets(self, activity: StackActivity, chunk: Chunk) -> TargetScores:
        """Errors and surprises of every level's expectations eta[l]_t against the chunk's targets."""
        chunk = self.without_covariates(chunk)
        tops = activity.layers[self.directions - 1 :: self.directions]  # each level's last layer
        if self.prior is not None:
            scores: Iterable[Any] = [None] * len(self.levels)
        elif activity.base_scores is None:  # the pass did not know x_{T+1}
            self.check_shifted(chunk)
            observed = (activity.base_error, activity.base_surprise), *(top.error_and_surprise for top in tops)
            scores = map(partial(self._score_last, chunk), self.levels, activity.expectations, observed)
        else:
            scores = activity.base_scores, *(top.saved.scores for top in tops)
        pairs = [
            self.score_level(level, eta, chunk, known)
            for level, eta, known in zip(self.levels, activity.expectations, scores, strict=True)
        ]
        return TargetScores(tuple(error for error, _ in pairs), torch.stack([surprise for _, surprise in pairs]))

    def score_level(
        self,
        level: BaseRate | PredictiveLayer,
        expectation: Tensor,
        chunk: Chunk,
        scores: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """Error [B, T, D] and surprise [B, T] of one level's eta[l]_t [B, T, D] against the chunk's targets.

        Args:
            chunk: without covariates.
            scores: what the pass found of next-step targets; None with labels.
        """
        return level.observation.prediction_error(expectation, chunk.targets) if scores is None else scores

    @staticmethod
    def _score_last(
        chunk: Chunk, level: BaseRate | PredictiveLayer, expectation: Tensor, observed: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Error and surprise of the targets: those of the observations, which all but the last of them were."""
        last = level.observation.prediction_error(expectation[:, -1:], chunk.targets[:, -1:])
        error, surprise = (torch.cat([before[:, 1:], after], 1) for before, after in zip(observed, last, strict=True))
        return error, surprise

    @torch.no_grad()
    def adapt(self, activity: StackActivity, scores: TargetScores, chunk: Chunk) -> None:
        """Move the running variances (of each family, state predictor and error) towards those of one chunk."""
        chunk = self.without_covariates(chunk)
        self.adapt_sensory(activity.base_error, chunk)
        for level, eta, error in zip(self.levels, activity.expectations, scores.error, strict=True):
            self.adapt_level(level, eta, error, chunk)
        for layer, of_layer in zip(self.layers, activity.layers, strict=True):
            layer.adapt(of_layer.saved.state_residual)

    def adapt_level(self, level: BaseRate | PredictiveLayer, expectation: Tensor, error: Tensor, chunk: Chunk) -> None:
        """The running variances of one level's family, and at level 0 of its errors; `chunk` is without covariates."""
        if level is self.sensory:
            counted = level.observation.counted(chunk.targets, chunk.mask)
            self.sensory.error_norm.adapt(level.observation.residual(expectation, chunk.targets, error), counted)
        level.observation.adapt(expectation, chunk.targets, chunk.mask)

    def adapt_sensory(self, error: Tensor, chunk: Chunk) -> None:
        """With labels, which are not observed: the running variance of the sensory errors, the only ones sent up.

        Without labels `adapt_level` has it; an input that is passed through has none.
        """
        if self.prior is None or not isinstance(self.sensory, BaseRate):
            return
        x, observation = chunk.observations, self.observation
        residual = observation.residual(self.sensory.eta.expand_as(error), x, error)
        self.sensory.error_norm.adapt(residual, observation.known(x))

    def check(self, x: Tensor, state: StackState | None) -> StackState | None:
        """Raise ValueError or TypeError for observations or a state of a wrong shape, dtype or range.

        Returns the state, as a StackState where it came in plain tuples.
        """
        check_observations(x, self.observation, self.covariates)
        state = None if state is None else StackState.of(state)
        if state is not None and len(state.layers) != len(self.layers):
            raise ValueError(f"PredictiveStack: expected a state of {len(self.layers)} layers, got {len(state.layers)}")
        return state

    @staticmethod
    def check_shifted(chunk: Chunk) -> None:
        """Raise ValueError where a next-step chunk's targets are not its observations one step later."""
        if torch.compiler.is_compiling() or chunk.targets.device.type != "cpu":
            return
        x, y = chunk.targets[:, :-1], chunk.observations[:, 1:]
        if x.shape != y.shape or not (x.equal(y) or ((x == y) | ((x != x) & (y != y))).all()):  # NaN is missing
            raise ValueError(
                "PredictiveStack: expected targets to be the observations one step later, got others; "
                "build the chunk with Chunk.of_stream(x), or give the stack a `target` family"
            )
