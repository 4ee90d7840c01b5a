"""The cpu backend's gradient of max pooling against the op's body."""

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


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "dilation", "ceil_mode"),
    [
        ((2, 3, 50), (3,), (2,), (1,), (1,), False),
        ((2, 3, 12, 13), (3, 3), (2, 2), (1, 1), (1, 1), False),
        ((2, 3, 12, 13), (3, 2), (1, 2), (1, 0), (2, 1), True),
        ((2, 2, 6, 7, 8), (2, 3, 2), (2, 1, 2), (0, 1, 1), (1, 1, 1), True),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_largest_element_gets_the_cotangent(
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
    kernel = pooling.make_max_pool_gradient(dtype, refuse)
    np.testing.assert_array_equal(kernel(cotangent, x, **params), expected)
    np.testing.assert_array_equal(
        kernel(np.asfortranarray(cotangent), np.asfortranarray(x), **params), expected
    )
