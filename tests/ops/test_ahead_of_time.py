"""Every kernel, as its launcher would launch it, compiled for GPUs that are not there.

The compiler must have made no spills, asynchronous copies where time is walked, 16-byte accesses where there is
enough to do, tensor cores of half-precision products. Nothing runs: results are for `test_interpreted.py`.
"""

import importlib.util
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pcrnn.ops.backend import interpreted

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs triton", allow_module_level=True)
if interpreted():
    pytest.skip("needs the compiler, not the interpreter: unset TRITON_INTERPRET", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget

from pcrnn.ops import kernels
from pcrnn.ops.kernels import _launch
from pcrnn.ops.kernels.trace import advance_trace_

BINARIES = Path(triton.__file__).parent / "backends/nvidia/bin"
SHARED_LIMIT = 99 * 1024  # bytes a block may have on the smallest of these architectures, 8.6 and 8.9


class Compiled(NamedTuple):
    """One kernel of a launch and what the compiler says of it."""

    name: str
    ptx: str
    shared: int  # bytes of shared memory
    usage: dict[str, int]  # REG, STACK, LOCAL, ... of the machine code

    @property
    def asynchronous_widths(self) -> set[int]:
        """Bytes moved by each kind of asynchronous copy."""
        copies = re.findall(r"cp\.async\.c[ag]\S* \[[^]]*\], \[[^]]*\], (\w+)", self.ptx)
        return {int(size, 16) for size in copies}


class AbsentGpu:
    """What Triton asks of a driver in order to compile, for a compute capability such as 90."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability  # the key of Triton's cache of kernels, far from a real device's number

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture(params=[80, 90, 100], ids=lambda c: f"sm_{c}")
def compile_launch(request, monkeypatch, tmp_path):
    """Call a launcher on CPU tensors: its kernels are compiled with exactly its arguments, and not run."""
    capability, compiled = request.param, []
    monkeypatch.setattr(triton.runtime.driver, "_active", AbsentGpu(capability))
    monkeypatch.setattr(_launch, "capability", lambda device: divmod(capability, 10))

    def warm_up(kernel, grid):
        def compile_only(*arguments, **meta):
            binary = kernel.warmup(*arguments, grid=grid, **meta)
            compiled.append(_examined(kernel.fn.__name__, binary, tmp_path / "kernel.cubin"))

        return compile_only

    monkeypatch.setattr(triton.JITFunction, "__getitem__", warm_up)

    def run(launcher, *arguments) -> list[Compiled]:
        launcher(*arguments)
        return compiled

    return run


def _examined(name: str, binary, cubin: Path) -> Compiled:
    cubin.write_bytes(binary.asm["cubin"])
    report = subprocess.run(
        [BINARIES / "cuobjdump", "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    usage = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}
    assert usage.keys() == {"REG", "STACK", "LOCAL"}, f"cuobjdump says: {report}"
    return Compiled(name, binary.asm["ptx"], binary.metadata.shared, usage)


BIG = (64, 4, 2048)  # enough channels to fill a GPU; T does not change what is compiled
SMALL = (1, 4, 256)
ODD = (2, 4, 33)  # no 16-byte alignment, every mask in use
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _walks(B: int, T: int, N: int, dtype: torch.dtype) -> dict[str, tuple]:
    """Arguments of the launchers that walk over time. New memory, its values do not matter."""
    x, preactivation, immediate = (torch.empty(B, T, k * N, dtype=dtype) for k in (1, 3, 2))
    return {
        "scan": (x, x, x[:, 0]),
        "gated_cell": (preactivation, x[:, 0]),
        "credit": (x, immediate, x),
    }


def _rows(B: int, T: int, N: int, dtype: torch.dtype) -> dict[str, tuple]:
    """Arguments of the launchers that reduce over rows."""
    x = torch.empty(B, T, N, dtype=dtype)
    return {
        "categorical_error": (x, torch.empty(B, T, dtype=torch.long)),
        "bernoulli_error": (x, x),
        "gaussian_error": (x, x, torch.empty(N)),
        "poisson_error": (x, x),
        "state_error": (x, x),
        "state_error_backward": (x, x, torch.empty(B, T, 1)),
    }


def _update(B: int, T: int, N: int, dtype: torch.dtype, J: int, carried: bool = True) -> tuple:
    """Arguments of the three-factor update of two gate blocks; gradients and traces are float32."""
    x, immediate, presynaptic = (torch.empty(B, T, k, dtype=dtype) for k in (N, 2 * N, J))
    trace = (torch.empty(B, 2 * N, J), torch.empty(B, 2 * N)) if carried else (None, None)
    return torch.empty(2 * N, J), torch.empty(2 * N), *trace, x, immediate, presynaptic, x


WALKS, ROWS = _walks(*ODD, torch.float32), _rows(*ODD, torch.float32)


def _assert_on_chip(kernel: Compiled) -> None:
    assert kernel.usage["STACK"] == kernel.usage["LOCAL"] == 0, f"{kernel.name} spills: {kernel.usage}"
    assert kernel.shared <= SHARED_LIMIT


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", WALKS)
def test_walks_prefetch_16_bytes_a_thread(compile_launch, name, dtype):
    (kernel,) = compile_launch(getattr(kernels, name), *_walks(*BIG, dtype)[name])
    _assert_on_chip(kernel)
    assert kernel.asynchronous_widths == {16}
    assert "st.global.v4.b32" in kernel.ptx


@pytest.mark.parametrize("name", WALKS)
def test_walks_over_few_channels_use_narrow_lanes_and_prefetch_all_the_same(compile_launch, name):
    (kernel,) = compile_launch(getattr(kernels, name), *_walks(*SMALL, torch.float32)[name])
    _assert_on_chip(kernel)
    assert kernel.asynchronous_widths <= {4, 8}
    assert kernel.asynchronous_widths


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_rows_are_read_and_written_16_bytes_a_thread(compile_launch, name, dtype):
    (kernel,) = compile_launch(getattr(kernels, name), *_rows(*BIG, dtype)[name])
    _assert_on_chip(kernel)
    assert "ld.global.v4.b32" in kernel.ptx
    assert "st.global.v4.b32" in kernel.ptx


@pytest.mark.parametrize("size", [64, 2048], ids=["small", "big"])
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_update_in_float32_has_the_products_asked_for(compile_launch, size, precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        credit, trace = compile_launch(kernels.eligibility_update_, *_update(1, 4, size, torch.float32, J=size))
    finally:
        torch.set_float32_matmul_precision(before)
    for kernel in (credit, trace):
        _assert_on_chip(kernel)
        assert kernel.asynchronous_widths
    assert "st.global.v4.b32" in trace.ptx
    assert ("tf32" in trace.ptx) == (precision == "high")


@pytest.mark.parametrize("size", [64, 2048], ids=["small", "big"])
def test_trace_takes_half_precision_products_on_tensor_cores(compile_launch, size):
    arguments = (
        torch.empty(2 * size, size),
        torch.empty(1, 2 * size, size),
        torch.empty(1, 4, size, dtype=torch.bfloat16),
        torch.empty(1, 4, 2 * size),
        torch.empty(1, size),
        torch.empty(1, size),
    )
    (kernel,) = compile_launch(advance_trace_, *arguments)
    _assert_on_chip(kernel)
    assert re.search(r"mma\S*(bf16|kind::f16)", kernel.ptx)


def test_update_without_a_trace_writes_no_more_than_the_credit(compile_launch):
    arguments = _update(64, 1, 2048, torch.float32, J=8)
    carried = compile_launch(kernels.eligibility_update_, *arguments)[0]
    cut = compile_launch(kernels.eligibility_update_, *arguments[:2], None, None, *arguments[4:])[-1]
    stores = [kernel.ptx.count("st.global") for kernel in (carried, cut)]
    assert cut.name == "credit_kernel"
    assert stores[1] < stores[0]


@pytest.mark.parametrize("name", [*WALKS, *ROWS])
def test_nothing_spills_where_no_size_is_a_multiple_of_anything(compile_launch, name):
    (kernel,) = compile_launch(getattr(kernels, name), *{**WALKS, **ROWS}[name])
    _assert_on_chip(kernel)


@pytest.mark.parametrize("compile_launch", [90], ids=["sm_90"], indirect=True)
@pytest.mark.parametrize("name", [*WALKS, *ROWS])
def test_sizes_of_one_and_foreign_strides_compile(compile_launch, name):
    """Triton makes constants of arguments that are 1, in the compiler only: the interpreter cannot find a misuse."""
    ones = {**_walks(1, 1, 1, torch.float32), **_rows(1, 1, 1, torch.float32)}[name]
    transposed = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in {**WALKS, **ROWS}[name]]
    for arguments in (ones, transposed):
        compile_launch(getattr(kernels, name), *arguments)


@pytest.mark.parametrize("compile_launch", [90], ids=["sm_90"], indirect=True)
def test_update_of_size_one_compiles(compile_launch):
    assert len(compile_launch(kernels.eligibility_update_, *_update(1, 1, 1, torch.float32, J=1))) == 2


@pytest.mark.parametrize("units, presynaptic", [(33, 7), (256, 2 * (65 + 256)), (2047, 2049)])
def test_trace_does_not_spill_where_rows_are_not_aligned(compile_launch, units, presynaptic):
    """As with 65 symbols and 256 units, the default layer."""
    for kernel in compile_launch(kernels.eligibility_update_, *_update(1, 4, units, torch.float32, presynaptic)):
        _assert_on_chip(kernel)
