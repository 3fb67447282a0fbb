"""One run in several processes: torchrun starts them, they communicate by torch.distributed.

    torchrun --nproc-per-node 2 -m pcrnn train --parallel data ...      every rank learns from a share of the lanes
    torchrun --nproc-per-node 2 -m pcrnn train --parallel layers ...    every rank holds a share of the layers

Both compute what one process computes, to rounding. Checkpoints hold the whole run, whoever wrote them: it goes on
with any number of ranks, in either way, or in one process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.training.parallel.team import Team as Team


@contextmanager
def join(config: TrainConfig) -> Iterator[Team]:
    """The ranks of this run while the block runs: one that is alone, or this process's place among several.

    Raises UsageError where `config.parallel` and the way the program was started do not go together.
    """
    started = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 0
    if config.parallel == "none":
        if started > 1:
            raise UsageError(
                f"parallel: expected data or layers, got none in {started} processes of torchrun; "
                "add --parallel data, or start the program without torchrun"
            )
        yield Team()
        return
    if not started:
        raise UsageError(
            f"parallel: expected to be started by torchrun, one process a rank, to go with {config.parallel}; type: "
            f"torchrun --nproc-per-node 2 -m pcrnn train --parallel {config.parallel} ..., or use --parallel none"
        )
    from pcrnn.training.parallel.data import (
        DataTeam,  # here, so that one process alone does not wait for torch.distributed
    )
    from pcrnn.training.parallel.layers import LayerTeam
    from pcrnn.training.parallel.ranks import connected

    kind = DataTeam if config.parallel == "data" else LayerTeam
    with connected(config.device):
        yield kind(config)
