"""Connectionist temporal classification (Graves et al., ICML 2006): the loss of a sequence of labels whose places in time
are unknown.

The forward variables are kept as logarithms. What is impossible has the logarithm IMPOSSIBLE, which is finite, so that no
difference of infinities arises in the recursion or in its derivative.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import ArgumentError, IndexOutOfBoundsError, ShapeError
from ..op import calls
from ..rules import Spec, custom
from ..samples import ErrorSample, Sample, Values
from .activations import one_of
from .arrange import stack
from .compare import greater, less, logical_and, not_equal
from .elementwise import add, divide, exp, log, maximum, multiply, negative, stop_gradient, subtract, where
from .index import take_along_axis
from .losses import REDUCTIONS
from .movement import concat, narrow, pad, reshape
from .nn import checked_labels, refuse_labels
from .reduce import sum

if TYPE_CHECKING:
    from ..tensor import Tensor

IMPOSSIBLE = -1e30


@custom(FLOATING, joint=(0,), fixed={1: int64, 2: int64, 3: int64})
def _ctc_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    log_probs, targets, input_lengths, target_lengths = specs
    _check(op, log_probs, targets, input_lengths, target_lengths, **params)
    return Spec((log_probs.shape[1],) if params["reduction"] == "none" else (), log_probs.dtype)


def _check(
    op: Any, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int, reduction: str, zero_infinity: bool
) -> None:  # fmt: skip
    one_of(op, "reduction", reduction, REDUCTIONS)
    if len(log_probs.shape) != 3 or 0 in log_probs.shape:
        raise ShapeError(
            f"{op.name}: log_probs must have shape (T, N, C), none of them 0, got {tuple(log_probs.shape)}"
        )
    n, classes = log_probs.shape[1:]
    if len(targets.shape) != 2 or targets.shape[0] != n:
        raise ShapeError(f"{op.name}: targets must have shape ({n}, S), got {tuple(targets.shape)}")
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if tuple(lengths.shape) != (n,):
            raise ShapeError(f"{op.name}: {name} must have shape ({n},), got {tuple(lengths.shape)}")
    if not 0 <= blank < classes:
        raise ArgumentError(f"{op.name}: blank {blank} is out of range for {classes} classes")


def _diagnose(op: Any, operands: Any, params: dict[str, Any]) -> None:
    log_probs, targets, _, target_lengths = operands
    for i, n in enumerate(target_lengths._flat("a length that a kernel refused")):
        if not 0 <= n <= targets.shape[1]:
            raise IndexOutOfBoundsError(
                f"{op.name}: target_lengths[{i}] is {n}, targets of shape {targets.shape} have room for {targets.shape[1]} labels"
            )
    refuse_labels(op, "label", targets, log_probs.shape[2])


def _log_sum(*terms: Tensor) -> Tensor:
    """log(sum of exp(terms)); terms are finite, so that its derivative is."""
    largest = terms[0]
    for term in terms[1:]:
        largest = maximum(largest, term)
    largest = stop_gradient(largest)
    total: Any = None
    for term in terms:
        e = exp(subtract(term, largest))
        total = e if total is None else add(total, e)
    return add(log(total), largest)


def _late(x: Tensor, steps: int) -> Tensor:
    """x moved along the last axis, what comes in being impossible."""
    width = x.shape[1]
    return pad(narrow(x, -1, 0, width - steps), ((0, 0), (steps, 0)), constant_values=IMPOSSIBLE)


def _samples(make: Any, dtype: Any) -> Any:
    def lengths(*values: int) -> Values:
        return Values((len(values),), int64, values)

    def labels(*rows: tuple[int, ...]) -> Values:
        return Values((len(rows), len(rows[0])), int64, tuple(i for row in rows for i in row))

    for shape, targets, inputs, outputs, params in (
        ((4, 2, 3), labels((1, 2), (2, 2)), lengths(4, 3), lengths(2, 2), {}),
        ((3, 1, 3), labels((0, 1)), lengths(3), lengths(1), {"blank": 2, "reduction": "sum"}),
        ((2, 2, 3), labels((1, 1), (1, 0)), lengths(2, 2), lengths(2, 0), {"zero_infinity": True, "reduction": "none"}),
        ((5, 2, 4), labels((1, 2, 3), (3, 1, 0)), lengths(5, 4), lengths(3, 2), {"reduction": "none"}),
    ):  # fmt: skip
        yield Sample((make.array(shape, dtype, -4, -0.5), targets, inputs, outputs), params)


def _refused(error: type[Exception], words: str, targets: Values, outputs: tuple[int, ...], **params: Any) -> ErrorSample:  # fmt: skip
    def build(m: Any) -> Sample:
        lengths = (Values((2,), int64, (4, 4)), Values((len(outputs),), int64, outputs))
        return Sample((m.array((4, 2, 3), float32), targets, *lengths), params)

    return ErrorSample(error, f"ctc_loss: {words}", build)


_TARGETS = Values((2, 2), int64, (1, 2, 2, 1))


@composite(
    kind="opaque", rule=_ctc_rule, samples=_samples, ulp=64, diagnose=_diagnose,
    errors=[
        _refused(ShapeError, r"targets must have shape \(2, S\), got \(4,\)", Values((4,), int64, (1, 2, 2, 1)), (2, 2)),
        _refused(ShapeError, r"target_lengths must have shape \(2,\), got \(3,\)", _TARGETS, (2, 2, 1)),
        _refused(ArgumentError, "blank 3 is out of range for 3 classes", _TARGETS, (2, 2), blank=3),
        _refused(ArgumentError, "reduction must be 'mean', 'sum' or 'none', got 'all'", _TARGETS, (2, 2), reduction="all"),
        _refused(IndexOutOfBoundsError, "label 3 is out of range for 3: valid are 0 to 2", Values((2, 2), int64, (1, 3, 2, 1)), (2, 2)),
        _refused(IndexOutOfBoundsError, r"target_lengths\[1\] is 3, targets of shape \(2, 2\) have room for 2 labels", _TARGETS, (2, 3)),
    ],
)  # fmt: skip
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    /,
    *,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The negative logarithm of the probability that a path through ``log_probs`` (T, N, C), logarithms of probabilities,
    reads as the labels of ``targets`` (N, S) when repetitions are joined and blanks are then left out.

    Example n has ``input_lengths[n]`` steps and ``target_lengths[n]`` labels; what is behind them is not read. A target
    that no path of that length reads has the loss infinity, or 0 with ``zero_infinity``, and passes on no gradient. "mean"
    divides each loss by the number of its labels first, as PyTorch does.
    """
    params = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    _check(ctc_loss.op, log_probs, targets, input_lengths, target_lengths, **params)  # type: ignore[attr-defined,arg-type]
    steps, n, classes = log_probs.shape
    count, device = targets.shape[1], targets._backend
    lengths = reshape(target_lengths, (n, 1))
    labels = where(less(calls.arange(count, device=device), lengths), checked_labels(targets, classes), blank)
    blanks = calls.full((n, 1), blank, dtype=int64, device=device)
    path = concat(
        [reshape(stack([calls.broadcast_to(blanks, labels.shape), labels], axis=-1), (n, 2 * count)), blanks],
        axis=-1,
    )
    emitted = maximum(take_along_axis(log_probs, reshape(path, (1, *path.shape)), axis=-1), IMPOSSIBLE)
    width = 2 * count + 1
    # a label may follow another one without a blank between them
    before = pad(
        narrow(path, -1, 0, max(width - 2, 0)),
        ((0, 0), (width - max(width - 2, 0), 0)),
        constant_values=blank,
    )
    jumps = logical_and(not_equal(path, blank), not_equal(path, before))

    first = less(calls.arange(width, device=device), 2)
    alpha = where(first, reshape(narrow(emitted, -3, 0, 1), (n, width)), IMPOSSIBLE)
    for t in range(1, steps):
        terms = [alpha]
        if count:
            terms += [_late(alpha, 1), where(jumps, _late(alpha, 2), IMPOSSIBLE)]
        step = add(_log_sum(*terms), reshape(narrow(emitted, -3, t, 1), (n, width)))
        alpha = where(greater(reshape(input_lengths, (n, 1)), t), step, alpha)
    last = multiply(lengths, 2)
    ends = take_along_axis(alpha, checked_labels(last, width), axis=-1)
    if count:
        inner = take_along_axis(alpha, maximum(subtract(last, 1), 0), axis=-1)
        ends = _log_sum(ends, where(greater(lengths, 0), inner, IMPOSSIBLE))
    loss = reshape(negative(ends), (n,))
    loss = where(less(loss, -IMPOSSIBLE / 10), loss, 0.0 if zero_infinity else math.inf)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return sum(loss)
    return divide(sum(divide(loss, calls.astype(maximum(target_lengths, 1), loss.dtype))), n)
