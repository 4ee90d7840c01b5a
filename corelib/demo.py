"""``python -m corelib demo``: one network, the same seed and data, trained on every backend that is found.

First a few identical steps on each backend, whose losses and gradients are compared with the reference's;
then the training itself on the fastest one. The data are scikit-learn's handwritten digits, which come with
it: nothing is downloaded. Nothing here names a backend but the reference, and nothing is called that a user's
program could not call.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corelib as cl

from . import __version__, nn, optim, random
from .autograd import no_grad
from .conformance.distance import unit
from .drawing import draw
from .dtypes import float32
from .errors import ArgumentError, BackendError
from .ops.interchange import asarray
from .registry import BackendStatus, backends, use_backend
from .support import table, why
from .tensor import Tensor

REFERENCE = "reference"
SEED, HIDDEN, BATCH, TRAIN, GOAL = 0, 128, 32, 1437, 0.97
EPOCHS, RATE = 20, 0.1
# ULP that a gradient may differ by. It is a sum over the batch, for which n u sum|x| allows n/2 ULP of the
# largest term, and twice that between two backends. Momentum keeps what a step has added of such differences
# small; Adam would divide rounding errors by each other.
LIMIT = BATCH
NEEDS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "tqdm": "tqdm"}


@dataclass
class Data:
    """The digits on one backend: images in [0, 1] of shape (n, 64), labels of shape (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass
class Run:
    """What one backend did: per step the loss, every parameter's gradient and the time it took."""

    losses: list[float] = field(default_factory=list)
    gradients: list[dict[str, list[float]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    epoch_seconds: float = math.nan
    accuracy: float = math.nan
    failure: str = ""

    @property
    def step_seconds(self) -> float:
        """The time of a step once everything is compiled: the fastest one that was seen."""
        return min(self.seconds, default=math.inf)


def run(
    *,
    steps: int = 3,
    epochs: int | None = None,
    output: str = "demo-output",
    say: Callable[[str], None],
    width: int | None = None,
) -> int:
    """Run the demo; returns the exit status: 1 where backends disagree, or the goal was missed.

    ``epochs``: None for as many as it takes to reach the goal. ``say`` is called with each paragraph, whose
    table is ``width`` wide at most.
    """
    missing = [NEEDS[module] for module in NEEDS if importlib.util.find_spec(module) is None]
    if missing:
        raise BackendError(f"the demo needs {' and '.join(missing)}: pip install 'corelib[demo]'")
    if steps < 1:
        raise BackendError(f"the demo needs at least one step to compare, got --steps {steps}")
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"--output {output}: the folder cannot be made: {error.strerror}") from error
    statuses = sorted(backends(), key=lambda s: s.name != REFERENCE)

    introduce(say)
    runs = compare([s.name for s in statuses if s.usable], steps, say)
    sound = [name for name in runs if not runs[name].failure]
    if not sound:
        raise BackendError("no backend could train: see `python -m corelib backends`")
    fastest = min(sound, key=lambda name: runs[name].step_seconds)
    count = EPOCHS if epochs is None else epochs
    say(f"\n{count} epoch{'s' * (count != 1)} on the fastest, {fastest}:\n")
    history = train(fastest, runs[fastest], count)
    say(f"  loss {history.losses[-1]:.6f}" if history.losses else "  not trained")

    say("\n" + "\n".join(summary(statuses, runs, steps, width)))
    notes(statuses, runs, say)
    curves, graph = folder / "loss.png", folder / "graph.svg"
    plot(runs, history, fastest, curves)
    draw_graph(fastest, graph)
    say(f"\nloss curves        {curves}\ncomputation graph  {graph}")
    say(f"\nnext: {command()} conformance {fastest}      every op of {fastest} against the reference, in ULP")
    return verdict(runs, runs[fastest].accuracy if epochs is None else GOAL, say)


def introduce(say: Callable[[str], None]) -> None:
    """What is going to be trained on what."""
    size = sum(p.size for p in network().parameters())
    say(f"corelib {__version__}: one network, same seed, same data, on every backend\n")
    say(f"data     scikit-learn's digits, 8x8 pixels: {TRAIN} to train on, {1797 - TRAIN} to test")
    say(
        f"network  64-{HIDDEN}-10 with relu: {size} parameters; SGD with momentum, batches of {BATCH}, seed {SEED}"
    )


def compare(usable: list[str], steps: int, say: Callable[[str], None]) -> dict[str, Run]:
    """The same steps on each backend, the reference first."""
    say(f"\n{steps} identical step{'s' * (steps != 1)} on each backend:\n")
    runs: dict[str, Run] = {}
    for name in usable:
        runs[name] = found = identical_steps(name, steps)
        compared = "" if name == REFERENCE else f"   {difference(found, runs.get(REFERENCE))}"
        losses = " ".join(f"{loss:.6f}" for loss in found.losses)
        say(f"  {name:<10} {found.failure or f'loss {losses}{compared}'}")
    say(
        "\nDifferences are in ULP (steps of float32) of the largest magnitude in the loss or gradient they are found in."
    )
    return runs


def verdict(runs: dict[str, Run], reached: float, say: Callable[[str], None]) -> int:
    """The exit status, and a sentence for whatever is wrong."""
    wrong = [
        f"{name} does not agree with the reference"
        for name in runs
        if not agrees(runs[name], runs.get(REFERENCE))
    ]
    if not reached >= GOAL:
        wrong.append(f"the goal of {GOAL:.0%} test accuracy was missed")
    if wrong:
        say("\n" + "\n".join(wrong))
    return 1 if wrong else 0


# -- the network and its training ----------------------------------------------------------------------------


def network() -> nn.Module:
    """The network with its initial values: the same ones on every backend, since random bits are."""
    random.seed(SEED)
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


def descent(model: nn.Module) -> optim.Optimizer:
    """The optimizer."""
    return optim.SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=1e-4)


def digits() -> Data:
    """The data on the backend that is selected, in an order that is the same on each."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = random.permutation(len(labels), generator=random.Generator(SEED))
    x = asarray((images / 16).astype("float32"))[order]
    y = asarray(labels.astype("int64"))[order]
    return Data(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])


def loss_of(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy of a batch."""
    return cl.cross_entropy(model(x), y)


def identical_steps(name: str, steps: int) -> Run:
    """The first steps on a backend, from the same initial values with the same batches."""
    found = Run()
    try:
        with use_backend(name):
            data, model = digits(), network()
            optimizer = descent(model)
            for i in range(steps):
                batch = slice(i * BATCH % TRAIN, i * BATCH % TRAIN + BATCH)
                x, y = data.train_x[batch], data.train_y[batch]
                started = time.perf_counter()
                loss = loss_of(model, x, y)
                optimizer.zero_grad()
                loss.backward()
                gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
                optimizer.step()
                found.losses.append(float(loss))  # waits until the step is done
                found.seconds.append(time.perf_counter() - started)
                found.gradients.append({n: g.numpy().ravel().tolist() for n, g in gradients.items()})
    except Exception as error:  # one backend that fails must not hide the others: it is shown in its row
        found.failure = f"{type(error).__name__}: {error}"
    return found


@dataclass
class History:
    """How the training went: the loss after every step, and the test accuracy after every epoch."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def train(name: str, found: Run, epochs: int) -> History:
    """Train on one backend, with a progress bar if somebody is looking. Sets the run's accuracy and seconds
    for an epoch.
    """
    from tqdm import tqdm

    history, seconds = History(), 0.0
    steps = -(-TRAIN // BATCH)
    with use_backend(name), tqdm(total=epochs * steps, unit="step", leave=False, disable=None) as bar:
        data, model = digits(), network()
        optimizer = descent(model)
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = (
                RATE * (1 + math.cos(math.pi * epoch / epochs)) / 2
            )  # falls to almost nothing
            started = time.perf_counter()
            order = random.permutation(TRAIN)
            for first in range(0, TRAIN, BATCH):
                batch = order[first : first + BATCH]
                loss = loss_of(model, data.train_x[batch], data.train_y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                history.losses.append(loss.item())
                bar.update()
            seconds += time.perf_counter() - started
            history.accuracies.append(accuracy(model, data))
            bar.set_postfix(loss=f"{history.losses[-1]:.4f}", accuracy=f"{history.accuracies[-1]:.1%}")
    if epochs:
        found.accuracy, found.epoch_seconds = history.accuracies[-1], seconds / epochs
    return history


def accuracy(model: Any, data: Data) -> float:
    """The share of test images whose largest output is at their label."""
    with no_grad():
        right = cl.equal(cl.argmax(model(data.test_x), axis=1), data.test_y)
        return cl.mean(cl.astype(right, float32)).item()


# -- comparison ----------------------------------------------------------------------------------------------


def worst(found: Run, reference: Run | None) -> tuple[float, str]:
    """The largest difference from the reference in ULP, and where it is."""
    worst, where = 0.0, "everywhere"
    if reference is None or found.failure or reference.failure:
        return math.nan, ""
    for step, (mine, theirs) in enumerate(zip(found.gradients, reference.gradients, strict=True), 1):
        pairs = {"the loss": ([found.losses[step - 1]], [reference.losses[step - 1]])}
        pairs |= {f"the gradient of {name}": (mine[name], theirs[name]) for name in theirs}
        for name, (a, b) in pairs.items():
            distance = max(abs(p - q) for p, q in zip(a, b, strict=True)) / unit(max(map(abs, b)), float32)
            if not distance <= worst:
                worst, where = distance, f"in {name}, step {step}"
    return worst, where


def difference(found: Run, reference: Run | None) -> str:
    """The largest difference from the reference as words."""
    distance, where = worst(found, reference)
    if math.isnan(distance):
        return "nothing to compare with"
    return "equal to the last bit" if distance == 0 else f"differs by at most {distance:.1f} ulp, {where}"


def agrees(found: Run, reference: Run | None) -> bool:
    """Whether a backend computed what the reference did."""
    return found is reference and not found.failure or worst(found, reference)[0] <= LIMIT


def summary(
    statuses: list[BackendStatus], runs: dict[str, Run], steps: int, width: int | None = None
) -> list[str]:
    """The table: a row for every backend, also for those that cannot be used, with the reason."""
    rows = [("backend", "usable", "s/epoch", "vs reference", "gradients", "test accuracy")]
    for status in statuses:
        found = runs.get(status.name)
        if found is None:
            rows.append((status.name, f"no: {clause(why(status))}", "-", "-", "-", "-"))
            continue
        says = status.description or status.summary
        usable = f"yes ({says})" if says else "yes"
        if found.failure:
            rows.append((status.name, usable, "-", "-", "FAILED", "-"))
            continue
        estimate = found.step_seconds * -(-TRAIN // BATCH)
        seconds = f"~{estimate:.2g}" if math.isnan(found.epoch_seconds) else f"{found.epoch_seconds:.2g}"
        distance = worst(found, runs.get(REFERENCE))[0]
        compared = (
            "-" if status.name == REFERENCE or math.isnan(distance) else f"max {math.ceil(distance)} ulp"
        )
        good = "ok" if agrees(found, runs.get(REFERENCE)) else "-" if math.isnan(distance) else "DIFFER"
        trained = (
            f"({steps} step{'s' * (steps != 1)})"
            if math.isnan(found.accuracy)
            else f"{found.accuracy:.1%}".replace("%", " %")
        )
        rows.append((status.name, usable, seconds, compared, good, trained))
    return table(rows, width)


def clause(reason: str) -> str:
    """The first clause of a reason, for a table; the whole sentence stands below it."""
    for mark in (": ", "; ", ". ", ", which "):
        reason = reason.partition(mark)[0]
    return reason if len(reason) <= 48 else reason[:47] + "…"


def notes(statuses: list[BackendStatus], runs: dict[str, Run], say: Callable[[str], None]) -> None:
    """What the table has no room for."""
    lines = [f"{s.name} cannot be used here: {why(s)}" for s in statuses if not s.usable]
    lines += [f"{name} failed: {found.failure}" for name, found in runs.items() if found.failure]
    if any(math.isnan(found.epoch_seconds) and not found.failure for found in runs.values()):
        lines.append("~: estimated from the fastest of the identical steps")
    if lines:
        say("\n" + "\n".join(lines))


# -- pictures ------------------------------------------------------------------------------------------------


def plot(runs: dict[str, Run], history: History, fastest: str, path: Path) -> None:
    """The loss curves as a PNG: the training on the left, the identical steps of all backends on the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(2, 1), layout="constrained")
    per_epoch = -(-TRAIN // BATCH)
    steps, losses, epochs = range(1, len(history.losses) + 1), history.losses, len(history.accuracies)
    means = [sum(losses[i * per_epoch : (i + 1) * per_epoch]) / per_epoch for i in range(epochs)]
    left.semilogy(
        [i / per_epoch for i in steps], losses, "C0", linewidth=0.6, alpha=0.4, label="loss of a batch"
    )
    left.semilogy(range(1, epochs + 1), means, "C0", marker="o", markersize=4, label="mean of an epoch")
    left.set(title=f"training on {fastest}", xlabel="epoch", ylabel="cross-entropy")
    share = left.twinx()
    share.plot(
        range(1, epochs + 1), history.accuracies, "C1", marker="s", markersize=4, label="test accuracy"
    )
    share.axhline(GOAL, color="C1", linestyle=":", linewidth=1, label=f"goal, {GOAL:.0%}")
    share.set(ylabel="test accuracy", ylim=(0.8, 1.0), yticks=[0.8, 0.85, 0.9, 0.95, 1.0])
    share.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    left.xaxis.get_major_locator().set_params(integer=True)
    lines = [*left.get_lines(), *share.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    below = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, -0.14),
        "ncols": 4,
        "columnspacing": 1.2,
        "frameon": False,
    }
    left.legend(lines, labels, **below)
    for width, (name, found) in enumerate(runs.items()):
        if not found.failure:
            steps = range(1, len(found.losses) + 1)
            right.plot(
                steps,
                found.losses,
                marker="o",
                linewidth=2 * (len(runs) - width),
                markersize=4 + 3 * (len(runs) - width),
                label=name,
            )
    right.set(title="identical steps", xlabel="step")
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_graph(name: str, path: Path) -> None:
    """The graph of one loss as an SVG."""
    with use_backend(name):
        data, model = digits(), network()
        x, y = data.train_x[:BATCH], data.train_y[:BATCH]
        draw(loss_of(model, x, y), path, names={**dict(model.named_parameters()), "images": x, "labels": y})


def command() -> str:
    """How this program was started, as the user would type it."""
    python = os.path.relpath(sys.executable)
    if python.startswith(os.pardir):
        found = shutil.which("python")
        python = (
            "python"
            if found
            and os.path.realpath(os.path.dirname(found)) == os.path.realpath(os.path.dirname(sys.executable))
            else sys.executable
        )
    return f"{python} -m corelib"
