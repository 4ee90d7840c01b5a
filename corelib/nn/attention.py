"""Attention and the transformer's layers (Vaswani et al., arXiv:1706.03762), under PyTorch's names and with its masks: in
these layers a bool mask is True where a query may *not* look, and a floating one is added.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ShapeError
from ..ops.activations import gelu, relu
from ..ops.compare import logical_not
from ..ops.contract import matmul
from ..ops.elementwise import add, where
from ..ops.movement import narrow, permute_dims, reshape
from ..ops.nn import linear
from ..ops.reduce import sum
from . import functional, init
from .containers import ModuleList
from .layers import Dropout, LayerNorm, Linear, new_parameter
from .module import Module, Parameter

if TYPE_CHECKING:
    from ..tensor import Tensor


def _allowed(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """PyTorch's mask of one of these layers as an op's: with axes for the heads, and bool ones inverted."""
    if mask is None:
        return None
    mask = reshape(mask, shape)
    return logical_not(mask) if mask.dtype.kind == "bool" else mask


def _together(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Both masks, of an op, as one."""
    if a is None or b is None:
        return b if a is None else a
    kinds = (a.dtype.kind, b.dtype.kind)
    if kinds == ("bool", "bool"):
        return a & b
    a, b = ((where(m, 0.0, float("-inf")) if m.dtype.kind == "bool" else m) for m in (a, b))
    return add(a, b)


class MultiheadAttention(Module):
    """Attention of ``num_heads`` heads, each on embed_dim / num_heads features. Projections are Xavier-uniform and biases 0
    at first.

    ``kdim`` and ``vdim`` are the numbers of features of keys and values, embed_dim unless given. Positions lie on axis 0 and
    examples on axis 1, or the other way round with ``batch_first``.

    Example: ``nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)[0]`` for x of shape (3, 5, 8) has shape (3, 5, 8).
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, kdim: int | None = None, vdim: int | None = None,
        batch_first: bool = False, device: Any = None, dtype: Any = None, generator: Any = None,
    ) -> None:  # fmt: skip
        if num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: num_heads={num_heads} must divide embed_dim={embed_dim}"
            )
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = (
            embed_dim,
            num_heads,
            dropout,
            batch_first,
        )
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.generator = generator
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = new_parameter((3 * embed_dim, embed_dim), device, dtype)
        else:
            self.in_proj_weight = None
            self.q_proj_weight = new_parameter((embed_dim, embed_dim), device, dtype)
            self.k_proj_weight = new_parameter((embed_dim, self.kdim), device, dtype)
            self.v_proj_weight = new_parameter((embed_dim, self.vdim), device, dtype)
        self.in_proj_bias = new_parameter((3 * embed_dim,), device, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        for name, p in self.named_parameters(recurse=False):
            if name.endswith("weight"):
                init.xavier_uniform_(p, generator=generator)
            else:
                init.zeros_(p)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(y, weights): query of shape (L, N, embed_dim), key (S, N, kdim) and value (S, N, vdim), or without N, give y of
        query's shape and, unless ``need_weights=False``, the probabilities (N, L, S), or (N, heads, L, S) with
        ``average_attn_weights=False``.

        ``key_padding_mask`` (N, S): True for keys to leave out. ``attn_mask`` (L, S) or (N heads, L, S). With ``is_causal``
        a query looks at no later key, whatever ``attn_mask`` says.
        """
        single = query.ndim == 2
        if single:
            query, key, value = (reshape(t, (1, *t.shape)) for t in (query, key, value))
        elif not self.batch_first and query.ndim == 3:
            query, key, value = (permute_dims(t, (1, 0, 2)) for t in (query, key, value))
        self._check(query, key, value)
        n, length, _ = query.shape
        heads, s = self.num_heads, key.shape[1]
        q, k, v = (self._heads(t) for t in self._projected(query, key, value))
        mask = self._masks(n, length, s, key_padding_mask, attn_mask)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = functional.attention_weights(q, k, mask, is_causal)
            weights = functional.dropout(weights, p, True, self.generator) if p else weights
            y = matmul(weights, v)
            weights = weights if not average_attn_weights else sum(weights, axis=1) / heads
        else:
            y = functional.scaled_dot_product_attention(q, k, v, mask, p, is_causal, None, self.generator)
        y = self.out_proj(reshape(permute_dims(y, (0, 2, 1, 3)), (n, length, self.embed_dim)))
        if single:
            weights = None if weights is None else reshape(weights, weights.shape[1:])
            return reshape(y, (length, self.embed_dim)), weights
        return y if self.batch_first else permute_dims(y, (1, 0, 2)), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        wanted = (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim))
        for name, t, features in wanted:
            if t.ndim != 3 or t.shape[-1] != features:
                raise ShapeError(
                    f"MultiheadAttention: {name} must have {features} features on the last of 3 axes (or 2, for one example), got {t.shape}"
                )
        if key.shape[:2] != value.shape[:2] or key.shape[0] != query.shape[0]:
            raise ShapeError(
                f"MultiheadAttention: query {query.shape}, key {key.shape} and value {value.shape} (examples first) must have as "
                "many examples, key and value as many positions"
            )

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is not None and query is key and key is value:
            all_ = linear(query, self.in_proj_weight, bias)
            q, k, v = (narrow(all_, -1, i * e, e) for i in range(3))
            return q, k, v
        biases = [None] * 3 if bias is None else [narrow(bias, -1, i * e, e) for i in range(3)]
        if self.in_proj_weight is None:
            weights: list[Tensor] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            weights = [narrow(self.in_proj_weight, -2, i * e, e) for i in range(3)]
        q, k, v = (linear(t, w, b) for t, w, b in zip((query, key, value), weights, biases, strict=True))
        return q, k, v

    def _heads(self, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        return permute_dims(
            reshape(t, (n, length, self.num_heads, self.embed_dim // self.num_heads)), (0, 2, 1, 3)
        )

    def _masks(
        self, n: int, length: int, s: int, key_padding_mask: Tensor | None, attn_mask: Tensor | None
    ) -> Tensor | None:
        wanted = {(length, s): (1, 1, length, s), (n * self.num_heads, length, s): (n, self.num_heads, length, s)}  # fmt: skip
        if attn_mask is not None and attn_mask.shape not in wanted:
            raise ShapeError(
                f"MultiheadAttention: attn_mask must have shape {' or '.join(map(str, wanted))}, got {attn_mask.shape}"
            )
        if key_padding_mask is not None and key_padding_mask.size != n * s:
            raise ShapeError(
                f"MultiheadAttention: key_padding_mask must have shape {(n, s)}, got {key_padding_mask.shape}"
            )
        return _together(
            _allowed(key_padding_mask, (n, 1, 1, s)),
            None if attn_mask is None else _allowed(attn_mask, wanted[attn_mask.shape]),
        )

    def flops(self, result: Any, *args: Any) -> int:
        """Two for each product with a projection (out_proj counts by itself), and in the two products of attention."""
        query, key = args[:2]
        n = query.size // (
            query.shape[0 if query.ndim == 2 else (1 if self.batch_first else 0)] * self.embed_dim
        )
        length, s = query.size // (n * self.embed_dim), key.size // (n * self.kdim)
        projections = n * self.embed_dim * (length * self.embed_dim + s * self.kdim + s * self.vdim)
        return 2 * projections + 4 * n * length * s * self.embed_dim

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


# -- the transformer's layers --------------------------------------------------------------------------------


def _activation(name: Any) -> Any:
    if callable(name):
        return name
    if name not in ("relu", "gelu"):
        raise ArgumentError(f"activation must be 'relu', 'gelu' or a function, got {name!r}")
    return relu if name == "relu" else gelu


class TransformerEncoderLayer(Module):
    """Self-attention and two linear maps, each with a residual and a normalization: behind, or before with ``norm_first``.

    Example: ``nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)(x)`` for x of shape (3, 5, 8) has shape (3, 5, 8).
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Any = None,
        dtype: Any = None, generator: Any = None,
    ) -> None:  # fmt: skip
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, None, None, batch_first, device, dtype, generator)  # fmt: skip
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype, generator)
        self.dropout = Dropout(dropout, generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype, generator)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, True, bias, device, dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, True, bias, device, dtype)
        self.dropout1, self.dropout2 = Dropout(dropout, generator), Dropout(dropout, generator)
        self.norm_first, self.activation = norm_first, _activation(activation)

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:  # fmt: skip
        """A tensor of src's shape."""
        x = src

        def attended(z: Tensor) -> Tensor:
            y, _ = self.self_attn(z, z, z, src_key_padding_mask, False, src_mask, True, is_causal)
            return self.dropout1(y)

        if self.norm_first:
            x = add(x, attended(self.norm1(x)))
            return add(x, self._fed(self.norm2(x)))
        x = self.norm1(add(x, attended(x)))
        return self.norm2(add(x, self._fed(x)))

    def _fed(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerDecoderLayer(Module):
    """Self-attention, attention to an encoder's result, and two linear maps, each with a residual and a normalization."""

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: Any = "relu",
        layer_norm_eps: float = 1e-5, batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Any = None,
        dtype: Any = None, generator: Any = None,
    ) -> None:  # fmt: skip
        more = (None, None, batch_first, device, dtype, generator)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, *more)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, *more)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype, generator)
        self.dropout = Dropout(dropout, generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype, generator)
        self.norm1, self.norm2, self.norm3 = (
            LayerNorm(d_model, layer_norm_eps, True, bias, device, dtype) for _ in range(3)
        )
        self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout, generator) for _ in range(3))
        self.norm_first, self.activation = norm_first, _activation(activation)

    def forward(
        self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None, tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """A tensor of tgt's shape."""

        def own(z: Tensor) -> Tensor:
            y, _ = self.self_attn(z, z, z, tgt_key_padding_mask, False, tgt_mask, True, tgt_is_causal)
            return self.dropout1(y)

        def other(z: Tensor) -> Tensor:
            y, _ = self.multihead_attn(
                z, memory, memory, memory_key_padding_mask, False, memory_mask, True, memory_is_causal
            )
            return self.dropout2(y)

        x = tgt
        if self.norm_first:
            x = add(x, own(self.norm1(x)))
            x = add(x, other(self.norm2(x)))
            return add(x, self._fed(self.norm3(x)))
        x = self.norm1(add(x, own(x)))
        x = self.norm2(add(x, other(x)))
        return self.norm3(add(x, self._fed(x)))

    def _fed(self, x: Tensor) -> Tensor:
        return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """``num_layers`` copies of a layer one after the other, and ``norm`` behind them."""

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:  # fmt: skip
        """A tensor of src's shape."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """``num_layers`` copies of a layer one after the other, and ``norm`` behind them."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def forward(self, tgt: Tensor, memory: Tensor, *masks: Any, **more: Any) -> Tensor:
        """A tensor of tgt's shape; masks as for the layer."""
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, **more)
        return tgt if self.norm is None else self.norm(tgt)
