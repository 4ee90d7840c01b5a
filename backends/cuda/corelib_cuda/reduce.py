"""Reductions: sum prod max min any all argmax argmin over any axes.

The array is brought to the form outer x length x inner, dense, which most calls are already (a permuted array
counts, its result is permuted back); the rest is copied once. Then one launch of `rows` or `columns`
(reduce.cu), or two where there are too few results to fill the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch, layout
from .copy import contiguous
from .kernels import kernels
from .launch import cupy
from .movement import cast, fill

# Fixed, not read from the device: the cut into chunks, and with it the rounding, is then the same on every
# device.
WANTED_BLOCKS = 512
ROW_CHUNK = 16384  # least elements of a row that are worth a block of their own
COLUMN_CHUNK = 256  # least positions of a reduced axis that are worth one
SHORT_ROW = 16  # rows up to this length are reduced like columns


class Reducer(NamedTuple):
    """``template`` of reduce.cu; ``state``: bytes of its State for a dtype of the result; ``empty``: the result
    of reducing nothing, or None where there is none.
    """

    template: str
    state: Callable[[Any], int]
    empty: Any
    result: str | None  # dtype name, or None for the operand's


REDUCERS: dict[str, Reducer] = {
    "sum": Reducer("Sum", lambda dtype: 16 if dtype.kind == "c" else 8, 0, None),
    "prod": Reducer("Prod", lambda dtype: 16 if dtype.kind == "c" else 8, 1, None),
    "max": Reducer("Max", lambda dtype: dtype.itemsize, None, None),
    "min": Reducer("Min", lambda dtype: dtype.itemsize, None, None),
    "any": Reducer("Any", lambda _: 4, False, "bool"),
    "all": Reducer("All", lambda _: 4, True, "bool"),
    "argmax": Reducer("ArgMax", lambda _: 16, None, "int64"),
    "argmin": Reducer("ArgMin", lambda _: 16, None, "int64"),
}
STEPS = {  # step: where it reads and what it writes
    "": ("FromElements", "ToResults"),
    "_begin": ("FromElements", "ToStates"),
    "_end": ("FromStates", "ToResults"),
}


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


class Reduction:
    """One op for one dtype of the operand and one of the result."""

    def __init__(self, name: str, operand: str, result: str) -> None:
        reducer = REDUCERS[name]
        self.op, self.empty = name, reducer.empty
        self.name = "_".join(dict.fromkeys((name, operand, result)))
        both = name in ("sum", "prod")
        self.reducer = (
            f"{reducer.template}<{operand}, {result}>" if both else f"{reducer.template}<{operand}>"
        )
        self.dtype = np.dtype(result)
        self.itemsize = np.dtype(operand).itemsize
        self.state_size = reducer.state(self.dtype)
        self.packet = min(
            8, 16 // self.itemsize
        )  # 16 small elements take twice as long to compile, and no less to run
        self.kernels = {
            (walk, step): launch.Kernel("reduce.cu", *self.entry(walk, step))
            for walk in ("rows", "columns")
            for step in STEPS
        }

    def entry(self, walk: str, step: str) -> tuple[str, str]:
        """(name, C++) of the entry point of a ``walk`` ("rows", "columns") and a ``step`` of STEPS."""
        source, target = STEPS[step]
        name, r = f"{self.name}_{walk}{step}", self.reducer
        packet = self.packet if source == "FromElements" else 1
        more, last, bound = (f", {packet}", ", packed", "512, 2") if walk == "rows" else ("", "", "256, 4")
        if walk == "rows" and self.itemsize == 16:
            bound = "512, 1"  # with 64 registers the four loads in flight would spill
        packed = ", int32 packed" if walk == "rows" else ""
        return name, (
            f'extern "C" __global__ void __launch_bounds__({bound}) {name}(const typename {source}<{r}>::type* x, '
            f"typename {target}<{r}>::type* y, const __grid_constant__ Shape shape{packed}) "
            f"{{ {walk}<{r}, {source}, {target}{more}>(x, y, shape{last}); }}"
        )

    # ------------------------------------------------------------------------------------------------------ launches

    def __call__(self, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        cp = cupy()
        shape = x.shape
        ndim = len(shape)
        reduced = {axis % ndim for axis in axes} if ndim else set()
        kept = tuple(1 if axis in reduced else size for axis, size in enumerate(shape))
        result = kept if keepdims else tuple(size for axis, size in enumerate(shape) if axis not in reduced)
        if x.size == 0:
            return self._of_nothing(result)
        strides = [s // x.itemsize for s in x.strides]
        order, form = layout.split(shape, strides, axes)
        if form is None:  # once through memory, kept axes first
            order = (*(a for a in range(ndim) if a not in reduced), *(a for a in range(ndim) if a in reduced))
            x = contiguous(x.transpose(order))
            form = (prod(kept), x.size // prod(kept), 1)
        y = cp.ndarray(tuple(kept[axis] for axis in order), self.dtype)
        self._reduce(x, y, *form)
        if order != tuple(range(ndim)):
            back = [0] * ndim
            for place, axis in enumerate(order):
                back[axis] = place
            y = y.transpose(back)
        return y.reshape(result) if y.shape != result else y

    def _of_nothing(self, result: tuple[int, ...]) -> Any:
        if 0 in result:
            return cupy().ndarray(result, self.dtype)
        if self.empty is None:
            raise ValueError(f"{self.op} of no elements")
        return fill(result, self.empty, self.dtype.name)

    def _reduce(self, x: Any, y: Any, outer: int, length: int, inner: int) -> None:
        walk, groups = self._groups(outer, length, inner)
        least = ROW_CHUNK if walk == "rows" else COLUMN_CHUNK
        chunks = max(1, min(WANTED_BLOCKS // groups, length // least))
        if chunks == 1:
            self._launch(walk, "", x, y, (outer, length, inner, 1, length))
            return
        # A chunk of a row is whole packets, so that the next one begins aligned.
        chunk = power_of_two(-(-length // chunks))
        chunks = -(-length // chunk)
        states = cupy().ndarray((outer * chunks * inner * self.state_size,), np.uint8)
        self._launch(walk, "_begin", x, states, (outer, length, inner, chunks, chunk))
        walk, _ = self._groups(outer, chunks, inner)
        self._launch(walk, "_end", states, y, (outer, chunks, inner, 1, chunks))

    @staticmethod
    def _groups(outer: int, length: int, inner: int) -> tuple[str, int]:
        """The walk that suits a form, and how many blocks it takes without a cut."""
        if inner == 1 and length > SHORT_ROW:
            return "rows", -(-outer // row_block(length)[1])
        x, _, z = column_block(length, inner)
        return "columns", -(-inner // x) * -(-outer // z)

    def _launch(self, walk: str, step: str, x: Any, y: Any, shape: tuple[int, int, int, int, int]) -> None:
        outer, length, inner, chunks, chunk = shape
        arguments: tuple[Any, ...] = (x, y, np.array([shape], SHAPE))
        if walk == "rows":
            block: tuple[int, ...] = row_block(chunk)
            blocks = -(-outer * chunks // block[1])
            packed = step != "_end" and length % self.packet == 0 and x.data.ptr % 16 == 0
            arguments += (np.int32(packed),)
        else:
            block = column_block(length, inner)
            blocks = -(-inner // block[0]) * chunks * -(-outer // block[2])
        if blocks > launch.MAX_BLOCKS:
            raise ValueError(
                f"{self.op}: {outer} x {length} x {inner} takes more blocks than CUDA can launch"
            )
        self.kernels[walk, step]((blocks,), block, arguments)


SHAPE = np.dtype([(name, np.int64) for name in ("outer", "length", "inner", "chunks", "chunk")])


def row_block(length: int) -> tuple[int, int]:
    """(threads that share a row, rows per block)."""
    threads = 32 if length <= 1024 else 256 if length <= 16384 else 512
    return threads, max(1, 256 // threads)


def column_block(length: int, inner: int) -> tuple[int, int, int]:
    """(columns, positions of the reduced axis, outer) per block of 256 threads."""
    x = min(32, power_of_two(inner))
    y = min(256 // x, power_of_two(length))
    return x, y, min(256 // (x * y), 64)


# ------------------------------------------------------------------------------------------------------ registration


@functools.cache
def reduction(name: str, operand: str, result: str) -> Reduction:
    return Reduction(name, operand, result)


def _make_sum_or_prod(op: Any, dtype: Any) -> Callable[..., Any]:
    def kernel(x: Any, /, *, axis: tuple[int, ...], dtype: Any, keepdims: bool) -> Any:
        result = dtypes.as_dtype(dtype)
        if result in dtypes.HALF:
            return cast(kernel(x, axis=axis, dtype=dtypes.float32, keepdims=keepdims), result.name)
        return reduction(op.name, operand, result.name)(x, axis, keepdims)

    operand = dtype.name
    return kernel


def _make_over_axes(op: Any, dtype: Any) -> Callable[..., Any]:
    run = reduction(op.name, dtype.name, REDUCERS[op.name].result or dtype.name)

    def kernel(x: Any, /, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return run(x, axis, keepdims)

    return kernel


def _make_arg(op: Any, dtype: Any) -> Callable[..., Any]:
    run = reduction(op.name, dtype.name, "int64")

    def kernel(x: Any, /, *, axis: int, keepdims: bool) -> Any:
        return run(x, (axis,), keepdims)

    return kernel


kernels.family([ops.sum, ops.prod], _make_sum_or_prod)
kernels.family([ops.max, ops.min, ops.any, ops.all], _make_over_axes)
kernels.family([ops.argmax, ops.argmin], _make_arg)


def every_reduction(names: list[str]) -> Iterator[Reduction]:
    """Each reduction for each dtype of ``names``, with the results that the core asks for: what the tests
    compile.
    """
    for operand in map(dtypes.as_dtype, names):
        for op, reducer in REDUCERS.items():
            if operand not in getattr(ops, op).op.rule.accepts or operand in dtypes.HALF:
                continue
            result = reducer.result or operand.name
            if op in ("sum", "prod") and operand.kind not in ("float", "complex"):
                result = "uint64" if operand.kind == "uint" else "int64"
            yield reduction(op, operand.name, result)
