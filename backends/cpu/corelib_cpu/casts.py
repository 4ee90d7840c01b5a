"""Casts between dtypes. Floats to integers truncate and saturate; every result is rounded once.

float16 and bfloat16 are cast from and to float32; to get there from a double or a long integer, that is rounded to odd:
to the neighbour whose last bit is set, unless it is exact. No such number is a tie of a shorter dtype, so that the
second rounding gives what one alone would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from . import elementwise, native
from .loops import Expression, Loop
from .quiet import named, quiet

Cast = Callable[[ndarray], ndarray]
HALF = ("float16", "bfloat16")


def make_astype(source_name: str) -> Callable[..., ndarray]:
    """The kernel of ``astype`` for operands of one dtype."""
    casts: dict[str, Cast] = {}

    def astype(x: ndarray, /, *, dtype: Any) -> ndarray:
        found = casts.get(dtype.name)
        if found is None:
            found = casts[dtype.name] = cast(source_name, dtype.name)
        return found(x)

    return astype


def cast(source: str, target: str) -> Cast:
    """The cast from one dtype to another, by their names."""
    if source == target:
        return lambda x: x.view()
    if source in HALF:
        return (
            _loop(f"from_{source}(x)", source, target)
            if target == "float32"
            else _by("float32", source, target)
        )
    if target in HALF:
        if source == "float32":
            return _loop(f"to_{target}(x)", source, target)
        if source == "float64":
            return _from_double(target)
        if source in ("int64", "uint64"):
            text = f"to_{target}(odd_float32(odd_float64(x, {source}(2047), {source}(2048))))"
            return _loop(text, source, target, _chain(_odd_double, cast("float64", target)))
        return _by("float64" if source in ("int32", "uint32") else "float32", source, target)
    kind, goal = named(source), named(target)
    if goal.kind == "c":
        part = goal.type(0).real.dtype.name
        text = (
            f"complex({part}(x.real), {part}(x.imag))"
            if kind.kind == "c"
            else f"complex({part}(x), {part}(0))"
        )
        return _loop(text, source, target)
    if kind.kind == "f" and goal.kind in "iu":
        return _loop(f"to_{target}(x)", source, target, _saturating(goal))
    return _loop(
        f"x != {'0' if source == 'bool' else f'{source}(0)'}" if target == "bool" else f"{target}(x)",
        source,
        target,
    )


def _loop(text: str, source: str, target: str, small: Cast | None = None) -> Cast:
    """NumPy's cast, or ``small``, below the crossover and a compiled loop above it."""
    goal = named(target)
    if "float16" in (source, target) and not native.has_float16():
        return lambda x: quiet(x.astype, goal)
    return elementwise.unary(
        small or (lambda x: x.astype(goal)), Loop(Expression(text), (source,), target), elementwise.CROSSOVER
    )


def _chain(first: Cast, second: Cast) -> Cast:
    return lambda x: second(first(x))


def _by(middle: str, source: str, target: str) -> Cast:
    """The cast by a dtype that holds every number of the source."""
    return _chain(cast(source, middle), cast(middle, target))


def _saturating(target: np.dtype[Any]) -> Cast:
    """NumPy's cast of what is out of range depends on the machine."""
    limits = np.iinfo(target)
    low, above = float(limits.min), float(limits.max) + (0.0 if target.itemsize == 8 else 1.0)

    def cast(x: ndarray) -> ndarray:
        truncated = np.trunc(x)
        inside = (truncated >= low) & (truncated < above)
        r = np.where(inside, truncated, 0).astype(target)
        if not inside.all():
            r = np.where(x >= above, target.type(limits.max), np.where(x < low, target.type(limits.min), r))
        return r

    return cast


def _from_double(target: str) -> Cast:
    goal = named(target)

    def small(x: ndarray) -> ndarray:
        return x.astype(goal) if target == "float16" else _odd_float(x).astype(goal)

    return _loop(f"to_{target}(odd_float32(x))", "float64", target, small)


def _odd_float(x: ndarray) -> ndarray:
    """float64 as float32, rounded to odd."""
    nearest = x.astype(np.float32)
    bits = np.array(nearest.view(np.int32))
    bits -= np.abs(nearest) > np.abs(x)
    bits |= nearest != x
    return bits.view(np.float32)


def _odd_double(x: ndarray) -> ndarray:
    """int64 or uint64 as float64; what that cannot hold without its last 11 bits, and rounded to odd."""
    low = x & x.dtype.type(2047)
    odd = (x - low) | (low != 0).astype(x.dtype) << x.dtype.type(11)
    return np.where(np.abs(x.astype(np.float64)) < 2.0**53, x, odd).astype(np.float64)
