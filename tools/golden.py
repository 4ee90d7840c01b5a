"""Writes the golden vectors of the conformance suite: ``python tools/golden.py [op ...]``.

For each operand (``golden_points``, ``golden_complex``) mpmath gives the exact result, at two precisions that must agree
on the number of the dtype nearest to it and on what is left over, and at higher ones until they do (A. Ziv, "Fast
evaluation of elementary mathematical functions with correctly rounded last bit", 1991). What is written, and how it
is read, is told in ``corelib/conformance/golden.py``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from golden_complex import COMPLEX_BINARY, COMPLEX_UNARY, Plane
from golden_points import BINARY, UNARY, Points
from mpmath import mp, mpc, mpf

from corelib.dtypes import DType, complex64, complex128, float32, float64

FOLDER = Path(__file__).resolve().parents[1] / "corelib" / "conformance" / "vectors"
FIRST, LAST = (
    192,
    12288,
)  # bits: the first precision tried, and the one at which a remainder of 0 is taken for 0
FAR = 5000  # binary places below the smallest number of any dtype, from which on there is nothing but a sign
POINTS = 1400  # bits for choosing points: enough to reduce the largest double by pi/2

Function = Callable[..., Any]

# -- the functions, as written in the ops' docstrings --------------------------------------------------------


def log_to(base: int) -> Function:
    """The logarithm, exact for powers of the base."""

    def log(x: Any) -> Any:
        whole = int(mp.nint(mp.log(abs(x)) / mp.log(base))) if abs(mp.log(abs(x))) < 2000 else 0
        return mpf(whole) if x == mpf(base) ** whole else mp.log(x) / mp.log(base)

    return log


def power(x: Any, y: Any) -> Any:
    """x**y: mpmath's own for small whole and half exponents, where it is exact; else exp(y log x)."""
    if abs(y) <= 64 and y * 2 == mp.floor(y * 2):
        return mp.power(x, y)
    with mp.extraprec(80):
        size = mp.exp(y * mp.log(abs(x)))
    return -size if x < 0 and y % 2 else size


def complex_expm1(z: mpc) -> mpc:
    """Without cancellation: exp(a) cos(b) - 1 = expm1(a) cos(b) - 2 sin(b/2)**2."""
    a, b = z.real, z.imag
    return mpc(mp.expm1(a) * mp.cos(b) - 2 * mp.sin(b / 2) ** 2, mp.exp(a) * mp.sin(b))


def complex_log1p(z: mpc) -> mpc:
    """log(1 + z), the sum exact."""
    with mp.workprec(max(mp.prec, 2400)):
        return mp.log(1 + z)


def decay(a: mpf) -> mpf:
    """exp(-a) for a >= 0; where no dtype holds it, some positive number that none holds."""
    return mp.exp(-a) if a < 10**4 else mpf(2) ** -14000


def sigmoid(x: mpf) -> mpf:
    """1 / (1 + exp(-x))."""
    tail = decay(abs(x))
    return (1 if x > 0 else tail) / (1 + tail)


def gelu(x: mpf, approximate: str = "none") -> mpf:
    """x P(Z <= x), or the paper's formula with tanh."""
    if approximate == "none":
        return x * mp.erfc(-x / mp.sqrt(2)) / 2
    return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))


def logaddexp(x: mpf, y: mpf) -> mpf:
    """log(exp(x) + exp(y))."""
    return max(x, y) + mp.log1p(decay(abs(x - y)))


def softplus(x: mpf, beta: float = 1.0) -> mpf:
    """log(1 + exp(beta x)) / beta."""
    return logaddexp(mpf(0), beta * x) / beta


def mish(x: mpf) -> mpf:
    """x tanh(log(1 + exp(x)))."""
    tail = decay(abs(x))
    if x > 0:
        return x * (1 + 2 * tail) / (1 + 2 * tail + 2 * tail**2)
    return x * tail * (tail + 2) / (tail * (tail + 2) + 2)


def selu(x: mpf) -> mpf:
    """scale x or scale alpha (exp(x) - 1), with the paper's constants."""
    scale, alpha = mpf("1.0507009873554804934193349852946"), mpf("1.6732632423543772848170429916717")
    return scale * (x if x > 0 else alpha * mp.expm1(x))


def hardsigmoid(x: mpf) -> mpf:
    """(x + 3) / 6 between 0 and 1."""
    return min(max((x + 3) / 6, mpf(0)), mpf(1))


EXACT: dict[str, Function] = {
    **{name: getattr(mp, name) for name in (
        "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh",
        "acosh", "atanh", "erf", "sqrt", "atan2", "hypot",
    )},
    "log2": log_to(2), "log10": log_to(10), "pow": power, "logaddexp": logaddexp, "rsqrt": lambda x: 1 / mp.sqrt(x),
    "multiply": lambda x, y: x * y, "divide": lambda x, y: x / y,
    "sigmoid": sigmoid, "log_sigmoid": lambda x: -softplus(-x), "softplus": softplus, "silu": lambda x: x * sigmoid(x),
    "gelu": gelu, "elu": lambda x, alpha=1.0: x if x > 0 else alpha * mp.expm1(x),
    "celu": lambda x, alpha=1.0: x if x > 0 else alpha * mp.expm1(x / alpha),
    "selu": selu, "mish": mish, "softsign": lambda x: x / (1 + abs(x)), "hardsigmoid": hardsigmoid, "hardswish": lambda x: x * hardsigmoid(x),
}  # fmt: skip
EXACT_COMPLEX: dict[str, Function] = {
    **EXACT, "expm1": complex_expm1, "log1p": complex_log1p, "log2": lambda z: mp.log(z) / mp.log(2),
    "log10": lambda z: mp.log(z) / mp.log(10), "pow": lambda z, w: mp.exp(w * mp.log(z)), "abs": abs, "sign": lambda z: z / abs(z),
    "square": lambda z: z * z, "reciprocal": lambda z: 1 / z,
}  # fmt: skip
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "gelu": [{}, {"approximate": "tanh"}], "softplus": [{}, {"beta": 2.0}], "elu": [{}, {"alpha": 0.5}], "celu": [{}, {"alpha": 0.5}],
}  # fmt: skip
# Where the docstring says that the error is relative to the largest of operands and result.
RELATIVE_TO_LARGEST: dict[str, Callable[..., bool]] = {
    "logaddexp": lambda dtype, x, y: True,
    "gelu": lambda dtype, x, approximate="none": approximate == "none" or x < -6,
    "silu": lambda dtype, x: x < -math.log(dtype.max),
    "mish": lambda dtype, x: x < -math.log(dtype.max),
}

# -- rounding ------------------------------------------------------------------------------------------------


def rounded(value: mpf, dtype: DType) -> tuple[float, Fraction]:
    """The number of a floating dtype nearest to an exact value, ties to even, and what is left over, in ULP of the value."""
    if not value:
        return 0.0, Fraction(0)
    negative, man, exponent, bits = value._mpf_
    least = math.frexp(dtype.smallest_normal)[1] - dtype.digits  # the exponent of the smallest number
    place = max(exponent + bits - dtype.digits, least)
    sign = -1 if negative else 1
    if exponent + bits < least - FAR:
        return math.copysign(0.0, sign), sign * Fraction(1, 1 << FAR)
    down = max(place - exponent, 0)
    whole, rest = int(man) >> down << max(exponent - place, 0), int(man) & (1 << down) - 1
    left = Fraction(rest, 1 << down)
    if left > Fraction(1, 2) or (left == Fraction(1, 2) and whole % 2):
        whole, left = whole + 1, left - 1
    if whole.bit_length() + place > math.frexp(dtype.max)[1]:
        return sign * math.inf, Fraction(0)
    return math.copysign(math.ldexp(whole, place), sign), sign * left


def agree(a: tuple[float, Fraction], b: tuple[float, Fraction]) -> bool:
    """Whether two precisions give the same number and, to 6 digits, the same remainder; 0 only at the last precision."""
    same = a[0] == b[0] and math.copysign(1, a[0]) == math.copysign(1, b[0])
    return same and a[1] != 0 and abs(a[1] - b[1]) * 10**6 <= abs(b[1])


def parts(value: Any) -> tuple[mpf, ...]:
    """The real and the imaginary part of a complex value; a real value alone."""
    return (value.real, value.imag) if isinstance(value, mpc) else (mpf(value),)


def correctly_rounded(exact: Callable[[], Any], dtype: DType) -> list[tuple[float, Fraction]] | None:
    """The parts of a result, each with its remainder; None where one is so close to the largest number that its overflow is
    a matter of the last digits.
    """

    def values(bits: int) -> tuple[mpf, ...]:
        mp.prec = bits
        return parts(exact())

    def at(bits: int) -> list[tuple[float, Fraction]]:
        return [rounded(value, dtype) for value in values(bits)]

    if any(abs(abs(v) / mpf(dtype.max) - 1) < 64 * dtype.eps for v in values(FIRST)):
        return None
    bits, found = FIRST, at(FIRST)
    while True:
        bits, before, found = bits * 2, found, at(bits * 2)
        if all(
            a == b if math.isinf(b[0]) else agree(a, b) or (bits >= LAST and a == b)
            for a, b in zip(before, found, strict=True)
        ):
            return found
        if bits >= 2 * LAST:
            raise ArithmeticError(f"{dtype.name}: not decided with {bits} bits: {before}, {found}")


# -- writing -------------------------------------------------------------------------------------------------


def spelled(x: float) -> str:
    """A float in hexadecimal, as short as ``float.fromhex`` reads it: 1.8p-3."""
    if math.isinf(x) or x == 0:
        return str(x) if x else "-0p0" if math.copysign(1, x) < 0 else "0p0"
    significand, exponent = math.frexp(x)
    return f"{(significand * 2).hex().partition('p')[0].replace('0x', '').rstrip('0').rstrip('.')}p{exponent - 1}"


def remainder(left: Fraction) -> str:
    """Three digits of a remainder: -.479; of one that no double holds, its sign."""
    return f"{left.numerator / left.denominator:.3g}".replace("0.", ".") if left else "0"


def components(x: Any) -> tuple[float, ...]:
    """The parts of an operand."""
    return (x.real, x.imag) if isinstance(x, complex) else (x,)


def lines(
    exact: Function, operands: Iterable[tuple[Any, ...]], dtype: DType, params: dict[str, Any]
) -> Iterator[str]:
    """For each point its operands, the rounded result and the remainder, of complex numbers part by part."""
    for point in dict.fromkeys(operands):
        given = [mpc(x) if isinstance(x, complex) else mpf(x) for x in point]
        found = correctly_rounded(lambda given=given: exact(*given, **params), dtype.real)
        if found is not None:
            numbers = [*(c for x in point for c in components(x)), *(y for y, _ in found)]
            yield " ".join([*map(spelled, numbers), *(remainder(left) for _, left in found)])


def operands(name: str, dtype: DType) -> list[tuple[Any, ...]]:
    """The points of an op in a dtype; none where it has no golden vectors in that dtype."""
    mp.prec = POINTS
    of: Any
    if dtype.kind == "complex":
        plane = Plane(name, dtype)
        of = COMPLEX_UNARY.get(name)
        unary = [(z,) for z in of(plane) if z.real and z.imag] if of else []
        return unary or list(COMPLEX_BINARY.get(name, lambda p: ())(plane))
    points = Points(name, dtype)
    of = UNARY.get(name)
    if of is None:
        return list(BINARY.get(name, lambda p: ())(points))
    return [(x,) for x in (*of(points), *points.worst())]


def document(name: str) -> dict[str, Any]:
    """What an op's file holds."""
    vectors = []
    for dtype in (float32, float64, complex64, complex128):
        points = operands(name, dtype)
        exact = (EXACT_COMPLEX if dtype.kind == "complex" else EXACT)[name] if points else None
        for params in PARAMETERS.get(name, [{}]) if exact else []:
            largest = RELATIVE_TO_LARGEST.get(name, lambda *_, **__: False)
            for unit in ("result", "largest"):
                chosen = [p for p in points if largest(dtype, *p, **params) == (unit == "largest")]
                if chosen:
                    found = list(lines(exact, chosen, dtype, params))
                    vectors.append({"dtype": dtype.name, "params": params, "unit": unit, "points": found})
    return {"op": name, "vectors": vectors}


NAMES = sorted({*UNARY, *BINARY, *COMPLEX_UNARY, *COMPLEX_BINARY})


def text(name: str) -> str:
    """An op's file: JSON, one point on a line."""
    return json.dumps(document(name), indent=0) + "\n"


def main(names: list[str]) -> None:
    """Write the files of some ops, or of all; files of ops that have no vectors any more are removed."""
    FOLDER.mkdir(exist_ok=True)
    if not names:
        for stale in {path.stem for path in FOLDER.glob("*.json")} - set(NAMES):
            (FOLDER / f"{stale}.json").unlink()
    for name in names or NAMES:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
