"""Boxes in images."""

from __future__ import annotations

import math
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, Number, operator


@operator("NonMaxSuppression")
def non_max_suppression(
    boxes, scores, most: Int = 0, overlap: Number = 0.0, least: Number = None, *, center_point_box=0
):
    """For each batch and class the boxes by falling score that overlap none before them by more than ``overlap`` of
    their union: rows (batch, class, box). The choice is made by the host, one box after the other.
    """
    rows = []
    for batch in range(boxes.shape[0]):
        shared = _overlaps(boxes[batch], center_point_box).tolist()
        for kind in range(scores.shape[1]):
            given = scores[batch, kind].tolist()
            chosen: list[int] = []
            for box in sorted(range(len(given)), key=lambda i: -given[i]):
                if len(chosen) == (most or 0):
                    break
                fits = least is None or given[box] > least
                if fits and all(shared[box][other] <= (overlap or 0.0) for other in chosen):
                    chosen.append(box)
            rows += [[batch, kind, box] for box in chosen]
    found = cl.asarray(rows, dtype=cl.int64, device=boxes.device) if rows else None
    return cl.zeros((0, 3), dtype=cl.int64, device=boxes.device) if found is None else found


def _overlaps(boxes: Any, centered: int) -> Any:
    """Intersection over union of all pairs of boxes: given by two opposite corners, or by center and size."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if centered:
        first, second = first - second / 2, first + second / 2
    low, high = cl.minimum(first, second), cl.maximum(first, second)
    area = cl.prod(high - low, axis=1)
    sides = cl.minimum(high[:, None], high[None]) - cl.maximum(low[:, None], low[None])
    common = cl.prod(cl.maximum(sides, 0.0), axis=2)
    union = area[:, None] + area[None] - common
    return cl.where(cl.greater(union, 0), common / cl.where(cl.greater(union, 0), union, 1.0), 0.0)


@operator("RoiAlign")
def roi_align(
    x, rois, batch, *, coordinate_transformation_mode="half_pixel", mode="avg", output_height=1, output_width=1,
    sampling_ratio=0, spatial_scale=1.0, call,
):  # fmt: skip
    """Means over the cells of a grid on each box, of x at places between its elements. The boxes' values are read: where
    they are says how many places there are.
    """
    if mode != "avg":
        raise ArgumentError(f"RoiAlign: only mode 'avg' is supported, got {mode!r}")
    shifted = coordinate_transformation_mode == "half_pixel" and call.opset >= 16
    found = []
    for box, b in zip(rois.tolist(), batch.tolist(), strict=True):
        left, top, right, bottom = (v * spatial_scale - (0.5 if shifted else 0.0) for v in box)
        rows = _cells(top, bottom, output_height, sampling_ratio, x.shape[2], shifted)
        columns = _cells(left, right, output_width, sampling_ratio, x.shape[3], shifted)
        rows, columns = (cl.asarray(m, dtype=x.dtype, device=x.device) for m in (rows, columns))
        found.append(cl.matmul(cl.matmul(rows, x[b]), columns.mT))
    return (
        cl.stack(found)
        if found
        else cl.zeros((0, x.shape[1], output_height, output_width), dtype=x.dtype, device=x.device)
    )


def _cells(first: float, last: float, count: int, samples: int, n: int, shifted: bool) -> list[list[float]]:
    """For each cell of an axis the weights of its elements: the mean over places in it, each between two elements."""
    length = last - first if shifted else max(last - first, 1.0)
    size = length / count
    samples = samples or max(math.ceil(size), 1)
    cells = [[0.0] * n for _ in range(count)]
    for i, cell in enumerate(cells):
        for k in range(samples):
            at = first + (i + (k + 0.5) / samples) * size
            if -1 <= at <= n:
                at = min(max(at, 0.0), n - 1.0)
                low = min(int(at), n - 1)
                cell[low] += (1 - (at - low)) / samples
                cell[min(low + 1, n - 1)] += (at - low) / samples
    return cells
