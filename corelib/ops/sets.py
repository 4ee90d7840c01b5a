"""Tensors as sets: distinct values, membership, union, intersection, difference.

Sizes of results depend on values, which these functions read; they cannot be traced. All are made of a sort,
so that results are in ascending order on every backend: complex numbers by their real parts, then by their
imaginary parts. NaN is equal to nothing: each one is a value of its
own, as the array API standard has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..dtypes import bool as bool_
from ..dtypes import int64, result_type
from ..errors import DTypeError
from ..op import calls
from ..params import checked
from .arrange import diff
from .compare import equal, not_equal
from .creation import full
from .elementwise import astype, bitwise_invert, imag, minimum, real, subtract
from .index import nonzero, scatter, take
from .interchange import asarray
from .movement import broadcast_to, concat, narrow, reshape
from .reduce import cumulative_sum
from .sort import argsort, searchsorted

if TYPE_CHECKING:
    from ..tensor import Tensor


class UniqueAll(NamedTuple):
    """What ``unique_all`` returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What ``unique_counts`` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What ``unique_inverse`` returns."""

    values: Tensor
    inverse_indices: Tensor


def _flat(name: str, x: Any, argument: str = "x") -> Tensor:
    checked(name, x, argument)
    return reshape(x, (x.size,))


def _order(line: Tensor) -> Tensor:
    """The positions that sort ``line``; equal elements stay in order."""
    if line.dtype.kind != "complex":
        return argsort(line)
    order = argsort(imag(line))
    return take(order, argsort(take(real(line), order)))


def _begins(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each element of a sorted line begins a group of equals, and where the groups begin."""
    n = ordered.size
    begins = full((1 if n else 0,), True, dtype=bool_, device=ordered._backend)
    if n > 1:
        begins = concat([begins, not_equal(narrow(ordered, -1, 1, n - 1), narrow(ordered, -1, 0, n - 1))])
    return begins, nonzero(begins)[0]


def _counts(starts: Tensor, total: int) -> Tensor:
    """How many elements each group has, of ``total`` in all."""
    return diff(concat([starts, full((1,), total, dtype=int64, device=starts._backend)])) if total else starts


def unique_all(x: Tensor, /) -> UniqueAll:
    """The distinct elements of x in ascending order: ``(values, indices, inverse_indices, counts)``.

    ``indices``: where in the flattened x each occurs first; ``inverse_indices``, of x's shape: which value
    each element is, so that ``take(values, inverse_indices)`` is x; ``counts``: how often each occurs.
    """
    return _unique("unique_all", x)


def _unique(name: str, x: Any) -> UniqueAll:
    line = _flat(name, x)
    order = _order(line)
    begins, starts = _begins(take(line, order))
    indices = take(order, starts)
    group = subtract(cumulative_sum(begins, axis=0, dtype=int64), 1)
    inverse = reshape(scatter(group, group, order), x.shape)
    return UniqueAll(take(line, indices), indices, inverse, _counts(starts, line.size))


def _sorted(name: str, x: Any) -> tuple[Tensor, Tensor]:
    """The elements of x in ascending order, and where the groups of equal ones begin."""
    line = _flat(name, x)
    ordered = take(line, _order(line)) if line.dtype.kind == "complex" else calls.sort(line)
    return ordered, _begins(ordered)[1]


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The distinct elements of x in ascending order and how often each occurs."""
    ordered, starts = _sorted("unique_counts", x)
    return UniqueCounts(take(ordered, starts), _counts(starts, ordered.size))


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The distinct elements of x in ascending order, and of x's shape, which of them each element is."""
    found = _unique("unique_inverse", x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements of x in ascending order."""
    ordered, starts = _sorted("unique_values", x)
    return take(ordered, starts)


def isin(x1: Tensor | Any, x2: Tensor | Any, /, *, invert: bool = False) -> Tensor:
    """For each element of x1, whether x2 holds an equal one (or, with ``invert``, none): bool, of x1's shape."""
    like = x1 if hasattr(x1, "_backend") else x2
    for argument, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, bool | int | float | complex):
            checked("isin", x, argument)
    if not hasattr(like, "_backend"):
        raise DTypeError("isin needs a Tensor among its operands")
    dtype = result_type(x1, x2)
    x1, x2 = (
        astype(x if hasattr(x, "_backend") else asarray(x, dtype=dtype, device=like._backend), dtype)
        for x in (x1, x2)
    )
    if dtype.kind == "complex":  # which have no order: equal numbers get equal places among the distinct ones
        count, shape = x1.size, x1.shape
        places = _unique("isin", concat([_flat("isin", x1), _flat("isin", x2)])).inverse_indices
        x1, x2 = reshape(narrow(places, -1, 0, count), shape), narrow(places, -1, count, x2.size)
    values = calls.sort(_flat("isin", x2))
    if values.size:
        places = minimum(searchsorted(values, x1), values.size - 1)
        found = equal(take(values, places), x1)
    else:
        found = broadcast_to(full((), False, dtype=bool_, device=x1._backend), x1.shape)
    return bitwise_invert(found) if invert else found


def union1d(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The distinct elements of x1 and x2 together, in ascending order."""
    return unique_values(concat([_flat("union1d", x1, "x1"), _flat("union1d", x2, "x2")]))


def intersect1d(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The distinct elements that x1 and x2 both have, in ascending order."""
    checked("intersect1d", x1, "x1")
    checked("intersect1d", x2, "x2")
    values = unique_values(astype(x1, result_type(x1, x2)))
    return take(values, nonzero(isin(values, x2))[0])


def setdiff1d(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The distinct elements of x1 that x2 does not have, in ascending order."""
    checked("setdiff1d", x1, "x1")
    checked("setdiff1d", x2, "x2")
    values = unique_values(x1)
    return take(values, nonzero(isin(values, x2, invert=True))[0])


__all__: Sequence[str] = (
    "intersect1d", "isin", "setdiff1d", "union1d", "unique_all", "unique_counts", "unique_inverse", "unique_values",
)  # fmt: skip

for _name in __all__:
    setattr(calls, _name, globals()[_name])
