"""Convolution and pooling: what slides a window over the axes behind the first two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Ints, operator
from .quantization import _quantized

Pairs = list[tuple[int, int]]


def _padding(
    auto: str,
    pads: Any,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """What each axis is surrounded by: (before, behind)."""
    n = len(sizes)
    if auto in ("NOTSET", "VALID"):
        pads = pads if pads and auto == "NOTSET" else [0] * (2 * n)
        return [(pads[i], pads[n + i]) for i in range(n)]
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise ArgumentError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {auto!r}")
    pairs = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        half = (total // 2, total - total // 2)
        pairs.append(half if auto == "SAME_UPPER" else half[::-1])
    return pairs


def _surrounded(x: Any, pairs: Pairs, value: Any = 0) -> Any:
    return cl.pad(x, [(0, 0), (0, 0), *pairs], constant_values=value)


def _split(x: Any, pairs: Pairs, value: Any = 0, limit: Any = None) -> tuple[Any, tuple[int, ...]]:
    """x, and the padding that is left to the op, which is the same before and behind, and at most half of a pool's kernel."""
    if _even(pairs, limit):
        return x, tuple(a for a, _ in pairs)
    return _surrounded(x, pairs, value), (0,) * len(pairs)


def _even(pairs: Pairs, kernel: Any = None) -> bool:
    return all(a == b and (kernel is None or a <= kernel[i] // 2) for i, (a, b) in enumerate(pairs))


# -- convolution ---------------------------------------------------------------------------------------------


@operator("Conv")
def conv(
    x, weight, bias=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None
):  # fmt: skip
    n = x.ndim - 2
    strides, dilations = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    x, padding = _split(x, _padding(auto_pad, pads, x.shape[2:], weight.shape[2:], strides, dilations))
    return cl.conv(x, weight, bias, stride=strides, padding=padding, dilation=dilations, groups=group)


@operator("ConvTranspose")
def conv_transpose(
    x, weight, bias=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None,
    output_shape=None, pads=None, strides=None,
):  # fmt: skip
    """Without padding, and then the part of it that padding leaves."""
    n = x.ndim - 2
    strides, dilations = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    more, pads = output_padding or [0] * n, pads or [0] * (2 * n)
    y = cl.conv_transpose(x, weight, None, stride=strides, dilation=dilations, groups=group)
    for i in range(n):
        full = y.shape[2 + i]
        before, behind = pads[i], pads[n + i]
        if output_shape or auto_pad.startswith("SAME"):
            wanted = output_shape[i - n] if output_shape else x.shape[2 + i] * strides[i]
            total = full + more[i] - wanted
            before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            behind = total - before
        y = _resized(y, 2 + i, before, full + more[i] - behind)
    return y if bias is None else y + cl.reshape(bias, (-1, *(1,) * n))


def _resized(x: Any, axis: int, first: int, last: int) -> Any:
    """The elements from ``first`` to before ``last`` along an axis; zeros where there are none."""
    size = x.shape[axis]
    key = [slice(None)] * x.ndim
    key[axis] = slice(max(first, 0), min(last, size))
    grown = [(0, 0)] * x.ndim
    grown[axis] = (max(-first, 0), max(last - size, 0))
    return cl.pad(x[tuple(key)], grown)


@operator("ConvInteger")
def conv_integer(
    x, weight, x_zero=None, weight_zero=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None,
    strides=None,
):  # fmt: skip
    """The convolution of 8 bit integers without their zero points, in int32: exact in float64."""
    options = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads, "strides": strides}
    return cl.astype(_levels_convolved(x, weight, x_zero, weight_zero, options), cl.int32)


def _levels_convolved(x: Any, weight: Any, x_zero: Any, weight_zero: Any, options: dict[str, Any]) -> Any:
    levels, weights = cl.astype(x, cl.float64), cl.astype(weight, cl.float64)
    if x_zero is not None:
        levels = levels - cl.astype(cl.reshape(x_zero, ()), cl.float64)
    if weight_zero is not None:
        zero = cl.astype(cl.reshape(weight_zero, (-1,)), cl.float64)
        weights = weights - cl.reshape(zero, (-1, *(1,) * (weights.ndim - 1)))
    return conv(levels, weights, **options)


@operator("QLinearConv")
def quantized_conv(
    x, x_scale, x_zero, weight, weight_scale, weight_zero, y_scale, y_zero, bias=None, *, auto_pad="NOTSET",
    dilations=None, group=1, kernel_shape=None, pads=None, strides=None,
):  # fmt: skip
    options = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "pads": pads, "strides": strides}
    exact = _levels_convolved(x, weight, x_zero, weight_zero, options)
    channels = (-1, *(1,) * (exact.ndim - 2))
    if bias is not None:
        exact = exact + cl.reshape(cl.astype(bias, cl.float64), channels)
    scale = cl.reshape(x_scale, ()) * cl.reshape(weight_scale, channels if weight_scale.size > 1 else ())
    real = cl.astype(exact * cl.astype(scale, cl.float64), cl.float32)
    return _quantized(real, cl.reshape(y_scale, ()), cl.reshape(y_zero, ()), y_zero.dtype)


# -- pooling -------------------------------------------------------------------------------------------------


@operator("MaxPool")
def max_pool(
    x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None, storage_order=0, strides=None, call,
):  # fmt: skip
    """The largest element of each window, and where it is in the whole of x (``storage_order`` 1: last axis first)."""
    n = x.ndim - 2
    stride, dilation = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    pairs = _padding(auto_pad, pads, x.shape[2:], kernel_shape, stride, dilation)
    floating = cl.isdtype(x.dtype, "real floating")
    padded, padding = _split(x, pairs, -cl.inf if floating else cl.iinfo(x.dtype).min, kernel_shape)
    options = {
        "kernel_size": tuple(kernel_shape), "stride": stride, "dilation": dilation, "ceil_mode": bool(ceil_mode),
        "padding": padding,
    }  # fmt: skip
    y = _pooled_in_float(cl.max_pool, padded, options)
    if call.outputs == 1:
        return y
    where = _pooled_in_float(cl.max_pool_indices, padded, options, cl.int64)
    offsets = [a if padded is not x else 0 for a, _ in pairs]
    return y, _in_the_whole(where, padded.shape[2:], offsets, x.shape, storage_order)


def _pooled_in_float(fn: Any, x: Any, options: dict[str, Any], dtype: Any = None) -> Any:
    """Integers of 8 bits as float32, which holds them, where the op takes floating numbers only."""
    if cl.isdtype(x.dtype, "real floating"):
        return fn(x, **options)
    return cl.astype(fn(cl.astype(x, cl.float32), **options), dtype or x.dtype)


def _in_the_whole(where: Any, sizes: Any, offsets: list[int], shape: tuple[int, ...], last_first: int) -> Any:
    """Positions among the padded spatial axes as positions in all of x."""
    coordinates = []
    for size, offset in zip(reversed(sizes), reversed(offsets), strict=True):
        coordinates.insert(0, cl.remainder(where, size) - offset)
        where = cl.floor_divide(where, size)
    rows = cl.reshape(cl.arange(shape[0] * shape[1], device=where.device), (*shape[:2], *(1,) * len(sizes)))
    own = list(zip(coordinates, shape[2:], strict=True))
    position = cl.zeros((), dtype=cl.int64, device=where.device)
    for coordinate, size in reversed(own) if last_first else own:
        position = position * size + coordinate
    return rows * math.prod(shape[2:]) + position


def _sums(x: Any, kernel: Any, stride: Any, dilation: Any, pairs: Pairs, ceil: int, value: float = 0) -> Any:
    """The sum of each window, padding being ``value``; a last window may end outside if ``ceil``."""
    outside = []
    for size, k, s, d, (a, b) in zip(x.shape[2:], kernel, stride, dilation, pairs, strict=True):
        span = size + a + b - (k - 1) * d - 1
        count = span // s + 1
        if ceil and span % s and count * s < size + a:  # but none that begins outside
            count += 1
        outside.append((0, max((count - 1) * s - span, 0)))
    padded = _surrounded(_surrounded(x, pairs, value), outside)
    rows = cl.reshape(padded, (-1, 1, *padded.shape[2:]))
    sums = cl.conv(
        rows, cl.ones((1, 1, *kernel), dtype=x.dtype, device=x.device), stride=stride, dilation=dilation
    )
    return cl.reshape(sums, (*x.shape[:2], *sums.shape[2:]))


@operator("AveragePool")
def average_pool(
    x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None, pads=None, strides=None
):  # fmt: skip
    n = x.ndim - 2
    stride, dilation = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    pairs = _padding(auto_pad, pads, x.shape[2:], kernel_shape, stride, dilation)
    if all(d == 1 for d in dilation) and _even(pairs, kernel_shape):
        return cl.avg_pool(
            x, kernel_size=tuple(kernel_shape), stride=stride, padding=tuple(a for a, _ in pairs), ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
        )  # fmt: skip
    ones = cl.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    counted = _sums(ones, kernel_shape, stride, dilation, pairs, ceil_mode, 1 if count_include_pad else 0)
    return _sums(x, kernel_shape, stride, dilation, pairs, ceil_mode) / counted


@operator("LpPool")
def lp_pool(x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, p=2, pads=None, strides=None):
    n = x.ndim - 2
    stride, dilation = tuple(strides or [1] * n), tuple(dilations or [1] * n)
    pairs = _padding(auto_pad, pads, x.shape[2:], kernel_shape, stride, dilation)
    return cl.pow(_sums(cl.pow(cl.abs(x), p), kernel_shape, stride, dilation, pairs, ceil_mode), 1 / p)


@operator("GlobalLpPool")
def global_lp_pool(x, *, p=2):
    return cl.pow(cl.sum(cl.pow(cl.abs(x), p), axis=tuple(range(2, x.ndim)), keepdims=True), 1 / p)


@operator("MaxUnpool")
def max_unpool(x, indices, output_shape: Ints = None, *, kernel_shape, pads=None, strides=None):
    """Zeros, with x's elements where ``indices`` says, as positions in a result without ``output_shape``."""
    n = x.ndim - 2
    stride, pads = strides or [1] * n, pads or [0] * (2 * n)
    natural = tuple(
        (size - 1) * s + k - pads[i] - pads[n + i]
        for i, (size, s, k) in enumerate(zip(x.shape[2:], stride, kernel_shape, strict=True))
    )
    shape = (*x.shape[:2], *natural)
    flat = cl.zeros((math.prod(shape),), dtype=x.dtype, device=x.device)
    y = cl.reshape(cl.scatter(flat, cl.reshape(x, (-1,)), cl.reshape(indices, (-1,)), axis=0), shape)
    if output_shape is None:
        return y
    return cl.pad(y, [(0, wanted - size) for wanted, size in zip(output_shape, shape, strict=True)])


@operator("LRN")
def local_response_normalization(x, *, size, alpha=0.0001, beta=0.75, bias=1.0):
    """x over (bias + alpha / size * the sum of squares of ``size`` channels around it) ** beta."""
    before = (size - 1) // 2
    squares = cl.pad(cl.square(x), [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)])
    total = squares[:, : x.shape[1]]
    for i in range(1, size):
        total = total + squares[:, i : i + x.shape[1]]
    return x / cl.pow(bias + alpha / size * total, beta)
