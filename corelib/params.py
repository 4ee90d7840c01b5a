"""Canonical parameters: what a parameter's annotation in an op's signature means, and the one form in which
kernels get it.

Kernels, tracers and batching rules see hashable parameters in one form only: axes as negative integers (a
leading batch axis then changes nothing), shapes without -1, dtypes as DType objects, ``keepdims`` as bool.
The annotation chooses the converter, so that the signature of the ``def`` says all. This module knows
operands only by their ``ndim``, ``size`` and ``dtype``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from . import dtypes
from .dtypes import as_dtype
from .errors import AxisError, DTypeError, ShapeError

# Annotations with a meaning. `Axis` one axis; `Axes` an axis, several, or None for all; `Shape` a shape;
# `NewShape` a shape for as many elements as x has, one -1 allowed; `Permutation` all axes in a new order;
# `DTypeLike` anything that names a dtype; `Accumulator` the dtype a sum is accumulated in (None: the
# standard's default). What does not reach kernels: `Device` selects the backend on which an op without
# operands creates, `Target` the one to which an op moves its operand first; `Copy` and `Stable` are accepted
# for the standard's sake (tensors are values, and every sort is stable).
Axis: TypeAlias = int
Axes: TypeAlias = "int | tuple[int, ...] | None"
Shape: TypeAlias = "int | Sequence[int]"
NewShape: TypeAlias = "int | Sequence[int]"
Permutation: TypeAlias = "Sequence[int]"
DTypeLike: TypeAlias = Any
Accumulator: TypeAlias = Any
Device: TypeAlias = Any
Copy: TypeAlias = Any
Stable: TypeAlias = bool
Target: TypeAlias = Any
Scalar: TypeAlias = bool | int | float | complex
DROPPED = ("Copy", "Device", "Stable", "Target")


def _tensor(op: Any, x: Any) -> Any:
    if not hasattr(x, "_backend"):
        raise DTypeError(not_a_tensor(op, op.operands[0] if op.operands else "x", x))
    return x


def not_a_tensor(op: Any, name: str, x: Any) -> str:
    """The sentence for an operand that is neither a tensor nor a Python scalar."""
    return f"{op.name}: {name} must be a Tensor, got {type(x).__module__}.{type(x).__qualname__}: call corelib.asarray(...)"


class Caller:
    """Stands for an op in the messages of a public function that is none: its name, and its first operand's."""

    __slots__ = ("name", "operands")

    def __init__(self, name: str) -> None:
        self.name, self.operands = name, ("x",)


def checked(name: str, x: Any, argument: str = "x") -> tuple[int, ...]:
    """The shape of x, which must be a Tensor; the DTypeError names the function ``name`` and its
    ``argument``.
    """
    if not hasattr(x, "_backend"):
        raise DTypeError(not_a_tensor(Caller(name), argument, x))
    return x.shape


def checked_axis(name: str, x: Any, axis: Any, argument: str = "x") -> int:
    """``axis`` of x as a negative integer; errors name the function ``name``."""
    return normalize_axis(Caller(name), "axis", axis, len(checked(name, x, argument)))


def several(op: Any, arrays: Any) -> tuple[Any, ...]:
    """A sequence of tensors as a tuple; errors name ``op``."""
    if not isinstance(arrays, Iterable):
        raise DTypeError(f"{op.name}: arrays must be a sequence of tensors, got {arrays!r}")
    arrays = tuple(arrays)
    for position, x in enumerate(arrays):
        if not hasattr(x, "_backend"):
            raise DTypeError(not_a_tensor(op, f"arrays[{position}]", x))
    return arrays


def as_integer(op: Any, name: str, value: Any) -> int:
    """``value`` as a Python integer, or DTypeError."""
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{op.name}: {name} must be an integer, got {value!r}") from None


def normalize_axis(op: Any, name: str, value: Any, ndim: int) -> int:
    """``value`` as a negative axis of ``ndim`` axes, or AxisError."""
    axis = as_integer(op, name, value)
    if not -ndim <= axis < ndim:
        raise AxisError(f"{op.name}: {name} {axis} is out of range for {ndim} dimension{'s' * (ndim != 1)}")
    return axis if axis < 0 else axis - ndim


def _axis(op: Any, name: str, value: Any, x: Any) -> int | None:
    return None if value is None else normalize_axis(op, name, value, _tensor(op, x).ndim)


_KNOWN_AXES: dict[tuple[Any, int], tuple[int, ...]] = {}  # canonicalising takes 1 us, looking up 0.1 us


def _axes(op: Any, name: str, value: Any, x: Any) -> tuple[int, ...]:
    ndim = _tensor(op, x).ndim
    kind = value.__class__
    if kind is int or value is None:
        axes = _KNOWN_AXES.get((value, ndim))
        if axes is None:
            axes = _KNOWN_AXES[value, ndim] = _canonical_axes(op, name, value, ndim)
        return axes
    return _canonical_axes(op, name, value, ndim)


def _canonical_axes(op: Any, name: str, value: Any, ndim: int) -> tuple[int, ...]:
    if value is None:
        return tuple(range(-ndim, 0))
    if not isinstance(value, tuple | list):
        return (normalize_axis(op, name, value, ndim),)
    axes = tuple(sorted(normalize_axis(op, name, v, ndim) for v in value))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op.name}: {name} {tuple(value)} names an axis twice")
    return axes


def as_shape(op: Any, name: str, value: Any, x: Any = None) -> tuple[int, ...]:
    """A shape as a tuple of non-negative integers, or ShapeError."""
    shape = tuple(as_integer(op, name, v) for v in (value if isinstance(value, tuple | list) else (value,)))
    for size in shape:
        if size < 0:
            raise ShapeError(f"{op.name}: {name} {shape} has a negative size")
    return shape


def _new_shape(op: Any, name: str, value: Any, x: Any) -> tuple[int, ...]:
    shape = tuple(as_integer(op, name, v) for v in (value if isinstance(value, tuple | list) else (value,)))
    old, size = _tensor(op, x).shape, math.prod(x.shape)
    if -1 in shape:
        known = -math.prod(shape) if shape.count(-1) == 1 else 0
        if known > 0 and size % known == 0:
            shape = tuple(size // known if s == -1 else s for s in shape)
    if min(shape, default=0) < 0 or math.prod(shape) != size:
        raise ShapeError(
            f"{op.name}: shape {shape} does not fit x of shape {old} with {size} element{'s' * (size != 1)}"
        )
    return shape


_KNOWN_PERMUTATIONS: dict[Any, tuple[int, ...]] = {}


def _permutation(op: Any, name: str, value: Any, x: Any) -> tuple[int, ...]:
    ndim = _tensor(op, x).ndim
    key = (value, ndim, *map(type, value)) if value.__class__ is tuple else None  # the types, since 1.0 == 1
    if key in _KNOWN_PERMUTATIONS:
        return _KNOWN_PERMUTATIONS[key]
    if not isinstance(value, tuple | list):
        raise DTypeError(f"{op.name}: {name} must be a sequence of integers, got {value!r}")
    axes = tuple(normalize_axis(op, name, v, ndim) for v in value)
    if sorted(axes) != list(range(-ndim, 0)):
        raise ShapeError(f"{op.name}: {name} {tuple(value)} is not a permutation of the {ndim} axes of x")
    if key is not None and set(key[2:]) <= {int}:
        _KNOWN_PERMUTATIONS[key] = axes
    return axes


def _dtype(op: Any, name: str, value: Any, x: Any) -> Any:
    return None if value is None else as_dtype(value)


def _accumulator(op: Any, name: str, value: Any, x: Any) -> Any:
    dtype = _tensor(op, x).dtype
    if value is not None:
        wanted = as_dtype(value)
        if (
            wanted.kind == "bool"
            or dtype.kind == "float"
            and wanted.kind not in ("float", "complex")
            or dtype.kind == "complex"
            and wanted.kind != "complex"
        ):  # is each element cut off, or the sum?
            raise DTypeError(
                f"{op.name}: {name} {wanted.name} cannot accumulate {dtype.name}: call x.astype(corelib.{wanted.name}) before, or after"
            )
        return wanted
    return (
        dtypes.default_dtype({"bool": "int"}.get(dtype.kind, dtype.kind))
        if dtype.kind in ("bool", "int", "uint")
        else dtype
    )


def _bool(op: Any, name: str, value: Any, x: Any) -> bool:
    return bool(value)


def _int(op: Any, name: str, value: Any, x: Any) -> int | None:
    return None if value is None else as_integer(op, name, value)


def _float(op: Any, name: str, value: Any, x: Any) -> float | None:
    if value.__class__ is float or value is None:
        return value
    try:
        if isinstance(value, str):  # which float() would read
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise DTypeError(f"{op.name}: {name} must be a number, got {value!r}") from None


CANONICAL: dict[str, Callable[[Any, str, Any, Any], Any]] = {
    "Axis": _axis, "Axes": _axes, "Shape": as_shape, "NewShape": _new_shape, "Permutation": _permutation,
    "DTypeLike": _dtype, "Accumulator": _accumulator, "bool": _bool, "int": _int, "float": _float,
}  # fmt: skip
