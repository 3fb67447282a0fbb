"""What `pcrnn compare` takes and what its report shows; the README's table is that of the records in the repository."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pcrnn.comparisons import page, record, report, suite
from pcrnn.comparisons.__main__ import main as compare
from pcrnn.comparisons.mechanisms import online
from pcrnn.comparisons.quality import quality
from pcrnn.comparisons.suite import SUITES, Request

from pcrnn import comparisons
from pcrnn.cli.main import main as pcrnn

ROOT = Path(comparisons.__file__).parents[1]
SOLVES = "learning with exact traces solves a lag of"
README = f"# pcrnn\n\n{report.START}\nold\n{report.END}\n\nand more\n"


INSIDE = {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}  # a search whose best rate lies inside


def quality_row(rule: str, figure: float, gap: float) -> dict:
    about = {"data": "pydoc", "rule": rule, "unit": "bits/char", "metric": figure}
    return about | INSIDE | {"metrics": [figure], "gap": gap, "gap_unit": "percent", "gap_spread": 0.2, "no_claim": ""}


SPEED = {"hidden": [4], "batch": 2, "chunk": 3}


@pytest.fixture
def results(tmp_path) -> Path:
    rows = [quality_row("bptt", 2.0, 0.0), quality_row("top, exact", 2.1, 5.0), quality_row("layer, none", 3.0, 50.0)]
    record.write("quality", {"seeds": 3}, rows, tmp_path)
    record.write("speed", SPEED, [], tmp_path, summary=["top is 5 % < BPTT & more, 0.5 times as fast as BPTT."])
    record.markdown(
        "quality", "Quality", ["## pydoc", record.table(rows, {"rule": "rule", "metric": "bits"})], tmp_path
    )
    (tmp_path / "quality.png").write_bytes(b"picture")
    lengths = [{"length": n, "local_mib": 40.0, "bptt_mib": None} for n in (128, 256, 65536)]
    record.write("memory", {"budget_mib": 4096}, lengths, tmp_path)
    return tmp_path


# The README


def test_the_documentation_shows_what_the_records_in_the_repository_say():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert text == report.site_page(report.read(ROOT / "comparisons" / "results"))


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
    assert "| top, exact | 2.100 (+5.0 %) |" in section
    assert "| bptt | 2.000 |" in section
    assert "layer, none" not in section  # all rows are on the page; the README has the rules with exact traces
    assert re.search(r"`pcrnn compare quality`; 3 seeds; .*, \d{4}-\d\d-\d\d\.", section)
    assert "| 65536 | 40 | over 4096 |" in section and "256" not in section


def test_the_command_names_the_parts_that_were_asked_for():
    found = {"environment": record.environment(), "config": {"seeds": 3, "only": ["pydoc", "JSB chorales"]}}
    assert page.command("quality", found).startswith("`pcrnn compare quality --only pydoc 'JSB chorales'`; 3 seeds;")


def test_every_data_set_has_a_column_with_its_unit():
    rows = [quality_row("bptt", 2.0, 0.0), quality_row("bptt", 1.0, 0.0) | {"data": "digits", "unit": "nats/sequence"}]
    found = {"environment": record.environment(), "config": {"seeds": 3}, "rows": rows}
    table, _ = report.quality_part(found)
    assert table.splitlines()[0] == "| learner | pydoc, bits/char | digits, nats/sequence |"
    assert table.splitlines()[2] == "| bptt | 2.000 | 1.000 |"


@pytest.mark.parametrize(
    ("part", "about", "heading"),
    [
        (
            report.depth_part,
            {"layers": 6, "units": 75, "updates": 9},
            "learner, 9 updates | pydoc, 6 layers of 75, bits/char",
        ),
        (report.chunks_part, {"chunk": 8}, "learner | pydoc, chunks of 8, bits/char"),
    ],
)
def test_along_an_axis_every_place_has_a_column(part, about, heading):
    rows = [quality_row(rule, 2.0, gap) | about for rule, gap in (("bptt", 0.0), ("top, exact", -1.0))]
    found = {"environment": record.environment(), "config": {"seeds": 3}, "rows": rows}
    table, _ = part(found)
    head, _, bptt, top = table.splitlines()
    assert head == f"| {heading} |"
    assert bptt == "| bptt | 2.000 |" and top.startswith("| top, exact | 2.000 (-1.0 %")


def test_a_record_claims_nothing_of_a_learner_whose_search_ended_at_its_edge(tmp_path):
    """Whatever its sentences say: they are made anew."""
    edge = {"lr": 1e-2, "search": {"0.001": 4.0, "0.003": 3.0, "0.01": 2.0}}
    rows = [quality_row("bptt", 2.0, 0.0), quality_row("top, exact", 1.5, -25.0), quality_row("LSTM", 2.5, 25.0)]
    ours, beside = "the best local rule (top, exact, 1.5 bits/char)", "pydoc, the best local rule beside nn.LSTM"
    leads = f"Wins: pydoc: {ours} is ahead by 1.000 bits/char of the best outside network (nn.LSTM, 2.5 bits/char)."
    said = f"Wins: pydoc: {ours} is 25.0 % ahead of BPTT."

    def shown(*at_edge: str) -> tuple[list[str], str]:
        made = [row | (edge if row["rule"] in at_edge else {}) for row in rows]
        record.write("quality", {"seeds": 1}, made, tmp_path, summary=["it is twice as good."])
        found = report.read(tmp_path)
        return found["quality"]["summary"], report.readme_section(found)

    sentences, section = shown()
    assert sentences == [leads, said]
    assert "| top, exact | 1.500 (-25.0 %) |" in section and "(edge)" not in section
    sentences, section = shown("LSTM")
    edge_of = "the search ended at its edge for"
    assert sentences == [said, f"No claim: {beside}: {edge_of} nn.LSTM (rate 0.01)."]
    assert "| LSTM | 2.500 (edge) |" in section and "+25.0 %" not in section
    assert "A mark (edge) says that a learner's search for its rate ended at an edge" in section
    sentences, section = shown("top, exact")
    assert sentences == [f"No claim: {at}: {edge_of} top, exact (rate 0.01)." for at in (beside, "pydoc")]
    assert "| top, exact | 1.500 (edge) |" in section
    sentences, section = shown("bptt")
    assert sentences == [leads, f"No claim: pydoc: {edge_of} bptt (rate 0.01)."]
    assert "| bptt | 2.000 (edge) |" in section and "| top, exact | 1.500 (no claim) |" in section


def test_every_budget_has_a_table_of_its_own():
    about = {"layers": 3, "units": 128}
    rows = [quality_row("bptt", 2.0, 0.0) | about | {"updates": updates} for updates in (600, 3000)]
    *tables, _ = report.depth_part({"environment": record.environment(), "config": {"seeds": 3}, "rows": rows})
    assert [table.splitlines()[0].split(" | ")[0] for table in tables] == [
        "| learner, 600 updates",
        "| learner, 3000 updates",
    ]


def test_the_readme_has_what_long_lags_says_of_itself_and_where_it_came_from():
    found = {"environment": record.environment(), "config": {"seeds": 2}, "summary": ["a.", "b."]}
    said, origin = report.long_lags_part(found)
    assert said == "- a.\n- b."
    assert "`pcrnn compare long_lags`; 2 seeds; " in origin
    assert report.long_lags_part(found | {"summary": []}) == []


def test_cosines_stand_beside_the_score():
    def row(rule: str, updates: int, layer: int, cosine: float) -> dict:
        return {"rule": rule, "updates": updates, "layer": layer, "depth": 2, "gates_cosine": cosine}

    rows = [row("bptt, truncated", 9, 1, 1.0), row("top", 9, 1, 0.2), row("top", 9, 1, 0.4), row("top", 9, 2, 0.9)]
    rows += [row("top", 0, 1, -1.0), row("neighbour, none", 9, 1, 0.5)]
    about = {"seed": 0, "depth": 2} | INSIDE
    bits = {"bptt, truncated": 2.0, "top": 2.2, "neighbour, none": 2.1}
    scores = [about | {"rule": rule, "bits": figure} for rule, figure in bits.items()]
    config = {"moments": [0, 9], "depths": [2], "scored_depth": 2, "seeds": 1}
    found = {"environment": record.environment(), "config": config, "rows": rows, "scores": scores}
    text = "\n\n".join(report.alignment_part(found))
    assert "| top | 0.30 | 2.200 (+10.0 %) |" in text
    assert "| bptt, truncated | 1.00 | 2.000 |" in text
    assert "neighbour, none" not in text


def test_distances_on_a_stream_have_a_column_an_interval():
    about = {"stream": "s", "unit": "u", "floor": None, "half": 8, "window": 2, "seed": 0} | INSIDE
    about |= {"before": 1.0, "end": 1.0, "early_after": 1.0, "recovery_steps": 2}
    rows = [
        about | {"rule": rule, "interval": interval, "mean": mean}
        for rule, interval, mean in (
            ("top, exact", 1, 2.5),
            ("top, exact", 8, 2.25),
            (online.BPTT, 1, 2.0),
            (online.BPTT, 8, 2.5),
        )
    ]
    table, _ = report.online_part({"environment": record.environment(), "config": {"seeds": 1}, "rows": rows})
    assert table.splitlines()[0] == "| stream | rule | update every 1 | update every 8 |"
    assert table.splitlines()[2:] == ["| s, u | top, exact | +0.500 | -0.250 |"]


def test_the_price_of_a_gradient_is_a_mean_over_seeds(tmp_path):
    way = {"method": "fixed prediction", "way": "iterations: 5", "cosine": 0.8, "times_bptt": 2.0}
    rows = [way, way | {"cosine": 0.9, "times_bptt": 4.0}, way | {"method": "local", "way": "top, 1 layer"}]
    record.write("inference_cost", {"seeds": 2}, rows, tmp_path)
    text = report.readme_section(report.read(tmp_path))
    assert "| fixed prediction, iterations: 5 | 0.850 | 3.00 |" in text
    assert "top, 1 layer" not in text


@pytest.mark.parametrize("text", ["nothing", report.START, f"{report.END} {report.START}"])
def test_a_readme_without_markers_is_refused(text, results):
    with pytest.raises(ValueError, match="expected the markers"):
        report.refreshed(text, report.read(results))


# The page


def test_the_page_holds_everything_it_shows(results, tmp_path):
    (path,) = report.build(results, tmp_path / "no README is touched")
    text = path.read_text(encoding="utf-8")
    assert base64.b64encode(b"picture").decode() in text
    assert "top is 5 % &lt; BPTT &amp; more, 0.5 times as fast as BPTT." in text
    assert "<td>top, exact</td><td>2.1</td>" in text
    assert text.index("In one minute") < text.index("5 % &lt;") < text.index('<section id="quality">')
    assert "<h2>Local learning loses</h2>" in text
    assert "<h2>Level</h2>" not in text  # nothing is
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)  # nothing is fetched
    assert text.count("<table>") == text.count("</table>") == 4


def memory_record(local: float, bptt: float) -> dict:
    return {"rows": [{"local_mib": local, "bptt_mib": bptt}, {"local_mib": local, "bptt_mib": None}], "summary": ["m"]}


@pytest.mark.parametrize(
    ("name", "found", "verdict"),
    [
        ("online", {"summary": ["Wins: it does."]}, "Wins"),
        ("online", {"summary": ["Mixed: it does."]}, "Mixed"),
        ("online", {"summary": ["Nothing: it is."]}, ""),
        ("long_lags", {"summary": ["Loses: it does."]}, "Loses"),
        ("long_lags", {"summary": [f"c: local {SOLVES} 480, truncated BPTT of 15 (32 times), BPTT none."]}, "Wins"),
        ("long_lags", {"summary": [f"c: local {SOLVES} 480, truncated BPTT none, BPTT 960."]}, "Wins"),
        ("long_lags", {"summary": [f"c: local {SOLVES} 15, truncated BPTT of 15 (1 times), BPTT none."]}, "Level"),
        ("long_lags", {"summary": [f"c: local {SOLVES} 15, truncated BPTT of 30 (0 times), BPTT none."]}, "Loses"),
        ("long_lags", {"summary": ["c: not solved by local learning with exact traces (0.1)."]}, "Loses"),
        ("long_lags", {"summary": ["Peak memory at a lag of 5: local 3 MiB."]}, ""),
        ("tagging", {"summary": ["It takes 5."]}, ""),
        ("memory", memory_record(1.0, 2.0), "Wins"),
        ("memory", memory_record(2.0, 1.0), "Costs"),
        ("speed", {"summary": ["With exact traces, neighbour learns 0.86 times as fast as BPTT."]}, "Costs"),
        ("speed", {"summary": ["With exact traces, neighbour learns 1.10 times as fast as BPTT."]}, "Wins"),
        ("speed", {"summary": ["top runs at 0.9 to 1.6 times BPTT, median 1.24; faster in 9 of 10."]}, "Wins"),
        ("speed", {"summary": ["top runs at 0.9 to 1.6 times BPTT, median 0.94; faster in 1 of 10."]}, "Costs"),
        ("quality", {"summary": ["Loses: a: the best local rule (top) is 2 % behind BPTT (layer: +3 %)."]}, "Loses"),
        ("quality", {"summary": ["Wins: a: the best local rule (top) is 2.1 % ahead of BPTT (layer: +3 %)."]}, "Wins"),
        ("quality", {"summary": ["Level: a: the best local rule (top) is level (+0.1 %) with BPTT."]}, "Level"),
        ("quality", {"summary": ["No claim: a: the search ended at its edge for bptt."]}, "No claim"),
        ("long_lags", {"summary": ["No claim: a: the search ended at its edge for bptt."]}, "No claim"),
    ],
)
def test_a_sentence_stands_under_the_verdict_that_its_figures_give(name, found, verdict):
    by_verdict = page.sorted_by_verdict({name: found})
    assert {under for under, said in by_verdict.items() if said} == {verdict}


def test_the_verdict_leaves_out_the_other_rules_in_brackets_at_the_end():
    found = {
        "quality": {"summary": ["Loses: a: the best local rule (top, 2 nats) is 2.0 % behind BPTT (layer: +3.0 %)."]}
    }
    assert "A: the best local rule (top, 2 nats) is 2.0 % behind BPTT.</li>" in page.verdict(found)
    shown = page.verdict({"online": {"summary": ["Wins: it is -0.150 ± 0.032 / -0.01 ± 0.3 (level) of it."]}})
    assert "It is -0.150 / -0.01 (level) of it.</li>" in shown
    assert "B (1 layer, cosine 1.000).</li>" in page.verdict({"ops": {"summary": ["Wins: b (1 layer, cosine 1.000)."]}})


def test_a_verdict_is_not_said_twice():
    assert page.sorted_by_verdict({"online": {"summary": ["Wins: it does."]}})["Wins"] == [("online", "It does.")]


def test_quality_sentences_begin_with_their_verdict():
    for gap, verdict in ((-3.0, "Wins"), (3.0, "Loses"), (0.01, "Level")):
        row = quality_row("top, exact", 2.0, gap) | {"gap_spread": None}
        assert [said for said in page.sorted_by_verdict({"quality": {"summary": quality.summary([row], {})}})[verdict]]


def test_what_is_lost_comes_first(tmp_path):
    """In every record, in what the report reads and in the boxes of the page."""
    said = ["No claim: a.", "Plain: b.", "Wins: c.", "Level: d.", "Loses: e.", "Loses: f."]
    wanted = ["Loses: e.", "Loses: f.", "Level: d.", "Wins: c.", "Plain: b.", "No claim: a."]
    assert record.losses_first(said) == wanted
    record.write("speed", SPEED, [], tmp_path, summary=said)
    assert report.read(tmp_path)["speed"]["summary"] == wanted
    assert next(iter(page.VERDICTS)) == "Loses"


def test_a_page_of_nothing_says_so(tmp_path):
    (path,) = report.build(tmp_path / "empty")
    assert "No suite has been measured yet." in path.read_text(encoding="utf-8")


# The command


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_loaded(name):
    assert callable(suite.load(name).run)


def test_an_unknown_suite_is_named():
    with pytest.raises(ValueError, match=r"suite must be one of quality, applications, .*; got 'quantity'"):
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

    monkeypatch.setattr("pcrnn.comparisons.__main__.load", lambda name: Fake)
    data = tmp_path / "a.txt"
    data.write_text("a")
    assert program(["quality", "--quick", "--seeds", "2", "--out", str(tmp_path), "--data", str(data)]) == 0
    (request,) = asked
    assert (request.quick, request.seeds, request.out, request.data) == (True, 2, tmp_path, data)
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'quality.json'}\n"
    assert printed.err == "half way\n"


@pytest.mark.parametrize("name", [name for name, entry in SUITES.items() if "--data" in entry.flags])
@pytest.mark.parametrize("ending", ["txt", "mat", "csv"])
def test_data_that_is_not_there_is_one_line_and_status_3_before_anything_runs(name, ending, tmp_path, capsys):
    assert compare([name, "--quick", "--out", str(tmp_path), "--data", str(tmp_path / f"no.{ending}")]) == 3
    printed = capsys.readouterr()
    assert printed.out == "" and not list(tmp_path.iterdir())
    (line,) = printed.err.splitlines()
    wanted = "folder" if SUITES[name].takes_folder else "file"
    assert f"--data: expected a {wanted}, got " in line and line.endswith(f"no.{ending}, which is none; check the path")


@pytest.mark.parametrize(("name", "wanted"), [("quality", "file"), ("streams", "folder")])
def test_a_folder_is_no_file_and_a_file_no_folder(name, wanted, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("1\n2\n")
    wrong = tmp_path if wanted == "file" else tmp_path / "a.csv"
    assert compare([name, "--quick", "--out", str(tmp_path / "out"), "--data", str(wrong)]) == 3
    assert f"--data: expected a {wanted}, got {wrong}, which is none" in capsys.readouterr().err


def test_only_a_study_that_takes_the_file_may_be_named_beside_it(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("1\n2\n")
    assert compare(["quality", "--quick", "--data", str(tmp_path / "a.csv"), "--only", "digits"]) == 2
    assert "--only: expected weather, which takes " in capsys.readouterr().err


def test_help_lists_the_suites(capsys):
    with pytest.raises(SystemExit):
        pcrnn(["compare", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in [*SUITES, "report"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["cost", "--seeds", "2"],
            "--seeds: expected none, as cost has no use for it, got 2; leave it out, or ask one",
        ),
        (["curves", "--data", "a.txt"], "--data: expected none, as curves has no use for it, got a.txt; leave it out,"),
        (["tracking", "--only", "a", "b"], "--only: expected none, as tracking has no use for it, got a b; leave it"),
        (["report", "--data", "a.txt"], "--data: expected none, as report has no use for it, got a.txt; leave it out,"),
    ],
)
def test_a_flag_that_a_suite_has_no_use_for_is_refused(arguments, words, capsys, tmp_path):
    assert compare([*arguments, "--quick", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error and "or ask one of quality, applications, " in error
    assert not list(tmp_path.iterdir())


def test_the_help_names_the_suites_that_a_flag_is_for(capsys):
    with pytest.raises(SystemExit):
        compare(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "a file to measure on; quality, applications, depth, chunks, alignment, online, tagging, foretold" in text
    assert "(3); all but cost, memory, speed, ops, gpu, scaling" in text


def test_the_package_works_under_another_name(tmp_path):
    """Suites are found, and fresh processes started, relative to the package."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "comparisons", folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    code = (
        "from elsewhere import record, suite\n"
        "for name in suite.SUITES: suite.load(name)\n"
        "import sys; assert 'comparisons' not in sys.modules\n"
        "print(record.in_fresh_process(record.environment)['torch'])"
    )
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.strip() == torch.__version__, done.stderr
