"""Reductions and scans: sums, products, extremes, and the statistics that follow from them.

A sum's error is bounded by n u sum|x| on every backend (and far smaller in practice, since sums are pairwise or blocked). Gradients of
products are right with zeros among the factors: nothing is divided. Equal extremes share the cotangent equally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import primitive
from ..dtypes import ALL, float32, int64
from ..dtypes import bool as bool_
from ..errors import DTypeError, ShapeError
from ..op import SUM_BOUND, calls
from ..params import CANONICAL, normalize_axis, not_a_tensor
from ..rules import Spec, custom, reduced, reduction
from ..samples import ErrorSample, Sample, along, reductions
from .compare import equal
from .creation import full
from .elementwise import add, astype, divide, multiply
from .movement import broadcast_to, concat, flip, narrow, pad, permute_dims, reshape

if TYPE_CHECKING:
    from ..params import Accumulator, Axes, Axis
    from ..tensor import Tensor


def _out_of_range(**kwargs: Any) -> list[ErrorSample]:
    return [
        ErrorSample(ShapeError, "axis 2 is out of range for 2 dimensions", lambda m: Sample((m.array((2, 3), float32),), {"axis": 2, **kwargs})),
        ErrorSample(ShapeError, "axis -1 is out of range for 0 dimensions", lambda m: Sample((m.array((), float32),), {"axis": -1, **kwargs})),
    ]  # fmt: skip


_AXES_ERRORS = [
    *_out_of_range(),
    ErrorSample(ShapeError, "names an axis twice", lambda m: Sample((m.array((2, 3), float32),), {"axis": (0, -2)})),
    ErrorSample(DTypeError, "axis must be an integer", lambda m: Sample((m.array((2, 3), float32),), {"axis": 0.5})),
]


def _spread(y: Tensor, shape: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduction's result (or its cotangent) repeated over the reduced axes: it has x's shape again."""
    shape = tuple(shape)
    return broadcast_to(y if keepdims else reshape(y, reduced(shape, axis, True)), shape)


# -- sums and products -------------------------------------------------------------------------------------------


@primitive(
    kind="reduce", rule=reduction(ALL, "dtype"), leading=True, ulp=SUM_BOUND, errors=_AXES_ERRORS, samples=reductions(),
    linear=lambda g, x, axis, keepdims: _spread(astype(g, x.dtype), x.shape, axis, keepdims),
)  # fmt: skip
def sum(x: Tensor, /, *, axis: Axes = None, dtype: Accumulator = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``: one, several, or None for all axes; 0 where there is nothing to add.

    dtype: what is accumulated in and returned: x's own, int64 or uint64 for smaller integers, int64 for bool, unless given.
    """


def _one_axis(x: Tensor, axis: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """x with the axes ``axis`` moved to the end and made one, and the permutation that did it."""
    kept = tuple(a for a in range(-x.ndim, 0) if a not in axis)
    order = (*kept, *axis)
    return reshape(permute_dims(x, order), (*[x.shape[a] for a in kept], _product([x.shape[a] for a in axis]))), order


def _product(sizes: Any) -> int:
    total = 1
    for s in sizes:
        total *= s
    return total


def _shifted(x: Tensor, by: int, fill: int) -> Tensor:
    """x moved by ``by`` places towards the end of its last axis (the start, if negative), filled with ``fill``."""
    n = x.shape[-1]
    by_ = min(abs(by), n) if by >= 0 else -min(-by, n)
    none = ((0, 0),) * (x.ndim - 1)
    if by_ >= 0:
        return pad(narrow(x, -1, 0, n - by_), (*none, (by_, 0)), constant_values=fill)
    return pad(narrow(x, -1, -by_, n + by_), (*none, (0, -by_)), constant_values=fill)
