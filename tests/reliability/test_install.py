"""Row 20: a wheel in an empty environment imports, trains and draws; importing it is cheap."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.row(20)
ROOT = Path(__file__).parents[2]

IMPORTS = """
import sys, time
import torch
known, start = set(sys.modules), time.process_time()
import pcrnn
print(time.process_time() - start, *sorted(set(sys.modules) - known))
"""


def test_importing_it_adds_little_to_importing_torch():
    """In seconds of this process's CPU, the best of three, so that a busy machine does not decide."""
    seconds, modules = [], set()
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
        taken, *names = ended.stdout.split()
        seconds.append(float(taken))
        modules = {name.partition(".")[0] for name in names}
        if seconds[-1] <= 0.3:
            break
    assert min(seconds) <= 0.3
    assert "pcrnn" in modules
    assert not modules & {"seaborn", "pandas", "triton", "matplotlib", "tyro", "rich", "scipy"}


@pytest.mark.full
def test_a_wheel_works_in_an_empty_environment_without_a_compiler(tmp_path):
    """The registry is the only way out; torch is the CPU build where the machine has one."""
    source, wheels, environment = tmp_path / "source", tmp_path / "wheels", tmp_path / "environment"
    archive = tmp_path / "source.tar"
    called(["git", "archive", "-o", str(archive), "HEAD"], cwd=ROOT)
    with tarfile.open(archive) as files:
        files.extractall(source, filter="data")
    called([sys.executable, "-m", "venv", str(environment)])
    python = environment / "bin" / "python"
    called([str(python), "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels), str(source)])
    (wheel,) = wheels.glob("pcrnn-*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        parts = {name.partition("/")[0] for name in names}
    assert {"pcrnn", "learning_rules"} <= parts and not {"tests", "comparisons"} & parts
    assert "pcrnn/comparisons/suite.py" in names
    called([str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)])
    program, clean = environment / "bin" / "pcrnn", {"PATH": str(environment / "bin"), "HOME": str(tmp_path)}
    out = tmp_path / "run"
    called([str(program), "train", "--steps", "2", "--hidden", "8", "--out", str(out)], cwd=tmp_path, env=clean)
    assert len(list((out / "plots").glob("*.png"))) == 4
    called([str(program), "verify", str(out)], cwd=tmp_path, env=clean)
    said = called([str(python), "-c", "import pcrnn; print(pcrnn.__file__)"], cwd=tmp_path, env=clean)
    assert str(environment) in said


def called(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(command, cwd=cwd, env=os.environ if env is None else env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
