"""Random programs: several ops on several tensors, differentiated at the end, against the reference.

What passes op by op may fail in a chain: a view of a view, a result that is read twice, a cotangent that is summed
into two operands. A program is drawn from the seed and its number alone, by a function that asks for choices
(:func:`program`), so that Hypothesis can make the choices as well; in profile ``soak`` there is no last one.

There are two kinds, which are judged by two arguments:

* exact programs compute with small integers, in floating dtypes too: no result is rounded, so results agree
  bit for bit. Their gradients may be fractions (equal extremes share the cotangent). Each gradient op rounds a term
  a few times, and terms are added in any order, so the error is at most ``(8 steps + 2 n) u M``, where n is the largest
  number of elements and M bounds the sum of all terms' magnitudes; M is found by going back through the
  program with bounds in place of numbers (:func:`majorant`).
* other programs are smooth. Their condition is measured and not guessed: the reference runs them in float64, and some
  times more with each result that an op computes disturbed at random by its budget in ULP of the
  dtype under test, forwards and backwards (:class:`Noisy`). How far the end moves is what correct rounding errors may
  do; a backend may be SAFETY times as far off, in the largest element of a result.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

from .. import dtypes
from ..autograd import vjp
from ..backend import Backend, KernelSet, Overlay
from ..dtypes import DType, float32, float64
from ..op import BY_NAME, SUM_BOUND, calls
from ..registry import registry
from ..samples import Values
from ..tensor import Tensor
from .building import OPS, Program, Step, program
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .families import Plan, family
from .layouts import laid
from .operands import inexact
from .place import Result, results, tensor

COUNTS = {"smoke": 30, "standard": 600, "full": 6000}
SAFETY = 64.0  # of a tolerance that is measured in few runs: their largest deviation is about one and a half standard ones
RUNS = 3


def generate(plan: Plan) -> Iterator[Case]:
    """The programs of a plan that has all ops that they are made of; without end in profile ``soak``."""
    if not {BY_NAME[name] for name in OPS} <= set(plan.ops):
        return
    number = 0
    while plan.profile == "soak" or number < COUNTS[plan.profile]:
        drawn = program(random.Random(f"program {plan.seed} {number}").choice)
        dtype = drawn.inputs[0].dtype
        if plan.kinds is None or dtype in plan.kinds:
            yield Case(
                None, dtype, "program", number, placement="exact" if drawn.exact else "smooth", data=drawn
            )
        number += 1


# -- running -------------------------------------------------------------------------------------------------


def run(
    drawn: Program, backend: Backend, dtype: DType | None = None, through: Callable[..., Any] | None = None
) -> list[Result]:
    """The results of a program, then the gradients of its inputs where they have any; in another dtype if given.
    ``through``: what is done to the function of the inputs before it is called.
    """
    given = [
        laid(v if dtype is None else Values(v.shape, dtype, v.data), backend, name)
        for v, name in zip(drawn.inputs, drawn.layouts, strict=True)
    ]

    def ends(*inputs: Tensor) -> list[Tensor]:
        found = list(inputs)
        for s in drawn.steps:
            found.append(_run(s, [found[i] for i in s.args], backend))
        return [found[i] for i in drawn.ends]

    def all_of_it(*inputs: Tensor) -> list[Tensor]:
        if not inexact(inputs[0].dtype):
            return ends(*inputs)
        found, pullback = vjp(ends, *inputs)
        weights = [
            Values(tuple(y.shape), y.dtype, tuple(float((i + k) % 5 - 2) for i in range(y.size)))
            for k, y in enumerate(found)
        ]
        return [*found, *pullback([tensor(w, backend) for w in weights])]

    return results((all_of_it if through is None else through(all_of_it))(*given))


def _run(s: Step, operands: list[Tensor], backend: Backend) -> Tensor:
    if s.op == "getitem":
        return operands[0][tuple(slice(c.start, c.stop, c.step) for c in s.given)]
    if s.op == "choose":
        a, b = operands
        return calls.where(getattr(calls, s.given[0])(a, b), a, b)
    given = s.given
    if s.op == "take":
        given = (tensor(Values((len(given[0]),), dtypes.int64, given[0]), backend),)
    return getattr(calls, s.op)(*([operands] if s.many else operands), *given, **dict(s.params))


# -- judging -------------------------------------------------------------------------------------------------


@family("program", level=2, generate=generate, by_op=False)
def check(suite: Suite, case: Case) -> None:
    """Results and gradients are the reference's, within what the kind of program allows."""
    judge(suite, case, run(case.data, suite.backend))


def judge(suite: Suite, case: Case, found: list[Result]) -> None:
    """Disagreement unless what a program of a case gave is the reference's, within what its kind allows."""
    drawn: Program = case.data
    reference = suite.oracle.backend
    if drawn.exact:
        wanted = run(drawn, reference)
        allowed = [0.0] * len(drawn.ends) + majorant(drawn)
    else:
        wanted = run(drawn, reference, float64)
        allowed = _deviations(drawn, wanted, reference)
    for n, (w, g, far) in enumerate(zip(wanted, found, allowed, strict=True)):
        k = n - len(drawn.ends)
        name = f"t{drawn.ends[n]}" if k < 0 else f"the gradient of t{k}"
        dtype = w.dtype if drawn.exact else case.dtype
        if g.shape != w.shape or g.dtype is not dtype or g.device != suite.backend.device:
            raise Disagreement(
                f"{name} is {g.dtype.name}{list(g.shape)} on {g.device!r}, expected {dtype.name}{list(w.shape)}: {drawn}"  # type: ignore[union-attr]
            )
        for i, (e, a) in enumerate(zip(w.data, g.data, strict=True)):
            if not abs(e - a) <= far:
                raise Disagreement(
                    f"element {i} of {name} is {a!r}, expected {e!r} within {far:.3g}: {drawn}"
                )


def majorant(drawn: Program) -> list[float]:
    """Of an exact program, how far the gradient of each input may be off (see the head of this module)."""
    if not inexact(drawn.inputs[0].dtype):
        return []
    counts = [max(math.prod(s), 1) for s in drawn.shapes]
    sums = [2.0 if i in drawn.ends else 0.0 for i in range(len(counts))]  # cotangents are -2 to 2
    for y in range(len(counts) - 1, len(drawn.inputs) - 1, -1):
        s = drawn.steps[y - len(drawn.inputs)]
        for k, x in enumerate(s.args):
            fan = max(
                counts[y] // counts[x], 1
            )  # how many of the result's elements an operand's element is in
            slope = 1.0
            if s.op in ("multiply", "matmul"):
                slope = drawn.bounds[s.args[1 - k]]
            elif s.op == "square":
                slope = 2 * drawn.bounds[x]
            if s.op in ("matmul", "cumulative_sum"):
                fan = counts[y]
            elif s.op == "take":
                fan = len(s.given[0])
            elif s.op == "concat":
                fan = 1
            sums[x] += sums[y] * slope * fan
    u = drawn.inputs[0].dtype.eps / 2
    return [(8 * len(drawn.steps) + 2 * max(counts)) * u * m for m in sums[: len(drawn.inputs)]]


class Noisy(Overlay):
    """The reference with each floating result that an op computes off by up to its budget (of a sum: each term), in ULP
    of float32; a result that is exact, or has only been moved, stays.
    """

    kernels = KernelSet()
    draw = random.Random(0)

    def find(self, op: Any, dtype: Any) -> Any:
        """The reference's kernel, and noise."""
        kernel = self.base.find(op, dtype)
        if kernel is None or op.moves or op.ulp == 0 or dtype is not float64:
            return kernel
        size = (1.0 if op.ulp == SUM_BOUND else max(op.ulp, 0.5)) * float32.eps

        def noisy(*operands: Any, **params: Any) -> Any:
            if op.ulp == SUM_BOUND:
                operands = tuple(self._disturbed(o, size) if hasattr(o, "shape") else o for o in operands)
            return self._disturbed(kernel(*operands, **params), size)

        return noisy

    def _disturbed(self, array: Any, size: float) -> Any:
        if array.dtype is not float64:
            return array
        numbers = float64.unpack(self.base.to_host(array)) if math.prod(array.shape) else []
        moved = [x * (1 + size * self.draw.uniform(-1, 1)) for x in numbers]
        return self.base.from_host(float64.pack(moved), array.shape, float64)


def _deviations(drawn: Program, wanted: list[Result], reference: Backend) -> list[float]:
    """For each result and gradient of a smooth program, how far a backend's may be off in any element."""
    u = drawn.inputs[0].dtype.eps
    seen = [0.0] * len(wanted)
    backend = Noisy("noisy", 0)
    backend.base = reference
    registry.attach(backend)
    for k in range(RUNS):
        backend.draw = random.Random(k)
        for n, (r, w) in enumerate(zip(run(drawn, backend, float64), wanted, strict=True)):
            seen[n] = max([seen[n], *(abs(a - e) for a, e in zip(r.data, w.data, strict=True))])
    largest = [max(map(abs, w.data), default=0.0) for w in wanted]
    return [SAFETY * d * (u / float32.eps) + 16 * u * m for d, m in zip(seen, largest, strict=True)]
