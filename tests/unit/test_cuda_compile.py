"""Every kernel of the `cuda` backend compiles for real devices, without registers spilled to memory. NVRTC needs no device."""

from __future__ import annotations

import re

import pytest

from corelib import dtypes
from corelib_cuda import (
    attention,
    contract,
    conv,
    copy,
    elementwise,
    indexing,
    launch,
    linalg,
    nvrtc,
    ordering,
    pool,
    reduce,
    scan,
    softmax,
    warmup,
)

MISSING = nvrtc.find_library() is None
REASON = "NVRTC, the CUDA compiler, is not installed: `pip install corelib[cuda-dev]`"
pytestmark = pytest.mark.skipif(MISSING, reason=REASON)

# The work of a capability stays on one worker: seconds of compilation that another cannot share.
CAPABILITIES = [pytest.param(c, marks=pytest.mark.xdist_group(f"nvrtc_{c}")) for c in (80, 90)]
NAMES = [d.name for d in dtypes.ALL]
# Forms other than arrays everywhere, and 64-bit indices, differ in the operands' loads alone: a few dtypes stand for all.
SOME = [(d.name, d.kind) for d in (dtypes.bool, dtypes.int8, dtypes.float32, dtypes.int64, dtypes.complex128)]


def forms_of(kernel):
    if "position" in kernel.inputs:
        return ["pvv"]
    return ["v"] if kernel.name.startswith("full") else ["a" * len(kernel.inputs)]


def elementwise_entries():
    for kernel in elementwise.every_kernel(NAMES):
        for forms in forms_of(kernel):
            yield kernel.entry(forms, "dense", 32)
            if forms[0] == "a":
                yield kernel.entry(forms, "strided", 32)


def elementwise_variants():
    for dtype, kind in SOME:
        for name in ("add" if kind != "bool" else "bitwise_xor", "equal"):
            kernel = elementwise.describe(name, dtype, kind)
            for forms in ("aa", "av", "va"):
                for walk, bits in (("dense", 32), ("dense", 64), ("strided", 32), ("strided", 64)):
                    if (forms, bits) != ("aa", 32):
                        yield kernel.entry(forms, walk, bits)
        for forms in ("aav", "ava"):
            yield elementwise.where_kernel(dtype).entry(forms, "dense", 32)
            yield elementwise.where_kernel(dtype).entry(forms, "strided", 32)


def reduce_entries():
    for reduction in reduce.every_reduction(NAMES):
        for walk in ("rows", "columns"):
            yield reduction.entry(walk, "")
    for reduction in reduce.every_reduction(
        ["float32", "int64", "complex128"]
    ):  # the steps of a cut: the same reducers again
        for walk in ("rows", "columns"):
            yield reduction.entry(walk, "_begin")
            yield reduction.entry(walk, "_end")


def scan_entries():
    for one in scan.every_scan(NAMES):
        for walk in ("rows", "columns"):
            yield one.entry("scan", walk)
    for one in scan.every_scan(["float32", "int64", "complex128"]):  # totals are states: of three types
        for walk in ("rows", "columns"):
            yield one.entry("totals", walk)


def softmax_entries():
    for name in ("float32", "float64"):
        kernel = softmax.softmax(name)
        for variant in kernel.variants():
            yield kernel.entry(*variant)


FILES = {
    "elementwise.cu": lambda: [
        *elementwise_entries(),
        *elementwise_variants(),
        indexing.linear_index.entry("aav", "dense", 32),
        indexing.clamped.entry("a", "dense", 32),
        *(kernel.entry(forms, "dense", 32) for kernel, forms in linalg.every_kernel(NAMES)),
    ],
    "pool.cu": lambda: [(k.name, k.entry) for k in pool.every_kernel()],
    "reduce.cu": lambda: list(reduce_entries()),
    "attention.cu": lambda: [(k.name, k.entry) for k in attention.every_kernel(False)],
    "attention_mma.cu": lambda: [(k.name, k.entry) for k in attention.every_kernel(True)],
    "conv.cu": lambda: [(k.name, k.entry) for k in conv.every_kernel()],
    "copy.cu": lambda: [(k.name, k.entry) for k in copy.every_copy()],
    "scan.cu": lambda: list(scan_entries()),
    "softmax.cu": lambda: list(softmax_entries()),
    "sort.cu": lambda: [(k.name, k.entry) for k in ordering.every_kernel()],
    "random.cu": lambda: [("random_words", "")],
    "index.cu": lambda: [(k.name, k.entry) for k in indexing.every_move(NAMES)],
    "matmul.cu": lambda: [(k.name, k.entry) for k in contract.every_matmul(NAMES)],
}


def compiled(file, entries, capability):
    return nvrtc.compiler().compile(
        launch.source(file, [code for _, code in entries]), capability, file, ["--ptxas-options=-v"]
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("file", FILES)
def test_every_kernel_compiles_without_warnings_or_spills(file, capability):
    entries = FILES[file]()
    image, log = compiled(file, entries, capability)
    assert image[:4] == b"\x7fELF"
    assert "warning" not in log
    report = re.findall(
        r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    assert {name for name, _ in entries} <= {name for name, _, _ in report}  # and functions of CUDA's library
    assert [name for name, *spilled in report if spilled != ["0", "0"]] == []


def test_there_is_a_test_for_every_source():
    elsewhere = {"group.cu"}  # test_cuda_generated.py
    assert set(FILES) | elsewhere == {path.name for path in launch.FOLDER.glob("*.cu")}


def test_every_source_but_those_that_programs_make_is_compiled_ahead():
    generated = {"group.cu"}
    assert {k.file for k in warmup.every_kernel()} | generated == {
        path.name for path in launch.FOLDER.glob("*.cu")
    }


def test_dense_kernels_move_sixteen_bytes_at_a_time():
    """Read from PTX: the packets of elementwise.cu become vector instructions, for elements of any size."""
    compiler = nvrtc.Compiler(nvrtc.compiler().path)
    compiler.target = lambda _: ("--gpu-architecture=compute_80", "PTX")
    for dtype, kind, word in (
        ("float32", "float", "v4"),
        ("float64", "float", "v2"),
        ("int8", "int", "v4"),
        ("bool", "bool", "v4"),
        ("complex64", "complex", "v4"),
        ("complex128", "complex", "v2"),
    ):
        kernel = elementwise.describe("maximum" if kind != "complex" else "add", dtype, kind)
        ptx, _ = compiler.compile(launch.source("elementwise.cu", [kernel.entry("aa", "dense", 32)[1]]), 80)
        loops = (
            1 if dtype != "complex128" else 2
        )  # an element alone is 16 bytes: the rest's loop moves as much
        assert len(re.findall(rb"ld\.global(?:\.nc)?\." + word.encode(), ptx)) == 2 * loops
        assert len(re.findall(rb"st\.global\." + word.encode(), ptx)) == loops


def test_arithmetic_is_full_precision():
    """Subnormals are kept, division and square root are rounded correctly: seen in the instructions."""
    compiler = nvrtc.Compiler(nvrtc.compiler().path)
    compiler.target = lambda _: ("--gpu-architecture=compute_80", "PTX")
    for name, instruction in (("divide", b"div.rn.f32"), ("sqrt", b"sqrt.rn.f32"), ("multiply", b"mul.f32")):
        kernel = elementwise.describe(name, "float32", "float")
        ptx, _ = compiler.compile(
            launch.source("elementwise.cu", [kernel.entry("aa"[: len(kernel.inputs)], "dense", 32)[1]]), 80
        )
        assert instruction in ptx
        assert b".ftz" not in ptx
        assert b".approx" not in ptx


def test_a_refused_source_raises_with_the_log():
    with pytest.raises(nvrtc.CompilationError, match=r"wrong\.cu"):
        nvrtc.compiler().compile("__global__ void k() { undeclared = 1; }", 90, "wrong.cu")


def test_a_device_newer_than_the_compiler_gets_ptx_and_one_too_old_is_refused():
    compiler = nvrtc.compiler()
    assert compiler.target(90) == ("--gpu-architecture=sm_90", "CUBIN")
    assert compiler.target(999) == (f"--gpu-architecture=compute_{compiler.architectures[-1]}", "PTX")
    with pytest.raises(nvrtc.CompilationError, match=r"the device has 3\.5"):
        compiler.target(35)


def test_compiled_kernels_are_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "cuda_major", lambda: 13)
    code = launch.source("random.cu", [])
    first = launch.build(code, 90)
    monkeypatch.setattr(nvrtc.Compiler, "compile", lambda *_, **__: pytest.fail("compiled again"))
    assert launch.build(code, 90) == first
    assert first.endswith(".cubin")
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        launch.build(code, 80)
