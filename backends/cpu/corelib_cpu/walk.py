"""Functions of the language of kernels, written as LLVM IR: variables, statements, and modules of them. See language.py."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .expressions import Expressions, Value, formed
from .language import INT, NOTHING, WORD, KernelError, Signature, Type, common, inline


def compiled(source: str, name: str, namespace: dict[str, Any], given: Signature, symbol: str) -> str:
    """A module of IR with one function of a source text, under a symbol; all others in it are internal."""
    file = f"<corelib_cpu {symbol}>"
    _trees[file] = _definitions(ast.parse(source))
    try:
        exec(compile(source, file, "exec"), namespace)
        function = inline(namespace[name], fastmath=namespace.get("OPTIONS", {}).get("fastmath", ()))
        unit = _Unit(symbol)
        made, _ = unit.function(function, given.arguments, given.result)
        made.linkage = ""
        return str(unit.module).replace(f'@"{made.name}"', f"@{symbol}")
    finally:
        del _trees[file]


# --- one module ---------------------------------------------------------------------------------------------------

_trees: dict[str, dict[int, ast.FunctionDef]] = {}  # file -> line -> function


def _definitions(tree: ast.AST) -> dict[int, ast.FunctionDef]:
    return {
        min([node.lineno, *(d.lineno for d in node.decorator_list)]): node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def _definition(function: FunctionType) -> ast.FunctionDef:
    code = function.__code__
    if code.co_filename not in _trees:
        _trees[code.co_filename] = _definitions(
            ast.parse(inspect.getsource(sys.modules[function.__module__]))
        )
    return _trees[code.co_filename][code.co_firstlineno]


class RetypedError(Exception):
    """A function must be walked again: its result, or a variable of a loop, has another type than was thought."""


class _Unit:
    """The functions of one module."""

    def __init__(self, symbol: str) -> None:
        self.module = ir.Module()
        self.symbol = symbol
        self.made: dict[Any, Any] = {}
        self.count = 0

    def function(self, function: Any, given: Sequence[Type], result: Type | None = None) -> tuple[Any, Type]:
        """The function for arguments of these types, and the type of its result."""
        key = (function, tuple(given))
        if key in self.made:
            return self.made[key]
        loops: dict[Any, Type] = {}
        while True:
            self.count += 1
            name = f"{self.symbol}.{function.__name__}.{self.count}"
            walk = Walk(self, function, given, result, loops, name)
            try:
                made = walk.run()
            except RetypedError:
                del self.module.globals[name]
                result = walk.result
                continue
            except KernelError as error:
                if error.args[0].startswith("line "):
                    raise
                raise KernelError(f"line {walk.line} of {function.__name__}: {error}") from None
            self.made[key] = made, walk.result or NOTHING
            return self.made[key]


class Slot:
    """Where a variable is kept: places on the stack, which LLVM turns into registers."""

    __slots__ = ("cells", "type")

    def __init__(self, kind: Type, cells: list[Any]) -> None:
        self.type, self.cells = kind, cells


class Loop(NamedTuple):
    """A loop that is being walked: where it goes on, where it ends, and its variables as they were at its head."""

    node: Any
    again: Any
    end: Any
    names: dict[str, Any]
    leaving: list[dict[str, Any]]


_FLAGGED = {"fadd", "fsub", "fmul", "fdiv", "frem", "fcmp"}


class Walk(Expressions):
    """Writes one function."""

    def __init__(
        self, unit: _Unit, function: Any, given: Sequence[Type], result: Type | None, loops: Any, name: str
    ) -> None:
        self.made, self.module = unit.function, unit.module
        self.fn, self.result, self.widened = function, result, loops
        self.node = _definition(function)
        self.line = self.node.lineno
        parts = list(result.leaves()) if result is not None and result is not NOTHING else []
        out = (
            ir.VoidType()
            if not parts
            else parts[0].ir
            if len(parts) == 1
            else ir.LiteralStructType([p.ir for p in parts])
        )
        leaves = [leaf for t in given for leaf in t.leaves()]
        self.function = ir.Function(unit.module, ir.FunctionType(out, [t.ir for t in leaves]), name)
        self.function.linkage = "internal"
        self.function.attributes.add("nounwind")
        if getattr(function, "inlined", ""):
            self.function.attributes.add(function.inlined)
        self.entry = self.function.append_basic_block()
        self.code = ir.IRBuilder(self.function.append_basic_block())
        self.first = self.code.block
        self.stack = ir.IRBuilder(self.entry)
        self.loops: list[Loop] = []
        self.names: dict[str, Any] = {}
        self.outer = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        arguments = iter(self.function.args)
        for argument, kind in zip(self.node.args.args, given, strict=True):
            self.assign(argument.arg, formed(kind, arguments))

    def run(self) -> Any:
        self.body(self.node.body)
        if not self.code.block.is_terminated:
            if self.result is None or self.result is NOTHING:
                self.code.ret_void()
            else:
                self.code.unreachable()
        self.stack.branch(self.first)
        flags = getattr(self.fn, "fastmath", ())
        for block in self.function.blocks if flags else ():
            for line in block.instructions:
                if line.opname in _FLAGGED:
                    line.flags = [*line.flags, *flags]
                elif isinstance(line, ir.CallInstr) and isinstance(line.type, (ir.FloatType, ir.DoubleType)):
                    line.fastmath.update(flags)
        return self.function

    # variables

    def slot(self, kind: Type) -> Slot:
        return Slot(kind, [self.stack.alloca(leaf.ir) for leaf in kind.leaves()])

    def store(self, slot: Slot, value: Value) -> None:
        for cell, leaf in zip(slot.cells, self.cast(value, slot.type).leaves(), strict=True):
            self.code.store(leaf, cell)

    def load(self, slot: Slot) -> Value:
        return formed(slot.type, iter([self.code.load(cell) for cell in slot.cells]))

    def assign(self, name: str, value: Any) -> None:
        if not isinstance(value, (Value, bool, int, float, complex, np.generic, tuple)):
            self.names[name] = value  # a function
            return
        value = self.value(value)
        slot = self.names.get(name)
        if not isinstance(slot, Slot) or slot.type is not value.type:
            slot = self.names[name] = self.slot(value.type)
        self.store(slot, value)

    def look_up(self, name: str) -> Any:
        if name in self.names:
            found = self.names[name]
            return self.load(found) if isinstance(found, Slot) else found
        if name in self.outer:
            return self.outer[name].cell_contents
        if name in self.fn.__globals__:
            return self.fn.__globals__[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise KernelError(f"{name} is not defined")

    # statements

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.code.block.is_terminated:
                return
            self.line = statement.lineno
            method = getattr(self, f"do_{type(statement).__name__}", None)
            if method is None:
                raise KernelError(f"the language has no {type(statement).__name__}")
            method(statement)

    def do_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.of(node.value)

    def do_Pass(self, node: ast.Pass) -> None:
        pass

    def do_Assign(self, node: ast.Assign) -> None:
        value = self.of(node.value)
        for target in node.targets:
            self.bind(target, value)

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Subscript):
            place = self.place(target)
            self.write(place, self.binary(node.op, self.read(place), self.of(node.value)))
        else:
            assert isinstance(target, ast.Name)
            self.assign(target.id, self.binary(node.op, self.look_up(target.id), self.of(node.value)))

    def bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
        elif isinstance(target, ast.Subscript):
            self.write(self.place(target), value)
        elif isinstance(target, ast.Tuple):
            parts = value.ir if isinstance(value, Value) else list(value)
            if len(parts) != len(target.elts):
                raise KernelError(f"{len(parts)} values for {len(target.elts)} names")
            for part, name in zip(parts, target.elts, strict=True):
                self.bind(name, part)
        else:
            raise KernelError(f"nothing is assigned to a {type(target).__name__}")

    def do_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.code.ret_void()
            return
        value = self.value(self.of(node.value))
        kind = value.type if self.result is None else common(self.result, value.type)
        if kind is not self.result:
            self.result = kind
            raise RetypedError
        leaves = list(self.cast(value, kind).leaves())
        if len(leaves) == 1:
            self.code.ret(leaves[0])
            return
        out = ir.Constant(self.function.function_type.return_type, ir.Undefined)
        for i, leaf in enumerate(leaves):
            out = self.code.insert_value(out, leaf, i)
        self.code.ret(out)

    def do_If(self, node: ast.If) -> None:
        condition = self.of(node.test)
        if not isinstance(condition, Value):  # a constant: the other branch is not compiled
            self.body(node.body if condition else node.orelse)
            return
        yes, no = self.function.append_basic_block(), self.function.append_basic_block()
        self.code.cbranch(self.truth(condition), yes, no)
        before, ends = self.names, []
        for block, statements in ((yes, node.body), (no, node.orelse)):
            self.code.position_at_end(block)
            self.names = dict(before)
            self.body(statements)
            if not self.code.block.is_terminated:
                ends.append((self.code.block, self.names))
        self.join(ends)

    def join(self, ends: list[tuple[Any, dict[str, Any]]]) -> None:
        """Go on where branches meet; a variable has one place from there on."""
        if not ends:
            return
        after = self.function.append_basic_block()
        merged = dict(ends[0][1])
        for _, names in ends[1:]:
            for name, slot in names.items():
                other = merged.setdefault(name, slot)
                if other is slot:
                    continue
                if not isinstance(slot, Slot) or not isinstance(other, Slot):
                    raise KernelError(f"{name} is not the same function in both branches")
                merged[name] = self.slot(common(slot.type, other.type))
        for block, names in ends:
            self.code.position_at_end(block)
            for name, slot in names.items():
                if merged[name] is not slot:
                    self.store(merged[name], self.load(slot))
            self.code.branch(after)
        self.code.position_at_end(after)
        self.names = merged

    def enter(self, node: Any) -> Loop:
        """The head of a loop, where its variables have their common types."""
        for (where, name), kind in self.widened.items():
            if where is node:
                slot = self.slot(kind)
                self.store(slot, self.load(self.names[name]))
                self.names[name] = slot
        head, end = self.function.append_basic_block(), self.function.append_basic_block()
        self.code.branch(head)
        self.code.position_at_end(head)
        loop = Loop(node, head, end, dict(self.names), [])
        self.loops.append(loop)
        return loop

    def settle(self, loop: Loop) -> None:
        """Leave the loop's variables where its head has them."""
        for name, slot in loop.names.items():
            now = self.names.get(name)
            if now is slot or not isinstance(slot, Slot) or not isinstance(now, Slot):
                continue
            kind = common(slot.type, now.type)
            if kind is not slot.type:
                self.widened[loop.node, name] = kind
                raise RetypedError
            self.store(slot, self.load(now))

    def leave(self, loop: Loop) -> None:
        """Go on behind a loop; what was first assigned inside, in one place, is known there."""
        self.loops.pop()
        self.code.position_at_end(loop.end)
        ends = loop.leaving
        found = {
            name: slot
            for names in ends
            for name, slot in names.items()
            if all(others.get(name, slot) is slot for others in ends)
        }
        self.names = found | loop.names

    def do_While(self, node: ast.While) -> None:
        loop = self.enter(node)
        condition = self.of(node.test)
        if isinstance(condition, Value):
            inside = self.function.append_basic_block()
            self.code.cbranch(self.truth(condition), inside, loop.end)
            self.code.position_at_end(inside)
        self.round(loop, node.body, loop.again)
        self.leave(loop)

    def round(self, loop: Loop, statements: Sequence[ast.stmt], again: Any) -> None:
        """What a loop does, and then it goes on."""
        self.names = dict(self.names)
        self.body(statements)
        if not self.code.block.is_terminated:
            self.settle(loop)
            loop.leaving.append(self.names)
            self.code.branch(again)

    def do_For(self, node: ast.For) -> None:
        call = node.iter
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "range":
            raise KernelError("a loop goes over range(..)")
        assert isinstance(node.target, ast.Name)
        given = [self.of(x) for x in call.args]
        step = given[2] if len(given) > 2 else 1
        start, stop = (0, given[0]) if len(given) == 1 else given[:2]
        stop_, step_ = self.cast(stop, INT).ir, self.cast(step, INT).ir
        counter = self.stack.alloca(WORD)
        self.code.store(self.cast(start, INT).ir, counter)
        loop = self.enter(node)
        inside, again = self.function.append_basic_block(), self.function.append_basic_block()
        now = self.code.load(counter)
        if isinstance(step, int):
            more = self.code.icmp_signed("<" if step > 0 else ">", now, stop_)
        else:
            up = self.code.icmp_signed(">", step_, ir.Constant(WORD, 0))
            more = self.code.select(
                up, self.code.icmp_signed("<", now, stop_), self.code.icmp_signed(">", now, stop_)
            )
        self.code.cbranch(more, inside, loop.end)
        self.code.position_at_end(again)
        self.code.store(self.code.add(self.code.load(counter), step_, flags=["nsw"]), counter)
        self.code.branch(loop.again)
        self.code.position_at_end(inside)
        self.loops[-1] = loop._replace(again=again)
        self.names = dict(self.names)
        self.assign(node.target.id, Value(INT, now))
        self.round(loop, node.body, again)
        self.leave(loop)

    def do_Break(self, node: ast.Break) -> None:
        loop = self.loops[-1]
        self.settle(loop)
        loop.leaving.append(self.names)
        self.code.branch(loop.end)

    def do_Continue(self, node: ast.Continue) -> None:
        loop = self.loops[-1]
        self.settle(loop)
        loop.leaving.append(self.names)
        self.code.branch(loop.again)
