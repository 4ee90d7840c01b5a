"""Kernels compiled ahead of their first launch, for this machine's devices or for those of another: no device is needed.

What is known before a program runs is compiled: the kernels of the ops, for the dtypes that most programs use. Generated
kernels depend on the program, and are compiled (and kept) when it first runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from corelib.plugin_api import errors

from . import (
    attention,
    contract,
    conv,
    copy,
    elementwise,
    indexing,
    launch,
    nvrtc,
    ordering,
    pool,
    random,
    reduce,
    scan,
    softmax,
)

DTYPES = ("bool", "int32", "int64", "float32", "float16", "bfloat16")
FORMS = {1: ("a",), 2: ("aa", "av", "va"), 3: ("aaa", "aav", "ava")}


def every_kernel(names: Sequence[str] = DTYPES) -> Iterator[launch.Kernel]:
    """What ops launch on arrays of these dtypes that 32 bits can index."""
    computed = [name for name in names if name not in ("float16", "bfloat16")]
    for kernel in elementwise.every_kernel(names):
        position, fill = "position" in kernel.inputs, kernel.name.startswith("full")
        for forms in ("pvv",) if position else ("v",) if fill else FORMS[len(kernel.inputs)]:
            for walk in ("dense",) if position or fill else ("dense", "strided"):
                yield launch.Kernel("elementwise.cu", *kernel.entry(forms, walk, 32))
    for index in (
        indexing.linear_index.entry("vav", "dense", 32),
        indexing.linear_index.entry("aav", "dense", 32),
    ):
        yield launch.Kernel("elementwise.cu", *index)
    for reduction in reduce.every_reduction(computed):
        yield from reduction.kernels.values()
    for one in scan.every_scan(computed):
        for what, walk in one.variants():
            yield launch.Kernel("scan.cu", *one.entry(what, walk))
    if "float32" in names:
        held = softmax.softmax("float32")
        for variant in held.variants():
            yield launch.Kernel("softmax.cu", *held.entry(*variant))
    yield random.words
    yield from ordering.every_kernel()
    yield from indexing.every_move(computed)
    yield from contract.every_matmul(computed)
    yield from copy.every_copy()
    yield from conv.every_kernel()
    yield from pool.every_kernel()
    for tensor in (False, True):  # cores of matrices
        yield from attention.every_kernel(tensor)


def capability(architecture: str) -> int:
    """The number of an architecture: 90 for "sm_90", "9.0" and "90"; ArgumentError for what the compiler does not know."""
    number = re.fullmatch(r"(?:sm_)?(\d+)\.?(\d)[a-z]?", architecture)
    known = nvrtc.compiler(launch.cuda_major()).architectures
    if number is None or int(number[1] + number[2]) not in known:
        names = ", ".join(f"sm_{one}" for one in known)
        raise errors.ArgumentError(f"architecture {architecture!r}: the CUDA compiler here knows {names}")
    return int(number[1] + number[2])


def compiled(capabilities: Sequence[int], kernels: Sequence[Any] = ()) -> Iterator[str]:
    """Compile everything, and say what has been done after each source file."""
    found: dict[str, dict[tuple[str, tuple[str, ...]], Any]] = {}
    for kernel in kernels or every_kernel():
        found.setdefault(kernel.file, {})[kernel.entry or kernel.name, kernel.flags] = kernel
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for target in capabilities:
            for file, some in found.items():
                build = lambda kernel, target=target: launch.build(
                    launch.source(kernel.file, [kernel.entry]), target, kernel.flags
                )
                list(threads.map(build, some.values()))
                yield f"sm_{target}: {file}, {len(some)} kernels"
    yield f"kept in {launch.cache_folder()}"
