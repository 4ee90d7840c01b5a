"""Module: parameters and the computation that uses them, under PyTorch's names.

The attributes of a module are its contents: whatever is a Parameter, a registered buffer or a Module belongs
to it, also inside lists, tuples and dictionaries, in the order in which it was assigned. There is no second
table that could disagree with the attributes, and a subclass need not call ``super().__init__()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from ..autograd import no_grad
from ..dtypes import FLOATING, HALF, DType, as_dtype
from ..errors import ArgumentError, CheckpointError, CorelibError, DTypeError, nearest
from ..op import calls
from ..ops.interchange import asarray
from ..tape import Leaf
from ..tensor import Tensor
from .hooks import BackwardHooks, Handle

_LEARNED = FLOATING + HALF  # what a parameter may be of

M = TypeVar("M", bound="Module")
_INTERNAL = frozenset(("_buffers", "_hooks", "training"))


class Parameter(Tensor):
    """A tensor that a module learns: a leaf that collects a gradient.

    ``data`` is a tensor, which is shared, since tensors are values, or anything ``corelib.asarray`` takes, which
    is copied.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        x = asarray(data, copy=None if isinstance(data, Tensor) else True)
        super().__init__(x._data, x._backend)
        if requires_grad:
            calls.requires_grad_(self)

    def __copy__(self) -> Parameter:
        return Parameter(self.detach(), self.requires_grad)

    def __deepcopy__(self, memo: Any) -> Parameter:
        return memo.setdefault(id(self), self.__copy__())

    def __reduce__(self) -> Any:
        return _restored, (*super().__reduce__(), self.requires_grad)


def _restored(restore: Callable[..., Tensor], args: tuple[Any, ...], requires_grad: bool) -> Parameter:
    return Parameter(restore(*args), requires_grad)


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _contents(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors and modules in an attribute's value, each with its dotted path."""
    if isinstance(value, Tensor | Module):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _contents(f"{path}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _contents(f"{path}.{key}", item)


def _locate(error: CorelibError, module: Module) -> None:
    """Put into the message of an error that passes ``module`` where below it the error was raised: the path of the
    innermost module, and what that is.
    """
    inner, path, words = getattr(error, "raised_in", (None, "", str(error)))
    if inner is not None:
        name = next((name for name, below in module.named_modules() if below is inner), "")
        path = ".".join(filter(None, (name, path)))
    what = getattr(error, "raised_by", f"{type(module).__name__}({module.extra_repr()})")
    error.raised_in, error.raised_by = (module, path, words), what  # type: ignore[attr-defined]
    if path:
        error.args = (f"in {path}, {what}: {words}",)


class Module:
    """Base of everything that has parameters. Subclasses define ``forward`` and are called.

    Example::

        class Twice(nn.Module):
            def __init__(self):
                self.inner = nn.Linear(3, 3)

            def forward(self, x):
                return self.inner(self.inner(x))
    """

    training: bool = True
    _buffers: Mapping[str, bool] = MappingProxyType({})  # name -> persistent
    _hooks: Mapping[str, dict[int, Any]] | None = None  # kind -> hooks

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` between the hooks. An error that a module below raises says where that module is."""
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._hooked(args, kwargs)
        except CorelibError as error:
            _locate(error, self)
            raise

    def _hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in self._called("forward before"):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        backward = any(self._called("backward before")) or any(self._called("backward"))
        if backward:
            watch = BackwardHooks(self)
            args = watch.entered(args)
        result = self.forward(*args, **kwargs)
        for hook in self._called("forward"):
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return watch.left(result) if backward else result

    def _called(self, kind: str) -> list[Any]:
        return list((self._hooks or {}).get(kind, {}).values())

    def __setattr__(self, name: str, value: Any) -> None:
        if (
            isinstance(vars(self).get(name), Parameter)
            and isinstance(value, Tensor)
            and not isinstance(value, Parameter)
        ):
            raise ArgumentError(
                f"{type(self).__name__}.{name} is a parameter and cannot become a plain tensor: assign nn.Parameter(...), "
                "or change its value with load_state_dict or in place under no_grad()"
            )
        object.__setattr__(self, name, value)

    # -- hooks -----------------------------------------------------------------------------------------------

    def _register(self, kind: str, hook: Callable[..., Any]) -> Handle:
        if self._hooks is None:
            object.__setattr__(self, "_hooks", {})
        return Handle(self._hooks.setdefault(kind, {}), hook)  # type: ignore[union-attr]

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> Handle:
        """Call ``hook(module, args, result)`` after each forward; what it returns, unless None, replaces the
        result.
        """
        return self._register("forward", hook)

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> Handle:
        """Call ``hook(module, args)`` before each forward; what it returns, unless None, replaces the
        arguments.
        """
        return self._register("forward before", hook)

    def register_full_backward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> Handle:
        """Call ``hook(module, gradients of the results)`` in a backward pass, before it goes through the module; what it
        returns, unless None, replaces these gradients.
        """
        return self._register("backward before", hook)

    def register_full_backward_hook(
        self, hook: Callable[[Any, tuple[Any, ...], tuple[Any, ...]], Any]
    ) -> Handle:
        """Call ``hook(module, gradients of the arguments, gradients of the results)`` once a backward pass went through the
        module; what it returns, unless None, replaces the gradients of the arguments.

        A gradient is there for each positional argument, and for each element of a result that is a tuple; it is None for
        what is no tensor and for an argument that needs no gradient. The gradients of parameters may not be complete yet.

        Example::

            layer = nn.Linear(3, 2)
            layer.register_full_backward_hook(lambda module, before, after: (before[0] * 0.5,))
        """
        return self._register("backward", hook)

    # -- contents --------------------------------------------------------------------------------------------

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Make ``tensor`` an attribute that is no parameter but moves with the module, and is saved with it
        if ``persistent``.
        """
        if "_buffers" not in vars(self):
            object.__setattr__(self, "_buffers", {})
        self._buffers[name] = persistent  # type: ignore[index]
        setattr(self, name, tensor)

    def _entries(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if name not in _INTERNAL:
                yield from _contents(name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that belong to this one directly, with their names, in the order of assignment."""
        return ((name, value) for name, value in self._entries() if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        """The modules that belong to this one directly."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, parents first, each with its dotted path."""
        yield from self._below(prefix, {} if remove_duplicate else None, ())

    def _below(
        self, prefix: str, seen: dict[int, None] | None, above: tuple[Module, ...]
    ) -> Iterator[tuple[str, Module]]:
        if any(self is m for m in above) or (seen is not None and id(self) in seen):
            return
        if seen is not None:
            seen[id(self)] = None
        yield prefix, self
        for name, child in self.named_children():
            yield from child._below(f"{prefix}.{name}" if prefix else name, seen, (*above, self))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, parents first."""
        return (module for _, module in self.named_modules())

    def _tensors(
        self, wanted: Callable[[Module, str, Any], bool], prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, unique) if recurse else [(prefix, self)]:
            for name, value in module._entries():
                if wanted(module, name, value) and not (unique and id(value) in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted paths: each module's own before its children's, in the order of
        assignment.
        """
        return self._tensors(
            lambda module, name, value: isinstance(value, Parameter), prefix, recurse, remove_duplicate
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, in the order of :meth:`named_parameters`."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The registered buffers with their dotted paths."""
        return self._tensors(
            lambda module, name, value: name in module._buffers and isinstance(value, Tensor),
            prefix,
            recurse,
            remove_duplicate,
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The registered buffers."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    # -- what is done to all of it ---------------------------------------------------------------------------

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call ``fn`` on each module below this one and on this one, children first; returns this module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self: M, mode: bool = True) -> M:
        """Set training mode on this module and all below it: dropout drops."""
        for module in self.modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self: M) -> M:
        """Set evaluation mode: the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Make all parameters collect gradients, or none of them."""
        for p in self.parameters():
            calls.requires_grad_(p, requires_grad)
        return self

    def freeze(self: M) -> M:
        """Make no parameter collect gradients: the same as ``requires_grad_(False)``."""
        return self.requires_grad_(False)

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for p in self.parameters():
            if p.grad is not None:
                p.grad = None

    def to(self: M, device: Any = None, dtype: Any = None) -> M:
        """Move parameters and buffers to a device, and the floating ones to a dtype, in place:
        ``m.to("cuda")``, ``m.to(float64)``. float16 and bfloat16 are stored: ops compute in float32 and round.
        """
        if dtype is None and isinstance(device, DType):
            device, dtype = None, device
        kind = None if dtype is None else as_dtype(dtype)
        if kind is not None and kind not in _LEARNED:
            raise DTypeError(f"Module.to: parameters need a floating dtype, got {kind.name}")
        for tensor in [*self.parameters(), *self.buffers()]:
            _move(tensor, device, kind)
        return self

    # -- state -----------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        persistent = lambda module, name, value: (
            isinstance(value, Parameter) or (module._buffers.get(name, False) and isinstance(value, Tensor))
        )
        return dict(self._tensors(persistent, "", True, False))

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and persistent buffers by path, as they are now: later training does not change the
        values in it.
        """
        return {name: tensor.detach() for name, tensor in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Take over the values of ``state_dict`` (tensors or arrays), each on the device where the parameter
        is.

        Everything is checked before anything is changed. Names that are missing or unexpected are an error
        unless ``strict=False``; a shape or dtype that differs always is. Raises CheckpointError with all that
        is wrong.
        """
        keys, take_over = self._checked(state_dict, strict)
        take_over()
        return keys

    def _checked(
        self, state_dict: Mapping[str, Any], strict: bool
    ) -> tuple[IncompatibleKeys, Callable[[], None]]:
        """What is left out, and a function that takes the state over; CheckpointError now if it does not fit."""
        own = self._state()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        wrong = []
        if strict:
            wrong += [f"missing: {name}{nearest(name, unexpected)}" for name in missing]
            wrong += [f"unexpected: {name}{nearest(name, own)}" for name in unexpected]
        values = []
        for name in [n for n in own if n in state_dict]:
            tensor, value = own[name], Parameter(state_dict[name], requires_grad=False).detach()
            if (value.shape, value.dtype) == (tensor.shape, tensor.dtype):
                values.append((tensor, value))
                continue
            hint = ""
            if value.shape == tensor.shape:
                casts = f"cast it before, corelib.astype(state_dict[{name!r}], corelib.{tensor.dtype.name})"
                moves = f"call module.to(corelib.{value.dtype.name}) before"
                hints = [moves] * (value.dtype in _LEARNED) + [casts] * (value.dtype not in FLOATING)
                hint = ": " + ", or ".join(hints)
            wrong.append(
                f"different: {name} is {_kind(tensor, True)} here and {_kind(value, True)} there{hint}"
            )
        if wrong:
            raise CheckpointError(
                f"load_state_dict: the state does not fit {type(self).__name__}\n  " + "\n  ".join(wrong)
            )

        @no_grad()
        def take_over() -> None:
            for tensor, value in values:
                tensor._rebind(calls.to(value, tensor._backend))

        return IncompatibleKeys(missing, unexpected), take_over

    # -- printing --------------------------------------------------------------------------------------------

    def flops(self, result: Any, *args: Any) -> int:
        """How many additions and multiplications a call with ``args`` took that gave ``result``, without those of the
        modules below: what ``nn.summary`` shows. Layers count their products of matrices and convolutions, as two for each
        product; whatever is done element by element counts as nothing.
        """
        return 0

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr."""
        return ""

    def _repr_html_(self) -> str:
        from ..notebook import module_html

        return module_html(self)

    def __repr__(self) -> str:
        own = [f"{name} {_kind(p)}" for name, p in self.named_parameters(recurse=False)]
        count = sum(p.size for p in self.parameters())
        note = (
            ", ".join(own) + (": " if own else "") + f"{count:,} parameter{'s' * (count != 1)}"
            if count
            else ""
        )
        note = f"  # {note}" if note else ""
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        opening = f"{type(self).__name__}({self.extra_repr()}"
        return f"{opening}{note}\n  " + "\n  ".join(lines) + "\n)" if lines else f"{opening}){note}"


def _kind(x: Tensor, full: bool = False) -> str:
    return ("" if x.dtype.name == "float32" and not full else x.dtype.name) + str(list(x.shape))


def _move(tensor: Tensor, device: Any, dtype: DType | None) -> None:
    """Put ``tensor`` itself on another device or into another dtype; a leaf stays one, and its gradient goes
    with it.
    """
    dtype = dtype if tensor.dtype in _LEARNED else None

    def moved(x: Tensor) -> Tensor:
        x = x.detach()
        x = x if device is None else calls.to(x, device)
        return x if dtype is None else calls.astype(x, dtype)

    value = moved(tensor)
    if value._backend is tensor._backend and value.dtype is tensor.dtype:
        return
    grad = tensor.grad
    value._backend.rebind(tensor, value)
    tensor._data, tensor._backend = value._data, value._backend
    if tensor._node is not None:
        tensor._node = Leaf(tensor)
        tensor._node.grad = None if grad is None else moved(grad)
