"""The files that tools read agree with each other, and what a forge runs is what this repository says it runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_say_their_version(workflow):
    """A tag can be moved to other code; a hash cannot."""
    uses = re.findall(r"uses: *(.*)", workflow.read_text())
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_one_action_has_one_hash():
    pins = {re.sub(r"@.*", "", line): set() for line in _uses()}
    for line in _uses():
        pins[re.sub(r"@.*", "", line)].add(line)
    assert all(len(lines) == 1 for lines in pins.values()), pins


def _uses() -> list[str]:
    return [line for path in WORKFLOWS for line in re.findall(r"uses: *(.*)", path.read_text())]


def test_only_what_publishes_may_ask_for_an_identity():
    permissions = {path.name: path.read_text().count("id-token: write") for path in WORKFLOWS}
    assert permissions == {"ci.yml": 0, "publish.yml": 1}
    assert not any("secrets." in path.read_text() for path in WORKFLOWS)


def test_the_forge_runs_what_everybody_runs():
    assert "run: .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_a_commit_is_checked_by_the_ruff_of_the_tested_set():
    rev = re.search(r"ruff-pre-commit\n\s+rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert rev is not None and rev[1] == CONSTRAINTS["ruff"]


def test_the_folder_of_runs_is_ignored_at_the_root_only():
    """`runs/` without its slash would hide the package pcrnn.runs from git."""
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "/runs/" in ignored and not {"runs", "runs/"} & set(ignored)
