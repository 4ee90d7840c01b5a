"""What quantization cost: size, error of each layer, and a metric before and after."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..autograd import no_grad
from ..nn import Module
from ..op import calls
from ..support import table
from ..tensor import Tensor


class Layer(NamedTuple):
    """One layer: bytes of its state before and after, and the error of its output relative to the output's size,
    both with what the layer before it gave (which has errors of its own).
    """

    name: str
    kind: str
    bytes_before: int
    bytes_after: int
    error: float


class Report(NamedTuple):
    """``str(report)`` is a table. ``before`` and ``after``: the metric, None if none was given."""

    layers: list[Layer]
    bytes_before: int
    bytes_after: int
    before: float | None
    after: float | None

    def __str__(self) -> str:
        rows = [("layer", "kind", "bytes before", "after", "error of its output")]
        rows += [
            (x.name, x.kind, f"{x.bytes_before:,}", f"{x.bytes_after:,}", f"{x.error:.2%}")
            for x in self.layers
        ]
        rows.append(("all", "", f"{self.bytes_before:,}", f"{self.bytes_after:,}", ""))
        lines = table(rows)
        if self.before is not None and self.after is not None:
            lines.append(f"metric: {self.before:.4f} before, {self.after:.4f} after")
        return "\n".join(lines)


def size(module: Module) -> int:
    """The bytes of parameters and persistent buffers, each counted once."""
    tensors = {id(t): t for t in module._state().values()}
    return sum(t.size * t.dtype.itemsize for t in tensors.values())


@no_grad()
def report(
    model: Module, quantized: Module, x: Tensor, metric: Callable[[Module], float] | None = None
) -> Report:
    """Compare a model with its quantized copy on the inputs ``x``. ``metric``: a number for a model, such as its
    accuracy.
    """
    from .layers import WeightOnlyLinear, _Quantized

    names = [n for n, m in quantized.named_modules() if isinstance(m, _Quantized | WeightOnlyLinear)]
    outputs: list[dict[str, Tensor]] = []
    for one in (model, quantized):
        found: dict[str, Tensor] = {}
        modules = dict(one.named_modules())
        handles = []
        for name in names:

            def keep(module: Any, args: Any, result: Any, name: str = name, found: Any = found) -> None:
                found[name] = getattr(module, "dequantize", lambda y: y)(result.detach())

            handles.append(modules[name].register_forward_hook(keep))
        was = one.training
        one.eval()(x)
        one.train(was)
        for handle in handles:
            handle.remove()
        outputs.append(found)
    layers = []
    originals, copies = dict(model.named_modules()), dict(quantized.named_modules())
    for name in names:
        a, b = outputs[0][name], outputs[1][name]
        if getattr(copies[name], "relu", False):
            a = calls.relu(a)
        off = calls.sqrt(calls.sum(calls.square(calls.subtract(a, b)))).item()
        whole = calls.sqrt(calls.sum(calls.square(a))).item()
        error = off / whole if whole else (0.0 if not off else math.inf)
        layers.append(
            Layer(name, type(copies[name]).__name__, size(originals[name]), size(copies[name]), error)
        )
    values = (None, None) if metric is None else (float(metric(model)), float(metric(quantized)))
    return Report(layers, size(model), size(quantized), *values)
