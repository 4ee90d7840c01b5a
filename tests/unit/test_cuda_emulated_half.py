"""float16 and bfloat16 on the emulated `cuda` device: casts rounded once, elements moved as words, transfers."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import HALF, NAMES, run, to_device

from corelib import dtypes
from corelib_cuda import backend as cuda_backend
from corelib_cuda import elementwise, half, indexing

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_half"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of casts that overflow
]


def prepare():
    """Compile the casts in one source: far quicker than one by one."""
    others = (*NAMES, "complex64", "complex128")
    pairs = [(h, t) for h in HALF for t in (*others, *HALF)] + [
        (t, h) for h in HALF for t in others if "complex" not in t
    ]
    entries = [elementwise.cast_kernel(*pair).entry("a", "dense", 32) for pair in pairs]
    entries += [elementwise.arange_kernel(h, "float").entry("pvv", "dense", 32) for h in HALF]
    emulated_cupy.prepare("elementwise.cu", entries)
    moves = [k for k in indexing.every_move([]) if k.name.endswith("uint16")]
    emulated_cupy.prepare("index.cu", [(k.name, k.entry) for k in moves])


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        prepare()
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=HALF)
def dtype(request):
    return dtypes.as_dtype(request.param)


def every_word():
    return np.arange(2**16, dtype=np.uint16)


def array(words, dtype):
    return half.Half(to_device(np.asarray(words, np.uint16)), dtype)


def words_of(numbers, dtype):
    """By the core, which rounds once."""
    return np.frombuffer(bytes(dtype.pack([dtype.round(float(x)) for x in numbers])), np.uint16)


def cast(device, x, target):
    return run(device, "astype", x, dtype=dtypes.as_dtype(target))


def equal_words(expected, found, dtype):
    """The same bits, but that one NaN is as good as another."""
    nan = np.isnan(dtype.unpack(expected.tobytes()))
    np.testing.assert_array_equal(np.isnan(dtype.unpack(found.tobytes())), nan)
    np.testing.assert_array_equal(found[~nan], expected[~nan])


def test_every_number_becomes_the_same_float32_and_comes_back(device, dtype):
    wide = cast(device, array(every_word(), dtype), "float32")
    np.testing.assert_array_equal(wide, np.array(dtype.unpack(every_word().tobytes()), np.float32))
    equal_words(every_word(), cast(device, wide, dtype), dtype)
    for other in ("float64", "complex64", "complex128"):
        np.testing.assert_array_equal(
            cast(device, array(every_word(), dtype), other), wide.astype(dtypes.as_dtype(other).numpy)
        )
    np.testing.assert_array_equal(cast(device, array(every_word(), dtype), "bool"), wide != 0)
    for integer in ("int8", "uint8", "int32", "int64", "uint64"):
        np.testing.assert_array_equal(
            cast(device, array(every_word(), dtype), integer), run(device, "astype", wide, dtype=dtypes.as_dtype(integer))
        )  # fmt: skip
    for other in map(dtypes.as_dtype, HALF):
        equal_words(words_of(wide, other), cast(device, array(every_word(), dtype), other), other)


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_casts_round_once_to_the_nearest_with_ties_to_even(device, dtype, source):
    """Halfway between neighbours, and next to it: two roundings, by way of float32, would make a tie of the latter."""
    finite = [x for x in dtype.unpack(every_word().tobytes()) if 0 <= x < math.inf]
    numbers = np.array(sorted({*finite, 2 * dtype.max}))
    halfway = ((numbers[:-1] + numbers[1:])[::7] / 2).astype(source)
    beside = [np.nextafter(halfway, np.array(to, source)) for to in (0, np.inf)]
    tried = np.concatenate([halfway, *beside, np.array([0, math.nan, math.inf, 1e300]).astype(source)])
    tried = np.concatenate([tried, -tried])
    equal_words(words_of(tried, dtype), cast(device, tried, dtype), dtype)


@pytest.mark.parametrize("source", ["int64", "uint64", "int32", "uint8", "bool"])
def test_integers_round_once(device, dtype, source):
    d = dtypes.as_dtype(source)
    low, high = (0, 1) if source == "bool" else (d.min, d.max)
    ties = [(2**8 + 1) * 2**k + more for k in range(0, 54, 3) for more in (-1, 0, 1)]  # of bfloat16
    tried = [
        x
        for x in (0, 1, 2049, 65503, 65519, 65520, *ties, *(-x for x in ties), low, high)
        if low <= x <= high
    ]
    expected = []
    for x in tried:  # exactly: a double does not hold all of these
        place = max(abs(x).bit_length() - dtype.digits, 0)
        quotient, rest = divmod(abs(x), 1 << place)
        quotient += 2 * rest > 1 << place or (2 * rest == 1 << place and quotient % 2)
        expected.append(math.copysign(quotient << place, x))
    equal_words(words_of(expected, dtype), cast(device, np.array(tried, d.numpy), dtype), dtype)


def test_a_range_is_rounded_once(device, dtype):
    found = run(device, "arange", found_under=dtype, start=0.1, step=-0.7, size=100, dtype=dtype)
    equal_words(words_of([0.1 + i * -0.7 for i in range(100)], dtype), found, dtype)


# -------------------------------------------------------------------------------------------------------------- movement


def test_elements_are_moved_as_words(device, dtype):
    w = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) + 0x3C00
    x = array(w, dtype)
    i = np.array([1, -1, 0])
    one = words_of([1.5], dtype)[0]
    expected = w.copy()
    expected[:, :, [1, -1, 0]] = w[:, :, :3]
    for name, params, result in (
        ("reshape", {"shape": (4, 6)}, w.reshape(4, 6)),
        ("permute_dims", {"axes": (-1, -3, -2)}, w.transpose(2, 0, 1)),
        ("broadcast_to", {"shape": (5, 2, 3, 4)}, np.broadcast_to(w, (5, 2, 3, 4))),
        ("flip", {"axis": (-3, -1)}, w[::-1, :, ::-1]),
        ("pad", {"pad_width": ((0, 0), (1, 0), (0, 2)), "constant_value": 1.5},
         np.pad(w, ((0, 0), (1, 0), (0, 2)), constant_values=one)),
        ("strided_slice", {"start": (0, 0, 3), "size": (2, 3, 2), "step": (1, 1, -2)}, w[:, :, ::-2]),
    ):  # fmt: skip
        np.testing.assert_array_equal(run(device, name, x, found_under=dtype, **params), result)
    np.testing.assert_array_equal(
        run(device, "concat", x, x, found_under=dtype, axis=-2), np.concatenate([w, w], -2)
    )
    np.testing.assert_array_equal(run(device, "gather", x, i, found_under=dtype, axis=-1), w[:, :, i])
    values = array(w[:, :, :3], dtype)
    found = run(device, "scatter", x, values, i, found_under=dtype, axis=-1, overwrite=False)
    np.testing.assert_array_equal(found, expected)
    condition = w % 2 == 0
    np.testing.assert_array_equal(
        run(device, "where", condition, x, 1.5, found_under=dtype), np.where(condition, w, one)
    )
    filled = run(device, "full", found_under=dtype, shape=(2, 3), fill_value=1.5, dtype=dtype)
    np.testing.assert_array_equal(filled, np.full((2, 3), one))


def test_negative_zero_is_zero(device, dtype):
    found = run(device, "nonzero", array(words_of([0, -0.0, math.nan, 1], dtype), dtype), found_under=dtype)
    np.testing.assert_array_equal(found[0], [2, 3])


def test_what_computes_is_left_to_the_core(device, dtype):
    from corelib.op import BY_NAME

    assert device.find(BY_NAME["add"], dtype) is None
    assert device.find(BY_NAME["scatter_add"], dtype) is None


# ------------------------------------------------------------------------------------------------------------- transfers


def test_words_go_to_the_host_and_back(device, dtype):
    w = words_of([0.5, -2, 1e-3, math.inf, 7, 0], dtype)
    x = device.from_host(w.tobytes(), (2, 3), dtype)
    assert (x.shape, x.dtype) == ((2, 3), dtype)
    np.testing.assert_array_equal(device.to_host(x), w.reshape(2, 3))
    assert device.owns(x)
    assert not device.owns(half.Half(x.words[::-1], dtype))
    y = device.copy(x)
    assert y.dtype is dtype
    assert y.words.data.ptr != x.words.data.ptr


def test_dlpack_names_the_dtype_where_cupy_knows_it(device, dtype):
    x = device.from_host(words_of([1, 2, 3], dtype).tobytes(), (3,), dtype)
    old, new = (types.SimpleNamespace(__version__=v) for v in ("13.6.0", "14.1.0"))
    if dtype.name == "bfloat16":
        assert half.exported(x, old) is None
    exported = half.exported(x, new)
    assert exported.dtype == dtype.numpy
    assert exported.data.ptr == x.words.data.ptr
    imported = half.imported(exported)
    assert imported.dtype is dtype
    np.testing.assert_array_equal(imported.words.get(), x.words.get())
