"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl


@hookimpl
def declare_backend() -> BackendInfo:
    """The backend's name, and where its class is found once somebody uses it."""
    return BackendInfo(
        name="numpy",
        summary="plain NumPy, one thread",
        load="corelib_numpy.backend:NumpyBackend",
        requires=("numpy", "array_api_compat"),
        install_hint="pip install corelib-numpy",
    )
