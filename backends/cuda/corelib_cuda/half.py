"""float16 and bfloat16: 16-bit words on the device, and a dtype beside them.

Nothing is computed in these dtypes, so whatever moves their elements moves words and need not know of them: the
kernels here are those of uint16. Only casts look inside (cast.cuh). CuPy's own bfloat16 is not used: it came with
CuPy 14, on top of the package ml_dtypes, and its kernels are compiled with headers of the CUDA toolkit.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from corelib.plugin_api import dtypes, ops

from .kernels import kernels

WORD = np.dtype(np.uint16)
NAMES = tuple(d.name for d in dtypes.HALF)
BFLOAT16_SHARED = (14, 1)  # CuPy: the first version that imports and exports bfloat16 through DLPack


class Half:
    """An array of float16 or bfloat16: ``words``, an array of uint16, and the ``dtype`` that they stand for."""

    __slots__ = ("dtype", "words")

    def __init__(self, words: Any, dtype: Any) -> None:
        self.words, self.dtype = words, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape


def storage(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of the device array that holds elements of ``dtype``."""
    return WORD if dtype in NAMES else np.dtype(dtype)


def stored(x: Any) -> Any:
    """The device array of ``x``: its words if it is of float16 or bfloat16."""
    return x.words if x.__class__ is Half else x


def named(array: Any, dtype: Any) -> Any:
    """A device array as one of ``dtype``: the inverse of :func:`stored`."""
    return Half(array, dtype) if dtype in dtypes.HALF else array


def word(value: float, dtype: Any) -> int:
    """The bits of a number."""
    return int.from_bytes(bytes(dtype.pack([value])), sys.byteorder)


def exported(x: Half, cupy: Any) -> Any:
    """``x`` as an array of CuPy's own, which shares its memory and may be handed out; None if CuPy cannot."""
    if x.dtype is dtypes.bfloat16:
        version = tuple(int(number) for number in cupy.__version__.split(".")[:2])
        if version < BFLOAT16_SHARED or not _importable("ml_dtypes"):
            return None
    return x.words.view(x.dtype.numpy)


def imported(array: Any) -> Any:
    """An array of CuPy's own, of any dtype, as this backend keeps it."""
    dtype = dtypes.as_dtype(array.dtype)
    return Half(array.view(WORD), dtype) if dtype in dtypes.HALF else array


def _importable(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


# ----------------------------------------------------------------------------------------------------- moving elements


def _of_words(op: Any, dtype: Any) -> Callable[..., Any]:
    """The kernel of uint16, given words for arrays and bits for numbers."""
    move = kernels.get(op, dtypes.uint16)
    assert move is not None

    def kernel(*operands: Any, **params: Any) -> Any:
        given = [word(x, dtype) if x.__class__ is float else stored(x) for x in operands]
        return Half(move(*given, **params), dtype)

    return kernel


def _of_a_number(parameter: str, op: Any, dtype: Any) -> Callable[..., Any]:
    move = _of_words(op, dtype)

    def kernel(*operands: Any, **params: Any) -> Any:
        params[parameter] = word(params[parameter], dtype)
        if "dtype" in params:
            params["dtype"] = dtypes.uint16
        return move(*operands, **params)

    return kernel


kernels.family(
    [
        ops.reshape, ops.permute_dims, ops.broadcast_to, ops.flip, ops.concat, ops.strided_slice, ops.strided_update,
        ops.gather, ops.scatter, ops.take_along_axis, ops.where,
    ],
    _of_words,
    dtypes.HALF,
)  # fmt: skip
kernels.family(ops.full, functools.partial(_of_a_number, "fill_value"), dtypes.HALF)
kernels.family(ops.pad, functools.partial(_of_a_number, "constant_value"), dtypes.HALF)
