"""What every test shares: reproducible random examples, and device tests that say why they did not run."""

from __future__ import annotations

import functools
import os

import hypothesis
import pytest

# SciPy reads this once, when it is imported, and tests/integration/clients needs it: before anything can import SciPy.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# Without a deadline: a first call may compile. Derandomised where a machine runs the suite, so that a red run is red
# again; at a desk, new examples each time find more.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


@functools.cache
def why_unusable(backend: str) -> str:
    """Why a backend cannot be used here, in its own words; empty when it can."""
    import corelib

    statuses = {status.name: status for status in corelib.backends()}
    if backend not in statuses:
        return f"{backend}: not installed"
    return "" if statuses[backend].usable else f"{backend}: {statuses[backend].reason}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.device("cuda")`: run where that backend is usable, otherwise skip with its reason, counted at the end."""
    for marker in item.iter_markers("device"):
        reason = why_unusable(*marker.args)
        if reason:
            pytest.skip(reason)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Readable ids, equal in every process: ops, functions and dtypes by their names."""
    name = (
        getattr(getattr(val, "op", None), "name", None)
        or getattr(val, "name", None)
        or getattr(val, "__name__", None)
    )
    return name if isinstance(name, str) and name != "<lambda>" else None
