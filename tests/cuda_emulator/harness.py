"""What the tests of the emulated `cuda` backend share: running a kernel on host arrays, comparing, and numbers to try."""

from __future__ import annotations

import math
from typing import Any

import emulated_cupy
import numpy as np

from corelib import dtypes
from corelib.op import BY_NAME
from corelib_cuda import launch
from corelib_cuda.half import stored

NAMES = [d.name for d in dtypes.ORDERED]
HALF = [d.name for d in dtypes.HALF]
COMPLEX = [d.name for d in dtypes.COMPLEX]
INTEGERS = [d.name for d in dtypes.INTEGER]
FLOATING = [d.name for d in dtypes.FLOATING]
KIND = {d.name: d.kind for d in dtypes.ALL}


def to_device(x: Any) -> Any:
    """A host array as a device array; anything else as it is."""
    if not isinstance(x, np.ndarray | np.generic):
        return x
    return launch.cupy().asarray(x) if emulated_cupy.REAL else emulated_cupy._device(x)


def run(device: Any, name: str, *operands: Any, found_under: Any = None, **params: Any) -> Any:
    """The result of an op's kernel, on the host, for host arrays, device arrays and scalars. The kernel is found under the
    dtype of the first array (the second operand's for where), or under ``found_under``."""
    if found_under is None:
        arrays = [x for x in operands[name == "where" :] if hasattr(x, "dtype")]
        found_under = arrays[0].dtype
    kernel = device.find(BY_NAME[name], dtypes.as_dtype(found_under))
    result = kernel(*map(to_device, operands), **params)
    return tuple(map(on_host, result)) if isinstance(result, tuple) else on_host(result)


def on_host(x: Any) -> Any:
    """A device array's elements; of float16 and bfloat16, their bits."""
    return stored(x).get()


def same(expected, actual):
    """Equal in shape, dtype and every bit, but that one NaN is as good as another."""
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if expected.dtype.kind == "c":
        same(expected.real, actual.real)
        same(expected.imag, actual.imag)
    elif expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        number = ~np.isnan(expected)
        word = f"u{expected.itemsize}"
        bits_a, bits_e = np.where(number, actual, 0).view(word), np.where(number, expected, 0).view(word)
        np.testing.assert_array_equal(
            bits_a, bits_e, err_msg=f"{actual[number]} instead of {expected[number]}"
        )
    else:
        np.testing.assert_array_equal(actual, expected)


def values(dtype):
    """The numbers at which mistakes are made, with a few that are ordinary."""
    d = dtypes.as_dtype(dtype)
    if d.kind == "bool":
        return np.array([False, True])
    if d.kind == "float":
        tiny, big = float(d.smallest_normal), float(d.max)
        found = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 7.0, 1e-3, 123.456, tiny, tiny / 8, big, math.inf]
        return np.array([s * v for v in found for s in (1, -1)] + [math.nan], dtype)
    found = {0, 1, 2, 3, 5, 7, 8, 31, 63, d.max, d.max - 1, d.max // 2, d.min, d.min + 1, -1, -2, -3, -7}
    return np.array(sorted(v for v in found if d.min <= v <= d.max), dtype)


def pairs(dtype):
    v = values(dtype)
    return np.repeat(v, len(v)), np.tile(v, len(v))


def wrapped(numbers, dtype):
    d = dtypes.as_dtype(dtype)
    span = 1 << d.bits
    return np.array([(int(n) - d.min) % span + d.min for n in numbers], dtype)
