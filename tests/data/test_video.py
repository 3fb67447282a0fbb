"""Video: frames of grey values as Bernoulli pixels, from a file or made of digits that bounce."""

import importlib.util
import json
import re

import numpy as np
import pytest
import torch

from pcrnn.data import VideoSource, open_source
from pcrnn.data.video import CLIP, bouncing_digits
from pcrnn.errors import CheckpointError, DataError
from tests.conftest import TINY, refused

RNG = np.random.default_rng(0)
needs_digits = pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="scikit-learn is not installed")


def drifting(frames=60):
    """A lit row that goes down one pixel a frame."""
    video = np.zeros((frames, 5, 4))
    video[np.arange(frames), np.arange(frames) % 5] = 1
    return video


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4", "f8"])
def test_frames_are_flattened_and_grey_values_are_shares_of_light(tmp_path, dtype):
    grey = RNG.integers(0, 256, (30, 3, 4))
    frames = grey.astype(dtype) if dtype[0] in "ui" else (grey / 255).astype(dtype)
    np.save(tmp_path / "a.npy", frames)
    source = open_source(f"video:{tmp_path / 'a.npy'}")
    np.testing.assert_allclose(source.sequence("all"), grey.reshape(30, 12) / 255, rtol=1e-6)
    assert (source.kind, source.observation().family, source.observation().size) == ("video", "bernoulli", 12)


def test_whole_numbers_of_0_and_1_are_black_and_white_and_clips_follow_each_other():
    video = drifting().astype(np.uint8)
    assert torch.equal(VideoSource(video).sequence("all"), torch.from_numpy(drifting().reshape(60, 20)).float())
    assert torch.equal(VideoSource(video.reshape(6, 10, 5, 4)).sequence("all"), VideoSource(video).sequence("all"))


def test_baselines_are_cross_entropies_of_their_rates():
    source = VideoSource(RNG.random((200, 3, 3)))
    train, valid = (source.sequence(split).double() for split in ("train", "valid"))
    before, after, last, met = train[:-1], train[1:], valid[:-1], valid[1:]
    lit, dark = (after * before).sum() / before.sum(), (after * (1 - before)).sum() / (1 - before).sum()
    rates = {"base rate": train.mean(0).expand_as(met), "copy-last frame": last * lit + (1 - last) * dark}
    wanted = {
        name: torch.nn.functional.binary_cross_entropy(rate, met, reduction="sum").item() / len(met)
        for name, rate in rates.items()
    }
    assert source.baselines() == pytest.approx(wanted, rel=1e-3)  # counts are smoothed


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_a_stack_sees_a_row_drift(program, tmp_path, rule):
    np.save(tmp_path / "a.npy", drifting(600))
    flags = ("--rule", rule, "--hidden", 16, "--batch", 4, "--chunk", 16, "--steps", 80, "--lr", 0.02, "--warmup", 5)
    called = program("train", *flags, "--data", f"video:{tmp_path / 'a.npy'}", "--out", tmp_path / "run")
    assert called.code == 0
    figures = {line[:24].strip(): float(line.split()[-1]) for line in called.out.splitlines() if line.startswith("  ")
               and line.split()[-1].replace(".", "").isdigit()}  # fmt: skip
    assert figures["level 1, the stack"] < 0.2 * min(figures["base rate"], figures["copy-last frame"])
    assert (tmp_path / "run" / "plots" / "surprise_over_time.png").exists()


@needs_digits
@pytest.mark.parametrize("digits", [1, 2])
def test_digits_fly_straight_on_and_bounce_and_are_the_same_every_time(digits):
    frames = bouncing_digits(digits, size=20, clips=10)
    assert frames.shape == (10 * CLIP, 20, 20) and frames.dtype == np.uint8
    assert np.array_equal(frames, bouncing_digits(digits, size=20, clips=10))
    light = frames.reshape(10, CLIP, -1).sum(-1, dtype=int)
    if digits == 1:  # nothing of it ever leaves the frame
        assert (light == light[:, :1]).all() and (light > 0).all()
        rows = (frames * np.arange(20)[:, None]).sum((1, 2)) / frames.sum((1, 2))
        steps = np.abs(np.diff(rows.reshape(10, CLIP)))
        assert set(np.unique(steps.round(6))) <= {0.0, 1.0, 2.0}


@needs_digits
def test_its_options_and_where_it_begins_to_validate(program, tmp_path):
    source = open_source("bouncing-digits?digits=2&size=12&clips=20")
    assert source.describe() == (
        "bouncing-digits: 400 frames of 12 x 12 pixels; 360 to train on, 40 to validate on (the last 10 %)"
    )
    assert open_source("video:bouncing-digits?clips=20").length == 400
    spec = "bouncing-digits?size=8&clips=20"
    assert program("train", *TINY, "--data", spec, "--out", tmp_path / "run").code == 0
    assert program("train", *TINY, "--data", spec, "--resume", tmp_path / "run").code == 0
    refused(program("evaluate", tmp_path / "run", "--data", "bouncing-digits?clips=20"), 3, "frames of 8 x 8 pixels")
    with pytest.raises(DataError, match=r"expected clips as a whole number from 10 to 10000, got '9'"):
        open_source("bouncing-digits?clips=9")


def test_without_scikit_learn_the_way_out_is_named(program, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    called = program("train", "--data", "bouncing-digits", "--out", tmp_path / "run")
    refused(called, 3, "bouncing-digits need the package scikit-learn", "pip install scikit-learn")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((20, 4)), r"expected an array \[T, H, W\] or \[n, T, H, W\] .*, got shape \[20, 4\]"),
        (np.zeros((5, 2, 2)), r"expected at least 11 frames, .* got 5"),
        (np.full((20, 2, 2), 1.5), r"\[0, 0, 0\]: expected a grey value from 0 to 1, .* got 1\.5"),
        (np.full((20, 2, 2), -3), r"\[0, 0, 0\]: expected a grey value .* got -3"),
        (np.full((20, 2, 2), 256), r"\[0, 0, 0\]: expected a grey value .* got 256"),
        (np.full((20, 2, 2), np.nan), r"\[0, 0, 0\]: expected a grey value .* got nan"),
    ],
)
def test_what_cannot_be_seen_is_refused(tmp_path, frames, message):
    np.save(tmp_path / "a.npy", frames)
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / 'a.npy'))}.*{message}"):
        open_source(f"video:{tmp_path / 'a.npy'}")


def test_another_video_has_frames_of_the_same_size(tmp_path):
    np.save(tmp_path / "a.npy", drifting())
    state = json.loads(json.dumps(VideoSource(drifting()).state()))
    assert open_source(tmp_path / "a.npy", state=state).kind == "video"
    np.save(tmp_path / "a.npy", drifting().swapaxes(1, 2))
    with pytest.raises(DataError, match="frames of 5 x 4 pixels, as the run was trained on, got 4 x 5"):
        open_source(tmp_path / "a.npy", state=state)
    with pytest.raises(CheckpointError, match="expected the size of a frame, got"):
        open_source(tmp_path / "a.npy", state={"kind": "video"})
    with pytest.raises(DataError, match="expected options of bouncing-digits alone, got size"):
        open_source(f"video:{tmp_path / 'a.npy'}?size=16")
