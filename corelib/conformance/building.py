"""Drawing programs: what they are made of, and how one is put together from choices.

Whoever makes the choices (a generator with a seed, or Hypothesis), the program is valid: its builder knows the shape
of each tensor and a bound of its numbers, and leaves out a step that does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import dtypes
from ..dtypes import DType, float32, float64
from ..samples import Values
from .indexing import Choose, Cut
from .layouts import LAYOUTS, repeat

LARGEST = 600  # elements of a tensor
EXACT_BOUND = 2**18  # of the numbers in an exact program: they, and sums of two of them, are exact in float32
STEEP = 50.0  # of the numbers in a smooth program: beyond, it says less


@dataclass(frozen=True)
class Step:
    """``op(*args, **params)``: ``args`` are numbers of earlier tensors; ``many``: they are one list; ``key`` is that of
    a slice, for the op ``getitem``.
    """

    op: str
    args: tuple[int, ...]
    given: tuple[Any, ...] = ()
    params: tuple[tuple[str, Any], ...] = ()
    many: bool = False

    def __repr__(self) -> str:
        names = [f"t{i}" for i in self.args]
        if self.op == "getitem":
            return f"{names[0]}[{', '.join(map(repr, self.given))}]"
        inside = [f"[{', '.join(names)}]" if self.many else ", ".join(names), *map(repr, self.given)]
        return f"{self.op}({', '.join([*inside, *(f'{k}={v!r}' for k, v in self.params)])})"


@dataclass(frozen=True)
class Program:
    """Inputs t0, t1, ... with their layouts, and steps whose results are numbered on. ``bounds``: of the magnitude
    of each tensor's numbers. All tensors that no step reads are results.
    """

    inputs: tuple[Values, ...]
    layouts: tuple[str, ...]
    steps: tuple[Step, ...]
    shapes: tuple[tuple[int, ...], ...]
    bounds: tuple[float, ...]
    exact: bool

    @property
    def ends(self) -> tuple[int, ...]:
        """The tensors that no step reads."""
        read = {i for s in self.steps for i in s.args}
        return tuple(i for i in range(len(self.inputs), len(self.shapes)) if i not in read)

    def __repr__(self) -> str:
        lines = [
            f"t{i} = {v.dtype.name}{list(v.shape)} {name}"
            for i, (v, name) in enumerate(zip(self.inputs, self.layouts, strict=True))
        ]
        return "; ".join([*lines, *(f"t{i} = {s!r}" for i, s in enumerate(self.steps, len(lines)))])


@dataclass
class Builder:
    """A program in the making."""

    choose: Choose
    exact: bool
    dtype: DType
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step, shape: tuple[int, ...], bound: float) -> bool:
        """Append a step, unless its result is too large for what the program is to show."""
        if math.prod(shape) > LARGEST or bound > (EXACT_BOUND if self.exact else STEEP):
            return False
        self.steps.append(step)
        self.shapes.append(shape)
        self.bounds.append(bound)
        return True

    def any(self) -> int:
        """One of the tensors, rather a late one."""
        n = len(self.shapes)
        return self.choose((*range(n), n - 1, n - 1))


def program(choose: Choose, lengths: Sequence[int] = range(3, 13)) -> Program:
    """A program made of choices; ``lengths``: how many steps are tried, one of them."""
    exact = choose((True, False))
    dtype = choose(
        (float32, float64, float32, float64, dtypes.int64, dtypes.int32) if exact else (float32, float64)
    )
    b = Builder(choose, exact, dtype)
    full = tuple(choose((1, 2, 3, 4, 5, 7, 17 if axis else 33)) for axis in range(choose((1, 2, 2, 3))))
    inputs, names = [], []
    for _ in range(choose((1, 2, 3))):
        shape = tuple(choose((n, n, n, 1)) for n in full)[choose((0, 0, 0, 1)) :]
        name = choose(LAYOUTS)
        low, high = (-3, 3) if exact else (-16, 16)
        numbers = [choose(range(low, high + 1)) for _ in range(math.prod(shape))]
        data = [int(x) if dtype.kind == "int" else x / (1 if exact else 8) for x in numbers]
        x = Values(shape, dtype, tuple(data))
        inputs.append(repeat(x, 0) if name == "repeated" else x)
        names.append(name)
        b.shapes.append(shape)
        b.bounds.append(3.0 if exact else 2.0)
    menu = [*_COMMON, *(_EXACT if exact else _SMOOTH)]
    for _ in range(choose(lengths)):
        choose(menu)(b)
    if not b.steps:
        b.add(Step("negative", (0,)), b.shapes[0], b.bounds[0])
    return Program(tuple(inputs), tuple(names), tuple(b.steps), tuple(b.shapes), tuple(b.bounds), exact)


def _pair(b: Builder) -> tuple[int, int, tuple[int, ...]] | None:
    """Two tensors that broadcast, and to what."""
    i, j = b.any(), b.any()
    a, c = b.shapes[i], b.shapes[j]
    rank = max(len(a), len(c))
    both = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(c)) + c, strict=True))
    return (i, j, tuple(max(p) for p in both)) if all(p == q or 1 in (p, q) for p, q in both) else None


def _binary(name: str, bound: Callable[[float, float], float]) -> Callable[[Builder], None]:
    def step(b: Builder) -> None:
        found = _pair(b)
        if found:
            i, j, shape = found
            b.add(Step(name, (i, j)), shape, bound(b.bounds[i], b.bounds[j]))

    return step


def _unary(name: str, bound: Callable[[float], float], **params: Any) -> Callable[[Builder], None]:
    def step(b: Builder) -> None:
        i = b.any()
        b.add(Step(name, (i,), params=tuple(params.items())), b.shapes[i], bound(b.bounds[i]))

    return step


def _where(b: Builder) -> None:
    """Two tensors, of which each element is chosen by a comparison: of integers, which have no nearly equal ones."""
    found = _pair(b)
    if found:
        i, j, shape = found
        b.add(
            Step("choose", (i, j), (b.choose(("less", "less_equal", "equal")),)),
            shape,
            max(b.bounds[i], b.bounds[j]),
        )


def _reduce(name: str, growth: Callable[[float, int], float]) -> Callable[[Builder], None]:
    def step(b: Builder) -> None:
        i = b.any()
        shape = b.shapes[i]
        axis = b.choose((None, *range(-len(shape), len(shape))))
        keep = b.choose((False, True))
        gone = set(range(len(shape))) if axis is None else {axis % len(shape)}
        left = tuple(1 if a in gone else n for a, n in enumerate(shape) if keep or a not in gone)
        n = math.prod(shape[a] for a in gone)
        b.add(Step(name, (i,), params=(("axis", axis), ("keepdims", keep))), left, growth(b.bounds[i], n))

    return step


def _along(name: str, growth: Callable[[float, int], float], **params: Any) -> Callable[[Builder], None]:
    def step(b: Builder) -> None:
        i = b.any()
        shape = b.shapes[i]
        if shape:
            axis = b.choose(range(-len(shape), len(shape)))
            b.add(
                Step(name, (i,), params=(("axis", axis), *params.items())),
                shape,
                growth(b.bounds[i], shape[axis]),
            )

    return step


def _matmul(b: Builder) -> None:
    i, j = b.any(), b.any()
    a, c = b.shapes[i], b.shapes[j]
    if len(a) == len(c) == 2 and a[1] != c[0] and a[1] == c[1]:
        b.add(Step("permute_dims", (j,), ((1, 0),)), c[::-1], b.bounds[j])
        j, c = len(b.shapes) - 1, c[::-1]
    if len(a) >= 2 and len(c) == 2 and a[-1] == c[0]:
        b.add(Step("matmul", (i, j)), (*a[:-1], c[1]), b.bounds[i] * b.bounds[j] * a[-1])


def _reshape(b: Builder) -> None:
    i = b.any()
    n = math.prod(b.shapes[i])
    k = b.choose([d for d in range(1, n + 1) if n % d == 0][:8])
    b.add(Step("reshape", (i,), (b.choose(((n,), (k, n // k), (n // k, k), (1, n))),)), (), b.bounds[i])
    if b.steps and b.steps[-1].op == "reshape":
        b.shapes[-1] = b.steps[-1].given[0]


def _permute(b: Builder) -> None:
    i = b.any()
    shape = b.shapes[i]
    left, order = list(range(len(shape))), []
    while left:
        order.append(b.choose(left))
        left.remove(order[-1])
    b.add(Step("permute_dims", (i,), (tuple(order),)), tuple(shape[a] for a in order), b.bounds[i])


def _stretch(b: Builder) -> None:
    i = b.any()
    shape = tuple(b.choose((2, 3)) if n == 1 else n for n in b.shapes[i])
    shape = (*b.choose(((), (2,))), *shape)
    b.add(Step("broadcast_to", (i,), (shape,)), shape, b.bounds[i])


def _join(b: Builder) -> None:
    i, j = b.any(), b.any()
    shape, other = b.shapes[i], b.shapes[j]
    axis = b.choose(range(max(len(shape), 1)))
    fits = len(shape) == len(other) and all(
        m == n or a == axis for a, (m, n) in enumerate(zip(shape, other, strict=True))
    )
    if shape and fits:
        joined = tuple(n + other[a] if a == axis else n for a, n in enumerate(shape))
        b.add(
            Step("concat", (i, j), params=(("axis", axis),), many=True), joined, max(b.bounds[i], b.bounds[j])
        )


def _slice(b: Builder) -> None:
    i = b.any()
    shape = b.shapes[i]
    if shape:
        cuts = tuple(b.choose((Cut(None, None, None), Cut(None, None, -1), Cut(None, None, 2), Cut(n // 2, None, 1), Cut(None, -1, None) if n > 1 else Cut(0, 1, 1))) for n in shape)  # fmt: skip
        left = tuple(len(range(n)[slice(c.start, c.stop, c.step)]) for n, c in zip(shape, cuts, strict=True))
        b.add(Step("getitem", (i,), cuts), left, b.bounds[i])


def _take(b: Builder) -> None:
    i = b.any()
    shape = b.shapes[i]
    if shape:
        axis = b.choose(range(len(shape)))
        places = tuple(b.choose(range(-shape[axis], shape[axis])) for _ in range(b.choose((1, 2, 5))))
        left = tuple(len(places) if a == axis else n for a, n in enumerate(shape))
        b.add(Step("take", (i,), (places,), (("axis", axis),)), left, b.bounds[i])


_SAME = lambda x: x
_COMMON: list[Callable[[Builder], None]] = [
    _binary("add", lambda x, y: x + y), _binary("subtract", lambda x, y: x + y), _binary("multiply", lambda x, y: x * y),
    _binary("multiply", lambda x, y: x * y), _unary("negative", _SAME), _unary("square", lambda x: x * x), _matmul, _reshape, _permute, _stretch,
    _join, _slice, _take, _reduce("sum", lambda x, n: x * n), _along("cumulative_sum", lambda x, n: x * n), _along("flip", lambda x, n: x),
]  # fmt: skip
_EXACT: list[Callable[[Builder], None]] = [
    _binary("maximum", max), _binary("minimum", max), _where, _unary("abs", _SAME), _reduce("max", lambda x, n: x), _reduce("min", lambda x, n: x),
    _along("sort", lambda x, n: x), _along("sort", lambda x, n: x, descending=True),
]  # fmt: skip
_SMOOTH: list[Callable[[Builder], None]] = [
    _unary("sin", lambda x: 1.0), _unary("cos", lambda x: 1.0), _unary("tanh", lambda x: 1.0), _unary("sigmoid", lambda x: 1.0),
    _unary("softplus", lambda x: x + 1), _unary("exp", lambda x: math.exp(min(x, 9.0))), _unary("atan", lambda x: 2.0), _unary("erf", lambda x: 1.0),
    _reduce("mean", lambda x, n: x), _reduce("logsumexp", lambda x, n: x + math.log(n)), _along("softmax", lambda x, n: 1.0),
    _along("log_softmax", lambda x, n: 2 * x + math.log(n)),
]  # fmt: skip
OPS = (
    "add", "subtract", "multiply", "negative", "square", "matmul", "reshape", "permute_dims", "broadcast_to", "concat", "strided_slice", "take", "sum",
    "cumulative_sum", "flip", "maximum", "minimum", "where", "less", "less_equal", "equal", "abs", "max", "min", "sort", "sin", "cos", "tanh",
    "sigmoid", "softplus", "exp", "atan", "erf", "mean", "logsumexp", "softmax", "log_softmax",
)  # fmt: skip
