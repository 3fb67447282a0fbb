"""Checkpoints: whole or absent, verified byte for byte, stepped back from when damaged, never executed."""

import json
import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from pcrnn import writing
from pcrnn.errors import CheckpointError
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.checkpoint import Checkpoint, check_fits, load, load_newest, save, verify
from pcrnn.trees import copy_into, flatten, unflatten
from tests.reliability.tiny import same

FILES = ["weights.safetensors", "trainer.safetensors", "config.json", "data.json", "manifest.json"]


class Inner(NamedTuple):
    cell: Tensor
    messages: Tensor


class Outer(NamedTuple):
    layers: tuple[Inner, ...]
    nothing: tuple[()]


def made(step: int) -> Checkpoint:
    """A small checkpoint whose content tells its step."""
    weights = {"a": torch.full((2, 3), float(step)), "none": torch.zeros(2, 0, 4)}
    return Checkpoint(
        step=step,
        weights=weights,
        trainer={"step": torch.tensor(float(step)), "random": torch.arange(7, dtype=torch.uint8)},
        documents={"config": {"lr": 0.1, "name": "é\ud800"}, "data": {"vocabulary": ["\x00", "\u2028"]}},
    )


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    path = save(tmp_path, made(5))
    assert path == tmp_path / "step_5"
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    assert same(load(path), made(5)) and load(path).documents == made(5).documents


def test_tensors_that_share_memory_or_are_not_contiguous_are_saved(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    views = {"column": whole[:, 1], "row": whole[1], "transposed": whole.T, "whole": whole}
    path = save(tmp_path, Checkpoint(step=1, weights=views, trainer={}, documents={}))
    assert all(torch.equal(load(path).weights[name], view) for name, view in views.items())


def test_trees_are_flattened_by_name_and_filled_again():
    tree = Outer((Inner(torch.ones(2), torch.zeros(2, 0)), Inner(torch.zeros(3), torch.ones(1))), ())
    flat = flatten(tree, "state")
    assert list(flat) == [f"state.layers.{n}.{name}" for n in (0, 1) for name in ("cell", "messages")]
    filled = unflatten(tree, {name: tensor + 1 for name, tensor in flat.items()}, "state")
    assert isinstance(filled, Outer) and isinstance(filled.layers[1], Inner)
    assert torch.equal(filled.layers[0].cell, torch.full((2,), 2.0))
    assert flatten(filled, "state").keys() == flat.keys()
    kept = flatten(tree, "state")
    copy_into(tree, filled)
    assert all(torch.equal(kept[name], flat[name]) for name in flat)  # the same storage, written in place
    assert all(torch.equal(kept[name], tensor) for name, tensor in flatten(filled, "state").items())


@pytest.mark.row(9)
def test_all_differences_are_listed_in_one_message():
    expected = {
        "kept": torch.ones(1),
        "shape": torch.ones(2, 3),
        "dtype": torch.ones(1),
        "missing": torch.ones(1),
    }
    found = {
        "kept": torch.ones(1),
        "shape": torch.ones(3, 2),
        "dtype": torch.ones(1).double(),
        "extra": torch.ones(4),
    }
    with pytest.raises(CheckpointError) as caught:
        check_fits(expected, found, "step_7")
    assert [line.strip() for line in str(caught.value).splitlines()[1:-1]] == [
        "dtype: expected [1] float32, found [1] float64",
        "extra: expected nothing, found [4] float32",
        "missing: expected [1] float32, found nothing",
        "shape: expected [2, 3] float32, found [3, 2] float32",
    ]
    assert "step_7" in str(caught.value) and "kept" not in str(caught.value)


def test_only_the_newest_are_kept_and_leftovers_of_killed_writers_go(tmp_path):
    (tmp_path / "step_9.tmp-123").mkdir()
    for step in (2, 9, 10, 11):
        save(tmp_path, made(step), keep_last=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step_10", "step_11"}


def test_the_newest_is_the_highest_number_and_not_the_last_name(tmp_path):
    for step in (9, 10):
        save(tmp_path, made(step), keep_last=5)
    assert load_newest(tmp_path).checkpoint.step == 10


@pytest.mark.row(3)
@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_noticed_and_the_checkpoint_before_is_loaded(tmp_path, name, counts, injected):
    """Every length of 0, 1, ..., 99 and 99.9 %."""
    for step in (1, 2):
        save(tmp_path, made(step), keep_last=2)
    file = tmp_path / "step_2" / name
    content, every = file.read_bytes(), 100 // (counts.cuts - 1)
    for percent in (*range(0, 100, every), 99.9):
        file.write_bytes(content[: int(percent / 100 * len(content))])
        loaded = load_newest(tmp_path)
        assert same(loaded.checkpoint, made(1))
        (notice,) = loaded.warnings
        assert str(file) in notice and "stepping back" in notice
    injected(counts.cuts)


@pytest.mark.row(3)
def test_every_flipped_bit_is_noticed(tmp_path, counts, injected):
    """Flips at random places of the whole checkpoint: weights, trainer, documents, manifest."""
    path, chance = save(tmp_path, made(3)), random.Random(0)
    files = [path / name for name in FILES]
    sizes = [file.stat().st_size for file in files]
    for file in chance.choices(files, sizes, k=counts.flips):
        content = bytearray(file.read_bytes())
        content[place := chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=file.name):
            load(path)
        assert [verdict.damage is None for verdict in verify(tmp_path)] == [False], (file, place)
        file.write_bytes(whole)
    assert same(load(path), made(3))
    injected(counts.flips)


@pytest.mark.row(3)
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    path = save(tmp_path, made(3))
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_newest(tmp_path)


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no folder step_N is there"):
        load_newest(tmp_path)


def rewrite_manifest(path: Path, **changes: object) -> None:
    """A manifest that is whole, as a later version or a stranger would write it."""
    body = json.loads((path / "manifest.json").read_bytes())
    del body["checksum"]
    body |= changes
    body["checksum"] = checkpoints._checksum(body)
    (path / "manifest.json").write_bytes(checkpoints.as_json(body))


@pytest.mark.row(9)
def test_a_later_format_is_told_and_not_stepped_over(tmp_path):
    for step in (1, 2):
        save(tmp_path, made(step), keep_last=2)
    rewrite_manifest(tmp_path / "step_2", format=2)
    with pytest.raises(CheckpointError, match="expected checkpoint format 1 or earlier, got 2"):
        load_newest(tmp_path)


@pytest.mark.row(8)
def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    path = save(tmp_path / "run", made(1))
    (tmp_path / "secret.json").write_text("{}")
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    rewrite_manifest(path, files=files | {"../../secret.json": {"bytes": 2, "sha256": ""}})
    with pytest.raises(CheckpointError, match="it is damaged"):
        load(path)


@pytest.mark.row(8)
@pytest.mark.parametrize("content", [b"[" * 100_000, b"null", b"[]", b'{"format": 1}', b"\xff", b"{}"])
def test_a_manifest_that_is_none_is_damaged(tmp_path, content):
    path = save(tmp_path, made(1))
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json: expected the manifest of a checkpoint"):
        load(path)


@pytest.mark.row(8)
def test_a_huge_manifest_is_refused_before_it_is_read(tmp_path):
    path = save(tmp_path, made(1))
    with (path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(CheckpointError, match="expected at most 1048576 bytes"):
        load(path)


class Killed(BaseException):
    """Stands for a process that ends between two system calls."""


class Crashing:
    """Lets so many steps of writing a checkpoint through, then the process is dead: nothing is tidied up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int, half: bool = False) -> None:
        self.left, self.half, self.done = steps, half, []
        for owner, name in (
            (writing, "_write_synced"),
            (writing, "_sync_folder"),
            (Path, "rename"),
            (Path, "mkdir"),
            (writing.shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self.counted(name, getattr(owner, name)))

    def counted(self, name: str, function: Callable) -> Callable:
        def step(path: Path, *arguments: object, **options: object) -> object:
            if self.left == 0:
                if self.half and name == "_write_synced":
                    (content,) = arguments
                    path.write_bytes(content[: len(content) // 2])
                raise Killed
            self.left -= 1
            self.done.append((name, path.name))
            return function(path, *arguments, **options)

        return step


def crash_after(steps: int, folder: Path, new: Checkpoint, half: bool) -> list[tuple[str, str]]:
    """Save `new`, dying after so many steps; the steps that were made."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        crashing = Crashing(monkeypatch, steps, half)
        with suppress(Killed):
            save(folder, new, keep_last=1)
        return crashing.done


@pytest.mark.row(2)
@pytest.mark.parametrize("half", [False, True], ids=["between files", "in the middle of a file"])
@pytest.mark.parametrize("step", [1, 2], ids=["the same step again", "a new step"])
def test_a_crash_after_any_write_leaves_the_previous_or_the_new_one(tmp_path, injected, half, step):
    old, new = made(1), replace(made(2), step=step)
    save(tmp_path / "whole", old)
    everything = crash_after(-1, tmp_path / "whole", new, half)
    assert [name for what, name in everything if what == "_write_synced"] == FILES, "the manifest is written last"
    seen = []
    for steps in range(len(everything) + 1):
        folder = tmp_path / str(steps)
        save(folder, old)
        assert len(crash_after(steps, folder, new, half)) == steps
        loaded = load_newest(folder)
        assert loaded.warnings == ()
        seen.append(same(loaded.checkpoint, new))
        assert seen[-1] or same(loaded.checkpoint, old)
        save(folder, made(3))  # the next one tidies up
        assert [path.name for path in folder.iterdir()] == ["step_3"]
    assert seen == sorted(seen) and not seen[0] and seen[-1]
    injected(len(seen))


@pytest.mark.row(4)
def test_a_full_disk_keeps_the_previous_one_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    save(tmp_path, made(1))
    write = writing._write_synced

    def full(path: Path, content: bytes) -> None:
        if path.name == "trainer.safetensors":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(writing, "_write_synced", full)
    with pytest.raises(CheckpointError, match=r"step_2: .*No space left on device.*earlier ones are untouched"):
        save(tmp_path, made(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]
    assert same(load_newest(tmp_path).checkpoint, made(1))


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    path = save(tmp_path, made(2))
    (path / "weights.safetensors").write_bytes(b"")
    save(tmp_path, made(2))
    assert same(load(path), made(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step_2"]


def test_a_checkpoint_stepped_over_goes_once_a_new_one_is_there(tmp_path):
    for step in (10, 20):
        save(tmp_path, made(step), keep_last=2)
    (tmp_path / "step_20" / "config.json").unlink()
    save(tmp_path, made(15), keep_last=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step_10", "step_15"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_have_the_mode_that_the_umask_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        path = save(tmp_path, made(1))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o640}
