"""The exceptions of corelib: one class for one kind of mistake, the same on every backend.

Each class derives from :class:`CorelibError` and from the built-in exception that a Python programmer would
expect, so ``except ValueError`` and ``except corelib.CorelibError`` both work. Messages name the op, what it
got, what it needs and what to do. This module knows nothing else of corelib.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CorelibError(Exception):
    """Base of every exception that corelib raises on purpose."""


class ShapeError(CorelibError, ValueError):
    """Shapes or axes that do not fit the op."""


class AxisError(ShapeError, IndexError):
    """An axis that the operand does not have."""


class DTypeError(CorelibError, TypeError):
    """A dtype that the op does not accept, or dtypes that do not promote."""


class ArgumentError(CorelibError, ValueError):
    """An argument whose value is none of those that are allowed."""


class IndexOutOfBoundsError(CorelibError, IndexError):
    """An index outside the axis it addresses."""


class OutOfMemoryError(CorelibError, MemoryError):
    """A result that is larger than the device can hold."""


class GradientError(CorelibError, RuntimeError):
    """A derivative that was asked for and does not exist, or a graph that was freed."""


class BackendError(CorelibError, RuntimeError):
    """Operands on different backends, or a backend that cannot do what it was asked."""


class BackendNotFoundError(BackendError, LookupError):
    """No backend of that name is registered, or it cannot be used here."""


class UnsupportedError(BackendError, NotImplementedError):
    """The backend has no kernel for this op and dtype."""


class PluginError(BackendError):
    """A plugin broke the contract: it failed to load, or declared something twice or wrongly."""


class DeclarationError(CorelibError, TypeError):
    """An op was declared incompletely or inconsistently; raised while its module is imported."""


class TraceError(CorelibError, RuntimeError):
    """A function that cannot be compiled as it is: it reads a value, or does what a recorded program cannot repeat."""


class LinAlgError(CorelibError, ValueError):
    """A matrix without the decomposition or solution that was asked for: singular, not positive definite."""


class InterchangeError(CorelibError, ValueError, BufferError):
    """Memory that cannot be exchanged with another library, or only by the copy that ``copy=False`` forbids."""


class CheckpointError(CorelibError, ValueError):
    """A file that is truncated, foreign, or belongs to another model."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'cpu'?`` for a misspelt name, or an empty string."""
    close = difflib.get_close_matches(str(name), sorted(set(names)), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(n) for n in close)}?" if close else ""
