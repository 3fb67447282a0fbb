"""From --data to a reader: what is chosen, and what is said when there is nothing to choose."""

import os
import sys
from pathlib import Path

import pytest

from pcrnn.data import open_source
from pcrnn.data.readers import absolute
from pcrnn.errors import CheckpointError, DataError, UsageError

NUMBERS = "\n".join(f"{i},{i % 3}" for i in range(30))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "a.csv", "A.CSV", "a.dat", "pydoc", "text:a.txt"):
        Path(name).write_text(NUMBERS)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("a.txt", "text", "a.txt"),
        ("a.dat", "series", "a.dat"),
        ("a.csv", "series", "a.csv"),
        ("A.CSV", "series", "A.CSV"),
        ("series:a.dat", "series", "a.dat"),
        ("text:a.csv", "text", "a.csv"),
        ("text:a.txt", "text", "text:a.txt"),  # a file of that very name comes first
        ("./pydoc", "series", "./pydoc"),
        ("text:pydoc", "text", "pydoc"),
        (Path("a.csv"), "series", "a.csv"),
    ],
)
def test_kind(folder, spec, kind, name):
    source = open_source(spec)
    assert (source.kind, source.name) == (kind, name)


def test_pydoc_is_never_a_file(folder):
    assert open_source("pydoc").length > len(NUMBERS) * 10


def test_units(folder):
    assert open_source("a.txt").unit == "bits/char"
    assert open_source("a.txt", tokens="bytes").unit == "bits/byte"
    assert open_source("a.csv").unit == "nats/step"
    assert open_source("text:a.csv", tokens="bytes").unit == "bits/byte"


def test_the_run_decides_the_kind(folder):
    text, series = (open_source(spec).state() for spec in ("a.txt", "a.csv"))
    assert open_source("text:a.csv", state=text).kind == "text"
    for spec in ("a.txt", "a.dat"):
        assert open_source(spec, state=series).kind == "series"
    Path("a.npy").touch()
    refused = [("pydoc", series), ("text:a.csv", series), ("a.npy", text), ("series:a.csv", text), ("a.dat", text)]
    for spec, state in refused:
        with pytest.raises(DataError, match="as the run was trained on, got"):
            open_source(spec, state=state)
    with pytest.raises(DataError, match=r"got series; give a text file; text:a\.csv reads it so all the same$"):
        open_source("a.csv", state=text)


def test_unknown_names_have_a_nearest_one(folder):
    Path("text:a.txt").unlink()
    with pytest.raises(DataError, match=r"^pydocs: expected pydoc, .* or an existing file, .*did you mean 'pydoc'\?"):
        open_source("pydocs")
    with pytest.raises(DataError, match=r"^a\.tx: expected pydoc, .* or an existing file, .*did you mean 'a\.txt'\?"):
        open_source("a.tx")
    with pytest.raises(DataError, match=r"unknown kind 'seires'; did you mean 'series'\?"):
        open_source("seires:a.csv")
    with pytest.raises(DataError, match=r"got the unknown kind 'http'"):
        open_source("http://example.org/a.txt")
    with pytest.raises(
        DataError, match=r"^C:/a\.txt: expected pydoc, .* or an existing file, got a name that is neither"
    ):
        open_source("C:/a.txt")  # a drive, not a kind
    with pytest.raises(DataError, match=r"got a name that is neither$"):
        open_source("no/such/folder/at/all")


def test_what_is_no_file(folder):
    with pytest.raises(DataError, match=r"expected a regular file, got a folder; name one file in it"):
        open_source(str(folder))
    for spec in ("text:gone.txt", "series:gone.csv", "series:gone.npy"):
        with pytest.raises(DataError, match=r"^gone.*: expected a readable file, got 'No such file or directory'"):
            open_source(spec)
    os.symlink("gone.txt", "dangling.txt")
    with pytest.raises(DataError, match=r"^dangling\.txt: expected a readable file, got 'No such file"):
        open_source("dangling.txt")
    for spec in ("", "\0", "x" * 5000):
        with pytest.raises(DataError, match="expected"):
            open_source(spec)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_not_waited_for(folder):
    os.mkfifo("pipe")
    with pytest.raises(DataError, match=r"^pipe: expected a regular file, got a device or pipe"):
        open_source("pipe")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.npy"])
def test_no_permission(folder, name, monkeypatch):
    Path(name).touch()

    def refuse(self, *_args, **_options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)  # a mode of 000 does not stop root
    with pytest.raises(DataError, match=f"^{name}: expected a readable file, got 'Permission denied'; check"):
        open_source(name)


def test_a_disk_that_fails_midway(folder, monkeypatch):
    def fail(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pcrnn.data.formats.files.unpack", fail)
    with pytest.raises(DataError, match=r"^a\.txt: .*Input/output error"):
        open_source("a.txt")


def test_tokens(folder):
    with pytest.raises(UsageError, match=r"characters or bytes, got 'byte'; did you mean 'bytes'\?"):
        open_source("a.txt", tokens="byte")
    with pytest.raises(UsageError, match=r"expected text for --tokens bytes, got a\.csv, .*--data text:a\.csv"):
        open_source("a.csv", tokens="bytes")


@pytest.mark.parametrize("state", [{}, {"kind": "smell"}, {"kind": None}])
def test_state_of_no_known_kind(state):
    with pytest.raises(CheckpointError, match=r"data state: expected a kind out of text, series, fasta, music, .* got"):
        open_source("pydoc", state=state)


def test_python_without_its_language_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"^pydoc: expected the module pydoc_data\.topics .* give a text file"):
        open_source("pydoc")


@pytest.mark.parametrize("name", ["log 12:00.txt", "a?b.txt", "text:b.txt", "C:\\a.txt", "series?columns=1.txt"])
@pytest.mark.parametrize("prefix", ["", "text:"])
def test_names_with_colons_and_question_marks_are_found_from_anywhere(folder, monkeypatch, name, prefix):
    Path(name).write_text("to be or not to be")
    written = absolute(prefix + name)
    assert written == f"{prefix}{folder / name}"
    monkeypatch.chdir("/")
    source = open_source(written)
    assert (source.kind, source.name) == ("text", str(folder / name))
    assert absolute(written) == written


def test_options_follow_a_name_with_a_question_mark(folder):
    Path("q?r.csv").write_text(NUMBERS)
    assert open_source("q?r.csv?columns=1").channels == 1
    assert absolute("series:q?r.csv?columns=1&missing=skip") == f"series:{folder}/q?r.csv?columns=1&missing=skip"
    assert absolute("pydoc") == "pydoc"


def test_a_link_keeps_its_own_name(folder):
    Path("blob").write_text(NUMBERS)
    os.symlink("blob", "table.csv")
    assert absolute("table.csv") == str(folder / "table.csv")
    assert open_source(absolute("table.csv")).kind == "series"
    assert "whatever its name says" not in " ".join(open_source("table.csv").notes)
