"""The streams that change, and the suite that listens to them at a tiny size."""

import json
import math
from dataclasses import replace

import pytest
import torch

from comparisons import online
from comparisons.suite import Request

TINY = replace(online.QUICK, before=48, after=48, batch=2, hidden=(4, 3), intervals=(1, 8), window=16)


@pytest.fixture(autouse=True)
def _threads_restored():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_echo_changes_its_lag_at_the_change():
    setting = replace(online.QUICK, before=400, after=400, batch=2)
    heard, echo = online.changing_series(setting, lags=(3, 5), noise=0.01).x.unbind(-1)
    assert heard.shape == (2, 801)
    torch.testing.assert_close(echo[:, 3:401], heard[:, : 401 - 3], atol=0.06, rtol=0)
    torch.testing.assert_close(echo[:, 401:], heard[:, 401 - 5 : -5], atol=0.06, rtol=0)


def test_the_floor_of_the_series_is_the_surprise_of_whoever_knows_the_rule():
    setting = replace(online.QUICK, before=20_000, after=8, batch=1)
    stream = online.changing_series(setting, lags=(3, 5), noise=0.1)
    heard, echo = stream.x[0, 10:20_000].double().unbind(-1)
    known = stream.x[0, 7:19_997, 0].double()
    density = 0.5 * heard.square() + 0.5 * ((echo - known) / 0.1).square() + math.log(2 * math.pi) + math.log(0.1)
    assert stream.floor is not None
    assert density.mean().item() == pytest.approx(stream.floor[0], abs=0.05)


def test_the_text_changes_its_source_at_the_change(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}" * 60, encoding="utf-8")
    stream = online.switching_text(TINY, other)
    assert stream.x.shape == (2, 97)
    greek = stream.observation().size - 2
    assert (stream.x[:, :49] < greek).all()
    assert (stream.x[:, 49:] >= greek).all()
    assert "other.txt" in stream.name


def test_a_text_too_short_for_all_listeners_is_refused(tmp_path):
    other = tmp_path / "short.txt"
    other.write_text("too short", encoding="utf-8")
    with pytest.raises(ValueError, match="at least 2 x 48 symbols, got 9"):
        online.switching_text(TINY, other)


def test_recovery_is_counted_from_the_change_to_the_worst_final_level():
    curves = {"slow": ([9.0, 1, 1, 5, 4, 3], 3.0), "quick": ([9.0, 1, 1, 5, 2, 2], 2.0)}
    rows = [{"rule": rule, "interval": 8, "curve": curve, "end": end} for rule, (curve, end) in curves.items()]
    rows.append(rows[0] | {"interval": 128, "end": 9.0})
    slow, quick, _ = online.with_recovery(rows, replace(TINY, before=48, window=16))
    assert slow["recovery_level"] == quick["recovery_level"] == 3.0
    assert (slow["recovery_steps"], quick["recovery_steps"]) == (48, 32)


@pytest.mark.parametrize("rule", online.RULES)
def test_a_step_is_scored_before_it_is_learned_from(rule):
    """The first chunk meets the initial weights, whatever the rule and its rate."""
    stream = online.changing_series(TINY)
    slow, fast = (online.listen(stream, rule, 8, rate, TINY, seed=0) for rate in (1e-9, 1e-2))
    torch.testing.assert_close(slow[:8], fast[:8])
    assert not torch.allclose(slow[8:], fast[8:])


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(online, "QUICK", TINY)
    paths = online.run(Request(quick=True, seeds=1, out=tmp_path))
    assert {path.name for path in paths} >= {"online.json", "online.md", "online.png"}
    rows = json.loads((tmp_path / "online.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * len(online.RULES)  # streams, intervals, rules
    for row in rows:
        assert len(row["curve"]) == 6
        assert row["mean"] == pytest.approx(sum(row["curve"]) / 6, rel=1e-4)
