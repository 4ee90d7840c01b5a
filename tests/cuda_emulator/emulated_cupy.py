"""A stand-in for the part of CuPy that the `cuda` backend uses: memory and views by NumPy, kernels by g++ and cuda_emulator.h.

With it the whole backend runs, unchanged, on a machine without a GPU. It is stricter than CuPy: arrays begin as NaN, end at an
unreadable page, launches are checked against the kernel's parameters, and nothing is converted implicitly.

>>> with emulated_cupy.installed():            # instead of the real CuPy, if there is one
...     backend = CudaBackend("cuda")
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.machinery
import mmap
import os
import re
import shutil
import subprocess
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import emulated_libraries
import numpy as np

from corelib_cuda import launch

HEADER = Path(__file__).with_name("cuda_emulator.h")
PAGE = mmap.PAGESIZE
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}
order = "ascending"  # of the threads in a block; set_order() chooses

CHECKS = "alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow"
FLAGS = [
    *("-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off"),
    *(f"-fsanitize={CHECKS}", "-fno-sanitize-recover=all"),
]


def unusable() -> str | None:
    """Why the emulator cannot run here, or None."""
    if shutil.which("g++") is None:
        return "the emulator of CUDA kernels compiles them with g++, which is not installed"
    if (
        ctypes.sizeof(ctypes.c_void_p) != 8
        or np.dtype("longdouble").itemsize != 16
        or not hasattr(mmap, "MAP_ANONYMOUS")
    ):
        return "the emulator of CUDA kernels runs on x86-64 Linux only"
    return None


class CudaError(RuntimeError):
    """What a device would have reported, or should have."""


# --------------------------------------------------------------------------------------------------------------- memory

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_alive: weakref.WeakSet[PooledMemory] = weakref.WeakSet()


class PooledMemory:
    """An allocation: poisoned (unwritten floating numbers read as NaN), followed by a canary and an unreadable page."""

    def __init__(self, size: int) -> None:
        self.size = size
        canary = -size % 256 or 256  # keeps the 256-byte alignment of a device
        body = -(-(size + canary) // PAGE) * PAGE
        self._extent = body + PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._base = _libc.mmap(None, self._extent, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        _libc.mprotect(self._base + body, PAGE, 0)
        self.ptr = self._base + body - size - canary
        ctypes.memset(self.ptr, 0xFF, size)
        ctypes.memset(self.ptr + size, 0xA5, canary)
        self._canary = (ctypes.c_char * canary).from_address(self.ptr + size)
        self.__array_interface__ = {
            "version": 3,
            "data": (self.ptr, False),
            "shape": (size,),
            "typestr": "|u1",
        }
        _alive.add(self)

    def check(self) -> None:
        if self._canary.raw.strip(b"\xa5"):
            ctypes.memset(self.ptr + self.size, 0xA5, len(self._canary))  # reported once
            raise CudaError(f"a kernel wrote past the end of an allocation of {self.size} bytes")

    def __del__(self) -> None:
        _libc.munmap(self._base, self._extent)


def _allocate(shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, PooledMemory]:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = PooledMemory(size)
    return np.asarray(memory).view(dtype).reshape(shape), memory


class ndarray:
    """A device array. Like CuPy's it converts to nothing by itself: `get()` copies to the host."""

    __array_ufunc__ = None

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        shape = tuple(shape) if hasattr(shape, "__len__") else (shape,)
        self.host, self._memory = _allocate(shape, np.dtype(dtype))
        self.base: ndarray | None = None

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed: use .get()")

    dtype = property(lambda self: self.host.dtype)
    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    size = property(lambda self: self.host.size)
    ndim = property(lambda self: self.host.ndim)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    flags = property(lambda self: self.host.flags)

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self.host.__array_interface__["data"][0], mem=self._memory)

    def get(self) -> np.ndarray:
        return self.host.copy()

    def _result(self, host: np.ndarray) -> ndarray:
        """A view where NumPy made one, otherwise a new device array."""
        return _view(host, self) if np.may_share_memory(host, self.host) and host.size else _device(host)

    def reshape(self, *shape: Any) -> ndarray:
        return self._result(self.host.reshape(*shape))

    def transpose(self, axes: Any) -> ndarray:
        return self._result(self.host.transpose(axes))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return self._result(self.host.astype(dtype, copy=copy))

    def view(self, dtype: Any) -> ndarray:
        return _view(self.host.view(dtype), self)

    def __getitem__(self, key: Any) -> ndarray:
        host = self.host[_hosts(key)]
        if not isinstance(host, np.ndarray):  # an element: CuPy's is a view
            host = self.host[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return self._result(host)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.host[_hosts(key)] = _hosts(value)


def _view(host: np.ndarray, base: ndarray) -> ndarray:
    view = ndarray.__new__(ndarray)
    view.host, view._memory, view.base = host, base._memory, base
    return view


def _device(host: Any) -> ndarray:
    host = np.asarray(host)
    array = ndarray(host.shape, host.dtype)
    array.host[...] = host
    return array


def _hosts(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value.host
    return type(value)(map(_hosts, value)) if isinstance(value, tuple | list) else value


def _forwarded(function: Any) -> Any:
    """NumPy's function of the same name on device arrays, its results moved to the device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*_hosts(args), **kwargs)
        return tuple(map(_device, result)) if isinstance(result, tuple) else _device(result)

    return call


def _viewing(function: Any) -> Any:
    return lambda x, *args: x._result(function(x.host, *args))


# -------------------------------------------------------------------------------------------------------------- kernels


class Library:
    """Entry points compiled together, by name."""

    def __init__(self, code: str) -> None:
        self.names = re.findall(
            r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(', code
        )
        self._library = ctypes.CDLL(str(_compile(code, self.names)))

    def get_function(self, name: str) -> Function:
        return Function(self._library, name)


def _compile(code: str, names: list[str]) -> Path:
    """The shared library of a CUDA source, from the cache on disk if its text and the header are unchanged."""
    entries = "".join(
        f'\nextern "C" int launch_{n}(const unsigned* s, void** p, int o, char* r) {{ return emulator::launch(&{n}, s, p, o, r); }}'
        f'\nextern "C" void describe_{n}(char* out) {{ emulator::describe(&{n}, out); }}'
        for n in names
    )
    source = f'#include "{HEADER}"\n' + code.replace('extern "C" __global__', "static __global__") + entries
    key = hashlib.sha256((source + HEADER.read_text() + repr(FLAGS)).encode()).hexdigest()[:32]
    folder = launch.cache_folder().with_name("cuda-emulator")
    library = folder / f"{key}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{key}.{os.getpid()}.tmp"
        run = subprocess.run(
            ["g++", *FLAGS, "-x", "c++", "-", "-o", str(partial)],
            input=source,
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise CudaError(f"g++ refused the kernel:\n{run.stderr[:4000]}")
        partial.replace(library)
    return library


class Function:
    """One kernel, launched as CuPy launches it: (grid, block, arguments)."""

    def __init__(self, library: Any, name: str) -> None:
        self.name = name
        self._launch = getattr(library, f"launch_{name}")
        text = ctypes.create_string_buffer(4096)
        getattr(library, f"describe_{name}")(text)
        self.parameters = [(p[:1], int(p[1:])) for p in text.value.decode().split()]

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        grid, block = ((*grid, 1, 1)[:3]), ((*block, 1, 1)[:3])
        if np.prod(block) > 1024 or block[2] > 64:
            raise CudaError(f"{self.name}: a block of {block} threads is too large")
        if not (0 < grid[0] < 2**31 and 0 < grid[1] < 2**16 and 0 < grid[2] < 2**16):
            raise CudaError(f"{self.name}: a grid of {grid} blocks is not possible")
        if len(args) != len(self.parameters):
            raise CudaError(f"{self.name}: {len(args)} arguments for {len(self.parameters)} parameters")
        values = [self._value(i, a) for i, a in enumerate(args)]
        pointers = (ctypes.c_void_p * len(args))(*map(ctypes.addressof, values))
        sizes, reason = (ctypes.c_uint * 6)(*grid, *block), ctypes.create_string_buffer(1024)
        failed = self._launch(sizes, pointers, ORDERS[order], reason)
        if failed:
            raise CudaError(f"{self.name}: {reason.value.decode()}")
        for memory in list(_alive):
            memory.check()

    def _value(self, position: int, argument: Any) -> Any:
        """The bytes of an argument as CuPy passes them; a mismatch with the parameter would read garbage on a device."""
        if isinstance(argument, ndarray):
            kind, raw = "p", argument.data.ptr.to_bytes(8, "little")
        else:
            host = np.asarray(argument)  # as CuPy does: a Python int is an int64, a float a float64
            kind = "s" if host.dtype.names else {"f": "f", "c": "s"}.get(host.dtype.kind, "i")
            raw = host.tobytes()
        wanted = self.parameters[position]
        if (kind, len(raw)) != wanted:
            raise CudaError(
                f"{self.name}: argument {position} is {kind}{len(raw)}, the kernel takes {wanted[0]}{wanted[1]}"
            )
        memory = ctypes.create_string_buffer(len(raw) + 16)  # aligned as the kernel's parameters are
        value = (ctypes.c_char * len(raw)).from_buffer(memory, -ctypes.addressof(memory) % 16)
        value.raw = raw
        return value


_prepared: dict[tuple[str, str], Library] = {}
_loaded: list[launch.Kernel] = []


def prepare(file: str, entries: Iterable[tuple[str, str]]) -> None:
    """Compile many entry points, (name, C++), of one source file at once: far quicker than one by one."""
    entries = dict(entries)
    library = Library(launch.source(file, entries.values()))
    _prepared.update({(file, text): library for text in entries.values()})


def _load(kernel: launch.Kernel, device: int) -> Any:
    library = _prepared.get((kernel.file, kernel.entry))
    if library is None:
        library = _prepared[kernel.file, kernel.entry] = Library(launch.source(kernel.file, [kernel.entry]))
    function = kernel._functions[device] = library.get_function(kernel.name)
    _loaded.append(kernel)
    return function


# ----------------------------------------------------------------------------------------------------------- the module


class _Device(contextlib.nullcontext):
    compute_capability = "90"

    def __init__(self, index: int = 0) -> None:
        super().__init__()


def _modules() -> dict[str, Any]:
    """The modules by name."""
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        memGetInfo=lambda: (2**30 - pool.total_bytes(), 2**30),
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda _: {"name": b"emulated device", "totalGlobalMem": 2**30},
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=_Device,
        memory=types.SimpleNamespace(PooledMemory=PooledMemory),
        get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: None),
    )
    pool = types.SimpleNamespace(
        used_bytes=lambda: sum(m.size for m in _alive),
        total_bytes=lambda: sum(m.size for m in _alive),
        free_all_blocks=lambda: None,
    )
    forwarded = (
        "matmul",
        "full",
        "zeros",
        "diagonal",
    )
    linalg, fft, cupyx, cusolver = emulated_libraries.modules(_forwarded)
    module = types.ModuleType("cupy")
    module.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    vars(module).update(
        __version__="14.2.0",
        ndarray=ndarray,
        cuda=cuda,
        linalg=linalg,
        fft=fft,
        array=_device,
        asnumpy=lambda x, order="C": np.array(x.host, order=order),
        broadcast_to=_viewing(np.broadcast_to),
        get_default_memory_pool=lambda: pool,
        **{name: _forwarded(getattr(np, name)) for name in forwarded},
    )
    return {"cupy": module, "cupyx": cupyx, "cupyx.cusolver": cusolver}


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """The stand-in as ``cupy``, for the backend and for whoever imports it meanwhile."""
    emulated = _modules()
    real = {name: sys.modules[name] for name in emulated if name in sys.modules}
    load, launch.Kernel._load = launch.Kernel._load, _load
    sys.modules.update(emulated)
    _forget()
    try:
        yield emulated["cupy"]
    finally:
        for name in emulated:
            del sys.modules[name]
        sys.modules.update(real)
        launch.Kernel._load = load
        _forget()


def _forget() -> None:
    """What the backend remembers of the other CuPy."""
    for remembered in (launch.cupy, launch.device_count, launch.capability):
        remembered.cache_clear()
    while _loaded:
        _loaded.pop()._functions.clear()
