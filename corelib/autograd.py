"""Derivatives: of a graph that was recorded (``backward``) and of functions (``grad``, ``value_and_grad``, ``vjp``).

All of them walk the tape (``tape.py``) with rules that are themselves ops, so that they nest to any order on
any backend. A functional derivative records its own walk only if something outside can ask for a derivative
of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from .errors import BackendError, DTypeError, GradientError, ShapeError
from .op import calls
from .registry import active_backends, at_active_level
from .rules import Spec
from .tape import LEAF, Leaf, Node, _Pseudo, alias, full_like, paused, pick, same
from .tensor import Tensor, wrap
from .tree import flatten, map_tensors
from .walk import walk

F = TypeVar("F", bound=Callable[..., Any])

# -- recording on and off ------------------------------------------------------------------------------------


class _Switch:
    """A context manager and decorator that sets whether ops record."""

    def __init__(self, mode: Any) -> None:
        self._mode = mode
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        self._tokens.append(paused.set(self._mode))

    def __exit__(self, *exc: object) -> None:
        paused.reset(self._tokens.pop())

    def __call__(self, fn: F) -> F:
        mode = self._mode

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _Switch(mode):
                return fn(*args, **kwargs)

        return call  # type: ignore[return-value]


def no_grad() -> _Switch:
    """Record nothing inside ``with no_grad():`` (or in a function decorated ``@no_grad()``), in this thread
    and context.

    Example::

        with corelib.no_grad():
            accuracy = (model(x).argmax(axis=-1) == labels).astype(corelib.float32).mean()
    """
    return _Switch(False)


def enable_grad() -> _Switch:
    """Record inside ``with enable_grad():`` even within ``no_grad``."""
    return _Switch(None)


def is_grad_enabled() -> bool:
    """Whether ops on tensors that require a gradient are recorded here and now."""
    return paused.get() is None


# -- gradients of tensors ------------------------------------------------------------------------------------


def _require_floating(x: Tensor, what: str) -> None:
    if x.dtype.kind not in ("float", "complex"):
        raise DTypeError(
            f"{what} needs a floating or complex dtype, got {x.dtype.name}: call x.astype(corelib.float32)"
        )


def requires_grad_(x: Tensor, flag: bool = True) -> Tensor:
    """Make ``x`` a leaf that collects ``.grad`` (or cut it off); returns x."""
    if not flag:
        x._node = None
        return x
    _require_floating(x, "requires_grad_")
    if x._node is None:
        x._node = Leaf(x)
    elif x._node.op is not LEAF:
        raise GradientError(
            "requires_grad_() of a tensor with history: it is recorded already; call detach() first to make it a leaf"
        )
    return x


def _own(g: Tensor) -> Tensor:
    """g as a tensor of its own: a rule may hand one cotangent to several operands, and ``x.grad += 1`` is about one."""
    return wrap(g._data, g._backend, g._node)


def _deposit(leaf: Leaf, g: Tensor) -> None:
    leaf.grad = _own(g) if leaf.grad is None else calls.add(leaf.grad, g)


def _cotangent(y: Tensor, g: Tensor | None, what: str) -> Tensor:
    _require_floating(y, what)
    if g is None:
        if y.shape != ():
            raise ShapeError(
                f"{what} of a tensor of shape {y.shape} needs a cotangent g of that shape; only a scalar can do without"
            )
        if y.dtype.kind == "complex":
            raise GradientError(
                f"{what} of a complex number needs a cotangent g, or a real number: take abs(y) or real(y)"
            )
        return one(y)
    if not isinstance(g, Tensor) or g.shape != y.shape or g.dtype is not y.dtype:
        got = f"{g.dtype.name}{list(g.shape)}" if isinstance(g, Tensor) else repr(g)
        raise ShapeError(
            f"{what}: the cotangent must be {y.dtype.name}{list(y.shape)} like the result, got {got}"
        )
    if g._backend is not y._backend and g._backend.level == y._backend.level:
        raise BackendError(
            f"{what}: the cotangent is on {g.device!r}, the result on {y.device!r}: call g.to({y.device!r})"
        )
    return g


_ONES: dict[tuple[str, Any], Tensor] = {}


def one(y: Tensor) -> Tensor:
    """The scalar 1 in y's dtype on its backend; a value, so one serves every backward pass."""
    if y._backend.level:
        return full_like(Spec((), y.dtype), y._backend, 1)
    key = (y._backend.device, y._data.dtype)
    found = _ONES.get(key)
    if found is None or found._backend is not y._backend:
        found = _ONES[key] = full_like(Spec((), y.dtype), y._backend, 1)
    return found


def backward(
    x: Tensor, g: Tensor | None = None, *, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """See :meth:`corelib.Tensor.backward`."""
    if x._node is None:
        raise GradientError(
            "backward() of a tensor without history: no operand requires a gradient (call requires_grad_() on one before computing)"
        )
    walk(
        [(x._node, _cotangent(x, g, "backward"))],
        record=create_graph,
        free=not retain_graph,
        deposit=_deposit,
    )


calls.requires_grad_, calls.backward = requires_grad_, backward

# -- derivatives of functions --------------------------------------------------------------------------------


def _observed(roots: Sequence[Node], variables: Sequence[Node]) -> bool:
    """Whether a derivative with respect to ``variables`` can itself be differentiated from outside.

    It can if a variable stands for a tracked tensor, or if the graph contains another variable or leaf.
    """
    if any(v.parents for v in variables):
        return True
    seen, stack = set(variables), list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if not node.parents:
            return True
        stack.extend(p for p in node.parents if p is not None)
    return False


class _Variables:
    """The arguments of a function with some of their tensors replaced by fresh variables."""

    def __init__(self, args: tuple[Any, ...], argnums: int | Sequence[int], what: str) -> None:
        self.single = isinstance(argnums, int)
        self.numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        for n in self.numbers:
            if not -len(args) <= n < len(args):
                raise GradientError(f"{what}: argnums {n} is out of range for {len(args)} arguments")
        self.numbers = [n % len(args) for n in self.numbers]
        self.args = list(args)
        self.variables: list[Tensor] = []
        self._builders = []
        for n in self.numbers:
            leaves, build = flatten(args[n])
            new = []
            for leaf in leaves:
                if not isinstance(leaf, Tensor):
                    raise DTypeError(
                        f"{what}: argument {n} must hold tensors, got {type(leaf).__name__}: name others with argnums"
                    )
                _require_floating(leaf, what)
                new.append(alias(at_active_level(leaf)))  # below, it would be lost to this derivative
            self.args[n] = build(new)
            self.variables += new
            self._builders.append((build, len(new)))

    @property
    def nodes(self) -> list[Node]:
        return [v._node for v in self.variables]

    def shape_like(self, values: Sequence[Any]) -> Any:
        """One value per variable, in the structure of the arguments."""
        results, start = [], 0
        for build, count in self._builders:
            results.append(build(values[start : start + count]))
            start += count
        return results[0] if self.single else tuple(results)

    def zeros(self, found: Sequence[Tensor | None]) -> list[Tensor]:
        return [
            full_like(Spec(v.shape, v.dtype), v._backend, 0) if f is None else _own(f)
            for v, f in zip(self.variables, found, strict=True)
        ]


def _released(tree: Any, keep: bool) -> Any:
    return tree if keep else map_tensors(lambda t: wrap(t._data, t._backend), tree)


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns ``fn``'s value and its gradient with respect to the arguments ``argnums``.

    ``fn`` must return a scalar floating tensor (with ``has_aux``, a pair of it and anything else, and the
    value is that pair). An argument may be a tensor or nested lists, tuples and dictionaries of tensors; its
    gradient has the same structure, shapes, dtypes and devices.

    Example: ``value_and_grad(f)(x)`` is ``(f(x), grad(f)(x))``.
    """

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        inside = _Variables(args, argnums, "grad")
        with enable_grad():
            result = fn(*inside.args, **kwargs)
        value, aux = result if has_aux else (result, None)
        if not isinstance(value, Tensor):
            raise GradientError(f"grad: {fn!r} must return a scalar tensor, got {type(value).__name__}")
        g = _cotangent(value, None, "grad")
        if value._node is None:
            return (value, aux) if has_aux else value, inside.shape_like(
                inside.zeros([None] * len(inside.variables))
            )
        observed = _observed([value._node], inside.nodes)
        found = walk([(value._node, g)], targets=inside.nodes, record=observed, free=not observed)
        grads = inside.shape_like(inside.zeros(found))
        value, aux = _released((value, aux), observed)
        return (value, aux) if has_aux else value, grads

    return call


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of a scalar-valued ``fn``: see :func:`value_and_grad`.

    Example: ``grad(lambda x: (x * x).sum())(x)`` is ``2 * x``; ``grad(grad(f))`` is the second derivative.
    """
    both = value_and_grad(fn, argnums, has_aux=has_aux)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """``fn(*primals)`` and a function from cotangents of the result to a tuple of cotangents, one per primal.

    The result may be a tensor or a tree of tensors; the cotangent has the same structure. The function can be
    called repeatedly.

    Example::

        y, pullback = corelib.vjp(corelib.exp, x)
        (gradient,) = pullback(corelib.ones(y.shape))
    """
    inside = _Variables(primals, range(len(primals)), "vjp")
    with enable_grad():
        result = fn(*inside.args)
    leaves, _ = flatten(result)
    observed = _observed(
        [y._node for y in leaves if isinstance(y, Tensor) and y._node is not None], inside.nodes
    )

    def pullback(cotangent: Any) -> Any:
        given, _ = flatten(cotangent)
        if len(given) != len(leaves):
            raise ShapeError(f"vjp: {len(given)} cotangents were given for {len(leaves)} results")
        roots = [
            (y._node, _cotangent(y, g, "vjp"))
            for y, g in zip(leaves, given, strict=True)
            if isinstance(y, Tensor)
        ]
        tracked = any(isinstance(g, Tensor) and g._node is not None for g in given)
        found = walk([r for r in roots if r[0] is not None], targets=inside.nodes, record=observed or tracked)
        return inside.shape_like(inside.zeros(found))

    return _released(result, observed), pullback


# -- rules of one's own --------------------------------------------------------------------------------------


def _name(fn: Callable[..., Any]) -> str:
    """What to call a function in a graph and in errors; a module or a functools.partial has no name but its
    class's.
    """
    return getattr(fn, "__name__", type(fn).__name__)


def _node_for(name: str, pullback: Any, outputs: Sequence[Tensor], parents: tuple[Any, ...]) -> list[Tensor]:
    """The outputs of a function as tensors whose node is one pseudo-op."""
    op = _Pseudo(name, pullback)
    first = outputs[0]
    if len(outputs) == 1:
        node = Node(op, first._backend, parents, (), {}, None, first._data.shape, first._data.dtype)
        return [wrap(first._data, first._backend, node)]
    shapes, kinds = tuple(o._data.shape for o in outputs), tuple(o._data.dtype for o in outputs)
    node = Node(op, first._backend, parents, (), {}, None, shapes, kinds)
    return [wrap(o._data, o._backend, pick(node, o._data, i)) for i, o in enumerate(outputs)]


def custom_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: ``fn`` returns ``(result, vjp)``, where ``vjp(g)`` returns the cotangents of its tensor
    arguments.

    ``result`` is a tensor; ``vjp`` returns one cotangent per tensor argument, in order (a tuple if there are
    several; None for zero). For derivatives of higher order ``vjp`` must compute from the arguments of
    ``fn``, not from intermediate results, which carry no history.

    Example::

        @corelib.custom_gradient
        def clipped(x):  # the identity, whose gradient is kept within [-1, 1]
            return x * 1, lambda g: corelib.clip(g, -1, 1)

        corelib.grad(lambda x: (clipped(x) * 100).sum())(x)
    """

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        inputs = [a for a in flatten([list(args), kwargs])[0] if isinstance(a, Tensor)]
        wrapper = max((a._backend for a in inputs), key=lambda b: b.level, default=None)
        if wrapper is not None and hasattr(wrapper, "custom_gradient"):
            result, rule = wrapper.custom_gradient(custom_gradient, fn, args, kwargs)
        else:
            with no_grad():
                result, rule = fn(*args, **kwargs)
        parents = tuple(a._node for a in inputs)
        if not is_grad_enabled() or all(p is None for p in parents):
            return result

        def pullback(node: Node, g: Tensor, record: bool) -> Sequence[Any]:
            # no_grad would make constants of what a transformation carries or records below this level
            with enable_grad() if record or g._backend.level else no_grad():
                cotangents = rule(g)
            cotangents = cotangents if isinstance(cotangents, tuple | list) else (cotangents,)
            if not record:
                cotangents = [c if c is None else wrap(c._data, c._backend) for c in cotangents]
            if len(cotangents) != len(inputs):
                raise GradientError(
                    f"{_name(fn)}: vjp returned {len(cotangents)} cotangents for {len(inputs)} tensor arguments"
                )
            for a, c in zip(inputs, cotangents, strict=True):
                if c is not None and (c.shape != a.shape or c.dtype is not a.dtype):
                    raise GradientError(
                        f"{_name(fn)}: vjp returned {c.dtype.name}{list(c.shape)} for an argument {a.dtype.name}{list(a.shape)}"
                    )
            return cotangents

        return _node_for(_name(fn), pullback, [result], parents)[0]

    return call


def observed(
    tensors: Sequence[Tensor], see: Callable[[tuple[Tensor, ...]], Sequence[Tensor]], what: str
) -> list[Tensor]:
    """The same values; their cotangents pass through ``see`` together in a backward pass, which returns those that go on,
    of the same shapes and dtypes. Tensors that are not tracked are not there for ``see``.
    """
    found = list(tensors)
    tracked = [i for i, x in enumerate(found) if x._node is not None]
    if not tracked or not is_grad_enabled():
        return found

    def pullback(node: Node, g: Any, record: bool) -> Sequence[Any]:
        given = g if isinstance(g, tuple) else (g,)
        with enable_grad() if record or given[0]._backend.level else no_grad():
            cotangents = see(given)
        for before, after in zip(given, cotangents, strict=True):
            if not isinstance(after, Tensor) or (after.shape, after.dtype) != (before.shape, before.dtype):
                raise GradientError(
                    f"{what}: a hook must return {before.dtype.name}{list(before.shape)} for each gradient, got {after!r}"
                )
        return cotangents

    inputs = [same(found[i]) for i in tracked]
    for i, y in zip(tracked, _node_for(what, pullback, inputs, tuple(x._node for x in inputs)), strict=True):
        found[i] = y
    return found


@contextmanager
def _collect() -> Iterator[dict[Node, None]]:
    """Record nothing, but note the nodes of tracked tensors that ops read."""
    noted: dict[Node, None] = {}
    token = paused.set(noted)
    try:
        yield noted
    finally:
        paused.reset(token)


def checkpoint(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function like ``fn`` that keeps its arguments only, and computes again what backward needs.

    Saves the memory of everything between, for one more forward pass. Random numbers drawn from the default
    generator repeat. ``fn`` must not have side effects.

    Example: ``checkpoint(model)(x)`` is ``model(x)``.
    """

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not is_grad_enabled():
            return fn(*args, **kwargs)
        from . import random

        state = random.get_state()
        with _collect() as noted:
            result = fn(*args, **kwargs)
        if not noted:
            return result
        level = max((b.level for b in active_backends()), default=0)
        if any(node.backend.level < level for node in noted):
            # what a transformation wraps is recorded below it, which a node of this level cannot stand for
            random.set_state(state)
            return fn(*args, **kwargs)
        leaves, build = flatten(result)
        frozen = map_tensors(lambda t: wrap(t._data, t._backend, t._node), [list(args), kwargs])
        differentiable = [
            i for i, y in enumerate(leaves) if isinstance(y, Tensor) and y.dtype.kind in ("float", "complex")
        ]
        parents = tuple(noted)

        def pullback(node: Node, g: Any, record: bool) -> Sequence[Any]:
            now = random.get_state()
            random.set_state(state)
            try:
                with enable_grad():
                    again, _ = flatten(fn(*frozen[0], **frozen[1]))
            finally:
                random.set_state(now)
            given = g if isinstance(g, tuple) else (g,)
            roots = [
                (again[i]._node, c)
                for i, c in zip(differentiable, given, strict=True)
                if again[i]._node is not None
            ]
            return walk(roots, targets=parents, record=record)

        for i, y in zip(
            differentiable,
            _node_for(_name(fn), pullback, [leaves[i] for i in differentiable], parents),
            strict=True,
        ):
            leaves[i] = y
        return build(leaves)

    return call
