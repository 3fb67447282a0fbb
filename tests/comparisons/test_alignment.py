"""The alignment suite: identities its figures must obey, and a whole run at a tiny size."""

import json
from dataclasses import replace

import pytest
import torch
from pcrnn.comparisons.gradients import split_chunk
from pcrnn.comparisons.mechanisms import alignment
from pcrnn.comparisons.suite import Request

import learning_rules
from pcrnn import Categorical, Chunk, PredictiveStack

pytestmark = pytest.mark.usefixtures("float64")

TINY = replace(
    alignment.QUICK,
    depths=(1, 2),
    units=6,
    batch=3,
    moments=(0, 2),
    steps=12,
    chunk=4,
    lags=(1, 4, 8),
    lag_chunk=4,
    scored_depth=2,
    rates=(1e-9, 3e-2),
    scored_steps=16,
)


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
    alignment.gradient(learning_rules.make("local"), stack, split_chunk(Chunk.of_stream(passage), 4))
    torch.testing.assert_close(list(stack.parameters()), before, rtol=0, atol=0)
    assert all(p.grad is None for p in stack.parameters())


def test_every_rule_has_the_rate_that_is_best_for_it_on_the_first_seed(monkeypatch):
    """A rate of next to nothing leaves the untrained score; the record shows what was tried."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(alignment, "RULES", {rule: alignment.RULES[rule] for rule in (alignment.BPTT, "top")})
    setting = replace(TINY, moments=(0, 12))
    rows = alignment.score_rows(setting, Request(quick=True, seeds=2))
    assert [(row["rule"], row["seed"]) for row in rows] == [(rule, seed) for rule in alignment.RULES for seed in (0, 1)]
    for row in rows:
        assert row["lr"] == 3e-2
        assert row["search"]["0.03"] < row["search"]["1e-09"] - 0.1
    for first in rows[::2]:
        assert first["bits"] == first["search"]["0.03"]
    assert rows[0]["bits"] != rows[1]["bits"]


def made(cosines: dict[str, float], bits: dict[str, float], lowest: dict[int, dict[str, float]]) -> tuple:
    """Rows, lag rows and scores of one seed; `lowest` is the lowest layer's cosine by depth, other layers have 1."""
    rows = [
        {"rule": rule, "depth": depth, "layer": layer, "updates": 2, "gates_cosine": at[rule] if layer == 1 else 1.0}
        for depth, at in lowest.items()
        for rule in cosines
        for layer in range(1, depth + 1)
    ]
    lags = [{"rule": "neighbour", "depth": d, "lag": 8, "layer": 1, "share": share} for d, share in ((1, 1), (2, 0.25))]
    inside = {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}
    scores = [{"rule": rule, "seed": 0, "depth": 2, "bits": bits[rule]} | inside for rule in bits]
    return rows, lags, scores


def test_the_summary_says_where_local_wins_and_loses_and_what_the_cosine_fails_to_rank():
    rules = list(alignment.RULES)
    bits = dict(zip(rules, (2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 1.9, 2.7), strict=True))
    deep = dict(zip(rules, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1, 0.2), strict=True))
    shallow = dict.fromkeys(rules, 1.0) | {alignment.BPTT: 0.96}
    rows, lags, scores = made(deep, bits, {1: shallow, 2: deep})
    wins, loses, ranks = alignment.summary(rows, lags, scores, TINY)
    assert wins.startswith("Wins: with 1 layer, ")
    assert "neighbour 1.00" in wins and "steps 0.96" in wins and "(neighbour) 100 % of" in wins
    assert loses.startswith("Loses: with 2 layers, ")
    assert "neighbour 0.70, hierarchy 0.80, top 0.10, layer 0.20" in loses and "(neighbour) 25 % of" in loses
    assert "it puts 21 of 28 pairs in the order" in ranks  # all but those of `top`, the best score and the worst cosine
    assert "; top (cosine 0.55, 1.900 bits/char, -5.0 %) scores better than bptt, truncated (cosine 0.95" in ranks
    best, *_ = alignment.beside_the_score(rows, scores)
    assert (best["rule"], best["lowest_cosine"]) == ("top", pytest.approx(0.1))
    top = next(row for row in scores if row["rule"] == "top")
    top["search"] = {"0.001": 3.0, "0.003": 2.0}
    *_, ranks = alignment.summary(rows, lags, scores, TINY)
    assert "it puts 21 of 21 pairs in the order of their scores; no claim of top, whose search" in ranks
    best, *_ = alignment.beside_the_score(rows, scores)
    assert (best["gap"], best["no_claim"]) == (None, "the search ended at its edge for top (rate 0.003)")


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
    assert len(heard) == 2 * 2 * 2 + len(alignment.RULES)
    assert len(record["scores"]) == 2 * len(alignment.RULES)
    assert len(record["summary"]) == 3
    assert "## Beside the score" in (tmp_path / "alignment.md").read_text()
