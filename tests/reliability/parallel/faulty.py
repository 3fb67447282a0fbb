"""A rank with a fault planted in it.

faulty.py kill:RANK:STEP train ...      the program; that rank ends itself before that update, as kill -9 would,
                                        unless torchrun has started it again
faulty.py faults FOLDER DATA            all faults that ranks must tell of, one after the other; RANK.json holds the
                                        error that each of them led to
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from pcrnn.cli import main as cli
from pcrnn.config import TrainConfig
from pcrnn.data import open_source
from pcrnn.errors import PcrnnError
from pcrnn.training.parallel import Team
from pcrnn.training.train import Trainer

SIZE = {"hidden": (5, 4, 8), "credit": "layer", "chunk": 8, "batch": 4, "warmup": 2, "lr": 0.01}


def killed(rank: int, step: int) -> None:
    """Plant a kill."""
    update, first = Trainer.update, os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def faulty(self: Trainer) -> None:
        if first and (self.team.rank, self.step + 1) == (rank, step):
            os.kill(os.getpid(), signal.SIGKILL)
        update(self)

    Trainer.update = faulty


def drifted(trainer: Trainer) -> None:
    """One bit of one weight of rank 1, after the first update."""
    trainer.update()
    if trainer.team.rank == 1:
        weight = trainer.stack.layers[1].readout.data
        weight.view(torch.int32)[0, 0] ^= 1
    trainer.update()
    trainer.update()


def poisoned(rank: int, layer: int) -> Callable[[Trainer], None]:
    """A state that is not finite in one layer of one rank, in its second update."""

    def fault(trainer: Trainer) -> None:
        trainer.update()
        if trainer.team.rank == rank:
            trainer.learner.state.layers[layer].cell[0] = float("nan")
        trainer.update()

    return fault


def other_settings(trainer: Trainer) -> None:
    """Rank 1 was started with another learning rate."""
    trainer.team.assert_same("settings and data", f"{trainer.team.rank:064x}")


def lost(trainer: Trainer) -> None:
    """Rank 1 is gone."""
    if trainer.team.rank == 1:
        os._exit(0)
    for _ in range(2):
        trainer.update()


FAULTS = {
    "drift": ("data", drifted),
    "nan in rank 1, data": ("data", poisoned(1, 1)),
    "other settings": ("data", other_settings),
    "nan in rank 0, layers": ("layers", poisoned(0, 1)),
    "nan in rank 1, layers": ("layers", poisoned(1, 2)),
    "lost": ("data", lost),
}


def faults(folder: Path, data: str) -> None:
    """Every fault in a fresh run."""
    from pcrnn.training.parallel import data as data_parallel
    from pcrnn.training.parallel.layers import LayerTeam
    from pcrnn.training.parallel.ranks import connected

    data_parallel.VERIFY_EVERY = 3
    kinds: dict[str, type[Team]] = {"data": data_parallel.DataTeam, "layers": LayerTeam}
    met: dict[str, tuple[str, str]] = {}
    with connected("cpu"):
        for name, (parallel, fault) in FAULTS.items():
            config = TrainConfig.from_mapping(SIZE | {"data": data, "parallel": parallel})
            trainer = Trainer(config, open_source(data), team=kinds[parallel](config))
            try:
                fault(trainer)
            except PcrnnError as error:
                met[name] = type(error).__name__, str(error)
            (folder / f"{trainer.team.rank}.json").write_text(json.dumps(met))
        os._exit(0)  # nobody is left to part from


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "faults":
        faults(Path(sys.argv[2]), sys.argv[3])
    killed(*map(int, sys.argv[1].split(":")[1:]))
    sys.exit(cli.main(sys.argv[2:]))
