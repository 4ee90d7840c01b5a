"""Guards: what must still hold for a recorded program to be what the function would do, as one Python expression.

A trace depends on more than its arguments' shapes: on the attributes of modules, the options of optimizers, the
numbers in closures and global variables. All of it is reached from the function and from its arguments, so it is
walked once before the trace, and each thing found becomes a test: the same object, or an equal number. The tests of a
program are compiled into its entry (``program.py``), a test costs 20 to 30 ns.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from ..backend import Backend
from ..dtypes import DType
from ..errors import TraceError
from ..op import Op
from ..tensor import Tensor

MOST = 20_000  # tests of one program
NUMBERS = (
    4096  # elements of another library's array that is tested for changes; of a larger one only which it is
)
PLAIN = (int, float, complex, str, bytes, bool, type(None))
SKIPPED = {*sys.stdlib_module_names, "corelib", "numpy", "torch", "jax", "pluggy"}
# instances of these are what they are called, or change in ways that no program depends on
OPAQUE = (Tensor, Backend, Op, DType, type, types.ModuleType, types.BuiltinFunctionType, types.CodeType)


def same(a: Any, b: Any) -> bool:
    """Whether two plain values, or containers of them, are interchangeable: equal, of one type, with the sign of zero."""
    if a is b:
        return True
    if a.__class__ is not b.__class__:
        return False
    if a.__class__ is float:
        return a == b and (a != 0 or math.copysign(1.0, a) == math.copysign(1.0, b)) or (a != a and b != b)
    if a.__class__ in (tuple, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) and (a.__class__ is not complex or repr(a) == repr(b))


def plain(value: Any) -> bool:
    """Whether a value is a Python number, text, or a tuple or list of such."""
    return value.__class__ in PLAIN or value.__class__ in (tuple, list) and all(map(plain, value))


class Watch:
    """Walks over what a function can see, and gathers tests. ``tests``: pairs of an expression and what it is about;
    ``scope``: the names in the expressions; ``tensors``: all tensors found, by id, with their names; ``places``: the
    expressions under which tensors were found, ``fixed`` those that cannot be assigned to. ``before``: an earlier walk, whose names are kept.
    """

    def __init__(self, before: Watch | None = None) -> None:
        self.tests: list[tuple[str, str]] = []
        self.scope: dict[str, Any] = {"same": same} if before is None else dict(before.scope)
        self._count: itertools.count[int] = itertools.count() if before is None else before._count
        self.tensors: dict[int, tuple[Tensor, str]] = {}
        self.places: dict[str, tuple[Tensor, str]] = {}
        self.fixed: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._names: dict[int, str] = {} if before is None else dict(before._names)
        self._tested: set[str] = set()

    def name(self, value: Any, letter: str) -> str:
        """The name of an object in the expressions."""
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = f"{letter}{next(self._count)}"
            self.scope[name] = value
        return name

    def adopt(self, expression: str, later: Watch) -> None:
        """Take over the names in an expression of a later walk."""
        for name in re.findall(r"\b[a-z]\d+\b", expression):
            if name in later.scope:
                self.scope.setdefault(name, later.scope[name])

    def forget(self) -> None:
        """Let go of what was walked over; the names in the tests stay."""
        for found in (self.tensors, self.places, self._seen, self._names):
            found.clear()

    def test(self, expression: str, about: str) -> None:
        """Add a test, unless it is there or there are too many."""
        if expression not in self._tested and len(self.tests) < MOST:
            self._tested.add(expression)
            self.tests.append((expression, about))

    def value(self, value: Any, at: str, about: str) -> None:
        """``value`` was found under the expression ``at``: test that it still is, and walk into it."""
        if value is None or value is True or value is False:
            self.test(f"{at} is {value}", about)
            return
        if plain(value):
            kept = list(value) if value.__class__ is list else value
            name = self.name(kept, "v")
            self.test(
                f"same({at}, {name})" if kept is not value else f"({at} is {name} or same({at}, {name}))",
                about,
            )
            return
        name = self.name(value, "o")
        if isinstance(value, Tensor):
            self.places[at] = value, about
        self.test(f"{at} is {name}", about)
        self.inside(value, name, about)

    def inside(self, value: Any, name: str, about: str) -> None:
        """Walk into an object, once."""
        if id(value) in self._seen or len(self.tests) >= MOST:
            return
        self._seen[id(value)] = value  # keeps it, and with it its id
        if isinstance(value, Tensor):
            self.tensors[id(value)] = value, about
            grad = getattr(value._node, "grad", None)
            if isinstance(grad, Tensor):
                self.tensors.setdefault(id(grad), (grad, f"{about}.grad"))
        elif isinstance(value, dict):
            self._dict(value, name, about)
        elif isinstance(value, list | tuple | deque):
            self.test(f"len({name}) == {len(value)}", f"the length of {about}")
            for i, item in enumerate(value):
                self.value(item, f"{name}[{i}]", f"{about}[{i}]")
                if isinstance(value, tuple):
                    self.fixed.add(f"{name}[{i}]")
        elif isinstance(value, set | frozenset):
            self.test(f"{name} == {self.name(set(value), 'v')}", about)
        elif hasattr(value, "__array_interface__") and hasattr(value, "tobytes"):
            if value.size <= NUMBERS:
                self.test(f"{name}.tobytes() == {self.name(value.tobytes(), 'v')}", f"the numbers in {about}")
        elif isinstance(value, types.FunctionType):
            self.function(value, about)
        elif isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.inside(part, self.name(part, "o"), about)
        elif isinstance(value, types.MethodType):
            self.inside(value.__func__, self.name(value.__func__, "o"), about)
            self.inside(value.__self__, self.name(value.__self__, "o"), f"{about}.__self__")
        elif not isinstance(value, OPAQUE) and not _foreign(value):
            self._object(value, name, about)

    def _dict(self, found: dict[Any, Any], name: str, about: str) -> None:
        self.test(f"len({name}) == {len(found)}", f"the number of entries in {about}")
        for key, item in list(found.items()):
            if isinstance(key, str | int) and key.__class__ in (str, int):
                self.value(item, f"{name}[{key!r}]", f"{about}[{key!r}]")
            else:
                if isinstance(key, Tensor):
                    self.inside(key, "", f"a key of {about}")
                self.value(item, f"{name}[{self.name(key, 'k')}]", f"{about}[{type(key).__name__}]")

    def _object(self, value: Any, name: str, about: str) -> None:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            d = self.name(attributes, "d")
            self.test(f"len({d}) == {len(attributes)}", f"the number of attributes of {about}")
            for key, item in list(attributes.items()):
                self.value(item, f"{d}[{key!r}]", f"{about}.{key}")
        for cls in type(value).__mro__:
            slots = vars(cls).get("__slots__", ())
            for key in (slots,) if isinstance(slots, str) else slots:
                if key not in ("__weakref__", "__dict__", "_lock") and hasattr(value, key):
                    self.value(getattr(value, key), f"{name}.{key}", f"{about}.{key}")
            if not _skipped(cls.__module__):
                self._methods(cls, about)

    def _methods(self, cls: type, about: str) -> None:
        """The functions of a class of the user's: what they see from outside."""
        for key, item in list(vars(cls).items()):
            fn = getattr(item, "fget", None) or getattr(item, "__func__", None) or item
            if isinstance(fn, types.FunctionType):
                self.inside(fn, "", f"{cls.__name__}.{key}")
            elif plain(item) and not key.startswith("__"):
                self.value(item, f"{self.name(cls, 'o')}.{key}", f"{cls.__name__}.{key}")

    def function(self, fn: types.FunctionType, about: str) -> None:
        """What a Python function reads from outside: its closure, its defaults, and the global variables that it names."""
        if _skipped(fn.__module__ or ""):
            return
        for cell, variable in zip(fn.__closure__ or (), fn.__code__.co_freevars, strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if hasattr(type(content), "__next__"):
                raise _iterator(fn, variable)
            self.value(
                content,
                f"{self.name(cell, 'o')}.cell_contents",
                f"{variable} (of the closure of {fn.__name__})",
            )
        for defaults in (fn.__defaults__, fn.__kwdefaults__):
            if defaults:
                self.inside(defaults, self.name(defaults, "o"), f"the defaults of {fn.__name__}")
        wrapped = getattr(fn, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            self.inside(wrapped, "", wrapped.__name__)
        names = _names(fn.__code__)
        table = fn.__globals__
        g = ""
        for variable in sorted(names & table.keys()):
            g = g or self.name(table, "g")
            content = table[variable]
            if isinstance(content, types.ModuleType):
                self._module(content, names)
            elif hasattr(type(content), "__next__"):
                raise _iterator(fn, variable)
            else:
                self.value(content, f"{g}[{variable!r}]", f"the global variable {variable}")

    def _module(self, module: types.ModuleType, names: set[str]) -> None:
        """The variables of one of the user's modules among the names that a function mentions."""
        if _skipped(module.__name__):
            return
        table = vars(module)
        for variable in sorted(names & table.keys()):
            content = table[variable]
            if not isinstance(content, types.ModuleType):
                self.value(content, f"{self.name(table, 'g')}[{variable!r}]", f"{module.__name__}.{variable}")


def _iterator(fn: Any, variable: str) -> TraceError:
    return TraceError(
        f"{fn.__name__} reads the iterator {variable}, which a recorded program does not advance: call next({variable}) "
        "outside, and pass what it gives as an argument"
    )


def _names(code: types.CodeType) -> set[str]:
    """All names that a function and the functions in it mention."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _skipped(module: str) -> bool:
    return module.split(".")[0] in SKIPPED


def _foreign(value: Any) -> bool:
    """Whether an object is of a library's class, whose attributes are its own affair; corelib's own containers are not."""
    cls = type(value)
    if cls.__module__.split(".")[:2] in (
        ["corelib", "nn"],
        ["corelib", "optim"],
        ["corelib", "quantization"],
        ["corelib", "random"],
    ):
        return False
    return _skipped(cls.__module__) and not any(not _skipped(c.__module__) for c in cls.__mro__)


def compiled(source: list[str], scope: dict[str, Any], name: str, label: str) -> Callable[..., Any]:
    """The function ``name`` of some source text."""
    exec(compile("\n".join(source), f"<{label}>", "exec"), scope)
    return scope[name]
