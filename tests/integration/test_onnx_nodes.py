"""The onnx package's own node tests, each on `cpu` and on `reference`: it passes, or a table says why it does not."""

from __future__ import annotations

import collections
import re

import pytest
from onnx_cases import MISSING, NO_DTYPE, REASON, cases, check, flat, other_numbers, why_refused

onnx = pytest.importorskip("onnx", reason=REASON)

pytestmark = pytest.mark.xdist_group("onnx")  # whose cases take seconds to load


class Tally:
    """What became of each case."""

    def __init__(self, device):
        self.device, self.passed, self.refused, self.failed = device, [], {}, {}
        for case in cases():
            if device == "reference" and elements(case) > 10_000:
                continue  # pure Python: seconds for each
            try:
                check(case, device)
            except Exception as error:
                (self.refused if why_refused(error) else self.failed)[case.name] = error
            else:
                self.passed.append(case)


def elements(case):
    return sum(getattr(x, "size", 0) for inputs, _ in case.data_sets for x in flat(inputs))


@pytest.fixture(scope="module", params=["cpu", "reference"])
def tally(request):
    return Tally(request.param)


def test_each_case_passes_or_has_a_reason(tally):
    excluded = other_numbers(tally.device)
    unexpected = {
        n: e for n, e in tally.failed.items() if not any(re.search(pattern, n) for pattern in excluded)
    }
    assert not unexpected, "\n".join(f"{name}: {error}" for name, error in unexpected.items())


def test_what_is_excluded_does_fail(tally):
    """An exclusion that has become needless goes. Random numbers may agree by chance in some cases, not in all."""
    for pattern in other_numbers(tally.device):
        assert any(re.search(pattern, name) for name in tally.failed), pattern


def test_at_least_180_operators_pass(tally):
    single = {nodes[0].op_type for case in tally.passed if len(nodes := case.model.graph.node) == 1}
    assert len(single) >= 175, sorted(single)


def test_what_is_refused_is_refused_for_each_reason(tally):
    """The tables name nothing that no case needs."""
    texts = " ".join(map(str, tally.refused.values()))
    assert [name for name in MISSING if f" {name} (" not in texts] == []
    assert [name for name in NO_DTYPE.replace("U?INT", "UINT").split("|") if name not in texts] == []


def test_operators_of_every_family_pass(tally):
    counted = collections.Counter(node.op_type for case in tally.passed for node in case.model.graph.node)
    for name in (
        "Add",
        "Softmax",
        "ReduceSum",
        "Reshape",
        "GatherND",
        "QuantizeLinear",
        "Loop",
        "SequenceMap",
        "LayerNormalization",
    ):
        assert counted[name], name
