"""Products of matrices as the beginning of an element-wise group: bias, activation, scale and residual in one kernel with it.

A group of full values alone may take over the product whose result only it reads, be it reshaped in between. Its kernel
then gets the product's operands, and takes the result while that is in the cache. Whether it pays is for the backend to
say (``Backend.fuses``), which may also decline (``Backend.emit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .graph import Step


def produce(order: Sequence[Any], kept: set[str], backend: Any) -> list[Any]:
    """The nodes of a program, groups and steps in ``order``, without the products that groups have taken over; ``kept``:
    names of the program's results.
    """
    made = {y.name: node for node in order if isinstance(node, Step) for y in node.outputs}
    readers: dict[str, set[int]] = {}
    for node in order:
        views = [] if isinstance(node, Step) else [x for v in node.views for x in v.arrays]
        for x in [*(node.arrays if isinstance(node, Step) else node.inputs), *views]:
            readers.setdefault(x.name, set()).add(id(node))

    def source(x: Any, reader: Any) -> Any:
        """The step that makes an array which nothing else reads."""
        alone = readers[x.name] == {id(reader)} and x.name not in kept
        return made.get(x.name) if alone else None

    taken: set[int] = set()
    for group in order:
        if isinstance(group, Step) or set(group.kinds.values()) != {"full"} or group.copies:
            continue
        for x in group.inputs:
            steps = [source(x, group)] if x.shape == group.shape else [None]
            if steps[0] is not None and steps[0].op.name == "reshape":
                steps.insert(0, source(steps[0].arrays[0], steps[0]))
            if steps[0] is None or steps[0].op.name != "matmul" or not backend.fuses(steps[0]):
                continue
            group.product = steps
            group.inputs = [x, *(y for y in group.inputs if y is not x)]
            taken.update(map(id, steps))
            break
    return [node for node in order if id(node) not in taken]
