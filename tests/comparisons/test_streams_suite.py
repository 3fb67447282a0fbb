"""The suite of streams at a tiny size: what it writes and leaves out, how rates are chosen, what a step costs."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pcrnn.comparisons import record, report
from pcrnn.comparisons.cells import Cells
from pcrnn.comparisons.quality import tasks
from pcrnn.comparisons.record import losses_first
from pcrnn.comparisons.streams import (
    braintrace_step,
    detection,
    detection_part,
    forecast_part,
    one_stream,
    river_series,
    step_cost,
    step_cost_part,
    streams,
)
from pcrnn.comparisons.streams.detection import ALONE, NATS, SCORE, WITH_RULE, Detection, DetectionSetup
from pcrnn.comparisons.streams.nab import LabelledSeries, read_corpus
from pcrnn.comparisons.streams.nab_score import PROFILES
from pcrnn.comparisons.streams.one_pass import OnePass, OnlineSettings, Stream
from pcrnn.comparisons.streams.parts import Reader
from pcrnn.comparisons.streams.words import OURS
from pcrnn.comparisons.suite import Request

from pcrnn.errors import DataError, UsageError

STACK = {"stack": "2 x 4", "kind": step_cost.PLAIN, "us_min": 1.0, "us_max": 9.0, "parameters": 5}
COSTS = [
    STACK | {"who": "learn_one, compiled", "us": 20.0},
    STACK | {"who": step_cost.LSTM, "us": 500.0},
    STACK | {"who": "learn_one, compiled", "us": 30.0, "kind": step_cost.WHOLE},
    {"stack": "2 x 4", "kind": step_cost.WHOLE, "who": "learn_one", "memory_mib": 0.5, "steps": 2000},
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four series in the benchmark's layout, three of them with an anomaly."""
    made, labels = tmp_path / "nab", {}
    times = np.datetime64("2014-04-01", "s") + np.timedelta64(30, "m") * np.arange(50)
    for number in range(4):
        name, values = f"real/{'abcd'[number]}.csv", np.random.default_rng(number).normal(size=50).round(3)
        values[30:34] += 9
        lines = [f"{time},{value}" for time, value in zip(np.datetime_as_string(times), values, strict=True)]
        path = made / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["timestamp,value", *(line.replace("T", " ") for line in lines)]) + "\n")
        labels[name] = [[str(times[28]).replace("T", " "), str(times[36]).replace("T", " ")]] if number else []
    (made / "labels").mkdir()
    (made / "labels" / "combined_windows.json").write_text(json.dumps(labels))
    return made


def reader(path: Path, seeds: int = 1) -> Reader:
    return Reader(Cells(path / "cells.jsonl"), range(seeds), lambda line: None)


# The whole


def test_a_quick_run_writes_its_files_and_goes_on_from_what_was_read(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(step_cost_part, "measure", lambda setup: COSTS)
    told: list[str] = []
    request = Request(quick=True, seeds=2, out=tmp_path / "out", data=folder, tell=told.append)
    paths = streams.run(request)
    assert [path.name for path in paths] == ["streams.json", "streams.md", "streams.png", "streams.svg"]
    written = json.loads(paths[0].read_text())
    rows, (how_long,) = written["rows"], [line for line in told if line.startswith("streams: about ")]
    assert {row["part"] for row in rows} >= {"text", "nab", "speed"}
    assert "minutes of CPU time (text " in how_long
    assert written["summary"] == losses_first(streams.restated(written)["summary"])
    assert written["config"] == {"seeds": 2, "only": [], "quick": True}
    page = paths[1].read_text()
    assert all(sentence in page for sentence in written["summary"])
    for heading in ("| contender | bits/char |", "| contender | nats/step |", "| stack | does |", "rate from fold A"):
        assert heading in page

    def append(self, text):
        raise AssertionError("computed again")

    monkeypatch.setattr(Cells, "_append", append)
    streams.run(request)
    assert json.loads(paths[0].read_text())["rows"] == rows


def test_the_header_of_the_page_has_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(step_cost_part, "measure", lambda setup: COSTS)
    streams.run(Request(quick=True, out=tmp_path, only=("speed",)))
    assert "processor " in (tmp_path / "streams.md").read_text().splitlines()[2]
    assert json.loads((tmp_path / "streams.json").read_text())["config"]["only"] == ["speed"]


def test_the_readme_has_a_line_a_contender_with_what_it_does_on_each_stream():
    search = {"0.001": 2.0, "0.003": 1.0, "0.01": 2.0}
    text = {"part": "text", "who": OURS, "metric": 2.7512, "spread": 0.0123, "us": 81.44, "lr": 3e-3, "search": search}
    edge = {"part": "weather", "who": "GRU", "metric": 1.5, "spread": 0.1, "us": 9.0, "lr": 0.01, "search": {"0.01": 1}}
    folds = {"A": {"lr": 3e-3, "search": search}, "B": {"lr": 3e-3, "search": search}}
    scores = {ALONE: {"standard": [40.0, 42.0]}, WITH_RULE: {"standard": [60.0, 62.0]}}
    nab = {"part": "nab", "who": OURS, "chosen_by": NATS, "folds": folds, "nats": [-0.14, -0.16]} | scores
    by_score = nab | {"chosen_by": SCORE, "nats": [9.0, 9.0]}
    rule = nab | {"who": detection.RULE, "chosen_by": None, "folds": {}, "nats": [None], ALONE: {"standard": [None]}}
    result = {"rows": [text, edge, nab, by_score, rule, *({"part": "speed"} | row for row in COSTS)]}
    about = {"config": {"seeds": 2, "only": []}, "environment": record.environment()}
    table, caption = report.streams_part(result | about)
    assert table.splitlines()[2:] == [
        f"| {OURS} | 2.751 ± 0.012 | 81.4 |  | -0.1500 ± 0.014 | 41.0 ± 1.4 | 61.0 ± 1.4 |",
        "| GRU |  |  | 1.500 ± 0.1 (one rate tried) |  |  |  |",
        "| range rule alone |  |  |  |  |  | 61.0 ± 1.4 |",
    ]
    assert "`pcrnn compare streams`" in caption


# What is not there


def absent(reason: str) -> Callable[..., None]:
    def opener(*arguments: object) -> None:
        raise tasks.Absent(reason)

    return opener


def test_what_is_not_there_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(step_cost_part, "measure", lambda setup: COSTS)
    monkeypatch.setattr(detection_part, "FOLDER", tmp_path / "no_nab")
    monkeypatch.setattr(tasks, "weather", absent("no pvlib"))
    monkeypatch.setattr(river_series, "require_river", absent("no River"))
    told: list[str] = []
    only = ("nab", "weather", "river", "speed")
    streams.run(Request(quick=True, out=tmp_path, only=only, tell=told.append))
    written = json.loads((tmp_path / "streams.json").read_text())
    assert list(written["skipped"]) == ["nab", "weather", "river"]
    assert written["skipped"]["nab"].endswith(
        "no_nab is not there; give the folder of a copy of the benchmark with --data"
    )
    assert "weather: skipped, no pvlib" in told
    assert "river: skipped, no River" in (tmp_path / "streams.md").read_text()


def test_nothing_is_written_where_nothing_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "weather", absent("no pvlib"))
    with pytest.raises(DataError, match="no pvlib"):
        streams.run(Request(quick=True, out=tmp_path, only=("weather",)))
    assert not (tmp_path / "streams.json").exists()


def test_a_folder_is_for_the_anomalies(tmp_path, folder):
    with pytest.raises(UsageError, match=r"--only: expected nab, which takes .*nab, got text weather"):
        streams.run(Request(quick=True, out=tmp_path, data=folder, only=("weather", "text")))
    with pytest.raises(UsageError, match="expected a folder with data"):
        streams.run(Request(quick=True, out=tmp_path, data=tmp_path))


# One stream


def test_others_than_the_first_seed_read_at_the_best_rate_alone(tmp_path, monkeypatch):
    tried: list[tuple[float, int]] = []

    def learner(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        tried.append((settings.lr, seed))
        return OnePass(np.full(len(stream.x), abs(math.log(settings.lr / 3e-3)) + seed), None, 1e-6, 7)

    monkeypatch.setattr(one_stream, "LEARNERS", {"a learner": learner})
    monkeypatch.setattr(one_stream, "contenders", lambda stream: one_stream.LEARNERS)
    (row,) = one_stream.Opened(one_stream.TEXT, one_stream.read_text(64)).rows(reader(tmp_path, 3))
    assert tried == [(1e-3, 0), (3e-3, 0), (1e-2, 0), (3e-3, 1), (3e-3, 2)]
    assert row["metrics"] == pytest.approx([seed / math.log(2) for seed in range(3)])
    assert (row["lr"], row["us"], row["parameters"]) == (3e-3, 1.0, 7)


def test_who_diverged_at_every_rate_has_no_score(tmp_path, monkeypatch):
    nothing = OnePass(np.full(64, math.nan), None, math.nan, 7)
    monkeypatch.setattr(one_stream, "LEARNERS", {"a learner": lambda *arguments: nothing})
    monkeypatch.setattr(one_stream, "contenders", lambda stream: one_stream.LEARNERS)
    rows = one_stream.Opened(one_stream.TEXT.quick(), one_stream.read_text(64)).rows(reader(tmp_path))
    assert rows[0]["metric"] is None
    assert set(rows[0]["search"].values()) == {None}
    assert one_stream.TEXT.summary(rows) == []
    assert "| a learner |  |" in one_stream.TEXT.tables(rows)[1]


def test_the_weather_is_read_as_it_was_measured():
    pytest.importorskip("pvlib")
    stream = one_stream.read_weather(100)
    assert stream.x.shape == (100, 10)
    assert stream.x[1:7, 0].tolist() == [0] * 6  # no sun shone yet: it was a constant, to the last digit


# Anomalies

BEST = {"A": 1e-3, "B": 1e-2}  # rate of the least nats on series of a fold
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def corpus(series: int = 8, rows: int = 40) -> list[LabelledSeries]:
    """Series with an anomaly in the middle."""
    times = np.datetime64("2014-04-01", "s") + np.timedelta64(30, "m") * np.arange(rows)
    return [
        LabelledSeries(f"{i}.csv", times, i + np.random.default_rng(i).normal(size=rows), ((rows // 2, rows // 2 + 5),))
        for i in range(series)
    ]


class Crossed:
    """A learner whose nats are least at one rate on fold A and at another on fold B; it notes what it is asked."""

    def __init__(self, setup: DetectionSetup) -> None:
        self.job = Detection(setup, corpus())
        self.asked: list[tuple[str, float, int]] = []

    def __call__(self, stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        (name,) = (name for name, known in self.job._streams.items() if known.digest == stream.digest)
        fold = "AB"[int(name[0]) % 2]
        self.asked.append((name, settings.lr, seed))
        nats = abs(math.log(settings.lr / BEST[fold]))
        return OnePass(np.full(len(stream.x), nats), np.zeros(len(stream.x)), 1e-6, 7)


@pytest.fixture
def crossed(monkeypatch) -> Crossed:
    found = Crossed(DetectionSetup(rates=RATES, widenings=0))
    monkeypatch.setattr(detection, "LEARNERS", {OURS: found})
    return found


def test_no_series_is_read_at_a_rate_that_was_chosen_on_it(crossed, tmp_path):
    row = crossed.job.rows(reader(tmp_path, 2))[0]
    assert (row["who"], row["chosen_by"]) == (OURS, NATS)
    assert {fold: search["lr"] for fold, search in row["folds"].items()} == BEST
    # At its own fold's best rate everybody would have 0 nats; all read at the other's.
    assert row["nats"] == pytest.approx([math.log(10)] * 2)
    second = {(name, rate) for name, rate, seed in crossed.asked if seed == 1}
    by_nats = {(f"{i}.csv", BEST["BA"[i % 2]]) for i in range(8)}
    assert second >= by_nats


def test_a_search_reads_every_other_series_of_its_fold(crossed, tmp_path):
    crossed.job.search(OURS, "B", NATS, reader(tmp_path))
    assert {name for name, _, _ in crossed.asked} == {"1.csv", "5.csv"}
    assert {rate for _, rate, _ in crossed.asked} == set(RATES)


def test_a_rate_may_be_chosen_by_the_score(tmp_path, monkeypatch):
    """Only at one rate is the anomaly seen, on which the nats are worst."""

    def learner(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        surprise = np.random.default_rng(0).normal(size=len(stream.x))
        if settings.lr == 3e-3:
            surprise += 5
            surprise[101:] += 50
        return OnePass(surprise, np.zeros(len(stream.x)), 1e-6, 7)

    monkeypatch.setattr(detection, "LEARNERS", {OURS: learner})
    job = Detection(DetectionSetup(rates=RATES, widenings=0), corpus(rows=200))
    by_nats, by_score = (row for row in job.rows(reader(tmp_path)) if row["who"] == OURS)
    assert (by_nats["chosen_by"], by_score["chosen_by"]) == (NATS, SCORE)
    assert all(search["lr"] == 3e-3 for search in by_score["folds"].values())
    assert by_score[ALONE]["standard"][0] > by_nats[ALONE]["standard"][0]
    losses = by_score["folds"]["A"]["search"]
    assert min(losses, key=losses.get) == "0.003" and losses["0.003"] < 0


def test_controls_stand_beside(crossed, tmp_path):
    rows = {row["who"]: row for row in crossed.job.rows(reader(tmp_path, 2)) if row["chosen_by"] is None}
    assert list(rows) == ["copy-last", detection.RANDOM, detection.RULE]
    assert [len(row[WITH_RULE]["standard"]) for row in rows.values()] == [1, 2, 1]
    assert rows[detection.RULE][ALONE] == {profile: [None] for profile in PROFILES}
    assert rows["copy-last"]["nats"][0] is not None
    assert rows[detection.RANDOM]["nats"] == [None]


def test_who_diverges_on_one_series_has_no_figures(tmp_path, monkeypatch):
    def learner(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        level = math.nan if settings.lr > 2e-3 or stream.digest == job._streams["2.csv"].digest else 1.0
        return OnePass(np.full(len(stream.x), level), np.zeros(len(stream.x)), 1e-6, 7)

    monkeypatch.setattr(detection, "LEARNERS", {OURS: learner})
    job = Detection(DetectionSetup(rates=RATES, widenings=0), corpus())
    row = job.rows(reader(tmp_path))[0]
    assert row["nats"] == [None] and row[ALONE]["standard"] == [None]
    assert row["folds"]["B"]["search"]["0.003"] is None
    assert detection_part.NAB.tables([row])  # which leaves the figures out


def test_nats_count_after_the_probation(tmp_path, monkeypatch):
    def learner(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        return OnePass(np.where(np.arange(len(stream.x)) < 6, 100.0, 2.0), np.zeros(len(stream.x)), 1e-6, 7)

    monkeypatch.setattr(detection, "LEARNERS", {OURS: learner})
    job = Detection(DetectionSetup(rates=(1e-3,)), corpus(4))
    assert job.corpus[0].probation == 6
    assert job.rows(reader(tmp_path))[0]["nats"] == [2.0]


def test_a_thinned_series_keeps_its_anomaly(folder):
    whole = read_corpus(folder)[1]
    thin = detection_part.thinned(whole, 20)
    assert len(thin.values) == 17 and thin.windows == ((10, 12),)
    np.testing.assert_array_equal(thin.values, whole.values[::3])


# What a step costs


def test_everybody_who_learns_at_every_step_is_timed():
    plain = step_cost.rows_of((4, 3), step_cost.PLAIN, 3, 0.02)
    whole = step_cost.rows_of((4, 3), step_cost.WHOLE, 3, 0.02)
    ways = {row["who"] for row in whole}
    assert {row["who"] for row in plain} == ways | {step_cost.LSTM}
    assert {"learn_one, general", "learn_many, general"} <= ways
    assert all(0 < row["us_min"] <= row["us"] <= row["us_max"] for row in [*plain, *whole])
    sizes = {row["who"]: row["parameters"] for row in plain}
    assert sizes[step_cost.LSTM] == pytest.approx(sizes["learn_one, general"], rel=0.2)


@pytest.mark.parametrize("way", step_cost.WAYS)
def test_memory_does_not_grow_with_the_stream(way):
    assert 0 <= step_cost.memory_growth((4, 3), way, 3000) < 8


@pytest.mark.parametrize(
    ("times", "verdict"), [((20, 20), "Wins"), ((900, 900), "Loses"), ((20, 900), "Mixed"), ((490, 510), "Level")]
)
def test_a_step_is_cheap_or_not_beside_the_lstm(times, verdict):
    stacks = ("2 x 4", "2 x 8")
    rows = [STACK | {"stack": stack, "who": step_cost.LSTM, "us": 500.0} for stack in stacks]
    rows += [
        STACK | {"stack": at, "who": "learn_one, compiled", "us": us} for at, us in zip(stacks, times, strict=True)
    ]
    (sentence,) = step_cost_part.SPEED.summary(rows)
    assert sentence.startswith(f"{verdict}: a step of Online by learn_one, compiled takes ")


def test_what_all_of_online_costs_is_said():
    found = step_cost_part.SPEED.summary(COSTS)
    assert found[1].endswith("a step of 2 x 4 takes: learn_one, compiled 30 µs.")
    assert found[2] == "Over 2000 steps memory grows by: learn_one 0.50 MiB."


def test_braintrace_is_timed_where_it_is_installed():
    if not braintrace_step.is_installed():
        pytest.skip("braintrace is not installed")
    rows = step_cost.rows_of((4,), step_cost.PLAIN, 3, 0.02)
    assert {braintrace_step.ONE, braintrace_step.LOOP} <= {row["who"] for row in rows}


# River's series


def test_forecasts_are_judged_by_ours_with_both_differences(monkeypatch):
    errors = {"copy of the last value": [4.0], "SNARIMAX": [1.0], "HoltWinters": [2.0]}
    errors |= {river_series.VALUES: [9.0, 9.0], river_series.DIFFERENCES: [0.1, 0.1], river_series.SEASON: [1.5, 1.7]}
    rows = [
        {"part": "river", "series": "S", "forecaster": who, "seed": seed, "mae": mae, "milliseconds": 1.0}
        | {"rivers_mae": None}
        for who, of_seeds in errors.items()
        for seed, mae in enumerate(of_seeds)
    ]
    (sentence,) = forecast_part.RIVER.summary(rows)
    assert sentence.startswith(
        "Loses: S, 3 steps ahead: pcrnn, differences and season (1.600 mean absolute error) is 0.600"
    )
    assert "(SNARIMAX, 1.000 mean absolute error)" in sentence
    assert "| SNARIMAX | 1 |" in forecast_part.RIVER.tables(rows)[0]


def test_river_reads_its_series_once(tmp_path, monkeypatch):
    asked: list[list[int]] = []
    monkeypatch.setattr(river_series, "rows", lambda seeds, tell: asked.append(seeds) or [{"series": "S"}])
    job = forecast_part.Opened()
    for _ in range(2):
        assert job.rows(reader(tmp_path, 2)) == [{"part": "river", "series": "S"}]
    assert asked == [[0, 1]]


# Pictures


def test_a_part_can_be_drawn_by_itself(tmp_path):
    river = [
        {"part": "river", "series": "S", "forecaster": who, "seed": 0, "mae": mae}
        for who, mae in (("copy of the last value", 4.0), ("SNARIMAX", 1.0), (river_series.SEASON, 2.0))
    ]
    for name, rows in (("speed", [row | {"part": "speed"} for row in COSTS]), ("river", river)):
        streams.draw(rows, [name], tmp_path / name)
        assert (tmp_path / f"{name}.png").exists()
