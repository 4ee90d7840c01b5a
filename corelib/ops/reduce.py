"""Reductions and scans: sums, products, extremes, and the statistics that follow from them.

A sum's error is bounded by n u sum|x| on every backend (and far smaller in practice, since sums are pairwise
or blocked). Gradients of products are right with zeros among the factors: nothing is divided. Equal extremes
share the cotangent equally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..dispatch import primitive
from ..dtypes import ALL, ORDERED, float32, int64
from ..dtypes import bool as bool_
from ..errors import DTypeError, ShapeError
from ..op import SUM_BOUND, calls
from ..params import CANONICAL, normalize_axis, not_a_tensor
from ..rules import Spec, custom, reduced, reduction
from ..samples import ErrorSample, Sample, along, reductions
from .compare import equal
from .creation import full
from .elementwise import add, astype, conj, divide, multiply, real
from .movement import broadcast_to, concat, flip, narrow, pad, permute_dims, reshape

if TYPE_CHECKING:
    from ..params import Accumulator, Axes, Axis
    from ..tensor import Tensor


def _out_of_range(**kwargs: Any) -> list[ErrorSample]:
    return [
        ErrorSample(ShapeError, "axis 2 is out of range for 2 dimensions", lambda m: Sample((m.array((2, 3), float32),), {"axis": 2, **kwargs})),
        ErrorSample(ShapeError, "axis -1 is out of range for 0 dimensions", lambda m: Sample((m.array((), float32),), {"axis": -1, **kwargs})),
    ]  # fmt: skip


AXES_ERRORS = [
    *_out_of_range(),
    ErrorSample(
        ShapeError, "names an axis twice", lambda m: Sample((m.array((2, 3), float32),), {"axis": (0, -2)})
    ),
    ErrorSample(
        DTypeError, "axis must be an integer", lambda m: Sample((m.array((2, 3), float32),), {"axis": 0.5})
    ),
]


def spread(y: Tensor, shape: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """A reduction's result (or its cotangent) repeated over the reduced axes: it has x's shape again."""
    shape = tuple(shape)
    return broadcast_to(y if keepdims else reshape(y, reduced(shape, axis, True)), shape)


# -- sums and products ---------------------------------------------------------------------------------------


@primitive(
    kind="reduce", rule=reduction(ALL, "dtype"), leading=True, ulp=SUM_BOUND, errors=AXES_ERRORS, samples=reductions(),
    linear=lambda g, x, axis, keepdims: spread(narrowed(g, x.dtype), x.shape, axis, keepdims),
)  # fmt: skip
def sum(x: Tensor, /, *, axis: Axes = None, dtype: Accumulator = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``: one, several, or None for all axes; 0 where there is nothing to add.

    dtype: what is accumulated in and returned: x's own, int64 or uint64 for smaller integers, int64 for bool,
    unless given.
    """


def narrowed(g: Tensor, dtype: Any) -> Tensor:
    """A cotangent in the dtype of an operand that was cast: the transpose of the cast."""
    return astype(g if dtype.kind == "complex" else real(g), dtype)


def _one_axis(x: Tensor, axis: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """x with the axes ``axis`` moved to the end and made one, and the permutation that did it."""
    kept = tuple(a for a in range(-x.ndim, 0) if a not in axis)
    order = (*kept, *axis)
    return reshape(
        permute_dims(x, order), (*[x.shape[a] for a in kept], _product([x.shape[a] for a in axis]))
    ), order


def _product(sizes: Any) -> int:
    total = 1
    for s in sizes:
        total *= s
    return total


def _shifted(x: Tensor, axis: int, fill: int) -> Tensor:
    """x moved by one place towards the end of ``axis``, with ``fill`` in the first place."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0)
    return (
        pad(narrow(x, axis, 0, x.shape[axis] - 1), tuple(widths), constant_values=fill)
        if x.shape[axis]
        else x
    )


def _others(x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """For each element, the product of all the other elements over ``axis``: those before it times those
    after it.
    """
    if not axis:
        return full(x.shape, 1, dtype=x.dtype, device=x._backend)
    line, order = _one_axis(x, axis)
    before = cumulative_prod(_shifted(line, -1, 1), axis=-1)
    after = flip(cumulative_prod(_shifted(flip(line, axis=-1), -1, 1), axis=-1), axis=-1)
    moved = reshape(multiply(before, after), tuple(x.shape[a] for a in order))
    return permute_dims(moved, tuple(sorted(range(-x.ndim, 0), key=lambda i: order[i + x.ndim])))


@primitive(
    kind="reduce", rule=reduction(ALL, "dtype"), leading=True, ulp=16, errors=AXES_ERRORS, samples=reductions(0.5, 1.5),
    vjp=lambda g, x, axis, dtype, keepdims: narrowed(
        multiply(spread(g, x.shape, axis, keepdims), conj(_others(astype(x, dtype), axis))), x.dtype),
    jvp=lambda dx, x, axis, dtype, keepdims: sum(
        multiply(astype(dx, dtype), _others(astype(x, dtype), axis)), axis=axis, keepdims=keepdims),
)  # fmt: skip
def prod(x: Tensor, /, *, axis: Axes = None, dtype: Accumulator = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``: one, several, or None for all axes; 1 where there is nothing to multiply.

    dtype: as for ``sum``. Integers wrap. The budget is for the samples' lengths: half an ULP for each factor.
    """


# -- extremes ------------------------------------------------------------------------------------------------

_EMPTY_ERRORS = [
    ErrorSample(ShapeError, r"no elements: x has shape \(0,\)", lambda m: Sample((m.array((0,), float32),))),
    ErrorSample(
        ShapeError,
        r"no elements: x has shape \(2, 0\)",
        lambda m: Sample((m.array((2, 0), float32),), {"axis": 1}),
    ),
]


def _shares(x: Tensor, y: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """1 / k at each of the k elements of x that equal the extreme y over ``axis``, 0 elsewhere; NaN where y
    is NaN.
    """
    chosen = astype(equal(x, spread(y, x.shape, axis, keepdims)), x.dtype)
    return divide(chosen, sum(chosen, axis=axis, keepdims=True))


@primitive(
    kind="reduce", rule=reduction(ORDERED, identity=False), leading=True, ulp=0, errors=[*AXES_ERRORS, *_EMPTY_ERRORS],
    samples=reductions(distinct=True, empty=False),
    vjp=lambda g, x, y, axis, keepdims: multiply(spread(g, x.shape, axis, keepdims), _shares(x, y, axis, keepdims)),
    jvp=lambda dx, x, y, axis, keepdims: sum(multiply(dx, _shares(x, y, axis, keepdims)), axis=axis, keepdims=keepdims),
)  # fmt: skip
def max(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element over ``axis``: one, several, or None for all axes. NaN if one is NaN; +0 is larger
    than -0.
    """


@primitive(
    kind="reduce", rule=reduction(ORDERED, identity=False), leading=True, ulp=0, errors=[*AXES_ERRORS, *_EMPTY_ERRORS],
    samples=reductions(distinct=True, empty=False),
    vjp=lambda g, x, y, axis, keepdims: multiply(spread(g, x.shape, axis, keepdims), _shares(x, y, axis, keepdims)),
    jvp=lambda dx, x, y, axis, keepdims: sum(multiply(dx, _shares(x, y, axis, keepdims)), axis=axis, keepdims=keepdims),
)  # fmt: skip
def min(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest element over ``axis``: one, several, or None for all axes. NaN if one is NaN; -0 is
    smaller than +0.
    """


@primitive(
    kind="reduce", rule=reduction(ALL, bool_), leading=True, ulp=0, errors=AXES_ERRORS, samples=reductions(),
    nondiff="any is piecewise constant",
)  # fmt: skip
def any(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether an element over ``axis`` is true (not 0; NaN is true); False where there is none."""


@primitive(
    kind="reduce", rule=reduction(ALL, bool_), leading=True, ulp=0, errors=AXES_ERRORS, samples=reductions(),
    nondiff="all is piecewise constant",
)  # fmt: skip
def all(x: Tensor, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over ``axis`` are true (not 0; NaN is true); True where there is none."""


def _position_bind(name: str) -> Any:
    def bind(
        x: Tensor, /, *, axis: int | None = None, keepdims: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Without an axis: over the elements in C order, as one line that has as many axes as x if they are
        to be kept.
        """
        op = getattr(calls, name).op
        if not hasattr(x, "_backend"):
            raise DTypeError(not_a_tensor(op, "x", x))
        if axis is not None:
            return (x,), {"axis": normalize_axis(op, "axis", axis, x.ndim), "keepdims": bool(keepdims)}
        keepdims = bool(keepdims) and x.ndim > 0
        return (reshape(x, (*[1] * (x.ndim - 1 if keepdims else 0), -1)) if x.size else reshape(x, (0,)),), {
            "axis": -1,
            "keepdims": keepdims,
        }

    return bind


@primitive(
    kind="reduce", rule=reduction(ORDERED, int64, identity=False), leading=True, ulp=0, errors=[*_out_of_range(), *_EMPTY_ERRORS],
    samples=reductions(distinct=True, empty=False, single=True), nondiff="a position is an integer", bind=_position_bind("argmax"),
)  # fmt: skip
def argmax(x: Tensor, /, *, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Where along ``axis`` the largest element is (the first of equals; the first NaN, if any); None: in C
    order of all. int64.
    """


@primitive(
    kind="reduce", rule=reduction(ORDERED, int64, identity=False), leading=True, ulp=0, errors=[*_out_of_range(), *_EMPTY_ERRORS],
    samples=reductions(distinct=True, empty=False, single=True), nondiff="a position is an integer", bind=_position_bind("argmin"),
)  # fmt: skip
def argmin(x: Tensor, /, *, axis: Axis | None = None, keepdims: bool = False) -> Tensor:
    """Where along ``axis`` the smallest element is (the first of equals; the first NaN, if any); None: in C
    order of all. int64.
    """


# -- scans ---------------------------------------------------------------------------------------------------


@custom()
def _scan_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    return Spec(specs[0].shape, params["dtype"])


def _scan_bind(name: str, initial: int) -> Any:
    def bind(
        x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``include_initial`` puts the identity in front of x: the scan then begins with it, exactly."""
        op = getattr(calls, name).op
        if not hasattr(x, "_backend"):
            raise DTypeError(not_a_tensor(op, "x", x))
        if axis is None:
            if x.ndim != 1:
                raise ShapeError(
                    f"{name}: axis is needed for an x of {x.ndim} dimensions (only one-dimensional x may leave it out)"
                )
            axis = -1
        axis = normalize_axis(op, "axis", axis, x.ndim)
        dtype = CANONICAL["Accumulator"](op, "dtype", dtype, x)
        if include_initial:
            first = full(
                tuple(1 if i - x.ndim == axis else n for i, n in enumerate(x.shape)),
                initial,
                dtype=x.dtype,
                device=x._backend,
            )
            x = concat([first, x], axis=axis)
        return (x,), {"axis": axis, "dtype": dtype}

    return bind


_SCAN_ERRORS = [
    *_out_of_range(),
    ErrorSample(
        ShapeError, "axis is needed for an x of 2 dimensions", lambda m: Sample((m.array((2, 3), float32),))
    ),
]
_SCAN_KWARGS: tuple[dict[str, Any], ...] = ({}, {"include_initial": True})


def _cumulative_back(g: Tensor, axis: int) -> Tensor:
    return flip(cumulative_sum(flip(g, axis=axis), axis=axis), axis=axis)


@primitive(
    kind="scan", rule=_scan_rule, leading=True, ulp=SUM_BOUND, params=("axis", "dtype"), bind=_scan_bind("cumulative_sum", 0),
    linear=lambda g, x, axis: narrowed(_cumulative_back(g, axis), x.dtype),
    samples=along(kwargs=_SCAN_KWARGS), errors=_SCAN_ERRORS,
)  # fmt: skip
def cumulative_sum(
    x: Tensor, /, *, axis: Axis | None = None, dtype: Accumulator = None, include_initial: bool = False
) -> Tensor:
    """Element i is the sum of the elements up to and including i along ``axis``. dtype: as for ``sum``.

    ``axis`` may be left out for one dimension. ``include_initial``: begin with 0, so that the axis is longer
    by one.
    """


def _recurrence(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """s with s[i] = b[i] + a[i] s[i - 1] along ``axis``, where a[0] is 0: by doubling, in log2(n) steps and
    without division.

    After each step, s[i] = b[i] + a[i] s[i - distance]; a window that reaches the start has a = 0, so it
    grows no further.
    """
    n, distance = a.shape[axis], 1
    widths = [(0, 0)] * a.ndim
    while distance < n:
        widths[axis] = (distance, 0)
        back = lambda t, w=tuple(widths), k=n - distance: pad(narrow(t, axis, 0, k), w)
        b = add(b, multiply(a, back(b)))
        distance *= 2
        if distance < n:
            a = multiply(a, back(a))
    return b


def _cumulative_prod_vjp(g: Tensor, x: Tensor, axis: int, dtype: Any) -> Tensor:
    """x_i's cotangent is P_{i-1} S_i: P the products before it, S_i = g_i + x_{i+1} S_{i+1} what comes after
    it.
    """
    line = conj(astype(x, dtype))
    after = _shifted(flip(line, axis=axis), axis, 0)
    s = flip(_recurrence(after, flip(g, axis=axis), axis), axis=axis)
    return narrowed(multiply(cumulative_prod(_shifted(line, axis, 1), axis=axis), s), x.dtype)


def _cumulative_prod_jvp(dx: Tensor, x: Tensor, axis: int, dtype: Any) -> Tensor:
    """dy_i = x_i dy_{i-1} + dx_i P_{i-1}."""
    line = astype(x, dtype)
    b = multiply(astype(dx, dtype), cumulative_prod(_shifted(line, axis, 1), axis=axis))
    n = x.shape[axis]
    if n < 2:
        return b
    widths = [(0, 0)] * x.ndim
    widths[axis] = (1, 0)
    return _recurrence(pad(narrow(line, axis, 1, n - 1), tuple(widths)), b, axis)


@primitive(
    kind="scan", rule=_scan_rule, leading=True, ulp=16, params=("axis", "dtype"), bind=_scan_bind("cumulative_prod", 1),
    vjp=_cumulative_prod_vjp, jvp=_cumulative_prod_jvp,
    samples=along(low=0.5, high=1.5, kwargs=_SCAN_KWARGS), errors=_SCAN_ERRORS,
)  # fmt: skip
def cumulative_prod(
    x: Tensor, /, *, axis: Axis | None = None, dtype: Accumulator = None, include_initial: bool = False
) -> Tensor:
    """Element i is the product of the elements up to and including i along ``axis``. dtype: as for ``sum``;
    integers wrap.

    ``axis`` may be left out for one dimension. ``include_initial``: begin with 1, so that the axis is longer
    by one.
    """
