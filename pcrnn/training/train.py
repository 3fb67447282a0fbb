"""One training run, top to bottom: data, stack, rule, optimiser, the loop, metrics and checkpoints.

A run stopped after any update and resumed from its checkpoint computes, on the same machine and with as many
threads, bit for bit what it would have computed unbroken: weights, optimiser, carried state, traces, metrics.

Shapes: B batch, T time, L layers.
"""

import hashlib
import json
import math
import time
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from pcrnn import extensions, trees
from pcrnn.analysis.evaluate import evaluate
from pcrnn.config import TrainConfig, check_resumable
from pcrnn.data import Source, open_source
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.memory import keep_freed_memory, require_memory
from pcrnn.nn.activity import Chunk
from pcrnn.nn.observations import StackDefaults
from pcrnn.runs import best
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.checkpoint import Checkpoint
from pcrnn.runs.load import build_stack, check_loaded, observation_of, read_documents, settled, validation_of
from pcrnn.runs.metrics import MetricsWriter, NoMetrics, Row, require_tensorboard
from pcrnn.runs.sizes import count_numbers
from pcrnn.training import parallel
from pcrnn.training.callback import Callback, SilentCallback, TrainInfo, TrainResult
from pcrnn.training.learner import Learner
from pcrnn.training.optimiser import Annealing, annealing_of_resumed, changes_in_words, learning_rate
from pcrnn.training.parallel import Team
from pcrnn.version import __version__, versions


def train(
    config: TrainConfig,
    out: Path | None = None,
    *,
    source: Source | None = None,
    resume: bool = False,
    callback: Callback | None = None,
) -> TrainResult:
    """Train a stack and write the run's folder; with `resume`, go on with the run that is there.

    `out` is by default runs/DATA-RULE-NUMBER. `source` takes the place of the data that `config.data` names, such as
    `SeriesSource(array)`; the run then cannot find its data: give the same source to resume it and to `load_run`.

    Seeds torch's global generator, and prints nothing: `callback` is told what happens. With `config.parallel` it is
    called in every process that torchrun started; one that torchrun starts again goes on with the run it had begun.

    Raises UsageError for a folder that cannot be used, DataError for the data, CheckpointError for a run that
    does not fit `config`, DivergedError before an update that is not finite, ParallelError where processes of one
    run lose each other.
    """
    keep_freed_memory()
    callback = callback or Callback()
    with parallel.join(config) as team:
        callback = callback if team.is_main else SilentCallback(callback)
        if out is None and (resume or config.parallel != "none"):
            raise UsageError(
                f"--out: expected a folder with --parallel {config.parallel} and resume {resume}, so that all "
                "processes, and those that torchrun starts again, find the same one; got none"
            )
        if out is not None and (resume or team.should_resume(out)):
            return _go_on(config, out, source, team, callback)
        # Everything that can be wrong with settings and data is found before the folder is made.
        source = source or open_source(config.data, tokens=config.tokens)
        trainer = Trainer(config, source, callback, team)
        folder = runs.create_numbered(Path("runs"), runs.stem_of(config)) if out is None else team.create_folder(out)
        with team.lock(folder):
            return _run(trainer, folder, callback)


def _go_on(config: TrainConfig, out: Path, source: Source | None, team: Team, callback: Callback) -> TrainResult:
    """Train from the newest good checkpoint of the run in a folder; from the beginning, where it has none yet."""
    folder = runs.existing(out)
    with team.lock(folder):
        loaded = team.load_newest(folder.checkpoints)
        unsaved = (f"{out}: no checkpoint was written yet; the run begins at its first update",)
        for warning in unsaved if loaded is None else loaded.warnings:
            callback.warn(warning)
        saved, state = (runs.read_settings(folder), None) if loaded is None else read_documents(loaded)
        config = config.settled({name: getattr(saved, name) for name in StackDefaults._fields})
        check_resumable(saved, config)
        source = source or open_source(config.data, tokens=config.tokens, state=state)
        if loaded is not None:
            check_loaded(loaded, config, source)
        trainer = Trainer(config, source, callback, team)
        if loaded is not None:
            trainer.restore(loaded)
            for note in changes_in_words(saved, config, trainer.step, trainer.annealing):
                callback.warn(note)
        return _run(trainer, folder, callback)


def _run(trainer: "Trainer", folder: runs.RunFolder, callback: Callback) -> TrainResult:
    """The loop: update, and where it is time for it, evaluate, write a row, write a checkpoint."""
    config, source, team = trainer.config, trainer.source, trainer.team
    team.assert_same("settings and data", trainer.identity())
    for note in source.notes:
        callback.warn(note)
    valid, warned = None, False
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
                if row["clipped"] and not warned:
                    warned = True
                    callback.warn(
                        f"update {trainer.step}: {row['clipped']:.2%} of the observed numbers so far lie beyond "
                        f"{trainer.stack.observation.message_limit:.3g} running deviations and are sent up as that "
                        "large; later ones are counted in the column clipped of the metrics"
                    )
            if evaluates:
                metrics.sync()
                trainer.save_if_best(folder)
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


def _described(trainer: "Trainer", folder: runs.RunFolder) -> MetricsWriter | NoMetrics:
    """Write into the run's folder what it is, and open its metrics."""
    if not trainer.team.is_main:
        return NoMetrics()
    best.drop_after(folder.checkpoints, trainer.step)
    for path in (folder.config, folder.data):
        runs.write_json(path, trainer.documents()[path.stem])
    layers = len(trainer.stack.layers)
    return MetricsWriter(folder, layers, last_step=trainer.step, tensorboard=trainer.config.tensorboard)


class Trainer:
    """A stack, a rule and an optimiser, and all that changes while they learn: what a checkpoint holds.

    In one of several processes (`team`) it has its share of the lanes or of the layers.
    """

    def __init__(
        self, config: TrainConfig, source: Source, callback: Callback | None = None, team: Team | None = None
    ) -> None:
        observation, target = observation_of(config, source), source.target()
        config = settled(config, observation, target)
        self.config, self.source, self.team = config, source, team or Team()
        self.device = self.team.device(config.device)
        if config.cuda_graph and self.device.type != "cuda":
            raise UsageError(f"cuda_graph: expected a CUDA device, got {self.device}; leave it out")
        if config.tensorboard:
            require_tensorboard()
        if target is not None and config.parallel != "none":
            raise UsageError(f"parallel: expected none for labelled sequences, got {config.parallel}; leave it out")
        sizes = observation.size, None if target is None else target.size, source.covariates
        needed = count_numbers(config, *sizes) // self.team.size  # at the least
        require_memory(needed, self.device, "hidden, batch, chunk")
        torch.manual_seed(config.seed)
        self.lanes = source.lanes(config.batch, config.chunk)
        self.stack = build_stack(config, source).to(self.device)
        rule = self.team.shard_model(self.stack, _make_rule(config))
        self.own_lanes = self.team.lanes(config.batch)
        self.learner = Learner(
            self.stack,
            rule,
            config,
            batch=self.own_lanes.stop - self.own_lanes.start,
            schedule=self.learning_rate,
            precision=config.precision,
            measure=True,
            cuda_graph=self.device.type == "cuda" and config.cuda_graph is not False and self.team.graphs,
            team=self.team,
            warn=(callback or Callback()).warn,
        )
        self.annealing = Annealing(0, config.steps)
        self.valid: list[float] | None = None  # of the weights as they are, once they were evaluated
        self.best = math.inf  # the lowest surprise of the top level on the validation split so far, nats
        self.names = self.learner.names
        readings = len(self.names) + (target is not None)  # with a target, the last counts the updates that had one
        self.window = torch.zeros(readings, device=self.device)  # sum of readings since the last row
        self.window_steps = 0
        self.seconds = 0.0
        self._clock: float | None = None  # when it was started, None while it stands
        self._last_row = (0, 0.0)  # tokens and seconds then

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data."""
        return self.source.fingerprint()

    @property
    def step(self) -> int:
        """Updates done."""
        return self.learner.updates

    def learning_rate(self, step: int) -> float:
        """Of update `step` = 0, 1, ..."""
        return learning_rate(self.config, step, self.annealing)

    def update(self) -> None:
        """Learn from the next chunk; raises what `Learner.step` does."""
        x, restart = self.lanes.read(self.step)
        if restart:
            self.learner.reset()
        parts = [part[self.own_lanes].to(self.device, non_blocking=True) for part in _parts(x)]
        chunk = Chunk.of_stream(*parts) if len(parts) == 1 else Chunk(*parts)
        self.learner.step(chunk)
        self.valid = None
        reading = self.learner.reading
        self.window += reading if chunk.mask is None else torch.cat([reading, chunk.mask.any().to(reading).view(1)])
        self.window_steps += 1
        self.team.verify(self.step, self.stack)

    def row(self) -> Row:
        """Metrics of the updates since the row before, as means."""
        self.learner.raise_if_diverged()
        means = self._means()
        self._stop_clock()
        tokens = self.step * self.lanes.batch * self.lanes.chunk
        past_tokens, past_seconds = self._last_row
        row: Row = {
            "step": self.step,
            "tokens": tokens,
            "seconds": self.seconds,
            "tokens_per_second": (tokens - past_tokens) / max(self.seconds - past_seconds, 1e-9),
            "learning_rate": self.learning_rate(self.step - 1),
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
        self.valid = self.team.leader(
            lambda: evaluate(self.stack, self.source, batch=config.batch, chunk=config.chunk).nats
        )
        return self.valid

    def save_if_best(self, folder: runs.RunFolder) -> None:
        """Keep weights evaluated better than any before; of several processes all take part and the leader writes."""
        if self.valid is None or not self.valid[-1] < self.best:
            return
        self.best = self.valid[-1]
        weights = self.team.gather_state(self.stack.state_dict())
        if self.team.is_main:
            checkpoint = Checkpoint(step=self.step, weights=weights, trainer={}, documents=self.documents())
            best.save(folder.checkpoints, checkpoint)

    def save(self, folder: runs.RunFolder) -> Path:
        """Write a checkpoint; of several processes the leader does, and all give it what they hold."""
        self.learner.raise_if_diverged()
        self._stop_clock()
        self.team.verify(self.step, self.stack, now=True)
        checkpoint = Checkpoint(
            step=self.step,
            weights=self.team.gather_state(self.stack.state_dict()),
            trainer=self.team.gather_state(self._memory()),
            documents=self.documents(),
        )
        if not self.team.is_main:
            return checkpoints.folder_of(folder.checkpoints, self.step)
        saved = checkpoints.save(folder.checkpoints, checkpoint, self.config.keep_last)
        best.prune(folder.checkpoints)
        return saved

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
        if data["sha256"] != self.fingerprint:
            raise CheckpointError(
                f"{self.config.data}: expected the data this run began with, but its content has changed; "
                "put the old file back, or start a new run"
            )
        done = loaded.checkpoint.step
        if self.config.steps < done:
            raise UsageError(f"steps: expected at least the {done} already done, got {self.config.steps}")
        learned = {name: tensor for name, tensor in saved.items() if not name.startswith(("window", "random."))}
        learned |= {_STACK + name: tensor for name, tensor in weights.items()} | {_UPDATES: torch.tensor(done)}
        self.learner.load_state_dict(learned, str(loaded.folder))
        checkpoints.check_fits({"window": self.window}, {"window": saved["window"]}, str(loaded.folder))
        self.window = trees.unflatten(self.window, saved, "window")
        self._restore_random_state(saved)
        self.window_steps = int(progress["window_steps"])
        self.seconds = float(progress["seconds"])
        self._last_row = (int(progress["row_tokens"]), float(progress["row_seconds"]))
        valid = validation_of(loaded, len(self.config.hidden))
        self.valid = None if valid is None else list(valid)
        self.best = math.inf if progress["best"] is None else float(progress["best"])
        before = Annealing(*map(int, progress["annealing"]))
        if not 0 <= before.first < before.end:
            raise ValueError(f"annealing {before}")
        lr = loaded.checkpoint.documents["config"]["settings"]["lr"]
        self.annealing = annealing_of_resumed(self.config, before, done, new_rate=self.config.lr != lr)

    def identity(self) -> str:
        """A digest of all that processes of one run must have in common before they begin."""
        settings = json.dumps(self.config.as_mapping() | {"data": ""}, sort_keys=True)  # files may lie elsewhere
        common = (settings, self.step, __version__, torch.__version__, self.fingerprint)
        return hashlib.sha256(repr(common).encode()).hexdigest()

    def documents(self) -> dict[str, Any]:
        """The JSON documents of a checkpoint."""
        return {
            "config": {"settings": self.config.as_mapping(), "imports": extensions.loaded(), "versions": versions()},
            "data": {"state": self.source.state(), "sha256": self.fingerprint},
            "progress": {
                "seconds": self.seconds,
                "window_steps": self.window_steps,
                "row_tokens": self._last_row[0],
                "row_seconds": self._last_row[1],
                "valid": self.valid if self.valid is not None and all(map(math.isfinite, self.valid)) else None,
                "best": self.best if math.isfinite(self.best) else None,
                "annealing": list(self.annealing),
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
        of_targets = [name == "loss" or name.startswith("surprise") for name in self.names]
        updates = torch.where(
            torch.tensor(of_targets, device=total.device), self.window[-1].clamp_min(1), self.window_steps
        )
        return (total / updates).tolist()

    def _memory(self) -> dict[str, Tensor]:
        """All that changes while a run learns but for its weights."""
        learner = {n: t for n, t in self.learner.state_dict().items() if not n.startswith((_STACK, _UPDATES))}
        return learner | {"window": self.window} | self._random_state()

    def _random_state(self) -> dict[str, Tensor]:
        state = {"random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore_random_state(self, saved: dict[str, Tensor]) -> None:
        torch.set_rng_state(saved["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in saved:
            torch.cuda.set_rng_state(saved["random.cuda"], self.device)


_STACK, _UPDATES = "stack.", "updates"  # of a learner's tensors, the weights; and how many updates they have had


def _parts(x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (x,) if isinstance(x, Tensor) else x


def _make_rule(config: TrainConfig) -> learning_rules.Rule:
    try:
        return learning_rules.make(config.rule, **config.rule_arguments())
    except ValueError as error:
        raise UsageError(str(error)) from None


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
