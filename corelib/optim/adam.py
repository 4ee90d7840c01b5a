"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..op import calls
from ..ops.creation import zeros_like
from ..ops.subscript import sole
from ..ops.updates import adam_scalars, adam_update, adamw_update
from ..tensor import Tensor
from .optimizer import Cohort, Group, Optimizer


class Adam(Optimizer):
    """Adam (Kingma and Ba, arXiv:1412.6980), with PyTorch's arguments and defaults.

    ``weight_decay`` p is added to the gradient. ``amsgrad`` divides by the largest second moment so far.
    ``maximize`` ascends.
    """

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

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        name = type(self).__name__
        for i, beta in enumerate(options["betas"]):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{name}: betas[{i}] must be in [0, 1), got {beta}")
        if not options["eps"] >= 0:
            raise ArgumentError(f"{name}: eps must not be negative, got {options['eps']}")

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return {name: zeros_like(p) for name in names}

    def _update(self, group: Group, cohort: Cohort) -> None:
        beta1, beta2 = group["betas"]
        decay, maximize = group["weight_decay"], group["maximize"]
        p = cohort.params[0]
        assert cohort.step is not None
        cohort.step._rebind(calls.add(cohort.step, 1))
        lr = calls.to(group["lr"], p._backend)
        scalars = adam_scalars(
            cohort.step,
            lr,
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=decay if self.decoupled else 0.0,
        )
        rate, epsilon, shrink = (calls.astype(s, p.dtype) for s in scalars)
        for p in cohort.params:
            state = self.state[p]
            moments = (state["exp_avg"], state["exp_avg_sq"])
            largest = state.get("max_exp_avg_sq")
            g: Any = calls.negative(p.grad) if maximize else p.grad
            alone = sole(p, g) and all(sole(t, p, g) for t in state.values())
            if self.decoupled and decay:
                new = adamw_update(
                    p, g, *moments, rate, epsilon, shrink, largest, beta1=beta1, beta2=beta2, overwrite=alone
                )
            else:
                new = adam_update(
                    p, g, *moments, rate, epsilon, largest, beta1=beta1, beta2=beta2, weight_decay=decay, overwrite=alone
                )  # fmt: skip
            p._rebind(new[0])
            moments[0]._rebind(new[1])
            moments[1]._rebind(new[2])
            if largest is not None:
                largest._rebind(new[3])


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
