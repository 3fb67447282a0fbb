"""Handwritten digits as streams of 64 pixels; the label is asked for at the last one, and nowhere before.

    pip install scikit-learn && python examples/digits.py

Accuracy on the last tenth, whose writers are others (2 x 64 units, 12 epochs of either with the same learning rates):

    local 0.883   bptt 0.878   nn.LSTM 0.822   most frequent class 0.100
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from pcrnn.analysis.evaluate import evaluate
from pcrnn.cli.progress import PlainReporter
from pcrnn.config import TrainConfig
from pcrnn.data import LabelledSource
from pcrnn.training.optimiser import adamw, learning_rate, set_rate
from pcrnn.training.train import train

FULL = {"hidden": (64, 64), "steps": 600, "lr": 5e-3, "log_every": 100}
QUICK = {"hidden": (16, 16), "steps": 60, "lr": 1e-2, "warmup": 5}


def write(path: Path) -> None:
    """The digits of scikit-learn as a file of labelled sequences: pixels [n, 64] and labels [n]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("expected the package scikit-learn; pip install scikit-learn") from None
    pixels, labels = load_digits(return_X_y=True)
    np.savez(path, x=pixels, y=labels)


class Reader(nn.Module):
    """The baseline: torch's LSTM, trained by backpropagation through time."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(1, units, num_layers=2, batch_first=True), nn.Linear(units, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.memory(pixels)[0])


def learn_lstm(source: LabelledSource, config: TrainConfig) -> Reader:
    """The same updates as the stack's, by autograd."""
    reader, lanes = Reader(config.hidden[0]), source.lanes(config.batch, config.chunk)
    optimiser = adamw(reader, config)
    for step in range(config.steps):
        (pixels, labels, counts), _ = lanes.read(step)
        set_rate(optimiser, learning_rate(config, step))
        optimiser.zero_grad()
        nn.functional.cross_entropy(reader(pixels)[counts], labels[counts]).backward()
        optimiser.step()
    return reader


def main(rule: Literal["local", "bptt"] = "local", quick: bool = False) -> dict[str, float]:
    """Accuracy on the last tenth of the digits, whose writers are others.

    Args:
        rule: how the stack learns.
        quick: a small stack and few updates.
    """
    with TemporaryDirectory() as name:
        write(Path(name) / "digits.npz")
        spec = f"{name}/digits.npz?split=position"
        config = TrainConfig(data=spec, rule=rule, evaluate_every=0, checkpoint_every=0, **(QUICK if quick else FULL))
        done = train(config, Path(name) / "run", callback=PlainReporter(lambda: False))
    source = done.source
    assert isinstance(source, LabelledSource)
    reader, (pixels, labels, counts) = learn_lstm(source, config), source.part("valid")
    with torch.no_grad():
        likeliest = reader(pixels)[counts].argmax(-1)
    return {
        f"{rule}, accuracy": evaluate(done.stack, source).accuracy or 0.0,
        "nn.LSTM, accuracy": (likeliest == labels[counts]).float().mean().item(),
    }


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
