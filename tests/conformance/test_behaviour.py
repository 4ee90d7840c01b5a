"""The families about what surrounds the values: refusals, promotion, aliasing, memory, determinism, threads."""

from __future__ import annotations

import itertools
import os
import random
import re
from typing import Any

import pytest
from planting import call, elements, remade, run

from corelib import dtypes
from corelib.conformance import FAMILIES, Plan, cases, check, concurrency, find
from corelib.conformance.check import UNSUPPORTED
from corelib.op import BY_NAME, OPS
from corelib.registry import backends, registry

ABOUT_NO_OP = ("refusal", "exhaustion", "parts", "crowd")
BY_OP = ("promotion", "aliasing", "repeat", "process", "threads")
USABLE = [status.name for status in backends()]
EVERY = [pytest.param(name, marks=pytest.mark.device(name), id=name) for name in USABLE]


def reasons(device: str, *names: str, what: str) -> list[str]:
    return [outcome.reason for outcome in run(device, *names, what=[what]).failures]


def finds(words: str, device: str, *names: str, what: str) -> bool:
    found = reasons(device, *names, what=what)
    assert any(re.search(words, reason) for reason in found), found
    return True


# -- honest backends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ABOUT_NO_OP)
@pytest.mark.parametrize("backend", EVERY)
def test_honest_backends_pass_what_is_about_no_op(backend, what):
    report = check(backend, what=[what])
    assert report.ok, report.text()
    assert report.count(UNSUPPORTED) == 0 or registry.infos[backend].lacks


@pytest.mark.parametrize(
    "op", ["add", "pow", "bitwise_and", "where", "sum", "flip", "scatter", "sort", "full", "solve"]
)
@pytest.mark.parametrize("backend", EVERY)
def test_honest_backends_behave(backend, op):
    report = run(backend, op, what=BY_OP)
    assert report.ok, report.text()


def test_a_few_ops_ask_nothing_that_is_about_no_op():
    assert {c.what for c in cases(Plan((BY_NAME["exp"],)))}.isdisjoint(
        {n for n, f in FAMILIES.items() if not f.by_op}
    )
    assert {c.what for c in cases(Plan(tuple(OPS)), ABOUT_NO_OP)} == set(ABOUT_NO_OP)


@pytest.mark.parametrize("what", [*BY_OP, *ABOUT_NO_OP])
def test_a_case_is_found_again_by_its_id(what):
    plan = Plan((BY_NAME["maximum"],))
    listed = list(cases(plan, [what]))
    assert listed
    for case in (listed[0], listed[-1]):
        assert find(case.id, plan) == case


# -- refusals, promotion, memory -----------------------------------------------------------------------------


def test_what_is_not_refused_is_found(plant):
    def lenient(kernel: Any, x1: Any, x2: Any) -> Any:
        try:
            return kernel(x1, x2)
        except Exception:
            return x1

    found = [o.reason for o in check(plant(matmul=call(lenient)), what=["refusal"]).failures]
    words = "a product of sizes that do not meet: not refused; the reference says ShapeError"
    assert any(words in reason for reason in found), found


def test_a_python_number_in_another_dtype_is_found(plant):
    """A kernel that computes with a Python number in float64, and says so."""
    wide = call(
        lambda k, x1, x2: remade(k(x1, x2), dtype=dtypes.float64) if isinstance(x2, float) else k(x1, x2)
    )
    assert finds(
        "the result is float64, expected float32",
        plant(add=wide),
        "add",
        what="promotion",
    )


def test_a_python_number_of_lost_precision_is_found(plant):
    off = call(lambda k, x1, x2: k(x1, x2 + 1e-9) if isinstance(x2, float) else k(x1, x2))
    assert finds("that of operands cast to float64", plant(multiply=off), "multiply", what="promotion")


def test_a_result_that_is_smaller_than_it_claims_is_found(plant):
    """A lazy device that promises memory it does not have."""
    lazy = call(
        lambda k, *, shape, fill_value, dtype: (
            k(shape=(1,) if 1 << 40 < shape[0] else shape, fill_value=fill_value, dtype=dtype)
            if shape
            else k(shape=shape, fill_value=fill_value, dtype=dtype)
        )
    )
    found = [o.reason for o in check(plant(full=lazy), what=["exhaustion"]).failures]
    assert any("full of 2**60 bytes is not refused" in reason for reason in found), found


def test_large_is_unsupported_where_free_memory_is_not_known():
    report = check("reference", what=["large"])
    assert report.count(UNSUPPORTED) == report.generated > 0
    assert "does not say how much memory is free" in report.outcomes[0].reason


# -- aliasing ------------------------------------------------------------------------------------------------


def test_a_shared_result_buffer_is_found(plant):
    buffers: dict[Any, Any] = {}

    def shared(kernel: Any, x: Any) -> Any:
        found = kernel(x)
        buffer = buffers.setdefault((found.shape, found.dtype), found)
        buffer.data[:] = found.data
        return buffer

    assert finds(
        "after a call with other data, the first result", plant(exp=call(shared)), "exp", what="aliasing"
    )


def test_a_kernel_that_writes_over_an_operand_is_found(plant):
    def overwriting(kernel: Any, x: Any) -> Any:
        found = kernel(x)
        x.data[:] = found.data
        return found

    assert finds("operand 0 was written to", plant(exp=call(overwriting)), "exp", what="aliasing")


def test_an_assignment_that_reaches_a_view_is_found(plant):
    """An in-place update that writes over its operand, whoever else looks at the memory."""

    def update(kernel: Any, x: Any, value: Any, **place: Any) -> Any:
        found = kernel(x, value, **place)
        x.flags.writeable = True
        x[...] = found
        return x

    device = plant("cpu", strided_update=call(update))
    assert finds("after its operands were changed in place, the result", device, "flip", what="aliasing")


# -- determinism ---------------------------------------------------------------------------------------------


def test_a_counter_that_shows_is_found(plant):
    every = itertools.count()

    def drifting(kernel: Any, x: Any) -> Any:
        found, n = kernel(x), next(every)
        return remade(found, data=[v * (1 + 1e-6 * n) for v in found.data])

    assert finds("at call 2", plant(exp=call(drifting)), "exp", what="repeat")


def test_a_global_random_state_is_found(plant):
    noisy = elements(lambda x: x * (1 + 1e-7 * random.random()) if isinstance(x, float) else x)
    assert finds("at call [23]", plant(exp=noisy), "exp", what="repeat")


def test_another_process_with_other_bits_is_found(monkeypatch):
    real = concurrency.digest
    monkeypatch.setattr(
        concurrency, "digest", lambda op, backend: {**real(op, backend), "float32": str(os.getpid())}
    )
    assert finds("a second process gives other bits in float32", "reference", "exp", what="process")


def test_a_backend_of_this_process_alone_has_no_second_one(plant):
    report = run(plant(), "exp", what=["process"])
    assert [o.status for o in report.outcomes] == [UNSUPPORTED]
    assert "registered in this one alone" in report.outcomes[0].reason


@pytest.mark.device("cpu")
def test_a_sum_that_depends_on_the_number_of_threads_is_found(plant):
    import numpy as np

    from corelib_cpu.backend import get_num_threads

    def uneven(kernel: Any, x: Any, **params: Any) -> Any:
        found = kernel(x, **params)
        return np.asarray(found * (1 + 1e-6 * get_num_threads())).astype(found.dtype)

    found = [o.reason for o in check(plant("cpu", sum=call(uneven)), what=["parts"]).failures]
    assert any(
        re.search("sum: the result on 2 threads has other bits than on 1", reason) for reason in found
    ), found


def test_a_race_on_a_scratch_buffer_is_found(plant):
    scratch: list[Any] = [0.0] * 4096

    def racing(kernel: Any, x: Any) -> Any:
        found = kernel(x)
        for i, value in enumerate(found.data):
            scratch[i] = value
        return remade(found, data=scratch[: len(found.data)])

    device = plant(exp=call(racing))
    assert run(device, "exp", what=["repeat"]).ok  # alone it is right
    assert finds("among 8 threads", device, "exp", what="threads")


def test_a_race_between_ops_is_found(plant):
    scratch: list[Any] = [0.0] * 4096

    def racing(kernel: Any, *operands: Any) -> Any:
        found = kernel(*operands)
        for i, value in enumerate(found.data):
            scratch[i] = value
        return remade(found, data=scratch[: len(found.data)])

    device = plant(sin=call(racing), cos=call(racing), tan=call(racing), atan=call(racing))
    report = run(device, "sin", "cos", "tan", "atan", what=["crowd"])
    assert any("among 4 threads" in outcome.reason for outcome in report.failures), report.text()
