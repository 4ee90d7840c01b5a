// Scaled dot-product attention and its gradient in memory linear in the lengths, as FlashAttention-2 does it (Dao,
// arXiv:2307.08691): scores come in tiles, a row's softmax is corrected as tiles come in, and the gradient computes its
// probabilities again. attention.py appends the entry points. attention_mma.cu does the same by tensor cores.
//
// T is the dtype of the arrays, A that of the arithmetic (float32 for float16 and bfloat16). A block of 16 x 16 threads
// makes a tile of `R 16` rows by `R 16` columns of scores: the thread (ty, tx) has the rows ty + 16 i and the columns
// tx + 16 j, so the 16 threads of a row are half a warp. Results have up to 16 C columns.
#include "common.cuh"

constexpr int side = 16, depth = 32; // of a block; features or rows that are in shared memory at a time
constexpr int max_batch = 6;

enum Operand { of_q, of_k, of_v, of_g, of_mask, operands }; // g: the cotangent of the result

struct Problem {
    int64 queries, keys, features, values; // q (queries, features), k (keys, features), v (keys, values)
    int64 row[operands], mask_column;      // strides in elements, from row to row; the mask's from key to key
    int64 batch_axes, size[max_batch], stride[operands][max_batch]; // innermost first
    int64 causal, mask_kind;               // 0 none, 1 bool (True: take part), 2 added
    double scale;
};

// Where a matrix of the batch begins.
INLINE int64 offset(const Problem& p, Operand x, int64 matrix) {
    int64 at = 0;
    for (int d = 0; d < p.batch_axes; d++, matrix /= p.size[d - 1]) at += matrix % p.size[d] * p.stride[x][d];
    return at;
}

template <class A> INLINE A minus_infinity() { return -infinity(A(0)); }

// Over the 16 threads of a row.
template <class A> INLINE A row_maximum(A x) {
#pragma unroll
    for (int mask = 8; mask > 0; mask >>= 1) {
        const A other = shuffle_xor(x, mask);
        x = x < other ? other : x;
    }
    return x;
}
template <class A> INLINE A row_sum(A x) {
#pragma unroll
    for (int mask = 8; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}

// Memory that a block's tiles share. Rows are longer by one, so that a column's elements lie in different banks.
template <class A, int R, int C> struct Shared {
    static constexpr int rows = side * R, columns = side * C;
    static constexpr int two = 2 * rows * (depth + 1), one = depth * (columns + 1);
    A operand[two > one ? two : one];
    A score[rows * (rows + 1)];
};

// s[i][j] = the product of row a_first + ty + 16 i of a and row b_first + tx + 16 j of b, `features` long.
template <int R, class T, class A>
INLINE void scores(A (&s)[R][R], const T* a, int64 a_row, int64 a_first, int64 a_rows, const T* b, int64 b_row, int64 b_first,
                   int64 b_rows, int64 features, A* memory) {
    constexpr int rows = side * R;
    A *left = memory, *right = memory + rows * (depth + 1);
    const int thread = threadIdx.y * side + threadIdx.x;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < R; j++) s[i][j] = 0;
    for (int64 first = 0; first < features; first += depth) {
        __syncthreads(); // what was here may still be read
        for (int e = thread; e < rows * depth; e += side * side) {
            const int r = e / depth, f = e % depth;
            const bool inside = first + f < features;
            left[r * (depth + 1) + f] = inside && a_first + r < a_rows ? cast<A>(a[(a_first + r) * a_row + first + f]) : A(0);
            right[r * (depth + 1) + f] = inside && b_first + r < b_rows ? cast<A>(b[(b_first + r) * b_row + first + f]) : A(0);
        }
        __syncthreads();
#pragma unroll 4
        for (int f = 0; f < depth; f++) {
            A x[R], y[R];
#pragma unroll
            for (int i = 0; i < R; i++) {
                x[i] = left[(threadIdx.y + side * i) * (depth + 1) + f];
                y[i] = right[(threadIdx.x + side * i) * (depth + 1) + f];
            }
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int j = 0; j < R; j++) s[i][j] += x[i] * y[j];
        }
    }
}

// out[i][c] += the sum over j of score[ty + 16 i][j] times b[b_first + j][tx + 16 c]. `score` was just written.
template <int R, int C, class T, class A>
INLINE void product(A (&out)[R][C], const A* score, const T* b, int64 b_row, int64 b_first, int64 b_rows, int64 columns, A* memory) {
    constexpr int rows = side * R, width = side * C + 1;
    const int thread = threadIdx.y * side + threadIdx.x;
    for (int begin = 0; begin < rows; begin += depth) {
        __syncthreads();
        for (int e = thread; e < depth * side * C; e += side * side) {
            const int r = e / (side * C), c = e % (side * C);
            const int64 at = b_first + begin + r;
            memory[r * width + c] = at < b_rows && c < columns ? cast<A>(b[at * b_row + c]) : A(0);
        }
        __syncthreads();
#pragma unroll 2
        for (int j = 0; j < depth; j++) {
            A x[R], y[C];
#pragma unroll
            for (int i = 0; i < R; i++) x[i] = score[(threadIdx.y + side * i) * (rows + 1) + begin + j];
#pragma unroll
            for (int c = 0; c < C; c++) y[c] = memory[j * width + threadIdx.x + side * c];
#pragma unroll
            for (int i = 0; i < R; i++)
#pragma unroll
                for (int c = 0; c < C; c++) out[i][c] += x[i] * y[c];
        }
    }
}

// A score of a query and a key with scale and mask; -infinity where the query may not look.
template <class T, class A> INLINE A masked(A s, int64 query, int64 key, const T* mask, const Problem& p) {
    if (query >= p.queries || key >= p.keys || (p.causal && key > query)) return minus_infinity<A>();
    s *= A(p.scale);
    if (p.mask_kind == 0) return s;
    const int64 at = query * p.row[of_mask] + key * p.mask_column;
    if (p.mask_kind == 1) return reinterpret_cast<const bool*>(mask)[at] ? s : minus_infinity<A>();
    return s + cast<A>(mask[at]);
}
// The mask of a matrix: a bool one lies behind a pointer to T, since it takes the place of an added one.
template <class T> INLINE const T* mask_of(const T* mask, const Problem& p, int64 matrix) {
    const int64 at = offset(p, of_mask, matrix);
    return p.mask_kind == 1 ? reinterpret_cast<const T*>(reinterpret_cast<const bool*>(mask) + at) : mask + at;
}

template <int R, class A> INLINE void keep(A* score, const A (&s)[R][R]) {
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < R; j++)
            score[(threadIdx.y + side * i) * (side * R + 1) + threadIdx.x + side * j] = s[i][j];
}

// One block for each tile of queries. out (.., queries, values), dense; or, for the gradient, where `gradient` is set:
// `log_sum` (.., queries), the logarithm of the sum of the exponentials (infinity of a row masked altogether: its
// probabilities are 0 then), and `mean` (.., queries), the mean of the cotangents of the probabilities, which is the
// product of the result and its cotangent.
template <class T, class A, int R, int C, bool gradient>
INLINE void attention(const T* q, const T* k, const T* v, const T* mask, const T* g, T* out, A* log_sum, A* mean, const Problem& p) {
    __shared__ Shared<A, R, C> shared;
    constexpr int rows = side * R;
    const int64 tiles = (p.queries + rows - 1) / rows, matrix = blockIdx.x / tiles;
    const int64 first = (tiles - 1 - blockIdx.x % tiles) * rows; // with `causal` the last tiles take longest: they come first
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    A o[R][C], largest[R], total[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        largest[i] = minus_infinity<A>();
        total[i] = 0;
#pragma unroll
        for (int c = 0; c < C; c++) o[i][c] = 0;
    }
    const int64 last = p.causal && first + rows < p.keys ? first + rows : p.keys;
    for (int64 begin = 0; begin < last; begin += rows) {
        A s[R][R];
        scores(s, q, p.row[of_q], first, p.queries, k, p.row[of_k], begin, p.keys, p.features, shared.operand);
#pragma unroll
        for (int i = 0; i < R; i++) {
            A top = largest[i];
#pragma unroll
            for (int j = 0; j < R; j++) {
                s[i][j] = masked(s[i][j], first + threadIdx.y + side * i, begin + threadIdx.x + side * j, mask, p);
                top = top < s[i][j] ? s[i][j] : top;
            }
            top = row_maximum(top);
            const A shift = top == minus_infinity<A>() ? A(0) : top, factor = exp(largest[i] - shift);
            largest[i] = top;
            A sum = 0;
#pragma unroll
            for (int j = 0; j < R; j++) sum += s[i][j] = exp(s[i][j] - shift);
            total[i] = total[i] * factor + row_sum(sum);
#pragma unroll
            for (int c = 0; c < C; c++) o[i][c] *= factor;
        }
        keep(shared.score, s); // the last tile's were read before the barriers in scores()
        product<R, C>(o, shared.score, v, p.row[of_v], begin, p.keys, p.values, shared.operand);
    }
    if (gradient) g += offset(p, of_g, matrix);
#pragma unroll
    for (int i = 0; i < R; i++) {
        const int64 query = first + threadIdx.y + side * i;
        A dot = 0;
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int64 column = threadIdx.x + side * c;
            const bool inside = query < p.queries && column < p.values;
            const A value = total[i] == 0 ? A(0) : o[i][c] / total[i];
            if (gradient) dot += inside ? value * cast<A>(g[query * p.row[of_g] + column]) : A(0);
            else if (inside) out[(matrix * p.queries + query) * p.values + column] = cast<T>(value);
        }
        if (gradient) {
            dot = row_sum(dot);
            if (threadIdx.x == 0 && query < p.queries) {
                mean[matrix * p.queries + query] = dot;
                log_sum[matrix * p.queries + query] = total[i] == 0 ? infinity(A(0)) : largest[i] + log(total[i]);
            }
        }
    }
}

// q_out (.., queries, features), dense: one block for each tile of queries.
template <class T, class A, int R, int C>
INLINE void query_gradient(const T* q, const T* k, const T* v, const T* mask, const T* g, const A* log_sum, const A* mean, T* q_out,
                           const Problem& p) {
    __shared__ Shared<A, R, C> shared;
    constexpr int rows = side * R;
    const int64 tiles = (p.queries + rows - 1) / rows, matrix = blockIdx.x / tiles;
    const int64 first = (tiles - 1 - blockIdx.x % tiles) * rows;
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    g += offset(p, of_g, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    log_sum += matrix * p.queries;
    mean += matrix * p.queries;
    A out[R][C] = {}, shift[R], middle[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        const int64 query = first + threadIdx.y + side * i;
        shift[i] = query < p.queries ? log_sum[query] : infinity(A(0));
        middle[i] = query < p.queries ? mean[query] : A(0);
    }
    const int64 last = p.causal && first + rows < p.keys ? first + rows : p.keys;
    for (int64 begin = 0; begin < last; begin += rows) {
        A s[R][R], d[R][R];
        scores(s, q, p.row[of_q], first, p.queries, k, p.row[of_k], begin, p.keys, p.features, shared.operand);
        scores(d, g, p.row[of_g], first, p.queries, v, p.row[of_v], begin, p.keys, p.values, shared.operand);
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < R; j++) {
                const A x = masked(s[i][j], first + threadIdx.y + side * i, begin + threadIdx.x + side * j, mask, p);
                s[i][j] = exp(x - shift[i]) * (d[i][j] - middle[i]);
            }
        keep(shared.score, s);
        product<R, C>(out, shared.score, k, p.row[of_k], begin, p.keys, p.features, shared.operand);
    }
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int64 query = first + threadIdx.y + side * i, column = threadIdx.x + side * c;
            if (query < p.queries && column < p.features)
                q_out[(matrix * p.queries + query) * p.features + column] = cast<T>(out[i][c] * A(p.scale));
        }
}

// k_out (.., keys, features), v_out (.., keys, values), dense: one block for each tile of keys.
template <class T, class A, int R, int C>
INLINE void key_gradient(const T* q, const T* k, const T* v, const T* mask, const T* g, const A* log_sum, const A* mean, T* k_out,
                         T* v_out, const Problem& p) {
    __shared__ Shared<A, R, C> shared;
    constexpr int rows = side * R;
    const int64 tiles = (p.keys + rows - 1) / rows, matrix = blockIdx.x / tiles, first = blockIdx.x % tiles * rows;
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    g += offset(p, of_g, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    log_sum += matrix * p.queries;
    mean += matrix * p.queries;
    A of_key[R][C] = {}, of_value[R][C] = {};
    for (int64 begin = p.causal ? first : 0; begin < p.queries; begin += rows) {
        A s[R][R], d[R][R]; // rows are keys here, columns queries
        scores(s, k, p.row[of_k], first, p.keys, q, p.row[of_q], begin, p.queries, p.features, shared.operand);
        scores(d, v, p.row[of_v], first, p.keys, g, p.row[of_g], begin, p.queries, p.values, shared.operand);
#pragma unroll
        for (int j = 0; j < R; j++) {
            const int64 query = begin + threadIdx.x + side * j;
            const A shift = query < p.queries ? log_sum[query] : infinity(A(0));
            const A middle = query < p.queries ? mean[query] : A(0);
#pragma unroll
            for (int i = 0; i < R; i++) {
                s[i][j] = exp(masked(s[i][j], query, first + threadIdx.y + side * i, mask, p) - shift);
                d[i][j] = s[i][j] * (d[i][j] - middle);
            }
        }
        keep(shared.score, s);
        product<R, C>(of_value, shared.score, g, p.row[of_g], begin, p.queries, p.values, shared.operand);
        __syncthreads();
        keep(shared.score, d);
        product<R, C>(of_key, shared.score, q, p.row[of_q], begin, p.queries, p.features, shared.operand);
    }
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int c = 0; c < C; c++) {
            const int64 key = first + threadIdx.y + side * i, column = threadIdx.x + side * c;
            if (key < p.keys && column < p.features)
                k_out[(matrix * p.keys + key) * p.features + column] = cast<T>(of_key[i][c] * A(p.scale));
            if (key < p.keys && column < p.values)
                v_out[(matrix * p.keys + key) * p.values + column] = cast<T>(of_value[i][c]);
        }
}
