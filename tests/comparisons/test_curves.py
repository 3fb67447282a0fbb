"""The curves suite at a tiny size."""

import json

import pytest

from comparisons import curves
from comparisons.contenders import BPTT
from comparisons.suite import Request
from comparisons.tasks import Absent


def test_the_suite_follows_every_rule_along_its_updates(tmp_path):
    paths = curves.run(Request(quick=True, seeds=2, out=tmp_path))
    assert [path.name for path in paths] == [f"curves.{ending}" for ending in ("json", "md", "png", "svg")]
    rows = json.loads(paths[0].read_text())["rows"]
    updates = curves.QUICK.base.steps
    assert [(row["rule"], row["update"]) for row in rows if row["seed"] == 1] == [
        (rule, step) for rule in curves.RULES for step in range(1, updates + 1)
    ]
    for rule in curves.RULES:
        own = [row for row in rows if row["rule"] == rule and row["seed"] == 0]
        assert [row["last"] for row in own] == [False] * (updates - 1) + [True]
        assert own[-1]["seconds"] == pytest.approx(updates * own[0]["seconds"]) and own[0]["seconds"] > 0
    assert len({row["metric"] for row in rows if row["last"]}) > 2


def test_rates_are_those_that_quality_found(tmp_path):
    path = tmp_path / "quality.json"
    with pytest.raises(Absent, match="expected the record of `pcrnn compare quality --only pydoc`, found none"):
        curves.best_rates(path)
    rules = [rule for rule in curves.RULES if rule != "neighbour, chunk"]
    rows = [{"data": "pydoc", "rule": rule, "lr": 10.0**-n} for n, rule in enumerate(rules)]
    path.write_text(json.dumps({"rows": [*rows, {"data": "other", "rule": BPTT, "lr": 7.0}]}))
    found = curves.best_rates(path)
    assert found == {row["rule"]: row["lr"] for row in rows} | {"neighbour, chunk": found["neighbour, exact"]}
