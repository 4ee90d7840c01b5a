"""Initial values of parameters, under PyTorch's names: each function changes its tensor in place and returns
it.

Random numbers come from ``generator`` (by default the global one), so that the same seed gives the same
parameters on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import no_grad
from ..dtypes import float64
from ..errors import ArgumentError, ShapeError
from ..op import calls
from ..tensor import Tensor


def _draw(tensor: Tensor, distribution: str, a: float, b: float, generator: Any) -> Tensor:
    """New random numbers as ``tensor``'s value."""
    from .. import random

    draw: Callable[..., Tensor] = getattr(random, distribution)
    return _set(tensor, draw(tensor.shape, a, b, tensor.dtype, generator=generator, device=tensor._backend))


@no_grad()
def _set(tensor: Tensor, value: Tensor) -> Tensor:
    return tensor._rebind(value)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element ``val``."""
    return _set(tensor, calls.full(tensor.shape, val, dtype=tensor.dtype, device=tensor._backend))


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    return _draw(tensor, "uniform", a, b, generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _draw(tensor, "normal", mean, std, generator)


# -- variance that keeps signals' size -----------------------------------------------------------------------

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before a nonlinearity are larger, so that signals keep their size;
    ``param`` is leaky_relu's slope.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        from ..errors import nearest

        raise ArgumentError(
            f"calculate_gain: no gain for {nonlinearity!r}{nearest(nonlinearity, [*_GAINS, 'leaky_relu'])}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """Inputs and outputs of a unit: for weights of shape (out, in, *kernel), in and out times the size of the
    kernel.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"a fan needs at least two axes (out, in, ...), the tensor has shape {tensor.shape}")
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def _glorot_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(sum(fans(tensor)), 1))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform with variance gain**2 * 2 / (fan_in + fan_out) (Glorot and Bengio, AISTATS 2010)."""
    bound = math.sqrt(3) * _glorot_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with variance gain**2 * 2 / (fan_in + fan_out)."""
    return normal_(tensor, 0.0, _glorot_std(tensor, gain), generator)


def _he_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans(tensor)[mode == "fan_out"], 1))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Uniform with variance gain**2 / fan (He et al., arXiv:1502.01852); ``a`` is leaky_relu's slope."""
    bound = math.sqrt(3) * _he_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Normal with variance gain**2 / fan; ``a`` is leaky_relu's slope."""
    return normal_(tensor, 0.0, _he_std(tensor, a, mode, nonlinearity), generator)


# -- orthogonal matrices -------------------------------------------------------------------------------------


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al.,
    arXiv:1312.6120).

    Uniform over such matrices: the orthogonal factor of a normal one, with the triangular factor's diagonal
    made positive. Axes behind the first count as one. Computed in float64 on the host, hence equal on every
    backend up to the normal numbers.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs at least two axes, the tensor has shape {tensor.shape}")
    import numpy

    from .. import random
    from ..ops.interchange import asarray

    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = random.normal(
        (rows, columns), 0.0, 1.0, float64, generator=generator, device=tensor._backend
    ).numpy()
    q, r = numpy.linalg.qr(flat.T if rows < columns else flat)
    q = q * numpy.where(numpy.diagonal(r) < 0, -1.0, 1.0)
    matrix = (q.T if rows < columns else q).reshape(tensor.shape) * gain
    value = asarray(numpy.ascontiguousarray(matrix), device=tensor._backend)
    return _set(tensor, calls.astype(value, tensor.dtype))


# -- the truncated normal distribution -----------------------------------------------------------------------


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """Normal with the given mean and standard deviation, restricted to [a, b]: no rejection, one uniform
    number per element.
    """
    if not (std > 0 and a < b):
        raise ArgumentError(f"trunc_normal_ needs std > 0 and a < b, got std={std}, a={a}, b={b}")
    from .. import random

    low, high = (0.5 * (1 + math.erf((limit - mean) / (std * math.sqrt(2)))) for limit in (a, b))
    if not low < high:
        raise ArgumentError(f"trunc_normal_: [{a}, {b}] has no probability under mean={mean}, std={std}")
    with no_grad():
        p = random.uniform(tensor.shape, low, high, float64, generator=generator, device=tensor._backend)
        x = calls.add(calls.multiply(normal_quantile(p), std), mean)
        return _set(tensor, calls.astype(calls.maximum(calls.minimum(x, float(b)), float(a)), tensor.dtype))


# Coefficients of M. Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied
# Statistics 37 (1988): rational functions of degree 7, numerator and denominator by falling power, for the
# centre and two ranges of the tails.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _rational(x: Tensor, coefficients: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    parts = []
    for falling in coefficients:
        value: Any = falling[0]
        for c in falling[1:]:
            value = calls.add(calls.multiply(x, value), c)
        parts.append(value)
    return calls.divide(parts[0], parts[1])


def normal_quantile(p: Tensor) -> Tensor:
    """The x below which a standard normal number lies with probability ``p``, for float64 p in (0, 1): AS
    241, to about 1e-15.
    """
    q = calls.subtract(p, 0.5)
    centre = calls.multiply(q, _rational(calls.subtract(0.180625, calls.multiply(q, q)), _CENTRE))
    tail = calls.maximum(calls.minimum(p, calls.subtract(1, p)), 2.0**-1022)
    r = calls.sqrt(calls.negative(calls.log(tail)))
    near, far = _rational(calls.subtract(r, 1.6), _NEAR), _rational(calls.subtract(r, 5), _FAR)
    outer = calls.where(calls.less_equal(r, 5), near, far)
    outer = calls.where(calls.less(q, 0), calls.negative(outer), outer)
    return calls.where(calls.less_equal(calls.abs(q), 0.425), centre, outer)
