"""Sorting, searching and sets against NumPy: stable in both directions, NaN the largest, gradients that follow the order."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import corelib
from corelib import dtypes, grad, jvp, ops
from corelib.errors import DTypeError, ShapeError
from corelib.numerical import gradcheck, gradgradcheck

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
of_each_dtype = pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
of_each_ordered_dtype = pytest.mark.parametrize(
    "dtype", dtypes.ORDERED + dtypes.HALF, ids=lambda d: d.name
)  # complex numbers have no order
SHAPES = [(0,), (1,), (5,), (2, 3), (3, 0), (2, 3, 4), (70,), (40, 2)]
NAN, INF = math.nan, math.inf


def numbers(shape, dtype=np.float32, seed=0):
    """Few distinct values, so that there are ties."""
    values = np.random.default_rng([seed, *shape]).integers(0, 4, shape)
    return (values if np.dtype(dtype).kind in "bu" else values - 2).astype(dtype)


def tensor(values, device="reference"):
    return corelib.asarray(np.asarray(values), device=device)


def assert_same(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype is dtypes.as_dtype(expected.dtype)
    np.testing.assert_array_equal(actual.numpy(), expected)


# -- sorting -----------------------------------------------------------------------------------------------------


@on_each
@of_each_ordered_dtype
def test_sorts_are_numpys_and_stable(dtype, device):
    for shape in SHAPES:
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        for axis in range(-len(shape), len(shape)):
            assert_same(ops.sort(t, axis=axis), np.sort(x, axis))
            assert_same(ops.argsort(t, axis=axis), np.argsort(x, axis, kind="stable"))
            assert_same(ops.sort(t, axis=axis, descending=True), np.flip(np.sort(x, axis), axis))
            ranks = np.unique(x, return_inverse=True)[1].reshape(shape)
            assert_same(ops.argsort(t, axis=axis, descending=True), np.argsort(-ranks, axis, kind="stable"))


@on_each
def test_nan_counts_as_the_largest(device):
    x = tensor([1.0, NAN, -INF, INF, NAN, 0.0], device)
    assert ops.argsort(x).tolist() == [2, 5, 0, 3, 1, 4]
    assert ops.argsort(x, descending=True).tolist() == [1, 4, 3, 0, 5, 2]
    np.testing.assert_array_equal(ops.sort(x, descending=True).numpy(), [NAN, NAN, INF, 1, 0, -INF])


@given(st.lists(st.floats(width=32) | st.sampled_from([NAN, 0.0, -0.0, 1.0]), max_size=40))
@settings(max_examples=60)
def test_any_floats_are_sorted_as_numpy_sorts_them(values):
    x = np.array(values, np.float32)
    assert_same(ops.argsort(tensor(x)), np.argsort(x, kind="stable"))
    assert_same(ops.sort(tensor(x)), np.sort(x, kind="stable"))


@on_each
@of_each_ordered_dtype
def test_top_k_takes_the_extremes_in_order(dtype, device):
    x = numbers((3, 7), dtype.numpy)
    for k in (0, 1, 3, 7):
        for largest in (True, False):
            values, indices = ops.top_k(tensor(x, device), k, largest=largest)
            ordered = np.sort(x, -1)
            assert_same(values, (ordered[:, ::-1] if largest else ordered)[:, :k])
            assert_same(values, np.take_along_axis(x, indices.numpy(), -1))
    found = ops.top_k(tensor(x, device), 2, axis=0)
    assert_same(found.values, np.sort(x, 0)[::-1][:2])


# -- searching ---------------------------------------------------------------------------------------------------


@on_each
@of_each_ordered_dtype
def test_searchsorted_is_numpys(dtype, device):
    for n in (0, 1, 7, 33):
        x1 = np.sort(numbers((n,), dtype.numpy))
        for shape in ((), (0,), (5,), (2, 3)):
            x2 = numbers(shape, dtype.numpy, 1)
            for side in ("left", "right"):
                assert_same(
                    ops.searchsorted(tensor(x1, device), tensor(x2, device), side=side),
                    np.asarray(np.searchsorted(x1, x2, side)),
                )


@on_each
def test_searchsorted_places_nan_last_and_takes_a_sorter(device):
    x1 = np.float32([3, NAN, 1])
    order = np.argsort(x1)
    x2 = np.float32([NAN, 2, 5])
    for side in ("left", "right"):
        mine = ops.searchsorted(
            tensor(x1, device), tensor(x2, device), side=side, sorter=tensor(order, device)
        )
        assert_same(mine, np.searchsorted(x1, x2, side, sorter=order))


# -- sets --------------------------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_unique_is_numpys(dtype, device):
    for shape in ((), *SHAPES):
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        values, indices, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True
        )
        found = ops.unique_all(t)
        for mine, theirs in zip(found, (values, indices, inverse.reshape(shape), counts), strict=True):
            assert_same(mine, theirs)
        assert_same(ops.unique_values(t), values)
        assert_same(ops.unique_counts(t).counts, counts)
        assert_same(ops.take(ops.unique_inverse(t).values, ops.unique_inverse(t).inverse_indices), x)


@on_each
def test_each_nan_is_a_value_of_its_own(device):
    found = ops.unique_all(tensor([NAN, 1.0, NAN], device))
    np.testing.assert_array_equal(found.values.numpy(), [1, NAN, NAN])
    assert found.counts.tolist() == [1, 1, 1]
    assert found.inverse_indices.tolist() == [1, 0, 2]


@on_each
@of_each_dtype
def test_set_functions_are_numpys(dtype, device):
    for first, second in (((7,), (3,)), ((2, 3), (2, 2)), ((0,), (4,)), ((4,), (0,)), ((), (5,))):
        x1, x2 = numbers(first, dtype.numpy), numbers(second, dtype.numpy, 1)
        t1, t2 = tensor(x1, device), tensor(x2, device)
        assert_same(ops.isin(t1, t2), np.isin(x1, x2))
        assert_same(ops.isin(t1, t2, invert=True), np.isin(x1, x2, invert=True))
        assert_same(ops.union1d(t1, t2), np.union1d(x1, x2))
        assert_same(ops.intersect1d(t1, t2), np.intersect1d(x1, x2))
        assert_same(ops.setdiff1d(t1, t2), np.setdiff1d(x1, x2))


def test_isin_takes_numbers_and_finds_no_nan():
    x = tensor([1.0, NAN, 3.0])
    assert ops.isin(x, 3).tolist() == [False, False, True]
    assert ops.isin(2, x).item() is False
    assert ops.isin(x, x).tolist() == [True, False, True]


# -- derivatives -------------------------------------------------------------------------------------------------

X = tensor(np.random.default_rng(0).standard_normal((3, 4)))


@on_each
@pytest.mark.parametrize(("name", "fn"), [
    ("sort", lambda x: ops.sort(x, axis=0)),
    ("descending", lambda x: ops.sort(x, descending=True)),
    ("top_k", lambda x: ops.top_k(x, 2).values),
    ("unique", lambda x: ops.unique_values(x)),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_gradients_follow_the_order(name, fn, device):
    x = X.to(device)
    assert gradcheck(fn, [x])
    assert gradgradcheck(lambda x: fn(x * x * x), [x])
    y, dy = jvp(fn, [x], [x])
    np.testing.assert_allclose(dy.numpy(), y.numpy())


def test_the_gradient_of_ties_goes_by_position():
    weights = tensor([1.0, 2.0, 3.0])
    assert grad(lambda x: (ops.sort(x) * weights).sum())(tensor([5.0, 5.0, 1.0])).tolist() == [2.0, 3.0, 1.0]


# -- refusals ----------------------------------------------------------------------------------------------------

M = tensor(numbers((2, 3)))


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: ops.sort(M, axis=2), ShapeError, "sort: axis 2 is out of range for 2 dimensions"),
    (lambda: ops.argsort(tensor(1.0)), ShapeError, "argsort: axis -1 is out of range for 0 dimensions"),
    (lambda: ops.sort([2, 1]), DTypeError, "sort: x must be a Tensor"),
    (lambda: ops.searchsorted(M, M), ShapeError, r"searchsorted: x1 must have one dimension, got shape \(2, 3\)"),
    (lambda: ops.searchsorted(M[0], M, side="middle"), ShapeError, "side must be 'left' or 'right', got 'middle'"),
    (lambda: ops.top_k(M, 4), ShapeError, "top_k: k is 4, axis -1 of x of shape .* has 3 elements"),
    (lambda: ops.top_k(M, 1, axis=5), ShapeError, "top_k: axis 5 is out of range"),
    (lambda: ops.unique_values([1, 1]), DTypeError, "unique_values: x must be a Tensor"),
    (lambda: ops.isin(1, 2), DTypeError, "isin needs a Tensor"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_a_refusal_says_what_was_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_methods_sort_along_an_axis():
    x = numbers((2, 3))
    assert_same(tensor(x).sort(0), np.sort(x, 0))
    assert_same(tensor(x).argsort(axis=-1), np.argsort(x, -1, kind="stable"))
