"""The documentation is consistent: its Python runs, and every page and example is in the navigation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
BLOCKS = {name: code for name, text in PAGES.items() if (code := re.findall(r"```python\n(.*?)```", text, re.DOTALL))}


# What extending.md registers would stay for the tests after it: test_extending.py runs that page and undoes it.
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "extending.md"])
def test_python_of_a_page_runs_from_top_to_bottom(name):
    exec(compile("\n".join(BLOCKS[name]), f"docs/{name}", "exec"), {})


def test_rules_and_layers_have_python_snippets():
    assert {"rules.md", "layers.md"} <= BLOCKS.keys()


def test_every_page_is_in_the_navigation_and_every_example_on_its_page():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {name}\n" in menu for name in PAGES)
    assert all(f"::: examples.{path.stem}\n" in PAGES["examples.md"] for path in (ROOT / "examples").glob("*.py"))
