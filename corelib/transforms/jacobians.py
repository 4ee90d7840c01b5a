"""Matrices of derivatives, made of ``vmap`` over ``vjp`` and ``jvp``: all rows, or all columns, in one run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import grad, one, vjp
from ..errors import DTypeError, GradientError
from ..op import calls
from ..ops.creation import eye
from ..rules import Spec
from ..tape import full_like
from ..tensor import Tensor
from ..tree import flatten
from .batching import vmap
from .forward import along, jvp


def _basis(x: Tensor) -> Tensor:
    """The tensors like x with a single 1, stacked: shape ``(x.size, *x.shape)``."""
    return calls.reshape(eye(x.size, dtype=x.dtype, device=x._backend), (x.size, *x.shape))


def _zeros(x: Tensor) -> Tensor:
    return full_like(Spec(x.shape, x.dtype), x._backend, 0)


def _chosen(
    what: str, fn: Callable[..., Any], args: Any, kwargs: Any, argnums: Any
) -> tuple[Any, list[Any], bool]:
    """``fn`` as a function of the arguments ``argnums``, those arguments, and whether it is a single one."""
    single = isinstance(argnums, int)
    numbers = [argnums] if single else list(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise GradientError(f"{what}: argnums {n} is out of range for {len(args)} arguments")
    numbers = [n % len(args) for n in numbers]

    def of_chosen(*chosen: Any) -> Any:
        given = list(args)
        for n, x in zip(numbers, chosen, strict=True):
            given[n] = x
        return fn(*given, **kwargs)

    return of_chosen, [args[n] for n in numbers], single


def _real(what: str, fn: Any, leaves: Sequence[Any]) -> None:
    for x in leaves:
        if not isinstance(x, Tensor):
            raise GradientError(f"{what}: {fn!r} must take and return tensors, got {type(x).__name__}")
        if x.dtype.kind == "complex":
            raise GradientError(
                f"{what} of complex numbers: not every function has one; use vjp, jvp or grad"
            )
        if x.dtype.kind != "float":
            raise DTypeError(
                f"{what} needs a floating dtype, got {x.dtype.name}: call x.astype(corelib.float32)"
            )


def jacrev(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``fn`` by reverse mode: all rows at once, from one run of ``fn``.

    For a tensor argument x and a tensor result y it has the shape ``y.shape + x.shape``. If ``fn`` returns a tree of
    tensors, so does this, each leaf replaced by its derivatives; an argument may be a tree as well, and ``argnums`` a
    tuple, which gives one. The better choice where ``fn`` has fewer results than arguments. Raises GradientError for complex numbers.

    Example: ``jacrev(lambda x: x @ ones((3, 4)))(x)`` for x of shape (2, 3) has shape (2, 4, 2, 3).
    """

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen, single = _chosen("jacrev", fn, args, kwargs, argnums)
        inputs, like = flatten(chosen)
        _real("jacrev", fn, inputs)
        y, pullback = vjp(of_chosen, *chosen)
        results, rebuild = flatten(y)
        _real("jacrev", fn, results)

        def rows(k: int) -> Any:
            y = results[k]
            zeros = [None if i == k else _zeros(r) for i, r in enumerate(results)]

            def of_result(g: Tensor) -> Any:
                return pullback(rebuild([g if z is None else z for z in zeros]))

            if y.shape:
                found = vmap(of_result)(_basis(y))
            else:
                found = of_result(one(y))
            matrices = [
                calls.reshape(m, (*y.shape, *x.shape)) for m, x in zip(flatten(found)[0], inputs, strict=True)
            ]
            built = like(matrices)
            return built[0] if single else tuple(built)

        return rebuild([rows(k) for k in range(len(results))])

    return call


def jacfwd(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``fn`` by forward mode: all columns at once.

    The result is that of :func:`jacrev`. The better choice where ``fn`` has fewer arguments than results, or where
    reverse mode keeps too much.

    Example: ``jacfwd(lambda x: x @ ones((3, 4)))(x)`` for x of shape (2, 3) has shape (2, 4, 2, 3).
    """

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen, single = _chosen("jacfwd", fn, args, kwargs, argnums)
        inputs, like = flatten(chosen)
        _real("jacfwd", fn, inputs)
        shape: list[Any] = []

        def columns(k: int) -> list[Tensor]:
            def along_one(t: Tensor) -> Any:
                tangents = [t if i == k else None for i in range(len(inputs))]
                y, pushed, _ = along(of_chosen, like, inputs, tangents)
                results, rebuild = flatten(y)
                _real("jacfwd", fn, results)
                shape[:] = [rebuild]
                return flatten(pushed)[0]

            found = vmap(along_one, out_axes=-1)(_basis(inputs[k]))
            return [calls.reshape(m, (*m.shape[:-1], *inputs[k].shape)) for m in found]

        each = [columns(k) for k in range(len(inputs))]
        (rebuild,) = shape
        built = [like(list(matrices)) for matrices in zip(*each, strict=True)]
        return rebuild([b[0] if single else tuple(b) for b in built])

    return call


def hessian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the second derivatives of ``fn``, forward over reverse: shape ``x.shape + x.shape`` for a
    scalar result, and ``y.shape`` in front for a tensor.

    With ``argnums`` a tuple, the result's entry [i][j] belongs to the arguments i and j.

    Example: ``hessian(lambda x: (x * x).sum())(x)`` for x of shape (3,) is ``2 * eye(3)``.
    """
    return jacfwd(jacrev(fn, argnums), argnums)


def hvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The Hessian of a scalar-valued ``fn`` at ``primals`` times ``tangents``: a tuple, one product per primal, of its
    structure.

    Forward over reverse: about the cost of two gradients, and never a matrix. See :func:`jvp` for what primals are.

    Example: ``hvp(lambda x: (x**3).sum(), (x,), (ones(x.shape),))[0]`` is ``6 * x``.
    """
    return jvp(grad(fn, tuple(range(len(primals)))), primals, tangents)[1]
