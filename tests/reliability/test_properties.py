"""Properties of any size and any input, drawn by hypothesis: invariances of the model, bytes nobody expects."""

import json
import math
import shutil
import string
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import learning_rules
from pcrnn import Categorical, Chunk, Gaussian, PredictiveLayer, PredictiveStack
from pcrnn.analysis.evaluate import evaluate
from pcrnn.data import SeriesSource, open_source
from pcrnn.errors import CheckpointError, DataError
from pcrnn.nn.cells import CELLS
from pcrnn.nn.running_variance import RunningVariance
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.checkpoint import Checkpoint, load, save
from tests.identities.test_locality import (
    NEIGHBOURHOODS,
)
from tests.identities.test_locality import (
    test_update_is_bitwise_unchanged_when_all_outside_the_neighbourhood_changes as unchanged_when_all_outside_changes,
)
from tests.reliability.test_hostile_files import vouched_for

OPTIONS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
SYMBOLS = 4
WIRINGS = [{}, {"skip": "every-other"}, {"skip": "dense"}, {"top_down": True}, {"inference_steps": 2}]


@pytest.fixture
def float64() -> Iterator[None]:
    """A chunk's weight of each step is of torch's default dtype; in float32 identities end at 1e-8."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@st.composite
def stacks(draw: st.DrawFn) -> PredictiveStack:
    """Any architecture, in float64; running variances stand still, as the weights do."""
    torch.manual_seed(draw(st.integers(0, 999)))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    num_taps, mixing, cell = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.sampled_from(list(CELLS)))
    wiring = draw(st.sampled_from(WIRINGS))
    stack = PredictiveStack(Categorical(SYMBOLS), sizes, num_taps=num_taps, mixing=mixing, cell=cell, **wiring).double()
    for part in stack.modules():
        if isinstance(part, RunningVariance):
            part.half_life = None
            part.variance.uniform_(0.2, 2.0)
    return stack


@st.composite
def streams(draw: st.DrawFn) -> torch.Tensor:
    """Symbols [B, T + 1]."""
    shape = draw(st.integers(1, 3)), draw(st.integers(3, 12))
    return torch.randint(SYMBOLS, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))


def learned(rule, stack, pieces) -> list[torch.Tensor]:
    """Gradients of all parameters, summed over pieces of a stream; each weighs as many steps as it has."""
    stack.zero_grad()
    total = [torch.zeros_like(p) for p in stack.parameters()]
    state, carry = None, rule.init(stack, len(pieces[0]))
    for piece in pieces:
        stack.zero_grad()
        _, state, carry = rule.accumulate(stack, Chunk.of_stream(piece), state, carry)
        for sum_, p in zip(total, stack.parameters(), strict=True):
            sum_ += p.grad * (piece.shape[1] - 1) * len(piece)
    return total


@given(st.data(), st.sampled_from([(torch.float64, 1e-12), (torch.float32, 1e-5)]))
@settings(max_examples=40, **OPTIONS)
def test_a_surprise_does_not_depend_on_the_batch_or_on_how_the_sequence_is_cut(data, precision):
    """To rounding, of which matrix products of other shapes have another: 1e-12 in float64, 1e-5 nats in float32."""
    dtype, tolerance = precision
    stack, stream = data.draw(stacks()).to(dtype).eval(), data.draw(streams())
    lane, steps = data.draw(st.integers(0, len(stream) - 1)), stream.shape[1]
    cuts = sorted(data.draw(st.sets(st.integers(1, steps - 1), max_size=4)))
    with torch.no_grad():
        whole, state, parts = stack.observe(stream)[0].surprise[:, lane], None, []
        for first, end in pairwise([0, *cuts, steps]):
            activity, state = stack.observe(stream[lane : lane + 1, first:end], state)
            parts.append(activity.surprise[:, 0])
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_mean_surprise_of_a_validation_split_does_not_depend_on_lanes_and_chunks(batch):
    """To 1e-6 in float32, of a stack whose memory is shorter than the steps that lanes observe beforehand."""
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(0, 1, (2410, 2)).cumsum(0)
    source, stack = SeriesSource(values), PredictiveStack(Gaussian(2), (6, 5), max_time_constant=4.0)
    wanted = evaluate(stack, source, batch=1, chunk=1000).nats
    for chunk in (1, 7, 60):
        assert evaluate(stack, source, batch=batch, chunk=chunk).nats == pytest.approx(wanted, rel=1e-6)


@pytest.mark.usefixtures("float64")
def test_the_local_gradient_does_not_depend_on_how_the_sequence_is_cut(counts, injected):
    @settings(max_examples=counts.examples, **OPTIONS)
    @given(stacks(), streams(), st.sampled_from(["layer", "top"]), st.data())
    def holds(stack, stream, credit, data):
        rule = learning_rules.make("local", credit=credit)
        steps = stream.shape[1] - 1
        cuts = sorted(data.draw(st.sets(st.integers(1, steps - 1))))
        pieces = [stream[:, a : b + 1] for a, b in zip([0, *cuts], [*cuts, steps], strict=True)]
        whole, cut = learned(rule, stack, [stream]), learned(rule, stack, pieces)
        torch.testing.assert_close(cut, whole, rtol=1e-9, atol=1e-10)
        forward, state = [], None
        for piece in pieces:
            expectation, state = stack(piece[:, :-1], state)
            forward.append(expectation)
        torch.testing.assert_close(torch.cat(forward, 1), stack(stream[:, :-1])[0])

    holds()
    injected(counts.examples)


@pytest.mark.usefixtures("float64")
def test_sequences_of_a_batch_do_not_meet(counts, injected):
    @settings(max_examples=counts.examples, **OPTIONS)
    @given(stacks(), streams(), st.sampled_from([*NEIGHBOURHOODS, "bptt"]))
    def holds(stack, stream, credit):
        rule = learning_rules.make("bptt") if credit == "bptt" else learning_rules.make("local", credit=credit)
        together, _ = stack(stream)
        alone = [stack(row.unsqueeze(0))[0] for row in stream]
        torch.testing.assert_close(together, torch.cat(alone))
        rows = [learned(rule, stack, [row.unsqueeze(0)]) for row in stream]
        summed = [torch.stack(parts).sum(0) for parts in zip(*rows, strict=True)]
        torch.testing.assert_close(learned(rule, stack, [stream]), summed, rtol=1e-9, atol=1e-10)

    holds()
    injected(counts.examples)


def test_an_update_reads_its_neighbourhood_only_in_any_stack(counts, injected):
    @settings(max_examples=counts.examples, **OPTIONS)
    @given(
        st.lists(st.integers(1, 5), min_size=4, max_size=4), streams(), st.sampled_from(list(NEIGHBOURHOODS)), st.data()
    )
    def holds(sizes, stream, credit, data):
        cell, skip = (
            data.draw(st.sampled_from(list(CELLS))),
            data.draw(st.sampled_from(["none", "every-other", "dense"])),
        )
        mixing = data.draw(st.booleans())
        stack = PredictiveStack(Categorical(SYMBOLS), sizes, mixing=mixing, cell=cell, skip=skip)
        index = data.draw(st.integers(0, 3))
        unchanged_when_all_outside_changes(lambda hidden, skip: stack, stream, credit, index, skip)

    holds()
    injected(counts.examples)


def test_what_goes_in_comes_out_in_the_same_dtype_on_the_same_device_and_is_left_alone(counts, injected):
    @settings(max_examples=counts.examples, **OPTIONS)
    @given(
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), st.integers(1, 4), st.integers(1, 5),
        st.integers(1, 3), st.booleans(), st.booleans(),
    )  # fmt: skip
    def holds(dtype, width, steps, num_taps, mixing, batched):
        layer = PredictiveLayer(width, 3, observation=Gaussian(width), num_taps=num_taps, mixing=mixing).to(dtype)
        x = torch.randn(*([2] if batched else []), steps, width).to(dtype)
        kept = x.clone()
        output, state = layer(x)
        assert output.shape == (*x.shape[:-1], 3)
        assert {(part.dtype, part.device) for part in (output, *state)} == {(x.dtype, x.device)}
        again, _ = layer(x, state)
        assert again.dtype == dtype and torch.equal(x, kept)

    holds()
    injected(counts.examples)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(string.ascii_letters + "._0", min_size=1, max_size=9)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape)
    if draw(st.booleans()):
        numbers = draw(st.lists(st.floats(width=32), min_size=size, max_size=size))
        return torch.tensor(numbers, dtype=torch.float32).reshape(shape)
    dtype = draw(st.sampled_from([torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8]))
    return torch.arange(size).reshape(shape).to(dtype)


def bits(named: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """What torch.equal does not see: the dtype, the shape and the bits of NaN."""
    as_bytes = {name: tensor.contiguous().flatten().view(torch.uint8) for name, tensor in named.items()}
    return {name: (tensor.dtype, tensor.shape, as_bytes[name].tolist()) for name, tensor in named.items()}


def test_whatever_is_saved_is_loaded(tmp_path, counts, injected):
    named_tensors = st.dictionaries(NAMES, tensors(), max_size=3)
    document_names = st.text(string.ascii_lowercase, min_size=1, max_size=5)

    @settings(max_examples=counts.examples, **OPTIONS)
    @given(st.integers(0, 10**17), named_tensors, named_tensors, st.dictionaries(document_names, JSON, max_size=2))
    def holds(step, weights, trainer, documents):
        loaded = load(save(tmp_path, Checkpoint(step=step, weights=weights, trainer=trainer, documents=documents)))
        assert (loaded.step, loaded.documents) == (step, documents)
        assert (bits(loaded.weights), bits(loaded.trainer)) == (bits(weights), bits(trainer))

    holds()
    injected(counts.examples)


@pytest.mark.row(13)
def test_bytes_that_are_hardly_a_table_are_read_or_placed(tmp_path, counts, injected):
    """Fuzz of a CSV file: cells, separators, quotes and line ends in any order."""
    path = tmp_path / "table.csv"
    pieces = [b"1", b"-2.5e3", b"nan", b"inf", b"1e999", b"x", b",", b";", b"\t", b'"', b"\n", b"\r", b"\r\n", b"\0"]
    pieces += [b"\xff", b"\xef\xbb\xbf", "é".encode(), b" ", b"_", b"'", b"#", b"0x1", b"1,2\n" * 12]

    @settings(max_examples=4 * counts.examples, **OPTIONS)
    @given(st.lists(st.sampled_from(pieces), max_size=30).map(b"".join) | st.binary(max_size=60), st.booleans())
    def holds(content, missing):
        path.write_bytes(content)
        try:
            source = open_source(f"{path}?missing=skip" if missing else str(path))
        except DataError as error:
            assert str(error).startswith(str(path))
        else:
            values = source.sequence("train")
            assert not values.isinf().any() and (missing or not values.isnan().any())

    holds()
    injected(4 * counts.examples)


@pytest.mark.row(8)
@pytest.mark.parametrize("command", ["verify", "evaluate", "train"])
def test_any_signed_content_of_a_checkpoint_is_refused_or_right(program, run, tmp_path, counts, injected, command):
    """Fuzz by one who knows the format: any JSON in any document, any bytes in any file, the manifest redone."""
    copy, exits = tmp_path / "run", set()
    shutil.copytree(run, copy)
    path = copy / "checkpoints" / "step_4"
    whole = {file.stem: file.read_bytes() for file in path.iterdir() if file.stem != "manifest"}
    before, resume = (copy / "metrics.jsonl").read_bytes(), ("--resume", copy, "--steps", 5, "--no-plots")
    documents = {name: json.loads(whole[name]) for name in ("config", "data", "progress")}
    places = [(name, key) for name, document in documents.items() for key in document]
    places += [("config", f"settings.{key}") for key in documents["config"]["settings"]]
    places += [("data", f"state.{key}") for key in documents["data"]["state"]]

    @settings(max_examples=counts.examples, **OPTIONS)
    @given(st.data())
    def holds(data):
        name, key = data.draw(st.sampled_from([*places, ("weights", ""), ("trainer", "")]))
        if key:
            outer, _, inner = key.partition(".")
            changed = json.loads(whole[name])
            target = changed[outer] if inner else changed
            target[inner or outer] = data.draw(JSON)
            content = json.dumps(changed).encode()
        else:
            content = data.draw(st.binary(max_size=40)) + whole[name][data.draw(st.integers(0, 300)) :]
        shutil.rmtree(copy / "checkpoints")
        path.mkdir(parents=True)
        for stem, kept in whole.items():
            (path / (f"{stem}.safetensors" if stem in ("weights", "trainer") else f"{stem}.json")).write_bytes(kept)
        (path / "manifest.json").write_bytes((run / "checkpoints" / "step_4" / "manifest.json").read_bytes())
        (copy / "metrics.jsonl").write_bytes(before)
        vouched_for(path, **{name: content})
        called = program(command, *(resume if command == "train" else (copy,)))
        assert called.code in (0, 2, 3, 4, 5), called
        exits.add(called.code)

    holds()
    assert exits & {4, 0}
    injected(counts.examples)


@pytest.mark.row(3)
def test_any_bytes_in_place_of_a_file_are_noticed(tmp_path, counts, injected):
    path = save(tmp_path, Checkpoint(step=1, weights={"a": torch.ones(3)}, trainer={}, documents={"config": {"a": 1}}))
    files = sorted(path.iterdir())

    @settings(max_examples=4 * counts.examples, **OPTIONS)
    @given(st.sampled_from(files), st.binary(max_size=200), st.integers(0, 600), st.integers(0, 600))
    def holds(file, content, start, stop):
        whole = file.read_bytes()
        changed = whole[:start] + content + whole[stop:]
        file.write_bytes(changed)
        try:
            if changed != whole:
                with pytest.raises(CheckpointError):
                    load(path)
        finally:
            file.write_bytes(whole)

    holds()
    assert checkpoints.load(path).step == 1
    injected(4 * counts.examples)


FLAGS = [
    "--hidden", "--num-taps", "--credit", "--hops", "--trace", "--feedback", "--auxiliary", "--chunk", "--batch",
    "--lr", "--weight-decay", "--betas", "--dropout", "--warmup", "--clip", "--seed", "--device", "--precision",
    "--log-every",
    "--evaluate-every", "--checkpoint-every", "--keep-last", "--rule", "--tokens", "--data", "--out", "--resume",
    "--config", "--start", "--length", "--smooth", "--prompt", "--temperature", "--mixing", "--no-mixing",
    "--tensorboard", "--help", "--cuda-graph", "--no-plots", "--", "-h", "--nonsense",
]  # fmt: skip
COMMANDS = ["train", "evaluate", "plot all", "plot surprise", "plot", "sample", "verify", "info", ""]
VALUES = [
    "0", "1", "2", "3", "-1", "1e30", "nan", "inf", "", " ", "None", "true", "x", "9" * 30, "layer", "top", "hierarchy",
    "none", "chunk", "random", "local", "bptt", "bytes", "cpu", "cuda", "cuda:9", "meta", "text:", ".", "..",
    "RUN", "TEXT", "/dev/null", "/dev/zero", "nowhere", "é\udcff", "bf16", "0.5",
]  # fmt: skip


def test_no_command_line_ends_in_a_traceback(program, run, text, tmp_path, monkeypatch, counts, injected):
    """Any words after a subcommand, in this process: an exception that gets out of it fails the test."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    tiny = ["--data", str(text), "--hidden", "4", "--chunk", "8", "--batch", "2", "--no-plots"]
    word = (
        st.sampled_from(FLAGS) | st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=3)
    )
    exits = set()

    @settings(max_examples=4 * counts.examples, **OPTIONS)
    @given(st.sampled_from(COMMANDS), st.lists(word, max_size=6))
    def holds(command, words):
        if command == "sample":  # would be as long as it is asked to be
            words = [found for found in words if not found.startswith("99")]
        words = [str(run) if found == "RUN" else str(text) if found == "TEXT" else found for found in words]
        first = [*tiny, "--out", "out"] if command == "train" else []
        last = ["--steps", "1"] if command == "train" else []
        called = program(*command.split(), *first, *words, *last)
        assert called.code in (0, 1, 2, 3, 4, 5) and "Traceback" not in called.err, called
        exits.add(called.code)
        shutil.rmtree(tmp_path / "empty", ignore_errors=True)
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")

    holds()
    assert {0, 2} <= exits
    injected(4 * counts.examples)
