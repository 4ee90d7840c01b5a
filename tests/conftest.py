"""What every test shares: reproducible random examples, and device tests that say why they did not run."""

from __future__ import annotations

import os

import hypothesis

# Without a deadline: a first call may compile. Derandomised where a machine runs the suite, so that a red run is red
# again; at a desk, new examples each time find more.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")
