"""Plugins that misbehave: each is refused with a sentence that says what to do, and none disturbs the others.

All of them are installed at once, as distributions with entry points, into a folder that a fresh interpreter sees. What a
plugin can do wrong while the process runs (to be registered twice, to disappear) is tried in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import pytest

import corelib
from corelib.errors import BackendNotFoundError, PluginError
from corelib.plugin_api import BackendInfo, KernelSet, Overlay, hookimpl
from corelib.registry import register, unregister

HOOK = "from corelib.plugin_api import BackendInfo, hookimpl\n"


def declares(arguments: str) -> str:
    return HOOK + f"@hookimpl\ndef declare_backend():\n    return {arguments}\n"


def backend(body: str) -> str:
    return f"from corelib import ops\nfrom corelib.plugin_api import Backend, KernelSet\nkernels = KernelSet()\n{body}\n"


# plugin -> (source of its plugin module, source of its backend module, name in the listing, words of the reason)
CASES: dict[str, tuple[str, str, str, list[str]]] = {
    "raises": (
        "raise RuntimeError('the accelerator is on fire')",
        "",
        "raises",
        ["RuntimeError", "the accelerator is on fire"],
    ),
    "no_python": ("def declare_backend(:", "", "no_python", ["SyntaxError"]),
    "exits": ("import sys; sys.exit(3)", "", "exits", ["SystemExit"]),
    "needs_module": ("import a_module_that_nobody_has", "", "needs_module", ["a_module_that_nobody_has"]),
    "hook_raises": (declares("1 / 0"), "", "hook_raises", ["ZeroDivisionError"]),
    "declares_twice": (
        declares("[BackendInfo('twin', 'x:Y'), BackendInfo('twin', 'x:Z')]"),
        "",
        "declares_twice",
        ["'twin'", "declared twice", "'declares_twice'"],
    ),
    "takes_a_name": (
        declares("BackendInfo('reference', 'x:Y')"),
        "",
        "takes_a_name",
        ["'reference'", "declared twice", "'takes_a_name'"],
    ),
    "misspells_a_hook": (
        HOOK + "@hookimpl\ndef declare_backends():\n    return BackendInfo('mine', 'x:Y')\n",
        "",
        "misspells_a_hook",
        ["unknown hook", "'declare_backends'", "did you mean 'declare_backend'"],
    ),
    "misspells_an_argument": (
        HOOK + "@hookimpl\ndef find_kernel(opp):\n    return None\n",
        "",
        "misspells_an_argument",
        ["find_kernel", "opp"],
    ),
    "returns_nonsense": (
        declares("'numpy'"),
        "",
        "returns_nonsense",
        ["declare_backend()", "BackendInfo", "'numpy'"],
    ),
    "from_the_future": (
        declares("BackendInfo('tomorrow', 'x:Y', api=99)"),
        "",
        "from_the_future",
        ["'tomorrow'", "99", "upgrade corelib"],
    ),
    "incomplete_op": (
        HOOK
        + "from corelib.plugin_api import primitive\n"
        + "@hookimpl\ndef declare_ops():\n    @primitive()\n    def swirl(x, /):\n        'A swirl.'\n",
        "",
        "incomplete_op",
        ["swirl"],
    ),
    "wrong_signature": (
        declares("BackendInfo('wrong', 'bad_wrong_signature_backend:B')"),
        backend("@kernels.implements(ops.sum)\ndef sum(x, *, axes, dtype, keepdims): ..."),
        "wrong",
        ["kernel sum", "does not fit sum(x, *, axis, dtype, keepdims)"],
    ),
    "unknown_op": (
        declares("BackendInfo('unknown', 'bad_unknown_op_backend:B')"),
        backend("@kernels.implements(ops.sofmax)\ndef softmax(x, *, axis): ..."),
        "unknown",
        ["sofmax"],
    ),
    "not_a_backend": (
        declares("BackendInfo('no_class', 'bad_not_a_backend_backend:B')"),
        "B = dict",
        "no_class",
        ["bad_not_a_backend_backend:B", "subclass"],
    ),
    "lost_class": (
        declares("BackendInfo('lost', 'bad_lost_class_backend:B')"),
        "",
        "lost",
        ["bad_lost_class_backend", "'B'"],
    ),
    "missing_dependency": (
        declares(
            "BackendInfo('poor', 'x:Y', requires=('a_driver',), install_hint='Install it with: pip install a-driver')"
        ),
        "",
        "poor",
        ["needs a_driver", "pip install a-driver"],
    ),
    "unusable": (
        declares("BackendInfo('off', 'bad_unusable_backend:B')"),
        backend(
            "class B(Backend):\n    kernels = kernels\n    @classmethod\n    def probe(cls): return 'no device'"
        ),
        "off",
        ["no device"],
    ),
    "probe_raises": (
        declares("BackendInfo('nervous', 'bad_probe_raises_backend:B', priority=1000)"),
        backend(
            "class B(Backend):\n    kernels = kernels\n    @classmethod\n    def probe(cls): raise OSError('no answer')"
        ),
        "nervous",
        ["OSError", "no answer"],
    ),
    "missing_inner_dependency": (
        declares("BackendInfo('poorer', 'x:Y', requires=('a_driver.runtime',))"),
        "",
        "poorer",
        ["needs a_driver.runtime"],
    ),
    "constructor_raises": (
        declares("BackendInfo('stillborn', 'bad_constructor_raises_backend:B', priority=1000)"),
        backend(
            "class B(Backend):\n    kernels = kernels\n    def __init__(self, *a): raise OSError('out of memory')"
        ),
        "stillborn",
        ["OSError", "out of memory"],
    ),
    "unmarked_hook": (
        "from corelib.plugin_api import BackendInfo\ndef declare_backend():\n    return BackendInfo('quiet', 'x:Y')\n",
        "",
        "unmarked_hook",
        ["declare_backend", "@hookimpl"],
    ),
}

SCRIPT = """
import sys
import corelib
assert not [m for m in sys.modules if m.startswith("bad_")], "a plugin was loaded by import corelib"
import dataclasses, json
x = corelib.asarray([1.0, 2.0], device="reference")
total = corelib.sum(corelib.exp(x)).item()
default = corelib.get_backend()
statuses = [dataclasses.asdict(s) for s in corelib.backends()]
print(json.dumps({"total": total, "default": default, "statuses": {s["name"]: s for s in statuses}}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    for name, (plugin, module, _, _) in CASES.items():
        (folder / f"bad_{name}.py").write_text(plugin)
        (folder / f"bad_{name}_backend.py").write_text(module)
        info = folder / f"bad_{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: bad-{name.replace('_', '-')}\nVersion: 0.1\n"
        )
        (info / "entry_points.txt").write_text(f"[corelib.plugins]\n{name} = bad_{name}\n")
    hidden = {"CORELIB_BACKEND", "CORELIB_PLUGINS"}
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def seen(environment):
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_the_good_ones_go_on(seen):
    assert seen["total"] == pytest.approx(10.107337927389695, rel=1e-6)
    assert seen["statuses"]["reference"]["usable"]
    assert seen["statuses"]["reference"]["plugin"] == "reference"
    assert seen["default"] in seen["statuses"]
    assert seen["statuses"][seen["default"]]["usable"]


@pytest.mark.parametrize("plugin", CASES)
def test_each_is_listed_with_its_reason(seen, plugin):
    _, _, name, words = CASES[plugin]
    status = seen["statuses"][name]
    assert not status["usable"]
    missing = [word for word in words if word not in status["reason"]]
    assert missing == [], status["reason"]
    assert "\n" not in status["reason"], "a reason is one sentence, not a traceback"


def test_the_command_line_shows_every_reason(environment):
    command = [sys.executable, "-m", "corelib", "backends"]
    run = subprocess.run(command, env={**environment, "COLUMNS": "400"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shown = " ".join(run.stdout.split())
    for _, _, name, words in CASES.values():
        assert name in shown
        assert all(word in shown for word in words), (name, words)


def test_asking_for_a_refused_backend_says_why(environment):
    script = "import corelib\ntry: corelib.set_backend('raises')\nexcept corelib.errors.BackendNotFoundError as e: print(e)"
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "the accelerator is on fire" in run.stdout, run.stderr


@pytest.mark.parametrize("names", ["reference", "-raises,-exits"])
def test_plugins_can_be_chosen_by_name(environment, names):
    script = "import corelib, json; print(json.dumps([s.name for s in corelib.backends()]))"
    env = {**environment, "CORELIB_PLUGINS": names}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    listed = json.loads(run.stdout)
    assert "reference" in listed
    assert "raises" not in listed
    assert (listed == ["reference"]) is (names == "reference")


# -- while the process runs ----------------------------------------------------------------------------------


@pytest.fixture
def shadow():
    """A well-behaved plugin with an overlay of `reference` of its own, registered and, in the end, taken out."""

    class Shadow(Overlay):
        kernels = KernelSet()

    module = types.ModuleType("shadow_backend")
    module.Shadow = Shadow
    sys.modules["shadow_backend"] = module

    class Plugin:
        @hookimpl
        def declare_backend(self):
            return BackendInfo("shadow", "shadow_backend:Shadow", base="reference")

    plugin = Plugin()
    register(plugin, "shadow-plugin")
    yield plugin
    if any(s.name == "shadow" for s in corelib.backends()):
        unregister(plugin)
    del sys.modules["shadow_backend"]


def test_registering_twice_is_refused(shadow):
    with pytest.raises(PluginError, match=r"'shadow-plugin' is registered already"):
        register(shadow, "shadow-plugin")
    assert corelib.asarray([1.0], device="shadow").device == "shadow"


def test_a_refused_plugin_leaves_nothing_behind(shadow):
    class Half:
        @hookimpl
        def declare_backend(self):
            return [BackendInfo("fresh", "x:Y"), BackendInfo("shadow", "x:Y")]

    half = Half()
    with pytest.raises(PluginError, match=r"'shadow' is declared twice: by 'shadow-plugin' and by 'half'"):
        register(half, "half")
    assert "fresh" not in [s.name for s in corelib.backends()]
    with pytest.raises(PluginError, match="no plugin 'half' is registered"):
        unregister("half")


def test_tensors_outlive_their_plugin(shadow):
    x = corelib.asarray([1.0, 2.0, 3.0], device="shadow")
    y = x * 2.0
    unregister(shadow)
    assert (x + y).tolist() == [3.0, 6.0, 9.0]
    assert (-x).tolist() == [-1.0, -2.0, -3.0], "an operation that was never bound before"
    assert y.to("reference").tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(BackendNotFoundError, match="no backend 'shadow'"):
        corelib.asarray([1.0], device="shadow")


def test_unregistering_the_default_chooses_another(shadow):
    before = corelib.get_backend()
    corelib.set_backend("shadow")
    unregister(shadow)
    assert corelib.get_backend() != "shadow"
    corelib.set_backend(before)


def test_unregistering_inside_its_block_says_so(shadow):
    with corelib.use_backend("shadow"):
        unregister(shadow)
        with pytest.raises(BackendNotFoundError, match="no backend 'shadow'"):
            corelib.asarray([1.0])
    assert corelib.asarray([1.0], device="reference").item() == 1.0


def test_unregistering_a_stranger_names_the_nearest(shadow):
    with pytest.raises(PluginError, match=r"no plugin 'shadow-plugi' .*did you mean 'shadow-plugin'"):
        unregister("shadow-plugi")


def test_a_misspelt_backend_names_the_nearest(shadow):
    with pytest.raises(BackendNotFoundError, match=r"no backend 'shado'; did you mean 'shadow'"):
        corelib.set_backend("shado")
