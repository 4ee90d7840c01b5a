"""The support matrix: for each op and dtype, how each backend carries it out.

Read from declarations and registrations alone. A backend is judged by the kernels of its class, which must import
without what the backend needs to run (a driver, a compiler), so that the matrix is the same on every machine.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from . import fft, linalg, ops
from .backend import Backend
from .dtypes import BOOLEAN, COMPLEX, FLOATING, HALF, INTEGER, DType, float32
from .errors import BackendNotFoundError, nearest
from .op import OPS, Op
from .registry import registry
from .support import COMPOSED, NATIVE, UNKNOWN, runs, table

KINDS = {"bool": BOOLEAN, "int": INTEGER, "float": FLOATING, "half": HALF, "complex": COMPLEX}
LEGEND = """\
* **native**: a kernel of its own; **composed**: the op's body, of native ops; **in part**: for some parameters;
  **no**: it cannot.
* A cell is about all the dtypes that the op accepts; where they differ, it names those of each. *float* is float32
  and float64, *half* float16 and bfloat16, *complex* complex64 and complex128, *int* all eight integer dtypes.
* In parentheses: what is cast to float32 first. An op that computes in *half* does so in float32 and rounds once;
  only ops that move elements have kernels there."""


def lines(names: Sequence[str] = (), *, markdown: bool = False) -> Iterator[str]:
    """The matrix as text, for the named backends (all unless given): a table for each family of ops."""
    registry.discover()
    for name in names:
        if name not in registry.infos:
            raise BackendNotFoundError(f"no backend {name!r}{nearest(name, registry.infos)}")
    chosen, matrix = list(names) or sorted(registry.infos), Matrix()
    if markdown:
        yield from _opening(chosen)
    for family, listed, plain in families():
        rows = [("", "dtypes", *chosen)]
        rows += [(op.name, accepted(op), *(matrix.cell(op, name) for name in chosen)) for op in listed]
        yield from ["", f"## {family}", ""] if markdown else ["", family]
        if markdown:
            yield from (f"| {' | '.join(row)} |" for row in [rows[0], ("---",) * len(rows[0]), *rows[1:]])
        elif listed:
            yield from (f"  {line}" for line in table(rows))
        if plain:
            tick = "`" if markdown else ""
            named = ", ".join(f"{tick}{name}{tick}" for name in plain)
            yield from (
                ["", f"Functions of ops, wherever these run: {named}."]
                if markdown
                else [f"  functions of ops: {named}"]
            )


def _opening(chosen: Sequence[str]) -> list[str]:
    return [
        "# What each backend supports",
        "",
        f"Written by `python -m corelib support --markdown {' '.join(chosen)} > docs/support.md`.",
        "",
        *LEGEND.splitlines(),
    ]


def families() -> Iterator[tuple[str, list[Op], list[str]]]:
    """For each family (a module of :mod:`corelib.ops`, or of a plugin), its ops and its plain functions."""
    found: dict[str, tuple[list[Op], list[str]]] = {}
    for op in OPS:
        found.setdefault(Path(op.where.rpartition(":")[0]).stem, ([], []))[0].append(op)
    for module in (ops, linalg, fft):
        for name, function in _functions(module):
            if not hasattr(function, "op") and function.__module__.startswith("corelib.ops."):
                names = found.setdefault(function.__module__.rpartition(".")[2], ([], []))[1]
                names += [] if name in names else [name]
    for family, (listed, plain) in sorted(found.items()):
        yield family, sorted(listed, key=lambda op: op.name), sorted(plain)


def _functions(module: ModuleType) -> list[tuple[str, object]]:
    return [
        (name, getattr(module, name)) for name in module.__all__ if inspect.isfunction(getattr(module, name))
    ]


def accepted(op: Op) -> str:
    """The dtypes of an op in words; in parentheses those that it casts to float32."""
    cast = (
        [d for d in (*BOOLEAN, *INTEGER) if d not in op.rule.accepts] if op.rule.integers == "float" else []
    )
    return " ".join([*(f"({word})" for word in words(cast)), *words(op.rule.accepts)])


def words(kinds: Sequence[DType]) -> list[str]:
    """Dtypes by kind where a kind is complete, by name where it is not."""
    said = []
    for word, members in KINDS.items():
        there = [d for d in members if d in kinds]
        said += [word] if len(there) == len(members) else [d.name for d in there]
    return said


class Matrix:
    """What is known of the backends, each answer worked out once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Op, DType, str], str] = {}
        self._runs: dict[tuple[Op, DType], list[list[tuple[Op, DType | None]]]] = {}
        self._classes: dict[str, type[Backend] | None] = {}

    def cell(self, op: Op, name: str) -> str:
        """How a backend carries out an op: one word, or one for each group of dtypes."""
        by_how: dict[str, list[DType]] = {}
        for dtype in op.rule.accepts:
            by_how.setdefault(self.carried(op, dtype, name), []).append(dtype)
        if len(by_how) == 1:
            return next(iter(by_how))
        return "; ".join(f"{how}: {' '.join(words(kinds))}" for how, kinds in by_how.items())

    def carried(self, op: Op, dtype: DType, name: str) -> str:
        """How the backend of a name carries out an op on a dtype: native, composed, "from" its base, in part, or no."""
        found = self._found.get((op, dtype, name))
        if found is None:
            found = self._found[op, dtype, name] = self._carried(op, dtype, name)
        return found

    def _carried(self, op: Op, dtype: DType, name: str) -> str:
        info, cls = registry.infos[name], self._class(name)
        if cls is None:
            return UNKNOWN
        group = "half" if dtype in HALF else "complex" if dtype.kind == "complex" else ""
        if group in info.lacks:
            return "no"
        if cls.kernels.source(op, dtype) is not None:
            return NATIVE
        if dtype in HALF and not op.moves:
            return self.carried(op, float32, name)
        if info.base is not None:
            return f"from {info.base}"
        if op.primitive:
            return "no"
        if (op, dtype) not in self._runs:
            self._runs[op, dtype] = runs(op, dtype)
        works = [all(self.carried(p, d, name) != "no" for p, d in ran if d) for ran in self._runs[op, dtype]]
        return COMPOSED if all(works) else "in part" if any(works) else "no"

    def _class(self, name: str) -> type[Backend] | None:
        """The class of a backend, also where what it needs to run is not installed; None if it cannot be imported."""
        if name not in self._classes:
            path, _, attribute = registry.infos[name].load.partition(":")
            try:
                self._classes[name] = getattr(importlib.import_module(path), attribute)
            except Exception:  # `python -m corelib backends` gives the reason
                self._classes[name] = None
        return self._classes[name]
