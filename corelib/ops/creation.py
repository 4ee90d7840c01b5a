"""Creation: tensors from shapes, numbers and ranges. From data and from other libraries: ``interchange.py``.

``device=`` takes a device string, or nothing: then the active transformation or the selected backend creates.
Op bodies and derivative rules pass ``device=x._backend``, which creates exactly there, at that level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..dispatch import create, primitive
from ..dtypes import HALF, REAL, DType, as_dtype
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..params import Caller, as_integer, as_shape, checked, several
from ..rules import Spec, custom
from ..samples import Sample, calls_
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..params import Device, DTypeLike, Scalar, Shape

CONSTANT = "it has no operand"
NUMBERS = (*REAL, *HALF)
SCALAR = bool | int | float | complex


def _number(name: str, argument: str, value: Any, kinds: Any = bool | int | float) -> Any:
    """A Python number from one, from NumPy's or from a 0-d tensor; the DTypeError names the function and its
    argument.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, kinds):
        raise DTypeError(
            f"{name}: {argument} must be a {'real ' * isinstance(value, complex)}number, got {value!r}"
        )
    return value


def _kind(*values: Any) -> DType:
    """The default dtype of Python numbers together."""
    return as_dtype(
        complex
        if any(isinstance(v, complex) for v in values)
        else float
        if any(isinstance(v, float) for v in values)
        else bool
        if all(isinstance(v, bool) for v in values)
        else int
    )


def _bind_full(
    shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None
) -> tuple[tuple[()], dict[str, Any]]:
    fill_value = _number("full", "fill_value", fill_value, SCALAR)
    dtype = _kind(fill_value) if dtype is None else as_dtype(dtype)
    kind = dtype.kind
    if kind == "complex":
        fill_value = complex(fill_value)
    elif isinstance(fill_value, complex):
        raise DTypeError(f"full: {fill_value!r} does not fit {dtype.name}")
    elif kind == "float":
        fill_value = float(fill_value)
    elif kind == "bool":
        fill_value = bool(fill_value)
    elif (
        isinstance(fill_value, float)
        and not fill_value.is_integer()
        or not dtype.min <= fill_value <= dtype.max
    ):
        raise DTypeError(f"full: {fill_value!r} does not fit {dtype.name}")
    else:
        fill_value = int(fill_value)
    return (), {
        "shape": as_shape(Caller("full"), "shape", shape),
        "fill_value": fill_value,
        "dtype": dtype,
        "device": device,
    }


@custom(joint=())
def _shape_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(params["shape"], params["dtype"])


@primitive(
    kind="creation", rule=_shape_rule, nondiff=CONSTANT, bind=_bind_full, ulp=0,
    samples=calls_(
        lambda m, d: Sample(((2, 3), m.array((1,), d).data[0]), {"dtype": d}),
        lambda m, d: Sample(((), m.array((1,), d).data[0]), {"dtype": d}),
        lambda m, d: Sample(((0, 2), 1), {"dtype": d}),
    ),
)  # fmt: skip
def full(
    shape: Shape, fill_value: Scalar, *, dtype: DTypeLike | None = None, device: Device = None
) -> Tensor:
    """A tensor of ``shape`` whose elements are all ``fill_value``; dtype by default that of the value's kind."""


def _bind_arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> tuple[tuple[()], dict[str, Any]]:
    if stop is None:
        start, stop = 0, start
    start, stop, step = (
        _number("arange", name, v) for name, v in (("start", start), ("stop", stop), ("step", step))
    )
    if not all(math.isfinite(v) for v in (start, stop, step)):
        raise ShapeError(f"arange: start, stop and step must be finite, got {start}, {stop} and {step}")
    if step == 0:
        raise ShapeError("arange: step must not be 0")
    if dtype is None:
        dtype = float if any(isinstance(v, float) for v in (start, stop, step)) else int
    dtype = as_dtype(dtype)
    if dtype not in NUMBERS:
        raise DTypeError(
            f"arange does not accept {dtype.name}, it needs one of {', '.join(d.name for d in NUMBERS)}"
        )
    exact = all(isinstance(v, int) for v in (start, stop, step))
    size = max(0, -((start - stop) // step) if exact else math.ceil((stop - start) / step))
    if dtype.kind == "float":
        start, step = float(start), float(step)
    else:
        start, step = int(start), int(step)
        if size and not (
            dtype.min <= start <= dtype.max and dtype.min <= start + (size - 1) * step <= dtype.max
        ):
            raise DTypeError(
                f"arange: values from {start} to {start + (size - 1) * step} do not fit {dtype.name}"
            )
    return (), {"start": start, "step": step, "size": size, "dtype": dtype, "device": device}


@custom(NUMBERS, joint=())
def _range_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec((params["size"],), params["dtype"])


@primitive(
    kind="creation", rule=_range_rule, nondiff=CONSTANT, bind=_bind_arange, ulp=0, params=("start", "step", "size", "dtype"),
    samples=calls_(
        lambda m, d: Sample((5,), {"dtype": d}),
        lambda m, d: Sample((2, 9, 3), {"dtype": d}),
        lambda m, d: Sample((9, 2, -3) if d.kind != "uint" else (2, 3), {"dtype": d}),
        lambda m, d: Sample((0, 2, 0.25) if d.kind == "float" else (0,), {"dtype": d}),
    ),
)  # fmt: skip
def arange(
    start: Scalar,
    /,
    stop: Scalar | None = None,
    step: Scalar = 1,
    *,
    dtype: DTypeLike | None = None,
    device: Device = None,
) -> Tensor:
    """Numbers from ``start`` (default 0) to before ``stop`` in steps of ``step``: element i is start + i *
    step, rounded once.
    """


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of ``shape``; dtype float32 unless given."""
    return full(as_shape(Caller("zeros"), "shape", shape), 0, dtype=dtype or dtypes.float32, device=device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of ``shape``; dtype float32 unless given."""
    return full(as_shape(Caller("ones"), "shape", shape), 1, dtype=dtype or dtypes.float32, device=device)


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of ``shape`` whose values are unspecified (here: zeros, so that programs repeat)."""
    return full(as_shape(Caller("empty"), "shape", shape), 0, dtype=dtype or dtypes.float32, device=device)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor of x's shape, and of its dtype and device unless given, filled with ``fill_value``."""
    return _like("full_like", x, fill_value, dtype, device)


def _like(name: str, x: Any, value: Any, dtype: Any, device: Any) -> Tensor:
    shape = checked(name, x)
    return full(
        shape,
        _number(name, "fill_value", value, SCALAR),
        dtype=dtype or x.dtype,
        device=x._backend if device is None else device,
    )


def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape, and of its dtype and device unless given."""
    return _like("zeros_like", x, 0, dtype, device)


def ones_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of x's shape, and of its dtype and device unless given."""
    return _like("ones_like", x, 1, dtype, device)


def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A tensor like x with unspecified values (here: zeros)."""
    return _like("empty_like", x, 0, dtype, device)


def linspace(
    start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop`` (which is included, exactly, if ``endpoint``);
    float32 unless given.
    """
    start, stop = (_number("linspace", n, v, SCALAR) for n, v in (("start", start), ("stop", stop)))
    if dtype is None:
        dtype = (
            dtypes.complex64 if isinstance(start, complex) or isinstance(stop, complex) else dtypes.float32
        )
    dtype = as_dtype(dtype)
    if dtype.kind == "complex":
        parts = [
            linspace(a, b, num, dtype=dtype.real, device=device, endpoint=endpoint)
            for a, b in ((complex(start).real, complex(stop).real), (complex(start).imag, complex(stop).imag))
        ]
        return calls.add(calls.astype(parts[0], dtype), calls.multiply(calls.astype(parts[1], dtype), 1j))
    if isinstance(start, complex) or isinstance(stop, complex):
        raise DTypeError(f"linspace: values from {start} to {stop} do not fit {dtype.name}")
    num = as_integer(Caller("linspace"), "num", num)
    if num < 0:
        raise ShapeError(f"linspace: num must not be negative, got {num}")
    whole = dtype.kind in ("int", "uint")
    if whole and not all(dtype.min <= v <= dtype.max for v in (start, stop)):
        raise DTypeError(f"linspace: values from {start} to {stop} do not fit {dtype.name}")
    intervals = num - 1 if endpoint else num
    step = (stop - start) / intervals if intervals > 0 else 0.0
    exact = bool(endpoint) and num > 1
    kind = dtype if dtype.kind == "float" else dtypes.float64
    params = {
        "start": float(start),
        "step": float(step),
        "size": num - exact,
        "dtype": kind,
        "device": device,
    }
    x = create(arange.op, (), params)  # type: ignore[attr-defined]
    x = calls.astype(x, dtype)
    last = int(stop) if whole else stop
    return calls.concat([x, full((1,), last, dtype=dtype, device=x._backend)], axis=0) if exact else x


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the ``k``-th diagonal of an ``n_rows`` by ``n_cols`` matrix, zeros elsewhere; dtype float32
    unless given.
    """
    caller = Caller("eye")
    (height,) = as_shape(caller, "n_rows", as_integer(caller, "n_rows", n_rows))
    (width,) = (
        (height,) if n_cols is None else as_shape(caller, "n_cols", as_integer(caller, "n_cols", n_cols))
    )
    k = as_integer(caller, "k", k)
    found = as_dtype(dtype) if dtype is not None else dtypes.float32
    zeros_ = full((height * width,), 0, dtype=found, device=device)
    first = k if k >= 0 else -k * width  # in C order; one diagonal's elements are width + 1 apart
    count = max(min(height + min(k, 0), width - max(k, 0)), 0)
    if count:
        values = full((count,), 1, dtype=found, device=zeros_._backend)
        place = {"start": (first,), "size": (count,), "step": (width + 1,)}
        zeros_ = calls.strided_update(zeros_, values, **place, overwrite=True)
    return calls.reshape(zeros_, (height, width))


# -- grids and triangles -------------------------------------------------------------------------------------


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate tensors of the grid that the one-dimensional ``arrays`` span, in "xy" or "ij" order."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    for i, x in enumerate(several(Caller("meshgrid"), arrays)):
        if x.ndim > 1:
            raise ShapeError(f"meshgrid: arrays[{i}] must have at most one dimension, got shape {x.shape}")
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shape = tuple(arrays[i].size for i in order)
    place = {axis: p for p, axis in enumerate(order)}
    views = [
        calls.reshape(a, tuple(a.size if p == place[i] else 1 for p in range(n)))
        for i, a in enumerate(arrays)
    ]
    return tuple(calls.broadcast_to(v, shape) for v in views)


__all__: Sequence[str] = (
    "arange", "empty", "empty_like", "eye", "full", "full_like", "linspace", "meshgrid", "ones", "ones_like", "zeros",
    "zeros_like",
)  # fmt: skip
