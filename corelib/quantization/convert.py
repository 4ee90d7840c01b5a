"""From a model in float to one in integers, layer by layer."""

from __future__ import annotations

import copy
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..autograd import no_grad
from ..errors import ArgumentError, nearest
from ..nn import (
    BatchNorm1d,
    BatchNorm2d,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Module,
    Parameter,
    ReLU,
    Sequential,
)
from ..op import calls
from ..tensor import Tensor
from .layers import (
    FakeQuantize,
    Prepared,
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedMaxPool2d,
    WeightOnlyLinear,
    _Quantized,
    is_conv,
)
from .observers import OBSERVERS, MinMaxObserver


class Config(NamedTuple):
    """What :func:`prepare` does: bits of weights and of inputs, a scale for each unit or one for the whole
    weight, symmetric inputs or not, and the observers, "minmax", "percentile" or "mse".
    """

    weight_bits: int = 8
    input_bits: int = 8
    per_channel: bool = True
    symmetric_inputs: bool = False
    weight_observer: str = "minmax"
    input_observer: str = "minmax"

    def observer(self, name: str, **options: Any) -> MinMaxObserver:
        """A new observer by name."""
        if name not in OBSERVERS:
            raise ArgumentError(f"Config: there is no observer {name!r}{nearest(name, OBSERVERS)}")
        return OBSERVERS[name](**options)


def prepare(model: Module, config: Config | None = None, skip: Iterable[str] = ()) -> Module:
    """A copy of the model whose Linear and Conv2d layers are :class:`Prepared`, and with a relu that follows one
    in a Sequential taken into it. ``skip``: paths of layers to leave as they are.

    Calibrate it, or train it on (quantization-aware training): its parameters are the copy's own.
    """
    config = config or Config()
    for name in (config.input_observer, config.weight_observer):
        config.observer(name)
    chosen = copy.deepcopy(model)
    left = set(skip)
    names = [name for name, _ in model.named_modules()]
    for name in left.difference(names):
        raise ArgumentError(f"prepare: there is no layer {name!r}{nearest(name, names)}")
    fused = {id(relu): path for path, _, relu in _followed(chosen, ReLU) if path not in left}

    def one(path: str, module: Module) -> Module:
        if path in left or not (isinstance(module, Linear) or is_conv(module)):
            return Identity() if id(module) in fused else module
        inputs = config.observer(
            config.input_observer, bits=config.input_bits, symmetric=config.symmetric_inputs
        )
        weights = functools.partial(
            config.observer,
            config.weight_observer,
            bits=config.weight_bits,
            axis=0 if config.per_channel else None,
        )
        return Prepared(module, FakeQuantize(inputs), weights, path in fused.values())

    return _replaced(chosen, one)


def _followed(model: Module, kinds: type | tuple[type, ...]) -> Iterator[tuple[str, Module, Module]]:
    """Each Linear or Conv2d that a module of some kind follows in a Sequential: its path, itself, and that module."""
    for path, module in model.named_modules():
        if isinstance(module, Sequential):
            children = [c for c in module.named_children() if not isinstance(c[1], Identity)]
            for (name, layer), (_, after) in itertools.pairwise(children):
                if isinstance(after, kinds) and (isinstance(layer, Linear) or is_conv(layer)):
                    yield f"{path}.{name}" if path else name, layer, after


@no_grad()
def fold_norms(model: Module) -> Module:
    """A copy of the model in which each BatchNorm behind a Linear or Conv2d in a Sequential has become a part of it, by its
    running statistics: w s and (b - mean) s + shift, with s = weight / sqrt(var + eps). What it gives in evaluation stays
    the same, up to rounding. To be called before :func:`prepare`.

    Example: ``quantization.fold_norms(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))`` has one Linear and an Identity.
    """
    folded = copy.deepcopy(model)
    gone = set()
    for path, layer, norm in _followed(folded, (BatchNorm1d, BatchNorm2d)):
        one: Any = norm
        if one.running_mean is None or one.running_var is None:
            raise ArgumentError(f"fold_norms: the norm behind {path} keeps no running statistics")
        scale = calls.rsqrt(calls.add(one.running_var, one.eps))
        scale = scale if one.weight is None else calls.multiply(scale, one.weight)
        shift = calls.multiply(calls.negative(one.running_mean), scale)
        into: Any = layer
        if into.bias is not None:
            shift = calls.add(shift, calls.multiply(into.bias, scale))
        shift = shift if one.bias is None else calls.add(shift, one.bias)
        factor = calls.reshape(scale, (-1, *(1,) * (into.weight.ndim - 1)))
        into.weight = Parameter(calls.multiply(into.weight, factor).detach())
        into.bias = Parameter(shift.detach())
        gone.add(id(norm))
    return _replaced(folded, lambda path, module: Identity() if id(module) in gone else module)


def _replaced(module: Module, one: Callable[[str, Module], Module], path: str = "") -> Module:
    """The module with every layer below it (and itself) put through ``one``."""
    new = one(path, module)
    if new is not module:
        return new

    def inside(value: Any, at: str) -> Any:
        if isinstance(value, Module):
            return _replaced(value, one, at)
        if isinstance(value, list | tuple):
            return type(value)(inside(v, f"{at}.{i}") for i, v in enumerate(value))
        if isinstance(value, dict):
            return {k: inside(v, f"{at}.{k}") for k, v in value.items()}
        return value

    for name, value in list(vars(module).items()):
        if isinstance(value, Module | list | tuple | dict) and not name.startswith("_"):
            object.__setattr__(module, name, inside(value, f"{path}.{name}" if path else name))
    return module


@no_grad()
def calibrate(model: Module, batches: Iterable[Any]) -> Module:
    """Show batches to the observers of a prepared model, which computes in float meanwhile; returns it.

    ``batches``: tensors, or tuples of which all but the last are the model's arguments.
    """
    fakes = [m for m in model.modules() if isinstance(m, FakeQuantize)]
    if not fakes:
        raise ArgumentError("calibrate: the model is not prepared: call prepare() first")
    was = model.training
    model.eval()
    for fake in fakes:
        fake.observing, fake.enabled = True, False
    seen = 0
    try:
        for batch in batches:
            arguments = (batch,) if isinstance(batch, Tensor) else tuple(batch)[:-1] or tuple(batch)
            model(*arguments)
            seen += 1
    finally:
        for fake in fakes:
            fake.observing, fake.enabled = False, True
        model.train(was)
    if not seen:
        raise ArgumentError("calibrate: there was no batch")
    return model


@no_grad()
def convert(model: Module) -> Module:
    """A copy of a prepared and calibrated (or trained) model with layers that compute in integers.

    In a Sequential a layer gives integers, as the next integer layer would make them of its result, where nothing but
    MaxPool2d and Flatten stands between the two: rounding does not change what is largest, so no result changes.
    """

    def one(path: str, module: Module) -> Module:
        if not isinstance(module, Prepared):
            return module
        return QuantizedConv2d(module) if is_conv(module.inner) else QuantizedLinear(module)

    if not any(isinstance(m, Prepared) for m in model.modules()):
        raise ArgumentError("convert: the model is not prepared: call prepare() and calibrate() first")
    return _linked(_replaced(copy.deepcopy(model), one)).eval()


def _linked(model: Module) -> Module:
    """The model with integers between its integer layers, where each module has one place only."""
    places = Counter(id(child) for m in model.modules() for child in _children(m))
    pools: dict[int, Module] = {}
    for module in model.modules():
        if not isinstance(module, Sequential):
            continue
        before, between = None, list[Module]()
        for child in _children(module):
            if isinstance(child, Identity):
                continue
            if isinstance(child, _Quantized):
                if before is not None and all(places[id(m)] == 1 for m in (before, *between, child)):
                    before.give_integers(child)
                    pools |= {id(m): QuantizedMaxPool2d(m) for m in between if isinstance(m, MaxPool2d)}
                before, between = child, []
            elif isinstance(child, MaxPool2d | Flatten):
                between.append(child)
            else:
                before = None
    return _replaced(model, lambda path, module: pools.get(id(module), module))


def _children(module: Module) -> list[Module]:
    """The modules that a module holds, each as often as it does."""
    found: list[Module] = []

    def look(value: Any) -> None:
        if isinstance(value, Module):
            found.append(value)
        elif isinstance(value, list | tuple):
            for v in value:
                look(v)
        elif isinstance(value, dict):
            look(list(value.values()))

    for name, value in vars(module).items():
        if not name.startswith("_"):
            look(value)
    return found


@no_grad()
def weight_only(model: Module, bits: int = 8, group: int | None = None, skip: Iterable[str] = ()) -> Module:
    """A copy of the model whose Linear layers keep their weights in ``bits`` bits: 8, 4 or 2.

    ``group``: inputs that share a scale, such as 32; None: all of a unit's. A layer whose inputs it does not
    divide gets one scale for each unit.

    Example: ``quantization.weight_only(model, bits=4)(x)`` has shape (2, 2).
    """
    left = set(skip)

    def one(path: str, module: Module) -> Module:
        if not isinstance(module, Linear) or path in left:
            return module
        fits = group is not None and module.weight.shape[1] % group == 0
        return WeightOnlyLinear(module, bits, group if fits else None)

    return _replaced(copy.deepcopy(model), one)
