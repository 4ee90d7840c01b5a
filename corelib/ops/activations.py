"""Activations: element-wise composites, each with a derivative that reads its operand or its result,
whichever is enough.

Where a formula would lose its tails to cancellation, another one is used, as each docstring says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32
from ..errors import ArgumentError
from ..rules import Spec, binary, custom, unary
from ..samples import ErrorSample, Sample, reals
from .compare import greater, greater_equal, less, less_equal, logical_or
from .elementwise import (
    abs,
    add,
    divide,
    erf,
    exp,
    expm1,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    subtract,
    where,
)
from .trigonometric import tanh

if TYPE_CHECKING:
    from ..tensor import Tensor


def one_of(op: Any, name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise ArgumentError unless ``value`` is one of the words that a parameter takes."""
    if value not in allowed:
        words = [repr(a) for a in allowed]
        raise ArgumentError(
            f"{op.name}: {name} must be {', '.join(words[:-1])} or {words[-1]}, got {value!r}"
        )


@composite(
    rule=unary(FLOATING),
    vjp=lambda g, y: where(less_equal(y, 0), 0, g),
    jvp=lambda dx, y: where(less_equal(y, 0), 0, dx),
    samples=reals(-3, 3),
    ulp=0,
)
def relu(x: Tensor, /) -> Tensor:
    """max(x, 0). The derivative at 0 is 0, and NaN stays NaN."""
    return maximum(x, 0)


@composite(
    rule=unary(FLOATING),
    vjp=lambda g, x, negative_slope: where(greater(x, 0), g, multiply(g, negative_slope)),
    jvp=lambda dx, x, negative_slope: where(greater(x, 0), dx, multiply(dx, negative_slope)),
    samples=reals(-3, 3, kwargs=({}, {"negative_slope": 0.2}, {"negative_slope": 1.5})),
    ulp=1,
)
def leaky_relu(x: Tensor, /, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere."""
    slanted = multiply(x, negative_slope)
    return maximum(x, slanted) if 0 <= negative_slope <= 1 else where(greater(x, 0), x, slanted)


@composite(
    rule=unary(FLOATING),
    d=lambda y, x, alpha: where(greater(x, 0), 1, add(y, alpha)),
    samples=reals(-3, 3, kwargs=({}, {"alpha": 0.5})),
    ulp=3,
)
def elu(x: Tensor, /, alpha: float = 1.0) -> Tensor:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., arXiv:1511.07289)."""
    return where(greater(x, 0), x, multiply(expm1(minimum(x, 0)), alpha))


@composite(rule=unary(FLOATING), d=lambda y: multiply(y, subtract(1, y)), samples=reals(-20, 20), ulp=4)
def sigmoid(x: Tensor, /) -> Tensor:
    """1 / (1 + exp(-x)): accurate to a few ULP in both tails, down to the smallest normal number; exp
    overflows harmlessly.
    """
    return divide(1, add(exp(negative(x)), 1))


@composite(rule=unary(FLOATING), d=lambda x: sigmoid(negative(x)), samples=reals(-20, 20), ulp=5)
def log_sigmoid(x: Tensor, /) -> Tensor:
    """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|)), which neither overflows nor loses its tails."""
    return subtract(minimum(x, 0), log1p(exp(negative(abs(x)))))


@composite(
    rule=unary(FLOATING), d=lambda x, beta: sigmoid(_scaled(x, beta)),
    samples=reals(-20, 20, kwargs=({}, {"beta": 2.0})), ulp=5,
)  # fmt: skip
def softplus(x: Tensor, /, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta = max(x, 0) + log(1 + exp(-|beta x|)) / beta: exact for large x without a
    threshold.
    """
    tail = log1p(exp(negative(abs(_scaled(x, beta)))))
    return add(maximum(x, 0), tail if beta == 1 else divide(tail, beta))


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else multiply(x, factor)


def _silu_slope(x: Tensor) -> Tensor:
    s = sigmoid(x)
    return multiply(s, add(multiply(x, subtract(1, s)), 1))


@composite(rule=unary(FLOATING), d=_silu_slope, samples=reals(-9, 9), ulp=5)
def silu(x: Tensor, /) -> Tensor:
    """x sigmoid(x), also called swish. 0 below -log(max), where exp(-x) overflows: the exact result is of at most
    3e-37 there in float32, 4e-306 in float64.
    """
    return multiply(x, sigmoid(x))


TANH_LINEAR, TANH_CUBIC = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715


def _gelu_argument(x: Tensor) -> Tensor:
    """2 sqrt(2/pi) (x + 0.044715 x**3)."""
    return multiply(x, add(multiply(multiply(x, x), TANH_CUBIC), TANH_LINEAR))


def _normal_cdf(x: Tensor) -> Tensor:
    return multiply(add(erf(multiply(x, math.sqrt(0.5))), 1), 0.5)


def _gelu_slope(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        s = sigmoid(_gelu_argument(x))
        inner = multiply(x, add(multiply(multiply(x, x), 3 * TANH_CUBIC), TANH_LINEAR))
        return multiply(s, add(multiply(inner, subtract(1, s)), 1))
    density = multiply(exp(multiply(multiply(x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return add(_normal_cdf(x), multiply(x, density))


@custom(FLOATING)
def _gelu_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    one_of(op, "approximate", params["approximate"], ("none", "tanh"))
    return Spec(specs[0].shape, specs[0].dtype)


@composite(
    rule=_gelu_rule, d=_gelu_slope, ulp=16,
    samples=reals(-1, 6, kwargs=({}, {"approximate": "tanh"})),
    errors=[ErrorSample(ArgumentError, "gelu: approximate must be 'none' or 'tanh', got 'erf'",
                        lambda m: Sample((m.array((2,), float32),), {"approximate": "erf"}))],
)  # fmt: skip
def gelu(x: Tensor, /, *, approximate: str = "none") -> Tensor:
    """x P(Z <= x) for a standard normal Z (Hendrycks and Gimpel, arXiv:1606.08415); ``approximate="tanh"``
    takes the paper's formula.

    The exact form's error is relative to |x| (1 + erf(x / sqrt 2) cancels in the left tail). That of the approximate
    form is relative to the result down to x = -6; below, exp multiplies the rounding of its argument by its size: 40
    ULP at -9 in float32, 500 at -21 in float64.
    """
    if approximate == "tanh":
        return multiply(x, sigmoid(_gelu_argument(x)))  # (1 + tanh(u)) / 2 is sigmoid(2u)
    one_of(gelu.op, "approximate", approximate, ("none", "tanh"))  # type: ignore[attr-defined]
    return multiply(x, _normal_cdf(x))


# -- piecewise linear ----------------------------------------------------------------------------------------


def _inside(g: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """g where x is strictly between two bounds, and 0 elsewhere."""
    return where(logical_or(less_equal(x, low), greater_equal(x, high)), 0, g)


@composite(
    rule=unary(FLOATING), vjp=lambda g, x, min_val, max_val: _inside(g, x, min_val, max_val),
    samples=reals(-3, 3, kwargs=({}, {"min_val": -0.5, "max_val": 2.0})), ulp=0,
)  # fmt: skip
def hardtanh(x: Tensor, /, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x between ``min_val`` and ``max_val``, and these outside. The derivative at both ends is 0."""
    return minimum(maximum(x, min_val), max_val)


def _six_parts(x: Tensor) -> Tensor:
    """x + 3 between 0 and 6."""
    return minimum(maximum(add(x, 3), 0), 6)


@composite(
    rule=unary(FLOATING), vjp=lambda g, x: _inside(divide(g, 6), x, -3, 3), samples=reals(-5, 5), ulp=2
)
def hardsigmoid(x: Tensor, /) -> Tensor:
    """(x + 3) / 6 between 0 and 1. The derivative at both ends is 0."""
    return divide(_six_parts(x), 6)


@composite(
    rule=unary(FLOATING), samples=reals(-5, 5), ulp=3,
    d=lambda x: where(less_equal(x, -3), 0, where(less(x, 3), add(divide(x, 3), 0.5), 1)),
)  # fmt: skip
def hardswish(x: Tensor, /) -> Tensor:
    """x hardsigmoid(x) (Howard et al., arXiv:1905.02244)."""
    return multiply(x, divide(_six_parts(x), 6))  # in this order x = max does not overflow


@composite(
    rule=unary(FLOATING), vjp=lambda g, x, lambd: where(less_equal(abs(x), lambd), 0, g),
    samples=reals(-3, 3, kwargs=({}, {"lambd": 1.0})), ulp=0.5,
)  # fmt: skip
def softshrink(x: Tensor, /, lambd: float = 0.5) -> Tensor:
    """x moved by ``lambd`` towards 0, and 0 where it would pass it."""
    return subtract(x, minimum(maximum(x, -lambd), lambd))


@composite(
    rule=unary(FLOATING), vjp=lambda g, x, lambd: where(less_equal(abs(x), lambd), 0, g),
    samples=reals(-3, 3, kwargs=({}, {"lambd": 1.0})), ulp=0,
)  # fmt: skip
def hardshrink(x: Tensor, /, lambd: float = 0.5) -> Tensor:
    """x where its magnitude exceeds ``lambd``, 0 elsewhere."""
    return where(less_equal(abs(x), lambd), 0, x)


@composite(
    rule=unary(FLOATING), vjp=lambda g, x, threshold: where(less_equal(x, threshold), 0, g),
    samples=reals(-3, 3, kwargs=({"threshold": 0.5, "value": 2.0},)), ulp=0,
)  # fmt: skip
def threshold(x: Tensor, /, threshold: float, value: float) -> Tensor:
    """x where it exceeds ``threshold``, ``value`` elsewhere."""
    return where(less_equal(x, threshold), value, x)


@composite(
    rule=binary(FLOATING), samples=reals(-3, 3, operands=2), ulp=0.5,
    d=(lambda x, weight: where(greater(x, 0), 1, weight), lambda x: where(greater(x, 0), 0, x)),
)  # fmt: skip
def prelu(x: Tensor, weight: Tensor, /) -> Tensor:
    """x where it is positive, weight * x elsewhere (He et al., arXiv:1502.01852); weight broadcasts with x."""
    return where(greater(x, 0), x, multiply(x, weight))


# -- smooth --------------------------------------------------------------------------------------------------

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@composite(
    rule=unary(FLOATING), ulp=4, samples=reals(-3, 3),
    d=lambda x, y: where(greater(x, 0), SELU_SCALE, add(y, SELU_SCALE * SELU_ALPHA)),
)  # fmt: skip
def selu(x: Tensor, /) -> Tensor:
    """scale x where x is positive, scale alpha (exp(x) - 1) elsewhere, with the two constants that keep mean 0 and
    variance 1 (Klambauer et al., arXiv:1706.02515).
    """
    return where(
        greater(x, 0), multiply(x, SELU_SCALE), multiply(expm1(minimum(x, 0)), SELU_SCALE * SELU_ALPHA)
    )


@composite(
    rule=unary(FLOATING), d=lambda x, alpha: exp(divide(minimum(x, 0), alpha)), ulp=4,
    samples=reals(-3, 3, kwargs=({}, {"alpha": 0.5})),
)  # fmt: skip
def celu(x: Tensor, /, alpha: float = 1.0) -> Tensor:
    """x where it is positive, alpha (exp(x / alpha) - 1) elsewhere (Barron, arXiv:1704.07483); alpha is positive."""
    return where(greater(x, 0), x, multiply(expm1(divide(minimum(x, 0), alpha)), alpha))


def _mish_slope(x: Tensor) -> Tensor:
    t = tanh(softplus(x))
    return add(t, multiply(multiply(x, sigmoid(x)), subtract(1, multiply(t, t))))


@composite(rule=unary(FLOATING), d=_mish_slope, samples=reals(-9, 9), ulp=6)
def mish(x: Tensor, /) -> Tensor:
    """x tanh(log(1 + exp(x))) (Misra, arXiv:1908.08681), where the tanh is n / (n + 2) for n = exp(x) (exp(x) + 2)."""
    e = exp(minimum(x, 20))  # beyond, the quotient is 1
    n = multiply(e, add(e, 2))
    return multiply(x, divide(n, add(n, 2)))


def _softsign_slope(x: Tensor) -> Tensor:
    slope = divide(1, add(abs(x), 1))
    return multiply(slope, slope)


@composite(rule=unary(FLOATING), d=_softsign_slope, samples=reals(-9, 9), ulp=2)
def softsign(x: Tensor, /) -> Tensor:
    """x / (1 + abs(x))."""
    return divide(x, add(abs(x), 1))
