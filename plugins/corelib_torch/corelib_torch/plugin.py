"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl

DEVIATIONS = {
    "eig[float64-special-1]": "LAPACK balances a matrix, which for this one is harmful (D. S. Watkins, 2006)",
    "pow[complex128-golden-0]": "the error of log z is multiplied by |w log z| = 6.6: 9.04 ULP where 8 are allowed",
    **{
        f"{name}[{cases}]": "the vector functions overflow where exp does, not ln 2 later"
        for name in ("sinh", "cosh")
        for cases in ("float32-golden-0", "float32-golden-6", *(f"float64-golden-{n}" for n in (0, 6, 7)))
    },
}


@hookimpl
def declare_backend() -> BackendInfo:
    """The backend's name, and where its class is found once somebody uses it."""
    return BackendInfo(
        name="torch",
        summary="PyTorch's CPU kernels",
        load="corelib_torch.backend:TorchBackend",
        requires=("torch", "numpy"),
        install_hint="pip install corelib-torch",
        deviations=DEVIATIONS,
    )
