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
from dataclasses import asdict, dataclass, fields, replace
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
from pcrnn.plots.canvas import EndLabel, label_ends

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..gradients import leave_gradient, split_chunk
from ..pictures import DASHED, FAINT, INK, counted, drawing, log2_axis, plain_numbers
from ..quality.contenders import CONTENDERS, Training, make_rule
from ..quality.study import gap
from ..quality.tasks import Stream
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, search_by_rate, search_rate
from ..suite import Request

RULES = {  # contenders by their label
    "bptt, truncated": "bptt",
    "hierarchy": "hierarchy, exact",
    "neighbour": "neighbour, exact",
    "neighbour, chunk": "neighbour, chunk",
    "neighbour, none": "neighbour, none",
    "neighbour, random": "neighbour, random feedback",
    "top": "top, exact",
    "layer": "layer, exact",
}
BPTT, REFERENCE = "bptt, truncated", "bptt, whole"
UNFIT = (6, 7, 8)  # of the palette: too pale for words, or near the grey of the reference
LEAST_CREDIT = 1e-6  # what is drawn, of BPTT's whole; less is rounding
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


@dataclass(frozen=True, kw_only=True)
class AlignmentSetup:
    """What is trained, and where and how its gradients are compared."""

    data: str = "pydoc"
    depths: tuple[int, ...] = (1, 3, 6)
    units: int = 64
    batch: int = 16
    train_chunk: int = 32
    lr: float = 3e-3
    moments: tuple[int, ...] = (0, 30, 200)  # updates done
    steps: int = 256  # of the passage
    chunk: int = 32  # that the rules cut the passage into
    lags: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)  # the passage ends so many steps after the rule began
    lag_chunk: int = 16
    scored_depth: int = 3  # one of the depths
    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 1e-1)
    widenings: int = WIDENINGS
    scored_steps: int = 1024  # of the validation split, for each of `batch` lanes
    threads: int = 1


QUICK = AlignmentSetup(
    depths=(1, 3),
    units=24,
    batch=8,
    train_chunk=16,
    moments=(0, 10),
    steps=32,
    chunk=8,
    lags=(1, 4, 16, 32),
    lag_chunk=8,
    rates=(3e-3, 1e-2),
    widenings=WIDENINGS_QUICK,
    scored_steps=64,
)


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
        draw=lambda stem: draw(rows, lags, scores, setup, stem),
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
        gaps = [None if row["no_claim"] or None in pair else 100 * (pair[0] / pair[1] - 1) for pair in pairs]
        row |= mean_and_spread("gap_percent", "gap_spread", gaps)
        row["cosine"] = statistics.fmean(row["gates_cosine"] for row in measured)
        row["lowest_cosine"] = statistics.fmean(row["gates_cosine"] for row in measured if row["layer"] == 1)
        compared.append(row | mean_and_spread("bits", "bits_spread", [one["bits"] for one in of_rule]))
    return sorted(compared, key=lambda row: math.inf if row["bits"] is None else row["bits"])


def summary(rows: list[Row], lags: list[Row], scores: list[Row], setup: AlignmentSetup) -> list[str]:
    """Cosines of the lowest layer by depth, credit beyond the chunk, and what the cosine fails to rank."""
    moment, beside = max(setup.moments), beside_the_score(rows, scores)
    stated = [row for row in beside if row["gap_percent"] is not None]
    shallow, deep = min(setup.depths), max(setup.depths)
    beyond = min(lag for lag in setup.lags if lag > setup.lag_chunk)

    def lowest(rule: str, depth: int) -> float:
        return _mean(rows, "gates_cosine", rule=rule, depth=depth, updates=moment, layer=1)

    def credit(depth: int) -> str:
        return f"{100 * _mean(lags, 'share', rule='neighbour', depth=depth, lag=beyond, layer=1):.0f} %"

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
    return f"{row['rule']} (cosine {row['cosine']:.2f}, {row['bits']:.3f} bits/char, {row['gap_percent']:+.1f} %)"


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
    headings |= {"bits": "bits/char", "gap": "against bptt, truncated", "lr": "rate"}
    about = f"{setup.scored_depth} layers of {setup.units}, {max(setup.moments)} updates of {setup.batch} x "
    about += f"{setup.train_chunk} characters, each rule at its own best rate; best score first."
    first = [*sentences, READING, record.table(shown, columns)]
    return [*first, "## Beside the score", about, record.table(compared, headings), *edge_note(scores)]


def draw(rows: list[Row], lags: list[Row], scores: list[Row], setup: AlignmentSetup, stem: Path) -> None:
    """Above: cosine of every layer, as a table of colours; below: over training, per lag, and beside the score."""
    import seaborn

    palette = [colour for i, colour in enumerate(seaborn.color_palette("colorblind", 10)) if i not in UNFIT]
    colours = {REFERENCE: FAINT, BPTT: INK} | dict(zip((rule for rule in RULES if rule != BPTT), palette, strict=False))
    how = f"weights of the gates; stacks of {setup.units} units trained by BPTT on {setup.data}; means over seeds"
    title = "Where each rule's gradient points, against BPTT over the whole passage"
    with drawing(stem, title, how, 13.0, 8.6, layout=False) as figure:
        upper = figure.add_gridspec(1, 1, left=0.12, right=0.98, top=0.87, bottom=0.52)
        lower = figure.add_gridspec(1, 3, left=0.055, right=0.885, top=0.41, bottom=0.07, wspace=0.95)
        over, per_lag, beside = (figure.add_subplot(lower[column]) for column in range(3))
        _draw_cosines(figure.add_subplot(upper[0]), rows, setup)
        label_ends(over, _draw_training(over, rows, setup, colours))
        label_ends(per_lag, _draw_lags(per_lag, lags, setup, colours))
        label_ends(beside, _draw_scores(beside, beside_the_score(rows, scores), colours))


def _draw_cosines(axes: Any, rows: list[Row], setup: AlignmentSetup) -> None:
    """A row a rule, a column a layer."""
    moment = max(setup.moments)
    columns = [(depth, layer) for depth in setup.depths for layer in range(1, depth + 1)]
    cosines = [
        [_mean(rows, "gates_cosine", rule=rule, depth=d, layer=layer, updates=moment) for d, layer in columns]
        for rule in RULES
    ]
    axes.imshow(cosines, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(cosines):
        for x, cosine in enumerate(line):
            ink = "white" if cosine < 0.6 else "black"
            axes.text(x, y, f"{cosine:.2f}", ha="center", va="center", color=ink, size=9.5)
    axes.set_yticks(range(len(RULES)), list(RULES))
    names = [f"{counted(d, 'layer')}\nlayer {layer}" if layer == 1 else f"layer {layer}" for d, layer in columns]
    axes.set_xticks(range(len(columns)), names)
    for x, (_, layer) in enumerate(columns):
        if layer == 1 and x:
            axes.axvline(x - 0.5, color="white", linewidth=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    cut = f"passage cut into chunks of {setup.chunk}"
    axes.set_title(f"Cosine after {moment} updates: 1 is BPTT's own direction ({cut})", size=10.5)


LINE = {"marker": "o", "markersize": 4, "linewidth": 1.4}


def _draw_training(axes: Any, rows: list[Row], setup: AlignmentSetup, colours: dict[str, Any]) -> list[EndLabel]:
    """Cosine over training; the ends of the lines."""
    ends, depth = [], setup.scored_depth
    for rule in RULES:
        points = [_mean(rows, "gates_cosine", rule=rule, depth=depth, updates=at) for at in setup.moments]
        axes.plot(range(len(points)), points, color=colours[rule], **LINE)
        ends.append(EndLabel(points[-1], rule, colours[rule]))
    axes.set_xticks(range(len(setup.moments)), [f"{at}" for at in setup.moments])
    axes.set(xlabel="updates done", ylabel="cosine, mean over layers", ylim=(min(0, axes.get_ylim()[0]), 1.03))
    axes.set_title(f"Over training, {counted(depth, 'layer')}", size=10.5)
    return ends


def _draw_lags(axes: Any, lags: list[Row], setup: AlignmentSetup, colours: dict[str, Any]) -> list[EndLabel]:
    """Credit of the lowest layer over the lag; the ends of the lines."""
    ends, depth = [], setup.scored_depth
    for rule in (REFERENCE, BPTT, "neighbour", "top", "layer", "neighbour, none"):
        norms = [(lag, _mean(lags, "norm", rule=rule, depth=depth, lag=lag, layer=1)) for lag in setup.lags]
        visible = [(lag, norm) for lag, norm in norms if norm > LEAST_CREDIT]
        axes.plot(*zip(*visible, strict=True), color=colours[rule], **LINE)
        ends.append(EndLabel(visible[-1][1], rule, colours[rule]))
    axes.set(yscale="log", xlabel="lag, steps (dashed: the chunk)", ylabel="credit, of BPTT's whole")
    log2_axis(axes, setup.lags)
    plain_numbers(axes)
    axes.axvline(setup.lag_chunk, color=FAINT, linewidth=0.8, linestyle=DASHED)
    axes.set_title(f"Credit per lag, layer 1 of {depth}", size=10.5)
    return ends


def _draw_scores(axes: Any, compared: list[Row], colours: dict[str, Any]) -> list[EndLabel]:
    """Score over cosine, a dot a rule; their labels."""
    compared = [row for row in compared if row["gap_percent"] is not None]
    for row in compared:
        style = {"color": colours[row["rule"]], "fmt": "o", "markersize": 6}
        axes.errorbar(row["cosine"], row["gap_percent"], row["gap_spread"] or 0.0, **style)
    axes.axhline(0, color=FAINT, linewidth=0.8, linestyle=DASHED)
    axes.set(xlabel="cosine, mean over layers", ylabel="bits/char over truncated BPTT, %")
    axes.set_title("The score beside it: lower is better", size=10.5)
    return [EndLabel(row["gap_percent"], row["rule"], colours[row["rule"]]) for row in compared]


def _mean(rows: list[Row], key: str, **where: Any) -> float:
    """Mean of `key` over the rows that are so."""
    return statistics.fmean(row[key] for row in rows if all(row[name] == value for name, value in where.items()))
