"""Interchange: NumPy, DLPack, Python's buffers and numbers, pickles and copies, in and out of tensors.

What may share memory shares it, in both directions; what must not be copied says so; and a tensor is a value whatever
memory it is made on: corelib itself never writes into what is not its own.
"""

from __future__ import annotations

import array
import copy
import ctypes
import enum
import gc
import math
import operator
import pickle
import sys
import types
import weakref

import numpy as np
import pytest

import corelib as cl
from corelib import dlpack
from corelib.dtypes import ALL
from corelib.errors import (
    ArgumentError,
    BackendNotFoundError,
    DTypeError,
    GradientError,
    InterchangeError,
    ShapeError,
)
from corelib.plugin_api import Backend, BackendInfo, hookimpl

SHARING = ("cpu", "numpy")  # backends on the host's memory, in NumPy's layout


def address(x):
    return np.asarray(x).ctypes.data


def numbers(dtype, shape=(2, 3)):
    """Small numbers, exact in every dtype."""
    return (np.arange(math.prod(shape)) % 2).reshape(shape).astype(dtype.numpy)


# -- from NumPy ----------------------------------------------------------------------------------------------

BASE = np.arange(24.0).reshape(2, 3, 4)
LAYOUTS = {
    "C": BASE,
    "Fortran": np.asfortranarray(BASE),
    "transposed": BASE.transpose(2, 0, 1),
    "strided": BASE[:, ::2, 1::2],
    "reversed": BASE[::-1, :, ::-1],
    "broadcast": np.broadcast_to(BASE[0], (2, 3, 4)),
    "empty": BASE[:, 1:1],
    "0-d": BASE[1, 2, 3, ...],
}


def unaligned(values):
    """The same values one byte beside where their dtype would have them."""
    raw = np.zeros(values.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(values.tobytes(), np.uint8)
    return raw[1:].view(values.dtype).reshape(values.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_of_numpys_keeps_its_values_and_its_memory(anywhere, layout):
    a = LAYOUTS[layout]
    for make in (cl.asarray, cl.from_dlpack):
        x = make(a)
        assert (x.dtype, x.shape, x.device) == (cl.float64, a.shape, anywhere)
        assert x.tolist() == a.tolist()
        assert np.array_equal(np.asarray(x), a)
        assert (x + 1.0).tolist() == (a + 1).tolist()
        if anywhere in SHARING and a.size:
            assert address(x) == a.ctypes.data
            assert np.asarray(x).strides == a.strides
            assert address(make(a, copy=False)) == a.ctypes.data
        assert not a.size or address(make(a, copy=True)) != a.ctypes.data


@pytest.mark.parametrize("dtype", ALL)
def test_a_dtype_of_numpys_comes_in_and_goes_out(anywhere, dtype):
    for a in (numbers(dtype), numbers(dtype)[:, ::-1], numbers(dtype, ()), numbers(dtype, (0, 2))):
        x = cl.asarray(a)
        assert (x.dtype, x.device) == (dtype, anywhere)
        assert np.asarray(x).dtype == a.dtype
        assert x.tolist() == a.tolist() == x.numpy().tolist() == np.asarray(x).tolist()
        assert cl.asarray(x, copy=True).tolist() == a.tolist()


@pytest.mark.parametrize("dtype", [d for d in ALL if d.itemsize > 1])
def test_foreign_byte_order_and_unaligned_memory_are_copied(anywhere, dtype):
    swapped = numbers(dtype).astype(numbers(dtype).dtype.newbyteorder(">"))
    for a in (swapped, unaligned(numbers(dtype))):
        x = cl.asarray(a)
        assert x.dtype is dtype
        assert x.tolist() == numbers(dtype).tolist()
        assert np.asarray(x).dtype.isnative
    if dtype is not cl.bfloat16:  # whose order NumPy does not know
        with pytest.raises(ValueError, match="cannot share the memory of this ndarray: leave out copy=False"):
            cl.asarray(swapped, copy=False)
    if anywhere == "cpu":
        assert np.asarray(cl.asarray(unaligned(numbers(dtype)))).flags.aligned
        with pytest.raises(
            BufferError, match="cannot share the memory of this ndarray: leave out copy=False"
        ):
            cl.from_dlpack(unaligned(numbers(dtype)), copy=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([object(), 1]), "objects cannot be a tensor"),
        (np.array(["a"]), "strings cannot be elements"),
        (np.array([b"a"]), "strings cannot be elements"),
        (np.array(["a"], np.dtypes.StringDType()), "strings cannot be elements"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), r"records .* pick a field"),
        (np.array(["2020-01-01"], "datetime64[D]"), "dates cannot be elements"),
        (np.array([1], "timedelta64[s]"), "dates cannot be elements"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), r"masked array .* \.filled\(value\)"),
        ("text", "cannot make a tensor of str"),
        ({1: 2}, "cannot make a tensor of dict"),
        (None, "cannot make a tensor of NoneType"),
        ([None], "elements must be bool, int, float or complex, got NoneType"),
        ([np.array(["a"])], "strings cannot be elements"),
    ],
    ids=lambda v: v.replace(" ", "-")[:24] if isinstance(v, str) else type(v).__name__,
)
def test_what_has_no_numbers_is_refused_in_a_sentence(anywhere, value, words):
    with pytest.raises(DTypeError, match=f"^asarray.*{words}"):
        cl.asarray(value)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_a_dtype_that_is_not_here_is_named(anywhere):
    with pytest.raises(DTypeError, match=r"corelib has no dtype 'float\d+'"):
        cl.asarray(np.zeros(2, np.longdouble))


def test_numpys_scalars_keep_their_dtype(anywhere):
    for scalar in (np.float64(0.1), np.int8(3), np.bool_(True), np.complex64(1j), np.uint64(2**63)):
        x = cl.asarray(scalar)
        assert (x.shape, x.dtype.name, x.tolist()) == ((), scalar.dtype.name, scalar.item())


# -- shared memory, and values nevertheless ------------------------------------------------------------------


@pytest.mark.parametrize("make", [cl.asarray, cl.from_dlpack], ids=["asarray", "from_dlpack"])
def test_who_owns_the_memory_may_write_and_is_seen(anywhere, make):
    a = np.zeros(3, np.float32)
    shared, own = make(a), make(a, copy=True)
    a[0] = 7
    assert shared.tolist() == ([7, 0, 0] if anywhere in SHARING else [0, 0, 0])
    assert own.tolist() == [0, 0, 0]


def test_memory_that_cannot_be_shared_is_not_copied_against_orders():
    a = np.zeros(3, np.float32)
    for make in (cl.asarray, cl.from_dlpack):
        for error in (ValueError, BufferError, cl.CorelibError):
            with pytest.raises(error, match="'reference' cannot share the memory of this ndarray"):
                make(a, device="reference", copy=False)
        with pytest.raises(InterchangeError, match="'reference' cannot share the memory of this Tensor"):
            make(cl.zeros(3, device="cpu"), device="reference", copy=False)
    with pytest.raises(InterchangeError, match="float32 becomes float64 by a copy only"):
        cl.asarray(a, device="cpu", dtype=cl.float64, copy=False)
    with pytest.raises(InterchangeError, match="float32 becomes int8 by a copy only"):
        cl.asarray(cl.zeros(3), dtype=cl.int8, copy=False)
    for value in (1, 2.5, [1, 2], (1.0, 2j), [[True]]):
        with pytest.raises(ValueError, match="Python numbers have no memory"):
            cl.asarray(value, copy=False)


WRITES = {
    "element": lambda x: operator.setitem(x, 1, 9),
    "slice": lambda x: operator.setitem(x, slice(None), 9),
    "indices": lambda x: operator.setitem(x, [0, 2], 9),
    "mask": lambda x: operator.setitem(x, x < 5, 9),
    "in place": lambda x: operator.iadd(x, 1),
}


@pytest.mark.parametrize("size", [3, 100_000])  # large arrays of the cpu backend come from a pool
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_corelib_writes_into_no_foreign_memory(anywhere, write, size):
    if anywhere == "reference" and size > 3:
        return  # which shares nothing
    a = np.arange(size, dtype=np.float32)
    before = a.copy()
    for make in (cl.asarray, cl.from_dlpack):
        x = make(a)
        twin = make(a)
        write(x)
        assert x.tolist() != before.tolist()
        assert np.array_equal(a, before)
        assert twin.tolist() == before.tolist()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("size", [3, 100_000])
def test_what_was_handed_out_does_not_change(anywhere, write, size):
    if anywhere == "reference" and size > 3:
        return
    x = cl.arange(size, dtype=cl.float32)
    views = np.asarray(x), np.from_dlpack(x), memoryview(np.asarray(x))
    before = [np.array(v) for v in views]
    write(x)
    assert all(np.array_equal(v, b) for v, b in zip(views, before, strict=True))


def test_an_optimizer_leaves_the_array_alone_that_a_parameter_was_made_of():
    a = np.ones((300, 300), np.float32)
    p = cl.nn.Parameter(a)
    optimizer = cl.optim.SGD([p], lr=0.5)
    p.grad = cl.ones_like(p)
    optimizer.step()
    assert np.all(a == 1)
    a[:] = 5
    assert np.all(p.numpy() == 0.5)


def test_memory_lives_as_long_as_somebody_uses_it(anywhere):
    a = np.arange(3.0)
    gone = weakref.ref(a)
    x = cl.asarray(a)
    del a
    assert (x + 1).tolist() == [1, 2, 3]
    del x
    gc.collect()
    assert gone() is None
    x = cl.arange(100_000, dtype=cl.float64)
    view, capsule = np.from_dlpack(x), x.__dlpack__(max_version=(1, 0))
    del x
    cl.zeros(100_000, dtype=cl.float64)
    assert view[-1] == 99_999
    del view, capsule  # unused: its memory is given back


# -- from tensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [cl.asarray, cl.from_dlpack], ids=["asarray", "from_dlpack"])
def test_a_tensor_of_a_tensor(anywhere, make):
    x = cl.asarray([1.0, 2.0, 3.0]).requires_grad_()
    assert make(x, copy=False) is x
    assert make(x, device=anywhere, copy=False) is x
    for y in (make(x), make(x, copy=True), make(x, device=anywhere)):
        assert y is not x
        assert (y * y).sum().backward() is None
    assert x.grad.tolist() == [6.0, 12.0, 18.0]
    a = np.zeros(3)
    x = make(a)
    own = make(x, copy=True)
    a[0] = 1
    assert own.tolist() == [0, 0, 0]


def test_a_cast_or_a_shape_that_changes_nothing_copies_nothing(anywhere):
    x = cl.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert cl.astype(x, cl.float32, copy=False) is x
    assert cl.reshape(x, (2, 2), copy=False) is x
    assert x.reshape(2, -1, copy=False) is x
    assert cl.astype(x, cl.float32) is not x
    assert cl.astype(x, cl.float64, copy=False).dtype is cl.float64  # as the standard says
    for y in (x, x[1], x[:, :1]):
        z = cl.reshape(y, (-1, 1), copy=False)
        assert z.shape == (y.size, 1)
        assert anywhere not in SHARING or np.shares_memory(np.asarray(x), np.asarray(z))
    if anywhere == "reference":  # which has one layout
        assert cl.reshape(x.mT, (4,), copy=False).tolist() == [1, 3, 2, 4]
    else:
        with pytest.raises(
            ValueError, match=r"reshape: x of shape \(2, 2\) takes the shape \(4,\) by a copy only"
        ):
            cl.reshape(x.mT, (4,), copy=False)
    assert cl.reshape(x.mT, (4,), copy=True).tolist() == [1, 3, 2, 4]
    with pytest.raises(ShapeError, match="does not fit"):
        cl.reshape(x, (3,), copy=False)


def test_asarray_casts_a_tensor_and_moves_it(anywhere):
    x = cl.asarray([1, 2])
    assert cl.asarray(x, dtype=cl.float64).dtype is cl.float64
    y = cl.asarray(x, dtype=cl.int8, device="reference")
    assert (y.dtype, y.device, y.tolist()) == (cl.int8, "reference", [1, 2])
    with pytest.raises(DTypeError, match="imaginary part"):
        cl.asarray(cl.asarray([1j], device="reference"), dtype=cl.float32)


@pytest.mark.parametrize("anywhere", ["numpy"], indirect=True)
def test_backends_on_the_same_memory_share_it(anywhere):
    x = cl.zeros(3, device="cpu")
    y = cl.from_dlpack(x, device="numpy", copy=False)
    assert (y.device, address(y)) == ("numpy", address(x))
    assert address(x.to("numpy")) == address(x)
    assert address(cl.asarray(x, device="numpy", copy=True)) != address(x)
    y[0] = 5
    x[1] = 6
    assert (x.tolist(), y.tolist()) == ([0, 6, 0], [5, 0, 0])
    assert cl.broadcast_to(x, (2, 3)).to("numpy").tolist() == [[0, 6, 0]] * 2


# -- from Python ---------------------------------------------------------------------------------------------


def test_whatever_has_the_buffer_protocol_comes_in(anywhere):
    for code in "bBhHiIlLqQfd":
        x = cl.asarray(array.array(code, [0, 1, 2]))
        assert (x.tolist(), x.dtype.itemsize) == ([0, 1, 2], array.array(code).itemsize)
        assert x.dtype.kind == ("float" if code in "fd" else "int" if code.islower() else "uint")
    doubles = (ctypes.c_double * 3)(1, 2, 3)
    for buffer, expected in (
        (b"\x01\xff", [1, 255]),
        (bytearray(b"\x01\xff"), [1, 255]),
        (memoryview(np.arange(6).reshape(2, 3))[::-1], [[3, 4, 5], [0, 1, 2]]),
        (doubles, [1.0, 2.0, 3.0]),
        (memoryview(b"\0\1").cast("?"), [False, True]),
    ):
        assert cl.asarray(buffer).tolist() == expected
    if anywhere in SHARING:
        x = cl.asarray(doubles, copy=False)
        doubles[0] = 7
        assert x.tolist() == [7.0, 2.0, 3.0]
    assert cl.asarray(b"\1\2", dtype=cl.float32).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (True, "bool"), (1, "int64"), (1.0, "float32"), (1j, "complex64"), ([], "float32"), ([[], []], "float32"),
        ([True, 2], "int64"), ([True, 2.5], "float32"), ([1, 2.5, 3j], "complex64"), ([[1, 2], [3, 4j]], "complex64"),
        ([np.float64(1), np.float64(2)], "float64"), ([np.float64(1), 2], "float64"), ([np.int8(1), 2], "int8"),
        ([np.int8(1), np.int16(2)], "int16"), ([np.int8(1), 2.5], "float32"), ([np.float32(1), 2j], "complex64"),
        ([np.float64(1), 2j], "complex128"), ([[np.uint8(1)], [np.uint8(2)]], "uint8"), ((1, np.bool_(True)), "int64"),
        ([np.arange(2), [3, 4]], "int64"), ([np.array(1.5), 2], "float64"), (range(3), "int64"), ([range(2), [3, 4]], "int64"),
    ],
    ids=lambda v: str(v).replace(" ", "") if not isinstance(v, str) else v,
)  # fmt: skip
def test_numbers_have_the_dtype_that_promotion_gives(anywhere, value, dtype):
    x = cl.asarray(value)
    assert (x.dtype.name, x.tolist()) == (dtype, np.asarray(value).tolist())


def test_numbers_that_do_not_fit_are_refused(anywhere):
    for value, dtype, words in (
        ([300], "uint8", "300 does not fit uint8"),
        ([-1], "uint8", "-1 does not fit uint8"),
        ([np.int8(1), 300], None, "300 does not fit int8"),
        ([2**63], None, "does not fit int64"),
        ([1.5], "int64", "1.5 does not fit int64"),
        ([1j], "float32", "1j does not fit float32"),
        ([np.int64(1), np.uint64(1)], None, "no dtype holds both"),
    ):
        with pytest.raises(DTypeError, match=words):
            cl.asarray(value, dtype=dtype)
    with pytest.raises(ShapeError, match="ragged"):
        cl.asarray([[1, 2], [3]])
    assert cl.asarray([1e300, -1e300, 1e-300], dtype=cl.float32).tolist() == [math.inf, -math.inf, 0]


def test_tensors_among_numbers_are_stacked(anywhere):
    x = cl.asarray(2.0).requires_grad_()
    y = cl.asarray([[x, 1], [3.5, x * x]])
    assert (y.dtype, y.device, y.tolist()) == (cl.float32, anywhere, [[2, 1], [3.5, 4]])
    y.sum().backward()
    assert x.grad.item() == 5
    small = cl.asarray([1, 2], dtype=cl.int8)
    for value, dtype in (
        ([small, [3, 4]], cl.int8),
        ([small, [3, 4.5]], cl.float32),
        ([[small[0], np.int16(2)], [3, 4]], cl.int16),
        ([small, np.zeros(2)], cl.float64),
    ):
        assert cl.asarray(value).dtype is dtype
        assert cl.asarray(value, dtype=cl.float32).dtype is cl.float32
        assert cl.asarray(value, device="reference").device == "reference"
    with cl.use_backend("reference"):
        assert cl.asarray([small, [3, 4]]).device == anywhere
    with pytest.raises(ShapeError, match=r"arrays\[1\] has shape \(\), arrays\[0\] has \(2,\)"):
        cl.asarray([small, 1])
    with pytest.raises(DTypeError, match=r"a tensor among numbers: call corelib\.stack"):
        small[[0, small[0]]]


# -- to NumPy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [k for k in LAYOUTS if k != "broadcast"])
def test_numpy_reads_a_tensor_where_it_lies(anywhere, layout):
    x = cl.asarray(LAYOUTS[layout])
    a = np.asarray(x)
    assert not a.flags.writeable
    assert np.array(x).flags.writeable
    assert x.numpy().flags.writeable
    assert x.numpy().flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        a[...] = 1
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    for out in (np.array(x), x.numpy(), np.asarray(x, np.int64), np.array(x, copy=True)):
        assert np.array_equal(out, LAYOUTS[layout])
        out[...] = 99
        assert np.array_equal(a, LAYOUTS[layout])
    if anywhere in SHARING:
        assert np.array(x, copy=False).ctypes.data == a.ctypes.data
    else:
        with pytest.raises(ValueError, match=rf"on '{anywhere}' becomes float64 in NumPy by a copy only"):
            np.array(x, copy=False)
    with pytest.raises(ValueError, match="by a copy only: leave out copy=False"):
        np.array(x, dtype=np.float32, copy=False)


# -- DLPack --------------------------------------------------------------------------------------------------


class Spy:
    """Hands on what a tensor exports, and remembers what was asked."""

    def __init__(self, x, legacy=False):
        self.x, self.legacy, self.asked = x, legacy, None

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()

    def __dlpack__(self, **options):
        if self.legacy and set(options) - {"stream"}:
            raise TypeError("what DLPack 0.8 did not know")
        self.asked = options
        return self.x.__dlpack__(**options)


def flags(capsule):
    return dlpack._Versioned.from_address(dlpack._address(capsule, dlpack.VERSIONED)).flags


READ_ONLY, IS_COPIED = 1, 2


def test_a_capsule_is_of_the_version_that_was_asked_for(anywhere):
    x = cl.asarray([1.0, 2.0])
    assert '"dltensor"' in repr(x.__dlpack__())
    assert '"dltensor"' in repr(x.__dlpack__(max_version=(0, 8)))
    for version in ((1, 0), (1, 1), (2, 0)):
        assert '"dltensor_versioned"' in repr(x.__dlpack__(max_version=version))
    assert x.__dlpack_device__() == (1, 0)


def test_a_capsule_tells_that_it_is_read_only_or_a_copy(anywhere):
    x = cl.asarray([1.0, 2.0])
    assert flags(x.__dlpack__(max_version=(1, 0))) == (READ_ONLY if anywhere in SHARING else IS_COPIED)
    assert flags(x.__dlpack__(max_version=(1, 0), copy=True)) == IS_COPIED
    shared, own = np.from_dlpack(x), np.from_dlpack(x, copy=True)
    assert not np.shares_memory(own, shared)
    assert own.tolist() == shared.tolist() == [1.0, 2.0]
    if anywhere in SHARING:
        assert not shared.flags.writeable
        assert shared.ctypes.data == address(x) == np.from_dlpack(x, copy=False).ctypes.data
        assert flags(x.__dlpack__(max_version=(1, 0), copy=False)) == READ_ONLY
    else:
        with pytest.raises(BufferError, match=f"'{anywhere}' cannot share this tensor's memory"):
            x.__dlpack__(copy=False)


def test_read_only_memory_goes_to_old_consumers_as_a_copy(anywhere):
    x = cl.broadcast_to(cl.asarray([1.0, 2.0]), (3, 2))
    assert np.from_dlpack(x).tolist() == np.from_dlpack(Spy(x, legacy=True)).tolist() == [[1.0, 2.0]] * 3
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    y = cl.from_dlpack(frozen)
    assert np.from_dlpack(Spy(y, legacy=True)).tolist() == [0, 1, 2]
    if anywhere in SHARING:
        assert address(y) == frozen.ctypes.data
        with pytest.raises(BufferError, match=r"DLPack 1\.0"):
            y.__dlpack__(copy=False)


def test_the_device_that_a_consumer_asks_for(anywhere):
    x = cl.asarray([1.0, 2.0])
    kinds = enum.IntEnum("Kind", {"CPU": 1})
    others = enum.Enum("Other", {"CPU": 1, "CUDA": 2})
    for device in ((1, 0), (kinds.CPU, 0), (others.CPU, 0)):
        assert "dltensor" in repr(x.__dlpack__(dl_device=device))
    assert np.from_dlpack(x, device="cpu").tolist() == [1.0, 2.0]
    for device in ((4, 0), (8, 0)):
        with pytest.raises(BufferError, match=rf"cannot be exported to DLPack device \({device[0]}, 0\)"):
            x.__dlpack__(dl_device=device)
    if anywhere != "cuda":
        with pytest.raises(ArgumentError, match="stream must be None, got 1"):
            x.__dlpack__(stream=1)
    with pytest.raises(ArgumentError, match="to_device: stream must be None, got 1"):
        x.to_device(anywhere, stream=1)
    assert x.to_device(anywhere, stream=None).tolist() == [1.0, 2.0]


def test_old_exporters_are_read(anywhere):
    source = Spy(np.arange(3.0), legacy=True)
    assert cl.from_dlpack(source).tolist() == [0, 1, 2]
    assert source.asked in ({}, {"stream": None})


def test_what_speaks_no_dlpack_is_refused():
    for value in ([1.0], 1.0, None):
        with pytest.raises(
            AttributeError, match=r"from_dlpack needs an object with __dlpack__ .*: call asarray"
        ):
            cl.from_dlpack(value)

    class Broken(Spy):
        def __dlpack__(self, **options):
            raise BufferError("not today")

    with pytest.raises(BufferError, match="from_dlpack: this Broken cannot be read: not today"):
        cl.from_dlpack(Broken(np.arange(3.0)))


def test_a_tensor_within_a_graph_is_handed_out_detached_only(anywhere):
    y = cl.ones(2).requires_grad_() * 2
    for read in (np.from_dlpack, np.asarray, lambda y: y.__dlpack__(max_version=(1, 0))):
        with pytest.raises((BufferError, GradientError), match=r"detach\(\)"):
            read(y)
        assert read(y.detach()) is not None
    assert y.numpy().tolist() == [2, 2]


class Far(Backend):
    """A backend on memory of its own: the reference backend behind another DLPack device."""

    def __init__(self, name, index=0):
        super().__init__(name, index)
        self.near = cl.registry.registry.get("reference")
        self.kernels = self.near.kernels

    def find(self, op, dtype):
        return self.near.find(op, dtype)

    def from_host(self, buffer, shape, dtype):
        return self.near.from_host(buffer, shape, dtype)

    def to_host(self, array):
        return self.near.to_host(array)

    def dlpack(self, array):
        return types.SimpleNamespace(
            __dlpack_device__=lambda: (8, 0), __dlpack__=lambda **options: ("capsule", options), array=array
        )

    def from_dlpack(self, source):
        return getattr(source, "array", None)


@pytest.fixture
def far(monkeypatch):
    module = types.ModuleType("far_backend")
    module.Far = Far
    monkeypatch.setitem(sys.modules, "far_backend", module)
    Far.kernels = cl.registry.registry.get("reference").kernels
    plugin = types.SimpleNamespace(
        declare_backend=hookimpl(lambda: BackendInfo(name="far", load="far_backend:Far"))
    )
    name = cl.register(plugin, "far")
    yield "far"
    cl.unregister(name)


def test_an_array_stays_where_its_memory_is(far):
    with cl.use_backend(far):
        x = cl.asarray([1.0, 2.0])
        assert (x.device, x.__dlpack_device__()) == ("far", (8, 0))
        assert x.__dlpack__(stream=5, copy=False) == ("capsule", {"stream": 5, "copy": False})
        assert (
            cl.from_dlpack(np.arange(3.0)).device == "cpu"
        )  # of those on the host the one of highest priority
        assert cl.from_dlpack(np.arange(3.0), device=far).device == "far"
        assert cl.asarray(np.arange(3.0)).device == "far"  # which creates, where it is told to
        assert cl.asarray(array.array("d", [1])).device == "far"
        with pytest.raises(BufferError, match="cannot share"):
            cl.from_dlpack(np.arange(3.0), device=far, copy=False)
    exported = x._backend.dlpack(x._data)
    with cl.use_backend("cpu"):
        assert cl.from_dlpack(exported).device == "far"
        assert cl.asarray(exported).device == "far"
    assert np.from_dlpack(x, device="cpu").tolist() == [1.0, 2.0]  # by way of the host
    with pytest.raises(BufferError, match=r"only to \(8, 0\), where it is or \(1, 0\), the host's memory"):
        x.__dlpack__(dl_device=(2, 0))
    with pytest.raises(
        BufferError, match=r"DLPack device \(9, 1\), on which no usable backend works: give device="
    ):
        cl.from_dlpack(types.SimpleNamespace(__dlpack__=None, __dlpack_device__=lambda: (9, 1)))


# -- other libraries -----------------------------------------------------------------------------------------


def torch_dtype(torch, dtype):
    return getattr(torch, dtype.name)


@pytest.mark.parametrize("dtype", ALL)
def test_torch_shares_memory_both_ways(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = torch.tensor([[0, 1], [1, 0]], dtype=torch_dtype(torch, dtype))
    for source in (t, t.T, t[:, ::2]):
        for make in (cl.from_dlpack, cl.asarray):
            x = make(source, device="cpu", copy=False)
            assert (x.dtype, x.shape) == (dtype, tuple(source.shape))
            assert np.asarray(x).ctypes.data == source.data_ptr()
            assert x.tolist() == source.tolist()
    x = cl.asarray([[0, 1], [1, 0]], dtype=dtype, device="cpu")
    back = torch.from_dlpack(x)
    assert back.dtype == t.dtype
    assert back.data_ptr() == address(x)
    assert back.tolist() == x.tolist()
    assert torch.from_dlpack(x.to("reference")).tolist() == x.tolist()


def test_torch_values_are_safe_from_corelib():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = torch.zeros(3)
    x = cl.from_dlpack(t, device="cpu")
    x[0] = 1
    assert t.tolist() == [0, 0, 0]
    t[1] = 2
    assert cl.from_dlpack(t, device="cpu").tolist() == [0, 2, 0]
    with pytest.raises(BufferError, match=r"require gradient, use tensor\.detach\(\)"):
        cl.from_dlpack(torch.zeros(3, requires_grad=True))


@pytest.mark.parametrize("dtype", [d for d in ALL if d.bits < 64 or d.kind == "complex" and d.bits == 64])
def test_jax_shares_memory_both_ways(dtype):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    a = jax.numpy.asarray([[0, 1], [1, 0]], dtype=dtype.name)
    for make in (cl.from_dlpack, cl.asarray):
        x = make(a, device="cpu", copy=False)
        assert (x.dtype, x.tolist()) == (dtype, a.tolist())
        assert address(x) == a.unsafe_buffer_pointer()
        x[0] = x[1]
        assert a.tolist() == [[0, 1], [1, 0]]
    x = cl.ones((300, 300), dtype=dtype, device="cpu")  # from the pool, aligned as XLA wants it
    back = jax.dlpack.from_dlpack(x)
    assert (back.dtype.name, back.tolist()) == (dtype.name, x.tolist())
    if x.nbytes >= 1 << 18:
        assert back.unsafe_buffer_pointer() == address(x)


# -- Python's protocols --------------------------------------------------------------------------------------


def test_numbers_of_python(anywhere):
    assert float(cl.asarray([2.5])) == 2.5
    assert int(cl.asarray(-3.75)) == -3
    assert complex(cl.asarray(2)) == 2 + 0j
    assert complex(cl.asarray(1.5)) == 1.5 + 0j
    assert bool(cl.asarray(math.nan)) is True
    assert (int(cl.asarray(True)), float(cl.asarray(True))) == (1, 1.0)
    assert [10, 20][cl.asarray(1, dtype=cl.uint8)] == 20
    assert list(range(3))[: cl.asarray(2)] == [0, 1]
    for value, error in ((math.inf, OverflowError), (-math.inf, OverflowError), (math.nan, ValueError)):
        with pytest.raises(error):
            int(cl.asarray(value))
    for bad in (True, 1.0, 1j):
        with pytest.raises(TypeError, match="only an integer tensor can be an index"):
            operator.index(cl.asarray(bad, device="reference"))
    for read in (float, int, complex, bool, operator.index):
        with pytest.raises(ShapeError, match=r"one element, it has shape \(2,\)"):
            read(cl.asarray([1, 2]))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_tensor_is_no_real_number(dtype):
    z = cl.asarray(1 + 2j, dtype=dtype, device="reference")
    assert (complex(z), bool(z), z.item()) == (1 + 2j, True, 1 + 2j)
    for read in (float, int):
        with pytest.raises(
            TypeError, match=rf"{read.__name__}\(\) of a {dtype} tensor would drop the imaginary"
        ):
            read(z)


def test_containment_and_equality_of_strangers(anywhere):
    x = cl.asarray([[1, 2], [3, 4]])
    assert 3 in x
    assert 5 not in x
    assert None not in x
    assert "a" not in x
    assert cl.asarray(2) in x
    assert (x == None) is False  # noqa: E711
    assert hash(x) == object.__hash__(x)
    assert {x: 1}[x] == 1
    y = cl.asarray([[1, 2], [3, 4]])
    assert x in [y, x][1:]
    with pytest.raises(ShapeError, match="one element"):
        assert x in [y]  # noqa: FURB171 - a list asks whether x == y is true
    assert any(x is z for z in [y, x])


def test_copies_are_values(anywhere):
    a = np.zeros(3)
    x = cl.asarray(a)
    shallow, deep = copy.copy(x), copy.deepcopy(x)
    x[0] = 1
    assert shallow.tolist() == deep.tolist() == [0, 0, 0]
    a[1] = 5
    assert deep.tolist() == [0, 0, 0]
    leaf = cl.asarray([1.0]).requires_grad_()
    assert copy.deepcopy(leaf).requires_grad
    assert copy.deepcopy(leaf).grad is None
    with pytest.raises(GradientError, match="detach"):
        copy.deepcopy(leaf * 2)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_hold_the_values_and_the_device(anywhere, protocol):
    for x in (
        cl.asarray([[1.5, -2.0], [math.inf, -0.0]]), cl.zeros((0, 3), dtype=cl.int8), cl.asarray(True),
        cl.arange(6)[::-2], cl.broadcast_to(cl.asarray([1, 2]), (2, 2)),
    ):  # fmt: skip
        y = pickle.loads(pickle.dumps(x, protocol))
        assert (y.device, y.dtype, y.shape, repr(y)) == (anywhere, x.dtype, x.shape, repr(x))
        assert not y.requires_grad
    leaf = pickle.loads(pickle.dumps(cl.asarray([1.0]).requires_grad_(), protocol))
    assert leaf.requires_grad
    assert leaf.is_leaf
    with pytest.raises(GradientError, match=r"cannot be pickled: call x.detach\(\) first"):
        pickle.dumps(leaf * 2, protocol)


@pytest.mark.parametrize("dtype", ALL)
def test_every_dtype_survives_a_pickle_and_a_transfer(anywhere, dtype):
    x = cl.asarray([[0, 1], [1, 0]], dtype=dtype)
    y = pickle.loads(pickle.dumps(x))
    assert (y.dtype, y.device, y.tolist()) == (dtype, anywhere, x.tolist())
    for device in ("reference", "cpu", anywhere):
        z = x.to(device)
        assert (z.dtype, z.device, z.tolist()) == (dtype, device, x.tolist())


def test_a_pickle_of_another_machine_says_what_to_do(far):
    text = pickle.dumps(cl.zeros(2, device=far))
    cl.unregister("far")
    try:
        with pytest.raises(
            BackendNotFoundError, match=r"pickled on device 'far', .*: pickle x.to\(another device\)"
        ):
            pickle.loads(text)
    finally:
        cl.register(types.SimpleNamespace(), "far")


def test_a_device_that_fails_is_not_taken_for_one_that_cannot_share(monkeypatch):
    class DeviceError(RuntimeError):
        pass

    def fail(self, source):
        raise DeviceError("the device is lost")

    monkeypatch.setattr(type(cl.registry.registry.get("cpu")), "from_dlpack", fail)
    with pytest.raises(DeviceError, match="the device is lost"):
        cl.from_dlpack(np.zeros(2), device="cpu")
