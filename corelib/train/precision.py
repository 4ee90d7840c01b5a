"""Mixed precision: parameters in float32, the computation with float16 or bfloat16 copies of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd import no_grad
from ..dtypes import HALF, as_dtype, float16, float32
from ..errors import ArgumentError, CheckpointError
from ..nn.module import Module
from ..op import calls
from ..tape import Leaf
from ..tensor import Tensor


class MixedPrecision:
    """Forward and backward pass in a 16-bit dtype; parameters, gradients and the optimizer's state stay
    float32.

    In corelib, float16 and bfloat16 are storage: an op computes in float32 and rounds its result once. So what
    is saved is memory for activations and its traffic; on a CPU that costs more time than it saves. Buffers
    stay float32.

    float16 has no numbers below 6e-8, so the loss is multiplied by ``scale`` before the backward pass and the
    gradients are divided by it after. A step whose gradients are not finite is left out and halves the scale;
    ``growth_interval`` good steps in a row double it (Micikevicius et al., arXiv:1710.03740). bfloat16 has
    float32's range, and its scale stays 1.

    Example::

        precision = train.MixedPrecision("bfloat16")
        loss = precision.backward(model, lambda: corelib.cross_entropy(model(x), labels))
        if precision.finite(model):
            optimizer.step()
    """

    def __init__(self, dtype: Any, scale: float | None = None, growth_interval: int = 2000) -> None:
        self.dtype = as_dtype(dtype)
        if self.dtype not in HALF:
            raise ArgumentError(f"MixedPrecision: dtype must be float16 or bfloat16, got {self.dtype.name}")
        self.dynamic = self.dtype is float16
        self.scale = float(scale if scale is not None else 2.0**15 if self.dynamic else 1.0)
        self.growth_interval, self.good_steps = growth_interval, 0
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ArgumentError(f"MixedPrecision: scale must be positive, got {self.scale}")

    @contextmanager
    def lowered(self, model: Module) -> Iterator[None]:
        """The floating parameters are in the 16-bit dtype inside, and themselves again afterwards; their
        gradients are float32.
        """
        with no_grad():
            own = [(p, p.detach()) for p in model.parameters() if p.dtype.kind == "float"]
            for p, value in own:
                _replace(p, calls.astype(value, self.dtype))
        try:
            yield
        finally:
            with no_grad():
                for p, value in own:
                    _replace(p, value)

    def backward(self, model: Module, compute: Callable[[], Tensor], divide: float = 1.0) -> Tensor:
        """The loss that ``compute`` returns, and its gradients over ``divide`` added to those of the model's
        parameters.
        """
        before = [(p, p.grad) for p in model.parameters()]
        for p, _ in before:
            p.grad = None
        with self.lowered(model):
            loss = calls.astype(compute(), float32)
            calls.multiply(loss, self.scale / divide).backward()
        with no_grad():
            for p, old in before:
                if p.grad is not None:
                    g = calls.divide(p.grad, self.scale)
                    p.grad = g if old is None else calls.add(old, g)
                else:
                    p.grad = old
        return loss.detach()

    def cast(self, x: Any) -> Any:
        """An input in the 16-bit dtype, if it is floating."""
        return calls.astype(x, self.dtype) if isinstance(x, Tensor) and x.dtype.kind == "float" else x

    def finite(self, model: Module) -> bool:
        """Whether to make the step; adapts the scale, and drops gradients that are not finite. Reads one value
        (of float16; bfloat16's are not looked at).
        """
        if not self.dynamic:
            return True
        good: Any = True
        for p in model.parameters():
            if p.grad is not None:
                good = calls.logical_and(calls.all(calls.isfinite(p.grad)), good)
        if bool(good):
            self.good_steps += 1
            if self.good_steps >= self.growth_interval:
                self.scale, self.good_steps = self.scale * 2, 0
            return True
        self.scale, self.good_steps = self.scale / 2, 0
        model.zero_grad()
        if self.scale < 2.0**-24:
            raise ArgumentError(
                "MixedPrecision: the gradients are not finite at any scale: the computation overflows float16; use bfloat16"
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and the dtype."""
        return {"dtype": self.dtype.name, "scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; CheckpointError if it is of another dtype."""
        if state_dict.get("dtype") != self.dtype.name:
            raise CheckpointError(
                f"load_state_dict: MixedPrecision in {self.dtype.name}, the state is of {state_dict.get('dtype')}"
            )
        self.scale, self.good_steps = float(state_dict["scale"]), int(state_dict["good_steps"])


def _replace(p: Tensor, value: Tensor) -> None:
    """Give a leaf a value of another dtype; its gradient goes with it."""
    grad = p.grad
    value._backend.rebind(p, value)
    p._data = value._data
    if p._node is not None:
        p._node = Leaf(p)
        p._node.grad = None if grad is None else calls.astype(grad.detach(), value.dtype)
