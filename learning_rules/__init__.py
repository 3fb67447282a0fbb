"""Learning rules for predictive layers and stacks, one a file, behind one protocol.

>>> import learning_rules
>>> rule = learning_rules.make("local", credit="top")

`pcrnn.tables.RULES` names them; a rule of one's own is added by `@RULES.register("mine")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcrnn.tables import RULES as RULES

if TYPE_CHECKING:
    from learning_rules.bptt import BPTT as BPTT
    from learning_rules.inside import LearnsLocally as LearnsLocally
    from learning_rules.inside import learns_locally as learns_locally
    from learning_rules.local import Local as Local
    from learning_rules.local import LocalCarry as LocalCarry
    from learning_rules.rule import Result as Result
    from learning_rules.rule import Rule as Rule

_HOMES = {
    "bptt": ("BPTT",),
    "inside": ("LearnsLocally", "learns_locally"),
    "local": ("Local", "LocalCarry"),
    "rule": ("Result", "Rule"),
}
"""Where every public name is."""


def make(name: str, **options: Any) -> "Rule":
    """The rule of that name with these options.

    Raises UsageError (a ValueError) for a name that no rule has or a value out of range, TypeError for an option that
    the rule does not have.
    """
    return RULES[name](**options)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: options are read without waiting for torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"learning_rules.{module}"), name)
    raise AttributeError(f"module 'learning_rules' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _HOMES.values() for name in names)])
