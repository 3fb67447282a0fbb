"""The README does what it says: its Python runs, its commands parse, its pictures and files are there."""

import re
import shlex
from pathlib import Path

import pytest

from pcrnn.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(enumerate(re.findall(r"```python\n(.*?)```", README, re.DOTALL), 1))
COMMANDS = re.findall(r"^(?:\S*/)?pcrnn (train .*?|evaluate .*?|plot .*?|sample .*?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("number", BLOCKS)
def test_python_blocks_run(number):
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_flags_that_exist(command, capsys):
    """Every flag of a command stands in that command's help."""
    name, *arguments = shlex.split(command)
    with pytest.raises(SystemExit):
        main([name, *arguments[: name == "plot"], "--help"])
    text = capsys.readouterr().out
    assert all(flag in text for flag in arguments if flag.startswith("--"))


def test_there_are_blocks_and_commands_to_test():
    assert len(BLOCKS) >= 3 and len(COMMANDS) >= 5


@pytest.mark.parametrize("path", re.findall(r"\]\((?!https?:)([^)#]+)\)|`((?:docs|comparisons)/[\w./]+)`", README))
def test_files_it_names_exist(path):
    assert (ROOT / (path[0] or path[1])).exists()


@pytest.mark.parametrize("extra", ["", "[test]"])
def test_each_set_up_is_one_line(extra):
    """The two commands that `.ci/run` executes word for word."""
    pattern = r"python3 -m venv \.venv && \.venv/bin/pip install -c constraints\.txt -e \S+ && \.venv/bin/\S+.*"
    lines = [line for line in README.splitlines() if re.fullmatch(pattern, line)]
    assert sum(("[test]" in line) == bool(extra) for line in lines) == 1
