"""Predictive-coding stacked RNNs with local learning rules.

>>> from pcrnn import Categorical, PredictiveStack
>>> stack = PredictiveStack(Categorical(27), hidden_sizes=(64, 64))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcrnn.version import __version__ as __version__

if TYPE_CHECKING:
    from pcrnn.nn.activity import Chunk as Chunk
    from pcrnn.nn.activity import StackActivity as StackActivity
    from pcrnn.nn.activity import StackState as StackState
    from pcrnn.nn.bidirectional import BidirectionalStack as BidirectionalStack
    from pcrnn.nn.layer import LayerActivity as LayerActivity
    from pcrnn.nn.layer import LayerState as LayerState
    from pcrnn.nn.layer import PredictiveLayer as PredictiveLayer
    from pcrnn.nn.observations import Bernoulli as Bernoulli
    from pcrnn.nn.observations import Categorical as Categorical
    from pcrnn.nn.observations import Gaussian as Gaussian
    from pcrnn.nn.observations import JointBernoulli as JointBernoulli
    from pcrnn.nn.observations import Observation as Observation
    from pcrnn.nn.observations import Poisson as Poisson
    from pcrnn.nn.observations import StudentT as StudentT
    from pcrnn.nn.stack import PredictiveStack as PredictiveStack
    from pcrnn.runs.export import load as load
    from pcrnn.streaming.config import OnlineConfig as OnlineConfig
    from pcrnn.streaming.online import Online as Online
    from pcrnn.training.fit import fit as fit
    from pcrnn.training.learner import Learner as Learner


_HOMES = {
    "nn.bidirectional": ("BidirectionalStack",),
    "nn.layer": ("LayerActivity", "LayerState", "PredictiveLayer"),
    "nn.observations": ("Bernoulli", "Categorical", "Gaussian", "JointBernoulli", "Observation", "Poisson", "StudentT"),
    "nn.activity": ("Chunk", "StackActivity", "StackState"),
    "nn.stack": ("PredictiveStack",),
    "runs.export": ("load",),
    "streaming.config": ("OnlineConfig",),
    "streaming.online": ("Online",),
    "training.fit": ("fit",),
    "training.learner": ("Learner",),
}
"""Where every public name is."""


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `pcrnn --help` does not wait for torch."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"pcrnn.{module}"), name)
    raise AttributeError(f"module 'pcrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in _HOMES.values() for name in names)])
