"""The table of suites, loaded only when asked for, and what a request asks of one."""

import argparse
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from pcrnn.errors import UsageError

from . import record


class Entry(NamedTuple):
    """A suite of the table."""

    path: str  # its module, below this package; after a colon, the object in it that has `run`
    flags: tuple[str, ...]  # those of --data, --only and --seeds that it has a use for
    about: str  # what it measures
    takes_folder: bool = False  # with --data, in place of a file


_SEEDS, _DATA_SEEDS = ("--seeds",), ("--data", "--seeds")
_ALL = ("--data", "--only", "--seeds")
SUITES: dict[str, Entry] = {
    "quality": Entry(
        "quality.quality",
        _ALL,
        "held-out score of every rule on the same stacks, beside LSTM, GRU, a transformer and counting baselines",
    ),
    "applications": Entry(
        "quality.applications",
        _ALL,
        "music, a genome, the weather, digits: a local rule and BPTT beside baselines of the field",
    ),
    "depth": Entry(
        "quality.axes:DEPTH", _ALL, "the distance to BPTT over depth and length of training, at equal parameters"
    ),
    "chunks": Entry(
        "quality.axes:CHUNKS", _ALL, "exact traces at small chunks against BPTT truncated to the same chunk"
    ),
    "curves": Entry(
        "quality.curves",
        _SEEDS,
        "held-out score of every rule along training; beside LSTM, GRU and a transformer in the time of BPTT",
    ),
    "cost": Entry("cost.cost", (), "multiply-adds and numbers between layers, a step of every rule"),
    "memory": Entry("cost.memory", (), "peak memory and tokens a second against the length of the sequence"),
    "speed": Entry(
        "cost.speed",
        (),
        "tokens a second over batch, width, depth and threads; latency from a symbol to the next expectation",
    ),
    "long_lags": Entry(
        "mechanisms.long_lags", _SEEDS, "what exact traces buy: copy memory and adding, at a fixed chunk"
    ),
    "alignment": Entry(
        "mechanisms.alignment", _DATA_SEEDS, "cosine and norm of each rule's gradient against BPTT's, layer by layer"
    ),
    "inference_cost": Entry(
        "cost.inference_cost", _SEEDS, "gradients by inference iterations against local credit: cosine and time"
    ),
    "online": Entry(
        "mechanisms.online", _DATA_SEEDS, "a stream that changes: bits over time and recovery after the switch"
    ),
    "ops": Entry("cost.ops", (), "time of every op against its naive form, and of a whole update against BPTT"),
    "gpu": Entry(
        "cost.gpu",
        (),
        "all that is measured on a GPU: ops, kernels, updates, training runs; in stages, under a budget of time",
    ),
    "scaling": Entry(
        "cost.scaling",
        (),
        "tokens a second and bytes sent of two processes, by data and by layers; a model of many nodes",
    ),
    "tagging": Entry(
        "quality.tagging",
        _DATA_SEEDS,
        "deleted vowels restored: stacks that read in both directions beside those that read forward",
    ),
    "foretold": Entry(
        "mechanisms.foretold",
        _ALL,
        "what layers know of their next state: plain, with top-down expectations, with inference steps",
    ),
    "tracking": Entry(
        "mechanisms.tracking", _SEEDS, "iterative inference against the Kalman filter: error over the number of steps"
    ),
    "streams": Entry(
        "streams.streams",
        _ALL,
        "one pass over text, labelled anomalies and weather: each step scored, then learned from; what a step costs",
        takes_folder=True,
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
        data: a file, or a folder, to measure on, for suites that take one.
        only: names of the parts to run, for suites whose parts have names; all when empty.
        options: all flags by name, for a suite that declares some of its own.
        tell: called with progress, one line a call.
    """

    quick: bool = False
    seeds: int = 3
    out: Path = record.RESULTS
    data: Path | None = None
    only: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
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


def add_arguments(parser: argparse.ArgumentParser, suite: Suite) -> None:
    """Declare a suite's flags beyond the shared ones: those of its function `add_arguments(parser)`, if it has one."""
    getattr(suite, "add_arguments", lambda _: None)(parser)
