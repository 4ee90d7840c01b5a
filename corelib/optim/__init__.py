"""Optimizers, under PyTorch's names, with schedules of the learning rate, averages of weights and clipping of
gradients.
"""

from __future__ import annotations

from ..nn.utils import clip_grad_norm_, clip_grad_value_
from . import lr_scheduler
from .adam import Adam, AdamW
from .adaptive import Adagrad, RMSprop
from .ema import EMA
from .lbfgs import LBFGS
from .moments import Lion, NAdam, RAdam
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD

__all__ = [
    "EMA", "LBFGS", "SGD", "Adagrad", "Adam", "AdamW", "Lion", "Muon", "NAdam", "Optimizer", "RAdam", "RMSprop",
    "clip_grad_norm_", "clip_grad_value_", "lr_scheduler",
]  # fmt: skip
