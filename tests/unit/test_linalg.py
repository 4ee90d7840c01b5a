"""Linear algebra: values against NumPy, gradients against finite differences and where values repeat, and what is refused."""

from __future__ import annotations

import functools
import inspect
import math

import numpy as np
import pytest

import corelib as cl
from corelib import grad, jvp, linalg, ops, vjp
from corelib.errors import ArgumentError, DTypeError, GradientError, LinAlgError, ShapeError
from corelib.ops import linalg_checks as checks
from corelib.ops.linalg_derivatives import hermitian

# The signatures of the array API standard 2025.12, without annotations.
STANDARD = """
cholesky(x, /, *, upper=False)
cross(x1, x2, /, *, axis=-1)
det(x, /)
diagonal(x, /, *, offset=0)
eig(x, /)
eigh(x, /)
eigvals(x, /)
eigvalsh(x, /)
inv(x, /)
matmul(x1, x2, /)
matrix_norm(x, /, *, keepdims=False, ord='fro')
matrix_power(x, n, /)
matrix_rank(x, /, *, rtol=None)
matrix_transpose(x, /)
outer(x1, x2, /)
pinv(x, /, *, rtol=None)
qr(x, /, *, mode='reduced')
slogdet(x, /)
solve(x1, x2, /)
svd(x, /, *, full_matrices=True)
svdvals(x, /)
tensordot(x1, x2, /, *, axes=2)
trace(x, /, *, offset=0, dtype=None)
vecdot(x1, x2, /, *, axis=-1)
vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
"""
LINES = STANDARD.split("\n")[1:-1]
KINDS = ["real", "complex"]


@pytest.fixture(autouse=True)
def reference():
    with cl.use_backend("reference"):
        yield


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("(")[0])
def test_the_signature_is_the_standards(line):
    scope = {}
    exec(f"def {line}: ...", scope)
    name = line.split("(")[0]
    assert parameters(getattr(linalg, name)) == parameters(scope[name])


def test_the_namespace_is_the_standards():
    assert sorted(linalg.__all__) == [line.split("(")[0] for line in LINES]
    assert cl.linalg is linalg


def array(*shape, kind="real", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, shape)
    return x + 1j * rng.uniform(-1, 1, shape) if kind == "complex" else x


def regular(*shape, kind="real", seed=0):
    """Matrices near a diagonal of 2, -3, 4, ...: no two values of any kind are close."""
    diagonal = [(-1) ** i * (i + 2.0) for i in range(min(shape[-2:]))]
    return array(*shape, kind=kind, seed=seed) / 2 + np.eye(*shape[-2:]) * np.pad(
        diagonal, (0, shape[-1] - len(diagonal))
    )


def symmetric(n, kind="real", seed=0):
    x = regular(n, n, kind=kind, seed=seed)
    return (x + x.conj().T) / 2


def positive(n, kind="real", seed=0):
    x = array(n, n, kind=kind, seed=seed)
    return x @ x.conj().T + np.diag(np.arange(1.0, n + 1))


def close(actual, expected, tolerance=1e-12):
    """Equal shapes and kinds, and elements to within ``tolerance`` of the largest."""
    actual, expected = (
        np.asarray(actual.tolist(), dtype=actual.dtype.numpy).reshape(actual.shape),
        np.asarray(expected),
    )
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    size = np.max(np.abs(expected), initial=1.0)
    assert np.max(np.abs(actual - expected), initial=0.0) <= tolerance * size


# -- values --------------------------------------------------------------------------------------------------

# What NumPy computes too, with the same meaning: the operands are built for each kind.
SAME = {
    "cholesky": (lambda k: (positive(4, k),), {}),
    "det": (lambda k: (regular(2, 3, 3, kind=k),), {}),
    "eigvalsh": (lambda k: (symmetric(4, k),), {}),
    "inv": (lambda k: (regular(2, 1, 3, 3, kind=k),), {}),
    "pinv": (lambda k: (regular(2, 3, 4, kind=k),), {}),
    "slogdet": (lambda k: (regular(2, 3, 3, kind=k),), {}),
    "svdvals": (lambda k: (regular(2, 4, 3, kind=k),), {}),
    "solve": (lambda k: (regular(2, 3, 3, kind=k), array(2, 3, 2, kind=k)), {}),
    "cross": (lambda k: (array(2, 3, kind=k), array(3, kind=k, seed=1)), {}),
    "outer": (lambda k: (array(2, kind=k), array(3, kind=k, seed=1)), {}),
    "vecdot": (lambda k: (array(2, 3, kind=k), array(3, kind=k, seed=1)), {}),
    "matmul": (lambda k: (array(2, 3, kind=k), array(3, 2, kind=k, seed=1)), {}),
    "trace": (lambda k: (array(2, 3, 4, kind=k),), {"offset": 1}),
    "diagonal": (lambda k: (array(2, 3, 4, kind=k),), {"offset": -1}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAME)
def test_values_are_numpys(name, kind):
    build, kwargs = SAME[name]
    operands = build(kind)
    expected = getattr(np.linalg, name)(*operands, **kwargs)
    actual = getattr(linalg, name)(*map(cl.asarray, operands), **kwargs)
    for a, e in zip(actual, expected, strict=True) if isinstance(expected, tuple) else [(actual, expected)]:
        close(a, e)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, math.inf, -1, -2, -math.inf])
@pytest.mark.parametrize("keepdims", [False, True])
def test_matrix_norms_are_numpys(ord, keepdims, kind):
    x = array(2, 3, 4, kind=kind)
    close(
        linalg.matrix_norm(cl.asarray(x), ord=ord, keepdims=keepdims),
        np.linalg.matrix_norm(x, ord=ord, keepdims=keepdims),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ord", [0, 1, 2, 3, 0.5, -0.5, -1, -2, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_vector_norms_are_numpys(ord, axis, kind):
    x = array(2, 3, 4, kind=kind)
    x[0, 1, 2] = 0
    with np.errstate(divide="ignore"):  # the zero element has an infinite negative power
        expected = np.linalg.vector_norm(np.abs(x), axis=axis, ord=ord)
    close(linalg.vector_norm(cl.asarray(x), axis=axis, ord=ord), expected)


def test_norms_of_nothing():
    empty = cl.zeros((0, 3), dtype=cl.float64)
    assert linalg.matrix_norm(empty).item() == linalg.matrix_norm(empty, ord="nuc").item() == 0
    assert linalg.matrix_norm(empty, ord=1).item() == 0  # of three columns, each of no element
    for ord in (2, -2, math.inf, -math.inf):
        with pytest.raises(
            ShapeError, match=rf"matrix_norm: there is no norm of order {ord} of matrices of shape \(0, 3\)"
        ):
            linalg.matrix_norm(empty, ord=ord)


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 7])
def test_powers(n):
    x = regular(2, 3, 3)
    close(linalg.matrix_power(cl.asarray(x), n), np.linalg.matrix_power(x, n))


def test_results_have_the_standards_names():
    x = cl.asarray(positive(3))
    assert linalg.eigh(x)._fields == linalg.eig(x)._fields == ("eigenvalues", "eigenvectors")
    assert linalg.qr(x)._fields == ("Q", "R")
    assert linalg.slogdet(x)._fields == ("sign", "logabsdet")
    assert linalg.svd(x)._fields == ("U", "S", "Vh")
    s = linalg.svd(x)
    assert s[1] is s.S


@pytest.mark.parametrize("function", [linalg.eigh, linalg.svd, linalg.qr, linalg.slogdet, linalg.eig])
def test_names_stay_under_differentiation(function):
    results, _ = vjp(function, cl.asarray(symmetric(3)))
    assert results._fields == function(cl.asarray(symmetric(3)))._fields


def test_dtypes_follow_x():
    for dtype, complex_ in ((cl.float32, cl.complex64), (cl.float64, cl.complex128)):
        for x in (cl.eye(2, dtype=dtype), cl.eye(2, dtype=complex_)):
            assert [y.dtype for y in linalg.eigh(x)] == [dtype, x.dtype]
            assert [y.dtype for y in linalg.eig(x)] == [complex_, complex_]
            assert [y.dtype for y in linalg.svd(x)] == [x.dtype, dtype, x.dtype]
            assert [y.dtype for y in linalg.slogdet(x)] == [x.dtype, dtype]
            assert linalg.eigvals(x).dtype is complex_
            assert linalg.matrix_norm(x).dtype is linalg.vector_norm(x).dtype is dtype
            assert linalg.matrix_rank(x).dtype is cl.int64


def test_half_is_float32_rounded_once():
    x = regular(3, 3).astype(np.float16)
    half, single = cl.asarray(x), cl.asarray(x.astype(np.float32))
    assert linalg.det(half).item() == linalg.det(single).astype(cl.float16).item()
    assert linalg.eig(half).eigenvalues.dtype is cl.complex64
    assert [y.dtype for y in linalg.svd(half)] == [cl.float16] * 3


def test_real_and_complex_operands_promote():
    a, b = regular(2, 2), array(2, kind="complex")
    close(linalg.solve(cl.asarray(a), cl.asarray(b)), np.linalg.solve(a, b))


def test_a_right_hand_side_of_one_axis_is_a_vector_for_every_matrix():
    a, b = regular(2, 2, 2), array(2, 2)
    assert linalg.solve(cl.asarray(a), cl.asarray(b[0])).shape == (2, 2)
    close(
        linalg.solve(cl.asarray(a), cl.asarray(b[0])),
        np.linalg.solve(a, np.stack([b[0]] * 2)[..., None])[..., 0],
    )
    assert linalg.solve(cl.asarray(a), cl.asarray(b)).shape == (
        2,
        2,
        2,
    )  # two axes are a matrix, for every matrix
    close(linalg.solve(cl.asarray(a), cl.asarray(b)), np.linalg.solve(a, np.stack([b] * 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_upper_triangle_is_not_read(kind):
    x = positive(3, kind)
    broken = np.tril(x) + np.triu(np.full((3, 3), np.nan), 1)
    for function in (
        linalg.cholesky,
        lambda x: linalg.cholesky(x, upper=True),
        linalg.eigvalsh,
        lambda x: linalg.eigh(x)[1],
    ):
        assert function(cl.asarray(broken)).tolist() == function(cl.asarray(x)).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_upper_is_the_conjugate_transpose_of_lower(kind):
    x = cl.asarray(positive(3, kind))
    assert linalg.cholesky(x, upper=True).tolist() == cl.conj(linalg.cholesky(x).mT).tolist()


def test_ranks_and_tolerances():
    u, _, vh = np.linalg.svd(array(3, 3))
    x = np.stack([u * [4, 2, 1] @ vh, u * [4, 2, 1e-18] @ vh, u * [4, 0, 0] @ vh])
    t = cl.asarray(x)
    assert linalg.matrix_rank(t).tolist() == [3, 2, 1]
    assert linalg.matrix_rank(t, rtol=0.3).tolist() == [2, 2, 1]
    assert linalg.matrix_rank(t, rtol=cl.asarray([0.6, 0.3, 0.0], dtype=cl.float64)).tolist()[:2] == [1, 2]
    close(linalg.pinv(t, rtol=0.3), np.linalg.pinv(x, rtol=0.3))
    close(linalg.pinv(t[1]), np.linalg.pinv(x[1]))
    each = np.array([0.6, 0.3, 0.1])
    close(linalg.pinv(t, rtol=cl.asarray(each)), np.linalg.pinv(x, rtol=each))
    assert linalg.matrix_rank(cl.zeros((2, 0, 3))).tolist() == [0, 0]


# -- gradients -----------------------------------------------------------------------------------------------

X = {kind: {"r": regular(3, 3, kind=kind), "h": symmetric(3, kind), "p": positive(3, kind)} for kind in KINDS}
OBLONG = {kind: [regular(*s, kind=kind) for s in ((3, 2), (2, 3))] for kind in KINDS}

# What is differentiated: a function of tensors, and its operands. What has arbitrary signs is compared up to them.
GRADIENTS = {
    "solve": lambda k: (linalg.solve, X[k]["r"], array(3, 2, kind=k)),
    "solve a vector": lambda k: (linalg.solve, regular(2, 2, 2, kind=k), array(2, kind=k)),
    "solve, broadcast": lambda k: (linalg.solve, regular(2, 2, kind=k), array(2, 2, 1, kind=k)),
    "inv": lambda k: (linalg.inv, X[k]["r"]),
    "det": lambda k: (linalg.det, regular(2, 2, 2, kind=k)),
    "slogdet": lambda k: (linalg.slogdet, X[k]["r"]),
    "adjugate": lambda k: (ops.linalg.adjugate, X[k]["r"]),
    "cholesky": lambda k: (lambda x: linalg.cholesky(hermitian(x)), X[k]["p"]),
    "cholesky upper": lambda k: (lambda x: linalg.cholesky(hermitian(x), upper=True), X[k]["p"]),
    "eigh": lambda k: (lambda x: checks.eigh_invariant(linalg.eigh(hermitian(x))), X[k]["h"]),
    "eigvalsh": lambda k: (lambda x: linalg.eigvalsh(hermitian(x)), X[k]["h"]),
    "eig": lambda k: (lambda x: checks.eig_invariant(linalg.eig(x)), array(2, 2, kind=k)),
    "eigvals": lambda k: (lambda x: checks.eigvals_invariant(linalg.eigvals(x)), array(2, 2, kind=k)),
    "qr": lambda k: (linalg.qr, X[k]["r"]),
    "qr tall": lambda k: (linalg.qr, OBLONG[k][0]),
    "qr wide": lambda k: (linalg.qr, OBLONG[k][1]),
    "qr complete wide": lambda k: (lambda x: linalg.qr(x, mode="complete"), OBLONG[k][1]),
    "svd": lambda k: (
        lambda x: checks.svd_invariant(linalg.svd(x), full_matrices=True),
        regular(2, 2, kind=k),
    ),
    **{
        f"svd {name}": lambda k, i=i: (
            lambda x: checks.svd_invariant(linalg.svd(x, full_matrices=False), full_matrices=False),
            OBLONG[k][i],
        )
        for i, name in enumerate(("tall", "wide"))
    },
    "svdvals": lambda k: (linalg.svdvals, OBLONG[k][0]),
    "pinv tall": lambda k: (linalg.pinv, OBLONG[k][0]),
    "pinv wide": lambda k: (linalg.pinv, OBLONG[k][1]),
    "power": lambda k: (lambda x: linalg.matrix_power(x, 3), X[k]["r"]),
    "negative power": lambda k: (lambda x: linalg.matrix_power(x, -2), X[k]["r"]),
    "cross": lambda k: (linalg.cross, array(2, 3, kind=k), array(3, kind=k, seed=1)),
    **{
        f"norm {order}": lambda k, order=order: (lambda x: linalg.matrix_norm(x, ord=order), OBLONG[k][1])
        for order in ("fro", "nuc", 1, 2, math.inf, -1, -2, -math.inf)
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_finite_differences(name, kind):
    function, *operands = GRADIENTS[name](kind)
    assert cl.gradcheck(function, tuple(map(cl.asarray, operands)))


# The second derivatives of every op, and forward mode, are checked by the laws of the conformance suite; here, of the
# functions whose rules have cases of their own, off its samples. Differences of gradients have lost half the digits of
# differences of values where values are close: 1e-6.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["det", "slogdet", "eigvalsh", "svdvals", "qr wide", "solve a vector", "norm nuc"]
)
def test_second_derivatives_are_those_of_finite_differences(name, kind):
    function, *operands = GRADIENTS[name](kind)
    assert cl.gradgradcheck(function, tuple(map(cl.asarray, operands)), tolerance=1e-6)


def test_a_wrong_complex_gradient_is_found():
    """The checks above can fail: an adjoint without its conjugate is right for real numbers alone."""

    @cl.custom_gradient
    def scaled(x):
        factor = (
            cl.asarray(2 + 1j, dtype=x.dtype) if x.dtype.kind == "complex" else cl.asarray(2.0, dtype=x.dtype)
        )
        return x * factor, lambda g: g * factor

    assert cl.gradcheck(scaled, (cl.asarray(array(2)),))
    with pytest.raises(GradientError, match=r"the (real|imaginary) part of element 0 of argument 0"):
        cl.gradcheck(scaled, (cl.asarray(array(2, kind="complex")),))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_determinant_is_the_matrix_of_cofactors_at_any_rank(kind):
    def cofactors(x):
        n = len(x)
        minors = [[np.linalg.det(np.delete(np.delete(x, i, 0), j, 1)) for j in range(n)] for i in range(n)]
        return np.array([[(-1) ** (i + j) * minors[i][j] for j in range(n)] for i in range(n)])

    b, c = array(3, 2, kind=kind), array(2, 3, kind=kind, seed=1)
    for x in (
        regular(3, 3, kind=kind),
        b @ c,
        b[:, :1] @ c[:1],
        np.zeros_like(b @ c),
    ):  # of rank 3, 2, 1 and 0
        (g,) = vjp(linalg.det, cl.asarray(x))[1](cl.asarray(np.ones((), x.dtype)))
        close(g, np.conj(cofactors(x)))


def test_second_derivatives_of_a_determinant_need_a_regular_matrix():
    slope = lambda x: cl.sum(grad(linalg.det)(x) ** 2)
    assert np.isfinite(np.asarray(grad(slope)(cl.asarray(regular(2, 2))).tolist())).all()
    with pytest.raises(LinAlgError, match="inv: x is singular"):
        grad(slope)(cl.asarray([[1.0, 2.0], [2.0, 4.0]], dtype=cl.float64))


def test_the_gradient_of_slogdet_at_a_singular_matrix_is_refused():
    assert [y.item() for y in linalg.slogdet(cl.ones((2, 2)))] == [0, -math.inf]
    with pytest.raises(LinAlgError, match="singular"):
        grad(lambda x: linalg.slogdet(x).logabsdet)(cl.ones((2, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_depends_on_repeated_values_alone_has_a_gradient(kind):
    """Of sum f(w) it is V diag(f'(w)) V^H, whatever V: here f(w) = w^3 at a multiple of the identity."""
    eye = np.eye(3).astype(complex if kind == "complex" else float)
    x = cl.asarray(2 * eye)
    for values in (
        lambda x: linalg.eigh(x).eigenvalues,
        linalg.eigvalsh,
        lambda x: linalg.svd(x).S,
        linalg.svdvals,
    ):
        close(grad(lambda x, values=values: cl.sum(values(x) ** 3))(x), 12 * eye)
    for values in (lambda x: linalg.eig(x).eigenvalues, linalg.eigvals):
        close(grad(lambda x, values=values: cl.real(cl.sum(values(x) ** 3)))(x), 12 * eye)


def test_what_depends_on_vectors_of_repeated_values_has_none():
    x = cl.eye(2, dtype=cl.float64)
    for loss in (lambda x: linalg.eigh(x).eigenvectors[0, 0], lambda x: linalg.svd(x).U[0, 0]):
        assert not cl.all(cl.isfinite(grad(loss)(x))).item()


def test_second_derivatives_where_values_repeat_are_nan_and_not_wrong():
    """That of sum w^2 = tr x^2 is twice the identity, but follows from no formula in single vectors."""
    x, v = cl.eye(2, dtype=cl.float64), cl.asarray([[1.0, 2.0], [2.0, 3.0]], dtype=cl.float64)
    for values in (linalg.eigvalsh, linalg.svdvals):
        slope = grad(lambda x, values=values: cl.sum(values(x) ** 2))
        assert slope(x).tolist() == [[2, 0], [0, 2]]
        assert cl.all(cl.isnan(jvp(slope, [x], [v])[1])).item()
        assert cl.sum(jvp(values, [x], [v])[1]).item() == 4  # the trace of v


def test_singular_values_of_zero_have_the_gradient_zero():
    x = cl.asarray([[2.0, 0.0], [0.0, 0.0]], dtype=cl.float64)
    assert grad(lambda x: linalg.matrix_norm(x, ord="nuc"))(x).tolist() == [[1, 0], [0, 0]]
    for order in ("fro", "nuc", 1, 2, math.inf, -1, -2, -math.inf):
        assert (
            grad(functools.partial(linalg.matrix_norm, ord=order))(cl.zeros((2, 3))).tolist() == [[0] * 3] * 2
        )
    for order in (1, 2, 3, math.inf, -math.inf):
        assert (
            grad(functools.partial(linalg.vector_norm, ord=order))(
                cl.zeros((3,), dtype=cl.complex64)
            ).tolist()
            == [0] * 3
        )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_hermitian_matrices_are_hermitian(kind):
    for function, x in ((linalg.cholesky, positive(3, kind)), (linalg.eigvalsh, symmetric(3, kind))):
        y, pullback = vjp(function, cl.asarray(x))
        weights = array(*y.shape, kind="complex" if y.dtype.kind == "complex" else "real")
        (g,) = pullback(cl.asarray(weights))
        close(g, np.asarray(cl.conj(g.mT).tolist()))


@pytest.mark.parametrize(
    "name", ["solve", "solve a vector", "inv", "qr tall", "svd wide", "eig", "pinv tall"]
)
def test_forward_mode_is_the_transpose_of_reverse_mode(name):
    function, *operands = GRADIENTS[name]("complex")
    x = [cl.asarray(o) for o in operands]
    tangents = [cl.asarray(array(*o.shape, kind="complex", seed=7)) for o in operands]
    y, pushed = jvp(function, x, tangents)
    single = not isinstance(y, tuple)
    y, pushed = ((y,), (pushed,)) if single else (y, pushed)
    g = [
        cl.asarray(array(*t.shape, kind="complex" if t.dtype.kind == "complex" else "real", seed=8))
        for t in y
    ]
    pulled = vjp(function, *x)[1](g[0] if single else type(y)(*g) if hasattr(y, "_fields") else tuple(g))
    inner = lambda a, b: sum(
        np.vdot(np.asarray(p.tolist()), np.asarray(q.tolist())).real for p, q in zip(a, b, strict=True)
    )
    assert math.isclose(inner(g, pushed), inner(pulled, tangents), rel_tol=1e-10)


def test_a_constant_operand_of_solve_is_not_differentiated():
    a, b = cl.asarray(regular(2, 2)), cl.asarray(array(2))
    _, tangent = jvp(lambda a: linalg.solve(a, b), [a], [cl.ones((2, 2), dtype=cl.float64)])
    _, expected = jvp(
        linalg.solve, [a, b], [cl.ones((2, 2), dtype=cl.float64), cl.zeros((2,), dtype=cl.float64)]
    )
    assert tangent.tolist() == expected.tolist()


def test_arbitrary_vectors_have_no_gradient():
    x = cl.asarray(array(3, 2))
    with pytest.raises(
        GradientError, match=r"qr: of x of shape \(3, 2\), mode 'complete' fills Q .*use mode='reduced'"
    ):
        grad(lambda x: cl.sum(linalg.qr(x, mode="complete").R))(x)
    with pytest.raises(
        GradientError,
        match=r"svd: of x of shape \(3, 2\), full_matrices=True .*full_matrices=False, or svdvals",
    ):
        grad(lambda x: cl.sum(linalg.svd(x).S))(x)


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "inv", "slogdet"])
def test_matrices_must_be_square_and_floating(name):
    function = getattr(linalg, name)
    with pytest.raises(ShapeError, match=rf"{name}: the matrices of x must be square, got shape \(2, 3\)"):
        function(cl.ones((2, 3)))
    with pytest.raises(
        ShapeError, match=rf"{name}: x must be a matrix or a stack of matrices, got shape \(2,\)"
    ):
        function(cl.ones((2,)))
    with pytest.raises(
        DTypeError, match=rf"{name} does not accept int64, .*: call x.astype\(corelib.float32\)"
    ):
        function(cl.ones((2, 2), dtype=cl.int64))


REFUSED = {
    "inv": (linalg.inv, "singular"),
    "solve": (lambda x: linalg.solve(x, cl.ones((2,))), "singular"),
    "matrix_power": (lambda x: linalg.matrix_power(x, -2), "singular"),
    "cholesky": (linalg.cholesky, "not positive definite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_matrix_that_has_no_answer_is_named(name):
    function, words = REFUSED[name]
    x, operand = cl.eye(2) * cl.ones((2, 3, 1, 1)), "x1" if name == "solve" else "x"
    x[1, 2] = cl.ones((2, 2))
    with pytest.raises(LinAlgError, match=rf"{name}: {operand}\[1, 2\] is {words}"):
        function(x)
    with pytest.raises(LinAlgError, match=rf"{name}: {operand} is {words}"):
        function(cl.ones((2, 2)))
    assert issubclass(LinAlgError, ValueError)


@pytest.mark.parametrize(
    "name", ["eig", "eigh", "eigvals", "eigvalsh", "svd", "svdvals", "pinv", "matrix_rank"]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_have_no_decomposition(name, bad):
    x = cl.eye(2) * cl.ones((2, 1, 1))
    x[1, 1, 0] = bad
    with pytest.raises(LinAlgError, match=rf"{name}: x\[1\] has elements that are NaN or infinite"):
        getattr(linalg, name)(x)


def test_arguments_that_are_none_of_the_allowed():
    x = cl.ones((2, 2))
    with pytest.raises(ArgumentError, match="qr: mode must be 'reduced' or 'complete', got 'r'"):
        linalg.qr(x, mode="r")
    with pytest.raises(
        ArgumentError, match="matrix_norm: ord must be one of 'fro', 'nuc', 1, 2, inf, -1, -2, -inf, got 3"
    ):
        linalg.matrix_norm(x, ord=3)
    with pytest.raises(DTypeError, match=r"matrix_power: n must be an integer, got 0.5"):
        linalg.matrix_power(x, 0.5)
    with pytest.raises(
        ShapeError, match=r"pinv: rtol of shape \(3,\) is not one for each matrix of x of shape \(2, 2, 2\)"
    ):
        linalg.pinv(cl.ones((2, 2, 2)), rtol=cl.ones((3,)))
    with pytest.raises(DTypeError, match="matrix_rank: rtol must have a real floating dtype, got complex64"):
        linalg.matrix_rank(cl.ones((2, 2, 2)), rtol=cl.ones((2,), dtype=cl.complex64))


def test_vectors_of_a_cross_product_have_three_elements():
    for shapes in (((3,), (1,)), ((2,), (2,)), ((4,), (4,))):
        with pytest.raises(ShapeError, match="cross: vectors of 3 elements are needed along axis -1"):
            linalg.cross(*map(cl.ones, shapes))
