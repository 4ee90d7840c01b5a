"""Every op's whole story, by family. Names are the array API standard's where it has one.

``corelib.ops.NAME`` is the public function, and ``corelib.ops.NAME.op`` its declaration.
"""

from __future__ import annotations

from ..op import BY_NAME
from . import fft, linalg, methods, subscript  # which ops are methods of a tensor, and what x[...] means
from .activations import (
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
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softshrink,
    softsign,
    threshold,
)
from .arrange import (
    array_split,
    broadcast_arrays,
    broadcast_shapes,
    diagonal,
    diff,
    expand_dims,
    flatten,
    matrix_transpose,
    moveaxis,
    ravel,
    repeat,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    tril,
    triu,
    unstack,
)
from .attention import attention_gradient, scaled_dot_product_attention
from .compare import (
    equal,
    greater,
    greater_equal,
    isclose,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
)
from .contract import matmul, outer, tensordot, trace, vecdot
from .conv import conv, conv_transpose, conv_weight_gradient
from .creation import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    meshgrid,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from .ctc import ctc_loss
from .einsum import einsum
from .elementwise import (
    abs,
    add,
    astype,
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    ceil,
    clip,
    conj,
    copysign,
    divide,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    imag,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    maximum,
    minimum,
    multiply,
    negative,
    nextafter,
    positive,
    pow,
    real,
    reciprocal,
    remainder,
    round,
    rsqrt,
    sign,
    signbit,
    sqrt,
    square,
    stop_gradient,
    subtract,
    trunc,
    where,
)
from .index import gather, nonzero, scatter, scatter_add, take, take_along_axis
from .interchange import asarray, from_dlpack
from .losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
)
from .movement import broadcast_to, concat, flip, pad, permute_dims, reshape, strided_slice, strided_update
from .nn import (
    dropout,
    embedding,
    layer_norm,
    linear,
    log_softmax,
    one_hot,
    rms_norm,
    softmax,
)
from .norms import batch_norm, batch_norm_gradient, group_norm
from .pool import (
    adaptive_avg_pool,
    avg_pool,
    avg_pool_gradient,
    max_pool,
    max_pool_gradient,
    max_pool_indices,
)
from .quantized import int8_conv, int8_matmul, int8_max_pool, int8_quantize, int8_rescale, quantized_conv
from .random import normal_from_bits, random_bits, uniform_from_bits
from .recurrent import gru_cell, lstm_cell
from .reduce import all, any, argmax, argmin, cumulative_prod, cumulative_sum, max, min, prod, sum
from .sequences import gru, gru_gradient, lstm, lstm_gradient, rnn, rnn_gradient
from .sets import (
    intersect1d,
    isin,
    setdiff1d,
    union1d,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)
from .sort import argsort, searchsorted, sort, top_k
from .statistics import count_nonzero, logsumexp, mean, std, var, vector_norm
from .trigonometric import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    hypot,
    sin,
    sinh,
    tan,
    tanh,
)
from .updates import (
    adagrad_update,
    adam_scalars,
    adam_update,
    adamw_update,
    ema_update,
    lion_update,
    momentum_update,
    nadam_scalars,
    nadam_update,
    radam_scalars,
    radam_update,
    rmsprop_update,
    sgd_update,
)

_ = fft, linalg, subscript
methods.attach()


def __getattr__(name: str) -> object:
    if name in BY_NAME:  # an op that a plugin declared
        return BY_NAME[name].fn
    from ..errors import nearest

    raise AttributeError(f"corelib.ops has no op {name!r}{nearest(name, BY_NAME)}")


__all__ = [
    "abs", "acos", "acosh", "adagrad_update", "adam_scalars", "adam_update", "adamw_update",
    "adaptive_avg_pool", "add", "all", "any", "arange", "argmax", "argmin", "argsort", "array_split",
    "asarray", "asin", "asinh", "astype", "atan", "atan2", "atanh", "attention_gradient", "avg_pool",
    "avg_pool_gradient", "batch_norm", "batch_norm_gradient", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "bitwise_and", "bitwise_invert", "bitwise_left_shift",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_arrays", "broadcast_shapes",
    "broadcast_to", "ceil", "celu", "clip", "concat", "conj", "conv", "conv_transpose",
    "conv_weight_gradient", "copysign", "cos", "cosh", "count_nonzero", "cross_entropy", "ctc_loss",
    "cumulative_prod", "cumulative_sum", "diagonal", "diff", "divide", "dropout", "einsum", "elu",
    "ema_update", "embedding", "empty", "empty_like", "equal", "erf", "exp", "expand_dims", "expm1",
    "eye", "flatten", "flip", "floor", "floor_divide", "from_dlpack", "full", "full_like", "gather",
    "gelu", "greater", "greater_equal", "group_norm", "gru", "gru_cell", "gru_gradient", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "huber_loss", "hypot", "imag", "int8_conv", "int8_matmul", "int8_max_pool", "int8_quantize", "int8_rescale",
    "intersect1d", "isclose", "isfinite", "isin", "isinf", "isnan", "l1_loss", "layer_norm",
    "leaky_relu", "less", "less_equal", "linear", "linspace", "lion_update", "log", "log10", "log1p",
    "log2", "log_sigmoid", "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or",
    "logical_xor", "logsumexp", "lstm", "lstm_cell", "lstm_gradient", "matmul", "matrix_transpose",
    "max", "max_pool", "max_pool_gradient", "max_pool_indices", "maximum", "mean", "meshgrid", "min",
    "minimum", "mish", "momentum_update", "moveaxis", "mse_loss", "multiply", "nadam_scalars",
    "nadam_update", "negative", "nextafter", "nll_loss", "nonzero", "normal_from_bits", "not_equal",
    "one_hot", "ones", "ones_like", "outer", "pad", "permute_dims", "positive", "pow", "prelu", "prod", "quantized_conv",
    "radam_scalars", "radam_update", "random_bits", "ravel", "real", "reciprocal", "relu", "remainder",
    "repeat", "reshape", "rms_norm", "rmsprop_update", "rnn", "rnn_gradient", "roll", "round", "rsqrt",
    "scaled_dot_product_attention", "scatter", "scatter_add", "searchsorted", "selu", "setdiff1d",
    "sgd_update", "sigmoid", "sign", "signbit", "silu", "sin", "sinh", "softmax", "softplus",
    "softshrink", "softsign", "sort", "split", "sqrt", "square", "squeeze", "stack", "std",
    "stop_gradient", "strided_slice", "strided_update", "subtract", "sum", "swapaxes", "take",
    "take_along_axis", "tan", "tanh", "tensordot", "threshold", "tile", "top_k", "trace", "transpose",
    "tril", "triu", "trunc", "uniform_from_bits", "union1d", "unique_all", "unique_counts",
    "unique_inverse", "unique_values", "unstack", "var", "vecdot", "vector_norm", "where", "zeros",
    "zeros_like",
]  # fmt: skip
