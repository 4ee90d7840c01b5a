"""Everything that a backend or another plugin imports from corelib: the public plugin API, version
:data:`API`.

``docs/writing-a-backend.md`` walks through a whole backend.
"""

from __future__ import annotations

from . import dtypes, errors, ops, rules, samples
from .backend import API, Backend, BackendInfo, KernelSet, Overlay
from .binding import decomposed
from .dispatch import composite, primitive, reissue
from .errors import LinAlgError
from .hookspecs import hookimpl
from .registry import activate, registry
from .tensor import Tensor

attach = registry.attach

__all__ = [
    "API", "Backend", "BackendInfo", "KernelSet", "LinAlgError", "Overlay", "Tensor", "activate", "attach", "composite", "decomposed", "dtypes", "errors",
    "hookimpl", "ops", "primitive", "reissue", "rules", "samples",
]  # fmt: skip
