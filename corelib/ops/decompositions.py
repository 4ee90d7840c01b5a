"""The primitives of linear algebra: systems, determinants and decompositions of matrices.

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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..dispatch import execute, primitive
from ..dtypes import INEXACT, float32
from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..rules import Rule, Spec, broadcast_shapes, common, custom
from ..samples import ErrorSample, Maker, Sample
from . import batching
from . import linalg_checks as checks
from . import linalg_derivatives as derivatives

if TYPE_CHECKING:
    from ..dtypes import DType
    from ..tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

# The budget of a residual is a multiple of n eps / 2: LAPACK's tests ask of its routines to stay below 30
# (E. Anderson et al., "LAPACK working note 41: Installation guide for LAPACK").
STABLE = 30


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


def matrix(op: Any, x: Any, name: str = "x") -> None:
    """Refuse what has less than two axes."""
    if x.ndim < 2:
        raise ShapeError(f"{op.name}: {name} must be a matrix or a stack of matrices, got shape {x.shape}")


def square(op: Any, x: Any, name: str = "x") -> None:
    """Refuse what holds no square matrices."""
    matrix(op, x, name)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{op.name}: the matrices of {name} must be square, got shape {x.shape}")


def of_matrices(check: Callable[..., None], results: Callable[..., Any]) -> Rule:
    """The rule of a function of matrices: ``results(x, **params)`` are the specs of its results."""

    @custom(INEXACT, joint=(0,))
    def rule(op: Any, specs: Any, params: dict[str, Any]) -> Any:
        x = specs[0]
        check(op, x)
        return results(Spec(tuple(x.shape), x.dtype), **params)

    return rule


def same(x: Spec, **params: Any) -> Spec:
    """The result is like x."""
    return x


def shorter(x: Any) -> int:
    """The smaller one of the numbers of rows and columns."""
    m, n = x.shape[-2:]
    return m if m < n else n


def _svd_specs(x: Spec, full_matrices: bool) -> tuple[Spec, ...]:
    *batch, m, n = x.shape
    k = shorter(x)
    rows, columns = (m, n) if full_matrices else (k, k)
    return (
        Spec((*batch, m, rows), x.dtype),
        Spec((*batch, k), x.dtype.real),
        Spec((*batch, columns, n), x.dtype),
    )


def _qr_specs(x: Spec, mode: str) -> tuple[Spec, ...]:
    *batch, m, n = x.shape
    k = m if mode == "complete" else shorter(x)
    return Spec((*batch, m, k), x.dtype), Spec((*batch, k, n), x.dtype)


def _eig_specs(x: Spec, values: DType, vectors: DType) -> tuple[Spec, Spec]:
    return Spec(x.shape[:-1], values), Spec(x.shape, vectors)


# -- systems and determinants --------------------------------------------------------------------------------


@custom(INEXACT)
def _solve_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x1, x2 = specs
    square(op, x1, "x1")
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
    kind="opaque", group="linalg", rule=_solve_rule, ulp=STABLE, samples=_systems, residual=checks.solve_residual, batch=batching.solve,
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
    """


@primitive(
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x: Spec(x.shape[:-2], x.dtype)), leading=True, ulp=STABLE,
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
    kind="opaque", group="linalg", leading=True, ulp=STABLE, samples=checks.matrices(checks.general), residual=checks.slogdet_residual,
    rule=of_matrices(square, lambda x: (Spec(x.shape[:-2], x.dtype), Spec(x.shape[:-2], x.dtype.real))),
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
    kind="opaque", group="linalg", rule=of_matrices(square, same), leading=True, ulp=STABLE, domain=derivatives.hermitian,
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
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x: _eig_specs(x, x.dtype.real, x.dtype)), leading=True, ulp=STABLE,
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
    NaN, and so has what depends on the values alone a second derivative. Raises LinAlgError for NaN and infinity.
    """


@_named(Eig)
@primitive(
    kind="opaque", group="linalg", rule=of_matrices(square, lambda x: _eig_specs(x, x.dtype.complex, x.dtype.complex)), leading=True,
    ulp=STABLE, samples=checks.matrices(checks.general), residual=checks.eig_residual, invariant=checks.eig_invariant,
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
    kind="opaque", group="linalg", rule=of_matrices(matrix, _qr_specs), leading=True, ulp=STABLE, bind=_bind_qr,
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
    kind="opaque", group="linalg", rule=of_matrices(matrix, _svd_specs), leading=True, ulp=STABLE,
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
    repeat (or are 0 and x is not square), what depends on their vectors has an infinite gradient or NaN, and what
    depends on the values alone such a second derivative. With
    ``full_matrices`` and m != n some vectors are arbitrary, and the gradient raises GradientError: for it, take
    ``full_matrices=False`` or ``svdvals``. Raises LinAlgError for NaN and infinity.
    """
