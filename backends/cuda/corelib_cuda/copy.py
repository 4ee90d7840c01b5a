"""Copies between layouts: `copy` into an array that is there, `contiguous` and `copied` into a new one. Kernels: copy.cu.

Bits are moved unchanged, so no number passes through arithmetic here. Everything that the backend copies on the device
comes through this module.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from math import gcd, prod
from typing import Any

import numpy as np

from . import launch, layout
from .launch import cupy

SPLIT = 4096  # bytes of a run whose last few are worth a launch of their own
LEAST = 8  # elements along both sides from which a transpose passes through shared memory
WORDS = tuple(f"uint{8 * size}" for size in (1, 2, 4, 8, 16))
TILE_ROWS = 8  # of threads, as in copy.cu


@functools.cache
def strided(word: str, bits: int) -> launch.Kernel:
    name, index = f"strided_{word}_{bits}", f"uint{bits}"
    entry = (
        f'extern "C" __global__ void __launch_bounds__({launch.THREADS}) {name}(const {word}* x, {word}* y, {index} n, '
        f"const __grid_constant__ Layout<{index}, 2> layout) {{ strided(x, y, n, layout); }}"
    )
    return launch.Kernel("copy.cu", name, entry)


@functools.cache
def transposed(word: str) -> launch.Kernel:
    name = f"transposed_{word}"
    entry = (
        f'extern "C" __global__ void __launch_bounds__({32 * TILE_ROWS}, 4) {name}(const {word}* x, {word}* y, '
        f"const __grid_constant__ Layout<uint64, 2> layout) {{ transposed(x, y, layout); }}"
    )
    return launch.Kernel("copy.cu", name, entry)


def every_copy() -> Iterator[launch.Kernel]:
    """Each kernel of copy.cu: what the tests compile."""
    for word in WORDS:
        yield strided(word, 32)
        yield strided(word, 64)
        yield transposed(word)


def walk(
    shape: Sequence[int], source: Sequence[int], target: Sequence[int], size: int, alignment: int
) -> tuple[int, list[int], list[int], list[int]]:
    """(bytes of a word, sizes, strides of the source, of the target), innermost first and in words, for strides in bytes,
    elements of ``size`` bytes, and pointers that are multiples of ``alignment``. Dimensions come in the target's order.
    """
    order = sorted(range(len(shape)), key=lambda axis: -abs(target[axis]))
    given = [[strides[axis] for axis in order] for strides in (target, source)]
    sizes, (to, start) = layout.merge([shape[axis] for axis in order], given)
    word = size
    if to[0] == start[0] == size or sizes == [1]:
        word = gcd(16, alignment, sizes[0] * size, *to[1:], *start[1:])
        sizes = [sizes[0] * size // word, *sizes[1:]]
        to, start = [word, *to[1:]], [word, *start[1:]]
    return word, sizes, [s // word for s in start], [s // word for s in to]


def copy(x: Any, y: Any) -> None:
    """Write the elements of ``x`` over those of ``y``, which has the same shape and dtype and no memory in common."""
    if not x.size:
        return
    pointers = gcd(x.data.ptr, y.data.ptr)
    if x.flags.c_contiguous and y.flags.c_contiguous:
        rest = x.nbytes % 16
        if (
            rest and x.nbytes >= SPLIT and pointers % 16 == 0
        ):  # the last few by themselves, the others by 16 bytes
            x, y, body = x.reshape(-1), y.reshape(-1), (x.nbytes - rest) // x.itemsize
            copy(x[:body], y[:body])
            copy(x[body:], y[body:])
            return
    word, sizes, start, to = walk(x.shape, x.strides, y.strides, x.itemsize, pointers)
    if len(sizes) > layout.MAX_DIMS:
        axis = max((a for a in range(x.ndim) if x.shape[a] > 1), key=lambda a: abs(y.strides[a]))
        for i in range(x.shape[axis]):
            place = (*(slice(None),) * axis, slice(i, i + 1))
            copy(x[place], y[place])
        return
    name = f"uint{8 * word}"
    runs = [d for d in range(1, len(sizes)) if start[d] == 1 and sizes[d] >= LEAST]
    if runs and to[0] == 1 and sizes[0] >= LEAST:
        order = [0, runs[0], *(d for d in range(1, len(sizes)) if d != runs[0])]
        sizes, start, to = ([values[d] for d in order] for values in (sizes, start, to))
        side = 32 if word > 2 else 64
        blocks = -(-sizes[0] // side) * -(-sizes[1] // side) * prod(sizes[2:])
        if blocks <= launch.MAX_BLOCKS:
            transposed(name)((blocks,), (32, TILE_ROWS), (x, y, layout.packed(sizes, [start, to], 64)))
            return
    n = prod(sizes)
    far = max(n, layout.reach(sizes, start), layout.reach(sizes, to))
    bits, index = (32, np.uint32) if far < layout.INDEX_LIMIT else (64, np.uint64)
    arguments = (x, y, index(n), layout.packed(sizes, [start, to], bits))
    strided(name, bits)(launch.blocks_for(n), (launch.THREADS,), arguments)


def copied(x: Any) -> Any:
    """``x`` in memory of its own, dense."""
    out = cupy().ndarray(x.shape, x.dtype)
    copy(x, out)
    return out


def contiguous(x: Any) -> Any:
    """``x`` if its elements lie in C order without gaps, else a copy in which they do."""
    return x if x.flags.c_contiguous else copied(x)


def reshaped(x: Any, shape: tuple[int, ...]) -> Any:
    """``x`` in another shape: a view wherever there can be one."""
    if not x.flags.c_contiguous and not layout.viewable(x.shape, x.strides, shape):
        x = copied(x)
    return x.reshape(shape)


def overlap(x: Any, y: Any) -> bool:
    """Whether two arrays may have memory in common: whether the stretches that they lie in do."""
    (low, high), (first, last) = _stretch(x), _stretch(y)
    return low < last and first < high


def _stretch(x: Any) -> tuple[int, int]:
    steps = [(n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)]
    low, high = sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)
    return (x.data.ptr + low, x.data.ptr + high + x.itemsize) if x.size else (0, 0)
