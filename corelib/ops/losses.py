"""Losses. Each takes predictions and targets, and a ``reduction``: "mean", "sum" or "none" over all its
elements.

Shapes of predictions and targets must be equal where both have values: a loss that broadcasts hides the
commonest mistake there is. The derivatives read predictions and targets alone, so that training keeps no
intermediate array of a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import ArgumentError, IndexOutOfBoundsError, ShapeError
from ..op import calls
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Maker, Sample, Values
from . import batching
from .activations import one_of, sigmoid
from .compare import equal, less_equal, not_equal
from .elementwise import (
    abs,
    add,
    divide,
    exp,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    sign,
    subtract,
    where,
)
from .index import take_along_axis
from .movement import reshape
from .nn import checked_labels, mean_of, refuse_labels, softmax
from .reduce import max, sum

if TYPE_CHECKING:
    from ..params import Axis
    from ..tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    total = sum(loss)
    return total if reduction == "sum" else divide(total, loss.size)


def _spread(g: Tensor, count: int, reduction: str) -> Tensor:
    """The cotangent of each element of a loss: for "mean" and "sum" a scalar, which broadcasts."""
    return divide(g, count) if reduction == "mean" else g


# -- losses between equal shapes -----------------------------------------------------------------------------


@custom(FLOATING)
def _pair_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    one_of(op, "reduction", params["reduction"], REDUCTIONS)
    x, target = specs
    if x.shape != target.shape:
        raise ShapeError(
            f"{op.name}: x of shape {x.shape} and target of shape {target.shape} must be equal: use broadcast_to"
        )
    return Spec(x.shape if params["reduction"] == "none" else (), common(op, specs))


def _pair_samples(low: float = -3.0, high: float = 3.0, **more: Any) -> Any:
    def generate(make: Maker, dtype: Any) -> Any:
        for shape in ((5,), (2, 3), (), (33,)):
            for reduction in REDUCTIONS:
                args = (make.array(shape, dtype), make.array(shape, dtype, low, high))
                yield Sample(args, {"reduction": reduction, **more})
        yield Sample((make.array((0,), dtype), make.array((0,), dtype)), {"reduction": "sum"})

    return generate


def _pair_errors(name: str) -> list[ErrorSample]:
    return [
        ErrorSample(ShapeError, rf"{name}: x of shape \(3, 1\) and target of shape \(3,\) must be equal",
                    lambda m: Sample((m.array((3, 1), float32), m.array((3,), float32)))),
        ErrorSample(ArgumentError, f"{name}: reduction must be 'mean', 'sum' or 'none', got 'average'",
                    lambda m: Sample((m.array((3,), float32), m.array((3,), float32)), {"reduction": "average"})),
    ]  # fmt: skip


def _check(op: Any, x: Tensor, target: Tensor, reduction: str) -> None:
    """What the rule would refuse although every kernel of the body accepts it."""
    if x.shape != target.shape or reduction not in REDUCTIONS:
        op.op.rule(op.op, [Spec(t.shape, t.dtype) for t in (x, target)], {"reduction": reduction})


def _mse_vjp(g: Tensor, x: Tensor, target: Tensor, reduction: str) -> Any:
    grad = multiply(subtract(x, target), multiply(_spread(g, x.size, reduction), 2))
    return grad, negative(grad)


@composite(
    kind="opaque",
    rule=_pair_rule,
    batch=batching.loss,
    vjp=_mse_vjp,
    samples=_pair_samples(),
    errors=_pair_errors("mse_loss"),
    ulp=8,
)
def mse_loss(x: Tensor, target: Tensor, /, *, reduction: str = "mean") -> Tensor:
    """(x - target)**2."""
    _check(mse_loss, x, target, reduction)
    difference = subtract(x, target)
    return _reduced(multiply(difference, difference), reduction)


def _l1_vjp(g: Tensor, x: Tensor, target: Tensor, reduction: str) -> Any:
    grad = multiply(sign(subtract(x, target)), _spread(g, x.size, reduction))
    return grad, negative(grad)


@composite(
    kind="opaque",
    rule=_pair_rule,
    batch=batching.loss,
    vjp=_l1_vjp,
    samples=_pair_samples(),
    errors=_pair_errors("l1_loss"),
    ulp=8,
)
def l1_loss(x: Tensor, target: Tensor, /, *, reduction: str = "mean") -> Tensor:
    """|x - target|; the derivative where they are equal is 0."""
    _check(l1_loss, x, target, reduction)
    return _reduced(abs(subtract(x, target)), reduction)


def _huber_vjp(g: Tensor, x: Tensor, target: Tensor, reduction: str, delta: float) -> Any:
    difference = subtract(x, target)
    grad = multiply(maximum(minimum(difference, delta), -delta), _spread(g, x.size, reduction))
    return grad, negative(grad)


@composite(
    kind="opaque",
    rule=_pair_rule,
    batch=batching.loss,
    vjp=_huber_vjp,
    samples=_pair_samples(delta=0.75),
    errors=_pair_errors("huber_loss"),
    ulp=8,
)
def huber_loss(x: Tensor, target: Tensor, /, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d**2 / 2 for |d| = |x - target| up to ``delta``, and delta (|d| - delta / 2) beyond."""
    _check(huber_loss, x, target, reduction)
    distance = abs(subtract(x, target))
    square, straight = (
        multiply(multiply(distance, distance), 0.5),
        multiply(subtract(distance, delta / 2), delta),
    )
    return _reduced(where(less_equal(distance, delta), square, straight), reduction)


def _bce_vjp(g: Tensor, x: Tensor, target: Tensor, reduction: str) -> Any:
    scale = _spread(g, x.size, reduction)
    return multiply(subtract(sigmoid(x), target), scale), negative(multiply(x, scale))


@composite(
    kind="opaque", rule=_pair_rule, batch=batching.loss, vjp=_bce_vjp, samples=_pair_samples(0, 1),
    errors=_pair_errors("binary_cross_entropy_with_logits"), ulp=8,
)  # fmt: skip
def binary_cross_entropy_with_logits(x: Tensor, target: Tensor, /, *, reduction: str = "mean") -> Tensor:
    """-target log(s) - (1 - target) log(1 - s) for s = sigmoid(x), as max(x, 0) - x target + log(1 +
    exp(-|x|)).
    """
    _check(binary_cross_entropy_with_logits, x, target, reduction)
    loss = add(subtract(maximum(x, 0), multiply(x, target)), log1p(exp(negative(abs(x)))))
    return _reduced(loss, reduction)


LOG_FLOOR = -100.0  # PyTorch's: no probability costs more


def _probability_vjp(g: Tensor, x: Tensor, target: Tensor, reduction: str) -> Any:
    g = _spread(g, x.size, reduction)
    room = maximum(multiply(x, subtract(1, x)), 1e-12)
    logs = subtract(maximum(log1p(negative(x)), LOG_FLOOR), maximum(log(x), LOG_FLOOR))
    return multiply(divide(subtract(x, target), room), g), multiply(logs, g)


def _probability_samples(make: Maker, dtype: Any) -> Any:
    for shape in ((5,), (2, 3), (), (33,)):
        for reduction in REDUCTIONS:
            args = (make.array(shape, dtype, 0.05, 0.95), make.array(shape, dtype, 0, 1))
            yield Sample(args, {"reduction": reduction})
    yield Sample((make.array((0,), dtype), make.array((0,), dtype)), {"reduction": "sum"})


@composite(
    kind="opaque", rule=_pair_rule, vjp=_probability_vjp, samples=_probability_samples,
    errors=_pair_errors("binary_cross_entropy"), ulp=16,
)  # fmt: skip
def binary_cross_entropy(x: Tensor, target: Tensor, /, *, reduction: str = "mean") -> Tensor:
    """-target log(x) - (1 - target) log(1 - x) for probabilities x; each logarithm counts as at least -100, so that a
    probability of 0 or 1 costs 100 and not infinity. :func:`binary_cross_entropy_with_logits` is more accurate.
    """
    _check(binary_cross_entropy, x, target, reduction)
    hit, miss = maximum(log(x), LOG_FLOOR), maximum(log1p(negative(x)), LOG_FLOOR)
    loss = negative(add(multiply(target, hit), multiply(subtract(1, target), miss)))
    return _reduced(loss, reduction)


# -- losses of classes ---------------------------------------------------------------------------------------


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i != len(shape) + axis)


@custom(FLOATING, joint=(0,), fixed={1: int64})
def _label_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    one_of(op, "reduction", params["reduction"], REDUCTIONS)
    x, labels = specs
    wanted = _without(x.shape, params["axis"])
    if labels.shape != wanted:
        raise ShapeError(
            f"{op.name}: labels must have shape {wanted}, that of x {x.shape} without its class axis {params['axis']}, "
            f"got {labels.shape}"
        )
    if not x.shape[params["axis"]]:
        raise ShapeError(f"{op.name}: x of shape {x.shape} has no classes on axis {params['axis']}")
    if not 0 <= params.get("label_smoothing", 0) <= 1:
        raise ArgumentError(f"{op.name}: label_smoothing must be in [0, 1], got {params['label_smoothing']}")
    return Spec(labels.shape if params["reduction"] == "none" else (), x.dtype)


def _check_labels(op: Any, x: Tensor, labels: Tensor, **params: Any) -> None:
    if (
        params["reduction"] not in REDUCTIONS
        or labels.shape != _without(x.shape, params["axis"])
        or not 0 <= params.get("label_smoothing", 0) <= 1
    ):
        op.op.rule(op.op, [Spec(t.shape, t.dtype) for t in (x, labels)], params)


def _kept(labels: Tensor, axis: int) -> Tensor:
    """Labels (or what belongs to each) with the class axis back, of size 1."""
    place = labels.ndim + 1 + axis
    return reshape(labels, (*labels.shape[:place], 1, *labels.shape[place:]))


def _hits(x: Any, kept: Tensor, axis: int) -> Tensor:
    """Where the class axis of ``x`` (a tensor or a spec) is the label."""
    classes = calls.arange(x.shape[axis], device=kept._backend)
    return equal(kept, classes if axis == -1 else reshape(classes, (x.shape[axis], *(1,) * (-axis - 1))))


def _picked(x: Tensor, kept: Tensor, axis: int, ignore_index: int | None) -> Tensor:
    """The element of ``x`` at each label, and any element at ignored ones."""
    valid = kept if ignore_index is None else where(equal(kept, ignore_index), 0, kept)
    return take_along_axis(x, checked_labels(valid, x.shape[axis]), axis=axis)


def _class_loss(
    loss: Tensor, kept: Tensor, shape: tuple[int, ...], reduction: str, ignore_index: int | None
) -> Tensor:
    """The loss of each label, reduced; ``shape`` is that of the labels."""
    counted = None if ignore_index is None else not_equal(kept, ignore_index)
    loss = loss if counted is None else where(counted, loss, 0)
    if reduction == "none":
        return reshape(loss, shape)
    if reduction == "mean" and counted is not None:
        return divide(sum(loss), calls.astype(sum(counted, dtype=int64), loss.dtype))
    return _reduced(loss, reduction)


def _class_scale(g: Tensor, kept: Tensor, axis: int, reduction: str, ignore_index: int | None) -> Tensor:
    """The cotangent of each label's loss, with a class axis of size 1 (or a scalar)."""
    g = _kept(g, axis) if reduction == "none" else g
    if ignore_index is None:
        return _spread(g, kept.size, reduction)
    counted = not_equal(kept, ignore_index)
    if reduction == "mean":
        g = divide(g, calls.astype(sum(counted, dtype=int64), g.dtype))
    return where(counted, g, 0)


def _cross_entropy_vjp(
    g: Tensor,
    x: Tensor,
    labels: Tensor,
    axis: int,
    reduction: str,
    label_smoothing: float,
    ignore_index: int | None,
) -> Any:
    kept, grad = _kept(labels, axis), softmax(x, axis=axis)
    if label_smoothing:
        grad = subtract(grad, label_smoothing / x.shape[axis])
    grad = where(_hits(x, kept, axis), subtract(grad, 1 - label_smoothing), grad)
    return multiply(grad, _class_scale(g, kept, axis, reduction, ignore_index)), None


def _diagnose_label(op: Any, operands: Any, params: dict[str, Any]) -> None:
    x, labels = operands
    ignored = params["ignore_index"]
    hint = "" if ignored is not None else "; ignore_index= leaves a label out"
    refuse_labels(op, "label", labels, x.shape[params["axis"]], hint, ignored)


def _labels(*values: int) -> Values:
    return Values((len(values),), int64, values)


def _label_samples(make: Maker, dtype: Any) -> Any:
    for shape, axis in (((4, 5), -1), ((5,), 0), ((2, 3, 4), 1), ((33, 7), 1)):
        for reduction in REDUCTIONS:
            labels = make.array(
                _without(shape, axis - len(shape) if axis >= 0 else axis), int64, 0, shape[axis] - 1
            )
            yield Sample((make.array(shape, dtype), labels), {"axis": axis, "reduction": reduction})
    for reduction in REDUCTIONS:
        yield Sample(
            (make.array((4, 5), dtype), _labels(0, -100, 4, 2)),
            {"reduction": reduction, "ignore_index": -100},
        )
    yield Sample((make.array((0, 5), dtype), _labels()), {"reduction": "sum"})


def _smoothed_samples(make: Maker, dtype: Any) -> Any:
    yield from _label_samples(make, dtype)
    for reduction in REDUCTIONS:
        params = {"reduction": reduction, "label_smoothing": 0.1, "ignore_index": 1}
        yield Sample((make.array((4, 5), dtype), _labels(0, 1, 4, 2)), params)


def _label_errors(name: str) -> list[ErrorSample]:
    def sample(*labels: int, **params: Any) -> Any:
        return lambda m: Sample((m.array((2, 5), float32), _labels(*labels)), params)

    return [
        ErrorSample(IndexOutOfBoundsError, f"{name}: label 5 is out of range for 5: valid are 0 to 4", sample(0, 5)),
        ErrorSample(IndexOutOfBoundsError, f"{name}: label -100 is out of range for 5: .*ignore_index=", sample(0, -100)),
        ErrorSample(IndexOutOfBoundsError, f"{name}: label 9 is out of range for 5: valid are 0 to 4$", sample(-1, 9, ignore_index=-1)),
        ErrorSample(ShapeError, rf"{name}: labels must have shape \(2,\), that of x \(2, 5\) without its class axis -1, got \(3,\)",
                    sample(0, 1, 2)),
        ErrorSample(ArgumentError, f"{name}: reduction must be 'mean', 'sum' or 'none', got None", sample(0, 1, reduction=None)),
        ErrorSample(ShapeError, f"{name}: x of shape .* has no classes", lambda m: Sample((m.array((2, 0), float32), _labels(0, 0)))),
    ]  # fmt: skip


@composite(
    kind="opaque", rule=_label_rule, batch=batching.loss, vjp=_cross_entropy_vjp, samples=_smoothed_samples, diagnose=_diagnose_label,
    errors=_label_errors("cross_entropy"), ulp=32,
)  # fmt: skip
def cross_entropy(
    x: Tensor,
    labels: Tensor,
    /,
    *,
    axis: Axis = -1,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> Tensor:
    """-log(softmax(x)) at the label: logits ``x`` with classes on ``axis``, ``labels`` (integers) of x's
    shape without that axis.

    ``label_smoothing`` s mixes the label, weighted 1 - s, with all classes, weighted s (Szegedy et al.,
    arXiv:1512.00567). A label ``ignore_index`` counts neither in the sum nor in the mean. Raises
    IndexOutOfBoundsError for any other label that is no class.

    Example: ``cross_entropy(x, asarray([2, 0]))`` for x of shape (2, 3) has shape ().
    """
    _check_labels(
        cross_entropy,
        x,
        labels,
        axis=axis,
        reduction=reduction,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
    )
    shifted = subtract(x, max(x, axis=axis, keepdims=True))
    kept, normalizer = _kept(labels, axis), log(sum(exp(shifted), axis=axis, keepdims=True))
    loss = subtract(normalizer, _picked(shifted, kept, axis, ignore_index))
    if label_smoothing:
        everything = subtract(normalizer, mean_of(shifted, (axis,)))
        loss = add(multiply(loss, 1 - label_smoothing), multiply(everything, label_smoothing))
    return _class_loss(loss, kept, labels.shape, reduction, ignore_index)


def _nll_transpose(
    g: Tensor, x: Spec, labels: Tensor, axis: int, reduction: str, ignore_index: int | None
) -> Tensor:
    kept = _kept(labels, axis)
    scale = negative(_class_scale(g, kept, axis, reduction, ignore_index))
    return where(_hits(x, kept, axis), scale, 0)


@composite(
    kind="opaque", rule=_label_rule, batch=batching.loss, linear=(_nll_transpose, None), samples=_label_samples, diagnose=_diagnose_label,
    errors=_label_errors("nll_loss"), ulp=32,
)  # fmt: skip
def nll_loss(
    x: Tensor, labels: Tensor, /, *, axis: Axis = -1, reduction: str = "mean", ignore_index: int | None = None
) -> Tensor:
    """-x at the label: for logarithms of probabilities ``x``; otherwise as :func:`cross_entropy`."""
    _check_labels(nll_loss, x, labels, axis=axis, reduction=reduction, ignore_index=ignore_index)
    kept = _kept(labels, axis)
    loss = negative(_picked(x, kept, axis, ignore_index))
    return _class_loss(loss, kept, labels.shape, reduction, ignore_index)
