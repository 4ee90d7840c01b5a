"""Quantization: models in 8, 4 or 2 bits, after training or with it.

``prepare`` puts an observer before and a fake quantization on every Linear and Conv2d; ``calibrate`` (or
training on) finds the scales; ``convert`` makes layers that compute in integers. ``weight_only`` keeps the
computation in float and stores the weights in few bits; ``report`` says what it cost.
"""

from __future__ import annotations

from .convert import Config, calibrate, convert, fold_norms, prepare, weight_only
from .layers import (
    FakeQuantize,
    Prepared,
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMaxPool2d,
    WeightOnlyLinear,
)
from .observers import MinMaxObserver, MSEObserver, PercentileObserver
from .report import Report, report
from .scheme import QuantParams, choose_params, dequantize, fake_quantize, pack, quantize, unpack

__all__ = [
    "Config", "FakeQuantize", "MSEObserver", "MinMaxObserver", "PercentileObserver", "Prepared", "QuantParams", "QuantizedConv2d",
    "QuantizedLinear", "QuantizedMaxPool2d", "Report", "WeightOnlyLinear", "calibrate", "choose_params", "convert", "dequantize", "fake_quantize", "fold_norms", "pack",
    "prepare", "quantize", "report", "unpack", "weight_only",
]  # fmt: skip
