"""The `cuda` backend: whether it can be used, its devices, transfers and memory. The kernels are in the
modules beside.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from corelib.plugin_api import Backend, decomposed, dtypes

from . import (
    attention,
    contract,
    conv,
    elementwise,
    fft,
    generated,
    graphs,
    half,
    indexing,
    launch,
    linalg,
    movement,
    nvrtc,
    ordering,
    pool,
    random,
    reduce,
    scan,
    softmax,
)
from .copy import copied
from .kernels import kernels
from .launch import cupy
from .movement import widened

# Importing a family registers its kernels.
FAMILIES = (
    contract,
    elementwise,
    fft,
    half,
    indexing,
    linalg,
    movement,
    ordering,
    random,
    reduce,
    scan,
    softmax,
)

# Kernels of composite ops that leave some operands to the op's body, in every floating dtype: name -> maker.
PARTIAL: dict[str, Callable[[str, Callable[..., Any]], Callable[..., Any]]] = {
    "attention_gradient": attention.make_attention_gradient,
    "avg_pool": pool.make_avg_pool,
    "avg_pool_gradient": pool.make_avg_pool_gradient,
    "conv": conv.make_conv,
    "conv_transpose": conv.make_conv_transpose,
    "conv_weight_gradient": conv.make_conv_weight_gradient,
    "max_pool": pool.make_max_pool,
    "max_pool_gradient": pool.make_max_pool_gradient,
    "max_pool_indices": pool.make_max_pool_indices,
    "scaled_dot_product_attention": attention.make_attention,
}

INSTALL = "`pip install corelib[cuda12]` or `pip install corelib[cuda13]`, whichever fits the driver"
OLDEST_CAPABILITY = (
    70  # 16-byte packets, warp shuffles with masks and parameters by constant reference need no more
)


class CudaBackend(Backend):
    """One CUDA device. Arrays are ``cupy.ndarray``, of float16 and bfloat16 :class:`~.half.Half`; work goes to
    CuPy's current stream.
    """

    kernels = kernels

    @classmethod
    def probe(cls) -> str | None:
        """None when there is a device that can be used, else the first reason why not, with what to do."""
        if importlib.util.find_spec("cupy") is None:
            return f"CuPy is not installed: {INSTALL}"
        try:
            runtime = cupy().cuda.runtime
        except Exception as reason:  # a broken installation fails in many ways, none of which may pass unseen
            return f"CuPy cannot be imported ({reason}): reinstall it, {INSTALL}"
        return cls._probe_driver(runtime) or cls._probe_device(runtime)

    @staticmethod
    def _probe_driver(runtime: Any) -> str | None:
        try:
            driver = int(runtime.driverGetVersion())
        except Exception:
            driver = 0
        if driver == 0:
            return (
                "no NVIDIA driver was found: install one (`nvidia-smi` then shows it), or use another backend"
            )
        needed = int(runtime.runtimeGetVersion())
        if driver // 1000 < needed // 1000:
            return (
                f"the NVIDIA driver supports CUDA {_version(driver)}, and CuPy was built for CUDA {_version(needed)}: update "
                f"the driver, or `pip install corelib[cuda{driver // 1000}]` instead"
            )
        return None

    @staticmethod
    def _probe_device(runtime: Any) -> str | None:
        try:
            count = int(runtime.getDeviceCount())
        except Exception as reason:
            return f"the NVIDIA driver offers no CUDA device ({reason}): check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        if count == 0:
            return "no CUDA device is visible: check `nvidia-smi` and CUDA_VISIBLE_DEVICES"
        capability = launch.capability(0)
        if capability < OLDEST_CAPABILITY:
            return (
                f"the device has compute capability {capability / 10}, and {OLDEST_CAPABILITY / 10} is needed"
            )
        if nvrtc.find_library(launch.cuda_major()) is None:
            return "NVRTC, the CUDA compiler, was not found: `pip install 'cupy-cuda13x[ctk]'`, or install the CUDA toolkit"
        return None

    @classmethod
    def devices(cls) -> list[str]:
        """``["cuda", "cuda:1", ...]``."""
        return ["cuda" if index == 0 else f"cuda:{index}" for index in range(launch.device_count())]

    @classmethod
    def compile_ahead(cls, architectures: Sequence[str]) -> Iterator[str]:
        """Compile the kernels of the ops for architectures such as "sm_90"; no device is needed."""
        from . import warmup

        return warmup.compiled(sorted({warmup.capability(one) for one in architectures}))

    def __init__(self, name: str, index: int = 0) -> None:
        super().__init__(name, index)
        # With several devices every call makes its own device current; with one, there is nothing to choose.
        self._several = launch.device_count() > 1

    def _here(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return launch.on_device(self.index, function) if self._several else function

    def find(self, op: Any, dtype: Any) -> Callable[..., Any] | None:
        if op.name in PARTIAL and dtype in (*dtypes.FLOATING, *dtypes.HALF):
            return self._here(PARTIAL[op.name](dtype.name, self._body(op, dtype)))
        kernel = self.kernels.get(op, dtype)
        return None if kernel is None else self._here(kernel)

    def _body(self, op: Any, dtype: Any) -> Callable[..., Any]:
        body = decomposed(op, self)
        assert body is not None
        return widened(body, dtype) if dtype in dtypes.HALF else body

    # compiling a kernel takes a tenth of a second, once: small arrays do not pay it back
    fuse_from = 4096

    def fuses(self, step: Any) -> bool:
        """Element-wise steps and reductions whose kernels are this backend's own."""
        return generated.fuses(step)

    def emit(self, group: Any) -> Callable[..., Any] | None:
        """One generated kernel for a group of steps."""
        kernel = generated.make(group)
        return None if kernel is None else self._here(kernel)

    def link(self, graph: Any, replay: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any] | None:
        """Inside of :func:`corelib_cuda.graph`, a program that is launched as one CUDA graph."""
        program = graphs.linked(graph, replay)
        return None if program is None else self._here(program)

    def describe(self) -> str:
        """Name, compute capability and memory, as in "NVIDIA H200, compute capability 9.0, 139 GiB" on that
        device.
        """
        properties = cupy().cuda.runtime.getDeviceProperties(self.index)
        name = properties["name"]
        name = name.decode() if isinstance(name, bytes) else name
        capability = launch.capability(self.index) / 10
        return f"{name}, compute capability {capability}, {properties['totalGlobalMem'] / 2**30:.0f} GiB"

    # ----------------------------------------------------------------------------------------------------- transfers

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        size, native = int(np.prod(shape, dtype=np.int64)), half.storage(dtype.name)
        host = np.frombuffer(buffer, native, count=size) if size else np.empty(0, native)
        return half.named(launch.reporting(self._here(cupy().array), host.reshape(shape)), dtype)

    def to_host(self, array: Any) -> Any:
        return launch.reporting(self._here(cupy().asnumpy), half.stored(array), order="C")

    def copy(self, array: Any) -> Any:
        return half.named(self._here(copied)(half.stored(array)), array.dtype)

    def dlpack(self, array: Any) -> Any:
        return half.exported(array, cupy()) if isinstance(array, half.Half) else array

    def from_dlpack(self, source: Any) -> Any:
        kind, index = source.__dlpack_device__()
        if int(kind) not in (2, 13) or int(index) != self.index:  # kDLCUDA, kDLCUDAManaged
            return None
        array = self._here(cupy().from_dlpack)(source)
        # The kernels move a complex128 as 16 bytes at once, which must begin at a multiple of 16.
        return None if array.data.ptr % array.itemsize else half.imported(array)

    # -------------------------------------------------------------------------------------------------------- memory

    def owns(self, array: Any) -> bool:
        """A dense array with memory of CuPy's pool to itself; an import through DLPack is the exporter's as
        well.
        """
        array = half.stored(array)
        return (
            array.base is None
            and array.flags.c_contiguous
            and isinstance(array.data.mem, cupy().cuda.memory.PooledMemory)
        )

    def synchronize(self) -> None:
        launch.reporting(self._here(lambda: cupy().cuda.get_current_stream().synchronize()))

    def memory_stats(self) -> dict[str, int]:
        """Bytes in use, held by CuPy's pool, and free: on the device, or in the pool."""
        pool, runtime = cupy().get_default_memory_pool(), cupy().cuda.runtime
        used, held = self._here(lambda: (pool.used_bytes(), pool.total_bytes()))()
        left = self._here(runtime.memGetInfo)()[0]
        return {"used": int(used), "held": int(held), "free": int(left + held - used)}

    def empty_cache(self) -> None:
        self._here(cupy().get_default_memory_pool().free_all_blocks)()


def _version(number: int) -> str:
    """13020 is "13.2"."""
    return f"{number // 1000}.{number % 1000 // 10}"
