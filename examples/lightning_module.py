"""A stack as a LightningModule: the learner makes the updates, Lightning does the rest.

    pip install lightning && python examples/lightning_module.py

Lightning must not call `backward`: `automatic_optimization` is off, and a training step is the learner's, with
Lightning's optimiser. A data loader gives the chunks of the lanes in order; state and traces live in the learner and
are reset with every epoch.

Bits a character on the last 10 % of Python's language reference (2 x 128 units, 400 updates, no warm-up):

    local 1.827   unigram 4.671   bigram 3.342
"""

from typing import Any

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import learning_rules
from pcrnn import Chunk, Learner, PredictiveStack
from pcrnn.data import Lanes, Source, open_source

try:
    from lightning import LightningModule, Trainer
except ImportError:
    raise SystemExit("expected the package lightning, which is not installed; pip install lightning") from None

BATCH, CHUNK = 32, 64


class Chunks(IterableDataset):
    """The chunks of one epoch, in the order of the data."""

    def __init__(self, sequence: Tensor) -> None:
        self.lanes = Lanes.at_most(sequence, BATCH, CHUNK)

    def __iter__(self):
        return iter(self.lanes.parts())


class PredictiveModule(LightningModule):
    """A stack and its rule."""

    def __init__(self, source: Source, lanes: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.stack = PredictiveStack(source.observation(), (128, 128))
        self.lanes = lanes
        self.unit, self.nats_per_unit = source.unit, source.nats_per_unit
        self.state: Any = None

    def on_train_start(self) -> None:
        rule = learning_rules.make("local", credit="neighbour")
        self.learner = Learner(self.stack, rule, self.optimizers(), batch=self.lanes, clip=0)

    def on_train_epoch_start(self) -> None:
        self.learner.reset()

    def training_step(self, x: Tensor, index: int) -> None:
        result = self.learner.step(Chunk.of_stream(x))
        self.log("surprise", result.loss / self.nats_per_unit, prog_bar=True)

    def on_validation_epoch_start(self) -> None:
        self.state = None

    def validation_step(self, x: Tensor, index: int) -> None:
        chunk = Chunk.of_stream(x)
        activity, self.state = self.stack.observe(chunk.observations, self.state)
        surprise = self.stack.score_targets(activity, chunk).surprise[-1]
        self.log(self.unit, surprise.mean() / self.nats_per_unit, batch_size=surprise.numel())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 5e-3)


def main(data: str = "pydoc", quick: bool = False) -> dict[str, float]:
    """Bits a character on the last 10 % of the text.

    Args:
        data: `pydoc`, or a text file.
        quick: few updates.
    """
    torch.manual_seed(0)
    source = open_source(data)
    chunks = [Chunks(source.sequence(split)) for split in ("train", "valid")]
    module = PredictiveModule(source, chunks[0].lanes.batch)
    trainer = Trainer(
        max_steps=10 if quick else 400, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=not quick, enable_model_summary=False,
    )  # fmt: skip
    train, valid = (DataLoader(each, batch_size=None) for each in chunks)
    trainer.fit(module, train, valid)
    (scores,) = trainer.validate(module, valid, verbose=False)
    return dict(scores) | {name: figure for name, figure in source.baselines().items() if name in ("unigram", "bigram")}


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
