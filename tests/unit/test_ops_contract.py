"""Contractions against NumPy: products of matrices and vectors in every rank, einsum in its whole notation; gradients and refusals."""

from __future__ import annotations

import importlib

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
of_each_numeric_dtype = pytest.mark.parametrize("dtype", dtypes.NUMERIC, ids=lambda d: d.name)


def numbers(shape, dtype=np.float64, seed=0):
    values = np.random.default_rng([seed, *shape]).integers(-4, 5, shape)
    return (abs(values) if np.dtype(dtype).kind == "u" else values).astype(dtype)


def tensor(values, device="reference"):
    return corelib.asarray(np.asarray(values), device=device)


def assert_same(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype is dtypes.as_dtype(expected.dtype)
    np.testing.assert_array_equal(actual.numpy(), expected)


def spy_on_matmul(monkeypatch, module):
    """The shapes of the products that a module asks for, as it asks."""
    seen, matmul = [], ops.matmul
    monkeypatch.setattr(
        importlib.import_module(module),
        "matmul",
        lambda a, b: seen.append((a.shape, b.shape)) or matmul(a, b),
    )
    return seen


# -- matrices and vectors ----------------------------------------------------------------------------------------

PAIRS = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((2, 5, 2, 3), (3, 4)), ((1, 1), (1, 1)),
]  # fmt: skip
EMPTY = [
    ((2, 0), (0, 3)),
    ((0, 2), (2, 3)),
    ((0, 2, 3), (3, 4)),
    ((0,), (0,)),
    ((2, 3), (3, 0)),
    ((0, 3), (3,)),
]


@on_each
@of_each_numeric_dtype
def test_matmul_is_numpys(dtype, device):
    for first, second in PAIRS + EMPTY:
        x1, x2 = numbers(first, dtype.numpy), numbers(second, dtype.numpy, 1)
        assert_same(ops.matmul(tensor(x1, device), tensor(x2, device)), np.matmul(x1, x2))


@on_each
def test_matmul_takes_views(device):
    x = numbers((4, 3, 5), np.float32)
    t = tensor(x, device)
    assert_same(t.mT @ t, np.swapaxes(x, -1, -2) @ x)
    assert_same(ops.flip(t) @ t.mT, np.flip(x) @ np.swapaxes(x, -1, -2))
    row = ops.broadcast_to(tensor(numbers((5,), np.float32), device), (4, 5))
    assert_same(t @ row.T, x @ np.broadcast_to(numbers((5,), np.float32), (4, 5)).T)


def test_matmul_promotes():
    assert (tensor(np.ones((2, 2), np.int16)) @ tensor(np.ones((2, 2), np.float32))).dtype is dtypes.float32


@on_each
@of_each_numeric_dtype
def test_products_of_vectors_are_numpys(dtype, device):
    for first, second, axis in (
        ((3,), (3,), -1),
        ((2, 3), (3,), -1),
        ((2, 3), (2, 3), 0),
        ((4, 1, 3), (2, 3), -1),
        ((2, 3, 4), (1, 3, 4), -2),
        ((0,), (0,), -1),
    ):
        x1, x2 = numbers(first, dtype.numpy), numbers(second, dtype.numpy, 1)
        both = np.broadcast_arrays(x1, x2)
        expected = (both[0] * both[1]).sum(axis if axis < 0 else axis - len(first), dtype=dtype.numpy)
        assert_same(ops.vecdot(tensor(x1, device), tensor(x2, device), axis=axis), expected)
    x1, x2 = numbers((3,), dtype.numpy), numbers((4,), dtype.numpy, 1)
    assert_same(ops.outer(tensor(x1, device), tensor(x2, device)), np.outer(x1, x2))


@on_each
@of_each_numeric_dtype
def test_tensordot_is_numpys(dtype, device):
    x1, x2 = numbers((2, 3, 4), dtype.numpy), numbers((4, 3, 2), dtype.numpy, 1)
    for axes in (0, 1, ((0, 1), (2, 1)), ((2,), (0,)), ((-1, 1), (0, -2)), (0, 2)):
        assert_same(
            ops.tensordot(tensor(x1, device), tensor(x2, device), axes=axes), np.tensordot(x1, x2, axes)
        )
    x3 = numbers((3, 4, 5), dtype.numpy, 2)
    assert_same(ops.tensordot(tensor(x1, device), tensor(x3, device)), np.tensordot(x1, x3))


@on_each
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_trace_is_numpys(dtype, device):
    for shape in ((3, 3), (2, 4), (2, 3, 3), (0, 3)):
        x = abs(numbers(shape)).astype(dtype.numpy)
        for offset in (-9, -1, 0, 1):
            expected = np.diagonal(x, offset, -2, -1).sum(-1)
            assert_same(ops.trace(tensor(x, device), offset=offset), expected)


# -- einsum ------------------------------------------------------------------------------------------------------

SIZES = {"i": 3, "j": 4, "k": 2, "l": 5, "a": 2, "b": 3, "c": 4, "d": 2, "e": 3, "h": 2, "q": 3}
NOTATIONS = [
    "ij,jk->ik", "ij,jk", "ij->ji", "ij->", "ij->j", "ji", "i,i", "i,j", "i,j->ij", "i,j->ji", "bij,bjk->bik", "...ij,...jk->...ik",
    "...ij,jk", "ij,jk,kl->il", "ab,bc,cd,da", "i,i,i->i", "ij,ij->ij", "...i,i", "i...->...", "...i->i...", "i,ij,j->", "abc,cd,bde->ae",
    "ij...,j->i...", "a,b,c,d->dcba", "bhqd,bhkd->bhqk", "ij,j,k->", "...,...->...", "...,...", "a...b,...c->...abc", "ij , jk -> ik", ",i",
]  # fmt: skip
DIAGONALS = ["ii", "ii->i", "iij->j", "ijij->ij", "ii,ij->j", "iii", "...ii->...", "ii...->...i"]


def operands(notation, dots, dtype=np.float64):
    """Arrays that fit; each letter of a diagonal has one size."""
    result = []
    for position, term in enumerate(notation.replace(" ", "").split("->")[0].split(",")):
        before, ellipsis, after = term.partition("...")
        middle = dots[position:] if ellipsis else ()  # shorter for later operands: they broadcast
        result.append(
            numbers((*[SIZES[c] for c in before], *middle, *[SIZES[c] for c in after]), dtype, position)
        )
    return result


@on_each
@pytest.mark.parametrize("notation", NOTATIONS + DIAGONALS)
def test_einsum_is_numpys(notation, device):
    for dots in ((), (3,), (2, 3)):
        for dtype in (np.float64, np.int32):
            arrays = operands(notation, dots, dtype)
            assert_same(
                ops.einsum(notation, *[tensor(a, device) for a in arrays]), np.einsum(notation, *arrays)
            )


@on_each
def test_einsum_broadcasts_axes_of_size_one(device):
    x, y = numbers((2, 1, 3)), numbers((4, 3))
    assert_same(
        ops.einsum("...i,...i->...", tensor(x, device), tensor(y, device)), np.einsum("...i,...i->...", x, y)
    )
    x, y = numbers((2, 1)), numbers((5, 3))
    assert_same(
        ops.einsum("ij,jk->ik", tensor(x, device), tensor(y, device)),
        np.einsum("ij,jk->ik", np.broadcast_to(x, (2, 5)), y),
    )


@given(st.data())
@settings(max_examples=80)
def test_einsum_of_random_notations(data):
    letters = "abcd"
    terms = data.draw(st.lists(st.text(letters, max_size=3), min_size=1, max_size=4))
    used = sorted(set("".join(terms)))
    chosen = data.draw(st.permutations(used))[: data.draw(st.integers(0, len(used)))]
    notation = ",".join(terms) + "->" + "".join(chosen)
    sizes = {c: data.draw(st.integers(0, 3)) for c in used}
    arrays = [numbers([sizes[c] for c in term], seed=i) for i, term in enumerate(terms)]
    assert_same(ops.einsum(notation, *map(tensor, arrays)), np.einsum(notation, *arrays))


def test_a_chain_is_contracted_in_the_order_that_grows_least(monkeypatch):
    seen = spy_on_matmul(monkeypatch, "corelib.ops.einsum")
    ops.einsum("ij,jk,kl->il", *[tensor(numbers(s)) for s in ((40, 2), (2, 40), (40, 1))])
    assert seen == [((2, 40), (40, 1)), ((40, 2), (2, 1))]


def test_einsum_promotes_and_wraps():
    small, wide = tensor(np.int8([100, 100])), tensor(np.int16([1, 1]))
    assert_same(ops.einsum("i,i", small, wide), np.int16(200))
    assert_same(ops.einsum("i->", small), np.array(200 - 256, np.int8))


# -- derivatives -------------------------------------------------------------------------------------------------


def real(shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@on_each
@pytest.mark.parametrize("shapes", PAIRS + EMPTY, ids=str)
def test_matmul_has_the_right_gradients(shapes, device):
    args = [tensor(real(s, i), device) for i, s in enumerate(shapes)]
    assert gradcheck(ops.matmul, args)
    assert gradgradcheck(ops.matmul, args)
    y, dy = jvp(ops.matmul, args, args)
    np.testing.assert_allclose(dy.numpy(), 2 * y.numpy(), rtol=1e-12)


def test_the_gradient_of_a_weight_is_one_product_of_matrices(monkeypatch):
    x, w = tensor(real((4, 5, 2, 3))), tensor(real((3, 6)))
    y, pullback = vjp(lambda w: ops.matmul(x, w), w)
    seen = spy_on_matmul(monkeypatch, "corelib.ops.contract")
    (g,) = pullback(y)
    assert seen == [((3, 40), (40, 6))]
    np.testing.assert_allclose(g.numpy(), np.einsum("abik,abij->kj", x.numpy(), y.numpy()), rtol=1e-12)


@on_each
@pytest.mark.parametrize(("name", "fn", "shapes"), [
    ("vecdot", lambda x, y: ops.vecdot(x, y), ((2, 3), (4, 1, 3))),
    ("outer", lambda x, y: ops.outer(x, y), ((3,), (2,))),
    ("tensordot", lambda x, y: ops.tensordot(x, y, axes=((0, 2), (1, 0))), ((2, 3, 4), (4, 2))),
    ("trace", lambda x: ops.trace(x, offset=1), ((2, 3, 4),)),
    ("einsum", lambda x, y, z: ops.einsum("bij,bjk,kl->bil", x, y, z), ((2, 3, 2), (2, 2, 3), (3, 2))),
    ("diagonal", lambda x, y: ops.einsum("iij,...j->i...", x, y), ((2, 2, 3), (2, 3))),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_the_others_have_the_right_gradients(name, fn, shapes, device):
    args = [tensor(real(s, i), device) for i, s in enumerate(shapes)]
    assert gradcheck(fn, args)
    assert gradgradcheck(fn, args)


# -- refusals ----------------------------------------------------------------------------------------------------

M, N, V = tensor(numbers((2, 3))), tensor(numbers((4, 5))), tensor(numbers((4,)))


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: M @ N, ShapeError, r"matmul: shapes \(2, 3\) and \(4, 5\) do not fit: the last axis of x1 has 3 elements, the second to last axis of x2 has 4"),
    (lambda: M @ V, ShapeError, r"shapes \(2, 3\) and \(4,\).*the only axis of x2 has 4"),
    (lambda: M @ tensor(3.0), ShapeError, "matmul needs at least one dimension.*use multiply"),
    (lambda: tensor(np.ones((2, 2, 3))) @ tensor(np.ones((3, 3, 2))), ShapeError, "leading axes: shapes .* do not broadcast"),
    (lambda: tensor([[True]]) @ tensor([[True]]), DTypeError, "matmul does not accept bool"),
    (lambda: M @ 2.0, DTypeError, "matmul: x2 must be a Tensor"),
    (lambda: ops.vecdot(M, V), ShapeError, "vecdot: .*axis -1 has 3 and 4 elements"),
    (lambda: ops.vecdot(M, tensor(np.ones(3)), axis=0), ShapeError, "vecdot: axis -2 is out of range for x2"),
    (lambda: ops.outer(M, V), ShapeError, "outer: both operands must have one dimension"),
    (lambda: ops.tensordot(M, N, axes=1), ShapeError, "tensordot: shapes .* axis -1 of x1 has 3 elements, axis -2 of x2 has 4"),
    (lambda: ops.tensordot(M, N, axes=3), ShapeError, "tensordot: axes 3 is out of range"),
    (lambda: ops.tensordot(M, N, axes=((0, 1), (0,))), ShapeError, "two sequences of as many axes"),
    (lambda: ops.tensordot(M, M, axes=((0, 0), (0, 0))), ShapeError, "names an axis twice"),
    (lambda: ops.trace(V), ShapeError, "trace needs at least two dimensions"),
    (lambda: ops.einsum("ij,jk", M), ShapeError, "einsum: 'ij,jk' is for 2 operands, got 1"),
    (lambda: ops.einsum("ij,jk", M, N), ShapeError, r"einsum: axis 'j' in 'ij,jk' has sizes 3 and 4, shapes are \(2, 3\), \(4, 5\)"),
    (lambda: ops.einsum("ij->k", M), ShapeError, "einsum: 'k' in the result of 'ij->k' is in no operand"),
    (lambda: ops.einsum("ij->ii", M), ShapeError, "einsum: 'i' is twice in the result"),
    (lambda: ops.einsum("ijk", M), ShapeError, "einsum: 'ijk' in 'ijk' does not fit operand 0 of 2 dimensions"),
    (lambda: ops.einsum("i", M), ShapeError, "does not fit operand 0 of 2 dimensions"),
    (lambda: ops.einsum("i1", M), ShapeError, "einsum: '1' in 'i1' is not a letter"),
    (lambda: ops.einsum("i..j", M), ShapeError, "einsum: '.' in 'i..j' is not a letter"),
    (lambda: ops.einsum("ii", M), ShapeError, r"einsum: the diagonal 'i' in 'ii' needs axes of one size, x has shape \(2, 3\)"),
    (lambda: ops.einsum("...,...", M, N), ShapeError, r"einsum: an axis of '...' in .* has sizes 2 and 4"),
    (lambda: ops.einsum(M, "ij"), DTypeError, "einsum: subscripts must be a string"),
    (lambda: ops.einsum("i", [1, 2]), DTypeError, "einsum: operand 0 must be a Tensor"),
    (lambda: ops.einsum("i", tensor([True])), DTypeError, "einsum does not accept bool"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_a_refusal_says_what_was_wrong(call, error, words):
    with pytest.raises(error, match=words):
        call()
