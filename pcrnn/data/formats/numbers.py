"""Numbers as people write them in a table: with a decimal point or a comma, with or without groups of three digits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_SPACES = " \u00a0\u202f"  # a plain one, and those that do not break a line
_GROUPING = {"": "", " ": f"[{_SPACES}]"}


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a table are written.

    Args:
        decimal: what stands before the fraction, "." or ",".
        thousands: what may stand between groups of three digits, "" where nothing does; " " is any space.

    Example:
        >>> NumberFormat(",", ".").read("-1.234,5")
        -1234.5
        >>> NumberFormat(",").read("1.234") is None  # neither 1.234 nor 1234 was said
        True
    """

    decimal: str = "."
    thousands: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is what float() reads."""
        return self.decimal == "." and not self.thousands

    def read(self, written: str) -> float | None:
        """The number; None where a cell is none in this format. It may be infinite or NaN, written as float() has it.

        Digits beyond ASCII or grouped by "_" are refused, as np.loadtxt refuses them.
        """
        if not self.plain and any(map(str.isdigit, written)):
            match = self._pattern.fullmatch(written.strip())
            if match is None:
                return None
            whole, fraction, exponent = (match[part] or "" for part in ("whole", "fraction", "exponent"))
            digits = re.sub(self._group, "", whole) if self.thousands else whole
            written = f"{match['sign']}{digits or '0'}.{fraction}{exponent}"
        if "_" in written or not written.isascii():
            return None
        try:
            return float(written)
        except ValueError:
            return None

    @property
    def _group(self) -> str:
        return _GROUPING.get(self.thousands, re.escape(self.thousands))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        grouped = rf"[0-9]{{1,3}}(?:{self._group}[0-9]{{3}})+|" if self.thousands else ""
        whole = rf"(?P<whole>{grouped}[0-9]*)"
        fraction = rf"(?:{re.escape(self.decimal)}(?P<fraction>[0-9]*))?"
        return re.compile(rf"(?P<sign>[+-]?)(?=[^eE]*[0-9]){whole}{fraction}(?P<exponent>[eE][+-]?[0-9]+)?")


AS_PYTHON = NumberFormat()
"""Numbers as float() reads them."""


def readings(written: str, numbers: NumberFormat) -> list[tuple[str, float]]:
    """Options under which a cell that is no number in this format is one, and that number.

    >>> readings("1,234", AS_PYTHON)
    [('?thousands=,', 1234.0), ('?decimal=,', 1.234)]
    """
    found: dict[float, str] = {}
    for decimal in (numbers.decimal, "," if numbers.decimal == "." else "."):
        for thousands in ("", ".", ",", "'", " "):
            number = None if thousands == decimal else NumberFormat(decimal, thousands).read(written)
            if number is not None:
                options = [f"decimal={decimal}"] if decimal != numbers.decimal else []
                options += [f"thousands={thousands.replace(' ', 'space')}"] if thousands else []
                if options:
                    found.setdefault(number, "?" + "&".join(options))
    return [(options, number) for number, options in found.items()]
