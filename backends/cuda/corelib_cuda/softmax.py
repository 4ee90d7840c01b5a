"""Softmax: how a fused row kernel is chosen and launched. The kernels are in softmax.cu."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .kernels import kernels
from .launch import cupy

HELD = {
    "float32": 32,
    "float64": 8,
}  # elements of a row per thread, of 64 registers; float64's exp takes most of them


class Softmax:
    """Softmax of one dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.itemsize = dtype, np.dtype(dtype).itemsize
        self.packet = 16 // self.itemsize
        self.largest = HELD[dtype]
        self._kernels: dict[tuple[int, int], launch.Kernel] = {}

    def variants(self) -> Iterator[tuple[int, int]]:
        """(elements per packet, packets per thread) of each kernel; packets of 0 stand for the streamed one."""
        for packet in (self.packet, 1):
            for elements in (self.largest // 4, self.largest):
                yield packet, elements // packet
        yield 0, 0

    def entry(self, packet: int, count: int) -> tuple[str, str]:
        """(name, C++) of the entry point of a variant."""
        t = self.dtype
        if packet == 0:
            name = f"softmax_{t}_streamed"
            return name, (
                f'extern "C" __global__ void __launch_bounds__(1024) {name}(const {t}* x, {t}* y, int64 length) '
                "{ softmax_streamed(x, y, length); }"
            )
        name = f"softmax_{t}_held{packet}x{count}"
        return name, (
            f'extern "C" __global__ void __launch_bounds__(1024) {name}(const {t}* x, {t}* y, int64 rows, int32 length) '
            f"{{ softmax_held<{t}, {packet}, {count}>(x, y, rows, length); }}"
        )

    def _kernel(self, packet: int, count: int) -> launch.Kernel:
        kernel = self._kernels.get((packet, count))
        if kernel is None:
            kernel = self._kernels[packet, count] = launch.Kernel("softmax.cu", *self.entry(packet, count))
        return kernel

    def __call__(self, x: Any, axis: int) -> Any:
        cp = cupy()
        ndim = x.ndim
        if ndim == 0:
            raise ValueError("softmax needs an axis")
        if axis != -1:
            order = [a for a in range(ndim) if a != axis % ndim] + [axis % ndim]
            back = [order.index(a) for a in range(ndim)]
            return self(x.transpose(order), -1).transpose(back)
        x = contiguous(x)
        y = cp.ndarray(x.shape, x.dtype)
        if x.size:
            self._rows(x, y, x.size // x.shape[-1], x.shape[-1])
        return y

    def _rows(self, x: Any, y: Any, rows: int, length: int) -> None:
        packet = self.packet if length % self.packet == 0 and x.data.ptr % 16 == 0 else 1
        for elements, threads in (
            (self.largest // 4, 32),  # a warp per row, as long as that is enough
            (self.largest, 32),
            (self.largest, 128),
            (self.largest, 256),
            (self.largest, 512),
            (self.largest, 1024),
        ):
            if length <= elements * threads:
                block = (threads, max(1, 128 // threads))
                arguments = (x, y, np.int64(rows), np.int32(length))
                self._kernel(packet, elements // packet)((-(-rows // block[1]),), block, arguments)
                return
        self._kernel(0, 0)((rows,), (1024,), (x, y, np.int64(length)))


@functools.cache
def softmax(dtype: str) -> Softmax:
    return Softmax(dtype)


def _make(op: Any, dtype: Any) -> Callable[..., Any]:
    run = softmax(dtype.name)

    def kernel(x: Any, /, *, axis: int) -> Any:
        return run(x, axis)

    return kernel


kernels.family(ops.softmax, _make, dtypes=(dtypes.float32, dtypes.float64))
