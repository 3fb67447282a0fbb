"""The alignment suite: identities its figures must obey, and a whole run at a tiny size."""

import json
from dataclasses import replace

import pytest
import torch

import learning_rules
from comparisons import alignment
from comparisons.learner import cut
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, PredictiveStack

TINY = replace(
    alignment.QUICK, depths=(1, 2), units=6, batch=3, moments=(0, 2), steps=12, chunk=4, lags=(1, 4, 8), lag_chunk=4
)


@pytest.fixture(autouse=True)
def _float64():
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


@pytest.fixture
def stack() -> PredictiveStack:
    return PredictiveStack(Categorical(5), (6, 4))


@pytest.fixture
def passage() -> torch.Tensor:
    """[B, T + 1] symbols."""
    return torch.randint(5, (3, 13))


def of(rows, rule: str, **wanted) -> list[dict]:
    return [row for row in rows if row["rule"] == rule and all(row[key] == value for key, value in wanted.items())]


def test_the_rules_that_must_agree_with_whole_bptt_do(stack, passage):
    """In one chunk BPTT is the reference, and one hop is all there is to a stack of two."""
    rows = alignment.alignment_rows(stack, passage, chunk=12)
    for row in of(rows, "bptt, truncated") + of(rows, "neighbour") + of(rows, "top", layer=2):
        assert row["gates_cosine"] == pytest.approx(1)
        assert row["gates_norm_ratio"] == pytest.approx(1)
    (lower,) = of(rows, "top", layer=1)
    assert lower["gates_cosine"] < 0.999


def test_chunk_borders_cost_truncated_bptt_but_not_an_exact_trace(stack, passage):
    rows = alignment.alignment_rows(stack, passage, chunk=4)
    (exact,), (truncated,) = of(rows, "top", layer=2), of(rows, "bptt, truncated", layer=2)
    assert exact["gates_cosine"] == pytest.approx(1)
    assert exact["gates_norm_ratio"] == pytest.approx(1)
    assert truncated["gates_cosine"] < 0.999


def test_credit_per_lag_adds_up_to_the_gradient_of_the_last_step(stack, passage):
    rule = learning_rules.make("bptt")
    bands = alignment.credit_per_lag(rule, stack, passage, (1, 3, 12), chunk=12)
    whole = Chunk.of_stream(passage)
    last = torch.zeros(whole.targets.shape, dtype=torch.bool)
    last[:, -1] = True
    wanted = alignment.gradient(rule, stack, [whole._replace(mask=last)])
    for per_band, layer in zip(bands, wanted, strict=True):
        torch.testing.assert_close(torch.stack(per_band).sum(0), layer["gates"])


def test_credit_beyond_the_chunk_is_none_for_truncated_bptt_and_whole_for_an_exact_trace(stack, passage):
    rows = alignment.lag_rows(stack, passage[:, :9], TINY)
    for row in of(rows, "bptt, truncated", lag=8) + of(rows, "neighbour, chunk", lag=8, layer=2):
        assert row["norm"] == pytest.approx(0, abs=1e-12)
    for row in of(rows, "top", layer=2) + of(rows, alignment.REFERENCE):
        assert row["share"] == pytest.approx(1)
        assert row["cosine"] == pytest.approx(1)


def test_a_gradient_is_that_of_frozen_weights(stack, passage):
    before = [p.clone() for p in stack.parameters()]
    alignment.gradient(learning_rules.make("local"), stack, cut(Chunk.of_stream(passage), 4))
    torch.testing.assert_close(list(stack.parameters()), before, rtol=0, atol=0)
    assert all(p.grad is None for p in stack.parameters())


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(alignment, "QUICK", TINY)
    heard: list[str] = []
    paths = alignment.run(Request(quick=True, seeds=2, out=tmp_path, tell=heard.append))
    assert {path.name for path in paths} >= {"alignment.json", "alignment.md", "alignment.png"}
    assert all(path.stat().st_size for path in paths)
    record = json.loads((tmp_path / "alignment.json").read_text())
    assert len(record["rows"]) == 2 * 2 * (1 + 2) * len(alignment.RULES)  # seeds, moments, layers, rules
    assert "What it does not predict" in record["config"]["reading"]
    assert "What it does not predict" in (tmp_path / "alignment.md").read_text()
    assert len(heard) == 2 * 2 * 2
