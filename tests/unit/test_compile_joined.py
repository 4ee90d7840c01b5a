"""Small products that are done together: as many as there need be, and the same numbers to the budget of sums of products."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corelib as cl

pytest.importorskip("corelib_cpu")
rng = np.random.default_rng(5)


def tensor(*shape: int, dtype=np.float32):
    return cl.asarray(rng.standard_normal(shape).astype(dtype), device="cpu")


def products(compiled) -> int:
    """Products that the backend is left with, in the one program."""
    return compiled.explain().split("run: compiled")[1].count("matmul")  # alone, or at the start of a group


def close(got, expected, terms: int) -> None:
    """To the bound of sums of so many products, whose operands are of the size of 1."""
    for a, b in zip(got, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(
            a, b, rtol=0, atol=8 * terms * np.finfo(a.dtype).eps * max(1, np.abs(b).max())
        )


def recurrent(steps: int, axis: int = 0):
    def forward(x, w, u, b):
        h = None
        for t in range(steps):
            piece = x[t] if axis == 0 else x[:, t]
            z = piece @ w.mT + b
            h = cl.tanh(z if h is None else z + h @ u.mT)
        return (h * h).sum()

    return cl.value_and_grad(forward, argnums=(0, 1, 2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [3, 5, 12])
def test_a_recurrent_step_and_its_gradients(steps, dtype):
    x, w, u = tensor(steps, 9, 6, dtype=dtype), tensor(16, 6, dtype=dtype), tensor(16, 16, dtype=dtype) * 0.2
    b = tensor(16, dtype=dtype)
    step = recurrent(steps)
    compiled = cl.compile(step)
    loss, gradients = step(x, w, u, b)
    for _ in range(4):
        got, found = compiled(x, w, u, b)
        close([got, *found], [loss, *gradients], 16 * 9 * steps)
    if steps < 4:
        return
    # the inputs' products are one, so are those of each weight's gradient, if there are enough of them; what depends on the
    # step before or after stays, and so do the gradients of the inputs
    sums = 1 + (1 if steps > 4 else steps - 1)
    assert products(compiled) == 1 + (steps - 1) + sums + (steps - 1) + steps


def test_steps_along_another_axis_are_computed_as_they_stand():
    x, w, u, b = tensor(9, 6, 6), tensor(16, 6), tensor(16, 16) * 0.2, tensor(16)
    step = recurrent(6, axis=1)
    compiled = cl.compile(step)
    loss, gradients = step(x, w, u, b)
    got, found = compiled(x, w, u, b)
    close([got, *found], [loss, *gradients], 16 * 9 * 6)


def test_parts_of_an_array_that_leave_much_out_are_not_joined():
    x, w = tensor(40, 8, 8), tensor(8, 20)
    function = lambda x, w: [x[t] @ w for t in range(5)]
    compiled = cl.compile(function)
    close(compiled(x, w), function(x, w), 8)
    assert products(compiled) == 5


def test_parts_in_any_order_and_more_than_once():
    x, w = tensor(6, 8, 8), tensor(8, 20)
    order = [3, 0, 5, 1, 1, 4, 2]
    function = lambda x, w: [x[t] @ w + float(i) for i, t in enumerate(order)]
    compiled = cl.compile(function)
    close(compiled(x, w), function(x, w), 8)
    assert products(compiled) == 1


def test_large_products_stay_alone():
    x, w = tensor(4, 600, 8), tensor(8, 20)
    function = lambda x, w: [x[t] @ w for t in range(4)]
    compiled = cl.compile(function)
    close(compiled(x, w), function(x, w), 8)
    assert products(compiled) == 4


def test_a_sum_of_products_is_one_and_what_is_read_elsewhere_is_kept():
    g, h = [tensor(8, 12) for _ in range(5)], [tensor(8, 10) for _ in range(5)]

    def function(*arrays):
        terms = [a.mT @ b for a, b in zip(arrays[:5], arrays[5:], strict=True)]
        total = terms[0]
        for t in terms[1:]:
            total = total + t
        columns = arrays[0].sum(axis=0)
        for a in arrays[1:5]:
            columns = columns + a.sum(axis=0)
        return total, columns

    compiled = cl.compile(function)
    close(compiled(*g, *h), function(*g, *h), 40)
    assert products(compiled) == 1

    def shared(*arrays):
        terms = [a.mT @ b for a, b in zip(arrays[:5], arrays[5:], strict=True)]
        return terms[0] + terms[1] + terms[2] + terms[3] + terms[4], terms[2]

    compiled = cl.compile(shared)
    close(compiled(*g, *h), shared(*g, *h), 40)
    assert products(compiled) == 5


def test_special_values_go_their_way():
    g, h = [tensor(8, 12) for _ in range(4)], [tensor(8, 10) for _ in range(4)]
    g[2] = cl.where(g[2] > 1, math.inf, g[2])

    def function(*arrays):
        a, b = arrays[:4], arrays[4:]
        return a[0].mT @ b[0] + a[1].mT @ b[1] + a[2].mT @ b[2] + a[3].mT @ b[3]

    got, expected = (np.asarray(f(*g, *h)) for f in (cl.compile(function), function))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
