"""How ops are written as ONNX nodes: a table of op name -> rule(writer, event, twin), which returns the result's name.

An op that is not in it is written by its body, so that the table needs primitives, and those composites that ONNX has an
operator for. ``twin`` is the same op in a run with a batch of twice the length, where one is to be of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import corelib as cl
from corelib.errors import ShapeError, UnsupportedError

from .values import HOST, NUMBERS

RULES: dict[str, Callable[..., Any]] = {}
FLEXIBLE = {
    "reshape",
    "broadcast_to",
    "strided_slice",
}  # whose parameters may depend on the length of the batch
FAR = 2**63 - 1  # the end of an axis, in Slice


def rule(*names: str) -> Callable[[Any], Any]:
    """Put a function into the table."""

    def add(fn: Any) -> Any:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return add


def _operands(g: Any, e: Any) -> list[str]:
    """The names of an op's operands; a number has the dtype of the tensor beside it."""
    like = next(
        x for x in e.arguments if isinstance(x, cl.Tensor) and (x.dtype != cl.bool or e.name != "where")
    )
    return [g.name(x, like) for x in e.arguments]


def _integers(g: Any, values: Any) -> str:
    return g.constant(list(values), "int64")


def _x(e: Any) -> Any:
    return e.arguments[0]


# -- element by element --------------------------------------------------------------------------------------

SAME = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "add": "Add", "asin": "Asin", "asinh": "Asinh", "atan": "Atan",
    "atanh": "Atanh", "bitwise_and": "BitwiseAnd", "bitwise_invert": "BitwiseNot", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "ceil": "Ceil", "clip": "Clip", "cos": "Cos", "cosh": "Cosh", "divide": "Div",
    "equal": "Equal", "erf": "Erf", "exp": "Exp", "floor": "Floor", "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "isinf": "IsInf", "isnan": "IsNaN", "less": "Less", "less_equal": "LessOrEqual",
    "log": "Log", "logical_and": "And", "logical_not": "Not", "logical_or": "Or", "logical_xor": "Xor",
    "matmul": "MatMul", "maximum": "Max", "minimum": "Min", "multiply": "Mul", "negative": "Neg", "positive": "Identity",
    "pow": "Pow", "reciprocal": "Reciprocal", "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign",
    "sin": "Sin", "sinh": "Sinh", "softplus": None, "sqrt": "Sqrt", "stop_gradient": "Identity", "subtract": "Sub",
    "tan": "Tan", "tanh": "Tanh", "where": "Where",
}  # fmt: skip
for _name, _kind in SAME.items():
    if _kind is not None:
        RULES[_name] = lambda g, e, twin, kind=_kind: g.node(kind, _operands(g, e))

# By others, on an operand x: the last of (operator, operands), where a number is a constant and -1 the one before.
BY_OTHERS: dict[str, list[tuple[str, list[Any]]]] = {
    "square": [("Mul", ["x", "x"])],
    "rsqrt": [("Sqrt", ["x"]), ("Reciprocal", [None])],
    "expm1": [("Exp", ["x"]), ("Sub", [None, 1.0])],
    "log1p": [("Add", ["x", 1.0]), ("Log", [None])],
    "log2": [("Log", ["x"]), ("Mul", [None, 1.4426950408889634])],
    "log10": [("Log", ["x"]), ("Mul", [None, 0.4342944819032518])],
    "silu": [("Sigmoid", ["x"]), ("Mul", ["x", None])],
    "log_sigmoid": [("Neg", ["x"]), ("Softplus", [None]), ("Neg", [None])],
}


def _by_others(steps: list[tuple[str, list[Any]]]) -> Any:
    def write(g: Any, e: Any, twin: Any) -> str:
        x, found = g.name(_x(e)), ""
        for kind, operands in steps:
            names = [
                x if o == "x" else found if o is None else g.constant(o, _x(e).dtype.name) for o in operands
            ]
            found = g.node(kind, names)
        return found

    return write


RULES.update({name: _by_others(steps) for name, steps in BY_OTHERS.items()})


@rule("not_equal")
def not_equal(g, e, twin):
    return g.node("Not", [g.node("Equal", _operands(g, e))])


@rule("floor_divide")
def floor_divide(g, e, twin):
    """Of floating numbers: ONNX's Div of integers truncates."""
    if not cl.isdtype(_x(e).dtype, "real floating"):
        raise UnsupportedError("export: floor_divide of integers has no ONNX form")
    return g.node("Floor", [g.node("Div", _operands(g, e))])


@rule("remainder")
def remainder(g, e, twin):
    a, b = _operands(g, e)
    if not cl.isdtype(e.results[0].dtype, "real floating"):
        return g.node("Mod", [a, b])
    return g.node("Sub", [a, g.node("Mul", [g.node("Floor", [g.node("Div", [a, b])]), b])])


@rule("astype")
def astype(g, e, twin):
    return g.node("Cast", [g.name(_x(e))], to=NUMBERS[e.results[0].dtype.name])


@rule("isfinite")
def isfinite(g, e, twin):
    x = g.name(_x(e))
    return g.node("Not", [g.node("Or", [g.node("IsNaN", [x]), g.node("IsInf", [x])])])


# -- activations ---------------------------------------------------------------------------------------------


@rule("gelu")
def gelu(g, e, twin):
    return g.node("Gelu", [g.name(_x(e))], approximate=e.params["approximate"])


@rule("elu")
def elu(g, e, twin):
    return g.node("Elu", [g.name(_x(e))], alpha=float(e.params["alpha"]))


@rule("leaky_relu")
def leaky_relu(g, e, twin):
    return g.node("LeakyRelu", [g.name(_x(e))], alpha=float(e.params["negative_slope"]))


@rule("softplus")
def softplus(g, e, twin):
    x, beta = g.name(_x(e)), float(e.params["beta"])
    if beta == 1:
        return g.node("Softplus", [x])
    scale = g.constant(beta, _x(e).dtype.name)
    return g.node("Div", [g.node("Softplus", [g.node("Mul", [x, scale])]), scale])


@rule("softmax", "log_softmax")
def softmax(g, e, twin):
    kind = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[e.name]
    return g.node(kind, [g.name(_x(e))], axis=e.params["axis"])


# -- reductions ----------------------------------------------------------------------------------------------

REDUCTIONS = {
    "sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
    "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


@rule(*REDUCTIONS)
def reduction(g, e, twin):
    x = g.name(_x(e))
    if e.results[0].dtype != _x(e).dtype:
        x = g.node("Cast", [x], to=NUMBERS[e.results[0].dtype.name])
    if not e.params["axis"]:
        return g.node("Identity", [x])
    axes = _integers(g, e.params["axis"])
    return g.node(REDUCTIONS[e.name], [x, axes], keepdims=int(e.params["keepdims"]))


@rule("any", "all")
def any_all(g, e, twin):
    """Of ones and zeros, the largest and the smallest."""
    x = g.node("Cast", [g.node("Cast", [g.name(_x(e))], to=NUMBERS["bool"])], to=NUMBERS["uint8"])
    axes = _integers(g, e.params["axis"])
    kind = "ReduceMax" if e.name == "any" else "ReduceMin"
    y = g.node(kind, [x, axes], keepdims=int(e.params["keepdims"]))
    return g.node("Cast", [y], to=NUMBERS["bool"])


@rule("argmax", "argmin")
def position(g, e, twin):
    x, axis = g.name(_x(e)), e.params["axis"]
    if axis is None:
        x, axis = g.node("Reshape", [x, _integers(g, [-1])]), 0
    kind = "ArgMax" if e.name == "argmax" else "ArgMin"
    return g.node(kind, [x], axis=axis, keepdims=int(e.params["keepdims"]))


@rule("cumulative_sum")
def cumulative_sum(g, e, twin):
    return g.node("CumSum", [g.name(_x(e)), g.constant(e.params["axis"], "int64")])


# -- shapes --------------------------------------------------------------------------------------------------


def _refuse(e: Any) -> ShapeError:
    return ShapeError(
        f"export: {e.name} depends on the length of axis 0 of the inputs in a way that cannot be written: "
        f"{dict(e.params)} for {_x(e).shape}"
    )


@rule("reshape")
def reshape(g, e, twin):
    shape = list(e.params["shape"])
    if twin is not None:
        changed = [i for i, (n, m) in enumerate(zip(shape, twin.params["shape"], strict=True)) if n != m]
        if len(changed) > 1:
            raise _refuse(e)
        for i in changed:
            shape[i] = -1
    return g.node(
        "Reshape", [g.name(_x(e)), _integers(g, shape)], allowzero=1 if 0 in shape and -1 not in shape else 0
    )


@rule("broadcast_to")
def broadcast_to(g, e, twin):
    """A 1 in the target keeps what x has there."""
    shape = list(e.params["shape"])
    if twin is not None:
        own = [0] * (len(shape) - _x(e).ndim) + list(_x(e).shape)
        for i, (n, m) in enumerate(zip(shape, twin.params["shape"], strict=True)):
            if n != m and own[i] != n:
                raise _refuse(e)
            shape[i] = n if n == m else 1
    return g.node("Expand", [g.name(_x(e)), _integers(g, shape)])


@rule("permute_dims")
def permute_dims(g, e, twin):
    return g.node("Transpose", [g.name(_x(e))], perm=[a % _x(e).ndim for a in e.params["axes"]])


@rule("concat")
def concat(g, e, twin):
    return g.node("Concat", [g.name(x) for x in e.arguments], axis=e.params["axis"])


@rule("strided_slice")
def strided_slice(g, e, twin):
    starts, ends, steps = [], [], []
    for axis, (first, size, step) in enumerate(
        zip(e.params["start"], e.params["size"], e.params["step"], strict=True)
    ):
        end = first + size * step
        if twin is not None:
            other = [twin.params[k][axis] for k in ("start", "size", "step")]
            if other != [first, size, step]:
                to_the_end = step == other[2] == 1 and end == _x(e).shape[axis]
                if other[0] != first or not to_the_end:
                    raise _refuse(e)
                end = FAR
        starts.append(first)
        ends.append(end if end >= 0 else -FAR)
        steps.append(step)
    axes = range(len(starts))
    return g.node("Slice", [g.name(_x(e)), *(_integers(g, v) for v in (starts, ends, axes, steps))])


@rule("flip")
def flip(g, e, twin):
    axes = e.params["axis"]
    ends = ([-1] * len(axes), [-FAR] * len(axes), axes, [-1] * len(axes))
    return g.node("Slice", [g.name(_x(e)), *(_integers(g, v) for v in ends)])


@rule("pad")
def pad(g, e, twin):
    width = e.params["pad_width"]
    pads = _integers(g, [a for a, _ in width] + [b for _, b in width])
    return g.node("Pad", [g.name(_x(e)), pads, g.constant(e.params["constant_value"], _x(e).dtype.name)])


@rule("take")
def take(g, e, twin):
    return g.node("Gather", [g.name(x) for x in e.arguments], axis=e.params["axis"])


@rule("take_along_axis")
def take_along_axis(g, e, twin):
    """The indices broadcast, which those of GatherElements do not."""
    x, indices = e.arguments
    target = [
        n if i == e.params["axis"] % x.ndim else m
        for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True))
    ]
    name = g.name(indices)
    if tuple(target) != indices.shape:
        if twin is not None and twin.arguments[0].shape != x.shape:
            raise _refuse(e)
        name = g.node("Expand", [name, _integers(g, target)])
    return g.node("GatherElements", [g.name(x), name], axis=e.params["axis"] % x.ndim)


@rule("embedding")
def embedding(g, e, twin):
    indices, weight = (g.name(x) for x in e.arguments)
    return g.node("Gather", [weight, indices], axis=0)


@rule("tril", "triu")
def triangle(g, e, twin):
    return g.node("Trilu", [g.name(_x(e)), g.constant(e.params["k"], "int64")], upper=int(e.name == "triu"))


# -- layers --------------------------------------------------------------------------------------------------


@rule("linear")
def linear(g, e, twin):
    """Gemm for a matrix, which transposes the weight; otherwise a product and a sum."""
    x, weight, bias = e.arguments
    if x.ndim == 2:
        return g.node("Gemm", [g.name(x), g.name(weight), g.name(bias)], transB=1)
    y = g.node("MatMul", [g.name(x), g.node("Transpose", [g.name(weight)], perm=[1, 0])])
    return y if bias is None else g.node("Add", [y, g.name(bias)])


@rule("layer_norm")
def layer_norm(g, e, twin):
    x, weight, bias = e.arguments
    axes = [a % x.ndim for a in e.params["axis"]]
    if axes != list(range(axes[0], x.ndim)):
        raise UnsupportedError(
            f"export: layer_norm over the axes {axes} has no ONNX form: they must be the last ones"
        )
    if weight is None:
        name = g.constant(cl.ones([x.shape[a] for a in axes], device=HOST), x.dtype.name)
    else:
        name = g.name(weight)
    return g.node(
        "LayerNormalization", [g.name(x), name, g.name(bias)], axis=axes[0], epsilon=e.params["eps"]
    )


@rule("conv")
def conv(g, e, twin):
    p = e.params
    return g.node(
        "Conv", [g.name(x) for x in e.arguments], strides=p["stride"], pads=[*p["padding"], *p["padding"]],
        dilations=p["dilation"], group=p["groups"],
    )  # fmt: skip


@rule("conv_transpose")
def conv_transpose(g, e, twin):
    p = e.params
    return g.node(
        "ConvTranspose", [g.name(x) for x in e.arguments], strides=p["stride"], pads=[*p["padding"], *p["padding"]],
        dilations=p["dilation"], group=p["groups"], output_padding=p["output_padding"],
    )  # fmt: skip


@rule("max_pool")
def max_pool(g, e, twin):
    p = e.params
    return g.node(
        "MaxPool", [_images(g, e)], kernel_shape=p["kernel_size"], strides=p["stride"],
        pads=[*p["padding"], *p["padding"]], dilations=p["dilation"], ceil_mode=int(p["ceil_mode"]),
    )  # fmt: skip


@rule("avg_pool")
def avg_pool(g, e, twin):
    p = e.params
    if p["divisor_override"] is not None:
        raise UnsupportedError("export: avg_pool with divisor_override has no ONNX form")
    return g.node(
        "AveragePool", [_images(g, e)], kernel_shape=p["kernel_size"], strides=p["stride"],
        pads=[*p["padding"], *p["padding"]], ceil_mode=int(p["ceil_mode"]), count_include_pad=int(p["count_include_pad"]),
    )  # fmt: skip


@rule("adaptive_avg_pool")
def adaptive_avg_pool(g, e, twin):
    sizes, wanted = _x(e).shape[-len(e.params["output_size"]) :], e.params["output_size"]
    if any(n % m for n, m in zip(sizes, wanted, strict=True)):
        raise UnsupportedError(
            f"export: adaptive_avg_pool of {sizes} to {wanted}, which do not divide them, has no ONNX form"
        )
    kernel = [n // m for n, m in zip(sizes, wanted, strict=True)]
    return g.node("AveragePool", [_images(g, e)], kernel_shape=kernel, strides=kernel)


def _images(g: Any, e: Any) -> str:
    """The operand of a pool, which for ONNX has two axes before the pooled ones."""
    pooled = len(e.params.get("kernel_size") or e.params["output_size"])
    if _x(e).ndim != pooled + 2:
        raise UnsupportedError(
            f"export: {e.name} of shape {_x(e).shape} has no ONNX form: it needs {pooled + 2} axes"
        )
    return g.name(_x(e))
