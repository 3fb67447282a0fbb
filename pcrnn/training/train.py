"""One training run, top to bottom: data, stack, rule, optimiser, the loop, metrics and checkpoints.

A run stopped after any update and resumed from its checkpoint computes, on the same machine and with as many
threads, bit for bit what it would have computed unbroken: weights, optimiser, carried state, traces, metrics.

Shapes: B batch, T time, L layers.
"""

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

import learning_rules
import pcrnn
from pcrnn import trees
from pcrnn.analysis.evaluate import evaluate
from pcrnn.config import TrainConfig, check_resumable
from pcrnn.data import Source, open_source
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.memory import keep_freed_memory, require_memory
from pcrnn.nn.stack import Chunk, PredictiveStack, StackState
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.checkpoint import Checkpoint
from pcrnn.runs.load import build_stack, read_documents
from pcrnn.runs.metrics import MetricsWriter, Row, measured, require_tensorboard
from pcrnn.runs.sizes import count_numbers
from pcrnn.training import parallel
from pcrnn.training.cuda_graph import GraphedUpdate
from pcrnn.training.finite_check import Guard
from pcrnn.training.optimiser import adamw, learning_rate, set_rates
from pcrnn.training.parallel import Team


class TrainInfo(NamedTuple):
    """What a run is about to do."""

    config: TrainConfig
    folder: runs.RunFolder
    source: Source
    stack: PredictiveStack
    device: torch.device
    step: int  # updates done already
    processes: int


class TrainResult(NamedTuple):
    """What a run has done."""

    folder: runs.RunFolder
    source: Source
    stack: PredictiveStack
    step: int
    finished: bool  # False when it was asked to stop before its last update
    valid: list[float] | None  # mean surprise of every level on the validation split, nats; None if not finished
    checkpoint: Path
    is_main: bool  # False in those of several processes that write nothing


class Callback:
    """Hears what happens in a run and may ask it to stop; this one does neither."""

    def on_start(self, start: TrainInfo) -> None:
        """The first update comes next."""

    def on_row(self, row: Row) -> None:
        """A row of metrics was written."""

    def warn(self, message: str) -> None:
        """Something a person should know."""

    def should_stop(self) -> bool:
        """Asked before every update; True ends the run with a checkpoint."""
        return False


class SilentCallback(Callback):
    """Hears for a process that does not lead: what the leader's reporter says is enough for a person."""

    def __init__(self, callback: Callback) -> None:
        self.should_stop = callback.should_stop


def train(config: TrainConfig, out: Path, *, resume: bool = False, callback: Callback | None = None) -> TrainResult:
    """Train a stack and write the run's folder `out`; with `resume`, go on with the run that is there.

    Seeds torch's global generator, and prints nothing: `report` hears what happens. With `config.parallel` it is
    called in every process that torchrun started; one that torchrun starts again goes on with the run it had begun.

    Raises UsageError for a folder that cannot be used, DataError for the data, CheckpointError for a run that
    does not fit `config`, DivergedError before an update that is not finite, ParallelError where processes of one
    run lose each other.
    """
    keep_freed_memory()
    callback = callback or Callback()
    with parallel.join(config) as team:
        callback = callback if team.is_main else SilentCallback(callback)
        if resume or team.should_resume(out):
            return _go_on(config, out, team, callback)
        # Everything that can be wrong with settings and data is found before the folder is made.
        trainer = Trainer(config, open_source(config.data, tokens=config.tokens), callback, team)
        folder = team.create_folder(out)
        with team.lock(folder):
            return _run(trainer, folder, callback)


def _go_on(config: TrainConfig, out: Path, team: Team, callback: Callback) -> TrainResult:
    """Train from the newest good checkpoint of the run in a folder."""
    folder = runs.existing(out)
    with team.lock(folder):
        loaded = team.load_newest(folder.checkpoints)
        for warning in loaded.warnings:
            callback.warn(warning)
        saved, state = read_documents(loaded)
        check_resumable(saved, config)
        trainer = Trainer(config, open_source(config.data, tokens=config.tokens, state=state), callback, team)
        trainer.restore(loaded)
        return _run(trainer, folder, callback)


def _run(trainer: "Trainer", folder: runs.RunFolder, callback: Callback) -> TrainResult:
    """The loop: update, and where it is time for it, evaluate, write a row, write a checkpoint."""
    config, source, team = trainer.config, trainer.source, trainer.team
    team.assert_same("settings and data", trainer.identity())
    valid = None
    with closing(_described(trainer, folder)) as metrics:
        callback.on_start(TrainInfo(config, folder, source, trainer.stack, trainer.device, trainer.step, team.size))
        trainer.resume_clock()
        while trainer.step < config.steps and not team.sync_should_stop(callback.should_stop()):
            trainer.update()
            last = trainer.step == config.steps
            evaluates = last or _due(trainer.step, config.evaluate_every)
            if evaluates or trainer.step == 1 or _due(trainer.step, config.log_every):
                row = trainer.row()
                if evaluates:
                    valid = trainer.evaluate()
                    row["valid_metric"] = valid[-1] / source.nats_per_unit
                    row |= {f"valid_surprise_{level}": nats for level, nats in enumerate(valid)}
                metrics.write(row)
                callback.on_row(row)
            if not last and _due(trainer.step, config.checkpoint_every):
                metrics.sync()
                trainer.save(folder)
            trainer.resume_clock()
        metrics.sync()
        saved = trainer.save(folder)
    finished = trainer.step == config.steps
    if finished and valid is None:  # resumed when nothing was left to do
        valid = trainer.evaluate()
    valid = valid if finished else None
    return TrainResult(folder, source, trainer.stack, trainer.step, finished, valid, saved, team.is_main)


def _described(trainer: "Trainer", folder: runs.RunFolder) -> "MetricsWriter | NoMetrics":
    """Write into the run's folder what it is, and open its metrics."""
    if not trainer.team.is_main:
        return NoMetrics()
    for path in (folder.config, folder.data):
        runs.write_json(path, trainer.documents()[path.stem])
    layers = len(trainer.stack.layers)
    return MetricsWriter(folder, layers, last_step=trainer.step, tensorboard=trainer.config.tensorboard)


class NoMetrics:
    """In the place of a MetricsWriter where another process writes."""

    def write(self, row: Row) -> None:
        """Nothing to write."""

    def sync(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to close."""


class Trainer:
    """A stack, a rule and an optimiser, and all that changes while they learn: what a checkpoint holds.

    In one of several processes (`team`) it has its share of the lanes or of the layers.
    """

    def __init__(
        self, config: TrainConfig, source: Source, callback: Callback | None = None, team: Team | None = None
    ) -> None:
        self.config, self.source, self.team = config, source, team or Team()
        self.device = self.team.device(config.device)
        if config.cuda_graph and self.device.type != "cuda":
            raise UsageError(f"cuda_graph: expected a CUDA device, got {self.device}; leave it out")
        if config.tensorboard:
            require_tensorboard()
        target = source.target()
        if target is not None and config.parallel != "none":
            raise UsageError(f"parallel: expected none for labelled sequences, got {config.parallel}; leave it out")
        sizes = source.observation().size, None if target is None else target.size, source.covariates
        needed = count_numbers(config, *sizes) // self.team.size  # at the least
        require_memory(needed, self.device, "hidden, batch, chunk")
        torch.manual_seed(config.seed)
        self.lanes = source.lanes(config.batch, config.chunk)
        self.stack = build_stack(config, source).to(self.device)
        self.rule = self.team.shard_model(self.stack, _make_rule(config))
        self.groups = self.rule.clip_groups(self.stack)
        graphed = self.device.type == "cuda" and config.cuda_graph is not False and self.team.graphs
        self.optimiser = adamw(self.stack, config, capturable=graphed)
        self.learn = GraphedUpdate(self._learn, (callback or Callback()).warn) if graphed else self._learn
        self.names = measured(len(self.stack.layers))

        self.step = 0  # updates done
        self.own_lanes = self.team.lanes(config.batch)
        self.state, self.carry = self._fresh()
        readings = len(self.names) + (target is not None)  # with a target, the last counts the updates that had one
        self.window = torch.zeros(readings, device=self.device)  # sum of readings since the last row
        self.window_steps = 0
        self.seconds = 0.0
        self._clock: float | None = None  # when it was started, None while it stands
        self._last_row = (0, 0.0)  # tokens and seconds then
        self.guard = Guard(self.optimiser, self.names, self.device)

    def update(self) -> None:
        """Learn from the next chunk.

        Raises DivergedError, and leaves the weights alone, where a surprise or a gradient is not finite. On a
        GPU, where waiting for the device costs time, that is told at the next row or checkpoint; no update is
        made in between.
        """
        x, restart = self.lanes.read(self.step)
        if restart:
            self.team.on_restart(self.stack)
            trees.copy_into((self.state, self.carry), self._fresh())
        set_rates(self.optimiser, self.config, self.step)
        parts = (x,) if isinstance(x, Tensor) else x
        self.learn(*(part[self.own_lanes].to(self.device, non_blocking=True) for part in parts))
        if self.device.type == "cpu":
            self.guard.check(self.step + 1)
        self.window_steps += 1
        self.step += 1
        self.team.verify(self.step, self.stack)

    def _fresh(self) -> tuple[StackState, Any]:
        """State and carry before the front of the own lanes."""
        lanes = self.own_lanes.stop - self.own_lanes.start
        return self.stack.initial_state(lanes), self.rule.init(self.stack, lanes)

    def _learn(self, *parts: Tensor) -> None:
        """One update on the device: in place, of fixed shapes, without waiting for it.

        Args:
            parts: consecutive observations, or observations, targets and where these count.
        """
        self.optimiser.zero_grad(set_to_none=False)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            chunk = Chunk.of_stream(*parts) if len(parts) == 1 else Chunk(*parts)
            result, state, _ = self.rule.accumulate(self.stack, chunk, self.state, self.carry, self.team.grad_hook)
        trees.copy_into(self.state, state)
        reading = self._reading(result, chunk)
        self.guard.watch(reading, self._clip())
        self.optimiser.step()
        self.window += reading if chunk.mask is None else torch.cat([reading, chunk.mask.any().to(reading).view(1)])

    def row(self) -> Row:
        """Metrics of the updates since the row before, as means."""
        self.guard.check(self.step)
        means = self._means()
        self._stop_clock()
        tokens = self.step * self.lanes.batch * self.lanes.chunk
        past_tokens, past_seconds = self._last_row
        row: Row = {
            "step": self.step,
            "tokens": tokens,
            "seconds": self.seconds,
            "tokens_per_second": (tokens - past_tokens) / max(self.seconds - past_seconds, 1e-9),
            "learning_rate": learning_rate(self.config, self.step - 1),
            "metric": means[0] / self.source.nats_per_unit,
            **dict(zip(self.names, means, strict=True)),
        }
        self._last_row = (tokens, self.seconds)
        self.window.zero_()
        self.window_steps = 0
        return row

    def evaluate(self) -> list[float]:
        """Mean surprise of every level on the validation split, nats."""
        self.team.gather_weights(self.stack)
        config = self.config
        return self.team.leader(lambda: evaluate(self.stack, self.source, batch=config.batch, chunk=config.chunk).nats)

    def save(self, folder: runs.RunFolder) -> Path:
        """Write a checkpoint; of several processes the leader does, and all give it what they hold."""
        self.guard.check(self.step)
        self._stop_clock()
        self.team.verify(self.step, self.stack, now=True)
        checkpoint = Checkpoint(
            step=self.step,
            weights=self.team.gather_state(self.stack.state_dict()),
            trainer=self.team.gather_state(self._carried() | self._optimiser_memory() | self._random_state()),
            documents=self.documents(),
        )
        if not self.team.is_main:
            return checkpoints.folder_of(folder.checkpoints, self.step)
        return checkpoints.save(folder.checkpoints, checkpoint, self.config.keep_last)

    def restore(self, loaded: checkpoints.Loaded) -> None:
        """Go back to a checkpoint; CheckpointError, listing all that differs, where it does not fit."""
        try:
            self._restore(loaded)
        except PcrnnError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{loaded.folder}: expected a run's own checkpoint, but restoring it gave {error!r}"
            ) from None

    def _restore(self, loaded: checkpoints.Loaded) -> None:
        weights, saved = loaded.checkpoint.weights, self.team.shard_state(loaded.checkpoint.trainer)
        progress, data = loaded.checkpoint.documents["progress"], loaded.checkpoint.documents["data"]
        if data["sha256"] != self.source.fingerprint():
            raise CheckpointError(
                f"{self.config.data}: expected the data this run began with, but its content has changed; "
                "put the old file back, or start a new run"
            )
        done = loaded.checkpoint.step
        if self.config.steps < done:
            raise UsageError(f"steps: expected at least the {done} already done, got {self.config.steps}")
        checkpoints.check_fits(self.stack.state_dict(), weights, str(loaded.folder))
        carried = {name: tensor for name, tensor in saved.items() if not name.startswith(_ELSEWHERE)}
        checkpoints.check_fits(self._carried(), carried, str(loaded.folder))
        moments = {name: tensor for name, tensor in saved.items() if name.startswith("optimiser.")}
        checkpoints.check_fits(self._optimiser_plan() if done else {}, moments, str(loaded.folder))
        self.stack.load_state_dict(weights)
        self.state = trees.unflatten(self.state, saved, "state")
        self.carry = trees.unflatten(self.carry, saved, "carry")
        self.window = trees.unflatten(self.window, saved, "window")
        self._restore_optimiser(saved)
        self._restore_random_state(saved)
        self.step, self.window_steps = loaded.checkpoint.step, int(progress["window_steps"])
        self.seconds = float(progress["seconds"])
        self._last_row = (int(progress["row_tokens"]), float(progress["row_seconds"]))

    def identity(self) -> str:
        """A digest of all that processes of one run must have in common before they begin."""
        settings = json.dumps(self.config.as_mapping() | {"data": ""}, sort_keys=True)  # files may lie elsewhere
        common = (settings, self.step, pcrnn.__version__, torch.__version__, self.source.fingerprint())
        return hashlib.sha256(repr(common).encode()).hexdigest()

    def documents(self) -> dict[str, Any]:
        """The JSON documents of a checkpoint."""
        return {
            "config": {"settings": self.config.as_mapping(), "versions": versions()},
            "data": {"state": self.source.state(), "sha256": self.source.fingerprint()},
            "progress": {
                "seconds": self.seconds,
                "window_steps": self.window_steps,
                "row_tokens": self._last_row[0],
                "row_seconds": self._last_row[1],
            },
        }

    def resume_clock(self) -> None:
        """Count time from here; `row` and `save` stop the clock, so evaluating and saving are not counted."""
        if self._clock is None:
            self._clock = time.perf_counter()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self.seconds += time.perf_counter() - self._clock
            self._clock = None

    def _means(self) -> list[float]:
        """What `runs.metrics.measured` names since the row before; surprises over the updates that had a target."""
        total = self.team.total(self.window)[: len(self.names)]
        if self.source.target() is None:
            return (total / self.window_steps).tolist()
        met = [name == "loss" or name.startswith("surprise") for name in self.names]
        updates = torch.where(torch.tensor(met, device=total.device), self.window[-1].clamp_min(1), self.window_steps)
        return (total / updates).tolist()

    def _reading(self, result: learning_rules.Result, chunk: Chunk) -> Tensor:
        """What `runs.metrics.measured` names, on the device; from here on, gradients are those of the joined batch."""
        weight = None if chunk.mask is None else chunk.weights(result.surprise.dtype)
        surprise = result.surprise.mean((1, 2)) if weight is None else (result.surprise * weight).sum((1, 2))
        state_surprise = result.state_surprise.mean((1, 2))
        seen = self.team.all_reduce(torch.cat([result.loss.view(1), surprise, state_surprise]))
        return torch.cat([seen, torch.stack([_norm(layer.parameters()) for layer in self.stack.layers])])

    def _clip(self) -> Tensor:
        """Clip each group's gradient; the norms before."""
        norms = []
        for parameters in self.groups.values():
            norms.append(_norm(parameters))
            if self.config.clip:
                clip_grads_with_norm_(parameters, self.config.clip, norms[-1])
        return torch.stack(norms)

    def _carried(self) -> dict[str, Tensor]:
        flat = trees.flatten
        return flat(self.state, "state") | flat(self.carry, "carry") | flat(self.window, "window")

    def _optimiser_memory(self) -> dict[str, Tensor]:
        return {
            f"optimiser.{name}.{what}": tensor
            for name, parameter in self.stack.named_parameters()
            for what, tensor in self.optimiser.state[parameter].items()
        }

    def _optimiser_plan(self) -> dict[str, Tensor]:
        """What AdamW remembers once it has made a step."""
        step = torch.zeros(())
        return {
            f"optimiser.{name}.{what}": step if what == "step" else parameter
            for name, parameter in self.stack.named_parameters()
            for what in ("step", "exp_avg", "exp_avg_sq")
        }

    def _restore_optimiser(self, saved: dict[str, Tensor]) -> None:
        names = {parameter: name for name, parameter in self.stack.named_parameters()}
        ordered = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        memory = {
            number: {
                name.rpartition(".")[2]: tensor.clone()
                for name, tensor in saved.items()
                if name.rpartition(".")[0] == f"optimiser.{names[parameter]}"
            }
            for number, parameter in enumerate(ordered)
        }
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": memory, "param_groups": groups})

    def _random_state(self) -> dict[str, Tensor]:
        state = {"random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore_random_state(self, saved: dict[str, Tensor]) -> None:
        torch.set_rng_state(saved["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in saved:
            torch.cuda.set_rng_state(saved["random.cuda"], self.device)


_ELSEWHERE = ("optimiser.", "random.")  # of a checkpoint's tensors, those that are not the carried state


def versions() -> dict[str, str]:
    """What a result may depend on besides the settings."""
    return {
        "pcrnn": pcrnn.__version__,
        "torch": torch.__version__,
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def _make_rule(config: TrainConfig) -> learning_rules.Rule:
    try:
        return learning_rules.make(config.rule, **config.rule_options())
    except ValueError as error:
        raise UsageError(str(error)) from None


def _norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Of their gradients; zero where another process has those."""
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    return get_total_norm(gradients) if gradients else parameters[0].new_zeros(()).detach()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
