"""L-BFGS: quasi-Newton steps from the last changes of parameters and gradients.

The one optimizer that reads values: how far it goes depends on them. So its steps are not made for a compiled
program, and it takes a function that computes the loss again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ..autograd import enable_grad, no_grad
from ..dtypes import float64
from ..errors import ArgumentError, CheckpointError
from ..op import calls
from ..ops.creation import full, zeros_like
from ..ops.interchange import asarray
from ..tensor import Tensor
from .optimizer import Group, Optimizer


class Point(NamedTuple):
    """A point on the line of search: step length, loss, gradient, and slope along the direction."""

    t: float
    loss: float
    gradient: Tensor
    slope: float


class LBFGS(Optimizer):
    """L-BFGS (Nocedal, Math. Comp. 35, 1980; Nocedal and Wright, Numerical Optimization, algorithms 7.4, 3.5
    and 3.6), with PyTorch's arguments and defaults.

    ``step(closure)`` makes up to ``max_iter`` iterations, with at most ``max_eval`` (5/4 of that unless given)
    calls of ``closure``, which computes loss and gradients; it ends when the largest gradient is at most
    ``tolerance_grad``, or loss or parameters change by less than ``tolerance_change``. The step length is
    ``lr``, or with ``line_search_fn="strong_wolfe"`` is searched for, from lr on. The last ``history_size``
    changes are kept. All parameters form one group, on one device and of one dtype; one without a gradient
    counts as having zeros.

    Example::

        optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            loss = corelib.cross_entropy(model(x), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
    """

    shared: ClassVar[dict[str, float]] = {}

    def __init__(
        self, params: Any, lr: float | Tensor = 1, max_iter: int = 20, max_eval: int | None = None, tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9, history_size: int = 100, line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(
            params,
            {
                "lr": lr, "max_iter": max_iter, "max_eval": max_eval, "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change, "history_size": history_size, "line_search_fn": line_search_fn,
            },
        )  # fmt: skip
        self._numbers = {"n_iter": 0.0, "func_evals": 0.0, "t": 0.0, "prev_loss": 0.0}
        self._vectors: dict[str, Tensor] = {}  # d, prev_flat_grad, H_diag
        self._history: list[
            tuple[Tensor, Tensor, Tensor]
        ] = []  # change of gradient y, of parameters s, 1 / s y

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if options["line_search_fn"] not in (None, "strong_wolfe"):
            raise ArgumentError(
                f"LBFGS: line_search_fn must be None or 'strong_wolfe', got {options['line_search_fn']!r}"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """The one group; a second is refused, and so are parameters of several devices or dtypes."""
        if self.param_groups:
            raise ArgumentError("LBFGS has one group of parameters: give them all at once")
        super().add_param_group(param_group)
        kinds = {(p._backend, p.dtype) for p in self.param_groups[0]["params"]}
        if len(kinds) > 1:
            raise ArgumentError(
                f"LBFGS needs parameters of one device and dtype, got {', '.join(sorted(f'{d.name} on {b.device!r}' for b, d in kinds))}"
            )

    # -- a step ----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Iterate; returns the loss of the first evaluation. ``closure`` computes and returns the loss, and
        calls ``backward()`` on it.
        """
        if closure is None:
            raise ArgumentError("LBFGS.step needs a closure that computes the loss and its gradients")
        group = self.param_groups[0]

        def evaluate() -> Any:
            with enable_grad():
                return closure()

        with no_grad():
            first = evaluate()
            self._iterate(group, float(first), evaluate)
        return first

    def _iterate(self, group: Group, loss: float, evaluate: Callable[[], Any]) -> None:
        numbers, vectors = self._numbers, self._vectors
        lr, most, small = float(group["lr"]), group["max_iter"], group["tolerance_change"]
        gradient, calls_made = self._gradient(), 1
        numbers["func_evals"] += 1
        if self._flat(gradient, group):
            return
        for iteration in range(1, most + 1):
            numbers["n_iter"] += 1
            direction = self._direction(gradient, group)
            vectors["d"], vectors["prev_flat_grad"], numbers["prev_loss"] = direction, gradient, loss
            t = lr
            if numbers["n_iter"] == 1:
                total = calls.sum(calls.abs(gradient)).item()
                t = min(1.0, 1.0 / total) * lr
            slope = _dot(gradient, direction).item()
            if slope > -small:
                numbers["t"] = t
                return
            evaluations = 0
            if group["line_search_fn"]:
                start = [p.detach() for p in group["params"]]

                def at(t: float, start: Any = start, direction: Tensor = direction) -> Point:
                    self._move(start, t, direction)
                    loss = float(evaluate())
                    g = self._gradient()
                    return Point(t, loss, g, _dot(g, direction).item())

                found, evaluations = strong_wolfe(
                    at, t, Point(0.0, loss, gradient, slope), calls.max(calls.abs(direction)).item(), small
                )
                t, loss, gradient, _ = found
                self._move(start, t, direction)
            else:
                self._move([p.detach() for p in group["params"]], t, direction)
                if iteration < most:
                    loss, gradient, evaluations = float(evaluate()), self._gradient(), 1
            numbers["t"] = t
            calls_made += evaluations
            numbers["func_evals"] += evaluations
            if (
                iteration == most
                or calls_made >= group["max_eval"]
                or self._flat(gradient, group)
                or calls.max(calls.abs(direction)).item() * t <= small
                or abs(loss - numbers["prev_loss"]) < small
            ):
                return

    def _direction(self, gradient: Tensor, group: Group) -> Tensor:
        """Minus the approximate inverse of the Hessian times the gradient, by the two loops over the history."""
        if self._numbers["n_iter"] == 1:
            self._history.clear()
            self._vectors["H_diag"] = full((), 1.0, dtype=gradient.dtype, device=gradient._backend)
            return calls.negative(gradient)
        y = calls.subtract(gradient, self._vectors["prev_flat_grad"])
        s = calls.multiply(self._vectors["d"], self._numbers["t"])
        ys = _dot(y, s)
        if ys.item() > 1e-10:  # otherwise the curvature says nothing: the history stays
            if len(self._history) == group["history_size"]:
                self._history.pop(0)
            self._history.append((y, s, calls.divide(1, ys)))
            self._vectors["H_diag"] = calls.divide(ys, _dot(y, y))
        q, weights = calls.negative(gradient), []
        for y, s, inverse in reversed(self._history):
            weight = calls.multiply(_dot(s, q), inverse)
            weights.append(weight)
            q = calls.subtract(q, calls.multiply(y, weight))
        q = calls.multiply(q, self._vectors["H_diag"])
        for (y, s, inverse), weight in zip(self._history, reversed(weights), strict=True):
            q = calls.add(q, calls.multiply(s, calls.subtract(weight, calls.multiply(_dot(y, q), inverse))))
        return q

    def _gradient(self) -> Tensor:
        """All gradients as one vector."""
        parts = [
            calls.reshape(p.grad if p.grad is not None else zeros_like(p), (-1,))
            for p in self.param_groups[0]["params"]
        ]
        return calls.concat(parts).detach()

    def _flat(self, gradient: Tensor, group: Group) -> bool:
        return calls.max(calls.abs(gradient)).item() <= group["tolerance_grad"]

    def _move(self, start: list[Tensor], t: float, direction: Tensor) -> None:
        """Put the parameters at ``start + t direction``."""
        offset = 0
        for p, value in zip(self.param_groups[0]["params"], start, strict=True):
            part = calls.reshape(direction[offset : offset + p.size], p.shape)
            p._rebind(calls.add(value, calls.multiply(part, t)))
            offset += p.size

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`Optimizer.state_dict`; all state is that of parameter 0. Vectors and numbers have
        PyTorch's names; the history is two matrices and a vector, one row for each change.
        """
        found = super().state_dict()
        if self._vectors:
            state = {k: asarray(v, dtype=float64) for k, v in self._numbers.items()}
            state |= {k: v.detach() for k, v in self._vectors.items()}
            for name, column in zip(_HISTORY, zip(*self._history, strict=True), strict=False):
                state[name] = calls.stack(list(column))
            found["state"] = {0: state}
        return found

    def _checked(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        take_over_options = super()._checked({**state_dict, "state": {}})
        numbers, vectors, history = dict.fromkeys(self._numbers, 0.0), {}, []
        params = self.param_groups[0]["params"]
        size, dtype = sum(p.size for p in params), params[0].dtype
        for state in state_dict["state"].values():
            required = {*self._numbers, "d", "prev_flat_grad", "H_diag"}
            if not required <= set(state) <= required | set(_HISTORY):
                raise CheckpointError(
                    f"load_state_dict: LBFGS needs {', '.join(sorted(required))}, the state has {', '.join(sorted(state))}"
                )
            value = {k: v if isinstance(v, Tensor) else asarray(v, copy=True) for k, v in state.items()}
            kept = value["old_dirs"].shape[0] if "old_dirs" in value else 0
            shapes: dict[str, tuple[int, ...]] = {"d": (size,), "prev_flat_grad": (size,), "H_diag": ()}
            shapes |= {"old_dirs": (kept, size), "old_stps": (kept, size), "ro": (kept,)} if kept else {}
            for name, shape in shapes.items():
                if name not in value or (value[name].shape, value[name].dtype) != (shape, dtype):
                    got = value[name].shape if name in value else "nothing"
                    raise CheckpointError(
                        f"load_state_dict: {name} of LBFGS must be {dtype.name}{list(shape)}, got {got}"
                    )
                value[name] = calls.to(value[name], params[0]._backend)
            numbers = {k: value[k].item() for k in numbers}
            vectors = {k: value[k].detach() for k in ("d", "prev_flat_grad", "H_diag")}
            history = [tuple(value[name][i] for name in _HISTORY) for i in range(kept)]

        def take_over() -> None:
            take_over_options()
            self._numbers, self._vectors, self._history = numbers, vectors, history  # type: ignore[assignment]

        return take_over


_HISTORY = ("old_dirs", "old_stps", "ro")


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return calls.sum(calls.multiply(a, b))


# -- the search along a line ---------------------------------------------------------------------------------


def strong_wolfe(
    at: Callable[[float], Point], t: float, start: Point, size: float, smallest: float, most: int = 25
) -> tuple[Point, int]:
    """A point that satisfies the strong conditions of Wolfe (c1 = 1e-4, c2 = 0.9), or the best that was found,
    and the number of evaluations.

    Nocedal and Wright, algorithms 3.5 and 3.6, with the cubic interpolation and the safeguards of minFunc (M.
    Schmidt, 2005). ``at(t)`` evaluates; ``start`` is the point at 0; ``size`` is the largest magnitude in the
    direction: the search ends when an interval moves no parameter by more than ``smallest``.
    """

    def too_high(p: Point) -> bool:
        return p.loss > start.loss + 1e-4 * p.t * start.slope

    def flat(p: Point) -> bool:
        return abs(p.slope) <= -0.9 * start.slope

    before, point = start, at(t)
    evaluations, bracket = 1, None
    for i in range(most):
        if too_high(point) or (i > 1 and point.loss >= before.loss):
            bracket = [before, point]
        elif flat(point):
            return point, evaluations
        elif point.slope >= 0:
            bracket = [before, point]
        if bracket is not None:
            break
        low, high = point.t + 0.01 * (point.t - before.t), point.t * 10
        before, point = point, at(_cubic(before, point, low, high))
        evaluations += 1
    if bracket is None:  # out of evaluations
        return min(start, point, key=lambda p: p.loss), evaluations
    bracket.sort(key=lambda p: p.loss)  # the lower first
    near_edge = False
    while evaluations <= most:
        low, high = min(p.t for p in bracket), max(p.t for p in bracket)
        if (high - low) * size < smallest:
            break
        t, margin = _cubic(bracket[0], bracket[1], low, high), 0.1 * (high - low)
        if min(high - t, t - low) < margin:
            if near_edge or t >= high or t <= low:
                t, near_edge = (high - margin if abs(t - high) < abs(t - low) else low + margin), False
            else:
                near_edge = True
        else:
            near_edge = False
        point = at(t)
        evaluations += 1
        if too_high(point) or point.loss >= bracket[0].loss:
            bracket = sorted((bracket[0], point), key=lambda p: p.loss)
            continue
        if flat(point):
            return point, evaluations
        turned = point.slope * (bracket[1].t - bracket[0].t) >= 0
        bracket = [point, bracket[0] if turned else bracket[1]]
    return bracket[0], evaluations


def _cubic(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through two points with their slopes has its minimum, kept within [low, high] (Nocedal
    and Wright, formula 3.59); the middle if there is none.
    """
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * d2
    if not divisor:
        return (low + high) / 2
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / divisor), low), high)
