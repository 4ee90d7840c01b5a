"""The derivatives of linear algebra, as functions of public ops, so that they can be differentiated again.

``A^H`` is the conjugate transpose. A cotangent g of y stands for ``dL = Re tr(g^H dy)``, so that a rule follows from
the differential of y by turning the trace. Sources: M. B. Giles, "An extended collection of matrix derivative
results for forward and reverse mode algorithmic differentiation" (2008); I. Murray, "Differentiation of the
Cholesky decomposition", arXiv:1602.07527; M. Seeger et al., "Auto-differentiating linear algebra",
arXiv:1710.08717; C. Boeddeker et al., "On the computation of complex-valued gradients with application to
statistically optimum beamforming", arXiv:1701.00392; Z.-Q. Wan and S.-X. Zhang, "Automatic differentiation for
complex valued SVD", arXiv:1909.02659; D. A. O. Roberts and L. R. Roberts, "QR and LQ decomposition matrix
backpropagation algorithms for square, wide, and deep matrices", arXiv:2009.10071.

Vectors turn by 1 / (difference of the values): where values are equal, what depends on the single vectors has no
derivative, and infinity or NaN says so. What depends on the values alone has one, and gets it: pairs of vectors
without a cotangent contribute zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import GradientError
from ..op import calls
from ..walk import unbroadcast
from .arrange import diagonal, matrix_transpose, tril
from .compare import equal, logical_and, logical_or
from .contract import matmul
from .creation import eye
from .elementwise import add, astype, conj, divide, multiply, negative, real, subtract, where
from .movement import narrow, pad, reshape
from .reduce import all, sum

if TYPE_CHECKING:
    from ..tensor import Tensor


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose of each matrix."""
    return conj(matrix_transpose(x))


def row(x: Tensor) -> Tensor:
    """(..., n) as matrices of one row, which scale columns."""
    return reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def column(x: Tensor) -> Tensor:
    """(..., n) as matrices of one column, which scale rows."""
    return reshape(x, (*x.shape, 1))


def each(x: Tensor) -> Tensor:
    """A number for each matrix, (...), as matrices of one element."""
    return reshape(x, (*x.shape, 1, 1))


def hermitian(x: Tensor) -> Tensor:
    """The Hermitian part of each matrix: the nearest matrix that equals its conjugate transpose."""
    return multiply(add(x, adjoint(x)), 0.5)


def identity(x: Tensor) -> Tensor:
    """The identity matrix of as many columns as x has, in x's dtype."""
    return eye(x.shape[-1], dtype=x.dtype, device=x._backend)


def on_diagonal(x: Tensor) -> Tensor:
    """Which elements of a matrix of x's shape are on its diagonal."""
    return equal(eye(*x.shape[-2:], device=x._backend), 1)


def over_adjoint(x: Tensor, a: Tensor) -> Tensor:
    """x a^-H"""
    return adjoint(calls.solve(a, adjoint(x)))


def between(a: Tensor, x: Tensor) -> Tensor:
    """a^-1 x a^-H"""
    return over_adjoint(calls.solve(a, x), a)


def lower_half(x: Tensor) -> Tensor:
    """The lower triangle with half the diagonal."""
    return multiply(add(tril(x), tril(x, k=-1)), 0.5)


def over_gaps(x: Tensor, gaps: Tensor, idle: Tensor | None = None) -> Tensor:
    """x / gaps, 0 on the diagonal. ``idle`` (..., n) marks vectors without a cotangent: a pair of them with
    equal values gives 0 instead of 0 / 0.
    """
    zero = on_diagonal(x)
    if idle is not None:
        zero = logical_or(zero, logical_and(equal(gaps, 0), logical_and(row(idle), column(idle))))
    return where(zero, 0, divide(x, where(zero, 1, gaps)))


def nothing_in(x: Tensor) -> Tensor:
    """For each column, whether it is zero."""
    return all(equal(x, 0), axis=-2)


# -- systems and determinants --------------------------------------------------------------------------------


def solve_vjp(g: Tensor, x1: Tensor, x2: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Of y = x1^-1 x2: g2 = x1^-H g and g1 = -g2 y^H (Giles 2.3.1)."""
    vector = x2.ndim == 1
    back = calls.solve(adjoint(x1), column(g) if vector else g)
    first = negative(matmul(back, adjoint(column(y) if vector else y)))
    second = reshape(back, back.shape[:-1]) if vector else back
    return unbroadcast(first, x1.shape), unbroadcast(second, x2.shape)


def solve_jvp(dx1: Tensor, dx2: Tensor, x1: Tensor, y: Tensor) -> Tensor:
    """x1^-1 (dx2 - dx1 y)"""
    if dx2.ndim == 1:
        change = subtract(column(dx2), matmul(dx1, column(y)))
        return reshape(calls.solve(x1, change), y.shape)
    return calls.solve(x1, subtract(dx2, matmul(dx1, y)))


def inv_vjp(g: Tensor, y: Tensor) -> Tensor:
    """-y^H g y^H (Giles 2.2.3)."""
    return negative(matmul(adjoint(y), matmul(g, adjoint(y))))


def adjugate_vjp(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of y = det(x) x^-1: y^H (tr(x^-H g) - g x^-H)."""
    inverse = calls.inv(x)
    total = sum(multiply(conj(inverse), g), axis=(-2, -1))
    return matmul(adjoint(y), subtract(multiply(each(total), identity(x)), matmul(g, adjoint(inverse))))


def det_vjp(g: Tensor, x: Tensor) -> Tensor:
    """d det(x) = tr(adj(x) dx) (Jacobi): right for a singular x as well."""
    return multiply(each(g), adjoint(calls.adjugate(x)))


def det_jvp(dx: Tensor, x: Tensor) -> Tensor:
    """tr(adj(x) dx)"""
    return sum(multiply(matrix_transpose(calls.adjugate(x)), dx), axis=(-2, -1))


def slogdet_vjp(g: tuple[Tensor, Tensor], x: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
    """With t = tr(x^-1 dx), the differential of log det(x): d logabsdet = Re t, d sign = sign i Im t."""
    (g_sign, g_log), (sign, _) = g, y
    t = g_log
    if x.dtype.kind == "complex":
        z = multiply(conj(g_sign), sign)
        t = subtract(g_log, multiply(subtract(z, conj(z)), 0.5))  # minus i Im z
    return multiply(each(t), adjoint(calls.inv(x)))


def slogdet_jvp(dx: Tensor, x: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """sign i Im t and Re t, where t = tr(x^-1 dx)."""
    t = sum(diagonal(calls.solve(x, dx)), axis=-1)
    turn = multiply(subtract(t, conj(t)), 0.5)  # i Im t
    return multiply(y[0], turn), real(t)


# -- Cholesky and QR -----------------------------------------------------------------------------------------


def cholesky_vjp(g: Tensor, y: Tensor, upper: bool) -> Tensor:
    """L^-H herm(P) L^-1, P the lower half of L^H g (Murray, equation 10)."""
    lower, g = (adjoint(y), adjoint(g)) if upper else (y, g)
    p = lower_half(matmul(adjoint(lower), g))
    return between(adjoint(lower), hermitian(p))


def cholesky_jvp(dx: Tensor, y: Tensor, upper: bool) -> Tensor:
    """L P, P the lower half of L^-1 dx L^-H (Murray, equation 8)."""
    lower = adjoint(y) if upper else y
    p = lower_half(between(lower, hermitian(dx)))
    return adjoint(matmul(lower, p)) if upper else matmul(lower, p)


def _reduced_qr(x: Tensor, mode: str) -> None:
    if mode == "complete" and x.shape[-2] > x.shape[-1]:
        raise GradientError(
            f"qr: of x of shape {x.shape}, mode 'complete' fills Q with columns that are arbitrary and have no "
            f"derivative: use mode='reduced'"
        )


def qr_vjp(g: tuple[Tensor, Tensor], x: Tensor, y: tuple[Tensor, Tensor], mode: str) -> Tensor:
    """Where R's diagonal is real. With M = Q^H dx R^-1 and h its lower half, Q^H dQ = h - h^H and dR R^-1 is the
    rest of M (Seeger et al., section 4.2; of a wide x, the first square, Roberts and Roberts).
    """
    _reduced_qr(x, mode)
    (gq, gr), (q, r) = g, y
    m, n = x.shape[-2:]
    if m >= n:
        h = lower_half(subtract(matmul(r, adjoint(gr)), matmul(adjoint(gq), q)))
        return over_adjoint(add(gq, matmul(q, add(h, adjoint(h)))), r)
    skew = subtract(matmul(adjoint(q), gq), matmul(gr, adjoint(r)))
    square = over_adjoint(matmul(q, lower_half(subtract(skew, adjoint(skew)))), narrow(r, -1, 0, m))
    return add(pad(square, (*((0, 0),) * (x.ndim - 1), (0, n - m))), matmul(q, gr))


def qr_jvp(dx: Tensor, y: tuple[Tensor, Tensor], mode: str) -> tuple[Tensor, Tensor]:
    """As in :func:`qr_vjp`."""
    _reduced_qr(dx, mode)
    q, r = y
    m, n = dx.shape[-2:]
    turned = matmul(adjoint(q), dx)
    if m >= n:
        change = over_adjoint(turned, adjoint(r))
        h = lower_half(change)
        dr = matmul(subtract(change, subtract(h, adjoint(h))), r)
        return over_adjoint(subtract(dx, matmul(q, dr)), adjoint(r)), dr
    h = lower_half(over_adjoint(narrow(turned, -1, 0, m), adjoint(narrow(r, -1, 0, m))))
    turn = subtract(h, adjoint(h))
    return matmul(q, turn), subtract(turned, matmul(turn, r))


# -- eigenvalues ---------------------------------------------------------------------------------------------


def _differences(w: Tensor) -> Tensor:
    """Element (i, j) is w_j - w_i."""
    return subtract(row(w), column(w))


def eigh_vjp(g: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Tensor:
    """V (diag(g_w) + skew(V^H g_V) / (w_j - w_i)) V^H (Giles 3.1)."""
    (gw, gv), (w, v) = g, y
    turn = matmul(adjoint(v), gv)
    skew = multiply(subtract(turn, adjoint(turn)), 0.5)
    inner = over_gaps(skew, _differences(w), nothing_in(gv))
    return matmul(add(matmul(v, inner), multiply(v, row(gw))), adjoint(v))


def eigh_jvp(dx: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """dw = diag(P) and dV = V (P / (w_j - w_i)), where P = V^H dx V."""
    w, v = y
    p = matmul(adjoint(v), matmul(hermitian(dx), v))
    return real(diagonal(p)), matmul(v, over_gaps(p, _differences(w)))


def eigvalsh_vjp(g: Tensor, x: Tensor) -> Tensor:
    """V diag(g) V^H: nothing is divided."""
    v = calls.eigh(x)[1]
    return matmul(multiply(v, row(g)), adjoint(v))


def _along_own(v: Tensor, change: Tensor) -> Tensor:
    """For each column of a change of v, how much of it lengthens v, whose columns have norm 1."""
    return real(sum(multiply(conj(v), change), axis=-2))


def eig_vjp(g: tuple[Tensor, Tensor], x: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
    """Of vectors of norm 1 (Boeddeker et al., section 4.7)."""
    (gw, gv), (w, v) = g, y
    h = adjoint(v)
    turn = matmul(h, subtract(gv, multiply(v, row(_along_own(v, gv)))))
    inner = over_gaps(turn, conj(_differences(w)), nothing_in(gv))
    result = calls.solve(h, add(matmul(inner, h), multiply(column(gw), h)))
    return result if x.dtype.kind == "complex" else astype(real(result), x.dtype)


def eig_jvp(dx: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """dw = diag(P), where P = V^-1 dx V, and dV = V (P / (w_j - w_i)) without what would change the norms."""
    w, v = y
    p = calls.solve(v, matmul(dx, v))
    change = matmul(v, over_gaps(p, _differences(w)))
    return diagonal(p), subtract(change, multiply(v, row(_along_own(v, change))))


# -- singular values -----------------------------------------------------------------------------------------


def _reduced_svd(x: Tensor, full_matrices: bool) -> None:
    if full_matrices and x.shape[-2] != x.shape[-1]:
        raise GradientError(
            f"svd: of x of shape {x.shape}, full_matrices=True fills U or Vh with vectors that are arbitrary and "
            f"have no derivative: use full_matrices=False, or svdvals"
        )


def _phases(x: Tensor, s: Tensor, idle: Tensor | None = None) -> Tensor:
    """The diagonal of x, its imaginary part alone, over s."""
    d = diagonal(x)
    turn = multiply(subtract(d, conj(d)), 0.5)
    zero = equal(s, 0) if idle is None else logical_and(equal(s, 0), idle)
    return divide(turn, where(zero, 1, s))


def svd_vjp(
    g: tuple[Tensor, Tensor, Tensor], x: Tensor, y: tuple[Tensor, Tensor, Tensor], full_matrices: bool
) -> Tensor:
    """With P = U^H dx V: ds = Re diag(P), and U^H dU = (P S + S P^H) / (s_j^2 - s_i^2), V^H dV = (S P + P^H S) /
    (s_j^2 - s_i^2), and a turn of i Im P / (2 s), half of it for u and half of it against v (Wan and Zhang).
    """
    _reduced_svd(x, full_matrices)
    (gu, gs, gvh), (u, s, vh) = g, y
    v, gv = adjoint(vh), adjoint(gvh)
    uu, vv = matmul(adjoint(u), gu), matmul(adjoint(v), gv)
    gaps = multiply(_differences(s), add(row(s), column(s)))
    idle = logical_and(nothing_in(gu), nothing_in(gv))
    first = over_gaps(subtract(uu, adjoint(uu)), gaps, idle)
    second = over_gaps(subtract(vv, adjoint(vv)), gaps, idle)
    inner = add(multiply(first, row(s)), multiply(column(s), second))
    values = gs
    if x.dtype.kind == "complex":
        values = add(gs, multiply(_phases(subtract(uu, vv), s, idle), 0.5))
    scale = where(logical_and(equal(s, 0), idle), 1, s)
    left = add(matmul(u, inner), multiply(u, row(values)))
    m, n = x.shape[-2:]
    if m > n:  # outside the columns of U
        left = add(left, divide(subtract(gu, matmul(u, uu)), row(scale)))
    result = matmul(left, vh)
    if m < n:
        rest = divide(subtract(gv, matmul(v, vv)), row(scale))
        result = add(result, matmul(u, adjoint(rest)))
    return result


def svd_jvp(
    dx: Tensor, y: tuple[Tensor, Tensor, Tensor], full_matrices: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """As in :func:`svd_vjp`."""
    _reduced_svd(dx, full_matrices)
    u, s, vh = y
    v = adjoint(vh)
    xv = matmul(dx, v)
    p = matmul(adjoint(u), xv)
    gaps = multiply(_differences(s), add(row(s), column(s)))
    ps, sp = multiply(p, row(s)), multiply(column(s), p)
    turn_u = over_gaps(add(ps, adjoint(ps)), gaps)
    turn_v = over_gaps(add(sp, adjoint(sp)), gaps)
    du, dv = matmul(u, turn_u), matmul(v, turn_v)
    if dx.dtype.kind == "complex":
        phase = row(multiply(_phases(p, s), 0.5))
        du, dv = add(du, multiply(u, phase)), subtract(dv, multiply(v, phase))
    m, n = dx.shape[-2:]
    if m > n:
        du = add(du, divide(subtract(xv, matmul(u, p)), row(s)))
    if m < n:
        dv = add(dv, divide(subtract(matmul(adjoint(dx), u), matmul(v, adjoint(p))), row(s)))
    return du, real(diagonal(p)), adjoint(dv)


def svdvals_vjp(g: Tensor, x: Tensor) -> Tensor:
    """U diag(g) V^H; a singular value of 0 has a kink, where the gradient is 0."""
    u, s, vh = calls.svd(x, full_matrices=False)
    return matmul(multiply(u, row(where(equal(s, 0), 0, g))), vh)


def pinv_vjp(g: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, None]:
    """Where the rank is constant: of dy = -y dx y + y y^H dx^H (1 - x y) + (1 - y x) dx^H y^H y (G. H. Golub and
    V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
    separate", 1973).
    """
    h, gh = adjoint(y), adjoint(g)
    total = negative(matmul(h, matmul(g, h)))
    outside = matmul(gh, matmul(y, h))
    total = add(total, subtract(outside, matmul(x, matmul(y, outside))))
    inside = matmul(matmul(h, y), gh)
    return add(total, subtract(inside, matmul(matmul(inside, y), x))), None
