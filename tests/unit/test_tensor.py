"""Tensor: attributes, conversion in and out, printing, value semantics, and what the dispatcher refuses."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.errors import DTypeError, GradientError, ShapeError

DEVICES = ("reference", "cpu")


@pytest.fixture(params=DEVICES)
def device(request):
    with cl.use_backend(request.param):
        yield request.param


def test_attributes(device):
    x = cl.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert (x.shape, x.ndim, x.size, x.nbytes, x.device, len(x)) == ((2, 3), 2, 6, 24, device, 2)
    assert x.dtype is cl.float32 and x.mT.shape == x.T.shape == (3, 2)
    with pytest.raises(ShapeError, match=r"use x.mT"):
        cl.zeros((2, 2, 2)).T


@pytest.mark.parametrize(
    "value",
    [True, 3, 2.5, [], [[]], [[1, 2], [3, 4]], [1.5, math.inf, -0.0], [[[True]], [[False]]]],
    ids=repr,
)
def test_python_values_come_back_as_they_went_in(device, value):
    assert cl.asarray(value).tolist() == value


def test_default_dtypes_follow_the_values(device):
    assert [cl.asarray(v).dtype.name for v in (True, 1, 1.0, [1, 2.5], [])] == [
        "bool",
        "int64",
        "float32",
        "float32",
        "float32",
    ]


def test_bad_values_are_refused_in_a_sentence(device):
    with pytest.raises(ShapeError, match="ragged"):
        cl.asarray([[1, 2], [3]])
    with pytest.raises(DTypeError, match="got str"):
        cl.asarray(["a"])
    with pytest.raises(DTypeError, match="objects"):
        cl.asarray(np.array([object()]))
    with pytest.raises(DTypeError, match="300 does not fit uint8"):
        cl.asarray([300], dtype=cl.uint8)


def test_numpy_arrays_of_any_layout_and_byte_order_come_in(device):
    a = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    for b in (
        a,
        a[::-1, :, ::2],
        a.T,
        a[:, 1:1],
        np.broadcast_to(a[0], (2, 3, 4)),
        a.astype(">f8"),
        np.asfortranarray(a),
    ):
        x = cl.asarray(b)
        assert x.dtype is cl.float64 and np.array_equal(x.numpy(), b)
        assert np.array_equal(np.asarray(x), b)


def test_scalars_come_out_of_one_element_only(device):
    assert (
        float(cl.asarray([2.5])),
        int(cl.asarray(3)),
        bool(cl.asarray(False)),
        [10, 20][cl.asarray(1)],
    ) == (2.5, 3, False, 20)
    for read in (float, int, bool):
        with pytest.raises(ShapeError, match=r"one element, it has shape \(2,\)"):
            read(cl.asarray([1.0, 2.0]))
    with pytest.raises(ShapeError, match="item"):
        cl.zeros((0,)).item()
    with pytest.raises(DTypeError, match="only an integer tensor"):
        [1][cl.asarray(0.0)]


def test_iteration_containment_and_length(device):
    x = cl.asarray([[1, 2], [3, 4]])
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]] and 3 in x and 5 not in x
    for refused in (len, iter):
        with pytest.raises(DTypeError, match="0-d"):
            refused(cl.asarray(1))


def test_copies_and_pickles(device):
    x = cl.asarray([[1.5, -2.0]])
    assert (
        pickle.loads(pickle.dumps(x)).tolist() == x.tolist()
        and pickle.loads(pickle.dumps(x)).device == device
    )
    y = copy.deepcopy(x)
    y += 1.0
    assert x.tolist() == [[1.5, -2.0]]
    leaf = cl.asarray([1.0]).requires_grad_()
    assert copy.deepcopy(leaf).requires_grad
    assert pickle.loads(pickle.dumps(leaf)).requires_grad
    with pytest.raises(GradientError, match="detach"):
        copy.deepcopy(leaf * 2)
    with pytest.raises(
        GradientError, match=r"a tensor with history cannot be pickled: call x.detach\(\) first"
    ):
        pickle.dumps(leaf * 2)


def test_in_place_operators_rebind_and_nobody_else_sees_it(device):
    x = cl.asarray([1.0, 2.0])
    y, z = x, x.reshape((2, 1))
    flat = x[:]
    x += 1.0
    x *= 2.0
    assert (
        y is x and x.tolist() == [4.0, 6.0] and z.tolist() == [[1.0], [2.0]] and flat.tolist() == [1.0, 2.0]
    )
    with pytest.raises(
        ShapeError,
        match=r"cannot change its shape or dtype in place: float32\[2\] would become float32\[3, 2\]",
    ):
        x += cl.ones((3, 2))
    n = cl.asarray([1, 2])
    with pytest.raises(ShapeError, match="float32"):
        n += 0.5


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("float32", "float64"),
        ("int32", "int64"),
        ("int64", "bool"),
        ("complex64", "complex128"),
        ("float16", "float32"),
    ],
)
def test_in_place_operators_keep_the_dtype_as_assignment_does(device, own, other):
    x = y = cl.asarray([1, 3], dtype=own)
    z = cl.asarray([1, 3], dtype=own)
    step = cl.asarray([1, 0], dtype=other)
    x += step
    z[...] = z + step
    assert x is y and x.dtype.name == own and x.tolist() == z.tolist() == [2, 3]


def test_an_in_place_operator_differentiates_through_the_cast(device):
    w = cl.asarray([0.5, 1.5], dtype=cl.float64).requires_grad_()
    x = cl.zeros(2)
    x += 3.0 * w
    (x * x).sum().backward()
    assert w.grad.dtype is cl.float64 and w.grad.tolist() == [9.0, 27.0]


@pytest.mark.parametrize(
    ("own", "other"), [("int32", "float32"), ("float32", "complex64"), ("uint8", "int16")]
)
def test_in_place_operators_refuse_what_assignment_refuses(device, own, other):
    x = cl.asarray([1, 3], dtype=own)
    with pytest.raises(ShapeError, match=f"cannot change its shape or dtype in place: {own}"):
        x += cl.asarray([1, 0], dtype=other)
    with pytest.raises(DTypeError, match="does not go into"):
        x[...] = cl.asarray([1, 0], dtype=other)


def test_no_op_that_changes_nothing_shares_its_result(device):
    for same in (lambda v: v.reshape((2,)), lambda v: v.astype(cl.float32), lambda v: +v, lambda v: cl.broadcast_to(v, (2,)), lambda v: v.detach(),
                 lambda v: v.to(device), lambda v: cl.asarray(v), lambda v: cl.stop_gradient(v), lambda v: cl.clip(v)):  # fmt: skip
        x = cl.asarray([1.0, 2.0])
        y = same(x)
        x[0] = 9.0
        assert y.tolist() == [1.0, 2.0]


def test_equality_with_foreign_objects_is_false_not_an_error(device):
    x = cl.asarray([1.0])
    assert (x == None) is False and (x != "a") is True  # noqa: E711
    assert hash(x) == hash(x) and {x: 1}[x] == 1


def test_foreign_operands_are_refused_with_advice(device):
    x = cl.asarray([1.0, 2.0])
    for bad in ([1.0, 2.0], "a", object()):
        with pytest.raises(DTypeError, match=r"x2 must be a Tensor, got .*: call corelib.asarray"):
            x + bad
    with pytest.raises(DTypeError, match=r"call corelib.asarray"):
        x + np.ones(2)
    with pytest.raises(DTypeError, match=r"call corelib.asarray"):
        np.ones(2) + x
    with pytest.raises(DTypeError, match=r"exp: x must be a Tensor, got .*list"):
        ops.exp([1.0])
    assert (x * np.float32(2)).tolist() == [2.0, 4.0] and (np.float64(2) * x).dtype is cl.float32


def test_wrong_calls_say_the_ops_name(device):
    with pytest.raises(TypeError, match=r"exp\(\)|call\(\)"):
        ops.exp()
    with pytest.raises(TypeError, match=r"sum\(\) got an unexpected keyword argument 'axes'"):
        ops.sum(cl.ones(2), axes=0)


def test_the_same_mistake_has_the_same_words_on_every_backend():
    mistakes = [
        lambda d: cl.ones((2, 3), device=d) + cl.ones((4,), device=d),
        lambda d: cl.ones((2, 3), device=d) @ cl.ones((2, 3), device=d),
        lambda d: ops.exp(cl.ones((2,), dtype=cl.int32, device=d)),
        lambda d: cl.ones((2, 3), device=d).sum(axis=2),
        lambda d: cl.ones((2, 3), device=d).reshape((4,)),
        lambda d: cl.ones((2, 3), device=d)[5],
        lambda d: ops.take(cl.ones((3,), device=d), cl.asarray([0, 7], device=d), axis=0),
        lambda d: cl.zeros((0,), device=d).max(),
        lambda d: ops.concat([cl.ones((2, 3), device=d), cl.ones((2, 4), device=d)], axis=0),
        lambda d: cl.ones((2,), dtype=cl.int64, device=d) + cl.ones((2,), dtype=cl.uint64, device=d),
        lambda d: ops.bitwise_and(cl.ones((2,), device=d), cl.ones((2,), device=d)),
    ]
    for mistake in mistakes:
        caught = []
        for d in DEVICES:
            with pytest.raises(cl.CorelibError) as error:
                mistake(d)
            caught.append((type(error.value), str(error.value)))
        assert caught[0] == caught[1]


def test_integer_division_by_zero_and_nan_pass_through(device):
    n, zero = cl.asarray([7, -7, 0]), cl.asarray([0, 0, 0])
    assert (n // zero).tolist() == [0, 0, 0] and (n % zero).tolist() == [0, 0, 0]
    x = cl.asarray([1.0, -1.0, 0.0])
    assert (x / 0.0).tolist()[:2] == [math.inf, -math.inf] and math.isnan((x / 0.0).tolist()[2])
    assert math.isnan(ops.sqrt(cl.asarray(-1.0)).item())


def test_printing(device):
    assert repr(cl.asarray([1.0, 2.5])) == f"Tensor([1. , 2.5], dtype=float32, device='{device}')"
    assert repr(cl.asarray(True)) == f"Tensor(True, dtype=bool, device='{device}')"
    assert repr(cl.zeros((0, 2))) == f"Tensor([[]], shape=(0, 2), dtype=float32, device='{device}')"
    assert "requires_grad=True" in repr(cl.ones(2).requires_grad_())
    big = repr(cl.zeros((2000, 3)))
    assert "..." in big and "shape=(2000, 3)" in big and len(big) < 500
    assert "1.0000e+10" in repr(cl.asarray([1e10, 1.0]))
    assert "nan" in repr(cl.asarray([math.nan, math.inf])) and f"{cl.asarray(2.0):.3f}" == "2.000"
    assert "float32 [2]" in cl.ones(2)._repr_html_()


def test_creation(device):
    assert cl.arange(5).tolist() == [0, 1, 2, 3, 4] and cl.arange(5).dtype is cl.int64
    assert cl.arange(1.0, 2.0, 0.25).tolist() == [1.0, 1.25, 1.5, 1.75] and cl.arange(5, 0, -2).tolist() == [
        5,
        3,
        1,
    ]
    assert cl.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0] and cl.linspace(
        0, 1, 4, endpoint=False
    ).tolist() == [0, 0.25, 0.5, 0.75]
    assert cl.eye(2, 3, k=1).tolist() == [[0, 1, 0], [0, 0, 1]] and cl.full((2,), 7).dtype is cl.int64
    assert [m.tolist() for m in cl.meshgrid(cl.arange(2), cl.arange(3))] == [
        a.tolist() for a in np.meshgrid(np.arange(2), np.arange(3))
    ]
    assert cl.zeros_like(cl.ones((2,), dtype=cl.int8)).dtype is cl.int8 and cl.empty((2, 0)).shape == (2, 0)
    with pytest.raises(ShapeError, match="negative size"):
        cl.zeros((2, -1))
    with pytest.raises(ShapeError, match="step must not be 0"):
        cl.arange(0, 5, 0)
    with pytest.raises(DTypeError, match="do not fit"):
        cl.arange(300, dtype=cl.int8)


def test_moving_between_devices_is_exact_for_every_dtype():
    from corelib.dtypes import ALL

    for dtype in ALL:
        x = cl.asarray([[0, 1], [1, 0]], dtype=dtype, device="cpu")
        y = x.to("reference")
        assert (y.device, y.dtype, y.tolist()) == ("reference", dtype, x.tolist())
        assert y.to("cpu").tolist() == x.tolist() and x.to(cl.complex128).dtype is cl.complex128


def test_astype_moves_where_it_is_told_to():
    x = cl.asarray([1.5, 2.5], device="cpu").requires_grad_()
    y = cl.astype(x, cl.float64, device="reference")
    assert (y.device, y.dtype, y.tolist()) == ("reference", cl.float64, [1.5, 2.5])
    (y * y).sum().backward()
    assert (x.grad.device, x.grad.tolist()) == ("cpu", [3.0, 5.0])
    assert cl.astype(x, cl.float32, device="reference").device == "reference"
    with pytest.raises(cl.BackendNotFoundError, match="no backend 'cup'; did you mean 'cpu'"):
        cl.astype(x, cl.float64, device="cup")


def test_subnormals_and_signed_zeros_survive_the_way():
    values = [5e-324, -0.0, 2.2250738585072014e-308, math.inf]
    x = cl.asarray(values, dtype=cl.float64, device="reference").to("cpu").to("reference")
    assert [math.copysign(1, v) * abs(v) for v in x.tolist()] == values and math.copysign(
        1, x.tolist()[1]
    ) == -1
