"""Every elementary function at the points where it is hard to compute, against arbitrary precision.

And the vectors themselves: they are what ``tools/golden.py`` writes, and they cover the ops that need them. What gets
past them and what does not: ``tests/saboteurs/test_golden_finds.py``.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from corelib.conformance import golden
from corelib.conformance.golden import LARGE, Vectors, check_vectors, golden_cases, vectors
from corelib.dtypes import complex64, complex128, float32, float64
from corelib.op import BY_NAME, OPS, SUM_BOUND
from corelib.registry import backends, registry
from corelib.samples import Sample, Values

ROOT = Path(__file__).resolve().parents[2]
WITH_VECTORS = [op for op in OPS if vectors(op)]
BACKENDS = [status.name for status in backends()]

# Element-wise ops with a budget of more than 1/2 ULP that are no functions to be evaluated at hard points.
WITHOUT = {
    "leaky_relu": "a product with a parameter, which float32 kernels may round first",
    "normal_from_bits": "random numbers: its operands are words of bits, and its roundings are part of its definition",
    "sgd_update": "sums and products of many operands",
    "momentum_update": "sums and products of many operands",
    "adam_update": "sums, products and a root of many operands",
    "adamw_update": "sums, products and a root of many operands",
    "adam_scalars": "powers of parameters, once in a step",
    "nadam_scalars": "powers of parameters, once in a step",
    "radam_scalars": "powers of parameters, once in a step",
    "nadam_update": "sums, products and a root of many operands",
    "radam_update": "sums, products and a root of many operands",
    "adagrad_update": "sums, products and a root of many operands",
    "rmsprop_update": "sums, products and a root of many operands",
    "lion_update": "sums and products of many operands",
    "ema_update": "sums and products of many operands",
}


def only(v: Vectors, kept: Sequence[int]) -> Vectors:
    """Some of the points."""
    columns = tuple(Values((len(kept),), c.dtype, tuple(c.data[i] for i in kept)) for c in v.sample.args)
    return v._replace(sample=Sample(columns, v.sample.kwargs), exact=tuple(v.exact[i] for i in kept))


class Defect(NamedTuple):
    """Points at which backends are known to exceed a budget. ``everywhere``: on every backend and machine, since the op's own
    body does; then the entry must go as soon as that is repaired.
    """

    ops: str
    dtypes: str
    where: Callable[..., bool]
    why: str
    kwargs: dict[str, Any] = {}
    everywhere: bool = False

    def covers(self, v: Vectors, i: int) -> bool:
        named = v.op.name in self.ops.split() and v.dtype.name in self.dtypes.split()
        return named and v.sample.kwargs == self.kwargs and self.where(*v.operands(i))


DEFECTS = [
    Defect("silu", "float32", lambda x: -104 < x < -88.73, "sigmoid(x) is 0 where exp(-x) overflows, x sigmoid(x) is not", everywhere=True),
    Defect("silu", "float64", lambda x: -745 < x < -709.79, "sigmoid(x) is 0 where exp(-x) overflows, x sigmoid(x) is not", everywhere=True),
    Defect("gelu", "float32 float64", lambda x: x < -6, "exp(2u) multiplies the roundings of u by |2u|", {"approximate": "tanh"}, True),
    Defect(
        "sin cos tan", "float64", lambda x: abs(x) > 1e50, "glibc's reduction loses digits beside multiples of pi/2 (2.36: 200 ulp)"
    ),
    Defect("log10", "float32", lambda x: 0.749999 < x < 0.75, "NumPy's vector function: 2.001 ulp with AVX-512"),
    Defect(
        "pow", "complex128", lambda x, y: 0 < abs(x) < 1e-190, "cpu: the error of log z is multiplied by |w log z| = 6.6: 8.9 ulp"
    ),
    Defect("asin", "float32", lambda x: abs(x - math.sqrt(0.5)) < 1e-6, "NumPy's vector function: 2.24 ulp with AVX-512"),
]  # fmt: skip


# -- the backends --------------------------------------------------------------------------------------------


# Few elements and many are computed in different ways; not on the reference: one function of one number.
PLACES = [
    pytest.param(name, size, marks=pytest.mark.device(name), id=f"{name}-{words}")
    for name in BACKENDS
    for size, words in ((0, "few"), (LARGE, "many"))
    if name != "reference" or not size
]


@pytest.mark.parametrize("op", WITH_VECTORS, ids=lambda op: op.name)
@pytest.mark.parametrize(("backend", "size"), PLACES)
def test_within_the_budget(backend, size, op):
    wrong = []
    for v in vectors(op):
        kept = [i for i in range(len(v.exact)) if not any(d.covers(v, i) for d in DEFECTS)]
        wrong += check_vectors(only(v, kept), registry.get(backend), size)[1]
    assert [str(w) for w in wrong] == []


@pytest.mark.parametrize("defect", [d for d in DEFECTS if d.everywhere], ids=lambda d: f"{d.ops} {d.dtypes}")
def test_known_defects_are_still_there(defect):
    found = [
        w
        for name in defect.ops.split()
        for v in vectors(BY_NAME[name])
        for i in range(len(v.exact))
        if defect.covers(v, i)
        for w in check_vectors(only(v, [i]), registry.get("reference"))[1]
    ]
    assert found, "repaired: take it out of DEFECTS"


# -- the vectors ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> Any:
    with pytest.MonkeyPatch.context() as monkey:
        monkey.syspath_prepend(ROOT / "tools")
        yield importlib.import_module("golden")


@pytest.mark.parametrize("op", WITH_VECTORS, ids=lambda op: op.name)
def test_file_is_what_the_generator_writes(op, generator):
    path = ROOT / "corelib" / "conformance" / "vectors" / f"{op.name}.json"
    assert path.read_text(encoding="utf-8") == generator.text(op.name)


def test_there_is_a_file_for_every_function_and_no_other(generator):
    files = {path.stem for path in (ROOT / "corelib" / "conformance" / "vectors").iterdir()}
    assert files == set(generator.NAMES) == {op.name for op in WITH_VECTORS}


def test_published_worst_cases_are_hard(generator):
    """Their results are within 2**-45 of a number or of the middle between two, relative to the distance of numbers."""
    points = importlib.import_module("golden_points")
    for name, words in points.WORST.items():
        values = {float.fromhex(w) for w in words.split()}
        (v,) = (v for v in vectors(BY_NAME[name]) if v.dtype is float64)
        for i in range(len(v.exact)):
            if v.operands(i)[0] in values:
                left = abs(v.exact[i][1][0])
                assert left < 1e-3 or left >= 0.5, f"{name}{v.operands(i)}: {left}"  # three digits are stored
                values.remove(v.operands(i)[0])
        assert not values


def test_every_function_has_vectors():
    needed = {
        op.name
        for op in OPS
        if op.kind == "elementwise"
        and SUM_BOUND not in (op.ulp, op.ulp_complex)
        and max(op.ulp, op.ulp_complex) > 0.5
    }
    assert needed - {op.name for op in WITH_VECTORS} == set(WITHOUT)


@pytest.mark.parametrize("op", WITH_VECTORS, ids=lambda op: op.name)
def test_in_every_dtype_that_is_computed_in(op):
    wanted = {d for d in op.rule.accepts if d in (float32, float64, complex64, complex128)}
    exact = {d for d in wanted if d.kind == "float" and op.ulp <= 0.5}  # arithmetic, which IEEE 754 defines
    assert wanted - exact <= {v.dtype for v in vectors(op)} <= wanted


def test_cases_hold_the_points():
    (case,) = golden_cases(BY_NAME["exp"], [float32])
    assert case.id == "exp[float32-golden-0]"
    assert case.sample == case.data.sample
    assert case.data.dtype is float32


def test_vectors_are_read_once():
    assert golden.vectors(BY_NAME["sin"]) is golden.vectors(BY_NAME["sin"])
    assert golden.vectors(BY_NAME["add"]) == ()
