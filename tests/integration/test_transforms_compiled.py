"""Transformations and compilation: a compiled transformation, and a transformation of a compiled function, compute what they do alone."""

from __future__ import annotations

import pytest

import corelib as cl
from corelib import ops, random
from corelib.tree import flatten


@pytest.fixture(params=["reference", "cpu"], autouse=True)
def device(request):
    with cl.use_backend(request.param):
        yield request.param


def t(values):
    return cl.asarray(values, dtype=cl.float64)


W = {"a": [[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], "b": [[1.0, -1.0], [0.5, 0.25], [-0.75, 0.5]]}
X = [[1.0, 2.0], [-1.0, 0.5], [0.25, -3.0]]


def arguments():
    return {k: t(v) for k, v in W.items()}, t(X), cl.asarray([0, 1, 0])


def loss(w, x, y):
    return ops.cross_entropy(ops.tanh(x @ w["a"]) @ w["b"], y)


def energy(w, x, y):
    return (ops.sin(x @ w["a"]) ** 2).sum()


PER_SAMPLE = (None, 0, 0)
TRANSFORMED = {
    "vmap(grad)": cl.vmap(cl.grad(loss), PER_SAMPLE),
    "grad(vmap)": cl.grad(lambda w, x, y: cl.vmap(loss, PER_SAMPLE)(w, x, y).sum()),
    "hvp": lambda w, x, y: cl.hvp(lambda w: energy(w, x, y), (w,), (w,)),
    "hessian": cl.hessian(lambda w, x, y: energy(w, x[0], y), 1),
    "jacrev": cl.jacrev(lambda w, x, y: ops.softmax(x @ w["a"]), (0, 1)),
    "jacfwd": cl.jacfwd(lambda w, x, y: ops.softmax(x @ w["a"]), (0, 1)),
    "vmap(hessian)": cl.vmap(cl.hessian(energy, 1), PER_SAMPLE),
    "jvp(vmap(grad))": lambda w, x, y: cl.jvp(lambda x: cl.vmap(cl.grad(loss), PER_SAMPLE)(w, x, y), (x,), (x,)),
}  # fmt: skip


def close(actual, expected):
    for a, b in zip(flatten(actual)[0], flatten(expected)[0], strict=True):
        # the same ops, in float64, perhaps fused: a handful of roundings of numbers below 100
        assert a.shape == b.shape and ops.max(ops.abs(a - b)).item() < 1e-12


@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_transformation_is_one_program(name):
    f, args = TRANSFORMED[name], arguments()
    compiled = cl.compile(f)
    for _ in range(2):
        close(compiled(*args), f(*args))
    assert len(compiled.graphs()) == 1


def test_a_compiled_function_is_transformed_as_it_is_written():
    compiled, (w, x, y) = cl.compile(loss), arguments()
    close(compiled(w, x[0], y[0]), loss(w, x[0], y[0]))
    for transform in (
        lambda f: cl.vmap(f, PER_SAMPLE)(w, x, y), lambda f: cl.vmap(cl.grad(f), PER_SAMPLE)(w, x, y),
        lambda f: cl.jvp(lambda x: f(w, x, y), (x,), (x,)), lambda f: cl.jacfwd(lambda x: f(w, x, y))(x),
        lambda f: cl.hessian(lambda x: f(w, x, y))(x),
    ):  # fmt: skip
        close(transform(compiled), transform(loss))


def test_compiled_draws_of_a_batch_go_on_from_call_to_call():
    noisy = cl.vmap(lambda v: v + random.uniform((2,), dtype=cl.float64))
    compiled, x = cl.compile(noisy), t(X)
    random.seed(0)
    expected = [noisy(x).tolist() for _ in range(3)]
    random.seed(0)
    assert [compiled(x).tolist() for _ in range(3)] == expected
