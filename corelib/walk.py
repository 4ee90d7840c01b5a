"""The walk over the tape: derivative rules applied node by node, in reverse topological order.

A rule gets what it names from what the node has saved, as tensors: with ``record=True`` they carry their nodes, so that the walk is itself
differentiable; without it they carry none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from .dtypes import as_dtype
from .op import Op, calls
from .replay import apply_rule, elementwise_program
from .rules import Spec
from .tape import FREED, LEAF, NOT_ARRAYS, PICK, Leaf, Node, freed, full_like, pick
from .tensor import Tensor, wrap

# -- rules ---------------------------------------------------------------------------------------------------


def _operand(node: Node, position: int, how: str, record: bool) -> Any:
    """Operand ``position`` as a rule sees it."""
    saved, parent = node.saved[position], node.parents[position]
    if how == "spec":
        return parent.spec() if parent is not None else saved
    if saved.__class__ in NOT_ARRAYS:
        return saved
    return wrap(saved, node.backend, parent if record else None)


def _arguments(op: Op, node: Node, reads: Any, g: Any, record: bool) -> list[Any]:
    """The arguments of a rule, in the order in which it names them."""
    args = []
    for name, how, slot in reads:
        if how == "g":
            args.append(g)
        elif how == "param":
            args.append(node.params[name])
        elif how == "y":
            if isinstance(node.result, tuple):
                args.append(
                    tuple(
                        wrap(r, node.backend, pick(node, r, i) if record else None)
                        for i, r in enumerate(node.result)
                    )
                )
            else:
                args.append(wrap(node.result, node.backend, node if record else None))
        elif op.variadic and slot == len(op.operands) - 1:
            args.append(tuple(_operand(node, p, how, record) for p in range(slot, len(node.parents))))
        else:
            args.append(_operand(node, slot, how, record))
    return args


def unbroadcast(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``g`` summed over the axes along which an operand of ``shape`` was broadcast: the transpose of
    broadcasting.
    """
    if g._data.shape == shape:
        return g
    extra = len(g.shape) - len(shape)
    axes = tuple(i for i, n in enumerate(g.shape) if i < extra or (shape[i - extra] == 1 and n != 1))
    return calls.reshape(calls.sum(g, axis=axes), shape) if axes else calls.reshape(g, shape)


def _conj(partial: Any) -> Any:
    return calls.conj(partial) if partial.__class__ is Tensor else partial.conjugate()


def _times(g: Tensor, partial: Any) -> Tensor:
    if partial.__class__ in (int, float, complex):
        return g if partial == 1 else calls.negative(g) if partial == -1 else calls.multiply(g, partial)
    return calls.multiply(g, partial)


def pullback(op: Op, node: Node, g: Any, record: bool) -> Sequence[Any]:
    """The cotangents of the operands of ``node``, given the cotangent ``g`` of its result; not for
    element-wise partials.
    """
    derivative = op.derivative
    parents = node.parents
    if derivative.kind == "vjp":
        result = _apply(op, node, 0, g, record)
        result = result if isinstance(result, tuple | list) else (result,)
        return _flatten(op, result, len(parents))
    if _replayable(op, node, g, record):
        slots = tuple([s for s, rule in enumerate(derivative.rules) if rule and parents[s] is not None])
        if (
            len(slots) > 1
        ):  # one program for all operands: 4 us less for each, and what they share is computed once
            rule, reads = _joint(op, slots)
            result = apply_rule((op.index, slots), rule, _arguments(op, node, reads, g, False), node.backend)
            given = dict(zip(slots, result, strict=True))
            return [given.get(s) for s in range(len(parents))]
    grads: list[Any] = []
    last = len(op.operands) - 1
    for slot, rule in enumerate(derivative.rules):
        own = parents[slot:] if op.variadic and slot == last else (parents[slot],)
        if rule is None or not any(p is not None for p in own):
            grads.extend([None] * len(own))
            continue
        result = _apply(op, node, slot, g, record)
        grads.extend(result if op.variadic and slot == last else (result,))
    return grads


@cache
def _joint(op: Op, slots: tuple[int, ...]) -> tuple[Callable[..., Any], Sequence[Any]]:
    """The rules of several operands as one, and what it reads."""
    rules, own = op.derivative.rules, [op.derivative.reads[s] for s in slots]
    reads = list(dict.fromkeys(read for some in own for read in some))
    places = [[reads.index(read) for read in some] for some in own]

    def joint(*args: Any) -> tuple[Any, ...]:
        return tuple(rules[s](*[args[i] for i in some]) for s, some in zip(slots, places, strict=True))

    return joint, reads


def _replayable(op: Op, node: Node, g: Any, record: bool) -> bool:
    """Whether a rule is a program of its own; not under a transformation, whose cotangent may be all rows of a Jacobian at once."""
    several = node.result.__class__ is tuple or g.__class__ is tuple
    return not (record or op.primitive or op.variadic or node.backend.level or several or g._backend.level)


def _apply(op: Op, node: Node, slot: int, g: Any, record: bool) -> Any:
    """A rule on what it reads; a composite's, which is a program of its own, is replayed when nothing is to
    be recorded.
    """
    derivative = op.derivative
    args = _arguments(op, node, derivative.reads[slot], g, record)
    rule = derivative.rules[slot]
    if _replayable(op, node, g, record):
        return apply_rule((op.index, slot), rule, args, node.backend)
    return rule(*args)


def _spread(
    node: Node, g: Tensor, cotangents: dict[Node, Any], record: bool, ops: tuple[int, int, int]
) -> None:
    """The pullback of an element-wise op, straight into the parents' cotangents: the hot loop of backward.

    Partials of complex ops are conjugated: with ``g = dL/dRe(y) + i dL/dIm(y)``, ``x`` gets ``g conj(dy/dx)``.
    When nothing is to be recorded it calls the kernels of multiply, add and negative itself: 0.3 us less for each.
    """
    times, plus, minus = ops
    backend, data = g._backend, g._data
    native = data.dtype
    table = backend.tables[native]
    direct = not record and backend is node.backend and not backend.level and table.floating
    partials = node.op.derivative.partials or _compile_partials(node.op)
    for parent, partial in zip(node.parents, partials):  # noqa: B905 - of one length; strict= costs 80 ns
        if parent is None or partial is None:
            continue
        if partial.__class__ is tuple:  # the result or an operand itself
            (position,) = partial
            factor = node.result if position < 0 else node.saved[position]
            if direct and (factor.__class__ is float or factor.dtype is native):
                grad = wrap(table[times](data, factor), backend)
            else:
                source = (node if position < 0 else node.parents[position]) if record else None
                grad = _times(
                    g, _conj(factor if factor.__class__ in NOT_ARRAYS else wrap(factor, node.backend, source))
                )
        elif direct and partial.__class__ is not int and 0 < backend.fuse_from <= g.size:
            product = apply_rule(
                (node.op.index, partial), partial.product, [g, *partial.arguments(node)], backend
            )
            if product is None:
                continue
            grad = product
        else:
            factor = partial if partial.__class__ is int else partial(node, record)
            if factor is None:
                continue
            if not direct or (factor.__class__ is Tensor and factor._data.dtype is not native):
                grad = _times(g, _conj(factor))
            elif factor.__class__ is Tensor:
                grad = wrap(table[times](data, factor._data), backend)
            elif factor == 1:
                grad = g
            else:
                grad = wrap(
                    table[minus](data) if factor == -1 else table[times](data, float(factor)), backend
                )
        if grad._data.shape != parent.shape:
            grad = unbroadcast(grad, parent.shape)
        before = cotangents.get(parent)
        if before is None:
            cotangents[parent] = grad
        elif direct and before._backend is backend and before._data.dtype is grad._data.dtype is native:
            cotangents[parent] = wrap(table[plus](before._data, grad._data), backend)
        else:
            cotangents[parent] = calls.add(before, grad)


def _compile_partials(op: Op) -> tuple[Any, ...]:
    """For each operand of an element-wise op its partial: a number, None, or a function of (node, record).
    Most read one thing.
    """

    def compile_one(rule: Any, reads: Any) -> Any:
        if rule is None or isinstance(rule, int | float):
            return rule
        if getattr(rule, "itself", False):
            return (reads[0][2],)
        partial = of(rule, reads)

        def product(g: Tensor, *args: Any) -> Any:
            factor = rule(*args)
            return factor if factor is None else _times(g, _conj(factor))

        # a large array is worth one kernel that multiplies as well
        partial.product = product
        partial.arguments = lambda node: _arguments(op, node, reads, None, False)
        return partial

    def of(rule: Any, reads: Any) -> Any:
        if [how for _, how, _ in reads] in (["y"], ["value"]):
            position = reads[0][2]

            def of_one(node: Node, record: bool) -> Any:
                read = node.result if position < 0 else node.saved[position]
                if read.__class__ in NOT_ARRAYS:
                    return rule(read)
                backend = node.backend
                if record or backend.level:
                    source = node if position < 0 else node.parents[position]
                    return rule(wrap(read, backend, source if record else None))
                programs = backend.tables.replays
                program = programs.get((rule, read.dtype))
                if program is None:
                    program = elementwise_program(rule, as_dtype(read.dtype), backend) or False
                    programs[rule, read.dtype] = program
                return wrap(program(read), backend) if program else rule(wrap(read, backend))

            return of_one
        return lambda node, record: rule(*_arguments(op, node, reads, None, record))

    derivative = op.derivative
    derivative.partials = tuple(
        compile_one(rule, reads) for rule, reads in zip(derivative.rules, derivative.reads, strict=True)
    )
    return derivative.partials


def pull(node: Node, g: Any, record: bool) -> Sequence[Any]:
    """The cotangents of a node's operands, whatever kind of op it is of."""
    return (
        pullback(node.op, node, g, record) if node.op.__class__ is Op else node.op.pullback(node, g, record)
    )


def _flatten(op: Op, result: Sequence[Any], count: int) -> list[Any]:
    if op.variadic and len(result) == len(op.operands) and isinstance(result[-1], tuple | list):
        result = [*result[:-1], *result[-1]]
    return [*result, *[None] * (count - len(result))]


def _zeros(spec: Spec, node: Node) -> Tensor:
    return full_like(spec, node.backend, 0)


# -- walks ---------------------------------------------------------------------------------------------------


def topological(roots: Iterable[Node], targets: Iterable[Node] | None = None) -> list[Node]:
    """The ancestors of ``roots``, parents before children, in an order that depends on the graph alone.

    With ``targets``, only nodes that lead to one of them; a target's own ancestors are left out.
    """
    stops = None if targets is None else set(targets)
    order: list[Node] = []
    # None: opened, and on the stack below its ancestors; else whether it leads to a target
    state: dict[Node, bool | None] = {}
    stack = list(roots)
    stack.reverse()
    while stack:
        node = stack.pop()
        if node not in state:
            if stops is not None and node in stops:
                state[node] = True
                order.append(node)
                continue
            state[node] = None
            stack.append(node)
            for parent in reversed(node.parents):
                if parent is not None and parent not in state:
                    stack.append(parent)
        elif state[node] is None:
            useful = stops is None or any(p is not None and state[p] for p in node.parents)
            state[node] = useful
            if useful:
                order.append(node)
    return order


def walk(
    roots: Sequence[tuple[Node, Tensor]],
    *,
    targets: Sequence[Node] | None = None,
    record: bool = False,
    free: bool = False,
    deposit: Callable[[Leaf, Tensor], None] | None = None,
    visit: Callable[[Node, Tensor], Any] | None = None,
) -> list[Tensor | None]:
    """Reverse mode: carry the cotangents of ``roots`` back to ``targets`` and return theirs (None where none
    arrived).

    ``deposit`` is called for each leaf instead when there are no targets, and ``visit`` for every node with one
    result. ``free`` drops what each node has
    saved once it is used.
    """
    order = topological([n for n, _ in roots], targets)
    wanted = set(targets or ())
    cotangents: dict[Node, Any] = {}
    found: dict[Node, Tensor] = {}
    add = calls.add
    elementary = (calls.multiply.op.index, add.op.index, calls.negative.op.index)
    g: Any
    for node, g in roots:
        cotangents[node] = g if node not in cotangents else add(cotangents[node], g)
    while order:
        node = order.pop()
        g = cotangents.pop(node, None)
        if g is None:
            continue
        if visit is not None and g.__class__ is not list:
            visit(node, g)
        if wanted and node in wanted:
            found[node] = g
            continue
        op = node.op
        if op is LEAF:
            if deposit is not None:
                deposit(node, g)  # type: ignore[arg-type]
            continue
        if op is PICK:
            _gather_pick(cotangents, node, g)
            continue
        if node.saved is FREED:
            raise freed(node)
        if g.__class__ is list:
            g = tuple(
                _zeros(Spec(s, as_dtype(d)), node) if c is None else c
                for c, s, d in zip(g, node.shape, node.dtype, strict=True)
            )
        if op.__class__ is Op and op.derivative.kind == "d":
            _spread(node, g, cotangents, record, elementary)
        else:
            for parent, grad in zip(node.parents, pull(node, g, record), strict=False):
                if parent is not None and grad is not None:
                    cotangents[parent] = add(cotangents[parent], grad) if parent in cotangents else grad
        if free:
            node.saved, node.result = FREED, None
        del node
    return [found.get(t) for t in targets or ()]


def _gather_pick(cotangents: dict[Node, Any], node: Node, g: Tensor) -> None:
    (parent,) = node.parents
    slots = cotangents.setdefault(parent, [None] * len(parent.shape))
    slots[node.params] = g if slots[node.params] is None else calls.add(slots[node.params], g)
