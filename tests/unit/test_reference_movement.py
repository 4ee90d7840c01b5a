"""The reference backend's creation, cast, movement, index and sort kernels against NumPy, in every rank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from corelib.plugin_api import dtypes, ops
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend

BACKEND = ReferenceBackend("reference")
INF, NAN = math.inf, math.nan
SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 0), (0, 2), (2, 1, 3), (2, 3, 4), (1, 1, 1, 2)]
SOME = [s for s in SHAPES if s != ()]


def ref(x: np.ndarray) -> RefArray:
    return BACKEND.from_host(x.tobytes(), x.shape, dtypes.as_dtype(x.dtype))


def host(y: RefArray) -> np.ndarray:
    assert len(y.data) == math.prod(y.shape)
    return np.array(y.data, dtype=y.dtype.numpy).reshape(y.shape)


def call(op, *operands, **params):
    arrays = [ref(x) if isinstance(x, np.ndarray) else x for x in operands]
    y = BACKEND.find(op.op, params.get("dtype") or arrays[0].dtype)(*arrays, **params)
    return tuple(map(host, y)) if isinstance(y, tuple) else host(y)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def counting(shape, dtype=np.float32):
    return np.arange(math.prod(shape), dtype=dtype).reshape(shape)


def shuffled(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).integers(0, 9, shape).astype(dtype)


# ---- creation and cast


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_full_and_arange_have_the_dtype_asked_for(dtype):
    value = {"bool": True, "float": 0.1}.get(dtype.kind, 7)
    for shape in SHAPES:
        assert_same(
            call(ops.full, shape=shape, fill_value=value, dtype=dtype), np.full(shape, value, dtype.numpy)
        )
    if dtype is not dtypes.bool:
        assert_same(call(ops.arange, start=3, step=2, size=5, dtype=dtype), np.arange(3, 13, 2, dtype.numpy))
        assert call(ops.arange, start=3, step=2, size=0, dtype=dtype).shape == (0,)


def test_arange_is_exact_for_large_integers_and_rounds_floats_once():
    y = call(ops.arange, start=2**63 - 3, step=1, size=3, dtype=dtypes.int64)
    assert y.tolist() == [2**63 - 3, 2**63 - 2, 2**63 - 1]
    y = call(ops.arange, start=0.1, step=0.1, size=100, dtype=dtypes.float32)
    assert_same(y, (0.1 + np.arange(100) * 0.1).astype(np.float32))


def cast(values, source, target):
    x = np.array(values, source.numpy)
    return host(BACKEND.find(ops.astype.op, source)(ref(x), dtype=target))


CASTS = [
    pytest.param(source, target, id=f"{source.name}-{target.name}")
    for source in dtypes.ALL
    for target in dtypes.ALL
    if source.kind != "complex" or target.kind in ("complex", "bool")  # the core refuses complex to real
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_casts_of_values_that_both_dtypes_hold_equal_numpy(source, target):
    values = [0, 1, 2, 3, 100] if dtypes.bool not in (source, target) else [0, 1]
    assert_same(cast(values, source, target), np.array(values, source.numpy).astype(target.numpy))
    assert_same(cast([], source, target), np.array([], target.numpy))


@pytest.mark.parametrize("source", dtypes.FLOATING, ids=str)
@pytest.mark.parametrize("target", dtypes.INTEGER, ids=str)
def test_float_to_integer_truncates_and_saturates(source, target):
    values = [1.9, -1.9, -0.5, INF, -INF, NAN, 1e30, -1e30]
    low = target.min
    expected = [1, max(low, -1), 0, target.max, low, 0, target.max, low]
    assert cast(values, source, target).tolist() == expected


def test_integer_to_integer_wraps_and_anything_but_zero_is_true():
    assert cast([300, -1, 128], dtypes.int64, dtypes.int8).tolist() == [44, -1, -128]
    assert cast([-1], dtypes.int8, dtypes.uint64).tolist() == [2**64 - 1]
    assert cast([0.0, -0.0, NAN, 1e-300], dtypes.float64, dtypes.bool).tolist() == [False, False, True, True]


def test_64_bit_integers_round_to_float32_once():
    """2**24 + 1 is a midpoint of float32: with 2**-30 of it more, a double in between would round to even."""
    above = (2**24 + 1) * 2**38 + 1
    assert cast([above, -above], dtypes.int64, dtypes.float32).tolist() == [
        (2**24 + 2.0) * 2**38,
        -(2**24 + 2.0) * 2**38,
    ]
    assert cast([above - 1], dtypes.uint64, dtypes.float32).tolist() == [2.0**24 * 2**38]
    x = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 300)
    assert_same(cast(x, dtypes.int64, dtypes.float32), x.astype(np.float32))
    assert cast([1e300, -1e300, 1e-50, 0.1], dtypes.float64, dtypes.float32).tolist() == [
        INF,
        -INF,
        0.0,
        float(np.float32(0.1)),
    ]


# ---- movement


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_movement_equals_numpy_in_every_rank(shape):
    x, n = counting(shape), len(shape)
    backwards = tuple(range(-1, -n - 1, -1))
    rotated = tuple(range(-n, 0))[1:] + tuple(range(-n, 0))[:1]
    for axes in (backwards, rotated):
        assert_same(call(ops.permute_dims, x, axes=axes), np.asarray(np.transpose(x, axes)))
    for axes in [(), tuple(range(-n, 0)), *((k,) for k in range(-n, 0))]:
        assert_same(call(ops.flip, x, axis=axes), np.asarray(np.flip(x, axes)))
    assert_same(
        call(ops.reshape, x, shape=(1, math.prod(shape), 1)),
        x.reshape(1, -1, 1) if x.size else x.reshape(1, 0, 1),
    )
    assert_same(call(ops.broadcast_to, x, shape=(2, *shape)), np.broadcast_to(x, (2, *shape)).copy())
    widths = tuple((k % 2, (k + 1) % 3) for k in range(n))
    assert_same(
        call(ops.pad, x, pad_width=widths, constant_value=-1.5),
        np.asarray(np.pad(x, widths, constant_values=-1.5)) if n else x,
    )
    for axis in range(-n, 0):
        parts = [x, x[tuple(slice(0, 1) if k - n == axis else slice(None) for k in range(n))], x]
        assert_same(call(ops.concat, *parts, axis=axis), np.concatenate(parts, axis))


@pytest.mark.parametrize(
    ("own", "wanted"),
    [((1, 3), (4, 3)), ((2, 1), (2, 5)), ((2, 1, 3), (2, 4, 3)), ((1,), (0,)), ((3, 1), (2, 3, 2))],
)
def test_broadcast_stretches_axes_of_length_one(own, wanted):
    assert_same(
        call(ops.broadcast_to, counting(own), shape=wanted), np.broadcast_to(counting(own), wanted).copy()
    )


SLICES = [
    ((7,), (slice(1, 6, 2),)),
    ((7,), (slice(5, None, -2),)),
    ((4, 5), (slice(None, None, -1), slice(1, 4))),
    ((4, 5), (slice(3, 3), slice(None))),
    ((2, 3, 4), (slice(1, None), slice(None, None, 2), slice(3, 0, -1))),
]


@pytest.mark.parametrize(("shape", "index"), SLICES, ids=str)
def test_strided_slice_and_update_are_basic_indexing(shape, index):
    x = counting(shape)
    ranges = [range(*s.indices(n)) for s, n in zip(index, shape, strict=True)]
    region = {
        "start": tuple(r.start for r in ranges),
        "size": tuple(map(len, ranges)),
        "step": tuple(r.step for r in ranges),
    }
    assert_same(call(ops.strided_slice, x, **region), x[index].copy())
    value = -counting(x[index].shape) - 1
    expected = x.copy()
    expected[index] = value
    operand = ref(x)
    y = BACKEND.find(ops.strided_update.op, operand.dtype)(operand, ref(value), **region, overwrite=True)
    assert_same(host(y), expected)
    assert_same(host(operand), x)  # a value stays as it is


def test_movement_of_no_dimensions_slices_and_updates_the_one_element():
    assert call(ops.strided_slice, np.array(3.0), start=(), size=(), step=()) == 3.0
    assert (
        call(ops.strided_update, np.array(3.0), np.array(4.0), start=(), size=(), step=(), overwrite=False)
        == 4.0
    )


MISTAKES = [
    (ops.reshape, [(2, 3)], {"shape": (4,)}),
    (ops.broadcast_to, [(2,)], {"shape": (3,)}),
    (ops.broadcast_to, [(2, 3)], {"shape": (3,)}),
    (ops.permute_dims, [(2, 3)], {"axes": (-1, -1)}),
    (ops.concat, [(2, 3), (2, 2)], {"axis": -2}),
    (ops.concat, [(2, 3), (3,)], {"axis": -1}),
    (ops.concat, [(2, 3), (1, 3)], {"axis": -1}),
    (ops.strided_slice, [(4,)], {"start": (2,), "size": (3,), "step": (1,)}),
    (ops.strided_update, [(4,), (3,)], {"start": (0,), "size": (2,), "step": (1,), "overwrite": False}),
    (ops.sort, [()], {"axis": -1, "descending": False}),
    (ops.matmul, [(2, 3), (2, 3)], {}),
    (ops.matmul, [(), (2,)], {}),
    (ops.max, [(0, 2)], {"axis": (-2,), "keepdims": False}),
    (ops.argmax, [(2, 0)], {"axis": -1, "keepdims": False}),
]


@pytest.mark.parametrize(("op", "shapes", "params"), MISTAKES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_wrong_shapes_raise(op, shapes, params):
    with pytest.raises((ValueError, IndexError, TypeError)):
        call(op, *map(counting, shapes), **params)


# ---- index


@pytest.mark.parametrize(
    ("shape", "axis", "indices"),
    [
        ((5,), -1, ([0, -1, 2, 2],)),
        ((4, 3), -2, ([1, -4],)),
        ((4, 3), -1, ([[0, 2], [-1, 1]],)),
        ((4, 3), -2, ([0, 3], [2, -1])),
        ((2, 3, 4), -2, ([2, 0],)),
        ((2, 3, 4), -2, ([[2], [0]], [[3], [-4]])),
        ((2, 3, 4), -3, ([1], [0], [3])),
        ((3, 2), -2, ([],)),
        ((0, 2), -2, ([],)),
        ((3, 0), -2, ([1, 1],)),
        ((3, 2), -2, (1,)),
    ],
    ids=str,
)
def test_gather_and_scatter_are_advanced_indexing(shape, axis, indices):
    x = counting(shape)
    arrays = [np.array(i, np.int64) for i in indices]
    where = (slice(None),) * (len(shape) + axis) + tuple(arrays)
    expected = np.asarray(x[where])
    assert_same(call(ops.gather, x, *arrays, axis=axis), expected)
    values = shuffled(expected.shape) + np.float32(0.5)
    values = np.asarray(values, np.float32)
    written, added = x.copy(), x.copy()
    written[where] = values
    np.add.at(added, where, values)
    assert_same(call(ops.scatter, x, values, *arrays, axis=axis, overwrite=False), written)
    assert_same(call(ops.scatter_add, x, values, *arrays, axis=axis, overwrite=True), added)


def test_the_last_of_several_values_for_one_place_stays_and_sums_are_rounded_once():
    index = np.array([0, 0, 0], np.int64)
    x, values = np.array([1.0], np.float64), np.array([1e100, 3.0, -1e100])
    assert call(ops.scatter, x, values, index, axis=-1, overwrite=False).tolist() == [-1e100]
    assert call(ops.scatter_add, x, values, index, axis=-1, overwrite=False).tolist() == [4.0]
    x, values = np.array([250], np.uint8), np.array([3, 4, 5], np.uint8)
    assert call(ops.scatter_add, x, values, index, axis=-1, overwrite=False).tolist() == [6]


@pytest.mark.parametrize("bad", [3, -4, 2**40])
def test_indices_out_of_range_raise(bad):
    index = np.array([0, bad], np.int64)
    with pytest.raises(IndexError, match="out of bounds"):
        call(ops.gather, counting((3,)), index, axis=-1)
    with pytest.raises(IndexError, match="out of bounds"):
        call(ops.scatter, counting((3,)), counting((2,)), index, axis=-1, overwrite=False)
    with pytest.raises(IndexError, match="out of bounds"):
        call(ops.take_along_axis, counting((3,)), index, axis=-1)


@pytest.mark.parametrize("shape", SOME, ids=str)
def test_take_along_axis_follows_argsort(shape):
    x = shuffled(shape)
    for axis in range(-len(shape), 0):
        order = np.argsort(x, axis=axis, kind="stable")
        assert_same(call(ops.take_along_axis, x, order, axis=axis), np.sort(x, axis=axis))


def test_take_along_axis_stretches_other_axes():
    x, one = counting((2, 3)), np.array([[2, -1, 0, 0]])
    assert_same(call(ops.take_along_axis, x, one, axis=-1), np.take_along_axis(x, one, -1))
    assert_same(
        call(ops.take_along_axis, x[:1], np.array([[2], [0]]), axis=-1), np.array([[2.0], [0.0]], np.float32)
    )


@pytest.mark.parametrize("shape", SOME, ids=str)
def test_nonzero_lists_indices_in_c_order(shape):
    for x in (shuffled(shape) % 2, shuffled(shape).astype(bool)):
        for actual, expected in zip(call(ops.nonzero, x), np.nonzero(x), strict=True):
            assert_same(actual, expected)


# ---- sort


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape", SOME, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint64, np.bool_])
def test_sort_and_argsort_are_stable_along_every_axis(dtype, shape, descending):
    x = shuffled(shape, dtype)
    for axis in range(-len(shape), 0):
        order = call(ops.argsort, x, axis=axis, descending=descending)
        key = -x.astype(np.int64) if descending else x.astype(np.int64)
        assert_same(order, np.argsort(key, axis=axis, kind="stable"))
        assert_same(call(ops.sort, x, axis=axis, descending=descending), np.take_along_axis(x, order, axis))


def test_nan_counts_as_the_largest_value():
    x = np.array([NAN, 1.0, -INF, NAN, INF, 0.0, -0.0])
    assert call(ops.argsort, x, axis=-1, descending=False).tolist() == [2, 5, 6, 1, 4, 0, 3]
    assert call(ops.argsort, x, axis=-1, descending=True).tolist() == [0, 3, 4, 1, 5, 6, 2]
    np.testing.assert_array_equal(
        call(ops.sort, x, axis=-1, descending=False), [-INF, 0, 0, 1, INF, NAN, NAN]
    )
    np.testing.assert_array_equal(call(ops.sort, x, axis=-1, descending=True), [NAN, NAN, INF, 1, 0, 0, -INF])


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_equals_numpy_with_nan_largest(side):
    places = np.array([-INF, 0.0, 1.0, 1.0, 2.0, NAN, NAN])
    wanted = np.array([[-1.0, 0.0, 1.0], [1.5, NAN, INF]])
    assert_same(call(ops.searchsorted, places, wanted, side=side), np.searchsorted(places, wanted, side))
    assert call(ops.searchsorted, np.array([]), np.array(1.0), side=side) == 0
