"""Local learning: every layer learns from prediction errors with its own eligibility traces.

Equations (design: e = T(x) - mu(eta) the prediction error, P readout, Q state predictor, W gates, r output, u message):

    dP = sum_t e_{t+1} r_t'          dQ = sum_t (r_t - Q r_{t-1}) r_{t-1}' / N          (two factors)
    dW = sum_t L_t E_t               L_t = dlog p/dr_t * dr_t/ds_t                      (learning signal x trace)
    E_t = a_t E_{t-1} + m_t outer u_t

    dD = sum_t (r_t - r_hat_t) r[l+1]_{t-1}' / N        with top-down prediction, `pcrnn.nn.top_down`
    dJ = -sum_t d surprise[l]_t / dJ                    parameters of a level's family, such as `JointBernoulli` has

computed a chunk at a time by `pcrnn.ops`; no gradient is carried backward through time beyond the chunk, and memory
does not grow with the sequence. Where a cell's recurrence is elementwise, the traces are exact real-time recurrent
learning: with frozen weights and spatial credit `layer` or `top` the sum over chunks equals the gradient over the
whole sequence, however it is cut.

Locality: what the update of layer l reads, besides its own activity, message and trace,

    layer       its own prediction error e[l]
    top         e[L], one broadcast D-vector a step
    neighbour   e[L], and from layer l + 1 the gradient of that layer's own signal in its message (one hop)
    hops = n    as neighbour, from up to n layers above, layer by layer; n = 0 is top, n = L - 1 is
                backpropagation through the whole stack inside the chunk
    hierarchy   e[L], and errors sent down the whole stack at the same time step, not through upper layers' memory
    cascade     the default: as hierarchy, but the gradient of e[L] in a layer goes through that layer's memory inside
                the chunk before it is sent down, and on from there at the same time step: one more scan, no more
                traffic

What `cascade` sends down, of g[l]_t, the gradient of e[L] in r[l]_t through P, and h[l]_t, what was sent to layer l:

    lambda[l]_t = g[l]_t dr/ds + a_{t+1} lambda[l]_{t+1}        d[l]_t = m_t (lambda[l]_t + h[l]_t dr/ds)
    h[l-1]_t    = sum_k W_k' d[l]_{t+k}, on through the errors in u_t to r[l-1]_t

With inference steps Q reads r*_{t-1}, `pcrnn.nn.state_inference`: an input, held constant.
With top-down expectations every layer also reads r[l+1]_{t-1}, as an input like any other: held constant.
With skip connections "layer l + 1" is every layer that receives from layer l, and a hop is an edge of
`pcrnn.nn.connections`.
The base rate (level 0) always learns from its own error. Sources: Zucchet et al., "Online learning of long-range
dependencies" (2023) and Irie et al. (2023) for exact traces of elementwise recurrences; Bellec et al. (2020) for
learning signal x eligibility trace; Lillicrap et al. (2016) for random feedback.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from learning_rules.credit import Credit as GateCredit
from learning_rules.credit import (
    GradAccumulator,
    LayerBackward,
    Signal,
    Trace,
    feedback_routes,
    learn_base_rates,
    learn_family,
    signal_hops,
)
from learning_rules.gates import coordinate_
from learning_rules.layerwise import base_update, level_update
from learning_rules.options import LocalOptions
from learning_rules.rule import Hook, Model, ModelState, Result, no_op, unwrap_state, wrap_as_stack
from learning_rules.weights import passing_on
from pcrnn.errors import InputError
from pcrnn.nn.activity import Chunk, StackActivity, StackState, TargetScores, flip_time
from pcrnn.nn.cells import CELLS, Cell
from pcrnn.nn.connections import source_levels
from pcrnn.nn.gate_pairs import check_gates
from pcrnn.nn.layer import LayerActivity, PredictiveLayer
from pcrnn.nn.stack import PredictiveStack
from pcrnn.trees import portable


@portable
class LocalCarry(NamedTuple):
    """What the local rule carries between chunks."""

    traces: tuple[Trace, ...]  # one a layer; none unless traces are exact
    feedback: tuple[Tensor, ...]  # fixed random [D, N] matrices in place of P; none when symmetric
    recurrent: tuple[Trace, ...] = ()  # traces of R, one a layer; none unless a cell has one

    @classmethod
    def of(cls, parts: Any) -> "LocalCarry":
        """The same from plain tuples. Raises InputError where they are no carry."""
        if not (isinstance(parts, tuple | list) and len(parts) == len(cls._fields)):
            raise InputError(
                f"LocalCarry: expected {len(cls._fields)} parts ({', '.join(cls._fields)}), got {parts!r:.60}; pass on "
                "what the rule returned, or start from rule.init(model, batch_size)"
            )
        traces, feedback, recurrent = parts
        return cls(tuple(Trace(*t) for t in traces), tuple(feedback), tuple(Trace(*t) for t in recurrent))

    def feedback_matrix(self, layer: PredictiveLayer, index: int) -> Tensor:
        """What brings the error of layer `index` into its r_t, [D, N]: P, or the fixed random matrix."""
        return self.feedback[index] if self.feedback else layer.readout


@dataclass(frozen=True, kw_only=True)
class Local(LocalOptions):
    """The local rule; what its options mean is at the top of this module and in `LocalOptions`."""

    def init(self, model: Model, batch_size: int) -> LocalCarry:
        """Zero traces and, with random feedback, the matrices."""
        stack, _ = wrap_as_stack(model, None)
        if self.gate_coordination:
            check_gates(stack, "gate_coordination")
        carries = self.trace == "exact" and stack.directions == 1  # whole sequences have nothing to carry on
        tracing = list(stack.layers) if carries else []
        traces = [Trace.zeros(layer, layer.num_taps * layer.input_size, batch_size) for layer in tracing]
        dense = any(layer.cell.recurrent is not None for layer in tracing)
        recurrent = [
            Trace.zeros(layer, 0 if layer.cell.recurrent is None else layer.hidden_size, batch_size)
            for layer in (tracing if dense else ())
        ]
        feedback = []
        generator = torch.Generator().manual_seed(self.seed)
        for layer in stack.layers if self.feedback == "random" else ():
            draw = torch.rand(layer.readout.shape, generator=generator) * 2 - 1
            feedback.append((draw / layer.hidden_size**0.5).to(layer.readout))
        return LocalCarry(tuple(traces), tuple(feedback), tuple(recurrent))

    @torch.no_grad()
    def accumulate(
        self,
        model: Model,
        chunk: Chunk,
        state: ModelState | None,
        carry: LocalCarry,
        on_grad_ready: Hook = no_op,
    ) -> tuple[Result, ModelState, LocalCarry]:
        """Add the local gradient of one chunk to `.grad` and advance the traces in place; see `Rule.accumulate`."""
        stack, stack_state = wrap_as_stack(model, state)
        with passing_on(stack, on_grad_ready) as on_grad_ready:
            if self.credit == "layer" and not self.gate_coordination:  # which reads the gates of the layer above
                result, after = self._layerwise(stack, chunk, stack_state, carry, on_grad_ready)
                return result, unwrap_state(model, after), carry
            activity, after = stack.observe_chunk(chunk, stack_state)
            scores = stack.score_targets(activity, chunk)
            self.learn(stack, activity, scores, chunk, carry, on_grad_ready)
            stack.adapt(activity, scores, chunk)
        loss = (scores.surprise[-1] * chunk.weights(scores.surprise.dtype)).sum()
        result = Result(loss, scores.surprise, activity.state_surprise, activity.output, activity.expectations[-1])
        return result, unwrap_state(model, after), carry

    def clip_groups(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """A group a layer, since no layer reads another's gradient; the base rates are the last."""
        stack, _ = wrap_as_stack(model, None)
        groups = {f"layer {i}": list(layer.parameters()) for i, layer in enumerate(stack.layers, 1)}
        inside = {id(p) for group in groups.values() for p in group}
        base = [p for p in model.parameters() if id(p) not in inside]
        return groups | ({"base rate": base} if base else {})

    def learn(
        self,
        stack: PredictiveStack,
        activity: StackActivity,
        scores: TargetScores,
        chunk: Chunk,
        carry: LocalCarry,
        on_grad_ready: Hook = no_op,
    ) -> None:
        """The learning half of `accumulate`, for an activity and its scores at the targets."""
        depth, directions = len(stack.hidden_sizes), stack.directions
        weight = chunk.weights(scores.surprise.dtype).unsqueeze(-1)
        learn_base_rates(stack, scores.error[0], activity.base_error, weight)
        chunk = stack.without_covariates(chunk)
        for level, eta in zip(stack.levels, activity.expectations, strict=True):
            learn_family(level, eta, chunk.targets, weight)
        from_above, reach = GradAccumulator(depth), self.reach(depth)
        of_top = -weight * scores.error[-1]
        for level in reversed(range(depth)):
            broadcast_error = -weight * scores.error[level + 1] if self.credit == "layer" else of_top
            feedback = {n: grad.split_directions(directions) for n, grad in from_above.pop(level).items()}
            for direction in range(directions):
                index = level * directions + direction
                backward = LayerBackward(
                    stack.layers[index],
                    activity.layers[index],
                    carry.feedback_matrix(stack.layers[index], index),
                    observed=chunk.observations if stack.prior is None else None,
                )
                own = flip_time(broadcast_error, direction)
                signals = {
                    n: backward.signal(own, feedback[n][direction] if n in feedback else None)
                    for n in signal_hops(reach, level, depth)
                }
                credit = self._learn_layer(backward, own, signals, carry, index)
                if self.gate_coordination:
                    coordinate_(stack, activity, index, self.gate_coordination)
                on_grad_ready(stack.layers[index])
                blocks = stack.connections[level]
                for n, receivers in feedback_routes(reach, level, source_levels(blocks), depth).items():
                    grads = backward.input_grads(signals[n], credit(n), blocks)
                    for below, theirs in receivers:
                        from_above.add(below - 1, theirs, grads[below].flip_time(direction))

    def _learn_layer(
        self,
        backward: LayerBackward,
        broadcast_error: Tensor,
        signals: dict[int, Signal],
        carry: LocalCarry,
        index: int,
    ) -> Callable[[int], GateCredit]:
        """Layer `index` learns from the first of its signals; returns the credit by which each of them is sent down."""
        own = next(iter(signals))
        learns_through_time = self.trace != "none"
        at_once = self.hops is None and self.credit in ("hierarchy", "cascade")
        sends_through_time = learns_through_time and not at_once
        trace = carry.traces[index] if carry.traces else None
        recurrent = carry.recurrent[index] if carry.recurrent else None
        credit = backward.learn(signals[own], trace, learns_through_time, recurrent)

        def credit_of(n: int) -> GateCredit:
            one_step = backward.activity.output.shape[1] == 1 and learns_through_time  # through no time, all are one
            if n == own and (learns_through_time == sends_through_time or one_step):
                return credit
            if learns_through_time and at_once and self.credit == "cascade":
                return backward.cascade_credit(backward.signal(broadcast_error, None), signals[n])
            return backward.credit(signals[n], sends_through_time)

        return credit_of

    def reach(self, depth: int) -> int:
        """From how many layers above, at most, a layer learns."""
        if self.hops is not None:
            return self.hops
        return {"layer": 0, "top": 0, "neighbour": 1}.get(self.credit or "", depth - 1)

    def is_exact(self, cell: str | Cell) -> bool:
        """Whether credit through that cell's memory is exact real-time recurrent learning, and no approximation."""
        kind = CELLS[cell] if isinstance(cell, str) else cell
        return self.trace == "exact" and kind.exact

    def learns_alone(self, stack: PredictiveStack) -> bool:
        """Whether a layer needs nothing from the layers above it, neither to run nor to learn."""
        return self.credit == "layer" and not self.gate_coordination and not stack.top_down

    def learn_layer(
        self,
        stack: PredictiveStack,
        index: int,
        activity: LayerActivity,
        grad: Tensor,
        carry: LocalCarry,
        on_grad_ready: Hook = no_op,
    ) -> None:
        """Layer `index` (0 = bottom) learns from the gradient of its own loss in eta_t alone, [B, T, D]."""
        layer = stack.layers[index]
        backward = LayerBackward(layer, activity, carry.feedback_matrix(layer, index), observed=None)
        self._learn_layer(backward, grad, {0: backward.signal(grad, None)}, carry, index)
        on_grad_ready(layer)

    def _layerwise(
        self, stack: PredictiveStack, chunk: Chunk, state: StackState | None, carry: LocalCarry, on_grad_ready: Hook
    ) -> tuple[Result, StackState]:
        """Credit `layer`: every level learns as soon as it has run, and its activity is dropped."""
        state = stack.check(chunk.observations, state)
        state = stack.initial_state(len(chunk.observations)) if state is None else state
        base, chunk = stack.observe_base_of(chunk), stack.without_covariates(chunk)
        weight = chunk.weights(base.surprise.dtype)
        surprises, state_surprises, states = [base_update(stack, base, chunk, weight.unsqueeze(-1))], [], []
        output = expectation = base.expectation  # of the levels, the last one's stay

        def learn(index: int, activity: LayerActivity, grad: Tensor) -> None:
            self.learn_layer(stack, index, activity, grad, carry, on_grad_ready)

        for level in stack.observe_levels(base, state):
            surprises.append(level_update(stack, len(surprises), level, chunk, weight.unsqueeze(-1), learn))
            state_surprises += level.state_surprises
            states += level.state
            output, expectation = level.output, level.expectation
            del level  # so that nothing here keeps it while the next one runs
        loss = (surprises[-1] * weight).sum()
        result = Result(loss, torch.stack(surprises), torch.stack(state_surprises), output, expectation)
        return result, StackState(tuple(states))
