"""Named shape and dtype rules: what an op's result looks like, computed from what its operands look like.

A rule is called as ``rule(op, specs, params)`` and returns the :class:`Spec` of the result, or a tuple of
them; it raises ShapeError or DTypeError in the words that every backend's users see. Rules serve conformance,
tracing and error messages; they are not run on the hot path, where a kernel that fails is explained by
running the rule afterwards. Rules use integer arithmetic only, so that a dimension may become symbolic. This
module knows neither tensors nor backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import dtypes
from .dtypes import DType
from .errors import DTypeError, ShapeError

_EXACT = ("bool", "int", "uint")  # kinds of numbers that are no floats


class Spec(NamedTuple):
    """What is known of a tensor without its values. ``weak`` marks a Python scalar, which takes the others'
    dtype.
    """

    shape: tuple[int, ...]
    dtype: DType
    device: str | None = None
    weak: bool = False

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class Rule:
    """A rule together with what the dispatcher needs of it before a kernel is called.

    ``accepts``: dtypes of the promoted operands; float16 and bfloat16 wherever float32 is, but for ``half=False``
    (an op that is not the one on float32, rounded). ``joint``: positions of the operands that are promoted to one
    dtype (None: all of them). ``integers``: what becomes of integers and booleans that are not accepted:
    ``"refuse"`` or ``"float"`` (cast to the default floating dtype). ``fixed``: dtypes that operands outside
    ``joint`` are required to have, by position (``-1`` for all the others); int64 there accepts any integer
    dtype, which the core casts.
    """

    __slots__ = ("accepts", "fixed", "fn", "integers", "joint", "name")

    def __init__(
        self,
        fn: Callable[..., Any],
        accepts: Sequence[DType],
        *,
        joint: tuple[int, ...] | None = None,
        integers: str = "refuse",
        fixed: dict[int, DType] | None = None,
        half: bool = True,
    ) -> None:
        stored = [d for d in dtypes.HALF if half and dtypes.float32 in accepts and d not in accepts]
        self.fn, self.accepts, self.joint, self.integers = fn, (*accepts, *stored), joint, integers
        self.fixed = fixed or {}
        self.name = fn.__qualname__.split(".")[0]

    def __call__(self, op: Any, specs: Sequence[Spec | None], params: dict[str, Any]) -> Any:
        """The spec of the result, or a tuple of them; raises what the user of the op is to read."""
        for position, spec in enumerate(specs):
            if spec is None:
                continue
            if self.joint is None or position in self.joint:
                self.check(op, spec.dtype)
            else:
                self.check_fixed(op, position, spec.dtype)
        return self.fn(op, specs, params)

    def check(self, op: Any, dtype: DType) -> None:
        """Raise DTypeError unless ``dtype`` is accepted for the promoted operands."""
        if dtype in self.accepts or (self.integers == "float" and dtype.kind in _EXACT):
            return
        names = ", ".join(d.name for d in self.accepts)
        hint = (
            ": call x.astype(corelib.float32)"
            if (dtype.kind in _EXACT or dtype in dtypes.HALF)
            and (dtypes.float32 in self.accepts or dtypes.complex64 in self.accepts)
            else ": take corelib.real(x), corelib.imag(x) or corelib.abs(x)"
            if dtype.kind == "complex"
            else ""
        )
        raise DTypeError(f"{op.name} does not accept {dtype.name}, it needs one of {names}{hint}")

    def check_fixed(self, op: Any, position: int, dtype: DType) -> None:
        """Raise DTypeError unless the operand outside the promoted ones has the dtype that the rule fixes."""
        wanted = self.fixed.get(position, self.fixed.get(-1))
        if wanted is None or dtype is wanted or (wanted is dtypes.int64 and dtype in dtypes.INTEGER):
            return
        kind = "an integer dtype" if wanted is dtypes.int64 else wanted.name
        raise DTypeError(f"{op.name}: {op.operand_name(position)} must have {kind}, got {dtype.name}")


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of operands under broadcasting, or ShapeError with the shapes in it."""
    ndim = max((len(s) for s in shapes), default=0)
    result = []
    for i in range(-ndim, 0):
        size = 1
        for shape in shapes:
            if len(shape) >= -i and shape[i] != 1:
                if size != 1 and shape[i] != size:
                    listed = " and ".join(str(tuple(s)) for s in shapes)
                    raise ShapeError(
                        f"shapes {listed} do not broadcast: axis {i} has sizes {size} and {shape[i]}"
                    )
                size = shape[i]
        result.append(size)
    return tuple(result)


def common(op: Any, specs: Sequence[Spec | None], joint: tuple[int, ...] | None = None) -> DType:
    """The promoted dtype of the joint operands of an op."""
    strong = [s.dtype for i, s in enumerate(specs) if s and not s.weak and (joint is None or i in joint)]
    if not strong:
        return next(s.dtype for s in specs if s)
    dtype = strong[0]
    for other in strong[1:]:
        dtype = dtypes.promote(dtype, other)
    return dtype


def _broadcast(op: Any, specs: Sequence[Spec | None]) -> tuple[int, ...]:
    try:
        return broadcast_shapes(*(s.shape for s in specs if s))
    except ShapeError as error:
        raise ShapeError(f"{op.name}: {error}") from None


def reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape after a reduction over ``axes`` (negative)."""
    n = len(shape)
    if keepdims:
        return tuple(1 if i - n in axes else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i - n not in axes)


# -- factories, by name --------------------------------------------------------------------------------------


def elementwise(
    accepts: Sequence[DType],
    result: DType | str | None = None,
    *,
    integers: str = "refuse",
    half: bool = True,
) -> Rule:
    """Operands broadcast together and promote to one dtype; the result has it, or ``result``: a dtype, or
    "real" for the dtype of the parts of a complex one.
    """

    def elementwise(op: Any, specs: Sequence[Spec | None], params: dict[str, Any]) -> Spec:
        dtype = common(op, specs)
        if integers == "float" and dtype.kind in _EXACT:
            dtype = dtypes.default_dtype("float")
        found: Any = dtype.real if result == "real" else result or dtype
        return Spec(_broadcast(op, specs), found)

    return Rule(elementwise, accepts, integers=integers, half=half)


def unary(accepts: Sequence[DType], result: DType | str | None = None) -> Rule:
    """One operand; the result has its shape, and its dtype or ``result``."""
    return elementwise(accepts, result)


def binary(
    accepts: Sequence[DType], result: DType | None = None, *, integers: str = "refuse", half: bool = True
) -> Rule:
    """Two operands that broadcast and promote."""
    return elementwise(accepts, result, integers=integers, half=half)


def selection(accepts: Sequence[DType]) -> Rule:
    """``(condition, x1, x2)``: a bool condition and two operands that promote; all three broadcast."""

    def selection(op: Any, specs: Sequence[Spec | None], params: dict[str, Any]) -> Spec:
        return Spec(_broadcast(op, specs), common(op, specs, (1, 2)))

    return Rule(selection, accepts, joint=(1, 2), fixed={0: dtypes.bool})


def same_as(
    position: int, accepts: Sequence[DType] = dtypes.ALL, joint: tuple[int, ...] | None = None
) -> Rule:
    """The result has the shape of the operand at ``position`` and the promoted dtype."""

    def same_as(op: Any, specs: Sequence[Spec | None], params: dict[str, Any]) -> Spec:
        return Spec(specs[position].shape, common(op, specs, joint))  # type: ignore[union-attr]

    return Rule(same_as, accepts, joint=joint)


def reduction(accepts: Sequence[DType], result: DType | str | None = None, *, identity: bool = True) -> Rule:
    """Reduction over ``axis`` (canonical: a tuple of negative ints, or one int) with ``keepdims``.

    ``result``: a dtype, or "dtype" for the parameter of that name. Without an identity, a reduction over no
    element is refused.
    """

    def reduction(op: Any, specs: Sequence[Spec | None], params: dict[str, Any]) -> Spec:
        x = specs[0]
        assert x is not None
        axes = params["axis"] if isinstance(params["axis"], tuple) else (params["axis"],)
        shape = reduced(x.shape, axes, params["keepdims"])
        if not identity and 0 in [x.shape[a] for a in axes] and 0 not in shape:
            raise ShapeError(
                f"{op.name}: there is no {op.name} of no elements: x has shape {x.shape}, axis is {axes}"
            )
        dtype: Any = params["dtype"] if result == "dtype" else result or x.dtype
        return Spec(shape, dtype)

    return Rule(reduction, accepts)


def custom(
    accepts: Sequence[DType] = dtypes.ALL,
    joint: tuple[int, ...] | None = None,
    fixed: dict[int, DType] | None = None,
    integers: str = "refuse",
) -> Callable[[Callable[..., Any]], Rule]:
    """Decorator for a rule of one op: ``fn(op, specs, params) -> Spec``."""
    return lambda fn: Rule(fn, accepts, joint=joint, fixed=fixed, integers=integers)
