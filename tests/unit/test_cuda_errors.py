"""What the `cuda` backend says when something goes wrong: memory, devices that have failed, bad arrays, sources and caches. On
the emulated device, or with a stand-in for the part of CuPy that is concerned; what only a device can provoke is in docs/cuda.md.
"""

from __future__ import annotations

import gc
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_emulator"))
import emulated_cupy
import emulated_streams

import corelib as cl
import corelib_cuda
from corelib import ops
from corelib.registry import registry
from corelib_cuda import launch, nvrtc
from corelib_cuda.backend import CudaBackend

REASON = emulated_cupy.unusable()
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
compiled = pytest.mark.skipif(
    nvrtc.find_library() is None,
    reason="NVRTC, the CUDA compiler, is not installed: `pip install corelib[cuda-dev]`",
)
pytestmark = pytest.mark.xdist_group("cuda_errors")


@pytest.fixture
def cuda():
    with emulated_cupy.installed():
        assert "cuda" not in registry._instances
        yield "cuda"
        emulated_streams.failure = None
        registry._instances.pop("cuda", None)


# ---------------------------------------------------------------------------------------------------------------- memory


@emulated
def test_out_of_memory_says_what_was_asked_what_is_held_and_what_helps_and_the_process_goes_on(cuda):
    kept = cl.ones((1000,), device=cuda)
    with pytest.raises(
        cl.OutOfMemoryError,
        match=r"broadcast_to|full: the result float32\[1000, 1000, 1000\] takes 4 GB, more than 'cuda' can allocate "
        r"\([\d.]+ \w+ used, [\d.]+ \w+ held, 1.07 GB free\): let go of tensors .* smaller batches .* corelib.empty_cache\(\)",
    ) as caught:
        cl.full((1000, 1000, 1000), 1.0, device=cuda)
    assert isinstance(caught.value, MemoryError)
    assert (kept + 1).sum().item() == 2000.0


@emulated
def test_memory_is_counted_and_given_back(cuda):
    gc.collect()
    before = cl.memory_stats(cuda)
    assert set(before) == {"used", "held", "free"}
    x = cl.zeros((2048,), device=cuda)
    assert cl.memory_stats(cuda)["used"] - before["used"] == 8192
    del x
    cl.empty_cache(cuda)
    cl.synchronize(cuda)
    assert cl.memory_stats(cuda) == before


# --------------------------------------------------------------------------------------------------------------- devices


@emulated
def test_a_device_index_that_does_not_exist(cuda):
    with pytest.raises(cl.BackendNotFoundError, match=r"'cuda:7'.*cuda"):
        cl.zeros((2,), device="cuda:7")


BROKEN = (
    'extern "C" __global__ void broken(float32* y) { volatile size_t nowhere = 16; *(float32*)nowhere = *y; }'
)


def fails_later():
    """A kernel that writes where nothing is: reported by a later call, as on a device."""
    launch.Kernel("elementwise.cu", "broken", BROKEN)((1,), (1,), (emulated_cupy.ndarray((4,), np.float32),))


@emulated
def test_after_a_device_has_failed_every_use_says_so(cuda, monkeypatch):
    x = cl.ones((4,), device=cuda)
    monkeypatch.setattr(emulated_cupy, "asynchronous", True)
    fails_later()
    sentence = (
        r"the CUDA device has failed: .*illegal.*in this op or in one before it.*start another.*debugging"
    )
    for use in (
        lambda: cl.exp(x),
        lambda: x.tolist(),
        lambda: cl.synchronize(cuda),
        lambda: cl.asarray([1.0], device=cuda),
    ):
        with pytest.raises(cl.BackendError, match=sentence):
            use()


@emulated
def test_in_debug_mode_the_op_that_fails_is_named(cuda, monkeypatch):
    x = cl.ones((4,), device=cuda)
    monkeypatch.setattr(emulated_cupy, "asynchronous", True)
    find = CudaBackend.find

    def broken(self, op, dtype):
        return (lambda x, /: (fails_later(), x)[1]) if op.name == "sinh" else find(self, op, dtype)

    monkeypatch.setattr(CudaBackend, "find", broken)
    with corelib_cuda.debugging():
        y = cl.exp(x)
        with pytest.raises(
            cl.BackendError, match=r"sinh\(float32\[4\]\) with {} made 'cuda' fail: .*illegal"
        ):
            cl.sinh(y)
        with pytest.raises(
            cl.BackendError, match="sinh"
        ):  # and is still named when everything else fails as well
            cl.cosh(y)


@emulated
def test_debugging_computes_the_same_and_leaves_nothing_behind(cuda):
    x = cl.asarray([[0.5, 2.0], [1.0, -1.0]], device=cuda)
    plain = cl.softmax(x @ x, axis=-1).tolist()
    with corelib_cuda.debugging():
        np.testing.assert_allclose(cl.softmax(x @ x, axis=-1).tolist(), plain, rtol=1e-6)
    assert "corelib_cuda.debugging" not in [n for n, _ in registry.manager.list_name_plugin()]


@emulated
def test_an_array_of_the_host_is_refused(cuda):
    """Another library's array becomes a tensor by asarray only; one that got into a kernel is named in debug mode."""
    x, host = cl.ones((3,), device=cuda), np.ones(3, np.float32)
    with pytest.raises(TypeError):
        ops.add(x, host)
    kernel = registry.get("cuda").find(ops.add.op, cl.float32)
    with pytest.raises((TypeError, RuntimeError)):
        kernel(x._data, host)
    with (
        corelib_cuda.debugging(),
        pytest.raises(cl.BackendError, match=r"operand 1 is an array of the host, float32\[3\]"),
    ):
        registry.bind(ops.add.op, cl.float32, registry.get("cuda"))(x._data, host)


@emulated
@pytest.mark.parametrize("index", [[5], [-6], [2**40]])
def test_an_index_out_of_bounds_is_an_error(cuda, index):
    x = cl.arange(5, device=cuda)
    i = cl.asarray(index, device=cuda)
    for use in (lambda: x[i], lambda: cl.take(x, i, axis=0), lambda: cl.take_along_axis(x, i, axis=0)):
        with pytest.raises(IndexError, match=str(index[0])):
            use()
    with pytest.raises(IndexError):
        x[i] = 1
    assert x.tolist() == [0, 1, 2, 3, 4]


# --------------------------------------------------------------------------------------------------- compiling, the cache


@compiled
def test_the_log_of_a_refused_kernel_is_trimmed():
    wrong = "\n".join(f"__global__ void k{i}() {{ undeclared{i} = 1; }}" for i in range(60))
    with pytest.raises(nvrtc.CompilationError, match=r"wrong.cu.*undeclared0") as caught:
        nvrtc.compiler().compile(wrong, 90, "wrong.cu")
    assert len(str(caught.value).splitlines()) == 22
    assert str(caught.value).endswith("lines more")


@pytest.fixture
def loader(monkeypatch, tmp_path):
    """Loads what is an ELF image, as a driver does; the kernels are never run."""
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))

    class Module:
        def __init__(self, path):
            if Path(path).read_bytes()[:4] != b"\x7fELF":
                raise RuntimeError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")

        def get_function(self, name):
            return types.SimpleNamespace(kernel=lambda *_: name)

    runtime = types.SimpleNamespace(runtimeGetVersion=lambda: 13000, getDeviceCount=lambda: 1)
    device = lambda index: types.SimpleNamespace(compute_capability="90")
    cuda = types.SimpleNamespace(runtime=runtime, Device=device)
    cupy = types.SimpleNamespace(cuda=cuda, RawModule=Module)
    monkeypatch.setattr(launch, "cupy", lambda: cupy)
    for remembered in (launch.device_count, launch.capability):
        remembered.cache_clear()
    remembered = (launch.device_count, launch.capability)
    yield tmp_path / "cuda"
    for function in remembered:
        function.cache_clear()


@compiled
@pytest.mark.parametrize("damage", [b"", b"not an image"], ids=["empty", "garbage"])
def test_a_corrupt_image_is_compiled_again(loader, caplog, damage):
    launch.Kernel("random.cu", "random_words")._load(0)
    (image,) = loader.iterdir()
    whole = image.read_bytes()
    image.write_bytes(damage)
    launch.Kernel("random.cu", "random_words")._load(0)
    assert image.read_bytes() == whole
    assert "cannot be loaded (CUDA_ERROR_INVALID_IMAGE" in caplog.text


@compiled
def test_a_cache_that_cannot_be_written_is_said_and_done_without(loader, caplog):
    loader.parent.joinpath("cuda").write_text("a file where the folder should be")
    launch.Kernel("random.cu", "random_words")._load(0)
    assert "cannot be written" in caplog.text
    assert loader.read_text() == "a file where the folder should be"


@compiled
def test_a_device_newer_than_the_compiler_gets_an_image_that_its_driver_translates(loader, monkeypatch):
    monkeypatch.setattr(launch, "capability", lambda device: 999)
    with pytest.raises(
        RuntimeError, match="INVALID_IMAGE"
    ):  # PTX, which the stand-in above does not translate
        launch.Kernel("random.cu", "random_words")._load(0)
    assert [path.suffix for path in loader.iterdir()] == [".ptx"]


def test_the_cache_of_another_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CORELIB_CACHE_DIR", os.fspath(tmp_path))
    assert launch.cache_folder() == tmp_path / "cuda"
