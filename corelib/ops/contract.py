"""Contractions: products of matrices, and what is made of them.

Everything here comes down to ``matmul``, so that a backend's one fast product serves all. A product's error
is bounded by n u |x1| |x2|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import composite, primitive
from ..dtypes import NUMERIC, float32
from ..dtypes import bool as bool_
from ..errors import DTypeError, ShapeError
from ..op import SUM_BOUND, calls
from ..params import Caller, as_integer, checked, checked_axis
from ..rules import Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Sample, shapes
from ..walk import unbroadcast
from . import batching
from .arrange import diagonal
from .elementwise import conj, multiply
from .movement import permute_dims, reshape
from .reduce import sum

if TYPE_CHECKING:
    from ..params import Accumulator, Axis
    from ..tensor import Tensor


@custom(NUMERIC)
def _matmul_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    if not x1.ndim or not x2.ndim:
        raise ShapeError(
            f"{op.name} needs at least one dimension, got shapes {x1.shape} and {x2.shape}: use multiply for scalars"
        )
    k1, k2 = x1.shape[-1], x2.shape[-2 if x2.ndim > 1 else -1]
    if k1 != k2:
        raise ShapeError(
            f"{op.name}: shapes {x1.shape} and {x2.shape} do not fit: the last axis of x1 has {k1} elements, "
            f"the {'second to last' if x2.ndim > 1 else 'only'} axis of x2 has {k2}"
        )
    try:
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    except ShapeError as error:
        raise ShapeError(f"{op.name}: shapes {x1.shape} and {x2.shape}: the leading axes: {error}") from None
    rows = x1.shape[-2:-1] if x1.ndim > 1 else ()
    columns = x2.shape[-1:] if x2.ndim > 1 else ()
    return Spec((*batch, *rows, *columns), common(op, specs))


def _transposed(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return permute_dims(x, (*range(-x.ndim, -2), -1, -2))


def _adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose of each matrix."""
    return conj(_transposed(x))


def _column(x: Tensor) -> Tensor:
    return reshape(x, (*x.shape, 1))


def _rows(x: Tensor, axes: int) -> Tensor:
    """x with all but its last ``axes`` axes made one."""
    first = x.ndim - axes
    return reshape(x, (math.prod(x.shape[:first]), *x.shape[first:]))


def _left(g: Tensor, x1: Spec, x2: Tensor) -> Tensor:
    """x1's cotangent: g times x2's conjugate transpose, summed over the batch axes along which x1 was broadcast."""
    shape = tuple(x1.shape)
    if x2.ndim == 1:
        return multiply(g if len(shape) == 1 else _column(g), conj(x2))
    if len(shape) == 1:
        product = matmul(conj(x2), _column(g))
        return unbroadcast(reshape(product, product.shape[:-1]), shape)
    return unbroadcast(matmul(g, _adjoint(x2)), shape)


def _right(g: Tensor, x1: Tensor, x2: Spec) -> Tensor:
    """x2's cotangent: x1's conjugate transpose times g, summed over batch axes: by one product of matrices when x2 has
    none of them.
    """
    shape = tuple(x2.shape)
    if x1.ndim == 1:
        return (
            multiply(g, conj(x1))
            if len(shape) == 1
            else multiply(_column(conj(x1)), reshape(g, (*g.shape[:-1], 1, g.shape[-1])))
        )
    if len(shape) == 1:
        return matmul(_rows(g, 0), conj(_rows(x1, 1)))
    if len(shape) == 2 and x1.ndim > 2:
        return matmul(_adjoint(_rows(x1, 1)), _rows(g, 1))
    return unbroadcast(matmul(_adjoint(x1), g), shape)


@primitive(
    kind="contract", rule=_matmul_rule, ulp=SUM_BOUND, bilinear=(_left, _right), batch=batching.matmul,
    samples=shapes(
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((0, 2, 3), (3, 4)),
        ((1, 1), (1, 1)), ((17, 33), (33, 9)),
    ),
    errors=[
        ErrorSample(ShapeError, r"shapes \(2, 3\) and \(4, 5\) do not fit: the last axis of x1 has 3 elements, the second to last axis of x2 has 4",
                    lambda m: Sample((m.array((2, 3), float32), m.array((4, 5), float32)))),
        ErrorSample(ShapeError, "the only axis of x2 has 2", lambda m: Sample((m.array((2, 3), float32), m.array((2,), float32)))),
        ErrorSample(ShapeError, "at least one dimension", lambda m: Sample((m.array((), float32), m.array((2,), float32)))),
        ErrorSample(ShapeError, "leading axes: shapes .* do not broadcast",
                    lambda m: Sample((m.array((2, 2, 3), float32), m.array((3, 3, 2), float32)))),
        ErrorSample(DTypeError, "matmul does not accept bool", lambda m: Sample((m.array((2, 2), bool_), m.array((2, 2), bool_)))),
    ],
)  # fmt: skip
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The product of matrices, over the last two axes; leading axes broadcast. A one-dimensional operand is a
    row on the left and a column on the right, and its axis is gone from the result. Integers wrap.

    Example: ``matmul(x, y)`` for x of shape (5, 2, 3) and y of shape (3, 4) has shape (5, 2, 4).
    """


# -- products of vectors -------------------------------------------------------------------------------------


def _bind_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> tuple[tuple[Any, ...], dict[str, Any]]:
    axis = checked_axis("vecdot", x1, axis, "x1")
    checked("vecdot", x2, "x2")
    if axis < -x2.ndim:
        raise ShapeError(
            f"vecdot: axis {axis} is out of range for x2 of shape {x2.shape}: both vectors lie along the same axis from the end"
        )
    return (x1, x2), {"axis": axis}


@custom(NUMERIC)
def _vecdot_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    axis = params["axis"]
    if x1.shape[axis] != x2.shape[axis]:
        raise ShapeError(
            f"{op.name}: shapes {x1.shape} and {x2.shape} do not fit: axis {axis} has {x1.shape[axis]} and {x2.shape[axis]} elements"
        )
    try:
        shape = broadcast_shapes(x1.shape, x2.shape)
    except ShapeError as error:
        raise ShapeError(f"{op.name}: {error}") from None
    return Spec(shape[: len(shape) + axis] + shape[len(shape) + axis + 1 :], common(op, specs))


@composite(
    kind="contract", rule=_vecdot_rule, leading=True, ulp=SUM_BOUND, bind=_bind_vecdot,
    samples=shapes(
        ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 3), {"axis": 0}), ((4, 1, 3), (2, 3)), ((0,), (0,)), ((2, 33), (2, 33)),
        ((2, 3, 4), (1, 3, 4), {"axis": -2}),
    ),
    errors=[
        ErrorSample(ShapeError, "axis -1 has 3 and 4 elements", lambda m: Sample((m.array((3,), float32), m.array((4,), float32)))),
        ErrorSample(ShapeError, "axis -1 has 3 and 1 elements", lambda m: Sample((m.array((3,), float32), m.array((1,), float32)))),
        ErrorSample(ShapeError, "out of range", lambda m: Sample((m.array((3,), float32), m.array((3,), float32)), {"axis": 1})),
        ErrorSample(ShapeError, "do not broadcast", lambda m: Sample((m.array((2, 3), float32), m.array((4, 3), float32)))),
    ],
)  # fmt: skip
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: Axis = -1) -> Tensor:
    """The scalar products of the vectors along ``axis``, x1's conjugated; the other axes broadcast. Integers
    wrap.
    """
    if x1.shape[axis] != x2.shape[axis]:
        raise ShapeError(f"vecdot: axis {axis} has {x1.shape[axis]} and {x2.shape[axis]} elements")
    return sum(multiply(conj(x1), x2), axis=axis, dtype=x1.dtype)


@custom(NUMERIC)
def _outer_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(
            f"{op.name}: both operands must have one dimension, got shapes {x1.shape} and {x2.shape}: use reshape"
        )
    return Spec((*x1.shape, *x2.shape), common(op, specs))


@composite(
    kind="contract", rule=_outer_rule, ulp=0.5, ulp_complex=2, samples=shapes(((3,), (4,)), ((1,), (5,)), ((0,), (3,)), ((33,), (2,))),
    errors=[ErrorSample(ShapeError, "outer: both operands must have one dimension",
                        lambda m: Sample((m.array((2, 3), float32), m.array((3,), float32))))],
)  # fmt: skip
def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """All products of an element of x1 and one of x2, which have one dimension each: ``x1[i] * x2[j]``."""
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(
            f"outer: both operands must have one dimension, got shapes {x1.shape} and {x2.shape}: use reshape"
        )
    return multiply(_column(x1), x2)


def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Products summed over pairs of axes: the last ``axes`` of x1 with the first of x2, or the pairs of two
    sequences.

    The result has the other axes of x1, then those of x2. Example: ``tensordot(x1, x2, axes=((0,), (1,)))``.
    """
    checked("tensordot", x1, "x1")
    checked("tensordot", x2, "x2")
    if isinstance(axes, tuple | list):
        given = [list(a) if isinstance(a, tuple | list) else [a] for a in axes]
        if len(given) != 2 or len(given[0]) != len(given[1]):
            raise ShapeError(f"tensordot: axes must be a number or two sequences of as many axes, got {axes}")
        first = [checked_axis("tensordot", x1, a) for a in given[0]]
        second = [checked_axis("tensordot", x2, a) for a in given[1]]
    else:
        count = as_integer(Caller("tensordot"), "axes", axes)
        if not 0 <= count <= (x1.ndim if x1.ndim < x2.ndim else x2.ndim):
            raise ShapeError(f"tensordot: axes {count} is out of range for shapes {x1.shape} and {x2.shape}")
        first, second = list(range(-count, 0)), [a - x2.ndim for a in range(count)]
    if len(set(first)) != len(first) or len(set(second)) != len(second):
        raise ShapeError(f"tensordot: axes {axes} names an axis twice")
    for a, b in zip(first, second, strict=True):
        if x1.shape[a] != x2.shape[b]:
            raise ShapeError(
                f"tensordot: shapes {x1.shape} and {x2.shape} do not fit: axis {a} of x1 has {x1.shape[a]} elements, "
                f"axis {b} of x2 has {x2.shape[b]}"
            )
    rows = [a for a in range(-x1.ndim, 0) if a not in first]
    columns = [a for a in range(-x2.ndim, 0) if a not in second]
    inner = math.prod(x1.shape[a] for a in first)
    shape = (*[x1.shape[a] for a in rows], *[x2.shape[a] for a in columns])
    left = reshape(permute_dims(x1, (*rows, *first)), (math.prod(x1.shape[a] for a in rows), inner))
    right = reshape(permute_dims(x2, (*second, *columns)), (inner, math.prod(x2.shape[a] for a in columns)))
    return reshape(matmul(left, right), shape)


@custom()
def _trace_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,) = specs
    if x.ndim < 2:
        raise ShapeError(f"{op.name} needs at least two dimensions, x has shape {x.shape}")
    return Spec(x.shape[:-2], params["dtype"])


@composite(
    kind="contract", rule=_trace_rule, leading=True, ulp=SUM_BOUND,
    samples=shapes(((3, 3),), ((2, 4), {"offset": 1}), ((2, 3, 3), {"offset": -1}), ((3, 3), {"offset": 9}), ((0, 3),)),
    errors=[ErrorSample(ShapeError, "trace needs at least two dimensions", lambda m: Sample((m.array((3,), float32),)))],
)  # fmt: skip
def trace(x: Tensor, /, *, offset: int = 0, dtype: Accumulator = None) -> Tensor:
    """The sum of the ``offset``-th diagonal of each matrix of x. dtype: as for ``sum``."""
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


__all__: Sequence[str] = ("tensordot",)
calls.tensordot = tensordot
