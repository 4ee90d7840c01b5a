"""Random numbers as pure functions: bits of a key and a counter, and distributions computed from bits.

Philox4x32-10 (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
is a block cipher of a counter. Element i depends on the key, the counter and i alone, so each backend gives
the same bits on any number of threads. Who draws from which counter is decided in ``corelib/random.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import dtypes
from ..dispatch import composite, primitive
from ..dtypes import as_dtype, float32, float64, uint32, uint64
from ..errors import DTypeError, ShapeError
from ..op import calls
from ..params import as_shape
from ..rules import Spec, broadcast_shapes, custom
from ..samples import ErrorSample, Maker, Sample, Values, calls_
from ..tensor import Tensor

if TYPE_CHECKING:
    from ..params import DTypeLike, Shape

WORDS = (uint32, uint64)


class _Named:
    name = "random_bits"


def _bind_bits(
    key: Any, counter: Any, /, shape: Any, *, dtype: Any = uint32
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(key, Tensor) and isinstance(counter, Tensor):
        _check_state(_Named, key, counter)
    return (key, counter), {"shape": as_shape(_Named, "shape", shape), "dtype": word(as_dtype(dtype))}


def word(dtype: dtypes.DType) -> dtypes.DType:
    """``dtype`` if it is one of random words, else DTypeError."""
    if dtype not in WORDS:
        raise DTypeError(
            f"random_bits gives uint32 or uint64, got dtype {dtype.name}: use random.uniform or random.integers"
        )
    return dtype


def _check_state(op: Any, key: Any, counter: Any) -> None:
    if key.shape != (2,) or counter.shape != ():
        raise ShapeError(
            f"{op.name}: key must have shape (2,) and counter (), got {key.shape} and {counter.shape}"
        )


@custom(WORDS, joint=(), fixed={0: uint32, 1: uint64})
def _bits_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    _check_state(op, *specs)
    return Spec(params["shape"], word(params["dtype"]))


def _drawn(shape: tuple[int, ...], counter: int) -> Any:
    def build(make: Maker, dtype: Any) -> Sample:
        key = Values((2,), uint32, (make.random.getrandbits(32), make.random.getrandbits(32)))
        return Sample(
            (key, Values((), uint64, (counter,)), shape), {"dtype": dtype if dtype in WORDS else uint32}
        )

    return build


@primitive(
    kind="random", rule=_bits_rule, bind=_bind_bits, nondiff="random bits are constants", ulp=0,
    samples=calls_(
        _drawn((), 0), _drawn((0,), 0), _drawn((1,), 1), _drawn((7,), 2**32 - 1), _drawn((2, 3), 2**64 - 1), _drawn((3, 0, 2), 5), _drawn((33,), 9),
    ),
    errors=[
        ErrorSample(
            ShapeError, r"random_bits: key must have shape \(2,\) and counter \(\)",
            lambda m: Sample((m.array((3,), uint32), m.array((), uint64), (2,)), {"dtype": uint32}),
        ),
        ErrorSample(
            DTypeError, "random_bits gives uint32 or uint64, got dtype float32",
            lambda m: Sample((m.array((2,), uint32), m.array((), uint64), (2,)), {"dtype": dtypes.float32}),
        ),
    ],
)  # fmt: skip
def random_bits(key: Tensor, counter: Tensor, /, shape: Shape, *, dtype: DTypeLike = uint32) -> Tensor:
    """Random bits of ``shape`` for a ``key`` of two uint32 words and a uint64 ``counter``.

    uint32: element i is word i % 4 of the Philox4x32-10 block at ``counter + i // 4`` (modulo 2**64). uint64:
    element i consists of the words 2i (low) and 2i + 1.
    """


# -- distributions of bits -----------------------------------------------------------------------------------

CONSTANT = "random bits are constants"
FLOAT_OF = {uint32: float32, uint64: float64}


@custom(WORDS)
def _floating_rule(op: Any, specs: Any, params: dict[str, Any]) -> Spec:
    try:
        return Spec(broadcast_shapes(*(s.shape for s in specs)), FLOAT_OF[specs[0].dtype])
    except ShapeError as error:
        raise ShapeError(f"{op.name}: {error}") from None


def _words(shape: tuple[int, ...], operands: int) -> Any:
    def build(make: Maker, dtype: Any) -> Sample:
        def some() -> Values:
            n = math.prod(shape)
            ends = [0, dtype.max, 1, dtype.max - 1][:n]  # the ends of the range, then anything
            return Values(
                shape, dtype, (*ends, *(make.random.getrandbits(dtype.bits) for _ in range(n - len(ends))))
            )

        return Sample(tuple(some() for _ in range(operands)))

    return build


@composite(
    rule=_floating_rule, nondiff=CONSTANT, ulp=0, samples=calls_(*[_words(s, 1) for s in ((), (0,), (7,), (2, 3), (33,))])
)  # fmt: skip
def uniform_from_bits(bits: Tensor, /) -> Tensor:
    """Uniform numbers in [0, 1): uint32 words give float32, the upper 24 bits times 2**-24; uint64 words
    float64, the upper 53 times 2**-53.

    Exact, so the same on every backend.
    """
    if bits.dtype is uint32:
        return calls.multiply(calls.astype(calls.bitwise_right_shift(bits, 8), float32), 2.0**-24)
    return calls.multiply(calls.astype(calls.bitwise_right_shift(bits, 11), float64), 2.0**-53)


@composite(
    rule=_floating_rule, nondiff=CONSTANT, ulp=16, samples=calls_(*[_words(s, 2) for s in ((), (0,), (7,), (2, 3), (33,))])
)  # fmt: skip
def normal_from_bits(radius: Tensor, angle: Tensor, /) -> Tensor:
    """Standard normal numbers by G. Box and M. Muller (1958): sqrt(-2 log u1) cos(2 pi u2), u1 from
    ``radius`` and u2 from ``angle``.

    u1 = (radius + 1/2) / 2**n in (0, 1] for words of n bits, so that |z| reaches 6.7 (float32) or 9.4
    (float64); u2 as :func:`uniform_from_bits`. Logarithm and cosine may differ by a few ULP between backends,
    and so may the result.
    """
    dtype, bits = FLOAT_OF[radius.dtype], radius.dtype.bits
    u1 = calls.add(calls.multiply(calls.astype(radius, dtype), 2.0**-bits), 2.0 ** -(bits + 1))
    turn = calls.multiply(uniform_from_bits(angle), 2 * math.pi)
    return calls.multiply(calls.sqrt(calls.multiply(calls.log(u1), -2.0)), calls.cos(turn))
