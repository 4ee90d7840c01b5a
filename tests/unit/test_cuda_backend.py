"""What the `cuda` backend says of itself where there is no device, and what it registers: neither CuPy nor a GPU is needed."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from corelib import dtypes
from corelib.op import OPS
from corelib_cuda import backend as cuda_backend
from corelib_cuda import launch, layout, nvrtc
from corelib_cuda.backend import CudaBackend
from corelib_cuda.kernels import kernels

PRIMITIVES = [op for op in OPS if op.primitive]


@pytest.mark.parametrize("op", PRIMITIVES, ids=lambda op: op.name)
def test_every_primitive_has_a_kernel(op):
    assert kernels.has(op)


def test_element_wise_kernels_exist_for_every_dtype_that_an_op_accepts():
    """The expressions cover what the rules accept: building a kernel needs no device."""
    from corelib_cuda import elementwise

    for op in PRIMITIVES:
        if op.name in elementwise.UNARY or op.name in elementwise.BINARY:
            for dtype in op.rule.accepts:
                # float16 and bfloat16 are computed in float32, by the core
                assert (kernels.get(op, dtype) is None) == (dtype in dtypes.HALF and not op.moves)


def test_importing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, corelib_cuda.plugin; print([m for m in ('numpy', 'cupy', 'numba') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_importing_the_backend_does_not_import_cupy():
    code = "import sys, corelib_cuda.backend; print('cupy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# --------------------------------------------------------------------------------------------------- why it is unusable


class Runtime:
    """A machine, as CuPy's runtime module describes it."""

    def __init__(self, driver=13000, runtime=13000, devices=1, capability="90"):
        self.driver, self.runtime, self.devices, self.capability = driver, runtime, devices, capability

    def driverGetVersion(self):
        return self.driver

    def runtimeGetVersion(self):
        return self.runtime

    def getDeviceCount(self):
        if isinstance(self.devices, Exception):
            raise self.devices
        return self.devices


@pytest.fixture
def machine(monkeypatch):
    def install(**facts):
        runtime = Runtime(**facts)
        device = lambda index: types.SimpleNamespace(compute_capability=runtime.capability)
        cuda = types.SimpleNamespace(runtime=runtime, Device=device)
        for module in (cuda_backend, launch):
            monkeypatch.setattr(module, "cupy", lambda: types.SimpleNamespace(cuda=cuda))
        monkeypatch.setattr(cuda_backend.importlib.util, "find_spec", lambda name: object())
        launch.capability.cache_clear()
        launch.device_count.cache_clear()

    yield install
    launch.capability.cache_clear()
    launch.device_count.cache_clear()


def test_without_cupy_the_reason_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(cuda_backend.importlib.util, "find_spec", lambda name: None)
    assert CudaBackend.probe() == (
        "CuPy is not installed: `pip install corelib[cuda12]` or `pip install corelib[cuda13]`, whichever fits the driver"
    )


def test_a_cupy_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setattr(cuda_backend.importlib.util, "find_spec", lambda name: object())

    def broken():
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(cuda_backend, "cupy", broken)
    assert "CuPy cannot be imported (libcudart.so.13" in CudaBackend.probe()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"driver": 0}, "no NVIDIA driver was found"),
        ({"driver": 12080}, "supports CUDA 12.8, and CuPy was built for CUDA 13.0: update the driver, or `pip install corelib[cuda12]`"),
        ({"devices": RuntimeError("cudaErrorNoDevice")}, "offers no CUDA device (cudaErrorNoDevice)"),
        ({"devices": 0}, "no CUDA device is visible"),
        ({"capability": "61"}, "compute capability 6.1, and 7.0 is needed"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_first_obstacle_is_the_reason(machine, facts, reason):
    machine(**facts)
    found = CudaBackend.probe()
    assert found is not None
    assert reason in found


def test_a_machine_with_everything_is_usable(machine, monkeypatch):
    machine(devices=2)
    monkeypatch.setattr(nvrtc, "find_library", lambda major: "libnvrtc.so.13")
    assert CudaBackend.probe() is None
    assert CudaBackend.devices() == ["cuda", "cuda:1"]


def test_a_machine_without_the_compiler_is_told_where_it_comes_from(machine, monkeypatch):
    machine()
    monkeypatch.setattr(nvrtc, "find_library", lambda major: None)
    assert "NVRTC" in CudaBackend.probe()


def test_with_several_devices_each_kernel_makes_its_own_device_current(machine, monkeypatch):
    machine(devices=2)
    entered = []

    class Device:
        compute_capability = "90"

        def __init__(self, index):
            self.index = index

        def __enter__(self):
            entered.append(self.index)

        def __exit__(self, *_):
            entered.append("left")

    launch.cupy().cuda.Device = Device
    second = CudaBackend("cuda", 1)
    assert str(second) == "cuda:1"
    reshape = second.find(next(op for op in PRIMITIVES if op.name == "reshape"), dtypes.float32)
    dense = types.SimpleNamespace(reshape=lambda shape: shape, flags=types.SimpleNamespace(c_contiguous=True))
    assert reshape(dense, shape=(2, 3)) == (2, 3)
    assert entered == [1, "left"]


@pytest.mark.device("cuda")
def test_a_real_device_computes():
    import corelib

    x = corelib.asarray([1.0, 2.0, 4.0], device="cuda")
    assert corelib.log2(x).tolist() == [0.0, 1.0, 2.0]


# -------------------------------------------------------------------------------------------------------------- layouts


def test_dimensions_that_every_operand_walks_evenly_are_merged():
    assert layout.merge((4, 5, 6), [(30, 6, 1), (30, 6, 1)]) == ([120], [[1], [1]])
    assert layout.merge((4, 5, 6), [(30, 6, 1), (0, 6, 1)]) == ([30, 4], [[1, 30], [1, 0]])
    assert layout.merge((4, 1, 6), [(6, 99, 1)]) == ([24], [[1]])
    assert layout.merge((), [()]) == ([1], [[0]])
    assert layout.merge((3, 4), [(-4, -1)]) == ([12], [[-1]])


def test_reach_is_the_farthest_offset():
    assert layout.reach([3, 4], [1, -10]) == 30
    assert layout.reach([3, 4], [1, 10]) == 32


@pytest.mark.parametrize(
    ("shape", "strides", "axes", "expected"),
    [
        ((4, 5, 6), (30, 6, 1), (-1,), ((0, 1, 2), (20, 6, 1))),
        ((4, 5, 6), (30, 6, 1), (-2,), ((0, 1, 2), (4, 5, 6))),
        ((4, 5, 6), (30, 6, 1), (-3, -1), ((0, 1, 2), None)),
        ((6, 4, 5), (1, 30, 6), (-3,), ((1, 2, 0), (20, 6, 1))),  # a permuted dense array is dense
        ((4, 5), (10, 2), (-1,), ((0, 1), None)),
        ((4, 5), (-5, 1), (-1,), ((0, 1), None)),
        ((), (), (), ((), (1, 1, 1))),
        ((1, 7), (7, 1), (-2,), ((1, 0), (7, 1, 1))),
    ],
)
def test_reduced_axes_are_found_in_memory_order(shape, strides, axes, expected):
    assert layout.split(shape, strides, axes) == expected


def test_the_compiler_is_not_loaded_by_imports():
    code = "import sys, corelib_cuda.backend as b; print(b.nvrtc.compiler.cache_info().currsize)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"
