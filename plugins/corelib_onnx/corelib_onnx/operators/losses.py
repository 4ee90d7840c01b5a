"""Losses."""

from __future__ import annotations

import corelib as cl
from corelib.errors import ArgumentError

from ..table import operator


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(x, target, weight=None, *, ignore_index=None, reduction="mean"):
    """-x at each target's class (axis 1), times the class's weight; the mean is over the sum of the weights."""
    counted = None if ignore_index is None else cl.not_equal(target, ignore_index)
    labels = target if counted is None else cl.where(counted, target, 0)
    loss = -cl.squeeze(cl.take_along_axis(x, cl.expand_dims(cl.astype(labels, cl.int64), 1), axis=1), 1)
    share = None if weight is None else cl.take(weight, labels)
    if counted is not None:
        mask = cl.astype(counted, x.dtype)
        share = mask if share is None else share * mask
    loss = loss if share is None else loss * share
    if reduction == "none":
        return loss
    if reduction == "sum":
        return cl.sum(loss)
    if reduction != "mean":
        raise ArgumentError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    return cl.mean(loss) if share is None else cl.sum(loss) / cl.sum(share)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(x, target, weight=None, *, ignore_index=None, reduction="mean"):
    """The loss of log(softmax(x)) over axis 1, and that logarithm."""
    logarithm = cl.log_softmax(x, axis=1)
    loss = negative_log_likelihood(logarithm, target, weight, ignore_index=ignore_index, reduction=reduction)
    return loss, logarithm
