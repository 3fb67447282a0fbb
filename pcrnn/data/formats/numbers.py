"""Numbers as people write them in a table: with a point or a decimal comma, with or without grouped thousands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from pcrnn.errors import DataError

_SPACES = " \u00a0\u202f"
THOUSANDS = {",": ",", ".": ".", "'": "'’", "space": _SPACES}
"""What the option `thousands` may be, and the characters that it stands for."""

_HINTS = (
    (re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+,[0-9]*"), "decimal=,&thousands=."),
    (re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?"), "thousands=,"),
    (re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?"), "decimal=,"),
    (re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+"), "thousands=."),
    (re.compile(rf"[+-]?[0-9]{{1,3}}([{_SPACES}][0-9]{{3}})+([.,][0-9]*)?"), "thousands=space"),
    (re.compile(r"[+-]?[0-9]{1,3}(['’][0-9]{3})+([.,][0-9]*)?"), "thousands='"),
)


@dataclass(frozen=True)
class Notation:
    """How numbers are written.

    Args:
        decimal: what stands before the fraction, "." or ",".
        thousands: a key of `THOUSANDS` that may stand between groups of three digits; "" where none does.

    Example:
        >>> Notation(",", ".").number("-1.234,5")
        -1234.5
        >>> Notation(",", ".").number("1.5") is None
        True
    """

    decimal: str = "."
    thousands: str = ""

    @cached_property
    def _grouped(self) -> re.Pattern[str] | None:
        if not self.thousands:
            return None
        mark = f"[{re.escape(THOUSANDS[self.thousands])}]"
        return re.compile(rf"[+-]?[0-9]{{1,3}}({mark}[0-9]{{3}})+({re.escape(self.decimal)}[0-9]*)?")

    def number(self, cell: str) -> float | None:
        """A number as float() reads it, except digits grouped by "_" or outside ASCII, which np.loadtxt refuses too."""
        if self._grouped is not None and self._grouped.fullmatch(cell.strip()):
            for mark in THOUSANDS[self.thousands]:
                cell = cell.replace(mark, "")
        if self.decimal != ".":
            if "." in cell:
                return None
            cell = cell.replace(self.decimal, ".")
        if "_" in cell or not cell.isascii():
            return None
        try:
            return float(cell)
        except ValueError:
            return None

    def hint(self, cell: str) -> str:
        """The end of a message about a cell that is no number: the option that would read it, where one would."""
        for pattern, option in _HINTS:
            if pattern.fullmatch(cell.strip()):
                if self.decimal == "," and "decimal" not in option and "," not in option:
                    option = f"decimal=,&{option}"
                other = ", or ?decimal=, if that is its fraction" if option == "thousands=," and "." not in cell else ""
                return f" (written so? say it with ?{option} after the file's name{other})"
        return ""


POINT = Notation()
"""A decimal point, and no grouping."""


def parse_notation(decimal: str, thousands: str, name: str) -> Notation:
    """The notation that two options say.

    Raises:
        DataError: neither is one of the known marks, or both are the same.
    """
    if decimal not in (".", ","):
        raise DataError(f"{name}: expected decimal=. or decimal=, (what stands before a fraction), got {decimal!r}")
    if thousands and thousands not in THOUSANDS:
        known = " ".join(THOUSANDS)
        raise DataError(f"{name}: expected thousands to be one of {known}, got {thousands!r}; leave it out for none")
    if decimal == thousands:
        raise DataError(
            f"{name}: expected different marks for the fraction and for thousands, got {decimal!r} for both; "
            "say also decimal=, or leave thousands out"
        )
    return Notation(decimal, thousands)
