"""Linear algebra and Fourier transforms on the cpu backend: what numpy.linalg and numpy.fft leave open."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import corelib
from corelib.errors import LinAlgError

linalg = pytest.importorskip("corelib_cpu.linalg")
fft = pytest.importorskip("corelib_cpu.fft")

DTYPES = ["float32", "float64", "complex64", "complex128"]
COMPLEX = {
    "float32": "complex64",
    "float64": "complex128",
    "complex64": "complex64",
    "complex128": "complex128",
}
REAL = {"complex64": "float32", "complex128": "float64"}


def random(dtype: str, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape) + 1j * generator.standard_normal(shape)
    return (x if dtype.startswith("c") else x.real).astype(dtype)


def positive(dtype: str) -> np.ndarray:
    """Two Hermitian positive definite matrices."""
    x = random(dtype, 2, 4, 4)
    return x @ x.conj().mT + np.eye(4, dtype=dtype)


def _tuple(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    def call(x: np.ndarray) -> tuple[np.ndarray, ...]:
        results = function(x, **options)
        return results if isinstance(results, tuple) else (results,)

    return call


FUNCTIONS = {
    "det": _tuple(linalg.det), "slogdet": _tuple(linalg.slogdet), "inv": _tuple(linalg.inv),
    "solve": lambda x: (linalg.solve(x, np.ones(x.shape[-1], x.dtype)),), "cholesky": _tuple(linalg.cholesky, upper=False),
    "cholesky upper": _tuple(linalg.cholesky, upper=True), "eigh": _tuple(linalg.eigh), "eigvalsh": _tuple(linalg.eigvalsh),
    "eig": _tuple(linalg.eig), "eigvals": _tuple(linalg.eigvals), "qr": _tuple(linalg.qr, mode="reduced"),
    "qr complete": _tuple(linalg.qr, mode="complete"), "svd": _tuple(linalg.svd, full_matrices=True),
    "svd reduced": _tuple(linalg.svd, full_matrices=False), "svdvals": _tuple(linalg.svdvals),
}  # fmt: skip


def layouts(x: np.ndarray) -> list[np.ndarray]:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    return [
        unaligned,
        frozen,
        np.repeat(x, 2, -1)[..., ::2],
        x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
        x.mT.copy().mT,
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts_dtypes_and_no_matrices(name: str, dtype: str) -> None:
    x = positive(dtype)
    expected = FUNCTIONS[name](x)
    kinds = {
        dtype,
        REAL.get(dtype, dtype),
        *([COMPLEX[dtype]] if name.startswith("eigv") or name == "eig" else []),
    }
    for result in expected:
        assert result.flags.c_contiguous and result.dtype.name in kinds
    for view in layouts(x):
        for result, wanted in zip(FUNCTIONS[name](view), expected, strict=True):
            np.testing.assert_array_equal(result, wanted)
    for result, wanted in zip(FUNCTIONS[name](x[:0]), expected, strict=True):
        assert result.shape == (0, *wanted.shape[1:]) and result.dtype == wanted.dtype
    for result, wanted in zip(FUNCTIONS[name](np.zeros((2, 0, 0), dtype)), expected, strict=True):
        assert result.shape == tuple(0 if n == 4 else n for n in wanted.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_eigenvalues_are_complex(dtype: str) -> None:
    x = np.diag(np.arange(1, 4, dtype=dtype))
    values, vectors = linalg.eig(x)
    assert values.dtype == vectors.dtype == linalg.eigvals(x).dtype == COMPLEX[dtype]
    np.testing.assert_array_equal(values, [1, 2, 3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lower_triangle_is_read(dtype: str) -> None:
    x = positive(dtype)
    other = x.copy()
    other[..., 0, 3], other[..., 1, 2] = np.nan, 77
    np.testing.assert_array_equal(linalg.cholesky(other, upper=False), linalg.cholesky(x, upper=False))
    np.testing.assert_array_equal(
        linalg.cholesky(other, upper=True), linalg.cholesky(x, upper=False).conj().mT
    )
    np.testing.assert_array_equal(linalg.eigvalsh(other), linalg.eigvalsh(x))
    for result, wanted in zip(linalg.eigh(other), linalg.eigh(x), strict=True):
        np.testing.assert_array_equal(result, wanted)
    factor = linalg.cholesky(x, upper=True)
    np.testing.assert_array_equal(np.tril(factor, -1), np.zeros_like(x))
    eps = np.finfo(dtype).eps
    # n + 1 roundings of each element (N. J. Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3)
    assert np.abs(factor.conj().mT @ factor - x).max() <= 2 * 5 * eps * np.abs(x).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_has_no_answer_is_refused(dtype: str) -> None:
    def matrix(*elements: float) -> np.ndarray:
        return np.array(elements, dtype).reshape(2, 2)

    singular, infinite, nan = matrix(1, 2, 2, 4), matrix(1, 0, np.inf, 1), matrix(1, 0, np.nan, 1)
    for name, x in (
        ("solve", singular), ("inv", singular), ("cholesky", matrix(1, 2, 2, 1)), ("cholesky", nan), ("cholesky upper", nan),
        ("cholesky", infinite), *[(name, x) for name in ("eigh", "eigvalsh", "eig", "eigvals", "svd", "svdvals") for x in (nan, infinite)],
    ):  # fmt: skip
        with pytest.raises(LinAlgError):
            FUNCTIONS[name](np.stack([np.eye(2, dtype=dtype), x]))


def test_the_matrix_that_is_to_blame_is_named() -> None:
    x = corelib.asarray([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]]], device="cpu")
    with pytest.raises(LinAlgError, match=r"inv: x\[1\] is singular"):
        corelib.linalg.inv(x)
    with pytest.raises(LinAlgError, match=r"svd: x\[0\] has elements that are NaN or infinite"):
        corelib.linalg.svd(x * float("inf"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_results_are_nan_throughout(dtype: str) -> None:
    x = positive(dtype)
    for bad in (np.nan, np.inf):
        lost = x.copy()
        lost[0, 1, 2] = bad
        for name in ("det", "slogdet", "inv", "solve", "qr", "qr complete"):
            for result, wanted in zip(FUNCTIONS[name](lost), FUNCTIONS[name](x), strict=True):
                assert np.isnan(result[0]).all()
                np.testing.assert_array_equal(result[1], wanted[1])
        right = random(dtype, 2, 4, 3)
        expected = linalg.solve(x, right)
        expected[1, :, 2] = np.nan
        right[1, 3, 2] = bad
        np.testing.assert_array_equal(linalg.solve(x, right), expected)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(linalg.det(np.diag(np.full(4, np.finfo(dtype).max / 2, dtype))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_for_every_matrix(dtype: str) -> None:
    x, b = positive(dtype), random(dtype, 4)
    np.testing.assert_array_equal(linalg.solve(x, b), np.stack([linalg.solve(m, b) for m in x]))
    assert linalg.solve(x[0], random(dtype, 5, 4, 2)).shape == (5, 4, 2)
    with pytest.raises(ValueError, match="mismatch"):
        linalg.solve(x, random(dtype, 3))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_matrices_without_elements(shape: tuple[int, int]) -> None:
    m, n = shape
    x = np.zeros((2, *shape), "f")
    for mode, k in (("reduced", 0), ("complete", m)):
        q, r = linalg.qr(x, mode=mode)
        assert q.shape == (2, m, k) and r.shape == (2, k, n)
        np.testing.assert_array_equal(q, np.broadcast_to(np.eye(m, k), q.shape))
    for full, rows, columns in ((True, m, n), (False, 0, 0)):
        u, s, vh = linalg.svd(x, full_matrices=full)
        assert s.shape == (2, 0)
        np.testing.assert_array_equal(u, np.broadcast_to(np.eye(m, rows), (2, m, rows)))
        np.testing.assert_array_equal(vh, np.broadcast_to(np.eye(columns, n), (2, columns, n)))


def test_eigenvectors_of_a_matrix_for_which_scaling_is_harmful() -> None:
    """LAPACK scales it, and its vectors are then off by 200 eps."""
    x = np.diag([1.0, 0.0, 0.0, 0.0])
    x[0] = 1
    x[1, 0] = x[2, 1] = x[3, 2] = 2.0**-27
    for matrix in (x, np.stack([np.eye(4), x]), x.astype(complex)):
        values, vectors = linalg.eig(matrix)
        missed = np.linalg.norm(matrix @ vectors - vectors * values[..., None, :], axis=(-2, -1))
        # LAPACK's tests allow n eps of the norm, thirty times
        assert (missed <= 30 * 4 * 2.0**-53 * np.linalg.norm(matrix, axis=(-2, -1))).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-2), 1, rtol=1e-15)


# --- Fourier transforms


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_transforms(name: str, dtype: str) -> None:
    operand = REAL[dtype] if name == "rfft" else dtype
    result = REAL[dtype] if name == "irfft" else dtype
    x = random(operand, 3, 5, 4)
    # 8 ULP of the norm is the budget
    limit = 8 * np.finfo(dtype).eps
    for n in (1, 3, 4, 5, 8):
        for axis in (-1, -2, -3):
            for norm in ("backward", "ortho", "forward"):
                expected = getattr(np.fft, name)(x.astype("D" if name != "rfft" else "d"), n, axis, norm)
                for view in (x, *layouts(x), np.asfortranarray(x)):
                    y = getattr(fft, name)(view, n=n, axis=axis, norm=norm)
                    assert y.dtype.name == result and y.flags.c_contiguous and y.shape == expected.shape
                    assert np.linalg.norm(y - expected) <= limit * np.linalg.norm(expected)


def test_of_no_elements_there_are_zeros() -> None:
    for name, dtype, size in (("fft", "F", 3), ("ifft", "F", 3), ("rfft", "f", 2), ("irfft", "F", 3)):
        for axis, shape in ((-1, (2, size)), (-2, (size, 2))):
            x = np.zeros((2, 0) if axis == -1 else (0, 2), dtype)
            y = getattr(fft, name)(x, n=3, axis=axis, norm="backward")
            np.testing.assert_array_equal(y, np.zeros(shape))
        assert getattr(fft, name)(np.zeros((0, 3), dtype), n=3, axis=-1, norm="ortho").shape == (0, size)
