"""CUDA C++ to machine code, by NVRTC alone: neither a driver, nor a device, nor CuPy is needed.

CuPy's own compilation appends ``-ftz=true``, which flushes subnormal numbers to zero; compiling ourselves is
how the numeric contract is kept, and how every kernel is compiled by the tests on a machine without a GPU.
This module knows nothing of corelib's kernels.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import re
import sys
from collections.abc import Sequence

# All the flags there are, for production and for the tests. The last three are the defaults, spelled out
# because the numeric contract rests on them: subnormals are kept, division and square root are correctly
# rounded. --fmad stays on: a kernel in which a fused multiply-add would change a contracted result says so
# with __dmul_rn.
FLAGS = (
    "--std=c++17",
    "--device-as-default-execution-space",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
)


class CompilationError(RuntimeError):
    """NVRTC refused a source; the message is its log."""


def find_library(prefer_major: int | None = None) -> str | None:
    """Path of ``libnvrtc``: from NVIDIA's wheels, a toolkit, or the system's loader, in this order.

    ``prefer_major`` is the CUDA version of the driver's side (CuPy's): code of a newer compiler may be
    refused there.
    """
    patterns = []
    for root in sys.path:
        patterns.append(os.path.join(root, "nvidia", "cu[0-9]*", "lib", "libnvrtc.so.*"))
        patterns.append(os.path.join(root, "nvidia", "cuda_nvrtc", "lib", "libnvrtc.so.*"))
        patterns.append(os.path.join(root, "nvidia", "*", "bin", "**", "nvrtc64_*.dll"))
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        if os.environ.get(variable):
            patterns.append(os.path.join(os.environ[variable], "lib*", "libnvrtc.so.*"))
            patterns.append(os.path.join(os.environ[variable], "bin", "**", "nvrtc64_*.dll"))
    patterns += ["/usr/local/cuda/lib64/libnvrtc.so.*", "/usr/lib/*/libnvrtc.so.*"]
    found = [
        path
        for pattern in patterns
        for path in sorted(glob.glob(pattern, recursive=True))
        if ".alt." not in path
    ]
    for path in found:
        if prefer_major is None or _major(path) == prefer_major:
            return path
    if found:
        return found[0]
    return _loadable(prefer_major)


def _major(path: str) -> int:
    """``libnvrtc.so.13`` and ``nvrtc64_130_0.dll`` are of CUDA 13."""
    match = re.search(r"\.so\.(\d+)|nvrtc64_(\d+)\d_", os.path.basename(path))
    return int(match[1] or match[2]) if match else 0


def _loadable(prefer_major: int | None) -> str | None:
    for major in dict.fromkeys((prefer_major or 13, 13, 12)):
        name = f"libnvrtc.so.{major}"
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


def trimmed(log: str, lines: int = 20) -> str:
    """The beginning of a compiler's log, where the cause stands."""
    found = log.splitlines()
    more = len(found) - lines
    return "\n".join([*found[:lines], *([f"... and {more} lines more"] if more > 0 else [])])


class Compiler:
    """One loaded ``libnvrtc``."""

    def __init__(self, path: str) -> None:
        # The builtins lie beside the library and are opened by it by name: loading them first makes that work
        # from a folder which the system's loader does not know.
        for builtins in glob.glob(os.path.join(os.path.dirname(path), "libnvrtc-builtins.so.*")):
            ctypes.CDLL(builtins, mode=ctypes.RTLD_GLOBAL)
        self.path = path
        self._library = ctypes.CDLL(path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        architectures = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(architectures))
        self.architectures = sorted(architectures)

    def _check(self, status: int) -> None:
        if status:
            raise CompilationError(f"NVRTC: {self._library.nvrtcGetErrorString(status).decode()}")

    def target(self, capability: int) -> tuple[str, str]:
        """(flag, kind of image) for a device: machine code for itself, or else PTX which its driver will
        translate.
        """
        if capability in self.architectures:
            return f"--gpu-architecture=sm_{capability}", "CUBIN"
        older = [a for a in self.architectures if a < capability]
        if not older:
            raise CompilationError(
                f"NVRTC {self.version[0]}.{self.version[1]} supports compute capability "
                f"{self.architectures[0] / 10} and newer, the device has {capability / 10}: install an older CUDA"
            )
        return f"--gpu-architecture=compute_{older[-1]}", "PTX"

    def compile(
        self, source: str, capability: int, name: str = "kernel.cu", flags: Sequence[str] = ()
    ) -> tuple[bytes, str]:
        """(image, log) of a source for one compute capability, for example 90."""
        library, program = self._library, ctypes.c_void_p()
        target, kind = self.target(capability)
        options = [flag.encode() for flag in (target, *FLAGS, *flags)]
        self._check(
            library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        )
        try:
            status = library.nvrtcCompileProgram(
                program, len(options), (ctypes.c_char_p * len(options))(*options)
            )
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                raise CompilationError(
                    f"{name}: {library.nvrtcGetErrorString(status).decode()}\n{trimmed(log)}"
                )
            return self._read(program, kind), log
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw


@functools.cache
def compiler(prefer_major: int | None = None) -> Compiler:
    """The compiler of this process, loaded at first use."""
    path = find_library(prefer_major)
    if path is None:
        raise CompilationError(
            "the CUDA compiler NVRTC was not found: it comes with the CUDA toolkit, or by "
            "`pip install nvidia-cuda-nvrtc` (CUDA 13), `pip install nvidia-cuda-nvrtc-cu12` (CUDA 12)"
        )
    return Compiler(path)
