"""What `pcrnn compare` takes and what its report shows; the README's table is that of the records in the repository."""

import base64
import re
from pathlib import Path

import pytest

import comparisons
from comparisons import record, report, suite
from comparisons.__main__ import main as compare
from comparisons.suite import SUITES, Request
from pcrnn.cli import main as pcrnn

ROOT = Path(comparisons.__file__).parents[1]
README = f"# pcrnn\n\n{report.START}\nold\n{report.END}\n\nand more\n"


def quality_row(rule: str, figure: float, gap: float) -> dict:
    about = {"data": "pydoc", "rule": rule, "delay": 2, "unit": "bits/char", "figure": figure}
    return about | {"gap_percent": gap, "gap_spread": 0.2}


@pytest.fixture
def results(tmp_path) -> Path:
    rows = [quality_row("bptt", 2.0, 0.0), quality_row("top, exact", 2.1, 5.0), quality_row("layer, none", 3.0, 50.0)]
    record.write("quality", {"seeds": 3}, rows, tmp_path, summary=["pydoc: top is 5 % < BPTT & more."])
    record.markdown(
        "quality", "Quality", ["## pydoc", record.table(rows, {"rule": "rule", "figure": "bits"})], tmp_path
    )
    (tmp_path / "quality.png").write_bytes(b"picture")
    lengths = [{"length": n, "local_mib": 40.0, "bptt_mib": None} for n in (128, 256, 65536)]
    record.write("memory", {"budget_mib": 4096}, lengths, tmp_path)
    return tmp_path


# The README


def test_the_readme_shows_what_the_records_in_the_repository_say():
    """If this fails: pcrnn compare report."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.refreshed(text, report.read(ROOT / record.RESULTS)) == text


def test_only_what_is_between_the_markers_changes(results):
    text = report.refreshed(README, report.read(results))
    assert text.startswith(f"# pcrnn\n\n{report.START}\n")
    assert text.endswith(f"\n{report.END}\n\nand more\n")
    assert "old" not in text
    assert report.refreshed(text, report.read(results)) == text


def test_a_table_has_the_figures_the_gap_and_where_they_came_from(results):
    section = report.readme_section(report.read(results))
    assert "| top, exact | 2.100 (+5.0 % ± 0.2) |" in section
    assert "| bptt | 2.000 |" in section
    assert "layer, none" not in section  # all rows are on the page; the README has the rules with exact traces
    assert re.search(r"`pcrnn compare quality`; 3 seeds; .*, \d{4}-\d\d-\d\d\.", section)
    assert "| 65536 | 40 | over 4096 |" in section and "256" not in section


def test_whole_runs_of_the_program_stand_beside(tmp_path):
    config = {"data": "a.txt", "trace": "exact", "hidden": [8, 8], "steps": 600, "batch": 32, "chunk": 128, "seed": 0}
    rows = [{"rule": "bptt", "delay": 1, "bits": 2.0, "gap_percent": 0.0}]
    rows.append({"rule": "top", "delay": 1, "bits": 2.1, "gap_percent": 5.0})
    record.write("text", config, rows, tmp_path)
    records = report.read(tmp_path)
    assert "| top, exact | 2.100 (+5.0 %) |" in report.readme_section(records)
    assert records["text"]["summary"] == [
        "a, delay 1: the best local rule (top, exact, 2.1 bits/char) is 5.0 % behind BPTT."
    ]


@pytest.mark.parametrize("text", ["nothing", report.START, f"{report.END} {report.START}"])
def test_a_readme_without_markers_is_refused(text, results):
    with pytest.raises(ValueError, match="expected the markers"):
        report.refreshed(text, report.read(results))


# The page


def test_the_page_holds_everything_it_shows(results, tmp_path):
    (page,) = report.build(results, tmp_path / "no README is touched")
    text = page.read_text(encoding="utf-8")
    assert base64.b64encode(b"picture").decode() in text
    assert "pydoc: top is 5 % &lt; BPTT &amp; more." in text
    assert "<td>top, exact</td><td>2.1</td>" in text
    assert text.index("In one minute") < text.index("5 % &lt;") < text.index('<section id="quality">')
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)  # nothing is fetched
    assert text.count("<table>") == text.count("</table>") == 3


def test_a_page_of_nothing_says_so(tmp_path):
    (page,) = report.build(tmp_path / "empty")
    assert "No suite has been measured yet." in page.read_text(encoding="utf-8")


# The command


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_loaded(name):
    assert callable(suite.load(name).run)


def test_an_unknown_suite_is_named():
    with pytest.raises(ValueError, match=r"suite must be one of quality, memory, .*; got 'quantity'"):
        suite.load("quantity")


def test_a_request_knows_where_quick_figures_go(tmp_path):
    assert Request().out == record.RESULTS
    assert Request(quick=True).out == record.QUICK_RESULTS
    assert Request(quick=True, out=tmp_path).out == tmp_path
    with pytest.raises(ValueError, match="seeds: expected at least 1, got 0"):
        Request(seeds=0)


@pytest.mark.parametrize(
    "program", [compare, lambda arguments: pcrnn(["compare", *arguments])], ids=["module", "pcrnn"]
)
def test_flags_become_a_request_and_paths_are_printed(program, monkeypatch, capsys, tmp_path):
    asked = []

    class Fake:
        @staticmethod
        def run(request: Request) -> list[Path]:
            asked.append(request)
            request.tell("half way")
            return [request.out / "quality.json"]

    monkeypatch.setattr("comparisons.__main__.load", lambda name: Fake)
    assert program(["quality", "--quick", "--seeds", "2", "--out", str(tmp_path), "--data", "a.txt"]) == 0
    (request,) = asked
    assert (request.quick, request.seeds, request.out, request.data) == (True, 2, tmp_path, Path("a.txt"))
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'quality.json'}\n"
    assert printed.err == "half way\n"


def test_data_that_is_not_there_is_one_line_and_status_3(tmp_path, capsys):
    assert pcrnn(["compare", "quality", "--quick", "--out", str(tmp_path), "--data", str(tmp_path / "no.mat")]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].endswith("no.mat is not there; give a file with --data")


def test_help_lists_the_suites(capsys):
    with pytest.raises(SystemExit):
        pcrnn(["compare", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in [*SUITES, "report"])
