"""The ops of neural networks against closed formulas in float64: values, first and second derivatives, tails, memory and refusals."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import corelib
from corelib import nn, ops
from corelib.autograd import grad, vjp
from corelib.errors import ArgumentError, DTypeError, IndexOutOfBoundsError, ShapeError
from corelib.nn import functional

on_each = pytest.mark.parametrize(
    "device", ["reference", pytest.param("cpu", marks=pytest.mark.device("cpu"))]
)
erf = np.vectorize(math.erf, otypes=[float])


def tensor(values, device="reference", dtype=None):
    return corelib.asarray(np.asarray(values, dtype=dtype), device=device)


def close(actual, expected, rtol=1e-12, atol=1e-13):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=atol)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# -- activations -------------------------------------------------------------------------------------------------


def s(x):
    return 1 / (1 + np.exp(-x))


def cdf(x):
    return 0.5 * (1 + erf(x / math.sqrt(2)))


def density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def u(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def tanh_gelu_slope(x):
    t, inner = np.tanh(u(x)), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner


# (name, options, value, derivative)
ACTIVATIONS = [
    ("relu", {}, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    ("leaky_relu", {}, lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    ("leaky_relu", {"negative_slope": 2.0}, lambda x: np.where(x > 0, x, 2 * x), lambda x: np.where(x > 0, 1, 2.0)),
    ("leaky_relu", {"negative_slope": -1.0}, lambda x: np.abs(x), lambda x: np.sign(x)),
    ("elu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), lambda x: np.where(x > 0, 1, 0.5 * np.exp(x))),
    ("sigmoid", {}, s, lambda x: s(x) * (1 - s(x))),
    ("log_sigmoid", {}, lambda x: np.log(s(x)), lambda x: 1 - s(x)),
    ("silu", {}, lambda x: x * s(x), lambda x: s(x) + x * s(x) * (1 - s(x))),
    ("softplus", {}, lambda x: np.log1p(np.exp(x)), s),
    ("softplus", {"beta": 3.0}, lambda x: np.log1p(np.exp(3 * x)) / 3, lambda x: s(3 * x)),
    ("gelu", {}, lambda x: x * cdf(x), lambda x: cdf(x) + x * density(x)),
    ("gelu", {"approximate": "tanh"}, lambda x: 0.5 * x * (1 + np.tanh(u(x))), tanh_gelu_slope),
]  # fmt: skip


@on_each
@pytest.mark.parametrize(
    ("name", "options", "value", "slope"), ACTIVATIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_activations_and_their_derivatives_follow_the_formula(name, options, value, slope, device):
    x = np.concatenate([np.linspace(-4, 4, 41), [-0.3, 0.7]]).reshape(1, 43)
    x = x[x != 0]
    op = getattr(ops, name)
    y, pullback = vjp(lambda t: op(t, **options), tensor(x, device))
    g = normal(x.size)
    close(y, value(x))
    close(pullback(tensor(g, device))[0], g * slope(x))


@pytest.mark.parametrize(
    ("name", "options", "value", "slope"), ACTIVATIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_second_derivatives_are_slopes_of_first_ones(name, options, value, slope):
    x, h = np.array([-2.3, -0.9, 0.4, 1.7]), 1e-5
    op = getattr(ops, name)
    second = grad(lambda t: ops.sum(grad(lambda v: ops.sum(op(v, **options)))(t)))(tensor(x))
    close(second, (slope(x + h) - slope(x - h)) / (2 * h), rtol=1e-5, atol=1e-7)


def test_kinks_and_special_values():
    x = tensor([0.0, -0.0, math.nan, math.inf, -math.inf]).requires_grad_()
    y = ops.relu(x)
    assert str(y.tolist()) == "[0.0, 0.0, nan, inf, 0.0]"
    y.backward(ops.ones_like(y))
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert str(ops.sigmoid(x).tolist()) == "[0.5, 0.5, nan, 1.0, 0.0]"
    assert str(ops.softplus(x).tolist()[2:]) == "[nan, inf, 0.0]"
    assert ops.sigmoid(tensor([1e4, -1e4], dtype="f4")).tolist() == [1.0, 0.0]


@on_each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_tails_are_accurate_to_a_few_ulp(dtype, device):
    x = np.array([-87, -40.5, -20, -3, -1e-3, 0, 1e-3, 3, 16, 17, 40.5, 87], dtype=dtype)
    eps = np.finfo(dtype).eps
    mpmath.mp.prec = 200
    exact = {
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
        "log_sigmoid": lambda v: -mpmath.log1p(mpmath.exp(-v)),
        "silu": lambda v: v / (1 + mpmath.exp(-v)),
    }
    for name, formula in exact.items():
        expected = np.array([float(formula(mpmath.mpf(float(v)))) for v in x])
        close(getattr(ops, name)(tensor(x, device)), expected, rtol=5 * eps, atol=0)
    left = x[x < 0]  # where 1 + tanh(u) cancels, the sigmoid does not
    expected = np.array([float(v * 1 / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (v + mpmath.mpf("0.044715") * v**3))))
                         for v in map(mpmath.mpf, [-5.0, -3.0])])  # fmt: skip
    assert left.size
    close(ops.gelu(tensor([-5, -3], device, dtype), approximate="tanh"), expected, rtol=100 * eps, atol=0)


# -- softmax -----------------------------------------------------------------------------------------------------


def np_softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@on_each
def test_softmax_and_log_softmax_along_each_axis(device):
    x, g = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    for axis in range(-3, 3):
        p = np_softmax(x, axis)
        y, pullback = vjp(lambda t, axis=axis: ops.softmax(t, axis=axis), tensor(x, device))
        close(y, p)
        close(pullback(tensor(g, device))[0], p * (g - (g * p).sum(axis, keepdims=True)))
        y, pullback = vjp(lambda t, axis=axis: ops.log_softmax(t, axis=axis), tensor(x, device))
        close(y, np.log(p))
        close(pullback(tensor(g, device))[0], g - p * g.sum(axis, keepdims=True))


@on_each
def test_softmax_neither_overflows_nor_loses_what_is_far_away(device):
    x = tensor([[1e4, 0.0, -1e4], [-1e30, -1e30, -1e30]], device, "f4")
    np.testing.assert_array_equal(ops.softmax(x).numpy(), np.float32([[1, 0, 0], [1 / 3] * 3]))
    np.testing.assert_array_equal(ops.log_softmax(x).numpy()[0], np.float32([0, -1e4, -2e4]))


def test_softmax_of_nothing():
    assert ops.softmax(tensor(np.zeros((0, 3)))).shape == (0, 3)
    assert ops.softmax(tensor(np.zeros((3, 0)))).shape == (3, 0)
    with pytest.raises(ShapeError, match="softmax: axis -1 is out of range for 0 dimensions"):
        ops.softmax(tensor(1.0))
    with pytest.raises(DTypeError, match="softmax does not accept int64"):
        ops.softmax(tensor([1, 2]))


# -- normalization -----------------------------------------------------------------------------------------------


def np_layer_norm(x, w, b, axes, eps=1e-5):
    m, v = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - m) / np.sqrt(v + eps) * w + b


def np_rms_norm(x, w, axes, eps):
    return x / np.sqrt((x * x).mean(axes, keepdims=True) + eps) * w


def slopes(fn, args, g, h=1e-6):
    """The gradients of sum(g * fn(*args)) by central differences."""
    found = []
    for n, a in enumerate(args):
        result = np.zeros_like(a)
        for i in np.ndindex(a.shape):
            up, down = a.copy(), a.copy()
            up[i] += h
            down[i] -= h
            changed = [[*args[:n], v, *args[n + 1 :]] for v in (up, down)]
            result[i] = (g * (fn(*changed[0]) - fn(*changed[1]))).sum() / (2 * h)
        found.append(result)
    return found


@on_each
@pytest.mark.parametrize("axes", [(-1,), (-2, -1)])
def test_norms_and_their_three_gradients(axes, device):
    shape = (4, 3, 5)[3 + axes[0] :]
    x, w, b, g = normal(4, 3, 5), normal(*shape, seed=1), normal(*shape, seed=2), normal(4, 3, 5, seed=3)
    cases = [
        (lambda *a: np_layer_norm(*a, axes), lambda *a: ops.layer_norm(*a, axis=axes), (x, w, b)),
        (
            lambda a, c: np_rms_norm(a, c, axes, 1e-3),
            lambda *a: ops.rms_norm(*a, axis=axes, eps=1e-3),
            (x, w),
        ),
        (lambda a: np_layer_norm(a, 1, 0, axes), lambda a: ops.layer_norm(a, axis=axes), (x,)),
    ]
    for expected, op, args in cases:
        y, pullback = vjp(op, *[tensor(a, device) for a in args])
        close(y, expected(*args))
        for found, want in zip(pullback(tensor(g, device)), slopes(expected, args, g), strict=True):
            close(found, want, rtol=1e-6, atol=1e-7)


def test_rms_norm_takes_the_dtypes_epsilon_unless_given():
    x = tensor([[1e-4, 2e-4]], dtype="f4")
    close(ops.rms_norm(x), np_rms_norm(x.numpy().astype("f8"), 1, -1, np.finfo("f4").eps), rtol=1e-6)


@on_each
def test_layer_norm_of_large_equal_values_is_zero_and_finite(device):
    y = ops.layer_norm(ops.full((2, 64), 1e4, dtype="float32", device=device))
    np.testing.assert_array_equal(y.numpy(), np.zeros((2, 64), "f4"))


# -- linear maps and embeddings ----------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("lead", [(), (7,), (2, 3), (0,), (2, 0, 3)])
def test_linear_and_its_gradients(lead, device):
    x, w, b, g = normal(*lead, 5), normal(4, 5, seed=1), normal(4, seed=2), normal(*lead, 4, seed=3)
    y, pullback = vjp(ops.linear, *[tensor(a, device) for a in (x, w, b)])
    close(y, x @ w.T + b)
    gx, gw, gb = pullback(tensor(g, device))
    close(gx, g @ w)
    close(gw, g.reshape(-1, 4).T @ x.reshape(-1, 5))
    close(gb, g.reshape(-1, 4).sum(0))
    close(ops.linear(tensor(x, device), tensor(w, device)), x @ w.T)


def test_linear_keeps_and_computes_only_what_is_asked_for():
    x, w, b = tensor(normal(3, 5)), tensor(normal(4, 5)).requires_grad_(), tensor(normal(4)).requires_grad_()
    y = ops.linear(x, w, b)
    kept = y._node.saved
    assert kept[0] is x._data  # for the weight's gradient
    assert kept[1] is None  # x needs none, so the weight is not kept
    assert kept[2] is None
    assert y._node.result is None


@on_each
def test_embedding_reads_rows_and_adds_gradients_of_equal_indices(device):
    w = normal(4, 3)
    i = np.array([[0, 3], [3, 3]])
    y, pullback = vjp(lambda t: ops.embedding(tensor(i, device), t), tensor(w, device))
    close(y, w[i])
    expected = np.zeros_like(w)
    np.add.at(expected, i, np.ones((2, 2, 3)))
    close(pullback(ops.ones_like(y))[0], expected)
    weight = tensor(w, device).requires_grad_()
    ops.sum(functional.embedding(tensor(i, device), weight, padding_idx=3)).backward()
    expected[3] = 0
    close(weight.grad, expected)


@on_each
@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_an_index_that_is_no_row_is_an_error_with_the_index(bad, device):
    for call in (lambda i: ops.embedding(i, tensor(normal(4, 3), device)), lambda i: ops.one_hot(i, 4)):
        with pytest.raises(
            IndexOutOfBoundsError, match=rf"(index|label) {bad} is out of range for 4: valid are 0 to 3"
        ):
            call(tensor([0, 2, bad], device))


@on_each
def test_one_hot(device):
    i = np.array([[2, 0], [1, 1]])
    y = ops.one_hot(tensor(i, device), 3)
    assert y.dtype is corelib.int64
    np.testing.assert_array_equal(y.numpy(), np.eye(3, dtype=int)[i])
    assert ops.one_hot(tensor(np.array([1], "u1"), device), 2, dtype="float32").tolist() == [[0.0, 1.0]]


# -- dropout -----------------------------------------------------------------------------------------------------


@on_each
def test_dropout_is_the_same_everywhere_and_its_gradient_has_the_same_mask(device):
    bits = ops.random_bits(
        tensor(np.array([1, 2], "u4")), tensor(np.array(7, "u8")), (1000,), dtype="uint32"
    ).numpy()
    key, counter = tensor(np.array([1, 2], "u4"), device), tensor(np.array(7, "u8"), device)
    x = normal(1000)
    y, pullback = vjp(lambda t: ops.dropout(t, key, counter, p=0.25), tensor(x, device))
    kept = bits >= 2**30
    assert 700 < kept.sum() < 800
    close(y, np.where(kept, x / 0.75, 0))
    close(pullback(ops.ones_like(y))[0], kept / 0.75)
    node = ops.dropout(tensor(x, device).requires_grad_(), key, counter)._node
    assert [getattr(d, "shape", None) for d in node.saved] == [None, (2,), ()]  # no mask is kept


def test_dropout_in_training_and_evaluation():
    x = ops.ones((10_000,), device="reference")
    layer = nn.Dropout(0.4, generator=corelib.random.Generator(1))
    first, second = layer(x).numpy(), layer(x).numpy()
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.6)}
    assert abs((first == 0).mean() - 0.4) < 0.02
    again = nn.Dropout(0.4, generator=corelib.random.Generator(1))
    np.testing.assert_array_equal(again(x).numpy(), first)
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(ops.full((3,), math.inf, device="reference")).numpy().any()
    with pytest.raises(ArgumentError, match=r"Dropout: p must be in \[0, 1\], got 1.5"):
        nn.Dropout(1.5)


# -- memory ------------------------------------------------------------------------------------------------------


def test_a_node_keeps_only_what_its_rule_reads():
    x = tensor(normal(3, 4)).requires_grad_()
    w = tensor(normal(4)).requires_grad_()
    y = ops.relu(x)
    assert (y._node.saved, y._node.result is y._data) == ((None,), True)
    for op in (ops.sigmoid, ops.softmax, ops.log_softmax):
        y = op(x)
        assert (y._node.saved, y._node.result is y._data) == ((None,), True)
    for op in (ops.silu, ops.gelu, ops.softplus, ops.leaky_relu):
        y = op(x)
        assert (y._node.saved[0] is x._data, y._node.result) == (True, None)
    y = ops.layer_norm(x, w)
    assert y._node.saved[0] is x._data
    assert y._node.saved[1] is w._data
    assert y._node.result is None
    labels = tensor([0, 1, 2])
    y = ops.cross_entropy(x, labels)
    assert (y._node.saved[0] is x._data, y._node.saved[1] is labels._data, y._node.result) == (
        True,
        True,
        None,
    )
    y = ops.nll_loss(x, labels)
    assert y._node.saved[0] is None
