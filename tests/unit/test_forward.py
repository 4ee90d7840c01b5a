"""Forward mode and what is made of it: jvp nested with itself and with grad, Jacobians, Hessians; every op is in test_transformed_ops.py."""

from __future__ import annotations

import math

import pytest

import corelib as cl
from corelib import errors as err
from corelib import nn, ops, random


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def device(request):
    with cl.use_backend(request.param):
        yield request.param


def t(values, dtype=cl.float64):
    return cl.asarray(values, dtype=dtype)


def near(actual, expected, limit=1e-13):
    assert actual.shape == expected.shape
    assert not expected.size or ops.max(ops.abs(actual - expected)).item() <= limit


# -- jvp -----------------------------------------------------------------------------------------------------


def test_a_directional_derivative_of_trees():
    f = lambda p, x: {"y": ops.sin(p["w"] * x), "n": (p["b"] * 2, 3, None)}
    p, x = {"w": t([1.0, 2.0]), "b": t(5.0)}, t([0.5, -1.0])
    y, dy = cl.jvp(f, (p, x), ({"w": t([1.0, 0.0]), "b": t(0.5)}, t([0.0, 1.0])))
    near(y["y"], ops.sin(p["w"] * x))
    near(dy["y"], ops.cos(p["w"] * x) * t([0.5, 2.0]))
    assert (y["n"][0].item(), y["n"][1:], dy["n"][0].item(), dy["n"][1:]) == (
        10.0,
        (3, None),
        1.0,
        (None, None),
    )


def test_what_does_not_depend_has_a_tangent_of_zeros_and_aux_comes_back():
    x, other = t([1.0, 2.0]), t([3.0])
    y, dy = cl.jvp(lambda x: (other, ops.floor(x), x.detach(), ops.argmax(x)), (x,), (x,))
    assert [d.tolist() for d in dy] == [[0.0], [0.0, 0.0], [0.0, 0.0], 0] and y[0].tolist() == [3.0]
    y, dy, aux = cl.jvp(lambda x: (x * 2, {"k": x + 1}), (x,), (x,), has_aux=True)
    assert (y.tolist(), dy.tolist(), aux["k"].tolist()) == ([2.0, 4.0], [2.0, 4.0], [2.0, 3.0])


def test_nested_forward_modes_do_not_confuse_their_tangents():
    one = t(1.0)
    inner = lambda x: cl.jvp(lambda y: x + y, (one,), (one,))[1]  # 1, whatever x is
    assert [v.item() for v in cl.jvp(lambda x: x * inner(x), (t(3.0),), (one,))] == [3.0, 1.0]
    product = lambda x: cl.jvp(lambda y: x * y * y, (t(2.0),), (one,))[1]  # 4 x
    assert [v.item() for v in cl.jvp(product, (t(3.0),), (one,))] == [12.0, 4.0]
    third = lambda x: cl.jvp(lambda y: cl.jvp(lambda z: y * z**3, (y,), (one,))[1], (x,), (one,))[
        1
    ]  # (3 y^3)'
    assert [v.item() for v in cl.jvp(third, (t(2.0),), (one,))] == [36.0, 36.0]


def test_forward_and_reverse_nest_both_ways():
    x, one = t(0.7), t(1.0)
    f = lambda x: ops.exp(ops.sin(x))
    second = (math.cos(0.7) ** 2 - math.sin(0.7)) * math.exp(math.sin(0.7))
    slope = lambda x: cl.jvp(f, (x,), (one,))[1]
    assert cl.grad(slope)(x).item() == pytest.approx(second, rel=1e-14)
    assert cl.jvp(cl.grad(f), (x,), (one,))[1].item() == pytest.approx(second, rel=1e-14)
    confused = lambda x: cl.grad(lambda y: cl.jvp(lambda z: x * y * z, (one,), (one,))[1])(one)  # x
    assert cl.grad(lambda x: x * confused(x))(t(3.0)).item() == 6.0
    assert cl.jvp(lambda x: x * confused(x), (t(3.0),), (one,))[1].item() == 6.0
    mixed = lambda x: cl.jvp(lambda y: cl.grad(lambda z: x * y * z * z)(y), (x,), (one,))[1]  # 4 x y at y = x
    assert cl.grad(mixed)(t(2.0)).item() == 16.0


def test_tangents_reach_leaves_and_captured_tensors_stay_constant():
    w = t(3.0).requires_grad_()
    y, dy = cl.jvp(lambda x: w * x * x, (t(2.0),), (t(1.0),))
    (y + dy).backward()
    assert w.grad.item() == 8.0
    with cl.no_grad():
        y, dy = cl.jvp(lambda x: w * x, (t(2.0),), (t(1.0),))
    assert dy.item() == 3.0 and not y.requires_grad and not dy.requires_grad


def test_no_grad_inside_makes_constants():
    def f(x):
        with cl.no_grad():
            factor = x * 2
        return factor * x

    x, one = t(3.0), t(1.0)
    assert cl.jvp(f, (x,), (one,))[1].item() == cl.grad(f)(x).item() == 6.0
    with cl.no_grad():
        assert cl.jvp(f, (x,), (one,))[1].item() == 6.0


def test_values_can_be_read_and_branched_on():
    f = lambda x: x * x if x > 0 and float(x) < 10 else -x
    assert [cl.jvp(f, (t(v),), (t(1.0),))[1].item() for v in (3.0, -3.0)] == [6.0, -1.0]
    y, dy = cl.jvp(lambda x: x[x > 1.5] ** 2, (t([1.0, 2.0, 3.0]),), (t([1.0, 1.0, 10.0]),))
    assert (y.tolist(), dy.tolist()) == ([4.0, 9.0], [4.0, 60.0])


def test_assignment_carries_tangents():
    def f(x):
        y = cl.zeros(3, dtype=cl.float64)
        y[0] = x[1]
        y[1:] += x * x
        y[-1] = 7.0
        return y

    y, dy = cl.jvp(f, (t([2.0, 3.0]),), (t([1.0, 10.0]),))
    assert (y.tolist(), dy.tolist()) == ([3.0, 4.0, 7.0], [10.0, 4.0, 0.0])


def test_state_that_changes_inside_keeps_its_value():
    total = t(0.0)

    def f(x):
        nonlocal total
        total += x * 2
        return x

    cl.jvp(f, (t(3.0),), (t(1.0),))
    assert total.item() == 6.0 and total.tolist() == 6.0 and (total + 1).item() == 7.0
    with pytest.raises(RuntimeError, match="stop"):
        cl.jvp(lambda x: (f(x), (_ for _ in ()).throw(RuntimeError("stop"))), (t(3.0),), (t(1.0),))
    assert total.item() == 6.0


def test_random_numbers_and_modules():
    random.seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.SiLU(), nn.Dropout(0.5), nn.Linear(4, 1))
    x, v = (random.normal((2, 3), dtype=cl.float32) for _ in range(2))
    state = random.get_state()
    _, dy = cl.jvp(lambda x: net(x).sum(), (x,), (v,))
    random.set_state(state)
    expected = (cl.grad(lambda x: net(x).sum())(x) * v).sum()
    assert dy.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("dtype", [cl.complex64, cl.complex128])
def test_complex_tangents_follow_the_convention(dtype):
    """The tangent is the derivative along the direction as two real numbers, also of functions that are not holomorphic."""
    z, v = t([1 + 2j, -0.5 + 1j], dtype), t([0.3 - 1j, 2j], dtype)
    limit = 1e-5 if dtype is cl.complex64 else 1e-13
    near(cl.jvp(lambda z: z * z, (z,), (v,))[1], 2 * z * v, limit)
    near(cl.jvp(ops.conj, (z,), (v,))[1], ops.conj(v), limit)
    near(cl.jvp(ops.abs, (z,), (v,))[1], ops.real(v * ops.conj(z)) / ops.abs(z), limit)
    f = lambda z: ops.real(z * ops.conj(z)).sum()
    near(cl.jvp(f, (z,), (v,))[1], ops.real(cl.grad(f)(z) * ops.conj(v)).sum(), limit)


@pytest.mark.parametrize("dtype", [cl.float16, cl.bfloat16])
def test_half_precision_tangents_have_the_dtype_of_their_values(dtype):
    x = t([0.5, 1.0], dtype)
    for f in (ops.softmax, ops.gelu, lambda x: ops.layer_norm(x), lambda x: ops.logsumexp(x), ops.square):
        y, dy = cl.jvp(f, (x,), (x,))
        wide = cl.jvp(f, (x.astype(cl.float32),), (x.astype(cl.float32),))[1]
        assert y.dtype is dy.dtype is dtype
        # a handful of roundings to this dtype of numbers below 2
        near(dy.astype(cl.float32), wide, 16 * dtype.eps)


def test_rules_of_ones_own_and_checkpoints():
    @cl.custom_gradient
    def tripled(x):
        return x * 1, lambda g: g * 3 * ops.cos(x)

    x, v = t([1.0, 2.0]), t([1.0, -1.0])
    y, dy = cl.jvp(tripled, (x,), (v,))
    assert y.tolist() == [1.0, 2.0]
    near(dy, 3 * ops.cos(x) * v)
    near(cl.jvp(cl.grad(lambda x: tripled(x).sum()), (x,), (v,))[1], -3 * ops.sin(x) * v)
    near(cl.grad(lambda x: cl.jvp(tripled, (x,), (v,))[1].sum())(x), -3 * ops.sin(x) * v)
    f = lambda x: (ops.sin(x) * x).sum()
    near(cl.hvp(cl.checkpoint(f), (x,), (v,))[0], cl.hvp(f, (x,), (v,))[0])
    near(cl.grad(lambda x: cl.jvp(cl.checkpoint(f), (x,), (v,))[1])(x), cl.hvp(f, (x,), (v,))[0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cl.jvp(ops.exp, (t([1.0]),), (t(1.0),)), err.ShapeError, r"a tangent must be float64\[1\] like its primal, got float64\[\]"),
        (lambda: cl.jvp(ops.exp, (t([1.0]),), (t([1.0], cl.float32),)), err.ShapeError, r"got float32\[1\]"),
        (lambda: cl.jvp(ops.exp, (t([1.0]),), (None,)), err.ShapeError, "got None"),
        (lambda: cl.jvp(ops.exp, (t([1.0]),), ()), err.ShapeError, "0 tangents were given for 1 tensors"),
        (lambda: cl.jvp(ops.abs, (t([1], cl.int64),), (t([1], cl.int64),)), err.DTypeError, "primals are tensors of a floating or complex dtype, got int64"),
        (lambda: cl.jvp(ops.exp, (1.0,), (1.0,)), err.DTypeError, "got 1.0: take others into the function"),
        (lambda: cl.jacrev(lambda x: x * 1j)(t([1.0])), err.GradientError, "jacrev of complex numbers"),
        (lambda: cl.jacfwd(lambda x: x * 1j)(t([1.0])), err.GradientError, "jacfwd of complex numbers"),
        (lambda: cl.jacrev(lambda x: x, 1)(t([1.0])), err.GradientError, "jacrev: argnums 1 is out of range for 1 arguments"),
        (lambda: cl.jacfwd(lambda x: "y")(t([1.0])), err.GradientError, "must take and return tensors, got str"),
        (lambda: cl.jacrev(lambda x: x)(t([1], cl.int64)), err.DTypeError, "jacrev needs a floating dtype, got int64"),
        (lambda: cl.hvp(lambda x: x, (t([1.0]),), (t([1.0]),)), err.ShapeError, "only a scalar can do without"),
    ],
)  # fmt: skip
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


# -- Jacobians and Hessians ----------------------------------------------------------------------------------


@pytest.mark.parametrize("jacobian", [cl.jacrev, cl.jacfwd])
def test_jacobians_have_the_results_shape_then_the_arguments(jacobian):
    x = t([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = t([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])
    j = jacobian(lambda x: x @ weights)(x)
    assert j.shape == (2, 2, 2, 3)
    for i in range(2):
        for k in range(2):
            near(j[i, k, i], weights[:, k])
            near(j[i, k, 1 - i], 0 * weights[:, k])


@pytest.mark.parametrize("jacobian", [cl.jacrev, cl.jacfwd])
def test_jacobians_of_trees_and_several_arguments(jacobian):
    f = lambda p, x: {"s": (p["w"] * x).sum(), "v": ops.concat([x, p["w"] * 2])}
    p, x = {"w": t([1.0, 2.0])}, t([3.0, 4.0])
    j = jacobian(f, (0, 1))(p, x)
    assert (j["s"][0]["w"].tolist(), j["s"][1].tolist()) == ([3.0, 4.0], [1.0, 2.0])
    assert j["v"][0]["w"].tolist() == [[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]
    assert jacobian(f, -1)(p, x)["v"].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("jacobian", [cl.jacrev, cl.jacfwd])
def test_empty_and_scalar_jacobians(jacobian):
    assert jacobian(lambda x: x[:0])(t([1.0, 2.0])).shape == (0, 2)
    assert jacobian(lambda x: ops.concat([x, t([1.0])]))(t([])).shape == (1, 0)
    assert jacobian(lambda x: x**3)(t(2.0)).item() == 12.0
    assert jacobian(lambda x: t([1.0, 2.0]))(t(2.0)).tolist() == [0.0, 0.0]


def test_jacobians_nest_with_everything():
    f = lambda x: ops.sin(x) * x[::-1]
    x, v = t([0.5, 1.0]), t([1.0, 2.0])
    near(cl.jacfwd(f)(x), cl.jacrev(f)(x))
    near(cl.jacrev(cl.jacfwd(f))(x), cl.jacfwd(cl.jacrev(f))(x))
    near(cl.vmap(cl.jacrev(f))(ops.stack([x, v])), ops.stack([cl.jacrev(f)(x), cl.jacrev(f)(v)]))
    near(cl.vmap(cl.hessian(lambda x: f(x).sum()))(ops.stack([x, v]))[1], cl.hessian(lambda x: f(x).sum())(v))
    trace = lambda x: ops.trace(cl.hessian(lambda x: (x**3).sum())(x))
    assert cl.grad(trace)(x).tolist() == [6.0, 6.0]
    near(cl.jvp(cl.jacrev(f), (x,), (v,))[1], (cl.jacfwd(cl.jacrev(f))(x) @ v))
    _, pullback = cl.vjp(f, x)
    near(cl.vmap(pullback)(t([[1.0, 0.0], [0.0, 1.0]]))[0], cl.jacrev(f)(x))
    near(cl.jvp(lambda g: pullback(g)[0], (v,), (x,))[1], pullback(x)[0])


def test_hessians_of_losses_and_products_with_them():
    x, labels = t([[0.1, 0.5, -1.0], [2.0, 0.0, 1.0]]), t([2, 0], cl.int64)
    f = lambda x: ops.cross_entropy(x, labels)
    p = ops.softmax(x)
    h = cl.hessian(f)(x)
    for i in range(2):
        near(h[i, :, i], (cl.eye(3, dtype=cl.float64) * p[i] - ops.outer(p[i], p[i])) / 2)
    v = t([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
    near(cl.hvp(f, (x,), (v,))[0], (h * v).sum(axis=(-2, -1)))
    two = lambda a, b: (a * a * b).sum()
    (a, b), (da, db) = (t([1.0, 2.0]), t([3.0, 4.0])), (t([1.0, 0.0]), t([0.0, 1.0]))
    assert [g.tolist() for g in cl.hvp(two, (a, b), (da, db))] == [[6.0, 4.0], [2.0, 0.0]]
    blocks = cl.hessian(two, (0, 1))(a, b)
    assert blocks[0][1].tolist() == blocks[1][0].tolist() == [[2.0, 0.0], [0.0, 4.0]]
    assert blocks[1][1].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_jacobians_under_no_grad_are_the_same_and_untracked():
    x = t([1.0, 2.0]).requires_grad_()
    with cl.no_grad():
        for jacobian in (cl.jacrev, cl.jacfwd):
            j = jacobian(lambda x: x * x)(x)
            assert j.tolist() == [[2.0, 0.0], [0.0, 4.0]] and not j.requires_grad
