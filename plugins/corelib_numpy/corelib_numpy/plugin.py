"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl

SPECIAL = ["divide", "expm1", "log1p", "pow", "reciprocal", "sign", "tan", "tanh"]
DEVIATIONS = {
    **{
        f"{name}[complex*-special-*]": "NumPy's infinities and zeros are not those of Annex G"
        for name in SPECIAL
    },
    "astype[*-special-12]": "ml_dtypes rounds to bfloat16 by way of float32",
    "eig[float64-special-1]": "LAPACK balances a matrix, which for this one is harmful (D. S. Watkins, 2006)",
}


@hookimpl
def declare_backend() -> BackendInfo:
    """The backend's name, and where its class is found once somebody uses it."""
    return BackendInfo(
        name="numpy",
        summary="plain NumPy, one thread",
        load="corelib_numpy.backend:NumpyBackend",
        requires=("numpy", "array_api_compat"),
        install_hint="pip install corelib-numpy",
        deviations=DEVIATIONS,
    )
