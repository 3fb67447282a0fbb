"""How far each rule's gradient points where BPTT's does: per layer, per moment of training, and per lag.

    python -m comparisons alignment [--quick] [--seeds 3]

The stack is trained by BPTT, and at some moments its weights are frozen and every rule goes over the same passage of
held-out text, cut into chunks. The reference is BPTT over the whole passage at once, so a rule is charged both for
what it does not hear from the layers above and for what it forgets at chunk borders. Compared are the gates' weights
W and b, the ones that need credit through depth and time; readouts and state predictors are in the record too.

Credit per lag: only the last step's loss counts and the rule begins h steps before it with empty traces. What its
gradient gains as h goes from H / 2 to H is the credit it gives to inputs that long ago.

Beside all that stands the score of stacks of one depth that every rule trained itself, at the learning rate of a short
list that is best for it on the first seed: what a cosine should be read with, and never in place of.

Shapes: B batch, T time.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise, permutations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from comparisons import record
from comparisons.learner import Learner, cut, frozen
from comparisons.suite import Request
from learning_rules import Rule
from pcrnn import Chunk, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.data import Lanes, TextSource, open_source

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "bptt, truncated": ("bptt", {}),
    "hierarchy": ("local", {"credit": "hierarchy"}),
    "neighbour": ("local", {"credit": "neighbour"}),
    "neighbour, chunk": ("local", {"credit": "neighbour", "trace": "chunk"}),
    "neighbour, none": ("local", {"credit": "neighbour", "trace": "none"}),
    "neighbour, random": ("local", {"credit": "neighbour", "feedback": "random"}),
    "top": ("local", {"credit": "top"}),
    "layer": ("local", {"credit": "layer"}),
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

Row = dict[str, Any]
Gradient = list[dict[str, Tensor]]  # a flat vector a block, one dictionary a layer, bottom first


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and where and how it is looked at."""

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
    scored_steps: int = 1024  # of the validation split, for each of `batch` lanes
    threads: int = 1


QUICK = Setting(
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
    scored_steps=64,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    torch.set_num_threads(setting.threads)
    rows: list[Row] = []
    lags: list[Row] = []
    for seed in range(request.seeds):
        for depth in setting.depths:
            for moment, stack in moments(setting, depth, seed):
                request.tell(f"alignment: seed {seed}, {depth} layers, {moment} updates")
                of = {"seed": seed, "depth": depth, "updates": moment}
                passage = held_out(setting, setting.steps)
                rows += [of | row for row in alignment_rows(stack, passage, setting.chunk)]
                if moment == max(setting.moments):
                    ending = held_out(setting, max(setting.lags))
                    lags += [of | row for row in lag_rows(stack, ending, setting)]
    scores = score_rows(setting, request)
    return write(rows, lags, scores, setting, request.seeds, request.out)


def write(rows: list[Row], lags: list[Row], scores: list[Row], setting: Setting, seeds: int, out: Path) -> list[Path]:
    """Record, table and picture of measured rows."""
    said = summary(rows, lags, scores, setting)
    config = asdict(setting) | {"rules": RULES, "seeds": seeds, "reading": READING}
    path = record.write("alignment", config, rows, out, lags=lags, scores=scores, summary=said)
    return [path, _markdown(rows, scores, said, setting, out), *_picture(rows, lags, scores, setting, out)]


def moments(setting: Setting, depth: int, seed: int) -> Iterable[tuple[int, PredictiveStack]]:
    """A stack trained by BPTT, handed out (not to be changed) after so many updates."""
    for update, learner in trained(setting, depth, seed, learning_rules.make("bptt"), setting.lr):
        if update in setting.moments:
            yield update, learner.stack


def trained(setting: Setting, depth: int, seed: int, rule: Rule, lr: float) -> Iterator[tuple[int, Learner]]:
    """A learner after 0, 1, ... updates, up to the last moment."""
    source = _text(setting.data)
    torch.manual_seed(seed)
    stack = PredictiveStack(source.observation(), [setting.units] * depth)
    config = TrainConfig(batch=setting.batch, lr=lr, steps=max(setting.moments), warmup=10)
    learner = Learner(stack, rule, config)
    lanes = Lanes(source.sequence("train"), setting.batch, setting.train_chunk)
    yield 0, learner
    for update in range(max(setting.moments)):
        x, restart = lanes.read(update)
        if restart:
            learner.forget()
        learner.update(Chunk.of_stream(x))
        yield update + 1, learner


def score_rows(setting: Setting, request: Request) -> list[Row]:
    """Held-out bits/char of stacks that each rule trained itself; a row a rule and seed."""
    passage = Chunk.of_stream(held_out(setting, setting.scored_steps))

    @torch.no_grad()
    def score(label: str, lr: float, seed: int) -> float:
        name, options = RULES[label]
        *_, (_, learner) = trained(setting, setting.scored_depth, seed, learning_rules.make(name, **options), lr)
        activity, _ = learner.stack.observe(passage.observations)
        return learner.stack.score_targets(activity, passage).surprise[-1].mean().item() / math.log(2)

    rows = []
    for label in RULES:
        search = {lr: score(label, lr, 0) for lr in setting.rates}
        best = min(search, key=lambda lr: search[lr] if math.isfinite(search[lr]) else math.inf)
        request.tell(f"alignment: {label} scores {search[best]:.3f} bits/char at rate {best:g}")
        for seed in range(request.seeds):
            bits = score(label, best, seed) if seed else search[best]
            about = {"rule": label, "seed": seed, "depth": setting.scored_depth, "lr": best}
            rows.append(about | {"bits": bits, "search": {f"{lr:g}": found for lr, found in search.items()}})
    return rows


def beside_the_score(rows: list[Row], scores: list[Row]) -> list[Row]:
    """A row a rule: its cosine, mean over layers and seeds, and its distance to truncated BPTT, best score first."""
    moment, depth = max(row["updates"] for row in rows), scores[0]["depth"]
    found = []
    for label in dict.fromkeys(row["rule"] for row in scores):
        at = [row for row in rows if (row["rule"], row["depth"], row["updates"]) == (label, depth, moment)]
        own, bptt = ([row for row in scores if row["rule"] == rule] for rule in (label, BPTT))
        gaps = [100 * (one["bits"] / other["bits"] - 1) for one, other in zip(own, bptt, strict=True)]
        row: Row = {"rule": label, "cosine": statistics.fmean(row["gates_cosine"] for row in at), "lr": own[0]["lr"]}
        row |= {"lowest_cosine": statistics.fmean(row["gates_cosine"] for row in at if row["layer"] == 1)}
        row |= {"bits": statistics.fmean(one["bits"] for one in own), "gap_percent": statistics.fmean(gaps)}
        found.append(row | {"gap_spread": statistics.stdev(gaps) if len(gaps) > 1 else None})
    return sorted(found, key=lambda row: row["bits"])


def summary(rows: list[Row], lags: list[Row], scores: list[Row], setting: Setting) -> list[str]:
    """Cosines of the lowest layer by depth, credit beyond the chunk, and what the cosine fails to rank."""
    moment, beside = max(setting.moments), beside_the_score(rows, scores)
    shallow, deep = min(setting.depths), max(setting.depths)
    beyond = min(lag for lag in setting.lags if lag > setting.lag_chunk)

    def lowest(rule: str, depth: int) -> float:
        return _mean(rows, "gates_cosine", rule=rule, depth=depth, updates=moment, layer=1)

    def credit(depth: int) -> str:
        return f"{100 * _mean(lags, 'share', rule='neighbour', depth=depth, lag=beyond, layer=1):.0f} %"

    def cosines(depth: int) -> str:
        told = (f"{rule} {lowest(rule, depth):.2f}" for rule in ("neighbour", "hierarchy", "top", "layer"))
        return f"{', '.join(told)}, BPTT truncated to {setting.chunk} steps {lowest(BPTT, depth):.2f}"

    pairs = math.comb(len(beside), 2)
    agree = sum((a["cosine"] > b["cosine"]) == (a["bits"] < b["bits"]) for a, b in combinations(beside, 2))
    wrong = [(a, b) for a, b in permutations(beside, 2) if a["cosine"] > b["cosine"] and a["bits"] > b["bits"]]
    ranking = (
        f"How far the cosine ranks rules: at {_layers(setting.scored_depth)} it puts {agree} of {pairs} pairs in the "
        "order of their scores"
    )
    if wrong:
        high, low = max(wrong, key=lambda pair: pair[0]["cosine"] - pair[1]["cosine"])
        ranking += f"; {_scored(low)} scores better than {_scored(high)}"

    def sentence(depth: int) -> str:
        verdict = "Wins" if lowest("neighbour", depth) >= lowest(BPTT, depth) else "Loses"
        return (
            f"{verdict}: with {_layers(depth)}, cosine of the lowest one's gradient with that of BPTT over the whole "
            f"passage: {cosines(depth)}; its credit to inputs beyond a chunk of {setting.lag_chunk} steps: by exact "
            f"traces (neighbour) {credit(depth)} of BPTT's, by truncated BPTT none."
        )

    return [
        *map(sentence, (shallow, deep)),
        f"{ranking}.",
    ]


def _layers(depth: int) -> str:
    return f"{depth} layer{'s' * (depth > 1)}"


def _scored(row: Row) -> str:
    return f"{row['rule']} (cosine {row['cosine']:.2f}, {row['bits']:.3f} bits/char, {row['gap_percent']:+.1f} %)"


def held_out(setting: Setting, steps: int) -> Tensor:
    """A passage of the validation split, [B, steps + 1]."""
    x, _ = Lanes(_text(setting.data).sequence("valid"), setting.batch, steps).read(0)
    return x


def gradient(rule: Rule, stack: PredictiveStack, chunks: Sequence[Chunk], state: Any = None) -> Gradient:
    """Sum of a rule's gradients over consecutive chunks under frozen weights, begun with empty traces."""
    stack.zero_grad(set_to_none=False)
    carry = rule.init(stack, chunks[0].observations.shape[0])
    with frozen(stack):
        for chunk in chunks:
            _, state, carry = rule.accumulate(stack, chunk, state, carry)
    found = []
    for layer in stack.layers:
        own = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in layer.named_parameters()}
        found.append({block: torch.cat([own[name].flatten() for name in names]) for block, names in BLOCKS.items()})
    stack.zero_grad(set_to_none=True)
    return found


def alignment_rows(stack: PredictiveStack, passage: Tensor, chunk: int) -> list[Row]:
    """Cosine with, and norm over, the gradient of BPTT over the whole passage [B, T + 1]; a row a rule and layer."""
    reference = gradient(learning_rules.make("bptt"), stack, [Chunk.of_stream(passage)])
    pieces = cut(Chunk.of_stream(passage), chunk)
    rows = []
    for label, (name, options) in RULES.items():
        found = gradient(learning_rules.make(name, **options), stack, pieces)
        for level, (own, wanted) in enumerate(zip(found, reference, strict=True), 1):
            row: Row = {"rule": label, "layer": level}
            for block in BLOCKS:
                mean = own[block] / len(pieces)
                row[f"{block}_cosine"] = _cosine(mean, wanted[block])
                row[f"{block}_norm_ratio"] = _ratio(mean.norm(), wanted[block].norm())
            rows.append(row)
    return rows


def lag_rows(stack: PredictiveStack, passage: Tensor, setting: Setting) -> list[Row]:
    """Credit of the gates per lag: a row a rule, layer and lag band (half the lag, excluded, to the lag).

    `share` is the part of BPTT's credit of that lag that the rule gives, <own, BPTT's> / |BPTT's|^2; `norm` is in
    parts of BPTT's whole gradient.
    """
    whole = {REFERENCE: ("bptt", {}), **RULES}
    credits = {
        label: credit_per_lag(
            learning_rules.make(name, **options),
            stack,
            passage,
            setting.lags,
            max(setting.lags) if label == REFERENCE else setting.lag_chunk,
        )
        for label, (name, options) in whole.items()
    }
    rows = []
    for label, per_layer in credits.items():
        for level, (bands, wanted) in enumerate(zip(per_layer, credits[REFERENCE], strict=True), 1):
            total = torch.stack(wanted).sum(0).norm()
            for lag, own, reference in zip(setting.lags, bands, wanted, strict=True):
                rows.append(
                    {
                        "rule": label,
                        "layer": level,
                        "lag": lag,
                        "norm": _ratio(own.norm(), total),
                        "share": _ratio(own @ reference, reference @ reference),
                        "cosine": _cosine(own, reference),
                    }
                )
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
        pieces = cut(Chunk.of_stream(passage[:, steps - lag :]), chunk)
        counted = [torch.zeros(piece.targets.shape, dtype=torch.bool) for piece in pieces]
        counted[-1][:, -1] = True
        masked = [piece._replace(mask=mask) for piece, mask in zip(pieces, counted, strict=True)]
        up_to.append(gradient(rule, stack, masked, state))
    per_layer = []
    for layer in range(len(stack.layers)):
        sums = [found[layer]["gates"] for found in up_to]
        per_layer.append([sums[0], *(after - before for before, after in pairwise(sums))])
    return per_layer


def _text(spec: str) -> TextSource:
    source = open_source(spec)
    if not isinstance(source, TextSource):
        raise ValueError(f"alignment: expected a text, got {source.kind} from {spec}")
    return source


def _cosine(own: Tensor, wanted: Tensor) -> float:
    """0 where one of the two is no direction at all."""
    return _ratio(own @ wanted, own.norm() * wanted.norm())


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _mean_by_layer(rows: list[Row], key: str) -> str:
    """Means over seeds, bottom layer first."""
    layers = sorted({row["layer"] for row in rows})
    means = [statistics.fmean(row[key] for row in rows if row["layer"] == layer) for layer in layers]
    return " ".join(f"{mean:.2f}" for mean in means)


def _markdown(rows: list[Row], scores: list[Row], said: list[str], setting: Setting, out: Path) -> Path:
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
    columns = {
        "depth": "layers",
        "updates": "updates done",
        "rule": "rule",
        "cosine": "cosine with BPTT, layer 1 first",
        "norm": "norm over BPTT's, layer 1 first",
    }
    beside = [
        row | {"gap": f"{row['gap_percent']:+.1f} %" + ("" if (s := row["gap_spread"]) is None else f" ± {s:.1f}")}
        for row in beside_the_score(rows, scores)
    ]
    headings = {"rule": "rule", "cosine": "cosine, mean over layers", "lowest_cosine": "cosine of layer 1"}
    headings |= {"bits": "bits/char", "gap": "against bptt, truncated", "lr": "rate"}
    about = f"{setting.scored_depth} layers of {setting.units}, {max(setting.moments)} updates of {setting.batch} x "
    about += f"{setting.train_chunk} characters, each rule at its own best rate; best score first."
    parts = [*said, READING, record.table(shown, columns), "## Beside the score", about, record.table(beside, headings)]
    return record.markdown("alignment", "Alignment with BPTT", parts, out)


def _picture(rows: list[Row], lags: list[Row], scores: list[Row], setting: Setting, out: Path) -> list[Path]:
    """Above: cosine of every layer, as a table of colours; below: over training, per lag, and beside the score."""
    import seaborn

    from pcrnn.plots import canvas

    moment, depth = max(setting.moments), setting.scored_depth
    palette = [colour for i, colour in enumerate(seaborn.color_palette("colorblind", 10)) if i not in UNFIT]
    colours = {REFERENCE: canvas.FAINT, BPTT: canvas.INK}
    colours |= dict(zip((rule for rule in RULES if rule != BPTT), palette, strict=False))
    with canvas.canvas(13.0, 8.6) as figure:
        how = (
            f"weights of the gates; stacks of {setting.units} units trained by BPTT on {setting.data}; means over seeds"
        )
        canvas.heading(
            figure, "Where each rule's gradient points, against BPTT over the whole passage", how, canvas.NO_INFO
        )
        upper = figure.add_gridspec(1, 1, left=0.12, right=0.98, top=0.87, bottom=0.52)
        lower = figure.add_gridspec(1, 3, left=0.055, right=0.885, top=0.41, bottom=0.07, wspace=0.95)
        table = figure.add_subplot(upper[0])
        columns = [(d, layer) for d in setting.depths for layer in range(1, d + 1)]
        cosines = [
            [_mean(rows, "gates_cosine", rule=rule, depth=d, layer=layer, updates=moment) for d, layer in columns]
            for rule in RULES
        ]
        table.imshow(cosines, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for y, line in enumerate(cosines):
            for x, cosine in enumerate(line):
                ink = "white" if cosine < 0.6 else "black"
                table.text(x, y, f"{cosine:.2f}", ha="center", va="center", color=ink, size=9.5)
        table.set_yticks(range(len(RULES)), list(RULES))
        table.set_xticks(
            range(len(columns)),
            [f"{d} layer{'s' * (d > 1)}\nlayer {layer}" if layer == 1 else f"layer {layer}" for d, layer in columns],
        )
        for x, (_, layer) in enumerate(columns):
            if layer == 1 and x:
                table.axvline(x - 0.5, color="white", linewidth=6)
        table.tick_params(length=0)
        seaborn.despine(ax=table, left=True, bottom=True)
        table.set_title(
            f"Cosine after {moment} updates: 1 is BPTT's own direction (passage cut into chunks of {setting.chunk})",
            size=10.5,
        )

        panels = [figure.add_subplot(lower[column]) for column in range(3)]
        over, per_lag, beside = panels
        style = {"marker": "o", "markersize": 4, "linewidth": 1.4}
        ends = {panel: [] for panel in (over, per_lag)}
        for rule in RULES:
            points = [_mean(rows, "gates_cosine", rule=rule, depth=depth, updates=at) for at in setting.moments]
            over.plot(range(len(points)), points, color=colours[rule], **style)
            ends[over].append(canvas.EndLabel(points[-1], rule, colours[rule]))
        over.set_xticks(range(len(setting.moments)), [f"{at}" for at in setting.moments])
        over.set(xlabel="updates done", ylabel="cosine, mean over layers", ylim=(min(0, over.get_ylim()[0]), 1.03))
        over.set_title(f"Over training, {depth} layers", size=10.5)
        for rule in (REFERENCE, BPTT, "neighbour", "top", "layer", "neighbour, none"):
            shown = [(lag, _mean(lags, "norm", rule=rule, depth=depth, lag=lag, layer=1)) for lag in setting.lags]
            shown = [(lag, norm) for lag, norm in shown if norm > LEAST_CREDIT]
            per_lag.plot(*zip(*shown, strict=True), color=colours[rule], **style)
            ends[per_lag].append(canvas.EndLabel(shown[-1][1], rule, colours[rule]))
        per_lag.set_xscale("log", base=2)
        per_lag.set(yscale="log", xlabel="lag, steps (dashed: the chunk)", ylabel="credit, of BPTT's whole")
        for axis in (per_lag.xaxis, per_lag.yaxis):
            axis.set_major_formatter("{x:g}")
        per_lag.axvline(setting.lag_chunk, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        per_lag.set_title(f"Credit per lag, layer 1 of {depth}", size=10.5)
        found = beside_the_score(rows, scores)
        for row in found:
            spread = row["gap_spread"] or 0.0
            beside.errorbar(
                row["cosine"], row["gap_percent"], spread, color=colours[row["rule"]], fmt="o", markersize=6
            )
        beside.axhline(0, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        beside.set(xlabel="cosine, mean over layers", ylabel="bits/char over truncated BPTT, %")
        beside.set_title("The score beside it: lower is better", size=10.5)
        for panel, labels in ends.items():
            canvas.label_ends(panel, labels)
        canvas.label_ends(
            beside, [canvas.EndLabel(row["gap_percent"], row["rule"], colours[row["rule"]]) for row in found]
        )
        for panel in panels:
            seaborn.despine(ax=panel)
        return canvas.save(figure, out / "alignment")


def _mean(rows: list[Row], key: str, **where: Any) -> float:
    """Mean of `key` over the rows that are so."""
    return statistics.fmean(row[key] for row in rows if all(row[name] == value for name, value in where.items()))
