"""``backward()`` and the gradients that it leaves behind, on each op and dtype: the family ``leaf``.

The gradients are those of ``vjp``, with the shape, dtype and device of their leaves; a second pass through a kept
graph doubles them, one through a freed graph is refused; and nothing is shared: neither leaves nor cotangents change,
an earlier gradient outlives the next pass, and a gradient that is changed in place changes no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..autograd import vjp
from ..dtypes import HALF
from ..errors import GradientError
from ..op import calls
from ..samples import Values
from .cases import Case
from .check import Suite
from .compare import Disagreement
from .cotangents import THOROUGH, again, differentiable, some
from .derivatives import UNHURRIED, agree, gradient_limit, like, plain, same_kind
from .families import Plan, family
from .oracle import cotangents, variables
from .place import Result, tensor


def _leaves(plan: Plan) -> Iterator[Case]:
    for group in differentiable(plan):
        if plan.profile in THOROUGH or group[0].dtype not in HALF:
            yield from again(some(plan, group, 2), "leaf")


@family("leaf", level=2, profiles=UNHURRIED, generate=_leaves)
def leaf(suite: Suite, case: Case) -> float:
    """One result, differentiated by ``backward()`` again and again."""
    function, floats = variables(case, case.sample, suite.backend)  # type: ignore[arg-type]
    found, pullback = vjp(function, *floats)
    given = [tensor(g, suite.backend) for g in like(cotangents(case, found), found)]
    if not found:
        return 0.0
    chosen = case.number % len(found)  # of several results one
    others = [tensor(_zeros(v), suite.backend) for v in like(cotangents(case, found), found)]
    expected = plain(
        pullback([g if k == chosen else z for k, (g, z) in enumerate(zip(given, others, strict=True))])
    )
    g = given[chosen]
    before = plain([*floats, g])

    leaves, y = _recorded(case, suite.backend, chosen)
    if not y.requires_grad:
        if any(x for r in expected for x in r.data):
            raise Disagreement(f"result {chosen} does not require a gradient, and has one")
        return 0.0
    y.backward(g, retain_graph=True)
    first = _gradients(leaves)
    same_kind(case, first, suite.backend.device)
    worst = agree(
        expected, first, scale=2.0, limit=gradient_limit(case)
    )  # several results add up in another order
    held = [x.grad for x in leaves]
    y.backward(g, retain_graph=True)
    _equal(_gradients(leaves), [_doubled(r) for r in first], "after a second pass, which adds to it,")
    _equal(_collected(held, leaves), first, "as it was read before the second pass")

    for x in leaves:
        x.grad = None
    y.backward(g)
    _equal(_gradients(leaves), first, "of the last pass through the graph")
    _alone(leaves, g)
    _equal(plain([*leaves, g]), before, "as an operand or a cotangent, after backward,")
    if not y.is_leaf:
        _refused(y, g)
    return worst


def _zeros(v: Values) -> Values:
    return Values(v.shape, v.dtype, tuple(0 * x for x in v.data))


def _recorded(case: Case, backend: Any, chosen: int) -> tuple[list[Any], Any]:
    """New leaves, and one result of theirs."""
    function, leaves = variables(case, case.sample, backend)  # type: ignore[arg-type]
    for x in leaves:
        x.requires_grad_()
    return leaves, function(*leaves)[chosen]


def _gradients(leaves: Sequence[Any]) -> list[Result]:
    return _collected([x.grad for x in leaves], leaves)


def _collected(grads: Sequence[Any], leaves: Sequence[Any]) -> list[Result]:
    """The gradients as plain data; that of a leaf that no result depends on is zeros."""
    zeros = [calls.full(x.shape, 0, dtype=x.dtype, device=x._backend) for x in leaves]
    return plain(z if g is None else g for g, z in zip(grads, zeros, strict=True))


def _doubled(r: Result) -> Result:
    return r._replace(data=tuple(r.dtype.unpack(r.dtype.pack([x + x for x in r.data]))))


def _equal(got: Sequence[Result], expected: Sequence[Result], when: str) -> None:
    """Bit for bit: the same kernels ran on the same numbers."""
    for n, (a, e) in enumerate(zip(got, expected, strict=True)):
        if repr(a.data) != repr(e.data):
            raise Disagreement(f"tensor {n} {when} is {_few(a)}, expected {_few(e)}")


def _few(r: Result) -> str:
    return str(list(r.data[:4]))[:-1] + (", ...]" if len(r.data) > 4 else "]")


def _alone(leaves: Sequence[Any], g: Any) -> None:
    """Change the gradient of each leaf in place: the others, the leaves and the cotangent stay as they are."""
    for n, x in enumerate(leaves):
        if x.grad is None:
            continue
        others = [y.grad for k, y in enumerate(leaves) if k != n and y.grad is not None]
        before = plain([*others, *leaves, g])
        x.grad += 1
        if x.size:
            x.grad[...] = 7
        after = plain([*others, *leaves, g])
        _equal(after, before, f"beside the gradient of leaf {n}, which was changed in place,")


def _refused(y: Any, g: Any) -> None:
    try:
        y.backward(g)
    except GradientError as error:
        if "retain_graph" not in str(error):
            raise Disagreement(
                f"a second pass through a freed graph is refused in other words: {error}"
            ) from error
    else:
        raise Disagreement("a second pass through a freed graph is not refused")
