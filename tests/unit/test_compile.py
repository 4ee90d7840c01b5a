"""``corelib.compile``: a compiled function does what the function does, sees every change, and refuses what it cannot repeat."""

from __future__ import annotations

import functools
import gc
import logging
import os
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import corelib as cl
from corelib import nn, optim
from corelib.compile.trace import LIMIT
from corelib.errors import ArgumentError, BackendError, IndexOutOfBoundsError, ShapeError, TraceError
from corelib.plugin_api import hookimpl
from corelib.registry import registry
from corelib.tree import flatten


def data(*shape, seed=0, dtype=np.float32):
    return cl.asarray(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def equal(actual, expected, far=1e-6):
    """To the last bit where a replay calls the kernels that the function calls. ``cpu`` generates kernels for groups of
    steps, which compute the same by other instructions: within a few ULP for each op, of which most tests have ten at
    most; steps of training divide by small moments (``far``).
    """
    assert (
        actual.dtype is expected.dtype and actual.shape == expected.shape and actual.device == expected.device
    )
    if actual.device == "cpu" and actual.dtype.kind == "float":
        np.testing.assert_allclose(
            actual.detach().numpy(), expected.detach().numpy(), rtol=10 * far, atol=far
        )
    else:
        np.testing.assert_array_equal(actual.detach().numpy(), expected.detach().numpy())


def count(compiled):
    return len(compiled.graphs())


# -- what it gives -------------------------------------------------------------------------------------------


def test_an_expression(anywhere):
    def f(x, y):
        return cl.tanh(x * 2.0 + y) * cl.exp(-x * x) - y

    compiled = cl.compile(f)
    for seed in range(3):
        x, y = data(4, 5, seed=seed), data(5, seed=seed + 9)
        equal(compiled(x, y), f(x, y))
    assert count(compiled) == 1


def test_as_a_decorator_it_keeps_the_name_and_the_docstring():
    @cl.compile
    def double(x):
        """Twice x."""
        return 2 * x

    assert (double.__name__, double.__doc__) == ("double", "Twice x.")
    assert cl.compile(double) is double


def test_trees_of_tensors_numbers_and_words_go_in_and_come_out():
    @cl.compile
    def f(tree, *, scale=1, word="a"):
        return {
            "sum": tree["a"][0] + tree["a"][1] * scale,
            "word": word,
            "same": tree,
            "none": None,
            "list": [tree["b"]],
        }

    tree = {"a": (data(3), data(3, seed=1)), "b": data(2)}
    found = f(tree, scale=3)
    equal(found["sum"], tree["a"][0] + tree["a"][1] * 3)
    assert (found["word"], found["none"]) == ("a", None)
    assert found["list"][0] is tree["b"] and found["same"]["a"][0] is tree["a"][0]
    assert f(tree, scale=3, word="b")["word"] == "b"


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_shapes_dtypes_scalars_and_devices_may_change(name):
    f = cl.compile(lambda x, k: (x * k).sum(axis=0))
    with cl.use_backend(name):
        for x in (data(3, 4), data(5, 4), data(3, 4, dtype=np.float64), data(2, 2).astype(cl.int32)):
            for k in (2, 3):
                equal(f(x, k), (x * k).sum(axis=0))
    assert count(f) == 8
    assert count(f) == 8


def test_two_devices_have_programs_of_their_own():
    f = cl.compile(lambda x: x + 1)
    for device in ("cpu", "reference", "cpu"):
        x = data(3).to(device)
        equal(f(x), x + 1)
    assert count(f) == 2


def test_the_sign_of_zero_and_the_type_of_a_number_are_seen():
    f = cl.compile(lambda x, k: cl.copysign(x, k) if isinstance(k, float) else x)
    x = data(3)
    for k in (0.0, -0.0, 0, float("nan"), False):
        equal(f(x, k), cl.copysign(x, k) if isinstance(k, float) else x)
    assert count(f) == 5
    f(x, float("nan"))
    assert count(f) == 5


def test_layouts_may_change():
    f = cl.compile(lambda x: cl.exp(x) + x.sum(axis=0))
    x = data(4, 4)
    for y in (x, x.T, cl.flip(x), cl.asarray(np.asarray(data(4, 8))[:, ::2])):
        equal(f(y), cl.exp(y) + y.sum(axis=0))
    assert count(f) == 1


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_reductions_of_short_rows_one_after_the_other(anywhere, columns):
    """A row of one element has the shape of its reduction."""
    m, s = (functools.partial(op, axis=-1, keepdims=True) for op in (cl.max, cl.sum))

    def f(a, b, g, h):
        shifted = a - m(a)
        e = cl.exp(b - m(b))
        p = e / s(e)
        log = cl.log(s(cl.exp(cl.where(p == m(p), 0.0, p - m(p))))) + m(p)
        back = (g * cl.exp(cl.where(p == log, 0.0, p - log)) + h * cl.exp(-(p * p))) * p
        return cl.erf(p) - shifted + cl.log(s(cl.exp(shifted))), log, back - p * s(back)

    given = [data(3, columns, seed=i) for i in range(4)]
    compiled = cl.compile(f)
    for _ in range(2):
        for a, b in zip(compiled(*given), f(*given), strict=True):
            equal(a, b)


def test_reductions_three_deep_beside_another_result(anywhere):
    def f(x, g, h):
        total = functools.partial(cl.sum, axis=-1, keepdims=True)
        y = cl.tanh(x)
        e = cl.exp(y - cl.max(y, axis=-1, keepdims=True))
        p = e / total(e)
        back = g * x * p
        return p * x, g * p + (back - p * total(back)) * (1.0 - y * y) + h

    given = [data(5, 3, seed=i) for i in range(3)]
    for a, b in zip(cl.compile(f)(*given), f(*given), strict=True):
        equal(a, b)


# -- gradients -----------------------------------------------------------------------------------------------


def test_a_gradient_inside(anywhere):
    def f(w, x):
        return cl.value_and_grad(lambda w: (cl.tanh(x @ w) ** 2).sum())(w)

    compiled = cl.compile(f)
    for seed in range(2):
        w, x = data(3, 2, seed=seed), data(4, 3, seed=seed + 5)
        for a, b in zip(compiled(w, x), f(w, x), strict=True):
            equal(a, b)


def test_a_gradient_through_from_outside(anywhere):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    compiled, x = cl.compile(net), data(5, 3)
    (compiled(x) ** 2).sum().backward()
    found = [p.grad for p in net.parameters()]
    net.zero_grad()
    (net(x) ** 2).sum().backward()
    for p, g in zip(net.parameters(), found, strict=True):
        equal(g, p.grad)


def test_a_second_derivative_through_from_outside():
    def f(x):
        return (x**3).sum()

    x, twice = data(4), lambda f: cl.grad(lambda x: (cl.grad(f)(x) ** 2).sum())(x)
    equal(twice(cl.compile(f)), twice(f))


def test_a_second_derivative_is_refused_when_the_function_changes_tensors():
    total = cl.zeros(())

    @cl.compile
    def f(x):
        with cl.no_grad():
            total[...] = total + 1
        return (x**3).sum()

    with pytest.raises(cl.GradientError, match="runs it again, and it changes tensors"):
        cl.grad(lambda x: (cl.grad(f)(x) ** 2).sum())(data(3))


def test_several_results_and_only_one_is_differentiated():
    f = cl.compile(lambda x, y: (x * y, cl.argmax(x), cl.exp(y)))
    x, y = data(3).requires_grad_(), data(3, seed=1).requires_grad_()
    f(x, y)[0].sum().backward()
    equal(x.grad, y)
    equal(y.grad, x)


# -- state ---------------------------------------------------------------------------------------------------


def training(optimizer=optim.AdamW, **options):
    cl.random.seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    made = optimizer(net.parameters(), **options)

    def step(x, labels):
        made.zero_grad()
        loss = cl.cross_entropy(net(x), labels)
        loss.backward()
        made.step()
        return loss

    return net, made, step


BATCHES = [(data(5, 6, seed=i).numpy(), np.random.default_rng(i).integers(0, 3, 5)) for i in range(5)]


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(optim.AdamW, {"lr": 1e-2}), (optim.Adam, {"amsgrad": True}), (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True})],
    ids=lambda v: getattr(v, "__name__", ""),
)  # fmt: skip
def test_a_training_step(anywhere, optimizer, options):
    """Parameters, moments, step counts, gradients and the random state are the same."""
    ends = []
    for wrap in (lambda f: f, cl.compile):
        net, made, step = training(optimizer, **options)
        step = wrap(step)
        losses = [step(cl.asarray(x), cl.asarray(y)) for x, y in BATCHES]
        state = [v for p in net.parameters() for _, v in sorted(made.state[p].items())]
        ends.append(
            [
                *losses,
                *net.parameters(),
                *(p.grad for p in net.parameters()),
                *state,
                cl.random.get_state()["counter"],
            ]
        )
    for a, b in zip(*ends, strict=True):
        equal(b, a, far=1e-4)
    assert count(step) <= 2  # the first call makes the optimizer's state


@pytest.mark.parametrize("name", ["RMSprop", "Adagrad", "NAdam", "RAdam", "Lion", "Muon"])
def test_every_optimizer_with_a_schedule_and_an_average(name):
    ends = []
    for wrap in (lambda f: f, cl.compile):
        cl.random.seed(0)
        net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.GELU(), nn.Linear(5, 2, bias=False))
        made = getattr(optim, name)(net.parameters(), lr=1e-2)
        schedule, average = optim.lr_scheduler.StepLR(made, 2), optim.EMA(net.parameters())

        @wrap
        def step(x, net=net, made=made, average=average):
            loss = (net(x) ** 2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            made.step()
            made.zero_grad()
            average.update()
            return loss

        losses = []
        for i in range(5):
            losses.append(step(data(4, 3, seed=i)))
            schedule.step()
        ends.append([*losses, *net.parameters(), *average.averages])
    for a, b in zip(*ends, strict=True):
        equal(b, a, far=1e-4)
    assert count(step) <= 3


def test_an_optimizer_that_branches_on_values_is_refused():
    net = nn.Linear(3, 1)
    made = optim.LBFGS(net.parameters())
    with pytest.raises(TraceError, match=r"test_compile\.py:\d+"):
        cl.compile(lambda x: made.step(lambda: (net(x) ** 2).mean()))(data(2, 3))


def test_a_checkpoint_inside():
    w, x = data(3, 3), data(4, 3, seed=1)

    def f(w):
        return cl.grad(lambda w: cl.checkpoint(lambda h: cl.tanh(h @ w) @ w)(x).sum())(w)

    equal(cl.compile(f)(w), f(w))


def test_a_learning_rate_is_read_at_each_call():
    results = []
    for wrap in (lambda f: f, cl.compile):
        net, made, step = training(optim.SGD, lr=0.1)
        step = wrap(step)
        for i, (x, y) in enumerate(BATCHES):
            made.param_groups[0]["lr"] = 0.1 / (i + 1)
            step(cl.asarray(x), cl.asarray(y))
        results.append(list(net.parameters()))
    for a, b in zip(*results, strict=True):
        equal(b, a)
    assert count(step) <= 2


def test_an_option_of_an_optimizer_is_guarded():
    _, made, step = training(optim.SGD, lr=0.1)
    step = cl.compile(step)
    x, y = map(cl.asarray, BATCHES[0])
    for _ in range(3):
        step(x, y)
    before = count(step)
    made.param_groups[0]["weight_decay"] = 0.5
    step(x, y)
    assert count(step) == before + 1


def test_arguments_are_assigned_to(anywhere):
    @cl.compile
    def f(x, y):
        x[0] = y
        x += 1
        return x.sum()

    x = data(3)
    expected = x.numpy()
    expected[0] = 5
    expected += 1
    assert f(x, cl.asarray(5.0)).item() == expected.sum()
    np.testing.assert_array_equal(x.numpy(), expected)


def test_what_others_hold_is_not_written_over(anywhere):
    """x's memory is written over only where nobody else sees it."""

    @cl.compile
    def f(x):
        x += 1

    x = data(64)
    view, held = x[:], x.detach()
    before = held.numpy()
    for _ in range(3):
        f(x)
    np.testing.assert_array_equal(held.numpy(), before)
    np.testing.assert_array_equal(view.numpy(), before)
    np.testing.assert_array_equal(x.numpy(), before + np.float32(1) + np.float32(1) + np.float32(1))


def test_one_tensor_given_twice():
    @cl.compile
    def f(x, y):
        x += 1
        return x + y

    a, b = cl.ones(3), cl.ones(3)
    assert f(a, b).tolist() == [3.0] * 3
    assert f(a, a).tolist() == [6.0] * 3  # a was 2
    assert f(a, b).tolist() == [5.0] * 3


def test_random_numbers_go_on_as_they_would():
    f = cl.compile(lambda: cl.random.normal((3,)) + cl.random.uniform((3,)))
    cl.random.seed(7)
    expected = [f.__wrapped__() for _ in range(4)]
    cl.random.seed(7)
    for e in expected:
        equal(f(), e)
    assert count(f) == 1
    assert expected[0].tolist() != expected[1].tolist()


def test_two_draws_are_two():
    x = cl.compile(lambda: (cl.random.uniform((4,)), cl.random.uniform((4,))))
    a, b = x()
    assert a.tolist() != b.tolist()


def test_a_tensor_from_outside_is_read_at_each_call():
    w = data(3)
    f = cl.compile(lambda x: x * (w * 2))  # w * 2 has no traced operand, and is no constant
    x = cl.ones(3)
    equal(f(x), w * 2)
    w += 1
    equal(f(x), w * 2)
    w[0] = 7
    equal(f(x), w * 2)
    assert count(f) == 1


class Recurrent(nn.Module):
    def __init__(self):
        self.hidden = None
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        h = x if self.hidden is None else cl.tanh(self.linear(self.hidden) + x)
        self.hidden = h.detach()
        return h


def test_a_new_tensor_in_an_attribute():
    cl.random.seed(0)
    a = Recurrent()
    cl.random.seed(0)
    b = Recurrent()
    compiled = cl.compile(b)
    with cl.no_grad():
        for i in range(5):
            x = data(2, 3, seed=i)
            equal(compiled(x), a(x))
            equal(b.hidden, a.hidden)
    assert count(compiled) == 2


def test_a_dictionary_of_state_is_changed_as_it_would_be():
    @cl.compile
    def f(state, x):
        state["m"] = state["m"] * 0.5 + x
        return state["m"].sum()

    state = {"m": cl.zeros(3)}
    for _ in range(3):
        f(state, cl.ones(3))
    assert state["m"].tolist() == [1.75] * 3
    assert count(f) == 1


def test_accumulated_gradients():
    w = data(3).requires_grad_()
    f = cl.compile(lambda x: (w * x).sum().backward())
    for _ in range(3):
        f(cl.ones(3))
    assert w.grad.tolist() == [3.0] * 3
    w.grad = None
    f(cl.ones(3))
    assert w.grad.tolist() == [1.0] * 3
    assert count(f) == 2


# -- what it must notice -------------------------------------------------------------------------------------

SCALE = 2.0


def scaled(x):
    return x * SCALE


def test_a_global_number_is_guarded_also_in_what_is_called(monkeypatch):
    f = cl.compile(lambda x: scaled(x))
    x = cl.ones(2)
    assert f(x).tolist() == [2.0, 2.0]
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert f(x).tolist() == [3.0, 3.0]


def test_a_number_in_a_closure_a_default_and_a_partial_is_guarded():
    k, table = 1.0, {"k": [2.0]}

    def f(x, *, y=table):
        return x * k * y["k"][0]

    compiled, x = cl.compile(f), cl.ones(2)
    assert compiled(x).tolist() == [2.0, 2.0]
    k = 3.0
    assert compiled(x).tolist() == [6.0, 6.0]
    table["k"][0] = 1.0
    assert compiled(x).tolist() == [3.0, 3.0]
    options = {"y": {"k": [5.0]}}
    partial = cl.compile(functools.partial(f, **options))
    assert partial(x).tolist() == [15.0, 15.0]
    options["y"]["k"][0] = 1.0
    assert partial(x).tolist() == [3.0, 3.0]


def test_numbers_in_sets_and_arrays_are_guarded():
    allowed, weights = {1}, np.ones(2)
    f = cl.compile(lambda x: x * weights[0] if 1 in allowed else x)
    assert f(cl.ones(1)).tolist() == [1.0]
    weights[0] = 3
    assert f(cl.ones(1)).tolist() == [3.0]
    allowed.clear()
    assert f(cl.ones(1)).tolist() == [1.0]


def test_training_mode_is_guarded():
    net = nn.Sequential(nn.Dropout(0.5)).train()
    f, x = cl.compile(net), cl.ones(64)
    assert 0.0 in f(x).tolist()
    net.eval()
    equal(f(x), x)
    net.train()
    assert 0.0 in f(x).tolist()
    assert count(f) == 2


def test_a_parameter_replaced_or_frozen_is_seen():
    net = nn.Linear(2, 1, bias=False)
    f, x = cl.compile(lambda x: net(x).sum()), cl.ones((1, 2))
    f(x).backward()
    net.weight = nn.Parameter(cl.full((1, 2), 3.0))
    assert f(x).item() == 6.0
    net.requires_grad_(False)
    assert not f(x).requires_grad
    net.requires_grad_(True)
    assert f(x).requires_grad
    net.load_state_dict({"weight": cl.full((1, 2), 5.0)})
    assert f(x).item() == 10.0


def test_a_module_moved_to_another_dtype_or_device_is_seen():
    net = nn.Linear(2, 1)
    f = cl.compile(lambda x: net(x))
    f(data(3, 2))
    net.to(cl.float64)
    assert f(data(3, 2, dtype=np.float64)).dtype is cl.float64
    net.to("reference")
    assert f(data(3, 2, dtype=np.float64).to("reference")).device == "reference"


def test_the_gradient_mode_is_guarded():
    w = data(3).requires_grad_()
    f = cl.compile(lambda x: x * w)
    assert f(cl.ones(3)).requires_grad
    with cl.no_grad():
        assert not f(cl.ones(3)).requires_grad
    assert f(cl.ones(3)).requires_grad
    assert count(f) == 2


class Doubling:
    """A plugin that makes exp twice as large."""

    @hookimpl
    def find_kernel(self, op, dtype, backend):
        kernel = backend.find(op, dtype) if op.name == "exp" and backend.device == "reference" else None
        return (
            None
            if kernel is None
            else lambda x: [backend.tables[dtype]][0][cl.add.op.index](kernel(x), kernel(x))
        )


def test_a_plugin_that_comes_and_goes_is_seen():
    f = cl.compile(lambda x: cl.exp(x))
    x = cl.zeros(2, device="reference")
    assert f(x).tolist() == [1.0, 1.0]
    name = cl.register(Doubling(), "doubling")
    try:
        assert f(x).tolist() == [2.0, 2.0]
    finally:
        cl.unregister(name)
    assert f(x).tolist() == [1.0, 1.0]


def test_other_backends_may_be_selected_where_nothing_else_says_which():
    f = cl.compile(lambda: cl.ones(2))
    for device in ("cpu", "reference", "cpu"):
        with cl.use_backend(device):
            assert f().device == device
    assert count(f) == 2


def test_programs_are_bounded_and_then_it_runs_uncompiled(caplog):
    f = cl.compile(lambda x, k: x + k)
    x = cl.ones(2)
    with caplog.at_level(logging.WARNING, "corelib"):
        for k in range(40):
            assert f(x, k).tolist() == [1.0 + k] * 2
    assert count(f) == 32
    assert ["was compiled 32 times" in r.message for r in caplog.records] == [True]
    assert "argument 1" in caplog.records[0].message


def test_a_recompilation_says_what_changed(caplog):
    f = cl.compile(lambda x: x + 1)
    with caplog.at_level(logging.INFO, "corelib"):
        f(cl.ones(2))
        f(cl.ones(3))
        f(cl.ones(3, dtype=cl.float64))
    said = [r.message for r in caplog.records]
    assert "the shape of argument 0" in said[1]
    assert "the dtype of argument 0" in said[2]


# -- what it refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: x if x.sum() > 0 else -x, r"test_compile\.py:\d+: bool\(x\), as in `if x:`"),
        (
            lambda x: x * x.sum().item(),
            r"test_compile\.py:\d+: item needs the values of a float32\[\] tensor",
        ),
        (lambda x: x * float(x[0]), r"test_compile\.py:\d+: float\(x\)"),
        (lambda x: np.asarray(x) and x, r"test_compile\.py:\d+: array\(x\)"),
        (lambda x: x[x > 0], r"test_compile\.py:\d+: the shape of nonzero's result depends on values"),
        (lambda x: x + np.ones(3, np.float32), "x2 must be a Tensor"),
        (
            lambda x: x + cl.asarray(np.ones(3, np.float32)),
            r"makes a tensor of another library's array \(ndarray\)",
        ),
        (lambda x: x.to("reference"), "runs on 'cpu' and is to make a tensor on 'reference': do so outside"),
    ],
    ids=["branch", "item", "float", "numpy", "nonzero", "operand", "asarray", "device"],
)
def test_what_needs_values_is_refused_with_the_line_and_the_ways_out(f, words):
    with pytest.raises(cl.CorelibError, match=words) as caught:
        cl.compile(f)(data(3))
    if isinstance(caught.value, TraceError) and "which are not known" in str(caught.value):
        assert (
            "corelib.where" in str(caught.value)
            and "corelib.compile.eager" in str(caught.value)
            and "static" in str(caught.value)
        )


def test_a_closed_over_tensor_cannot_be_read_either():
    w = cl.asarray(2.0)
    with pytest.raises(TraceError, match=r"float\(x\)"):
        cl.compile(lambda x: x * float(w))(data(3))


def test_arrays_of_other_libraries_are_no_arguments():
    with pytest.raises(TraceError, match="argument 0 is a ndarray: a compiled function takes tensors"):
        cl.compile(lambda x: x)(np.ones(3))


def test_two_devices_in_one_function():
    with pytest.raises((TraceError, BackendError), match="reference"):
        cl.compile(lambda x, y: x + y)(data(3), data(3).to("reference"))
    with pytest.raises(TraceError, match="runs on 'cpu' and is to make a tensor on 'reference'"):
        cl.compile(lambda x: x + cl.ones(3, device="reference"))(data(3).to("cpu"))


def test_an_unrolled_loop_has_a_bound():
    def f(x):
        while True:
            x = x + 1
        return x

    with pytest.raises(TraceError, match=rf"more than {LIMIT} steps, at .*test_compile\.py:\d+: a loop"):
        cl.compile(f)(cl.ones(2, device="reference"))


def test_an_iterator_is_not_advanced_by_a_program():
    batches = iter([1, 2])
    with pytest.raises(TraceError, match="reads the iterator batches"):
        cl.compile(lambda x: x * next(batches))(data(3))


def test_a_generator_is_no_function_to_compile():
    def f():
        yield 1

    with pytest.raises(TraceError, match="f is a generator"):
        cl.compile(f)
    with pytest.raises(ArgumentError, match="compile needs a function, got 3"):
        cl.compile(3)


def test_a_history_from_outside_is_an_argument_or_refused():
    w = data(3).requires_grad_()
    y = w * 2
    with pytest.raises(TraceError, match="has a history: pass it as an argument"):
        cl.compile(lambda x: x * y)(data(3))
    cl.compile(lambda x, y: (x * y).sum())(data(3), y).backward()
    equal(w.grad, data(3) * 2)
    with pytest.raises(TraceError, match="reaches an argument's history outside"):
        cl.compile(lambda y: y.sum().backward())(w * 2)


def test_what_is_left_behind_says_so():
    held, pairs = set(), []

    def f(x):
        held.add(x * 2)
        return x

    cl.compile(f)(data(3))
    with pytest.raises(TraceError, match="left it behind without a value"):
        held.pop() + 1
    with pytest.raises(TraceError, match=r"keeps a tensor in pairs .*, in a tuple"):
        cl.compile(lambda x: pairs.append((x * 2, 1)))(data(3))


def test_errors_are_the_functions_own():
    f = cl.compile(lambda x, i: cl.take(x, i))
    x = cl.ones(3)
    assert f(x, cl.asarray([0, 2])).tolist() == [1.0, 1.0]
    with pytest.raises(IndexOutOfBoundsError) as expected:
        cl.take(x, cl.asarray([0, 3]))
    with pytest.raises(IndexOutOfBoundsError) as found:
        f(x, cl.asarray([0, 3]))
    assert str(found.value) == str(expected.value)
    with pytest.raises(ShapeError, match="do not broadcast"):
        cl.compile(lambda x, y: x + y)(cl.ones(3), cl.ones(2))


# -- what goes wrong while it is made ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_recording_leaves_everything_as_it_was(error):
    net, _, step = training(optim.SGD, lr=0.1)
    stop = [True]

    def interrupted(x, y):
        loss = step(x, y)
        net.extra = loss.detach()
        if stop:
            raise error
        return loss

    compiled = cl.compile(interrupted)
    x, y = map(cl.asarray, BATCHES[0])
    net.extra = cl.zeros(())
    step(x, y)
    before = [p.numpy() for p in net.parameters()]
    grads = [p.grad.numpy() for p in net.parameters()]
    with pytest.raises(error):
        compiled(x, y)
    for p, b, g in zip(net.parameters(), before, grads, strict=True):
        np.testing.assert_array_equal(p.numpy(), b)
        np.testing.assert_array_equal(p.grad.numpy(), g)
    assert net.extra.item() == 0.0 and count(compiled) == 0
    stop.clear()
    assert compiled(x, y).shape == ()


def test_a_backend_that_cannot_compile_is_replayed_with_a_warning(monkeypatch, caplog):
    backend = registry.get("reference")

    def broken(graph):
        raise RuntimeError("LLVM: out of registers")

    monkeypatch.setattr(backend, "compile", broken)
    f = cl.compile(lambda x: cl.exp(x) + 1)
    x = cl.zeros(2, device="reference")
    with caplog.at_level(logging.WARNING, "corelib"):
        assert f(x).tolist() == [2.0, 2.0]
    assert "'reference' could not compile the program" in caplog.text and "out of registers" in caplog.text
    assert "replayed, since 'reference' could not compile it" in f.explain()


def test_a_backend_that_compiles_is_used(monkeypatch):
    backend, seen = registry.get("reference"), []

    def compile(graph):
        from corelib.replay import replayer

        seen.append(graph)
        run = replayer(graph)
        run.explain = lambda: "one kernel of my own"
        return run

    monkeypatch.setattr(backend, "compile", compile)
    f = cl.compile(lambda x: cl.exp(x) + 1)
    assert f(cl.zeros(2, device="reference")).tolist() == [2.0, 2.0]
    f.clear()
    f(cl.zeros(2, device="reference"))
    assert len(seen) == 2
    assert "compiled by 'reference'" in f.explain() and "one kernel of my own" in f.explain()


def test_threads_compile_and_call_at_once():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(False)
    f, errors = cl.compile(net), []
    barrier = threading.Barrier(8)

    def work(i):
        try:
            barrier.wait()
            for k in range(20):
                x = data(1 + (i + k) % 3, 4, seed=i)
                if not np.array_equal(f(x).numpy(), net(x).numpy()):
                    errors.append((i, k))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert count(f) == 3


def test_others_work_while_one_thread_records():
    """Ops of another thread are not recorded, and a tensor that only the recording knows is refused."""
    inside, done = threading.Event(), threading.Event()
    w = data(3)
    seen = []

    def f(x):
        y = x * w
        seen.append(y)
        inside.set()
        done.wait(10)
        seen.clear()
        return y

    thread = threading.Thread(target=lambda: cl.compile(f)(cl.ones(3)))
    thread.start()
    assert inside.wait(10)
    try:
        equal(w * 2, cl.asarray(w.numpy() * 2))
        with pytest.raises(TraceError, match="which another thread is compiling just now"):
            seen[0] + 1
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_forked_while_a_thread_records_can_compile():
    """The child has neither the lock nor the recording of its parent's other thread."""
    inside, done = threading.Event(), threading.Event()

    def f(x):
        inside.set()
        done.wait(10)
        return x

    thread = threading.Thread(target=lambda: cl.compile(f)(cl.ones(3, device="reference")))
    thread.start()
    assert inside.wait(10)
    child = os.fork()
    if child == 0:
        ok = cl.compile(lambda x: x + 1)(cl.ones(2, device="reference")).tolist() == [2.0, 2.0]
        os._exit(0 if ok else 1)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_compiled_function_in_another_is_part_of_it():
    inner = cl.compile(lambda x: x * 2)
    outer = cl.compile(lambda x: inner(x) + 1)
    assert outer(cl.ones(2)).tolist() == [3.0, 3.0]
    assert (count(inner), count(outer)) == (0, 1)


@pytest.mark.parametrize(
    "transformed",
    [
        lambda f: lambda x: cl.vmap(lambda row: f(row))(x),
        lambda f: lambda x: cl.jvp(f, (x,), (cl.ones(x.shape),)),
        lambda f: lambda x: cl.hvp(lambda x: f(x).sum(), (x,), (cl.ones(x.shape),)),
        lambda f: lambda x: cl.jacfwd(f)(x),
        lambda f: lambda x: cl.vmap(cl.grad(lambda row: f(row).sum()))(x),
        lambda f: lambda x: cl.hessian(lambda x: f(x).sum())(x),
    ],
    ids=["vmap", "jvp", "hvp", "jacfwd", "per-sample", "hessian"],
)
def test_transformations_inside_and_outside(transformed):
    w = data(3, 3, seed=4)

    def f(x):
        return cl.tanh(cl.softmax(x) @ w) * x

    x = data(2, 3)
    expected = flatten(transformed(f)(x))[0]
    inside, outside = cl.compile(transformed(f)), transformed(cl.compile(f))
    for found in (inside(x), inside(x), outside(x)):
        for a, b in zip(flatten(found)[0], expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_the_arguments_of_the_first_call_are_let_go():
    f = cl.compile(lambda batch, scale: {"y": batch["x"] * scale})
    x = data(3)
    batch = {"x": x}
    kept = weakref.ref(x)
    f(batch, 2.0)
    del x, batch
    gc.collect()
    assert kept() is None


def test_a_method():
    class Scaled(nn.Module):
        def __init__(self, k):
            self.k = k

        @cl.compile
        def forward(self, x):
            return x * self.k

    a, b = Scaled(2.0), Scaled(3.0)
    assert [a(cl.ones(1)).item(), b(cl.ones(1)).item(), a(cl.ones(1)).item()] == [2.0, 3.0, 2.0]
    a.k = 5.0
    assert a(cl.ones(1)).item() == 5.0


# -- static arguments and what is not compiled ---------------------------------------------------------------


def test_a_static_argument_is_a_number_inside():
    @cl.compile(static=("n", 1))
    def f(x, flag, n=2):
        return x**n if flag else x

    x = data(3)
    equal(f(x, cl.asarray(True), n=cl.asarray(3)), x**3)
    equal(f(x, cl.asarray(False), n=cl.asarray(3)), x)


def test_an_eager_function_reads_values_at_each_call():
    seen = []

    @cl.compile.eager
    def clipped(g):
        seen.append(float((g * g).sum()) ** 0.5)
        return g / seen[-1] if seen[-1] > 1 else g

    f = cl.compile(lambda x: clipped(x * 2) * 3)
    x = data(3)
    f(x)
    assert "segments: 2, between them uncompiled calls of clipped" in f.explain()
    f.clear()
    seen.clear()
    for k in (1.0, 0.01, 1.0):
        expected = f.__wrapped__(x * k)
        seen.clear()
        equal(f(x * k), expected)
        assert len(seen) == 1  # the first call does not run it twice
    g = lambda x: cl.grad(lambda x: f.__wrapped__(x).sum())(x)
    through, inside = cl.grad(lambda x: f(x).sum()), cl.compile(g)
    for k in (1.0, 0.01, 1.0):
        equal(through(x * k), g(x * k))
        equal(inside(x * k), g(x * k))


def test_an_eager_function_gives_tensors_of_one_shape_and_assigns_to_none():
    w = cl.ones(3)

    @cl.compile.eager
    def number(x):
        return float(x.sum())

    @cl.compile.eager
    def positive(x):
        return x[x > 0]

    @cl.compile.eager
    def assigning(x):
        w[0] = 3
        return x

    with pytest.raises(TraceError, match=r"number is called uncompiled and gives 3\.0: it must give tensors"):
        cl.compile(lambda x: x * number(x))(cl.ones(3))
    f = cl.compile(lambda x: positive(x))
    assert f(cl.asarray([1.0, -1.0])).tolist() == [1.0]
    with pytest.raises(ShapeError, match="positive gave"):
        f.compiled.programs[0].run(cl.asarray([1.0, 1.0])._data)
    with pytest.raises(TraceError, match="assigning is called uncompiled and assigns to a tensor"):
        cl.compile(lambda x: assigning(x * w) + w)(cl.ones(3))


# -- the guide -----------------------------------------------------------------------------------------------


def test_the_guide_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).resolve().parents[2] / "docs" / "compile.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "guide"}
    printed = []
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "docs/compile.md", "exec"), scope)
            printed.append(capsys.readouterr().out)
        else:
            assert printed[-1] == text


def test_corelib_log_says_what_is_compiled():
    code = "import corelib as cl; f = cl.compile(lambda x: x + 1); f(cl.ones(2, device='reference')); f(cl.ones(3, device='reference'))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "CORELIB_LOG": "compile"},
    )
    assert run.returncode == 0, run.stderr
    assert "<lambda>: program 1 of 1 steps, replayed, 1 kernels" in run.stderr
    assert "what changed against the others: 0) the shape of argument 0" in run.stderr
