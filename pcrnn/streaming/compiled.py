"""The compiled online step over a learner: its tables of addresses, and whether it covers what the learner does.

Nothing is copied: weights, running variances, moments, traces and state are the learner's own tensors, in place. So
its `state_dict` is true after every observation, and the general path can take over at any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning_rules.credit import signal_hops
from learning_rules.local import Local, LocalCarry
from learning_rules.weights import are_plain
from pcrnn import trees
from pcrnn.nn.cells import GatedCell, RotatingCell
from pcrnn.nn.layer import PredictiveLayer
from pcrnn.nn.observations import Bernoulli, Categorical, Gaussian, Observation, Poisson, StudentT
from pcrnn.nn.running_variance import DRIFT, PRIOR, RunningVariance
from pcrnn.nn.stack import PredictiveStack
from pcrnn.ops.compiled import records
from pcrnn.streaming.stream import Array, Carried, Plan
from pcrnn.training.learner import Learner, Schedule
from pcrnn.training.optimiser import set_rate

_FAMILIES = {
    Categorical: records.CATEGORICAL,
    Bernoulli: records.BERNOULLI,
    Poisson: records.POISSON,
    Gaussian: records.GAUSSIAN,
    StudentT: records.STUDENT_T,
}
_CELLS = {GatedCell: records.GATED, RotatingCell: records.ROTATING}
_OPTIMISERS = {torch.optim.AdamW: records.ADAMW, torch.optim.SGD: records.SGD}


def obstacle(learner: Learner) -> str | None:
    """What of a learner the compiled step does not cover; None where it covers all of it."""
    stack, rule, optimiser = learner.model, learner.rule, learner.optimiser
    if type(stack) is not PredictiveStack:
        return f"{type(stack).__name__} in place of a PredictiveStack"
    if type(rule) is not Local or rule.gate_coordination:
        return f"the rule {type(rule).__name__.lower()}" if type(rule) is not Local else "gate coordination"
    return (
        _of_stack(stack)
        or _of_optimiser(optimiser, stack)
        or ("matrix products in bf16" if learner.precision != "fp32" else None)
        or ("several processes" if learner.team.size > 1 else None)
    )


def _of_stack(stack: PredictiveStack) -> str | None:
    if type(stack.observation) not in _FAMILIES:
        return f"the likelihood {type(stack.observation).__name__}"
    if getattr(stack.observation, "unknown_surprise", None) is not None:
        return "symbols that are none"
    for covered, what in (
        (stack.prior is None, "a target"),
        (not stack.top_down, "top-down expectations"),
        (stack.inference is None, "inference steps"),
        (stack.options["skip"] == "none", "skip connections"),
    ):
        if not covered:
            return what
    for layer in stack.layers:
        if type(layer) is not PredictiveLayer or type(layer.cell) not in _CELLS:
            return f"the cell {type(layer.cell).__name__}"
        if layer.dropout and layer.training:
            return "dropout"
    if any(module._forward_hooks or module._forward_pre_hooks for module in stack.modules()):
        return "hooks"
    weights = list(stack.parameters())
    if not all(weight.requires_grad for weight in weights):
        return "frozen weights"
    if not are_plain(stack):
        return "weights that are made from others"
    kinds = {(tensor.dtype, tensor.device.type) for tensor in stack.state_dict().values()}
    if len(kinds) > 1 or kinds.pop() not in {(torch.float32, "cpu"), (torch.float64, "cpu")}:
        return "weights that are not all of float32 or all of float64, on the CPU"
    return None if all(weight.is_contiguous() for weight in weights) else "weights that are not contiguous"


def _of_optimiser(optimiser: torch.optim.Optimizer, stack: PredictiveStack) -> str | None:
    if type(optimiser) not in _OPTIMISERS:
        return f"the optimiser {type(optimiser).__name__}"
    own = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    if own != {id(parameter) for parameter in stack.parameters()}:
        return "an optimiser of other weights than the stack's"
    for name in ("amsgrad", "maximize", "momentum", "nesterov"):
        if any(group.get(name) for group in optimiser.param_groups):
            return f"{type(optimiser).__name__} with {name}"
    shared = {(*group.get("betas", ()), group.get("eps")) for group in optimiser.param_groups}
    return None if len(shared) == 1 else "groups with other betas or eps than each other"


class CompiledEngine:
    """A learner's updates at chunks of one, a stretch of a stream in one call of compiled code.

    Args:
        learner: whose `obstacle` is None. As long as this object is used nobody else may exchange its tensors;
            `is_bound` says whether somebody has.
        plan, carried: what is carried beside the stack; see `pcrnn.streaming.stream`.
    """

    name = "compiled"

    def __init__(self, learner: Learner, plan: Plan, carried: Carried) -> None:
        from pcrnn.streaming import loop  # which imports Numba

        self.learner, self.plan, self.carried = learner, plan, carried
        self._advance, self._take_in, self._plans = loop.advance, loop.take_in, loop.plan_record(plan)
        self._bind()
        self._take_in_again()

    def advance(self, x: Array, times: Array, own: Array, rows: Array) -> int:
        """Learn from observations x [T, B X] one after the other, and fill rows [T, B, W]; how many were taken in.

        It ends before the first whose numbers are not finite. Args: times [T]; own, the user's covariates [T, B, own].
        """
        self._find_again()
        rates = self._rates(len(x))
        done = self._call(x, times, own, rates, True, rows)
        self.learner.updates += done - (1 if self._began(done) else 0)
        return done

    def _began(self, done: int) -> bool:
        """Whether the first observation of all was among those taken in: there is no update before the second."""
        return self.carried.seen[0] == done > 0

    def look(self, x: Array, times: Array, own: Array, rows: Array) -> None:
        """Fill one row [1, B, W] as `advance` would, and leave everything as it was."""
        self._find_again()
        kept = [part.copy() for part in self.carried]
        state = [tensor.clone() for tensor in trees.leaves(self.learner.state)]
        self._call(x, times, own, np.ones(1), False, rows)
        for part, before in zip(self.carried, kept, strict=True):
            part[...] = before
        for tensor, before in zip(trees.leaves(self.learner.state), state, strict=True):
            tensor.copy_(before)
        self._take_in_again()

    def _call(self, x: Array, times: Array, own: Array, rates: Array, learns: bool, rows: Array) -> int:
        c = self.carried
        return self._advance(
            self._plans, self.stacks, self.layers, self.parameters, self.statistics, self.routes, self.plan.features,
            c.mean, c.variance, c.number, c.past, c.low, c.high, c.last, c.value_mean,
            c.value_variance, c.value_number, c.clock, c.pending, c.covariates, c.seen, x, times,
            own, rates, learns, rows, self.like,
        )  # fmt: skip

    def _take_in_again(self) -> None:
        """The pending observation, if there is one: what came of it is scratch memory, which only this engine has."""
        if self.carried.seen[0]:
            self._take_in(
                self.stacks, self.layers, self.parameters, self.statistics, self.carried.pending,
                self.carried.covariates, self.like,
            )  # fmt: skip

    def _rates(self, steps: int) -> Array:
        """What every step's learning rates are multiplied with; 1 where the optimiser's own stay."""
        schedule, first = self.learner.schedule, self.learner.updates
        if schedule is None:
            self._set_rates(None)
            return np.ones(steps)
        if self.carried.seen[0] == 0:
            first -= 1  # the first observation of all is no update
        rates = np.array([schedule(max(0, first + step)) for step in range(steps)])
        if steps and rates[-1] != self._rate:
            self._rate = rates[-1]
            set_rate(self.learner.optimiser, float(self._rate))
        return rates

    def _bind(self) -> None:
        stack = self.learner.model
        assert isinstance(stack, PredictiveStack)
        self._kept: list[Any] = []  # what the tables point at
        self._rate = math.nan
        self._number: type = np.float32 if stack.base.eta.dtype == torch.float32 else np.float64
        self.like = np.zeros(1, self._number)
        depth, lanes = self.plan.depth, self.plan.lanes
        self.stacks = np.zeros(1, records.STACK)
        self.layers = np.zeros(depth, records.LAYER)
        self.parameters = np.zeros(1 + records.PER_LAYER * depth, records.PARAMETER)
        self.statistics = np.zeros(3 + 2 * depth, records.STATISTIC)
        self.routes = self._routes(stack)
        self.surprise, self.state_surprise = np.zeros((depth + 1, lanes)), np.zeros((depth, lanes))
        self._fill_stack(stack)
        for index, layer in enumerate(stack.layers):
            self._fill_layer(stack, index, layer)
        self._fill_statistics(stack)
        self._fill_parameters(stack)
        self._modules: list[Any] = [stack.base, *stack.layers]
        self._addresses = self._current_addresses()

    def _find_again(self) -> None:
        """The learner's tensors, where somebody has exchanged them."""
        if not self.is_bound():
            self._bind()
            self._take_in_again()

    def is_bound(self) -> bool:
        """Whether the tables still point at the learner's tensors; looks at one of each kind, which takes no time."""
        return self._addresses == self._current_addresses()

    def _current_addresses(self) -> tuple[int, ...]:
        base, *_, top = self._modules
        state = self.learner.state.layers[0].cell
        eta, weight = base._parameters["eta"], top._parameters["weight"]  # as fast as an attribute of a module is slow
        return eta.data_ptr(), weight.data_ptr(), state.data_ptr()

    # Where things are.

    def _own(self, tensor: Tensor) -> int:
        """Address of a tensor of the learner's."""
        if tensor.numel() and not tensor.is_contiguous():
            raise ValueError(f"expected a contiguous tensor, got strides {tensor.stride()}")
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _new(self, *shape: int) -> int:
        """Address of scratch memory that begins with a cache line."""
        count = max(1, math.prod(shape))
        raw = np.zeros(count + 16, self._number)
        skipped = (-raw.ctypes.data % 64) // raw.itemsize
        self._kept.append(raw)
        return raw.ctypes.data + skipped * raw.itemsize

    # The tables.

    def _routes(self, stack: PredictiveStack) -> NDArray[np.int64]:
        """For every layer and each of its signals, which signal of the layer above it comes from; -1 from none."""
        rule = self.learner.rule
        assert isinstance(rule, Local)
        depth = len(stack.layers)
        reach = rule.reach(depth)
        self._hops = [signal_hops(reach, index, depth) for index in range(depth)]
        routes = np.full((depth, max(map(len, self._hops))), -1, np.int64)
        for index, hops in enumerate(self._hops):
            for signal, n in enumerate(hops):
                if n:
                    routes[index, signal] = self._hops[index + 1].index(min(n - 1, depth - 2 - index))
        return routes

    def _fill_stack(self, stack: PredictiveStack) -> None:
        rule, lanes, size = self.learner.rule, self.plan.lanes, self.plan.size
        assert isinstance(rule, Local)
        widest = max(size, *(layer.hidden_size for layer in stack.layers))
        group = self.learner.optimiser.param_groups[0]
        beta1, beta2 = group.get("betas", (0.0, 0.0))
        largest = max(float(torch.finfo(stack.base.eta.dtype).max) ** 0.5, 1e4)
        self._set(
            self.stacks[0],
            depth=self.plan.depth, size=size, values=self.plan.values, covariates=self.plan.covariates, lanes=lanes,
            family=_FAMILIES[type(stack.observation)], optimiser=_OPTIMISERS[type(self.learner.optimiser)],
            carries=int(rule.trace == "exact"), own_error=int(rule.credit == "layer"),
            eta=self._own(stack.base.eta), old_eta=self._new(lanes, size), error=self._new(lanes, size),
            message_error=self._new(lanes, size), surprise=self.surprise.ctypes.data,
            state_surprise=self.state_surprise.ctypes.data, scratch=self._new(max(widest, 16)),
            degrees=getattr(stack.observation, "degrees", 0.0), limit=stack.observation.message_limit,
            largest_error=largest, clip=self.learner.clip, beta1=beta1, beta2=beta2, epsilon=group.get("eps", 0.0),
            rate=1.0,
        )  # fmt: skip

    def _fill_layer(self, stack: PredictiveStack, index: int, layer: PredictiveLayer) -> None:
        lanes, size, cell = self.learner.batch, stack.observation.size, layer.cell
        n, m, taps = layer.hidden_size, layer.input_size, layer.num_taps
        state, carry = self.learner.state.layers[index], self.learner.carry
        assert isinstance(carry, LocalCarry)
        trace = carry.traces[index] if carry.traces else None
        signals = len(self._hops[index])
        self._set(
            self.layers[index],
            units=n, inputs=m, window=taps * m, taps=taps, cell=_CELLS[type(cell)], blocks=cell.blocks,
            traced=cell.traced_blocks, components=cell.components, mixes=int(layer.mixing is not None),
            signals=signals, first_parameter=1 + records.PER_LAYER * index,
            cell_state=self._own(state.cell), output=self._own(state.output), messages=self._own(state.messages),
            expectation=self._own(state.expectation),
            trace=0 if trace is None else self._own(trace.weight),
            bias_trace=0 if trace is None else self._own(trace.bias),
            feedback=self._own(carry.feedback_matrix(layer, index)), angle=self._angle(cell),
            gates=self._new(lanes, cell.blocks, n), state=self._new(lanes, n), imaginary=self._new(lanes, n),
            gated=self._new(lanes, n), mixed=self._new(lanes, 2, n), new_output=self._new(lanes, n),
            new_expectation=self._new(lanes, size), message=self._new(lanes, taps * m), residual=self._new(lanes, n),
            state_error=self._new(lanes, n), inverse_rms=self._new(lanes),
            immediate=self._new(lanes, cell.traced_blocks, n), squashed=self._new(lanes, n),
            new_error=self._new(lanes, size), grad_output=self._new(lanes, n), grad_gated=self._new(lanes, n),
            grad_mixing=self._new(lanes, 2, n), grad_memory=self._new(lanes, n), grad_gate=self._new(lanes, n),
            grad_residual=self._new(lanes, n), handed=self._new(signals, lanes, n),
        )  # fmt: skip

    def _angle(self, cell: nn.Module) -> int:
        """Cosines and sines of the angle by which a unit turns every step."""
        if not isinstance(cell, RotatingCell):
            return 0
        angle = cell.angle.double()
        turn = torch.cat([angle.cos(), angle.sin()]).to(cell.angle.dtype).contiguous()
        return self._own(turn)

    def _fill_statistics(self, stack: PredictiveStack) -> None:
        norm = stack.sensory.error_norm
        found: list[RunningVariance | None] = [norm, norm.recent, _scale(stack.base.observation)]
        for layer in stack.layers:
            found += [_scale(layer.observation), layer.running]
        for row, statistic in zip(self.statistics, found, strict=True):
            if statistic is not None:
                half_life = statistic.half_life
                self._set(
                    row, variance=self._own(statistic.variance), weight=self._own(statistic.weight),
                    size=len(statistic.variance), moves=int(half_life is not None),
                    factor=1.0 if half_life is None else 2 ** (-1 / half_life), floor=statistic.floor,
                    outlier=statistic.outlier, prior=PRIOR, drift=DRIFT,
                )  # fmt: skip

    def _fill_parameters(self, stack: PredictiveStack) -> None:
        optimiser, lanes = self.learner.optimiser, self.learner.batch
        groups = {id(parameter): group for group in optimiser.param_groups for parameter in group["params"]}
        for number, parameter in _numbered(stack):
            group, rows = groups[id(parameter)], parameter.shape[0]
            moments = self._moments(parameter) if isinstance(optimiser, torch.optim.AdamW) else {}
            dense = lanes > 1 or parameter.dim() == 1
            self._set(
                self.parameters[number], value=self._own(parameter.data), rows=rows,
                columns=1 if parameter.dim() == 1 else parameter.shape[1],
                gradient=self._new(parameter.numel() if dense else 1), decay=group.get("weight_decay", 0.0),
                **{name: self._own(tensor) for name, tensor in moments.items()},
            )  # fmt: skip
        self._factors: Any = [(number, groups[id(parameter)]) for number, parameter in _numbered(stack)]
        self._set_rates(self.learner.schedule)

    def _set_rates(self, schedule: Schedule | None) -> None:
        """What a parameter's learning rate is: its group's own, or its share of the schedule's."""
        for number, group in self._factors:
            self.parameters[number]["rate"] = float(group["lr"] if schedule is None else group.get("factor", 1.0))

    def _moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Of AdamW, made where it has not made a step yet."""
        state = self.learner.optimiser.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return {"step": state["step"], "first": state["exp_avg"], "second": state["exp_avg_sq"]}

    @staticmethod
    def _set(row: Any, **values: Any) -> None:
        for name, value in values.items():
            row[name] = value


def _scale(observation: Observation) -> RunningVariance | None:
    running = getattr(observation, "running", None)
    return running if isinstance(running, RunningVariance) else None


def _numbered(stack: PredictiveStack) -> Iterator[tuple[int, nn.Parameter]]:
    """The rows of the table of parameters."""
    yield 0, stack.base.eta
    for index, layer in enumerate(stack.layers):
        first = 1 + records.PER_LAYER * index
        for which, parameter in enumerate((layer.weight, layer.bias, layer.predictor, layer.readout, layer.mixing)):
            if parameter is not None:
                yield first + which, parameter
