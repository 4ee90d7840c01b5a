"""Activations and losses as modules: a function and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..ops.activations import elu, gelu, leaky_relu, log_sigmoid, relu, sigmoid, silu, softplus
from ..ops.losses import binary_cross_entropy_with_logits, huber_loss, l1_loss, mse_loss
from ..ops.nn import log_softmax, softmax
from ..ops.trigonometric import tanh
from . import functional
from .module import Module

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Function(Module):
    """A module around one function of one tensor; ``options`` are the parameters it keeps and passes on."""

    function: ClassVar[Any]
    options: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Tensor) -> Tensor:
        """The function of x."""
        return type(self).function(x, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class ReLU(_Function):
    """max(x, 0)."""

    function = staticmethod(relu)


class Sigmoid(_Function):
    """1 / (1 + exp(-x))."""

    function = staticmethod(sigmoid)


class LogSigmoid(_Function):
    """log(sigmoid(x))."""

    function = staticmethod(log_sigmoid)


class SiLU(_Function):
    """x sigmoid(x)."""

    function = staticmethod(silu)


class Tanh(_Function):
    """tanh(x)."""

    function = staticmethod(tanh)


class GELU(_Function):
    """x P(Z <= x) for a standard normal Z; ``approximate`` is "none" or "tanh"."""

    function, options = staticmethod(gelu), ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class LeakyReLU(_Function):
    """x where it is positive, negative_slope * x elsewhere."""

    function, options = staticmethod(leaky_relu), ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class ELU(_Function):
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""

    function, options = staticmethod(elu), ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class Softplus(_Function):
    """log(1 + exp(beta x)) / beta."""

    function, options = staticmethod(softplus), ("beta",)

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = beta


class Softmax(_Function):
    """exp(x) / sum(exp(x)) along ``axis``."""

    function, options = staticmethod(softmax), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis


class LogSoftmax(_Function):
    """log(softmax(x)) along ``axis``."""

    function, options = staticmethod(log_softmax), ("axis",)

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis


# -- losses --------------------------------------------------------------------------------------------------


class _Loss(_Function):
    options: ClassVar[tuple[str, ...]] = ("reduction",)

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:  # type: ignore[override]
        """The loss of predictions x."""
        return type(self).function(x, target, **{name: getattr(self, name) for name in self.options})


class MSELoss(_Loss):
    """(x - target)**2."""

    function = staticmethod(mse_loss)


class L1Loss(_Loss):
    """|x - target|."""

    function = staticmethod(l1_loss)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits and targets in [0, 1]."""

    function = staticmethod(binary_cross_entropy_with_logits)


class HuberLoss(_Loss):
    """Quadratic up to a distance of ``delta``, linear beyond."""

    function, options = staticmethod(huber_loss), ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self.reduction, self.delta = reduction, delta


class NLLLoss(_Loss):
    """-x at the label, for logarithms of probabilities of shape (N, C, ...)."""

    function, options = staticmethod(functional.nll_loss), ("ignore_index", "reduction")

    def __init__(self, ignore_index: int | None = None, reduction: str = "mean") -> None:
        self.ignore_index, self.reduction = ignore_index, reduction


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits of shape (N, C, ...) and labels of shape (N, ...).

    No label is ignored unless ``ignore_index`` names one: a label that is no class is an error.
    """

    function, options = (
        staticmethod(functional.cross_entropy),
        ("ignore_index", "reduction", "label_smoothing"),
    )

    def __init__(
        self, ignore_index: int | None = None, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing
