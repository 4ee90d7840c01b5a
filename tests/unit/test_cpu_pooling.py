"""The cpu backend's pooling against the bodies of the ops."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib import ops
from corelib.plugin_api import decomposed
from corelib_cpu import pooling


def refuse(*operands, **params):
    raise AssertionError("the kernel left this case to the body")


CASES = pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "dilation", "ceil_mode"),
    [
        ((2, 3, 50), (3,), (2,), (1,), (1,), False),
        ((2, 3, 12, 13), (3, 3), (2, 2), (1, 1), (1, 1), False),
        ((2, 3, 12, 13), (3, 2), (1, 2), (1, 0), (2, 1), True),
        ((2, 1, 5, 40), (2, 3), (3, 3), (0, 1), (1, 1), True),
        ((2, 2, 6, 7, 8), (2, 3, 2), (2, 1, 2), (0, 1, 1), (1, 1, 1), True),
    ],
    ids=str,
)


@CASES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_elements_and_the_first_of_them_gets_the_cotangent(
    shape, kernel, stride, padding, dilation, ceil_mode, dtype, monkeypatch
):
    monkeypatch.setattr(pooling, "WORTHWHILE", 0)
    backend = corelib.ones(1, device="cpu")._backend
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, shape).astype(dtype)  # many equal elements
    for start, value in ((3, np.nan), (5, np.inf), (11, -np.inf)):
        x.reshape(-1)[start::37] = value
    x[0, 0] = -np.inf
    params = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
    }
    y = decomposed(ops.max_pool.op, backend)(x, **params)
    cotangent = rng.integers(-9, 10, y.shape).astype(dtype)  # sums are exact
    expected = decomposed(ops.max_pool_gradient.op, backend)(cotangent, x, **params)
    np.testing.assert_array_equal(pooling.make_max_pool(dtype, refuse)(x, **params), y)
    np.testing.assert_array_equal(pooling.make_max_pool(dtype, refuse)(np.asfortranarray(x), **params), y)
    kernel = pooling.make_max_pool_gradient(dtype, refuse)
    np.testing.assert_array_equal(kernel(cotangent, x, **params), expected)
    np.testing.assert_array_equal(
        kernel(np.asfortranarray(cotangent), np.asfortranarray(x), **params), expected
    )


@CASES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("divisor", ["all", "inside", "given"])
def test_means_and_their_gradients(
    shape, kernel, stride, padding, dilation, ceil_mode, dtype, divisor, monkeypatch
):
    monkeypatch.setattr(pooling, "WORTHWHILE", 0)
    backend = corelib.ones(1, device="cpu")._backend
    rng = np.random.default_rng(0)
    params = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode,
              "count_include_pad": divisor == "all", "divisor_override": 4 if divisor == "given" else None}  # fmt: skip
    x = rng.integers(-9, 10, shape).astype(dtype)  # sums are exact
    expected = decomposed(ops.avg_pool.op, backend)(x, **params)
    actual = pooling.make_avg_pool(dtype, refuse)(x, **params)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == dtype
    cotangent = 144 * rng.integers(-9, 10, expected.shape).astype(dtype)  # 144 is a multiple of every divisor
    sizes = shape[len(shape) - len(kernel) :]
    expected = decomposed(ops.avg_pool_gradient.op, backend)(cotangent, sizes=sizes, **params)
    gradient = pooling.make_avg_pool_gradient(dtype, refuse)
    np.testing.assert_array_equal(gradient(cotangent, sizes=sizes, **params), expected)
    np.testing.assert_array_equal(gradient(np.asfortranarray(cotangent), sizes=sizes, **params), expected)


def test_the_mean_of_negative_zeros_is_one_and_what_is_not_finite_stays_in_its_windows(monkeypatch):
    monkeypatch.setattr(pooling, "WORTHWHILE", 0)
    mean = pooling.make_avg_pool("float32", refuse)
    params = {"kernel_size": (2,), "stride": (2,), "padding": (0,), "ceil_mode": False, "count_include_pad": True,
              "divisor_override": None}  # fmt: skip
    found = mean(np.array([[[-0.0, -0.0, 1, np.nan, np.inf, 2, np.inf, -np.inf]]], np.float32), **params)
    np.testing.assert_array_equal(found, np.array([[[-0.0, np.nan, np.inf, np.nan]]], np.float32))
    assert np.signbit(found[0, 0, 0])
