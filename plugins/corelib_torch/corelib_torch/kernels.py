"""The kernels: PyTorch's own functions where they mean what corelib means, and a kernel where they do not."""

import math
from functools import partial, reduce

import torch

from corelib import dtypes, ops
from corelib.plugin_api import KernelSet

kernels = KernelSet()
add = kernels.add

native = {dtype: getattr(torch, dtype.name) for dtype in dtypes.ALL}  # PyTorch's of the same name
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
# The bits as integers; those of integers that PyTorch computes with; numbers as booleans; and what it orders.
integers = lambda x: x.view(getattr(torch, f"int{8 * x.itemsize}"))
signed = lambda x: integers(x) if x.dtype in SIGNED else x
truth = lambda x: signed(x) != 0
number = lambda x: x.byte() if x.dtype is torch.bool else x

# ---- functions of elements
kernels.fill_from(torch, exclude=["equal", "imag"])
add(ops.equal, torch.eq)
add(ops.where, torch.where)
add(ops.bitwise_invert, torch.bitwise_not)
add(ops.conj, torch.conj_physical)
add(ops.imag, torch.zeros_like)
add(ops.imag, torch.imag, dtypes.COMPLEX)
add(ops.sign, lambda x: torch.where(x == x, torch.sign(x), x), dtypes.FLOATING)
for name in ["floor", "ceil", "round", "trunc"]:
    add(getattr(ops, name), lambda x: x, dtypes.INTEGER)
# MKL's square roots are one unit in the last place off here and there; of a complex number it is the C library's.
add(ops.sqrt, lambda x: torch.sqrt(x.double()).float(), [dtypes.float32])
add(ops.sqrt, lambda x: torch.where(x > 0, torch.sqrt(x + 0j).real, torch.sqrt(x)), [dtypes.float64])


def maximum(x1, x2):
    """+0 is larger than -0."""
    return torch.where(x1 == x2, torch.where(torch.signbit(x1), x2, x1), torch.maximum(x1, x2))


add(ops.maximum, maximum, dtypes.FLOATING)
add(ops.minimum, lambda x1, x2: -maximum(-x1, -x2), dtypes.FLOATING)


@kernels.implements(ops.floor_divide, dtypes=dtypes.FLOATING)
def floor_divide(x1, x2):
    """A quotient that was rounded up to an integer, below 2^53, has nearly the divisor as its remainder."""
    x, y = x1.double(), x2.double()
    q = x / y
    above = (q == torch.floor(q)) & (q.abs() < 2.0**53) & (torch.remainder(x, y) / y > 0.5)
    return (torch.floor(q) - above.double()).to(x1.dtype)


@kernels.implements(ops.remainder, dtypes=dtypes.FLOATING)
def remainder(x1, x2):
    x, y = x1.double(), x2.double()
    for multiple in (2.0**600 * y * 2.0**600, 2.0**600 * y):  # PyTorch's is NaN where x / y overflows
        x = torch.where((x / y).isinf() & x.isfinite() & (y != 0), torch.fmod(x, multiple), x)
    r = torch.remainder(x, y).to(x1.dtype)
    return torch.where(r == 0, torch.copysign(r, x2), r)


def divided(function, by_minus_one, x1, x2):
    """Integers by neither 0 nor -1: a processor refuses the one, and the other of the smallest integer."""
    zero, minus = x2 == 0, (x2 < 0) & (x2 == -1)  # 255, of uint8, is equal to -1
    y = function(x1, torch.where(zero | minus, 1, x2))
    return torch.where(zero, 0, torch.where(minus, by_minus_one * x1, y))


add(ops.floor_divide, partial(divided, torch.floor_divide, -1), dtypes.INTEGER)
add(ops.remainder, partial(divided, torch.remainder, 0), dtypes.INTEGER)


# ---- casts and constants
@kernels.implements(ops.astype)
def astype(x, *, dtype):
    if x.is_floating_point() and dtype.kind in ("int", "uint"):
        return saturated(x.float() if x.itemsize == 2 else x, dtype)
    if dtype.kind == "bool":
        return truth(x)
    y = (rounded_to_odd(x) if dtype in dtypes.HALF and x.itemsize > 2 else x).to(native[dtype])
    if not (x.is_floating_point() and y.is_floating_point() and 2 in (x.itemsize, y.itemsize)):
        return y
    bits, ends = integers(y), torch.iinfo(integers(y).dtype)  # NaN loses its sign here and there
    return torch.where(integers(x) < 0, bits | ends.min, bits & ends.max).view(y.dtype)


def saturated(x, dtype):
    """Truncated where dtype holds that, else its smallest or largest integer; 0 for NaN."""
    inside = (x > float(dtype.min - 1)) & (x < float(dtype.max + 1))
    y = torch.where(inside, x, 0).to(native[dtype])
    low, high = (torch.full((), end, dtype=y.dtype) for end in (dtype.min, dtype.max))
    return torch.where(inside | torch.isnan(x), y, torch.where(x < 0, low, high))


def rounded_to_odd(x):
    """x as float32, with an odd last place where that is not exact: rounded once more, to half precision, this
    is x rounded once (S. Boldo and G. Melquiond, 2008).
    """
    if x.dtype in (torch.int64, torch.uint64):  # float64 holds them if beyond 2^53 twelve places become one
        bits = signed(x)
        fewer = bits & ~0xFFF | ((bits & 0xFFF) != 0).long() << 11
        x = torch.where((bits >> 53 == 0) | (bits >> 53 == -1), bits, fewer).view(x.dtype)
    x = x.double()
    y = x.float()
    below = integers(y) - (y.double().abs() > x.abs()).int()
    return torch.where(torch.isfinite(y), (below | (y.double() != x)).view(torch.float32), y)


add(ops.full, lambda *, shape, fill_value, dtype: torch.full(shape, fill_value, dtype=native[dtype]))


@kernels.implements(ops.arange)
def arange(*, start, step, size, dtype):
    """start + i * step: integers exactly, modulo 2**64; floats rounded once, from float64."""
    if dtype.kind == "float":
        return astype(start + torch.arange(size, dtype=torch.float64) * step, dtype=dtype)
    start, step = ((n + 2**63) % 2**64 - 2**63 for n in (start, step))
    return (start + torch.arange(size) * step).to(native[dtype])


@kernels.implements(ops.random_bits)
def random_bits(key, counter, *, shape, dtype):
    """Philox4x32-10, counted by element: the same bits on every backend."""
    words, low = math.prod(shape) * dtype.itemsize // 4, 0xFFFFFFFF
    block = signed(counter) + torch.arange(-(-words // 4))
    x0, x1, x2, x3 = block & low, block >> 32 & low, 0 * block, 0 * block
    for n in range(10):
        k0, k1 = int(key[0]) + n * 0x9E3779B9 & low, int(key[1]) + n * 0xBB67AE85 & low
        p0, p1 = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = p1 >> 32 & low ^ x1 ^ k0, p1 & low, p0 >> 32 & low ^ x3 ^ k1, p0 & low
    bits = torch.stack([x0, x1, x2, x3], dim=-1).to(torch.uint32).reshape(-1)[:words]
    return bits.view(native[dtype]).reshape(shape)


# ---- movement and indexing
add(ops.reshape, lambda x, *, shape: x.reshape(shape))
add(ops.permute_dims, lambda x, *, axes: x.permute(axes))
add(ops.broadcast_to, lambda x, *, shape: x.broadcast_to(shape))
add(ops.flip, lambda x, *, axis: x.flip(axis))
add(ops.concat, lambda *xs, axis: torch.cat(xs, axis))
add(ops.nonzero, lambda x: torch.nonzero(x, as_tuple=True))


@kernels.implements(ops.pad)
def pad(x, *, pad_width, constant_value):
    return torch.constant_pad_nd(x, sum(pad_width[::-1], ()), constant_value)


def region(x, start, size, step):
    """The view of x with that region, forwards along each axis; and the axes along which it is backwards."""
    for axis, (n, first, count, by) in enumerate(zip(x.shape, start, size, step, strict=True)):
        low, high = sorted([first, first + (count - 1) * by])
        if count and not 0 <= low <= high < n:
            raise IndexError("the region leaves x")
        x = x[(slice(None),) * axis + (slice(low, high + 1, abs(by)) if count else slice(0),)]
    return x, [axis for axis, by in enumerate(step) if by < 0]


@kernels.implements(ops.strided_slice)
def strided_slice(x, **where):
    view, backwards = region(x, **where)
    return view.flip(backwards) if backwards else view


@kernels.implements(ops.strided_update)
def strided_update(x, value, *, overwrite, **where):
    x = x if overwrite else x.clone()
    view, backwards = region(x, **where)
    if value.shape != view.shape:
        raise ValueError("the value does not fit the region")
    view.copy_(value.flip(backwards))
    return x


def counted(indices, sizes):
    """Indices counted from the start; those outside are refused, which PyTorch does not do everywhere."""
    for index, size in zip(indices, sizes, strict=True):
        if ((index < -size) | (index >= size)).any():
            raise IndexError("an index is out of bounds")
    return [torch.where(index < 0, index + size, index) for index, size in zip(indices, sizes, strict=True)]


add(ops.take_along_axis, lambda x, i, *, axis: torch.take_along_dim(x, *counted([i], [x.shape[axis]]), axis))


@kernels.implements(ops.gather)
def gather(x, *indices, axis):
    return x[(slice(None),) * (x.ndim + axis) + tuple(counted(indices, x.shape[axis:][: len(indices)]))]


def in_rows(write, x, values, *indices, axis, overwrite):
    """x, or a copy of it, with values written to places along one axis, to which the indexed axes are joined."""
    axis, end, place = x.ndim + axis, x.ndim + axis + len(indices), 0
    before, sizes, behind = x.shape[:axis], x.shape[axis:end], x.shape[end:]
    if values.shape != before + indices[0].shape + behind:
        raise ValueError("the values do not fit the places")
    for index, size in zip(counted(indices, sizes), sizes, strict=True):
        place = place * size + index
    x = x if overwrite and x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)
    values = values.reshape(*before, place.numel(), *behind)
    write(x.view(*before, math.prod(sizes), *behind), axis, place.reshape(-1), values)
    return x


def put(view, axis, place, values):
    """Equal places all get the last of their values, so that it does not matter which thread is the last."""
    last = torch.zeros(view.shape[axis], dtype=torch.int64)
    last.scatter_reduce_(0, place, torch.arange(len(place)), "amax")
    view.index_copy_(axis, place, values.index_select(axis, last[place]))


add(ops.scatter, partial(in_rows, put))
add(ops.scatter_add, partial(in_rows, torch.Tensor.index_add_))


# ---- reductions and order
def over_axes(function, x, *, axis, keepdims, **more):
    """A reduction over a tuple of axes; PyTorch takes an empty one for all."""
    return function(x, axis, keepdims, **more) if axis else x


def accumulated(function, x, *, dtype, **params):
    """A sum or a product in corelib's dtype for the accumulator."""
    y = signed(astype(x, dtype=dtype))
    return function(y, dtype=y.dtype, **params).view(native[dtype])


def product(x, axes, keepdims, dtype):
    """PyTorch's has one axis; those that follow are counted from the end."""
    return reduce(lambda x, axis: torch.prod(x, axis, keepdims, dtype=dtype), sorted(axes), x)


add(ops.max, partial(over_axes, torch.amax))
add(ops.min, partial(over_axes, torch.amin))
add(ops.any, lambda x, **how: over_axes(torch.any, truth(x), **how))
add(ops.all, lambda x, **how: over_axes(torch.all, truth(x), **how))
add(ops.sum, partial(accumulated, partial(over_axes, torch.sum)))
add(ops.prod, partial(accumulated, partial(over_axes, product)))
add(ops.cumulative_sum, partial(accumulated, lambda x, *, axis, dtype: torch.cumsum(x, axis, dtype=dtype)))
add(ops.cumulative_prod, partial(accumulated, lambda x, *, axis, dtype: torch.cumprod(x, axis, dtype=dtype)))
add(ops.argmax, lambda x, *, axis, keepdims: torch.argmax(number(x), axis, keepdims))
add(ops.argmin, lambda x, *, axis, keepdims: torch.argmin(number(x), axis, keepdims))
add(ops.sort, lambda x, *, axis, **how: torch.sort(x, dim=axis, stable=True, **how).values)
add(ops.argsort, lambda x, *, axis, **how: torch.sort(x, dim=axis, stable=True, **how).indices)


@kernels.implements(ops.searchsorted)
def searchsorted(x1, x2, *, side):
    """NaN, which is last, has no order in PyTorch's: it is kept out."""
    x1, x2 = number(x1).contiguous(), number(x2).contiguous()
    end = int((x1 == x1).sum())
    found = torch.searchsorted(x1[:end], x2, side=side)
    return torch.where(x2 == x2, found, end if side == "left" else len(x1))


# ---- linear algebra and Fourier transforms
def finite(x):
    """x; infinities, with which LAPACK may never end, and NaN are refused."""
    if not torch.isfinite(x).all():
        raise ValueError("not finite")
    return x


@kernels.implements(ops.linalg.cholesky)
def cholesky(x, *, upper):
    lower = finite(x.tril())
    return torch.linalg.cholesky(lower.mH if upper else lower, upper=upper)


@kernels.implements(ops.linalg.solve)
def solve(x1, x2):
    """PyTorch would take x2 with one axis less than x1 for vectors, one for each matrix."""
    if x2.ndim == 1:
        return torch.linalg.solve(x1, x2[:, None])[..., 0]
    return torch.linalg.solve(x1, x2[(None,) * (x1.ndim - x2.ndim)])


add(ops.linalg.det, torch.linalg.det)
add(ops.linalg.slogdet, lambda x: tuple(torch.linalg.slogdet(x)))
add(ops.linalg.eigh, lambda x: tuple(torch.linalg.eigh(finite(x.tril()))))
add(ops.linalg.eig, lambda x: tuple(torch.linalg.eig(finite(x))))
add(ops.linalg.qr, lambda x, *, mode: tuple(torch.linalg.qr(x, mode)))
add(ops.linalg.svd, lambda x, *, full_matrices: tuple(torch.linalg.svd(finite(x), full_matrices)))


def transform(function, x, *, n, axis, norm):
    """A Fourier transform; of no elements it is as many zeros as of some, which MKL refuses."""
    if x.numel():
        return function(x, n, axis, norm)
    y = function(x.new_zeros([size or 1 for size in x.shape]), n, axis, norm)
    return y.new_zeros([*x.shape[:axis], y.shape[axis], *x.shape[x.ndim + axis + 1 :]])


for name in ["fft", "ifft", "rfft", "irfft"]:
    add(getattr(ops.fft, name), partial(transform, getattr(torch.fft, name)))
