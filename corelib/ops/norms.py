"""Normalization by statistics of a batch or of groups of channels. x has the shape (N, C, *S); weight and bias have
one element for each channel. Normalization over the last axes stands in ``nn.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..params import Caller
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Sample
from .elementwise import add, divide, multiply, negative, sqrt, subtract
from .movement import reshape
from .nn import mean_of
from .reduce import sum

if TYPE_CHECKING:
    from ..tensor import Tensor


def _check(op: Any, x: Any, weight: Any, bias: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"{op.name}: x must have shape (N, C, ...), got {x.shape}")
    for name, operand in (("weight", weight), ("bias", bias)):
        if operand is not None and tuple(operand.shape) != (x.shape[1],):
            raise ShapeError(
                f"{op.name}: {name} must have shape {(x.shape[1],)} for the {x.shape[1]} channels of x {x.shape}, got {operand.shape}"
            )


def _per_channel(t: Tensor, ndim: int) -> Tensor:
    """A tensor of shape (C,) that broadcasts along axis 1 of ``ndim`` axes."""
    return reshape(t, (t.size, *(1,) * (ndim - 2)))


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else multiply(y, _per_channel(weight, y.ndim))
    return y if bias is None else add(y, _per_channel(bias, y.ndim))


def _samples(*cases: tuple[tuple[int, ...], dict[str, Any]]) -> Any:
    def generate(make: Any, dtype: Any) -> Any:
        for n, (shape, params) in enumerate(cases):
            channels = [make.array(shape[1:2], dtype) for _ in range((0, 2, 1)[n % 3])]
            yield Sample((make.array(shape, dtype), *channels), params)

    return generate


def _errors(name: str, **params: Any) -> list[ErrorSample]:
    return [
        ErrorSample(ShapeError, rf"{name}: x must have shape \(N, C, ...\), got \(4,\)", lambda m: Sample((m.array((4,), float32),), params)),
        ErrorSample(ShapeError, rf"{name}: weight must have shape \(4,\) for the 4 channels of x \(2, 4, 3\), got \(1,\)",
                    lambda m: Sample((m.array((2, 4, 3), float32), m.array((1,), float32)), params)),
        ErrorSample(ShapeError, rf"{name}: bias must have shape \(4,\)",
                    lambda m: Sample((m.array((2, 4, 3), float32), m.array((4,), float32), m.array((3,), float32)), params)),
        ErrorSample(DTypeError, f"{name} does not accept int64", lambda m: Sample((m.array((2, 4), int64),), params)),
    ]  # fmt: skip


# -- over a batch --------------------------------------------------------------------------------------------


def _others(x: Any) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (-x.ndim, *range(-x.ndim + 2, 0))


@custom(FLOATING)
def _batch_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    x, dtype = specs[0], common(op, specs)
    _check(op, *specs)
    _refuse_single(op, x)
    return Spec(x.shape, dtype), Spec((x.shape[1],), dtype), Spec((x.shape[1],), dtype)


def _refuse_single(op: Any, x: Any) -> None:
    count = math.prod(x.shape) // x.shape[1] if x.shape[1] else 2
    if count < 2:
        raise ShapeError(
            f"{op.name}: a batch needs at least two elements of each channel, x of shape {x.shape} has {count}: use a larger "
            "batch, or call module.eval() to normalize by running statistics"
        )


def _moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mean, (biased) variance, and x - mean, the first two of shape (1, C, 1, ...)."""
    mean = mean_of(x, _others(x))
    centered = subtract(x, mean)
    return mean, mean_of(multiply(centered, centered), _others(x)), centered


def _batch_norm_vjp(
    g: tuple[Tensor, Tensor, Tensor], x: Tensor, weight: Any, bias: Any, eps: float
) -> tuple[Any, ...]:
    gx, g_weight, g_bias = batch_norm_gradient(*g, x, weight, eps=eps)
    return gx, None if weight is None else g_weight, None if bias is None else g_bias


@composite(
    kind="opaque", rule=_batch_rule, vjp=_batch_norm_vjp, ulp=128,
    samples=_samples(((5, 2), {}), ((2, 3, 4), {}), ((1, 2, 3, 2), {}), ((7, 3), {"eps": 1e-2}), ((3, 2, 2, 3), {})),
    errors=[*_errors("batch_norm"), ErrorSample(ShapeError, r"batch_norm: a batch needs at least two elements of each channel, x of shape \(1, 3\) has 1",
                                                lambda m: Sample((m.array((1, 3), float32),)))],
)  # fmt: skip
def batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, /, *, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, var): y = (x - mean) / sqrt(var + eps) * weight + bias, with the mean and the (biased) variance of each
    channel over all other axes (Ioffe and Szegedy, arXiv:1502.03167). x has the shape (N, C, *S), the others (C,).

    Raises ShapeError where a channel has fewer than two elements.
    """
    op = Caller("batch_norm")
    _check(op, x, weight, bias)
    _refuse_single(op, x)
    mean, var, centered = _moments(x, eps)
    y = _scaled(divide(centered, sqrt(add(var, eps))), weight, bias)
    return y, reshape(mean, (x.shape[1],)), reshape(var, (x.shape[1],))


def _gradient_operands(op: Any, gy: Any, g_mean: Any, g_var: Any, x: Any, weight: Any) -> None:
    _check(op, x, weight, None)
    _refuse_single(op, x)
    for name, g, wanted in (
        ("gy", gy, x.shape),
        ("g_mean", g_mean, x.shape[1:2]),
        ("g_var", g_var, x.shape[1:2]),
    ):
        if tuple(g.shape) != tuple(wanted):
            raise ShapeError(
                f"{op.name}: {name} must have shape {tuple(wanted)} for x of shape {x.shape}, got {g.shape}"
            )


@custom(FLOATING)
def _batch_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    gy, g_mean, g_var, x, weight = specs
    _gradient_operands(op, gy, g_mean, g_var, x, weight)
    dtype = common(op, specs)
    return Spec(x.shape, dtype), Spec((x.shape[1],), dtype), Spec((x.shape[1],), dtype)


def _batch_gradient_samples(make: Any, dtype: Any) -> Any:
    for n, shape in enumerate(((5, 2), (2, 3, 4), (3, 2, 2, 3))):
        channels = [make.array(shape[1:2], dtype) for _ in range(2 + n % 2)]
        yield Sample((make.array(shape, dtype), *channels[:2], make.array(shape, dtype), *channels[2:]))


@composite(
    kind="opaque", rule=_batch_gradient_rule, samples=_batch_gradient_samples, ulp=256,
    errors=[ErrorSample(ShapeError, r"batch_norm_gradient: g_var must have shape \(2,\) for x of shape \(3, 2\), got \(1,\)",
                        lambda m: Sample(tuple(m.array(s, float32) for s in ((3, 2), (2,), (1,), (3, 2)))))],
)  # fmt: skip
def batch_norm_gradient(
    gy: Tensor, g_mean: Tensor, g_var: Tensor, x: Tensor, weight: Tensor | None = None, /, *, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The cotangents of :func:`batch_norm`'s x, weight and bias, for those of its three results."""
    _gradient_operands(Caller("batch_norm_gradient"), gy, g_mean, g_var, x, weight)
    axes, count = _others(x), x.size // x.shape[1]
    _, var, centered = _moments(x, eps)
    root = sqrt(add(var, eps))
    standard = divide(centered, root)
    g_bias, g_weight = sum(gy, axis=axes), sum(multiply(gy, standard), axis=axes)
    flat = reshape(root, (x.shape[1],))
    factor = divide(1, flat) if weight is None else divide(weight, flat)
    # what an element of x moves by itself, through the variance, and through the mean: a factor for each channel
    through_var = subtract(multiply(multiply(g_var, flat), 2), multiply(factor, g_weight))
    through_mean = subtract(g_mean, multiply(factor, g_bias))
    gx = add(
        multiply(gy, _per_channel(factor, x.ndim)),
        multiply(standard, _per_channel(divide(through_var, count), x.ndim)),
    )
    return add(gx, _per_channel(divide(through_mean, count), x.ndim)), g_weight, g_bias


# -- over groups of channels ---------------------------------------------------------------------------------


def _check_groups(op: Any, x: Any, weight: Any, bias: Any, num_groups: int) -> None:
    _check(op, x, weight, bias)
    if num_groups < 1 or x.shape[1] % num_groups:
        raise ArgumentError(
            f"{op.name}: num_groups={num_groups} must divide the {x.shape[1]} channels of x of shape {x.shape}"
        )


@custom(FLOATING)
def _group_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, weight, bias = specs
    _check_groups(op, x, weight, bias, params["num_groups"])
    return Spec(x.shape, common(op, specs))


def _standard_groups(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps), of shape (N, groups, elements), and 1 / sqrt(var + eps)."""
    size = x.size // (x.shape[0] * num_groups) if x.size else 0
    z = reshape(x, (x.shape[0], num_groups, size))
    centered = subtract(z, mean_of(z, (-1,)))
    scale = divide(1, sqrt(add(mean_of(multiply(centered, centered), (-1,)), eps)))
    return multiply(centered, scale), scale


def _group_norm_vjp(
    g: Tensor, x: Tensor, weight: Any, bias: Any, num_groups: int, eps: float
) -> tuple[Any, ...]:
    standard, scale = _standard_groups(x, num_groups, eps)
    axes = _others(x)
    g_bias = None if bias is None else sum(g, axis=axes)
    g_weight = None if weight is None else sum(multiply(g, reshape(standard, x.shape)), axis=axes)
    g = g if weight is None else multiply(g, _per_channel(weight, x.ndim))
    g = reshape(g, standard.shape)
    along = multiply(standard, mean_of(multiply(g, standard), (-1,)))
    gx = multiply(add(subtract(g, mean_of(g, (-1,))), negative(along)), scale)
    return reshape(gx, x.shape), g_weight, g_bias


@composite(
    kind="opaque", rule=_group_rule, vjp=_group_norm_vjp, ulp=128,
    samples=_samples(((2, 4), {"num_groups": 2}), ((2, 4, 3), {"num_groups": 4}), ((1, 4, 2, 2), {"num_groups": 1, "eps": 1e-3}),
                     ((2, 6, 5), {"num_groups": 3}), ((2, 4, 3, 2), {"num_groups": 2})),
    errors=[*_errors("group_norm", num_groups=2),
            ErrorSample(ArgumentError, "group_norm: num_groups=3 must divide the 4 channels of x",
                        lambda m: Sample((m.array((2, 4, 3), float32),), {"num_groups": 3}))],
)  # fmt: skip
def group_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    /,
    *,
    num_groups: int,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, with the mean and the (biased) variance of each example over each of
    ``num_groups`` groups of channels and all their positions (Wu and He, arXiv:1803.08494). x has the shape (N, C, *S),
    weight and bias (C,). With a group for each channel it is instance normalization.

    Example: ``group_norm(x, num_groups=2)`` for x of shape (8, 6, 5, 5) has shape (8, 6, 5, 5).
    """
    _check_groups(Caller("group_norm"), x, weight, bias, num_groups)
    standard, _ = _standard_groups(x, num_groups, eps)
    return _scaled(reshape(standard, x.shape), weight, bias)
