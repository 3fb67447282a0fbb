"""Ranks that drift apart, diverge, differ or are gone say so: what was expected, what came, and what to do."""

import json
from pathlib import Path

import pytest

FAULTY = Path(__file__).parent / "faulty.py"


@pytest.fixture(scope="module")
def met(torchrun, text, tmp_path_factory):
    """Error type and message by fault, for rank 0 and rank 1."""
    folder = tmp_path_factory.mktemp("faults")
    ended = torchrun(2, FAULTY, "faults", folder, text)
    assert ended.returncode == 0, ended.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_replicas_that_drift_by_one_bit_stop_on_every_rank(met):
    for rank in (0, 1):
        kind, message = met[rank]["drift"]
        assert kind == "ParallelError"
        assert message.startswith("update 3: expected bitwise the same weights on every rank, but those of rank 1 are")
        assert "--resume" in message


def test_all_data_ranks_stop_before_an_update_that_is_not_finite_on_one(met):
    assert met[0]["nan in rank 1, data"] == met[1]["nan in rank 1, data"]
    kind, message = met[0]["nan in rank 1, data"]
    assert kind == "DivergedError"
    assert message.startswith("update 2: expected finite numbers, but the surprise of layer 2, the first such layer,")


def test_ranks_started_in_different_ways_are_refused(met):
    assert met[0]["other settings"] == met[1]["other settings"]
    kind, message = met[0]["other settings"]
    assert kind == "UsageError"
    assert "expected the same settings and data on every rank, but rank 1 has others than rank 0" in message


def test_a_layer_that_diverges_is_named_by_its_own_rank(met):
    """Of 3 layers, 2 are rank 0's. No rank blames a layer of its own for what came from below."""
    kind, message = met[0]["nan in rank 0, layers"]
    assert kind == "DivergedError" and "the surprise of layer 2, the first such layer," in message
    kind, message = met[1]["nan in rank 0, layers"]
    assert kind == "DivergedError" and "layer 3" not in message
    kind, message = met[1]["nan in rank 1, layers"]
    assert kind == "DivergedError" and "update 2: expected finite numbers, but the surprise of layer 3" in message
    assert "nan in rank 1, layers" not in met[0]  # nothing comes down, this neither


def test_a_rank_that_is_gone_is_told_from_a_fault_of_ones_own(met):
    kind, message = met[0]["lost"]
    assert kind == "ParallelError"
    assert message.startswith("expected messages of the other ranks, but the connection is lost")
    assert "--max-restarts" in message
