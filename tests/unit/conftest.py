"""What unit tests of several files share: one fixture that runs a test on every backend of this repository."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "corelib_numpy"


@pytest.fixture(scope="module")
def numpy_plugin() -> Iterator[str]:
    """The example plugin, registered as if it were installed."""
    import corelib

    sys.path.insert(0, str(PLUGIN))
    name = corelib.register(importlib.import_module("corelib_numpy.plugin"), "corelib_numpy")
    yield "numpy"
    corelib.unregister(name)
    sys.path.remove(str(PLUGIN))


@pytest.fixture(params=["reference", "cpu", "numpy", pytest.param("cuda", marks=pytest.mark.device("cuda"))])
def anywhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device on which tensors are created: of each backend in this repository, where it can be used."""
    import corelib

    if request.param == "numpy":
        request.getfixturevalue("numpy_plugin")
    with corelib.use_backend(request.param):
        yield request.param
