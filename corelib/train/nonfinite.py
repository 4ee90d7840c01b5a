"""Where the first NaN or infinity came from: every kernel watched while a computation is repeated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..autograd import no_grad
from ..dtypes import as_dtype
from ..errors import CorelibError
from ..hookspecs import hookimpl
from ..op import calls
from ..registry import registry
from ..tensor import Tensor, wrap


class NonFiniteLossError(CorelibError, ArithmeticError):
    """The loss is NaN or infinite: training stopped before the parameters took it in."""


class Watch:
    """What was seen first: ``nan`` and ``infinity`` are descriptions of an op that made one out of operands
    without, None if there was none.
    """

    def __init__(self) -> None:
        self.nan: str | None = None
        self.infinity: str | None = None
        self._busy = False

    @property
    def found(self) -> str | None:
        """The op that made the first NaN, else the one that made the first infinity."""
        return self.nan or self.infinity

    @hookimpl(wrapper=True)
    def find_kernel(self, op: Any, dtype: Any, backend: Any) -> Any:
        """Every kernel of a device, with a look at its results."""
        kernel = yield
        if kernel is None or backend.level:
            return kernel

        @functools.wraps(kernel)
        def watched(*operands: Any, **params: Any) -> Any:
            result = kernel(*operands, **params)
            if not self._busy:
                self._busy = True
                try:
                    self._look(op, backend, operands, params, result)
                finally:
                    self._busy = False
            return result

        return watched

    def _look(self, op: Any, backend: Any, operands: Any, params: Any, result: Any) -> None:
        results = result if isinstance(result, tuple) else (result,)
        for name, test in (("nan", calls.isnan), ("infinity", calls.isinf)):
            if getattr(self, name) is None and _any(test, results, backend):
                arrays = [o for o in operands if hasattr(o, "shape")]
                if not _any(test, arrays, backend):
                    setattr(self, name, _described(op, operands, params, name))


def _any(test: Callable[[Tensor], Tensor], arrays: Any, backend: Any) -> bool:
    with no_grad():
        for array in arrays:
            x = wrap(array, backend)
            if x.dtype.kind in ("float", "complex") and calls.any(test(x)).item():
                return True
    return False


def _described(op: Any, operands: Any, params: Any, what: str) -> str:
    shown = [
        f"{as_dtype(o.dtype).name}{list(o.shape)}" if hasattr(o, "shape") and o.shape else repr(o)
        for o in operands
        if o is not None
    ]
    shown += [f"{k}={v!r}" for k, v in params.items()]
    return f"{op.name}({', '.join(shown)}) made {'a NaN' if what == 'nan' else 'an infinity'}"


@contextmanager
def watch_nonfinite() -> Iterator[Watch]:
    """Watch every op inside; afterwards, ``.found`` says which made the first NaN (or infinity, if there was
    no NaN), in words, or is None.

    Every result is read, on every device: for a search, not for training.

    Example::

        with train.watch_nonfinite() as watch:
            corelib.log(x - x) * 0
        assert "multiply" in watch.found
    """
    watch = Watch()
    registry.register(watch, f"corelib.watch_nonfinite {id(watch)}")
    try:
        yield watch
    finally:
        registry.unregister(watch)
