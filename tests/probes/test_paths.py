"""Gradient paths: the closed form, the table and autograd's own graph count the same."""

import pytest

from pcrnn import Categorical, Gaussian, PredictiveStack
from pcrnn.analysis.probes.paths import counted_paths, gradient_paths
from pcrnn.nn.cells import CELLS
from pcrnn.nn.connections import Skip

FIBONACCI = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987]
CLOSED = {
    "none": lambda depth: 1,
    "every-other": lambda depth: FIBONACCI[depth - 1],
    "dense": lambda depth: 2 ** max(depth - 2, 0),
    "residual": lambda depth: 2 ** max(depth - 2, 0),
}


@pytest.mark.parametrize("skip", Skip.__args__)
def test_the_table_the_closed_form_and_autograds_graph_count_the_same(skip):
    for depth in (1, 2, 3, 4, 5, 8, 12):
        stack = PredictiveStack(Categorical(3), (2,) * depth, skip=skip)
        assert gradient_paths(depth, skip) == CLOSED[skip](depth) == counted_paths(stack)


def test_adjacent_and_one_over_connections_have_fibonacci_many_paths():
    assert [gradient_paths(depth) for depth in range(1, 17)] == FIBONACCI
    assert gradient_paths(90) == 2880067194370816120


@pytest.mark.parametrize("cell", CELLS)
def test_paths_are_those_between_layers_whatever_a_layer_is_made_of(cell):
    stack = PredictiveStack(Gaussian(3), (3,) * 5, cell=cell, skip="every-other", mixing=True, target=Categorical(2))
    assert counted_paths(stack) == 5


def test_a_stack_without_layers_has_no_paths():
    with pytest.raises(ValueError, match="expected at least 1 layer, got 0"):
        gradient_paths(0)
