"""The suites of comparisons/ at tiny sizes: the contenders compute the same, records are whole, red tests refuse.

No figure is tested: a machine that runs tests is not quiet.
"""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from comparisons import record
from comparisons.cost import memory, naive, ops, speed
from comparisons.suite import Request

STACK = speed.StackSetup(symbols=5, hidden=(4, 3), batch=2, chunk=6, rounds=3, threads=1)
GREEN, RED = (sys.executable, "-c", "pass"), (sys.executable, "-c", "print('13 failed'); raise SystemExit(1)")
ROOT = record.ROOT


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# A comparison is fair only between things that compute the same


@pytest.mark.parametrize("label", naive.CASES)
def test_a_naive_form_computes_what_its_op_does(label, float64):
    """Results and whatever is updated in place; the naive update returns nothing, its results are in its arguments."""
    case = naive.CASES[label]
    arguments = case.arguments(naive.Shape(2, 5, 3), 4)
    by_op, by_naive = deepcopy(arguments), deepcopy(arguments)
    result, expected = case.op(*by_op), case.naive(*by_naive)
    if expected is not None:
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-12)
    changed = 0
    for actual, wanted, before in zip(*map(tensors, (by_op, by_naive, arguments)), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-12)
        changed += not torch.equal(wanted, before)
    assert (changed > 0) == label.partition(",")[0].endswith("_")


@pytest.mark.parametrize("label", [label for label, case in naive.CASES.items() if case.differentiable])
def test_a_naive_form_has_the_gradient_of_its_op(label, float64):
    case = naive.CASES[label]
    arguments = case.arguments(naive.Shape(2, 5, 3), 4)
    leaves = [arguments[k].requires_grad_() for k in case.differentiable]

    def gradients(function) -> tuple[Tensor, ...]:
        return torch.autograd.grad(sum(result.sin().sum() for result in tensors(function(*arguments))), leaves)

    torch.testing.assert_close(gradients(case.op), gradients(case.naive), rtol=1e-9, atol=1e-12)


# Records


def test_the_ops_suite_writes_every_section(tmp_path, monkeypatch):
    monkeypatch.setattr(ops, "peak_mib_in_fresh_process", lambda label, setup: 1.5)
    setup = ops.OpsSetup(batches=(1, 2), steps=(6,), units=(3, 4), budget=0.0, stack=STACK)
    told: list[str] = []
    paths = ops.report(setup, Request(out=tmp_path, tell=told.append))
    assert [path.name for path in paths] == ["ops.json", "ops.md", "ops.png", "ops.svg"]
    assert len(told) == 4
    written = read_record(tmp_path / "ops.json")
    assert {row["op"] for row in written["rows"]} == set(naive.CASES)
    assert {(row["batch"], row["units"]) for row in written["rows"]} == {
        (1, 3),
        (1, 4),
        (2, 3),
        (2, 4),
        (1, None),
        (2, None),
    }
    assert [row["rule"] for row in written["stack"]] == ["bptt", "top, chunk", "top, exact"]
    assert len(written["update"]) == 3 * len(setup.shapes)
    for row in written["matrix_products"]:
        assert 0 < row["share_of_matrix_products"] < 1
        assert row["bound_of_a_fused_cpu_kernel"] == pytest.approx(1 / row["share_of_matrix_products"])
    tables = paths[1].read_text(encoding="utf-8")
    assert f"\ndate {date.today()}, " in tables
    for heading in ("| op | pass | B | T | N | op, ms |", "| peak memory, MiB |", "| bound of a fused kernel |"):
        assert heading in tables


LATENCY = speed.LatencySetup(symbols=5, hidden=(4, 3), warm_up=1, block=4, rounds=2)


def test_latency_has_a_row_for_every_kind_of_learner():
    rows = speed.latency_rows(LATENCY)
    assert len(rows) == 3 * 2 * 2
    for row in rows:
        assert row["symbols"] == 8
        assert 0 < row["median_us"] <= row["ninety_percent_us"]


def test_latency_is_of_learning_between_symbols():
    """A symbol that keeps coming is expected more and more; without an update the state alone would settle."""
    read = speed.online_learner("top", 1, "SGD", speed.LatencySetup(symbols=5, hidden=(4, 3)))
    surprises = [-read(torch.tensor([[2]])).log_softmax(-1)[0, 0, 2].item() for _ in range(200)]
    assert surprises[199] < surprises[100] < surprises[50]


def test_the_speed_suite_gives_a_figure_for_every_rule_and_size(tmp_path):
    rows = speed.compare(STACK)
    setup = speed.SpeedSetup(base=STACK, threads=(1,), batch=(1, 2), units=(3, 4), layers=(1, 2), budget=0.0)
    along = speed.along_axes(setup, STACK)
    latency = speed.latency_rows(LATENCY)
    paths = speed.write(rows, along, latency, setup, tmp_path)
    assert [path.name for path in paths] == ["speed.json", "speed.md", "speed.png", "speed.svg"]
    written = read_record(paths[0])
    assert {row["rule"] for row in written["rows"]} == set(speed.RULES)
    sizes = {(row["axis"], row["at"], row["rule"]) for row in written["axes"]}
    wanted = {("batch", 1), ("batch", 2), ("units", 3), ("units", 4), ("layers", 1), ("layers", 2)}
    assert sizes == {(*place, rule) for place, rule in product(wanted, speed.AXES_LEARNERS)}
    assert {(row["batch"], row["units"], row["layers"]) for row in along if row["axis"] == "layers"} == {
        (2, 4, 1),
        (2, 4, 2),
    }
    assert all(row["tokens_per_second"] > 0 for row in written["rows"] + written["axes"])
    assert written["latency"] == latency
    assert "| credit | delay | optimiser |" in paths[1].read_text(encoding="utf-8")
    assert written["summary"][-1].startswith("Learning from one symbol and expecting the next takes ")


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_the_memory_suite_measures_both_rules(rule):
    setup = memory.MemorySetup(symbols=5, hidden=(4, 3), batch=2, chunk=8)
    mib, tokens_per_second = memory.measure(rule, 16, setup)
    assert mib >= 0
    assert tokens_per_second > 0


def test_bptt_is_not_run_beyond_its_budget(monkeypatch, tmp_path):
    """It takes 1 MiB a step here, so 512 steps are forecast from 256, and everything longer is left out, too."""
    setup = replace(memory.QUICK, lengths=(128, 256, 512, 1024), budget_mib=300)
    monkeypatch.setattr(memory, "QUICK", setup)
    monkeypatch.setattr(memory, "in_fresh_process", lambda rule, n, setup: (n if rule == "bptt" else 40.0, 1000))
    paths = memory.run(Request(quick=True, out=tmp_path))
    assert [path.name for path in paths] == ["memory.json", "memory.md", "memory.png", "memory.svg"]
    written = read_record(paths[0])
    assert [row["bptt_mib"] for row in written["rows"]] == [128, 256, None, None]
    assert [row["local_mib"] for row in written["rows"]] == [40.0] * 4
    assert "adds 100 % to BPTT, 0.0 % to it." in written["summary"][0]


def test_memory_is_measured_in_a_fresh_process():
    mib, tokens_per_second = memory.in_fresh_process("bptt", 64, replace(memory.QUICK, hidden=(500,)))
    assert 8 < mib < 500  # weights, gradients and two moments of a 500 x 500 predictor alone are 4 MB
    assert tokens_per_second > 0


def test_the_peak_of_an_update_is_measured_in_a_process_of_its_own():
    """Weights, gradients and AdamW's two moments of a 1000 x 1000 predictor alone are 15 MiB."""
    setup = replace(STACK, hidden=(1000,))
    assert 15 < ops.peak_mib_in_fresh_process("layer, chunk", setup) < 500


# Red tests


def test_red_tests_give_one_line_status_1_and_no_figures(tmp_path):
    code = (
        "import sys\nfrom comparisons.cost import ops\nfrom comparisons.__main__ import main\n"
        f"ops.TESTS = {RED!r}\nsys.exit(main(['ops', '--quick']))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-c", code]
    scores = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert scores.returncode == 1
    assert scores.stdout == ""
    assert "the ops' tests are red, so no figures (13 failed)" in scores.stderr
    assert len(scores.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_green_tests_let_the_suite_measure(monkeypatch):
    measured = []
    monkeypatch.setattr(ops, "report", lambda *arguments: measured.append(arguments))
    monkeypatch.setattr(ops, "TESTS", GREEN)
    ops.run(Request(quick=True))
    ops.run(Request())
    (quick, quick_request), (full, request) = measured
    assert (quick, full) == (ops.QUICK, ops.OpsSetup())
    assert (quick_request.out, request.out) == (record.QUICK_RESULTS, record.RESULTS)


# Tables and turns


def test_a_table_has_four_digits_and_blanks_for_what_is_missing():
    rows = [{"name": "a", "ms": 12.34567, "n": 7}, {"name": "b", "ms": None}]
    expected = "| rule | ms | N |\n|---|---|---|\n| a | 12.35 | 7 |\n| b |  |  |"
    assert record.table(rows, {"name": "rule", "ms": "ms", "n": "N"}) == expected


def test_contenders_take_turns_after_a_round_that_warms_up():
    calls = []
    times = record.in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 4)
    assert "".join(calls) == "ab" * 5
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 4}


def test_a_spent_budget_leaves_the_least_rounds():
    assert len(record.in_turns({"a": list}, 100, budget=0.0)["a"]) == record.MIN_ROUNDS


def test_a_figure_that_is_not_a_number_is_no_record(tmp_path):
    """JSON has no NaN: a reader would fail long after."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.write("speed", {}, [{"ms": float("nan")}], tmp_path)


def read_record(path: Path) -> dict:
    """A suite's record, with the environment that every record has."""
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["suite"] == path.stem
    around = written["environment"]
    assert around["date"] == date.today().isoformat()
    assert around["torch"] == torch.__version__
    assert {"processor", "cores", "threads", "gpu", "python", "pcrnn", "backend", "system"} <= around.keys()
    return written


def tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
