"""A step of BrainTrace, where it is installed: D-RTRL over a MiniGRU in JAX, the nearest thing that others have.

One layer and a linear readout, the squared error, Adam: scored, learned from, and the next one expected. In one call of
a compiled function a step, or many steps in one compiled loop, as a stretch of a stream that is on file allows.

Written against braintrace 0.2.6, with brainstate 0.5 and braintools 0.3; `braintrace.compile` is its public way in.

Source: Wang et al. (2026), "Model-agnostic linear-memory online learning in spiking neural networks".
"""

import importlib.util
import os
import warnings
from itertools import pairwise
from typing import Any

import numpy as np

from .timed import Timed

ONE, LOOP = "BrainTrace, one call", "BrainTrace, one loop"
MODULES = ("jax", "brainstate", "braintools", "braintrace")


def is_installed() -> bool:
    """Whether it can be imported; asked without importing it."""
    return all(importlib.util.find_spec(name) is not None for name in MODULES)


def braintrace_steps(units: int) -> dict[str, Timed]:
    """Both ways, each with a network of its own. On one thread, if JAX was not imported before."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    return {ONE: _timed(units, in_a_loop=False), LOOP: _timed(units, in_a_loop=True)}


def _timed(units: int, *, in_a_loop: bool) -> Timed:
    import brainstate  # pyright: ignore[reportMissingImports]
    import braintools  # pyright: ignore[reportMissingImports]
    import braintrace  # pyright: ignore[reportMissingImports]
    import jax  # pyright: ignore[reportMissingImports]

    class Network(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.readout = braintrace.nn.MiniGRU(1, units), braintrace.nn.Linear(units, 1)

        def update(self, x: Any) -> Any:
            return self.readout(self.rnn(x))

    brainstate.random.seed(0)
    network = Network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a readout, which has no state, has no trace
        learner: Any = braintrace.compile(network, braintrace.D_RTRL, np.zeros((1, 1), np.float32), batch_size=1)
    weights = network.states(brainstate.ParamState)
    optimiser = braintools.optim.Adam(lr=1e-3)
    optimiser.register_trainable_weights(weights)

    def step(x: Any, following: Any) -> Any:
        def loss() -> Any:
            return ((learner(x) - following) ** 2).mean()

        gradients, error = brainstate.transform.grad(loss, weights, return_value=True)()
        optimiser.update(gradients)
        return error

    one = brainstate.transform.jit(step)
    many = brainstate.transform.jit(lambda x, following: brainstate.transform.for_loop(step, x, following))
    generator = np.random.default_rng(0)

    def read(steps: int) -> None:
        x = generator.normal(size=(steps + 1, 1, 1)).astype(np.float32)
        if in_a_loop:
            jax.block_until_ready(many(x[:-1], x[1:]))
            return
        for now, following in pairwise(x):
            jax.block_until_ready(one(now, following))

    parameters = sum(leaf.size for state in weights.values() for leaf in jax.tree.leaves(state.value))
    return Timed(read, int(parameters))
