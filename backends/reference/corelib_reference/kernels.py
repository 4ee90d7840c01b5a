"""The one kernel set of this backend. It stands alone so that every kernel module can register into it."""

from __future__ import annotations

from corelib.plugin_api import KernelSet

kernels = KernelSet()
