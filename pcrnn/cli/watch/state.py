"""What a stream of `pcrnn watch` keeps for good: its settings, and what is noted beside it in the folder of --state."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

import learning_rules
from pcrnn.cli.watch.flags import WatchFlags
from pcrnn.config import rule_option_names
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.online import Online
from pcrnn.validation import as_flag

Settings = Mapping[str, Any]
"""Of a stream, of JSON types: those flags that cannot change any more."""

Notes = Mapping[str, Any]
"""`settings`; `rows` and `alphabet`, what was found out about the input; `place` and `lines`, how far it was read;
`out`, how far the table was written. Of JSON types, too."""

_KEY = "watch"  # where Online.notes has what belongs to this command
_NOTED = {"settings", "rows", "alphabet", "place", "lines", "out"}
_OF_CONFIG = ("lr", "alarm", "margin", "probation")
_SWITCHES = {"characters": False, "difference": True}  # and what they are where they are not given


def new_settings(flags: WatchFlags) -> Settings:
    """The settings of a new stream; flags that are not given are at their defaults."""
    defaults = {"symbols": 256, "calendar": [], "hidden": [32, 32], "rule": "local", "credit": None, "seed": 0}
    defaults |= {name: getattr(OnlineConfig(), name) for name in _OF_CONFIG}
    given = {name: flags.given(name) for name in defaults}
    found = {name: default if given[name] is None else given[name] for name, default in defaults.items()}
    if flags.symbols is not None and not flags.characters:
        raise UsageError(f"--symbols: expected --characters, got rows with --symbols {flags.symbols}; leave out one")
    if flags.credit is not None and "credit" not in rule_option_names(found["rule"]):
        raise UsageError(f"--credit: expected the rule local, got {found['rule']}; leave out one")
    return found | {name: getattr(flags, name) for name in _SWITCHES}


def new_stream(settings: Settings, compiled: bool | None, size: Mapping[str, Any]) -> Online:
    """A stream with these settings, of which nothing was seen."""
    torch.manual_seed(settings["seed"])
    options = {} if settings["credit"] is None else {"credit": settings["credit"]}
    rule = learning_rules.make(settings["rule"], **options)
    difference = settings["difference"] and not settings["characters"]
    config = OnlineConfig(difference=difference, **{name: settings[name] for name in (*_OF_CONFIG, "calendar")})
    return Online(rule=rule, hidden=settings["hidden"], config=config, compiled=compiled, **size)


def saved_stream(flags: WatchFlags, say: Callable[[str], None]) -> tuple[Online | None, Notes | None]:
    """The stream in the folder of --state, and what was noted beside it; nothing where none is there.

    Raises CheckpointError where it is not this command's, UsageError where flags contradict it.
    """
    if flags.state is None or not checkpoints.steps(flags.state):
        return None, None
    online = Online.load(flags.state, compiled=flags.compiled, warn=lambda warning: say(f"note: {warning}"))
    notes = online.notes.get(_KEY)
    if not isinstance(notes, dict) or not notes.keys() >= _NOTED:
        raise CheckpointError(f"{flags.state}: expected what pcrnn watch has saved, got a stream of another program")
    _require_same(flags, notes)
    return online, notes


def note(online: Online, notes: Notes) -> None:
    """Leave what is noted to be saved with the stream."""
    assert notes.keys() == _NOTED
    online.notes[_KEY] = notes


def bytes_of_table(flags: WatchFlags, notes: Notes | None) -> int | None:
    """How much of the file of --out was written when the stream was saved; None where it is to be begun anew."""
    if flags.out is None or notes is None:
        return None
    out = notes["out"]
    if out is not None and out["path"] == str(flags.out.resolve()):
        return out["bytes"]
    return sys.maxsize


def _require_same(flags: WatchFlags, notes: Notes) -> None:
    """UsageError that names every flag which contradicts what was saved."""
    saved = notes["settings"] | {name: (notes["rows"] or {}).get(name) for name in ("names", "channels", "time")}
    given = {name: flags.given(name) for name in saved}
    switched = {name: getattr(flags, name) for name in _SWITCHES}
    given |= {name: None if value == _SWITCHES[name] else value for name, value in switched.items()}
    differ = [
        f"--{name} {_as_flag(value)} (saved: {_as_flag(saved[name])})"
        for name, value in given.items()
        if value is not None and value != saved[name]
    ]
    if differ:
        raise UsageError(
            f"--state {flags.state}: expected the settings of the stream that is saved there, got "
            f"{', '.join(differ)}; leave them out, or choose another folder"
        )


def _as_flag(value: Any) -> str:
    return as_flag(tuple(value)) if isinstance(value, list) else "none" if value is None else as_flag(value)
