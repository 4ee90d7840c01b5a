"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl

BALANCED = "LAPACK balances a matrix, which for this one is harmful (D. S. Watkins, 2006)"


@hookimpl
def declare_backend() -> BackendInfo:
    """The backend's name, and where its class is found once somebody uses it."""
    return BackendInfo(
        name="torch",
        summary="PyTorch's CPU kernels",
        load="corelib_torch.backend:TorchBackend",
        requires=("torch", "numpy"),
        install_hint="pip install corelib-torch",
        deviations={"eig[float64-special-1]": BALANCED},
    )
