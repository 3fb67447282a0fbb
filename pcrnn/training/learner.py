"""One update: what a rule makes of a chunk becomes one step of an optimiser.

    learner = Learner(stack, "local", batch=32)
    result = learner.step(Chunk.of_stream(x))       x [B, T + 1, ...], T + 1 consecutive observations

Shapes: B batch, T time, L layers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import learning_rules
from learning_rules import Result, Rule
from pcrnn import trees
from pcrnn.config import OptimiserConfig
from pcrnn.errors import CheckpointError, DivergedError
from pcrnn.nn.activity import Chunk
from pcrnn.nn.layer import PredictiveLayer
from pcrnn.nn.running_variance import PooledVariances
from pcrnn.nn.sensory import BaseRate
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs.checkpoint import check_fits
from pcrnn.runs.metrics import measured
from pcrnn.training.cuda_graph import GraphedUpdate
from pcrnn.training.finite_check import FiniteCheck
from pcrnn.training.optimiser import adamw, learning_rate, set_rate
from pcrnn.training.parallel import Team

Schedule = Callable[[int], float]
"""Learning rate of update 0, 1, ...; a parameter group with a `factor` gets that many times the rate."""


class Learner:
    """A stack (or a single layer), a learning rule and an optimiser, and all that they carry from chunk to chunk.

    Args:
        model: what learns.
        rule: a rule, or the name of one of `learning_rules.RULES` with its default options.
        optimiser: settings of AdamW with its warm-up and cosine, or any torch optimiser over the model's parameters.
        batch: number of lanes B; every chunk has as many.
        schedule: learning rate of every update; by default that of the settings, or the optimiser's own, constant.
        clip: largest gradient norm of each of the rule's clip groups, 0 to never clip; by default that of the
            settings, or 1.
        precision: "bf16" takes matrix products in bfloat16.
        measure: fill `reading` at every update.
        cuda_graph: replay the update as one CUDA graph; every chunk then has the same shape, and the optimiser is
            fused and capturable.
        team: the processes that learn together; see `pcrnn.training.parallel`.
        warn: called, with one line, where the update cannot be captured.

    Attributes: `model`, `rule`, `optimiser`; `state` and `carry` after the last chunk; `updates` made so far;
    `reading`, what `runs.metrics.measured` names, of the last update.

    >>> from pcrnn import Categorical
    >>> learner = Learner(PredictiveStack(Categorical(5), (8, 8)), "local", batch=4)
    >>> learner.step(Chunk.of_stream(torch.randint(5, (4, 17)))).surprise.shape
    torch.Size([3, 4, 16])
    """

    def __init__(
        self,
        model: PredictiveStack | PredictiveLayer,
        rule: Rule | str = "local",
        optimiser: OptimiserConfig | torch.optim.Optimizer | None = None,
        *,
        batch: int,
        schedule: Schedule | None = None,
        clip: float | None = None,
        precision: str = "fp32",
        measure: bool = False,
        cuda_graph: bool = False,
        team: Team | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.model, self.batch, self.team = model, batch, team or Team()
        self.rule = learning_rules.make(rule) if isinstance(rule, str) else rule
        settings = OptimiserConfig() if optimiser is None else optimiser
        if isinstance(settings, OptimiserConfig):
            schedule = schedule or partial(learning_rate, settings)
            clip = settings.clip if clip is None else clip
            self.optimiser: torch.optim.Optimizer = adamw(model, settings, capturable=cuda_graph)
        else:
            self.optimiser = settings
        self.schedule, self.clip = schedule, 1.0 if clip is None else clip
        self.layers = [model] if isinstance(model, PredictiveLayer) else list(model.layers)
        self.device = self.layers[0].bias.device
        self.precision, self.measures = precision, measure
        self.groups = self.rule.clip_groups(model)
        self.names = measured(len(self.layers))
        self.reading = torch.zeros(len(self.names), device=self.device)
        self.check = FiniteCheck(self.optimiser, self.names, self.device)
        self.variances = PooledVariances(model)
        self.updates = 0
        self._result: Result | None = None
        self._update = GraphedUpdate(self._update_from, warn) if cuda_graph else self._update_from
        self.state, self.carry = self._initial()

    def step(self, chunk: Chunk) -> Result:
        """Learn from the next chunk: its gradients, and one step of the optimiser; returns what the rule saw.

        Raises DivergedError where a surprise or a gradient is not finite: weights, optimiser and running variances are
        then as before the chunk, state and traces begin anew. On a GPU, where waiting for the device costs time, that
        is raised by `raise_if_diverged`; no update is made in between.
        """
        self._before()
        self._update(*(part for part in chunk if part is not None))
        return self._after()

    def step_over(self, chunks: Sequence[Chunk]) -> Result:
        """Go through several chunks with frozen weights, then make one step with the mean of their gradients.

        The mean is over the chunks in which some target counts, so that a clipped gradient has the same size however
        a sequence is cut. Memory is that of one chunk; returns what the rule saw in the last.
        """
        self._before()
        self._zero_gradients()
        *before, last = chunks
        for chunk in before:
            self._accumulate(chunk)
            self.variances.move()
        result = self._accumulate(last)
        counting = max(1, sum(chunk.mask is None or bool(chunk.mask.any()) for chunk in chunks))
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad /= counting
        self._finish(result, last)
        return self._after()

    def reset(self) -> None:
        """Back to the state before the first observation, with empty traces: another sequence begins."""
        if isinstance(self.model, PredictiveStack):
            self.team.on_restart(self.model)
        self._begin_anew()

    def raise_if_diverged(self) -> None:
        """Wait for the device; DivergedError, naming update and layer, if a number of an update was not finite."""
        self._raise_if_tripped(self.updates)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, optimiser, carried state and traces, and the number of updates, as tensors by dotted name.

        `stack.` and, of its parameters, `optimiser.`; `state.`; `carry.`; `updates`. Torch's random state, from which
        dropout draws, is not among them.
        """
        flat = {f"stack.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for what, tensor in self.optimiser.state.get(parameter, {}).items():
                if isinstance(tensor, Tensor):
                    flat[f"optimiser.{name}.{what}"] = tensor
        carried = trees.flatten(self.state, "state") | trees.flatten(self.carry, "carry")
        return flat | carried | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, tensors: dict[str, Tensor], origin: str = "state_dict") -> None:
        """Go on where `state_dict` was taken; CheckpointError, listing all that differs, where it does not fit.

        Args:
            origin: what messages call it.
        """
        if "updates" not in tensors:
            raise CheckpointError(f"{origin}: expected the state_dict of a Learner, got one without 'updates'")
        done = int(tensors["updates"])
        check_fits(self._expected(tensors, done), tensors, origin)
        prefix = "stack."
        self.model.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        self.state = trees.unflatten(self.state, tensors, "state")
        self.carry = trees.unflatten(self.carry, tensors, "carry")
        self._load_optimiser(tensors)
        self.updates = done

    def _before(self) -> None:
        if self.schedule is not None:
            set_rate(self.optimiser, self.schedule(self.updates))

    def _after(self) -> Result:
        self.updates += 1
        assert self._result is not None
        return self._result

    def _update_from(self, *parts: Tensor) -> None:
        """One update on the device: in place, of fixed shapes, without waiting for it (a CUDA graph may hold it)."""
        self._zero_gradients()
        chunk = Chunk(*parts)
        self._finish(self._accumulate(chunk), chunk)

    def _zero_gradients(self) -> None:
        """In place, as the optimiser's own `zero_grad(set_to_none=False)`, which takes ten times as long for few."""
        if gradients := _gradients(p for group in self.optimiser.param_groups for p in group["params"]):
            torch._foreach_zero_(gradients)  # pyright: ignore[reportPrivateImportUsage]

    def _accumulate(self, chunk: Chunk) -> Result:
        half = self.precision == "bf16"
        with self.variances.held(), torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            result, state, carry = self.rule.accumulate(self.model, chunk, self.state, self.carry, self.team.grad_hook)
        if getattr(self.model, "directions", 1) == 1:  # a stack of two directions reads whole sequences
            trees.copy_into(self.state, state)
        if carry is not self.carry:
            trees.copy_into(self.carry, carry)
        return result

    def _finish(self, result: Result, chunk: Chunk) -> None:
        """Reduce over processes, measure, clip, check, and make the optimiser's step."""
        self._result = result
        reads = self.measures or self.check.deferred or self.team.size > 1
        reading = self._read(result, chunk) if reads else None
        norms = self._clip()
        if self.check.deferred:
            assert reading is not None
            self.check.watch(reading, norms)
        elif not math.isfinite(result.loss + norms.sum()) or not (reading is None or reading.isfinite().all()):
            self.check.watch(self._read(result, chunk) if reading is None else reading, norms)
            self._raise_if_tripped(self.updates + 1)
        if reading is not None:
            self.reading.copy_(reading)
        self.variances.move(self.check.tripped if self.check.deferred else None)
        self.optimiser.step()

    def _read(self, result: Result, chunk: Chunk) -> Tensor:
        """What `runs.metrics.measured` names, on the device; after it, gradients are those of the joined batch."""
        weight = None if chunk.mask is None else chunk.weights(result.surprise.dtype)
        surprise = result.surprise.mean((1, 2)) if weight is None else (result.surprise * weight).sum((1, 2))
        state_surprise = result.state_surprise.mean((1, 2))
        sensory = getattr(self.model, "sensory", None)
        clipped = sensory.error_norm.clipped if isinstance(sensory, BaseRate) else torch.zeros_like(result.loss)
        seen = torch.cat([result.loss.view(1), surprise, state_surprise, clipped.to(surprise).view(1)])
        reduced = self.team.all_reduce(seen, self.variances.pool)
        return torch.cat(
            [reduced[:-1], torch.stack([_norm(layer.parameters()) for layer in self.layers]), reduced[-1:]]
        )

    def _clip(self) -> Tensor:
        """Clip each group's gradient, as `torch.nn.utils.clip_grad_norm_` does; the norms before."""
        norms = torch.stack([_norm(parameters) for parameters in self.groups.values()])
        if self.clip:
            factors = (self.clip / (norms + 1e-6)).clamp(max=1)
            for parameters, factor in zip(self.groups.values(), factors.unbind(), strict=True):
                if gradients := _gradients(parameters):
                    torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
        return norms

    def _raise_if_tripped(self, updates: int) -> None:
        """What the check found; state and traces, which have run over the chunk already, then begin anew."""
        try:
            self.check.check(updates)
        except DivergedError:
            self._begin_anew()  # alone: other processes may not have diverged
            raise

    def _begin_anew(self) -> None:
        trees.copy_into((self.state, self.carry), self._initial())

    def _initial(self) -> tuple[Any, Any]:
        return self.model.initial_state(self.batch), self.rule.init(self.model, self.batch)

    def _expected(self, tensors: dict[str, Tensor], updates: int) -> dict[str, Tensor]:
        """The tensors that a state_dict after so many updates has; of another optimiser than Adam, whatever it has."""
        fresh = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("optimiser.")}
        if not isinstance(self.optimiser, torch.optim.Adam):  # AdamW is one
            return fresh | {name: tensor for name, tensor in tensors.items() if name.startswith("optimiser.")}
        step, mine = torch.zeros(()), {p for group in self.optimiser.param_groups for p in group["params"]}
        moments = {
            f"optimiser.{name}.{what}": step if what == "step" else parameter
            for name, parameter in self.model.named_parameters()
            for what in ("step", "exp_avg", "exp_avg_sq")
            if parameter in mine or f"optimiser.{name}.{what}" in tensors  # of another process's layer
        }
        return fresh | (moments if updates else {})

    def _load_optimiser(self, tensors: dict[str, Tensor]) -> None:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        ordered = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        memory: dict[int, dict[str, Tensor]] = {}
        for number, parameter in enumerate(ordered):
            prefix = f"optimiser.{names[parameter]}."
            memory[number] = {
                name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items() if name.startswith(prefix)
            }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": memory, "param_groups": groups})


def _norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Of their gradients; zero where another process has those."""
    parameters = list(parameters)
    gradients = _gradients(parameters)
    if not gradients:
        return parameters[0].new_zeros(()).detach()
    norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
    return torch.linalg.vector_norm(torch.stack(norms))


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
