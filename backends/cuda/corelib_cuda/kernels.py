"""The backend's kernel set, by itself, so that each family can register where it is written."""

from __future__ import annotations

from corelib.plugin_api import KernelSet

kernels = KernelSet()
