"""All results on one self-contained page, the README's table and docs/results.md; every number is of a suite's JSON.

    pcrnn compare report [--out DIR]

The page begins with verdicts: where local learning loses, where it is level, where it wins, and what it costs; see
`page`. Tables of the README are made by the parts below, from the records alone.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pcrnn.writing import write_file

from . import record
from .claims import edge, edge_note, marked
from .mechanisms import alignment, foretold, long_lags, online
from .page import command, html_page
from .quality import applications, axes, curves, quality, study, tagging
from .quality.contenders import BPTT, OUTSIDE
from .record import ROOT, Row, losses_first
from .search import mean_and_spread
from .streams import detection, streams
from .streams.one_stream import TEXT, WEATHER
from .streams.parts import of_part
from .suite import SUITES

README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
START, END = "<!-- results -->", "<!-- /results -->"

OF_A_DENSITY = "of a density in nats, which have no zero to take percent of"
SHOWN_LENGTHS = (128, 2048, 8192, 65536)
SHOWN_RULES = ("bptt, truncated", "hierarchy", "neighbour", "top", "layer")
SHOWN_WAYS = ("iterations: 5", "iterations: 20", "iterations: 100", "neighbour, 1 layer")
SHOWN_WAYS += ("layer, 3 layers", "neighbour, 3 layers")


def build(results: Path, readme: Path = README, results_page: Path = RESULTS_PAGE) -> list[Path]:
    """Write `results`/index.html; where the results are the repository's, refresh the README and docs/results.md."""
    records = read(results)
    page = results / "index.html"
    results.mkdir(parents=True, exist_ok=True)
    numbers = "\n\n".join(part for name in TABLES if name in records for part in README_PARTS[name](records[name]))
    write_file(page, html_page(records, results, numbers))
    if results.resolve() != (ROOT / record.RESULTS).resolve():
        return [page]
    write_file(readme, refreshed(readme.read_text(encoding="utf-8"), records))
    write_file(results_page, site_page(records))
    return [page, readme, results_page]


def read(results: Path) -> dict[str, Row]:
    """The records there are, by suite, in the order of the suites.

    What they claim is made anew from their rows, so that nothing is claimed that their searches do not allow.
    """
    paths = {name: results / f"{name}.json" for name in SUITES}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    again = {name: RESTATED.get(name, lambda same: same)(each) for name, each in found.items()}
    return {
        name: each | {"summary": losses_first(each["summary"])} if "summary" in each else each
        for name, each in again.items()
    }


RESTATED: dict[str, Callable[[Row], Row]] = {
    "quality": quality.restated,
    "applications": applications.restated,
    "depth": axes.DEPTH.restated,
    "chunks": axes.CHUNKS.restated,
    "curves": curves.restated,
    "tagging": tagging.restated,
    "long_lags": long_lags.restated,
    "alignment": alignment.restated,
    "online": online.restated,
    "foretold": foretold.restated,
    "streams": streams.restated,
}
"""Suites that search for learning rates, and how a record's distances and sentences are made from its rows."""


# The README


def refreshed(text: str, records: dict[str, Row]) -> str:
    """The README with its results, between the two markers, made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README: expected the markers {START} and {END}, in this order")
    return f"{before}{START}\n{readme_section(records)}\n{END}{after}"


def site_page(records: dict[str, Row]) -> str:
    """The documentation's page of results: what the README has, under a heading."""
    return f"# Results\n\n{readme_section(records)}\n"


def readme_section(records: dict[str, Row]) -> str:
    """What stands between the markers: tables and sentences, and where each came from."""
    return "\n\n".join(part for name in README_PARTS if name in records for part in README_PARTS[name](records[name]))


def quality_part(result: Row) -> list[str]:
    """The rules at exact traces beside BPTT and networks that are no stacks, a column for every data set."""
    shown = ("bptt", "neighbour, exact", "cascade, exact", "hierarchy, exact", "top, exact", "layer, exact")
    cells: dict[str, dict[str, str]] = {rule: {"rule": rule} for rule in (*shown, *OUTSIDE)}
    columns = {"rule": "learner"}
    for row in result["rows"]:
        if row["data"] == quality.ABLATED:  # the page has it
            continue
        columns[row["data"]] = f"{row['data']}, {row['unit']}"
        if row["rule"] in cells:
            cells[row["rule"]][row["data"]] = _with_gap(row)
    rows = [row for row in cells.values() if len(row) > 1]
    caption = f"Held-out surprise, and the distance to BPTT (± over seeds; below 0 is better; {OF_A_DENSITY})"
    return _parts([record.table(rows, columns)], caption, "quality", result, result["rows"])


def applications_part(result: Row) -> list[str]:
    """BPTT, the local rule that does best, nn.LSTM, nn.GRU, and what stands beside them, a line for every measure."""
    lines = []
    for (application, measure), group in applications.grouped(result["rows"]).items():
        line = {"metric": f"{application}, {measure}"}
        local = applications.local_rule(result["rows"], application)
        for row in group:
            if row["who"] in (BPTT, *applications.NETWORKS):
                line[row["who"]] = marked(applications.plus_minus(row), row)
            elif local is not None and row["who"] == local["who"]:
                line["local"] = marked(f"{applications.plus_minus(row)} ({row['who'].partition(',')[0]})", row)
        lines.append(line | {"beside": beside([row for row in group if not row["learns"]])})
    columns = {"metric": "application", "bptt": "bptt", "local": "local"}
    columns |= {network: study.called(network) for network in applications.NETWORKS} | {"beside": "beside"}
    caption = "Applications: mean ± spread over seeds, nn.LSTM and nn.GRU with as many parameters"
    learned = [row for row in result["rows"] if row["learns"]]
    return _parts([record.table(lines, columns)], caption, "applications", result, learned)


def beside(rows: list[Row]) -> str:
    """Scores that need no learning, then those that others published."""
    published = [row for row in rows if row["who"].endswith(applications.PUBLISHED)]
    parts = {"": [row for row in rows if row not in published], "published: ": published}
    listed = {
        kind: [f"{row['who'].partition(',')[0]} {row['metric']:.4g}" for row in group] for kind, group in parts.items()
    }
    return "; ".join(kind + ", ".join(scores) for kind, scores in listed.items() if scores)


def depth_part(result: Row) -> list[str]:
    """Distance to BPTT, a table for every data set and budget, a column for every depth."""
    tables = [
        _along(
            group, lambda row: f"{row['layers']} layers of {row['units']}", f"learner, {group[0]['updates']} updates"
        )
        for group in axes.DEPTH.panels(result["rows"]).values()
    ]
    caption = "Stacks of equal parameters and the distance to BPTT after so many updates"
    return _parts(tables, caption, "depth", result, result["rows"])


def chunks_part(result: Row) -> list[str]:
    """Distance to BPTT truncated to the same chunk, a column for every chunk."""
    caption = "The same stack in chunks of so many steps, and the distance to BPTT truncated to the same chunk"
    caption += f" ({OF_A_DENSITY})"
    table = _along(result["rows"], lambda row: f"chunks of {row['chunk']}")
    return _parts([table], caption, "chunks", result, result["rows"])


def _along(measured: Sequence[Row], place: Callable[[Row], str], learner: str = "learner") -> str:
    """A row a learner, a column for every data set and place."""
    rows: dict[str, dict[str, str]] = {}
    columns = {"rule": learner}
    for row in measured:
        key = f"{row['data']}, {place(row)}"
        columns[key] = f"{key}, {row['unit']}"
        rows.setdefault(row["rule"], {"rule": row["rule"]})[key] = _with_gap(row)
    return record.table(list(rows.values()), columns)


def _parts(tables: list[str], caption: str, suite: str, result: Row, rows: Sequence[Row]) -> list[str]:
    """Tables of learners whose rates were searched for, the caption below them, and what a mark in them means."""
    about = " ".join([f"{caption}, each learner at the best rate of its search.", *edge_note(rows)])
    return [*tables, f"{about} {command(suite, result)}"]


def cost_part(result: Row) -> list[str]:
    """Multiply-adds against BPTT's and numbers between layers, a row a rule."""
    columns, rows = {"rule": "learner"}, {}
    for row in result["rows"]:
        stack = f"{row['layers']} layers of {row['units']}"
        columns |= {stack: f"multiply-adds, {stack}", f"{stack}, down": f"numbers down a border, {stack}"}
        columns["broadcast"] = "broadcast"
        cells = {stack: f"{row['against_bptt']:.2f}", f"{stack}, down": f"{row['down']:.0f}"}
        rows.setdefault(row["rule"], {"rule": row["rule"], "broadcast": str(row["broadcast"])}).update(cells)
    caption = "What a step costs: multiply-adds of all matrix products against BPTT's, and numbers that come down"
    return [record.table(list(rows.values()), columns), f"{caption}, counted. {command('cost', result)}"]


def speed_part(result: Row) -> list[str]:
    """Tokens a second of the stack of the example."""
    columns = {"rule": "rule", "tokens_per_second": "tokens/s", "speed_against_bptt": "against BPTT"}
    config = result["config"]
    stack = f"{len(config['hidden'])} layers of {config['hidden'][0]}, {config['batch']} x {config['chunk']} symbols"
    return [record.table(result["rows"], columns), f"Whole updates, {stack}. {command('speed', result)}"]


def memory_part(result: Row) -> list[str]:
    """Peak memory at the lengths both were run at, and beyond."""
    columns = {"length": "steps", "local_mib": "local, MiB", "bptt_mib": "full-length BPTT, MiB"}
    beyond = f"over {result['config']['budget_mib']}"
    rows = [{**row, "bptt_mib": row["bptt_mib"] or beyond} for row in result["rows"] if row["length"] in SHOWN_LENGTHS]
    caption = (
        "Growth of the peak over that of the process before it began to learn; what is over the budget is not run."
    )
    return [record.table(rows, columns), f"{caption} {command('memory', result)}"]


def inference_part(result: Row) -> list[str]:
    """What a gradient costs by inference and by the local rule, means over seeds."""
    rows = []
    for way in SHOWN_WAYS:
        seeds = [row for row in result["rows"] if row["way"] == way]
        if not seeds:
            continue
        means = {key: statistics.fmean(row[key] for row in seeds) for key in ("cosine", "times_bptt")}
        shown = {"cosine": f"{means['cosine']:.3f}", "times": f"{means['times_bptt']:.2f}"}
        rows.append(shown | {"way": f"{seeds[0]['method']}, {way}"})
    columns = {"way": "gradient by", "cosine": "cosine with BPTT", "times": "CPU time over BPTT"}
    return [record.table(rows, columns), f"Untrained weights, equal parameters. {command('inference_cost', result)}"]


def long_lags_part(result: Row) -> list[str]:
    """The suite's own sentences, as a list."""
    sentences = result.get("summary", ())
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    return [listed, f"Lags of copying and adding that are solved. {command('long_lags', result)}"] if sentences else []


def alignment_part(result: Row) -> list[str]:
    """Cosine of the lowest layer at every depth, after training, beside the score; means over seeds."""
    config, last = result["config"], [r for r in result["rows"] if r["updates"] == max(result["config"]["moments"])]
    lowest = [row for row in last if row["layer"] == 1 and row["rule"] in SHOWN_RULES]
    rows = []
    for scored in alignment.beside_the_score(result["rows"], result["scores"]):
        row = {"rule": scored["rule"], "score": _with_gap({**scored, "metric": scored["bits"]})}
        for layers in config["depths"]:
            at = [one["gates_cosine"] for one in lowest if (one["rule"], one["depth"]) == (scored["rule"], layers)]
            row |= {f"{layers}": f"{statistics.fmean(at):.2f}"} if at else {}
        rows += [row] if scored["rule"] in SHOWN_RULES else []
    columns = {"rule": "rule"} | {f"{layers}": f"cosine, {layers} deep" for layers in config["depths"]}
    columns["score"] = f"bits/char, {config['scored_depth']} deep"
    caption = "Gradient of the lowest layer beside whole BPTT's, and what each rule scores"
    about = " ".join([f"{caption}.", *edge_note(result["scores"])])
    return [record.table(rows, columns), f"{about} {command('alignment', result)}"]


def online_part(result: Row) -> list[str]:
    """Distance to truncated BPTT over the whole stream; a column an interval."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    columns = {"stream": "stream", "rule": "rule"}
    for row in online.means(result["rows"]):
        if row["rule"] == online.BPTT:
            continue
        stream = f"{row['stream']}, {row['unit']}"
        cell = cells.setdefault((stream, row["rule"]), {"stream": stream, "rule": row["rule"]})
        cell[f"{row['interval']}"] = marked(online.gap(row), row) if row["gap"] is None else online.gap(row)
        columns[f"{row['interval']}"] = f"update every {row['interval']}"
    caption = "Streams that change in the middle: distance to BPTT truncated to the same chunk (below 0 is better)"
    about = " ".join([f"{caption}.", *edge_note(result["rows"])])
    return [record.table(list(cells.values()), columns), f"{about} {command('online', result)}"]


def streams_part(result: Row) -> list[str]:
    """Surprise of every contender, what a step costs, and what the surprise is worth as an anomaly detector's."""
    lines: dict[str, dict[str, str]] = {}
    columns = {"who": "learner"}
    for setup in (TEXT, WEATHER):
        for row in of_part(result["rows"], setup.name):
            columns |= {setup.name: f"{setup.title}, {setup.unit.name.strip()}"}
            columns |= {"us": f"µs a step, {TEXT.title}"} if setup is TEXT else {}
            score = applications.plus_minus(row)
            line = {setup.name: marked(score, row) if row["search"] else score}
            line |= {"us": f"{row['us']:.3g}"} if setup is TEXT and row["us"] else {}
            lines.setdefault(row["who"], {"who": row["who"]}).update(line)
    for row in of_part(result["rows"], detection.PART):
        if row["chosen_by"] == detection.SCORE:
            continue
        columns |= {"nats": "anomalies, nats/step", "score": "their score", "rule": "with the range rule"}
        nats = applications.plus_minus(mean_and_spread("metric", "spread", row["nats"])) if any(row["nats"]) else ""
        scores = {column: row[treatment]["standard"] for column, treatment in _TREATMENTS.items()}
        line = {column: _points(values) for column, values in scores.items() if values != [None]}
        mark = next((mark for search in row["folds"].values() if (mark := edge(search))), "")
        line |= {"nats": f"{nats} ({mark})" if mark else nats}
        lines.setdefault(row["who"], {"who": row["who"]}).update(line)
    caption = "One pass: each step is scored before it is learned from. Networks have as many parameters as the stack; "
    caption += "the score is the standard one of the Numenta Anomaly Benchmark, at the rate of the least surprise"
    searches = [row for row in result["rows"] if row.get("search")]
    searches += [search for row in of_part(result["rows"], detection.PART) for search in row["folds"].values()]
    return _parts([record.table(list(lines.values()), columns)], caption, "streams", result, searches)


_TREATMENTS = {"score": detection.ALONE, "rule": detection.WITH_RULE}


def _points(values: Sequence[float | None]) -> str:
    """Mean and spread of a benchmark's score over seeds."""
    found = mean_and_spread("mean", "spread", values)
    if found["mean"] is None:
        return "diverged"
    return f"{found['mean']:.1f}" + ("" if found["spread"] is None else f" ± {found['spread']:.1f}")


def scaling_part(result: Row) -> list[str]:
    """What was measured, with the model's sentence."""
    columns = {"way": "way", "processes": "processes", "tokens_per_second": "tokens/s", "speed_up": "speed-up"}
    columns["bytes_per_update"] = "bytes an update"
    config = result["config"]
    stack = f"{config['layers']} layers of {config['units']}, {config['batch']} x {config['chunk']} symbols"
    caption = f"Whole updates, {stack}, one thread a process. {result['summary'][-1]}"
    return [record.table(result["rows"], columns), f"{caption} {command('scaling', result)}"]


README_PARTS: dict[str, Callable[[Row], list[str]]] = {
    "quality": quality_part,
    "applications": applications_part,
    "depth": depth_part,
    "chunks": chunks_part,
    "cost": cost_part,
    "speed": speed_part,
    "memory": memory_part,
    "inference_cost": inference_part,
    "long_lags": long_lags_part,
    "alignment": alignment_part,
    "online": online_part,
    "scaling": scaling_part,
    "streams": streams_part,
}
TABLES = ("quality", "speed", "memory")  # that stand below the verdict on the page


def _with_gap(row: Row) -> str:
    """`2.293 (+1.0 % ± 0.2)`; `2.293 (edge)` or `2.293 (no claim)` where its search, or BPTT's, ended at an edge."""
    if row["metric"] is None:
        return "diverged"
    score = f"{row['metric']:#.4g}"
    if edge(row) or row["rule"] in ("bptt", alignment.BPTT):
        return marked(score, row)
    return f"{score} ({study.gap(row)})"
