"""The computation graph of a tensor, or of a watched run, as a picture: SVG with a layout of our own, or DOT for Graphviz.

Of a tensor it is read from the tape (``tape.py``), so drawn as it is differentiated: each box is a recorded result with
the op that made it, the shape of the value, and the shape of the gradient that flows back into it. Operands that no
gradient flows into (data, constants) are drawn where the tape has kept them. Of a run that was watched
(``watching.py``) it is every op as it was called, in frames for the modules around it, with values and times. No other
program is needed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from .compile.graph import Graph as Recorded
from .compile.graph import Traced
from .dtypes import as_dtype
from .errors import ArgumentError, GradientError
from .layout import LINE, MARGIN, Box, Graph, layout
from .rules import Spec
from .tape import LEAF, Node, full_like
from .tensor import Tensor
from .walk import topological, walk
from .watching import Event, Watched, statistics

RESULT, OP, PARAMETER, CONSTANT, INPUT = "result", "op", "parameter", "constant", "input"
FILL = {
    RESULT: "#fff3d6",
    OP: "#ffffff",
    PARAMETER: "#dcebfb",
    CONSTANT: "#eeeeee",
    INPUT: "#e3f3e1",
}
RENDERED = (".pdf", ".png")  # by Graphviz
INK, FAINT, BACKWARD, FRAME = "#1b1b1b", "#6b6b6b", "#b3541e", "#f7f7fb"


def graph(y: Tensor, names: Any = None, *, gradients: bool = False) -> Graph:
    """The graph behind ``y``. ``names`` gives tensors names: a Module (its parameters'), or a mapping of
    names to tensors. ``gradients``: compute those of the sum of ``y``, and say how large they are.
    """
    if y._node is None:
        raise GradientError(
            "draw: the tensor has no history: no operand required a gradient, see requires_grad_()"
        )
    by_node, by_data = _named(names)
    found: dict[Node, Tensor] = {}
    if gradients:
        walk([(y._node, full_like(y._node.spec(), y._node.backend, 1))], visit=found.__setitem__)
    boxes: dict[Any, Box] = {}
    edges = []
    for node in topological([y._node]):
        kind = PARAMETER if not node.parents else RESULT if node is y._node else OP
        title = by_node.get(id(node)) or node.op.name
        lines = [
            (f"value {_typed(node.shape, node.dtype)} on {node.backend}", INK),
            (f"grad  {_typed(*_gradient(node))}", BACKWARD),
        ]
        if node in found:
            lines.append((f"      {statistics(found[node])}", BACKWARD))
        parameters = _parameters(node.params)
        boxes[node] = Box(title, kind, [*([(parameters, FAINT)] if parameters else []), *lines])
        saved = node.saved if isinstance(node.saved, tuple) else ()
        for position, parent in enumerate(node.parents):
            if parent is not None:
                edges.append((boxes[parent], boxes[node]))
                continue
            box = _constant(saved[position] if position < len(saved) else None, boxes, by_data)
            if box is not None:
                edges.append((box, boxes[node]))
    return Graph(list(boxes.values()), edges)


def watched_graph(
    seen: Watched,
    *,
    values: bool = False,
    gradients: bool = False,
    seconds: bool = False,
    bytes: bool = False,
) -> Graph:
    """The ops of a watched run, with what the flags ask for."""
    found = seen.gradients() if gradients else {}
    boxes: dict[Event, Box] = {}
    edges = []
    for event in seen.events:
        kind = RESULT if event.kind == OP and any(event is e for e in seen.results) else event.kind
        lines = [(text, FAINT) for text in [_parameters(event.params)] if text]
        for tensor in event.results:
            lines.append((f"value {_typed(tensor.shape, tensor.dtype)} on {tensor.device}", INK))
            if values:
                lines.append((f"      {statistics(tensor)}", INK))
            if tensor._node in found:
                lines.append((f"grad  {statistics(found[tensor._node])}", BACKWARD))
        cost = [_time(event.seconds)] if seconds and event.kind == OP else []
        cost += [_size(event.bytes)] if bytes else []
        lines += [(", ".join(cost), FAINT)] if cost else []
        box = boxes[event] = Box(event.name, kind, lines, event.modules)
        for operand in event.operands:
            if isinstance(operand, Event):
                edges.append((boxes[operand], box))
            elif operand is not None:
                number = Box(f"{operand!r}", CONSTANT, [], event.modules)
                boxes[event, len(edges)] = number  # type: ignore[index]
                edges.append((number, box))
    read = {a for a, _ in edges} | {b for _, b in edges}
    return Graph([box for box in boxes.values() if box in read or len(boxes) == 1], edges)


def recorded_graph(program: Recorded) -> Graph:
    """The steps of a recorded program; arrays have shapes and no values."""
    results = set(program.results)
    boxes: dict[Traced, Box] = {}
    edges = []
    for x in program.inputs:
        kind = CONSTANT if x.name in program.constants else INPUT
        boxes[x] = Box(program.labels.get(x.name) or x.name, kind, [(repr(x), INK)])
    for step in program.steps:
        lines = [(text, FAINT) for text in [_parameters(step.params)] if text]
        lines += [(repr(y), INK) for y in step.outputs]
        box = Box(step.op.name, RESULT if results & set(step.outputs) else OP, lines)
        boxes |= dict.fromkeys(step.outputs, box)
        edges += [(boxes[x], box) for x in dict.fromkeys(step.arrays)]
    return Graph(list(dict.fromkeys(boxes.values())), edges)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _size(count: int) -> str:
    """Bytes, in units of 1000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def _named(names: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Names by the node, and by the array, of the tensors that have one."""
    if hasattr(names, "named_parameters"):
        names = dict(names.named_parameters())
    if names is None:
        names = {}
    if not isinstance(names, Mapping):
        raise ArgumentError(
            f"draw: names must be a Module or a mapping of names to tensors, got {type(names).__name__}"
        )
    return (
        {id(t._node): name for name, t in names.items() if t._node is not None},
        {id(t._data): name for name, t in names.items() if t._node is None},
    )


def _constant(saved: Any, boxes: dict[Any, Box], by_data: dict[int, str]) -> Box | None:
    """The box of an operand without history: an array, a Python number, or a shape; None if the tape kept
    nothing of it.
    """
    if saved is None:
        return None
    if isinstance(saved, bool | int | float):
        box = Box(f"{saved!r}", CONSTANT)
        boxes[box] = box
        return box
    key = ("spec", id(saved)) if isinstance(saved, Spec) else ("data", id(saved))
    if key not in boxes:
        boxes[key] = Box(
            by_data.get(id(saved), "constant"), CONSTANT, [(f"value {_typed(saved.shape, saved.dtype)}", INK)]
        )
    return boxes[key]


def _gradient(node: Node) -> tuple[Any, Any]:
    """Shape and dtype of the gradient: of the one that was collected, else of the value, which it always has."""
    collected = getattr(node, "grad", None) if node.op is LEAF else None
    return (node.shape, node.dtype) if collected is None else (collected.shape, collected.dtype)


def _typed(shape: Any, dtype: Any) -> str:
    if isinstance(dtype, tuple):
        return " and ".join(_typed(s, d) for s, d in zip(shape, dtype, strict=True))
    return f"{as_dtype(dtype).name}{list(shape)}"


def _parameters(params: Any) -> str:
    """What tells this call from others of the same op, if it is short."""
    if not isinstance(params, dict):
        return ""
    said = [
        f"{k}={v}"
        for k, v in params.items()
        if v not in (None, False) and k not in ("dtype", "shape", "overwrite")
    ]
    text = ", ".join(said)
    return text if len(text) <= 34 else text[:33] + "…"


# -- output --------------------------------------------------------------------------------------------------


def svg(drawn: Graph, title: str) -> str:
    """A graph as an SVG document."""
    placed = layout(drawn)
    width, height = placed.width, placed.height
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
            'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">'
        ),
        f"<title>computation graph of {escape(title)}</title>",
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker></defs>'
        ),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    parts += [_frame(box) for box in placed.frames]
    parts += [_edge(a, b, placed.ways[a, b]) for a, b in dict.fromkeys(drawn.edges)]
    parts += [_box(box) for box in drawn.boxes]
    return "\n".join([*parts, "</svg>\n"])


def _frame(box: Box) -> str:
    """A rounded frame with its name in the corner."""
    return (
        f'<g class="module"><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="8" '
        f'fill="{FRAME}" fill-opacity="0.6" stroke="{FAINT}" stroke-dasharray="2 3"/>'
        f'<text x="{box.x + MARGIN:.1f}" y="{box.y + LINE:.1f}" fill="{FAINT}">{escape(box.title)}</text></g>'
    )


def _edge(a: Box, b: Box, points: list[Box]) -> str:
    """A curve from the bottom of ``a`` through the way-points to the top of ``b``."""
    x0, y0 = a.x + a.width / 2, a.y + a.height
    path = [f"M{x0:.1f} {y0:.1f}"]
    for box in [*points, b]:
        x1, y1 = box.x + box.width / 2, box.y
        middle = (y0 + y1) / 2
        path.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
        x0, y0 = x1, box.y + box.height
        if box is not b:
            path.append(f"L{x0:.1f} {y0:.1f}")
    dashed = ' stroke-dasharray="4 3"' if a.kind == CONSTANT else ""
    return f'<path d="{" ".join(path)}" fill="none" stroke="{FAINT}"{dashed} marker-end="url(#tip)"/>'


def _box(box: Box) -> str:
    corner = 12 if box.kind in (PARAMETER, CONSTANT) else 3
    middle = box.x + box.width / 2
    lines = [
        (
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{corner}" fill="{FILL[box.kind]}" '
            f'stroke="{INK}"/>'
        ),
        f'<text x="{middle:.1f}" y="{box.y + MARGIN + 8:.1f}" text-anchor="middle" font-weight="bold" fill="{INK}">{escape(box.title)}</text>',
    ]
    for row, (text, colour) in enumerate(box.lines, 1):
        top = box.y + MARGIN + 8 + row * LINE
        lines.append(
            f'<text x="{box.x + MARGIN:.1f}" y="{top:.1f}" xml:space="preserve" fill="{colour}">{escape(text)}</text>'
        )
    return f'<g class="{box.kind}">{"".join(lines)}</g>'


def dot(drawn: Graph) -> str:
    """A graph in the DOT language, with a cluster for each group."""
    number = {box: i for i, box in enumerate(drawn.boxes)}
    lines = ["digraph computation {", '  node [shape=box, style=filled, fontname="monospace"];']
    lines += _clusters(drawn.boxes, number, 0)
    lines += [f"  n{number[a]} -> n{number[b]};" for a, b in drawn.edges]
    return "\n".join([*lines, "}\n"])


def _clusters(boxes: list[Box], number: dict[Box, int], depth: int) -> list[str]:
    """The boxes that share their first ``depth`` groups, those of an inner group in a subgraph."""
    indent, lines = "  " * (depth + 1), []
    inner: dict[str, list[Box]] = {}
    for box in boxes:
        if len(box.groups) > depth:
            inner.setdefault(box.groups[depth], []).append(box)
            continue
        label = "\\n".join([_quoted(box.title), *(_quoted(text) for text, _ in box.lines)])
        lines.append(f'{indent}n{number[box]} [label="{label}", fillcolor="{FILL[box.kind]}"];')
    for name, members in inner.items():
        lines.append(f'{indent}subgraph cluster_{number[members[0]]}_{depth} {{ label="{_quoted(name)}";')
        lines += [*_clusters(members, number, depth + 1), f"{indent}}}"]
    return lines


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def draw(
    y: Tensor | Watched | Recorded,
    path: str | Path | None = None,
    *,
    names: Any = None,
    values: bool = False,
    gradients: bool = False,
    seconds: bool = False,
    bytes: bool = False,
) -> str:
    """Draw the graph that ``y`` was computed by, before ``backward`` frees it, the run that :func:`corelib.watch` has
    seen, or a program of a compiled function; returns the text and writes it to ``path`` if given.

    A path that ends in ``.dot`` or ``.gv`` gets DOT, ``.svg`` SVG; without a path it is SVG. ``.pdf`` and ``.png`` are
    made of the DOT text by Graphviz's program ``dot``, which has to be installed. ``names`` gives tensors names: a Module, or a mapping of names to tensors. ``gradients``: how large the gradient of the sum of ``y`` is at
    every value. Of a watched run besides ``values`` (smallest, mean, largest, and how many are not finite),
    ``seconds`` (the op's time) and ``bytes`` (its results').

    Raises GradientError for a tensor without history, ArgumentError for another suffix, for what is neither a tensor nor
    a watched run, and for values, seconds or bytes of a tensor, which the tape does not keep; OSError when the file
    cannot be written, or Graphviz is asked for and not there or fails.

    Example: ``corelib.draw(loss, "graph.svg", names=model)``.
    """
    suffix = ".svg" if path is None else Path(path).suffix
    if suffix not in (".svg", ".dot", ".gv", *RENDERED):
        raise ArgumentError(
            f"draw: the path must end in .svg, .dot or .gv, or in .pdf or .png for Graphviz, got {str(path)!r}"
        )
    if isinstance(y, Watched):
        if names is not None:
            raise ArgumentError("draw: a watched run has its names already: give them to watch")
        flags = {"values": values, "gradients": gradients, "seconds": seconds, "bytes": bytes}
        drawn, title = watched_graph(y, **flags), " and ".join(event.name for event in y.results)
    elif isinstance(y, Recorded):
        if names is not None or values or gradients or seconds or bytes:
            raise ArgumentError("draw: a recorded program has names and shapes, and neither values nor times")
        drawn, title = recorded_graph(y), y.name
    elif isinstance(y, Tensor):
        if values or seconds or bytes:
            raise ArgumentError(
                "draw: the tape keeps no values, seconds and bytes: run the function under corelib.watch, and draw that"
            )
        drawn = graph(y, names, gradients=gradients)
        title = y._node.op.name
    else:
        raise ArgumentError(
            f"draw: needs a Tensor, what corelib.watch returns, or a program of a compiled function, got {type(y).__name__}"
        )
    text = svg(drawn, title) if suffix == ".svg" else dot(drawn)
    if suffix in RENDERED:
        _rendered(text, str(path), suffix[1:])
    elif path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _rendered(text: str, path: str, kind: str) -> None:
    """A DOT text as a file of another kind, by Graphviz."""
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError(
            f"draw: {path!r} needs Graphviz's program 'dot', which is not found: install Graphviz, or ask for .svg"
        )
    run = subprocess.run(
        [program, f"-T{kind}", "-o", path], input=text, text=True, capture_output=True, check=False
    )
    if run.returncode:
        raise OSError(f"draw: Graphviz could not write {path!r}: {run.stderr.strip()}")
