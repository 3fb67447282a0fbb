"""Numba's compiler where it is installed; and arrays over memory whose address is known.

`compiled` compiles what other compiled functions call; an `entry` is what Python calls, and is kept on the disk. Numba
keeps a function until its own file changes; here the key has the sources of the whole package in it.
"""

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

# Sums may be taken in any order and a * b + c in one instruction; NaN and infinity keep their meaning.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz", "afn"},
    "error_model": "numpy",
    "boundscheck": False,
    "nogil": True,
}


def _intrinsic(function: Any) -> Any:
    """Numba's decorator: it takes the first argument away and gives the function as many as its signature has."""
    return intrinsic(function)


def compiled(function: Any) -> Any:
    """Decorator: compile a function that compiled functions call."""
    return numba.njit(**_OPTIONS)(function)


def inlined(function: Any) -> Any:
    """Decorator: as `compiled`, and written out where it is called."""
    return numba.njit(inline="always", **_OPTIONS)(function)


def entry(*modules: ModuleType) -> Callable[[Callable[[str], Any]], Any]:
    """Decorator: compile the function that another one returns, which Python calls, and keep it on the disk.

    The function that is decorated is given a text that differs with the sources; the one it returns must mention it.

    Args:
        modules: outside of this package, whose functions it calls.
    """
    sources = [*Path(__file__).parent.glob("*.py"), *(Path(str(module.__file__)) for module in modules)]
    fingerprint = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()

    def make(function: Callable[[str], Any]) -> Any:
        return numba.njit(cache=True, **_OPTIONS)(function(fingerprint))

    return make


@_intrinsic
def vector(typing: Any, address: Any, size: Any, like: Any) -> Any:
    """The array of `size` numbers at an address, of `like`'s type; it owns nothing, and nothing counts references.

    A slice of an array would do the same and take three times as long as the arithmetic of a small layer.
    """
    array = types.Array(like.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = make_array(array)(context, builder)
        item = context.get_data_type(array.dtype)
        bytes_each = context.get_constant(types.intp, context.get_abi_sizeof(item))
        populate_array(
            result,
            data=builder.inttoptr(arguments[0], item.as_pointer()),
            shape=cgutils.pack_array(builder, [arguments[1]]),
            strides=cgutils.pack_array(builder, [bytes_each]),
            itemsize=bytes_each,
            meminfo=None,
        )
        return result._getvalue()

    return array(types.int64, types.int64, like), generate


@_intrinsic
def part(typing: Any, whole: Any, first: Any, size: Any) -> Any:
    """whole[first : first + size], unchecked, which owns nothing; `whole` must outlive it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[0]
        source = make_array(array)(context, builder, arguments[0])
        result = make_array(array)(context, builder)
        bytes_each = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        populate_array(
            result,
            data=builder.gep(source.data, [arguments[1]]),
            shape=cgutils.pack_array(builder, [arguments[2]]),
            strides=cgutils.pack_array(builder, [bytes_each]),
            itemsize=bytes_each,
            meminfo=None,
        )
        return result._getvalue()

    return whole(whole, types.int64, types.int64), generate


@_intrinsic
def float_of_bits(typing: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@_intrinsic
def flush_subnormals(typing: Any) -> Any:
    """Let numbers below the normal ones count as 0 in this thread; returns what `restore` undoes that with.

    Units that are shut, traces and moments of a sensor that does not move: all decay to where an x86 takes a hundred
    times as long. Other processors do not, and keep them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        if _IS_X86:
            _control(builder, "st", held)
            before = builder.load(held)
            _write_control(builder, held, builder.or_(before, ir.Constant(ir.IntType(32), _FLUSH)))
            return before
        return builder.load(held)

    return types.uint32(), generate


@_intrinsic
def restore(typing: Any, before: Any) -> Any:
    """What `flush_subnormals` has changed, as it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _IS_X86:
            held = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
            _write_control(builder, held, arguments[0])
        return context.get_dummy_value()

    return types.void(types.uint32), generate


_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLUSH = 0x8040  # of the register MXCSR: results that are subnormal become 0, and so do operands


def _write_control(builder: Any, held: Any, value: Any) -> None:
    builder.store(value, held)
    _control(builder, "ld", held)


def _control(builder: Any, direction: str, held: Any) -> None:
    """Store the control register of floating point at `held`, or load it from there."""
    pointer = ir.IntType(8).as_pointer()
    name = f"llvm.x86.sse.{direction}mxcsr"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [pointer]), name)
    builder.call(function, [builder.bitcast(held, pointer)])
