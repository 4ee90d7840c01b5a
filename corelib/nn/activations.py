"""Activations as modules: a function and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ArgumentError
from ..ops import activations as ops
from ..ops.nn import log_softmax, softmax
from ..ops.trigonometric import tanh
from . import functional
from .layers import new_parameter
from .module import Module

if TYPE_CHECKING:
    from ..tensor import Tensor


class Function(Module):
    """A module around one function of one tensor; ``options`` are the parameters it keeps and passes on."""

    function: ClassVar[Any]
    options: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Tensor) -> Tensor:
        """The function of x."""
        return type(self).function(x, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class ReLU(Function):
    """max(x, 0)."""

    function = staticmethod(ops.relu)


class Sigmoid(Function):
    """1 / (1 + exp(-x))."""

    function = staticmethod(ops.sigmoid)


class LogSigmoid(Function):
    """log(sigmoid(x))."""

    function = staticmethod(ops.log_sigmoid)


class SiLU(Function):
    """x sigmoid(x)."""

    function = staticmethod(ops.silu)


class Tanh(Function):
    """tanh(x)."""

    function = staticmethod(tanh)


class GELU(Function):
    """x P(Z <= x) for a standard normal Z; ``approximate`` is "none" or "tanh"."""

    function, options = staticmethod(ops.gelu), ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class LeakyReLU(Function):
    """x where it is positive, negative_slope * x elsewhere."""

    function, options = staticmethod(ops.leaky_relu), ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class ELU(Function):
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""

    function, options = staticmethod(ops.elu), ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class Softplus(Function):
    """log(1 + exp(beta x)) / beta."""

    function, options = staticmethod(ops.softplus), ("beta",)

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = beta


class Softmax(Function):
    """exp(x) / sum(exp(x)) along ``axis``."""

    function, options = staticmethod(softmax), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis


class LogSoftmax(Function):
    """log(softmax(x)) along ``axis``."""

    function, options = staticmethod(log_softmax), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis


# -- piecewise linear ----------------------------------------------------------------------------------------


class Hardtanh(Function):
    """x between ``min_val`` and ``max_val``, and these outside."""

    function, options = staticmethod(ops.hardtanh), ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if not min_val < max_val:
            raise ArgumentError(f"Hardtanh: min_val must be below max_val, got {min_val} and {max_val}")
        self.min_val, self.max_val = min_val, max_val


class ReLU6(Function):
    """x between 0 and 6."""

    function = staticmethod(functional.relu6)


class Hardsigmoid(Function):
    """(x + 3) / 6 between 0 and 1."""

    function = staticmethod(ops.hardsigmoid)


class Hardswish(Function):
    """x hardsigmoid(x)."""

    function = staticmethod(ops.hardswish)


class Softshrink(Function):
    """x moved by ``lambd`` towards 0, and 0 where it would pass it."""

    function, options = staticmethod(ops.softshrink), ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        if lambd < 0:
            raise ArgumentError(f"Softshrink: lambd must not be negative, got {lambd}")
        self.lambd = lambd


class Hardshrink(Function):
    """x where its magnitude exceeds ``lambd``, 0 elsewhere."""

    function, options = staticmethod(ops.hardshrink), ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd


class Threshold(Function):
    """x where it exceeds ``threshold``, ``value`` elsewhere."""

    function, options = staticmethod(ops.threshold), ("threshold", "value")

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold, self.value = threshold, value


class PReLU(Module):
    """x where it is positive, weight * x elsewhere: ``weight`` is learned, one for each of ``num_parameters`` channels or
    one for all.
    """

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        self.num_parameters = num_parameters
        self.weight = new_parameter((num_parameters,), device, dtype, init)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of x's shape."""
        return functional.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """The number of parameters."""
        return f"num_parameters={self.num_parameters}"


# -- smooth --------------------------------------------------------------------------------------------------


class SELU(Function):
    """ELU with the scale and alpha that keep mean 0 and variance 1."""

    function = staticmethod(ops.selu)


class CELU(Function):
    """x where it is positive, alpha (exp(x / alpha) - 1) elsewhere."""

    function, options = staticmethod(ops.celu), ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ArgumentError(f"CELU: alpha must be positive, got {alpha}")
        self.alpha = alpha


class Mish(Function):
    """x tanh(log(1 + exp(x)))."""

    function = staticmethod(ops.mish)


class Softsign(Function):
    """x / (1 + abs(x))."""

    function = staticmethod(ops.softsign)


class Tanhshrink(Function):
    """x - tanh(x)."""

    function = staticmethod(functional.tanhshrink)


class Softmin(Function):
    """softmax(-x) along ``axis``."""

    function, options = staticmethod(functional.softmin), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis


class GLU(Function):
    """a sigmoid(b) for the halves a and b of x along ``axis``."""

    function, options = staticmethod(functional.glu), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis
