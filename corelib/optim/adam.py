"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from ..op import calls
from ..ops.creation import zeros_like
from ..ops.updates import adam_scalars, adam_update, adamw_update
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980), with PyTorch's arguments and defaults.

    ``weight_decay`` p is added to the gradient. ``amsgrad`` divides by the largest second moment so far.
    ``maximize`` ascends.
    """

    recorded = True
    decoupled = False

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return {name: zeros_like(p) for name in names}

    def _update(self, group: Group, cohort: Cohort) -> None:
        beta1, beta2 = group["betas"]
        betas = {"beta1": beta1, "beta2": beta2}
        decay = group["weight_decay"]
        step = cohort.count()
        rate, epsilon, shrink = cohort.scalars(
            *adam_scalars(
                step, calls.to(group["lr"], step._backend), eps=group["eps"], weight_decay=decay if self.decoupled else 0.0,
                **betas,
            )
        )  # fmt: skip
        kept, extra, maximize = ("exp_avg", "exp_avg_sq"), ("max_exp_avg_sq",), group["maximize"]
        for p in cohort.params:
            if self.decoupled and decay:
                self._apply(adamw_update, p, kept, (rate, epsilon, shrink), extra, maximize=maximize, **betas)
            else:
                self._apply(
                    adam_update, p, kept, (rate, epsilon), extra, maximize=maximize, weight_decay=decay, **betas
                )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), with PyTorch's arguments
    and defaults.

    Example::

        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
        optimizer.zero_grad()
        ops.cross_entropy(model(x), labels).backward()
        optimizer.step()
    """

    decoupled = True

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
