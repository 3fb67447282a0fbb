"""`pcrnn.Online` as a user has it: what goes in, what comes out, what is kept, what is refused."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from comparisons.record import peak_mib
from pcrnn import Categorical, Gaussian, Online, OnlineConfig, PredictiveStack, StudentT
from pcrnn.errors import CheckpointError, DivergedError, UsageError
from pcrnn.streaming.availability import why_not_installed

ENGINES = [False] if why_not_installed() else [True, False]
START = np.datetime64("2026-03-01T00:00")


@pytest.fixture(params=ENGINES, ids=lambda compiled: "compiled" if compiled else "general")
def compiled(request):
    return request.param


def series(steps, channels=2, seed=0):
    """Two noisy waves with gaps, in units of their own."""
    generator = np.random.default_rng(seed)
    x = np.sin(np.arange(steps)[:, None] / np.arange(5, 5 + channels)) + 0.1 * generator.standard_normal(
        (steps, channels)
    )
    x = 20 + 3 * x
    x[generator.random(x.shape) < 0.02] = np.nan
    return x


KINDS = {
    "channels": (dict(channels=2), lambda n: series(n)),
    "symbols": (dict(symbols=5), lambda n: (np.arange(n) ** 2 % 5).astype(float)),
    "counts": (dict(counts=2), lambda n: np.floor(4 + 3 * np.sin(np.arange(n)[:, None] / [3, 5]))),
    "bits": (dict(bits=3), lambda n: (np.arange(n)[:, None] % [2, 3, 5] == 0).astype(float)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_observation_is_learned(kind, compiled):
    """The last part of a regular stream is less surprising than the first, and looks as it was expected to."""
    sizes, make = KINDS[kind]
    torch.manual_seed(0)
    online = Online(**sizes, hidden=(16,), config=OnlineConfig(lr=1e-2, warm_up=20), compiled=compiled)
    scores = online.learn_many(make(400))
    assert scores.levels.shape == (400, 2) and scores.state.shape == (400, 1)
    assert np.isfinite(scores.surprise).all() and (scores.likelihood >= 0).all() and (scores.likelihood <= 1).all()
    assert scores.surprise[-100:].mean() < scores.surprise[:100].mean()
    assert (scores.interval() is None) == (kind in ("symbols", "bits"))
    if kind == "symbols":
        np.testing.assert_allclose(scores.expected.sum(-1), 1)


def test_interval_holds_its_share_and_is_in_the_units_of_the_stream(compiled):
    torch.manual_seed(0)
    online = Online(channels=2, hidden=(16,), config=OnlineConfig(lr=5e-3), compiled=compiled)
    x = series(1500)
    scores = online.learn_many(x)
    low, high = scores.interval(0.9)
    known = ~np.isnan(x[500:])
    inside = ((low <= x) & (x <= high))[500:][known]
    assert 0.8 < inside.mean() < 0.97
    assert (low < scores.expected).all() and (scores.expected < high).all()
    assert np.nanmean(np.abs(scores.expected[500:] - x[500:])) < 0.5 * np.nanstd(x[500:])


def test_one_observation_and_a_stretch_of_one_channel(compiled):
    """A number, a list and an array are the same observation; scores of one are numbers of Python's."""
    scores = []
    for x in (0.5, [0.5], np.array([0.5]), torch.tensor([0.5], dtype=torch.float64)):
        torch.manual_seed(0)
        online = Online(channels=1, hidden=(4,), compiled=compiled)
        online.learn_one(0.25)
        scores.append(online.learn_one(x))
    assert len({score.surprise for score in scores}) == 1
    assert isinstance(scores[0].surprise, float) and isinstance(scores[0].alarm, bool)
    assert scores[0].expected.shape == (1,) and online.seen == 2


@pytest.mark.parametrize("kind", ["channels", "counts", "bits"])
def test_nothing_is_surprising_of_what_is_missing(kind, compiled):
    online = Online(**{kind: 2}, hidden=(4,), compiled=compiled)
    online.learn_many(np.ones((5, 2)))
    assert online.learn_one([None, None]).surprise == 0
    assert 0 < abs(online.learn_one([None, 1]).surprise) < abs(online.score_one([1, 1]).surprise)
    assert np.isfinite(online.learn_one([1, 1]).rows).all()


def test_a_gap_is_no_part_of_the_likelihood(compiled):
    """A missing step says nothing, and an alarm in a gap is none."""
    x = series(700, 2)
    x[400:460] = np.nan
    online = Online(channels=2, hidden=(8,), compiled=compiled)
    score = online.learn_many(x)
    assert (score.surprise[400:460] == 0).all() and (score.tail[400:460] == 0.5).all()
    assert not score.alarm[400:460].any()
    assert online._carried.past[0, 0] == 700 - 60 - 1  # steps that were followed; of the first nothing has moved


def test_lanes_are_streams_side_by_side_that_teach_one_stack(compiled):
    """Two equal lanes learn as one does: the gradient is the mean of theirs."""
    x = series(120)
    torch.manual_seed(0)
    one = Online(PredictiveStack(StudentT(2), (8,)).double(), compiled=compiled)
    torch.manual_seed(0)
    two = Online(PredictiveStack(StudentT(2), (8,)).double(), lanes=2, compiled=compiled)
    for level in [one.stack.base, *one.stack.layers, two.stack.base, *two.stack.layers]:
        level.observation.running.half_life = None  # two errors a step weigh more than one
    for stack in (one.stack, two.stack):
        stack.sensory.error_norm.half_life = None
    one, two = copy.deepcopy(one), copy.deepcopy(two)  # which bind to what was changed
    single, pair = one.learn_many(x), two.learn_many(np.stack([x, x], 1))
    assert pair.surprise.shape == (120, 2)
    np.testing.assert_allclose(pair.surprise[:, 0], pair.surprise[:, 1])
    np.testing.assert_allclose(pair.surprise[:, 0], single.surprise, rtol=1e-7)


@pytest.mark.parametrize("seen", [0, 1])
def test_a_stream_that_has_hardly_begun_is_saved(seen, compiled, tmp_path):
    online = Online(channels=1, hidden=(4,), compiled=compiled)
    online.learn_many(np.ones(seen))
    online.save(tmp_path)
    again = Online.load(tmp_path, compiled=compiled)
    np.testing.assert_array_equal(online.learn_many([1.0, 2.0]).rows, again.learn_many([1.0, 2.0]).rows)


def test_what_was_scored_before_a_number_that_is_not_finite_is_on_the_error(compiled):
    online = Online(channels=1, hidden=(4,), compiled=compiled)
    online.learn_many(np.ones(10))
    with torch.no_grad():
        online.stack.layers[0].weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match=r"observation 1[12]: expected finite numbers") as caught:
        online.learn_many(np.arange(5.0))
    assert len(caught.value.score) == online.seen - 10


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_goes_on_to_the_bit(kind, compiled, tmp_path):
    """Every array of the stream, and every row after it."""
    sizes, make = KINDS[kind]
    calendar = () if kind == "symbols" else ("hour", "weekday")
    online = Online(**sizes, hidden=(8, 4), config=OnlineConfig(calendar=calendar), compiled=compiled)
    x, times = make(90), START + np.arange(90) * np.timedelta64(7, "m")
    given = {"times": times[:60]} if calendar else {}
    online.learn_many(x[:60], **given)
    online.notes["columns"] = ["a", "b"]
    assert online.save(tmp_path / "state").name == "step_60"
    again = Online.load(tmp_path / "state", compiled=compiled)
    assert again.engine == online.engine or not compiled
    assert again.notes == {"columns": ["a", "b"]} and again.seen == 60 and again.config == online.config
    rest = {"times": times[60:]} if calendar else {}
    np.testing.assert_array_equal(online.learn_many(x[60:], **rest).rows, again.learn_many(x[60:], **rest).rows)
    ours, theirs = online._learner.state_dict(), again._learner.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_copies_go_on_by_themselves(compiled):
    online = Online(channels=2, hidden=(8,), compiled=compiled)
    x = series(80)
    online.learn_many(x[:40])
    copies = [copy.deepcopy(online), pickle.loads(pickle.dumps(online))]
    rows = online.learn_many(x[40:]).rows
    for each in copies:
        np.testing.assert_array_equal(each.learn_many(x[40:]).rows, rows)


@pytest.mark.parametrize(
    ("sizes", "betas", "wanted"),
    [({"channels": 1}, None, (0.9, 0.999)), ({"symbols": 3}, None, (0.9, 0.9999)), ({"symbols": 3}, (0.5, 0.9), None)],
)
def test_adamw_remembers_the_squares_of_sparse_gradients_longer_unless_told(sizes, betas, wanted, tmp_path):
    online = Online(**sizes, hidden=(4,), config=OnlineConfig(betas=betas, clip=3.0))
    online.learn_many(np.ones(3))
    online.save(tmp_path)
    for each in (online, Online.load(tmp_path)):
        assert {group["betas"] for group in each._learner.optimiser.param_groups} == {wanted or betas}
        assert each._learner.clip == 3.0


def test_an_own_optimiser_is_saved_and_one_that_cannot_be_made_again_is_refused(tmp_path):
    stack = PredictiveStack(Gaussian(1), (4,))
    online = Online(stack, "local", torch.optim.SGD(stack.parameters(), 1e-3, weight_decay=0.1))
    online.learn_many(np.ones(10))
    online.save(tmp_path)
    again = Online.load(tmp_path)
    assert again._learner.optimiser.param_groups[0]["weight_decay"] == 0.1
    stack = PredictiveStack(Gaussian(1), (4,))
    other = Online(stack, "local", torch.optim.Adagrad(stack.parameters()))
    with pytest.raises(
        UsageError, match="save: expected an optimiser of AdamW, SGD at its own rates, or none, got Adagrad"
    ):
        other.save(tmp_path / "other")


def test_damage_is_found_and_nothing_of_a_stranger_is_run(tmp_path):
    online = Online(channels=1, hidden=(4,))
    online.learn_many(np.ones(5))
    place = online.save(tmp_path)
    weights = place / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.safetensors: expected the SHA-256 in manifest.json"):
        Online.load(tmp_path)
    with pytest.raises(CheckpointError, match="expected a checkpoint that can be loaded"):
        Online.load(tmp_path / "nothing")


def test_the_calendar_helps_where_the_hour_decides(compiled):
    """A value that is the hour's alone, at times with gaps: known beforehand it is no surprise."""
    generator = np.random.default_rng(0)
    times = START + np.cumsum(generator.integers(1, 12, 800)) * np.timedelta64(1, "h")
    hour = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
    x = np.sin(2 * np.pi * hour / 24) + 0.05 * generator.standard_normal(800)
    means = []
    for calendar in ((), ("hour",)):
        torch.manual_seed(0)
        online = Online(channels=1, hidden=(16,), config=OnlineConfig(calendar=calendar, lr=3e-3), compiled=compiled)
        given = {"times": times} if calendar else {}
        means.append(online.learn_many(x, **given).surprise[-200:].mean())
    assert means[1] < means[0] - 0.5


def test_a_clock_that_jumps_an_outlier_a_constant_and_a_gap_do_not_stop_the_stream(compiled):
    x = np.concatenate([np.full(100, 20.0), series(300, 1)[:, 0], np.full(60, np.nan), [1e12], series(200, 1)[:, 0]])
    times = 1.7e9 + 300 * np.arange(len(x))
    times[200:] -= 7200  # set back
    times[300:] += 1e7  # and far forward
    online = Online(channels=1, hidden=(8,), config=OnlineConfig(calendar=("hour", "month")), compiled=compiled)
    scores = online.learn_many(x, times)
    assert np.isfinite(scores.rows).all()
    assert scores.surprise[460] > 20  # the outlier
    assert abs(np.median(scores.surprise[-100:]) - np.median(scores.surprise[250:400])) < 1.5


def test_forecast_continues_the_stream_and_changes_nothing(compiled):
    torch.manual_seed(0)
    online = Online(channels=1, hidden=(32,), config=OnlineConfig(lr=5e-3), compiled=compiled)
    wave = 100 + 10 * np.sin(np.arange(3010) * 2 * np.pi / 20)
    online.learn_many(wave[:3000])
    before = online._learner.state_dict()
    forecast = online.forecast(10)
    assert forecast.expected.shape == (10, 1) and (forecast.low <= forecast.high).all()
    error = np.abs(forecast.expected[:, 0] - wave[3000:]).mean()
    assert error < 0.5 * np.abs(wave[2999] - wave[3000:]).mean()
    assert all(torch.equal(tensor, before[name]) for name, tensor in online._learner.state_dict().items())
    np.testing.assert_array_equal(forecast.expected, online.forecast(10).expected)


def test_differences_are_of_the_units_of_the_stream(compiled):
    """A walk far from zero: where it went, expectation, interval and forecast begin at its last value."""
    steps = np.random.default_rng(0).standard_normal((600, 2)) + np.array([0.5, -2])
    walk = 1000 + np.cumsum(steps, 0)
    walk[300, 0] = np.nan
    online = Online(channels=2, hidden=(8,), config=OnlineConfig(difference=True), compiled=compiled)
    assert online.learn_one(walk[0]).surprise == 0  # nothing has moved yet
    score = online.learn_many(walk[1:])
    assert np.isnan(walk[300]).any() and np.isfinite(score.rows).all()
    late = slice(-200, None)
    error = walk[late] - score.expected[late]
    assert 0.8 < error.std() < 1.3 and np.abs(error.mean(0)).max() < 0.4
    low, high = score.interval(0.9)
    assert 0.8 < ((walk[1:] > low) & (walk[1:] < high))[late].mean() < 0.97
    assert score.surprise[late].mean() < 2 * 1.7
    ahead = online.forecast(10)
    assert (np.abs(ahead.expected - walk[-1] - np.arange(1, 11)[:, None] * [0.5, -2]) < 4).all()
    width = ahead.high - ahead.low
    assert (width[-1] > 1.5 * width[0]).all()  # a walk is known the less the farther ahead


def test_a_stream_far_from_zero_is_less_surprising_by_its_differences(compiled):
    walk = np.cumsum(np.random.default_rng(0).standard_normal((1500, 3)), 0)
    online = [
        Online(channels=3, hidden=(8,), config=OnlineConfig(difference=difference, scaling=False), compiled=compiled)
        for difference in (False, True)
    ]
    values, changes = (each.learn_many(walk).surprise[-500:].mean() for each in online)
    assert changes < values - 1


def test_forecast_knows_the_calendar_ahead(compiled):
    times = START + np.arange(1200) * np.timedelta64(1, "h")
    hour = (np.arange(1210) % 24) / 24
    x = np.sin(2 * np.pi * hour)
    torch.manual_seed(0)
    online = Online(channels=1, hidden=(16,), config=OnlineConfig(calendar=("hour",), lr=3e-3), compiled=compiled)
    online.learn_many(x[:1200], times)
    assert np.abs(online.forecast(10).expected[:, 0] - x[1200:]).mean() < 0.3


REFUSED = [
    (lambda: Online(), "expected a stack, or exactly one of channels, symbols, counts, bits, got none"),
    (lambda: Online(channels=1, bits=2), "exactly one of .*, got channels, bits"),
    (lambda: Online(channels=0), "channels: expected at least 1, got 0"),
    (lambda: Online(PredictiveStack(Gaussian(1), (2,)), channels=1), "expected a stack or sizes, got both"),
    (lambda: Online(PredictiveStack(Gaussian(1), (2,), target=Categorical(2))), "got one with a target"),
    (lambda: Online(channels=1, lanes=0), "lanes: expected at least 1, got 0"),
    (lambda: Online(channels=1, config=OnlineConfig(lr=-1.0)), "lr: expected a number above 0"),
    (
        lambda: Online(PredictiveStack(Gaussian(3), (2,), covariates=2), config=OnlineConfig(difference=True)),
        "difference: 3 covariates for as many channels: expected a stack with at least 3, got one with 2",
    ),
    (
        lambda: Online(counts=2, config=OnlineConfig(difference=True)),
        "difference: expected real values, got Poisson; leave it out",
    ),
    (lambda: OnlineConfig(betas=(0.9, 1.0)), "betas: expected two numbers of at least 0 and below 1"),
    (lambda: OnlineConfig(betas=(0.9,)), "betas: expected a list of 2 values"),
    (
        lambda: OnlineConfig(calendar=("hours",)),
        "calendar: expected some of hour, weekday, month, got 'hours'; did you",
    ),
    (
        lambda: Online(PredictiveStack(Gaussian(1), (2,)), config=OnlineConfig(calendar=("hour",))),
        "calendar: 2 covariates for 1 cycles: expected a stack with at least 2, got one with 0",
    ),
    (lambda: Online(channels=2).learn_one([1.0]), r"x: expected \[2\], got \[1\]"),
    (lambda: Online(channels=2).learn_one(1.0), r"x: expected \[2\], got \[\]"),
    (lambda: Online(channels=1).learn_one([[1.0]]), r"x: expected \[1\] or \[\], got \[1, 1\]"),
    (lambda: Online(channels=1).learn_one(np.inf), "x: expected values of at most 1e.150 in size, or NaN, got inf"),
    (lambda: Online(symbols=3).learn_one(3), "x: expected symbols from 0 to 2, got 3"),
    (lambda: Online(symbols=3).learn_one(0.5), "x: expected symbols from 0 to 2, got 0.5"),
    (lambda: Online(counts=1).learn_one(-1), "x: expected whole counts of at least 0, or NaN, got -1"),
    (lambda: Online(bits=1).learn_one(2), "x: expected zeros and ones, or NaN, got 2"),
    (lambda: Online(counts=1).learn_one(np.inf), "x: expected whole counts of at least 0, or NaN, got inf"),
    (lambda: Online(symbols=3).learn_one(None), "x: expected a symbol, got none; where one may be missing, give its"),
    (lambda: Online(channels=1, covariates=1).learn_one(1.0), "covariates: expected 1 finite numbers"),
    (lambda: Online(channels=1, config=OnlineConfig(calendar=("hour",))).learn_one(1.0), "time: expected a datetime"),
    (
        lambda: Online(channels=1, config=OnlineConfig(calendar=("hour",))).learn_many([1.0, 2.0], [1.0]),
        "times: expected 2, one an observation, got 1",
    ),
    (lambda: Online(channels=1).forecast(3), "expected a stream of one lane that has begun"),
    (lambda: Online(channels=1).learn_one(0.0).interval(1.0), "interval: expected a share between 0 and 1"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_refused(act, message):
    with pytest.raises(UsageError, match=message):
        act()


@pytest.mark.skipif(ENGINES == [False], reason="needs Numba: so many steps take minutes by the general engine")
def test_memory_and_time_do_not_grow():
    online = Online(channels=2, hidden=(8, 8))
    x = series(20_000)
    times = []
    online.learn_many(x)
    before = peak_mib()
    for _ in range(10):
        since = time.process_time()
        online.learn_many(x)
        times.append(time.process_time() - since)
    assert peak_mib() < before + 4
    assert np.median(times[5:]) < 1.5 * np.median(times[:5])


CHILD = """
import sys, numpy as np
from pathlib import Path
from pcrnn import Online
online = Online(channels=1, hidden=(4,), compiled=False)
for step in range(10**6):
    online.learn_one(np.sin(step / 5))
    if step % 3 == 0:
        online.save(sys.argv[1])
        print(online.seen, flush=True)
"""


def test_killed_at_any_moment_the_last_save_is_there(tmp_path):
    """What was printed was saved; what loads is that or the next."""
    generator = np.random.default_rng(0)
    for number in range(3):
        place = tmp_path / str(number)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(place)], stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert child.stdout is not None
        printed = [int(child.stdout.readline()) for _ in range(5)]
        time.sleep(float(generator.uniform(0, 0.2)))
        child.send_signal(signal.SIGKILL)
        printed += [int(line) for line in child.communicate()[0].split() if line]
        again = Online.load(place, compiled=False)
        assert again.seen >= printed[-1]
        again.learn_one(0.5)
        assert not list(Path(place).glob("*.tmp-*")) or again.save(place)
