"""A layer that learns locally in a model under torch's DistributedDataParallel."""

import copy
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from learning_rules import learns_locally
from pcrnn import PredictiveLayer

RANKS = 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.head = PredictiveLayer(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.memory(x)[0])


def rank(number: int, folder: str) -> None:
    """Three steps; saves what this rank ends with, and its own gradients of the first step beside the reduced ones."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=number, world_size=RANKS)
    torch.manual_seed(0)
    model = learns_locally(Model())
    alone, parallel = copy.deepcopy(model), DistributedDataParallel(model)
    optimiser, gradients = torch.optim.SGD(model.parameters(), 0.1), []
    torch.manual_seed(number)
    for step in range(3):
        x = torch.randn(4, 10, 3)
        nets = (alone, parallel) if step == 0 else (parallel,)
        optimiser.zero_grad()
        for net in nets:
            net(x).square().mean().backward()
        if step == 0:
            gradients = [[p.grad.clone() for p in net.parameters()] for net in (alone, model)]
        optimiser.step()
    torch.save((gradients, [p.detach() for p in model.parameters()]), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_gradients_are_the_mean_of_the_ranks_and_replicas_stay_equal(tmp_path: Path):
    mp.start_processes(rank, (str(tmp_path),), nprocs=RANKS, start_method="spawn")
    ends = [torch.load(tmp_path / f"{number}.pt") for number in range(RANKS)]
    (own, reduced), (other, _) = (gradients for gradients, _ in ends)
    for mine, theirs, mean in zip(own, other, reduced, strict=True):
        assert not torch.equal(mine, theirs)
        torch.testing.assert_close(mean, (mine + theirs) / 2)
    assert all(torch.equal(*pair) for pair in zip(ends[0][1], ends[1][1], strict=True))
