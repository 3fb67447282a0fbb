"""Row 19: a source with one thing wrong is noticed by its own tests; see `mutants.py` for how, and for new ones."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from tests.reliability.kept_mutants import KEPT, SURVIVORS
from tests.reliability.mutants import ROOT, TESTS, Mutant, candidates

pytestmark = pytest.mark.row(19)


def run(mutants: list[Mutant]) -> list[bool]:
    """Which mutants are caught, found out in a process that has imported nothing of the project."""
    code = (
        "import json, sys; from tests.reliability.mutants import Mutant, is_caught, prepare\n"
        "prepare()\n"
        "for mutant in json.load(sys.stdin): print(is_caught(Mutant(*mutant)), flush=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=json.dumps(mutants), capture_output=True, text=True, check=True
    )
    return [line == "True" for line in ended.stdout.split()]


def test_mutants_are_caught(counts, injected):
    """The first ones by default, spread over the sources; all of them, survivors too, under `-m full`."""
    mutants = [*KEPT, *SURVIVORS][: counts.mutants]
    survived = {mutant for mutant, found in zip(mutants, run(mutants), strict=True) if not found}
    assert survived - SURVIVORS.keys() == set()
    if len(mutants) > len(KEPT):
        assert survived == SURVIVORS.keys(), "a survivor is caught now: move it to KEPT"
    injected(len(mutants))


def test_the_list_is_long_enough_and_every_source_has_its_share():
    assert len(KEPT) + len(SURVIVORS) >= 40
    assert len(SURVIVORS) <= 0.05 * (len(KEPT) + len(SURVIVORS))
    assert Counter(mutant.path for mutant in [*KEPT, *SURVIVORS]).keys() == TESTS.keys()
    assert all(reason for reason in SURVIVORS.values())


@pytest.mark.parametrize("mutant", [*KEPT, *SURVIVORS], ids=lambda mutant: f"{mutant.path}: {mutant.altered[:60]}")
def test_a_mutants_line_is_still_there(mutant):
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    assert mutant.apply(source) != source


@pytest.mark.full
@pytest.mark.parametrize("path", sorted(TESTS))
def test_without_a_mutation_nothing_is_caught(path):
    line = next(candidates(path)).line
    assert run([Mutant(path, line, line)]) == [False]
