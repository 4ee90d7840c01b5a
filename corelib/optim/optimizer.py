"""What optimizers share: groups of parameters, state, and the order in which things happen.

Everything that changes from step to step is a tensor: moments, step counts, learning rates. A step is a
sequence of ops and of rebindings of these tensors, and reads no value, so that it can be traced once and
replayed. Parameters that have always been updated together form a cohort and share one step count, so that
what depends on it is computed once and not per parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..autograd import enable_grad, no_grad
from ..backend import Backend
from ..dtypes import float64
from ..errors import ArgumentError, CheckpointError
from ..op import calls
from ..ops.creation import full, zeros_like
from ..ops.interchange import asarray
from ..ops.subscript import sole
from ..registry import active_backends, registry
from ..tensor import Tensor

REPEATED = 1 << 22  # elements; making a program takes copies of all of them, to compare


class Group(dict[str, Any]):
    """Options of some parameters: ``group["lr"] = 0.1`` keeps the tensor that holds the learning rate and
    changes its value. ``initial_lr`` is what the first schedule found, None without one.
    """

    initial_lr: float | None = None

    def __setitem__(self, key: str, value: Any) -> None:
        old = self.get(key)
        if key == "lr" and isinstance(old, Tensor):
            if value is not old:
                old._rebind(_rate(value, old._backend))
        else:
            super().__setitem__(key, value)


def _rate(value: Any, device: Any) -> Tensor:
    """A learning rate as a 0-d float64 tensor."""
    rate = asarray(value, dtype=float64, device=device).detach()
    if rate.shape != ():
        raise ArgumentError(f"lr must be a number or a 0-d tensor, got shape {rate.shape}")
    return rate


class Cohort:
    """Parameters of one device and dtype that have been updated the same number of times, with the numbers
    that they ``share``, such as the step count: 0-d float64 tensors by name.

    ``begun``: whether they have been updated at all.
    """

    __slots__ = ("begun", "params", "shared")

    def __init__(self, params: list[Tensor], shared: dict[str, Tensor], begun: bool = True) -> None:
        self.params, self.shared, self.begun = params, shared, begun

    def count(self) -> Tensor:
        """Add 1 to the step count; returns it."""
        step = self.shared["step"]
        step._rebind(calls.add(step, 1))
        return step

    def scalars(self, *numbers: Tensor) -> list[Tensor]:
        """0-d tensors in the dtype of the parameters, where they are."""
        p = self.params[0]
        return [calls.astype(calls.to(x, p._backend), p.dtype) for x in numbers]


def _advance(backend: Backend, optimizer: Optimizer) -> None:
    """A step of an optimizer, as what is recorded."""
    optimizer._advance()


class Optimizer:
    """Base of the optimizers. ``params``: tensors that collect a gradient, pairs (name, tensor), or groups
    ``{"params": [...], "lr": 0.1}``.

    ``param_groups`` is the list of groups; ``state[p]`` are the tensors kept for parameter p. Subclasses
    define ``_start`` and ``_update``, and which numbers parameters ``share``, with their first values. With ``recorded``
    true, a step on a device that runs programs becomes one by itself after some steps.
    """

    shared: ClassVar[dict[str, float]] = {"step": 0.0}
    recorded: ClassVar[bool] = False  # whether ``_update`` does nothing besides updating tensors

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "recorded" not in vars(cls) and "_update" in vars(cls):
            cls.recorded = False

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._repeated: Any = None
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._cohorts: list[list[Cohort]] = []
        if isinstance(params, Tensor):
            raise ArgumentError(
                f"{type(self).__name__} needs an iterable of parameters, got one tensor: pass [x]"
            )
        groups = list(params)
        if not groups:
            raise ArgumentError(f"{type(self).__name__} got no parameters: pass model.parameters()")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; options that are left out take the defaults."""
        given = dict(param_group)
        found = given.pop("params", ())
        params = [
            p[1] if isinstance(p, tuple) else p for p in ([found] if isinstance(found, Tensor) else found)
        ]
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise ArgumentError(
                    f"{type(self).__name__}: parameter {i} must be a Tensor, got {type(p).__name__}"
                )
            if not p.is_leaf:
                raise ArgumentError(
                    f"{type(self).__name__}: parameter {i} of shape {p.shape} has a history: only leaves can be optimized"
                )
            if id(p) in known:
                raise ArgumentError(f"{type(self).__name__}: parameter {i} of shape {p.shape} is given twice")
            known.add(id(p))
        unknown = [k for k in given if k not in self.defaults]
        if unknown:
            from ..errors import nearest

            raise ArgumentError(
                f"{type(self).__name__} has no option {unknown[0]!r}{nearest(unknown[0], self.defaults)}"
            )
        options = {**self.defaults, **given}
        self._check(options)
        options["lr"] = _rate(options["lr"], params[0]._backend if params else None)
        self.param_groups.append(Group(params=params, **options))
        self._cohorts.append([])

    def _check(self, options: dict[str, Any]) -> None:
        """Raise ArgumentError for options out of range."""
        for key in ("lr", "weight_decay", "eps", "momentum", "lr_decay", "momentum_decay"):
            value = options.get(key, 0)
            if not isinstance(value, Tensor) and not value >= 0:
                raise ArgumentError(f"{type(self).__name__}: {key} must not be negative, got {value}")
        for i, beta in enumerate(options.get("betas", ())):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{type(self).__name__}: betas[{i}] must be in [0, 1), got {beta}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or set those that exist to zero."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = None if set_to_none else zeros_like(p)

    # -- a step ----------------------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. ``closure``, if given, is called first with recording
        on; its value is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            if self._repeated is None and self.state and self._repeats():
                from ..compile.repeated import Repeated

                self._repeated = Repeated()
            if self._repeated is None or active_backends():
                self._advance()
            else:
                self._repeated(_advance, registry.current(), self)
        return loss

    def _repeats(self) -> bool:
        """Whether steps become a program: where that is one call, for parameters whose kernels are not much longer than
        the calls of them.
        """
        if not self.recorded or active_backends() or registry.current().__class__.link is Backend.link:
            return False
        return sum(p.size for group in self.param_groups for p in group["params"]) <= REPEATED

    def _advance(self) -> None:
        """Update every parameter that has a gradient."""
        for group, cohorts in zip(self.param_groups, self._cohorts, strict=True):
            for cohort in self._ready(group, cohorts):
                self._update(group, cohort)

    def _ready(self, group: Group, cohorts: list[Cohort]) -> list[Cohort]:
        """The cohorts to update: those whose parameters have gradients, split where only some have, and new
        ones for new parameters.
        """
        state = self.state
        fresh = [p for p in group["params"] if p not in state and p.grad is not None]
        if fresh:
            self._admit(group, cohorts, fresh)
        ready = []
        for cohort in list(cohorts):
            active = [p for p in cohort.params if p.grad is not None]
            if len(active) < len(cohort.params):
                if not active:
                    continue
                resting = [p for p in cohort.params if p.grad is None]
                cohorts.append(Cohort(resting, self._count_again(cohort.shared, resting)))
                cohort.params = active
            ready.append(cohort)
        return ready

    def _admit(self, group: Group, cohorts: list[Cohort], fresh: list[Tensor]) -> None:
        """Make the state of parameters that get their first gradient."""
        kinds: dict[Any, list[Tensor]] = {}
        for p in fresh:
            kinds.setdefault((p._backend, p.dtype), []).append(p)
        for (backend, _), params in kinds.items():
            shared = {k: full((), v, dtype=float64, device=backend) for k, v in self.shared.items()}
            for p in params:
                self.state[p] = {**shared, **self._start(group, p)}
            cohorts.append(Cohort(params, shared, begun=False))

    def _count_again(self, shared: dict[str, Tensor], params: list[Tensor]) -> dict[str, Tensor]:
        """A step count of their own for some parameters of a cohort, and whatever else they shared."""
        own = {k: v.detach() for k, v in shared.items()}
        for p in params:
            self.state[p].update(own)
        return own

    def _apply(
        self, op: Callable[..., Any], p: Tensor, kept: Sequence[str], scalars: Sequence[Tensor], extra: Sequence[str] = (),
        *, maximize: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        """Rebind ``p`` and its state to what an update op makes of them: ``op(p, g, *kept, *scalars,
        *extra)``.

        ``extra`` names state that not every group keeps.
        """
        state, g = self.state[p], p.grad
        assert g is not None
        g = calls.negative(g) if maximize else g
        before, after = [state[name] for name in kept], [state.get(name) for name in extra]
        tensors = [t for t in (*before, *after) if t is not None]
        alone = sole(p, g) and all(sole(t, p, g) for t in tensors)
        while after and after[-1] is None:
            after.pop()
        new = op(p, g, *before, *scalars, *after, overwrite=alone, **options)
        for old, value in zip((p, *tensors), new if isinstance(new, tuple) else (new,), strict=True):
            old._rebind(value)

    def _start(self, group: dict[str, Any], p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first update."""
        raise NotImplementedError

    def _update(self, group: Group, cohort: Cohort) -> None:
        """Update the parameters of a cohort, each of which has a gradient."""
        raise NotImplementedError

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: tensors}, "param_groups": [options]}``, with parameters numbered in the order
        of the groups.

        The values are those of now: later steps do not change them.
        """
        numbers = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        state = {
            numbers[id(p)]: {k: v.detach() for k, v in tensors.items()} for p, tensors in self.state.items()
        }
        groups = [
            {
                k: [numbers[id(p)] for p in v]
                if k == "params"
                else v.detach()
                if isinstance(v, Tensor)
                else v
                for k, v in group.items()
            }
            for group in self.param_groups
        ]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a :meth:`state_dict` of an optimizer of the same kind over parameters of the same shapes,
        in the same order.

        Everything is checked before anything is changed. Raises CheckpointError with what does not fit.
        """
        self._checked(state_dict)()

    def _checked(self, state_dict: dict[str, Any]) -> Callable[[], None]:
        """A function that takes the state over; CheckpointError now if it does not fit."""
        name = type(self).__name__
        groups, state = state_dict["param_groups"], state_dict["state"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise CheckpointError(
                f"load_state_dict: {name} has groups of {own} parameters, the state has groups of {sizes}"
            )
        params = [p for g in self.param_groups for p in g["params"]]
        loaded: dict[Tensor, dict[str, Tensor]] = {}
        for group, theirs in zip(self.param_groups, groups, strict=True):
            if set(theirs) != set(group):
                different = sorted(set(theirs) ^ set(group))
                raise CheckpointError(
                    f"load_state_dict: the state is not one of {name}: options that differ: {', '.join(different)}"
                )
        owner = {
            id(p): t for g, t in zip(self.param_groups, groups, strict=True) for p in g["params"]
        }  # options come with the state
        for number, tensors in state.items():
            if not 0 <= int(number) < len(params):
                raise CheckpointError(
                    f"load_state_dict: the state is of parameter {number}, {name} has {len(params)}"
                )
            p = params[int(number)]
            wanted = {
                **{k: full((), v, dtype=float64) for k, v in self.shared.items()},
                **self._start(owner[id(p)], p),
            }
            if set(tensors) != set(wanted):
                raise CheckpointError(
                    f"load_state_dict: parameter {number} needs {', '.join(wanted)} for {name}, the state has {', '.join(tensors)}"
                )
            loaded[p] = {}
            for key, template in wanted.items():
                value = tensors[key]
                value = value.detach() if isinstance(value, Tensor) else asarray(value, copy=True)
                if key in self.shared:
                    value = calls.astype(value, float64)
                if (value.shape, value.dtype) != (template.shape, template.dtype):
                    raise CheckpointError(
                        f"load_state_dict: {key} of parameter {number} must be {template.dtype.name}{list(template.shape)}, "
                        f"got {value.dtype.name}{list(value.shape)}"
                    )
                loaded[p][key] = calls.to(value, p._backend)

        def take_over() -> None:
            for group, theirs in zip(self.param_groups, groups, strict=True):
                for key, value in theirs.items():
                    if key != "params":
                        group[key] = tuple(value) if isinstance(value, list) else value
            self.state = loaded
            self._form_cohorts()

        return take_over

    def _form_cohorts(self) -> None:
        """Parameters with equal step counts share one from now on."""
        self._cohorts = []
        for group in self.param_groups:
            found: dict[Any, Cohort] = {}
            for p in group["params"]:
                if p not in self.state:
                    continue
                shared = {k: self.state[p][k] for k in self.shared}
                key = (p._backend, p.dtype, *[t.item() for t in shared.values()])
                cohort = found.setdefault(key, Cohort([], shared))
                cohort.params.append(p)
                self.state[p].update(cohort.shared)
            self._cohorts.append(list(found.values()))

    def __repr__(self) -> str:
        lines = []
        for group in self.param_groups:
            count = sum(p.size for p in group["params"])
            options = ", ".join(
                f"{k}={v.item() if isinstance(v, Tensor) else v}" for k, v in group.items() if k != "params"
            )
            lines.append(f"  {len(group['params'])} tensors, {count:,} parameters: {options}")
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"
