"""The anomaly benchmark's folder and score: closed forms, a scorer that tries one threshold after the other, errors."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pcrnn.comparisons.streams import nab, nab_score
from pcrnn.comparisons.streams.controls import range_rule
from pcrnn.comparisons.streams.nab import LabelledSeries, read_corpus
from pcrnn.comparisons.streams.nab_score import PROFILES, nab_scores

from pcrnn.errors import DataError, UsageError

NAB = Path(__file__).parents[3] / "shared/data/nab"
ROWS, PROBATION = 100, 15
WINDOWS = ((40, 49), (80, 84))

profiles = pytest.mark.parametrize("profile", PROFILES)


def series(*windows: tuple[int, int], rows: int = ROWS, name: str = "a/b.csv") -> LabelledSeries:
    times = np.datetime64("2014-04-01", "s") + np.arange(rows)
    return LabelledSeries(name, times, np.zeros(rows), windows)


def detecting(*at: int, rows: int = ROWS) -> np.ndarray:
    """Scores of a detector that is sure of these rows."""
    score = np.full(rows, 0.1)
    score[list(at)] = 0.9
    return score


def score_of(profile: str, corpus: LabelledSeries, *at: int) -> float:
    return nab_scores([corpus], {corpus.name: detecting(*at, rows=len(corpus.values))})[profile].score


def sigmoid(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


EARLIEST = sigmoid(-1)


def normalised(total: float, profile: str, windows: int = 1) -> float:
    """Score of a sum of rewards, where a hit at the window's first row is 1."""
    miss = PROFILES[profile].miss
    return 100 * (total + miss * windows) / (windows + miss * windows)


@profiles
def test_who_detects_nothing_is_worth_0(profile):
    """Of a constant score every row is a detection, or none; none is better."""
    found = nab_scores([series(*WINDOWS)], {"a/b.csv": np.full(ROWS, 0.5)})[profile]
    assert (found.score, found.threshold, found.found, found.false_alarms) == (0.0, math.inf, 0, 0)


@profiles
def test_who_detects_the_first_row_of_every_window_is_worth_100(profile):
    found = nab_scores([series(*WINDOWS)], {"a/b.csv": detecting(40, 80)})[profile]
    assert found.score == pytest.approx(100, abs=1e-12)
    assert found[1:] == (0.9, 2, 2, 0)


@profiles
@pytest.mark.parametrize("row", [40, 41, 45, 49])
def test_a_detection_counts_by_its_place_in_the_window(profile, row):
    reward = sigmoid(-(49 - row + 1) / 10) / EARLIEST
    assert score_of(profile, series(WINDOWS[0]), row) == pytest.approx(normalised(reward, profile))


def test_only_the_first_detection_of_a_window_counts():
    assert score_of("standard", series(WINDOWS[0]), 42, 45, 49) == score_of("standard", series(WINDOWS[0]), 42)


@profiles
def test_a_missed_window_costs_its_weight(profile):
    expected = normalised(1 - PROFILES[profile].miss, profile, windows=2)
    assert score_of(profile, series(*WINDOWS), 40) == pytest.approx(expected)


@profiles
@pytest.mark.parametrize(
    ("row", "position"),
    [(20, math.inf), (39, math.inf), (50, 1 / 9), (58, 1.0), (75, 26 / 9), (79, math.inf), (85, 1 / 4), (99, math.inf)],
)
def test_a_false_alarm_costs_by_its_distance_from_the_window_before_it(profile, row, position):
    """Rows 79 and 99 are more than three windows' lengths away from the last one."""
    cost = PROFILES[profile].false_alarm * (-1 if position == math.inf else sigmoid(position))
    found = nab_scores([series(*WINDOWS)], {"a/b.csv": detecting(40, 80, row)})[profile]
    assert found.score == pytest.approx(normalised(2 + cost, profile, windows=2), abs=1e-12)
    assert found.false_alarms == 1


def test_after_a_window_of_one_row_a_false_alarm_is_far():
    assert score_of("standard", series((40, 40)), 40, 41) == pytest.approx(normalised(1 - 0.11, "standard"))


def test_rows_of_the_probation_do_not_count():
    corpus = series(WINDOWS[0])
    assert corpus.probation == PROBATION
    assert score_of("standard", corpus, 40, *range(PROBATION)) == pytest.approx(100)
    assert score_of("standard", corpus, 40, PROBATION) == pytest.approx(normalised(1 - 0.11, "standard"))


@pytest.mark.parametrize(("rows", "probation"), [(7, 1), (1127, 169), (4999, 749), (5000, 750), (22695, 750)])
def test_probation_is_15_per_cent_of_at_most_5000_rows(rows, probation):
    assert series(rows=rows).probation == probation


def test_a_window_that_begins_in_the_probation_is_scored_after_it_by_its_whole_length():
    reward = sigmoid(-(19 - 15 + 1) / 10) / EARLIEST
    assert score_of("standard", series((10, 19)), 12, 15) == pytest.approx(normalised(reward, "standard"))


def test_a_window_in_the_probation_is_none():
    found = nab_scores([series((0, 9), WINDOWS[0])], {"a/b.csv": detecting(0, 40)})["standard"]
    assert (found.score, found.windows) == (pytest.approx(100), 1)


def test_a_window_may_end_with_the_series():
    assert score_of("standard", series((90, 99)), 99) == pytest.approx(normalised(sigmoid(-0.1) / EARLIEST, "standard"))


def test_one_threshold_holds_for_all_series():
    """The detection of the one series costs the false alarms of the other, whose scores are on another scale."""
    corpus = [series(WINDOWS[0]), series(name="c/d.csv")]
    loud = np.full(ROWS, 0.1)
    loud[50:52] = 0.95
    found = nab_scores(corpus, {"a/b.csv": detecting(40), "c/d.csv": loud})["standard"]
    assert found.score == pytest.approx(normalised(1 - 2 * 0.11, "standard"))
    assert found.threshold == 0.9


def by_hand(corpus: list[LabelledSeries], scores: dict[str, np.ndarray], profile: nab_score.Profile) -> float:
    """The score of the best threshold, each of them tried on every row and window in turn."""
    thresholds = [math.inf, *{value for score in scores.values() for value in score.tolist()}]
    best = max(sum(of_series(one, scores[one.name], t, profile) for one in corpus) for t in thresholds)
    counted = sum(last >= one.probation for one in corpus for _, last in one.windows)
    return 100 * (best + profile.miss * counted) / ((profile.hit + profile.miss) * counted)


def of_series(one: LabelledSeries, score: np.ndarray, threshold: float, profile: nab_score.Profile) -> float:
    detected = [row for row in range(one.probation, len(score)) if score[row] >= threshold]
    total = 0.0
    for first, last in one.windows:
        inside = [row for row in detected if first <= row <= last]
        if inside:
            position = -(last - inside[0] + 1) / (last - first + 1)
            total += profile.hit * sigmoid(position) / EARLIEST
        elif last >= one.probation:
            total -= profile.miss
    for row in detected:
        if any(first <= row <= last for first, last in one.windows):
            continue
        before = [(first, last) for first, last in one.windows if last < row]
        width = before[-1][1] - before[-1][0] if before else 0
        position = (row - before[-1][1]) / width if width else math.inf
        total += profile.false_alarm * (-1 if position > 3 else sigmoid(position))
    return total


def random_corpus(generator: np.random.Generator) -> tuple[list[LabelledSeries], dict[str, np.ndarray]]:
    """A few series with up to three windows; scores with many ties, a little higher in windows."""
    corpus, scores = [], {}
    for number in range(int(generator.integers(1, 4))):
        rows = int(generator.integers(30, 80))
        limits = np.sort(generator.choice(rows, 2 * int(generator.integers(1, 4)), replace=False)).reshape(-1, 2)
        one = series(*map(tuple, limits.tolist()), rows=rows, name=f"{number}.csv")
        score = generator.random(rows)
        for first, last in one.windows:
            score[first : last + 1] += 0.5 * generator.random()
        corpus.append(one)
        scores[one.name] = score.round(int(generator.integers(1, 4)))
    return corpus, scores


@pytest.mark.parametrize("seed", range(20))
def test_the_sweep_finds_what_trying_every_threshold_finds(seed):
    corpus, scores = random_corpus(np.random.default_rng(seed))
    if all(last < one.probation for one in corpus for _, last in one.windows):
        pytest.skip("no window counts")
    for name, found in nab_scores(corpus, scores).items():
        assert found.score == pytest.approx(by_hand(corpus, scores, PROFILES[name]), abs=1e-9)
        at = sum(of_series(one, scores[one.name], found.threshold, PROFILES[name]) for one in corpus)
        null = -PROFILES[name].miss * found.windows
        assert found.score == pytest.approx(100 * (at - null) / (found.windows - null), abs=1e-9)


def test_what_scores_are_measured_in_does_not_matter():
    corpus, scores = random_corpus(np.random.default_rng(3))
    bent = {name: np.exp(5 * score) for name, score in scores.items()}
    for found, again in zip(nab_scores(corpus, scores).values(), nab_scores(corpus, bent).values(), strict=True):
        assert again._replace(threshold=0) == found._replace(threshold=0)


@pytest.mark.parametrize(
    ("score", "got"), [(np.zeros(99), r"got \[99\], 0 of them"), (np.full(100, np.nan), r"got \[100\], 100 of them")]
)
def test_a_row_without_a_score_is_refused(score, got):
    with pytest.raises(ValueError, match=rf"a/b.csv: expected 100 finite scores, one a row, {got}"):
        nab_scores([series(WINDOWS[0])], {"a/b.csv": score})


@pytest.mark.parametrize("corpus", [[], [series()], [series((0, 5))]])
def test_without_a_window_there_is_no_score(corpus):
    with pytest.raises(DataError, match="expected a window after the probation of some series, got none"):
        nab_scores(corpus, {"a/b.csv": np.zeros(ROWS)})


@pytest.mark.parametrize("windows", [((50, 40),), ((40, 50), (50, 60)), ((60, 70), (40, 50)), ((90, 100),), ((-1, 3),)])
def test_windows_that_make_no_sense_are_refused(windows):
    with pytest.raises(DataError, match=r"a/b\.csv: expected windows "):
        series(*windows)


# The folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two series; the times of one stand twice, where a clock was set back."""
    (tmp_path / "data/one").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    steady = "".join(f"2014-04-01 00:{minute:02}:00,{minute}.5\n" for minute in range(10))
    (tmp_path / "data/one/a.csv").write_text(f"timestamp,value\n{steady}")
    repeated = "".join(f"2014-04-01 00:0{minute}:00,1e3\n" for minute in (0, 1, 2, 1, 2, 3))
    (tmp_path / "data/one/b.csv").write_text(f"timestamp,value\n{repeated}")
    label(tmp_path, {"one/a.csv": [[stamp(7), stamp(8)], [stamp(3), stamp(5)]], "one/b.csv": [[stamp(1), stamp(3)]]})
    return tmp_path


def stamp(minute: int) -> str:
    return f"2014-04-01 00:{minute:02}:00.000000"


def label(folder: Path, labels: object) -> None:
    (folder / "labels/combined_windows.json").write_text(json.dumps(labels))


def test_a_folder_is_read_as_it_is_laid_out(folder):
    first, second = read_corpus(folder)
    assert (first.name, first.windows) == ("one/a.csv", ((3, 5), (7, 8)))
    assert (second.name, second.windows) == ("one/b.csv", ((1, 5),))
    assert first.times.dtype == np.dtype("datetime64[s]")
    assert first.times[9] == np.datetime64("2014-04-01T00:09:00")
    assert first.values.tolist() == [minute + 0.5 for minute in range(10)]
    assert second.values.dtype == np.float64


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected a folder with data/\*/\*\.csv and .* got 0 such series and no"):
        read_corpus(tmp_path)


def test_a_folder_without_labels_is_refused(folder):
    (folder / "labels/combined_windows.json").unlink()
    with pytest.raises(UsageError, match="got 2 such series and no labels; give the folder of a copy"):
        read_corpus(folder)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"one/a.csv": []}, r"a series without labels: one/b\.csv; add it"),
        ({"one/a.csv": [], "one/b.csv": [], "one/c.csv": []}, r"labels without a series: one/c\.csv; add it"),
        ({"one/a.csv": [], "one/b.csv": [[stamp(2), stamp(9)]]}, r"one/b\.csv: expected windows as pairs of times"),
        ({"one/a.csv": [], "one/b.csv": [["noon", stamp(2)]]}, r"one/b\.csv: expected windows as pairs of times"),
        ({"one/a.csv": [], "one/b.csv": [[stamp(2)]]}, r"one/b\.csv: expected windows as pairs of times"),
        ({"one/a.csv": [], "one/b.csv": 3}, r"one/b\.csv: expected windows as pairs of times of its rows, got 3"),
        ({"one/a.csv": [[stamp(5), stamp(3)]], "one/b.csv": []}, r"one/a\.csv: expected windows in order"),
        ([1], "expected windows by series, got list"),
    ],
)
def test_labels_that_do_not_fit_are_refused(folder, labels, message):
    label(folder, labels)
    with pytest.raises(DataError, match=message):
        read_corpus(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected columns timestamp,value and rows, got , 0 rows"),
        ("timestamp,value\n", "got timestamp,value, 0 rows"),
        ("time,value\n2014-04-01 00:00:00,1\n", "got time,value, 1 rows"),
        ("timestamp,value\n2014-04-01 00:00:00,high\n", "expected a time and a number in every row, got one with"),
        ("timestamp,value\nyesterday,1\n", "expected a time and a number in every row, got one with"),
        ("timestamp,value\n2014-04-01 00:00:00\n", "expected a time and a number in every row, got one with"),
    ],
)
def test_a_file_that_is_no_series_is_refused(folder, text, message):
    (folder / "data/one/b.csv").write_text(text)
    with pytest.raises(DataError, match=rf"b\.csv: .*{message}"):
        read_corpus(folder)


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "data/one/b.csv").write_bytes(b"timestamp,value\n\xff")
    with pytest.raises(DataError, match=r"b\.csv: expected a CSV file in UTF-8, got"):
        read_corpus(folder)


def test_labels_that_are_no_json_are_refused(folder):
    (folder / nab.LABELS).write_text("{")
    with pytest.raises(DataError, match=r"combined_windows\.json: expected JSON, got"):
        read_corpus(folder)


@pytest.mark.skipif(not NAB.is_dir(), reason="the benchmark's series are not here")
def test_the_score_of_the_benchmarks_own_series():
    corpus = read_corpus(NAB)
    assert len(corpus) == 35
    assert sum(len(one.windows) for one in corpus) == 50
    first_rows = {one.name: np.isin(np.arange(len(one.values)), [w[0] for w in one.windows]) * 1.0 for one in corpus}
    perfect = [found.score for found in nab_scores(corpus, first_rows).values()]
    assert perfect == pytest.approx([100, 100, 100])
    rule = nab_scores(corpus, {one.name: range_rule(one.values) for one in corpus})
    assert [round(found.score, 1) for found in rule.values()] == [54.3, 53.4, 56.2]
    some = [one for one in corpus if len(one.windows) > 2]
    scores = {one.name: np.log1p(np.abs(np.gradient(one.values))).round(1) for one in some}
    for name, found in nab_scores(some, scores).items():
        assert found.score == pytest.approx(by_hand(some, scores, PROFILES[name]), abs=1e-9)
