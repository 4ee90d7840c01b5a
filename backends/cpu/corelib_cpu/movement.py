"""Shapes and regions: everything that moves elements and computes nothing. Views wherever NumPy has
them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool
from .quiet import scalar

LARGE = 65536  # elements from which a transposed array is copied by our own loop
FEW = 4  # times that an element is repeated, up to which the result is written in as many passes
_TILE = 128
_WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "complex128"}  # what moves so many bytes

# Words: out, input, matrices' rows, columns, bytes from column to column of the input, from matrix to matrix, tiles along
# the rows, along the columns. A unit is a tile of one matrix. The rows of a column are neighbours in the input: blocks as
# wide as a vector are transposed in registers, the rest element by element. 16M floats take 3 ms where NumPy takes 100.
_TRANSPOSE = """
LANES, SIZE = {lanes}, {size}
block = transpose_block("{element}", LANES, LANES, False)

def kernel(lo, hi, args):
    words = at_int64(args)
    rows, columns, step, across = words[2], words[3], words[4], words[7]
    out_row = columns * SIZE
    for unit in range(lo, hi):
        which = unit // across
        left = (unit - which * across) * {tile}
        matrix = which // words[6]
        first = (which - matrix * words[6]) * {tile}
        last, right = min(first + {tile}, rows), min(left + {tile}, columns)
        out, source = words[0] + matrix * rows * out_row, words[1] + matrix * words[5]
        i_end, j_end = first + (last - first) // LANES * LANES, left + (right - left) // LANES * LANES
        for j in range(left, j_end, LANES):
            for i in range(first, i_end, LANES):
                block(source + j * step + i * SIZE, step, LANES, LANES, out + i * out_row + j * SIZE, out_row)
        for i in range(first, last):
            line = at_{word}(out + i * out_row)
            for j in range(j_end if i < i_end else left, right):
                line[j] = at_{word}(source + j * step + i * SIZE)[0]
"""


# Words: out, input, axes before the last, elements of a row, bytes from one to the next of the input and of the output,
# then length and both strides of each of these axes, from the last. A unit is a row.
_PUT = """
def kernel(lo, hi, args):
    words = at_int64(args)
    columns, step, out_step = words[3], words[4], words[5]
    target, place, left = words[0], words[1], 0  # rows left before the axis next to the last begins again
    for row in range(lo, hi):
        if left:
            place += words[7]
            target += words[8]
            left -= 1
        else:
            rest, target, place = row, words[0], words[1]
            for k in range(words[2]):
                above = rest // words[6 + 3 * k]
                index = rest - above * words[6 + 3 * k]
                place += index * words[7 + 3 * k]
                target += index * words[8 + 3 * k]
                rest = above
            if words[2]:
                left = words[6] - 1 - row % words[6]
        if step == {size} and out_step == {size}:
            source = at_{word}(place)
            out = at_{word}(target)
            for i in range(columns):
                out[i] = source[i]
        else:
            for i in range(columns):
                at_{word}(target + i * out_step)[0] = at_{word}(place + i * step)[0]
"""
# Words: out, the number's bits. A unit is an element.
_FILL = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out = at_{word}(words[0])
    value = {word}(words[1])
    for i in range(lo, hi):
        out[i] = value
"""


def _ours(x: ndarray) -> bool:
    """Whether elements are moved by our own loop, which NumPy does for few of them, unless a program is captured."""
    many = x.size >= LARGE and native.loaded()
    return (many or pool.arena is not None) and 0 < x.size and 0 < x.ndim and x.flags.aligned


def put(out: ndarray, x: ndarray) -> None:
    """out[...] = x for arrays of one shape and dtype that share no memory."""
    if not (_ours(x) and out.flags.aligned and x.shape == out.shape):
        np.copyto(out, x)
        return
    kernel = native.address(_PUT.format(word=_WORDS[x.itemsize], size=x.itemsize))
    axes = zip(x.shape[-2::-1], x.strides[-2::-1], out.strides[-2::-1], strict=True)
    words = [n for axis in axes for n in axis]
    units = x.size // x.shape[-1]
    chunk = units if x.size < LARGE else max(units // (4 * team.get_num_threads()), 1)
    team.launch(kernel, units, chunk, out, x, x.ndim - 1, x.shape[-1], x.strides[-1], out.strides[-1], *words)


def _fill(out: ndarray, value: Any) -> None:
    """out[...] = value for a C-contiguous array."""
    number = scalar(value, out.dtype)
    if out.itemsize == 16 or not _ours(out):
        out.fill(number[()])
        return
    kernel = native.address(_FILL.format(word=_WORDS[out.itemsize]))
    bits = int(number.reshape(1).view(f"u{out.itemsize}").astype(np.uint64).view(np.int64)[0])
    chunk = out.size if out.size < LARGE else max(out.size // (4 * team.get_num_threads()), 1)
    team.launch(kernel, out.size, chunk, out, bits)


def reshape(x: ndarray, /, *, shape: tuple[int, ...]) -> ndarray:
    if pool.arena is not None and not x.flags.c_contiguous:
        try:
            return x.reshape(shape, copy=False)
        except ValueError:  # NumPy's own copy would not be captured
            return copy(x).reshape(shape)
    few = x.shape[-1] if x.ndim > 1 and x.size >= LARGE and not x.strides[-1] else 0
    if 1 < few <= FEW and shape[-1:] != (few,) and _ours(x):
        out = pool.empty(x.shape, x.dtype, x.nbytes)  # each element some times: NumPy begins a loop for each
        for i in range(few):
            put(out[..., i], x[..., 0])
        return out.reshape(shape)
    return x.reshape(shape)


def permute_dims(x: ndarray, /, *, axes: tuple[int, ...]) -> ndarray:
    return x.transpose(axes)


def broadcast_to(x: ndarray, /, *, shape: tuple[int, ...]) -> ndarray:
    return np.broadcast_to(x, shape)


def flip(x: ndarray, /, *, axis: tuple[int, ...]) -> ndarray:
    return np.asarray(np.flip(x, axis))  # of no axes: a NumPy scalar


def concat(*xs: ndarray, axis: int) -> ndarray:
    if not all(map(_ours, xs)):
        return np.concatenate(xs, axis)
    axis %= xs[0].ndim
    shape = list(xs[0].shape)
    shape[axis] = sum([x.shape[axis] for x in xs])
    out = pool.empty(tuple(shape), xs[0].dtype, sum([x.nbytes for x in xs]))
    start = 0
    for x in xs:
        stop = start + x.shape[axis]
        put(out[(slice(None),) * axis + (slice(start, stop),)], x)
        start = stop
    return out


def pad(x: ndarray, /, *, pad_width: tuple[tuple[int, int], ...], constant_value: Any) -> ndarray:
    shape = tuple(lo + length + hi for (lo, hi), length in zip(pad_width, x.shape, strict=True))
    size = x.itemsize
    for length in shape:
        size *= length
    out = pool.empty(shape, x.dtype, size)
    _fill(out, constant_value)
    inside = [slice(lo, lo + length) for (lo, _), length in zip(pad_width, x.shape, strict=True)]
    put(out[(*inside, ...)], x)
    return out


def _region(shape: tuple[int, ...], start: Any, size: Any, step: Any) -> Any:
    """The slices of start + k * step, 0 <= k < size, along every axis."""
    slices = []
    for length, first, count, stride in zip(shape, start, size, step, strict=True):
        last = first + (count - 1) * stride
        if count and not (0 <= first < length and 0 <= last < length):
            raise IndexError(f"a region from {first} to {last} is outside an axis of length {length}")
        stop = last + (1 if stride > 0 else -1)
        slices.append(slice(first, None if stop < 0 else stop, stride) if count else slice(0, 0))
    return (*slices, ...)  # with an ellipsis even a region without axes is an array


def strided_slice(x: ndarray, /, *, start: Any, size: Any, step: Any) -> ndarray:
    return x[_region(x.shape, start, size, step)]


def strided_update(
    x: ndarray, value: ndarray, /, *, start: Any, size: Any, step: Any, overwrite: bool
) -> ndarray:
    if value.shape != tuple(size):
        raise ValueError(f"a value of shape {tuple(size)} is needed, got {value.shape}")
    if overwrite and np.may_share_memory(x, value):
        value = value.copy()
    out = x if overwrite else copy(x)
    out[_region(x.shape, start, size, step)] = value
    return out


def copy(x: ndarray) -> ndarray:
    """A C-contiguous copy in a buffer of its own."""
    out = pool.empty(x.shape, x.dtype, x.nbytes)
    size = x.itemsize
    if (
        x.size < LARGE
        or x.ndim not in (2, 3)
        or x.strides[-2] != size
        or x.strides[-1] < 16
        or not x.flags.aligned
    ):
        put(out, x)
        return out
    rows, columns = x.shape[-2:]
    down, across = -(-rows // _TILE), -(-columns // _TILE)
    units, outer = (down * across, 0) if x.ndim == 2 else (down * across * x.shape[0], x.strides[0])
    kernel = _transposing(size)
    chunk = max(units // (8 * team.get_num_threads()), 1)
    return team.launch(kernel, units, chunk, out, x, rows, columns, x.strides[-1], outer, down, across)


@cache
def _transposing(size: int) -> int:
    lanes = max(2, min(native.vector_bytes() // size, 16))
    element = f"int{8 * size}"
    source = _TRANSPOSE.format(tile=_TILE, word=_WORDS[size], size=size, lanes=lanes, element=element)
    return native.address(source)


def contiguous(x: ndarray) -> ndarray:
    """The array itself where it is C-contiguous and aligned, a copy otherwise."""
    return x if x.flags.c_contiguous and x.flags.aligned else copy(x)
