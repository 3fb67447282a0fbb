"""A mistake ends with one message that names what was given, the documented exit code and no traceback."""

import io
import shutil
import subprocess
import sys

import pytest

from pcrnn.cli.main import main
from tests.conftest import TINY, refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["subcommand"]),
        (("trian",), ["trian"]),
        (("train", "--hiden", "3"), ["--hiden", "--hidden"]),
        (("train", "--chunk", "x"), ["--chunk"]),
        (("train", "--resume"), ["--resume"]),
        (("train", "--chunk", "0"), ["chunk: expected at least 1, got 0"]),
        (("train", "--lr", "nan"), ["lr: expected a number above 0, got nan"]),
        (("train", "--rule", "bptt", "--trace", "none"), ["trace: expected only with rule local"]),
        (("train", "--credit", "layer", "--hops", "1"), ["hops", "layer"]),
        (
            ("train", "--family", "student-t"),
            ["family: expected auto, which is Categorical, for pydoc, got student-t; leave it out"],
        ),
        (("train", "--family", "studnet"), ["family", "student-t"]),
        (("train", "--half-life", "0"), ["half_life: expected a finite number above 0, got 0"]),
        (("train", "--device", "gpu"), ["device: expected auto, cpu, cuda or cuda:N, got 'gpu'"]),
        (("train", "--device", "meta"), ["device: expected auto, cpu, cuda or cuda:N, got 'meta'"]),
        (("train", "--device", "cuda:99"), ["device: expected cuda:99 to exist"]),
        (("train", "--config", "nowhere.toml"), ["nowhere.toml: expected a TOML file"]),
        (("train", "--resume", "a", "--out", "b"), ["--out: a resumed run keeps its folder"]),
    ],
)
def test_wrong_usage_exits_2(program, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(program(*arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", "", ["empty.txt"]),
        ("short.txt", "abcdef" * 2, ["short.txt", "--chunk"]),
        ("nan.csv", "a,b\n" + "1,2\n3,1\n" * 9 + "1,nan\n", ["nan.csv:20", "b"]),
    ],
)
def test_bad_data_exits_3_and_leaves_no_folder(program, tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    called = program("train", *TINY, "--data", tmp_path / name, "--out", tmp_path / "run")
    refused(called, 3, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("probe", "lags", "RUN", "--out", "FILE/x"),
        ("plot", "surprise", "RUN", "--out", "FILE/x"),
        ("compare", "quality", "--quick", "--out", "FILE/x"),
        ("train", "--out", "FILE/x"),
    ],
)
def test_a_folder_that_cannot_be_made_exits_2(program, run, text, command):
    """Below a file: not even root can."""
    words = [part.replace("RUN", str(run)).replace("FILE", str(text)) for part in command]
    refused(program(*words), 2, "expected a folder that can be written to")


def test_data_that_is_not_there_exits_3(program, tmp_path):
    refused(program("train", "--data", tmp_path / "nowhere.txt", "--out", tmp_path / "run"), 3, "nowhere.txt")


def test_an_unknown_symbol_at_evaluation_is_placed(program, run, tmp_path):
    (tmp_path / "other.txt").write_text("the cat sat on the mat.\nthe Zebra sat on the mat.\n")
    refused(program("evaluate", run, "--data", tmp_path / "other.txt"), 3, "other.txt:2:5", "'Z'")


def test_an_unknown_symbol_in_the_prompt_is_placed(program, run):
    refused(program("sample", run, "--prompt", "the Zebra"), 3, "prompt:1:5", "'Z'")
    refused(program("sample", run, "--prompt", ""), 2, "prompt: expected at least one character")


def test_resuming_with_another_architecture_exits_4_and_lists_all_differences(program, run):
    called = program("train", "--resume", run, "--hidden", 8, 8, 8, "--chunk", 4, "--no-plots")
    refused(called, 4, "hidden: the run has 8 8, asked for 8 8 8", "chunk: the run has 8, asked for 4")


def test_resuming_with_another_rule_or_option_exits_4(program, run):
    other_rule = program("train", "--resume", run, "--rule", "bptt")
    refused(other_rule, 4, "rule: the run has local, asked for bptt", "credit: the run has cascade, asked for None")
    refused(program("train", "--resume", run, "--credit", "top"), 4, "credit: the run has cascade, asked for top")


def test_an_option_in_a_file_is_refused_with_a_rule_on_the_command_line_that_lacks_it(program, tmp_path):
    (tmp_path / "s.toml").write_text('credit = "top"\n')
    called = program("train", "--config", tmp_path / "s.toml", "--rule", "bptt")
    refused(called, 2, "credit: expected only with rule local, got rule bptt; leave it out")


def test_resuming_to_fewer_updates_than_were_done_is_refused(program, run):
    refused(program("train", "--resume", run, "--steps", 3), 2, "steps: expected at least the 4 already done")


def test_resuming_on_data_that_has_changed_is_refused(program, tmp_path):
    data, out = tmp_path / "text.txt", tmp_path / "run"
    data.write_text("the cat sat on the mat.\n" * 50)
    assert program("train", *TINY, "--data", data, "--out", out, "--no-plots").code == 0
    data.write_text("the mat sat on the cat.\n" * 50)
    refused(program("train", "--resume", out, "--steps", 6), 4, str(data), "content has changed")


@pytest.mark.parametrize("command", ["evaluate", "plot all", "plot surprise", "sample"])
def test_a_folder_that_is_no_run_exits_4(program, tmp_path, command):
    refused(program(*command.split(), tmp_path / "nowhere"), 4, "nowhere", "no such folder")
    refused(program(*command.split(), tmp_path), 4, str(tmp_path), "no config.json")


def test_a_damaged_settings_file_exits_4(program, run, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "config.json").write_text("{")
    refused(program("train", "--resume", broken), 4, "config.json", "expected the settings of a run")


def test_a_passage_that_cannot_be_drawn_exits_2(program, run):
    refused(program("plot", "surprise", run, "--start", 5000), 2, "expected a start from 0 to 1199")
    refused(program("plot", "surprise", run, "--length", 0), 2, "length: expected at least 1, got 0")
    refused(program("plot", "surprise", run, "--smooth", 0), 2, "smooth: expected at least 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "RUN", "--temperature", "nan"), "temperature: expected a number from 0 to 1,000,000, got nan"),
        (("sample", "RUN", "--temperature", "inf"), "temperature: expected a number from 0 to 1,000,000, got inf"),
        (("sample", "RUN", "--length", -1), "length: expected at least 0, got -1"),
        (("sample", "RUN", "--seed", 2**63), f"seed: expected at least 0 and at most {2**63 - 1}, got {2**63}"),
        (("forecast", "RUN", "--horizon", 0), "horizon: expected at least 1, got 0"),
        (("forecast", "RUN", "--samples", 0), "samples: expected at least 1, got 0"),
        (("forecast", "RUN", "--start", 0), "start: expected at least 1, got 0"),
        (("forecast", "RUN", "--interval", 1), "interval: expected above 0 and below 1, got 1.0"),
        (("forecast", "RUN", "--seed", -1), "seed: expected at least 0, got -1"),
        (("detect", "RUN", "--quantile", 0), "quantile: expected above 0 and below 1, got 0.0"),
        (("detect", "RUN", "--window", 0), "window: expected at least 1, got 0"),
        (("detect", "RUN", "--regimes", -1), "regimes: expected at least 0, got -1"),
        (("plot", "surprise", "RUN", "--start", -1), "start: expected at least 0, got -1"),
        (("plot", "surprise", "RUN", "--length", 2**64), f"length: expected at least 1 and at most {2**63 - 1}, got"),
        (("probe", "euler", "RUN", "--span", "inf"), "span: expected above 0 and at most"),
        (("probe", "lags", "RUN", "--seed", -1), "seed: expected at least 0, got -1"),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_read(program, tmp_path, arguments, message):
    given = [tmp_path / "nowhere" if part == "RUN" else part for part in arguments]
    refused(program(*given), 2, message)


def test_a_name_that_is_no_text_is_shown_all_the_same(run, tmp_path, monkeypatch):
    copy, screen = tmp_path / "run-\udcff", io.BytesIO()
    shutil.copytree(run, copy)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="utf-8"))
    assert main(["train", "--resume", str(copy), "--no-plots"]) == 0
    sys.stdout.flush()
    assert b"run-\\udcff" in screen.getvalue()


def test_the_program_itself_ends_with_a_message_and_not_a_traceback(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "pcrnn", "evaluate", tmp_path / "nowhere"], capture_output=True, text=True
    )
    assert ended.returncode == 4
    assert ended.stderr.startswith("pcrnn: error: ")
    assert "Traceback" not in ended.stderr
