"""What is installed: every package of the repository, the comparisons under a name of their own."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_list_of_packages_is_that_of_the_folders():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = [
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("pcrnn", "learning_rules", "comparisons")
        for file in (ROOT / top).rglob("__init__.py")
    ]
    installed = {f"pcrnn.{name}" if name.startswith("comparisons") else name for name in folders}
    assert set(settings["packages"]) == installed
