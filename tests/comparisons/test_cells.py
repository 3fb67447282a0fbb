"""Finished trainings are kept, found by what they depend on, and never taken for others."""

import json
import shutil

import numpy as np
import pytest
import torch
from pcrnn.comparisons import cells
from pcrnn.comparisons.cells import Cells
from pcrnn.comparisons.quality import applications, quality, tasks
from pcrnn.comparisons.suite import Request

from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError

TINY = TrainConfig(hidden=(4,), batch=2, chunk=8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "cells.jsonl"


def computed(path, key=("a", 1)) -> bool:
    """Whether a cell of that key had to be computed."""
    calls = []
    found = Cells(path).get(key, lambda: {"score": 2.5} if calls.append(1) is None else {})
    assert found == {"score": 2.5}
    return bool(calls)


def test_a_cell_is_computed_once_and_read_by_the_next_run(path):
    assert computed(path)
    assert not computed(path)
    assert computed(path, ("a", 2)) and not computed(path, ("a", 1))


def test_another_version_of_the_code_or_of_torch_computes_anew(path, monkeypatch):
    assert computed(path)
    monkeypatch.setattr(cells, "code_digest", lambda: "other")
    assert computed(path)
    monkeypatch.undo()
    assert not computed(path)
    monkeypatch.setattr(torch, "__version__", "0")
    assert computed(path)


def test_the_digest_is_of_every_source_file(tmp_path, monkeypatch):
    for name in ("pcrnn", "learning_rules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("x = 1\n")
        monkeypatch.setattr(getattr(cells, name), "__file__", str(tmp_path / name / "__init__.py"))

    def digest() -> str:
        cells.code_digest.cache_clear()
        return cells.code_digest()

    first = digest()
    assert digest() == first
    (tmp_path / "learning_rules" / "__init__.py").write_text("x = 2\n")
    second = digest()
    (tmp_path / "pcrnn" / "new.py").write_text("")
    assert len({first, second, digest()}) == 3
    monkeypatch.undo()
    cells.code_digest.cache_clear()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-20],  # cut
        lambda line: line.replace(b"2.5", b"3.5"),  # another figure
        lambda line: line.replace(b'a\\"', b'b\\"'),
        lambda line: b"5\n",
        lambda line: b"[]\n",
        lambda line: b"\xff\xfe\n",
        lambda line: b'{"key": "a"}\n',
        lambda line: b"",
    ],
)
def test_a_damaged_line_is_computed_anew_and_the_others_are_kept(path, damage):
    computed(path, ("whole",))
    whole = path.read_bytes()
    computed(path)
    path.write_bytes(whole + damage(path.read_bytes().removeprefix(whole)))
    assert computed(path)
    assert not computed(path) and not computed(path, ("whole",))


def test_a_file_that_cannot_be_added_to_is_refused_before_anything_runs(path, monkeypatch):
    path.mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"cells.jsonl: expected a file that finished trainings can be added to.*--out"
    ):
        Cells(path)
    path.rmdir()
    path.write_text("")
    monkeypatch.setattr(cells.os, "access", lambda *_: False)
    with pytest.raises(UsageError, match=r"cannot be written; make it writable, or give another folder with --out"):
        Cells(path)


# By content


def write_series(path, values) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("a\n" + "\n".join(f"{value:.6f}" for value in values) + "\n")


def test_the_digest_of_a_task_is_that_of_its_data_whatever_its_name(tmp_path):
    waves = np.sin(np.arange(900) / 5)

    def digest(folder: str, name: str, limit: int | None = None) -> str:
        return tasks.open_weather(TINY, tmp_path / folder / name, limit).digest

    write_series(tmp_path / "a" / "series.csv", waves)
    write_series(tmp_path / "b" / "series.csv", np.random.default_rng(0).standard_normal(900))
    first = digest("a", "series.csv")
    assert digest("b", "series.csv") != first  # the same name
    shutil.copy(tmp_path / "a" / "series.csv", tmp_path / "b" / "copy.csv")
    assert digest("b", "copy.csv") == first  # the same content
    assert digest("a", "series.csv", limit=50) != first
    forecasts = [applications.open_forecasts(TINY, tmp_path / "a" / "series.csv", limit).digest for limit in (None, 5)]
    assert len({first, *forecasts}) == 3  # they are scored by forecasts, too
    write_series(tmp_path / "a" / "series.csv", [*waves[:-1], 0.5])
    assert digest("a", "series.csv") != first  # changed in place


def test_texts_and_sequences_are_told_apart_by_what_they_say(tmp_path):
    texts = {name: tmp_path / f"{name}.txt" for name in ("one", "other")}
    texts["one"].write_text("ab" * 500)
    texts["other"].write_text("cd" * 500)  # the same symbols by number
    assert len({tasks.open_text(TINY, path, None).digest for path in texts.values()}) == 2
    pixels = torch.arange(40.0).view(20, 2, 1)
    one, other = (tasks.Digits(pixels, labels, TINY).digest for labels in (torch.zeros(20), torch.ones(20)))
    assert one != other


def test_another_file_of_the_same_name_has_figures_of_its_own(tmp_path):
    rng = np.random.default_rng(0)
    write_series(tmp_path / "a" / "series.csv", np.sin(np.arange(900) / 5))
    write_series(tmp_path / "b" / "series.csv", rng.standard_normal(900))

    def figures(folder: str, out: str) -> dict[str, float]:
        request = Request(quick=True, seeds=1, out=tmp_path / out, data=tmp_path / folder / "series.csv")
        rows = json.loads(quality.run(request)[0].read_text())["rows"]
        return {row["rule"]: row["metric"] for row in rows}

    first, second = figures("a", "shared"), figures("b", "shared")
    assert second == figures("b", "alone") and not set(first.values()) & set(second.values())
    assert figures("a", "shared") == first
