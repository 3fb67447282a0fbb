"""Skip connections: what a layer hears, written out by hand, and that each of them changes what the stack expects."""

import typing

import pytest
import torch

from pcrnn import Categorical, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.nn.connections import Skip, source_levels


def observed(skip, target=None):
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(5), (4, 4, 4), skip=skip, target=target, num_taps=1)
    x = torch.arange(14).remainder(5).view(2, 7)
    activity, _ = stack.observe(x)
    sensory = stack.sensory.message(x, activity.base_error)
    return stack, activity, [sensory, *(layer.message for layer in activity.layers)]


@pytest.mark.parametrize("target", [None, Categorical(3)])
def test_the_top_layer_hears_what_the_table_says(target):
    def errors(sent, level):
        return sent[level] if level else (sent[0],)

    def concatenated(sent, levels):
        return torch.cat([part for level in levels for part in errors(sent, level) if part is not None], -1)

    for skip, levels in {"none": [2], "every-other": [2, 1], "dense": [2, 1, 0]}.items():
        stack, activity, sent = observed(skip, target)
        assert source_levels(stack.connections[2]) == levels
        torch.testing.assert_close(activity.layers[2].saved.window, concatenated(sent, levels), rtol=0, atol=0)
    _, activity, sent = observed("residual", target)
    error, own, _ = sent[2]
    carried = [own + sent[1].state_error] if error is None else [error, own + sent[1].state_error]
    torch.testing.assert_close(activity.layers[2].saved.window, torch.cat(carried, -1), rtol=0, atol=0)


def test_every_wiring_expects_something_else_and_the_flag_names_each():
    expected = [observed(skip)[1].expectation for skip in Skip.__args__]
    assert all(not torch.equal(a, b) for i, a in enumerate(expected) for b in expected[:i])
    assert typing.get_args(typing.get_type_hints(TrainConfig)["skip"]) == Skip.__args__


def test_a_single_layer_hears_the_sensory_level_under_every_wiring():
    stacks = [PredictiveStack(Categorical(5), (4,), skip=skip) for skip in Skip.__args__]
    assert {stack.connections for stack in stacks} == {stacks[0].connections}


def test_what_cannot_be_wired_is_said():
    with pytest.raises(ValueError, match="skip must be one of none, residual, dense, every-other; got 'some'"):
        PredictiveStack(Categorical(5), (4,), skip="some")
    with pytest.raises(ValueError, match=r"expected layers of one size with skip residual.*got 4 3; make them equal"):
        PredictiveStack(Categorical(5), (4, 3), skip="residual")
