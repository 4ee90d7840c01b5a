"""Layers: prepared for quantization, in integers, and with weights of few bits."""

from __future__ import annotations

from typing import Any

from ..dtypes import int8
from ..errors import ArgumentError
from ..nn import Module
from ..op import calls
from ..ops.creation import zeros_like
from ..tensor import Tensor
from .observers import MinMaxObserver
from .scheme import QuantParams, dequantize, fake_quantize, pack, quantize, unpack


class FakeQuantize(Module):
    """Observes what goes through it, and rounds it as quantization would.

    ``observing``: take in what passes (in training mode always). ``enabled``: round it.
    """

    def __init__(self, observer: MinMaxObserver) -> None:
        self.observer = observer
        self.observing, self.enabled = False, True

    def forward(self, x: Tensor) -> Tensor:
        """x, or x rounded to the numbers that there are."""
        if self.observing or self.training:
            self.observer.observe(x)
        return fake_quantize(x, self.observer.params()) if self.enabled else x

    def extra_repr(self) -> str:
        """What is observed, and how it is rounded."""
        o = self.observer
        kind = "symmetric" if o.symmetric else "asymmetric"
        return f"{type(o).__name__}, {o.bits} bits, {kind}{'' if o.axis is None else ', per channel'}"


def is_conv(module: Any) -> bool:
    """Whether a module is a two-dimensional convolution, by what it has."""
    wanted = ("weight", "stride", "padding", "dilation", "groups")
    return all(hasattr(module, name) for name in wanted) and module.weight.ndim == 4 and "Transpose" not in type(module).__name__  # fmt: skip


def _conv_options(module: Any) -> dict[str, Any]:
    if isinstance(module.padding, str) or getattr(module, "padding_mode", "zeros") != "zeros":
        raise ArgumentError(
            f"quantization of {type(module).__name__}: padding must be zeros of a given number, got {module.padding!r}, {getattr(module, 'padding_mode', 'zeros')!r}"
        )
    return {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}


class Prepared(Module):
    """A Linear or Conv2d whose input and weight are rounded as they will be, so that it can be calibrated and
    trained on. ``relu``: with a relu behind it, which the quantized layer will do at the same time.
    """

    def __init__(self, inner: Any, inputs: FakeQuantize, weights: Any, relu: bool) -> None:
        self.inner, self.inputs, self.weight_observer, self.relu = inner, inputs, weights, relu

    def weight_params(self) -> QuantParams:
        """How the weight is quantized, as it is now."""
        observer = self.weight_observer()
        observer.observe(self.inner.weight)
        return observer.params()

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives for rounded input and weight."""
        x, inner = self.inputs(x), self.inner
        weight = inner.weight
        if self.inputs.enabled:
            weight = fake_quantize(weight, self.weight_params())
        if is_conv(inner):
            y = calls.conv(x, weight, inner.bias, **_conv_options(inner))
        else:
            y = calls.linear(x, weight, inner.bias)
        return calls.relu(y) if self.relu else y


class _Quantized(Module):
    """What integer layers share: int8 weights with a scale for each unit, and the input's scale and zero point.

    ``y = scale_x scale_w (sum of (q_x - zero_x) q_w) + bias``: the sum in int32, exactly, the rest in float32. The
    operations are the same on every backend, and so is the result, to the last bit.
    """

    weight: Tensor
    scale: Tensor
    input_scale: Tensor
    input_zero: Tensor
    offset: Tensor
    bias: Tensor
    next_scale: Tensor | None
    next_zero: Tensor | None

    def __init__(self, prepared: Prepared) -> None:
        inner, inputs, weights = prepared.inner, prepared.inputs.observer.params(), prepared.weight_params()
        self.relu, self.bits, self.input_bits = prepared.relu, weights.bits, inputs.bits
        self.symmetric = inputs.symmetric
        q = quantize(inner.weight.detach(), weights)
        scale = calls.multiply(calls.broadcast_to(weights.scale, (q.shape[0],)), inputs.scale)
        self.register_buffer("weight", self._laid_out(q))
        self.register_buffer("scale", scale.detach())
        self.register_buffer("input_scale", inputs.scale.detach())
        self.register_buffer("input_zero", inputs.zero_point.detach())
        bias = zeros_like(scale) if inner.bias is None else inner.bias.detach()
        self.register_buffer("bias", bias)
        self.register_buffer("next_scale", None)
        self.register_buffer("next_zero", None)
        self.levels = (-128, 127)

    def give_integers(self, following: _Quantized) -> None:
        """From now on give the integers that ``following`` would make of this layer's result."""
        like = QuantParams(self.scale, self.scale, following.input_bits, following.symmetric)
        self.next_scale, self.next_zero, self.levels = (
            following.input_scale,
            following.input_zero,
            (like.low, like.high),
        )

    def dequantize(self, y: Tensor) -> Tensor:
        """What a result of this layer stands for."""
        if self.next_scale is None or self.next_zero is None:
            return y
        return dequantize(y, QuantParams(self.next_scale, self.next_zero))

    def _laid_out(self, q: Tensor) -> Tensor:
        return q

    def _input(self, x: Tensor) -> Tensor:
        if x.dtype is int8:  # as the layer before has made it
            return x
        return quantize(x, QuantParams(self.input_scale, self.input_zero, self.input_bits, self.symmetric))

    def _units(self, shape: tuple[int, ...]) -> None:
        """Numbers of the units in a shape that broadcasts with the result: ``shape`` has -1 for the units."""
        ones = calls.sum(self._rows(), axis=1, dtype="int32")  # sum of zero_x q_w, for each unit
        offset = calls.multiply(ones, calls.astype(self.input_zero, "int32"))
        self.register_buffer("offset", calls.reshape(offset, shape))
        self.scale = calls.reshape(self.scale, shape)
        self.bias = calls.reshape(self.bias, shape)

    def _rows(self) -> Tensor:
        """The weight, one row for each unit."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Sizes, bits, and whether it ends with a relu."""
        return f"{list(self.weight.shape)}, {self.bits} bits{', relu' if self.relu else ''}"


class QuantizedLinear(_Quantized):
    """A Linear in integers: int8 input and weight, int32 sums."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self._units((-1,))

    def _laid_out(self, q: Tensor) -> Tensor:
        return calls.matrix_transpose(q)

    def _rows(self) -> Tensor:
        return calls.matrix_transpose(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (..., out_features)."""
        total = calls.int8_matmul(self._input(x), self.weight)
        y = calls.int8_rescale(total, self.offset, self.scale, self.bias, relu=self.relu)
        if self.next_scale is None:
            return y
        low, high = self.levels
        return calls.int8_quantize(y, self.next_scale, self.next_zero, low=low, high=high)


class QuantizedConv2d(_Quantized):
    """A Conv2d in integers: int8 input and weight, int32 sums. The frame of zeros is one of zero points."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self.options = _conv_options(prepared.inner)
        self._units((-1,))
        self.options["frame"] = 0 if self.symmetric else int(self.input_zero.item())

    def _rows(self) -> Tensor:
        return calls.reshape(self.weight, (self.weight.shape[0], -1))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (N, out_channels, H', W')."""
        operands = (
            self._input(x),
            self.weight,
            self.offset,
            self.scale,
            self.bias,
            self.next_scale,
            self.next_zero,
        )
        low, high = self.levels
        return calls.quantized_conv(*operands, **self.options, relu=self.relu, low=low, high=high)


class QuantizedMaxPool2d(Module):
    """A MaxPool2d between integer layers: the largest integer stands for the largest number."""

    def __init__(self, inner: Any) -> None:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        self.options = {name: getattr(inner, name) for name in names}

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (N, C, H', W')."""
        return calls.int8_max_pool(x, **self.options)


class WeightOnlyLinear(Module):
    """A Linear that keeps its weight in ``bits`` bits, several in a byte, and computes in float: for models whose
    time goes into reading weights.

    ``group``: inputs that share a scale (None: all of a unit's).
    """

    packed: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, inner: Any, bits: int = 8, group: int | None = None) -> None:
        units, inputs = inner.weight.shape
        group = inputs if group is None else group
        if inputs % group:
            raise ArgumentError(f"WeightOnlyLinear: group={group} must divide the {inputs} inputs")
        self.bits, self.group, self.shape = bits, group, (units, inputs)
        rows = calls.reshape(inner.weight.detach(), (units * inputs // group, group))
        observer = MinMaxObserver(bits=bits, axis=0)
        observer.observe(rows)
        params = observer.params()
        self.register_buffer("packed", pack(quantize(rows, params), bits))
        self.register_buffer("scale", params.scale)
        self.register_buffer("bias", None if inner.bias is None else inner.bias.detach())

    def weight(self) -> Tensor:
        """The weight that it computes with."""
        q = calls.astype(unpack(self.packed, self.bits, self.group), self.scale.dtype)
        return calls.reshape(calls.multiply(q, calls.reshape(self.scale, (-1, 1))), self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (..., out_features)."""
        return calls.linear(x, self.weight(), self.bias)

    def extra_repr(self) -> str:
        """Sizes, bits and groups."""
        return f"{list(self.shape)}, {self.bits} bits, groups of {self.group}"
