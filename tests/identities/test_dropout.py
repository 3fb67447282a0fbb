"""Dropout on messages: the same masks under every rule, credit through what was heard, nothing dropped at rest."""

import pytest
import torch

import learning_rules
from pcrnn import Chunk, PredictiveLayer
from pcrnn.analysis.evaluate import evaluating

TOLERANCE = dict(rtol=1e-10, atol=1e-12)


def learned(rule, stack, stream, steps=7):
    """Gradients, loss and last messages heard of two chunks, with masks drawn from the same seed."""
    torch.manual_seed(5)
    stack.zero_grad(set_to_none=True)
    state, carry = stack.initial_state(len(stream)), rule.init(stack, len(stream))
    for start in (0, steps):
        chunk = Chunk.of_stream(stream[:, start : start + steps + 1])
        result, state, carry = rule.accumulate(stack, chunk, state, carry)
    return [*(p.grad for p in stack.layers.parameters()), result.loss, *(layer.messages for layer in state.layers)]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("num_taps", [1, 2, 3])
def test_all_hops_equal_bptt_through_the_same_masks(make_stack, stream, depth, num_taps):
    stack = make_stack(hidden=(4, 3, 5)[:depth], num_taps=num_taps, dropout=0.4)
    local = learned(learning_rules.make("local", hops=depth - 1, trace="chunk"), stack, stream)
    for mine, theirs in zip(local, learned(learning_rules.make("bptt"), stack, stream), strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


def test_one_call_a_layer_hears_what_the_general_path_hears(make_stack, stream):
    stack = make_stack(hidden=(4,), dropout=0.4)  # with one layer `layer` and `top` are the same rule
    swept = learned(learning_rules.make("local", credit="layer"), stack, stream)
    for mine, theirs in zip(swept, learned(learning_rules.make("local", credit="top"), stack, stream), strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


def test_what_is_heard_has_the_messages_mean_and_the_share_left_out_is_the_one_asked_for():
    layer, message = PredictiveLayer(50, 4, dropout=0.3), torch.ones(20, 40, 50)
    heard, dropout_mask = layer.apply_dropout(message)
    assert dropout_mask is not None and torch.equal(heard, dropout_mask)
    assert heard.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (heard == 0).double().mean() == pytest.approx(0.3, abs=0.01)
    assert heard.mean() == pytest.approx(1, abs=0.02)


def test_nothing_is_dropped_at_rest_and_the_mode_comes_back(make_stack, stream):
    stack, plain = make_stack(dropout=0.4), make_stack()
    with evaluating(stack):
        assert not any(module.training for module in stack.modules())
        assert torch.equal(stack(stream)[0], plain(stream)[0])
    assert all(module.training for module in stack.modules())
    assert not torch.equal(stack(stream)[0], plain(stream)[0])


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_share_outside_its_range_is_refused(dropout):
    with pytest.raises(ValueError, match=f"dropout must be at least 0 and below 1, got {dropout}"):
        PredictiveLayer(2, 3, dropout=dropout)
