"""The cases of the suite: every call on which every backend is tried, generated from the ops' declarations
alone.

A case is one call of one op. What is made of it depends on ``what``:

* ``value``: a sample of the op, in each dtype that it accepts;
* ``special``: infinities, NaN, both zeros, the smallest and the largest numbers; and ties;
* ``layout``: a sample whose operands reach the kernel as views: reversed, transposed, with gaps, repeated by
  a stride of 0;
* ``gradient``: a sample in a floating dtype, differentiated in reverse mode with a random cotangent;
* ``laws``: the same on the reference backend alone, against finite differences and against forward mode;
* ``error``: a mistake that must be refused, declared beside the op or following from its rule.

Generation knows no backend: the cases are the same for all, and the report must account for each one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..errors import BackendError, DTypeError, ShapeError
from ..op import OPS, Op
from ..registry import registry
from ..samples import ErrorSample, Maker, Sample, Values

WHATS = ("value", "special", "layout", "gradient", "laws", "error")
LAYOUTS = ("reversed", "transposed", "gaps", "repeated")


@dataclass(frozen=True)
class Case:
    """One call of an op. ``number`` counts within op, dtype and ``what``.

    ``placement`` says how the operands reach the kernel: "" plainly, one of LAYOUTS as such a view,
    "elsewhere" with the second operand on another device. ``problem`` says why there is no sample, when
    generating it failed.
    """

    op: Op
    dtype: DType | None
    what: str
    number: int
    sample: Sample | ErrorSample | None
    placement: str = ""
    problem: str = ""

    @property
    def id(self) -> str:
        """A readable name such as ``exp[float32-value-3]``."""
        parts = [self.dtype.name if self.dtype else "", self.what, self.placement, str(self.number)]
        return f"{self.op.name}[{'-'.join(p for p in parts if p)}]"

    @property
    def shown(self) -> str:
        """The call, as shapes and dtypes."""
        sample = self.sample
        return repr(sample.build(Maker(self.op.name)) if isinstance(sample, ErrorSample) else sample or "")


def cases(
    ops: Iterable[Op] | None = None, kinds: Sequence[DType] | None = None, what: Iterable[str] | None = None
) -> Iterator[Case]:
    """All cases, or those of some ops, dtypes and ``what``; error cases have no dtype and are left out when
    dtypes are named.
    """
    wanted = set(WHATS if what is None else what)
    for op in OPS if ops is None else ops:
        seen: set[str] = set()
        for dtype in sampled_dtypes(op):
            if kinds is None or dtype in kinds:
                yield from (c for c in _of_dtype(op, dtype, seen) if c.what in wanted)
        if kinds is None and "error" in wanted:
            yield from _errors(op)


def sampled_dtypes(op: Op) -> list[DType]:
    """The dtypes on which an op is tried: those it accepts, and the ones it casts to the default floating
    dtype.
    """
    more = [d for d in dtypes.ALL if d not in op.rule.accepts] if op.rule.integers == "float" else []
    return [*op.rule.accepts, *more]


def _of_dtype(op: Op, dtype: DType, seen: set[str]) -> Iterator[Case]:
    try:
        samples = list(op.samples(Maker(op.name), dtype))
        for more in registry.manager.hook.conformance_samples(op=op, dtype=dtype):
            samples.extend(more or ())
    except Exception as error:  # a generator that fails is a case that fails
        yield Case(op, dtype, "value", 0, None, problem=f"its samples raised {type(error).__name__}: {error}")
        return
    fresh = _not_seen(samples, seen) if op.rule.joint == () else samples
    for number, sample in enumerate(fresh):
        yield Case(op, dtype, "value", number, sample)
    for number, sample in enumerate(specials(op, dtype, fresh)):
        yield Case(op, dtype, "special", number, sample)
    for number, (layout, sample) in enumerate(layouts(fresh)):
        yield Case(op, dtype, "layout", number, sample, layout)
    if op.derivative.kind == "nondiff" or dtype not in dtypes.FLOATING:
        return
    for number, sample in enumerate(fresh):
        if any(v.dtype in dtypes.FLOATING for v in tensors(sample)):
            yield Case(op, dtype, "gradient", number, sample)
            if dtype is dtypes.float64 and not _narrows(sample):
                yield Case(op, dtype, "laws", number, sample)


def _narrows(sample: Sample) -> bool:
    """Whether a sample asks for a float32 result, which is too coarse for finite differences."""
    return any(a is dtypes.float32 for a in (*sample.args, *sample.kwargs.values()))


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


# -- walking through samples ---------------------------------------------------------------------------------


def tensors(sample: Sample) -> list[Values]:
    """The tensor operands of a sample, in order."""
    found: list[Values] = []
    mapped(sample, lambda v: found.append(v))
    return found


def mapped(sample: Sample, fn: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a sample with ``fn(values)`` in place of each tensor-to-be."""

    def convert(a: Any) -> Any:
        if isinstance(a, Values):
            return fn(a)
        return type(a)([convert(x) for x in a]) if isinstance(a, list | tuple) else a

    return [convert(a) for a in sample.args], {k: convert(v) for k, v in sample.kwargs.items()}


def replaced(sample: Sample, fn: Any) -> Sample:
    """The sample with ``fn(values)``, again Values, in place of each of its tensors."""
    args, kwargs = mapped(sample, fn)
    return Sample(tuple(args), kwargs)


# -- special values ------------------------------------------------------------------------------------------


def special_values(dtype: DType) -> list[Any]:
    """The numbers of a dtype at which implementations go wrong."""
    if dtype.kind == "bool":
        return [False, True]
    if dtype.kind != "float":
        return sorted(
            {dtype.min, dtype.min + 1, *([-3, -1] if dtype.min else []), 0, 1, 2, 7, dtype.max - 1, dtype.max}
        )
    tiny = dtype.smallest_normal * dtype.eps
    ordinary = [dtype.eps / 2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 2.0**24 + 2]
    positive = [0.0, tiny, dtype.smallest_normal, *ordinary, dtype.max, math.inf]
    return [math.nan, *positive, *[-x for x in positive]]


def specials(op: Op, dtype: DType, samples: Sequence[Sample]) -> list[Sample]:
    """Calls with special values.

    Element-wise ops of operands alone get all special values, or all pairs of them; with other arguments,
    these as in the samples. Other ops get a sample of theirs with NaN, infinity and -0.0 among its values,
    and one with few different values, so that there are ties.
    """
    if op.kind in ("creation", "random") or op.variadic:
        return []
    if op.kind != "elementwise":
        return _disturbed(op, dtype, samples)
    values = special_values(dtype)
    if not op.params and op.rule.joint is None and len(op.operands) <= 2:
        columns = list(zip(*itertools.product(values, repeat=len(op.operands)), strict=True))
        return [Sample(tuple(Values((len(c),), dtype, tuple(c)) for c in columns))]
    one = [s for s in samples if isinstance(s.args[0], Values) and len(tensors(s)) == 1]
    others = {repr((s.args[1:], s.kwargs)): s for s in one}
    return [
        Sample((Values((len(values),), dtype, tuple(values)), *s.args[1:]), s.kwargs) for s in others.values()
    ]


def _disturbed(op: Op, dtype: DType, samples: Sequence[Sample]) -> list[Sample]:
    """The largest sample with non-finite values in it, and the same with ties."""
    largest = max(
        samples,
        key=lambda s: max((math.prod(v.shape) for v in tensors(s) if v.dtype is dtype), default=0),
        default=None,
    )
    if largest is None or not any(math.prod(v.shape) > 1 for v in tensors(largest) if v.dtype is dtype):
        return []
    make = Maker(f"{op.name} special")

    def ties(v: Values) -> Values:
        few = v.data[:3]  # its own first values: indices and labels stay in range
        return (
            Values(v.shape, dtype, tuple(make.random.choice(few) for _ in v.data))
            if v.dtype is dtype and few
            else v
        )

    def nonfinite(v: Values) -> Values:
        if v.dtype is not dtype or not v.data:
            return v
        data = list(v.data)
        for special in (math.nan, math.inf, -0.0):
            data[make.random.randrange(len(data))] = special
        return Values(v.shape, dtype, tuple(data))

    return [replaced(largest, ties), *([replaced(largest, nonfinite)] if dtype.kind == "float" else [])]


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
    annotations = {
        name: str(p.annotation).removesuffix(" | None") for name, p in op.signature.parameters.items()
    }
    if op.kind == "elementwise" and not op.params and not op.variadic and len(op.operands) == 2:
        dtype = op.rule.accepts[-1]
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
    """The op's first sample with a tensor in it, for the dtype it accepts last (the widest)."""
    try:
        return next((s for s in op.samples(Maker(op.name), op.rule.accepts[-1]) if tensors(s)), None)
    except Exception:  # reported as a failing case of its own
        return None
