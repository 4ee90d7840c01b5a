"""Adam's relatives: NAdam, RAdam and Lion."""

from __future__ import annotations

from typing import Any, ClassVar

from ..op import calls
from ..ops.creation import zeros_like
from ..ops.updates import lion_update, nadam_scalars, nadam_update, radam_scalars, radam_update
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer

_KEPT = ("exp_avg", "exp_avg_sq")


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, ICLR workshop 2016), with PyTorch's arguments and defaults.

    ``momentum_decay`` is psi of the momentum's schedule beta1 (1 - 0.96**(t psi) / 2). ``weight_decay`` p is
    added to the gradient, or with ``decoupled_weight_decay`` taken off the parameter as in AdamW.
    ``maximize`` ascends.

    Example: ``optim.NAdam(model.parameters(), lr=2e-3)``.
    """

    recorded = True
    shared: ClassVar[dict[str, float]] = {"step": 0.0, "mu_product": 1.0}

    def __init__(
        self, params: Any, lr: float | Tensor = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
            },
        )  # fmt: skip

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {name: zeros_like(p) for name in _KEPT}

    def _update(self, group: Group, cohort: Cohort) -> None:
        betas = dict(zip(("beta1", "beta2"), group["betas"], strict=True))
        added, shrinking = _decays(group)
        step, product = cohort.count(), cohort.shared["mu_product"]
        product_after, *numbers = nadam_scalars(
            step, product, calls.to(group["lr"], step._backend), eps=group["eps"], momentum_decay=group["momentum_decay"],
            weight_decay=shrinking, **betas,
        )  # fmt: skip
        product._rebind(product_after)
        scalars = cohort.scalars(*numbers)
        for p in cohort.params:
            self._apply(
                nadam_update, p, _KEPT, scalars, weight_decay=added, maximize=group["maximize"], **betas
            )


class RAdam(Optimizer):
    """Adam whose first steps are those of momentum, until the second moment is known well enough (Liu et al.,
    arXiv:1908.03265), with PyTorch's arguments and defaults.

    ``weight_decay`` p is added to the gradient, or with ``decoupled_weight_decay`` taken off the parameter as
    in AdamW. ``maximize`` ascends.

    Example: ``optim.RAdam(model.parameters(), lr=1e-3)``.
    """

    recorded = True

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, decoupled_weight_decay: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
            },
        )  # fmt: skip

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {name: zeros_like(p) for name in _KEPT}

    def _update(self, group: Group, cohort: Cohort) -> None:
        betas = dict(zip(("beta1", "beta2"), group["betas"], strict=True))
        added, shrinking = _decays(group)
        step = cohort.count()
        numbers = radam_scalars(
            step, calls.to(group["lr"], step._backend), eps=group["eps"], weight_decay=shrinking, **betas
        )
        scalars = cohort.scalars(*numbers)
        for p in cohort.params:
            self._apply(
                radam_update, p, _KEPT, scalars, weight_decay=added, maximize=group["maximize"], **betas
            )


class Lion(Optimizer):
    """Lion (Chen et al., arXiv:2302.06675): a step of size lr along the sign of an average of the gradients,
    with decoupled weight decay.

    Arguments and defaults are those of the paper's program. Its steps are larger than Adam's: the authors take
    a learning rate 3 to 10 times smaller, and a weight decay as much larger. ``maximize`` ascends.

    Example: ``optim.Lion(model.parameters(), lr=1e-4, weight_decay=0.1)``.
    """

    recorded = True
    shared: ClassVar[dict[str, float]] = {}

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0,
        *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay, "maximize": maximize}
        )

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": zeros_like(p)}

    def _update(self, group: Group, cohort: Cohort) -> None:
        beta1, beta2 = group["betas"]
        shrink = calls.subtract(1, calls.multiply(group["lr"], group["weight_decay"]))
        scalars = cohort.scalars(group["lr"], shrink)
        for p in cohort.params:
            self._apply(
                lion_update, p, ("exp_avg",), scalars, beta1=beta1, beta2=beta2, maximize=group["maximize"]
            )


def _decays(group: Group) -> tuple[float, float]:
    """The weight decay that is added to the gradient, and that by which the parameter shrinks."""
    decay = group["weight_decay"]
    return (0.0, decay) if group["decoupled_weight_decay"] else (decay, 0.0)
