"""docs/extending.md: its blocks are a module that works through every command; its likelihood is right everywhere."""

import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
import torch

import learning_rules
import pcrnn
from pcrnn import Chunk, PredictiveStack
from pcrnn.tables import CELLS, FAMILIES, PROBES, READERS, RULES
from tests.conftest import TINY

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
TABLES = (CELLS, FAMILIES, PROBES, READERS, RULES)


@pytest.fixture
def mine(tmp_path):
    """The page's module; what it registers is gone after the test."""
    before = [dict(table._parts) for table in TABLES]
    path = tmp_path / f"mine_{tmp_path.parent.name}_{tmp_path.name}.py".replace("-", "_")  # a module is imported once
    path.write_text("\n\n".join(BLOCKS), encoding="utf-8")
    yield path
    for table, parts in zip(TABLES, before, strict=True):
        table._parts = parts


@pytest.fixture
def numbers(tmp_path) -> Path:
    path = tmp_path / "waves.numbers"
    path.write_text("\n".join(f"{math.sin(step / 4):.6f}" for step in range(400)), encoding="utf-8")
    return path


def test_every_part_is_of_ten_to_twenty_lines():
    assert len(BLOCKS) == len(TABLES)
    for block in BLOCKS:
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from"))]
        assert 9 <= len(lines) <= 20


@pytest.mark.parametrize("flags", [("--cell", "ema"), ("--rule", "noisy", "--noise", 0.01), ("--credit", "layer")])
def test_the_parts_work_through_every_command(program, mine, numbers, tmp_path, flags):
    run, exported = tmp_path / "run", tmp_path / "model"
    trained = program("--import", mine, "train", *TINY, *flags, "--data", numbers, "--out", run)
    assert trained.code == 0, trained
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    for command in (
        ("evaluate", run),
        ("plot", "surprise", run),
        ("probe", "sizes", run),
        ("train", "--resume", run, "--steps", 6, "--no-plots"),
        ("export", run, exported),
    ):
        called = program("--import", mine, *command)
        assert called.code == 0, called
    stack = pcrnn.load(exported)
    assert type(stack.observation).__name__ == "UnitGaussian"


@pytest.mark.parametrize(
    "options", [{"credit": "layer"}, {"credit": "top"}, {"credit": "neighbour"}, {"credit": "cascade"}, {"hops": 1}]
)
def test_the_likelihood_is_right_under_every_credit(mine, float64, options):
    """Two layers, one chunk: the readouts learn from their own error, and all hops are BPTT."""
    spec = importlib.util.spec_from_file_location("mine", mine)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    stack = PredictiveStack(module.UnitGaussian(2), (5, 4), normalize_errors=False)
    chunk = Chunk.of_stream(torch.randn(3, 9, 2))
    rule = learning_rules.make("local", **options)
    result, _, _ = rule.accumulate(stack, chunk, None, rule.init(stack, 3))
    local = {name: parameter.grad.clone() for name, parameter in stack.named_parameters()}
    activity, _ = stack.observe(chunk.observations)
    by_hand = (chunk.targets - activity.expectations[-1]).square().sum(-1) / 2
    torch.testing.assert_close(result.surprise[-1], by_hand.detach())
    stack.zero_grad()
    if options in ({"hops": 1}, {"credit": "neighbour"}, {"credit": "cascade"}):
        bptt = learning_rules.make("bptt")
        bptt.accumulate(stack, chunk, None, ())
        wanted = {name: parameter.grad for name, parameter in stack.named_parameters() if "sensory" not in name}
        for name, gradient in wanted.items():
            torch.testing.assert_close(local[name], gradient, rtol=1e-9, atol=1e-12)
    for index in range(2):
        level = index + 1 if options.get("credit") == "layer" else 2
        error = (chunk.targets - activity.expectations[level]).detach()
        gradient = -torch.einsum("btd,btn->dn", error, activity.layers[index].output.detach()) / 24
        if (level == 2 and (index == 1 or options == {"credit": "top"})) or options.get("credit") == "layer":
            torch.testing.assert_close(local[f"layers.{index}.readout"], gradient, rtol=1e-9, atol=1e-12)
