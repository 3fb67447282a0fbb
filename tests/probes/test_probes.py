"""Each instrument against a closed form, or against a simulation of what it predicts."""

import math
import re
import typing

import pytest
import torch

from pcrnn import Categorical, Gaussian, PredictiveStack, StudentT
from pcrnn.analysis.probes import euler, frequency, impulse, jacobian, noise, timescales
from pcrnn.analysis.probes.drive import directions, driven, falls, quiet, statistics
from pcrnn.analysis.probes.euler import field, solve
from pcrnn.analysis.probes.frequency import leaky_half_power, leaky_transfer
from pcrnn.analysis.probes.jacobian import System
from pcrnn.errors import UsageError
from pcrnn.nn.cells import CELLS
from pcrnn.ops.reference import RMS_EPSILON
from tests.conftest import set_unit

pytestmark = pytest.mark.usefixtures("float64")


def leaky(hidden=(6,), strength=0.0, num_taps=1, **options):
    """A stack of leaky cells over a series of 3 channels; R is `strength` times the identity."""
    stack = PredictiveStack(Gaussian(3), hidden, cell="leaky", num_taps=num_taps, max_time_constant=16.0, **options)
    for layer in stack.layers:
        layer.cell.recurrent.data = strength * torch.eye(layer.hidden_size)
    return stack


def constant_gates(decay):
    """A gated layer whose decays are these numbers whatever it hears."""
    units = len(decay)
    stack = PredictiveStack(Gaussian(3), (units,), num_taps=1)
    layer = stack.layers[0]
    layer.weight.data[units : 2 * units] = 0
    layer.bias.data[units : 2 * units] = torch.logit(decay)
    return stack


def heard(stack, lanes):
    """What every unit's candidate hears of each lane's direction, [B, N]."""
    layer = stack.layers[0]
    return directions(stack, lanes) @ layer.weight[: layer.hidden_size].T


def test_a_driven_stack_does_with_statistics_what_the_stack_does_with_symbols():
    stack = PredictiveStack(Categorical(5), (4, 3))
    x = torch.randint(5, (2, 9))
    wanted, _ = stack.observe(x)
    found, _ = driven(stack).observe(statistics(stack, x))
    torch.testing.assert_close(found.expectation, wanted.expectation)
    torch.testing.assert_close(found.layers[1].error, wanted.layers[1].error)


@pytest.mark.parametrize("options", [{}, {"inference_steps": 2}, {"top_down": True}, {"skip": "dense"}])
@pytest.mark.parametrize("family", [Gaussian, StudentT])
def test_a_driven_stack_does_the_same_as_the_stack_with_a_series_and_its_gaps(options, family):
    stack = PredictiveStack(family(2), (4, 3), **options)
    for level in stack.levels:
        level.observation.running.variance.uniform_(0.5, 4.0)
    set_unit(stack, 10)  # so that some errors are cut off
    x = torch.randn(2, 9, 2)
    x[0, 3, 1] = x[1, 5] = math.nan
    wanted, _ = stack.observe(x)
    found, _ = driven(stack).observe(statistics(stack, x))
    assert (wanted.layers[0].message.error.abs() == 16).any()
    torch.testing.assert_close(found.expectation, wanted.expectation)
    torch.testing.assert_close(found.layers[1].state_error, wanted.layers[1].state_error)


@pytest.mark.parametrize("measure", [frequency, impulse, jacobian, timescales])
@pytest.mark.parametrize("family", [Categorical(4), Gaussian(2)])
def test_a_stack_with_inference_steps_is_measured(measure, family):
    stack = PredictiveStack(family, (4, 3), inference_steps=2)
    x = torch.randint(4, (2, 48)) if family.symbolic else torch.randn(2, 48, 2)
    assert measure(stack, x).table()


def test_nothing_goes_up_when_the_base_rate_is_right():
    stack = PredictiveStack(Categorical(5), (4,))
    stack.sensory.eta.data.normal_()
    copy = driven(stack)
    activity, _ = copy.observe(quiet(copy).expand(1, 3, -1))
    assert activity.base_error.abs().max() < 1e-15


def test_directions_have_length_one_and_keep_the_sum_of_probabilities():
    drawn = directions(PredictiveStack(Categorical(5), (4,)), 7)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(7))
    assert drawn.sum(1).abs().max() < 1e-15


def test_half_of_an_exponential_is_found_between_the_steps():
    decay = torch.tensor([0.5, 0.8, 0.95])
    curves = decay ** torch.arange(200).unsqueeze(1)
    wanted = math.log(0.5) / decay.log()
    for first in (False, True):
        torch.testing.assert_close(falls(torch.arange(200.0), curves, torch.full((3,), 0.5), first=first), wanted)
    assert falls(torch.arange(200.0), curves, torch.full((3,), -1.0)).isnan().all()


@pytest.mark.parametrize("kind", ["leaky", "gated"])
def test_gain_and_phase_are_those_of_a_leaky_integrator(kind):
    decay = torch.tensor([0.0, 0.3, 0.6, 0.8, 0.9])
    stack = constant_gates(decay.clamp_min(1e-12)) if kind == "gated" else leaky((5,))
    if kind == "leaky":
        decay = 1 - 1 / stack.layers[0].cell.time_constant
    omega = torch.tensor([0.1, 0.4, 1.0, 2.5])
    found = frequency(stack, torch.zeros(2, 800, 3), omega=omega, amplitude=1e-6)
    closed = leaky_transfer(decay, omega.unsqueeze(1))
    wanted = closed.unsqueeze(1) * heard(stack, 2)
    torch.testing.assert_close(found.transfer[0], wanted, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.unit_decay[0], decay, rtol=1e-6, atol=1e-11)
    assert found.nonlinearity.max() < 1e-6 and found.rest.max() < 1e-9


def test_a_layers_phase_is_that_of_units_which_all_lag_alike():
    stack = constant_gates(torch.full((4,), 0.7))
    omega = torch.linspace(0.1, 3.0, 12)
    found = frequency(stack, torch.zeros(2, 300, 3), omega=omega, amplitude=1e-6)
    closed = leaky_transfer(torch.tensor(0.7), omega)
    torch.testing.assert_close(found.phase[:, 0], closed.angle(), rtol=0, atol=1e-6)
    size = heard(stack, 2).square().mean().sqrt()
    torch.testing.assert_close(found.gain[:, 0], closed.abs() * size, rtol=1e-6, atol=0)


def test_stronger_recurrence_moves_the_half_power_frequency_down():
    """R = g I makes of a unit of rate 1 / tau one of decay a = 1 - (1 - g) / tau, and 1 / (1 - g) louder."""
    omega, halves = torch.logspace(-1.8, 0.3, 8), []
    for strength in (0.0, 0.5, 0.8):
        stack = leaky((1,), strength)
        stack.layers[0].cell.time_constant.fill_(3.0)
        found = frequency(stack, torch.zeros(1, 500, 3), omega=omega, amplitude=1e-6)
        closed = leaky_transfer(torch.tensor(1 - (1 - strength) / 3.0), omega) / (1 - strength)
        torch.testing.assert_close(found.transfer[0][:, 0, 0], closed * heard(stack, 1)[0], rtol=1e-6, atol=0)
        halves.append(float(found.half_power))
    assert halves[0] > 1.5 * halves[1] > 3 * halves[2]


def test_half_of_a_leaky_integrators_power_is_at_its_half_power_frequency():
    decay = torch.tensor([0.1, 0.3, 0.9])
    half = leaky_half_power(decay)
    assert half[0].isnan()  # it never falls so far
    torch.testing.assert_close(leaky_transfer(decay, half)[1:].abs(), torch.full((2,), math.sqrt(0.5)))


def test_a_loud_sine_is_reported_as_nonlinear():
    stack, x = constant_gates(torch.full((4,), 0.7)), torch.zeros(1, 200, 3)
    soft, loud = (frequency(stack, x, frequencies=3, amplitude=a).nonlinearity.max() for a in (1e-4, 3.0))
    assert soft < 1e-6 < 0.05 < loud


def test_an_impulse_fades_as_the_decays_say():
    stack = leaky((6,))
    found = impulse(stack, torch.randn(3, 400, 3), steps=120)
    decay = 1 - 1 / stack.layers[0].cell.time_constant
    wanted = (1 - decay) * decay ** torch.arange(120).view(1, -1, 1) * heard(stack, 3).unsqueeze(1)
    torch.testing.assert_close(found.response[0][0], wanted)
    without = torch.zeros_like(wanted)
    without[:, 0] = heard(stack, 3)
    torch.testing.assert_close(found.response[0][1], without)


@pytest.mark.parametrize(("decay", "label"), [(0.2, "denoising"), (0.9, "accumulating")])
def test_a_layer_is_labelled_by_how_long_it_keeps_an_impulse(decay, label):
    found = impulse(constant_gates(torch.full((4,), decay)), torch.zeros(2, 128, 3), amplitude=1e-3)
    torch.testing.assert_close(found.half_life[0], torch.tensor([math.log(0.5) / math.log(decay)]), rtol=1e-3, atol=0)
    assert found.table()[0]["is"] == label and label in found.summary()


def test_a_layer_that_hears_nothing_accumulates_nothing():
    stack = leaky((3,))
    stack.layers[0].weight.data.zero_()
    found = impulse(stack, torch.zeros(1, 20, 3))
    assert found.half_life.isnan().all() and found.table()[0]["is"] == "denoising"


@pytest.mark.parametrize("cell", CELLS)
def test_without_recurrence_nothing_outlasts_delay_lines_and_errors(cell):
    """Layer l hears a message of K = 2 steps; every level below adds one for its error and one for its delay line."""
    found = impulse(PredictiveStack(Gaussian(3), (5, 5), cell=cell, num_taps=2), torch.randn(2, 32, 3))
    for layer, (with_, without) in enumerate(response for response in found.response):
        assert without[:, 2 + 2 * layer :].abs().max() < 1e-12 < without[:, 1].abs().max()
        assert cell == "rnn" or with_[:, 8].abs().max() > 0


WIRINGS = [{}, {"skip": "every-other"}, {"skip": "dense"}, {"top_down": True}]


@pytest.mark.parametrize(
    ("cell", "wiring"), [(cell, {}) for cell in CELLS] + [("leaky", wiring) for wiring in WIRINGS[1:]]
)
@pytest.mark.parametrize("at", ["fixed", "zero"])
def test_the_jacobian_foresees_a_small_perturbation(cell, wiring, at):
    stack = PredictiveStack(Categorical(4), (4, 3), cell=cell, **wiring)
    for parameter in stack.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    found = jacobian(stack, torch.randint(4, (1, 50)), at=at)
    copy = driven(stack)
    system = System(copy, quiet(copy))
    small = 1e-7 * torch.randn(len(found.point))
    step = (system.run(found.point + small, 1) - system.run(found.point, 1)) / 1e-7
    torch.testing.assert_close(step, found.matrix @ small / 1e-7, rtol=1e-4, atol=1e-4)
    whole = torch.linalg.eigvals(found.matrix).abs().sort(descending=True).values
    largest = found.eigenvalues.abs() > 1e-3
    torch.testing.assert_close(found.eigenvalues.abs()[largest], whole[: largest.sum()], rtol=1e-6, atol=1e-9)
    if at == "fixed":
        assert found.residual < 1e-9
        after = (system.run(found.point + small, 12) - found.point) / 1e-7
        foreseen = torch.linalg.matrix_power(found.matrix, 12) @ small / 1e-7
        torch.testing.assert_close(after, foreseen, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("recurrent", "verdict"),
    [
        ([[0.9, 0.0], [0.0, 0.2]], "stable: .* time constant of 9.49 steps$"),
        ([[1.1, 0.0], [0.0, 0.2]], "unstable: a perturbation grows by 1.1 a step$"),
        ([[0.0, 1.05], [-1.05, 0.0]], "unstable: .*oscillating with a period of 4 steps$"),
        ([[1.0, 0.0], [0.0, 0.2]], "neither stable nor unstable: a perturbation stays$"),
    ],
)
def test_the_verdict_is_that_of_the_recurrent_matrix(recurrent, verdict):
    """At zero an Elman layer's update is linear with R; a silent W lets nothing else in."""
    stack = PredictiveStack(Gaussian(2), (2,), cell="rnn", num_taps=1)
    stack.layers[0].weight.data.zero_()
    stack.layers[0].cell.recurrent.data = torch.tensor(recurrent)
    found = jacobian(stack, at="zero")
    wanted = torch.linalg.eigvals(torch.tensor(recurrent)).abs().max()
    torch.testing.assert_close(found.eigenvalues[0].abs(), wanted)
    torch.testing.assert_close(found.rates[0].real, wanted.log(), rtol=1e-9, atol=1e-12)
    assert re.search(verdict, found.summary()), found.summary()


def test_time_constants_of_leaky_units_in_noise_are_minus_one_over_log_decay():
    stack = leaky((6,))
    found = timescales(stack, noise(32, 2000, 3).double(), lags=200)
    wanted = -1 / (1 - 1 / stack.layers[0].cell.time_constant).log()
    torch.testing.assert_close(found.of_decay[0][1:], wanted[1:])
    assert found.of_decay[0][0] == 0
    torch.testing.assert_close(found.of_states[0][2:], wanted[2:], rtol=0.15, atol=0)
    assert found.of_states[0].argsort().tolist() == list(range(6))


def test_a_unit_that_never_moves_has_no_autocorrelation():
    stack = leaky((3,))
    stack.layers[0].weight.data[1] = 0
    found = timescales(stack, noise(2, 300, 3).double())
    assert found.of_states[0].isnan().tolist() == [False, True, False]


def test_the_differential_equation_is_the_one_that_is_written_down():
    """tau dv/dt = -v + R tanh(v) + W [u, u] + b with errors of one time, in two layers that mix their units."""
    stack = leaky((6, 5), 0.7, num_taps=2, mixing=True)
    set_unit(stack, 0.5**-0.5)
    copy, statistic, potentials = driven(stack), torch.randn(2, 3), [torch.randn(2, 6), torch.randn(2, 5)]
    eta = copy.base.eta
    message = (statistic - eta) / math.sqrt(0.5)
    for layer, v, found in zip(copy.layers, potentials, field(copy, statistic, potentials), strict=True):
        q = v.tanh()
        k = torch.cat([message, message], 1) @ layer.weight.T + layer.bias
        torch.testing.assert_close(found, (k + q @ layer.cell.recurrent.T - v) / layer.cell.time_constant)
        a, b = layer.mixing.chunk(2)
        r = q + (q @ a.T) * (q @ b.T).sigmoid()
        eta = eta + r @ layer.readout.T
        missed = r - r @ layer.predictor.T
        eps = missed / missed.square().mean(1, keepdim=True).add(RMS_EPSILON).sqrt()
        message = torch.cat([(statistic - eta) / math.sqrt(0.5), eps], 1)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("target", [None, Gaussian(2)])
def test_halving_the_step_halves_the_distance_to_the_differential_equation(target, wiring):
    """Every part is in it: two layers, R, a delay line, mixing, errors weighed, every wiring."""
    stack = leaky((6, 5), 0.7, num_taps=3, mixing=True, target=target, **wiring)
    for layer in stack.layers:
        if layer.top_down_weight is not None:
            layer.top_down_weight.data = 0.3 * torch.randn_like(layer.top_down_weight)  # D begins at zero
    set_unit(stack, 0.5**-0.5)
    found = euler(stack, halvings=3, span=3.0, lanes=2)
    assert ((found.order > 0.9) & (found.order < 1.1)).all(), found
    assert found.own_error < 1e-3 * found.error.min()
    assert "Euler's method, of order 1" in found.summary()


def test_the_reference_solves_what_has_a_closed_form():
    """One leaky layer without R under a constant input: v = k + (v_0 - k) exp(-t / tau)."""
    stack = leaky((6,))
    copy, statistic = driven(stack), directions(stack, 2)
    begin, layer = torch.randn(2, 6), stack.layers[0]
    (found,) = solve(copy, lambda time: statistic, [begin], 2.0, 200)
    k = statistic @ layer.weight.T
    torch.testing.assert_close(found, k + (begin - k) * torch.exp(-2.0 / layer.cell.time_constant), rtol=0, atol=1e-10)


def test_a_fixed_point_of_the_stack_is_one_of_the_differential_equation():
    """Where nothing changes, one step before is now: the two systems share their fixed points."""
    stack = PredictiveStack(Categorical(4), (5, 4), cell="leaky", max_time_constant=8.0)
    for parameter in stack.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    copy = driven(stack)
    system = System(copy, quiet(copy))
    state = system.unpack(jacobian(stack).point.unsqueeze(0))
    for slope in field(copy, system.statistic.unsqueeze(0), [layer.cell for layer in state.layers]):
        assert slope.abs().max() < 1e-9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s, x: frequency(s, x[:, :10]), "expected at least 8 steps after the warm-up, got 5"),
        (lambda s, x: frequency(s, x, amplitude=0.0), "an amplitude above 0"),
        (lambda s, x: impulse(s, x, steps=1), "expected 2 to 40 of the background's steps, got 1"),
        (lambda s, x: impulse(s, x, amplitude=math.inf), "an amplitude above 0, got inf"),
        (lambda s, x: timescales(s, x, lags=36), "expected 2 to 35 lags .* got 36"),
        (lambda s, x: euler(s), "expected leaky cells, got GatedCell"),
        (lambda s, x: euler(leaky(), halvings=0), "expected at least 1 halving"),
        (lambda s, x: jacobian(PredictiveStack.of_layer(s.layers[0])), "got a view of one layer"),
    ],
)
def test_what_cannot_be_probed_is_refused(call, words):
    with pytest.raises(UsageError, match=words):
        call(PredictiveStack(Gaussian(3), (4,)), torch.zeros(1, 40, 3))


@pytest.mark.parametrize("probe", [frequency, impulse, jacobian, timescales])
def test_a_probe_leaves_the_stack_and_the_generator_alone(probe):
    stack = PredictiveStack(Gaussian(3), (4,)).float().train()
    before, generator = [p.clone() for p in stack.state_dict().values()], torch.get_rng_state()
    found = probe(stack, noise(1, 64, 3).float())
    assert stack.training and all(p.requires_grad for p in stack.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, stack.state_dict().values(), strict=True))
    assert torch.equal(generator, torch.get_rng_state())
    assert isinstance(typing.cast(typing.Any, found).table(), list)


def test_a_curve_of_one_point_falls_nowhere():
    assert falls(torch.ones(1), torch.ones(1, 3), torch.ones(3)).isnan().all()
