"""Boxes in images."""

from __future__ import annotations

from typing import Any

import corelib as cl

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
