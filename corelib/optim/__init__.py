"""Optimizers, under PyTorch's names: ``SGD``, ``Adam``, ``AdamW``, and clipping of gradients."""

from __future__ import annotations

from ..nn.utils import clip_grad_norm_, clip_grad_value_
from .adam import Adam, AdamW
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_", "clip_grad_value_"]
