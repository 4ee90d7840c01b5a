"""The functions behind the layers, under PyTorch's names: the ops themselves, and those that draw random
numbers or fix an axis.

Axes are called ``axis``, as everywhere in corelib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops import nn as base
from ..ops.activations import (
    celu,
    elu,
    gelu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_sigmoid,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softshrink,
    softsign,
    threshold,
)
from ..ops.activations import prelu as base_prelu
from ..ops.attention import exponentials
from ..ops.attention import scaled_dot_product_attention as base_attention
from ..ops.compare import equal
from ..ops.contract import matmul
from ..ops.elementwise import add, divide, multiply, negative, sqrt, stop_gradient, subtract, where
from ..ops.losses import huber_loss, l1_loss, mse_loss
from ..ops.movement import narrow, reshape
from ..ops.nn import linear, log_softmax, one_hot, rms_norm, softmax
from ..ops.norms import group_norm as base_group_norm
from ..ops.trigonometric import tanh
from ..params import checked_axis
from ..registry import at_active_level
from .loss_functions import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cosine_similarity,
    cross_entropy,
    ctc_loss,
    gaussian_nll_loss,
    hinge_embedding_loss,
    hinge_loss,
    kl_div,
    margin_ranking_loss,
    multi_margin_loss,
    nll_loss,
    pairwise_distance,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
)
from .spatial import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    interpolate,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    pixel_shuffle,
    pixel_unshuffle,
)

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

    x = at_active_level(x)  # where its numbers are drawn
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


def by_statistics(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(var + eps) * weight + bias for x of shape (N, C, *S) and the others (C,): batch normalization by
    statistics that are given.
    """

    def channels(t: Tensor) -> Tensor:
        return reshape(t, (t.size, *(1,) * (x.ndim - 2)))

    scale = divide(1, sqrt(add(var, eps)))
    scale = scale if weight is None else multiply(scale, weight)
    y = multiply(subtract(x, channels(mean)), channels(scale))
    return y if bias is None else add(y, channels(bias))


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:  # fmt: skip
    """Normalization of x (N, C, *S) by the mean and variance of each example's groups of channels."""
    return base_group_norm(x, weight, bias, num_groups=num_groups, eps=eps)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, generator: Any = None,
) -> Tensor:  # fmt: skip
    """Attention of queries (..., L, E) to keys (..., S, E) with values (..., S, F): (..., L, F). A bool mask is True where
    a query may look, a floating one is added. ``dropout_p`` drops probabilities, whatever mode a module is in.
    """
    if not dropout_p:
        return base_attention(query, key, value, attn_mask, causal=is_causal, scale=scale)
    p = attention_weights(query, key, attn_mask, is_causal, scale)
    return matmul(dropout(p, dropout_p, True, generator), value)


def attention_weights(
    query: Tensor, key: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, scale: float | None = None
) -> Tensor:  # fmt: skip
    """The probabilities (..., L, S) with which attention takes the values; a row that is masked altogether is 0."""
    e, total = exponentials(query, key, attn_mask, is_causal, scale)
    return divide(e, total)


# -- activations ---------------------------------------------------------------------------------------------


def relu6(x: Tensor) -> Tensor:
    """x between 0 and 6."""
    return hardtanh(x, 0.0, 6.0)


def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x)."""
    return subtract(x, tanh(x))


def softmin(x: Tensor, axis: int = -1) -> Tensor:
    """softmax(-x) along ``axis``."""
    return softmax(negative(x), axis=axis)


def glu(x: Tensor, axis: int = -1) -> Tensor:
    """a sigmoid(b) for the halves a and b of x along ``axis`` (Dauphin et al., arXiv:1612.08083)."""
    axis = checked_axis("glu", x, axis)
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: x of shape {x.shape} has no halves along axis {axis}")
    half = x.shape[axis] // 2
    return multiply(narrow(x, axis, 0, half), sigmoid(narrow(x, axis, half, half)))


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, weight * x elsewhere; ``weight`` has one element, or one for each channel on axis 1."""
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim != 1 or weight.size not in (1, channels):
        raise ShapeError(
            f"prelu: weight must have shape (1,) or {(channels,)} for x of shape {x.shape}, got {weight.shape}"
        )
    if weight.size > 1:
        weight = reshape(weight, (weight.size, *(1,) * (x.ndim - 2)))
    return base_prelu(x, weight)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "attention_weights", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "cosine_embedding_loss", "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "elu",
    "embedding", "gaussian_nll_loss", "gelu", "glu", "group_norm", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "hinge_embedding_loss", "hinge_loss", "huber_loss", "interpolate",
    "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "log_sigmoid", "log_softmax",
    "margin_ranking_loss", "max_pool1d", "max_pool2d", "max_pool3d", "mish", "mse_loss",
    "multi_margin_loss", "nll_loss", "one_hot", "pairwise_distance", "pixel_shuffle",
    "pixel_unshuffle", "poisson_nll_loss", "prelu", "relu", "relu6", "rms_norm",
    "scaled_dot_product_attention", "selu", "sigmoid", "silu", "smooth_l1_loss", "soft_margin_loss",
    "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
    "triplet_margin_loss",
]  # fmt: skip
