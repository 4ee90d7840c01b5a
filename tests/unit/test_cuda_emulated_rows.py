"""The `cuda` kernels that combine elements: reductions, softmax, indexing, sorting, products. Executed on the CPU by
tests/cuda_emulator, in three orders of threads: a missing barrier shows in one of them."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import FLOATING, KIND, NAMES, run, same, to_device, values, wrapped

from corelib import dtypes
from corelib_cuda import backend as cuda_backend
from corelib_cuda import contract, indexing, ordering, reduce, scan, softmax

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_rows"),
]
NUMERIC = [name for name in NAMES if name != "bool"]


def prepare():
    """Compile what most tests launch in a few large sources: far quicker than one by one."""
    for dtype in NAMES:
        steps = reduce.STEPS if dtype == "float32" else [""]
        walks = [(walk, step) for walk in ("rows", "columns") for step in steps]
        emulated_cupy.prepare(
            "reduce.cu", [r.entry(*w) for r in reduce.every_reduction([dtype]) for w in walks]
        )
    emulated_cupy.prepare(
        "scan.cu", [s.entry(*v) for s in scan.every_scan(["float32", "int64"]) for v in s.variants()]
    )
    emulated_cupy.prepare("scan.cu", [s.entry("scan", "rows") for s in scan.every_scan(NUMERIC)])
    fused = [softmax.softmax(dtype) for dtype in FLOATING]
    emulated_cupy.prepare("softmax.cu", [k.entry(*variant) for k in fused for variant in k.variants()])
    emulated_cupy.prepare("index.cu", [(k.name, k.entry) for k in indexing.every_move(NAMES) if k.entry])
    emulated_cupy.prepare("matmul.cu", [(k.name, k.entry) for k in contract.every_matmul(NAMES)])
    emulated_cupy.prepare("sort.cu", [(k.name, k.entry) for k in ordering.every_kernel() if k.entry])
    keys = [ordering.keys_for(dtype, descending) for dtype in NAMES for descending in (False, True)]
    helpers = [k.entry("a", "dense", 32) for k in keys]
    helpers += [indexing.linear_index.entry(forms, "dense", 32) for forms in ("vav", "aav")]
    emulated_cupy.prepare("elementwise.cu", helpers)


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        prepare()
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=["ascending", "descending", "shuffled"])
def order(request, monkeypatch):
    monkeypatch.setattr(emulated_cupy, "order", request.param)


def numbers(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if KIND[dtype] == "float":
        return rng.standard_normal(shape).astype(dtype)
    d = dtypes.as_dtype(dtype)
    if d.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(d.min, d.max, shape, dtype=dtype, endpoint=True)


# ---------------------------------------------------------------------------------------------------------- reductions

# Each way through reduce.cu: (shape, axes). Short rows, a warp per row, a block per row, rows cut into chunks; columns
# narrow, wide and cut; reduced axes that stand apart; everything; nothing.
WAYS = {
    "short rows": ((70, 5), (-1,)),
    "a warp per row": ((11, 100), (-1,)),
    "a warp per row, packets": ((5, 512), (-1,)),
    "a block per row": ((3, 2001), (-1,)),
    "a row in chunks": ((1, 40000), (-1,)),
    "all axes in chunks": ((3, 4, 4096), (-3, -2, -1)),
    "narrow columns": ((50, 3), (-2,)),
    "wide columns": ((9, 45), (-2,)),
    "columns in chunks": ((1100, 7), (-2,)),
    "a middle axis": ((3, 17, 5), (-2,)),
    "axes apart": ((4, 5, 6), (-3, -1)),
    "no axis": ((3, 4), ()),
    "one element": ((1, 1), (-1,)),
}


def expected_reduction(name, x, axes, keepdims):
    """By Python's integers, or by float64 in NumPy's pairwise order (exact enough to be rounded to float32)."""
    if name in ("max", "min"):
        return getattr(np, name)(x, axis=axes, keepdims=keepdims)
    if name in ("any", "all"):
        return getattr(np, name)(x, axis=axes, keepdims=keepdims)
    kind = KIND[x.dtype.name]
    target = x.dtype if kind == "float" else np.dtype("uint64" if kind == "uint" else "int64")
    wide = "f8" if kind == "float" else target
    return getattr(np, name)(x.astype(wide), axis=axes, keepdims=keepdims, dtype=wide).astype(target)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all"])
def test_reductions_along_every_way_through_memory(device, order, name, way):
    shape, axes = WAYS[way]
    x = numbers("float32", shape)
    if name == "prod":
        x = np.where(x > 3, 2, np.sign(x)).astype(np.float32)  # few powers of two: exact in any order
    elif name in ("any", "all"):
        x = (np.abs(x) > (3 if name == "any" else 0.001)).astype(np.float32)
    more = {"dtype": dtypes.float32} if name in ("sum", "prod") else {}
    for keepdims in (False, True):
        expected = expected_reduction(name, x, axes, keepdims)
        actual = run(device, name, x, axis=axes, keepdims=keepdims, **more)
        if name == "sum":
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-5)
            assert actual.shape == expected.shape
        else:
            same(expected, actual)


@pytest.mark.parametrize("dtype", NAMES)
def test_reductions_of_every_dtype(device, dtype):
    for shape, axes in (((6, 40), (-1,)), ((40, 6), (-2,))):
        x = numbers(dtype, shape)
        x[0] = x[0].dtype.type(0)
        names = ["max", "min", "any", "all"] + (["sum", "prod"] if dtype != "bool" else [])
        for name in names:
            more = {}
            if name in ("sum", "prod"):
                kind = KIND[dtype]
                more["dtype"] = (
                    dtype if kind == "float" else dtypes.uint64 if kind == "uint" else dtypes.int64
                )
                more["dtype"] = dtypes.as_dtype(more["dtype"])
            with np.errstate(over="ignore"):
                expected = expected_reduction(name, x, axes, False)
            actual = run(device, name, x, axis=axes, keepdims=False, **more)
            if KIND[dtype] == "float" and more:
                np.testing.assert_allclose(
                    actual, expected, rtol=2e-6 if dtype == "float32" else 1e-14, atol=1e-12
                )
                assert actual.dtype == expected.dtype
            else:
                same(expected, actual)


@pytest.mark.parametrize("greatest", [True, False], ids=["argmax", "argmin"])
@pytest.mark.parametrize("way", [w for w, (_, axes) in WAYS.items() if len(axes) == 1])
def test_the_first_extreme_is_found(device, order, greatest, way):
    name = "argmax" if greatest else "argmin"
    shape, (axis,) = WAYS[way]
    x = np.round(numbers("float32", shape)) + 0.0  # many ties
    for keepdims in (False, True):
        expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
        same(expected.astype(np.int64), run(device, name, x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("dtype", NAMES)
def test_argmax_and_argmin_of_every_dtype(device, dtype):
    x = numbers(dtype, (4, 37))
    for name in ("argmax", "argmin"):
        same(getattr(np, name)(x, axis=-1), run(device, name, x, axis=-1, keepdims=False))
        same(getattr(np, name)(x, axis=-2), run(device, name, x, axis=-2, keepdims=False))


@pytest.mark.parametrize("length", [7, 700, 40000])
def test_nan_wins_and_the_first_one_is_found(device, length):
    x = numbers("float32", (1, length))
    x[0, length // 2] = x[0, length - 2] = np.nan
    for name in ("max", "min"):
        same(np.array([np.nan], "f4"), run(device, name, x, axis=(-1,), keepdims=False))
    for name in ("argmax", "argmin"):
        same(np.array([length // 2]), run(device, name, x, axis=-1, keepdims=False))


def test_positive_zero_is_greater_than_negative_zero(device):
    x = np.array([[-0.0, 0.0, -0.0]] * 2, np.float32)
    same(np.array([0.0, 0.0], "f4"), run(device, "max", x, axis=(-1,), keepdims=False))
    same(np.array([-0.0, -0.0], "f4"), run(device, "min", x, axis=(-1,), keepdims=False))


def test_float32_sums_are_rounded_once(device):
    x = np.full((1, 100_000), 0.1, np.float32)
    x[0, 0] = 2.0**24
    exact = np.float32(float(np.float32(0.1)) * 99_999 + 2.0**24)
    same(np.array([exact]), run(device, "sum", x, axis=(-1,), dtype=dtypes.float32, keepdims=False))


def test_integer_sums_wrap(device):
    x = np.full((1, 3), 2**62, np.int64)
    same(wrapped([3 * 2**62], "int64"), run(device, "sum", x, axis=(-1,), dtype=dtypes.int64, keepdims=False))


@pytest.mark.parametrize("layout", ["transposed", "reversed", "broadcast", "every other"])
def test_reductions_of_every_layout(device, layout):
    x = numbers("float64", (4, 6, 10))
    change = {
        "transposed": lambda a: a.transpose((2, 0, 1)),
        "reversed": lambda a: a[:, ::-1],
        "every other": lambda a: a[:, ::2, 1::3],
        "broadcast": lambda a: a[:, :1, :],
    }[layout]
    host, given = change(x), change(to_device(x))
    if layout == "broadcast":
        import cupy

        host, given = np.broadcast_to(host, (4, 5, 10)), cupy.broadcast_to(given, (4, 5, 10))
    for count in (1, 2, 3):
        for axes in itertools.combinations((-3, -2, -1), count):
            same(host.max(axis=axes), run(device, "max", given, axis=axes, keepdims=False))
            actual = run(device, "sum", given, axis=axes, keepdims=True, dtype=dtypes.float64)
            np.testing.assert_allclose(actual, host.sum(axis=axes, keepdims=True), rtol=1e-12, atol=1e-12)


def test_reductions_of_nothing(device):
    x = np.empty((3, 0), np.float32)
    more = {"dtype": dtypes.float32}
    same(np.zeros(3, "f4"), run(device, "sum", x, axis=(-1,), keepdims=False, **more))
    same(np.ones((1, 1), "f4"), run(device, "prod", x, axis=(-2, -1), keepdims=True, **more))
    same(np.zeros(3, bool), run(device, "any", x, axis=(-1,), keepdims=False))
    same(np.ones(3, bool), run(device, "all", x, axis=(-1,), keepdims=False))
    same(np.empty(0, "f4"), run(device, "max", x, axis=(-2,), keepdims=False))
    for name in ("max", "min"):
        with pytest.raises(ValueError, match="no elements"):
            run(device, name, x, axis=(-1,), keepdims=False)
    with pytest.raises(ValueError, match="no elements"):
        run(device, "argmax", x, axis=-1, keepdims=False)


def test_a_scalar_array_is_its_own_extreme(device):
    same(np.float32(3), run(device, "max", np.array(3, "f4"), axis=(), keepdims=False))


# ------------------------------------------------------------------------------------------------------------- softmax


def softmax_in_float64(x, axis):
    x = x.astype("f8")
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize(
    "shape", [(5, 4), (3, 33), (6, 256), (2, 1000), (2, 1001), (2, 4100), (1, 33000), (1, 33001)], ids=str
)
def test_softmax(device, order, dtype, shape):
    x = numbers(dtype, shape) * np.asarray(5, dtype)
    actual = run(device, "softmax", x, axis=-1)
    assert actual.dtype == x.dtype
    np.testing.assert_allclose(actual, softmax_in_float64(x, -1), rtol=3e-6 if dtype == "float32" else 1e-14)


def test_softmax_along_any_axis_and_layout(device):
    x = numbers("float32", (3, 4, 5))
    for axis in (-3, -2, -1):
        np.testing.assert_allclose(
            run(device, "softmax", x, axis=axis), softmax_in_float64(x, axis), rtol=2e-6
        )
    given = to_device(x)[::-1, :, ::2]
    np.testing.assert_allclose(
        run(device, "softmax", given, axis=-1), softmax_in_float64(x[::-1, :, ::2], -1), rtol=2e-6
    )
    assert run(device, "softmax", np.empty((0, 3), "f4"), axis=-1).shape == (0, 3)


@pytest.mark.parametrize("length", [8, 2000, 70000])
@pytest.mark.parametrize("place", [0, -1])
def test_softmax_of_infinities_and_nan(device, length, place):
    x = numbers("float32", (4, length))
    x[0, place] = np.nan
    x[1, place] = np.inf
    x[2] = -np.inf
    x[3, place] = -np.inf
    actual = run(device, "softmax", x, axis=-1)
    assert np.isnan(actual[:3]).all()
    assert actual[3, place] == 0
    np.testing.assert_allclose(actual[3], softmax_in_float64(x[3:], -1)[0], rtol=3e-6)


def test_softmax_of_large_numbers_does_not_overflow(device):
    x = np.array([[1e38, -1e38, 1e38, 0]], np.float32)
    same(np.array([[0.5, 0, 0.5, 0]], "f4"), run(device, "softmax", x, axis=-1))


# ------------------------------------------------------------------------------------------------------------ indexing


@pytest.mark.parametrize("dtype", ["bool", "int16", "float32", "float64"])
def test_gather_by_several_indices(device, dtype):
    x = numbers(dtype, (3, 4, 5, 2))
    i, j = np.array([[0, -1, 2], [1, 1, -3]]), np.array([[4, 0, -5], [2, -1, 3]])
    same(x[:, :, i], run(device, "gather", x, i, axis=-2))
    same(x[:, (i % 4), j], run(device, "gather", x, i % 4, j, axis=-3))
    same(
        x.transpose((1, 0, 2, 3))[i], run(device, "gather", to_device(x).transpose((1, 0, 2, 3)), i, axis=-4)
    )
    same(x[:, np.array(2)], run(device, "gather", x, np.array(2), axis=-3))
    same(x[:, i[:0]], run(device, "gather", x, i[:0], axis=-3))


@pytest.mark.parametrize("bad", [3, -4, 2**62, -(2**63)])
def test_an_index_out_of_range_is_an_error(device, bad):
    x, i = numbers("float32", (3, 3)), np.array([0, bad, 1])
    for name, operands, more in (
        ("gather", (x, i), {}),
        ("gather", (x, i, np.array([0, 1, 2])), {}),
        ("gather", (x, np.array([0, 1, 2]), i), {}),
        ("scatter", (x, np.zeros((3, 3), "f4"), i), {"overwrite": False}),
        ("scatter_add", (x, np.zeros((3, 3), "f4"), i), {"overwrite": False}),
    ):
        with pytest.raises(IndexError, match="out of range"):
            run(device, name, *operands, axis=-2, **more)
    with pytest.raises(IndexError, match="out of range"):
        run(device, "take_along_axis", x, i[:, None], axis=-1)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32", "int64"])
def test_scatter_keeps_the_last_of_equal_indices(device, order, dtype):
    x, i = numbers(dtype, (2, 300, 3)), np.random.default_rng(1).integers(-300, 300, 500)
    v = numbers(dtype, (2, 500, 3), seed=2)
    expected = x.copy()
    for k, place in enumerate(i):
        expected[:, place] = v[:, k]
    same(expected, run(device, "scatter", x, v, i, axis=-2, overwrite=False))


def test_scatter_leaves_its_operand_alone_unless_it_may_overwrite(device):
    x = to_device(np.zeros(4, np.float32))
    one, i = np.ones(1, np.float32), np.array([2])
    same(np.array([0, 0, 1, 0], "f4"), run(device, "scatter", x, one, i, axis=-1, overwrite=False))
    same(np.zeros(4, "f4"), x.get())
    same(np.array([0, 0, 1, 0], "f4"), run(device, "scatter", x, one, i, axis=-1, overwrite=True))


@pytest.mark.parametrize("dtype", NUMERIC)
def test_scatter_add_sums_in_order(device, dtype):
    x, v = numbers(dtype, (2, 6, 3)), numbers(dtype, (2, 40, 3), seed=2)
    i, j = np.random.default_rng(1).integers(-2, 2, 40), np.random.default_rng(2).integers(-3, 3, 40)
    wide = "f8" if KIND[dtype] == "float" else dtype
    expected = x.astype(wide).reshape(2, 2, 3, 3)
    for k in range(40):
        with np.errstate(over="ignore"):
            expected[:, i[k], j[k]] += v[:, k]
    given = x.reshape(2, 2, 3, 3)
    same(expected.astype(dtype), run(device, "scatter_add", given, v, i, j, axis=-3, overwrite=False))


def test_take_along_axis(device):
    x = numbers("float64", (3, 4, 5))
    i = np.random.default_rng(1).integers(-4, 4, (3, 6, 5))
    same(np.take_along_axis(x, i, 1), run(device, "take_along_axis", x, i, axis=-2))
    same(np.take_along_axis(x, i[:1], 1), run(device, "take_along_axis", x, i[:1], axis=-2))
    same(np.take_along_axis(x[:, :, :1], i, 1), run(device, "take_along_axis", x[:, :, :1], i, axis=-2))


def test_nonzero_lists_places_in_order(device):
    x = np.array([[0, 1.5, np.nan], [-0.0, 0, 2]], np.float32)
    for expected, actual in zip(np.nonzero(x), run(device, "nonzero", x), strict=True):
        same(expected, actual)


def test_a_region_is_cut_and_replaced(device):
    x = np.arange(20, dtype=np.int32).reshape(4, 5)
    cut = {"start": (3, 1), "size": (4, 2), "step": (-1, 3)}
    same(x[::-1, 1::3], run(device, "strided_slice", x, **cut))
    expected = x.copy()
    expected[::-1, 1::3] = -1
    given = to_device(x)
    same(
        expected, run(device, "strided_update", given, np.full((4, 2), -1, np.int32), **cut, overwrite=False)
    )
    same(x, given.get())
    with pytest.raises(ValueError, match="region"):
        run(device, "strided_update", given, np.full((1, 2), -1, np.int32), **cut, overwrite=False)
    with pytest.raises(IndexError, match="places 3 to 5 of an axis of size 4"):
        run(device, "strided_slice", x, start=(3, 0), size=(3, 1), step=(1, 1))


def test_movement(device):
    x = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    same(x.reshape(4, 6), run(device, "reshape", x, shape=(4, 6)))
    same(x.transpose(2, 0, 1), run(device, "permute_dims", x, axes=(-1, -3, -2)))
    same(np.broadcast_to(x, (5, 2, 3, 4)), run(device, "broadcast_to", x, shape=(5, 2, 3, 4)))
    same(x[::-1, :, ::-1], run(device, "flip", x, axis=(-3, -1)))
    same(np.concatenate([x, x, x], -2), run(device, "concat", x, x, x, axis=-2))
    width = ((1, 0), (0, 2), (3, 1))
    same(np.pad(x, width, constant_values=7), run(device, "pad", x, pad_width=width, constant_value=7))


# ------------------------------------------------------------------------------------------------------ order and scans


@pytest.mark.parametrize("dtype", NAMES)
def test_sorting_is_stable_in_both_directions_with_nan_largest(device, dtype):
    x = np.random.default_rng(3).permutation(np.tile(values(dtype), 3))
    zero_is_zero = x + x.dtype.type(0) if KIND[dtype] == "float" else x
    up = np.argsort(zero_is_zero, kind="stable")
    down = up[np.argsort(-np.unique(zero_is_zero, return_inverse=True, equal_nan=True)[1][up], kind="stable")]
    for descending, expected in ((False, up), (True, down)):
        same(expected, run(device, "argsort", x, axis=-1, descending=descending))
        same(x[expected], run(device, "sort", x, axis=-1, descending=descending))


# One tile, exactly one, a little more, an odd number of runs, several rows of several tiles; two elements, one.
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 2), (5, 100), (1, 1024), (2, 1025), (1, 2600), (3, 4097)], ids=str
)
@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_sorting_rows_of_any_length(device, order, dtype, shape):
    x = (
        numbers("int16", shape) // 4096 if dtype == "int16" else np.round(numbers(dtype, shape) * 4)
    )  # many ties
    up = np.argsort(x, -1, kind="stable")
    same(up, run(device, "argsort", x, axis=-1, descending=False))
    same(np.take_along_axis(x, up, -1), run(device, "sort", x, axis=-1, descending=False))
    down = np.argsort(-x, -1, kind="stable")
    same(down, run(device, "argsort", x, axis=-1, descending=True))


def test_a_row_that_is_too_long_to_sort_is_refused(device, monkeypatch):
    monkeypatch.setattr(ordering, "LONGEST", 5)
    with pytest.raises(ValueError, match="sorting 6 elements along one axis: 5 are the most"):
        run(device, "sort", numbers("int32", (2, 6)), axis=-1, descending=False)


def test_the_places_of_what_is_not_zero(device):
    x = np.random.default_rng(0).integers(0, 3, (7, 3, 50)) - 1
    x[2] = 0
    for y in (x, x[..., :1], x[:, :0], np.zeros((4, 5), int), np.ones((2, 1030), int)):
        for expected, actual in zip(np.nonzero(y), run(device, "nonzero", y), strict=True):
            same(expected, actual)


def test_searching_long_rows(device):
    x, wanted = np.sort(numbers("int32", (3000,)) // 2**22), numbers("int32", (40, 5)) // 2**22
    for side in ("left", "right"):
        same(np.searchsorted(x, wanted, side), run(device, "searchsorted", x, wanted, side=side))


def test_sorting_along_an_inner_axis(device):
    x = numbers("int32", (3, 7, 2))
    same(np.sort(x, 1), run(device, "sort", x, axis=-2, descending=False))
    same(np.empty((0, 2), "f4"), run(device, "sort", np.empty((0, 2), "f4"), axis=-1, descending=True))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_takes_nan_as_largest(device, side):
    x = np.array([-np.inf, -1.0, -0.0, 0.0, 2.0, np.nan], np.float32)
    wanted = np.array([[0.0, -0.0, np.nan], [3.0, -2.0, np.inf]], np.float32)
    same(np.searchsorted(x, wanted, side), run(device, "searchsorted", x, wanted, side=side))
    same(np.zeros((2, 3), np.int64), run(device, "searchsorted", x[:0], wanted, side=side))


# Each way through scan.cu: a row in one tile, in several, in chunks; columns whole and in chunks; nothing.
SCANS = {
    "a short row": ((3, 50), -1),
    "a row of several tiles": ((2, 2500), -1),
    "a row in chunks": ((1, 40001), -1),
    "columns": ((5, 7), -2),
    "columns in chunks": ((2, 1100, 3), -2),
    "one element": ((1, 1), -1),
    "nothing": ((0, 3), -1),
    "no length": ((3, 0), -1),
}


@pytest.mark.parametrize("way", SCANS)
def test_scans_along_every_way_through_memory(device, order, way):
    shape, axis = SCANS[way]
    x = numbers("float32", shape)
    expected = np.cumsum(x.astype("f8"), axis).astype("f4")
    actual = run(device, "cumulative_sum", x, axis=axis, dtype=dtypes.float32)
    np.testing.assert_array_max_ulp(actual, expected, 1)  # both from float64, in different orders
    x = numbers("int32", shape)
    same(np.cumsum(x, axis, dtype="i8"), run(device, "cumulative_sum", x, axis=axis, dtype=dtypes.int64))
    same(np.cumprod(x, axis, dtype="i8"), run(device, "cumulative_prod", x, axis=axis, dtype=dtypes.int64))


@pytest.mark.parametrize("dtype", NUMERIC)
def test_scans_of_every_dtype(device, dtype):
    x = numbers(dtype, (3, 50))
    wanted = dtypes.as_dtype(dtype)
    with np.errstate(over="ignore"):
        if wanted.kind == "float":
            expected = np.cumsum(x.astype("f8"), -1).astype(dtype)
            actual = run(device, "cumulative_sum", x, axis=-1, dtype=wanted)
            np.testing.assert_allclose(
                actual, expected, rtol=0, atol=50 * 2.0**-52 * 50 if dtype == "float64" else 1e-5
            )
        else:
            same(np.cumsum(x, -1, dtype=dtype), run(device, "cumulative_sum", x, axis=-1, dtype=wanted))
            same(np.cumprod(x, -1, dtype=dtype), run(device, "cumulative_prod", x, axis=-1, dtype=wanted))
    for axis in (0, -3):
        with pytest.raises(IndexError):
            run(device, "cumulative_sum", x, axis=axis, dtype=wanted)


# ------------------------------------------------------------------------------------------------------------ products


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64", "float32", "float64"])
@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 5)), ((40, 33), (33, 17)), ((4,), (4,)), ((4,), (4, 3)), ((2, 3, 4), (4,)), ((5, 1, 3, 4), (2, 4, 2)),
     ((3, 0), (0, 2)), ((0, 3), (3, 2))],
    ids=str,
)  # fmt: skip
def test_matmul(device, dtype, shapes):
    a, b = numbers(dtype, shapes[0]), numbers(dtype, shapes[1], seed=1)
    with np.errstate(over="ignore"):
        expected = np.matmul(a, b)
    actual = run(device, "matmul", a, b)
    if KIND[dtype] == "float":
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    else:
        same(expected, actual)


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 5)), ((70, 37), (37, 66)), ((4,), (4, 3)), ((2, 3, 40), (40,)), ((5, 1, 3, 4), (2, 4, 2)), ((3, 0), (0, 2)), ((0, 3), (3, 2))],
    ids=str,
)  # fmt: skip
def test_int8_products_are_summed_exactly_in_int32(device, order, shapes):
    a, b = numbers("int8", shapes[0]), numbers("int8", shapes[1], seed=1)
    same(np.matmul(a.astype("i4"), b.astype("i4")), run(device, "int8_matmul", a, b))
    full = [np.full(s, -128, "i1") for s in shapes]
    same(np.matmul(*(x.astype("i4") for x in full)), run(device, "int8_matmul", *full))


def test_matmul_of_views_and_of_shapes_that_do_not_fit(device):
    a = numbers("int32", (3, 4))
    same(a.T @ a, run(device, "matmul", to_device(a).transpose((1, 0)), to_device(a)))
    with pytest.raises(ValueError, match="matmul"):
        run(device, "matmul", a, a)


# ------------------------------------------------------------------------------------------------ the emulator's senses


def test_the_emulator_notices_what_a_device_would_not_forgive(device):
    """The checks that the tests above rest on, by kernels that are wrong."""
    import cupy

    library = emulated_cupy.Library(
        emulated_cupy.launch.text("common.cuh")
        + """
        extern "C" __global__ void past_the_end(float* x, int32 n) { x[threadIdx.x + n] = 1; }
        extern "C" __global__ void divergent(float* x) {
            if (threadIdx.x) __syncthreads();
            x[threadIdx.x] = 1;
            __syncthreads();
        }
        extern "C" __global__ void misaligned(float* x) { *(Packet<float, 4>*)(x + 1) = Packet<float, 4>(); }
        extern "C" __global__ void racing(float* x) {
            __shared__ float s[64];
            s[threadIdx.x] = threadIdx.x;
            x[threadIdx.x] = s[63 - threadIdx.x];
        }
        """
    )
    x = cupy.ndarray((64,), np.float32)
    for name, arguments, message in (
        ("past_the_end", (x, np.int32(64)), "past the end"),
        (
            "past_the_end",
            (x, np.int32(256)),
            "illegal address",
        ),  # in the guard page: further out is somebody's memory
        ("past_the_end", (x, 64), "argument 1 is i8, the kernel takes i4"),
        ("past_the_end", (x,), "1 arguments for 2 parameters"),
        ("divergent", (x,), "barrier divergence|deadlock"),
        ("misaligned", (x,), "misaligned"),
    ):
        with pytest.raises(emulated_cupy.CudaError, match=message):
            library.get_function(name)((1,), (64,), arguments)
        x = cupy.ndarray((64,), np.float32)
    library.get_function("racing")((1,), (64,), (x,))
    assert np.isnan(x.get()).any()


def test_every_reduction_and_move_is_among_those_that_are_compiled():
    """What the compile test lists is what the ops use."""
    assert {r.op for r in reduce.every_reduction(["float32"])} == set(reduce.REDUCERS)
    assert {k.name for k in indexing.every_move(["float32"])} >= {
        "last_writer",
        "gather_uint8",
        "scatter_add_float32",
    }
