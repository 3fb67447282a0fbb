"""Handwritten digits as streams of 64 pixels; the label is asked for at the last one, and nowhere before.

    pip install scikit-learn && python examples/digits.py

Accuracy on the last fifth, whose writers are others (2 x 64 units, 40 epochs of either at one learning rate):

    local 0.836   bptt 0.864   nn.LSTM 0.878   chance 0.1
"""

from typing import Literal

import torch
import tyro
from torch import Tensor, nn

import learning_rules
from pcrnn import Categorical, Chunk, Gaussian, PredictiveStack

UNITS, BATCH, RATE = 64, 32, 5e-3


def load(limit: int | None) -> tuple[Tensor, Tensor]:
    """Pixels [n, 64, 1] between -1 and 1, and labels [n]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("expected the package scikit-learn; pip install scikit-learn") from None
    pixels, labels = (torch.tensor(part[:limit]) for part in load_digits(return_X_y=True))
    return (pixels / 8 - 1).float().unsqueeze(-1), labels


def batches(count: int, epochs: int) -> list[Tensor]:
    """Which digits each update learns from; the same for both learners."""
    generator = torch.Generator().manual_seed(0)
    return [part for _ in range(epochs) for part in torch.randperm(count, generator=generator).split(BATCH)]


def learn_stack(pixels: Tensor, labels: Tensor, epochs: int, rule_name: str) -> PredictiveStack:
    """Two predictive layers by a learning rule: nothing is kept of the 64 steps but state and traces."""
    stack = PredictiveStack(Gaussian(1), (UNITS, UNITS), target=Categorical(10))
    rule = learning_rules.make(rule_name)
    optimiser = torch.optim.AdamW(stack.parameters(), RATE)
    counts = torch.arange(pixels.shape[1]) == pixels.shape[1] - 1  # at the last pixel
    for chosen in batches(len(labels), epochs):
        target, mask = (x.expand(len(chosen), pixels.shape[1]) for x in (labels[chosen, None], counts))
        optimiser.zero_grad()
        rule.accumulate(stack, Chunk(pixels[chosen], target, mask), None, rule.init(stack, len(chosen)))
        optimiser.step()
    return stack


class Reader(nn.Module):
    """The baseline: torch's LSTM, trained by backpropagation through time."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(1, UNITS, num_layers=2, batch_first=True), nn.Linear(UNITS, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.memory(pixels)[0][:, -1])


def learn_lstm(pixels: Tensor, labels: Tensor, epochs: int) -> Reader:
    """The same updates, by autograd."""
    reader = Reader()
    optimiser = torch.optim.AdamW(reader.parameters(), RATE)
    for chosen in batches(len(labels), epochs):
        optimiser.zero_grad()
        nn.functional.cross_entropy(reader(pixels[chosen]), labels[chosen]).backward()
        optimiser.step()
    return reader


def main(rule: Literal["local", "bptt"] = "local", quick: bool = False) -> dict[str, float]:
    """Accuracy on the last fifth of the digits, whose writers are others.

    Args:
        rule: how the stack learns.
        quick: few digits, one epoch.
    """
    torch.manual_seed(0)
    pixels, labels = load(200 if quick else None)
    epochs, known = 1 if quick else 40, len(labels) * 4 // 5
    stack = learn_stack(pixels[:known], labels[:known], epochs, rule)
    reader = learn_lstm(pixels[:known], labels[:known], epochs)
    with torch.no_grad():
        answers = {rule: stack(pixels[known:])[0][:, -1], "nn.LSTM": reader(pixels[known:])}
    return {
        f"{name}, accuracy": (answer.argmax(-1) == labels[known:]).float().mean().item()
        for name, answer in answers.items()
    }


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
