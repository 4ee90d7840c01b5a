"""The exponential moving average of weights, which often predicts better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..autograd import no_grad
from ..errors import ArgumentError, CheckpointError
from ..op import calls
from ..ops.interchange import asarray
from ..ops.subscript import sole
from ..tensor import Tensor


class EMA:
    """``average = decay average + (1 - decay) p`` for each parameter, at every :meth:`update`.

    Starts from the parameters as they are (PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn(decay)``
    does the same from its first update on).

    Example::

        ema = optim.EMA(model.parameters(), decay=0.99)
        optimizer.step()
        ema.update()
        with ema.applied():  # the model computes with the averages in here
            predictions = model(x)
    """

    def __init__(self, params: Iterable[Tensor], decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ArgumentError(f"EMA: decay must be in [0, 1], got {decay}")
        self.params, self.decay = list(params), decay
        if not self.params:
            raise ArgumentError("EMA got no parameters: pass model.parameters()")
        self.averages = [p.detach() for p in self.params]

    @no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        for average, p in zip(self.averages, self.params, strict=True):
            new = calls.ema_update(average, p, decay=self.decay, overwrite=sole(average, p))
            average._rebind(new)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters have the values of the averages inside, and their own again afterwards."""
        own = [p.detach() for p in self.params]
        self._give(self.averages)
        try:
            yield
        finally:
            self._give(own)

    @no_grad()
    def _give(self, values: list[Tensor]) -> None:
        for p, value in zip(self.params, values, strict=True):
            p._rebind(value.detach())

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by number, as they are now."""
        return {str(i): average.detach() for i, average in enumerate(self.averages)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over averages of parameters of the same shapes in the same order; CheckpointError says what
        does not fit.
        """
        if set(state_dict) != set(self.state_dict()):
            raise CheckpointError(
                f"EMA: the state is of {len(state_dict)} parameters, these are {len(self.params)}"
            )
        values = []
        for i, average in enumerate(self.averages):
            value = state_dict[str(i)]
            value = value.detach() if isinstance(value, Tensor) else asarray(value, copy=True)
            if (value.shape, value.dtype) != (average.shape, average.dtype):
                raise CheckpointError(
                    f"EMA: average {i} must be {average.dtype.name}{list(average.shape)}, "
                    f"got {value.dtype.name}{list(value.shape)}"
                )
            values.append(calls.to(value, average._backend))
        for average, value in zip(self.averages, values, strict=True):
            average._rebind(value)
