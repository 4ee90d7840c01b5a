"""Every elementary function at the points where it is hard to compute, against arbitrary precision.

And the vectors themselves: they are what ``tools/golden.py`` writes, and they cover the ops that need them. What gets
past them and what does not: ``tests/saboteurs/test_golden_finds.py``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from corelib.conformance import FAMILIES, Plan, golden
from corelib.conformance.golden import LARGE, check_vectors, golden_cases, vectors
from corelib.dtypes import complex64, complex128, float32, float64
from corelib.op import BY_NAME, OPS, SUM_BOUND
from corelib.registry import backends, registry

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
    "int8_rescale": "an integer, scaled and shifted",
    "lion_update": "sums and products of many operands",
    "ema_update": "sums and products of many operands",
}


# -- the backends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", WITH_VECTORS, ids=lambda op: op.name)
@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.device(name), id=name) for name in BACKENDS if name != "reference"],
)
def test_many_elements_are_within_the_budget(backend, op):
    """Few are tried by profile ``standard``. Not on the reference, which computes one after the other."""
    assert "standard" in FAMILIES["golden"].profiles
    wrong = [w for v in vectors(op) for w in check_vectors(v, registry.get(backend), LARGE)[1]]
    assert [str(w) for w in wrong] == []


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


def test_cases_hold_the_points_in_their_order():
    exp = BY_NAME["exp"]
    found = list(golden_cases(Plan((exp,))))
    assert found[0].id == "exp[float32-golden-0]"
    assert found[0].sample == found[0].data.sample
    for dtype in (float32, float64, complex64):
        (v,) = (v for v in vectors(exp) if v.dtype is dtype)
        points = [c.data.operands(i) for c in found if c.dtype is dtype for i in range(len(c.data.exact))]
        assert points == [v.operands(i) for i in range(len(v.exact))]
        if dtype.kind == "float":
            assert points == sorted(points)
    assert {c.dtype for c in golden_cases(Plan((exp,), profile="smoke"))} == {float32, complex64}
    assert {c.dtype for c in golden_cases(Plan((exp,), (float64,)))} == {float64}
    many = [c for c in golden_cases(Plan((exp,), profile="full")) if c.placement == "many"]
    assert [len(c.data.exact) for c in many] == [len(v.exact) for v in vectors(exp)]


def test_vectors_are_read_once():
    assert golden.vectors(BY_NAME["sin"]) is golden.vectors(BY_NAME["sin"])
    assert golden.vectors(BY_NAME["add"]) == ()
