"""Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

Element i depends on the key, the counter and i alone: every thread count, and every other backend, gives the
same bits.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy import ndarray

from . import launch as team
from . import native, pool

# The compiled loop takes 3 us for a small draw and NumPy's hundred steps 57, but loading compiled code takes
# 20 ms, and compiling it once per machine a second: a program that draws little and loads none for anything
# else is not made to wait.
LARGE = 4096  # words for which it is loaded at once
PATIENCE = 256  # small draws after which it is loaded for them
_small_draws = itertools.count()
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

# Words: out (whole blocks), address of key and counter as uint64. A unit is a block of four 32-bit words.
_SOURCE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    seed = at_uint64(words[1])
    mask = uint64(0xFFFFFFFF)
    out = at_uint64(words[0])
    for block in range(lo, hi):
        counter = seed[2] + uint64(block)
        k0, k1 = seed[0], seed[1]
        x0, x1, x2, x3 = counter & mask, counter >> uint64(32), seed[3], seed[4]
        for _ in range(10):
            p0 = x0 * uint64(0xD2511F53)
            p1 = x2 * uint64(0xCD9E8D57)
            x0 = (p1 >> uint64(32)) ^ x1 ^ k0
            x2 = (p0 >> uint64(32)) ^ x3 ^ k1
            x1 = p1 & mask
            x3 = p0 & mask
            k0 = (k0 + uint64(0x9E3779B9)) & mask
            k1 = (k1 + uint64(0xBB67AE85)) & mask
        out[2 * block] = x0 | (x1 << uint64(32))
        out[2 * block + 1] = x2 | (x3 << uint64(32))
"""


def philox(key: ndarray, counter: int, blocks: int, high: tuple[int, int] = (0, 0)) -> ndarray:
    """uint32 words of consecutive blocks, in NumPy."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    counters = np.arange(blocks, dtype=np.uint64) + np.uint64(counter)
    x0, x1 = counters & mask, counters >> shift
    x2, x3 = (np.full(blocks, word, np.uint64) for word in high)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0, p1 = x0 * np.uint64(_MULTIPLIERS[0]), x2 * np.uint64(_MULTIPLIERS[1])
        x0, x2 = (p1 >> shift) ^ x1 ^ np.uint64(k0), (p0 >> shift) ^ x3 ^ np.uint64(k1)
        x1, x3 = p1 & mask, p0 & mask
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], -1).astype(np.uint32).reshape(-1)


def philox_native(key: ndarray, counter: int, blocks: int, high: tuple[int, int] = (0, 0)) -> ndarray:
    """The same, compiled and threaded."""
    out = pool.empty((4 * blocks,), np.dtype(np.uint32), 16 * blocks)
    seed = np.array([int(key[0]), int(key[1]), counter, *high], np.uint64)
    chunk = max(-(-blocks // (4 * team.get_num_threads())), 1024)
    return team.launch(native.address(_SOURCE), blocks, chunk, out, seed)


def random_bits(key: ndarray, counter: ndarray, /, *, shape: tuple[int, ...], dtype: Any) -> ndarray:
    count = math.prod(shape) * (dtype.itemsize // 4)
    blocks = -(-count // 4)
    compiled = count >= LARGE or native.loaded() or next(_small_draws) >= PATIENCE
    words = (philox_native if compiled else philox)(key, int(counter), blocks)[:count]
    return words.view(dtype.numpy).reshape(shape)
