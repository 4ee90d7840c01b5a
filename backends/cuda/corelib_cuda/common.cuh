// What every kernel of this backend shares: the dtypes by name, 16-byte packets, warp exchange, and the arithmetic
// that C++ leaves undefined but corelib does not (wrapping integers, saturating casts, IEEE maximum).
//
// No header of the CUDA toolkit is included: NVRTC then needs no include path, and compiles in milliseconds.
// The same text is compiled by g++ for the emulator in tests/cuda_emulator, so it stays within both.
#pragma once

typedef signed char int8;
typedef short int16;
typedef int int32;
typedef long long int64;
typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef float float32;
typedef double float64;

#define INLINE __device__ __forceinline__

// ---------------------------------------------------------------------------------------------- properties of types

template <class A, class B> struct Same { static constexpr bool value = false; };
template <class A> struct Same<A, A> { static constexpr bool value = true; };

// float16 and bfloat16 are stored only: arithmetic sees them as float32.
struct float16 {
    uint16 bits;
};
struct bfloat16 {
    uint16 bits;
};

// A complex number, aligned to move as one access; functions of it are in complex.cuh.
template <class T> struct alignas(2 * sizeof(T)) Complex {
    T re, im;
    Complex() = default; // trivial: it may lie in shared memory
    INLINE constexpr Complex(T re, T im = 0) : re(re), im(im) {}
};
typedef Complex<float> complex64;
typedef Complex<double> complex128;

struct alignas(16) uint128 { // moved, never computed with
    uint64 low, high;
};

template <class T> struct Number { static constexpr bool floating = false, stored = false, complex = false; };
template <> struct Number<float> { static constexpr bool floating = true, stored = false, complex = false; };
template <> struct Number<double> : Number<float> {};
template <> struct Number<float16> { static constexpr bool floating = true, stored = true, complex = false; };
template <> struct Number<bfloat16> : Number<float16> {};
template <class T> struct Number<Complex<T>> {
    static constexpr bool floating = false, stored = false, complex = true;
    typedef T Part;
};

// The unsigned type in which integers of type T are computed, wide enough that C++ does not promote it to int.
template <bool wide> struct WordOf { typedef uint32 type; };
template <> struct WordOf<true> { typedef uint64 type; };
template <class T> using Word = typename WordOf<(sizeof(T) > 4)>::type;

template <class T> INLINE constexpr bool is_signed() { return T(-1) < T(0); }
template <class T> INLINE constexpr T lowest_integer() {
    return is_signed<T>() ? T(Word<T>(1) << (8 * sizeof(T) - 1)) : T(0);
}
template <class T> INLINE constexpr T highest_integer() { return T(~Word<T>(lowest_integer<T>())); }

template <class T> INLINE bool is_negative(T x) {
    if constexpr (is_signed<T>()) return x < T(0);
    else return false;
}

template <class T> INLINE bool is_nan(T x) { return Number<T>::floating && x != x; }

INLINE bool sign_bit(float x) { return __float_as_int(x) < 0; }
INLINE bool sign_bit(double x) { return __double_as_longlong(x) < 0; }

INLINE float infinity(float) { return __int_as_float(0x7f800000); }
INLINE double infinity(double) { return __longlong_as_double(0x7ff0000000000000ll); }

// ---------------------------------------------------------------------------------------------------------- complex
// A product is rounded before it is added, so that x * y == y * x, and x * conj(x) is real.

INLINE float rounded_product(float a, float b) { return __fmul_rn(a, b); }
INLINE double rounded_product(double a, double b) { return __dmul_rn(a, b); }

template <class T> INLINE Complex<T> operator+(Complex<T> x, Complex<T> y) { return {x.re + y.re, x.im + y.im}; }
template <class T> INLINE Complex<T> operator-(Complex<T> x, Complex<T> y) { return {x.re - y.re, x.im - y.im}; }
template <class T> INLINE Complex<T> operator-(Complex<T> x) { return {-x.re, -x.im}; }
template <class T> INLINE Complex<T> operator*(Complex<T> x, Complex<T> y) {
    return {rounded_product(x.re, y.re) - rounded_product(x.im, y.im),
            rounded_product(x.re, y.im) + rounded_product(x.im, y.re)};
}
template <class T> INLINE bool operator==(Complex<T> x, Complex<T> y) { return x.re == y.re && x.im == y.im; }
template <class T> INLINE bool operator!=(Complex<T> x, Complex<T> y) { return !(x == y); }

#include "cast.cuh"

// ------------------------------------------------------------------------------- maximum, minimum: NaN wins, +0 > -0

template <class T> INLINE T maximum(T a, T b) { return a < b ? b : a; }
template <class T> INLINE T minimum(T a, T b) { return b < a ? b : a; }
template <class T> INLINE T maximum_floating(T a, T b) {
    if (a != a) return a;
    if (b != b) return b;
    if (a == b) return sign_bit(a) ? b : a;
    return a < b ? b : a;
}
template <class T> INLINE T minimum_floating(T a, T b) {
    if (a != a) return a;
    if (b != b) return b;
    if (a == b) return sign_bit(a) ? a : b;
    return b < a ? b : a;
}
template <> INLINE float maximum(float a, float b) { return maximum_floating(a, b); }
template <> INLINE double maximum(double a, double b) { return maximum_floating(a, b); }
template <> INLINE float minimum(float a, float b) { return minimum_floating(a, b); }
template <> INLINE double minimum(double a, double b) { return minimum_floating(a, b); }

// ----------------------------------------------------------------------------------------- packets and warp exchange

// N elements that move as one access of up to 16 bytes.
template <class T, int N> struct alignas(sizeof(T) * N) Packet {
    T at[N];
};

// Any trivially copyable value from another lane, word by word.
template <class T, class Exchange> INLINE T exchanged(T value, Exchange exchange) {
    constexpr int words = (sizeof(T) + 3) / 4;
    union Words {
        uint32 word[words];
        T value;
        INLINE Words() {}
    } u;
    u.word[words - 1] = 0; // a value of less than four bytes leaves the rest of its word unset
    u.value = value;
#pragma unroll
    for (int i = 0; i < words; i++) u.word[i] = exchange(u.word[i]);
    return u.value;
}
// From the lane `lane ^ mask`.
template <class T> INLINE T shuffle_xor(T value, int mask) {
    return exchanged(value, [mask](uint32 word) { return __shfl_xor_sync(0xffffffffu, word, mask); });
}
// From the lane `lane - distance`; of the first `distance` lanes their own.
template <class T> INLINE T shuffle_up(T value, int distance) {
    return exchanged(value, [distance](uint32 word) { return __shfl_up_sync(0xffffffffu, word, distance); });
}

// Combine over the threads of one row of the block (threadIdx.y): blockDim.x is a power of two, 32 at least. Every
// thread gets the result. `scratch` holds one value per warp of the block. All threads of the block must call it.
template <class T, class Combine> INLINE T reduce_row(T value, Combine combine, T* scratch) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) value = combine(value, shuffle_xor(value, mask));
    const int warps = blockDim.x / 32;
    if (warps == 1) return value; // the same for the whole block, so no barrier is missed
    T* row = scratch + threadIdx.y * warps;
    __syncthreads(); // an earlier reduction may still be read
    if (threadIdx.x % 32 == 0) row[threadIdx.x / 32] = value;
    __syncthreads();
    value = row[threadIdx.x % warps]; // every warp repeats the last step; cheaper than a third barrier
    for (int mask = warps / 2; mask > 0; mask >>= 1) value = combine(value, shuffle_xor(value, mask));
    return value;
}
