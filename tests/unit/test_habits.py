"""What NumPy's users, and libraries that were written for NumPy, expect beyond the array API standard."""

from __future__ import annotations

import numpy as np
import pytest

import corelib as cl
from corelib.errors import CorelibError, DTypeError, GradientError, ShapeError

X = np.arange(6.0).reshape(2, 3)


@pytest.fixture(params=["cpu", "reference"])
def x(request):
    return cl.asarray(X, device=request.param)


def same(actual, expected):
    assert isinstance(actual, cl.Tensor)
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-15)  # std: a mean, a root; each half an ulp


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "std", "var", "any", "all", "argmax"])
def test_numpys_reductions_call_the_methods(name, x):
    """numpy.std(x) calls x.std(axis=None, dtype=None, out=None, ddof=0)."""
    reduction = getattr(np, name)
    same(reduction(x), reduction(X))
    same(reduction(x, axis=0), reduction(X, axis=0))


def test_a_tensor_is_not_written_into(x):
    with pytest.raises(TypeError, match="out"):
        np.sum(x, out=np.zeros(()))


@pytest.mark.parametrize("name", ["std", "var"])
def test_ddof_is_the_correction(name, x):
    same(getattr(x, name)(ddof=1), getattr(X, name)(ddof=1))
    same(getattr(x, name)(0, ddof=1), getattr(X, name)(0, ddof=1))
    same(getattr(np, name)(x, axis=1, ddof=2), getattr(np, name)(X, axis=1, ddof=2))


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "sum", "sort", "argmin", "any"])
def test_methods_take_the_axis_by_position(name, x):
    same(getattr(x, name)(0), getattr(X, name)(0) if name != "sort" else np.sort(X, 0))


@pytest.mark.parametrize("axes", [None, (0, 2, 1), [2, 0, 1], (-1, 0, 1)])
def test_transpose_is_permute_dims_under_numpys_name(axes):
    a = np.arange(24.0).reshape(2, 3, 4)
    t = cl.asarray(a)
    same(cl.transpose(t, axes), np.transpose(a, axes))
    same(t.transpose(axes), a.transpose(axes))
    if axes is not None:
        same(t.transpose(*axes), a.transpose(*axes))


def test_transpose_refuses_what_is_no_permutation():
    t = cl.ones((2, 3))
    with pytest.raises(DTypeError, match="transpose: axes must be a sequence of integers, got 5"):
        cl.transpose(t, 5)
    with pytest.raises(ShapeError, match=r"transpose: axes .* is not a permutation"):
        t.transpose(0, 0)


def test_a_numpy_scalar_keeps_its_dtype():
    for scalar in (np.float64(1.5), np.float32(1.5), np.int16(3), np.bool_(True), np.float64("nan")):
        assert cl.asarray(scalar).dtype.name == scalar.dtype.name
    assert cl.asarray(np.float64(0.1)).item() == 0.1  # 0.1 has another value in float32


def test_lists_hold_numpy_arrays():
    same(cl.asarray([X[0], X[1]]), X)
    same(cl.asarray([np.ones(1), [3.0]]), [[1.0], [3.0]])
    with pytest.raises(ShapeError, match=r"ragged: parts have shapes \(2,\), \(3,\)"):
        cl.asarray([np.ones(2), np.ones(3)])
    with pytest.raises(CorelibError, match="strings cannot be elements"):
        cl.asarray([np.array(["text"])])


@pytest.mark.parametrize("name", ["float32", "float64", "int8", "int64", "uint16", "bool"])
def test_a_dtype_is_named_by_a_numpy_type(name):
    dtype, scalar = getattr(cl, name), np.dtype(name).type
    assert cl.result_type(scalar) is dtype and cl.can_cast(scalar, dtype)
    limits = {"f": cl.finfo, "i": cl.iinfo, "u": cl.iinfo}.get(np.dtype(name).kind)
    if limits:
        assert limits(scalar).dtype is dtype


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.4.0", reason="NumPy asks a dtype since 2.4")
def test_numpy_takes_a_dtype(x):
    assert np.dtype(cl.float32) == np.float32
    assert np.zeros(2, x.dtype).dtype == np.float64
    assert np.issubdtype(x.dtype, np.floating) and not np.issubdtype(cl.int8, np.floating)


def test_numpy_takes_no_values_whose_gradient_it_would_lose(x):
    leaf = x.requires_grad_()
    for tracked in (leaf, leaf * 2):
        for take in (np.asarray, np.exp2, np.concatenate, np.from_dlpack):
            with pytest.raises((GradientError, BufferError, TypeError), match=r"lose its gradient|ufunc"):
                take([tracked, tracked] if take is np.concatenate else tracked)
        for meant in (tracked.numpy(), np.asarray(tracked.detach()), np.from_dlpack(tracked.detach())):
            np.testing.assert_array_equal(meant, X * (1 if tracked is leaf else 2))


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float32", "float16", "complex64"])
def test_real_and_imag_are_attributes_of_every_tensor(name, x):
    a = np.array([1, 0, 2]).astype(name) * (1 + 2j if name == "complex64" else 1)
    t = cl.asarray(a, dtype=name, device=x.device)
    for part in ("real", "imag"):
        found, expected = getattr(t, part), getattr(a, part)
        assert found.tolist() == expected.tolist() and found.dtype == (
            cl.float32 if name == "complex64" else t.dtype
        )
