"""Reductions of the cpu backend against exact sums, on NumPy's path and on the compiled one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

reduce = pytest.importorskip("corelib_cpu.reduce")
launch = pytest.importorskip("corelib_cpu.launch")

INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


class DType:
    """As much of a corelib dtype as kernels read."""

    def __init__(self, name: str) -> None:
        self.name, self.numpy = name, np.dtype(name)


@pytest.fixture(params=["numpy", "compiled"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """NumPy's kernels at every size, or the compiled ones; the latter in several parts and threads."""
    monkeypatch.setattr(reduce, "CROSSOVER", 1 << 40 if request.param == "numpy" else 1)
    monkeypatch.setattr(reduce, "PARALLEL", 1)
    return request.param


def axes_of(ndim: int) -> list[tuple[int, ...]]:
    return [axes for k in range(ndim + 1) for axes in itertools.combinations(range(-ndim, 0), k)]


def reals(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


SHAPES = [
    (),
    (1,),
    (5,),
    (33,),
    (1025,),
    (9000,),
    (3, 4),
    (300, 7),
    (7, 300),
    (1, 5),
    (2, 3, 4, 5),
    (5, 130, 3),
    (1, 257, 1),
]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_accurate(dtype: str, shape: tuple[int, ...], keepdims: bool, path: str) -> None:
    x = reals(shape, dtype)
    unit = np.finfo(dtype).eps / 2
    kernel = reduce.make_sum(dtype)
    for axes in axes_of(x.ndim):
        result = kernel(x, axis=axes, dtype=DType(dtype), keepdims=keepdims)
        wide = x.astype(np.longdouble)
        expected = wide.sum(axes, keepdims=keepdims) if axes else wide
        bound = 8 * unit * np.abs(wide).sum(axes, keepdims=keepdims) if axes else 0 * wide
        assert type(result) is np.ndarray and result.dtype == dtype and result.shape == expected.shape
        assert (np.abs(result - expected) <= bound).all()


def test_large_sums_keep_seven_digits() -> None:
    x = np.full(3_000_001, 0.1, "f")
    exact = math.fsum(x.tolist())
    total = reduce.make_sum("float32")(x, axis=(-1,), dtype=DType("float32"), keepdims=False)
    assert abs(float(total) - exact) <= 2 * np.spacing(np.float32(exact))
    tall = x[:3_000_000].reshape(-1, 3)
    columns = reduce.make_sum("float32")(tall, axis=(-2,), dtype=DType("float32"), keepdims=False)
    np.testing.assert_allclose(columns, exact / 3, rtol=1e-6)


@pytest.mark.parametrize("shape", [(70_001,), (300, 301), (3, 90, 400)], ids=str)
def test_sums_do_not_depend_on_the_number_of_threads(shape: tuple[int, ...]) -> None:
    x = reals(shape, "float32")
    before = launch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            launch.set_num_threads(threads)
            results.append(
                [
                    reduce.make_sum("float32")(x, axis=a, dtype=DType("float32"), keepdims=False)
                    for a in axes_of(x.ndim)
                ]
            )
    finally:
        launch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integer_sums_wrap(dtype: str, path: str) -> None:
    x = np.random.default_rng(0).integers(0, 2**63 - 1, (40, 50)).astype(dtype)
    for axes in axes_of(2):
        result = reduce.make_sum(dtype)(x, axis=axes, dtype=DType(dtype), keepdims=False)
        np.testing.assert_array_equal(result, x.sum(axes) if axes else x)


def test_small_integers_and_booleans_sum_in_the_wanted_dtype(path: str) -> None:
    for dtype in ("int8", "bool", "uint32"):
        x = np.ones((40, 300), dtype)
        target = "uint64" if dtype == "uint32" else "int64"
        result = reduce.make_sum(dtype)(x, axis=(-1,), dtype=DType(target), keepdims=False)
        assert result.dtype == target and (result == 300).all()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_empty_sums_and_products(shape: tuple[int, ...], path: str) -> None:
    x = np.empty(shape, "f")
    for axes in axes_of(x.ndim):
        arguments: dict[str, Any] = {"axis": axes, "dtype": DType("float32"), "keepdims": False}
        total, product = reduce.make_sum("float32")(x, **arguments), reduce.prod(x, **arguments)
        np.testing.assert_array_equal(total, x.sum(axes) if axes else x)
        np.testing.assert_array_equal(product, x.prod(axes) if axes else x)


def test_infinities_and_nan_in_sums(path: str) -> None:
    kernel = reduce.make_sum("float32")
    x = np.ones((3, 100), "f")
    x[0, 5], x[1, 7], x[1, 9], x[2, 3] = np.inf, np.inf, -np.inf, np.nan
    result = kernel(x, axis=(-1,), dtype=DType("float32"), keepdims=False)
    assert result[0] == np.inf and np.isnan(result[1:]).all()


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "float64", *INTS, "bool"])
def test_extremes(name: str, dtype: str, path: str) -> None:
    kernel = reduce.make_extreme(name, dtype)
    for shape in SHAPES:
        x = np.asarray(
            np.abs(reals(shape, "float64") * 50) if dtype[0] == "u" else reals(shape, "float64") * 50
        ).astype(dtype)
        for axes in axes_of(x.ndim):
            expected = np.asarray(getattr(x, name)(axes) if axes else x)
            result = kernel(x, axis=axes, keepdims=False)
            assert type(result) is np.ndarray and result.dtype == dtype and result.shape == expected.shape
            np.testing.assert_array_equal(result, expected)
            if axes:
                np.testing.assert_array_equal(
                    kernel(x, axis=axes, keepdims=True), getattr(x, name)(axes, keepdims=True)
                )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_of_nan_zeros_and_infinities(dtype: str, path: str) -> None:
    largest, smallest = reduce.make_extreme("max", dtype), reduce.make_extreme("min", dtype)
    for row in (
        [-0.0, 0.0, -1.0],
        [0.0, -0.0],
        [-0.0, -0.0],
        [1.0, -0.0, 0.0],
        [np.nan, 1.0],
        [1.0, np.nan, np.inf],
        [-np.inf],
        [np.inf] * 3,
    ):
        x = np.array(row * 40, dtype)
        for view in (x, x.reshape(-1, 1), np.repeat(x, 3).reshape(-1, 3)):
            axis = (-view.ndim,)
            high, low = largest(view, axis=axis, keepdims=False), smallest(view, axis=axis, keepdims=False)
            if np.isnan(x).any():
                assert np.isnan(high).all() and np.isnan(low).all()
                continue
            ordered = sorted(row, key=lambda v: (v, math.copysign(1, v)))
            for result, expected in ((high, ordered[-1]), (low, ordered[0])):
                assert (result == expected).all() and (np.signbit(result) == np.signbit(expected)).all()


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_of_nothing_are_refused(name: str, path: str) -> None:
    kernel = reduce.make_extreme(name, "float32")
    with pytest.raises(ValueError, match="zero-size"):
        kernel(np.empty((0, 3), "f"), axis=(-2,), keepdims=False)
    assert kernel(np.empty((0, 3), "f"), axis=(-1,), keepdims=False).shape == (0,)
    for function in (reduce.argmax, reduce.argmin):
        with pytest.raises(ValueError, match="empty"):
            function(np.empty((0, 3), "f"), axis=-2, keepdims=False)


def test_any_and_all() -> None:
    x = np.array([[0.0, np.nan, -0.0], [0.0, 0.0, 0.0]], "f")
    assert reduce.any_(x, axis=(-1,), keepdims=False).tolist() == [True, False]
    assert reduce.all_(x[:, 1:2], axis=(-1,), keepdims=True).tolist() == [[True], [False]]
    assert reduce.any_(x, axis=(-2, -1), keepdims=False).shape == ()
    assert reduce.all_(np.empty((0,), bool), axis=(-1,), keepdims=False).item() is True
    assert reduce.any_(x, axis=(), keepdims=False).dtype == bool


def test_the_first_extreme_counts() -> None:
    x = np.array([1.0, 3.0, 3.0, np.nan, np.nan], "f")
    assert reduce.argmax(x, axis=-1, keepdims=False).item() == 3
    assert reduce.argmin(x[:3][::-1], axis=-1, keepdims=True).tolist() == [2]
    result = reduce.argmax(x[:3], axis=-1, keepdims=False)
    assert type(result) is np.ndarray and result.dtype == np.int64 and result.item() == 1


def test_odd_layouts(path: str) -> None:
    x = reals((40, 50), "float32")
    for view in (x.T, x[::-1], x[:, ::2], np.broadcast_to(x[0], (9, 50)), np.asfortranarray(x)):
        for axes in axes_of(2)[1:]:
            result = reduce.make_sum("float32")(view, axis=axes, dtype=DType("float32"), keepdims=False)
            np.testing.assert_allclose(result, view.astype("d").sum(axes), rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(
                reduce.make_extreme("max", "float32")(view, axis=axes, keepdims=False), view.max(axes)
            )
