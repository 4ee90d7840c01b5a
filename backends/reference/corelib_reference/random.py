"""Random bits: Philox4x32-10 of J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).

A block cipher of a counter: word i depends on the key and on i alone, so every backend, in any order and on
any number of threads, produces the same bits. Everything else that is random in corelib is computed from
these bits by other ops.
"""

from __future__ import annotations

from corelib.plugin_api import dtypes, ops

from .array import RefArray, Shape, elements
from .kernels import kernels

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # added to the key after each round: the golden ratio, and sqrt(3) - 1
ROUNDS = 10
LOW = 0xFFFFFFFF

Counter = tuple[int, int, int, int]


def philox4x32(counter: Counter, key: tuple[int, int]) -> Counter:
    """The four 32-bit words that Philox4x32-10 gives for a counter of four words and a key of two."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        a, b = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = b >> 32 ^ x1 ^ k0, b & LOW, a >> 32 ^ x3 ^ k1, a & LOW
        k0, k1 = k0 + WEYL[0] & LOW, k1 + WEYL[1] & LOW
    return x0, x1, x2, x3


@kernels.implements(ops.random_bits, dtypes=(dtypes.uint32, dtypes.uint64))
def random_bits(key: RefArray, counter: RefArray, /, *, shape: Shape, dtype: dtypes.DType) -> RefArray:
    """uint32: word i is word i % 4 of the block at counter + i // 4; uint64: words 2i (low) and 2i + 1."""
    k0, k1 = key.data
    (start,) = counter.data
    size = elements(shape)
    count = size if dtype is dtypes.uint32 else 2 * size
    words: list[int] = []
    for block in range(-(-count // 4)):
        position = start + block & 0xFFFFFFFFFFFFFFFF
        words += philox4x32((position & LOW, position >> 32, 0, 0), (k0, k1))
    if dtype is dtypes.uint64:
        words = [low | high << 32 for low, high in zip(words[0::2], words[1::2], strict=True)]
    return RefArray(shape, dtype, words[:size])
