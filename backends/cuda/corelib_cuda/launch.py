"""Sources to loaded functions: assemble, compile once, keep on disk, load per device, launch.

A kernel is an entry point in a source that is made of a ``.cu`` file beside this module and a few generated
lines. It is compiled at its first launch (tens of milliseconds) and found on disk ever after. This module,
`device()` and `cupy()` included, is the only one that knows how CuPy is reached.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from corelib.plugin_api import errors

from . import nvrtc

FOLDER = Path(__file__).parent
THREADS = 256
MAX_BLOCKS = 2**31 - 1

log = logging.getLogger("corelib.cuda")
# while a graph is captured: what must turn out not to be negative once it has run, see graphs.py
deferred: ContextVar[list[Any] | None] = ContextVar("corelib_cuda_deferred", default=None)


@functools.cache
def cupy() -> Any:
    """The module ``cupy``, imported at first use: importing this package must work, and be quick, without it."""
    import cupy

    return cupy


def raising() -> Any:
    """A context in which CuPy's linear algebra looks whether cuSOLVER succeeded, and raises if it did not: it
    asks the device, and therefore does so only where it is told to.
    """
    return importlib.import_module("cupyx").errstate(linalg="raise")


def has_geev() -> bool:
    """Whether CuPy and cuSOLVER can compute eigenvalues of matrices that are not Hermitian."""
    if not hasattr(cupy().linalg, "eig"):  # before CuPy 14
        return False
    return bool(importlib.import_module("cupyx.cusolver").check_availability("geev"))


# ------------------------------------------------------------------------------------------------------------ sources


@functools.cache
def text(file: str) -> str:
    """The text of a ``.cu`` file with its ``#include "..."`` of our own files inserted."""
    lines = (FOLDER / file).read_text(encoding="utf-8")
    insert = lambda match: f'{text(match[1])}\n#line {lines[: match.start()].count(chr(10)) + 2} "{file}"'
    return f'#line 1 "{file}"\n' + re.sub(
        r'^#include "(.+)"$', insert, lines.replace("#pragma once", ""), flags=re.MULTILINE
    )


def source(file: str, entries: Iterable[str]) -> str:
    """A complete source: the templates of ``file`` and the entry points."""
    return "\n".join([text(file), '#line 1 "entries"', *entries, ""])


# ------------------------------------------------------------------------------------------------------- compilation


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``CORELIB_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("CORELIB_CACHE_DIR")
    if chosen:
        return Path(chosen) / "cuda"
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "corelib" / "cuda"


def build(code: str, capability: int, flags: tuple[str, ...] = ()) -> str:
    """Path of the compiled image of ``code`` for a compute capability; compiled if it is not on disk yet."""
    compiler = nvrtc.compiler(cuda_major())
    identity = repr((code, (*nvrtc.FLAGS, *flags), compiler.target(capability), compiler.version))
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder = cache_folder()
    path = folder / f"{name}.{compiler.target(capability)[1].lower()}"
    if path.exists():
        return str(path)
    start = time.perf_counter()
    image, _ = compiler.compile(code, capability, flags=flags)
    log.debug(
        "compiled for compute capability %d in %.0f ms", capability, 1e3 * (time.perf_counter() - start)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(image)
        os.replace(file.name, path)  # whole or not at all: other processes may look for it now
    except OSError as reason:
        log.warning(
            "the kernel cache %s cannot be written (%s): kernels are compiled in every process",
            folder,
            reason,
        )
        with tempfile.NamedTemporaryFile(suffix=path.suffix, delete=False) as file:
            file.write(image)
        return file.name
    return str(path)


def cuda_major() -> int:
    """CUDA's major version on CuPy's side; NVRTC should be of the same."""
    return int(cupy().cuda.runtime.runtimeGetVersion()) // 1000


# ----------------------------------------------------------------------------------------------------------- devices


@functools.cache
def device_count() -> int:
    return int(cupy().cuda.runtime.getDeviceCount())


@functools.cache
def capability(device: int) -> int:
    """Compute capability of a device as one number: 9.0 is 90."""
    return int(cupy().cuda.Device(device).compute_capability)


def current_device() -> int:
    """The device that launches go to. Asking CUDA costs a call, which a machine with one device saves."""
    return 0 if device_count() == 1 else int(cupy().cuda.runtime.getDevice())


# ---------------------------------------------------------------------------------------------------------- launching


class Kernel:
    """One entry point. Calling it launches it; the loaded function is held for each device."""

    __slots__ = ("_functions", "_held", "entry", "file", "flags", "name")

    def __init__(self, file: str, name: str, entry: str = "", flags: tuple[str, ...] = ()) -> None:
        self.file, self.name, self.entry, self.flags = file, name, entry, flags
        self._functions: dict[int, Callable[..., None]] = {}
        self._held: list[Any] = []  # the modules: unloading one would take its functions along

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        device = current_device()
        function = self._functions.get(device)
        if function is None:
            function = self._load(device)
        try:
            function(grid, block, arguments)
        except Exception as error:
            raise explained(error) from error

    def _load(self, device: int) -> Callable[..., None]:
        code, target = source(self.file, [self.entry]), capability(device)
        path = build(code, target, self.flags)
        try:
            module = cupy().RawModule(path=path)
        except Exception as error:
            if fatal(error) is not None:
                raise explained(error) from error
            log.warning("the compiled kernel %s cannot be loaded (%s): compiled again", path, error)
            os.unlink(path)
            module = cupy().RawModule(path=build(code, target, self.flags))
        function = module.get_function(
            self.name
        ).kernel  # the driver's function: RawKernel looks it up at every call
        self._held.append(module)
        self._functions[device] = function
        return function


# After one of these every call on the device fails, and only a new process can use it again. CUDA's two interfaces spell
# them differently: CUDA_ERROR_ILLEGAL_ADDRESS and cudaErrorIllegalAddress.
_FATAL = re.compile(
    "illegal_?address|illegal_?instruction|misaligned_?address|launch_?fail|launch_?timeout|invalid_?pc|error_?assert"
    "|hardware_?stack|ecc_?uncorrectable|invalid_?address_?space",
    re.IGNORECASE,
)


def fatal(error: BaseException) -> str | None:
    """What CUDA says of a failure after which nothing can run on the device; None for any other error."""
    text = str(error)
    return text if _FATAL.search(text.split(":")[0]) else None


def explained(error: Exception) -> Exception:
    """The error to raise for one of CUDA's: in words, if the device has failed."""
    reason = fatal(error)
    if reason is None or isinstance(error, errors.CorelibError):
        return error
    return errors.BackendError(
        f"the CUDA device has failed: {reason}. It was in this op or in one before it, since kernels report late, and nothing "
        "more can run on the device in this process: start another, where `with corelib_cuda.debugging():` names the op"
    )


def reporting(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """``function(...)``, which waits for the device and may learn that it has failed."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        raise explained(error) from error


def blocks_for(threads: int, block: int = THREADS) -> tuple[int]:
    """The grid with at least ``threads`` threads, or the largest there is: such kernels walk on by
    themselves.
    """
    return (min(-(-threads // block), MAX_BLOCKS),)


def on_device(index: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` run with device ``index`` current, whatever device the caller has made current."""
    device = cupy().cuda.Device(index)

    @functools.wraps(function, updated=())
    def bound(*operands: Any, **parameters: Any) -> Any:
        with device:
            return function(*operands, **parameters)

    bound.one_device = function  # type: ignore[attr-defined]
    return bound
