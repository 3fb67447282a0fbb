"""Rows 11 and 12: wrong tensors are refused as torch.nn.RNN refuses them, and the smallest and deepest sizes work."""

import re
from itertools import product

import pytest
import torch
from torch import nn

import learning_rules
from pcrnn import Bernoulli, Categorical, Chunk, Gaussian, Poisson, PredictiveLayer, PredictiveStack, StudentT
from pcrnn.config import TrainConfig
from pcrnn.errors import DataError, InputError
from pcrnn.nn.activity import StackState
from pcrnn.training.train import train
from tests.reliability.tiny import RULES, config

B, T, M, N = 2, 5, 3, 4
RIGHT = ((B, T, M), torch.float32, "cpu")
SHAPES = [(B, T, M), (T, M), (M,), (), (1, B, T, M), (B, T, M + 1), (B, T, 1), (T, M + 1), (B, 0, M), (0, M)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]
DEVICES = ["cpu", "meta"]  # one that has no numbers stands for one that the weights are not on
FIX = r"; (convert|move|reshape|start from|skip)"  # every message ends with what to do


def raised(call) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


@pytest.mark.row(11)
def test_inputs_of_every_wrong_kind_raise_what_an_rnn_raises_and_name_the_fix(injected):
    ours, theirs = PredictiveLayer(M, N), nn.RNN(M, N, batch_first=True)
    wrong = [case for case in product(SHAPES, DTYPES, DEVICES) if case != RIGHT and case[0] != (T, M)]
    for shape, dtype, device in wrong:
        x = torch.zeros(shape, dtype=dtype, device=device)
        error = raised(lambda x=x: ours(x))
        assert isinstance(error, InputError), (shape, dtype, device, error)
        expected = raised(lambda x=x: theirs(x)) if device == "cpu" else RuntimeError()
        assert expected is None or 0 in shape or isinstance(error, type(expected)), (shape, dtype, device, expected)
        assert re.search(FIX, str(error)), error
        assert re.search(r"got|has dtype|is on", str(error)), error
    injected(len(wrong))


@pytest.mark.row(11)
def test_states_of_every_wrong_kind_raise_what_an_rnn_raises_and_name_the_fix(injected):
    ours, theirs, cases = PredictiveLayer(M, N), nn.RNN(M, N, batch_first=True), 0
    x, right = torch.zeros(B, T, M), ours.initial_state(B)
    for field, part in right._asdict().items():
        shape = part.shape
        wrong = [torch.zeros(shape[:-1]), torch.zeros(*shape, 1), torch.zeros(*shape[:-1], shape[-1] + 1)]
        wrong += [torch.zeros(shape[0] + 1, *shape[1:]), part.double(), part.long(), part.to("meta")]
        for changed in wrong:
            error = raised(lambda changed=changed, field=field: ours(x, right._replace(**{field: changed})))
            assert isinstance(error, InputError), (field, changed.shape, changed.dtype, error)
            message = rf"state\.{field} expected .*, got .*; start from layer\.initial_state\({B}\)"
            assert re.search(message, str(error)), error
            cases += 1
    for hidden in (torch.zeros(1, B + 1, N), torch.zeros(1, B, N + 1), torch.zeros(1, B, N).double()):
        assert isinstance(InputError(), type(raised(lambda hidden=hidden: theirs(x, hidden))))
    injected(cases)


FAMILIES = {
    "categorical": Categorical(3),
    "bernoulli": Bernoulli(3),
    "gaussian": Gaussian(3),
    "student-t": StudentT(3),
    "poisson": Poisson(3),
}


@pytest.mark.row(11)
@pytest.mark.parametrize("name", FAMILIES)
def test_observations_of_every_wrong_kind_are_refused_by_a_stack(name, injected):
    family = FAMILIES[name]
    stack = PredictiveStack(family, (N,))
    shapes = [(B, T), (B, T, 3), (B, T, 4), (T,), (), (B, 0) if family.symbolic else (B, 0, 3)]
    right = ((B, T), {torch.int64}) if family.symbolic else ((B, T, 3), {torch.float32, torch.float64, torch.bfloat16})
    cases = 0
    for shape, dtype in product(shapes, DTYPES):
        x = torch.ones(shape, dtype=dtype)
        if shape == right[0] and dtype in right[1]:
            stack(x)
            continue
        error = raised(lambda x=x: stack(x))
        assert isinstance(error, TypeError if dtype not in right[1] else ValueError), (shape, dtype, error)
        assert re.search("got|takes", str(error)), error
        cases += 1
    injected(cases)


@pytest.mark.row(11)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda stack, x: stack(x, StackState(())), "expected a state of 1 layers, got 0"),
        (lambda stack, x: stack(x + 3), r"takes symbol ids 0 to 2, got ids from 3 to 3"),
        (lambda stack, x: stack(x - 1), r"takes symbol ids 0 to 2, got ids from -1 to -1"),
        (lambda stack, x: Chunk.of_stream(x[:, :1]), r"at least 2 steps, \.\.\.\], got \[2, 1\]"),
        (
            lambda stack, x: stack.score_targets(stack.observe(x)[0], Chunk(x, x + 1)),
            "observations one step later, got others",
        ),
    ],
)
def test_wrong_calls_of_a_stack_name_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call(PredictiveStack(Categorical(3), (N,)), torch.zeros(B, T, dtype=torch.long))


@pytest.mark.row(12)
@pytest.mark.parametrize("rule", RULES)
def test_every_small_and_deep_size_learns(rule, injected):
    """T = 1, fewer steps than a chunk, not a multiple of it; B = 1; N = 1; L = 1 and 32."""
    settings = TrainConfig.from_mapping(RULES[rule])
    learner = learning_rules.make(settings.rule, **settings.rule_arguments())
    sizes = [*product([1, 7, 8, 9], [1, 3], [1, 5], [1]), (3, 1, 1, 32), (8, 2, 5, 32)]
    for steps, batch, units, layers in sizes:
        stack = PredictiveStack(Categorical(4), (units,) * layers, **settings.stack_options())
        state, carry = stack.initial_state(batch), learner.init(stack, batch)
        stream = torch.randint(4, (batch, steps + 1))
        for start in range(0, steps, 8):
            chunk = Chunk.of_stream(stream[:, start : start + 9])
            result, state, carry = learner.accumulate(stack, chunk, state, carry)
            assert result.surprise.shape == (layers + 1, batch, chunk.targets.shape[1])
        numbers = [result.surprise, *(parameter.grad for parameter in stack.parameters())]
        assert all(found is not None and found.isfinite().all() for found in numbers), (steps, batch, units, layers)
    injected(len(sizes))


@pytest.mark.row(12)
@pytest.mark.parametrize("rule", ["neighbour", "bptt"])
def test_no_step_at_all_is_one_documented_error(rule):
    stack, learner = PredictiveStack(Categorical(4), (5,)), learning_rules.make(**_made(rule))
    empty = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="at least 1 time step, got 0"):
        learner.accumulate(stack, Chunk(empty, empty), None, learner.init(stack, 2))


def _made(rule: str) -> dict:
    options = dict(RULES[rule])
    return {"name": options.pop("rule"), **options}


@pytest.mark.row(12)
@pytest.mark.parametrize(("chunk", "batch"), [(1, 1), (1, 7), (7, 1), (50, 2), (107, 1), (53, 2)])
@pytest.mark.parametrize("rule", ["neighbour", "bptt"])
def test_a_run_of_every_chunk_and_batch_that_the_data_fills(short_text, tmp_path, chunk, batch, rule):
    sizes = {"chunk": chunk, "batch": batch, "hidden": (1,), "steps": 2}
    assert train(config(short_text, rule, **sizes), tmp_path).step == 2


@pytest.mark.row(12)
@pytest.mark.parametrize(("chunk", "batch"), [(108, 1), (54, 2), (1, 108)])
def test_a_run_that_the_data_does_not_fill_says_what_to_lower(short_text, tmp_path, chunk, batch):
    with pytest.raises(DataError, match=rf"has 108 steps; {batch} lanes of one chunk of {chunk} need .*lower --"):
        train(config(short_text, "bptt", chunk=chunk, batch=batch), tmp_path / "run")
    assert not (tmp_path / "run").exists()
