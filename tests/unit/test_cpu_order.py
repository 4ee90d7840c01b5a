"""Sorting, searching, running sums and transposed copies on the cpu backend, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

from corelib import dtypes
from corelib_cpu import creation, movement, scan, sort

NUMBERS = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def numbers(shape, dtype):
    """Few different numbers, and of floats every special one: zeros and NaN of both signs, infinities."""
    rng = np.random.default_rng(0)
    x = rng.integers(0 if dtype.startswith("u") else -100, 100, shape).astype(dtype)
    if dtype.startswith("f"):
        x = (x / 7).astype(dtype)
        for start, step, value in (
            (0, 17, np.nan),
            (3, 19, -0.0),
            (4, 19, 0.0),
            (1, 23, -np.inf),
            (2, 23, np.inf),
            (8, 41, -np.nan),
        ):
            x.reshape(-1)[start::step] = value
    return x


def bits_but_nan(x):
    """What tells zeros apart, but not one NaN from another."""
    return np.where(np.isnan(x), np.nan, x).view(f"u{x.itemsize}") if x.dtype.kind == "f" else x


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(5000,), (20, 300), (300, 20), (3, 1000, 4)], ids=str)
@pytest.mark.parametrize("descending", [False, True])
def test_every_sort_is_stable(dtype, shape, descending):
    x = numbers(shape, dtype)
    for axis in range(-len(shape), 0):
        if descending:
            expected = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, "stable"), axis)
        else:
            expected = np.argsort(x, axis, "stable")
        np.testing.assert_array_equal(sort.argsort(x, axis=axis, descending=descending), expected)
        actual = sort.sort(x, axis=axis, descending=descending)
        np.testing.assert_array_equal(
            bits_but_nan(actual), bits_but_nan(np.take_along_axis(x, expected, axis))
        )


def test_a_view_is_sorted_as_its_copy():
    x = numbers((80, 90), "float32")
    for view in (x.T, x[::-1, ::-1], x[::2]):
        for axis in (-1, -2):
            actual = sort.argsort(view, axis=axis, descending=False)
            np.testing.assert_array_equal(actual, np.argsort(view.copy(), axis, "stable"))


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_searches_find_numpys_places(dtype, side):
    ordered, searched = np.sort(numbers((777,), dtype)), numbers((50, 100), dtype)
    np.testing.assert_array_equal(
        sort.searchsorted(ordered, searched, side=side), np.searchsorted(ordered, searched, side)
    )
    one = ordered[:1]
    np.testing.assert_array_equal(
        sort.searchsorted(one, searched, side=side), np.searchsorted(one, searched, side)
    )
    turned = searched.T
    np.testing.assert_array_equal(
        sort.searchsorted(ordered, turned, side=side), np.searchsorted(ordered, turned, side)
    )


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("float32", "float32"), ("float64", "float64"), ("float32", "float64"), ("int32", "int64"), ("int64", "int64"), ("int8", "int64"), ("int32", "int32")],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(5000,), (21, 300), (3, 100, 40), (3, 100, 300)], ids=str)
def test_running_sums_and_products_are_numpys_in_double(dtype, result, shape):
    x = (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)
    wide = "float64" if result == "float32" else result
    for axis in range(-len(shape), 0):
        for kernel, expected in ((scan.cumulative_sum, np.cumsum), (scan.cumulative_prod, np.cumprod)):
            actual = kernel(x, axis=axis, dtype=dtypes.as_dtype(result))
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(actual, expected(x, axis, wide).astype(result))


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "float64", "complex128"])
@pytest.mark.parametrize("shape", [(256, 256), (300, 517), (3, 260, 300), (70_000, 2)], ids=str)
def test_transposed_copies_are_exact(dtype, shape):
    x = (np.random.default_rng(0).random(shape) * 100).astype(dtype)
    actual = movement.copy(np.swapaxes(x, -1, -2))
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual, np.swapaxes(x, -1, -2))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    ("start", "step"), [(0, 1), (-3, 7), (0.1, 1e-3), (1e30, 1e33), (2**70, 2**65 + 3), (-(2**63), 3)]
)
def test_large_ranges_are_numpys(dtype, start, step, monkeypatch):
    if dtype == "int64" and isinstance(start, float):
        start, step = int(start), int(step)
    arguments = {"start": start, "step": step, "size": 20_000, "dtype": dtypes.as_dtype(dtype)}
    actual = creation.arange(**arguments)
    monkeypatch.setattr(creation, "LARGE", 1 << 60)
    expected = creation.arange(**arguments)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
