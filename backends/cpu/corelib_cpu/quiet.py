"""Calls NumPy without its floating-point warnings, and without touching the caller's settings.

NumPy keeps its error state in a context variable, so a call inside a context of our own, where everything is
ignored, costs 20 ns; ``numpy.errstate`` costs 800. A context can be entered by one thread at a time: whoever
comes second, which happens only while NumPy has let go of the interpreter lock, uses a new one.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import asarray, ndarray

from corelib.plugin_api import dtypes


def _context() -> contextvars.Context:
    context = contextvars.Context()
    context.run(np.seterr, all="ignore")
    return context


run = _context().run  # raises RuntimeError where another thread is inside: use `guarded` then


def guarded(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Calls in a context that nobody else can be in."""
    return _context().run(function, *arguments, **keywords)


def quiet(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Calls without warnings, from any thread; the result is an array even where it has no dimensions."""
    try:
        result = run(function, *arguments, **keywords)
    except RuntimeError:
        result = guarded(function, *arguments, **keywords)
    return result if result.__class__ is ndarray else asarray(result)


def named(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype of a name, bfloat16 included."""
    return dtypes.as_dtype(dtype).numpy


def scalar(value: Any, dtype: np.dtype[Any]) -> ndarray:
    """A Python number as an array without dimensions; what is too large for the dtype becomes infinite, silently."""
    if dtype.kind == "V":  # bfloat16, to which NumPy knows no way from a double but that by float32
        value = dtypes.bfloat16.round(float(value))
    return guarded(asarray, value, dtype)


class Scalars:
    """Python numbers as arrays of one dtype without dimensions: converting one costs more than the kernel
    (190 ns).
    """

    __slots__ = ("_dtype", "_known")

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._known = dtype, dict[Any, ndarray]()

    def __call__(self, value: Any) -> ndarray:
        # 0.0 and -0.0 are equal, and so are complex numbers with one or the other
        key = value if value and value.__class__ is not complex else str(value)
        found = self._known.get(key)
        if found is None:
            found = scalar(value, self._dtype)
            found.flags.writeable = False
            if len(self._known) >= 256:
                self._known.clear()
            self._known[key] = found
        return found
