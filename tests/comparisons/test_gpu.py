"""The suite `gpu` at tiny sizes on the CPU: every stage leaves its record, and nothing that fails costs another.

No figure is tested: a machine that runs tests is not quiet.
"""

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comparisons import record
from comparisons.cost import gpu, gpu_kernels, gpu_record, gpu_report, gpu_stages, gpu_tools, gpu_updates, speed
from comparisons.cost.gpu_record import DONE, FAILED, INCOMPLETE, NO_TIME, SKIPPED, Context
from comparisons.cost.gpu_stages import STAGES
from comparisons.quality.contenders import CONTENDERS
from comparisons.quality.networks import size_of
from comparisons.suite import Request
from pcrnn import Categorical, PredictiveStack
from pcrnn.cli.main import main as pcrnn
from pcrnn.errors import PcrnnError, UsageError

ROOT = Path(record.__file__).parents[1]
STACK = speed.StackSetup(symbols=5, hidden=(4, 3), batch=2, chunk=6, rounds=3, threads=1)
ON_THE_CPU = [name for name, stage in STAGES.items() if not stage.needs_cuda]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """The folder of a whole run of the suite."""
    folder = tmp_path_factory.mktemp("gpu")
    assert pcrnn(["compare", "gpu", "--device", "cpu", "--budget", "300", "--out", str(folder)]) == 0
    return folder


def document(folder: Path) -> dict:
    return json.loads((folder / "gpu.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def numbers(tree) -> list[float]:
    """All numbers of a JSON document."""
    if isinstance(tree, dict | list):
        return [number for part in (tree.values() if isinstance(tree, dict) else tree) for number in numbers(part)]
    return [tree] if isinstance(tree, int | float) else []


@pytest.fixture
def context(tmp_path) -> Context:
    """Of a stage by the name of `a` with a minute left."""
    path = tmp_path / "gpu.json"
    gpu_record.write(path, gpu_record.opened(path, "cpu", True, {"gpu": None}))
    return Context(path=path, stage="a", device="cpu", tiny=True, deadline=time.monotonic() + 60)


# The whole suite


def test_every_stage_leaves_its_record(measured):
    stages = document(measured)["stages"]
    assert list(stages) == list(STAGES)
    for name, entry in stages.items():
        if name in ON_THE_CPU:
            assert (entry["status"], entry["reason"]) == (DONE, None), (measured / "gpu.log").read_text()
            assert entry["seconds"] > 0 and entry["results"]
        else:
            assert (entry["status"], entry["reason"]) == (SKIPPED, "needs CUDA")
    assert all(map(math.isfinite, numbers(stages)))


def test_what_the_stages_have_measured(measured):
    results = {name: entry["results"] for name, entry in document(measured)["stages"].items()}
    assert results["setup"]["backend"]["name"] == "reference"
    assert results["tests"]["op tests"]["tests"] >= 8 and results["tests"]["op tests"]["skipped"] == 0
    assert {"copy", "product bf16", "product tf32", "product fp32"} < results["ceilings"].keys()
    for label in ("scan", "gated_cell", "credit", "state_error", "categorical_error"):
        assert any(label in name for name in results["kernels"])
    assert all(kernel["share_of_copy"] > 0 for kernel in results["kernels"].values())
    assert set(results["training"]) == {"cascade", "layer", "bptt", "dropout", "bf16", "inference steps"}
    for rule in results["training"].values():
        assert set(map(max, rule["relative_differences"].values())) == {0.0}
        assert rule["tensors_that_differ_when_resumed"] == []
    for contest in ("tiny, bf16, eager", "tiny, tf32, eager", "tiny, fp32, eager"):
        learners = results["updates"][contest]["learners"]
        assert list(learners) == list(gpu_updates.LEARNERS)
        assert all(row["ms"] > 0 and row["speed_against_bptt"] > 0 for row in learners.values())
    assert all(result["top"] for result in results["profile"].values())
    assert all(result["tokens_per_second"] > 0 for result in results["speeds"].values())


def test_table_picture_and_sentences(measured):
    assert sorted(path.name for path in measured.iterdir()) == ["gpu.json", "gpu.log", "gpu.md", "gpu.png", "gpu.svg"]
    page = (measured / "gpu.md").read_text(encoding="utf-8")
    for title in (
        "Stages",
        "Ceilings",
        "Training",
        "Kernels",
        "Updates",
        "Where an update's time goes",
        "Training runs",
    ):
        assert f"\n## {title}" in page
    written = document(measured)
    assert len(written["rows"]) == 3 * len(gpu_updates.LEARNERS)
    equal, *speeds = written["summary"]
    assert equal.startswith("Largest relative difference of any metric") and "resumed / whole 0.0e+00" in equal
    assert len(speeds) == 3 and all("cascade, exact " in sentence and "bptt" not in sentence for sentence in speeds)


def test_a_second_call_skips_what_is_done_unless_it_is_named(measured, capsys):
    before = document(measured)["stages"]
    arguments = ["compare", "gpu", "--device", "cpu", "--out", str(measured)]
    assert pcrnn(arguments) == 0
    assert capsys.readouterr().err.count("was done before") == len(ON_THE_CPU)
    assert document(measured)["stages"] == before
    assert pcrnn([*arguments, "--stages", "setup"]) == 0
    assert "gpu: setup (versions, device, backend): done in " in capsys.readouterr().err
    assert document(measured)["stages"]["setup"]["results"] == before["setup"]["results"]


def test_a_spent_budget_starts_no_stage(tmp_path):
    request = Request(out=tmp_path, options={"device": "cpu", "budget": 1.0})
    assert [path.name for path in gpu.run(request)] == ["gpu.json", "gpu.md"]
    assert {document(tmp_path)["stages"][name]["reason"] for name in ON_THE_CPU} == {NO_TIME}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_without_a_gpu_it_is_refused_and_says_what_to_do(tmp_path, capsys):
    assert pcrnn(["compare", "gpu", "--out", str(tmp_path / "new")]) == 2
    assert "--device: expected a CUDA device, found none; use --device cpu" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_budget_below_zero_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--budget: expected a number of seconds above 0, got -1"):
        gpu.run(Request(out=tmp_path, options={"device": "cpu", "budget": -1.0}))


def test_a_record_of_another_device_is_not_continued(tmp_path):
    path = tmp_path / "gpu.json"
    gpu_record.write(path, gpu_record.opened(path, "cuda", False, {"gpu": "H"}))
    with pytest.raises(UsageError, match="expected a record of cpu at tiny sizes, got one of cuda; choose another"):
        gpu.run(Request(out=tmp_path, options={"device": "cpu"}))


def test_tiny_figures_do_not_go_where_the_evidence_is(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "QUICK_RESULTS", tmp_path)
    gpu.run(Request(options={"device": "cpu", "budget": 1.0}))
    assert (tmp_path / "gpu.json").exists()


# A stage and its end


def run_as(code: str, limit: float, tmp_path: Path) -> gpu.Outcome:
    return gpu.supervised([sys.executable, "-c", code], limit, tmp_path / "gpu.log")


def test_a_process_that_crashes_or_hangs_ends_with_its_reason(tmp_path):
    assert run_as("import sys; print('last words'); sys.exit(7)", 60, tmp_path).reason == "ended with status 7"
    assert "last words" in (tmp_path / "gpu.log").read_text()
    outcome = run_as("import time; time.sleep(600)", 0.3, tmp_path)
    assert outcome.reason == "timed out" and outcome.seconds < 30


def test_what_a_process_has_started_ends_with_it(tmp_path):
    """A child that would write a file a second later never does."""
    late = f"import pathlib, time; time.sleep(1); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    run_as(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}])", 60, tmp_path)
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_a_stage_that_dies_keeps_what_it_had_measured(context, monkeypatch):
    """And the next call goes on from there."""

    def dies(command, limit, log):
        replace(context, stage="setup").save("one", {"ms": 1.0})
        return gpu.Outcome("ended with status -9", 2.0)

    monkeypatch.setattr(gpu, "supervised", dies)
    told = gpu.in_turn("setup", context.path, gpu.Options(device="cpu"), time.monotonic() + 60)
    assert told == "failed: ended with status -9 in 2 s"
    entry = document(context.path.parent)["stages"]["setup"]
    assert (entry["status"], entry["results"]) == (FAILED, {"one": {"ms": 1.0}})

    def ends(command, limit, log):
        gpu_stages.run_stage("setup", replace(context, stage="setup"))
        return gpu.Outcome("ended with status 0", 3.0)

    monkeypatch.setattr(gpu, "supervised", ends)
    assert gpu.in_turn("setup", context.path, gpu.Options(device="cpu"), time.monotonic() + 60) == "done in 3 s"
    assert set(document(context.path.parent)["stages"]["setup"]["results"]) == {"one", "versions", "backend"}


def test_a_result_that_fails_costs_no_other(context):
    def fails():
        raise RuntimeError("out of memory")

    context.attempt("one", fails)
    context.attempt("two", lambda: {"ms": 1.0})
    context.attempt("not a number", lambda: {"ms": math.nan})
    results = context.results()
    assert results["one"] == {"failed": "RuntimeError: out of memory"}
    assert results["two"] == {"ms": 1.0}
    assert "JSON" in results["not a number"]["failed"]
    assert gpu_record.status_of(results) == FAILED
    context.attempt("one", lambda: {"ms": 2.0})  # what failed is tried again, what is there is not
    context.attempt("two", fails)
    assert (context.results()["one"], context.results()["two"]) == ({"ms": 2.0}, {"ms": 1.0})


def test_where_no_time_is_left_nothing_begins(context):
    late = replace(context, deadline=time.monotonic() + 0.5)
    late.attempt("one", lambda: pytest.fail("began"))
    assert late.results() == {"one": {"skipped": NO_TIME}}
    assert gpu_record.status_of(late.results()) == INCOMPLETE


def test_a_program_is_stopped_at_the_deadline(context):
    late = replace(context, deadline=time.monotonic() + 2.2)
    late.attempt("one", lambda: dict(code=late.call([sys.executable, "-c", "import time; time.sleep(600)"])[0]))
    assert late.results() == {"one": {"skipped": NO_TIME}}


def test_a_tool_that_is_not_installed_skips_its_stage(context, monkeypatch):
    monkeypatch.setattr(gpu_tools.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpu_tools, "glob", lambda pattern: [])
    for name in ("memcheck", "ncu"):
        gpu_stages.run_stage(name, replace(context, stage=name))
        entry = document(context.path.parent)["stages"][name]
        assert entry["status"] == SKIPPED and entry["reason"].endswith("is not installed")


# What stages measure


def test_rates_follow_from_the_bytes_that_an_op_moves():
    """Streams of [B, T, N], read or written, in bfloat16."""
    shape = gpu_kernels.Shape(2, 8, 4, 5)
    works = {work.label: work for work in gpu_kernels.elementwise(shape, torch.bfloat16, "cpu")}
    for label, streams in {"scan": 3, "scan, reverse": 3, "gated_cell": 7, "credit": 6, "state_error": 3}.items():
        assert works[label].bytes == streams * 2 * 8 * 4 * 2
    result = gpu_kernels.measured(works["scan"], "cpu", copy=1e-3)
    assert result["TB/s"] == pytest.approx(works["scan"].bytes / (result["ms"] / 1e3) / 1e12)
    assert result["share_of_copy"] == pytest.approx(result["TB/s"] / 1e-3)
    assert "share_of_copy" not in gpu_kernels.measured(works["scan"], "cpu")
    product = gpu_kernels.product((2, 3, 4), "fp32", "cpu")
    assert product["TFLOP/s"] == pytest.approx(2 * 2 * 3 * 4 / (product["ms"] / 1e3) / 1e12)


def test_arguments_that_do_not_fit_are_a_failure_among_results(context):
    def works():
        yield gpu_kernels.Work("one", list, 8.0)
        raise torch.OutOfMemoryError("too large")

    gpu_kernels.attempt_all(context, "B9", works())
    assert "ms" in context.results()["B9 one"]
    assert context.results()["B9 arguments"] == {"failed": "OutOfMemoryError: too large"}


def test_the_lstm_has_as_many_parameters_as_the_stack():
    setting = replace(STACK, symbols=65, hidden=(64, 64))
    width = gpu_updates.lstm_width(setting, multiple=1)
    stack = size_of(PredictiveStack(Categorical(65), (64, 64), num_taps=setting.delay))
    assert size_of(gpu_updates.LSTM(65, width, 2)) == pytest.approx(stack, rel=0.02)


def test_the_width_of_the_lstm_is_a_multiple_of_64():
    widths = {size: gpu_updates.lstm_width(setting) for size, setting in gpu_updates.SIZES.items()}
    assert [width % 64 for width in widths.values()] == [0, 0]
    for size, width in widths.items():
        assert abs(width - gpu_updates.lstm_width(gpu_updates.SIZES[size], multiple=1)) <= 32
    assert gpu_updates.lstm_width(STACK) < 64  # no multiple is as small


def test_the_default_rule_and_layer_chunk_are_among_the_rules():
    assert {"bptt", "layer, exact", "layer, chunk", "cascade, exact"} <= set(gpu_updates.RULES)
    options = {"rule": "local", "credit": "cascade", "trace": "exact"}
    assert CONTENDERS[gpu_updates.DEFAULT_RULE].options == options


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine where a CUDA graph cannot be captured")
def test_a_learner_that_does_not_run_is_a_row_that_says_why():
    for way in ("eager", "graph"):
        learners = gpu_updates.contest(STACK, "cpu", "fp32", way)["learners"]
        assert set(learners) == set(gpu_updates.LEARNERS)
        for row in learners.values():
            assert ("failed" in row) == ("ms" not in row) == (way == "graph")
    assert "CUDAGraph" in gpu_report.table([{"learner": k} | row for k, row in learners.items()], {"failed": "failed"})


def test_precisions_are_those_of_float32_products_too():
    before = torch.get_float32_matmul_precision()
    for precision, expected in (("bf16", "highest"), ("tf32", "high"), ("fp32", "highest")):
        with gpu_updates.matrix_products(precision) as dtype:
            assert torch.get_float32_matmul_precision() == expected
            assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
            assert dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert torch.get_float32_matmul_precision() == before


# Tests and tools


def junit(tmp_path: Path, counts: str, cases: str = "") -> Path:
    path = tmp_path / "tests.xml"
    path.write_text(f'<testsuites><testsuite {counts} time="1.5">{cases}</testsuite></testsuites>')
    return path


def test_a_run_of_tests_with_failures_or_without_tests_is_no_success(tmp_path):
    good = gpu_tools.outcomes(junit(tmp_path, 'tests="3" failures="0" errors="0" skipped="1"'))
    assert good == {"tests": 3, "failures": 0, "errors": 0, "skipped": 1, "seconds": 1.5}
    cases = (
        '<testcase name="a"><failure message="1 != 2"/></testcase><testcase name="b"><error message="no"/></testcase>'
    )
    bad = gpu_tools.outcomes(junit(tmp_path, 'tests="3" failures="1" errors="1" skipped="0"', cases))
    assert (bad["failed"], bad["failures"]) == ("2 of 3", ["a: 1 != 2", "b: no"])
    assert gpu_tools.outcomes(junit(tmp_path, 'tests="2" skipped="2"'))["failed"] == "no test ran"


def test_tests_that_cannot_start_are_a_failure(context, monkeypatch):
    """Beforehand they are tried without the plugin that runs several at a time."""
    commands = []

    def call(self, command, environment):
        commands.append(command)
        return 4, "no such file"

    monkeypatch.setattr(Context, "call", call)
    result = gpu_tools.tested(context, gpu_tools.TESTS, gpu_tools.WORKERS)
    assert result == {"failed": "pytest ended with status 4: no such file"}
    assert ["-n" in command for command in commands] == [True, False]


def test_the_tests_of_the_device_are_there():
    assert all((ROOT / path).exists() for path in gpu_tools.TESTS)


def test_a_tool_that_finds_an_error_fails_with_its_summary(context, monkeypatch):
    for output, code, failed in (("x\nERROR SUMMARY: 3 errors\n", 9, "ERROR SUMMARY: 3 errors"), ("x", 1, "status 1")):
        monkeypatch.setattr(Context, "call", lambda *_, said=output, rc=code: (rc, said))
        assert gpu_tools.watched(context, ["tool"]) == {"exit_code": code, "output": output, "failed": failed}
    monkeypatch.setattr(Context, "call", lambda *_: (0, "good"))
    assert gpu_tools.watched(context, ["tool"]) == {"exit_code": 0, "output": "good"}


def test_what_the_tools_watch_calls_every_op():
    assert gpu_tools.every_op("cpu") >= 2 * len(torch.ops.pcrnn._dir)


def test_the_kernels_that_are_profiled_exist():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pcrnn/ops/kernels").glob("*.py"))
    assert all(f"def {kernel}(" in sources for kernel in gpu_tools.PROFILED_KERNELS)


# Wheels, and the page that tells how to use all this


def test_wheels_of_the_tested_versions_are_downloaded(monkeypatch, tmp_path):
    commands = []

    def pip(command, **_):
        commands.append(command)
        (tmp_path / "tyro-1.0-py3-none-any.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(gpu.subprocess, "run", pip)
    assert gpu.prepare(tmp_path) == [tmp_path / "tyro-1.0-py3-none-any.whl"]
    (command,) = commands
    assert {"download", "--no-deps", "3.12", "cp", "manylinux2014_x86_64", *gpu.PACKAGES} <= set(command)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert all(f"\n{package}==" in pinned for package in gpu.PACKAGES)
    assert f"/{gpu.WHEELS.name}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    monkeypatch.setattr(
        gpu.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no net")
    )
    with pytest.raises(PcrnnError, match="--prepare: pip could not download the wheels: no net"):
        gpu.run(Request(options={"prepare": True}))


def test_the_page_names_flags_and_stages_that_exist(capsys):
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for command in (["train"], ["compare", "gpu"]):
        with pytest.raises(SystemExit):
            pcrnn([*command, "--help"])
    known = capsys.readouterr().out
    ours = re.sub(r"python3? -m pip .*", "", page)
    flags = set(re.findall(r"--[a-z][a-z-]+", ours))
    assert {"--device", "--precision", "--cuda-graph", "--budget", "--prepare", "--stages"} <= flags
    assert [flag for flag in sorted(flags) if f"{flag} " not in known and f"{flag}\n" not in known] == []
    assert all(f"| `{name}` | {stage.limit:g} |" in page for name, stage in STAGES.items())
    assert str(int(gpu.Options.budget)) in page
