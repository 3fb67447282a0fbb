"""Learning rules for predictive layers and stacks, one a file, behind one protocol.

>>> import learning_rules
>>> rule = learning_rules.make("local", credit="top")
"""

from typing import Any

from learning_rules.bptt import BPTT as BPTT
from learning_rules.inside import LearnsLocally as LearnsLocally
from learning_rules.inside import learns_locally as learns_locally
from learning_rules.local import Local as Local
from learning_rules.local import LocalCarry as LocalCarry
from learning_rules.rule import Result as Result
from learning_rules.rule import Rule as Rule
from pcrnn.tables import RULES as RULES


def make(name: str, **options: Any) -> Rule:
    """The rule of that name with these options; ValueError for a name or an option it does not have."""
    return RULES[name](**options)
