"""A watched run: every op with its values, gradients, time and module, and a picture with frames for the modules."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest

import corelib as cl
from corelib import nn
from corelib.drawing import watched_graph
from corelib.errors import ArgumentError, BackendError, GradientError, ShapeError
from corelib.layout import layout
from corelib.watching import CONSTANT, INPUT, OP, PARAMETER, statistics

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def device(request):
    with cl.use_backend(request.param):
        yield request.param


@pytest.fixture
def model():
    cl.random.seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2)
    )


def data():
    return cl.reshape(cl.arange(15, dtype=cl.float32), (5, 3)) / 10


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_each_op_is_seen_once_in_its_module(model):
    seen = cl.watch(model, data())
    ops = [(e.name, e.modules[-1]) for e in seen.events if e.kind == OP]
    assert ops == [
        ("linear", "0: Linear"), ("relu", "1: ReLU"), ("linear", "2.0: Linear"), ("tanh", "2.1: Tanh"), ("linear", "3: Linear"),
    ]  # fmt: skip
    assert [e.name for e in seen.events if e.kind == PARAMETER] == [
        name for name, _ in model.named_parameters()
    ]


def test_the_result_is_the_functions_own(model, device):
    x = data()
    seen = cl.watch(lambda x: {"y": model(x), "n": 3}, x, names=model)
    assert seen.result["n"] == 3
    y = seen.result["y"]
    assert y.tolist() == model(x).tolist()
    assert y.device == device
    cl.sum(y).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_module_is_left_as_it_was(model):
    cl.watch(model, data())
    assert not any(any((m._hooks or {}).values()) for m in model.modules())
    assert all(p.device == cl.get_backend() for p in model.parameters())


def test_gradients_are_those_of_the_sum(model):
    x = data().requires_grad_()
    seen = cl.watch(model, x)
    found = seen.gradients()
    assert found[x._node].tolist() == cl.grad(lambda x: cl.sum(model(x)))(x.detach()).tolist()
    relu = next(e for e in seen.events if e.name == "relu")
    assert found[relu.results[0]._node].shape == (5, 4)
    assert all(p.grad is None for p in model.parameters())


def test_seconds_and_bytes_are_measured(model):
    seen = cl.watch(model, data())
    ops = [e for e in seen.events if e.kind == OP]
    assert all(0 < e.seconds < 60 for e in ops)
    assert [e.bytes for e in ops] == [80, 80, 80, 80, 40]
    assert math.isclose(sum(seen.seconds().values()), sum(e.seconds for e in ops))
    assert list(seen.seconds().values()) == sorted(seen.seconds().values(), reverse=True)


def test_the_picture_says_what_is_asked_for(model):
    seen = cl.watch(lambda x: cl.sum(model(x)), data(), names=model)
    plain = texts(cl.draw(seen))
    assert "value float32[5, 4] on " + cl.get_backend() in plain
    assert not any("mean" in t or " B" in t or "µs" in t for t in plain)
    full = texts(cl.draw(seen, values=True, gradients=True, seconds=True, bytes=True))
    assert any(t.startswith("      0 .. 1.4, mean 0.7") for t in full), "the data"
    assert "grad  1" in full, "of the sum itself"
    assert any(re.fullmatch(r"[\d.e+]+ (µs|ms|s), 80 B", t) for t in full)


def test_modules_are_frames_around_their_ops_and_nothing_else(model):
    seen = cl.watch(lambda x: cl.sum(model(x) * 2), data(), names=model)
    drawn = watched_graph(seen)
    placed = layout(drawn)
    assert [f.title for f in placed.frames] == [
        "Sequential", "0: Linear", "1: ReLU", "2: Sequential", "2.0: Linear", "2.1: Tanh", "3: Linear",
    ]  # fmt: skip
    for frame in placed.frames:
        for box in drawn.boxes:
            inside = (
                frame.x <= box.x
                and box.x + box.width <= frame.x + frame.width
                and frame.y <= box.y
                and box.y + box.height <= frame.y + frame.height
            )
            assert inside == (frame.title in box.groups), f"{box.title} and {frame.title}"
    for a, b in itertools.combinations(drawn.boxes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, f"{a.title} lies on {b.title}"
    for a, b in drawn.edges:
        assert a.y + a.height < b.y, f"{a.title} is not above {b.title}"
        for point in placed.ways[a, b]:
            assert a.y < point.y < b.y + b.height


def test_a_module_that_is_called_twice_has_two_frames():
    inner = nn.Linear(2, 2)

    class Twice(nn.Module):
        def __init__(self):
            self.inner = inner

        def forward(self, x):
            return self.inner(cl.tanh(self.inner(x)))

    seen = cl.watch(Twice(), cl.ones((1, 2)))
    titles = [f.title for f in layout(watched_graph(seen)).frames]
    assert titles == ["Twice", "inner: Linear", "inner (2): Linear"]
    assert [e.name for e in seen.events if e.kind == PARAMETER] == ["inner.weight", "inner.bias"], "once each"


def test_dot_has_clusters(model, tmp_path):
    text = cl.draw(cl.watch(model, data()), tmp_path / "g.dot")
    assert text.count("subgraph cluster_") == 7
    assert text.count("{") == text.count("}")
    assert 'label="2.1: Tanh"' in text


def test_a_notebook_shows_the_picture(model):
    assert cl.watch(model, data())._repr_html_().startswith("<svg")


def test_ops_without_a_gradient_and_constants_are_seen_too():
    table = cl.asarray([1.0, 2.0])
    seen = cl.watch(lambda x: cl.argmax(x * table), cl.asarray([3.0, 1.0]), names={"prices": table})
    assert [(e.kind, e.name) for e in seen.events] == [
        (INPUT, "input"), (CONSTANT, "prices"), (OP, "multiply"), (OP, "argmax"),
    ]  # fmt: skip
    with pytest.raises(GradientError, match="depends on nothing that requires a gradient"):
        seen.gradients()


def test_values_may_be_read_inside():
    def fn(x):
        return x * 2 if float(cl.sum(x)) > 0 else x

    assert cl.watch(fn, cl.ones(3)).result.tolist() == [2, 2, 2]


def test_a_tensor_that_the_function_changes_is_changed_below():
    class Counting(nn.Module):
        def __init__(self):
            self.register_buffer("count", cl.zeros(()))

        def forward(self, x):
            self.count += 1
            return x + self.count

    module = Counting()
    cl.watch(module, cl.ones(2))
    assert (module.count.item(), module.count.device) == (1.0, cl.get_backend())
    assert module(cl.ones(2)).tolist() == [3, 3]


def test_several_results_of_one_op_are_one_box():
    seen = cl.watch(
        lambda x: tuple(cl.linalg.eigh(x)), cl.asarray([[2.0, 0.0], [0.0, 4.0]], dtype=cl.float64)
    )
    assert [e.name for e in seen.results] == ["eigh", "eigh"]
    shown = texts(cl.draw(seen, values=True))
    assert shown.count("eigh") == 1
    assert "      2 .. 4, mean 3" in shown


def test_ops_on_parameters_alone_are_seen():
    class Scaled(nn.Module):
        def __init__(self):
            self.weight, self.scale = nn.Parameter(cl.ones((2, 2))), nn.Parameter(cl.full((1,), 3.0))

        def forward(self, x):
            return x @ (self.weight * self.scale)

    module = Scaled()
    nodes = [p._node for p in module.parameters()]
    seen = cl.watch(module, cl.ones((1, 2)))
    assert [(e.kind, e.name) for e in seen.events] == [
        (INPUT, "input"), (PARAMETER, "weight"), (PARAMETER, "scale"), (OP, "multiply"), (OP, "matmul"),
    ]  # fmt: skip
    assert [p._node for p in module.parameters()] == nodes
    found = seen.gradients()
    assert found[module.scale._node].tolist() == [4.0]
    assert seen.result.tolist() == [[6.0, 6.0]]


def test_where_a_tensor_is_may_be_asked_inside(device):
    seen = cl.watch(lambda x: x + cl.ones(2, device=x.device), cl.ones(2))
    assert (seen.result.tolist(), seen.result.device) == ([2, 2], device)


def test_an_error_inside_leaves_nothing_behind(model):
    with pytest.raises(ShapeError):
        cl.watch(model, cl.ones((2, 7)))
    assert not any(any((m._hooks or {}).values()) for m in model.modules())
    assert model(data()).device == cl.get_backend()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: cl.watch(3), ArgumentError, "must be a function or a Module, got int"),
        (
            lambda: cl.watch(cl.exp, cl.ones(2), names=["x"]),
            ArgumentError,
            "names must be a Module or a mapping",
        ),
        (lambda: cl.watch(lambda: 3), ArgumentError, "no tensor came out"),
        (lambda: cl.draw(cl.watch(cl.exp, cl.ones(2)), names={}), ArgumentError, "has its names already"),
        (lambda: cl.draw(cl.watch(cl.exp, cl.ones(2)), gradients=True), GradientError, "depends on nothing"),
    ],
    ids=["function", "names", "nothing", "names-twice", "gradients"],
)
def test_what_cannot_be_watched_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_not_inside_a_transformation():
    from corelib.registry import activate
    from corelib.watching import _Watcher

    x = cl.ones(2)
    with activate(_Watcher({})), pytest.raises(BackendError, match="not inside a transformation"):
        cl.watch(cl.exp, x)


@pytest.mark.parametrize(
    ("values", "dtype", "line"),
    [
        ([1.0, 2.0, 6.0], "float32", "1 .. 6, mean 3"),
        ([1.0, float("nan"), 6.0], "float64", "1 .. 6, mean 3.5, 1 not finite"),
        ([float("inf"), float("nan")], "float32", "all 2 not finite"),
        ([], "float32", "no elements"),
        ([2.5], "float32", "2.5"),
        ([3, -1], "int32", "-1 .. 3, mean 1"),
        ([True, False, True], "bool", "2 of 3 true"),
        ([3 + 4j, 1], "complex64", "|z| up to 5"),
        ([65504.0, 65504.0], "float16", "6.55e+04 .. 6.55e+04, mean 6.55e+04"),
    ],
    ids=["float", "nan", "lost", "empty", "one", "int", "bool", "complex", "half"],
)
def test_statistics_are_one_line(values, dtype, line):
    assert statistics(cl.asarray(values, dtype=dtype)) == line
