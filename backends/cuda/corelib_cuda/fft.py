"""Fourier transforms: CuPy's, on cuFFT, in the precision of their operands. CuPy never sees an empty array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corelib.plugin_api import dtypes, ops

from .kernels import kernels
from .launch import cupy
from .movement import fill


def _make(op: Any, dtype: Any) -> Callable[..., Any]:
    def kernel(x: Any, /, *, n: int, axis: int, norm: str) -> Any:
        if x.shape[axis] and x.size:
            return getattr(cupy().fft, op.name)(x, n, axis, norm)
        shape = list(x.shape)
        shape[axis] = n // 2 + 1 if op.name == "rfft" else n
        return fill(tuple(shape), 0, result.name)  # nothing, continued by zeros

    result = dtype.real if op.name == "irfft" else dtype.complex
    return kernel


kernels.family([ops.fft.fft, ops.fft.ifft], _make, dtypes.COMPLEX)
kernels.family(ops.fft.rfft, _make, dtypes.FLOATING)
kernels.family(ops.fft.irfft, _make, dtypes.COMPLEX)
