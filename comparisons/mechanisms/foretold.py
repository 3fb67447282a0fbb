"""How well a layer knows what comes: the same stacks plain, with top-down expectations, with inference steps.

    pcrnn compare foretold [--quick] [--seeds 3] [--only local] [--data FILE]

On held-out text, of every layer: its state surprise, and the share of its output that nobody expected,
mean |r_t - r_hat_t|^2 / mean |r_t|^2, which does not depend on how large outputs are; of the stack, bits a character.
All ways learn from equal updates, each at its own best rate from the same search on the first seed, by the bits. Of
top-down expectations the top layer, with nobody above it, is the control.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from pcrnn import PredictiveStack
from pcrnn.analysis.evaluate import evaluating
from pcrnn.config import TrainConfig
from pcrnn.data import TextSource, open_as
from pcrnn.errors import DivergedError

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..pictures import colours, counted, drawing
from ..quality.contenders import CONTENDERS, LOCAL_AND_BPTT, Training
from ..quality.tasks import Stream, Task
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, search_by_rate, search_rate
from ..suite import Request

PLAIN = "plain"
WAYS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "top-down": {"top_down": True},
    **{counted(steps, "inference step"): {"inference_steps": steps} for steps in (1, 5)},
}


@dataclass(frozen=True, kw_only=True)
class ForetoldSetup:
    """The stack, how it learns, and how much of the held-out text counts."""

    base: TrainConfig
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)
    widenings: int = WIDENINGS
    limit: int | None = None


FULL = ForetoldSetup(base=TrainConfig(hidden=(64, 64, 64), batch=16, chunk=64, steps=250, evaluate_every=0))
QUICK = ForetoldSetup(
    base=replace(FULL.base, hidden=(8, 8), batch=2, chunk=8, steps=4, warmup=1),
    rates=(3e-3, 5e-3),
    widenings=WIDENINGS_QUICK,
    limit=200,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    task = Stream(open_as(TextSource, str(request.data or "pydoc")), setup.base, setup.limit)
    rows = []
    for rule in request.chosen(LOCAL_AND_BPTT):
        for way, options in WAYS.items():
            about = {"rule": rule, "way": way}
            rows += [about | row for row in searched_rows(task, rule, options, setup, range(request.seeds))]
            request.tell("{rule}, {way}: {metric:.4f} {unit} at rate {lr:g}".format(**rows[-1], unit=task.unit))
    sentences = summary(rows)
    return record.publish(
        request.out,
        "foretold",
        "What a layer knows of its next state",
        config={"seeds": request.seeds, "base": setup.base.as_mapping(), "rates": setup.rates, "unit": task.unit},
        rows=rows,
        parts=[table(rows), *sentences, *edge_note(rows)],
        draw=lambda stem: draw(rows, stem),
        summary=sentences,
    )


def searched_rows(
    task: Task, rule: str, options: Mapping[str, Any], setup: ForetoldSetup, seeds: Sequence[int]
) -> list[Row]:
    """A row a seed of one rule and way, at its best rate.

    Raises DivergedError where all rates diverge, or a seed at the rate that was best on the first.
    """

    def train(rate: float, seed: int) -> Row | DivergedError:
        try:
            return measure(task, LOCAL_AND_BPTT[rule], replace(setup.base, lr=rate, seed=seed, **options))
        except DivergedError as error:
            return error

    def metric(row: Row | DivergedError) -> float | None:
        return None if isinstance(row, DivergedError) else row["metric"]

    found = search_rate(setup.rates, seeds, train, metric, setup.widenings)
    about = {"lr": found.rate, "at_edge": found.at_edge}
    about["search"] = search_by_rate({rate: metric(row) for rate, row in found.tried.items()})
    rows = []
    for seed, row in zip(seeds, found.results, strict=True):
        if isinstance(row, DivergedError):
            raise row
        rows.append(about | {"seed": seed} | row)
    return rows


def measure(task: Task, contender: str, base: TrainConfig) -> Row:
    """Train one stack; its metrics on the held-out text, a list with an entry a layer where there are several."""
    training = Training(task, CONTENDERS[contender], CONTENDERS[contender].settings(base))
    for _ in range(base.steps):
        training.update()
    stack = cast(PredictiveStack, training.model)
    state, surprise, count = None, 0.0, 0
    residual, whole, state_surprise = torch.zeros(3, len(stack.layers), dtype=torch.float64)
    with torch.no_grad(), evaluating(stack):
        for chunk, restart in task.parts("test"):
            activity, state = stack.observe(chunk.observations, None if restart else state)
            if chunk.mask is not None:  # the context
                continue
            surprise += stack.score_targets(activity, chunk).surprise[-1].sum().item()
            count += chunk.targets.numel()
            state_surprise += activity.state_surprise.double().sum((1, 2))
            residual += torch.stack([layer.saved.state_residual.double().square().sum() for layer in activity.layers])
            whole += torch.stack([layer.output.double().square().sum() for layer in activity.layers])
    return {
        "metric": surprise / count / task.nats_per_unit,
        "state_surprise": (state_surprise / count).tolist(),
        "unexpected": (residual / whole).tolist(),
    }


def rules(rows: list[Row]) -> list[str]:
    """Those that were measured."""
    return [rule for rule in LOCAL_AND_BPTT if any(row["rule"] == rule for row in rows)]


def of(rows: list[Row], rule: str, way: str, what: str) -> list[Any]:
    """One metric of every seed."""
    return [row[what] for row in rows if (row["rule"], row["way"]) == (rule, way)]


def means(rows: list[Row], rule: str, way: str, what: str) -> list[tuple[float, float]]:
    """Mean and spread over seeds of every layer's metric."""
    seeds = of(rows, rule, way, what)
    spread = statistics.stdev if len(seeds) > 1 else lambda values: 0.0
    return [(statistics.mean(values), spread(values)) for values in zip(*seeds, strict=True)]


def summary(rows: list[Row]) -> list[str]:
    """What each way changes against the plain stack, a sentence a rule and way; the bits where searches allow it."""
    sentences = []
    for rule in rules(rows):
        before, plain = means(rows, rule, PLAIN, "unexpected"), of(rows, rule, PLAIN, "metric")
        for way in list(WAYS)[1:]:
            pairs = zip(before, means(rows, rule, way, "unexpected"), strict=True)
            shares = ", ".join(f"layer {n} {a:.1%} to {b:.1%}" for n, ((a, _), (b, _)) in enumerate(pairs, 1))
            searches = {
                name: next(row for row in rows if (row["rule"], row["way"]) == (rule, name)) for name in (PLAIN, way)
            }
            if reason := no_claim(searches):
                sentences.append(_shares(rule, way, shares) + f"{NO_CLAIM.lower()} of bits a character: {reason}.")
                continue
            gaps = [100 * (b / a - 1) for a, b in zip(plain, of(rows, rule, way, "metric"), strict=True)]
            gap = mean_and_spread("mean", "spread", gaps)
            spread = "" if gap["spread"] is None else f" ± {gap['spread']:.1f}"
            bits = f"bits a character {gap['mean']:+.1f} %{spread}"
            sentences.append(_shares(rule, way, shares) + f"{bits}.")
    return sentences


def _shares(rule: str, way: str, shares: str) -> str:
    return f"{rule}, {way}: what nobody expected of the output goes from {shares}; "


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    return found | {"summary": summary(found["rows"])}


def table(rows: list[Row]) -> str:
    """A row for every rule and way: means and spreads over seeds."""
    shown = []
    for rule in rules(rows):
        for way in WAYS:
            of_way = next(row for row in rows if (row["rule"], row["way"]) == (rule, way))
            row: Row = {"rule": rule, "way": way, "rate": shown_rate(of_way)}
            row |= mean_and_spread("metric", "spread", of(rows, rule, way, "metric"))
            for what in ("unexpected", "state_surprise"):
                for layer, (mean, spread) in enumerate(means(rows, rule, way, what), 1):
                    row[f"{what}, layer {layer}"] = f"{mean:.4g} ± {spread:.2g}"
            shown.append(row)
    names = {"metric": "bits/char", "spread": "± (seeds)"}
    columns: dict[str, str] = {key: names.get(key, key.replace("_", " ")) for key in map(str, shown[0])}
    return record.table(shown, columns)


def draw(rows: list[Row], stem: Path) -> None:
    """Share of every layer's output that nobody expected, a panel a rule, a colour a way."""
    shown, layers = rules(rows), len(rows[0]["unexpected"])
    how = "share of a layer's output that nobody expected; held-out text, equal updates, a dot a seed"
    title = "What a layer knows of its next state"
    with drawing(stem, title, how, max(7.4, 2.2 + 3.2 * len(shown)), 3.4) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, rule in zip(panels, shown, strict=True):
            for place, (way, colour) in enumerate(colours(WAYS).items()):
                for number, shares in enumerate(of(rows, rule, way, "unexpected")):
                    at = [layer + 0.16 * (place - (len(WAYS) - 1) / 2) for layer in range(1, layers + 1)]
                    label = None if number else way
                    axes.plot(at, [100 * share for share in shares], "o", color=colour, alpha=0.75, label=label)
            axes.set_xticks(range(1, layers + 1), [f"layer {n}" for n in range(1, layers)] + [f"layer {layers} (top)"])
            axes.set(title=rule, xlim=(0.5, layers + 0.5))
        panels[0].set_ylabel("not expected, %")
        panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
