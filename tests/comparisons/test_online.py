"""The streams that change, and the suite that listens to them at a tiny size."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pcrnn.comparisons.mechanisms import online
from pcrnn.comparisons.record import losses_first
from pcrnn.comparisons.suite import Request

from pcrnn.errors import DataError

SPANS = (online.Span(interval=1, half=24, rates=(3e-3,)), online.Span(interval=8, half=48, rates=(3e-3, 1e-2)))
TINY = replace(online.QUICK, spans=SPANS, batch=2, hidden=(4, 3), lags=(3, 5), points=3)
BPTT = online.BPTT


def test_the_echo_changes_its_lag_at_the_change():
    heard, echo = online.changing_series(TINY, 400, noise=0.01).x.unbind(-1)
    assert heard.shape == (2, 801)
    torch.testing.assert_close(echo[:, 3:401], heard[:, : 401 - 3], atol=0.06, rtol=0)
    torch.testing.assert_close(echo[:, 401:], heard[:, 401 - 5 : -5], atol=0.06, rtol=0)


def test_the_floor_of_the_series_is_the_surprise_of_whoever_knows_the_rule():
    stream = online.changing_series(replace(TINY, batch=1), 20_000, noise=0.1)
    heard, echo = stream.x[0, 10:20_000].double().unbind(-1)
    known = stream.x[0, 7:19_997, 0].double()
    density = 0.5 * heard.square() + 0.5 * ((echo - known) / 0.1).square() + math.log(2 * math.pi) + math.log(0.1)
    assert stream.floor is not None
    assert density.mean().item() == pytest.approx(stream.floor[0], abs=0.05)


def test_the_text_changes_its_source_at_the_change(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\U0010fffc\U0010fffd" * 60, encoding="utf-8")  # above whatever a Python's pydoc contains
    stream = online.switching_text(TINY, 48, other)
    assert stream.x.shape == (2, 97)
    first = stream.observation().size - 2
    assert (stream.x[:, :49] < first).all()
    assert (stream.x[:, 49:] >= first).all()
    assert "other.txt" in stream.name


def test_a_text_too_short_for_all_listeners_is_refused(tmp_path):
    other = tmp_path / "short.txt"
    other.write_text("just too short", encoding="utf-8")
    with pytest.raises(DataError, match="at least 2 x 48 symbols, got 14; give more"):
        online.switching_text(TINY, 48, other)


def row(rule: str, seed: int, interval: int = 8, **figures) -> dict:
    known = {"stream": "s", "unit": "u", "floor": None, "half": 48, "window": 16, "early_after": 1.0}
    known |= {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}
    known |= {"before": 1.0, "end": 1.0, "mean": 1.0, "recovery_steps": 16}
    return known | {"rule": rule, "seed": seed, "interval": interval} | figures


def test_recovery_is_counted_from_the_change_to_the_worst_final_level():
    curves = {"slow": ([1.0, 1, 1, 5, 4, 3], 3.0), "quick": ([9.0, 1, 1, 5, 2, 2], 2.0)}
    rows = [row(rule, 0, curve=curve, end=end) for rule, (curve, end) in curves.items()]
    slow, quick = online.with_recovery(rows)
    assert slow["recovery_level"] == quick["recovery_level"] == 3.0
    assert (slow["recovery_steps"], quick["recovery_steps"]) == (48, 32)


def test_who_never_recovers_is_said_to():
    rows = [row(rule, 0, curve=[1.0, 1, 9, 9 if rule == BPTT else 8], end=8.0) for rule in online.RULES]
    found = online.with_recovery(rows)
    assert found[-1]["recovery_steps"] is None
    assert online.summary(found)[0].endswith("steps to recover from the change: 32, BPTT: never.")


def test_figures_are_of_the_parts_before_and_after_the_change():
    met = torch.cat([torch.full((16,), 4.0), torch.full((8,), 9.0), torch.full((8,), 1.0)])
    found = online.metrics(met, 2)
    assert (found["mean"], found["before"], found["early_after"], found["end"]) == (4.5, 4.0, 9.0, 1.0)
    assert (found["curve"], found["window"]) == ([4.0, 4.0, 9.0, 1.0], 8)


def test_the_distance_to_bptt_is_taken_seed_by_seed():
    """Seeds differ by 1, rules by 0.1 and 0.4 at the same seed."""
    rows = [row(BPTT, 0, mean=2.0), row(BPTT, 1, mean=3.0), row("top, exact", 0, mean=2.1)]
    rows += [row("top, exact", 1, mean=3.4), row("top, exact", 0, interval=1), row(BPTT, 0, interval=1)]
    top = next(mean for mean in online.means(rows) if mean["rule"] == "top, exact" and mean["interval"] == 8)
    assert top["gap"] == pytest.approx(0.25)
    assert top["gap_spread"] == pytest.approx(0.2121, abs=1e-4)
    rows += [
        row("neighbour, exact", seed, mean=mean, interval=i) for seed, mean, i in ((0, 1.9, 8), (1, 2.9, 8), (0, 1, 1))
    ]
    neighbour, top = online.summary(rows)
    assert neighbour.startswith(
        "Wins: s, an update every 8 / 1 steps: neighbour, exact is -0.100 ± 0.000 / +0.000 (level)"
    )
    assert top.startswith(
        "Level: s, an update every 8 / 1 steps: top, exact is +0.250 ± 0.212 (level) / +0.000 (level) u"
    )


@pytest.mark.parametrize(("gaps", "verdict"), [((0.3, 0.2), "Loses"), ((0.3, -0.2), "Mixed"), ((-0.3, -0.2), "Wins")])
def test_a_verdict_is_over_all_intervals(gaps, verdict):
    rows = [
        row(rule, 0, interval=interval, mean=2.0 + (rule != BPTT) * gap)
        for rule in online.RULES
        for interval, gap in zip((1, 8), gaps, strict=True)
    ]
    assert all(sentence.startswith(f"{verdict}: s, ") for sentence in online.summary(rows))


def test_nothing_is_claimed_of_a_rule_whose_search_ended_at_its_edge():
    edge = {"search": {"0.001": 3.0, "0.003": 2.0}}
    rows = [row(rule, 0, interval=i, mean=2.0 + (rule != BPTT)) for rule in online.RULES for i in (1, 8)]
    for one in rows:
        if one["rule"] == "top, exact" and one["interval"] == 8:
            one |= edge
    neighbour, top = online.summary(rows)
    assert neighbour.startswith("Loses: s, an update every 1 / 8 steps: neighbour, exact is +1.000 / +1.000 u from")
    assert top.startswith("Loses: s, an update every 1 / 8 steps: top, exact is +1.000 / no claim u from BPTT")
    assert "(below 0 is better; no claim where a search ended at its edge)" in top
    assert top.endswith("recover from the change: 16 / no claim, BPTT: 16 / 16.")
    for one in rows:
        if one["rule"] == BPTT:
            one |= edge
    assert all(said.startswith("No claim: s, ") for said in online.summary(rows))


def test_a_distance_beyond_twice_its_error_is_not_called_level():
    assert online.gap({"gap": 0.2, "gap_spread": 0.02, "seeds": 3}) == "+0.200 ± 0.020"
    assert online.gap({"gap": -0.2, "gap_spread": 0.02, "seeds": 3}) == "-0.200 ± 0.020"


def test_the_rate_is_searched_on_the_first_seed_only(monkeypatch):
    trained = []

    def learn_online(stream, rule, interval, rate, setup, seed):
        trained.append((rate, seed))
        return torch.full((96,), abs(rate - 1e-2) if rate < 1 else math.nan)

    monkeypatch.setattr(online, "learn_online", learn_online)
    span = online.Span(interval=8, half=48, rates=(3e-3, 1e-2, 10.0))
    stream = online.changing_series(TINY, 48)
    found = online.rule_rows(stream, BPTT, span, TINY, range(3))
    assert trained == [(3e-3, 0), (1e-2, 0), (10.0, 0), (1e-2, 1), (1e-2, 2)]
    assert [(one["seed"], one["lr"]) for one in found] == [(0, 1e-2), (1, 1e-2), (2, 1e-2)]
    assert found[0]["search"] == {"0.003": pytest.approx(7e-3), "0.01": pytest.approx(0), "10": None}


@pytest.mark.parametrize("rule", online.RULES)
def test_a_step_is_scored_before_it_is_learned_from(rule):
    """The first chunk meets the initial weights, whatever the rule and its rate."""
    stream = online.changing_series(TINY, 48)
    slow, fast = (online.learn_online(stream, rule, 8, rate, TINY, seed=0) for rate in (1e-9, 1e-2))
    torch.testing.assert_close(slow[:8], fast[:8])
    assert not torch.allclose(slow[8:], fast[8:])


def test_at_two_layers_neighbour_is_truncated_bptt_until_a_border_is_crossed():
    """Over the first chunk both have the same gradient, so they meet the second with the same weights."""
    stream = online.changing_series(replace(TINY, hidden=(4, 3)), 48)
    neighbour, bptt = (
        online.learn_online(stream, rule, 16, 1e-2, replace(TINY, hidden=(4, 3)), seed=0)
        for rule in ("neighbour, exact", BPTT)
    )
    torch.testing.assert_close(neighbour[:32], bptt[:32], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(neighbour[32:], bptt[32:], rtol=1e-3, atol=1e-4)


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(online, "QUICK", TINY)
    paths = online.run(Request(quick=True, seeds=2, out=tmp_path))
    assert {path.name for path in paths} >= {"online.json", "online.md", "online.png"}
    written = json.loads((tmp_path / "online.json").read_text())
    rows = written["rows"]
    assert len(rows) == 2 * 2 * 2 * len(online.RULES)  # streams, intervals, seeds, rules
    for one in rows:
        assert len(one["curve"]) == 6
        assert one["mean"] == pytest.approx(sum(one["curve"]) / 6, rel=1e-4)
    assert written["summary"] == losses_first(online.summary(rows))
    assert len(written["summary"]) == 2 * 2  # streams, local rules
