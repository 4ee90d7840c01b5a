"""The backend: buffers in and out, threads, memory, and which kernel implements which op."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy import ndarray

from corelib import dlpack
from corelib.plugin_api import Backend, KernelSet, decomposed, dtypes, ops

from . import (
    attention,
    casts,
    contract,
    conv,
    creation,
    elementwise,
    fft,
    generated,
    index,
    linalg,
    movement,
    narrow,
    native,
    pool,
    pooling,
    program,
    quantized,
    random,
    reduce,
    scan,
    sort,
)
from .launch import get_num_threads, set_num_threads

__all__ = ["CpuBackend", "get_num_threads", "set_num_threads"]

kernels = KernelSet()


def _by_names(make: Callable[[str, str], Any]) -> Callable[[Any, Any], Any]:
    """The maker of a family from one that knows ops and dtypes by their names."""
    return functools.wraps(make)(lambda op, dtype: make(op.name, dtype.name))


def _by_dtype(make: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """The maker of a family of one op from one that knows dtypes by their names."""
    return functools.wraps(make)(lambda op, dtype: make(dtype.name))


_names = (*elementwise.NUMPY, "conj", "real", "imag", "where")
kernels.family([getattr(ops, name) for name in _names], _by_names(elementwise.make))
kernels.family(ops.astype, _by_dtype(casts.make_astype))
kernels.family(ops.sum, _by_dtype(reduce.make_sum))
kernels.family([ops.max, ops.min], _by_names(reduce.make_extreme))
kernels.family(ops.matmul, _by_dtype(contract.make_matmul))
kernels.family(ops.matmul, _by_dtype(narrow.make_product), dtypes.HALF)
kernels.add(ops.int8_matmul, narrow.make_product("int8"))
for _module, _names in (
    (reduce, ("prod", "argmax", "argmin")),
    (scan, ("cumulative_sum", "cumulative_prod")),
    (creation, ("full", "arange")),
    (movement, ("reshape", "permute_dims", "broadcast_to", "flip", "concat", "pad")),
    (movement, ("strided_slice", "strided_update")),
    (index, ("gather", "scatter", "scatter_add", "take_along_axis", "nonzero")),
    (sort, ("sort", "argsort", "searchsorted")),
    (random, ("random_bits",)),
):
    for _name in _names:
        kernels.add(getattr(ops, _name), getattr(_module, _name))
kernels.add(ops.any, reduce.any_)
kernels.add(ops.all, reduce.all_)
for _name in linalg.KERNELS:
    kernels.add(getattr(ops.linalg, _name), getattr(linalg, _name))
for _name in ("fft", "ifft", "rfft", "irfft"):
    kernels.add(getattr(ops.fft, _name), getattr(fft, _name))
kernels.add(ops.any, reduce.any_)
kernels.add(ops.all, reduce.all_)
# Kernels of composites that leave some of their cases to the bodies.
PARTIAL = {
    "attention_gradient": attention.make_attention_gradient,
    "avg_pool": pooling.make_avg_pool,
    "avg_pool_gradient": pooling.make_avg_pool_gradient,
    "conv": conv.make_conv,
    "conv_transpose": conv.make_conv_transpose,
    "conv_weight_gradient": conv.make_conv_weight_gradient,
    "max_pool": pooling.make_max_pool,
    "max_pool_gradient": pooling.make_max_pool_gradient,
    "scaled_dot_product_attention": attention.make_attention,
}

PARTIAL_SHORT = {
    ("int8_conv", dtypes.int8): quantized.make_conv,
    ("int8_max_pool", dtypes.int8): quantized.make_pool,
    ("quantized_conv", dtypes.float32): quantized.make_layer,
}


class CpuBackend(Backend):
    """NumPy arrays on the processor; large ones are worked on by a team of threads."""

    kernels = kernels

    @classmethod
    def probe(cls) -> str | None:
        """Usable wherever NumPy is; llvmlite is asked for when the first compiled kernel is."""
        return None

    @classmethod
    def devices(cls) -> list[str]:
        """One device."""
        return ["cpu"]

    def describe(self) -> str:
        """Threads and instruction set, such as "2 threads, AVX-512"."""
        threads = get_num_threads()
        return f"{threads} thread{'s' if threads > 1 else ''}, {native.instruction_set()}"

    def find(self, op: Any, dtype: dtypes.DType | None) -> Callable[..., Any] | None:
        """The kernel of an op; those of some composites run the op's body where they do not do a case."""
        if op.name in PARTIAL and dtype in (dtypes.float32, dtypes.float64):
            return PARTIAL[op.name](dtype.name, decomposed(op, self))
        if (op.name, dtype) in PARTIAL_SHORT:
            assert dtype is not None
            return PARTIAL_SHORT[op.name, dtype](dtype.name, decomposed(op, self))
        return super().find(op, dtype)

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: dtypes.DType) -> ndarray:
        """An array with the elements of a C-contiguous buffer in native byte order, copied."""
        kind = dtypes.as_dtype(dtype).numpy
        size = math.prod(shape) * kind.itemsize
        out = pool.empty(tuple(shape), kind, size)
        if isinstance(buffer, ndarray):
            buffer = buffer.reshape(-1).view(np.uint8)
        else:
            view = memoryview(buffer)
            buffer = np.frombuffer(view, np.uint8) if view.nbytes else np.empty(0, np.uint8)
        if buffer.size != size:
            raise ValueError(f"{buffer.size} bytes do not hold {math.prod(shape)} elements of {kind.name}")
        out.reshape(-1).view(np.uint8)[:] = buffer
        return out

    def to_host(self, array: ndarray) -> ndarray:
        """The elements in C order; the array itself where they are."""
        return array if array.flags.c_contiguous else movement.copy(array)

    def owns(self, array: ndarray) -> bool:
        """Whether no other array shares this one's buffer (references to the array itself are the caller's to
        count).
        """
        return pool.owns(array)

    def dlpack(self, array: ndarray) -> Any:
        """The array, which speaks DLPack itself."""
        return array

    def from_dlpack(self, source: Any) -> ndarray | None:
        """An array on the memory of another library's, or None where that cannot be shared."""
        if dlpack.place(source.__dlpack_device__())[0] != dlpack.CPU:
            return None
        array = dlpack.host_array(source)
        return array if array.flags.aligned else None

    fuse_from, fuses_products = 4096, True

    def fuses(self, step: Any) -> bool:
        """Element-wise steps and reductions whose kernels are this backend's own."""
        return generated.fuses(kernels, step)

    def emit(self, group: Any) -> Callable[..., Any] | None:
        """One generated kernel for a group of steps."""
        return generated.make(group)

    def link(self, graph: Any, replay: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
        """A program in which runs of kernels are one native call each."""
        return program.link(kernels, graph, replay)

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Inside, kernels use ``count`` threads."""
        before = get_num_threads()
        set_num_threads(count)
        try:
            yield
        finally:
            set_num_threads(before)

    def memory_stats(self) -> dict[str, int]:
        """Bytes that the pool holds, and how many of them are in use."""
        return pool.statistics()

    def empty_cache(self) -> None:
        """Give unused buffers back to the system."""
        pool.release()
