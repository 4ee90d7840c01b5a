"""Which ops are also methods of Tensor: one table.

A method is the op itself, so that ``x.expand_dims(axis=0)`` and ``expand_dims(x, axis=0)`` are one function.
Two groups differ in how they may be called, as is customary: whatever works along an axis takes it as a
positional argument, too, and shapes and permutations may be given as several arguments. The first group also
takes NumPy's ``ddof`` and ``out=None``, with which ``numpy.std(x)`` calls ``x.std``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..op import calls
from ..tensor import Tensor

# Operators are the ops themselves: a method in between would cost 60 ns of 700. The others (``1 - x``) stand
# in tensor.py.
OPERATORS = {
    "__add__": "add", "__radd__": "add", "__sub__": "subtract", "__mul__": "multiply", "__rmul__":
    "multiply", "__truediv__": "divide", "__floordiv__": "floor_divide", "__mod__": "remainder",
    "__pow__": "pow", "__matmul__": "matmul", "__neg__": "negative", "__pos__": "positive", "__abs__":
    "abs", "__invert__": "bitwise_invert", "__and__": "bitwise_and", "__or__": "bitwise_or", "__xor__":
    "bitwise_xor", "__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift", "__lt__":
    "less", "__le__": "less_equal", "__gt__": "greater", "__ge__": "greater_equal",
}  # fmt: skip

# Method: op. As they are.
AS_THEY_ARE = {
    "broadcast_to": "broadcast_to", "clip": "clip", "diagonal": "diagonal", "dot": "matmul",
    "expand_dims": "expand_dims", "flatten": "flatten", "flip": "flip", "matmul": "matmul", "moveaxis": "moveaxis", "nonzero": "nonzero",
    "ravel": "ravel", "repeat": "repeat", "roll": "roll", "split": "split", "squeeze": "squeeze", "swapaxes": "swapaxes", "take": "take",
    "tile": "tile", "trace": "trace", "tril": "tril", "triu": "triu", "unstack": "unstack",
    "abs": "abs", "exp": "exp", "log": "log", "sqrt": "sqrt", "square": "square", "sin": "sin", "cos": "cos", "tanh": "tanh",
    "conj": "conj", "floor": "floor", "ceil": "ceil", "round": "round", "sign": "sign",
}  # fmt: skip

# Method: op. x.sum(0) as well as x.sum(axis=0).
WITH_AXIS_FIRST = {
    "all": "all", "any": "any", "argmax": "argmax", "argmin": "argmin", "argsort": "argsort", "count_nonzero": "count_nonzero",
    "cumprod": "cumulative_prod", "cumsum": "cumulative_sum", "cumulative_prod": "cumulative_prod",
    "cumulative_sum": "cumulative_sum", "logsumexp": "logsumexp", "max": "max", "mean": "mean", "min": "min", "prod": "prod",
    "sort": "sort", "std": "std", "sum": "sum", "var": "var",
}  # fmt: skip

# x.reshape(2, 3) as well as x.reshape((2, 3)).
WITH_SEVERAL_ARGUMENTS = ("permute_dims", "reshape")


def _axis_first(op: Callable[..., Any]) -> Callable[..., Any]:
    default = op.op.signature.parameters["axis"].default  # type: ignore[attr-defined]

    def method(self: Tensor, axis: Any = default, **keywords: Any) -> Any:
        return op(self, axis=axis, **(_translated(op.op, keywords) if keywords else keywords))  # type: ignore[attr-defined]

    return functools.update_wrapper(method, op)


def _translated(op: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """NumPy's keywords in the op's words: ``ddof`` is ``correction``, and None for what it lacks means
    nothing.
    """
    if "ddof" in keywords and "correction" in op.params:
        keywords["correction"] = keywords.pop("ddof")
    return {
        name: value
        for name, value in keywords.items()
        if value is not None or name in op.signature.parameters
    }


def _several(op: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Tensor, *sizes: Any, **keywords: Any) -> Any:
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = tuple(sizes[0])
        return op(self, sizes, **keywords) if sizes or not keywords else op(self, **keywords)

    return functools.update_wrapper(method, op)


def transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes in the order given, or reversed when none is: ``x.transpose(2, 0, 1)`` is ``transpose(x, (2, 0,
    1))``.
    """
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        axes = tuple(axes[0] or ())
    return calls.transpose(self, axes or None)


def attach() -> None:
    """Set the methods on Tensor."""
    for method, name in {**OPERATORS, **AS_THEY_ARE}.items():
        setattr(Tensor, method, getattr(calls, name))
    for method, name in WITH_AXIS_FIRST.items():
        setattr(Tensor, method, _axis_first(getattr(calls, name)))
    for name in WITH_SEVERAL_ARGUMENTS:
        setattr(Tensor, name, _several(getattr(calls, name)))
    Tensor.transpose = transpose
