// Reductions: a reducer (reducers.cuh) says what is accumulated and how two states combine; two kernels walk the memory.
// reduce.py appends the entry points for the reducers and dtypes that it needs.
//
// An array is seen as outer x length x inner, dense, reduced along `length`. `rows` serves inner == 1, `columns` the
// rest. Where outer * inner is too small to fill the device, `length` is cut into chunks: a first launch writes one
// state per chunk, a second one reduces the states. The cut depends on the shape alone, so that results are the same
// bits at every call and on every device.
#include "common.cuh"
#include "reducers.cuh"

// ------------------------------------------------------------------------------- where a launch reads, where it ends

template <class R> struct FromElements {
    typedef typename R::In type;
    static INLINE typename R::State load(type x, int64 index) { return R::load(x, index); }
};
template <class R> struct FromStates {
    typedef typename R::State type;
    static INLINE type load(type s, int64) { return s; }
};
template <class R> struct ToResults {
    typedef typename R::Out type;
    static INLINE type store(typename R::State s) { return R::finish(s); }
};
template <class R> struct ToStates {
    typedef typename R::State type;
    static INLINE type store(type s) { return s; }
};

struct Shape {
    int64 outer, length, inner, chunks, chunk; // `chunks` chunks of `chunk` (the last may be shorter) make `length`
};

// ------------------------------------------------------------------------------------------- rows: inner == 1
// x (outer, length) -> y (outer, chunks). blockDim.x threads share a row, blockDim.y rows share a block; with 32
// threads per row no barrier is met. `packed`: the host found rows and chunks to be whole, aligned packets.

template <class R, template <class> class From, template <class> class To, int N>
INLINE void rows(const typename From<R>::type* x, typename To<R>::type* y, const Shape& shape, int32 packed) {
    typedef typename From<R>::type X;
    typedef typename R::State State;
    __shared__ State scratch[32];
    const int64 task = int64(blockIdx.x) * blockDim.y + threadIdx.y;
    const bool exists = task < shape.outer * shape.chunks; // threads without a row stay for the barriers
    const int64 row = task / shape.chunks, begin = exists ? (task - row * shape.chunks) * shape.chunk : 0;
    const int64 end = exists ? (begin + shape.chunk < shape.length ? begin + shape.chunk : shape.length) : 0;
    x += exists ? row * shape.length : 0;
    constexpr int parts = N < 4 ? N : 4; // independent states hide the latency of combining
    State part[parts];
#pragma unroll
    for (int k = 0; k < parts; k++) part[k] = R::start();
    if (packed) {
        for (int64 i = begin + threadIdx.x * N; i < end; i += blockDim.x * N) {
            const Packet<X, N> p = *reinterpret_cast<const Packet<X, N>*>(x + i);
#pragma unroll
            for (int k = 0; k < N; k++) part[k % parts] = R::combine(part[k % parts], From<R>::load(p.at[k], i + k));
        }
    } else {
        for (int64 i = begin + threadIdx.x; i < end; i += blockDim.x)
            part[0] = R::combine(part[0], From<R>::load(x[i], i));
    }
#pragma unroll
    for (int k = 1; k < parts; k++) part[0] = R::combine(part[0], part[k]);
    const State total = reduce_row(
        part[0], [](State a, State b) { return R::combine(a, b); }, scratch);
    if (exists && threadIdx.x == 0) y[task] = To<R>::store(total);
}

// ---------------------------------------------------------------------------------------- columns: inner of any size
// x (outer, length, inner) -> y (outer, chunks, inner). A block of 256 threads: x over columns, y over positions of the
// reduced axis, z over outer. Short rows (inner == 1, length small) come here as well: neighbouring threads then
// read neighbouring elements of several rows.

template <class R, template <class> class From, template <class> class To>
INLINE void columns(const typename From<R>::type* x, typename To<R>::type* y, const Shape& shape) {
    typedef typename R::State State;
    __shared__ State scratch[256];
    const int64 blocks = (shape.inner + blockDim.x - 1) / blockDim.x; // of columns
    const int64 task = blockIdx.x / blocks;
    const int64 column = (blockIdx.x - task * blocks) * blockDim.x + threadIdx.x;
    const int64 chunk = task % shape.chunks, outer = task / shape.chunks * blockDim.z + threadIdx.z;
    const bool exists = column < shape.inner && outer < shape.outer;
    State total = R::start();
    if (exists) {
        const int64 begin = chunk * shape.chunk;
        const int64 end = begin + shape.chunk < shape.length ? begin + shape.chunk : shape.length;
        x += outer * shape.length * shape.inner + column;
        State part[4] = {R::start(), R::start(), R::start(), R::start()};
        int64 i = begin + threadIdx.y;
        const int64 step = blockDim.y;
        for (; i + 3 * step < end; i += 4 * step) {
#pragma unroll
            for (int k = 0; k < 4; k++)
                part[k] = R::combine(part[k], From<R>::load(x[(i + k * step) * shape.inner], i + k * step));
        }
        for (; i < end; i += step) part[0] = R::combine(part[0], From<R>::load(x[i * shape.inner], i));
        total = R::combine(R::combine(part[0], part[1]), R::combine(part[2], part[3]));
    }
    const int width = blockDim.x, mine = (threadIdx.z * blockDim.y + threadIdx.y) * width + threadIdx.x;
    scratch[mine] = total;
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) scratch[mine] = R::combine(scratch[mine], scratch[mine + half * width]);
    }
    if (exists && threadIdx.y == 0)
        y[(outer * shape.chunks + chunk) * shape.inner + column] = To<R>::store(scratch[mine]);
}
