"""Every layer and loss against PyTorch: values, gradients of inputs and parameters, and three steps of training, from the
state that PyTorch's names give. The cases and the protocol stand in ``nn_parity.py``; the expected numbers are PyTorch's
in float64, kept in a file, so that nothing is skipped where PyTorch is missing.

How far a number may be off: a result is a chain of sums of at most n terms, n being the numbers in play (those of the
inputs and of everything recorded); a chain of backward-stable sums errs by about n u times the largest magnitude, with u
= 2**-24 in float32 and 2**-53 in float64, where PyTorch errs as much. Measured, the worst case is 0.1 n u in float32.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import nn_parity
import numpy as np
import pytest

from corelib import nn
from corelib.serialize import load_file

FILE = Path(__file__).with_name("nn_expected.safetensors")
EXPECTED = {name: t.numpy() for name, t in load_file(FILE, device="reference").items()}
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
# PyTorch's own numbers are off by float32's unit here: it computes a constant in float32 (1 / alpha, 1 / 6)
SINGLE = ("CELU(0.7)", "Hardsigmoid")


def close(name: str, what: str, got: np.ndarray, expected: np.ndarray, count: int, unit: float) -> None:
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=f"{name}: {what}")
    scale = np.abs(expected[finite]).max(initial=1.0)
    error = np.abs(got[finite] - expected[finite]).max(initial=0.0)
    assert error <= count * unit * scale, (
        f"{name}: {what} is off by {error / (unit * scale):.1f} u, allowed {count} u"
    )


@pytest.mark.parametrize(
    ("device", "dtype"),
    [("reference", "float64"), *(pytest.param("cpu", d, marks=pytest.mark.device("cpu")) for d in UNIT)],
)
@pytest.mark.parametrize("name", nn_parity.CASES)
def test_values_gradients_and_training_are_pytorchs(name, device, dtype):
    case, expected = nn_parity.CASES[name], EXPECTED[name]
    found = nn_parity.run(case, nn_parity.Ours(device, dtype))
    count = sum(a.size for a in nn_parity.inputs(case)) + expected.size
    unit = UNIT["float32" if name in SINGLE else dtype]
    at = 0
    for what in sorted(found):
        got = np.asarray(found[what], "float64").ravel()
        close(name, what, got, expected[at : at + got.size], count, unit)
        at += got.size
    assert at == expected.size


def test_the_file_has_every_case_and_is_small():
    assert set(EXPECTED) == set(nn_parity.CASES), "run `python tools/nn_parity.py`"
    assert FILE.stat().st_size < 300_000


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
@pytest.mark.parametrize("name", nn_parity.CASES)
def test_the_file_is_what_pytorch_computes(name):
    pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
    case, expected = nn_parity.CASES[name], EXPECTED[name]
    found = nn_parity.packed(nn_parity.run(case, nn_parity.Theirs()))
    assert found.shape == expected.shape
    close(name, "the file", found, expected, expected.size, 2.0**-53)


# What is another default than PyTorch's, on purpose; where it computes with None, so do we.
OTHER_DEFAULTS = {("ignore_index", None), ("align_corners", None)}
SHARED = sorted(
    {case.build.split("(")[0].removeprefix("nn.") for case in nn_parity.CASES.values()}
    - {"utils.weight_norm"}
)


@pytest.mark.parametrize("name", SHARED)
def test_parameters_have_pytorchs_names_order_and_defaults(name):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: bench)")
    base = "RNNBase" if name in ("RNN", "LSTM", "GRU") else name  # where PyTorch's signatures stand
    ours, theirs = (inspect.signature(c).parameters for c in (getattr(nn, name), getattr(torch.nn, base)))
    common = [p for p in theirs if p in ours]
    assert common == [p for p in ours if p in theirs]
    for p in common:
        mine, other = ours[p].default, theirs[p].default
        known = (p, mine) in OTHER_DEFAULTS or p in ("device", "dtype") or callable(other)
        assert known or mine == other, f"{name}: {p}={mine}, PyTorch has {other}"
