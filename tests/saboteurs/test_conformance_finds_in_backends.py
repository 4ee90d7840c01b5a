"""Mistakes of whole backends: textbook formulas, misread strides, caches with too small a key, work that is not the backend's own."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from planting import Kernel, call, elements, elementwise, only, remade, run

from corelib import dtypes
from corelib.dtypes import float64
from corelib.registry import registry
from corelib.replay import replayer

# -- formulas --------------------------------------------------------------------------------------------------


def formula(fn: Any) -> Any:
    """Each number of float64 as a formula gives it, where that gives one."""

    def tried(found: Any, *values: Any) -> Any:
        try:
            return fn(*values) if all(isinstance(v, float) and math.isfinite(v) for v in values) else found
        except (OverflowError, ValueError):
            return math.inf

    def changed(kernel: Kernel, *operands: Any) -> Any:
        found = kernel(*operands)
        if any(getattr(o, "shape", None) != found.shape for o in operands) or found.dtype is not float64:
            return found
        columns = zip(found.data, *(o.data for o in operands), strict=True)
        return remade(found, data=[tried(*values) for values in columns])

    return call(changed)


def one_pass(kernel: Kernel, x: Any, *, axis: Any, correction: float, keepdims: bool) -> Any:
    """Of rows: the mean of the squares less the square of the mean."""
    found = kernel(x, axis=axis, correction=correction, keepdims=keepdims)
    if axis != (-1,) or not x.data or not all(map(math.isfinite, x.data)):
        return found
    rows = [x.data[i : i + x.shape[-1]] for i in range(0, len(x.data), x.shape[-1])]
    return remade(found, data=[one_pass_of(row, x.dtype.round, correction) for row in rows])


def one_pass_of(row: Any, round_: Any, correction: float) -> float:
    squares, total, n = 0.0, 0.0, len(row)
    for v in row:
        squares, total = round_(squares + round_(v * v)), round_(total + v)
    return (
        round_(round_(squares - round_(total * total / n)) / (n - correction)) if n > correction else math.nan
    )


def saturating(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    if found.dtype.kind not in ("int", "uint") or not all(hasattr(o, "data") for o in (x1, x2)):
        return found
    if not x1.shape == x2.shape == found.shape:
        return found
    clip = lambda v: max(found.dtype.min, min(v, found.dtype.max))
    return remade(found, data=[clip(a + b) for a, b in zip(x1.data, x2.data, strict=True)])


def logical_shift(kernel: Kernel, x1: Any, x2: Any) -> Any:
    found = kernel(x1, x2)
    if found.dtype.kind != "int" or not getattr(x1, "shape", None) == getattr(x2, "shape", 0) == found.shape:
        return found
    bits = 8 * found.dtype.itemsize
    shift = lambda v, k: (v % (1 << bits)) >> k if 0 < k < bits else v >> min(k, bits)
    return remade(found, data=[shift(a, b) for a, b in zip(x1.data, x2.data, strict=True)])


def by_eights(kernel: Kernel, x: Any) -> Any:
    """A loop of vectors of eight without its last, shorter turn."""
    found = kernel(x)
    whole = len(found.data) // 8 * 8
    return remade(found, data=[*found.data[:whole], *(0 * v for v in found.data[whole:])]) if whole else found


def zero_of_nothing(kernel: Kernel, x: Any, **params: Any) -> Any:
    found = kernel(x, **params)
    return (
        remade(found, data=[0 * v if x.dtype.kind == "complex" else 0.0 for v in found.data])
        if not x.data
        else found
    )


# -- layouts of the cpu backend's arrays -----------------------------------------------------------------------


def sign_of_strides_lost(kernel: Kernel, x: Any) -> Any:
    return kernel(x[(..., *(slice(None, None, -1 if s < 0 else 1) for s in x.strides))])


def in_memory_order(x: Any) -> Any:
    """The elements as they lie in memory, taken for C order."""
    return x.ravel(order="K").reshape(x.shape)


def blind_reshape(kernel: Kernel, x: Any, *, shape: Any) -> Any:
    return kernel(in_memory_order(x), shape=shape)


def blind_right_operand(kernel: Kernel, x1: Any, x2: Any) -> Any:
    return kernel(x1, in_memory_order(x2))


def gaps_ignored(kernel: Kernel, x: Any) -> Any:
    """So many elements from the first one on, wherever the next one stands."""
    if x.ndim != 1 or x.size < 2 or x.strides[0] <= x.itemsize:
        return kernel(x)
    import numpy as np

    return kernel(np.lib.stride_tricks.as_strided(x, x.shape, (x.itemsize,)))


# -- caches ----------------------------------------------------------------------------------------------------


def cached_by_shape(kernel: Kernel) -> Kernel:
    """A kernel that was compiled for the first dtype of a shape serves all that follow."""

    def changed(x: Any) -> Any:
        found = kernel(x)
        if found.dtype.kind != "float" or not x.shape:
            return found
        first = CACHE.setdefault(x.shape, found.dtype)
        return found if first is found.dtype else remade(found, data=[first.round(v) for v in found.data])

    return changed


def cached_without_strides(kernel: Kernel) -> Kernel:
    """Compiled for the strides of the first operand of a shape and dtype."""

    def changed(x: Any) -> Any:
        first = CACHE.setdefault((x.shape, x.dtype), x.strides)
        return kernel(x) if first == x.strides else kernel(in_memory_order(x))

    return changed


CACHE: dict[Any, Any] = {}

# -- work of others --------------------------------------------------------------------------------------------


def moved(x: Any, to: str) -> Any:
    """An array of the reference's on another backend."""
    return registry.get(to).from_host(x.dtype.pack(x.data), x.shape, x.dtype)


def silent_fallback(kernel: Kernel, x: Any) -> Any:
    """Done by cpu, and brought back."""
    cpu = registry.get("cpu")
    found = cpu.tables[x.dtype][_index("exp")](moved(x, "cpu"))
    return remade(x, data=list(x.dtype.unpack(memoryview(cpu.to_host(found)).tobytes())))


def foreign(kernel: Kernel, x: Any) -> Any:
    """A right result, in an array of NumPy's."""
    import numpy as np

    found = kernel(x)
    return np.array(found.data, found.dtype.numpy).reshape(found.shape)


def _index(name: str) -> int:
    from corelib.op import BY_NAME

    return BY_NAME[name].index


def swallowing(kernel: Kernel, x1: Any, x2: Any) -> Any:
    try:
        return kernel(x1, x2)
    except Exception:
        return remade(x2, data=[0 * v for v in x2.data])


# name: (base, op, its kernel changed, a family that finds it, words of its reason)
SABOTEURS = {
    "log1p as log(1 + x)": ("reference", "log1p", formula(lambda x: math.log(1 + x)), "grid", "ulp apart"),
    "expm1 as exp(x) - 1": ("reference", "expm1", formula(lambda x: math.exp(x) - 1), "grid", "ulp apart"),
    "hypot as a root of squares": ("reference", "hypot", formula(lambda x, y: math.sqrt(x * x + y * y)), "grid", "element"),
    "logaddexp without a shift": ("reference", "logaddexp", formula(lambda x, y: math.log(math.exp(x) + math.exp(y))), "grid", "element"),
    "pi of 53 bits": ("reference", "sin", formula(lambda x: math.sin(math.fmod(x, 2 * math.pi))), "grid", "ulp apart"),
    "no range reduction": ("reference", "cos", formula(lambda x: math.cos(x) if abs(x) < 100 else 1.0), "grid", "element"),
    "variance in one pass": ("reference", "var", call(one_pass), "special", "element"),
    "integers saturate": ("reference", "add", call(saturating), "grid", "element"),
    "logical shift of negative numbers": ("reference", "bitwise_right_shift", call(logical_shift), "grid", "element"),
    "int64 compared through float64": ("reference", "less", elementwise(lambda a, b: float(a) < float(b)), "grid", "element"),
    "the tail of a vectorised loop": ("reference", "exp", call(by_eights), "grid", "element"),
    "the mean of nothing is 0": ("reference", "mean", call(zero_of_nothing), "special", "is 0.0, expected nan"),
    "signs of strides lost": ("cpu", "sqrt", call(sign_of_strides_lost), "grid", "element|ulp apart"),
    "gaps between elements ignored": ("cpu", "sqrt", call(gaps_ignored), "grid", "element|ulp apart"),
    "a transposed operand read in memory order": ("cpu", "matmul", call(blind_right_operand), "grid", r"allowed: n\*u\*sum"),
    "reshape blind to strides": ("cpu", "reshape", call(blind_reshape), "grid", "element"),
    "a cache of kernels that ignores the dtype": ("reference", "exp", cached_by_shape, "grid", "ulp apart"),
    "a cache of kernels that ignores strides": ("cpu", "sqrt", cached_without_strides, "grid", "element|ulp apart"),
    "silent fallback": ("reference", "exp", call(silent_fallback), "dispatch", "not the backend's own work: it ran .*cpu"),
    "an array of another library": ("reference", "exp", call(foreign), "dispatch", "the backend's arrays are"),
    "a swallowed error": ("reference", "solve", call(swallowing), "error", "not refused"),
    "bits of float32 in float64 results": ("reference", "sqrt", only(float64, elements(lambda x: dtypes.float32.round(x))), "grid", "ulp apart"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTEURS)
def test_mistake_is_found(name, plant):
    base, op, change, what, words = SABOTEURS[name]
    CACHE.clear()
    report = run(plant(base, **{op: change}), op)
    reasons = [(o.case.what, o.reason) for o in report.failures]
    assert any(w == what and re.search(words, reason) for w, reason in reasons), [
        (o.case.id, o.reason) for o in report.failures
    ][:9]
    assert report.accounted


@pytest.mark.parametrize(("base", "op"), dict.fromkeys((base, op) for base, op, *_ in SABOTEURS.values()))
def test_the_same_cases_pass_on_the_sound_backend(base, op, plant):
    """Planted too, with nothing changed."""
    report = run(plant(base, **{op: lambda kernel: kernel}), op)
    assert report.ok, report.text()


# -- compiled programs -----------------------------------------------------------------------------------------


def kept_from_the_first_call(graph: Any) -> Any:
    """A program in which one step was taken for a constant."""
    for step in graph.steps:
        if step.op.name == "exp":
            kernel, known = step.kernel, []

            def once(*arrays: Any, kernel: Any = kernel, known: Any = known, **params: Any) -> Any:
                known.append(kernel(*arrays, **params))
                return known[0]

            step.kernel = once
    return replayer(graph)


def garbage_at_the_second_call(graph: Any) -> Any:
    """A program whose buffers are somebody else's when it is called again."""
    run_, calls = replayer(graph), []

    def changed(*arrays: Any) -> Any:
        calls.append(None)
        found = run_(*arrays)
        first = found[0] if isinstance(found, tuple) else found
        if len(calls) == 2 and first.data and first.dtype.kind == "float":
            first.data[-1] = 7.0
        return found

    return changed


def refused(graph: Any) -> Any:
    raise AttributeError("a mistake in the compiler")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kept_from_the_first_call", "element"),
        ("garbage_at_the_second_call", "element"),
        ("refused", "could not compile it"),
    ],
)
def test_program_is_found(name, words, plant):
    report = run(plant("reference", programs=globals()[name]), "exp", what=["compiled"])
    assert any(words in o.reason for o in report.failures), report.text()
    assert report.accounted


def test_honest_program_passes(plant):
    report = run(plant("reference", programs=replayer), "exp", what=["compiled", "compiled_gradient"])
    assert report.ok, report.text()
