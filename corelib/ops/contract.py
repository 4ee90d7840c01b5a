"""Contractions: products of matrices, and what is made of them.

Everything here comes down to ``matmul``, so that a backend's one fast product serves all. A product's error is bounded by n u |x1| |x2|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import primitive
from ..dtypes import NUMERIC, float32
from ..dtypes import bool as bool_
from ..errors import DTypeError, ShapeError
from ..op import SUM_BOUND
from ..rules import Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Sample, shapes
from ..tape import unbroadcast
from .elementwise import multiply
from .movement import permute_dims, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


@custom(NUMERIC)
def _matmul_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    if not x1.ndim or not x2.ndim:
        raise ShapeError(f"{op.name} needs at least one dimension, got shapes {x1.shape} and {x2.shape}: use multiply for scalars")
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


def _column(x: Tensor) -> Tensor:
    return reshape(x, (*x.shape, 1))


def _rows(x: Tensor, axes: int) -> Tensor:
    """x with all but its last ``axes`` axes made one."""
    count, kept = 1, x.shape[x.ndim - axes :]
    for n in x.shape[: x.ndim - axes]:
        count *= n
    return reshape(x, (count, *kept))


def _left(g: Tensor, x1: Spec, x2: Tensor) -> Tensor:
    """x1's cotangent: g x2 transposed, summed over the batch axes along which x1 was broadcast."""
    shape = tuple(x1.shape)
    if x2.ndim == 1:
        return multiply(g if len(shape) == 1 else _column(g), x2)
    if len(shape) == 1:
        product = matmul(x2, _column(g))
        return unbroadcast(reshape(product, product.shape[:-1]), shape)
    return unbroadcast(matmul(g, _transposed(x2)), shape)


def _right(g: Tensor, x1: Tensor, x2: Spec) -> Tensor:
    """x2's cotangent: x1 transposed times g, summed over batch axes: by one product of matrices when x2 has none of them."""
    shape = tuple(x2.shape)
    if x1.ndim == 1:
        return multiply(g, x1) if len(shape) == 1 else multiply(_column(x1), reshape(g, (*g.shape[:-1], 1, g.shape[-1])))
    if len(shape) == 1:
        return matmul(_rows(g, 0), _rows(x1, 1))
    if len(shape) == 2 and x1.ndim > 2:
        return matmul(_transposed(_rows(x1, 1)), _rows(g, 1))
    return unbroadcast(matmul(_transposed(x1), g), shape)


@primitive(
    kind="contract", rule=_matmul_rule, ulp=SUM_BOUND, bilinear=(_left, _right),
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
    """The product of matrices, over the last two axes; leading axes broadcast. A one-dimensional operand is a row on the left and a
    column on the right, and its axis is gone from the result. Integers wrap.

    Example: shapes (5, 2, 3) and (3, 4) give (5, 2, 4).
    """
