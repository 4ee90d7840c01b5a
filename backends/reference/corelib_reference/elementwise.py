"""Element-wise ops: one function of Python numbers per op, and two ways to apply it.

Read the tables first: they are the definitions. Each kernel applies its function to the broadcast operands
and rounds the results once. A float32 operand is a double that happens to be representable in 24 bits; why
computing in double and rounding once is right is told in ``rounding.py``. Real functions are ``ieee.py``'s,
complex ones ``annex_g.py``'s.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from corelib.plugin_api import dtypes, ops

from . import annex_g, ieee
from .array import RefArray, Shape, broadcast, broadcast_shape
from .kernels import kernels
from .rounding import rounding, scalar

Function = Callable[..., Any]
Table = dict[Any, Function]  # by op


def _same(x: Any) -> Any:
    return x


def _never(x: Any) -> bool:
    return False


def _always(x: Any) -> bool:
    return True


def _integer_sign(x: int) -> int:
    return (x > 0) - (x < 0)


def _integer_floor_divide(x: int, y: int) -> int:
    return x // y if y else 0


def _integer_remainder(x: int, y: int) -> int:
    return x % y if y else 0


def _integer_power(dtype: dtypes.DType) -> Function:
    """x**y modulo 2**bits; a negative exponent truncates the exact result: 1 for 1, +-1 for -1, else 0."""
    modulus = 1 << dtype.bits

    def power(x: int, y: int) -> int:
        if y >= 0:
            return pow(x, y, modulus)
        return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)

    return power


def _left_shift(dtype: dtypes.DType) -> Function:
    return lambda x, count: x << count if 0 <= count < dtype.bits else 0


def _right_shift(dtype: dtypes.DType) -> Function:
    return lambda x, count: x >> count if 0 <= count < dtype.bits else -(x < 0)


# What each op does to one element: of a floating dtype, of an integer dtype (where booleans are accepted they
# count as integers: False is 0 and True is 1), of a complex dtype.
FLOATING_UNARY: Table = {
    ops.negative: operator.neg, ops.abs: abs, ops.sign: ieee.sign,
    ops.floor: ieee.floor, ops.ceil: ieee.ceil, ops.round: ieee.rint, ops.trunc: ieee.trunc,
    ops.sqrt: ieee.sqrt, ops.exp: ieee.exp, ops.expm1: ieee.expm1,
    ops.log: ieee.log, ops.log1p: ieee.log1p, ops.log2: ieee.log2, ops.log10: ieee.log10,
    ops.sin: ieee.sin, ops.cos: ieee.cos, ops.tan: ieee.tan,
    ops.asin: ieee.asin, ops.acos: ieee.acos, ops.atan: math.atan,
    ops.sinh: ieee.sinh, ops.cosh: ieee.cosh, ops.tanh: math.tanh,
    ops.asinh: math.asinh, ops.acosh: ieee.acosh, ops.atanh: ieee.atanh, ops.erf: math.erf,
    ops.conj: _same, ops.real: _same, ops.imag: lambda x: 0.0,
}  # fmt: skip
INTEGER_UNARY: Table = {
    ops.negative: operator.neg, ops.abs: abs, ops.sign: _integer_sign,
    ops.floor: _same, ops.ceil: _same, ops.round: _same, ops.trunc: _same,
    ops.conj: _same, ops.real: _same, ops.imag: lambda x: 0,
}  # fmt: skip
COMPLEX_UNARY: Table = {
    ops.negative: operator.neg, ops.conj: complex.conjugate, ops.sign: annex_g.sign, ops.round: annex_g.rint,
    ops.sqrt: annex_g.sqrt, ops.exp: annex_g.exp, ops.expm1: annex_g.expm1,
    ops.log: annex_g.log, ops.log1p: annex_g.log1p, ops.log2: annex_g.log2, ops.log10: annex_g.log10,
    ops.sin: annex_g.sin, ops.cos: annex_g.cos, ops.tan: annex_g.tan,
    ops.asin: annex_g.asin, ops.acos: annex_g.acos, ops.atan: annex_g.atan,
    ops.sinh: annex_g.sinh, ops.cosh: annex_g.cosh, ops.tanh: annex_g.tanh,
    ops.asinh: annex_g.asinh, ops.acosh: annex_g.acosh, ops.atanh: annex_g.atanh,
}  # fmt: skip
COMPLEX_TO_REAL: Table = {
    ops.real: operator.attrgetter("real"), ops.imag: operator.attrgetter("imag"), ops.abs: annex_g.modulus,
}  # fmt: skip
FLOATING_PREDICATE: Table = {ops.isnan: math.isnan, ops.isinf: math.isinf, ops.isfinite: math.isfinite}
INTEGER_PREDICATE: Table = {ops.isnan: _never, ops.isinf: _never, ops.isfinite: _always}
COMPLEX_PREDICATE: Table = {ops.isnan: cmath.isnan, ops.isinf: cmath.isinf, ops.isfinite: cmath.isfinite}
FLOATING_BINARY: Table = {
    ops.add: operator.add, ops.subtract: operator.sub, ops.multiply: operator.mul, ops.divide: ieee.divide,
    ops.floor_divide: ieee.floor_divide, ops.remainder: ieee.remainder, ops.pow: ieee.power,
    ops.atan2: math.atan2, ops.hypot: ieee.hypot, ops.copysign: math.copysign, ops.nextafter: ieee.nextafter,
    ops.maximum: ieee.maximum, ops.minimum: ieee.minimum,
}  # fmt: skip
INTEGER_BINARY: Table = {
    ops.add: operator.add, ops.subtract: operator.sub, ops.multiply: operator.mul,
    ops.floor_divide: _integer_floor_divide, ops.remainder: _integer_remainder,
    ops.maximum: max, ops.minimum: min,
    ops.bitwise_and: operator.and_, ops.bitwise_or: operator.or_, ops.bitwise_xor: operator.xor,
}  # fmt: skip
COMPLEX_BINARY: Table = {
    ops.add: operator.add, ops.subtract: operator.sub, ops.multiply: annex_g.multiply,
    ops.divide: annex_g.divide, ops.pow: annex_g.pow,
}  # fmt: skip
INTEGER_BINARY_BY_WIDTH: Table = {
    ops.pow: _integer_power, ops.bitwise_left_shift: _left_shift, ops.bitwise_right_shift: _right_shift,
}  # fmt: skip
EQUALITY: Table = {ops.equal: operator.eq, ops.not_equal: operator.ne}
ORDER: Table = {
    ops.less: operator.lt, ops.less_equal: operator.le,
    ops.greater: operator.gt, ops.greater_equal: operator.ge,
}  # fmt: skip


def _operands(dtype: dtypes.DType, *operands: Any) -> tuple[Shape, list[Iterable[Any]]]:
    """The broadcast shape, and each operand's elements; a scalar takes the dtype and repeats for ever."""
    shape = broadcast_shape(*(x.shape for x in operands if isinstance(x, RefArray)))

    def elements(x: Any) -> Iterable[Any]:
        return broadcast(x, shape) if isinstance(x, RefArray) else repeat(scalar(x, dtype))

    return shape, [elements(x) for x in operands]


def unary(function: Function, dtype: dtypes.DType, result: dtypes.DType) -> Callable[[RefArray], RefArray]:
    """The kernel that applies ``function`` to every element of an array of ``dtype``."""
    rounded = rounding(result)

    def kernel(x: RefArray, /) -> RefArray:
        return RefArray(x.shape, result, rounded(list(map(function, x.data))))

    return kernel


def binary(function: Function, dtype: dtypes.DType, result: dtypes.DType) -> Callable[..., RefArray]:
    """The kernel that applies ``function`` to every pair of elements of two operands of ``dtype``."""
    rounded = rounding(result)

    def kernel(x1: Any, x2: Any, /) -> RefArray:
        shape, (left, right) = _operands(dtype, x1, x2)
        return RefArray(shape, result, rounded(list(map(function, left, right))))

    return kernel


def _register(table: dict[Any, Function], form: Any, accepted: tuple[Any, ...], result: str = "same") -> None:
    """Register form(function, dtype, result dtype) for each op of the table and each accepted dtype.

    The result has the ``same`` dtype, the ``real`` one of a complex dtype's parts, or ``bool``.
    """
    for op, function in table.items():
        for dtype in accepted:
            results = {"same": dtype, "real": dtype.real, "bool": dtypes.bool}
            kernels.add(op, form(function, dtype, results[result]), dtypes=(dtype,))


_register(FLOATING_UNARY, unary, dtypes.FLOATING)
_register(INTEGER_UNARY, unary, dtypes.INTEGER)
_register(COMPLEX_UNARY, unary, dtypes.COMPLEX)
_register(COMPLEX_TO_REAL, unary, dtypes.COMPLEX, "real")
_register(FLOATING_PREDICATE, unary, dtypes.FLOATING, "bool")
_register(INTEGER_PREDICATE, unary, dtypes.INTEGER, "bool")
_register(COMPLEX_PREDICATE, unary, dtypes.COMPLEX, "bool")
_register({ops.bitwise_invert: operator.invert}, unary, dtypes.INTEGER)
_register({ops.bitwise_invert: operator.not_}, unary, dtypes.BOOLEAN)
_register(FLOATING_BINARY, binary, dtypes.FLOATING)
_register({ops.nextafter: ieee.nextafter_float32}, binary, (dtypes.float32,))
_register(INTEGER_BINARY, binary, dtypes.INTEGER)
_register(COMPLEX_BINARY, binary, dtypes.COMPLEX)
_register(
    {op: INTEGER_BINARY[op] for op in (ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor)},
    binary,
    dtypes.BOOLEAN,
)
_register({ops.maximum: max, ops.minimum: min}, binary, dtypes.BOOLEAN)
_register(EQUALITY, binary, (*dtypes.BOOLEAN, *dtypes.NUMERIC), "bool")
_register(ORDER, binary, (*dtypes.BOOLEAN, *dtypes.REAL), "bool")
for _dtype in dtypes.INTEGER:
    _register({op: make(_dtype) for op, make in INTEGER_BINARY_BY_WIDTH.items()}, binary, (_dtype,))


@kernels.implements(ops.where)
def where(condition: RefArray, x1: Any, x2: Any, /) -> RefArray:
    """x1 where condition holds, x2 elsewhere; one of the two may be a Python scalar."""
    dtype = x1.dtype if isinstance(x1, RefArray) else x2.dtype
    shape, (chosen, left, right) = _operands(dtype, condition, x1, x2)
    selected = zip(chosen, left, right, strict=False)  # not strict: scalars repeat for ever
    return RefArray(shape, dtype, [a if c else b for c, a, b in selected])
