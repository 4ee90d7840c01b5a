"""``x[key] = value`` against NumPy for random shapes and keys, its gradients, and the proof that nobody ever sees aliasing."""

from __future__ import annotations

import copy
import operator
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import corelib
from corelib.errors import CorelibError, DTypeError, GradientError, IndexOutOfBoundsError, ShapeError
from corelib.ops.subscript import sole
from corelib.plugin_api import registry

from .test_index import as_ours, assert_same, counting, on_each, shapes_and_keys, tensor

on_cpu = pytest.mark.device("cpu")


@st.composite
def values(draw, shape):
    """A shape that broadcasts to ``shape``."""
    kept = shape[draw(st.integers(0, len(shape))) :]
    extra = (1,) * draw(st.integers(0, 1)) if len(kept) == len(shape) else ()
    return (*extra, *(1 if draw(st.booleans()) else n for n in kept))


def selected(shape, key):
    """The shape that a key selects, or None if NumPy refuses it."""
    try:
        return np.empty(shape)[key].shape
    except IndexError:
        return None


@on_each
@settings(max_examples=300)
@given(shapes_and_keys, st.integers(0, 2), st.data())
def test_setitem_is_numpys(device, shape_and_key, how, data):
    shape, key = shape_and_key
    found = selected(shape, key)
    x = tensor(counting(shape), device)
    if found is None:
        with pytest.raises(CorelibError):
            x[as_ours(key, device, how)] = -1.0
        return
    value = np.asarray(-1 - counting(data.draw(values(found))))
    expected = counting(shape)
    expected[key] = value.reshape(
        value.shape[max(value.ndim - len(found), 0) :]
    )  # NumPy minds leading ones for one element only
    kind = data.draw(st.sampled_from(["tensor", "array", "list", "number"]))
    if kind == "number":
        value = expected[key] = -1.0
    given = {"tensor": lambda: tensor(value, device), "list": lambda: value.tolist() if value.size else value}
    before = corelib.asarray(x)[...]
    x[as_ours(key, device, how)] = given.get(kind, lambda: value)()
    assert_same(x, expected)
    assert_same(before, counting(shape))


def pulled_back(shape, key, weights, value_shape):
    """The cotangents of x and of the value for a cotangent of the result: of several values for one place, the last has it all."""
    of_x = weights.copy()
    of_x[key] = 0
    found = np.empty(shape)[key].shape
    number = np.arange(np.prod(found, dtype=int)).reshape(found)
    owner = np.full(shape, -1)
    owner[key] = number
    of_value = np.where(owner[key] == number, weights[key], 0).astype(np.float32)
    extra = of_value.ndim - len(value_shape)
    if extra < 0:
        of_value, extra = of_value.reshape((1,) * -extra + of_value.shape), 0
    axes = tuple(
        i for i in range(of_value.ndim) if i < extra or value_shape[i - extra] == 1 != of_value.shape[i]
    )
    return of_x, of_value.sum(axes).reshape(value_shape)


@on_each
@settings(max_examples=100)
@given(shapes_and_keys, st.integers(0, 2), st.data())
def test_setitem_is_differentiable_in_x_and_in_the_value(device, shape_and_key, how, data):
    shape, key = shape_and_key
    found = selected(shape, key)
    if found is None:
        return
    value = counting(data.draw(values(found)))
    weights = np.asarray(counting(shape) + 1)
    x, v = tensor(counting(shape), device).requires_grad_(), tensor(value, device).requires_grad_()
    y = x * 1.0
    y[as_ours(key, device, how)] = v
    corelib.sum(y * tensor(weights, device)).backward()
    of_x, of_value = pulled_back(shape, key, weights, value.shape)
    assert_same(x.grad, of_x)
    assert_same(v.grad if v.grad is not None else corelib.zeros_like(v), of_value)


@on_each
def test_a_program_that_assigns_can_be_differentiated_twice(device):
    def f(x):
        y = x * 1.0
        for i in range(1, 3):
            y[i] = y[i - 1] * x[i]
        return y[2]  # x0 x1 x2

    x = tensor([2.0, 3.0, 5.0], device)
    assert corelib.grad(f)(x).tolist() == [15, 10, 6]
    assert corelib.grad(lambda x: corelib.grad(f)(x)[0])(x).tolist() == [0, 5, 3]


@on_each
def test_leaves_are_set_without_recording_only(device):
    x = tensor([1.0, 2.0], device).requires_grad_()
    with pytest.raises(
        GradientError, match="a leaf that requires a gradient cannot be changed in place by a recorded op"
    ):
        x[0] = x[1] * 2.0
    with corelib.no_grad():
        x[0] = x[1] * 2.0
    assert x.tolist() == [4, 2]


# -- values ------------------------------------------------------------------------------------------------------


@on_each
def test_values_are_cast_within_their_kind(device):
    x = tensor([1.0, 2.0], device, "float32")
    x[0] = tensor(0.1, device, "float64")
    x[1] = tensor(7, device, "int64")
    assert x.tolist() == [float(np.float32(0.1)), 7]
    assert x.dtype is corelib.float32
    n = tensor([1, 2], device, "int32")
    n[0] = tensor(5, device, "int64")
    n[1] = True
    assert (n.tolist(), n.dtype) == ([5, 1], corelib.int32)
    u = tensor([1, 2], device, "uint8")
    u[:] = [255, 0]
    assert u.tolist() == [255, 0]
    double = tensor([0.0], device, "float64")
    double[0] = 0.1
    double[[0]] = [0.1]
    assert double.tolist() == [0.1]
    flags = tensor([True, False], device)
    flags[1] = True
    assert flags.tolist() == [True, True]


@on_each
@pytest.mark.parametrize(
    ("dtype", "value", "error", "words"),
    [
        (
            "int64",
            1.5,
            DTypeError,
            "setitem: 1.5 does not go into a tensor of dtype int64 unchanged: use corelib.astype(value, corelib.int64)",
        ),
        ("int64", [1, 2.5, 3], DTypeError, "2.5 does not go into a tensor of dtype int64"),
        (
            "int64",
            np.ones(3),
            DTypeError,
            "a value of dtype float64 does not go into a tensor of dtype int64",
        ),
        (
            "uint8",
            np.ones(3, np.int64),
            DTypeError,
            "a value of dtype int64 does not go into a tensor of dtype uint8",
        ),
        ("uint8", 256, DTypeError, "setitem: the Python integer 256 does not fit uint8"),
        ("uint8", -1, DTypeError, "setitem: the Python integer -1 does not fit uint8"),
        ("uint8", [1, 2, 300], DTypeError, "setitem: the Python integer 300 does not fit uint8"),
        ("bool", 1, DTypeError, "1 does not go into a tensor of dtype bool"),
        (
            "float32",
            [1.0, 2.0],
            ShapeError,
            "setitem: a value of shape (2,) does not broadcast to the shape (3,) that the index selects",
        ),
        (
            "float32",
            np.ones((2, 1, 3)),
            ShapeError,
            "a value of shape (2, 1, 3) does not broadcast to the shape (3,)",
        ),
        ("float32", [[1.0], [2.0, 3.0]], ShapeError, "ragged"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(device, dtype, value, error, words):
    x = tensor([[1, 0, 1], [0, 1, 0]], device, dtype)
    before = x.tolist()
    for key in (0, np.s_[1, :], ([0], slice(None))):
        with pytest.raises(error, match=re.escape(words) if key == 0 else "setitem"):
            x[key] = value
    assert x.tolist() == before


@on_each
def test_a_mask_with_one_value_or_as_many_as_it_selects(device):
    for mask in (np.array([True, False, True]), tensor([True, False, True], device), [True, False, True]):
        x = tensor(counting((3, 2)), device)
        x[mask] = 9.0
        assert x.tolist() == [[9, 9], [2, 3], [9, 9]]
        x[mask] = tensor(8, device, "int32")
        assert x.tolist() == [[8, 8], [2, 3], [8, 8]]
        x[mask] = [[1.0, 2.0], [3.0, 4.0]]
        assert x.tolist() == [[1, 2], [2, 3], [3, 4]]
    with pytest.raises(
        ShapeError, match=re.escape("a value of shape (3, 2) does not broadcast to the shape (2, 2)")
    ):
        x[mask] = counting((3, 2))


@on_each
def test_of_several_values_for_one_place_the_last_is_kept(device):
    x = tensor([0.0, 0.0], device)
    x[[1, 1, 1]] = [1.0, 2.0, 3.0]
    assert x.tolist() == [0, 3]


@on_each
def test_augmented_assignment_to_a_part(device):
    x = tensor(counting((3, 3)), device)
    x[1] += 10.0
    x[:, 0] *= -1.0
    x[[0, 2], 1] -= tensor([100.0, 200.0], device)
    expected = counting((3, 3))
    expected[1] += 10
    expected[:, 0] *= -1
    expected[[0, 2], 1] -= [100, 200]
    assert_same(x, expected)


@on_cpu
def test_a_value_on_another_device_is_refused():
    x = tensor([1.0, 2.0], "reference")
    with pytest.raises(corelib.BackendError, match="operands on 'reference' and 'cpu'"):
        x[0] = tensor(1.0, "cpu")


# -- nobody sees aliasing ----------------------------------------------------------------------------------------

SIZE = 300_000  # beyond what the cpu backend's pool leaves to malloc
OTHERS = {
    "slice of everything": lambda x: x[...],
    "slice": lambda x: x[1:],
    "row": lambda x: x[0],
    "reversed": lambda x: x[::-1],
    "column": lambda x: x[:, 1],
    "reshape": lambda x: corelib.reshape(x, (-1,)),
    "reshape to the same": lambda x: corelib.reshape(x, x.shape),
    "view of a view": lambda x: corelib.reshape(x[1:], (-1,))[1:],
    "permute_dims": lambda x: corelib.permute_dims(x, (1, 0)),
    "permute_dims to the same": lambda x: corelib.permute_dims(x, (0, 1)),
    "broadcast_to": lambda x: corelib.broadcast_to(x, (2, *x.shape)),
    "astype to the same": lambda x: corelib.astype(x, x.dtype),
    "flip": lambda x: corelib.flip(x, axis=0),
    "detach": lambda x: x.detach(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "NumPy, read only": np.asarray,
    "NumPy": lambda x: x.numpy(),
}
WRITES = {
    "row": lambda x: operator.setitem(x, 1, -1.0),
    "element": lambda x: operator.setitem(x, (1, 1), -1.0),
    "slice": lambda x: operator.setitem(x, slice(1, None), -1.0),
    "everything": lambda x: operator.setitem(x, Ellipsis, -1.0),
    "indices": lambda x: operator.setitem(x, [1, 2], -1.0),
    "row and indices": lambda x: operator.setitem(x, (1, [0, 1]), -1.0),
    "mask": lambda x: operator.setitem(x, corelib.greater(x, 2.0), -1.0),
    "mask with values": lambda x: operator.setitem(
        x, np.array([[False, True], [True, True], [False, True]]), [-1.0, -2.0, -3.0, -4.0]
    ),
    "in place": lambda x: operator.iadd(x, 1.0),
}


def content(y):
    return np.array(y if isinstance(y, np.ndarray) else y.numpy())


@on_each
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("other", OTHERS)
def test_an_assignment_is_not_seen_through(device, other, write):
    x = tensor(counting((3, 2)), device)
    x[0] = [0.0, 1.0]  # x's buffer is now its own, as far as it can be
    y = OTHERS[other](x)
    before = content(y)
    WRITES[write](x)
    np.testing.assert_array_equal(content(y), before)
    if not isinstance(y, np.ndarray) and y.shape == (3, 2):
        after = x.numpy()
        WRITES[write](y)
        np.testing.assert_array_equal(x.numpy(), after)


@on_cpu
@pytest.mark.parametrize("other", OTHERS)
def test_an_assignment_to_a_tensor_on_a_pooled_buffer_is_not_seen_through(other):
    x = corelib.zeros((SIZE, 2), device="cpu")
    x[0] = 1.0
    y = OTHERS[other](x)
    before = content(y)
    x[1] = -1.0
    x[:, 1] = 5.0
    np.testing.assert_array_equal(content(y), before)


@on_each
def test_an_assignment_to_a_part_is_not_seen_in_the_whole(device):
    x = tensor(counting((3, 2)), device)
    for part in (x[1], x[1:], x[:, 0], corelib.reshape(x, (6,)), x.mT):
        part[...] = -1.0
        part[0] = -2.0
    assert_same(x, counting((3, 2)))


@on_each
def test_an_assignment_is_not_seen_in_the_value(device):
    v = tensor([1.0, 2.0], device)
    x = corelib.zeros((2, 2), device=device)
    x[...] = v
    x[0] = v
    x[0, 0] = 9.0
    assert v.tolist() == [1, 2]
    y = tensor([0.0, 0.0], device)
    y[...] = v
    y[0] = 7.0
    assert (v.tolist(), y.tolist()) == ([1, 2], [7, 2])
    v[0] = 5.0
    assert y.tolist() == [7, 2]


@on_each
def test_a_value_may_overlap_with_what_is_set(device):
    for key, value in [
        (np.s_[1:], lambda x: x[:-1]),
        (np.s_[:-1], lambda x: x[1:]),
        (np.s_[::-1], lambda x: x),
        (Ellipsis, lambda x: x),
        ([3, 1, 0, 2, 4], lambda x: x),
    ]:
        x, expected = tensor(counting((5,)), device), counting((5,))
        expected[key] = value(expected.copy())
        x[key] = value(x)
        assert_same(x, expected)
    n = tensor([2, 0, 1], device)
    n[n] = n
    assert n.tolist() == [0, 1, 2]
    m = tensor([True, False, True], device)
    m[m] = tensor([False, True], device)
    assert m.tolist() == [False, False, True]


@on_each
def test_what_the_tape_has_saved_is_not_changed(device):
    w = tensor([[1.0, 2.0], [3.0, 4.0]], device).requires_grad_()
    x = tensor([[1.0, 1.0], [1.0, 1.0]], device)
    x[0, 0] = 5.0
    product = corelib.sum(w * x)  # saves x
    exponential = corelib.exp(w)  # saves its result
    total = product + corelib.sum(exponential)
    x[...] = 100.0
    x[1] = 7.0
    exponential[0] = 0.0
    total.backward()
    np.testing.assert_allclose(w.grad.numpy(), [[5, 1], [1, 1]] + np.exp([[1, 2], [3, 4]]), rtol=1e-6)


@on_each
def test_a_leaf_that_is_set_keeps_what_the_tape_saved_of_it(device):
    w = tensor([1.0, 2.0], device).requires_grad_()
    with corelib.no_grad():
        w[0] = 3.0
    y = corelib.sum(w * w)
    with corelib.no_grad():
        w[0] = 50.0
        w[1] = 60.0
    y.backward()
    assert w.grad.tolist() == [6, 4]


@on_each
def test_a_refused_assignment_changes_nothing(device):
    x = tensor(counting((4,)), device)
    x[0] = 0.0
    index = tensor([0, 1, 9], device)
    with pytest.raises(IndexOutOfBoundsError, match="setitem: index 9 is out of bounds for axis 0 of size 4"):
        x[index] = tensor([7.0, 7.0, 7.0], device)
    assert_same(x, counting((4,)))


@on_cpu
def test_an_exported_buffer_is_not_changed():
    x = corelib.zeros((4,), device="cpu")
    x[0] = 1.0
    view = np.from_dlpack(x)
    x[1] = 2.0
    assert view.tolist() == [1, 0, 0, 0]
    source = np.zeros(4, np.float32)
    y = corelib.from_dlpack(source, device="cpu")
    y[0] = 1.0
    assert source.tolist() == [0, 0, 0, 0]


# -- and yet nothing is copied -----------------------------------------------------------------------------------


@on_cpu
@pytest.mark.parametrize("shape", [(50, 4), (SIZE, 4)], ids=["small", "pooled"])
@pytest.mark.parametrize(
    "write",
    {
        "row": lambda x, i: operator.setitem(x, i, 1.0),
        "element": lambda x, i: operator.setitem(x, (i, 1), 1.0),
        "value": lambda x, i: operator.setitem(x, i, corelib.ones((4,), device="cpu")),
        "column": lambda x, i: operator.setitem(x, (slice(None), i % 4), 1.0),
        "indices": lambda x, i: operator.setitem(x, [i, i + 1], 1.0),
        "index tensor": lambda x, i: operator.setitem(x, corelib.asarray([i, 3], device="cpu"), 1.0),
        "row and indices": lambda x, i: operator.setitem(x, (i, [0, 2]), 1.0),
        "augmented": lambda x, i: operator.setitem(x, i, x[i] + 1.0),
    }.items(),
    ids=lambda w: w[0],
)
def test_a_loop_of_assignments_does_not_copy(shape, write):
    x = corelib.zeros(shape, device="cpu")
    write[1](x, 0)
    array = x._data
    address = array.__array_interface__["data"][0]
    del array
    for i in range(1, 40):
        write[1](x, i)
        assert x._data.__array_interface__["data"][0] == address
    assert x[39].tolist() != [0, 0, 0, 0]


@on_cpu
def test_a_loop_copies_once_when_somebody_looks_on():
    x = corelib.zeros((1000,), device="cpu")
    x[0] = 1.0
    y = x[...]
    addresses = []
    for i in range(5):
        x[i] = 2.0
        addresses.append(x._data.__array_interface__["data"][0])
    assert len(set(addresses)) == 1
    assert addresses[0] != y._data.__array_interface__["data"][0]
    assert y.tolist()[:3] == [1, 0, 0]


@on_cpu
def test_sole_counts_every_reference():
    x = corelib.zeros((3,), device="cpu")
    assert sole(x)
    y = x[1:]
    assert not sole(x)
    del y
    assert sole(x)
    array = x._data
    assert not sole(x)
    del array
    assert sole(x)
    assert not sole(x, x)
    z = corelib.broadcast_to(x, (2, 3))
    assert not sole(z)


@on_cpu
def test_nothing_is_overwritten_by_an_op_of_a_transformation():
    x = corelib.zeros((3,), device="cpu")
    inside = corelib.ones((3,), device="cpu")
    assert sole(x, inside)
    inside._backend = type("Wrapper", (), {"level": 1})()
    assert not sole(x, inside)


def test_a_backend_that_cannot_tell_is_asked_for_copies(monkeypatch):
    x = tensor([1.0, 2.0], "reference")
    monkeypatch.setattr(type(registry.get("reference")), "owns", lambda self, array: False)
    assert not sole(x)
