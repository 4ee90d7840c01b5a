"""The functions behind the layers, under PyTorch's names: the ops themselves, and those that draw random
numbers or fix an axis.

Axes are called ``axis``, as everywhere in corelib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops import losses
from ..ops import nn as base
from ..ops.activations import elu, gelu, leaky_relu, log_sigmoid, relu, sigmoid, silu, softplus
from ..ops.compare import equal
from ..ops.elementwise import stop_gradient, where
from ..ops.losses import binary_cross_entropy_with_logits, huber_loss, l1_loss, mse_loss
from ..ops.movement import reshape
from ..ops.nn import linear, log_softmax, one_hot, rms_norm, softmax
from ..ops.trigonometric import tanh

if TYPE_CHECKING:
    from ..tensor import Tensor


def dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: Any = None) -> Tensor:
    """x with each element zeroed with probability ``p`` and the others divided by 1 - p; x itself unless
    ``training``.

    ``generator`` (by default the global one) supplies the bits and advances by what x's shape needs.
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be in [0, 1], got {p}")
    if not training or p == 0:
        return x
    from ..random import default_generator

    key, counter = (generator or default_generator()).reserve(x.shape, device=x._backend)
    return base.dropout(x, key, counter, p=p)


def embedding(indices: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Row ``indices[...]`` of ``weight``; row ``padding_idx`` gets no gradient."""
    y = base.embedding(indices, weight)
    if padding_idx is None:
        return y
    padding = reshape(equal(indices, padding_idx % weight.shape[0]), (*indices.shape, 1))
    return where(padding, stop_gradient(y), y)


def layer_norm(
    x: Tensor,
    normalized_shape: int | tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Layer normalization over the last axes of x, which must have the sizes ``normalized_shape``."""
    return base.layer_norm(x, weight, bias, axis=trailing("layer_norm", x, normalized_shape), eps=eps)


def trailing(name: str, x: Tensor, sizes: int | tuple[int, ...]) -> tuple[int, ...]:
    """The last axes of x, or ShapeError if their sizes are not ``sizes``."""
    wanted = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if x.shape[x.ndim - len(wanted) :] != wanted or len(wanted) > x.ndim:
        raise ShapeError(f"{name}: the last axes must have shape {wanted}, x has shape {x.shape}")
    return tuple(range(-len(wanted), 0))


def class_axis(x: Tensor) -> int:
    """PyTorch's class axis: 1, or the only one."""
    return 1 if x.ndim > 1 else 0


def cross_entropy(
    x: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits of shape (N, C, ...) or (C,) and labels of shape (N, ...) or (): classes are on
    axis 1.
    """
    return losses.cross_entropy(
        x,
        target,
        axis=class_axis(x),
        reduction=reduction,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
    )


def nll_loss(x: Tensor, target: Tensor, ignore_index: int | None = None, reduction: str = "mean") -> Tensor:
    """-x at the label, for logarithms of probabilities of shape (N, C, ...) or (C,): classes are on axis 1."""
    return losses.nll_loss(x, target, axis=class_axis(x), reduction=reduction, ignore_index=ignore_index)


__all__ = [
    "binary_cross_entropy_with_logits", "cross_entropy", "dropout", "elu", "embedding", "gelu", "huber_loss", "l1_loss", "layer_norm",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mse_loss", "nll_loss", "one_hot", "relu", "rms_norm", "sigmoid", "silu", "softmax",
    "softplus", "tanh",
]  # fmt: skip
