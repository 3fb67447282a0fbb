"""What a step costs is counted right: known products, the price of a carried trace, what comes down a border."""

import json

import pytest
import torch

from comparisons.cost import cost
from comparisons.suite import Request
from pcrnn import Categorical, PredictiveStack
from pcrnn.nn.connections import width
from tests.identities.conftest import whole_stack_at_once

SETTING = cost.CostSetup(symbols=5, batch=2, chunk=6)
HIDDEN = (4, 3, 6)
DELAY = 2


def messages():
    """The width of every layer's message, bottom first."""
    return [width(heard) for heard in PredictiveStack(Categorical(SETTING.symbols), HIDDEN).connections]


def test_products_are_counted_once_whatever_they_are_called():
    a, b, c = torch.randn(3, 4), torch.randn(4, 5), torch.randn(3, 5)
    with torch.no_grad(), cost.Products() as products:
        for product in (lambda: a @ b, lambda: torch.nn.functional.linear(a, b.T), lambda: torch.addmm(c, a, b)):
            before = products.total
            product()
            assert products.total - before == 3 * 4 * 5
        c.addmm_(a, b)
        torch.bmm(a.expand(2, 3, 4), b.expand(2, 4, 5))
    assert products.total == (3 + 1 + 2) * 3 * 4 * 5


@pytest.mark.parametrize("credit", ["layer", "top", "neighbour"])
def test_a_carried_trace_costs_one_product_of_every_traced_block(credit):
    exact, chunk = (cost.counted(f"{credit}, {trace}", HIDDEN, SETTING) for trace in ("exact", "chunk"))
    traced = sum(2 * units * DELAY * heard for units, heard in zip(HIDDEN, messages(), strict=True))
    assert exact["multiply_adds"] - chunk["multiply_adds"] == pytest.approx(traced)


def test_learning_layer_by_layer_costs_what_learning_from_the_whole_stack_does():
    layerwise = cost.counted("layer, exact", HIDDEN, SETTING)
    with whole_stack_at_once():
        assert cost.counted("layer, exact", HIDDEN, SETTING) == layerwise


def test_what_comes_down_is_of_the_messages_width_and_nothing_under_layer():
    down = {rule: cost.counted(rule, HIDDEN, SETTING)["down"] for rule in cost.RULES}
    errors = sum(messages()[1:]) / 2
    assert down["layer, exact"] == down["top, exact"] == 0
    assert down["neighbour, exact"] == errors
    assert down["cascade, exact"] == errors + SETTING.symbols / 2, "beside a message, all but the topmost layer hand on"
    assert down["bptt"] == errors + SETTING.symbols


def test_the_suite_writes_every_rule_of_every_stack(tmp_path):
    paths = cost.run(Request(quick=True, out=tmp_path))
    assert [path.name for path in paths] == ["cost.json", "cost.md", "cost.png", "cost.svg"]
    written = json.loads(paths[0].read_text())
    assert [(row["layers"], row["rule"]) for row in written["rows"]] == [
        (n, rule) for n in (2, 3) for rule in cost.RULES
    ]
    assert [row["against_bptt"] for row in written["rows"] if row["rule"] == "bptt"] == [1, 1]
    assert len(written["summary"]) == 2
