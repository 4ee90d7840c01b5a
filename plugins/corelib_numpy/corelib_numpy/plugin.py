"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl

SPECIAL = ["divide", "expm1", "log1p", "pow", "reciprocal", "sign", "tan", "tanh"]
OVERFLOWS = ["divide[complex*-golden-1]", "expm1[complex*-golden-3]", "sign[complex*-golden-1]"]
ANGLES = [f"{name}[float64-golden-{n}]" for name in ("sin", "cos") for n in (7, 8)]
DEVIATIONS = {
    **{
        f"{name}[complex*-{what}-*]": "NumPy's infinities and zeros are not those of Annex G"
        for name in SPECIAL
        for what in ("special", "grid")
    },
    **{
        f"astype[{cases}]": "ml_dtypes rounds to bfloat16 by way of float32"
        for cases in ("*-special-12", "uint*-grid-*", "float64-grid-*")
    },
    "floor_divide[float64-grid-*]": "NumPy subtracts the remainder first, which rounds beyond 2**53",
    **dict.fromkeys(OVERFLOWS, "NumPy overflows on its way to a result that does not"),
    **dict.fromkeys(
        ANGLES, "the C library has too few digits of pi for large angles beside multiples of pi/2"
    ),
    "log1p[complex*-golden-?]": "NumPy rounds 1 + z before it takes the logarithm",
    "pow[complex*-golden-?]": "the error of log z is multiplied by |w log z| = 6.6: 9 ULP where 8 are allowed",
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
