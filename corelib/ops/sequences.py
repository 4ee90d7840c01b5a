"""Recurrent networks over whole sequences, time first. What the input gives to the gates is computed for all steps before,
by one product of matrices, and is an operand; the state's part comes step by step.

Each op has its gradient as an op: with all states at hand, the gates of all steps come out of one product again, so do
the factors by which a state's cotangent reaches the gates, and the gradient of the weight; step by step remains what
leads from one state's cotangent to the one before. ``lengths`` says how many steps of
each example count: behind them a state stays what it is, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..dispatch import composite
from ..dtypes import FLOATING, float32, int64
from ..errors import ShapeError
from ..op import calls
from ..params import Caller
from ..rules import Spec, common, custom
from ..samples import ErrorSample, Sample, Values
from .activations import one_of, relu
from .compare import greater
from .contract import matmul
from .elementwise import add, multiply, subtract, where
from .movement import concat, narrow, permute_dims, reshape
from .nn import linear, sum_leading
from .recurrent import gru_cell, gru_parts, lstm_cell, lstm_parts, of_sigmoid, of_tanh
from .trigonometric import tanh

if TYPE_CHECKING:
    from ..tensor import Tensor

# -- what the ops of this module share -----------------------------------------------------------------------


def _check(op: Any, x: Any, weight: Any, lengths: Any, gates: int, **states: Any) -> tuple[int, int, int]:
    """(T, N, H); raises what an op refuses. Operands need only a ``shape``."""
    if len(x.shape) != 3 or len(weight.shape) != 2 or weight.shape[0] != gates * weight.shape[1]:
        raise ShapeError(
            f"{op.name}: x must have shape (T, N, {gates} H) and weight ({gates} H, H), got {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    steps, n, size = x.shape[0], x.shape[1], weight.shape[1]
    if not steps:
        raise ShapeError(f"{op.name}: x of shape {tuple(x.shape)} has no step")
    wanted = {"x": (steps, n, gates * size), "lengths": (n,), "bias": (gates * size,)}
    for name, operand in {"x": x, "lengths": lengths, **states}.items():
        shape = wanted.get(name, (steps, n, size) if name.endswith("s") else (n, size))
        if operand is not None and tuple(operand.shape) != shape:
            raise ShapeError(
                f"{op.name}: {name} must have shape {shape} for x of shape {tuple(x.shape)} and weight of shape "
                f"{tuple(weight.shape)}, got {tuple(operand.shape)}"
            )
    return steps, n, size


def _at(x: Tensor, t: int) -> Tensor:
    return reshape(narrow(x, -x.ndim, t, 1), x.shape[1:])


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Parts (T, N, H) as (T, N, parts, H)."""
    return concat([reshape(p, (*p.shape[:2], 1, p.shape[2])) for p in parts], axis=-2)


def _times(g: Tensor, factors: Tensor) -> Tensor:
    """g (N, H) times factors (N, count, H): (N, count H)."""
    n, count, size = factors.shape
    return reshape(multiply(reshape(g, (n, 1, size)), factors), (n, count * size))


def _all(steps: list[Tensor], reverse: bool) -> Tensor:
    """What the steps gave, in the order in which they were made, as one tensor, time first."""
    steps = steps[::-1] if reverse else steps
    return concat([reshape(s, (1, *s.shape)) for s in steps], axis=0)


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _counts(lengths: Tensor | None, t: int) -> Tensor | None:
    """Where step t counts, (N, 1); None: everywhere."""
    return None if lengths is None else greater(reshape(lengths, (lengths.size, 1)), t)


def _kept(counts: Tensor | None, new: Tensor, old: Any) -> Tensor:
    return new if counts is None else where(counts, new, old)


def _before(states: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """The state before each step."""
    steps, first = states.shape[0], reshape(first, (1, *first.shape))
    rest = narrow(states, -3, 1 if reverse else 0, steps - 1)
    return concat([rest, first] if reverse else [first, rest], axis=0)


def _swapped(weight: Tensor) -> Tensor:
    return permute_dims(weight, (-1, -2))


def _weight_gradient(gates: Tensor, before: Tensor) -> Tensor:
    """The weight's cotangent from those of the gates, (T, N, G), and the states before, (T, N, H)."""
    rows = gates.shape[0] * gates.shape[1]
    return matmul(_swapped(reshape(gates, (rows, gates.shape[2]))), reshape(before, (rows, before.shape[2])))


_LENGTHS = Values((3,), int64, (2, 0, 3))


def _samples(build: Callable[..., Any]) -> Any:
    """Samples of T, N and H; ``build(draw, t, n, h)`` gives the operands before ``lengths``."""

    def generate(make: Any, dtype: Any) -> Any:
        draw = lambda *shape: make.array(shape, dtype, -1, 1)
        for (t, n, h), lengths, params in (
            ((1, 2, 2), (), {}),
            ((2, 0, 2), (), {"reverse": True}),
            ((3, 3, 1), (_LENGTHS,), {}),
            ((3, 3, 2), (_LENGTHS,), {"reverse": True}),
            ((4, 3, 2), (), {}),
        ):
            operands = build(draw, t, n, h)
            yield Sample((*operands, *([None] * (not lengths)), *lengths), params)

    return generate


def _refused(words: str, *shapes: tuple[int, ...]) -> ErrorSample:
    return ErrorSample(ShapeError, words, lambda m: Sample(tuple(m.array(s, float32) for s in shapes)))


# -- LSTM ----------------------------------------------------------------------------------------------------


@custom(FLOATING, joint=(0, 1, 2, 3), fixed={4: int64})
def _lstm_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    x, h, c, weight, lengths = specs
    shape = _check(op, x, weight, lengths, 4, h=h, c=c)
    return (Spec(shape, common(op, specs, (0, 1, 2, 3))),) * 2


def _lstm_vjp(
    g: tuple[Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, weight: Tensor, lengths: Any, y: tuple[Tensor, Tensor], reverse: bool
) -> Any:  # fmt: skip
    return (*lstm_gradient(*g, x, h, c, weight, *y, lengths, reverse=reverse), None)


@composite(
    kind="opaque", rule=_lstm_rule, vjp=_lstm_vjp, ulp=64,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, 4 * h), draw(n, h), draw(n, h), draw(4 * h, h))),
    errors=[_refused(r"lstm: x must have shape \(T, N, 4 H\) and weight \(4 H, H\), got \(2, 1, 8\) and \(6, 2\)", (2, 1, 8), (1, 2), (1, 2), (6, 2)),
            _refused(r"lstm: c must have shape \(1, 2\) for x of shape \(2, 1, 8\) and .*, got \(2, 2\)", (2, 1, 8), (1, 2), (2, 2), (8, 2)),
            _refused(r"lstm: x must have shape \(2, 1, 8\)", (2, 1, 7), (1, 2), (1, 2), (8, 2)),
            _refused("lstm: x of shape .* has no step", (0, 1, 8), (1, 2), (1, 2), (8, 2))],
)  # fmt: skip
def lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, lengths: Tensor | None = None, /, *, reverse: bool = False
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The states h and c after each step of an LSTM, (T, N, H) each, from the input's part of the gates x (T, N, 4 H),
    first states h and c (N, H), and the state's weight (4 H, H): each step is ``lstm_cell`` on x_t + h @ weight.mT.

    ``reverse`` goes from the last step to the first.
    """
    steps, _, _ = _check(Caller("lstm"), x, weight, lengths, 4, h=h, c=c)
    w, hs, cs = _swapped(weight), [], []
    for t in _order(steps, reverse):
        h_new, c_new = lstm_cell(add(_at(x, t), matmul(h, w)), c)
        counts = _counts(lengths, t)
        h, c = _kept(counts, h_new, h), _kept(counts, c_new, c)
        hs.append(h)
        cs.append(c)
    return _all(hs, reverse), _all(cs, reverse)


@custom(FLOATING, joint=tuple(range(8)), fixed={8: int64})
def _lstm_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    gh, gc, x, h, c, weight, hs, cs, lengths = specs
    _check(op, x, weight, lengths, 4, h=h, c=c, ghs=gh, gcs=gc, hs=hs, cs=cs)
    return tuple(Spec(s.shape, common(op, specs, tuple(range(8)))) for s in (x, h, c, weight))


@composite(
    kind="opaque", rule=_lstm_gradient_rule, ulp=128,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, h), draw(t, n, h), draw(t, n, 4 * h), draw(n, h), draw(n, h), draw(4 * h, h),
                                            draw(t, n, h), draw(t, n, h))),
    errors=[_refused(r"lstm_gradient: hs must have shape \(2, 1, 2\)", (2, 1, 2), (2, 1, 2), (2, 1, 8), (1, 2), (1, 2), (8, 2), (1, 1, 2), (2, 1, 2))],
)  # fmt: skip
def lstm_gradient(
    gh: Tensor, gc: Tensor, x: Tensor, h: Tensor, c: Tensor, weight: Tensor, hs: Tensor, cs: Tensor,
    lengths: Tensor | None = None, /, *, reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The cotangents of :func:`lstm`'s x, h, c and weight, for cotangents ``gh`` and ``gc`` of its results ``hs`` and
    ``cs``.
    """
    steps, _, _ = _check(
        Caller("lstm_gradient"), x, weight, lengths, 4, h=h, c=c, ghs=gh, gcs=gc, hs=hs, cs=cs
    )
    before, c_before = _before(hs, h, reverse), _before(cs, c, reverse)
    i, f, new, o = lstm_parts(add(x, matmul(before, _swapped(weight))))
    shown = tanh(cs if lengths is None else add(multiply(f, c_before), multiply(i, new)))
    to_cell = of_tanh(o, shown)  # what a cotangent of h adds to that of c
    of_c = _side_by_side([of_sigmoid(new, i), of_sigmoid(c_before, f), of_tanh(i, new)])
    of_h = of_sigmoid(shown, o)
    dh: Any = None
    dc: Any = None
    found = []
    for t in reversed(_order(steps, reverse)):
        dh = _at(gh, t) if dh is None else add(dh, _at(gh, t))
        dc = _at(gc, t) if dc is None else add(dc, _at(gc, t))
        cell = add(dc, multiply(dh, _at(to_cell, t)))
        d_gates = concat([_times(cell, _at(of_c, t)), multiply(dh, _at(of_h, t))], axis=-1)
        counts = _counts(lengths, t)
        d_gates = _kept(counts, d_gates, 0)
        found.append(d_gates)
        dh, dc = _kept(counts, matmul(d_gates, weight), dh), _kept(counts, multiply(cell, _at(f, t)), dc)
    d_gates = _all(found, not reverse)
    return d_gates, dh, dc, _weight_gradient(d_gates, before)


# -- GRU -----------------------------------------------------------------------------------------------------


@custom(FLOATING, joint=(0, 1, 2, 3), fixed={4: int64})
def _gru_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, h, weight, bias, lengths = specs
    return Spec(_check(op, x, weight, lengths, 3, h=h, bias=bias), common(op, specs, (0, 1, 2, 3)))


def _gru_vjp(
    g: Tensor, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, lengths: Any, y: Tensor, reverse: bool
) -> Any:
    return (*gru_gradient(g, x, h, weight, bias, y, lengths, reverse=reverse), None)


@composite(
    kind="opaque", rule=_gru_rule, vjp=_gru_vjp, ulp=64,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, 3 * h), draw(n, h), draw(3 * h, h), draw(3 * h))),
    errors=[_refused(r"gru: bias must have shape \(6,\) for x of shape \(2, 1, 6\)", (2, 1, 6), (1, 2), (6, 2), (1, 2)),
            _refused(r"gru: x must have shape \(T, N, 3 H\) and weight \(3 H, H\)", (2, 6), (1, 2), (6, 2), (6,))],
)  # fmt: skip
def gru(
    x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor | None = None, /, *, reverse: bool = False
) -> Tensor:  # fmt: skip
    """The state after each step of a GRU, (T, N, H), from the input's part of the gates x (T, N, 3 H), the first state h
    (N, H), and the state's weight (3 H, H) and bias (3 H,): each step is ``gru_cell`` on x_t and h @ weight.mT + bias.
    """
    steps, _, _ = _check(Caller("gru"), x, weight, lengths, 3, h=h, bias=bias)
    found = []
    for t in _order(steps, reverse):
        h = _kept(_counts(lengths, t), gru_cell(_at(x, t), linear(h, weight, bias), h), h)
        found.append(h)
    return _all(found, reverse)


@custom(FLOATING, joint=tuple(range(6)), fixed={6: int64})
def _gru_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    g, x, h, weight, bias, hs, lengths = specs
    _check(op, x, weight, lengths, 3, h=h, bias=bias, gs=g, hs=hs)
    return tuple(Spec(s.shape, common(op, specs, tuple(range(6)))) for s in (x, h, weight, bias))


@composite(
    kind="opaque", rule=_gru_gradient_rule, ulp=128,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, h), draw(t, n, 3 * h), draw(n, h), draw(3 * h, h), draw(3 * h), draw(t, n, h))),
    errors=[_refused(r"gru_gradient: gs must have shape \(2, 1, 2\)", (2, 2, 2), (2, 1, 6), (1, 2), (6, 2), (6,), (2, 1, 2))],
)  # fmt: skip
def gru_gradient(
    cotangent: Tensor, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, hs: Tensor, lengths: Tensor | None = None, /, *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The cotangents of :func:`gru`'s x, h, weight and bias, for a ``cotangent`` of its result ``hs``."""
    steps, _, _ = _check(Caller("gru_gradient"), x, weight, lengths, 3, h=h, bias=bias, gs=cotangent, hs=hs)
    before = _before(hs, h, reverse)
    r, z, new, hn = gru_parts(x, linear(before, weight, bias))
    of_n = multiply(subtract(1, z), of_tanh(1, new))
    of_r, of_z = multiply(of_n, of_sigmoid(hn, r)), of_sigmoid(subtract(before, new), z)
    of_h = _side_by_side([of_r, of_z, multiply(of_n, r)])
    dh: Any = None
    states, found = [], []
    for t in reversed(_order(steps, reverse)):
        dh = _at(cotangent, t) if dh is None else add(dh, _at(cotangent, t))
        counts = _counts(lengths, t)
        state = _kept(counts, dh, 0)
        d_gates = _times(state, _at(of_h, t))
        states.append(state)
        found.append(d_gates)
        dh = _kept(counts, add(multiply(dh, _at(z, t)), matmul(d_gates, weight)), dh)
    d_states, d_gates = _all(states, not reverse), _all(found, not reverse)
    dx = concat([multiply(d_states, k) for k in (of_r, of_z, of_n)], axis=-1)
    return dx, dh, _weight_gradient(d_gates, before), sum_leading(d_gates, 1)


# -- without gates -------------------------------------------------------------------------------------------


@custom(FLOATING, joint=(0, 1, 2), fixed={3: int64})
def _rnn_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    x, h, weight, lengths = specs
    one_of(op, "nonlinearity", params["nonlinearity"], ("tanh", "relu"))
    return Spec(_check(op, x, weight, lengths, 1, h=h), common(op, specs, (0, 1, 2)))


def _rnn_vjp(
    g: Tensor, x: Tensor, h: Tensor, weight: Tensor, lengths: Any, y: Tensor, nonlinearity: str, reverse: bool
) -> Any:
    return (*rnn_gradient(g, x, h, weight, y, lengths, nonlinearity=nonlinearity, reverse=reverse), None)


@composite(
    kind="opaque", rule=_rnn_rule, vjp=_rnn_vjp, ulp=64,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, h), draw(n, h), draw(h, h))),
    errors=[_refused(r"rnn: h must have shape \(1, 2\) for x of shape \(2, 1, 2\)", (2, 1, 2), (2, 2), (2, 2))],
)  # fmt: skip
def rnn(
    x: Tensor, h: Tensor, weight: Tensor, lengths: Tensor | None = None, /, *, nonlinearity: str = "tanh", reverse: bool = False
) -> Tensor:  # fmt: skip
    """The state after each step of a recurrent network without gates, (T, N, H), from the input's part x (T, N, H), the
    first state h (N, H) and the state's weight (H, H): h' = f(x_t + h @ weight.mT), f being "tanh" or "relu".
    """
    one_of(rnn.op, "nonlinearity", nonlinearity, ("tanh", "relu"))  # type: ignore[attr-defined]
    steps, _, _ = _check(Caller("rnn"), x, weight, lengths, 1, h=h)
    f, w, found = (tanh if nonlinearity == "tanh" else relu), _swapped(weight), []
    for t in _order(steps, reverse):
        h = _kept(_counts(lengths, t), f(add(_at(x, t), matmul(h, w))), h)
        found.append(h)
    return _all(found, reverse)


@custom(FLOATING, joint=tuple(range(5)), fixed={5: int64})
def _rnn_gradient_rule(op: Any, specs: Any, params: dict[str, Any]) -> tuple[Spec, ...]:
    g, x, h, weight, hs, lengths = specs
    one_of(op, "nonlinearity", params["nonlinearity"], ("tanh", "relu"))
    _check(op, x, weight, lengths, 1, h=h, gs=g, hs=hs)
    return tuple(Spec(s.shape, common(op, specs, tuple(range(5)))) for s in (x, h, weight))


@composite(
    kind="opaque", rule=_rnn_gradient_rule, ulp=128,
    samples=_samples(lambda draw, t, n, h: (draw(t, n, h), draw(t, n, h), draw(n, h), draw(h, h), draw(t, n, h))),
    errors=[_refused(r"rnn_gradient: hs must have shape \(2, 1, 2\)", (2, 1, 2), (2, 1, 2), (1, 2), (2, 2), (2, 2, 2))],
)  # fmt: skip
def rnn_gradient(
    cotangent: Tensor, x: Tensor, h: Tensor, weight: Tensor, hs: Tensor, lengths: Tensor | None = None, /, *,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The cotangents of :func:`rnn`'s x, h and weight, for a ``cotangent`` of its result ``hs``."""
    one_of(rnn_gradient.op, "nonlinearity", nonlinearity, ("tanh", "relu"))  # type: ignore[attr-defined]
    steps, _, _ = _check(Caller("rnn_gradient"), x, weight, lengths, 1, h=h, gs=cotangent, hs=hs)
    slope = of_tanh(1, hs) if nonlinearity == "tanh" else calls.astype(greater(hs, 0), hs.dtype)
    dh: Any = None
    found = []
    for t in reversed(_order(steps, reverse)):
        dh = _at(cotangent, t) if dh is None else add(dh, _at(cotangent, t))
        counts = _counts(lengths, t)
        d = _kept(counts, multiply(dh, _at(slope, t)), 0)
        found.append(d)
        dh = _kept(counts, matmul(d, weight), dh)
    d = _all(found, not reverse)
    return d, dh, _weight_gradient(d, _before(hs, h, reverse))
