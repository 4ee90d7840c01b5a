"""Grouping: what becomes one kernel, what must stay apart, and that a backend's word is final."""

from __future__ import annotations

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.backend import Overlay
from corelib.compile.fuse import Group, fused
from corelib.compile.graph import Graph, Traced
from corelib.plugin_api import hookimpl, registry
from corelib.replay import Recorder, replayer
from corelib.tensor import wrap

F32 = cl.float32


class Fusing(Overlay):
    """The reference backend, with an emitter that runs a group's steps one by one and notes the group."""

    def __init__(self, name="fusing", index=0):
        super().__init__(name, index)
        self.base, self.groups, self.declines = registry.get("reference"), [], False

    def fuses(self, step):
        return True

    def emit(self, group):
        if self.declines:
            return None
        self.groups.append(group)
        several = len(group.results) > 1
        return replayer(
            Graph(group.inputs, group.steps, group.results if several else group.results[:1], several=several)
        )


@pytest.fixture
def backend():
    return registry.attach(Fusing())


def recorded(backend, fn, *shapes, dtypes=None):
    """The graph of ``fn`` on tensors of these shapes."""
    recorder = Recorder(backend)
    inputs = [Traced(s, (dtypes or {}).get(i, F32), f"a{i}") for i, s in enumerate(shapes)]
    result = fn(*[wrap(x, recorder) for x in inputs])
    several = isinstance(result, tuple)
    data = [r._data for r in (result if several else (result,))]
    return Graph(inputs, recorder.steps, data, several=several)


def kinds(group: Group) -> list[str]:
    return [f"{s.op.name}:{group.kinds[s.outputs[0].name]}" for s in group.steps]


def grouped(backend, fn, *shapes, least=0, **more):
    graph = recorded(backend, fn, *shapes, **more)
    after = fused(graph, backend, least)
    rng = np.random.default_rng(0)
    arrays = [
        cl.asarray(rng.uniform(0.5, 2, x.shape).astype(x.dtype.name), device="reference")._data
        for x in graph.inputs
    ]
    expected, got = replayer(graph)(*arrays), replayer(after)(*arrays)
    host = lambda r: [bytes(memoryview(backend.to_host(a))) for a in (r if isinstance(r, tuple) else (r,))]
    assert host(got) == host(expected)
    return after


def test_softmax_is_one_group_with_two_reductions(backend):
    after = grouped(backend, ops.softmax, (4, 5))
    (group,) = backend.groups
    assert kinds(group) == ["max:reduced", "subtract:full", "exp:full", "sum:reduced", "divide:full"]
    assert (group.shape, group.columns) == ((4, 5), 1) and len(after.steps) == 1
    assert [x.name for x in group.inputs] == ["a0"] and len(group.results) == 1
    assert after.steps[0].op.name == "fused(max, subtract, exp, sum, divide)"


def test_what_is_one_number_per_row_and_what_is_one_per_column_find_their_kinds(backend):
    def gradients(g, x):
        scale = ops.divide(1.0, ops.sqrt(ops.sum(ops.multiply(x, x), axis=-1, keepdims=True)))
        y = ops.multiply(x, scale)
        return ops.multiply(g, y), ops.sum(ops.multiply(g, y), axis=0), ops.sum(y), scale

    grouped(backend, gradients, (4, 5), (4, 5))
    (group,) = backend.groups
    found = kinds(group)
    assert "sum:reduced" in found and "sqrt:row" in found and "sum:column" in found and "sum:total" in found
    assert len(group.results) == 4


def test_chains_that_meet_become_one_group(backend):
    grouped(backend, lambda a, b: ops.add(ops.exp(a), ops.exp(b)), (3, 4), (3, 4))
    assert len(backend.groups) == 1 and len(backend.groups[0].steps) == 3


def test_steps_that_read_one_large_input_are_one_group_though_neither_reads_the_other(backend):
    grouped(backend, lambda a: (ops.exp(a), ops.sqrt(a)), (3, 4))
    assert len(backend.groups) == 1 and len(backend.groups[0].results) == 2


def test_a_group_never_waits_for_what_waits_for_it(backend):
    def there_and_back(x):
        y = ops.negative(ops.exp(x))
        return ops.add(ops.multiply(y, 2.0), ops.sort(y))

    after = grouped(backend, there_and_back, (3, 4))
    assert [kinds(g) for g in backend.groups] == [["exp:full", "negative:full", "multiply:full"]]
    assert [s.op.kind for s in after.steps] == ["fused", "opaque", "elementwise"]


def test_different_domains_stay_apart(backend):
    grouped(backend, lambda a, b: ops.add(ops.exp(ops.negative(a)), ops.exp(ops.negative(b))), (4, 5), (5,))
    assert sorted(g.shape for g in backend.groups) == [(4, 5), (5,)]
    backend.groups.clear()
    grouped(backend, lambda a: ops.negative(ops.exp(ops.sum(ops.exp(a), axis=0))), (4, 5))
    assert ["exp:full", "sum:column"] in [kinds(g) for g in backend.groups]


def test_reductions_of_the_same_rows_only_share_a_group(backend):
    grouped(backend, lambda a: (ops.sum(ops.exp(a), axis=(-2, -1)), ops.sum(ops.exp(a), axis=-1)), (2, 3, 4))
    assert all(g.columns in (1, 2) for g in backend.groups)
    assert not any(
        {"sum:reduced"} < set(kinds(g)) and kinds(g).count("sum:reduced") > 1 for g in backend.groups
    )


def test_what_nobody_reads_is_not_computed(backend):
    def with_waste(x):
        ops.sqrt(ops.exp(x))
        return ops.negative(ops.abs(x))

    after = grouped(backend, with_waste, (3, 4))
    assert [kinds(g) for g in backend.groups] == [["abs:full", "negative:full"]] and len(after.steps) == 1


def test_small_domains_and_empty_ones_are_left_alone(backend):
    graph = recorded(backend, ops.softmax, (4, 5))
    assert [s.op.name for s in fused(graph, backend, least=21).steps] == [s.op.name for s in graph.steps]
    grouped(backend, ops.softmax, (0, 5))
    assert backend.groups == []
    assert len(fused(graph, backend, least=20).steps) == 1


def test_a_declined_group_and_a_backend_without_an_emitter_run_step_by_step(backend):
    backend.declines = True
    assert len(grouped(backend, ops.softmax, (4, 5)).steps) == 5
    graph = recorded(registry.get("reference"), ops.softmax, (4, 5))
    assert len(fused(graph, registry.get("reference")).steps) == 5


def test_nothing_passes_a_step_that_writes_over_its_operand(backend):
    def update(x):
        y = ops.exp(ops.negative(x))
        return ops.add(y, ops.add(ops.multiply(y, 2.0), 1.0))

    graph = recorded(backend, update, (3, 4))
    writer = graph.steps[1]
    writer.params = {"overwrite": True}  # as an update in place would be recorded
    number = {id(s): n for n, s in enumerate(graph.steps)}
    segments = []
    for step in fused(graph, backend).steps:
        segments.append([number[id(s)] for s in (step.op.group.steps if step.op.kind == "fused" else [step])])
    assert segments[:2] == [[0], [1]] and sorted(n for part in segments[2:] for n in part) == [2, 3, 4]


def test_a_kernel_that_a_plugin_wraps_is_not_taken_into_a_group():
    seen = []

    class Counting:
        @hookimpl(wrapper=True)
        def find_kernel(self, op, dtype, backend):
            kernel = yield
            if op.name != "exp":
                return kernel

            def counted(*operands, **params):
                seen.append(op.name)
                return kernel(*operands, **params)

            return counted

    x = cl.asarray(np.ones((100, 100), np.float32), device="cpu")
    plugin = Counting()
    cl.register(plugin)
    try:
        for _ in range(4):
            ops.softmax(x)
    finally:
        cl.unregister(plugin)
    assert len(seen) == 4


class Producing(Fusing):
    """One that takes products as well, and declines them if asked to."""

    fuses_products, refuses = True, False

    def emit(self, group):
        self.groups.append(group)
        if self.refuses and group.product:
            return None
        return replayer(Graph(group.operands, group.all, group.results, several=len(group.results) > 1))


@pytest.fixture
def producing():
    return registry.attach(Producing())


def test_a_product_begins_the_element_wise_group_that_alone_reads_it(producing):
    after = grouped(producing, lambda a, b, c: ops.exp(ops.add(ops.matmul(a, b), c)), (3, 4), (4, 5), (5,))
    (group,) = producing.groups
    assert [s.op.name for s in group.all] == ["matmul", "add", "exp"]
    assert kinds(group) == ["add:full", "exp:full"] and len(after.steps) == 1
    assert [x.name for x in group.operands] == ["a0", "a1", "a2"]
    assert [x.shape for x in group.inputs] == [(3, 5), (5,)]


def test_a_reshaped_product_does_as_well(producing):
    fn = lambda a, b, c: ops.add(ops.reshape(ops.matmul(a, b), (3, 1, 5)), c)
    grouped(producing, fn, (3, 4), (4, 5), (5,))
    (group,) = producing.groups
    assert [s.op.name for s in group.all] == ["matmul", "reshape", "add"]
    assert [x.name for x in group.operands] == ["a0", "a1", "a2"]


@pytest.mark.parametrize(
    "fn",
    [
        lambda a, b: (ops.exp(y := ops.matmul(a, b)), y),
        lambda a, b: (ops.exp(y := ops.matmul(a, b)), ops.cumulative_sum(y, axis=0)),
        lambda a, b: ops.softmax(ops.matmul(a, b), axis=-1),
        lambda a, b: ops.exp(ops.reshape(ops.reshape(ops.matmul(a, b), (5, 3)), (3, 5))),
        lambda a, b: ops.exp(ops.permute_dims(ops.matmul(a, b), (1, 0))),
    ],
    ids=["a result", "read elsewhere", "rows", "reshaped twice", "permuted"],
)
def test_other_products_stay_steps(producing, fn):
    after = grouped(producing, fn, (3, 4), (4, 5))
    assert all(not group.product for group in producing.groups)
    assert "matmul" in [s.op.name for s in after.steps]


def test_a_product_that_is_declined_comes_before_its_group(producing):
    producing.refuses = True
    after = grouped(producing, lambda a, b: ops.exp(ops.negative(ops.matmul(a, b))), (3, 4), (4, 5))
    assert [s.op.name for s in after.steps] == ["matmul", "fused(negative, exp)"]


def test_of_two_products_one_begins_the_group(producing):
    fn = lambda a, b, c: ops.exp(ops.add(ops.matmul(a, b), ops.matmul(a, c)))
    after = grouped(producing, fn, (3, 4), (4, 5), (4, 5))
    assert sorted(s.op.name for s in after.steps) == ["fused(matmul, add, exp)", "matmul"]


def test_a_small_group_without_its_product_is_single_steps(producing):
    producing.refuses = True
    graph = grouped(
        producing, lambda a, b: ops.exp(ops.negative(ops.matmul(a, b))), (3, 4), (4, 5), least=100
    )
    assert [s.op.name for s in graph.steps] == ["matmul", "negative", "exp"]
