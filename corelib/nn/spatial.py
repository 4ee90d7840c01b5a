"""Functions of images and sequences of features, under PyTorch's names: x has the shape (N, C, *S), or (C, *S) for one
example.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops import pool
from ..ops.arrange import expand_dims
from ..ops.conv import conv, conv_transpose
from ..ops.creation import arange
from ..ops.elementwise import add, multiply, stop_gradient
from ..ops.index import gather, take_along_axis
from ..ops.interchange import asarray
from ..ops.movement import pad, permute_dims, reshape
from ..ops.reduce import argmax

if TYPE_CHECKING:
    from ..tensor import Tensor

Size = int | tuple[int, ...]
PADDING_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def batched(name: str, axes: int, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function`` of x of shape (N, C, *S) with ``axes`` spatial axes; of one example, as a batch of one."""
    if x.ndim == axes + 2:
        return function(x)
    if x.ndim != axes + 1:
        spatial = ", ".join(("L",) if axes == 1 else ("D", "H", "W")[3 - axes :])
        raise ShapeError(f"{name}: x must have shape (N, C, {spatial}) or (C, {spatial}), got {x.shape}")
    y = function(expand_dims(x, axis=0))
    return reshape(y, y.shape[1:])


def sizes(value: Size, axes: int) -> tuple[int, ...]:
    """One integer for each axis."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


# -- convolution ---------------------------------------------------------------------------------------------


def same_padding(name: str, kernel: tuple[int, ...], stride: Size, dilation: Size) -> list[tuple[int, int]]:
    """What to put before and behind each axis so that a convolution keeps its size; the odd one comes behind."""
    if any(s != 1 for s in sizes(stride, len(kernel))):
        raise ArgumentError(f"{name}: padding='same' needs stride 1, got {stride}")
    totals = [d * (k - 1) for d, k in zip(sizes(dilation, len(kernel)), kernel, strict=True)]
    return [(n // 2, n - n // 2) for n in totals]


def _conv(
    name: str, axes: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Any, dilation: Size, groups: int
) -> Tensor:  # fmt: skip
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ArgumentError(
                f"{name}: padding must be 'same', 'valid' or one integer for each axis, got {padding!r}"
            )
        if padding == "same":
            widths = same_padding(name, weight.shape[2:], stride, dilation)
            if all(low == high for low, high in widths):
                padding = tuple(low for low, _ in widths)
            else:
                x, padding = pad(x, [(0, 0)] * (x.ndim - axes) + widths), 0
        else:
            padding = 0
    return batched(
        name, axes, x,
        lambda z: conv(z, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups),
    )  # fmt: skip


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Any = 0, dilation: Size = 1, groups: int = 1
) -> Tensor:  # fmt: skip
    """Convolution of x (N, C, L) with weight (O, C / groups, K); ``padding`` may be "same" or "valid"."""
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Any = 0, dilation: Size = 1, groups: int = 1
) -> Tensor:  # fmt: skip
    """Convolution of x (N, C, H, W) with weight (O, C / groups, KH, KW); ``padding`` may be "same" or "valid"."""
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Any = 0, dilation: Size = 1, groups: int = 1
) -> Tensor:  # fmt: skip
    """Convolution of x (N, C, D, H, W) with weight (O, C / groups, KD, KH, KW); ``padding`` may be "same" or "valid"."""
    return _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups)


def _transposed(
    name: str, axes: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Size, padding: Size, output_padding: Size,
    groups: int, dilation: Size,
) -> Tensor:  # fmt: skip
    return batched(
        name, axes, x,
        lambda z: conv_transpose(
            z, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups),
    )  # fmt: skip


def conv_transpose1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
    groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """The transpose of a convolution: x (N, C, L), weight (C, O / groups, K)."""
    return _transposed(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
    groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """The transpose of a convolution: x (N, C, H, W), weight (C, O / groups, KH, KW)."""
    return _transposed(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
    groups: int = 1, dilation: Size = 1,
) -> Tensor:  # fmt: skip
    """The transpose of a convolution: x (N, C, D, H, W), weight (C, O / groups, KD, KH, KW)."""
    return _transposed(
        "conv_transpose3d", 3, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


# -- pooling -------------------------------------------------------------------------------------------------


def _max(axes: int) -> Callable[..., Any]:
    name = f"max_pool{axes}d"

    def function(
        x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:  # fmt: skip
        given: Any = {"kernel_size": sizes(kernel_size, axes), "stride": stride, "padding": padding, "dilation": dilation,
                 "ceil_mode": ceil_mode}  # fmt: skip
        y = batched(name, axes, x, lambda z: pool.max_pool(z, **given))
        return (y, pool.max_pool_indices(x, **given)) if return_indices else y

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        "The largest element of each window; with ``return_indices`` also where it is among the pooled axes."
    )
    return function


max_pool1d, max_pool2d, max_pool3d = map(_max, (1, 2, 3))


def avg_pool1d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False, count_include_pad: bool = True
) -> Tensor:  # fmt: skip
    """The mean of each window of x (N, C, L)."""
    return _avg("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of x (N, C, H, W)."""
    return _avg(
        "avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of x (N, C, D, H, W)."""
    return _avg(
        "avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _avg(
    name: str, axes: int, x: Tensor, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    return batched(
        name, axes, x,
        lambda z: pool.avg_pool(z, kernel_size=sizes(kernel_size, axes), stride=stride, padding=padding, ceil_mode=ceil_mode,
                                count_include_pad=count_include_pad, divisor_override=divisor_override),
    )  # fmt: skip


def adaptive_avg_pool1d(x: Tensor, output_size: int | None) -> Tensor:
    """The means of ``output_size`` windows of x (N, C, L)."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, x, output_size)


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """The means of ``output_size`` windows of x (N, C, H, W); None keeps an axis as it is."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, x, output_size)


def adaptive_avg_pool3d(x: Tensor, output_size: Any) -> Tensor:
    """The means of ``output_size`` windows of x (N, C, D, H, W); None keeps an axis as it is."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, x, output_size)


def _adaptive_avg(name: str, axes: int, x: Tensor, output_size: Any) -> Tensor:
    return batched(name, axes, x, lambda z: pool.adaptive_avg_pool(z, output_size=sizes(output_size, axes)))


def adaptive_max_pool1d(x: Tensor, output_size: int | None, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows of x (N, C, L), and with ``return_indices`` where they are."""
    return _adaptive_max("adaptive_max_pool1d", 1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows of x (N, C, H, W), and with ``return_indices`` where they are; None
    keeps an axis as it is.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows of x (N, C, D, H, W), and with ``return_indices`` where they are;
    None keeps an axis as it is.
    """
    return _adaptive_max("adaptive_max_pool3d", 3, x, output_size, return_indices)


def _adaptive_max(name: str, axes: int, x: Tensor, output_size: Any, return_indices: bool) -> Any:
    """Window i of an axis of n elements is [floor(i n / size), ceil((i + 1) n / size)), as in ``ops.adaptive_avg_pool``.
    The gradient goes to the first largest element of a window.
    """
    if x.ndim not in (axes + 1, axes + 2) or 0 in x.shape[-axes:]:
        raise ShapeError(f"{name}: x must have {axes} axes to pool behind (N, C) or (C,), got {x.shape}")
    spatial, given = x.shape[-axes:], sizes(output_size, axes)
    if len(given) != axes or any(m is not None and m < 1 for m in given):
        raise ArgumentError(f"{name}: output_size must be one positive integer or {axes}, got {output_size}")
    wanted = [n if m is None else m for n, m in zip(spatial, given, strict=True)]
    windows = [
        [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        for n, m in zip(spatial, wanted, strict=True)
    ]
    most = [max(map(len, along)) for along in windows]
    # a shorter window repeats its last element, which changes neither the largest one nor where it is first
    places = [
        sum(w[min(j, len(w) - 1)] * step for w, j, step in zip(window, inside, _steps(spatial), strict=True))
        for window in itertools.product(*windows)
        for inside in itertools.product(*map(range, most))
    ]
    index = reshape(asarray(places, device=x._backend), (math.prod(wanted), math.prod(most)))
    flat = reshape(x, (*x.shape[:-axes], math.prod(spatial)))
    which = argmax(gather(stop_gradient(flat), index, axis=-1), axis=-1)
    first = gather(reshape(index, (index.size,)), add(which, multiply(arange(index.shape[0], device=x._backend), index.shape[1])))  # fmt: skip
    shape = (*x.shape[:-axes], *wanted)
    y = reshape(take_along_axis(flat, first, axis=-1), shape)
    return (y, reshape(first, shape)) if return_indices else y


def _steps(shape: tuple[int, ...]) -> list[int]:
    """How far the elements of an axis are apart in C order."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


# -- other sizes ---------------------------------------------------------------------------------------------

# the number of spatial axes of each mode, 0 for any
MODES = {
    "nearest": 0,
    "nearest-exact": 0,
    "area": 0,
    "linear": 1,
    "bilinear": 2,
    "bicubic": 2,
    "trilinear": 3,
}


def interpolate(
    x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:  # fmt: skip
    """x (N, C, *S) with other spatial sizes: ``size``, or S times ``scale_factor`` rounded down.

    ``mode``: "nearest" takes the element at floor(i S / S'), "nearest-exact" that at floor((i + 1/2) S / S'), "area" the mean
    of what an element covers. "linear", "bilinear" and "trilinear", by the number of spatial axes, take the mean of the two
    next to a position along each axis, weighted by their distances, "bicubic" the convolution with four (Keys, 1981, a =
    -3/4). Positions are those of the elements' centres, unless ``align_corners``: then those of the first and last elements
    agree.
    """
    axes = x.ndim - 2
    if mode not in MODES or axes < 1 or MODES[mode] not in (0, axes):
        known = ", ".join(repr(m) for m, n in MODES.items() if n in (0, axes))
        raise ArgumentError(
            f"interpolate: mode must be one of {known} for x of shape {x.shape}, got {mode!r}"
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: give either size or scale_factor")
    if align_corners is not None and not MODES[mode]:
        raise ArgumentError(f"interpolate: align_corners is for the modes with weights, not for {mode!r}")
    if size is None:
        scales = (
            tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (float(scale_factor),) * axes
        )
        wanted = tuple(math.floor(n * s) for n, s in zip(x.shape[2:], scales, strict=True))
        steps = tuple(1 / s for s in scales)
    else:
        wanted = sizes(size, axes)
        steps = tuple(n / m for n, m in zip(x.shape[2:], wanted, strict=True))
    for i in range(axes):
        if min(x.shape[2 + i], wanted[i]) < 1:
            raise ShapeError(f"interpolate: x of shape {x.shape} cannot get the sizes {wanted}")
    if mode == "area":
        return pool.adaptive_avg_pool(x, output_size=wanted)
    for i in range(axes):
        x = _resized(x, i - axes, wanted[i], steps[i], mode, bool(align_corners))
    return x


def _resized(x: Tensor, axis: int, count: int, step: float, mode: str, align_corners: bool) -> Tensor:
    """Each new element along ``axis`` is a sum of elements of x ("taps"), each with a weight."""
    n, device = x.shape[axis], x._backend

    def tap(places: list[int]) -> Tensor:
        inside = [min(max(p, 0), n - 1) for p in places]
        return x if inside == list(range(n)) else gather(x, asarray(inside, device=device), axis=axis)

    if not MODES[mode]:
        return tap([math.floor((i + 0.5 * (mode == "nearest-exact")) * step) for i in range(count)])
    if align_corners:
        step = (n - 1) / (count - 1) if count > 1 else 0.0
        at = [i * step for i in range(count)]
    else:
        at = [(i + 0.5) * step - 0.5 for i in range(count)]
    weigh = _cubic if mode == "bicubic" else _linear
    at = at if mode == "bicubic" else [max(p, 0.0) for p in at]
    low = [math.floor(p) for p in at]
    weights = [weigh(p - a) for p, a in zip(at, low, strict=True)]
    y: Any = None
    for k in range(len(weights[0])):
        weight = asarray([w[k] for w in weights], dtype=x.dtype, device=device)
        weight = reshape(weight, (count, *(1,) * (-axis - 1)))
        term = multiply(tap([a + k - len(weights[0]) // 2 + 1 for a in low]), weight)
        y = term if y is None else add(y, term)
    return y


def _linear(t: float) -> tuple[float, ...]:
    """The weights of the elements at 0 and 1 for a position t between."""
    return 1 - t, t


def _cubic(t: float) -> tuple[float, ...]:
    """The weights of the elements at -1, 0, 1 and 2 for a position t in [0, 1)."""
    a = -0.75
    near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1
    far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return far(t + 1), near(t), near(1 - t), far(2 - t)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(N, C r^2, H, W) as (N, C, H r, W r): channel c r^2 + i r + j goes to the places (i, j) modulo r (Shi et al.,
    arXiv:1609.05158). Any leading axes.
    """
    r = upscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: x must have shape (..., C {r}^2, H, W), got {x.shape}")
    *lead, c, h, w = x.shape
    n = len(lead)
    z = reshape(x, (*lead, c // (r * r), r, r, h, w))
    z = permute_dims(z, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(z, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The reverse of :func:`pixel_shuffle`: (..., C, H r, W r) as (..., C r^2, H, W)."""
    r = downscale_factor
    if x.ndim < 3 or r < 1 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(f"pixel_unshuffle: x must have shape (..., C, H {r}, W {r}), got {x.shape}")
    *lead, c, h, w = x.shape
    n = len(lead)
    z = reshape(x, (*lead, c, h // r, r, w // r, r))
    z = permute_dims(z, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(z, (*lead, c * r * r, h // r, w // r))
