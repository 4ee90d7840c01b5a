"""Recurrent networks: stacked, in one direction or both, over sequences of one length or of several.

Weights have PyTorch's names (``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, and ``_reverse`` behind
them for the other direction) and order of gates, and all parameters are uniform in +-1/sqrt(hidden_size) at first.
Sequences of several lengths are padded, and their ``lengths`` given with them: behind its length an example's state stays
as it is and its result is 0, which is what PyTorch's packed sequences compute.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ArgumentError, ShapeError
from ..ops.activations import relu
from ..ops.arrange import expand_dims, stack
from ..ops.compare import less
from ..ops.creation import arange, full
from ..ops.elementwise import add, where
from ..ops.interchange import asarray
from ..ops.movement import concat, narrow, permute_dims, reshape
from ..ops.nn import linear
from ..ops.recurrent import gru_cell, lstm_cell
from ..ops.sequences import gru, lstm, rnn
from ..ops.trigonometric import tanh
from ..tensor import Tensor
from . import functional, init
from .layers import new_parameter
from .module import Module

if TYPE_CHECKING:
    from .module import Parameter


class _Recurrent(Module):
    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if proj_size and (self.states != 2 or not 0 < proj_size < hidden_size):
            raise ArgumentError(
                f"{name}: proj_size is for LSTM and must be below hidden_size={hidden_size}, got {proj_size}"
            )
        if num_layers < 1 or hidden_size < 1:
            raise ArgumentError(
                f"{name}: num_layers and hidden_size must be positive, got {num_layers} and {hidden_size}"
            )
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: dropout must be in [0, 1], got {dropout}")
        self.input_size, self.hidden_size, self.num_layers, self.bias = (
            input_size,
            hidden_size,
            num_layers,
            bias,
        )
        self.batch_first, self.dropout, self.bidirectional, self.generator = batch_first, dropout, bidirectional, generator  # fmt: skip
        self.proj_size = proj_size
        rows, shown = self.gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else shown * (2 if bidirectional else 1)
            for suffix in self._suffixes(layer):
                setattr(self, f"weight_ih{suffix}", new_parameter((rows, width), device, dtype))
                setattr(self, f"weight_hh{suffix}", new_parameter((rows, shown), device, dtype))
                if bias:
                    setattr(self, f"bias_ih{suffix}", new_parameter((rows,), device, dtype))
                    setattr(self, f"bias_hh{suffix}", new_parameter((rows,), device, dtype))
                if proj_size:
                    setattr(
                        self, f"weight_hr{suffix}", new_parameter((proj_size, hidden_size), device, dtype)
                    )
        self.reset_parameters(generator)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"] if self.bidirectional else [f"_l{layer}"]

    def reset_parameters(self, generator: Any = None) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound, generator=generator)

    def _weights(self, suffix: str) -> tuple[Parameter, Parameter, Any, Any]:
        biases = [getattr(self, f"bias_{part}{suffix}") if self.bias else None for part in ("ih", "hh")]
        return getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}"), *biases

    def _layer(
        self, x: Tensor, state: list[Tensor], suffix: str, lengths: Tensor | None, reverse: bool
    ) -> list[Tensor]:
        """The states after each step, (T, N, H) each; the first one is the result."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """(y, last state): x of shape (T, N, input_size), or (N, T, input_size) with ``batch_first``, or (T, input_size)
        for one example, gives y with the hidden size (twice it in both directions) on the last axis. A state has the
        shape (layers and directions, N, hidden_size), and is 0 unless given; with ``proj_size`` that takes the hidden
        size's place in y and h. ``lengths``: the number of steps of each
        example, a tensor or a sequence of N integers.
        """
        name = type(self).__name__
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            wanted = "(N, T, {0})" if self.batch_first else "(T, N, {0})"
            raise ShapeError(
                f"{name}: x must have shape {wanted.format(self.input_size)} or (T, {self.input_size}), got {x.shape}"
            )
        single = x.ndim == 2
        x = expand_dims(x, axis=1) if single else permute_dims(x, (1, 0, 2)) if self.batch_first else x
        directions = 2 if self.bidirectional else 1
        first = self._first(x, state, single, directions)
        counts = None if lengths is None else self._lengths(x, lengths)
        y, last = x, []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                y = functional.dropout(y, self.dropout, True, self.generator)
            found = []
            for d, suffix in enumerate(self._suffixes(layer)):
                at = layer * directions + d
                own = [reshape(narrow(s, -3, at, 1), s.shape[1:]) for s in first]
                states = self._layer(y, own, suffix, counts, reverse=d == 1)
                end = 0 if d == 1 else x.shape[0] - 1
                last.append([reshape(narrow(s, -3, end, 1), s.shape[1:]) for s in states])
                found.append(states[0])
            y = found[0] if directions == 1 else concat(found, axis=-1)
            if counts is not None:
                steps = reshape(arange(x.shape[0], device=x._backend), (x.shape[0], 1, 1))
                y = where(less(steps, reshape(counts, (1, counts.size, 1))), y, 0)
        ends = [stack([states[i] for states in last], axis=0) for i in range(self.states)]
        if single:
            y, ends = (
                reshape(y, (y.shape[0], y.shape[2])),
                [reshape(s, (s.shape[0], s.shape[2])) for s in ends],
            )
        elif self.batch_first:
            y = permute_dims(y, (1, 0, 2))
        return y, ends[0] if self.states == 1 else tuple(ends)

    def _first(self, x: Tensor, state: Any, single: bool, directions: int) -> list[Tensor]:
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        shapes = [(self.num_layers * directions, x.shape[1], width) for width in widths]
        if state is None:
            return [full(shape, 0, dtype=x.dtype, device=x._backend) for shape in shapes]
        given = [state] if self.states == 1 else list(state)
        wanted = [(shape[0], shape[2]) if single else shape for shape in shapes]
        if [s.shape for s in given] != wanted:
            shown, found = (" and ".join(map(str, each)) for each in (wanted, [s.shape for s in given]))
            raise ShapeError(
                f"{type(self).__name__}: {'the state' if self.states == 1 else 'both states'} must have shape {shown}, got {found}"
            )
        return [reshape(s, shape) for s, shape in zip(given, shapes, strict=True)]

    def _lengths(self, x: Tensor, lengths: Any) -> Tensor:
        counts = lengths if isinstance(lengths, Tensor) else asarray(list(lengths), dtype="int64", device=x._backend)  # fmt: skip
        if counts.shape != (x.shape[1],):
            raise ShapeError(
                f"{type(self).__name__}: lengths must have shape ({x.shape[1]},), one for each example, got {counts.shape}"
            )
        return counts

    def flops(self, result: Any, *args: Any) -> int:
        """Two for each product with a weight, at each step of each example."""
        weights = sum(p.size for name, p in self.named_parameters() if name.startswith("weight"))
        return 2 * weights * (args[0].size // self.input_size)

    def extra_repr(self) -> str:
        """The sizes, and what is not the default."""
        shown = [f"{self.input_size}, {self.hidden_size}"]
        shown += [f"num_layers={self.num_layers}"] * (self.num_layers != 1)
        for name, default in (
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
            ("proj_size", 0),
        ):
            shown += [f"{name}={getattr(self, name)}"] * (getattr(self, name) != default)
        return ", ".join(shown)


def _both(a: Any, b: Any) -> Any:
    return None if a is None else add(a, b)


class RNN(_Recurrent):
    """h' = f(W_ih x + b_ih + W_hh h + b_hh), f being "tanh" or "relu".

    Example: ``nn.RNN(3, 4)(x)[0]`` for x of shape (5, 2, 3) has shape (5, 2, 4).
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
        generator: Any = None,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, generator)  # fmt: skip

    def _layer(self, x: Tensor, state: list[Tensor], suffix: str, lengths: Tensor | None, reverse: bool) -> list[Tensor]:  # fmt: skip
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        parts = linear(x, w_ih, _both(b_ih, b_hh))
        return [rnn(parts, state[0], w_hh, lengths, nonlinearity=self.nonlinearity, reverse=reverse)]


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); the state is a pair (h, c). With ``proj_size``, what is
    shown of a step is weight_hr times it (Sak et al., arXiv:1402.1128); it then goes step by step, without a fused kernel.

    Example: ``nn.LSTM(3, 4, num_layers=2, bidirectional=True)(x)[0]`` for x of shape (5, 2, 3) has shape (5, 2, 8).
    """

    gates, states = 4, 2

    def _layer(self, x: Tensor, state: list[Tensor], suffix: str, lengths: Tensor | None, reverse: bool) -> list[Tensor]:  # fmt: skip
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        parts = linear(x, w_ih, _both(b_ih, b_hh))
        if self.proj_size:
            return self._projected(parts, state, w_hh, getattr(self, f"weight_hr{suffix}"), lengths, reverse)
        return list(lstm(parts, state[0], state[1], w_hh, lengths, reverse=reverse))

    def _projected(
        self,
        parts: Tensor,
        state: list[Tensor],
        w_hh: Tensor,
        w_hr: Tensor,
        lengths: Tensor | None,
        reverse: bool,
    ) -> list[Tensor]:
        (h, c), steps = state, parts.shape[0]
        order = range(steps - 1, -1, -1) if reverse else range(steps)
        found: list[Any] = [None] * steps
        for t in order:
            gates = add(reshape(narrow(parts, -3, t, 1), parts.shape[1:]), linear(h, w_hh))
            shown, cell = lstm_cell(gates, c)
            new = [linear(shown, w_hr), cell]
            if lengths is not None:
                counts = expand_dims(
                    less(full((), t, dtype=lengths.dtype, device=lengths._backend), lengths), axis=1
                )
                new = [where(counts, a, b) for a, b in zip(new, (h, c), strict=True)]
            found[t] = h, c = new
        return [stack([states[i] for states in found], axis=0) for i in range(2)]


class GRU(_Recurrent):
    """The gated recurrent unit (Cho et al., arXiv:1406.1078), with the reset gate behind the product, as in PyTorch.

    Example: ``nn.GRU(3, 4, batch_first=True)(x)[0]`` for x of shape (2, 5, 3) has shape (2, 5, 4).
    """

    gates = 3

    def _layer(self, x: Tensor, state: list[Tensor], suffix: str, lengths: Tensor | None, reverse: bool) -> list[Tensor]:  # fmt: skip
        w_ih, w_hh, b_ih, b_hh = self._weights(suffix)
        if b_hh is None:
            b_hh = full((w_hh.shape[0],), 0, dtype=x.dtype, device=x._backend)
        return [gru(linear(x, w_ih, b_ih), state[0], w_hh, b_hh, lengths, reverse=reverse)]


# -- one step ------------------------------------------------------------------------------------------------


class _Cell(Module):
    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None, generator: Any = None
    ) -> None:  # fmt: skip
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = new_parameter((rows, input_size), device, dtype)
        self.weight_hh = new_parameter((rows, hidden_size), device, dtype)
        self.bias_ih = new_parameter((rows,), device, dtype) if bias else None
        self.bias_hh = new_parameter((rows,), device, dtype) if bias else None
        bound = 1 / math.sqrt(hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound, generator=generator)

    def _parts(self, x: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """What the input and the state give to the gates, and the state."""
        if state is None:
            zeros = full((*x.shape[:-1], self.hidden_size), 0, dtype=x.dtype, device=x._backend)
            state = zeros if self.states == 1 else (zeros, zeros)
        h = state if self.states == 1 else state[0]
        return linear(x, self.weight_ih, self.bias_ih), linear(h, self.weight_hh, self.bias_hh), state

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(_Cell):
    """One step of :class:`RNN`: x (..., input_size) and h (..., hidden_size) give the next h."""

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None, generator: Any = None,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype, generator)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """The next h."""
        from_x, from_h, _ = self._parts(x, state)
        return (tanh if self.nonlinearity == "tanh" else relu)(add(from_x, from_h))


class LSTMCell(_Cell):
    """One step of :class:`LSTM`: x (..., input_size) and (h, c), each (..., hidden_size), give the next (h, c)."""

    gates, states = 4, 2

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next (h, c)."""
        from_x, from_h, (_, c) = self._parts(x, state)
        return lstm_cell(add(from_x, from_h), c)


class GRUCell(_Cell):
    """One step of :class:`GRU`: x (..., input_size) and h (..., hidden_size) give the next h."""

    gates = 3

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """The next h."""
        return gru_cell(*self._parts(x, state))
