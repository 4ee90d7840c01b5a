"""The `cuda` kernels compute what the contract says: executed on the CPU by tests/cuda_emulator, against Python and NumPy.

Everything but the device is real: sources, entry points, choice of kernels, launches, argument lists. The emulator stops
at races within a block, accesses out of bounds or misaligned, and arguments that do not fit the kernel.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import FLOATING, INTEGERS, KIND, NAMES, pairs, run, same, to_device, values, wrapped

from corelib import dtypes
from corelib_cuda import backend as cuda_backend
from corelib_cuda import elementwise, layout

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated"),
]


# ------------------------------------------------------------------------------------------------------------ helpers


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=["ascending", "descending", "shuffled"])
def order(request, monkeypatch):
    """The order in which the threads of a block run: a missing barrier shows in one of them."""
    monkeypatch.setattr(emulated_cupy, "order", request.param)


@pytest.fixture(scope="module")
def prepared(device):
    """All element-wise kernels of a dtype, compiled together at the first test that needs them."""
    done = set()

    def prepare(dtype):
        if dtype in done:
            return
        done.add(dtype)
        entries = []
        for kernel in elementwise.every_kernel([dtype]):
            if "position" in kernel.inputs:
                entries.append(kernel.entry("pvv", "dense", 32))
            elif kernel.name.startswith("full"):
                entries.append(kernel.entry("v", "dense", 32))
            else:
                forms = "a" * len(kernel.inputs)
                entries += [kernel.entry(forms, walk, 32) for walk in ("dense", "strided")]
        others = [t for t in NAMES if t != dtype]
        entries += [elementwise.cast_kernel(dtype, t).entry("a", "dense", 32) for t in others]
        emulated_cupy.prepare("elementwise.cu", entries)

    return prepare


# ----------------------------------------------------------------------------------------- element-wise: what is right


def python_floor_divide(a, b):
    if b == 0 or math.isinf(a) or math.isinf(b) or math.isnan(a) or math.isnan(b):
        with np.errstate(all="ignore"):
            return float(np.divide(np.float64(a), np.float64(b)))
    return a // b


def python_remainder(a, b):
    return math.nan if b == 0 or math.isinf(a) or math.isnan(a) or math.isnan(b) else a % b


def python_maximum(a, b):
    if math.isnan(a) or math.isnan(b):
        return math.nan
    return (b if math.copysign(1, a) < 0 else a) if a == b else max(a, b)


def python_power(a, b):
    if b >= 0:
        return pow(a, b, 1 << 64)
    return {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)


INTEGER_OPS = {
    "negative": lambda a: -a,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "bitwise_invert": lambda a: ~a,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // b if b else 0,
    "remainder": lambda a, b: a % b if b else 0,
    "pow": python_power,
    "maximum": max,
    "minimum": min,
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
}
FLOATING_OPS = {
    "negative": np.negative,
    "abs": np.abs,
    "sign": lambda a: np.where(np.isnan(a), a, np.sign(a) + a.dtype.type(0)),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "sqrt": np.sqrt,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "copysign": np.copysign,
    "nextafter": np.nextafter,
    "floor_divide": np.vectorize(python_floor_divide, otypes=["f8"]),
    "remainder": np.vectorize(python_remainder, otypes=["f8"]),
    "maximum": np.vectorize(python_maximum, otypes=["f8"]),
    "minimum": np.vectorize(lambda a, b: -python_maximum(-a, -b), otypes=["f8"]),
}
COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
MATHEMATICS = {
    **{
        n: getattr(np, n)
        for n in [
            "exp",
            "expm1",
            "log",
            "log1p",
            "log2",
            "log10",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "hypot",
        ]
    },
    **{n: getattr(np, "arc" + n[1:]) for n in ["asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2"]},
    "erf": np.vectorize(math.erf, otypes=["f8"]),
    "pow": np.power,
}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic_wraps_and_divides_as_python_does(device, prepared, dtype):
    prepared(dtype)
    for name, python in INTEGER_OPS.items():
        operands = pairs(dtype) if name in elementwise.BINARY else (values(dtype),)
        expected = wrapped([python(*map(int, v)) for v in zip(*operands, strict=True)], dtype)
        same(expected, run(device, name, *operands))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_by_any_amount_are_defined(device, prepared, dtype):
    prepared(dtype)
    d = dtypes.as_dtype(dtype)
    x, n = (v.tolist() for v in pairs(dtype))
    inside = [0 <= k < d.bits for k in n]
    left = [v << k if ok else 0 for v, k, ok in zip(x, n, inside, strict=True)]
    right = [v >> k if ok else (-1 if v < 0 else 0) for v, k, ok in zip(x, n, inside, strict=True)]
    same(wrapped(left, dtype), run(device, "bitwise_left_shift", *pairs(dtype)))
    same(wrapped(right, dtype), run(device, "bitwise_right_shift", *pairs(dtype)))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_finite_and_already_rounded(device, prepared, dtype):
    x = values(dtype)
    for name in ("floor", "ceil", "round", "trunc"):
        same(x, run(device, name, x))
    for name, answer in (("isnan", False), ("isinf", False), ("isfinite", True)):
        same(np.full(x.shape, answer), run(device, name, x))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATING)
def test_floating_arithmetic_is_ieee_and_divides_as_python_does(device, prepared, dtype):
    prepared(dtype)
    for name, function in FLOATING_OPS.items():
        operands = pairs(dtype) if name in elementwise.BINARY else (values(dtype),)
        expected = function(*operands)
        same(expected.astype(bool if name.startswith("is") else dtype), run(device, name, *operands))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATING)
def test_elementary_functions_are_within_four_units_in_the_last_place(device, prepared, dtype):
    prepared(dtype)
    for name, function in MATHEMATICS.items():
        operands = pairs(dtype) if name in elementwise.BINARY else (values(dtype),)
        if name == "pow":
            operands = tuple(o[np.isfinite(operands[0]) & np.isfinite(operands[1])] for o in operands)
        expected = function(*(o.astype("f8") for o in operands)).astype(dtype)
        actual = run(device, name, *operands)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=name)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(
            actual[~finite & ~np.isnan(expected)], expected[~finite & ~np.isnan(expected)]
        )
        error = np.abs(actual[finite].astype("f8") - expected[finite]) / np.spacing(np.abs(expected[finite]))
        assert error.max() <= 4, name


@pytest.mark.parametrize("dtype", NAMES)
def test_comparisons_and_selection(device, prepared, dtype):
    prepared(dtype)
    a, b = pairs(dtype)
    for name, function in COMPARISONS.items():
        same(function(a, b), run(device, name, a, b))
    condition = np.arange(a.size) % 3 == 0
    same(np.where(condition, a, b), run(device, "where", condition, a, b))


def test_booleans_have_logic_and_an_order(device, prepared):
    prepared("bool")
    a, b = pairs("bool")
    same(~a, run(device, "bitwise_invert", a))
    for name, function in (
        ("bitwise_and", np.logical_and),
        ("bitwise_or", np.logical_or),
        ("bitwise_xor", np.logical_xor),
    ):
        same(function(a, b), run(device, name, a, b))
    same(a | b, run(device, "maximum", a, b))
    same(a & b, run(device, "minimum", a, b))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("source", NAMES)
def test_casts_saturate_from_floating_and_wrap_between_integers(device, prepared, source):
    prepared(source)
    x = values(source)
    for target in NAMES:
        t = dtypes.as_dtype(target)
        emulated_target = t.numpy
        if KIND[source] == "float" and t.kind in ("int", "uint"):
            number = np.where(np.isnan(x), 0, x).astype("f8")
            clipped = [t.max if v >= t.max else t.min if v <= t.min else int(v) for v in number.tolist()]
            expected = np.array(clipped, target)
        elif t.kind in ("int", "uint"):
            expected = wrapped(x.tolist(), target)
        else:
            expected = x.astype(emulated_target)
        same(expected, run(device, "astype", x, dtype=t))


# ------------------------------------------------------------------------------------------------ element-wise: layouts

LAYOUTS = {
    "transposed": lambda x: x.transpose((1, 0, 2)),
    "reversed": lambda x: x[::-1, :, ::-1],
    "every other": lambda x: x[:, ::2, ::2],
    "offset by one": lambda x: x.reshape(-1)[1:],
    "empty": lambda x: x[:0],
    "no dimensions": lambda x: x[1, 2, 3],
    "one plane": lambda x: x[:, 1],
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_every_layout_is_read_right(device, prepared, case):
    prepared("float32")
    x = np.arange(4 * 6 * 10, dtype=np.float32).reshape(4, 6, 10)
    host, on_device = LAYOUTS[case](x), LAYOUTS[case](to_device(x))
    same(-host, run(device, "negative", on_device))
    same(host - host, run(device, "subtract", on_device, on_device))


@pytest.mark.parametrize(
    "shapes",
    [((4, 5), (5,)), ((4, 1), (1, 5)), ((3, 1, 2), (4, 1)), ((), (3,)), ((2, 0), (1,)), ((1,), (1, 1))],
    ids=str,
)
def test_operands_broadcast(device, prepared, shapes):
    prepared("int32")
    a, b = (np.arange(math.prod(s), dtype=np.int32).reshape(s) + 1 for s in shapes)
    same(a - b, run(device, "subtract", a, b))


def test_operands_that_do_not_broadcast_are_refused(device):
    with pytest.raises(ValueError, match="do not broadcast"):
        run(device, "add", np.zeros((2, 3), "f4"), np.zeros((2, 4), "f4"))


def test_more_dimensions_than_a_layout_holds_are_copied_first(device, prepared):
    prepared("float32")
    ndim = layout.MAX_DIMS + 2
    x = np.arange(2.0**ndim, dtype=np.float32).reshape((2,) * ndim)
    axes = tuple(range(ndim))[::-1]
    same(x.transpose(axes) + x, run(device, "add", to_device(x).transpose(axes), to_device(x)))


def test_offsets_beyond_32_bits_take_the_wide_kernels(device, prepared, monkeypatch):
    monkeypatch.setattr(layout, "INDEX_LIMIT", 1)
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    same(x * x, run(device, "multiply", x, x))
    same(
        x.T[::-1] * x.T[::-1],
        run(device, "multiply", to_device(x).transpose((1, 0))[::-1], to_device(x).transpose((1, 0))[::-1]),
    )


@pytest.mark.parametrize(
    ("dtype", "scalar"), [("float32", 2.5), ("int8", -3), ("uint64", 2**63 + 1), ("bool", True)]
)
def test_python_scalars_are_kernel_arguments(device, dtype, scalar):
    x = np.resize(values(dtype), (3, 7))
    s = x.dtype.type(scalar)
    same(np.equal(x, s), run(device, "equal", x, scalar))
    same(np.equal(x, s)[:, ::2], run(device, "equal", scalar, to_device(x)[:, ::2]))
    condition = np.arange(21).reshape(3, 7) % 2 == 0
    same(np.where(condition, s, x), run(device, "where", condition, scalar, x))


# ------------------------------------------------------------------------------------------------------------- creation


def test_full_and_arange(device, prepared):
    for d in dtypes.ORDERED:
        prepared(d.name)
        v = values(d.name)[-1]
        same(
            np.full((3, 7), v), run(device, "full", found_under=d, shape=(3, 7), fill_value=v.item(), dtype=d)
        )
        if d.kind in ("int", "uint"):
            expected = wrapped([5 + 3 * i for i in range(100)], d.name)
            same(expected, run(device, "arange", found_under=d, start=5, step=3, size=100, dtype=d))
        elif d.kind == "float":
            expected = np.array([0.1 + i * -0.7 for i in range(100)], d.numpy)
            same(expected, run(device, "arange", found_under=d, start=0.1, step=-0.7, size=100, dtype=d))
    same(
        np.arange(2, -3, -1),
        run(device, "arange", found_under=dtypes.int64, start=2, step=-1, size=5, dtype=dtypes.int64),
    )
    same(
        np.empty(0, "f4"),
        run(device, "arange", found_under=dtypes.float32, start=0.0, step=1.0, size=0, dtype=dtypes.float32),
    )


# -------------------------------------------------------------------------------------------------------------- random


def philox(counter, key):
    """Philox4x32-10 by its definition, in Python's integers."""
    c, k = [*counter], [*key]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_the_oracle_agrees_with_the_published_vectors():
    assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert philox((ones,) * 4, (ones,) * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
@pytest.mark.parametrize("n", [0, 1, 4, 7, 2050])
def test_random_bits_are_philox_by_element(device, dtype, n):
    key, start = (
        np.array([0xDEADBEEF, 7], np.uint32),
        2**32 - 3,
    )  # the counter's low word overflows on the way
    blocks = [philox((c & 0xFFFFFFFF, c >> 32, 0, 0), key.tolist()) for c in range(start, start + n // 2 + 1)]
    words = np.array(blocks, np.uint32).reshape(-1)
    expected = words[:n] if dtype == "uint32" else words.view(np.uint64)[:n]
    d = dtypes.as_dtype(dtype)
    counter = np.array(start, np.uint64)
    same(expected, run(device, "random_bits", key, counter, found_under=d, shape=(n,), dtype=d))


def test_the_random_counter_wraps(device):
    key = np.zeros(2, np.uint32)
    d, last = dtypes.uint32, np.array(2**64 - 1, np.uint64)
    ones = 0xFFFFFFFF
    expected = np.array([philox((ones, ones, 0, 0), (0, 0)), philox((0, 0, 0, 0), (0, 0))], np.uint32)
    same(expected, run(device, "random_bits", key, last, found_under=d, shape=(2, 4), dtype=d))


def test_memory_that_is_free_shrinks_by_what_is_allocated(device):
    before = device.memory_stats()
    array = device.from_host(np.zeros(1024), (1024,), dtypes.float64)
    after = device.memory_stats()
    assert after["used"] - before["used"] == before["free"] - after["free"] == 8192 == array.size * 8
