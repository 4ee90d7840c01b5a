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
from ..rules import Spec, custom, unary
from ..samples import ErrorSample, Sample, reals
from .compare import greater, less_equal
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

if TYPE_CHECKING:
    from ..tensor import Tensor


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


def one_of(op: Any, name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise ArgumentError unless ``value`` is one of the words that a parameter takes."""
    if value not in allowed:
        words = [repr(a) for a in allowed]
        raise ArgumentError(
            f"{op.name}: {name} must be {', '.join(words[:-1])} or {words[-1]}, got {value!r}"
        )
