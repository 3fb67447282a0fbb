"""A stream on the disk: everything that it has left, in a checkpoint like a run's.

weights.safetensors   the stack
trainer.safetensors   optimiser, state and traces, and what is carried beside the stack
stream.json           how the stack is built, its rule, optimiser and settings
manifest.json         checksums, written last
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import learning_rules
from pcrnn import extensions
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import recipe
from pcrnn.streaming.stream import Carried
from pcrnn.tables import RULES

if TYPE_CHECKING:
    from pcrnn.streaming.online import Online

FORMAT = 1
_DOCUMENT = "stream"
_OPTIMISERS = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}
_OF_GROUPS = ("lr", "weight_decay", "betas", "eps", "factor", "momentum", "nesterov", "amsgrad", "fused", "dampening")
_STACK = "stack."


def save(online: Online, folder: Path) -> Path:
    """See `Online.save`."""
    tensors = online._learner.state_dict()
    weights = {name.removeprefix(_STACK): tensors.pop(name) for name in list(tensors) if name.startswith(_STACK)}
    carried = {f"stream.{name}": torch.from_numpy(part) for name, part in online._carried._asdict().items()}
    document = {
        "format": FORMAT,
        "imports": extensions.loaded(),
        **recipe.describe(online.stack),
        "dtype": str(online.stack.base.eta.dtype).removeprefix("torch."),
        "lanes": online.lanes,
        "rule": _of_rule(online._learner.rule),
        "optimiser": _of_optimiser(online),
        "config": dataclasses.asdict(online.config),
        "notes": online.notes,
    }
    checkpoint = checkpoints.Checkpoint(
        step=online.seen, weights=weights, trainer=tensors | carried, documents={_DOCUMENT: document}
    )
    return checkpoints.save(folder, checkpoint)


def load(folder: Path, *, compiled: bool | None = None) -> Online:
    """See `Online.load`."""
    loaded = checkpoints.load_newest(folder)
    checkpoint, origin = loaded.checkpoint, str(loaded.folder)
    try:
        document = checkpoint.documents[_DOCUMENT]
        if document["format"] > FORMAT:
            raise CheckpointError(f"{origin}: expected format {FORMAT} or earlier, got {document['format']}")
        with extensions.required(document.get("imports")):
            online = _built(document, origin, checkpoint.weights, compiled)
    except CheckpointError:
        raise
    except recipe.DAMAGE as error:
        reason = str(error) if isinstance(error, PcrnnError) else repr(error)
        raise CheckpointError(f"{origin}: expected what Online.save writes, but reading it gave {reason}") from None
    trainer = dict(checkpoint.trainer)
    parts = {name: trainer.pop(f"stream.{name}", None) for name in Carried._fields}
    checkpoints.check_fits(
        {name: torch.from_numpy(part) for name, part in online._carried._asdict().items()},
        {name: part for name, part in parts.items() if part is not None},
        origin,
    )
    tensors = {_STACK + name: tensor for name, tensor in checkpoint.weights.items()} | trainer
    online._learner.load_state_dict(tensors, origin)
    for name, part in parts.items():
        assert part is not None
        getattr(online._carried, name)[...] = part.numpy()
    online._engine, online._reason = online._choose()
    online.notes = document["notes"]
    return online


def _built(document: Mapping[str, Any], origin: str, weights: Mapping[str, Tensor], compiled: bool | None) -> Online:
    from pcrnn.streaming.online import Online, OnlineConfig

    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    stack = recipe.parse(document, origin, shapes).build()
    if document["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype {document['dtype']!r}")
    stack = stack.to(getattr(torch, document["dtype"]))
    rule = learning_rules.make(document["rule"]["name"], **document["rule"]["options"])
    config = OnlineConfig(**document["config"])
    optimiser = _optimiser(document["optimiser"], stack)
    return Online(stack, rule, optimiser, lanes=document["lanes"], config=config, compiled=compiled)


def _of_rule(rule: Any) -> dict[str, Any]:
    name = RULES.name_of(type(rule))
    options = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.init}
    return {"name": name, "options": options}


def _of_optimiser(online: Online) -> dict[str, Any] | None:
    """None for the one that `config` makes; else its class, and its groups with the names of their weights."""
    if online.makes_optimiser:
        return None
    optimiser, names = online._learner.optimiser, {p: name for name, p in online.stack.named_parameters()}
    kind = type(optimiser).__name__
    if _OPTIMISERS.get(kind) is not type(optimiser) or online._learner.schedule is not None:
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


def _optimiser(document: Mapping[str, Any] | None, stack: Any) -> torch.optim.Optimizer | None:
    if document is None:
        return None
    weights = dict(stack.named_parameters())
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items() if key in _OF_GROUPS}
        | {"params": [weights[name] for name in group["weights"]]}
        for group in document["groups"]
    ]
    return _OPTIMISERS[document["class"]](groups)
