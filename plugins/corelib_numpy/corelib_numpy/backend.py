"""The backend: NumPy's own functions where they mean what corelib means, and a kernel where they do not."""

import math

import array_api_compat.numpy as standard
import numpy as np

from corelib import dtypes, ops
from corelib.plugin_api import Backend, KernelSet

kernels = KernelSet()
add = kernels.add


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

    def find(self, op, dtype):
        kernel = super().find(op, dtype)
        return kernel and np.errstate(all="ignore")(kernel)


# Element-wise functions have the standard's names and meaning; so have these, with the parameters that kernels get.
kernels.fill_from(standard)
MOVES = ["reshape", "permute_dims", "broadcast_to", "flip", "take_along_axis"]
for name in [*MOVES, "max", "min", "any", "all", "argmax", "argmin", "argsort", "searchsorted", "nonzero"]:
    add(getattr(ops, name), getattr(standard, name))

add(ops.full, lambda *, shape, fill_value, dtype: np.full(shape, fill_value, dtype.numpy))
add(ops.concat, lambda *xs, axis: np.concatenate(xs, axis))
add(ops.pad, lambda x, *, pad_width, constant_value: np.pad(x, pad_width, constant_values=constant_value))
add(ops.sort, lambda x, *, axis, **how: np.take_along_axis(x, standard.argsort(x, axis=axis, **how), axis))
add(ops.erf, lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x))
add(ops.asin, lambda x: np.arcsin(x, dtype="d").astype("f"), [dtypes.float32])
add(ops.log10, lambda x: np.log10(x, dtype="d").astype("f"), [dtypes.float32])


@kernels.implements(ops.where)
def where(condition, x1, x2):
    dtype = getattr(x1, "dtype", None) or x2.dtype
    return np.where(condition, x1, x2).astype(dtype, copy=False)


def accumulate(function):
    """NumPy's function with corelib's dtype for the accumulator."""
    return lambda x, *, dtype, **params: function(x, dtype=dtype.numpy, **params)


for name in ["sum", "prod", "cumulative_sum", "cumulative_prod"]:
    add(getattr(ops, name), accumulate(getattr(standard, name)))


@kernels.implements(ops.arange)
def arange(*, start, step, size, dtype):
    """start + i * step: integers exactly, modulo 2**64; floats rounded once, from float64."""
    if dtype.kind == "float":
        return (start + np.arange(size) * float(step)).astype(dtype.numpy)
    start, step = np.uint64(start % 2**64), np.uint64(step % 2**64)
    return (start + np.arange(size, dtype=np.uint64) * step).astype(dtype.numpy)


@kernels.implements(ops.astype)
def astype(x, *, dtype):
    if x.dtype.name == "bfloat16":
        x = x.astype(np.float32)
    if x.dtype.kind != "f" or dtype.kind not in ("int", "uint"):
        return x.astype(dtype.numpy)
    low, zero, high = (dtype.numpy.type(value) for value in (dtype.min, 0, dtype.max))
    inside = (x > dtype.min - 1) & (x < dtype.max + 1)
    outside = np.where(x < 0, low, np.where(x > 0, high, zero))
    return np.where(inside, np.where(inside, x, 0).astype(dtype.numpy), outside)


def maximum(x1, x2):
    return np.where(x1 == x2, np.where(np.signbit(x1), x2, x1), np.maximum(x1, x2))


add(ops.maximum, maximum, dtypes.FLOATING)
add(ops.minimum, lambda x1, x2: -maximum(-x1, -x2), dtypes.FLOATING)


@kernels.implements(ops.floor_divide, dtypes=dtypes.FLOATING)
def floor_divide(x1, x2):
    wide = np.floor_divide(x1, x2, dtype=np.float64).astype(np.result_type(x1, x2))
    return np.where(np.isinf(x1 / x2) | np.isinf(x2), np.floor(x1 / x2), wide)


@kernels.implements(ops.pow, dtypes=dtypes.SIGNED)
def pow(x1, x2):
    x2 = np.asarray(x2, np.result_type(x1, x2))
    reciprocal = np.where(x1 == 1, 1, np.where(x1 == -1, 1 - 2 * (x2 & 1), 0)).astype(x2.dtype)
    return np.where(x2 < 0, reciprocal, np.power(x1, np.maximum(x2, 0)))


def region(start, size, step):
    """For each axis the slice that picks start, start + step, ...: `size` elements."""
    ends = (first + n * by for first, n, by in zip(start, size, step, strict=True))
    return tuple(slice(a, b if b >= 0 else None, c) for a, b, c in zip(start, ends, step, strict=True))


def place(x, indices, axis):
    """The index expression that has `indices` at `axis` and the axes after it."""
    return (slice(None),) * (x.ndim + axis) + indices


def updated(x, where, values, assign=np.ndarray.__setitem__):
    """A copy of x with `values` at `where`, which NumPy alone would broadcast."""
    if values.shape != x[where].shape:
        raise ValueError("values do not fit the places they go to")
    result = np.array(x)
    assign(result, where, values)
    return result


add(ops.strided_slice, lambda x, *, start, size, step: x[region(start, size, step)].reshape(size))
add(ops.strided_update, lambda x, v, *, overwrite, **where: updated(x, region(**where), v))
add(ops.gather, lambda x, *i, axis: x[place(x, i, axis)])
add(ops.scatter, lambda x, v, *i, axis, overwrite: updated(x, place(x, i, axis), v))
add(ops.scatter_add, lambda x, v, *i, axis, overwrite: updated(x, place(x, i, axis), v, np.add.at))


def finite(x):
    """x; infinities, with which LAPACK may never end, and NaN are refused."""
    if not np.isfinite(x).all():
        raise np.linalg.LinAlgError
    return x


def lower(x):
    """The lower triangle, which is all that is read of a Hermitian matrix."""
    return finite(np.where(np.tri(x.shape[-2], x.shape[-1], dtype=bool), x, 0))


@kernels.implements(ops.linalg.cholesky)
def cholesky(x, *, upper):
    factor = np.linalg.cholesky(lower(x))
    return factor.mT.conj() if upper else factor


@kernels.implements(ops.linalg.eig)
def eig(x):
    return tuple(y.astype(np.result_type(y, np.complex64)) for y in np.linalg.eig(finite(x)))


@kernels.implements(ops.fft.irfft)
def irfft(x, *, axis, **params):
    return np.fft.irfft(x if x.shape[axis] else np.insert(x, 0, 0, axis), axis=axis, **params)


add(ops.linalg.eigh, lambda x: tuple(np.linalg.eigh(lower(x))))
add(ops.linalg.svd, lambda x, *, full_matrices: tuple(np.linalg.svd(finite(x), full_matrices)))
add(ops.linalg.qr, lambda x, *, mode: tuple(np.linalg.qr(x, mode)))
add(ops.linalg.slogdet, lambda x: tuple(np.linalg.slogdet(x)))
for name in ["det", "solve"]:
    add(getattr(ops.linalg, name), getattr(np.linalg, name))
for name in ["fft", "ifft", "rfft"]:
    add(getattr(ops.fft, name), getattr(np.fft, name))


@kernels.implements(ops.random_bits)
def random_bits(key, counter, *, shape, dtype):
    """Philox4x32-10, counted by element: the same bits on every backend."""
    words, low = math.prod(shape) * dtype.itemsize // 4, 0xFFFFFFFF
    block = np.uint64(counter) + np.arange(-(-words // 4), dtype=np.uint64)
    x0, x1, x2, x3 = block & low, block >> 32, 0 * block, 0 * block
    for n in range(10):
        k0, k1 = int(key[0]) + n * 0x9E3779B9 & low, int(key[1]) + n * 0xBB67AE85 & low
        p0, p1 = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = p1 >> 32 ^ x1 ^ k0, p1 & low, p0 >> 32 ^ x3 ^ k1, p0 & low
    bits = np.stack([x0, x1, x2, x3], axis=-1).astype("<u4").ravel()[:words]
    return bits.view(f"<u{dtype.itemsize}").reshape(shape)
