"""Announces the reference backend. Loaded whenever backends are listed: it imports the plugin API only."""

from __future__ import annotations

from corelib.plugin_api import BackendInfo, hookimpl


@hookimpl
def declare_backend() -> BackendInfo:
    """The pure-Python backend; lowest priority, so that it is the default only where nothing else can run."""
    return BackendInfo(
        name="reference",
        summary="pure Python: the definition of every op, each result rounded once",
        load="corelib_reference.backend:ReferenceBackend",
        priority=-1,
    )
