"""What a person asks of a suite, and the suites there are, loaded only when asked for."""

import argparse
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from comparisons import record
from pcrnn.errors import UsageError

SUITES: dict[str, str] = {
    "quality": "held-out score of every rule on the same stacks, beside LSTM, GRU and counting baselines",
    "applications": "music, a genome, the weather, digits: a local rule and BPTT beside baselines of the field",
    "depth": "the distance to BPTT over depth and length of training, at equal parameters",
    "chunks": "exact traces at small chunks against BPTT truncated to the same chunk",
    "curves": "held-out score of every rule along training, against updates and against their time",
    "equal_time": "held-out score of every rule in the time of BPTT's updates",
    "cost": "multiply-adds and numbers between layers, a step of every rule",
    "memory": "peak memory and tokens a second against the length of the sequence",
    "speed": "tokens a second over batch, width, depth and threads",
    "long_lags": "what exact traces buy: copy memory and adding, at a fixed chunk",
    "alignment": "cosine and norm of each rule's gradient against BPTT's, layer by layer",
    "inference_cost": "gradients by inference iterations against local credit: cosine and time",
    "online": "a stream that changes: bits over time and recovery after the switch",
    "ops": "time of every op against its naive form, and of a whole update against BPTT",
    "gpu": "all that is measured on a GPU: ops, kernels, updates, training runs; in stages, under a budget of time",
    "scaling": "tokens a second and bytes sent of two processes, by data and by layers; a model of many nodes",
    "tagging": "deleted vowels restored: stacks that read in both directions beside those that read forward",
    "foretold": "what layers know of their next state: plain, with top-down expectations, with inference steps",
    "tracking": "iterative inference against the Kalman filter: error over the number of steps",
    "latency": "microseconds from a symbol to the expectation of the next",
}

_MODULES = {"cost": "cost.cost", "gpu": "cost.gpu"}  # in folders


def _silent(progress: str) -> None:
    """Suites print nothing; a person who asks hears `tell`."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for.

    Args:
        quick: tiny settings; everything still runs for real, its figures mean nothing.
        seeds: how many seeds a figure's spread is over.
        out: folder of the records; by default `record.RESULTS`, or `record.QUICK_RESULTS` when quick.
        data: a file that a suite can measure on, where it takes one.
        only: names of the parts to run, where a suite has parts with names; all when empty.
        options: all flags by name, for a suite that declares some of its own.
        tell: hears of progress, one line a call.
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
    """A module of comparisons/."""

    def run(self, request: Request) -> list[Path]:
        """Measure; write the record as JSON, a Markdown table and a picture into `request.out`; return their paths."""
        ...


def load(name: str) -> Suite:
    """The suite of that name; ValueError for a name there is none of."""
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {name!r}")
    return cast(Suite, importlib.import_module(f"comparisons.{_MODULES.get(name, name)}"))


def add_arguments(parser: argparse.ArgumentParser, suite: Suite) -> None:
    """Declare a suite's flags beyond the shared ones: those of its function `add_arguments(parser)`, if it has one."""
    getattr(suite, "add_arguments", lambda _: None)(parser)
