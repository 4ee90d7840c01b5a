"""Everything that only a GPU can tell of the `cuda` backend, by one command, in ten minutes at most:

    python -m benchmarks.gpu                         # on a machine with an NVIDIA GPU
    python -m benchmarks.gpu --skip sanitizer,large  # without some stages; --only takes their names as well
    python -m benchmarks.gpu --dry                   # every stage, tiny, on the emulator: no GPU, and no figure means anything

Each stage is a process of its own with a deadline, so that one that hangs or makes the device fail costs the others nothing.
At the end there is one table; without ``--dry`` it is written to ``benchmarks/results/gpu.md`` and ``gpu.json``, with the
device's name and the date. Times are measured by events, JAX's by the clock around many calls.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
EMULATOR = ROOT / "tests" / "cuda_emulator"
EMULATED = "emulated on the CPU, no GPU: no time below means anything"
Row = dict[str, Any]


def row(what: str, result: str, note: str = "", **data: Any) -> Row:
    """One line of the table, and its numbers for the JSON file."""
    return {"what": what, "result": result, "note": note, **data}


# ------------------------------------------------------------------------------------------------------------ the device


class Clock:
    """Seconds of a call on a device, by a pair of its events, or by the clock where it has none."""

    def __init__(
        self, event: Callable[[], Any] | None, elapsed: Callable[[Any, Any], float], wait: Callable[[], Any]
    ) -> None:
        self.event, self.elapsed, self.wait = event, elapsed, wait

    def time(self, call: Callable[[], Any], seconds: float) -> float:
        """The least of three rounds."""
        for _ in range(2):
            call()
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        count = max(1, min(100, int(seconds / max(time.perf_counter() - start, 1e-6))))
        return min(self._round(call, count) for _ in range(3))

    def _round(self, call: Callable[[], Any], count: int) -> float:
        if self.event is None:
            start = time.perf_counter()
            for _ in range(count):
                call()
            self.wait()
            return (time.perf_counter() - start) / count
        begin, end = self.event(), self.event()
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return self.elapsed(begin, end) / 1e3 / count


def cupy_clock() -> Clock:
    import cupy

    return Clock(
        cupy.cuda.Event, cupy.cuda.get_elapsed_time, lambda: cupy.cuda.get_current_stream().synchronize()
    )


def torch_clock(torch: Any, dry: bool) -> Clock:
    if dry:
        return Clock(None, lambda a, b: 0.0, lambda: None)
    event = functools.partial(torch.cuda.Event, enable_timing=True)
    return Clock(event, lambda a, b: a.elapsed_time(b), torch.cuda.synchronize)


@contextlib.contextmanager
def device(dry: bool) -> Iterator[Any]:
    """corelib with ``cuda`` selected: the GPU, or the emulator in its place."""
    import corelib

    if not dry:
        corelib.set_backend("cuda")
        yield corelib
        return
    sys.path.insert(0, str(EMULATOR))
    import emulated_cupy

    reason = emulated_cupy.unusable()
    if reason:
        raise SystemExit(reason)
    with emulated_cupy.installed(), corelib.use_backend("cuda"):
        yield corelib


# ------------------------------------------------------------------------------------------------------------ the stages


def versions(dry: bool) -> Iterator[Row]:
    """What the figures were made with."""
    from importlib import metadata

    with device(dry) as corelib:
        import cupy

        from corelib.plugin_api import registry

        runtime = cupy.cuda.runtime
        yield row("device", registry.get("cuda").describe())
        yield row("CUDA", f"driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}")
        yield row("corelib, Python", f"{corelib.__version__}, {platform.python_version()}")
    for name in ("cupy-cuda13x", "cupy-cuda12x", "torch", "jax", "numpy", "nvidia-cudnn-frontend"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield row(name, metadata.version(name))


def limits(dry: bool) -> Iterator[Row]:
    """What the device can do at most: the other figures are fractions of these."""
    for found in _limits(dry):
        yield row(found["what"], "ran", found["note"]) if dry else found


def _limits(dry: bool) -> Iterator[Row]:
    with device(dry) as cl:
        import corelib_cuda

        clock, seconds = cupy_clock(), 0.0 if dry else 0.2
        n = 4096 if dry else 1 << 28
        x, half = cl.ones((n,)), cl.full((), 0.5)
        copy = clock.time(lambda: x + 0.0, seconds)
        yield row("copy", f"{8 * n / copy / 1e12:.2f} TB/s", seconds=copy, bytes=8 * n)
        for dtype in ("float32", "bfloat16", "float16"):
            side = 16 if dry else 8192
            a = cl.ones((side, side), dtype=dtype)
            took = clock.time(lambda a=a: a @ a, seconds)
            yield row(f"matmul {side}, {dtype}", f"{2 * side**3 / took / 1e12:.1f} TFLOP/s", seconds=took)
        small = cl.ones((128,))
        count = 5 if dry else 2000
        for _ in range(3):
            small + half
        start = time.perf_counter()
        for _ in range(count):
            small + half
        each = (time.perf_counter() - start) / count
        cl.synchronize()
        yield row("an eager op, launch included", f"{1e6 * each:.2f} us", "<= 8 us", seconds=each)
        step = corelib_cuda.graph(lambda x: cl.exp(x + 1.0) * 2.0)
        for _ in range(4):
            step(small)
        start = time.perf_counter()
        for _ in range(count):
            step(small)
        each = (time.perf_counter() - start) / count
        yield row("a graph, launch included", f"{1e6 * each:.2f} us", seconds=each)


def conformance(dry: bool) -> Iterator[Row]:
    """The suite's profile `standard` on the device; as far as it gets before the deadline."""
    from corelib.op import OPS

    with device(dry):
        from corelib import conformance as suite

        some = ("add", "sum")
        chosen = [op for op in OPS if not dry or op.name in some]
        begin, left = time.monotonic(), 1e9 if dry else 120.0
        for start in range(0, len(chosen), 20):
            if time.monotonic() - begin > left:
                yield row("conformance, the ops after", chosen[start].name, "not tried: the time was up")
                return
            group = chosen[start : start + 20]
            tried = {"what": ("value", "error")} if dry else {}
            report = suite.check("cuda", group, profile="smoke" if dry else "standard", **tried)
            yield row(
                f"conformance, {group[0].name} to {group[-1].name}",
                f"{report.count('pass')} of {report.generated} pass",
                "" if report.ok else report.text()[:2000],
                ok=report.ok,
            )


def cases(dry: bool) -> Iterator[Row]:
    """The emulator's cases, on the device: the same tests without the stand-in (on the emulator: a few of them)."""
    files = [
        ROOT / "tests" / "unit" / f"test_cuda_emulated{part}.py"
        for part in ("", "_rows", "_half", "_complex")
    ]
    environment = os.environ if dry else {**os.environ, "CORELIB_CUDA_TESTS": "device"}
    only = ["-k", "random_bits or broadcast"] if dry else []
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files[: 1 if dry else None]), *only],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = run.stdout.strip().splitlines()[-1:] or [run.stderr[-200:]]
    failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
    yield row("the emulator's cases", last[0], "; ".join(failed[:10]), ok=run.returncode == 0)


def large(dry: bool) -> Iterator[Row]:
    """What only a device can hold: more than 2**31 elements, a million rows."""
    with device(dry) as cl:
        many, rows = (70001, 1003) if dry else ((1 << 31) + 5, 1_000_003)
        x = cl.zeros((many,), dtype="int8")
        x[-1] = 7
        found = {
            "the sum": cl.sum(x, dtype="int64").item() == 7,
            "the place of the largest": cl.argmax(x).item() == many - 1,
            "an element-wise result": (x + 1)[-2:].tolist() == [1, 8],
            "a gathered element": cl.take(x, cl.asarray([many - 1]), axis=0).tolist() == [7],
            "a concatenation": cl.concat([x, x[:3]], axis=0)[-4:].tolist() == [7, 0, 0, 0],
        }
        for name, right in found.items():
            yield row(f"{name} of {many} elements", "right" if right else "WRONG", ok=right)
        del x
        cl.empty_cache()
        y = cl.reshape(cl.arange(rows * 33, dtype="float32"), (rows, 33)) % 17.0
        last = np.arange((rows - 1) * 33, rows * 33, dtype=np.float32) % 17
        e = np.exp(last.astype("f8") - last.max())
        for name, got, expected in (
            ("softmax", cl.softmax(y, axis=-1)[-1], e / e.sum()),
            ("sum", cl.sum(y, axis=-1)[-1:], [last.sum()]),
            ("layer_norm", cl.layer_norm(y)[-1], (last - last.mean()) / np.sqrt(last.var() + 1e-5)),
            ("argsort", cl.argsort(y, axis=-1)[-1], np.argsort(last, kind="stable")),
        ):
            right = bool(np.allclose(got.numpy(), expected, rtol=1e-5, atol=1e-6))
            yield row(f"{name} of {rows} rows", "right" if right else "WRONG", ok=right)


def kernels(dry: bool) -> Iterator[Row]:
    """One call of each family of kernels, for compute-sanitizer to look at."""
    with device(dry) as cl:
        x = cl.reshape(cl.arange(33.0 * 65), (33, 65))
        i = cl.asarray([[3, 1], [0, 32]])
        calls = (
            lambda: x + x.T[:33, :1], lambda: cl.sum(x, axis=0), lambda: cl.sum(x, axis=1), lambda: cl.argmax(x, axis=1), lambda: cl.softmax(x, axis=-1),
            lambda: cl.cumulative_sum(x, axis=1), lambda: cl.argsort(x, axis=1), lambda: cl.take(x, i, axis=0), lambda: cl.random.uniform((1001,)),
            lambda: cl.matmul(cl.ones((20, 30), dtype="int32"), cl.ones((30, 20), dtype="int32")), lambda: x.astype("bfloat16").astype("float64"),
            lambda: cl.concat([x, x], axis=1), lambda: cl.searchsorted(x[0], x[0]),
        )  # fmt: skip
        for call in calls:
            call()
        cl.synchronize()
        yield row("kernel families called", str(len(calls)))


TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def sanitizer(dry: bool) -> Iterator[Row]:
    """compute-sanitizer's four tools over the kernels."""
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    there = os.path.exists(found)
    if not there and not dry:
        yield row("compute-sanitizer", "not found", "it comes with the CUDA toolkit", ok=False)
        return
    for tool in TOOLS[: 1 if dry else None]:
        command = [sys.executable, "-m", "benchmarks.gpu", "--stage", "kernels", *(["--dry"] if dry else [])]
        prefix = [] if dry else [found, "--tool", tool, "--error-exitcode", "9"]
        try:
            run = subprocess.run(
                [*prefix, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
            )
        except subprocess.TimeoutExpired:
            yield row(tool, "not finished in 60 s", ok=False)
            continue
        summary = [line for line in run.stdout.splitlines() if "SUMMARY" in line][-1:]
        said = "the calls alone, without the tool" if dry else "".join(summary).strip("= ")
        yield row(
            tool,
            said or f"exit {run.returncode}",
            run.stderr[-300:] if run.returncode else "",
            ok=run.returncode == 0,
        )


CONTESTANTS = ("corelib", "torch", "torch.compile", "torch fused", "jax", "cupy")


def timings(dry: bool) -> Iterator[Row]:
    """The workloads of gpu_work.py in corelib and its peers, with the error of each against float64."""
    from . import gpu_work

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with device(dry) as cl:
        for work in gpu_work.works(dry):
            times: dict[str, float] = {}
            errors: dict[str, float] = {}
            notes = []
            expected = np.asarray(work.expected(), "f8")
            for who in CONTESTANTS:
                run = work.run.get("torch" if who == "torch.compile" else who)
                if run is None:
                    continue
                try:
                    times[who], error = contest(who, run, work, expected, cl, dry)
                    if error is not None:
                        errors[who] = error
                except (
                    Exception
                ) as error:  # a peer that is not installed, or has no memory left: the others go on
                    notes.append(f"{who}: {type(error).__name__}: {str(error)[:120]}")
            yield compared(work, {} if dry else times, errors, notes)


def contest(who: str, run: Any, work: Any, expected: Any, cl: Any, dry: bool) -> tuple[float, float | None]:
    """Seconds of a call, and the largest error relative to the largest number expected."""
    seconds = 0.0 if dry else 0.15
    if who == "corelib":
        given = {k: cl.asarray(v) for k, v in work.data.items()}
        given = {
            k: v.astype("bfloat16") if work.half and v.dtype.kind == "float" else v for k, v in given.items()
        }
        traced = cl.compile(lambda **arrays: run(cl, **arrays))
        call, clock, host = (lambda: traced(**given)), cupy_clock(), lambda x: x.astype("float32").numpy()
    elif who.startswith("torch"):
        import torch

        place = "cpu" if dry else "cuda"
        given = {k: torch.as_tensor(v).to(place) for k, v in work.data.items()}
        given = {k: v.bfloat16() if work.half and v.is_floating_point() else v for k, v in given.items()}
        torch.backends.cuda.matmul.allow_tf32 = False
        fn: Any = lambda **arrays: run(torch, **arrays)
        if who == "torch.compile":
            fn = torch.compile(fn, backend="eager" if dry else "inductor")
        call, clock, host = (
            (lambda: fn(**given)),
            torch_clock(torch, dry),
            lambda x: x.detach().float().cpu().numpy(),
        )
    elif who == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        given = {k: jax.numpy.asarray(v) for k, v in work.data.items()}
        given = {
            k: v.astype("bfloat16") if work.half and v.dtype.kind == "f" else v for k, v in given.items()
        }
        jitted = jax.jit(lambda arrays: run(jax.numpy, **arrays))
        held: list[Any] = []

        def call() -> Any:
            held[:] = [jitted(given)]
            return held[0]

        clock, host = (
            Clock(None, lambda a, b: 0.0, lambda: jax.block_until_ready(held)),
            lambda x: np.asarray(x, "f4"),
        )
    else:
        import cupy

        given = {k: cupy.array(v) for k, v in work.data.items()}
        call, clock, host = (lambda: run(cupy, **given)), cupy_clock(), lambda x: x.get()
    took = clock.time(call, seconds)
    part = work.part(call())
    if part is None:
        return took, None
    got = np.asarray(host(part), "f8")
    return took, float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30))


def compared(work: Any, times: dict[str, float], errors: dict[str, float], notes: list[str]) -> Row:
    """The row of one workload."""
    ours = times.get("corelib")
    said = []  # of the emulator no times, but errors
    if ours is not None:
        said.append(f"{1e3 * ours:.3g} ms")
        if work.bytes:
            said.append(f"{work.bytes / ours / 1e12:.2f} TB/s")
        if work.operations:
            said.append(f"{work.operations / ours / 1e12:.1f} TFLOP/s")
        said += [f"{took / ours:.2f} of {who}" for who, took in times.items() if who != "corelib"]
    if errors:
        said.append(", ".join(f"error {error:.1e} ({who})" for who, error in errors.items()))
    return row(
        work.name, ", ".join(said if "corelib" in errors else ["FAILED", *said]), "; ".join([f"goal {work.target}", *notes]),
        seconds=times, errors=errors, bytes=work.bytes, operations=work.operations, ok="corelib" in errors,
    )  # fmt: skip


def training(dry: bool) -> Iterator[Row]:
    """Training steps as one graph each, with their losses beside PyTorch's."""
    from . import gpu_train

    with device(dry) as cl:
        yield from gpu_train.rows(cl, dry, cupy_clock(), functools.partial(torch_clock, dry=dry), row)


STAGES: dict[str, tuple[Callable[[bool], Iterator[Row]], int]] = {  # with their deadlines, 600 s together
    "versions": (versions, 20),
    "limits": (limits, 40),
    "conformance": (conformance, 150),
    "cases": (cases, 70),
    "large": (large, 40),
    "sanitizer": (sanitizer, 80),
    "timings": (timings, 120),
    "training": (training, 80),
}


# ----------------------------------------------------------------------------------------------------------- the command


def staged(name: str, dry: bool, deadline: float) -> dict[str, Any]:
    """Run a stage in a process of its own; what it had said when it ended, or was ended."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows")
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--stage",
            name,
            "--out",
            str(out),
            *(["--dry"] if dry else []),
        ]
        with open(Path(folder, "log"), "w+") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            try:
                status = "done" if process.wait(deadline) == 0 else f"failed (exit {process.returncode})"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = f"stopped after {deadline:.0f} s"
            log.seek(0)
            said = log.read()
        lines = out.read_text().splitlines() if out.exists() else []
    rows = [json.loads(line) for line in lines]
    if status == "done" and any(r.get("ok") is False for r in rows):
        status = "done, with failures"
    return {"stage": name, "status": status, "seconds": round(time.monotonic() - start, 1), "rows": rows,
            "log": "" if status == "done" else said[-3000:]}  # fmt: skip


def one_stage(name: str, dry: bool, out: str | None) -> int:
    """The body of such a process: rows as they come, so that those before a deadline are kept."""
    stage = kernels if name == "kernels" else STAGES[name][0]
    for found in stage(dry):
        text = json.dumps(found)
        print(text, flush=True)
        if out:
            with open(out, "a") as file:
                file.write(text + "\n")
    return 0


def table(results: list[dict[str, Any]], header: dict[str, Any]) -> str:
    lines = [
        "# The `cuda` backend" + (", emulated" if header["emulated"] else " on a GPU"),
        "",
        f"{header['device']}, {header['date']}, by `python -m benchmarks.gpu{' --dry' if header['emulated'] else ''}`."
        + (f" **{EMULATED[0].upper()}{EMULATED[1:]}.**" if header["emulated"] else ""),
        "Ratios are the other's time over ours: above 1 ours is faster.",
        "",
        "| stage | what | result | note |",
        "|---|---|---|---|",
    ]
    mark = " (emulated)" if header["emulated"] else ""
    for r in results:
        lines.append(f"| **{r['stage']}**{mark} | {r['status']} | {r['seconds']} s | |")
        for entry in r["rows"]:
            note = " ".join(str(entry["note"]).split())[:300].replace("|", "/")
            lines.append(f"| {r['stage']}{mark} | {entry['what']} | {entry['result']} | {note} |")
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> int:
    names = ",".join(STAGES)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--dry", action="store_true", help="every stage, tiny, on the emulator")
    parser.add_argument("--skip", default="", metavar="STAGES", help=f"of {names}")
    parser.add_argument("--only", default="", metavar="STAGES", help="these alone")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where gpu.md and gpu.json go (default benchmarks/results; nowhere with --dry)",
    )
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.stage:
        return one_stage(options.stage, options.dry, options.out)
    asked = [n for n in f"{options.skip},{options.only}".split(",") if n]
    unknown = [n for n in asked if n not in STAGES]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}: there are {names}")
    only, skip = options.only.split(",") if options.only else list(STAGES), options.skip.split(",")
    results = []
    for name, (_, deadline) in STAGES.items():
        if name not in only or name in skip:
            results.append({"stage": name, "status": "skipped", "seconds": 0, "rows": [], "log": ""})
            continue
        print(f"{name} ({deadline} s at most)", file=sys.stderr, flush=True)
        # the emulator compiles kernels by g++ at first: slow where it never ran
        results.append(staged(name, options.dry, 10 * deadline if options.dry else deadline))
        if results[-1]["log"]:
            print(results[-1]["log"], file=sys.stderr)
    found = {e["what"]: e["result"] for r in results for e in r["rows"]}
    header = {
        "device": found.get("device", "device not asked"),
        "date": datetime.date.today().isoformat(),
        "emulated": options.dry,
    }
    text = table(results, header)
    folder = options.output or (None if options.dry else str(ROOT / "benchmarks" / "results"))
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "gpu.md").write_text(text)
        Path(folder, "gpu.json").write_text(json.dumps({**header, "stages": results}, indent=1) + "\n")
    print(text)
    return 0 if all(r["status"] in ("done", "skipped") for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
