"""`pcrnn watch` on what has no end: a file that grows, is truncated or replaced; pipes; signals."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pcrnn.cli.watch.stop import Stop
from pcrnn.streaming.source import CHUNK, Source

FLAGS = ("--hidden", 4, "--no-expected")
PATIENCE = 60  # seconds, of which a loaded machine may need many


def until(condition):
    """Wait for something that another thread or process does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.01)


def lines(path):
    """The observed values in a table so far."""
    text = path.read_text() if path.exists() else ""
    return [line.split("\t")[2] for line in text.splitlines()[1:]]


@pytest.fixture
def followed(program, tmp_path):
    """Follow s.csv while `act` runs in a thread, then stop by a signal; returns what the program answered and wrote."""

    def follow(act, *flags, number=signal.SIGINT):
        path, out, failures = tmp_path / "s.csv", tmp_path / "out", []

        def acting():
            try:
                act(path, lambda count: until(lambda: len(lines(out)) == count))
            except BaseException as error:  # a failure here must end the program, too
                failures.append(error)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=acting)
        thread.start()
        called = program("watch", path, "--follow", *FLAGS, "--out", out, *flags)
        thread.join()
        assert not failures, (failures, called)
        return called, lines(out)

    return follow


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def test_a_growing_file_is_followed_and_half_a_line_waited_for(followed):
    def act(path, seen):
        time.sleep(0.3)  # the file is not there yet
        append(path, "a\n1\n")
        seen(1)
        append(path, "2\n3")
        seen(2)
        append(path, "4\n")
        seen(3)
        append(path, "5")

    called, observed = followed(act)
    assert called.code == 130 and observed == ["1", "2", "34"]
    assert "note: waiting for" in called.err and "stopping" not in called.err  # which goes past python, to the terminal


def test_a_file_that_becomes_shorter_or_is_replaced_is_begun_anew(followed):
    def act(path, seen):
        path.write_text("a,b\n1,1\n2,2\n3,3\n")
        seen(3)
        path.write_text("a,b\n4,4\n")  # truncated: copytruncate of logrotate
        seen(4)
        path.rename(path.with_name("s.csv.1"))
        time.sleep(0.3)
        append(path.with_name("s.csv.1"), "5,5\nx,5\n6,6")  # its writer has not noticed yet
        path.write_text("b,a\n7,70\n")
        seen(7)
        append(path, "8,80\n")
        seen(8)
        os.replace(new(path, "9,90\n"), path)  # and one without a header
        seen(9)

    def new(path, text):
        other = path.with_name("new")
        other.write_text(text)
        return other

    called, observed = followed(act, "--channels", "a")
    assert called.code == 130 and observed == ["1", "2", "3", "4", "5", "6", "70", "80", "90"]
    assert "s.csv:4: column 'a': expected a number, got 'x'" in called.err


def test_where_a_followed_stream_was_stopped_it_goes_on(followed, tmp_path):
    state = ("--state", tmp_path / "state")

    def first(path, seen):
        path.write_text("a\n1\n2\n3")
        seen(2)

    def second(path, seen):
        seen(2)
        append(path, "\n4\n")
        seen(4)

    assert followed(first, *state, number=signal.SIGTERM)[0].code == 143
    called, observed = followed(second, *state)
    assert called.code == 130 and observed == ["1", "2", "3", "4"]
    assert "going on after observation 2, from line 4" in called.err
    assert "note: 4 observations, 0 alarms, 0 lines left out; saved in" in called.err


def test_handlers_are_put_back(followed):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    followed(lambda path, seen: (path.write_text("a\n1\n"), seen(1)))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_does_not_wait():
    script = (
        "import os, signal; from pcrnn.cli.watch.stop import Stop\n"
        "with Stop() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); print(stop.signal, stop.waits(None), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('still here')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (130, "15 True\n")


def test_a_source_reads_no_more_than_it_is_asked_for(tmp_path):
    """However fast the writer of a pipe is: what is not read yet waits in the pipe, and its writer with it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", f"yes 1,2 > {pipe}"])
    try:
        with Source(str(pipe), follow=False) as source, Stop() as stop:
            assert all(0 < len(source.read(stop.waits)) <= CHUNK for _ in range(100))
    finally:
        writer.wait(PATIENCE)


@pytest.fixture(scope="module")
def piped(tmp_path_factory):
    """A process that reads standard input, with what it has written after the first row, at the end, and on stderr."""
    folder = tmp_path_factory.mktemp("piped")
    command = [sys.executable, "-m", "pcrnn", "watch", "--hidden", "4", "--state", str(folder / "state")]
    with (folder / "err").open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"a\n1\n2")
    process.stdin.flush()
    first = [process.stdout.readline() for _ in range(2)]  # comes though the input has not ended
    process.stdin.write(b"\n3\n")
    process.stdin.flush()
    more = [process.stdout.readline() for _ in range(2)]
    process.stdout.close()
    process.stdin.write(b"4\n5\n")
    process.stdin.close()
    return process.wait(PATIENCE), first + more, folder


def test_a_row_from_a_pipe_is_answered_at_once(piped):
    _, rows, _ = piped
    assert [row.split(b"\t")[0] for row in rows] == [b"index", b"1", b"2", b"3"]


def test_a_closed_pipe_ends_it_quietly_with_the_stream_saved(program, piped, tmp_path):
    code, _, folder = piped
    assert code == 128 + signal.SIGPIPE
    said = (folder / "err").read_text()
    assert said.startswith("note: learning from a; by the rule local, ")
    assert [line for line in said.splitlines()[1:] if not line.startswith("note: compiling")] == []
    (tmp_path / "s.csv").write_text("6\n")
    called = program("watch", tmp_path / "s.csv", "--state", folder / "state")
    assert "going on after observation 5" in called.err and called.out.splitlines()[1].startswith("6\t1\t6")
