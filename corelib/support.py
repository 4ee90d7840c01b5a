"""Who implements what: for each op and backend a kernel of its own, the op's body, what it inherits, or
nothing; and ``explain(op)``.

Read from the registry and from the declarations, at no cost to anybody who does not ask: no kernel is
compiled, and a backend that cannot run here is described as far as it can be imported.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import ops as public
from .backend import Backend
from .dtypes import ALL, HALF, DType
from .errors import ArgumentError, BackendNotFoundError, nearest
from .op import BY_NAME, Op
from .registry import BackendStatus, backends, registry
from .samples import Maker

_WRAPPED = re.compile(r"(?<=[^\n])\n(?=[^\s*-])")  # a line break inside a paragraph
NATIVE, COMPOSED, INHERITED, MISSING, UNKNOWN = "native", "composed", "inherited", "missing", "unknown"


@dataclass(frozen=True)
class Support:
    """How a backend carries out an op. ``how``: native, composed (the op's body), inherited (an overlay's
    base), missing, unknown.

    ``places``: for each file and line (or name, where there is no source) with a kernel, the dtypes that it
    serves.
    """

    backend: str
    how: str
    places: tuple[tuple[str, tuple[DType, ...]], ...] = ()
    reason: str = ""


def find_op(name: str) -> Op:
    """The op of a name, also a plugin's, or ArgumentError with the nearest names."""
    registry.discover()
    op = BY_NAME.get(_bare(name))
    if op is None and _bare(name) in public.__all__:
        raise ArgumentError(
            f"{name} is a function that calls ops, not an op: see `python -m corelib explain {_bare(name)}`"
        )
    if op is None:
        raise ArgumentError(
            f"there is no op {name!r}{nearest(name, [*BY_NAME, *public.__all__])} ({len(BY_NAME)} ops are declared)"
        )
    return op


def _bare(name: str) -> str:
    return name.removeprefix("corelib.").removeprefix("ops.")


def support(op: Op, status: BackendStatus) -> Support:
    """How the backend of a status carries out ``op``."""
    name = status.name
    if not status.importable:
        return Support(name, UNKNOWN, reason=status.reason)
    cls = registry.load(name)
    places: dict[str, list[DType]] = {}
    for dtype in op.rule.accepts:
        found = cls.kernels.source(op, dtype)
        if found is not None:
            places.setdefault(location(found), []).append(dtype)
    if places:
        return Support(name, NATIVE, tuple((where, tuple(kinds)) for where, kinds in places.items()))
    base = registry.infos[name].base
    if base is not None:
        return Support(name, INHERITED, reason=f"from {base}")
    return Support(name, MISSING if op.primitive else COMPOSED)


def location(fn: Any) -> str:
    """File and line of a function, below the working directory if it is there; the qualified name where there
    is no source.
    """
    fn = inspect.unwrap(getattr(fn, "py_func", fn))
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None) or getattr(vars(type(fn)).get("__call__"), "__code__", None)
    if code is None:
        module = getattr(fn, "__module__", None) or type(fn).__module__
        return f"{module}.{getattr(fn, '__qualname__', None) or getattr(fn, '__name__', type(fn).__name__)}"
    return short(f"{code.co_filename}:{code.co_firstlineno}")


def why(status: BackendStatus) -> str:
    """The reason why a backend cannot be used, to stand behind its name."""
    return status.reason.removeprefix(f"backend {status.name!r} ")


def short(where: str) -> str:
    """A path relative to the working directory where it lies below it."""
    relative = os.path.relpath(where)
    return where if relative.startswith(os.pardir) else relative


# -- what a composite is made of -----------------------------------------------------------------------------


class _Recorder(Backend):
    """Runs everything on another backend and notes the primitives that run."""

    def __init__(self, target: Backend) -> None:
        super().__init__("recorder")
        self.target: Backend = target
        self.ran: list[tuple[Op, DType | None]] = []

    def find(self, op: Op, dtype: DType | None) -> Callable[..., Any] | None:
        if op.body is not None:
            return None  # composed, so that what its body calls is seen
        kernel = registry.bind(op, dtype, self.target)  # type: ignore[arg-type]

        def run(*operands: Any, **params: Any) -> Any:
            self.ran.append((op, dtype))
            return kernel(*operands, **params)

        return run

    def from_host(self, buffer: Any, shape: tuple[int, ...], dtype: DType) -> Any:
        return self.target.from_host(buffer, shape, dtype)

    def to_host(self, array: Any) -> Any:
        return self.target.to_host(array)


def primitives(op: Op) -> list[str]:
    """The primitives that run when the op's first sample is tried, in order of first appearance; empty if
    there is no sample.
    """
    from .conformance.cases import widest

    for dtype in [widest(op), *reversed(op.rule.accepts)]:
        tried = runs(op, dtype)
        if tried:
            return list(dict.fromkeys(primitive.name for primitive, _ in tried[0]))
    return []


def runs(op: Op, dtype: DType) -> list[list[tuple[Op, DType | None]]]:
    """The primitives that run, and on what dtypes, for one sample of ``dtype`` with each choice of parameters."""
    from .conformance.operands import mapped, tensors
    from .conformance.place import call

    device = next((s.name for s in sorted(backends(), key=lambda s: s.name != "reference") if s.usable), None)
    if device is None:
        raise BackendNotFoundError("no backend can be used here, see `python -m corelib backends`")
    samples = sorted(op.samples(Maker(op.name), dtype), key=lambda s: not tensors(s))
    choices: dict[str, Any] = {}
    for sample in samples:
        choices.setdefault(repr(mapped(sample, lambda v: None)), sample)
    tried = []
    for sample in choices.values():
        recorder = _Recorder(registry.get(device))
        registry.attach(recorder)
        call(op, sample, recorder)
        tried.append(list(dict.fromkeys(recorder.ran)))
    return tried


# -- explain -------------------------------------------------------------------------------------------------


def explain(name: str, width: int | None = None) -> str:
    """All that is known of an op, or of a function of ops, as text: its declaration, its derivative, and who
    implements it where.

    ``width``: how long a line may be; None for lines as long as they come.
    """
    registry.discover()
    if _bare(name) in public.__all__ and _bare(name) not in BY_NAME:
        return _explain_function(_bare(name), width)
    op = find_op(name)
    composed = "" if op.primitive else ", ".join(primitives(op)) or "nothing: its operand is its result"
    facts = [
        ("declared", short(op.where)),
        ("is", f"{'a primitive' if op.primitive else 'a composite'}, {op.kind}"),
        ("rule", f"{op.rule.name.strip('_')}, for {dtype_names(op.rule.accepts)}{_more(op)}"),
        ("derivative", derivative(op)),
        ("under vmap", batching(op)),
        ("error budget", "exact" if op.ulp == 0 else f"{op.ulp} ULP" if isinstance(op.ulp, int | float) else f"{op.ulp} for n terms, u = eps/2"),
        ("composes to", composed),
    ]  # fmt: skip
    lines = _heading(op.name, op.signature, op.doc, width)
    for key, value in facts:
        lines += fold(f"{key:<13} {value}", width, 14) if value else []
    lines.append("")
    statuses = backends()
    rows = [("backend", "kernel", "dtypes", "where")]
    for found in (support(op, status) for status in statuses):
        says = {INHERITED: found.reason, COMPOSED: "its body, on the backend's primitives"}.get(found.how, "")
        # what computes in float16 and bfloat16 does so in float32: a kernel for all others is one for all
        needed = [d for d in op.rule.accepts if op.moves or d not in HALF]
        rows += [
            (
                found.backend,
                found.how,
                dtype_names(kinds, of=op.rule.accepts if {*kinds} - {*needed} else needed),
                where,
            )
            for where, kinds in found.places
        ]
        if not found.places:
            rows.append((found.backend, found.how, "", says))
    reasons = [f"{s.name} cannot be used here: {why(s)}" for s in statuses if not s.usable]
    lines += [*table(rows, width), *[""][: len(reasons)]]
    return "\n".join([*lines, *(line for reason in reasons for line in fold(reason, width, 2))])


def _explain_function(name: str, width: int | None) -> str:
    """What is known of a public function that is no op itself, such as einsum."""
    fn = getattr(public, name)
    lines = _heading(name, inspect.signature(fn), inspect.getdoc(fn) or "", width)
    lines.append(f"{'declared':<13} {location(fn)}")
    says = "a function of ops: it runs wherever they run, and is differentiated through them"
    return "\n".join([*lines, *fold(f"{'is':<13} {says}", width, 14)])


def _heading(name: str, signature: inspect.Signature, doc: str, width: int | None) -> list[str]:
    """The signature as it was written, without quotes around the annotations, and the docstring."""
    lines = fold(name + str(signature).replace("'", ""), width, 8)
    if width is not None:
        doc = _WRAPPED.sub(" ", doc)  # a paragraph's own line breaks do not fit another width
    for line in doc.splitlines():
        lines += fold(f"    {line}" if line else "", width, 4)
    return [*lines, ""]


def _more(op: Op) -> str:
    return "; integers and bool are cast to the default floating dtype" if op.rule.integers == "float" else ""


def derivative(op: Op) -> str:
    """The kind of derivative and what each rule reads, as a sentence."""
    kind = op.derivative.kind
    if kind == "nondiff":
        return f"none: {op.derivative.reason}"
    if kind == "body":
        return "through the body: each op in it has its own"
    if kind == "vjp":
        with_jvp = " and a jvp" if op.derivative.jvp is not None else ""
        return f"a vjp{with_jvp}, reads {_reads(op.derivative.reads[0])}"
    meaning = {
        "d": "partials (d)",
        "linear": "transposes (linear)",
        "bilinear": "a pair of transposes (bilinear)",
    }[kind]
    parts = []
    for name, rule, reads in zip(op.operands, op.derivative.rules, op.derivative.reads, strict=True):
        says = (
            "has none"
            if rule is None
            else f"is {rule}"
            if isinstance(rule, int | float)
            else f"reads {_reads(reads)}"
        )
        parts.append(f"for {name} {says}")
    return f"{meaning}: {', '.join(parts)}"


def batching(op: Op) -> str:
    """How ``vmap`` runs an op on many examples, as a phrase; the same distinctions as in ``transforms/batching.py``."""
    if not op.operands:
        return "created once, for all examples"
    if op.data_dependent:
        return "refused, since the shape of the result depends on values"
    if op.kind == "random":
        return "each example draws from its own counter"
    if op.batch is not None:
        return f"a rule, {location(op.batch)}" + (
            "" if op.primitive else ", or where that does not fit its body"
        )
    if op.kind == "elementwise" and not op.variadic:
        return "operands broadcast behind the axis of the examples"
    if op.leading or op.kind in ("reduce", "scan"):
        return "one more axis in front"
    return "refused, since it has neither leading=True nor batch=" if op.primitive else "its body, op by op"


def _reads(reads: Sequence[tuple[str, str, int]]) -> str:
    named = {
        "g": "the cotangent",
        "y": "the result",
        "param": "{}",
        "value": "the values of {}",
        "spec": "the shape of {}",
    }
    return ", ".join(named[how].format(name) for name, how, _ in reads) or "nothing"


def dtype_names(kinds: Sequence[DType], of: Sequence[DType] = ALL) -> str:
    """Names of dtypes; "all dtypes" and "all" where nothing is missing, and among some "half" for both of two bytes."""
    if len(kinds) == len(of):
        return "all dtypes" if of is ALL else "all"
    short = of is not ALL and {*HALF} <= {*kinds}
    return " ".join([d.name for d in kinds if not (short and d in HALF)] + ["half"] * short)


# -- text ----------------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows of text as aligned columns, without trailing blanks. Into ``width`` characters, if given, cells
    are folded between words.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        least = [max(len(w) for row in rows for w in row[i].split() or [""]) for i in range(len(widths))]
        room = [(now - least, i) for i, (now, least) in enumerate(zip(widths, least, strict=True))]
        most, column = max(room, key=lambda r: (r[0] > 0, widths[r[1]]))
        if most <= 0:
            break  # longer words than fit
        widths[column] -= 1
    lines = []
    for row in rows:
        cells = [fold(cell, at) for cell, at in zip(row, widths, strict=True)]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            lines.append("  ".join(part.ljust(at) for part, at in zip(parts, widths, strict=True)).rstrip())
    return lines


def fold(text: str, width: int | None = None, indent: int = 0) -> list[str]:
    """A line of text as lines of at most ``width`` characters, broken between words; those after the first
    are indented.
    """
    if width is None or len(text) <= width:
        return [text]
    first = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(),
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
