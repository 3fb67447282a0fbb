"""Errors that a person can act on: each states what was expected, what was got, and the fix.

The command line turns `exit_code` into the exit status and prints the message without a traceback.
"""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one most like it, if any is; or nothing.

    >>> nearest("lstn", ["gated", "lstm"])
    "; did you mean 'lstm'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class PcrnnError(Exception):
    """Base of every error that pcrnn raises on purpose."""

    exit_code = 1


class UsageError(PcrnnError, ValueError):
    """A flag, option or argument that cannot be used as given."""

    exit_code = 2


class InputError(ValueError, RuntimeError):
    """A tensor of a wrong shape, dtype or device: of both types, as torch.nn.RNN raises now the one, now the other."""


class DataError(PcrnnError, ValueError):
    """A file or array that cannot be learned from."""

    exit_code = 3


class CheckpointError(PcrnnError, ValueError):
    """A run folder or checkpoint that cannot be loaded or written."""

    exit_code = 4


class DivergedError(PcrnnError, ValueError):
    """Training produced a number that is not finite; nothing was updated with it."""

    exit_code = 5
    score: Any = None  # of a stream: the scores of what was learned before it, a `pcrnn.streaming.score.Score`


class ParallelError(PcrnnError):
    """Ranks of one run that lost each other, or whose copies of the weights are no longer the same."""
