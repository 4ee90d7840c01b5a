"""The backend: NumPy's own functions where they mean what corelib means, and a kernel where they do not."""

import math
from types import SimpleNamespace

import array_api_compat.numpy as standard
import numpy as np
from corelib import dtypes, ops
from corelib.plugin_api import Backend, KernelSet

kernels = KernelSet()
quiet = np.errstate(all="ignore")  # corelib's arithmetic is IEEE's: inf and NaN are values, not warnings


class NumpyBackend(Backend):
    """Arrays are `numpy.ndarray`; a NumPy dtype is a dtype that corelib understands."""

    kernels = kernels

    def from_host(self, buffer, shape, dtype):
        return np.frombuffer(buffer, dtype.numpy).reshape(shape).copy()

    def to_host(self, array):
        return np.ascontiguousarray(array)

    def dlpack(self, array):
        return np.asarray(array)

    def from_dlpack(self, source):
        return np.from_dlpack(source)


# Element-wise functions have the standard's names and meaning; so have these, with the parameters that kernels get.
kernels.fill_from(SimpleNamespace(**{name: quiet(f) for name, f in vars(standard).items() if callable(f)}))
for name in """where reshape permute_dims broadcast_to flip max min any all argmax argmin argsort searchsorted
               take_along_axis nonzero""".split():
    kernels.add(getattr(ops, name), getattr(standard, name))

kernels.add(ops.full, lambda *, shape, fill_value, dtype: np.full(shape, fill_value, dtype.numpy))
kernels.add(ops.concat, lambda *xs, axis: np.concatenate(xs, axis))
kernels.add(ops.pad, lambda x, *, pad_width, constant_value: np.pad(x, pad_width, constant_values=constant_value))


@kernels.implements(ops.arange)
def arange(*, start, step, size, dtype):
    """start + i * step: integers exactly, modulo 2**64; floats rounded once, from float64."""
    if dtype.kind == "float":
        return (start + np.arange(size) * float(step)).astype(dtype.numpy)
    start, step = np.uint64(start % 2**64), np.uint64(step % 2**64)
    return (start + np.arange(size, dtype=np.uint64) * step).astype(dtype.numpy)


@kernels.implements(ops.astype)
@quiet
def astype(x, *, dtype):
    if x.dtype.kind != "f" or dtype.kind not in ("int", "uint"):
        return x.astype(dtype.numpy)
    inside = (x > dtype.min - 1) & (x < dtype.max + 1)  # outside: saturate; NaN becomes 0. NumPy leaves both open
    low, zero, high = (dtype.numpy.type(value) for value in (dtype.min, 0, dtype.max))
    return np.where(inside, np.where(inside, x, 0).astype(dtype.numpy), np.where(x < 0, low, np.where(x > 0, high, zero)))


# NaN wins, and +0 > -0; inf // 2 is inf.
pick = np.where
kernels.add(ops.maximum, lambda x1, x2: pick((x1 == x2) & np.signbit(x1), x2, np.maximum(x1, x2)), dtypes.FLOATING)
kernels.add(ops.minimum, lambda x1, x2: pick((x1 == x2) & np.signbit(x1), x1, np.minimum(x1, x2)), dtypes.FLOATING)
floor_divide = quiet(lambda x1, x2: pick(np.isinf(x1), np.divide(x1, x2), np.floor_divide(x1, x2)))
kernels.add(ops.floor_divide, floor_divide, dtypes.FLOATING)
kernels.add(ops.erf, lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x))


@kernels.implements(ops.pow, dtypes=dtypes.SIGNED)
def pow(x1, x2):
    x2 = np.asarray(x2, np.result_type(x1, x2))
    reciprocal = np.where(x1 == 1, 1, np.where(x1 == -1, 1 - 2 * (x2 & 1), 0)).astype(x2.dtype)
    return np.where(x2 < 0, reciprocal, np.power(x1, np.maximum(x2, 0)))  # 1 / x**n, truncated, for negative n


def accumulate(function):
    """NumPy's function with corelib's dtype for the accumulator."""
    return quiet(lambda x, *, dtype, **params: function(x, dtype=dtype.numpy, **params))


for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
    kernels.add(getattr(ops, name), accumulate(getattr(standard, name)))


@kernels.implements(ops.sort)
def sort(x, *, axis, descending):
    return np.take_along_axis(x, standard.argsort(x, axis=axis, descending=descending), axis)


def region(start, size, step):
    """For each axis the slice that picks start, start + step, ...: `size` elements."""
    ends = (first + n * by for first, n, by in zip(start, size, step, strict=True))
    return tuple(slice(a, b if b >= 0 else None, c) for a, b, c in zip(start, ends, step, strict=True))


def place(x, indices, axis):
    """The index expression that has `indices` at `axis` and the axes after it."""
    return (slice(None),) * (x.ndim + axis) + indices


def updated(x, where, values, assign=np.ndarray.__setitem__):
    """A copy of x with `values` at `where`."""
    result = np.array(x)
    assign(result, where, values)
    return result


kernels.add(ops.strided_slice, lambda x, *, start, size, step: x[region(start, size, step)])
kernels.add(ops.strided_update, lambda x, value, *, start, size, step, overwrite: updated(x, region(start, size, step), value))
kernels.add(ops.gather, lambda x, *indices, axis: x[place(x, indices, axis)])
kernels.add(ops.scatter, lambda x, values, *indices, axis, overwrite: updated(x, place(x, indices, axis), values))
kernels.add(
    ops.scatter_add,
    lambda x, values, *indices, axis, overwrite: updated(x, place(x, indices, axis), values, np.add.at),
)


@kernels.implements(ops.random_bits)
def random_bits(key, counter, *, shape, dtype):
    """Philox4x32-10, counted by element: the same bits on every backend."""
    words, low = math.prod(shape) * dtype.itemsize // 4, 0xFFFFFFFF
    block = np.uint64(counter) + np.arange(-(-words // 4), dtype=np.uint64)
    x0, x1, x2, x3 = block & low, block >> 32, 0 * block, 0 * block
    for n in range(10):
        k0, k1 = (int(k) + n * weyl & low for k, weyl in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True))
        p0, p1 = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = p1 >> 32 ^ x1 ^ k0, p1 & low, p0 >> 32 ^ x3 ^ k1, p0 & low
    return np.stack([x0, x1, x2, x3], -1).astype("<u4").ravel()[:words].view(f"<u{dtype.itemsize}").reshape(shape)
