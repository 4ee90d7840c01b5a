"""The machinery of the cpu backend: code on disk, threads, buffers, and what importing it costs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

native = pytest.importorskip("corelib_cpu.native")

import corelib  # noqa: E402
from corelib_cpu import elementwise, launch, pool, reduce  # noqa: E402

# --- code on disk

DOUBLE = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out = at_int64(words[0])
    for i in range(lo, hi):
        out[i] = {factor} * i
"""
PROGRAM = """
import sys
import numpy as np
from corelib_cpu import launch, native
address = native.address({source!r})
out = np.empty(10, np.int64)
launch.launch(address, 10, 10, out)
print(out.tolist() == [7 * i for i in range(10)], "corelib_cpu.walk" in sys.modules)
"""


def run_program(directory: Path, text: str = PROGRAM.format(source=DOUBLE.format(factor=7))) -> str:
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_compiled_code_is_kept_on_disk(tmp_path: Path) -> None:
    assert run_program(tmp_path) == "True True"
    assert list((tmp_path / "cpu").glob("*.o")) and not list((tmp_path / "cpu").glob("*.tmp"))
    assert run_program(tmp_path) == "True False", (
        "the second process loads what the first one compiled, without the language"
    )


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "cut"])
def test_damaged_code_is_compiled_again(tmp_path: Path, damage: bytes | None) -> None:
    run_program(tmp_path)
    for file in (tmp_path / "cpu").glob("*.o"):
        file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    assert run_program(tmp_path) == "True True"
    assert run_program(tmp_path) == "True False"


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    assert run_program(blocked) == "True True"
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert run_program(closed).startswith("True")


def test_a_full_disk_is_not_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native.os, "replace", full)
    out = np.zeros(3, np.int64)
    launch.launch(native.address(DOUBLE.format(factor=1001)), 3, 3, out)
    assert out.tolist() == [0, 1001, 2002] and not list((tmp_path / "cpu").iterdir())


def test_code_of_another_kernel_or_machine_is_not_taken(tmp_path: Path) -> None:
    """A file under a kernel's name whose checksum is right, but which has not the kernel in it."""
    run_program(tmp_path)
    run_program(tmp_path, PROGRAM.format(source=DOUBLE.format(factor=8)).replace("7 * i", "8 * i"))
    files = sorted((tmp_path / "cpu").glob("*.o"))
    for file, other in zip(files, [*files[1:], files[0]], strict=True):
        file.with_suffix(".new").write_bytes(other.read_bytes())
    for file in files:
        os.replace(file.with_suffix(".new"), file)
    assert run_program(tmp_path) == "True True"
    assert run_program(tmp_path) == "True False"


def test_a_host_with_fewer_features_compiles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    name, features = native.host()
    fewer = ",".join("-" + f[1:] if "avx512" in f else f for f in features.split(","))
    keys = set()
    for host in ((name, features), (name, fewer + ",-x"), ("generic", features)):
        monkeypatch.setattr(native, "host", lambda host=host: host)
        native._fingerprint.cache_clear()
        keys.add(native._key("a kernel"))
    monkeypatch.undo()
    native._fingerprint.cache_clear()
    assert len(keys) == 3


def test_processes_may_share_a_cache_that_is_empty(tmp_path: Path) -> None:
    environment = {**os.environ, "CORELIB_CACHE_DIR": str(tmp_path)}
    text = PROGRAM.format(source=DOUBLE.format(factor=7))
    processes = [
        subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [p.communicate(timeout=120)[0].split()[0] for p in processes] == ["True"] * 3
    assert not list((tmp_path / "cpu").glob("*.tmp"))
    assert run_program(tmp_path) == "True False"


@pytest.mark.parametrize("where", ["_optimised", "_write", "_load"])
def test_an_interrupted_compilation_is_made_again(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    source = DOUBLE.format(factor={"_optimised": 1002, "_write": 1003, "_load": 1004}[where])
    with monkeypatch.context() as patch:
        patch.setattr(native, where, interrupted)
        with pytest.raises(KeyboardInterrupt):
            native.address(source)
    out = np.zeros(2, np.int64)
    launch.launch(native.address(source), 2, 2, out)
    assert out[1] > 1000 and not list((tmp_path / "cpu").glob("*.tmp"))


def test_threads_may_compile_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    made: dict[int, int] = {}

    def work(number: int) -> None:
        out = np.zeros(2, np.int64)
        launch.launch(native.address(DOUBLE.format(factor=2000 + number % 4)), 2, 2, out)
        made[number] = int(out[1])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert made == {i: 2000 + i % 4 for i in range(12)}
    assert len(list((tmp_path / "cpu").glob("*.o"))) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_during_a_compilation_compiles_for_itself(tmp_path: Path) -> None:
    text = f"""
import os, threading, time
import numpy as np
from corelib_cpu import launch, native
source = {DOUBLE!r}
def result(factor):
    out = np.zeros(2, np.int64)
    launch.launch(native.address(source.replace("{{factor}}", str(factor))), 2, 2, out)
    return int(out[1])
result(1)
stop = False
def compiling():
    for factor in range(10, 10_000):
        if stop:
            break
        result(factor)
thread = threading.Thread(target=compiling)
thread.start()
statuses = []
for i in range(5):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        os._exit(0 if result(20_000 + i) == 20_000 + i else 1)
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
thread.join()
print(statuses)
"""
    assert run_program(tmp_path, text) == "[0, 0, 0, 0, 0]"


def test_a_long_compilation_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    ticks = iter([0.0, 2.5])
    monkeypatch.setattr(native.time, "perf_counter", lambda: next(ticks, 2.5))
    with caplog.at_level("WARNING", "corelib"):
        native._compile(DOUBLE.format(factor=3), "kernel", 3, False, "corelib_test")
    assert "compiled a kernel in 2.50 s" in caplog.text


def test_the_plugin_imports_nothing_heavy() -> None:
    text = "import sys, corelib_cpu.plugin; print([m for m in ('numpy', 'numba', 'llvmlite') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_a_tiny_program_needs_no_compiler() -> None:
    text = """
import sys
import corelib
x = corelib.asarray([[1.0, -2.0], [3.0, 4.0]], device="cpu")
y = corelib.sum(corelib.exp(x @ x) * 2 + corelib.maximum(x, 0.0))
y.item()
print([m for m in ("llvmlite", "corelib_cpu.walk") if m in sys.modules])
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


# --- threads


PINNED = """
import hashlib, os, sys
if hasattr(os, "sched_setaffinity") and sys.argv[1] == "one":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
import numpy as np
import corelib as cl
from corelib import nn, ops
from corelib_cpu import launch
launch.set_num_threads(2)  # two threads on one processor: they must not wait for each other
rng = np.random.default_rng(0)
x = cl.asarray(rng.standard_normal((256, 512)).astype("f"), device="cpu")
w = cl.asarray(rng.standard_normal((512, 512)).astype("f"), device="cpu")
step = cl.compile(lambda x, w: (ops.softmax(x @ w), ops.sum(ops.tanh(x) * x, axis=0), ops.argsort(x, axis=-1)))
digest = hashlib.sha256()
for _ in range(30):
    for result in step(x, w):
        digest.update(result.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot choose a processor")
def test_two_threads_on_one_processor_give_the_same_bits_and_do_not_hang() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PINNED, how], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for how in ("one", "all")
    }
    assert len(said) == 1


@pytest.fixture
def threads() -> Any:
    """set_num_threads, put back afterwards."""
    before = launch.get_num_threads()
    yield launch.set_num_threads
    launch.set_num_threads(before)


COUNT = """
def kernel(lo, hi, args):
    words = at_int64(args)
    out = at_int64(words[0])
    calls = words[1]
    for i in range(lo, hi):
        out[i] += 1
    atomic_add(calls, 1)
"""


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("units", [1, 2, 63, 64, 1000, 100_003])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_each_unit_of_work_is_done_once(count: int, units: int, chunk: int, threads: Any) -> None:
    threads(count)
    kernel = native.address(COUNT)
    out, calls = np.zeros(units, np.int64), np.zeros(1, np.int64)
    for repeat in range(1, 20):
        assert launch.launch(kernel, units, chunk, out, calls) is out
        assert (out == repeat).all()


def test_words_are_arrays_or_integers_of_any_kind() -> None:
    kernel = native.address(DOUBLE.format(factor="words[1]"))
    out = np.zeros(5, np.int64)
    for number in (3, np.int64(3), np.uint8(3), True + 2):
        assert launch.launch(kernel, np.int64(5), 5, out, number).tolist() == [0, 3, 6, 9, 12]
        out.fill(0)


def test_results_do_not_depend_on_the_number_of_threads(threads: Any) -> None:
    x = np.random.default_rng(0).standard_normal(300_001).astype("f")
    kernel = elementwise.make("exp", "float32")
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(kernel(x))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_python_threads_may_call_at_once() -> None:
    add, total = elementwise.make("add", "float32"), reduce.make_sum("float32")
    failures: list[Any] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal(100_000 + seed).astype("f")
        small = x[:600]
        expected, expected_small = x + x, np.divide(small, 3)
        divide = elementwise.make("divide", "float32")
        for _ in range(100):
            if not np.array_equal(add(x, x), expected) or not np.array_equal(
                divide(small, 3.0), expected_small
            ):
                failures.append(seed)
            if (
                abs(float(total(x, axis=(-1,), dtype=corelib.float32, keepdims=False)) - x.sum(dtype="d"))
                > 1e-3
            ):
                failures.append(seed)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    text = """
import os
import numpy as np
from corelib_cpu import elementwise, launch
launch.set_num_threads(2)
x = np.ones(1_000_000, "f")
add = elementwise.make("add", "float32")
add(x, x)
child = os.fork()
if child == 0:
    launch.set_num_threads(3)
    for _ in range(50):
        assert (add(x, x) == 2).all()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (add(x, x) == 2).all())
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0", "True"], done.stderr


def test_the_number_of_threads_comes_from_the_environment() -> None:
    text = "from corelib_cpu import launch; print(launch.get_num_threads())"
    environment = {**os.environ, "CORELIB_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3"
    environment["CORELIB_NUM_THREADS"] = "all"
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 0 and "CORELIB_NUM_THREADS is 'all', not a positive number" in done.stderr
    with pytest.raises(ValueError, match="at least 1"):
        launch.set_num_threads(0)


# --- buffers


def large(value: float = 0.0) -> np.ndarray:
    out = pool.empty((400, 500), np.dtype("f"), 800_000)
    out.fill(value)
    return out


def address(x: np.ndarray) -> int:
    return x.ctypes.data


def test_a_buffer_is_used_again_when_nobody_needs_it() -> None:
    x = large()
    first = address(x)
    assert first % 64 == 0
    del x
    assert address(large()) == first


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[5:],
        lambda x: x.T,
        lambda x: x.view("i4"),
        lambda x: memoryview(x),
        lambda x: x[0, 1:].reshape(-1),
    ],
)
def test_a_view_keeps_the_buffer(view: Any) -> None:
    x = large(1.0)
    first, kept = address(x), view(x)
    del x
    others = [large(2.0) for _ in range(3)]
    assert first not in [address(y) for y in others]
    assert (np.asarray(kept).view("f") == 1).all()


def test_who_owns_a_buffer() -> None:
    x = large()
    assert pool.owns(x)
    view = x[1:]
    assert not pool.owns(x) and not pool.owns(view)
    del view
    assert pool.owns(x)
    small = np.zeros(4)
    assert pool.owns(small) and not pool.owns(small[1:])
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    assert not pool.owns(frozen)
    assert not pool.owns(np.frombuffer(bytearray(16)))
    assert not pool.owns(np.broadcast_to(small, (3, 4)))


def test_unused_buffers_can_be_given_back() -> None:
    pool.release()
    before = pool.statistics()["held"]
    x = large()
    assert pool.statistics()["held"] >= before + x.nbytes and pool.statistics()["in_use"] >= x.nbytes
    pool.release()
    assert pool.owns(x)
    del x
    pool.release()
    assert pool.statistics()["held"] == before


def test_many_used_buffers_are_not_searched_again_and_again() -> None:
    kept = [large(float(i)) for i in range(40)]
    free = address(kept.pop())
    again = [large(-1.0)]
    assert address(again[0]) == free
    again.clear()
    again.append(large(-2.0))
    assert address(again[0]) == free
    assert all((x == i).all() for i, x in enumerate(kept))


def test_threads_never_get_the_same_buffer() -> None:
    failures: list[int] = []

    def work(number: int) -> None:
        for i in range(300):
            x = large(number * 1000 + i)
            y = large(-1.0)
            if not (x == number * 1000 + i).all() or address(x) == address(y):
                failures.append(number)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_the_pool_holds_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pool.release()
    monkeypatch.setattr(pool, "_limit", pool.statistics()["held"] + 1_000_000)
    kept = [large(float(i)) for i in range(4)]
    assert all((x == i).all() for i, x in enumerate(kept))
    assert pool.statistics()["held"] <= pool.limit()


# --- the backend


@pytest.fixture
def backend() -> Any:
    from corelib_cpu.backend import CpuBackend

    return CpuBackend("cpu")


@pytest.mark.parametrize("name", ["float32", "float64", "int8", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (400, 500)], ids=str)
def test_to_the_device_and_back(backend: Any, name: str, shape: tuple[int, ...]) -> None:
    dtype = corelib.dtypes.as_dtype(name)
    x = np.asarray(np.random.default_rng(0).integers(0, 2, shape)).astype(name)
    inside = backend.from_host(x, shape, dtype)
    x_bytes = x.tobytes()
    if x.size:
        x.fill(0)
    assert (
        inside.shape == shape
        and inside.dtype == name
        and bytes(memoryview(backend.to_host(inside)).cast("B") if x.size else b"") == x_bytes
    )
    assert backend.owns(inside)
    other = backend.from_host(x_bytes, shape, dtype)
    np.testing.assert_array_equal(inside, other)
    np.testing.assert_array_equal(np.asarray(backend.to_host(inside.T)), inside.T)


def test_a_buffer_of_the_wrong_size_is_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match="7 bytes do not hold 2 elements of float32"):
        backend.from_host(b"1234567", (2,), corelib.float32)


def test_what_the_backend_says_of_itself(backend: Any, threads: Any) -> None:
    threads(2)
    assert backend.describe().startswith("2 threads, ")
    assert backend.probe() is None and backend.devices() == ["cpu"]
    assert backend.memory_stats()["held"] >= 0
    backend.empty_cache()
    backend.synchronize()


def test_dlpack_shares_memory(backend: Any) -> None:
    x = np.arange(6.0)
    assert address(backend.from_dlpack(backend.dlpack(x))) == address(x)
    frozen = np.broadcast_to(x, (2, 6))
    assert address(backend.from_dlpack(backend.dlpack(frozen))) == address(x)


def test_every_primitive_has_a_kernel(backend: Any) -> None:
    from corelib import ops
    from corelib.op import OPS

    assert ops is not None
    assert [op.name for op in OPS if op.primitive and not backend.kernels.has(op)] == []


def test_the_package_runs_from_a_zip_archive(tmp_path: Path) -> None:
    import zipfile

    import corelib_cpu

    archive, package = tmp_path / "site.zip", Path(corelib_cpu.__file__).parent
    with zipfile.ZipFile(archive, "w") as file:
        for module in package.glob("*.py"):
            file.write(module, f"corelib_cpu/{module.name}")
    text = f"import sys; sys.path.insert(0, {str(archive)!r}); import corelib_cpu.native as n; print(n.__file__, n._fingerprint())"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(archive / "corelib_cpu" / "native.py"), native._fingerprint()]
