"""A function that is called again and again with the same arguments, as a program, without anybody asking for it.

An optimizer's step is one: tens of small kernels for each parameter, the same every time. Run op by op a step over four
parameters costs 110 us before any arithmetic, as a program 12 us. Recording takes about 100 ms, so it happens after
some calls, and ever later again if the program does not fit: what differs from step to step stays uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Backend
from ..capture import capturing
from .api import Compiled, _lock, log
from .program import MISS

FIRST = 8  # calls before the first recording
FACTOR = 8  # and how many times as many before each next one
KEPT = 3  # programs


class Repeated:
    """Calls of one function with the same arguments; a copy of one starts anew."""

    __slots__ = ("compiled", "due", "entries")

    def __init__(self) -> None:
        self.compiled: Compiled | None = None
        self.entries: tuple[Any, ...] = ()
        self.due = [FIRST, FIRST]  # calls until the next recording, and until the one after it

    def __reduce__(self) -> Any:
        return Repeated, ()

    def __call__(self, fn: Callable[..., None], backend: Backend, *args: Any) -> None:
        """``fn(backend, *args)``, which returns nothing and reads no value. ``backend``: that of all its tensors."""
        given = (backend, *args)
        if not capturing:
            for entry in self.entries:
                if entry(given, {}) is not MISS:
                    return
            self.due[0] -= 1
            if self.due[0] <= 0 and (entry := self._recorded(fn, given)) is not None:
                entry(given, {}, True)
                return
        fn(*given)

    def _recorded(self, fn: Callable[..., None], given: tuple[Any, ...]) -> Any:
        """A new program; None where the call cannot be recorded, and says by itself why if it is wrong."""
        with _lock:
            self.due = [FACTOR * self.due[1]] * 2
            if self.compiled is None:
                self.compiled = Compiled(fn)
            self.compiled.programs = self.compiled.programs[: KEPT - 1]
            try:
                entry = self.compiled._add(given, {})
            except Exception as error:
                log.debug("%s is run uncompiled: %s", self.compiled.name, error)
                return None
            self.entries = (entry, *self.entries[: KEPT - 1])
            return entry
