"""Characters of a text: a stack learns by its local rule, is measured beside what counting reaches, and writes.

    python examples/text.py                                # Python's language reference
    python examples/text.py --data book.txt --rule bptt    # a text of your own, by backpropagation through time

Bits a character on the last 10 % of the language reference (2 x 128 units, 400 updates):

    local 1.705   bptt 1.708   unigram 4.671   bigram 3.342   gzip 1.948   xz 1.412

The reference repeats itself word for word, which xz, that remembers all of it, can copy.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import tyro

from pcrnn.analysis.generate import sample
from pcrnn.cli.progress import PlainReporter
from pcrnn.config import TrainConfig
from pcrnn.data import TextSource
from pcrnn.training.train import train

FULL = {"hidden": (128, 128), "batch": 32, "chunk": 64, "steps": 400, "lr": 5e-3, "log_every": 50}
QUICK = {"hidden": (16, 16), "batch": 4, "chunk": 16, "steps": 40, "lr": 2e-2, "warmup": 5}


def main(data: str = "pydoc", rule: Literal["local", "bptt"] = "local", quick: bool = False) -> dict[str, float]:
    """Bits a character on the last 10 % of the text.

    Args:
        data: `pydoc`, or a text file.
        rule: how the stack learns.
        quick: a small stack and few updates.
    """
    config = TrainConfig(data=data, rule=rule, evaluate_every=0, checkpoint_every=0, **(QUICK if quick else FULL))
    with TemporaryDirectory() as folder:
        done = train(config, Path(folder) / "run", callback=PlainReporter(lambda: False))
    assert isinstance(done.source, TextSource) and done.valid is not None
    opening = done.source.sequence("valid")[:40]
    print(done.source.decode(sample(done.stack, opening, 40 if quick else 300, temperature=0.7)))
    return {f"{rule}, bits/char": done.valid[-1] / done.source.nats_per_unit} | done.source.baselines()


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
