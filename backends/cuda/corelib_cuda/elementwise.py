"""The element-wise family: one line per op says what it computes; everything else is derived from that line.

For a call the operands' forms are looked at: arrays (``a``) or Python scalars (``v``), dense or of any
layout, indices of 32 bits or of 64. Each combination is an entry point of its own, compiled when it is met
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import half, launch, layout
from .copy import contiguous
from .kernels import kernels
from .launch import cupy


class Expression(NamedTuple):
    """C++ for one element, per kind of dtype (an absent kind is not accepted). ``x1 x2 x3`` are the operands;
    ``{T}`` is their type, ``{W}`` its unsigned word (integers are computed there, where overflow wraps),
    ``{f}`` the suffix of the C library's functions (complex.cuh overloads them without one), ``{R}`` the type of
    a part of a complex number. ``x`` alone hands the operand through, without a kernel.
    """

    floating: str | None = None
    int: str | None = None
    uint: str | None = None
    bool: str | None = None
    complex: str | None = None
    result: str = "{T}"

    def of(self, kind: str) -> str | None:
        return self.floating if kind == "float" else getattr(self, kind)


def _real(call: str) -> Expression:
    return Expression(floating=call)


def _math(call: str) -> Expression:
    return Expression(floating=call, complex=call)


def _every(expression: str, result: str = "{T}", *, complex: bool = False) -> Expression:
    return Expression(expression, expression, expression, expression, expression if complex else None, result)


def _numbers(
    floating: str, integer: str, uint: str | None = None, complex: str | None = None, result: str = "{T}"
) -> Expression:
    return Expression(floating, integer, uint or integer, None, complex, result)


def _bits(integer: str, boolean: str | None = None) -> Expression:
    return Expression(None, integer, integer, boolean)


def _test(floating: str, others: str, complex: str) -> Expression:
    return Expression(floating, others, others, None, complex, "bool")


UNARY: dict[str, Expression] = {
    "negative": _numbers("-x1", "{T}({W}(0) - {W}(x1))", complex="-x1"),
    "abs": _numbers("fabs{f}(x1)", "x1 < 0 ? {T}({W}(0) - {W}(x1)) : x1", "x", "modulus(x1)", "{R}"),
    "sign": _numbers(
        "x1 != x1 ? x1 : {T}((x1 > 0) - (x1 < 0))", "{T}((x1 > 0) - (x1 < 0))", "{T}(x1 > 0)", "sign(x1)"
    ),
    "conj": _numbers("x", "x", complex="{T}(x1.re, -x1.im)"),
    "real": _numbers("x", "x", complex="x1.re", result="{R}"),
    "imag": _numbers("{T}(0)", "{T}(0)", complex="x1.im", result="{R}"),
    "bitwise_invert": _bits("{T}(~x1)", "!x1"),
    "floor": _numbers("floor{f}(x1)", "x"),
    "ceil": _numbers("ceil{f}(x1)", "x"),
    "round": _numbers("rint{f}(x1)", "x", complex="rint(x1)"),
    "trunc": _numbers("trunc{f}(x1)", "x"),
    "sqrt": _math("sqrt{f}(x1)"),
    "exp": _math("exp{f}(x1)"),
    "expm1": _math("expm1{f}(x1)"),
    "log": _math("log{f}(x1)"),
    "log1p": _math("log1p{f}(x1)"),
    "log2": _math("log2{f}(x1)"),
    "log10": _math("log10{f}(x1)"),
    "sin": _math("sin{f}(x1)"),
    "cos": _math("cos{f}(x1)"),
    "tan": _math("tan{f}(x1)"),
    "asin": _math("asin{f}(x1)"),
    "acos": _math("acos{f}(x1)"),
    "atan": _math("atan{f}(x1)"),
    "sinh": _math("sinh{f}(x1)"),
    "cosh": _math("cosh{f}(x1)"),
    "tanh": _math("tanh{f}(x1)"),
    "asinh": _math("asinh{f}(x1)"),
    "acosh": _math("acosh{f}(x1)"),
    "atanh": _math("atanh{f}(x1)"),
    "erf": _real("erf{f}(x1)"),
    "isnan": _test("x1 != x1", "false", "is_nan(x1)"),
    "isinf": _test("fabs{f}(x1) == infinity(x1)", "false", "is_infinite(x1)"),
    "isfinite": _test("fabs{f}(x1) < infinity(x1)", "true", "is_finite(x1)"),
}

BINARY: dict[str, Expression] = {
    "add": _numbers("x1 + x2", "{T}({W}(x1) + {W}(x2))", complex="x1 + x2"),
    "subtract": _numbers("x1 - x2", "{T}({W}(x1) - {W}(x2))", complex="x1 - x2"),
    "multiply": _numbers("x1 * x2", "{T}({W}(x1) * {W}(x2))", complex="x1 * x2"),
    "divide": _math("x1 / x2"),
    "floor_divide": _numbers("floor_divide(x1, x2)", "floor_divide(x1, x2)"),
    "remainder": _numbers("remainder_floating(x1, x2)", "remainder(x1, x2)"),
    "pow": _numbers("pow{f}(x1, x2)", "power(x1, x2)", complex="pow(x1, x2)"),
    "atan2": _real("atan2{f}(x1, x2)"),
    "hypot": _real("hypot{f}(x1, x2)"),
    "copysign": _real("copysign{f}(x1, x2)"),
    "nextafter": _real("nextafter{f}(x1, x2)"),
    "maximum": _every("maximum(x1, x2)"),
    "minimum": _every("minimum(x1, x2)"),
    "bitwise_and": _bits("{T}(x1 & x2)", "x1 && x2"),
    "bitwise_or": _bits("{T}(x1 | x2)", "x1 || x2"),
    "bitwise_xor": _bits("{T}(x1 ^ x2)", "x1 != x2"),
    "bitwise_left_shift": _bits("left_shift(x1, x2)"),
    "bitwise_right_shift": _bits("right_shift(x1, x2)"),
    "equal": _every("x1 == x2", "bool", complex=True),
    "not_equal": _every("x1 != x2", "bool", complex=True),
    "less": _every("x1 < x2", "bool"),
    "less_equal": _every("x1 <= x2", "bool"),
    "greater": _every("x1 > x2", "bool"),
    "greater_equal": _every("x1 >= x2", "bool"),
}


class Elementwise:
    """One op for one combination of dtypes: ``inputs`` and ``output`` are dtype names, ``"position"`` stands
    for the index of the element. Holds the entry points that were launched so far.
    """

    def __init__(self, name: str, inputs: tuple[str, ...], output: str, expression: str) -> None:
        first = next((t for t in inputs if t != "position"), output)
        self.inputs, self.output = inputs, output
        self.name = "_".join(dict.fromkeys((name, first, output)))
        self.expression = expression.format(T=first, W=f"Word<{first}>", f="f" if first == "float32" else "")
        self.scalars: tuple[Any, ...] = tuple(
            None if t == "position" else half.storage(t).type for t in inputs
        )
        self.dtype = half.storage(output)
        sizes = [half.storage(t).itemsize for t in (*inputs, output) if t != "position"]
        self.packet = 16 // max(sizes)
        self.alignments = tuple(self.packet * s for s in sizes)
        self._kernels: dict[tuple[str, str, int], launch.Kernel] = {}

    # ------------------------------------------------------------------------------------------------------- sources

    def entry(self, forms: str, walk: str, bits: int) -> tuple[str, str]:
        """(name, C++) of the entry point for operands of ``forms`` (as "av"), ``walk`` "dense" or "strided"."""
        name = f"{self.name}_{forms}_{walk}{bits}"
        types = ["int64" if t == "position" else t for t in self.inputs]
        names = [f"x{i}" for i in range(1, len(types) + 1)]
        operation = ", ".join(f"{t} {x}" for t, x in zip(types, names, strict=True))
        parameters, operands = [], []
        for form, t, x in zip(forms, types, names, strict=True):
            if form == "p":
                operands.append("Position{}")
            else:
                parameters.append(f"const {t}* {x}" if form == "a" else f"{t} {x}")
                operands.append(f"{'Array' if form == 'a' else 'Value'}<{t}>{{{x}}}")
        index, places = f"uint{bits}", ", ".join(map(str, range(len(types))))
        if walk == "dense":
            last = ""
            call = f"contiguous<Op, {self.output}, {self.packet}>(out, n, {', '.join(operands)})"
        else:
            last = f", const __grid_constant__ Layout<{index}, {len(types)}> layout"
            call = f"strided<Op, {self.output}>(out, n, layout, Places<{places}>{{}}, {', '.join(operands)})"
        parameters += [f"{self.output}* out", f"{index} n"]
        # Four blocks per multiprocessor: without that, ptxas takes so few registers for some functions that
        # it spills.
        return name, (
            f'extern "C" __global__ void __launch_bounds__({launch.THREADS}, 4) {name}({", ".join(parameters)}{last}) {{ '
            f"struct Op {{ static INLINE {self.output} apply({operation}) {{ return {self.expression}; }} }}; {call}; }}"
        )

    def _kernel(self, forms: str, walk: str, bits: int) -> launch.Kernel:
        key = (forms, walk, bits)
        kernel = self._kernels.get(key)
        if kernel is None:
            kernel = self._kernels[key] = launch.Kernel("elementwise.cu", *self.entry(forms, walk, bits))
        return kernel

    # ------------------------------------------------------------------------------------------------------ launches

    def fill(self, shape: tuple[int, ...], forms: str, *values: Any) -> Any:
        """A new dense array computed from the position and from ``values``."""
        out = cupy().ndarray(shape, self.dtype)
        self._dense(out, forms, values)
        return out

    def _dense(self, out: Any, forms: str, arguments: tuple[Any, ...]) -> None:
        n = out.size
        if n == 0:
            return
        bits, index = (32, np.uint32) if n < layout.INDEX_LIMIT else (64, np.uint64)
        threads = max(n // self.packet, min(n, self.packet))
        self._kernel(forms, "dense", bits)(
            launch.blocks_for(threads), (launch.THREADS,), (*arguments, out, index(n))
        )

    def __call__(self, *operands: Any, out: Any = None) -> Any:
        """The result, in ``out`` if that is given: a dense array that may be one of the operands."""
        cp = cupy()
        ndarray = cp.ndarray
        forms, shape, dense, arguments = "", None, True, []
        for x, scalar, alignment in zip(operands, self.scalars, self.alignments, strict=False):
            if isinstance(x, ndarray):
                forms += "a"
                if shape is None:
                    shape = x.shape
                elif shape != x.shape:
                    dense = False
                if dense and not (x.flags.c_contiguous and x.data.ptr % alignment == 0):
                    dense = False
                arguments.append(x)
            else:
                forms += "v"
                arguments.append(scalar(x))
        if dense:
            if out is None:
                out = ndarray(shape, self.dtype)
            self._dense(out, forms, tuple(arguments))
            return out
        return self._strided(forms, arguments, out)

    def _strided(self, forms: str, arguments: list[Any], out: Any) -> Any:
        cp = cupy()
        arrays = [x for form, x in zip(forms, arguments, strict=True) if form == "a"]
        shape = layout.broadcast_shapes([x.shape for x in arrays])
        if out is None:
            out = cp.ndarray(shape, self.dtype)
        if out.size == 0:
            return out
        strides = []
        for form, x in zip(forms, arguments, strict=True):
            own = [s // x.itemsize for s in x.strides] if form == "a" else None
            strides.append([0] * len(shape) if own is None else layout.broadcast_strides(x.shape, own, shape))
        sizes, merged = layout.merge(shape, strides)
        if len(sizes) > layout.MAX_DIMS:
            whole = [
                contiguous(cp.broadcast_to(x, shape)) if form == "a" else x
                for form, x in zip(forms, arguments, strict=True)
            ]
            self._dense(out, forms, tuple(whole))
            return out
        far = max(out.size, *(layout.reach(sizes, s) for s in merged))
        bits, index = (32, np.uint32) if far < layout.INDEX_LIMIT else (64, np.uint64)
        self._kernel(forms, "strided", bits)(
            launch.blocks_for(out.size),
            (launch.THREADS,),
            (*arguments, out, index(out.size), layout.packed(sizes, merged, bits)),
        )
        return out


# ------------------------------------------------------------------------------------------------------ the family


def describe(name: str, dtype: str, kind: str) -> Elementwise | None:
    """The kernel of a unary or binary op for a dtype; None where the op hands its operand through."""
    table, count = (UNARY, 1) if name in UNARY else (BINARY, 2)
    expression = table[name].of(kind)
    if expression is None:
        raise LookupError(f"{name} has no expression for {dtype}")
    if expression == "x":
        return None
    result = table[name].result.format(T=dtype, R=dtypes.as_dtype(dtype).real.name)
    return Elementwise(name, (dtype,) * count, result, expression)


def where_kernel(dtype: str) -> Elementwise:
    return Elementwise("where", ("bool", dtype, dtype), dtype, "x1 ? x2 : x3")


def cast_kernel(source: str, target: str) -> Elementwise:
    return Elementwise("cast", (source,), target, f"cast<{target}>(x1)")


def full_kernel(dtype: str) -> Elementwise:
    return Elementwise("full", (dtype,), dtype, "x1")


def arange_kernel(dtype: str, kind: str) -> Elementwise:
    """start + i * step: integers modulo 2^64, then to the dtype; floating ones as Python computes them, then
    rounded.
    """
    if kind == "float":
        return Elementwise(
            "arange",
            ("position", "float64", "float64"),
            dtype,
            f"cast<{dtype}>(__dadd_rn(x2, __dmul_rn(double(x1), x3)))",
        )
    return Elementwise("arange", ("position", "uint64", "uint64"), dtype, f"{dtype}(x2 + uint64(x1) * x3)")


def sort_key_kernel(dtype: str, descending: bool) -> Elementwise:
    key = "uint64" if dtype in ("int64", "uint64", "float64") else "uint32"
    name, sign = ("descending_key", "~") if descending else ("ascending_key", "")
    return Elementwise(name, (dtype,), key, f"{sign}sort_key(x1)")


def castable(source: Any, target: Any) -> bool:
    """Whether there is a cast between two dtypes: complex numbers become bool and complex ones alone."""
    return source.kind != "complex" or target.kind in ("complex", "bool")


def every_kernel(names: Iterable[str]) -> Iterator[Elementwise]:
    """Each kernel of the family for each of the dtypes ``names``: what the tests compile and run."""
    found = [dtypes.as_dtype(name) for name in names]
    for d in found:
        if d not in dtypes.HALF:
            yield from _computing(d)
        if d.kind not in ("bool", "complex"):
            yield arange_kernel(d.name, d.kind)
        for target in found:
            if castable(d, target):
                yield cast_kernel(d.name, target.name)


def _computing(d: Any) -> Iterator[Elementwise]:
    for name in (*UNARY, *BINARY):
        table = UNARY if name in UNARY else BINARY
        if table[name].of(d.kind) not in (None, "x"):
            kernel = describe(name, d.name, d.kind)
            assert kernel is not None
            yield kernel
    yield where_kernel(d.name)
    yield full_kernel(d.name)
    if d.kind != "complex":
        yield sort_key_kernel(d.name, descending=False)
        yield sort_key_kernel(d.name, descending=True)


# ------------------------------------------------------------------------------------------------------ registration


def _make_unary(op: Any, dtype: Any) -> Callable[..., Any]:
    run = describe(op.name, dtype.name, dtype.kind)
    if run is None:
        return lambda x, /: x
    return _with_into(lambda x, /: run(x), run)


def _make_binary(op: Any, dtype: Any) -> Callable[..., Any]:
    run = describe(op.name, dtype.name, dtype.kind)
    assert run is not None
    return _with_into(lambda x1, x2, /: run(x1, x2), run)


def _make_where(op: Any, dtype: Any) -> Callable[..., Any]:
    run = where_kernel(dtype.name)
    return _with_into(lambda condition, x1, x2, /: run(condition, x1, x2), run)


def _with_into(kernel: Any, run: Elementwise) -> Callable[..., Any]:
    """The kernel with the form that writes over an array, which programs use: it also says that results are never views."""
    kernel.into = lambda out, /, *operands: run(*operands, out=out)
    return kernel  # type: ignore[no-any-return]


kernels.family([getattr(ops, name) for name in UNARY], _make_unary)
kernels.family([getattr(ops, name) for name in BINARY], _make_binary)
kernels.family(ops.where, _make_where)
