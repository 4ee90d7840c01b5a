"""Whose kernel ran: the proof that a result is the backend's own work.

``how`` reads from the slot of the backend's table, which is filled when an op is first called, what stands
there: a kernel of its own, or what the core put in its place. ``watched`` looks on while a backend works alone:
which of its slots are read; whether a slot of another backend is read, or a function of another backend's package
is entered. What no look at Python can tell, such as compiled code copied from another backend, is not claimed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

from ..backend import Backend
from ..binding import bind_and_call
from ..dtypes import DType, float32
from ..op import OPS, Op
from ..registry import registry

NATIVE, COMPOSED, WIDENED, CAST, INHERITED, ELSEWHERE = HOWS = (
    "native", "composed", "widened", "cast", "inherited", "elsewhere",
)  # fmt: skip


def how(op: Op | None, dtype: DType | None, backend: Backend) -> str:
    """How a backend carries out an op on a dtype, as its table says; empty if it has not been called.

    native: a kernel of its own; composed: the op's body; widened: through float32; cast: through the default
    floating dtype; inherited: the kernel of an overlay's base; elsewhere: on another backend.
    """
    if op is None or dtype is None or dtype not in backend.tables:
        return ""
    kernel = backend.tables[dtype][op.index]
    if isinstance(kernel, partial) and kernel.func is bind_and_call:
        return ""
    if getattr(kernel, "composed", False):
        return COMPOSED
    stands_in = getattr(kernel, "how", None)
    if stands_in in HOWS:
        return str(stands_in)
    return INHERITED if hasattr(backend, "base") and backend.kernels.source(op, dtype) is None else NATIVE


class _Seen:
    """A stand-in for the tables of a backend, or for one of them, that notes which slots are read."""

    def __init__(self, inside: Any, seen: list[Any], dtype: Any = None) -> None:
        self.inside, self.seen, self.dtype = inside, seen, dtype

    def __getitem__(self, key: Any) -> Any:
        if self.dtype is None:
            return _Seen(self.inside[key], self.seen, key)
        self.seen.append(key)
        return self.inside[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)


def family_of(backend: Backend) -> list[Backend]:
    """A backend and those whose kernels it inherits."""
    found = [backend]
    while (base := getattr(found[-1], "base", None)) is not None:
        found.append(base)
    return found


def package(x: Any) -> str:
    """The distribution's top-level package that a class, a function or a frame's module belongs to."""
    return str(getattr(x, "__module__", None) or "").partition(".")[0]


@contextmanager
def watched(backend: Backend) -> Iterator[tuple[list[int], list[str]]]:
    """While the block runs: the indices of the ops whose slots of ``backend`` are read, and who else works."""
    own = family_of(backend)
    others = [b for b in registry._instances.values() if b not in own]
    mine = {package(type(b)) for b in own}
    foreign = {package(type(b)): b.device for b in others if package(type(b)) not in mine}
    seen: list[int] = []
    strangers: list[str] = []
    read: dict[str, list[int]] = {b.device: [] for b in others}

    def entered(frame: FrameType, event: str, arg: Any) -> None:
        if (
            event == "call" and not frame.f_code.co_flags & CO_GENERATOR
        ):  # which the collector may close any time
            name = str(frame.f_globals.get("__name__", ""))
            if name.partition(".")[0] in foreign and len(strangers) < 3:
                strangers.append(
                    f"{name}.{frame.f_code.co_qualname}, of backend {foreign[name.partition('.')[0]]!r}"
                )

    before = {b: b.tables for b in (backend, *others)}
    profile = sys.getprofile()
    try:
        for b in others:
            b.tables = _Seen(b.tables, read[b.device])
        backend.tables = _Seen(backend.tables, seen)
        sys.setprofile(entered)
        yield seen, strangers
    finally:
        sys.setprofile(profile)
        for b, tables in before.items():
            b.tables = tables
        strangers += [f"the kernel of {OPS[i[0]].name} of backend {d!r}" for d, i in read.items() if i]


def own_types(backend: Backend) -> set[type]:
    """The classes of a backend's arrays."""
    given = float32.pack((1.0,))
    return {type(backend.from_host(given, shape, float32)) for shape in ((), (1,))}


def is_own(array: Any, types: set[type]) -> bool:
    """Whether an array is of a backend's own classes, or at least of the package that these come from; where
    they come from NumPy, also a scalar of an extension's dtype, which stands for a 0-d array.
    """
    packages = {package(t) for t in types}
    if isinstance(array, tuple(types)) or package(type(array)) in packages:
        return True
    return "numpy" in packages and type(array) is getattr(getattr(array, "dtype", None), "type", None)
