"""Imports point down the list of rooms, no modules import each other, and the names are there without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.imports import NEVER, PACKAGES, Arrow, arrows, circles, forbidden, room_of

ROOT = Path(__file__).parents[2]
ARROWS = arrows(ROOT)


def test_imports_point_down_the_list_of_rooms():
    assert (found := forbidden(ARROWS)) == [], "\n" + "\n".join(found)


def test_no_modules_import_each_other():
    assert (found := circles(ARROWS)) == [], "\n" + "\n\n".join(found)


def test_every_module_stands_in_a_room():
    """One that imports nothing and is imported by nothing, too."""
    files = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert {"training", "runs", "data", "nn", "ops", "ground"} <= {room_of(module) for module in modules}


def test_the_list_says_what_the_rooms_promise():
    assert all("cli" in never for room, never in NEVER.items() if room != "cli")
    for room in ("nn", "ops"):
        assert {"learning_rules", "data", "pcrnn.config"} <= NEVER[room]
    assert {"data", "runs", "cli", "pcrnn.config"} <= NEVER["learning_rules"]
    assert "learning_rules" not in NEVER["training"] and "nn" not in NEVER["learning_rules"]


@pytest.mark.parametrize("module", ["pcrnn", "pcrnn.cli.main"])
def test_importing_it_does_not_import_torch(module):
    code = f"import sys, {module}; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


# The checks notice a wrong import that is planted

HEALTHY = {
    "pcrnn/__init__.py": "",
    "pcrnn/errors.py": "",
    "pcrnn/config.py": "from pcrnn.errors import E",
    "pcrnn/ops/__init__.py": "import torch\nfrom pcrnn import errors",
    "pcrnn/nn/layer.py": "from pcrnn import ops",
    "pcrnn/data/text.py": "def f():\n    from pcrnn.nn import layer",
    "pcrnn/runs/folder.py": "import pcrnn.config as config",
    "pcrnn/cli/main.py": "from pcrnn import __version__\nfrom pcrnn.runs.folder import F",
    "learning_rules/__init__.py": "from learning_rules.local import Local",
    "learning_rules/local.py": "from pcrnn.nn.layer import L",
    "comparisons/suite.py": "import numpy\nimport learning_rules, pcrnn",
}
TYPED = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


def planted(root: Path, sources: dict[str, str]) -> list[Arrow]:
    """The arrows of a tree of healthy modules with these added or in their places."""
    for path, source in (HEALTHY | sources).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(source + "\n")
    return arrows(root)


def test_a_healthy_tree_has_nothing_to_report(tmp_path):
    found = planted(tmp_path, {})
    assert len(found) == 11
    assert forbidden(found) == circles(found) == []


LOCAL = "learning_rules/local.py"


@pytest.mark.parametrize(
    ("file", "source", "report"),
    [
        ("pcrnn/nn/layer.py", "\nimport pcrnn.data.text", "2 -> pcrnn.data.text: nn never imports data"),
        ("pcrnn/nn/layer.py", "from ..config import C", "1 -> pcrnn.config: nn never imports pcrnn.config"),
        ("pcrnn/ops/a.py", "def f(): import learning_rules", "1 -> learning_rules: ops never imports learning_rules"),
        ("pcrnn/ops/a.py", TYPED + "from pcrnn.nn.layer import L", "3 -> pcrnn.nn.layer: ops never imports nn"),
        (LOCAL, "from pcrnn.data import text", "1 -> pcrnn.data.text: learning_rules never imports data"),
        (LOCAL, "from pcrnn import config", "1 -> pcrnn.config: learning_rules never imports pcrnn.config"),
        (LOCAL, "import pcrnn.runs.folder", "1 -> pcrnn.runs.folder: learning_rules never imports runs"),
        (
            "pcrnn/data/__init__.py",
            "from . import text\nfrom .. import runs",
            "2 -> pcrnn.runs: data never imports runs",
        ),
        ("pcrnn/runs/folder.py", "import pcrnn", "1 -> pcrnn: runs never imports front door"),
        ("comparisons/suite.py", "from pcrnn.cli import main", "1 -> pcrnn.cli.main: comparisons never imports cli"),
    ],
)
def test_a_wrong_import_is_reported_with_its_place(tmp_path, file, source, report):
    assert forbidden(planted(tmp_path, {"pcrnn/runs/__init__.py": "", file: source})) == [f"{file}:{report}"]


def test_a_circle_is_reported_arrow_by_arrow(tmp_path):
    """Through a function of one and a type of the other; a module outside the circle is not named."""
    a, b = TYPED + "from pcrnn.nn.b import B", "from pcrnn.nn.layer import L\ndef f():\n    from .a import A"
    found = circles(planted(tmp_path, {"pcrnn/nn/a.py": a, "pcrnn/nn/b.py": b}))
    assert found == ["pcrnn/nn/a.py:3 -> pcrnn.nn.b\npcrnn/nn/b.py:3 -> pcrnn.nn.a"]


def test_a_module_outside_every_room_is_reported(tmp_path):
    found = planted(tmp_path, {"pcrnn/helpers.py": "from pcrnn import errors"})
    with pytest.raises(ValueError, match=r"pcrnn\.helpers: expected a module in one of the rooms comparisons, cli"):
        forbidden(found)
