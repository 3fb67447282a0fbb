"""A user's module, of one part of every kind; `test_extensions` imports copies of it by --import."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch

from learning_rules import Local
from learning_rules.options import Credit
from pcrnn import Observation
from pcrnn.data.source import Reader, Source
from pcrnn.nn.cells import LeakyCell
from pcrnn.tables import CELLS, FAMILIES, PROBES, READERS, RULES
from pcrnn.validation import Range


@CELLS.register("slow")
class SlowCell(LeakyCell):
    """Leaky units with time constants twice as long."""

    def __init__(self, hidden_size: int, max_time_constant: float = 64.0) -> None:
        super().__init__(hidden_size, 2 * max_time_constant)


@RULES.register("damped")
@dataclass(frozen=True, kw_only=True)
class Damped(Local):
    """The local rule with smaller gradients."""

    credit: Credit = "top"
    factor: Annotated[float, Range(above=0)] = 0.5
    """What gradients are multiplied by."""

    def accumulate(self, model, *arguments):
        result = super().accumulate(model, *arguments)
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad *= self.factor
        return result


@FAMILIES.register("sharp")
class Sharp(Observation):
    """A Gaussian of a fixed precision."""

    def __init__(self, size: int, sharpness: float = 1.0) -> None:
        super().__init__(size)
        self.sharpness = sharpness

    def options(self):
        return {"sharpness": self.sharpness}

    def statistic(self, x, dtype):
        return (x * self.sharpness).to(dtype)

    def mean(self, eta):
        return eta * self.sharpness

    def prediction_error(self, eta, x):
        error = self.sharpness * (x - eta)
        return error, (error * (x - eta) / 2).sum(-1)

    def mean_jvp(self, mean, direction):
        return direction * self.sharpness

    def sample(self, eta, generator=None, temperature=1.0):
        noise = torch.randn(eta.shape, generator=generator)
        return eta + temperature * noise / self.sharpness**0.5


class Numbers(Source):
    """A number a line."""

    def observation(self):
        return Sharp(1, sharpness=4.0)


@READERS.register("numbers")
class NumbersReader(Reader):
    """Files of a number a line."""

    suffixes = (".numbers",)

    def open(self, location, options, state):
        with open(location) as file:
            return Numbers(torch.tensor([[float(line)] for line in file]), name=location)


class Sizes(NamedTuple):
    size: torch.Tensor  # root mean square of every layer's output, [L]

    def table(self):
        return [{"layer": layer, "size": size} for layer, size in enumerate(self.size.tolist(), 1)]

    def summary(self):
        return f"the largest output has a size of {float(self.size.max()):.3g}"


@PROBES.register("sizes")
@dataclass(frozen=True, kw_only=True)
class MeasureSizes:
    """How large every layer's output is."""

    steps: Annotated[int, Range(at_least=2)] = 16
    """Of the passage."""

    @torch.no_grad()
    def measure(self, target):
        activity, _ = target.stack.observe(target.passages(1, self.steps))
        return Sizes(torch.stack([layer.output.square().mean().sqrt() for layer in activity.layers]))
