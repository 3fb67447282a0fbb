"""bf16 products leave all else in float32; a CUDA graph is refused where there is no GPU, and falls back whole."""

from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

import learning_rules
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.training import train
from pcrnn.training.cuda_graph import WARM_UP, GraphedUpdate


@pytest.mark.parametrize(("name", "options"), [("local", {"credit": "layer"}), ("local", {}), ("bptt", {})])
def test_bf16_products_keep_states_traces_and_gradients_in_float32(name, options):
    torch.manual_seed(0)
    fresh = PredictiveStack(Categorical(7), (16, 16))
    rule = learning_rules.make(name, **options)
    chunk = Chunk.of_stream(torch.randint(7, (4, 17)))
    gradients = []
    for half in (False, True):
        stack = deepcopy(fresh)  # running variances move
        state, carry = None, rule.init(stack, 4)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                _, state, carry = rule.accumulate(stack, chunk, state, carry)
        tensors = [part for layer in state.layers for part in layer]
        tensors += [part for trace in getattr(carry, "traces", ()) for part in trace]
        assert {t.dtype for t in [*tensors, *(p.grad for p in stack.parameters())]} == {torch.float32}
        gradients.append(torch.cat([p.grad.flatten() for p in stack.parameters()]))
    distance = (gradients[1] - gradients[0]).norm() / gradients[0].norm()
    assert 1e-5 < distance < 3e-2  # bfloat16 keeps 8 bits: about 2^-8 a product


def test_a_cuda_graph_is_refused_on_the_cpu(tmp_path):
    with pytest.raises(UsageError, match="cuda_graph: expected a CUDA device, got cpu; leave it out"):
        train.train(TrainConfig(device="cpu", cuda_graph=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# A capture that fails, with a fake of torch.cuda


class FakeCuda:
    """What GraphedUpdate uses of torch.cuda: `torch.cuda.graph` takes the stream and raises where a capture ends."""

    def __init__(self, monkeypatch, breaks: bool = True) -> None:
        self.stream, self.random = SimpleNamespace(device_index=0, name="main"), "before the capture"
        self.breaks = breaks
        fakes = {
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.replays.append(int(self.update.x[0]))),
            "synchronize": lambda: None,
            "current_stream": lambda: self.stream,
            "set_stream": lambda stream: setattr(self, "stream", stream),
            "default_generators": [self],
            "graph": self.graph,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        self.replays: list[int] = []
        self.update: GraphedUpdate

    @contextmanager
    def graph(self, _):
        before, self.stream, self.random = self.stream, SimpleNamespace(device_index=0, name="capture"), "capturing"
        try:
            yield
        finally:
            if self.breaks:  # as torch's does, which then stays on the capture's stream
                raise RuntimeError("operation failed due to a previous error during capture")
        self.stream, self.random = before, "captured"

    def clone_state(self):
        return self.random

    def graphsafe_set_state(self, state):
        self.random = state


def test_where_the_capture_fails_every_update_is_made_all_the_same(monkeypatch):
    """The process is back on its own stream, its random numbers go on, and the warning is of the first error."""
    cuda, seen, warnings = FakeCuda(monkeypatch), [], []

    def update(x):
        if cuda.stream.name == "capture":
            raise RuntimeError("no capture here\nand details")
        seen.append(int(x))

    graphed = GraphedUpdate(update, warnings.append)
    for step in range(WARM_UP + 3):
        graphed(torch.tensor(step))
    assert seen == list(range(WARM_UP + 3))
    assert warnings == ["no CUDA graph, going on without: no capture here"]
    assert (cuda.stream.name, cuda.random) == ("main", "before the capture")


def test_an_error_of_another_kind_is_raised_from_the_stream_the_update_began_on(monkeypatch):
    cuda = FakeCuda(monkeypatch, breaks=False)

    def update(x):
        if cuda.stream.name == "capture":
            raise KeyError("a defect")

    graphed = GraphedUpdate(update, pytest.fail)
    for step in range(WARM_UP):
        graphed(torch.tensor(step))
    with pytest.raises(KeyError, match="a defect"):
        graphed(torch.tensor(WARM_UP))
    assert (cuda.stream.name, cuda.random) == ("main", "before the capture")


def test_a_captured_update_is_replayed_on_what_each_chunk_holds(monkeypatch):
    cuda, seen = FakeCuda(monkeypatch, breaks=False), []
    cuda.update = graphed = GraphedUpdate(lambda x: seen.append(int(x)), pytest.fail)
    for step in range(WARM_UP + 3):
        graphed(torch.tensor(step))
    assert seen == [*range(WARM_UP), WARM_UP]  # the last of them recorded, not run
    assert cuda.replays == [WARM_UP, WARM_UP + 1, WARM_UP + 2]


def test_a_captured_update_refuses_a_chunk_of_another_shape(monkeypatch):
    """Copied into the captured chunk's place it would be broadcast."""
    FakeCuda(monkeypatch, breaks=False)
    graphed = GraphedUpdate(lambda x: None, pytest.fail)
    graphed.graph, graphed.x = SimpleNamespace(replay=lambda: None), (torch.zeros(2, 3),)
    with pytest.raises(ValueError, match=r"expected the shapes .* \[\(2, 3\)\], got \[\(1, 3\)\]"):
        graphed(torch.zeros(1, 3))
