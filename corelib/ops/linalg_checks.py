"""What the conformance suite asks of linear algebra, and what is said of a matrix that has no answer.

Samples are well-conditioned, with values (of all kinds) that keep their distance, so that a gradient has few digits
to lose. A *residual* is 0 for perfect factors, and for those of a backward stable algorithm some multiple of n eps;
an *invariant* is what of the factors does not depend on signs, phases and order. Norms are Frobenius norms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..dtypes import float32, int64
from ..errors import DTypeError, LinAlgError, ShapeError
from ..op import calls
from ..samples import ErrorSample, Maker, Sample, Values
from .arrange import diff, tril, triu
from .compare import equal, isfinite, less_equal, logical_not
from .contract import matmul, trace
from .creation import arange
from .elementwise import abs, add, astype, divide, imag, minimum, multiply, subtract, where
from .linalg_derivatives import adjoint, identity, row
from .reduce import all, sum
from .statistics import vector_norm

if TYPE_CHECKING:
    from ..dtypes import DType
    from ..op import Op
    from ..tensor import Tensor

Build = Callable[[Maker, "DType", tuple[int, ...]], Values]

# -- samples -------------------------------------------------------------------------------------------------

SQUARE = ((1, 1), (3, 3), (2, 2), (2, 3, 3), (5, 5), (2, 1, 4, 4), (0, 0), (0, 3, 3), (2, 0, 0))
OBLONG = (*SQUARE, (4, 2), (2, 4), (2, 3, 2), (2, 2, 3), (1, 4), (4, 1), (0, 3), (3, 0))


def general(make: Maker, dtype: DType, shape: tuple[int, ...]) -> Values:
    """Matrices near a diagonal of 1.5, -3, 4.5, ..."""
    *_, m, n = shape
    noise = make.array(shape, dtype, -0.5, 0.5)
    return Values(
        shape, dtype, tuple(_rounded(x + _peak(i // n % m, i % n), dtype) for i, x in enumerate(noise.data))
    )


def _rounded(x: Any, dtype: DType) -> Any:
    if dtype.kind == "complex":
        return complex(dtype.real.round(x.real), dtype.real.round(x.imag))
    return dtype.round(x)


def _peak(i: int, j: int) -> float:
    return (-1) ** i * 1.5 * (i + 1) if i == j else 0.0


def symmetric(make: Maker, dtype: DType, shape: tuple[int, ...]) -> Values:
    """Hermitian matrices of both signs."""
    x = general(make, dtype, shape)
    *_, n, _ = shape

    def element(place: int) -> Any:
        i, j = place // n % n, place % n
        if i == j:
            return x.data[place] if dtype.kind != "complex" else complex(x.data[place].real)
        mirrored = x.data[place + (j - i) * (n - 1)]
        return x.data[place] if i > j else mirrored if dtype.kind != "complex" else mirrored.conjugate()

    return Values(shape, dtype, tuple(map(element, range(len(x.data)))))


def positive(make: Maker, dtype: DType, shape: tuple[int, ...]) -> Values:
    """Hermitian matrices whose diagonal outweighs the rest."""
    x = symmetric(make, dtype, shape)
    *_, n, _ = shape

    def element(place: int) -> Any:
        return x.data[place] if place // n % n != place % n else type(x.data[place])(0.75 * n + place % n)

    return Values(shape, dtype, tuple(map(element, range(len(x.data)))))


def matrices(
    build: Build, over: tuple[tuple[int, ...], ...] = SQUARE, kwargs: tuple[dict[str, Any], ...] = ({},)
) -> Any:
    """A sample for each shape and each of ``kwargs``."""

    def generate(make: Maker, dtype: DType) -> Iterator[Sample]:
        for params in kwargs:
            for shape in over:
                yield Sample((build(make, dtype, shape),), dict(params))

    return generate


def svd_samples(make: Maker, dtype: DType) -> Iterator[Sample]:
    """Of matrices that are not square, full ones too: their gradient is refused, so it is not asked for here."""
    yield from matrices(general, OBLONG, ({"full_matrices": False},))(make, dtype)
    yield from matrices(general, SQUARE[:5])(make, dtype)


def powers(make: Maker, dtype: DType) -> Iterator[Sample]:
    """Exponents of all signs."""
    for n in (0, 1, 2, 3, -1, -2, 5):
        for shape in ((3, 3), (2, 2, 2)):
            yield Sample((general(make, dtype, shape), n))


bad_powers = [
    ErrorSample(ShapeError, "matrix_power: x must be a matrix", lambda m: Sample((m.array((3,), float32), 2))),
    ErrorSample(ShapeError, "matrix_power: the matrices of x must be square", lambda m: Sample((m.array((2, 3), float32), 1))),
    ErrorSample(DTypeError, "matrix_power: n must be an integer, got 0.5", lambda m: Sample((m.array((2, 2), float32), 0.5))),
    ErrorSample(LinAlgError, "matrix_power: x is singular", lambda m: Sample((m.full((2, 2), float32, 1.0), -1))),
]  # fmt: skip


def tolerances(make: Maker, dtype: DType) -> Iterator[Sample]:
    """No tolerance, a number, and one for each matrix, between the singular values and away from them."""
    for shape in OBLONG:
        yield Sample((general(make, dtype, shape),))
        yield Sample((general(make, dtype, shape),), {"rtol": 0.125})
    each = Values((2,), dtype.real, (0.125, 0.0625))
    yield Sample((general(make, dtype, (2, 3, 3)),), {"rtol": each})


def bad_tolerances(name: str) -> list[ErrorSample]:
    """Tolerances that do not fit."""
    return [
        ErrorSample(ShapeError, f"{name}: rtol of shape .* is not one for each matrix",
                    lambda m: Sample((m.array((2, 3, 3), float32),), {"rtol": m.array((3,), float32)})),
        ErrorSample(DTypeError, f"{name}: rtol must have a real floating dtype, got int64",
                    lambda m: Sample((m.array((2, 3, 3), float32),), {"rtol": m.array((2,), int64)})),
    ]  # fmt: skip


def refusals(
    name: str, *more: ErrorSample, square: bool = True, x: str = "x", second: Any = ()
) -> list[ErrorSample]:
    """The mistakes common to all functions of a matrix ``x``; ``second``: shapes of what else they take."""

    def mistake(words: str, shape: tuple[int, ...]) -> ErrorSample:
        operands = lambda m: (m.array(shape, float32), *(m.array(s, float32) for s in second))
        return ErrorSample(ShapeError, f"{name}: {words}", lambda m: Sample(operands(m)))

    errors = [mistake(rf"{x} must be a matrix or a stack of matrices, got shape \(3,\)", (3,))]
    if square:
        errors.append(mistake(rf"the matrices of {x} must be square, got shape \(2, 3\)", (2, 3)))
    return [*errors, *more]


def without_answer(words: str, *second: float, more: Any = ()) -> ErrorSample:
    """A stack of the identity and another matrix of size 2, which is refused with LinAlgError."""
    stack = Values((2, 2, 2), float32, (1.0, 0.0, 0.0, 1.0, *second))
    return ErrorSample(LinAlgError, words, lambda m: Sample((stack, *(m.array(s, float32) for s in more))))


# -- residuals -----------------------------------------------------------------------------------------------


def norm(x: Tensor) -> Tensor:
    """The Frobenius norm of each matrix."""
    return vector_norm(abs(x), axis=(-2, -1))


def relative(error: Tensor, *scales: Tensor) -> Tensor:
    """The norm of each matrix of ``error`` over the product of those of ``scales``; 0 where there is no error."""
    size = norm(error)
    scale: Any = 1.0
    for x in scales:
        scale = multiply(norm(x), scale)
    exact = equal(size, 0)
    return where(exact, 0, divide(size, where(exact, 1, scale)))


def never(x: Tensor) -> Tensor:
    """Infinite where x is not 0: for what has to hold exactly."""
    return where(equal(x, 0), 0.0, math.inf)


def orthonormal(q: Tensor) -> Tensor:
    """How far the columns are from orthonormal."""
    return norm(subtract(matmul(adjoint(q), q), identity(q)))


def ascending(w: Tensor) -> Tensor:
    """Infinite where the elements are not in ascending order."""
    return never(minimum(diff(w), 0))


def cholesky_residual(y: Tensor, x: Tensor, *, upper: bool) -> tuple[Tensor, ...]:
    """L L^H is x, L is lower triangular with a real diagonal."""
    lower = adjoint(y) if upper else y
    lower_x = add(tril(x), adjoint(tril(x, k=-1)))
    real_diagonal = imag(calls.diagonal(lower))
    return (
        relative(subtract(matmul(lower, adjoint(lower)), lower_x), x),
        never(triu(lower, k=1)),
        never(real_diagonal),
    )


def solve_residual(y: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """x1 y is x2."""
    if x2.ndim == 1:
        y, x2 = (calls.expand_dims(x, axis=-1) for x in (y, x2))
    return relative(subtract(matmul(x1, y), x2), x1, y)


def inv_residual(y: Tensor, x: Tensor) -> Tensor:
    """x y is the identity."""
    return relative(subtract(matmul(x, y), identity(x)), x, y)


def det_residual(y: Tensor, x: Tensor) -> Tensor:
    """y is det(x + e) for a small e: by Jacobi's formula, tr(adj(x) e) away from det(x)."""
    error = subtract(y, calls.det(x))
    return relative(calls.reshape(error, (*error.shape, 1, 1)), calls.adjugate(x), x)


def slogdet_residual(y: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """sign exp(logabsdet) is the determinant, |sign| is 1."""
    sign, log = y
    return det_residual(multiply(sign, calls.exp(log)), x), subtract(abs(sign), 1)


def eigh_residual(y: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """x V is V diag(w), V is unitary, w ascends."""
    w, v = y
    lower_x = add(tril(x), adjoint(tril(x, k=-1)))
    return relative(subtract(matmul(lower_x, v), multiply(v, row(w))), x), orthonormal(v), ascending(w)


def eig_residual(y: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, ...]:
    """x V is V diag(w), columns have norm 1, and w sums to the trace: no eigenvalue is there twice."""
    w, v = y
    missing = subtract(sum(w, axis=-1), trace(x))
    return (
        relative(subtract(matmul(x, v), multiply(v, row(w))), x),
        subtract(vector_norm(abs(v), axis=-2), 1),
        relative(calls.reshape(missing, (*missing.shape, 1, 1)), x),
    )


def eigvals_residual(y: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Each x - w is singular but for the distance that is its smallest singular value; w sums to the trace."""
    missing = subtract(sum(y, axis=-1), trace(x))
    result = relative(calls.reshape(missing, (*missing.shape, 1, 1)), x)
    if not y.size:
        return (result,)
    shifts = multiply(calls.reshape(y, (*y.shape, 1, 1)), identity(x))
    smallest = calls.svdvals(subtract(calls.expand_dims(x, axis=-3), shifts))[..., -1]
    return result, divide(smallest, calls.expand_dims(norm(x), axis=-1))


def qr_residual(y: tuple[Tensor, Tensor], x: Tensor, *, mode: str) -> tuple[Tensor, ...]:
    """Q R is x, Q has orthonormal columns, R is upper triangular with a real diagonal."""
    q, r = y
    return (
        relative(subtract(matmul(q, r), x), x), orthonormal(q), never(tril(r, k=-1)), never(imag(calls.diagonal(r))),
    )  # fmt: skip


def svd_residual(y: tuple[Tensor, Tensor, Tensor], x: Tensor, *, full_matrices: bool) -> tuple[Tensor, ...]:
    """U diag(S) Vh is x, U and V have orthonormal columns, S descends to no less than 0."""
    u, s, vh = y
    k = s.shape[-1]
    product = matmul(multiply(u[..., :k], row(s)), vh[..., :k, :])
    return (
        relative(subtract(product, x), x), orthonormal(u), orthonormal(adjoint(vh)), ascending(calls.flip(s, axis=-1)),
        never(minimum(s, 0)),
    )  # fmt: skip


# -- invariants ----------------------------------------------------------------------------------------------


def _weights(x: Tensor) -> Tensor:
    """1, 2, 3, ...: one for each column."""
    return astype(add(arange(x.shape[-1], device=x._backend), 1), x.dtype)


def weighted(v: Tensor) -> Tensor:
    """V diag(1, 2, ...) V^H, which the phases of V's columns do not change."""
    return matmul(multiply(v, _weights(v)), adjoint(v))


def eigh_invariant(y: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The values, and the vectors up to phases."""
    return y[0], weighted(y[1])


def eig_invariant(y: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Sums over the values and vectors, in whatever order."""
    w, v = y
    scaled = multiply(v, row(w))
    return sum(w, axis=-1), sum(multiply(w, w), axis=-1), matmul(scaled, adjoint(v)), matmul(v, adjoint(v))


def eigvals_invariant(y: Tensor) -> tuple[Tensor, ...]:
    """Sums over the values, in whatever order."""
    return sum(y, axis=-1), sum(multiply(y, y), axis=-1)


def qr_invariant(y: tuple[Tensor, Tensor], *, mode: str) -> tuple[Tensor, ...]:
    """Q's columns and R's rows up to signs."""
    return weighted(y[0]), weighted(adjoint(y[1]))


def svd_invariant(y: tuple[Tensor, Tensor, Tensor], *, full_matrices: bool) -> tuple[Tensor, ...]:
    """The values, and both kinds of vectors up to common phases."""
    u, s, vh = y
    if full_matrices and u.shape[-1] != vh.shape[-2]:
        return ()
    return s, matmul(multiply(u, _weights(u)), vh), weighted(u)


# -- diagnoses -----------------------------------------------------------------------------------------------


def _first(name: str, bad: Tensor) -> str:
    """The first matrix of a stack that is ``bad``, as ``x`` or ``x[1, 0]``; empty if none is."""
    flags = calls.reshape(bad, (-1,)).tolist() if bad.size else []
    if True not in flags:
        return ""
    place, index = flags.index(True), []
    for size in reversed(bad.shape):
        place, i = divmod(place, size)
        index.append(str(i))
    return f"{name}[{', '.join(reversed(index))}]" if index else name


def _not_finite(x: Tensor) -> Tensor:
    return logical_not(all(isfinite(x), axis=(-2, -1)))


def diagnose_finite(op: Op, operands: Any, params: dict[str, Any]) -> None:
    """LinAlgError for the first matrix with an element that is NaN or infinite."""
    found = _first("x", _not_finite(operands[0]))
    if found:
        raise LinAlgError(f"{op.name}: {found} has elements that are NaN or infinite")


def diagnose_lower(op: Op, operands: Any, params: dict[str, Any]) -> None:
    """As :func:`diagnose_finite`, of the lower triangle."""
    diagnose_finite(op, [tril(operands[0])], params)


def diagnose_singular(op: Op, operands: Any, params: dict[str, Any]) -> None:
    """LinAlgError for the first matrix that is singular."""
    name, x = op.operands[0], operands[0]
    found = _first(name, equal(calls.slogdet(x)[1], -math.inf))
    if found:
        raise LinAlgError(f"{op.name}: {found} is singular: pinv({name}) gives what is nearest to an inverse")


def diagnose_positive(op: Op, operands: Any, params: dict[str, Any]) -> None:
    """LinAlgError for the first matrix that is not positive definite."""
    x = tril(operands[0])
    found = _first("x", _not_finite(x))
    if not found:
        smallest = calls.eigvalsh(x)[..., 0]
        # where all are positive, rounding has tipped one that is less than some n eps of the largest
        tiny = multiply(norm(x), x.shape[-1] ** 2 * x.dtype.eps)
        found = _first("x", less_equal(smallest, 0.0)) or _first("x", less_equal(smallest, tiny))
    if found:
        raise LinAlgError(f"{op.name}: {found} is not positive definite")
