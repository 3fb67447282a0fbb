"""What is said of learners on a stream: ours, which learns at every step, beside the best of others, seed by seed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..claims import NO_CLAIM, no_claim
from ..quality.study import is_level
from ..record import Row
from ..search import mean_and_spread

OURS = "local, chunk 1"
LOCAL, BPTT, NETWORK, CONTROL = "local", "bptt", "network", "control"  # kinds of contenders
THEY = {
    LOCAL: "the same rule in longer chunks",
    BPTT: "the best BPTT of the same stack",
    NETWORK: "the best outside network",
    CONTROL: "the best without a model",
}
OTHERS = "the best other learner"


class Measured(NamedTuple):
    """What one contender came to."""

    who: str
    values: Sequence[float | None]  # one a seed, None where it diverged; a single one where chance has no part
    searches: Mapping[str, Row] = MappingProxyType({})  # for its rate, as `claims` reads them, by their names in words
    about: str = ""  # a few words more

    @property
    def mean(self) -> float | None:
        """Over the seeds that did not diverge."""
        return mean_and_spread("mean", "spread", self.values)["mean"]


class Unit(NamedTuple):
    """How values are compared and written."""

    name: str  # after a number
    digits: int
    higher_is_better: bool = False

    def shown(self, found: Measured) -> str:
        """A contender's mean, in a sentence."""
        about = f", {found.about}" if found.about else ""
        return f"{found.mean:.{self.digits}f}{self.name}{about}"

    def best(self, measured: Sequence[Measured]) -> Measured | None:
        """The one of the best mean; None where all diverged, or there is none."""
        finite = [found for found in measured if found.mean is not None]
        sign = -1 if self.higher_is_better else 1
        return min(finite, key=lambda found: sign * (found.mean or 0.0), default=None)

    def leads(self, one: Measured, other: Measured) -> list[float | None]:
        """By how much one is better than another, of every seed."""
        seeds = max(len(one.values), len(other.values))
        pairs = zip(*(_of_seeds(each.values, seeds) for each in (one, other)), strict=True)
        sign = 1 if self.higher_is_better else -1
        return [None if a is None or b is None else sign * (a - b) for a, b in pairs]


def kind(who: str) -> str:
    """Of a contender, by its name."""
    first = who.partition(",")[0]
    return first if first in (LOCAL, BPTT) else NETWORK if first in ("LSTM", "GRU") else CONTROL


def sentences(where: str, measured: Sequence[Measured], unit: Unit, *, of_kinds: bool = True) -> list[str]:
    """Ours beside the best of others; beside the best of those without a model only where it is not ahead of them.

    Args:
        of_kinds: a sentence for each kind of learners, not one for all of them.
    """
    ours = next((found for found in measured if found.who == OURS and found.mean is not None), None)
    if ours is None:
        return []
    others = [found for found in measured if found is not ours]
    learners = {they: [found for found in others if kind(found.who) == of] for of, they in THEY.items()}
    controls = learners.pop(THEY[CONTROL])
    groups = learners if of_kinds else {OTHERS: [found for found in others if found not in controls]}
    best = [(they, found) for they, group in groups.items() if (found := unit.best(group)) is not None]
    said = [beside(where, ours, theirs, they, unit) for they, theirs in best]
    if (control := unit.best(controls)) is not None:
        sentence = beside(where, ours, control, THEY[CONTROL], unit)
        said += [sentence] if sentence.startswith(("Loses", "Level")) else []
    return said


def beside(where: str, ours: Measured, theirs: Measured, they: str, unit: Unit) -> str:
    """One sentence; no claim where a search of either ended at its edge."""
    if reason := no_claim({**ours.searches, **theirs.searches}):
        return f"{NO_CLAIM}: {where}: {ours.who} beside {they} ({theirs.who}): {reason}."
    leads = unit.leads(ours, theirs)
    lead = mean_and_spread("mean", "spread", leads)
    we, them = f"{ours.who} ({unit.shown(ours)})", f"{they} ({theirs.who}, {unit.shown(theirs)})"
    if lead["mean"] is None:
        return f"{NO_CLAIM}: {where}: {ours.who} beside {they} ({theirs.who}): one of them diverged with every seed."
    least = 0.5 * 10**-unit.digits
    if is_level(lead["mean"], lead["spread"], len(leads), least):
        return f"Level: {where}: {we} is level (lead {lead['mean']:+.{unit.digits}f}{_spread(lead, unit)}) with {them}."
    word, far = ("Wins", "ahead of") if lead["mean"] > 0 else ("Loses", "behind")
    size = f"{abs(lead['mean']):.{unit.digits}f}{_spread(lead, unit)}{unit.name}"
    return f"{word}: {where}: {we} is {size} {far} {them}."


def _of_seeds(values: Sequence[float | None], seeds: int) -> Sequence[float | None]:
    return list(values) * seeds if len(values) == 1 else values


def _spread(lead: Row, unit: Unit) -> str:
    return "" if lead["spread"] is None else f" ± {lead['spread']:.{unit.digits}f}"
