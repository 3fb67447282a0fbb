"""Stub."""

from tests.reliability.mutants import Mutant

KEPT: list[Mutant] = []
SURVIVORS: dict[Mutant, str] = {}
