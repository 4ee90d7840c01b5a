"""Transformations of functions: forward mode, batching, and the derivatives made of them.

Each is a backend that wraps another (``wrapper.py``), so that they compose with each other, with ``grad`` and with
``compile`` in any order. Their functions are exported by :mod:`corelib`.
"""

from __future__ import annotations

from .batching import vmap
from .forward import jvp
from .jacobians import hessian, hvp, jacfwd, jacrev

__all__ = ["hessian", "hvp", "jacfwd", "jacrev", "jvp", "vmap"]
