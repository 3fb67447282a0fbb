"""All results on one self-contained page, and the README's table; every figure comes from a suite's JSON.

    python -m comparisons report [--out DIR]

The page begins with what a reader wants to know first: where local learning wins, where it loses, by how much. A
suite that has something to say there writes `summary`, a list of sentences made from its own numbers, into its
record; the sentences of the quality, memory and speed suites come first.
"""

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comparisons import quality, record
from comparisons.suite import SUITES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, END = "<!-- results -->", "<!-- /results -->"

WHOLE_RUNS = {"text": "validation bits per character of whole runs of the program on one text"}
SHOWN_LENGTHS = (128, 2048, 8192, 65536)

Record = dict[str, Any]


def build(results: Path, readme: Path = README) -> list[Path]:
    """Write `results`/index.html; refresh the README's table where the results are those of the repository."""
    records = read(results)
    page = results / "index.html"
    results.mkdir(parents=True, exist_ok=True)
    page.write_text(html_page(records, results), encoding="utf-8")
    if results.resolve() != (ROOT / record.RESULTS).resolve():
        return [page]
    readme.write_text(refreshed(readme.read_text(encoding="utf-8"), records), encoding="utf-8")
    return [page, readme]


def read(results: Path) -> dict[str, Record]:
    """The records there are, by suite, in the order of the suites."""
    found = {name: results / f"{name}.json" for name in (*SUITES, *WHOLE_RUNS)}
    records = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}
    for name in WHOLE_RUNS.keys() & records.keys():
        records[name]["rows"] = rows = [like_quality(row, records[name]["config"]) for row in records[name]["rows"]]
        records[name]["summary"] = quality.summary(rows)
    return records


def like_quality(row: Record, config: Record) -> Record:
    """A whole run as a row of the quality suite, of one seed and one rate."""
    rule = row["rule"] if row["rule"] == "bptt" else f"{row['rule']}, {config['trace']}"
    figure = {"figure": row["bits"], "figures": [row["bits"]], "unit": "bits/char"}
    return row | figure | {"data": Path(config["data"]).stem, "rule": rule, "gap_spread": None}


# The README


def refreshed(text: str, records: dict[str, Record]) -> str:
    """The README with its results, between the two markers, made anew."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"README: expected the markers {START} and {END}, in this order")
    return f"{before}{START}\n{readme_section(records)}\n{END}{after}"


def readme_section(records: dict[str, Record]) -> str:
    """What stands between the markers: a table of quality and speed, and where each came from."""
    return "\n\n".join(part for name in README_PARTS if name in records for part in README_PARTS[name](records[name]))


def command(name: str, found: Record) -> str:
    """The line under a table: what makes it, on which machine, when."""
    around, seeds = found["environment"], found["config"].get("seeds")
    of_seeds = "" if seeds is None else f" {seeds} {'seed' if seeds == 1 else 'seeds'};"
    machine = f"{around['processor']}, {around['cores']} cores, torch {around['torch']}"
    made_by = (
        f"pcrnn compare {name}" if name in SUITES else f"python -m comparisons.{name} --data {found['config']['data']}"
    )
    return f"`{made_by}`;{of_seeds} {machine}, {around['date']}."


def quality_part(found: Record) -> list[str]:
    """The rules at exact traces beside BPTT and LSTM, a column for every data set and delay."""
    shown = ("bptt", "neighbour, exact", "hierarchy, exact", "top, exact", "layer, exact", "LSTM", "GRU")
    cells: dict[str, dict[str, str]] = {rule: {"rule": rule} for rule in shown}
    columns = {"rule": "learner"}
    for row in found["rows"]:
        column = f"{row['data']}, delay {row['delay']}"
        columns[column] = f"{column}, {row['unit']}"
        if row["rule"] in cells:
            cells[row["rule"]][column] = _with_gap(row)
    rows = [row for row in cells.values() if len(row) > 1]
    return [record.table(rows, columns), f"Held-out surprise, and the distance to BPTT. {command('quality', found)}"]


def text_part(found: Record) -> list[str]:
    """Whole runs of the program."""
    table, _ = quality_part(found)
    config = found["config"]
    stack = f"{len(config['hidden'])} layers of {config['hidden'][0]}, {config['steps']} updates of "
    about = f"{stack}{config['batch']} x {config['chunk']} characters at one rate, seed {config['seed']}."
    return [table, f"Held-out surprise, and the distance to BPTT; {about} {command('text', found)}"]


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


README_PARTS = {"quality": quality_part, "text": text_part, "speed": speed_part, "memory": memory_part}


def _with_gap(row: Record) -> str:
    """`2.293 (+1.0 % ± 0.2)`."""
    if row["figure"] is None:
        return "diverged"
    if row["rule"] == "bptt":
        return f"{row['figure']:#.4g}"
    spread = "" if row["gap_spread"] is None else f" ± {row['gap_spread']:.1f}"
    return f"{row['figure']:#.4g} ({row['gap_percent']:+.1f} %{spread})"


# The page


def html_page(records: dict[str, Record], results: Path) -> str:
    """The whole page, pictures and style inside."""
    sections = "\n".join(section(name, found, results) for name, found in records.items())
    numbers = from_markdown(readme_section(records).replace("`", ""))
    return PAGE.format(summary=summary(records), numbers=numbers, sections=sections)


def summary(records: dict[str, Record]) -> str:
    """The sentences of all suites that have any."""
    lines = [
        f'<li><a href="#{name}">{html.escape(name)}</a> {html.escape(sentence)}</li>'
        for name, found in records.items()
        for sentence in found.get("summary", ())
    ]
    return f"<ul>{''.join(lines)}</ul>" if records else "<p>No suite has been measured yet.</p>"


def section(name: str, found: Record, results: Path) -> str:
    """One suite: what it measures, its picture, its table, folded away, and what made them."""
    says = (SUITES | WHOLE_RUNS)[name]
    picture, markdown = results / f"{name}.png", results / f"{name}.md"
    parts = [f'<section id="{name}"><h2>{name}</h2><p>{html.escape(says)}</p>']
    if picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(says)}" src="data:image/png;base64,{data}">')
    if markdown.exists():
        table = from_markdown(markdown.read_text(encoding="utf-8"))
        parts.append(f"<details><summary>All figures</summary>{table}</details>")
    parts.append(f"<footer>{html.escape(command(name, found)).replace('`', '')}</footer></section>")
    return "\n".join(parts)


def from_markdown(text: str) -> str:
    """HTML of the Markdown that suites write: headings, paragraphs and tables."""
    return "\n".join(_block(block.splitlines()) for block in re.split(r"\n{2,}", text.strip()) if block)


def _block(lines: Sequence[str]) -> str:
    first = lines[0]
    if first.startswith("#"):
        level = min(len(first) - len(first.lstrip("#")) + 2, 6)
        return f"<h{level}>{html.escape(first.lstrip('# '))}</h{level}>"
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
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ margin-bottom: 0 }}
h2 {{ margin-top: 3rem; border-bottom: 1px solid #ccc }}
img {{ max-width: 100% }}
table {{ border-collapse: collapse; font-size: 14px; margin: 1rem 0; display: block; overflow-x: auto }}
th, td {{ padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
footer {{ color: #666; font-size: 14px }}
li a {{ font-weight: 600; color: inherit }}
</style>
<h1>Local learning against BPTT, on the same stacks</h1>
<p>In one minute: where local learning wins, where it loses, and by how much.</p>
{summary}
{numbers}
{sections}
</html>
"""
