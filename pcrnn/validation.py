"""Types, names and ranges of settings and flags: declared beside a field, checked in one place.

    chunk: Annotated[int, Range(at_least=1)] = 128
    cell: Annotated[str, OneOf(CELLS)] = "gated"

`check` is called for every command's flags, for `TrainConfig` and by the options of a learning rule. Each message is
"name: expected ..., got ...".
"""

import ast
import dataclasses
import inspect
import math
import sys
import textwrap
import typing
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union

from pcrnn.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Where a number, or every number of a tuple, may lie: never at infinity or NaN, nor by default beyond 64 bits.

    Args:
        words: what is expected, where the limits alone do not say it well.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float = sys.maxsize
    below: float = math.inf
    words: str = ""

    def check(self, name: str, value: Any) -> None:
        """UsageError for a number outside, or for no number at all."""
        for number in (value or (math.nan,)) if isinstance(value, tuple) else (value,):
            if not self._holds(number):
                raise UsageError(f"{name}: expected {self._expected(number)}, got {as_flag(value)}")

    def _holds(self, number: float) -> bool:
        low = (self.at_least is None or number >= self.at_least) and (self.above is None or number > self.above)
        return low and number <= self.at_most and number < self.below

    def _expected(self, number: float) -> str:
        limits = [
            None if self.at_least is None else f"at least {self.at_least}",
            None if self.above is None else f"above {self.above}",
            None if self.at_most == sys.maxsize and not number > sys.maxsize else f"at most {self.at_most}",
            None if self.below == math.inf else f"below {self.below}",
        ]
        return self.words or " and ".join(limit for limit in limits if limit)


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: a table has no hash
class OneOf:
    """A name of a table, which others may add to."""

    table: Collection[str]

    def check(self, name: str, value: Any) -> None:
        """The table's own error for a name that it does not have."""
        if value is not None and value not in self.table:
            known = ", ".join(self.table)
            raise UsageError(f"{name}: expected one of {known}, got {value!r}{nearest(str(value), self.table)}")


AT_LEAST_0 = Range(at_least=0)
AT_LEAST_1 = Range(at_least=1)
SIZES = Range(at_least=1, words="one or more sizes of at least 1")
SEED = Range(at_least=0)
SHARE = Range(above=0, below=1)
POSITIVE = Range(above=0, at_most=math.inf, words="a finite number above 0")
TEMPERATURE = Range(at_least=0, at_most=1e6, words="a number from 0 to 1,000,000")


def check(settings: Any) -> None:
    """Check every field of a dataclass and of those in it; a list becomes a tuple and an int a float where asked for.

    Raises UsageError that names the field.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check(value)
        else:
            object.__setattr__(settings, field.name, checked(field.name, hints[field.name], value))


def checked(name: str, hint: Any, value: Any) -> Any:
    """`value` as the type `hint` asks for; UsageError where it is of another type or out of its range."""
    if typing.get_origin(hint) is Annotated:
        inner, *limits = typing.get_args(hint)
        value = checked(name, inner, value)
        for limit in limits:
            if isinstance(limit, Range | OneOf) and value is not None:
                limit.check(name, value)
        return value
    return _typed(name, hint, value)


def _typed(name: str, hint: Any, value: Any) -> Any:
    """A list becomes a tuple and a whole number a float, nothing else changes."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        expected = " or ".join(map(str, arguments))
        raise UsageError(f"{name}: expected {expected}, got {value!r}{nearest(str(value), map(str, arguments))}")
    if hint is Any:
        return value
    if origin in (UnionType, Union):
        options = [argument for argument in arguments if argument is not NoneType]
        if value is None and len(options) < len(arguments):
            return None
        return checked(name, options[0], value) if len(options) == 1 else value
    if origin is tuple:
        return _typed_tuple(name, arguments, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= sys.maxsize else math.inf
    kind = origin or hint
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise UsageError(f"{name}: expected {_TYPES.get(kind, f'a {kind.__name__}')}, got {value!r}")
    return value


_TYPES: dict[type, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path",
}  # fmt: skip


def _typed_tuple(name: str, arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    any_length = Ellipsis in arguments
    if not isinstance(value, list | tuple) or not (any_length or len(value) == len(arguments)):
        expected = "a list of values" if any_length else f"a list of {len(arguments)} values"
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    kinds = [arguments[0]] * len(value) if any_length else arguments
    return tuple(checked(name, kind, item) for kind, item in zip(kinds, value, strict=True))


def check_widths(skip: str, hidden_sizes: Sequence[int]) -> None:
    """UsageError for residual layers of unequal width: asked of settings, and of a stack that is built without them."""
    if skip == "residual" and len(set(hidden_sizes)) > 1:
        raise UsageError(
            "hidden: expected layers of one size with skip residual, whose state errors add, got "
            f"{as_flag(tuple(hidden_sizes))}; make them equal, or take skip dense"
        )


def as_flag(value: Any) -> str:
    """A value as it is written on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def field_types(kind: type) -> dict[str, Any]:
    """The fields that a dataclass is built from, with their types and what is declared beside them.

    Raises UsageError for a class that is no dataclass.
    """
    if not dataclasses.is_dataclass(kind):
        raise UsageError(f"{kind.__name__}: expected a dataclass, got another class; put @dataclass above it")
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def field_help(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass and of its bases, by the field's name."""
    by_name: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if "__annotations__" in vars(base):
            by_name |= _strings_below_fields(base)
    return by_name


def _strings_below_fields(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):  # a class without a file, as in `python -c`
        return {}
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
