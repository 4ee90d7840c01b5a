"""Transforms of images and other arrays, for one sample or a whole batch at once.

An image is ``(..., channels, height, width)``. A random transform makes a choice of its own for each element of
the leading axes, drawn from the generator that it is given, or from the batch's in a :class:`DataLoader
<corelib.data.DataLoader>` (so that an epoch repeats itself, whatever the number of workers), or from the
default one. Random bits are the same on every backend, and so are the transformed images, which are moved and
not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..dtypes import int64
from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..ops.interchange import asarray
from ..random import Generator, bernoulli, integers
from ..tensor import Tensor

__all__ = [
    "Compose", "Normalize", "RandomCrop", "RandomHorizontalFlip", "RandomShift", "RandomVerticalFlip",
]  # fmt: skip

_drawing: ContextVar[Generator | None] = ContextVar("drawing", default=None)


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Random transforms without a generator of their own draw from this one inside."""
    token = _drawing.set(generator)
    try:
        yield
    finally:
        _drawing.reset(token)


def _image(name: str, x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else asarray(x)
    if x.ndim < 3:
        raise ShapeError(f"{name} needs images (..., channels, height, width), got shape {x.shape}")
    return x


class Compose:
    """One transform after the other.

    Example::

        augment = data.transforms.Compose(
            [data.transforms.RandomShift(2), data.transforms.Normalize([0.5], [0.25])]
        )
        images = augment(corelib.ones((8, 1, 28, 28)))
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        """The transforms of x, in turn."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


class Normalize:
    """``(x - mean) / std``, channel by channel. ``mean`` and ``std`` have a number for each channel, or one
    for all.
    """

    def __init__(self, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        self.mean, self.std = (list(v) if isinstance(v, Sequence) else [float(v)] for v in (mean, std))
        if any(s == 0 for s in self.std):
            raise ArgumentError(f"Normalize: std must not be 0, got {self.std}")

    def __call__(self, x: Any) -> Tensor:
        """The normalized image."""
        x = _image("Normalize", x)
        for values in (self.mean, self.std):
            if len(values) not in (1, x.shape[-3]):
                raise ShapeError(
                    f"Normalize: {len(values)} numbers for the {x.shape[-3]} channels of {x.shape}"
                )
        shift, scale = (
            calls.reshape(asarray(v, dtype=x.dtype, device=x.device), (-1, 1, 1)) for v in (self.mean, self.std)
        )  # fmt: skip
        return calls.divide(calls.subtract(x, shift), scale)

    def __repr__(self) -> str:
        return f"Normalize({self.mean}, {self.std})"


class _Random:
    """What random transforms share: where they draw from."""

    generator: Generator | None

    def _source(self) -> Generator | None:
        return self.generator or _drawing.get()


class _RandomFlip(_Random):
    axis = -1

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be in [0, 1], got {p}")
        self.p, self.generator = p, generator

    def __call__(self, x: Any) -> Tensor:
        """The image, flipped or not."""
        x = _image(type(self).__name__, x)
        chosen = bernoulli(self.p, (*x.shape[:-3], 1, 1, 1), generator=self._source(), device=x.device)
        return calls.where(chosen, calls.flip(x, axis=self.axis), x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.p})"


class RandomHorizontalFlip(_RandomFlip):
    """Left and right exchanged, with probability ``p``."""


class RandomVerticalFlip(_RandomFlip):
    """Top and bottom exchanged, with probability ``p``."""

    axis = -2


class RandomCrop(_Random):
    """A part of height and width ``size`` (a pair or one number), at a random place of the image with
    ``padding`` rows and columns of ``fill`` around it.
    """

    def __init__(
        self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0, generator: Generator | None = None
    ) -> None:  # fmt: skip
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.padding, self.fill, self.generator = padding, fill, generator
        if min(self.size) < 1 or padding < 0:
            raise ArgumentError(
                f"RandomCrop: size must be positive and padding not negative, got {size} and {padding}"
            )

    def __call__(self, x: Any) -> Tensor:
        """A part of the image."""
        x = _image("RandomCrop", x)
        if self.padding:
            around = (self.padding, self.padding)
            x = calls.pad(x, (*[(0, 0)] * (x.ndim - 2), around, around), constant_values=self.fill)
        for axis, wanted in zip((-2, -1), self.size, strict=True):
            room = x.shape[axis] - wanted
            if room < 0:
                raise ShapeError(
                    f"RandomCrop: a part of {self.size} does not fit the image of shape {x.shape}"
                )
            first = integers(
                room + 1, shape=(*x.shape[:-3], 1, 1, 1), generator=self._source(), device=x.device
            )
            steps = calls.arange(wanted, dtype=int64, device=x.device)
            steps = calls.reshape(steps, (wanted, 1) if axis == -2 else (1, wanted))
            x = calls.take_along_axis(x, calls.add(first, steps), axis=axis)
        return x

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


class RandomShift(_Random):
    """The image moved by up to ``most`` rows and columns in each direction, with ``fill`` where it was."""

    def __init__(self, most: int, fill: float = 0.0, generator: Generator | None = None) -> None:
        if most < 0:
            raise ArgumentError(f"RandomShift: most must not be negative, got {most}")
        self.most, self.fill, self.generator = most, fill, generator

    def __call__(self, x: Any) -> Tensor:
        """The image, moved."""
        x = _image("RandomShift", x)
        return RandomCrop((x.shape[-2], x.shape[-1]), self.most, self.fill, self.generator)(x)

    def __repr__(self) -> str:
        return f"RandomShift({self.most})"
