"""A predictive layer as the encoder of a plain torch classifier, all of it trained by ordinary backprop.

    pip install scikit-learn && python examples/encoder.py

A digit is read row by row, 8 steps of 8 pixels, and named after the last. Beside the layer stand nn.LSTM and the layer
with one more term in its loss: how wrong its expectation of the next row was, which it has in any case.

Accuracy on the last fifth of the digits, 64 units:

    100 digits    layer 0.661   layer, rows expected 0.633   nn.LSTM 0.658
    1437 digits   layer 0.928   layer, rows expected 0.925   nn.LSTM 0.933

Eight steps are too few for a memory to matter, and expecting the next row helps neither way.
"""

import torch
import tyro
from torch import Tensor, nn

from pcrnn import PredictiveLayer

ROWS, PIXELS, UNITS, BATCH = 8, 8, 64, 32


class LSTMClassifier(nn.Module):
    """The baseline: nn.LSTM and one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.LSTM(PIXELS, UNITS, batch_first=True), nn.Linear(UNITS, 10)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 10], and no expectation to be wrong."""
        output, _ = self.encoder(rows)
        return self.head(output[:, -1]), rows.new_zeros(())


class Classifier(nn.Module):
    """A predictive layer and one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = PredictiveLayer(PIXELS, UNITS), nn.Linear(UNITS, 10)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 10], and the mean square error of the rows that were expected."""
        activity, _ = self.encoder.observe(rows)
        missed = (rows[:, 1:] - activity.expectation[:, :-1]).square().mean()
        return self.head(activity.output[:, -1]), missed


def load(limit: int | None) -> tuple[Tensor, Tensor]:
    """Rows [n, 8, 8] between -1 and 1, and labels [n]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("expected the package scikit-learn; pip install scikit-learn") from None
    pixels, labels = (torch.tensor(part[:limit]) for part in load_digits(return_X_y=True))
    return (pixels / 8 - 1).float().unflatten(1, (ROWS, PIXELS)), labels


def learn(model: nn.Module, weight: float, epochs: int, rows: Tensor, labels: Tensor) -> None:
    """By backprop, on the labels and, with that weight, on the expected rows."""
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(BATCH):
            optimiser.zero_grad()
            logits, missed = model(rows[chosen])
            (nn.functional.cross_entropy(logits, labels[chosen]) + weight * missed).backward()
            optimiser.step()


def main(quick: bool = False) -> dict[str, float]:
    """Accuracy on the last fifth of the digits, whose writers are others.

    Args:
        quick: few digits, few epochs.
    """
    rows, labels = load(300 if quick else None)
    known, scores = len(labels) * 4 // 5, {}
    kinds = {"layer": (Classifier, 0.0), "layer, rows expected": (Classifier, 1.0), "nn.LSTM": (LSTMClassifier, 0.0)}
    for learned, epochs in ((known, 5),) if quick else ((100, 200), (known, 40)):
        for name, (kind, weight) in kinds.items():
            torch.manual_seed(0)
            model = kind()
            learn(model, weight, epochs, rows[:learned], labels[:learned])
            with torch.no_grad():
                answers = model(rows[known:])[0].argmax(-1)
            scores[f"{name}, {learned} digits"] = (answers == labels[known:]).float().mean().item()
    return scores


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
