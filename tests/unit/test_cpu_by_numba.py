"""Two compilers, one language of kernels: what our own makes of a kernel is what numba makes of it.

numba takes seconds for the kernels of a few ops, so here are some of each kind; ``CORELIB_CPU_COMPILER=numba`` before
``corelib conformance cpu`` is the test of all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("corelib_cpu")

# What adds up in vectors may add in another order: these few are compared by what n roundings allow, all others by their bits.
SUMS = {"sum", "softmax", "attention"}
PROGRAM = """
import sys
import numpy as np
import corelib as cl
from corelib import ops

rng = np.random.default_rng(0)
t = lambda *shape, dtype="f": cl.asarray((3 * rng.standard_normal(shape)).astype(dtype), device="cpu")
x, big = t(40, 70), t(5000)
found = {
    "exp": cl.exp(big), "tan": cl.tan(big * 1e5), "pow": cl.pow(cl.abs(big), 1.7), "complex": cl.exp(big.astype("complex64") * 1j),
    "double": cl.log1p(cl.abs(t(3000, dtype="d"))), "half": big.astype("float16") / 3, "integers": (big * 99).astype("int32") // 7,
    "matmul": x @ t(70, 33), "sum": cl.sum(x, axis=0), "max": cl.max(x, axis=1), "where": cl.where(x > 0, x, -x),
    "cumulative": cl.cumulative_sum((big * 9).astype("int64")), "sort": cl.sort(big), "order": cl.argsort(big, stable=True),
    "bits": cl.random.bits((999,), generator=cl.random.Generator(1, device="cpu")), "softmax": ops.softmax(x),
    "conv": ops.conv(t(2, 3, 12, 12), t(4, 3, 3, 3), padding=1),
    "attention": ops.scaled_dot_product_attention(t(2, 20, 16), t(2, 20, 16), t(2, 20, 16)),
}
np.savez(sys.argv[1], **{name: y.numpy() for name, y in found.items()})
print("numba" in sys.modules)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of each compiler, with a cache of its own."""
    found = {}
    for name in ("", "numba"):
        folder = tmp_path_factory.mktemp(f"by_{name or 'us'}")
        environment = os.environ | {"CORELIB_CPU_COMPILER": name, "CORELIB_CACHE_DIR": str(folder)}
        run = [sys.executable, "-c", PROGRAM, str(folder / "found.npz")]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(name == "numba")
        found[name] = dict(np.load(folder / "found.npz"))
    return found


def test_both_compilers_make_the_same_of_a_kernel(results):
    ours, theirs = results[""], results["numba"]
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        y = theirs[name]
        assert x.dtype == y.dtype and x.shape == y.shape, name
        if (
            name in SUMS
        ):  # sums of at most 70 terms, each rounded in another order: 70 u of the largest term's size
            np.testing.assert_allclose(x, y, rtol=0, atol=70 * 2**-24 * np.abs(x).max(), err_msg=name)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


def test_an_unknown_compiler_is_refused(tmp_path):
    code = "import corelib as cl, numpy as np\ncl.exp(cl.asarray(np.ones((300, 300), 'f'), device='cpu'))"
    environment = os.environ | {"CORELIB_CPU_COMPILER": "gcc", "CORELIB_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode and "CORELIB_CPU_COMPILER is 'gcc'" in done.stderr
