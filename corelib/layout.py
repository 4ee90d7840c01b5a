"""Where the boxes of a graph are drawn: in layers, operands above results, and those of one group inside one frame.

Layers by the longest way to the result; an edge that passes a layer gets a way-point in it; the order within a layer
follows the neighbours' mean position, in alternating sweeps (K. Sugiyama, S. Tagawa, M. Toda, IEEE Trans. SMC 11(2),
1981). A group is laid out by itself and is then one box among the others. It knows nothing of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CHARACTER, LINE, MARGIN = 7.3, 16.0, 10.0  # pixels, of a monospaced font of 12 pixels
GAP, LAYER_GAP = 26.0, 46.0


@dataclass(eq=False)
class Box:
    """One value of the graph: its op (or name), what it is, the lines that say so, and the groups around it,
    outermost first.
    """

    title: str
    kind: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)  # (text, colour)
    groups: tuple[str, ...] = ()
    size: tuple[float, float] | None = None  # of a group, whose size is not its text's
    layer: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        """Pixels, from the longest line."""
        if self.size is not None:
            return self.size[0]
        longest = max([len(self.title) * 1.08, *(len(text) for text, _ in self.lines)])
        return longest * CHARACTER + 2 * MARGIN

    @property
    def height(self) -> float:
        """Pixels, from the number of lines."""
        return self.size[1] if self.size is not None else (1 + len(self.lines)) * LINE + 1.4 * MARGIN


Edge = tuple[Box, Box]


@dataclass
class Graph:
    """Boxes, operands before results, and edges from operand to result."""

    boxes: list[Box]
    edges: list[Edge]


@dataclass
class Layout:
    """The size of the picture, the way-points of long edges, and the frames of groups, outer ones first."""

    width: float
    height: float
    ways: dict[Edge, list[Box]]
    frames: list[Box]


def layout(drawn: Graph) -> Layout:
    """Place the boxes of a graph: sets their ``x`` and ``y``."""
    return _arranged(drawn.boxes, list(dict.fromkeys(drawn.edges)), 0)


def _arranged(boxes: list[Box], edges: list[Edge], depth: int) -> Layout:
    """Place boxes that share their first ``depth`` groups, with the corner of the picture at (0, 0)."""
    unit: dict[Box, Box] = {}  # a box, or the group that it is in at this depth
    members: dict[str, list[Box]] = {}
    for box in boxes:
        if len(box.groups) > depth:
            members.setdefault(box.groups[depth], []).append(box)
        else:
            unit[box] = box
    inner: dict[Box, tuple[list[Box], Layout]] = {}
    for name, own in members.items():
        inside = set(own)
        found = _arranged(own, [e for e in edges if e[0] in inside and e[1] in inside], depth + 1)
        group = Box(
            name, "group", size=(max(found.width, len(name) * CHARACTER + 2 * MARGIN), found.height + LINE)
        )
        inner[group] = own, found
        unit.update(dict.fromkeys(own, group))
    units = list(dict.fromkeys(unit[box] for box in boxes))
    between = list(dict.fromkeys((unit[a], unit[b]) for a, b in edges if unit[a] is not unit[b]))
    width, height, points = _layers(units, between)
    result = Layout(width, height, {}, [])
    for group, (own, found) in inner.items():
        points_inside = [p for way in found.ways.values() for p in way]
        for box in [*own, *found.frames, *points_inside]:
            box.x += group.x + (group.width - found.width) / 2
            box.y += group.y + LINE
        result.frames += [group, *found.frames]
        result.ways.update(found.ways)
    for a, b in edges:
        if unit[a] is not unit[b]:
            result.ways[a, b] = points[unit[a], unit[b]]
    return result


def _layers(boxes: list[Box], edges: list[Edge]) -> tuple[float, float, dict[Edge, list[Box]]]:
    """Place boxes row by row; returns width, height, and the way-points of each edge."""
    after: dict[Box, list[Box]] = {box: [] for box in boxes}
    for a, b in edges:
        after[a].append(b)
    depth: dict[Box, int] = {}
    for box in _results_first(boxes, edges):
        depth[box] = 1 + max((depth[b] for b in after[box]), default=-1)
    deepest = max(depth.values())
    rows: list[list[Box]] = [[] for _ in range(deepest + 1)]
    for box in boxes:
        box.layer = deepest - depth[box]
        rows[box.layer].append(box)
    ways = {}
    links: list[Edge] = []
    for a, b in edges:
        points = [Box("", layer=layer) for layer in range(a.layer + 1, b.layer)]
        for point in points:
            rows[point.layer].append(point)
        ways[a, b] = points
        links += list(zip([a, *points], [*points, b], strict=True))
    _order(rows, links)
    led = {b for _, b in links}
    y = MARGIN
    for row in rows:
        height = max(box.height for box in row)
        for box in row:  # what nothing leads to stands near what it leads to
            box.y = y + (height - box.height) / (2 if box in led else 1)
        y += height + LAYER_GAP
    left = min(box.x for row in rows for box in row) - MARGIN
    for row in rows:
        for box in row:
            box.x -= left
    return max(box.x + box.width for row in rows for box in row) + MARGIN, y - LAYER_GAP + MARGIN, ways


def _results_first(boxes: list[Box], edges: list[Edge]) -> list[Box]:
    """The boxes in an order in which each comes behind everything computed from it."""
    waiting = dict.fromkeys(boxes, 0)
    before: dict[Box, list[Box]] = {box: [] for box in boxes}
    for a, b in edges:
        before[b].append(a)
        waiting[a] += 1
    order = [box for box in boxes if not waiting[box]]
    for box in order:
        for operand in before[box]:
            waiting[operand] -= 1
            if not waiting[operand]:
                order.append(operand)
    return order


def _order(rows: list[list[Box]], links: list[Edge]) -> None:
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
