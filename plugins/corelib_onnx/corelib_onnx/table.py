"""The table of operators: an ONNX name, the opset from which it holds, and a small function over corelib's ops.

An operator is written as a Python function whose signature is ONNX's: inputs are positional, attributes are keywords,
both under ONNX's names. An annotation says what a function wants of an input beside its tensor:

- ``Ints``, ``Floats``, ``Int``, ``Number``: the values, as Python numbers. Such an input may as well come as an attribute
  of its name, which is what most changes between opsets come to (``axes`` of Squeeze, ``ratio`` of Dropout).
- ``*inputs`` takes any number; a parameter ``call`` is given the :class:`~corelib_onnx.graph.Call`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

VALUES = ("Ints", "Floats", "Int", "Number")  # annotations of inputs that are read
Ints = tuple[int, ...]
Floats = tuple[float, ...]
Int = int
Number = float

TABLE: dict[tuple[str, str], list[Operator]] = {}
DOMAINS = {"ai.onnx": ""}  # the same domain under its other name


class Operator:
    """One operator from one opset on."""

    def __init__(self, domain: str, name: str, since: int, fn: Callable[..., Any]) -> None:
        self.domain, self.name, self.since, self.fn = domain, name, since, fn
        parameters = inspect.signature(fn).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.reads = [p.annotation if p.annotation in VALUES else None for p in positional]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.wants_call = any(p.name == "call" for p in parameters)
        self.attributes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self.attributes.discard("call")

    @property
    def shown(self) -> str:
        """The name as a reader knows it."""
        return f"{self.domain}.{self.name}" if self.domain else self.name


def operator(*names: str, since: int = 1, domain: str = "") -> Callable[[Any], Any]:
    """Put a function into the table; of several with one name, the latest that is not later than the model's opset
    holds.
    """

    def add(fn: Any) -> Any:
        for name in names:
            TABLE.setdefault((domain, name), []).append(Operator(domain, name, since, fn))
        return fn

    return add


def find(domain: str, name: str, opset: int) -> Operator | None:
    """The operator that holds in an opset, or None."""
    domain = DOMAINS.get(domain, domain)
    known = [found for found in TABLE.get((domain, name), ()) if found.since <= opset]
    return max(known, key=lambda found: found.since, default=None)


def supported() -> dict[str, list[int]]:
    """The operators in the table, each with the opsets from which a definition of it holds."""
    return {entries[0].shown: sorted(e.since for e in entries) for _, entries in sorted(TABLE.items())}
