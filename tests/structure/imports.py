"""Imports as arrows between modules, read from the sources without running them, and the rules that arrows must obey.

An arrow goes from the module that imports to the module imported, wherever the statement stands: at the top of the
file, in a function, or under TYPE_CHECKING. A name that is resolved while the program runs (`pcrnn.tables`,
`import_module`) is no arrow: that is how a lower room reaches a part of a higher one without knowing it.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("pcrnn", "learning_rules", "comparisons")

ROOMS = {
    "comparisons": ("comparisons",),
    "cli": ("pcrnn.cli", "pcrnn.__main__"),
    "front door": (),  # pcrnn/__init__.py itself: it names what users import, and nothing below may go through it
    "streaming": ("pcrnn.streaming",),
    "training": ("pcrnn.training",),
    "analysis": ("pcrnn.analysis",),
    "plots": ("pcrnn.plots",),
    "runs": ("pcrnn.runs",),
    "learning_rules": ("learning_rules",),
    "data": ("pcrnn.data",),
    "nn": ("pcrnn.nn",),
    "ops": ("pcrnn.ops",),
    "ground": (
        "pcrnn.errors",
        "pcrnn.tables",
        "pcrnn.validation",
        "pcrnn.config",
        "pcrnn.extensions",
        "pcrnn.memory",
        "pcrnn.trees",
        "pcrnn.version",
        "pcrnn.windows",
        "pcrnn.writing",
    ),
}
"""Rooms from top to bottom, and the packages and modules in each. Arrows point down this list, or stay in a room."""

_ORDER = list(ROOMS)

NEVER = {room: set(_ORDER[:number]) | {"cli"} - {room} for number, room in enumerate(_ORDER)}
"""For each room, what it never imports: the rooms above, and the command line wherever it stands."""
NEVER["learning_rules"] |= {"data", "pcrnn.config"}
NEVER["nn"] |= {"pcrnn.config"}
NEVER["ops"] |= {"pcrnn.config"}


class Arrow(NamedTuple):
    """`file:line -> target`: one import statement of module `source`."""

    source: str
    target: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} -> {self.target}"


def room_of(module: str) -> str:
    """The room a module stands in; ValueError where it stands in none."""
    if module == "pcrnn":
        return "front door"
    for room, packages in ROOMS.items():
        if any(_is_within(module, package) for package in packages):
            return room
    raise ValueError(f"{module}: expected a module in one of the rooms {', '.join(ROOMS)}; move it into one")


def arrows(root: Path) -> list[Arrow]:
    """Every import of one module of `PACKAGES` by another, of the sources under `root`."""
    modules = dict(_modules(root))
    return [arrow for name, path in modules.items() for arrow in _arrows_of(name, path, root, modules.keys())]


def forbidden(found: Iterable[Arrow]) -> list[str]:
    """A line for each arrow that the list of rooms forbids."""
    lines = []
    for arrow in found:
        source, target = room_of(arrow.source), room_of(arrow.target)
        if target in NEVER[source] or any(_is_within(arrow.target, never) for never in NEVER[source]):
            lines.append(f"{arrow}: {source} never imports {target if target in NEVER[source] else arrow.target}")
    return lines


def circles(found: Iterable[Arrow]) -> list[str]:
    """The arrows of each group of modules that import each other, directly or by way of others."""
    by_source: dict[str, list[Arrow]] = {}
    for arrow in found:
        by_source.setdefault(arrow.source, []).append(arrow)
    reached = {module: _reachable(module, by_source) for module in by_source}
    groups = {
        frozenset(other for other in reached[module] if module in reached.get(other, ()))
        for module in by_source
        if module in reached[module]
    }
    return [
        "\n".join(str(arrow) for module in sorted(group) for arrow in by_source[module] if arrow.target in group)
        for group in sorted(groups, key=min)
    ]


def _reachable(module: str, by_source: dict[str, list[Arrow]]) -> set[str]:
    """Every module that arrows lead to from this one; itself too, if it stands in a circle."""
    found: set[str] = set()
    pending = [module]
    while pending:
        new = {arrow.target for arrow in by_source.get(pending.pop(), ())} - found
        found |= new
        pending += new
    return found


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _arrows_of(module: str, path: Path, root: Path, modules: Iterable[str]) -> Iterator[Arrow]:
    file = path.relative_to(root).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        for target in sorted(_imported(node, module, path, modules)):
            yield Arrow(module, target, file, node.lineno)  # type: ignore[attr-defined]


def _imported(node: ast.AST, module: str, path: Path, modules: Iterable[str]) -> set[str]:
    """The modules that a statement names: of `from package import name`, the submodule if there is one of that name."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES}
    if isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, path)
        if base.partition(".")[0] in PACKAGES:
            inside = (f"{base}.{alias.name}" for alias in node.names)
            return {name if name in modules else base for name in inside}
    return set()


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The package that `from ... import` names, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
