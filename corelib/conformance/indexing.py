"""Random indexing expressions, read and written, against the reference: the same elements, the same gradients, or
the same refusal in the same words.

An expression is drawn from the seed and its number alone, by a function that asks for choices (``expression``), so
that Hypothesis can make the choices as well. This module knows no op: indexing is all that it does.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..autograd import vjp
from ..backend import Backend
from ..dtypes import DType
from ..errors import CorelibError, UnsupportedError
from ..op import BY_NAME, calls
from ..samples import Values
from ..tensor import Tensor
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .families import BOUNDED, Plan, family
from .layouts import LAYOUTS, laid, repeat
from .operands import inexact
from .place import Result, results, tensor

Choose = Callable[[Sequence[Any]], Any]
COUNTS = {"smoke": 100, "standard": 1500, "full": 20000}
OPS = (
    "strided_slice",
    "strided_update",
    "reshape",
    "permute_dims",
    "gather",
    "scatter",
)  # of which indexing is made


@dataclass(frozen=True)
class Cut:
    """A slice, as a value that can be compared and sent to another process."""

    start: int | None
    stop: int | None
    step: int | None

    def __repr__(self) -> str:
        text = ["" if part is None else str(part) for part in (self.start, self.stop, self.step)]
        return ":".join(text if self.step is not None else text[:2])


@dataclass(frozen=True)
class Expression:
    """``x[key]``, or ``x[key] = value``. ``key``: integers, Cuts, None, ``...``, lists of integers as tuples, and
    tensors; ``value``: "" to read; "number", "all" (a value for each element), "row" (without the first axis of what is
    selected) or "wrong" (too many) to write.
    """

    x: Values
    layout: str
    key: tuple[Any, ...]
    value: str = ""

    def __repr__(self) -> str:
        show = lambda e: (
            "..."
            if e is Ellipsis
            else f"{e.dtype.name}{list(e.shape)}"
            if isinstance(e, Values)
            else repr(list(e))
            if isinstance(e, tuple)
            else repr(e)
        )
        given = f"{self.x.dtype.name}{list(self.x.shape)}[{', '.join(map(show, self.key))}]"
        return f"{given}{f' = {self.value}' if self.value else ''}, {self.layout}"


# -- drawing -------------------------------------------------------------------------------------------------


def generate(plan: Plan) -> Iterator[Case]:
    """The expressions of a plan that has the ops that indexing is made of."""
    if not {BY_NAME[name] for name in OPS} <= set(plan.ops):
        return
    for number in range(COUNTS[plan.profile]):
        drawn = expression(random.Random(f"index {plan.seed} {number}").choice)
        if plan.kinds is None or drawn.x.dtype in plan.kinds:
            yield Case(None, drawn.x.dtype, "index", number, data=drawn)


def expression(choose: Choose) -> Expression:
    """An expression made of choices."""
    rank = choose((0, 1, 1, 2, 2, 3, 3, 4))
    shape = tuple(choose((0, 1, 2, 3, 3, 4, 5, 33 if rank < 3 else 2)) for _ in range(rank))
    x = ordinals(shape, choose(dtypes.ALL))
    layout = choose(LAYOUTS)
    if layout == "repeated":
        x = repeat(x, 0)
    key: list[Any] = []
    axis, dots, wrong = 0, False, choose(range(12)) == 0
    for _ in range(choose((1, 1, 2, 3, 4, 5))):
        kind = choose(
            ("integer", "integer", "slice", "slice", "slice", "array", "array", "mask", "list", "new", "dots")
        )
        n = shape[axis] if axis < rank else 3 if wrong else None
        if kind == "new":
            key.append(None)
        elif kind == "dots" and (not dots or wrong):
            key.append(Ellipsis)
            dots = True
        elif n is not None and not (dots and choose((True, False))):
            part, used = _entry(kind, shape, axis, n, wrong, choose)
            key.append(part)
            axis += used
    return Expression(
        x, layout, tuple(key), choose(("", "", "", "number", "all", "row", "wrong" if wrong else "all"))
    )


def _entry(
    kind: str, shape: tuple[int, ...], axis: int, n: int, wrong: bool, choose: Choose
) -> tuple[Any, int]:
    """An index for an axis of size n, and how many axes it uses up."""
    far = 2 if wrong else 0
    if kind == "integer" and (n or wrong):
        return choose(range(-n - far, n + far)), 1
    if kind in ("array", "list") and (n or wrong):
        size = choose(((), (1,), (3,), (3,), (2, 1), (2, 3), (0,)))
        data = tuple(choose(range(-n - far, n + far)) for _ in range(math.prod(size)))
        if kind == "list" and len(size) == 1 and data:
            return data, 1
        return Values(size, choose((dtypes.int64, dtypes.int64, dtypes.int32, dtypes.int8)), data), 1
    if kind == "mask":
        axes = choose((1, 1, 2)) if axis + 1 < len(shape) else 1
        size = shape[axis : axis + axes] if axis < len(shape) else (n,)
        size = (size[0] + 1, *size[1:]) if wrong and choose((True, False)) else size
        return Values(size, dtypes.bool, tuple(choose((False, True)) for _ in range(math.prod(size)))), axes
    ends = (None, None, 0, 1, 2, -1, -2, n, n + 2, -n - 1)
    step = choose((None, None, 1, 2, 3, -1, -2, 0 if wrong else -1))
    return Cut(choose(ends), choose(ends), step), 1


def ordinals(shape: tuple[int, ...], dtype: DType, first: int = 0) -> Values:
    """Numbers that differ as far as the dtype goes: which element is where can be seen."""
    numbers = range(first, first + math.prod(shape))
    to: Any = {"bool": lambda i: i * i % 3 == 1, "float": float, "complex": lambda i: complex(i, -i)}.get(
        dtype.kind, int
    )
    return Values(shape, dtype, tuple(to(i % 120) for i in numbers))


# -- trying --------------------------------------------------------------------------------------------------


@family("index", level=1, profiles=BOUNDED, generate=generate, by_op=False)
def check(suite: Suite, case: Case) -> None:
    """The backend reads, writes, differentiates or refuses as the reference does."""
    drawn: Expression = case.data
    value = _value(drawn, suite.oracle.backend)
    wanted, got = (_outcome(drawn, value, b) for b in (suite.oracle.backend, suite.backend))
    here, there = f"'{suite.backend.device}'", f"'{suite.oracle.backend.device}'"
    if isinstance(wanted, Exception) or isinstance(got, Exception):
        said = [
            (type(o).__name__, str(o).replace(here, there)) if isinstance(o, Exception) else ("nothing", "")
            for o in (wanted, got)
        ]
        if said[0] != said[1]:
            raise Disagreement(
                f"{drawn}: raised {': '.join(said[1])}; the reference raises {': '.join(said[0])}"
            )
        return
    names = ("the result", "the gradient of x", "the gradient of the value")
    for name, w, g in itertools.zip_longest(names[: len(wanted)], wanted, got):
        if (w.shape, w.dtype) != (g.shape, g.dtype) or repr(w.data) != repr(g.data):
            raise Disagreement(
                f"{drawn}: {name} is {g.dtype.name}{list(g.shape)} {_short(g)}, expected {w.dtype.name}{list(w.shape)} {_short(w)}"
            )
        if g.device != suite.backend.device:
            raise Disagreement(f"{drawn}: {name} is on {g.device!r}, x is on {suite.backend.device!r}")


def _short(r: Result) -> str:
    return str(r.data if len(r.data) < 9 else (*r.data[:8], ...)).replace("Ellipsis", "...")


def _value(drawn: Expression, backend: Backend) -> Any:
    """What is written: values for what the reference selects; a number where it refuses the key."""
    if not drawn.value:
        return None
    number = ordinals((1,), drawn.x.dtype, 7).data[0]
    if drawn.value == "number":
        return number
    try:
        shape = tensor(drawn.x, backend)[_key(drawn, backend)].shape
    except CorelibError:
        return number
    shape = shape[1:] if drawn.value == "row" else (2, *shape, 2) if drawn.value == "wrong" else shape
    return ordinals(shape, drawn.x.dtype, 7)


def _key(drawn: Expression, backend: Backend) -> Any:
    def real(entry: Any) -> Any:
        if isinstance(entry, Cut):
            return slice(entry.start, entry.stop, entry.step)
        return (
            list(entry)
            if isinstance(entry, tuple)
            else tensor(entry, backend)
            if isinstance(entry, Values)
            else entry
        )

    key = tuple(map(real, drawn.key))
    return key[0] if len(key) == 1 else key


def _outcome(drawn: Expression, value: Any, backend: Backend) -> Any:
    """The result, and gradients in a floating dtype; or the refusal."""
    try:
        x = laid(drawn.x, backend, drawn.layout)
        key = _key(drawn, backend)
        floating = inexact(drawn.x.dtype)
        if not drawn.value:
            read = lambda x: x[key]
            return _both(read, [x], backend) if floating else results(read(x))
        v = tensor(value, backend) if isinstance(value, Values) else value

        def written(x: Tensor, v: Any = v) -> Tensor:
            y = calls.positive(x) if x.dtype.kind != "bool" else calls.stop_gradient(x)
            y[key] = v
            return y

        if not floating:
            return results(written(x))
        return _both(written, [x, v] if isinstance(v, Tensor) else [x], backend)
    except UnsupportedError:
        raise
    except CorelibError as error:
        return error


def _both(function: Callable[..., Tensor], given: list[Tensor], backend: Backend) -> list[Result]:
    """A function's result and its gradients, for small integers as the cotangent: sums of these are exact."""
    y, pullback = vjp(function, *given)
    numbers = [float(i % 5 - 2) for i in range(y.size)]
    g = Values(
        y.shape, y.dtype, tuple(map(complex, numbers)) if y.dtype.kind == "complex" else tuple(numbers)
    )
    return results([y, *pullback(tensor(g, backend))])
