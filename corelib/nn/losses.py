"""Losses as modules: a function of predictions and targets, and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..ops.losses import huber_loss, l1_loss, mse_loss
from . import functional
from .activations import Function
from .module import Module

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Loss(Function):
    options: ClassVar[tuple[str, ...]] = ("reduction",)

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, *operands: Tensor) -> Tensor:
        """The loss of predictions and targets."""
        return type(self).function(*operands, **{name: getattr(self, name) for name in self.options})


class MSELoss(_Loss):
    """(x - target)**2."""

    function = staticmethod(mse_loss)


class L1Loss(_Loss):
    """|x - target|."""

    function = staticmethod(l1_loss)


class HuberLoss(_Loss):
    """Quadratic up to a distance of ``delta``, linear beyond."""

    function, options = staticmethod(huber_loss), ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self.reduction, self.delta = reduction, delta


class SmoothL1Loss(_Loss):
    """Quadratic up to a distance of ``beta``, linear with slope 1 beyond."""

    function, options = staticmethod(functional.smooth_l1_loss), ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        self.reduction, self.beta = reduction, beta


# -- of classes ----------------------------------------------------------------------------------------------


class _Weighted(_Loss):
    """A loss with a tensor of weights, which moves with the module and is saved with it, as in PyTorch."""

    def _keep(self, **tensors: Any) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def extra_repr(self) -> str:
        """The options that are no tensors."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.options if name not in self._buffers
        )


class NLLLoss(_Weighted):
    """-x at the label, for logarithms of probabilities of shape (N, C, ...); ``weight`` (C,) for each class."""

    function, options = staticmethod(functional.nll_loss), ("weight", "ignore_index", "reduction")

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self.ignore_index, self.reduction = ignore_index, reduction
        self._keep(weight=weight)


class CrossEntropyLoss(_Weighted):
    """Cross-entropy of logits of shape (N, C, ...) and labels of shape (N, ...), or probabilities of the logits' shape;
    ``weight`` (C,) for each class.

    No label is ignored unless ``ignore_index`` names one: a label that is no class is an error.
    """

    function, options = (
        staticmethod(functional.cross_entropy),
        ("weight", "ignore_index", "reduction", "label_smoothing"),
    )

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int | None = None, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:  # fmt: skip
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing
        self._keep(weight=weight)


class MultiMarginLoss(_Weighted):
    """The mean over the classes of max(0, margin - x at the label + x)**p, but for the label's own."""

    function, options = staticmethod(functional.multi_margin_loss), ("p", "margin", "weight", "reduction")

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean"
    ) -> None:
        self.p, self.margin, self.reduction = p, margin, reduction
        self._keep(weight=weight)


class CTCLoss(_Loss):
    """Connectionist temporal classification: called with log_probs (T, N, C), targets, input_lengths and target_lengths."""

    function, options = staticmethod(functional.ctc_loss), ("blank", "reduction", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity


# -- of probabilities ----------------------------------------------------------------------------------------


class BCELoss(_Weighted):
    """Binary cross-entropy of probabilities and targets in [0, 1]."""

    function, options = staticmethod(functional.binary_cross_entropy), ("weight", "reduction")

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        self.reduction = reduction
        self._keep(weight=weight)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross-entropy of logits and targets in [0, 1]; ``pos_weight`` multiplies the term of the positive target."""

    function, options = (
        staticmethod(functional.binary_cross_entropy_with_logits),
        ("weight", "reduction", "pos_weight"),
    )

    def __init__(
        self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        self.reduction = reduction
        self._keep(weight=weight, pos_weight=pos_weight)


class KLDivLoss(_Loss):
    """target (log(target) - x) for logarithms of probabilities x; ``reduction`` may be "batchmean"."""

    function, options = staticmethod(functional.kl_div), ("reduction", "log_target")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction, self.log_target = reduction, log_target


class PoissonNLLLoss(_Loss):
    """exp(x) - target x for logarithms x of Poisson rates."""

    function, options = staticmethod(functional.poisson_nll_loss), ("log_input", "full", "eps", "reduction")

    def __init__(
        self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
    ) -> None:
        self.log_input, self.full, self.eps, self.reduction = log_input, full, eps, reduction


class GaussianNLLLoss(_Loss):
    """(log(var) + (x - target)**2 / var) / 2, called with x, target and var."""

    function, options = staticmethod(functional.gaussian_nll_loss), ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        self.full, self.eps, self.reduction = full, eps, reduction


# -- of distances and margins --------------------------------------------------------------------------------


class CosineEmbeddingLoss(_Loss):
    """1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1; called with x1, x2 and target."""

    function, options = staticmethod(functional.cosine_embedding_loss), ("margin", "reduction")

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class TripletMarginLoss(_Loss):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), called with anchor, positive and negative."""

    function, options = (
        staticmethod(functional.triplet_margin_loss),
        ("margin", "p", "eps", "swap", "reduction"),
    )

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:  # fmt: skip
        self.margin, self.p, self.eps, self.swap, self.reduction = margin, p, eps, swap, reduction


class MarginRankingLoss(_Loss):
    """max(0, margin - target (x1 - x2)), called with x1, x2 and target."""

    function, options = staticmethod(functional.margin_ranking_loss), ("margin", "reduction")

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class HingeEmbeddingLoss(_Loss):
    """x where target is 1, max(0, margin - x) where it is -1."""

    function, options = staticmethod(functional.hinge_embedding_loss), ("margin", "reduction")

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class HingeLoss(_Loss):
    """max(0, margin - target x) for scores x and targets 1 or -1. Not in PyTorch."""

    function, options = staticmethod(functional.hinge_loss), ("margin", "reduction")

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        self.margin, self.reduction = margin, reduction


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target x)) for targets 1 or -1."""

    function = staticmethod(functional.soft_margin_loss)


# -- distances -----------------------------------------------------------------------------------------------


class CosineSimilarity(Module):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along ``axis``.

    Example: ``nn.CosineSimilarity()(x1, x2)`` for x1 of shape (4, 3) and x2 of shape (4, 3) has shape (4,).
    """

    def __init__(self, axis: int = 1, eps: float = 1e-8) -> None:
        self.axis, self.eps = axis, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """A tensor without that axis."""
        return functional.cosine_similarity(x1, x2, self.axis, self.eps)


class PairwiseDistance(Module):
    """The ``p``-norm of x1 - x2 + eps along the last axis.

    Example: ``nn.PairwiseDistance()(x1, x2)`` for x1 of shape (4, 3) and x2 of shape (4, 3) has shape (4,).
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """A tensor without the last axis, or with one of size 1."""
        return functional.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
