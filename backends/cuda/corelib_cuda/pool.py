"""Pooling of up to three axes by the kernels of pool.cu; the ops' bodies do more axes, and say what is wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes

from . import launch
from .attention import computed_in
from .conv import three
from .copy import contiguous
from .half import named, storage, stored
from .launch import cupy

Sizes = tuple[int, ...]
LIMIT = 2**31  # places in a plane, padding included, are counted in 32 bits
POOL = np.dtype([
    ("planes", np.int64),
    *((name, np.int32, 3) for name in ("size", "count", "kernel", "stride", "padding", "dilation")),
    ("include", np.int32), ("divisor", np.int32),
])  # fmt: skip
ENTRIES = {  # kernel: its parameters before the struct, T being the arrays' type
    "max_pool": "const T* x, T* y",
    "max_pool_indices": "const T* x, int64* y",
    "max_pool_gradient": "const T* g, const int64* index, T* y",
    "avg_pool": "const T* x, T* y",
    "avg_pool_gradient": "const T* g, T* y",
}


@functools.cache
def kernel(name: str, dtype: str) -> launch.Kernel:
    parameters = ENTRIES[name].replace("T*", f"{dtype}*")
    names = ", ".join(p.split()[-1] for p in parameters.split(","))
    entry = (
        f'extern "C" __global__ void __launch_bounds__({launch.THREADS}, 4) {name}_{dtype}({parameters}, '
        f"const __grid_constant__ Pool p) {{ {name}<{dtype}, {computed_in(dtype)}>({names}, p); }}"
    )
    return launch.Kernel("pool.cu", f"{name}_{dtype}", entry)


def every_kernel() -> Iterator[launch.Kernel]:
    """Each kernel of pool.cu: what the tests compile."""
    for dtype in (*dtypes.FLOATING, *dtypes.HALF):
        for name in ENTRIES:
            yield kernel(name, dtype.name)


def counts(
    sizes: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> Sizes | None:
    """How many windows there are along each axis; None where one does not fit."""
    found = []
    for n, k, s, p, d in zip(sizes, kernel_size, stride, padding, dilation, strict=True):
        room = n + 2 * p - (k - 1) * d - 1
        if room < 0:
            return None
        count = room // s + 1
        found.append(count + (ceil_mode and room % s != 0 and count * s < n + p))
    return tuple(found)


class _Windows:
    """The struct `Pool` of one call, and the shapes; ``fits`` where the kernels can serve it."""

    def __init__(
        self, lead: Sizes, sizes: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, dilation: Sizes = (),
        include: bool = False, divisor: int | None = None,
    ) -> None:  # fmt: skip
        dilation = dilation or (1,) * len(kernel_size)
        count = counts(sizes, kernel_size, stride, padding, dilation, ceil_mode)
        self.whole, self.fits = (*lead, *sizes), False
        if count is None or len(sizes) > 3 or 0 in self.whole:
            return
        self.pooled = (*lead, *count)
        reach = [
            n + k * d + c * s
            for n, k, d, c, s in zip(sizes, kernel_size, dilation, count, stride, strict=True)
        ]
        self.fits = prod(reach) < LIMIT and abs(divisor or 0) < LIMIT
        if not self.fits:
            return
        self.struct = np.zeros(1, POOL)
        one = self.struct[0]
        one["planes"], one["include"], one["divisor"] = prod(lead), include, divisor or 0
        given = {"size": sizes, "count": count, "kernel": kernel_size, "stride": stride, "dilation": dilation}
        for name, numbers in given.items():
            one[name] = three(numbers, 1)
        one["padding"] = three(padding, 0)

    def run(self, name: str, dtype: str, shape: Sizes, *operands: Any, result: str = "") -> Any:
        out = cupy().ndarray(shape, storage(result or dtype))
        arrays = (*(contiguous(stored(x)) for x in operands), out)
        kernel(name, dtype)(launch.blocks_for(out.size), (launch.THREADS,), (*arrays, self.struct))
        return out


def _lead(x: Any, kernel_size: Sizes) -> tuple[Sizes, Sizes]:
    """The axes that stay and those that are pooled."""
    rest = len(x.shape) - len(kernel_size)
    return x.shape[:rest], x.shape[rest:]


def make_max_pool(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `max_pool`."""

    def max_pool(x: Any, /, *, kernel_size: Sizes, **params: Any) -> Any:
        windows = _Windows(*_lead(x, kernel_size), kernel_size, **params)
        if not windows.fits:
            return body(x, kernel_size=kernel_size, **params)
        return named(windows.run("max_pool", dtype, windows.pooled, x), dtypes.as_dtype(dtype))

    return max_pool


def make_max_pool_indices(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `max_pool_indices`."""

    def max_pool_indices(x: Any, /, *, kernel_size: Sizes, **params: Any) -> Any:
        windows = _Windows(*_lead(x, kernel_size), kernel_size, **params)
        if not windows.fits:
            return body(x, kernel_size=kernel_size, **params)
        return windows.run("max_pool_indices", dtype, windows.pooled, x, result="int64")

    return max_pool_indices


def make_max_pool_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernels of `max_pool_gradient`: where each window's cotangent goes, then what each element gets."""

    def max_pool_gradient(cotangent: Any, x: Any, /, *, kernel_size: Sizes, **params: Any) -> Any:
        windows = _Windows(*_lead(x, kernel_size), kernel_size, **params)
        if not windows.fits or cotangent.shape != windows.pooled:
            return body(cotangent, x, kernel_size=kernel_size, **params)
        index = windows.run("max_pool_indices", dtype, windows.pooled, x, result="int64")
        return named(
            windows.run("max_pool_gradient", dtype, x.shape, cotangent, index), dtypes.as_dtype(dtype)
        )

    return max_pool_gradient


def make_avg_pool(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `avg_pool`."""

    def avg_pool(
        x: Any, /, *, kernel_size: Sizes, count_include_pad: bool, divisor_override: int | None, **params: Any
    ) -> Any:
        more = {"include": count_include_pad, "divisor": divisor_override}
        windows = _Windows(*_lead(x, kernel_size), kernel_size, **params, **more)
        if not windows.fits:
            more = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
            return body(x, kernel_size=kernel_size, **params, **more)
        return named(windows.run("avg_pool", dtype, windows.pooled, x), dtypes.as_dtype(dtype))

    return avg_pool


def make_avg_pool_gradient(dtype: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel of `avg_pool_gradient`."""

    def avg_pool_gradient(
        cotangent: Any, /, *, sizes: Sizes, kernel_size: Sizes, count_include_pad: bool, divisor_override: int | None, **params: Any
    ) -> Any:  # fmt: skip
        more = {"include": count_include_pad, "divisor": divisor_override}
        windows = _Windows(_lead(cotangent, kernel_size)[0], sizes, kernel_size, **params, **more)
        if not windows.fits or cotangent.shape != windows.pooled:
            more = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
            return body(cotangent, sizes=sizes, kernel_size=kernel_size, **params, **more)
        return named(
            windows.run("avg_pool_gradient", dtype, windows.whole, cotangent), dtypes.as_dtype(dtype)
        )

    return avg_pool_gradient
