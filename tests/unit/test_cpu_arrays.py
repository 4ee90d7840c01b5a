"""Movement, indexing, sorting, products and random bits of the cpu backend."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

movement = pytest.importorskip("corelib_cpu.movement")
creation = pytest.importorskip("corelib_cpu.creation")

import corelib  # noqa: E402
from corelib import dtypes  # noqa: E402
from corelib_cpu import contract, gemm, index, native, random, sort  # noqa: E402


def array(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * 10).astype(dtype)


# --- creation and movement


@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (300, 300)], ids=str)
def test_full(shape: tuple[int, ...]) -> None:
    for dtype, value in (
        ("float32", 2.5),
        ("float32", 1e300),
        ("int8", -3),
        ("uint64", 2**64 - 1),
        ("bool", True),
    ):
        result = creation.full(shape=shape, fill_value=value, dtype=dtypes.as_dtype(dtype))
        assert result.shape == shape and result.dtype == dtype
        assert (result == (np.inf if value == 1e300 else value)).all()


@pytest.mark.parametrize(
    ("start", "step", "size", "dtype"),
    [
        (0, 1, 5, "int64"), (10, -3, 4, "int8"), (2**64 - 5, 2, 3, "uint64"), (-(2**63), 2**62, 4, "int64"), (0, 1, 0, "int32"),
        (0.1, 0.1, 7, "float64"), (0.1, 0.1, 100, "float32"), (-5, 1, 3, "float32"),
    ],
)  # fmt: skip
def test_arange(start: Any, step: Any, size: int, dtype: str) -> None:
    result = creation.arange(start=start, step=step, size=size, dtype=dtypes.as_dtype(dtype))
    expected = np.array([start + i * step for i in range(size)], dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


def test_pad() -> None:
    x = array((2, 3))
    result = movement.pad(x, pad_width=((1, 0), (2, 3)), constant_value=-1.0)
    np.testing.assert_array_equal(result, np.pad(x, ((1, 0), (2, 3)), constant_values=-1))
    assert np.isinf(movement.pad(x, pad_width=((1, 0), (0, 0)), constant_value=1e300)[0]).all()
    assert movement.pad(array(()), pad_width=(), constant_value=0).shape == ()


REGIONS = [
    ((1, 0), (2, 3), (1, 1)), ((3, 4), (4, 5), (-1, -1)), ((0, 4), (2, 3), (2, -2)), ((0, 0), (0, 2), (1, 1)), ((3, 2), (1, 1), (-4, 7)),
]  # fmt: skip


@pytest.mark.parametrize(("start", "size", "step"), REGIONS)
def test_regions(start: Any, size: Any, step: Any) -> None:
    x = array((4, 5))
    places = np.ix_(*[[a + k * s for k in range(n)] for a, n, s in zip(start, size, step, strict=True)])
    np.testing.assert_array_equal(movement.strided_slice(x, start=start, size=size, step=step), x[places])
    value, before = array(size, seed=1), x.copy()
    expected = x.copy()
    expected[places] = value
    result = movement.strided_update(x, value, start=start, size=size, step=step, overwrite=False)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(x, before)
    assert movement.strided_update(x, value, start=start, size=size, step=step, overwrite=True) is x
    np.testing.assert_array_equal(x, expected)


def test_regions_that_are_not_there_are_refused() -> None:
    with pytest.raises(IndexError, match="outside"):
        movement.strided_slice(array((4,)), start=(2,), size=(3,), step=(1,))
    with pytest.raises(ValueError, match="shape"):
        movement.strided_update(array((4,)), array((2,)), start=(0,), size=(3,), step=(1,), overwrite=False)


def test_an_update_with_a_part_of_the_array_itself() -> None:
    x = np.arange(6.0, dtype="f")
    movement.strided_update(x, x[:5], start=(1,), size=(5,), step=(1,), overwrite=True)
    assert x.tolist() == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "bool"])
@pytest.mark.parametrize(
    "shape", [(300, 301), (65, 1100), (1, 70_000), (70_000, 1), (3, 200, 130), (40, 50, 50)], ids=str
)
def test_copies_of_transposed_arrays(shape: tuple[int, ...], dtype: str) -> None:
    x = array(shape, dtype)
    for view in (
        np.swapaxes(x, -1, -2),
        np.swapaxes(x, -1, -2)[::-1],
        np.swapaxes(x, -1, -2)[..., ::-1],
        x.T,
        x,
    ):
        for part in (view, view[1:] if view.shape[0] > 1 else view):
            result = movement.copy(part)
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result, part)


# --- indexing


def test_gather() -> None:
    x = array((4, 5, 6))
    i, j = np.array([[0, -1, 3]]), np.array([[4, 0, -5]])
    np.testing.assert_array_equal(index.gather(x, i, axis=-3), x[i])
    np.testing.assert_array_equal(index.gather(x, i, axis=-2), x[:, i])
    np.testing.assert_array_equal(index.gather(x, i, j, axis=-2), x[:, i, j])
    np.testing.assert_array_equal(index.gather(x, i, j, axis=-3), x[i, j])
    assert index.gather(x, np.array(2), axis=-1).shape == (4, 5)
    assert index.gather(x[0, 0], np.array(2), axis=-1).item() == x[0, 0, 2]
    for bad in (4, -5):
        with pytest.raises(IndexError):
            index.gather(x, np.array([bad]), axis=-3)
        with pytest.raises(IndexError):
            index.gather(x, np.array([bad]), np.array([0]), axis=-3)


def slow_scatter(
    x: np.ndarray, values: np.ndarray, indices: tuple[np.ndarray, ...], axis: int, add: bool
) -> np.ndarray:
    out, first = x.copy(), axis + x.ndim
    for place in np.ndindex(indices[0].shape):
        where = (slice(None),) * first + tuple(int(i[place]) for i in indices)
        value = values[(slice(None),) * first + place]
        out[where] = out[where] + value if add else value
    return out


SCATTERS = [
    ((6,), (4,), 1, -1),
    ((6, 5), (4,), 1, -2),
    ((6, 5), (3, 4), 2, -2),
    ((2, 6, 5), (70,), 1, -2),
    ((2, 3, 6), (7, 2), 1, -1),
]
SCATTERS += [
    ((50, 130), (200,), 1, -2),
    ((3, 40, 30), (300,), 2, -2),
    ((40,), (9000,), 1, -1),
    ((2, 6, 5), (), 1, -2),
]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
@pytest.mark.parametrize(("shape", "places", "count", "axis"), SCATTERS)
def test_scatters_count_duplicates_in_order(
    shape: Any, places: Any, count: int, axis: int, dtype: str
) -> None:
    generator = np.random.default_rng(0)
    first = axis + len(shape)
    indices = tuple(generator.integers(-shape[first + k], shape[first + k], places) for k in range(count))
    indices = tuple(np.asarray(i, order="F") for i in indices)
    x = array(shape).astype("int16").astype(dtype)
    values = array(shape[:first] + places + shape[first + count :], seed=1).astype("int16").astype(dtype)
    before = x.copy()
    for function, add in ((index.scatter, False), (index.scatter_add, True)):
        with np.errstate(over="ignore"):
            expected = slow_scatter(x, values, indices, axis, add)
        np.testing.assert_array_equal(function(x, values, *indices, axis=axis, overwrite=False), expected)
        np.testing.assert_array_equal(x, before)
        mine = x.copy()
        assert function(mine, values, *indices, axis=axis, overwrite=True) is mine
        np.testing.assert_array_equal(mine, expected)
        bad = (indices[0] * 0 + shape[first], *indices[1:])
        with pytest.raises(IndexError, match="bounds"):
            function(x, values, *bad, axis=axis, overwrite=False)
        with pytest.raises(ValueError, match="shape"):
            function(x, values[None], *indices, axis=axis, overwrite=False)


def test_take_along_axis_and_nonzero() -> None:
    x = array((3, 4))
    order = np.argsort(x, 1)
    np.testing.assert_array_equal(index.take_along_axis(x, order, axis=-1), np.sort(x, 1))
    np.testing.assert_array_equal(
        index.take_along_axis(x, np.array([[0], [-1], [2]]), axis=-1)[:, 0], x[[0, 1, 2], [0, -1, 2]]
    )
    with pytest.raises(IndexError):
        index.take_along_axis(x, np.array([[4]]), axis=-1)
    rows, columns = index.nonzero(np.array([[0, 1], [2, 0]]))
    assert rows.tolist() == [0, 1] and columns.tolist() == [1, 0] and rows.dtype == np.int64


# --- sorting


def python_order(row: list[float], descending: bool) -> list[int]:
    """sorted(reverse=True) keeps the order of what is equal, which is what a stable descending sort means."""

    def key(i: int) -> tuple[bool, float]:
        return (math.isnan(row[i]), 0.0 if math.isnan(row[i]) else row[i])

    return sorted(range(len(row)), key=key, reverse=descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint64", "bool"])
def test_sorts_are_stable_and_nan_is_largest(dtype: str, descending: bool) -> None:
    x = np.random.default_rng(0).integers(0, 4, (3, 50)).astype(dtype)
    if x.dtype.kind == "f":
        x[0, ::7], x[1, ::5], x[1, 3::9] = np.nan, -0.0, 0.0
    for axis, rows in ((-1, x), (-2, x.T)):
        view = x if axis == -1 else rows
        order = sort.argsort(view, axis=axis, descending=descending)
        values = sort.sort(view, axis=axis, descending=descending)
        assert order.dtype == np.int64
        if axis == -2:
            order, values = order.T, values.T
        for row, indices, ordered in zip(x, order, values, strict=True):
            expected = python_order(row.tolist(), descending)
            assert indices.tolist() == expected
            np.testing.assert_array_equal(ordered, row[expected])
            np.testing.assert_array_equal(
                np.signbit(ordered.astype("d")), np.signbit(row[expected].astype("d"))
            )


def test_searchsorted() -> None:
    x = np.array([1.0, 2.0, 2.0, 3.0, np.nan], "f")
    v = np.array([[0.0, 2.0], [np.nan, 9.0]], "f")
    assert sort.searchsorted(x, v, side="left").tolist() == [[0, 1], [4, 4]]
    assert sort.searchsorted(x, v, side="right").tolist() == [[0, 3], [5, 4]]
    result = sort.searchsorted(x, np.array(2.0, "f"), side="left")
    assert type(result) is np.ndarray and result.dtype == np.int64


# --- products


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Any:
    """matmul, with threads from the first multiplication on. Layouts are in test_cpu_contract.py."""
    monkeypatch.setattr(gemm, "PARALLEL", 1)
    return lambda a, b: contract.make_matmul(a.dtype.name)(a, b)


def test_matmul(product: Any) -> None:
    a, b = array((2, 3, 4)), array((4, 5), seed=1)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-6)
    assert type(product(b[:, 0], b[:, 0])) is np.ndarray
    big = np.full((2, 2), 2**62)
    np.testing.assert_array_equal(product(big, big), np.zeros((2, 2)))
    assert np.isnan(product(np.array([[np.inf, 0]], "f"), np.array([[0], [1]], "f"))).all()


BATCHES = [
    ((3, 4, 5), (3, 5, 6)), ((2, 1, 4, 5), (3, 5, 6)), ((2, 3, 4, 5), (5, 6)), ((1, 4, 5), (3, 5, 6)), ((4, 5), (3, 5, 6)),
    ((2, 3, 4, 5), (1, 1, 5, 6)), ((3, 1, 4, 5), (1, 1, 5, 6)), ((5,), (2, 5, 6)), ((2, 4, 5), (5,)), ((0, 4, 5), (5, 6)),
    ((2, 0, 5), (5, 6)), ((2, 4, 0), (0, 6)), ((40, 30, 20), (40, 20, 70)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", BATCHES, ids=str)
def test_batches_of_products(shapes: Any, product: Any) -> None:
    a, b = (array(shape, "float64", i) for i, shape in enumerate(shapes))
    result = product(a, b)
    assert result.shape == (a @ b).shape
    np.testing.assert_allclose(result, a @ b, rtol=1e-12, atol=1e-9)


def test_nan_and_infinity_stay_in_their_rows(product: Any) -> None:
    a, b = array((40, 50)), array((50, 45), seed=1)
    a[3, 7], a[5, 9], b[2, 44] = np.nan, np.inf, np.inf
    result = product(a, b)
    expected = np.isfinite(np.ones((40, 45), "f"))
    expected[[3, 5]], expected[:, 44] = False, False
    np.testing.assert_array_equal(np.isfinite(result), expected)


def test_products_that_do_not_fit_are_refused(product: Any) -> None:
    for left, right in (((3, 4), (5, 6)), ((2, 3, 4), (3, 4, 5))):
        with pytest.raises(ValueError):
            product(array(left), array(right))


# --- random bits: the vectors published with Random123

VECTORS = [
    ((0, 0), 0, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (
        (0xA4093822, 0x299F31D0),
        0x85A308D3243F6A88,
        (0x13198A2E, 0x03707344),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF),
        0xFFFFFFFFFFFFFFFF,
        (0xFFFFFFFF, 0xFFFFFFFF),
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
]


@pytest.mark.parametrize("function", [random.philox, random.philox_native], ids=["numpy", "compiled"])
@pytest.mark.parametrize(("key", "counter", "high", "expected"), VECTORS)
def test_philox(function: Any, key: Any, counter: int, high: Any, expected: str) -> None:
    words = function(np.array(key, np.uint32), counter, 1, high)
    assert " ".join(f"{w:08x}" for w in words.tolist()) == expected


def test_small_draws_wait_for_the_compiled_loop_no_longer_than_it_takes_to_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[str] = []
    monkeypatch.setattr(random, "_small_draws", itertools.count())
    monkeypatch.setattr(random, "philox", lambda *args: used.append("numpy") or np.zeros(4, np.uint32))
    monkeypatch.setattr(
        random, "philox_native", lambda *args: used.append("compiled") or np.zeros(4, np.uint32)
    )
    monkeypatch.setattr(native, "loaded", lambda: False)

    def draw() -> str:
        random.random_bits(np.zeros(2, np.uint32), np.array(0, np.uint64), shape=(4,), dtype=dtypes.uint32)
        return used[-1]

    assert [draw() for _ in range(random.PATIENCE + 2)] == ["numpy"] * random.PATIENCE + ["compiled"] * 2
    monkeypatch.setattr(random, "_small_draws", itertools.count())
    assert draw() == "numpy"
    monkeypatch.setattr(native, "loaded", lambda: True)
    assert draw() == "compiled"


def test_random_bits_are_the_same_on_both_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    key = np.array([123, 456], np.uint32)
    for counter in (0, 7, 2**64 - 3):
        start = np.array(counter, np.uint64)
        for name, shape in (
            ("uint32", (7, 1001)),
            ("uint64", (31, 101)),
            ("uint32", ()),
            ("uint32", (0,)),
            ("uint64", (40_001,)),
        ):
            results = []
            for large in (0, 1 << 40):
                monkeypatch.setattr(random, "LARGE", large)
                monkeypatch.setattr(random, "PATIENCE", 1 << 40)
                monkeypatch.setattr(native, "loaded", lambda: False)
                results.append(random.random_bits(key, start, shape=shape, dtype=dtypes.as_dtype(name)))
            assert results[0].shape == shape and results[0].dtype == name
            np.testing.assert_array_equal(*results)


def test_each_element_has_its_own_counter() -> None:
    key = np.array([1, 2], np.uint32)
    words = random.random_bits(key, np.array(5, np.uint64), shape=(12,), dtype=dtypes.uint32)
    later = random.random_bits(key, np.array(6, np.uint64), shape=(8,), dtype=dtypes.uint32)
    np.testing.assert_array_equal(words[4:], later)
    pairs = random.random_bits(key, np.array(5, np.uint64), shape=(6,), dtype=dtypes.uint64)
    assert pairs.tolist() == [int(lo) | int(hi) << 32 for lo, hi in words.reshape(-1, 2).tolist()]


@pytest.mark.parametrize("times", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "int8", "complex128", "bool"])
def test_elements_of_a_large_array_are_repeated(times, dtype):
    x = (np.arange(300 * 250).reshape(300, 250) % 97).astype(dtype)
    for layout in (x, np.asfortranarray(x), x[::-1, ::2]):
        found = corelib.repeat(corelib.asarray(layout, device="cpu"), times, axis=1)
        np.testing.assert_array_equal(np.asarray(found), np.repeat(layout, times, axis=1))
