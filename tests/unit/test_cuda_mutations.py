"""The emulator would notice a missing barrier: each one in the `cuda` kernels is taken out in turn, and a result goes wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import to_device

from corelib_cuda import contract, launch, reduce, softmax

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_mutations"),
]
BARRIER = "__syncthreads();"
RNG = np.random.default_rng(0)


def sum_of_rows(library):
    r = reduce.reduction("sum", "int32", "int64")
    x, y = RNG.integers(-99, 99, (2, 3000), np.int32), emulated_cupy.ndarray((2,), np.int64)
    shape = np.array([(2, 3000, 1, 1, 3000)], reduce.SHAPE)
    library.get_function(r.entry("rows", "")[0])((2,), (256, 1), (to_device(x), y, shape, np.int32(0)))
    return (y.get() == x.sum(1)).all()


def sum_of_columns(library):
    r = reduce.reduction("sum", "int32", "int64")
    x, y = RNG.integers(-99, 99, (300, 5), np.int32), emulated_cupy.ndarray((5,), np.int64)
    shape = np.array([(1, 300, 5, 1, 300)], reduce.SHAPE)
    library.get_function(r.entry("columns", "")[0])((1,), (8, 32, 1), (to_device(x), y, shape))
    return (y.get() == x.sum(0)).all()


def softmax_of_rows(library):
    x, y = RNG.standard_normal((2, 1500)), emulated_cupy.ndarray((2, 1500), np.float64)
    name = softmax.softmax("float64").entry(1, 8)[0]
    library.get_function(name)((2,), (256, 1), (to_device(x), y, np.int64(2), np.int32(1500)))
    e = np.exp(x - x.max(1, keepdims=True))
    return np.allclose(y.get(), e / e.sum(1, keepdims=True), rtol=1e-13)


def integer_product(library):
    a, b = RNG.integers(0, 99, (20, 50), np.int64), RNG.integers(0, 99, (50, 20), np.int64)
    y, sizes = emulated_cupy.ndarray((20, 20), np.int64), np.array([(1, 20, 50, 20, 0, 0)], contract.SIZES)
    library.get_function("matmul_int64")((4,), (16, 16), (to_device(a), to_device(b), y, sizes))
    return (y.get() == a @ b).all()


def reduction_entries():
    r = reduce.reduction("sum", "int32", "int64")
    return [r.entry("rows", "")[1], r.entry("columns", "")[1]]


PROGRAMS = {  # file: its entry points, and what must come out right
    "reduce.cu": (reduction_entries, (sum_of_rows, sum_of_columns)),
    "softmax.cu": (lambda: [softmax.softmax("float64").entry(1, 8)[1]], (softmax_of_rows,)),
    "matmul.cu": (lambda: [contract.integer_kernel("int64").entry], (integer_product,)),
}
# The first barrier of reduce_row keeps a reduction from the one before it: only a kernel with two of them, softmax, needs it.
PLACES = [
    ("reduce.cu", 1),
    ("reduce.cu", 2),
    ("softmax.cu", 0),
    ("softmax.cu", 1),
    ("matmul.cu", 2),
    ("matmul.cu", 3),
]


def right(code, checks, order, monkeypatch):
    monkeypatch.setattr(emulated_cupy, "order", order)
    try:
        library = emulated_cupy.Library(code)
        return all(check(library) for check in checks)
    except emulated_cupy.CudaError:
        return False


@pytest.mark.parametrize("file", PROGRAMS)
def test_with_every_barrier_the_results_are_right(file, monkeypatch):
    entries, checks = PROGRAMS[file]
    for order in emulated_cupy.ORDERS:
        assert right(launch.source(file, entries()), checks, order, monkeypatch)


@pytest.mark.parametrize(("file", "place"), PLACES)
def test_without_one_barrier_a_result_is_wrong(file, place, monkeypatch):
    entries, checks = PROGRAMS[file]
    parts = launch.source(file, entries()).split(BARRIER)
    code = BARRIER.join(parts[: place + 1]) + ";" + BARRIER.join(parts[place + 1 :])
    assert len(parts) - 1 > place
    assert not all(right(code, checks, order, monkeypatch) for order in emulated_cupy.ORDERS)
