"""Updates of parameters: one composite op per optimizer and parameter, from parameter, gradient and state to
their new values.

Each is a pure function with several results, so that a backend or the kernel generator can make it one pass
over memory. Whatever is the same for all parameters of a group (corrections of the bias, powers of the step
count) is computed once, by an op on 0-d tensors in float64, and enters as 0-d tensors; what never changes
enters as Python numbers. ``overwrite=True`` says that parameter and state are about to be rebound to the
results and that nobody else can see them, so that their arrays may be written over. Run op by op,
``adamw_update`` costs 13 element-wise passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32
from ..errors import ShapeError
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Maker, Sample
from .compare import greater
from .elementwise import add, divide, maximum, multiply, pow, sign, sqrt, square, subtract, where

if TYPE_CHECKING:
    from ..tensor import Tensor

# -- shared by the declarations ------------------------------------------------------------------------------


def _update_rule(outputs: int, full: int, optional: int = 0) -> Any:
    """``outputs`` results like the parameter; the first ``full`` operands have its shape, the others are
    scalars.

    ``optional``: so many of the last operands may be left out; each that is there has the parameter's shape
    and a result of its own.
    """

    @custom(FLOATING)
    def update(op: Any, specs: Any, params: dict[str, Any]) -> Any:
        shape = specs[0].shape
        tail = len(specs) - optional
        for i, (name, spec) in enumerate(zip(op.operands, specs, strict=True)):
            wanted = shape if i < full or i >= tail else ()
            if spec is not None and spec.shape != wanted:
                raise _misshapen(op, name, wanted, spec.shape)
        spec = Spec(shape, common(op, specs))
        count = outputs + sum(s is not None for s in specs[tail:])
        return spec if count == 1 else (spec,) * count

    return update


def _samples(full: int, scalars: int, *kwargs: dict[str, Any], extra: int = 0) -> Any:
    """``full`` operands of one shape, then scalars, then up to ``extra`` optional ones. A second moment must
    not be negative, and no step is as large as a parameter.
    """

    def generate(make: Maker, dtype: Any) -> Any:
        for params in kwargs:
            for shape in ((), (5,), (2, 3), (0,), (33,)):
                tensors = [
                    make.array(shape, dtype, 64, 99),
                    *[make.array(shape, dtype, 0.1, 2) for _ in range(full - 1)],
                ]
                numbers = [make.array((), dtype, 0.1, 0.9) for _ in range(scalars)]
                for count in range(extra + 1):
                    more = [make.array(shape, dtype, 2.5, 3) for _ in range(count)]
                    yield Sample((*tensors, *numbers, *more), params)

    return generate


def _errors(name: str, full: int, scalars: int, **params: Any) -> list[ErrorSample]:
    def build(make: Maker) -> Sample:
        shapes = [(2, 3), (3, 2), *[(2, 3)] * (full - 2), *[()] * scalars]
        return Sample(tuple(make.array(s, float32, 0.1, 1) for s in shapes), params)

    return [ErrorSample(ShapeError, rf"{name}: g must have shape \(2, 3\), got \(3, 2\)", build)]


def _check(op: Any, p: Tensor, *others: Tensor, first: str = "g") -> None:
    """Refuse gradients and moments that would broadcast: ``others`` are the operands from ``first`` on."""
    shape = p.shape
    for i, other in enumerate(others):
        if other.shape != shape:
            declared = op.op
            raise _misshapen(
                declared, declared.operands[declared.operands.index(first) + i], shape, other.shape
            )


def _misshapen(op: Any, name: str, wanted: tuple[int, ...], got: tuple[int, ...]) -> ShapeError:
    return ShapeError(f"{op.name}: {name} must have shape {wanted}, got {got}")


def _decayed(g: Tensor, p: Tensor, weight_decay: float) -> Tensor:
    """The gradient with that of weight_decay / 2 |p|**2 added."""
    return add(g, multiply(p, weight_decay)) if weight_decay else g


# -- stochastic gradient descent -----------------------------------------------------------------------------


@composite(
    rule=_update_rule(1, 2),
    donates=(0,),
    ulp=4,
    samples=_samples(2, 1, {}, {"weight_decay": 0.1}),
    errors=_errors("sgd_update", 2, 1),
)
def sgd_update(
    p: Tensor, g: Tensor, lr: Tensor, /, *, weight_decay: float = 0.0, overwrite: bool = False
) -> Tensor:
    """The parameter after a step against its gradient: ``p - lr (g + weight_decay p)``."""
    _check(sgd_update, p, g)
    return subtract(p, multiply(_decayed(g, p, weight_decay), lr))


@composite(
    rule=_update_rule(2, 3), donates=(0, 2), ulp=4,
    samples=_samples(
        3, 1, {"momentum": 0.9}, {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1}, {"momentum": 0.9, "nesterov": True}
    ),
    errors=_errors("momentum_update", 3, 1, momentum=0.9),
)  # fmt: skip
def momentum_update(
    p: Tensor, g: Tensor, buffer: Tensor, lr: Tensor, /, *, momentum: float, dampening: float = 0.0, nesterov: bool = False,
    weight_decay: float = 0.0, overwrite: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Parameter and momentum buffer after a step: ``b = momentum buffer + (1 - dampening) g`` and ``p - lr
    b``.

    With ``nesterov``, ``p - lr (g + momentum b)`` (Sutskever et al., ICML 2013); g includes ``weight_decay``
    p.
    """
    _check(momentum_update, p, g, buffer)
    g = _decayed(g, p, weight_decay)
    buffer = add(multiply(buffer, momentum), multiply(g, 1 - dampening) if dampening else g)
    direction = add(g, multiply(buffer, momentum)) if nesterov else buffer
    return subtract(p, multiply(direction, lr)), buffer


# -- Adam ----------------------------------------------------------------------------------------------------


def _scalars_rule(outputs: int) -> Any:
    """``outputs`` numbers from numbers."""

    @custom(FLOATING)
    def scalars(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
        for name, spec in zip(op.operands, specs, strict=True):
            if spec.shape != ():
                raise _misshapen(op, name, (), spec.shape)
        return (Spec((), common(op, specs)),) * outputs

    return scalars


def _check_scalars(op: Any, *scalars: Tensor) -> None:
    """Refuse what is no scalar; it would broadcast."""
    if any(t.shape for t in scalars):
        op.op.rule(op.op, [Spec(t.shape, t.dtype) for t in scalars], {})


@composite(
    rule=_scalars_rule(3), ulp=8,
    samples=lambda make, dtype: [Sample((make.array((), dtype, 1, 9), make.array((), dtype, 0.01, 0.1)),
                                        {"beta1": 0.9, "beta2": 0.75, "eps": 1e-4, "weight_decay": 0.1})],
    errors=[ErrorSample(ShapeError, r"adam_scalars: step must have shape \(\), got \(2,\)",
                        lambda m: Sample((m.array((2,), float32), m.array((), float32)), {"beta1": 0.9, "beta2": 0.75, "eps": 1e-4}))],
)  # fmt: skip
def adam_scalars(
    step: Tensor, lr: Tensor, /, *, beta1: float, beta2: float, eps: float, weight_decay: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """What all parameters share in one step of Adam: ``(rate, epsilon, shrink)``.

    With c = sqrt(1 - beta2**step): rate = lr c / (1 - beta1**step), epsilon = eps c, shrink = 1 - lr
    weight_decay. The update ``lr m / (1 - beta1**step) / (sqrt(v) / c + eps)`` is then ``rate m / (sqrt(v) +
    epsilon)``, two passes over memory shorter.
    """
    _check_scalars(adam_scalars, step, lr)
    correction = sqrt(subtract(1, pow(beta2, step)))
    rate = divide(multiply(lr, correction), subtract(1, pow(beta1, step)))
    return rate, multiply(correction, eps), subtract(1, multiply(lr, weight_decay))


def _moments(g: Tensor, m: Tensor, v: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    m = add(multiply(m, beta1), multiply(g, 1 - beta1))
    return m, add(multiply(v, beta2), multiply(multiply(g, 1 - beta2), g))


def _direction(m: Tensor, v: Tensor, rate: Tensor, epsilon: Tensor) -> Tensor:
    return multiply(divide(m, add(sqrt(v), epsilon)), rate)


_BETAS = {"beta1": 0.9, "beta2": 0.75}


@composite(
    rule=_update_rule(3, 4, optional=1), donates=(0, 2, 3, 6), ulp=4, samples=_samples(4, 2, _BETAS, {**_BETAS, "weight_decay": 0.1}, extra=1),
    errors=_errors("adam_update", 4, 2, **_BETAS),
)  # fmt: skip
def adam_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, rate: Tensor, epsilon: Tensor, v_max: Tensor | None = None, /, *, beta1: float,
    beta2: float, weight_decay: float = 0.0, overwrite: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Parameter and first and second moment after a step of Adam (Kingma and Ba, arXiv:1412.6980): ``(p, m,
    v)``.

    ``rate`` and ``epsilon`` come from :func:`adam_scalars`. ``weight_decay`` p is added to the gradient. With
    ``v_max``, the largest second moment so far takes v's place (AMSGrad, Reddi et al., ICLR 2018) and is the
    fourth result.
    """
    _check(adam_update, p, g, m, v)
    m, v = _moments(_decayed(g, p, weight_decay), m, v, beta1, beta2)
    if v_max is None:
        return subtract(p, _direction(m, v, rate, epsilon)), m, v
    _check(adam_update, p, v_max, first="v_max")
    v_max = maximum(v_max, v)
    return subtract(p, _direction(m, v_max, rate, epsilon)), m, v, v_max


@composite(
    rule=_update_rule(3, 4, optional=1), donates=(0, 2, 3, 7), ulp=4, samples=_samples(4, 3, _BETAS, extra=1),
    errors=_errors("adamw_update", 4, 3, **_BETAS),
)  # fmt: skip
def adamw_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, rate: Tensor, epsilon: Tensor, shrink: Tensor, v_max: Tensor | None = None, /, *,
    beta1: float, beta2: float, overwrite: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """As :func:`adam_update`, with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101): ``shrink
    p`` in place of p.
    """
    _check(adamw_update, p, g, m, v)
    m, v = _moments(g, m, v, beta1, beta2)
    if v_max is None:
        return subtract(multiply(p, shrink), _direction(m, v, rate, epsilon)), m, v
    _check(adamw_update, p, v_max, first="v_max")
    v_max = maximum(v_max, v)
    return subtract(multiply(p, shrink), _direction(m, v_max, rate, epsilon)), m, v, v_max


# -- Adam's relatives ----------------------------------------------------------------------------------------


@composite(
    rule=_scalars_rule(5), ulp=8,
    samples=lambda make, dtype: [
        Sample((make.array((), dtype, 1, 9), make.array((), dtype, 0.1, 0.5), make.array((), dtype, 0.01, 0.1)),
               {"beta1": 0.9, "beta2": 0.75, "eps": 1e-4, "momentum_decay": decay, "weight_decay": 0.1})
        for decay in (0.004, 0.5)
    ],
    errors=[ErrorSample(ShapeError, r"nadam_scalars: lr must have shape \(\), got \(2,\)",
                        lambda m: Sample((m.array((), float32), m.array((), float32), m.array((2,), float32)),
                                         {"beta1": 0.9, "beta2": 0.75, "eps": 1e-4, "momentum_decay": 0.004}))],
)  # fmt: skip
def nadam_scalars(
    step: Tensor, mu_product: Tensor, lr: Tensor, /, *, beta1: float, beta2: float, eps: float, momentum_decay: float,
    weight_decay: float = 0.0,
) -> tuple[Tensor, ...]:  # fmt: skip
    """What all parameters share in one step of NAdam: ``(mu_product, rate, ahead, epsilon, shrink)``.

    With mu(t) = beta1 (1 - 0.96**(t momentum_decay) / 2), whose product up to this step is the new
    mu_product, and c = sqrt(1 - beta2**step): ``rate = lr c (1 - mu(t)) / (1 - mu_product)`` belongs to the
    gradient, ``ahead = lr c mu(t + 1) / (1 - mu_product mu(t + 1))`` to the first moment; epsilon = eps c,
    shrink = 1 - lr weight_decay.
    """
    _check_scalars(nadam_scalars, step, mu_product, lr)

    def mu(t: Tensor) -> Tensor:
        return multiply(subtract(1, multiply(pow(0.96, multiply(t, momentum_decay)), 0.5)), beta1)

    now, after = mu(step), mu(add(step, 1))
    product = multiply(mu_product, now)
    correction = sqrt(subtract(1, pow(beta2, step)))
    scaled = multiply(lr, correction)
    rate = divide(multiply(scaled, subtract(1, now)), subtract(1, product))
    ahead = divide(multiply(scaled, after), subtract(1, multiply(product, after)))
    return product, rate, ahead, multiply(correction, eps), subtract(1, multiply(lr, weight_decay))


@composite(
    rule=_update_rule(3, 4), donates=(0, 2, 3), ulp=4, samples=_samples(4, 4, _BETAS, {**_BETAS, "weight_decay": 0.1}),
    errors=_errors("nadam_update", 4, 4, **_BETAS),
)  # fmt: skip
def nadam_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, rate: Tensor, ahead: Tensor, epsilon: Tensor, shrink: Tensor, /, *, beta1: float,
    beta2: float, weight_decay: float = 0.0, overwrite: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Parameter and moments after a step of NAdam (Dozat, ICLR workshop 2016): ``p shrink - (rate g + ahead
    m) / (sqrt(v) + epsilon)``, with the scalars of :func:`nadam_scalars`.
    """
    _check(nadam_update, p, g, m, v)
    g = _decayed(g, p, weight_decay)
    m, v = _moments(g, m, v, beta1, beta2)
    direction = add(multiply(g, rate), multiply(m, ahead))
    return subtract(multiply(p, shrink), divide(direction, add(sqrt(v), epsilon))), m, v


@composite(
    rule=_scalars_rule(4), ulp=32,  # rho(t) is a difference, and rho(t) - 4 another one
    samples=lambda make, dtype: [
        Sample((make.full((), dtype, step), make.array((), dtype, 0.01, 0.1)), {"beta1": 0.9, "beta2": 0.9375, "eps": 1e-4, "weight_decay": 0.1})
        for step in (1, 3, 9, 40)
    ],
    errors=[ErrorSample(ShapeError, r"radam_scalars: step must have shape \(\), got \(2,\)",
                        lambda m: Sample((m.array((2,), float32), m.array((), float32)), {"beta1": 0.9, "beta2": 0.75, "eps": 1e-4}))],
)  # fmt: skip
def radam_scalars(
    step: Tensor, lr: Tensor, /, *, beta1: float, beta2: float, eps: float, weight_decay: float = 0.0
) -> tuple[Tensor, ...]:
    """What all parameters share in one step of RAdam: ``(rate, plain, epsilon, shrink)``.

    With rho = 2 / (1 - beta2) - 1 and rho(t) = rho - 2 t beta2**t / (1 - beta2**t): once rho(t) > 5, rate =
    lr r sqrt(1 - beta2**t) / (1 - beta1**t) with r**2 = (rho(t) - 4) (rho(t) - 2) rho / ((rho - 4) (rho - 2)
    rho(t)), plain = 0 and epsilon = eps; before that, rate = 0, plain = lr / (1 - beta1**t) and epsilon = 1.
    shrink = 1 - lr weight_decay.
    """
    _check_scalars(radam_scalars, step, lr)
    power = pow(beta2, step)
    limit = 2 / (1 - beta2) - 1
    rho = subtract(limit, divide(multiply(multiply(step, 2), power), subtract(1, power)))
    rectified = greater(rho, 5)
    safe = maximum(rho, 5.0)  # what is not used must not be the root of a negative number either
    ratio = divide(multiply(multiply(subtract(safe, 4), subtract(safe, 2)), limit), safe)
    ratio = divide(ratio, max((limit - 4) * (limit - 2), 1.0))  # below 5 the limit is never reached
    rate = divide(lr, subtract(1, pow(beta1, step)))
    full = multiply(rate, sqrt(multiply(ratio, subtract(1, power))))
    zero = multiply(rate, 0)
    return (
        where(rectified, full, zero),
        where(rectified, zero, rate),
        where(rectified, add(zero, eps), add(zero, 1)),
        subtract(1, multiply(lr, weight_decay)),
    )


@composite(
    rule=_update_rule(3, 4), donates=(0, 2, 3), ulp=4, samples=_samples(4, 4, _BETAS, {**_BETAS, "weight_decay": 0.1}),
    errors=_errors("radam_update", 4, 4, **_BETAS),
)  # fmt: skip
def radam_update(
    p: Tensor, g: Tensor, m: Tensor, v: Tensor, rate: Tensor, plain: Tensor, epsilon: Tensor, shrink: Tensor, /, *, beta1: float,
    beta2: float, weight_decay: float = 0.0, overwrite: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Parameter and moments after a step of RAdam (Liu et al., arXiv:1908.03265): ``p shrink - m (rate /
    (sqrt(v) + epsilon) + plain)``, with the scalars of :func:`radam_scalars`.
    """
    _check(radam_update, p, g, m, v)
    m, v = _moments(_decayed(g, p, weight_decay), m, v, beta1, beta2)
    scale = add(divide(rate, add(sqrt(v), epsilon)), plain)
    return subtract(multiply(p, shrink), multiply(m, scale)), m, v


@composite(
    rule=_update_rule(2, 3), donates=(0, 2), ulp=4, samples=_samples(3, 2, {"beta1": 0.9, "beta2": 0.75}),
    errors=_errors("lion_update", 3, 2, **_BETAS),
)  # fmt: skip
def lion_update(
    p: Tensor, g: Tensor, m: Tensor, lr: Tensor, shrink: Tensor, /, *, beta1: float, beta2: float, overwrite: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Parameter and momentum after a step of Lion (Chen et al., arXiv:2302.06675, algorithm 2): ``p shrink -
    lr sign(beta1 m + (1 - beta1) g)``, and ``beta2 m + (1 - beta2) g``.
    """
    _check(lion_update, p, g, m)
    direction = sign(add(multiply(m, beta1), multiply(g, 1 - beta1)))
    return subtract(multiply(p, shrink), multiply(direction, lr)), add(
        multiply(m, beta2), multiply(g, 1 - beta2)
    )


# -- scaled by the size of past gradients --------------------------------------------------------------------


@composite(
    rule=_update_rule(2, 3), donates=(0, 2), ulp=4, samples=_samples(3, 1, {"eps": 1e-4}, {"eps": 1e-4, "weight_decay": 0.1}),
    errors=_errors("adagrad_update", 3, 1, eps=1e-4),
)  # fmt: skip
def adagrad_update(
    p: Tensor, g: Tensor, total: Tensor, rate: Tensor, /, *, eps: float, weight_decay: float = 0.0, overwrite: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Parameter and sum of squares after a step of Adagrad (Duchi et al., JMLR 12, 2011): ``total + g**2``,
    and ``p - rate g / (sqrt(total) + eps)``; g includes ``weight_decay`` p.
    """
    _check(adagrad_update, p, g, total)
    g = _decayed(g, p, weight_decay)
    total = add(total, square(g))
    return subtract(p, multiply(divide(g, add(sqrt(total), eps)), rate)), total


_ALPHA = {"alpha": 0.75, "eps": 1e-4}


def _rmsprop_samples(make: Maker, dtype: Any) -> Any:
    plain = _samples(3, 1, _ALPHA, {**_ALPHA, "weight_decay": 0.1}, {**_ALPHA, "momentum": 0.9}, extra=1)
    yield from plain(make, dtype)
    for shape in ((), (5,), (2, 3)):  # a mean gradient well below the root of the mean square
        p, g, v = (make.array(shape, dtype, *bounds) for bounds in ((64, 99), (0.1, 2), (5, 9)))
        mean, lr = make.array(shape, dtype, -1, 1), make.array((), dtype, 0.1, 0.9)
        yield Sample((p, g, v, lr, None, mean), _ALPHA)
        yield Sample((p, g, v, lr, make.array(shape, dtype), mean), {**_ALPHA, "momentum": 0.9})


@composite(
    rule=_update_rule(2, 3, optional=2), donates=(0, 2, 4, 5), ulp=4, samples=_rmsprop_samples,
    errors=_errors("rmsprop_update", 3, 1, **_ALPHA),
)  # fmt: skip
def rmsprop_update(
    p: Tensor, g: Tensor, v: Tensor, lr: Tensor, buffer: Tensor | None = None, mean: Tensor | None = None, /, *, alpha: float,
    eps: float, momentum: float = 0.0, weight_decay: float = 0.0, overwrite: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Parameter and mean square after a step of RMSprop (Hinton, Coursera lecture 6e, 2012): ``v = alpha v +
    (1 - alpha) g**2``, ``p - lr g / (sqrt(v) + eps)``; then the new ``buffer`` and ``mean``, where given.

    With ``buffer``, the step is lr (momentum buffer + g / (sqrt(v) + eps)). With ``mean``, an average of the
    gradients as v is one of the squares, v - mean**2 takes v's place (Graves, arXiv:1308.0850); g includes
    ``weight_decay`` p.
    """
    _check(rmsprop_update, p, g, v)
    _check(rmsprop_update, p, *[t for t in (buffer, mean) if t is not None], first="buffer" if buffer is not None else "mean")  # fmt: skip
    g = _decayed(g, p, weight_decay)
    v = add(multiply(v, alpha), multiply(multiply(g, 1 - alpha), g))
    variance = v
    if mean is not None:
        mean = add(multiply(mean, alpha), multiply(g, 1 - alpha))
        variance = maximum(subtract(v, square(mean)), 0.0)  # rounding may make it negative
    direction = divide(g, add(sqrt(variance), eps))
    if buffer is not None:
        direction = buffer = add(multiply(buffer, momentum), direction)
    return (subtract(p, multiply(direction, lr)), v, *[t for t in (buffer, mean) if t is not None])


# -- averages of weights -------------------------------------------------------------------------------------


@composite(
    rule=_update_rule(1, 2), donates=(0,), ulp=4, samples=_samples(2, 0, {"decay": 0.9}),
    errors=_errors("ema_update", 2, 0, decay=0.9),
)  # fmt: skip
def ema_update(average: Tensor, g: Tensor, /, *, decay: float, overwrite: bool = False) -> Tensor:
    """The exponential moving average after one more value g: ``decay average + (1 - decay) g``."""
    _check(ema_update, average, g)
    return add(multiply(average, decay), multiply(g, 1 - decay))
