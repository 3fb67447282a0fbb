"""The Triton kernels themselves, run on the CPU by Triton's interpreter, against the reference in float64.

Needs its own process, because Triton reads the variable when it is imported:

    TRITON_INTERPRET=1 pytest tests/ops/test_interpreted.py

Every argument reaches its kernel contiguous, transposed, cut out of a larger tensor of NaN, and expanded; memory
that a kernel was to fill is NaN before.
"""

import importlib.util

import pytest
import torch
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.backend import interpreted

if not interpreted():
    pytest.skip("needs TRITON_INTERPRET=1 in the environment", allow_module_level=True)
if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)

from pcrnn.ops import kernels
from pcrnn.ops.kernels import _launch

# exp(100) is inf and 1 / inf is 0, as meant; the interpreter's numpy warns of the first.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")

SIZES = [1, 2, 31, 33, 63, 65]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # relative error of a whole tensor


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch):
    """What a kernel does not write is NaN, and NaN equals nothing."""
    torch.manual_seed(0)
    for name in ("empty", "empty_like"):
        allocate = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, _allocate=allocate, **k: _poison(_allocate(*a, **k)))


def _poison(x: Tensor) -> Tensor:
    return x.fill_(float("nan")) if x.is_floating_point() else x


def _contiguous(x: Tensor) -> Tensor:
    return x


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def _sliced(x: Tensor) -> Tensor:
    larger = _poison(torch.zeros([size + 2 for size in x.shape], dtype=x.dtype))
    return larger[tuple(slice(1, -1) for _ in x.shape)].copy_(x)


def _expanded(x: Tensor) -> Tensor:
    return x[:1].expand_as(x)


LAYOUTS = {"contiguous": _contiguous, "transposed": _transposed, "sliced": _sliced, "expanded": _expanded}


def _gates(*shape: int) -> Tensor:
    """Decays, a third of them exactly 0 and a third exactly 1."""
    return torch.where(torch.rand(shape) < 1 / 3, torch.rand(shape), (torch.rand(shape) < 0.5).float())


# Arguments of each op for B batch rows, T steps, width N.
ARGUMENTS = {
    "scan": lambda B, T, N: (_gates(B, T, N), torch.randn(B, T, N), torch.randn(B, N)),
    "gated_cell": lambda B, T, N: (torch.randn(B, T, 3 * N) * 30, torch.randn(B, N)),
    "credit": lambda B, T, N: (_gates(B, T, N), torch.randn(B, T, 2 * N), torch.randn(B, T, N)),
    "categorical_error": lambda B, T, N: (10 * torch.randn(B, T, N), torch.randint(N, (B, T))),
    "bernoulli_error": lambda B, T, N: (30 * torch.randn(B, T, N), (torch.rand(B, T, N) < 0.3).float()),
    "gaussian_error": lambda B, T, N: (torch.randn(B, T, N), torch.randn(B, T, N), torch.rand(N) + 0.1),
    "poisson_error": lambda B, T, N: (torch.randn(B, T, N), torch.poisson(20 * torch.rand(B, T, N))),
    "state_error": lambda B, T, N: (torch.randn(B, T, N), torch.randn(B, T, N)),
    "state_error_backward": lambda B, T, N: (
        torch.randn(B, T, N),
        torch.randn(B, T, N),
        torch.rand(B, T, 1),
    ),
}


def _tensors(result: Tensor | tuple) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _assert_close(mine: Tensor, exact: Tensor) -> None:
    assert mine.shape == exact.shape
    distance, size = (mine.double() - exact).norm(), exact.norm()
    assert distance <= TOLERANCE[mine.dtype] * size + 1e-30, f"relative error {float(distance / size):.1e}"


def _widened(arguments: tuple) -> tuple:
    return tuple(a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments)


def _check(name: str, *arguments) -> None:
    """Equal to the float64 reference to rounding, equal to itself to the bit."""
    kernel = getattr(kernels, name)
    once, again = _tensors(kernel(*arguments)), _tensors(kernel(*arguments))
    exact = _tensors(getattr(reference, name)(*_widened(arguments)))
    for mine, repeated, wanted in zip(once, again, exact, strict=True):
        _assert_close(mine, wanted)
        assert torch.equal(mine, repeated)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("width", SIZES)
def test_kernel_equals_reference_at_odd_widths(name, width):
    _check(name, *ARGUMENTS[name](2, 5, width))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("steps", [1, 2, 32])
def test_kernel_equals_reference_at_any_length(name, steps):
    _check(name, *ARGUMENTS[name](1, steps, 33))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernel_reads_any_strides(name, layout):
    arguments = ARGUMENTS[name](3, 4, 33)
    _check(name, *(LAYOUTS[layout](a) if a.dim() > 1 else a for a in arguments))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_kernel_takes_half_precision_and_returns_what_the_reference_does(name):
    arguments = tuple(a.bfloat16() if a.is_floating_point() and a.dim() > 1 else a for a in ARGUMENTS[name](2, 4, 33))
    mine = _tensors(getattr(kernels, name)(*arguments))
    theirs = _tensors(getattr(reference, name)(*arguments))
    exact = _tensors(getattr(reference, name)(*_widened(arguments)))
    for m, t, e in zip(mine, theirs, exact, strict=True):
        assert m.dtype == t.dtype
        _assert_close(m, e)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_float64_runs_the_reference(name):
    arguments = _widened(ARGUMENTS[name](2, 3, 5))
    mine, theirs = getattr(kernels, name)(*arguments), getattr(reference, name)(*arguments)
    assert all(map(torch.equal, _tensors(mine), _tensors(theirs)))


def test_scan_runs_backwards():
    _check("scan", *ARGUMENTS["scan"](2, 5, 33), True)


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if "error" in name])
@pytest.mark.parametrize("width", [16, 33, 65])
def test_rows_wider_than_a_tile_are_looped_over(name, width, monkeypatch):
    monkeypatch.setattr(_launch, "TILE", 16)
    _check(name, *ARGUMENTS[name](2, 3, width))


@pytest.mark.parametrize("leading", [(), (7,), (2, 3), (2, 2, 3)])
def test_errors_take_any_leading_dimensions(leading):
    _check("categorical_error", torch.randn(*leading, 5), torch.randint(5, leading))
    _check("bernoulli_error", torch.randn(*leading, 5), torch.rand(*leading, 5))
    _check("state_error", torch.randn(*leading, 5), torch.randn(*leading, 5))


def test_a_symbol_out_of_range_is_not_read_and_shows_as_nan():
    eta = torch.randn(4, 5)
    _, surprise = kernels.categorical_error(eta, torch.tensor([0, -1, 5, 4]))
    assert surprise.isnan().tolist() == [False, True, True, False]


@pytest.mark.parametrize("extreme", [-100.0, 0.0, 100.0])
def test_errors_stay_finite_at_extreme_parameters(extreme):
    eta = torch.full((2, 3, 5), extreme)
    _check("categorical_error", eta, torch.zeros(2, 3, dtype=torch.long))
    _check("bernoulli_error", eta, torch.ones(2, 3, 5))
    _check("bernoulli_error", eta, torch.zeros(2, 3, 5))


def test_poisson_log_factorial_from_zero_to_a_million():
    """At eta = 0 the surprise is 1 + log x!; compared one by one, for a norm would hide the small ones."""
    x = torch.cat([torch.arange(40.0), 10.0 ** torch.arange(2, 7)]).unsqueeze(-1)
    _, surprise = kernels.poisson_error(torch.zeros_like(x), x)
    torch.testing.assert_close(surprise - 1, torch.lgamma(x.double() + 1).float()[:, 0], atol=3e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["scan", "gated_cell", "credit", "categorical_error", "state_error"])
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5)])
def test_nothing_in_nothing_out(name, shape):
    mine = _tensors(getattr(kernels, name)(*ARGUMENTS[name](*shape)))
    assert mine[0].shape[:2] == shape[:2]


# The three-factor update works in place.


def _update_arguments(B: int, T: int, N: int, J: int, G: int, carried: bool) -> tuple:
    trace = (torch.randn(B, G * N, J), torch.randn(B, G * N)) if carried else (None, None)
    chunk = (_gates(B, T, N), torch.randn(B, T, G * N), torch.randn(B, T, J), torch.randn(B, T, N))
    return torch.randn(G * N, J), torch.randn(G * N), *trace, *chunk


def _updated(arguments: tuple) -> list[Tensor]:
    """The credit and the gradients and traces after an update; the arguments are left as they were."""
    written = [x for x in arguments[:4] if x is not None]
    before = [x.clone() for x in written]
    credit = kernels.eligibility_update_(*arguments)
    after = [credit, *(x.clone() for x in written)]
    for x, value in zip(written, before, strict=True):
        x.copy_(value)
    return after


def _check_update(*arguments: Tensor | None) -> None:
    once, again = _updated(arguments), _updated(arguments)
    exact = _widened(arguments)
    credit = reference.eligibility_update_(*exact)
    wanted = [credit, *(x for x in exact[:4] if x is not None)]
    for mine, repeated, e in zip(once, again, wanted, strict=True):
        _assert_close(mine, e)
        assert torch.equal(mine, repeated)


@pytest.mark.parametrize("carried", [True, False], ids=["carried", "cut"])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_update_equals_reference_for_any_number_of_gates(blocks, carried):
    _check_update(*_update_arguments(2, 4, 5, 7, blocks, carried))


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("presynaptic", [1, 33])
def test_update_equals_reference_at_odd_widths(width, presynaptic):
    _check_update(*_update_arguments(2, 3, width, presynaptic, 2, True))


@pytest.mark.parametrize("steps", [1, 2, 31, 33])
def test_update_equals_reference_at_any_length(steps):
    _check_update(*_update_arguments(2, steps, 3, 5, 2, True))


@pytest.mark.parametrize("layout", ["transposed", "sliced"])
def test_update_works_in_place_on_any_strides(layout):
    arguments = _update_arguments(3, 4, 5, 7, 2, True)
    _check_update(*(LAYOUTS[layout](a) if a.dim() > 1 else a for a in arguments))


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_update_reads_any_strides(layout):
    arguments = _update_arguments(3, 4, 5, 7, 2, True)
    _check_update(*arguments[:4], *(LAYOUTS[layout](a) for a in arguments[4:]))


def test_chunks_chain_into_one():
    """Two chunks through the carried trace give the gradient and the trace of the whole."""
    arguments = _update_arguments(2, 8, 5, 7, 2, True)
    whole = _updated(arguments)
    for half in (slice(0, 4), slice(4, 8)):
        kernels.eligibility_update_(*arguments[:4], *(a[:, half] for a in arguments[4:]))
    for mine, wanted in zip(arguments[:4], whole[1:], strict=True):
        _assert_close(mine, wanted.double())
