"""Commands that look at another file than the run's: all of it, read as the run's was, and nothing left unsaid."""

import math
import shutil

import numpy as np
import pytest
import torch

from pcrnn.data import TextSource, open_as
from pcrnn.runs.load import load_run
from tests.conftest import TINY, refused


@pytest.fixture
def new(tmp_path):
    """300 characters of the run's symbols."""
    path = tmp_path / "new.txt"
    path.write_text("the mat sat on the cat.\n" * 12 + "the cat sat.")
    return path


def scores(called):
    """What the table says of the levels of the stack."""
    return [line.split()[-1] for line in called.out.splitlines() if line.startswith("  level ")]


def test_all_of_it_is_scored(program, run, new):
    called = program("evaluate", run, "--data", new)
    assert called.code == 0 and called.err.count("note:") == 1
    assert f"{new}: 300 characters, 12 symbols\n" in called.out, "another file has no split"
    assert "scored 299 steps of all 300, after 4 updates, bits/char" in called.out
    assert "(simple predictors were fitted on the training split of" in called.out and "cats.txt)" in called.out
    one = load_run(run, data=str(new))
    activity, _ = one.stack.observe(one.source.sequence("all").unsqueeze(0))
    exact = activity.surprise[:, 0, 1:].mean(1) / math.log(2)
    assert scores(called) == [f"{bits:.3f}" for bits in exact.tolist()]


def test_its_simple_predictors_know_the_training_split(program, run, text, new):
    own = open_as(TextSource, text)
    train, asked = own.decode(own.sequence("train")), new.read_text()
    p = {symbol: (train.count(symbol) + 0.1) / (len(train) + 0.1 * 12) for symbol in set(asked)}
    unigram = -np.mean([math.log2(p[symbol]) for symbol in asked[1:]])
    assert f"unigram                {unigram:9.3f}" in program("evaluate", run, "--data", new).out


def test_the_run_s_own_data_is_known_by_its_content(program, run, text, tmp_path):
    own = program("evaluate", run)
    assert "validation split, 119 steps, after 4 updates" in own.out
    copied = shutil.copy(text, tmp_path / "elsewhere")
    for again in (text, copied):
        called = program("evaluate", run, "--data", again)
        assert called.out.replace(str(again), str(text)) == own.out
    assert "1,080 to train on" in program("detect", run, "--data", copied).out


@pytest.mark.parametrize("content", ["th", "the cat"])
def test_a_short_file_is_enough_to_look_at(program, run, tmp_path, content):
    path = tmp_path / "short.txt"
    path.write_text(content)
    assert f"scored {len(content) - 1} steps of all {len(content)}" in program("evaluate", run, "--data", path).out
    called = program("detect", run, "--data", path, "--out", tmp_path / "a.csv")
    assert called.code == 0 and f"{path}: {len(content)} characters, 12 symbols\n" in called.out
    assert program("plot", "surprise", run, "--data", path, "--out", tmp_path / "a").code == 0
    path.write_text("t")
    refused(program("evaluate", run, "--data", path), 3, "2 beside the data of a run, got 1")


def test_without_the_run_s_own_data_it_is_scored_and_that_is_said(program, text, new, tmp_path):
    moved, out = shutil.copy(text, tmp_path / "gone.txt"), tmp_path / "run"
    assert program("train", *TINY, "--data", moved, "--out", out, "--no-plots").code == 0
    there = program("evaluate", out, "--data", new)
    (tmp_path / "gone.txt").unlink()
    called = program("evaluate", out, "--data", new)
    assert called.code == 0 and "note: the run's own data cannot be read: " in called.err and "gone.txt" in called.err
    assert scores(called) == scores(there) and "unigram" not in called.out
    assert "validation split, 119 steps" in program("evaluate", out, "--data", text).out, "its data, found elsewhere"
    refused(program("detect", out, "--data", new), 3, "expected the data that the run was trained on")


def test_a_table_is_not_read_as_text(program, run, tmp_path):
    table = tmp_path / "sensors.csv"
    table.write_text("a,b\n" + "1,2\n" * 20)
    for command in ("evaluate", "detect", "plot surprise"):
        refused(
            program(*command.split(), run, "--data", table),
            3,
            "expected text data, as the run was trained on, got series",
            f"text:{table} reads it so all the same",
        )


def test_what_no_reader_reads_is_told_as_of_another_kind(program, run, tmp_path):
    picture = tmp_path / "a.txt"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    called = program("evaluate", run, "--data", picture)
    refused(called, 3, "expected text data, as the run was trained on, got a PNG picture; give a text file\n")


def test_unknown_symbols_are_all_named_left_out_or_kept(program, run, new, tmp_path):
    new.write_text(new.read_text() + "Q the cat é sat Q")
    for command in ("evaluate", "detect"):
        refused(program(command, run, "--data", new), 3, "'Q' (U+0051) 2 times, first at", "'\\xe9' (U+00E9) once, at")
    skipped = program("evaluate", run, "--data", new, "--unknown", "skip")
    assert "scored 313 steps of all 314" in skipped.out
    assert "3 symbols that the run's vocabulary lacks are left out: 'Q' (U+0051) 2 times" in skipped.err
    kept = program("evaluate", run, "--data", new, "--unknown", "base-rate")
    assert "scored 316 steps of all 317" in kept.out and "are kept, as surprising as a symbol never seen" in kept.err
    found = load_run(run, data=str(new), options={"unknown": "base-rate"})
    activity, _ = found.stack.observe(found.source.sequence("all").unsqueeze(0))
    unknown = found.source.sequence("all") < 0
    torch.testing.assert_close(activity.surprise[:, 0, unknown], torch.full((3, 3), math.log(1081)))
    assert scores(kept) == [f"{nats / math.log(2):.3f}" for nats in activity.surprise[:, 0, 1:].mean(1).tolist()]
    out = tmp_path / "a.csv"
    assert program("detect", run, "--data", new, "--unknown", "base-rate", "--out", out).code == 0
    assert sum("\N{REPLACEMENT CHARACTER}" in line for line in out.read_text().splitlines()) == 3
    picture = tmp_path / "a"
    flags = ("--data", new, "--out", picture, "--start", 290)
    assert program("plot", "surprise", run, *flags, "--unknown", "base-rate").code == 0


def test_unknown_is_for_another_text(program, run, new):
    refused(program("evaluate", run, "--unknown", "skip"), 2, "--unknown: expected with another file (--data)")
    refused(program("evaluate", run, "--data", new, "--unknown", "ignore"), 2, "expected one of error, skip, base-rate")


def test_a_series_and_labelled_sequences_are_scored_whole(program, tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 2))
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", header="x,y", comments="")
    np.savetxt(tmp_path / "few.txt", rows[:5] + 1, delimiter=",", header="x,y", comments="")
    out = tmp_path / "series"
    assert program("train", *TINY, "--data", tmp_path / "a.csv", "--out", out, "--no-plots").code == 0
    called = program("evaluate", out, "--data", tmp_path / "few.txt")
    assert "few.txt: 5 steps of 2 channels (x, y)\n" in called.out and "scored 4 steps of all 5" in called.out
    assert program("detect", out, "--data", tmp_path / "few.txt").code == 0
    assert program("forecast", out, "--data", tmp_path / "few.txt", "--horizon", 2, "--samples", 4).code == 0
    refused(program("detect", out, "--data", tmp_path / "few.txt", "--unknown", "skip"), 3, "got 'unknown'")
    x, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "few.npz", x=x[:3] + 1, y=y[:3])
    out = tmp_path / "labelled"
    assert program("train", *TINY, "--data", tmp_path / "a.npz", "--out", out, "--no-plots").code == 0
    called = program("evaluate", out, "--data", tmp_path / "few.npz")
    assert "3 sequences" in called.out and "scored 3 labels of all 3 sequences" in called.out
    assert "always the most frequent class" in called.out
    assert "validation split, 4 labels" in program("evaluate", out, "--data", tmp_path / "a.npz").out
