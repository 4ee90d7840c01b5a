"""Fourier transforms: the array API standard's extension ``fft``, declared over four primitives.

``fft`` is y[k] = sum over j of x[j] exp(-2 pi i j k / n), ``ifft`` the sum with the other sign, and ``rfft`` and
``irfft`` are what is left of them for real numbers. ``norm`` says which of a pair divides: by n the inverse
("backward") or the forward one ("forward"), or each by the square root of n ("ortho"). A transform is linear, and
its adjoint is the other of the pair under the other norm; so derivatives of every order are transforms again.

A result is judged by its distance from the reference's, relative to it, in the norm that the transform keeps (the
2-norm of each line): a fast transform is off by some log2(n) ULP of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..dispatch import composite, primitive
from ..dtypes import COMPLEX, FLOATING, as_dtype, default_dtype, float32, float64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..params import Caller, as_integer, checked, checked_axis
from ..rules import Rule, Spec, custom
from ..samples import ErrorSample, Sample, shapes
from .arrange import roll
from .compare import equal, less, logical_or
from .creation import arange
from .elementwise import abs, astype, conj, divide, multiply, subtract, where
from .movement import narrow, pad, reshape
from .statistics import vector_norm

if TYPE_CHECKING:
    from ..params import Axis
    from ..tensor import Tensor

NORMS = ("backward", "ortho", "forward")
OTHER = {"backward": "forward", "ortho": "ortho", "forward": "backward"}  # the norm of the adjoint

Bound = tuple[tuple[Any, ...], dict[str, Any]]


# -- parameters ----------------------------------------------------------------------------------------------


def _norm(name: str, norm: Any) -> str:
    if norm not in NORMS:
        raise ArgumentError(f"{name}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    return norm


def _length(name: str, argument: str, n: Any, shape: tuple[int, ...], axis: int, default: int) -> int:
    """``n`` as a positive integer; ``default``, which follows from x, for None."""
    if n is None:
        if default < 1:
            raise ShapeError(f"{name}: axis {axis} of x of shape {shape} is too short: give {argument}")
        return default
    n = as_integer(Caller(name), argument, n)
    if n < 1:
        raise ShapeError(f"{name}: {argument} must be at least 1, got {n}")
    return n


def _given(name: str, x: Any, real: bool) -> Any:
    """x, real numbers as complex ones where those are transformed."""
    checked(name, x)
    return x if real or x.dtype.kind != "float" else astype(x, x.dtype.complex)


def _outputs(m: int, half: bool) -> int:
    """How many results a transform of m elements has; of ``half`` a spectrum, by default."""
    return 2 * (m - 1) if half else m


def _bind(name: str, *, real: bool = False, half: bool = False) -> Callable[..., Bound]:
    """The parameters of a transform of one axis. ``real``: x is; ``half``: x is half a spectrum."""

    def bind(x: Any, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Bound:
        axis, norm = checked_axis(name, x, axis), _norm(name, norm)
        n = _length(name, "n", n, x.shape, axis, _outputs(x.shape[axis], half))
        return (_given(name, x, real),), {"n": n, "axis": axis, "norm": norm}

    return bind


def _bind_several(name: str, *, real: bool = False, half: bool = False) -> Callable[..., Bound]:
    """As :func:`_bind`, of several axes: ``s`` has the length for each of ``axes``, which are all unless given."""

    def bind(
        x: Any,
        /,
        *,
        s: Sequence[int] | None = None,
        axes: Sequence[int] | None = None,
        norm: str = "backward",
    ) -> Bound:
        ndim = len(checked(name, x))
        if s is not None and axes is None:
            raise ArgumentError(f"{name}: s= is for axes that are named: give axes= as well")
        along = tuple(checked_axis(name, x, a) for a in (range(-ndim, 0) if axes is None else axes))
        sizes = [-1] * len(along) if s is None else list(s)
        if len(set(along)) != len(along) or len(sizes) != len(along):
            raise ShapeError(f"{name}: axes {axes} must differ, and s {s} have a length for each of them")
        if (real or half) and not along:
            raise ShapeError(f"{name}: at least one axis is needed")
        lengths = tuple(
            _length(
                name, "s", None if n == -1 else n, x.shape, a, _outputs(x.shape[a], half and a == along[-1])
            )
            for n, a in zip(sizes, along, strict=True)
        )
        return (_given(name, x, real),), {"s": lengths, "axes": along, "norm": _norm(name, norm)}

    return bind


def _rule(accepts: Any, result: str, *, half: bool = False) -> Rule:
    """The last (or only) axis has n elements, or the ``half`` of the spectrum that the rest follows from; the
    dtype is x's ``complex`` or ``real`` one.
    """

    @custom(accepts)
    def rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
        x = specs[0]
        shape = list(x.shape)
        axes, sizes = (params["axes"], params["s"]) if "s" in params else ((params["axis"],), (params["n"],))
        for axis, n in zip(axes, sizes, strict=True):
            shape[axis] = n // 2 + 1 if half and axis == axes[-1] else n
        return Spec(tuple(shape), getattr(x.dtype, result))

    return rule


# -- samples and residuals -----------------------------------------------------------------------------------

_LINES = shapes(
    ((5,),), ((8,), {"norm": "ortho"}), ((3, 4), {"axis": 0, "norm": "forward"}), ((2, 7), {"n": 4}), ((2, 3), {"n": 8, "norm": "forward"}),
    ((3, 2), {"n": 5, "axis": -2, "norm": "ortho"}), ((2, 3, 6),), ((2,),), ((4, 2), {"n": 1}), ((0, 3),), ((2, 0), {"n": 3}), ((33,),),
    ((2, 17), {"n": 16}),
)  # fmt: skip
_SEVERAL = shapes(
    ((4, 3),), ((5,), {"norm": "ortho"}), ((2, 3, 4), {"axes": (0, 2), "norm": "forward"}), ((2, 3, 4), {"s": (5, 3), "axes": (-1, 0)}),
    ((3, 4), {"s": (-1, 6), "axes": (0, 1), "norm": "ortho"}), ((2, 3, 3), {"axes": (1,)}), ((0, 3, 2), {"axes": (1, 2)}),
)  # fmt: skip


def _mistakes(name: str, *, several: bool = False) -> list[ErrorSample]:
    def mistake(error: type[Exception], words: str, **kwargs: Any) -> ErrorSample:
        return ErrorSample(error, f"{name}: {words}", lambda m: Sample((m.array((3, 4), float32),), kwargs))

    length: dict[str, Any] = {"s": (0,), "axes": (0,)} if several else {"n": 0}
    mistakes = [
        mistake(ArgumentError, "norm must be 'backward', 'ortho' or 'forward', got 'none'", norm="none"),
        mistake(ShapeError, "[ns] must be at least 1, got 0", **length),
    ]
    if several:
        mistakes.append(mistake(ArgumentError, "s= is for axes that are named: give axes= as well", s=(3,)))
        mistakes.append(mistake(ShapeError, "axes .* must differ", axes=(0, -2)))
        mistakes.append(mistake(ShapeError, "axes .* a length for each", s=(3,), axes=(0, 1)))
    return mistakes


def _distance(y: Tensor, expected: Tensor, axes: Any) -> Tensor:
    """|y - expected| / |expected| of what was transformed together."""
    size = vector_norm(abs(subtract(y, expected)), axis=axes)
    exact = equal(size, 0)
    return where(exact, 0, divide(size, where(exact, 1, vector_norm(abs(expected), axis=axes))))


def _line_residual(of: Callable[[], Any]) -> Callable[..., Tensor]:
    return lambda y, x, n, axis, norm: _distance(y, of()(x, n=n, axis=axis, norm=norm), axis)


# -- one axis ------------------------------------------------------------------------------------------------


def _fitted(x: Tensor, axis: int, size: int) -> Tensor:
    """x cropped, or continued by zeros, to ``size`` elements along ``axis``: the adjoint of the same."""
    n = x.shape[axis]
    if size <= n:
        return narrow(x, axis, 0, size)
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - n)
    return pad(x, tuple(widths))


def _inside(x: Tensor, n: int, axis: int, factor: float) -> Tensor:
    """Half a spectrum of n elements, those times ``factor`` that stand for a second one as well: all but the first,
    and the middle one of an even number.
    """
    k = arange(n // 2 + 1, device=x._backend)
    alone = logical_or(equal(k, 0), equal(multiply(k, 2), n))
    weights = astype(where(alone, 1.0, factor), x.dtype.real)
    return multiply(x, reshape(weights, (-1, *(1,) * (-axis - 1))))


def _declared(name: str, rule: Rule, linear: Callable[..., Any], **how: bool) -> Callable[[Any], Any]:
    """What the four primitives have in common."""
    return primitive(
        kind="opaque", group="fft", rule=rule, linear=linear, leading=True, ulp=8, samples=_LINES, bind=_bind(name, **how),
        errors=_mistakes(name), residual=_line_residual(lambda: globals()[name]),
    )  # fmt: skip


@_declared(
    "fft",
    _rule(COMPLEX, "complex"),
    lambda g, x, n, axis, norm: _fitted(ifft(g, n=n, axis=axis, norm=OTHER[norm]), axis, x.shape[axis]),
)
def fft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """The discrete Fourier transform along ``axis``: y[k] = sum over j of x[j] exp(-2 pi i j k / n), complex.

    ``n``: how many elements of x are taken, zeros where there are no more; all unless given. ``norm``: "backward" for
    no factor, "ortho" for 1 / sqrt(n), "forward" for 1 / n. A real x is taken as a complex one; ``rfft`` gives half
    of the result in half the time.
    """


@_declared(
    "ifft",
    _rule(COMPLEX, "complex"),
    lambda g, x, n, axis, norm: _fitted(fft(g, n=n, axis=axis, norm=OTHER[norm]), axis, x.shape[axis]),
)
def ifft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """The inverse of ``fft`` with the same arguments: x[j] = 1 / n times the sum over k of y[k] exp(2 pi i j k / n).

    ``norm``: "backward" for the factor 1 / n, "ortho" for 1 / sqrt(n), "forward" for none.
    """


@_declared(
    "rfft",
    _rule(FLOATING, "complex", half=True),
    lambda g, x, n, axis, norm: astype(
        _fitted(irfft(_inside(g, n, axis, 0.5), n=n, axis=axis, norm=OTHER[norm]), axis, x.shape[axis]),
        x.dtype,
    ),
    real=True,
)
def rfft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """The first n // 2 + 1 elements of ``fft`` of a real x; the others are conjugates of these."""


@_declared(
    "irfft",
    _rule(COMPLEX, "real"),
    lambda g, x, n, axis, norm: _fitted(
        _inside(rfft(g, n=n, axis=axis, norm=OTHER[norm]), n, axis, 2.0), axis, x.shape[axis]
    ),
    half=True,
)
def irfft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """The inverse of ``rfft``: n real numbers from n // 2 + 1 complex ones (which are cropped, or continued by zeros, to
    that many).

    ``n``: 2 (m - 1) for m elements of x unless given, so it has to be for an odd number. The imaginary part of the
    first element, and of the last for an even n, does not count.
    """


def _pair(name: str, rule: Rule, **how: bool) -> Callable[[Any], Any]:
    """What the Hermitian transforms have in common."""
    return composite(
        kind="opaque", group="fft", rule=rule, leading=True, ulp=8, samples=_LINES, bind=_bind(name, **how), errors=_mistakes(name),
        residual=_line_residual(lambda: globals()[name]),
    )  # fmt: skip


@_pair("hfft", _rule(COMPLEX, "real"), half=True)
def hfft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """``fft`` of a Hermitian signal, x[-j] = conj(x[j]), of which x is the first half: n real numbers. See ``irfft``."""
    return irfft(conj(x), n=n, axis=axis, norm=OTHER[norm])


@_pair("ihfft", _rule(FLOATING, "complex", half=True), real=True)
def ihfft(x: Tensor, /, *, n: int | None = None, axis: Axis = -1, norm: str = "backward") -> Tensor:
    """The inverse of ``hfft``: the first n // 2 + 1 elements of ``ifft`` of a real x."""
    return conj(rfft(x, n=n, axis=axis, norm=OTHER[norm]))


# -- several axes --------------------------------------------------------------------------------------------


def _over_axes(name: str, rule: Rule, **how: bool) -> Callable[[Any], Any]:
    """What the transforms of several axes have in common."""
    return composite(
        kind="opaque", group="fft", rule=rule, leading=True, ulp=16, samples=_SEVERAL, bind=_bind_several(name, **how),
        errors=_mistakes(name, several=True),
        residual=lambda y, x, s, axes, norm: _distance(y, globals()[name](x, s=s, axes=axes, norm=norm), axes),
    )  # fmt: skip


def _along(transform: Callable[..., Tensor], x: Tensor, s: Any, axes: Any, norm: str) -> Tensor:
    for n, axis in zip(s, axes, strict=True):
        x = transform(x, n=n, axis=axis, norm=norm)
    return x


@_over_axes("fftn", _rule(COMPLEX, "complex"))
def fftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """``fft`` along each of ``axes``, all unless given.

    ``s``: n for each of ``axes``, which then have to be named; -1 for all elements.
    """
    return _along(fft, x, s, axes, norm)


@_over_axes("ifftn", _rule(COMPLEX, "complex"))
def ifftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of ``fftn``: ``ifft`` along each of ``axes``."""
    return _along(ifft, x, s, axes, norm)


@_over_axes("rfftn", _rule(FLOATING, "complex", half=True), real=True)
def rfftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """``fftn`` of a real x: the first half of the result along the last of ``axes``."""
    *others, last = zip(s, axes, strict=True)  # type: ignore[arg-type]
    x = rfft(x, n=last[0], axis=last[1], norm=norm)
    return _along(fft, x, [n for n, _ in others], [a for _, a in others], norm)


@_over_axes("irfftn", _rule(COMPLEX, "real"), half=True)
def irfftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of ``rfftn``, real. ``s``: sizes of the result; for the last of ``axes`` 2 (m - 1), if x has m elements
    there, unless given.
    """
    *others, last = zip(s, axes, strict=True)  # type: ignore[arg-type]
    x = _along(ifft, x, [n for n, _ in others], [a for _, a in others], norm)
    return irfft(x, n=last[0], axis=last[1], norm=norm)


# -- frequencies ---------------------------------------------------------------------------------------------


def _frequencies(name: str, k: Tensor, n: int, d: Any, dtype: Any) -> Tensor:
    """k / (n d), rounded from float64."""
    dtype = default_dtype("float") if dtype is None else as_dtype(dtype)
    if dtype.kind != "float":
        raise DTypeError(f"{name}: dtype must be a real floating dtype, got {dtype.name}")
    return astype(divide(astype(k, float64), n * float(d)), dtype)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of ``fft``'s results for n samples at a distance ``d``: (0, 1, ..., -2, -1) / (n d), of which the first
    half, rounded up, is not negative. dtype float32 unless given.
    """
    n = _length("fftfreq", "n", n, (), 0, 0)
    k = arange(n, device=device)
    return _frequencies("fftfreq", where(less(k, n - n // 2), k, subtract(k, n)), n, d, dtype)


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of ``rfft``'s results for n samples at a distance ``d``: (0, 1, ..., n // 2) / (n d). dtype float32
    unless given.
    """
    n = _length("rfftfreq", "n", n, (), 0, 0)
    return _frequencies("rfftfreq", arange(n // 2 + 1, device=device), n, d, dtype)


def _shifted(name: str, x: Any, axes: Any, by: Callable[[int], int]) -> Tensor:
    ndim = len(checked(name, x))
    given = range(-ndim, 0) if axes is None else axes if isinstance(axes, tuple | list) else (axes,)
    along = tuple(checked_axis(name, x, a) for a in given)
    return roll(x, tuple(by(x.shape[a]) for a in along), axis=along) if along else reshape(x, x.shape)


def fftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """x rolled along ``axes`` (one, several, or None for all) so that frequency 0, which comes first, is in the middle."""
    return _shifted("fftshift", x, axes, lambda n: n // 2)


def ifftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of ``fftshift``, from which it differs along axes of odd length."""
    return _shifted("ifftshift", x, axes, lambda n: -(n // 2))


__all__: Sequence[str] = (
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft", "rfftfreq", "rfftn",
)  # fmt: skip
