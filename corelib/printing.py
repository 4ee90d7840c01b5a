"""How a tensor is shown: values (summarised when there are many), dtype, device, and whether it needs a
gradient. ``set_printoptions`` and ``printoptions`` choose how many and how wide.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, nearest

if TYPE_CHECKING:
    from .tensor import Tensor


@dataclass(frozen=True)
class _Options:
    precision: int = 4
    threshold: int = 1000
    edgeitems: int = 3
    linewidth: int = 88


_chosen = _Options()
_inside: ContextVar[_Options | None] = ContextVar("corelib_printoptions", default=None)


def _options() -> _Options:
    return _inside.get() or _chosen


def _changed(function: str, options: dict[str, int]) -> _Options:
    known = asdict(_options())
    for name, value in options.items():
        if name not in known:
            raise ArgumentError(
                f"{function}: no option {name!r}{nearest(name, known)} (there are {', '.join(known)})"
            )
        least = 0 if name in ("precision", "threshold") else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ArgumentError(f"{function}: {name} must be an integer from {least} on, got {value!r}")
    return replace(_options(), **options)


def set_printoptions(**options: int) -> None:
    """How tensors are shown from now on, in the whole process.

    ``precision``: digits behind the point at most (4). ``threshold``: elements up to which all are shown (1000).
    ``edgeitems``: how many are shown at either end of an axis beyond that (3). ``linewidth``: characters in a line
    (88). What is not given stays as it is.
    """
    global _chosen
    _chosen = _changed("set_printoptions", options)


@contextmanager
def printoptions(**options: int) -> Iterator[dict[str, int]]:
    """How tensors are shown inside a ``with`` block, in this thread and context only; gives all options.

    Example::

        with corelib.printoptions(precision=8):
            print(x)
    """
    token = _inside.set(_changed("printoptions", options))
    try:
        yield asdict(_options())
    finally:
        _inside.reset(token)


def _format_values(values: list[Any], kind: str, precision: int) -> list[str]:
    if kind == "complex":
        real = _format_values([v.real for v in values], "float", precision)
        imag = _format_values([abs(v.imag) for v in values], "float", precision)
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
            text = [f"{v:.{precision}e}" for v in values]
        else:
            text = [f"{v:#.{precision}f}".rstrip("0") for v in values]
    width = max(map(len, text), default=0)
    if kind == "float":
        points = max((len(t) - t.index(".") for t in text if "." in t and "e" not in t), default=0)
        text = [t.ljust(len(t.split(".")[0]) + points) if "." in t and "e" not in t else t for t in text]
        width = max(map(len, text), default=0)
    return [t.rjust(width) for t in text]


def _picked(shape: tuple[int, ...], edge: int) -> list[list[int | None]]:
    axes: list[list[int | None]] = []
    for n in shape:
        axes.append([*range(edge), None, *range(n - edge, n)] if edge and n > 2 * edge else list(range(n)))
    return axes


def body(x: Tensor, indent: int = 7) -> str:
    """The values in nested brackets."""
    shape, options = x.shape, _options()
    if x.size == 0:
        return "[" * len(shape) + "]" * len(shape)
    axes = _picked(shape, options.edgeitems if x.size > options.threshold else 0)
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    offsets = [0]
    for axis, stride in zip(axes, strides, strict=True):
        offsets = [o + i * stride for o in offsets for i in axis if i is not None]
    raw, n = memoryview(x._read("print")).cast("B"), x.dtype.itemsize
    shown = x.dtype.unpack(
        raw if len(offsets) == x.size else b"".join(raw[o * n : o * n + n] for o in offsets)
    )
    text = iter(_format_values(shown, x.dtype.kind, options.precision))

    def nest(depth: int) -> str:
        if depth == len(shape):
            return next(text)
        parts = ["..." if i is None else nest(depth + 1) for i in axes[depth]]
        if depth == len(shape) - 1:
            lines, line = [], ""
            for part in parts:
                if (
                    line and len(line) + len(part) + 2 > options.linewidth - indent - depth - 2
                ):  # a bracket and a comma
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
    shape = f", shape={x.shape}" if x.size == 0 or x.size > _options().threshold else ""
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
