"""corelib: one tensor library, interchangeable backends, and proof that they agree.

The namespace follows the array API standard; :mod:`corelib.nn` and :mod:`corelib.optim` follow PyTorch's
names. Importing it loads neither NumPy nor a backend: those come at first need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import ops
from .autograd import (
    checkpoint,
    custom_gradient,
    enable_grad,
    grad,
    is_grad_enabled,
    no_grad,
    value_and_grad,
    vjp,
)
from .compile import compile
from .dtypes import (
    bfloat16,
    bool,
    can_cast,
    complex64,
    complex128,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    result_type,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .errors import (
    ArgumentError,
    AxisError,
    BackendError,
    BackendNotFoundError,
    CheckpointError,
    CorelibError,
    DTypeError,
    GradientError,
    IndexOutOfBoundsError,
    InterchangeError,
    LinAlgError,
    OutOfMemoryError,
    PluginError,
    ShapeError,
    TraceError,
    UnsupportedError,
)
from .numerical import gradcheck, gradgradcheck
from .ops import *  # noqa: F403 - every op's public name, listed in ops.__all__
from .printing import printoptions, set_printoptions
from .registry import (
    backends,
    empty_cache,
    get_backend,
    memory_stats,
    register,
    set_backend,
    synchronize,
    unregister,
    use_backend,
)
from .tensor import VERSIONS, Tensor

if TYPE_CHECKING:
    from types import ModuleType

    from . import data, fft, linalg, nn, optim, quantization, random, train
    from .serialize import load, save
    from .transforms import hessian, hvp, jacfwd, jacrev, jvp, vmap

__version__ = "0.1.0"
__array_api_version__ = VERSIONS[-1]

e = 2.718281828459045
pi = 3.141592653589793
inf = float("inf")
nan = float("nan")
newaxis = None


def __array_namespace_info__() -> ModuleType:  # noqa: N807 - the standard's name
    """Devices, dtypes and limits, as the array API standard asks: the module :mod:`corelib.info`.

    Example: ``corelib.__array_namespace_info__().devices()``.
    """
    from . import info

    return info


_LAZY_MODULES = (
    "conformance",
    "data",
    "fft",
    "linalg",
    "nn",
    "notebook",
    "optim",
    "quantization",
    "random",
    "train",
)
_LAZY = {
    "load": "serialize", "save": "serialize", "draw": "drawing", "watch": "watching",
    **dict.fromkeys(("hessian", "hvp", "jacfwd", "jacrev", "jvp", "vmap"), "transforms"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        return value
    if name in _LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    from .errors import nearest

    raise AttributeError(f"corelib has no attribute {name!r}{nearest(name, globals())}")


__all__ = [
    "ArgumentError", "AxisError", "BackendError", "BackendNotFoundError", "CheckpointError", "CorelibError", "DTypeError", "GradientError", "IndexOutOfBoundsError",
    "InterchangeError", "LinAlgError", "OutOfMemoryError", "PluginError", "ShapeError", "Tensor", "TraceError", "UnsupportedError", "backends", "bfloat16", "bool", "can_cast", "checkpoint", "compile", "complex128", "complex64", "custom_gradient", "data", "e",
    "empty_cache", "enable_grad", "fft", "finfo", "float16", "float32", "float64", "get_backend", "grad", "gradcheck", "gradgradcheck", "hessian", "hvp", "iinfo", "inf", "int16",
    "int32", "int64", "int8", "is_grad_enabled", "isdtype", "jacfwd", "jacrev", "jvp", "linalg", "load", "memory_stats", "nan", "newaxis", "nn", "no_grad", "ops", "optim", "pi", "printoptions", "quantization",
    "random", "register", "result_type", "save", "set_backend", "set_printoptions", "synchronize", "train", "uint16", "uint32", "uint64", "uint8", "unregister", "use_backend",
    "value_and_grad", "vjp", "vmap",
    *ops.__all__,
]  # fmt: skip
