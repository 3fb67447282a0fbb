"""What may be claimed of learners, by where the searches for their learning rates ended.

A learner's row has `lr`, its best rate, and `search`: its loss, or None where it diverged, at every rate tried. A best
rate at the edge of those tried says only that the learner is no worse than that; a gap to it, or a percentage, would be
one of the search. So nothing is claimed of it, nor of another against it.
"""

from collections.abc import Mapping, Sequence

from .record import Row
from .search import at_edge

NO_CLAIM = "No claim"  # begins a sentence that says why there is none


def edge(row: Row) -> str:
    """What stands against any claim of a learner, in a word or two for tables; "" where nothing does."""
    search = row.get("search")
    if not search:
        return "no search on record"
    if len(search) == 1:
        return "one rate tried"
    return "edge" if at_edge({float(rate): loss for rate, loss in search.items()}) else ""


def no_claim(learners: Mapping[str, Row]) -> str:
    """Why nothing may be claimed of these learners, rows by name, against each other; "" where something may."""
    words = {
        "edge": "the search ended at its edge for {}",
        "one rate tried": "one rate alone was tried for {}",
        "no search on record": "there is no search on record for {}",
    }
    doubtful: dict[str, list[str]] = {}
    for name, row in learners.items():
        at_rate = f" (rate {row['lr']:g})" if "lr" in row else ""
        doubtful.setdefault(edge(row), []).append(f"{name}{at_rate}")
    return "; ".join(words[mark].format(", ".join(names)) for mark, names in doubtful.items() if mark)


def shown_rate(row: Row) -> str:
    """A learner's rate as tables show it, marked where nothing may be claimed of it."""
    return marked(f"{row['lr']:g}" if "lr" in row else "", row).strip()


def marked(value: str, row: Row) -> str:
    """A learner's score as tables show it, marked where nothing may be claimed of it."""
    return f"{value} ({mark})" if (mark := edge(row)) else value


EDGE_NOTE = (
    "A mark (edge) says that a learner's search for its rate ended at an edge: it may do better, so nothing is claimed "
    "of it, nor of another against it."
)


def edge_note(rows: Sequence[Row]) -> list[str]:
    """The paragraph that explains the mark, where some row has it."""
    return [EDGE_NOTE] if any(edge(row) for row in rows) else []
