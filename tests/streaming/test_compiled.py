"""The compiled engine against the general one, step for step in float64: two programs, one arithmetic.

Oracle: `Learner.step` over chunks of one step, which the identities hold to autograd.
"""

import copy
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn import (
    Bernoulli,
    Categorical,
    Gaussian,
    JointBernoulli,
    Learner,
    Online,
    OnlineConfig,
    Poisson,
    PredictiveStack,
    StudentT,
)
from pcrnn.errors import UsageError

pytest.importorskip("numba", reason="the compiled engine needs Numba: pip install -e '.[online]'")

import learning_rules
from pcrnn.config import OptimiserConfig
from pcrnn.nn.cells import GatedCell
from pcrnn.training.optimiser import adamw

STEPS = 100
FAMILIES = {
    "categorical": lambda d, h: Categorical(d + 1),
    "bernoulli": lambda d, h: Bernoulli(d),
    "poisson": lambda d, h: Poisson(d),
    "gaussian": lambda d, h: Gaussian(d, half_life=h),
    "student-t": lambda d, h: StudentT(d, half_life=h, degrees=3.0),
}
REAL = ("gaussian", "student-t")
RULES = [{"credit": credit} for credit in ("layer", "top", "neighbour", "hierarchy", "cascade")] + [{"hops": 2}]


@st.composite
def cases(draw):
    """A stack, a rule and an optimiser, all small, of every option that is compiled.

    No layer has a single unit: its normalised state error is a sign, which brings rounding up to its own size.
    """
    family = draw(st.sampled_from(list(FAMILIES)))
    optimiser = draw(st.sampled_from(["adamw", "sgd", None]))
    half_lives = st.sampled_from([64.0, 8.0, None])
    return {
        "family": family,
        "size": draw(st.integers(1, 4)),
        "hidden": tuple(draw(st.lists(st.sampled_from([4, 8, 17]), min_size=1, max_size=4))),
        "half_life": draw(half_lives),
        "options": {
            "cell": draw(st.sampled_from(["gated", "rotating"])),
            "num_taps": draw(st.integers(1, 3)),
            "mixing": draw(st.booleans()),
            "normalize_errors": draw(st.booleans()),
            "half_life": draw(half_lives),
            "covariates": 0 if family == "categorical" else draw(st.sampled_from([0, 2])),
        },
        "rule": {
            **draw(st.sampled_from(RULES)),
            "trace": draw(st.sampled_from(["exact", "exact", "chunk", "none"])),
            "feedback": draw(st.sampled_from(["symmetric", "random"])),
        },
        "optimiser": optimiser,
        "clip": draw(st.sampled_from([1.0, 0.1] if optimiser == "sgd" else [1.0, 0.1, 0.0])),  # SGD would diverge
        "lanes": draw(st.sampled_from([1, 1, 3])),
        "missing": draw(st.booleans()),
        "difference": draw(st.booleans()) and family in REAL,
        "seed": draw(st.integers(0, 99)),
    }


def optimiser_of(case, stack):
    # A gradient that is 0 in one program and rounding in the other is brought up by 1 / eps, so eps is not 1e-8 here.
    if case["optimiser"] == "sgd":
        return torch.optim.SGD(stack.parameters(), 1e-2, weight_decay=0.01)
    if case["optimiser"] == "adamw":
        return torch.optim.AdamW(stack.parameters(), 3e-3, betas=(0.9, 0.99), eps=1e-4, weight_decay=0.1)
    return adamw(stack, OptimiserConfig(lr=3e-3, weight_decay=0.1), eps=1e-4)


def make(stack, case, compiled):
    """A stream by one engine; `None` as the optimiser is AdamW in three groups whose rate has a schedule."""
    schedule = (lambda update: 3e-3 * min(1.0, (update + 1) / 20)) if case["optimiser"] is None else None
    return Online(
        stack, learning_rules.make("local", **case["rule"]), optimiser_of(case, stack), lanes=case["lanes"],
        config=OnlineConfig(clip=case["clip"], difference=case["difference"]), schedule=schedule, compiled=compiled,
    )  # fmt: skip


def engines(case):
    """The same stream, in float64, for the compiled and for the general engine."""
    torch.manual_seed(case["seed"])
    observation = FAMILIES[case["family"]](case["size"], case["half_life"])
    known = case["options"].get("covariates", 0) + case["difference"] * case["size"]
    stack = PredictiveStack(observation, case["hidden"], **case["options"] | {"covariates": known}).double()
    return make(copy.deepcopy(stack), case, True), make(stack, case, False)


def observations(case, steps=STEPS):
    """[T, B, X] and covariates [T, B, C]."""
    generator, lanes, size = np.random.default_rng(case["seed"]), case["lanes"], case["size"]
    times = np.arange(steps)
    covariates = np.stack([np.sin(times / 7), np.cos(times / 7)], 1)[:, None].repeat(lanes, 1)
    if case["family"] == "categorical":
        walk = np.cumsum(generator.integers(0, 2, (steps, lanes, 1)), 0) % (size + 1)
        return walk.astype(float), None
    x = np.sin(times[:, None, None] / (5 + np.arange(size))) + 0.3 * generator.standard_normal((steps, lanes, size))
    if case["family"] == "bernoulli":
        x = (x > 0).astype(float)
    elif case["family"] == "poisson":
        x = np.floor(np.exp(x))
    if case["missing"]:
        x[generator.random(x.shape) < 0.1] = np.nan
    return x, covariates if case["options"]["covariates"] else None


def part_of(x, covariates, first, last, case):
    """Arguments of `learn_many` for some steps."""
    many = x[first:last] if case["lanes"] > 1 else x[first:last, 0]
    return {"x": many, "covariates": None if covariates is None else covariates[first:last]}


def assert_same_state(a, b, tolerance):
    ours, theirs = a._learner.state_dict(), b._learner.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_compiled_and_general_engine_agree(case):
    """Surprises, expectations and scales of every step, and every tensor after the last, to 1e-8."""
    compiled, general = engines(case)
    x, covariates = observations(case)
    ours = compiled.learn_many(**part_of(x, covariates, 0, STEPS, case))
    theirs = general.learn_many(**part_of(x, covariates, 0, STEPS, case))
    np.testing.assert_allclose(ours.rows, theirs.rows, rtol=1e-8, atol=1e-8, err_msg=str(case))
    assert_same_state(compiled, general, 1e-8)


PLAIN = {
    "family": "student-t", "size": 2, "hidden": (8, 8), "half_life": 64.0, "rule": {}, "optimiser": "adamw",
    "clip": 1.0, "lanes": 1, "missing": True, "difference": False, "seed": 0,
    "options": {"covariates": 2},
}  # fmt: skip


@pytest.mark.parametrize("lanes", [1, 2])
def test_either_engine_goes_on_where_the_other_stopped(lanes):
    """`state_dict` is true after every step: ten pieces, each by the other engine, are one stream."""
    case = PLAIN | {"lanes": lanes}
    compiled, general = engines(case)
    x, covariates = observations(case)
    whole = general.learn_many(**part_of(x, covariates, 0, STEPS, case)).rows
    online, rows = compiled, []
    for number, first in enumerate(range(0, STEPS, 15)):
        rows.append(online.learn_many(**part_of(x, covariates, first, first + 15, case)).rows)
        online._asked = number % 2 == 1
        online._engine, online._reason = online._choose()
    np.testing.assert_allclose(np.concatenate(rows), whole, rtol=1e-8, atol=1e-8)
    assert_same_state(online, general, 1e-8)


def test_a_stretch_is_its_observations_one_by_one():
    case = PLAIN | {"optimiser": None}
    one, many = engines(case)[0], engines(case)[0]
    x, covariates = observations(case)
    rows = [one.learn_one(x[t, 0], covariates=covariates[t]).rows for t in range(STEPS)]
    np.testing.assert_array_equal(np.stack(rows), many.learn_many(**part_of(x, covariates, 0, STEPS, case)).rows)


def test_looking_changes_nothing():
    """`score_one` gives what `learn_one` then gives, and the stream goes on as if nobody had looked."""
    looked, not_looked = engines(PLAIN)[0], engines(PLAIN)[0]
    x, covariates = observations(PLAIN)
    for t in range(40):
        look = looked.score_one(x[t, 0], covariates=covariates[t])
        looked.score_one(x[t, 0] + 3.0, covariates=covariates[t] + 1)
        learned = looked.learn_one(x[t, 0], covariates=covariates[t])
        scored = slice(0, looked._plan.state)
        np.testing.assert_array_equal(look.rows[scored], learned.rows[scored])
        np.testing.assert_array_equal(learned.rows, not_looked.learn_one(x[t, 0], covariates=covariates[t]).rows)
    assert_same_state(looked, not_looked, 0)


def test_float32_is_as_exact_as_torch():
    """Against float64 by torch, at most twice as far off as torch in float32."""
    torch.manual_seed(0)
    stack = PredictiveStack(Gaussian(2), (16, 16))
    truth = Online(copy.deepcopy(stack).double(), compiled=False)
    single, compiled = Online(copy.deepcopy(stack), compiled=False), Online(stack, compiled=True)
    x = np.sin(np.arange(200)[:, None] / [5, 9])
    exact, torch32, ours = (online.learn_many(x).levels for online in (truth, single, compiled))
    assert np.abs(ours - exact).max() < 2 * np.abs(torch32 - exact).max() + 1e-6


def test_tensors_that_somebody_exchanges_are_found_again():
    """What a `load_state_dict` puts in place of the old tensors is what is learned from and changed."""
    online, other = engines(PLAIN)[0], engines(PLAIN)[0]
    x, covariates = observations(PLAIN)
    for engine in (online, other):
        engine.learn_many(**part_of(x, covariates, 0, 50, PLAIN))
    online._learner.load_state_dict({name: t.clone() for name, t in online._learner.state_dict().items()})
    assert not online._engine.is_bound()
    rest = part_of(x, covariates, 50, 80, PLAIN)
    look = online.score_one(x[50, 0], covariates=covariates[50])
    np.testing.assert_array_equal(look.levels, other.score_one(x[50, 0], covariates=covariates[50]).levels)
    np.testing.assert_array_equal(online.learn_many(**rest).rows, other.learn_many(**rest).rows)
    assert_same_state(online, other, 0)


@pytest.mark.parametrize(
    ("make_stack", "rule", "named"),
    [
        (lambda: PredictiveStack(JointBernoulli(3), (4,)), "local", "JointBernoulli"),
        (lambda: PredictiveStack(Gaussian(2), (4,)), "bptt", "bptt"),
        (lambda: PredictiveStack(Gaussian(2), (4,), cell="lstm"), "local", "LSTMCell"),
        (lambda: PredictiveStack(Gaussian(2), (4, 4), skip="dense"), "local", "skip"),
        (lambda: PredictiveStack(Gaussian(2), (4, 4), top_down=True), "local", "top-down"),
        (lambda: PredictiveStack(Gaussian(2), (4,), inference_steps=2), "local", "inference"),
        (lambda: PredictiveStack(Gaussian(2), (4,), dropout=0.5), "local", "dropout"),
        (lambda: PredictiveStack(Gaussian(2), (4,)).requires_grad_(False), "local", "frozen"),
        (lambda: PredictiveStack(Gaussian(2), (4,), cell=lambda n: GatedCell(n)), "local", None),
    ],
)
def test_what_is_not_compiled_goes_the_general_way_and_says_why(make_stack, rule, named):
    """Nothing is refused and nothing ignored: the engine's name says what stands in the way."""
    online = Online(make_stack(), rule)
    if named is None:
        assert online.engine == "compiled: numba"
        return
    assert online.engine.startswith("general: ") and named in online.engine
    with pytest.raises(UsageError, match=r"expected what can be compiled, got .*" + named):
        Online(make_stack(), rule, compiled=True)
    x = np.ones((12, online._plan.values))
    if "frozen" not in named:
        assert np.isfinite(online.learn_many(x).surprise).all()


def test_a_diverged_step_learns_nothing():
    online = engines(PLAIN | {"missing": False})[0]
    x, covariates = observations(PLAIN | {"missing": False})
    online.learn_many(**part_of(x, covariates, 0, 20, PLAIN))
    before = {name: tensor.clone() for name, tensor in online._learner.state_dict().items()}
    with torch.no_grad():
        online.stack.base.eta.fill_(torch.nan)
        online.stack.layers[1].readout.fill_(torch.nan)
    online._engine._take_in_again()
    with pytest.raises(Exception, match="observation 21: expected finite numbers"):
        online.learn_one(x[20, 0], covariates=covariates[20])
    after = online._learner.state_dict()
    for name in before:
        if "eta" not in name and "readout" not in name:
            assert torch.equal(before[name], after[name]), name


def test_nothing_is_compiled_at_import_and_numba_only_when_needed():
    code = (
        "import sys, pcrnn.streaming.online\n"
        "assert 'numba' not in sys.modules\n"
        "pcrnn.Online(channels=1, hidden=(2,), compiled=False).learn_one(0.5)\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_subnormal_numbers_are_flushed_inside_and_nowhere_else():
    """Units that are shut make products below the normal numbers, for which an x86 takes a hundred times as long."""
    x = np.random.default_rng(0).standard_normal(4000)
    seconds = {}
    for shut in (False, True):
        torch.manual_seed(0)
        stack = PredictiveStack(StudentT(1), (32, 32))
        if shut:
            with torch.no_grad():
                for layer in stack.layers:
                    layer.bias[32:] -= 80
        online = Online(stack)
        online.learn_many(x[:2000])
        times = []
        for _ in range(5):
            since = time.process_time()
            online.learn_many(x)
            times.append(time.process_time() - since)
        seconds[shut] = min(times)
    assert seconds[True] < 1.5 * seconds[False]
    assert np.float32(1e-40) * np.float32(1) != 0


def test_a_learner_that_took_steps_itself_is_gone_on_with():
    """The engine binds to moments that exist: a Learner's first update made them."""
    torch.manual_seed(0)
    stack = PredictiveStack(Gaussian(1), (4,))
    learner = Learner(stack, "local", batch=1)
    assert Online(learner.model).engine == "compiled: numba"
