"""Products of matrices on the cpu backend: every kernel of gemm.py, on every layout, for every vector width."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("corelib_cpu.native")

import corelib
from corelib_cpu import contract, launch, native

EMPTY = "def kernel(lo, hi, args):\n    pass\n"
# Small, edges of tiles on both sides, one row, one column, several passes over k, several over the columns.
SHAPES = [
    (1, 1, 1), (3, 5, 7), (8, 32, 16), (17, 33, 9), (32, 32, 32), (64, 64, 64), (65, 129, 67), (1, 300, 500), (300, 500, 1),
    (2, 300, 700), (4, 300, 700), (300, 65, 5), (130, 300, 260), (5, 2000, 300), (40, 1, 3000), (300, 1100, 290), (60, 40, 4200),
]  # fmt: skip


def layouts(rows, columns, dtype, seed):
    """The same numbers in rows, in columns, apart from each other, and backwards."""
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)
    apart = np.zeros((2 * rows, 3 * columns), dtype)[::2, ::3]
    backwards = np.zeros((rows, columns), dtype)[::-1, ::-1]
    apart[:], backwards[:] = values, values
    return [values, np.asfortranarray(values), apart, backwards]


def assert_products_are_right(dtype, shapes=SHAPES):
    """Each product within the bound of any order of summation: (k + 1) u |A| |B|."""
    native.address(EMPTY)  # in a process that compiles nothing the smallest go to NumPy
    matmul = contract.make_matmul(dtype)
    unit = np.finfo(dtype).eps / 2
    for seed, (rows, depth, columns) in enumerate(shapes):
        first, second = layouts(rows, depth, dtype, seed), layouts(depth, columns, dtype, seed + 100)
        pairs = [(a, b) for a in first for b in second]
        if rows * depth * columns > 1e5:
            pairs = list(zip(first, second, strict=True))
        expected = first[0].astype(float) @ second[0].astype(float)
        bound = (depth + 1) * 2 * unit * (abs(first[0]).astype(float) @ abs(second[0]).astype(float))
        for a, b in pairs:
            actual = matmul(a, b)
            assert actual.shape == expected.shape and actual.dtype == dtype
            worst = np.max(abs(actual - expected) - bound)
            assert worst <= 0, (
                f"{dtype} {rows}x{depth}x{columns}, strides {a.strides} and {b.strides}: {worst}"
            )


def test_products_of_every_layout():
    assert_products_are_right("float32")
    assert_products_are_right("float64", SHAPES[::3])


FORCED = """
import sys
sys.path.insert(0, {folder!r})
from corelib_cpu import native
native.host = lambda: ({name!r}, {features!r})
import test_cpu_contract as tests
assert native.vector_bytes() == {width}
shapes = [(3, 5, 7), (17, 33, 9), (65, 129, 67), (90, 600, 150), (90, 300, 400)]
for dtype in {dtypes}:
    tests.assert_products_are_right(dtype, shapes)
"""
AVX2 = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt"


@pytest.mark.parametrize(
    ("name", "features", "width", "needs", "dtypes"),
    [("haswell", AVX2, 32, "+avx2", ["float32"]), ("x86-64", "+sse2", 16, "+sse2", ["float32"])],
    ids=["avx2", "without-fma"],
)
def test_products_on_other_machines(name, features, width, needs, dtypes, tmp_path):
    if needs not in native.host()[1].split(","):
        pytest.skip(f"this machine does not run code for {name}")
    text = FORCED.format(
        folder=str(Path(__file__).parent), name=name, features=features, width=width, dtypes=dtypes
    )
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": name}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("first", "second"),
    [((5, 20, 30), (30, 40)), ((20, 30), (5, 30, 40)), ((2, 1, 20, 30), (5, 30, 40)), ((2, 5, 20, 30), (2, 1, 30, 40)),
     ((3, 1, 20, 30), (1, 4, 30, 40)), ((5, 20, 30), (30,)), ((30,), (5, 30, 40)), ((40,), (40,)), ((3, 90, 300), (3, 300, 300)),
     ((2, 1, 90, 300), (3, 300, 300)), ((96, 4, 4), (96, 4, 4))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_batches_broadcast_without_copies(first, second, dtype):
    native.address(EMPTY)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, shape).astype(dtype) for shape in (first, second))  # sums are exact
    if dtype.startswith("complex"):
        a, b = a + 1j * a[..., ::-1], b - 1j * b[::-1]
        a, b = a.astype(dtype), b.astype(dtype)
    matmul = contract.make_matmul(dtype)
    np.testing.assert_array_equal(matmul(a, b), a @ b)
    outside_in = np.swapaxes(np.ascontiguousarray(np.swapaxes(a, 0, -1)), 0, -1)
    np.testing.assert_array_equal(matmul(outside_in, b), a @ b)


@pytest.mark.parametrize(
    "shape", [(130, 300, 260), (500, 70, 90), (3, 200, 3000), (1, 900, 700), (900, 700, 1)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_the_number_of_threads_changes_no_bit(shape, transposed):
    rows, depth, columns = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((rows, depth)).astype("float32")
    b = rng.standard_normal((columns, depth) if transposed else (depth, columns)).astype("float32")
    matmul = contract.make_matmul("float32")
    before = launch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 7):
            launch.set_num_threads(threads)
            found.append(matmul(a, b.T if transposed else b))
    finally:
        launch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("shape", [(9, 9, 9), (70, 80, 90), (200, 300, 300), (1, 300, 300), (300, 300, 1)])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_reaches_its_row_and_column_only(shape, special):
    rows, depth, columns = shape
    a, b = np.ones((rows, depth), np.float32), np.ones((depth, columns), np.float32)
    a[rows // 2, 3] = special
    expected = np.full((rows, columns), float(depth), np.float32)
    expected[rows // 2] = special
    np.testing.assert_array_equal(contract.make_matmul("float32")(a, b), expected)
    b[3] = 0  # inf times 0
    expected = np.full((rows, columns), depth - 1.0, np.float32)
    expected[rows // 2] = np.nan
    np.testing.assert_array_equal(contract.make_matmul("float32")(a, b), expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 5), (5, 4)),
        ((4, 0), (0, 5)),
        ((4, 5), (5, 0)),
        ((0, 4, 5), (5, 6)),
        ((3, 4, 0), (0, 6)),
        ((0,), (0,)),
    ],
)
def test_empty_products(first, second):
    native.address(EMPTY)
    for dtype in ("float32", "float64", "complex64"):
        actual = contract.make_matmul(dtype)(np.ones(first, dtype), np.ones(second, dtype))
        expected = np.matmul(np.ones(first, dtype), np.ones(second, dtype))
        assert actual.shape == expected.shape and actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)


def test_operands_that_overlap_and_may_not_be_written():
    x = np.random.default_rng(0).standard_normal((300, 300)).astype("float32")
    x.flags.writeable = False
    matmul = contract.make_matmul("float32")
    np.testing.assert_allclose(matmul(x, x), x.astype(float) @ x, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        matmul(x[:200], x[:, 100:]), x[:200].astype(float) @ x[:, 100:], rtol=1e-4, atol=1e-3
    )


def test_memory_that_no_machine_has_is_an_error_that_names_the_request():
    column = corelib.broadcast_to(corelib.ones((1, 1), device="cpu"), (1 << 24, 1))
    with pytest.raises(MemoryError, match="16777216"):
        column @ column.mT


def test_a_vector_of_a_view_is_read_again_by_a_compiled_program():
    rng = np.random.default_rng(0)
    matrix = corelib.asarray(rng.standard_normal((300, 200)).astype("float32"), device="cpu")
    compiled = corelib.compile(lambda m, x: corelib.exp((m @ x[:, 1:2]) * 0.01) @ x[:1, :3])
    for _ in range(5):
        x = rng.standard_normal((200, 3)).astype("float32")
        expected = np.exp(matrix.numpy() @ x[:, 1:2] * np.float32(0.01)) @ x[:1]
        actual = compiled(matrix, corelib.asarray(x, device="cpu")).numpy()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
