"""Linear algebra: the array API standard's extension ``linalg``, declared over eight primitives.

Every function takes stacks: the last two axes are the rows and columns of a matrix, all axes before them count
matrices. A decomposition is not unique, so it is judged by what its factors must satisfy (``residual=``), and
its gradient on what does not depend on signs and phases (``invariant=``), both in ``linalg_checks.py``; the
derivatives stand in ``linalg_derivatives.py``.

Matrices that are taken as symmetric (Hermitian) are read in their lower triangle only; their gradient is that
among symmetric matrices, and symmetric itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..dispatch import composite, execute, primitive
from ..dtypes import FLOATING, INEXACT, NUMERIC, float32, int64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import calls
from ..params import checked, checked_axis
from ..rules import Rule, Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Maker, Sample, shapes
from . import linalg_checks as checks
from . import linalg_derivatives as derivatives
from .arrange import diagonal, matrix_transpose
from .compare import greater
from .contract import matmul, outer, tensordot, trace, vecdot
from .elementwise import abs, divide, multiply, subtract, where
from .linalg_derivatives import adjoint, row
from .movement import broadcast_to, concat, narrow, reshape
from .reduce import _others, max, min, sum
from .statistics import count_nonzero, vector_norm

if TYPE_CHECKING:
    from ..dtypes import DType
    from ..op import Op
    from ..params import Axis, Scalar
    from ..tensor import Tensor

    Array = Tensor | Scalar

F = TypeVar("F", bound=Callable[..., Any])


class Eig(NamedTuple):
    """What ``eig`` and ``eigh`` return."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QR(NamedTuple):
    """What ``qr`` returns."""

    Q: Tensor
    R: Tensor


class SLogDet(NamedTuple):
    """What ``slogdet`` returns."""

    sign: Tensor
    logabsdet: Tensor


class SVD(NamedTuple):
    """What ``svd`` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _named(result: type[Any]) -> Callable[[F], F]:
    """The op as a function that returns its results under names."""

    def decorate(fn: Any) -> Any:
        op = fn.op

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return result(*execute(op, *op.bind(*args, **kwargs)))

        op.fn = call
        setattr(calls, op.name, call)
        return call

    return decorate


# -- rules ---------------------------------------------------------------------------------------------------


def _matrix(op: Op, x: Spec, name: str = "x") -> None:
    if x.ndim < 2:
        raise ShapeError(f"{op.name}: {name} must be a matrix or a stack of matrices, got shape {x.shape}")


def _square(op: Op, x: Spec, name: str = "x") -> None:
    _matrix(op, x, name)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{op.name}: the matrices of {name} must be square, got shape {x.shape}")


def _of(check: Callable[..., None], results: Callable[..., Any]) -> Rule:
    """The rule of a function of matrices: ``results(x, **params)`` are the specs of its results."""

    @custom(INEXACT, joint=(0,))
    def rule(op: Any, specs: Any, params: dict[str, Any]) -> Any:
        x = specs[0]
        check(op, x)
        for rtol in specs[1:]:
            _tolerance(op, x, rtol)
        return results(Spec(tuple(x.shape), x.dtype), **params)

    return rule


def _tolerance(op: Op, x: Spec, rtol: Spec | None) -> None:
    if rtol is None or rtol.weak:
        return
    if rtol.dtype not in FLOATING:
        raise DTypeError(f"{op.name}: rtol must have a real floating dtype, got {rtol.dtype.name}")
    if broadcast_shapes(rtol.shape, x.shape[:-2]) != tuple(x.shape[:-2]):
        raise ShapeError(
            f"{op.name}: rtol of shape {rtol.shape} is not one for each matrix of x of shape {x.shape}"
        )


def _same(x: Spec, **params: Any) -> Spec:
    return x


def _svd_specs(x: Spec, full_matrices: bool) -> tuple[Spec, ...]:
    *batch, m, n = x.shape
    k = _shorter(x)
    rows, columns = (m, n) if full_matrices else (k, k)
    return (
        Spec((*batch, m, rows), x.dtype),
        Spec((*batch, k), x.dtype.real),
        Spec((*batch, columns, n), x.dtype),
    )


def _qr_specs(x: Spec, mode: str) -> tuple[Spec, ...]:
    *batch, m, n = x.shape
    k = m if m < n or mode == "complete" else n
    return Spec((*batch, m, k), x.dtype), Spec((*batch, k, n), x.dtype)


def _eig_specs(x: Spec, values: DType, vectors: DType) -> tuple[Spec, Spec]:
    return Spec(x.shape[:-1], values), Spec(x.shape, vectors)


# -- systems and determinants --------------------------------------------------------------------------------


@custom(INEXACT)
def _solve_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    _square(op, x1, "x1")
    n, dtype = x1.shape[-1], common(op, specs)
    if not x2.ndim or x2.shape[-1 if x2.ndim == 1 else -2] != n:
        raise ShapeError(
            f"{op.name}: x2 of shape {x2.shape} does not fit x1 of shape {x1.shape}: it must have {n} rows"
            if x2.ndim > 1
            else f"{op.name}: x2 of shape {x2.shape} does not fit x1 of shape {x1.shape}: it must have {n} elements"
        )
    if x2.ndim == 1:
        return Spec(x1.shape[:-1], dtype)
    try:
        batch = broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    except ShapeError as error:
        raise ShapeError(f"{op.name}: shapes {x1.shape} and {x2.shape}: the leading axes: {error}") from None
    return Spec((*batch, *x2.shape[-2:]), dtype)


def _systems(make: Maker, dtype: DType) -> Any:
    for first, second in (
        ((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 1)), ((4, 1, 2, 2), (3, 2, 5)),
        ((5, 5), (5, 5)), ((1, 1), (1,)), ((0, 0), (0,)), ((0, 0), (0, 3)), ((0, 2, 2), (2,)), ((2, 2), (2, 0)),
    ):  # fmt: skip
        yield Sample((checks.general(make, dtype, first), make.array(second, dtype)))


@primitive(
    kind="opaque", group="linalg", rule=_solve_rule, ulp=8, samples=_systems, residual=checks.solve_residual,
    vjp=derivatives.solve_vjp, jvp=derivatives.solve_jvp, diagnose=checks.diagnose_singular,
    errors=checks.refusals(
        "solve",
        checks.without_answer(r"solve: x1\[1\] is singular", 1.0, 2.0, 2.0, 4.0, more=((2,),)),
        ErrorSample(ShapeError, "it must have 3 rows", lambda m: Sample((m.array((3, 3), float32), m.array((2, 3), float32)))),
        ErrorSample(ShapeError, "it must have 3 elements", lambda m: Sample((m.array((3, 3), float32), m.array((2,), float32)))),
        ErrorSample(ShapeError, "leading axes: shapes .* do not broadcast",
                    lambda m: Sample((checks.general(m, float32, (2, 3, 3)), m.array((4, 3, 1), float32)))),
        x="x1", second=((3, 2),),
    ),
)  # fmt: skip
def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The x with ``x1 @ x == x2``: x1 (..., n, n), x2 (..., n, k), of which the leading axes broadcast; or x2 (n,),
    one right-hand side for every matrix.

    Raises LinAlgError if a matrix is exactly singular. The gradient is Giles' (2008).

    Example: ``solve(a, b)`` for a of shape (5, 3, 3) and b of shape (3,) has shape (5, 3).
    """


@composite(
    kind="opaque", group="linalg", rule=_of(_square, _same), leading=True, ulp=8, samples=checks.matrices(checks.general),
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
    kind="opaque", group="linalg", rule=_of(_square, _same), leading=True, ulp=32, samples=checks.matrices(checks.general),
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


@primitive(
    kind="opaque", group="linalg", rule=_of(_square, lambda x: Spec(x.shape[:-2], x.dtype)), leading=True, ulp=8,
    samples=checks.matrices(checks.general), residual=checks.det_residual, vjp=derivatives.det_vjp, jvp=derivatives.det_jvp,
    errors=checks.refusals("det"),
)  # fmt: skip
def det(x: Tensor, /) -> Tensor:
    """The determinant of each matrix of x (..., n, n): shape (...). 1 for n = 0.

    The gradient, the matrix of cofactors, is right for a singular x as well; second derivatives need a regular
    one.
    """


@_named(SLogDet)
@primitive(
    kind="opaque", group="linalg", leading=True, ulp=8, samples=checks.matrices(checks.general), residual=checks.slogdet_residual,
    rule=_of(_square, lambda x: (Spec(x.shape[:-2], x.dtype), Spec(x.shape[:-2], x.dtype.real))),
    vjp=derivatives.slogdet_vjp, jvp=derivatives.slogdet_jvp, errors=checks.refusals("slogdet"),
)  # fmt: skip
def slogdet(x: Tensor, /) -> SLogDet:
    """The determinant of each matrix of x (..., n, n) as ``(sign, logabsdet)``, which neither overflows nor
    underflows: det(x) = sign exp(logabsdet).

    sign has x's dtype and modulus 1, logabsdet is real; both have shape (...). Of a singular matrix (0, -inf), and
    the gradient raises LinAlgError.
    """


# -- decompositions ------------------------------------------------------------------------------------------


@primitive(
    kind="opaque", group="linalg", rule=_of(_square, _same), leading=True, ulp=8, domain=derivatives.hermitian,
    samples=checks.matrices(checks.positive, kwargs=({}, {"upper": True})), residual=checks.cholesky_residual,
    vjp=derivatives.cholesky_vjp, jvp=derivatives.cholesky_jvp, diagnose=checks.diagnose_positive,
    errors=checks.refusals(
        "cholesky",
        checks.without_answer(r"cholesky: x\[1\] is not positive definite", 1.0, 2.0, 2.0, 1.0),
        checks.without_answer(r"cholesky: x\[1\] is not positive definite", 1.0, 0.0, math.nan, 1.0),
    ),
)  # fmt: skip
def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """The lower triangular L with a positive diagonal and L L^H = x, for each Hermitian positive definite matrix of
    x (..., n, n); or, with ``upper``, L^H.

    Only the lower triangle of x is read; the gradient is Hermitian. Raises LinAlgError if a matrix is not positive
    definite.
    """


@_named(Eig)
@primitive(
    kind="opaque", group="linalg", rule=_of(_square, lambda x: _eig_specs(x, x.dtype.real, x.dtype)), leading=True, ulp=8,
    samples=checks.matrices(checks.symmetric), residual=checks.eigh_residual, invariant=checks.eigh_invariant,
    vjp=derivatives.eigh_vjp, jvp=derivatives.eigh_jvp, domain=derivatives.hermitian, diagnose=checks.diagnose_lower,
    errors=checks.refusals(
        "eigh", checks.without_answer(r"eigh: x\[1\] has elements that are NaN or infinite", 1.0, 0.0, math.nan, 1.0)
    ),
)  # fmt: skip
def eigh(x: Tensor, /) -> Eig:
    """``(eigenvalues, eigenvectors)`` of each Hermitian matrix of x (..., n, n): w (..., n), real and ascending, and V
    (..., n, n), unitary, with x V = V diag(w).

    Only the lower triangle of x is read; the gradient is Hermitian. A vector's sign (phase) is arbitrary: what is
    made of V must not depend on it. Where values repeat, what depends on their vectors has an infinite gradient or
    NaN. Raises LinAlgError for NaN and infinity.
    """


@_named(Eig)
@primitive(
    kind="opaque", group="linalg", rule=_of(_square, lambda x: _eig_specs(x, x.dtype.complex, x.dtype.complex)), leading=True,
    ulp=8, samples=checks.matrices(checks.general), residual=checks.eig_residual, invariant=checks.eig_invariant,
    vjp=derivatives.eig_vjp, jvp=derivatives.eig_jvp, diagnose=checks.diagnose_finite,
    errors=checks.refusals(
        "eig", checks.without_answer(r"eig: x\[1\] has elements that are NaN or infinite", 1.0, math.inf, 0.0, 1.0)
    ),
)  # fmt: skip
def eig(x: Tensor, /) -> Eig:
    """``(eigenvalues, eigenvectors)`` of each matrix of x (..., n, n), both complex: w (..., n) in any order, and V (...,
    n, n), its columns of norm 1, with x V = V diag(w).

    A vector's phase is arbitrary: what is made of V must not depend on it. Where values repeat, what depends on
    their vectors has an infinite gradient or NaN, or the gradient raises LinAlgError since V is singular. Raises
    LinAlgError for NaN and infinity. For Hermitian matrices see ``eigh``.
    """


def _bind_qr(x: Tensor, /, *, mode: str = "reduced") -> tuple[tuple[Any, ...], dict[str, Any]]:
    if mode not in ("reduced", "complete"):
        raise ArgumentError(f"qr: mode must be 'reduced' or 'complete', got {mode!r}")
    return (x,), {"mode": mode}


@_named(QR)
@primitive(
    kind="opaque", group="linalg", rule=_of(_matrix, _qr_specs), leading=True, ulp=8, bind=_bind_qr,
    samples=checks.matrices(checks.general, checks.OBLONG), residual=checks.qr_residual, invariant=checks.qr_invariant,
    vjp=derivatives.qr_vjp, jvp=derivatives.qr_jvp,
    errors=checks.refusals(
        "qr", ErrorSample(ArgumentError, "qr: mode must be 'reduced' or 'complete'",
                          lambda m: Sample((m.array((2, 2), float32),), {"mode": "r"})),
        square=False,
    ),
)  # fmt: skip
def qr(x: Tensor, /, *, mode: str = "reduced") -> QR:
    """``(Q, R)`` with Q R = x for each matrix of x (..., m, n): Q (..., m, k) with orthonormal columns, R (..., k, n) upper
    triangular with a real diagonal of arbitrary signs; k = min(m, n), or m with ``mode="complete"``.

    The gradient needs the first k columns of x to be independent (else it raises LinAlgError), and raises
    GradientError for ``mode="complete"`` and m > n, where the last columns of Q are arbitrary.
    """


@_named(SVD)
@primitive(
    kind="opaque", group="linalg", rule=_of(_matrix, _svd_specs), leading=True, ulp=8,
    samples=checks.svd_samples, residual=checks.svd_residual, invariant=checks.svd_invariant,
    vjp=derivatives.svd_vjp, jvp=derivatives.svd_jvp, diagnose=checks.diagnose_finite,
    errors=checks.refusals(
        "svd", checks.without_answer(r"svd: x\[1\] has elements that are NaN or infinite", 1.0, 0.0, math.inf, 1.0),
        square=False,
    ),
)  # fmt: skip
def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVD:
    """``(U, S, Vh)`` with U diag(S) Vh = x for each matrix of x (..., m, n): S (..., k), real and descending, k = min(m, n); U
    (..., m, m) and Vh (..., n, n) unitary, or without ``full_matrices`` their first k columns and rows.

    The common sign (phase) of two vectors is arbitrary: what is made of them must not depend on it. Where values
    repeat (or are 0 and x is not square), what depends on their vectors has an infinite gradient or NaN. With
    ``full_matrices`` and m != n some vectors are arbitrary, and the gradient raises GradientError: for it, take
    ``full_matrices=False`` or ``svdvals``. Raises LinAlgError for NaN and infinity.
    """


@composite(
    kind="opaque", group="linalg", rule=_of(_square, lambda x: Spec(x.shape[:-1], x.dtype.real)), leading=True, ulp=32,
    samples=checks.matrices(checks.symmetric), vjp=derivatives.eigvalsh_vjp, domain=derivatives.hermitian,
    diagnose=checks.diagnose_lower, errors=checks.refusals("eigvalsh"),
)  # fmt: skip
def eigvalsh(x: Tensor, /) -> Tensor:
    """The eigenvalues of each Hermitian matrix of x (..., n, n): (..., n), real and ascending. See ``eigh``."""
    return eigh(x)[0]


@composite(
    kind="opaque", group="linalg", rule=_of(_square, lambda x: Spec(x.shape[:-1], x.dtype.complex)), leading=True, ulp=8,
    samples=checks.matrices(checks.general), residual=checks.eigvals_residual, invariant=checks.eigvals_invariant,
    diagnose=checks.diagnose_finite, errors=checks.refusals("eigvals"),
)  # fmt: skip
def eigvals(x: Tensor, /) -> Tensor:
    """The eigenvalues of each matrix of x (..., n, n): (..., n), complex, in any order. See ``eig``."""
    return eig(x)[0]


@composite(
    kind="opaque", group="linalg", rule=_of(_matrix, lambda x: Spec((*x.shape[:-2], _shorter(x)), x.dtype.real)), leading=True,
    ulp=32, samples=checks.matrices(checks.general, checks.OBLONG), vjp=derivatives.svdvals_vjp,
    diagnose=checks.diagnose_finite, errors=checks.refusals("svdvals", square=False),
)  # fmt: skip
def svdvals(x: Tensor, /) -> Tensor:
    """The singular values of each matrix of x (..., m, n): (..., min(m, n)), real and descending. The gradient of one
    that is 0 is 0.
    """
    return svd(x, full_matrices=False)[1]


def _shorter(x: Any) -> int:
    m, n = x.shape[-2:]
    return m if m < n else n


# -- what follows from singular values -----------------------------------------------------------------------


def _cutoff(x: Tensor, s: Tensor, rtol: Any) -> Tensor:
    """What singular values must exceed to count: rtol times the largest of the matrix; by default rtol is max(m, n)
    eps.
    """
    if rtol is None:
        m, n = x.shape[-2:]
        rtol = (m if m > n else n) * x.dtype.eps
    elif hasattr(rtol, "shape"):
        rtol = reshape(rtol, (*rtol.shape, 1))
    return multiply(narrow(s, -1, 0, 1) if s.shape[-1] else s, rtol)


@composite(
    kind="opaque", group="linalg", rule=_of(_matrix, lambda x: Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)), ulp=64,
    samples=checks.tolerances, vjp=derivatives.pinv_vjp, diagnose=checks.diagnose_finite,
    errors=checks.refusals("pinv", *checks.bad_tolerances("pinv"), square=False),
)  # fmt: skip
def pinv(x: Tensor, /, *, rtol: Array | None = None) -> Tensor:
    """The Moore-Penrose inverse of each matrix of x (..., m, n): (..., n, m).

    Singular values of at most ``rtol`` (a number, or one for each matrix) times the largest count as 0; by default
    max(m, n) eps. The gradient (Golub and Pereyra, 1973) takes the rank as constant; rtol has none.
    """
    u, s, vh = svd(x, full_matrices=False)
    counts = greater(s, _cutoff(x, s, rtol))
    inverse = where(counts, divide(1, where(counts, s, 1)), 0)
    return matmul(multiply(adjoint(vh), row(inverse)), adjoint(u))


@composite(
    kind="opaque", group="linalg", rule=_of(_matrix, lambda x: Spec(x.shape[:-2], int64)), ulp=0, moves=False,
    samples=checks.tolerances, nondiff="a rank is an integer", diagnose=checks.diagnose_finite,
    errors=checks.refusals("matrix_rank", *checks.bad_tolerances("matrix_rank"), square=False),
)  # fmt: skip
def matrix_rank(x: Tensor, /, *, rtol: Array | None = None) -> Tensor:
    """How many singular values of each matrix of x (..., m, n) exceed ``rtol`` (a number, or one for each matrix) times
    the largest, int64; rtol is max(m, n) eps unless given.
    """
    s = svdvals(x)
    return count_nonzero(greater(s, _cutoff(x, s, rtol)), axis=-1)


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
    kind="opaque", group="linalg", rule=_of(_matrix, _norm_specs), ulp=32, bind=_bind_norm, leading=True,
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
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        values = svdvals(x)
        result = sum(values, axis=-1) if ord == "nuc" else (max if ord == 2 else min)(values, axis=-1)
    else:
        result = (max if ord > 0 else min)(sum(abs(x), axis=-2 if ord in (1, -1) else -1), axis=-1)
    return derivatives.each(result) if keepdims else result


# -- products ------------------------------------------------------------------------------------------------


@composite(
    kind="opaque", group="linalg", rule=_of(_square, lambda x, n: x), leading=True, ulp=128,
    samples=checks.powers, diagnose=checks.diagnose_singular,
    errors=checks.refusals("matrix_power", square=False),
)  # fmt: skip
def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """x (..., k, k) multiplied by itself: n factors. The identity for n = 0; for n < 0, the power -n of the inverse, which
    raises LinAlgError if a matrix is singular.
    """
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


@custom(NUMERIC)
def _cross_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    axis = params["axis"]
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ShapeError(
            f"{op.name}: vectors of 3 elements are needed along axis {axis}, got shapes {x1.shape} and {x2.shape}"
        )
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
    first = multiply(_turned(x1, axis, 1), _turned(x2, axis, 2))
    return subtract(first, multiply(_turned(x1, axis, 2), _turned(x2, axis, 1)))


__all__: Sequence[str] = (
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul", "matrix_norm", "matrix_power",
    "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals", "tensordot", "trace", "vecdot",
    "vector_norm",
)  # fmt: skip
