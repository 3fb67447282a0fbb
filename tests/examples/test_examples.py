"""Every example runs in its quick mode and beats what it must; without its package it says what is missing."""

import csv
import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import bach, climate, genome

EXAMPLES = {path.stem for path in (Path(__file__).parents[2] / "examples").glob("*.py")}
CHANCE = 0.1  # of ten digits


@pytest.fixture
def data(tmp_path, text):
    """A small file of every kind, each with a pattern that can be learned in a few updates."""
    generator = np.random.default_rng(0)
    bases = np.array(list("ACGT"))[np.where(generator.random(3000) < 0.9, np.arange(3000), generator.integers(4)) % 4]
    (tmp_path / "cycle.fa").write_text(">cycle\n" + "".join(bases) + "\n")
    hours = np.arange(1200)
    with (tmp_path / "days.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("level",), *([x] for x in np.sin(2 * math.pi * hours / 24))])
    np.save(tmp_path / "chords.npy", np.tile(np.eye(bach.KEYS)[[40, 44, 47, 44]], (150, 1)))
    files = {"genome": tmp_path / "cycle.fa", "climate": tmp_path / "days.csv", "bach": tmp_path / "chords.npy"}
    return {"text": str(text), **files}


BEATEN = {
    "text": ("local, bits/char", "unigram"),
    "genome": ("local, bits/base", "order 0"),
    "climate": ("local, error", "copy-last"),
    "bach": ("local, nats/frame", "base rate"),
}


@pytest.mark.parametrize("name", BEATEN)
def test_example_beats_its_simplest_baseline(name, data):
    figures = importlib.import_module(f"examples.{name}").main(data=data[name], quick=True)
    learned, baseline = BEATEN[name]
    assert figures[learned] < figures[baseline]


@pytest.mark.parametrize("name", ["digits", "encoder", "features"])
def test_example_reads_digits_better_than_chance(name):
    pytest.importorskip(
        "sklearn.linear_model", reason="the package scikit-learn is not installed", exc_type=ImportError
    )
    figures = importlib.import_module(f"examples.{name}").main(quick=True)
    assert min(figures.values()) > CHANCE


def test_lstm_and_layer_learn_to_add():
    figures = importlib.import_module("examples.lstm").main(quick=True)
    assert max(figures.values()) < 1 / 6  # the variance of the sum of two uniform numbers


def test_transformer_learns_with_every_memory(text):
    figures = importlib.import_module("examples.transformer").main(data=str(text), quick=True)
    assert len(figures) == 3 and max(figures.values()) < math.log2(10)  # of the text's ten symbols


@pytest.mark.filterwarnings("ignore:::lightning")  # it warns of its own use of torch
def test_lightning_module_beats_counting(text):
    pytest.importorskip("lightning", reason="the package lightning is not installed")
    figures = importlib.import_module("examples.lightning_module").main(data=str(text), quick=True)
    assert figures["bits/char"] < figures["unigram"]


def test_every_example_is_tested():
    others = {"digits", "encoder", "features", "lstm", "transformer", "lightning_module", "stream"}
    assert {*BEATEN, *others} == EXAMPLES


@pytest.mark.parametrize("module", [bach, climate, genome])
def test_missing_data_is_named_with_its_remedy(module, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install \w+, or give --data"):
        module.main(quick=True)


@pytest.mark.parametrize("name", ["digits", "encoder", "features"])
def test_missing_scikit_learn_is_named_with_its_remedy(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match="pip install scikit-learn"):
        importlib.import_module(f"examples.{name}").main(quick=True)


def test_a_stream_raises_no_alarm_in_its_first_days():
    pytest.importorskip("pvlib", reason="the package pvlib is not installed", exc_type=ImportError)
    assert importlib.import_module("examples.stream").main(quick=True) == []
