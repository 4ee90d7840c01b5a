"""Where functions of complex numbers are hard to compute: the operands of their golden vectors.

As for real functions (``golden_points``), and: parts of very different size, both sides of branch cuts at the smallest
distance, circles on which the real part of a logarithm vanishes, results of which one part overflows or underflows.
No operand but a whole exponent of pow has a zero part: what the sign of a zero chooses stands in the tables of special
values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from golden_points import Points
from mpmath import mp, mpc

from corelib.dtypes import DType

Operands = tuple[complex, ...]


class Plane(Points):
    """Draws complex numbers."""

    def __init__(self, name: str, dtype: DType) -> None:
        super().__init__(name, dtype)
        self.signs = itertools.cycle([(1, 1), (-1, 1), (-1, -1), (1, -1)])

    def point(self, re: int, im: int) -> complex:
        """A number with parts of these exponents, its quadrant the next one."""
        s, t = next(self.signs)
        clipped = [min(max(e, self.bottom), self.top - 1) for e in (re, im)]
        return complex(s * self.number(clipped[0]), t * self.number(clipped[1]))

    def plane(self, count: int, low: int, high: int) -> list[complex]:
        """Numbers whose larger part's exponent is spread over [low, high), and whose smaller part is up to 2**-digits of it,
        sometimes far less.
        """
        found = []
        for i in range(count):
            large = low + (high - low) * i // count
            small = (
                large - self.random.randrange(self.digits)
                if i % 4
                else self.random.randrange(self.bottom, large + 1)
            )
            found.append(self.point(*((large, small) if i % 2 else (small, large))))
        return found

    def box(self, count: int, re: float, im: float) -> list[complex]:
        """Numbers with parts in [-re, re] and [-im, im]."""
        columns = self.uniform(count, -re, re), self.uniform(count, -im, im)
        self.random.shuffle(columns[1])
        return [complex(a, b) for a, b in zip(*columns, strict=True)]

    def around(self, *centres: Any) -> list[complex]:
        """For each centre numbers at distances from 1/4 to a step of the dtype, and the nearest number, if it has no zero part."""
        found = []
        for centre in centres:
            c = complex(self.nearest(mpc(centre).real), self.nearest(mpc(centre).imag))
            for e in (-2, -5, -self.digits // 4, -self.digits // 2, -3 * self.digits // 4, 1 - self.digits):
                by = self.point(e, e - self.random.randrange(3))
                found.append(complex(self.dtype.round(c.real + by.real), self.dtype.round(c.imag + by.imag)))
            found += [c, complex(c.real, self.tiny), complex(self.tiny, c.imag)]
        return [z for z in found if z.real and z.imag]

    def rounded(self, z: Any) -> complex:
        """The nearest number."""
        return complex(self.nearest(z.real), self.nearest(z.imag))


def _exp(p: Plane) -> list[complex]:
    high, low = float(mp.log(p.dtype.max)), float(mp.log(p.tiny))
    angles = p.near(mp.pi / 4, mp.pi / 2, 3, steps=(0,))
    over = [complex(p.nearest(high + by), t) for by in (-0.5, 0.2, 3, 40) for t in angles]
    under = [complex(p.nearest(low + by), t) for by in (40, 3) for t in angles[:2]]
    turned = [
        complex(x, t)
        for x, t in zip(p.uniform(6, -5, 5), [*p.beside_poles()[-3:], 1e5, 0.5, p.dtype.max], strict=True)
    ]
    return [*over, *under, *turned, *p.box(16, high, 9), *p.box(8, 3, 3), *p.plane(14, p.bottom, 3)]


def _expm1(p: Plane) -> list[complex]:
    circle = [
        p.rounded(mpc(-mp.log(mp.cos(t)), t)) for t in p.uniform(6, 0.1, 1.2)
    ]  # the real part of the result is 0 here
    return [*_exp(p)[::2], *circle, *p.around(0, mpc(0, 2) * mp.pi), *p.plane(10, -p.digits, 0)]


def _circle(p: Plane) -> list[complex]:
    """|z| = 1, nearly."""
    return [
        p.rounded(mp.expj(t))
        for t in (*p.uniform(8, 0.1, 6.2), *map(p.number, (-3, -p.digits // 3, -p.digits // 2)))
    ]


def _log(p: Plane) -> list[complex]:
    large = [p.point(p.top - 1, e) for e in (p.top - 1, 0, p.bottom)]
    return [*_circle(p), *large, *p.around(1, -1, 1j), *p.plane(24, p.bottom, p.top), *p.box(6, 3, 3)]


def _log1p(p: Plane) -> list[complex]:
    shifted = [complex(p.dtype.round(z.real - 1), z.imag) for z in _circle(p)]
    thin = [
        complex(-p.dtype.round(y * y / 2), y)
        for y in map(p.number, (-p.digits // 4, -p.digits // 2, -p.digits))
    ]  # |1 + z| is 1
    return [*shifted, *thin, *p.around(0, -1, -2), *p.plane(24, p.bottom, p.top), *p.box(6, 3, 3)]


def _sqrt(p: Plane) -> list[complex]:
    ends = [
        p.point(a, b)
        for a in (p.top - 1, p.bottom + 2)
        for b in (p.top - 1, p.bottom + 2, 0)
        for _ in range(2)
    ]
    return [*ends, *p.around(1, -1), *p.plane(36, p.bottom, p.top), *p.box(6, 9, 9)]


def _circular(p: Plane) -> list[complex]:
    high = float(mp.log(p.dtype.max))
    over = [
        complex(x, p.nearest(s * (high + by)))
        for by in (-0.5, 0.5, 5)
        for x, s in ((0.75, 1), (p.nearest(-mp.pi / 2), -1), (3.0, -1))
    ]
    turned = [
        complex(t, y)
        for t, y in zip(
            [*p.beside_poles()[-4:], 1e5, p.dtype.max],
            [p.number(-9), p.tiny, 1.5, -9.0, 0.25, -1.0],
            strict=True,
        )
    ]
    return [
        *over,
        *turned,
        *p.around(0, mp.pi / 2, mp.pi),
        *p.box(12, 9, 9),
        *p.box(6, 9, high),
        *p.plane(10, p.bottom, 2),
    ]


def _tan(p: Plane) -> list[complex]:
    flat = p.digits * math.log(2) / 2
    far = [
        complex(x, p.nearest(y)) for y in (flat, -2 * flat, 10 * flat, 1e3, -p.dtype.max) for x in (0.5, -2.0)
    ]
    turned = [
        complex(t, y)
        for t, y in zip(
            [*p.beside_poles()[-4:], 1e5, p.dtype.max],
            [p.number(-9), p.tiny, 1.5, -9.0, 0.25, -1.0],
            strict=True,
        )
    ]
    return [*far, *turned, *p.around(0, mp.pi / 2, -mp.pi), *p.box(14, 9, flat), *p.plane(10, p.bottom, 2)]


def _arcs(p: Plane) -> list[complex]:
    cuts = [
        complex(s * x, t)
        for x in (1.5, p.number(20), p.dtype.max, 0.5)
        for s, t in ((1, p.tiny), (-1, -p.tiny))
    ]
    return [*cuts, *p.around(1, -1, 0), *p.plane(22, p.bottom, p.top), *p.plane(6, -3, 3), *p.box(8, 2, 2)]


def _arctangents(p: Plane) -> list[complex]:
    cuts = [
        complex(t, s * y)
        for y in (1.5, p.number(20), p.dtype.max, 0.5)
        for s, t in ((1, p.tiny), (-1, -p.tiny))
    ]
    return [*cuts, *p.around(1j, -1j, 0), *p.plane(22, p.bottom, p.top), *p.plane(6, -3, 3), *p.box(8, 2, 2)]


def _moduli(p: Plane) -> list[complex]:
    return [
        *p.plane(36, p.bottom, p.top - 1),
        *p.around(1, 1j),
        *p.box(6, 3, 3),
        p.point(p.top - 2, p.top - 2),
        complex(p.tiny, p.tiny),
    ]


def _squares(p: Plane) -> list[complex]:
    even = [
        complex(x, p.step(x, k)) for x, k in zip(p.spread(8, -20, 20), (1, 2, 3, 9, 99, 1, 2, 5), strict=True)
    ]  # cancels
    return [*even, *p.plane(30, p.bottom // 2 - 3, p.top // 2 - 1), *p.box(8, 3, 3)]


def turned(of: Callable[[Plane], list[complex]]) -> Callable[[Plane], list[complex]]:
    """The points i z: of a function F(z) = f(iz) / i."""
    return lambda p: [complex(-z.imag, z.real) for z in of(p)]


COMPLEX_UNARY: dict[str, Callable[[Plane], list[complex]]] = {
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "log2": _log, "log10": _log, "sqrt": _sqrt,
    "sin": _circular, "cos": _circular, "tan": _tan, "asin": _arcs, "acos": _arcs, "atan": _arctangents,
    "sinh": turned(_circular), "cosh": turned(_circular), "tanh": turned(_tan),
    "asinh": turned(_arcs), "acosh": _arcs, "atanh": turned(_arctangents),
    "abs": _moduli, "sign": _moduli, "reciprocal": _moduli, "square": _squares,
}  # fmt: skip


def _pow(p: Plane) -> Iterator[Operands]:
    """|w log z| < 8: beyond, no budget can hold (see ``unspecified``)."""
    bases = [*p.plane(20, p.bottom, p.top), *p.box(16, 3, 3), *p.around(1, -1)]
    for z in bases:
        w = mpc(*p.uniform(2, -1, 1))
        scale = p.random.random() * 7.5 / abs(mp.log(mpc(z)))
        yield z, p.rounded(w / abs(w) * min(scale, mp.mpf(p.dtype.max) / 2))
    for z, w in zip(p.box(8, 2, 2), (2, 3, -1, 0.5, -2, 1.5, 1, 4), strict=True):
        yield z, complex(w)


def _products(p: Plane) -> Iterator[Operands]:
    yield from zip(
        p.plane(30, p.bottom // 2 - 3, p.top // 2 - 1)[::-1],
        p.plane(30, p.bottom // 2 - 3, p.top // 2 - 1),
        strict=True,
    )
    for z in p.box(12, 3, 3):  # one part cancels
        yield z, complex(z.real, p.step(-z.imag, 1))
        yield z, complex(p.step(z.imag, 2), z.real)


def _quotients(p: Plane) -> Iterator[Operands]:
    for w in p.plane(40, p.bottom + 2, p.top - 1):
        e = math.frexp(max(abs(w.real), abs(w.imag)))[1]
        low, high = max(p.bottom + 1, p.bottom + e), min(p.top - 3, p.top + e - 4)
        large = p.random.randrange(low, high)
        yield p.point(large, large - p.random.randrange(p.digits)), w
    for z in p.box(10, 3, 3):
        yield complex(z.imag, p.step(z.real, 1)), z
    largest = p.dtype.max / 4
    yield from (
        (complex(largest, -largest), complex(largest, largest / 3)),
        (complex(p.tiny, p.tiny), complex(p.tiny, -3 * p.tiny)),
    )


COMPLEX_BINARY: dict[str, Callable[[Plane], Iterable[Operands]]] = {
    "pow": _pow, "multiply": _products, "divide": _quotients,
}  # fmt: skip
