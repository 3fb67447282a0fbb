"""The curves suite at a tiny size: every rule along its updates, and in the time of BPTT's."""

import json
from dataclasses import replace

import pytest
from pcrnn.comparisons.quality import contenders, curves, tasks
from pcrnn.comparisons.quality.contenders import BPTT
from pcrnn.comparisons.quality.tasks import Absent
from pcrnn.comparisons.suite import Request


def test_the_suite_follows_every_rule_along_its_updates(tmp_path):
    paths = curves.run(Request(quick=True, seeds=2, out=tmp_path))
    assert [path.name for path in paths] == [f"curves.{ending}" for ending in ("json", "md", "png", "svg")]
    rows = json.loads(paths[0].read_text())["rows"]
    updates = curves.QUICK.study.base.steps
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
    with pytest.raises(Absent, match="expected the record of `pcrnn compare quality`, found none; run "):
        curves.searched(path)
    rows = [{"data": "pydoc", "rule": rule, "lr": 10.0**-n, "search": {"1": n}} for n, rule in enumerate(curves.RULES)]
    other = {"data": "other", "rule": BPTT, "lr": 7.0, "search": {}}
    path.write_text(json.dumps({"rows": [*rows, other]}))
    found = curves.searched(path)
    assert found == {row["rule"]: {"lr": row["lr"], "search": row["search"]} for row in rows}
    path.write_text(json.dumps({"rows": [*rows[:-1], other]}))
    with pytest.raises(Absent, match=r"expected rates of bptt; .* on pydoc, found none of layer, exact; run"):
        curves.searched(path)


def test_a_rule_twice_as_fast_as_bptt_gets_twice_the_updates(tmp_path, monkeypatch):
    def taking_turns(contenders, rounds, *, clock):
        return {name: [0.2 if name == "bptt" else 0.1] * rounds for name in contenders}

    monkeypatch.setattr(curves.record, "in_turns", taking_turns)

    def equal_time():
        path, *_ = curves.run(Request(quick=True, seeds=1, out=tmp_path))
        return json.loads(path.read_text())["equal_time"]

    first = equal_time()
    measured = {row["data"] for row in first}  # the weather only where its package is installed
    assert "pydoc" in measured
    for data in measured:
        timed = curves.TIMED[data]
        updates = {row["rule"]: row["updates"] for row in first if row["data"] == data}
        assert updates == {"bptt": 4} | dict.fromkeys(timed, 8)
    assert {"LSTM", "GRU", "transformer"} <= set(curves.TIMED["pydoc"]) & set(curves.TIMED["weather"])

    monkeypatch.setattr(curves.record, "in_turns", lambda *_, **__: pytest.fail("what was timed is kept"))
    assert equal_time() == first


def test_a_timed_learner_does_what_a_trained_one_does():
    config = replace(curves.QUICK.study.base, rule="local", steps=2)
    task = tasks.open_pydoc(config, None, 400)
    contender = contenders.CONTENDERS["neighbour, exact"]
    training = contenders.Training(task, contender, config)
    training.update()
    training.update()
    assert training.learner.updates == 2
    fitted = contenders.fit_contender(task, contender, config)
    assert fitted is not None
    assert contenders.score(training.model, task, "valid").nats == fitted.valid.nats
