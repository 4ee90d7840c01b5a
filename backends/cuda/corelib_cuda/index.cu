// Gathering and scattering along one axis: x is seen as outer x places x inner, dense; several index arrays have been made one
// linear index (indexing.py), checked and without negative numbers. Elements are moved as words of their size.
//
// Nothing here depends on which thread comes first: where indices repeat, the last value wins (scatter), and sums are
// formed in the order of the values (scatter_add).
#include "common.cuh"
#include "reducers.cuh"

struct Extents {
    int64 outer, places, inner, count; // count: how many indices
};

#define EACH(i, n)                                                                                                     \
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x, n_ = (n); i < n_; i += int64(gridDim.x) * blockDim.x)

// y (outer, count, inner): y[o, k, j] = x[o, index[k], j]
template <class T> INLINE void gather(const T* x, const int64* index, T* y, const Extents& e) {
    EACH(i, e.outer * e.count * e.inner) {
        const int64 j = i % e.inner, k = i / e.inner % e.count, o = i / e.inner / e.count;
        y[i] = x[(o * e.places + index[k]) * e.inner + j];
    }
}

// index, y (outer, count, inner): y[o, k, j] = x[o, index[o, k, j], j]
template <class T> INLINE void take_along(const T* x, const int64* index, T* y, const Extents& e) {
    EACH(i, e.outer * e.count * e.inner) {
        const int64 j = i % e.inner, o = i / e.inner / e.count;
        y[i] = x[(o * e.places + index[i]) * e.inner + j];
    }
}

// writer (places), -1 before: the last of the indices that names a place.
extern "C" __global__ void __launch_bounds__(256) last_writer(const int64* index, int64* writer, int64 count) {
    EACH(k, count) atomicMax(&writer[index[k]], k);
}

// y[o, p, j] = values[o, writer[p], j] where there is a writer, else x[o, p, j]. y may be x.
template <class T>
INLINE void scatter(const T* x, const T* values, const int64* writer, T* y, const Extents& e) {
    EACH(i, e.outer * e.places * e.inner) {
        const int64 j = i % e.inner, p = i / e.inner % e.places, o = i / e.inner / e.places;
        y[i] = writer[p] < 0 ? x[i] : values[(o * e.count + writer[p]) * e.inner + j];
    }
}

// order (count) lists the values by place, those of one place in their own order; the values of place p are
// order[begin[p]] .. order[begin[p + 1] - 1]. y may be x.
template <class T>
INLINE void scatter_add(const T* x, const T* values, const int64* order, const int64* begin, T* y, const Extents& e) {
    EACH(i, e.outer * e.places * e.inner) {
        const int64 j = i % e.inner, p = i / e.inner % e.places, o = i / e.inner / e.places;
        typedef typename Accumulator<T>::type Sum;
        Sum sum = cast<Sum>(x[i]);
        for (int64 k = begin[p]; k < begin[p + 1]; k++)
            sum = sum + cast<Sum>(values[(o * e.count + order[k]) * e.inner + j]);
        y[i] = cast<T>(sum);
    }
}
