"""One update and the loop over data: equal to the program's own training to the bit, and what fit takes and refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import learning_rules
from pcrnn import Categorical, Chunk, Gaussian, PredictiveLayer, PredictiveStack
from pcrnn.config import OptimiserConfig, TrainConfig
from pcrnn.data import open_source
from pcrnn.errors import CheckpointError, DivergedError, UsageError
from pcrnn.runs.load import load_run
from pcrnn.training.fit import fit
from pcrnn.training.learner import Learner
from pcrnn.training.train import train

RULES = ("local", "bptt")


def settings(text, rule: str, **options) -> TrainConfig:
    tiny = {"hidden": (6, 5), "chunk": 7, "batch": 3, "steps": 100, "warmup": 5, "evaluate_every": 0}
    return TrainConfig(data=str(text), rule=rule, **tiny | options)


def new_stack(config: TrainConfig, symbols: int) -> PredictiveStack:
    torch.manual_seed(config.seed)
    return PredictiveStack(Categorical(symbols), config.hidden, **config.stack_options())


def waves(steps: int = 400, channels: int = 2) -> torch.Tensor:
    return torch.sin(torch.arange(float(steps)).unsqueeze(-1) / torch.arange(3.0, 3.0 + channels))


def equal(mine: dict, theirs: dict) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("rule", RULES)
def test_fit_equals_the_training_of_a_run_to_the_bit_after_100_updates(text, tmp_path, rule):
    config = settings(text, rule)
    source = open_source(str(text))
    by_program = train(config, tmp_path / "run").stack
    stack = new_stack(config, source.observation().size)
    learner = fit(
        stack, source.sequence("train"), rule=rule, batch=config.batch, chunk=config.chunk, steps=100, optimiser=config
    )
    assert learner.updates == 100 and equal(stack.state_dict(), by_program.state_dict())


@pytest.mark.parametrize("rule", RULES)
def test_a_learner_put_back_where_it_was_goes_on_as_if_it_had_never_stopped(rule):
    chunks = [Chunk.of_stream(x) for x in torch.randint(5, (8, 3, 9), generator=torch.Generator().manual_seed(1))]

    def make() -> Learner:
        torch.manual_seed(0)
        return Learner(PredictiveStack(Categorical(5), (6, 4)), rule, batch=3)

    whole, first, second = make(), make(), make()
    for chunk in chunks:
        whole.step(chunk)
    for chunk in chunks[:5]:
        first.step(chunk)
    saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    second.load_state_dict(saved)
    for chunk in chunks[5:]:
        second.step(chunk)
    assert second.updates == 8 and equal(whole.state_dict(), second.state_dict())


def test_a_state_dict_holds_weights_optimiser_state_traces_and_updates():
    learner = Learner(PredictiveStack(Categorical(5), (4,)), batch=2)
    learner.step(Chunk.of_stream(torch.randint(5, (2, 4))))
    names = learner.state_dict().keys()
    for name in (
        "stack.layers.0.weight", "optimiser.layers.0.weight.exp_avg", "state.layers.0.cell", "carry.traces.0.weight",
        "updates",
    ):  # fmt: skip
        assert name in names


def test_a_state_dict_of_another_stack_is_refused_with_all_that_differs():
    small, large = (Learner(PredictiveStack(Categorical(5), (units,)), batch=2) for units in (4, 6))
    with pytest.raises(CheckpointError, match=r"(?s)stack.layers.0.bias: expected \[18\] .*, found \[12\].*state"):
        large.load_state_dict(small.state_dict())
    with pytest.raises(CheckpointError, match="expected the state_dict of a Learner, got one without 'updates'"):
        large.load_state_dict({})


def test_an_update_over_several_chunks_is_one_step_with_their_mean_gradient():
    """For BPTT with the state carried, the mean over chunks of the gradient with frozen weights."""
    x = torch.randint(5, (3, 13), generator=torch.Generator().manual_seed(2))
    chunks = [Chunk.of_stream(x[:, :7]), Chunk.of_stream(x[:, 6:])]
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(5), (4,), normalize_errors=False)
    rule = learning_rules.make("bptt")
    state, wanted = None, PredictiveStack(Categorical(5), (4,), normalize_errors=False)
    wanted.load_state_dict(stack.state_dict())
    for chunk in chunks:
        _, state, _ = rule.accumulate(wanted, chunk, state, ())
    learner = Learner(stack, rule, torch.optim.SGD(stack.parameters(), lr=1.0), batch=3, clip=0)
    before = {name: parameter.clone() for name, parameter in stack.named_parameters()}
    learner.step_over(chunks)
    assert learner.updates == 1
    for name, parameter in wanted.named_parameters():
        moved = before[name] - dict(stack.named_parameters())[name]
        torch.testing.assert_close(moved, parameter.grad / 2)


@pytest.mark.parametrize("rule", RULES)
def test_a_chunk_that_is_not_finite_changes_nothing_and_the_learner_goes_on(rule):
    torch.manual_seed(0)
    learner = Learner(PredictiveStack(Gaussian(2), (6, 6)), rule, batch=2)
    chunk = Chunk.of_stream(waves()[:20].view(2, 10, 2))
    learner.step(chunk)
    kept = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    bad = chunk.observations.clone()
    bad[1, 4] = 3e38
    with pytest.raises(DivergedError, match="update 2"):
        learner.step(Chunk.of_stream(bad))
    for name, tensor in learner.state_dict().items():
        carried = name.startswith(("state.", "carry."))
        assert tensor.isfinite().all() and (carried or torch.equal(tensor, kept[name])), name
    assert learner.step(chunk).loss.isfinite() and learner.updates == 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["numpy", "one sequence", "several sequences", "chunks"])
def test_fit_learns_from_whatever_holds_the_data(rule, kind):
    x = waves()
    data = {
        "numpy": x.double().numpy(),
        "one sequence": x,
        "several sequences": torch.stack([x[:200], x[200:]]),
        "chunks": (Chunk.of_stream(x[start : start + 21].view(1, 21, 2)) for start in [*range(0, 360, 20)] * 4),
    }[kind]
    torch.manual_seed(0)
    losses: list[float] = []
    learner = fit(
        PredictiveStack(Gaussian(2), (8, 8)),
        data,
        rule=rule,
        batch=2,
        chunk=20,
        epochs=None if kind == "chunks" else 8,
        optimiser=OptimiserConfig(lr=1e-2, warmup=5),
        callback=lambda learner, result: losses.append(result.loss.item()),
    )
    assert (
        learner.updates == len(losses) == (72 if kind == "chunks" else 72 if "one" in kind or kind == "numpy" else 80)
    )
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_symbols_and_a_single_layer_are_fit_too():
    symbols = np.tile([0, 1, 2, 3], 50)
    learner = fit(PredictiveStack(Categorical(4), (6,)), symbols, batch=2, chunk=10, epochs=1)
    assert learner.updates == 9
    assert fit(PredictiveLayer(2, 6), waves(), rule="bptt", batch=2, chunk=20, epochs=1).updates == 9


def test_every_sequence_begins_anew_in_each_pass():
    states = []
    data = torch.randint(4, (3, 11))
    stack = PredictiveStack(Categorical(4), (5,), normalize_errors=False)
    frozen = torch.optim.SGD(stack.parameters(), lr=0.0)
    fit(
        stack, data, chunk=5, epochs=2, optimiser=frozen,
        callback=lambda learner, _: states.append(learner.state.layers[0].cell.clone()),
    )  # fmt: skip
    assert len(states) == 4 and not torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2]) and torch.equal(states[1], states[3])


def test_an_own_optimiser_schedule_and_clip_are_used():
    rates = []
    stack = PredictiveStack(Gaussian(2), (4,))
    optimiser = torch.optim.SGD(stack.parameters(), lr=0.5)
    fit(
        stack, waves(), batch=2, chunk=20, steps=4, optimiser=optimiser, schedule=lambda update: 0.1 / (1 + update),
        callback=lambda learner, _: rates.append(learner.optimiser.param_groups[0]["lr"]),
    )  # fmt: skip
    assert rates == [0.1, 0.05, 0.1 / 3, 0.025]
    weights = stack.layers[0].weight.detach().clone()
    fit(stack, waves(), batch=2, chunk=20, steps=1, optimiser=torch.optim.SGD(stack.parameters(), lr=1.0), clip=1e-3)
    assert 0 < (stack.layers[0].weight - weights).norm() <= 1e-3 * 1.0001


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_every_group_is_clipped_as_torch_clips(clip):
    learner, x = Learner(PredictiveStack(Gaussian(2), (4, 3)), batch=2, clip=clip), waves(22).view(2, 11, 2)
    learner.rule.accumulate(learner.model, Chunk.of_stream(x), learner.state, learner.carry)
    groups = [[parameter for parameter in group if parameter.grad is not None] for group in learner.groups.values()]
    gradients = [[parameter.grad.clone() for parameter in group] for group in groups]
    norms = learner._clip()
    for group, before, norm in zip(groups, gradients, norms, strict=True):
        clipped = [parameter.grad.clone() for parameter in group]
        for parameter, gradient in zip(group, before, strict=True):
            parameter.grad.copy_(gradient)
        torch.testing.assert_close(torch.nn.utils.clip_grad_norm_(group, clip), norm)
        torch.testing.assert_close([parameter.grad for parameter in group], clipped)


def test_training_goes_on_with_a_learner_and_ends_when_the_callback_says_so():
    stack = PredictiveStack(Gaussian(2), (4,))
    learner = fit(stack, waves(), batch=2, chunk=20, steps=3)
    assert fit(stack, waves(), batch=2, chunk=20, steps=3, learner=learner) is learner and learner.updates == 6
    stopped = fit(stack, waves(), batch=2, chunk=20, steps=9, callback=lambda learner, _: learner.updates == 2)
    assert stopped.updates == 2


@pytest.mark.parametrize("optimiser", [None, "sgd"])
def test_no_step_is_made_with_a_number_that_is_not_finite(optimiser):
    stack = PredictiveStack(Gaussian(2), (4, 4))
    own = torch.optim.SGD(stack.parameters(), lr=0.1) if optimiser else None
    learner = Learner(stack, "local", own, batch=2)
    x = waves()[:42].view(2, 21, 2)
    learner.step(Chunk.of_stream(x))
    before = {name: tensor.clone() for name, tensor in stack.named_parameters()}
    saved = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    learner.state.layers[1].cell.fill_(float("nan"))
    with pytest.raises(DivergedError, match="update 2: expected finite numbers, but the surprise of layer 2"):
        learner.step(Chunk.of_stream(x))
    assert learner.updates == 1
    assert all(torch.equal(before[name], parameter) for name, parameter in stack.named_parameters())
    learner.load_state_dict(saved)
    learner.step(Chunk.of_stream(x))
    assert not all(torch.equal(before[name], parameter) for name, parameter in stack.named_parameters())


def test_what_fit_cannot_take_is_refused_with_the_fix():
    stack, x = PredictiveStack(Gaussian(2), (4,)), waves()
    with pytest.raises(UsageError, match=r"expected data \[T, D\] or \[B, T, D\] real values, got \[400\]; reshape it"):
        fit(stack, x[:, 0])
    with pytest.raises(UsageError, match="expected steps or epochs, got steps 3 and epochs 2; leave one out"):
        fit(stack, x, steps=3, epochs=2)
    with pytest.raises(UsageError, match="expected steps, or neither, for an iterable of chunks, got epochs 2"):
        fit(stack, [Chunk.of_stream(x[:21].view(1, 21, 2))], epochs=2)
    with pytest.raises(UsageError, match=r"expected at least one chunk, got an iterable without any"):
        fit(stack, [])
    with pytest.raises(UsageError, match=r"an iterable of Chunk, got one of Tensor; make chunks with Chunk\.of_stream"):
        fit(stack, [x])
    with pytest.raises(ValueError, match="rule: expected one of local, bptt, got 'lokal'; did you mean 'local'"):
        fit(stack, x, rule="lokal")
    other = Learner(PredictiveStack(Gaussian(2), (4,)), batch=2)
    with pytest.raises(UsageError, match="expected a learner of this stack and of 2 lanes, got one of another stack"):
        fit(stack, x, batch=2, chunk=20, learner=other)
    with pytest.raises(UsageError, match="expected no clip beside a learner, which has its own; leave it out"):
        fit(other.model, x, batch=2, clip=1.0, learner=other)


def test_an_array_becomes_a_run_and_is_resumed(tmp_path):
    from pcrnn.data import SeriesSource

    source = SeriesSource(waves().double().numpy(), name="waves")
    config = TrainConfig(data="waves", hidden=(4,), batch=2, chunk=10, steps=4, warmup=1, evaluate_every=0)
    done = train(config, tmp_path / "run", source=source)
    assert (tmp_path / "run" / "metrics.csv").is_file() and done.step == 4
    longer = train(replace(config, steps=6), tmp_path / "run", source=source, resume=True)
    assert longer.step == 6
    run = load_run(tmp_path / "run", checkpoint="newest", source=source, device="cpu")
    assert run.step == 6 and run.source is source
    assert all(torch.equal(run.stack.state_dict()[k], v.cpu()) for k, v in longer.stack.state_dict().items())
