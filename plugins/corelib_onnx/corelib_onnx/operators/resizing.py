"""Images of another size. Along each axis a new element is a weighted sum of old ones: a matrix for each axis."""

from __future__ import annotations

import math
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Floats, Ints, operator


@operator("Resize", since=11)
def resize(
    x, roi: Floats = None, scales: Floats = None, sizes: Ints = None, *, antialias=0, axes=None,
    coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
    keep_aspect_ratio_policy="stretch", mode="nearest", nearest_mode="round_prefer_floor",
):  # fmt: skip
    """By factors or to sizes along ``axes``; where ``roi`` reaches outside, ``extrapolation_value``."""
    axes = [a % x.ndim for a in (range(x.ndim) if axes is None else axes)]
    factors, lengths = _targets([x.shape[a] for a in axes], scales, sizes, keep_aspect_ratio_policy)
    outside = None
    for i, (axis, factor, length) in enumerate(zip(axes, factors, lengths, strict=True)):
        part = (roi[i], roi[len(axes) + i]) if roi else (0.0, 1.0)
        if factor == 1 and length == x.shape[axis] and part == (0.0, 1.0):
            continue
        n = x.shape[axis]
        centers = _centers(coordinate_transformation_mode, n, length, factor, part)
        if mode == "nearest":
            chosen = [min(max(_nearest(c, nearest_mode), 0), n - 1) for c in centers]
            y = cl.take(x, cl.asarray(chosen, dtype=cl.int64, device=x.device), axis=axis)
        else:
            stretch = min(factor, 1.0) if antialias else 1.0
            weights = _weights(centers, n, mode, stretch, cubic_coeff_a, exclude_outside)
            matrix = cl.asarray(weights, dtype=x.dtype, device=x.device)
            y = cl.moveaxis(cl.matmul(cl.moveaxis(x, axis, -1), matrix.mT), -1, axis)
        x = y
        if coordinate_transformation_mode == "tf_crop_and_resize":
            along = [1] * x.ndim
            along[axis] = length
            lost = cl.asarray([not 0 <= c <= n - 1 for c in centers], device=x.device)
            lost = cl.reshape(lost, along)
            outside = lost if outside is None else cl.logical_or(outside, lost)
    return x if outside is None else cl.where(outside, extrapolation_value, x)


@operator("Resize", since=10)
def resize_by_factors(x, scales: Floats, *, mode="nearest"):
    options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": mode}
    return resize(x, None, scales, **options)


@operator("Upsample")
def upsample(x, scales: Floats = None, *, mode="nearest"):
    return resize_by_factors(x, scales, mode=mode)


def _targets(sizes: list[int], scales: Any, wanted: Any, policy: str) -> tuple[list[float], list[int]]:
    """The factor and the new length of each axis."""
    if not wanted:
        return list(scales), [math.floor(n * s) for n, s in zip(sizes, scales, strict=True)]
    factors = [m / n for m, n in zip(wanted, sizes, strict=True)]
    if policy == "stretch":
        return factors, list(wanted)
    if policy not in ("not_larger", "not_smaller"):
        raise ArgumentError(f"Resize: keep_aspect_ratio_policy {policy!r} is not supported")
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [factor] * len(sizes), [math.floor(n * factor + 0.5) for n in sizes]


def _centers(mode: str, n: int, length: int, factor: float, part: tuple[float, float]) -> list[float]:
    """Where each new element lies among the old ones."""
    real = factor * n  # the new length before it was rounded
    if mode == "half_pixel":
        return [(i + 0.5) / factor - 0.5 for i in range(length)]
    if mode == "pytorch_half_pixel":
        return [(i + 0.5) / factor - 0.5 if real != 1 else -0.5 for i in range(length)]
    if mode == "half_pixel_symmetric":
        offset = n / 2 * (1 - length / real)
        return [offset + (i + 0.5) / factor - 0.5 for i in range(length)]
    if mode == "align_corners":
        return [i * (n - 1) / (real - 1) if real != 1 else 0.0 for i in range(length)]
    if mode == "asymmetric":
        return [i / factor for i in range(length)]
    if mode == "tf_crop_and_resize":
        first, width = part[0] * (n - 1), (part[1] - part[0]) * (n - 1)
        return [first + (i * width / (real - 1) if real != 1 else width / 2) for i in range(length)]
    raise ArgumentError(f"Resize: coordinate_transformation_mode {mode!r} is not supported")


def _nearest(center: float, mode: str) -> int:
    if mode == "round_prefer_floor":
        return math.ceil(center - 0.5)
    if mode == "round_prefer_ceil":
        return math.floor(center + 0.5)
    if mode in ("floor", "ceil"):
        return math.floor(center) if mode == "floor" else math.ceil(center)
    raise ArgumentError(f"Resize: nearest_mode {mode!r} is not supported")


def _weights(
    centers: list[float], n: int, mode: str, stretch: float, a: float, exclude: int
) -> list[list[float]]:
    """For each new element the weights of the old ones. ``stretch`` below 1 widens the kernel, against aliasing; what lies
    outside counts for the element at the edge, or, if excluded, for none.
    """
    if mode not in ("linear", "cubic"):
        raise ArgumentError(f"Resize: mode {mode!r} is not supported")
    kernel, reach = (_linear, 1) if mode == "linear" else (lambda t: _cubic(t, a), 2)
    rows = []
    for center in centers:
        row = [0.0] * n
        first, last = math.floor(center - reach / stretch), math.ceil(center + reach / stretch)
        found = {k: kernel((k - center) * stretch) for k in range(first, last + 1)}
        if exclude:
            found = {k: w for k, w in found.items() if 0 <= k < n}
        total = sum(found.values())
        for k, w in found.items():
            row[min(max(k, 0), n - 1)] += w / total
        rows.append(row)
    return rows


def _linear(t: float) -> float:
    return max(1 - abs(t), 0.0)


def _cubic(t: float, a: float) -> float:
    """The cubic convolution kernel (R. Keys, IEEE Trans. ASSP 29(6), 1981)."""
    t = abs(t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0
