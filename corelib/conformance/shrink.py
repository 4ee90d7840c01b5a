"""From a failing case to the smallest call that still fails, for the same sort of reason.

In turn, again and again until nothing changes: plain operands in place of views, parameters left out, a simpler
dtype, shorter axes, fewer axes, and numbers such as 0, 1 and 2 in place of others. Every step is taken only if the
call still fails, so any order ends at a failing call; this one is the same in every run. ``SECONDS`` and ``TRIES``
bound it: what is found by then is small enough to be read, if not the smallest.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..dtypes import DType, complex64, float32, float64, int32, int64
from ..samples import Sample, Values
from .attempts import PLAIN, Attempt, attempts, judge, kind
from .cases import Case
from .check import Suite
from .operands import replaced, tensors

SECONDS = 1.5
TRIES = 600
SIMPLER = {
    "float": (float32, float64),
    "complex": (complex64,),
    "int": (int32, int64),
    "uint": (int32, int64),
    "bool": (),
}


@dataclass(frozen=True)
class Shrunk:
    """The smallest failing call that was found, why it fails, and how many calls were tried."""

    attempt: Attempt
    reason: str
    tries: int


def shrink(case: Case, device: str, clock: Callable[[], float] = time.monotonic) -> Shrunk | None:
    """The smallest failing call of a failing case; None where no single call of it fails."""
    suite = Suite(device)
    end = clock() + SECONDS
    for attempt in attempts(case, suite.backend):
        if clock() > end:
            return None
        reason = judge(attempt, suite)
        if reason and attempt.point is not None:  # only there the exact result is known
            return Shrunk(attempt, reason, 1)
        if reason:
            return _Search(attempt, reason, suite, end, clock).run()
    return None


class _Search:
    def __init__(self, attempt: Attempt, reason: str, suite: Suite, end: float, clock: Any) -> None:
        self.best, self.reason, self.suite = attempt, reason, suite
        self.kind, self.tries, self.end, self.clock = kind(reason), 0, end, clock
        self.tried: set[str] = {repr(attempt)}

    def run(self) -> Shrunk:
        steps = (_plain, _parameters, _dtypes, _single, _axes, _fewer_axes, _numbers, _cotangents)
        changed = True
        while changed and not self.over:
            changed = sum(map(self.take, steps)) > 0
        return Shrunk(self.best, self.reason, self.tries)

    @property
    def over(self) -> bool:
        return self.tries >= TRIES or self.clock() > self.end

    def take(self, step: Callable[[Attempt], Iterator[Attempt]]) -> bool:
        """Take candidates as long as one fails; begins anew with each that does."""
        taken = False
        found = True
        while found:
            found = False
            for candidate in step(self.best):
                if self.over:
                    return taken
                key = _key(candidate)
                if key in self.tried:
                    continue
                self.tried.add(key)
                self.tries += 1
                reason = judge(candidate, self.suite)
                if reason and kind(reason) == self.kind:
                    self.best, self.reason, taken, found = candidate, reason, True, True
                    break
        return taken


def _key(attempt: Attempt) -> str:
    sample = attempt.sample
    return repr((attempt.dtype, sample.args, sample.kwargs, attempt.layouts, attempt.cotangent))


# -- layout, parameters, dtype ---------------------------------------------------------------------------------


def _plain(a: Attempt) -> Iterator[Attempt]:
    """All operands plain, or one of them."""
    if all(layout == PLAIN for layout in a.layouts):
        return
    yield replace(a, layouts=(PLAIN,) * len(a.layouts))
    for n, layout in enumerate(a.layouts):
        if layout != PLAIN:
            yield replace(a, layouts=(*a.layouts[:n], PLAIN, *a.layouts[n + 1 :]))


def _cotangents(a: Attempt) -> Iterator[Attempt]:
    for how in {"ramp": ("ones",), "random": ("ones", "ramp")}.get(a.cotangent, ()):
        yield replace(a, cotangent=how)


def _parameters(a: Attempt) -> Iterator[Attempt]:
    """One parameter less, where the op has a default for it."""
    for name in a.sample.kwargs:
        less = {k: v for k, v in a.sample.kwargs.items() if k != name}
        yield replace(a, sample=Sample(a.sample.args, less))


def _dtypes(a: Attempt) -> Iterator[Attempt]:
    """Every tensor of the case's dtype in a simpler one."""
    choices = SIMPLER[a.dtype.kind]
    for dtype in choices[: choices.index(a.dtype)] if a.dtype in choices else choices:
        if dtype in a.op.rule.accepts or a.op.rule.integers == "float":

            def cast(v: Values, dtype: DType = dtype) -> Values:
                return (
                    Values(v.shape, dtype, tuple(_rounded(x, dtype) for x in v.data))
                    if v.dtype is a.dtype
                    else v
                )

            yield replace(a, dtype=dtype, sample=replaced(a.sample, cast))


def _rounded(x: Any, dtype: DType) -> Any:
    if dtype.kind == "int":
        return max(dtype.min, min(x, dtype.max))
    (found,) = dtype.unpack(dtype.pack([x]))
    return found


# -- shapes ----------------------------------------------------------------------------------------------------


def _single(a: Attempt) -> Iterator[Attempt]:
    """Of operands of one shape: one element of each, without an axis; of others that broadcast, the first and the last
    one.
    """
    given = tensors(a.sample)
    if a.op.kind != "elementwise" or not any(v.shape for v in given) or not all(v.data for v in given):
        return
    longest = max(len(v.data) for v in given)
    places = [*range(min(longest, 40)), *range(max(longest - 40, 40), longest)]
    for i in dict.fromkeys([0, longest - 1, *places]):
        for shape in ((), (1,)):
            pick = lambda v, i=i, shape=shape: Values(shape, v.dtype, (v.data[i % len(v.data)],))
            yield replace(a, sample=replaced(a.sample, pick))


def _axes(a: Attempt) -> Iterator[Attempt]:
    """Every axis of one length shorter, at its beginning or at its end, in all operands or in one."""
    given = tensors(a.sample)
    for length in sorted({n for v in given for n in v.shape if n > 1}, reverse=True):
        for less in dict.fromkeys((1, 2, length // 4, length // 2, length - 1)):
            if 0 < less < length:
                for last, one in itertools.product((False, True), (None, *range(len(given)))):
                    if one is None or len(given) > 1:
                        yield _changed(a, one, partial(_cut, length=length, less=less, last=last))


def _cut(v: Values, length: int, less: int, last: bool) -> Values:
    for axis, n in enumerate(v.shape):
        if n == length:
            v = _taken(v, axis, range(n - less, n) if last else range(less))
    return v


def _taken(v: Values, axis: int, kept: range) -> Values:
    """The elements at some indices along an axis."""
    inner = math.prod(v.shape[axis + 1 :])
    block = inner * v.shape[axis]
    data: list[Any] = []
    for start in range(0, len(v.data), block or 1):
        data += v.data[start + kept.start * inner : start + kept.stop * inner]
    return Values((*v.shape[:axis], len(kept), *v.shape[axis + 1 :]), v.dtype, tuple(data))


def _fewer_axes(a: Attempt) -> Iterator[Attempt]:
    """An axis of length 1 left out, in all operands that have it or in one; a parameter that names an axis may
    have to name another.
    """
    given = tensors(a.sample)
    for axis in range(max((len(v.shape) for v in given), default=0)):
        for one in (None, *range(len(given))):
            if one is None or len(given) > 1:
                less = _changed(a, one, partial(_without, axis=axis))
                yield less
                if "axis" in a.sample.kwargs:
                    yield from (
                        replace(less, sample=Sample(less.sample.args, {**less.sample.kwargs, "axis": k}))
                        for k in (0, -1)
                        if k != a.sample.kwargs["axis"]
                    )


def _without(v: Values, axis: int) -> Values:
    if axis >= len(v.shape) or v.shape[axis] != 1:
        return v
    return Values((*v.shape[:axis], *v.shape[axis + 1 :]), v.dtype, v.data)


def _changed(a: Attempt, one: int | None, change: Callable[[Values], Values]) -> Attempt:
    """The attempt with a change to all of its tensors, or to one."""
    count = itertools.count()
    return replace(
        a, sample=replaced(a.sample, lambda v: change(v) if next(count) == one or one is None else v)
    )


# -- numbers ---------------------------------------------------------------------------------------------------


def _numbers(a: Attempt) -> Iterator[Attempt]:
    """Simpler numbers: in many elements at once, then in each."""
    for n, v in enumerate(tensors(a.sample)):
        size = len(v.data)
        length = size
        while length > 1:
            for start in range(0, size, length):
                stop = min(start + length, size)
                plainest = _plainest(v.dtype)
                now = {*map(repr, v.data[start:stop])}
                for rank, x in enumerate(plainest):
                    if not now <= {*map(repr, plainest[: rank + 1])}:  # else they are as simple
                        yield _changed(a, n, partial(_filled, start=start, stop=stop, x=x))
            length //= 2
        for i, x in enumerate(v.data[:64]):
            for simpler in _simpler(x, v.dtype):
                yield _changed(a, n, partial(_filled, start=i, stop=i + 1, x=simpler))
    for n, x in enumerate(a.sample.args):
        if isinstance(x, int | float | complex) and not isinstance(x, bool):
            for simpler in _simpler(x, a.dtype) if type(x) in (int, float) else ():
                args = (*a.sample.args[:n], type(x)(simpler), *a.sample.args[n + 1 :])
                yield replace(a, sample=Sample(args, a.sample.kwargs))


def _filled(v: Values, start: int, stop: int, x: Any) -> Values:
    return Values(v.shape, v.dtype, (*v.data[:start], *[x] * (stop - start), *v.data[stop:]))


def _plainest(dtype: DType) -> tuple[Any, ...]:
    return {"bool": (False,), "float": (0.0, 1.0), "complex": (0j, 1 + 0j)}.get(dtype.kind, (0, 1))


def _simpler(x: Any, dtype: DType) -> Iterator[Any]:
    """Numbers that are simpler than ``x``, the simplest first."""
    if dtype.kind == "bool":
        choices: list[Any] = [False]
    elif isinstance(x, int):
        halves = [x - (x >> k) for k in range(1, 4)] if abs(x) > 8 else []
        choices = [0, 1, 2, 3, -1, -2, *(x >> k for k in (32, 16, 8, 4, 2, 1)), *halves]
        choices = [c for c in choices if dtype.kind == "float" or dtype.min <= c <= dtype.max]
    elif isinstance(x, complex):
        choices = [0j, 1 + 0j, 1j, 1 + 1j]
        choices += [complex(r, x.imag) for r in _simpler(x.real, dtype.real)]
        choices += [complex(x.real, i) for i in _simpler(x.imag, dtype.real)]
    else:
        choices = [0.0, 1.0, 2.0, 3.0, 0.5, -1.0, -2.0, -0.5, -0.0, math.inf]
        if math.isfinite(x):
            shorter = [float(math.trunc(x)), *(float(f"{x:.{digits}g}") for digits in (1, 2, 3))]
            choices = [*choices[:-1], *(_rounded(c, dtype) if dtype.kind == "float" else c for c in shorter)]
    for c in choices:
        if repr(c) == repr(x):
            return  # what follows is not simpler
        yield c


__all__ = ["Shrunk", "shrink"]
