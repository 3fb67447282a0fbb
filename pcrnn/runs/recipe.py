"""How a stack is built, as a document of JSON types, and the stack built from it again.

observation, target   the likelihood's family, its size and options
covariates            C
stack                 sizes of the layers and the options of `PredictiveStack`
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs.load import settled
from pcrnn.runs.sizes import check_claims
from pcrnn.tables import FAMILIES

DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What `parse` raises for a document that is none, beside CheckpointError for one that claims too much."""


class Parts(NamedTuple):
    """What a stack is built from."""

    observation: Observation
    target: Observation | None
    covariates: int
    config: TrainConfig

    def build(self) -> PredictiveStack:
        """A new stack; its weights come from torch's global generator."""
        options = self.config.stack_options()
        return PredictiveStack(
            self.observation, self.config.hidden, target=self.target, covariates=self.covariates, **options
        )


def describe(stack: PredictiveStack) -> dict[str, Any]:
    """The document of a stack; UsageError for a likelihood or a cell that has no registered name."""
    options = dict(stack.options)
    if not isinstance(options["cell"], str):
        raise UsageError(
            "cell: expected the name of a registered cell, got a function that makes cells, which a file cannot hold; "
            'register it: @CELLS.register("name")'
        )
    return {
        "observation": _of_family(stack.observation),
        "target": None if stack.prior is None else _of_family(stack.prior.observation),
        "covariates": stack.covariates,
        "stack": {"hidden": list(stack.hidden_sizes), **options},
    }


def parse(document: Mapping[str, Any], origin: str, shapes: Mapping[str, Sequence[int]]) -> Parts:
    """The parts of a stack that is no larger than the file of its weights, whose tensors have these shapes.

    Args: origin, what the document was read from, for messages. Raises one of `DAMAGE`, or CheckpointError.
    """
    recipe = _recipe(document["observation"])
    of_target = None if document.get("target") is None else _recipe(document["target"])
    covariates = _size(document.get("covariates", 0), at_least=0)
    config = TrainConfig.from_mapping(document["stack"], origin)
    target_family = None if of_target is None else cast(type[Observation], of_target.func)
    config = settled(config, cast(type[Observation], recipe.func), target_family)
    target_size = None if of_target is None else of_target.args[0]
    check_claims(config, recipe.args[0], shapes, origin, target=target_size, covariates=covariates)
    observation, target = recipe(), None if of_target is None else of_target()
    if covariates and observation.symbolic:
        raise ValueError(f"covariates {covariates}")
    return Parts(observation, target, covariates, config)


def _of_family(observation: Observation) -> dict[str, Any]:
    """UsageError for a likelihood that is not registered, since nobody could load it."""
    family = FAMILIES.name_of(type(observation))
    return {"family": family, "size": observation.size, "options": observation.options()}


def _recipe(document: dict[str, Any]) -> "partial[Observation]":
    """What makes an observation model of a size, when it is called: until then nothing is allocated for it."""
    family, options = FAMILIES[document["family"]], document["options"]
    for name, value in options.items():
        if not isinstance(value, bool | int | float | str | None):
            raise TypeError(f"option {name} {value!r}")
    return partial(family, _size(document["size"], at_least=1), **options)


def _size(number: object, *, at_least: int) -> int:
    if type(number) is not int or number < at_least:
        raise ValueError(f"size {number!r}, where a whole number of at least {at_least} belongs")
    return number
