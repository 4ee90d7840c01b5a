"""Data types: the objects, their limits, and the one promotion table that every backend obeys.

A :class:`DType` is a singleton, compared by identity on the hot path. Backends never promote: kernels receive
operands of equal dtype, or a Python scalar as one of them. Python scalars are weak: they take the tensor's
dtype. This module knows neither tensors nor backends, and imports NumPy only when somebody hands it a NumPy
dtype.
"""

from __future__ import annotations

import builtins
import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any

from .errors import DTypeError, nearest

__all__ = [
    "ALL", "BOOLEAN", "COMPLEX", "FLOATING", "HALF", "INEXACT", "INTEGER", "NUMERIC", "ORDERED", "REAL", "SIGNED", "UNSIGNED",
    "DType", "as_dtype", "bfloat16", "bool", "can_cast", "complex128", "complex64", "default_dtype", "finfo", "float16",
    "float32", "float64", "iinfo", "int16", "int32", "int64", "int8", "isdtype", "promote", "result_type",
    "uint16", "uint32", "uint64", "uint8", "weak_dtype",
]  # fmt: skip


class DType:
    """One data type: ``name``, ``kind`` (``bool int uint float complex``), ``bits``, ``itemsize`` in bytes
    and ``format``, the code of :mod:`struct` for one element (of a complex dtype: for each of its two parts;
    of bfloat16, which has none: "H", its bits). Integer types have ``min`` and ``max``; floating types have
    ``eps``, ``smallest_normal``, ``min`` and ``max``; a complex type has the ``eps`` and ``smallest_normal``
    of its parts. ``real`` is the dtype of the parts of a complex dtype, and any other dtype itself;
    ``complex`` the complex dtype that holds a floating dtype.
    """

    __slots__ = (
        "_numpy", "bits", "complex", "digits", "eps", "format", "index", "itemsize", "kind", "max", "min", "name", "real",
        "smallest_normal",
    )  # fmt: skip

    def __init__(
        self, name: str, kind: str, bits: int, format: str, digits: int = 0, exponent: int = 0
    ) -> None:
        self.name, self.kind, self.bits, self.format, self.digits = name, kind, bits, format, digits
        self.itemsize = builtins.max(bits // 8, 1)
        self.index = len(ALL)
        self._numpy: Any = None
        self.min: Any = None
        self.max: Any = None
        self.eps: Any = None
        self.smallest_normal: Any = None
        self.real: DType = self
        self.complex: Any = self if kind == "complex" else None
        if kind == "int":
            self.min, self.max = -(1 << bits - 1), (1 << bits - 1) - 1
        elif kind == "uint":
            self.min, self.max = 0, (1 << bits) - 1
        elif digits:
            self.eps = math.ldexp(1.0, 1 - digits)
            self.smallest_normal = math.ldexp(1.0, 2 - exponent)
            self.max = math.ldexp(1 - math.ldexp(1.0, -digits), exponent)
            self.min = -self.max
        _BY_NAME[name] = self
        ALL.append(self)

    @property
    def numpy(self) -> Any:
        """The NumPy dtype of the same name (imports NumPy at first use; bfloat16 is ml_dtypes')."""
        if self._numpy is None:
            import numpy

            if self.name == "bfloat16":
                import ml_dtypes

                self._numpy = numpy.dtype(ml_dtypes.bfloat16)
            else:
                self._numpy = numpy.dtype(self.name)
        return self._numpy

    @property
    def __numpy_dtype__(self) -> Any:
        """What NumPy asks for where it needs a dtype: ``numpy.zeros(3, corelib.float32)`` (NumPy 2.4 or newer)."""
        return self.numpy

    def round(self, x: float) -> float:
        """The value of this floating dtype nearest to the double ``x``, ties to even; infinity beyond the
        largest.
        """
        if self.digits == 53 or x == 0 or not math.isfinite(x):
            return x
        if abs(x) >= 2 * self.max:
            return math.copysign(math.inf, x)
        # the grid at x: the last of `digits` binary places, or that of the subnormal numbers
        place = builtins.max(
            math.frexp(x)[1] - self.digits, math.frexp(self.smallest_normal)[1] - self.digits
        )
        rounded = math.ldexp(builtins.round(math.ldexp(x, -place)), place)
        return math.copysign(rounded if abs(rounded) <= self.max else math.inf, x)

    def pack(self, values: Sequence[Any]) -> Any:
        """Python numbers as a buffer of this dtype in native byte order; floats are rounded to it."""
        if self.kind == "bool":
            return bytes(values)
        if self.kind == "complex":
            return array(self.format, [part for v in values for part in (v.real, v.imag)])
        if self.name == "float16":
            return struct.pack(f"={len(values)}e", *[self.round(v) for v in values])
        if self.name == "bfloat16":  # the upper half of a float32's bits
            wide = array("I", array("f", [self.round(v) for v in values]).tobytes())
            return array(
                "H",
                [bits >> 16 | (v != v) << 6 for bits, v in zip(wide, values, strict=True)],  # a NaN stays one
            )
        return array(self.format, values)

    def buffer(self, array: Any) -> Any:
        """Elements of this dtype as a buffer: a NumPy array of ml_dtypes' bfloat16 is none, but its bits are."""
        return array.view("uint16") if self.name == "bfloat16" and hasattr(array, "view") else array

    def unpack(self, buffer: Any) -> list[Any]:
        """The elements of a C-contiguous buffer of this dtype in native byte order as Python numbers."""
        raw = memoryview(self.buffer(buffer))
        if not raw.nbytes:
            return []
        flat: Any = raw.cast("B") if raw.format != "B" or raw.ndim != 1 else raw
        if self.kind == "complex":
            parts = flat.cast(self.format).tolist()
            return [complex(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        if self.name == "float16":
            return list(struct.unpack(f"={len(flat) // 2}e", flat))
        if self.name == "bfloat16":
            return array("f", array("I", [bits << 16 for bits in flat.cast("H")]).tobytes()).tolist()
        return flat.cast(self.format).tolist()

    def __repr__(self) -> str:
        return f"corelib.{self.name}"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)

    def __eq__(self, other: object) -> builtins.bool:
        if self is other:
            return True
        if isinstance(other, DType):
            return False
        try:
            return as_dtype(other) is self
        except DTypeError:
            return NotImplemented

    __hash__ = object.__hash__  # stays in C: dtypes are dictionary keys on the hot path


_BY_NAME: dict[str, DType] = {}
ALL: list[DType] = []

bool = DType("bool", "bool", 8, "?")
int8 = DType("int8", "int", 8, "b")
int16 = DType("int16", "int", 16, "h")
int32 = DType("int32", "int", 32, "i")
int64 = DType("int64", "int", 64, "q")
uint8 = DType("uint8", "uint", 8, "B")
uint16 = DType("uint16", "uint", 16, "H")
uint32 = DType("uint32", "uint", 32, "I")
uint64 = DType("uint64", "uint", 64, "Q")
float32 = DType("float32", "float", 32, "f", 24, 128)
float64 = DType("float64", "float", 64, "d", 53, 1024)
float16 = DType("float16", "float", 16, "e", 11, 16)
bfloat16 = DType("bfloat16", "float", 16, "H", 8, 128)
complex64 = DType("complex64", "complex", 64, "f", 24, 128)
complex128 = DType("complex128", "complex", 128, "d", 53, 1024)
complex64.real, complex128.real, complex64.min, complex64.max = float32, float64, None, None
complex128.min = complex128.max = None
for _real, _complex in (
    (float16, complex64),
    (bfloat16, complex64),
    (float32, complex64),
    (float64, complex128),
):
    _real.complex = _complex

BOOLEAN = (bool,)
SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INTEGER = SIGNED + UNSIGNED
# The floating dtypes that are computed in. Those of HALF are stored: an op on them is the op on float32, with its
# result rounded once; a rule accepts them wherever it accepts float32.
FLOATING = (float32, float64)
HALF = (float16, bfloat16)
COMPLEX = (complex64, complex128)
INEXACT = FLOATING + COMPLEX
REAL = INTEGER + FLOATING
NUMERIC = REAL + COMPLEX
ORDERED = BOOLEAN + REAL

_DEFAULT = {"complex": complex64, "float": float32, "int": int64, "uint": uint64, "bool": bool}
RANK = {"bool": 0, "uint": 1, "int": 1, "float": 2, "complex": 3}
_PYTHON: dict[Any, str] = {
    builtins.bool: "bool", builtins.int: "int", builtins.float: "float", builtins.complex: "complex",
}  # fmt: skip


def default_dtype(kind: str) -> DType:
    """The default dtype of a kind: complex64, float32, int64, uint64 or bool."""
    return _DEFAULT[kind]


def as_dtype(obj: Any) -> DType:
    """The :class:`DType` that ``obj`` names: a DType, a name, a NumPy dtype or scalar type, or ``bool int
    float complex``.
    """
    if obj.__class__ is DType:
        return obj
    try:
        found = _CACHE.get(obj)
    except TypeError:
        found = None
    if found is not None:
        return found
    if isinstance(obj, str):
        name = obj
    elif isinstance(obj, type) and obj in _PYTHON:
        return _DEFAULT[_PYTHON[obj]]
    else:
        prefix = f"{type(obj).__module__}."  # repr(torch.float32) is "torch.float32", and it has no name
        name = getattr(obj, "name", None) or getattr(obj, "__name__", None) or repr(obj).removeprefix(prefix)
    found = _BY_NAME.get(name)
    if found is None:
        raise DTypeError(
            f"corelib has no dtype {name!r}{nearest(name, _BY_NAME)} (there are {', '.join(_BY_NAME)})"
        )
    _CACHE[obj] = found
    return found


_CACHE: dict[Any, DType] = {}


def _dtype_of(obj: Any) -> DType:
    """The dtype of a tensor or an array, or the one that ``obj`` names; numpy.float32 is a type whose
    ``dtype`` describes its instances.
    """
    return as_dtype(obj if isinstance(obj, type) else getattr(obj, "dtype", obj))


def _promoted(a: DType, b: DType) -> DType | None:
    if a is b:
        return a
    kinds = {a.kind, b.kind}
    if "bool" in kinds:
        return b if a.kind == "bool" else a
    if a in HALF and b in HALF:  # neither holds the other
        return float32
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    if kinds == {"float", "complex"}:
        return a.complex if a.complex.bits > b.complex.bits else b.complex
    if a.kind not in ("int", "uint") or b.kind not in ("int", "uint"):
        return a if RANK[a.kind] > RANK[b.kind] else b  # an integer takes the other's dtype
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    bits = signed.bits if signed.bits > unsigned.bits else 2 * unsigned.bits
    return _BY_NAME.get(f"int{bits}")


_PROMOTION: dict[tuple[DType, DType], DType | None] = {(a, b): _promoted(a, b) for a in ALL for b in ALL}


def promote(a: DType, b: DType) -> DType:
    """The dtype of an op on operands of dtypes ``a`` and ``b``.

    The array API standard's table; mixed kinds: bool with a number gives the number's dtype, an integer with
    a floating dtype gives the floating dtype. No integer dtype holds int64 and uint64, so that pair is
    refused. float16 and bfloat16 together give float32; a floating dtype with a complex one gives the complex
    dtype that holds both.
    """
    found = _PROMOTION[a, b]
    if found is None:
        raise DTypeError(f"no dtype holds both {a.name} and {b.name}: cast one operand with .astype(...)")
    return found


def weak_dtype(scalar: Any, dtype: DType) -> DType:
    """The dtype of an op on a Python scalar and a tensor of ``dtype``: the tensor's, unless the scalar's kind
    is higher. A complex number and a floating dtype give the complex dtype that holds it.
    """
    kind = _PYTHON.get(scalar.__class__)
    if kind is None:
        raise DTypeError(f"a Python bool, int, float or complex was needed, got {scalar.__class__.__name__}")
    if RANK[kind] <= RANK[dtype.kind]:
        return dtype
    return dtype.complex if kind == "complex" and dtype.complex else _DEFAULT[kind]


def goes_into(value: DType, dtype: DType) -> builtins.bool:
    """Whether ``x[...] = v`` and ``x += v`` cast values of one dtype into a tensor of another unasked: its kind
    holds theirs, and no sign is lost.
    """
    return RANK[value.kind] <= RANK[dtype.kind] and (value.kind, dtype.kind) != ("int", "uint")


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that an op on these tensors, dtypes and Python scalars would have.

    Example: ``result_type(corelib.int32, corelib.float32) is corelib.float32``.
    """
    scalars = [a for a in arrays_and_dtypes if a.__class__ in _PYTHON]
    strong = [_dtype_of(a) for a in arrays_and_dtypes if a.__class__ not in _PYTHON]
    if not strong:
        if not scalars:
            raise DTypeError("result_type needs at least one tensor, dtype or scalar")
        strong = [_DEFAULT[_PYTHON[scalars[0].__class__]]]
    result = strong[0]
    for dtype in strong[1:]:
        result = promote(result, dtype)
    for scalar in scalars:
        result = weak_dtype(scalar, result)
    return result


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether promotion can turn ``from_`` (a dtype or a tensor) into the dtype ``to``."""
    source, target = _dtype_of(from_), as_dtype(to)
    return _PROMOTION[source, target] is target


_KINDS = {
    "bool": BOOLEAN, "signed integer": SIGNED, "unsigned integer": UNSIGNED, "integral": INTEGER,
    "real floating": FLOATING + HALF, "complex floating": COMPLEX, "numeric": NUMERIC + HALF,
}  # fmt: skip


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether ``dtype`` is of ``kind``: a dtype, one of the standard's kind names, or a tuple of these."""
    dtype = as_dtype(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise DTypeError(
                f"isdtype: unknown kind {kind!r}{nearest(kind, _KINDS)} (there are {', '.join(_KINDS)})"
            )
        return dtype in _KINDS[kind]
    return dtype is as_dtype(kind)


class iinfo:
    """Limits of an integer dtype: ``bits``, ``min``, ``max``, ``dtype``."""

    __slots__ = ("bits", "dtype", "max", "min")

    def __init__(self, type: Any, /) -> None:
        self.dtype = _dtype_of(type)
        if self.dtype not in INTEGER:
            raise DTypeError(f"iinfo needs an integer dtype, got {self.dtype.name}")
        self.bits, self.min, self.max = self.dtype.bits, self.dtype.min, self.dtype.max

    def __repr__(self) -> str:
        return f"iinfo({self.dtype.name}: bits={self.bits}, min={self.min}, max={self.max})"


class finfo:
    """Limits of a floating dtype: ``bits``, ``eps``, ``min``, ``max``, ``smallest_normal``, ``dtype``; of a
    complex dtype, those of its parts.
    """

    __slots__ = ("bits", "dtype", "eps", "max", "min", "smallest_normal")

    def __init__(self, type: Any, /) -> None:
        d = self.dtype = _dtype_of(type).real
        if d.kind != "float":
            raise DTypeError(f"finfo needs a floating or complex dtype, got {d.name}")
        self.bits, self.eps, self.min, self.max, self.smallest_normal = (
            d.bits,
            d.eps,
            d.min,
            d.max,
            d.smallest_normal,
        )

    def __repr__(self) -> str:
        return f"finfo({self.dtype.name}: eps={self.eps}, min={self.min}, max={self.max})"
