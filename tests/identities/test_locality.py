"""A layer's update reads its declared neighbourhood and nothing else: bitwise, by corrupting all the rest."""

import pytest
import torch

import learning_rules
from pcrnn import Chunk
from pcrnn.nn.activity import TargetScores
from pcrnn.nn.layer import LayerActivity, LayerState

# what layer `index` of `depth` may read of other layers, and of the errors e[0..L]
NEIGHBOURHOODS = {
    "layer": (lambda index, depth: set(), lambda index, depth: {index + 1}),
    "top": (lambda index, depth: set(), lambda index, depth: {depth}),
    "neighbour": (lambda index, depth: {index + 1}, lambda index, depth: {depth}),
    "hierarchy": (lambda index, depth: set(range(index + 1, depth)), lambda index, depth: {depth}),
    "cascade": (lambda index, depth: set(range(index + 1, depth)), lambda index, depth: {depth}),
}


def noise(activity: LayerActivity) -> LayerActivity:
    """The same shapes, every number another."""

    def other(part):
        if isinstance(part, torch.Tensor):
            return torch.rand_like(part)
        return type(part)(*(other(field) for field in part)) if isinstance(part, tuple) else part

    return other(activity)


def layer_gradients(rule, stack, activity, scores, chunk, index):
    stack.zero_grad(set_to_none=True)
    with torch.no_grad():
        carry = rule.init(stack, chunk.observations.shape[0])
        for trace in carry.traces:
            for part in trace:
                part.fill_(0.3)
        rule.learn(stack, activity, scores, chunk, carry)
    return [p.grad.clone() for p in stack.layers[index].parameters()] + list(carry.traces[index])


LISTENERS = {"none": 1, "every-other": 2, "dense": 3, "residual": 3}
"""How many layers above hear a layer, where there are as many."""


@pytest.mark.parametrize("skip", LISTENERS)
@pytest.mark.parametrize("index", [0, 1, 2, 3])
@pytest.mark.parametrize("credit", list(NEIGHBOURHOODS))
def test_update_is_bitwise_unchanged_when_all_outside_the_neighbourhood_changes(
    make_stack, stream, credit, index, skip
):
    depth = 4
    stack, chunk = make_stack(hidden=(4, 4, 4, 4), skip=skip), Chunk.of_stream(stream)
    rule = learning_rules.make("local", credit=credit)
    activity, _ = stack.observe(chunk.observations)
    scores = stack.score_targets(activity, chunk)
    before = layer_gradients(rule, stack, activity, scores, chunk, index)
    layers_read, errors_read = NEIGHBOURHOODS[credit]
    read = set(range(index + 1, index + 1 + LISTENERS[skip])) if credit == "neighbour" else layers_read(index, depth)
    outside = [i for i in range(depth) if i != index and i not in read]
    with torch.no_grad():
        for i in outside:
            for parameter in stack.layers[i].parameters():
                parameter.copy_(torch.randn_like(parameter))
    activity = activity._replace(layers=tuple(noise(a) if i in outside else a for i, a in enumerate(activity.layers)))
    scores = TargetScores(
        tuple(e if i in errors_read(index, depth) else torch.rand_like(e) for i, e in enumerate(scores.error)),
        scores.surprise,
    )
    after = layer_gradients(rule, stack, activity, scores, chunk, index)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


def test_neighbour_does_read_the_layer_above(make_stack, stream):
    """The test above could not fail if nothing outside ever mattered."""
    stack, chunk = make_stack(), Chunk.of_stream(stream)
    rule = learning_rules.make("local", credit="neighbour")
    activity, _ = stack.observe(chunk.observations)
    scores = stack.score_targets(activity, chunk)
    before = layer_gradients(rule, stack, activity, scores, chunk, 0)
    layers = (activity.layers[0], noise(activity.layers[1]), *activity.layers[2:])
    after = layer_gradients(rule, stack, activity._replace(layers=layers), scores, chunk, 0)
    assert not torch.equal(before[0], after[0])


def test_neighbour_reads_a_layer_two_above_that_hears_it(make_stack, stream):
    rule, chunk, found = learning_rules.make("local", credit="neighbour"), Chunk.of_stream(stream), {}
    for skip in ("none", "every-other"):
        stack = make_stack(hidden=(4, 3, 5, 2), skip=skip)
        activity, _ = stack.observe(chunk.observations)
        scores = stack.score_targets(activity, chunk)
        before = layer_gradients(rule, stack, activity, scores, chunk, 0)
        layers = (*activity.layers[:2], noise(activity.layers[2]), activity.layers[3])
        after = layer_gradients(rule, stack, activity._replace(layers=layers), scores, chunk, 0)
        found[skip] = torch.equal(before[0], after[0])
    assert found == {"none": True, "every-other": False}


def test_no_error_no_update(make_stack, stream):
    """Zero prediction errors, of observations and of states, leave every gradient exactly zero."""
    stack, chunk = make_stack(), Chunk.of_stream(stream)
    activity, _ = stack.observe(chunk.observations)
    layers = tuple(
        a._replace(saved=a.saved._replace(state_residual=torch.zeros_like(a.saved.state_residual)))
        for a in activity.layers
    )
    scores = stack.score_targets(activity, chunk)
    silent = TargetScores(tuple(torch.zeros_like(e) for e in scores.error), scores.surprise)
    for credit in NEIGHBOURHOODS:
        rule = learning_rules.make("local", credit=credit)
        for index in range(len(layers)):
            *gradients, _, _ = layer_gradients(rule, stack, activity._replace(layers=layers), silent, chunk, index)
            assert all(not g.any() for g in gradients)


def test_state_of_a_chunk_is_a_named_tuple_of_tensors(make_stack, stream):
    state = make_stack().initial_state(2)
    assert all(isinstance(layer, LayerState) for layer in state.layers)
