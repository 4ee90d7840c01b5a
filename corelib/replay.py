"""Replay: a body runs once on a recorder, and from then on as the straight line of kernels that it came to.

A composite's body (and a derivative rule, which is a body too) is Python over public ops: each call binds
parameters, looks up a kernel and makes a Tensor. For operands of known shapes and dtypes all of that is the
same every time, so it is done once: the body runs on a :class:`Recorder`, whose kernels note which kernel of
the real backend would be called with what, and the notes become a Python function that calls these kernels
and nothing else, and drops each intermediate array after its last use. Values play no part in it; a body that
would read one is not replayed. A call whose program fails is run again through its body, which says what is
wrong in the right words.

Memory: an element-wise kernel that has a form ``kernel.into(out, ...)`` writes over an intermediate array
that nothing reads afterwards; and with ``overwrite=True``, over those operands that the op ``donates``, whose
tensors the caller is about to rebind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .backend import Backend
from .binding import SCALARS, decomposed, widened
from .compile.fuse import fused
from .compile.graph import Graph, Step, Traced
from .compile.joined import together
from .dtypes import HALF, DType, as_dtype
from .hookspecs import hookimpl
from .op import Op
from .registry import log, registry
from .rules import Spec
from .tensor import Tensor, wrap

# programs kept per op, dtype and backend; when there are more, shapes vary too much for this to pay
LIMIT = 256
_FIRST = object()  # seen once: worth recording if it comes again


class NotReplayableError(Exception):
    """The body depends on more than shapes, dtypes and parameters."""


class Recorder(Backend):
    """A backend above all others whose kernels write down the calls that ``target``'s kernels would get."""

    level = 1 << 30
    hooked = False

    def __init__(self, target: Backend) -> None:
        super().__init__(target.name, target.index)
        self.target, self.count = target, 0
        self.steps: list[Step] = []
        registry.attach(self)

    def new(self, spec: Any) -> Traced:
        """An array that the program will have a name for."""
        self.count += 1
        return Traced(spec.shape, as_dtype(spec.dtype), f"t{self.count}")

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any]:
        """A kernel that records one step; a composite without a kernel on the target records its body's."""
        assert dtype is not None
        if op.data_dependent:
            raise NotReplayableError(op.name)
        kernel = registry.bind(op, dtype, self.target)
        if own(kernel, "composed"):
            inner = decomposed(op, self)
            assert inner is not None
            return inner

        def record(*operands: Any, **params: Any) -> Any:
            specs = [
                None
                if o is None
                else Spec((), dtype, None, True)
                if o.__class__ in SCALARS
                else Spec(o.shape, o.dtype)
                for o in operands
            ]
            result = op.rule(op, specs, params)
            several = isinstance(result, tuple) and not isinstance(result, Spec)
            outputs = [self.new(s) for s in (result if several else (result,))]
            self.steps.append(Step(op, kernel, operands, params, outputs, several))
            return tuple(outputs) if several else outputs[0]

        return record

    def lift(self, tensor: Tensor) -> Tensor:
        """A tensor from outside might change between calls."""
        raise NotReplayableError("a tensor from outside")

    def to_host(self, array: Any) -> Any:
        """Values are not known here."""
        raise NotReplayableError("a value")


def program(graph: Graph, target: Backend, least: int = 0) -> Callable[..., Any]:
    """The graph as a function of arrays of ``target``: its own program, or a replay in which groups of steps of at
    least ``least`` elements are generated kernels, as far as it has them.
    """
    try:
        whole = None if target.__class__.compile is Backend.compile else target.compile(graph)
        return whole or replayer(fused(graph, target, least))
    except Exception as error:
        log.warning("%s: a program of %d steps is run step by step: %s", target, len(graph.steps), error)
        return replayer(graph)


def linked(graph: Graph, target: Backend) -> Callable[..., Any]:
    """A whole program for a backend with an emitter: every step that it can emit is emitted, and the result linked."""
    grouped = fused(together(graph, target), target, alone=True)
    return target.link(grouped, replayer) or replayer(grouped)


def replayer(graph: Graph) -> Callable[..., Any]:
    """The graph as a Python function of the input arrays that calls one kernel after the other."""
    inputs, several = graph.inputs, graph.several
    results = [None if r is None else r.name for r in graph.results]
    last: dict[str, int] = {}
    for number, step in enumerate(graph.steps):
        for x in step.inputs:
            if isinstance(x, Traced):
                last[x.name] = number
        for x in step.outputs:
            last.setdefault(x.name, number)
    into = _places(graph.steps, results, graph.donated, last)
    scope: dict[str, Any] = {}
    own = {x.name for x in inputs}
    lines = [f"def program({', '.join(x.name for x in inputs)}):"]
    for number, step in enumerate(graph.steps):
        scope[f"k{number}"] = kernel = step.kernel
        arguments = []
        for i, x in enumerate(step.inputs):
            if isinstance(x, Traced):
                arguments.append(x.name)
            else:
                scope[f"s{number}_{i}"] = x
                arguments.append(f"s{number}_{i}")
        for name, value in step.params.items():
            scope[f"p{number}_{name}"] = value
            arguments.append(f"{name}=p{number}_{name}")
        if number in into and step.op.kind == "fused":
            scope[f"k{number}"] = kernel.sparing(into[number])
        elif number in into:
            scope[f"k{number}"] = kernel.into
            arguments.insert(0, into[number])
        targets = "".join(f"{x.name}, " for x in step.outputs) if step.several else step.outputs[0].name
        lines.append(f"    {targets} = k{number}({', '.join(arguments)})")
        dead = [n for n, at in last.items() if at == number and n not in own and n not in results]
        if dead:
            lines.append(f"    del {', '.join(dead)}")
    shown = [str(n) for n in results]
    lines.append(f"    return ({''.join(n + ', ' for n in shown)})" if several else f"    return {shown[0]}")
    exec(compile("\n".join(lines), "<replay>", "exec"), scope)
    return scope["program"]


def own(kernel: Any, name: str) -> Any:
    """A kernel's attribute, or None. A wrapper made with functools.wraps has copies of what it wraps: they are not its own."""
    return None if hasattr(kernel, "__wrapped__") else getattr(kernel, name, None)


def _writes(step: Step) -> bool:
    """Whether the step's results are fresh memory, and it can write them over operands instead."""
    if step.op.kind == "fused":
        return own(step.kernel, "sparing") is not None
    return step.op.kind == "elementwise" and not step.several and own(step.kernel, "into") is not None


def _places(
    steps: list[Step], results: list[Any], donated: Sequence[Traced], last: dict[str, Any]
) -> dict[int, Any]:
    """Which steps write over which array: a donated input or an intermediate result that nothing reads
    afterwards, and of which there is no view. The name of one for an element-wise step, positions of several among the
    inputs for a group of steps, which looks where it can write.

    Only kernels that can write in place are taken for sure to return no view of what they read.
    """
    private = {x.name for step in steps if _writes(step) for x in step.outputs} - set(results)
    given = {x.name for x in donated}
    private |= given - set(results)
    root: dict[str, str] = {}  # of what may be a view: what it may be a view of
    last = dict(
        last
    )  # of an array with views: a bit after their last use, because they are read at other places
    for step in steps:
        names = [x.name for x in step.inputs if isinstance(x, Traced)]
        if step.op.kind == "movement" and len(names) == 1:
            source = root.get(names[0], names[0])
            for x in step.outputs:
                root[x.name] = source
                if x.name in results:
                    private.discard(source)
        elif not _writes(step) and step.op.name != "matmul":
            private -= {root.get(name, name) for name in names}
    for name, source in root.items():
        last[source] = max(last[source], last[name] + 0.5)
    into: dict[int, Any] = {}
    for number, step in enumerate(steps):
        if not _writes(step):
            continue
        dead = [
            i
            for i, x in enumerate(step.inputs)
            if isinstance(x, Traced) and x.name in private and last[x.name] <= number
        ]
        if step.op.kind == "fused":
            private -= {step.inputs[i].name for i in dead}
            if (
                dead
            ):  # donated memory first: a result there needs no buffer of its own, and can be donated again
                into[number] = tuple(sorted(dead, key=lambda i: step.inputs[i].name not in given))
            continue
        out = step.outputs[0]
        for i in dead:
            x = step.inputs[i]
            if (x.shape, x.dtype) == (out.shape, out.dtype):
                into[number] = x.name
                private.discard(x.name)  # it lives on under the result's name
                break
    return into


class Replayed:
    """``fn(tensors, *values)`` on arrays of ``target``: recorded for each combination of shapes, dtypes and
    values that comes again.
    """

    __slots__ = ("donates", "fn", "programs", "target")

    def __init__(self, fn: Callable[..., Any], target: Backend, donates: Sequence[int] = ()) -> None:
        self.fn, self.target, self.donates = fn, target, donates
        self.programs: dict[Any, Any] = {}

    def find(self, arrays: Sequence[Any], values: Sequence[Any] = (), *, overwrite: bool = False) -> Any:
        """The program for such arrays (or Python scalars among them) and exactly these values, or None: then
        call the body.
        """
        # 0.0 and -0.0 are equal, and not the same
        key: list[Any] = [repr(v) if v.__class__ is float else v for v in values]
        for a in arrays:
            if a.__class__ in SCALARS:
                key.append((a.__class__, repr(a)))
            else:
                key.append(a.shape)
                key.append(a.dtype)
        known = tuple(key)
        try:
            found = self.programs.get(known)
        except TypeError:  # something unhashable among the values
            return None
        if found is None:
            if len(self.programs) >= LIMIT:
                self.programs.clear()
            found = self.programs[known] = _FIRST
            if not self._large(arrays):
                return None
        if found is _FIRST:
            found = self.programs[known] = (
                self.record(arrays, values, self.donates if overwrite else ()) or False
            )
        return found or None

    def _large(self, arrays: Sequence[Any]) -> bool:
        """Whether there may be a generated kernel: then the first call has it too, so that it gives the bits of the next."""
        least = self.target.fuse_from
        return least > 0 and any(a.__class__ not in SCALARS and math.prod(a.shape) >= least for a in arrays)

    def record(
        self, arrays: Sequence[Any], values: Sequence[Any], donates: Sequence[int]
    ) -> Callable[..., Any] | None:
        """Run the body on a recorder; None when it cannot be replayed."""
        recorder = Recorder(self.target)
        inputs = [
            Traced(() if a.__class__ in SCALARS else a.shape, as_dtype(getattr(a, "dtype", bool)), f"a{i}")
            for i, a in enumerate(arrays)
        ]
        operands = [
            a if a.__class__ in SCALARS else wrap(x, recorder) for a, x in zip(arrays, inputs, strict=True)
        ]
        try:
            result = self.fn(operands, *values)
        except Exception:  # whatever it is, the body will say it again, on real arrays
            return None
        several = isinstance(result, tuple | list)
        data = [None if r is None else getattr(r, "_data", r) for r in (result if several else [result])]
        if any(d is not None and not isinstance(d, Traced) for d in data):
            return None
        donated = [inputs[p] for p in donates if p < len(operands) and isinstance(operands[p], Tensor)]
        graph = Graph(inputs, recorder.steps, data, several=several, donated=donated)
        return program(graph, self.target, self.target.fuse_from)


def composed(op: Op, backend: Backend) -> Callable[..., Any] | None:
    """A kernel for a composite on a backend's arrays: its body, replayed where that is possible. None for a
    primitive.
    """
    plain = decomposed(op, backend)
    if plain is None or backend.level:
        return plain
    body, regroup, names = op.body, op.regroup, op.params
    assert body is not None
    replayed = Replayed(
        lambda tensors, *values: body(*regroup(tensors), **dict(zip(names, values, strict=True))),
        backend,
        op.donates,
    )

    def compose(*operands: Any, **params: Any) -> Any:
        overwrite = bool(params.get("overwrite"))
        program = replayed.find(operands, [params[n] for n in names], overwrite=overwrite)
        if program is None:
            return plain(*operands, **params)
        try:
            return program(*operands)
        except Exception:
            if overwrite:
                raise  # what has been written over cannot be computed again
            return plain(*operands, **params)

    compose.__name__ = compose.__qualname__ = plain.__name__
    compose.composed = True  # type: ignore[attr-defined]
    return compose


def apply_rule(name: Any, rule: Callable[..., Any], args: Sequence[Any], backend: Backend) -> Any:
    """``rule(*args)`` for tensors of ``backend`` that carry no nodes, replayed where that is possible;
    ``name`` identifies the rule.
    """
    pattern = tuple([isinstance(a, Tensor) for a in args])
    arrays = [a._data for a, is_tensor in zip(args, pattern, strict=True) if is_tensor]
    values = [a for a, is_tensor in zip(args, pattern, strict=True) if not is_tensor]
    replays = backend.tables.replays
    replayed = replays.get(name)
    if replayed is None:

        def merged(tensors: Sequence[Any], pattern: tuple[bool, ...], *values: Any) -> Any:
            tensor, value = iter(tensors), iter(values)
            return rule(*[next(tensor) if is_tensor else next(value) for is_tensor in pattern])

        replayed = replays[name] = Replayed(merged, backend)
    program = replayed.find(arrays, [pattern, *values])
    if program is None:
        return rule(*args)
    try:
        result = program(*arrays)
    except Exception:
        return rule(*args)
    if isinstance(result, tuple):
        return tuple([None if r is None else wrap(r, backend) for r in result])
    return None if result is None else wrap(result, backend)


def elementwise_program(
    rule: Callable[..., Any], dtype: DType, backend: Backend
) -> Callable[..., Any] | None:
    """``rule`` of one operand as kernels, for operands of every shape; None unless all its steps are element-wise on that shape."""
    shape = (3,)
    recorder = Recorder(backend)
    x = Traced(shape, dtype, "a0")
    try:
        result = rule(wrap(x, recorder))
    except Exception:  # the rule will say it again, on real arrays
        return None
    steps = recorder.steps
    if not isinstance(result, Tensor) or not isinstance(result._data, Traced):
        return None
    if any(s.op.kind != "elementwise" or s.several or s.outputs[0].shape != shape for s in steps):
        return None
    return replayer(Graph([x], steps, [result._data]))


class _Composites:
    """The last answer to ``find_kernel``: float32 for what float16 and bfloat16 do not compute themselves, and a
    composite's own body.
    """

    @hookimpl(trylast=True)
    def find_kernel(self, op: Op, dtype: DType | None, backend: Backend) -> Any:
        assert dtype is not None
        return widened(op, backend, dtype) if dtype in HALF and not op.moves else composed(op, backend)


registry.manager.register(_Composites(), "corelib.composites")
