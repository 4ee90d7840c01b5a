"""Element-wise kernels: families generated from one description each.

A description is an expression on operands x, y and z. Below a measured number of elements a kernel is a NumPy
ufunc, or a few of them where NumPy's semantics are not ours; above it, a compiled loop over that expression, see
loops.py. Functions of complex numbers for which NumPy's special values or accuracy depend on the machine's C library
are compiled loops at every size.

Fused kernels do not belong here: they are derived from the bodies of composites.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import asarray, ndarray

from . import angles, pool
from .loops import Expression, Loop, stored
from .quiet import Scalars, guarded, named, quiet, run

CROSSOVER = 32768  # elements (of cost 1) below which NumPy is faster
FLOAT = {
    "negative": Expression("-x"),
    "abs": Expression("fabs(x)"),
    "sign": Expression("T(1) if x > T(0) else (T(-1) if x < T(0) else (T(0) if x == T(0) else x))"),
    "floor": Expression("floor(x)"),
    "ceil": Expression("ceil(x)"),
    "trunc": Expression("trunc(x)"),
    "round": Expression("round_even(x)"),
    "sqrt": Expression("sqrt(x)", 4),
    "exp": Expression("exp_T(x)", 4),
    "log": Expression("log_T(x)", 4),
    "erf": Expression("erf_T(x)", 8),
    "isnan": Expression("x != x"),
    "isinf": Expression("fabs(x) == T(inf)"),
    "isfinite": Expression("fabs(x) < T(inf)"),
    "add": Expression("x + y"),
    "subtract": Expression("x - y"),
    "multiply": Expression("x * y"),
    "divide": Expression("x / y"),
    "floor_divide": Expression("floor_divide_T(x, y)", 16),
    "remainder": Expression("remainder_T(x, y)", 16),
    "maximum": Expression("maximum(x, y)", 1, 2048),
    "minimum": Expression("minimum(x, y)", 1, 2048),
    "copysign": Expression("copysign(x, y)"),
    "hypot": Expression("hypot_T(x, y)", 4),
}
FLOAT32 = {
    "tanh": Expression("tanh_T(x)", 6, 65536),
    "log10": Expression("log10_T(x)", 4),
    "asin": Expression("asin_T(x)", 4),
    "log2": Expression("log2_T(x)", 4),
    **{name: Expression(
        f"{name}_T(x)", 4, unless="not (fabs(x) < T(8192))", careful=f"{name}_careful_T(x)"
    ) for name in ("sin", "cos")},
}  # fmt: skip
INTEGER = {
    "negative": Expression("-x"),
    "add": Expression("x + y"),
    "subtract": Expression("x - y"),
    "multiply": Expression("x * y"),
    "maximum": Expression("x if x > y else y"),
    "minimum": Expression("x if x < y else y"),
    "bitwise_and": Expression("x & y"),
    "bitwise_or": Expression("x | y"),
    "bitwise_xor": Expression("x ^ y"),
    "bitwise_invert": Expression("~x"),
}
EVERY = {
    "equal": Expression("x == y"),
    "not_equal": Expression("x != y"),
    "less": Expression("x < y"),
    "less_equal": Expression("x <= y"),
    "greater": Expression("x > y"),
    "greater_equal": Expression("x >= y"),
    "where": Expression("y if x != 0 else z"),
}
# W(..) widens to complex128, N(..) rounds to the operands' type, R(..) to that of its parts. The functions are those of
# varithmetic.py, vcomplex.py and vpower.py: f_V is f_complex, for complex128, or f_single, for complex64.
FINITE = "(fabs(x.real) < R(inf)) & (fabs(x.imag) < R(inf))"
COMPLEX = {
    "negative": Expression("-x"),
    "conj": Expression("N(complex(x.real, -x.imag))"),
    "abs": Expression("R(modulus_V(x))", 2),
    "isnan": Expression("x != x"),
    "isinf": Expression("(fabs(x.real) == R(inf)) | (fabs(x.imag) == R(inf))"),
    "isfinite": Expression(FINITE),
    "round": Expression("complex(round_even(x.real), round_even(x.imag))"),
    "add": Expression("x + y"),
    "subtract": Expression("x - y"),
    "multiply": Expression("x * y"),
    "divide": Expression(
        "N(quotient_V(x, y))", 4, unless="not divides_plainly(x, y)", careful="N(divide_complex(W(x), W(y)))"
    ),
    "square": Expression("N(square_V(x))", 2, unless="not has_square_V(x)", careful="N(square_careful(x))"),
    "equal": Expression("x == y"),
    "not_equal": Expression("x != y"),
    "where": Expression("y if x != 0 else z"),
    "sign": Expression("N(sign_complex(W(x)))", 4),
    "sqrt": Expression("N(sqrt_V(x))", 4),
    "log": Expression("N(log_near(x))", 8, unless="not squares_plainly(x)", careful="N(log_complex(W(x)))"),
    "pow": Expression(
        "N(pow_near_V(x, y))", 64, unless="not powers_plainly(x, y)", careful="N(pow_complex(W(x), W(y)))"
    ),
    **{name: Expression(
        f"N({name}_near(x))", 8, unless=f"not is_near({parts})", careful=f"N({name}_complex(W(x)))"
    ) for names, parts in (
        (("exp", "sinh", "cosh", "tanh"), "x.real, x.imag"), (("sin", "cos", "tan"), "x.imag, x.real"),
    ) for name in names},
    **{name: Expression(f"N({name}_complex(W(x)))", 32) for name in (
        "expm1", "log1p", "log2", "log10", "asin", "acos", "atan", "asinh", "acosh", "atanh",
    )},
}  # fmt: skip
BOOLEAN_RESULT = {
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isinf", "isfinite",
}  # fmt: skip


def expression(name: str, dtype: str) -> Expression | None:
    """The description of an op's compiled kernel for a dtype, or None where NumPy's is used at every size."""
    if dtype.startswith("complex"):
        if dtype == "complex64":
            words = {"V(": "single(", "N(": "complex64(", "W(": "complex128(", "R(": "float32("}
        else:
            words = {"V(": "complex(", "N(": "(", "W(": "(", "R(": "float64("}
        return _spelled(COMPLEX.get(name), words)
    found = EVERY.get(name)
    if found is None and dtype.startswith("float"):
        found = FLOAT.get(name) or (FLOAT32.get(name) if dtype == "float32" else None)
    elif found is None and dtype != "bool":
        found = INTEGER.get(name)
    return _spelled(found, {"_T(": f"_{dtype}(", "T(": f"{dtype}("})


def _spelled(found: Expression | None, words: dict[str, str]) -> Expression | None:
    """The description with names of a dtype in the place of those of every dtype."""
    if found is not None:
        for word, name in words.items():
            texts = {
                field: getattr(found, field).replace(word, name) for field in ("text", "unless", "careful")
            }
            found = found._replace(**texts)
    return found


# --- kernels ------------------------------------------------------------------------------------------------


def unary(small: Any, loop: Loop | None, crossover: int) -> Callable[[ndarray], ndarray]:
    """A kernel of one operand: `small` below the crossover, the compiled loop above it."""
    if small is None:
        assert loop is not None
        return lambda x: loop(x)
    large = loop or _numpy_large(small)

    def kernel(x: ndarray) -> ndarray:
        if x.size < crossover:
            try:
                r = run(small, x)
            except RuntimeError:
                r = guarded(small, x)
            return r if r.__class__ is ndarray else asarray(r)
        return large(x)

    def into(out: ndarray, x: ndarray) -> ndarray:
        if x.size < crossover and small in SAME_DTYPE:
            try:
                return run(small, x, out)
            except RuntimeError:
                return guarded(small, x, out)
        return loop.into(out, x) if loop is not None and x.size >= crossover else stored(kernel(x), out)

    # the result has the operand's dtype (that of abs has not, where it is complex), and is never a view of it
    if small in SAME_DTYPE and (loop is None or loop.same):
        kernel.into = into  # type: ignore[attr-defined]
    return kernel


def binary(small: Any, loop: Loop | None, scalars: Scalars, crossover: int) -> Callable[..., ndarray]:
    """A kernel of two operands, one of which may be a Python scalar."""
    large = loop or _numpy_large(small)

    def kernel(x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not x2.__class__:
            if x1.__class__ is ndarray:
                x2 = scalars(x2)
            else:
                x1 = scalars(x1)
        if x1.size < crossover > x2.size:
            try:
                r = run(small, x1, x2)
            except RuntimeError:
                r = guarded(small, x1, x2)
            return r if r.__class__ is ndarray else asarray(r)
        return large(x1, x2)

    def into(out: ndarray, x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not x2.__class__:
            if x1.__class__ is ndarray:
                x2 = scalars(x2)
            else:
                x1 = scalars(x1)
        if x1.size < crossover > x2.size and small in SAME_DTYPE:
            try:
                return run(small, x1, x2, out)
            except RuntimeError:
                return guarded(small, x1, x2, out)
        if loop is not None and (x1.size >= crossover or x2.size >= crossover):
            return loop.into(out, x1, x2)
        return stored(kernel(x1, x2), out)

    kernel.into = into  # type: ignore[attr-defined]
    return kernel


def select(loop: Loop, scalars: Scalars) -> Callable[..., ndarray]:
    """The kernel of ``where``."""

    def where(condition: ndarray, x1: Any, x2: Any) -> ndarray:
        if x1.__class__ is not ndarray:
            x1 = scalars(x1)
        elif x2.__class__ is not ndarray:
            x2 = scalars(x2)
        if condition.size < CROSSOVER and x1.size < CROSSOVER and x2.size < CROSSOVER:
            return np.where(condition, x1, x2)
        return loop(condition, x1, x2)

    return where


def _numpy_large(small: Callable[..., Any]) -> Callable[..., ndarray]:
    """NumPy's own loop, into a reused buffer where the shape and dtype of the result are known."""

    def large(x: ndarray, *others: ndarray) -> ndarray:
        if small in SAME_DTYPE and all(other.shape in (x.shape, ()) for other in others):
            return quiet(small, x, *others, out=pool.empty(x.shape, x.dtype, x.nbytes))
        return quiet(small, x, *others)

    return large


def _identity(x: ndarray) -> ndarray:
    return x.view()


def _zeros(x: ndarray) -> ndarray:
    return np.zeros(x.shape, x.dtype)


def real(x: ndarray) -> ndarray:
    return x.real


def imag(x: ndarray) -> ndarray:
    return x.imag


def _false(x: ndarray) -> ndarray:
    return np.zeros(x.shape, bool)


def _true(x: ndarray) -> ndarray:
    return np.ones(x.shape, bool)


# --- where NumPy's semantics are not ours -------------------------------------------------------------------


def _maximum(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy's maximum of +0 and -0 depends on their order and on the machine; +0 is larger."""
    r = np.maximum(x1, x2)
    if np.count_nonzero(r) != r.size:
        r = np.where(np.equal(x1, x2) & np.equal(r, 0), np.add(x1, x2), r)
    return r


def _minimum(x1: ndarray, x2: ndarray) -> ndarray:
    r = np.minimum(x1, x2)
    if np.count_nonzero(r) != r.size:
        r = np.where(np.equal(x1, x2) & np.equal(r, 0), -np.add(-x1, -x2), r)
    return r


def _floor_divide(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy's inf // x is NaN, and its -1 // inf is -1; in float32 its quotient is rounded twice; and from 2**51 on
    it is off by one at times.
    """
    quotient = np.divide(x1, x2, dtype=np.float64)
    r = np.floor_divide(x1, x2, dtype=np.float64)
    large = ~(np.abs(quotient) < 2.0**50) | np.isinf(x2)
    if large.any():
        beyond = ~(np.abs(quotient) < 2.0**53) | np.isinf(x2)
        r = np.where(beyond, quotient, r)
        for place in map(tuple, np.argwhere(large & ~beyond)):
            pair = (float(np.broadcast_to(x, r.shape)[place]) for x in (x1, x2))
            (a, b), (c, d) = (x.as_integer_ratio() for x in pair)
            r[place] = float(a * d // (b * c))
    return r.astype(x1.dtype if isinstance(x1, ndarray) else x2.dtype)


def _integer_power(x1: ndarray, x2: ndarray) -> ndarray:
    """NumPy refuses negative exponents; the exact result is truncated."""
    below = np.less(x2, 0)
    if not below.any():
        return np.power(x1, x2)
    r = np.power(x1, np.where(below, x2.dtype.type(0), x2))
    inverse = np.where(x1 == 1, x1, np.where(x1 == -1, 1 - 2 * (x2 & 1), 0))
    return np.where(below, inverse, r).astype(x1.dtype)


def _power(x1: ndarray, x2: ndarray) -> ndarray:
    """Squares are exact to the last bit and far cheaper; for one exponent of 1/2 NumPy takes square roots, of
    -0 and -inf as well.
    """
    if not x2.ndim and x2 == 2:
        return np.multiply(x1, x1)
    r = np.power(x1, x2)
    if x2.size and (x2.size == 1 or not any(x2.strides)) and x2.flat[0] == 0.5:
        return np.where(np.equal(x1, -np.inf), r.dtype.type(np.inf), np.add(r, 0))
    return r


def _complex_power(power: Callable[..., ndarray], square: Callable[..., ndarray]) -> Callable[..., ndarray]:
    """Squares are far cheaper."""

    def pow(x1: Any, x2: Any) -> ndarray:
        return square(x1) if x2.__class__ is complex and x2 == 2 else power(x1, x2)

    return pow


# --- the ops ------------------------------------------------------------------------------------------------

NUMPY: dict[str, Any] = {
    "negative": np.negative, "abs": np.absolute, "sign": np.sign, "bitwise_invert": np.invert, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign,
    "nextafter": np.nextafter, "maximum": np.maximum, "minimum": np.minimum, "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor, "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift, "equal": np.equal, "not_equal": np.not_equal, "less": np.less,
    "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal, "erf": None,
}  # fmt: skip
OURS_FLOAT = {"maximum": _maximum, "minimum": _minimum, "floor_divide": _floor_divide, "pow": _power}
# Of vector functions beyond 2 ULP (2.001 and 2.24 with AVX-512), and of the C library's reduction.
OURS_FLOAT32 = {**OURS_FLOAT, "log10": angles.widened(np.log10), "asin": angles.widened(np.arcsin)}
OURS_FLOAT64 = {
    **OURS_FLOAT, "sin": angles.careful(np.sin, angles.sin), "cos": angles.careful(np.cos, angles.cos),
    "tan": angles.careful(np.tan, angles.tan),
}  # fmt: skip
OURS_INTEGER: dict[str, Callable[..., Any]] = {
    "pow": _integer_power, "isnan": _false, "isinf": _false, "isfinite": _true,
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), _identity),
}  # fmt: skip
# What NumPy computes as we do, on every machine.
NUMPY_COMPLEX: dict[str, Any] = {
    "negative": np.negative, "conj": np.conjugate, "abs": np.absolute, "isnan": np.isnan, "isinf": np.isinf,
    "isfinite": np.isfinite, "round": np.rint, "add": np.add, "subtract": np.subtract, "multiply": np.multiply,
    "equal": np.equal, "not_equal": np.not_equal,
}  # fmt: skip
OURS_BOOL = {**OURS_INTEGER, "abs": _identity, "sign": _identity}
SAME_DTYPE = {
    function
    for name, function in {**NUMPY, **NUMPY_COMPLEX}.items()
    if function and name not in BOOLEAN_RESULT
} | {
    found[name]
    for found, names in ((OURS_FLOAT32, ("log10", "asin")), (OURS_FLOAT64, ("sin", "cos", "tan")))
    for name in names
}
TWO_OPERANDS = {name for name, function in NUMPY.items() if function and function.nin == 2}


def make(name: str, dtype: str) -> Callable[..., ndarray]:
    """The kernel of an element-wise op for operands of one dtype."""
    kind = named(dtype)
    found = expression(name, dtype)
    crossover = min(found.crossover or CROSSOVER // found.cost, CROSSOVER * 2) if found else CROSSOVER
    result = "bool" if name in BOOLEAN_RESULT else dtype
    if name == "where":
        assert found is not None
        word = {"complex64": "uint64"}.get(dtype, dtype)
        return select(Loop(found, ("bool", word, word), word, dtype), Scalars(kind))
    if kind.kind == "c":
        if name in ("real", "imag"):
            return real if name == "real" else imag
        small = NUMPY_COMPLEX.get(name)
        crossover = crossover if small else 0
        result = kind.type(0).real.dtype.name if name == "abs" else result
    else:
        if name == "imag":
            return _zeros
        floating = OURS_FLOAT64 if dtype == "float64" else OURS_FLOAT32
        ours = floating if kind.kind == "f" else OURS_BOOL if dtype == "bool" else OURS_INTEGER
        small = ours.get(name, NUMPY.get(name))
    if name in TWO_OPERANDS:
        loop = Loop(found, (dtype, dtype), result) if found else None
        if kind.kind == "c" and name == "pow":
            return _complex_power(binary(small, loop, Scalars(kind), crossover), make("square", dtype))
        return binary(small, loop, Scalars(kind), crossover)
    return unary(small, Loop(found, (dtype,), result) if found else None, crossover)
