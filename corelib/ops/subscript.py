"""``x[key]`` and ``x[key] = value``: NumPy's indexing, made of strided_slice, reshape, permute_dims, gather
and scatter.

A key is read once into a :class:`Plan`; getting and setting follow the same plan in opposite directions, so
they cannot disagree. Tensors are values: assignment rebinds ``x`` to a new value, and writes into its memory
only where nobody can see the difference (:func:`sole`).
"""

from __future__ import annotations

import math
import operator
import sys
from dataclasses import dataclass, field
from typing import Any

from ..dispatch import as_scalar, execute
from ..dtypes import RANK, goes_into, int64
from ..dtypes import bool as bool_
from ..errors import CorelibError, DTypeError, IndexOutOfBoundsError, ShapeError
from ..op import calls
from ..rules import Spec, broadcast_shapes
from ..tape import full_like, same
from ..tensor import Tensor, wrap
from .index import Named, check_bounds, gather, out_of_bounds, scatter
from .interchange import _flatten, _pack, asarray, from_buffer
from .movement import reshape, strided_slice, strided_update

GET, SET = "getitem", "setitem"
_SET: Any = Named(SET)
FEW = 4096  # elements up to which one number is spread by filling, which is 8 us less than broadcasting it
FULL = slice(None)


# -- reading a key -------------------------------------------------------------------------------------------


class Mask:
    """Bools that select places of the ``len(shape)`` axes they stand for;"""

    def __init__(self, shape: tuple[int, ...], values: Any) -> None:
        self.shape, self.values = shape, values

    def index(self, backend: Any) -> Tensor:
        """The numbers of the selected places, counted in C order, as one int64 tensor."""
        if isinstance(self.values, Tensor):
            return calls.nonzero(reshape(self.values, (math.prod(self.shape),)))[0]
        return _integers([i for i, v in enumerate(self.values) if v], backend)

    def tensor(self, backend: Any) -> Tensor:
        """The mask as a bool tensor."""
        if isinstance(self.values, Tensor):
            return self.values
        return from_buffer(_pack(list(self.values), bool_), self.shape, bool_, backend)


def _nested(op: str, what: str, obj: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and elements of nested lists."""
    try:
        return _flatten(obj)
    except CorelibError as error:
        raise type(error)(f"{op}: in a list of {what}, {str(error).removeprefix('asarray: ')}") from None


def _integers(values: list[int], backend: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    return from_buffer(_pack(values, int64), (len(values),) if shape is None else shape, int64, backend)


def _entry(op: str, item: Any, backend: Any) -> Any:
    """One entry of a key as None, Ellipsis, slice, int, Mask, or an integer Tensor."""
    if item.__class__ is int or item.__class__ is slice or item is None or item is Ellipsis:
        return item
    if isinstance(item, bool):
        return Mask((), [item])
    if isinstance(item, int):
        return item
    if isinstance(item, Tensor):
        kind = item.dtype.kind
        return (
            Mask(item.shape, item)
            if kind == "bool"
            else item
            if kind in ("int", "uint")
            else _refuse(op, f"a {item.dtype.name} tensor")
        )
    if isinstance(item, list | tuple | range):
        shape, values = _nested(op, "indices", list(item))
        if values and all(isinstance(v, bool) for v in values):
            return Mask(shape, values)
        if any(isinstance(v, float) for v in values):
            _refuse(op, "a list of floats")
        return _integers([int(v) for v in values], backend, shape)
    if hasattr(item, "__array__"):
        import numpy

        array = numpy.asarray(item)
        if array.dtype.kind == "b":
            return Mask(array.shape, array.reshape(-1).tolist())
        if array.dtype.kind not in "iu":
            _refuse(op, f"an array of {array.dtype}")
        return (
            int(array)
            if array.ndim == 0
            else from_buffer(array.astype(numpy.int64, order="C"), array.shape, int64, backend)
        )
    try:
        return operator.index(item)
    except TypeError:
        return _refuse(op, repr(item))


def _refuse(op: str, what: str) -> Any:
    raise DTypeError(
        f"{op}: {what} cannot be an index: use integers, slices, ..., None, bool masks or integer tensors"
        " (astype(corelib.int64) truncates floats)"
    )


def _leading(op: str, key: int | slice, shape: tuple[int, ...]) -> dict[str, Any]:
    """The parameters of the strided slice for a key that is one integer or slice, of an x with axes."""
    n = shape[0]
    if isinstance(key, int):
        if not -n <= key < n:
            raise out_of_bounds(op, key, 0, n)
        first, count, by = key % n, 1, 1
    else:
        first, count, by = _slice(op, key, n)
    others = len(shape) - 1
    return {"start": (first, *(0,) * others), "size": (count, *shape[1:]), "step": (by, *(1,) * others)}


@dataclass
class Plan:
    """How to reach what a key selects, in this order; a step that changes nothing is None.

    ``region`` (start, size, step) of a strided slice; ``read``: its shape without the axes of integers, and
    with the axes of a mask merged; ``order``: a permutation that brings the indexed axes together;
    ``indices`` of a gather at ``axis``; ``after``: a permutation that brings the indices' axes to the front;
    ``shape`` of the result, with the new axes. ``places``: (index, axis, size) for messages.
    """

    shape: tuple[int, ...] = ()
    region: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None = None
    read: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None
    indices: list[Tensor] = field(default_factory=list)
    axis: int = 0
    after: tuple[int, ...] | None = None
    gathered: tuple[int, ...] = ()  # the shape behind `after`
    places: list[tuple[Tensor, int, int]] = field(default_factory=list)


def _entries(op: str, x: Tensor, key: Any) -> list[Any]:
    """The entries of a key, which together stand for all axes of x: an Ellipsis is followed by the slices
    that it stands for.
    """
    entries = [_entry(op, item, x._backend) for item in (key if isinstance(key, tuple) else (key,))]
    used = sum(
        len(e.shape) if isinstance(e, Mask) else 0 if e is None or e is Ellipsis else 1 for e in entries
    )
    missing = x.ndim - used
    if missing < 0:
        raise IndexOutOfBoundsError(
            f"{op}: too many indices: {used} for a tensor of {x.ndim} dimension{'s' * (x.ndim != 1)}, shape {x.shape}"
        )
    dots = [p for p, e in enumerate(entries) if e is Ellipsis]
    if len(dots) > 1:
        raise IndexOutOfBoundsError(f"{op}: a key can contain only one ellipsis (...)")
    at = dots[0] + 1 if dots else len(entries)
    return [*entries[:at], *[FULL] * missing, *entries[at:]]


def _slice(op: str, entry: slice, n: int) -> tuple[int, int, int]:
    try:
        start, stop, step = entry.indices(n)
    except TypeError:
        raise DTypeError(f"{op}: the parts of a slice must be integers or None, got {entry}") from None
    except ValueError:
        raise ShapeError(f"{op}: the step of a slice must not be 0") from None
    size = len(range(start, stop, step))
    return (start, size, step) if size else (0, 0, 1)


def plan(op: str, x: Tensor, key: Any) -> Plan:
    """Read ``x[key]``. Advanced entries (index tensors, masks, and integers beside them) broadcast together;
    their axes stand where the entries do if these are neighbours, and in front otherwise: NumPy's rule.
    """
    if key.__class__ is Tensor and x.ndim and key.dtype.kind in ("int", "uint"):
        shape = (*key.shape, *x.shape[1:])
        return Plan(shape, indices=[key], axis=-x.ndim, gathered=shape, places=[(key, 0, x.shape[0])])
    entries = _entries(op, x, key)
    advanced = any(isinstance(e, Mask | Tensor) for e in entries)
    found = Plan()
    region: list[tuple[int, int, int]] = []  # start, size and step along each axis of x
    read: list[int] = []  # sizes of the axes that a gather sees
    layout: list[int] = []  # sizes of the result's axes that are not the indices'
    indexed: list[int] = []  # positions in `read` of the indexed axes
    runs, place, neighbour = 0, 0, False
    for entry in entries:
        axis = len(region)
        if isinstance(entry, Mask | Tensor | int) and advanced:
            if not runs:
                place = len(layout)
            runs += not neighbour
            neighbour = True
        else:
            neighbour = False
        if entry is None:
            layout.append(1)
        elif isinstance(entry, Mask):
            shape = x.shape[axis : axis + len(entry.shape)]
            if any(n not in (size, 0) for n, size in zip(entry.shape, shape, strict=True)):
                raise IndexOutOfBoundsError(
                    f"{op}: a mask of shape {entry.shape} does not fit axes of shape {shape} (x has shape {x.shape})"
                )
            region += [(0, n, 1) for n in shape]
            indexed.append(len(read))
            read.append(math.prod(shape))
            found.indices.append(entry.index(x._backend))
        elif isinstance(entry, Tensor):
            n = x.shape[axis]
            region.append((0, n, 1))
            indexed.append(len(read))
            read.append(n)
            found.indices.append(entry)
            found.places.append((entry, axis, n))
        elif isinstance(entry, slice):
            region.append(_slice(op, entry, x.shape[axis]))
            read.append(region[-1][1])
            layout.append(region[-1][1])
        elif entry is not Ellipsis:
            n = x.shape[axis]
            if not -n <= entry < n:
                raise out_of_bounds(op, entry, axis, n)
            region.append((entry % n, 1, 1))
    size = tuple(r[1] for r in region)
    if size != x.shape or any(r[2] != 1 for r in region):
        found.region = tuple(r[0] for r in region), size, tuple(r[2] for r in region)
    if tuple(read) != size:
        found.read = tuple(read)
    if not advanced:
        found.shape = tuple(layout)
        return found
    _place_indices(op, found, read, layout, indexed, place if runs == 1 else 0, runs == 1)
    return found


def _place_indices(
    op: str, found: Plan, read: list[int], layout: list[int], indexed: list[int], place: int, together: bool
) -> None:
    try:
        chosen = broadcast_shapes(*(i.shape for i in found.indices))
    except ShapeError as error:
        raise ShapeError(f"{op}: the indices' {error}") from None
    k, m, ndim = len(indexed), len(chosen), len(read)
    first = indexed[0]
    rest = [n for p, n in enumerate(read) if p not in indexed]
    if indexed != list(range(first, first + k)):
        found.order = tuple(a - ndim for a in (*indexed, *(p for p in range(ndim) if p not in indexed)))
        first = 0
    found.axis = first - ndim
    if not together and first:
        total = len(rest) + m
        found.after = tuple(
            a - total for a in (*range(first, first + m), *range(first), *range(first + m, total))
        )
        first = 0
    found.gathered = (*rest[:first], *chosen, *rest[first:])
    found.shape = (*layout[:place], *chosen, *layout[place:])


# -- getting -------------------------------------------------------------------------------------------------

_OPS: tuple[Any, ...] = (strided_slice, strided_update, reshape, gather)
_SLICE, _UPDATE, _RESHAPE, _GATHER = (f.op for f in _OPS)


def getitem(x: Tensor, key: Any) -> Tensor:
    """``x[key]`` as NumPy reads it: integers, slices, None, ``...``, bool masks and integer tensors, lists or
    arrays. Differentiable.

    A mask's sizes are those of the axes it stands for, or 0. Raises IndexOutOfBoundsError (also of a mask that
    does not fit), ShapeError (indices that do not broadcast) or DTypeError (a float index).
    """
    kind = key.__class__
    shape = x._data.shape
    if (kind is int or kind is slice) and shape:
        part = execute(_SLICE, (x,), _leading(GET, key, shape))
        return execute(_RESHAPE, (part,), {"shape": shape[1:]}) if kind is int else part
    if kind is Tensor and shape and key.dtype.kind in ("int", "uint"):
        try:
            return execute(_GATHER, (x, key), {"axis": -len(shape)})
        except IndexOutOfBoundsError:
            _locate(GET, x, [(key, 0, shape[0])])
            raise
    found = plan(GET, x, key)
    y = _approach(x, found)
    if found.indices:
        try:
            y = gather(y, *found.indices, axis=found.axis)
        except IndexOutOfBoundsError:
            _locate(GET, x, found.places)
            raise
        if found.after:
            y = calls.permute_dims(y, found.after)
    y = reshape(y, found.shape) if y.shape != found.shape else y
    return same(x) if y is x else y


def _approach(x: Tensor, found: Plan) -> Tensor:
    """What a plan gathers from: sliced, reshaped, and with the indexed axes together."""
    if found.region is not None:
        start, size, step = found.region
        x = strided_slice(x, start=start, size=size, step=step)
    if found.read is not None and found.indices:
        x = reshape(x, found.read)
    return x if found.order is None else calls.permute_dims(x, found.order)


def _locate(op: str, x: Tensor, places: list[tuple[Tensor, int, int]]) -> None:
    """Raise the error for an index out of bounds in terms of x's own axes."""
    if x._backend.level == 0:
        for index, axis, size in places:
            check_bounds(op, index, axis, size)


# -- setting -------------------------------------------------------------------------------------------------


def setitem(x: Tensor, key: Any, value: Any) -> None:
    """``x[key] = value``: rebinds ``x`` to its value with the selected elements replaced. Differentiable in
    ``x`` and in ``value``.

    ``value`` broadcasts to what ``x[key]`` selects, and is cast to x's dtype within its kind (a float does
    not go into an integer tensor). Of several values for one element, the last in C order is kept. No other
    tensor ever sees the change.
    """
    if _is_mask(key) and _is_scalar(value):
        (mask, *_) = _entries(SET, x, key)
        if mask.shape == x.shape[: len(mask.shape)]:  # else plan() tells what is wrong
            chosen = reshape(mask.tensor(x._backend), (*mask.shape, *(1,) * (x.ndim - len(mask.shape))))
            x._rebind(calls.where(chosen, _cast_value(x, value), x))
            return
    kind = key.__class__
    shape = x._data.shape
    if (kind is int or kind is slice) and shape:
        region = _leading(SET, key, shape)
        size = region["size"]
        _update(x, _value(x, value, size[1:] if kind is int else size, size), region)
        return
    found = plan(SET, x, key)
    if not found.indices:
        start, size, step = found.region or ((0,) * x.ndim, shape, (1,) * x.ndim)
        _update(x, _value(x, value, found.shape, size), {"start": start, "size": size, "step": step})
        return
    value = _value(x, value, found.shape, found.gathered)
    if found.after:
        value = calls.permute_dims(value, _inverse(found.after))
    direct = found.region is None and found.read is None and found.order is None
    part = x if direct else _approach(x, found)
    try:
        part = scatter(
            part, value, *found.indices, axis=found.axis, overwrite=direct and sole(x, value, *found.indices)
        )
    except IndexOutOfBoundsError:
        _locate(SET, x, found.places)
        raise
    if found.order is not None:
        part = calls.permute_dims(part, _inverse(found.order))
    if found.region is None:
        x._rebind(part if part.shape == shape else reshape(part, shape))
        return
    start, size, step = found.region
    _update(x, reshape(part, size), {"start": start, "size": size, "step": step})


def _update(x: Tensor, value: Tensor, region: dict[str, Any]) -> None:
    x._rebind(execute(_UPDATE, (x, value), {**region, "overwrite": sole(x, value)}))


def _is_mask(key: Any) -> bool:
    if isinstance(key, Tensor):
        return key.dtype is bool_
    return str(getattr(key, "dtype", "")) == "bool" and bool(getattr(key, "shape", ()))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex) or getattr(value, "shape", None) == ()


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    n = len(order)
    positions = [a + n for a in order]
    return tuple(positions.index(p) - n for p in range(n))


def _value(x: Tensor, value: Any, selected: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """``value`` as a tensor of x's dtype, broadcast to the shape that a key selects, and given another shape
    of that size.
    """
    if isinstance(value, bool | int | float | complex) and math.prod(shape) <= FEW:
        return full_like(Spec(shape, x.dtype), x._backend, _cast_scalar(x, value))
    spread = _spread(_cast_value(x, value), selected)
    return spread if spread.shape == shape else reshape(spread, shape)


def _cast_scalar(x: Tensor, value: bool | int | float | complex) -> bool | int | float | complex:
    if RANK[_kind(value)] > RANK[x.dtype.kind]:
        _refuse_value(repr(value), x)
    return as_scalar(_SET, value, x.dtype)


def _cast_value(x: Tensor, value: Any) -> Tensor:
    """``value`` as a tensor of x's dtype, where that keeps its kind; DTypeError otherwise."""
    dtype = x.dtype
    if isinstance(value, bool | int | float | complex):
        return full_like(Spec((), dtype), x._backend, _cast_scalar(x, value))
    if isinstance(value, list | tuple):
        shape, values = _nested(SET, "values", value)
        return from_buffer(_pack([_cast_scalar(x, v) for v in values], dtype), shape, dtype, x._backend)
    if not isinstance(value, Tensor):
        value = asarray(value, device=x._backend)
    if not goes_into(value.dtype, dtype):
        _refuse_value(f"a value of dtype {value.dtype.name}", x)
    return calls.astype(value, dtype)


def _kind(value: bool | int | float | complex) -> str:
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind.__name__
    return "complex"


def _refuse_value(what: str, x: Tensor) -> None:
    name = x.dtype.name
    raise DTypeError(
        f"{SET}: {what} does not go into a tensor of dtype {name} unchanged: use corelib.astype(value, corelib.{name}), or give x another dtype"
    )


def _spread(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``value`` broadcast to ``shape``; leading axes of size 1 that are too many are dropped, as NumPy does."""
    if value._data.shape == shape:
        return value
    extra = value.ndim - len(shape)
    if extra > 0 and value.shape[:extra] == (1,) * extra:
        value = reshape(value, value.shape[extra:])
    try:
        fits = broadcast_shapes(value.shape, shape) == shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{SET}: a value of shape {value.shape} does not broadcast to the shape {shape} that the index selects"
        )
    return calls.broadcast_to(value, shape)


def _references(x: Tensor) -> int:
    return sys.getrefcount(x._data)


_ONE = _references(wrap(object(), None))  # what one tensor alone looks like to this Python


def sole(x: Tensor, *others: Tensor) -> bool:
    """Whether nobody but the tensor ``x`` can see its array, so that a kernel may write into it: no other
    tensor, no tape node, no view and no exporter refers to the array (they would count as references), the
    backend says that the array alone owns its buffer, and none of the ``others``, which the same kernel
    reads, is x itself.
    """
    backend = x._backend
    if backend.level or _references(x) > _ONE:
        return False
    if others and any(o._data is x._data or o._backend is not backend for o in others):
        return (
            False  # a tensor of a transformation would take x into it, as a value that it may keep or spread
        )
    return backend.owns(x._data)


calls.getitem, calls.setitem = getitem, setitem
__all__: tuple[str, ...] = ()  # reached as x[key]
