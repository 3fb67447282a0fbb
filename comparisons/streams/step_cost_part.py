"""A part of the suite: what a step costs; see `step_cost` for what is measured."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .. import record
from ..pictures import colours, plain_numbers
from ..record import Row
from ..suite import Request
from .braintrace_step import LOOP, ONE
from .parts import Reader
from .step_cost import COMPILED, LSTM, PLAIN, QUICK, WHOLE, StepSetup, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.05  # of a time: a smaller difference is none
VERDICTS = {(True, False): "Wins", (False, True): "Loses", (True, True): "Mixed", (False, False): "Level"}
"""By whether some stack's step is faster, and whether some is slower."""


@dataclass(frozen=True)
class StepCost:
    """Such a part."""

    title: str = "a step"

    def open(self, request: Request) -> "Opened":
        return Opened(QUICK if request.quick else StepSetup())

    def summary(self, rows: list[Row]) -> list[str]:
        plain, whole, memory = _split(rows)
        said = [_against(LSTM, who, plain) for who in _names(plain) if who not in (LSTM, ONE, LOOP)]
        for who, theirs in ((f"learn_one, {COMPILED}", ONE), (f"learn_many, {COMPILED}", LOOP)):
            if {who, theirs} <= set(_names(plain)):
                said.append(_against(theirs, who, plain))
        if whole:
            each = ", ".join(f"{row['who']} {row['us']:.0f} µs" for row in whole)
            said.append(f"With scaling, calendar, range and heavy tails a step of {whole[0]['stack']} takes: {each}.")
        if memory:
            each = ", ".join(f"{row['who']} {row['memory_mib']:.2f} MiB" for row in memory)
            said.append(f"Over {memory[0]['steps']} steps memory grows by: {each}.")
        return said

    def tables(self, rows: list[Row]) -> list[str]:
        plain, whole, memory = _split(rows)
        columns = {"stack": "stack", "kind": "does", "who": "who", "us": "µs a step", "us_min": "least"}
        columns |= {"us_max": "most", "parameters": "parameters"}
        growth = {"stack": "stack", "who": "who", "steps": "steps", "memory_mib": "growth, MiB"}
        return [record.table([*plain, *whole], columns), record.table(memory, growth)]

    def draw(self, axes: "Axes", rows: list[Row]) -> None:
        """Time over plain stacks, a line each."""
        plain, _, _ = _split(rows)
        ours = [row for row in plain if row["who"] == _names(plain)[0]]
        stacks = [row["stack"] for row in sorted(ours, key=lambda row: row["parameters"])]
        for who, colour in colours(_names(plain)).items():
            us = sorted((stacks.index(row["stack"]), row["us"]) for row in plain if row["who"] == who)
            axes.plot(*zip(*us, strict=True), "o-", color=colour, label=who, markersize=4)
        axes.set_yscale("log")
        plain_numbers(axes)
        axes.set_xticks(range(len(stacks)), stacks)
        axes.set(title="a step of Online", xlabel="layers x units", ylabel="µs, CPU time")


@dataclass(frozen=True)
class Opened:
    """The part with its sizes."""

    setup: StepSetup

    def seconds(self, seeds: int) -> float:
        """By what it took once; seeds do not matter."""
        each_stack = 0.7 * self.setup.rounds * self.setup.share
        return 15 + (len(self.setup.stacks) + 1) * each_stack + 2 * 50e-6 * self.setup.steps

    def rows(self, reader: Reader) -> list[Row]:
        reader.tell("speed: time of a step, then memory; nothing is told in between")
        found = reader.cells.get(["speed", asdict(self.setup)], lambda: {"rows": measure(self.setup)})
        return [{"part": "speed"} | row for row in found["rows"]]


def _split(rows: list[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Times of plain stacks and of the whole one; and memory."""
    timed = [row for row in rows if "us" in row]
    plain, whole = ([row for row in timed if row["kind"] == kind] for kind in (PLAIN, WHOLE))
    return plain, whole, [row for row in rows if "memory_mib" in row]


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["who"] for row in rows))


def _against(whom: str, who: str, plain: list[Row]) -> str:
    """A sentence: one way to call `Online` beside somebody else, over all stacks that both were timed at."""
    theirs = {row["stack"]: row["us"] for row in plain if row["who"] == whom}
    ours = {row["stack"]: row["us"] for row in plain if row["who"] == who and row["stack"] in theirs}
    ratios = [us / theirs[stack] for stack, us in ours.items()]
    word = VERDICTS[min(ratios) < 1 - LEVEL, max(ratios) > 1 + LEVEL]
    share = " to ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in (min(ratios), max(ratios))))
    size = "as many parameters" if whom == LSTM else "as many units"
    return (
        f"{word}: a step of Online by {who} takes {_each(ours.values())} µs for stacks of {' / '.join(ours)}, of "
        f"{whom}, with {size} {_each(theirs.values())} µs; that is {share} of its time."
    )


def _each(times: Iterable[float]) -> str:
    return " / ".join(f"{us:.0f}" if us >= 10 else f"{us:.2g}" for us in times)


SPEED = StepCost()
