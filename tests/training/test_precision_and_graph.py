"""bf16 products leave all else in float32; a CUDA graph is refused where there is no GPU, and falls back whole."""

from copy import deepcopy

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens where a capture fails")
def test_where_the_capture_fails_every_update_is_made_all_the_same(monkeypatch):
    seen, warnings = [], []

    def fail(*_):
        raise RuntimeError("no capture here\nand details")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    update = GraphedUpdate(lambda x: seen.append(int(x)), warnings.append)
    for step in range(WARM_UP + 3):
        update(torch.tensor(step))
    assert seen == list(range(WARM_UP + 3))
    assert warnings == ["no CUDA graph, going on without: no capture here"]
