"""The functions of the array API standard on a million elements: corelib on ``cpu`` beside array-api-compat's NumPy.

Both namespaces get the same calls on the same values. One million elements is a vector, or a matrix of 1000 by 1000; the
decompositions whose work grows with the cube take a stack of 100 matrices of 100 by 100. float32 unless a function needs
another dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Call = Callable[[Any, SimpleNamespace], object]

UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "negative",
    "positive",
    "reciprocal",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
BINARY = [
    "add",
    "atan2",
    "copysign",
    "divide",
    "equal",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "less",
    "less_equal",
    "logaddexp",
    "maximum",
    "minimum",
    "multiply",
    "nextafter",
    "not_equal",
    "pow",
    "remainder",
    "subtract",
]
COMPLEX = ["abs", "add", "conj", "divide", "exp", "imag", "log", "multiply", "real", "sqrt"]


def inputs(xp: Any) -> SimpleNamespace:
    """The operands, with equal values in every namespace."""
    import numpy as np

    draw = np.random.default_rng(0)
    n = 1_000_000
    x, y = draw.uniform(0.1, 0.9, (2, n)).astype("float32")
    square = draw.standard_normal((100, 100, 100)).astype("float32")
    values = {
        "x": x, "y": y, "above": x + 1, "i": draw.integers(0, 1000, n), "j": draw.integers(1, 9, n), "b": x > 0.5, "c": y > 0.5,
        "z": (x + 1j * y).astype("complex64"), "w": (y - 1j * x).astype("complex64"), "m": x.reshape(1000, 1000),
        "k": y.reshape(1000, 1000), "row": x[:1000], "column": x[:1000, None], "places": draw.integers(0, n, n),
        "along": draw.integers(0, 1000, (1000, 1000)), "sorted": np.sort(x), "stack": square, "few": draw.integers(0, 100, n),
        "positive": square @ square.swapaxes(1, 2) + 100 * np.eye(100, dtype="float32"), "three": x[:999_999].reshape(-1, 3),
        "three2": y[:999_999].reshape(-1, 3), "block": x.reshape(1000, 1000)[:, :500],
    }  # fmt: skip
    return SimpleNamespace(**{name: xp.asarray(value) for name, value in values.items()}, array=x)


def calls() -> dict[str, Call]:
    """One call for each function."""
    found: dict[str, Call] = {}
    for name in UNARY:
        operand = "above" if name == "acosh" else "x"
        found[name] = lambda xp, d, f=name, o=operand: getattr(xp, f)(getattr(d, o))
    for name in BINARY:
        found[name] = lambda xp, d, f=name: getattr(xp, f)(d.x, d.y)
    for name in COMPLEX:
        two = name in ("add", "divide", "multiply")
        found[f"{name} (complex64)"] = lambda xp, d, f=name, two=two: getattr(xp, f)(
            *((d.z, d.w) if two else (d.z,))
        )
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift"):
        found[name] = lambda xp, d, f=name: getattr(xp, f)(d.i, d.j)
    for name in ("logical_and", "logical_or", "logical_xor"):
        found[name] = lambda xp, d, f=name: getattr(xp, f)(d.b, d.c)
    found |= {
        "bitwise_invert": lambda xp, d: xp.bitwise_invert(d.i),
        "logical_not": lambda xp, d: xp.logical_not(d.b),
        "clip": lambda xp, d: xp.clip(d.x, 0.25, 0.75),
        "where": lambda xp, d: xp.where(d.b, d.x, d.y),
        "astype": lambda xp, d: xp.astype(d.x, xp.float64),
    }
    for name in ("empty", "ones", "zeros"):
        found[name] = lambda xp, d, f=name: getattr(xp, f)((1000, 1000), dtype=xp.float32)
        found[f"{name}_like"] = lambda xp, d, f=name: getattr(xp, f"{f}_like")(d.m)
    found |= {
        "arange": lambda xp, d: xp.arange(1_000_000),
        "asarray": lambda xp, d: xp.asarray(d.array, copy=True),
        "eye": lambda xp, d: xp.eye(1000, dtype=xp.float32),
        "from_dlpack": lambda xp, d: xp.from_dlpack(d.array),
        "full": lambda xp, d: xp.full((1000, 1000), 2.0, dtype=xp.float32),
        "full_like": lambda xp, d: xp.full_like(d.m, 2.0),
        "linspace": lambda xp, d: xp.linspace(0.0, 1.0, 1_000_000, dtype=xp.float32),
        "meshgrid": lambda xp, d: xp.meshgrid(d.row, d.row),
        "tril": lambda xp, d: xp.tril(d.m),
        "triu": lambda xp, d: xp.triu(d.m),
        "broadcast_arrays": lambda xp, d: xp.broadcast_arrays(d.row, d.column),
        "broadcast_to": lambda xp, d: xp.broadcast_to(d.row, (1000, 1000)),
        "concat": lambda xp, d: xp.concat([d.m, d.k]),
        "expand_dims": lambda xp, d: xp.expand_dims(d.m, axis=1),
        "flip": lambda xp, d: xp.flip(d.m) + 0,
        "moveaxis": lambda xp, d: xp.moveaxis(d.m, 0, 1),
        "permute_dims, added to": lambda xp, d: xp.permute_dims(d.m, (1, 0)) + d.k,
        "repeat": lambda xp, d: xp.repeat(d.m, 2, axis=1),
        "reshape": lambda xp, d: xp.reshape(d.m, (500, 2000)),
        "roll": lambda xp, d: xp.roll(d.m, 7, axis=1),
        "squeeze": lambda xp, d: xp.squeeze(xp.expand_dims(d.m, axis=1), axis=1),
        "stack": lambda xp, d: xp.stack([d.m, d.k], axis=1),
        "tile": lambda xp, d: xp.tile(d.m, (2, 1)),
        "unstack": lambda xp, d: xp.unstack(d.m),
        "argmax": lambda xp, d: xp.argmax(d.m, axis=1),
        "argmin": lambda xp, d: xp.argmin(d.m, axis=1),
        "count_nonzero": lambda xp, d: xp.count_nonzero(d.x),
        "nonzero": lambda xp, d: xp.nonzero(d.b),
        "searchsorted": lambda xp, d: xp.searchsorted(d.sorted, d.x),
        "isin": lambda xp, d: xp.isin(d.few, d.few[:50]),
        "unique_all": lambda xp, d: xp.unique_all(d.few),
        "unique_counts": lambda xp, d: xp.unique_counts(d.few),
        "unique_inverse": lambda xp, d: xp.unique_inverse(d.few),
        "unique_values": lambda xp, d: xp.unique_values(d.few),
        "argsort": lambda xp, d: xp.argsort(d.x),
        "sort": lambda xp, d: xp.sort(d.x),
        "all": lambda xp, d: xp.all(d.x),
        "any": lambda xp, d: xp.any(d.b, axis=None),
        "diff": lambda xp, d: xp.diff(d.x),
        "cumulative_prod": lambda xp, d: xp.cumulative_prod(d.x),
        "cumulative_sum": lambda xp, d: xp.cumulative_sum(d.x),
        "take": lambda xp, d: xp.take(d.x, d.places),
        "take_along_axis": lambda xp, d: xp.take_along_axis(d.m, d.along, axis=1),
        "x[mask]": lambda xp, d: d.x[d.b],
        "x[indices]": lambda xp, d: d.x[d.places],
        "matmul": lambda xp, d: xp.matmul(d.m, d.k),
        "matrix_transpose": lambda xp, d: xp.matrix_transpose(d.m),
        "tensordot": lambda xp, d: xp.tensordot(d.m, d.k, axes=1),
        "vecdot": lambda xp, d: xp.vecdot(d.m, d.k),
    }  # fmt: skip
    for name in ("max", "mean", "min", "prod", "std", "sum", "var"):
        found[name] = lambda xp, d, f=name: getattr(xp, f)(d.x)
        found[f"{name}, axis=0"] = lambda xp, d, f=name: getattr(xp, f)(d.m, axis=0)
        found[f"{name}, axis=1"] = lambda xp, d, f=name: getattr(xp, f)(d.m, axis=1)
    for name in ("det", "eigvals", "eig", "inv", "matrix_rank", "pinv", "qr", "slogdet", "svd", "svdvals"):
        found[f"linalg.{name}"] = lambda xp, d, f=name: getattr(xp.linalg, f)(d.stack)
    for name in ("cholesky", "eigh", "eigvalsh"):
        found[f"linalg.{name}"] = lambda xp, d, f=name: getattr(xp.linalg, f)(d.positive)
    found |= {
        "linalg.cross": lambda xp, d: xp.linalg.cross(d.three, d.three2),
        "linalg.diagonal": lambda xp, d: xp.linalg.diagonal(d.stack),
        "linalg.matrix_norm": lambda xp, d: xp.linalg.matrix_norm(d.stack),
        "linalg.matrix_power": lambda xp, d: xp.linalg.matrix_power(d.stack, 5),
        "linalg.outer": lambda xp, d: xp.linalg.outer(d.row, d.row),
        "linalg.solve": lambda xp, d: xp.linalg.solve(d.positive, d.stack),
        "linalg.trace": lambda xp, d: xp.linalg.trace(d.stack),
        "linalg.vector_norm": lambda xp, d: xp.linalg.vector_norm(d.x),
    }  # fmt: skip
    for name in ("fft", "ifft", "irfft", "hfft"):
        found[f"fft.{name}"] = lambda xp, d, f=name: getattr(xp.fft, f)(d.z)
    for name in ("rfft", "ihfft"):
        found[f"fft.{name}"] = lambda xp, d, f=name: getattr(xp.fft, f)(d.x)
    for name in ("fftn", "ifftn", "irfftn"):
        found[f"fft.{name}"] = lambda xp, d, f=name: getattr(xp.fft, f)(xp.reshape(d.z, (1000, 1000)))
    found |= {
        "fft.rfftn": lambda xp, d: xp.fft.rfftn(d.m),
        "fft.fftfreq": lambda xp, d: xp.fft.fftfreq(1_000_000),
        "fft.rfftfreq": lambda xp, d: xp.fft.rfftfreq(1_000_000),
        "fft.fftshift": lambda xp, d: xp.fft.fftshift(d.m),
        "fft.ifftshift": lambda xp, d: xp.fft.ifftshift(d.m),
    }
    return found


def workloads() -> dict[str, dict[str, Callable[[], object]]]:
    """``{function: {contestant: call}}``."""
    import array_api_compat.numpy as numpy

    import corelib

    ours, theirs = inputs(corelib), inputs(numpy)
    return {
        name: {"corelib": lambda f=call: f(corelib, ours), "numpy": lambda f=call: f(numpy, theirs)}
        for name, call in calls().items()
    }
