"""Shows the doctests of docstrings as code: Markdown would take `>>>` for a quotation of a quotation of a quotation."""

import re
from typing import Any

import griffe

PARAGRAPH = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences every paragraph of a docstring that begins with a prompt."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = PARAGRAPH.sub(r"\g<indent>```pycon\n\g<0>\n\g<indent>```", obj.docstring.value)
