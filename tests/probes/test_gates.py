"""The gates between stacked LSTMs, as a probe sees them: of known weights their shares are known."""

import pytest
import torch

from pcrnn import Categorical, PredictiveStack
from pcrnn.analysis.probes.gates import gates


def test_the_share_that_passes_two_known_gates_is_their_product():
    stack = PredictiveStack(Categorical(4), (6, 6, 6), cell="lstm")
    output, entry = torch.tensor(0.5), torch.tensor(0.25)
    with torch.no_grad():
        for layer in stack.layers:
            layer.weight.zero_(), layer.cell.recurrent.zero_()
            layer.bias[:6], layer.bias[18:] = entry.logit(), output.logit()
    found = gates(stack, torch.zeros(2, 5, dtype=torch.long))
    assert [row["border"] for row in found.table()] == ["1-2", "2-3"]
    for row in found.table():
        assert (row["o"], row["i"], row["o i"]) == pytest.approx((0.5, 0.25, 0.125))
        assert row["o + i < 1"] == row["o i < 1/4"] == 1
    assert "layer 1 to 2: 12% of a signal passes both gates; both attenuate it 100% of the time" in found.summary()


def test_layers_of_unequal_width_are_compared_by_their_means():
    stack = PredictiveStack(Categorical(4), (6, 3), cell="lstm")
    assert gates(stack, torch.zeros(2, 5, dtype=torch.long)).output_gate[0].shape == (2, 5, 1)


def test_cells_without_two_such_gates_are_refused():
    with pytest.raises(ValueError, match=r"gates: expected at least two layers of cell lstm, got GatedCell, GatedCell"):
        gates(PredictiveStack(Categorical(4), (3, 3)), torch.zeros(1, 2, dtype=torch.long))
