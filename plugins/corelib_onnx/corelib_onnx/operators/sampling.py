"""Images at places between their elements, and images put together from windows."""

from __future__ import annotations

import math
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Ints, operator

MODES = {"bilinear": "linear", "bicubic": "cubic"}  # the names of opset 16


@operator("GridSample", since=16)
def grid_sample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    """x of shape (batch, channels, *sizes) at the places of ``grid``, (batch, *new, axes), last axis first, from -1 to 1
    over each axis: to its outermost elements with ``align_corners``, to their outer edges without.
    """
    mode = MODES.get(mode, mode)
    if mode not in ("linear", "cubic", "nearest") or padding_mode not in ("zeros", "border", "reflection"):
        raise ArgumentError(f"GridSample: mode {mode!r} with padding_mode {padding_mode!r} is not supported")
    sizes, axes = x.shape[2:], x.ndim - 2
    elements = cl.permute_dims(x, (0, *range(2, x.ndim), 1))
    batch = cl.reshape(cl.arange(x.shape[0], device=x.device), (-1, *(1,) * axes))
    batch = cl.broadcast_to(batch, grid.shape[:-1])
    choices = [
        _neighbours(_place(grid[..., axes - 1 - i], n, align_corners), n, mode, padding_mode, align_corners)
        for i, n in enumerate(sizes)
    ]
    total: Any = 0
    for picked in _products(choices):
        weight = math.prod([w for _, w in picked], start=cl.ones((), dtype=x.dtype, device=x.device))
        total = total + cl.expand_dims(weight, -1) * cl.gather(
            elements, batch, *(i for i, _ in picked), axis=0
        )
    return cl.moveaxis(total, -1, 1)


def _products(choices: list[list[Any]]) -> list[tuple[Any, ...]]:
    """One of each list, in all ways."""
    found: list[tuple[Any, ...]] = [()]
    for options in choices:
        found = [(*before, option) for before in found for option in options]
    return found


def _place(g: Any, n: int, align: int) -> Any:
    return (g + 1) / 2 * (n - 1) if align else ((g + 1) * n - 1) / 2


def _neighbours(at: Any, n: int, mode: str, padding: str, align: int) -> list[tuple[Any, Any]]:
    """Which elements of an axis count for a place, and how much."""
    if padding != "zeros" and mode != "cubic":
        at = _inside(at, n, padding, align)
    if mode == "nearest":
        near = [(cl.round(at), 1.0)]
    elif mode == "linear":
        low = cl.floor(at)
        near = [(low, 1 - (at - low)), (low + 1, at - low)]
    else:
        low = cl.floor(at)
        near = [(low + k, _cubic(at - low - k)) for k in (-1, 0, 1, 2)]
    found = []
    for i, weight in near:
        if padding == "zeros":
            weight = cl.where(cl.logical_and(cl.greater_equal(i, 0), cl.less(i, n)), weight, 0.0)
        else:
            i = _inside(i, n, padding, align)
        found.append((cl.astype(cl.clip(i, 0, n - 1), cl.int64), weight))
    return found


def _inside(at: Any, n: int, padding: str, align: int) -> Any:
    """A place outside at the border, or reflected at the outermost elements or their outer edges."""
    if padding == "border":
        return cl.clip(at, 0, n - 1)
    low, span = (0.0, n - 1.0) if align else (-0.5, float(n))
    if span == 0:
        return at * 0
    folded = cl.remainder(cl.abs(at - low), 2 * span)
    return low + cl.minimum(folded, 2 * span - folded)


def _cubic(t: Any, a: float = -0.75) -> Any:
    """The cubic convolution kernel (R. Keys, IEEE Trans. ASSP 29(6), 1981)."""
    t = cl.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    return cl.where(cl.less_equal(t, 1), near, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a)


@operator("Col2Im", since=18)
def col2im(x, image_shape: Ints, block_shape: Ints, *, dilations=None, pads=None, strides=None):
    """Windows, the columns of x, added where they belong in an image."""
    n = len(image_shape)
    strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * (2 * n)
    sizes = [size + pads[i] + pads[n + i] for i, size in enumerate(image_shape)]
    counts = [
        (s - d * (k - 1) - 1) // t + 1
        for s, d, k, t in zip(sizes, dilations, block_shape, strides, strict=True)
    ]
    place: Any = 0
    for i, size in enumerate(sizes):
        inside = cl.reshape(
            cl.arange(block_shape[i], device=x.device) * dilations[i],
            [-1 if j == i else 1 for j in range(2 * n)],
        )
        window = cl.reshape(
            cl.arange(counts[i], device=x.device) * strides[i],
            [-1 if j == n + i else 1 for j in range(2 * n)],
        )
        place = place * size + inside + window
    rows = cl.reshape(x, (x.shape[0] * x.shape[1] // math.prod(block_shape), -1))
    flat = cl.zeros((math.prod(sizes), rows.shape[0]), dtype=x.dtype, device=x.device)
    image = cl.scatter_add(flat, rows.mT, cl.reshape(place, (-1,)), axis=0)
    image = cl.reshape(image.mT, (x.shape[0], -1, *sizes))
    return image[(..., *(slice(pads[i], pads[i] + size) for i, size in enumerate(image_shape)))]
