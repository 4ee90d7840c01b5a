"""A program: one recording of a function, for one kind of arguments, with what must hold for it to be used.

``Recording`` runs the function on a tracer and works out what the graph has to give: the results, the new values of
the tensors that the function assigned to, the gradients that it left in ``.grad``. ``entry`` makes the Python function
that is called from then on: tests, the arrays of arguments and state, the graph's callable, and the tensors of what
it gives. It is generated as text, so that a call of six element-wise kernels costs its kernels and a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import is_grad_enabled
from ..backend import Backend
from ..capture import capture
from ..errors import TraceError
from ..ops.subscript import sole
from ..registry import activate, active_backends, registry
from ..tape import Leaf, paused
from ..tensor import Tensor, wrap
from .graph import Graph, Traced
from .guards import Watch, compiled
from .linked import Link, differentiated
from .simplify import exposed, simplified
from .trace import Tracer, live

# an input whose memory a program may write over is the tensor's own only if nobody else sees it: ``sole``, at each call

MISS: Any = object()  # what an entry returns when a test fails


class Argument:
    """A tensor among the arguments: where it stands, and what was found there."""

    def __init__(self, tensor: Tensor, name: str, about: str) -> None:
        self.tensor, self.name, self.about = tensor, name, about


class Signature:
    """The arguments of a call: tests of their structure, the tensors in them, and everything else watched."""

    def __init__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.watch = Watch()
        self.lines: list[
            tuple[str, str, str]
        ] = []  # (name, expression, about): a name to give, or "" and a test
        self.tensors: list[Argument] = []
        self.roots: list[tuple[Any, str, str]] = []
        self.places: dict[str, tuple[Tensor, str]] = {}
        names = [f"x{i}" for i in range(len(args))]
        self.unpack = [
            f"if len(args) != {len(args)} or {'kwargs.keys() != keys' if kwargs else 'kwargs'}: return MISS"
        ]
        self.watch.scope["keys"] = set(kwargs)
        if names:
            self.unpack.append(f"{', '.join(names)}, = args")
        for i, (name, value) in enumerate(zip(names, args, strict=True)):
            self._value(value, name, f"argument {i}")
        for key, value in kwargs.items():
            self._value(value, f"kwargs[{key!r}]", f"argument {key}")
        self.roots.append((fn, self.watch.name(fn, "o"), getattr(fn, "__name__", "the function")))
        self.watch.inside(*self.roots[-1])

    def forget(self) -> None:
        """Let go of everything but the tests, which hold what they compare with."""
        for argument in self.tensors:
            argument.tensor = None  # type: ignore[assignment]
        self.roots.clear()
        self.places.clear()
        self.watch.forget()

    def _value(self, value: Any, at: str, about: str) -> None:
        if isinstance(value, Tensor):
            name = f"a{len(self.tensors)}"
            self.lines.append((name, at, ""))
            self.places[at] = value, about
            self.tensors.append(Argument(value, name, about))
        elif value.__class__ in (list, tuple, dict) or isinstance(value, tuple) and hasattr(value, "_fields"):
            name = f"y{len(self.lines)}"
            self.lines.append((name, at, ""))
            self.roots.append((value, name, about))
            cls = self.watch.name(value.__class__, "c")
            self.lines.append(
                (
                    "",
                    f"{name}.__class__ is {cls} and len({name}) == {len(value)}",
                    f"the structure of {about}",
                )
            )
            if isinstance(value, dict):
                keys = self.watch.name(list(value), "k")
                self.lines.append(("", f"list({name}) == {keys}", f"the keys of {about}"))
                for i, (key, item) in enumerate(value.items()):
                    place = repr(key) if key.__class__ in (str, int) else f"{keys}[{i}]"
                    self._value(item, f"{name}[{place}]", f"{about}[{key!r}]")
            else:
                for i, item in enumerate(value):
                    self._value(item, f"{name}[{i}]", f"{about}[{i}]")
        elif hasattr(value, "__array_interface__") and getattr(value, "shape", None):
            raise TraceError(
                f"{about} is a {type(value).__name__}: a compiled function takes tensors, call corelib.asarray on it before"
            )
        else:
            self.roots.append((value, at, about))
            before = len(self.watch.tests)
            self.watch.value(value, at, about)
            # tests of arguments stand where their names are known; those of what lies behind them need no names
            own = [t for t in self.watch.tests[before:] if at in t[0]]
            self.watch.tests[before:] = [t for t in self.watch.tests[before:] if at not in t[0]]
            self.lines += [("", expression, what) for expression, what in own]


class Program:
    """A recorded function. ``graph``; ``run``: from arrays to arrays; ``how``: who runs it, in words; ``entry``: the
    function of ``(args, kwargs)`` that gives the results or MISS.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backend: Backend,
    ) -> None:
        self.name, self.backend = name, backend
        self.signature = Signature(fn, args, kwargs)
        self.mode, self.generation = paused.get(), registry.generation
        tensors = [a.tensor for a in self.signature.tensors]
        self.tracer: Any
        tracer = self.tracer = Tracer(backend, name, tensors)
        for tensor, _ in self.signature.watch.tensors.values():
            if tensor._backend is backend:
                tracer.follow(tensor)
        self.outputs: list[Traced] = []
        self.stood = self.signature.watch.places | self.signature.places
        self.link: Link | None = None
        try:
            with activate(tracer), capture(tracer):
                result = fn(*args, **kwargs)
                self.result = self._template(result)
                if is_grad_enabled():
                    self.link = differentiated(tracer, self._tracked)
            self._effects()
        finally:
            self._put_back()
            tracer.close()
        inputs = [*tracer.inputs]
        donated = [
            s.traced
            for s in tracer.slots.values()
            if id(s.tensor) in tracer.changed and s.traced not in self.outputs
        ]
        several = len(self.outputs) != 1 or self.link is not None
        labels = {s.traced.name: self._about(s) for s in tracer.slots.values()}
        if self.link is not None:
            self.link.split(self.outputs, tracer, name)
            donated = [x for x in donated if x not in self.outputs]
        graph = Graph(
            inputs,
            tracer.steps,
            self.outputs,
            several=several,
            donated=donated,
            constants=tracer.constants,
            labels=labels,
            name=name,
        )
        self.graph = simplified(graph, backend)
        shown = exposed(self.graph)
        self.graph.donated = [x for x in self.graph.inputs if x in donated and x not in shown]
        self.run: Callable[..., Any]
        self.how = ""
        self._tests = self.tests()

    # -- what the function did -------------------------------------------------------------------------------

    def _about(self, slot: Any) -> str:
        if slot.position is not None:
            return self.signature.tensors[slot.position].about
        return self.signature.watch.tensors.get(id(slot.tensor), (None, "a tensor from outside"))[1]

    def _output(self, traced: Traced) -> int:
        if traced not in self.outputs:
            self.outputs.append(traced)
        return self.outputs.index(traced)

    def _template(self, result: Any) -> Any:
        """The structure of the result, with what stands in each place."""
        self._tracked: list[tuple[Tensor, int]] = []
        return self._part(result)

    def _part(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            tracer = self.tracer
            if id(value) in tracer.positions:
                return "argument", tracer.positions[id(value)]
            if id(value) in tracer.changed or id(value) in self.signature.watch.tensors:
                return "object", value
            if value._backend is tracer:
                if live(value._node):
                    self._tracked.append((value, len(self._tracked)))
                    return "tracked", self._output(value._data), len(self._tracked) - 1
                return "array", self._output(value._data)
            if value._backend.level:
                raise TraceError(
                    f"{self.name} returns a tensor of {value._backend.name}, a transformation that is over"
                )
            return "constant", value
        if value.__class__ in (list, tuple):
            return value.__class__.__name__, [self._part(v) for v in value]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return "named", type(value), [self._part(v) for v in value]
        if isinstance(value, dict):
            return "dict", type(value), [(k, self._part(v)) for k, v in value.items()]
        return "object", value

    def _effects(self) -> None:
        """What the function assigned to, and the gradients it left: the program does it again at each call."""
        tracer = self.tracer
        self._left_behind()
        self.rebound: list[tuple[Tensor, int]] = []
        self.graded: list[tuple[Tensor, int | None]] = []
        for tensor, _, _, node in tracer.changed.values():
            if node is not tensor._node and live(tensor._node):
                raise TraceError(
                    f"{self.name} assigns a value with a history to a tensor from outside: assign value.detach(), or under no_grad()"
                )
            self.rebound.append((tensor, self._output(tensor._data)))
        for tensor, before in tracer.grads.values():
            after = getattr(tensor._node, "grad", None)
            if after is before:
                continue
            if after is None:
                self.graded.append((tensor, None))
            elif after._backend is tracer:
                self.graded.append((tensor, self._output(after._data)))
            else:
                raise TraceError(f"{self.name} sets .grad to a tensor from outside: set it outside")

    def _left_behind(self) -> None:
        """New tensors in attributes, containers and variables: where they stand, which an entry assigns to."""
        before = self.signature.watch
        self.left: list[tuple[str, int]] = []
        self.moving: dict[int, str] = {}  # the tensor that stood in such a place is another one at each call
        for at, tensor, about, can_change in self._new_tensors():
            if not can_change:
                raise TraceError(
                    f"{self.name} keeps a tensor in {about}, in a tuple: keep it in a list or in an attribute"
                )
            if live(tensor._node):
                raise TraceError(f"{self.name} keeps a tensor with a history in {about}: keep x.detach()")
            self.left.append((at, self._output(tensor._data)))
            if at in before.places:
                old, about = before.places[at]
                self.moving[id(old)] = at
                test = f"{at} is {before.name(old, 'o')}"
                before.tests.remove((test, about))
                del before.tensors[id(old)]

    def _new_tensors(self) -> list[tuple[str, Tensor, str, bool]]:
        """Where tensors without a value stand now, as expressions, and whether these can be assigned to."""
        after = Watch(self.signature.watch)
        for value, at, about in self.signature.roots:
            after.inside(value, at, about)
        tracer, changed = self.tracer, self.tracer.changed
        found = [
            (at, t, about, at not in after.fixed)
            for at, (t, about) in after.places.items()
            if t._backend is tracer and id(t) not in changed
        ]
        for at, *_ in found:
            self.signature.watch.adopt(at, after)
        return found

    def _put_back(self) -> None:
        """Put the tensors that stood before where others without a value stand now."""
        before = self.signature.watch
        scope = {**before.scope, **{at: value for value, at, _ in self.signature.roots}}
        for at, *_ in self._new_tensors():
            if at in self.stood:
                scope["old"] = self.stood[at][0]
                exec(f"{at} = old", scope)

    # -- the entry -------------------------------------------------------------------------------------------

    def at(self, tensor: Tensor) -> str:
        """The expression for a tensor in the entry."""
        position = self.tracer.positions.get(id(tensor))
        if position is not None:
            return self.signature.tensors[position].name
        if id(tensor) in self.moving:
            return self.moving[id(tensor)]
        leaf = self.tracer.leaves.get(id(tensor))
        if leaf is not None and leaf is not tensor:
            return f"{self.at(leaf)}._node.grad"
        return self.signature.watch.name(tensor, "s")

    def tests(self) -> list[tuple[str, str, str]]:
        """Names to give and tests to make, in order: ``(name, expression, about)``, the name empty for a test."""
        tracer, watch = self.tracer, self.signature.watch
        lines = [("", f"registry.generation == {self.generation}", "a plugin was registered or removed"),
                 ("", f"paused.get() is {self.mode}", "whether gradients are recorded")]  # fmt: skip
        if not self.signature.tensors:
            lines.append(("", "not active()", "a transformation is active"))
            lines.append(("", "current() is backend", "the selected backend"))
        lines += self.signature.lines
        changed = {id(t) for t, *_ in tracer.changed.values()}
        arguments = self.signature.tensors
        for i, a in enumerate(arguments):
            lines += self._of_tensor(a.tensor, a.name, a.about, shape=True)
            if id(a.tensor) in watch.tensors:
                lines.append(
                    ("", f"{a.name} is {watch.name(a.tensor, 's')}", f"{a.about} being the same tensor")
                )
            for b in arguments[:i]:
                if b.tensor is a.tensor:
                    lines.append(("", f"{a.name} is {b.name}", f"{a.about} being {b.about}"))
                    break
                if id(a.tensor) in changed or id(b.tensor) in changed:
                    lines.append(("", f"{a.name} is not {b.name}", f"{a.about} not being {b.about}"))
        lines += [("", expression, about) for expression, about in watch.tests]
        followed = dict(watch.tensors) | {
            id(s.tensor): (s.tensor, self._about(s)) for s in tracer.slots.values()
        }
        for key, (tensor, about) in followed.items():
            if key not in tracer.positions:
                lines += self._of_tensor(
                    tensor, self.at(tensor), about, shape=key in tracer.leaves or key in self.moving
                )
        return lines

    def _of_tensor(self, tensor: Tensor, at: str, about: str, *, shape: bool) -> list[tuple[str, str, str]]:
        scope = self.signature.watch
        lines = [("", f"{at}._backend is {scope.name(tensor._backend, 'b')}", f"the device of {about}")]
        dtype = scope.name(tensor._data.dtype, "t")
        lines.append(
            ("", f"({at}._data.dtype is {dtype} or {at}._data.dtype == {dtype})", f"the dtype of {about}")
        )
        if shape:
            lines.append(
                ("", f"{at}._data.shape == {scope.name(tensor._data.shape, 'z')}", f"the shape of {about}")
            )
        node = tensor._node
        if node is None:
            lines.append(("", f"{at}._node is None", f"whether {about} requires a gradient"))
        elif hasattr(node, "grad"):
            lines.append(("", f"{at}._node.__class__ is Leaf", f"whether {about} requires a gradient"))
            given = "is None" if node.grad is None else "is not None"
            lines.append(("", f"{at}._node.grad {given}", f"whether {about} has a .grad"))
        else:
            lines.append(
                (
                    "",
                    f"{at}._node is not None and {at}._node.__class__ is not Leaf",
                    f"whether {about} has a history",
                )
            )
        return lines

    def scope(self) -> dict[str, Any]:
        """The names that an entry uses."""
        return {
            **self.signature.watch.scope, "MISS": MISS, "Leaf": Leaf, "registry": registry, "paused": paused, "active": active_backends,
            "current": registry.current, "backend": self.backend, "new": object.__new__, "Tensor": Tensor, "wrap": wrap, "sole": sole,
            "copy": self.backend.copy, "link": self.link.attach if self.link else None,
        }  # fmt: skip

    def entry(self) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """The function that is called from now on. ``first``: without tests, for the call that was recorded, which may have
        changed what they are about, such as an optimizer's state.
        """
        named = {s.traced: s.tensor for s in self.tracer.slots.values()}
        lines, tests = list(self.signature.unpack), list[str]()
        for name, expression, _ in self._tests:
            if name:
                if tests:
                    lines.append(f"if not ({' and '.join(tests)}) and not first: return MISS")
                    tests = []
                lines.append(f"{name} = {expression}")
            else:
                tests.append(expression)
        lines.append(f"if not ({' and '.join(tests)}) and not first: return MISS")
        # a graph may not mention an argument at all: its tests are made all the same
        body = [f"        {line}" for line in lines]
        body.append("    except (AttributeError, LookupError, TypeError, ValueError): return MISS")
        constants, given = {}, []
        for x in self.graph.inputs:
            if x in named:
                at = self.at(named[x])
                given.append(
                    f"{at}._data"
                    if x not in self.graph.donated
                    else f"{at}._data if sole({at}) else copy({at}._data)"
                )
            else:
                constants[f"c_{x.name}"] = self.graph.constants[x.name]
                given.append(f"c_{x.name}")
        body.append("    try:")
        body.append(f"        r = run({', '.join(given)})")
        body.append("    except Exception as error: return failed(error, args, kwargs)")
        body += [f"    {line}" for line in self._given()]
        # the texts of the expressions above have named more objects: the scope is read last
        scope = {**self.scope(), **constants, "run": self.run, "failed": self.failed}
        scope |= self._objects
        self._forget()
        return compiled(
            ["def entry(args, kwargs, first=False):", "    try:", *body], scope, "entry", self.name
        )

    def _forget(self) -> None:
        """Let go of the arguments of the call that was recorded, and of the recording."""
        slots = {s.traced: s for s in self.tracer.slots.values()}
        positions = self.tracer.positions
        place = lambda tensor: (positions.get(id(tensor)), tensor if id(tensor) not in positions else None)
        # per input its argument's position or the tensor that it is; per assignment the same, and the result's number
        self.reads = {x: place(slots[x].tensor) for x in self.graph.inputs if x in slots}
        self.writes = [(*place(tensor), i) for tensor, i in self.rebound]
        self.arguments = len(self.signature.tensors)
        for slot in self.link.slots if self.link else ():
            if slot.position is not None:
                slot.tensor = None  # type: ignore[assignment]
        self.tracer = None
        del self.rebound, self.graded, self.stood
        self.signature.forget()

    def _given(self) -> list[str]:
        """The lines that make of arrays what the function gives and leaves behind."""
        self._objects: dict[str, Any] = {}
        one = not self.graph.several
        array = lambda i: "r" if one else f"r[{i}]"
        lines = []
        if self.link is not None:
            parents = "".join(f"{self.at(s.tensor)}._node, " for s in self.link.slots)
            saved = "".join(f"{self.at(s.tensor)}._data, " for s in self.link.slots)
            lines.append(f"n = link(r, ({parents}), ({saved}), args, kwargs)")
        for tensor, i in self.rebound:
            lines.append(f"{self.at(tensor)}._data = {array(i)}")
        lines += [f"{at} = wrap({array(i)}, backend)" for at, i in self.left]
        for tensor, k in self.graded:
            value = "None" if k is None else f"wrap({array(k)}, backend)"
            lines.append(f"{self.at(tensor)}._node.grad = {value}")
        if self.result[0] == "array":  # without a call, which costs 0.1 us
            return [
                *lines,
                "y = new(Tensor)",
                f"y._data = {array(self.result[1])}",
                "y._backend = backend",
                "y._node = None",
                "return y",
            ]
        return [*lines, f"return {self._text(self.result, array)}"]

    def _text(self, part: Any, array: Callable[[int], str]) -> str:
        kind = part[0]
        if kind == "array":
            return f"wrap({array(part[1])}, backend)"
        if kind == "tracked":
            return f"wrap({array(part[1])}, backend{f', n[{part[2]}]' if self.link else ''})"
        if kind == "constant":
            q = self._object(part[1])
            return f"wrap({q}._data, {q}._backend)"
        if kind == "argument":
            return self.signature.tensors[part[1]].name
        if kind in ("list", "tuple"):
            inside = "".join(f"{self._text(p, array)}, " for p in part[1])
            return f"[{inside}]" if kind == "list" else f"({inside})"
        if kind == "named":
            return f"{self._object(part[1])}({''.join(f'{self._text(p, array)}, ' for p in part[2])})"
        if kind == "dict":
            inside = "".join(f"({self._object(k)}, {self._text(p, array)}), " for k, p in part[2])
            return f"{self._object(part[1])}([{inside}])"
        return self._object(part[1])

    def _object(self, value: Any) -> str:
        name = f"q{len(self._objects)}"
        self._objects[name] = value
        return name

    def failed(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What to do when the program raised: replaced by whoever owns it."""
        raise error

    def why_not(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """What the first test that fails for these arguments is about; None if all hold."""
        source = [
            "def why(args, kwargs):",
            "    about = 'the number or the names of the arguments'",
            "    try:",
        ]
        source += [f"        {line}".replace("return MISS", "return about") for line in self.signature.unpack]
        scope = self.scope()
        for i, (name, expression, about) in enumerate(self._tests):
            scope[f"w{i}_"] = about
            source.append(f"        {name} = {expression}" if name else f"        about = w{i}_")
            if not name:
                source.append(f"        if not ({expression}): return about")
        source.append("    except (AttributeError, LookupError, TypeError, ValueError): return about")
        found: str | None = compiled(source, scope, "why", self.name)(args, kwargs)
        return found
