"""The suites of small chunks and of equal time at a tiny size: what is trained how long, and against what."""

import json
from dataclasses import replace

import pytest

from comparisons import chunks, contenders, equal_time, quality, tasks
from comparisons.suite import Request


def test_every_chunk_sees_as_many_steps_and_every_rule_is_compared_at_its_own_chunk(tmp_path):
    paths = chunks.run(Request(quick=True, seeds=2, out=tmp_path, only=("pydoc",)))
    assert [path.name for path in paths] == ["chunks.json", "chunks.md", "chunks.png", "chunks.svg"]
    written = json.loads(paths[0].read_text())
    assert {(row["chunk"], row["updates"]) for row in written["rows"]} == {(4, 4), (8, 2)}
    for chunk in (4, 8):
        here = {row["rule"]: row for row in written["rows"] if row["chunk"] == chunk}
        assert here.keys() == {"bptt", *chunks.RULES}
        for row in here.values():
            gaps = [100 * (mine / bptt - 1) for mine, bptt in zip(row["metrics"], here["bptt"]["metrics"], strict=True)]
            assert row["gap_percent"] == pytest.approx(sum(gaps) / 2)
    (said,) = written["summary"]
    assert said.startswith("pydoc, from BPTT at 4 / 8 chunk: cascade, exact ")


def test_a_rule_twice_as_fast_as_bptt_gets_twice_the_updates(tmp_path, monkeypatch):
    def taking_turns(learners, rounds, *, clock):
        return {kind: [0.2 if kind == "bptt" else 0.1] * rounds for kind in learners}

    monkeypatch.setattr(equal_time.record, "in_turns", taking_turns)
    first, *_ = equal_time.run(Request(quick=True, seeds=1, out=tmp_path))
    updates = {row["rule"]: row["updates"] for row in json.loads(first.read_text())["rows"]}
    assert updates == {"bptt": 4} | dict.fromkeys(equal_time.RULES, 8)

    monkeypatch.setattr(equal_time.record, "in_turns", lambda *_, **__: pytest.fail("what was timed is kept"))
    assert json.loads(equal_time.run(Request(quick=True, seeds=1, out=tmp_path))[0].read_text()) == json.loads(
        first.read_text()
    )


def test_a_timed_learner_does_what_a_trained_one_does():
    study = quality.quick(equal_time.FULL.study)
    config = replace(study.base, rule="local", steps=2)
    task = tasks.open_pydoc(config, None, 400)
    training = contenders.Training(task, contenders.KINDS["neighbour, exact"], config)
    assert training.update() and training.update()
    found = contenders.fit(task, contenders.KINDS["neighbour, exact"], config)
    assert found is not None
    assert contenders.score(training.contender, task, "valid").nats == found.valid.nats
