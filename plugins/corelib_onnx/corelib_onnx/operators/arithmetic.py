"""Arithmetic, comparisons and bits, element by element."""

from __future__ import annotations

import functools
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, operator

UNARY = {
    "Abs": cl.abs, "Acos": cl.acos, "Acosh": cl.acosh, "Asin": cl.asin, "Asinh": cl.asinh, "Atan": cl.atan,
    "Atanh": cl.atanh, "BitwiseNot": cl.bitwise_invert, "Ceil": cl.ceil, "Cos": cl.cos, "Cosh": cl.cosh,
    "Erf": cl.erf, "Exp": cl.exp, "Floor": cl.floor, "IsNaN": cl.isnan, "Log": cl.log, "Neg": cl.negative,
    "Not": cl.logical_not, "Reciprocal": cl.reciprocal, "Round": cl.round, "Sign": cl.sign, "Sin": cl.sin,
    "Sinh": cl.sinh, "Sqrt": cl.sqrt, "Tan": cl.tan, "Tanh": cl.tanh,
}  # fmt: skip
for _name, _fn in UNARY.items():
    operator(_name)(_fn)


def _truncated(a: Any, b: Any) -> cl.Tensor:
    """a / b; of integers truncated towards zero, as C divides them."""
    if not cl.isdtype(a.dtype, "integral"):
        return cl.divide(a, b)
    quotient = cl.floor_divide(a, b)
    if cl.isdtype(a.dtype, "unsigned integer"):
        return quotient
    inexact = cl.logical_and(cl.not_equal(quotient * b, a), cl.not_equal(cl.less(a, 0), cl.less(b, 0)))
    return quotient + cl.astype(inexact, a.dtype)


def _power(a: Any, b: Any) -> cl.Tensor:
    """a ** b in a's dtype, whatever b's is."""
    if a.dtype == b.dtype:
        return cl.pow(a, b)
    wide = cl.result_type(a.dtype, b.dtype) if _same_kind(a, b) else cl.float64
    return cl.astype(cl.pow(cl.astype(a, wide), cl.astype(b, wide)), a.dtype)


def _same_kind(a: Any, b: Any) -> bool:
    return any(
        cl.isdtype(a.dtype, kind) and cl.isdtype(b.dtype, kind) for kind in ("integral", "real floating")
    )


BINARY = {
    "Add": cl.add, "And": cl.logical_and, "BitwiseAnd": cl.bitwise_and, "BitwiseOr": cl.bitwise_or,
    "BitwiseXor": cl.bitwise_xor, "Div": _truncated, "Equal": cl.equal, "Greater": cl.greater,
    "GreaterOrEqual": cl.greater_equal, "Less": cl.less, "LessOrEqual": cl.less_equal, "Mul": cl.multiply,
    "Or": cl.logical_or, "Pow": _power, "Sub": cl.subtract, "Xor": cl.logical_xor,
}  # fmt: skip


def _with_axis(fn: Any) -> Any:
    """Before opset 7 the second operand's axes begin at ``axis`` of the first, if ``broadcast`` is set."""

    def binary(a: Any, b: Any, *, broadcast: int = 0, axis: Any = None) -> cl.Tensor:
        if broadcast and axis is not None:
            b = cl.reshape(b, b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))
        return fn(a, b)

    return binary


for _name, _fn in BINARY.items():
    operator(_name)(_with_axis(_fn))


@operator("Max")
def maximum(*inputs: Any) -> Any:
    return functools.reduce(cl.maximum, inputs)


@operator("Min")
def minimum(*inputs: Any) -> Any:
    return functools.reduce(cl.minimum, inputs)


@operator("Sum")
def total(*inputs: Any) -> Any:
    return functools.reduce(cl.add, inputs)


@operator("Mean")
def mean(*inputs: Any) -> Any:
    return functools.reduce(cl.add, inputs) / len(inputs)


@operator("Mod")
def modulo(a, b, *, fmod=0):
    if not fmod:
        return cl.remainder(a, b)  # the sign of the divisor
    size = (
        cl.remainder(cl.abs(a), cl.abs(b))
        if not cl.isdtype(a.dtype, "unsigned integer")
        else cl.remainder(a, b)
    )
    return size if cl.isdtype(a.dtype, "unsigned integer") else cl.where(cl.less(a, 0), -size, size)


@operator("BitShift")
def bit_shift(a, b, *, direction):
    if direction not in ("LEFT", "RIGHT"):
        raise ArgumentError(f"BitShift: direction must be 'LEFT' or 'RIGHT', got {direction!r}")
    return cl.bitwise_left_shift(a, b) if direction == "LEFT" else cl.bitwise_right_shift(a, b)


@operator("IsInf")
def is_inf(x, *, detect_negative=1, detect_positive=1):
    wanted = cl.isinf(x)
    if not detect_negative:
        wanted = cl.logical_and(wanted, cl.greater(x, 0))
    return wanted if detect_positive else cl.logical_and(wanted, cl.less(x, 0))


@operator("Clip")
def clip(x, min=None, max=None):
    return cl.clip(x, min, max)


@operator("Where")
def where(condition, x, y):
    return cl.where(condition, x, y)


@operator("Det")
def det(x):
    return cl.linalg.det(x)


@operator("MatMul")
def matmul(a, b):
    return cl.matmul(a, b)


@operator("Einsum")
def einsum(*inputs: Any, equation: str) -> Any:
    return cl.einsum(equation.replace(" ", ""), *inputs)


@operator("Gemm")
def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=0):
    """alpha A B + beta C, with either matrix transposed."""
    product = cl.matmul(a.mT if transA else a, b.mT if transB else b)
    product = product if alpha == 1 else product * alpha
    return product if c is None or not beta else product + (c if beta == 1 else c * beta)


@operator("CumSum")
def cumulative_sum(x, axis: Int, *, exclusive=0, reverse=0):
    return _cumulative(cl.cumulative_sum, x, axis, exclusive, reverse)


@operator("CumProd")
def cumulative_prod(x, axis: Int, *, exclusive=0, reverse=0):
    return _cumulative(cl.cumulative_prod, x, axis, exclusive, reverse)


def _cumulative(fn: Any, x: Any, axis: int, exclusive: int, reverse: int) -> Any:
    x = cl.flip(x, axis=axis) if reverse else x
    y = fn(x, axis=axis, dtype=x.dtype, include_initial=bool(exclusive))
    if exclusive:
        y = cl.take(y, cl.arange(x.shape[axis], device=x.device), axis=axis)
    return cl.flip(y, axis=axis) if reverse else y
