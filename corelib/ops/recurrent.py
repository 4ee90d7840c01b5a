"""One step of the recurrent networks that have gates: what follows the products of matrices, in PyTorch's order of
gates. A derivative computes the gates again, so that the tape keeps none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32
from ..errors import ShapeError
from ..params import Caller
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Sample
from .activations import sigmoid
from .elementwise import add, multiply, subtract
from .movement import concat, narrow
from .trigonometric import tanh

if TYPE_CHECKING:
    from ..tensor import Tensor


def _parts(gates: Tensor, count: int) -> list[Tensor]:
    """The gates of (..., count H) apart, each (..., H)."""
    size = gates.shape[-1] // count
    return [narrow(gates, -1, i * size, size) for i in range(count)]


def _check(op: Any, state: Any, count: int, **gates: Any) -> None:
    if not state.shape:
        raise ShapeError(f"{op.name}: the state must have shape (..., H), got ()")
    wanted = (*state.shape[:-1], count * state.shape[-1])
    for name, x in gates.items():
        if tuple(x.shape) != wanted:
            raise ShapeError(
                f"{op.name}: {name} must have shape {wanted} for a state of shape {tuple(state.shape)}, got {x.shape}"
            )


def _samples(count: int, gates: int) -> Any:
    def generate(make: Any, dtype: Any) -> Any:
        for shape in ((2, 3), (1,), (0, 2), (4, 5)):
            wide = (*shape[:-1], count * shape[-1])
            yield Sample((*[make.array(wide, dtype) for _ in range(gates)], make.array(shape, dtype)))

    return generate


# -- LSTM ----------------------------------------------------------------------------------------------------


@custom(FLOATING)
def _lstm_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    gates, c = specs
    _check(op, c, 4, gates=gates)
    return (Spec(c.shape, common(op, specs)),) * 2


def lstm_parts(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """i, f, g and o behind their activations."""
    i, f, g, o = _parts(gates, 4)
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def of_sigmoid(g: Any, y: Tensor) -> Tensor:
    """The cotangent in front of a sigmoid whose result is y."""
    return multiply(multiply(g, y), subtract(1, y))


def of_tanh(g: Any, y: Tensor) -> Tensor:
    """The cotangent in front of a tanh whose result is y."""
    return multiply(g, subtract(1, multiply(y, y)))


def lstm_cotangents(g: tuple[Tensor, Tensor], gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The cotangents of the gates and of c, for those of h' and c'."""
    gh, gc = g
    i, f, new, o = lstm_parts(gates)
    t = tanh(add(multiply(f, c), multiply(i, new)))
    gc = add(gc, of_tanh(multiply(gh, o), t))
    parts = [
        of_sigmoid(multiply(gc, new), i),
        of_sigmoid(multiply(gc, c), f),
        of_tanh(multiply(gc, i), new),
        of_sigmoid(multiply(gh, t), o),
    ]
    return concat(parts, axis=-1), multiply(gc, f)


@composite(
    kind="opaque", rule=_lstm_rule, vjp=lstm_cotangents, samples=_samples(4, 1), ulp=32, leading=True,
    errors=[ErrorSample(ShapeError, r"lstm_cell: gates must have shape \(2, 12\) for a state of shape \(2, 3\), got \(2, 9\)",
                        lambda m: Sample((m.array((2, 9), float32), m.array((2, 3), float32))))],
)  # fmt: skip
def lstm_cell(gates: Tensor, c: Tensor, /) -> tuple[Tensor, Tensor]:
    """(h', c') of an LSTM's step, from the gates i, f, g and o before their activations, (..., 4 H), and the cell's state
    c, (..., H): c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c').
    """
    _check(Caller("lstm_cell"), c, 4, gates=gates)
    i, f, g, o = lstm_parts(gates)
    c = add(multiply(f, c), multiply(i, g))
    return multiply(o, tanh(c)), c


# -- GRU -----------------------------------------------------------------------------------------------------


@custom(FLOATING)
def _gru_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x_gates, h_gates, h = specs
    _check(op, h, 3, x_gates=x_gates, h_gates=h_gates)
    return Spec(h.shape, common(op, specs))


def gru_parts(x_gates: Tensor, h_gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """r, z and n behind their activations, and the state's part of n."""
    (xr, xz, xn), (hr, hz, hn) = _parts(x_gates, 3), _parts(h_gates, 3)
    r = sigmoid(add(xr, hr))
    return r, sigmoid(add(xz, hz)), tanh(add(xn, multiply(r, hn))), hn


def gru_cotangents(g: Tensor, x_gates: Tensor, h_gates: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cotangents of the gates' parts and of h, for that of h'."""
    r, z, new, hn = gru_parts(x_gates, h_gates)
    gz = of_sigmoid(multiply(g, subtract(h, new)), z)
    gn = of_tanh(multiply(g, subtract(1, z)), new)
    gr = of_sigmoid(multiply(gn, hn), r)
    return concat([gr, gz, gn], axis=-1), concat([gr, gz, multiply(gn, r)], axis=-1), multiply(g, z)


@composite(
    kind="opaque", rule=_gru_rule, vjp=gru_cotangents, samples=_samples(3, 2), ulp=32, leading=True,
    errors=[ErrorSample(ShapeError, r"gru_cell: h_gates must have shape \(2, 9\) for a state of shape \(2, 3\), got \(2, 12\)",
                        lambda m: Sample((m.array((2, 9), float32), m.array((2, 12), float32), m.array((2, 3), float32))))],
)  # fmt: skip
def gru_cell(x_gates: Tensor, h_gates: Tensor, h: Tensor, /) -> Tensor:
    """h' of a GRU's step, from what the input and the state h, (..., H), give to the gates r, z and n before their
    activations, (..., 3 H) each: r = sigmoid(xr + hr), z = sigmoid(xz + hz), n = tanh(xn + r hn), h' = (1 - z) n + z h.
    """
    _check(Caller("gru_cell"), h, 3, x_gates=x_gates, h_gates=h_gates)
    _, z, new, _ = gru_parts(x_gates, h_gates)
    return add(new, multiply(z, subtract(h, new)))
