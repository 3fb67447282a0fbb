"""What `pcrnn watch` says while code is compiled: something where it is, nothing where it comes from the disk."""

import runpy
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from pcrnn.cli.watch import notes
from pcrnn.cli.watch.notes import CompilingNote


@pytest.fixture
def misses(monkeypatch):
    """Numba's count of what it did not find on the disk, of a compiled step that is none."""
    monkeypatch.setattr(notes, "PATIENCE", 0.01)
    counted = Counter(one_before=1)
    entry = SimpleNamespace(stats=SimpleNamespace(cache_misses=counted))
    monkeypatch.setitem(notes.sys.modules, "pcrnn.streaming.loop", SimpleNamespace(advance=entry))
    return counted


def test_that_code_is_compiled_is_said_once_while_it_is(misses):
    told = []
    note = CompilingNote(told.append)
    for signature in "ab":
        with note.watching():
            misses[signature] += 1
            time.sleep(0.2)
            said_meanwhile = len(told)
    assert said_meanwhile == 1 and told[0].startswith("note: compiling the online step, once on this machine")


def test_nothing_is_said_of_code_that_comes_from_the_disk_however_long_that_takes(misses):
    told, threads = [], threading.active_count()
    with CompilingNote(told.append).watching():
        time.sleep(0.2)
    assert told == [] and threading.active_count() == threads


def test_numba_counts_what_is_not_on_the_disk_before_it_compiles_it(tmp_path):
    """On which the note relies; and it counts nothing where it finds it there."""
    event = pytest.importorskip("numba.core.event")
    path, seen = tmp_path / "doubling.py", []
    path.write_text("import numba\n@numba.njit(cache=True)\ndef double(x):\n    return 2 * x\n")

    class Looks(event.Listener):
        def on_start(self, event):
            seen.append(sum(double.stats.cache_misses.values()))

        def on_end(self, event):
            pass

    for _ in range(2):
        double = runpy.run_path(str(path))["double"]
        with event.install_listener("numba:compile", Looks()):
            assert double(2) == 4
    assert seen == [1] and not double.stats.cache_misses
