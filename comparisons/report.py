"""All results on one self-contained page, the README's table and docs/results.md; every figure is of a suite's JSON.

    python -m comparisons report [--out DIR]

The page begins with a verdict: where local learning wins, where it is level, where it loses, and what it costs. It is
made of the sentences that suites write into their records, `summary`, from their own numbers. A sentence that begins
with `Wins: `, `Level: `, `Mixed: ` or `Loses: ` goes where it says; of the others, those of the suites in JUDGES go
where the record's figures say, and the rest stay in their suite's section.
"""

import base64
import html
import json
import re
import shlex
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import record
from .mechanisms import alignment, online
from .quality import applications, axes, quality
from .quality.contenders import BPTT
from .record import ROOT
from .suite import SUITES

README = ROOT / "README.md"
RESULTS_PAGE = ROOT / "docs" / "results.md"
START, END = "<!-- results -->", "<!-- /results -->"

SHOWN_LENGTHS = (128, 2048, 8192, 65536)
SHOWN_RULES = ("bptt, truncated", "hierarchy", "neighbour", "top", "layer")
SHOWN_WAYS = ("iterations: 5", "iterations: 20", "iterations: 100", "neighbour, 1 layer")
SHOWN_WAYS += ("layer, 3 layers", "neighbour, 3 layers")

Record = dict[str, Any]


def build(results: Path, readme: Path = README, results_page: Path = RESULTS_PAGE) -> list[Path]:
    """Write `results`/index.html; where the results are the repository's, refresh the README and docs/results.md."""
    records = read(results)
    page = results / "index.html"
    results.mkdir(parents=True, exist_ok=True)
    page.write_text(html_page(records, results), encoding="utf-8")
    if results.resolve() != (ROOT / record.RESULTS).resolve():
        return [page]
    readme.write_text(refreshed(readme.read_text(encoding="utf-8"), records), encoding="utf-8")
    results_page.write_text(site_page(records), encoding="utf-8")
    return [page, readme, results_page]


def read(results: Path) -> dict[str, Record]:
    """The records there are, by suite, in the order of the suites."""
    found = {name: results / f"{name}.json" for name in SUITES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}


# The README


def refreshed(text: str, records: dict[str, Record]) -> str:
    """The README with its results, between the two markers, made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README: expected the markers {START} and {END}, in this order")
    return f"{before}{START}\n{readme_section(records)}\n{END}{after}"


def site_page(records: dict[str, Record]) -> str:
    """The documentation's page of results: what the README has, under a heading."""
    return f"# Results\n\n{readme_section(records)}\n"


def readme_section(records: dict[str, Record]) -> str:
    """What stands between the markers: tables and sentences, and where each came from."""
    return "\n\n".join(part for name in README_PARTS if name in records for part in README_PARTS[name](records[name]))


def command(name: str, found: Record) -> str:
    """The line under a table: what makes it, on which machine, when."""
    around, seeds = found["environment"], found["config"].get("seeds")
    of_seeds = "" if seeds is None else f" {seeds} {'seed' if seeds == 1 else 'seeds'};"
    gpu = f"{around['gpu']}, " if around["gpu"] else ""
    machine = f"{around['processor']}, {around['cores']} cores, {gpu}torch {around['torch']}"
    only = "".join(f" {shlex.quote(part)}" for part in found["config"].get("only", ()))
    return f"`pcrnn compare {name}{' --only' if only else ''}{only}`;{of_seeds} {machine}, {around['date']}."


def quality_part(found: Record) -> list[str]:
    """The rules at exact traces beside BPTT, LSTM and GRU, a column for every data set."""
    shown = ("bptt", "neighbour, exact", "cascade, exact", "hierarchy, exact", "top, exact", "layer, exact")
    cells: dict[str, dict[str, str]] = {rule: {"rule": rule} for rule in (*shown, "LSTM", "GRU")}
    columns = {"rule": "learner"}
    for row in found["rows"]:
        if row["data"] == quality.ABLATED:  # the page has it
            continue
        columns[row["data"]] = f"{row['data']}, {row['unit']}"
        if row["rule"] in cells:
            cells[row["rule"]][row["data"]] = _with_gap(row)
    rows = [row for row in cells.values() if len(row) > 1]
    says = "Held-out surprise, and the distance to BPTT (± over seeds; below 0 is better)"
    return [record.table(rows, columns), f"{says}, each learner at its own best rate. {command('quality', found)}"]


def applications_part(found: Record) -> list[str]:
    """BPTT, the local rule that does best, nn.LSTM, and what stands beside them, a line for every measure."""
    lines = []
    for (application, measure), here in applications.grouped(found["rows"]).items():
        line = {"metric": f"{application}, {measure}"}
        local = applications.local_rule(found["rows"], application)
        for row in here:
            if row["who"] in (BPTT, applications.NETWORK):
                line[row["who"]] = applications.plus_minus(row)
            elif local is not None and row["who"] == local["who"]:
                line["local"] = f"{applications.plus_minus(row)} ({row['who'].partition(',')[0]})"
        lines.append(line | {"beside": beside([row for row in here if not row["learns"]])})
    columns = {"metric": "application", "bptt": "bptt", "local": "local", "LSTM": "nn.LSTM", "beside": "beside"}
    says = "Applications: mean ± spread over seeds, each learner at its own best rate; nn.LSTM has as many parameters"
    return [record.table(lines, columns), f"{says}. {command('applications', found)}"]


def beside(rows: list[Record]) -> str:
    """Figures that need no learning, then those that others published."""
    published = [row for row in rows if row["who"].endswith(applications.PUBLISHED)]
    parts = {"": [row for row in rows if row not in published], "published: ": published}
    named = {
        said: [f"{row['who'].partition(',')[0]} {row['metric']:.4g}" for row in own] for said, own in parts.items()
    }
    return "; ".join(said + ", ".join(figures) for said, figures in named.items() if figures)


def depth_part(found: Record) -> list[str]:
    """Distance to BPTT, a table for every data set and budget, a column for every depth."""
    tables = [
        _along(here, lambda row: f"{row['layers']} layers of {row['units']}", f"learner, {here[0]['updates']} updates")
        for here in axes.DEPTH.panels(found["rows"]).values()
    ]
    says = "Stacks of equal parameters and the distance to BPTT after so many updates"
    return [*tables, _best_rates(says, "depth", found)]


def chunks_part(found: Record) -> list[str]:
    """Distance to BPTT truncated to the same chunk, a column for every chunk."""
    says = "The same stack in chunks of so many steps, and the distance to BPTT truncated to the same chunk"
    return [_along(found["rows"], lambda row: f"chunks of {row['chunk']}"), _best_rates(says, "chunks", found)]


def _along(measured: Sequence[Record], place: Callable[[Record], str], learner: str = "learner") -> str:
    """A row a learner, a column for every data set and place."""
    rows: dict[str, dict[str, str]] = {}
    columns = {"rule": learner}
    for row in measured:
        key = f"{row['data']}, {place(row)}"
        columns[key] = f"{key}, {row['unit']}"
        rows.setdefault(row["rule"], {"rule": row["rule"]})[key] = _with_gap(row)
    return record.table(list(rows.values()), columns)


def _best_rates(says: str, suite: str, found: Record) -> str:
    return f"{says}, each learner at its own best rate. {command(suite, found)}"


def cost_part(found: Record) -> list[str]:
    """Multiply-adds against BPTT's and numbers between layers, a row a rule."""
    columns, rows = {"rule": "learner"}, {}
    for row in found["rows"]:
        stack = f"{row['layers']} layers of {row['units']}"
        columns |= {stack: f"multiply-adds, {stack}", f"{stack}, down": f"numbers down a border, {stack}"}
        columns["broadcast"] = "broadcast"
        cells = {stack: f"{row['against_bptt']:.2f}", f"{stack}, down": f"{row['down']:.0f}"}
        rows.setdefault(row["rule"], {"rule": row["rule"], "broadcast": str(row["broadcast"])}).update(cells)
    says = "What a step costs: multiply-adds of all matrix products against BPTT's, and numbers that come down"
    return [record.table(list(rows.values()), columns), f"{says}, counted. {command('cost', found)}"]


def speed_part(found: Record) -> list[str]:
    """Tokens a second of the stack of the example."""
    columns = {"rule": "rule", "tokens_per_second": "tokens/s", "speed_against_bptt": "against BPTT"}
    config = found["config"]
    stack = f"{len(config['hidden'])} layers of {config['hidden'][0]}, {config['batch']} x {config['chunk']} symbols"
    return [record.table(found["rows"], columns), f"Whole updates, {stack}. {command('speed', found)}"]


def memory_part(found: Record) -> list[str]:
    """Peak memory at the lengths both were run at, and beyond."""
    columns = {"length": "steps", "local_mib": "local, MiB", "bptt_mib": "full-length BPTT, MiB"}
    beyond = f"over {found['config']['budget_mib']}"
    rows = [{**row, "bptt_mib": row["bptt_mib"] or beyond} for row in found["rows"] if row["length"] in SHOWN_LENGTHS]
    says = "Growth of the peak over that of the process before it began to learn; what is over the budget is not run."
    return [record.table(rows, columns), f"{says} {command('memory', found)}"]


def inference_part(found: Record) -> list[str]:
    """What a gradient costs by inference and by the local rule, means over seeds."""
    rows = []
    for way in SHOWN_WAYS:
        own = [row for row in found["rows"] if row["way"] == way]
        if not own:
            continue
        means = {key: statistics.fmean(row[key] for row in own) for key in ("cosine", "times_bptt")}
        shown = {"cosine": f"{means['cosine']:.3f}", "times": f"{means['times_bptt']:.2f}"}
        rows.append(shown | {"way": f"{own[0]['method']}, {way}"})
    columns = {"way": "gradient by", "cosine": "cosine with BPTT", "times": "CPU time over BPTT"}
    return [record.table(rows, columns), f"Untrained weights, equal parameters. {command('inference_cost', found)}"]


def long_lags_part(found: Record) -> list[str]:
    """What the suite says of itself, as a list."""
    said = found.get("summary", ())
    listed = "\n".join(f"- {sentence}" for sentence in said)
    return [listed, f"Lags of copying and adding that are solved. {command('long_lags', found)}"] if said else []


def alignment_part(found: Record) -> list[str]:
    """Cosine of the lowest layer at every depth, after training, beside the score; means over seeds."""
    config, last = found["config"], [r for r in found["rows"] if r["updates"] == max(found["config"]["moments"])]
    lowest = [row for row in last if row["layer"] == 1 and row["rule"] in SHOWN_RULES]
    rows = []
    for scored in alignment.beside_the_score(found["rows"], found["scores"]):
        row = {"rule": scored["rule"], "score": _with_gap({**scored, "metric": scored["bits"]})}
        for layers in config["depths"]:
            at = [one["gates_cosine"] for one in lowest if (one["rule"], one["depth"]) == (scored["rule"], layers)]
            row |= {f"{layers}": f"{statistics.fmean(at):.2f}"} if at else {}
        rows += [row] if scored["rule"] in SHOWN_RULES else []
    columns = {"rule": "rule"} | {f"{layers}": f"cosine, {layers} deep" for layers in config["depths"]}
    columns["score"] = f"bits/char, {config['scored_depth']} deep"
    says = (
        "Gradient of the lowest layer beside whole BPTT's, and what each rule scores; the one does not rank the other"
    )
    return [record.table(rows, columns), f"{says}. {command('alignment', found)}"]


def online_part(found: Record) -> list[str]:
    """Distance to truncated BPTT over the whole stream; a column an interval."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    columns = {"stream": "stream", "rule": "rule"}
    for row in online.means(found["rows"]):
        if row["rule"] == online.BPTT:
            continue
        stream = f"{row['stream']}, {row['unit']}"
        cell = cells.setdefault((stream, row["rule"]), {"stream": stream, "rule": row["rule"]})
        cell[f"{row['interval']}"] = online.gap(row)
        columns[f"{row['interval']}"] = f"update every {row['interval']}"
    says = "Streams that change in the middle: distance to BPTT truncated to the same chunk (below 0 is better)"
    return [record.table(list(cells.values()), columns), f"{says}. {command('online', found)}"]


def scaling_part(found: Record) -> list[str]:
    """What was measured, with the model's sentence."""
    columns = {"way": "way", "processes": "processes", "tokens_per_second": "tokens/s", "speed_up": "speed-up"}
    columns["bytes_per_update"] = "bytes an update"
    config = found["config"]
    stack = f"{config['layers']} layers of {config['units']}, {config['batch']} x {config['chunk']} symbols"
    says = f"Whole updates, {stack}, one thread a process. {found['summary'][-1]}"
    return [record.table(found["rows"], columns), f"{says} {command('scaling', found)}"]


README_PARTS: dict[str, Callable[[Record], list[str]]] = {
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
}
TABLES = ("quality", "speed", "memory")  # that stand below the verdict on the page


def _with_gap(row: Record) -> str:
    """`2.293 (+1.0 % ± 0.2)`."""
    if row["metric"] is None:
        return "diverged"
    if row["rule"] in ("bptt", alignment.BPTT):
        return f"{row['metric']:#.4g}"
    spread = "" if row["gap_spread"] is None else f" ± {row['gap_spread']:.1f}"
    return f"{row['metric']:#.4g} ({row['gap_percent']:+.1f} %{spread})"


# The page

VERDICTS = {
    "Wins": "Local learning wins",
    "Level": "Level",
    "Mixed": "Wins here, loses there",
    "Loses": "Local learning loses",
    "Costs": "What it costs",
}


def judged_quality(found: Record, sentence: str) -> str:
    """By the words of the suite's own verdict."""
    return "Level" if "is level" in sentence else "Wins" if "% ahead of BPTT" in sentence else "Loses"


def judged_memory(found: Record, sentence: str) -> str:
    """At the longest length that both were run at."""
    longest = [row for row in found["rows"] if row["bptt_mib"] is not None][-1]
    return "Wins" if longest["local_mib"] < longest["bptt_mib"] else "Costs"


def judged_speed(found: Record, sentence: str) -> str:
    """By the figure the sentence ends in: times as fast as BPTT, or the median of those."""
    times = re.findall(r"([\d.]+) times as fast as BPTT|median ([\d.]+)", sentence)
    return "" if not times else "Wins" if float("".join(times[-1])) > 1 else "Costs"


def judged_long_lags(found: Record, sentence: str) -> str:
    """Longest lags that were solved, by the suite's words; what it says of memory is no verdict."""
    if "not solved by local" in sentence:
        return "Loses"
    solved = re.search(r"solves a lag of (\d+), truncated BPTT (?:of (\d+)|none)", sentence)
    if not solved:
        return ""
    local, truncated = int(solved[1]), int(solved[2] or 0)
    return "Wins" if local > truncated else "Level" if local == truncated else "Loses"


JUDGES: dict[str, Callable[[Record, str], str]] = {
    "long_lags": judged_long_lags,
    "quality": judged_quality,
    "memory": judged_memory,
    "speed": judged_speed,
}


def judged(records: dict[str, Record]) -> dict[str, list[tuple[str, str]]]:
    """Sentences with their suite, by verdict; under "" those that are none."""
    found: dict[str, list[tuple[str, str]]] = {verdict: [] for verdict in (*VERDICTS, "")}
    for name, one in records.items():
        for sentence in one.get("summary", ()):
            said, colon, rest = sentence.partition(": ")
            if colon and said in VERDICTS:
                found[said].append((name, rest[:1].upper() + rest[1:]))
            else:
                found[JUDGES[name](one, sentence) if name in JUDGES else ""].append((name, sentence))
    return found


def html_page(records: dict[str, Record], results: Path) -> str:
    """The whole page, pictures and style inside."""
    sections = "\n".join(section(name, found, results) for name, found in records.items())
    numbers = "\n\n".join(part for name in TABLES if name in records for part in README_PARTS[name](records[name]))
    return PAGE.format(verdict=verdict(records), numbers=from_markdown(numbers.replace("`", "")), sections=sections)


def verdict(records: dict[str, Record]) -> str:
    """A box for every verdict that there are sentences for."""
    if not records:
        return "<p>No suite has been measured yet.</p>"
    found = judged(records)
    boxes = [
        f'<div class="{name.lower()}"><h2>{title}</h2>{_sentences(found[name])}</div>'
        for name, title in VERDICTS.items()
        if found[name]
    ]
    return "\n".join(boxes)


def _short(sentence: str) -> str:
    """Without spreads and the other rules that the quality suite lists in brackets at its end: the tables have them."""
    return re.sub(r" ± [\d.]+", "", re.sub(r" \([^()]*: [^()]*\)\.$", ".", sentence))


def _sentences(said: list[tuple[str, str]]) -> str:
    items = (
        f'<li><a href="#{name}">{html.escape(_named(name))}</a> {html.escape(_short(sentence))}</li>'
        for name, sentence in said
    )
    return f"<ul>{''.join(items)}</ul>"


def _asked(suite: str) -> str:
    """What a suite measures, with a capital letter."""
    about = SUITES[suite].about
    return about[:1].upper() + about[1:]


def _named(suite: str) -> str:
    return suite.replace("_", " ").capitalize()


def section(name: str, found: Record, results: Path) -> str:
    """One suite: what it measures, what it says beyond the verdict, its picture, its table, folded away, its origin."""
    says = SUITES[name].about
    picture, markdown = results / f"{name}.png", results / f"{name}.md"
    parts = [f'<section id="{name}"><h2>{_named(name)}</h2><p>{html.escape(_asked(name))}.</p>']
    parts += [f"<p>{html.escape(sentence)}</p>" for _, sentence in judged({name: found})[""]]
    if picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(says)}" src="data:image/png;base64,{data}">')
    if markdown.exists():
        table = from_markdown(markdown.read_text(encoding="utf-8"))
        parts.append(f"<details><summary>All figures</summary>{table}</details>")
    parts.append(f"<footer>{html.escape(command(name, found)).replace('`', '')}</footer></section>")
    return "\n".join(parts)


def from_markdown(text: str) -> str:
    """HTML of the Markdown that suites write: headings, paragraphs, lists and tables."""
    return "\n".join(_block(block.splitlines()) for block in re.split(r"\n{2,}", text.strip()) if block)


def _block(lines: Sequence[str]) -> str:
    first = lines[0]
    if first.startswith("#"):
        level = min(len(first) - len(first.lstrip("#")) + 2, 6)
        return f"<h{level}>{html.escape(first.lstrip('# '))}</h{level}>"
    if first.startswith("- "):
        items = (f"<li>{html.escape(line.removeprefix('- '))}</li>" for line in lines)
        return f"<ul>{''.join(items)}</ul>"
    if first.startswith("    "):
        return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
    if not first.startswith("|"):
        return f"<p>{html.escape(' '.join(lines))}</p>"
    head, _, *body = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines)
    rows = [_row("th", head), *(_row("td", cells) for cells in body)]
    return f"<table>{''.join(rows)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pcrnn: local learning against BPTT</title>
<style>
:root {{ color-scheme: light dark; --ink: #222; --faint: #666; --line: #ddd; --paper: #fff; --box: #f6f6f6 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #ddd; --faint: #999; --line: #444; --paper: #181818; --box: #232323 }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }}
h1 {{ margin-bottom: 0; line-height: 1.2 }}
section > h2 {{ margin-top: 3rem; border-bottom: 1px solid var(--line) }}
.verdict > div {{ background: var(--box); border-left: 5px solid #888; padding: .6rem 1rem; margin: .8rem 0 }}
.verdict h2 {{ font-size: 1.05rem; margin: 0 }}
.verdict ul {{ margin: .2rem 0; padding-left: 1.1rem }}
.verdict li {{ margin: .25rem 0 }}
.verdict .wins {{ border-color: #029e73 }} .verdict .loses {{ border-color: #d55e00 }}
.verdict .costs {{ border-color: #de8f05 }} .verdict .level {{ border-color: #0173b2 }}
img {{ max-width: 100%; background: #fff; border-radius: 4px }}
table {{ border-collapse: collapse; font-size: 14px; margin: 1rem 0; display: block; overflow-x: auto }}
th, td {{ padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
table + p, footer {{ color: var(--faint); font-size: 14px }}
pre {{ overflow-x: auto }}
li a {{ font-weight: 600; color: inherit }}
</style>
<h1>Local learning against BPTT, on the same stacks</h1>
<p>In one minute: where local learning wins, where it loses, and by how much.</p>
<div class="verdict">
{verdict}
</div>
{numbers}
{sections}
</html>
"""
