"""A product of small matrices with the element-wise steps after it, as one kernel: the bits of the steps apart."""

from __future__ import annotations

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.compile.fuse import Fused, fused
from corelib.compile.graph import Graph, Traced
from corelib.registry import registry
from corelib.replay import Recorder, replayer
from corelib.tensor import wrap

BACKEND = registry.get("cpu")
SHAPES = ((3, 5, 7), (1, 40, 9), (33, 47, 65), (16, 100, 1), (64, 64, 64), (2, 2, 17))
ENDS = {
    "bias": lambda y, b, r: ops.add(y, b),
    "bias and relu": lambda y, b, r: ops.maximum(ops.add(y, b), 0.0),
    "bias, gelu and both": lambda y, b, r: (z := ops.add(y, b), ops.multiply(ops.tanh(z), z)),
    "scale and residual": lambda y, b, r: ops.add(ops.multiply(y, 0.5), r),
    "reshaped": lambda y, b, r: ops.add(ops.reshape(y, (1, *y.shape)), b),
}


def recorded(fn, shapes, dtype):
    recorder = Recorder(BACKEND)
    inputs = [Traced(s, dtype, f"a{i}") for i, s in enumerate(shapes)]
    result = fn(*[wrap(x, recorder) for x in inputs])
    several = isinstance(result, tuple)
    return Graph(
        inputs,
        recorder.steps,
        [r._data for r in (result if several else (result,))],
        several=several,
    )


def drawn(seed, shapes, dtype):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype.name) for s in shapes]


def bits(results):
    return [r.tobytes() for r in (results if isinstance(results, tuple) else (results,))]


def apart(graph, monkeypatch):
    """The steps with the product on its own, and the rest as the same generated kernel."""
    with monkeypatch.context() as m:
        m.setattr(type(BACKEND), "fuses_products", False)
        return replayer(fused(graph, BACKEND, alone=True))


@pytest.mark.parametrize("turned", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("dtype", [cl.float32, cl.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("end", ENDS)
def test_the_bits_are_those_of_single_kernels(end, dtype, turned, monkeypatch):
    for m, k, n in SHAPES:
        shapes = [(k, m) if turned else (m, k), (n, k), (n,), (m, n)]
        if m * k * n <= 64:
            continue

        def fn(x, w, b, r):
            x = ops.permute_dims(x, (1, 0)) if turned else x
            return ENDS[end](ops.matmul(x, ops.permute_dims(w, (1, 0))), b, r)

        graph = recorded(fn, shapes, dtype)
        together = fused(graph, BACKEND, alone=True)
        assert any(isinstance(s.op, Fused) and s.op.group.product for s in together.steps), (m, k, n)
        run, single = replayer(together), apart(graph, monkeypatch)
        arrays = drawn(m, shapes, dtype)
        before = [a.copy() for a in arrays]
        assert bits(run(*arrays)) == bits(single(*arrays)), (m, k, n)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_large_products_and_stacks_of_them_are_kernels_of_their_own():
    for shapes in (((128, 128), (128, 128), (128,)), ((2, 8, 8), (8, 8), (8,)), ((8,), (8, 8), (8,))):
        graph = recorded(lambda x, w, b: ops.add(ops.matmul(x, w), b), shapes, cl.float32)
        assert not any(
            isinstance(s.op, Fused) and s.op.group.product for s in fused(graph, BACKEND, alone=True).steps
        )


def test_operands_of_other_strides_and_read_only_ones(monkeypatch):
    fn = lambda x, w, b, r: ops.multiply(ops.add(ops.matmul(x, w), b), r)
    shapes = [(9, 20), (20, 30), (30,), (9, 30)]
    graph = recorded(fn, shapes, cl.float32)
    run, single = replayer(fused(graph, BACKEND, alone=True)), apart(graph, monkeypatch)
    x, w, b, r = drawn(1, shapes, cl.float32)
    for given in (
        (x[::-1], w, b, r),
        (x, np.asfortranarray(w), b, r),
        (x, w, np.repeat(b, 2)[::2], r),
        (x, w, b, np.asfortranarray(r)),
        (x, w, b, np.broadcast_to(r[:1], r.shape)),
    ):
        for a in given:
            a.flags.writeable = False
        assert bits(run(*given)) == bits(single(*given))


def test_what_both_the_product_and_the_end_read_is_not_written_over():
    fn = lambda p, g: (ops.subtract(p, ops.multiply(ops.matmul(p, g), 0.1)),)
    for donates in ((), (0,), (0, 1)):
        graph = recorded(fn, [(30, 30), (30, 30)], cl.float32)
        graph.donated = [graph.inputs[i] for i in donates]
        p, g = drawn(2, [(30, 30), (30, 30)], cl.float32)
        want = bits(replayer(recorded(fn, [(30, 30), (30, 30)], cl.float32))(p.copy(), g.copy()))
        assert bits(replayer(fused(graph, BACKEND, alone=True))(p, g)) == want


def test_nothing_is_lost_of_nan_and_infinity():
    x = np.array([[np.nan, 1.0], [np.inf, -np.inf], [0.0, -0.0]] * 8, np.float32)
    w = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, np.inf]], np.float32)
    graph = recorded(lambda x, w: ops.maximum(ops.matmul(x, w), 0.0), [x.shape, w.shape], cl.float32)
    with np.errstate(invalid="ignore"):
        want = np.maximum(x @ w, np.float32(0))
    np.testing.assert_array_equal(replayer(fused(graph, BACKEND, alone=True))(x, w), want)


@pytest.mark.parametrize("lead", [(), (12,), (3, 4)], ids=["vector", "matrix", "stack"])
def test_linear_and_its_gradients_are_those_of_the_reference(lead):
    rng = np.random.default_rng(4)
    values = [rng.standard_normal(s).astype(np.float32) for s in ((*lead, 20), (30, 20), (30,))]
    found = []
    for device in ("cpu", "reference"):
        for _ in range(3):  # from the second call on it is replayed
            x, w, b = (cl.asarray(v, device=device).requires_grad_() for v in values)
            y = ops.linear(x, w, b)
            y.sum().backward()
        found.append([y, x.grad, w.grad, b.grad])
    for mine, right in zip(*found, strict=True):
        np.testing.assert_allclose(mine.numpy(), np.asarray(right.numpy()), rtol=2e-5, atol=2e-5)
