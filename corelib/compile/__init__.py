"""From recorded programs to kernels. ``corelib.compile`` is the function below; the modules here are its parts.

Nothing is imported here before it is needed: :mod:`corelib.compile.graph` stands low (backends with an emitter read
it), the rest high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def compile(fn: Callable[..., Any] | None = None, /, *, static: Iterable[int | str] = ()) -> Any:
    """``fn`` recorded once for each kind of arguments and repeated from then on, as a function or as a decorator.

    The first call with tensors of some shapes and dtypes runs ``fn`` on tensors without values and writes down what it
    does: ops, gradients, assignments to tensors, the steps of optimizers. From then on calls with such arguments run that
    program: compiled by the backend if it can, otherwise kernel by kernel. Arguments and results are tensors, Python
    numbers and words, modules, optimizers, and lists, tuples and dictionaries of these; parameters, buffers, moments and
    random counters are read at each call and assigned to after it, as ``fn`` does it.

    What else ``fn`` sees (numbers among the arguments, attributes of modules, options of optimizers, global variables,
    whether gradients are recorded) is tested at each call, and when something has changed ``fn`` is recorded again, up to 32
    times. A value cannot be read: a branch on one raises :class:`corelib.TraceError` with the line and the ways out.
    ``static``: positions and names of arguments of which ``fn`` gets the Python numbers (``x.tolist()``), read at each
    call, instead of the tensor; Python values among the arguments are static by themselves.

    Example::

        @corelib.compile
        def step(x, labels):
            optimizer.zero_grad()
            loss = corelib.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        print(step.explain())
    """
    from .api import compiled

    if fn is None:
        return lambda given: compiled(given, static)
    return compiled(fn, static)


def eager(fn: Callable[..., Any], /) -> Callable[..., Any]:
    """``fn`` as a function that a compiled one calls as it is, with the values of tensors known: a decorator.

    It may read values and branch on them. It must give tensors, always of the same shapes and dtypes, and must not assign
    to tensors that the compiled function uses. It is called where it stands, also when nobody uses its result, which it
    gives a derivative by being differentiated where it is called.

    Example::

        @corelib.compile.eager
        def clipped(g):
            norm = float((g * g).sum()) ** 0.5
            return g / norm if norm > 1 else g

        corelib.compile(lambda x: 2 * clipped(x))(x)
    """
    from .eager import eager as uncompiled

    return uncompiled(fn)


def load(path: Any, device: str | None = None) -> Any:
    """A program that ``compiled.save(path)`` wrote, as a function of the tensors among the arguments, in order, on
    ``device`` (where tensors are being created unless given). It needs neither the function nor its modules: parameters
    and other state are in the file, and in ``.state`` afterwards.

    Raises CheckpointError for a file that is damaged, from a later version, or no program.

    Example::

        double = corelib.compile(lambda x: 2 * x)
        double(x)
        double.save("double.safetensors")
        corelib.compile.load("double.safetensors")(x)
    """
    from .saved import load as loaded

    return loaded(path, device)


compile.eager = eager  # type: ignore[attr-defined]
compile.load = load  # type: ignore[attr-defined]
