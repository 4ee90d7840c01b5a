"""Products of int8, bfloat16 and float16 on the cpu backend: every kernel of narrow.py, on every layout, for every kind of
words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib import dtypes
from corelib_cpu import launch, narrow, native

# One number, edges of tiles and of words on all sides, one row, one column, both kernels, several passes over k.
SHAPES = [
    (1, 1, 1), (3, 5, 7), (8, 32, 16), (17, 33, 9), (65, 129, 67), (1, 300, 500), (300, 500, 1), (130, 302, 260), (5, 9001, 30),
    (40, 5003, 70),
]  # fmt: skip
RESULTS = narrow.RESULTS


def numpy_dtype(name):
    return dtypes.as_dtype(name).numpy


def wide(x):
    """The values in float64."""
    if x.dtype.kind == "V":
        return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(float)
    return x.astype(float)


def narrowed(x, name):
    """float64 as a short dtype, of which bfloat16 is cut off."""
    if name == "bfloat16":
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(numpy_dtype(name))
    return x.astype(name)


def values(shape, name, seed):
    rng = np.random.default_rng(seed)
    return narrowed(rng.integers(-128, 128, shape) if name == "int8" else rng.standard_normal(shape), name)


def layouts(x):
    """The same numbers in rows, in columns, apart from each other, and backwards."""
    apart = np.zeros((2 * x.shape[0], 3 * x.shape[1]), x.dtype)[::2, ::3]
    backwards = np.zeros(x.shape, x.dtype)[::-1, ::-1]
    apart[:], backwards[:] = x, x
    return [x, np.asfortranarray(x), apart, backwards]


def assert_product_is_right(a, b, name):
    """int8: equal. Floats: the bound of float32 sums in any order, (k + 1) u |A| |B|, and half a place of the result."""
    actual = narrow.make_product(name)(a, b)
    expected = wide(a) @ wide(b)
    assert actual.shape == expected.shape and actual.dtype == numpy_dtype(RESULTS[name])
    if name == "int8":
        np.testing.assert_array_equal(actual, expected)
        return
    unit, least = (2.0**-8, 2.0**-134) if name == "bfloat16" else (2.0**-11, 2.0**-25)
    sums = (a.shape[-1] + 1) * 2.0**-24 * (abs(wide(a)) @ abs(wide(b)))
    bound = sums + unit * (abs(expected) + sums) + least
    worst = np.max(abs(wide(actual) - expected) - bound)
    assert worst <= 0, f"{name} {a.shape} {b.shape}, strides {a.strides} and {b.strides}: {worst}"


def assert_products_are_right(names, shapes=SHAPES):
    for seed, (rows, depth, columns) in enumerate(shapes):
        for name in names:
            first, second = (layouts(values(s, name, seed)) for s in ((rows, depth), (depth, columns)))
            pairs = [(a, b) for a in first for b in second]
            if rows * depth * columns > 1e5:
                pairs = list(zip(first, second, strict=True))
            for a, b in pairs:
                assert_product_is_right(a, b, name)


def test_products_of_every_layout():
    assert_products_are_right(RESULTS)


FORCED = """
import sys
sys.path.insert(0, {folder!r})
from corelib_cpu import native
native.host = lambda: ({name!r}, {features!r})
import test_cpu_narrow as tests
from corelib_cpu.vdots import product_kind
assert [product_kind(n) for n in ("int8", "bfloat16")] == {kinds}
tests.assert_products_are_right({names}, [(3, 5, 7), (17, 33, 9), (65, 129, 67), (130, 302, 260)])
"""
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt"


@pytest.mark.parametrize(
    ("name", "features", "needs", "kinds", "names"),
    [
        ("haswell", AVX2, "+avx2", ["int16", "bfloat16 exactly"], ["int8", "float16"]),
        ("alderlake", AVX2 + ",+avxvnni", "+avxvnni", ["int8", "bfloat16 exactly"], ["int8"]),
        ("x86-64", "+sse2", "+sse2", ["int16", "bfloat16 exactly"], ["int8", "bfloat16"]),
    ],
    ids=["avx2", "avx-vnni", "sse2"],
)
def test_products_on_other_machines(name, features, needs, kinds, names, tmp_path):
    if needs not in native.host()[1].split(","):
        pytest.skip(f"this machine does not run code for {name}")
    text = FORCED.format(
        folder=str(Path(__file__).parent), name=name, features=features, kinds=kinds, names=names
    )
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": name}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_the_largest_sums_do_not_saturate():
    for a, b in ((-128, -128), (127, -128), (-128, 127), (127, 127)):
        x, y = np.full((3, 5000), a, np.int8), np.full((5000, 40), b, np.int8)
        np.testing.assert_array_equal(narrow.make_product("int8")(x, y), np.full((3, 40), 5000 * a * b))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(20, 30, 40), (150, 300, 200)])
def test_subnormal_numbers_are_not_lost(name, shape):
    """Machine instructions for bfloat16 take them for 0; a product of two may be subnormal as well."""
    rows, depth, columns = shape
    least, large = (2.0**-133, 2.0**120) if name == "bfloat16" else (2.0**-24, 2.0**10)
    x, y = values((rows, depth), name, 0), values((depth, columns), name, 1)
    tiny = narrowed(np.round(wide(x) * 10) * least, name)
    assert_product_is_right(tiny, narrowed(wide(y) * large, name), name)
    assert_product_is_right(
        narrowed(wide(x) * large, name), narrowed(np.round(wide(y) * 10) * least, name), name
    )
    assert_product_is_right(narrowed(wide(x) * least**0.5, name), narrowed(wide(y) * least**0.5, name), name)
    mixed = wide(x)
    mixed[rows // 2] *= least * 64  # in one tile only
    assert_product_is_right(narrowed(mixed, name), y, name)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_its_row_and_column_only(name, special):
    for rows, depth, columns in ((9, 9, 9), (150, 300, 200)):
        a, b = np.ones((rows, depth)), np.ones((depth, columns))
        a[rows // 2, 3] = special
        product = narrow.make_product(name)
        expected = np.full((rows, columns), float(depth))
        expected[rows // 2] = special
        actual = wide(product(narrowed(a, name), narrowed(b, name)))
        np.testing.assert_allclose(actual, expected, rtol=2.0**-8)
        b[3] = 0  # inf times 0
        expected[:] = depth - 1
        expected[rows // 2] = np.nan
        actual = wide(product(narrowed(a, name), narrowed(b, name)))
        np.testing.assert_allclose(actual, expected, rtol=2.0**-8)


@pytest.mark.parametrize(
    ("first", "second"),
    [((5, 20, 30), (30, 40)), ((20, 30), (5, 30, 40)), ((2, 1, 20, 30), (5, 30, 40)), ((2, 5, 20, 30), (2, 1, 30, 40)),
     ((5, 20, 30), (30,)), ((30,), (5, 30, 40)), ((40,), (40,)), ((2, 1, 90, 300), (3, 300, 1300)), ((96, 4, 4), (96, 4, 4)),
     ((0, 5), (5, 4)), ((4, 0), (0, 5)), ((0, 4, 5), (5, 6)), ((3, 4, 0), (0, 6)), ((0,), (0,))],
)  # fmt: skip
def test_batches_broadcast(first, second):
    for name in RESULTS:
        a, b = values(first, name, 0), values(second, name, 1)
        assert_product_is_right(a, b, name) if a.size and b.size else None
        actual = narrow.make_product(name)(a, b)
        expected = np.matmul(wide(a), wide(b))
        assert actual.shape == expected.shape
        if not a.size or not b.size:
            np.testing.assert_array_equal(wide(actual), expected)
        if a.ndim > 1:
            outside_in = np.swapaxes(np.ascontiguousarray(np.swapaxes(a, 0, -1)), 0, -1)
            np.testing.assert_array_equal(wide(narrow.make_product(name)(outside_in, b)), wide(actual))


@pytest.mark.parametrize("shape", [(130, 300, 260), (500, 70, 90), (3, 200, 3000), (200, 9000, 40)])
def test_the_number_of_threads_changes_no_bit(shape):
    rows, depth, columns = shape
    before = launch.get_num_threads()
    for name in RESULTS:
        a, b = values((rows, depth), name, 0), values((depth, columns), name, 1)
        product, found = narrow.make_product(name), []
        try:
            for threads in (1, 2, 3, 7):
                launch.set_num_threads(threads)
                found.append(wide(product(a, b)))
        finally:
            launch.set_num_threads(before)
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


def test_a_compiled_program_gives_the_same_bits():
    a, b = (corelib.asarray(values(s, "int8", 0), device="cpu") for s in ((40, 300), (300, 50)))
    x = corelib.asarray(values((40, 300), "float16", 0).astype("float32"), device="cpu").astype(
        corelib.bfloat16
    )

    def program(a, b, x):
        return corelib.ops.int8_matmul(a, b) + 1, (x @ x.T) * 2

    compiled = corelib.compile(program)
    for _ in range(4):
        for found, expected in zip(compiled(a, b, x), program(a, b, x), strict=True):
            assert found.tolist() == expected.tolist()
