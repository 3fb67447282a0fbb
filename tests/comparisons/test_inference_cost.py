"""Fixed-prediction predictive coding against autograd, its oracle, and the suite that times it at a tiny size."""

import json

import pytest
import torch
from pcrnn.comparisons.cost import inference_cost
from pcrnn.comparisons.cost.fixed_prediction import Weights, at_once, in_turn, learn, loss
from pcrnn.comparisons.record import losses_first
from pcrnn.comparisons.suite import Request
from torch import Tensor

pytestmark = pytest.mark.usefixtures("float64")

SYMBOLS, HIDDEN, BATCH, STEPS = 5, 6, 3, 9


@pytest.fixture
def weights() -> Weights:
    return Weights(*(2 * part for part in Weights.draw(SYMBOLS, HIDDEN)))


@pytest.fixture
def x() -> Tensor:
    return torch.randint(SYMBOLS, (BATCH, STEPS + 1))


def by_autograd(weights: Weights, x: Tensor) -> Weights:
    leaves = Weights(*(part.clone().requires_grad_() for part in weights))
    return Weights(*torch.autograd.grad(loss(leaves, x[:, :-1], x[:, 1:]), leaves))


@pytest.mark.parametrize(("relax", "iterations"), [(in_turn, 300), (at_once, 600)])
def test_at_rest_the_errors_are_the_gradients_of_backpropagation(weights, x, relax, iterations):
    found = learn(weights, x[:, :-1], x[:, 1:], iterations, relax=relax)
    torch.testing.assert_close(found, by_autograd(weights, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("relax", "iterations"), [(in_turn, 1), (at_once, STEPS)])
def test_a_rate_of_one_needs_as_many_iterations_as_there_are_dependent_values(weights, x, relax, iterations):
    found = learn(weights, x[:, :-1], x[:, 1:], iterations, rate=1.0, relax=relax)
    torch.testing.assert_close(found, by_autograd(weights, x), rtol=1e-12, atol=1e-14)


def test_all_at_once_one_iteration_too_few_loses_the_oldest_credit(weights, x):
    found = learn(weights, x[:, :-1], x[:, 1:], STEPS - 1, rate=1.0, relax=at_once)
    assert not torch.allclose(found.recurrent, by_autograd(weights, x).recurrent, rtol=1e-9, atol=1e-15) or (
        not torch.allclose(found.into, by_autograd(weights, x).into, rtol=1e-9, atol=1e-15)
    )


@pytest.mark.parametrize("iterations", [1, 4])
def test_unfinished_inference_damps_credit_by_one_factor_a_step(weights, x, iterations):
    """Relaxing a value n times reaches 1 - (1 - rate)^n of the way, so credit k steps back has that to the power k."""
    rate = 0.3
    reached = 1 - (1 - rate) ** iterations
    leaves = Weights(*(part.clone().requires_grad_() for part in weights))

    class Damped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, *grad_outputs):
            return reached * grad_outputs[0]

    hidden, total = torch.zeros(BATCH, HIDDEN), torch.zeros(())
    for t in range(STEPS):
        hidden = Damped.apply(torch.tanh(leaves.into.T[x[:, t]] + hidden @ leaves.recurrent.T))
        total = total + torch.nn.functional.cross_entropy(hidden @ leaves.out.T, x[:, t + 1]) / STEPS
    wanted = Weights(*torch.autograd.grad(total, leaves))
    found = learn(weights, x[:, :-1], x[:, 1:], iterations, rate=rate)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


def test_the_suite_writes_record_table_and_picture(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    tiny = inference_cost.InferenceCostSetup(
        symbols=SYMBOLS, hidden=8, batch=2, steps=5, iterations=(1, 200), depths=(1, 2), rounds=3
    )
    monkeypatch.setattr(inference_cost, "QUICK", tiny)
    paths = inference_cost.run(Request(quick=True, seeds=1, out=tmp_path))
    assert {path.name for path in paths} >= {"inference_cost.json", "inference_cost.md", "inference_cost.png"}
    written = json.loads((tmp_path / "inference_cost.json").read_text())
    rows = written["rows"]
    assert written["summary"] == losses_first(inference_cost.summary(rows))
    by_way = {row["way"]: row for row in rows}
    assert by_way["iterations: 200"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert by_way["iterations: 1"]["cosine"] < 1
    assert by_way["iterations: 1 at rate 1"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert by_way["layer, 1 layer"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert by_way["neighbour, 2 layers"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert by_way["layer, 2 layers"]["cosine"] < 0.9999
    assert all(row["times_bptt"] > 0 for row in rows)


def row(method: str, way: str, cosine: float, times: float) -> dict:
    return {"method": method, "way": way, "cosine": cosine, "times_bptt": times, "cpu_ms": 1.0}


def test_the_summary_takes_the_cheapest_way_to_bptts_direction_of_both_methods():
    rows = [
        row(inference_cost.ITERATED, "iterations: 5", 0.8, 2.0),
        row(inference_cost.ITERATED, "iterations: 20", 0.99, 8.0),
        row(inference_cost.ITERATED, "iterations: 100", 1.0, 40.0),
        row(inference_cost.ITERATED, "iterations: 1 at rate 1", 1.0, 1.5),
        row(inference_cost.LOCAL, "layer, 1 layer", 1.0, 0.9),
        row(inference_cost.LOCAL, "top, 1 layer", 1.0, 0.8),
        row(inference_cost.LOCAL, "top, 3 layers", 0.4, 0.7),
    ]
    first, second, third = inference_cost.summary(rows)
    assert first.startswith("Wins: ")
    assert "8.0 times BPTT's CPU time (iterations: 20, cosine 0.990), local credit 0.80 to 0.90 times (1 layer" in first
    assert second.startswith("Loses: in 3 layers ") and "top 0.40, for 0.70 times its" in second
    assert "cosine 1.000, 1.50 times" in third
    dear = [one | {"times_bptt": 9.0} if one["method"] == inference_cost.LOCAL else one for one in rows]
    assert inference_cost.summary(dear)[0].startswith("Loses: ")
