"""Einstein summation, reduced to transposes, sums and products of matrices.

Operands are contracted two at a time, each time the pair whose product grows the least (shapes decide, so
that the order is the same on every backend). A pair becomes one batched ``matmul``; where nothing is summed
over, an element-wise product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..dtypes import HALF, NUMERIC, promote
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..params import not_a_tensor
from .arrange import diagonal
from .contract import matmul
from .elementwise import astype, multiply
from .movement import permute_dims, reshape
from .reduce import sum

if TYPE_CHECKING:
    from ..tensor import Tensor

Labels = tuple[
    Any, ...
]  # a letter for a named axis, a negative number for an axis of the ellipsis, counted from its end


class _Einsum:
    """Stands for an op in messages."""

    name, operands = "einsum", ("operands",)


def _term(text: str, subscripts: str) -> tuple[str, str | None]:
    """The letters before and after the ellipsis of one operand; the second is None when there is no ellipsis."""
    before, dots, after = text.partition("...")
    for part in (before, after):
        for letter in part:
            if not (letter.isascii() and letter.isalpha()):
                raise ShapeError(
                    f"einsum: {letter!r} in {subscripts!r} is not a letter: write one letter per axis, ',' '->' and '...'"
                )
    return before, after if dots else None


@lru_cache(maxsize=512)
def _parse(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of the axes of each operand and of the result."""
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ShapeError(
            f"einsum: {subscripts!r} is for {len(terms)} operand{'s' * (len(terms) != 1)}, got {len(ndims)}"
        )
    labels = []
    for position, (term, ndim) in enumerate(zip(terms, ndims, strict=True)):
        before, after = _term(term, subscripts)
        free = ndim - len(before) - len(after or "")
        if free < 0 or (free and after is None):
            raise ShapeError(
                f"einsum: {term!r} in {subscripts!r} does not fit operand {position} of {ndim} dimensions"
            )
        labels.append((*before, *range(-free, 0), *(after or "")))
    used = [a for operand in labels for a in operand]
    dots = tuple(range(min((a for a in used if isinstance(a, int)), default=0), 0))
    if not arrow:
        return tuple(labels), (*dots, *sorted({a for a in used if isinstance(a, str) and used.count(a) == 1}))
    before, after = _term(output, subscripts)
    result: Labels = (*before, *(dots if after is not None else ()), *(after or ""))
    for letter in result:
        if result.count(letter) > 1:
            raise ShapeError(f"einsum: {letter!r} is twice in the result of {subscripts!r}")
        if letter not in used:
            raise ShapeError(f"einsum: {letter!r} in the result of {subscripts!r} is in no operand")
    return tuple(labels), result


def _sizes(operands: Sequence[Any], labels: Sequence[Labels], subscripts: str) -> dict[Any, int]:
    """The size of each labelled axis; axes of size 1 broadcast."""
    sizes: dict[Any, int] = {}
    for x, names in zip(operands, labels, strict=True):
        for i, (n, name) in enumerate(zip(x.shape, names, strict=True)):
            if name in names[:i] and x.shape[names.index(name)] != n:
                raise ShapeError(
                    f"einsum: the diagonal {name!r} in {subscripts!r} needs axes of one size, x has shape {x.shape}"
                )
            known = sizes.setdefault(name, n)
            if known == 1:
                sizes[name] = n
            elif n not in (1, known):
                what = f"axis {name!r}" if isinstance(name, str) else "an axis of '...'"
                raise ShapeError(
                    f"einsum: {what} in {subscripts!r} has sizes {known} and {n}, shapes are {', '.join(str(o.shape) for o in operands)}"
                )
    return sizes


def _simplified(x: Tensor, names: Labels, sizes: dict[Any, int]) -> tuple[Tensor, Labels]:
    """x without repeated labels (their diagonal), and without axes of size 1 that broadcast against larger
    ones.
    """
    kept = [i for i, name in enumerate(names) if x.shape[i] == sizes[name]]
    if len(kept) == len(names) == len(set(names)):
        return x, names
    if len(kept) < len(names):
        x, names = reshape(x, tuple(x.shape[i] for i in kept)), tuple(names[i] for i in kept)
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            others = [i for i in range(len(names)) if i not in (first, second)]
            x = diagonal(permute_dims(x, (*others, first, second)))
            names = (*[names[i] for i in others], name)
    return x, names


def _summed(x: Tensor, names: Labels, keep: set[Any]) -> tuple[Tensor, Labels]:
    """x summed over the axes whose labels nobody else needs."""
    over = tuple(i for i, name in enumerate(names) if name not in keep)
    if not over:
        return x, names
    return sum(x, axis=over, dtype=x.dtype), tuple(name for name in names if name in keep)


def _arranged(x: Tensor, names: Labels, order: Sequence[Any], shape: tuple[int, ...]) -> Tensor:
    """x with its axes in ``order`` and then in ``shape``; nothing is called for what is so already."""
    if names != tuple(order):
        x = permute_dims(x, tuple(names.index(n) for n in order))
    return x if x.shape == shape else reshape(x, shape)


def _aligned(x: Tensor, names: Labels, order: Labels) -> Tensor:
    """x with its axes in ``order`` and an axis of size 1 for each label that it does not have."""
    shape = tuple(x.shape[names.index(name)] if name in names else 1 for name in order)
    return _arranged(x, names, [name for name in order if name in names], shape)


def _pair(
    x1: Tensor, names1: Labels, x2: Tensor, names2: Labels, keep: set[Any], sizes: dict[Any, int]
) -> tuple[Tensor, Labels]:
    """The product of two operands, summed over the labels that only they have."""
    x1, names1 = _summed(x1, names1, keep | set(names2))
    x2, names2 = _summed(x2, names2, keep | set(names1))
    batch = [n for n in names1 if n in names2 and n in keep]
    inner = [n for n in names1 if n in names2 and n not in keep]
    rows = [n for n in names1 if n not in names2]
    columns = [n for n in names2 if n not in names1]
    result = (*batch, *rows, *columns)
    if not inner:
        return multiply(_aligned(x1, names1, result), _aligned(x2, names2, result)), result
    lead, k = tuple(sizes[n] for n in batch), math.prod(sizes[n] for n in inner)
    m, n = math.prod(sizes[r] for r in rows), math.prod(sizes[c] for c in columns)
    left = _arranged(x1, names1, (*batch, *rows, *inner), (*lead, m, k))
    right = _arranged(x2, names2, (*batch, *inner, *columns), (*lead, k, n))
    product, shape = matmul(left, right), tuple(sizes[name] for name in result)
    return product if product.shape == shape else reshape(product, shape), result


def _next_pair(labels: list[Labels], output: Labels, sizes: dict[Any, int]) -> tuple[int, int]:
    """Which two operands to contract: those whose product is the smallest compared with themselves, the first
    of equals.
    """
    if len(labels) == 2:
        return 0, 1

    def size(names: Any) -> int:
        return math.prod(sizes[n] for n in names)

    def cost(i: int, j: int) -> tuple[int, int]:
        keep = set(output).union(*(names for k, names in enumerate(labels) if k not in (i, j)))
        both = dict.fromkeys((*labels[i], *labels[j]))
        return size([n for n in both if n in keep]) - size(labels[i]) - size(labels[j]), size(both)

    return min(((i, j) for j in range(len(labels)) for i in range(j)), key=lambda pair: cost(*pair))


def einsum(subscripts: str, /, *operands: Tensor) -> Tensor:
    """Products of the operands' elements, summed over axes, in Einstein's notation.

    ``subscripts`` names each operand's axes with letters, ``"ij,jk->ik"``: equal letters run together, labels
    missing from the result are summed over. A letter repeated within an operand takes a diagonal, ``...``
    stands for any axes, which broadcast. Without ``->`` the result has the axes of ``...`` and then the
    letters that occur once, in alphabetical order. Dtypes promote; integers wrap.

    Raises ShapeError for subscripts that do not fit.

    Example: ``einsum("bij,bjk->bik", x, y)`` for x of shape (5, 2, 3) and y of shape (5, 3, 4) is ``matmul(x,
    y)``.
    """
    if not isinstance(subscripts, str):
        raise DTypeError(
            f"einsum: subscripts must be a string such as 'ij,jk->ik', got {type(subscripts).__name__}"
        )
    for position, x in enumerate(operands):
        if not hasattr(x, "_backend"):
            raise DTypeError(not_a_tensor(_Einsum, f"operand {position}", x))
    parsed, output = _parse(subscripts, tuple(x.ndim for x in operands))
    sizes = _sizes(operands, parsed, subscripts)
    dtype = operands[0].dtype
    for x in operands[1:]:
        dtype = promote(dtype, x.dtype)
    if dtype not in (*NUMERIC, *HALF):
        raise DTypeError(f"einsum does not accept {dtype.name}: call x.astype(corelib.int64)")
    simple = [
        _simplified(x if x.dtype is dtype else astype(x, dtype), names, sizes)
        for x, names in zip(operands, parsed, strict=True)
    ]
    tensors, labels = [x for x, _ in simple], [names for _, names in simple]
    while len(tensors) > 1:
        i, j = _next_pair(labels, output, sizes)
        x2, names2 = tensors.pop(j), labels.pop(j)
        x1, names1 = tensors.pop(i), labels.pop(i)
        x, names = _pair(x1, names1, x2, names2, set(output).union(*labels), sizes)
        tensors.append(x)
        labels.append(names)
    x, names = _summed(tensors[0], labels[0], set(output))
    return x if names == output else permute_dims(x, tuple(names.index(name) for name in output))


__all__: Sequence[str] = ("einsum",)
calls.einsum = einsum
