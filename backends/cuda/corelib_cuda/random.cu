// Random bits: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), indexed by element, so that the same key and counter give the
// same bits on every backend and for every number of threads.
#include "common.cuh"

struct Block {
    uint32 word[4];
};

// key (k0, k1), counter (low 32 bits, high 32 bits, 0, 0)
INLINE Block philox(uint64 counter, uint32 k0, uint32 k1) {
    uint32 c0 = uint32(counter), c1 = uint32(counter >> 32), c2 = 0, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64 p0 = uint64(0xD2511F53u) * c0, p1 = uint64(0xCD9E8D57u) * c2;
        c0 = uint32(p1 >> 32) ^ c1 ^ k0;
        c1 = uint32(p1);
        c2 = uint32(p0 >> 32) ^ c3 ^ k1;
        c3 = uint32(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// words (n): word i is number i % 4 of the block counter + i / 4. An array of uint64 is filled as twice as many words, low
// word first: the device is little-endian.
extern "C" __global__ void __launch_bounds__(256)
random_words(const uint32* key, const uint64* counter, uint32* words, int64 n) {
    const uint32 k0 = key[0], k1 = key[1];
    const uint64 base = counter[0];
    const int64 blocks = (n + 3) / 4, threads = int64(gridDim.x) * blockDim.x;
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < blocks; i += threads) {
        const Block block = philox(base + uint64(i), k0, k1);
        if (4 * i + 4 <= n) {
            reinterpret_cast<Packet<uint32, 4>*>(words)[i] = {{block.word[0], block.word[1], block.word[2], block.word[3]}};
        } else {
            for (int k = 0; 4 * i + k < n; k++) words[4 * i + k] = block.word[k];
        }
    }
}
