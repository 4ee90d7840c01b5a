"""The ops of neural networks: softmax, normalization, linear maps, embeddings and dropout. All are
composites.

Where recording the body would keep more than the mathematics needs, or compute more, an op has a derivative
of its own; it then reads one of the op's operands or its result, and never both where one is enough.
Activations, losses and updates of parameters have files of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, INTEGER, float32, int64, uint32, uint64
from ..errors import ArgumentError, DTypeError, IndexOutOfBoundsError, ShapeError
from ..op import SUM_BOUND, calls
from ..rules import Spec, common, custom, same_as
from ..samples import ErrorSample, Maker, Sample, Values, along, calls_
from . import batching
from .compare import greater_equal, less
from .contract import matmul
from .elementwise import (
    add,
    divide,
    exp,
    log,
    multiply,
    sqrt,
    subtract,
    where,
)  # fmt: skip
from .index import fresh, gather, scatter, scatter_add
from .movement import permute_dims, reshape
from .reduce import max, sum

if TYPE_CHECKING:
    from ..params import Axes, Axis, DTypeLike
    from ..tensor import Tensor

# -- softmax -------------------------------------------------------------------------------------------------


def _softmax_vjp(g: Tensor, y: Tensor, axis: int) -> Tensor:
    weighted = multiply(g, y)
    return subtract(weighted, multiply(y, sum(weighted, axis=axis, keepdims=True)))


@composite(
    kind="opaque",
    leading=True,
    rule=same_as(0, FLOATING),
    vjp=_softmax_vjp,
    jvp=lambda dx, y, axis: _softmax_vjp(dx, y, axis),  # its matrix is symmetric
    samples=along(kwargs=({},)),
    ulp=8,
)
def softmax(x: Tensor, /, *, axis: Axis = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along ``axis``, shifted by max(x) so that it cannot overflow.

    Example: ``sum(softmax(x, axis=0), axis=0)`` for x of shape (2, 3) is ``ones(3)``.
    """
    if not x.shape[axis]:
        return x
    e = exp(subtract(x, max(x, axis=axis, keepdims=True)))
    return divide(e, sum(e, axis=axis, keepdims=True))


def _log_softmax_vjp(g: Tensor, y: Tensor, axis: int) -> Tensor:
    return subtract(g, multiply(exp(y), sum(g, axis=axis, keepdims=True)))


@composite(
    kind="opaque", leading=True, rule=same_as(0, FLOATING), vjp=_log_softmax_vjp, samples=along(), ulp=8,
    jvp=lambda dx, y, axis: subtract(dx, sum(multiply(exp(y), dx), axis=axis, keepdims=True)),
)  # fmt: skip
def log_softmax(x: Tensor, /, *, axis: Axis = -1) -> Tensor:
    """log(softmax(x)) along ``axis``, computed without softmax's underflow: x - max(x) - log(sum(exp(x -
    max(x)))).
    """
    if not x.shape[axis]:
        return x
    shifted = subtract(x, max(x, axis=axis, keepdims=True))
    return subtract(shifted, log(sum(exp(shifted), axis=axis, keepdims=True)))


# -- normalization -------------------------------------------------------------------------------------------


@custom(FLOATING)
def _norm_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, axes = specs[0], params["axis"]
    for name, spec in zip(op.operands[1:], specs[1:], strict=True):
        if spec is None:
            continue
        if axes != tuple(range(-len(axes), 0)):
            raise ShapeError(
                f"{op.name}: {name} needs the normalized axes to be the last ones, got axis {axes}"
            )
        wanted = x.shape[x.ndim - len(axes) :]
        if spec.shape != wanted:
            raise ShapeError(
                f"{op.name}: {name} must have the shape {wanted} of the normalized axes, got {spec.shape}"
            )
    return Spec(x.shape, common(op, specs))


def _norm_samples(operands: int) -> Any:
    def generate(make: Maker, dtype: Any) -> Any:
        for shape, axis in (
            ((5,), -1),
            ((2, 3), -1),
            ((2, 3), (0, 1)),
            ((4, 3, 2), (-2, -1)),
            ((3, 33), 1),
            ((0, 3), -1),
        ):
            axes = axis if isinstance(axis, tuple) else (axis,)
            x = make.array(shape, dtype)
            yield Sample((x,), {"axis": axis})
            yield Sample(
                (x, *[make.array(shape[-len(axes) :], dtype) for _ in range(operands)]),
                {"axis": axis, "eps": 1e-3},
            )

    return generate


def _norm_errors(name: str) -> list[ErrorSample]:
    return [
        ErrorSample(ShapeError, rf"{name}: weight must have the shape \(3,\) of the normalized axes, got \(2,\)",
                    lambda m: Sample((m.array((2, 3), float32), m.array((2,), float32)))),
        ErrorSample(ShapeError, f"{name}: weight needs the normalized axes to be the last ones",
                    lambda m: Sample((m.array((2, 3), float32), m.array((2,), float32)), {"axis": 0})),
        ErrorSample(DTypeError, f"{name} does not accept int64", lambda m: Sample((m.array((2, 3), int64),))),
    ]  # fmt: skip


def mean_of(x: Tensor, axis: Any) -> Tensor:
    """The mean over ``axis``, which is kept with size 1."""
    return divide(sum(x, axis=axis, keepdims=True), math.prod(x.shape[a] for a in axis))


def _standardized(x: Tensor, axis: Any, eps: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps) and 1 / sqrt(var + eps)."""
    centered = subtract(x, mean_of(x, axis))
    scale = divide(1, sqrt(add(mean_of(multiply(centered, centered), axis), eps)))
    return multiply(centered, scale), scale


def sum_leading(g: Tensor, kept: int) -> Tensor:
    """``g`` summed over all but its last ``kept`` axes."""
    return g if g.ndim == kept else sum(g, axis=tuple(range(-g.ndim, -kept)))


def _layer_norm_vjp(g: Tensor, x: Tensor, weight: Any, bias: Any, axis: tuple[int, ...], eps: float) -> Any:
    standard, scale = _standardized(x, axis, eps)
    g_weight = None if weight is None else sum_leading(multiply(g, standard), len(axis))
    g_bias = None if bias is None else sum_leading(g, len(axis))
    g = g if weight is None else multiply(g, weight)
    along = multiply(standard, mean_of(multiply(g, standard), axis))
    return multiply(subtract(subtract(g, mean_of(g, axis)), along), scale), g_weight, g_bias


@composite(
    kind="opaque",
    rule=_norm_rule,
    batch=batching.first_alone,
    vjp=_layer_norm_vjp,
    samples=_norm_samples(2),
    errors=_norm_errors("layer_norm"),
    ulp=128,
)
def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    /,
    *,
    axis: Axes = -1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and (biased) variance over ``axis`` (Ba et al.,
    arXiv:1607.06450).

    ``weight`` and ``bias`` have the shape of the normalized axes, which must then be the last ones.

    Example: ``layer_norm(x, ones(3), zeros(3))`` for x of shape (2, 3) is ``layer_norm(x)``.
    """
    y, _ = _standardized(x, axis, eps)
    y = y if weight is None else multiply(y, weight)
    return y if bias is None else add(y, bias)


def _root_mean_square(x: Tensor, axis: Any, eps: float | None) -> Tensor:
    """1 / sqrt(mean(x**2) + eps)."""
    return divide(1, sqrt(add(mean_of(multiply(x, x), axis), x.dtype.eps if eps is None else eps)))


def _rms_norm_vjp(g: Tensor, x: Tensor, weight: Any, axis: tuple[int, ...], eps: float | None) -> Any:
    scale = _root_mean_square(x, axis, eps)
    standard = multiply(x, scale)
    g_weight = None if weight is None else sum_leading(multiply(g, standard), len(axis))
    g = g if weight is None else multiply(g, weight)
    return multiply(subtract(g, multiply(standard, mean_of(multiply(g, standard), axis))), scale), g_weight


@composite(
    kind="opaque",
    rule=_norm_rule,
    batch=batching.first_alone,
    vjp=_rms_norm_vjp,
    samples=_norm_samples(1),
    errors=_norm_errors("rms_norm"),
    ulp=8,
)
def rms_norm(
    x: Tensor, weight: Tensor | None = None, /, *, axis: Axes = -1, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x**2) + eps) * weight, the mean over ``axis`` (Zhang and Sennrich, arXiv:1910.07467).

    ``eps`` is the dtype's machine epsilon unless given. ``weight`` has the shape of the normalized axes,
    which must then be the last ones.
    """
    y = multiply(x, _root_mean_square(x, axis, eps))
    return y if weight is None else multiply(y, weight)


# -- linear maps and embeddings ------------------------------------------------------------------------------


@custom(FLOATING)
def _linear_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, weight, bias = specs
    if weight.ndim != 2 or not x.ndim:
        raise ShapeError(
            f"{op.name} needs x with at least one axis and weight with two, got shapes {x.shape} and {weight.shape}"
        )
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{op.name}: x of shape {x.shape} has {x.shape[-1]} features on its last axis, "
            f"weight of shape {weight.shape} needs {weight.shape[1]}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"{op.name}: bias must have shape {weight.shape[:1]} for weight of shape {weight.shape}, got {bias.shape}"
        )
    return Spec((*x.shape[:-1], weight.shape[0]), common(op, specs))


def _rows(x: Tensor) -> Tensor:
    """All axes but the last made one."""
    return x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _transposed(x: Tensor) -> Tensor:
    return permute_dims(x, (-1, -2))


def _linear_samples(make: Maker, dtype: Any) -> Any:
    for lead in ((2,), (), (3, 2), (0,), (17,)):
        x, weight, bias = make.array((*lead, 5), dtype), make.array((4, 5), dtype), make.array((4,), dtype)
        yield Sample((x, weight))
        yield Sample((x, weight, bias))


@composite(
    kind="contract", rule=_linear_rule, samples=_linear_samples, ulp=SUM_BOUND, batch=batching.first_alone,
    bilinear=(
        lambda g, x, weight: matmul(g, weight),
        lambda g, x, weight: matmul(_transposed(_rows(g)), _rows(x)),
        lambda g, bias: sum_leading(g, 1),
    ),
    errors=[
        ErrorSample(ShapeError, r"linear: x of shape \(2, 3\) has 3 features on its last axis, weight of shape \(4, 5\) needs 5",
                    lambda m: Sample((m.array((2, 3), float32), m.array((4, 5), float32)))),
        ErrorSample(ShapeError, r"linear: bias must have shape \(4,\) for weight of shape \(4, 3\), got \(3,\)",
                    lambda m: Sample((m.array((2, 3), float32), m.array((4, 3), float32), m.array((3,), float32)))),
        ErrorSample(ShapeError, "linear needs x with at least one axis and weight with two",
                    lambda m: Sample((m.array((3,), float32), m.array((3,), float32)))),
    ],
)  # fmt: skip
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, /) -> Tensor:
    """x @ weight.mT + bias: x of shape (..., in), weight (out, in) and bias (out,) give (..., out).

    One product of matrices for any number of leading axes; the weight's gradient comes out in the weight's
    own layout.
    """
    y = matmul(x if x.ndim == 1 else _rows(x), _transposed(weight))
    y = y if x.ndim < 3 else reshape(y, (*x.shape[:-1], weight.shape[0]))
    return y if bias is None else add(y, bias)  # of the shape that whatever follows has: one group with it


def checked_labels(labels: Tensor, count: int) -> Tensor:
    """Labels in which a negative one is out of range as well, so that whatever reads with them refuses it."""
    return where(less(labels, 0), count, labels)


def refuse_labels(
    op: Any, what: str, labels: Tensor, count: int, hint: str = "", ignored: int | None = None
) -> None:
    """Raise IndexOutOfBoundsError for the first label that is not in [0, count)."""
    for i in labels._flat("a label that a kernel refused"):
        if not 0 <= i < count and i != ignored:
            raise IndexOutOfBoundsError(
                f"{op.name}: {what} {i} is out of range for {count}: valid are 0 to {count - 1}{hint}"
            )


@custom(FLOATING, joint=(1,), fixed={0: int64})
def _embedding_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    indices, weight = specs
    if weight.ndim != 2:
        raise ShapeError(f"{op.name}: weight must have shape (count, features), got {weight.shape}")
    return Spec((*indices.shape, weight.shape[1]), weight.dtype)


def _embedding_transpose(g: Tensor, indices: Tensor, weight: Spec) -> Tensor:
    zeros = calls.full(weight.shape, 0, dtype=weight.dtype, device=g._backend)
    return scatter_add(zeros, g, indices, axis=-2, overwrite=fresh(zeros))


def _index_samples(make: Maker, dtype: Any) -> Any:
    for shape in ((3,), (), (2, 4), (0,)):
        yield Sample((make.array(shape, int64, 0, 5), make.array((6, 3), dtype)))
    yield Sample((make.array((9,), int64, 0, 2), make.array((3, 2), dtype)))


def _numbers(*values: int) -> Values:
    return Values((len(values),), int64, values)


@composite(
    kind="index", rule=_embedding_rule, linear=(None, _embedding_transpose), samples=_index_samples, ulp=0, batch=batching.first_alone,
    diagnose=lambda op, operands, params: refuse_labels(op, "index", operands[0], operands[1].shape[0]),
    errors=[
        ErrorSample(IndexOutOfBoundsError, "embedding: index 3 is out of range for 3: valid are 0 to 2",
                    lambda m: Sample((_numbers(0, 3), m.array((3, 2), float32)))),
        ErrorSample(IndexOutOfBoundsError, "embedding: index -1 is out of range for 3",
                    lambda m: Sample((_numbers(-1), m.array((3, 2), float32)))),
        ErrorSample(DTypeError, "embedding: indices must have an integer dtype, got float32",
                    lambda m: Sample((m.array((2,), float32), m.array((3, 2), float32)))),
    ],
)  # fmt: skip
def embedding(indices: Tensor, weight: Tensor, /) -> Tensor:
    """Row ``indices[...]`` of ``weight``, shape ``indices.shape + (features,)``.

    Raises IndexOutOfBoundsError for an index outside [0, count).
    """
    return gather(weight, checked_labels(indices, weight.shape[0]), axis=-2)


@custom(INTEGER)
def _one_hot_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    if params["num_classes"] < 0:
        raise ArgumentError(f"{op.name}: num_classes must not be negative, got {params['num_classes']}")
    return Spec((*specs[0].shape, params["num_classes"]), params["dtype"])


@composite(
    kind="index", rule=_one_hot_rule, nondiff="one_hot is defined on integers", ulp=0, leading=True,
    diagnose=lambda op, operands, params: refuse_labels(op, "label", operands[0], params["num_classes"]),
    samples=calls_(*[lambda m, d, s=s: Sample((m.array(s, d, 0, 4), 5)) for s in ((3,), (), (2, 4), (0,))],
                   lambda m, d: Sample((m.array((7,), d, 0, 2), 3), {"dtype": float32})),
    errors=[
        ErrorSample(IndexOutOfBoundsError, "one_hot: label 4 is out of range for 4", lambda m: Sample((_numbers(0, 4), 4))),
        ErrorSample(IndexOutOfBoundsError, "one_hot: label -2 is out of range for 4", lambda m: Sample((_numbers(0, -2), 4))),
    ],
)  # fmt: skip
def one_hot(labels: Tensor, /, num_classes: int, *, dtype: DTypeLike = int64) -> Tensor:
    """Zeros of shape ``labels.shape + (num_classes,)`` with a one at each label. Raises IndexOutOfBoundsError
    for one out of range.
    """
    labels = calls.astype(labels, int64)
    device, count = labels._backend, labels.size
    zeros = calls.full((count, num_classes), 0, dtype=dtype, device=device)
    rows, columns = calls.arange(count, device=device), reshape(checked_labels(labels, num_classes), (count,))
    ones = calls.full((count,), 1, dtype=dtype, device=device)
    return reshape(
        scatter(zeros, ones, rows, columns, axis=-2, overwrite=fresh(zeros)), (*labels.shape, num_classes)
    )


# -- dropout -------------------------------------------------------------------------------------------------


@custom(FLOATING, joint=(0,), fixed={1: uint32, 2: uint64})
def _dropout_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    _check_probability(params["p"])
    if specs[1].shape != (2,) or specs[2].shape != ():
        raise ShapeError(
            f"{op.name}: key must have shape (2,) and counter (), got {specs[1].shape} and {specs[2].shape}"
        )
    return Spec(specs[0].shape, specs[0].dtype)


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be in [0, 1], got {p}")


def _dropout_sample(p: float, shape: tuple[int, ...]) -> Any:
    return lambda m, d: Sample(
        (m.array(shape, d), Values((2,), uint32, (1, 2)), Values((), uint64, (7,))), {"p": p}
    )


@composite(
    kind="opaque", rule=_dropout_rule, ulp=1,
    linear=(lambda g, x, key, counter, p: dropout(g, key, counter, p=p), None, None),
    samples=calls_(_dropout_sample(0.5, (4, 5)), _dropout_sample(0.25, (33,)), _dropout_sample(0.0, (3,)), _dropout_sample(1.0, (3,)),
                   _dropout_sample(0.5, ()), _dropout_sample(0.5, (0, 2))),
    errors=[ErrorSample(ArgumentError, r"dropout: p must be in \[0, 1\], got 1.5", lambda m: _dropout_sample(1.5, (3,))(m, float32))],
)  # fmt: skip
def dropout(x: Tensor, key: Tensor, counter: Tensor, /, *, p: float = 0.5) -> Tensor:
    """x with each element zeroed with probability ``p`` and the others divided by 1 - p; which ones follows
    from ``key`` and ``counter``.

    A pure function: the derivative draws the same bits again, so that no mask is kept. ``nn.Dropout`` and
    ``nn.functional.dropout`` take key and counter from a generator.
    """
    _check_probability(p)
    if p == 0:
        return x
    if p == 1:
        return calls.full(x.shape, 0, dtype=x.dtype, device=x._backend)
    threshold = min(round(p * 2**32), 2**32 - 1)
    bits = calls.random_bits(key, counter, x.shape, dtype=uint32)
    return where(greater_equal(bits, threshold), multiply(x, 1 / (1 - p)), 0)
