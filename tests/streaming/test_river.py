"""River's own checks of estimators, and what ours promise beyond them. Skipped where River is not installed."""

import copy
import importlib.util
import math
import pickle
import sys
from datetime import datetime, timedelta
from importlib.util import find_spec
from unittest import mock

import numpy as np
import pytest
import torch

river = pytest.importorskip("river", reason="River is not installed; pip install 'pcrnn[river]'")
pytest.importorskip("sklearn", reason="scikit-learn is not installed, which River's checks need")

from river import anomaly, checks, datasets, evaluate, linear_model, metrics, preprocessing  # noqa: E402

from comparisons.quality.tasks import Absent  # noqa: E402
from comparisons.streams import river_series  # noqa: E402
from pcrnn import OnlineConfig  # noqa: E402
from pcrnn.errors import UsageError  # noqa: E402
from pcrnn.streaming.features import Covariates, Features, numbers_of, time_of  # noqa: E402
from pcrnn.streaming.river import (  # noqa: E402
    PredictiveClassifier,
    PredictiveRegressor,
    SurpriseDetector,
    SurpriseForecaster,
)

takes_thousands_of_steps = pytest.mark.skipif(
    find_spec("numba") is None, reason="Numba is not installed, without which this would take minutes"
)
SMALL = {"hidden": (8, 8)}


class StandIn:
    """In place of `datasets.CreditCard`, which River would download: eight sines with noise, of which 2 % are off."""

    def take(self, rows):
        draws = np.random.default_rng(0)
        for t in range(min(rows, 1000)):
            off = bool(draws.random() < 0.02)
            x = np.sin(t / np.arange(3, 11)) + 0.1 * draws.normal(size=8) + 3 * off * draws.normal(size=8)
            yield {f"V{number}": value for number, value in enumerate(x.tolist())}, int(off)


def checks_of(model):
    with mock.patch.object(datasets, "CreditCard", StandIn):
        return list(checks.yield_checks(model))


MODELS = {
    "detector": SurpriseDetector(config=OnlineConfig(short=1, probation=20), **SMALL),
    "regressor": PredictiveRegressor(**SMALL),
    "classifier": PredictiveClassifier(**SMALL),
    "forecaster": SurpriseForecaster(**SMALL),
    "forecaster-season": SurpriseForecaster(season=4, **SMALL),
    "scaler-detector": preprocessing.StandardScaler() | SurpriseDetector(**SMALL),
    "scaler-regressor": preprocessing.StandardScaler() | PredictiveRegressor(**SMALL),
}
CHECKS = [
    pytest.param(
        name,
        number,
        id=f"{name}-{check.__name__}-{number}",
        marks=takes_thousands_of_steps if hasattr(check, "keywords") else (),  # it has a dataset
    )
    for name, model in MODELS.items()
    for number, check in enumerate(checks_of(model))
]


@pytest.mark.parametrize(("name", "number"), CHECKS)
def test_river_checks(name, number):
    checks_of(MODELS[name])[number](MODELS[name].clone())


# What is learned


def waves(steps, seed=0, noise=0.05):
    """Two waves with noise, as dicts."""
    draws, t = np.random.default_rng(seed), np.arange(steps)
    values = np.stack([np.sin(t / 5), np.cos(t / 3)], 1) + noise * draws.normal(size=(steps, 2))
    return [{"a": a, "b": b} for a, b in values.tolist()]


@takes_thousands_of_steps
def test_the_detector_finds_a_value_that_is_usual_in_itself():
    """Each feature alone is in its range: only who knows what comes next finds it unexpected."""
    detector, xs = SurpriseDetector(**SMALL), waves(1500)
    for x in xs[:-1]:
        detector.learn_one(x)
    usual, turned = xs[-1], {name: -value for name, value in xs[-1].items()}
    assert 0 <= detector.score_one(usual) < 0.2 < detector.score_one(turned) <= 1


@takes_thousands_of_steps
def test_the_detector_judges_every_x_by_itself():
    """Behind an anomaly its score is usual again at once, and without quiet time a second one scores like the first."""
    detector, scores = SurpriseDetector(**SMALL), []
    for step, x in enumerate(waves(1000)):
        x = {"a": 9.0, "b": 9.0} if step in (900, 920) else x
        scores.append(detector.score_one(x))
        detector.learn_one(x)
    assert min(scores[900], scores[920]) > 0.5 > max(scores[905:920] + scores[925:])


@takes_thousands_of_steps
def test_the_regressor_remembers():
    """y is the feature of the step before: who sees x alone can only say the mean."""
    draws = np.random.default_rng(0)
    xs = draws.normal(size=3000)
    stream = [({"now": now}, 3 + 2 * before) for now, before in zip(xs[1:], xs[:-1], strict=True)]
    ours, of_x = metrics.MAE(), metrics.MAE()
    model, linear = PredictiveRegressor(**SMALL), preprocessing.StandardScaler() | linear_model.LinearRegression()
    for step, (x, y) in enumerate(stream):
        if step >= 2000:
            ours.update(y, model.predict_one(x))
            of_x.update(y, linear.predict_one(x))
        model.learn_one(x, y)
        linear.learn_one(x, y)
    assert ours.get() < 0.35 * of_x.get()


@takes_thousands_of_steps
def test_the_classifier_remembers():
    """A class is the one before, moved on where x says so; classes of several types."""
    draws, names = np.random.default_rng(0), ["up", 7, (1, 2)]
    model, at, right = PredictiveClassifier(max_classes=3, **SMALL), 0, 0
    for step in range(3000):
        move = int(draws.integers(2))
        at = (at + move) % 3
        right += step >= 2000 and model.predict_one({"move": move}) == names[at]
        model.learn_one({"move": move}, names[at])
    assert right > 900


@takes_thousands_of_steps
def test_the_forecaster_beats_a_copy():
    draws = np.random.default_rng(0)
    series = 50 + 10 * np.sin(np.arange(1500) / 4) + 0.3 * draws.normal(size=1500)
    model, errors = SurpriseForecaster(**SMALL), []
    for step, y in enumerate(series[:-3]):
        model.learn_one(y)
        if step > 1200 and step % 10 == 0:
            errors.append(np.abs(np.stack([model.forecast(3), [y] * 3]) - series[step + 1 : step + 4]).mean(1))
    ours, of_copy = np.mean(errors, 0)
    assert ours < 0.6 * of_copy


@takes_thousands_of_steps
def test_the_forecaster_uses_what_is_known_beforehand():
    """The series jumps where a feature says so, and a missing feature counts as usual."""
    draws = np.random.default_rng(0)
    model, jumps = SurpriseForecaster(**SMALL), draws.integers(2, size=1500)
    for jump in jumps:
        model.learn_one(10.0 + 5 * jump, {"jump": jump})
    assert model.forecast(4, [{"jump": n} for n in (0, 1, 0, 1)]) == pytest.approx([10, 15, 10, 15], abs=1)
    assert len(model.forecast(2)) == 2


# Differences


@pytest.mark.parametrize(
    ("options", "series", "following"),
    [
        ({}, [5.0] * 30, [5, 5, 5]),
        ({"season": 3}, [1.0, 2.0, 3.0] * 10, [1, 2, 3, 1, 2]),
        ({"season": 3}, [n + 10.0 * (n % 3) for n in range(30)], [30, 41, 52, 33]),
        ({"season": 50}, [4.0] * 5, [4, 4]),  # a season that has not ended is copied from nowhere
    ],
)
def test_a_series_that_its_copy_forecasts_is_forecast(options, series, following):
    model = SurpriseForecaster(**options, **SMALL)
    for y in series:
        model.learn_one(y)
    assert model.forecast(len(following)) == pytest.approx(following, abs=0.02)


@pytest.mark.parametrize("options", [{}, {"config": OnlineConfig(difference=False)}, {"season": 4}])
def test_missing_values_leave_forecasts_finite(options):
    model = SurpriseForecaster(**options, **SMALL)
    model.learn_one(math.nan)
    for step in range(60):
        model.learn_one(math.nan if step % 7 == 3 else 20 + step % 4)
        assert step % 7 > 3 or np.isfinite(model.forecast(2)).all()
    assert 15 < model.forecast(1)[0] < 28


def test_forecasts_before_anything_and_of_a_wrong_length():
    model = SurpriseForecaster(**SMALL)
    assert model.forecast(2) == [0, 0]
    model.learn_one(3.0)
    with pytest.raises(UsageError, match="expected features of 2 steps, got 1"):
        model.forecast(2, [{}])
    with pytest.raises(UsageError, match="expected a season of at least 1, got 0"):
        SurpriseForecaster(season=0)


@takes_thousands_of_steps
def test_a_time_reaches_the_calendar_and_nothing_else():
    """Without a calendar it is ignored; with one, the hour makes the forecast."""
    start, config = datetime(2026, 1, 1), OnlineConfig(calendar=("hour",), difference=False)
    model, plain = SurpriseForecaster(config=config, **SMALL), SurpriseForecaster(**SMALL)
    for step in range(1200):
        y, x = 10.0 * (step % 24 >= 12), {"when": start + timedelta(hours=step)}
        model.learn_one(y, x)
        plain.learn_one(y, x)
    assert model.forecast(24)[3] < 4 and model.forecast(24)[15] > 6
    plain.forecast(2)
    with pytest.raises(UsageError, match="time: expected a datetime"):
        model.learn_one(1.0)


# Copies, seeds


def played(model, xs):
    """What a model says of a stream from which it learns."""
    said = []
    for step, x in enumerate(xs):
        y = x["a"] + x["b"]
        if isinstance(model, SurpriseDetector):
            said.append(model.score_one(x))
            model.learn_one(x)
        elif isinstance(model, SurpriseForecaster):
            model.learn_one(y, x)
            said += model.forecast(2) if step % 10 == 0 else []
        elif isinstance(model, PredictiveRegressor):
            said.append(model.predict_one(x))
            model.learn_one(x, y)
        else:
            said.append(sum(p * p for p in model.predict_proba_one(x).values()))
            model.learn_one(x, y > 0)
    return said


SINGLE = {name: model for name, model in MODELS.items() if not hasattr(model, "steps")}
each = pytest.mark.parametrize("model", SINGLE.values(), ids=SINGLE.keys())


@each
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_goes_on_to_the_bit(model, copied):
    model, xs = model.clone(), waves(80)
    played(model, xs[:40])
    second = copied(model)
    assert played(second, xs[40:60]) == played(model, xs[40:60])
    played(second, xs[:20])  # and by itself
    third = copied(model)
    assert played(third, xs[60:]) == played(model, xs[60:])


@each
def test_a_clone_begins_anew_with_the_same_weights(model):
    model, xs = model.clone(), waves(60)
    first = played(model, xs)
    assert played(model.clone(), xs) == first
    assert played(model.clone({"seed": 1}), xs) != first


@each
def test_torchs_own_generator_stays_where_it_is(model):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    played(model.clone(), waves(5))
    assert torch.equal(torch.get_rng_state(), before)


@each
def test_looking_changes_nothing(model):
    xs, model = waves(60), model.clone()
    played(model, xs[:40])
    second = copy.deepcopy(model)
    for x in xs[40:]:
        if isinstance(second, SurpriseForecaster):
            second.forecast(3, [x, x, x])
        else:
            (getattr(second, "score_one", None) or second.predict_one)({**x, "new": 1.0})
    assert played(second, xs[40:]) == played(model, xs[40:])


# Features


def test_features_get_columns_in_the_order_in_which_they_come():
    features = Features({"b": 1.0, "a": 2.0}, columns=3)
    features.admit({"z": 0.0, "a": 1.0})
    assert list(features) == ["a", "b", "z"] and len(features) == 3
    assert features.row({"z": 3.0, "a": 1.0}).tolist() == pytest.approx([1, math.nan, 3], nan_ok=True)
    with pytest.warns(UserWarning, match="expected at most 3 features, got 'late', too"):
        features.admit({"late": 1.0})
    features.admit({"later": 1.0})  # said once
    assert features.row({"late": 1.0, "b": 5.0}).tolist() == pytest.approx([math.nan, 5, math.nan], nan_ok=True)
    assert Features({n: 0.0 for n in range(40)}).columns == 50 and Features({}).columns == 4


def test_covariates_are_in_deviations_of_those_before():
    covariates = Covariates({"a": 0.0}, columns=2)
    for a in (1.0, 3.0) * 50:
        covariates.follow({"a": a}, math.inf)
    assert covariates.standardised({"a": 4.0}) == pytest.approx([2, 0])
    assert covariates.standardised({"a": 1e9}).tolist() == [16, 0]
    assert covariates.standardised({"unknown": 1.0}).tolist() == [0, 0]


def test_what_a_feature_may_be():
    day = datetime(2026, 5, 1).date()
    x = {"flag": True, "count": np.int64(3), "gone": None, "not": math.nan, "when": day}
    assert numbers_of(x) == pytest.approx({"flag": 1, "count": 3, "gone": math.nan, "not": math.nan}, nan_ok=True)
    assert time_of(x) == datetime(2026, 5, 1) and time_of({"a": 1}) is None
    for wrong in ("red", math.inf, [1, 2]):
        with pytest.raises(UsageError, match="feature 'colour': expected a finite number, or NaN or None"):
            numbers_of({"colour": wrong})


@takes_thousands_of_steps
def test_a_late_feature_is_used():
    """y is a feature that appears after 500 steps only."""
    draws, model, error = np.random.default_rng(0), PredictiveRegressor(**SMALL), []
    for step in range(2500):
        x, y = {"noise": draws.normal()}, draws.normal()
        if step >= 500:
            x = {"late": y, **x}
        error.append(abs(model.predict_one(x) - y))
        model.learn_one(x, y)
    assert np.mean(error[-300:]) < 0.35 * np.mean(error[200:500])


def test_the_detector_takes_missing_and_late_features():
    detector = SurpriseDetector(max_features=2, **SMALL)
    assert 0 < detector.score_one({}) < 0.05
    detector.learn_one({})
    for step, x in enumerate(waves(400)):
        detector.learn_one({"a": x["a"]} if step < 200 else x if step % 5 else {"b": None})
    assert detector.score_one({"b": 50.0}) > 0.5 > detector.score_one({"a": math.nan})
    with pytest.warns(UserWarning, match="got 'c', too"):
        detector.learn_one({"c": 1.0})


def test_a_class_too_many_is_refused():
    model = PredictiveClassifier(max_classes=2, **SMALL)
    assert model.predict_proba_one({}) == {} and model.predict_one({}) is None
    for label in ("a", "b"):
        model.learn_one({"x": 1}, label)
    assert sum(model.predict_proba_one({"x": 1}).values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="max_classes: expected at most 2 classes, got 'c', too"):
        model.learn_one({"x": 1}, "c")


# Among River's own


@takes_thousands_of_steps
def test_in_pipelines_filters_and_evaluations():
    detector = preprocessing.StandardScaler() | SurpriseDetector(**SMALL)
    alarms = anomaly.QuantileFilter(SurpriseDetector(**SMALL), q=0.99)
    for x in waves(300):
        alarms.learn_one(x)
        detector.learn_one(x)
    assert alarms.classify(alarms.score_one({"a": 99.0, "b": 0.0}))
    report = detector.debug_one({"a": 0.0, "b": 0.0})
    assert "expected" in report and "surprise of the levels" in report
    stream, model = datasets.TrumpApproval().take(300), PredictiveRegressor(**SMALL)
    assert evaluate.progressive_val_score(stream, model, metrics.MAE()).get() < 2


def test_river_evaluates_the_forecaster():
    from river.evaluate import forecasting

    model = SurpriseForecaster(season=12, **SMALL)
    metric = forecasting.evaluate(list(datasets.AirlinePassengers()), model, metrics.MAE(), horizon=3)
    assert [each.get() < 40 for each in metric.metrics] == [True] * 3


def test_series_are_scored_after_the_newest_value_and_by_river_one_step_late():
    """Of a ramp the copy is 1, 2 and 3 behind; where the newest value has not come yet, 2, 3 and 4."""
    ramp = [float(n) for n in range(40)]
    assert river_series.measure(river_series.Copy(), ramp).mae == pytest.approx(2)
    assert river_series.rivers_mae(river_series.Copy(), ramp) == pytest.approx(3)
    assert river_series.measure(river_series.Copy(season=2), ramp).mae == 0
    airline = river_series.all_series()[0]
    assert len(airline.values) == 144 and river_series.SEASON in river_series.contenders(airline)
    assert river_series.rivers_mae(river_series.contenders(airline)["HoltWinters"](0), airline.values) is None


def test_series_are_absent_without_river(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Absent, match=r"pip install 'pcrnn\[river\]'"):
        river_series.all_series()


def test_without_river_the_message_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pcrnn.streaming.river")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "river.base", None)
    with pytest.raises(ImportError, match=r"expected River; pip install 'pcrnn\[river\]'"):
        importlib.import_module("pcrnn.streaming.river")
