"""The scaling suite: its record is whole, its bytes are those of messages, its model is right where one can tell."""

import json
from dataclasses import replace

import pytest

from comparisons.cost import scaling
from comparisons.cost.scaling import LINKS, QUICK, WAYS, Link, Way, data_parallel_seconds
from comparisons.report import scaling_part
from comparisons.suite import Request

PARAMETERS = [100, 300, 300]
ENDLESS = Link(name="endless", bytes_per_second=float("inf"), latency=0.0)


def measured(way: Way, setup: scaling.ScalingSetup) -> dict:
    seconds = {"none": 1.0, "data": 0.8, "layers": 0.5}[way.parallel] * (2 if way.rule == "bptt" else 1)
    return {"seconds": seconds, "bytes": 4096 * (way.processes - 1), "parameters": PARAMETERS, "symbols": 9}


def test_the_suite_writes_every_way_and_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "in_fresh_processes", measured)
    told: list[str] = []
    paths = scaling.run(Request(quick=True, out=tmp_path, tell=told.append))
    assert [path.name for path in paths] == ["scaling.json", "scaling.md", "scaling.png", "scaling.svg"]
    assert len(told) == len(WAYS) * QUICK.rounds
    written = json.loads(paths[0].read_text(encoding="utf-8"))
    speed_ups = {row["way"]: row["speed_up"] for row in written["rows"]}
    assert speed_ups == {
        "local, layer: one process": 1,
        "local, layer: layers parallel": 2,
        "local, layer: data parallel": 1.25,
        "BPTT: one process": 1,
        "BPTT: data parallel": 1.25,
    }
    assert {(row["link"], row["nodes"]) for row in written["model"]} == {
        (link.name, nodes) for link in LINKS for nodes in QUICK.nodes
    }
    assert all(0 < row["efficiency"] <= 1 for row in written["model"])
    assert all(row["efficiency"] == 1 for row in written["model"] if row["nodes"] == 1)
    assert "2.00 times as fast as one by layers and 1.25 by data" in written["summary"][0]
    assert written["summary"][-1].startswith("A model, not measured: ")
    text = paths[1].read_text(encoding="utf-8")
    assert "## A model of many nodes" in text and "Computed, not measured" in text
    table, says = scaling_part(written)
    assert "| local, layer: layers parallel | 2 | 64 | 2 | 4096 |" in table
    assert "A model, not measured" in says


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_an_endless_link_costs_nothing(rule):
    assert data_parallel_seconds(2.0, PARAMETERS, rule, 64, ENDLESS) == pytest.approx(2.0)


def test_what_cannot_overlap_is_the_layer_that_is_done_last():
    """On a link that keeps up, the local rule's top layer is left over, BPTT's bottom one; a ring sends 2 (R-1)/R."""
    link = replace(ENDLESS, bytes_per_second=1e6)
    local, bptt = (data_parallel_seconds(2.0, PARAMETERS, rule, 4, link) - 2.0 for rule in ("local", "bptt"))
    assert local == pytest.approx(2 * 3 / 4 * 4 * PARAMETERS[-1] / 1e6)
    assert bptt == pytest.approx(2 * 3 / 4 * 4 * PARAMETERS[0] / 1e6)


def test_a_slow_link_is_all_that_counts():
    link = replace(ENDLESS, bytes_per_second=1.0, latency=0.5)
    expected = sum(2 * 1 / 2 * 4 * size + 2 * 0.5 for size in PARAMETERS)
    assert data_parallel_seconds(0.0, PARAMETERS, "local", 2, link) == pytest.approx(expected)


@pytest.mark.full
def test_two_processes_send_what_rises_or_their_gradients():
    """Layers: errors and expectations of a chunk. Data: all gradients, running variances, and what a row is made of."""
    layers = scaling.in_fresh_processes(Way(rule="local", parallel="layers"), QUICK)
    symbols = layers["symbols"]
    assert layers["bytes"] == 4 * QUICK.batch * QUICK.chunk * (symbols + QUICK.units + symbols)
    data = scaling.in_fresh_processes(Way(rule="local", parallel="data"), QUICK)
    gradients = 4 * (sum(data["parameters"]) + symbols)
    assert gradients < data["bytes"] < gradients + 1000 * QUICK.layers
    assert scaling.in_fresh_processes(Way(rule="bptt"), QUICK)["bytes"] == 0
