"""Pooling of the `cuda` backend and its gradients on the emulated device, against windows taken one by one in Python."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import on_host, to_device

from corelib import dtypes
from corelib_cuda import launch, pool
from corelib_cuda.movement import cast

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_pool"),
]
# Sums of at most 18 numbers of magnitude 3: n u sum|x| = 18 18 3 u = 972 u, and of 16-bit results half a unit in the last
# place of a number below 64.
TOLERANCE = {"float32": 972 * 2.0**-24, "float64": 972 * 2.0**-53, "float16": 2.0**-6, "bfloat16": 2.0**-3}


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        emulated_cupy.prepare("pool.cu", [(k.name, k.entry) for k in pool.every_kernel()])
        yield


def body(*_, **__):
    pytest.fail("left to the op's body")


def numbers(dtype, *shape, seed=0):
    """(on the device in ``dtype``, on the host in float64), equal; with ties."""
    x = cast(to_device(np.random.default_rng(seed).integers(-6, 7, shape).astype("f4") / 2), dtype)
    return x, on_host(cast(x, "float64"))


def close(expected, actual, dtype):
    assert dtypes.as_dtype(actual.dtype) is dtypes.as_dtype(dtype)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(on_host(cast(actual, "float64")), expected, rtol=0, atol=TOLERANCE[dtype])


# shape, parameters
CASES = {
    "one axis": ((2, 3, 11), {"kernel_size": (3,), "stride": (2,), "padding": (1,), "ceil_mode": False}),
    "overlapping": ((2, 7, 9), {"kernel_size": (3, 4), "stride": (1, 2), "padding": (1, 2), "ceil_mode": False}),
    "a last window that ends outside": ((1, 2, 8, 7), {"kernel_size": (3, 2), "stride": (3, 2), "padding": (1, 0), "ceil_mode": True}),
    "three axes": ((2, 5, 4, 6), {"kernel_size": (2, 3, 3), "stride": (2, 1, 3), "padding": (0, 1, 1), "ceil_mode": True}),
    "gaps between windows": ((3, 10), {"kernel_size": (2,), "stride": (4,), "padding": (0,), "ceil_mode": False}),
    "more elements than a block": ((5, 20, 21), {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil_mode": False}),
}  # fmt: skip


def windows(shape, count, kernel_size, stride, padding, dilation):
    """(window's place, the places in it that are in x) for each window, in C order."""
    sizes = shape[len(shape) - len(count) :]
    for w in itertools.product(*map(range, count)):
        axes = [
            [i for k in range(n) if 0 <= (i := at * s - p + k * d) < size]
            for at, n, s, p, d, size in zip(w, kernel_size, stride, padding, dilation, sizes, strict=True)
        ]
        yield w, list(itertools.product(*axes))


def planes(x, axes):
    return x.reshape(-1, *x.shape[x.ndim - axes :])


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_largest_and_where_it_is(case, dtype, dilation):
    shape, params = CASES[case]
    axes = len(params["kernel_size"])
    params = {**params, "dilation": (dilation,) * axes}
    sizes = shape[len(shape) - axes :]
    count = pool.counts(sizes, **params)
    if count is None:
        pytest.fail(f"{case} does not fit")
    x, host = numbers(dtype, *shape)
    pooled = (*shape[: len(shape) - axes], *count)
    g, cotangent = numbers(dtype, *pooled, seed=1)
    index, largest, gradient = np.zeros(pooled, np.int64), np.zeros(pooled), np.zeros(shape)
    how = {name: params[name] for name in ("kernel_size", "stride", "padding", "dilation")}
    for plane, found, value, back, sent in zip(
        *(planes(a, axes) for a in (host, index, largest, gradient, cotangent)), strict=True
    ):
        for w, places in windows(shape, count, **how):
            best = max(places, key=lambda at: plane[at])  # the first of equals
            found[w], value[w] = np.ravel_multi_index(best, sizes), plane[best]
            back[best] += sent[w]
    close(largest, pool.make_max_pool(dtype, body)(x, **params), dtype)
    np.testing.assert_array_equal(on_host(pool.make_max_pool_indices(dtype, body)(x, **params)), index)
    close(gradient, pool.make_max_pool_gradient(dtype, body)(g, x, **params), dtype)


@pytest.mark.parametrize("include", [True, False], ids=["padding counts", "padding does not count"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_mean(case, dtype, include):
    shape, params = CASES[case]
    axes, padding = len(params["kernel_size"]), params["padding"]
    sizes = shape[len(shape) - axes :]
    ones = (1,) * axes
    count = pool.counts(sizes, **params, dilation=ones)
    x, host = numbers(dtype, *shape)
    pooled = (*shape[: len(shape) - axes], *count)
    g, cotangent = numbers(dtype, *pooled, seed=1)
    how = {name: params[name] for name in ("kernel_size", "stride", "padding")}
    for divisor in (None, 3):
        mean, gradient = np.zeros(pooled), np.zeros(shape)
        for plane, value, back, sent in zip(
            *(planes(a, axes) for a in (host, mean, gradient, cotangent)), strict=True
        ):
            for w, places in windows(shape, count, **how, dilation=ones):
                ends = [
                    min(at * s - p + k, n + p) - (at * s - p)
                    for at, s, p, k, n in zip(
                        w, params["stride"], padding, params["kernel_size"], sizes, strict=True
                    )
                ]
                by = divisor or (np.prod(ends) if include else len(places))
                value[w] = sum(plane[at] for at in places) / by
                for at in places:
                    back[at] += sent[w] / by
        more = {"count_include_pad": include, "divisor_override": divisor}
        close(mean, pool.make_avg_pool(dtype, body)(x, **params, **more), dtype)
        close(gradient, pool.make_avg_pool_gradient(dtype, body)(g, sizes=sizes, **params, **more), dtype)


def test_nan_infinities_and_zeros():
    x = to_device(np.array([[1, np.nan, 2, 3, -np.inf, -np.inf, -0.0, 0.0, np.inf, np.nan]], "f4"))
    params = {"kernel_size": (2,), "stride": (2,), "padding": (0,), "ceil_mode": False, "dilation": (1,)}
    found = pool.make_max_pool("float32", body)(x, **params).get()
    np.testing.assert_array_equal(found, np.array([[np.nan, 3, -np.inf, 0, np.nan]], "f4"))
    assert not np.signbit(found[0, 3])
    np.testing.assert_array_equal(
        pool.make_max_pool_indices("float32", body)(x, **params).get(), [[1, 3, 4, 6, 9]]
    )


def test_operands_of_any_layout():
    x, host = numbers("float32", 6, 8, 3)
    params = {
        "kernel_size": (2, 2),
        "stride": (2, 2),
        "padding": (0, 0),
        "ceil_mode": False,
        "dilation": (1, 1),
    }
    found = pool.make_max_pool("float32", body)(x.transpose((2, 0, 1)), **params)
    close(host.transpose((2, 0, 1)).reshape(3, 3, 2, 4, 2).max(axis=(2, 4)), found, "float32")


def test_what_is_left_to_the_body():
    asked = []
    run = pool.make_max_pool("float32", lambda *a, **_: asked.append(len(a)))
    back = pool.make_max_pool_gradient("float32", lambda *a, **_: asked.append(len(a)))
    make = lambda *shape: numbers("float32", *shape)[0]

    def params(axes, kernel):
        return {
            "kernel_size": (kernel,) * axes,
            "stride": (1,) * axes,
            "padding": (0,) * axes,
            "dilation": (1,) * axes,
            "ceil_mode": False,
        }

    run(make(2, 2, 2, 2), **params(4, 1))  # four axes
    run(make(2, 3), **params(1, 4))  # which the body refuses
    run(make(0, 3), **params(1, 2))
    back(make(2, 3), make(2, 3), **params(1, 2))  # another number of windows
    assert asked == [1, 1, 1, 2]


def test_the_cotangents_arrive_in_the_order_of_the_windows():
    """All windows have one largest element: what it sums depends on the order by rounding, and is the same at each call."""
    x = np.zeros((1, 9), "f4")
    x[0, 4] = 1
    g = np.array([[2.0**24, 1, 1, -(2.0**24), 1]], "f4")
    params = {"kernel_size": (5,), "stride": (1,), "padding": (0,), "dilation": (1,), "ceil_mode": False}
    expected = np.float32(0)
    for value in g[0]:
        expected = np.float32(expected + value)
    for order in emulated_cupy.ORDERS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(emulated_cupy, "order", order)
            found = pool.make_max_pool_gradient("float32", body)(to_device(g), to_device(x), **params).get()
        assert found[0, 4] == expected
        assert np.count_nonzero(found) == 1


def test_blocks_walk_on_where_the_grid_ends(monkeypatch):
    monkeypatch.setattr(launch, "MAX_BLOCKS", 2)
    x, host = numbers("float32", 2000, 2)
    params = {"kernel_size": (2,), "stride": (2,), "padding": (0,), "dilation": (1,), "ceil_mode": False}
    close(host.max(axis=1, keepdims=True), pool.make_max_pool("float32", body)(x, **params), "float32")
