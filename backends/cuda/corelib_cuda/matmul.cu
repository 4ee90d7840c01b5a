// Products of integer matrices, which cuBLAS does not offer with wrapping arithmetic in every width. Floating matrices go to
// cuBLAS. contract.py appends the entry points.
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
