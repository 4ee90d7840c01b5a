"""A declaration that lacks a piece, or contradicts itself, is refused while its module is imported, in words that name the op and the piece."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

import corelib
from corelib import dtypes, ops
from corelib.dispatch import composite, primitive
from corelib.errors import DeclarationError
from corelib.op import BY_NAME, KINDS, OPS
from corelib.rules import binary, unary
from corelib.samples import reals
from corelib.tensor import Tensor

ONE = {"rule": unary(dtypes.FLOATING), "samples": reals(-1, 1), "ulp": 1}
TWO = {**ONE, "rule": binary(dtypes.FLOATING)}


def undeclared(x: Tensor, /, *, power: float = 1.0) -> Tensor:
    """An op that no test may succeed in declaring."""


def undeclared_pair(x1: Tensor, x2: Tensor, /) -> Tensor:
    """As undeclared, of two operands."""


def without_docstring(x: Tensor, /) -> Tensor: ...


def after_a_variadic(xs: Sequence[Tensor], x: Tensor, /) -> Tensor:
    """No operand can follow a variadic one."""


def no_exp(x: Tensor, /) -> Tensor:
    """An op of a name that is taken."""


no_exp.__name__ = "exp"


def unannotated(x, /):
    """Is x an operand?"""


def evaluated(x: Tensor, /) -> Tensor:
    """Declared in a module whose annotations are evaluated."""


evaluated.__annotations__ = {"x": Tensor, "return": Tensor}

MISTAKES = {
    "no rule": (undeclared, {"samples": ONE["samples"], "ulp": 1, "d": 1}, "undeclared: an op needs rule="),
    "no samples": (undeclared, {"rule": ONE["rule"], "ulp": 1, "d": 1}, "undeclared: an op needs samples="),
    "no ulp": (
        undeclared,
        {"rule": ONE["rule"], "samples": ONE["samples"], "d": 1},
        "undeclared: an op needs ulp=",
    ),
    "nothing": (undeclared, {}, "undeclared: an op needs rule=, samples=, ulp="),
    "no docstring": (without_docstring, {**ONE, "d": 1}, "without_docstring: a docstring is needed"),
    "rule is no Rule": (undeclared, {**ONE, "rule": "unary", "d": 1}, "undeclared: rule= must be a Rule, got 'unary'"),
    "samples is no generator": (undeclared, {**ONE, "samples": (1, 2), "d": 1}, "undeclared: samples= must be a generator"),
    "ulp is no number": (undeclared, {**ONE, "ulp": "few", "d": 1}, "undeclared: ulp= must be a number or SUM_BOUND, got 'few'"),
    "kind is none": (undeclared, {**ONE, "kind": "reduction", "d": 1}, "undeclared: kind='reduction' is not one of elementwise, reduce"),
    "no derivative": (undeclared, ONE, "undeclared: a primitive needs one of d=, linear=, bilinear=, vjp= or nondiff="),
    "two derivatives": (
        undeclared,
        {**ONE, "d": 1, "nondiff": "it is constant"},
        "undeclared: exactly one derivative kind is needed, got d=, nondiff=",
    ),
    "an unknown piece": (undeclared, {**ONE, "linaer": lambda g: g}, "undeclared: there is no piece linaer=; did you mean 'linear'"),
    "vjp without jvp": (undeclared, {**ONE, "vjp": lambda g, x: g}, "undeclared: vjp= of a primitive comes with jvp="),
    "jvp without vjp": (undeclared, {**ONE, "d": 1, "jvp": lambda dx: dx}, "undeclared: jvp= comes with vjp="),
    "nondiff without a reason": (undeclared, {**ONE, "nondiff": True}, "undeclared: nondiff= says why, in words, got True"),
    "no rule for an operand": (undeclared_pair, {**TWO, "d": (1,)}, "undeclared_pair: d= has 1 rules for the operands x1, x2"),
    "a rule is no rule": (undeclared, {**ONE, "d": ["x"]}, "undeclared: d= must hold functions, numbers or None, got ['x']"),
    "d names an unknown operand": (undeclared, {**ONE, "d": "z"}, "undeclared: the d rule reads 'z', which is none of power, x, y"),
    "d reads an unknown name": (undeclared, {**ONE, "d": lambda z: z}, "undeclared: the d rule reads 'z', which is none of power, x, y"),
    "d reads g": (undeclared, {**ONE, "d": lambda g, y: g}, "undeclared: the d rule reads 'g', which is none of power, x, y"),
    "linear reads an unknown name": (
        undeclared,
        {**ONE, "linear": lambda g, axis: g},
        "undeclared: the linear rule reads 'axis', which is none of g, power, x, y",
    ),
    "vjp reads an unknown name": (
        undeclared,
        {**ONE, "vjp": lambda g, dy: g, "jvp": lambda dx: dx},
        "undeclared: the vjp rule reads 'dy', which is none of g, power, x, y",
    ),
    "jvp reads an unknown name": (
        undeclared,
        {**ONE, "vjp": lambda g: g, "jvp": lambda g: g},
        "undeclared: the jvp rule reads 'g', which is none of dx, power, x, y",
    ),
    "an operand after a variadic one": (after_a_variadic, {**TWO, "d": 1}, "after_a_variadic: operand x stands after a variadic one"),
    "no annotation": (unannotated, {**ONE, "d": 1}, "unannotated: x needs an annotation"),
    "an annotation that is no text": (
        evaluated,
        {**ONE, "d": 1},
        "evaluated: annotations are read as text: put `from __future__ import annotations` at the top of the module",
    ),
    "declared twice": (no_exp, {**ONE, "d": lambda y: y}, "exp is declared twice: .*elementwise.py:[0-9]+ and .*test_declarations.py:[0-9]+"),
}  # fmt: skip


@pytest.mark.parametrize(("fn", "pieces", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_declaration_is_refused(fn, pieces, words):
    before = list(OPS), dict(BY_NAME), ops.exp
    with pytest.raises(DeclarationError, match=words if words.startswith("exp") else re.escape(words)):
        primitive(**pieces)(fn)
    assert (list(OPS), dict(BY_NAME), ops.exp) == before


def test_a_composite_may_have_vjp_alone_or_none_but_not_jvp_alone():
    def undeclared_body(x: Tensor, /) -> Tensor:
        """A composite."""
        return x

    with pytest.raises(DeclarationError, match="undeclared_body: jvp= comes with vjp="):
        composite(**ONE, jvp=lambda dx: dx)(undeclared_body)
    assert ops.logsumexp.op.derivative.kind == "vjp"
    assert ops.logsumexp.op.derivative.jvp is None
    assert ops.elu.op.derivative.kind in ("body", "vjp", "d")


def test_a_mistake_in_a_declaration_stops_the_import(tmp_path, monkeypatch):
    (tmp_path / "mistaken_ops.py").write_text(
        "from corelib.dispatch import primitive\n"
        "from corelib.rules import unary\n"
        "from corelib.dtypes import FLOATING\n"
        "from corelib.samples import reals\n"
        "@primitive(rule=unary(FLOATING), samples=reals(-1, 1), ulp=1)\n"
        "def half(x: 'Tensor', /) -> 'Tensor':\n"
        "    '''x / 2.'''\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DeclarationError, match="half: a primitive needs one of d="):
        import mistaken_ops  # noqa: F401


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_a_declared_op_is_whole(op):
    assert op.doc
    assert op.kind in KINDS
    assert op.primitive == (op.body is None)
    assert op.derivative.kind in ("d", "linear", "bilinear", "vjp", "nondiff") or not op.primitive
    assert op.fn.__doc__
    assert op.fn.op is op
    family = op.where.split("/corelib/ops/")[-1].split(".py")[0]
    extension = family if family in ("fft", "linalg") else op.group
    for home in (getattr(ops, extension),) if extension else (ops, corelib):
        assert getattr(home, op.fn.__name__) is op.fn


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_arguments_that_do_not_fit_name_the_op(op):
    with pytest.raises(
        TypeError, match=rf"^{op.name}\(\) got an unexpected keyword argument|^{op.name}\(\) missing"
    ):
        op.fn(no_parameter=1)
