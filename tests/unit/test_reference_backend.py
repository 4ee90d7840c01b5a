"""The reference backend as a whole: Philox against its published vectors, buffers in and out, and nothing missing."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array

import numpy as np
import pytest

from corelib.plugin_api import dtypes, ops
from corelib_reference.array import RefArray
from corelib_reference.backend import ReferenceBackend
from corelib_reference.random import philox4x32

BACKEND = ReferenceBackend("reference")

# ---- random bits

# Counter, key and result of philox4x32_10, from the known-answer file (kat_vectors) of the Random123 library.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_published_words(counter, key, expected):
    assert philox4x32(words(counter), words(key)) == words(expected)


def bits(key, counter, shape, dtype):
    operands = RefArray((2,), dtypes.uint32, list(key)), RefArray((), dtypes.uint64, [counter])
    return BACKEND.find(ops.random_bits.op, dtype)(*operands, shape=shape, dtype=dtype)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (4,), (7,), (3, 5)], ids=str)
def test_element_i_is_word_i_of_the_blocks_from_the_counter_on(shape):
    key, start = (7, 0xDEADBEEF), 2**64 - 2  # wraps around after two blocks
    blocks = [
        philox4x32((c & 0xFFFFFFFF, c >> 32, 0, 0), key) for c in ((start + i) % 2**64 for i in range(8))
    ]
    flat = [word for block in blocks for word in block]
    y = bits(key, start, shape, dtypes.uint32)
    assert (y.shape, y.dtype) == (shape, dtypes.uint32)
    assert y.data == flat[: math.prod(shape)]
    y = bits(key, start, shape, dtypes.uint64)
    assert (y.shape, y.dtype) == (shape, dtypes.uint64)
    assert (
        y.data
        == [low | high << 32 for low, high in zip(flat[::2], flat[1::2], strict=True)][: math.prod(shape)]
    )


def test_zero_key_and_counter_give_the_first_published_block():
    assert tuple(bits((0, 0), 0, (4,), dtypes.uint32).data) == words(KNOWN_ANSWERS[0][2])


# ---- buffers


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)], ids=str)
def test_buffers_come_back_as_they_went_in(shape, dtype):
    x = np.array(np.arange(math.prod(shape)).reshape(shape) % 3, dtype.numpy)
    y = BACKEND.from_host(x, shape, dtype)
    assert (y.shape, y.dtype, len(y.data)) == (shape, dtype, x.size)
    back = memoryview(BACKEND.to_host(y))
    assert back.c_contiguous
    assert back.nbytes == x.nbytes
    assert back.tobytes() == x.tobytes()


def test_any_buffer_of_the_right_size_will_do():
    raw = array("f", [1.5, -2.5])
    assert BACKEND.from_host(raw.tobytes(), (2,), dtypes.float32).data == [1.5, -2.5]
    assert BACKEND.from_host(raw, (2, 1), dtypes.float32).data == [1.5, -2.5]
    with pytest.raises(ValueError, match="8 bytes do not hold 3 elements of float32"):
        BACKEND.from_host(raw, (3,), dtypes.float32)


def test_special_floats_survive_the_host():
    x = np.array([-0.0, math.inf, -math.inf, math.nan, 1e-45], np.float32)
    back = np.frombuffer(BACKEND.to_host(BACKEND.from_host(x, (5,), dtypes.float32)), np.float32)
    np.testing.assert_array_equal(back, x)
    assert np.signbit(back[0])


# ---- the backend as a whole


def test_only_the_standard_library_is_imported():
    code = """if True:
        import sys, corelib_reference.backend
        print(sorted({"numpy", "numba", "scipy", "cupy", "mpmath"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
