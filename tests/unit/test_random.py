"""Random numbers: the cipher's published answers, the same numbers everywhere, and a state that saves and restores."""

from __future__ import annotations

import copy
import math
import pickle
import re
import threading

import numpy as np
import pytest

import corelib
from corelib import random
from corelib.errors import ArgumentError, DTypeError, ShapeError
from corelib.plugin_api import Backend, Tensor, activate, attach, ops, registry, reissue

on_cpu = pytest.mark.device("cpu")
DEVICES = ["reference", pytest.param("cpu", marks=on_cpu)]
on_each = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def here():
    """What is not said to be on another device is on the reference backend, which is always there."""
    with corelib.use_backend("reference"):
        yield


def philox(counter, key):
    """Philox4x32-10 as the paper's figure has it, written again for these tests."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(c[0] * 0xD2511F53, 2**32)
        high1, low1 = divmod(c[2] * 0xCD9E8D57, 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def words(seed, counter, n):
    """n uint32 words of the stream of a seed from block ``counter`` on."""
    blocks = [(counter + i) % 2**64 for i in range(-(-n // 4))]
    return [w for b in blocks for w in philox((b % 2**32, b >> 32, 0, 0), (seed % 2**32, seed >> 32))][:n]


def generator(seed=0, counter=0, device="reference"):
    made = random.Generator(seed, device=device)
    state = {"key": made.key, "counter": corelib.asarray(np.uint64(counter), device=device)}
    return made.set_state(state)


# -- the cipher --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_the_oracle_gives_the_known_answers_of_random123(counter, key, answer):
    assert philox(counter, key) == answer


@on_each
def test_the_first_known_answer_through_the_public_api(device):
    random.seed(0)
    assert random.bits((4,), device=device).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@on_each
@pytest.mark.parametrize("seed", [0, 1, 2**32, 0x299F31D0A4093822, 2**64 - 1])
@pytest.mark.parametrize("counter", [0, 2**32 - 2, 2**63, 2**64 - 2])
def test_words_are_the_ciphers(device, seed, counter):
    g = generator(seed, counter, device)
    assert g.bits((13,), device=device).tolist() == words(seed, counter, 13)
    assert g.counter.item() == (counter + 4) % 2**64


@on_each
def test_a_uint64_is_two_words_low_first(device):
    low_high = words(7, 0, 10)
    expected = [low | high << 32 for low, high in zip(low_high[::2], low_high[1::2], strict=True)]
    assert generator(7, device=device).bits((5,), corelib.uint64, device=device).tolist() == expected


@on_each
def test_the_shape_does_not_matter_only_the_place(device):
    flat = generator(3).bits((24,), device=device)
    assert generator(3).bits((2, 3, 4), device=device).tolist() == corelib.reshape(flat, (2, 3, 4)).tolist()
    assert generator(3).bits((7,), device=device).tolist() == flat.tolist()[:7]


@on_each
def test_the_counter_advances_by_whole_blocks_known_from_the_shape(device):
    g = random.Generator(0, device=device)
    for shape, dtype, blocks in [
        ((), "uint32", 1),
        ((4,), "uint32", 1),
        ((5,), "uint32", 2),
        ((2, 3), "uint64", 3),
        ((0, 3), "uint32", 0),
    ]:
        before = g.counter.item()
        g.bits(shape, dtype, device=device)
        assert g.counter.item() - before == blocks


# -- the same everywhere -----------------------------------------------------------------------------------------

DRAWS = {
    "bits": lambda **k: random.bits((5, 3), **k),
    "bits64": lambda **k: random.bits((5, 3), "uint64", **k),
    "uniform": lambda **k: random.uniform((33,), **k),
    "uniform64": lambda **k: random.uniform((33,), dtype=corelib.float64, **k),
    "uniform-interval": lambda **k: random.uniform((33,), -2.5, 7.1, **k),
    "integers": lambda **k: random.integers(-7, 100, (33,), **k),
    "integers-all": lambda **k: random.integers(-(2**63), 2**63, (33,), **k),
    "integers-uint8": lambda **k: random.integers(0, 256, (33,), "uint8", **k),
    "bernoulli": lambda **k: random.bernoulli(0.3, (33,), **k),
    "permutation": lambda **k: random.permutation(33, **k),
}


@on_cpu
@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_numbers_on_every_backend(name):
    a = DRAWS[name](generator=generator(5), device="reference")
    b = DRAWS[name](generator=generator(5), device="cpu")
    assert (a.dtype, a.shape, a.tolist()) == (b.dtype, b.shape, b.tolist())
    assert (a.device, b.device) == ("reference", "cpu")


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_numbers_agree_within_a_logarithm_and_a_cosine(dtype):
    a, b = (
        random.normal((200,), 1.0, 2.0, dtype, generator=generator(5), device=d).numpy()
        for d in ("reference", "cpu")
    )
    np.testing.assert_allclose(a, b, rtol=0, atol=64 * np.finfo(dtype).eps)


LARGE = 100_003
LARGE_DRAWS = {
    "bits": lambda **k: random.bits((LARGE,), **k),
    "uniform": lambda **k: random.uniform((LARGE,), -2.5, 7.1, **k),
    "uniform64": lambda **k: random.uniform((LARGE,), dtype="float64", **k),
    "normal": lambda **k: random.normal((LARGE,), **k),
    "integers": lambda **k: random.integers(-7, 100, (LARGE,), **k),
    "bernoulli": lambda **k: random.bernoulli(0.3, (LARGE,), **k),
    "permutation": lambda **k: random.permutation(LARGE, **k),
}


@on_cpu
@pytest.mark.parametrize("name", LARGE_DRAWS)
def test_the_number_of_threads_does_not_matter(name):
    from corelib_cpu.backend import get_num_threads, set_num_threads

    before, found = get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            found.append(LARGE_DRAWS[name](generator=generator(9, 2**32 - 1000, "cpu"), device="cpu").numpy())
    finally:
        set_num_threads(before)
    assert all(np.array_equal(found[0], f) for f in found)
    if name == "bits":
        assert found[0][:5].tolist() == words(9, 2**32 - 1000, 5)
        assert found[0][-3:].tolist() == words(9, 2**32 - 1000 + 25_000, 3)


@on_cpu
def test_one_counter_serves_all_devices():
    g = generator(1)
    parts = [g.bits((4,), device=d).tolist() for d in ("reference", "cpu", "reference")]
    assert [*parts[0], *parts[1], *parts[2]] == words(1, 0, 12)
    assert g.counter.device == "reference"


# -- distributions -----------------------------------------------------------------------------------------------


@on_each
def test_how_numbers_are_made_from_words(device):
    w = np.array(words(2, 0, 8), np.uint64)
    assert (
        random.uniform((8,), generator=generator(2), device=device).tolist() == ((w >> 8) * 2.0**-24).tolist()
    )
    pairs = w[::2] | w[1::2] << np.uint64(32)
    assert (
        random.uniform((4,), dtype="float64", generator=generator(2), device=device).tolist()
        == ((pairs >> 11) * 2.0**-53).tolist()
    )
    assert random.integers(10, 17, (4,), generator=generator(2), device=device).tolist() == [
        int(p) % 7 + 10 for p in pairs
    ]
    assert (
        random.bernoulli(0.25, (8,), generator=generator(2), device=device).tolist() == (w < 2**30).tolist()
    )
    assert random.permutation(4, generator=generator(2), device=device).tolist() == np.argsort(pairs).tolist()
    z = [
        math.sqrt(-2 * math.log((a + 0.5) / 2**32)) * math.cos(2 * math.pi * b / 2**32)
        for a, b in zip(w[::2], w[1::2], strict=True)
    ]
    np.testing.assert_allclose(
        random.normal((4,), generator=generator(2), device=device).numpy(), z, atol=1e-5
    )
    z = [
        math.sqrt(-2 * math.log((float(a) + 0.5) / 2**64)) * math.cos(2 * math.pi * float(b) / 2**64)
        for a, b in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    np.testing.assert_allclose(
        random.normal((2,), dtype="float64", generator=generator(2), device=device).numpy(), z, atol=1e-13
    )


@on_each
def test_the_ends_of_the_words_give_finite_numbers_inside_their_range(device):
    ends = corelib.asarray(np.array([0, 1, 2**32 - 1], np.uint32), device=device)
    u = corelib.ops.uniform_from_bits(ends).numpy()
    assert u.min() == 0
    assert u.max() == 1 - 2.0**-24
    z = corelib.ops.normal_from_bits(ends, corelib.asarray(np.zeros(3, np.uint32), device=device)).numpy()
    assert np.isfinite(z).all()
    assert z.max() == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-6)


@on_each
@pytest.mark.parametrize(
    ("low", "high"),
    [(1.0, 2.0), (0.0, 1e-45), (-1.0, 0.0), (-3.0, -1.0), (16777216.0, 16777218.0), (2.0, 2.0)],
)
def test_uniform_never_reaches_its_upper_end(device, low, high):
    every = corelib.asarray(np.array([0, 2**32 - 1], np.uint32), device=device)

    class Ends(random.Generator):
        def bits(self, *args, **kwargs):
            return every

    u = random.uniform((2,), low, high, generator=Ends(0, device=device)).numpy()
    assert u[0] == np.float32(low)
    assert u[1] < np.float32(high) or low == high or np.float32(high) == 0 == u[1]


@on_cpu
def test_distributions_have_their_moments():
    """With the seed fixed these hold or not for ever; each bound is one that a random seed would break once in 10**6 (4.9 sigma)."""
    n, sigma, g = 200_000, 4.9, generator(12345)
    u = random.uniform((n,), generator=g, device="cpu").numpy().astype(np.float64)
    assert abs(u.mean() - 0.5) < sigma * math.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < sigma * math.sqrt(1 / 180 / n)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < sigma / math.sqrt(n)
    for dtype in ("float32", "float64"):
        z = random.normal((n,), dtype=dtype, generator=g, device="cpu").numpy().astype(np.float64)
        assert abs(z.mean()) < sigma / math.sqrt(n)
        assert abs(z.var() - 1) < sigma * math.sqrt(2 / n)
        assert abs((z**3).mean()) < sigma * math.sqrt(15 / n)
        assert abs((z**4).mean() - 3) < sigma * math.sqrt(96 / n)
        assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < sigma / math.sqrt(n)
        cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in np.sort(z)[::20]])
        assert np.abs(cdf - np.arange(0, n, 20) / n).max() < 2.7 / math.sqrt(
            n
        )  # Kolmogorov: P(D sqrt(n) > 2.7) < 10**-6
    b = random.bernoulli(0.3, (n,), generator=g, device="cpu").numpy()
    assert abs(b.mean() - 0.3) < sigma * math.sqrt(0.21 / n)


def chi_square(counts):
    expected = counts.sum() / counts.size
    return ((counts - expected) ** 2 / expected).sum()


@on_cpu
def test_counts_are_even():
    """Chi-square below k + 5 sqrt(2k) + 17 for k degrees of freedom: a random seed would break it less than once in 10**6."""
    n, g = 200_000, generator(99)
    w = random.bits((n,), generator=g, device="cpu").numpy()
    draws = [
        (w & 255, 256),
        (w >> 24, 256),
        (random.integers(-3, 10, (n,), generator=g, device="cpu").numpy() + 3, 13),
    ]
    draws += [(random.integers(0, 100, (n,), "uint8", generator=g, device="cpu").numpy(), 100)]
    firsts = np.array([random.permutation(4, generator=g, device="cpu").tolist() for _ in range(4000)])
    draws += [(firsts @ np.array([64, 16, 4, 1]), 256)]
    for values, bins in draws:
        counts = np.bincount(values.astype(np.int64), minlength=bins)
        counts = counts[counts > 0] if bins == 256 and values.size == 4000 else counts
        k = counts.size - 1
        assert chi_square(counts) < k + 5 * math.sqrt(2 * k) + 17
    assert counts.size == 24  # each order of four things came up


@on_each
def test_a_permutation_has_everything_once(device):
    assert sorted(random.permutation(50, device=device).tolist()) == list(range(50))
    assert random.permutation(0, device=device).shape == (0,)
    x = corelib.asarray(np.arange(12).reshape(3, 4), device=device)
    rows = random.permutation(x)
    assert rows.device == device
    assert sorted(rows.tolist()) == x.tolist()
    columns = random.permutation(x, axis=1)
    assert sorted(np.array(columns.tolist()).T.tolist()) == x.numpy().T.tolist()


@on_each
def test_bernoulli_of_probabilities(device):
    assert random.bernoulli(0.0, (50,), device=device).tolist() == [False] * 50
    assert random.bernoulli(1.0, (50,), device=device).tolist() == [True] * 50
    p = corelib.asarray([0.0, 1.0, 0.0, 1.0], device=device)
    drawn = random.bernoulli(p)
    assert (drawn.tolist(), drawn.device) == ([False, True, False, True], device)
    assert random.bernoulli(p, (3, 4)).shape == (3, 4)


# -- the state ---------------------------------------------------------------------------------------------------


def test_the_default_generator_repeats_after_a_seed():
    random.seed(42)
    first = random.normal((3,)).tolist(), random.integers(10, shape=(3,)).tolist()
    random.seed(42)
    assert (random.normal((3,)).tolist(), random.integers(10, shape=(3,)).tolist()) == first


def test_unseeded_generators_differ():
    assert repr(random.Generator(5)) == "Generator(5, counter=0, device='reference')"
    assert random.Generator().bits((4,)).tolist() != random.Generator().bits((4,)).tolist()


@on_each
def test_a_state_restores_mid_stream(device):
    g = random.Generator(1, device=device)
    g.bits((5,), device=device)
    state = g.get_state()
    rest = g.bits((9,), device=device).tolist()
    assert g.set_state(state).bits((9,), device=device).tolist() == rest
    assert random.Generator(2).set_state(state).bits((9,)).tolist() == rest
    arrays = {k: v.numpy() for k, v in state.items()}
    assert random.Generator(2).load_state_dict(arrays).bits((9,)).tolist() == rest
    for other in (pickle.loads(pickle.dumps(g.set_state(state))), copy.deepcopy(g)):
        assert other.bits((9,), device=device).tolist() == rest
    random.set_state(state)
    assert random.bits((9,), device=device).tolist() == rest


def test_the_state_is_tensors_that_nothing_else_changes():
    g = random.Generator(3, device="reference")
    state = g.get_state()
    assert (state["key"].dtype, state["key"].shape) == (corelib.uint32, (2,))
    assert (state["counter"].dtype, state["counter"].shape) == (corelib.uint64, ())
    g.bits((100,))
    assert state["counter"].item() == 0
    state["key"][0] = 77
    assert g.key.tolist() == [3, 0]
    counter = g.counter
    g.bits((4,))
    assert g.counter is counter  # rebound, so that a module or a checkpoint may hold on to it


def test_spawned_streams_are_their_own():
    a, b = random.Generator(3).spawn(2)
    again, _ = random.Generator(3).spawn(2)
    first = a.bits((8,)).tolist()
    assert first == again.bits((8,)).tolist()
    assert not set(first) & set(b.bits((8,)).tolist())
    assert len(random.spawn(3)) == 3


def test_threads_never_get_the_same_block():
    g, found, errors = random.Generator(8, device="reference"), [], []

    def draw():
        try:
            for _ in range(40):
                found.append(tuple(g.bits((5,), device="reference").tolist()))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert set(found) == {tuple(words(8, 2 * i, 5)) for i in range(320)}


# -- inside transformations --------------------------------------------------------------------------------------


class Held:
    def __init__(self, tensor):
        self.tensor, self.shape, self.dtype = tensor, tensor.shape, tensor.dtype


class Wrapping(Backend):
    """The identity as a transformation: its arrays hold tensors of the backend below."""

    def __init__(self, base):
        super().__init__("wrapping")
        self.base, self.level, self.seen = base, base.level + 1, []
        attach(self)

    def lift(self, tensor):
        return Tensor(Held(tensor), self)

    def find(self, op, dtype):
        def kernel(*operands, **params):
            self.seen.append(op.name)
            y = reissue(op, [getattr(o, "tensor", o) for o in operands], params, self.base)
            return tuple(map(Held, y)) if isinstance(y, tuple) else Held(y)

        return kernel


class Following(Wrapping):
    """One that is told when state changes, as a tracer is."""

    def rebind(self, tensor, value):
        self.seen.append("rebind")


def test_drawing_happens_at_the_level_of_the_active_transformation():
    g, inner = generator(4), Wrapping(registry.get("reference"))
    outer = Wrapping(inner)
    with activate(inner), activate(outer):
        u = random.uniform((3,), generator=g)
        assert u._backend is outer
        assert random.bits((2,), generator=g, device=inner)._backend is inner
    assert "random_bits" in outer.seen
    assert "random_bits" in inner.seen
    assert g.counter._backend.level == 0  # nothing of the transformation is left behind
    value = u._data.tensor._data.tensor
    assert value.tolist() == random.uniform((3,), generator=generator(4)).tolist()
    assert g.bits((4,)).tolist() == words(4, 2, 4)


def test_a_transformation_that_follows_state_sees_the_counter_advance():
    g, tracer = generator(4), Following(registry.get("reference"))
    with activate(tracer):
        random.bits((8,), generator=g)
    assert "rebind" in tracer.seen
    assert g.counter._backend is tracer
    assert g.counter._data.tensor.item() == 2


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: random.Generator(-1), ArgumentError, "a seed is an integer in [0, 2**64), got -1"),
        (lambda: random.seed(2**64), ArgumentError, "a seed is an integer in [0, 2**64)"),
        (lambda: random.seed(1.5), DTypeError, "a seed is an integer, got 1.5"),
        (
            lambda: random.bits((2,), "float32"),
            DTypeError,
            "random_bits gives uint32 or uint64, got dtype float32",
        ),
        (lambda: random.bits((2, -1)), ShapeError, "shape (2, -1) has a negative size"),
        (
            lambda: random.uniform((2,), dtype="int32"),
            DTypeError,
            "random.uniform: dtype must be a floating one",
        ),
        (lambda: random.uniform((2,), 1, 0), ArgumentError, "low <= high is needed, got low=1.0, high=0.0"),
        (lambda: random.uniform((2,), 0, 1e39), ArgumentError, "does not fit float32"),
        (lambda: random.normal((2,), std=-1), ArgumentError, "std must not be negative"),
        (
            lambda: random.normal((2,), dtype="bool"),
            DTypeError,
            "random.normal: dtype must be a floating one",
        ),
        (lambda: random.integers(3, 3), ArgumentError, "low < high within int64"),
        (lambda: random.integers(0, 300, dtype="uint8"), ArgumentError, "low < high within uint8 (0 to 255)"),
        (
            lambda: random.integers(0, 3, dtype="float32"),
            DTypeError,
            "dtype must be an integer one, got float32",
        ),
        (lambda: random.bernoulli(1.5), ArgumentError, "p must be in [0, 1], got 1.5"),
        (lambda: random.permutation(-1), ArgumentError, "a number that is not negative"),
        (lambda: random.permutation(corelib.asarray(1.0)), ShapeError, "a 0-d tensor has nothing to permute"),
        (lambda: random.set_state({"key": [1, 2]}), ArgumentError, "has a key and a counter"),
        (
            lambda: random.set_state({"key": [1, 2, 3], "counter": 0}),
            ArgumentError,
            "the state's key must be uint32[2], got uint32[3]",
        ),
        (
            lambda: ops.random_bits(corelib.asarray([1, 2]), corelib.asarray(0), (2,)),
            DTypeError,
            "key must have uint32, got int64",
        ),
    ],
)
def test_mistakes_are_refused_in_words_and_draw_nothing(call, error, words):
    random.seed(0)
    with pytest.raises(error, match=re.escape(words)):
        call()
    assert random.get_state()["counter"].item() == 0
