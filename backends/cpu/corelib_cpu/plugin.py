"""Declares the cpu backend; imports nothing heavy."""

from __future__ import annotations

from corelib.plugin_api import BackendInfo, hookimpl


@hookimpl
def declare_backend() -> BackendInfo:
    return BackendInfo(
        name="cpu",
        summary="NumPy arrays; kernels compiled by LLVM, with SIMD and threads",
        load="corelib_cpu.backend:CpuBackend",
        requires=("numpy", "llvmlite"),
        install_hint="pip install numpy llvmlite",
        priority=10,
    )
