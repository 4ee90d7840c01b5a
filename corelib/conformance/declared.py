"""The families whose cases follow from the declarations of the ops: samples of their values, special values,
layouts, gradients, the laws of differentiation, and mistakes (``cases.py``).
"""

from __future__ import annotations

import re
from typing import Any

from ..backend import Backend
from ..errors import UnsupportedError
from ..samples import ErrorSample, Maker, Sample, Values
from .cases import Case, planned
from .check import Suite
from .compare import Disagreement, compare
from .derivatives import agree, gradient_limit, largest, same_kind
from .families import BOUNDED, Generate, family
from .laws import check_laws
from .oracle import as_run, cotangents, gradients, predictions
from .place import Result, another, arguments, results, tensor
from .residuals import limit, residuals


def _of(what: str) -> Generate:
    """The generator of one of the families here."""
    return lambda plan: (c for c in planned(plan) if c.what == what)


# -- values ----------------------------------------------------------------------------------------------


@family("value", level=1, profiles=BOUNDED, generate=_of("value"))
@family("special", level=1, profiles=BOUNDED, generate=_of("special"))
@family("layout", level=1, profiles=BOUNDED, generate=_of("layout"))
def values(suite: Suite, case: Case) -> float:
    """The results are the reference's, within the op's budget, or have small residuals; operands are unchanged."""
    sample = as_run(case)
    args, kwargs = arguments(case.op, sample, suite.backend, case.placement)
    found = results(case.op.fn(*args, **kwargs))
    suite.unchanged(sample, (args, kwargs))
    return judged(suite, case, found)


def judged(suite: Suite, case: Case, found: list[Result]) -> float:
    """How far the results of a case are from the reference's, or how large their residuals are; Disagreement beyond
    the budget.
    """
    if case.op.residual is not None:
        sample, device = as_run(case), suite.oracle.backend.device
        specs = predictions(case.op, sample, suite.oracle.backend)
        suite.same_kind([Result(shape, dtype, (), device) for shape, dtype in specs], found)
        return _residual(suite, case, sample, found)
    expected = suite.asked(suite.oracle.value, case)
    suite.same_kind([e.result for e in expected], found)
    return max((compare(case, e, got) for e, got in zip(expected, found, strict=True)), default=0.0)


def _residual(suite: Suite, case: Case, sample: Sample, found: list[Result]) -> float:
    """The largest residual as a share of the budget, in ULP."""
    allowed = limit(case.op, sample, found)
    sizes = suite.asked(lambda case: residuals(case.op, sample, found, suite.oracle.backend), case)
    for n, size in enumerate(sizes):
        if not size <= allowed:
            raise Disagreement(f"residual {n} is {size:.3g}, allowed: {allowed:.3g}")
    return max(sizes, default=0.0) / allowed * float(case.op.ulp) if allowed else 0.0


# -- gradients -------------------------------------------------------------------------------------------


@family("gradient", level=2, profiles=BOUNDED, generate=_of("gradient"))
def gradient(suite: Suite, case: Case) -> float:
    """The gradients of the operands are the reference's, and of the operands' shapes, dtypes and device."""
    assert isinstance(case.sample, Sample) and case.dtype is not None
    expected = suite.asked(suite.oracle.gradient, case)
    found, got = gradients(case, case.sample, suite.backend)
    same_kind(case, got, suite.backend.device)
    return agree(expected, got, scale=largest(cotangents(case, found)), limit=gradient_limit(case))


@family("laws", level=3, profiles=("standard", "full"), generate=_of("laws"), reference_only=True)
def laws(suite: Suite, case: Case) -> None:
    """The derivative rule keeps the laws of ``laws.py``.

    Rules call public ops, the same on every backend: the laws are checked where arithmetic is most exact.
    """
    problem = check_laws(case, suite.oracle.backend)
    if problem:
        raise Disagreement(problem)


# -- mistakes --------------------------------------------------------------------------------------------


@family("error", level=0, profiles=BOUNDED, generate=_of("error"))
def errors(suite: Suite, case: Case) -> None:
    """The mistake is refused with the declared class and words, and exactly as the reference refuses it."""
    assert isinstance(case.sample, ErrorSample)
    wanted = _refusal(case, case.sample, suite.oracle.backend)
    if not isinstance(wanted, Exception):
        raise Disagreement(f"the reference does not refuse {wanted}")
    got = _refusal(case, case.sample, suite.backend)
    if not isinstance(got, Exception):
        raise Disagreement(f"not refused: {got}; expected {case.sample.error.__name__}")
    for error in (wanted, got):
        if not isinstance(error, case.sample.error) or not re.search(case.sample.words, str(error)):
            raise Disagreement(
                f"raised {type(error).__name__}: {error}; expected {case.sample.error.__name__} with the words {case.sample.words!r}"
            )
    here, there = f"'{suite.backend.device}'", f"'{suite.oracle.backend.device}'"
    if (type(got), str(got).replace(here, there)) != (type(wanted), str(wanted).replace(here, there)):
        raise Disagreement(
            f"{type(got).__name__}: {got}; the reference says {type(wanted).__name__}: {wanted}"
        )


def _refusal(case: Case, mistake: ErrorSample, backend: Backend) -> Any:
    """The exception that the mistake raises on a backend, or a description of the call if it raises none."""
    sample = mistake.build(Maker(case.op.name))
    args, kwargs = arguments(case.op, sample, backend)
    if case.placement == "elsewhere":
        second = [i for i, a in enumerate(sample.args) if isinstance(a, Values)][1]
        args[second] = tensor(sample.args[second], another(backend))
    try:
        case.op.fn(*args, **kwargs)
    except UnsupportedError:
        raise
    except Exception as error:
        return error
    return repr(sample)
