"""Replay: a recorded body gives what the body gives, touches nothing that can be seen, and steps aside where it must."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.binding import decomposed
from corelib.op import OPS
from corelib.plugin_api import Tensor, hookimpl, registry
from corelib.replay import Replayed, composed
from corelib.samples import Maker, Values

DEVICES = ("reference", "cpu")
COMPOSITES = [op for op in OPS if not op.primitive and not op.data_dependent]


@pytest.fixture(params=DEVICES)
def device(request):
    with cl.use_backend(request.param):
        yield request.param


def arrays_of(op, sample, backend):
    """Operands and parameters of a sample as a kernel gets them; None if promotion would change them."""

    def value(a):
        if isinstance(a, Values):
            return cl.asarray(np.array(a.data, a.dtype.numpy).reshape(a.shape), device=backend.device)
        return type(a)(map(value, a)) if isinstance(a, list | tuple) else a

    operands, params = op.bind(
        *[value(a) for a in sample.args], **{k: value(v) for k, v in sample.kwargs.items()}
    )
    return [o._data if isinstance(o, Tensor) else o for o in operands], params


def flat(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_a_replayed_body_gives_the_bodys_bits(op, device):
    backend = registry.get(device)
    dtype = cl.float32 if cl.float32 in op.rule.accepts else op.rule.accepts[0]
    body, kernel = decomposed(op, backend), composed(op, backend)
    host = lambda a: bytes(memoryview(backend.to_host(a))) if a is not None else None
    for sample in op.samples(Maker(op.name), dtype):
        operands, params = arrays_of(op, sample, backend)
        expected = [(a.shape, host(a)) for a in flat(body(*operands, **params))]
        before = [host(o) for o in operands if hasattr(o, "shape")]
        for _ in range(3):  # the body, then the recording, then the program
            assert [(a.shape, host(a)) for a in flat(kernel(*operands, **params))] == expected
        assert [host(o) for o in operands if hasattr(o, "shape")] == before


def program_of(kernel_closure):
    return next(c.cell_contents for c in kernel_closure.__closure__ if isinstance(c.cell_contents, Replayed))


def test_a_body_is_recorded_when_its_shapes_come_again_and_the_programs_are_bounded():
    backend = registry.get("cpu")
    kernel = composed(ops.softmax.op, backend)
    replayed = program_of(kernel)
    for n in (3, 3, 4):
        kernel(cl.ones((2, n), device="cpu")._data, axis=-1)
    assert sum(callable(p) for p in replayed.programs.values()) == 1 and len(replayed.programs) == 2
    for n in range(2000):
        kernel(cl.ones((1, n + 1), device="cpu")._data, axis=-1)
    assert len(replayed.programs) <= 256


def test_what_a_result_shares_with_nobody_is_written_over_and_nothing_else_is():
    """Results of earlier calls stay as they were, also where intermediate arrays are reused."""
    x = cl.asarray(np.linspace(-3, 3, 300_000, dtype=np.float32), device="cpu")
    results = [(ops.silu(x * k), ops.gelu(x * k)) for k in (1.0, 2.0, 3.0, 4.0)]
    values = [(a.numpy(), b.numpy()) for a, b in results]
    again = [(ops.silu(x * k), ops.gelu(x * k)) for k in (1.0, 2.0, 3.0, 4.0)]
    for (a, b), (va, vb), (c, d) in zip(results, values, again, strict=True):
        assert np.array_equal(a.numpy(), va) and np.array_equal(b.numpy(), vb)
        assert np.array_equal(c.numpy(), va) and np.array_equal(d.numpy(), vb)


@pytest.mark.parametrize("size", [(7,), (300, 300)])
def test_an_update_writes_over_parameter_and_moments_only_when_nobody_sees_them(device, size):
    if device == "reference" and size != (7,):
        size = (9, 3)
    make = lambda: [cl.random.uniform(size, 0.5, 1.5, generator=cl.random.Generator(1)) for _ in range(4)]
    scalars = [cl.asarray(v) for v in (0.1, 1e-3, 0.9)]
    p, g, m, v = make()
    expected = [t.tolist() for t in ops.adamw_update(p, g, m, v, *scalars, beta1=0.9, beta2=0.99)]
    for _ in range(4):
        p, g, m, v = make()
        kept = g.tolist()
        got = ops.adamw_update(p, g, m, v, *scalars, beta1=0.9, beta2=0.99, overwrite=True)
        assert [t.tolist() for t in got] == expected and g.tolist() == kept

    net = cl.nn.Linear(300, 300)
    optimizer = cl.optim.AdamW(net.parameters(), lr=0.1)
    net.weight.grad = net.bias.grad = None
    seen = None
    for step in range(5):
        (net(cl.ones((2, 300))) ** 2).sum().backward()
        if step == 3:
            seen = (net.weight.detach(), copy.deepcopy(net.weight), net.weight.numpy())
        optimizer.step()
        optimizer.zero_grad()
        if device == "reference":
            break
    if seen:
        assert np.array_equal(seen[0].numpy(), seen[2]) and np.array_equal(seen[1].numpy(), seen[2])
        assert not np.array_equal(net.weight.numpy(), seen[2])


def test_zeros_of_either_sign_and_numbers_of_either_kind_are_different_arguments():
    backend = registry.get("reference")
    replayed = Replayed(lambda tensors, *values: ops.copysign(tensors[0], tensors[1]), backend)
    x = cl.asarray([1.0], device="reference")._data
    for scalar in (0.0, -0.0, 0.0, -0.0, 0.0, -0.0):
        program = replayed.find([x, scalar])
        got = program(x, scalar) if program else ops.copysign(Tensor(x, backend), scalar)._data
        assert Tensor(got, backend).tolist() == [-1.0 if str(scalar) == "-0.0" else 1.0]


def test_mistakes_have_the_bodys_words_also_when_replayed(device):
    x, labels = cl.ones((2, 3)), cl.asarray([0, 1])
    for _ in range(3):
        cl.cross_entropy(x, labels)
    with pytest.raises(cl.IndexOutOfBoundsError, match="cross_entropy: label 3 is out of range for 3"):
        cl.cross_entropy(x, cl.asarray([0, 3]))
    for _ in range(3):
        ops.take(x, labels, axis=1)
    with pytest.raises(cl.IndexOutOfBoundsError, match="index 9 is out of bounds for axis 1 of size 3"):
        ops.take(x, cl.asarray([0, 9]), axis=1)


def test_programs_do_not_outlive_the_kernels_they_are_made_of(device):
    x = cl.asarray([[1.0, 2.0]])
    for _ in range(3):
        before = ops.softmax(x, axis=-1).tolist()

    class Halving:
        @hookimpl(wrapper=True)
        def find_kernel(self, op, dtype, backend):
            kernel = yield
            if op.name == "divide" and backend.device == device:
                zero = backend.tables[cl.float32][ops.subtract.op.index]
                return lambda a, b: zero(a, a)
            return kernel

    cl.register(Halving(), "halving")
    try:
        for _ in range(3):
            assert ops.softmax(x, axis=-1).tolist() == [[0.0, 0.0]]
    finally:
        cl.unregister("halving")
    assert ops.softmax(x, axis=-1).tolist() == before


def test_derivative_rules_are_replayed_and_give_the_same_gradients(device):
    x = cl.asarray([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]])
    f = lambda v: (ops.layer_norm(ops.softmax(v, axis=-1), axis=-1) * v).sum()
    first = cl.grad(f)(x).tolist()
    for _ in range(3):
        assert cl.grad(f)(x).tolist() == first
    assert registry.get(device).tables.replays


def test_a_wrapper_made_with_functools_wraps_sees_every_call_and_is_never_bypassed():
    """wraps() copies a kernel's attributes, `into` and `composed` among them: what they lead to is not the wrapper."""
    seen = []

    class Watching:
        @hookimpl(wrapper=True)
        def find_kernel(self, op, dtype, backend):
            kernel = yield
            if kernel is None or backend.device != "cpu":
                return kernel

            @functools.wraps(kernel)
            def watched(*operands, **params):
                seen.append(op.name)
                return kernel(*operands, **params)

            return watched

    cl.register(Watching(), "watching")
    try:
        counts = []
        x = cl.asarray([[0.5, -1.0, 2.0]], device="cpu")
        for _ in range(4):  # bodies, recordings, programs
            del seen[:]
            ops.log_sigmoid(x)
            ops.cross_entropy(x, cl.asarray([1], device="cpu"))
            counts.append(sorted(seen))
        assert counts[0] == counts[1] == counts[2] == counts[3]
        assert counts[0].count("cross_entropy") == 1 and counts[0].count("exp") >= 1
    finally:
        cl.unregister("watching")


def test_the_rules_of_all_operands_of_a_composite_are_one_program():
    ways, backend = [], registry.get("cpu")
    values = [
        np.random.default_rng(i).standard_normal(s).astype("f")
        for i, s in enumerate(((6, 20), (30, 20), (30,)))
    ]
    for wanted in ((0, 1, 2), (1, 2), (2,)):
        for _ in range(4):
            xs = [cl.asarray(v, device="cpu") for v in values]
            xs = [x.requires_grad_() if i in wanted else x for i, x in enumerate(xs)]
            ops.sum(ops.square(ops.linear(*xs))).backward()
            ways.append([None if x.grad is None else x.grad.numpy() for x in xs])
    index = ops.linear.op.index
    assert {(index, (0, 1, 2)), (index, (1, 2)), (index, 2)} <= set(backend.tables.replays)
    for found in ways:
        assert any(g is not None for g in found)
        for g, right in zip(found, ways[0], strict=True):
            assert g is None or g.tobytes() == right.tobytes()
