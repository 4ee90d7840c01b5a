"""The reference backend's linear algebra: exact where it can be, backward stable where not, whatever the matrix."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from corelib.plugin_api import LinAlgError, dtypes, ops
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend

BACKEND = ReferenceBackend("reference")
INF, NAN = math.inf, math.nan
SIZES = [1, 2, 3, 5, 12]
DTYPES = [np.float64, np.complex128]

# The unit roundoff. LAPACK's own tests pass where a residual and the distance from orthonormality, in the 1-norm,
# are below 30 n eps = 60 n u (LAPACK Working Note 41, chapter 6). That bounds every stable algorithm
# on every machine; here the norm is Frobenius', which is larger than what a rotation or a reflection adds to, and the
# sums are rounded once: a sixth of it holds, twice what was measured.
U = 2.0**-53
C = 10


def call(op, *operands, **params):
    arrays = [BACKEND.from_host(np.array(x, order="C"), x.shape, dtypes.as_dtype(x.dtype)) for x in operands]
    result = BACKEND.find(op.op, arrays[0].dtype)(*arrays, **params)
    return host(result) if isinstance(result, RefArray) else tuple(map(host, result))


def host(y):
    assert len(y.data) == math.prod(y.shape)
    assert all(type(z) is (complex if y.dtype.kind == "complex" else float) for z in y.data)
    return np.array(y.data, dtype=y.dtype.numpy).reshape(y.shape)


def H(x):
    return np.conj(np.swapaxes(x, -1, -2))


def random(rng, m, n, dtype):
    real = rng.standard_normal((m, n))
    return real + 1j * rng.standard_normal((m, n)) if dtype is np.complex128 else real


def unitary(rng, n, dtype):
    return np.linalg.qr(random(rng, n, n, dtype))[0]


def wild(rng, n, dtype):
    return random(rng, n, n, dtype) * 10.0 ** rng.uniform(-300, 300, (n, n))


# Each a function of a generator, a size and a dtype.
MATRICES = {
    "random": lambda rng, n, t: random(rng, n, n, t),
    "integers": lambda rng, n, t: np.round(random(rng, n, n, t)),
    "graded": lambda rng, n, t: random(rng, n, n, t) * np.multiply.outer(*[10.0 ** -np.arange(n)] * 2),
    "graded columns": lambda rng, n, t: random(rng, n, n, t) * 100.0 ** np.arange(n),
    "clustered": lambda rng, n, t: (q := unitary(rng, n, t)) * (1 + 1e-10 * rng.standard_normal(n)) @ H(q),
    "repeated": lambda rng, n, t: (q := unitary(rng, n, t)) * np.sign(np.arange(n) - n // 2) @ H(q),
    "rank 1": lambda rng, n, t: random(rng, n, 1, t) @ random(rng, 1, n, t),
    "rank 2": lambda rng, n, t: random(rng, n, 2, t) @ random(rng, 2, n, t),
    "Hilbert": lambda rng, n, t: 1 / (1 + np.add.outer(np.arange(n), np.arange(n))),
    "zero": lambda rng, n, t: np.zeros((n, n)),
    "identity": lambda rng, n, t: np.eye(n),
    "ones": lambda rng, n, t: np.ones((n, n)),
    "Jordan": lambda rng, n, t: np.eye(n) + np.eye(n, k=1),
    "nilpotent": lambda rng, n, t: np.eye(n, k=1),
    "cyclic": lambda rng, n, t: np.roll(np.eye(n), 1, axis=0),
    "Grcar": lambda rng, n, t: np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1),
    "Frank": lambda rng, n, t: np.triu(np.minimum.outer(k := np.arange(n, 0, -1.0), k)) + np.diag(k[1:], -1),
    "skew": lambda rng, n, t: (x := random(rng, n, n, t)) - H(x),
    "unitary": lambda rng, n, t: unitary(rng, n, t),
    "equal blocks": lambda rng, n, t: np.kron(np.eye(n), [[0, 1], [-1, 0]])[:n, :n],
    "large": lambda rng, n, t: 1e300 * random(rng, n, n, t),
    "small": lambda rng, n, t: 1e-300 * random(rng, n, n, t),
    "wild": wild,
}  # fmt: skip


@pytest.fixture(params=MATRICES)
def family(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=["real", "complex"])
def dtype(request):
    return request.param


@pytest.fixture
def matrices(family, dtype):
    return [MATRICES[family](np.random.default_rng(n), n, dtype).astype(dtype) for n in SIZES]


def unscaled(*arrays):
    """The arrays divided by one power of two (which is exact), so that norms of the first neither overflow nor vanish."""
    size = float(np.abs(np.stack([arrays[0].real, arrays[0].imag])).max(initial=0))
    e = math.frexp(size)[1]
    return [x * 0.5 ** (e // 2) * 0.5 ** (e - e // 2) for x in arrays]


def relative(error, a):
    """The Frobenius norm of a residual relative to that of a, in units of n u."""
    return np.linalg.norm(error) / (np.linalg.norm(a) or 1.0) / U / max(*a.shape)


def distance(q):
    """How far q's columns are from orthonormal, in units of n u."""
    return np.linalg.norm(H(q) @ q - np.eye(q.shape[1])) / U / max(*q.shape)


# ---- backward errors


def shapes(matrices):
    """Matrices, and their tall and wide parts."""
    return [part for a in matrices for part in (a, a[:, : len(a) // 2 + 1], a[: len(a) // 2 + 1])]


def test_qr(matrices):
    for a in shapes(matrices):
        for mode in ("reduced", "complete"):
            q, r = call(ops.linalg.qr, a, mode=mode)
            assert q.shape[1] == r.shape[0] == (len(a) if mode == "complete" else min(a.shape))
            assert (np.tril(r, -1) == 0).all() and (r.diagonal().imag == 0).all()
            b, r = unscaled(a, r)
            assert relative(q @ r - b, b) < C
            assert distance(q) < C


def test_qr_is_stable_by_columns(dtype):
    # Higham, Accuracy and Stability of Numerical Algorithms, theorem 19.4: the bound holds for every column by itself.
    a = random(np.random.default_rng(0), 8, 8, dtype) * 10.0 ** (60 * np.arange(-4, 4))
    q, r = call(ops.linalg.qr, a, mode="reduced")
    for pair in zip(a.T, r.T, strict=True):
        column, of_r = unscaled(*pair)
        assert np.linalg.norm(q @ of_r - column) < C * 8 * U * np.linalg.norm(column)


def test_qr_has_the_signs_of_lapack(dtype):
    a = random(np.random.default_rng(1), 6, 4, dtype)
    np.testing.assert_allclose(
        call(ops.linalg.qr, a, mode="reduced")[1], np.linalg.qr(a)[1], rtol=0, atol=100 * U
    )
    np.testing.assert_array_equal(
        call(ops.linalg.qr, np.diag([2.0, -3.0]), mode="reduced")[1], np.diag([2.0, -3.0])
    )


def test_eigh(matrices):
    for a in matrices:
        w, v = call(ops.linalg.eigh, a)  # which reads the lower triangle
        b, w = unscaled(np.tril(a, -1) + H(np.tril(a, -1)) + np.diag(a.diagonal().real), w)
        assert relative(b @ v - v * w, b) < C
        assert distance(v) < C
        assert (np.diff(w) >= 0).all()


def test_svd(matrices):
    for a in shapes(matrices):
        k = min(a.shape)
        for full in (False, True):
            u, s, vh = call(ops.linalg.svd, a, full_matrices=full)
            assert (u.shape[1], vh.shape[0]) == (a.shape if full else (k, k))
            b, s = unscaled(a, s)
            assert relative(u[:, :k] * s @ vh[:k] - b, b) < C
            assert distance(u) < C and distance(H(vh)) < C
            assert (np.diff(s) <= 0).all() and (s >= 0).all()


def test_eig(matrices):
    for a in matrices:
        w, v = call(ops.linalg.eig, a)
        b, scaled = unscaled(a, w)
        assert relative(b @ v - v * scaled, b) < C
        # Computing a norm of n complex numbers, once to divide by it and once here, costs (n + 4) u (Higham, 3.1).
        np.testing.assert_allclose(np.linalg.norm(v, axis=0), 1, rtol=0, atol=(len(a) + 4) * U)
        if a.dtype == np.float64:  # then results are real or conjugate in pairs, exactly
            pairs = [
                Counter((z, *x) for z, x in zip(y, y_vectors.T, strict=True))
                for y, y_vectors in ((w, v), (w.conj(), v.conj()))
            ]
            assert pairs[0] == pairs[1]


def test_eig_of_small_integers(dtype):
    # Many of these are defective, singular or have equal eigenvalues; the last ones have pairs that rounding makes real.
    rng = np.random.default_rng(10)
    matrices = [rng.integers(-1, 2, (n, n)) for n in (2, 3, 4, 5) for _ in range(50)]
    matrices += [np.array([[1, 1], [-(10.0**-k), 1]]) for k in range(8, 40)]
    for a in matrices:
        w, v = call(ops.linalg.eig, a.astype(dtype))
        assert relative(a @ v - v * w, a) < C
        # the trace of the perturbation that makes them exact is sqrt(n) times its norm at most
        assert sum(w) == pytest.approx(np.trace(a), abs=C * len(a) ** 1.5 * U * np.linalg.norm(a))


def test_eig_of_a_pair_of_which_rounding_makes_one_real():
    w, v = call(ops.linalg.eig, np.array([[1.0, 6.065230998467706e-20], [-2.3431922733782077e-16, 1.0]]))
    assert w[0] == np.conj(w[1]) == pytest.approx(1, abs=C * 2 * U)
    assert v.shape == (2, 2)


def test_eig_of_values_that_nearly_coincide(dtype):
    # To divide by their differences would be to divide by 1e-250 five times.
    a = np.eye(6, k=1, dtype=dtype) + np.diag(1e-250 * np.arange(6))
    w, v = call(ops.linalg.eig, a)
    assert relative(a @ v - v * w, a) < C


def test_a_defective_matrix_has_parallel_eigenvectors(dtype):
    for n in (2, 30):  # the second solves a triangular system whose solution grows by 1 / u with every row
        w, v = call(ops.linalg.eig, 3 * np.eye(n, dtype=dtype) + np.eye(n, k=1))
        assert (w == 3).all()
        assert abs(np.vdot(v[:, 0], v[:, -1])) == pytest.approx(1, abs=n * U)


def test_cholesky(dtype):
    for n in SIZES:
        for steepness in (0, -300):  # of all diagonals that double precision holds
            b = random(np.random.default_rng(n), n, n + 2, dtype)
            a = b @ H(b) * np.multiply.outer(*[10.0 ** np.linspace(0, steepness / 2, n)] * 2)
            low = call(ops.linalg.cholesky, a, upper=False)
            assert (
                (np.triu(low, 1) == 0).all()
                and (low.diagonal().real > 0).all()
                and (low.diagonal().imag == 0).all()
            )
            # Higham, theorem 10.3: |A - L L^H| <= (n + 1) u |L| |L^H| by components, if the sums are not rounded
            # once; 2 sqrt(2) as much for complex products (lemma 3.5); and n u for the product that checks it.
            assert (
                abs(low @ H(low) - np.tril(a) - H(np.tril(a, -1))) <= 6 * (n + 1) * U * abs(low) @ abs(low).T
            ).all()
            np.testing.assert_array_equal(call(ops.linalg.cholesky, a, upper=True), H(low))
            a[np.triu_indices(n, 1)] = NAN  # is not read
            np.testing.assert_array_equal(call(ops.linalg.cholesky, a, upper=False), low)


@pytest.mark.parametrize("a", [[[0.0]], [[-1.0]], [[1.0, 0.0], [2.0, 4.0]], [[1.0, 0.0], [1e300, 1.0]]])
def test_cholesky_refuses_what_is_not_positive_definite(a):
    with pytest.raises(LinAlgError, match="not positive definite"):
        call(ops.linalg.cholesky, np.array(a), upper=False)


# ---- against many digits


def many(x):
    return mpmath.matrix([[mpmath.mpmathify(z) for z in row] for row in x.tolist()])


def nearest(z, dtype):
    """The value of a dtype nearest to a number of many digits."""

    def part(x):
        sign, mantissa, exponent, _ = mpmath.mpf(x)._mpf_
        fraction = Fraction(int(mantissa)) * Fraction(2) ** exponent
        try:
            return dtype.real.round(float(-fraction if sign else fraction))
        except OverflowError:
            return -INF if sign else INF

    return complex(part(z.real), part(z.imag)) if dtype.kind == "complex" else part(z.real)


def true_determinant(a):
    """Leibniz' sum over all permutations: without rounding, where there are digits enough."""
    n, terms = len(a), []
    for p in itertools.permutations(range(n)):
        sign = (-1) ** sum(p[i] > p[j] for j in range(n) for i in range(j))
        terms.append(mpmath.fprod([sign, *(mpmath.mpmathify(a[i, p[i]].item()) for i in range(n))]))
    return mpmath.fsum(terms)


@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128"])
def test_solutions_and_determinants_are_the_nearest_numbers(name):
    dtype = dtypes.as_dtype(name)
    kind = np.complex128 if dtype.kind == "complex" else np.float64
    too_large = {"large", "small", "wild"} if dtype.real is dtypes.float32 else set()
    for family in [family for family in MATRICES if family not in too_large]:
        for n in (1, 2, 3, 4):
            rng = np.random.default_rng(n)
            a, b = MATRICES[family](rng, n, kind).astype(name), random(rng, n, 2, kind).astype(name)
            sign, log = call(ops.linalg.slogdet, a)
            with mpmath.workdps(n * 650):  # of the digits between 2**1024 and 2**-1074, for a product of n
                det = true_determinant(a)
                assert call(ops.linalg.det, a) == nearest(det, dtype), (family, n)
                if det == 0:
                    assert (sign, log) == (0, -INF)
                    with pytest.raises(LinAlgError, match="singular"):
                        call(ops.linalg.solve, a, b)
                    continue
                # The logarithm is rounded twice and then to its dtype, the two parts of the sign once.
                assert abs(sign - det / abs(det)) <= dtype.eps, (family, n)
                assert abs(log - mpmath.log(abs(det))) <= 2 * dtype.eps * abs(log), (family, n)
                expected = np.empty((n, 2), name)
                for i, j in np.ndindex(n, 2):  # Cramer's rule
                    replaced = np.concatenate([a[:, :i], b[:, [j]], a[:, i + 1 :]], axis=1)
                    expected[i, j] = nearest(true_determinant(replaced) / det, dtype)
            np.testing.assert_array_equal(call(ops.linalg.solve, a, b), expected)


def test_a_solution_beside_a_tie_is_not_rounded_to_even():
    x = call(ops.linalg.solve, np.array([[1.0, -1.0], [0.0, 1.0]]), np.array([1.0, U + 2 * U**2]))
    assert x[0] == 1 + 2 * U  # 1 + U is a tie of 1 and 1 + 2 U


def test_a_determinant_near_1_keeps_the_digits_of_its_logarithm():
    for exponent in range(1, 53):
        for x in (1 + 2.0**-exponent, 1 - 2.0**-exponent):
            log = call(ops.linalg.slogdet, np.array([[x]]))[1]
            assert log == pytest.approx(math.log1p(x - 1), rel=4 * U)


@pytest.mark.parametrize(
    "family", ["random", "graded", "clustered", "repeated", "Hilbert", "Grcar", "rank 2"]
)
def test_eigenvalues_and_singular_values_against_many_digits(family, dtype):
    a = MATRICES[family](np.random.default_rng(3), 6, dtype).astype(dtype)
    symmetric = np.tril(a, -1) + H(np.tril(a, -1)) + np.diag(a.diagonal().real)
    with mpmath.workdps(40):
        w = np.array(
            mpmath.eighe(many(symmetric), eigvals_only=True).tolist()
            if dtype is np.complex128
            else mpmath.eigsy(many(symmetric), eigvals_only=True).tolist(),
            float,
        ).ravel()
        s = np.array(
            (mpmath.svd_c if dtype is np.complex128 else mpmath.svd_r)(many(a), compute_uv=False).tolist(),
            float,
        ).ravel()
    # Weyl: no eigenvalue or singular value moves by more than the norm of the perturbation.
    np.testing.assert_allclose(
        call(ops.linalg.eigh, a)[0], np.sort(w), rtol=0, atol=C * 6 * U * np.linalg.norm(symmetric)
    )
    np.testing.assert_allclose(
        call(ops.linalg.svd, a, full_matrices=False)[1], s, rtol=0, atol=C * 6 * U * np.linalg.norm(a)
    )


def test_eigenvalues_of_normal_matrices_against_many_digits(dtype):
    # Bauer and Fike: those of a normal matrix move by no more than the perturbation's norm (GVL 7.2.2)
    rng = np.random.default_rng(8)
    for a in (unitary(rng, 6, dtype), (x := random(rng, 6, 6, dtype)) - H(x)):
        with mpmath.workdps(40):
            true = [complex(w) for w in mpmath.eig(many(a), left=False, right=False)]
        found = list(call(ops.linalg.eig, a)[0])
        for w in true:
            nearest_found = min(found, key=lambda z: abs(z - w))
            found.remove(nearest_found)
            assert abs(nearest_found - w) <= C * 6 * U * np.linalg.norm(a)


def test_singular_values_of_scaled_columns_have_all_their_digits(dtype):
    # J. Demmel and K. Veselic, "Jacobi's method is more accurate than QR" (1992): a relative error of n u cond(B) for
    # A = B D, however different the elements of the diagonal D are. LAPACK's gesdd has no digit of the last ones.
    rng = np.random.default_rng(4)
    b, d = random(rng, 7, 5, dtype), 10.0 ** -np.arange(0.0, 50.0, 10.0)
    with mpmath.workdps(120):
        true = np.array(
            (mpmath.svd_c if dtype is np.complex128 else mpmath.svd_r)(
                many(b * d), compute_uv=False
            ).tolist(),
            float,
        ).ravel()
    np.testing.assert_allclose(
        call(ops.linalg.svd, b * d, full_matrices=False)[1], true, rtol=C * 7 * U * np.linalg.cond(b)
    )


@pytest.mark.parametrize(("single", "double"), [(np.float32, np.float64), (np.complex64, np.complex128)])
def test_single_precision_is_double_precision_rounded(single, double):
    a = random(np.random.default_rng(6), 5, 5, double).astype(single)
    a = a @ H(a)
    for op, params in [
        (ops.linalg.cholesky, {"upper": False}), (ops.linalg.qr, {"mode": "complete"}), (ops.linalg.eigh, {}),
        (ops.linalg.eig, {}), (ops.linalg.svd, {"full_matrices": True}),
    ]:  # fmt: skip
        narrow, wide = call(op, a, **params), call(op, a.astype(double), **params)
        for x, y in zip(*[z if isinstance(z, tuple) else (z,) for z in (narrow, wide)], strict=True):
            np.testing.assert_array_equal(x, y.astype(x.dtype), strict=True)


# ---- stacks, sizes, and what is not finite


EVERY = {
    "cholesky": {"upper": False}, "qr": {"mode": "complete"}, "eigh": {}, "eig": {}, "svd": {"full_matrices": True},
    "det": {}, "slogdet": {},
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("leading", [(), (0,), (1,), (2, 3), (2, 0), (1, 2, 1, 2)])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_stacks_hold_the_results_of_their_matrices(name, leading, n, dtype):
    op, params = getattr(ops.linalg, name), EVERY[name]
    rng = np.random.default_rng(2)
    x = rng.standard_normal((*leading, n, n)).astype(dtype)
    x = x @ H(x) + np.eye(n)
    results = call(op, x, **params)
    for result_number, y in enumerate(results if isinstance(results, tuple) else (results,)):
        assert y.shape[: len(leading)] == leading
        for index in np.ndindex(leading):
            own = call(op, x[index], **params)
            np.testing.assert_array_equal(y[index], own[result_number] if isinstance(own, tuple) else own)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 3), (2, 3, 0)])
def test_of_a_matrix_without_elements_the_factors_are_identities(shape, dtype):
    x, (m, n) = np.zeros(shape, dtype), shape[-2:]
    eye = [np.broadcast_to(np.eye(k), (*shape[:-2], k, k)) for k in (m, n)]
    u, s, vh = call(ops.linalg.svd, x, full_matrices=True)
    q, r = call(ops.linalg.qr, x, mode="complete")
    assert (s.shape, r.shape) == ((*shape[:-2], 0), shape)
    for found, expected in ((u, eye[0]), (q, eye[0]), (vh, eye[1])):
        np.testing.assert_array_equal(found, expected)
    assert [y.shape[-2:] for y in call(ops.linalg.svd, x, full_matrices=False)[::2]] == [(m, 0), (0, n)]
    assert [y.shape[-2:] for y in call(ops.linalg.qr, x, mode="reduced")] == [(m, 0), (0, n)]


def test_a_matrix_without_elements_has_determinant_1(dtype):
    assert call(ops.linalg.det, np.zeros((0, 0), dtype)) == 1
    assert call(ops.linalg.slogdet, np.zeros((0, 0), dtype)) == (1, 0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 3), (3,)), ((2, 3, 3), (3,)), ((2, 1, 3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 1)),
        ((2, 1, 3, 3), (4, 3, 2)), ((0, 3, 3), (3, 2)), ((3, 3), (0, 3, 2)), ((3, 3), (3, 0)), ((0, 0), (0,)),
        ((2, 0, 0), (0, 3)), ((3, 3, 3), (3, 3)),
    ],
)  # fmt: skip
def test_solve_broadcasts_and_a_vector_is_one_for_every_matrix(left, right, dtype):
    rng = np.random.default_rng(9)
    a, b = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
    expected = np.linalg.solve(a, b)
    # Higham, theorem 9.4 and 7.2, for LAPACK's error: 3 n^3 u cond(A), n = 3
    limit = 81 * U * (np.linalg.cond(a).max(initial=0) if a.size else 0)
    x = call(ops.linalg.solve, a, b)
    assert x.shape == expected.shape
    np.testing.assert_allclose(x, expected, rtol=0, atol=limit * abs(expected).max(initial=0))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
def test_what_is_not_finite_has_no_results(bad, place, dtype):
    good = random(np.random.default_rng(0), 3, 3, dtype)
    x = np.stack([good @ H(good)] * 2)
    x[(1, *place)] = bad
    for name in ("det", "slogdet", "qr"):
        results = call(getattr(ops.linalg, name), x, **EVERY[name])
        for y in results if isinstance(results, tuple) else (results,):
            assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    y = call(ops.linalg.solve, x, np.ones((3, 2), dtype))
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    y = call(ops.linalg.solve, x[0], np.array([[1, bad], [2, 3], [3, 4]], dtype))
    assert np.isfinite(y[:, 0]).all() and np.isnan(y[:, 1]).all()
    for name in ("cholesky", "eigh", "eig", "svd"):
        with pytest.raises(LinAlgError, match="NaN or infinite"):
            call(getattr(ops.linalg, name), x, **EVERY[name])


def test_the_upper_triangle_of_a_symmetric_matrix_is_not_read(dtype):
    a = random(np.random.default_rng(0), 4, 4, dtype)
    x = a @ H(a)
    other = np.tril(x) + np.triu(np.full((4, 4), NAN), 1)
    if dtype is np.complex128:
        other[np.diag_indices(4)] += 1j  # nor are imaginary parts of the diagonal
    np.testing.assert_array_equal(*[call(ops.linalg.cholesky, y, upper=False) for y in (x, other)])
    (w, v), (other_w, other_v) = call(ops.linalg.eigh, x), call(ops.linalg.eigh, other)
    np.testing.assert_array_equal(w, other_w)
    np.testing.assert_array_equal(v, other_v)


def test_a_matrix_that_is_not_square_is_refused():
    for name in EVERY.keys() - {"qr", "svd"}:
        with pytest.raises(ValueError, match="square"):
            call(getattr(ops.linalg, name), np.ones((2, 3)), **EVERY[name])
    with pytest.raises(ValueError, match="do not fit"):
        call(ops.linalg.solve, np.eye(2), np.ones(3))
