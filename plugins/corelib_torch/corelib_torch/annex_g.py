"""Complex functions where PyTorch's infinities, zeros and subnormal numbers are not those of the array API standard.

Its tables are those of C99's Annex G. What PyTorch leaves to the C library (exp, log, acosh, ...) obeys them.
"""

from functools import partial

import torch

from corelib import dtypes, ops

from .kernels import add

UNKNOWN = complex(torch.nan, torch.nan)


def by_parts(function, *xs):
    """A function of complex numbers that is one of their parts."""
    return torch.view_as_complex(function(*map(torch.view_as_real, xs)))


def times(z, x):
    """z multiplied by a real x: not by x + 0i, of which the product with an infinity has NaN in it."""
    return torch.complex(z.real * x, z.imag * x)


def scaled(z):
    """(m, t): m = z t^2 has no part so large that its square overflows, and is not lost in squaring."""
    size = torch.maximum(z.real.abs(), z.imag.abs())
    t = torch.where(
        size < 2.0**-400, 2.0**300, torch.where(size > 2.0**400, 2.0**-300, torch.ones_like(size))
    )
    return times(times(z, t), t), t


def divide(x1, x2):
    """Of operands that are neither too large nor too small. Beside a finite operand an infinite one counts by its
    infinite parts only, and its finite ones are zeros.
    """
    (m1, t1), (m2, t2) = scaled(x1), scaled(x2)
    y = times(times(m1 / m2, t2 / t1), t2 / t1)
    far = partial(by_parts, lambda p: torch.copysign(p.isinf().double(), p))
    y = torch.where(x1.isinf() & x2.isfinite(), times(far(x1) * x2.conj(), torch.inf), y)
    y = torch.where(x1.isfinite() & x2.isinf(), times(x1 * far(x2).conj(), 0.0), y)
    return torch.where(x2 == 0, times(x1, 1 / x2.real), y)


def sign(z):
    m, _ = scaled(z)
    return torch.where(z == 0, 0, torch.where(z.isnan(), UNKNOWN, times(m, 1 / m.abs())))


def expm1(z):
    """(expm1(a) cos b - 2 sin(b/2)^2) + i e^a sin b: nothing large cancels near 0."""
    a, b, w = z.real, z.imag, torch.exp(z)
    near = torch.expm1(a) * torch.cos(b) + (0.0 - 2 * torch.sin(b / 2) ** 2)
    return torch.complex(torch.where((a.abs() < 1) & b.isfinite(), near, w.real - 1), w.imag)


def log1p(z):
    """log1p(|1 + z|^2 - 1) / 2 + i arg(1 + z) near 0."""
    a, b = z.real, z.imag
    near = torch.complex(torch.log1p(a * (2 + a) + b * b) / 2, torch.atan2(b, 1 + a))
    small = (a.abs() < 0.5) & (b.abs() < 0.5)
    return torch.where(z == 0, z, torch.where(small, near, torch.log(torch.complex(1 + a, b))))


def tanh(z):
    """At infinity +-1 with a zero of the sign of b (C99 gives it that of sin 2b)."""
    one, zero = (torch.copysign(torch.full_like(p, n), p) for p, n in ((z.real, 1), (z.imag, 0)))
    return torch.where(z.real.isinf(), torch.complex(one, zero), torch.tanh(z))


def tan(z):
    """-i tanh(iz)."""
    w = tanh(torch.complex(-z.imag, z.real))
    return torch.complex(w.imag, -w.real)


def acos(z):
    """+-i acosh z: PyTorch's acos of complex128 loses small parts and signs of zeros."""
    w = torch.acosh(z)
    return torch.complex(w.imag.abs(), -torch.copysign(w.real, z.imag))


def pow(x1, x2):
    """exp(x2 log x1); 1 for x2 = 0; powers of 0 are 0, infinite in no direction, or NaN, by the sign of Re x2."""
    y = torch.where(x1.isfinite() & x2.isfinite(), torch.pow(x1, x2), torch.exp(x2 * torch.log(x1)))
    origin = torch.where(x2.real < 0, complex(torch.inf, torch.nan), torch.where(x2.real > 0, 0, UNKNOWN))
    return torch.where(x2 == 0, 1, torch.where((x1 == 0) & x2.isfinite(), origin, y))


def in_double(function, *xs):
    """A function of complex128 on complex64 too, where it has room to overflow."""
    return function(*[x.to(torch.complex128) for x in xs]).to(xs[0].dtype)


for function in (divide, sign, expm1, log1p, tanh, tan, acos, pow):
    add(getattr(ops, function.__name__), partial(in_double, function), dtypes.COMPLEX)
# PyTorch multiplies x2 by 1 + 0i before it adds, which makes NaN of infinity.
for name in ["add", "subtract", "negative", "round"]:
    add(getattr(ops, name), partial(by_parts, getattr(torch, name)), dtypes.COMPLEX)
