"""Which ops are also methods of Tensor: one table.

A method is the op itself, so that ``x.cumulative_sum(axis=0)`` and ``cumulative_sum(x, axis=0)`` are one
function. Two groups differ in how they may be called, as is customary: reductions take the axis as a
positional argument, too, and shapes and permutations may be given as several arguments.
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
    "broadcast_to": "broadcast_to", "clip": "clip", "cumsum": "cumulative_sum",
    "cumprod": "cumulative_prod", "cumulative_prod": "cumulative_prod", "cumulative_sum": "cumulative_sum", "diagonal": "diagonal", "dot": "matmul",
    "expand_dims": "expand_dims", "flatten": "flatten", "flip": "flip", "matmul": "matmul", "moveaxis": "moveaxis", "nonzero": "nonzero",
    "ravel": "ravel", "repeat": "repeat", "roll": "roll", "split": "split", "squeeze": "squeeze", "swapaxes": "swapaxes", "take": "take",
    "tile": "tile", "trace": "trace", "tril": "tril", "triu": "triu", "unstack": "unstack",
    "abs": "abs", "exp": "exp", "log": "log", "sqrt": "sqrt", "square": "square", "sin": "sin", "cos": "cos", "tanh": "tanh",
    "conj": "conj", "floor": "floor", "ceil": "ceil", "round": "round", "sign": "sign",
}  # fmt: skip

# x.sum(0) as well as x.sum(axis=0).
WITH_AXIS_FIRST = (
    "all", "any", "argmax", "argmin", "argsort", "count_nonzero", "logsumexp", "max", "mean", "min", "prod", "sort", "std", "sum", "var",
)  # fmt: skip

# x.reshape(2, 3) as well as x.reshape((2, 3)).
WITH_SEVERAL_ARGUMENTS = ("permute_dims", "reshape")


def _axis_first(op: Callable[..., Any]) -> Callable[..., Any]:
    default = op.op.signature.parameters["axis"].default  # type: ignore[attr-defined]

    def method(self: Tensor, axis: Any = default, **keywords: Any) -> Any:
        return op(self, axis=axis, **keywords)

    return functools.update_wrapper(method, op)


def _several(op: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Tensor, *sizes: Any, **keywords: Any) -> Any:
        if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
            sizes = tuple(sizes[0])
        return op(self, sizes, **keywords) if sizes or not keywords else op(self, **keywords)

    return functools.update_wrapper(method, op)


def transpose(self: Tensor, *axes: Any) -> Tensor:
    """The axes in the order given, or reversed when none is: ``x.transpose(2, 0, 1)`` is ``permute_dims(x,
    (2, 0, 1))``.
    """
    if len(axes) == 1 and isinstance(axes[0], tuple | list):
        axes = tuple(axes[0])
    return calls.permute_dims(self, axes or tuple(range(self.ndim))[::-1])


def attach() -> None:
    """Set the methods on Tensor."""
    for method, name in {**OPERATORS, **AS_THEY_ARE}.items():
        setattr(Tensor, method, getattr(calls, name))
    for name in WITH_AXIS_FIRST:
        setattr(Tensor, name, _axis_first(getattr(calls, name)))
    for name in WITH_SEVERAL_ARGUMENTS:
        setattr(Tensor, name, _several(getattr(calls, name)))
    Tensor.transpose = transpose
