"""What corelib learns of the `cuda` backend before it is needed. Imports nothing heavy, and never CuPy."""

from __future__ import annotations

from corelib.plugin_api import BackendInfo, hookimpl


@hookimpl
def declare_backend() -> BackendInfo:
    return BackendInfo(
        name="cuda",
        load="corelib_cuda.backend:CudaBackend",
        summary="NVIDIA GPUs: our own CUDA kernels, CuPy for memory and launches, cuBLAS, cuSOLVER and cuFFT for matrices and transforms",
        requires=("cupy",),
        install_hint="`pip install corelib[cuda12]` or `pip install corelib[cuda13]`, whichever fits the driver",
        priority=5,
    )
