"""The program with a fault planted in one of its ranks, named by the first argument; the rest are its own.

    kill:RANK:STEP      the rank ends itself before that update, as kill -9 would, unless torchrun has started it again
"""

import os
import signal
import sys

import torch

from pcrnn import cli
from pcrnn.train import Trainer


def main() -> int:
    fault, rank, step = sys.argv[1].split(":")
    update = Trainer.update
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def faulty(self: Trainer) -> None:
        if self.step + 1 == int(step) and self.team.rank == int(rank):
            if fault == "kill" and first:
                os.kill(os.getpid(), signal.SIGKILL)
        update(self)

    Trainer.update = faulty
    torch.set_num_threads(1)
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
