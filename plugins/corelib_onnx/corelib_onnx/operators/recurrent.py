"""Recurrent networks over a whole sequence. Weights have their gates one below the other; axis 0 is the direction.

What most models use is one op of corelib, for which the gates are brought into its order; other activations, clipping,
peepholes and the like go step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import operator

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": cl.relu, "sigmoid": cl.sigmoid, "softplus": cl.softplus, "softsign": lambda x: x / (1 + cl.abs(x)),
    "tanh": cl.tanh,
}  # fmt: skip


def _activations(names: Any, default: list[str], directions: int) -> list[list[str]]:
    """The names of the functions of each direction."""
    names = [n.decode() if isinstance(n, bytes) else n for n in names or default * directions]
    found = [n.lower() for n in names]
    if unknown := [n for n in names if n.lower() not in ACTIVATIONS]:
        raise ArgumentError(f"activations {unknown} are not supported, only {sorted(ACTIVATIONS)}")
    return [found[i * len(default) : (i + 1) * len(default)] for i in range(directions)]


def _run(x: Any, hidden: int, firsts: list[Any], direction: str, layout: int, one: Any) -> Any:
    """The outputs of each step and the last states, of all directions. ``one(i, x, states, backward)`` is direction i;
    ``layout`` 1 has the batch before the time and the direction. States that are not given are zeros.
    """
    if direction not in ("forward", "reverse", "bidirectional"):
        raise ArgumentError(f"direction must be 'forward', 'reverse' or 'bidirectional', got {direction!r}")
    x = cl.swapaxes(x, 0, 1) if layout else x
    zeros = cl.zeros((x.shape[1], hidden), dtype=x.dtype, device=x.device)
    ways = []
    for i in range(2 if direction == "bidirectional" else 1):
        states = [zeros if s is None else s[:, i] if layout else s[i] for s in firsts]
        ways.append(one(i, x, states, direction == "reverse" or i == 1))
    every = cl.stack([outs for outs, _ in ways], axis=1)
    last = [cl.stack(list(states)) for states in zip(*(states for _, states in ways), strict=True)]
    if layout:
        every, last = cl.permute_dims(every, (2, 0, 1, 3)), [cl.swapaxes(s, 0, 1) for s in last]
    return every, *last


def _steps(given: Any, states: list[Any], lengths: Any, step: Any, backward: bool) -> tuple[Any, list[Any]]:
    """One direction, step by step. Beyond an example's length its states stay as they are, and the outputs are zeros."""
    outs = [None] * given.shape[0]
    for t in reversed(range(len(outs))) if backward else range(len(outs)):
        new = step(given[t], *states)
        if lengths is None:
            outs[t] = new[0]
        else:
            live = cl.expand_dims(cl.greater(lengths, t), -1)
            new = [cl.where(live, a, b) for a, b in zip(new, states, strict=True)]
            outs[t] = cl.where(live, new[0], 0)
        states = list(new)
    return cl.stack(outs), states


def _ends(states: Sequence[Any], lengths: Any, backward: bool) -> tuple[Any, list[Any]]:
    """One direction from its states after each step."""
    outs = states[0]
    if lengths is not None:
        steps = cl.reshape(cl.arange(outs.shape[0], device=outs.device), (-1, 1, 1))
        outs = cl.where(cl.less(steps, cl.reshape(lengths, (1, -1, 1))), outs, 0)
    return outs, [s[0 if backward else -1] for s in states]


def _gates(x: Any, order: Sequence[int]) -> Any:
    """Gates, one below the other, in another order."""
    n = x.shape[0] // len(order)
    return cl.concat([x[k * n : (k + 1) * n] for k in order])


def _clipped(x: Any, limit: Any) -> Any:
    return x if limit is None else cl.clip(x, -limit, limit)


def _biases(bias: Any, i: int, rows: int, like: Any) -> tuple[Any, Any]:
    """A direction's biases: those of the input's weights, and those of the state's."""
    if bias is None:
        zeros = cl.zeros((rows,), dtype=like.dtype, device=like.device)
        return zeros, zeros
    return bias[i, :rows], bias[i, rows:]


@operator("RNN")
def rnn(
    x, w, r, b=None, lengths=None, h=None, *, activations=None, clip=None, direction="forward", hidden_size=None, layout=0
):  # fmt: skip
    """h' = f(x W.T + h R.T + biases)."""
    n = r.shape[2]
    names = _activations(activations, ["Tanh"], w.shape[0])

    def one(i: int, x: Any, states: list[Any], backward: bool) -> Any:
        (name,) = names[i]
        first, second = _biases(b, i, n, w)
        given = cl.linear(x, w[i], first + second)
        if clip is None and name in ("tanh", "relu"):
            return _ends(
                [cl.rnn(given, *states, r[i], lengths, nonlinearity=name, reverse=backward)],
                lengths,
                backward,
            )
        step = lambda given, h: [ACTIVATIONS[name](_clipped(given + cl.matmul(h, r[i].mT), clip))]
        return _steps(given, states, lengths, step, backward)

    return _run(x, n, [h], direction, layout, one)


@operator("GRU")
def gru(
    x, w, r, b=None, lengths=None, h=None, *, activations=None, clip=None, direction="forward", hidden_size=None, layout=0,
    linear_before_reset=0,
):  # fmt: skip
    """Gates in the order update, reset, new; h' = (1 - z) n + z h."""
    n = r.shape[2]
    names = _activations(activations, ["Sigmoid", "Tanh"], w.shape[0])

    def one(i: int, x: Any, states: list[Any], backward: bool) -> Any:
        first, second = _biases(b, i, 3 * n, w)
        if clip is None and linear_before_reset and names[i] == ["sigmoid", "tanh"]:
            order = (1, 0, 2)
            given = cl.linear(x, _gates(w[i], order), _gates(first, order))
            weight, bias = _gates(r[i], order), _gates(second, order)
            return _ends([cl.gru(given, *states, weight, bias, lengths, reverse=backward)], lengths, backward)
        f, g = (ACTIVATIONS[name] for name in names[i])

        def step(given: Any, h: Any) -> list[Any]:
            zr = f(_clipped(given[:, : 2 * n] + cl.matmul(h, r[i, : 2 * n].mT) + second[: 2 * n], clip))
            z, reset = zr[:, :n], zr[:, n:]
            if linear_before_reset:
                state = reset * (cl.matmul(h, r[i, 2 * n :].mT) + second[2 * n :])
            else:
                state = cl.matmul(reset * h, r[i, 2 * n :].mT) + second[2 * n :]
            return [(1 - z) * g(_clipped(given[:, 2 * n :] + state, clip)) + z * h]

        return _steps(cl.linear(x, w[i], first), states, lengths, step, backward)

    return _run(x, n, [h], direction, layout, one)


@operator("LSTM")
def lstm(
    x, w, r, b=None, lengths=None, h=None, c=None, p=None, *, activations=None, clip=None, direction="forward",
    hidden_size=None, input_forget=0, layout=0,
):  # fmt: skip
    """Gates in the order input, output, forget, cell; ``p`` are the weights of peepholes, in the order input, output,
    forget.
    """
    n = r.shape[2]
    names = _activations(activations, ["Sigmoid", "Tanh", "Tanh"], w.shape[0])

    def one(i: int, x: Any, states: list[Any], backward: bool) -> Any:
        first, second = _biases(b, i, 4 * n, w)
        if p is None and clip is None and not input_forget and names[i] == ["sigmoid", "tanh", "tanh"]:
            order = (0, 2, 3, 1)
            given = cl.linear(x, _gates(w[i], order), _gates(first + second, order))
            return _ends(
                cl.lstm(given, *states, _gates(r[i], order), lengths, reverse=backward), lengths, backward
            )
        f, g, out = (ACTIVATIONS[name] for name in names[i])
        peep = [0, 0, 0] if p is None else [p[i, k * n : (k + 1) * n] for k in range(3)]

        def step(given: Any, h: Any, c: Any) -> list[Any]:
            gates = given + cl.matmul(h, r[i].mT)
            parts = [gates[:, k * n : (k + 1) * n] for k in range(4)]
            enter = f(_clipped(parts[0] + peep[0] * c, clip))
            forget = 1 - enter if input_forget else f(_clipped(parts[2] + peep[2] * c, clip))
            cell = forget * c + enter * g(_clipped(parts[3], clip))
            return [f(_clipped(parts[1] + peep[1] * cell, clip)) * out(cell), cell]

        return _steps(cl.linear(x, w[i], first + second), states, lengths, step, backward)

    return _run(x, n, [h, c], direction, layout, one)
