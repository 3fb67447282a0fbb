"""Every number that a flag of a command, a setting or an option of a rule takes has a range."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from pcrnn.cli.main import COMMANDS
from pcrnn.cli.plot import All, Surprise, Training
from pcrnn.cli.probe import ProbeArgs
from pcrnn.config import TrainConfig
from pcrnn.tables import PROBES, RULES, options_of
from pcrnn.validation import Range, field_types

KINDS = {name: COMMANDS[name] for name in COMMANDS if name not in ("train", "plot", "probe")}
KINDS |= {"settings": TrainConfig, "probe": ProbeArgs}
KINDS |= {f"plot {kind.__name__}": kind for kind in (Surprise, Training, All)}
KINDS |= {f"probe {name}": PROBES[name] for name in PROBES} | {f"rule {name}": options_of(name) for name in RULES}


def parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        yield from parts(part)


@pytest.mark.parametrize("name", KINDS)
def test_every_number_has_a_range(name):
    without = [
        flag
        for flag, hint in field_types(KINDS[name]).items()
        if {int, float} & {part for part in parts(hint) if isinstance(part, type)}
        and not any(isinstance(part, Range) for part in parts(hint))
        and flag != "rule_options"
    ]
    assert without == []
