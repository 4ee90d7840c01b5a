"""How a tensor is shown: values (summarised when there are many), dtype, device, and whether it needs a
gradient.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor

EDGE, THRESHOLD, PRECISION, WIDTH = 3, 1000, 4, 88


def _format_values(values: list[Any], kind: str) -> list[str]:
    if kind == "complex":
        real = _format_values([v.real for v in values], "float")
        imag = _format_values([abs(v.imag) for v in values], "float")
        signs = ["-" if math.copysign(1.0, v.imag) < 0 else "+" for v in values]
        parts = zip(real, signs, imag, strict=True)
        return [f"{a}{sign}{b.strip()}j".ljust(len(a) + len(b) + 2) for a, sign, b in parts]
    if kind != "float":
        text = [str(v) for v in values]
    else:
        finite = [abs(v) for v in values if v == v and v not in (float("inf"), float("-inf")) and v != 0]
        scientific = bool(finite) and (
            max(finite) >= 1e6 or min(finite) < 1e-4 or max(finite) / min(finite) > 1e5
        )
        if scientific:
            text = [f"{v:.{PRECISION}e}" for v in values]
        else:
            text = [f"{v:.{PRECISION}f}".rstrip("0") for v in values]
    width = max(map(len, text), default=0)
    if kind == "float":
        points = max((len(t) - t.index(".") for t in text if "." in t and "e" not in t), default=0)
        text = [t.ljust(len(t.split(".")[0]) + points) if "." in t and "e" not in t else t for t in text]
        width = max(map(len, text), default=0)
    return [t.rjust(width) for t in text]


def _picked(shape: tuple[int, ...], summarise: bool) -> list[list[int | None]]:
    axes: list[list[int | None]] = []
    for n in shape:
        short = summarise and n > 2 * EDGE
        axes.append([*range(EDGE), None, *range(n - EDGE, n)] if short else list(range(n)))
    return axes


def body(x: Tensor, indent: int = 7) -> str:
    """The values in nested brackets."""
    shape = x.shape
    flat = x._flat("print")
    if x.size == 0:
        return "[" * len(shape) + "]" * len(shape)
    axes = _picked(shape, x.size > THRESHOLD)
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    offsets = [0]
    for axis, stride in zip(axes, strides, strict=True):
        offsets = [o + i * stride for o in offsets for i in axis if i is not None]
    text = iter(_format_values([flat[o] for o in offsets], x.dtype.kind))

    def nest(depth: int) -> str:
        if depth == len(shape):
            return next(text)
        parts = ["..." if i is None else nest(depth + 1) for i in axes[depth]]
        if depth == len(shape) - 1:
            lines, line = [], ""
            for part in parts:
                if line and len(line) + len(part) + 2 > WIDTH - indent - depth:
                    lines.append(line)
                    line = ""
                line += (", " if line else "") + part
            return "[" + (",\n" + " " * (indent + depth + 1)).join([*lines, line]) + "]"
        separator = "," + "\n" * (len(shape) - depth - 1) + " " * (indent + depth + 1)
        return "[" + separator.join(parts) + "]"

    return nest(0)


def tensor_repr(x: Tensor) -> str:
    """``Tensor([1., 2.], dtype=float32, device='cpu')``."""
    tail = f"dtype={x.dtype.name}, device={x.device!r}" + (", requires_grad=True" if x.requires_grad else "")
    if x._backend.level:
        return f"Tensor(<{x._backend.name} {x.dtype.name}{list(x.shape)}>)"
    shape = f", shape={x.shape}" if x.size == 0 or x.size > THRESHOLD else ""
    return f"Tensor({body(x)}{shape}, {tail})"


def tensor_html(x: Tensor) -> str:
    """A small table for notebooks: what the tensor is, then its values. Inside a transformation there are
    none.
    """
    facts = f"{x.dtype.name} {list(x.shape)} on {x.device}" + (
        ", requires a gradient" if x.requires_grad else ""
    )
    values = f"<pre style='margin:.3em 0'>{html.escape(body(x, 0))}</pre>" if x._backend.level == 0 else ""
    return f"<div><b>Tensor</b> {html.escape(facts)}{values}</div>"
