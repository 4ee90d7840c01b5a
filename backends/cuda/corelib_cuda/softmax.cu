// Softmax along the last axis, the pattern for fused row kernels: read a row once, keep it on the chip, combine across
// the threads that share it, write it once. y = exp(x - max) / sum(exp(x - max)).
//
// Whatever is wrong with a row makes all of it NaN, as the composite's own formula does: a NaN, a +inf, or nothing
// but -inf. softmax.py appends the entry points.
#include "common.cuh"

INLINE float exponential(float x) { return expf(x); }
INLINE double exponential(double x) { return exp(x); }

template <class T> INLINE T quiet_nan() { return infinity(T(0)) - infinity(T(0)); }

// ------------------------------------------------------------------------- held: the row stays in registers
// x, y (rows, length). Thread t of a row holds the packets t, t + blockDim.x, ... (at most K of N elements). The row's
// length is a multiple of N, and at most blockDim.x * K * N.

template <class T, int N, int K> INLINE void softmax_held(const T* x, T* y, int64 rows, int32 length) {
    __shared__ double scratch[32];
    const int64 row = int64(blockIdx.x) * blockDim.y + threadIdx.y;
    const bool exists = row < rows; // threads without a row stay for the barriers
    const int32 packets = exists ? length / N : 0;
    const Packet<T, N>* source = reinterpret_cast<const Packet<T, N>*>(x + (exists ? row * length : 0));
    Packet<T, N> held[K];
    T top = -infinity(T(0));
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int32 i = threadIdx.x + k * blockDim.x;
        if (i < packets) {
            held[k] = source[i];
#pragma unroll
            for (int j = 0; j < N; j++) top = maximum(top, held[k].at[j]);
        }
    }
    top = reduce_row(top, [](T a, T b) { return maximum(a, b); }, reinterpret_cast<T*>(scratch));
    T sum = 0; // at most K * N terms in each thread
#pragma unroll
    for (int k = 0; k < K; k++) {
        if (int32(threadIdx.x + k * blockDim.x) < packets) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                held[k].at[j] = exponential(held[k].at[j] - top); // NaN where top is infinite
                sum += held[k].at[j];
            }
        }
    }
    const T total = T(reduce_row(double(sum), [](double a, double b) { return a + b; }, scratch));
    Packet<T, N>* target = reinterpret_cast<Packet<T, N>*>(y + (exists ? row * length : 0));
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int32 i = threadIdx.x + k * blockDim.x;
        if (i < packets) {
#pragma unroll
            for (int j = 0; j < N; j++) held[k].at[j] /= total;
            target[i] = held[k];
        }
    }
}

// ------------------------------------------------------------------ streamed: rows of any length, one block per row
// One pass finds maximum and sum together (the sum is rescaled whenever the maximum grows), a second one writes.

struct Running {
    double top, sum; // sum of exp(x - top) over what was seen
};

INLINE Running merge(Running a, Running b) {
    const double top = maximum(a.top, b.top);
    // Equal tops need no scale, and -inf - -inf would give NaN while nothing but -inf has been seen.
    const double left = a.top == top ? a.sum : a.sum * exp(a.top - top);
    const double right = b.top == top ? b.sum : b.sum * exp(b.top - top);
    return {top, left + right};
}

template <class T> INLINE void softmax_streamed(const T* x, T* y, int64 length) {
    __shared__ Running scratch[32];
    x += int64(blockIdx.x) * length;
    y += int64(blockIdx.x) * length;
    T top = -infinity(T(0));
    double sum = 0;
    for (int64 i = threadIdx.x; i < length; i += blockDim.x) {
        const T value = x[i];
        if (value <= top) {
            sum += value == top ? T(1) : exponential(value - top);
        } else { // greater, or NaN
            sum = (top == -infinity(T(0)) ? 0 : sum * double(exponential(top - value))) + 1;
            top = maximum(top, value);
        }
    }
    const Running all = reduce_row(Running{top, sum}, [](Running a, Running b) { return merge(a, b); }, scratch);
    top = T(all.top);
    const T total = top - top == 0 ? T(all.sum) : quiet_nan<T>(); // infinite or NaN: the whole row is NaN
    for (int64 i = threadIdx.x; i < length; i += blockDim.x) y[i] = exponential(x[i] - top) / total;
}
