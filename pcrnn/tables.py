"""The tables of named parts that anyone may add to: cells, learning rules, likelihoods, readers of data, probes.

    CELLS      name of --cell      -> a Cell class                       pcrnn.nn.cells
    FAMILIES   family in an export -> an Observation class               pcrnn.nn.observations
    RULES      name of --rule      -> a Rule, a dataclass of its options learning_rules
    READERS    kind of --data      -> a Reader class                     pcrnn.data
    PROBES     name of a probe     -> a Probe, a dataclass of its flags  pcrnn.analysis.probes

A part is added by registering it, which `pcrnn --import MODULE ...` does before the flags are read:

    @CELLS.register("mine")
    class MyCell(Cell): ...

Built-in parts are named as "module:attribute" and imported when first asked for, so that their names are known without
importing torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from pcrnn.errors import UsageError, nearest

T = TypeVar("T")


class UnknownNameError(UsageError, KeyError):
    """A name that a table does not have."""

    __str__ = Exception.__str__  # KeyError's own would put the message in quotes


class Table(Mapping[str, Any]):
    """Parts of one kind by name.

    Args:
        kind: what a part is called in messages, such as "cell".
        parts: the built-in ones, each as "module:attribute".

    Looking up a name that is not there raises UnknownNameError, a UsageError and a KeyError, naming the nearest.

    >>> Table("cell", {"gated": "pcrnn.nn.cells:GatedCell"})["gated"].__name__
    'GatedCell'
    """

    def __init__(self, kind: str, parts: Mapping[str, str]) -> None:
        self.kind = kind
        self._parts: dict[str, Any] = dict(parts)
        self._builtin = frozenset(parts)

    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            known = ", ".join(self._parts)
            raise UnknownNameError(f"{self.kind}: expected one of {known}, got {name!r}{nearest(str(name), self)}")
        if isinstance(part := self._parts[name], str):
            module, _, attribute = part.partition(":")
            part = self._parts[name] = getattr(import_module(module), attribute)
        return part

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a part under a name.

        A name of one's own may be registered again, as a notebook does that runs a cell twice; UsageError for a
        built-in one.
        """
        if name in self._builtin:
            raise UsageError(f"{self.kind} {name!r}: expected a name of your own, got a built-in one; choose another")

        def add(part: T) -> T:
            self._parts[name] = part
            return part

        return add

    def name_of(self, part: object) -> str:
        """The name under which a part stands; UsageError where it is not registered."""
        for name in self:
            if self[name] is part:
                return name
        raise UsageError(
            f"{self.kind}: expected a registered one, got {getattr(part, '__name__', part)!r}; "
            f'register it: @TABLE.register("name")'
        )


CELLS = Table(
    "cell",
    {
        "gated": "pcrnn.nn.cells:GatedCell",
        "rotating": "pcrnn.nn.cells:RotatingCell",
        "leaky": "pcrnn.nn.cells:LeakyCell",
        "rnn": "pcrnn.nn.cells:RNNCell",
        "lstm": "pcrnn.nn.cells:LSTMCell",
        "gru": "pcrnn.nn.cells:GRUCell",
    },
)
FAMILIES = Table(
    "family",
    {
        "categorical": "pcrnn.nn.observations:Categorical",
        "bernoulli": "pcrnn.nn.observations:Bernoulli",
        "joint-bernoulli": "pcrnn.nn.observations:JointBernoulli",
        "gaussian": "pcrnn.nn.observations:Gaussian",
        "student-t": "pcrnn.nn.observations:StudentT",
        "poisson": "pcrnn.nn.observations:Poisson",
    },
)
READERS = Table(
    "kind",
    {
        "text": "pcrnn.data.text:TextReader",
        "series": "pcrnn.data.series_reader:SeriesReader",
        "fasta": "pcrnn.data.genome:GenomeReader",
        "music": "pcrnn.data.music:MusicReader",
        "labelled": "pcrnn.data.labelled:LabelledReader",
        "video": "pcrnn.data.video:VideoReader",
    },
)
RULES = Table("rule", {"local": "learning_rules.local:Local", "bptt": "learning_rules.bptt:BPTT"})
PROBES = Table(
    "probe",
    {
        "frequency": "pcrnn.analysis.probes.frequency:Frequency",
        "impulse": "pcrnn.analysis.probes.impulse:Impulse",
        "jacobian": "pcrnn.analysis.probes.jacobian:Jacobian",
        "timescales": "pcrnn.analysis.probes.timescales:TimeConstants",
        "euler": "pcrnn.analysis.probes.euler:Euler",
        "gradients": "pcrnn.analysis.probes.gradients:Gradients",
        "lags": "pcrnn.analysis.probes.lags:Lags",
        "gates": "pcrnn.analysis.probes.gates:Gates",
    },
)

_OPTIONS = Table("rule", {"local": "learning_rules.options:LocalOptions", "bptt": "learning_rules.options:BPTTOptions"})


def options_of(rule: str) -> type:
    """The dataclass whose fields are a rule's options: the rule itself, or for a built-in one its base without torch.

    >>> options_of("local").__name__
    'LocalOptions'
    """
    return _OPTIONS[rule] if rule in _OPTIONS else RULES[rule]
