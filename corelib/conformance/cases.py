"""A case of the suite, and the cases that follow from the ops' declarations alone.

A case is one call of one op, or something about no single op, with ``data`` in place of a sample. What is made of
it depends on ``what``, the name of its family. Here are generated (and judged in ``declared.py``):

* ``value``: a sample of the op, in each dtype that it accepts;
* ``special``: infinities, NaN, both zeros, the smallest and the largest numbers; and ties;
* ``layout``: a sample whose operands reach the kernel as views: reversed, transposed, with gaps, repeated by
  a stride of 0;
* ``gradient``: a sample in a floating or complex dtype, differentiated in reverse mode with a random cotangent;
* ``laws``: the same on the reference backend alone, against finite differences and against forward mode;
* ``error``: a mistake that must be refused, declared beside the op or following from its rule.

Generation knows no backend: the cases are the same for all, and the report must account for each one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..dtypes import DType
from ..errors import BackendError, DTypeError, ShapeError
from ..op import Op
from ..registry import registry
from ..samples import ErrorSample, Maker, Sample, Values
from .operands import inexact, mapped, replaced, representable, size, tensors
from .specials import specials

if TYPE_CHECKING:
    from .families import Plan

LAYOUTS = ("reversed", "transposed", "gaps", "repeated")


@dataclass(frozen=True)
class Case:
    """One call of an op, or one question about no single op. ``number`` counts within op, dtype and ``what``.

    ``placement`` says how the operands reach the kernel: "" plainly, one of LAYOUTS as such a view,
    "elsewhere" with the second operand on another device; a family may use it for its own variants. ``problem``
    says why there is no sample, when generating it failed. ``data`` is the family's own.
    """

    op: Op | Any  # None: about no single op
    dtype: DType | None
    what: str
    number: int
    sample: Sample | ErrorSample | None = None
    placement: str = ""
    problem: str = ""
    data: Any = None

    @property
    def id(self) -> str:
        """A readable name such as ``exp[float32-value-3]``, or ``programs[17]`` without an op."""
        parts = [
            self.dtype.name if self.dtype else "",
            self.what if self.op else "",
            self.placement,
            str(self.number),
        ]
        return f"{self.subject}[{'-'.join(p for p in parts if p)}]"

    @property
    def subject(self) -> str:
        """The name of the op, or of the family where there is none."""
        return self.op.name if self.op else self.what

    @property
    def shown(self) -> str:
        """The call, as shapes and dtypes."""
        sample = self.sample
        if sample is None:
            return "" if self.data is None else repr(self.data)
        return repr(sample.build(Maker(self.op.name)) if isinstance(sample, ErrorSample) else sample)


# In profile smoke these stand for all: one of each kind.
SMOKE = (dtypes.bool, dtypes.int32, dtypes.float32, dtypes.complex64)
_latest: tuple[Plan, list[Case]] | None = (
    None  # several families are asked one after the other, with the same plan
)


def planned(plan: Plan) -> list[Case]:
    """The cases of a plan that follow from the declarations of its ops; error cases have no dtype and are left
    out when dtypes are named.
    """
    global _latest
    latest = _latest
    if latest is None or latest[0] is not plan:
        latest = _latest = plan, [c for op in plan.ops for c in declared(op, plan.kinds)]
    if plan.profile == "smoke" and plan.kinds is None:
        return [c for c in latest[1] if c.dtype is None or c.dtype in SMOKE]
    return latest[1]


def declared(op: Op, kinds: tuple[DType, ...] | None = None) -> list[Case]:
    """The cases that follow from the declaration of one op. All are made, so that a case has the same number
    whichever are chosen: what one dtype has tried, the next need not.
    """
    found: list[Case] = []
    seen: set[str] = set()
    for dtype in sampled_dtypes(op):
        found += _of_dtype(op, dtype, seen)
    return [*found, *_errors(op)] if kinds is None else [c for c in found if c.dtype in kinds]


def sampled_dtypes(op: Op) -> list[DType]:
    """The dtypes on which an op is tried: those it accepts, and the ones it casts to the default floating
    dtype.
    """
    exact = (*dtypes.BOOLEAN, *dtypes.INTEGER) if op.rule.integers == "float" else ()
    return [*op.rule.accepts, *(d for d in exact if d not in op.rule.accepts)]


def groups(case: Case) -> set[str]:
    """The capability groups that a case needs of a backend (see ``BackendInfo.lacks``)."""
    found = {case.op.group if case.op else ""} - {""}
    sample = case.sample.build(Maker(case.op.name)) if isinstance(case.sample, ErrorSample) else case.sample
    given = [*([case.dtype] if case.dtype else []), *getattr(case.data, "dtypes", ())]
    if sample is not None:
        given += [v.dtype for v in tensors(sample)]
        given += [a for a in (*sample.args, *sample.kwargs.values()) if isinstance(a, DType)]
    if any(d in dtypes.HALF for d in given):
        found.add("half")
    return found | {"complex"} if any(d.kind == "complex" for d in given) else found


def _of_dtype(op: Op, dtype: DType, seen: set[str]) -> Iterator[Case]:
    try:
        samples = list(op.samples(Maker(op.name), dtype))
        for more in registry.manager.hook.conformance_samples(op=op, dtype=dtype):
            samples.extend(more or ())
        samples = [replaced(s, representable) for s in samples]
        if dtype.kind == "complex" and op.kind == "elementwise":
            samples += _all_quadrants(samples)
    except Exception as error:  # a generator that fails is a case that fails
        yield Case(op, dtype, "value", 0, None, problem=f"its samples raised {type(error).__name__}: {error}")
        return
    fresh = _not_seen(samples, seen) if op.rule.joint == () else samples
    fresh = _few(fresh) if dtype in dtypes.HALF and not op.moves else fresh
    for number, sample in enumerate(fresh):
        yield Case(op, dtype, "value", number, sample)
    for number, sample in enumerate(specials(op, dtype, fresh)):
        yield Case(op, dtype, "special", number, sample)
    for number, (layout, sample) in enumerate(layouts(fresh)):
        if dtype not in dtypes.HALF or op.moves:  # otherwise the view reaches no kernel but astype's
            yield Case(op, dtype, "layout", number, sample, layout)
    if op.derivative.kind == "nondiff" or not inexact(dtype):
        return
    for number, sample in enumerate(fresh):
        if any(inexact(v.dtype) for v in tensors(sample)):
            yield Case(op, dtype, "gradient", number, sample)
            if dtype in (dtypes.float64, dtypes.complex128) and not _narrows(sample):
                yield Case(op, dtype, "laws", number, sample)


def _narrows(sample: Sample) -> bool:
    """Whether a sample asks for a result that is too coarse for finite differences."""
    given = (*sample.args, *sample.kwargs.values())
    return any(isinstance(a, DType) and inexact(a) and a.digits < dtypes.float64.digits for a in given)


def _all_quadrants(samples: list[Sample]) -> list[Sample]:
    """The largest sample with its complex numbers turned by multiples of 90 degrees: ranges that suit a real
    domain, such as that of log, lie in one quadrant, and branches differ in the others.
    """
    largest = max(samples, key=size, default=None)
    if largest is None or not size(largest):
        return []
    every = itertools.count()

    def turned(v: Values) -> Values:
        if v.dtype.kind != "complex":
            return v
        period = 4 ** next(every)  # of two operands every combination
        turn = (
            lambda z: z,
            lambda z: complex(-z.imag, z.real),
            lambda z: -z,
            lambda z: complex(z.imag, -z.real),
        )
        return Values(v.shape, v.dtype, tuple(turn[i // period % 4](z) for i, z in enumerate(v.data)))

    return [replaced(largest, turned)]


def _few(samples: list[Sample]) -> list[Sample]:
    """The samples on which an op that computes is tried in float16 and bfloat16: its first, its largest, one
    with nothing in it and one with a Python number as an operand.

    The core runs such an op as its float32 kernel between two casts, so that shapes and parameters are what
    float32 has tried; what is new are the casts, of operands, results, numbers and dtype parameters.
    """
    largest = max(samples, key=size, default=None)
    named = next(
        (s for s in samples if any(isinstance(a, DType) for a in (*s.args, *s.kwargs.values()))), None
    )
    number = next((s for s in samples if any(isinstance(a, int | float) for a in s.args)), None)
    empty = next((s for s in samples if tensors(s) and not size(s)), None)
    chosen = [id(s) for s in (*samples[:1], largest, named, number, empty) if s is not None]
    return [s for s in samples if id(s) in chosen]


def _not_seen(samples: list[Sample], seen: set[str]) -> list[Sample]:
    """Samples that no earlier dtype gave: an op without promoted operands may make the same calls for several
    dtypes.
    """
    fresh = []
    for sample in samples:
        key = repr((sample.args, sample.kwargs))
        if key not in seen:
            seen.add(key)
            fresh.append(sample)
    return fresh


# -- layouts -------------------------------------------------------------------------------------------------


def layouts(samples: Sequence[Sample]) -> list[tuple[str, Sample]]:
    """The sample with the most axes and more than one element, once for each layout; nothing if there is no
    such sample.
    """
    found = [s for s in samples if any(v.shape and math.prod(v.shape) > 1 for v in tensors(s))]
    if not found:
        return []
    chosen = max(found, key=lambda s: max(len(v.shape) * (math.prod(v.shape) > 1) for v in tensors(s)))
    return [(layout, chosen) for layout in LAYOUTS]


# -- mistakes ------------------------------------------------------------------------------------------------


def _errors(op: Op) -> Iterator[Case]:
    number = itertools.count()
    for error in op.errors:
        yield Case(op, None, "error", next(number), error)
    for placement, error in _following(op):
        yield Case(op, None, "error", next(number), error, placement)


def _following(op: Op) -> Iterator[tuple[str, ErrorSample]]:
    """The mistakes that follow from an op's rule and signature: a wrong dtype, shapes that do not broadcast,
    an axis out of range, no tensor, two devices.
    """
    sample = _first_sample(op)
    if sample is None:
        return
    args, kwargs = sample.args, sample.kwargs
    refused = [d for d in dtypes.ALL if d not in op.rule.accepts and op.rule.integers == "refuse"]
    if refused and op.kind not in ("creation", "random"):
        yield (
            "",
            ErrorSample(
                DTypeError, f"{op.name} does not accept", lambda m: _in_dtype(op, sample, refused[0], m)
            ),
        )
    if "complex" not in {d.kind for d in op.rule.accepts} and op.kind not in ("creation", "random"):
        words = f"{op.name} does not accept complex64"
        yield "", ErrorSample(DTypeError, words, lambda m: _in_dtype(op, sample, dtypes.complex64, m))
    annotations = {
        name: str(p.annotation).removesuffix(" | None") for name, p in op.signature.parameters.items()
    }
    if op.kind == "elementwise" and not op.params and not op.variadic and len(op.operands) == 2:
        dtype = widest(op)
        wrong = lambda m: Sample((m.array((2, 3), dtype), m.array((4,), dtype)))
        yield "", ErrorSample(ShapeError, f"{op.name}: shapes .* do not broadcast", wrong)
    if annotations.get("axis") in ("Axis", "Axes") and "axis" in kwargs:
        far = lambda m: Sample(args, {**kwargs, "axis": 99})
        yield "", ErrorSample(ShapeError, f"{op.name}: axis 99 is out of range", far)
    if annotations[op.operands[0]] == "Tensor" and isinstance(args[0], Values):
        text = lambda m: Sample(("text", *args[1:]), kwargs)
        yield "", ErrorSample(DTypeError, f"{op.name}: .* must be a Tensor, got", text)
    if op.primitive and sum(isinstance(a, Values) for a in args) > 1:
        yield "elsewhere", ErrorSample(BackendError, "operands on .* and .*: call x.to", lambda m: sample)


def _in_dtype(op: Op, sample: Sample, dtype: DType, make: Maker) -> Sample:
    """The sample with the operands that are promoted together in another dtype."""
    joint = range(len(op.operands)) if op.rule.joint is None else op.rule.joint
    convert = lambda v: make.array(v.shape, dtype)
    args = [
        mapped(Sample((a,)), convert)[0][0] if op.slot(i) in joint else a for i, a in enumerate(sample.args)
    ]
    return Sample(tuple(args), sample.kwargs)


def _first_sample(op: Op) -> Sample | None:
    """The op's first sample with a tensor in it."""
    try:
        return next((s for s in op.samples(Maker(op.name), widest(op)) if tensors(s)), None)
    except Exception:  # reported as a failing case of its own
        return None


def widest(op: Op) -> DType:
    """The widest dtype that an op accepts and that no backend may lack; of a complex op, complex128."""
    plain = [d for d in op.rule.accepts if d not in dtypes.HALF and d.kind != "complex"]
    return (plain or op.rule.accepts)[-1]
