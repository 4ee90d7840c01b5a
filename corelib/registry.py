"""The registry: discovery of plugins, and selection of a backend.

No backend is named here. Plugins are found through the entry-point group ``corelib.plugins``, at first need,
each under its own guard: a broken one is listed with its reason and breaks nothing. Kernels are looked up
through the hook ``find_kernel`` once per op, dtype and backend, and stored in the backend's tables, which the
hot path indexes; registering or unregistering a plugin empties the tables in place and bumps ``generation``.
This module knows nothing of individual ops.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import pluggy

from . import hookspecs
from .backend import API, Backend, BackendInfo, Overlay
from .binding import Tables, bind_and_call, casting, elsewhere
from .dtypes import DType, as_dtype, default_dtype
from .errors import BackendError, BackendNotFoundError, CorelibError, PluginError, UnsupportedError, nearest
from .hookspecs import hookimpl
from .op import OPS, Op

GROUP = "corelib.plugins"
log = logging.getLogger("corelib")
T = TypeVar("T")

_selected: ContextVar[str | None] = ContextVar("corelib_backend", default=None)
_active: ContextVar[tuple[Backend, ...]] = ContextVar("corelib_active", default=())


@dataclass
class BackendStatus:
    """What ``backends()`` tells of one backend: three levels, and the reason where a level is not reached.

    ``importable``: its code loads. ``usable``: it can run here. ``native`` and ``ops``: how many ops have a
    kernel of its own, out of how many.
    """

    name: str
    summary: str = ""
    plugin: str = ""
    importable: bool = False
    usable: bool = False
    reason: str = ""
    devices: list[str] = field(default_factory=list)
    description: str = ""
    native: int = 0
    ops: int = 0


class _Core:
    """The core's own answers to the hooks, asked last (but for a composite's body, see ``replay.py``)."""

    @hookimpl(trylast=True)
    def find_kernel(self, op: Op, dtype: DType | None, backend: Backend) -> Any:
        return backend.find(op, dtype)

    @hookimpl(trylast=True)
    def transfer(self, array: Any, source: Backend, target: Backend) -> Any:
        from .dlpack import shared

        exported = source.dlpack(array)
        imported = shared(target, exported) if exported is not None else None
        if imported is not None:
            return imported
        dtype = as_dtype(array.dtype)
        return target.from_host(dtype.buffer(source.to_host(array)), array.shape, dtype)


class Registry:
    """All plugins and backends of the process; one instance, :data:`registry`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.generation = 0
        self.errors: dict[str, str] = {}
        self.infos: dict[str, BackendInfo] = {}
        self.origin: dict[str, str] = {}
        self._classes: dict[str, type[Backend]] = {}
        self._instances: dict[str, Backend] = {}
        self._attached: weakref.WeakSet[Backend] = weakref.WeakSet()
        self._default: str | None = None
        self._discovered = False
        self.manager = pluggy.PluginManager("corelib")
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(_Core(), "corelib.core")

    # -- plugins ---------------------------------------------------------------------------------------------

    def discover(self) -> None:
        """Load the installed plugins, once. ``CORELIB_PLUGINS`` names the ones to load, or with ``-name`` the
        ones not to.
        """
        with self.lock:
            if self._discovered:
                return
            self._discovered = True
            level = os.environ.get("CORELIB_LOG")
            if level and not log.handlers:
                logging.basicConfig(format="%(name)s: %(message)s")
                log.setLevel(logging.getLevelNamesMapping().get(level.upper(), logging.INFO))
            from importlib.metadata import entry_points

            wanted = [n.strip() for n in os.environ.get("CORELIB_PLUGINS", "").split(",") if n.strip()]
            only = {n for n in wanted if not n.startswith("-")}
            without = {n[1:] for n in wanted if n.startswith("-")}
            points = sorted(entry_points(group=GROUP), key=lambda p: p.name)
            for missing in sorted(only - {p.name for p in points}):
                self.errors[missing] = f"CORELIB_PLUGINS names {missing!r}, but no such plugin is installed"
            for point in points:
                if (only and point.name not in only) or point.name in without:
                    continue
                try:
                    self.register(point.load(), point.name)
                except CorelibError as error:
                    self._refuse(point.name, str(error))
                except (
                    Exception,
                    SystemExit,
                ) as error:  # a plugin may fail in any way: it is listed, and the others go on
                    self._refuse(point.name, f"loading {point.value} raised {type(error).__name__}: {error}")

    def _refuse(self, name: str, reason: str) -> None:
        reason = self.errors[name] = " ".join(reason.split())
        log.warning("plugin %s is not used: %s", name, reason)

    def register(self, plugin: Any, name: str | None = None) -> str:
        """Register a plugin (a module or an object with hook implementations) and the backends and ops it
        declares.
        """
        with self.lock:
            name = name or getattr(plugin, "__name__", None) or type(plugin).__name__
            if self.manager.has_plugin(name) or self.manager.is_registered(plugin):
                raise PluginError(
                    f"plugin {name!r} is registered already: unregister it first, or give another name"
                )
            self._check_hooks(plugin, name)
            try:
                self.manager.register(plugin, name)
            except (pluggy.PluginValidationError, ValueError) as error:
                raise PluginError(f"plugin {name!r}: {error}") from None
            added: list[str] = []
            try:
                if hasattr(plugin, "declare_ops"):
                    plugin.declare_ops()
                for info in self._declared(plugin, name):
                    self._add(info, name)
                    added.append(info.name)
            except BaseException:
                self.manager.unregister(plugin)
                for backend in added:
                    self._forget(backend)
                raise
            self.errors.pop(name, None)
            self._changed()
            return name

    def unregister(self, plugin: Any) -> None:
        """Take a plugin (or the plugin of that name) out. Tensors on its backends live on; new ones cannot be
        made there.
        """
        with self.lock:
            name = plugin if isinstance(plugin, str) else self.manager.get_name(plugin)
            if name is None or not self.manager.has_plugin(name):
                known = [n for n, _ in self.manager.list_name_plugin()]
                raise PluginError(f"no plugin {name or plugin!r} is registered{nearest(str(name), known)}")
            self.manager.unregister(name=name)
            for backend in [b for b, origin in self.origin.items() if origin == name]:
                self._forget(backend)
            self._changed()

    def _check_hooks(self, plugin: Any, name: str) -> None:
        hooks = [h for h in dir(hookspecs) if hasattr(getattr(hookspecs, h), "corelib_spec")]
        for hook in hooks:
            given = getattr(plugin, hook, None)
            if callable(given) and not hasattr(given, "corelib_impl"):
                raise PluginError(
                    f"plugin {name!r}: {hook}() is not marked with @hookimpl, so it would not be called"
                )
        for attribute in dir(plugin):
            method: Any = getattr(plugin, attribute, None)
            if (
                hasattr(method, "corelib_impl")
                and attribute not in hooks
                and not method.corelib_impl.get("specname")
            ):
                raise PluginError(
                    f"plugin {name!r} implements an unknown hook {attribute!r}{nearest(attribute, hooks)}"
                )

    def _declared(self, plugin: Any, name: str) -> list[BackendInfo]:
        if not hasattr(plugin, "declare_backend"):
            return []
        declared = plugin.declare_backend()
        infos = declared if isinstance(declared, list | tuple) else [declared]
        for info in infos:
            if not isinstance(info, BackendInfo):
                raise PluginError(f"plugin {name!r}: declare_backend() must return BackendInfo, got {info!r}")
        return list(infos)

    def _add(self, info: BackendInfo, plugin: str) -> None:
        if info.api > API:
            raise PluginError(
                f"backend {info.name!r} needs version {info.api} of the plugin API, this corelib has {API}: upgrade corelib"
            )
        if info.name in self.infos:
            raise PluginError(
                f"backend {info.name!r} is declared twice: by {self.origin[info.name]!r} and by {plugin!r}"
            )
        self.infos[info.name], self.origin[info.name] = info, plugin

    def _forget(self, backend: str) -> None:
        for key in [k for k, b in self._instances.items() if b.name == backend]:
            del self._instances[key]
        self._classes.pop(backend, None)
        self.infos.pop(backend, None)
        self.origin.pop(backend, None)
        if self._default is not None and self._default.split(":")[0] == backend:
            self._default = None

    def _changed(self) -> None:
        self.generation += 1
        for backend in list(self._attached):
            backend.tables.replays.clear()
            for table in backend.tables.distinct():
                backend.tables.fill(table)

    def op_added(self) -> None:
        """Give every table a slot for an op that was declared after it."""
        with self.lock:
            for backend in list(self._attached):
                for table in backend.tables.distinct():
                    table += [partial(bind_and_call, backend.tables, table, op) for op in OPS[len(table) :]]

    # -- backends --------------------------------------------------------------------------------------------

    def attach(self, backend: Backend) -> Backend:
        """Give a backend its tables; wrapping backends are attached by whoever makes them."""
        backend.tables = Tables(backend, self)
        with self.lock:
            self._attached.add(backend)
        return backend

    def load(self, name: str) -> type[Backend]:
        """The class of a backend, or BackendNotFoundError with the reason and what to do."""
        self.discover()
        with self.lock:
            if name in self._classes:
                return self._classes[name]
            info = self.infos.get(name)
            if info is None:
                known = ", ".join(self.infos) or "none"
                reason = (
                    f": its plugin failed: {self.errors[name]}"
                    if name in self.errors
                    else nearest(name, self.infos)
                )
                raise BackendNotFoundError(
                    f"no backend {name!r}{reason} (registered: {known}; see `python -m corelib backends`, and install a plugin with pip for more)"
                )
            for module in info.requires:
                if not _is_installed(module):
                    raise BackendNotFoundError(
                        f"backend {name!r} needs {module}, which is not installed. {info.install_hint}".rstrip()
                    )
            path, _, attribute = info.load.partition(":")
            try:
                found = getattr(importlib.import_module(path), attribute)
            except (Exception, SystemExit) as error:
                raise BackendNotFoundError(
                    f"backend {name!r}: importing {info.load} raised {type(error).__name__}: {error}"
                ) from error
            if not (isinstance(found, type) and issubclass(found, Backend)):
                raise PluginError(
                    f"backend {name!r}: {info.load} is not a subclass of corelib.plugin_api.Backend"
                )
            self._classes[name] = found
            return found

    def get(self, device: str | Backend) -> Backend:
        """The backend instance of a device string."""
        if isinstance(device, Backend):
            return device
        if not isinstance(device, str):
            raise BackendError(f"a device is a string such as 'cpu' or 'cuda:1', got {device!r}")
        found = self._instances.get(device)
        if found is not None:
            return found
        name, _, suffix = device.partition(":")
        with self.lock:
            cls = self.load(name)
            reason = _guarded(name, "probe()", cls.probe)
            if reason is not None:
                raise BackendNotFoundError(f"backend {name!r} cannot be used here: {reason}")
            if suffix and not suffix.isdigit():
                raise BackendNotFoundError(f"device {device!r}: the part behind the colon must be a number")
            index = int(suffix or 0)
            devices = _guarded(name, "devices()", cls.devices) or [name]
            if index and f"{name}:{index}" not in devices:
                raise BackendNotFoundError(f"no device {device!r}: backend {name!r} has {', '.join(devices)}")
            info = self.infos[name]
            backend = _guarded(name, f"{cls.__name__}()", cls, name, index)
            backend.info = info
            if info.base is not None:
                backend.base = self.get(info.base)
            return self._instances.setdefault(backend.device, self.attach(backend))

    def bind(self, op: Op, dtype: DType, backend: Backend) -> Callable[..., Any]:
        """The kernel for an op and dtype on a backend; UnsupportedError or DTypeError when there is none."""
        op.rule.check(op, dtype)
        if dtype not in op.rule.accepts:
            return casting(op, backend, default_dtype("float"))
        if backend.hooked:
            kernel = self.manager.hook.find_kernel(op=op, dtype=dtype, backend=backend)
        else:
            kernel = backend.find(op, dtype)
        if kernel is not None:
            return kernel
        fallback = os.environ.get("CORELIB_FALLBACK")
        if fallback and backend.level == 0 and fallback != backend.device:
            there = self._named_by("CORELIB_FALLBACK", fallback)
            log.warning(
                "%s on %s runs on %r: backend %r has no kernel for it",
                op.name,
                dtype.name,
                fallback,
                backend.device,
            )
            return elsewhere(op, dtype, backend, there, self.manager.hook.transfer)
        raise UnsupportedError(
            f"backend {backend.device!r} has no kernel for {op.name} on {dtype.name}: use x.to(another device), add one to the plugin, "
            "or name a backend in CORELIB_FALLBACK"
        )

    def status(self) -> list[BackendStatus]:
        """The state of every declared backend and failed plugin, by name."""
        self.discover()
        found = []
        for name, info in sorted(self.infos.items()):
            status = BackendStatus(name, info.summary, self.origin[name], ops=len(OPS))
            found.append(status)
            try:
                cls = self.load(name)
                status.importable = True
                status.native = sum(cls.kernels.has(op) for op in OPS)
                backend = self.get(name)
                status.description = _guarded(name, "describe()", backend.describe)
                status.devices = _guarded(name, "devices()", cls.devices) or [name]
                status.usable = True
            except CorelibError as error:
                text = str(error)
                status.reason = text.partition("cannot be used here: ")[2] or text
        known = {s.name for s in found}
        found += [
            BackendStatus(n, plugin=n, reason=r) for n, r in sorted(self.errors.items()) if n not in known
        ]
        return found

    # -- selection -------------------------------------------------------------------------------------------

    def current(self) -> Backend:
        """The backend that creation functions use when no device is given."""
        return self.get(_selected.get() or self._default or self._choose())

    def _choose(self) -> str:
        chosen = os.environ.get("CORELIB_BACKEND")
        if not chosen:
            self.discover()
            reasons = []
            for name in sorted(self.infos, key=lambda n: (-self.infos[n].priority, n)):
                try:
                    self.get(name)
                except CorelibError as error:
                    reasons.append(str(error))
                    continue
                chosen = name
                break
            else:
                reasons += self.errors.values()
                if not reasons and os.environ.get("CORELIB_PLUGINS"):
                    reasons = [
                        f"CORELIB_PLUGINS is {os.environ['CORELIB_PLUGINS']!r}, which leaves no plugin that declares one"
                    ]
                raise BackendNotFoundError(
                    "no backend can be used here: " + ("; ".join(reasons) or "no plugin declares one")
                )
        else:
            self._named_by("CORELIB_BACKEND", chosen)
        self._default = chosen
        return chosen

    def _named_by(self, variable: str, device: str) -> Backend:
        """The backend of a device that an environment variable names; the error names the variable."""
        try:
            return self.get(device)
        except BackendNotFoundError as error:
            raise BackendNotFoundError(
                f"the environment variable {variable} is {device!r}: {error}"
            ) from error

    def creation(self, device: Any) -> Backend:
        """Where a creation function creates: exactly on a Backend instance, else under the active
        transformation.
        """
        if isinstance(device, Backend):
            return device
        active = _active.get()
        if active:
            return active[-1] if device is None else active[-1].on_device(device)
        return self.current() if device is None else self.get(device)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _guarded(name: str, what: str, function: Callable[..., Any], *args: Any) -> Any:
    """What a backend's code returns; if it raises, the backend cannot be used, and the others go on."""
    try:
        return function(*args)
    except CorelibError:
        raise
    except Exception as error:
        raise BackendNotFoundError(
            f"backend {name!r} cannot be used here: {what} raised {type(error).__name__}: {error}"
        ) from error


registry = Registry()


# -- the public functions ------------------------------------------------------------------------------------


def set_backend(device: str) -> None:
    """Create tensors on ``device`` ("cpu", "cuda", "cuda:1") from now on, in the whole process.

    Ops follow their operands: tensors that exist stay where they are. Raises BackendNotFoundError with the
    reason when the device cannot be used. A ``use_backend`` block that is in force keeps precedence.

    Example::

        corelib.set_backend("cpu")
    """
    registry.get(device)
    registry._default = str(device)


def get_backend() -> str:
    """The device string on which tensors are created now."""
    return registry.current().device


@contextmanager
def use_backend(device: str) -> Iterator[str]:
    """Create tensors on ``device`` inside a ``with`` block: in this thread and context only.

    Example::

        with corelib.use_backend("reference"):
            y = corelib.ones((2, 3))  # y.device is "reference", whatever is selected outside
    """
    registry.get(device)
    token = _selected.set(str(device))
    try:
        yield str(device)
    finally:
        _selected.reset(token)


@contextmanager
def activate(backend: Backend) -> Iterator[Backend]:
    """Make a wrapping backend the one on which creation functions create, inside a ``with`` block."""
    token = _active.set((*_active.get(), backend))
    try:
        yield backend
    finally:
        _active.reset(token)


@contextmanager
def deactivated() -> Iterator[None]:
    """Create where tensors are created without any transformation, inside a ``with`` block."""
    token = _active.set(())
    try:
        yield
    finally:
        _active.reset(token)


def active_backends() -> tuple[Backend, ...]:
    """The wrapping backends that are active here, outermost first."""
    return _active.get()


def at_active_level(x: T) -> T:
    """A tensor, lifted to the innermost transformation that is active if that is above its own level."""
    active, tensor = _active.get(), cast(Any, x)
    return active[-1].lift(x) if active and active[-1].level > tensor._backend.level else x


def backends() -> list[BackendStatus]:
    """Every backend that is declared or failed to be: importable, usable, supported, each with its reason.

    Example: ``[b.name for b in backends() if b.usable]``.
    """
    return registry.status()


def synchronize(device: str | None = None) -> None:
    """Wait until everything that was started on a device (by default the one that is selected) has finished.

    A GPU works while the program goes on: call this before reading a clock. Raises BackendNotFoundError when the
    device cannot be used, BackendError when it has failed.
    """
    _device(device).synchronize()


def memory_stats(device: str | None = None) -> dict[str, int]:
    """Bytes on a device (by default the one that is selected), by name: "used" by arrays, "held" by its pool, those in use
    included, and "free", as far as it knows them.

    Raises BackendNotFoundError when the device cannot be used.

    Example: ``corelib.memory_stats("cpu")["held"]``.
    """
    return _device(device).memory_stats()


def empty_cache(device: str | None = None) -> None:
    """Give the memory that a device's pool holds and nobody uses back to the system, or to other programs.

    Raises BackendNotFoundError when the device cannot be used.
    """
    _device(device).empty_cache()


def _device(device: str | None) -> Backend:
    return registry.current() if device is None else registry.get(device)


def register(plugin: Any, name: str | None = None) -> str:
    """Register a plugin by hand: a module or object with hook implementations. Returns its name."""
    registry.discover()
    return registry.register(plugin, name)


def unregister(plugin: Any) -> None:
    """Take a plugin out again."""
    registry.unregister(plugin)


__all__ = [
    "BackendStatus",
    "Overlay",
    "activate",
    "at_active_level",
    "backends",
    "empty_cache",
    "get_backend",
    "memory_stats",
    "register",
    "registry",
    "set_backend",
    "synchronize",
    "unregister",
    "use_backend",
]
