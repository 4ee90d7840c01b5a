"""The public names: complete, typed for editors, and none hidden by another."""

from __future__ import annotations

import importlib
import pkgutil

import corelib as cl
from corelib import ops
from corelib.op import OPS


def test_every_declared_op_is_exported_from_its_family():
    for op in OPS:
        if op.where.split("/corelib/")[-1].startswith("ops/"):
            assert getattr(ops, op.fn.__name__) is op.fn, op.name
            assert op.fn.__name__ in ops.__all__, op.name


def test_every_plain_function_of_a_family_is_exported():
    for info in pkgutil.iter_modules(ops.__path__):
        family = importlib.import_module(f"corelib.ops.{info.name}")
        for name in getattr(family, "__all__", ()):
            assert name in ops.__all__ and getattr(ops, name) is getattr(family, name), (info.name, name)


def test_all_lists_what_there_is():
    assert len(set(cl.__all__)) == len(cl.__all__)
    for name in cl.__all__:
        assert getattr(cl, name) is not None or name == "newaxis"
    assert callable(cl.gradcheck) and callable(cl.draw) and callable(cl.gradcheck)
