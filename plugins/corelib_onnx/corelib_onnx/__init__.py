"""ONNX models in and out of corelib: ``load(path)`` gives a module that runs on any backend, ``export`` writes one."""

from .export import export
from .model import Model, load
from .table import supported

__all__ = ["Model", "export", "load", "supported"]
