"""A loaded ONNX model: its weights, its devices, its arguments, training it, and what is refused."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_cases import PLUGIN, REASON

onnx = pytest.importorskip("onnx", reason=REASON)

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import corelib as cl  # noqa: E402
import corelib_onnx  # noqa: E402
from corelib.errors import ArgumentError, BackendError, DTypeError, ShapeError, UnsupportedError  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, weights=(), opset=21, functions=(), domains=()):
    """A ModelProto; inputs and outputs are names of float tensors, or value infos."""
    info = [
        [i if not isinstance(i, str) else value(i, ["rows", "columns"]) for i in side]
        for side in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(w), name) for name, w in dict(weights).items()]
    graph = helper.make_graph(nodes, "g", *info, tensors)
    opsets = [helper.make_opsetid(d, v) for d, v in [("", opset), *domains]]
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


node = helper.make_node


@pytest.fixture
def mlp():
    """x W1 + b1, relu, W2, with the shape of the result taken from x."""
    weights = {
        "layer.0.weight": RNG.normal(size=(3, 4)).astype("float32"),
        "layer.0.bias": np.ones(4, "float32"),
        "onnx::MatMul_9": RNG.normal(size=(4, 2)).astype("float32"),
        "first": np.array([0]),
    }
    nodes = [
        node("Gemm", ["x", "layer.0.weight", "layer.0.bias"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "onnx::MatMul_9"], ["m"]),
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["batch"]),
        node("Constant", [], ["two"], value_ints=[2]),
        node("Concat", ["batch", "two"], ["target"], axis=0),
        node("Reshape", ["m", "target"], ["y"]),
    ]
    return model_of(nodes, ["x"], ["y"], weights)


def expected(weights, x):
    h = np.maximum(x @ weights["layer.0.weight"] + weights["layer.0.bias"], 0)
    return h @ weights["onnx::MatMul_9"]


def arrays(model):
    return {name: x.numpy() for name, x in model.state_dict().items()}


# -- weights and devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["path", "bytes", "message"])
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_model_runs_where_it_is_loaded(mlp, tmp_path, form, device):
    path = tmp_path / "m.onnx"
    onnx.save(mlp, path)
    model = corelib_onnx.load({"path": path, "bytes": path.read_bytes(), "message": mlp}[form], device=device)
    x = RNG.normal(size=(5, 3)).astype("float32")
    y = model(x)
    assert (y.device, y.shape, y.dtype) == (device, (5, 2), cl.float32)
    np.testing.assert_allclose(
        y.detach().numpy(), expected(arrays(model), x), rtol=1e-5, atol=1e-5
    )  # two sums of 4


def test_initializers_are_parameters_under_their_names(mlp):
    model = corelib_onnx.load(mlp)
    assert list(dict(model.named_parameters())) == ["layer.0.weight", "layer.0.bias", "onnx::MatMul_9"]
    assert not model.training
    assert "first" not in model.state_dict(), "it is a part of the program"
    assert (model.inputs, model.outputs) == (["x"], ["y"])
    assert "x -> y" in repr(model)


def test_it_moves_saves_and_loads_like_any_module(mlp, tmp_path):
    model, other = corelib_onnx.load(mlp, device="cpu"), corelib_onnx.load(mlp, device="reference")
    for p in model.parameters():
        p.requires_grad_(False)
    with cl.no_grad():
        for p in model.parameters():
            p += 1
    cl.save(tmp_path / "m.safetensors", model=model, random=False)
    cl.load(tmp_path / "m.safetensors", model=other)
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(other(x).detach().numpy(), model(x).numpy(), rtol=1e-5)
    assert model.to("reference")(x).device == "reference"


def test_a_name_that_every_module_has_gets_an_underscore():
    proto = model_of([node("Add", ["x", "train"], ["y"])], ["x"], ["y"], {"train": np.ones(2, "float32")})
    model = corelib_onnx.load(proto)
    assert list(model.state_dict()) == ["train_"]
    assert model.train()(np.zeros(2, "float32")).tolist() == [1, 1]


def test_it_trains(mlp):
    model = corelib_onnx.load(mlp)
    optimizer = cl.optim.SGD(model.parameters(), lr=0.05)
    x, target = cl.asarray(RNG.normal(size=(8, 3)), dtype=cl.float32), cl.ones((8, 2))
    losses = []
    for _ in range(40):
        loss = cl.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


def test_running_statistics_are_buffers():
    nodes = [node("BatchNormalization", ["x", "w", "b", "mean", "var"], ["y"])]
    proto = model_of(nodes, ["x"], ["y"], dict.fromkeys(["w", "b", "mean", "var"], np.ones(2, "float32")))
    model = corelib_onnx.load(proto)
    assert [n for n, _ in model.named_parameters()] == ["w", "b"]
    assert [n for n, _ in model.named_buffers()] == ["mean", "var"]


def test_what_is_computed_from_shapes_stays_off_the_device(mlp, monkeypatch):
    """Reshape's target is read without asking the device, which is what makes a model recordable."""
    model = corelib_onnx.load(mlp, device="cpu")
    asked = []
    read = cl.Tensor._read
    monkeypatch.setattr(cl.Tensor, "_read", lambda x, *a: (asked.append(x.device), read(x, *a))[1])
    model(cl.ones((5, 3), device="cpu"))
    assert set(asked) == {"reference"}


def test_a_model_is_differentiated_and_batched_like_a_function(mlp):
    model = corelib_onnx.load(mlp)
    x = cl.asarray(RNG.normal(size=(2, 3)), dtype=cl.float32)
    g = cl.grad(lambda x: cl.sum(model(x)))(x)
    assert g.shape == (2, 3)


def test_what_is_computed_from_shapes_is_computed_once(mlp, monkeypatch):
    from corelib_onnx.graph import Node

    model = corelib_onnx.load(mlp, device="cpu")
    ran = []
    results = Node._results
    monkeypatch.setattr(Node, "_results", lambda node, *a: (ran.append(node.type), results(node, *a))[1])
    first = [model(cl.ones((n, 3), device="cpu")).shape for n in (5, 5, 2, 5)]
    assert first == [(5, 2), (5, 2), (2, 2), (5, 2)]
    assert ran.count("Shape") == ran.count("Concat") == 2, "for each shape"
    assert ran.count("MatMul") == 4


def test_a_model_is_compiled(mlp):
    model = corelib_onnx.load(mlp, device="cpu")
    compiled = cl.compile(model)
    x = cl.asarray(RNG.normal(size=(4, 3)), dtype=cl.float32, device="cpu")
    np.testing.assert_allclose(compiled(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    model(cl.ones((7, 3), device="cpu"))  # whose shapes are remembered, and are no reason to record again
    compiled(x)
    (graph,) = compiled.graphs()
    assert "shape" not in {step.op.name for step in graph.steps}
    assert len(graph.steps) < 8


# -- arguments -----------------------------------------------------------------------------------------------


def two():
    return model_of([node("Sub", ["a", "b"], ["c"]), node("Neg", ["c"], ["d"])], ["a", "b"], ["c", "d"])


def test_arguments_by_position_and_by_name():
    model = corelib_onnx.load(two())
    a, b = np.float32([5, 6]), np.float32([1, 2])
    for results in (model(a, b), model(b=b, a=a), model(a, b=b)):
        assert [r.tolist() for r in results] == [[4, 4], [-4, -4]]


@pytest.mark.parametrize(
    ("args", "named", "words"),
    [
        ((1, 2, 3), {}, r"takes 2 arguments \['a', 'b'\], got 3"),
        ((1.0,), {}, r"inputs \['b'\] are not given"),
        ((1.0,), {"a": 2.0}, "'a' is given twice"),
        ((1.0, 2.0), {"q": 2.0}, "'q' is not an input"),
        (
            (cl.ones(2, device="reference"), 2.0),
            {},
            r"'a' is on 'reference', its weights on 'cpu': call x.to\('cpu'\)",
        ),
    ],
)
def test_wrong_arguments_are_named(args, named, words):
    with pytest.raises((ArgumentError, BackendError), match=words):
        corelib_onnx.load(two())(*args, **named)


def test_an_error_inside_says_at_which_node(mlp):
    with pytest.raises(ShapeError) as caught:
        corelib_onnx.load(mlp)(np.ones((2, 7), "float32"))
    assert any("in the ONNX model: Gemm node" in note for note in caught.value.__notes__)


# -- what is refused -----------------------------------------------------------------------------------------


def test_all_missing_operators_are_named_at_once():
    nodes = [
        node("StringConcat", ["x", "x"], ["a"]),
        node("Frobnicate", ["x"], ["b"], domain="org.example"),
        node("Frobnicate", ["x"], ["c"], domain="org.example"),
    ]
    proto = model_of(nodes, [value("x", [2], TensorProto.STRING)], ["c"], domains=[("org.example", 1)])
    with pytest.raises(UnsupportedError, match=r"StringConcat \(1\), org.example.Frobnicate \(2\)"):
        corelib_onnx.load(proto)


def test_missing_operators_inside_a_branch_are_named_too():
    branch = helper.make_graph(
        [node("Frobnicate", ["x"], ["z"], domain="org.example")], "b", [], [value("z", ["rows"])]
    )
    nodes = [node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    inputs = ["x", value("c", [], TensorProto.BOOL)]
    with pytest.raises(UnsupportedError, match=r"org.example.Frobnicate \(2\)"):
        corelib_onnx.load(model_of(nodes, inputs, ["y"], domains=[("org.example", 1)]))


@pytest.mark.parametrize(
    ("nodes", "inputs", "error", "words"),
    [
        (
            [node("Identity", ["x"], ["y"])],
            [value("x", [2], TensorProto.STRING)],
            DTypeError,
            "the input 'x'.* STRING",
        ),
        (
            [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E5M2)],
            ["x"],
            DTypeError,
            "Cast node.* FLOAT8E5M2",
        ),
        ([node("Constant", [], ["y"], value_string="a")], ["x"], DTypeError, "value_string is not supported"),
        (
            [node("Upsample", ["x", "s"], ["y"], mode="area")],
            ["x", "s"],
            ArgumentError,
            "mode 'area' is not supported",
        ),
    ],
    ids=["input", "cast", "constant", "mode"],
)
def test_what_corelib_cannot_hold_or_do_is_refused(nodes, inputs, error, words):
    opset = 9 if nodes[0].op_type == "Upsample" else 21
    with pytest.raises(error, match=words):
        corelib_onnx.load(model_of(nodes, inputs, ["y"], opset=opset))(
            np.ones((1, 1, 2, 2), "float32"), np.float32([1, 1, 2, 2])
        )


@pytest.mark.parametrize(
    ("model", "words"), [(3, "must be a path, bytes or an onnx.ModelProto, got int"), (None, "got NoneType")]
)
def test_what_is_no_model_is_refused(model, words):
    with pytest.raises(ArgumentError, match=words):
        corelib_onnx.load(model)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(Exception, match=r"(?i)pars|model"):
        corelib_onnx.load(tmp_path / "m.onnx")
    with pytest.raises(FileNotFoundError):
        corelib_onnx.load(tmp_path / "other.onnx")


# -- the program ---------------------------------------------------------------------------------------------


def test_functions_of_a_model_are_inlined():
    double = helper.make_function(
        "org.example", "Double", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    proto = model_of(
        [node("Double", ["x"], ["y"], domain="org.example")],
        ["x"],
        ["y"],
        functions=[double],
        domains=[("org.example", 1)],
    )
    assert corelib_onnx.load(proto)(np.float32([1, 2])).tolist() == [2, 4]


def test_a_branch_sees_the_values_around_it_and_leaves_none():
    def branch(op, number):
        constant = numpy_helper.from_array(np.float32([number]), "k")
        return helper.make_graph(
            [node("Constant", [], ["k"], value=constant), node(op, ["x", "k"], ["z"])],
            "b",
            [],
            [value("z", ["rows"])],
        )

    nodes = [node("If", ["c"], ["y"], then_branch=branch("Add", 1), else_branch=branch("Mul", 10))]
    model = corelib_onnx.load(model_of(nodes, ["x", value("c", [], TensorProto.BOOL)], ["y"]))
    assert model(np.float32([3]), True).tolist() == [4]
    assert model(np.float32([3]), False).tolist() == [30]


def test_values_are_dropped_after_their_last_use(mlp):
    graph = corelib_onnx.load(mlp)._graph
    dropped = [name for n in graph.nodes for name in n.drops]
    assert sorted(dropped) == sorted({"x", "h", "r", "m", "shape", "batch", "target"})


def test_supported_lists_the_opsets():
    assert corelib_onnx.supported()["Softmax"] == [1, 13]
    assert len(corelib_onnx.supported()) >= 150


# -- the page and the package --------------------------------------------------------------------------------


def command(*arguments):
    roots = [ROOT, *(ROOT / "backends").iterdir(), PLUGIN]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))}
    run = subprocess.run(
        [sys.executable, "-m", "corelib_onnx", *arguments], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_page_shows_the_table_of_operators():
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert page.partition("<!-- operators -->\n")[2] == command(), "write it anew: python -m corelib_onnx"


def test_the_command_lists_what_a_model_needs(mlp, tmp_path):
    onnx.save(mlp, tmp_path / "m.onnx")
    assert "     1 MatMul\n" in command(str(tmp_path / "m.onnx"))


def test_the_pages_example_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- runs -->\n```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert shown
    scope = {}
    for code, output in shown:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/onnx.md", "exec"), scope)
        assert printed.getvalue() == output


def test_the_distribution_is_built_with_all_its_modules(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PLUGIN, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("corelib_onnx-*.whl")
    names = set(__import__("zipfile").ZipFile(wheel).namelist())
    modules = {p.relative_to(PLUGIN).as_posix() for p in (PLUGIN / "corelib_onnx").rglob("*.py")}
    assert modules <= names
