"""Debugging: kernels report their failures late, and inside :func:`debugging` every op is waited for, so that the failure is its own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from corelib.plugin_api import errors, hookimpl, registry

from . import launch

NAME = "corelib_cuda.debugging"


class _Waiting:
    """A plugin that wraps each kernel of each CUDA device. ``failure``: what the first op that failed was told."""

    failure = ""

    @hookimpl(wrapper=True)
    def find_kernel(self, op: Any, dtype: Any, backend: Any) -> Any:
        kernel = yield
        return kernel if kernel is None or backend.name != "cuda" else waited(op, kernel, backend, self)


def waited(op: Any, kernel: Callable[..., Any], backend: Any, plugin: _Waiting) -> Callable[..., Any]:
    """``kernel`` on arrays of the device alone, finished when it returns."""

    @functools.wraps(kernel, updated=())
    def run(*operands: Any, **parameters: Any) -> Any:
        for number, x in enumerate(operands):
            if isinstance(x, np.ndarray):
                raise errors.BackendError(
                    f"{op.name}: operand {number} is an array of the host, {x.dtype}{list(x.shape)}, and {backend.device!r} was "
                    "given it as its own: make a tensor of it by corelib.asarray(x, device='cuda')"
                )
        try:
            result = kernel(*operands, **parameters)
            launch.cupy().cuda.get_current_stream().synchronize()
        except Exception as error:
            reason = launch.fatal(error) or error.__cause__ and launch.fatal(error.__cause__)
            if not reason:
                raise
            if (
                not plugin.failure
            ):  # every op after it fails as well, and so does this one when it is tried again
                shown = ", ".join(
                    f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") else repr(x) for x in operands
                )
                plugin.failure = (
                    f"{op.name}({shown}) with {parameters} made {backend.device!r} fail: {reason}. Nothing more can run on it "
                    "in this process"
                )
            raise errors.BackendError(plugin.failure) from error
        return result

    return run


@contextlib.contextmanager
def debugging() -> Iterator[None]:
    """Wait for the device after every op inside the ``with`` block, and name the op that made it fail.

    Everything runs op by op, without generated kernels, and several times slower. What failed before the block is
    attributed to its first op.

    Example::

        with corelib_cuda.debugging():
            loss = step(x)
    """
    registry.discover()
    registry.register(_Waiting(), NAME)
    try:
        yield
    finally:
        registry.unregister(NAME)
