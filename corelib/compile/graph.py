"""A recorded program: which kernels are called with what, in order. Values play no part in it.

A graph is data. Whoever records makes one (``replay.py`` for a composite's body, ``trace.py`` for a user's program), and
whoever runs it, a replay through the table or a backend's ``compile(graph)``, reads it. ``str(graph)`` is its text,
one step a line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..dtypes import DType
from ..op import Op


class Traced:
    """An array of a recorder: its shape, its dtype, and its name in the graph."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: DType, name: str) -> None:
        self.shape, self.dtype, self.name = tuple(shape), dtype, name

    @property
    def nbytes(self) -> int:
        """The number of elements times the bytes of each."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype.name}[{', '.join(map(str, self.shape))}]"


class Step:
    """One call of a kernel: ``outputs = kernel(*inputs, **params)``; inputs are Traced, Python scalars, or None."""

    __slots__ = ("inputs", "kernel", "op", "outputs", "params", "several")

    def __init__(
        self,
        op: Op,
        kernel: Any,
        inputs: Sequence[Any],
        params: dict[str, Any],
        outputs: list[Traced],
        several: bool,
    ) -> None:
        self.op, self.kernel, self.inputs, self.params, self.outputs, self.several = (
            op,
            kernel,
            inputs,
            params,
            outputs,
            several,
        )

    @property
    def arrays(self) -> list[Traced]:
        """The inputs that are arrays."""
        return [x for x in self.inputs if isinstance(x, Traced)]

    def __str__(self) -> str:
        given = [x.name if isinstance(x, Traced) else repr(x) for x in self.inputs]
        given += [f"{k}={_shown(v)}" for k, v in self.params.items()]
        return f"{', '.join(map(repr, self.outputs))} = {self.op.name}({', '.join(given)})"


def _shown(value: Any) -> str:
    return value.name if isinstance(value, DType) else repr(value)


class Graph:
    """Steps in an order in which they can run.

    ``inputs``: what the program is called with. ``results``: what it returns, None where it returns None; a tuple if
    ``several``. ``donated``: inputs whose memory may be written over. ``constants``: by name, the arrays of the device
    that some of the inputs always are; a backend may read them while it compiles. ``labels``: by name, what an input
    is called in the user's program. ``name``: that of the program.
    """

    __slots__ = ("constants", "donated", "inputs", "labels", "name", "results", "several", "steps")

    def __init__(
        self,
        inputs: Sequence[Traced],
        steps: Sequence[Step],
        results: Sequence[Traced | None],
        *,
        several: bool = False,
        donated: Sequence[Traced] = (),
        constants: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str = "program",
    ) -> None:
        self.inputs, self.steps, self.results = list(inputs), list(steps), list(results)
        self.several, self.donated, self.name = several, list(donated), name
        self.constants, self.labels = dict(constants or {}), dict(labels or {})

    def __str__(self) -> str:
        donated = {x.name for x in self.donated}
        lines = [f"program {self.name}("]
        for x in self.inputs:
            says = [
                self.labels.get(x.name, ""),
                "a constant" * (x.name in self.constants),
                "is written over" * (x.name in donated),
            ]
            note = ", ".join(s for s in says if s)
            lines.append(f"    {x!r}," + (f"  # {note}" if note else ""))
        lines.append("):")
        lines += [f"    {step}" for step in self.steps]
        lines.append(f"    return {', '.join('None' if r is None else r.name for r in self.results)}")
        return "\n".join(lines)
