"""The computation graph of a tensor as a picture: SVG with a layout of our own, or DOT for Graphviz.

Read from the tape (``tape.py``), so drawn as it is differentiated: each box is a recorded result with the op
that made it, the shape of the value, and the shape of the gradient that flows back into it. Operands that no
gradient flows into (data, constants) are drawn where the tape has kept them. Nothing is computed, and no
other program is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from .dtypes import as_dtype
from .errors import GradientError
from .rules import Spec
from .tape import LEAF, Node
from .tensor import Tensor
from .walk import topological

RESULT, OP, PARAMETER, CONSTANT = "result", "op", "parameter", "constant"
FILL = {RESULT: "#fff3d6", OP: "#ffffff", PARAMETER: "#dcebfb", CONSTANT: "#eeeeee"}
INK, FAINT, BACKWARD = "#1b1b1b", "#6b6b6b", "#b3541e"
CHARACTER, LINE, MARGIN, GAP, LAYER_GAP = (
    7.3,
    16.0,
    10.0,
    26.0,
    46.0,
)  # pixels, of a monospaced font of 12 pixels


@dataclass(eq=False)
class Box:
    """One value of the graph: its op (or name), what it is, and the lines that say so."""

    title: str
    kind: str
    lines: list[tuple[str, str]] = field(default_factory=list)  # (text, colour)
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Pixels, from the longest line."""
        longest = max([len(self.title) * 1.08, *(len(text) for text, _ in self.lines)])
        return longest * CHARACTER + 2 * MARGIN

    @property
    def height(self) -> float:
        """Pixels, from the number of lines."""
        return (1 + len(self.lines)) * LINE + 1.4 * MARGIN


@dataclass
class Graph:
    """Boxes, operands before results, and edges from operand to result."""

    boxes: list[Box]
    edges: list[tuple[Box, Box]]


def graph(y: Tensor, names: Any = None) -> Graph:
    """The graph behind ``y``. ``names`` gives tensors names: a Module (its parameters'), or a mapping of
    names to tensors.
    """
    if y._node is None:
        raise GradientError(
            "draw: the tensor has no history: no operand required a gradient, see requires_grad_()"
        )
    by_node, by_data = _named(names)
    boxes: dict[Any, Box] = {}
    edges = []
    for node in topological([y._node]):
        kind = PARAMETER if not node.parents else RESULT if node is y._node else OP
        title = by_node.get(id(node)) or node.op.name
        lines = [
            (f"value {_typed(node.shape, node.dtype)}", INK),
            (f"grad  {_typed(*_gradient(node))}", BACKWARD),
        ]
        parameters = _parameters(node)
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


def _named(names: Any) -> tuple[dict[int, str], dict[int, str]]:
    """Names by the node, and by the array, of the tensors that have one."""
    if hasattr(names, "named_parameters"):
        names = dict(names.named_parameters())
    if names is None:
        names = {}
    if not isinstance(names, Mapping):
        raise TypeError(
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


def _parameters(node: Node) -> str:
    """What tells this call from others of the same op, if it is short."""
    if not isinstance(node.params, dict):
        return ""
    said = [
        f"{k}={v}"
        for k, v in node.params.items()
        if v not in (None, False) and k not in ("dtype", "shape", "overwrite")
    ]
    text = ", ".join(said)
    return text if len(text) <= 34 else text[:33] + "…"


# -- layout --------------------------------------------------------------------------------------------------


def layout(drawn: Graph) -> tuple[float, float, dict[tuple[Box, Box], list[Box]]]:
    """Place the boxes: operands above results, each layer one row. Returns width, height, and the way-points
    of long edges.

    Layers by the longest way to the result; an edge that passes a layer gets a way-point in it; the order
    within a layer follows the neighbours' mean position, in alternating sweeps (K. Sugiyama, S. Tagawa, M.
    Toda, IEEE Trans. SMC 11(2), 1981).
    """
    after: dict[Box, list[Box]] = {box: [] for box in drawn.boxes}
    for a, b in drawn.edges:
        after[a].append(b)
    depth: dict[Box, int] = {}
    for box in _results_first(drawn, after):
        depth[box] = 1 + max((depth[b] for b in after[box]), default=-1)
    deepest = max(depth.values())
    rows: list[list[Box]] = [[] for _ in range(deepest + 1)]
    for box in drawn.boxes:
        box.layer = deepest - depth[box]
        rows[box.layer].append(box)
    ways = {}
    links: list[tuple[Box, Box]] = []
    for a, b in drawn.edges:
        points = [Box("", OP, layer=layer) for layer in range(a.layer + 1, b.layer)]
        for point in points:
            rows[point.layer].append(point)
        ways[a, b] = points
        links += list(zip([a, *points], [*points, b], strict=True))
    _order(rows, links)
    y = MARGIN
    for row in rows:
        height = max(box.height for box in row)
        for box in row:
            box.y = y + (height - box.height) / 2
        y += height + LAYER_GAP
    left = min(box.x for row in rows for box in row) - MARGIN
    for row in rows:
        for box in row:
            box.x -= left
    return max(box.x + box.width for row in rows for box in row) + MARGIN, y - LAYER_GAP + MARGIN, ways


def _results_first(drawn: Graph, after: dict[Box, list[Box]]) -> list[Box]:
    """The boxes in an order in which each comes behind everything computed from it."""
    waiting = {box: len(following) for box, following in after.items()}
    before: dict[Box, list[Box]] = {box: [] for box in drawn.boxes}
    for a, b in drawn.edges:
        before[b].append(a)
    order = [box for box in drawn.boxes if not waiting[box]]
    for box in order:
        for operand in before[box]:
            waiting[operand] -= 1
            if not waiting[operand]:
                order.append(operand)
    return order


def _order(rows: list[list[Box]], links: list[tuple[Box, Box]]) -> None:
    """Sort each row by its neighbours' positions, and give every box an x."""
    near: dict[Box, tuple[list[Box], list[Box]]] = {box: ([], []) for row in rows for box in row}
    for a, b in links:
        near[b][0].append(a)
        near[a][1].append(b)
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(8):
        side = sweep % 2
        for row in rows if side == 0 else reversed(rows):
            wished = {
                box: _middle(near[box][side]) if near[box][side] else box.x + box.width / 2 for box in row
            }
            row.sort(key=lambda box: wished[box])
            _spread(row, [wished[box] for box in row])


def _middle(boxes: list[Box]) -> float:
    return sum(box.x + box.width / 2 for box in boxes) / len(boxes)


def _spread(row: list[Box], wished: list[float]) -> None:
    """Place a row in its order, each box as near to where it wants its middle as its neighbours allow."""
    edge = float("-inf")
    for box, middle in zip(row, wished, strict=True):
        box.x = max(middle - box.width / 2, edge)
        edge = box.x + box.width + GAP
    shift = sum(m - (b.x + b.width / 2) for b, m in zip(row, wished, strict=True)) / len(row)
    for box in row:
        box.x += shift


# -- output --------------------------------------------------------------------------------------------------


def svg(y: Tensor, names: Any = None) -> str:
    """The graph behind ``y`` as an SVG document."""
    drawn = graph(y, names)
    width, height, ways = layout(drawn)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
            'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">'
        ),
        f"<title>computation graph of {escape(y._node.op.name)}</title>",
        (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker></defs>'
        ),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    parts += [_edge(a, b, ways[a, b]) for a, b in dict.fromkeys(drawn.edges)]
    parts += [_box(box) for box in drawn.boxes]
    return "\n".join([*parts, "</svg>\n"])


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


def dot(y: Tensor, names: Any = None) -> str:
    """The graph behind ``y`` in the DOT language."""
    drawn = graph(y, names)
    number = {box: i for i, box in enumerate(drawn.boxes)}
    lines = ["digraph computation {", '  node [shape=box, style=filled, fontname="monospace"];']
    for box, i in number.items():
        label = "\\n".join([_quoted(box.title), *(_quoted(text) for text, _ in box.lines)])
        lines.append(f'  n{i} [label="{label}", fillcolor="{FILL[box.kind]}"];')
    lines += [f"  n{number[a]} -> n{number[b]};" for a, b in drawn.edges]
    return "\n".join([*lines, "}\n"])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def draw(y: Tensor, path: str | Path | None = None, *, names: Any = None) -> str:
    """Draw the graph that ``y`` was computed by, before ``backward`` frees it; returns the text and writes it
    to ``path`` if given.

    A path that ends in ``.dot`` or ``.gv`` gets DOT, any other one SVG. ``names`` gives tensors names: a
    Module, or a mapping of names to tensors. Raises GradientError for a tensor without history.

    Example: ``corelib.draw(loss, "graph.svg", names=model)``.
    """
    text = dot(y, names) if path is not None and Path(path).suffix in (".dot", ".gv") else svg(y, names)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
