"""Expressions of the language of kernels, written as LLVM IR: see language.py."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir

from .language import (
    BOOL,
    CASTS,
    FLOAT32,
    FLOAT64,
    INT,
    NOTHING,
    NUMBERS,
    UINT,
    WORD,
    External,
    Intrinsic,
    KernelError,
    Signature,
    Type,
    common,
    declared,
    tuple_of,
    wide,
)


class Value:
    """A value of the machine, or the values of its parts."""

    __slots__ = ("ir", "type")

    def __init__(self, kind: Type, machine: Any) -> None:
        self.type, self.ir = kind, machine

    def leaves(self) -> Iterator[Any]:
        if self.type.kind in "ct":
            for part in self.ir:
                yield from part.leaves()
        else:
            yield self.ir


def formed(kind: Type, leaves: Iterator[Any]) -> Value:
    """A value of a type from its parts in the machine."""
    if kind.kind in "ct":
        return Value(kind, [formed(part, leaves) for part in kind.parts])
    return Value(kind, next(leaves))


_INTRINSIC = {
    "exp",
    "log",
    "log2",
    "log10",
    "sin",
    "cos",
    "sqrt",
    "fabs",
    "floor",
    "ceil",
    "trunc",
}  # of math
_LIBRARY = {"erf", "erfc", "expm1", "log1p", "sinh", "cosh", "tanh", "tan", "asin", "acos", "atan", "asinh", "acosh",
            "atanh", "lgamma", "tgamma"}  # fmt: skip
_ARITHMETIC = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
_BITWISE = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_COMPARED = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_PYTHON = {ast.Add: lambda x, y: x + y, ast.Sub: lambda x, y: x - y, ast.Mult: lambda x, y: x * y, ast.Pow: lambda x, y: x**y,
           ast.FloorDiv: lambda x, y: x // y, ast.LShift: lambda x, y: x << y}  # fmt: skip


class Expressions:
    """Writes expressions at the place of `code`. A part of Python is a value of the machine, or an object that is known
    now: a constant, a function, a type.
    """

    code: ir.IRBuilder
    function: ir.Function
    module: ir.Module

    def look_up(self, name: str) -> Any:
        """What a name stands for."""
        raise NotImplementedError

    def made(self, function: Any, given: Sequence[Type]) -> Any:
        """The function in the module for arguments of these types, and the type of its result."""
        raise NotImplementedError

    # values

    def value(self, x: Any) -> Value:
        """A value of the machine; constants of Python become one."""
        if isinstance(x, Value):
            return x
        if isinstance(x, (bool, np.bool_)):
            return Value(BOOL, ir.Constant(BOOL.ir, int(x)))
        if isinstance(x, np.generic):
            return self.constant(x, NUMBERS[x.dtype.name])
        if isinstance(x, int):
            return self.constant(x, INT if x < 1 << 63 else UINT)
        if isinstance(x, float):
            return self.constant(x, FLOAT64)
        if isinstance(x, complex):
            return Value(NUMBERS["complex128"], [self.value(x.real), self.value(x.imag)])
        if isinstance(x, tuple):
            parts = [self.value(part) for part in x]
            return Value(tuple_of(tuple(p.type for p in parts)), parts)
        raise KernelError(f"{x!r} is no value of a kernel")

    def constant(self, x: Any, kind: Type) -> Value:
        return Value(kind, ir.Constant(kind.ir, float(x) if kind.kind == "f" else int(x)))

    def cast(self, x: Any, kind: Type) -> Value:
        """The value as one of another type."""
        value = self.value(x)
        old, code = value.type, self.code
        if old is kind:
            return value
        if kind.kind == "t" and old.kind == "t":
            return Value(kind, [self.cast(v, t) for v, t in zip(value.ir, kind.parts, strict=True)])
        if kind.kind == "c":
            parts = value.ir if old.kind == "c" else [value, self.constant(0, kind.parts[0])]
            return Value(kind, [self.cast(part, kind.parts[0]) for part in parts])
        if old.kind not in "biuf" or kind.kind not in "biuf":
            raise KernelError(f"{old} does not become {kind}")
        if kind.kind == "b":
            zero = self.constant(0, old).ir
            made = (
                code.fcmp_unordered("!=", value.ir, zero)
                if old.kind == "f"
                else code.icmp_signed("!=", value.ir, zero)
            )
        elif old.kind == "f" and kind.kind == "f":
            made = (code.fpext if kind is FLOAT64 else code.fptrunc)(value.ir, kind.ir)
        elif old.kind == "f":
            made = (code.fptosi if kind.kind == "i" else code.fptoui)(value.ir, kind.ir)
        elif kind.kind == "f":
            made = (code.sitofp if old.kind == "i" else code.uitofp)(value.ir, kind.ir)
        elif old.ir.width == kind.ir.width:
            made = value.ir
        elif old.ir.width > kind.ir.width:
            made = code.trunc(value.ir, kind.ir)
        else:
            made = (code.sext if old.kind == "i" else code.zext)(value.ir, kind.ir)
        return Value(kind, made)

    def truth(self, x: Any) -> Any:
        """The bit of a condition."""
        return self.cast(x, BOOL).ir

    # expressions: a Value, or an object of Python that is known now

    def of(self, node: ast.expr) -> Any:
        method = getattr(self, f"of_{type(node).__name__}", None)
        if method is None:
            raise KernelError(f"the language has no {type(node).__name__}")
        return method(node)

    def of_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def of_Name(self, node: ast.Name) -> Any:
        return self.look_up(node.id)

    def of_Tuple(self, node: ast.Tuple) -> Any:
        parts = tuple(self.of(x) for x in node.elts)
        return self.value(parts) if any(isinstance(p, Value) for p in parts) else parts

    def of_Attribute(self, node: ast.Attribute) -> Any:
        x = self.of(node.value)
        if not isinstance(x, Value):
            return getattr(x, node.attr)
        if x.type.kind == "c" and node.attr in ("real", "imag"):
            return x.ir[node.attr == "imag"]
        raise KernelError(f"{x.type} has no {node.attr}")

    def place(self, node: ast.Subscript) -> tuple[Type, list[Any]]:
        """The element's type, and the places of its parts."""
        x = self.of(node.value)
        if not isinstance(x, Value) or x.type.kind != "p":
            raise KernelError("only pointers are indexed here")
        index, element = self.cast(self.of(node.slice), INT).ir, x.type.parts[0]
        if element.kind != "c":
            return element, [self.code.gep(x.ir, [index])]
        return element, [self.code.gep(x.ir, [index, ir.Constant(ir.IntType(32), i)]) for i in (0, 1)]

    def read(self, place: tuple[Type, list[Any]]) -> Value:
        return formed(place[0], iter([self.code.load(p) for p in place[1]]))

    def write(self, place: tuple[Type, list[Any]], value: Any) -> None:
        for cell, leaf in zip(place[1], self.cast(value, place[0]).leaves(), strict=True):
            self.code.store(leaf, cell)

    def of_Subscript(self, node: ast.Subscript) -> Any:
        x = self.of(node.value)
        if isinstance(x, Value) and x.type.kind == "p":
            return self.read(self.place(node))
        index = self.of(node.slice)
        if not isinstance(index, int):
            raise KernelError("the index of a tuple is a constant")
        return x.ir[index] if isinstance(x, Value) else x[index]

    def of_UnaryOp(self, node: ast.UnaryOp) -> Any:
        x = self.of(node.operand)
        if isinstance(node.op, ast.Not):
            return not x if not isinstance(x, Value) else Value(BOOL, self.code.not_(self.truth(x)))
        if isinstance(node.op, ast.USub):
            return -x if not isinstance(x, Value) else self.negative(x)
        if isinstance(node.op, ast.Invert):
            value = self.value(x)
            kind = BOOL if value.type is BOOL else wide(value.type)
            return Value(kind, self.code.not_(self.cast(value, kind).ir))
        raise KernelError(f"the language has no {type(node.op).__name__}")

    def negative(self, x: Value) -> Value:
        if x.type.kind == "c":
            return Value(x.type, [self.negative(part) for part in x.ir])
        if x.type.kind == "f":
            return Value(x.type, self.code.fneg(x.ir))
        kind = wide(x.type)
        return Value(kind, self.code.neg(self.cast(x, kind).ir))

    def of_BinOp(self, node: ast.BinOp) -> Any:
        return self.binary(node.op, self.of(node.left), self.of(node.right))

    def binary(self, op: ast.operator, x: Any, y: Any) -> Any:
        sort = type(op)
        if not isinstance(x, Value) and not isinstance(y, Value) and sort in _PYTHON:
            return _PYTHON[sort](x, y)
        a, b = self.value(x), self.value(y)
        code = self.code
        if sort in (ast.LShift, ast.RShift):
            kind = wide(a.type)
            shift = code.shl if sort is ast.LShift else code.lshr if kind.kind == "u" else code.ashr
            return Value(kind, shift(self.cast(a, kind).ir, self.cast(b, kind).ir))
        if sort in _BITWISE:
            kind = BOOL if a.type is b.type is BOOL else wide(a.type, b.type)
            return Value(kind, getattr(code, _BITWISE[sort])(self.cast(a, kind).ir, self.cast(b, kind).ir))
        kind = wide(a.type, b.type)
        if sort is ast.Div and kind.kind in "iu":
            kind = FLOAT64
        a, b = self.cast(a, kind), self.cast(b, kind)
        if sort in (ast.FloorDiv, ast.Mod) and kind.kind in "iu":
            return self.divided(sort is ast.Mod, a, b)
        if kind.kind == "c" and sort in _ARITHMETIC:
            return self.complex_arithmetic(sort, a, b)
        if kind.kind == "f" and (sort in _ARITHMETIC or sort is ast.Div):
            return Value(kind, getattr(code, "f" + _ARITHMETIC.get(sort, "div"))(a.ir, b.ir))
        if kind.kind in "iu" and sort in _ARITHMETIC:
            return Value(kind, getattr(code, _ARITHMETIC[sort])(a.ir, b.ir))
        raise KernelError(f"the language has no {sort.__name__} of {a.type} and {b.type}")

    def complex_arithmetic(self, sort: Any, x: Value, y: Value) -> Value:
        (a, b), (c, d) = x.ir, y.ir
        do = lambda name, p, q: Value(p.type, getattr(self.code, name)(p.ir, q.ir))
        if sort is not ast.Mult:
            name = "f" + _ARITHMETIC[sort]
            return Value(x.type, [do(name, a, c), do(name, b, d)])
        real = do("fsub", do("fmul", a, c), do("fmul", b, d))
        return Value(x.type, [real, do("fadd", do("fmul", a, d), do("fmul", b, c))])

    def divided(self, rest: bool, x: Value, y: Value) -> Value:
        """x // y or x % y, rounded down; 0 for y = 0."""
        code, kind = self.code, x.type
        zero = self.constant(0, kind).ir
        if kind.kind == "u":
            by = code.select(code.icmp_unsigned("==", y.ir, zero), self.constant(1, kind).ir, y.ir)
            made = (code.urem if rest else code.udiv)(x.ir, by)
            return Value(kind, code.select(code.icmp_unsigned("==", y.ir, zero), zero, made))
        if isinstance(y.ir, ir.Constant) and y.ir.constant > 0:
            by, none = y.ir, None
        else:
            none = code.icmp_signed("==", y.ir, zero)
            by = code.select(none, self.constant(1, kind).ir, y.ir)
        left = code.srem(x.ir, by)
        down = code.and_(code.icmp_signed("!=", left, zero), code.icmp_signed("<", code.xor(left, by), zero))
        if rest:
            made = code.add(left, code.select(down, by, zero))
        else:
            made = code.sub(code.sdiv(x.ir, by), code.zext(down, kind.ir))
        return Value(kind, made if none is None else code.select(none, zero, made))

    def of_Compare(self, node: ast.Compare) -> Any:
        left, found = self.of(node.left), None
        for op, right_ in zip(node.ops, node.comparators, strict=True):
            right = self.of(right_)
            one = self.compared(_COMPARED[type(op)], left, right)
            if found is None:
                found = one
            else:
                found = Value(BOOL, self.code.and_(self.truth(found), self.truth(one)))
            left = right
        return found

    def compared(self, sign: str, x: Any, y: Any) -> Any:
        if not isinstance(x, Value) and not isinstance(y, Value):
            return bool(eval(f"x {sign} y", {"x": x, "y": y}))
        a, b = self.value(x), self.value(y)
        code = self.code
        if all(t.kind in "biu" for t in (a.type, b.type)):
            mixed = {a.type.kind, b.type.kind} == {"i", "u"}
            kind = wide(a.type, b.type)
            p, q = self.cast(a, kind).ir, self.cast(b, kind).ir
            if not mixed:
                return Value(BOOL, (code.icmp_unsigned if kind.kind == "u" else code.icmp_signed)(sign, p, q))
            return Value(BOOL, self.mixed(sign, p, q, a.type.kind == "i"))
        kind = common(a.type, b.type)
        a, b = self.cast(a, kind), self.cast(b, kind)
        if kind.kind == "c":
            if sign not in ("==", "!="):
                raise KernelError("complex numbers have no order")
            parts = [self.compared(sign, p, q).ir for p, q in zip(a.ir, b.ir, strict=True)]
            return Value(BOOL, (code.and_ if sign == "==" else code.or_)(*parts))
        compare = code.fcmp_unordered if sign == "!=" else code.fcmp_ordered
        return Value(BOOL, compare(sign, a.ir, b.ir))

    def mixed(self, sign: str, p: Any, q: Any, first: bool) -> Any:
        """A signed number compared with an unsigned one, in this order if `first`."""
        zero = ir.Constant(WORD, 0)
        negative = self.code.icmp_signed("<", p if first else q, zero)
        always = sign == "!=" or (sign in ("<", "<=")) is first and sign != "=="
        plain = self.code.icmp_unsigned(sign, p, q)
        return self.code.select(negative, ir.Constant(BOOL.ir, int(always)), plain)

    def of_BoolOp(self, node: ast.BoolOp) -> Any:
        """The rest is not evaluated where the first decides."""
        both = isinstance(node.op, ast.And)
        x = self.of(node.values[0])
        rest: Any = node.values[1] if len(node.values) == 2 else ast.BoolOp(node.op, node.values[1:])
        if not isinstance(x, Value):
            return self.of(rest) if bool(x) is both else x
        first, start = self.truth(x), self.code.block
        more, end = self.function.append_basic_block(), self.function.append_basic_block()
        self.code.cbranch(first, *((more, end) if both else (end, more)))
        self.code.position_at_end(more)
        second = self.truth(self.of(rest))
        last = self.code.block
        self.code.branch(end)
        self.code.position_at_end(end)
        phi = self.code.phi(BOOL.ir)
        phi.add_incoming(ir.Constant(BOOL.ir, int(not both)), start)
        phi.add_incoming(second, last)
        return Value(BOOL, phi)

    def of_IfExp(self, node: ast.IfExp) -> Any:
        condition = self.of(node.test)
        if not isinstance(condition, Value):
            return self.of(node.body if condition else node.orelse)
        bit = self.truth(condition)
        if all(isinstance(x, (ast.Name, ast.Constant)) for x in (node.body, node.orelse)):
            x, y = self.value(self.of(node.body)), self.value(self.of(node.orelse))
            kind = common(x.type, y.type)
            pairs = zip(self.cast(x, kind).leaves(), self.cast(y, kind).leaves(), strict=True)
            return formed(kind, iter([self.code.select(bit, p, q) for p, q in pairs]))
        yes, no, end = (self.function.append_basic_block() for _ in range(3))
        self.code.cbranch(bit, yes, no)
        ends = []
        for block, part in ((yes, node.body), (no, node.orelse)):
            self.code.position_at_end(block)
            ends.append((self.value(self.of(part)), self.code.block))
        kind = common(ends[0][0].type, ends[1][0].type)
        made = []
        for value, block in ends:
            self.code.position_at_end(block)
            made.append(list(self.cast(value, kind).leaves()))
            self.code.branch(end)
        self.code.position_at_end(end)
        phis = []
        for leaves in zip(*made, strict=True):
            phi = self.code.phi(leaves[0].type)
            for leaf, (_, block) in zip(leaves, ends, strict=True):
                phi.add_incoming(leaf, block)
            phis.append(phi)
        return formed(kind, iter(phis))

    # calls

    def of_Call(self, node: ast.Call) -> Any:
        function = self.of(node.func)
        given = [self.of(x) for x in node.args]
        if isinstance(function, Intrinsic):
            values = [self.value(x) for x in given]
            signature, emit = function.define(*[v.type for v in values])
            operands = [self.cast(v, t) for v, t in zip(values, signature.arguments, strict=True)]
            return Value(signature.result, emit(self.code, [v.ir for v in operands]))
        if isinstance(function, External):
            return self.external(function.name, function.signature, given)
        if function in CASTS:
            return self.converted(CASTS[function], given)
        if function is min or function is max:
            return self.extreme(function is min, given)
        if function is abs:
            return self.absolute(self.value(given[0]))
        if isinstance(function, FunctionType):
            return self.called(function, [self.value(x) for x in given])
        name = getattr(function, "__name__", "")
        if getattr(math, name, None) is function and name in _INTRINSIC | _LIBRARY:
            x = self.value(given[0])
            x = x if x.type.kind == "f" else self.cast(x, FLOAT64)
            if name in _INTRINSIC:
                name = f"llvm.{name}.f{32 if x.type is FLOAT32 else 64}"
            elif x.type is FLOAT32:
                name += "f"
            return self.external(name, x.type(x.type), [x])
        raise KernelError(f"{function!r} is no function of the language")

    def called(self, function: Any, values: Sequence[Value]) -> Any:
        made, kind = self.made(function, [v.type for v in values])
        out = self.code.call(made, [leaf for v in values for leaf in v.leaves()])
        if kind is NOTHING:
            return None
        count = len(list(kind.leaves()))
        parts = [out] if count == 1 else [self.code.extract_value(out, i) for i in range(count)]
        return formed(kind, iter(parts))

    def external(self, name: str, signature: Signature, given: Sequence[Any]) -> Value:
        operands = [self.cast(x, t).ir for x, t in zip(given, signature.arguments, strict=True)]
        kind = ir.FunctionType(signature.result.ir, [t.ir for t in signature.arguments])
        return Value(signature.result, self.code.call(declared(self.module, kind, name), operands))

    def converted(self, kind: Type, given: Sequence[Any]) -> Any:
        if kind.kind == "c" and len(given) == 2:
            parts = [self.cast(x, kind.parts[0]) for x in given]
            return Value(kind, parts)
        return self.cast(given[0], kind)

    def extreme(self, least: bool, given: Sequence[Any]) -> Any:
        """The least or greatest of numbers: the first of those that are, or NaN if that is the first."""
        if not any(isinstance(x, Value) for x in given):
            return min(given) if least else max(given)
        values = [self.value(x) for x in given]
        kind = wide(*[v.type for v in values])
        found = self.cast(values[0], kind)
        for v in values[1:]:
            other = self.cast(v, kind)
            better = self.compared("<" if least else ">", other, found).ir
            found = Value(kind, self.code.select(better, other.ir, found.ir))
        return found

    def absolute(self, x: Value) -> Value:
        if x.type.kind == "f":
            name = f"llvm.fabs.f{32 if x.type is FLOAT32 else 64}"
            return self.external(name, x.type(x.type), [x])
        if x.type.kind != "i":
            return x
        negative = self.code.icmp_signed("<", x.ir, self.constant(0, x.type).ir)
        return Value(x.type, self.code.select(negative, self.code.neg(x.ir), x.ir))
