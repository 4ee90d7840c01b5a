"""Order: sorting, searching, the largest elements. Sorts are stable in both directions, and NaN counts as the
largest value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..dispatch import as_scalar, primitive
from ..dtypes import ORDERED, float32, int64, weak_dtype
from ..errors import ShapeError
from ..op import calls
from ..params import Caller, as_integer, checked, checked_axis
from ..rules import Spec, custom, same_as
from ..samples import ErrorSample, Maker, Sample, Values, along, calls_
from ..tape import full_like
from . import batching
from .movement import narrow

if TYPE_CHECKING:
    from ..params import Axis, Stable
    from ..tensor import Tensor

_BOTH_WAYS: tuple[dict[str, Any], ...] = ({}, {"descending": True})
_ERRORS = [
    ErrorSample(
        ShapeError,
        "axis 2 is out of range for 2 dimensions",
        lambda m: Sample((m.array((2, 3), float32),), {"axis": 2}),
    ),
    ErrorSample(
        ShapeError, "axis -1 is out of range for 0 dimensions", lambda m: Sample((m.array((), float32),))
    ),
]


@custom(ORDERED)
def _positions_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(specs[0].shape, int64)


@primitive(
    kind="opaque", rule=_positions_rule, leading=True, ulp=0, nondiff="a position is an integer", errors=_ERRORS,
    samples=along(kwargs=_BOTH_WAYS),
)  # fmt: skip
def argsort(x: Tensor, /, *, axis: Axis = -1, descending: bool = False, stable: Stable = True) -> Tensor:
    """The positions that sort x along ``axis``, int64. Always stable: equal elements keep their order,
    descending too.
    """


def _unsort(g: Tensor, x: Tensor, axis: int, descending: bool) -> Tensor:
    order = argsort(x, axis=axis, descending=descending)
    return calls.take_along_axis(g, argsort(order, axis=axis), axis=axis)


@primitive(
    kind="opaque", rule=same_as(0, ORDERED), leading=True, ulp=0, errors=_ERRORS, samples=along(distinct=True, kwargs=_BOTH_WAYS),
    vjp=_unsort,
    jvp=lambda dx, x, axis, descending: calls.take_along_axis(dx, argsort(x, axis=axis, descending=descending), axis=axis),
)  # fmt: skip
def sort(x: Tensor, /, *, axis: Axis = -1, descending: bool = False, stable: Stable = True) -> Tensor:
    """The elements of x in order along ``axis``. NaN counts as the largest: last, or first if ``descending``."""


def _bind_search(
    x1: Tensor, x2: Any, /, *, side: str = "left", sorter: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if side not in ("left", "right"):
        raise ShapeError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if sorter is not None:
        checked("searchsorted", sorter, "sorter")
    if isinstance(x2, bool | int | float):
        checked("searchsorted", x1, "x1")
        dtype = weak_dtype(x2, x1.dtype)
        x2 = full_like(Spec((), dtype), x1._backend, as_scalar(searchsorted.op, x2, dtype))  # type: ignore[attr-defined]
    return (x1 if sorter is None else calls.take(x1, sorter, axis=0), x2), {"side": side}


@custom(ORDERED)
def _search_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    if x1.ndim != 1:
        raise ShapeError(f"{op.name}: x1 must have one dimension, got shape {x1.shape}")
    return Spec(x2.shape, int64)


def _ordered(make: Maker, n: int, dtype: Any) -> Values:
    x = make.array((n,), dtype)
    return Values(x.shape, dtype, tuple(sorted(x.data)))


@primitive(
    kind="opaque", rule=_search_rule, ulp=0, nondiff="a position is an integer", bind=_bind_search, params=("side",), batch=batching.searchsorted,
    samples=calls_(
        lambda m, d: Sample((_ordered(m, 7, d), m.array((4,), d))),
        lambda m, d: Sample((_ordered(m, 7, d), m.array((2, 3), d)), {"side": "right"}),
        lambda m, d: Sample((_ordered(m, 33, d), m.array((), d)), {"side": "left"}),
        lambda m, d: Sample((_ordered(m, 0, d), m.array((3,), d)), {"side": "right"}),
        lambda m, d: Sample((_ordered(m, 7, d), m.array((0, 2), d))),
    ),
    errors=[
        ErrorSample(ShapeError, "x1 must have one dimension", lambda m: Sample((m.array((2, 3), float32), m.array((2,), float32)))),
        ErrorSample(ShapeError, "side must be", lambda m: Sample((m.array((2,), float32), m.array((2,), float32)), {"side": "middle"})),
    ],
)  # fmt: skip
def searchsorted(x1: Tensor, x2: Tensor, /, *, side: str = "left", sorter: Any = None) -> Tensor:
    """Where in the sorted one-dimensional x1 each element of x2 (which may be a number) belongs, int64, so that
    x1 stays sorted.

    ``side``: before ("left") or after ("right") elements equal to it. ``sorter``: positions that sort x1, if
    it is not.
    """


class TopK(NamedTuple):
    """What ``top_k`` returns."""

    values: Tensor
    indices: Tensor


def top_k(x: Tensor, k: int, /, *, axis: int = -1, largest: bool = True) -> TopK:
    """The ``k`` largest (or smallest) elements along ``axis``, the most extreme first, and where they are:
    ``(values, indices)``.

    Equal elements keep their order, and NaN counts as the largest. Raises ShapeError when the axis has fewer
    elements.
    """
    axis, k = checked_axis("top_k", x, axis), as_integer(Caller("top_k"), "k", k)
    if not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k: k is {k}, axis {axis} of x of shape {x.shape} has {x.shape[axis]} elements")
    indices = narrow(argsort(x, axis=axis, descending=largest), axis, 0, k)
    return TopK(calls.take_along_axis(x, indices, axis=axis), indices)


__all__: Sequence[str] = ("top_k",)
calls.top_k = top_k
