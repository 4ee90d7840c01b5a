"""The reference backend's Fourier transforms against the defining sum in high precision and against NumPy."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest

from corelib.plugin_api import dtypes, ops
from corelib_reference import fft
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend

BACKEND = ReferenceBackend("reference")
U = 2.0**-53
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 31, 49, 61, 64, 67, 90, 101, 134, 210]
NORMS = ["backward", "ortho", "forward"]


def ref(x: np.ndarray) -> RefArray:
    return BACKEND.from_host(x.tobytes(), x.shape, dtypes.as_dtype(x.dtype))


def call(name, x, *, n=None, axis=-1, norm="backward"):
    """Any of the four as NumPy would be called, in the canonical parameters of a kernel."""
    if n is None:
        n = 2 * (x.shape[axis] - 1) if name == "irfft" else x.shape[axis]
    y = BACKEND.find(getattr(ops.fft, name).op, dtypes.as_dtype(x.dtype))(ref(x), n=n, axis=axis, norm=norm)
    assert len(y.data) == math.prod(y.shape)
    return np.array(y.data, y.dtype.numpy).reshape(y.shape)


def numbers(shape, seed=0, dtype=np.complex128):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


def by_definition(x):
    n = len(x)
    roots = [mpmath.expjpi(mpmath.mpf(-2 * k) / n) for k in range(n)]
    return [mpmath.fsum(x[j] * roots[j * k % n] for j in range(n)) for k in range(n)]


def bound(n):
    """An error bound relative to the 2-norm of the transform.

    7 u for each level of radix 2, from twiddles off by u and a complex product and sum (N. J. Higham,
    "Accuracy and Stability of Numerical Algorithms", theorem 24.2); a radix p by its definition sums p products.
    A convolution is three transforms of less than 4 p numbers, and three products.
    """
    factors = []
    while n > 1:
        factors.append(fft.smallest_factor(n))
        n //= factors[-1]
    levels = [
        p - 1 if p <= fft.LONGEST_BY_DEFINITION else 3 * math.ceil(math.log2(4 * p)) + 3 for p in factors
    ]
    return 7 * U * sum(levels)


@pytest.mark.parametrize("n", LENGTHS)
def test_a_transform_is_the_defining_sum(n):
    with mpmath.workprec(120):
        x = numbers(n).tolist()
        exact, y = by_definition(x), fft.transform(x)
        error = mpmath.sqrt(mpmath.fsum(abs(a - b) ** 2 for a, b in zip(y, exact, strict=True)))
        assert error <= bound(n) * mpmath.norm(exact)


def test_roots_of_unity_are_as_good_as_doubles_can_be():
    with mpmath.workprec(120):
        for n in (1, 2, 3, 4, 7, 12, 360, 1001):
            for k in range(n):
                exact, root = mpmath.expjpi(mpmath.mpf(-2 * k) / n), fft.root_of_unity(k, n)
                for actual, part in ((root.real, exact.real), (root.imag, exact.imag)):
                    assert abs(actual - part) <= 2 * math.ulp(float(part)), (k, n)
    assert [fft.root_of_unity(k, 4) for k in range(4)] == [1, -1j, -1, 1j]


@pytest.mark.parametrize("n", LENGTHS)
def test_what_is_transformed_comes_back(n):
    x = numbers(n, seed=1)
    for norm in NORMS:
        back = call("ifft", call("fft", x, norm=norm), norm=norm)
        # the bound of both transforms, and of the scaling
        assert np.linalg.norm(back - x) <= (2 * bound(n) + 4 * U) * np.linalg.norm(x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("length", [None, 1, 3, 5, 8, 9])
@pytest.mark.parametrize("axis", [-1, -2, -3])
def test_transforms_agree_with_numpy_along_every_axis_cropped_and_padded(axis, length, norm):
    z, x = numbers((4, 6, 5), seed=2), numbers((4, 6, 5), seed=3).real.copy()
    for name, operand in (("fft", z), ("ifft", z), ("rfft", x), ("irfft", z)):
        actual = call(name, operand, n=length, axis=axis, norm=norm)
        expected = getattr(np.fft, name)(operand, n=length, axis=axis, norm=norm)
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        # at most 10 numbers of size 1 are added, by both: 100 roundings of numbers below 40
        np.testing.assert_allclose(actual, expected, rtol=0, atol=100 * 40 * U)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_single_precision_is_computed_in_double_and_rounded_once(name):
    dtype = np.float32 if name == "rfft" else np.complex64
    x = numbers((3, 9), seed=4).astype(dtype) if name != "rfft" else numbers((3, 9)).real.astype(dtype)
    wide = call(name, x.astype(np.float64 if name == "rfft" else np.complex128))
    narrow = call(name, x)
    assert narrow.dtype == (np.float32 if name == "irfft" else np.complex64)
    np.testing.assert_array_equal(narrow, wide.astype(narrow.dtype))


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_empty_batches_and_empty_lines(name):
    dtype = np.float64 if name == "rfft" else np.complex128
    assert call(name, np.zeros((0, 4), dtype)).shape == getattr(np.fft, name)(np.zeros((0, 4))).shape
    nothing = call(name, np.zeros((2, 0), dtype), n=3)
    np.testing.assert_array_equal(nothing, np.zeros((2, {"rfft": 2}.get(name, 3))))
    assert call(name, np.ones((2, 1), dtype), n=1).tolist() == [[1], [1]]


def test_impulses_and_constants_transform_exactly_in_lengths_of_powers_of_two():
    for n in (1, 2, 4, 16, 64):
        impulse, constant = np.eye(1, n, dtype=complex)[0], np.ones(n, complex)
        assert call("fft", impulse).tolist() == [1] * n
        assert call("fft", constant).tolist() == [n] + [0] * (n - 1)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_transform_of_a_real_line_has_real_ends_and_comes_back(n):
    x = numbers(n, seed=5).real.copy()
    half = call("rfft", x)
    assert half.shape == (n // 2 + 1,)
    assert half[0].imag == 0
    assert n % 2 or half[-1].imag == 0
    assert np.linalg.norm(call("irfft", half, n=n) - x) <= (2 * bound(n) + 4 * U) * np.linalg.norm(x)


@pytest.mark.parametrize(("n", "norm"), [*itertools.product([4, 5], NORMS)])
def test_imaginary_parts_that_no_real_line_has_are_ignored(n, norm):
    half = numbers(n // 2 + 1, seed=6)
    real_ends = half.copy()
    real_ends[0] = half[0].real
    if n % 2 == 0:
        real_ends[-1] = half[-1].real
    actual = call("irfft", half, n=n, norm=norm)
    np.testing.assert_array_equal(actual, call("irfft", real_ends, n=n, norm=norm))
    full = [*real_ends, *real_ends[1 : (n + 1) // 2][::-1].conj()]
    whole = call("ifft", np.array(full), norm=norm)
    np.testing.assert_array_equal(actual, whole.real)
    assert abs(whole.imag).max() <= 20 * U  # five numbers of size 1 and their conjugates


def test_nan_and_infinity_reach_the_whole_line_and_no_other():
    x = np.ones((2, 6), complex)
    x[0, 2] = complex(math.inf, 0)
    y = call("fft", x)
    assert not np.isfinite(y[0]).any()
    assert y[1].tolist() == call("fft", x[1]).tolist()
