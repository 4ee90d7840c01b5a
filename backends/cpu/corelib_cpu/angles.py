"""sin, cos and tan of large float64 numbers, reduced exactly.

C libraries know pi to so many digits that the remainder of a large angle is right to about 100 bits. Beside a multiple
of pi/2 most of these cancel, and up to 8 bits of a result such as 1e-17 are wrong. Such results, one in a million, are
computed again, with integers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

LARGE, SMALL = (
    2.0**26,
    2.0**-20,
)  # angles that libraries reduce with care; results of which 20 bits have cancelled
BITS = 1200  # of pi/2: 1024 for the largest number, and 176 more


@functools.cache
def half_pi() -> int:
    """pi/2 times 2**BITS, by Machin's formula."""
    inverse_tangent = lambda n: sum(
        (-1) ** k * (1 << BITS + 20) // ((2 * k + 1) * n ** (2 * k + 1)) for k in range(BITS // 4)
    )
    return (8 * inverse_tangent(5) - 2 * inverse_tangent(239)) >> 20


def reduced(x: float) -> tuple[int, float]:
    """n modulo 4 and x - n pi/2, for the n that makes it least."""
    above, below = x.as_integer_ratio()
    n, rest = divmod((above << BITS) // below + half_pi() // 2, half_pi())
    return n & 3, (rest - half_pi() // 2) / (1 << BITS)


def sin(x: float) -> float:
    n, r = reduced(x)
    return (math.sin(r), math.cos(r), -math.sin(r), -math.cos(r))[n]


def cos(x: float) -> float:
    n, r = reduced(x)
    return (math.cos(r), -math.sin(r), -math.cos(r), math.sin(r))[n]


def tan(x: float) -> float:
    n, r = reduced(x)
    return -1 / math.tan(r) if n & 1 else math.tan(r)


def careful(function: Any, exact: Callable[[float], float]) -> Callable[..., ndarray]:
    """A function of NumPy's, with the results of ``exact`` for large angles where digits cancel."""

    def computed(x: ndarray, out: ndarray | None = None) -> ndarray:
        r = np.asarray(function(x, out))
        if any_large(x):
            size = np.abs(r)
            cancelled = (np.abs(x) > LARGE) & ((size < SMALL) | (size > 1 / SMALL)) & (size < np.inf)
            for place in map(tuple, np.argwhere(cancelled)):
                r[place] = exact(float(x[place]))
        return r

    return computed


def any_large(x: ndarray) -> bool:
    """Whether an element may be above LARGE, or is NaN: by one pass that costs little beside a sine."""
    if x.size < 1024:
        return not np.vdot(x, x) <= LARGE**2
    return not (-LARGE <= x.min() and x.max() <= LARGE)


def widened(function: Any) -> Callable[..., ndarray]:
    """A function of NumPy's for float32, computed in float64."""

    def computed(x: ndarray, out: ndarray | None = None) -> ndarray:
        out = np.empty(x.shape, x.dtype) if out is None else out
        return np.asarray(function(x, out, dtype=np.float64, casting="same_kind"))

    return computed
