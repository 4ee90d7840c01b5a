"""The `cuda` backend: CuPy allocates and launches, the kernels are ours.

`plugin.py` declares the backend and imports nothing heavy. Everything else may be imported without CuPy, a
driver or a device: CuPy is reached through `launch.cupy()`, at the first call that needs it. What is offered beyond
corelib's own functions: :func:`graph` and :func:`debugging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .debug import debugging
    from .graphs import graph

__all__ = ["debugging", "graph"]


def __getattr__(name: str) -> Any:
    """The functions, from modules that are imported when one is asked for."""
    if name == "graph":
        from .graphs import graph

        return graph
    if name == "debugging":
        from .debug import debugging

        return debugging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
