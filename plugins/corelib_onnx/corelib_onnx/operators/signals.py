"""Fourier transforms and what belongs to them; complex numbers are a last axis of two."""

from __future__ import annotations

import math
from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, Number, operator
from ..values import dtype_of


def _complex(x: Any) -> Any:
    """A tensor whose last axis has the real parts, or the real and imaginary ones, without that axis."""
    if x.shape[-1] not in (1, 2):
        raise ArgumentError(f"the last axis must have 1 element (real) or 2 (complex), got shape {x.shape}")
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]


def _parts(x: Any, dtype: Any) -> Any:
    return cl.astype(cl.stack([cl.real(x), cl.imag(x)], axis=-1), dtype)


@operator("DFT", since=20)
def dft(x, length: Int = None, axis: Int = -2, *, inverse=0, onesided=0):
    """The discrete Fourier transform along ``axis``; ``onesided``: of real numbers the half that says all, or back."""
    axis, y = axis % x.ndim, _complex(x)  # the axis is never the last one, which is gone
    if inverse and onesided:
        return cl.astype(cl.expand_dims(cl.fft.irfft(y, n=length, axis=axis), -1), x.dtype)
    if onesided:
        return _parts(cl.fft.rfft(y, n=length, axis=axis), x.dtype)
    y = y if cl.isdtype(y.dtype, "complex floating") else y + 0j
    return _parts((cl.fft.ifft if inverse else cl.fft.fft)(y, n=length, axis=axis), x.dtype)


@operator("DFT")
def dft_axis(x, length: Int = None, *, axis=1, inverse=0, onesided=0):
    return dft(x, length, axis, inverse=inverse, onesided=onesided)


@operator("STFT")
def stft(signal, frame_step: Int, window=None, frame_length: Int = None, *, onesided=1):
    """The transform of each frame of a signal of shape (batch, length, 1 or 2), weighted by ``window``."""
    length = frame_length or window.shape[0]
    first = range(0, signal.shape[1] - length + 1, frame_step)
    places = cl.asarray([[i + k for k in range(length)] for i in first], dtype=cl.int64, device=signal.device)
    frames = _complex(cl.take(signal, places, axis=1))
    frames = frames if window is None else frames * window
    if onesided:
        return _parts(cl.fft.rfft(frames), signal.dtype)
    return _parts(
        cl.fft.fft(frames if cl.isdtype(frames.dtype, "complex floating") else frames + 0j), signal.dtype
    )


@operator("MelWeightMatrix")
def mel_weights(count: Int, length: Int, rate: Int, low: Number, high: Number, *, output_datatype=1, call):
    """Triangles over the bins of a spectrum, equally wide in mel: 2595 log10(1 + f / 700)."""
    mel = [2595 * math.log10(1 + f / 700) for f in (low, high)]
    step = (mel[1] - mel[0]) / (count + 2)
    edges = [700 * (10 ** ((mel[0] + i * step) / 2595) - 1) for i in range(count + 2)]
    bins = [int((length + 1) * f // rate) for f in edges]
    rows = [[_triangle(j, *bins[i : i + 3]) for i in range(count)] for j in range(length // 2 + 1)]
    device = call.device(count * (length // 2 + 1))
    return cl.asarray(rows, dtype=dtype_of(output_datatype, "MelWeightMatrix"), device=device)


def _triangle(at: int, left: int, center: int, right: int) -> float:
    if at == center:
        return 1.0
    if left <= at < center:
        return (at - left) / (center - left)
    return (right - at) / (right - center) if center < at < right else 0.0
