"""Who reads a stream once: every step is scored before it is learned from, in the same way for all."""

import math

import numpy as np
import pytest
import torch
from pcrnn.comparisons.streams import chunked, every_step
from pcrnn.comparisons.streams.baselines import copy_last, counts
from pcrnn.comparisons.streams.contenders import LEARNERS, contenders
from pcrnn.comparisons.streams.one_pass import OnePass, OnlineSettings, Stream
from pcrnn.comparisons.streams.scaled import differences, places, running_scale

from pcrnn import Categorical, Gaussian, Online, OnlineConfig, StudentT
from pcrnn.errors import DivergedError

STEPS = 44
SETTINGS = OnlineSettings(lr=1e-2, warmup=2, hidden=(4, 3))
GAUSSIAN = OnlineSettings(lr=1e-2, warmup=2, hidden=(4, 3), family="gaussian")
HALF_PAST = np.timedelta64(30, "m")


def values(seed: int = 0, channels: int = 1) -> torch.Tensor:
    return torch.randn(STEPS, channels, generator=torch.Generator().manual_seed(seed))


def series(seed: int = 0, channels: int = 1) -> Stream:
    return Stream(values(seed, channels))


def text(seed: int = 0) -> Stream:
    return Stream(torch.randint(5, (STEPS,), generator=torch.Generator().manual_seed(seed)), symbols=5)


STREAMS = {"values": series(channels=2), "values and hours": Stream(values(channels=2), values(1, 2)), "text": text()}
READERS = [(kind, name) for kind, stream in STREAMS.items() for name in contenders(stream)]
every_reader = pytest.mark.parametrize(("kind", "name"), READERS)
every_learner = pytest.mark.parametrize("name", LEARNERS)


def read(name: str, stream: Stream, settings: OnlineSettings = SETTINGS, seed: int = 0) -> OnePass:
    return contenders(stream)[name](stream, settings, seed)


def steps_before_learning(name: str) -> int:
    """How many steps meet what a contender expected before it had learned: the first, and its first chunk's."""
    return 2 if name == "copy-last" else 1 + int(name.rpartition(" ")[2])


def changed_from(stream: Stream, step: int) -> Stream:
    """The same stream up to there, then another one."""
    other = text(1).x if stream.symbols else values(1, 2) + 3
    x = torch.cat([stream.x[:step], other[step:]])
    covariates = stream.covariates
    if covariates is not None:
        covariates = torch.cat([covariates[:step], 1 - covariates[step:]])
    return Stream(x, covariates, stream.symbols)


@every_reader
def test_every_step_is_scored_before_what_comes_after_it(kind, name):
    stream, step = STREAMS[kind], 21
    before, after = read(name, stream), read(name, changed_from(stream, step))
    np.testing.assert_array_equal(before.surprise[:step], after.surprise[:step])
    assert (before.surprise[step:] != after.surprise[step:]).any()
    if not stream.symbols:
        assert before.squared_error is not None and after.squared_error is not None
        np.testing.assert_array_equal(before.squared_error[:step], after.squared_error[:step])


@every_reader
def test_every_step_has_a_score(kind, name):
    stream = STREAMS[kind]
    found = read(name, stream)
    assert found.surprise.shape == (STEPS,)
    assert np.isfinite(found.surprise).all()
    assert found.seconds_per_step > 0
    assert (found.squared_error is None) == bool(stream.symbols)
    if found.squared_error is not None:
        assert found.squared_error.shape == (STEPS,)
        assert (found.squared_error >= 0).all()


@every_learner
@pytest.mark.parametrize("kind", STREAMS)
def test_a_step_is_scored_before_it_is_learned_from(kind, name):
    """All but the first observation of the first chunk meet the initial weights, whatever the rate."""
    slow, fast = (read(name, STREAMS[kind], OnlineSettings(lr=lr, hidden=(4, 3))) for lr in (1e-9, 1e-1))
    first = steps_before_learning(name)
    np.testing.assert_array_equal(slow.surprise[:first], fast.surprise[:first])
    assert (slow.surprise[first:] != fast.surprise[first:]).any()


@every_reader
def test_the_first_step_is_expected_alike_by_all(kind, name):
    stream = STREAMS[kind]
    expected = math.log(5) if stream.symbols else StudentT(2).surprise(torch.zeros(2), stream.x[0]).item()
    assert read(name, stream).surprise[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", [*LEARNERS, "copy-last"])
def test_surprise_and_squared_error_are_of_one_prediction(name):
    """The scale of a Gaussian is 1 until it has learned of its first errors."""
    found = read(name, series(), GAUSSIAN)
    assert found.squared_error is not None
    first = steps_before_learning(name)
    np.testing.assert_allclose(
        found.surprise[:first], 0.5 * (found.squared_error[:first] + math.log(2 * math.pi)), rtol=1e-5
    )


@every_learner
def test_a_learner_is_its_seeds(name):
    first, again, other = (read(name, series(), seed=seed).surprise for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", [*LEARNERS, "copy-last"])
def test_what_is_missing_costs_nothing(name):
    x = values(channels=2)
    x[5], x[20, 0], x[40:] = math.nan, math.nan, math.nan
    found = read(name, Stream(x))
    assert found.squared_error is not None
    assert np.isfinite(found.surprise).all()
    assert (found.surprise == 0).nonzero()[0].tolist() == [5, 40, 41, 42, 43]
    assert (found.squared_error == 0).nonzero()[0].tolist() == [5, 40, 41, 42, 43]


@every_learner
def test_covariates_are_heard(name):
    """They tell what comes next."""
    x = values()
    deaf, told = Stream(x), Stream(x, x.roll(-1, 0))
    settings = OnlineSettings(lr=3e-2, hidden=(8,), family="gaussian")

    def often(stream: Stream) -> Stream:
        covariates = None if stream.covariates is None else stream.covariates.repeat(10, 1)
        return Stream(stream.x.repeat(10, 1).sign(), covariates)

    assert (
        read(name, often(told), settings).surprise[220:].mean()
        < read(name, often(deaf), settings).surprise[220:].mean()
    )


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("name", ["LSTM, chunk 8", "GRU, chunk 8"])
def test_a_network_has_about_as_many_parameters_as_the_stack(kind, name):
    settings = OnlineSettings(hidden=(32, 32))
    stack, network = (read(other, STREAMS[kind], settings).parameters for other in ("local, chunk 8", name))
    assert network == pytest.approx(stack, rel=0.04)


def test_what_is_far_out_reaches_a_network_cut_off():
    x = values()
    x[3], far = 16.0, x.clone()
    far[3] = 1e6
    settings = OnlineSettings(lr=1e-9, hidden=(4, 3))
    near, beyond = (read("GRU, chunk 8", Stream(each), settings).surprise for each in (x, far))
    np.testing.assert_array_equal(near[4:9], beyond[4:9])
    assert beyond[3] > near[3]


@every_learner
def test_who_diverges_is_said_to(name, monkeypatch):
    def step(self, chunk, **known):
        raise DivergedError("not finite")

    monkeypatch.setattr(chunked.Learner, "step", step)
    monkeypatch.setattr(every_step.Online, "learn_many", step)
    of_values, of_text = read(name, series()), read(name, text())
    assert np.isnan(of_values.surprise).all()
    assert of_values.squared_error is not None and np.isnan(of_values.squared_error).all()
    assert np.isnan(of_text.surprise).all()
    assert of_text.squared_error is None


# After every step


@pytest.mark.parametrize("kind", STREAMS)
def test_online_learns_as_a_learner_does_in_chunks_of_one(kind, float64):
    """By the same rule with the same rate, from the same weights; with what is known of each step beforehand."""
    stream = STREAMS[kind]
    expected = chunked.stack(chunked.LOCAL, 1)(stream, SETTINGS, 0)
    found = read("local, chunk 1", stream)
    np.testing.assert_allclose(found.surprise, expected.surprise, rtol=1e-6)
    if expected.squared_error is not None:
        assert found.squared_error is not None
        np.testing.assert_allclose(found.squared_error, expected.squared_error, rtol=1e-6)


def test_a_stream_is_learned_in_pieces_as_in_one(monkeypatch):
    whole = read("local, chunk 1", STREAMS["values and hours"]).surprise
    monkeypatch.setattr(every_step, "PIECE", 5)
    np.testing.assert_array_equal(read("local, chunk 1", STREAMS["values and hours"]).surprise, whole)


def test_online_by_its_own_scaling_and_calendar_reads_the_same():
    values_of = np.random.default_rng(0).normal(20, 3, (STEPS, 1))
    times = np.datetime64("2014-04-01T05:30", "s") + HALF_PAST * np.arange(STEPS)
    found = read("local, chunk 1", Stream.scaled(values_of, times)).surprise
    torch.manual_seed(0)
    config = OnlineConfig(lr=SETTINGS.lr, warm_up=SETTINGS.warmup, calendar=("hour",))
    online = Online(channels=1, hidden=SETTINGS.hidden, config=config)
    expected = online.learn_many(values_of, times).surprise
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-3, atol=1e-3)


# Without a model


def test_a_copy_is_scored_by_its_running_scale():
    x = values(channels=2)
    family = Gaussian(2)
    expected = [family.surprise(torch.zeros(2), x[0])]
    for moved in x[1:]:
        expected.append(family.surprise(torch.zeros(2), moved))
        family.adapt(torch.zeros(1, 1, 2), moved.view(1, 1, 2))
    found = copy_last(Stream(x), GAUSSIAN, 0)
    np.testing.assert_allclose(found.surprise, torch.stack(expected).numpy(), rtol=1e-6)


def test_a_copy_is_of_the_last_value_that_was_observed():
    """A copy expects no move, and a move is from the last value there was."""
    x = torch.tensor([[math.nan], [2.0], [math.nan], [math.nan], [2.0], [3.0]])
    found = copy_last(Stream(torch.from_numpy(differences(x.numpy())).float()), GAUSSIAN, 0).squared_error
    assert found is not None
    assert found[:5].tolist() == [0] * 5
    assert found[5] > 0


def test_counts_are_of_what_came_before():
    stream = Stream(torch.tensor([0, 1, 0, 1, 2]), symbols=3)
    unigram = [0.1 / 1.3, 1.1 / 2.3, 1.1 / 3.3, 0.1 / 4.3]
    bigram = [0.1 / 0.3, 0.1 / 0.3, 1.1 / 1.3, 0.1 / 1.3]
    for context, probabilities in ((0, unigram), (1, bigram)):
        found = counts(context)(stream, SETTINGS, 0).surprise
        np.testing.assert_allclose(found, -np.log([1 / 3, *probabilities]), rtol=1e-6)
    with pytest.raises(ValueError, match="expected a context of 0 or 1 symbols, got 2"):
        counts(2)


# Streams


def test_a_stream_of_rows_with_times_tells_the_hour_of_the_next():
    times = np.datetime64("2014-04-01T05:30", "s") + HALF_PAST * np.arange(STEPS)
    stream = Stream.scaled(values().double().numpy(), times)
    assert stream.covariates is not None
    assert stream.channels == 3
    expected = torch.from_numpy(places(running_scale(values().double().numpy()))).float()
    assert torch.equal(stream.covariates[:, 2:], expected)
    np.testing.assert_allclose(stream.covariates[0, :2], [1, 0], atol=1e-7)  # row 1 is at six o'clock
    np.testing.assert_allclose(stream.covariates[12, :2], [0, -1], atol=1e-7)
    assert stream.x.dtype == torch.float32
    assert Stream.scaled(values().double().numpy()).channels == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(5),), r"at least 2 steps of values \[T, D\], torch.float32, got \[5\]"),
        ((torch.zeros(1, 1),), r"got \[1, 1\], torch.float32"),
        ((torch.zeros(5, 1).double(),), "torch.float64; convert them"),
        ((torch.zeros(5, 1), None, 3), r"at least 2 steps of symbols \[T\], torch.int64, got"),
        ((torch.zeros(5, 1), torch.zeros(4, 2)), r"expected covariates \[5, C\] of real values, got \[4, 2\]"),
        ((torch.zeros(5).long(), torch.zeros(5, 2), 3), "expected covariates .* of real values"),
    ],
)
def test_what_is_no_stream_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Stream(*arguments)


def test_families_are_those_of_the_tables():
    assert isinstance(series().family(SETTINGS), StudentT)
    assert isinstance(series().family(GAUSSIAN), Gaussian)
    assert isinstance(text().family(SETTINGS), Categorical)
