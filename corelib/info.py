"""What ``corelib.__array_namespace_info__()`` gives: devices, dtypes and limits, as the array API standard asks.

Only the standard's dtypes are listed. float16 and bfloat16 are an extension of it: see docs/array-api.md.
"""

from __future__ import annotations

from typing import Any

from . import dtypes as types
from .dtypes import DType, default_dtype, isdtype
from .registry import registry

STANDARD = (*types.BOOLEAN, *types.INTEGER, *types.FLOATING, *types.COMPLEX)


def capabilities() -> dict[str, Any]:
    """What the namespace can do, on every device.

    "max dimensions" is what all backends have in common: the memory of cuda is CuPy's, whose arrays have 32
    dimensions at most.
    """
    return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 32}


def default_device() -> str:
    """The device on which tensors are created now: ``get_backend()``."""
    return registry.current().device


def devices() -> tuple[str, ...]:
    """Every device that can be used here, the default first, then by name."""
    found = [device for status in registry.status() if status.usable for device in status.devices]
    return tuple(sorted(found, key=lambda device: device != default_device()))


def default_dtypes(*, device: Any = None) -> dict[str, DType]:
    """The default dtype of each kind: float32, complex64 (unless the backend lacks complex dtypes), int64, and int64
    for indices.
    """
    names = {"real floating": "float", "complex floating": "complex", "integral": "int", "indexing": "int"}
    available = dtypes(device=device).values()
    return {kind: default_dtype(name) for kind, name in names.items() if default_dtype(name) in available}


def dtypes(*, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, DType]:
    """The standard's dtypes that a device has, by name; only those of ``kind``, a name or a tuple of names as
    :func:`corelib.isdtype` takes them.
    """
    backend = registry.current() if device is None else registry.get(device)
    lacking = () if backend.info is None else backend.info.lacks
    return {
        dtype.name: dtype
        for dtype in STANDARD
        if dtype.kind not in lacking and (kind is None or isdtype(dtype, kind))
    }


__all__ = ["capabilities", "default_device", "default_dtypes", "devices", "dtypes"]
