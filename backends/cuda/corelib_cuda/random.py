"""Random bits by Philox4x32-10, bit-exact with every other backend. The kernel is in random.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from . import launch
from .copy import contiguous
from .kernels import kernels
from .launch import cupy

words = launch.Kernel("random.cu", "random_words")


@kernels.implements(ops.random_bits, dtypes=(dtypes.uint32, dtypes.uint64))
def random_bits(key: Any, counter: Any, /, *, shape: tuple[int, ...], dtype: Any) -> Any:
    """key (2,) uint32, counter () uint64 -> shape."""
    cp = cupy()
    out = cp.ndarray(shape, dtypes.as_dtype(dtype).numpy)
    n = out.nbytes // 4
    if n:
        grid = launch.blocks_for(-(-n // 4))
        words(
            grid,
            (launch.THREADS,),
            (contiguous(key), contiguous(counter), out, np.int64(n)),
        )
    return out
