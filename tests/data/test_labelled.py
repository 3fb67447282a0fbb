"""Labelled sequences: read, split by sequence, fed whole, trained by both rules, resumed exactly, judged."""

import io
import json
import math
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pcrnn
from pcrnn.analysis.evaluate import evaluate
from pcrnn.analysis.surprise import record_surprise
from pcrnn.config import TrainConfig
from pcrnn.data import LabelledSource, open_source
from pcrnn.data.sequence_lanes import SequenceLanes
from pcrnn.errors import CheckpointError, DataError, UsageError
from pcrnn.nn.observations import StackDefaults
from pcrnn.runs.load import build_stack, load_run
from pcrnn.runs.sizes import count_weights
from pcrnn.training.train import train
from tests.conftest import refused
from tests.reliability.tiny import StopAt, newest, rows, same

RNG = np.random.default_rng(0)


def sines(count=60, steps=12):
    """Two classes of real values that differ in their rhythm, of different lengths."""
    y = np.arange(count) % 2
    time = np.arange(steps)
    x = np.sin(time * (0.5 + y[:, None]) + RNG.random((count, 1))) + RNG.normal(0, 0.1, (count, steps))
    return {"x": x, "y": y, "lengths": RNG.integers(steps // 2, steps + 1, count)}


def parity(count=60, steps=12):
    """Symbols whose running parity is the label of every step, every third step unlabelled."""
    x = RNG.integers(0, 3, (count, steps))
    y = (x == 1).cumsum(1) % 2
    y[:, ::3] = -1
    return {"x": x, "y": y}


@pytest.fixture(params=[sines, parity])
def saved(request, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **request.param())
    return str(path)


def settings_of(data, **changes):
    size = {"hidden": (5, 4), "chunk": 5, "batch": 4, "steps": 20, "warmup": 2}
    return TrainConfig.from_mapping(
        {"data": data} | size | {"log_every": 5, "evaluate_every": 4, "keep_last": 1} | changes
    )


def test_the_label_counts_at_the_last_step_and_nothing_after_the_end_is_seen():
    arrays = sines()
    source = LabelledSource(**arrays)
    x, labels, counts = source.all
    assert counts.sum(1).tolist() == [1] * 60
    assert torch.equal(counts.nonzero()[:, 1], torch.from_numpy(arrays["lengths"]) - 1)
    assert torch.equal(labels[counts], torch.from_numpy(arrays["y"]))
    assert torch.equal(x[..., 0].isnan(), torch.arange(12) >= torch.from_numpy(arrays["lengths"])[:, None])
    train = source.part("train").x
    assert train.nanmean().abs() < 1e-6 and (train[~train.isnan()].std() - 1).abs() < 1e-2


def test_steps_without_a_label_do_not_count():
    arrays = parity()
    _, labels, counts = LabelledSource(**arrays).all
    assert torch.equal(counts, torch.from_numpy(arrays["y"] >= 0))
    assert torch.equal(labels[counts], torch.from_numpy(arrays["y"][arrays["y"] >= 0]))


def test_splits_are_by_sequence_and_hold_a_tenth_of_every_class_or_the_last_tenth():
    y = np.repeat([0, 1, 2], [100, 60, 40])
    source = LabelledSource(np.arange(200.0)[:, None] + np.zeros(3), y)
    valid, train = (source.part(split) for split in ("valid", "train"))
    assert np.bincount(valid.labels[valid.counts]).tolist() == [10, 6, 4]
    assert len(torch.cat([valid.x, train.x])[:, 0, 0].unique()) == 200
    assert torch.equal(valid.x, LabelledSource(np.arange(200.0)[:, None] + np.zeros(3), y).part("valid").x)
    last = LabelledSource(np.arange(200.0)[:, None] + np.zeros(3), y, split="position").part("valid")
    assert last.labels[last.counts].tolist() == [2] * 20


@given(st.integers(10, 30), st.integers(1, 9), st.integers(1, 7), st.integers(1, 9))
def test_every_epoch_has_each_sequence_at_most_once_from_front_to_end(count, steps, batch, chunk):
    x = np.arange(count * steps).reshape(count, steps) + 2.0
    part = LabelledSource(x, np.arange(count) % 2, split="position").part("train")
    batch = min(batch, len(part.x))
    lanes = SequenceLanes(part, batch, chunk)
    for epoch in range(2):
        pieces = [lanes.read(epoch * lanes.chunks_per_epoch + step) for step in range(lanes.chunks_per_epoch)]
        assert all(piece.x.shape == (batch, lanes.chunk, 1) for piece, _ in pieces)
        begins = [step for step, (_, begin) in enumerate(pieces) if begin]
        whole = [torch.cat([piece.x for piece, _ in pieces[at : at + lanes.pieces]], 1)[:, :steps] for at in begins]
        found = torch.cat(whole)[..., 0]
        assert len(found[:, 0].unique()) == len(found) == len(part.x) // batch * batch
        assert torch.isin(found, part.x).all() and (found.diff(dim=1) > 0).all()
        assert sum(int(piece.counts.sum()) for piece, _ in pieces) == len(found)


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_stopped_and_resumed_equals_unbroken_bit_for_bit(saved, tmp_path, rule):
    whole = train(settings_of(saved, rule=rule), tmp_path / "whole")
    for stop in (1, 4, 7, 11):
        train(settings_of(saved, rule=rule), tmp_path / f"{stop}", callback=StopAt(stop))
        torch.manual_seed(99)
        resumed = train(settings_of(saved, rule=rule), tmp_path / f"{stop}", resume=True)
        assert resumed.valid == whole.valid and same(newest(resumed), newest(whole))
        assert rows(resumed.folder) == rows(whole.folder)


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_a_run_learns_what_the_sequences_are(program, tmp_path, rule):
    np.savez(tmp_path / "a.npz", **sines(400))
    flags = ("--rule", rule, "--hidden", 16, 16, "--batch", 32, "--steps", 40, "--warmup", 5, "--lr", 0.01)
    out = tmp_path / "run"
    called = program("train", *flags, "--data", tmp_path / "a.npz", "--out", out)
    assert called.code == 0 and "always the most frequent class 0.5" in called.out
    assert {path.suffix for path in (out / "plots").iterdir()} == {".png", ".svg"}
    run = load_run(out)
    found = evaluate(run.stack, run.source, batch=7, chunk=5)
    assert found.accuracy > 0.9
    assert found.nats == pytest.approx(evaluate(run.stack, run.source, batch=99, chunk=99).nats)
    assert program("evaluate", out).out.splitlines()[-1] in called.out.splitlines()
    assert program("export", out, tmp_path / "model").code == 0
    loaded, x = pcrnn.load(tmp_path / "model"), run.source.sequence("valid")
    assert torch.equal(loaded(x)[0], run.stack.eval()(x)[0])
    refused(program("detect", out), 2, "a run that expects its next observation, got one that expects labels")
    refused(program("probe", "timescales", out), 2, "a run that expects its next observation")
    other = ("--inference-steps", 2, "--data", tmp_path / "a.npz", "--out", tmp_path / "other")
    refused(program("train", *other), 2, "inference_steps: expected 0", "leave it out")
    assert program("plot", "surprise", out, "--start", 3).code == 0
    refused(program("plot", "surprise", out, "--start", 400), 2, "expected a start from 0 to 399")
    refused(program("plot", "surprise", out, "--regimes", 9), 2, "regimes: expected 0 for a run that expects labels")


def test_rows_average_surprises_over_the_updates_that_met_a_label(tmp_path):
    arrays = sines(60) | {"lengths": np.full(60, 12)}
    np.savez(tmp_path / "a.npz", **arrays)
    one = train(settings_of(str(tmp_path / "a.npz"), steps=12, lr=1e-12, weight_decay=0.0), tmp_path / "run")
    last = rows(one.folder)[-1]
    judged = evaluate(one.stack, LabelledSource(**arrays)).nats
    assert last["loss"] == pytest.approx(judged[-1], rel=0.1), "not a third of it, for three pieces a sequence"


def test_a_passage_has_the_surprise_of_the_label_at_each_step_of_a_sequence():
    source = LabelledSource(**parity())
    stack = build_stack(settings_of("a"), source)
    passage = record_surprise(stack, source, source.split_point, 7)
    x, labels, _ = (part[0] for part in source.part("valid"))
    assert torch.equal(passage.steps, x[:7])
    expectation, _ = stack(x.unsqueeze(0))
    wanted = torch.nn.functional.cross_entropy(expectation[0, :7], labels[:7], reduction="none")
    torch.testing.assert_close(passage.surprise[-1], wanted.detach())


@pytest.mark.parametrize("skip", ["none", "dense", "residual"])
def test_the_size_of_its_stack_is_counted_right(skip):
    source = LabelledSource(**sines())
    config = settings_of("a", skip=skip, hidden=(4, 4, 4))
    stack = build_stack(config, source)
    assert count_weights(config.settled(StackDefaults()._asdict()), 1, 2) == sum(
        parameter.numel() for parameter in stack.parameters()
    )


def test_another_file_is_read_as_the_run_read_its_own(saved, tmp_path):
    source = open_source(saved)
    state = json.loads(json.dumps(source.state()))
    again = open_source(saved, state=state)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(source.all, again.all, strict=True))
    assert again.state() == source.state() and again.fingerprint() == source.fingerprint()
    for damage in ({"classes": 1}, {"symbols": "a"}, {"mean": []}, {"scale": None}, {"split": "no"}):
        with pytest.raises(CheckpointError, match="data state: expected"):
            open_source(saved, state=state | damage)
    np.savez(tmp_path / "b.npz", x=np.zeros((30, 4, 3)), y=np.arange(30) % 2)
    with pytest.raises(DataError, match="as the run was trained on, got 3 channels"):
        open_source(tmp_path / "b.npz", state=state)
    np.savez(tmp_path / "b.npz", **(sines() | {"y": np.arange(60) % 7}))
    if source.reading.symbols is None:
        with pytest.raises(DataError, match="expected labels from 0 to 1, got 0 to 6; number them so"):
            open_source(tmp_path / "b.npz", state=state)


X, Y = np.arange(60.0).reshape(20, 3), np.arange(20) % 2
WRONG = {
    "no labels": ({"x": X}, r"expected the arrays x \(sequences\) and y \(labels\), got x;"),
    "another array": ({"x": X, "y": Y, "length": Y}, r"got 'length'; did you mean 'lengths'\?"),
    "few": ({"x": X[:9], "y": Y[:9]}, r"at least 10 sequences, so that a tenth can validate, got 9"),
    "one axis": ({"x": X[:, 0], "y": Y}, r"x as \[n, T\] or \[n, T, D\]"),
    "labels that do not fit": ({"x": X, "y": Y[:7]}, r"\[20\], a label a sequence, or \[20, 3\], .* got int64 \[7\]"),
    "labels of float": ({"x": X, "y": Y / 2}, r"expected y as whole numbers .* got float64"),
    "one class": ({"x": X, "y": Y * 0}, r"at least 2 classes, got 0 to 0; number the classes"),
    "negative class": ({"x": X, "y": Y - 1}, r"labels from 0 to K - 1 .* got -1 to 0"),
    "no label at all": ({"x": X, "y": np.full((20, 3), -1)}, r"at least 2 classes, got none"),
    "one symbol": ({"x": X.astype(int) * 0, "y": Y}, r"symbols from 0 to V - 1 .* got 0 to 0"),
    "negative symbol": ({"x": X.astype(int) - 4, "y": Y}, r"symbols from 0 to V - 1 .* got -4 to 55"),
    "not finite": ({"x": np.where(X == 7, math.nan, X), "y": Y}, r"expected finite numbers in x, got nan"),
    "long lengths": ({"x": X, "y": Y, "lengths": Y + 3}, r"lengths as 20 whole numbers from 1 to 3, .* 3 to 4"),
    "objects": ({"x": np.array([{}] * 20), "y": Y}, r"\[x\]: expected an array of float, int or bool, got object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_learned_from_is_refused_in_one_message(tmp_path, name):
    arrays, message = WRONG[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.npz")


def test_a_batch_larger_than_the_split_and_an_unknown_split_are_refused(saved):
    with pytest.raises(DataError, match="has 54 sequences, of which 64 are read side by side; lower --batch to 54"):
        open_source(saved).lanes(64, 9)
    with pytest.raises(UsageError, match="expected --chunk of at least 1, got 0"):
        open_source(saved).lanes(4, 0)
    with pytest.raises(DataError, match=r"expected split=classes or split=position, got split=random"):
        open_source(f"{saved}?split=random")


def test_whatever_bytes_it_has_it_is_read_or_refused_in_one_message(tmp_path):
    file = io.BytesIO()
    np.savez(file, x=X, y=Y)
    whole, path = file.getvalue(), tmp_path / "a.npz"

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=20), st.integers(0, len(whole)), st.integers(0, 60))
    def holds(content, start, length):
        path.write_bytes(whole[:start] + content + whole[start + length :])
        try:
            open_source(path)
        except DataError as error:
            assert str(error).startswith(str(path))

    holds()


def test_an_array_that_claims_more_than_it_has_is_refused_before_it_is_read(tmp_path):
    text = str({"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)}).encode()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(80))
    with pytest.raises(DataError, match=r"\[x\]: expected 8000000000000000 bytes of data .*, got 80"):
        open_source(tmp_path / "a.npz")
