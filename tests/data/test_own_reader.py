"""A reader of one's own, registered in READERS: opened, trained, evaluated, drawn and resumed like a built-in one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pcrnn.data import READERS, Reader, Source, open_source
from pcrnn.errors import DataError, UsageError
from pcrnn.nn.observations import Observation, Poisson
from pcrnn.runs.load import load_run
from pcrnn.training.train import train
from tests.conftest import TINY
from tests.reliability.tiny import StopAt, newest, same


class Requests(Source):
    """Requests a minute."""

    unit = "nats/minute"

    def observation(self) -> Observation:
        return Poisson(1)


class RequestLog(Reader):
    """A log file: a line a minute, `2024-01-31T12:00 17`."""

    suffixes = (".log",)

    def open(self, location, options, state) -> Requests:
        counts = [float(line.split()[1]) for line in Path(location).read_text().splitlines()]
        return Requests(torch.tensor(counts)[:, None], name=location)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log file, and READERS with its reader, as it was before afterwards."""
    monkeypatch.setattr(READERS, "_parts", dict(READERS._parts))
    READERS.register("requests")(RequestLog)
    counts = np.random.default_rng(0).poisson(3 + 2 * np.sin(np.arange(400) / 5))
    path = tmp_path / "web.log"
    path.write_text("".join(f"2024-01-31T{i // 60:02}:{i % 60:02} {count}\n" for i, count in enumerate(counts)))
    return path


def test_its_suffix_and_its_kind_open_it(log):
    source = open_source(log)
    assert (source.kind, source.unit, source.length) == ("requests", "nats/minute", 400)
    assert source.describe() == f"{log}: 400 minutes; 360 to train on, 40 to validate on (the last 10 %)"
    assert torch.equal(open_source(f"requests:{log}").sequence("all"), source.sequence("all"))
    other = log.with_suffix(".txt")
    other.write_bytes(log.read_bytes())
    assert open_source(other).kind == "text"
    again = open_source(other, state=json.loads(json.dumps(source.state())))
    assert again.kind == "requests" and again.fingerprint() == source.fingerprint()


def test_its_mistakes_are_told_as_those_of_built_in_ones(log):
    with pytest.raises(DataError, match="of the options of requests data, none, got 'x'"):
        open_source(f"{log}?x")
    with pytest.raises(
        UsageError, match=r"expected text for --tokens bytes, got .*web\.log, which is read as requests"
    ):
        open_source(log, tokens="bytes")
    with pytest.raises(DataError, match=r"unknown kind 'request'; did you mean 'requests'\?"):
        open_source(f"request:{log}")
    with pytest.raises(DataError, match="expected requests data, as the run was trained on, got series"):
        (log.parent / "a.npy").touch()
        open_source(log.parent / "a.npy", state=open_source(log).state())
    log.write_text("12:00 1\n" * 10)
    with pytest.raises(DataError, match=r"web\.log: expected at least 11 minutes, .* got 10; give a longer file"):
        open_source(log)
    with pytest.raises(UsageError, match="expected a name of your own, got a built-in one"):
        READERS.register("text")(RequestLog)


def test_the_last_reader_that_claims_a_suffix_has_it(log):
    class Words(RequestLog):
        suffixes = (".log", ".b.log")

    READERS.register("words")(Words)
    assert open_source(log).kind == "words"
    READERS.register("short")(type("Short", (RequestLog,), {"suffixes": (".log",)}))
    longer = log.rename(log.with_suffix(".b.log"))
    assert open_source(longer).kind == "words", "the longest one that fits"


def test_the_whole_program_runs_on_it(program, log):
    out = log.parent / "run"
    called = program("train", *TINY, "--data", log, "--out", out)
    assert called.code == 0, called
    assert "nats/minute" in called.out and "sample" not in called.out
    assert {path.suffix for path in (out / "plots").iterdir()} == {".png", ".svg"}
    evaluated = program("evaluate", out)
    assert evaluated.code == 0 and "level 2, the stack" in evaluated.out
    assert program("evaluate", out, "--data", log).out == evaluated.out
    assert program("plot", "surprise", out, "--start", 20, "--length", 90).code == 0
    assert program("detect", out).code == 0
    assert program("sample", out).code == program("forecast", out).code == 2
    assert "trained on a requests" in program("sample", out).err


def test_a_run_on_it_goes_on_from_where_it_stopped(program, log):
    out = log.parent / "whole"
    assert program("train", *TINY, "--data", log, "--out", out, "--no-plots").code == 0
    config = load_run(out).config
    train(config, log.parent / "cut", callback=StopAt(2))
    resumed = train(config, log.parent / "cut", resume=True)
    assert same(newest(resumed), newest(train(config, log.parent / "again")))


def test_values_can_be_forecast_where_it_says_so(program, log, monkeypatch):
    """Without a line more: channels without names, in their own units, and no times."""
    monkeypatch.setattr(Requests, "is_series", True)
    out = log.parent / "run"
    assert program("train", *TINY, "--data", log, "--out", out, "--no-plots").code == 0
    called = program("forecast", out, "--horizon", 6)
    assert called.code == 0, called
    assert (out / "forecast.csv").read_text().splitlines()[0].startswith("step,channel 1 median")
