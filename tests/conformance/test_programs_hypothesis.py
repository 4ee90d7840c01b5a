"""Programs that Hypothesis draws, through the same builder: what fails is made small, and stays in its database."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from corelib.conformance import Oracle, Suite
from corelib.conformance.building import program
from corelib.conformance.cases import Case


@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=60,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
        hypothesis.HealthCheck.large_base_example,
    ],
)
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_any_program_that_hypothesis_finds(device, data):
    drawn = program(lambda options: data.draw(st.sampled_from(list(options))))
    kind = "exact" if drawn.exact else "smooth"
    outcome = Suite(device, Oracle()).run(
        Case(None, drawn.inputs[0].dtype, "program", 0, placement=kind, data=drawn)
    )
    assert outcome.status == "pass", outcome.reason
