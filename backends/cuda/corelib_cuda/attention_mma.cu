// Attention and its gradient by tensor cores, for float16 and bfloat16: as in attention.cu, of whose names these make use,
// with sums in float32. attention.py appends the entry points.
//
// T is the dtype; up to D features (64 or 128), a multiple of 8, with rows at multiples of 16 bytes. A block of 4 warps has
// 64 rows of results, a warp 16 of them. With g = lane / 4 and t = lane % 4, a lane holds of a 16 x 8 piece of scores or
// results rows g and g + 8 at columns 2 t and 2 t + 1 (mma.cuh). Exponentials are of base 2, and so is `log_sum`.
#include "attention.cu"
#include "mma.cuh"

constexpr int warps = 4, height = 16 * warps;
constexpr float log2_of_e = 1.44269504f;

template <int D> constexpr int line_of = D + 8; // elements; an odd number of 16 bytes: eight rows lie in different banks

INLINE int lane() { return threadIdx.x % 32; }
INLINE int warp_row() { return threadIdx.x / 32 * 16; }

// `rows` rows of x from `first` on to shared memory; zeros for what is not there. They are under way after this.
template <int rows, int D, class T>
INLINE void bring_rows(T* tile, const T* x, int64 stride, int64 first, int64 count, int64 features) {
#pragma unroll
    for (int e = threadIdx.x; e < rows * D / 8; e += 32 * warps) {
        const int r = e / (D / 8), f = e % (D / 8) * 8;
        const bool inside = first + r < count && f < features;
        bring(tile + r * line_of<D> + f, inside ? x + (first + r) * stride + f : x, inside);
    }
}

// The 16 x 16 piece of a warp's rows in a tile, at features 16 k and on.
template <int D, class T> INLINE void piece(uint32 (&a)[4], const T* tile, int k) {
    load_matrices<false>(a, tile + (warp_row() + lane() % 16) * line_of<D> + 16 * k + lane() / 16 * 8);
}

// s = the warp's rows, brought by rows(a, k) in pieces, times each of the N rows of a tile.
template <int D, int N, class T, class Rows> INLINE void row_products(float (&s)[N / 8][4], Rows rows, const T* tile) {
    const int m = lane() / 8;
#pragma unroll
    for (int j = 0; j < N / 8; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32 a[4];
        rows(a, k);
#pragma unroll
        for (int j = 0; j < N / 8; j += 2) {
            uint32 b[4];
            load_matrices<false>(b, tile + (8 * j + m / 2 * 8 + lane() % 8) * line_of<D> + 16 * k + m % 2 * 8);
            multiply_add<T>(s[j], a, {b[0], b[1]});
            multiply_add<T>(s[j + 1], a, {b[2], b[3]});
        }
    }
}

// out += s, the warp's 16 x N scores, times the N rows of a tile.
template <int D, int N, class T> INLINE void add_products(float (&out)[D / 8][4], const float (&s)[N / 8][4], const T* tile) {
    const int m = lane() / 8;
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        const uint32 a[4] = {packed<T>(s[2 * k][0], s[2 * k][1]), packed<T>(s[2 * k][2], s[2 * k][3]),
                             packed<T>(s[2 * k + 1][0], s[2 * k + 1][1]), packed<T>(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
            uint32 b[4];
            load_matrices<true>(b, tile + (16 * k + m % 2 * 8 + lane() % 8) * line_of<D> + 8 * c + m / 2 * 8);
            multiply_add<T>(out[c], a, {b[0], b[1]});
            multiply_add<T>(out[c + 1], a, {b[2], b[3]});
        }
    }
}

// Scores times the logarithm's factor, with scale and mask; `turned`, rows are keys and columns queries.
template <int N, bool turned, class T>
INLINE void mask_scores(float (&s)[N / 8][4], int64 row, int64 column, const T* mask, const Problem& p) {
    const int64 query = turned ? column : row, key = turned ? row : column; // the first ones; those of all lanes follow
    const int64 last_key = key + (turned ? 16 : N), last_query = query + (turned ? N : 16);
    const bool all = !p.mask_kind && last_key <= p.keys && last_query <= p.queries && (!p.causal || last_key - 1 <= query);
    if (all) {
#pragma unroll
        for (int j = 0; j < N / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[j][e] *= float(p.scale) * log2_of_e;
        return;
    }
#pragma unroll
    for (int j = 0; j < N / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int64 r = row + lane() / 4 + e / 2 * 8, c = column + 8 * j + lane() % 4 * 2 + e % 2;
            s[j][e] = log2_of_e * (turned ? masked(s[j][e], c, r, mask, p) : masked(s[j][e], r, c, mask, p));
        }
}

// Over the four lanes of a row.
INLINE float lanes_maximum(float x) {
    float other = shuffle_xor(x, 1);
    x = x < other ? other : x;
    other = shuffle_xor(x, 2);
    return x < other ? other : x;
}
INLINE float lanes_sum(float x) {
    x += shuffle_xor(x, 1);
    return x + shuffle_xor(x, 2);
}

// A warp's 16 rows of results times a factor, from row `first` of a matrix with `columns` columns on.
template <int D, class T>
INLINE void write_rows(T* y, const float (&out)[D / 8][4], int64 first, int64 count, int64 columns, float low, float high) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64 row = first + lane() / 4 + 8 * h;
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            const int64 column = 8 * c + lane() % 4 * 2;
            if (row < count && column < columns)
                *reinterpret_cast<uint32*>(y + row * columns + column) =
                    packed<T>(out[c][2 * h] * (h ? high : low), out[c][2 * h + 1] * (h ? high : low));
        }
    }
}

template <class T, int D, bool gradient>
INLINE void attention_mma(const T* q, const T* k, const T* v, const T* mask, const T* g, T* out, float* log_sum, float* mean, const Problem& p) {
    constexpr int N = 64; // keys at a time
    __shared__ Lines<T, N * line_of<D>> keys, values;
    const int64 tiles = (p.queries + height - 1) / height, matrix = blockIdx.x / tiles;
    const int64 first = (tiles - 1 - blockIdx.x % tiles) * height; // with `causal` the last tiles take longest: they come first
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    uint32 own[D / 16][4]; // the warp's queries
    bring_rows<height, D>(keys.at, q, p.row[of_q], first, p.queries, p.features);
    arrived();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < D / 16; i++) piece<D>(own[i], keys.at, i);
    __syncthreads();
    float o[D / 8][4] = {}, largest[2] = {minus_infinity<float>(), minus_infinity<float>()}, total[2] = {};
    const int64 last = p.causal && first + height < p.keys ? first + height : p.keys;
    bring_rows<N, D>(keys.at, k, p.row[of_k], 0, p.keys, p.features);
    for (int64 begin = 0; begin < last; begin += N) {
        arrived();
        __syncthreads(); // the keys are there, and the values before have been used
        bring_rows<N, D>(values.at, v, p.row[of_v], begin, p.keys, p.values);
        float s[N / 8][4];
        row_products<D, N>(s, [&](uint32 (&a)[4], int i) { for (int e = 0; e < 4; e++) a[e] = own[i][e]; }, keys.at);
        arrived();
        __syncthreads(); // the values are there, and the keys have been used
        if (begin + N < last) bring_rows<N, D>(keys.at, k, p.row[of_k], begin + N, p.keys, p.features);
        mask_scores<N, false>(s, first + warp_row(), begin, mask, p);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = largest[h];
#pragma unroll
            for (int j = 0; j < N / 8; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) top = top < s[j][e] ? s[j][e] : top;
            top = lanes_maximum(top);
            const float shift = top == minus_infinity<float>() ? 0.0f : top, factor = exp2f(largest[h] - shift);
            largest[h] = top;
            total[h] *= factor; // of this lane's columns alone: the lanes' sums are added at the end
#pragma unroll
            for (int j = 0; j < N / 8; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) total[h] += s[j][e] = exp2f(s[j][e] - shift);
#pragma unroll
            for (int c = 0; c < D / 8; c++) o[c][2 * h] *= factor, o[c][2 * h + 1] *= factor;
        }
        add_products<D, N>(o, s, values.at);
    }
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        total[h] = lanes_sum(total[h]);
        inverse[h] = total[h] == 0 ? 0.0f : 1 / total[h];
    }
    if constexpr (!gradient) {
        write_rows<D>(out + matrix * p.queries * p.values, o, first + warp_row(), p.queries, p.values, inverse[0], inverse[1]);
    } else {
        g += offset(p, of_g, matrix);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int64 row = first + warp_row() + lane() / 4 + 8 * h;
            float dot = 0;
#pragma unroll
            for (int c = 0; c < D / 8; c++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int64 column = 8 * c + lane() % 4 * 2 + e;
                    if (row < p.queries && column < p.values)
                        dot += o[c][2 * h + e] * inverse[h] * widened(g[row * p.row[of_g] + column]);
                }
            dot = lanes_sum(dot);
            if (lane() % 4 == 0 && row < p.queries) {
                mean[matrix * p.queries + row] = dot;
                log_sum[matrix * p.queries + row] = total[h] == 0 ? infinity(0.0f) : largest[h] + log2f(total[h]);
            }
        }
    }
}

// q_out: as query_gradient in attention.cu.
template <class T, int D>
INLINE void query_gradient_mma(const T* q, const T* k, const T* v, const T* mask, const T* g, const float* log_sum, const float* mean, T* q_out,
                               const Problem& p) {
    constexpr int N = 32;
    __shared__ Lines<T, height * line_of<D>> own; // the queries, then the keys and the values of a step
    T *keys = own.at, *values = own.at + N * line_of<D>;
    const int64 tiles = (p.queries + height - 1) / height, matrix = blockIdx.x / tiles;
    const int64 first = (tiles - 1 - blockIdx.x % tiles) * height;
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    g += offset(p, of_g, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    uint32 a[D / 16][4], b[D / 16][4]; // the warp's queries and cotangents
    bring_rows<height, D>(own.at, q, p.row[of_q], first, p.queries, p.features);
    arrived();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < D / 16; i++) piece<D>(a[i], own.at, i);
    __syncthreads();
    bring_rows<height, D>(own.at, g, p.row[of_g], first, p.queries, p.values);
    arrived();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < D / 16; i++) piece<D>(b[i], own.at, i);
    float shift[2], middle[2], out[D / 8][4] = {};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64 row = first + warp_row() + lane() / 4 + 8 * h;
        shift[h] = row < p.queries ? log_sum[matrix * p.queries + row] : infinity(0.0f);
        middle[h] = row < p.queries ? mean[matrix * p.queries + row] : 0.0f;
    }
    const int64 last = p.causal && first + height < p.keys ? first + height : p.keys;
    for (int64 begin = 0; begin < last; begin += N) {
        __syncthreads(); // what was here has been used
        bring_rows<N, D>(keys, k, p.row[of_k], begin, p.keys, p.features);
        bring_rows<N, D>(values, v, p.row[of_v], begin, p.keys, p.values);
        arrived();
        __syncthreads();
        float s[N / 8][4], d[N / 8][4];
        row_products<D, N>(s, [&](uint32 (&x)[4], int i) { for (int e = 0; e < 4; e++) x[e] = a[i][e]; }, keys);
        row_products<D, N>(d, [&](uint32 (&x)[4], int i) { for (int e = 0; e < 4; e++) x[e] = b[i][e]; }, values);
        mask_scores<N, false>(s, first + warp_row(), begin, mask, p);
#pragma unroll
        for (int j = 0; j < N / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[j][e] = exp2f(s[j][e] - shift[e / 2]) * (d[j][e] - middle[e / 2]);
        add_products<D, N>(out, s, keys);
    }
    const float scale = float(p.scale);
    write_rows<D>(q_out + matrix * p.queries * p.features, out, first + warp_row(), p.queries, p.features, scale, scale);
}

// k_out and v_out: as key_gradient in attention.cu. The keys and values stay in shared memory, N queries at a time come by.
template <class T, int D>
INLINE void key_gradient_mma(const T* q, const T* k, const T* v, const T* mask, const T* g, const float* log_sum, const float* mean, T* k_out,
                             T* v_out, const Problem& p) {
    constexpr int N = D > 64 ? 16 : 32;
    __shared__ Lines<T, height * line_of<D>> keys, values;
    __shared__ Lines<T, N * line_of<D>> queries, cotangents;
    const int64 tiles = (p.keys + height - 1) / height, matrix = blockIdx.x / tiles, first = blockIdx.x % tiles * height;
    q += offset(p, of_q, matrix);
    k += offset(p, of_k, matrix);
    v += offset(p, of_v, matrix);
    g += offset(p, of_g, matrix);
    if (p.mask_kind) mask = mask_of(mask, p, matrix);
    log_sum += matrix * p.queries;
    mean += matrix * p.queries;
    bring_rows<height, D>(keys.at, k, p.row[of_k], first, p.keys, p.features);
    bring_rows<height, D>(values.at, v, p.row[of_v], first, p.keys, p.values);
    float of_key[D / 8][4] = {}, of_value[D / 8][4] = {};
    for (int64 begin = p.causal ? first : 0; begin < p.queries; begin += N) {
        __syncthreads(); // what was here has been used
        bring_rows<N, D>(queries.at, q, p.row[of_q], begin, p.queries, p.features);
        bring_rows<N, D>(cotangents.at, g, p.row[of_g], begin, p.queries, p.values);
        arrived();
        __syncthreads();
        float s[N / 8][4], d[N / 8][4]; // rows are keys, columns queries
        row_products<D, N>(s, [&](uint32 (&x)[4], int i) { piece<D>(x, keys.at, i); }, queries.at);
        row_products<D, N>(d, [&](uint32 (&x)[4], int i) { piece<D>(x, values.at, i); }, cotangents.at);
        mask_scores<N, true>(s, first + warp_row(), begin, mask, p);
#pragma unroll
        for (int j = 0; j < N / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int64 query = begin + 8 * j + lane() % 4 * 2 + e % 2;
                const float shift = query < p.queries ? log_sum[query] : infinity(0.0f);
                s[j][e] = exp2f(s[j][e] - shift);
                d[j][e] = s[j][e] * (d[j][e] - (query < p.queries ? mean[query] : 0.0f));
            }
        add_products<D, N>(of_value, s, cotangents.at);
        add_products<D, N>(of_key, d, queries.at);
    }
    arrived(); // where there was no query to look at them
    const float scale = float(p.scale);
    write_rows<D>(k_out + matrix * p.keys * p.features, of_key, first + warp_row(), p.keys, p.features, scale, scale);
    write_rows<D>(v_out + matrix * p.keys * p.values, of_value, first + warp_row(), p.keys, p.values, 1.0f, 1.0f);
}
