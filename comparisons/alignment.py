"""How far each rule's gradient points where BPTT's does: per layer, per moment of training, and per lag.

    python -m comparisons alignment [--quick] [--seeds 3]

The stack is trained by BPTT, and at some moments its weights are frozen and every rule goes over the same passage of
held-out text, cut into chunks. The reference is BPTT over the whole passage at once, so a rule is charged both for
what it does not hear from the layers above and for what it forgets at chunk borders. Compared are the gates' weights
W and b, the ones that need credit through depth and time; readouts and state predictors are in the record too.

Credit per lag: only the last step's loss counts and the rule begins h steps before it with empty traces. What its
gradient gains as h goes from H / 2 to H is the credit it gives to inputs that long ago.

Shapes: B batch, T time.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from comparisons import record
from comparisons.learner import Learner, cut
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
REFERENCE = "bptt, whole"
BLOCKS = {"gates": ("weight", "bias"), "readout": ("readout",), "predictor": ("predictor",)}

READING = """\
What it predicts: a cosine near 0 with BPTT at the first updates means that a layer is not trained for the stack's loss
at all, and a credit of 0 beyond some lag means that nothing further back can be learned except by chance features.
What it does not predict: which of two usable rules scores better. `layer` descends a loss of its own in every layer,
so its gradient should differ from BPTT's where that loss differs; rules of cosine 0.5 have beaten exact gradients on
forecasting (Marschall, Cho & Savin 2020), and a cosine says nothing of what an optimiser that rescales every
coordinate makes of the gradient. Read it beside the scores of the suite `quality`, never in their place."""

Row = dict[str, Any]
Gradient = list[dict[str, Tensor]]  # a flat vector a block, one dictionary a layer, bottom first


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and where and how it is looked at."""

    data: str = "pydoc"
    depths: tuple[int, ...] = (1, 3, 6)
    units: int = 128
    batch: int = 16
    train_chunk: int = 64
    lr: float = 3e-3
    moments: tuple[int, ...] = (0, 50, 200)  # updates done
    steps: int = 256  # of the passage
    chunk: int = 32  # that the rules cut the passage into
    lags: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)  # the passage ends so many steps after the rule began
    lag_chunk: int = 16
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
    config = asdict(setting) | {"rules": RULES, "seeds": request.seeds, "reading": READING}
    path = record.write("alignment", config, rows, request.out, lags=lags)
    return [path, _markdown(rows, request.out), *_picture(rows, lags, setting, request.out)]


def moments(setting: Setting, depth: int, seed: int) -> Iterable[tuple[int, PredictiveStack]]:
    """A stack trained by BPTT, handed out (not to be changed) after so many updates."""
    source = _text(setting.data)
    torch.manual_seed(seed)
    stack = PredictiveStack(source.observation(), [setting.units] * depth)
    config = TrainConfig(batch=setting.batch, lr=setting.lr, steps=max(setting.moments), warmup=10)
    learner = Learner(stack, learning_rules.make("bptt"), config)
    lanes = Lanes(source.sequence("train"), setting.batch, setting.train_chunk)
    for update in range(max(setting.moments) + 1):
        if update in setting.moments:
            yield update, stack
        x, restart = lanes.read(update)
        if restart:
            learner.forget()
        learner.update(Chunk.of_stream(x))


def held_out(setting: Setting, steps: int) -> Tensor:
    """A passage of the validation split, [B, steps + 1]."""
    x, _ = Lanes(_text(setting.data).sequence("valid"), setting.batch, steps).read(0)
    return x


def gradient(rule: Rule, stack: PredictiveStack, chunks: Sequence[Chunk], state: Any = None) -> Gradient:
    """Sum of a rule's gradients over consecutive chunks under frozen weights, begun with empty traces."""
    stack.zero_grad(set_to_none=False)
    carry = rule.init(stack, chunks[0].observations.shape[0])
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


def _markdown(rows: list[Row], out: Path) -> Path:
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
    return record.markdown("alignment", "Alignment with BPTT", [READING, record.table(shown, columns)], out)


def _picture(rows: list[Row], lags: list[Row], setting: Setting, out: Path) -> list[Path]:
    """Above: cosine of every layer at the last moment; below: credit per lag of the lowest layer."""
    import seaborn

    from pcrnn.plots import canvas

    moment = max(setting.moments)
    labels = [REFERENCE, *RULES]
    colours = dict(zip(labels, [canvas.INK, *seaborn.color_palette("colorblind", len(RULES))], strict=True))
    with canvas.canvas(11.0, 7.2) as figure:
        how = f"gates of a stack trained by BPTT for {moment} updates on {setting.data}; means over seeds"
        canvas.heading(figure, "Each rule's gradient against BPTT's", how, canvas.NO_INFO)
        grid = figure.subplots(2, len(setting.depths), squeeze=False)
        figure.subplots_adjust(left=0.08, right=0.82, top=0.86, bottom=0.08, hspace=0.36, wspace=0.3)
        for column, depth in enumerate(setting.depths):
            upper, lower = grid[0][column], grid[1][column]
            here = [row for row in rows if row["depth"] == depth and row["updates"] == moment]
            beyond = [row for row in lags if row["depth"] == depth and row["updates"] == moment and row["layer"] == 1]
            for label in labels:
                style = {"color": colours[label], "marker": "o", "markersize": 4, "linewidth": 1.4}
                if label != REFERENCE:
                    upper.plot(*_means(here, label, "layer", "gates_cosine"), **style)
                lower.plot(*_means(beyond, label, "lag", "norm"), label=label, **style)
            upper.set(title=f"{depth} layer{'s' * (depth > 1)}", xlabel="layer", ylim=(-0.4, 1.05))
            upper.set_xticks(range(1, depth + 1))
            lower.set_xscale("log", base=2)
            lower.set(yscale="log", xlabel=f"lag, steps (chunk {setting.lag_chunk})", ylim=(1e-4, 3))
            for axis in (lower.xaxis, lower.yaxis):
                axis.set_major_formatter("{x:g}")
            lower.axvline(setting.lag_chunk, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        grid[0][0].set_ylabel(f"cosine with BPTT (chunk {setting.chunk})")
        grid[1][0].set_ylabel("credit of layer 1, of BPTT's whole")
        figure.legend(
            *grid[1][0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.83, 0.5), frameon=False
        )
        return canvas.save(figure, out / "alignment")


def _means(rows: list[Row], rule: str, x: str, y: str) -> tuple[list[int], list[float]]:
    """Mean of `y` over seeds at every `x` of one rule."""
    own = [row for row in rows if row["rule"] == rule]
    places = sorted({row[x] for row in own})
    return places, [statistics.fmean(row[y] for row in own if row[x] == place) for place in places]
