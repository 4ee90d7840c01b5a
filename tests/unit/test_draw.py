"""The picture of a computation graph: every value is in it with its shapes, and no box lies on another."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

import corelib
from corelib.drawing import PARAMETER, RESULT, dot, graph
from corelib.errors import ArgumentError, GradientError
from corelib.layout import layout

SVG = "{http://www.w3.org/2000/svg}"


def leaf(*shape: int) -> corelib.Tensor:
    return corelib.full(shape, 0.5, dtype=corelib.float32, device="reference").requires_grad_()


@pytest.fixture
def network():
    """relu(x @ w + b) used twice, so that one edge passes a layer."""
    w, b = leaf(4, 3), leaf(3)
    x = corelib.full((2, 4), 1.0, device="reference")
    h = corelib.relu(x @ w + b)
    y = corelib.sum(h * 2.0 + corelib.sum(corelib.exp(h), axis=1, keepdims=True))
    return y, {"w": w, "b": b, "images": x}


def texts(svg: str) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_svg_is_well_formed_and_has_a_box_for_every_value(network):
    y, names = network
    root = ET.fromstring(corelib.draw(y, names=names))
    titles = sorted(group.find(f"{SVG}text").text for group in root.iter(f"{SVG}g"))
    assert titles == sorted([
        "w", "b", "images", "2.0", "matmul", "add", "relu", "multiply", "exp", "sum", "add", "sum",
    ])  # fmt: skip


def test_each_tracked_value_shows_its_shape_and_its_gradients_shape(network):
    y, names = network
    shown = texts(corelib.draw(y, names=names))
    assert shown.count("value float32[2, 3] on reference") == 6  # matmul add relu multiply exp add
    assert shown.count("grad  float32[2, 3]") == 6
    assert "value float32[4, 3] on reference" in shown
    assert "grad  float32[4, 3]" in shown
    assert "value float32[2, 4]" in shown  # of the images the tape keeps no more
    assert "grad  float32[2, 4]" not in shown, "no gradient flows into the images"


def test_parameters_of_an_op_that_tell_it_from_others_are_shown(network):
    assert "axis=(-1,), keepdims=True" in texts(corelib.draw(network[0]))


def test_a_leaf_without_a_name_is_called_a_leaf():
    assert "leaf" in texts(corelib.draw(leaf(2) * 3.0))


def test_boxes_do_not_overlap_and_edges_run_downwards(network):
    drawn = graph(*network)
    placed = layout(drawn)
    width, height = placed.width, placed.height
    for a, b in itertools.combinations(drawn.boxes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, f"{a.title} lies on {b.title}"
    for a, b in drawn.edges:
        assert a.y + a.height < b.y, f"{a.title} is not above {b.title}"
    assert all(0 <= box.x and box.x + box.width <= width for box in drawn.boxes)
    assert all(0 <= box.y and box.y + box.height <= height for box in drawn.boxes)


def test_an_edge_that_passes_a_layer_goes_around_its_boxes(network):
    drawn = graph(*network)
    long = {(a.title, b.title): points for (a, b), points in layout(drawn).ways.items() if points}
    assert long, "the graph has an edge that passes a layer"
    for points in long.values():
        for point in points:
            for box in drawn.boxes:
                if box.layer == point.layer:
                    assert not box.x < point.x < box.x + box.width


def test_kinds_tell_parameters_and_the_result_apart(network):
    kinds = {box.title: box.kind for box in graph(*network).boxes}
    assert (kinds["w"], kinds["b"]) == (PARAMETER, PARAMETER)
    assert [box.kind for box in graph(*network).boxes].count(RESULT) == 1


def test_a_value_used_twice_is_drawn_once():
    x = leaf(3)
    assert len(graph(x * x).boxes) == 2


def test_dot_has_the_same_boxes_and_edges(network):
    y, names = network
    drawn = graph(y, names)
    text = dot(drawn)
    assert text.count("[label=") == len(drawn.boxes)
    assert text.count("->") == len(drawn.edges)
    assert 'label="w\\nvalue float32[4, 3] on reference\\ngrad  float32[4, 3]"' in text


def test_names_are_escaped():
    w = leaf(2)
    assert '<"w"> & more' in texts(corelib.draw(w * 2.0, names={'<"w"> & more': w}))
    assert '\\"w\\"' in dot(graph(w * 2.0, {'"w"': w}))


@pytest.mark.parametrize(("name", "start"), [("g.svg", "<svg"), ("g.dot", "digraph"), ("g.gv", "digraph")])
def test_the_suffix_chooses_the_format(tmp_path, network, name, start):
    text = corelib.draw(network[0], tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert text.startswith(start)


def test_a_graph_that_backward_has_freed_still_has_its_shape(network):
    y, names = network
    before = {box.title for box in graph(y, names).boxes if box.kind != "constant"}
    y.backward()
    assert {box.title for box in graph(y, names).boxes} == before


def test_several_results_of_one_op_are_drawn():
    import corelib.tape as tape

    x = leaf(2)
    node = tape.Node(x._node.op, x._backend, (x._node,), (), {}, None, ((2,), (3,)), (corelib.float32,) * 2)
    y = corelib.Tensor(x._data, x._backend, tape.pick(node, x._data, 0))
    assert "value float32[2] and float32[3] on reference" in texts(corelib.draw(y))


def test_drawing_computes_nothing(network, monkeypatch):
    y, names = network
    monkeypatch.setattr(type(y), "_read", lambda *a: pytest.fail("a value was read"))
    corelib.draw(y, names=names)


def test_a_tensor_without_history_is_refused():
    with pytest.raises(GradientError, match="draw: the tensor has no history"):
        corelib.draw(corelib.full((2,), 1.0, device="reference"))


def test_the_gradient_of_every_value_is_shown_on_request():
    x = corelib.asarray([1.0, 2.0], device="reference").requires_grad_()
    shown = texts(corelib.draw(corelib.sum(corelib.square(x) * 3.0), gradients=True))
    assert "      6 .. 12, mean 9" in shown, "d(3 x^2) = 6 x"
    assert "      3 .. 3, mean 3" in shown
    assert x.grad is None, "drawing collects nothing"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda y, x, path: corelib.draw(y, names=["w"]),
            ArgumentError,
            "names must be a Module or a mapping",
        ),
        (
            lambda y, x, path: corelib.draw(y, path / "graph.jpg"),
            ArgumentError,
            r"must end in .svg, .dot or .gv",
        ),
        (lambda y, x, path: corelib.draw(y, path / "graph"), ArgumentError, r"must end in .svg, .dot or .gv"),
        (
            lambda y, x, path: corelib.draw([y]),
            ArgumentError,
            "needs a Tensor, what corelib.watch returns, or a program of a compiled function, got list",
        ),
        (
            lambda y, x, path: corelib.draw(y, values=True),
            ArgumentError,
            "run the function under corelib.watch",
        ),
        (
            lambda y, x, path: corelib.draw(y, seconds=True),
            ArgumentError,
            "run the function under corelib.watch",
        ),
        (lambda y, x, path: corelib.draw(x), GradientError, "has no history"),
        (lambda y, x, path: corelib.draw(y, path / "no" / "graph.svg"), FileNotFoundError, "no"),
    ],
    ids=["names", "suffix", "no-suffix", "list", "values", "seconds", "constant", "folder"],
)
def test_what_cannot_be_drawn_is_refused(network, tmp_path, call, error, words):
    with pytest.raises(error, match=words):
        call(network[0], network[1]["images"], tmp_path)


def test_a_graph_that_was_freed_has_no_gradients_left(network):
    network[0].backward()
    with pytest.raises(GradientError, match="freed by an earlier backward"):
        corelib.draw(network[0], gradients=True)


@pytest.fixture
def graphviz(tmp_path, monkeypatch):
    """A stand-in for Graphviz's program, which writes down what it was given, or fails."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nif [ "$1" = "-Tpdf" ]; then echo "no fonts" >&2; exit 1; fi\n{ echo "$1"; cat; } > "$3"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


@pytest.mark.usefixtures("graphviz")
def test_graphviz_makes_other_files_of_the_dot_text(tmp_path, network):
    text = corelib.draw(network[0], tmp_path / "g.png")
    assert text.startswith("digraph")
    assert (tmp_path / "g.png").read_text() == "-Tpng\n" + text
    with pytest.raises(OSError, match=r"Graphviz could not write .*g.pdf': no fonts"):
        corelib.draw(network[0], tmp_path / "g.pdf")


def test_without_graphviz_it_says_so(tmp_path, network, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="needs Graphviz's program 'dot', which is not found"):
        corelib.draw(network[0], tmp_path / "g.png")
