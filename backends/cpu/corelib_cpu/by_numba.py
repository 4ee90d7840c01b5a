"""The same kernels compiled by numba: a second opinion on the compiler of language.py and walk.py.

``CORELIB_CPU_COMPILER=numba`` has every kernel compiled here. It takes four to five times as long, so nobody would want
it, but the language is a part of Python, and what numba makes of a kernel's source owes nothing to our own compiler: where
the two disagree, one of them is wrong. Importing this imports numba.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core import types as theirs
from numba.core.registry import cpu_target
from numba.extending import intrinsic, typeof_impl

from .language import NOTHING, NUMBERS, External, Intrinsic, KernelError, Signature, Type, pointer


def compiled(source: str, name: str, namespace: dict[str, Any], given: Signature, symbol: str) -> str:
    """See walk.py: a module of IR with one function of a source text, under a symbol; all others in it are internal."""
    exec(compile(source, f"<corelib_cpu {symbol}>", "exec"), namespace)
    options = {"error_model": "numpy", **namespace.get("OPTIONS", {})}
    made = numba.cfunc(_signature(given), **options)(namespace[name])
    module = llvm.parse_assembly(made.inspect_llvm())
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = "internal"
    return f"{module}\n{_plain(made.native_name.removeprefix('cfunc.'), given, symbol)}"


def _plain(inner: str, given: Signature, symbol: str) -> str:
    """A function that calls numba's, which stores its result and returns whether it raised: these cannot."""
    result = "i64" if given.result is NOTHING else str(given.result.ir)
    kinds = [str(t.ir) for t in given.arguments]
    names = ", ".join(f"{kind} %x{i}" for i, kind in enumerate(kinds))
    back = (
        "ret void"
        if given.result is NOTHING
        else f"%result = load {result}, ptr %place\n  ret {result} %result"
    )
    return (
        f"define {'void' if given.result is NOTHING else result} @{symbol}({names}) {{\n  %place = alloca {result}\n"
        f'  %status = call i32 @"{inner}"(ptr %place, ptr null{"".join(f", {kind} %x{i}" for i, kind in enumerate(kinds))})\n'
        f"  {back}\n}}\n"
    )


# --- types and signatures -----------------------------------------------------------------------------------------


def _their(kind: Type) -> Any:
    """numba's type for one of the language."""
    if kind is NOTHING:
        return theirs.void
    if kind.kind == "p":
        return theirs.CPointer(_their(kind.parts[0]))
    return theirs.boolean if kind.kind == "b" else getattr(theirs, kind.name)


def _own(kind: Any) -> Type:
    """The language's type for one of numba's."""
    kind = theirs.unliteral(kind)
    if isinstance(kind, theirs.CPointer):
        return pointer(_own(kind.dtype))
    try:
        return NUMBERS[str(kind)]
    except KeyError:
        raise KernelError(f"{kind} is no type of an intrinsic's argument") from None


def _signature(given: Signature) -> Any:
    return _their(given.result)(*map(_their, given.arguments))


# --- what a kernel's names stand for ------------------------------------------------------------------------------

_known: dict[Any, Any] = {}


def _told(found: Any, make: Any) -> Any:
    """numba's object for one of ours, made once."""
    context = cpu_target.typing_context
    if found not in _known:
        _known[found] = make(found)
        context.refresh()
    return context.resolve_value_type(_known[found])


@typeof_impl.register(FunctionType)
def _function(function: Any, c: Any) -> Any:
    if not hasattr(function, "inlined"):  # no function of the language
        return None
    options = {"error_model": "numpy", "fastmath": set(getattr(function, "fastmath", ())) or False}
    return _told(function, numba.njit(**options))


@typeof_impl.register(Intrinsic)
def _intrinsic(found: Any, c: Any) -> Any:
    return _told(found, _adapted)


@typeof_impl.register(External)
def _external(found: Any, c: Any) -> Any:
    return theirs.ExternalFunction(found.name, _signature(found.signature))


def _adapted(found: Intrinsic) -> Any:
    """One of our intrinsics as one of numba's, which looks at the names of its arguments."""
    names = ", ".join(inspect.signature(found.define).parameters)
    scope: dict[str, Any] = {"typed": lambda *kinds: _typed(found, kinds)}
    exec(f"def define(typing{', ' if names else ''}{names}):\n    return typed({names})", scope)
    return intrinsic(scope["define"])


def _typed(found: Intrinsic, kinds: Any) -> Any:
    signature, emit = found.define(*map(_own, kinds))

    def write(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        made = emit(builder, list(arguments))
        return context.get_dummy_value() if made is None else made

    return _signature(signature), write
