"""The command `pcrnn compare`: the suites of comparisons/, which stand above the program and read their own flags."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Measure local learning against BPTT: `pcrnn compare --help` lists the suites."""
