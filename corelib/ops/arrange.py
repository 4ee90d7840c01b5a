"""What is made of movement: views of axes, joining and splitting, repetition, triangles and diagonals.

Plain functions over the primitives of ``movement.py``, since a mere renaming of axes leaves a backend nothing
to do better; those that compute (triangles, diagonals) are composites.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import rules
from ..dispatch import composite, execute
from ..dtypes import float32, int64
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..params import CANONICAL, Caller, as_integer, as_shape, checked, checked_axis, normalize_axis, several
from ..rules import Spec, custom
from ..samples import ErrorSample, Sample, shapes
from .compare import less_equal, not_equal
from .creation import arange
from .elementwise import subtract, where
from .interchange import asarray
from .movement import broadcast_to, concat, narrow, permute_dims, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor


# -- axes ----------------------------------------------------------------------------------------------------


def squeeze(x: Tensor, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """x without the axes ``axis`` (one, several, or None for all) of size 1. Raises ShapeError if one of them
    is larger.
    """
    shape = checked("squeeze", x)
    if axis is None:
        return reshape(x, tuple(n for n in shape if n != 1))
    axes = [checked_axis("squeeze", x, a) for a in (axis if isinstance(axis, tuple | list) else (axis,))]
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(
                f"squeeze: axis {a} of x of shape {x.shape} has size {x.shape[a]}: only axes of size 1 can be removed"
            )
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i - x.ndim not in axes))


def expand_dims(x: Tensor, /, axis: int | Sequence[int] = 0) -> Tensor:
    """x with a new axis of size 1 at each position in ``axis``, counted in the result.

    Example: ``expand_dims(x, axis=-1)`` of shape (2, 3) has shape (2, 3, 1).
    """
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    ndim = len(checked("expand_dims", x)) + len(axes)
    new = [normalize_axis(Caller("expand_dims"), "axis", a, ndim) for a in axes]
    if len(set(new)) != len(new):
        raise ShapeError(f"expand_dims: axis {axes} names an axis twice")
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(sizes) for i in range(-ndim, 0)))


def moveaxis(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """x with the axes ``source`` at the positions ``destination``; the others keep their order."""
    given = [tuple(a) if isinstance(a, tuple | list) else (a,) for a in (source, destination)]
    sources, destinations = ([checked_axis("moveaxis", x, a) for a in axes] for axes in given)
    if (
        len(sources) != len(destinations)
        or len(set(sources)) != len(sources)
        or len(set(destinations)) != len(destinations)
    ):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} must name as many different axes"
        )
    order = [a for a in range(-x.ndim, 0) if a not in sources]
    for place, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(place + x.ndim, axis)
    return permute_dims(x, tuple(order))


def swapaxes(x: Tensor, axis1: int, axis2: int, /) -> Tensor:
    """x with two axes exchanged."""
    first, second = checked_axis("swapaxes", x, axis1), checked_axis("swapaxes", x, axis2)
    order = list(range(-x.ndim, 0))
    order[first], order[second] = second, first
    return permute_dims(x, tuple(order))


def matrix_transpose(x: Tensor, /) -> Tensor:
    """x with its last two axes exchanged: each of its matrices transposed."""
    n = len(checked("matrix_transpose", x))
    if n < 2:
        raise ShapeError(f"matrix_transpose needs at least two dimensions, x has shape {x.shape}")
    return execute(permute_dims.op, (x,), {"axes": (*range(-n, -2), -1, -2)})  # type: ignore[attr-defined]  # canonical already: 1 us less


def transpose(x: Tensor, /, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in the order ``axes``, or reversed: NumPy's name for ``permute_dims``, which clients ask
    for.
    """
    n = len(checked("transpose", x))
    order = tuple(range(n))[::-1] if axes is None else axes
    return permute_dims(x, CANONICAL["Permutation"](Caller("transpose"), "axes", order, x))


def flatten(x: Tensor, /, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """x with the axes from ``start_axis`` to ``end_axis``, both included, made one; all of them unless given."""
    if not checked("flatten", x):
        return reshape(x, (1,))
    first, last = (
        checked_axis("flatten", x, start_axis) + x.ndim,
        checked_axis("flatten", x, end_axis) + x.ndim,
    )
    if first > last:
        raise ShapeError(
            f"flatten: start_axis {start_axis} comes after end_axis {end_axis} in x of shape {x.shape}"
        )
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def ravel(x: Tensor, /) -> Tensor:
    """The elements of x in C order along one axis."""
    return reshape(x, (math.prod(checked("ravel", x)),))


# -- broadcasting --------------------------------------------------------------------------------------------


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that tensors of these shapes broadcast to, or ShapeError."""
    return rules.broadcast_shapes(
        *(as_shape(Caller("broadcast_shapes"), f"shapes[{i}]", s) for i, s in enumerate(shapes))
    )


def broadcast_arrays(*arrays: Tensor) -> tuple[Tensor, ...]:
    """The tensors, each broadcast to the shape common to all."""
    shape = rules.broadcast_shapes(*(x.shape for x in several(Caller("broadcast_arrays"), arrays)))
    return tuple(broadcast_to(x, shape) for x in arrays)


# -- joining and splitting -----------------------------------------------------------------------------------


def stack(arrays: Sequence[Tensor], /, *, axis: int = 0) -> Tensor:
    """The tensors, all of one shape, side by side along a new ``axis``; their dtypes promote.

    Example: ``stack([x, y], axis=-1)`` for x and y of shape (3,) has shape (3, 2).
    """
    arrays = several(Caller("stack"), arrays)
    if not arrays:
        raise ShapeError("stack: at least one tensor is needed, got none")
    for position, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            raise ShapeError(
                f"stack: arrays[{position}] has shape {x.shape}, arrays[0] has {arrays[0].shape}: equal shapes are needed"
            )
    axis = normalize_axis(Caller("stack"), "axis", axis, arrays[0].ndim + 1)
    return concat([expand_dims(x, axis=axis) for x in arrays], axis=axis)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along ``axis``, without that axis: the reverse of ``stack``."""
    axis = checked_axis("unstack", x, axis)
    shape = tuple(n for i, n in enumerate(x.shape) if i - x.ndim != axis)
    return tuple(reshape(narrow(x, axis, i, 1), shape) for i in range(x.shape[axis]))


def split(x: Tensor, indices_or_sections: Any, /, *, axis: int = 0) -> list[Tensor]:
    """x cut along ``axis``: into as many equal parts, or at the given positions, as slices ``[:i], [i:j],
    [j:]`` would.

    Raises ShapeError when equal parts are impossible; see ``array_split``.
    """
    if isinstance(indices_or_sections, tuple | list):
        return _cut_at("split", x, indices_or_sections, axis)
    axis = checked_axis("split", x, axis)
    n = x.shape[axis]
    sections = as_integer(Caller("split"), "indices_or_sections", indices_or_sections)
    if sections < 1 or n % sections:
        raise ShapeError(
            f"split: axis {axis} of size {n} does not divide into {sections} equal parts: use array_split, or give positions"
        )
    return _cut(x, axis, [i * (n // sections) for i in range(1, sections)])


def array_split(x: Tensor, indices_or_sections: Any, /, *, axis: int = 0) -> list[Tensor]:
    """As ``split``, but the parts of an axis that does not divide differ by one element at most, the longer
    ones first.
    """
    if isinstance(indices_or_sections, tuple | list):
        return _cut_at("array_split", x, indices_or_sections, axis)
    axis = checked_axis("array_split", x, axis)
    sections = as_integer(Caller("array_split"), "indices_or_sections", indices_or_sections)
    if sections < 1:
        raise ShapeError(f"array_split: at least one part is needed, got {sections}")
    size, longer = divmod(x.shape[axis], sections)
    return _cut(x, axis, [i * size + (i if i < longer else longer) for i in range(1, sections)])


def _cut_at(name: str, x: Tensor, positions: Sequence[Any], axis: Any) -> list[Tensor]:
    axis = checked_axis(name, x, axis)
    return _cut(x, axis, [as_integer(Caller(name), "indices_or_sections", i) for i in positions])


def _cut(x: Tensor, axis: int, at: list[int]) -> list[Tensor]:
    bounds = [slice(a, b).indices(x.shape[axis])[:2] for a, b in zip([None, *at], [*at, None], strict=True)]
    return [narrow(x, axis, a, b - a if b > a else 0) for a, b in bounds]


# -- repetition ----------------------------------------------------------------------------------------------


def roll(x: Tensor, /, shift: Any, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """x with its elements moved by ``shift`` places along ``axis``; what leaves at the end comes back at the
    start.

    ``shift`` is one number for all axes, or one per axis. Without an axis, x is rolled as if it were flat.
    """
    if axis is None:
        if isinstance(shift, tuple | list):
            raise ShapeError(f"roll: shift {tuple(shift)} needs as many axes: give axis=")
        shape = checked("roll", x)
        return reshape(roll(ravel(x), shift, axis=0), shape)
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    shifts = tuple(shift) if isinstance(shift, tuple | list) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ShapeError(
            f"roll: {len(shifts)} shifts for {len(axes)} axes: give one for each, or one for all"
        )
    for by, a in zip(shifts, axes, strict=True):
        a = checked_axis("roll", x, a)
        n = x.shape[a]
        by = as_integer(Caller("roll"), "shift", by) % n if n else 0
        if by:
            x = concat([narrow(x, a, n - by, by), narrow(x, a, 0, n - by)], axis=a)
    return x


def tile(x: Tensor, repetitions: int | Sequence[int], /) -> Tensor:
    """x repeated as a whole, ``repetitions`` times along each axis; the shorter of the two is extended in
    front with 1.

    Example: ``tile(x, (2, 3))`` of shape (4,) has shape (2, 12).
    """
    times = tuple(repetitions) if isinstance(repetitions, tuple | list) else (repetitions,)
    shape = checked("tile", x)
    times = tuple(as_integer(Caller("tile"), "repetitions", t) for t in times)
    if min(times, default=0) < 0:
        raise ShapeError(f"tile: repetitions must not be negative, got {times}")
    longer = len(times) - len(shape)
    sizes, times = (1,) * longer + shape, (1,) * -longer + times  # a negative number of ones is none
    pairs = [(1, n) for n in sizes]
    spread = [(t, n) for t, n in zip(times, sizes, strict=True)]
    copies = broadcast_to(reshape(x, tuple(s for p in pairs for s in p)), tuple(s for p in spread for s in p))
    return reshape(copies, tuple(t * n for t, n in spread))


def repeat(x: Tensor, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element of x repeated along ``axis`` (without one: of x as if it were flat).

    ``repeats`` is one number for all elements, or an integer tensor or list with one for each; reading those
    makes the result's shape depend on values.
    """
    if axis is None:
        checked("repeat", x)
        x, axis = ravel(x), 0
    axis = checked_axis("repeat", x, axis)
    n = x.shape[axis]
    if isinstance(repeats, tuple | list):
        repeats = [as_integer(Caller("repeat"), "repeats", count) for count in repeats]
        repeats = asarray(repeats, dtype=int64, device=x._backend)
    if hasattr(repeats, "_backend"):
        return calls.take(x, _repeated_positions(repeats, n), axis=axis)
    times = as_integer(Caller("repeat"), "repeats", repeats)
    if times < 0:
        raise ShapeError(f"repeat: repeats must not be negative, got {times}")
    at = x.ndim + axis
    before, after = x.shape[: at + 1], x.shape[at + 1 :]
    copies = broadcast_to(reshape(x, (*before, 1, *after)), (*before, times, *after))
    return reshape(copies, (*before[:-1], n * times, *after))


def _repeated_positions(repeats: Tensor, n: int) -> Tensor:
    """0 repeats[0] times, 1 repeats[1] times, and so on."""
    if repeats.dtype.kind not in ("int", "uint"):
        raise DTypeError(f"repeat: repeats must have an integer dtype, got {repeats.dtype.name}")
    if repeats.shape not in ((n,), (1,), ()):
        raise ShapeError(
            f"repeat: repeats has shape {repeats.shape} for an axis of size {n}: give one number for each element, or one for all"
        )
    repeats = calls.astype(repeats, int64)
    if n and calls.min(repeats).item() < 0:
        raise ShapeError(f"repeat: repeats must not be negative, got {calls.min(repeats).item()}")
    ends = calls.cumulative_sum(broadcast_to(repeats, (n,)), axis=0)
    total = narrow(ends, -1, n - 1, 1).item() if n else 0
    return calls.searchsorted(ends, arange(total, device=repeats._backend), side="right")


# -- differences ---------------------------------------------------------------------------------------------


def diff(
    x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The ``n``-th differences ``x[i + 1] - x[i]`` along ``axis``, after ``prepend`` and ``append`` have been
    joined to x there.

    For bool: whether neighbours differ.
    """
    axis = checked_axis("diff", x, axis)
    n = as_integer(Caller("diff"), "n", n)
    if n < 0:
        raise ShapeError(f"diff: n must not be negative, got {n}")
    parts = [p for p in (prepend, x, append) if p is not None]
    x = concat(parts, axis=axis) if len(parts) > 1 else x
    change = not_equal if x.dtype.kind == "bool" else subtract
    for _ in range(min(n, x.shape[axis])):  # after which nothing is left
        size = x.shape[axis] - 1
        x = change(narrow(x, axis, 1, size), narrow(x, axis, 0, size)) if size > 0 else narrow(x, axis, 0, 0)
    return x


# -- triangles and diagonals ---------------------------------------------------------------------------------


def _below(x: Any, k: int) -> Tensor:
    """Whether an element of the matrices of x lies on the ``k``-th diagonal or below it."""
    rows = reshape(arange(x.shape[-2], device=x._backend), (-1, 1) if x.shape[-2] else (0, 1))
    return less_equal(subtract(arange(x.shape[-1], device=x._backend), k), rows)


@custom()
def _matrices(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    (x,) = specs
    if x.ndim < 2:
        raise ShapeError(f"{op.name} needs at least two dimensions, x has shape {x.shape}")
    return Spec(x.shape, x.dtype)


def _matrix_errors(name: str) -> list[ErrorSample]:
    return [
        ErrorSample(
            ShapeError, f"{name} needs at least two dimensions", lambda m: Sample((m.array((3,), float32),))
        )
    ]


_MATRICES = shapes(
    ((3, 3),), ((2, 4), {"k": 1}), ((4, 2), {"k": -1}), ((2, 3, 3), {"k": 0}), ((3, 3), {"k": 9}), ((3, 3), {"k": -9}), ((0, 3),), ((3, 0),),
)  # fmt: skip


def _triangle(name: str, x: Tensor, k: int, lower: bool) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"{name} needs at least two dimensions, x has shape {x.shape}")
    zero = False if x.dtype.kind == "bool" else 0
    return where(_below(x, k), x, zero) if lower else where(_below(x, k - 1), zero, x)


@composite(
    kind="movement", rule=_matrices, ulp=0, leading=True, linear=lambda g, x, k: tril(g, k=k), samples=_MATRICES, errors=_matrix_errors("tril"),
)  # fmt: skip
def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """x with zeros above the ``k``-th diagonal of its matrices (its last two axes)."""
    return _triangle("tril", x, k, True)


@composite(
    kind="movement", rule=_matrices, ulp=0, leading=True, linear=lambda g, x, k: triu(g, k=k), samples=_MATRICES, errors=_matrix_errors("triu"),
)  # fmt: skip
def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """x with zeros below the ``k``-th diagonal of its matrices (its last two axes)."""
    return _triangle("triu", x, k, False)


def _diagonal_place(shape: tuple[int, ...], offset: int) -> tuple[int, int]:
    """Where in a flattened matrix its ``offset``-th diagonal starts, and how long it is."""
    n, m = shape[-2:]
    low = (n, m - offset) if offset >= 0 else (n + offset, m)
    size = low[0] if low[0] < low[1] else low[1]
    return (offset if offset >= 0 else -offset * m), size if size > 0 else 0


@custom()
def _diagonal_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x = _matrices.fn(op, specs, params)
    return Spec((*x.shape[:-2], _diagonal_place(x.shape, params["offset"])[1]), x.dtype)


_DIAGONALS = shapes(
    ((3, 3),), ((2, 4), {"offset": 1}), ((4, 2), {"offset": -1}), ((2, 3, 3),), ((3, 3), {"offset": 9}), ((3, 3), {"offset": -9}),
    ((0, 3),), ((1, 1),), ((3, 5), {"offset": 4}),
)  # fmt: skip


@composite(
    kind="movement",
    rule=_diagonal_rule,
    ulp=0,
    leading=True,
    samples=_DIAGONALS,
    errors=_matrix_errors("diagonal"),
)
def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """The ``offset``-th diagonal of each matrix of x: the elements ``x[..., i, i + offset]``."""
    start, size = _diagonal_place(x.shape, offset)
    line = reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
    return narrow(line, -1, start if size else 0, size, x.shape[-1] + 1)


__all__: Sequence[str] = (
    "array_split", "broadcast_arrays", "broadcast_shapes", "diff", "expand_dims", "flatten", "matrix_transpose", "moveaxis", "ravel",
    "repeat", "roll", "split", "squeeze", "stack", "swapaxes", "tile", "transpose", "unstack",
)  # fmt: skip

for _name in __all__:
    setattr(calls, _name, globals()[_name])
