"""Movement of elements against NumPy: shapes, axes, slices, padding, joining, repetition and triangles; values, gradients, refusals."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import corelib
from corelib import dtypes, jvp, ops, vjp
from corelib.errors import DTypeError, ShapeError
from corelib.numerical import gradcheck, gradgradcheck

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
of_each_dtype = pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
SHAPES = [(), (0,), (1,), (5,), (2, 3), (3, 0), (2, 1, 3), (2, 3, 4), (1, 1, 2, 1)]


def numbers(shape, dtype=np.float32):
    return (np.arange(np.prod(shape, dtype=int)) % 7).reshape(shape).astype(dtype)


def tensor(values, device="reference"):
    return corelib.asarray(np.asarray(values), device=device)


def assert_same(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype is dtypes.as_dtype(expected.dtype)
    np.testing.assert_array_equal(actual.numpy(), expected)


# -- shapes and axes ---------------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_axes_are_moved_as_numpy_moves_them(dtype, device):
    for shape in SHAPES:
        x = numbers(shape, dtype.numpy)
        t = tensor(x, device)
        assert_same(ops.reshape(t, (-1,) if x.size else (0,)), x.reshape(-1))
        assert_same(ops.ravel(t), x.ravel())
        assert_same(ops.flatten(t), x.flatten())
        assert_same(ops.squeeze(t), x.squeeze())
        assert_same(ops.flip(t), np.flip(x))
        assert_same(ops.permute_dims(t, tuple(range(x.ndim))[::-1]), x.T)
        assert_same(ops.broadcast_to(t, (2, *shape)), np.broadcast_to(x, (2, *shape)))
        for axis in range(-x.ndim - 1, x.ndim + 1):
            assert_same(ops.expand_dims(t, axis=axis), np.expand_dims(x, axis))
        for axis in range(-x.ndim, x.ndim):
            assert_same(ops.flip(t, axis=axis), np.flip(x, axis))
            for other in range(-x.ndim, x.ndim):
                assert_same(ops.moveaxis(t, axis, other), np.moveaxis(x, axis, other))
                assert_same(ops.swapaxes(t, axis, other), np.swapaxes(x, axis, other))
        if x.ndim > 1:
            assert_same(ops.matrix_transpose(t), np.swapaxes(x, -1, -2))


def test_reshape_to_the_same_shape_keeps_the_array():
    x = tensor(numbers((2, 3)))
    assert ops.reshape(x, (2, 3))._data is x._data
    assert ops.broadcast_to(x, (2, 3))._data is x._data


def test_moveaxis_and_squeeze_take_several_axes():
    x = numbers((2, 1, 3, 1))
    assert_same(ops.moveaxis(tensor(x), (0, 1), (-1, 0)), np.moveaxis(x, (0, 1), (-1, 0)))
    assert_same(ops.squeeze(tensor(x), (1, -1)), np.squeeze(x, (1, -1)))
    assert_same(ops.expand_dims(tensor(x), axis=(0, -1)), np.expand_dims(x, (0, -1)))
    assert_same(ops.flatten(tensor(x), 1, 2), x.reshape(2, 3, 1))


@given(st.lists(st.integers(0, 3), max_size=4), st.randoms())
@settings(max_examples=60)
def test_permute_dims_of_any_permutation(shape, random):
    axes = list(range(len(shape)))
    random.shuffle(axes)
    axes = [a if random.random() < 0.5 else a - len(shape) for a in axes]
    x = numbers(shape)
    assert_same(ops.permute_dims(tensor(x), tuple(axes)), np.transpose(x, axes))


# -- joining, splitting, repeating -------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_concat_and_stack_join_as_numpy_does(dtype, device):
    a, b, c = (numbers(s, dtype.numpy) for s in ((2, 3), (2, 1), (2, 0)))
    assert_same(ops.concat([tensor(v, device) for v in (a, b, c)], axis=-1), np.concatenate([a, b, c], -1))
    assert_same(ops.concat([tensor(v, device) for v in (a, b)], axis=None), np.concatenate([a, b], None))
    for axis in range(-3, 3):
        assert_same(ops.stack([tensor(a, device)] * 2, axis=axis), np.stack([a, a], axis))
    assert_same(ops.stack([tensor(a[0, 0], device)] * 3), np.stack([a[0, 0]] * 3))


def test_concat_promotes():
    joined = ops.concat([tensor([1, 2], "reference"), tensor(np.float32([0.5]))])
    assert_same(joined, np.float32([1, 2, 0.5]))


@pytest.mark.parametrize("sections", [1, 2, 4, [1, 3], [2], [], [3, 1], [-1], [9]], ids=str)
def test_split_cuts_as_numpy_does(sections):
    x = numbers((4, 3))
    for mine, theirs in zip(ops.split(tensor(x), sections), np.split(x, sections), strict=True):
        assert_same(mine, theirs)
    for mine, theirs in zip(
        ops.array_split(tensor(x), sections, axis=-1), np.array_split(x, sections, axis=-1), strict=True
    ):
        assert_same(mine, theirs)


def test_unstack_undoes_stack():
    x = numbers((2, 3, 4))
    for axis in (-3, -2, 2):
        assert_same(ops.stack(ops.unstack(tensor(x), axis=axis), axis=axis), x)


@on_each
def test_roll_tile_and_repeat_repeat_as_numpy_does(device):
    for shape in SHAPES:
        x = numbers(shape)
        t = tensor(x, device)
        for shift in (0, 1, -2, 7):
            assert_same(ops.roll(t, shift), np.roll(x, shift))
            if x.ndim:
                assert_same(ops.roll(t, shift, axis=-1), np.roll(x, shift, -1))
        if x.ndim > 1:
            assert_same(ops.roll(t, (1, -1), axis=(0, 1)), np.roll(x, (1, -1), (0, 1)))
        for times in (0, 2, (2,), (1, 3), (2, 1, 2)):
            assert_same(ops.tile(t, times), np.tile(x, times))
        assert_same(ops.repeat(t, 2), np.repeat(x, 2))
        for axis in range(-x.ndim, x.ndim):
            assert_same(ops.repeat(t, 3, axis=axis), np.repeat(x, 3, axis))
            counts = np.arange(shape[axis]) % 3
            assert_same(ops.repeat(t, tensor(counts, device), axis=axis), np.repeat(x, counts, axis))
            assert_same(ops.repeat(t, counts.tolist(), axis=axis), np.repeat(x, counts, axis))


def test_broadcasting_of_several():
    x, y = tensor(numbers((2, 1))), tensor(numbers((3,)))
    for mine, theirs in zip(
        ops.broadcast_arrays(x, y), np.broadcast_arrays(x.numpy(), y.numpy()), strict=True
    ):
        assert_same(mine, theirs)
    assert ops.broadcast_shapes((2, 1), (3,), ()) == (2, 3)


@on_each
def test_diff_is_numpys(device):
    x = numbers((2, 5), np.float64)
    for n in (0, 1, 2, 6):
        assert_same(ops.diff(tensor(x, device), n=n), np.diff(x, n=n))
    joined = ops.diff(tensor(x, device), axis=0, prepend=tensor(x[:1], device), append=tensor(x, device))
    assert_same(joined, np.diff(x, axis=0, prepend=x[:1], append=x))
    flags = x % 2 == 0
    assert_same(ops.diff(tensor(flags, device)), np.diff(flags))


# -- padding and slices ------------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_pad_surrounds_with_a_constant(dtype, device):
    value = True if dtype.kind == "bool" else 3
    for shape in SHAPES:
        x = numbers(shape, dtype.numpy)
        assert_same(ops.pad(tensor(x, device), 1, constant_values=value), np.pad(x, 1, constant_values=value))
        assert_same(ops.pad(tensor(x, device), (0, 2)), np.pad(x, (0, 2)) if x.ndim else x)
        widths = [(i, 1) for i in range(x.ndim)]
        assert_same(ops.pad(tensor(x, device), widths), np.pad(x, widths) if x.ndim else x)


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_pad_continues_x_by_its_own_elements(mode):
    for shape in ((3,), (3, 4), (2, 3, 4)):
        x = numbers(shape)
        for widths in (1, (0, 1), [(1, 0)] * x.ndim):
            assert_same(ops.pad(tensor(x), widths, mode), np.pad(x, widths, mode=mode))
    assert gradcheck(lambda x: ops.pad(x, ((1, 2), (2, 0)), mode), [tensor(numbers((3, 4)))])


@given(st.data())
@settings(max_examples=60)
def test_strided_slice_and_update_agree_with_numpys_slices(data):
    shape = data.draw(st.lists(st.integers(0, 5), max_size=3))
    places = []
    for n in shape:
        step = data.draw(st.integers(-3, 3).filter(bool))
        start = data.draw(st.integers(0, n - 1)) if n else 0
        room = len(range(start, n if step > 0 else -1, step)) if n else 0
        places.append((start, data.draw(st.integers(0, room)), step))
    start, sizes, step = zip(*places, strict=True) if places else ((), (), ())
    place = {"start": start, "size": sizes, "step": step}
    x = numbers(shape)
    key = np.ix_(*[np.array([a + k * by for k in range(n)], int) for a, n, by in places])
    assert_same(ops.strided_slice(tensor(x), **place), x[key])
    value = -numbers(sizes) - 1
    expected = x.copy()
    expected[key] = value
    before = tensor(x)
    assert_same(ops.strided_update(before, tensor(value), **place), expected)
    assert_same(before, x)


# -- triangles and diagonals -------------------------------------------------------------------------------------


@on_each
@of_each_dtype
def test_triangles_and_diagonals_are_numpys(dtype, device):
    for shape in ((3, 3), (2, 4), (4, 2), (2, 3, 3), (0, 3), (3, 0), (1, 1)):
        x = numbers(shape, dtype.numpy)
        for k in (-9, -2, -1, 0, 1, 3, 9):
            assert_same(ops.tril(tensor(x, device), k=k), np.tril(x, k))
            assert_same(ops.triu(tensor(x, device), k=k), np.triu(x, k))
            assert_same(ops.diagonal(tensor(x, device), offset=k), np.diagonal(x, k, -2, -1))


def test_a_nan_outside_the_triangle_does_not_reach_it():
    x = tensor([[1.0, np.nan], [2.0, 3.0]])
    assert_same(ops.tril(x), np.array([[1.0, 0.0], [2.0, 3.0]]))


# -- derivatives -------------------------------------------------------------------------------------------------

X, Y = (
    tensor(np.random.default_rng(0).standard_normal((3, 4))),
    tensor(np.random.default_rng(1).standard_normal((2, 4))),
)
REGION = {"start": (2, 1), "size": (2, 2), "step": (-1, 2)}
LINEAR = {
    "reshape": (lambda x: ops.reshape(x, (2, 6)), [X]),
    "permute_dims": (lambda x: ops.permute_dims(ops.reshape(x, (2, 3, 2)), (2, 0, 1)), [X]),
    "broadcast_to": (lambda x: ops.broadcast_to(ops.reshape(x, (3, 1, 4)), (2, 3, 2, 4)), [X]),
    "flip": (lambda x: ops.flip(x, axis=0), [X]),
    "concat": (lambda x, y: ops.concat([x, y, x]), [X, Y]),
    "stack": (lambda x: ops.stack([x, x], axis=1), [X]),
    "pad": (lambda x: ops.pad(x, ((1, 0), (0, 2)), constant_values=3), [X]),
    "strided_slice": (lambda x: ops.strided_slice(x, **REGION), [X]),
    "strided_update": (lambda x, y: ops.strided_update(x, ops.reshape(y, (4, 2))[:2], **REGION), [X, Y]),
    "tril": (lambda x: ops.tril(x, k=1), [X]),
    "triu": (lambda x: ops.triu(x), [X]),
    "diagonal": (lambda x: ops.diagonal(x, offset=-1), [X]),
    "roll": (lambda x: ops.roll(x, (1, 2), axis=(0, 1)), [X]),
    "tile": (lambda x: ops.tile(x, (2, 1, 2)), [X]),
    "repeat": (lambda x: ops.repeat(x, [0, 2, 1], axis=0), [X]),
    "split": (lambda x: ops.split(x, [1], axis=1), [X]),
    "diff": (lambda x: ops.diff(x, n=2), [X]),
}  # fmt: skip


@on_each
@pytest.mark.parametrize("name", LINEAR)
def test_gradients_are_right_to_second_order(name, device):
    fn, args = LINEAR[name]
    args = [a.to(device) for a in args]
    cubic = lambda *xs: fn(*[x * x * x for x in xs])
    assert gradcheck(fn, args)
    assert gradgradcheck(cubic, args)


@pytest.mark.parametrize("name", LINEAR)
def test_forward_mode_is_the_function_of_the_tangent(name):
    fn, args = LINEAR[name]
    offset = fn(*[a * 0 for a in args])  # padding with a constant is affine
    result, tangent = jvp(fn, args, args)
    for y, dy, zero in zip(
        *(v if isinstance(v, list) else [v] for v in (result, tangent, offset)), strict=True
    ):
        np.testing.assert_allclose((dy + zero).numpy(), y.numpy(), rtol=1e-12)


def test_only_operands_that_require_it_get_a_gradient():
    x = tensor(np.ones((2, 2))).requires_grad_()
    y = tensor(np.ones((1, 2)))
    ops.concat([y, x, y]).sum().backward()
    assert_same(x.grad, np.ones((2, 2)))


def test_the_gradient_of_a_float32_slice_is_float32():
    _, pullback = vjp(lambda x: ops.strided_slice(x, **REGION), X.astype(dtypes.float32))
    (g,) = pullback(tensor(np.ones((2, 2), np.float32)))
    assert g.dtype is dtypes.float32


# -- refusals ----------------------------------------------------------------------------------------------------

M = tensor(numbers((2, 3)))


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: ops.reshape(M, (4, 2)), ShapeError, r"reshape: shape \(4, 2\) does not fit x of shape \(2, 3\) with 6 elements"),
    (lambda: ops.permute_dims(M, (0, 0)), ShapeError, "permute_dims: axes .* is not a permutation of the 2 axes"),
    (lambda: ops.broadcast_to(M, (3, 3)), ShapeError, r"broadcast_to: x of shape \(2, 3\) does not broadcast to \(3, 3\)"),
    (lambda: ops.flip(M, axis=2), ShapeError, "flip: axis 2 is out of range for 2 dimensions"),
    (lambda: ops.concat([M, ops.ravel(M)]), ShapeError, r"concat: arrays\[1\] has shape \(6,\).*as many axes"),
    (lambda: ops.concat([M, 1.0]), DTypeError, r"concat: arrays\[1\] must be a Tensor, got builtins.float"),
    (lambda: ops.concat([]), ShapeError, "concat: at least one tensor"),
    (lambda: ops.stack([M, M.T]), ShapeError, r"stack: arrays\[1\] has shape \(3, 2\)"),
    (lambda: ops.stack([]), ShapeError, "stack: at least one tensor"),
    (lambda: ops.squeeze(M, 0), ShapeError, "squeeze: .* only axes of size 1"),
    (lambda: ops.expand_dims(M, axis=4), ShapeError, "expand_dims: axis 4 is out of range for 3 dimensions"),
    (lambda: ops.expand_dims(M, axis=(0, 0)), ShapeError, "names an axis twice"),
    (lambda: ops.moveaxis(M, (0, 1), (0,)), ShapeError, "moveaxis: source .* as many different axes"),
    (lambda: ops.matrix_transpose(ops.ravel(M)), ShapeError, "matrix_transpose needs at least two dimensions"),
    (lambda: ops.flatten(M, 1, 0), ShapeError, "flatten: start_axis 1 comes after end_axis 0"),
    (lambda: ops.split(M, 2, axis=1), ShapeError, "split: .* does not divide into 2 equal parts: use array_split"),
    (lambda: ops.array_split(M, 0), ShapeError, "array_split: at least one part"),
    (lambda: ops.roll(M, (1, 2)), ShapeError, "roll: .* give axis="),
    (lambda: ops.roll(M, (1, 2), axis=0), ShapeError, "roll: 2 shifts for 1 axes"),
    (lambda: ops.tile(M, -1), ShapeError, "tile: repetitions must not be negative"),
    (lambda: ops.repeat(M, -1), ShapeError, "repeat: repeats must not be negative"),
    (lambda: ops.repeat(M, [1, -1], axis=0), ShapeError, "repeat: repeats must not be negative, got -1"),
    (lambda: ops.repeat(M, [1, 2, 3], axis=0), ShapeError, "for an axis of size 2"),
    (lambda: ops.repeat(M, M), DTypeError, "repeats must have an integer dtype, got float32"),
    (lambda: ops.diff(M, n=-1), ShapeError, "diff: n must not be negative"),
    (lambda: ops.pad(M, -1), ShapeError, "pad: pad_width must not be negative"),
    (lambda: ops.pad(M, [(1, 1)] * 3), ShapeError, "pad: pad_width has 3 pairs for an x of 2 dimensions"),
    (lambda: ops.pad(M, "ab"), ShapeError, "pad: pad_width must be an integer, a pair"),
    (lambda: ops.pad(M, 3, "reflect"), ShapeError, r"pad: axis -2 of size 2 is too short for \(3, 3\) elements in mode 'reflect'"),
    (lambda: ops.pad(M, 1, "mirror"), ShapeError, "pad: mode must be 'constant', 'edge', 'reflect' or 'wrap', got 'mirror'"),
    (lambda: ops.pad(M.astype(dtypes.int8), 1, constant_values=0.5), DTypeError, "constant_values 0.5 does not fit x of dtype int8"),
    (lambda: ops.pad(M.astype(dtypes.int8), 1, constant_values=300), DTypeError, "300 does not fit int8"),
    (lambda: ops.tril(ops.ravel(M)), ShapeError, "tril needs at least two dimensions"),
    (lambda: ops.diagonal(ops.ravel(M)), ShapeError, "diagonal needs at least two dimensions"),
    (lambda: ops.squeeze(3.0), DTypeError, r"squeeze: x must be a Tensor, got builtins.float: call corelib.asarray"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_a_refusal_says_what_was_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- methods -----------------------------------------------------------------------------------------------------


def test_methods_are_the_functions():
    x = numbers((2, 3))
    t = tensor(x)
    for mine in (t.reshape(3, 2), t.reshape((3, 2)), t.reshape([3, -1]), t.reshape(shape=(3, 2))):
        assert_same(mine, x.reshape(3, 2))
    for mine in (
        t.T,
        t.mT,
        t.transpose(),
        t.transpose(1, 0),
        t.permute_dims(1, 0),
        t.permute_dims((1, 0)),
        t.swapaxes(0, 1),
    ):
        assert_same(mine, x.T)
    assert_same(t.flatten(), x.ravel())
    assert_same(t.roll(1), np.roll(x, 1))
    assert_same(tensor(np.float32(3)).reshape(), np.float32(3))
    assert corelib.Tensor.tile is ops.tile


def test_type_checkers_see_the_methods_that_there_are():
    tree = ast.parse(Path(sys.modules["corelib.tensor"].__file__).read_text(encoding="utf-8"))
    (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    (block,) = (n for n in cls.body if isinstance(n, ast.If))
    table = importlib.import_module("corelib.ops.methods")
    attached = {
        *table.OPERATORS,
        *table.AS_THEY_ARE,
        *table.WITH_AXIS_FIRST,
        *table.WITH_SEVERAL_ARGUMENTS,
        "transpose",
    }
    assert {n.target.id for n in block.body} == attached
