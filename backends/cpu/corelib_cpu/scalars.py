"""One element of each element-wise op in LLVM IR: what generated kernels are made of.

An operation is a template over the IR names of its operands, or a function of vmath.py, whose IR is made once per
machine. Both give the bits of the compiled loops of elementwise.py: nothing is contracted, and no order is changed.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from . import native
from .casts import HALF
from .elementwise import BOOLEAN_RESULT, expression
from .quiet import named

IR = {"bool": "i1", "float32": "float", "float64": "double", "float16": "i16", "bfloat16": "i16"} | {
    f"{sign}int{bits}": f"i{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

# {t}: the type; {s}, {u}: s or u by the sign of an integer type
FLOAT = {
    "add": "fadd {t} {x}, {y}", "subtract": "fsub {t} {x}, {y}", "multiply": "fmul {t} {x}, {y}",
    "divide": "fdiv {t} {x}, {y}", "negative": "fneg {t} {x}", "isnan": "fcmp uno {t} {x}, {x}",
    "equal": "fcmp oeq {t} {x}, {y}", "not_equal": "fcmp une {t} {x}, {y}", "less": "fcmp olt {t} {x}, {y}",
    "less_equal": "fcmp ole {t} {x}, {y}", "greater": "fcmp ogt {t} {x}, {y}", "greater_equal": "fcmp oge {t} {x}, {y}",
}  # fmt: skip
INTRINSIC = {
    "abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven",
    "maximum": "maximum", "minimum": "minimum", "copysign": "copysign",
}  # fmt: skip
INTEGER = {
    "add": "add {t} {x}, {y}", "subtract": "sub {t} {x}, {y}", "multiply": "mul {t} {x}, {y}",
    "negative": "sub {t} 0, {x}", "bitwise_and": "and {t} {x}, {y}", "bitwise_or": "or {t} {x}, {y}",
    "bitwise_xor": "xor {t} {x}, {y}", "bitwise_invert": "xor {t} {x}, -1", "equal": "icmp eq {t} {x}, {y}",
    "not_equal": "icmp ne {t} {x}, {y}", "less": "icmp {s}lt {t} {x}, {y}", "less_equal": "icmp {s}le {t} {x}, {y}",
    "greater": "icmp {s}gt {t} {x}, {y}", "greater_equal": "icmp {s}ge {t} {x}, {y}",
}  # fmt: skip
BOOLEAN = {
    "bitwise_and": "and i1 {x}, {y}", "bitwise_or": "or i1 {x}, {y}", "bitwise_xor": "xor i1 {x}, {y}",
    "bitwise_invert": "xor i1 {x}, true", "equal": "icmp eq i1 {x}, {y}", "not_equal": "xor i1 {x}, {y}",
}  # fmt: skip
LARGER = {"maximum": "{s}max", "minimum": "{s}min"}  # of integers
VMATH = {"exp", "log", "tanh", "erf", "sign", "floor_divide", "remainder"}
POWERS = 256  # elements up to which powers are generated: the C library knows no vectors
COST = {
    "exp": 10,
    "log": 12,
    "tanh": 16,
    "erf": 16,
    "divide": 4,
    "sqrt": 4,
    "floor_divide": 24,
    "remainder": 24,
    "pow": 40,
}
NO_VECTORS = {("erf", "float64"), ("pow", "float32"), ("pow", "float64"), ("floor_divide", "float32"), ("floor_divide", "float64"), ("remainder", "float32"),
              ("remainder", "float64")}  # fmt: skip


def knows(name: str, dtype: str) -> bool:
    """Whether an op on operands of a dtype has a form here."""
    kind = named(dtype).kind
    if name == "where":
        return kind in "fiub" and dtype not in HALF
    if dtype in HALF:
        return False
    if kind == "f":
        return name in FLOAT or name in INTRINSIC or (name in VMATH and expression(name, dtype) is not None)
    return name in (BOOLEAN if kind == "b" else {**INTEGER, **LARGER} if kind in "iu" else ())


def result(name: str, dtype: str) -> str:
    """The dtype of an op's result."""
    return "bool" if name in BOOLEAN_RESULT else dtype


def intrinsic(name: str, dtype: str, count: int) -> tuple[str, str]:
    """Name and declaration of an LLVM intrinsic of `count` operands of one type."""
    kind = IR[dtype]
    suffix = {"float": "f32", "double": "f64"}.get(kind, kind)
    full = f"@llvm.{name}.{suffix}"
    return full, f"declare {kind} {full}({', '.join([kind] * count)})"


class Body:
    """The instructions of one function as they are written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0

    def value(self, text: str) -> str:
        """A name for what an instruction computes."""
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def call(self, name: str, dtype: str, *operands: str) -> str:
        """A call of an intrinsic."""
        full, self.declared[full] = intrinsic(name, dtype, len(operands))
        return self.value(f"call {IR[dtype]} {full}({', '.join(f'{IR[dtype]} {x}' for x in operands)})")

    def apply(self, name: str, dtype: str, operands: list[str]) -> str:
        """The op's result for operands of a dtype."""
        kind = named(dtype).kind
        names = dict(zip("xyz", operands, strict=False))
        names |= {"t": IR[dtype], "s": "u" if kind == "u" else "s"}
        if name == "pow":  # of the C library, in double precision
            x, y = (self.cast(operand, dtype, "float64") for operand in operands)
            return self.cast(self.call("pow", "float64", x, y), "float64", dtype)
        if name == "where":
            return self.value("select i1 {x}, {t} {y}, {t} {z}".format(**names))
        if kind == "f" and name in INTRINSIC:
            return self.call(INTRINSIC[name], dtype, *operands)
        if kind in "iu" and name in LARGER:
            return self.call(LARGER[name].format(**names), dtype, *operands)
        template = (FLOAT if kind == "f" else BOOLEAN if kind == "b" else INTEGER).get(name)
        if template is not None:
            return self.value(template.format(**names))
        symbol, self.declared[f"@{name}_{dtype}"] = function(name, dtype, len(operands))
        return self.value(f"call {IR[dtype]} {symbol}({', '.join(f'{IR[dtype]} {x}' for x in operands)})")

    def cast(self, value: str, source: str, target: str) -> str:
        """A number of another dtype: truncated and saturated from floating to integer, rounded once otherwise."""
        if source == target:
            return value
        old, new = named(source), named(target)
        t, u = IR[source], IR[target]
        if source in HALF:
            if source == "float16":
                value = self.value(f"fpext half {self.value(f'bitcast i16 {value} to half')} to float")
            else:
                value = self.value(f"shl i32 {self.value(f'zext i16 {value} to i32')}, 16")
                value = self.value(f"bitcast i32 {value} to float")
            return self.cast(value, "float32", target)
        if target == "bool":
            return self.value(f"fcmp une {t} {value}, 0.0" if old.kind == "f" else f"icmp ne {t} {value}, 0")
        if old.kind == "f" and new.kind == "f":
            return self.value(f"{'fpext' if new.itemsize > old.itemsize else 'fptrunc'} {t} {value} to {u}")
        if new.kind == "f":
            return self.value(f"{'sitofp' if old.kind == 'i' else 'uitofp'} {t} {value} to {u}")
        if old.kind == "f":
            # LLVM's saturating cast is not vectorised: 0.7 ns a number, and so 0.1
            limits = np.iinfo(new)
            found = self.value(f"fpto{'s' if new.kind == 'i' else 'u'}i {t} {value} to {u}")
            for test, bound, otherwise in (
                ("oge", 2.0 * (limits.max // 2 + 1), limits.max if new.kind == "i" else -1),
                ("ole", float(limits.min), limits.min),
                ("uno", 0.0, 0),
            ):
                outside = self.value(f"fcmp {test} {t} {value}, 0x{struct.pack('>d', bound).hex()}")
                found = self.value(f"select i1 {outside}, {u} {otherwise}, {u} {found}")
            return found
        if source != "bool" and new.itemsize == old.itemsize:
            return value
        if source != "bool" and new.itemsize < old.itemsize:
            return self.value(f"trunc {t} {value} to {u}")
        return self.value(f"{'sext' if old.kind == 'i' else 'zext'} {t} {value} to {u}")


def casts(source: str, target: str) -> bool:
    """Whether a cast has a form here."""
    known = all(dtype in IR for dtype in (source, target))
    half = source == "float16" and not native.has_float16()
    return known and target not in HALF and not half


def function(name: str, dtype: str, count: int) -> tuple[str, str]:
    """Name and definition of a function of vmath.py as IR."""
    found = expression(name, dtype)
    assert found is not None
    arguments = ", ".join("xyz"[:count])
    source = f"def function({arguments}):\n    return {found.text}\n"
    symbol = f"@{name}_{dtype}"
    return symbol, native.function_ir(source, dtype, count).replace("@FUNCTION", symbol)


def bits(value: Any, dtype: str) -> int:
    """A number of a dtype as a signed 64-bit word."""
    array = np.asarray(value, named(dtype)).reshape(1)
    if array.dtype.kind == "f":
        array = array.view(f"i{array.itemsize}")
    return int(array.astype(np.uint64 if array.dtype.kind == "u" else np.int64).view(np.int64)[0])
