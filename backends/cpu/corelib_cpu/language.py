"""The language of kernels: a small part of Python, as LLVM IR.

What a kernel is written in is what this module knows: numbers, typed pointers, tuples, complex numbers in two parts;
assignments, ``if``, ``while``, ``for .. in range``, calls of functions in the same language. Each function is walked
once for each list of its arguments' types, and its instructions are written as it is walked, a tenth of the time that
a general compiler of Python takes. Types are those of the values: a variable has the type of what was last assigned to
it, and where two branches or rounds of a loop leave different ones, the common type of the two.

Arithmetic of integers is done in 64 bits, signed unless both are unsigned; of an integer and a float in the type that
NumPy promotes them to. A constant of Python is an int64 or a float64. Names are looked up when the function is
compiled, so that constants of a module, of an enclosing function or of the text of a kernel are constants of the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

WORD = ir.IntType(64)

# --- types ----------------------------------------------------------------------------------------------------


class Type:
    """A type of values: kind b, i, u, f, c (complex), p (pointer), t (tuple) or v (nothing)."""

    def __init__(self, name: str, kind: str, machine: Any = None, parts: Sequence[Type] = ()) -> None:
        self.name, self.kind, self.ir, self.parts = name, kind, machine, tuple(parts)

    def __call__(self, *arguments: Type) -> Signature:
        return Signature(self, arguments)

    def __repr__(self) -> str:
        return self.name

    def leaves(self) -> Iterator[Type]:
        """The types of its parts in the machine."""
        if self.kind in "ct":
            for part in self.parts:
                yield from part.leaves()
        else:
            yield self


class Signature(NamedTuple):
    """What a function gives and takes."""

    result: Type
    arguments: tuple[Type, ...]


@cache
def pointer(element: Type) -> Type:
    """The type of an address of elements."""
    kind = ir.LiteralStructType([p.ir for p in element.parts]) if element.kind == "c" else element.ir
    return Type(f"pointer to {element}", "p", kind.as_pointer(), [element])


@cache
def tuple_of(parts: tuple[Type, ...]) -> Type:
    return Type(f"({', '.join(p.name for p in parts)})", "t", None, parts)


class External(NamedTuple):
    """A function of a C library."""

    name: str
    signature: Signature


FLOAT32, FLOAT64 = Type("float32", "f", ir.FloatType()), Type("float64", "f", ir.DoubleType())
NUMBERS = {
    "bool": Type("bool", "b", ir.IntType(1)), "float32": FLOAT32, "float64": FLOAT64,
    "complex64": Type("complex64", "c", None, [FLOAT32] * 2), "complex128": Type("complex128", "c", None, [FLOAT64] * 2),
    **{f"int{n}": Type(f"int{n}", "i", ir.IntType(n)) for n in (8, 16, 32, 64)},
    **{f"uint{n}": Type(f"uint{n}", "u", ir.IntType(n)) for n in (8, 16, 32, 64)},
}  # fmt: skip
types: Any = SimpleNamespace(**NUMBERS, void=Type("nothing", "v", ir.VoidType()), pointer=pointer)
BOOL, INT, UINT, NOTHING = NUMBERS["bool"], NUMBERS["int64"], NUMBERS["uint64"], types.void
CASTS = {bool: BOOL, int: INT, float: FLOAT64, complex: NUMBERS["complex128"]} | {
    getattr(np, name): kind for name, kind in NUMBERS.items() if name != "bool"
}


@cache
def common(a: Type, b: Type) -> Type:
    """The type that holds the values of both."""
    if a is b:
        return a
    if a.kind == b.kind == "t" and len(a.parts) == len(b.parts):
        return tuple_of(tuple(map(common, a.parts, b.parts)))
    if a.name in NUMBERS and b.name in NUMBERS:
        return NUMBERS[np.promote_types(a.name, b.name).name]
    raise KernelError(f"nothing is both {a} and {b}")


def wide(*operands: Type) -> Type:
    """The type in which arithmetic of these is done."""
    if all(t.kind in "biu" for t in operands):
        return UINT if all(t.kind == "u" for t in operands) else INT
    found = operands[0]
    for t in operands[1:]:
        found = common(found, t)
    return found


# --- what the language is extended by ---------------------------------------------------------------------------


class KernelError(Exception):
    """A kernel is not written in the language."""


def declared(module: ir.Module, kind: Any, name: str) -> Any:
    """A function of LLVM's or of a library in a module."""
    return module.globals.get(name) or ir.Function(module, kind, name)


class Intrinsic:
    """A function that writes its instructions itself: see `intrinsic`."""

    def __init__(self, define: Callable[..., Any]) -> None:
        self.define = define
        self.__doc__ = define.__doc__


def intrinsic(define: Callable[..., Any]) -> Intrinsic:
    """``define(*types)`` gives a signature, and ``emit(builder, arguments)``, which gives the result in the machine."""
    return Intrinsic(define)


def inline(function: Any = None, *, fastmath: Any = (), always: bool = False, apart: bool = False) -> Any:
    """Marks a function of the language: with `fastmath` flags on its own arithmetic, to be inlined `always`, or kept
    `apart`: LLVM takes half as long for large loops that are not part of larger ones.
    """
    if function is None:
        return lambda function: inline(function, fastmath=fastmath, always=always, apart=apart)
    function.fastmath = tuple(sorted(fastmath or ()))
    function.inlined = "alwaysinline" if always else "noinline" if apart else ""
    return function
