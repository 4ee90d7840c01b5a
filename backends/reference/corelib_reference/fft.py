"""Discrete Fourier transforms: X[k] = sum over j of x[j] e**(-2 pi i j k / n).

J. W. Cooley and J. W. Tukey, "An algorithm for the machine calculation of complex Fourier series" (1965): for
n = p m, the transforms of the p sequences x[r::p], each of length m, give all n elements by m transforms of
length p. A prime length is done by the definition if it is small, otherwise by a convolution, by transforms of
a power of two (L. I. Bluestein, 1970). Every root of unity is computed by itself, from an angle of at most an
eighth of a turn, and so the error grows with log n only. All is computed in double precision; complex64 is
rounded once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from corelib.plugin_api import dtypes, ops

from .array import RefArray, elements, lines
from .kernels import kernels
from .rounding import rounding

Line = list[complex]
LONGEST_BY_DEFINITION = 61  # up to here faster than three transforms of a power of two, and more accurate


def root_of_unity(k: int, n: int) -> complex:
    """e**(-2 pi i k / n), each part nearly correctly rounded: multiples of a quarter turn are exact."""
    quarters, rest = divmod(4 * k, n)  # the angle is quarters + rest / n quarter turns
    if 2 * rest <= n:
        angle = math.pi / 2 * rest / n
        z = complex(math.cos(angle), -math.sin(angle))
    else:
        angle = math.pi / 2 * (n - rest) / n
        z = complex(math.sin(angle), -math.cos(angle))
    for _ in range(quarters % 4):
        z = complex(z.imag, -z.real)  # -i z
    return z


@lru_cache(maxsize=64)
def roots_of_unity(n: int) -> Line:
    """Element k is e**(-2 pi i k / n)."""
    return [root_of_unity(k, n) for k in range(n)]


@lru_cache(maxsize=1024)
def smallest_factor(n: int) -> int:
    """The smallest prime that divides n."""
    return next((p for p in range(2, math.isqrt(n) + 1) if n % p == 0), n)


def transform(x: Line) -> Line:
    """The discrete Fourier transform of ``x``."""
    n = len(x)
    p = smallest_factor(n)
    if p == n:
        return by_definition(x) if n <= LONGEST_BY_DEFINITION else by_convolution(x)
    m, roots = n // p, roots_of_unity(n)
    columns = [transform(x[r::p]) for r in range(p)]
    result = [0j] * n
    for k in range(m):
        result[k::m] = transform([roots[r * k] * columns[r][k] for r in range(p)])
    return result


def by_definition(x: Line) -> Line:
    """Sums of n products each."""
    n, roots = len(x), roots_of_unity(len(x))
    return [sum((x[j] * roots[j * k % n] for j in range(1, n)), x[0]) for k in range(n)]


def by_convolution(x: Line) -> Line:
    """Bluestein's: with jk = (j**2 + k**2 - (k - j)**2) / 2 the sum over j becomes a convolution."""
    chirp, response = chirp_of(len(x))
    signal = [a * c for a, c in zip(x, chirp, strict=True)]
    spectrum = transform(signal + [0j] * (len(response) - len(x)))
    product = inverse([a * b for a, b in zip(spectrum, response, strict=True)])
    return [c * z / len(response) for c, z in zip(chirp, product, strict=False)]  # the rest is not needed


@lru_cache(maxsize=64)
def chirp_of(n: int) -> tuple[Line, Line]:
    """The chirp e**(-pi i j**2 / n) for j < n, and the transform of its conjugate for -n < j < n."""
    chirp = [root_of_unity(j * j % (2 * n), 2 * n) for j in range(n)]
    size = 1 << (2 * n - 2).bit_length()  # at least 2n - 1, so that nothing wraps around
    waves = [z.conjugate() for z in chirp]
    return chirp, transform(waves + [0j] * (size - 2 * n + 1) + waves[:0:-1])


def inverse(x: Line) -> Line:
    """The transform with the opposite sign in the exponent, not divided by n."""
    return [z.conjugate() for z in transform([z.conjugate() for z in x])]


# ---- kernels


def _apply(
    x: RefArray, dtype: dtypes.DType, length: int, axis: int, line_function: Callable[[list[Any]], list[Any]]
) -> RefArray:
    """line_function(line), of ``length`` numbers, in place of every line along ``axis``."""
    shape = list(x.shape)
    shape[axis] = length
    data: list[Any] = [0] * elements(tuple(shape))
    for source, target in zip(lines(x.shape, axis), lines(tuple(shape), axis), strict=True):
        data[target] = line_function(x.data[source])
    return RefArray(tuple(shape), dtype, rounding(dtype)(data))


def _fitted(line: list[Any], length: int) -> Line:
    """The first ``length`` elements, zeros where there are none."""
    return [*map(complex, line[:length]), *[0j] * (length - len(line))]


def _divisor(n: int, norm: str, *, forward: bool) -> float:
    """What a sum is divided by: n on the way ``norm`` names, sqrt(n) on both for ``ortho``."""
    return math.sqrt(n) if norm == "ortho" else n if (norm == "forward") is forward else 1


@kernels.implements(ops.fft.fft)
def fft(x: RefArray, /, *, n: int, axis: int, norm: str) -> RefArray:
    """The transform of every line along ``axis``, cropped or padded to n elements."""
    scale = _divisor(n, norm, forward=True)
    return _apply(x, x.dtype, n, axis, lambda line: [z / scale for z in transform(_fitted(line, n))])


@kernels.implements(ops.fft.ifft)
def ifft(x: RefArray, /, *, n: int, axis: int, norm: str) -> RefArray:
    """What fft has transformed."""
    scale = _divisor(n, norm, forward=False)
    return _apply(x, x.dtype, n, axis, lambda line: [z / scale for z in inverse(_fitted(line, n))])


@kernels.implements(ops.fft.rfft)
def rfft(x: RefArray, /, *, n: int, axis: int, norm: str) -> RefArray:
    """The first n // 2 + 1 elements of a real line's transform: the others are their conjugates."""
    scale = _divisor(n, norm, forward=True)

    def half(line: list[float]) -> Line:
        return _real_ends([z / scale for z in transform(_fitted(line, n))[: n // 2 + 1]], n)

    return _apply(x, x.dtype.complex, n // 2 + 1, axis, half)


@kernels.implements(ops.fft.irfft)
def irfft(x: RefArray, /, *, n: int, axis: int, norm: str) -> RefArray:
    """The n real numbers that rfft has transformed; imaginary parts that no real line has are ignored."""
    scale = _divisor(n, norm, forward=False)

    def whole(line: Line) -> list[float]:
        half = _real_ends(_fitted(line, n // 2 + 1), n)
        mirrored = [z.conjugate() for z in half[(n - 1) // 2 : 0 : -1]]
        return [z.real / scale for z in inverse(half + mirrored)]

    return _apply(x, x.dtype.real, n, axis, whole)


def _real_ends(half: Line, n: int) -> Line:
    """Elements 0 and n / 2 (of an even n) without imaginary parts, which a real line's transform has not."""
    ends = {0, n / 2}
    return [complex(z.real, 0.0) if k in ends else z for k, z in enumerate(half)]
