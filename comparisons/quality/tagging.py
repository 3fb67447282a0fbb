"""Context on both sides: vowels deleted from a text, restored by stacks that read forward only or in both directions.

    pcrnn compare tagging [--quick] [--seeds 3] [--data FILE]

In windows of the text (by default Python's language reference) every lower-case vowel is replaced by one mark; the
target is which vowel it was. All stacks have about as many parameters. As in `quality`, every contender has its own
best learning rate, from the same search on the first seed, and finished trainings are lines of
OUT/tagging.cells.jsonl that are never computed again for the same data, settings and code.

Shapes: B windows, T characters of a window, V symbols of the marked text.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pcrnn import Categorical, Chunk
from pcrnn.config import TrainConfig
from pcrnn.data import TextSource, open_as
from pcrnn.errors import DataError

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..pictures import FAINT, Dots, colours, draw_dots, drawing
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, rates_of
from ..suite import Request
from .contenders import CONTENDERS, LOCAL_AND_BPTT, Contender
from .study import Trainer
from .tasks import Piece, Sequences, Split

VOWELS = "aeiou"
MARK = "\N{WHITE VERTICAL RECTANGLE}"
TAGGERS: dict[str, Contender] = {
    f"{reads}, {rule}": Contender(options=CONTENDERS[name].options, bidirectional=reads == "both directions")
    for reads in ("both directions", "forward")
    for rule, name in LOCAL_AND_BPTT.items()
}


@dataclass(frozen=True, kw_only=True)
class TaggingSetup:
    """The stack that reads forward, how all learn, and how much of the text."""

    base: TrainConfig
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)
    widenings: int = WIDENINGS
    limit: int | None = None  # characters of each split


FULL = TaggingSetup(base=TrainConfig(hidden=(96, 96, 96), batch=32, chunk=96, steps=300, evaluate_every=0))
QUICK = TaggingSetup(
    base=TrainConfig(hidden=(12, 12), batch=4, chunk=16, steps=4, warmup=1, evaluate_every=0),
    rates=(3e-3, 5e-3),
    widenings=WIDENINGS_QUICK,
    limit=400,
)


class Vowels(Sequences):
    """Windows of a text without its vowels, and which they were; the held-out text is halved for search and test."""

    def __init__(self, source: TextSource, setup: TaggingSetup) -> None:
        train, held_out = (source.decode(source.sequence(split))[: setup.limit] for split in ("train", "valid"))
        self.symbols = sorted(set(marked(train + held_out)))
        middle, steps = len(held_out) // 2, setup.base.chunk
        splits = [self.windows(text, steps) for text in (train, held_out[:middle], held_out[middle:])]
        super().__init__(*splits, batch=setup.base.batch, unit="nats/vowel")

    def observation(self) -> Categorical:
        return Categorical(len(self.symbols))

    def target(self) -> Categorical:
        return Categorical(len(VOWELS))

    def parts(self, split: Split) -> Iterator[Piece]:
        whole = self.splits[split]
        pieces = zip(*(part.split(self.batch) for part in whole if part is not None), strict=True)
        return (Piece(Chunk(*parts), True) for parts in pieces)

    def windows(self, text: str, steps: int) -> Chunk:
        """The text in consecutive windows, [B, T]; what is left over at its end is left out."""
        if len(text) < steps:
            raise DataError(f"tagging: expected splits of at least {steps} characters, got {len(text)}; give more text")
        place = {symbol: number for number, symbol in enumerate(self.symbols)}
        whole = slice(0, len(text) // steps * steps)
        marks = torch.tensor([place[symbol] for symbol in marked(text)[whole]]).view(-1, steps)
        vowel = torch.tensor([VOWELS.find(symbol) for symbol in text[whole]]).view(-1, steps)
        return Chunk(marks, vowel.clamp_min(0), vowel >= 0)

    def baselines(self) -> dict[str, float]:
        """Share of vowels restored by counting which is the most frequent: everywhere, and between its neighbours."""
        test = self.splits["test"]

        def accuracy(train_key: Tensor, test_key: Tensor) -> float:
            keys = (len(self.symbols) + 1) ** 2
            votes = torch.zeros(keys, len(VOWELS))
            every = self.train.targets[self.train.mask]
            votes.index_put_((train_key, every), torch.ones(len(every)), accumulate=True)
            votes += 1e-3 * every.bincount(minlength=len(VOWELS)) / len(every)  # where nothing was counted
            return (votes[test_key].argmax(-1) == test.targets[test.mask]).double().mean().item()

        def key(chunk: Chunk, left: bool, right: bool) -> Tensor:
            outside = len(self.symbols)
            padded = torch.nn.functional.pad(chunk.observations, (1, 1), value=outside)
            sides = padded[:, :-2] * left, padded[:, 2:] * right
            return (sides[0] * (outside + 1) + sides[1])[chunk.mask]

        known = {"majority": (False, False), "the character before": (True, False), "both neighbours": (True, True)}
        return {who: accuracy(key(self.train, *sides), key(test, *sides)) for who, sides in known.items()}


def marked(text: str) -> str:
    """The text with a mark in place of every vowel."""
    return text.translate(dict.fromkeys(map(ord, VOWELS), MARK))


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    source = open_as(TextSource, str(request.data or "pydoc"))
    task, trainer = Vowels(source, setup), Trainer.of(request, "tagging")
    rows = []
    for name, tagger in TAGGERS.items():
        row: Row = {"learner": name} | trainer.search(source.name, name, tagger, setup, task)
        accuracies = row["measured"].get("accuracy", [None] * request.seeds)
        rows.append(row | mean_and_spread("accuracy", "accuracy_spread", accuracies) | {"accuracies": accuracies})
    baselines, sentences = task.baselines(), summary(rows)
    counted = "Restored by counting: " + ", ".join(f"{who} {share:.1%}" for who, share in baselines.items()) + "."
    return record.publish(
        request.out,
        "tagging",
        "Deleted vowels restored",
        config={"seeds": request.seeds, "data": source.name, "base": setup.base.as_mapping(), "rates": setup.rates},
        rows=rows,
        parts=[table(rows), counted, *sentences, *edge_note(rows)],
        draw=lambda stem: draw(rows, baselines, stem),
        baselines=baselines,
        summary=sentences,
    )


def summary(rows: list[Row]) -> list[str]:
    """What the second direction is worth under each rule, where the searches allow to state it, a sentence each."""
    by_name = {row["learner"]: row for row in rows}
    sentences = []
    for rule in LOCAL_AND_BPTT:
        of_rule = {name: by_name[name] for name in (f"{reads}, {rule}" for reads in ("both directions", "forward"))}
        if reason := no_claim(of_rule):
            sentences.append(f"{NO_CLAIM}: {reason}.")
            continue
        both, forward = (row["accuracies"] for row in of_rule.values())
        pairs = [(a, b) for a, b in zip(both, forward, strict=True) if a is not None and b is not None]
        if pairs:
            of_both, of_forward = (statistics.mean(side) for side in zip(*pairs, strict=True))
            won = sum(a > b for a, b in pairs)
            shares = f"{of_both:.1%} of the vowels in both directions, {of_forward:.1%} forward only"
            sentences.append(f"{rule} restores {shares}; reading in both is ahead in {won} of {len(pairs)} seeds.")
    return sentences


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    return found | {"summary": summary(found["rows"])}


def table(rows: list[Row]) -> str:
    """Accuracy and surprise of every contender, with the search."""
    columns = {"learner": "learner", "accuracy": "restored", "accuracy_spread": "± (seeds)", "metric": "nats/vowel"}
    columns |= {"spread": "± (seeds)", "lr": "rate", "parameters": "parameters"}
    columns |= {rate: f"search at {rate}" for rate in rates_of(rows)}
    return record.table([row | row["search"] | {"lr": shown_rate(row)} for row in rows], columns)


def draw(rows: list[Row], baselines: dict[str, float], stem: Path) -> None:
    """Share of vowels restored: a dot a seed, a line a count."""
    both, forward = colours(("both", "forward")).values()
    how = "equal parameters, a dot a seed, each at its own best rate; lines: the likeliest vowel by counting"
    with drawing(stem, "Deleted vowels restored in held-out text", how, 7.2, 3.2) as figure:
        axes = figure.subplots()
        lines = []
        for row in rows:
            shares = [None if share is None else 100 * share for share in row["accuracies"]]
            lines.append(Dots(row["learner"], shares, forward if row["learner"].startswith("forward") else both))
        draw_dots(axes, lines, size=6)
        for who, share in baselines.items():
            axes.axvline(100 * share, color=FAINT, linewidth=0.9, linestyle=":")
            axes.text(100 * share + 0.4, len(rows) - 0.42, who, color=FAINT, size=8.5, va="top")
        axes.set(xlabel="vowels restored, %", ylim=(-0.5, len(rows) - 0.4))
