"""Scans: cumulative_sum and cumulative_prod along one axis. The kernels are in scan.cu; float32 accumulates in float64, as
sums do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .kernels import kernels
from .launch import cupy
from .movement import cast
from .reduce import SHAPE, WANTED_BLOCKS, Reduction, power_of_two, reduction

TILE = 1024  # elements that a block scans at a time, as in scan.cu
ROW_CHUNK = 4 * TILE  # least elements of a row that are worth a block of their own
COLUMN_CHUNK = 64  # least positions of a column that are worth a thread of their own
WANTED_THREADS = WANTED_BLOCKS * launch.THREADS


class Scan:
    """One op for one dtype. ``totals`` forms what the chunks of an axis come to."""

    def __init__(self, name: str, dtype: str) -> None:
        self.totals: Reduction = reduction("sum" if name == "cumulative_sum" else "prod", dtype, dtype)
        self.name, self.dtype = f"{name}_{dtype}", np.dtype(dtype)
        self.kernels = {key: launch.Kernel("scan.cu", *self.entry(*key)) for key in self.variants()}

    @staticmethod
    def variants() -> Iterator[tuple[str, str]]:
        """What is scanned, and along what."""
        for what in ("scan", "totals"):
            for walk in ("rows", "columns"):
                yield what, walk

    def entry(self, what: str, walk: str) -> tuple[str, str]:
        """(name, C++) of an entry point."""
        r = self.totals.reducer
        source, target = (f"{r}::In", f"{r}::Out") if what == "scan" else (f"{r}::State",) * 2
        name = f"{self.name}_{what}_{walk}"
        return name, (
            f'extern "C" __global__ void __launch_bounds__({launch.THREADS}) {name}(const typename {source}* x, '
            f"typename {target}* y, const typename {r}::State* before, const __grid_constant__ Shape shape) "
            f"{{ {what}_{walk}<{r}>(x, y, before, shape); }}"
        )

    def __call__(self, x: Any, axis: int) -> Any:
        cp = cupy()
        if not -x.ndim <= axis < 0:
            raise IndexError(f"axis {axis} of an array with {x.ndim} dimensions")
        y = cp.ndarray(x.shape, self.dtype)
        if x.size:
            first = axis + x.ndim
            shape = (prod(x.shape[:first]), x.shape[first], prod(x.shape[first + 1 :]))
            self._scan("scan", contiguous(x), y, *shape)
        return y

    def _scan(self, what: str, x: Any, y: Any, outer: int, length: int, inner: int) -> None:
        rows = inner == 1
        if rows:
            chunks = min(WANTED_BLOCKS // outer, length // ROW_CHUNK)
        else:
            chunks = min(WANTED_THREADS // (outer * inner), length // COLUMN_CHUNK)
        chunk = length
        if what == "scan" and chunks > 1:
            chunk = power_of_two(-(-length // chunks))
        chunks = -(-length // chunk)
        before = y  # of one chunk nothing comes before; a pointer is needed all the same
        if chunks > 1:
            size = outer * chunks * inner * self.totals.state_size
            states, before = cupy().ndarray((size,), np.uint8), cupy().ndarray((size,), np.uint8)
            walk = self.totals._groups(outer, length, inner)[0]
            self.totals._launch(walk, "_begin", x, states, (outer, length, inner, chunks, chunk))
            self._scan("totals", states, before, outer, chunks, inner)
        blocks = (outer * chunks,) if rows else launch.blocks_for(outer * chunks * inner)
        if blocks[0] > launch.MAX_BLOCKS:
            raise ValueError(f"{self.name}: {outer} x {length} takes more blocks than CUDA can launch")
        shape = np.array([(outer, length, inner, chunks, chunk)], SHAPE)
        self.kernels[what, "rows" if rows else "columns"](blocks, (launch.THREADS,), (x, y, before, shape))


@functools.cache
def scan(name: str, dtype: str) -> Scan:
    return Scan(name, dtype)


def every_scan(names: list[str]) -> Iterator[Scan]:
    """Each scan for each dtype of ``names``: what the tests compile."""
    for dtype in names:
        if dtypes.as_dtype(dtype) in dtypes.NUMERIC and dtypes.as_dtype(dtype) not in dtypes.HALF:
            yield scan("cumulative_sum", dtype)
            yield scan("cumulative_prod", dtype)


def _make(op: Any, dtype: Any) -> Callable[..., Any]:
    def kernel(x: Any, /, *, axis: int, dtype: Any) -> Any:
        result = dtypes.as_dtype(dtype)
        if result in dtypes.HALF:
            return cast(kernel(x, axis=axis, dtype=dtypes.float32), result.name)
        return scan(op.name, result.name)(cast(x, result.name), axis)

    return kernel


kernels.family([ops.cumulative_sum, ops.cumulative_prod], _make)
