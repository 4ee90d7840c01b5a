"""A table of what is in a model and of what a call of it costs."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..autograd import no_grad
from ..ops.creation import full
from ..tree import tensors
from .module import Module


class Row(NamedTuple):
    """One module: where it is, what it is, the shape of its result, its own parameters, its own additions and
    multiplications, and the bytes of its result.
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int
    bytes: int


class Summary:
    """Rows in the order of the calls' ends within a parent, parents first; ``str`` of it is the table.

    ``parameters``, ``trainable``, ``flops``, ``parameter_bytes`` (with buffers) and ``activation_bytes`` (the results of
    the modules that have no modules below them) are totals, in which what is shared counts once.
    """

    def __init__(self, model: Module, rows: list[Row], leaves: set[str]) -> None:
        self.rows = rows
        self.parameters = _count(p.size for p in model.parameters())
        self.trainable = _count(p.size for p in model.parameters() if p.requires_grad)
        self.flops = _count(row.flops for row in rows)
        self.parameter_bytes = _count(
            t.size * t.dtype.itemsize for t in [*model.parameters(), *model.buffers()]
        )
        self.activation_bytes = _count(row.bytes for row in rows if row.path in leaves)

    def __str__(self) -> str:
        head = ("module", "kind", "output", "parameters", "FLOPs", "memory")
        cells = [head]
        for row in self.rows:
            shape = "" if row.shape is None else str(list(row.shape))
            shown = (
                row.path or "(all)",
                row.kind,
                shape,
                f"{row.parameters:,}",
                _short(row.flops),
                _short(row.bytes, "B"),
            )
            cells.append(shown)
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))).rstrip()
                 for line in cells]  # fmt: skip
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append(lines[1])
        lines.append(
            f"{self.parameters:,} parameters ({self.trainable:,} trainable), {_short(self.flops)} FLOPs, "
            f"{_short(self.parameter_bytes, 'B')} of state, {_short(self.activation_bytes, 'B')} of results"
        )
        return "\n".join(lines)

    __repr__ = __str__


def _count(numbers: Any) -> int:
    return sum(numbers)


def _short(number: float, unit: str = "") -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000 or prefix == "T":
            break
        number /= 1000
    return f"{number:.3g} {prefix}{unit}".rstrip()


def summary(model: Module, *inputs: Any, dtype: Any = "float32", device: Any = None) -> Summary:
    """Call ``model`` once, in evaluation mode and without recording, and say what each module gave and took.

    ``inputs``: tensors, or shapes, for which zeros of ``dtype`` are made on ``device`` (by default that of the model's
    first parameter). A module that is called several times has one row, with the sums of its calls. FLOPs are those that
    ``Module.flops`` counts: products of matrices, convolutions and attention.

    Example: ``nn.summary(nn.Linear(3, 2), (4, 3)).flops`` is ``48``.
    """
    first = next(model.parameters(), None)
    device = device if device is not None or first is None else first._backend
    args = [
        full(tuple(x), 0, dtype=dtype, device=device) if isinstance(x, tuple | list) else x for x in inputs
    ]
    found: dict[int, list[Any]] = {}

    def watch(module: Module, given: tuple[Any, ...], result: Any) -> None:
        entry = found.setdefault(id(module), [None, 0, 0])
        results = tensors([result])
        entry[0] = results[0].shape if results else None
        entry[1] += module.flops(results[0], *given) if results else 0
        entry[2] += _count(t.size * t.dtype.itemsize for t in results)

    modules = dict(model.named_modules())
    modes = {path: module.training for path, module in modules.items()}
    handles = [module.register_forward_hook(watch) for module in modules.values()]
    try:
        with no_grad():
            model.eval()(*args)
    finally:
        for handle in handles:
            handle.remove()
        for path, module in modules.items():
            object.__setattr__(module, "training", modes[path])
    rows = []
    for path, module in modules.items():
        shape, flops, size = found.get(id(module), (None, 0, 0))
        own = _count(p.size for p in module.parameters(recurse=False))
        rows.append(Row(path, type(module).__name__, shape, own, flops, size))
    leaves = {path for path, module in modules.items() if not any(True for _ in module.children())}
    return Summary(model, rows, leaves)
