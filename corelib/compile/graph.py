"""A recorded program: which kernels are called with what, in order. Values play no part in it.

A graph is data. Whoever records makes one (``replay.py`` for a composite's body, ``trace.py`` for a user's program), and
whoever runs it, a replay through the table or a backend's ``compile(graph)``, reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dtypes import DType
from ..op import Op


class Traced:
    """An array of a recorder: its shape, its dtype, and its name in the graph."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: DType, name: str) -> None:
        self.shape, self.dtype, self.name = tuple(shape), dtype, name

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


class Graph:
    """Steps in an order in which they can run.

    ``inputs``: what the program is called with. ``results``: what it returns, None where it returns None; a tuple if
    ``several``. ``donated``: inputs whose memory may be written over.
    """

    __slots__ = ("donated", "inputs", "results", "several", "steps")

    def __init__(
        self,
        inputs: Sequence[Traced],
        steps: Sequence[Step],
        results: Sequence[Traced | None],
        *,
        several: bool = False,
        donated: Sequence[Traced] = (),
    ) -> None:
        self.inputs, self.steps, self.results = list(inputs), list(steps), list(results)
        self.several, self.donated = several, list(donated)
