"""A stream on the disk: everything that it has left, in a checkpoint like a run's.

weights.safetensors   the stack
trainer.safetensors   optimiser, state and traces, and what is carried beside the stack
stream.json           how the stack is built, its rule, optimiser and settings
manifest.json         checksums, written last
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from learning_rules import Rule
from pcrnn import extensions
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import recipe
from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.stream import Carried
from pcrnn.tables import RULES
from pcrnn.training.learner import Learner
from pcrnn.training.optimiser import without_compiler

FORMAT = 1
_DOCUMENT = "stream"
_OPTIMISERS: dict[str, Any] = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}
_OF_GROUPS = ("lr", "weight_decay", "betas", "eps", "factor", "momentum", "nesterov", "amsgrad", "fused", "dampening")
_STACK = "stack."


@dataclass(frozen=True)
class Asked:
    """What a person asked for, beside the stack, the rule and an optimiser."""

    lanes: int
    config: OnlineConfig
    notes: dict[str, Any]
    makes_optimiser: bool = dataclasses.field(kw_only=True)  # whether the optimiser is the one that `config` makes


@dataclass(frozen=True, eq=False)
class Found:
    """What was read: new objects, and the numbers that belong into them."""

    stack: PredictiveStack
    rule: Rule
    optimiser: torch.optim.Optimizer | None  # None for the one that `config` makes
    asked: Asked
    origin: str
    tensors: Mapping[str, Tensor]  # of the learner's state_dict
    carried: Mapping[str, Tensor]
    warnings: tuple[str, ...]  # of saves that are damaged and were stepped over

    def restore(self, learner: Learner, carried: Carried) -> None:
        """Fill a learner and what is carried beside it; CheckpointError where something does not fit."""
        expected = {name: torch.from_numpy(part) for name, part in carried._asdict().items()}
        checkpoints.check_fits(expected, self.carried, self.origin)
        with without_compiler():
            learner.load_state_dict(dict(self.tensors), self.origin)
        for name, part in self.carried.items():
            getattr(carried, name)[...] = part.numpy()


def save(folder: Path, learner: Learner, carried: Carried, asked: Asked) -> Path:
    """Write `folder`/step_N of a stream of N observations; see `pcrnn.Online.save`."""
    stack = learner.model
    assert isinstance(stack, PredictiveStack)
    tensors = learner.state_dict()
    if learner.updates == 0:  # moments that the compiled engine has made and nothing has changed yet
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimiser.")}
    weights = {name.removeprefix(_STACK): tensors.pop(name) for name in list(tensors) if name.startswith(_STACK)}
    document = {
        "format": FORMAT,
        "imports": extensions.loaded(),
        **recipe.describe(stack),
        "dtype": str(stack.base.eta.dtype).removeprefix("torch."),
        "lanes": asked.lanes,
        "rule": _of_rule(learner.rule),
        "optimiser": None if asked.makes_optimiser else _of_optimiser(learner),
        "config": dataclasses.asdict(asked.config),
        "notes": asked.notes,
    }
    beside = {f"stream.{name}": torch.from_numpy(part) for name, part in carried._asdict().items()}
    checkpoint = checkpoints.Checkpoint(
        step=int(carried.seen[0]), weights=weights, trainer=tensors | beside, documents={_DOCUMENT: document}
    )
    return checkpoints.save(folder, checkpoint)


def load(folder: Path) -> Found:
    """The newest sound save in a folder; see `pcrnn.Online.load`."""
    loaded = checkpoints.load_newest(folder)
    checkpoint, origin = loaded.checkpoint, str(loaded.folder)
    try:
        document = checkpoint.documents[_DOCUMENT]
        if document["format"] > FORMAT:
            raise CheckpointError(
                f"{origin}: expected format {FORMAT} or earlier, got {document['format']}; use the version of pcrnn "
                "that wrote it, or a newer one"
            )
        with extensions.required(document.get("imports")):
            return _found(document, checkpoint, origin, loaded.warnings)
    except CheckpointError:
        raise
    except recipe.DAMAGE as error:
        reason = str(error) if isinstance(error, PcrnnError) else repr(error)
        raise CheckpointError(f"{origin}: expected what Online.save writes, but reading it gave {reason}") from None


def _found(
    document: Mapping[str, Any], checkpoint: checkpoints.Checkpoint, origin: str, warnings: tuple[str, ...]
) -> Found:
    weights, trainer = checkpoint.weights, dict(checkpoint.trainer)
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    stack = recipe.parse(document, origin, shapes).build()
    if document["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype {document['dtype']!r}")
    stack = stack.to(getattr(torch, document["dtype"]))
    rule = learning_rules.make(document["rule"]["name"], **document["rule"]["options"])
    makes_optimiser = document["optimiser"] is None
    with without_compiler():
        optimiser = None if makes_optimiser else _optimiser(document["optimiser"], stack)
    asked = Asked(
        document["lanes"], OnlineConfig(**document["config"]), document["notes"], makes_optimiser=makes_optimiser
    )
    names = {name: f"stream.{name}" for name in Carried._fields}
    carried = {name: trainer.pop(stored) for name, stored in names.items() if stored in trainer}
    tensors = {_STACK + name: tensor for name, tensor in weights.items()} | trainer
    return Found(stack, rule, optimiser, asked, origin, tensors, carried, warnings)


def _of_rule(rule: Any) -> dict[str, Any]:
    """UsageError for a rule that is not registered, since nobody could load it."""
    name = RULES.name_of(type(rule))
    options = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.init}
    return {"name": name, "options": options}


def _of_optimiser(learner: Learner) -> dict[str, Any]:
    """Its class, and its groups with the names of their weights."""
    optimiser, names = learner.optimiser, {p: name for name, p in learner.model.named_parameters()}
    kind = type(optimiser).__name__
    if _OPTIMISERS.get(kind) is not type(optimiser) or learner.schedule is not None:
        got = "a schedule" if _OPTIMISERS.get(kind) is type(optimiser) else kind
        raise UsageError(
            f"save: expected an optimiser of {', '.join(_OPTIMISERS)} at its own rates, or none, got {got}, which "
            "`load` could not make again"
        )
    groups = [
        {key: group[key] for key in _OF_GROUPS if key in group} | {"weights": [names[p] for p in group["params"]]}
        for group in optimiser.param_groups
    ]
    return {"class": kind, "groups": groups}


def _optimiser(document: Mapping[str, Any], stack: PredictiveStack) -> torch.optim.Optimizer:
    weights = dict(stack.named_parameters())
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items() if key in _OF_GROUPS}
        | {"params": [weights[name] for name in group["weights"]]}
        for group in document["groups"]
    ]
    return _OPTIMISERS[document["class"]](groups)
