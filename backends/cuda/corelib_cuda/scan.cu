// Scans: every element becomes what a reducer (reducers.cuh) has accumulated up to it, itself included. scan.py appends
// the entry points.
//
// An array is seen as outer x length x inner, dense, scanned along `length`. `rows` serves inner == 1, a block for each
// chunk of a row; `columns` the rest, a thread for each chunk of a column. Where there are too few of them to fill the
// device, `length` is cut into chunks: their totals are formed by reduce.cu, scanned by a second launch, and enter the
// third as `before`. The cut depends on the shape alone, so that results are the same bits at every call.
#include "common.cuh"
#include "complex.cuh"
#include "reducers.cuh"

struct Shape {
    int64 outer, length, inner, chunks, chunk; // `chunks` chunks of `chunk` (the last may be shorter) make `length`
};

// What comes before this thread's value in its block: an exclusive scan. `total`: of all threads. 256 threads.
template <class R> INLINE typename R::State before_thread(typename R::State value, typename R::State& total, typename R::State* scratch) {
    typedef typename R::State State;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    State sum = value; // inclusive, in the warp
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const State other = shuffle_up(sum, distance);
        if (lane >= distance) sum = R::combine(other, sum);
    }
    const State left = shuffle_up(sum, 1);
    __syncthreads(); // the totals of an earlier tile may still be read
    if (lane == 31) scratch[warp] = sum;
    __syncthreads();
    State first = R::start(), all = R::start();
    for (int w = 0; w < int(blockDim.x) / 32; w++) {
        if (w == warp) first = all;
        all = R::combine(all, scratch[w]);
    }
    total = all;
    return lane == 0 ? first : R::combine(first, left);
}

// Tiles of 4 neighbouring elements per thread pass through shared memory, so that reads and writes are coalesced.
constexpr int per_thread = 4;

template <class R, class In, class Out, class Load, class Store>
INLINE void rows(const In* x, Out* y, const typename R::State* before, const Shape& s, Load load, Store store) {
    typedef typename R::State State;
    __shared__ State scratch[8];
    __shared__ State tile[256 * (per_thread + 1)]; // one more per thread: neighbours fall into different banks
    const int64 row = blockIdx.x / s.chunks, k = blockIdx.x % s.chunks;
    const int64 end = (k + 1) * s.chunk < s.length ? (k + 1) * s.chunk : s.length;
    x += row * s.length;
    y += row * s.length;
    State carry = k > 0 ? before[row * s.chunks + k - 1] : R::start();
    for (int64 begin = k * s.chunk; begin < end; begin += 256 * per_thread) {
        for (int i = threadIdx.x; i < 256 * per_thread; i += 256)
            tile[i + i / per_thread] = begin + i < end ? load(x[begin + i]) : R::start();
        __syncthreads();
        State* own = tile + threadIdx.x * (per_thread + 1);
        State sum = own[0];
#pragma unroll
        for (int i = 1; i < per_thread; i++) sum = R::combine(sum, own[i]);
        State total;
        State running = R::combine(carry, before_thread<R>(sum, total, scratch));
#pragma unroll
        for (int i = 0; i < per_thread; i++) own[i] = running = R::combine(running, own[i]);
        carry = R::combine(carry, total);
        __syncthreads();
        for (int i = threadIdx.x; i < 256 * per_thread; i += 256)
            if (begin + i < end) y[begin + i] = store(tile[i + i / per_thread]);
        __syncthreads();
    }
}

template <class R, class In, class Out, class Load, class Store>
INLINE void columns(const In* x, Out* y, const typename R::State* before, const Shape& s, Load load, Store store) {
    const int64 n = s.outer * s.chunks * s.inner;
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += int64(gridDim.x) * blockDim.x) {
        const int64 j = i % s.inner, k = i / s.inner % s.chunks, o = i / s.inner / s.chunks;
        const int64 end = (k + 1) * s.chunk < s.length ? (k + 1) * s.chunk : s.length;
        typename R::State sum = k > 0 ? before[(o * s.chunks + k - 1) * s.inner + j] : R::start();
        for (int64 p = k * s.chunk; p < end; p++) {
            const int64 at = (o * s.length + p) * s.inner + j;
            sum = R::combine(sum, load(x[at]));
            y[at] = store(sum);
        }
    }
}

// The elements of an array, and the totals of its chunks.
template <class R> INLINE void scan_rows(const typename R::In* x, typename R::Out* y, const typename R::State* before, const Shape& s) {
    rows<R>(x, y, before, s, [](typename R::In v) { return R::load(v, 0); }, [](typename R::State v) { return R::finish(v); });
}
template <class R> INLINE void scan_columns(const typename R::In* x, typename R::Out* y, const typename R::State* before, const Shape& s) {
    columns<R>(x, y, before, s, [](typename R::In v) { return R::load(v, 0); }, [](typename R::State v) { return R::finish(v); });
}
template <class R> INLINE void totals_rows(const typename R::State* x, typename R::State* y, const typename R::State* before, const Shape& s) {
    rows<R>(x, y, before, s, [](typename R::State v) { return v; }, [](typename R::State v) { return v; });
}
template <class R> INLINE void totals_columns(const typename R::State* x, typename R::State* y, const typename R::State* before, const Shape& s) {
    columns<R>(x, y, before, s, [](typename R::State v) { return v; }, [](typename R::State v) { return v; });
}
