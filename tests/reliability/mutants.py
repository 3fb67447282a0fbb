"""Source lines with one thing wrong, and the tests that must notice.

    python -m tests.reliability.mutants                 every kept mutant: caught or not
    python -m tests.reliability.mutants --draw 40 --seed 1   as many new ones, drawn from the syntax of the sources

No file is changed: a process is forked for each mutant, an import hook gives it the altered source, and pytest runs
the tests of that source there. A mutant is caught where a test fails, or where the tests need more than `LIMIT`.
(Faults that are no line of a source, such as a wrong fake or a layout taken for granted, are planted in
tests/ops/defects.py.)
"""

import argparse
import ast
import importlib.util
import os
import random
import resource
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LIMIT = 120  # seconds of CPU time for a mutant's tests; a loop without end reaches it on a busy machine too
_RULES = [f"tests/identities/test_{name}.py" for name in ("forward", "local_gradients", "locality")]
_OPS = ["tests/ops/test_ops.py", "tests/ops/test_gradients.py", "tests/identities/test_forward.py"]
_FAMILIES = ["tests/identities/test_observations.py", "tests/identities/test_what_rises.py"]
_MALFORMED = "tests/reliability/test_malformed_data.py"
_HOSTILE = "tests/reliability/test_hostile_files.py"
TESTS = {
    "learning_rules/local.py": _RULES,
    "learning_rules/credit.py": [
        *_RULES,
        *(f"tests/identities/test_{name}.py" for name in ("inference_steps", "missing", "covariates", "what_rises")),
    ],
    "learning_rules/layerwise.py": [*_RULES, "tests/identities/test_covariates.py"],
    "learning_rules/bptt.py": _RULES,
    "learning_rules/options.py": ["tests/identities/test_forward.py"],
    "pcrnn/ops/reference.py": _OPS,
    "pcrnn/ops/layer_update.py": [*_OPS, *_RULES],
    "pcrnn/nn/layer.py": _RULES,
    **{f"pcrnn/nn/observations/{name}.py": _FAMILIES for name in ("bernoulli", "categorical", "poisson", "real")},
    "pcrnn/nn/running_variance.py": [
        "tests/identities/test_what_rises.py",
        "tests/identities/test_running_variance.py",
    ],
    "pcrnn/nn/sensory.py": ["tests/identities/test_what_rises.py"],
    "pcrnn/nn/stack.py": [*_RULES, "tests/identities/test_covariates.py"],
    "pcrnn/runs/checkpoint.py": ["tests/reliability/test_checkpoint.py", _HOSTILE],
    "pcrnn/training/finite_check.py": ["tests/reliability/test_numbers.py"],
    "pcrnn/data/formats/csv_file.py": [
        _MALFORMED,
        *(f"tests/data/test_{name}.py" for name in ("series", "readers", "calendar", "table_layout")),
    ],
    "pcrnn/data/formats/csv_layout.py": [_MALFORMED, "tests/data/test_table_layout.py", "tests/data/test_series.py"],
    "pcrnn/data/formats/numbers.py": ["tests/data/test_table_layout.py", "tests/data/test_written_tables.py"],
    "pcrnn/data/formats/table.py": ["tests/data/test_table_layout.py", "tests/data/test_series.py", _MALFORMED],
    "pcrnn/data/row_order.py": ["tests/data/test_row_order.py"],
    "pcrnn/data/series_columns.py": ["tests/data/test_series_state.py", "tests/data/test_series.py", _MALFORMED],
    "pcrnn/data/series_options.py": ["tests/data/test_series_state.py", "tests/data/test_table_layout.py"],
    "pcrnn/data/suspects.py": ["tests/data/test_table_layout.py", "tests/data/test_times.py"],
    "pcrnn/data/calendar.py": ["tests/data/test_calendar.py"],
    "pcrnn/data/formats/files.py": [_MALFORMED, "tests/data/test_readers.py", _HOSTILE],
    "pcrnn/data/lanes.py": ["tests/data/test_lanes.py"],
    "pcrnn/data/formats/npy_file.py": [_MALFORMED, "tests/data/test_series.py", _HOSTILE],
    "pcrnn/data/series.py": ["tests/data/test_series.py", "tests/data/test_calendar.py", _MALFORMED],
    "pcrnn/data/series_reader.py": ["tests/data/test_series.py", "tests/data/test_calendar.py", _MALFORMED],
    "pcrnn/data/formats/times.py": ["tests/data/test_calendar.py", "tests/data/test_times.py"],
    "pcrnn/data/text.py": ["tests/data/test_text.py", _MALFORMED],
}


class Mutant(NamedTuple):
    """One line of a source, and what stands in its place."""

    path: str
    line: str  # without indent; the first such line is meant
    altered: str

    def apply(self, source: str) -> str:
        """The altered source; ValueError where the line is gone."""
        lines = source.splitlines(keepends=True)
        for number, line in enumerate(lines):
            if line.strip() == self.line:
                lines[number] = line.replace(self.line, self.altered)
                return "".join(lines)
        raise ValueError(f"{self.path}: expected the line {self.line!r}, which is gone; draw another mutant")


class Loader(SourceFileLoader):
    """Loads one module from altered source, past any compiled file of the healthy one."""

    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.mutant.apply(Path(self.path).read_text(encoding="utf-8")), self.path, "exec")


class Finder:
    """Finds the mutated module before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The mutated module, and None for every other."""
        if fullname != self.mutant.path.removesuffix(".py").replace("/", "."):
            return None
        place = str(ROOT / self.mutant.path)
        return importlib.util.spec_from_file_location(fullname, place, loader=Loader(fullname, place, self.mutant))


def is_caught(mutant: Mutant) -> bool:
    """Whether the tests of its source fail on it. Call it where no module of the project is imported yet."""
    mutant.apply((ROOT / mutant.path).read_text(encoding="utf-8"))
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        os._exit(_run_tests(mutant))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def _run_tests(mutant: Mutant) -> int:
    import pytest

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1), os.dup2(quiet, 2)
    os.environ["CI"] = "1"  # hypothesis then draws the same examples each time and has no deadline
    sys.meta_path.insert(0, Finder(mutant))  # type: ignore[arg-type]
    # In this process, which has the hook: `-n0`.
    return pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *TESTS[mutant.path]])


def prepare() -> None:
    """Import, once for all forks, what is large and not ours."""
    import pytest  # noqa: F401
    import torch._dynamo

    torch.set_num_threads(1)


# What a drawn mutant changes.
_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def candidates(path: str) -> Iterator[Mutant]:
    """Every mutant of a source by one swap: an operator, a comparison, a sign, a number, a truth value."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        for old, new in _altered(node):
            if getattr(node, "end_lineno", None) == node.lineno:  # type: ignore[attr-defined]
                line = lines[node.lineno - 1]  # type: ignore[attr-defined]
                text = line.encode()[node.col_offset : node.end_col_offset].decode()  # type: ignore[attr-defined]
                if text.count(old) == 1 and line.count(text) == 1:
                    yield Mutant(path, line.strip(), line.strip().replace(text, text.replace(old, new)))


def _altered(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.Compare):
        operators = node.ops if isinstance(node, ast.Compare) else [node.op]
        for operator in operators:
            if type(operator) in _SWAPS:
                yield f" {_symbol(operator)} ", f" {_symbol(_SWAPS[type(operator)]())} "
    elif isinstance(node, ast.UnaryOp):
        yield ("not ", "") if isinstance(node.op, ast.Not) else ("-", "")
    elif isinstance(node, ast.Constant) and type(node.value) in (int, bool):
        yield repr(node.value), repr(not node.value if isinstance(node.value, bool) else node.value + 1)


def _symbol(operator: ast.AST) -> str:
    a, b = ast.Name("a"), ast.Name("b")
    if isinstance(operator, ast.boolop):
        node: ast.expr = ast.BoolOp(operator, [a, b])
    elif isinstance(operator, ast.cmpop):
        node = ast.Compare(a, [operator], [b])
    else:
        node = ast.BinOp(a, operator, b)  # type: ignore[arg-type]
    return ast.unparse(node)[2:-2]


def draw(count: int, seed: int) -> list[Mutant]:
    """New mutants, the same for the same seed and sources; a source as likely as it is long."""
    return random.Random(seed).sample([mutant for path in TESTS for mutant in candidates(path)], count)


def main() -> int:
    """Run the kept mutants or drawn ones; prints the survivors and the score."""
    from tests.reliability.kept_mutants import KEPT, SURVIVORS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    mutants = draw(asked.draw, asked.seed) if asked.draw else [*KEPT, *SURVIVORS]
    prepare()
    caught = 0
    for mutant in mutants:
        caught += (found := is_caught(mutant))
        print("caught  " if found else "SURVIVED", *mutant, sep=" | ", flush=True)
    print(f"{caught} of {len(mutants)} caught, {100 * caught / len(mutants):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
