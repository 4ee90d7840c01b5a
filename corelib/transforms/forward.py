"""Forward mode: ``jvp`` runs a function on dual numbers, pairs of a value and its tangent.

Each call is a level of its own, so that the tangents of nested calls cannot be confused. The tangent of a result
follows from the op's declared derivative, by its kind: partials times tangents; the op itself on tangents where it is
linear; its ``jvp``, or its ``vjp`` transposed; and a body runs on dual numbers itself. All of it is public ops on the
tensors below, which may be tensors of other transformations, or tracked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import enable_grad, is_grad_enabled
from ..dispatch import execute
from ..dtypes import DType, as_dtype
from ..errors import DTypeError, ShapeError
from ..op import Op, calls
from ..rules import Spec
from ..tape import alias, full_like, paused, same
from ..tensor import Tensor, wrap
from ..tree import flatten, map_tensors
from ..walk import walk
from .wrapper import Wrapper, escaped, plain


class Dual:
    """An array of forward mode: a tensor, and its tangent or None for zero."""

    __slots__ = ("dtype", "primal", "shape", "tangent")

    def __init__(self, primal: Tensor, tangent: Tensor | None = None) -> None:
        self.primal, self.tangent = primal, tangent
        self.shape, self.dtype = primal._data.shape, as_dtype(primal._data.dtype)


class Forward(Wrapper):
    """The backend of one call of ``jvp``."""

    def constant(self, tensor: Tensor) -> Dual:
        """Its tangent is zero."""
        return Dual(tensor)

    def below(self, array: Dual) -> Tensor:
        """Its value."""
        return array.primal

    def kernel(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """The op on values, and the rule of its kind on tangents; ``no_grad`` makes constants here as well."""
        body: Any = self.body(op, dtype)

        def run(*operands: Any, **params: Any) -> Any:
            primals, tangents, moving = [], [], False
            for x in operands:
                if x.__class__ is Dual:
                    primals.append(x.primal)
                    tangents.append(x.tangent)
                    moving = moving or x.tangent is not None
                else:
                    primals.append(x)
                    tangents.append(None)
            derivative = op.derivative
            moving = moving and derivative.kind != "nondiff" and paused.get() is not False
            if moving and derivative.kind == "body":
                return body(*operands, **params)
            params = plain(params)
            y = execute(op, primals, params)
            rule: Any = _through_jvp if derivative.jvp is not None else _RULES.get(derivative.kind)
            t = rule(op, primals, params, y, tangents) if moving else None
            if y.__class__ is tuple:
                return tuple([_dual(a, b) for a, b in zip(y, t or [None] * len(y), strict=True)])
            return _dual(y, t)

        return run

    def custom_gradient(self, decorate: Any, fn: Any, args: Any, kwargs: Any) -> tuple[Tensor, Any]:
        """The result of a function with a rule of its own, whose transpose is the tangent; and the rule."""
        leaves, build = flatten([list(args), kwargs])
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        duals = [(leaves[i] if leaves[i]._backend is self else self.lift(leaves[i]))._data for i in places]
        rules = []

        def on_values(*primals: Tensor) -> Any:
            for i, x in zip(places, primals, strict=True):
                leaves[i] = x
            given, named = build(leaves)
            result, rule = fn(*given, **named)
            rules.append(rule)
            return result, rule

        y = decorate(on_values)(*[d.primal for d in duals])

        def cotangents(g: Tensor) -> Any:
            found = rules[0](g)
            return found if isinstance(found, tuple | list) else (found,)

        tangent = None
        if paused.get() is not False and any(d.tangent is not None for d in duals):
            tangent = _transposed(cotangents, [d.primal for d in duals], y, [d.tangent for d in duals])
        return wrap(_dual(y, tangent), self), lambda g: fn(*args, **kwargs)[1](g)


def _dual(y: Tensor, tangent: Tensor | None) -> Dual:
    dual = Dual(y, tangent)
    if tangent is not None and dual.dtype.kind not in ("float", "complex"):
        dual.tangent = None
    return dual


# -- the tangent of a result, by the kind of derivative ------------------------------------------------------


def _arguments(
    op: Op, reads: Any, operands: Sequence[Any], params: dict[str, Any], y: Any, g: Any = None
) -> list[Any]:
    """The arguments of a derivative rule, in the order in which it names them."""
    last = len(op.operands) - 1
    args: list[Any] = []
    for name, how, slot in reads:
        if how == "param":
            args.append(params[name])
        elif how in ("y", "g"):
            args.append(y if how == "y" else g)
        elif op.variadic and slot == last:
            args.append(tuple(_as(how, x) for x in operands[slot:]))
        else:
            args.append(_as(how, operands[slot]))
    return args


def _as(how: str, x: Any) -> Any:
    return Spec(x.shape, x.dtype) if how == "spec" and isinstance(x, Tensor) else x


def _zeros(like: Any) -> Any:
    """The tangent of a constant: zeros for a tensor, the number 0 for a number, None for None."""
    if isinstance(like, Tensor):
        return full_like(Spec(like.shape, like.dtype), like._backend, 0)
    return None if like is None else like.__class__()


def _by_partials(op: Op, operands: Any, params: Any, y: Tensor, tangents: Any) -> Tensor | None:
    """The sum of partial derivatives times tangents; its real part where the result is real, as of abs."""
    total = None
    for rule, reads, tangent in zip(op.derivative.rules, op.derivative.reads, tangents, strict=True):
        if tangent is None or rule is None:
            continue
        partial = rule if isinstance(rule, int | float) else rule(*_arguments(op, reads, operands, params, y))
        if isinstance(partial, Tensor) or partial not in (1, -1):
            tangent = calls.multiply(tangent, partial)
        elif partial == -1:
            tangent = calls.negative(tangent)
        total = tangent if total is None else calls.add(total, tangent)
    if total is None:
        return None
    if total.dtype.kind == "complex" and y.dtype.kind != "complex":
        total = calls.real(total)
    return total if total.shape == y.shape else calls.broadcast_to(total, y.shape)


def _linear(op: Op, operands: Any, params: Any, y: Any, tangents: Any) -> Any:
    """The op on the tangents of the operands in which it is linear; the others stay."""
    rules = op.derivative.rules
    given = [
        x if rules[op.slot(p)] is None else t if t is not None else _zeros(x)
        for p, (x, t) in enumerate(zip(operands, tangents, strict=True))
    ]
    if all(t is None for p, t in enumerate(tangents) if rules[op.slot(p)] is not None):
        return None
    return execute(op, given, params)


def _bilinear(op: Op, operands: Any, params: Any, y: Tensor, tangents: Any) -> Tensor:
    """The product rule; what is added to the product has its tangent added."""
    (x1, x2, *_), (dx1, dx2, *added) = operands, tangents
    pairs = [p for p, t in zip(((dx1, x2), (x1, dx2)), (dx1, dx2), strict=True) if t is not None]
    none = [None] * len(added)
    total = None
    for i, pair in enumerate(pairs):
        term = execute(op, [*pair, *(none if i else added)], params)
        total = term if total is None else calls.add(total, term)
    return calls.broadcast_to(added[0], y.shape) if total is None else total


def _through_jvp(op: Op, operands: Any, params: Any, y: Any, tangents: Any) -> Any:
    """The declared ``jvp``, which reads the tangent of an operand x as dx."""
    args = []
    for name in inspect.signature(op.derivative.jvp).parameters:  # type: ignore[arg-type]
        if name in op.params:
            args.append(params[name])
        elif name == "y":
            args.append(y)
        elif name in op.operands:
            args.append(operands[op.operands.index(name)])
        else:
            slot = op.operands.index(name[1:])
            args.append(_zeros(operands[slot]) if tangents[slot] is None else tangents[slot])
    return op.derivative.jvp(*args)  # type: ignore[misc]


def _through_vjp(op: Op, operands: Any, params: Any, y: Any, tangents: Any) -> Any:
    """The declared ``vjp``, which is linear in its cotangent, transposed."""

    def cotangents(g: Any) -> list[Any]:
        (rule,), (reads,) = op.derivative.rules, op.derivative.reads
        found = rule(*_arguments(op, reads, operands, params, y, g))
        found = list(found) if isinstance(found, tuple | list) else [found]
        if op.variadic and len(found) == len(op.operands) and isinstance(found[-1], tuple | list):
            found = [*found[:-1], *found[-1]]
        return found

    return _transposed(cotangents, operands, y, tangents)


def _transposed(pullback: Any, operands: Sequence[Any], y: Any, tangents: Sequence[Tensor | None]) -> Any:
    """The transpose, at ``tangents``, of a function from y's cotangent to those of the operands."""
    ys = y if y.__class__ is tuple else (y,)
    with enable_grad():
        variables = [alias(_zeros(r)) for r in ys]
        found = pullback(tuple(variables) if y.__class__ is tuple else variables[0])
        roots = [
            (c._node, t)
            for c, t in zip(found, tangents, strict=False)
            if c is not None and t is not None and c._node is not None
        ]
        tracked = any(isinstance(x, Tensor) and x._node is not None for x in (*operands, *ys, *tangents))
        sums = walk(roots, targets=[v._node for v in variables], record=tracked)
    results = [_zeros(r) if s is None else s for r, s in zip(ys, sums, strict=True)]
    return tuple(results) if y.__class__ is tuple else results[0]


_RULES: dict[str, Any] = {"d": _by_partials, "linear": _linear, "bilinear": _bilinear, "vjp": _through_vjp}


# -- the function --------------------------------------------------------------------------------------------


def _pairs(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Tensor], list[Tensor], Any]:
    """The tensors of ``primals``, their tangents, and a function that puts values in their places."""
    leaves, build = flatten(list(primals))
    given, _ = flatten(list(tangents))
    if len(given) != len(leaves):
        raise ShapeError(f"jvp: {len(given)} tangents were given for {len(leaves)} tensors in the primals")
    for x, t in zip(leaves, given, strict=True):
        if not isinstance(x, Tensor) or x.dtype.kind not in ("float", "complex"):
            got = f"{x.dtype.name}" if isinstance(x, Tensor) else repr(x)
            raise DTypeError(
                f"jvp: primals are tensors of a floating or complex dtype, got {got}: take others into the function"
            )
        if not isinstance(t, Tensor) or t.shape != x.shape or t.dtype is not x.dtype:
            got = f"{t.dtype.name}{list(t.shape)}" if isinstance(t, Tensor) else repr(t)
            raise ShapeError(
                f"jvp: a tangent must be {x.dtype.name}{list(x.shape)} like its primal, got {got}"
            )
    return leaves, given, build


def jvp(
    fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """``fn(*primals)`` and its directional derivative along ``tangents`` (one per primal, of its structure).

    Primals are tensors, or nested lists, tuples and dictionaries of tensors, of floating or complex dtypes. With
    ``has_aux``, ``fn`` returns a pair of its result and anything else, which comes back as a third value. Forward
    mode: one pass, which keeps nothing.

    Example: ``jvp(exp, (x,), (ones(x.shape),))`` is ``(exp(x), exp(x))``.
    """
    leaves, given, build = _pairs(primals, tangents)
    values, pushed, aux = along(fn, build, leaves, given, has_aux=has_aux)
    return (values, pushed, aux) if has_aux else (values, pushed)


def along(
    fn: Callable[..., Any],
    build: Any,
    leaves: list[Tensor],
    given: Sequence[Tensor | None],
    *,
    has_aux: bool = False,
) -> tuple[Any, Any, Any]:
    """``fn(*build(leaves))``, its derivative along the tangents ``given`` (None for zero), and what came with it."""
    quiet = not is_grad_enabled()
    level = Forward("jvp", [*leaves, *[t for t in given if t is not None]])
    with level.entered(), enable_grad():
        result = fn(*build([wrap(Dual(x, t), level) for x, t in zip(leaves, given, strict=True)]))
        result, aux = result if has_aux else (result, None)

    def parts(y: Any) -> tuple[Any, Any]:
        if not isinstance(y, Tensor):
            return y, None
        if y._backend is not level:
            if y._backend.level >= level.level:
                raise escaped("jvp", y)
            return same(y), _zeros(y)
        dual = y._data
        pair = same(dual.primal), _zeros(dual.primal) if dual.tangent is None else same(dual.tangent)
        return (pair[0].detach(), pair[1].detach()) if quiet else pair

    results, rebuild = flatten(result)
    both = [parts(y) for y in results]
    aux = map_tensors(lambda t: parts(t)[0], aux)
    level.leave(results)
    return rebuild([b[0] for b in both]), rebuild([b[1] for b in both]), aux
