"""Evaluation meets every lane of the validation split in the context of the steps before it."""

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
    assert len(valid) == 800 and 799 % 17 == 0  # no transition is left over with 17 lanes
    for batch in (1, 17):
        torch.testing.assert_close(torch.tensor(evaluate(stack, source, batch=batch, chunk=10).nats), whole.float())
