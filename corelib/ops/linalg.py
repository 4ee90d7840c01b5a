"""Linear algebra: the array API standard's extension ``linalg``, over the primitives of ``decompositions.py``.

What is made of decompositions is a composite here: values alone, inverses, ranks, norms and powers; and this is the
namespace, with what other families have of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import INEXACT, NUMERIC, float32, int64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..params import Caller, checked, checked_axis
from ..rules import Rule, Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Sample, shapes
from . import linalg_checks as checks
from . import linalg_derivatives as derivatives
from .arrange import diagonal, matrix_transpose
from .compare import greater
from .contract import matmul, outer, tensordot, trace, vecdot
from .decompositions import (
    STABLE,
    cholesky,
    det,
    eig,
    eigh,
    matrix,
    of_matrices,
    qr,
    same,
    shorter,
    slogdet,
    solve,
    square,
    svd,
)
from .elementwise import abs, divide, multiply, subtract, where
from .linalg_derivatives import adjoint, row
from .movement import broadcast_to, concat, narrow, reshape
from .reduce import _others, max, min, sum
from .statistics import count_nonzero, vector_norm

if TYPE_CHECKING:
    from ..params import Axis, Scalar
    from ..tensor import Tensor

    Array = Tensor | Scalar


# -- inverses ------------------------------------------------------------------------------------------------


@composite(
    kind="opaque", group="linalg", rule=of_matrices(square, same), leading=True, ulp=STABLE, samples=checks.matrices(checks.general),
    residual=checks.inv_residual, diagnose=checks.diagnose_singular,
    vjp=derivatives.inv_vjp,
    errors=checks.refusals("inv", checks.without_answer(r"inv: x\[1\] is singular", 1.0, 2.0, 2.0, 4.0)),
)  # fmt: skip
def inv(x: Tensor, /) -> Tensor:
    """The inverse of each matrix of x (..., n, n). Raises LinAlgError if one is exactly singular; to solve a system,
    ``solve`` is more accurate.
    """
    return solve(x, derivatives.identity(x))


@composite(
    kind="opaque", group="linalg", rule=of_matrices(square, same), leading=True, ulp=64, samples=checks.matrices(checks.general, checks.SQUARE[1:]),
    vjp=derivatives.adjugate_vjp, diagnose=checks.diagnose_finite, errors=checks.refusals("adjugate"),
)  # fmt: skip
def adjugate(x: Tensor, /) -> Tensor:
    """The transposed matrix of cofactors, det(x) inv(x) where x (..., n, n) is regular: the derivative of ``det``.

    From the singular values, with nothing divided, so that it is right for every x. Its own derivative needs a
    regular x, and raises LinAlgError for a singular one.
    """
    u, s, vh = svd(x, full_matrices=False)
    others = _others(s, (-1,))
    inner = multiply(adjoint(vh), row(others))
    return multiply(derivatives.each(multiply(det(u), det(vh))), matmul(inner, adjoint(u)))


# -- values ---------------------------------------------------------------------------------------------------


@composite(
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x: Spec(x.shape[:-1], x.dtype.real)), leading=True, ulp=32,
    samples=checks.matrices(checks.symmetric), vjp=derivatives.eigvalsh_vjp, domain=derivatives.hermitian,
    diagnose=checks.diagnose_lower, errors=checks.refusals("eigvalsh"),
)  # fmt: skip
def eigvalsh(x: Tensor, /) -> Tensor:
    """The eigenvalues of each Hermitian matrix of x (..., n, n): (..., n), real and ascending. See ``eigh``."""
    return eigh(x)[0]


@composite(
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x: Spec(x.shape[:-1], x.dtype.complex)), leading=True, ulp=STABLE,
    samples=checks.matrices(checks.general), residual=checks.eigvals_residual, invariant=checks.eigvals_invariant,
    diagnose=checks.diagnose_finite, errors=checks.refusals("eigvals"),
)  # fmt: skip
def eigvals(x: Tensor, /) -> Tensor:
    """The eigenvalues of each matrix of x (..., n, n): (..., n), complex, in any order. See ``eig``."""
    return eig(x)[0]


@composite(
    kind="opaque", group="linalg", rule=of_matrices(matrix, lambda x: Spec((*x.shape[:-2], shorter(x)), x.dtype.real)), leading=True,
    ulp=32, samples=checks.matrices(checks.general, checks.OBLONG), vjp=derivatives.svdvals_vjp,
    diagnose=checks.diagnose_finite, errors=checks.refusals("svdvals", square=False),
)  # fmt: skip
def svdvals(x: Tensor, /) -> Tensor:
    """The singular values of each matrix of x (..., m, n): (..., min(m, n)), real and descending. The gradient of one
    that is 0 is 0.
    """
    return svd(x, full_matrices=False)[1]


# -- what follows from singular values -----------------------------------------------------------------------


def _tolerance(name: str, x: Any, rtol: Any) -> None:
    """Refuse a tolerance that is neither a number nor one for each matrix of x."""
    if not getattr(rtol, "shape", ()) and getattr(rtol, "weak", not hasattr(rtol, "dtype")):
        return
    if rtol.dtype.kind != "float":
        raise DTypeError(f"{name}: rtol must have a real floating dtype, got {rtol.dtype.name}")
    stack = tuple(x.shape[:-2])
    extra = len(stack) - len(rtol.shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(rtol.shape, stack[extra:], strict=True)):
        raise ShapeError(
            f"{name}: rtol of shape {rtol.shape} is not one for each matrix of x of shape {x.shape}"
        )


def _tolerant(results: Callable[[Spec], Spec]) -> Rule:
    """The rule of a function of matrices and a tolerance."""

    @custom(INEXACT, joint=(0,))
    def rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
        x, rtol = specs
        matrix(op, x)
        _tolerance(op.name, x, rtol)
        return results(x)

    return rule


def _cutoff(name: str, x: Tensor, s: Tensor, rtol: Any) -> Tensor:
    """What singular values must exceed to count: rtol times the largest of the matrix; by default rtol is max(m, n)
    eps.
    """
    _tolerance(name, x, rtol)
    if rtol is None:
        m, n = x.shape[-2:]
        rtol = (m if m > n else n) * x.dtype.eps
    elif hasattr(rtol, "shape"):
        rtol = reshape(rtol, (*rtol.shape, 1))
    return multiply(narrow(s, -1, 0, 1) if s.shape[-1] else s, rtol)


@composite(
    kind="opaque", group="linalg", rule=_tolerant(lambda x: Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)), ulp=64,
    samples=checks.tolerances, vjp=derivatives.pinv_vjp, diagnose=checks.diagnose_finite,
    errors=checks.refusals("pinv", *checks.bad_tolerances("pinv"), square=False),
)  # fmt: skip
def pinv(x: Tensor, /, *, rtol: Array | None = None) -> Tensor:
    """The Moore-Penrose inverse of each matrix of x (..., m, n): (..., n, m).

    Singular values of at most ``rtol`` (a number, or one for each matrix) times the largest count as 0; by default
    max(m, n) eps. The gradient (Golub and Pereyra, 1973) takes the rank as constant; rtol has none.
    """
    u, s, vh = svd(x, full_matrices=False)
    counts = greater(s, _cutoff("pinv", x, s, rtol))
    inverse = where(counts, divide(1, where(counts, s, 1)), 0)
    return matmul(multiply(adjoint(vh), row(inverse)), adjoint(u))


@composite(
    kind="opaque", group="linalg", rule=_tolerant(lambda x: Spec(x.shape[:-2], int64)), ulp=0, moves=False,
    samples=checks.tolerances, nondiff="a rank is an integer", diagnose=checks.diagnose_finite,
    errors=checks.refusals("matrix_rank", *checks.bad_tolerances("matrix_rank"), square=False),
)  # fmt: skip
def matrix_rank(x: Tensor, /, *, rtol: Array | None = None) -> Tensor:
    """How many singular values of each matrix of x (..., m, n) exceed ``rtol`` (a number, or one for each matrix) times
    the largest, int64; rtol is max(m, n) eps unless given.
    """
    s = svdvals(x)
    return count_nonzero(greater(s, _cutoff("matrix_rank", x, s, rtol)), axis=-1)


_NORMS: tuple[Any, ...] = ("fro", "nuc", 1, 2, math.inf, -1, -2, -math.inf)


def _bind_norm(
    x: Tensor, /, *, keepdims: bool = False, ord: Any = "fro"
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    ord = "fro" if ord is None else ord
    if ord not in _NORMS:
        raise ArgumentError(f"matrix_norm: ord must be one of {', '.join(map(repr, _NORMS))}, got {ord!r}")
    return (x,), {"keepdims": bool(keepdims), "ord": ord}


def _norm_specs(x: Spec, keepdims: bool, ord: Any) -> Spec:
    m, n = x.shape[-2:]
    if {1: n, -1: n, math.inf: m, -math.inf: m, 2: m * n, -2: m * n}.get(ord, 1) == 0:
        raise ShapeError(f"matrix_norm: there is no norm of order {ord} of matrices of shape {(m, n)}")
    return Spec((*x.shape[:-2], *((1, 1) if keepdims else ())), x.dtype.real)


@composite(
    kind="opaque", group="linalg", rule=of_matrices(matrix, _norm_specs), ulp=32, bind=_bind_norm, leading=True,
    samples=checks.matrices(checks.general, ((3, 3), (2, 4), (2, 4, 3), (1, 1)),
                            (*({"ord": ord} for ord in _NORMS), {}, {"keepdims": True}, {"keepdims": True, "ord": 1})),
    diagnose=checks.diagnose_finite,
    errors=checks.refusals(
        "matrix_norm",
        ErrorSample(ArgumentError, "matrix_norm: ord must be one of 'fro', 'nuc', 1, 2, inf, -1, -2, -inf, got 3",
                    lambda m: Sample((m.array((2, 2), float32),), {"ord": 3})),
        ErrorSample(ShapeError, r"no norm of order 2 of matrices of shape \(0, 2\)",
                    lambda m: Sample((m.array((0, 2), float32),), {"ord": 2})),
        square=False,
    ),
)  # fmt: skip
def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: float | str | None = "fro") -> Tensor:
    """A norm of each matrix of x (..., m, n), real, of shape (...), or (..., 1, 1) with ``keepdims``.

    ``ord``: "fro" (Frobenius), "nuc" (the sum of the singular values), 2 and -2 (the largest and the smallest
    singular value), 1 and -1 (the largest and the smallest sum |x| of a column), inf and -inf (of a row). The gradient
    of a norm that is 0 is 0.
    """
    order: Any = ord
    if order == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if order in ("nuc", 2, -2):
        values = svdvals(x)
        result = sum(values, axis=-1) if order == "nuc" else (max if order == 2 else min)(values, axis=-1)
    else:
        result = (max if order > 0 else min)(sum(abs(x), axis=-2 if order in (1, -1) else -1), axis=-1)
    return derivatives.each(result) if keepdims else result


# -- products ------------------------------------------------------------------------------------------------


@composite(
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x, n: x), leading=True, ulp=128,
    samples=checks.powers, diagnose=checks.diagnose_singular,
    errors=checks.bad_powers,
)  # fmt: skip
def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """x (..., k, k) multiplied by itself: n factors. The identity for n = 0; for n < 0, the power -n of the inverse, which
    raises LinAlgError if a matrix is singular.
    """
    square(Caller("matrix_power"), x)
    if n == 0:
        return broadcast_to(derivatives.identity(x), x.shape)
    power, rest = (x, n) if n > 0 else (inv(x), -n)
    result = None
    while rest:  # the binary digits of n
        if rest % 2:
            result = power if result is None else matmul(result, power)
        rest //= 2
        if rest:
            power = matmul(power, power)
    assert result is not None
    return result


def _bind_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> tuple[tuple[Any, ...], dict[str, Any]]:
    axis = checked_axis("cross", x1, axis, "x1")
    checked("cross", x2, "x2")
    if axis < -x2.ndim:
        raise ShapeError(
            f"cross: axis {axis} is out of range for x2 of shape {x2.shape}: both vectors lie along the same axis from the end"
        )
    return (x1, x2), {"axis": axis}


def _of_three(x1: Any, x2: Any, axis: int) -> None:
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ShapeError(
            f"cross: vectors of 3 elements are needed along axis {axis}, got shapes {x1.shape} and {x2.shape}"
        )


@custom(NUMERIC)
def _cross_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    _of_three(x1, x2, params["axis"])
    try:
        return Spec(broadcast_shapes(x1.shape, x2.shape), common(op, specs))
    except ShapeError as error:
        raise ShapeError(f"{op.name}: {error}") from None


def _turned(x: Tensor, axis: int, by: int) -> Tensor:
    """Three elements along ``axis``, those from ``by`` on first."""
    return concat([narrow(x, axis, by, 3 - by), narrow(x, axis, 0, by)], axis=axis)


@composite(
    kind="contract", rule=_cross_rule, leading=True, ulp=16, bind=_bind_cross,
    samples=shapes(
        ((3,), (3,)), ((2, 3), (3,)), ((3, 2), (3, 2), {"axis": 0}), ((4, 1, 3), (2, 3)), ((0, 3), (3,)), ((2, 3, 4), (1, 3, 4), {"axis": -2}),
        low=1, high=4,
    ),
    errors=[
        ErrorSample(ShapeError, "vectors of 3 elements are needed along axis -1", lambda m: Sample((m.array((3,), float32), m.array((1,), float32)))),
        ErrorSample(ShapeError, "out of range", lambda m: Sample((m.array((3,), float32), m.array((3,), float32)), {"axis": 1})),
        ErrorSample(ShapeError, "do not broadcast", lambda m: Sample((m.array((2, 3), float32), m.array((4, 3), float32)))),
    ],
)  # fmt: skip
def cross(x1: Tensor, x2: Tensor, /, *, axis: Axis = -1) -> Tensor:
    """The cross products of vectors of 3 elements along ``axis``; the other axes broadcast. Integers wrap."""
    _of_three(x1, x2, axis)
    first = multiply(_turned(x1, axis, 1), _turned(x2, axis, 2))
    return subtract(first, multiply(_turned(x1, axis, 2), _turned(x2, axis, 1)))


__all__: Sequence[str] = (
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power",
    "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "vecdot",
    "vector_norm",
)  # fmt: skip
