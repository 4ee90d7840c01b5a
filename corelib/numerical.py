"""Gradient checks: reverse mode against central differences, to first and second order.

The central difference with step h has an error of about h**2/6 |f'''| + u|f|/h; h = u**(1/3) max(1, |x|)
balances the two, and Richardson's combination of the steps h and h/2, (4 D(h/2) - D(h)) / 3, removes the h**2
term. What is left is rounding, about u**(2/3) |f| / max(1, |x|), and the default tolerance is a hundred times
that: 4e-9 relative to the largest element in float64. Checks are done in float64, since float32 differences
would only show three digits. A complex number counts as its two parts: the gradient is dL/dRe(x) + i dL/dIm(x).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from .autograd import vjp
from .dtypes import complex128, float64
from .errors import GradientError
from .op import calls
from .tensor import Tensor
from .tree import flatten

_WIDE = {"float": float64, "complex": complex128}


def _inexact(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype.kind in _WIDE


def _widened(args: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """``args`` with their floating and complex tensors in double precision, and the positions of those."""
    wide = [a.astype(_WIDE[a.dtype.kind]) if _inexact(a) else a for a in args]
    return wide, [i for i, a in enumerate(wide) if _inexact(a)]


def _tensor_like(x: Tensor, parts: list[float]) -> Tensor:
    import array

    return calls.from_buffer(array.array(x.dtype.format, parts), x.shape, x.dtype, x._backend)


def _random_like(x: Tensor, draw: random.Random) -> Tensor:
    """Numbers whose parts are away from 0."""
    size = x.size * (2 if x.dtype.kind == "complex" else 1)
    return _tensor_like(x, [draw.uniform(0.5, 1.5) * draw.choice((-1, 1)) for _ in range(size)])


def _parts(x: Tensor) -> list[float]:
    """The elements of x, both parts of complex ones, in C order."""
    values = x._flat("gradcheck") if x.size else []
    return [p for v in values for p in ((v.real, v.imag) if x.dtype.kind == "complex" else (float(v),))]


def gradcheck(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    tolerance: float | None = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of ``fn(*args)`` with central differences.

    Floating and complex tensors in ``args`` are differentiated, in double precision; ``fn`` returns a tensor or a tree of tensors.
    A random cotangent is used, so that errors cannot cancel in a sum. ``tolerance`` is relative to the
    largest element of each gradient (or 1). Returns True, or raises GradientError with the worst element
    (returns False with ``raise_exception=False``).

    Example: ``gradcheck(softmax, (x,))`` is ``True``.
    """
    args, numbers = _widened(args)
    draw = random.Random(seed)
    limit = tolerance if tolerance is not None else 100 * (2.0**-53) ** (2 / 3)

    def along(*variables: Tensor) -> list[Tensor]:
        full = list(args)
        for i, v in zip(numbers, variables, strict=True):
            full[i] = v
        return [y for y in flatten(fn(*full))[0] if _inexact(y)]

    inputs = [args[i] for i in numbers]
    results, pullback = vjp(along, *inputs)
    cotangents = [_random_like(y, draw) for y in results]
    weights = [_parts(c) for c in cotangents]
    found = [_parts(g) for g in pullback(cotangents)]

    def value(position: int, values: list[float]) -> float:
        variables = [_tensor_like(x, values) if k == position else x for k, x in enumerate(inputs)]
        return math.fsum(
            w * v
            for ws, y in zip(weights, along(*variables), strict=True)
            for w, v in zip(ws, _parts(y), strict=True)
        )

    for position, x in enumerate(inputs):
        values, scale = _parts(x), max(1.0, *map(abs, found[position])) if x.size else 1.0
        for i in range(len(values)):
            expected = _difference(value, position, values, i)
            if not abs(found[position][i] - expected) <= limit * scale:
                if not raise_exception:
                    return False
                place = f"element {i}"
                if x.dtype.kind == "complex":
                    place = f"the {('real', 'imaginary')[i % 2]} part of element {i // 2}"
                raise GradientError(
                    f"gradcheck: {place} of argument {numbers[position]}: reverse mode gives {found[position][i]!r}, "
                    f"differences give {expected!r} (tolerance {limit * scale:.1e})"
                )
    return True


def _difference(value: Callable[[int, list[float]], float], position: int, at: list[float], i: int) -> float:
    """The derivative of ``value`` in element ``i`` of argument ``position``."""
    x = at[i]

    def slope(h: float) -> float:
        above, below = (
            value(position, [*at[:i], x + h, *at[i + 1 :]]),
            value(position, [*at[:i], x - h, *at[i + 1 :]]),
        )
        return (above - below) / ((x + h) - (x - h))

    h = (2.0**-53) ** (1 / 3) * max(1.0, abs(x)) * 4
    return (4 * slope(h / 2) - slope(h)) / 3


def gradgradcheck(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    tolerance: float | None = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """:func:`gradcheck` of the gradient of ``fn``: second derivatives, with respect to the arguments and to
    the cotangent.
    """
    args, numbers = _widened(args)
    draw = random.Random(seed)
    probe = [y for y in flatten(fn(*args))[0] if _inexact(y)]
    cotangents = [_random_like(y, draw) for y in probe]

    def gradients(*variables: Tensor) -> list[Tensor]:
        def inner(*inside: Tensor) -> list[Tensor]:
            full = list(args)
            for i, v in zip(numbers, inside, strict=True):
                full[i] = v
            return [y for y in flatten(fn(*full))[0] if _inexact(y)]

        _, pullback = vjp(inner, *variables[: len(numbers)])
        return list(pullback(list(variables[len(numbers) :])))

    inputs = [*[args[i] for i in numbers], *cotangents]
    return gradcheck(gradients, inputs, tolerance=tolerance, seed=seed + 1, raise_exception=raise_exception)
