"""Copies of the `cuda` backend between layouts, and the ops made of them, on the emulated device in three orders of threads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
from harness import run, to_device

from corelib_cuda import backend as cuda_backend
from corelib_cuda import copy as copies
from corelib_cuda import launch, layout

REASON = emulated_cupy.unusable()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.xdist_group("cuda_emulated_copy"),
]
DTYPES = ["uint8", "int16", "float32", "float64", "complex128"]  # a word of each size


@pytest.fixture(scope="module", autouse=True)
def device():
    with emulated_cupy.installed():
        emulated_cupy.prepare("copy.cu", [(k.name, k.entry) for k in copies.every_copy()])
        yield cuda_backend.CudaBackend("cuda")


@pytest.fixture(params=["ascending", "descending", "shuffled"])
def order(request, monkeypatch):
    monkeypatch.setattr(emulated_cupy, "order", request.param)


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that a test launches."""
    names = []
    call = launch.Kernel.__call__
    monkeypatch.setattr(launch.Kernel, "__call__", lambda k, *a: (names.append(k.name), call(k, *a))[1])
    return names


def numbers(dtype, shape, seed=0):
    bits = np.random.default_rng(seed).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    return bits.view(dtype).reshape(shape)


def equal_bits(expected, actual):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


LAYOUTS = {
    "dense": ((5, 7), lambda a: a),
    "dense, long, odd": ((3, 1367), lambda a: a),
    "transposed": ((45, 70), lambda a: a.transpose((1, 0))),
    "transposed, narrow": ((3, 70), lambda a: a.transpose((1, 0))),
    "stack of transposes": ((2, 33, 3, 40), lambda a: a.transpose((2, 0, 3, 1))),
    "axes moved by one": ((9, 10, 11), lambda a: a.transpose((2, 0, 1))),
    "reversed": ((6, 50), lambda a: a[::-1, ::-1]),
    "reversed and transposed": ((20, 50), lambda a: a[::-1, ::-1].transpose((1, 0))),
    "rows cut": ((20, 32), lambda a: a[2:9, 4:28]),
    "rows cut unevenly": ((20, 32), lambda a: a[2:9, 3:16]),
    "every other": ((20, 32), lambda a: a[::2, 1::3]),
    "nothing": ((0, 4), lambda a: a),
    "no axis": ((), lambda a: a),
    "nine axes that stay": ((2,) * 9, lambda a: a.transpose((8, 7, 6, 5, 4, 3, 2, 1, 0))),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", LAYOUTS)
def test_a_copy_of_any_layout_is_dense(order, dtype, way):
    shape, change = LAYOUTS[way]
    x = numbers(dtype, shape)
    given = change(to_device(x))
    found = copies.copied(given)
    equal_bits(change(x), found.get())
    assert found.flags.c_contiguous
    assert copies.contiguous(found) is found


@pytest.mark.parametrize("way", LAYOUTS)
def test_a_copy_into_any_layout_leaves_the_rest(order, way):
    shape, change = LAYOUTS[way]
    y, x = numbers("float32", shape), numbers("float32", change(np.empty(shape)).shape, 1)
    target = to_device(y)
    copies.copy(to_device(x), change(target))
    change(y)[...] = x
    equal_bits(y, target.get())


@pytest.mark.parametrize(
    ("way", "dtype", "kernels"),
    [
        ("dense", "complex128", ["strided_uint128_32"]),
        ("dense, long, odd", "float32", ["strided_uint128_32", "strided_uint32_32"]),
        ("rows cut", "float32", ["strided_uint128_32"]),
        ("rows cut unevenly", "float32", ["strided_uint32_32"]),
        ("transposed", "int16", ["transposed_uint16"]),
        ("transposed, narrow", "int16", ["strided_uint16_32"]),
        ("stack of transposes", "float32", ["transposed_uint32"]),
        ("axes moved by one", "float64", ["transposed_uint64"]),
        ("every other", "float32", ["strided_uint32_32"]),
        ("nothing", "float32", []),
    ],
)
def test_each_layout_takes_its_kernel(launched, way, dtype, kernels):
    shape, change = LAYOUTS[way]
    given = change(to_device(numbers(dtype, shape)))
    launched.clear()
    copies.copied(given)
    assert launched == kernels


def test_far_apart_elements_take_64_bit_indices():
    """Not to be launched here: 16 GiB. What is decided is which kernel, and that needs strides alone."""
    word, sizes, start, to = copies.walk((2, 2**31), (2**33, 4), (2**33, 4), 4, 256)
    assert (word, sizes, start, to) == (16, [2**30], [1], [1])
    word, sizes, start, to = copies.walk((2**17, 2**17), (4, 2**19), (2**19, 4), 4, 256)
    assert (word, sizes, start, to) == (4, [2**17, 2**17], [2**17, 1], [1, 2**17])
    assert layout.reach(sizes, start) >= layout.INDEX_LIMIT


def test_offsets_beyond_32_bits_take_the_wide_kernel(monkeypatch, launched):
    monkeypatch.setattr(layout, "INDEX_LIMIT", 1)
    x = numbers("float32", (5, 6))
    equal_bits(x[::-1, ::2], copies.copied(to_device(x)[::-1, ::2]).get())
    assert launched == ["strided_uint32_64"]


@pytest.mark.parametrize("bits", [32, 64])
def test_both_widths_of_indices_copy_alike(order, bits):
    x = to_device(numbers("float32", (7, 9)))[::-1, ::2]
    word, sizes, start, to = copies.walk(x.shape, x.strides, (20, 4), 4, 4)
    y = emulated_cupy.ndarray(x.shape, np.float32)
    n = np.dtype(f"uint{bits}").type(35)
    copies.strided("uint32", bits)((1,), (32,), (x, y, n, layout.packed(sizes, [start, to], bits)))
    assert word == 4
    equal_bits(x.get(), y.get())


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat_pad_and_updates(device, order, dtype):
    a, b, c = numbers(dtype, (3, 5, 4)), numbers(dtype, (3, 2, 4)), numbers(dtype, (3, 0, 4))
    equal_bits(np.concatenate([a, b, c], 1), run(device, "concat", a, b, c, axis=-2))
    turned = [to_device(x).transpose((2, 0, 1)) for x in (a, b)]
    equal_bits(np.concatenate([a, b], 1).transpose((2, 0, 1)), run(device, "concat", *turned, axis=-1))
    widths = ((1, 0), (0, 0), (2, 3))
    equal_bits(
        np.pad(a, widths, constant_values=1), run(device, "pad", a, pad_width=widths, constant_value=1)
    )
    value = numbers(dtype, (2, 2, 4))[::-1]
    region = {"start": (0, 4, 3), "size": (2, 2, 4), "step": (2, -3, -1)}
    expected = a.copy()
    expected[::2, 4::-3, ::-1] = value
    equal_bits(expected, run(device, "strided_update", a, value, **region, overwrite=False))
    equal_bits(a[::2, 4::-3, ::-1], run(device, "strided_slice", a, **region))


def test_concat_refuses_other_sizes(device):
    a = numbers("float32", (3, 5))
    for other in ((2, 4), (3, 5, 1)):
        with pytest.raises(ValueError, match="along axis -1"):
            run(device, "concat", a, numbers("float32", other), axis=-1)


def test_an_update_may_read_what_it_overwrites(device, order):
    x = numbers("int32", (50,))
    given = to_device(x)
    region = {"start": (1,), "size": (49,), "step": (1,)}
    run(device, "strided_update", given, given[:49], **region, overwrite=True)
    equal_bits(np.concatenate([x[:1], x[:49]]), given.get())


@pytest.mark.parametrize(
    ("shape", "axes", "wanted", "view"),
    [
        ((4, 6), (0, 1), (2, 12), True),
        ((4, 6), (1, 0), (6, 2, 2), True),
        ((4, 6), (1, 0), (3, 2, 4), True),
        ((4, 6), (1, 0), (24,), False),
        ((4, 6), (1, 0), (3, 8), False),
        ((4, 1, 6), (2, 1, 0), (1, 6, 4, 1), True),
        ((2, 3, 4), (1, 2, 0), (12, 2), True),
        ((2, 3, 4), (1, 2, 0), (3, 8), False),
        ((0, 3), (1, 0), (5, 0), True),
    ],
)
def test_reshape_copies_only_where_it_must(device, shape, axes, wanted, view):
    x = numbers("float32", shape)
    given = to_device(x).transpose(axes)
    assert layout.viewable(given.shape, given.strides, wanted) is view
    equal_bits(x.transpose(axes).reshape(wanted), run(device, "reshape", given, shape=wanted))
    assert np.shares_memory(given.host, given.host.reshape(wanted)) is (view and given.size > 0)
