"""A locally trained stack, frozen, as features for scikit-learn: it has never seen a label.

    pip install scikit-learn && python examples/features.py

The stack learns to expect the next row of a digit from the rows before; a logistic regression then reads what its
layers put out at every row.

Accuracy on the last fifth of the digits:

    100 labels    pixels 0.731   untrained stack 0.761   trained stack 0.817
    1437 labels   pixels 0.897   untrained stack 0.931   trained stack 0.944

With many labels most of the gain comes from having a memory at all; with few, most of it is learned.
"""

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from pcrnn import Chunk, Gaussian, Learner, PredictiveStack

ROWS, PIXELS, BATCH = 8, 8, 32


def learn(rows: Tensor, epochs: int) -> PredictiveStack:
    """A stack that expects the next row, by the local rule, without labels."""
    stack = PredictiveStack(Gaussian(PIXELS), (64, 64))
    learner = Learner(stack, "local", torch.optim.AdamW(stack.parameters(), 3e-3), batch=BATCH, clip=0)
    for _ in range(epochs):
        for chosen in torch.randperm(len(rows))[: len(rows) // BATCH * BATCH].split(BATCH):
            learner.reset()  # every digit is a sequence of its own
            learner.step(Chunk.of_stream(rows[chosen]))
    return stack.eval()


@torch.no_grad()
def features(stack: PredictiveStack, rows: Tensor) -> NDArray[np.float32]:
    """Outputs of all layers at all steps, [n, T N L]."""
    activity, _ = stack.observe(rows)
    return torch.cat([layer.output.flatten(1) for layer in activity.layers], 1).numpy()


def main(quick: bool = False) -> dict[str, float]:
    """Accuracy on the last fifth of the digits, whose writers are others.

    Args:
        quick: few epochs and few digits.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise SystemExit("expected the package scikit-learn; pip install scikit-learn") from None
    torch.manual_seed(0)
    pixels, labels = (part[: 300 if quick else None] for part in load_digits(return_X_y=True))
    rows, known = torch.tensor(pixels.reshape(-1, ROWS, PIXELS) / 8 - 1, dtype=torch.float32), len(labels) * 4 // 5
    untrained = PredictiveStack(Gaussian(PIXELS), (64, 64)).eval()
    trained = learn(rows[:known], 1 if quick else 100)
    kinds = {"pixels": pixels, "untrained stack": features(untrained, rows), "trained stack": features(trained, rows)}
    scores = {}
    for labelled in (100, known):
        for name, x in kinds.items():
            classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
            classifier.fit(x[:labelled], labels[:labelled])
            scores[f"{name}, {labelled} labels"] = float(classifier.score(x[known:], labels[known:]))
    return scores


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
