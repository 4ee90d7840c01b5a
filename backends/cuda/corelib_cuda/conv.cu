// Convolution and its two gradients as products of matrices that are never formed (implicit GEMM): the elements of the
// windows are fetched into shared memory as they are needed. conv.py appends the entry points.
//
// T is the dtype of the arrays, A that of the sums (float32 for float16 and bfloat16). A block of 256 threads makes a
// tile of 64 x 64 results of one group: by `plain` arithmetic, or for 16-bit dtypes by the tensor cores.
#include "common.cuh"
#include "mma.cuh"

constexpr int tile = 64, threads = 256;

// Division by a number known before the launch (Granlund and Montgomery, PLDI 1994), for dividends below 2^31.
struct Divider {
    uint32 size, multiplier, shift, unused;
    INLINE uint32 divide(uint32 n, uint32& rest) const {
        const uint32 quotient = (__umulhi(n, multiplier) + n) >> shift;
        rest = n - quotient * size;
        return quotient;
    }
};

// Three spatial axes (fewer are continued by axes of one element), last one innermost. A window's element t of window c
// is at c * step + t * reach + offset of the source, where that is in it.
struct Case {
    Divider count[3], tap[3];                // windows along each axis, elements of a window
    int64 size[3], step[3], reach[3], offset[3]; // of the source
    int64 groups, rows, channels, examples;  // results and source channels of a group
    int64 columns, depth;                    // examples x windows, and channels x taps; the weight's gradient swaps them
    int64 parts, part;                       // `depth` is summed in so many parts of so many terms, a multiple of 32
    int64 weight[6];                         // strides: group, row, channel, the three axes
    int64 weight_first;                      // the first tap's place
    int64 out[4], out_first;                 // strides: channel, the three axes; the first window's place
    int64 out_size;                          // elements of a channel of the result
};

INLINE int64 volume(const Case& c) { return c.size[0] * c.size[1] * c.size[2]; }

// A place in three axes and which channel or example it belongs to.
struct Place {
    int32 index, at[3];
    bool inside;
};
INLINE Place place(uint32 i, const Divider (&axes)[3], bool inside) {
    Place p;
    uint32 rest[3];
    i = axes[2].divide(i, rest[2]);
    i = axes[1].divide(i, rest[1]);
    i = axes[0].divide(i, rest[0]);
    p.index = int32(i);
    for (int a = 0; a < 3; a++) p.at[a] = int32(rest[a]);
    p.inside = inside;
    return p;
}
// The offset in a channel of the source of a window's element, or -1.
INLINE int64 source(const Place& window, const Place& tap, const Case& c) {
    int64 at = 0;
    bool inside = window.inside && tap.inside;
#pragma unroll
    for (int a = 0; a < 3; a++) {
        const int64 p = window.at[a] * c.step[a] + tap.at[a] * c.reach[a] + c.offset[a];
        inside = inside && p >= 0 && p < c.size[a];
        at = at * c.size[a] + p;
    }
    return inside ? at : -1;
}

// What `product` multiplies: left (rows, depth) by right (depth, columns). For a term of the depth and for a column,
// what their numbers mean is found once and used for several elements.

// The windows of x by the weight: rows are channels of the result, columns (example, window), terms (channel, tap).
// As `reach`, `step` and the weight's strides say, this is the convolution or a part of its transpose, in which what is
// outside of x is no term at all (`skips`), and not one with a zero.
template <class T, bool transposed> struct Windows {
    static constexpr bool along_columns = true, skips = transposed; // neighbours in memory are columns
    const T *weight, *x, *bias;
    T* y;
    const Case& c;
    int64 group;
    INLINE Place term(int64 d, int64 end) const { return place(uint32(d), c.tap, d < end); }
    INLINE Place column(int64 i) const { return place(uint32(i), c.count, i < c.columns); }
    INLINE T left(int64 row, const Place& t) const {
        if (row >= c.rows || !t.inside) return T{};
        return weight[c.weight_first + group * c.weight[0] + row * c.weight[1] + t.index * c.weight[2] + t.at[0] * c.weight[3] +
                      t.at[1] * c.weight[4] + t.at[2] * c.weight[5]];
    }
    INLINE T right(const Place& t, const Place& column) const {
        const int64 at = source(column, t, c);
        return at < 0 ? T{} : x[((column.index * c.groups + group) * c.channels + t.index) * volume(c) + at];
    }
    template <class A> INLINE void store(int64 row, int64 i, A sum, int64) const {
        if (row >= c.rows || i >= c.columns) return;
        const Place p = column(i);
        const int64 channel = group * c.rows + row;
        if (bias) sum += cast<A>(bias[channel]);
        y[(p.index * c.groups * c.rows + channel) * c.out_size + c.out_first + p.at[0] * c.out[1] + p.at[1] * c.out[2] +
          p.at[2] * c.out[3]] = cast<T>(sum);
    }
};

// The weight's gradient: rows are channels of the cotangent, columns (channel of x, tap), terms (example, window).
template <class T, class Sum> struct Taps {
    static constexpr bool along_columns = false, skips = false; // neighbours in memory are terms
    const T *g, *x;
    Sum* y; // (parts, groups, rows, columns)
    const Case& c;
    int64 group;
    INLINE Place term(int64 d, int64 end) const { return place(uint32(d), c.count, d < end); }
    INLINE Place column(int64 i) const { return place(uint32(i), c.tap, i < c.columns); }
    INLINE T left(int64 row, const Place& t) const {
        if (row >= c.rows || !t.inside) return T{};
        const int64 at = (int64(t.at[0]) * c.count[1].size + t.at[1]) * c.count[2].size + t.at[2];
        return g[((t.index * c.groups + group) * c.rows + row) * c.out_size + at];
    }
    INLINE T right(const Place& t, const Place& column) const {
        const int64 at = source(t, column, c);
        return at < 0 ? T{} : x[((t.index * c.groups + group) * c.channels + column.index) * volume(c) + at];
    }
    template <class A> INLINE void store(int64 row, int64 i, A sum, int64 part) const {
        if (row < c.rows && i < c.columns) y[((part * c.groups + group) * c.rows + row) * c.columns + i] = cast<Sum>(sum);
    }
};

// ---------------------------------------------------------------------------------------------- a tile of the product

struct Tile {
    int64 group, row, column, begin, end, part;
};
INLINE Tile tile_of_block(const Case& c) {
    const int64 across = (c.columns + tile - 1) / tile, down = (c.rows + tile - 1) / tile;
    int64 i = blockIdx.x;
    Tile t;
    t.column = i % across * tile;
    i /= across;
    t.row = i % down * tile;
    i /= down;
    t.part = i % c.parts;
    t.group = i / c.parts;
    t.begin = t.part * c.part;
    t.end = t.begin + c.part < c.depth ? t.begin + c.part : c.depth;
    return t;
}

// Bring `depth` terms of a tile from `begin` on to shared memory, by keep_left(row, term, value) and keep_right.
template <int depth, class P, class KeepLeft, class KeepRight>
INLINE void fetch(const P& p, const Tile& t, int64 begin, KeepLeft keep_left, KeepRight keep_right) {
    constexpr int apart = threads / depth; // rows between two of a thread
    const int d = threadIdx.x % depth;
    const Place term = p.term(begin + d, t.end);
#pragma unroll
    for (int r = threadIdx.x / depth; r < tile; r += apart) keep_left(r, d, p.left(t.row + r, term));
    if constexpr (P::along_columns) {
        const int i = threadIdx.x % tile;
        const Place column = p.column(t.column + i);
#pragma unroll
        for (int e = threadIdx.x / tile; e < depth; e += threads / tile)
            keep_right(e, i, p.right(p.term(begin + e, t.end), column));
    } else {
#pragma unroll
        for (int i = threadIdx.x / depth; i < tile; i += apart) keep_right(d, i, p.right(term, p.column(t.column + i)));
    }
}

template <class A> INLINE bool is_finite(A x) { return x - x == A(0); }

// A result's next terms where a factor is not finite: those outside of the source, which are zero, are left out.
template <int depth, class A, class P, class Term>
INLINE void add_inside(A& sum, const P& p, const Tile& t, int64 begin, int64 i, Term term) {
    const Place column = p.column(i);
#pragma unroll 1
    for (int d = 0; d < depth; d++)
        if (source(column, p.term(begin + d, t.end), p.c) >= 0) sum += term(d);
}

// Each thread sums 4 x 4 results.
template <class A, class P> INLINE void plain(const P& p, const Tile& t) {
    constexpr int depth = 16, row = tile + 4;
    __shared__ Lines<A, depth * row> left, right;
    __shared__ bool odd; // whether a factor on the left was not finite
    const int across = threadIdx.x % 16 * 4, down = threadIdx.x / 16 * 4;
    A sum[4][4] = {};
    if constexpr (P::skips) {
        if (threadIdx.x == 0) odd = false;
        __syncthreads();
    }
    for (int64 begin = t.begin; begin < t.end; begin += depth) {
        fetch<depth>(
            p, t, begin,
            [](int r, int d, auto value) {
                const A x = left.at[d * row + r] = cast<A>(value);
                if (P::skips && !is_finite(x)) odd = true;
            },
            [](int d, int i, auto value) { right.at[d * row + i] = cast<A>(value); });
        __syncthreads();
        if (P::skips && odd) {
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    add_inside<depth>(sum[i][j], p, t, begin, t.column + across + j, [=](int d) {
                        return left.at[d * row + down + i] * right.at[d * row + across + j];
                    });
        } else {
#pragma unroll
            for (int d = 0; d < depth; d++) {
                const Packet<A, 4> x = *reinterpret_cast<const Packet<A, 4>*>(left.at + d * row + down);
                const Packet<A, 4> y = *reinterpret_cast<const Packet<A, 4>*>(right.at + d * row + across);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[i][j] += x.at[i] * y.at[j];
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) p.store(t.row + down + i, t.column + across + j, sum[i][j], t.part);
}

// Each of 8 warps sums 32 x 16 results by the tensor cores. Both factors lie with their terms side by side; rows of 40
// elements are 20 words, so that the 32 words of a warp's access lie in different banks.
template <class T, class P> INLINE void by_tensor_cores(const P& p, const Tile& t) {
    constexpr int depth = 32, row = depth + 8;
    __shared__ Lines<T, tile * row> left, right;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, pair = threadIdx.x % 4 * 2;
    const int down = warp % 2 * 32, across = warp / 2 * 16;
    __shared__ bool odd;
    float sum[2][2][4] = {};
    if constexpr (P::skips) {
        if (threadIdx.x == 0) odd = false;
        __syncthreads();
    }
    for (int64 begin = t.begin; begin < t.end; begin += depth) {
        fetch<depth>(
            p, t, begin,
            [](int r, int d, T value) {
                left.at[r * row + d] = value;
                if (P::skips && !is_finite(widened(value))) odd = true;
            },
            [](int d, int i, T value) { right.at[i * row + d] = value; });
        __syncthreads();
        if (P::skips && odd) {
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 2; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int r = down + 16 * i + g + e / 2 * 8, column = across + 8 * j + pair + e % 2;
                        add_inside<depth>(sum[i][j][e], p, t, begin, t.column + column, [=](int d) {
                            return widened(left.at[r * row + d]) * widened(right.at[column * row + d]);
                        });
                    }
        } else {
#pragma unroll
            for (int d = 0; d < depth; d += 16) {
                uint32 a[2][4], b[2][2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const uint32* x = reinterpret_cast<const uint32*>(left.at + (down + 16 * i + g) * row + d + pair);
                    const uint32* y = reinterpret_cast<const uint32*>(right.at + (across + 8 * i + g) * row + d + pair);
                    a[i][0] = x[0], a[i][1] = x[4 * row], a[i][2] = x[4], a[i][3] = x[4 * row + 4];
                    b[i][0] = y[0], b[i][1] = y[4];
                }
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 2; j++) multiply_add<T>(sum[i][j], a[i], b[j]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                p.store(t.row + down + 16 * i + g + e / 2 * 8, t.column + across + 8 * j + pair + e % 2, sum[i][j][e], t.part);
}

template <class T, class A, bool tensor, class P> INLINE void product(const P& p, const Tile& t) {
    if constexpr (tensor) by_tensor_cores<T>(p, t);
    else plain<A>(p, t);
}

// y (examples, groups rows, ..) of x (examples, groups channels, ..): every window, or every one of a class.
template <class T, class A, bool tensor, bool transposed>
INLINE void convolve(const T* weight, const T* x, const T* bias, T* y, int32 has_bias, const Case& c) {
    const Tile t = tile_of_block(c);
    product<T, A, tensor>(Windows<T, transposed>{weight, x, has_bias ? bias : nullptr, y, c, t.group}, t);
}

// y (parts, groups rows, channels, taps): the parts of the weight's gradient.
template <class T, class A, bool tensor> INLINE void weight_gradient(const T* x, const T* g, A* y, const Case& c) {
    const Tile t = tile_of_block(c);
    product<T, A, tensor>(Taps<T, A>{g, x, y, c, t.group}, t);
}
