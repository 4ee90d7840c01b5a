"""The family ``dispatch``: each op runs, and it is the backend itself that carries it out (``provenance.py``).

Every sample of an op is run on the backend alone, and watched: a backend that calls another one silently, hands
out the arrays of another, or has a kernel that says that it is not supported, is found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ..errors import UnsupportedError
from ..tensor import Tensor
from ..tree import flatten
from .cases import Case, groups, planned
from .check import Suite
from .compare import Disagreement
from .families import BOUNDED, Plan, family
from .oracle import as_run
from .place import arguments
from .provenance import ELSEWHERE, NATIVE, how, is_own, own_types, watched


def samples(plan: Plan) -> Iterator[Case]:
    """For each op and dtype one case, with all cases of values and layouts in it (in profile smoke the first)."""
    calls = [c for c in planned(plan) if c.what in ("value", "layout") and not c.problem]
    for (op, dtype), found in groupby(calls, key=lambda c: (c.op, c.dtype)):
        chosen = tuple(found)[: 1 if plan.profile == "smoke" else None]
        yield Case(op, dtype, "dispatch", 0, chosen[0].sample, data=chosen)


@family("dispatch", level=0, profiles=BOUNDED, generate=samples)
def dispatch(suite: Suite, case: Case) -> None:
    """The op runs on this backend's own kernel, or on what the core makes of others of its own."""
    backend, op = suite.backend, case.op
    types = own_types(backend)
    for call in case.data:
        sample = as_run(call)
        args, kwargs = arguments(op, sample, backend, call.placement)
        with watched(backend) as (seen, strangers):
            try:
                result = op.fn(*args, **kwargs)
            except UnsupportedError as error:
                result = error
        if strangers:
            raise Disagreement(f"{call.id}: not the backend's own work: it ran {strangers[0]}")
        if isinstance(result, UnsupportedError):
            if how(op, case.dtype, backend) == NATIVE and not groups(call) & suite.lacks:
                raise Disagreement(
                    f"{call.id}: the backend has a kernel, and that raises UnsupportedError: {result}"
                )
            raise result
        for y in flatten(result)[0]:
            if isinstance(y, Tensor) and not is_own(y._data, types):
                raise Disagreement(
                    f"{call.id}: the result is a {type(y._data).__module__}.{type(y._data).__qualname__}, "
                    f"the backend's arrays are {', '.join(sorted(t.__module__ + '.' + t.__qualname__ for t in types))}"
                )
    if op.index in seen and how(op, case.dtype, backend) == ELSEWHERE:
        raise Disagreement("it ran on another backend")
