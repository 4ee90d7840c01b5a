"""The seventeen points that make corelib fit for transformations, each with a test that fails without it.

A toy (``toy_transformations.py``) records a small model through the public plugin API, and ``vmap`` batches it. What a point asks of
each op (4 to 8, 13) is tested op by op in ``test_ops_under_transformations.py``.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from toy_transformations import Recorder, Traced

import corelib as cl
from corelib import ops
from corelib.op import BY_NAME
from corelib.plugin_api import Tensor, activate, registry
from corelib.transforms.batching import Batched


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


# 1, 2


def test_wrappers_hold_tensors_and_arrays_are_opaque(base):
    inside = []
    cl.vmap(lambda x: (inside.append(x), x * 2.0)[1])(t([[1.0], [2.0]]))
    assert isinstance(inside[0]._data, Batched) and isinstance(inside[0]._data.tensor, Tensor)
    assert inside[0].shape == (1,) and inside[0].dtype is cl.float64


def test_the_highest_level_lifts_the_rest_and_level_zero_refuses(base):
    batched, shared = t([[1.0, 2.0], [3.0, 4.0]]), t([10.0, 20.0])
    assert cl.vmap(lambda x: x + shared)(batched).tolist() == [[11.0, 22.0], [13.0, 24.0]]
    other = cl.asarray([1.0, 2.0], dtype=cl.float64, device="cpu")
    with pytest.raises(cl.BackendError, match=r"operands on 'reference' and 'cpu': call x.to\('cpu'\)"):
        shared + other


# 3


def test_grad_of_vmap_and_vmap_of_grad(base):
    w1, w2 = map(t, WEIGHTS)
    xs = t(BATCH)
    each = [cl.grad(model, (1, 2))(xs[i], w1, w2) for i in range(3)]
    mapped = cl.vmap(cl.grad(model, (1, 2)), (0, None, None))(xs, w1, w2)
    for k in (0, 1):
        assert mapped[k].shape == (3, *each[0][k].shape)
        for i in range(3):
            assert mapped[k][i].tolist() == nested(each[i][k].tolist())
    total = cl.grad(lambda a, b: cl.vmap(lambda x: model(x, a, b))(xs).sum(), (0, 1))(w1, w2)
    for k in (0, 1):
        assert total[k].tolist() == nested((each[0][k] + each[1][k] + each[2][k]).tolist())


def test_the_grad_flag_belongs_to_a_level(base):
    """A walk, and a composite's body, that record nothing at their own level leave the level inside to record."""
    w1, w2 = map(t, WEIGHTS)
    xs, targets = t(BATCH), t([[[0.5, 1.0]], [[1.0, -1.0]], [[0.0, 2.0]]])

    def steepness(x, a):
        g = cl.grad(lambda a: model(x, a, w2))(a)
        return (g * g).sum()

    def loss(x, target, a):
        return ops.mse_loss(ops.linear(ops.layer_norm(ops.matmul(x, a)), w2.mT), target)

    through_a_walk = cl.grad(lambda a: cl.vmap(lambda x: steepness(x, a))(xs).sum())(w1)
    expected = sum(
        (cl.grad(lambda a, i=i: steepness(xs[i], a))(w1) for i in range(3)), start=t([[0.0] * 3] * 2)
    )
    assert through_a_walk.tolist() == nested(expected.tolist())
    through_a_body = cl.grad(lambda a: cl.vmap(lambda x, target: loss(x, target, a))(xs, targets).sum())(w1)
    expected = sum(
        (cl.grad(lambda a, i=i: loss(xs[i], targets[i], a))(w1) for i in range(3)), start=t([[0.0] * 3] * 2)
    )
    assert through_a_body.tolist() == nested(expected.tolist())


# 9


def test_rebinding_is_logged(base):
    recorder = Recorder(base)
    x = recorder.input(t([1.0, 2.0]))
    x += 1.0
    x[0] = 5.0
    concrete = t([1.0, 2.0])
    concrete += x
    assert [
        logged is tensor for (logged, _), tensor in zip(recorder.rebinds, (x, x, concrete), strict=True)
    ] == [True, True, True]


def on(recorder, values):
    """A leaf on the recorder, with a gradient."""
    x = recorder.input(t(values)).requires_grad_()
    x.grad = recorder.input(t(values))
    return x


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_optimizers_and_modules_rebind_what_they_change(kind, base):
    from corelib import nn, optim

    recorder = Recorder(base)
    with activate(recorder):
        p = on(recorder, [1.0, 2.0])
        optimizer = getattr(optim, kind)([p], lr=0.1, **({"momentum": 0.9} if kind == "SGD" else {}))
        optimizer.step()
        recorder.rebinds.clear()
        before = {id(x): x._data for x in (p, *optimizer.state[p].values())}
        optimizer.step()
        layer = nn.LayerNorm(3)
        old = {id(x): x._data for x in layer.parameters()}
        layer.load_state_dict({k: recorder.input(v) for k, v in layer.state_dict().items()})
    logged = {id(tensor) for tensor, _ in recorder.rebinds}
    changed = {id(x) for x in (p, *optimizer.state[p].values()) if x._data is not before[id(x)]}
    assert id(p) in changed and changed <= logged
    loaded = {id(x) for x in layer.parameters() if x._data is not old[id(x)]}
    assert len(loaded) == 2 and loaded <= logged


# 10, 11


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_every_step_of_an_optimizer_is_the_same_program(kind, base):
    """What changes from step to step is a tensor: a Python step count or learning rate would be in the program as a number."""
    from corelib import optim

    recorder = Recorder(base)
    with activate(recorder):
        p = on(recorder, [1.0, 2.0])
        optimizer = getattr(optim, kind)([p], lr=0.1, **({"momentum": 0.9} if kind == "SGD" else {}))
        programs = []
        for rate in (0.1, 0.1, 0.025, 0.3):
            optimizer.param_groups[0]["lr"] = rate
            start = len(recorder.program)
            optimizer.step()
            programs.append(
                [
                    (op.name, [v if mark == "scalar" else mark for mark, v in operands], params)
                    for op, _, operands, params, _ in recorder.program[start:]
                ]
            )
    assert programs[1] and programs[1] == programs[2] == programs[3]


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
    first = random.uniform((3, 5), generator=generator)
    assert generator.counter.item() == 4  # blocks of four words
    random.uniform((2, 9), generator=generator)
    assert generator.counter.item() == 4 + 5
    recorder = Recorder(base)
    generator.key, generator.counter = recorder.input(generator.key), recorder.input(generator.counter)
    with activate(recorder):  # where no value can be read
        random.uniform((3, 5), generator=generator)
    advance = next(entry for entry in recorder.program if entry[0].name == "add")
    assert advance[2][1] == ("scalar", 4)
    key, counter = random.Generator(7).key, random.Generator(7).counter
    again = [ops.random_bits(key, counter, shape=(4,), dtype=cl.uint32).tolist() for _ in range(2)]
    assert (
        again[0] == again[1]
        and first.tolist() == random.uniform((3, 5), generator=random.Generator(7)).tolist()
    )


# 12


def test_reading_a_value_has_one_door(base):
    recorder = Recorder(base)
    x = recorder.input(t(1.0))
    for read in (
        bool,
        int,
        float,
        lambda v: v.item(),
        lambda v: v.tolist(),
        lambda v: v.numpy(),
        lambda v: v.__array__(),
        "{:.2f}".format,
    ):
        with pytest.raises(cl.BackendError, match="a value was read while tracing"):
            read(x)
    assert repr(x) == str(x) == "Tensor(<recorder float64[]>)"  # printing needs none
    assert x._repr_html_() == "<div><b>Tensor</b> float64 [] on recorder</div>"
    assert BY_NAME["nonzero"].data_dependent
    with pytest.raises(cl.BackendError, match="depends on values"):
        ops.nonzero(recorder.input(t([1.0, 0.0])))


# 14


def test_scalars_reach_kernels_as_scalars_and_creation_asks_the_transformation(base):
    recorder = Recorder(base)
    x = recorder.input(t([1.0, 2.0]))
    x * 2
    (_, _, operands, _, _) = recorder.program[-1]
    assert operands[1] == ("scalar", 2.0) and type(operands[1][1]) is float
    n = recorder.input(t([1, 2], cl.int64))
    for call, scalar in (
        (lambda: 3 - x, 3.0), (lambda: n * 2.5, 2.5), (lambda: n + 2, 2), (lambda: n > True, 1),
        (lambda: ops.where(x > 0.0, x, 7), 7.0), (lambda: ops.maximum(n, 4), 4), (lambda: x ** cl.e, cl.e),
    ):  # fmt: skip
        call()
        scalars = [v for mark, v in recorder.program[-1][2] if mark == "scalar"]
        assert scalars == [scalar] and type(scalars[0]) is type(scalar)
    with activate(recorder):
        created = cl.zeros((2, 2))
        assert isinstance(created._data, Traced)
    assert not isinstance(cl.zeros((2,))._data, Traced)


# 15


def test_generation_is_an_integer_and_orders_are_deterministic(base):
    from corelib import nn
    from corelib.walk import topological

    before = registry.generation
    name = registry.register(SimpleNamespace(), "nothing")
    registry.unregister(name)
    assert type(registry.generation) is int and registry.generation == before + 2

    def order():
        a, b = t([1.0]).requires_grad_(), t([2.0]).requires_grad_()
        y = (ops.exp(a) + ops.sin(b)) * (ops.cos(b) - ops.tanh(a))
        return [node.op.name for node in topological([y._node])]

    expected = ["leaf", "exp", "leaf", "sin", "add", "cos", "tanh", "subtract", "multiply"]
    assert [order() for _ in range(20)] == [expected] * 20
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

    def per_sample(x, a, b):
        return cl.grad(model, (1, 2))(x, a, b)

    g1, _ = cl.vmap(per_sample, (0, None, None))(*inside)
    want, _ = cl.vmap(per_sample, (0, None, None))(xs, w1, w2)
    replayed = Tensor(recorder.replay(g1._data, xs._data, w1._data, w2._data), base)
    assert replayed.tolist() == want.tolist()
