"""Losses that are made of ops, under PyTorch's names; the losses that are ops themselves stand in ``ops/losses.py``.

``reduction`` is "mean", "sum" or "none" over all elements of what is summed. A loss of your own is a plain function.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops import ctc, losses
from ..ops.activations import one_of, softplus
from ..ops.compare import equal, greater
from ..ops.elementwise import (
    abs,
    add,
    divide,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    sqrt,
    stop_gradient,
    subtract,
    where,
)
from ..ops.index import take
from ..ops.interchange import asarray
from ..ops.losses import REDUCTIONS
from ..ops.movement import reshape
from ..ops.nn import log_softmax, one_hot
from ..ops.reduce import max as largest
from ..ops.reduce import sum
from ..params import Caller

if TYPE_CHECKING:
    from ..tensor import Tensor

# -- what the losses share -----------------------------------------------------------------------------------


def reduced(name: str, loss: Tensor, reduction: str, weight: Tensor | None = None) -> Tensor:
    """The elements of a loss, each times ``weight``, reduced."""
    one_of(Caller(name), "reduction", reduction, REDUCTIONS)
    loss = loss if weight is None else multiply(loss, weight)
    if reduction == "none":
        return loss
    total = sum(loss)
    return total if reduction == "sum" else divide(total, loss.size)


def _equal_shapes(name: str, **operands: Tensor) -> None:
    shapes = {n: x.shape for n, x in operands.items()}
    if len(set(shapes.values())) > 1:
        listed = " and ".join(f"{n} of shape {shape}" for n, shape in shapes.items())
        raise ShapeError(f"{name}: {listed} must be equal: use broadcast_to")


def _class_axis(x: Tensor) -> int:
    """PyTorch's class axis: 1, or the only one."""
    return 1 if x.ndim > 1 else 0


# -- of classes ----------------------------------------------------------------------------------------------


def cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Cross-entropy of logits of shape (N, C, ...) or (C,): classes are on axis 1.

    ``target``: labels, integers of shape (N, ...) or (), or probabilities of x's shape and a floating dtype. ``weight``
    (C,) is a weight for each class; the mean over labels is then the weighted one, that over probabilities is divided by
    the number of examples, as PyTorch does.
    """
    axis = _class_axis(x)
    if target.dtype.kind == "float":
        return _soft_cross_entropy(x, target, axis, reduction, label_smoothing, weight, ignore_index)
    if weight is None:
        return losses.cross_entropy(
            x, target, axis=axis, reduction=reduction, label_smoothing=label_smoothing, ignore_index=ignore_index
        )  # fmt: skip
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    logs = log_softmax(x, axis=axis)
    loss, shares = _weighted_nll("cross_entropy", logs, target, axis, ignore_index, weight)
    if label_smoothing:
        everything = negative(sum(multiply(logs, _per_class(weight, x, axis)), axis=axis))
        if ignore_index is not None:
            everything = where(equal(target, ignore_index), 0, everything)
        everything = multiply(everything, label_smoothing / x.shape[axis])
        loss = add(multiply(loss, 1 - label_smoothing), everything)
    return _weighted("cross_entropy", loss, shares, reduction)


def _per_class(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    if weight.shape != (x.shape[axis],):
        raise ShapeError(
            f"cross_entropy: weight must have shape {(x.shape[axis],)}, one for each class of x {x.shape}, got {weight.shape}"
        )
    return reshape(weight, (weight.size, *(1,) * (x.ndim - axis - 1)))


def _soft_cross_entropy(
    x: Tensor, target: Tensor, axis: int, reduction: str, label_smoothing: float, weight: Tensor | None, ignore_index: int | None
) -> Tensor:  # fmt: skip
    _equal_shapes("cross_entropy", x=x, target=target)
    if ignore_index is not None:
        raise ArgumentError("cross_entropy: ignore_index is for labels, the target are probabilities")
    if label_smoothing:
        target = add(multiply(target, 1 - label_smoothing), label_smoothing / x.shape[axis])
    logs = log_softmax(x, axis=axis)
    logs = logs if weight is None else multiply(logs, _per_class(weight, x, axis))
    loss = negative(sum(multiply(logs, target), axis=axis))
    one_of(Caller("cross_entropy"), "reduction", reduction, REDUCTIONS)
    if reduction != "mean":
        return loss if reduction == "none" else sum(loss)
    return divide(sum(loss), loss.size)


def _weighted_nll(
    name: str, logs: Tensor, target: Tensor, axis: int, ignore_index: int | None, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """-logs at each label times its class's weight, and these weights; 0 for ignored labels."""
    _per_class(weight, logs, axis)
    loss = losses.nll_loss(logs, target, axis=axis, reduction="none", ignore_index=ignore_index)
    if ignore_index is None:
        shares = take(weight, target, axis=0)
    else:
        ignored = equal(target, ignore_index)
        shares = where(ignored, 0, take(weight, where(ignored, 0, target), axis=0))
    return multiply(loss, shares), shares


def _weighted(name: str, loss: Tensor, shares: Tensor, reduction: str) -> Tensor:
    one_of(Caller(name), "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return loss
    return sum(loss) if reduction == "sum" else divide(sum(loss), sum(shares))


def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean"
) -> Tensor:  # fmt: skip
    """-x at the label, for logarithms of probabilities of shape (N, C, ...) or (C,): classes are on axis 1. ``weight``
    as in :func:`cross_entropy`.
    """
    axis = _class_axis(x)
    if weight is None:
        return losses.nll_loss(x, target, axis=axis, reduction=reduction, ignore_index=ignore_index)
    return _weighted("nll_loss", *_weighted_nll("nll_loss", x, target, axis, ignore_index, weight), reduction)


def multi_margin_loss(
    x: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:  # fmt: skip
    """The mean over the classes of max(0, margin - x at the label + x)**p, but for the label's own: the hinge loss of
    several classes. x of shape (N, C) or (C,), labels (N,) or ().
    """
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p must be 1 or 2, got {p}")
    label = losses.nll_loss(x, target, axis=-1, reduction="none")
    distance = maximum(add(add(x, reshape(label, (*label.shape, 1))), margin), 0)
    distance = distance if p == 1 else multiply(distance, distance)
    distance = where(greater(one_hot(target, x.shape[-1]), 0), 0, distance)
    loss = divide(sum(distance, axis=-1), x.shape[-1])
    return reduced("multi_margin_loss", loss, reduction, None if weight is None else take(weight, target, axis=0))  # fmt: skip


def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """Connectionist temporal classification: see ``ops.ctc_loss``. ``log_probs`` (T, N, C) or (T, C), ``targets`` (N, S),
    (S,) for one example, or all of them one after the other, and lengths as tensors or sequences of integers.
    """
    device = log_probs._backend
    single = log_probs.ndim == 2
    if single:
        log_probs = reshape(log_probs, (log_probs.shape[0], 1, log_probs.shape[1]))
    inputs, outputs = (_numbers(n) for n in (input_lengths, target_lengths))
    for i, n in enumerate(inputs):
        if not 0 < n <= log_probs.shape[0]:
            raise ArgumentError(
                f"ctc_loss: input_lengths[{i}] is {n}, log_probs of shape {log_probs.shape} has {log_probs.shape[0]} steps"
            )
    if targets.ndim == 1:
        targets = _rows(targets, outputs)
    loss = ctc.ctc_loss(
        log_probs, targets, asarray(inputs, dtype="int64", device=device), asarray(outputs, dtype="int64", device=device),
        blank=blank, reduction=reduction, zero_infinity=zero_infinity,
    )  # fmt: skip
    return reshape(loss, ()) if single else loss


def _numbers(lengths: Any) -> list[int]:
    found = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    return list(found) if isinstance(found, Sequence) else [found]


def _rows(targets: Tensor, lengths: list[int]) -> Tensor:
    """Targets one after the other as the rows of a table."""
    ends = list(itertools.accumulate(lengths))
    total = ends[-1] if ends else 0
    if total != targets.size:
        raise ShapeError(
            f"ctc_loss: target_lengths add up to {total}, targets of shape {targets.shape} have {targets.size} labels"
        )
    longest = max(lengths, default=0)
    places = [
        [end - n + i if i < n else 0 for i in range(longest)] for end, n in zip(ends, lengths, strict=True)
    ]
    index = reshape(asarray([i for row in places for i in row], dtype="int64", device=targets._backend), (len(lengths), longest))  # fmt: skip
    return take(targets, index, axis=0) if targets.size else index


# -- of probabilities ----------------------------------------------------------------------------------------


def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-target log(x) - (1 - target) log(1 - x) for probabilities x, each logarithm at least -100, as in PyTorch."""
    if weight is None:
        return losses.binary_cross_entropy(x, target, reduction=reduction)
    return reduced(
        "binary_cross_entropy", losses.binary_cross_entropy(x, target, reduction="none"), reduction, weight
    )


def binary_cross_entropy_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Binary cross-entropy of logits; ``pos_weight``, which broadcasts, multiplies the term of the positive target."""
    if weight is None and pos_weight is None:
        return losses.binary_cross_entropy_with_logits(x, target, reduction=reduction)
    if pos_weight is None:
        loss = losses.binary_cross_entropy_with_logits(x, target, reduction="none")
    else:
        _equal_shapes("binary_cross_entropy_with_logits", x=x, target=target)
        factor = add(multiply(subtract(pos_weight, 1), target), 1)
        loss = add(multiply(subtract(1, target), x), multiply(factor, softplus(negative(x))))
    return reduced("binary_cross_entropy_with_logits", loss, reduction, weight)


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log(target) - x) for logarithms of probabilities x, and 0 where target is 0; with ``log_target`` the target
    is given as logarithms. ``reduction`` may be "batchmean": the sum divided by the size of axis 0.
    """
    if log_target:
        loss = multiply(exp(target), subtract(target, x))
    else:
        positive = greater(target, 0)
        logs = log(where(positive, target, 1))
        loss = subtract(where(positive, multiply(target, logs), 0), multiply(target, x))
    if reduction == "batchmean":
        return divide(sum(loss), x.shape[0])
    return reduced("kl_div", loss, reduction)


def poisson_nll_loss(
    x: Tensor, target: Tensor, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Tensor:  # fmt: skip
    """exp(x) - target x for logarithms x of Poisson rates, or x - target log(x + eps) without ``log_input``; ``full`` adds
    Stirling's approximation of log(target!) where target exceeds 1.
    """
    loss = (
        subtract(exp(x), multiply(target, x))
        if log_input
        else subtract(x, multiply(target, log(add(x, eps))))
    )
    if full:
        many = greater(target, 1)
        t = where(many, target, 1)
        stirling = add(subtract(multiply(t, log(t)), t), multiply(log(multiply(t, 2 * math.pi)), 0.5))
        loss = add(loss, where(many, stirling, 0))
    return reduced("poisson_nll_loss", loss, reduction)


def gaussian_nll_loss(
    x: Tensor, target: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log(v) + (x - target)**2 / v) / 2 with v = max(var, eps), whose derivative is that of v = var, as in PyTorch;
    ``full`` adds log(2 pi) / 2. ``var`` has x's shape, or a last axis of size 1.
    """
    v = add(var, stop_gradient(subtract(maximum(var, eps), var)))
    difference = subtract(x, target)
    loss = multiply(add(log(v), divide(multiply(difference, difference), v)), 0.5)
    return reduced("gaussian_nll_loss", add(loss, 0.5 * math.log(2 * math.pi)) if full else loss, reduction)


# -- of distances and margins --------------------------------------------------------------------------------


def smooth_l1_loss(x: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d**2 / (2 beta) for |d| = |x - target| below ``beta``, |d| - beta / 2 beyond: Huber's loss divided by beta."""
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return losses.l1_loss(x, target, reduction=reduction)
    loss = losses.huber_loss(x, target, reduction=reduction, delta=beta)
    return loss if beta == 1 else divide(loss, beta)


def cosine_similarity(x1: Tensor, x2: Tensor, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along ``axis``."""
    n1, n2 = (maximum(_length(x, axis), eps) for x in (x1, x2))
    return divide(sum(multiply(x1, x2), axis=axis), multiply(n1, n2))


def _length(x: Tensor, axis: int) -> Tensor:
    """The Euclidean norm, with gradient 0 at 0."""
    square = sum(multiply(x, x), axis=axis)
    zero = equal(square, 0)
    return where(zero, 0, sqrt(where(zero, 1, square)))


def cosine_embedding_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1: x1 and x2 of shape (N, D), target
    (N,), or (D,) and ().
    """
    _equal_shapes("cosine_embedding_loss", x1=x1, x2=x2)
    squares = [add(sum(multiply(x, x), axis=-1), 1e-12) for x in (x1, x2)]
    cosine = divide(sum(multiply(x1, x2), axis=-1), sqrt(multiply(squares[0], squares[1])))
    if target.shape != cosine.shape:
        raise ShapeError(
            f"cosine_embedding_loss: target must have shape {cosine.shape} for x1 of shape {x1.shape}, got {target.shape}"
        )
    apart = where(equal(target, -1), maximum(subtract(cosine, margin), 0), 0)
    return reduced("cosine_embedding_loss", where(equal(target, 1), subtract(1, cosine), apart), reduction)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis."""
    difference = abs(add(subtract(x1, x2), eps))
    if p == math.inf:
        return largest(difference, axis=-1, keepdims=keepdims)
    if p == 1:
        return sum(difference, axis=-1, keepdims=keepdims)
    if p == 2:
        return sqrt(sum(multiply(difference, difference), axis=-1, keepdims=keepdims))
    return pow(sum(pow(difference, p), axis=-1, keepdims=keepdims), 1 / p)


def triplet_margin_loss(
    anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
    swap: bool = False, reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with the pairwise distance d; with ``swap`` the second is
    the smaller of d(anchor, negative) and d(positive, negative).
    """
    _equal_shapes("triplet_margin_loss", anchor=anchor, positive=positive, negative=negative)
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced("triplet_margin_loss", maximum(add(subtract(near, far), margin), 0), reduction)


def margin_ranking_loss(
    x1: Tensor, x2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target (x1 - x2)): target 1 asks for x1 above x2, -1 for the opposite."""
    _equal_shapes("margin_ranking_loss", x1=x1, x2=x2, target=target)
    loss = maximum(subtract(margin, multiply(target, subtract(x1, x2))), 0)
    return reduced("margin_ranking_loss", loss, reduction)


def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where target is 1, max(0, margin - x) where it is -1."""
    _equal_shapes("hinge_embedding_loss", x=x, target=target)
    apart = where(equal(target, -1), maximum(subtract(margin, x), 0), 0)
    return reduced("hinge_embedding_loss", add(where(equal(target, 1), x, 0), apart), reduction)


def hinge_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - target x) for scores x and targets 1 or -1, that of a support vector machine. Not in PyTorch."""
    _equal_shapes("hinge_loss", x=x, target=target)
    return reduced("hinge_loss", maximum(subtract(margin, multiply(target, x)), 0), reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)) for targets 1 or -1."""
    _equal_shapes("soft_margin_loss", x=x, target=target)
    return reduced("soft_margin_loss", softplus(negative(multiply(target, x))), reduction)
