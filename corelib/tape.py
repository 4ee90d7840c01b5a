"""The tape: what an op leaves behind so that its derivative can be computed. ``walk.py`` walks over it.

A :class:`Node` stands for one result of one op. It holds the nodes of the op's operands, and of the data only
what the derivative rule reads; it never refers to a tensor, so that a graph has no reference cycle and is
freed with its last result. Whether an op records is said by its operands: it does when one of them has a node.
A tensor that a transformation wraps has its own, or none, at its own level, so that the flag belongs to a
level; ``no_grad`` alone is a switch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from .capture import captured, capturing
from .dtypes import as_dtype
from .errors import GradientError
from .op import Op, calls
from .rules import Spec
from .tensor import Tensor, wrap

# by exact class: a 0-d array may be a numpy.float64, which is a float
NOT_ARRAYS = (type(None), bool, int, float, complex, Spec)

# None: ops record. False: they do not. A dictionary: they do not, but note in it the nodes of the tensors
# they read.
paused: ContextVar[Any] = ContextVar("corelib_no_grad", default=None)


def note(mode: Any, *nodes: Any) -> None:
    """What an op on tracked tensors does when recording is off; the result has no node."""
    if mode is not False:
        mode.update(dict.fromkeys(n for n in nodes if n is not None))


class Node:
    """One result of one op on the tape.

    ``op`` (anything with ``name`` and ``pullback(node, g, record)``), ``backend``, ``parents`` (a node or
    None per operand), ``saved`` (per operand: its array, a Python scalar, a Spec, or None), ``params``,
    ``result`` (the op's result, if a rule reads it), ``shape`` and ``dtype`` of the result.
    """

    __slots__ = ("__weakref__", "backend", "dtype", "op", "params", "parents", "result", "saved", "shape")

    def __init__(
        self,
        op: Any,
        backend: Any,
        parents: tuple[Any, ...],
        saved: Any,
        params: Any,
        result: Any,
        shape: Any,
        dtype: Any,
    ):
        self.op, self.backend, self.parents, self.saved = op, backend, parents, saved
        self.params, self.result, self.shape, self.dtype = params, result, shape, dtype

    def spec(self) -> Spec:
        """Shape and dtype of the result."""
        return Spec(self.shape, as_dtype(self.dtype))

    def __repr__(self) -> str:
        return f"<node {self.op.name} {tuple(self.shape)}>"


class _Pseudo:
    """An op of the tape's own: it has a name and knows how to pull a cotangent back."""

    __slots__ = ("name", "pullback")

    def __init__(self, name: str, pullback: Any) -> None:
        self.name, self.pullback = name, pullback


LEAF = _Pseudo("leaf", lambda node, g, record: ())
ALIAS = _Pseudo("alias", lambda node, g, record: (g,))
PICK = _Pseudo("pick", None)


class Leaf(Node):
    """The node of a tensor that collects a gradient. ``grad`` is that gradient; ``hooks`` are called with
    each new one.
    """

    __slots__ = ("grad",)

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(LEAF, tensor._backend, (), (), {}, None, tensor._data.shape, tensor._data.dtype)
        self.grad: Tensor | None = None


def alias(x: Tensor) -> Tensor:
    """``x`` under a node of its own, connected to x's: the variable of a functional derivative."""
    parents = () if x._node is None else (x._node,)
    return Tensor(
        x._data, x._backend, Node(ALIAS, x._backend, parents, (), {}, None, x._data.shape, x._data.dtype)
    )


def same(x: Tensor) -> Tensor:
    """x's value as a tensor of its own, so that an assignment to either is not seen through the other."""
    if capturing:
        x = captured(x)
    if x._node is None:
        return wrap(x._data, x._backend, None)
    mode = paused.get()
    if mode is None:
        return alias(x)
    note(mode, x._node)
    return wrap(x._data, x._backend, None)


def pick(node: Node, data: Any, index: int) -> Node:
    """The node of output ``index`` of an op with several results."""
    return Node(PICK, node.backend, (node,), (), index, None, data.shape, data.dtype)


# -- recording -----------------------------------------------------------------------------------------------


def record(op: Op, backend: Any, operands: Sequence[Any], params: dict[str, Any], data: Any) -> Any:
    """The node (or nodes, for several results) of ``op``, or None when there is nothing to record."""
    parents = tuple([t._node if isinstance(t, Tensor) else None for t in operands])
    if not isinstance(data, tuple) and as_dtype(data.dtype).kind not in ("float", "complex"):
        return None  # an integer or bool result has no derivative
    mode = paused.get()
    if mode is not None:
        note(mode, *parents)
        return None
    tracked = tuple([p is not None for p in parents])
    keep, keep_result = op.derivative.keep(op, tracked)
    saved = []
    for operand, parent, wanted in zip(operands, parents, keep, strict=True):
        if not isinstance(operand, Tensor):
            saved.append(operand)
        elif wanted:
            saved.append(operand._data)
        elif parent is None:
            saved.append(Spec(operand._data.shape, as_dtype(operand._data.dtype)))
        else:
            saved.append(None)
    if isinstance(data, tuple):
        node = Node(op, backend, parents, tuple(saved), params, data if keep_result else None, None, None)
        node.shape, node.dtype = tuple(d.shape for d in data), tuple(d.dtype for d in data)
        return tuple(pick(node, d, i) for i, d in enumerate(data))
    return Node(
        op, backend, parents, tuple(saved), params, data if keep_result else None, data.shape, data.dtype
    )


def full_like(spec: Spec, backend: Any, value: Any) -> Tensor:
    """A constant tensor of a spec on a backend."""
    table = backend.tables[spec.dtype]
    fill = {"bool": bool, "float": float, "complex": complex}.get(spec.dtype.kind, int)(value)
    data = table[calls.full.op.index](shape=tuple(spec.shape), fill_value=fill, dtype=spec.dtype)
    return wrap(data, backend, None)


FREED = object()


def freed(node: Node) -> GradientError:
    """The error for a node whose data an earlier walk has dropped."""
    return GradientError(
        f"the graph of {node.op.name} was freed by an earlier backward pass: call backward(retain_graph=True) the first time"
    )
