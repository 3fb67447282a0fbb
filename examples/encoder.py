"""A predictive layer as the encoder of a plain torch classifier, all of it trained by ordinary backprop.

    pip install scikit-learn && python examples/encoder.py

A digit is read row by row, 8 steps of 8 pixels. The classifier hears what the layer puts out; its loss may also hold
how wrong the layer's expectation of the next row was, at no further cost, since the layer has one in any case.

RESULT
"""

import torch
import tyro
from torch import Tensor, nn

from pcrnn import PredictiveLayer

ROWS, PIXELS, UNITS, BATCH = 8, 8, 64, 32


class Classifier(nn.Module):
    """Encoder, mean over time, one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = PredictiveLayer(PIXELS, UNITS), nn.Linear(UNITS, 10)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 10], and the mean square error of the rows that were expected."""
        activity, _ = self.encoder.observe(rows)
        missed = (rows[:, 1:] - activity.expectation[:, :-1]).square().mean()
        return self.head(activity.output.mean(1)), missed


def load(limit: int | None) -> tuple[Tensor, Tensor]:
    """Rows [n, 8, 8] between -1 and 1, and labels [n]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit(
            "expected the package scikit-learn, which is not installed; pip install scikit-learn"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 8 - 1, dtype=torch.float32)[:limit].unflatten(1, (ROWS, PIXELS)), torch.tensor(labels)[
        :limit
    ]


def accuracy(weight: float, learned: int, epochs: int, rows: Tensor, labels: Tensor) -> float:
    """On the last fifth, of a classifier that learned from the first digits; `weight` of the expected rows' error."""
    torch.manual_seed(0)
    model, known = Classifier(), len(labels) * 4 // 5
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(min(learned, known)).split(BATCH):
            optimiser.zero_grad()
            logits, missed = model(rows[chosen])
            (nn.functional.cross_entropy(logits, labels[chosen]) + weight * missed).backward()
            optimiser.step()
    with torch.no_grad():
        return (model(rows[known:])[0].argmax(-1) == labels[known:]).float().mean().item()


def main(quick: bool = False) -> dict[str, float]:
    """Accuracy on the last fifth of the digits, whose writers are others.

    Args:
        quick: few digits, few epochs.
    """
    rows, labels = load(300 if quick else None)
    found = {}
    for learned, epochs in ((240, 3),) if quick else ((100, 200), (1437, 40)):
        for weight in (0.0, 1.0):
            name = "labels and expected rows" if weight else "labels alone"
            found[f"{name}, {learned} digits"] = accuracy(weight, learned, epochs, rows, labels)
    return found


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
