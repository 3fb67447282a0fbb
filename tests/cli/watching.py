"""What the tests of `pcrnn watch` share: a small stack, and its tables read again."""

import json

import pytest

SMALL = ("--hidden", 6, 6)
STEPS = 600  # of the stream `sensor`


def table(text):
    """The rows of a table, by column."""
    header, *lines = (line.split("\t") for line in text.splitlines())
    assert all(len(line) == len(header) for line in lines)
    return [dict(zip(header, line, strict=True)) for line in lines]


def strict(line):
    """A JSON object without the numbers that JSON does not have."""
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
