"""No setting is taken and then ignored: changing one alone changes what is learned, or it is refused."""

import hashlib
from typing import Any

import numpy as np
import pytest

from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource, TextSource
from pcrnn.errors import UsageError
from pcrnn.training.train import Trainer

TEXT = "".join(f"line {n}: the quick brown f\u00f6x jumps over {n * n} lazy dogs\n" for n in range(30))
TINY = {"hidden": (5, 5, 5), "batch": 2, "chunk": 8, "steps": 4, "warmup": 2, "lr": 1e-2, "device": "cpu"}

CHANGES: dict[str, list[dict[str, Any]]] = {  # another value of every setting, with what else it needs
    "tokens": [{"tokens": "bytes"}],
    "hidden": [{"hidden": (5, 6, 5)}],
    "cell": [{"cell": cell} for cell in ("rotating", "leaky", "rnn", "lstm", "gru")],
    "num_taps": [{"num_taps": 1}, {"num_taps": 3}],
    "mixing": [{"mixing": True}],
    "max_time_constant": [{"max_time_constant": 8.0}],
    "half_life": [{"half_life": 16.0}],
    "normalize_errors": [{"normalize_errors": False}],
    "skip": [{"skip": skip} for skip in ("residual", "dense", "every-other")],
    "top_down": [{"top_down": True}],
    "inference_steps": [{"inference_steps": 1}],
    "dropout": [{"dropout": 0.5}],
    "rule": [{"rule": "bptt"}],
    "credit": [{"credit": credit} for credit in ("layer", "top", "neighbour", "hierarchy")],
    "hops": [{"hops": 0}, {"hops": 1}, {"hops": 2}],
    "trace": [{"trace": "chunk"}, {"trace": "none"}],
    "feedback": [{"feedback": "random"}],
    "lr": [{"lr": 2e-2}],
    "weight_decay": [{"weight_decay": 0.5}],
    "betas": [{"betas": (0.5, 0.9)}],
    "warmup": [{"warmup": 0}, {"warmup": 50}],
    "clip": [{"clip": 1e-3}],
    "steps": [{"steps": 5}],
    "chunk": [{"chunk": 9}],
    "batch": [{"batch": 3}],
    "seed": [{"seed": 1}],
    "precision": [{"precision": "bf16"}],
}
ELSEWHERE = {  # settings that a change of `CHANGES` cannot show
    "data",  # the source is given
    "family",  # of real values: below
    "auxiliary",  # of rule bptt: below
    "gate_coordination",  # of cell lstm: below
    "parallel",  # needs torchrun, and is refused without: tests/training/test_parallel.py
}
CHANGES_NO_NUMBER = {
    "device",  # where it is computed
    "cuda_graph",  # how it is computed; refused on a CPU
    "log_every",  # when a row is written
    "evaluate_every",  # when a row has the score of the validation split
    "checkpoint_every",  # when a checkpoint is written
    "keep_last",  # how many are kept
    "tensorboard",  # where metrics are written, too
}


def learned(source: Any = None, **settings: Any) -> str:
    """A digest of all weights and running statistics after a tiny run, and of its score."""
    config = TrainConfig.from_mapping(TINY | settings)
    text = TEXT.encode() if config.tokens == "bytes" else TEXT
    trainer = Trainer(config, TextSource(text) if source is None else source)
    for _ in range(config.steps):
        trainer.update()
    digest = hashlib.sha256(repr(trainer.evaluate()).encode())
    for name, tensor in sorted(trainer.stack.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def reference() -> str:
    return learned()


def test_every_setting_is_looked_at():
    """A new setting belongs into one of the three lists above."""
    known = set(TrainConfig().as_mapping()) | set(TrainConfig(rule="bptt").as_mapping())
    assert set(CHANGES) | ELSEWHERE | CHANGES_NO_NUMBER == known


@pytest.mark.parametrize("change", [c for changes in CHANGES.values() for c in changes], ids=str)
def test_changing_a_setting_changes_what_is_learned(change, reference):
    assert learned(**change) != reference


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({"rule": "bptt"}, {"auxiliary": 0.5}),
        ({"rule": "bptt", "cell": "lstm"}, {"gate_coordination": 0.5}),
        ({"cell": "lstm"}, {"gate_coordination": 0.5}),
        ({"feedback": "random", "credit": "layer"}, {"credit": "top"}),
        ({"cell": "rnn"}, {"trace": "none"}),
        ({"hidden": (5,)}, {"feedback": "random"}),
        ({"hidden": (5,)}, {"normalize_errors": False}),
        ({"hidden": (5,), "rule": "bptt"}, {"auxiliary": 0.5}),
        ({"hidden": (5, 5)}, {"skip": "every-other"}),
        ({"hidden": (5, 5)}, {"skip": "dense"}),
    ],
)
def test_a_setting_of_some_runs_changes_what_those_learn(base, change):
    assert learned(**base) != learned(**base | change)


def test_the_family_changes_what_is_learned_of_real_values():
    values = np.random.default_rng(0).standard_normal((300, 2)).cumsum(0)
    one, other = (learned(SeriesSource(values), family=family) for family in ("gaussian", "student-t"))
    assert one != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"skip": "residual", "hidden": (5, 5)},
            "skip: expected 3 layers or more for residual, which .*, got 2; leave",
        ),
        ({"skip": "dense", "hidden": (5,)}, "skip: expected 2 layers or more for dense, which .*, got 1; leave it out"),
        ({"skip": "every-other", "hidden": (5,)}, "skip: expected 2 layers or more for every-other, .*, got 1; leave"),
        (
            {"family": "student-t"},
            "family: expected auto, which is Categorical, for .*, got student-t; leave it out",
        ),
        ({"cuda_graph": True}, "cuda_graph: expected a CUDA device, got cpu; leave it out"),
        *(
            (
                {"hops": 1, "credit": credit},
                f"hops: expected to stand in place of a credit, got hops 1 with .*{credit};",
            )
            for credit in ("layer", "top", "neighbour", "hierarchy", "cascade")
        ),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        learned(**settings)


@pytest.mark.parametrize("family", ["categorical", "bernoulli", "poisson"])
def test_a_family_of_symbols_is_refused_for_real_values(family):
    values = np.random.default_rng(0).standard_normal((300, 2)).cumsum(0)
    with pytest.raises(UsageError, match=f"family: expected one of real values for .*, got {family}; leave it out"):
        learned(SeriesSource(values), family=family)


@pytest.mark.parametrize(
    ("hidden", "one", "same"),
    [
        ((5,), {"credit": "top"}, {"credit": "layer"}),  # no layer above
        ((5, 5), {"credit": "neighbour"}, {"credit": "cascade"}),  # no layer beyond the next
        ((5, 5, 5), {"hops": 2}, {"hops": 99}),  # all layers above
    ],
)
def test_what_the_help_says_is_the_same_is_the_same(hidden, one, same):
    assert learned(hidden=hidden, **one) == learned(hidden=hidden, **same)


def test_resuming_a_run_with_hops_keeps_them():
    config = TrainConfig.from_mapping({"hops": 1})
    assert config.rule_options["credit"] is None and config.rule_in_words == "local (hops 1)"
    assert TrainConfig.from_mapping(config.as_mapping()) == config
    assert config.updated(credit="top").rule_in_words == "local (top)"
