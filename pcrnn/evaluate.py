"""What a trained stack is worth: its surprise at data it never learned from.

Shapes: B lanes, T time steps, L layers (level 0 is the base rate).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcrnn import checkpoint as checkpoints
from pcrnn import run as runs
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.data import LabelledSource, Lanes, Source, open_source
from pcrnn.data.labelled import SequenceLanes
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.limits import count_weights, require_memory
from pcrnn.observations import Gaussian, Observation
from pcrnn.stack import Chunk, PredictiveStack, StackActivity

WARM_UP = 256  # steps watched before what is measured, so that its first symbols are not met cold
PIECE = 1024  # steps watched at a time: memory does not grow with a passage


class TrainedRun(NamedTuple):
    """A run as its newest good checkpoint left it."""

    folder: runs.RunFolder
    config: TrainConfig
    source: Source
    stack: PredictiveStack
    step: int  # updates done
    notices: tuple[str, ...]


class Judged(NamedTuple):
    """What a stack makes of labels."""

    nats: list[float]  # mean surprise of every level, level 0 first
    accuracy: float  # share of the labels that the top level finds likeliest


class Passage(NamedTuple):
    """What happened at each step of a passage."""

    start: int  # its first step, counted in the data set
    steps: Tensor  # the passage itself, int64 [T] or float32 [T, D]
    surprise: Tensor  # [L + 1, T], nats
    state_surprise: Tensor  # [L, T], nats


def build_stack(config: TrainConfig, source: Source) -> PredictiveStack:
    """A new stack for this data; its weights come from torch's global generator.

    Raises UsageError, before anything is allocated, for one that the machine's memory cannot hold.
    """
    observation, target = _observation(config, source), source.target()
    if target is not None and config.inference_steps:
        raise UsageError(
            f"inference_steps: expected 0 for {source.name}, whose labels are not seen when they are asked for, got "
            f"{config.inference_steps}; leave it out"
        )
    numbers = count_weights(config, observation.size, None if target is None else target.size, source.covariates)
    require_memory(numbers, torch.device("cpu"), "hidden")
    options = config.stack_options()
    return PredictiveStack(observation, config.hidden, target=target, covariates=source.covariates, **options)


def _observation(config: TrainConfig, source: Source) -> Observation:
    observation = source.observation()
    if config.precision_weighting:
        return observation
    if not isinstance(observation, Gaussian):
        raise UsageError(
            f"precision_weighting: expected true for {source.name}, whose {type(observation).__name__} "
            "observations have no precisions, got false; leave it out"
        )
    return Gaussian(observation.size, weighted=False)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, in which nothing is dropped; afterwards the mode before."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)


def load_run(path: Path, *, data: str | None = None, device: str = "auto") -> TrainedRun:
    """Open the run in the folder `path`, with its own data or, read the same way, another file.

    Raises CheckpointError for a folder without a checkpoint that can be loaded, DataError for the data.
    """
    folder = runs.existing(path)
    loaded = checkpoints.load_newest(folder.checkpoints)
    config, state = read_documents(loaded)
    source = open_source(data or config.data, tokens=config.tokens, state=state)
    stack = build_stack(config, source)
    checkpoints.check_fits(stack.state_dict(), loaded.checkpoint.weights, str(loaded.folder))
    stack.load_state_dict(loaded.checkpoint.weights)
    stack.to(resolve_device(device))
    return TrainedRun(folder, config, source, stack, loaded.checkpoint.step, loaded.notices)


def read_documents(loaded: checkpoints.Loaded) -> tuple[TrainConfig, dict]:
    """The settings and the data's state (its vocabulary or standardisation) in a checkpoint."""
    documents = loaded.checkpoint.documents
    try:
        config = TrainConfig.from_mapping(documents["config"]["settings"], f"{loaded.folder}/config.json")
        return config, dict(documents["data"]["state"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # UsageError is a ValueError
        raise CheckpointError(f"{loaded.folder}: expected settings and data in it, but {error}") from None


@torch.no_grad()
def evaluate(stack: PredictiveStack, source: Source, *, batch: int = 32, chunk: int = 128) -> list[float]:
    """Mean surprise of every level on the validation split in nats per step or label, level 0 first.

    The split is cut into at most `batch` lanes, each met in the context of the steps before it and read to its end.
    """
    if isinstance(source, LabelledSource):
        return judge(stack, source, batch=batch, chunk=chunk).nats
    device = next(stack.parameters()).device
    valid = source.stored("valid")
    lanes = Lanes.at_most(valid, batch, chunk, name="the validation split", unpack=source.unpacked)
    before = source.lead(WARM_UP)
    contexts = torch.cat([before, valid]).unfold(0, len(before), lanes.lane_length)[: lanes.batch].movedim(-1, 1)
    with evaluating(stack):
        _, state = stack.observe(source.unpacked(contexts.contiguous()).to(device))
        total, count = torch.zeros(len(stack.layers) + 1, dtype=torch.float64, device=device), 0
        for x in lanes.parts():
            piece = Chunk.of_stream(x.to(device, non_blocking=True))
            activity, state = stack.observe(piece.observations, state)
            surprise = stack.outcome(activity, piece).surprise
            total += surprise.sum((1, 2), dtype=torch.float64)
            count += surprise[0].numel()
    return (total / count).tolist()


@torch.no_grad()
def judge(stack: PredictiveStack, source: LabelledSource, *, batch: int = 32, chunk: int = 128) -> Judged:
    """What a stack makes of the labels of the validation split, `batch` sequences at a time."""
    device, state = next(stack.parameters()).device, None
    nats, right, count = torch.zeros(len(stack.levels), dtype=torch.float64, device=device), 0, 0
    with evaluating(stack):
        for part, begins in SequenceLanes.parts(source.part("valid"), batch, chunk):
            piece = Chunk(*(each.to(device) for each in part))
            activity, state = stack.observe(piece.observations, None if begins else state)
            assert piece.mask is not None
            nats += (stack.outcome(activity, piece).surprise * piece.mask).sum((1, 2), dtype=torch.float64)
            likeliest = activity.expectations[-1].argmax(-1)
            right += int(((likeliest == piece.targets) & piece.mask).sum())
            count += int(piece.mask.sum())
    return Judged((nats / count).tolist(), right / count)


@torch.no_grad()
def watching(stack: PredictiveStack, source: Source, begin: int, end: int) -> Iterator[StackActivity]:
    """What happens in a stack that watches a data set from `begin` to before `end`: of one lane, PIECE steps at a time.

    The first of them is met at the base rate.
    """
    device, state = next(stack.parameters()).device, None
    with evaluating(stack):
        for piece in source.stored("all")[begin:end].split(PIECE):
            activity, state = stack.observe(source.unpacked(piece).unsqueeze(0).to(device), state)
            yield activity


def watch(stack: PredictiveStack, source: Source, start: int, length: int) -> Passage:
    """Surprise of every level at each step of a passage of a data set, met in its context.

    Of labelled sequences a passage is the front of one, and the surprise that of its label if it were asked for.

    Args:
        start: its first step, counted in the data set; the number of a labelled sequence.
        length: how many steps, or those there are.

    Raises UsageError for a passage that does not begin inside the data set.
    """
    if not 0 <= start < source.length or length < 1:
        raise UsageError(
            f"passage: expected a start from 0 to {source.length - 1} and a length of at least 1, "
            f"got start {start} and length {length}"
        )
    if isinstance(source, LabelledSource):
        return _watch_labelled(stack, source, start, length)
    begin = max(0, start - WARM_UP)
    seen = watching(stack, source, begin, start + length)
    pairs = [(activity.surprise[:, 0].cpu(), activity.state_surprise[:, 0].cpu()) for activity in seen]
    surprise, state_surprise = (torch.cat(parts, 1)[:, start - begin :] for parts in zip(*pairs, strict=True))
    steps, _ = stack.parted(source.unpacked(source.stored("all")[start : start + length]))
    return Passage(start, steps, surprise, state_surprise)


@torch.no_grad()
def _watch_labelled(stack: PredictiveStack, source: LabelledSource, number: int, length: int) -> Passage:
    """The first steps of one sequence, and what each level would give its label there."""
    x, labels, counts = (part[number : number + 1] for part in source.all)
    steps = int(counts.nonzero().max()) + 1 if counts.any() else x.shape[1]  # nothing counts after that
    labels = labels if source.per_step else labels[:, steps - 1 : steps].expand_as(labels)
    device = next(stack.parameters()).device
    piece = Chunk(*(part[:, : min(steps, length)].to(device) for part in (x, labels, counts)))
    with evaluating(stack):
        activity, _ = stack.observe(piece.observations)
        surprise = stack.outcome(activity, piece).surprise[:, 0].cpu()
    return Passage(0, piece.observations[0].cpu(), surprise, activity.state_surprise[:, 0].cpu())
