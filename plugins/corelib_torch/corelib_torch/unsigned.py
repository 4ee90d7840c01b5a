"""uint16, uint32 and uint64, which PyTorch stores and hardly computes with: by way of the signed integers.

Sums and products modulo 2^n have the same bits, and where elements are only moved nothing else counts. Order is that
of the signed integers after the first bit is turned over. For the rest there is NumPy, on the same memory.
"""

from functools import partial

import numpy as np
import torch

from corelib import dtypes, ops
from corelib.plugin_api import KernelSet

from .kernels import SIGNED, kernels, native, signed

ORDERED = {"less", "less_equal", "greater", "greater_equal", "maximum", "minimum", "max", "min", "sort"}
PLACING = {"argmax", "argmin", "argsort", "searchsorted"}  # int64 results, which are not uint64


@np.errstate(all="ignore")
def by_numpy(function, *operands):
    return torch.from_numpy(np.asarray(function(*[x.numpy() for x in operands])))


own = KernelSet()
for name in ["floor_divide", "remainder", "pow", "bitwise_right_shift", "sign"]:
    own.add(getattr(ops, name), partial(by_numpy, getattr(np, name)))
for name in ["abs", "floor", "ceil", "trunc", "round"]:
    own.add(getattr(ops, name), lambda x: x)


def find(op, dtype):
    """The kernel of an op for one of these dtypes; None for any other dtype."""
    if native.get(dtype) not in SIGNED:
        return None
    if "dtype" in op.params:  # such a kernel gives other dtypes too, and knows what to do
        return kernels.get(op, dtype)
    kernel = kernels.get(op, getattr(dtypes, f"int{dtype.bits}"))
    return own.get(op, dtype) or (kernel and partial(by_bits, kernel, op.name, native[dtype]))


def by_bits(kernel, name, outside, *operands, **params):
    """A kernel of the signed integers on operands of the unsigned dtype ``outside``."""
    first = torch.iinfo(SIGNED[outside]).min if name in ORDERED | PLACING else None
    turned = lambda x: x if first is None else x ^ first
    result = kernel(*[turned(signed(x)) if x.dtype is outside else x for x in operands], **params)
    if name in PLACING or name == "nonzero" or result.dtype is not SIGNED[outside]:
        return result
    return turned(result).view(outside)
