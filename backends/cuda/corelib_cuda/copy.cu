// Copies between any two layouts of one shape; copy.py appends the entry points. Elements move as words of up to 16 bytes:
// their own size, or more where neighbours stay neighbours. Strides are in words; of a layout's operands x is 0, y is 1.
#include "common.cuh"
#include "layout.cuh"

// n words of x to their places in y.
template <class W, class Index>
INLINE void strided(const W* x, W* y, Index n, const Layout<Index, 2>& layout) {
    typedef typename OffsetOf<Index>::type Offset;
    const Index threads = Index(gridDim.x) * blockDim.x;
    const int last = int(layout.ndim) - 1;
    for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += threads) {
        Index rest = i, from = 0, to = 0;
        for (int d = 0; d < last; d++) {
            const Index quotient = rest / layout.size[d], position = rest - quotient * layout.size[d];
            rest = quotient;
            from += position * layout.stride[0][d];
            to += position * layout.stride[1][d];
        }
        from += rest * layout.stride[0][last];
        to += rest * layout.stride[1][last];
        y[Offset(to)] = x[Offset(from)];
    }
}

// Dimension 0 holds neighbours of y, dimension 1 neighbours of x: squares pass through shared memory, so that both are
// read and written in runs. A block of 32 x 8 threads for each square; its rows are longer by a word of 4 bytes at
// least, so that a column lies in different banks.
template <class W> INLINE void transposed(const W* x, W* y, const Layout<uint64, 2>& layout) {
    constexpr int side = sizeof(W) > 2 ? 32 : 64, row = side + (sizeof(W) < 4 ? 4 / int(sizeof(W)) : 1);
    __shared__ W tile[side * row];
    const int64 size0 = int64(layout.size[0]), size1 = int64(layout.size[1]);
    const int64 across = (size0 + side - 1) / side, down = (size1 + side - 1) / side;
    const int64 first0 = blockIdx.x % across * side, first1 = blockIdx.x / across % down * side;
    const int height = int(size0 - first0 < side ? size0 - first0 : side);
    const int width = int(size1 - first1 < side ? size1 - first1 : side);
    int64 rest = blockIdx.x / across / down;
    x += first0 * int64(layout.stride[0][0]) + first1;
    y += first0 + first1 * int64(layout.stride[1][1]);
    for (int d = 2; d < int(layout.ndim); d++) {
        const int64 position = rest % int64(layout.size[d]);
        rest /= int64(layout.size[d]);
        x += position * int64(layout.stride[0][d]);
        y += position * int64(layout.stride[1][d]);
    }
#pragma unroll
    for (int i = 0; i < side; i += 8) // constant bounds: all loads are in flight at once
#pragma unroll
        for (int j = 0; j < side; j += 32) {
            const int from = i + int(threadIdx.y), at = j + int(threadIdx.x);
            if (from < height && at < width) tile[from * row + at] = x[from * int64(layout.stride[0][0]) + at];
        }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < side; j += 8)
#pragma unroll
        for (int i = 0; i < side; i += 32) {
            const int to = j + int(threadIdx.y), at = i + int(threadIdx.x);
            if (to < width && at < height) y[to * int64(layout.stride[1][1]) + at] = tile[at * row + to];
        }
}
