"""Honest backends of unusual make: whatever the suite says against one of them is a false alarm.

``loopback`` keeps every array as bytes, and unpacks and packs them around each kernel of the reference. ``transposed``
is the cpu backend with nothing left in C order: matrices stand in memory column by column, vectors from their end.
``numpy`` is the example plugin of ``plugins/corelib_numpy``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from corelib.backend import BackendInfo, KernelSet, Overlay
from corelib.dtypes import DType, as_dtype
from corelib.hookspecs import hookimpl
from corelib.registry import register, registry

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "corelib_numpy"


class Parcel:
    """An array as bytes in C order."""

    __slots__ = ("content", "dtype", "shape")

    def __init__(self, content: bytes, shape: tuple[int, ...], dtype: DType) -> None:
        self.content, self.shape, self.dtype = content, shape, dtype


class Loopback(Overlay):
    """Each kernel of the base, with bytes for its operands and its results."""

    kernels = KernelSet()

    def find(self, op: Any, dtype: Any) -> Any:
        kernel = self.base.find(op, dtype)
        return kernel and self.through_bytes(kernel)

    def through_bytes(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*operands: Any, **params: Any) -> Any:
            found = kernel(*(self.unpacked(o) if isinstance(o, Parcel) else o for o in operands), **params)
            return tuple(map(self.packed, found)) if isinstance(found, tuple) else self.packed(found)

        return changed

    def unpacked(self, array: Parcel) -> Any:
        return self.base.from_host(array.content, array.shape, array.dtype)

    def packed(self, array: Any) -> Parcel:
        content = memoryview(self.base.to_host(array)).tobytes()
        return Parcel(content, tuple(array.shape), as_dtype(array.dtype))

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Parcel:
        return self.packed(self.base.from_host(buffer, shape, dtype))

    def to_host(self, array: Parcel) -> Any:
        return self.base.to_host(self.unpacked(array))

    def copy(self, array: Parcel) -> Parcel:
        return Parcel(array.content, array.shape, array.dtype)

    def owns(self, array: Parcel) -> bool:
        return False

    def dlpack(self, array: Parcel) -> Any:
        return None

    def from_dlpack(self, source: Any) -> Any:
        return None


class Transposed(Overlay):
    """Each result of the base, laid out anew: axes in the opposite order, a single one backwards."""

    kernels = KernelSet()

    def find(self, op: Any, dtype: Any) -> Any:
        kernel = self.base.find(op, dtype)
        return kernel and self.turning(kernel)

    def turning(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*operands: Any, **params: Any) -> Any:
            found = kernel(*operands, **params)
            return tuple(map(turned, found)) if isinstance(found, tuple) else turned(found)

        return changed

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        return turned(self.base.from_host(buffer, shape, dtype))

    def copy(self, array: Any) -> Any:
        return turned(self.base.copy(array))

    def owns(self, array: Any) -> bool:
        return False


def turned(array: Any) -> Any:
    """The same elements in other memory: of one axis backwards, of several column by column."""
    if array.ndim == 1:
        return array[::-1].copy()[::-1]
    return array.copy(order="F")


def announce(name: str) -> str | None:
    """Make an honest backend known under its name; the reason as a sentence if it cannot be used here."""
    if name == "numpy" and name not in registry.infos:
        sys.path.append(str(PLUGIN))
        register(importlib.import_module("corelib_numpy.plugin"), name)
    if name in MADE and name not in registry.infos:
        module, base = f"{__name__}:{MADE[name].__name__}", "cpu" if name == "transposed" else "reference"
        info = BackendInfo(name, load=module, base=base)
        register(SimpleNamespace(declare_backend=hookimpl(lambda: info)), name)
    from corelib.registry import backends

    status = {s.name: s for s in backends()}.get(name)
    if status is None:
        return f"there is no backend {name!r}"
    return None if status.usable else str(status.reason)


MADE: dict[str, type[Overlay]] = {"loopback": Loopback, "transposed": Transposed}
HONEST = ("reference", "cpu", "numpy", "loopback", "transposed")
