"""Programs of cpu that are one native call: the same bits as their steps, on any inputs, in any thread, or not at all."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.compile.fuse import fused
from corelib.compile.graph import Graph, Traced
from corelib.dtypes import as_dtype
from corelib.plugin_api import registry
from corelib.replay import Recorder, linked, replayer
from corelib.tensor import wrap

program = pytest.importorskip("corelib_cpu.program")
BACKEND = registry.get("cpu")


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [(0.3 * rng.standard_normal(s)).astype("f") for s in shapes]


def recorded(fn, arrays, donates=()):
    recorder = Recorder(BACKEND)
    inputs = [Traced(a.shape, as_dtype(a.dtype), f"a{i}") for i, a in enumerate(arrays)]
    results = fn(*[wrap(x, recorder) for x in inputs])
    return Graph(
        inputs, recorder.steps, [r._data for r in results], several=True, donated=[inputs[i] for i in donates]
    )


def stepwise(graph):
    """The same generated kernels, called one after the other."""
    return replayer(fused(graph, BACKEND, alone=True))


def programs_of(run):
    found = [run] if isinstance(run, program.Program) else list(run.__globals__.values())
    return [p for p in found if isinstance(p, program.Program)]


def lstm(x, wx, wh, bias, h, c):
    size = h.shape[1]
    for t in range(x.shape[1]):
        gates = ops.add(ops.add(ops.matmul(x[:, t], wx), ops.matmul(h, wh)), bias)
        i, f, o = (ops.sigmoid(gates[:, n * size : (n + 1) * size]) for n in range(3))
        c = ops.add(ops.multiply(f, c), ops.multiply(i, ops.tanh(gates[:, 3 * size :])))
        h = ops.multiply(o, ops.tanh(c))
    return h, c


def network(x, w1, b1, w2, b2, y):
    hidden = ops.maximum(ops.add(ops.matmul(x, w1), b1), 0.0)
    z = ops.add(ops.matmul(hidden, w2), b2)
    error = ops.subtract(z, y)
    g = ops.matmul(error, ops.permute_dims(w2, (1, 0)))
    g = ops.where(ops.greater(hidden, 0), g, 0.0)
    return (
        ops.mean(ops.multiply(error, error)),
        ops.matmul(ops.permute_dims(x, (1, 0)), g),
        ops.sum(g, axis=0),
        ops.softmax(z),
    )


def attention(x, w):
    batch, time, width = x.shape
    heads = ops.reshape(ops.matmul(ops.reshape(x, (batch * time, width)), w), (batch, time, 3, 4, width // 4))
    q, k, v = (ops.permute_dims(heads[:, :, i], (0, 2, 1, 3)) for i in range(3))
    scores = ops.softmax(ops.multiply(ops.matmul(q, ops.permute_dims(k, (0, 1, 3, 2))), 0.2))
    y = ops.reshape(ops.permute_dims(ops.matmul(scores, v), (0, 2, 1, 3)), (batch, time, width))
    return ops.add(y, x), ops.permute_dims(y, (1, 0, 2))


CASES = {
    "lstm": (lstm, [(32, 5, 12), (12, 128), (32, 128), (128,), (32, 32), (32, 32)]),
    "network": (network, [(64, 84), (84, 56), (56,), (56, 10), (10,), (64, 10)]),
    "attention": (attention, [(2, 24, 32), (32, 96)]),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_every_call_gives_the_bits_of_the_steps_with_generated_kernels(case):
    fn, shapes = case
    graph = recorded(fn, drawn(0, *shapes))
    run = linked(graph, BACKEND)
    (found,) = programs_of(run)
    kept = []
    for call in range(6):
        arrays = drawn(call, *shapes)
        before = [a.copy() for a in arrays]
        got = run(*arrays)
        for a, b in zip(got, stepwise(graph)(*arrays), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes()
        for a, b in zip(got, replayer(graph)(*arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)
        kept.append((got, [r.copy() for r in got]))
    assert found.state == "native", found.reason
    for got, copies in kept:  # no call writes over the results of another
        for a, b in zip(got, copies, strict=True):
            np.testing.assert_array_equal(a, b)
    assert "kernels started by one native call" in found.explain()


def test_other_strides_other_numbers_of_threads_and_other_threads_are_served(case):
    fn, shapes = case
    graph = recorded(fn, drawn(0, *shapes))
    run = linked(graph, BACKEND)
    (found,) = programs_of(run)
    arrays = drawn(1, *shapes)
    want = [r.tobytes() for r in stepwise(graph)(*arrays)]
    for _ in range(3):
        run(*arrays)
    assert found.state == "native"
    crooked = [np.repeat(a, 2, axis=-1)[..., ::2] for a in arrays]
    for a, b in zip(run(*crooked), stepwise(graph)(*crooked), strict=True):
        assert a.tobytes() == b.tobytes()
    for threads in (1, 3):
        with BACKEND.threads(threads):
            assert [r.tobytes() for r in run(*arrays)] == want
    results = [[] for _ in range(4)]

    def work(mine):
        for _ in range(20):
            mine.append([r.tobytes() for r in run(*arrays)] == want)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in results]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert all(all(mine) and len(mine) == 20 for mine in results)


def test_donated_inputs_are_written_over_and_come_back():
    step = lambda p, g, m: (
        ops.subtract(p, ops.multiply(g, 0.1)),
        ops.add(ops.multiply(m, 0.9), ops.exp(g)),
        ops.sum(ops.matmul(g, g)),
    )
    graph = recorded(step, drawn(0, (40, 40), (40, 40), (40, 40)), donates=(0, 2))
    run = linked(graph, BACKEND)
    (found,) = programs_of(run)
    for call in range(5):
        p, g, m = drawn(call, (40, 40), (40, 40), (40, 40))
        want = stepwise(recorded(step, [p, g, m]))(p.copy(), g.copy(), m.copy())
        new_p, new_m, total = run(p, g, m)
        assert new_p is p and new_m is m
        for a, b in zip((p, m, total), want, strict=True):
            np.testing.assert_array_equal(a, b)
    assert found.state == "native"


def test_a_step_that_numpy_computes_stands_between_programs():
    fn = lambda x, w: (
        ops.exp(ops.matmul(ops.matmul(ops.sort(ops.exp(ops.matmul(ops.matmul(x, w), w))), w), w)),
        ops.cumulative_sum(x, axis=1),
    )
    arrays = drawn(0, (40, 40), (40, 40))
    run = linked(recorded(fn, arrays), BACKEND)
    assert len(programs_of(run)) == 2
    for call in range(5):
        arrays = drawn(call, (40, 40), (40, 40))
        for a, b in zip(run(*arrays), replayer(recorded(fn, arrays))(*arrays), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4)
    assert [p.state for p in programs_of(run)] == ["native", "native"]
    assert "sort" in run.explain() and "native call" in run.explain()


def test_what_a_capture_misses_is_found_before_it_is_relied_on(monkeypatch, caplog):
    monkeypatch.setattr(program, "_captures", lambda kernels, step: True)
    fn = lambda x, w: (ops.exp(ops.matmul(ops.sort(ops.exp(ops.matmul(x, w))), w)),)
    graph = recorded(fn, drawn(0, (40, 40), (40, 40)))
    run = linked(graph, BACKEND)
    (found,) = programs_of(run)
    for call in range(4):
        arrays = drawn(call, (40, 40), (40, 40))
        assert run(*arrays)[0].tobytes() == stepwise(graph)(*arrays)[0].tobytes()
    assert found.state == "replayed" and "differed" in found.reason and "differed" in caplog.text


def test_views_of_inputs_are_results_beside_a_program():
    view = lambda x: (
        ops.reshape(x, (1600,)),
        ops.exp(ops.matmul(x, x)),
        ops.permute_dims(ops.exp(x), (1, 0)),
    )
    run = linked(recorded(view, drawn(0, (40, 40))), BACKEND)
    for call in range(5):
        (x,) = drawn(call, (40, 40))
        flat, product, turned = run(x)
        assert np.shares_memory(flat, x) and np.array_equal(flat, x.reshape(-1))
        np.testing.assert_allclose(product, np.exp(x @ x), rtol=1e-4)
        np.testing.assert_allclose(turned, np.exp(x).T, rtol=1e-5)
    assert [p.state for p in programs_of(run)] == ["native"]


def test_what_is_read_through_a_view_is_not_written_over_too_early():
    """p is donated, and read through a transpose of it before, in, and after the step that could write over it."""

    def step(p, g):
        turned = ops.permute_dims(p, (1, 0))
        product = ops.matmul(turned, g)
        new = ops.add(ops.subtract(p, ops.multiply(product, 0.1)), turned)
        return new, ops.matmul(turned, new)

    def safe(p, g):
        product = ops.matmul(ops.matmul(ops.permute_dims(p, (1, 0)), g), g)
        return (ops.subtract(p, ops.multiply(product, 0.1)),)

    for fn, over in ((step, False), (safe, True)):
        run = linked(recorded(fn, drawn(0, (40, 40), (40, 40)), donates=(0,)), BACKEND)
        for call in range(5):
            p, g = drawn(call, (40, 40), (40, 40))
            want = stepwise(recorded(fn, [p, g]))(p.copy(), g.copy())
            got = run(p, g)
            got, want = (r if isinstance(r, tuple) else (r,) for r in (got, want))
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b)
            assert (got[0] is p) is over


def test_an_index_that_is_refused_stops_a_program_before_it_updates_anything():
    def step(p, x, labels):
        loss = ops.sum(ops.take_along_axis(ops.matmul(x, p), labels, axis=-1))
        return loss, ops.subtract(p, ops.multiply(ops.exp(p), loss))

    labels = np.arange(40)[:, None]
    p, x = drawn(0, (40, 40), (40, 40))
    run = linked(recorded(step, [p, x, labels], donates=(0,)), BACKEND)
    for call in range(6):
        p, x = drawn(call, (40, 40), (40, 40))
        want = stepwise(recorded(step, [p, x, labels]))(p.copy(), x, labels)
        if call > 3:
            before = p.copy()
            for wrong in (40, -41):
                with pytest.raises(IndexError, match="out of bounds"):
                    run(p, x, np.where(labels == 7, wrong, labels))
                np.testing.assert_array_equal(p, before)
        loss, new = run(p, x, labels - 40 * (labels % 2))
        assert new is p and np.array_equal(loss, want[0]) and np.array_equal(new, want[1])
    assert [q.state for q in programs_of(run)] == ["native"]


def test_inputs_that_share_memory_are_not_mistaken_for_one_another():
    fn = lambda x, y: (ops.exp(ops.matmul(x, y)), ops.matmul(y, x))
    a, b = drawn(0, (40, 40), (40, 40))
    run = linked(recorded(fn, [a, b]), BACKEND)
    for x, y in ((a, a), (a, a), (a, b), (b, a), (a, a), (b, a)):
        np.testing.assert_allclose(run(x, y)[1], y @ x, rtol=1e-4, atol=1e-5)


def test_a_backend_without_an_emitter_compiles_nothing():
    graph = recorded(lambda x: (ops.exp(x),), drawn(0, (4, 4)))
    assert registry.get("reference").compile(graph) is None
    assert callable(BACKEND.compile(graph))


def test_a_program_that_cannot_be_captured_is_not_run_twice(monkeypatch):
    def refuses(self, *given):
        raise program.UncapturableError("of a reason")

    monkeypatch.setattr(program.Program, "_write", refuses)
    step = lambda p, g: (ops.add(p, g), ops.matmul(g, g))
    run = linked(recorded(step, drawn(0, (40, 40), (40, 40)), donates=(0,)), BACKEND)
    p, g = drawn(1, (40, 40), (40, 40))
    want = p + g
    assert run(p, g)[0] is p and np.array_equal(p, want)
    np.testing.assert_array_equal(run(p, g)[0], want + g)
    assert "of a reason" in programs_of(run)[0].explain()


def test_regions_are_padded_and_joined_inside_a_program():
    def fn(x, y):
        z = ops.exp(ops.matmul(x, y))
        left, right = z[:, :16], z[::2, 16:]
        padded = ops.pad(left, ((1, 2), (3, 0)), constant_values=-1.5)
        joined = ops.concat(
            [ops.permute_dims(left, (1, 0)), ops.exp(ops.permute_dims(z, (1, 0)))[:16, :5]], axis=1
        )
        return (
            padded,
            joined,
            ops.concat([right, right * 2], axis=0),
            ops.pad(ops.greater(z, 1), ((0, 1), (0, 1))),
        )

    graph = recorded(fn, drawn(0, (40, 40), (40, 40)))
    run = linked(graph, BACKEND)
    for call in range(5):
        arrays = drawn(call, (40, 40), (40, 40))
        for a, b in zip(run(*arrays), stepwise(graph)(*arrays), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    assert [p.state for p in programs_of(run)] == ["native"]


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int16", "uint8", "bool", "complex64", "complex128", "uint64"]
)
def test_large_regions_are_padded_and_joined_as_numpy_does(dtype):
    x = (np.arange(300 * 400).reshape(300, 400) % 7).astype(dtype)
    value = 3 if dtype != "bool" else True
    t = lambda a: cl.asarray(a, device="cpu")
    for a in (x, x.T, x[::2, ::-1], x[:, ::3]):
        got = ops.pad(t(a), ((2, 1), (0, 3)), constant_values=value).numpy()
        np.testing.assert_array_equal(got, np.pad(a, ((2, 1), (0, 3)), constant_values=value))
        for axis in (0, 1, -1):
            np.testing.assert_array_equal(
                ops.concat([t(a), t(a)], axis=axis).numpy(), np.concatenate([a, a], axis)
            )


def _layers(x, w, b, v):
    hidden = ops.maximum(ops.add(ops.matmul(x, w), b), 0.0)
    return ops.matmul(hidden, v), ops.tanh(hidden), ops.sum(ops.exp(hidden), axis=-1)


@pytest.mark.parametrize("numpy_is_missed", [False, True])
def test_a_result_of_numpy_is_no_constant_of_a_program(monkeypatch, numpy_is_missed):
    """A tiny product is NumPy's: no kernel is launched. Taken into a capture by mistake, its result would be the same
    at each call, and a comparison on the captured values alone would not show it.
    """
    if numpy_is_missed:
        monkeypatch.setattr(program.contract, "launches", lambda *_: True)
    first, other = drawn(0, (1, 4), (4, 8), (8,), (8, 16)), drawn(1, (1, 4), (4, 8), (8,), (8, 16))
    graph = recorded(_layers, first)
    run = linked(graph, BACKEND)
    for arrays in (first, first, first, other):
        for a, b in zip(run(*arrays), stepwise(graph)(*arrays), strict=True):
            np.testing.assert_array_equal(a, b)
    assert [p.state for p in programs_of(run)] == ["replayed" if numpy_is_missed else "native"]


def test_elements_are_taken_from_views_inside_a_program():
    """NumPy would take them from what is not contiguous, and what NumPy takes is no part of a captured program."""

    def fn(x, y, labels):
        z = ops.concat([ops.exp(x), ops.exp(y)], axis=1)
        turned = ops.permute_dims(z, (1, 0))
        return (
            ops.exp(ops.take_along_axis(z[::2, ::2], labels[::2], axis=-1)),
            ops.exp(ops.take_along_axis(turned, ops.concat([labels, labels], axis=0), axis=-1)),
        )

    def arrays(seed):
        return [*drawn(seed, (40, 40), (40, 40)), np.random.default_rng(seed).integers(0, 40, (40, 1))]

    graph = recorded(fn, arrays(0))
    run = linked(graph, BACKEND)
    for call in range(5):
        for a, b in zip(run(*arrays(call)), stepwise(graph)(*arrays(call)), strict=True):
            np.testing.assert_array_equal(a, b)
    assert {p.state for p in programs_of(run)} == {"native"}
