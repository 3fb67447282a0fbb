"""What data and layer parallel ranks share: their devices, small agreements, checkpoints, the folder.

Control (agreements, checkpoints) goes over gloo between CPUs; gradients and messages over gloo, or nccl between GPUs.
Nothing is pickled.
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist

# Its functions have the group at the time of their import as a default, and optimisers import it. Were there a group by
# then, gloo's threads would live on until they meet the end of the interpreter, which now and then aborts the process.
import torch.distributed.nn.functional
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pcrnn.config import TrainConfig, resolve_device
from pcrnn.errors import ParallelError, UsageError
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.folder import RunFolder
from pcrnn.training.parallel.team import Team

TIMEOUT = timedelta(minutes=30)  # longer than the leader evaluates; a killed rank is noticed at once all the same

_NO_CHECKPOINT = "none"  # in the place of a checkpoint's name; a message is never empty


@contextmanager
def connected(device: str) -> Iterator[None]:
    """Join the other processes that torchrun started, and part from them when the block ends."""
    own = local_device(device)
    with talking():
        backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        # torchrun's store outlives processes that are started again: they must not find addresses of those before.
        store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield
        with talking():
            dist.barrier(device_ids=[own.index] if own.type == "cuda" else None)
    finally:
        dist.destroy_process_group()


@contextmanager
def talking() -> Iterator[None]:
    """Turn torch.distributed's errors in the block into one that says what to look at."""
    try:
        yield
    except RuntimeError as error:
        raise ParallelError(
            "expected messages of the other ranks, but the connection is lost: look for the message of the rank "
            "that ended first, then go on with --resume, or start torchrun with --max-restarts "
            f"({str(error).splitlines()[0]})"
        ) from None


def local_device(name: str) -> torch.device:
    """The device of this rank: `auto` and `cuda` give every process of a machine a GPU of its own."""
    processes, own = (int(os.environ[key]) for key in ("LOCAL_WORLD_SIZE", "LOCAL_RANK"))
    device = resolve_device(name)
    if device.type == "cpu":
        return device
    if device.index is not None and processes > 1:
        raise UsageError(f"device: expected auto, cpu or cuda with {processes} processes a machine, got {name}")
    device = resolve_device(f"cuda:{own if device.index is None else device.index}")
    torch.cuda.set_device(device)
    return device


class Ranks(Team):
    """One of several processes of a run."""

    graphs = False  # their talk is not captured

    def __init__(self, config: TrainConfig) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        if config.cuda_graph:
            raise UsageError(f"cuda_graph: expected not with parallel {config.parallel}; leave it out")

    def device(self, name: str) -> torch.device:
        return local_device(name)

    def leader(self, figures: Callable[[], Sequence[float]]) -> list[float]:
        own = list(figures()) if self.is_main else []
        return [float(number) for number in json.loads(self._told(json.dumps(own).encode()))]

    def assert_same(self, what: str, digest: str) -> None:
        if others := self.differing(bytes.fromhex(digest)):
            raise UsageError(
                f"parallel: expected the same {what} on every rank, but {named(others)} "
                "has others than rank 0; start all with one command on one set of files"
            )

    def differing(self, digest: bytes) -> list[int]:
        """The ranks whose digest is not the leader's; every rank gets the same answer."""
        digests = self._from_all(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        return [rank for rank, one in enumerate(digests) if not torch.equal(one, digests[0])]

    def should_resume(self, folder: Path) -> bool:
        own = self.is_main and _began(folder) and bool(checkpoints.steps(RunFolder(folder).checkpoints))
        return self._told(bytes([own])) == b"\1"

    def load_newest(self, folder: Path) -> checkpoints.Loaded | None:
        loaded = super().load_newest(folder) if self.is_main else None
        name = self._told((loaded.folder.name if loaded else _NO_CHECKPOINT).encode()).decode()
        if loaded or name == _NO_CHECKPOINT:
            return loaded
        return checkpoints.Loaded(checkpoints.load(folder / name), folder / name, ())

    def create_folder(self, path: Path) -> RunFolder:
        if self.is_main and not _began(path):  # else it was killed before its first checkpoint: it begins anew
            runs.create(path)
            runs.write_json(RunFolder(path).launch, _launch())
        return RunFolder(path)

    def gathered(self, tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors of every rank, by rank, on the leader's CPU; others get nothing."""
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        packed = torch.frombuffer(bytearray(safetensors.torch.save(plain)), dtype=torch.uint8)
        sizes = self._from_all(torch.tensor([len(packed)]))
        with talking():
            if not self.is_main:
                dist.send(packed, 0)
                return []
            found = [plain]
            for rank in range(1, self.size):
                received = torch.empty(int(sizes[rank]), dtype=torch.uint8)
                dist.recv(received, rank)
                found.append(safetensors.torch.load(received.numpy().tobytes()))
        return found

    def _told(self, content: bytes) -> bytes:
        """The leader's bytes, on every rank."""
        size = torch.tensor([len(content)])
        with talking():
            dist.broadcast(size, 0)
            buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.is_main else torch.empty(0)
            buffer = buffer if self.is_main else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def _from_all(self, own: Tensor) -> list[Tensor]:
        """A small CPU tensor of every rank, by rank, on every rank."""
        found = [torch.empty_like(own) for _ in range(self.size)]
        with talking():
            dist.all_gather(found, own)
        return found


def digest(tensors: Iterable[Tensor]) -> bytes:
    """SHA-256 of the bits of some tensors."""
    hashed = hashlib.sha256()
    for tensor in tensors:
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.digest()


def _began(folder: Path) -> bool:
    """Whether a run's folder was made by this very launch."""
    try:
        return json.loads(RunFolder(folder).launch.read_text(encoding="utf-8")) == _launch()
    except (OSError, ValueError):
        return False


def _launch() -> dict[str, str]:
    """What stays the same when torchrun starts its processes again, and is another with every torchrun.

    Its run id, where it has one of its own; else the agent, the parent of every process it starts.
    """
    if (run_id := os.environ["TORCHELASTIC_RUN_ID"]) != "none":
        return {"run_id": run_id}
    agent = os.getppid()
    try:  # since when it runs: numbers of processes are used again
        started = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return {"agent": f"{socket.gethostname()}:{agent}:{started}"}


def named(numbers: Sequence[int]) -> str:
    """`rank 1`, `ranks 1, 3`."""
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
