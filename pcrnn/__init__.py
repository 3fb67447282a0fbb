"""Predictive-coding stacked RNNs with local learning rules.

>>> from pcrnn import Categorical, PredictiveStack
>>> stack = PredictiveStack(Categorical(27), hidden_sizes=(64, 64))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcrnn.bidirectional import BidirectionalStack as BidirectionalStack
    from pcrnn.hub import load as load
    from pcrnn.layer import LayerActivity as LayerActivity
    from pcrnn.layer import LayerState as LayerState
    from pcrnn.layer import PredictiveLayer as PredictiveLayer
    from pcrnn.observations import Bernoulli as Bernoulli
    from pcrnn.observations import Categorical as Categorical
    from pcrnn.observations import Gaussian as Gaussian
    from pcrnn.observations import Observation as Observation
    from pcrnn.observations import Poisson as Poisson
    from pcrnn.stack import Chunk as Chunk
    from pcrnn.stack import PredictiveStack as PredictiveStack
    from pcrnn.stack import StackActivity as StackActivity
    from pcrnn.stack import StackState as StackState

__version__ = "0.1.0"

_HOMES = {
    "bidirectional": ("BidirectionalStack",),
    "hub": ("load",),
    "layer": ("LayerActivity", "LayerState", "PredictiveLayer"),
    "observations": ("Bernoulli", "Categorical", "Gaussian", "Observation", "Poisson"),
    "stack": ("Chunk", "PredictiveStack", "StackActivity", "StackState"),
}
"""Where every public name is."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the program's `--help` does not wait for torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"pcrnn.{module}"), name)
    raise AttributeError(f"module 'pcrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _HOMES.values() for name in names)])
