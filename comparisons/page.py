"""The page of all results: verdicts first, then every suite with its picture and tables, in one self-contained file.

The verdicts are made of the sentences that suites write into their records, `summary`, from their own numbers. A
sentence that begins with `Loses: `, `Mixed: `, `Level: `, `Wins: ` or `No claim: ` goes where it says; of the others,
those of the suites in JUDGES go where the record's numbers say, and the rest stay in their suite's section.
"""

import base64
import html
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from .claims import NO_CLAIM
from .record import Row
from .suite import SUITES


def command(name: str, record: Row) -> str:
    """The line under a table: what makes it, on which machine, when."""
    environment, seeds = record["environment"], record["config"].get("seeds")
    of_seeds = "" if seeds is None else f" {seeds} {'seed' if seeds == 1 else 'seeds'};"
    gpu = f"{environment['gpu']}, " if environment["gpu"] else ""
    machine = f"{environment['processor']}, {environment['cores']} cores, {gpu}torch {environment['torch']}"
    only = "".join(f" {shlex.quote(part)}" for part in record["config"].get("only", ()))
    return f"`pcrnn compare {name}{' --only' if only else ''}{only}`;{of_seeds} {machine}, {environment['date']}."


VERDICTS = {
    "Loses": "Local learning loses",
    "Mixed": "Loses here, wins there",
    "Level": "Level",
    "Wins": "Local learning wins",
    "Costs": "What it costs",
    NO_CLAIM: "No claim: a search for a learning rate ended at its edge, or there was none",
}


def memory_verdict(record: Row, sentence: str) -> str:
    """At the longest length that both were run at."""
    longest = [row for row in record["rows"] if row["bptt_mib"] is not None][-1]
    return "Wins" if longest["local_mib"] < longest["bptt_mib"] else "Costs"


def speed_verdict(record: Row, sentence: str) -> str:
    """By the number the sentence ends in: times as fast as BPTT, or the median of those."""
    times = re.findall(r"([\d.]+) times as fast as BPTT|median ([\d.]+)", sentence)
    return "" if not times else "Wins" if float("".join(times[-1])) > 1 else "Costs"


def long_lags_verdict(record: Row, sentence: str) -> str:
    """Longest lags that were solved, by the suite's words; what it says of memory is no verdict."""
    if "not solved by local" in sentence:
        return "Loses"
    solved = re.search(r"solves a lag of (\d+), truncated BPTT (?:of (\d+)|none)", sentence)
    if not solved:
        return ""
    local, truncated = int(solved[1]), int(solved[2] or 0)
    return "Wins" if local > truncated else "Level" if local == truncated else "Loses"


JUDGES: dict[str, Callable[[Row, str], str]] = {
    "long_lags": long_lags_verdict,
    "memory": memory_verdict,
    "speed": speed_verdict,
}


def sorted_by_verdict(records: dict[str, Row]) -> dict[str, list[tuple[str, str]]]:
    """Sentences with their suite, by verdict; under "" those that are none."""
    by_verdict: dict[str, list[tuple[str, str]]] = {verdict: [] for verdict in (*VERDICTS, "")}
    for name, record in records.items():
        for sentence in record.get("summary", ()):
            verdict, colon, rest = sentence.partition(": ")
            if colon and verdict in VERDICTS:
                by_verdict[verdict].append((name, rest[:1].upper() + rest[1:]))
            else:
                by_verdict[JUDGES[name](record, sentence) if name in JUDGES else ""].append((name, sentence))
    return by_verdict


def html_page(records: dict[str, Row], results: Path, numbers: str) -> str:
    """The whole page, pictures and style inside; `numbers` is Markdown that stands below the verdicts."""
    sections = "\n".join(section(name, record, results) for name, record in records.items())
    return PAGE.format(verdict=verdict(records), numbers=from_markdown(numbers.replace("`", "")), sections=sections)


def verdict(records: dict[str, Row]) -> str:
    """A box for every verdict that there are sentences for."""
    if not records:
        return "<p>No suite has been measured yet.</p>"
    by_verdict = sorted_by_verdict(records)
    boxes = [
        f'<div class="{name.lower().replace(" ", "-")}"><h2>{title}</h2>{_sentences(by_verdict[name])}</div>'
        for name, title in VERDICTS.items()
        if by_verdict[name]
    ]
    return "\n".join(boxes)


def _short(sentence: str) -> str:
    """Without spreads and the other rules that the quality suite lists in brackets at its end: the tables have them."""
    return re.sub(r" ± [\d.]+", "", re.sub(r" \([^()]*: [^()]*\)\.$", ".", sentence))


def _sentences(sentences: list[tuple[str, str]]) -> str:
    items = (
        f'<li><a href="#{name}">{html.escape(_named(name))}</a> {html.escape(_short(sentence))}</li>'
        for name, sentence in sentences
    )
    return f"<ul>{''.join(items)}</ul>"


def _named(suite: str) -> str:
    return suite.replace("_", " ").capitalize()


def section(name: str, record: Row, results: Path) -> str:
    """One suite: what it measures, its sentences beyond the verdict, its picture, its folded table, its origin."""
    about = SUITES[name].about
    picture, markdown = results / f"{name}.png", results / f"{name}.md"
    parts = [f'<section id="{name}"><h2>{_named(name)}</h2><p>{html.escape(about[:1].upper() + about[1:])}.</p>']
    parts += [f"<p>{html.escape(sentence)}</p>" for _, sentence in sorted_by_verdict({name: record})[""]]
    if picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(about)}" src="data:image/png;base64,{data}">')
    if markdown.exists():
        table = from_markdown(markdown.read_text(encoding="utf-8"))
        parts.append(f"<details><summary>All numbers</summary>{table}</details>")
    parts.append(f"<footer>{html.escape(command(name, record)).replace('`', '')}</footer></section>")
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
<p>In one minute: where local learning loses, where it wins, and by how much.</p>
<div class="verdict">
{verdict}
</div>
{numbers}
{sections}
</html>
"""
