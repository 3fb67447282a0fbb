"""`pcrnn --version`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pcrnn


def test_the_version_is_printed_without_waiting_for_torch():
    code = "import sys; from pcrnn.cli.main import main; sys.exit(main(['--version']) or 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"pcrnn {pcrnn.__version__}\n", "")


def test_it_is_that_of_the_package():
    """Two places name it: the module, which is imported without being installed, and what builds the wheel."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == pcrnn.__version__


def test_help_names_the_flag(program):
    assert "--version" in program("--help").out
