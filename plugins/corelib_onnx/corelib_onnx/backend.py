"""The interface that the onnx package defines for whoever runs models (onnx.backend.base), on a device of corelib."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

import corelib as cl

from .model import Model, load


class Prepared(BackendRep):
    """A loaded model that takes and gives NumPy arrays."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **options: Any) -> tuple[Any, ...]:
        """The outputs for inputs in their order, or by name."""
        with cl.no_grad():
            named = isinstance(inputs, dict)
            results = self.model(**inputs) if named else self.model(*inputs)
        return tuple(_array(x) for x in (results if isinstance(results, tuple) else (results,)))


def _array(x: Any) -> Any:
    if isinstance(x, list):
        return [_array(item) for item in x]
    return x if x is None else np.asarray(x.numpy())


class CorelibBackend(Backend):
    """ONNX's own name for the device, CPU or CUDA, stands for corelib's backends ``cpu`` and ``cuda``; any other
    device string of corelib is one as well.
    """

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> Prepared:  # noqa: ARG003 - the interface's
        """The model on a device."""
        return Prepared(load(model, device=device.lower()))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether that backend is usable here."""
        name = device.lower().partition(":")[0]
        return any(status.name == name and status.usable for status in cl.backends())


prepare = CorelibBackend.prepare
run_model = CorelibBackend.run_model
supports_device = CorelibBackend.supports_device
