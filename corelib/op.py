"""What an op is: its declaration, and the table of all that are declared.

An op's whole story stands where it is declared (``ops/``): name, signature, docstring, shape and dtype rule,
exactly one kind of derivative, samples, error samples, ULP budget. A missing piece is an error while the
module is imported. This module knows neither tensors nor backends; ``dispatch.py`` turns a declaration into
the public function.

**Derivative rules name what they read.** The parameters of a rule are names of the op's operands and
parameters, ``y`` for the result and ``g`` for its cotangent; a tape node keeps those, and nothing else:

* ``d=``: partial derivatives of an element-wise op, one per operand: a number, the name of an operand or ``"y"``
  where that is the derivative (``d="y"`` for exp, ``d=("x2", "x1")`` for multiply), a function
  (``d=lambda x: cos(x)`` for sin), or None for an operand without derivative. The tape unbroadcasts, and
  conjugates: for a partial p of a complex op, ``jvp = p dx`` (its real part where the result is real) and
  ``vjp = g conj(p)``. All other rules conjugate by themselves (conj is the identity on real tensors).
* ``linear=``: the transpose for each operand, ``linear=lambda g, x, axis: ...``, None for an operand that the
  op is not linear in. Operands with a rule are given as their :class:`~corelib.rules.Spec` (their values are
  never kept), the others as tensors. Forward mode applies the op to the tangents; an op that adds a constant
  (pad) says with ``jvp=`` what becomes of them.
* ``bilinear=``: a pair, each the transpose in one operand (given as its Spec) with the other one's values; a
  third operand is added to the product.
* ``vjp=`` with ``jvp=``: ``vjp`` reads ``g`` and returns the operands' cotangents (a tuple, one per operand);
  ``jvp`` reads tangents as ``dx`` for an operand ``x``. A composite may have ``vjp`` alone: forward mode then
  transposes it.
* ``nondiff="why"``: there is none; such an op never records.

A variadic operand (``*indices`` or a sequence of tensors) is one operand: rules see it as a tuple and return
a tuple for it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import DeclarationError, DTypeError, nearest
from .params import CANONICAL, DROPPED
from .rules import Rule

GROUPS = ("", "linalg", "fft")
KINDS = ("elementwise", "reduce", "movement", "contract", "index", "scan", "random", "creation", "opaque")
DERIVATIVE_KINDS = ("d", "linear", "bilinear", "vjp", "nondiff")
SUM_BOUND = (
    "n*u*sum|x|"  # a ULP budget for sums and products of matrices: the a-priori bound, not a number of ULP
)

OPS: list[Op] = []
BY_NAME: dict[str, Op] = {}


class Callables:
    """The public functions of the declared ops, by name: how a Tensor's methods reach ops that stand above
    them.
    """


calls: Any = Callables()


class Op:
    """One declared op.

    ``name``, ``index`` (its place in every backend's table), ``kind`` (one of KINDS), ``primitive``,
    ``signature``, ``operands`` (names), ``optional`` and ``numbers`` (positions of those that may be None, or
    Python numbers), ``alike`` (for each: True if it is promoted with others, else the dtype it must have, or
    None), ``variadic`` (the last operand is a tuple), ``params`` (names, in canonical form for kernels),
    ``rule``, ``derivative``, ``body`` (None for a primitive), ``samples``, ``errors``, ``ulp`` and ``ulp_complex`` (the error budgets; of complex results the larger part counts), ``ulp_of`` (whose ULP these are: the
    "result"'s, or of the "largest" of an element's operands and result, where sums cancel), ``leading``
    (takes any leading axes unchanged, since its axes are counted from the end), ``data_dependent`` (the
    result's shape depends on values), ``batch`` (``batch(op, n, operands, mapped, params)``: the op on n examples at once, of which the
    ``mapped`` operands have one each along a new first axis, and so have the results; or NotImplemented, which leaves it to the body), ``diagnose`` (called as
    ``diagnose(op, operands, params)`` after a kernel failed on specs that the rule accepts: raises the error
    that only values show, such as an index out of bounds), ``unchanged`` (``unchanged(x, **params)``: the
    result is x itself), ``donates`` (positions of the operands whose arrays may be written over when the
    parameter ``overwrite`` is True), ``residual`` (``residual(y, *operands, **params)``: what is wrong with a
    result that is judged by backward error, as dimensionless numbers, 0 for none), ``invariant``
    (``invariant(y, **params)``: what of the results does not depend on an arbitrary choice such as an
    eigenvector's sign), ``domain`` (``domain(x)``: the nearest first operand that the op is meant for, such as the
    Hermitian part of a matrix of which it reads one triangle; the gradient is that of ``op(domain(x))``), ``moves`` (it moves elements and computes nothing, so that float16 and bfloat16 need no
    arithmetic: by default what moves, indexes or creates with a budget of 0), ``group`` (the capability group that a backend may lack: "linalg", "fft" or ""),
    ``fn`` (the public function), ``doc``, ``where`` (file and line of the declaration).
    """

    __slots__ = (
        "alike", "batch", "bind", "body", "data_dependent", "derivative", "device_param", "diagnose", "doc", "domain", "donates", "errors", "fn", "group", "index", "invariant", "kind", "leading", "moves",
        "name", "numbers", "operands", "optional", "params", "primitive", "residual", "rule", "samples", "signature", "ulp", "ulp_complex", "ulp_of", "unchanged", "variadic", "where",
    )  # fmt: skip

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        primitive: bool,
        kind: str,
        rule: Rule,
        samples: Callable[..., Iterable[Any]],
        ulp: float | str,
        errors: Sequence[Any] = (),
        bind: Callable[..., Any] | None = None,
        leading: bool = False,
        data_dependent: bool = False,
        batch: Callable[..., Any] | None = None,
        diagnose: Callable[..., None] | None = None,
        unchanged: Callable[..., bool] | None = None,
        donates: Sequence[int] = (),
        residual: Callable[..., Any] | None = None,
        invariant: Callable[..., Any] | None = None,
        domain: Callable[..., Any] | None = None,
        ulp_complex: float | None = None,
        ulp_of: str = "result",
        moves: bool | None = None,
        group: str = "",
        params: tuple[str, ...] | None = None,
        jvp: Callable[..., Any] | None = None,
        **derivative: Any,
    ) -> None:
        self.name = fn.__name__.rstrip("_")
        if not isinstance(rule, Rule):
            raise DeclarationError(f"{self.name}: rule= must be a Rule, got {rule!r}")
        self.primitive, self.kind, self.rule, self.samples, self.ulp = primitive, kind, rule, samples, ulp
        self.leading, self.data_dependent, self.batch = (
            leading or kind == "elementwise",
            data_dependent,
            batch,
        )
        self.diagnose, self.unchanged, self.donates = diagnose, unchanged, donates
        self.residual, self.invariant, self.domain, self.group = residual, invariant, domain, group
        self.ulp_complex, self.ulp_of = ulp if ulp_complex is None else ulp_complex, ulp_of
        self.moves = kind in ("movement", "index", "creation") and ulp == 0 if moves is None else moves
        self.fn: Any = None
        self.doc = inspect.getdoc(fn) or ""
        code = fn.__code__
        self.where = f"{code.co_filename}:{code.co_firstlineno}"
        self.signature = inspect.signature(fn)
        self.operands, self.variadic, self.params, self.device_param = _split(self.name, self.signature)
        self.body = None if primitive else _body(fn, self.signature, self.operands)
        given_none = [self.signature.parameters[name].default is None for name in self.operands]
        self.optional = frozenset(i for i, yes in enumerate(given_none) if yes)
        self.numbers = frozenset(
            i
            for i, name in enumerate(self.operands)
            if str(self.signature.parameters[name].annotation).startswith("Array")
        )
        self.alike = tuple(
            rule.joint is None or i in rule.joint or rule.fixed.get(i, rule.fixed.get(-1))
            for i in range(len(self.operands))
        )
        self.params = (
            params or self.params
        )  # of a primitive with a bind= of its own, whose kernels get other parameters
        if bind is not None:
            bind.__qualname__ = self.name  # which Python names where arguments do not fit
        self.bind = bind or _make_bind(self)
        self.errors = list(errors)
        self.check()
        self.derivative = self._differentiated(derivative, jvp)
        if self.name in BY_NAME:
            raise DeclarationError(
                f"{self.name} is declared twice: {BY_NAME[self.name].where} and {self.where}"
            )
        self.index = len(OPS)
        OPS.append(self)
        BY_NAME[self.name] = self

    def check(self) -> None:
        """Raise DeclarationError for a missing or inconsistent piece."""
        if self.kind not in KINDS:
            raise DeclarationError(f"{self.name}: kind={self.kind!r} is not one of {', '.join(KINDS)}")
        if self.group not in GROUPS:
            raise DeclarationError(
                f"{self.name}: group={self.group!r} is not one of {', '.join(map(repr, GROUPS))}"
            )
        if not self.doc and sys.flags.optimize < 2:  # python -OO strips docstrings
            raise DeclarationError(f"{self.name}: a docstring is needed")
        if not callable(self.samples):
            raise DeclarationError(
                f"{self.name}: samples= must be a generator of samples, got {self.samples!r}"
            )
        if not isinstance(self.ulp, int | float) and self.ulp != SUM_BOUND:
            raise DeclarationError(f"{self.name}: ulp= must be a number or SUM_BOUND, got {self.ulp!r}")

    def _differentiated(self, pieces: dict[str, Any], jvp: Callable[..., Any] | None) -> Derivative:
        """The derivative that the declaration gives; DeclarationError unless it is of exactly one kind (or,
        of a composite, its body's).
        """
        for piece in pieces:
            if piece not in DERIVATIVE_KINDS:
                raise DeclarationError(
                    f"{self.name}: there is no piece {piece}={nearest(piece, (*DERIVATIVE_KINDS, 'jvp'))}"
                )
        given = {kind: value for kind, value in pieces.items() if value is not None}
        if len(given) > 1:
            raise DeclarationError(
                f"{self.name}: exactly one derivative kind is needed, got {', '.join(f'{kind}=' for kind in given)}"
            )
        if jvp is not None and not given.keys() & {"vjp", "linear"}:
            raise DeclarationError(f"{self.name}: jvp= comes with vjp= or linear=")
        if not given:
            if self.primitive:
                raise DeclarationError(
                    f"{self.name}: a primitive needs one of d=, linear=, bilinear=, vjp= or nondiff="
                )
            return Derivative(self, "body", None)
        ((kind, value),) = given.items()
        if kind == "vjp" and self.primitive and jvp is None:
            raise DeclarationError(f"{self.name}: vjp= of a primitive comes with jvp=")
        if kind == "nondiff" and not (isinstance(value, str) and value):
            raise DeclarationError(f"{self.name}: nondiff= says why, in words, got {value!r}")
        return Derivative(self, kind, value, jvp)

    def operand_name(self, position: int) -> str:
        """The name of the operand at a position of the flat list that a kernel receives."""
        slot = self.slot(position)
        name = self.operands[slot]
        return f"{name}[{position - slot}]" if self.variadic and slot == len(self.operands) - 1 else name

    def slot(self, position: int) -> int:
        """Which declared operand a position of the flat operand list belongs to."""
        return min(position, len(self.operands) - 1)

    def regroup(self, flat: Sequence[Any]) -> list[Any]:
        """The positional arguments of ``fn`` and ``body`` from the flat list of operands."""
        if (
            not self.variadic
            or self.signature.parameters[self.operands[-1]].kind is inspect.Parameter.VAR_POSITIONAL
        ):
            return list(flat)
        n = len(self.operands) - 1
        return [*flat[:n], tuple(flat[n:])]

    def __repr__(self) -> str:
        return f"<{'primitive' if self.primitive else 'composite'} {self.name}{self.signature}>"


class Derivative:
    """The derivative rules of one op and what each of them reads. ``kind``: d, linear, bilinear, vjp, nondiff
    or body.

    ``rules[slot]`` belongs to the operand of that slot (for vjp there is one rule for all), and
    ``reads[slot]`` lists its parameters as ``(name, how, position)``: how is "g", "y", "param", "value" or
    "spec" (the last two of the operand at position).
    """

    __slots__ = ("_keep", "jvp", "kind", "partials", "reads", "reason", "rules")

    def __init__(self, op: Op, kind: str, value: Any, jvp: Callable[..., Any] | None = None) -> None:
        self.kind, self.jvp, self.reason = kind, jvp, value if kind == "nondiff" else None
        self.rules: tuple[Any, ...] = ()
        self.partials: tuple[Any, ...] = ()  # the tape's own form of an element-wise op's rules
        if kind not in ("nondiff", "body"):
            self.rules = value if isinstance(value, tuple) else (value,)
            self.rules = tuple(_itself(r) if kind == "d" and isinstance(r, str) else r for r in self.rules)
            if kind != "vjp" and len(self.rules) != len(op.operands):
                raise DeclarationError(
                    f"{op.name}: {kind}= has {len(self.rules)} rules for the operands {', '.join(op.operands)}"
                )
        self.reads = tuple(self._read(op, slot, rule) for slot, rule in enumerate(self.rules))
        if jvp is not None:
            _check_names(
                op, "jvp", jvp, {*op.operands, *op.params, "y", *(f"d{name}" for name in op.operands)}
            )
        self._keep: dict[tuple[bool, ...], tuple[tuple[bool, ...], bool]] = {}

    def _read(self, op: Op, slot: int, rule: Any) -> tuple[tuple[str, str, int], ...]:
        if rule is None or isinstance(rule, int | float | complex):
            return ()
        how = {"y": ("y", -1), **dict.fromkeys(op.params, ("param", -1))}
        if self.kind != "d":  # a partial derivative; the tape multiplies the cotangent by it
            how["g"] = ("g", -1)
        for position, name in enumerate(op.operands):
            as_spec = self.kind == "linear" and self.rules[position] is not None
            as_spec = as_spec or (self.kind == "bilinear" and position == slot)
            how[name] = ("spec" if as_spec else "value", position)
        return tuple((name, *how[name]) for name in _check_names(op, self.kind, rule, set(how)))

    def keep(self, op: Op, tracked: tuple[bool, ...]) -> tuple[tuple[bool, ...], bool]:
        """Which operands of the flat list, and whether the result, must be kept when those ``tracked`` have
        gradients.
        """
        found = self._keep.get(tracked)
        if found is None:
            last = len(op.operands) - 1
            active = {min(p, last) for p, t in enumerate(tracked) if t}
            slots: set[int] = set()
            result = False
            for slot, reads in enumerate(self.reads):
                if self.kind == "vjp" or slot in active:
                    slots.update(position for _, how, position in reads if how == "value")
                    result = result or any(how == "y" for _, how, _ in reads)
            found = self._keep[tracked] = (tuple(min(p, last) in slots for p in range(len(tracked))), result)
        return found


def _itself(name: str) -> Callable[..., Any]:
    """The partial derivative that is an operand or the result itself, as a function that reads it."""
    if not name.isidentifier():
        raise DeclarationError(f"d= names an operand or y, got {name!r}")
    scope: dict[str, Any] = {}
    exec(f"def partial({name}):\n    return {name}", scope)
    scope["partial"].itself = True
    return scope["partial"]


def _check_names(op: Op, kind: str, rule: Any, known: set[str]) -> tuple[str, ...]:
    if not callable(rule):
        raise DeclarationError(f"{op.name}: {kind}= must hold functions, numbers or None, got {rule!r}")
    names = tuple(inspect.signature(rule).parameters)
    for name in names:
        if name not in known:
            raise DeclarationError(
                f"{op.name}: the {kind} rule reads {name!r}, which is none of {', '.join(sorted(known))}"
            )
    return names


def _split(
    op: str, signature: inspect.Signature
) -> tuple[tuple[str, ...], bool, tuple[str, ...], str | None]:
    """Operands (and whether the last is variadic), kernel parameters and the device parameter of a signature."""
    operands, params, variadic, device = [], [], False, None
    for name, p in signature.parameters.items():
        annotation = p.annotation
        if annotation is p.empty:
            raise DeclarationError(
                f"{op}: {name} needs an annotation, which says whether it is an operand or what kind of parameter"
            )
        if not isinstance(annotation, str):  # what an alias such as Axis stands for does not tell its name
            raise DeclarationError(
                f"{op}: annotations are read as text: put `from __future__ import annotations` at the top of the module"
            )
        if annotation.startswith(("Tensor", "Array", "Sequence[Tensor")):
            if variadic:
                raise DeclarationError(f"{op}: operand {name} stands after a variadic one")
            operands.append(name)
            variadic = annotation.startswith("Sequence") or p.kind is p.VAR_POSITIONAL
        elif annotation.startswith("Device"):
            device = name
        elif not annotation.startswith(DROPPED):
            params.append(name)
    return tuple(operands), variadic, tuple(params), device


def _body(
    fn: Callable[..., Any], signature: inspect.Signature, operands: tuple[str, ...]
) -> Callable[..., Any]:
    """``fn`` as a body is called: operands by position, parameters by name, whatever its signature allows."""
    parameters = signature.parameters.values()
    if not any(p.kind is (p.KEYWORD_ONLY if p.name in operands else p.POSITIONAL_ONLY) for p in parameters):
        return fn
    by_position = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]

    def body(*given: Any, **params: Any) -> Any:
        params.update(zip(operands, given, strict=True))
        return fn(*[params.pop(name) for name in by_position], **params)

    return body


def _make_bind(op: Op) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    """A function with the op's own signature that returns ``(flat operands, canonical parameters)``.

    Its source is generated, so that Python itself checks the call and no keyword is merged at run time.
    """
    source, first = [], "None"
    scope: dict[str, Any] = {"_op": op, "_missing": _missing}
    for name, p in op.signature.parameters.items():
        if name in op.operands:
            variadic = op.variadic and name == op.operands[-1]
            source.append(f"*{name}" if variadic else name)
            if first == "None":
                first = f"({name}[0] if {name} else None)" if variadic else name
        scope[f"_d_{name}"] = p.default
    canonical = []
    for name in (*op.params, *([op.device_param] if op.device_param else [])):
        convert = CANONICAL.get(str(op.signature.parameters[name].annotation).removesuffix(" | None"))
        if convert is None:
            canonical.append(f"{name!r}: {name}")
        else:
            scope[f"_c_{name}"] = convert
            given = (
                name
                if _may_be_none(op.signature.parameters[name])
                else f"{name} if {name} is not None else _missing(_op, {name!r})"
            )
            canonical.append(f"{name!r}: _c_{name}(_op, {name!r}, {given}, {first})")
    text = f"def {op.name}{_plain(op.signature)}:\n    return ({''.join(s + ', ' for s in source)}), {{{', '.join(canonical)}}}\n"
    exec(compile(text, f"<bind {op.name}>", "exec"), scope)
    return scope[op.name]


def _may_be_none(parameter: inspect.Parameter) -> bool:
    annotation = str(parameter.annotation)
    return annotation.startswith("Axes") or annotation.endswith("| None") or parameter.default is None


def _missing(op: Op, name: str) -> Any:
    raise DTypeError(f"{op.name}: {name} must not be None")


def _plain(signature: inspect.Signature) -> str:
    """The signature as source text without annotations, its defaults named ``_d_name``."""
    text, marked = [], False
    parameters = list(signature.parameters.values())
    for i, p in enumerate(parameters):
        if p.kind is p.KEYWORD_ONLY and not marked:
            if not any(q.kind is q.VAR_POSITIONAL for q in parameters):
                text.append("*")
            marked = True
        star = "*" if p.kind is p.VAR_POSITIONAL else ""
        text.append(star + p.name + ("" if p.default is p.empty else f"=_d_{p.name}"))
        if p.kind is p.POSITIONAL_ONLY and (
            i + 1 == len(parameters) or parameters[i + 1].kind is not p.POSITIONAL_ONLY
        ):
            text.append("/")
    return f"({', '.join(text)})"
