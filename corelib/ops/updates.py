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
from .elementwise import add, divide, maximum, multiply, pow, sqrt, subtract

if TYPE_CHECKING:
    from ..tensor import Tensor

# -- shared by the declarations ------------------------------------------------------------------------------


def _update_rule(outputs: int, full: int, optional: bool = False) -> Any:
    """``outputs`` results like the parameter; the first ``full`` operands have its shape, the others are
    scalars.

    ``optional``: the last operand may be left out; if it is there it has the parameter's shape and a result
    of its own.
    """

    @custom(FLOATING)
    def update(op: Any, specs: Any, params: dict[str, Any]) -> Any:
        shape = specs[0].shape
        last = len(specs) - 1 if optional else -1
        for i, (name, spec) in enumerate(zip(op.operands, specs, strict=True)):
            wanted = shape if i < full or i == last else ()
            if spec is not None and spec.shape != wanted:
                raise _misshapen(op, name, wanted, spec.shape)
        spec = Spec(shape, common(op, specs))
        return spec if outputs == 1 else (spec,) * (outputs + (optional and specs[last] is not None))

    return update


def _samples(full: int, scalars: int, *kwargs: dict[str, Any], extra: bool = False) -> Any:
    """``full`` operands of one shape, then scalars. A second moment must not be negative, and no step is as
    large as a parameter.
    """

    def generate(make: Maker, dtype: Any) -> Any:
        for params in kwargs:
            for shape in ((), (5,), (2, 3), (0,), (33,)):
                tensors = [
                    make.array(shape, dtype, 64, 99),
                    *[make.array(shape, dtype, 0.1, 2) for _ in range(full - 1)],
                ]
                numbers = [make.array((), dtype, 0.1, 0.9) for _ in range(scalars)]
                yield Sample((*tensors, *numbers), params)
                if extra:
                    yield Sample((*tensors, *numbers, make.array(shape, dtype, 2.5, 3)), params)

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


@custom(FLOATING)
def _scalars_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    for name, spec in zip(op.operands, specs, strict=True):
        if spec.shape != ():
            raise ShapeError(f"{op.name}: {name} must have shape (), got {spec.shape}")
    return (Spec((), common(op, specs)),) * 3


@composite(
    rule=_scalars_rule, ulp=8,
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
    if step.shape or lr.shape:
        _scalars_rule(adam_scalars.op, [Spec(t.shape, t.dtype) for t in (step, lr)], {})  # type: ignore[attr-defined]
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
    rule=_update_rule(3, 4, optional=True), donates=(0, 2, 3, 6), ulp=4, samples=_samples(4, 2, _BETAS, {**_BETAS, "weight_decay": 0.1}, extra=True),
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
    rule=_update_rule(3, 4, optional=True), donates=(0, 2, 3, 7), ulp=4, samples=_samples(4, 3, _BETAS, extra=True),
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
