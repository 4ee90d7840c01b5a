"""Decompositions of one matrix: Cholesky, QR, symmetric and general eigenvalues, singular values.

A matrix is a list of rows of finite doubles or of finite complex numbers: Python's arithmetic is the same for both,
and ``a.conjugate()`` is a for a float. All algorithms are backward stable: their results are exact for a matrix that
differs from the given one by a small multiple of n * 2**-53 of its norm. What could overflow or underflow is
scaled by a power of two first, which is exact. The sources:

* GVL: G. H. Golub and C. F. Van Loan, Matrix Computations, 4th edition, 2013.
* LAPACK: E. Anderson et al., LAPACK Users' Guide, 3rd edition, 1999; named by its routines (geqrf, hseqr, ...).
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import Any

from corelib.plugin_api import LinAlgError

Vector = list[Any]
Rows = list[list[Any]]

UNIT = 2.0**-53  # the unit roundoff
SWEEPS = 40  # Jacobi's methods need 5 to 17
NOTHING = 2.0**-400  # an inner product of columns of a matrix of size 1 that is as good as zero
LARGE = 2.0**400


def total(terms: Iterable[Any]) -> Any:
    """The sum, rounded once."""
    terms = list(terms)
    if terms and isinstance(terms[0], complex):
        return complex(math.fsum([z.real for z in terms]), math.fsum([z.imag for z in terms]))
    return math.fsum(terms)


def dot(x: Sequence[Any], y: Sequence[Any]) -> Any:
    """x^H y."""
    return total(a.conjugate() * b for a, b in zip(x, y, strict=True))


def norm(x: Sequence[Any]) -> float:
    """The 2-norm, which overflows or underflows only if it has to."""
    return math.hypot(*[z.real for z in x], *[z.imag for z in x])


def transposed(rows: Rows) -> Rows:
    """The columns of a matrix that is given by rows."""
    return [list(column) for column in zip(*rows, strict=True)]


def adjoint(rows: Rows) -> Rows:
    """A^H."""
    return [[z.conjugate() for z in column] for column in zip(*rows, strict=True)]


def unit_vectors(n: int, count: int) -> Rows:
    """The first ``count`` unit vectors of length n."""
    return [[float(i == j) for i in range(n)] for j in range(count)]


def normalized(rows: Rows) -> tuple[Rows, float]:
    """A power of two, and the matrix divided by it, whose largest component then lies in [1, 2)."""
    e = (
        math.frexp(max((abs(part) for row in rows for z in row for part in (z.real, z.imag)), default=0.0))[1]
        - 1
    )

    def scaled(z: Any) -> Any:
        return (
            complex(math.ldexp(z.real, -e), math.ldexp(z.imag, -e))
            if isinstance(z, complex)
            else math.ldexp(z, -e)
        )

    return [list(map(scaled, row)) for row in rows], 2.0**e


# ---- triangular factors


def cholesky(a: Rows) -> Rows:
    """The lower triangular L with L L^H = A and a positive diagonal, row by row (GVL 4.2.5). Reads A's lower triangle.

    LinAlgError if A is not positive definite.
    """
    factor: Rows = []
    for i, row in enumerate(a):
        own: Vector = []
        for element, other in zip(row[:i], factor, strict=True):
            known = [-x * y.conjugate() for x, y in zip(own, other, strict=False)]
            own.append(total([element, *known]) / other[len(own)])
        length = norm(own)
        square = row[i].real - length * length
        if square <= 0:
            raise LinAlgError(f"a matrix is not positive definite: its pivot {i} is {square}")
        factor.append([*own, math.sqrt(square), *[0.0] * (len(a) - i - 1)])
    return factor


def reflector(x: Vector) -> tuple[Vector, Any, Any]:
    """v, tau and beta with H^H x = beta e_1, where H = I - tau v v^H is unitary and v[0] = 1 (GVL 5.1.2; larfg).

    beta is real and against the sign of Re x[0], so that nothing cancels; H = I where x is real and zero behind x[0].
    """
    alpha, tail = x[0], norm(x[1:])
    if tail == 0 and alpha.imag == 0:
        return [type(alpha)(1), *x[1:]], 0.0, alpha
    beta = -math.copysign(math.hypot(alpha.real, alpha.imag, tail), alpha.real)
    return [type(alpha)(1), *(z / (alpha - beta) for z in x[1:])], (beta - alpha) / beta, beta


def reflected(x: Vector, v: Vector, tau: Any) -> Vector:
    """(I - tau v v^H) x."""
    length = tau * dot(v, x)
    return [a - length * b for a, b in zip(x, v, strict=True)]


def qr(a: Rows, count: int) -> tuple[Rows, Rows]:
    """Q (m, count) with orthonormal columns and upper triangular R (count, n) with Q R = A (GVL 5.2.2; geqrf).

    ``count`` is m, or min(m, n) at least. R's diagonal is real, of either sign. Columns are scaled one by one.
    """
    scaled = [normalized([column]) for column in transposed(a)]
    columns, units = [column for (column,), _ in scaled], [unit for _, unit in scaled]
    basis, reflectors = unit_vectors(len(a), count), []
    for k in range(min(len(a), len(columns))):
        v, tau, beta = reflector(columns[k][k:])
        reflectors.append((k, v, tau))
        columns[k][k:] = [beta, *[0.0] * (len(v) - 1)]
        for column in columns[k + 1 :]:
            column[k:] = reflected(column[k:], v, tau.conjugate())
    for k, v, tau in reversed(reflectors):
        for column in basis[k:]:  # the earlier ones are zero from row k on
            column[k:] = reflected(column[k:], v, tau)
    r = [[z * unit for z in column[:count]] for column, unit in zip(columns, units, strict=True)]
    return transposed(basis), transposed(r)


# ---- Jacobi's methods: Hermitian eigenvalues, and singular values


def rotation(p: float, q: float, r: Any) -> tuple[float, Any, float]:
    """c, s, t for which J = [[c, s], [-conj(s), c]] makes J^H [[p, r], [conj(r), q]] J = diag(p - t, q + t).

    The smaller of the two possible angles, without which the sweeps need not converge (GVL 8.5.2).
    """
    size = abs(r)
    cotangent = (q - p) / size / 2  # of the double angle
    tangent = math.copysign(1 / (abs(cotangent) + math.hypot(1.0, cotangent)), cotangent)
    c = 1 / math.hypot(1.0, tangent)
    return c, r / size * (tangent * c), tangent * size


def rotated(x: Vector, y: Vector, c: float, s: Any) -> tuple[Vector, Vector]:
    """The two columns of [x y] J."""
    s_bar, pairs = s.conjugate(), list(zip(x, y, strict=True))
    return [c * a - s_bar * b for a, b in pairs], [s * a + c * b for a, b in pairs]


def sweeps(n: int, rotate: Callable[[int, int], bool]) -> None:
    """rotate(p, q) for all p < q < n, in sweeps, until a whole sweep had nothing to do and so returned False."""
    for _ in range(SWEEPS):
        if sum(rotate(p, q) for p in range(n) for q in range(p + 1, n)) == 0:
            return
    raise LinAlgError(f"Jacobi's method did not converge in {SWEEPS} sweeps")


def eigh(a: Rows) -> tuple[Vector, Rows]:
    """Ascending eigenvalues w and orthonormal eigenvectors, the columns of V, of a Hermitian matrix: A V = V diag(w).

    Jacobi's cyclic method (GVL 8.5.3).
    """
    a, unit = normalized(a)
    n = len(a)
    vectors = unit_vectors(n, n)  # the columns of V

    def rotate(p: int, q: int) -> bool:
        left, right, corner = a[p][p].real, a[q][q].real, a[p][q]
        if abs(corner) <= UNIT * math.sqrt(abs(left)) * math.sqrt(abs(right)):
            return False
        c, s, t = rotation(left, right, corner)
        vectors[p], vectors[q] = rotated(vectors[p], vectors[q], c, s)
        a[p], a[q] = rotated(
            a[p], a[q], c, s.conjugate()
        )  # J^H A; the columns of J^H A J are the rows' conjugates
        for row, x, y in zip(a, a[p], a[q], strict=True):
            row[p], row[q] = x.conjugate(), y.conjugate()
        a[p][p], a[p][q], a[q][p], a[q][q] = left - t, 0.0, 0.0, right + t
        return True

    sweeps(n, rotate)
    order = sorted(range(n), key=lambda k: a[k][k].real)
    return [a[k][k].real * unit for k in order], transposed([vectors[k] for k in order])


def svd(a: Rows, full: bool) -> tuple[Rows, Vector, Rows]:
    """U, the k = min(m, n) descending singular values s, and V^H: A = U[:, :k] diag(s) V^H[:k].

    ``full``: U and V^H are square; else they are (m, k) and (k, n). The one-sided method of Hestenes and Jacobi (GVL
    8.6.3): rotations make the columns of A V orthogonal. Their lengths are the singular values. The R of A V = Q R is
    diagonal, so Q is U but for signs, and unitary whatever the rank of A is.
    """
    if len(a) < len(a[0]):
        v, values, u = svd(adjoint(a), full)
        return adjoint(u), values, adjoint(v)
    a, unit = normalized(a)
    columns, m, n = transposed(a), len(a), len(a[0])
    vectors = unit_vectors(n, n)  # the columns of V

    def rotate(p: int, q: int) -> bool:
        left, right, product = norm(columns[p]), norm(columns[q]), dot(columns[p], columns[q])
        if abs(product) <= m * UNIT * left * right + NOTHING:
            return False
        c, s, _ = rotation(left * left, right * right, product)
        columns[p], columns[q] = rotated(columns[p], columns[q], c, s)
        vectors[p], vectors[q] = rotated(vectors[p], vectors[q], c, s)
        return True

    sweeps(n, rotate)
    values = list(map(norm, columns))
    order = sorted(range(n), key=values.__getitem__, reverse=True)
    q, r = qr(transposed([columns[k] for k in order]), m if full else n)
    signs = [math.copysign(1.0, r[k][k].real) for k in range(n)] + [1.0] * (m - n)
    u = [[z * sign for z, sign in zip(row, signs, strict=False)] for row in q]
    return u, [values[k] * unit for k in order], adjoint(transposed([vectors[k] for k in order]))


# ---- eigenvalues of any square matrix


def similarity(a: Rows, z: Rows, k: int, x: Vector) -> Any:
    """In place H^H A H and Z H, where H^H x = beta e_1 is the reflection of x at the coordinates from k on; beta."""
    v, tau, beta = reflector(x)
    span, v_bar = slice(k, k + len(v)), [z.conjugate() for z in v]
    a[span] = transposed([reflected(column, v, tau.conjugate()) for column in transposed(a[span])])
    for row in (*a, *z):  # row H = row - tau (row v) v^H
        row[span] = reflected(row[span], v_bar, tau)
    return beta


def francis_step(h: Rows, z: Rows, low: int, high: int, shifts: Vector) -> None:
    """A QR step on rows low to high of H, shifted by both eigenvalues of [[p, q], [r, s]] (GVL 7.5.1): real if H is."""
    (a, b), (c, d) = (row[low : low + 2] for row in h[low : low + 2])
    p, q, r, s = shifts
    p, s = p - a, s - a  # the first column of (H - one shift) (H - the other), divided by c: hardly cancels
    x = [(p * s - q * r) / c + b, d - a - p - s, h[low + 2][low + 1]]
    for k in range(low, high):
        beta = similarity(h, z, k, x)
        if k > low:  # x was a column of H, whose bulge it was
            h[k][k - 1] = beta
            for row in h[k + 1 : k + len(x)]:
                row[k - 1] = 0.0
        x = [row[k] for row in h[k + 1 : min(k + 4, high + 1)]]


def schur(a: Rows) -> tuple[Rows, Rows]:
    """Upper triangular T and unitary Z with A = Z T Z^H: the QR algorithm with two shifts (GVL 7.5.2; hseqr).

    Where A is real so is all, until in the end the blocks of two conjugate eigenvalues are made triangular.
    """
    n, steps = len(a), 0
    h, z = [list(row) for row in a], unit_vectors(n, n)
    size = norm(list(map(norm, a)))
    for k in range(n - 2):  # to Hessenberg form (GVL 7.4.2)
        h[k + 1][k] = similarity(h, z, k + 1, [row[k] for row in h[k + 1 :]])
        for row in h[k + 2 :]:
            row[k] = 0.0
    high = n - 1
    while high > 0:

        def splits(k: int) -> bool:
            return abs(h[k][k - 1]) <= UNIT * (abs(h[k][k]) + abs(h[k - 1][k - 1]) or size)

        low = next((k for k in range(high, 0, -1) if splits(k)), 0)
        if low:
            h[low][low - 1] = 0.0
        if low >= high - 1:  # one eigenvalue or two stand by themselves
            high, steps = low - 1, 0
            continue
        steps += 1
        if steps > 100:
            raise LinAlgError("the QR algorithm did not converge in 100 steps")
        shifts = h[high - 1][high - 1 : high + 1] + h[high][high - 1 : high + 1]
        if steps % 10 == 0:  # others, to break a cycle (lahqr)
            side = abs(h[high][high - 1]) + abs(h[high - 1][high - 2])
            shifts = [h[high][high] + 0.75 * side, -0.4375 * side, side, h[high][high] + 0.75 * side]
        francis_step(h, z, low, high, shifts)
    for k in range(n - 1):
        if h[k + 1][k]:
            block = h[k][k : k + 2] + h[k + 1][k : k + 2]
            x = eigenvector(*block)
            similarity(h, z, k, x)
            h[k + 1][k] = 0.0
            if isinstance(x[0], complex) and not isinstance(block[0], complex):
                h[k + 1][k + 1] = h[k][k].conjugate()
    return h, z


def eigenvector(a: Any, b: Any, c: Any, d: Any) -> Vector:
    """An eigenvector of [[a, b], [c, d]], c not 0: (x, c), where x = eigenvalue - d solves x**2 - (a - d) x = b c."""
    half = (a - d) / 2
    square = half * half + b * c
    root = cmath.sqrt(square) if isinstance(square, complex) or square < 0 else math.sqrt(square)
    x = max(half + root, half - root, key=abs)
    return [x, type(x)(c)]


def eig(a: Rows) -> tuple[Vector, Rows]:
    """Eigenvalues w and eigenvectors of length 1, the columns of V: A V = V diag(w); all complex, in any order.

    By back-substitution in the Schur form (GVL 7.6.4; trevc); a defective matrix gets nearly parallel vectors. A
    real matrix gets real pairs and conjugate pairs, exactly.
    """
    a, unit = normalized(a)
    is_complex = any(isinstance(z, complex) for row in a for z in row)
    t, z = schur(a)
    smallest = UNIT * (norm(list(map(norm, t))) or 1.0)
    values: Vector = []
    vectors: Rows = []
    for k in range(len(t)):
        if len(values) > k:
            continue  # the conjugate of the one before
        value = t[k][k]
        y = [0j] * k + [1 + 0j]  # (T - value) y = 0
        for i in reversed(range(k)):
            gap = value - t[i][i]
            gap = gap if abs(gap) > smallest else smallest
            y[i] = total(map(mul, t[i][i + 1 : k + 1], y[i + 1 :])) / gap
            if abs(y[i]) > LARGE:
                y = [x / LARGE for x in y]
        vector = [total(map(mul, row, y)) for row in z]
        if not (is_complex or value.imag):  # A's: its real and its imaginary part are eigenvectors, or zero
            largest = max(vector, key=abs)
            vector = [complex((x / largest).real) for x in vector]
        length = norm(vector)
        values.append(complex(value) * unit)
        vectors.append([x / length for x in vector])
        if not is_complex and value.imag:
            values.append(values[-1].conjugate())
            vectors.append([x.conjugate() for x in vectors[-1]])
    return values, transposed(vectors)
