"""What a compiled function consists of, in words: steps, bytes, arithmetic, memory, and who runs it.

Bytes are counted from the shapes: what each step reads and writes if nothing is fused, without movement ops, which are
views where the device can. A backend that fuses tells what it made of a program by an ``explain()`` of its callable.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from .eager import Uncompiled
from .graph import Graph, Step, Traced
from .simplify import fresh


def explained(owner: Any) -> str:
    """All programs of a compiled function."""
    if not owner.programs:
        return f"{owner.name}: no program yet, it has not been called"
    parts = []
    for number, (program, seconds) in enumerate(zip(owner.programs, owner.seconds, strict=True), 1):
        parts.append(
            f"{owner.name}, program {number} of {len(owner.programs)}, on {program.backend.device!r}, made in {1e3 * seconds:.1f} ms"
        )
        parts += [f"  {line}" for line in of_graph(program.graph, program.run, program.how)]
        if program.link is not None:
            parts.append("  backward:")
            parts += [
                f"    {line}" for line in of_graph(program.link.graph, program.link.run, program.link.how)
            ]
    if owner.full:
        parts.append(f"  for other arguments it runs uncompiled: {len(owner.programs)} programs are the most")
    return "\n".join(parts)


def of_graph(graph: Graph, run: Any, how: str) -> list[str]:
    """The facts about one graph, a line each."""
    ops = Counter(step.op.name for step in graph.steps)
    listed = ", ".join(f"{name} {n}" if n > 1 else name for name, n in ops.most_common())
    calls = [step.op.name for step in graph.steps if isinstance(step.op, Uncompiled)]
    lines = [
        f"segments: {len(calls) + 1}"
        + (f", between them uncompiled calls of {', '.join(calls)}" if calls else ""),
        f"inputs: {len(graph.inputs)}, of which {len(graph.constants)} constants and {len(graph.donated)} that are written over; results: {len(graph.results)}",
        f"steps: {len(graph.steps)}" + (f" ({listed})" if listed else ""),
        f"bytes moved, if nothing is fused: {_scaled(moved(graph), 'B')}",
        f"floating-point operations of products and convolutions: {_scaled(flops(graph), '')}",
        f"intermediate arrays at the peak, if nothing is fused: {_scaled(peak(graph), 'B')}",
        f"run: {how}",
    ]
    says = getattr(run, "explain", None)
    return [*lines, *(str(says()).splitlines() if callable(says) else [])]


def moved(graph: Graph) -> int:
    """Bytes that the steps read and write."""
    return sum(
        sum(x.nbytes for x in [*dict.fromkeys(step.arrays), *step.outputs])
        for step in graph.steps
        if step.op.kind != "movement"
    )


def flops(graph: Graph) -> int:
    """Multiplications and additions of the contractions: two for each product that is summed."""
    return sum(_products(step) * 2 for step in graph.steps)


def _products(step: Step) -> int:
    y, arrays = step.outputs[0], step.arrays
    if step.op.kind != "contract" or not arrays:
        return 0
    if "conv" in step.op.name and len(arrays) > 1:
        return math.prod(y.shape) * math.prod(arrays[1].shape[1:])
    return math.prod(y.shape) * (arrays[0].shape[-1] if arrays[0].shape else 1)


def peak(graph: Graph) -> int:
    """Bytes of the steps' results that live at the same time, where each is dropped after its last use."""
    last: dict[Traced, int] = {}
    for number, step in enumerate(graph.steps):
        for x in step.arrays:
            last[x] = number
    for r in graph.results:
        if r is not None:
            last[r] = len(graph.steps)
    live, most = 0, 0
    ends: dict[int, list[Traced]] = {}
    for number, step in enumerate(graph.steps):
        if fresh(step) or step.op.kind != "movement":
            for y in step.outputs:
                live += y.nbytes
                ends.setdefault(last.get(y, number), []).append(y)
        most = max(most, live)
        live -= sum(y.nbytes for y in ends.pop(number, ()))
    return most


def _scaled(n: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G"):
        if n < 1000:
            return f"{n:.3g} {prefix}{unit}".rstrip()
        n /= 1000
    return f"{n:.3g} T{unit}"
