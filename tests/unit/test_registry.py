"""Selection of a backend, binding of kernels, and their invalidation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import corelib as cl
from corelib import ops
from corelib.plugin_api import Backend, BackendInfo, KernelSet, Overlay, hookimpl, registry


class NumPyish(Backend):
    """A few kernels, so that binding can be watched."""

    kernels = KernelSet()

    def from_host(self, buffer, shape, dtype):
        return (
            np.frombuffer(bytes(buffer), dtype.numpy).reshape(shape)
            if shape and 0 not in shape
            else np.empty(shape, dtype.numpy)
        )

    def to_host(self, array):
        return np.ascontiguousarray(array)


NumPyish.kernels.add(ops.add, np.add, dtypes=[cl.float32])


class Half(Overlay):
    """An overlay of reference whose exp is wrong in a visible way."""

    kernels = KernelSet()


@Half.kernels.implements(ops.exp)
def _half_exp(x, /):
    from corelib.plugin_api import Tensor

    return ops.full((), 0.5, dtype=Tensor(x, registry.get("reference")).dtype, device="reference")._data


class Plugin:
    """Declares what it is given."""

    def __init__(self, *infos):
        self.infos = list(infos)

    @hookimpl
    def declare_backend(self):
        return self.infos


@pytest.fixture
def plugged():
    """Register plugins for the time of a test."""
    added = []

    def plug(plugin, name):
        cl.register(plugin, name)
        added.append(name)

    yield plug
    for name in reversed(added):
        if registry.manager.has_plugin(name):
            cl.unregister(name)


HERE = f"{__name__}:"


@pytest.fixture
def numpyish(plugged, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyish_under_test", sys.modules[__name__])
    plugged(
        Plugin(BackendInfo("numpyish", load="numpyish_under_test:NumPyish", priority=-5)), "numpyish-plugin"
    )


def test_set_backend_use_backend_and_device_choose_where_tensors_are_created():
    before = cl.get_backend()
    try:
        cl.set_backend("reference")
        assert cl.get_backend() == "reference" and cl.zeros(2).device == "reference"
        with cl.use_backend("cpu") as device:
            assert device == cl.get_backend() == "cpu" == cl.zeros(2).device
            assert cl.zeros(2, device="reference").device == "reference"
        assert cl.get_backend() == "reference"
    finally:
        cl.set_backend(before)


def test_ops_follow_their_operands_not_the_selection():
    x = cl.ones(2, device="reference")
    with cl.use_backend("cpu"):
        assert (x + x).device == "reference"


def test_use_backend_is_local_to_its_thread():
    seen, inside, done = {}, threading.Barrier(2), threading.Barrier(2)

    def work(device):
        with cl.use_backend(device):
            inside.wait()
            seen[device] = cl.zeros(1).device
            done.wait()

    threads = [threading.Thread(target=work, args=(d,)) for d in ("cpu", "reference")]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert seen == {"cpu": "cpu", "reference": "reference"}


def test_unknown_names_are_answered_with_the_nearest_and_what_to_do():
    with pytest.raises(
        cl.BackendNotFoundError, match=r"no backend 'cpi'; did you mean 'cpu'.*python -m corelib backends"
    ):
        cl.set_backend("cpi")
    with pytest.raises(cl.BackendNotFoundError, match=r"no device 'cpu:3': backend 'cpu' has cpu"):
        cl.zeros(2, device="cpu:3")
    with pytest.raises(cl.BackendNotFoundError, match="must be a number"):
        cl.zeros(2, device="cpu:first")
    with pytest.raises(cl.BackendError, match="a device is a string"):
        cl.zeros(2, device=7)


def test_an_unusable_backend_says_why():
    status = {s.name: s for s in cl.backends()}
    assert status["reference"].usable and status["cpu"].usable
    if not status["cuda"].usable:
        assert status["cuda"].reason
        with pytest.raises(cl.BackendNotFoundError) as caught:
            cl.set_backend("cuda")
        assert status["cuda"].reason in str(caught.value)


@pytest.mark.parametrize(("variable", "value", "expected"), [
    ("CORELIB_BACKEND", "reference", "reference"),
    ("CORELIB_PLUGINS", "reference", "reference"),
    ("CORELIB_PLUGINS", "-cpu,-cuda,-numpy", "reference"),
])  # fmt: skip
def test_environment_variables_select(variable, value, expected):
    code = "import corelib; print(corelib.get_backend())"
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("CORELIB_")}, variable: value}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == expected


def test_kernels_are_bound_once_per_op_and_dtype(numpyish, plugged):
    asked = []

    class Watch:
        @hookimpl(wrapper=True)
        def find_kernel(self, op, dtype, backend):
            asked.append((op.name, dtype.name, backend.device))
            return (yield)

    plugged(Watch(), "watch")
    x = cl.asarray([1.0, 2.0], device="numpyish")
    for _ in range(3):
        assert (x + x).tolist() == [2.0, 4.0]
    assert asked.count(("add", "float32", "numpyish")) == 1


def test_registering_and_unregistering_refills_tables_in_place_and_bumps_the_generation(numpyish, plugged):
    x = cl.asarray([1.0, 2.0], device="numpyish")
    assert (x + x).tolist() == [2.0, 4.0]
    backend, generation = registry.get("numpyish"), registry.generation
    table = backend.tables[cl.float32]

    class Doubling:
        @hookimpl(wrapper=True)
        def find_kernel(self, op, dtype, backend):
            kernel = yield
            return (lambda *a, **k: 2 * kernel(*a, **k)) if backend.name == "numpyish" else kernel

    plugged(Doubling(), "doubling")
    assert registry.generation == generation + 1 and backend.tables[cl.float32] is table
    assert (x + x).tolist() == [4.0, 8.0]
    cl.unregister("doubling")
    assert (x + x).tolist() == [2.0, 4.0] and registry.generation == generation + 2


def test_a_missing_kernel_is_refused_in_a_sentence(numpyish):
    x = cl.asarray([1.0, 2.0], device="numpyish")
    with pytest.raises(
        cl.UnsupportedError, match=r"backend 'numpyish' has no kernel for subtract on float32: use x.to"
    ):
        x - x
    y = cl.asarray([1, 2], device="numpyish")
    with pytest.raises(cl.UnsupportedError, match="no kernel for add on int64"):
        y + y


def test_a_fallback_is_asked_for_by_name_and_logged(numpyish, monkeypatch, caplog):
    monkeypatch.setenv("CORELIB_FALLBACK", "reference")
    x = cl.asarray([1.0, 4.0], device="numpyish")
    assert ops.sqrt(x).tolist() == [1.0, 2.0] and ops.sqrt(x).device == "numpyish"
    assert "sqrt on float32 runs on 'reference': backend 'numpyish' has no kernel for it" in caplog.text


def test_an_overlay_replaces_some_kernels_and_inherits_the_rest(plugged, monkeypatch):
    monkeypatch.setitem(sys.modules, "half_under_test", sys.modules[__name__])
    plugged(Plugin(BackendInfo("half", load="half_under_test:Half", base="reference")), "half-plugin")
    x = cl.asarray([0.0, 1.0], device="half")
    assert ops.exp(cl.asarray(3.0, device="half")).item() == 0.5
    assert (x + x).tolist() == [0.0, 2.0] and (x + x).device == "half"
    assert ops.square(x).tolist() == [0.0, 1.0] and ops.square(x).device == "half"
    assert x.to("reference").device == "reference"


def test_tensors_outlive_their_plugin(numpyish):
    x = cl.asarray([1.0, 2.0], device="numpyish")
    cl.unregister("numpyish-plugin")
    assert x.tolist() == [1.0, 2.0] and (x + x).tolist() == [2.0, 4.0]
    with pytest.raises(cl.BackendNotFoundError, match="no backend 'numpyish'"):
        cl.zeros(2, device="numpyish")


def test_operands_on_different_backends_are_never_copied_silently():
    a, b = cl.ones(2, device="cpu"), cl.ones(2, device="reference")
    for op in (
        lambda: a + b,
        lambda: ops.where(a > 0, a, b),
        lambda: ops.matmul(a, b),
        lambda: ops.concat([a, b]),
    ):
        with pytest.raises(cl.BackendError, match=r"operands on 'cpu' and 'reference': call x.to"):
            op()
    assert (a + b.to("cpu")).tolist() == [2.0, 2.0]


def test_two_threads_may_bind_and_call_at_once():
    results = []

    def work(seed):
        x = cl.full((1000,), float(seed))
        for _ in range(20):
            x = ops.tanh(x * 1.01 + 0.01)
        results.append((seed, x.tolist()[0]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    alone = []
    for seed in range(8):
        results.sort()
        x = cl.full((1000,), float(seed))
        for _ in range(20):
            x = ops.tanh(x * 1.01 + 0.01)
        alone.append((seed, x.tolist()[0]))
    assert results == alone


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "CORELIB_BACKEND",
            "cpuu",
            r"the environment variable CORELIB_BACKEND is 'cpuu': no backend 'cpuu'; did you mean 'cpu'",
        ),
        ("CORELIB_PLUGINS", "nothing", r"CORELIB_PLUGINS names 'nothing', but no such plugin is installed"),
        (
            "CORELIB_PLUGINS",
            "-cpu,-cuda,-reference",
            r"CORELIB_PLUGINS is '-cpu,-cuda,-reference', which leaves no plugin",
        ),
    ],
)
def test_an_error_names_the_environment_variable_behind_it(variable, value, words):
    code = "import corelib; corelib.ones(2)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, variable: value}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(words, done.stderr), done.stderr
