"""Announces the backend. Loaded to list backends, so it imports nothing but the plugin API."""

from corelib.plugin_api import BackendInfo, hookimpl

SPECIAL = ["divide", "expm1", "log1p", "pow", "reciprocal", "sign", "tan", "tanh"]
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
    "divide[complex*-golden-1]": "NumPy's quotient is lost where the divisor is subnormal or nearly so",
    "sign[complex*-golden-1]": "NumPy divides by a modulus that is subnormal",
    "expm1[complex*-golden-3]": "NumPy multiplies e**x, which overflows, by a cosine that is small",
    "log1p[complex*-golden-?]": "NumPy rounds 1 + z before its logarithm",
    "pow[complex*-golden-?]": "the error of log z is multiplied by |w log z| = 6.6: 9 ULP where 8 are allowed",
    **{
        f"{name}[float64-golden-{n}]": "the C library reduces large angles to too few digits beside multiples of pi/2"
        for name in ("sin", "cos")
        for n in (7, 8)
    },
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
