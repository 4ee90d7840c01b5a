"""A backend that is wrong in one place: an overlay on the reference (or another backend) with the kernels of one op replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from corelib.backend import BackendInfo, KernelSet, Overlay
from corelib.hookspecs import hookimpl
from corelib.op import BY_NAME
from corelib.registry import register, registry, unregister

NAME = "planted"


@pytest.fixture
def plant() -> Iterator[Callable[..., str]]:
    """`plant(exp=change)` registers a backend whose kernels of exp are `change(kernel)`, and returns its name.

    `change` gets the base's kernel, and None as a `change` means that the backend has none. A change with `dtypes` is a
    kernel of these alone. ``programs``: how the backend compiles a recorded graph.
    """

    def build(
        base: str = "reference",
        deviations: dict[str, str] | None = None,
        lacks: tuple[str, ...] = (),
        programs: Callable[[Any], Callable[..., Any]] | None = None,
        **changes: Any,
    ) -> str:
        class Planted(Overlay):
            kernels = KernelSet()

            def find(self, op: Any, dtype: Any) -> Any:
                if op.name in changes and changes[op.name] is None:
                    return None
                return super().find(op, dtype)

            def compile(self, graph: Any) -> Callable[..., Any] | None:
                return programs(graph) if programs else super().compile(graph)

        target = registry.get(base)
        for name, change in changes.items():
            op = BY_NAME[name]
            if change is not None:
                make = lambda op, dtype, change=change: change(
                    target.find(op, dtype) or target.tables[dtype][op.index]
                )
                Planted.kernels.family(op, make, getattr(change, "dtypes", None))
        module = ModuleType("planted_backend")
        module.Planted = Planted  # type: ignore[attr-defined]
        monkey.setitem(sys.modules, "planted_backend", module)
        info = BackendInfo(
            NAME, load="planted_backend:Planted", base=base, deviations=deviations or {}, lacks=lacks
        )
        register(SimpleNamespace(declare_backend=hookimpl(lambda: info)), NAME)
        return NAME

    with pytest.MonkeyPatch.context() as monkey:
        yield build
    if NAME in registry.infos:
        unregister(NAME)
