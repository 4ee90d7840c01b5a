"""Laws that need no reference: what a kernel gives must not depend on how much it is given at once, or how.

* ``elements``: f(x)[i] = f(x[i]), of one element, of a few, and of the beginning of a vector: kernels have other code
  for the last elements than for whole vectors;
* ``layouts``: the same values in any layout give the same result;
* ``broadcast``: an operand that broadcasts gives what it gives when it is broadcast first;
* ``stack``: an op on a stack is the stack of the op's results, where the op takes leading axes;
* ``commuted``, ``odd``, ``even``: f(a, b) = f(b, a), f(-x) = -f(x), f(-x) = f(x), where the function has it.

An op whose results are correctly rounded (a budget of 1/2 or less) gives the same bits, with the sign of zero. Others
have two correct results that may lie as far from the exact one as the budget says, in different code paths: they may
be twice as far apart, or twice the bound of a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..dispatch import execute
from ..dtypes import DType, int64
from ..op import Op
from ..op import calls as public
from ..samples import Maker, Sample, Values
from ..tensor import Tensor
from .cases import SMOKE, Case, sampled_dtypes
from .check import Suite
from .compare import Disagreement, compare
from .families import BOUNDED, Plan, family
from .layouts import LAYOUTS, laid
from .operands import inexact, mapped, replaced, representable, size, tensors
from .oracle import Expected, budget_of, steps_of
from .place import Result, arguments, results, tensor
from .pools import LENGTHS, Table, form, table

COMMUTATIVE = frozenset((
    "add", "multiply", "maximum", "minimum", "equal", "not_equal", "hypot", "logaddexp", "bitwise_and", "bitwise_or", "bitwise_xor",
    "logical_and", "logical_or", "logical_xor",
))  # fmt: skip
ODD = frozenset(
    ("sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh", "erf", "negative", "trunc", "round")
)
EVEN = frozenset(("cos", "cosh", "abs", "square", "isfinite", "isnan", "isinf"))
LENGTH = 131  # two vectors of 64, and three elements
PARTS = ((0, 1), (1, 3), (0, 7), (3, 34), (0, 32), (0, 33), (1, 66), (64, 131))
PAIRS = (((5, 1, 7), (3, 1)), ((33,), ()), ((), (2, 3)), ((1, 65), (3, 1)), ((2, 1, 3), (2, 4, 1)))
STACKED = 3


def laws(op: Op, dtype: DType) -> list[str]:
    """The laws that an op is tried on in a dtype."""
    if op.kind in ("creation", "random"):
        return []
    if op.kind != "elementwise":
        stacks = op.leading and op.residual is None and _stackable(op, dtype) is not None
        return ["stack"] * stacks + ["layouts"] * (op.residual is None and bool(_sample(op, dtype)))
    f = form(op, dtype)
    if all(len(v.single) == len(v.slots) for v in f.variants):
        return []
    found = ["elements", "layouts"]
    found += ["broadcast"] * (f.broadcasts and len(f.variants[0].slots) == 2)
    found += ["commuted"] * (op.name in COMMUTATIVE)
    real = dtype.kind == "float"
    return found + ["odd"] * (real and op.name in ODD) + ["even"] * (real and op.name in EVEN)


def generate(plan: Plan) -> Iterator[Case]:
    """One case for each law of each op and dtype, and in each variant of its other arguments that there is room for."""
    for op in plan.ops:
        for d, dtype in enumerate(sampled_dtypes(op)):
            if dtype not in (plan.kinds or (SMOKE if plan.profile == "smoke" else (dtype,))):
                continue
            try:
                names = laws(op, dtype)
                variants = len(form(op, dtype).variants) if op.kind == "elementwise" else 1
            except Exception as error:  # samples that fail are a case that fails
                yield Case(
                    op, dtype, "identity", 0, problem=f"its samples raised {type(error).__name__}: {error}"
                )
                continue
            for name in names:
                for number in range(variants) if plan.profile == "full" else (d % variants,):
                    named = form(op, dtype).variants[number].named if op.kind == "elementwise" else ()
                    yield Case(op, dtype, "identity", number, placement=name, data=Law(named))


class Law:
    """What is known of a case beside its name: ``dtypes``, those that its call names."""

    def __init__(self, dtypes: tuple[DType, ...]) -> None:
        self.dtypes = dtypes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Law) and other.dtypes == self.dtypes

    def __hash__(self) -> int:
        return hash(self.dtypes)

    def __repr__(self) -> str:
        return ", ".join(d.name for d in self.dtypes)


@family("identity", level=1, profiles=BOUNDED, generate=generate)
def check(suite: Suite, case: Case) -> float:
    """The law of the case holds on the backend under test."""
    return _CHECKS[case.placement](suite, case)


# -- element-wise ops ----------------------------------------------------------------------------------------


def _known(suite: Suite, case: Case, length: int = LENGTH) -> tuple[Table, list[tuple[int, ...]]]:
    """The pools of the op, and so many combinations of their places."""
    known = table(suite.oracle, case.op, case.dtype, case.number)
    free = [
        p
        for s, p in zip(known.variant.slots, known.variant.pools, strict=True)
        if s not in known.variant.single
    ]
    return known, [tuple((7 * case.number + i) % len(p) for p in free) for i in range(length)]


def _run(suite: Suite, case: Case, sample: Sample) -> list[Result]:
    args, kwargs = arguments(case.op, sample, suite.backend)
    return results(case.op.fn(*args, **kwargs))


def _shaped(sample: Sample, shape: tuple[int, ...]) -> Sample:
    """The sample of vectors with another shape."""
    return replaced(sample, lambda v: Values(shape, v.dtype, v.data) if v.shape else v)


def _agree(
    known: Table, keys: Sequence[tuple[int, ...]], want: list[Result], got: list[Result], how: str
) -> float:
    """Two results of the same operands are alike; Disagreement says how they were found."""
    worst = 0.0
    case = known.case(keys)
    assert isinstance(case.sample, Sample)
    budget = budget_of(case.op, case.sample, want)
    for w, g in zip(want, got, strict=True):
        flat = Result((len(keys),), w.dtype, w.data, w.device)
        try:
            worst = max(worst, compare(case, Expected(flat, steps_of(w.dtype, budget, budget)), g))
        except Disagreement as problem:
            raise Disagreement(f"{how}: {problem}") from None
    return worst


def _part(found: list[Result], start: int, stop: int) -> list[Result]:
    return [Result((stop - start,), r.dtype, r.data[start:stop], r.device) for r in found]


def _elements(suite: Suite, case: Case) -> float:
    known, keys = _known(suite, case)
    whole = _run(suite, case, known.case(keys).sample)  # type: ignore[arg-type]
    worst = 0.0
    for start, stop in PARTS:
        got = _run(suite, case, known.case(keys[start:stop]).sample)  # type: ignore[arg-type]
        how = f"elements {start} to {stop - 1} of {LENGTH}, alone, and (expected) all together"
        worst = max(worst, _agree(known, keys[start:stop], _part(whole, start, stop), got, how))
    for i in (*range(0, LENGTH, 7), LENGTH - 1):
        got = _run(suite, case, _shaped(known.case(keys[i : i + 1]).sample, ()))  # type: ignore[arg-type]
        how = f"element {i} of {LENGTH}, as a 0-d tensor, and (expected) among the others"
        worst = max(worst, _agree(known, keys[i : i + 1], _part(whole, i, i + 1), got, how))
    return worst


def _broadcasts(suite: Suite, case: Case) -> float:
    known, keys = _known(suite, case)
    v, worst = known.variant, 0.0
    for shapes in PAIRS:
        parts = [
            Values(shape, dtype, tuple(pool[key[k]] for key in keys[: math.prod(shape)]))
            for k, (shape, dtype, pool) in enumerate(zip(shapes, v.dtypes, v.pools, strict=True))
        ]
        implicit = [tensor(p, suite.backend) for p in parts]
        full = _common(*shapes)
        explicit = [public.broadcast_to(x, full) for x in implicit]
        places = [public.broadcast_to(tensor(_numbered(p), suite.oracle.backend), full) for p in parts]
        both = list(zip(*(keys_of(p, keys, k) for k, p in enumerate(places)), strict=True))
        rest = dict(v.kwargs)
        want, got = (results(case.op.fn(*given, *v.rest, **rest)) for given in (explicit, implicit))
        how = f"shapes {' and '.join(map(str, shapes))} as they are, and (expected) broadcast first"
        worst = max(worst, _agree(known, both, want, got, how))
    return worst


def _numbered(v: Values) -> Values:
    return Values(v.shape, int64, tuple(range(len(v.data))))


def keys_of(places: Tensor, keys: Sequence[tuple[int, ...]], operand: int) -> list[int]:
    """The place in an operand's pool of each element, where ``places`` numbers the elements that were drawn."""
    return [keys[i][operand] for i in results(places)[0].data]


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    return tuple(map(max, (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b))


def _commuted(suite: Suite, case: Case) -> float:
    known, keys = _known(suite, case, math.prod(LENGTHS[2]))
    sample: Any = known.case(keys).sample
    want, got = _run(suite, case, sample), _run(suite, case, Sample(sample.args[::-1], sample.kwargs))
    return _agree(known, keys, want, got, "operands exchanged, and (expected) as they were")


def _reflected(sign: int) -> Callable[[Suite, Case], float]:
    def check(suite: Suite, case: Case) -> float:
        known, keys = _known(suite, case)
        sample: Any = known.case(keys).sample
        plain = _run(suite, case, sample)
        got = _run(
            suite, case, replaced(sample, lambda v: Values(v.shape, v.dtype, tuple(-x for x in v.data)))
        )
        want = [
            Result(r.shape, r.dtype, tuple(-x for x in r.data) if sign < 0 else r.data, r.device)
            for r in plain
        ]
        return _agree(known, keys, want, got, "f(-x), and (expected) " + ("-f(x)" if sign < 0 else "f(x)"))

    return check


# -- any op --------------------------------------------------------------------------------------------------


def _sample(op: Op, dtype: DType) -> Sample | None:
    """The op's largest sample with an axis."""
    own = [replaced(s, representable) for s in op.samples(Maker(op.name), dtype)]
    return max(
        (s for s in own if any(v.shape and math.prod(v.shape) > 1 for v in tensors(s))),
        key=size,
        default=None,
    )


def _layouts(suite: Suite, case: Case) -> float:
    op, worst = case.op, 0.0
    if op.kind == "elementwise":
        known, keys = _known(suite, case)
        keys = keys[:105]
        sample = _shaped(known.case(keys).sample, (3, 5, 7))  # type: ignore[arg-type]
        plain = _run(suite, case, sample)
    else:
        sample = _sample(op, case.dtype)  # type: ignore[arg-type,assignment]
        plain = _run(suite, case, sample)
        wanted = _doubled(suite, case, sample, plain)
    for layout in LAYOUTS[1:]:
        if layout == "repeated":  # other values: the grid's
            continue
        args, kwargs = mapped(sample, lambda v, layout=layout: laid(v, suite.backend, layout))
        found = results(op.fn(*args, **kwargs))
        if op.kind == "elementwise":
            flat = [Result((len(keys),), r.dtype, r.data, r.device) for r in found]
            worst = max(worst, _agree(known, keys, plain, flat, f"the layout {layout}, and (expected) plain"))
            continue
        worst = max(worst, _same(case, sample, wanted, found, f"the layout {layout}, and (expected) plain"))
    return worst


def _doubled(suite: Suite, case: Case, sample: Sample, plain: list[Result]) -> list[Expected]:
    """The backend's own results as what others are measured against: both may be off, so twice as far."""
    named = Case(case.op, case.dtype, "value", 0, sample)
    expected = suite.asked(suite.oracle._value, named)
    suite.same_kind([e.result for e in expected], plain)
    return [
        Expected(mine, 2 * e.ulp, None if e.bounds is None else [2 * b for b in e.bounds], e.units, e.largest)
        for e, mine in zip(expected, plain, strict=True)
    ]


def _same(case: Case, sample: Sample, wanted: list[Expected], found: list[Result], how: str) -> float:
    named = Case(case.op, case.dtype, "value", 0, sample)
    try:
        return max((compare(named, w, f) for w, f in zip(wanted, found, strict=True)), default=0.0)
    except Disagreement as problem:
        raise Disagreement(f"{case.op.name}{sample!r}, {how}: {problem}") from None


def _stackable(op: Op, dtype: DType) -> Sample | None:
    """The largest sample whose tensors have equally many axes."""
    own = [replaced(s, representable) for s in op.samples(Maker(op.name), dtype)]
    fits = [s for s in own if len({len(v.shape) for v in tensors(s)}) == 1 and size(s) and not _flattens(s)]
    return max(fits, key=size, default=None)


def _flattens(sample: Sample) -> bool:
    """Whether ``axis=None`` is about all axes there are, or about none."""
    return sample.kwargs.get("axis", 0) is None


def _stack(suite: Suite, case: Case) -> float:
    op, worst = case.op, 0.0
    sample = _stackable(op, case.dtype)  # type: ignore[arg-type]
    assert sample is not None
    several = [replaced(sample, lambda v, k=k: _turned(op, v, k)) for k in range(STACKED)]
    bound = [op.bind(*arguments(op, s, suite.backend)[0], **sample.kwargs) for s in several]
    params = {k: v for k, v in bound[0][1].items() if k != op.device_param}  # axes counted from the end
    singles = [results(execute(op, tuple(operands), params)) for operands, _ in bound]
    stacks = [public.stack(list(column)) for column in zip(*(operands for operands, _ in bound), strict=True)]
    together = results(execute(op, tuple(stacks), params))
    for k, (s, single) in enumerate(zip(several, singles, strict=True)):
        found = []
        for whole, one in zip(together, single, strict=True):
            if whole.shape != (STACKED, *one.shape):
                raise Disagreement(
                    f"{op.name} of a stack of {STACKED} is {whole.dtype.name}{list(whole.shape)}, of one {list(one.shape)}"
                )
            n = len(one.data)
            found.append(Result(one.shape, whole.dtype, whole.data[k * n : (k + 1) * n], whole.device))
        how = f"number {k} of a stack of {STACKED}, and (expected) alone"
        worst = max(worst, _same(case, s, _doubled(suite, case, s, single), found, how))
    return worst


def _turned(op: Op, v: Values, k: int) -> Values:
    """Other values of the same kind: a matrix by a power of two, so that it is as easy; of others, some left out and
    some twice.
    """
    if op.group == "linalg" and inexact(v.dtype):
        return Values(v.shape, v.dtype, tuple(x * 2.0**-k for x in v.data))
    left = v.data[k * (len(v.data) // STACKED) :]
    return Values(v.shape, v.dtype, (left * STACKED)[: len(v.data)])


_CHECKS: dict[str, Callable[[Suite, Case], float]] = {
    "elements": _elements, "layouts": _layouts, "broadcast": _broadcasts, "stack": _stack, "commuted": _commuted,
    "odd": _reflected(-1), "even": _reflected(1),
}  # fmt: skip
