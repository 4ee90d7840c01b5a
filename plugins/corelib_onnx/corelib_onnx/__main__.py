"""``python -m corelib_onnx``: the table of operators in docs/onnx.md; with a model's path, what that model needs."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import onnx

from . import operators  # noqa: F401 - fills the table
from .graph import missing
from .model import _opsets
from .table import TABLE


def family(entry: Any) -> str:
    """The module of an operator's function; of corelib's own functions that stand in the table, arithmetic's."""
    where = entry.fn.__module__
    return where.rpartition(".")[2] if where.startswith(__package__) else "arithmetic"


def table() -> str:
    """The operators by family, as Markdown; behind a name, the opsets from which another definition holds."""
    families: dict[str, list[str]] = {}
    for entries in TABLE.values():
        versions = sorted(e.since for e in entries if e.since > 1)
        shown = entries[0].shown + (f" ({', '.join(map(str, versions))})" if versions else "")
        families.setdefault(family(entries[0]), []).append(shown)
    rows = [f"| {name} | {', '.join(sorted(names))} |" for name, names in sorted(families.items())]
    return "\n".join(["| family | operators |", "|---|---|", *rows]) + "\n"


def needs(path: str) -> str:
    """How often a model uses each operator, and which of them are missing."""
    proto = onnx.load(path, load_external_data=False)
    used = Counter(node.op_type for node in proto.graph.node)
    lacking = missing(proto.graph, _opsets(proto))
    lines = [
        f"{count:6} {name}{'   missing' if name in lacking else ''}" for name, count in sorted(used.items())
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(needs(sys.argv[1]) if len(sys.argv) > 1 else table())
