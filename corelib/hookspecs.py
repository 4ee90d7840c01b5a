"""The hooks a plugin may implement: one docstring line each. ``docs/plugins.md`` shows each under its exact
signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .backend import Backend, BackendInfo
    from .dtypes import DType
    from .op import Op

hookspec = pluggy.HookspecMarker("corelib")
hookimpl = pluggy.HookimplMarker("corelib")


@hookspec
def declare_backend() -> BackendInfo | list[BackendInfo]:
    """Declare one backend or several; must return within milliseconds and import nothing heavy."""


@hookspec
def declare_ops() -> None:
    """Declare more ops with ``corelib.plugin_api.primitive`` and ``composite``; called once, at registration."""


@hookspec(firstresult=True)
def find_kernel(op: Op, dtype: DType | None, backend: Backend) -> Callable[..., Any] | None:
    """The kernel of an op for a dtype on a backend; a wrapper sees every kernel. Stops at first non-None
    result.
    """


@hookspec(firstresult=True)
def transfer(array: Any, source: Backend, target: Backend) -> Any:
    """A copy of an array of one backend as an array of another. Stops at first non-None result."""


@hookspec
def conformance_samples(op: Op, dtype: DType) -> Iterable[Any]:
    """More samples (``corelib.samples.Sample``) on which the conformance suite tries an op."""
