"""The class: memory in and out, and which kernel serves which dtype."""

from functools import partial

import numpy as np
import torch

from corelib import dlpack
from corelib.plugin_api import Backend

from . import annex_g, unsigned  # noqa: F401 - annex_g adds kernels
from .kernels import kernels, native


class TorchBackend(Backend):
    """Arrays are `torch.Tensor` in the host's memory."""

    kernels = kernels

    def describe(self):
        return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"

    def from_host(self, buffer, shape, dtype):
        array = torch.empty(shape, dtype=native[dtype])
        array.reshape(-1).view(torch.uint8).numpy()[:] = np.frombuffer(buffer, np.uint8)
        return array

    def to_host(self, array):
        bits = array.view(torch.int16) if array.dtype is torch.bfloat16 else array
        return bits.contiguous().numpy()

    def owns(self, array):
        """PyTorch counts references: to a storage, here from the tensor and `storage`; and to a tensor."""
        storage = array.untyped_storage()
        alone = torch._C._storage_Use_Count(storage._cdata) == 2 and array._use_count() == 1
        return alone and storage.resizable()  # which memory of others is not

    def dlpack(self, array):
        return array if array.dtype is torch.bfloat16 else array.numpy()

    def from_dlpack(self, source):
        if dlpack.place(source.__dlpack_device__())[0] != dlpack.CPU:
            return None
        if not isinstance(source, torch.Tensor):
            array = dlpack.host_array(source)
            if min(array.strides, default=0) < 0 or array.ctypes.data % array.itemsize:
                return None  # negative strides, or elements that are not aligned, end the process in PyTorch 2.13
        return torch.from_dlpack(source)

    def find(self, op, dtype):
        kernel = unsigned.find(op, dtype) or super().find(op, dtype)
        scalars = kernel and op.kind == "elementwise" and len(op.operands) > 1
        return partial(with_tensors, kernel, native[dtype]) if scalars else kernel


def with_tensors(kernel, dtype, *operands):
    """Python scalars as tensors without axes, which PyTorch's functions take everywhere."""
    tensor = lambda x: x if isinstance(x, torch.Tensor) else torch.full((), x, dtype=dtype)
    return kernel(*map(tensor, operands))
