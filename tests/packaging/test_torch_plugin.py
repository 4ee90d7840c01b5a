"""A second stranger's backend, on PyTorch: built, installed into a fresh environment beside corelib's wheel, and used."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "corelib_torch"

pytestmark = [
    pytest.mark.xdist_group("wheels"),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="PyTorch is not installed: pip install torch --index-url https://download.pytorch.org/whl/cpu",
    ),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    """The environment of the first stranger's tests, with this plugin in place of that one."""
    folder = tmp_path_factory.mktemp("torch")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PLUGIN, check=True, capture_output=True)
    environment = runpy.run_path(str(Path(__file__).with_name("test_stranger.py")))["Environment"]
    return environment(folder / "venv", [wheel, *folder.glob("*.whl")])


def test_it_stays_small():
    lines = [line for file in PLUGIN.rglob("*.py") for line in file.read_text().splitlines() if line.strip()]
    assert len(lines) < 400


def test_it_is_listed(installed):
    listed = installed.run("-m", "corelib", "backends")
    (row,) = [line for line in listed.splitlines() if re.search(r"^\W*torch\b", line)]
    assert row.split()[1:3] == ["yes", "yes"]


def test_memory_is_pytorchs_and_numpys(installed):
    installed.script("""
        import numpy as np, torch
        import corelib as cl
        cl.set_backend("torch")
        address = lambda x: x._data.data_ptr()
        for dtype in ("bool", "uint8", "uint16", "uint64", "int64", "float16", "bfloat16", "float64", "complex64"):
            theirs = torch.ones(5, dtype=getattr(torch, dtype))
            x = cl.asarray(theirs)
            assert (x.dtype, x.device, x.shape) == (dtype, "torch", (5,))
            assert theirs.data_ptr() == address(x) == torch.from_dlpack(x).data_ptr()
        a = np.arange(5.0)
        assert address(cl.asarray(a)) == a.ctypes.data == np.asarray(cl.asarray(a)).ctypes.data
        assert cl.asarray(a[::-1]).tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]
        odd = np.frombuffer(b"." + np.full(4, 1.5j).tobytes(), "complex128", 4, 1)  # at an odd address
        x = cl.asarray(odd)
        x[2] = 7
        assert address(x) % 16 == 0 and x.tolist() == [1.5j, 1.5j, 7, 1.5j]
    """)


def test_assignment_is_in_place_where_nobody_sees_it(installed):
    installed.script("""
        import numpy as np, torch
        import corelib as cl
        cl.set_backend("torch")
        address = lambda x: x._data.data_ptr()
        for dtype in (cl.float32, cl.uint16):
            x = cl.zeros(9, dtype=dtype)
            before = address(x)
            x[3] = 7
            assert address(x) == before and x[3:5].tolist() == [7, 0]
            for other in (lambda: x[1:4], lambda: np.asarray(x), lambda: torch.from_dlpack(x), lambda: x.detach()):
                x = cl.zeros(9, dtype=dtype)
                seen = other()
                x[3] = 7
                assert (x[3].item(), max(seen.tolist())) == (7, 0)
        theirs = torch.zeros(3)
        x = cl.asarray(theirs)
        x[0] = 1
        assert (x[0].item(), theirs[0].item()) == (1, 0)
    """)


def test_equal_indices_give_the_same_every_time(installed):
    """Kernels of PyTorch's own that add and replace do it in the order in which their threads come."""
    installed.script("""
        import corelib as cl
        from corelib import ops
        with cl.use_backend("torch"):
            i, v = cl.random.integers(0, 50, (100_000,)), cl.random.normal((100_000,))
            place = lambda op: op(cl.zeros(50), v, i, axis=0, overwrite=False).tolist()
            last = dict(zip(i.tolist(), v.tolist()))
            assert place(ops.scatter) == [last[k] for k in range(50)]
            first = place(ops.scatter_add)
            assert all(place(ops.scatter_add) == first for _ in range(5))
    """)


def test_training(installed):
    out = installed.script("""
        import corelib as cl
        from corelib import nn, optim
        cl.set_backend("torch")
        cl.random.seed(0)
        x = cl.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        y = cl.asarray([0, 1, 1, 0])
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        optimizer = optim.AdamW(model.parameters(), lr=0.05)
        for step in range(100):
            loss = cl.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert {p.device for p in model.parameters()} == {"torch"}
        print(loss.item())
    """)
    assert float(out) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("part", [("--what", "special"), ("--profile", "smoke")], ids=lambda part: part[-1])
def test_conformance(installed, part):
    """All of it is `corelib conformance torch`, which takes minutes."""
    out = installed.run("-W", "error", "-m", "corelib", "conformance", "torch", "-j", "0", *part)
    assert ", 0 failed, 0 unsupported, " in out.rstrip().splitlines()[-1]
