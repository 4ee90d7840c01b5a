"""No false alarms: honest backends of unusual make pass, whatever the seed. Twenty seeds of everything are a command, ``seeds.py``."""

from __future__ import annotations

import pytest
from honest import HONEST, MADE, announce

import corelib
from corelib.conformance import Oracle, Plan
from corelib.conformance.runner import run
from corelib.op import BY_NAME
from corelib.registry import registry, unregister

OPS = "exp add remainder astype where sum argmax sort matmul reshape flip concat strided_update gather softmax eigh rfft"


@pytest.fixture(scope="module")
def oracle():
    return Oracle()


@pytest.fixture
def honest(request):
    name = request.param
    known = {*registry.infos}
    reason = announce(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    yield name
    if name not in known:
        unregister(name)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("honest", HONEST, indirect=True)
def test_an_honest_backend_is_not_accused(honest, seed, oracle):
    ops = tuple(BY_NAME[name] for name in OPS.split())
    report = run(honest, Plan(ops, None, "smoke", seed), workers=0, oracle=oracle)
    assert not report.failures, report.text()
    assert report.accounted


@pytest.mark.parametrize("honest", MADE, indirect=True)
def test_each_is_as_unusual_as_it_says(honest):
    """Loopback's arrays are bytes; nothing of the other is in C order."""
    x = corelib.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=honest)
    for array in (x._data, (x * 2.0)._data, x[0]._data, x.T._data):
        if honest == "loopback":
            assert isinstance(array.content, bytes)
        else:
            assert not array.flags.c_contiguous
    assert (x * 2.0).tolist() == [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]
