"""How far each rule's gradient points where BPTT's does: per layer, per moment of training, and per lag.

    pcrnn compare alignment [--quick] [--seeds 3] [--data FILE]

The stack is trained by BPTT, and at some moments its weights are frozen and every rule goes over the same passage of
held-out text, cut into chunks. The reference is BPTT over the whole passage at once, so a rule is charged both for
credit that it does not receive from the layers above and for what it forgets at chunk borders. Compared are the
gates' weights W and b, the ones that need credit through depth and time; readouts and state predictors are in the
record too.

Credit per lag: only the last step's loss counts and the rule begins h steps before it with empty traces. What its
gradient gains as h goes from H / 2 to H is the credit it gives to inputs that long ago.

Beside all that stands the score of stacks of one depth that every rule trained itself, at the learning rate of a short
list that is best for it on the first seed: what a cosine should be read with, and never in place of.

Shapes: B batch, T time.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import combinations, pairwise, permutations
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from learning_rules import Rule
from pcrnn import Chunk, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.data import Lanes, TextSource, open_as
from pcrnn.errors import DivergedError

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..gradients import leave_gradient, split_chunk
from ..pictures import counted
from ..quality.contenders import CONTENDERS, Training, make_rule
from ..quality.study import distance, gap
from ..quality.tasks import Stream
from ..record import Row
from ..search import mean_and_spread, search_by_rate, search_rate
from ..suite import Request
from .alignment_picture import draw
from .alignment_setup import BPTT, QUICK, REFERENCE, RULES, AlignmentSetup, mean_where

BLOCKS = {"gates": ("weight", "bias"), "readout": ("readout",), "predictor": ("predictor",)}

READING = """\
What it predicts: a cosine near 0 with BPTT at the first updates means that a layer is not trained for the stack's loss
at all, and a credit of 0 beyond some lag means that nothing further back can be learned except by chance features.
What it does not predict: which of two usable rules scores better. `layer` descends a loss of its own in every layer,
so its gradient should differ from BPTT's where that loss differs; rules of cosine 0.5 have beaten exact gradients on
forecasting (Marschall, Cho & Savin 2020), and a cosine says nothing of what an optimiser that rescales every
coordinate makes of the gradient. Random feedback is looked at on weights that BPTT trained, which had no reason to
align with it. Read a cosine beside the score, never in its place: the last table and the last panel of the
picture have both."""

Gradient = list[dict[str, Tensor]]  # a flat vector a block, one dictionary a layer, bottom first


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else AlignmentSetup()
    if request.data is not None:
        setup = replace(setup, data=str(request.data))
    torch.set_num_threads(setup.threads)
    rows: list[Row] = []
    lags: list[Row] = []
    passage, ending = held_out(setup, setup.steps), held_out(setup, max(setup.lags))
    for seed in range(request.seeds):
        for depth in setup.depths:
            for update, stack in trained(setup, depth, seed, "bptt", setup.lr):
                if update not in setup.moments:
                    continue
                request.tell(f"alignment: seed {seed}, {counted(depth, 'layer')}, {update} updates")
                about = {"seed": seed, "depth": depth, "updates": update}
                rows += [about | row for row in alignment_rows(stack, passage, setup.chunk)]
                if update == max(setup.moments):
                    lags += [about | row for row in lag_rows(stack, ending, setup)]
    scores = score_rows(setup, request)
    sentences = summary(rows, lags, scores, setup)
    return record.publish(
        request.out,
        "alignment",
        "Alignment with BPTT",
        config=asdict(setup) | {"rules": RULES, "seeds": request.seeds, "reading": READING},
        rows=rows,
        parts=tables(rows, scores, sentences, setup),
        draw=lambda stem: draw(rows, lags, beside_the_score(rows, scores), setup, stem),
        lags=lags,
        scores=scores,
        summary=sentences,
    )


def trained(
    setup: AlignmentSetup, depth: int, seed: int, contender: str, lr: float
) -> Iterator[tuple[int, PredictiveStack]]:
    """A stack (not to be changed) after 0, 1, ... updates by a contender, up to the last moment."""
    base = TrainConfig(
        hidden=(setup.units,) * depth,
        batch=setup.batch,
        chunk=setup.train_chunk,
        lr=lr,
        steps=max(setup.moments),
        warmup=10,
        seed=seed,
        device="cpu",
    )
    config = CONTENDERS[contender].settings(base)
    training = Training(Stream(open_as(TextSource, setup.data), config), CONTENDERS[contender], config)
    stack = cast(PredictiveStack, training.model)
    yield 0, stack
    for update in range(1, config.steps + 1):
        training.update()
        yield update, stack


def score_rows(setup: AlignmentSetup, request: Request) -> list[Row]:
    """Held-out bits/char of stacks that each rule trained itself; a row a rule and seed."""
    passage = Chunk.of_stream(held_out(setup, setup.scored_steps))

    @torch.no_grad()
    def score(label: str, lr: float, seed: int) -> float | None:
        with torch.enable_grad():
            try:
                *_, (_, stack) = trained(setup, setup.scored_depth, seed, RULES[label], lr)
            except DivergedError:
                return None
        activity, _ = stack.observe(passage.observations)
        return stack.score_targets(activity, passage).surprise[-1].mean().item() / math.log(2)

    rows = []
    for label in RULES:
        seeds, widenings = range(request.seeds), setup.widenings
        searched = search_rate(setup.rates, seeds, partial(score, label), lambda bits: bits, widenings)
        request.tell(
            f"alignment: {label} scores {searched.results[0] or math.nan:.3f} bits/char at rate {searched.rate:g}"
        )
        about = {"rule": label, "depth": setup.scored_depth, "lr": searched.rate}
        about |= {"at_edge": searched.at_edge, "search": search_by_rate(searched.tried)}
        rows += [about | {"seed": seed, "bits": bits} for seed, bits in enumerate(searched.results)]
    return rows


def beside_the_score(rows: list[Row], scores: list[Row]) -> list[Row]:
    """A row a rule: its cosine, mean over layers and seeds, and its distance to truncated BPTT, best score first.

    The distance is left out, and `no_claim` says why, where the search of either ended at its edge.
    """
    moment, depth = max(row["updates"] for row in rows), scores[0]["depth"]
    compared = []
    for label in dict.fromkeys(row["rule"] for row in scores):
        measured = [row for row in rows if (row["rule"], row["depth"], row["updates"]) == (label, depth, moment)]
        of_rule, bptt = ([row for row in scores if row["rule"] == rule] for rule in (label, BPTT))
        pairs = [(one["bits"], other["bits"]) for one, other in zip(of_rule, bptt, strict=True)]
        row: Row = {"rule": label, "lr": of_rule[0]["lr"], "search": of_rule[0].get("search")}
        row["no_claim"] = no_claim({BPTT: bptt[0], label: of_rule[0]})
        row["gap_unit"] = "percent"
        gaps = [None if row["no_claim"] or None in pair else distance(*pair, row["gap_unit"]) for pair in pairs]
        row |= mean_and_spread("gap", "gap_spread", gaps)
        row["cosine"] = statistics.fmean(row["gates_cosine"] for row in measured)
        row["lowest_cosine"] = statistics.fmean(row["gates_cosine"] for row in measured if row["layer"] == 1)
        compared.append(row | mean_and_spread("bits", "bits_spread", [one["bits"] for one in of_rule]))
    return sorted(compared, key=lambda row: math.inf if row["bits"] is None else row["bits"])


def summary(rows: list[Row], lags: list[Row], scores: list[Row], setup: AlignmentSetup) -> list[str]:
    """Cosines of the lowest layer by depth, credit beyond the chunk, and what the cosine fails to rank."""
    moment, beside = max(setup.moments), beside_the_score(rows, scores)
    stated = [row for row in beside if row["gap"] is not None]
    shallow, deep = min(setup.depths), max(setup.depths)
    beyond = min(lag for lag in setup.lags if lag > setup.lag_chunk)

    def lowest(rule: str, depth: int) -> float:
        return mean_where(rows, "gates_cosine", rule=rule, depth=depth, updates=moment, layer=1)

    def credit(depth: int) -> str:
        return f"{100 * mean_where(lags, 'share', rule='neighbour', depth=depth, lag=beyond, layer=1):.0f} %"

    def cosines(depth: int) -> str:
        local = (f"{rule} {lowest(rule, depth):.2f}" for rule in ("neighbour", "hierarchy", "top", "layer"))
        return f"{', '.join(local)}, BPTT truncated to {setup.chunk} steps {lowest(BPTT, depth):.2f}"

    pairs = math.comb(len(stated), 2)
    agree = sum((a["cosine"] > b["cosine"]) == (a["bits"] < b["bits"]) for a, b in combinations(stated, 2))
    wrong = [(a, b) for a, b in permutations(stated, 2) if a["cosine"] > b["cosine"] and a["bits"] > b["bits"]]
    ranking = (
        f"How far the cosine ranks rules: at {counted(setup.scored_depth, 'layer')} it puts {agree} of {pairs} pairs "
        "in the order of their scores"
    )
    if wrong:
        high, low = max(wrong, key=lambda pair: pair[0]["cosine"] - pair[1]["cosine"])
        ranking += f"; {_scored(low)} scores better than {_scored(high)}"
    if withheld := [row["rule"] for row in beside if row not in stated]:
        ranking += f"; {NO_CLAIM.lower()} of {', '.join(withheld)}, whose search, or that of {BPTT}, ended at its edge"

    def sentence(depth: int) -> str:
        verdict = "Wins" if lowest("neighbour", depth) >= lowest(BPTT, depth) else "Loses"
        return (
            f"{verdict}: with {counted(depth, 'layer')}, cosine of the lowest one's gradient with that of BPTT over "
            f"the whole passage: {cosines(depth)}; its credit to inputs beyond a chunk of {setup.lag_chunk} steps: by "
            f"exact traces (neighbour) {credit(depth)} of BPTT's, by truncated BPTT none."
        )

    return [*map(sentence, (shallow, deep)), f"{ranking}."]


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    names = {each.name for each in fields(AlignmentSetup)}
    setup = AlignmentSetup(**{name: value for name, value in found["config"].items() if name in names})
    return found | {"summary": summary(found["rows"], found["lags"], found["scores"], setup)}


def _scored(row: Row) -> str:
    return f"{row['rule']} (cosine {row['cosine']:.2f}, {row['bits']:.3f} bits/char, {row['gap']:+.1f} %)"


def held_out(setup: AlignmentSetup, steps: int) -> Tensor:
    """A passage of the validation split, [B, steps + 1]."""
    x, _ = Lanes(open_as(TextSource, setup.data).sequence("valid"), setup.batch, steps).read(0)
    return x


def gradient(rule: Rule, stack: PredictiveStack, chunks: Sequence[Chunk], state: Any = None) -> Gradient:
    """Sum of a rule's gradients over consecutive chunks under frozen weights, begun with empty traces."""
    leave_gradient(rule, stack, chunks, state)
    blocks = []
    for layer in stack.layers:
        grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in layer.named_parameters()}
        blocks.append({block: torch.cat([grads[name].flatten() for name in names]) for block, names in BLOCKS.items()})
    stack.zero_grad(set_to_none=True)
    return blocks


def alignment_rows(stack: PredictiveStack, passage: Tensor, chunk: int) -> list[Row]:
    """Cosine with, and norm over, the gradient of BPTT over the whole passage [B, T + 1]; a row a rule and layer."""
    reference = gradient(make_rule("bptt"), stack, [Chunk.of_stream(passage)])
    pieces = split_chunk(Chunk.of_stream(passage), chunk)
    rows = []
    for label, contender in RULES.items():
        layers = gradient(make_rule(contender), stack, pieces)
        for level, (of_rule, of_bptt) in enumerate(zip(layers, reference, strict=True), 1):
            row: Row = {"rule": label, "layer": level}
            for block in BLOCKS:
                mean = of_rule[block] / len(pieces)
                row[f"{block}_cosine"] = _cosine(mean, of_bptt[block])
                row[f"{block}_norm_ratio"] = _ratio(mean.norm(), of_bptt[block].norm())
            rows.append(row)
    return rows


def lag_rows(stack: PredictiveStack, passage: Tensor, setup: AlignmentSetup) -> list[Row]:
    """Credit of the gates per lag: a row a rule, layer and lag band (half the lag, excluded, to the lag).

    `share` is the part of BPTT's credit of that lag that the rule gives, <rule's, BPTT's> / |BPTT's|^2; `norm` is in
    parts of BPTT's whole gradient.
    """
    credits = {
        label: credit_per_lag(
            make_rule(contender),
            stack,
            passage,
            setup.lags,
            max(setup.lags) if label == REFERENCE else setup.lag_chunk,
        )
        for label, contender in ({REFERENCE: "bptt"} | RULES).items()
    }
    rows = []
    for label, per_layer in credits.items():
        for level, (bands, of_bptt) in enumerate(zip(per_layer, credits[REFERENCE], strict=True), 1):
            total = torch.stack(of_bptt).sum(0).norm()
            for lag, credit, reference in zip(setup.lags, bands, of_bptt, strict=True):
                row = {"rule": label, "layer": level, "lag": lag, "norm": _ratio(credit.norm(), total)}
                share = _ratio(credit @ reference, reference @ reference)
                rows.append(row | {"share": share, "cosine": _cosine(credit, reference)})
    return rows


def credit_per_lag(
    rule: Rule, stack: PredictiveStack, passage: Tensor, lags: Sequence[int], chunk: int
) -> list[list[Tensor]]:
    """Gradient of the last step's loss in the gates, one list a layer, split over the lags."""
    steps = passage.shape[1] - 1
    up_to: list[Gradient] = []
    for lag in lags:
        state = None
        if lag < steps:
            with torch.no_grad():
                _, state = stack.observe(passage[:, : steps - lag])
        pieces = split_chunk(Chunk.of_stream(passage[:, steps - lag :]), chunk)
        counted = [torch.zeros(piece.targets.shape, dtype=torch.bool) for piece in pieces]
        counted[-1][:, -1] = True
        masked = [piece._replace(mask=mask) for piece, mask in zip(pieces, counted, strict=True)]
        up_to.append(gradient(rule, stack, masked, state))
    per_layer = []
    for layer in range(len(stack.layers)):
        sums = [blocks[layer]["gates"] for blocks in up_to]
        per_layer.append([sums[0], *(after - before for before, after in pairwise(sums))])
    return per_layer


def _cosine(one: Tensor, other: Tensor) -> float:
    """0 where one of the two is no direction at all."""
    return _ratio(one @ other, one.norm() * other.norm())


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _mean_by_layer(rows: list[Row], key: str) -> str:
    """Means over seeds, bottom layer first."""
    layers = sorted({row["layer"] for row in rows})
    means = [statistics.fmean(row[key] for row in rows if row["layer"] == layer) for layer in layers]
    return " ".join(f"{mean:.2f}" for mean in means)


def tables(rows: list[Row], scores: list[Row], sentences: list[str], setup: AlignmentSetup) -> list[str]:
    """How to read it, every rule's cosines and norms, and cosines beside the score."""
    groups: dict[tuple[int, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["depth"], row["updates"], row["rule"]), []).append(row)
    shown = [
        {
            "depth": depth,
            "updates": updates,
            "rule": rule,
            "cosine": _mean_by_layer(group, "gates_cosine"),
            "norm": _mean_by_layer(group, "gates_norm_ratio"),
        }
        for (depth, updates, rule), group in groups.items()
    ]
    columns = {"depth": "layers", "updates": "updates done", "rule": "rule"}
    columns |= {"cosine": "cosine with BPTT, layer 1 first", "norm": "norm over BPTT's, layer 1 first"}
    compared = [row | {"gap": gap(row), "lr": shown_rate(row)} for row in beside_the_score(rows, scores)]
    headings = {"rule": "rule", "cosine": "cosine, mean over layers", "lowest_cosine": "cosine of layer 1"}
    headings |= {"bits": "bits/char", "gap": "against bptt, truncated, %", "lr": "rate"}
    about = f"{setup.scored_depth} layers of {setup.units}, {max(setup.moments)} updates of {setup.batch} x "
    about += f"{setup.train_chunk} characters, each rule at its own best rate; best score first."
    first = [*sentences, READING, record.table(shown, columns)]
    return [*first, "## Beside the score", about, record.table(compared, headings), *edge_note(scores)]
