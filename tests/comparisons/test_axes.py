"""The suites along an axis at tiny sizes: stacks of equal parameters, chunks of equal data, a gap for every rule."""

import json
from dataclasses import replace

import pytest
from pcrnn.comparisons.quality import axes, tasks
from pcrnn.comparisons.quality.axes import CHUNK_RULES, CHUNKS, DEPTH, DEPTH_RULES
from pcrnn.comparisons.quality.networks import size_of
from pcrnn.comparisons.suite import Request

from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.errors import DataError, UsageError

BASE = TrainConfig(hidden=(40, 40), batch=2, chunk=8)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_stacks_of_every_depth_have_as_many_parameters_as_the_first(layers):
    task = tasks.open_pydoc(BASE, None, 400)

    def size(hidden):
        return size_of(PredictiveStack(task.observation(), hidden, num_taps=BASE.num_taps))

    hidden = (axes.width(task, BASE, layers),) * layers
    assert size(hidden) == pytest.approx(size(BASE.hidden), rel=0.05)
    assert (hidden == BASE.hidden) == (layers == 2)


def test_the_suite_writes_a_gap_for_every_rule_depth_and_budget(tmp_path):
    of_all = axes.Budget(updates=2, layers=(2, 3), rates=(3e-3,))
    of_two = replace(of_all, updates=3, layers=(3,), rules=DEPTH_RULES[:2])
    of_one = replace(of_two, layers=(2,), rules=DEPTH_RULES[1:2])
    suite = replace(DEPTH, quick=replace(DEPTH.quick, budgets=(of_all, of_two, of_one)))
    paths = suite.run(Request(quick=True, seeds=2, out=tmp_path, only=("pydoc",)))
    assert [path.name for path in paths] == ["depth.json", "depth.md", "depth.png", "depth.svg"]
    written = json.loads(paths[0].read_text())
    places = {(row["data"], row["layers"], row["updates"], row["rule"]) for row in written["rows"]}
    wanted = {("pydoc", n, 2, rule) for n in (2, 3) for rule in ("bptt", *DEPTH_RULES)}
    wanted |= {("pydoc", 3, 3, rule) for rule in ("bptt", *DEPTH_RULES[:2])}
    assert places == wanted | {("pydoc", 2, 3, rule) for rule in ("bptt", DEPTH_RULES[1])}
    short, long = written["summary"]
    assert short.startswith("pydoc, 2 updates, from BPTT at 2 / 3 layers: all hops, exact ")
    assert long.startswith("pydoc, 3 updates, from BPTT at 2 / 3 layers: all hops, exact - / ") and "top" not in long
    assert all(len(row["metrics"]) == 2 for row in written["rows"])


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--only: expected some of pydoc, tinyshakespeare; got pydok"):
        DEPTH.run(Request(quick=True, out=tmp_path, only=("pydok",)))


def test_every_chunk_sees_as_many_steps_and_every_rule_is_compared_at_its_own_chunk(tmp_path):
    paths = CHUNKS.run(Request(quick=True, seeds=2, out=tmp_path, only=("pydoc",)))
    assert [path.name for path in paths] == ["chunks.json", "chunks.md", "chunks.png", "chunks.svg"]
    written = json.loads(paths[0].read_text())
    assert {(row["chunk"], row["updates"]) for row in written["rows"]} == {(4, 4), (8, 2)}
    for chunk in (4, 8):
        here = {row["rule"]: row for row in written["rows"] if row["chunk"] == chunk}
        assert here.keys() == {"bptt", *CHUNK_RULES}
        for rule, row in here.items():
            gaps = [100 * (mine / bptt - 1) for mine, bptt in zip(row["metrics"], here["bptt"]["metrics"], strict=True)]
            stated = row["gap"] is not None
            assert stated == (row["no_claim"] == "") == (not here["bptt"]["at_edge"] and not here[rule]["at_edge"])
            assert not stated or row["gap"] == pytest.approx(sum(gaps) / 2)
    (said,) = written["summary"]
    assert said.startswith("pydoc, from BPTT at 4 / 8 chunk: cascade, exact ")


def test_a_text_of_ones_own_takes_the_place_of_tinyshakespeare(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("the cat sat on the mat.\n" * 400, encoding="utf-8")
    budget = axes.Budget(updates=2, data=("tinyshakespeare",), layers=(2,), rules=DEPTH_RULES[:1], rates=(3e-3,))
    suite = replace(DEPTH, quick=replace(DEPTH.quick, budgets=(budget,)))
    first, *_ = suite.run(Request(quick=True, seeds=1, out=tmp_path, data=text))
    assert {row["data"] for row in json.loads(first.read_text())["rows"]} == {"mine.txt"}


def test_a_file_that_no_study_of_an_axis_takes_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"--data: expected a file that ends in one of \.csv, \.npy, got .*song\.mid"):
        CHUNKS.run(Request(quick=True, out=tmp_path, data=tmp_path / "song.mid"))
