"""Linear systems and determinants, exactly: fraction-free elimination on integers, each result rounded once.

A finite float is an integer over a power of two, so a matrix of floats is a matrix of integers once its rows
are multiplied by powers of two, which changes no solution and multiplies the determinant by a known power.
Elimination by E. H. Bareiss ("Sylvester's identity and multistep integer-preserving Gaussian elimination",
Math. Comp. 22, 1968) then needs no fractions: what it divides by, divides. No pivot is small here, it is zero
or not; so a matrix is singular exactly if its determinant is zero, and a solution is the nearest to the true
one however ill-conditioned the matrix is. Complex numbers are Gaussian integers. This module knows one matrix
as a list of rows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from corelib.plugin_api import LinAlgError, dtypes

from .rounding import exact, from_exact

Rows = list[list[Any]]


class GaussianInteger(NamedTuple):
    """The complex number real + i imag with integer parts: what of Python's int elimination asks for."""

    real: int
    imag: int = 0

    def __bool__(self) -> bool:
        return self.real != 0 or self.imag != 0

    def __neg__(self) -> GaussianInteger:
        return GaussianInteger(-self.real, -self.imag)

    def __sub__(self, other: GaussianInteger) -> GaussianInteger:
        return GaussianInteger(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: Any) -> GaussianInteger:
        a, b, c, d = self.real, self.imag, other.real, other.imag
        return GaussianInteger(a * c - b * d, a * d + b * c)

    def __floordiv__(self, other: Any) -> GaussianInteger:
        """The quotient of numbers that divide."""
        product, norm = self * other.conjugate(), other.real * other.real + other.imag * other.imag
        return GaussianInteger(product.real // norm, product.imag // norm)

    def conjugate(self) -> GaussianInteger:
        return GaussianInteger(self.real, -self.imag)


def integers(row: list[Any]) -> tuple[list[Any], int]:
    """Finite floats or complex numbers as (Gaussian) integers over one power of two, and its exponent."""
    parts, k = exact([part for z in row for part in (z.real, z.imag)])
    twos = math.gcd(*parts)
    twos = (twos & -twos).bit_length() - 1 if twos else 0
    pairs = [GaussianInteger(re >> twos, im >> twos) for re, im in zip(parts[::2], parts[1::2], strict=True)]
    return pairs if any(isinstance(z, complex) for z in row) else [z.real for z in pairs], k - twos


def eliminate(rows: Rows) -> tuple[Any, Rows]:
    """Bareiss' elimination of integers [A | B], (n, n + k): det A and adj(A) B = det(A) A**-1 B.

    The element (i, j) after step k is a minor of [A | B], that of its first k + 1 rows and columns bordered
    by row i and column j (Sylvester's identity): an integer. By Cramer's rule so is det(A) x.
    """
    rows, n, previous = [list(row) for row in rows], len(rows), 1
    for k in range(n):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            return 0, []
        if pivot != k:  # an exchange changes the determinant's sign, and so does a negation
            rows[k], rows[pivot] = rows[pivot], [-element for element in rows[k]]
        top, head = rows[k], rows[k][k]
        for row in rows[k + 1 :]:
            pairs, factor = zip(row[k + 1 :], top[k + 1 :], strict=True), row[k]
            row[k + 1 :] = [(head * element - factor * above) // previous for element, above in pairs]
        previous = head
    solution: Rows = [[]] * n
    for i in reversed(range(n)):  # back-substitution, of det x
        right = [element * previous for element in rows[i][n:]]
        for factor, known in zip(rows[i][i + 1 : n], solution[i + 1 :], strict=True):
            right = [r - factor * x for r, x in zip(right, known, strict=True)]
        solution[i] = [r // rows[i][i] for r in right]
    return previous, solution


def determinant(a: Rows) -> tuple[Any, int]:
    """The determinant of a matrix of finite numbers: an integer and k, of which it is integer / 2**k."""
    scaled = [integers(row) for row in a]
    return eliminate([row for row, _ in scaled])[0], sum(k for _, k in scaled)


def solution(a: Rows, b: Rows, dtype: dtypes.DType) -> Rows:
    """The X with A X = B, (n, k), every component rounded once to the real ``dtype``; LinAlgError if singular."""
    n = len(a)
    det, products = eliminate([integers(left + right)[0] for left, right in zip(a, b, strict=True)])
    if not det:
        raise LinAlgError("the matrix is singular")
    norm = (det * det.conjugate()).real
    return [[quotient(x * det.conjugate(), norm, dtype) for x in row] for row in products[:n]]


def quotient(z: Any, d: int, dtype: dtypes.DType) -> Any:
    """z / d for an integer or Gaussian integer z, each component the nearest value of the real ``dtype``."""
    if isinstance(z, GaussianInteger):
        return complex(quotient(z.real, d, dtype), quotient(z.imag, d, dtype))
    shift = 66 + d.bit_length() - abs(z).bit_length()  # the quotient gets 66 bits or 67
    whole, rest = divmod(z << max(shift, 0), d << max(-shift, 0))
    return from_exact(whole << 1 | (rest != 0), shift + 1, dtype)  # rounded to odd: see from_exact


def logarithm(n: int, k: int) -> float:
    """log(n / 2**k) of a positive integer, within 2 ULP even near 1."""
    s = n.bit_length()
    s -= n * n < 1 << (2 * s - 1)  # n / 2**s lies within [sqrt(1/2), sqrt(2)]
    return math.log1p((n - (1 << s)) / (1 << s)) + (s - k) * math.log(2)
