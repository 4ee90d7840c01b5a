"""Moving elements without computing: shapes, axes, slices, padding and joining.

All of these are linear, so each rule is the op's transpose. Steps and starts of slices are canonical here;
what ``x[...]`` may look like is decided in ``index.py``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import as_scalar, primitive
from ..dtypes import float32
from ..errors import DTypeError, InterchangeError, ShapeError
from ..op import calls
from ..params import CANONICAL, Caller, normalize_axis, not_a_tensor, several
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Raw, Sample, calls_, shapes
from ..walk import unbroadcast
from . import batching

if TYPE_CHECKING:
    from ..params import Axes, Axis, Copy, NewShape, Permutation, Scalar, Shape
    from ..tensor import Tensor

_S = Raw  # in samples: a tuple that is a parameter, not the shape of a tensor


def _full_slice(shape: tuple[int, ...], start: Any, size: Any, step: Any) -> bool:
    return size == shape and not any(start) and all(s == 1 for s in step)


# -- shape and order of axes ---------------------------------------------------------------------------------


@custom()
def _reshape_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), shape = specs, params["shape"]
    if math.prod(shape) != x.size:
        raise ShapeError(f"{op.name}: shape {shape} does not fit x of shape {x.shape} with {x.size} elements")
    return Spec(shape, x.dtype)


def _bind_reshape(
    x: Any, /, shape: Any, *, copy: Any = None
) -> tuple[tuple[Any, ...], dict[str, tuple[int, ...]]]:
    shape = CANONICAL["NewShape"](Caller("reshape"), "shape", shape, x)
    if copy is False and _must_copy(x, shape):
        raise InterchangeError(
            f"reshape: x of shape {x.shape} takes the shape {shape} by a copy only, as it lies in memory: leave out copy=False"
        )
    return (x,), {"shape": shape}


def _must_copy(x: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether no strides give x's memory this shape. An array without strides is laid out in C order."""
    strides = getattr(x._backend.dlpack(x._data), "strides", None)
    if strides is None or math.prod(shape) != x.size:
        return False
    import numpy

    try:  # an array that is never read
        numpy.lib.stride_tricks.as_strided(numpy.empty(1, x.dtype.numpy), x.shape, strides).reshape(
            shape, copy=False
        )
    except ValueError:
        return True
    return False


@primitive(
    kind="movement", rule=_reshape_rule, ulp=0, bind=_bind_reshape, batch=batching.reshape,
    linear=lambda g, x: reshape(g, x.shape),
    unchanged=lambda x, shape: x.shape == shape,
    samples=shapes(
        ((6,), _S((2, 3))), ((2, 3), _S((-1,))), ((2, 3), _S((3, -1))), ((2, 3, 4), _S((6, 4))), ((), _S((1, 1))), ((1,), _S(())),
        ((0, 3), _S((3, 0))), ((2, 3), _S((2, 3))), ((4, 3, 2), _S((2, 3, 4))),
    ),
    errors=[
        ErrorSample(ShapeError, r"reshape: shape \(4, 2\) does not fit x of shape \(2, 3\) with 6 elements",
                    lambda m: Sample((m.array((2, 3), float32), (4, 2)))),
        ErrorSample(ShapeError, "does not fit", lambda m: Sample((m.array((2, 3), float32), (-1, -1)))),
        ErrorSample(ShapeError, "does not fit", lambda m: Sample((m.array((2, 3), float32), (-1, 4)))),
        ErrorSample(DTypeError, "must be an integer", lambda m: Sample((m.array((2, 3), float32), (1.5, 4)))),
    ],
)  # fmt: skip
def reshape(x: Tensor, /, shape: NewShape, *, copy: Copy = None) -> Tensor:
    """The elements of x, in C order, in a new shape of as many elements; one size may be -1 and follows from
    the others. ``copy=False`` raises InterchangeError, a ValueError, where x's memory cannot have that shape.

    Example: ``reshape(x, (2, -1))``.
    """


@custom()
def _permute_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), axes = specs, params["axes"]
    if sorted(axes) != list(range(-x.ndim, 0)):
        raise ShapeError(f"{op.name}: axes {axes} is not a permutation of the {x.ndim} axes of x")
    return Spec(tuple(x.shape[a] for a in axes), x.dtype)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    n = len(axes)
    return tuple(sorted(range(-n, 0), key=lambda i: axes[i + n]))


@primitive(
    kind="movement", rule=_permute_rule, ulp=0, batch=batching.permute_dims,
    linear=lambda g, x, axes: permute_dims(g, _inverse(axes)),
    unchanged=lambda x, axes: axes == tuple(range(-len(axes), 0)),
    samples=shapes(
        ((2, 3), _S((1, 0))), ((2, 3, 4), _S((2, 0, 1))), ((2, 3, 4), _S((-1, 1, 0))), ((2, 3, 4), _S((0, 1, 2))), ((5,), _S((0,))),
        ((), _S(())), ((0, 3), _S((1, 0))), ((2, 1, 3, 2), _S((3, 1, 0, 2))), ((33, 34), _S((1, 0))),
    ),
    errors=[
        ErrorSample(ShapeError, "not a permutation of the 2 axes", lambda m: Sample((m.array((2, 3), float32), (0, 0)))),
        ErrorSample(ShapeError, "not a permutation of the 2 axes", lambda m: Sample((m.array((2, 3), float32), (0,)))),
        ErrorSample(ShapeError, "axes 2 is out of range for 2 dimensions", lambda m: Sample((m.array((2, 3), float32), (0, 2)))),
    ],
)  # fmt: skip
def permute_dims(x: Tensor, /, axes: Permutation) -> Tensor:
    """The axes of x in a new order: axis i of the result is axis ``axes[i]`` of x.

    Example: ``permute_dims(x, (2, 0, 1))`` of shape (2, 3, 4) has shape (4, 2, 3).
    """


@custom()
def _broadcast_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), shape = specs, params["shape"]
    extra = len(shape) - x.ndim
    if extra < 0 or any(n not in (1, m) for n, m in zip(x.shape, shape[extra:], strict=True)):
        raise ShapeError(
            f"{op.name}: x of shape {x.shape} does not broadcast to {shape}: its axes, from the last, must be equal or 1"
        )
    return Spec(shape, x.dtype)


@primitive(
    kind="movement", rule=_broadcast_rule, ulp=0, batch=batching.broadcast_to,
    linear=lambda g, x: unbroadcast(g, tuple(x.shape)),
    unchanged=lambda x, shape: x.shape == shape,
    samples=shapes(
        ((3,), _S((2, 3))), ((2, 1), _S((2, 3))), ((), _S((2, 3))), ((1,), _S((5,))), ((2, 3), _S((2, 3))), ((1, 3, 1), _S((2, 2, 3, 4))),
        ((1, 3), _S((0, 3))), ((0,), _S((2, 0))), ((), _S(())),
    ),
    errors=[
        ErrorSample(ShapeError, r"x of shape \(3,\) does not broadcast to \(3, 2\)", lambda m: Sample((m.array((3,), float32), (3, 2)))),
        ErrorSample(ShapeError, "does not broadcast to", lambda m: Sample((m.array((1, 3), float32), (3,)))),
        ErrorSample(ShapeError, "has a negative size", lambda m: Sample((m.array((3,), float32), (-1, 3)))),
    ],
)  # fmt: skip
def broadcast_to(x: Tensor, /, shape: Shape) -> Tensor:
    """x repeated along axes of size 1 and along new leading axes until it has ``shape``. No memory is used
    where a backend has views.
    """


@custom()
def _same_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(specs[0].shape, specs[0].dtype)


@primitive(
    kind="movement", rule=_same_rule, ulp=0, leading=True,
    linear=lambda g, x, axis: flip(g, axis=axis),
    unchanged=lambda x, axis: not axis,
    samples=shapes(
        ((5,), {"axis": 0}), ((2, 3), {"axis": None}), ((2, 3), {"axis": -1}), ((2, 3, 4), {"axis": (0, 2)}), ((0, 3), {"axis": 0}),
        ((), {}), ((33,), {}), ((2, 3), {"axis": ()}),
    ),
    errors=[
        ErrorSample(ShapeError, "axis 2 is out of range for 2 dimensions", lambda m: Sample((m.array((2, 3), float32),), {"axis": 2})),
        ErrorSample(ShapeError, "names an axis twice", lambda m: Sample((m.array((2, 3), float32),), {"axis": (0, -2)})),
    ],
)  # fmt: skip
def flip(x: Tensor, /, *, axis: Axes = None) -> Tensor:
    """The elements in reverse order along ``axis``: one, several, or None for all axes."""


# -- joining -------------------------------------------------------------------------------------------------


def _bind_concat(
    arrays: Sequence[Tensor], /, *, axis: int | None = 0
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    op = concat.op  # type: ignore[attr-defined]
    arrays = several(op, arrays)
    if not arrays:
        raise ShapeError("concat: at least one tensor is needed, got none")
    if axis is None:
        return tuple(reshape(x, (-1,)) for x in arrays), {"axis": -1}
    return arrays, {"axis": normalize_axis(op, "axis", axis, arrays[0].ndim)}


@custom()
def _concat_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    first, axis = specs[0], params["axis"]
    for position, x in enumerate(specs):
        if x.ndim != first.ndim:
            raise ShapeError(
                f"{op.name}: arrays[{position}] has shape {x.shape}, arrays[0] has {first.shape}: as many axes are needed"
            )
        for a in range(-x.ndim, 0):
            if a != axis and x.shape[a] != first.shape[a]:
                raise ShapeError(
                    f"{op.name}: arrays[{position}] has shape {x.shape}, arrays[0] has {first.shape}: "
                    f"axis {a} differs and only axis {axis} may"
                )
    shape = list(first.shape)
    shape[axis] = sum(x.shape[axis] for x in specs)
    return Spec(tuple(shape), common(op, specs))


def _pieces(g: Tensor, arrays: tuple[Spec, ...], axis: int) -> tuple[Tensor, ...]:
    start, pieces = 0, []
    for x in arrays:
        pieces.append(narrow(g, axis, start, x.shape[axis]))
        start += x.shape[axis]
    return tuple(pieces)


def narrow(x: Tensor, axis: int, start: int, size: int, step: int = 1) -> Tensor:
    """``size`` elements of x along ``axis`` (negative) from ``start`` in steps of ``step``; all of the other
    axes.
    """
    at = x.ndim + axis
    starts, sizes, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[at], sizes[at], steps[at] = start, size, step
    return strided_slice(x, start=tuple(starts), size=tuple(sizes), step=tuple(steps))


@primitive(
    kind="movement", rule=_concat_rule, ulp=0, leading=True, bind=_bind_concat,
    linear=lambda g, arrays, axis: _pieces(g, arrays, axis),
    samples=calls_(
        lambda m, d: Sample(([m.array((2, 3), d), m.array((4, 3), d)],)),
        lambda m, d: Sample(([m.array((2, 3), d), m.array((2, 1), d), m.array((2, 0), d)],), {"axis": -1}),
        lambda m, d: Sample(([m.array((2, 3), d), m.array((4,), d), m.array((), d)],), {"axis": None}),
        lambda m, d: Sample(([m.array((5,), d)],)),
        lambda m, d: Sample(([m.array((2, 3, 4), d), m.array((2, 2, 4), d)],), {"axis": 1}),
        lambda m, d: Sample(([m.array((0,), d), m.array((0,), d)],)),
    ),
    errors=[
        ErrorSample(ShapeError, r"arrays\[1\] has shape \(2, 4\), arrays\[0\] has \(2, 3\): axis -1 differs and only axis -2 may",
                    lambda m: Sample(([m.array((2, 3), float32), m.array((2, 4), float32)],))),
        ErrorSample(ShapeError, "as many axes are needed", lambda m: Sample(([m.array((2, 3), float32), m.array((3,), float32)],))),
        ErrorSample(ShapeError, "out of range for 0 dimensions", lambda m: Sample(([m.array((), float32)],))),
        ErrorSample(ShapeError, "at least one tensor", lambda m: Sample(([],))),
    ],
)  # fmt: skip
def concat(arrays: Sequence[Tensor], /, *, axis: Axis | None = 0) -> Tensor:
    """The tensors one after the other along an existing ``axis``; with None, flattened first. Their dtypes
    promote.

    Example: ``concat([x, y], axis=-1)``.
    """


# -- padding and slices --------------------------------------------------------------------------------------


def _widths(op: Any, pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """One pair per axis from an integer, a pair for every axis, or a sequence of pairs."""

    def pair(value: Any) -> tuple[int, int]:
        try:
            low, high = value
            return operator.index(low), operator.index(high)
        except (TypeError, ValueError):
            raise ShapeError(
                f"pad: pad_width must be an integer, a pair, or a pair per axis, got {pad_width!r}"
            ) from None

    if not isinstance(pad_width, tuple | list):
        widths = [pair((pad_width, pad_width))] * ndim
    elif len(pad_width) == 2 and not any(isinstance(w, tuple | list) for w in pad_width):
        widths = [pair(pad_width)] * ndim
    else:
        widths = [pair(w) for w in pad_width]
        if len(widths) == 1:
            widths *= ndim
    if len(widths) != ndim:
        raise ShapeError(
            f"pad: pad_width has {len(widths)} pairs for an x of {ndim} dimensions: give one pair per axis"
        )
    if any(w < 0 for p in widths for w in p):
        raise ShapeError(f"pad: pad_width must not be negative, got {tuple(widths)}: slice x instead")
    return tuple(widths)


def _extended(x: Tensor, widths: tuple[tuple[int, int], ...], mode: str) -> Tensor:
    """x continued beyond its ends by its own elements: the last one ("edge"), its mirror image ("reflect"),
    or itself ("wrap").
    """
    if mode not in ("edge", "reflect", "wrap"):
        raise ShapeError(f"pad: mode must be 'constant', 'edge', 'reflect' or 'wrap', got {mode!r}")
    for axis, (low, high) in enumerate(widths, -x.ndim):
        n = x.shape[axis]
        room = {"edge": 1 if n else 0, "reflect": n - 1, "wrap": n}[mode]
        if (low or high) and (room < 1 or mode != "edge" and (low > room or high > room)):
            raise ShapeError(
                f"pad: axis {axis} of size {n} is too short for {(low, high)} elements in mode {mode!r}"
            )
        parts = [x]
        if low:
            start = {"edge": 0, "reflect": 1, "wrap": n - low}[mode]
            parts.insert(0, _margin(x, axis, start, low, mode))
        if high:
            start = {"edge": n - 1, "reflect": n - 1 - high, "wrap": 0}[mode]
            parts.append(_margin(x, axis, start, high, mode))
        x = concat(parts, axis=axis) if len(parts) > 1 else x
    return x


def _margin(x: Tensor, axis: int, start: int, size: int, mode: str) -> Tensor:
    if mode != "edge":
        piece = narrow(x, axis, start, size)
        return flip(piece, axis=axis) if mode == "reflect" else piece
    shape = list(x.shape)
    shape[axis] = size
    return broadcast_to(narrow(x, axis, start, 1), tuple(shape))


def _bind_pad(
    x: Tensor, /, pad_width: Any, mode: str = "constant", constant_values: Any = 0
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    op = pad.op  # type: ignore[attr-defined]
    if not hasattr(x, "_backend"):
        raise DTypeError(not_a_tensor(op, "x", x))
    widths = _widths(op, pad_width, x.ndim)
    if mode != "constant":
        return (_extended(x, widths, mode),), {"pad_width": ((0, 0),) * x.ndim, "constant_value": 0}
    if hasattr(constant_values, "item"):
        constant_values = constant_values.item()
    kinds = {"complex": bool | int | float | complex, "float": bool | int | float}.get(
        x.dtype.kind, bool | int
    )
    fits = isinstance(constant_values, kinds)
    if not fits or x.dtype.kind == "bool" and constant_values not in (0, 1):
        raise DTypeError(f"pad: constant_values {constant_values!r} does not fit x of dtype {x.dtype.name}")
    return (x,), {"pad_width": widths, "constant_value": as_scalar(op, constant_values, x.dtype)}


@custom()
def _pad_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,), widths = specs, params["pad_width"]
    return Spec(tuple(low + n + high for n, (low, high) in zip(x.shape, widths, strict=True)), x.dtype)


@primitive(
    kind="movement", rule=_pad_rule, ulp=0, bind=_bind_pad, batch=batching.pad, params=("pad_width", "constant_value"),
    linear=lambda g, x, pad_width: strided_slice(g, start=tuple(w[0] for w in pad_width), size=tuple(x.shape), step=(1,) * x.ndim),
    jvp=lambda dx, pad_width: pad(dx, pad_width),
    unchanged=lambda x, pad_width, constant_value: not any(w for pair in pad_width for w in pair),
    samples=shapes(
        ((2, 3), 1), ((2, 3), _S((0, 2))), ((2, 3), _S(((1, 0), (0, 2)))), ((5,), 2, {"constant_values": 1}), ((), 1), ((0, 3), 1),
        ((2, 3), 0), ((2, 3, 4), _S(((0, 0), (1, 2), (0, 1)))),
    ),
    errors=[
        ErrorSample(ShapeError, "must not be negative", lambda m: Sample((m.array((2, 3), float32), -1))),
        ErrorSample(ShapeError, "has 3 pairs for an x of 2 dimensions", lambda m: Sample((m.array((2, 3), float32), [(1, 1)] * 3))),
        ErrorSample(ShapeError, "mode", lambda m: Sample((m.array((2, 3), float32), 1, "mirror"))),
        ErrorSample(DTypeError, "does not fit", lambda m: Sample((m.array((2, 3), float32), 1, "constant", "a"))),
    ],
)  # fmt: skip
def pad(x: Tensor, /, pad_width: Any, mode: str = "constant", constant_values: Scalar = 0) -> Tensor:
    """x surrounded by ``constant_values``. ``pad_width``: an integer, a pair (before, after), or such a pair
    per axis.

    ``mode``: "constant", or what continues x: "edge" (its last elements), "reflect" (its mirror image without
    them) or "wrap" (x itself). Example: ``pad(x, ((1, 1), (0, 2)))`` of shape (2, 3) has shape (4, 5).
    """


@custom()
def _slice_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x = specs[0]
    start, size, step = params["start"], params["size"], params["step"]
    for name, value in (("start", start), ("size", size), ("step", step)):
        if not (isinstance(value, tuple) and all(hasattr(v, "__index__") for v in value)):
            raise DTypeError(f"{op.name}: {name} must be a tuple of integers, got {value!r}")
    if not len(start) == len(size) == len(step) == x.ndim:
        raise ShapeError(
            f"{op.name}: start, size and step must have one entry for each of the {x.ndim} axes of x"
        )
    for axis, (n, first, count, by) in enumerate(zip(x.shape, start, size, step, strict=True)):
        if count < 0 or count and not (0 <= first < n and 0 <= first + (count - 1) * by < n):
            raise ShapeError(
                f"{op.name}: {count} elements from {first} by {by} do not lie in axis {axis} of size {n}"
            )
    return Spec(size, x.dtype)


def _embed(g: Tensor, shape: tuple[int, ...], start: Any, size: Any, step: Any) -> Tensor:
    """Zeros of ``shape`` with g in the region: the transpose of a slice."""
    if all(s == 1 for s in step):
        return pad(
            g, tuple((a, n - a - k) if k else (0, n) for a, n, k in zip(start, shape, size, strict=True))
        )
    zeros = calls.full(shape, 0, dtype=g.dtype, device=g._backend)
    return strided_update(zeros, g, start=start, size=size, step=step, overwrite=g._backend.owns(zeros._data))


def _slices(
    *cases: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]], value: bool = False
) -> Any:
    def generate(make: Any, dtype: Any) -> Any:
        for shape, start, size, step in cases:
            operands = (make.array(shape, dtype), *([make.array(size, dtype)] if value else []))
            yield Sample(operands, {"start": start, "size": size, "step": step})

    return generate


_REGIONS = (
    ((5,), (1,), (3,), (1,)), ((5,), (4,), (3,), (-2,)), ((5,), (0,), (5,), (1,)), ((2, 3), (0, 2), (2, 2), (1, -1)), ((2, 3), (0, 0), (0, 2), (1, 2)),
    ((), (), (), ()), ((0, 3), (0, 1), (0, 2), (1, 1)), ((4, 3, 5), (3, 0, 1), (2, 3, 2), (-3, 1, 3)), ((40,), (1,), (13,), (3,)),
)  # fmt: skip


@primitive(
    kind="movement", rule=_slice_rule, ulp=0, batch=batching.strided,
    linear=lambda g, x, start, size, step: _embed(g, tuple(x.shape), start, size, step),
    unchanged=lambda x, start, size, step: _full_slice(x.shape, start, size, step),
    samples=_slices(*_REGIONS),
    errors=[
        ErrorSample(ShapeError, "3 elements from 3 by 1 do not lie in axis 0 of size 5",
                    lambda m: Sample((m.array((5,), float32),), {"start": (3,), "size": (3,), "step": (1,)})),
        ErrorSample(ShapeError, "one entry for each of the 2 axes",
                    lambda m: Sample((m.array((5, 2), float32),), {"start": (3,), "size": (1,), "step": (1,)})),
    ],
)  # fmt: skip
def strided_slice(
    x: Tensor, /, *, start: tuple[int, ...], size: tuple[int, ...], step: tuple[int, ...]
) -> Tensor:
    """Along each axis, ``size`` elements of x: those at ``start + k * step``. Nothing is clipped: all must
    exist. ``x[...]`` is easier.
    """


@custom()
def _update_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, value = specs
    region = _slice_rule.fn(op, (x,), params)
    if value.shape != region.shape:
        raise ShapeError(f"{op.name}: value has shape {value.shape}, the region of x has {region.shape}")
    return Spec(x.shape, common(op, specs))


def _cleared(g: Tensor, start: Any, size: Any, step: Any) -> Tensor:
    zeros = calls.full(size, 0, dtype=g.dtype, device=g._backend)
    return strided_update(g, zeros, start=start, size=size, step=step)


@primitive(
    kind="movement", rule=_update_rule, ulp=0, batch=batching.strided,
    linear=(lambda g, x, start, size, step: _cleared(g, start, size, step),
            lambda g, value, start, size, step: strided_slice(g, start=start, size=size, step=step)),
    samples=_slices(*_REGIONS, value=True),
    errors=[
        # a value is never broadcast
        ErrorSample(ShapeError, r"value has shape \(1,\), the region of x has \(3,\)",
                    lambda m: Sample((m.array((5,), float32), m.array((1,), float32)), {"start": (1,), "size": (3,), "step": (1,)})),
        ErrorSample(ShapeError, r"value has shape \(2,\), the region of x has \(3,\)",
                    lambda m: Sample((m.array((5,), float32), m.array((2,), float32)), {"start": (1,), "size": (3,), "step": (1,)})),
    ],
)  # fmt: skip
def strided_update(
    x: Tensor,
    value: Tensor,
    /,
    *,
    start: tuple[int, ...],
    size: tuple[int, ...],
    step: tuple[int, ...],
    overwrite: bool = False,
) -> Tensor:
    """x with the region that ``strided_slice`` would give set to ``value``. ``overwrite``: x may be used up
    for the result.
    """
