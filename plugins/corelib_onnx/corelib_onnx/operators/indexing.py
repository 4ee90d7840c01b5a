"""Reading and writing at places that a tensor names."""

from __future__ import annotations

from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, operator


@operator("Gather")
def gather(x, indices, *, axis=0):
    return cl.take(x, indices, axis=axis)


def _places(indices: Any, shape: tuple[int, ...], axis: int) -> list[Any]:
    """The index of each axis for elements that lie where ``indices`` says along ``axis``, and where they are along the others."""
    places = []
    for i in range(len(shape)):
        if i == axis % len(shape):
            places.append(cl.astype(indices, cl.int64))
        else:
            along = [1] * len(shape)
            along[i] = indices.shape[i]
            steps = cl.reshape(cl.arange(indices.shape[i], device=indices.device), along)
            places.append(cl.broadcast_to(steps, indices.shape))
    return places


@operator("GatherElements")
def gather_elements(x, indices, *, axis=0):
    return cl.gather(x, *_places(indices, x.shape, axis), axis=0)


@operator("ScatterElements", "Scatter")
def scatter_elements(x, indices, updates, *, axis=0, reduction="none"):
    return _scattered(x, updates, _places(indices, x.shape, axis), reduction)


def _scattered(x: Any, updates: Any, places: list[Any], reduction: str) -> Any:
    """x with ``updates`` put, added, multiplied or compared at ``places``."""
    if reduction == "none":
        return cl.scatter(x, updates, *places, axis=0)
    if reduction == "add":
        return cl.scatter_add(x, updates, *places, axis=0)
    if reduction not in ("mul", "max", "min"):
        raise ArgumentError(f"ScatterElements, ScatterND: reduction {reduction!r} is not supported")
    fn = {"mul": cl.multiply, "max": cl.maximum, "min": cl.minimum}[reduction]
    # One round for each time that the most frequent place is named: within a round, no place comes twice.
    depth = len(places)
    places = [cl.where(cl.less(p, 0), p + n, p) for p, n in zip(places, x.shape, strict=False)]
    flat = [cl.reshape(p, (-1,)) for p in places]
    rows = cl.reshape(updates, (flat[0].shape[0], *x.shape[depth:]))
    number = cl.zeros(flat[0].shape, dtype=cl.int64, device=x.device)
    for p, n in zip(flat, x.shape, strict=False):
        number = number * n + p
    order = cl.argsort(number)
    ordered = cl.take(number, order)
    rank = cl.arange(number.shape[0], device=x.device) - cl.searchsorted(ordered, ordered)
    for turn in range(cl.max(rank).item() + 1 if rank.size else 0):
        chosen = cl.take(order, cl.nonzero(cl.equal(rank, turn))[0])
        where = [cl.take(p, chosen) for p in flat]
        x = cl.scatter(x, fn(cl.gather(x, *where, axis=0), cl.take(rows, chosen, axis=0)), *where, axis=0)
    return x


def _columns(indices: Any, batch: int, shape: tuple[int, ...]) -> list[Any]:
    """The last axis of ``indices`` as one index each, behind one for each batch axis."""
    columns = [indices[..., i] for i in range(indices.shape[-1])]
    for axis in reversed(range(batch)):
        along = [1] * columns[0].ndim
        along[axis] = shape[axis]
        steps = cl.reshape(cl.arange(shape[axis], device=indices.device), along)
        columns.insert(0, cl.broadcast_to(steps, columns[-1].shape))
    return columns


@operator("GatherND")
def gather_nd(x, indices, *, batch_dims=0):
    return cl.gather(x, *_columns(indices, batch_dims, x.shape), axis=0)


@operator("ScatterND")
def scatter_nd(x, indices, updates, *, reduction="none"):
    return _scattered(x, updates, _columns(indices, 0, x.shape), reduction)


@operator("TensorScatter")
def tensor_scatter(past, update, indices=None, *, axis=-2, mode="linear"):
    """``update`` written into a cache along ``axis``, for each batch from its own index on."""
    if mode not in ("linear", "circular"):
        raise ArgumentError(f"TensorScatter: mode must be 'linear' or 'circular', got {mode!r}")
    axis %= past.ndim
    start = cl.zeros(past.shape[:1], dtype=cl.int64, device=past.device) if indices is None else indices
    along = [1] * past.ndim
    along[axis] = update.shape[axis]
    where = cl.reshape(start, (-1,) + (1,) * (past.ndim - 1))
    where = where + cl.reshape(cl.arange(update.shape[axis], device=past.device), along)
    where = cl.remainder(where, past.shape[axis]) if mode == "circular" else where
    return scatter_elements(past, cl.broadcast_to(where, update.shape), update, axis=axis)


@operator("OneHot")
def one_hot(indices, depth: Int, values, *, axis=-1):
    """``values[1]`` where the new axis' position is the index, ``values[0]`` elsewhere."""
    depth = int(depth)
    labels = cl.astype(indices, cl.int64)
    labels = cl.expand_dims(cl.where(cl.less(labels, 0), labels + depth, labels), axis)
    along = [1] * labels.ndim
    along[axis] = depth
    hit = cl.equal(labels, cl.reshape(cl.arange(depth, device=labels.device), along))
    off, on = (x.to(labels.device) for x in cl.unstack(values))
    return cl.where(hit, on, off)


@operator("TopK")
def top_k(x, k: Int = None, *, axis=-1, largest=1, sorted=1):
    found = cl.top_k(x, int(k), axis=axis, largest=bool(largest))
    return found[0], found[1]


@operator("NonZero")
def nonzero(x):
    return cl.stack(cl.nonzero(x)) if x.ndim else cl.zeros((0, x.size), dtype=cl.int64, device=x.device)


@operator("Compress")
def compress(x, condition, *, axis=None):
    places = cl.nonzero(condition)[0]
    return cl.take(cl.reshape(x, (-1,)) if axis is None else x, places, axis=0 if axis is None else axis)


@operator("ReverseSequence")
def reverse_sequence(x, lengths, *, batch_axis=1, time_axis=0):
    """The first ``lengths[b]`` elements of each batch in reverse, the others where they are."""
    time = [1] * x.ndim
    time[time_axis] = x.shape[time_axis]
    batch = [1] * x.ndim
    batch[batch_axis] = x.shape[batch_axis]
    step, length = (
        cl.reshape(cl.arange(x.shape[time_axis], device=x.device), time),
        cl.reshape(lengths, batch),
    )
    where = cl.where(cl.less(step, length), length - 1 - step, step)
    return gather_elements(x, cl.broadcast_to(where, x.shape), axis=time_axis)


@operator("Unique")
def unique(x, *, axis=None, sorted=1):
    """The distinct elements, or slices along ``axis``: values, where each is first, which each one is, how often."""
    rows = (
        cl.reshape(x, (-1, 1)) if axis is None else cl.reshape(cl.moveaxis(x, axis, 0), (x.shape[axis], -1))
    )
    key = cl.zeros(rows.shape[:1], dtype=cl.int64, device=x.device)
    for column in range(rows.shape[1]):
        found = cl.unique_inverse(rows[:, column])
        key = cl.unique_inverse(key * found[0].shape[0] + found[1])[
            1
        ]  # in the order of the columns up to here
    _, first, inverse, counts = cl.unique_all(key)
    if not sorted:
        order = cl.argsort(first)
        first, counts, inverse = (
            cl.take(first, order),
            cl.take(counts, order),
            cl.take(cl.argsort(order), inverse),
        )
    source = cl.reshape(x, (-1,)) if axis is None else x
    return cl.take(source, first, axis=0 if axis is None else axis), first, cl.reshape(inverse, (-1,)), counts
