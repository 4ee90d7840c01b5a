// Pooling: the largest element and the mean of each window, where the largest is, and their gradients. pool.py appends the
// entry points. Three pooled axes, last one innermost; fewer are continued by axes of one element. x (planes, size), y
// (planes, count), both dense; a thread for each element of the result. T is the arrays' dtype, A that of the arithmetic.
//
// The gradients gather: an element sums what the windows around it send, in the order of the windows, so that results do
// not depend on which thread comes first.
#include "common.cuh"

struct Pool {
    int64 planes;
    int32 size[3], count[3], kernel[3], stride[3], padding[3], dilation[3];
    int32 include, divisor; // avg_pool's: whether padding counts; a divisor for all windows, or 0
};

struct At {
    int64 plane;
    int32 at[3];
};
INLINE At split(int64 i, const int32 (&sizes)[3]) {
    const int32 volume = sizes[0] * sizes[1] * sizes[2];
    At p;
    p.plane = i / volume;
    const int32 rest = int32(i - p.plane * volume);
    p.at[2] = rest % sizes[2];
    p.at[1] = rest / sizes[2] % sizes[1];
    p.at[0] = rest / sizes[2] / sizes[1];
    return p;
}
INLINE int64 volume(const int32 (&sizes)[3]) { return int64(sizes[0]) * sizes[1] * sizes[2]; }

#define EACH(i, n)                                                                                                     \
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x, n_ = (n); i < n_; i += int64(gridDim.x) * blockDim.x)

// visit(place in the plane) for each element of a window that is in x, in C order.
template <class Visit> INLINE void elements(const Pool& p, const int32 (&window)[3], Visit visit) {
    int32 first[3];
    for (int a = 0; a < 3; a++) first[a] = window[a] * p.stride[a] - p.padding[a];
    for (int32 k = 0, i = first[0]; k < p.kernel[0]; k++, i += p.dilation[0]) {
        if (i < 0 || i >= p.size[0]) continue;
        for (int32 l = 0, j = first[1]; l < p.kernel[1]; l++, j += p.dilation[1]) {
            if (j < 0 || j >= p.size[1]) continue;
            const int32 row = (i * p.size[1] + j) * p.size[2];
            for (int32 m = 0, e = first[2]; m < p.kernel[2]; m++, e += p.dilation[2])
                if (e >= 0 && e < p.size[2]) visit(row + e);
        }
    }
}

// The window along an axis of which an element is number k, or -1.
INLINE int32 window_of(const Pool& p, int a, int32 at, int32 k) {
    const int32 first = at + p.padding[a] - k * p.dilation[a];
    if (first < 0 || first % p.stride[a]) return -1;
    const int32 window = first / p.stride[a];
    return window < p.count[a] ? window : -1;
}
// visit(the window's coordinates, its place) for each window with an element, in C order.
template <class Visit> INLINE void windows_of(const Pool& p, const int32 (&at)[3], Visit visit) {
    int32 w[3];
    for (int32 k = p.kernel[0] - 1; k >= 0; k--) {
        if ((w[0] = window_of(p, 0, at[0], k)) < 0) continue;
        for (int32 l = p.kernel[1] - 1; l >= 0; l--) {
            if ((w[1] = window_of(p, 1, at[1], l)) < 0) continue;
            for (int32 m = p.kernel[2] - 1; m >= 0; m--)
                if ((w[2] = window_of(p, 2, at[2], m)) >= 0) visit(w, (w[0] * p.count[1] + w[1]) * p.count[2] + w[2]);
        }
    }
}

template <class T, class A> INLINE void max_pool(const T* x, T* y, const Pool& p) {
    EACH(i, p.planes * volume(p.count)) {
        const At w = split(i, p.count);
        const T* plane = x + w.plane * volume(p.size);
        A largest = -infinity(A(0));
        elements(p, w.at, [&](int32 at) { largest = maximum(largest, cast<A>(plane[at])); });
        y[i] = cast<T>(largest);
    }
}

// The first of the largest elements, or the first NaN; behind the last element where a window has none.
template <class T, class A> INLINE void max_pool_indices(const T* x, int64* y, const Pool& p) {
    EACH(i, p.planes * volume(p.count)) {
        const At w = split(i, p.count);
        const T* plane = x + w.plane * volume(p.size);
        int32 best = -1;
        A largest = 0;
        elements(p, w.at, [&](int32 at) {
            const A value = cast<A>(plane[at]);
            if (best < 0 || value > largest || (value != value && largest == largest)) best = at, largest = value;
        });
        y[i] = best < 0 ? volume(p.size) : best;
    }
}

// index: max_pool_indices of x, which itself is not needed.
template <class T, class A> INLINE void max_pool_gradient(const T* g, const int64* index, T* y, const Pool& p) {
    EACH(i, p.planes * volume(p.size)) {
        const At e = split(i, p.size);
        const int64 first = e.plane * volume(p.count), here = i - e.plane * volume(p.size);
        A sum = 0;
        windows_of(p, e.at, [&](const int32 (&)[3], int32 at) {
            if (index[first + at] == here) sum += cast<A>(g[first + at]);
        });
        y[i] = cast<T>(sum);
    }
}

// What the sum of a window is divided by.
template <class A> INLINE A divisor(const Pool& p, const int32 (&window)[3]) {
    if (p.divisor) return A(p.divisor);
    int64 all = 1;
    for (int a = 0; a < 3; a++) {
        const int32 more = p.include ? p.padding[a] : 0, begin = window[a] * p.stride[a] - p.padding[a];
        const int32 first = begin < -more ? -more : begin, end = begin + p.kernel[a];
        all *= (end < p.size[a] + more ? end : p.size[a] + more) - first;
    }
    return A(all);
}

template <class T, class A> INLINE void avg_pool(const T* x, T* y, const Pool& p) {
    EACH(i, p.planes * volume(p.count)) {
        const At w = split(i, p.count);
        const T* plane = x + w.plane * volume(p.size);
        A sum = 0;
        elements(p, w.at, [&](int32 at) { sum += cast<A>(plane[at]); });
        y[i] = cast<T>(sum / divisor<A>(p, w.at));
    }
}

template <class T, class A> INLINE void avg_pool_gradient(const T* g, T* y, const Pool& p) {
    EACH(i, p.planes * volume(p.size)) {
        const At e = split(i, p.size);
        const T* plane = g + e.plane * volume(p.count);
        A sum = 0;
        windows_of(p, e.at, [&](const int32 (&window)[3], int32 at) { sum += cast<A>(plane[at]) / divisor<A>(p, window); });
        y[i] = cast<T>(sum);
    }
}
