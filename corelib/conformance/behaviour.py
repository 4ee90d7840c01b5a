"""What surrounds the values: refusals of mistaken calls, promotion, aliasing and mutation, memory that runs out, and
tensors of more than 2**31 elements.

* ``refusal``: mistakes in calls of public functions that no op declares, in the same class and words as on the reference.
* ``promotion``: each op of two operands on each pair of dtypes, with 0-d tensors and with Python numbers.
* ``aliasing``: a result outlives the next call, and changes in place of operands and results stay where they are.
* ``exhaustion``: a result of 2**60 bytes is refused, and the backend goes on working.
* ``large``: indices that do not fit 32 bits, where the device has the memory (profile full).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from .. import dtypes
from ..backend import Backend
from ..dtypes import DType, result_type
from ..errors import CorelibError, DTypeError, OutOfMemoryError, UnsupportedError
from ..op import Op, calls
from ..rules import Spec
from ..samples import Sample, Values
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .derivatives import UNHURRIED
from .families import BOUNDED, FAMILIES, Plan, family
from .operands import replaced, size, tensors
from .place import Result, arguments, results, tensor

# -- mistakes --------------------------------------------------------------------------------------------------

Call = Callable[[Backend], Any]


def _ones(backend: Backend, *shape: int, dtype: Any = dtypes.float32) -> Any:
    return calls.full(shape, 1, dtype=dtype, device=backend)


def _assigned(x: Any, key: Any, value: Any) -> None:
    x[key] = value


MISTAKES: tuple[tuple[str, Call], ...] = (
    ("a dtype that does not exist", lambda b: calls.astype(_ones(b, 2), "float31")),
    ("a dtype that is a number", lambda b: calls.astype(_ones(b, 2), 32)),
    ("a dtype of another creation", lambda b: calls.full((2,), 1, dtype="flaot32", device=b)),
    ("a fill value that does not fit", lambda b: calls.full((2,), 300, dtype=dtypes.uint8, device=b)),
    ("a Python number that does not fit", lambda b: calls.add(_ones(b, 2, dtype=dtypes.int8), 1000)),
    ("complex to real", lambda b: calls.astype(_ones(b, 2, dtype=dtypes.complex64), dtypes.float32)),
    ("int64 with uint64", lambda b: calls.add(_ones(b, 2, dtype=dtypes.int64), _ones(b, 2, dtype=dtypes.uint64))),
    ("an axis twice", lambda b: calls.sum(_ones(b, 2, 3), axis=(1, -1))),
    ("an axis that is not there", lambda b: calls.max(_ones(b, 2, 3), axis=2)),
    ("an axis that is a word", lambda b: calls.sum(_ones(b, 2, 3), axis="rows")),
    ("an axis of a scalar", lambda b: calls.flip(_ones(b), axis=0)),
    ("a permutation that repeats an axis", lambda b: calls.permute_dims(_ones(b, 2, 3), (0, 0))),
    ("a permutation of too few axes", lambda b: calls.permute_dims(_ones(b, 2, 3), (0,))),
    ("a shape of another size", lambda b: calls.reshape(_ones(b, 2, 3), (4,))),
    ("two unknown sizes", lambda b: calls.reshape(_ones(b, 2, 3), (-1, -1))),
    ("a negative size", lambda b: calls.full((2, -1), 1, dtype=dtypes.float32, device=b)),
    ("shapes that do not broadcast", lambda b: calls.broadcast_to(_ones(b, 2, 3), (3, 2))),
    ("a concatenation of unequal ranks", lambda b: calls.concat([_ones(b, 2), _ones(b, 2, 2)], axis=0)),
    ("a concatenation of nothing", lambda b: calls.concat([], axis=0)),
    ("a product of a matrix and no matrix", lambda b: calls.matmul(_ones(b, 2, 3), _ones(b))),
    ("a product of sizes that do not meet", lambda b: calls.matmul(_ones(b, 2, 3), _ones(b, 2, 3))),
    ("a transpose of a vector", lambda b: _ones(b, 3).T),
    ("too many indices", lambda b: _ones(b, 2, 3)[0, 0, 0]),
    ("an index out of bounds", lambda b: _ones(b, 2, 3)[2]),
    ("an index that is a float", lambda b: _ones(b, 2, 3)[1.0]),
    ("a mask of another shape", lambda b: _ones(b, 2, 3)[_ones(b, 3, 2, dtype=dtypes.bool)]),
    ("an assignment of another shape", lambda b: _assigned(_ones(b, 2, 3), 0, _ones(b, 2))),
    ("an assignment of complex to real", lambda b: _assigned(_ones(b, 2, 3), 0, 1j)),
    ("an operand that is a list", lambda b: calls.add(_ones(b, 2), [1, 2])),
    ("an operand that is None", lambda b: calls.exp(None)),
    ("the truth of several elements", lambda b: bool(_ones(b, 2))),
    ("the item of several elements", lambda b: _ones(b, 2).item()),
    ("an int of a complex number", lambda b: int(_ones(b, dtype=dtypes.complex64))),
    ("an index from a float", lambda b: [1, 2][_ones(b)]),
    ("the length of a scalar", lambda b: len(_ones(b))),
    ("a gradient of an integer", lambda b: _ones(b, 2, dtype=dtypes.int32).requires_grad_()),
    ("backward without history", lambda b: _ones(b).backward()),
    ("backward of several elements", lambda b: (_ones(b, 2).requires_grad_() * 2).backward()),
    ("a cotangent of another shape", lambda b: (_ones(b, 2).requires_grad_() * 2).backward(_ones(b, 3))),
    ("a cotangent of another dtype", lambda b: (_ones(b, 2).requires_grad_() * 2).backward(_ones(b, 2, dtype=dtypes.float64))),
    ("a device that does not exist", lambda b: _ones(b, 2).to("no such device")),
)  # fmt: skip


def _refusals(plan: Plan) -> Iterator[Case]:
    for number, (words, _) in enumerate(MISTAKES):
        yield Case(None, None, "refusal", number, data=words)


@family("refusal", level=0, profiles=BOUNDED, generate=_refusals, by_op=False)
def refusal(suite: Suite, case: Case) -> None:
    """The call raises what it raises on the reference."""
    call = MISTAKES[case.number][1]
    wanted, got = _raised(call, suite.oracle.backend), _raised(call, suite.backend)
    if wanted is None:
        raise Disagreement(f"{case.data}: the reference does not refuse it")
    if got is None:
        raise Disagreement(f"{case.data}: not refused; the reference says {type(wanted).__name__}: {wanted}")
    here, there = f"'{suite.backend.device}'", f"'{suite.oracle.backend.device}'"
    if (type(got), str(got).replace(here, there)) != (type(wanted), str(wanted)):
        raise Disagreement(
            f"{case.data}: {type(got).__name__}: {got}; the reference says {type(wanted).__name__}: {wanted}"
        )


def _raised(call: Call, backend: Backend) -> Exception | None:
    try:
        call(backend)
    except UnsupportedError:
        raise
    except Exception as error:
        return error
    return None


# -- promotion -------------------------------------------------------------------------------------------------

LEFT, RIGHT = (3, 1, 2), (2, 1, 2)  # numbers of every dtype, in the domain of every op of two operands
NUMBERS: tuple[Any, ...] = (True, 2, 2.5, 2 + 1j)


def promoted(op: Op) -> bool:
    """Whether an op takes two operands that are promoted, and nothing else."""
    return op.kind == "elementwise" and len(op.operands) == 2 and op.rule.joint is None and not op.params


def _promotions(plan: Plan) -> Iterator[Case]:
    for op in filter(promoted, plan.ops):
        for number, dtype in enumerate(dtypes.ALL):
            if plan.kinds is None or dtype in plan.kinds:
                yield Case(op, dtype, "promotion", number)


@family("promotion", level=1, profiles=UNHURRIED, generate=_promotions)
def promotion(suite: Suite, case: Case) -> None:
    """With each dtype, 0-d or not, and each kind of Python number on either side: the result is that of the
    operands cast to ``result_type`` first, bit for bit, or refused where that is.
    """
    dtype = case.dtype
    assert dtype is not None
    x = tensor(_numbers(LEFT, dtype), suite.backend)
    for other in dtypes.ALL:
        for shape in ((3,), ()):
            y = _other(suite, case, _numbers(RIGHT[: 3 if shape else 1], other, shape))
            if y is not None:
                _agrees(suite, case, x, y)
    for number in NUMBERS:
        if 1 in case.op.numbers:
            _agrees(suite, case, x, number)
        if 0 in case.op.numbers:
            _agrees(suite, case, number, x)


def _numbers(data: tuple[int, ...], dtype: DType, shape: tuple[int, ...] | None = None) -> Values:
    kind: Any = {"bool": bool, "float": float, "complex": complex}.get(dtype.kind, int)
    return Values((len(data),) if shape is None else shape, dtype, tuple(kind(x) for x in data))


def _other(suite: Suite, case: Case, values: Values) -> Any:
    """The second operand; None where the backend declares that it lacks its dtype, and does."""
    lacked = _groups(values.dtype) & suite.lacks
    try:
        found = tensor(values, suite.backend)
    except UnsupportedError:
        if lacked:
            return None
        raise
    return found


def _groups(dtype: DType) -> set[str]:
    return {"half"} if dtype in dtypes.HALF else {"complex"} if dtype.kind == "complex" else set()


def _agrees(suite: Suite, case: Case, a: Any, b: Any) -> None:
    op = case.op
    said = " and ".join(
        f"{v.dtype.name}{list(v.shape)}" if isinstance(v, Tensor) else repr(v) for v in (a, b)
    )
    try:
        common = result_type(a, b)
        wanted = op.rule(op, [Spec((3,), common)] * 2, {}).dtype
    except DTypeError as error:
        wanted = error
    try:
        got = op.fn(a, b)
    except UnsupportedError:
        if not isinstance(wanted, Exception) and _groups(common) & suite.lacks:
            return
        raise
    except DTypeError as error:
        if isinstance(wanted, DTypeError):
            return
        raise Disagreement(f"{said}: refused: {error}; expected {wanted.name}") from error
    if isinstance(wanted, DTypeError):
        raise Disagreement(f"{said}: not refused, the result is {got.dtype.name}; expected {wanted}")
    if got.dtype is not wanted:
        raise Disagreement(f"{said}: the result is {got.dtype.name}, expected {wanted.name}")
    x, y = (
        v.astype(common) if isinstance(v, Tensor) else calls.full((), v, dtype=common, device=suite.backend)
        for v in (a, b)
    )
    _same(
        results(got), results(op.fn(x, y)), f"{said}: the result", "that of operands cast to " + common.name
    )


def _same(got: list[Result], expected: list[Result], what: str, whose: str) -> None:
    """Bit for bit."""
    for a, e in zip(got, expected, strict=True):
        if (a.shape, a.dtype) != (e.shape, e.dtype) or repr(a.data) != repr(e.data):
            raise Disagreement(
                f"{what} is {a.dtype.name}{list(a.shape)} {shortened(a.data)}, {whose} is "
                f"{e.dtype.name}{list(e.shape)} {shortened(e.data)}"
            )


def shortened(data: tuple[Any, ...]) -> str:
    """The first elements."""
    return str(list(data[:4]))[:-1] + (", ...]" if len(data) > 4 else "]")


# -- aliasing and mutation -------------------------------------------------------------------------------------


def largest_samples(plan: Plan) -> Iterator[Case]:
    """The largest value case of each op and dtype."""
    best: dict[tuple[str, DType | None], Case] = {}
    for case in FAMILIES["value"].generate(plan):
        key = case.op.name, case.dtype
        if isinstance(case.sample, Sample) and (
            key not in best or size(case.sample) > size(best[key].sample)  # type: ignore[arg-type]
        ):
            best[key] = case
    yield from best.values()


def backwards(v: Values) -> Values:
    """The values in reverse: other data that suits the op as well."""
    return Values(v.shape, v.dtype, v.data[::-1])


def _aliases(plan: Plan) -> Iterator[Case]:
    for case in largest_samples(plan):
        yield Case(case.op, case.dtype, "aliasing", 0, case.sample)


@family("aliasing", level=1, profiles=UNHURRIED, generate=_aliases)
def aliasing(suite: Suite, case: Case) -> None:
    """No two tensors can be seen to share memory: not the results of two calls, not an operand and a result, and
    not a result and what the backend may keep for the next call.
    """
    assert isinstance(case.sample, Sample)
    op, sample, other = case.op, case.sample, replaced(case.sample, backwards)
    args, kwargs = arguments(op, sample, suite.backend)
    first = op.fn(*args, **kwargs)
    before = results(first)
    args2, kwargs2 = arguments(op, other, suite.backend)
    with suppress(CorelibError):  # the other data may be refused: an index out of bounds, a singular matrix
        op.fn(*args2, **kwargs2)
    _same(results(first), before, "after a call with other data, the first result", "what it was before")
    suite.unchanged(sample, (args, kwargs))

    given = [x for x in flatten([args, kwargs])[0] if isinstance(x, Tensor)]
    for x, values in zip(given, tensors(other), strict=True):
        _overwritten(x, values, suite.backend)
    _same(
        results(first), before, "after its operands were changed in place, the result", "what it was before"
    )

    now = results(given)
    for y in flatten(first)[0]:
        if isinstance(y, Tensor):
            data = results(y)[0].data
            _overwritten(y, Values(y.shape, y.dtype, data[::-1]), suite.backend)
    _same(results(given), now, "after a result was changed in place, an operand", "what it was before")
    again = arguments(op, sample, suite.backend)
    _same(
        results(op.fn(*again[0], **again[1])),
        before,
        "after its first result was changed in place, a call",
        "the first",
    )


def _overwritten(x: Tensor, values: Values, backend: Backend) -> None:
    """x changed in place, in both ways."""
    if x.size:
        x[...] = tensor(values, backend)
    if x.dtype.kind != "bool":
        x += 1


# -- memory ----------------------------------------------------------------------------------------------------

SIZE = 1 << 60  # bytes
TOO_LARGE: tuple[tuple[str, Call], ...] = (
    ("full", lambda b: calls.full((SIZE // 8,), 1, dtype=dtypes.float64, device=b)),
    ("arange", lambda b: calls.arange(SIZE // 8, device=b)),
    ("a matrix", lambda b: calls.full((1 << 29, 1 << 29), 1, dtype=dtypes.float32, device=b)),
    ("a sum of broadcast operands", lambda b: _stretched(b) + 1),
    ("a concatenation", lambda b: calls.concat([_stretched(b), _stretched(b)], axis=0)),
    ("padding", lambda b: calls.pad(_ones(b, 1), ((SIZE // 4, 0),))),
    ("a cast", lambda b: calls.astype(_stretched(b), dtypes.float64)),
    ("random bits", lambda b: _bits(b)),
)  # fmt: skip


def _stretched(backend: Backend) -> Any:
    return calls.broadcast_to(_ones(backend, 1), (SIZE // 4,))


def _bits(backend: Backend) -> Any:
    from .. import random

    return random.Generator(1).bits((SIZE // 4,), device=backend)


def _exhausted(plan: Plan) -> Iterator[Case]:
    for number, (words, _) in enumerate(TOO_LARGE):
        yield Case(None, None, "exhaustion", number, data=words)


@family("exhaustion", level=1, profiles=BOUNDED, generate=_exhausted, by_op=False)
def exhaustion(suite: Suite, case: Case) -> None:
    """2**60 bytes or more raise OutOfMemoryError; then the backend computes as before."""
    call = TOO_LARGE[case.number][1]
    try:
        found = call(suite.backend)
    except OutOfMemoryError:
        pass
    except CorelibError as error:
        raise Disagreement(f"{case.data} of 2**60 bytes raised {type(error).__name__}: {error}") from error
    else:
        raise Disagreement(f"{case.data} of 2**60 bytes is not refused: the result has shape {found.shape}")
    if (_ones(suite.backend, 2, 3) + 1).tolist() != [[2.0] * 3] * 2:
        raise Disagreement(f"after {case.data} of 2**60 bytes was refused, 1 + 1 is not 2")


# -- more than 2**31 elements ----------------------------------------------------------------------------------

MANY = (1 << 31) + 5
LARGE: tuple[tuple[str, Callable[[Any], Any], Any], ...] = (
    ("the last element", lambda x: x[-1].item(), 7),
    ("the sum", lambda x: calls.sum(x, dtype=dtypes.int64).item(), 7),
    ("the place of the largest", lambda x: calls.argmax(x).item(), MANY - 1),
    ("an element-wise result", lambda x: calls.add(x, 1)[-2:].tolist(), [1, 8]),
    ("a reversed view", lambda x: calls.add(calls.flip(x), 1)[:2].tolist(), [8, 1]),
    ("a gathered element", lambda x: calls.take(x, calls.full((1,), MANY - 1, dtype=dtypes.int64, device=x._backend), axis=0).tolist(), [7]),
    ("a concatenation's end", lambda x: calls.concat([x, x[:1]], axis=0)[-2:].tolist(), [7, 0]),
)  # fmt: skip


def _many(plan: Plan) -> Iterator[Case]:
    for number, (words, *_) in enumerate(LARGE):
        yield Case(None, None, "large", number, data=words)


@family("large", level=1, profiles=("full",), generate=_many, by_op=False)
def large(suite: Suite, case: Case) -> None:
    """An int8 tensor of 2**31 + 5 elements, zeros but for the last, which is 7.

    A device that does not say how much memory is free, or has too little, is not tried: a process that takes all
    the memory of its machine may be ended with it.
    """
    free = suite.backend.memory_stats().get("free")
    if free is None:
        raise UnsupportedError(
            f"{suite.backend.device!r} does not say how much memory is free: memory_stats() has no 'free'"
        )
    if free < 4 * MANY:
        raise UnsupportedError(f"too large for this device: {4 * MANY} bytes are needed, {free} are free")
    x = calls.full((MANY,), 0, dtype=dtypes.int8, device=suite.backend)
    x[-1] = 7
    words, call, expected = LARGE[case.number]
    try:
        got = call(x)
    finally:
        del x
        suite.backend.empty_cache()
    if got != expected:
        raise Disagreement(f"{words} of 2**31 + 5 elements is {got}, expected {expected}")
