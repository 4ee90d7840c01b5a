"""`python -m corelib warmup --backend cuda --arch sm_90`: what it compiles is what launches look for. NVRTC needs no device."""

from __future__ import annotations

import pytest

from corelib.__main__ import main
from corelib_cuda import launch, nvrtc, random, softmax, warmup

compiled = pytest.mark.skipif(
    nvrtc.find_library() is None,
    reason="NVRTC, the CUDA compiler, is not installed: `pip install corelib[cuda-dev]`",
)
pytestmark = pytest.mark.xdist_group("cuda_warmup")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CORELIB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(launch, "cuda_major", lambda: 13)
    return tmp_path / "cuda"


def test_the_kernels_of_the_ops_are_listed_once():
    kernels = list(warmup.every_kernel())
    found = {(k.file, k.entry or k.name, k.flags) for k in kernels}
    assert len(kernels) == len(found) > 500


@compiled
def test_a_launch_finds_what_was_compiled_ahead(cache, monkeypatch):
    held = softmax.softmax("float32")
    kernels = [random.words, launch.Kernel("softmax.cu", *held.entry(*next(iter(held.variants()))))]
    assert list(warmup.compiled([90], kernels)) == [
        "sm_90: random.cu, 1 kernels",
        "sm_90: softmax.cu, 1 kernels",
        f"kept in {cache}",
    ]
    assert len(list(cache.glob("*.cubin"))) == 2
    monkeypatch.setattr(nvrtc.Compiler, "compile", lambda *_, **__: pytest.fail("compiled again"))
    for kernel in kernels:
        assert launch.build(launch.source(kernel.file, [kernel.entry]), 90, kernel.flags).startswith(
            str(cache)
        )


@compiled
def test_the_command_compiles_for_an_architecture_that_is_named(cache, monkeypatch, capsys):
    monkeypatch.setattr(warmup, "every_kernel", lambda: [random.words])
    assert main(["warmup", "--backend", "cuda", "--arch", "sm_90", "--arch", "8.0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"sm_80: random.cu, 1 kernels\nsm_90: random.cu, 1 kernels\nkept in {cache}\ndone in "
    )


@compiled
@pytest.mark.parametrize("wrong", ["sm_12", "hopper", "900"])
def test_an_architecture_that_does_not_exist_is_refused_with_those_that_do(cache, capsys, wrong):
    assert main(["warmup", "--backend", "cuda", "--arch", wrong]) == 2
    assert f"architecture {wrong!r}: the CUDA compiler here knows sm_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--arch", "sm_90"], "--arch needs --backend"),
        (["--arch", "sm_90", "--backend", "reference"], "'reference' compiles nothing for other machines"),
    ],
)
def test_what_has_no_architectures_says_so(capsys, arguments, says):
    assert main(["warmup", *arguments]) == 2
    assert says in capsys.readouterr().err
