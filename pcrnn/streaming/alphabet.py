"""Characters of a text that has no end: as numbers, which they get when they first appear, and as they are shown."""

from __future__ import annotations

from pcrnn.errors import UsageError

_ODD = 0xDC00  # a byte that is no UTF-8 becomes the character of this number and its own
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


class Alphabet:
    """Numbers characters from 0 in the order in which they first appear; the last number is all further ones'.

    Args:
        size: how many numbers there are, at least 2.
        characters: those that have one already, in order.

    >>> alphabet = Alphabet(3)
    >>> [alphabet.number(character) for character in "abcab"]
    [0, 1, 2, 0, 1]
    """

    def __init__(self, size: int, characters: str = "") -> None:
        if size < 2:
            raise UsageError(f"--symbols: expected at least 2, one for a character and one for all further, got {size}")
        self.size = size
        self._numbers = {character: number for number, character in enumerate(characters)}

    @property
    def characters(self) -> str:
        """Those that have a number of their own, in order."""
        return "".join(self._numbers)

    def number(self, character: str) -> int:
        """The number of a character, which it is given now where it has none and there is one left."""
        known = self._numbers.get(character)
        if known is not None:
            return known
        if len(self._numbers) < self.size - 1:
            self._numbers[character] = len(self._numbers)
            return len(self._numbers) - 1
        return self.size - 1


def escaped(character: str) -> str:
    """A character as it is shown in a line: as itself where it can be printed.

    >>> [escaped(character) for character in "é\\n\\x00"]
    ['é', '\\\\n', '\\\\x00']
    """
    if _ODD < ord(character) < _ODD + 0x100:
        return f"\\x{ord(character) - _ODD:02x}"
    if character in _SHORT:
        return _SHORT[character]
    return character if character.isprintable() else character.encode("unicode_escape").decode()
