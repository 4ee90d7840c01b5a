"""Reading and writing at computed places: gather, scatter, and what is made of them.

``k`` index tensors of one shape address the ``k`` axes from ``axis`` on; the axes before them are kept in
front, those behind them at the back. Negative indices count from the end of an axis, and one that is out of
range is an error on every backend, in the same words. What ``x[...]`` means is decided in ``subscript.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..dispatch import composite, primitive
from ..dtypes import NUMERIC, float32, int64
from ..errors import DTypeError, IndexOutOfBoundsError, ShapeError
from ..op import SUM_BOUND, calls
from ..params import normalize_axis
from ..rules import Spec, broadcast_shapes, custom
from ..samples import ErrorSample, Maker, Sample, Values, calls_
from ..tape import full_like
from ..tensor import Tensor
from . import batching

if TYPE_CHECKING:
    from ..params import Axis

    Array = Tensor

INTEGER_RESULT = "an index is an integer"


# -- what the ops of this module share -----------------------------------------------------------------------


class Named:
    """Stands for an op in the messages of functions that run before it."""

    def __init__(self, name: str) -> None:
        self.name, self.operands = name, ("x",)


def _together(op: Any, indices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Index tensors broadcast to one shape."""
    if not indices:
        raise ShapeError(f"{op.name} needs at least one tensor of indices")
    if (
        len(indices) == 1
        or not all(isinstance(i, Tensor) for i in indices)
        or len({i._data.shape for i in indices}) == 1
    ):
        return indices
    try:
        shape = broadcast_shapes(*(i.shape for i in indices))
    except ShapeError as error:
        raise ShapeError(f"{op.name}: the indices' {error}") from None
    return tuple(calls.broadcast_to(i, shape) for i in indices)


def _axis(op: Any, x: Any, axis: Any) -> Any:
    return normalize_axis(op, "axis", axis, x.ndim) if isinstance(x, Tensor) else axis


_GATHER, _SCATTER, _SCATTER_ADD, _ALONG = map(Named, ("gather", "scatter", "scatter_add", "take_along_axis"))


def _bind_gather(x: Any, /, *indices: Any, axis: Any = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (x, *_together(_GATHER, indices)), {"axis": _axis(_GATHER, x, axis)}


def _bind_scatter(op: Any) -> Any:
    def bind(
        x: Any, values: Any, /, *indices: Any, axis: Any = 0, overwrite: Any = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (x, values, *_together(op, indices)), {
            "axis": _axis(op, x, axis),
            "overwrite": bool(overwrite),
        }

    return bind


def gathered_shape(op: Any, shape: tuple[int, ...], indices: Sequence[Spec], axis: int) -> tuple[int, ...]:
    """The shape of what ``indices`` address in an operand of ``shape`` from ``axis`` on."""
    first, k = len(shape) + axis, len(indices)
    if first + k > len(shape):
        raise ShapeError(
            f"{op.name}: {k} tensors of indices from axis {first} on are too many for x of shape {shape}"
        )
    if any(i.shape != indices[0].shape for i in indices):
        raise ShapeError(
            f"{op.name}: the indices have different shapes {', '.join(str(i.shape) for i in indices)}"
        )
    return (*shape[:first], *indices[0].shape, *shape[first + k :])


@custom(joint=(0,), fixed={-1: int64})
def _gather_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(gathered_shape(op, specs[0].shape, specs[1:], params["axis"]), specs[0].dtype)


def _scattering(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    wanted = gathered_shape(op, specs[0].shape, specs[2:], params["axis"])
    if specs[1].shape != wanted:
        raise ShapeError(
            f"{op.name}: values have shape {specs[1].shape}, the places they go to have {wanted}: use broadcast_to"
        )
    return Spec(specs[0].shape, dtypes.promote(specs[0].dtype, specs[1].dtype))


_scatter_rule = custom(joint=(0, 1), fixed={-1: int64})(_scattering)
_scatter_add_rule = custom(NUMERIC, joint=(0, 1), fixed={-1: int64})(_scattering)


def out_of_bounds(op: str, index: int, axis: int, size: int) -> IndexOutOfBoundsError:
    """The error for an index outside an axis; ``axis`` counts from the front, so that it reads as the user
    counts.
    """
    valid = f"valid are {-size} to {size - 1}" if size else "the axis is empty"
    return IndexOutOfBoundsError(
        f"{op}: index {index} is out of bounds for axis {axis} of size {size}: {valid}"
    )


def check_bounds(op: str, index: Tensor, axis: int, size: int) -> None:
    """Raise IndexOutOfBoundsError for the first element of ``index`` that is outside an axis. Reads values."""
    for i in index._flat("an index that a kernel refused"):
        if not -size <= i < size:
            raise out_of_bounds(op, i, axis, size)


def _diagnosing(first: int) -> Any:
    """A function that names the index out of bounds among the operands from ``first`` on."""

    def diagnose(op: Any, operands: Sequence[Tensor], params: dict[str, Any]) -> None:
        x = operands[0]
        for axis, index in enumerate(
            operands[first:], x.ndim + (-1 if params["axis"] is None else params["axis"])
        ):
            check_bounds(op.name, index, axis, x.shape[axis])

    return diagnose


def _zeros(spec: Any, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Zeros where and as ``like`` is, of the shape and dtype of ``spec``."""
    return full_like(Spec(spec.shape if shape is None else shape, spec.dtype), like._backend, 0)


def fresh(x: Tensor) -> bool:
    """Whether a tensor that was just made, and that nobody else has seen, may be overwritten by a kernel."""
    return x._backend.level == 0 and x._backend.owns(x._data)


def _add_into_zeros(spec: Any, g: Tensor, indices: Sequence[Tensor], axis: int) -> Tensor:
    zeros = _zeros(spec, g)
    return scatter_add(zeros, g, *indices, axis=axis, overwrite=fresh(zeros))


# -- samples -------------------------------------------------------------------------------------------------

# (shape of x, axis, shape of the indices, number of index tensors)
PLACES = (
    ((5,), 0, (3,), 1), ((5,), 0, (), 1), ((5,), 0, (2, 3), 1), ((4, 3), 0, (7,), 1), ((4, 3), -1, (2, 2), 1), ((2, 3, 4), 1, (5,), 1),
    ((2, 3, 4), 1, (5,), 2), ((2, 3, 4), 0, (2, 2), 2), ((2, 3), 0, (4,), 2), ((4, 0), 0, (2,), 1), ((4, 3), 0, (0,), 1), ((0, 3), 0, (0,), 1),
    ((40, 33), 0, (70,), 1),
)  # fmt: skip


def _place(make: Maker, dtype: Any, case: Any, values: bool) -> Sample:
    shape, axis, index, k = case
    first = axis % len(shape)
    low = [-shape[first + i] if shape[first + i] else 0 for i in range(k)]
    indices = tuple(make.array(index, int64, low[i], max(shape[first + i] - 1, 0)) for i in range(k))
    places = (make.array((*shape[:first], *index, *shape[first + k :]), dtype),) if values else ()
    return Sample((make.array(shape, dtype), *places, *indices), {"axis": axis})


_gathers = calls_(*[lambda m, d, c=c: _place(m, d, c, False) for c in PLACES])
_scatters = calls_(*[lambda m, d, c=c: _place(m, d, c, True) for c in PLACES])


def _indices(make: Maker, *values: int) -> Any:
    return Values((len(values),), int64, values)


_GATHER_ERRORS = [
    ErrorSample(
        IndexOutOfBoundsError, r"gather: index 3 is out of bounds for axis 0 of size 3: valid are -3 to 2",
        lambda m: Sample((m.array((3, 2), float32), _indices(m, 0, 3)), {"axis": 0}),
    ),
    ErrorSample(
        IndexOutOfBoundsError, r"gather: index -5 is out of bounds for axis 1 of size 4",
        lambda m: Sample((m.array((3, 4), float32), _indices(m, 1, -5)), {"axis": 1}),
    ),
    ErrorSample(
        IndexOutOfBoundsError, r"gather: index 0 is out of bounds for axis 0 of size 0: the axis is empty",
        lambda m: Sample((m.array((0, 4), float32), _indices(m, 0)), {"axis": 0}),
    ),
    ErrorSample(
        IndexOutOfBoundsError, r"gather: index 7 is out of bounds for axis 0 of size 3",
        lambda m: Sample((m.array((3, 0), float32), _indices(m, 7)), {"axis": 0}),
    ),
    ErrorSample(
        # even if there is nothing to read
        IndexOutOfBoundsError, "gather: index 2 is out of bounds for axis 0 of size 2",
        lambda m: Sample((m.array((2, 0), float32), _indices(m, 2)), {"axis": 0}),
    ),
    ErrorSample(
        DTypeError, r"gather: indices\[0\] must have an integer dtype, got float32",
        lambda m: Sample((m.array((3,), float32), m.array((2,), float32, 0, 1))),
    ),
    ErrorSample(
        ShapeError, r"gather: 2 tensors of indices from axis 0 on are too many for x of shape \(3,\)",
        lambda m: Sample((m.array((3,), float32), _indices(m, 0), _indices(m, 0))),
    ),
    ErrorSample(
        ShapeError, r"gather: the indices' shapes \(2,\) and \(3,\) do not broadcast",
        lambda m: Sample((m.array((3, 3), float32), _indices(m, 0, 1), _indices(m, 0, 1, 2))),
    ),
]  # fmt: skip


def _scatter_errors(name: str) -> list[ErrorSample]:
    return [
        ErrorSample(
            IndexOutOfBoundsError, rf"{name}: index 3 is out of bounds for axis 0 of size 3",
            lambda m: Sample((m.array((3, 2), float32), m.array((2, 2), float32), _indices(m, 0, 3)), {"axis": 0}),
        ),
        ErrorSample(
            ShapeError, rf"{name}: values have shape \(2,\), the places they go to have \(3,\)",
            lambda m: Sample((m.array((3,), float32), m.array((2,), float32), _indices(m, 0, 1, 2))),
        ),
        ErrorSample(
            # values are never broadcast
            ShapeError, rf"{name}: values have shape \(1,\), the places they go to have \(3,\)",
            lambda m: Sample((m.array((3,), float32), m.array((1,), float32), _indices(m, 0, 1, 2))),
        ),
        ErrorSample(
            # even if there is nothing to write
            IndexOutOfBoundsError, rf"{name}: index 2 is out of bounds for axis 0 of size 2",
            lambda m: Sample((m.array((2, 0), float32), m.array((1, 0), float32), _indices(m, 2)), {"axis": 0}),
        ),
        ErrorSample(
            DTypeError, rf"{name}: indices\[0\] must have an integer dtype, got bool",
            lambda m: Sample((m.array((3,), float32), m.array((3,), float32), m.array((3,), dtypes.bool))),
        ),
    ]  # fmt: skip


# -- the primitives ------------------------------------------------------------------------------------------


@primitive(
    kind="index", rule=_gather_rule, bind=_bind_gather, ulp=0, samples=_gathers, errors=_GATHER_ERRORS, diagnose=_diagnosing(1), batch=batching.gather,
    linear=(lambda g, x, indices, axis: _add_into_zeros(x, g, indices, axis), None),
)  # fmt: skip
def gather(x: Tensor, /, *indices: Tensor, axis: Axis = 0) -> Tensor:
    """The elements of ``x`` at the places that ``k`` integer tensors name, which broadcast together to a
    shape I.

    They index the axes from ``axis`` on: the result has shape ``x.shape[:axis] + I + x.shape[axis + k:]``.
    Raises IndexOutOfBoundsError.
    """


@primitive(
    kind="index", rule=_scatter_rule, bind=_bind_scatter(_SCATTER), ulp=0, samples=_scatters, errors=_scatter_errors("scatter"),
    diagnose=_diagnosing(2), batch=batching.scatter,
    linear=(
        lambda g, x, values, indices, axis: scatter(g, _zeros(values, g), *indices, axis=axis),
        lambda g, x, values, indices, axis: _won(g, x.shape, indices, axis),
        None,
    ),
)  # fmt: skip
def scatter(
    x: Tensor, values: Tensor, /, *indices: Tensor, axis: Axis = 0, overwrite: bool = False
) -> Tensor:
    """A copy of ``x`` with ``values`` at the places that ``indices`` name, as :func:`gather` reads them; of
    several values for one place, the last in C order. A value that was overwritten by a later one gets a zero
    cotangent.

    ``values`` has the shape that ``gather(x, *indices, axis=axis)`` has. ``overwrite=True`` is for callers
    that know that nobody else sees ``x``: the backend may write into it.
    """


def _won(g: Tensor, shape: tuple[int, ...], indices: Sequence[Tensor], axis: int) -> Tensor:
    """The cotangent of scattered values: g at their places, and zero for a value that a later one overwrote.

    Each value's number is scattered by the same op, hence with the same winners, into the indexed axes alone;
    a value has won where it finds its own number.
    """
    read = gather(g, *indices, axis=axis)
    chosen = indices[0].shape
    count = math.prod(chosen)
    if count < 2:
        return read
    first, k = len(shape) + axis, len(indices)
    places = Spec(shape[first : first + k], int64)
    number = calls.reshape(calls.arange(count, device=indices[0]._backend), chosen)
    winners = scatter(full_like(places, indices[0]._backend, -1), number, *indices, axis=-k)
    won = calls.equal(gather(winners, *indices, axis=-k), number)
    behind = len(shape) - first - k
    return calls.where(calls.reshape(won, (*chosen, *(1,) * behind)), read, 0)


@primitive(
    kind="index", rule=_scatter_add_rule, bind=_bind_scatter(_SCATTER_ADD), ulp=SUM_BOUND, samples=_scatters,
    errors=_scatter_errors("scatter_add"), diagnose=_diagnosing(2), batch=batching.scatter,
    linear=(lambda g, x: g, lambda g, values, indices, axis: gather(g, *indices, axis=axis), None),
)  # fmt: skip
def scatter_add(
    x: Tensor, values: Tensor, /, *indices: Tensor, axis: Axis = 0, overwrite: bool = False
) -> Tensor:
    """A copy of ``x`` with ``values`` added at the places that ``indices`` name; several for one place are
    added in C order, so that the result is the same each time. ``overwrite`` as in :func:`scatter`.
    """


def _bind_along(x: Any, indices: Any, /, *, axis: Any = -1) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (x, indices), {"axis": _axis(_ALONG, x, axis)}


@custom(joint=(0,), fixed={1: int64})
def _along_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, indices = specs
    axis = params["axis"]
    if len(x.shape) != len(indices.shape):
        raise ShapeError(
            f"{op.name}: x of shape {x.shape} and indices of shape {indices.shape} must have equally many axes"
        )
    first = len(x.shape) + axis
    mine, theirs = ((*s[:first], 1, *s[first + 1 :]) for s in (x.shape, indices.shape))
    try:
        shape = broadcast_shapes(mine, theirs)
    except ShapeError:
        raise ShapeError(
            f"{op.name}: x of shape {x.shape} and indices of shape {indices.shape} differ off axis {first}"
        ) from None
    return Spec((*shape[:first], indices.shape[axis], *shape[first + 1 :]), x.dtype)


def _add_along(x: Spec, g: Tensor, indices: Tensor, axis: int) -> Tensor:
    """The transpose of take_along_axis: g added into zeros of x's shape, through the places' numbers in x's C
    order.
    """
    number = calls.remainder(indices, x.shape[axis])
    step = math.prod(x.shape[x.ndim + axis + 1 :])
    number = number if step == 1 else calls.multiply(number, step)
    step = 1
    for i in range(-1, -x.ndim - 1, -1):
        if i != axis and x.shape[i] != 1:
            along = calls.reshape(calls.arange(x.shape[i], device=indices._backend), (-1, *(1,) * (-i - 1)))
            number = calls.add(number, calls.multiply(along, step))
        step *= x.shape[i]
    number = calls.broadcast_to(number, g.shape)
    flat = _add_into_zeros(
        Spec((x.size,), x.dtype), calls.reshape(g, (g.size,)), (calls.reshape(number, (g.size,)),), -1
    )
    return calls.reshape(flat, x.shape)


def _along(shape: tuple[int, ...], index: tuple[int, ...], axis: int) -> Any:
    def build(make: Maker, dtype: Any) -> Sample:
        n = shape[axis]
        return Sample((make.array(shape, dtype), make.array(index, int64, -n, n - 1)), {"axis": axis})

    return build


@primitive(
    kind="index", rule=_along_rule, bind=_bind_along, ulp=0, diagnose=_diagnosing(1), leading=True,
    linear=(lambda g, x, indices, axis: _add_along(x, g, indices, axis), None),
    samples=calls_(
        _along((5,), (3,), 0), _along((5,), (0,), 0), _along((4, 3), (2, 3), 0), _along((4, 3), (4, 7), 1), _along((2, 3, 4), (2, 5, 4), -2),
        _along((4, 3), (1, 3), -1), _along((1, 3), (4, 2), -1), _along((2, 1, 4), (1, 3, 6), 2), _along((0, 3), (0, 2), 1),
        _along((40, 33), (70, 33), 0),
    ),
    errors=[
        ErrorSample(
            IndexOutOfBoundsError, r"take_along_axis: index 3 is out of bounds for axis 0 of size 3",
            lambda m: Sample((m.array((3,), float32), _indices(m, 0, 3)), {"axis": 0}),
        ),
        ErrorSample(
            ShapeError, r"take_along_axis: x of shape \(3, 2\) and indices of shape \(2,\) must have equally many axes",
            lambda m: Sample((m.array((3, 2), float32), _indices(m, 0, 1)), {"axis": 0}),
        ),
        ErrorSample(
            ShapeError, r"differ off axis 1",
            lambda m: Sample((m.array((3, 2), float32), m.array((2, 2), int64, 0, 1)), {"axis": 1}),
        ),
    ],
)  # fmt: skip
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: Axis = -1) -> Tensor:
    """``out[..., i, ...] = x[..., indices[..., i, ...], ...]`` along ``axis``: what argsort's result picks.

    ``x`` and ``indices`` have equally many axes, and broadcast along all others. Raises
    IndexOutOfBoundsError.

    Example: ``take_along_axis(x, argsort(x, axis=1), axis=1)`` is ``sort(x, axis=1)``.
    """


def _bind_nonzero(x: Any, /) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(x, Tensor) and not x.ndim:
        raise ShapeError("nonzero: a 0-d tensor has no axis to index: use reshape(x, (1,)) or x != 0")
    return (x,), {}


@custom()
def _nonzero_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    return tuple(Spec((None,), int64) for _ in specs[0].shape)  # type: ignore[arg-type]


def _sparse(shape: tuple[int, ...]) -> Any:
    return lambda make, dtype: Sample(
        (make.array(shape, dtype, 0, 1.4 if dtype.kind in ("bool", "int", "uint") else 3),)
    )


@primitive(
    kind="index", rule=_nonzero_rule, bind=_bind_nonzero, nondiff=INTEGER_RESULT, data_dependent=True, ulp=0,
    samples=calls_(*[_sparse(s) for s in ((5,), (0,), (3, 4), (2, 0, 3), (2, 3, 4), (70, 33))]),
    errors=[ErrorSample(ShapeError, "nonzero: a 0-d tensor has no axis to index", lambda m: Sample((m.array((), float32),)))],
)  # fmt: skip
def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The indices of the elements of ``x`` that are not zero (NaN is not), in C order: one int64 tensor per
    axis.
    """


# -- what is made of them ------------------------------------------------------------------------------------


@custom(joint=(0,), fixed={1: int64})
def _take_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, indices = specs
    axis = params["axis"]
    if axis is None:
        if len(x.shape) != 1:
            raise ShapeError(f"{op.name}: x of shape {x.shape} needs an axis: give axis=")
        axis = -1
    return Spec(gathered_shape(op, x.shape, (indices,), axis), x.dtype)


def _one(case: Any) -> Any:
    return lambda m, d: _place(m, d, case, False)


@composite(
    kind="index", rule=_take_rule, ulp=0, samples=calls_(*[_one(c) for c in PLACES if c[3] == 1]),
    errors=[
        ErrorSample(
            IndexOutOfBoundsError, r"^take: index 3 is out of bounds for axis 0 of size 3",
            lambda m: Sample((m.array((3,), float32), _indices(m, 0, 3)), {"axis": 0}),
        ),
        ErrorSample(
            ShapeError, r"take: x of shape \(3, 2\) needs an axis", lambda m: Sample((m.array((3, 2), float32), _indices(m, 0)))
        ),
    ],
    diagnose=_diagnosing(1),
)  # fmt: skip
def take(x: Tensor, indices: Tensor, /, *, axis: Axis | None = None) -> Tensor:
    """The slices of ``x`` along ``axis`` that an integer tensor of any shape names; ``axis`` may be left out
    if x has one.

    The result has shape ``x.shape[:axis] + indices.shape + x.shape[axis + 1:]``. Raises
    IndexOutOfBoundsError.

    Example: ``take(x, asarray([2, 0]), axis=1)`` for x of shape (2, 3) has shape (2, 2).
    """
    if axis is None:
        if x.ndim != 1:
            raise ShapeError(f"take: x of shape {x.shape} needs an axis: give axis=")
        axis = -1
    return gather(x, indices, axis=axis)
