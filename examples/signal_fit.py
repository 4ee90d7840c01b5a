"""Fitting by derivatives: a sum of damped sinusoids from noisy samples, and an image from a few Gaussian spots.

1. Frequencies, decays and amplitudes of three tones are found by L-BFGS from where a Fourier transform puts the
   peaks; the frequencies come out a hundred times finer than its grid.
2. An 8 x 8 picture of a digit is drawn by 12 spots whose place, size and brightness are learned through the
   drawing of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import compare, digits, options

import corelib as cl
from corelib import optim

SAMPLES, TRUE = (
    256,
    ((0.0603, 0.004, 1.0), (0.1311, 0.008, 0.7), (0.2177, 0.002, 0.5)),
)  # frequency, decay, amplitude


def tones(frequency: cl.Tensor, decay: cl.Tensor, amplitude: cl.Tensor, phase: cl.Tensor) -> cl.Tensor:
    """The signal: each parameter of shape (3, 1), the result of shape (SAMPLES,)."""
    t = cl.arange(SAMPLES, dtype=frequency.dtype)
    return cl.sum(amplitude * cl.exp(-decay * t) * cl.cos(2 * math.pi * frequency * t + phase), axis=0)


def fit_tones(steps: int) -> tuple[float, float]:
    """The largest error of a frequency, and the Fourier grid's."""
    true = [cl.asarray([[row[i]] for row in TRUE], dtype=cl.float64) for i in range(3)]
    noise = cl.random.normal((SAMPLES,), std=0.02, dtype=cl.float64)
    signal = tones(*true, cl.asarray([[0.3], [-1.0], [2.0]], dtype=cl.float64)) + noise
    spectrum = cl.fft.rfft(signal)
    size = cl.abs(spectrum).tolist()
    peaks = sorted(
        sorted((i for i in range(1, 128) if size[i] > max(size[i - 1], size[i + 1])), key=size.__getitem__)[
            -3:
        ]
    )
    angle = cl.atan2(cl.imag(spectrum), cl.real(spectrum)).tolist()
    start = [[i / SAMPLES for i in peaks], [0.005] * 3, [0.5] * 3, [angle[i] for i in peaks]]
    found = [cl.reshape(cl.asarray(v, dtype=cl.float64), (3, 1)).requires_grad_() for v in start]
    optimizer = optim.LBFGS(found, max_iter=steps, line_search_fn="strong_wolfe", history_size=20)

    def closure() -> cl.Tensor:
        optimizer.zero_grad()
        loss = cl.mean((tones(*found) - signal) ** 2)
        loss.backward()
        return loss

    optimizer.step(closure)
    error = cl.max(cl.abs(found[0] - true[0])).item()
    grid = max(abs(i / SAMPLES - row[0]) for i, row in zip(peaks, TRUE, strict=True))
    return error, grid


def draw(place: cl.Tensor, width: cl.Tensor, light: cl.Tensor) -> cl.Tensor:
    """Gaussian spots, places of shape (n, 2), as an image of 8 x 8."""
    at = (cl.arange(8, dtype=place.dtype) + 0.5) / 8
    rows, columns = (cl.exp(-((at - place[:, i : i + 1]) ** 2) * cl.exp(width)) for i in (0, 1))
    return cl.einsum("n,nr,nc->rc", light, rows, columns)


def fit_image(steps: int) -> tuple[float, Callable[[], float]]:
    """The peak signal-to-noise ratio of the picture in decibels, and one more step."""
    image = digits()[0][3, 0]
    draws = cl.random.Generator(0)
    place = cl.random.uniform((12, 2), 0.2, 0.8, generator=draws).requires_grad_()
    width = cl.full((12, 1), 4.0).requires_grad_()
    light = cl.full((12,), 0.3).requires_grad_()
    optimizer = optim.Adam([{"params": [place]}, {"params": [width, light], "lr": 0.05}], lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))

    @cl.compile
    def step() -> cl.Tensor:
        optimizer.zero_grad()
        loss = cl.mse_loss(draw(place, width, light), image)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(steps):
        step()
        schedule.step()
    ratio = -10 * math.log10(cl.mse_loss(draw(place, width, light), image).item())
    return ratio, lambda: step().item()


def torch_step() -> Callable[[], Any]:
    """A step of the picture in PyTorch."""
    import torch

    image, at = torch.rand(8, 8), (torch.arange(8) + 0.5) / 8
    place, width, light = torch.rand(12, 2), torch.full((12, 1), 4.0), torch.full((12,), 0.3)
    parameters = [t.requires_grad_() for t in (place, width, light)]
    optimizer = torch.optim.Adam(parameters, lr=0.01)

    def step() -> float:
        optimizer.zero_grad()
        rows, columns = (torch.exp(-((at - place[:, i : i + 1]) ** 2) * torch.exp(width)) for i in (0, 1))
        loss = ((torch.einsum("n,nr,nc->rc", light, rows, columns) - image) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Run; the result."""
    given = options(__doc__, argv, steps=1000)
    started = time.perf_counter()
    error, grid = fit_tones(min(given.steps, 100))
    print(f"tones: frequencies to {error:.1e}, the Fourier transform's peaks to {grid:.1e}")
    ratio, step = fit_image(given.steps)
    print(f"image by 12 spots: {ratio:.1f} dB; {time.perf_counter() - started:.1f} s on {given.backend}")
    compare(given, step, torch_step)
    return {"frequency": error, "grid": grid, "decibel": ratio}


if __name__ == "__main__":
    found = main()
    assert found["frequency"] < 0.02 * found["grid"]
    assert found["decibel"] > 25
