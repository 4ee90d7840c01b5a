"""Random numbers with a state: generators, and the distributions drawn from them.

A :class:`Generator` is a key and a counter. The n-th block of four 32-bit words is Philox4x32-10 of counter n
under the key, on every backend and any number of threads: **the same seed gives the same bits everywhere**.
Drawing takes as many blocks as the shape needs and advances the counter by that number, which is known from
the shape alone. The state consists of tensors, changed by public ops only, so that tracing sees it as what it
is; it moves to the device on which it draws.

Words, integers, booleans, permutations and uniform numbers in [0, 1) are equal to the last bit on every
backend; normal numbers agree within the error of a logarithm and a cosine.

Example::

    corelib.random.seed(0)
    x = corelib.random.normal((3, 4))
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any

from .backend import Backend
from .capture import released
from .dtypes import HALF, DType, as_dtype, float32, int64, uint32, uint64
from .dtypes import bool as bool_
from .errors import ArgumentError, DTypeError, ShapeError
from .op import calls
from .ops.interchange import _pack, asarray, from_buffer
from .ops.random import word
from .params import as_shape
from .registry import at_active_level, registry
from .tape import same
from .tensor import Tensor

__all__ = [
    "Generator", "bernoulli", "bits", "default_generator", "get_state", "integers", "normal", "permutation", "seed", "set_state",
    "spawn", "uniform",
]  # fmt: skip


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


# -- the state -----------------------------------------------------------------------------------------------


def _levels(backend: Backend) -> tuple[Backend | None, list[Backend]]:
    """The device at the bottom of a wrapping backend, if it tells, and the wrappers from the inside out."""
    wrappers: list[Backend] = []
    while backend is not None and backend.level:
        wrappers.insert(0, backend)
        backend = getattr(backend, "base", None)  # type: ignore[assignment]
    return backend, wrappers


class Generator:
    """A stream of random bits: ``key`` (uint32, shape (2,)) and ``counter`` (uint64, shape ()), the number of
    the next block.

    ``Generator(seed)`` starts at block 0 of the key that ``seed``, an integer in [0, 2**64), consists of: low
    word, then high word. Without a seed the system's entropy gives one. Drawing is thread-safe: no two
    threads get the same block.

    Inside a transformation the numbers are drawn at its level from the state as it is outside: under ``vmap`` each
    example draws its own, unless its ``randomness`` says otherwise.

    Example: ``random.normal((3,), generator=random.Generator(0))`` has shape (3,).
    """

    __slots__ = ("_lock", "counter", "key")

    def __init__(self, seed: int | None = None, *, device: str | Backend | None = None) -> None:
        root, _ = _levels(registry.creation(device))
        root = root or registry.current()
        self._lock = threading.Lock()
        self.key = from_buffer(_pack(_words(seed), uint32), (2,), uint32, root)
        self.counter = from_buffer(_pack([0], uint64), (), uint64, root)

    def seed(self, seed: int | None = None) -> Generator:
        """Start again at block 0 of another seed; returns itself."""
        fresh = Generator(seed, device=self.key._backend if not self.key._backend.level else None)
        return self.set_state(fresh.get_state())

    def reserve(
        self, shape: Any, dtype: Any = uint32, *, device: str | Backend | None = None
    ) -> tuple[Tensor, Tensor]:
        """Key and counter for ``random_bits(key, counter, shape, dtype=dtype)`` on ``device``, and advance
        behind what that draws.

        How ops that draw bits themselves, such as dropout, take their part of the stream.
        """
        words = math.prod(as_shape(_Named("random"), "shape", shape)) * (word(as_dtype(dtype)).bits // 32)
        root, wrappers = _levels(registry.creation(device))
        with self._lock:
            if root is not None and self.key._backend.level == 0 and self.key._backend is not root:
                with released():  # where the state is changes no value
                    self.key._rebind(calls.to(self.key, root))
                    self.counter._rebind(calls.to(self.counter, root))
            key, counter = same(self.key), same(self.counter)
            state, blocks = counter, -(-words // 4)
            steps: list[int] = []
            wrappers = [w for w in wrappers if w.level > counter._backend.level]
            for wrapper in reversed(wrappers):
                steps.insert(0, blocks)
                blocks *= wrapper.draws
            for wrapper, step in zip(wrappers, steps, strict=True):
                key, counter = wrapper.lift(key), wrapper.counter(counter, step)
                if type(wrapper).rebind is not Backend.rebind and not wrapper.pure:
                    state = counter  # it follows changes of state: the change is made at its level
            if blocks:
                self.counter._rebind(calls.add(state, blocks))
        return key, counter

    def bits(self, shape: Any = (), dtype: Any = uint32, *, device: str | Backend | None = None) -> Tensor:
        """Random words of ``shape``, uint32 or uint64: see :func:`corelib.random.bits`."""
        key, counter = self.reserve(shape, dtype, device=device)
        return calls.random_bits(key, counter, shape, dtype=dtype)

    def spawn(self, n: int) -> list[Generator]:
        """``n`` generators with streams of their own. Their keys are drawn from this one: two of m streams
        have the same key with a probability below m**2 / 2**65.
        """
        keys = self.bits((n, 2), device=self.key._backend)
        return [_of(calls.reshape(keys[i : i + 1], (2,))) for i in range(n)]

    def get_state(self) -> dict[str, Tensor]:
        """``{"key", "counter"}``: all there is, as values."""
        with self._lock:
            return {"key": same(self.key), "counter": same(self.counter)}

    def set_state(self, state: dict[str, Any]) -> Generator:
        """Continue from what :meth:`get_state` returned (or the same as arrays); returns itself."""
        self._checked(state)()
        return self

    def _checked(self, state: dict[str, Any]) -> Callable[[], None]:
        """A function that takes the state over; the error now if it does not fit."""
        key = _state_tensor(state, "key", (2,), uint32)
        counter = _state_tensor(state, "counter", (), uint64)

        def take_over() -> None:
            with self._lock:
                self.key._rebind(key)
                self.counter._rebind(counter)

        return take_over

    state_dict = get_state
    load_state_dict = set_state

    def __getstate__(self) -> dict[str, Tensor]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Tensor]) -> None:
        self._lock = threading.Lock()
        self.key, self.counter = state["key"], state["counter"]

    def __repr__(self) -> str:
        low, high = self.key.tolist()
        return f"Generator({low | high << 32}, counter={self.counter.item()}, device={self.key.device!r})"


def _words(seed: int | None) -> list[int]:
    if seed is None:
        seed = int.from_bytes(os.urandom(8), "little")
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise DTypeError(f"a seed is an integer, got {seed!r}")
    seed = seed.__index__()
    if not 0 <= seed < 2**64:
        raise ArgumentError(f"a seed is an integer in [0, 2**64), got {seed}")
    return [seed & 0xFFFFFFFF, seed >> 32]


def _of(key: Tensor) -> Generator:
    """A generator at block 0 of a key."""
    made = object.__new__(Generator)
    made.__setstate__({"key": key, "counter": calls.full((), 0, dtype=uint64, device=key._backend)})
    return made


def _state_tensor(state: dict[str, Any], name: str, shape: tuple[int, ...], dtype: DType) -> Tensor:
    if not hasattr(state, "keys") or set(state) != {"key", "counter"}:
        raise ArgumentError(f"the state of a generator has a key and a counter, got {state!r}")
    value = state[name]
    value = same(value) if isinstance(value, Tensor) else asarray(value, dtype=dtype, copy=True)
    if value.shape != shape or value.dtype is not dtype:
        raise ArgumentError(
            f"the state's {name} must be {dtype.name}{list(shape)}, got {value.dtype.name}{list(value.shape)}"
        )
    return value


_default: Generator | None = None
_making = threading.Lock()


def default_generator() -> Generator:
    """The generator of the process, used where none is given; seeded by the system's entropy until
    :func:`seed` is called.
    """
    global _default
    if _default is None:
        with _making:
            if _default is None:
                _default = Generator()
    return _default


def seed(seed: int | None = None) -> Generator:
    """Start the default generator again from ``seed``, an integer in [0, 2**64); returns it."""
    return default_generator().seed(seed)


def get_state() -> dict[str, Tensor]:
    """The default generator's state: see :meth:`Generator.get_state`."""
    return default_generator().get_state()


def set_state(state: dict[str, Any]) -> None:
    """Continue the default generator from a state."""
    default_generator().set_state(state)


def spawn(n: int) -> list[Generator]:
    """``n`` generators with streams of their own, from the default one: see :meth:`Generator.spawn`."""
    return default_generator().spawn(n)


# -- distributions -------------------------------------------------------------------------------------------


def bits(
    shape: Any = (), dtype: Any = uint32, *, generator: Generator | None = None, device: Any = None
) -> Tensor:
    """Random words of ``shape``: uint32, or uint64 (of two words each, the lower first).

    Takes one block per four words, rounded up. ``generator``: the default one unless given; ``device``: where
    tensors are being created unless given. These two parameters are the same in all functions of this module.
    """
    return (generator or default_generator()).bits(shape, dtype, device=device)


def _floating(name: str, dtype: Any) -> tuple[DType, DType]:
    """The dtype asked for, and that of the words it is made from."""
    found = as_dtype(dtype)
    if found.kind != "float":
        raise DTypeError(
            f"random.{name}: dtype must be a floating one, got {found.name}: use random.integers"
        )
    return found, uint64 if found.bits == 64 else uint32


def uniform(
    shape: Any = (),
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = float32,
    *,
    generator: Generator | None = None,
    device: Any = None,
) -> Tensor:
    """Uniform numbers in [low, high): multiples of 2**-24 (float32, a word each) or 2**-53 (float64, two
    words) of the interval.

    low + (high - low) u, kept below ``high`` where rounding would reach it. float16 and bfloat16 are rounded
    from float32.
    """
    low, high = float(low), float(high)
    if not low <= high:
        raise ArgumentError(f"random.uniform: low <= high is needed, got low={low}, high={high}")
    dtype, words = _floating("uniform", dtype)
    if max(abs(low), abs(high), high - low) > dtype.max:
        raise ArgumentError(f"random.uniform: the interval from {low} to {high} does not fit {dtype.name}")
    u = calls.uniform_from_bits(bits(shape, words, generator=generator, device=device))
    if (low, high) == (0.0, 1.0) and dtype not in HALF:
        return u
    spread = calls.astype(calls.add(calls.multiply(u, high - low), low), dtype)
    return calls.minimum(spread, max(_below(high, dtype), low))


def _below(x: float, dtype: DType) -> float:
    """The largest number of a dtype below x (or rather, below x as the dtype rounds it)."""
    x = dtype.round(x)
    smallest = dtype.smallest_normal * dtype.eps
    fraction, exponent = math.frexp(x)
    # below a power of two the numbers lie twice as close
    return x - max(math.ldexp(1.0, exponent - dtype.digits - (fraction == 0.5)), smallest)


def normal(
    shape: Any = (),
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = float32,
    *,
    generator: Generator | None = None,
    device: Any = None,
) -> Tensor:
    """Normal numbers of the given mean and standard deviation, by Box and Muller.

    Element i is made from the uint64 word i for float32 (its lower half gives the radius, the upper one the
    angle), and from the uint64 words 2i (radius) and 2i + 1 (angle) for float64.
    """
    if not std >= 0:
        raise ArgumentError(f"random.normal: std must not be negative, got {std}")
    dtype, words = _floating("normal", dtype)
    shape = as_shape(_Named("random.normal"), "shape", shape)
    if words is uint32:
        both = bits(shape, uint64, generator=generator, device=device)
        radius, angle = calls.astype(both, uint32), calls.astype(calls.bitwise_right_shift(both, 32), uint32)
    else:
        both = bits((*shape, 2), uint64, generator=generator, device=device)
        radius, angle = both[..., 0], both[..., 1]
    z = calls.normal_from_bits(radius, angle)
    if std != 1:
        z = calls.multiply(z, float(std))
    return calls.astype(calls.add(z, float(mean)) if mean != 0 else z, dtype)


def integers(
    low: int,
    high: int | None = None,
    shape: Any = (),
    dtype: Any = int64,
    *,
    generator: Generator | None = None,
    device: Any = None,
) -> Tensor:
    """Integers in [low, high), or [0, low) if ``high`` is not given.

    Element i is the uint64 word i modulo the number of values: some values are more likely than others by a
    factor of at most 1 + (high - low) / 2**64, which for up to 2**32 values no test can see.
    """
    if high is None:
        low, high = 0, low
    found = as_dtype(dtype)
    if found.kind not in ("int", "uint"):
        raise DTypeError(f"random.integers: dtype must be an integer one, got {found.name}")
    if not found.min <= low < high <= found.max + 1:
        raise ArgumentError(
            f"random.integers: low < high within {found.name} ({found.min} to {found.max}) are needed, got low={low}, high={high}"
        )
    words = bits(shape, uint64, generator=generator, device=device)
    if high - low < 2**64:
        words = calls.remainder(words, high - low)
    values = calls.astype(words, found)  # modulo 2**n, as the addition is
    return calls.add(values, low) if low else values


def bernoulli(
    p: float | Tensor = 0.5, shape: Any = None, *, generator: Generator | None = None, device: Any = None
) -> Tensor:
    """True with probability ``p``, a number, to within 2**-33, or a floating tensor (then of its shape and on
    its device).

    Element i is whether the uint32 word i is below p * 2**32, for a tensor whether uniform number i is below
    its p.
    """
    if isinstance(p, Tensor):
        p = at_active_level(p)  # where its numbers are drawn
        shape = p.shape if shape is None else shape
        u = uniform(
            shape, dtype=p.dtype, generator=generator, device=p._backend if device is None else device
        )
        return calls.less(u, p)
    if not 0 <= p <= 1:
        raise ArgumentError(f"random.bernoulli: p must be in [0, 1], got {p}")
    words = bits(() if shape is None else shape, uint32, generator=generator, device=device)
    threshold = round(p * 2**32)
    if threshold == 2**32:
        return calls.full(words.shape, True, dtype=bool_, device=words._backend)
    return calls.less(words, threshold)


def permutation(
    x: int | Tensor, *, axis: int = 0, generator: Generator | None = None, device: Any = None
) -> Tensor:
    """The numbers 0 to x - 1 in random order (int64), or a tensor with its slices along ``axis`` in random
    order.

    The order is that of random uint64 words; two of n words are equal, and then in their old order, with a
    probability below n**2 / 2**65.
    """
    if isinstance(x, Tensor):
        if not x.ndim:
            raise ShapeError("random.permutation: a 0-d tensor has nothing to permute: give an integer")
        x = at_active_level(x)
        order = permutation(
            x.shape[axis], generator=generator, device=x._backend if device is None else device
        )
        return calls.take(x, order, axis=axis)
    if isinstance(x, bool) or not hasattr(x, "__index__") or x < 0:
        raise ArgumentError(
            f"random.permutation: a number that is not negative or a tensor is needed, got {x!r}"
        )
    return calls.argsort(bits((int(x),), uint64, generator=generator, device=device))
