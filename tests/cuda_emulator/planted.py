"""Bugs planted in the kernels of the `cuda` backend, one at a time, and which check of the emulator catches each.

    python tests/cuda_emulator/planted.py          # writes docs/cuda-planted-bugs.md
    pytest tests/unit/test_cuda_planted.py         # the same bugs as tests

A bug is a substitution in the text of one source file, or a change of what is handed to a launch. The op that its kernel
serves is run on a few arrays, in the three orders of threads; what stops the launch, or a result that is not NumPy's, is the
check that has caught it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import emulated_cupy
import numpy as np
from harness import run

from corelib import dtypes
from corelib_cuda import launch
from corelib_cuda.backend import CudaBackend

PAGE = Path(__file__).parents[2] / "docs" / "cuda-planted-bugs.md"
RNG = np.random.default_rng(0)
WRONG = "a wrong result"


# --------------------------------------------------------------------------------------------------- what must come out


def equal(expected: Any, actual: Any) -> bool:
    return np.array_equal(np.asarray(expected), actual, equal_nan=np.asarray(expected).dtype.kind == "f")


def near(expected: Any, actual: Any) -> bool:
    return np.allclose(expected, actual, rtol=1e-5, atol=1e-7, equal_nan=True)


def check_sum(device: Any) -> bool:
    found = True
    for shape, axis in (
        ((3, 3000), 1),
        ((2, 1001), 1),
        ((40, 37), 1),
        ((300, 5), 0),
        ((103, 5), 0),
        ((67, 33), 0),
    ):
        x = RNG.integers(-99, 99, shape).astype(np.int32)
        y = run(device, "sum", x, axis=(axis - 2,), dtype=dtypes.int64, keepdims=False)
        found &= equal(x.sum(axis), y)
    return found


def check_cut_sum(device: Any) -> bool:
    x = RNG.integers(-99, 99, 70001).astype(np.int32)
    return equal(x.sum(), run(device, "sum", x, axis=(-1,), dtype=dtypes.int64, keepdims=False))


def check_extremes(device: Any) -> bool:
    x = -1.0 - np.abs(RNG.standard_normal((3, 700)).astype(np.float32))
    y = x.copy()
    y[1, 300] = np.nan
    return all(
        equal(getattr(v, name)(1), run(device, name, v, axis=(-1,), keepdims=False))
        for v in (x, y)
        for name in ("max", "min")
    )


def check_prod(device: Any) -> bool:
    x = RNG.integers(1, 3, (2, 40)).astype(np.int64)
    return equal(x.prod(1), run(device, "prod", x, axis=(-1,), dtype=dtypes.int64, keepdims=False))


def check_scan(device: Any) -> bool:
    found = True
    for shape, axis in (((2, 3000), 1), ((70, 30), 0)):
        x = RNG.integers(-9, 9, shape).astype(np.int64)
        found &= equal(x.cumsum(axis), run(device, "cumulative_sum", x, axis=axis - 2, dtype=dtypes.int64))
    return found


def check_sort(device: Any) -> bool:
    found = True
    for shape in ((3, 37), (2, 1024), (1, 3500)):
        x = RNG.integers(0, 50, shape).astype(np.int32)
        found &= equal(np.argsort(x, 1, kind="stable"), run(device, "argsort", x, axis=-1, descending=False))
    return found


def check_search(device: Any) -> bool:
    x, v = np.sort(RNG.integers(0, 50, 100)), RNG.integers(-5, 60, 40)
    return all(
        equal(np.searchsorted(x, v, side), run(device, "searchsorted", x, v, side=side))
        for side in ("left", "right")
    )


def check_gather(device: Any) -> bool:
    x, i = RNG.standard_normal((300, 130)).astype(np.float32), RNG.integers(-300, 300, 9)
    i[0] = 299
    return equal(x[i], run(device, "gather", x, i, axis=-2))


def check_take_along(device: Any) -> bool:
    x, i = RNG.standard_normal((5, 7)).astype(np.float32), RNG.integers(0, 7, (5, 3))
    return equal(np.take_along_axis(x, i, 1), run(device, "take_along_axis", x, i, axis=-1))


def check_scatter(device: Any) -> bool:
    x, values, i = (
        np.zeros((6, 3), np.float32),
        RNG.standard_normal((50, 3)).astype(np.float32),
        RNG.integers(0, 5, 50),
    )
    expected = x.copy()
    expected[i] = values
    return equal(expected, run(device, "scatter", x, values, i, axis=-2, overwrite=False))


def check_scatter_add(device: Any) -> bool:
    x, values, i = np.zeros((6, 3), np.int64), RNG.integers(0, 99, (50, 3)), RNG.integers(0, 6, 50)
    expected = x.copy()
    np.add.at(expected, i, values)
    return equal(expected, run(device, "scatter_add", x, values, i, axis=-2, overwrite=False))


def check_random(device: Any) -> bool:
    """Words of a counter whose low half overflows on the way are those of each counter by itself."""
    key, first = np.array([1, 2], np.uint32), 2**32 - 2
    draw = lambda start, n: run(
        device,
        "random_bits",
        key,
        np.array(start, np.uint64),
        found_under=dtypes.uint32,
        shape=(n,),
        dtype=dtypes.uint32,
    )
    one = np.concatenate([draw(first + k, 4) for k in range(4)])
    high = not equal(draw(0, 4), draw(2**32, 4))
    return (
        high
        and equal(one, draw(first, 16))
        and equal(one[:15], draw(first, 15))
        and equal(one[:2], draw(first, 2))
    )


def check_matmul(device: Any) -> bool:
    a, b = RNG.integers(0, 99, (20, 50)), RNG.integers(0, 99, (50, 21))
    big = np.full((2, 2), 2**62)
    return equal(a @ b, run(device, "matmul", a, b)) and equal(big @ big, run(device, "matmul", big, big))


def check_softmax(device: Any) -> bool:
    found = True
    for shape in ((5, 64), (3, 4096), (2, 1001), (9, 40), (1, 20001)):
        x = (RNG.standard_normal(shape) * 5 - 300).astype(np.float32)
        e = np.exp((x - x.max(1, keepdims=True)).astype(np.float64))
        found &= near(e / e.sum(1, keepdims=True), run(device, "softmax", x, axis=-1))
    return found


def check_add(device: Any) -> bool:
    x = RNG.standard_normal(5003).astype(np.float32)
    m = RNG.standard_normal((5, 6, 7)).astype(np.float32)
    on_device = emulated_cupy._device(m)
    return equal(x + x, run(device, "add", x, x)) and equal(
        m.transpose(2, 0, 1) + m[0, 0, 0], run(device, "add", on_device.transpose((2, 0, 1)), m[0, 0, 0])
    )


def check_large_add(device: Any) -> bool:
    x = RNG.standard_normal(300001).astype(np.float32)
    return equal(x + x, run(device, "add", x, x))


def check_integers(device: Any) -> bool:
    a, b = np.array([7, -7, 5, -(2**31), 9, 1], np.int32), np.array([2, 2, 0, -1, 40, -3], np.int32)
    quotient = np.array([3, -4, 0, -(2**31), 0, -1], np.int32)
    shifted = np.array([28, -28, 5, 0, 0, 0], np.int32)
    return equal(quotient, run(device, "floor_divide", a, b)) and equal(
        shifted, run(device, "bitwise_left_shift", a, b)
    )


def check_maximum(device: Any) -> bool:
    a, b = np.array([1, np.nan, 2, -0.0], np.float32), np.array([np.nan, 1, 3, 0.0], np.float32)
    y = run(device, "maximum", a, b)
    return equal(np.maximum(a, b), y) and not np.signbit(y[3])


def check_cast(device: Any) -> bool:
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519.0, 2**-24, 1e-9, np.nan], np.float32)
    return equal(x.astype(np.float16), run(device, "astype", x, dtype=dtypes.float16).view(np.float16))


# ------------------------------------------------------------------------------------------------------------- the bugs


class Bug(NamedTuple):
    """``file``: where ``old`` (the only one, or number ``which``) becomes ``new``; ``check``: what is run then.
    ``missed``: why nothing catches it here.
    """

    kind: str
    name: str
    file: str
    old: str
    new: str
    check: Callable[[Any], bool]
    which: int = 0
    missed: str = ""


BARRIER = "__syncthreads();"


def barrier(file: str, which: int, what: str, check: Any) -> Bug:
    return Bug("dropped barrier", f"{file}: {what}", file, BARRIER, ";", check, which)


BUGS = [
    barrier("common.cuh", 0, "before the scratch of a row is used again", check_softmax),
    barrier("common.cuh", 1, "before the warps' values are read", check_sum),
    barrier("reduce.cu", 0, "in the tree over columns", check_sum),
    barrier("scan.cu", 1, "before the totals are read", check_scan),
    barrier("scan.cu", 2, "after a tile is loaded", check_scan),
    barrier("scan.cu", 3, "before a tile is stored", check_scan),
    barrier("sort.cu", 0, "after a tile is loaded", check_sort),
    barrier("sort.cu", 1, "between two steps of the network", check_sort),
    barrier("sort.cu", 2, "before the cuts are read", check_sort),
    barrier("sort.cu", 3, "before two runs are merged", check_sort),
    barrier("matmul.cu", 0, "after two tiles are loaded", check_matmul),
    barrier("matmul.cu", 1, "before the next tiles are loaded", check_matmul),
    Bug("barrier divergence", "common.cuh: a barrier in the branch of the first lanes", "common.cuh",
        "if (threadIdx.x % 32 == 0) row[threadIdx.x / 32] = value;\n    __syncthreads();",
        "if (threadIdx.x % 32 == 0) { row[threadIdx.x / 32] = value; __syncthreads(); }", check_sum),
    Bug("barrier divergence", "scan.cu: a barrier for the last lanes alone", "scan.cu",
        "if (lane == 31) scratch[warp] = sum;\n    __syncthreads();", "if (lane == 31) { scratch[warp] = sum; __syncthreads(); }", check_scan),
    Bug("wrong mask", "common.cuh: half of the lanes named in a shuffle", "common.cuh", "__shfl_xor_sync(0xffffffffu", "__shfl_xor_sync(0x0000ffffu", check_sum),
    Bug("wrong mask", "common.cuh: the first exchange of a warp left out", "common.cuh", "int mask = 16;", "int mask = 8;", check_sum),
    Bug("wrong mask", "scan.cu: a lane too few adds its neighbour", "scan.cu", "if (lane >= distance)", "if (lane > distance)", check_scan),
    Bug("wrong mask", "sort.cu: a tile's places behind the row hold the lowest key", "sort.cu", "highest_integer<Key>()", "Key(0)", check_sort),
    Bug("off by one", "reduce.cu: a row is read one element too far", "reduce.cu", "i < end; i += blockDim.x)\n            part[0]", "i <= end; i += blockDim.x)\n            part[0]", check_sum),
    Bug("off by one", "reduce.cu: four rows at once, one beyond the last", "reduce.cu", "i + 3 * step < end", "i + 3 * step <= end", check_sum),
    Bug("off by one", "elementwise.cu: the rest, without its bound", "elementwise.cu", "if (first < N && i < n)", "if (first < N)", check_add),
    Bug("off by one", "index.cu: one thread more than elements", "index.cu", "i < n_; i +=", "i <= n_; i +=", check_gather),
    Bug("off by one", "index.cu: the first value of the next place is added", "index.cu", "k < begin[p + 1]; k++", "k <= begin[p + 1]; k++", check_scatter_add),
    Bug("off by one", "random.cu: the last, shorter packet stored whole", "random.cu", "if (4 * i + 4 <= n)", "if (4 * i < n)", check_random),
    Bug("off by one", "sort.cu: the search ends one element early", "sort.cu", "low = 0, high = length;", "low = 0, high = length - 1;", check_search),
    Bug("missing bound", "reduce.cu: the last chunk is as long as the others", "reduce.cu",
        "(begin + shape.chunk < shape.length ? begin + shape.chunk : shape.length) : 0", "(begin + shape.chunk) : 0", check_cut_sum),
    Bug("missing bound", "matmul.cu: a row is read beyond its end, and multiplied by 0", "matmul.cu", "row < s.rows && over < s.depth", "row < s.rows",
        check_matmul, missed="the 256 bytes behind an array can be read, and what was read here does not matter"),
    Bug("missing bound", "matmul.cu: columns of the result", "matmul.cu", "if (row < s.rows && column < s.columns) c", "if (row < s.rows) c", check_matmul),
    Bug("missing bound", "softmax.cu: one row more than there are", "softmax.cu", "row < rows;", "row <= rows;", check_softmax),
    Bug("missing bound", "sort.cu: the second run of the last pair", "sort.cu",
        "first + 2 * run < length ? first + 2 * run : length", "first + 2 * run", check_sort),
    Bug("wrong identity", "reducers.cuh: maxima begin at 0", "reducers.cuh",
        "static INLINE T start() { return Limits<T, Number<T>::floating>::lowest(); }", "static INLINE T start() { return T(0); }", check_extremes),
    Bug("wrong identity", "reducers.cuh: products begin at 0", "reducers.cuh", "static INLINE State start() { return 1; }", "static INLINE State start() { return 0; }", check_prod),
    Bug("wrong identity", "softmax.cu: a row's maximum begins at 0", "softmax.cu", "T top = -infinity(T(0));", "T top = 0;", check_softmax),
    Bug("wrong identity", "scan.cu: a tile forgets what was before it", "scan.cu", "carry = R::combine(carry, total);", "carry = total;", check_scan),
    Bug("misaligned access", "reduce.cu: packets of rows that do not begin aligned", "reduce.cu", "if (packed) {", "if (true) {", check_sum),
    Bug("misaligned access", "random.cu: packets one word further on", "random.cu",
        "reinterpret_cast<Packet<uint32, 4>*>(words)[i]", "reinterpret_cast<Packet<uint32, 4>*>(words + 1)[i]", check_random),
    Bug("shrunken index", "elementwise.cu: packets counted in 16 bits", "elementwise.cu", "const Index packets = n / N,", "const uint16 packets = n / N; const Index", check_large_add),
    Bug("shrunken index", "index.cu: the offset of a gathered element in 16 bits", "index.cu",
        "x[(o * e.places + index[k]) * e.inner + j]", "x[int16((o * e.places + index[k]) * e.inner + j)]", check_gather),
    Bug("shrunken index", "random.cu: the counter in 32 bits", "random.cu", "philox(base + uint64(i),", "philox(uint32(base + uint64(i)),", check_random),
    Bug("shared memory", "scan.cu: a tile without its padding", "scan.cu", "tile[256 * (per_thread + 1)]", "tile[256 * per_thread]", check_scan),
    Bug("shared memory", "matmul.cu: a tile one column short", "matmul.cu", "left[tile][tile + 1]", "left[tile][tile - 1]", check_matmul),
    Bug("arithmetic", "matmul.cu: products formed in a signed type", "matmul.cu", "sum += left[threadIdx.y][k] * right[k][threadIdx.x]",
        "sum += T(left[threadIdx.y][k]) * T(right[k][threadIdx.x])", check_matmul),
    Bug("arithmetic", "elementwise.cu: an integer divided by zero", "elementwise.cu", "if (b == 0) return 0;", ";", check_integers),
    Bug("arithmetic", "elementwise.cu: a shift by more than the width", "elementwise.cu",
        "if (is_negative(shift) || shift >= T(8 * sizeof(T))) return 0;", ";", check_integers),
    Bug("arithmetic", "common.cuh: NaN loses against a number", "common.cuh", "if (b != b) return b;", ";", check_maximum),
    Bug("arithmetic", "cast.cuh: ties are not rounded to even", "cast.cuh", "+ (bits >> 13 & 1)) >> 13)", ") >> 13)", check_cast),
    Bug("order of threads", "index.cu: the last thread to come writes", "index.cu", "atomicMax(&writer[index[k]], k);", "writer[index[k]] = k;", check_scatter),
    Bug("order of equals", "sort.cu: equal keys of two runs change places", "sort.cu", "if (a[middle] <= b[taken - 1 - middle])", "if (a[middle] < b[taken - 1 - middle])", check_sort),
    Bug("speed", "matmul.cu: all rows of a tile in the same banks", "matmul.cu", "left[tile][tile + 1]", "left[tile][tile]", check_matmul,
        missed="bank conflicts cost time only, which the emulator does not have"),
    Bug("race between blocks", "index.cu: a maximum that is read, compared and written in three steps", "index.cu", "atomicMax(&writer[index[k]], k);",
        "if (writer[index[k]] < k) writer[index[k]] = k;", check_scatter,
        missed="fibers switch at barriers and warp exchanges only, and blocks run one after the other"),
]  # fmt: skip


class Launch(NamedTuple):
    """A wrong argument of a launch: ``change`` makes it of the right ones."""

    kind: str
    name: str
    change: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    missed: str = ""


LAUNCHES = [
    Launch("wrong argument", "an int32 for an int64", lambda a: (*a[:-1], np.int32(a[-1]))),
    Launch("wrong argument", "a Python float for an integer", lambda a: (*a[:-1], float(a[-1]))),
    Launch("wrong argument", "one argument too few", lambda a: a[:-1]),
    Launch("wrong argument", "an array of the host for one of the device", lambda a: (a[0].get(), *a[1:])),
]


# ---------------------------------------------------------------------------------------------------------- trying them


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The sources with the bug, compiled anew."""
    original, prepared = launch.FOLDER, dict(emulated_cupy._prepared)
    with tempfile.TemporaryDirectory() as folder:
        for file in original.glob("*.cu*"):
            text = file.read_text(encoding="utf-8")
            if file.name == bug.file:
                parts = text.split(bug.old)
                assert len(parts) > bug.which + 1, f"{bug.file} no longer has the text {bug.old!r}"
                text = bug.old.join(parts[: bug.which + 1]) + bug.new + bug.old.join(parts[bug.which + 1 :])
            Path(folder, file.name).write_text(text, encoding="utf-8")
        launch.FOLDER = Path(folder)
        _forget()
        try:
            yield
        finally:
            launch.FOLDER = original
            _forget()
            emulated_cupy._prepared.update(prepared)


def _forget() -> None:
    launch.text.cache_clear()
    emulated_cupy._prepared.clear()
    emulated_cupy.unload()


@contextlib.contextmanager
def launched_with(bug: Launch) -> Iterator[None]:
    call = launch.Kernel.__call__

    def changed(self: Any, grid: Any, block: Any, arguments: tuple[Any, ...]) -> None:
        call(self, grid, block, bug.change(arguments) if self.name == "random_words" else arguments)

    launch.Kernel.__call__ = changed  # type: ignore[method-assign]
    try:
        yield
    finally:
        launch.Kernel.__call__ = call  # type: ignore[method-assign]


def tried(bug: Bug | Launch, device: Any) -> str:
    """What caught a bug; empty if nothing did."""
    found = []
    with planted(bug) if isinstance(bug, Bug) else launched_with(bug):
        check = bug.check if isinstance(bug, Bug) else check_random
        for order in emulated_cupy.ORDERS:
            emulated_cupy.order = order
            try:
                caught = "" if check(device) else WRONG
            except (emulated_cupy.CudaError, IndexError) as error:
                caught = said(str(error))
            finally:
                emulated_cupy.order = "ascending"
            if caught and caught not in found:
                found.append(caught)
    return ", ".join(sorted(found))


SENTENCES = ("barrier divergence", "warp divergence", "deadlock", "illegal address", "misaligned", "array index out of bounds", "shift out of range",
             "integer division by zero", "signed overflow", "conversion out of range", "only whole warps", "wrote past the end", "arguments for", "the kernel takes")  # fmt: skip


def said(message: str) -> str:
    """The emulator's check, by the words of its report."""
    return next(
        (s for s in SENTENCES if s in message),
        "an index out of range" if "range" in message else message.splitlines()[0][:60],
    )


def table() -> tuple[list[str], int, int]:
    """The page's lines, and how many bugs there are and were caught."""
    rows, caught = [], 0
    with emulated_cupy.installed():
        device = CudaBackend("cuda")
        for bug in (*BUGS, *LAUNCHES):
            by = tried(bug, device)
            caught += bool(by)
            rows.append(f"| {bug.kind} | {bug.name} | {by or f'**missed**: {bug.missed}'} |")
            print(rows[-1], file=sys.stderr)
    return rows, len(rows), caught


def main() -> int:
    reason = emulated_cupy.unusable()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    rows, count, caught = table()
    PAGE.write_text(
        "\n".join([
            "# Bugs planted in the CUDA kernels",
            "",
            f"{count} bugs, one at a time, and what of the emulator of `tests/cuda_emulator` caught each: {caught} of {count}. Nothing here ran on a GPU.",
            "Written by `python tests/cuda_emulator/planted.py`; `tests/unit/test_cuda_planted.py` holds it.",
            "",
            "| kind | bug | caught by |",
            "|---|---|---|",
            *rows,
            "",
        ]),
        encoding="utf-8",
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
