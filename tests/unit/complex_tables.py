"""The special cases of the array API standard 2025.12 for complex operands, as data."""

from __future__ import annotations

import math

INF, NAN, PI = math.inf, math.nan, math.pi


def same(x, y):
    """Equal floats: NaN is NaN, and zeros have their sign."""
    return (x != x and y != y) or (x == y and math.copysign(1, x) == math.copysign(1, y))


FINITE = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 100.0, -1000.0, 5e-324, 1e-300, -1e300]
CLASSES = {
    "0": [0.0], "-0": [-0.0], "±0": [0.0, -0.0], "1": [1.0], "-1": [-1.0], "inf": [INF], "-inf": [-INF],
    "±inf": [INF, -INF], "nan": [NAN], "any": [*FINITE, INF, -INF, NAN], "not inf": [*FINITE, NAN],
    "finite": FINITE, "not 0": [x for x in [*FINITE, INF, -INF, NAN] if x != 0],
    "nonzero": [x for x in FINITE if x], "positive": [x for x in FINITE if x > 0],
}  # fmt: skip

# z = a + bi: a, b, the real and the imaginary part of the result (± where the standard leaves a sign open). Words
# as above; "nonzero" and "positive" are finite; cis(b) is cos(b) + i sin(b). The other half plane follows from
# f(conj z) = conj f(z).
TABLES = {
    "exp": """
        ±0, 0: 1, 0 | finite, inf: nan, nan | finite, nan: nan, nan | inf, 0: inf, 0
        -inf, finite: 0 cis | inf, nonzero: inf cis | -inf, inf: ±0, ±0 | inf, inf: ±inf, nan
        -inf, nan: ±0, ±0 | inf, nan: ±inf, nan | nan, 0: nan, 0 | nan, not 0: nan, nan""",
    "expm1": """
        ±0, 0: 0, 0 | finite, inf: nan, nan | finite, nan: nan, nan | inf, 0: inf, 0
        -inf, finite: 0 cis - 1 | inf, nonzero: inf cis - 1 | -inf, inf: -1, ±0 | inf, inf: ±inf, nan
        -inf, nan: -1, ±0 | inf, nan: ±inf, nan | nan, 0: nan, 0 | nan, not 0: nan, nan""",
    "log": """
        -0, 0: -inf, π | 0, 0: -inf, 0 | finite, inf: inf, π/2 | finite, nan: nan, nan
        -inf, positive: inf, π | inf, positive: inf, 0 | -inf, inf: inf, 3π/4 | inf, inf: inf, π/4
        ±inf, nan: inf, nan | nan, finite: nan, nan | nan, inf: inf, nan | nan, nan: nan, nan""",
    "log1p": """
        -1, 0: -inf, 0 | finite, inf: inf, π/2 | finite, nan: nan, nan
        -inf, positive: inf, π | inf, positive: inf, 0 | -inf, inf: inf, 3π/4 | inf, inf: inf, π/4
        ±inf, nan: inf, nan | nan, finite: nan, nan | nan, inf: inf, nan | nan, nan: nan, nan""",
    "sqrt": """
        ±0, 0: 0, 0 | any, inf: inf, inf | finite, nan: nan, nan | -inf, positive: 0, inf
        inf, positive: inf, 0 | -inf, nan: nan, ±inf | inf, nan: inf, nan | nan, finite: nan, nan
        nan, nan: nan, nan""",
    "sinh": """
        0, 0: 0, 0 | 0, inf: ±0, nan | 0, nan: ±0, nan | positive, inf: nan, nan
        positive, nan: nan, nan | inf, 0: inf, 0 | inf, positive: inf cis | inf, inf: ±inf, nan
        inf, nan: ±inf, nan | nan, 0: nan, 0 | nan, nonzero: nan, nan | nan, nan: nan, nan""",
    "cosh": """
        0, 0: 1, 0 | 0, inf: nan, ±0 | 0, nan: nan, ±0 | nonzero, inf: nan, nan
        nonzero, nan: nan, nan | inf, 0: inf, 0 | inf, nonzero: inf cis | inf, inf: ±inf, nan
        inf, nan: inf, nan | nan, ±0: nan, ±0 | nan, nonzero: nan, nan | nan, nan: nan, nan""",
    "tanh": """
        0, 0: 0, 0 | nonzero, inf: nan, nan | 0, inf: 0, nan | nonzero, nan: nan, nan
        0, nan: 0, nan | inf, positive: 1, 0 | inf, inf: 1, ±0 | inf, nan: 1, ±0
        nan, 0: nan, 0 | nan, not 0: nan, nan | nan, nan: nan, nan""",
    "asinh": """
        0, 0: 0, 0 | positive, inf: inf, π/2 | finite, nan: nan, nan | inf, positive: inf, 0
        inf, inf: inf, π/4 | nan, 0: nan, 0 | nan, nonzero: nan, nan | nan, inf: ±inf, nan
        nan, nan: nan, nan""",
    "acosh": """
        ±0, 0: 0, π/2 | finite, inf: inf, π/2 | nonzero, nan: nan, nan | 0, nan: nan, ±π/2
        -inf, positive: inf, π | inf, positive: inf, 0 | -inf, inf: inf, 3π/4 | inf, inf: inf, π/4
        ±inf, nan: inf, nan | nan, finite: nan, nan | nan, inf: inf, nan | nan, nan: nan, nan""",
    "atanh": """
        0, 0: 0, 0 | 0, nan: 0, nan | 1, 0: inf, 0 | positive, inf: 0, π/2
        nonzero, nan: nan, nan | inf, positive: 0, π/2 | inf, inf: 0, π/2 | inf, nan: 0, nan
        nan, finite: nan, nan | nan, inf: ±0, π/2 | nan, nan: nan, nan""",
    "acos": """
        ±0, 0: π/2, -0 | ±0, nan: π/2, nan | finite, inf: π/2, -inf | nonzero, nan: nan, nan
        -inf, positive: π, -inf | inf, positive: 0, -inf | -inf, inf: 3π/4, -inf | inf, inf: π/4, -inf
        ±inf, nan: nan, ±inf | nan, finite: nan, nan | nan, inf: nan, -inf | nan, nan: nan, nan""",
    "abs": """
        ±inf, any: inf | any, ±inf: inf | nan, finite: nan | finite, nan: nan""",
    "sign": """
        ±0, ±0: 0, 0 | nan, any: nan, nan | any, nan: nan, nan""",
}  # fmt: skip
ROWS = [
    (name, *(part.strip() for part in (*condition.split(","), result)))
    for name, table in TABLES.items()
    for row in table.replace("\n", "|").strip(" |").split("|")
    for condition, result in [row.split(":")]
]
NUMBERS = {
    "inf": INF, "nan": NAN, "0": 0.0, "1": 1.0, "π": PI, "π/2": PI / 2, "π/4": PI / 4, "3π/4": 3 * PI / 4,
}  # fmt: skip


def expected(result, b):
    """The parts that a table names, each with whether its sign is given."""
    if "cis" in result:
        modulus, _, rest = result.partition(" cis")
        less = 1.0 if rest else 0.0
        cis = (math.cos(b), math.sin(b)) if b else (1.0, b)
        re, im = (0.0 if not c and modulus == "inf" else NUMBERS[modulus] * c for c in cis)
        return [(re - less, True), (math.copysign(im, b) if b == 0 else im, True)]
    parts = [part.strip() for part in result.split(",")]
    values = [math.copysign(NUMBERS[p.lstrip("±-")], -1 if p.startswith("-") else 1) for p in parts]
    return [(value, not part.startswith("±")) for value, part in zip(values, parts, strict=True)]


def check(actual, want, signed):
    """A multiple of π is right to the last bit or the one before; everything else exactly."""
    if not signed:
        actual, want = abs(actual), abs(want)
    return same(actual, want) or (want != 0 and abs(actual - want) <= math.ulp(want))
