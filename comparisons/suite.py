"""The table of suites, loaded only when asked for, and what a request asks of one."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from pcrnn.errors import UsageError

from . import record


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A suite of the table.

    Args:
        path: its module, below this package; after a colon, the object in it that has `run`.
        about: what it measures.
        flags: those of --data, --only and --seeds that it has a use for.
    """

    path: str
    about: str
    flags: tuple[str, ...] = ("--seeds",)


SUITES: dict[str, Entry] = {
    "quality": Entry(
        path="quality.quality",
        about="held-out score of every rule on the same stacks, beside LSTM, GRU and counting baselines",
        flags=("--data", "--only", "--seeds"),
    ),
    "applications": Entry(
        path="quality.applications",
        about="music, a genome, the weather, digits: a local rule and BPTT beside baselines of the field",
        flags=("--data", "--only", "--seeds"),
    ),
    "depth": Entry(
        path="quality.axes:DEPTH",
        about="the distance to BPTT over depth and length of training, at equal parameters",
        flags=("--data", "--only", "--seeds"),
    ),
    "chunks": Entry(
        path="quality.axes:CHUNKS",
        about="exact traces at small chunks against BPTT truncated to the same chunk",
        flags=("--data", "--only", "--seeds"),
    ),
    "curves": Entry(
        path="quality.curves",
        about="held-out score of every rule along training, against updates and time, and in the time of BPTT",
    ),
    "cost": Entry(path="cost.cost", about="multiply-adds and numbers between layers, a step of every rule", flags=()),
    "memory": Entry(
        path="cost.memory", about="peak memory and tokens a second against the length of the sequence", flags=()
    ),
    "speed": Entry(
        path="cost.speed",
        about="tokens a second over batch, width, depth and threads; latency from a symbol to the next expectation",
        flags=(),
    ),
    "long_lags": Entry(
        path="mechanisms.long_lags", about="what exact traces buy: copy memory and adding, at a fixed chunk"
    ),
    "alignment": Entry(
        path="mechanisms.alignment",
        about="cosine and norm of each rule's gradient against BPTT's, layer by layer",
        flags=("--data", "--seeds"),
    ),
    "inference_cost": Entry(
        path="cost.inference_cost",
        about="gradients by inference iterations against local credit: cosine and time",
    ),
    "online": Entry(
        path="mechanisms.online",
        about="a stream that changes: bits over time and recovery after the switch",
        flags=("--data", "--seeds"),
    ),
    "ops": Entry(
        path="cost.ops", about="time of every op against its naive form, and of a whole update against BPTT", flags=()
    ),
    "scaling": Entry(
        path="cost.scaling",
        about="tokens a second and bytes sent of two processes, by data and by layers; a model of many nodes",
        flags=(),
    ),
    "tagging": Entry(
        path="quality.tagging",
        about="deleted vowels restored: stacks that read in both directions beside those that read forward",
        flags=("--data", "--seeds"),
    ),
    "foretold": Entry(
        path="mechanisms.foretold",
        about="what layers know of their next state: plain, with top-down expectations, with inference steps",
        flags=("--data", "--only", "--seeds"),
    ),
    "tracking": Entry(
        path="mechanisms.tracking",
        about="iterative inference against the Kalman filter: error over the number of steps",
    ),
}


def _silent(progress: str) -> None:
    """Suites print nothing; progress goes to `Request.tell`."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for.

    Args:
        quick: tiny settings; everything still runs for real, its numbers mean nothing.
        seeds: how many seeds a spread is over.
        out: folder of the records; by default `record.RESULTS`, or `record.QUICK_RESULTS` when quick.
        data: a file to measure on, for suites that take one.
        only: names of the parts to run, for suites whose parts have names; all when empty.
        tell: called with progress, one line a call.
    """

    quick: bool = False
    seeds: int = 3
    out: Path = record.RESULTS
    data: Path | None = None
    only: tuple[str, ...] = ()
    tell: Callable[[str], None] = _silent

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds: expected at least 1, got {self.seeds}")
        if self.quick and self.out == record.RESULTS:
            object.__setattr__(self, "out", record.QUICK_RESULTS)

    def chosen(self, names: Iterable[str]) -> list[str]:
        """All names of a suite's parts, or those in `only`; UsageError for one it does not have."""
        known = list(names)
        if unknown := sorted(set(self.only) - set(known)):
            raise UsageError(f"--only: expected some of {', '.join(known)}; got {', '.join(unknown)}")
        return [name for name in known if not self.only or name in self.only]


class Suite(Protocol):
    """A module of this package, or an object of one."""

    def run(self, request: Request) -> list[Path]:
        """Measure; write the record as JSON, a Markdown table and a picture into `request.out`; return their paths."""
        ...


def load(name: str) -> Suite:
    """The suite of that name; ValueError for a name there is none of."""
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {name!r}")
    module, _, member = SUITES[name].path.partition(":")
    imported = importlib.import_module(f"{__package__}.{module}")
    return cast(Suite, getattr(imported, member) if member else imported)


def refuse_unused(name: str, given: dict[str, object]) -> None:
    """UsageError for a flag among those given, with their values, that a suite (or the report) has no use for."""
    entry = SUITES.get(name)
    for flag, value in given.items():
        if value and flag not in (entry.flags if entry else ()):
            users = ", ".join(suite for suite, other in SUITES.items() if flag in other.flags)
            got = " ".join(map(str, value)) if isinstance(value, tuple | list) else value
            raise UsageError(
                f"{flag}: expected none, as {name} has no use for it, got {got}; leave it out, or ask one of {users}"
            )
