"""Evaluation meets every lane of the validation split in the context of the steps before it."""

import math

import pytest
import torch

from pcrnn import Categorical, PredictiveStack
from pcrnn.analysis.evaluate import WARM_UP, evaluate
from pcrnn.data import TextSource


def test_lanes_continue_what_came_before_them():
    """Any number of lanes gives what one pass over the whole text gives: exactly the same expectations, each warm."""
    torch.manual_seed(0)
    letters = torch.randint(4, (8000,)).tolist()
    source = TextSource("".join("abcd"[i] for i in letters))
    stack = PredictiveStack(Categorical(4), (6, 5), max_time_constant=4.0).double()
    train, valid = source.sequence("train"), source.sequence("valid")
    activity, _ = stack.observe(torch.cat([train[-WARM_UP:], valid]).unsqueeze(0))
    whole = activity.surprise[:, 0, WARM_UP + 1 :].mean(1)
    assert len(valid) == 800 and 799 % 17 == 0 and 799 % 16  # with 16 lanes, some steps are left over
    for batch in (1, 16, 17, 79):
        found = evaluate(stack, source, batch=batch, chunk=10)
        assert found.steps == 799
        torch.testing.assert_close(torch.tensor(found.nats), whole.float())


@pytest.mark.parametrize("steps", [2, 3, 200, WARM_UP, WARM_UP + 1, WARM_UP + 2, 300, 1999])
def test_of_another_file_every_step_is_scored_once_as_one_pass_from_the_initial_state_scores_it(steps):
    torch.manual_seed(0)
    text = "".join("abcd"[i] for i in torch.randint(4, (steps,)).tolist())
    source = TextSource(text, vocabulary="abcd").as_whole()
    stack = PredictiveStack(Categorical(4), (6, 5), max_time_constant=4.0).double()
    activity, _ = stack.observe(source.sequence("all").unsqueeze(0))
    whole = activity.surprise[:, 0, 1:].mean(1)
    for batch in (1, 17):
        found = evaluate(stack, source, batch=batch, chunk=10)
        assert found.steps == steps - 1
        torch.testing.assert_close(torch.tensor(found.nats), whole.float())


def test_an_unknown_symbol_costs_every_level_the_same_and_changes_no_known_one():
    """Where it stands no error rises; the symbols before it are as surprising as without it."""
    torch.manual_seed(0)
    trained_on = TextSource("abcd" * 100)
    source = TextSource("abcdab!cdab!!cda", vocabulary="abcd", unknown="base-rate").as_whole(trained_on)
    stack = PredictiveStack(source.observation(), (6, 5)).double()
    plain = PredictiveStack(Categorical(4), (6, 5)).double()
    plain.load_state_dict(stack.state_dict())
    assert source.sequence("all").tolist() == [0, 1, 2, 3, 0, 1, -1, 2, 3, 0, 1, -1, -1, 2, 3, 0]
    activity, _ = stack.observe(source.sequence("all").unsqueeze(0))
    surprise = activity.surprise[:, 0]
    unknown = source.sequence("all") < 0
    torch.testing.assert_close(surprise[:, unknown], torch.full((3, 3), math.log(361), dtype=torch.float64))
    before, _ = plain.observe(source.sequence("all")[:6].unsqueeze(0))
    assert torch.equal(surprise[:, :6], before.surprise[:, 0])
    found = evaluate(stack, source, batch=3, chunk=4)
    torch.testing.assert_close(torch.tensor(found.nats).double(), surprise[:, 1:].mean(1))
    error, _ = stack.observation.prediction_error(torch.randn(3, 4), torch.tensor([0, -1, 3]))
    assert (error[1] == 0).all() and (error[[0, 2]] != 0).all()
