"""The depth suite at a tiny size: stacks of equal parameters, a gap for every rule, what is asked for and no more."""

import json
from dataclasses import replace

import pytest

from comparisons import depth, tasks
from comparisons.outside import size_of
from comparisons.suite import Request
from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError

BASE = TrainConfig(hidden=(40, 40), batch=2, chunk=8)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_stacks_of_every_depth_have_as_many_parameters_as_the_first(layers):
    task = tasks.open_pydoc(BASE, None, 400)

    def size(hidden):
        return size_of(PredictiveStack(task.observation(), hidden, num_taps=BASE.num_taps))

    hidden = (depth.width(task, BASE, layers),) * layers
    assert size(hidden) == pytest.approx(size(BASE.hidden), rel=0.05)
    assert (hidden == BASE.hidden) == (layers == 2)


def test_the_suite_writes_a_gap_for_every_rule_depth_and_budget(tmp_path, monkeypatch):
    of_all = depth.Budget(updates=2, layers=(2, 3), rates=(3e-3,))
    of_two = replace(of_all, updates=3, layers=(3,), rules=depth.RULES[:2])
    of_one = replace(of_two, layers=(2,), rules=depth.RULES[1:2])
    monkeypatch.setattr(depth, "QUICK", replace(depth.QUICK, budgets=(of_all, of_two, of_one)))
    paths = depth.run(Request(quick=True, seeds=2, out=tmp_path, only=("pydoc",)))
    assert [path.name for path in paths] == ["depth.json", "depth.md", "depth.png", "depth.svg"]
    written = json.loads(paths[0].read_text())
    places = {(row["data"], row["layers"], row["updates"], row["rule"]) for row in written["rows"]}
    wanted = {("pydoc", n, 2, rule) for n in (2, 3) for rule in ("bptt", *depth.RULES)}
    wanted |= {("pydoc", 3, 3, rule) for rule in ("bptt", *depth.RULES[:2])}
    assert places == wanted | {("pydoc", 2, 3, rule) for rule in ("bptt", depth.RULES[1])}
    short, long = written["summary"]
    assert short.startswith("pydoc, 2 updates, from BPTT at 2 / 3 layers: all hops, exact ")
    assert long.startswith("pydoc, 3 updates, from BPTT at 2 / 3 layers: all hops, exact - / ") and "top" not in long
    assert all(len(row["metrics"]) == 2 for row in written["rows"])


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--only: expected some of pydoc, tinyshakespeare; got pydok"):
        depth.run(Request(quick=True, out=tmp_path, only=("pydok",)))
