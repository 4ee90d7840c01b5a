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
import emulated_streams
import numpy as np
from emulated_streams import CudaError, reported, submit, waiting

from corelib import random as generators
from corelib_cuda import launch

HEADER = Path(__file__).with_name("cuda_emulator.h")
PAGE = mmap.PAGESIZE
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}
order = "ascending"  # of the threads in a block
asynchronous = False  # a kernel's failure is reported by a later call, as on a device, and by all after it

# Tests that use nothing of the stand-in but `installed`, `prepare` and the harness can run on a GPU as well.
REAL = os.environ.get("CORELIB_CUDA_TESTS") == "device"

CHECKS = "alignment,bounds,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow"
FLAGS = [
    *("-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off"),
    *(f"-fsanitize={CHECKS}", "-fno-sanitize-recover=all"),
]


def unusable() -> str | None:
    """Why the emulator cannot run here, or None."""
    if REAL:
        return None
    if shutil.which("g++") is None:
        return "the emulator of CUDA kernels compiles them with g++, which is not installed"
    if (
        ctypes.sizeof(ctypes.c_void_p) != 8
        or np.dtype("longdouble").itemsize != 16
        or not hasattr(mmap, "MAP_ANONYMOUS")
    ):
        return "the emulator of CUDA kernels runs on x86-64 Linux only"
    return None


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
CAPACITY = 1 << 30


class OutOfMemoryError(MemoryError):
    """In CuPy's words."""

    def __init__(self, size: int, total: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


def _held() -> int:
    return sum(m.size for m in _alive)


class PooledMemory:
    """An allocation: poisoned (unwritten floating numbers read as NaN), followed by a canary and an unreadable page."""

    def __init__(self, size: int) -> None:
        self.size = size
        if size > CAPACITY // 2 and size > CAPACITY - _held():
            raise OutOfMemoryError(size, _held())
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
        if hasattr(self, "_extent"):
            _libc.munmap(self._base, self._extent)


class Leased(PooledMemory):
    """A block of a private pool, to which it goes back when nobody refers to it any more."""

    def __init__(self, block: PooledMemory, pool: MemoryPool) -> None:
        self.size, self.ptr, self.__array_interface__ = block.size, block.ptr, block.__array_interface__
        self._block, self._pool = block, pool
        pool.used += self.size

    def __del__(self) -> None:
        self._pool.used -= self.size
        self._pool.blocks[self.size].append(self._block)


class MemoryPool:
    """Memory that stays where it is for as long as the pool lives: what a graph needs. The default one gives everything
    back to the system at once, so that a kernel which still uses it stops."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[PooledMemory]] = {}
        self.used = self.held = 0

    def malloc(self, size: int) -> MemoryPointer:
        free = self.blocks.setdefault(size, [])
        self.held += 0 if free else size
        return MemoryPointer(Leased(free.pop() if free else PooledMemory(size), self))

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.held


_allocator: Any = None  # of this moment; None is the default pool


@contextlib.contextmanager
def using_allocator(chosen: Any) -> Iterator[None]:
    before, globals()["_allocator"] = _allocator, chosen
    try:
        yield
    finally:
        globals()["_allocator"] = before


class MemoryPointer:
    """A place in memory, and what keeps it."""

    def __init__(self, mem: PooledMemory, ptr: int | None = None) -> None:
        self.mem, self.ptr = mem, mem.ptr if ptr is None else ptr


def _allocate(shape: tuple[int, ...], dtype: np.dtype, pointer: Any) -> tuple[np.ndarray, PooledMemory]:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if pointer is not None:
        memory = pointer.mem
    else:
        memory = PooledMemory(size) if _allocator is None else _allocator(size).mem
    return np.asarray(memory)[:size].view(dtype).reshape(shape), memory


class ndarray:
    """A device array. Like CuPy's it converts to nothing by itself: `get()` copies to the host."""

    __array_ufunc__ = None

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None) -> None:
        shape = tuple(shape) if hasattr(shape, "__len__") else (shape,)
        self.host, self._memory = _allocate(shape, np.dtype(dtype), memptr)
        self.base: ndarray | None = None

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed: use .get()")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # memory of device 0, which nobody here can import

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
        return MemoryPointer(self._memory, self.host.__array_interface__["data"][0])

    def get(self, out: np.ndarray | None = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            waiting()
        if out is None:
            return self.host.copy()
        out[...] = self.host
        return out

    def _result(self, function: Any) -> ndarray:
        """A view where NumPy makes one, otherwise a new device array."""
        host = function()
        if np.may_share_memory(host, self.host) and host.size:
            return _view(host, self)
        return _computed(function)

    def reshape(self, *shape: Any) -> ndarray:
        return self._result(lambda: self.host.reshape(*shape))

    def transpose(self, axes: Any) -> ndarray:
        return self._result(lambda: self.host.transpose(axes))

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        return self._result(lambda: self.host.astype(dtype, copy=copy))

    def view(self, dtype: Any) -> ndarray:
        return _view(self.host.view(dtype), self)

    def __getitem__(self, key: Any) -> ndarray:
        host = self.host[_hosts(key)]
        if not isinstance(host, np.ndarray):  # an element: CuPy's is a view
            key = (*key, ...) if isinstance(key, tuple) else (key, ...)
        return self._result(lambda: self.host[_hosts(key)])


def _view(host: np.ndarray, base: ndarray) -> ndarray:
    """A view of an array's memory."""
    view = ndarray.__new__(ndarray)
    view.host, view._memory, view.base = host, base._memory, base
    return view


def _device(host: Any) -> ndarray:
    """A host array on the device. Pageable memory: the copy waits for the device."""
    waiting()
    return _made(host)


def _made(host: Any) -> ndarray:
    host = np.asarray(host)
    array = ndarray(host.shape, host.dtype)
    array.host[...] = host
    return array


def _computed(function: Any) -> Any:
    """What a function of device memory gives, as work of the current stream: again in every launch of a graph."""
    result = function()
    several = isinstance(result, tuple)
    made = [_made(part) for part in (result if several else (result,))]

    def again() -> None:
        for array, part in zip(made, function() if several else (function(),), strict=True):
            array.host[...] = part

    if emulated_streams.current().is_capturing():
        submit(again)
    return tuple(made) if several else made[0]


def _hosts(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value.host
    return type(value)(map(_hosts, value)) if isinstance(value, tuple | list) else value


def _forwarded(function: Any) -> Any:
    """NumPy's function of the same name on device arrays, its results moved to the device."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return _computed(lambda: function(*_hosts(args), **kwargs))

    return call


def _viewing(function: Any) -> Any:
    return lambda x, *args: x._result(lambda: function(x.host, *args))


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
        reported()
        sizes = (ctypes.c_uint * 6)(*grid, *block)
        submit(lambda: self._run(sizes, pointers, values))

    def _run(self, sizes: Any, pointers: Any, values: Any) -> None:
        reason = ctypes.create_string_buffer(1024)
        failed = self._launch(sizes, pointers, ORDERS[order], reason)
        if failed and asynchronous:
            emulated_streams.failure = "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
            return
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
    if REAL:
        return
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
        memGetInfo=lambda: (CAPACITY - _held(), CAPACITY),
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda _: {"name": b"emulated device", "totalGlobalMem": CAPACITY},
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=_Device,
        memory=types.SimpleNamespace(PooledMemory=PooledMemory, OutOfMemoryError=OutOfMemoryError),
        get_current_stream=emulated_streams.current,
        Stream=emulated_streams.Stream,
        Event=emulated_streams.Event,
        get_elapsed_time=emulated_streams.get_elapsed_time,
        MemoryPool=MemoryPool,
        alloc_pinned_memory=bytearray,
        using_allocator=using_allocator,
    )
    pool = types.SimpleNamespace(
        used_bytes=_held,
        total_bytes=_held,
        free_all_blocks=lambda: None,
    )
    forwarded = (
        "matmul",
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
        asnumpy=lambda x, order="C": np.array(x.get(), order=order),
        broadcast_to=_viewing(np.broadcast_to),
        get_default_memory_pool=lambda: pool,
        **{name: _forwarded(getattr(np, name)) for name in forwarded},
    )
    return {"cupy": module, "cupyx": cupyx, "cupyx.cusolver": cusolver}


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """The stand-in as ``cupy``, for the backend and for whoever imports it meanwhile; with CORELIB_CUDA_TESTS=device, CuPy."""
    if REAL:
        yield launch.cupy()
        return
    emulated = _modules()
    real = {name: sys.modules[name] for name in emulated if name in sys.modules}
    load, launch.Kernel._load = launch.Kernel._load, _load
    generator, generators._default = generators._default, None
    sys.modules.update(emulated)
    _forget()
    try:
        yield emulated["cupy"]
    finally:
        for name in emulated:
            del sys.modules[name]
        sys.modules.update(real)
        launch.Kernel._load = load
        generators._default = generator  # the other's state is on the emulated device, where it was drawn from
        _forget()


def _forget() -> None:
    """What the backend remembers of the other CuPy."""
    for remembered in (launch.cupy, launch.device_count, launch.capability):
        remembered.cache_clear()
    unload()


def unload() -> None:
    """Have every kernel loaded anew at its next launch."""
    while _loaded:
        _loaded.pop()._functions.clear()
