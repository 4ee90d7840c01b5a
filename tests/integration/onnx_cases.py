"""What the tests of the ONNX plugin share: the plugin on the path, and the onnx package's own cases, loaded once.

The package does not ship the data of its node tests: it computes them, models, inputs and expected outputs, when they
are loaded (4 seconds).
"""

from __future__ import annotations

import functools
import re
import sys
import warnings
from pathlib import Path

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "corelib_onnx"
REASON = "onnx is not installed, so models in that format are not tested: pip install onnx"
if str(PLUGIN) not in sys.path:
    sys.path.insert(0, str(PLUGIN))

# Operators that are refused, each with the reason; a case that needs one must say so when it is loaded.
LATER = "not written yet"
MISSING = {
    **dict.fromkeys(["DeformConv"], LATER),
    **dict.fromkeys(
        ["LinearAttention", "CausalConvWithState"],
        "inlined by ONNX's definition, which onnx cannot do where an input in the middle is left out",
    ),
    **dict.fromkeys(
        ["StringSplit", "StringNormalizer", "StringConcat", "RegexFullMatch", "TfIdfVectorizer"],
        "there are no strings",
    ),
    "ImageDecoder": "files of images are not numbers",
    **{
        f"ai.onnx.ml.{name}": "of the domain of classical machine learning"
        for name in ("LabelEncoder", "TreeEnsemble", "ArrayFeatureExtractor", "Binarizer")
    },
    **{
        f"ai.onnx.preview.training.{name}": "training is corelib.optim's"
        for name in ("Momentum", "Adagrad", "Adam", "Gradient")
    },
}
# Elements that corelib has no dtype for.
NO_DTYPE = "FLOAT8E4M3FN|FLOAT8E4M3FNUZ|FLOAT8E5M2|FLOAT8E5M2FNUZ|FLOAT8E8M0|FLOAT4E2M1|U?INT4|U?INT2|STRING"

# Cases that give other numbers, on all devices or on one, each with the reason. Every pattern must match cases that do.
RANDOM = "random numbers are corelib's, not NumPy's"
OTHER_NUMBERS = {
    ("", r"^test_roialign_mode_max$"): "the mode max, over elements times their weights, is refused",
    ("", r"^test_bernoulli"): RANDOM,
    ("", r"^test_training_dropout(_default)?(_mask)?$"): RANDOM,
    (
        "",
        r"^test_attention_4d_causal_fp16_expanded$",
    ): "two numbers of 192 differ by one rounding to float16, where 1e-3 allows less",
    (
        "reference",
        r"^test_dft_inverse(_opset19)?$",
    ): "the zeros are exact here, and NumPy's rounding errors there: 2e-7",
}


def other_numbers(device):
    """The patterns for a device."""
    return [pattern for where, pattern in OTHER_NUMBERS if where in ("", device)]


@functools.cache
def cases():
    """The onnx package's tests of single operators, of what PyTorch once exported, and of small graphs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some compute with NaN and overflow on purpose
        from onnx.backend.test.loader import load_model_tests

        kinds = ("node", "pytorch-operator", "pytorch-converted", "simple")
        found = [case for kind in kinds for case in load_model_tests(kind=kind)]
    for case in found:
        if case.model is None:
            case.model, case.data_sets = _read(Path(case.model_dir))
    return found


def _read(folder):
    """A model and its data from files."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")

    def read(file, value):
        message = onnx.SequenceProto() if value.type.HasField("sequence_type") else onnx.TensorProto()
        message.ParseFromString(file.read_bytes())
        return (
            numpy_helper.to_list(message)
            if isinstance(message, onnx.SequenceProto)
            else numpy_helper.to_array(message)
        )

    own = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in own]
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        parts = [
            [read(data / f"{kind}_{i}.pb", value) for i, value in enumerate(values)]
            for kind, values in (("input", inputs), ("output", model.graph.output))
        ]
        sets.append(tuple(parts))
    return model, sets


def flat(values):
    """The arrays of nested sequences, in order."""
    return [a for v in values for a in (flat(v) if isinstance(v, list | tuple) else [v])]


def check(case, device):
    """Run a case on a device of corelib, and compare as the onnx package compares."""
    from onnx import TensorProto, numpy_helper
    from onnx.backend.test.runner import Runner

    from corelib_onnx import backend

    array = lambda x: numpy_helper.to_array(x) if isinstance(x, TensorProto) else x
    prepared = backend.prepare(case.model, device)
    for inputs, expected in case.data_sets:
        results = prepared.run([array(x) for x in inputs])
        expected = [array(x) for x in flat(expected)]
        Runner.assert_similar_outputs(expected, flat(results), case.rtol, case.atol)


def why_refused(error):
    """Whether an error is a refusal that the tables above give a reason for."""
    text = str(error)
    if type(error).__name__ == "UnsupportedError":
        listed = re.fullmatch(r".*\(how often\): (.*)\. What it has.*", text)
        return bool(listed) and all(name.split(" ")[0] in MISSING for name in listed[1].split(", "))
    return bool(re.search(rf"corelib has no elements of ONNX's type ({NO_DTYPE})\b", text))
