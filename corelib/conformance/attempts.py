"""One call of one op that can be varied: what shrinking works on.

A case of the suite may make many calls and compare them in its family's way. An attempt is a single call with
nothing around it: an op, its operands in their layouts, and whether values or gradients are looked at; it fails if
the suite's comparison says so, with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..backend import Backend
from ..dtypes import DType
from ..errors import UnsupportedError
from ..op import Op
from ..samples import Sample, Values
from ..tensor import Tensor
from . import grid
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .compare import compare as compared
from .declared import _residual
from .derivatives import agree, gradient_limit, largest, pulled, same_kind
from .golden import Vectors, check_vectors
from .layouts import laid, repeat
from .operands import inexact, mapped, tensors
from .oracle import Oracle, as_run, predictions, widened
from .place import Result, results

PLAIN = "plain"
COTANGENTS = ("ones", "ramp", "random")
_RAISED = re.compile(r"raised (\w+)")
_KINDS = (
    "the sign differs",
    "was written to",
    "results, expected",
    "the result is",
    "residual",
    "not refused",
)


@dataclass(frozen=True)
class Attempt:
    """A call, and what of it is compared. ``layouts``: of each tensor of the sample. ``cotangent``: "" for values,
    one of COTANGENTS for gradients. ``special``: operands are infinities and the like, of which a composite is asked
    what its primitives give. ``point``: the golden vector by which the result is judged.
    """

    op: Op
    dtype: DType
    sample: Sample
    layouts: tuple[str, ...]
    cotangent: str = ""
    special: bool = False
    point: Vectors | None = None

    @property
    def case(self) -> Case:
        """The call as a case."""
        return Case(self.op, self.dtype, "special" if self.special else "value", 0, self.sample)


def attempts(case: Case, backend: Backend) -> Iterator[Attempt]:
    """The calls of a case, each as an attempt for its values and, where it is about derivatives, for its gradients."""
    if case.op is None or case.dtype is None or case.problem:
        return
    if isinstance(case.data, Vectors):
        for i in range(len(case.data.exact)):
            point = case.data.at([i])
            yield Attempt(
                case.op, case.dtype, point.sample, (PLAIN,) * len(tensors(point.sample)), point=point
            )
        return
    if isinstance(case.data, grid.Cell):
        for sample, names in grid.calls(case):
            yield Attempt(case.op, case.dtype, sample, tuple(names))
        return
    if not isinstance(case.sample, Sample):
        return
    known = {
        "": PLAIN,
        "reversed": "reversed",
        "transposed": "transposed",
        "gaps": "gaps",
        "repeated": "repeated",
    }
    sample = as_run(case)
    layout = known.get(case.placement, PLAIN) if case.what == "layout" else PLAIN
    plain = Attempt(
        case.op, case.dtype, sample, (layout,) * len(tensors(sample)), special=case.what == "special"
    )
    yield plain
    if any(inexact(v.dtype) for v in tensors(sample)) and case.op.derivative.kind != "nondiff":
        yield from (replace(plain, cotangent=c) for c in COTANGENTS)


def judge(attempt: Attempt, suite: Suite) -> str:
    """Why an attempt fails; empty where it passes, is unsupported, or is no call that the reference answers."""
    suite.oracle = (
        Oracle()
    )  # an oracle remembers answers by the ids of cases; attempts have none of their own
    try:
        if attempt.point is not None:
            return next(map(str, check_vectors(attempt.point, suite.backend)[1]), "")
        (_gradients if attempt.cotangent else _values)(attempt, suite)
    except _NoAnswerError:
        return ""
    except (Disagreement, AssertionError) as error:
        return str(error)
    except UnsupportedError:
        return ""
    except (Exception, SystemExit) as error:
        return f"raised {type(error).__name__}: {error}"
    return ""


class _NoAnswerError(Exception):
    """The reference refuses the call: nothing can be said of anybody else's answer."""


def _values(attempt: Attempt, suite: Suite) -> None:
    """As the family ``value`` does it, with a layout for each operand."""
    op, sample, case = attempt.op, attempt.sample, attempt.case
    reference = suite.oracle.backend
    try:
        judged = op.residual is not None
        expected = [] if judged else suite.oracle.value(case)
        specs = predictions(op, sample, reference) if judged else []
    except Exception as error:
        raise _NoAnswerError from error
    args, kwargs = given(attempt, suite.backend)
    found = results(op.fn(*args, **kwargs))
    suite.same_kind(
        [Result(s, d, (), reference.device) for s, d in specs] or [e.result for e in expected], found
    )
    suite.unchanged(sample, (args, kwargs))
    if judged:
        _residual(suite, case, sample, found)
    for e, got in zip(expected, found, strict=False):
        compared(case, e, got)


def _gradients(attempt: Attempt, suite: Suite) -> None:
    """As the family ``gradient`` does it, with a cotangent that is easily written."""
    case, seen = attempt.case, []

    def change(n: int, g: Values) -> Values:
        seen.append(cotangent(attempt.cotangent, g))
        return seen[-1]

    try:
        expected = pulled(case, widened(attempt.sample), suite.oracle.backend, change)
    except Exception as error:
        raise _NoAnswerError from error
    got = pulled(case, attempt.sample, suite.backend, change)
    same_kind(case, got, suite.backend.device)
    agree(expected, got, scale=largest(seen), limit=gradient_limit(case))


def cotangent(how: str, g: Values) -> Values:
    """A cotangent of a kind, like a random one: all ones, 1 2 3 and so on, or the random one."""
    if how == "random":
        return g
    number = complex if g.dtype.kind == "complex" else float
    count = math.prod(g.shape)
    return Values(g.shape, g.dtype, tuple(number(1 if how == "ones" else 1 + i % 7) for i in range(count)))


def given(attempt: Attempt, backend: Backend) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an attempt on a backend."""
    each = iter(attempt.layouts)

    def placed(v: Values) -> Tensor:
        layout = next(each)
        axis = repeats(v) if layout == "repeated" else None
        return laid(v, backend, PLAIN if layout == "repeated" and axis is None else layout, axis or 0)

    args, kwargs = mapped(attempt.sample, placed)
    if attempt.op.device_param:
        kwargs[attempt.op.device_param] = backend
    return args, kwargs


def repeats(v: Values) -> int | None:
    """The first axis of several elements along which values repeat, bit for bit; None if there is none."""
    axes = (a for a, n in enumerate(v.shape) if n > 1)
    return next((a for a in axes if repr(repeat(v, a).data) == repr(v.data)), None)


def kind(reason: str) -> str:
    """What sort of failure a reason tells of: shrinking must not end at another one."""
    raised = _RAISED.search(reason)
    if raised:
        return raised.group()
    found = next((k for k in _KINDS if k in reason), "")
    return found or ("not finite" if re.search(r"\b(nan|inf)\b|nanj|infj", reason) else "number")


__all__ = ["Attempt", "attempts", "cotangent", "given", "judge", "kind", "repeats"]
