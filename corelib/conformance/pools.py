"""Element-wise ops on tensors of any size for the price of a hundred numbers: operands are drawn from small pools,
and the reference is asked once for each combination that occurs.

A pool holds the numbers at which implementations go wrong (``specials.py``), arguments far beyond the range that a
library reduces without care, and ordinary numbers from the op's own samples; the pools of an op's operands have
lengths without a common divisor, so that a long operand meets all combinations. An op whose operands do not
broadcast (an optimizer's update) gets combinations from its samples only: for these its budget is declared.
This module knows one op at a time, and the oracle.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import DType
from ..op import Op
from ..samples import Maker, Sample, Values
from .cases import Case
from .compare import Disagreement, compare, place
from .distance import rounded
from .operands import inexact, replaced, representable, tensors
from .oracle import Expected, Oracle
from .place import Result
from .specials import _complex_pairs, special_values

LENGTHS = {1: (97,), 2: (31, 29), 3: (13, 11, 7)}  # of the pools of one, two and three operands
FAR = (1e4, 1e6, 1e15, 2.0**53 + 2, 1e22, 1e300)  # angles of which a careless reduction keeps no digit


@dataclass(frozen=True)
class Variant:
    """What an element-wise op is called with. ``slots``: the positions of the operands that are given;
    ``single``: those among them that are 0-d; ``pools``: the numbers of each; ``rest``: the arguments behind the
    operands.
    """

    slots: tuple[int, ...]
    single: frozenset[int]
    dtypes: tuple[DType, ...]
    pools: tuple[tuple[Any, ...], ...]
    rest: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]

    @property
    def named(self) -> tuple[DType, ...]:
        """The dtypes among its arguments."""
        return tuple(a for a in (*self.rest, *(v for _, v in self.kwargs)) if isinstance(a, DType))

    def sample(self, op: Op, operands: Sequence[Any]) -> Sample:
        """A call with these operands in the slots."""
        given = dict(zip(self.slots, operands, strict=True))
        last = max(self.slots) + 1 if not self.rest else len(op.operands)
        return Sample((*(given.get(i) for i in range(last)), *self.rest), dict(self.kwargs))


@dataclass(frozen=True)
class Form:
    """How an element-wise op may be called: whether operands broadcast (else all but the single ones have one
    shape), and the variants of its other arguments.
    """

    broadcasts: bool
    variants: tuple[Variant, ...]


@functools.lru_cache(maxsize=64)
def form(op: Op, dtype: DType) -> Form:
    """The form of an element-wise op in a dtype, from its samples."""
    samples = [replaced(s, representable) for s in op.samples(Maker(op.name), dtype)]
    arity = len(op.operands)
    shapes = [[a.shape for a in s.args[:arity] if isinstance(a, Values)] for s in samples]
    broadcasts = any(len({s for s in given if s}) > 1 for given in shapes)
    groups: dict[str, list[Sample]] = {}
    for s in samples:
        key = repr(
            ([a is None for a in s.args[:arity]] + [True] * (arity - len(s.args)), s.args[arity:], s.kwargs)
        )
        groups.setdefault(key, []).append(s)
    return Form(broadcasts, tuple(_variant(op, dtype, group, broadcasts) for group in groups.values()))


def _variant(op: Op, dtype: DType, samples: list[Sample], broadcasts: bool) -> Variant:
    arity = len(op.operands)
    slots = tuple(i for i, a in enumerate(samples[0].args[:arity]) if a is not None)
    columns = [[s.args[i] for s in samples] for i in slots]
    kinds = tuple(next((v.dtype for v in c if isinstance(v, Values)), dtype) for c in columns)
    single = [all(not (isinstance(v, Values) and v.shape) for v in c) for c in columns]
    if len(slots) > 1 and not broadcasts:
        large = [s for s in samples if all(math.prod(v.shape) for v in tensors(s))]
        rows = [tuple(s.args[i].data for i in slots) for s in large]
        most = [
            [x for row in rows for x in (row[k] if not single[k] else row[k] * len(max(row, key=len)))]
            for k in range(len(slots))
        ]
        pools = tuple(tuple(c) for c in most)
    else:
        lengths = LENGTHS.get(len(slots), LENGTHS[3])
        pools = tuple(
            _pool(op, d, n, c, k) for k, (d, n, c) in enumerate(zip(kinds, lengths, columns, strict=True))
        )
    alone = (
        frozenset(s for s, yes in zip(slots, single, strict=True) if yes)
        if not broadcasts and len(slots) > 1
        else frozenset()
    )
    return Variant(
        slots, alone, kinds, pools, tuple(samples[0].args[arity:]), tuple(samples[0].kwargs.items())
    )


def _pool(op: Op, dtype: DType, length: int, given: Sequence[Any], slot: int) -> tuple[Any, ...]:
    """The numbers of one operand, in an order that does not depend on the machine."""
    draw = random.Random(f"pool {op.name} {dtype.name} {slot}")
    several = len(op.operands) > 1
    # a sum of exponentials that is nearly 1 has a logarithm of which no digit need be right: no chance pairs
    steady = op.primitive or not several or op.ulp in (0, 0.5)
    own = [x for v in given if isinstance(v, Values) and v.dtype is dtype for x in v.data] if steady else []
    ordinary = draw.sample(own, min(len(own), max(length // 3, 2)))
    special = special_values(dtype)
    if dtype.kind == "complex" and several:
        # without the extreme ones, which `special` pairs: their powers alone take the reference a minute
        special = list({repr(z): z for z in _complex_pairs(dtype)[0] if not _extreme(z)}.values())
    if dtype.kind == "float" and steady:
        special += [s * x for x in FAR if x < dtype.max for s in (1.0, -1.0)]
    if dtype.kind in ("int", "uint") and dtype.bits == 64:
        special += [2**53 + 1, 2**53 - 1]
    room = length - len(ordinary)
    if len(special) > room:
        kept = [x for x in special if dtype.kind == "float" and (x == 0 or not math.isfinite(x))]
        special = kept + draw.sample([x for x in special if x not in kept], room - len(kept))
    numbers = [rounded(x, dtype) if inexact(dtype) else x for x in (*special, *ordinary)]
    numbers += draw.choices(numbers, k=length - len(numbers))
    draw.shuffle(numbers)
    return tuple(numbers)


def _extreme(z: complex) -> bool:
    return any(math.isfinite(p) and p and not 1e-3 < abs(p) < 1e3 for p in (z.real, z.imag))


class Table:
    """The reference's answers of one variant, for combinations of places in its pools, each asked for once."""

    def __init__(self, oracle: Oracle, op: Op, dtype: DType, variant: Variant) -> None:
        self.oracle, self.op, self.dtype, self.variant = oracle, op, dtype, variant
        self.places: dict[tuple[int, ...], int] = {}
        self.answers: list[list[Any]] = []
        self.reach: list[
            list[tuple[float, float]]
        ] = []  # of each answer its bound and unit, where it has them
        self.kinds: list[Expected] = []

    def ask(self, keys: Sequence[tuple[int, ...]]) -> None:
        """Have the answers for these combinations: one index for each slot that is not single."""
        fresh = [k for k in dict.fromkeys(keys) if k not in self.places]
        if not fresh and self.kinds:
            return
        found = self.oracle._value(self.case(fresh))
        if not self.kinds:
            self.kinds = found
            self.answers, self.reach = [[] for _ in found], [[] for _ in found]
        for column, reach, e in zip(self.answers, self.reach, found, strict=True):
            column.extend(e.result.data)
            if e.bounds and e.units:
                reach.extend(zip(e.bounds, e.units, strict=True))
        for key in fresh:
            self.places[key] = len(self.places)

    def case(self, keys: Sequence[tuple[int, ...]]) -> Case:
        """The call of one axis in which element i has the operands ``keys[i]``."""
        v = self.variant
        varying = iter(range(len(v.slots)))
        operands = []
        for slot, dtype, pool in zip(v.slots, v.dtypes, v.pools, strict=True):
            if slot in v.single:
                operands.append(Values((), dtype, (pool[0],)))
            else:
                k = next(varying)
                operands.append(Values((len(keys),), dtype, tuple(pool[key[k]] for key in keys)))
        return Case(self.op, self.dtype, "special", 0, v.sample(self.op, operands))

    def judge(
        self,
        output: int,
        shape: tuple[int, ...],
        keys: Sequence[tuple[int, ...]],
        bits: Sequence[Any],
        values: Sequence[Any],
    ) -> float:
        """The largest distance in ULP of a result from the answers; Disagreement names the first element that is
        too far. ``keys``, ``bits`` and ``values``: what each element is made of, its bits and its number.
        """
        first = dict(
            zip(reversed(list(zip(keys, bits, strict=True))), range(len(keys) - 1, -1, -1), strict=True)
        )
        where = sorted(first.values())
        try:
            return self._compared(output, [keys[i] for i in where], [values[i] for i in where])
        except Disagreement:
            for i in where:
                try:
                    self._compared(output, [keys[i]], [values[i]])
                except Disagreement as problem:
                    operands = ", ".join(repr(v.data[0]) for v in tensors(self.case([keys[i]]).sample))  # type: ignore[arg-type]
                    text = str(problem).replace("(0,)", place(shape, i), 1)
                    raise Disagreement(f"{text}; its operands: {operands}") from None
            raise

    def _compared(self, output: int, keys: list[tuple[int, ...]], values: list[Any]) -> float:
        kind, column = self.kinds[output], self.answers[output]
        at = [self.places[k] for k in keys]
        dtype = kind.result.dtype
        wanted = Result((len(keys),), dtype, tuple(column[i] for i in at), kind.result.device)
        bounds, units = (
            zip(*[self.reach[output][i] for i in at], strict=True) if self.reach[output] else ((), ())
        )
        expected = kind._replace(result=wanted, bounds=list(bounds) or None, units=list(units) or None)
        return compare(self.case(keys), expected, Result((len(keys),), dtype, tuple(values), ""))


@functools.lru_cache(maxsize=32)
def table(oracle: Oracle, op: Op, dtype: DType, number: int) -> Table:
    """The table of a variant; the latest are kept."""
    return Table(oracle, op, dtype, form(op, dtype).variants[number])
