"""Compiles kernels once per machine: Python source in, address of machine code out.

A kernel is the source text of a function in the language of language.py, over 64-bit integers. It becomes LLVM IR in
about 10 ms, LLVM makes an object file of it in 10 to 250 ms, and that is kept on disk under a hash of everything that it
depends on. A later process loads it in about a millisecond.

This module knows nothing about arrays, operations or threads.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pkgutil
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger("corelib")

FORMAT = "2"  # of the object files; raise it when what is stored changes
COMPILER = os.environ.get("CORELIB_CPU_COMPILER", "")  # "numba": see by_numba.py
_lock = threading.RLock()
_addresses: dict[str, int] = {}
_functions: dict[str, str] = {}
_keep: list[Any] = []  # object files whose code may still run

if hasattr(
    os, "register_at_fork"
):  # a fork waits for a compilation: the child could neither finish it nor unlock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def cache_directory() -> Path:
    """Where object files are kept: ``$CORELIB_CACHE_DIR``, else the user's cache directory."""
    chosen = os.environ.get("CORELIB_CACHE_DIR")
    if chosen:
        return Path(chosen) / "cpu"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "corelib" / "cpu"


@cache
def host() -> tuple[str, str]:
    """Name and feature list of this machine's processor, as LLVM knows them."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def vector_bytes() -> int:
    """Width of the widest vectors of this machine."""
    features = set(host()[1].split(","))
    return 64 if "+avx512f" in features else 32 if "+avx2" in features else 16


def has_float16() -> bool:
    """Whether this machine casts float16; elsewhere LLVM would call a library for each number."""
    return "+f16c" in host()[1].split(",") or platform.machine().lower() in ("arm64", "aarch64")


def instruction_set() -> str:
    """The vector instruction set in words, for tables."""
    features = set(host()[1].split(","))
    for flag, name in (
        ("+avx512f", "AVX-512"),
        ("+avx2", "AVX2"),
        ("+avx", "AVX"),
        ("+sve", "SVE"),
        ("+neon", "NEON"),
    ):
        if flag in features:
            return name
    return "SSE2" if "+sse2" in features else "no vectors"


@cache
def _engine() -> tuple[Any, Any]:
    """LLVM's target machine and the engine that owns all loaded code."""
    import ctypes

    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = host()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    # Worker threads run this code until the process ends, so the engine must outlive the interpreter's
    # shutdown.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return target, engine


@cache
def _fingerprint() -> str:
    """Hash of all that decides what a source compiles to, except the source."""
    import llvmlite

    digest = hashlib.sha256()
    for part in (
        FORMAT,
        COMPILER,
        llvmlite.__version__,
        *host(),
        str(object.__basicsize__),
    ):
        digest.update(part.encode() + b"\0")
    for module in (
        "native.py",
        "language.py",
        "expressions.py",
        "walk.py",
        "machine.py",
        "simd.py",
        "lanes.py",
        "vmath.py",
        "varithmetic.py",
        "vcomplex.py",
        "vpower.py",
        "vdots.py",
    ):
        digest.update(pkgutil.get_data(__package__, module) or b"")  # also from a zip archive
    return digest.hexdigest()


def address(source: str, name: str = "kernel", arguments: int = 3, returns: bool = False) -> int:
    """Address of the machine code of function `name` in `source`.

    The function takes `arguments` 64-bit integers and returns one, or nothing. The source sees the names of
    `corelib_cpu.machine`, `simd`, `lanes`, `vmath`, `varithmetic`, `vcomplex`, `vpower` and `vdots`. The default is the
    signature of every kernel, ``kernel(lo, hi, args)``.
    """
    return _address(
        f"{arguments}\0{returns}\0{name}\0{source}",
        lambda symbol: _compile(source, name, arguments, returns, symbol),
    )


def address_of_ir(text: str) -> int:
    """Address of the machine code of the function @KERNEL in a module of LLVM IR, which nothing has optimised yet."""
    return _address(f"ir\0{text}", lambda symbol: _assemble(text, symbol))


def function_ir(source: str, dtype: str, arguments: int) -> str:
    """LLVM IR of `function` in `source`, from numbers of a dtype to one, under the name @FUNCTION."""
    key = _key(f"function\0{dtype}\0{arguments}\0{source}")
    with _lock:
        found = _functions.get(key)
        if found is None:
            stored = _read(key)
            found = stored.decode() if stored else _translate(source, dtype, arguments)
            if not stored:
                _write(key, found.encode())
            _functions[key] = found
        return found


def _key(what: str) -> str:
    return hashlib.sha256(f"{_fingerprint()}\0{what}".encode()).hexdigest()[:40]


def _address(what: str, make: Callable[[str], bytes]) -> int:
    """Address of the code for a key; `make(symbol)` compiles it if it is stored nowhere."""
    key = _key(what)
    with _lock:
        found = _addresses.get(key)
        if found is None:
            symbol = f"corelib_{key}"
            code = _read(key)
            if code is None:
                code = make(symbol)
                _write(key, code)
            found = _addresses[key] = _load(code, symbol)
        return found


def loaded() -> bool:
    """Whether this process has loaded compiled code already, so that more of it costs about a millisecond."""
    return bool(_addresses)


def _load(code: bytes, symbol: str) -> int:
    import llvmlite.binding as llvm

    engine = _engine()[1]
    file = llvm.ObjectFileRef.from_data(code)
    engine.add_object_file(file)
    engine.finalize_object()
    _keep.append(file)
    return engine.get_function_address(symbol)


def _compile(source: str, name: str, arguments: int, returns: bool, symbol: str) -> bytes:
    """Object code of one function, under the given symbol."""
    started = time.perf_counter()
    from .language import types

    compiled = _compiler()

    signature = (types.int64 if returns else types.void)(*(types.int64,) * arguments)
    module = _optimised(compiled(source, name, _namespace(), signature, symbol))
    code = _engine()[0].emit_object(module)
    seconds = time.perf_counter() - started
    (log.warning if seconds > 1 else log.debug)("corelib: cpu: compiled a kernel in %.2f s", seconds)
    return code


def _assemble(text: str, symbol: str) -> bytes:
    """Object code of a module of IR with one function @KERNEL."""
    started = time.perf_counter()
    module = _optimised(text.replace("@KERNEL", f"@{symbol}"))
    code = _engine()[0].emit_object(module)
    log.debug("corelib: cpu: assembled a kernel in %.1f ms", 1e3 * (time.perf_counter() - started))
    return code


def _compiler() -> Callable[..., str]:
    """What turns the source of a kernel into LLVM IR."""
    if COMPILER == "numba":
        from .by_numba import compiled
    elif COMPILER:
        raise ValueError(f'CORELIB_CPU_COMPILER is {COMPILER!r}: set it to "numba", or not at all')
    else:
        from .walk import compiled
    return compiled


def _optimised(text: str) -> Any:
    """LLVM's module of a text of IR, with its loops turned into vectors."""
    import llvmlite.binding as llvm

    target = _engine()[0]
    module = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.loop_interleaving = True
    builder = llvm.create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _translate(source: str, dtype: str, arguments: int) -> str:
    """IR of a function of one element, and of all that it calls."""
    from .language import types

    compiled = _compiler()

    kind = getattr(types, dtype)
    text = compiled(source, "function", _namespace(), kind(*(kind,) * arguments), "FUNCTION")
    module = _optimised(text)
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = "internal"
    text = "".join(map(str, module.functions))
    return re.sub(r" #\d+", "", re.sub(r" #\d+ \{", " alwaysinline {", re.sub(r"(?m)^;.*\n", "", text)))


def _namespace() -> dict[str, Any]:
    """The names that the source of a kernel sees."""
    from . import lanes, machine, simd, varithmetic, vcomplex, vdots, vmath, vpower

    return {
        **vars(machine),
        **vars(simd),
        **vars(lanes),
        **vars(vmath),
        **vars(varithmetic),
        **vars(vcomplex),
        **vars(vpower),
        **vars(vdots),
    }


def _checksum(key: str, code: bytes) -> bytes:
    """What stands before stored code: that of another kernel, under this one's name, has another."""
    return hashlib.sha256(key.encode() + code).digest()


def _read(key: str) -> bytes | None:
    """The stored object code, or None where there is none, or it is damaged or another's."""
    try:
        data = (cache_directory() / f"{key}.o").read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None
    checksum, code = data[:32], data[32:]
    return code if _checksum(key, code) == checksum else None


def _write(key: str, code: bytes) -> None:
    """Stores object code in one step; a directory that cannot be written costs a compilation, never an error."""
    try:
        directory = cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(key, code) + code)
            os.replace(temporary, directory / f"{key}.o")
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, RuntimeError) as error:
        log.debug("corelib: cpu: compiled code is not kept: %s", error)
