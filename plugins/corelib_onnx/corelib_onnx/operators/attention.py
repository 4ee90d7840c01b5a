"""Attention with a cache, groups of heads, windows and masks."""

from __future__ import annotations

from typing import Any

import corelib as cl

from ..table import operator
from ..values import dtype_of


@operator("Attention", since=23)
def attention(
    q, k, v, mask=None, past_key=None, past_value=None, lengths=None, *, is_causal=0, kv_num_heads=None, q_num_heads=None,
    left_window_size=-1, right_window_size=-1, qk_matmul_output_mode=0, scale=None, softcap=0.0, softmax_precision=None, call,
):  # fmt: skip
    """softmax(scale q k.T + mask) v, of shapes (batch, heads, length, size) or (batch, length, heads * size). Also gives
    keys and values with those of the past before them, and the scores, as they are after step ``qk_matmul_output_mode``.
    """
    flat = q.ndim == 3
    if flat:
        q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    keys = k if past_key is None else cl.concat([past_key, k], axis=2)
    values = v if past_value is None else cl.concat([past_value, v], axis=2)
    present = keys, values
    if q.shape[1] != keys.shape[1]:  # each key is for a group of queries' heads
        groups = q.shape[1] // keys.shape[1]
        keys, values = cl.repeat(keys, groups, axis=1), cl.repeat(values, groups, axis=1)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    offset = 0 if past_key is None else past_key.shape[2]
    if lengths is not None and past_key is None:
        offset = cl.reshape(lengths, (-1, 1, 1, 1)) - q.shape[2]
    allowed = _allowed(
        q.shape[2], keys.shape[2], offset, lengths, is_causal, left_window_size, right_window_size, q.device
    )
    bias = _combined(mask, allowed, keys.shape[2])
    if call.outputs < 4 and not softcap:
        y, scores = cl.scaled_dot_product_attention(q, keys, values, bias, scale=scale), None
    else:
        y, scores = _explicit(
            q, keys, values, bias, scale, softcap, softmax_precision, qk_matmul_output_mode, call.opset
        )
    if flat:
        y = cl.reshape(cl.permute_dims(y, (0, 2, 1, 3)), (y.shape[0], y.shape[2], -1))
    return (y, *present, scores)[: call.outputs]


def _heads(x: Any, count: int) -> Any:
    batch, length, size = x.shape
    return cl.permute_dims(cl.reshape(x, (batch, length, count, size // count)), (0, 2, 1, 3))


def _allowed(
    n: int, m: int, offset: Any, lengths: Any, causal: int, left: int, right: int, device: str
) -> Any:
    """Which of ``m`` keys each of ``n`` queries may look at, by where they are; None if all. ``offset``: how many keys
    come before the first query.
    """
    key = cl.arange(m, device=device)
    at = cl.expand_dims(cl.arange(n, device=device), 1) + offset
    parts = []
    if causal:
        parts.append(cl.less_equal(key, at))
    if left >= 0:
        parts.append(cl.greater_equal(key, at - left))
    if right >= 0:
        parts.append(cl.less_equal(key, at + right))
    if lengths is not None:
        parts.append(cl.less(key, cl.reshape(lengths, (-1, 1, 1, 1))))
    found = None
    for part in parts:
        found = part if found is None else cl.logical_and(found, part)
    return found


def _combined(mask: Any, allowed: Any, length: int) -> Any:
    """A mask, which may end before the last key, together with what is allowed by position."""
    if mask is None:
        return allowed
    boolean = mask.dtype == cl.bool
    missing = length - mask.shape[-1]
    if missing:
        mask = cl.pad(
            mask, [*[(0, 0)] * (mask.ndim - 1), (0, missing)], constant_values=False if boolean else -cl.inf
        )
    if allowed is None:
        return mask
    return cl.logical_and(mask, allowed) if boolean else cl.where(allowed, mask, -cl.inf)


def _explicit(
    q: Any, k: Any, v: Any, bias: Any, scale: float, cap: float, precision: Any, mode: int, opset: int
) -> Any:
    """Step by step: the product, the cap, the mask, the softmax, and the scores after step ``mode`` of these."""
    product = cl.matmul(q * scale**0.5, k.mT * scale**0.5)
    capped = cap * cl.tanh(product / cap) if cap else product
    biased = capped
    if bias is not None:
        biased = cl.where(bias, capped, -cl.inf) if bias.dtype == cl.bool else capped + bias
    wide = biased if precision is None else cl.astype(biased, dtype_of(precision, "Attention"))
    lost = cl.equal(cl.max(wide, axis=-1, keepdims=True), -cl.inf)  # a query that may look at no key
    chances = cl.where(lost, 0.0, cl.softmax(cl.where(lost, 0.0, wide), axis=-1))
    chances = cl.astype(chances, q.dtype)
    return cl.matmul(chances, v), (product, capped, biased, chances)[mode]
