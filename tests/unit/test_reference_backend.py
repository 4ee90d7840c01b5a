"""The reference backend as a whole: Philox's published vectors, buffers in and out, and nothing missing."""

from __future__ import annotations

import math
import subprocess
import sys
from array import array

import numpy as np
import pytest

import corelib
from corelib.op import OPS
from corelib.plugin_api import dtypes, ops
from corelib.samples import Maker, Sample, Values
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
    y = BACKEND.from_host(x.tobytes(), shape, dtype)
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


PRIMITIVES = [op for op in OPS if op.primitive]


def accepted(op):
    return [d for d in op.rule.accepts if op.name != "random_bits" or d in (dtypes.uint32, dtypes.uint64)]


def owed(op):
    """float16 and bfloat16 are storage: the core computes in float32 for them."""
    return [d for d in accepted(op) if op.moves or d not in dtypes.HALF]


def test_every_primitive_has_a_kernel_for_every_dtype_it_owes():
    missing = [f"{op.name}[{d.name}]" for op in PRIMITIVES for d in owed(op) if BACKEND.find(op, d) is None]
    assert missing == []


def tensors(argument):
    """Samples name tensors by their values."""
    if isinstance(argument, Values):
        flat = corelib.asarray(list(argument.data), dtype=argument.dtype, device="reference")
        return corelib.reshape(flat, argument.shape)
    return type(argument)(map(tensors, argument)) if isinstance(argument, list | tuple) else argument


def run(op, sample: Sample):
    created = {"device": "reference"} if op.device_param else {}
    return op.fn(*map(tensors, sample.args), **{k: tensors(v) for k, v in sample.kwargs.items()}, **created)


def is_value_of(value, dtype):
    if dtype.kind == "complex":
        return type(value) is complex and all(is_value_of(v, dtype.real) for v in (value.real, value.imag))
    if dtype.kind == "float":
        return type(value) is float and (value != value or value == dtype.round(value))
    if dtype.kind == "bool":
        return value is True or value is False
    return type(value) is int and dtype.min <= value <= dtype.max


@pytest.mark.parametrize("op", PRIMITIVES, ids=lambda op: op.name)
def test_results_hold_values_of_their_dtype_and_as_many_as_their_shape_says(op):
    for dtype in accepted(op):
        for sample in op.samples(Maker(op.name), dtype):
            results = run(op, sample)
            for y in results if isinstance(results, tuple) else (results,):
                assert y.device == "reference"
                assert len(y._data.data) == math.prod(y.shape), sample
                assert all(is_value_of(value, y._data.dtype) for value in y._data.data), sample


@pytest.mark.parametrize("op", PRIMITIVES, ids=lambda op: op.name)
def test_mistakes_are_refused_in_the_words_of_the_declaration(op):
    for mistake in op.errors:
        with pytest.raises(mistake.error, match=mistake.words):
            run(op, mistake.build(Maker(op.name)))


def test_a_network_learns_on_the_reference_backend():
    """64-32-10, batch 64, plain gradient descent: the loss falls and agrees with NumPy's."""
    rng = np.random.default_rng(0)
    images, labels = (
        rng.standard_normal((64, 64)).astype(np.float32),
        np.eye(10, dtype=np.float32)[rng.integers(0, 10, 64)],
    )
    weights = [(rng.standard_normal(s) / 8).astype(np.float32) for s in ((64, 32), (32, 10))]

    def loss_of(w1, w2, library, x, y):
        hidden = library.maximum(x @ w1, 0.0)
        return library.sum((hidden @ w2 - y) ** 2.0)

    w1, w2 = (corelib.asarray(w, device="reference").requires_grad_() for w in weights)
    x, y = (corelib.asarray(v, device="reference") for v in (images, labels))
    losses = []
    for _ in range(3):
        loss = loss_of(w1, w2, ops, x, y)
        loss.backward()
        losses.append(loss.item())
        w1, w2 = ((w.detach() - 1e-3 * w.grad).requires_grad_() for w in (w1, w2))
    assert losses[0] == pytest.approx(float(loss_of(*weights, np, images, labels)), rel=1e-5)
    assert losses[2] < losses[1] < losses[0]
