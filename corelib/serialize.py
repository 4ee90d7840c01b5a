"""Checkpoints: a model, an optimizer and the random state in one safetensors file, and plain dictionaries of
tensors.

A file is written beside its destination, flushed to the disk, and then renamed: a save that is interrupted
leaves the old file whole. A load reads and checks everything before it changes anything. The format and its
reading and writing are those of the safetensors library (https://huggingface.co/docs/safetensors), so that
other programs read the tensors; names begin with ``model.``, ``optimizer.`` or ``random.``, and the metadata
entry ``corelib`` holds, as JSON, the version and whatever is no tensor. The format knows no complex128: such a
tensor is stored as float64 with a last axis of its two parts, and the metadata entry ``corelib.complex128``
lists its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ArgumentError, CheckpointError, nearest
from .ops.interchange import asarray
from .tensor import Tensor

FORMAT = 1  # of what this module adds to safetensors; a file with a larger number is refused
KEY = "corelib"
PAIRS = "corelib.complex128"

# -- files of tensors ----------------------------------------------------------------------------------------


def save_file(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a dictionary of tensors as a safetensors file, atomically; ``metadata`` are strings."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"save_file: {name!r} must be a Tensor, got {type(tensor).__name__}")
    import numpy
    from safetensors import SafetensorError
    from safetensors.numpy import save_file as write

    # The library writes an array's memory as it lies, so each has to be in C order.
    arrays = {name: numpy.asarray(tensor.detach(), order="C") for name, tensor in tensors.items()}
    pairs = [name for name, array in arrays.items() if array.dtype == numpy.complex128]
    for name in pairs:
        arrays[name] = arrays[name].reshape(-1).view(numpy.float64).reshape(*arrays[name].shape, 2)
    metadata = {**(metadata or {}), **({PAIRS: json.dumps(pairs)} if pairs else {})}
    with _replacing(Path(path)) as temporary:
        try:
            write(arrays, temporary, metadata or None)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: could not be written: {error}") from error


def load_file(path: str | os.PathLike[str], device: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whoever wrote it, on ``device`` (where tensors are being created
    unless given).
    """
    arrays, _ = _read(Path(path))
    return {name: asarray(array, device=device) for name, array in arrays.items()}


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to; the file replaces ``path`` when all of it has reached the disk, and vanishes if
    anything goes wrong.
    """
    if not path.parent.is_dir():
        raise CheckpointError(f"{path}: there is no directory {path.parent}")
    if os.path.isdir(path):  # which path.is_dir() would not say of a name that is too long
        raise CheckpointError(f"{path} is a directory: name a file in it")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise CheckpointError(f"{path}: could not be written: {error.strerror}") from error
    try:
        mode = (path if path.exists() else temporary).stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors 0.8 makes every file private: its issue 782
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":
        _flush(path.parent, os.O_RDONLY)  # the rename itself


def _flush(path: Path, flags: int) -> None:
    """Wait until a file or directory has reached the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays and the metadata of a file, or CheckpointError with the path and what is wrong."""
    import ml_dtypes  # noqa: F401 - NumPy then knows bfloat16 by its name, by which safetensors asks for it
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CheckpointError(f"{path}: there is no such file{nearest(path.name, siblings)}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory, not a checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            unknown = sorted({kind for kind in kinds.values() if kind.split("_")[0] in ("F8", "F6", "F4")})
            if unknown:
                first = next(name for name, kind in kinds.items() if kind in unknown)
                raise CheckpointError(
                    f"{path}: {first!r} has elements of type {unknown[0]}, of which corelib has no dtype"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
            for name in json.loads(metadata.get(PAIRS, "[]")):
                arrays[name] = arrays[name].view("complex128")[..., 0]
            return arrays, metadata
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({size} bytes): {error}. It is truncated, damaged, or in another format"
        ) from error


# -- checkpoints ---------------------------------------------------------------------------------------------


def save(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    random: Any = True,
    tensors: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a checkpoint: what :func:`load` restores to continue as if nothing had happened.

    ``model`` and ``optimizer`` are saved by their ``state_dict``. ``random``: a generator, True for the
    default one, False for none. ``tensors`` are tensors of your own, ``metadata`` anything JSON can hold
    (such as ``{"epoch": 3}``). The old file is replaced when the new one is complete, and not before.

    Example: ``save("last.safetensors", model=model, optimizer=optimizer, metadata={"epoch": 3})``.
    """
    found: dict[str, Tensor] = {}
    about: dict[str, Any] = {"format": FORMAT, "version": _version(), "metadata": dict(metadata or {})}
    if model is not None:
        about["model"] = type(model).__name__
        found |= {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if optimizer is not None:
        about["optimizer"], saved = _flatten_optimizer(optimizer)
        found |= saved
    if random is not False:
        found |= {f"random.{name}": tensor for name, tensor in _generator(random).get_state().items()}
    found |= {f"tensors.{name}": tensor for name, tensor in (tensors or {}).items()}
    try:
        text = json.dumps(about)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"save: metadata must be what JSON can hold: {error}") from error
    save_file(found, path, {KEY: text})


def load(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    random: Any = False,
    device: str | None = None,
) -> dict[str, Any]:
    """Restore what is given from a checkpoint, and return ``{"tensors": ..., "metadata": ..., "version":
    ...}``.

    ``model`` and ``optimizer`` keep their devices. ``random``: a generator, or True for the default one, to
    restore. A model is also loaded from any other safetensors file, by the names of its ``state_dict``, such as one
    that was written from PyTorch (by ``save_file`` or ``save_model`` of safetensors.torch). Nothing is changed unless
    all of it fits. Raises CheckpointError with the path and what is wrong. ``device`` is for the returned tensors.

    Example::

        corelib.save("last.safetensors", model=model, optimizer=optimizer)
        found = corelib.load("last.safetensors", model=model, optimizer=optimizer, random=True)
    """
    path = Path(path)
    arrays, metadata = _read(path)
    if KEY not in metadata and model is not None:
        arrays, metadata = _as_model(arrays, metadata)
    about = _about(path, metadata)
    changes: list[Callable[[], Any]] = []
    generator = None if random is False else _generator(random)
    try:
        if model is not None:
            state = _part(path, arrays, "model", "model" in about, type(model).__name__)
            changes.append(model._checked(state, True)[1])
        if optimizer is not None:
            state = _part(path, arrays, "optimizer", "optimizer" in about, type(optimizer).__name__)
            changes.append(optimizer._checked(_restore_optimizer(path, optimizer, about["optimizer"], state)))
        if generator is not None:
            state = _part(
                path, arrays, "random", any(n.startswith("random.") for n in arrays), "the random state"
            )
            tensors = {k: asarray(v, device=generator.key.device) for k, v in state.items()}
            changes.append(generator._checked(tensors))
    except CheckpointError as error:
        if str(error).startswith(str(path)):
            raise
        raise CheckpointError(f"{path}: {error}") from error
    except (LookupError, ValueError, TypeError) as error:  # names or numbers that no save writes
        raise CheckpointError(
            f"{path}: what it holds cannot be read: {type(error).__name__}: {error}. It is damaged"
        ) from error
    own = {
        name: asarray(array, device=device)
        for name, array in _part(path, arrays, "tensors", True, "").items()
    }
    for change in changes:
        change()
    return {"tensors": own, "metadata": about["metadata"], "version": about["version"]}


def _as_model(
    arrays: Mapping[str, Any], metadata: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What somebody else's file holds as if we had saved it as a model. Of tensors that share memory, ``save_model`` of
    safetensors.torch writes one, and the other names as metadata.
    """
    shared = {name: arrays[kept] for name, kept in metadata.items() if kept in arrays and name not in arrays}
    about = {"format": FORMAT, "version": "", "metadata": {}, "model": ""}
    return {f"model.{name}": array for name, array in {**arrays, **shared}.items()}, {KEY: json.dumps(about)}


def _version() -> str:
    from . import __version__

    return __version__


def _generator(random: Any) -> Any:
    if random is True:
        from .random import default_generator

        return default_generator()
    if not hasattr(random, "get_state"):
        raise ArgumentError(
            f"random must be a Generator, True for the default one, or False for none, got {random!r}"
        )
    return random


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the file says of itself, checked."""
    if KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a corelib checkpoint: load(path, model=...) reads a model from it, "
            "serialize.load_file its tensors"
        )
    try:
        about = json.loads(metadata[KEY])
        number, _, _ = int(about["format"]), about["metadata"], about["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: its metadata entry {KEY!r} cannot be read: {error!r}") from error
    if number > FORMAT:
        raise CheckpointError(
            f"{path}: format {number}, written by corelib {about['version']}; this one reads up to {FORMAT}: upgrade corelib"
        )
    return about


def _part(path: Path, arrays: Mapping[str, Any], part: str, there: bool, wanted: str) -> dict[str, Any]:
    if not there:
        parts = sorted({name.split(".")[0] for name in arrays})
        raise CheckpointError(f"{path}: holds no {part} (for {wanted}), only {', '.join(parts) or 'nothing'}")
    return {name[len(part) + 1 :]: array for name, array in arrays.items() if name.startswith(part + ".")}


def _flatten_optimizer(optimizer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The numbers and words of an optimizer's state, and its tensors by path."""
    state = optimizer.state_dict()
    tensors = {f"optimizer.state.{i}.{k}": t for i, found in state["state"].items() for k, t in found.items()}
    groups = []
    for i, group in enumerate(state["param_groups"]):
        groups.append({k: v for k, v in group.items() if not isinstance(v, Tensor)})
        tensors |= {f"optimizer.group.{i}.{k}": v for k, v in group.items() if isinstance(v, Tensor)}
    return {"class": type(optimizer).__name__, "groups": groups}, tensors


def _restore_optimizer(
    path: Path, optimizer: Any, about: dict[str, Any], arrays: Mapping[str, Any]
) -> dict[str, Any]:
    """The state dictionary that :func:`_flatten_optimizer` took apart."""
    if about["class"] != type(optimizer).__name__:
        raise CheckpointError(
            f"{path}: holds the state of {about['class']}, not of {type(optimizer).__name__}"
        )
    groups = [dict(group) for group in about["groups"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        kind, number, key = name.split(".", 2)
        target = groups[int(number)] if kind == "group" else state.setdefault(int(number), {})
        target[key] = asarray(array)
    return {"state": dict(sorted(state.items())), "param_groups": groups}


__all__ = ["load", "load_file", "save", "save_file"]
