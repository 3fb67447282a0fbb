"""Lanes against their definition: what they give, put together again, is the sequence."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcrnn.data import Lanes
from pcrnn.errors import DataError, UsageError


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    batch, chunk = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    return draw(st.integers(batch * chunk + 1, 5 * batch * chunk + 20)), batch, chunk


def epoch(lanes: Lanes) -> list[torch.Tensor]:
    return [lanes.read(step)[0] for step in range(lanes.chunks_per_epoch)]


def joined(windows: list[torch.Tensor]) -> torch.Tensor:
    """[B, S + 1]: windows overlap by one symbol, which must be the same in both."""
    for left, right in pairwise(windows):
        assert torch.equal(left[:, -1], right[:, 0])
    return torch.cat([windows[0][:, :1], *(x[:, 1:] for x in windows)], dim=1)


@given(sizes())
def test_parts_put_together_are_the_sequence(size):
    length, batch, chunk = size
    lanes = Lanes(torch.arange(length), batch, chunk)
    whole = joined(list(lanes.parts()))
    assert torch.equal(whole[:-1, -1], whole[1:, 0])  # neighbouring lanes share one symbol
    sequence = torch.cat([whole[:1, 0], whole[:, 1:].flatten()])
    assert torch.equal(sequence, torch.arange(length - lanes.skipped_by_parts))
    assert lanes.skipped_by_parts < batch


@given(sizes())
def test_reading_an_epoch_gives_each_transition_at_most_once_and_counts_the_rest(size):
    length, batch, chunk = size
    lanes = Lanes(torch.arange(length), batch, chunk)
    windows = epoch(lanes)
    assert all(x.shape == (batch, chunk + 1) for x in windows)
    starts = torch.cat([x[:, :-1].flatten() for x in windows])
    assert len(starts.unique()) == len(starts) == length - 1 - lanes.skipped_by_read
    assert lanes.skipped_by_read < batch * chunk + batch
    read, whole = joined(windows), joined(list(lanes.parts()))
    assert torch.equal(read, whole[:, : read.shape[1]])


@given(sizes(), st.integers(0, 60))
def test_reading_is_a_pure_function_of_the_step_and_restarts_where_the_lanes_wrap(size, step):
    length, batch, chunk = size
    lanes = Lanes(torch.arange(length), batch, chunk)
    x, restart = lanes.read(step)
    again, _ = Lanes(torch.arange(length), batch, chunk).read(step)
    wrapped, restart_wrapped = lanes.read(step + lanes.chunks_per_epoch)
    assert torch.equal(x, again) and torch.equal(x, wrapped)
    assert restart == restart_wrapped == (step % lanes.chunks_per_epoch == 0)
    assert restart == bool(x[0, 0] == 0)


def test_a_lane_is_a_contiguous_piece():
    x, restart = Lanes(torch.arange(100), batch=3, chunk=5).read(1)
    assert x.tolist() == [list(range(5, 11)), list(range(38, 44)), list(range(71, 77))]
    assert not restart


def test_one_chunk_an_epoch_restarts_every_time():
    lanes = Lanes(torch.arange(9), batch=2, chunk=4)
    assert lanes.chunks_per_epoch == 1
    assert [lanes.read(step)[1] for step in range(3)] == [True, True, True]


def test_channels_keep_together():
    sequence = torch.stack([torch.arange(50.0), -torch.arange(50.0)], dim=1)
    x, _ = Lanes(sequence, batch=4, chunk=6).read(1)
    assert x.shape == (4, 7, 2)
    assert torch.equal(x[..., 0], -x[..., 1])
    assert x[2, :, 0].tolist() == list(range(30, 37))


@pytest.mark.parametrize("batch", [1, 3])
def test_windows_are_copies(batch):
    sequence = torch.arange(31)
    x, _ = Lanes(sequence, batch, chunk=10).read(0)
    assert x.is_contiguous()
    x.zero_()
    assert torch.equal(sequence, torch.arange(31))


def test_exactly_enough_is_enough():
    lanes = Lanes(torch.arange(4 * 8 + 1), batch=4, chunk=8)
    assert (lanes.chunks_per_epoch, lanes.skipped_by_read, lanes.skipped_by_parts) == (1, 0, 0)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (
            4096,
            r"the training part has 4096 steps; 32 lanes of one chunk of 128 need 32 \* 128 \+ 1 = 4097: "
            r"lower --chunk to 127 or --batch to 31, or give a longer file",
        ),
        (129, r"lower --chunk to 4 or --batch to 1, or"),
        (128, r"lower --chunk to 3, or"),
        (33, r"lower --chunk to 1, or"),
        (20, r"lower --batch and --chunk, or"),
        (0, r"has 0 steps"),
    ],
)
def test_too_short_says_how_many_are_needed_and_what_to_lower(length, message):
    with pytest.raises(DataError, match=message):
        Lanes(torch.arange(length), batch=32, chunk=128, name="the training part")


def test_nothing_to_lower_is_not_proposed():
    with pytest.raises(DataError, match="lower --batch and --chunk, or"):
        Lanes(torch.arange(0), batch=1, chunk=4)


@given(st.integers(2, 3000), st.integers(1, 64), st.integers(1, 200))
def test_what_the_message_says_to_lower_to_works(length, batch, chunk):
    x = torch.arange(length)
    if length >= batch * chunk + 1:
        return
    if length > batch:
        Lanes(x, batch, (length - 1) // batch)
    if length > chunk:
        Lanes(x, (length - 1) // chunk, chunk)


@given(st.integers(2, 400), st.integers(1, 40), st.integers(1, 40))
def test_at_most_takes_any_sequence_with_a_transition(length, batch, chunk):
    lanes = Lanes.at_most(torch.arange(length), batch, chunk)
    assert lanes.batch <= batch and lanes.chunk <= chunk
    if length > batch * chunk:
        assert (lanes.batch, lanes.chunk) == (batch, chunk)
    assert sum(x[:, 1:].numel() for x in lanes.parts()) == length - 1 - lanes.skipped_by_parts


def test_at_most_lowers_the_lanes_before_the_chunk():
    assert Lanes.at_most(torch.arange(876), 32, 128).batch == 6
    short = Lanes.at_most(torch.arange(60), 32, 128)
    assert (short.batch, short.chunk, short.skipped_by_parts) == (1, 59, 0)
    with pytest.raises(DataError, match=r"valid has 1 steps"):
        Lanes.at_most(torch.arange(1), 32, 128, name="valid")


@pytest.mark.parametrize(("batch", "chunk", "flag"), [(0, 4, "batch"), (4, 0, "chunk"), (-1, 4, "batch")])
def test_sizes_below_one(batch, chunk, flag):
    for make in (Lanes, Lanes.at_most):
        with pytest.raises(UsageError, match=f"expected --{flag} of at least 1, got {min(batch, chunk)}"):
            make(torch.arange(100), batch, chunk)


def test_negative_step():
    with pytest.raises(UsageError, match="expected a step of 0 or more, got -1"):
        Lanes(torch.arange(100), 2, 3).read(-1)
