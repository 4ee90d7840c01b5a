// Products of integer matrices, which cuBLAS does not offer with wrapping arithmetic in every width, and those of int8 summed
// in int32. Floating matrices go to cuBLAS. contract.py appends the entry points.
#include "common.cuh"

constexpr int tile = 16;

struct Sizes {
    int64 batches, rows, depth, columns, a_stride, b_stride; // strides between matrices of a batch, 0 where one serves all
};

// a (batches, rows, depth), b (batches, depth, columns) -> c (batches, rows, columns); blocks of tile x tile threads.
template <class T> INLINE void integer_matmul(const T* a, const T* b, T* c, const Sizes& s) {
    __shared__ Word<T> left[tile][tile + 1], right[tile][tile + 1];
    const int64 across = (s.columns + tile - 1) / tile, down = (s.rows + tile - 1) / tile;
    const int64 batch = blockIdx.x / (across * down), rest = blockIdx.x % (across * down);
    const int64 row = rest / across * tile + threadIdx.y, column = rest % across * tile + threadIdx.x;
    a += batch * s.a_stride;
    b += batch * s.b_stride;
    Word<T> sum = 0;
    for (int64 begin = 0; begin < s.depth; begin += tile) {
        const int64 over = begin + threadIdx.x, under = begin + threadIdx.y;
        left[threadIdx.y][threadIdx.x] = row < s.rows && over < s.depth ? Word<T>(a[row * s.depth + over]) : 0;
        right[threadIdx.y][threadIdx.x] = under < s.depth && column < s.columns ? Word<T>(b[under * s.columns + column]) : 0;
        __syncthreads();
#pragma unroll
        for (int k = 0; k < tile; k++) sum += left[threadIdx.y][k] * right[k][threadIdx.x];
        __syncthreads();
    }
    if (row < s.rows && column < s.columns) c[(batch * s.rows + row) * s.columns + column] = T(sum);
}

// Four neighbouring terms of a row or a column, `apart` from one to the next, as one word; zeros from `count` on.
INLINE int32 four_terms(const int8* x, int64 apart, int64 count) {
    uint32 word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < count) word |= uint32(uint8(x[i * apart])) << (8 * i);
    return int32(word);
}

// int8 a (batches, rows, depth), b (batches, depth, columns) -> int32 c (batches, rows, columns): a block of 256 threads
// makes 64 x 64 sums, each thread 4 x 4, by the instruction that adds four products of bytes (dp4a).
extern "C" __global__ void __launch_bounds__(256) matmul_int8_int32(const int8* a, const int8* b, int32* c, const __grid_constant__ Sizes s) {
    constexpr int side = 64, words = 8; // terms come in steps of 32
    __shared__ int32 left[side * (words + 1)], right[side * (words + 1)];
    const int64 across = (s.columns + side - 1) / side, down = (s.rows + side - 1) / side;
    const int64 batch = blockIdx.x / (across * down), rest = blockIdx.x % (across * down);
    const int64 first_row = rest / across * side, first_column = rest % across * side;
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    a += batch * s.a_stride;
    b += batch * s.b_stride;
    int32 sum[4][4] = {};
    for (int64 begin = 0; begin < s.depth; begin += 4 * words) {
#pragma unroll
        for (int e = threadIdx.x; e < side * words; e += 256) {
            const int64 row = first_row + e / words, at = begin + e % words * 4;
            left[e / words * (words + 1) + e % words] = row < s.rows ? four_terms(a + row * s.depth + at, 1, s.depth - at) : 0;
            const int64 column = first_column + e % side, under = begin + e / side * 4;
            right[e % side * (words + 1) + e / side] =
                column < s.columns ? four_terms(b + under * s.columns + column, s.columns, s.depth - under) : 0;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < words; k++) {
            int32 x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] = left[(ty + 16 * i) * (words + 1) + k];
                y[i] = right[(tx + 16 * i) * (words + 1) + k];
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = __dp4a(x[i], y[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64 row = first_row + ty + 16 * i, column = first_column + tx + 16 * j;
            if (row < s.rows && column < s.columns) c[(batch * s.rows + row) * s.columns + column] = sum[i][j];
        }
}
