"""The examples in docstrings run, and what they claim is so.

An example is ``Example::`` with a block of statements, or ``Example: ``expression`` ...`` in a sentence. Of a sentence, every expression in
double backticks is evaluated; "x of shape (2, 3)" and "``f(x)`` of shape (2, 3)" say which operand, "has shape (3, 2)" says of which shape the
result is, and "``a`` is ``b``" that both are equal.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap

import pytest

import corelib
from corelib import data, nn, ops, optim, quantization, train

SHAPE = r"\([\d, ]*\)"


def documented():
    """Every docstring of corelib with an example, by where it stands."""
    for info in pkgutil.walk_packages(corelib.__path__, "corelib."):
        if info.name.startswith(("corelib.conformance", "corelib.__main__")):
            continue
        tree = ast.parse(inspect.getsource(importlib.import_module(info.name)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if "Example:" in text:
                    yield pytest.param(text, id=f"{info.name}.{getattr(node, 'name', '')}".rstrip("."))


EXAMPLES = list(documented())


def scope():
    """What the examples may name beside corelib itself: operands, a function of one, a small network and its data."""
    x = corelib.reshape(corelib.arange(6, dtype=corelib.float32), (2, 3)) + 1
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    labels = corelib.asarray([0, 1])
    names = {name: getattr(corelib, name) for name in corelib.__all__}
    return {
        **names, "corelib": corelib, "data": data, "nn": nn, "optim": optim, "quantization": quantization, "train": train, "ops": ops, "f": lambda x: (x * x * x).sum(), "x": x, "y": x, "x1": x, "x2": x.T,
        "labels": labels, "model": model, "optimizer": optim.AdamW(model.parameters()), "loss": ops.cross_entropy(model(x), labels),
    }  # fmt: skip


def same(a, b):
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a, b, strict=True))
    return bool(ops.all(ops.isclose(a, b))) if isinstance(a, corelib.Tensor) else a == b


def check_sentence(text):
    names = scope()
    for operands, shape in re.findall(rf"\b(\w+(?: and \w+)*) of shape ({SHAPE})", text):
        for operand in operands.split(" and "):
            names[operand] = corelib.ones(ast.literal_eval(shape))
    if found := re.match(rf"``[^`]+`` of shape ({SHAPE})", text):
        names["x"] = corelib.ones(ast.literal_eval(found[1]))
    values = {code: eval(code, names) for code in re.findall(r"``([^`]+)``", text)}
    assert values, "an example without an expression"
    for code, shape in re.findall(rf"``([^`]+)``[^`;]* has shape ({SHAPE})", text):
        assert values[code].shape == ast.literal_eval(shape), code
    for a, b in re.findall(
        r"``([^`]+)`` is ``([^`]+)``", re.sub(rf"(for|and) \w+ of shape {SHAPE} ", "", text)
    ):
        assert same(values[a], values[b]), f"{a} is not {b}"


@pytest.mark.device("cpu")
@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corelib.random.seed(0)
    for example in re.findall(r"Example::\n\n((?:    .*\n?|\n)+)", text):
        exec(compile(textwrap.dedent(example), "example", "exec"), scope())
    for sentence in re.findall(r"Example: (.*?)(?:\n\n|\Z)", text, re.DOTALL):
        check_sentence(" ".join(sentence.split()))


# What is used most has an example. (The README and the guides show the rest at work; tests run those as well.)
SHOWN = [
    corelib.asarray, corelib.backends, corelib.checkpoint, corelib.custom_gradient, corelib.einsum, corelib.grad, corelib.gradcheck,
    corelib.hessian, corelib.hvp, corelib.jacfwd, corelib.jacrev, corelib.vmap, corelib.jvp, corelib.load, corelib.matmul, corelib.no_grad, corelib.random.Generator, corelib.save,
    corelib.set_backend, corelib.use_backend, corelib.value_and_grad, corelib.vjp, corelib.where, nn.Linear, nn.Module, nn.Sequential,
    ops.cross_entropy, ops.layer_norm, ops.softmax, ops.take, ops.take_along_axis, optim.AdamW, optim.SGD, corelib.Tensor.backward,
]  # fmt: skip


@pytest.mark.parametrize("thing", SHOWN, ids=lambda thing: thing.__qualname__)
def test_what_is_used_most_has_an_example(thing):
    assert "Example:" in (inspect.getdoc(thing) or "")
