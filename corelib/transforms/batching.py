"""Batching: ``vmap`` runs a function once on all examples of a batch.

An array holds a tensor whose first axis counts the examples, or one that all examples share. How an op runs on all of
them follows from its kind: element-wise ops broadcast; ops whose axes count from the end (``Op.leading``, reductions,
scans) take one more axis in front; a few have a rule (``Op.batch``, see ``ops/batching.py``); and a composite without
one runs its body. Each is public ops on the tensors below, which may be tensors of other transformations, or tracked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..dispatch import execute
from ..dtypes import DType, as_dtype, uint32, uint64
from ..errors import ArgumentError, AxisError, BackendError, DTypeError, ShapeError, UnsupportedError
from ..op import Op, calls
from ..ops.batching import aligned, front, spread
from ..tape import same
from ..tensor import Tensor, wrap
from ..tree import flatten
from .trees import matched
from .wrapper import Wrapper, escaped, plain

RANDOMNESS = ("different", "same", "error")
_new = object.__new__


class Batched:
    """An array of the batcher. ``mapped``: the first axis of ``tensor`` counts the examples; else all share it."""

    __slots__ = ("dtype", "mapped", "shape", "tensor")

    def __init__(self, tensor: Tensor, mapped: bool = False) -> None:
        data = tensor._data
        self.tensor, self.mapped, self.dtype = tensor, mapped, as_dtype(data.dtype)
        self.shape = tuple(data.shape[1:]) if mapped else tuple(data.shape)


class Counters(Batched):
    """The counters of a generator's blocks: of example i, ``first + i * step``; computed where something asks."""

    __slots__ = ("_tensor", "first", "n", "step")

    def __init__(self, first: Tensor, step: int, n: int) -> None:
        self.first, self.step, self.n, self._tensor = first, step, n, None
        self.mapped, self.shape, self.dtype = True, (), uint64

    @property
    def tensor(self) -> Tensor:  # type: ignore[override]
        """One counter for each example."""
        if self._tensor is None:
            number = calls.arange(self.n, dtype=uint64, device=self.first._backend)
            self._tensor = calls.add(self.first, calls.multiply(number, self.step))
        return self._tensor  # type: ignore[return-value]


class Batcher(Wrapper):
    """The backend of one call of ``vmap``. ``draws``: for how many examples a generator draws at once."""

    def __init__(self, name: str, tensors: Sequence[Tensor], size: int, randomness: str) -> None:
        super().__init__(name, tensors)
        self.size, self.randomness = size, randomness
        self.draws = size if randomness == "different" else 1

    def constant(self, tensor: Tensor) -> Batched:
        """All examples share it."""
        return Batched(tensor)

    def below(self, array: Batched) -> Tensor | None:
        """What all examples share."""
        return None if array.mapped else array.tensor

    def counter(self, counter: Tensor, blocks: int) -> Tensor:
        """Each example's own counter, behind that of the one before by the ``blocks`` that it takes."""
        if self.randomness == "error":
            raise BackendError(
                'vmap: the function draws random numbers, and randomness="error" was given: "different" draws for each '
                'example, "same" once for all'
            )
        if self.randomness == "same":
            return self.lift(counter)
        return wrap(Counters(counter, blocks, self.size), self)

    def kernel(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """The op on operands of which at least one is mapped; on others it runs below, once."""
        if op.data_dependent:
            whole = _refuse_shape
        elif op.kind == "random":
            whole = _drawn
        elif op.batch is not None:
            whole = op.batch
        elif op.kind == "elementwise" and not op.variadic:
            return _elementwise(op, self.body(op, dtype))
        elif op.leading or op.kind in ("reduce", "scan"):
            whole = _leading
        else:
            whole = _missing
        body = self.body(op, dtype) or functools.partial(_missing, op)
        if whole is _missing:
            return body

        def run(*operands: Any, **params: Any) -> Any:
            tensors, mapped, n = [], [], -1
            for x in operands:
                if isinstance(x, Batched):
                    if x.mapped:
                        n = x.n if x.__class__ is Counters else x.tensor._data.shape[0]
                        tensors.append(x if x.__class__ is Counters else x.tensor)
                    else:
                        tensors.append(x.tensor)
                    mapped.append(x.mapped)
                else:
                    tensors.append(x)
                    mapped.append(False)
            given = plain(params)
            if n < 0:
                return _out(execute(op, tensors, given), False)
            result = whole(op, n, tensors, mapped, given)
            return body(*operands, **params) if result is NotImplemented else _out(result, True)

        return run

    def custom_gradient(self, decorate: Any, fn: Any, args: Any, kwargs: Any) -> tuple[Tensor, Any]:
        """The result of a function with a rule of its own, recorded below with that rule; and the rule."""
        leaves, build = flatten([list(args), kwargs])
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        own = [leaves[i] if leaves[i]._backend is self else self.lift(leaves[i]) for i in places]
        found: list[Any] = []

        def below(*tensors: Tensor) -> Any:
            for i, x, t in zip(places, own, tensors, strict=True):
                leaves[i] = wrap(Batched(t, x._data.mapped), self, x._node)
            given, named = build(leaves)
            result, rule = fn(*given, **named)
            result = result if result._backend is self else self.lift(result)
            found[:] = [result._data.mapped, rule]

            def cotangents(g: Tensor) -> list[Any]:
                back = rule(wrap(Batched(g, result._data.mapped), self))
                back = back if isinstance(back, tuple | list) else (back,)
                return [self._collected(c, x._data.mapped) for c, x in zip(back, own, strict=True)]

            return result._data.tensor, cotangents

        y = decorate(below)(*[x._data.tensor for x in own])
        return wrap(Batched(y, found[0]), self), found[1]

    def _collected(self, g: Tensor | None, mapped: bool) -> Tensor | None:
        """A cotangent below: of what the examples share, their sum."""
        if g is None:
            return None
        array = (g if g._backend is self else self.lift(g))._data
        if mapped:
            return spread(array.tensor, self.size, array.mapped)
        return calls.sum(array.tensor, axis=0) if array.mapped else calls.multiply(array.tensor, self.size)


def _out(result: Any, mapped: bool) -> Any:
    if result.__class__ is tuple or isinstance(result, tuple | list):
        return tuple([Batched(r, mapped) for r in result])
    return Batched(result, mapped)


# -- rules by kind -------------------------------------------------------------------------------------------


def _elementwise(op: Op, body: Callable[..., Any] | None) -> Callable[..., Any]:
    """Operands broadcast behind the examples; the op's own quick path runs below where it has one."""
    fn = op.fn

    def two(x1: Any, x2: Any) -> Any:
        if not isinstance(x1, Batched):
            return Batched(fn(x1, x2.tensor), x2.mapped)
        if not isinstance(x2, Batched):
            return Batched(fn(x1.tensor, x2), x1.mapped)
        a, b, ndim = x1.tensor, x2.tensor, len(x1.shape)
        if ndim < len(x2.shape):
            a = aligned(a, x1.mapped, len(x2.shape))
        elif ndim > len(x2.shape):
            b = aligned(b, x2.mapped, ndim)
        return Batched(fn(a, b), x1.mapped or x2.mapped)

    def several(*operands: Any, **params: Any) -> Any:
        arrays = [x for x in operands if isinstance(x, Batched)]
        mapped = any(x.mapped for x in arrays)
        if mapped and body is not None and len(arrays) > 1:
            # its rule may ask for more than that shapes broadcast, as those of updates of parameters do
            shape = max((x.shape for x in arrays), key=len)
            if not shape or any(x.shape != (shape if x.mapped else ()) for x in arrays):
                return body(*operands, **params)
        ndim = max(len(x.shape) for x in arrays)
        tensors = [aligned(x.tensor, x.mapped, ndim) if isinstance(x, Batched) else x for x in operands]
        return _out(execute(op, tensors, plain(params)), mapped)

    if op.params or len(op.operands) > 2:
        return several
    return two if len(op.operands) == 2 else lambda x: Batched(fn(x.tensor), x.mapped)


def _leading(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """One more axis in front of each operand, of equally many axes if there are several."""
    if len(operands) > 1:
        ndim = max(x.ndim - m for x, m in zip(operands, mapped, strict=True))
        operands = [
            spread(aligned(x, m, ndim) if m else calls.reshape(x, (*(1,) * (ndim - x.ndim), *x.shape)), n, m)
            for x, m in zip(operands, mapped, strict=True)
        ]
    return execute(op, operands, params)


def _drawn(op: Op, n: int, operands: Any, mapped: Any, params: dict[str, Any]) -> Any:
    """Bits of each example's own counter: at once where one counter begins where the blocks of another end, else one
    example after the other.
    """
    shape = params["shape"]
    key, counter = operands[0], operands[-1]
    if n and counter.__class__ is Counters and not mapped[0]:
        width = counter.step * (4 if params["dtype"] is uint32 else 2)  # words of a block
        words = math.prod(shape)
        if width >= words:
            every = execute(op, (key, counter.first), {**params, "shape": (n, width)})
            return calls.reshape(every if width == words else every[:, :words], (n, *shape))
    operands = [x.tensor if x.__class__ is Counters else x for x in operands]
    if not n:
        return calls.full((0, *shape), 0, dtype=params["dtype"], device=key._backend)
    each = [[x[i] if m else x for x, m in zip(operands, mapped, strict=True)] for i in range(n)]
    return calls.stack([execute(op, given, params) for given in each])


def _refuse_shape(op: Op, *rest: Any) -> Any:
    raise UnsupportedError(
        f"{op.name}: the shape of its result depends on values, so that the examples of vmap have different ones: compute with "
        "where(), or call it outside"
    )


def _missing(op: Op, *operands: Any, **params: Any) -> Any:
    raise UnsupportedError(
        f"{op.name}: vmap has no rule for this {op.kind} op ({op.where}): declare it with leading=True if it takes any "
        "leading axes, with batch=, or as a composite"
    )


# -- the function --------------------------------------------------------------------------------------------


def vmap(
    fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0, *, randomness: str = "different"
) -> Callable[..., Any]:
    """A function that applies ``fn`` to every example of a batch, in one run.

    ``in_axes``: along which axis each positional argument holds the examples; None for an argument that all examples
    share; a tuple with one entry per argument, each an axis, None, or a nested structure of them for an argument that is
    one. Keyword arguments are shared. ``out_axes``: where the examples' axis is in each result, the same way; None only
    for a result that no example changes. ``randomness``: each example draws "different" random numbers, all draw the
    "same", or drawing is an "error".

    The result is that of ``stack([fn(example) for each example])``; of no examples it has a size of 0. ``fn`` is called
    once, and cannot read values of a mapped tensor (``if x > 0``, ``x.item()``); use ``where``. Raises ShapeError for
    mapped axes of different sizes, AxisError for an axis that does not exist, UnsupportedError for ops whose result's
    shape depends on values.

    Example: ``vmap(grad(lambda x: (x * x).sum()))(x)`` is ``2 * x``: one gradient for each row.
    """
    if randomness not in RANDOMNESS:
        raise ArgumentError(
            f"vmap: randomness must be one of {', '.join(map(repr, RANDOMNESS))}, got {randomness!r}"
        )

    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, build = flatten(list(args))
        axes = matched("vmap: in_axes", in_axes, list(args), "args")
        tensors, size = _examples(leaves, axes)
        level = Batcher("vmap", [x for x in leaves if isinstance(x, Tensor)], size, randomness)
        inside = [
            x if t is None else wrap(Batched(t, True), level) for x, t in zip(leaves, tensors, strict=True)
        ]
        with level.entered():
            result = fn(*build(inside), **kwargs)
            results, rebuild = flatten(result)
            places = matched("vmap: out_axes", out_axes, result, "result")
            outside = [
                _outside(level, y, axis, path) for y, (axis, path) in zip(results, places, strict=True)
            ]
        level.leave(results)
        return rebuild(outside)

    mapped.__name__ = f"vmap({getattr(fn, '__name__', type(fn).__name__)})"
    mapped.__doc__ = getattr(fn, "__doc__", None)
    mapped.__wrapped__ = fn  # type: ignore[attr-defined]
    return mapped


def _examples(leaves: Sequence[Any], axes: Sequence[tuple[Any, str]]) -> tuple[list[Tensor | None], int]:
    """Each mapped leaf with the examples in front (None for the others), and how many examples there are."""
    tensors: list[Tensor | None] = []
    sizes: dict[int, str] = {}
    for x, (axis, path) in zip(leaves, axes, strict=True):
        if axis is None or x is None:
            tensors.append(None)
            continue
        if not isinstance(x, Tensor):
            raise DTypeError(
                f"vmap: {path} is {x!r}, which has no axis to map: call corelib.asarray, or give None for it in in_axes"
            )
        place = _place(axis, x.ndim, "in_axes", path, f"of shape {x.shape}")
        size = x.shape[place]
        sizes.setdefault(size, f"{path} of shape {x.shape} has {size} along axis {axis}")
        tensors.append(front(x, place))
    if not sizes:
        raise ArgumentError("vmap: no argument is mapped: in_axes must name an axis of at least one tensor")
    if len(sizes) > 1:
        raise ShapeError(f"vmap: the mapped axes have different sizes: {', '.join(sizes.values())}")
    return tensors, next(iter(sizes))


def _place(axis: Any, ndim: int, what: str, path: str, of: str) -> int:
    """An axis counted from the front."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise ArgumentError(f"vmap: {what} holds integers and None, got {axis!r} for {path}")
    if not -ndim <= axis < ndim:
        raise AxisError(
            f"vmap: {path} {of} has no axis {axis} to map: give None in {what} for it"
            if not ndim
            else f"vmap: {what} {axis} is out of range for {path} {of}"
        )
    return axis % ndim


def _outside(level: Batcher, y: Any, axis: Any, path: str) -> Any:
    """A result with the examples' axis where ``out_axes`` has it."""
    if y is None:
        return None
    if isinstance(y, bool | int | float | complex):
        y = calls.asarray(y)
    if not isinstance(y, Tensor):
        raise DTypeError(f"vmap: {path} must be a tensor, a number or None, got {y!r}")
    if y._backend is not level:
        if y._backend.level >= level.level:
            raise escaped("vmap", y)
        y = level.lift(y)
    array = y._data
    if axis is None:
        if array.mapped:
            raise ArgumentError(
                f"vmap: {path} is another one for each example: out_axes must not be None for it"
            )
        return same(array.tensor)
    tensor = spread(array.tensor, level.size, array.mapped)
    place = _place(axis, tensor.ndim, "out_axes", path, f"of shape {array.shape} for each example")
    if place:
        tensor = calls.permute_dims(tensor, (*range(1, place + 1), 0, *range(place + 1, tensor.ndim)))
    return same(tensor)
