"""Linear algebra and Fourier transforms of the `cuda` backend: what it adds to CuPy's. NumPy stands for cuSOLVER and cuFFT
(tests/cuda_emulator/emulated_libraries.py), refuses what they do not take and leaves open what they do."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
import emulated_libraries
from harness import run, same, to_device

from corelib import dtypes
from corelib.errors import LinAlgError, UnsupportedError
from corelib_cuda import backend as cuda_backend
from corelib_cuda import linalg

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_linalg"),
]
INEXACT = [d.name for d in dtypes.INEXACT]


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        entries = [k.entry(forms, "dense", 32) for k, forms in linalg.every_kernel(INEXACT)]
        emulated_cupy.prepare("elementwise.cu", entries)
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=INEXACT)
def dtype(request):
    return dtypes.as_dtype(request.param)


def matrices(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (x if dtype.kind == "complex" else x.real).astype(dtype.numpy) + 3 * np.eye(
        *shape[-2:], dtype=dtype.numpy
    )


def adjoint(x):
    return x.conj().swapaxes(-2, -1)


def close(expected, found, dtype):
    """Within what a backward stable algorithm keeps of well-conditioned matrices of this size."""
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=300 * dtype.eps * max(np.abs(expected).max(), 1))


SINGULAR = [[1.0, 2.0], [2.0, 4.0]]
INDEFINITE = [[1.0, 2.0], [2.0, 1.0]]


@pytest.mark.parametrize("stack", [False, True])
def test_a_matrix_without_an_answer_raises(device, dtype, stack):
    """CuPy gives garbage unless it is told to look."""

    def of(rows):
        x = np.array(rows, dtype.numpy)
        return np.stack([np.eye(2, dtype=dtype.numpy), x]) if stack else x

    with pytest.raises(np.linalg.LinAlgError):
        run(device, "solve", of(SINGULAR), np.ones(2, dtype.numpy))
    with pytest.raises(ValueError, match="positive definite"):
        run(device, "cholesky", of(INDEFINITE), upper=False)
    assert emulated_libraries.linalg == "ignore"  # as the user's own code had it
    for value in (math.nan, math.inf):
        bad = of([[1.0, 0.0], [value, 1.0]])
        for name, more in (("eigh", {}), ("eig", {}), ("svd", {"full_matrices": False})):
            with pytest.raises(LinAlgError, match="NaN or infinite"):
                run(device, name, bad, **more)


def test_a_singular_matrix_has_determinant_zero(device, dtype):
    x = np.array([SINGULAR, np.eye(2)], dtype.numpy)
    same(np.array([0, 1], dtype.numpy), run(device, "det", x))
    sign, logarithm = run(device, "slogdet", x)
    same(np.array([0, 1], dtype.numpy), sign)
    same(np.array([-math.inf, 0], dtype.real.numpy), logarithm)


def test_only_the_lower_triangle_is_read(device, dtype):
    x = matrices(dtype, (2, 4, 4))
    positive = (x @ adjoint(x)).astype(dtype.numpy)
    upper = np.triu(np.full((4, 4), math.nan), 1)
    given = (positive + upper).astype(dtype.numpy)
    if dtype.kind == "complex":  # nor is the imaginary part of the diagonal
        given = given + 1j * np.eye(4, dtype=dtype.numpy)
    lower = run(device, "cholesky", given, upper=False)
    close(positive, lower @ adjoint(lower), dtype)
    assert not np.triu(lower, 1).any()
    assert not np.diagonal(lower, 0, -2, -1).imag.any()
    same(adjoint(lower).copy(), run(device, "cholesky", given, upper=True))
    values, vectors = run(device, "eigh", given)
    assert values.dtype == dtype.real.numpy
    close(positive @ vectors, vectors * values[:, None, :], dtype)


@pytest.mark.parametrize("mode", ["reduced", "complete"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 3, 5), (2, 5, 3)], ids=str)
def test_the_diagonal_of_r_is_real(device, dtype, shape, mode):
    x = matrices(dtype, shape)
    q, r = run(device, "qr", x, mode=mode)
    close(x, q @ r, dtype)
    assert not np.tril(r, -1).any()
    assert not np.diagonal(r, 0, -2, -1).imag.any()
    expected = np.linalg.qr(x, mode)
    assert (q.shape, r.shape) == (expected.Q.shape, expected.R.shape)


def test_a_zero_on_the_diagonal_of_r_has_no_phase(device):
    q, r = run(device, "qr", np.zeros((3, 2), np.complex64), mode="reduced")
    np.testing.assert_allclose(np.abs(np.diagonal(q)), 1, atol=1e-6)
    assert not r.any()


@pytest.mark.parametrize(
    ("first", "second"), [((3, 3), (3,)), ((2, 3, 3), (3,)), ((3, 3), (2, 3, 1)), ((4, 1, 2, 2), (3, 2, 5))], ids=str
)  # fmt: skip
def test_systems_broadcast(device, dtype, first, second):
    """CuPy takes equal leading axes alone."""
    a, b = matrices(dtype, first), np.random.default_rng(1).standard_normal(second).astype(dtype.numpy)
    found = run(device, "solve", a, b)
    right = b[:, None] if b.ndim == 1 else b
    expected = np.linalg.solve(a, np.broadcast_to(right, (*a.shape[:-2], *right.shape)) if b.ndim == 1 else b)
    close(expected[..., 0] if b.ndim == 1 else expected, found, dtype)


def test_eigenvalues_where_balancing_is_harmful(device):
    """Läuchli's matrix in float64: LAPACK's eigenvectors are off by more than backward stability allows."""
    x = np.zeros((4, 4))
    x[0], x[1:, :-1] = 1, np.eye(3) * 2.0**-27
    for stack in (x, np.stack([np.eye(4), x])):
        values, vectors = run(device, "eig", stack)
        missed = np.linalg.norm(stack @ vectors - vectors * values[..., None, :], axis=(-2, -1))
        assert (missed <= 4 * 4 * 2.0**-52 * np.linalg.norm(stack, axis=(-2, -1))).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-2), 1, rtol=1e-14)


def test_eig_says_what_it_needs(device, monkeypatch):
    x = np.eye(2)
    monkeypatch.setattr(emulated_libraries, "available", set())
    with pytest.raises(UnsupportedError, match=r"CuPy 14 or newer.*x\.to\('cpu'\)"):
        run(device, "eig", x)
    monkeypatch.undo()
    monkeypatch.delattr(sys.modules["cupy"].linalg, "eig")  # before CuPy 14
    with pytest.raises(UnsupportedError, match="CuPy 14 or newer"):
        run(device, "eig", x)


EMPTY = [(0, 0), (0, 3, 3), (2, 0, 0)]


@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_empty_stacks_of_square_matrices(device, dtype, shape):
    x = np.empty(shape, dtype.numpy)
    for name, more in (
        ("det", {}),
        ("slogdet", {}),
        ("eigh", {}),
        ("svd", {"full_matrices": True}),
        ("qr", {"mode": "reduced"}),
    ):
        expected = getattr(np.linalg, name)(x, **more)
        found = run(device, name, x, **more)
        pairs = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
        for e, f in pairs:
            same(e, f)
    same(x, run(device, "cholesky", x, upper=False))
    values, vectors = run(device, "eig", x)
    assert (values.shape, vectors.shape) == (x.shape[:-1], x.shape)
    assert values.dtype == vectors.dtype == dtype.complex.numpy
    same(
        np.empty((*shape[:-1], 2), dtype.numpy),
        run(device, "solve", x, np.empty((*shape[:-1], 2), dtype.numpy)),
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 3, 0), (0, 2, 4)], ids=str)
def test_empty_matrices_have_whole_bases(device, dtype, shape):
    x = np.empty(shape, dtype.numpy)
    for full in (True, False):
        for e, f in zip(np.linalg.svd(x, full), run(device, "svd", x, full_matrices=full), strict=True):
            same(e, f)
    for mode in ("reduced", "complete"):
        for e, f in zip(np.linalg.qr(x, mode), run(device, "qr", x, mode=mode), strict=True):
            assert (e.shape, e.dtype) == (f.shape, f.dtype)
    q, _ = run(device, "qr", np.empty((2, 3, 0), dtype.numpy), mode="complete")
    same(np.broadcast_to(np.eye(3, dtype=dtype.numpy), (2, 3, 3)), q)


# ------------------------------------------------------------------------------------------------- Fourier transforms


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
@pytest.mark.parametrize("width", [32, 64])
def test_transforms_keep_their_precision(device, name, width):
    real, complex_ = dtypes.as_dtype(f"float{width}"), dtypes.as_dtype(f"complex{2 * width}")
    x = (
        np.random.default_rng(0)
        .standard_normal((3, 8, 2))
        .astype((real if name == "rfft" else complex_).numpy)
    )
    for n, axis, norm in ((8, -2, "backward"), (5, -2, "ortho"), (11, -1, "forward")):
        expected = getattr(np.fft, name)(x, n, axis, norm)
        found = run(device, name, to_device(x), n=n, axis=axis, norm=norm)
        assert found.dtype == expected.dtype == (real if name == "irfft" else complex_).numpy
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_nothing_transforms_to_zeros(device, name):
    x = np.empty((2, 0), np.float32 if name == "rfft" else np.complex64)
    found = run(device, name, x, n=4, axis=-1, norm="backward")
    same(np.zeros((2, 3 if name == "rfft" else 4), np.float32 if name == "irfft" else np.complex64), found)
    found = run(device, name, x.reshape(0, 2), n=4, axis=-1, norm="backward")
    assert found.shape == (0, 3 if name == "rfft" else 4)
