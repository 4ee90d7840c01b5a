"""A failing call as a script of at most five lines of public API, to be run and to be sent to somebody.

An attempt is written out operand by operand, with what was expected beside what is printed. What is no single call
(a program, a race, a comparison of two processes) is written as the case's id, which the suite makes again.
"""

from __future__ import annotations

import math
import re
from importlib import import_module
from typing import Any

from ..dtypes import DType
from ..op import Op
from ..registry import registry
from ..samples import Values
from ..tensor import Tensor
from .attempts import PLAIN, Attempt, cotangent, repeats
from .cases import Case
from .families import Plan
from .operands import inexact, tensors
from .oracle import REFERENCE, cotangents, variables
from .place import call, transposed

LINES = 5


def written(attempt: Attempt, reason: str, device: str) -> str | None:
    """The script of an attempt; None where there is none of five lines."""
    path = _path(attempt.op)
    if path is None:
        return None
    importing, function = path
    names = _names(len(tensors(attempt.sample)))
    lines = [
        f"{name} = {_operand(v, layout, device)}"
        for name, v, layout in zip(names, tensors(attempt.sample), attempt.layouts, strict=True)
    ]
    importing += ", numpy as np" if any("np.frombuffer" in line for line in lines) else ""
    lines = lines if len(lines) <= 2 else ["; ".join(lines)]
    text = f"{function}({_arguments(attempt, names, device)})"
    note = "  # " + " ".join(reason.split())[:300]
    if attempt.cotangent:
        ending = _differentiated(attempt, names, text, device)
        if ending is None:
            return None
    elif "was written to" in reason:
        ending = [text, f"print({', '.join(f'{n}.tolist()' for n in names)})"]
    elif reason.startswith("raised"):
        ending = [f"print({text})"]
    else:
        ending = [f"y = {text}", f"print({_shown(attempt, reason)})"]
    ending[-1] += note
    return "\n".join([importing, *lines, *ending]) + "\n"


def by_id(case: Case, plan: Plan, reason: str, device: str) -> str:
    """The script that has the suite make a case again and try it."""
    chosen = [f"profile={plan.profile!r}"] if plan.profile != "standard" else []
    chosen += [f"seed={plan.seed}"] if plan.seed else []
    chosen += [f"tiles={plan.tiles}"] if plan.tiles else []
    more = f", Plan(tuple(OPS), {', '.join(chosen)})" if chosen else ""
    names = "from corelib.conformance import Plan, Suite, find\nfrom corelib.op import OPS" if chosen else (
        "from corelib.conformance import Suite, find"
    )  # fmt: skip
    note = " ".join(reason.split())[:300]
    return f"{names}\ncase = find({case.id!r}{more})\nprint(Suite({device!r}).run(case).reason)  # {note}\n"


def _path(op: Op) -> tuple[str, str] | None:
    """The line that imports an op and the expression that names it."""
    for module in ("", "linalg.", "fft.", "random.", "ops.linalg.", "ops.fft."):
        try:
            found = _attribute(module + op.name)
        except AttributeError:
            continue
        if getattr(found, "op", None) is op:
            return "import corelib as cl", f"cl.{module}{op.name}"
    module, name = op.fn.__module__, op.fn.__name__
    if module.startswith("corelib.") or not name.isidentifier():
        return None
    return f"from {module} import {name}; import corelib as cl", name


def _attribute(path: str) -> Any:
    found: Any = import_module("corelib")
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _names(count: int) -> list[str]:
    return ["x"] if count == 1 else [f"x{n}" for n in range(1, count + 1)]


def _arguments(attempt: Attempt, names: list[str], device: str) -> str:
    each = iter(names)

    def shown(a: Any) -> str:
        if isinstance(a, Values):
            return next(each)
        if isinstance(a, list):
            return f"[{', '.join(map(shown, a))}]"
        if isinstance(a, tuple):
            return f"({', '.join(map(shown, a))}{',' * (len(a) == 1)})"
        if isinstance(a, DType):
            return f"cl.{a.name}"
        return number(a) if isinstance(a, float | complex) else repr(a)

    parts = [shown(a) for a in attempt.sample.args]
    parts += [f"{k}={shown(v)}" for k, v in attempt.sample.kwargs.items()]
    if attempt.op.device_param:
        parts.append(f"{attempt.op.device_param}={device!r}")
    return ", ".join(parts)


def _differentiated(attempt: Attempt, names: list[str], text: str, device: str) -> list[str] | None:
    """The lines that pull a cotangent back; None for several results or those with arbitrary signs."""
    op = attempt.op
    if op.domain is not None or op.invariant is not None:
        return None
    function, primals = variables(attempt.case, attempt.sample, registry.get(REFERENCE))
    found = function(*primals)
    if len(found) != 1:
        return None
    wanted = [n for n, v in zip(names, tensors(attempt.sample), strict=True) if inexact(v.dtype)]
    given = ", ".join(wanted)
    if attempt.cotangent == "ones":
        pulled = "cl.ones_like(y)"
    else:
        (drawn,) = cotangents(attempt.case, found)
        g = cotangent(attempt.cotangent, Values(drawn.shape, found[0].dtype, drawn.data))
        pulled = _operand(g, PLAIN, device)
    return [
        f"y, pullback = cl.vjp(lambda {given}: {text}, {given})",
        f"print([g.tolist() for g in pullback({pulled})])",
    ]


def _shown(attempt: Attempt, reason: str) -> str:
    """What of the result is printed: that which the reason is about."""
    if reason.startswith("the result is on"):
        return "y.device"
    if reason.startswith("the result is"):
        return "y.dtype, y.shape"
    single = isinstance(call(attempt.op, attempt.sample, registry.get(REFERENCE)), Tensor)
    return "y.tolist()" if single else "y"


# -- operands --------------------------------------------------------------------------------------------------


def _operand(v: Values, layout: str, device: str) -> str:
    """The expression that makes a tensor in a layout (see ``layouts.py``)."""
    shape = v.shape
    if not shape and layout not in ("offset", "readonly", "unaligned") or layout == PLAIN:
        return _tensor(v, device)
    if layout == "reversed":
        return f"cl.flip({_tensor(Values(shape, v.dtype, v.data[::-1]), device)})"
    if layout == "transposed":
        order = tuple(reversed(range(len(shape))))
        return f"cl.permute_dims({_tensor(transposed(v), device)}, {order})"
    if layout == "gaps":
        wide = Values((*shape[:-1], 3 * shape[-1]), v.dtype, tuple(x for x in v.data for _ in range(3)))
        return f"{_tensor(wide, device)}[..., 1::3]"
    if layout == "repeated":
        axis = repeats(v)
        if axis is None:
            return _tensor(v, device)
        inner = math.prod(shape[axis + 1 :])
        block = inner * shape[axis]
        data = tuple(x for s in range(0, len(v.data), block) for x in v.data[s : s + inner])
        thin = Values((*shape[:axis], 1, *shape[axis + 1 :]), v.dtype, data)
        return f"cl.broadcast_to({_tensor(thin, device)}, {shape})"
    if layout == "offset":
        inside = ", ".join(["1:-1"] * len(shape))
        return f"cl.pad({_tensor(v, device)}, 1)[{inside}]" if shape else _tensor(v, device)
    at = 1 if layout == "unaligned" else 0
    packed = bytes(at) + bytes(memoryview(v.dtype.pack(v.data)).cast("B")) if v.data else bytes(at)
    memory = f"np.frombuffer({packed!r}, cl.{v.dtype.name}.numpy, {len(v.data)}, {at}).reshape({shape})"
    return f"cl.asarray({memory}, device={device!r})"


def _tensor(v: Values, device: str) -> str:
    """The expression that makes a plain tensor."""
    how = f"dtype=cl.{v.dtype.name}, device={device!r}"
    if not v.data:
        return f"cl.zeros({v.shape}, {how})"
    if len(v.data) > 8 and len(set(map(repr, v.data))) == 1:
        return f"cl.full({v.shape}, {number(v.data[0], v.dtype)}, {how})"
    if len(v.shape) > 3:
        flat = ", ".join(number(x, v.dtype) for x in v.data)
        return f"cl.reshape(cl.asarray([{flat}], {how}), {v.shape})"
    return f"cl.asarray({_nested(v.shape, v.data, v.dtype)}, {how})"


def _nested(shape: tuple[int, ...], data: tuple[Any, ...], dtype: DType) -> str:
    if not shape:
        return number(data[0], dtype)
    step = len(data) // shape[0]
    rows = (_nested(shape[1:], data[i * step : (i + 1) * step], dtype) for i in range(shape[0]))
    return f"[{', '.join(rows)}]"


def number(x: Any, dtype: DType | None = None) -> str:
    """A number in as few digits as its dtype needs to hold it again."""
    if isinstance(x, complex):
        real = dtype.real if dtype else None
        return f"complex({number(x.real, real)}, {number(x.imag, real)})"
    if not isinstance(x, float):
        return repr(x)
    if math.isnan(x):
        return "cl.nan"
    if math.isinf(x):
        return "cl.inf" if x > 0 else "-cl.inf"
    short = (f"{x:.{digits}g}" for digits in range(1, 17))
    same = lambda text: repr(dtype.round(float(text)) if dtype else float(text)) == repr(x)
    text = next((t for t in short if same(t)), repr(x))
    return text if re.search(r"[.e]", text) else f"{text}.0"


__all__ = ["LINES", "by_id", "number", "written"]
