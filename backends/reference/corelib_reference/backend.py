"""The backend object: buffers in and out. Importing the kernel modules fills the kernel set."""

from __future__ import annotations

import math
from typing import Any

from corelib.plugin_api import Backend, dtypes

from . import contract, creation, elementwise, fft, index, linalg, movement, random, reduce, sort
from .array import RefArray, Shape
from .kernels import kernels

KERNEL_MODULES = contract, creation, elementwise, fft, index, linalg, movement, random, reduce, sort


class ReferenceBackend(Backend):
    """Pure Python on the CPU: slow, exact to the last rounding, and the same on every machine."""

    kernels = kernels

    @classmethod
    def probe(cls) -> str | None:
        """Usable wherever Python runs."""
        return None

    @classmethod
    def devices(cls) -> list[str]:
        """One device."""
        return ["reference"]

    def describe(self) -> str:
        """One phrase for tables."""
        return "pure Python, one thread"

    def from_host(self, buffer: Any, shape: Shape, dtype: dtypes.DType) -> RefArray:
        """An array with the elements of a C-contiguous buffer in native byte order, copied."""
        dtype = dtypes.as_dtype(dtype)
        raw = memoryview(buffer).tobytes()
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(raw)} bytes do not hold {math.prod(shape)} elements of {dtype.name}")
        return RefArray(tuple(shape), dtype, dtype.unpack(raw))

    def to_host(self, array: RefArray) -> Any:
        """The elements as a flat, C-contiguous buffer."""
        return array.dtype.pack(array.data)
