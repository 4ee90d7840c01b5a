"""Where functions are hard to compute: the operands of the golden vectors, op by op.

Uniform in exponent over the whole domain, subnormal numbers included; neighbours of zeros, poles and branch points;
the arguments closest to multiples of pi/2, huge ones too; the thresholds of overflow and underflow; where f(x) stops
being x, 1 or infinite; and published worst cases of correct rounding. Everything is drawn from generators seeded by
op and dtype, and nothing is asked of the machine's C library: the points are the same everywhere.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpmath import mp, mpf

from corelib.dtypes import DType, float64

# V. Lefevre and J.-M. Muller, "Worst cases for correct rounding of the elementary functions in double precision"
# (2001 and later tables): float64 operands whose results lie closest to a number or to the middle between two.
WORST = {
    "exp": "1.9e9cbbfd6080bp-31 1.d77fd13d27fffp-11 -1.e8bdbfcd9144ep3 -1.02393d5976769p1 1.83d4bcdebb3f4p2 -1.8000000000012p-48",
    "log": "1.62a88613629b6p678 1.ea71d85cee02p-509 1.9476e304cd7c7p-384 1.26e9c4d32796p-232 1.613955dc802f8p-35",
    "log2": "1.61555f75885b4p-513 1.61555f75885b4p512",
    "sin": "1.e0000000001c2p-20 1.598bae9e632f6p-7 1.fe767739d0f6dp-2 1.6756745770a51p1",
    "cos": "1.8000000000009p-23 1.06b505550e6b2p-9 1.97ccd3d2c438fp-6 1.6b8a6273d7c21p0",
    "tan": "1.dffffffffff1fp-22 1.67fffffffa114p-18 1.50486b2f87014p-5 1.46ac372243536p-1",
    "asin": "1.dfffffffff02ep-20 1.dffffffffc0b8p-19 1.e9950730c4696p-2 1.d5b05a89d3e77p-1",
    "acos": "1.fd737be914578p-11 1.4182199998587p-1 1.e45a1c93651ecp-1 1.f10fc61e2c78fp-1",
    "atan": "1.e000000000546p-21 1.22e8d75e2bc7fp-11 1.a933fe176b375p-3 1.7ba49f739829fp-1",
    "sinh": "1.dfffffffffe3ep-20 1.135e31fdd05d3p-5 1.c089fcf166171p4 1.d6479eba7c971p8",
    "cosh": "1.17d8a9f206217p-6 1.bf0305e2c6c37p-3 1.104b648f113a1p0 1.ea5f2f2e4b0c5p1",
    "asinh": "1.e000000000fd2p-20 1.87239bbd78f6ep-7 1.fd2634ca3c97cp1 1.5c452e0e37569p39",
    "acosh": "1.9efdca62b700ap0 1.297de35d02e9p13",
}


class Points:
    """Draws the operands of one op in one dtype; of a complex dtype, their parts."""

    def __init__(self, name: str, dtype: DType) -> None:
        self.name, self.dtype = name, dtype.real
        self.random = random.Random(f"{name} {dtype.name}")
        self.digits = self.dtype.digits
        self.top = math.frexp(self.dtype.max)[1]  # every number is below 2**top
        self.bottom = (
            math.frexp(self.dtype.smallest_normal * self.dtype.eps)[1] - 1
        )  # the smallest is 2**bottom
        self.tiny, self.normal = math.ldexp(1.0, self.bottom), self.dtype.smallest_normal

    def number(self, exponent: int) -> float:
        """A positive number in [2**exponent, 2**(exponent + 1)) with a random significand."""
        significand = self.random.getrandbits(self.digits - 1) | 1 << self.digits - 1
        return self.dtype.round(math.ldexp(significand, exponent - self.digits + 1))

    def spread(self, count: int, low: int, high: int, *, signed: bool = True) -> list[float]:
        """Numbers whose exponents are spread evenly over [low, high), every other one negative."""
        exponents = [low + (high - low) * i // count for i in range(count)]
        return [self.number(e) * (-1) ** (i * signed) for i, e in enumerate(exponents)]

    def uniform(self, count: int, low: float, high: float) -> list[float]:
        """Numbers spread evenly over [low, high)."""
        places = [(i + self.random.random()) / count for i in range(count)]
        return [self.dtype.round(low + (high - low) * place) for place in places]

    def step(self, x: float, count: int) -> float:
        """The number ``count`` steps further from zero than x."""
        floating, integer = {24: ("<f", "<i"), 53: ("<d", "<q")}[self.digits]
        (bits,) = struct.unpack(integer, struct.pack(floating, abs(x)))
        return math.copysign(struct.unpack(floating, struct.pack(integer, bits + count))[0], x)

    def near(self, *centres: Any, steps: Iterable[int] = (-1, 0, 1)) -> list[float]:
        """For each centre the nearest number and those some steps from it, if finite."""
        found = [self.step(self.nearest(c), k) for c in centres for k in steps]
        return [x for x in found if math.isfinite(x)]

    def nearest(self, x: Any) -> float:
        """The number nearest to x."""
        return self.dtype.round(float(mpf(x)))

    def small(self, *, signed: bool = True) -> list[float]:
        """Where f(x) is x, then x + x**2 or x + x**3 to the last bit: and the subnormal numbers."""
        tiny = [self.tiny, 3 * self.tiny, *self.near(self.normal), self.number(self.bottom + 9)]
        places = [self.bottom // 2, -self.digits - 1, -self.digits, 1 - self.digits, -self.digits // 2 - 1, -self.digits // 2,
                  1 - self.digits // 2, -self.digits // 3, -self.digits // 4, -6, -4, -3, -2]  # fmt: skip
        found = [*tiny, *map(self.number, places)]
        return [x * (-1) ** (i * signed) for i, x in enumerate(found)]

    def halves(self, high: int = 6, *, signed: bool = True) -> list[float]:
        """1/2, 1, 3/2, ... up to ``high``."""
        return [i / 2 * (-1) ** (i // 2 * signed) for i in range(1, 2 * high + 1)]

    def around_one(self, *, below: bool = True, above: bool = True) -> list[float]:
        """1 and numbers at distances growing from one step to 1/8 on either side."""
        powers = [0, 1, 2, self.digits // 4, self.digits // 2 - 1, self.digits // 2, 3 * self.digits // 4, self.digits - 6, self.digits - 3]  # fmt: skip
        counts = [(1 << p) + self.random.getrandbits(max(p - 1, 0)) for p in powers]
        inside = [self.step(1.0, -c) for c in counts] if below else []
        return [1.0, *inside, *[self.step(1.0, c) for c in counts]] if above else [1.0, *inside]

    def worst(self) -> list[float]:
        """The published worst cases of the op."""
        words = WORST.get(self.name, "").split() if self.dtype is float64 else []
        return [float.fromhex(w) for w in words]

    def beside_poles(self) -> list[float]:
        """Multiples of pi/2, and for some exponents the number that is closest to one."""
        places = [-self.digits // 2, 0, *(self.top * k // 12 - self.digits for k in range(1, 12))]
        if self.dtype is float64:
            places.append(797)  # 6381956970095103 * 2**797, the closest of all
        half_pi = mp.pi / 2
        multiples = [*range(1, 9), 101, 710, 10**5 + 1]
        return [*self.near(*(half_pi * k for k in multiples)), *map(self._closest, places)]

    def _closest(self, exponent: int) -> float:
        """m * 2**exponent, m an integer of the dtype's digits, closest to a multiple of pi/2: its multiple and m are a
        convergent of 2**exponent / (pi/2).
        """
        x, before, m = mpf(2) ** (exponent + 1) / mp.pi, 0, 1
        while True:
            x = 1 / (x - mp.floor(x))
            before, after = m, int(mp.floor(x)) * m + before
            if after >= 1 << self.digits:
                return math.ldexp(m, exponent)
            m = after


# -- real functions ------------------------------------------------------------------------------------------


def _exponential(p: Points, low: Any, high: Any) -> list[float]:
    """exp and its kind between two logarithms: seams of the reduction by log 2, and both ends."""
    seams = [mp.log(2) * k / 2 for k in (1, -1, 3, -3, 20, -21, 101, -101)]
    ends = [*p.near(high, steps=range(-3, 3)), *p.near(low, steps=range(-3, 3))]
    return [*p.near(*seams), *ends, *p.uniform(24, float(low), float(high)), *p.uniform(16, -3, 3)]


def _exp(p: Points) -> list[float]:
    least = mp.log(p.normal)
    more = [*p.near(least, mp.log(p.tiny)), *p.uniform(6, float(mp.log(p.tiny)), float(least))]
    return [*_exponential(p, mp.log(p.tiny / mpf(2)), mp.log(p.dtype.max)), *more, *p.halves(), *p.small()]


def _expm1(p: Points) -> list[float]:
    """Also where the result reaches -1."""
    return [
        *_exponential(p, -p.digits * mp.log(2), mp.log(p.dtype.max)),
        *p.small(),
        *p.small()[::-1],
        *p.halves(),
    ]


def _log(p: Points) -> list[float]:
    seams = p.near(mp.sqrt(2), mp.sqrt(0.5), 0.75, 1.5, mp.e, 1 / mp.e, p.dtype.max, p.normal)
    powers = [2.0, 0.5, 8.0, 10.0, 100.0, 1000.0, 1e10, *p.near(0.1, 1e-5)]
    return [*p.around_one(), *p.around_one(), *seams, *powers, p.tiny, p.number(p.bottom + 5), *p.spread(36, p.bottom, p.top, signed=False)]  # fmt: skip


def _log1p(p: Points) -> list[float]:
    poles = [-x for x in p.around_one(above=False)[1:]]
    centres = (mp.sqrt(2) - 1, mp.sqrt(0.5) - 1, -0.5, 1, mp.e - 1, mpf(2) ** p.digits, p.dtype.max)
    seams = p.near(*centres, steps=(-2, -1, 0))
    return [*poles, *seams, *p.small(), *p.small()[::-1], *p.halves(signed=False), *p.spread(30, -p.digits, p.top, signed=False)]  # fmt: skip


def _circular(p: Points) -> list[float]:
    huge = [
        p.nearest(1e22),
        p.nearest(1e5),
        math.ldexp(1.0, p.top - 24),
        p.dtype.max,
        p.step(p.dtype.max, -1),
    ]
    quarters = p.near(*(mp.pi / 4 * k for k in (1, 3, 5, -7, 9)))
    return [*p.beside_poles(), *huge, *quarters, *p.small(), *p.halves(), *p.spread(30, -p.digits // 4, p.top), *p.uniform(12, -9, 9)]  # fmt: skip


def _inverse_circular(p: Points) -> list[float]:
    edges = [x * sign for x in p.around_one(above=False) for sign in (1, -1)]
    seams = p.near(0.5, -0.5, mp.sqrt(0.5), mp.sqrt(3) / 2, 0.625, 0.975, -0.975)
    return [*edges, *seams, *p.small(), *p.small()[::-1], *p.uniform(24, -1, 1), *p.spread(24, -p.digits, 0)]


def _atan(p: Points) -> list[float]:
    seams = p.near(1, -1, 0.4375, 0.6875, 1.1875, 2.4375, mp.sqrt(2) - 1, mp.sqrt(2) + 1, mp.sqrt(3))
    flat = p.near(mpf(2) ** p.digits, mpf(2) ** (p.digits // 2), p.dtype.max, mpf(2) ** (p.top - 2))
    return [*seams, *flat, *p.small(), *p.halves(), *p.spread(30, -p.digits, p.top), *p.uniform(20, -3, 3)]


def _hyperbolic(p: Points) -> list[float]:
    high = mp.log(p.dtype.max) + mp.log(2)
    below = p.near(
        mp.log(p.dtype.max), steps=range(-2, 3)
    )  # from here on exp(x) overflows, and exp(x) / 2 does not
    return [*_exponential(p, -high, high), *below, *p.small(), *p.halves()]


def _tanh(p: Points) -> list[float]:
    last = (p.digits + 1) * mp.log(2) / 2
    flat = p.near(last, -last, last + 1, 22, mp.log(p.dtype.max), steps=(-2, -1, 0, 1))
    return [*flat, *p.near(0.625, mp.log(3) / 2, 1), *p.small(), *p.small()[::-1], *p.halves(), *p.uniform(30, -float(last), float(last)), *p.spread(24, -p.digits, 5)]  # fmt: skip


def _asinh(p: Points) -> list[float]:
    far = p.near(mpf(2) ** (p.digits // 2), mpf(2) ** (p.top // 2), p.dtype.max, 2, steps=(-1, 0))
    return [
        *far,
        *p.small(),
        *p.small()[::-1],
        *p.halves(),
        *p.spread(40, -p.digits, p.top),
        *p.uniform(16, -3, 3),
    ]


def _acosh(p: Points) -> list[float]:
    far = p.near(mpf(2) ** (p.digits // 2), mpf(2) ** (p.top // 2), p.dtype.max, 2, steps=(-1, 0))
    ones = [x for _ in range(2) for x in p.around_one(below=False)]
    return [
        *ones,
        *far,
        *[x for x in p.halves(signed=False) if x >= 1],
        *p.spread(46, 0, p.top, signed=False),
        *p.uniform(20, 1, 9),
    ]


def _atanh(p: Points) -> list[float]:
    edges = [x * sign for x in p.around_one(above=False)[1:] for sign in (1, -1)]
    return [*edges, *p.near(0.5, -0.5, 0.25), *p.small(), *p.small()[::-1], *p.uniform(24, -1, 1), *p.spread(20, -p.digits, 0)]  # fmt: skip


def _erf(p: Points) -> list[float]:
    last = mp.erfinv(1 - mpf(2) ** -p.digits)
    seams = p.near(0.84375, 1.25, 1 / mpf("0.35"), last, -last, 6, 0.5, 1, steps=(-1, 0, 1))
    return [*seams, *p.small(), *p.small()[::-1], *p.halves(), *p.uniform(30, -float(last), float(last)), *p.spread(16, -p.digits, 4)]  # fmt: skip


def _roots(p: Points) -> list[float]:
    edges = p.near(4, 2, 9, 0.25, p.normal, steps=(-2, -1, 1, 2))
    whole = [2.0, 3.0, 4.0, 9.0, 0.25, 1e4]
    return [*p.around_one(), *edges, *whole, p.dtype.max, p.step(p.dtype.max, -1), p.tiny, 3 * p.tiny, p.number(p.bottom + 7), *p.spread(56, p.bottom, p.top, signed=False)]  # fmt: skip


def _sigmoid(p: Points) -> list[float]:
    """Down to the smallest normal result, as promised; and where it reaches 1."""
    low, high = mp.log(p.normal), (p.digits + 1) * mp.log(2)
    ends = [*p.near(low, steps=(-3, -2, -1)), *p.near(high, high / 2, -high / 2, -high, mp.log(p.dtype.max))]
    return [*ends, *p.uniform(40, float(low), float(high)), *p.uniform(16, -3, 3), *p.small(), *p.halves()]


def _softplus(p: Points) -> list[float]:
    low, high = mp.log(p.normal), (p.digits + 1) * mp.log(2)
    ends = p.near(low, high, -high, mp.log(p.tiny), 20, steps=(-1, 0, 1))
    tail = p.uniform(6, float(mp.log(p.tiny)), float(low))
    return [*ends, *tail, *p.uniform(36, float(low), float(high)), *p.uniform(12, -3, 3), *p.small(), *p.halves(), *p.spread(12, 5, p.top)]  # fmt: skip


def _gelu(p: Points) -> list[float]:
    """Both tails: on the left to where the density underflows."""
    low = mp.sqrt(-2 * mp.log(p.tiny))
    ends = p.near(-low, low, mp.sqrt(p.digits * 2 * mp.log(2)), 1, -1, mp.sqrt(2), -mp.sqrt(2))
    return [*ends, *p.uniform(24, -float(low), float(low)), *p.uniform(30, -3, 6), *p.small(), *p.halves(), *p.spread(10, 0, p.top // 3, signed=False)]  # fmt: skip


def _elu(p: Points) -> list[float]:
    ends = p.near(-p.digits * mp.log(2), mp.log(p.normal), mp.log(p.tiny))
    return [*ends, *p.uniform(24, -p.digits, 4), *p.uniform(20, -2, 1), *p.small(), *p.halves()]


def _bent(p: Points) -> list[float]:
    """About both ends of the line between -3 and 3, and far outside."""
    return [
        *p.near(-3, 3, -1.5, steps=(-2, -1, 0, 1, 2)),
        *p.uniform(40, -4, 4),
        *p.small(),
        *p.halves(),
        *p.spread(16, 2, p.top),
    ]


def _softsign(p: Points) -> list[float]:
    return [*p.around_one(), *[-x for x in p.around_one()], *p.uniform(30, -9, 9), *p.small(), *p.halves(), *p.spread(40, -p.digits, p.top)]  # fmt: skip


UNARY: dict[str, Callable[[Points], list[float]]] = {
    "exp": _exp, "expm1": _expm1, "log": _log, "log1p": _log1p, "log2": _log, "log10": _log,
    "sin": _circular, "cos": _circular, "tan": _circular, "asin": _inverse_circular, "acos": _inverse_circular, "atan": _atan,
    "sinh": _hyperbolic, "cosh": _hyperbolic, "tanh": _tanh, "asinh": _asinh, "acosh": _acosh, "atanh": _atanh,
    "erf": _erf, "sqrt": _roots, "rsqrt": _roots,
    "sigmoid": _sigmoid, "log_sigmoid": lambda p: [-x for x in _softplus(p)], "softplus": _softplus, "silu": _softplus, "gelu": _gelu, "elu": _elu,
    "celu": _elu, "selu": _elu, "mish": _softplus, "softsign": _softsign, "hardsigmoid": _bent, "hardswish": _bent,
}  # fmt: skip


# -- functions of two real numbers ---------------------------------------------------------------------------


def _pow(p: Points) -> Iterator[tuple[float, float]]:
    edges = (mp.log(p.dtype.max), mp.log(p.tiny), mp.log(p.normal), mp.log(p.tiny / mpf(2)))
    logs = [*p.uniform(30, float(edges[1]), float(edges[0])), *p.uniform(20, -3, 3)]  # of results
    for x, log in zip(p.spread(50, p.bottom, p.top, signed=False), logs[::-1], strict=True):
        yield x, p.nearest(log / mp.log(x))
    for x, log in zip(p.around_one()[1:], logs[::3], strict=False):  # huge exponents
        yield x, p.nearest(log / mp.log(x))
    for x, edge in itertools.product((2.5, 0.3, p.step(1.0, 3)), edges):
        yield from ((p.nearest(x), y) for y in p.near(edge / mp.log(p.nearest(x)), steps=(-2, 1)))
    yield from zip(p.uniform(30, 0, 10), p.uniform(30, -20, 20)[::-1], strict=True)
    for x, y in zip(
        p.uniform(16, -9, 0), (2, 3, -1, -2, 5, 7, -3, 10, 11, 0.0, 1, 4, 31, -31, 64, 6), strict=True
    ):
        yield x, float(y)
    for y in (0.5, -0.5, 1.5, 2.0, -1.0, 1 / 3, p.tiny, -p.number(-p.digits - 9), p.number(-20)):
        yield p.number(1), p.nearest(y)
    yield from (
        (2.0, 10.0),
        (3.0, 5.0),
        (10.0, 7.0),
        (1.5, 3.0),
        (0.25, 0.5),
        (-2.0, float(p.bottom)),
        (2.0, p.bottom + 3.0),
    )


def _atan2(p: Points) -> Iterator[tuple[float, float]]:
    signs = itertools.cycle(itertools.product((1, -1), (1, -1)))
    for i in range(80):
        if i < 50:  # the quotient is representable
            e = p.random.randrange(p.bottom + p.digits + 5, p.top - p.digits - 5)
            y, x = p.number(e + (i % 25 - 12) * (p.digits + 4) // 12), p.number(e)
        else:
            y, x = (p.number(p.random.randrange(p.bottom, p.top)) for _ in range(2))
        s, t = next(signs)
        yield y * s, x * t
    yield from zip(p.uniform(24, -3, 3), p.uniform(24, -3, 3)[::-1], strict=True)
    yield from ((x, s) for x in (1.0, p.step(1.0, 1), p.tiny, p.normal, p.dtype.max) for s in (1.0, -1.0))
    yield from (
        (p.tiny, p.dtype.max),
        (-p.tiny, -p.dtype.max),
        (p.dtype.max, p.tiny),
        (p.tiny, 3 * p.tiny),
        (p.dtype.max, -p.dtype.max),
    )


def _hypot(p: Points) -> Iterator[tuple[float, float]]:
    half = p.digits // 2
    for i in range(80):
        e = p.bottom + half + (p.top - 2 - p.bottom - 2 * half) * i // 80
        yield p.number(e), p.number(e + i * 7 % (2 * half + 3) - half - 1) * (-1) ** i
    for i in range(24):
        yield p.number(p.bottom + i), -p.number(p.bottom + p.digits // 2)
    for a, b in ((3, 4), (5, 12), (8, 15), (20, 21), (119, 120)):
        for e in (0, p.top - 9, p.bottom):
            yield math.ldexp(a, e), math.ldexp(b, e)
    yield from zip(p.uniform(16, -3, 3), p.uniform(16, -3, 3)[::-1], strict=True)
    yield from (
        (p.dtype.max / 2, p.dtype.max / 2),
        (p.dtype.max / 4, -p.tiny),
        (p.normal, p.normal),
        (1.0, p.step(1.0, 1)),
    )


def _logaddexp(p: Points) -> Iterator[tuple[float, float]]:
    yield from zip(p.uniform(30, -9, 9), p.uniform(30, -9, 9)[::-1], strict=True)
    for a in [
        *p.uniform(20, -3, 0),
        *(-p.number(e) for e in (-4, -9, -p.digits // 2, -p.digits)),
    ]:  # the result is near 0
        b = p.nearest(mp.log(-mp.expm1(a)))
        yield from ((a, p.step(b, k)) for k in (0, 1))
    for gap in [*p.spread(24, -p.digits, 10), *p.near(p.digits * mp.log(2), -mp.log(p.normal))]:
        x = p.number(p.random.randrange(-3, 9))
        yield x, p.dtype.round(x + gap)
    for x in p.spread(20, -p.digits, p.top - 1):
        yield x, x


def _products(p: Points) -> Iterator[tuple[float, float]]:
    """Results in the whole range, and more among the subnormal numbers."""
    for i in range(60):
        total = p.bottom - 1 + i if i < 24 else p.bottom + (p.top - p.bottom - 2) * (i - 24) // 36
        first = p.random.randrange(max(p.bottom, total - p.top + 2), min(p.top - 1, total - p.bottom + 1))
        yield p.number(first) * (-1) ** i, p.number(total - first)


def _quotients(p: Points) -> Iterator[tuple[float, float]]:
    for i in range(60):
        total = p.bottom - 1 + i if i < 24 else p.bottom + (p.top - p.bottom - 2) * (i - 24) // 36
        second = p.random.randrange(
            max(p.bottom, -p.top + 2 - min(total, 0)), min(p.top - 1, p.top - 2 - max(total, 0))
        )
        yield p.number(total + second) * (-1) ** i, p.number(second)
    yield from ((1.0, float(n)) for n in (3, 7, 10, 49))
    yield from ((p.step(1.0, -k), p.step(1.0, k)) for k in (1, 2, 3))


BINARY: dict[str, Callable[[Points], Iterable[tuple[float, float]]]] = {
    "pow": _pow, "atan2": _atan2, "hypot": _hypot, "logaddexp": _logaddexp, "multiply": _products, "divide": _quotients,
}  # fmt: skip
