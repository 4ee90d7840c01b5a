"""Ops and random programs under ``vmap``: each example gets what it gets alone.

* ``mapped``: an op. Batching runs it on a stack of examples: by one more axis, by a rule of the op's, or by its body.
  Whichever it is, each example is judged as a value of the op is, against the reference and under the same budget.
* ``mapped_program``: a random program and its gradients, which are per-sample gradients then, judged as the program is.

Forward mode has a family of its own, ``dot``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, islice
from typing import Any

from ..dispatch import reissue
from ..dtypes import HALF
from ..op import calls
from ..samples import Maker, Sample
from ..tensor import Tensor
from ..transforms import vmap
from . import programs
from .cases import Case, planned
from .check import Suite
from .declared import judged
from .derivatives import UNHURRIED, sample_of
from .families import Plan, family
from .operands import replaced, representable, size, tensors
from .place import Result, arguments, results

PROGRAMS = {"standard": 200, "full": 2000}


def _pairs(plan: Plan) -> Iterator[Case]:
    """Samples and, in ``data``, others of the same shapes and parameters: two examples of one batch. The first and the
    largest of each dtype; the largest also with its first operand alone mapped. Every one in profile full.
    """
    values = [c for c in planned(plan) if c.what == "value" and not c.problem and c.op.operands]
    for (op, dtype), group in groupby(values, key=lambda c: (c.op, c.dtype)):
        if op.data_dependent:
            continue
        others = {
            repr(s): s
            for s in (replaced(s, representable) for s in op.samples(Maker(f"{op.name} again"), dtype))
        }
        found = [c for c in group if repr(c.sample) in others]
        largest = max(found, key=lambda c: size(sample_of(c)), default=None)
        if plan.profile != "full":
            found = [c for c in found if c is largest or c is found[0] and dtype not in HALF]
        number = 0
        for case in found:
            alone = case is largest and len(tensors(sample_of(case))) > 1
            for placement in ("all", "first") if alone else ("all",):
                other = others[repr(case.sample)]
                yield Case(op, dtype, "mapped", number, case.sample, placement, data=other)
                number += 1


@family("mapped", level=1, profiles=UNHURRIED, generate=_pairs)
def mapped(suite: Suite, case: Case) -> float:
    """Each example's results are the reference's, within the op's budget; the same for operands that are shared."""
    op, backend = case.op, suite.backend
    bound = []
    for sample in (sample_of(case), case.data):
        args, kwargs = arguments(op, sample, backend)
        bound.append(op.bind(*args, **kwargs))
    (first, params), (second, _) = bound
    at = [i for i, x in enumerate(first) if isinstance(x, Tensor)]
    at = at[:1] if case.placement == "first" else at
    stacked = [calls.stack([first[i], second[i]]) if i in at else x for i, x in enumerate(first)]
    axes = tuple(0 if i in at else None for i in range(len(stacked)))

    def of_one(*operands: Any) -> Any:
        itself = op.unchanged is not None and not op.params  # conj and real of real numbers call no kernel
        return op.fn(*operands) if itself else reissue(op, operands, params)

    whole = results(vmap(of_one, axes)(*stacked))
    worst = 0.0
    for i, sample in enumerate((sample_of(case), _mixed(case) if case.placement == "first" else case.data)):
        found = [_example(r, i) for r in whole]
        worst = max(
            worst, judged(suite, replace(case, sample=sample, placement=f"{case.placement}-{i}"), found)
        )
    return worst


def _example(result: Result, i: int) -> Result:
    """Results of one of the two examples."""
    half = len(result.data) // 2
    return Result(result.shape[1:], result.dtype, result.data[i * half : (i + 1) * half], result.device)


def _mixed(case: Case) -> Sample:
    """The sample with the first tensor of the other one."""
    first = tensors(case.data)[0]
    seen: list[Any] = []

    def choose(v: Any) -> Any:
        seen.append(v)
        return first if len(seen) == 1 else v

    return replaced(sample_of(case), choose)


# -- programs ------------------------------------------------------------------------------------------------


def _programs(plan: Plan) -> Iterator[Case]:
    for case in islice(programs.generate(plan), PROGRAMS.get(plan.profile)):
        yield replace(case, what="mapped_program")


@family("mapped_program", level=2, profiles=(*UNHURRIED, "soak"), generate=_programs, by_op=False)
def mapped_program(suite: Suite, case: Case) -> None:
    """One of two examples is the program's; in every other program, all inputs but the first are shared."""

    def through(fn: Any) -> Any:
        def call(*inputs: Tensor) -> Any:
            alone = case.number % 2 == 1
            axes = tuple(None if alone and i else 0 for i in range(len(inputs)))
            batch = [
                x if a is None else calls.stack([calls.flip(x), x]) for x, a in zip(inputs, axes, strict=True)
            ]
            return [y[1] for y in vmap(fn, axes)(*batch)]

        return call

    programs.judge(suite, case, programs.run(case.data, suite.backend, through=through))
