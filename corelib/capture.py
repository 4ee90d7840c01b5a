"""Whether the ops of this context are captured: recorded by a tracer instead of run.

While a program is traced, an op on tensors of a device must be recorded too, or its result would be a constant of
the program. So whoever runs an op asks here: ``if capturing:``, which is false, and nearly free, while nothing is
traced in the whole process; then ``captured(x)``, which lifts x to the tracer of this context if there is one.
This module knows neither tensors nor backends but by ``_backend``, ``level`` and ``lift``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# one entry for each trace that is under way, in any thread
capturing: list[Any] = []

_tracer: ContextVar[Any] = ContextVar("corelib_tracer", default=None)


def tracer() -> Any:
    """The tracer of this context, or None."""
    return _tracer.get()


def captured(x: Any) -> Any:
    """``x`` at the level of the tracer of this context, if there is one and x is a tensor of a device; else x itself."""
    found = _tracer.get()
    if found is None or not hasattr(x, "_node") or x._backend.level:
        return x
    return found.lift(x)


@contextmanager
def capture(backend: Any) -> Iterator[Any]:
    """Record the ops of this context on ``backend``, inside a ``with`` block."""
    capturing.append(backend)
    token = _tracer.set(backend)
    try:
        yield backend
    finally:
        _tracer.reset(token)
        capturing.remove(backend)


@contextmanager
def released() -> Iterator[None]:
    """Run the ops of this context as if nothing were traced, inside a ``with`` block."""
    token = _tracer.set(None)
    try:
        yield
    finally:
        _tracer.reset(token)
