"""A stranger's run folder may hold links: nothing outside it is written, and a file of one's own choice is."""

import math
import os
import shutil
import stat

import pytest

from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs.folder import RunFolder, existing
from pcrnn.writing import open_to_append, write_file, write_folder
from tests.conftest import TINY, refused

pytestmark = [pytest.mark.row(8), pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")]

PRECIOUS = b"precious\n"


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """The folder of a run on a series."""
    from pcrnn.cli.main import main

    root = tmp_path_factory.mktemp("waves")
    (root / "waves.csv").write_text("a\n" + "".join(f"{math.sin(t / 5):.4f}\n" for t in range(300)))
    flags = ("train", *TINY, "--no-plots", "--data", root / "waves.csv", "--out", root / "run")
    assert main([str(flag) for flag in flags]) == 0
    return root / "run"


@pytest.fixture
def evil(waves, tmp_path):
    """A copy of it, to be given links."""
    return shutil.copytree(waves, tmp_path / "evil")


@pytest.fixture
def victim(tmp_path):
    """A folder outside the run, with a file in it."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "notes.txt").write_bytes(PRECIOUS)
    return tmp_path / "victim"


COMMANDS = {
    "anomalies.csv": ("detect",),
    "forecast.csv": ("forecast", "--horizon", 5, "--samples", 4),
    "plots/forecast.png": ("forecast", "--horizon", 5, "--samples", 4),
    "plots/forecast.svg": ("forecast", "--horizon", 5, "--samples", 4),
    "plots/surprise_over_time.png": ("plot", "surprise"),
    "plots/gradient_norms.svg": ("plot", "training"),
    "plots/probe_timescales.csv": ("probe", "timescales"),
    "plots/probe_timescales.json": ("probe", "timescales"),
    "metrics.csv": ("train", "--resume", "--no-plots", "--steps", 5),
    "metrics.jsonl": ("train", "--resume", "--no-plots", "--steps", 5),
    "config.json": ("train", "--resume", "--no-plots", "--steps", 5),
    "data.json": ("train", "--resume", "--no-plots", "--steps", 5),
    ".lock": ("train", "--resume", "--no-plots", "--steps", 5),
}


def called(program, command, evil):
    words = list(command)
    words.insert(2 if command[0] in ("plot", "probe", "train") else 1, evil)
    return program(*words)


CASES = [(name, "a link") for name in COMMANDS]
CASES += [
    (name, kind)
    for kind in ("a dangling link", "a hard link", "a link inside", "a pipe")
    for name in ("anomalies.csv", "plots/forecast.png", "metrics.csv", "config.json", ".lock")
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_stands_in_place_of_a_file_is_not_written_through(program, evil, victim, name, kind):
    place = evil / name
    place.parent.mkdir(exist_ok=True)
    content = place.read_bytes() if place.exists() else PRECIOUS
    target = {"a dangling link": victim / "new", "a link inside": evil / "notes.txt"}.get(kind, victim / "notes.txt")
    if kind != "a dangling link":
        target.write_bytes(content)
    place.unlink(missing_ok=True)
    {"a hard link": place.hardlink_to, "a pipe": lambda _: os.mkfifo(place)}.get(kind, place.symlink_to)(target)
    result = called(program, COMMANDS[name], evil)
    if kind == "a dangling link":
        assert not target.exists()
    else:
        assert target.read_bytes() == content
    if kind == "a hard link":
        assert result.code == 0  # replaced by a file of the run's own
    elif name == "config.json" and kind in ("a dangling link", "a pipe"):
        refused(result, 4, "with no config.json")
    else:
        got = "a pipe" if kind == "a pipe" else "a link"
        refused(result, 2, f"{place}: expected a file or a free name to write to, got {got}")
    assert {path.name for path in victim.iterdir()} == {"notes.txt"}


@pytest.mark.parametrize("name", ["plots", "checkpoints", "tensorboard"])
@pytest.mark.parametrize("command", [("evaluate",), ("forecast",), ("train", "--resume"), ("verify",), ("plot", "all")])
def test_a_folder_in_it_that_is_a_link_is_refused(program, evil, victim, name, command):
    if (evil / name).exists():
        shutil.move(evil / name, victim / name)
    else:
        (victim / name).mkdir()
    (evil / name).symlink_to(victim / name)
    before = sorted(victim.rglob("*"))
    refused(called(program, command, evil), 4, f"{evil / name}: expected a folder of the run's own, got a link")
    assert sorted(victim.rglob("*")) == before


def test_a_checkpoint_that_is_a_link_is_not_followed_when_it_is_removed(program, evil, victim):
    shutil.copytree(evil / "checkpoints" / "step_4", victim / "step_4")
    for name in ("step_2", "step_2.old-1", "best_1", "best_1.tmp-1"):
        (evil / "checkpoints" / name).symlink_to(victim / "step_4")
    assert program("train", "--resume", evil, "--steps", 6, "--no-plots").code == 0
    assert {path.name for path in (evil / "checkpoints").iterdir()} >= {"step_6", "best_6"}
    assert not any(path.is_symlink() for path in (evil / "checkpoints").iterdir())
    assert len(list((victim / "step_4").iterdir())) == 6


def test_the_folder_of_a_run_may_be_a_link(program, evil, tmp_path):
    (tmp_path / "run").symlink_to(evil)
    assert program("detect", tmp_path / "run").code == 0
    assert (evil / "anomalies.csv").is_file()


def test_a_library_user_is_refused_too(evil, victim):
    (evil / "plots").symlink_to(victim)
    with pytest.raises(CheckpointError, match="got a link; nothing is written through it"):
        existing(evil)
    with pytest.raises(CheckpointError, match="got a link; nothing is written through it"):
        _ = RunFolder(evil).plots


# What a person names


def test_a_named_file_may_be_a_link_a_pipe_or_a_device(program, evil, victim):
    link = evil.parent / "mine.csv"
    link.symlink_to(victim / "notes.txt")
    assert program("detect", evil, "--out", link).code == 0
    assert link.is_symlink() and (victim / "notes.txt").read_text().startswith("kind,first,last")
    assert program("detect", evil, "--out", "/dev/null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_is_no_file(tmp_path):
    for follow in (False, True):
        with pytest.raises(UsageError, match="expected a file or a free name to write to, got a folder; remove it or"):
            write_file(tmp_path, b"", follow=follow)


# The module that writes


def test_a_file_is_replaced_whole_and_keeps_no_temporary(tmp_path):
    write_file(tmp_path / "a", "é")
    write_file(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_long_name_can_be_written(tmp_path):
    write_file(tmp_path / ("n" * 255), "1")
    assert (tmp_path / ("n" * 255)).read_text() == "1"


def test_a_folder_that_is_a_link_is_replaced_and_what_it_led_to_stays(tmp_path, victim):
    (tmp_path / "new").symlink_to(victim)
    write_folder(tmp_path / "new", {"a": b"1"})
    assert not (tmp_path / "new").is_symlink() and (tmp_path / "new" / "a").read_bytes() == b"1"
    assert (victim / "notes.txt").read_bytes() == PRECIOUS


def test_lines_are_added_to_a_file_and_to_nothing_else(tmp_path, victim):
    for line in ("1\n", "2\n"):
        with open_to_append(tmp_path / "log") as file:
            file.write(line)
    assert (tmp_path / "log").read_text() == "1\n2\n"
    (tmp_path / "link").symlink_to(victim / "notes.txt")
    with pytest.raises(UsageError, match="got a link"):
        open_to_append(tmp_path / "link")


def test_files_have_the_mode_that_the_umask_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", "")
        open_to_append(tmp_path / "b").close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {0o640}
