"""Shapes: nothing is computed, elements are arranged."""

from __future__ import annotations

import math
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, Ints, Number, operator


@operator("Reshape")
def reshape(x, shape: Ints = None, *, allowzero=0):
    """A 0 stands for x's own size there, unless ``allowzero``."""
    if not allowzero:
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return cl.reshape(x, tuple(shape))


@operator("Flatten")
def flatten(x, *, axis=1):
    first = axis + x.ndim if axis < 0 else axis
    return cl.reshape(x, (math.prod(x.shape[:first]), math.prod(x.shape[first:])))


@operator("Transpose")
def transpose(x, *, perm=None):
    return cl.permute_dims(x, tuple(range(x.ndim))[::-1] if perm is None else tuple(perm))


@operator("Squeeze")
def squeeze(x, axes: Ints = None):
    return cl.squeeze(x, axes)


@operator("Unsqueeze")
def unsqueeze(x, axes: Ints = None):
    return cl.expand_dims(x, axes)


@operator("Expand")
def expand(x, shape: Ints):
    return cl.broadcast_to(x, cl.broadcast_shapes(x.shape, shape))


@operator("Tile", since=6)
def tile(x, repeats: Ints):
    return cl.tile(x, repeats)


@operator("Tile")
def tile_axis(x, tiles: Int, axis: Int):
    return cl.tile(x, [tiles if i == axis % x.ndim else 1 for i in range(x.ndim)])


@operator("Concat")
def concat(*inputs: Any, axis: int = 1) -> Any:
    return cl.concat(list(inputs), axis=axis)


@operator("Split")
def split(x, split: Ints = None, *, axis=0, num_outputs=None, call):
    """Into parts of the given sizes, or as many as there are outputs: equal ones, the last of which may be smaller."""
    count = num_outputs or call.outputs
    size = math.ceil(x.shape[axis] / count)
    ends, total = [], 0
    for part in (split or [size] * count)[:-1]:
        total = min(total + part, x.shape[axis])
        ends.append(total)
    return tuple(cl.split(x, ends, axis=axis))


@operator("Slice", since=10)
def slice_by_inputs(x, starts: Ints, ends: Ints, axes: Ints = None, steps: Ints = None):
    key = [slice(None)] * x.ndim
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        step = 1 if steps is None else steps[i]
        first, last = starts[i], ends[i]
        if step < 0 and last < -x.shape[axis]:
            last = None  # down to the first element
        key[axis] = slice(first, last, step)
    return x[tuple(key)]


@operator("Slice")
def slice_by_attributes(x, *, starts, ends, axes=None):
    return slice_by_inputs(x, starts, ends, axes)


@operator("Pad")
def pad(x, pads: Ints = None, value: Number = 0, axes: Ints = None, *, mode="constant", paddings=()):
    """Elements added at both ends of axes, or taken away where a number is negative."""
    pads = pads or paddings  # its name in opset 1
    axes = range(x.ndim) if axes is None else axes
    half = len(pads) // 2
    width = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        width[axis] = (pads[i], pads[half + i])
    if mode == "constant":
        x = x[tuple([slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, width, strict=True)])]
        grown = [(max(a, 0), max(b, 0)) for a, b in width]
        number = False if x.dtype == cl.bool and not value else (value or 0)
        return cl.pad(x, grown, constant_values=number)
    for axis, (before, behind) in enumerate(width):
        if before or behind:
            where = [_reflected(i, x.shape[axis], mode) for i in range(-before, x.shape[axis] + behind)]
            x = cl.take(x, cl.asarray(where, dtype=cl.int64, device=x.device), axis=axis)
    return x


def _reflected(i: int, n: int, mode: str) -> int:
    """Which of ``n`` elements stands at position ``i``, which may be outside."""
    if mode == "edge":
        return min(max(i, 0), n - 1)
    if mode == "wrap":
        return i % n
    if mode == "reflect":
        i %= max(2 * n - 2, 1)
        return min(i, 2 * n - 2 - i)
    raise ArgumentError(f"Pad: mode must be 'constant', 'edge', 'reflect' or 'wrap', got {mode!r}")


@operator("DepthToSpace")
def depth_to_space(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = cl.permute_dims(cl.reshape(x, (n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = cl.permute_dims(cl.reshape(x, (n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return cl.reshape(y, (n, c // b**2, h * b, w * b))


@operator("SpaceToDepth")
def space_to_depth(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    y = cl.permute_dims(cl.reshape(x, (n, c, h // b, b, w // b, b)), order)
    return cl.reshape(y, (n, c * b**2, h // b, w // b))


@operator("Trilu")
def triangle(x, k: Int = 0, *, upper=1):
    return (cl.triu if upper else cl.tril)(x, k=k or 0)
