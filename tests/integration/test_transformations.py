"""The seventeen points that make corelib fit for transformations, each with a test that fails without it.

The toys (``toy_transformations.py``) record, batch and differentiate a small model through the public plugin API.
"""

from __future__ import annotations

import pytest

import corelib as cl
from corelib import ops
from corelib.op import BY_NAME, KINDS, OPS
from corelib.plugin_api import Tensor, activate, registry
from corelib.rules import Spec
from corelib.samples import Maker, Values

from toy_transformations import Batched, Recorder, Traced, vmap


@pytest.fixture
def base():
    with cl.use_backend("reference"):
        yield registry.get("reference")


def t(values, dtype=cl.float64):
    return cl.asarray(values, dtype=dtype)


def model(x, w1, w2):
    """A small model: matmul, a broadcast bias by shape, a composite with a rule of its own, one without, a reduction."""
    h = ops.sigmoid(ops.matmul(x, w1))
    return ops.logsumexp(ops.softmax(ops.matmul(h, w2), axis=-1) * 2.0, axis=-1).sum()


WEIGHTS = ([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], [[1.0, -1.0], [0.5, 0.25], [-0.75, 0.5]])
BATCH = [[[1.0, 2.0]], [[-1.0, 0.5]], [[0.25, -3.0]]]


class nested:
    """Nested lists of floats, equal to within rounding."""

    def __init__(self, expected):
        self.expected = expected

    def __eq__(self, actual):
        def same(a, b):
            if isinstance(b, list):
                return len(a) == len(b) and all(map(same, a, b))
            return a == pytest.approx(b, rel=1e-12, abs=1e-15)

        return same(actual, self.expected)

    def __repr__(self):
        return repr(self.expected)


def materialise(sample, backend):
    def value(a):
        if isinstance(a, Values):
            return cl.asarray(list(a.data), dtype=a.dtype, device=backend).reshape(a.shape)
        return type(a)(map(value, a)) if isinstance(a, list | tuple) else a

    return [value(a) for a in sample.args], {k: value(v) for k, v in sample.kwargs.items()}


def samples_of(op, dtype):
    return list(op.samples(Maker(op.name), dtype))


def differentiable():
    return [op for op in OPS if op.derivative.kind != "nondiff" and cl.float64 in op.rule.accepts and op.operands]


# 1, 2


def test_wrappers_hold_tensors_and_arrays_are_opaque(base):
    inside = []
    vmap(lambda x: (inside.append(x), x * 2.0)[1])([t([[1.0], [2.0]])])
    assert isinstance(inside[0]._data, Batched) and isinstance(inside[0]._data.tensor, Tensor)
    assert inside[0].shape == (1,) and inside[0].dtype is cl.float64


def test_the_highest_level_lifts_the_rest_and_level_zero_refuses(base):
    batched, shared = t([[1.0, 2.0], [3.0, 4.0]]), t([10.0, 20.0])
    assert vmap(lambda x: x + shared)([batched]).tolist() == [[11.0, 22.0], [13.0, 24.0]]
    other = cl.asarray([1.0, 2.0], dtype=cl.float64, device="cpu")
    with pytest.raises(cl.BackendError, match=r"operands on 'reference' and 'cpu': call x.to\('cpu'\)"):
        shared + other


# 3


def test_grad_of_vmap_and_vmap_of_grad(base):
    w1, w2 = map(t, WEIGHTS)
    xs = t(BATCH)
    each = [cl.grad(model, (1, 2))(xs[i], w1, w2) for i in range(3)]
    mapped = vmap(lambda x, a, b: cl.grad(model, (1, 2))(x, a, b))([xs], w1, w2)
    for k in (0, 1):
        assert mapped[k].shape == (3, *each[0][k].shape)
        for i in range(3):
            assert mapped[k][i].tolist() == nested(each[i][k].tolist())
    total = cl.grad(lambda a, b: vmap(lambda x: model(x, a, b))([xs]).sum(), (0, 1))(w1, w2)
    for k in (0, 1):
        assert total[k].tolist() == nested((each[0][k] + each[1][k] + each[2][k]).tolist())


# 4, 5


def test_every_op_has_a_kind_and_composites_have_one_too():
    assert {op.kind for op in OPS} <= set(KINDS)
    assert {"elementwise", "reduce", "movement", "contract", "index", "scan", "random", "opaque"} <= {op.kind for op in OPS}


def canonical(name, value):
    hash(value)
    if name == "axis" and value is not None:
        axes = value if isinstance(value, tuple) else (value,)
        return all(type(a) is int and a < 0 for a in axes)
    if name == "axes":
        return all(a < 0 for a in value)
    if name == "keepdims":
        return type(value) is bool
    if name == "shape":
        return isinstance(value, tuple) and all(n >= 0 for n in value)
    return True


@pytest.mark.parametrize("op", [op for op in OPS if op.params and op.operands and not op.data_dependent], ids=lambda op: op.name)
def test_parameters_reach_kernels_in_canonical_form(op, base):
    dtype = next(d for d in (cl.float64, cl.int64, cl.bool, *op.rule.accepts) if d in op.rule.accepts)
    recorder = Recorder(base)
    for sample in samples_of(op, dtype):
        args, kwargs = materialise(sample, base)
        args = [recorder.lift(a) if isinstance(a, Tensor) else [recorder.lift(x) for x in a] if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor) else a for a in args]
        op.fn(*args, **kwargs)
    recorded = [entry for entry in recorder.program if entry[0] is op]
    assert recorded, "the op itself must be recorded, as one node"
    for _, _, _, params, _ in recorded:
        assert set(params) == set(op.params)
        assert all(canonical(k, v) for k, v in params.items()), params


# 6


@pytest.mark.parametrize("op", differentiable(), ids=lambda op: op.name)
def test_derivative_rules_never_read_values(op, base):
    """Every rule runs on a backend that has no values."""
    for sample in samples_of(op, cl.float64)[:4]:
        recorder = Recorder(base)
        args, kwargs = materialise(sample, base)
        variables = []

        def traced(a, recorder=recorder, variables=variables):
            if not isinstance(a, Tensor):
                return a
            x = recorder.lift(a)
            if a.dtype is cl.float64:
                variables.append(x.requires_grad_())
            return x

        args = [[traced(x) for x in a] if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor) else traced(a) for a in args]
        result = op.fn(*args, **kwargs)
        with activate(recorder):
            for y in result if isinstance(result, tuple | list) else [result]:
                if y.requires_grad:
                    y.backward(ops.full(y.shape, 1.0, dtype=y.dtype), retain_graph=True)
        for x in variables:
            assert x.grad is None or (isinstance(x.grad._data, Traced) and x.grad.shape == x.shape)


def test_partials_are_readable_apart_from_unbroadcasting():
    d = BY_NAME["multiply"].derivative
    assert d.kind == "d" and d.reads == ((("x2", "value", 1),), (("x1", "value", 0),))
    assert BY_NAME["add"].derivative.rules == (1, 1)
    assert BY_NAME["matmul"].derivative.kind == "bilinear" and BY_NAME["sum"].derivative.kind == "linear"


# 7, 8


def test_an_op_without_derivative_never_records(base):
    x = t([1.5, -0.5]).requires_grad_()
    for op in OPS:
        if op.derivative.kind == "nondiff" and op.kind == "elementwise" and len(op.operands) == 1 and cl.float64 in op.rule.accepts:
            assert op.fn(x)._node is None, op.name


def test_a_composite_stays_one_node(base):
    recorder = Recorder(base)
    x = recorder.input(t([[1.0, 2.0]]))
    ops.softmax(x, axis=-1)
    ops.sigmoid(x)
    assert [entry[0].name for entry in recorder.program] == ["softmax", "sigmoid"]


# 9


def test_rebinding_is_logged(base):
    recorder = Recorder(base)
    x = recorder.input(t([1.0, 2.0]))
    x += 1.0
    x[0] = 5.0
    concrete = t([1.0, 2.0])
    concrete += x
    assert [logged is tensor for (logged, _), tensor in zip(recorder.rebinds, (x, x, concrete), strict=True)] == [True, True, True]


# 10, 11


def test_all_state_is_tensors(base):
    from corelib import nn, optim, random

    layer = nn.Linear(2, 3)
    optimizer = optim.AdamW(layer.parameters(), lr=1e-3)
    layer(cl.ones((1, 2))).sum().backward()
    optimizer.step()

    def leaves(tree):
        if isinstance(tree, dict):
            return [leaf for v in tree.values() for leaf in leaves(v)]
        return [leaf for v in tree for leaf in leaves(v)] if isinstance(tree, list | tuple) else [tree]

    state = [leaf for p in optimizer.state.values() for leaf in leaves(p)]
    assert state and all(isinstance(leaf, Tensor) for leaf in state)
    generator = random.Generator(0)
    assert isinstance(generator.key, Tensor) and isinstance(generator.counter, Tensor)


def test_random_ops_are_pure_and_the_generator_advances_by_the_shape(base):
    from corelib import random

    generator = random.Generator(7)
    before = generator.counter.item()
    first = random.uniform((3, 5), generator=generator)
    moved = generator.counter.item() - before
    random.uniform((3, 5), generator=generator)
    assert generator.counter.item() - before == 2 * moved
    key, counter = random.Generator(7).key, random.Generator(7).counter
    again = [ops.random_bits(key, counter, shape=(4,), dtype=cl.uint32).tolist() for _ in range(2)]
    assert again[0] == again[1] and first.tolist() == random.uniform((3, 5), generator=random.Generator(7)).tolist()


# 12


def test_reading_a_value_has_one_door(base):
    recorder = Recorder(base)
    x = recorder.input(t(1.0))
    for read in (bool, int, float, lambda v: v.item(), lambda v: v.tolist(), lambda v: v.numpy(), lambda v: v.__array__()):
        with pytest.raises(cl.BackendError, match="a value was read while tracing"):
            read(x)
    assert BY_NAME["nonzero"].data_dependent
    with pytest.raises(cl.BackendError, match="depends on values"):
        ops.nonzero(recorder.input(t([1.0, 0.0])))


# 13


class Size(int):
    """An integer that stays one of its kind under arithmetic: what is left of a size when it is symbolic."""

    def __add__(self, other):
        return Size(int(self) + other)

    def __mul__(self, other):
        return Size(int(self) * other)

    def __floordiv__(self, other):
        return Size(int(self) // other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other):
        raise AssertionError("a rule left integer arithmetic")

    __rtruediv__ = __truediv__


def test_rules_use_integer_arithmetic_and_accept_several_outputs():
    n = Size(7)
    spec = BY_NAME["add"].rule(BY_NAME["add"], [Spec((n, 3), cl.float32), Spec((3,), cl.float32)], {})
    assert isinstance(spec.shape[0], Size)
    spec = BY_NAME["matmul"].rule(BY_NAME["matmul"], [Spec((n, 3), cl.float32), Spec((3, 4), cl.float32)], {})
    assert isinstance(spec.shape[0], Size) and spec.shape[1] == 4
    spec = BY_NAME["sum"].rule(BY_NAME["sum"], [Spec((n, 3), cl.float32)], {"axis": (-1,), "dtype": cl.float32, "keepdims": False})
    assert isinstance(spec.shape[0], Size)
    several = [op for op in OPS if "update" in op.name and not op.data_dependent and op.variadic is False and "adamw" in op.name]
    assert several, "an optimizer's update is one op with several results"


# 14


def test_scalars_reach_kernels_as_scalars_and_creation_asks_the_transformation(base):
    recorder = Recorder(base)
    x = recorder.input(t([1.0, 2.0]))
    x * 2
    (_, _, operands, _, _) = recorder.program[-1]
    assert operands[1] == ("scalar", 2.0) and type(operands[1][1]) is float
    with activate(recorder):
        created = cl.zeros((2, 2))
        assert isinstance(created._data, Traced)
    assert not isinstance(cl.zeros((2,))._data, Traced)


# 15


def test_generation_is_an_integer_and_orders_are_deterministic(base):
    from corelib import nn
    from corelib.tape import topological

    assert type(registry.generation) is int

    def order():
        w1, w2 = (t(w).requires_grad_() for w in WEIGHTS)
        return [node.op.name for node in topological([model(t(BATCH[0]), w1, w2)._node])]

    assert order() == order()
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    names = [name for name, _ in net.named_parameters()]
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]


# 16


def test_a_backend_need_not_compile(base):
    assert base.compile(None) is None


# 17


def test_rules_need_no_indexing_tricks():
    for name in ("pad", "broadcast_to", "where", "arange"):
        assert name in cl.__all__ and callable(getattr(cl, name))


# the whole: record a training step, replay it


def test_a_recorded_gradient_replays_to_the_same_numbers(base):
    recorder = Recorder(base)
    x, w1, w2 = t(BATCH[0]), *map(t, WEIGHTS)
    inside = [recorder.input(v) for v in (x, w1, w2)]
    with activate(recorder):
        value, (g1, g2) = cl.value_and_grad(model, (1, 2))(*inside)
    expected, (e1, e2) = cl.value_and_grad(model, (1, 2))(x, w1, w2)
    for got, want in ((value, expected), (g1, e1), (g2, e2)):
        replayed = Tensor(recorder.replay(got._data, x._data, w1._data, w2._data), base)
        assert replayed.tolist() == want.tolist()


def test_compiling_a_vmap_of_a_gradient(base):
    """Batching wraps the recorder: transformations compose by level."""
    recorder = Recorder(base)
    xs, w1, w2 = t(BATCH), *map(t, WEIGHTS)
    inside = [recorder.input(v) for v in (xs, w1, w2)]
    per_sample = lambda x, a, b: cl.grad(model, (1, 2))(x, a, b)  # noqa: E731
    g1, _ = vmap(per_sample)([inside[0]], inside[1], inside[2])
    want, _ = vmap(per_sample)([xs], w1, w2)
    replayed = Tensor(recorder.replay(g1._data, xs._data, w1._data, w2._data), base)
    assert replayed.tolist() == want.tolist()
