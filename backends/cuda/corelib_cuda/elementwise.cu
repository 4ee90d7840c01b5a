// Element-wise kernels: the two loops that every op of the family runs through, and the arithmetic that takes more
// than one expression. elementwise.py appends the entry points, each with its op: struct Op { static Out apply(T1 x1, ...) }.
#include "common.cuh"
#include "complex.cuh"
#include "layout.cuh"

// --------------------------------------------------------------------------------------------------------- operands
// An operand is an array, one value for all elements, or the position itself; each loop is written once for all.

template <class T> struct Array {
    const T* data;
    template <int N> INLINE Packet<T, N> packet(int64 i) const {
        return reinterpret_cast<const Packet<T, N>*>(data)[i];
    }
    INLINE T element(int64 i) const { return data[i]; }
};
template <class T> struct Value {
    T value;
    template <int N> INLINE Packet<T, N> packet(int64) const {
        Packet<T, N> p;
#pragma unroll
        for (int k = 0; k < N; k++) p.at[k] = value;
        return p;
    }
    INLINE T element(int64) const { return value; }
};
struct Position {
    template <int N> INLINE Packet<int64, N> packet(int64 i) const {
        Packet<int64, N> p;
#pragma unroll
        for (int k = 0; k < N; k++) p.at[k] = i * N + k;
        return p;
    }
    INLINE int64 element(int64 i) const { return i; }
};

// ------------------------------------------------------------------------------------ contiguous: packets, any rest
// Index is 32 bits wide unless n does not fit. Each thread handles packets of N elements; the rest, less than one
// packet, goes to the first threads, one element each.

template <class Op, class Out, int N, class... Elements>
INLINE Packet<Out, N> apply_packet(Elements... p) {
    Packet<Out, N> result;
#pragma unroll
    for (int k = 0; k < N; k++) result.at[k] = Op::apply(p.at[k]...);
    return result;
}

template <class Op, class Out, int N, class Index, class... Operands>
INLINE void contiguous(Out* out, Index n, Operands... x) {
    const Index packets = n / N, threads = Index(gridDim.x) * blockDim.x;
    const Index first = Index(blockIdx.x) * blockDim.x + threadIdx.x;
    for (Index i = first; i < packets; i += threads)
        reinterpret_cast<Packet<Out, N>*>(out)[i] = apply_packet<Op, Out, N>(x.template packet<N>(i)...);
    const Index i = packets * N + first;
    if (first < N && i < n) out[i] = Op::apply(x.element(i)...);
}

// ------------------------------------------------------------------------ strided: operands of any layout, out dense
// A value takes a place in the layout as well: its strides are never looked at.

template <int... k> struct Places {};

template <class Op, class Out, class Index, int... k, class... Operands>
INLINE void strided(Out* out, Index n, const Layout<Index, sizeof...(k)>& layout, Places<k...>, Operands... x) {
    typedef typename OffsetOf<Index>::type Offset;
    const Index threads = Index(gridDim.x) * blockDim.x;
    const int last = int(layout.ndim) - 1;
    for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += threads) {
        Index rest = i, offset[sizeof...(k)] = {};
        for (int d = 0; d < last; d++) {
            const Index quotient = rest / layout.size[d], position = rest - quotient * layout.size[d];
            rest = quotient;
            ((offset[k] += position * layout.stride[k][d]), ...);
        }
        ((offset[k] += rest * layout.stride[k][last]), ...);
        out[i] = Op::apply(x.element(Offset(offset[k]))...);
    }
}

// ---------------------------------------------------------------------------------------------- integers: Python's //

template <class T> INLINE T floor_divide(T a, T b) {
    if (b == 0) return 0;
    if (is_signed<T>() && b == T(-1)) return T(Word<T>(0) - Word<T>(a)); // the one quotient that overflows wraps
    const T quotient = a / b;
    return (a % b != 0 && is_negative(a) != is_negative(b)) ? T(quotient - 1) : quotient;
}
template <class T> INLINE T remainder(T a, T b) {
    if (b == 0 || (is_signed<T>() && b == T(-1))) return 0;
    const T rest = a % b;
    return (rest != 0 && is_negative(rest) != is_negative(b)) ? T(rest + b) : rest;
}
template <class T> INLINE T power(T base, T exponent) {
    if (is_negative(exponent)) { // the exact result, truncated
        if (base == T(-1)) return (exponent & 1) ? T(-1) : T(1);
        return base == 1 ? T(1) : T(0);
    }
    Word<T> result = 1, square = Word<T>(base);
    for (Word<T> e = Word<T>(exponent); e != 0; e >>= 1, square *= square)
        if (e & 1) result *= square;
    return T(result);
}
template <class T> INLINE T left_shift(T x, T shift) {
    if (is_negative(shift) || shift >= T(8 * sizeof(T))) return 0;
    return T(Word<T>(x) << Word<T>(shift));
}
template <class T> INLINE T right_shift(T x, T shift) {
    if (is_negative(shift) || shift >= T(8 * sizeof(T))) return is_negative(x) ? T(-1) : T(0);
    return T(x >> shift);
}

// -------------------------------------------------------------------------------------------- floating: Python's //
// float32 quotients are formed in float64, as Python forms them, and rounded once.

INLINE double floor_divide(double a, double b) {
    const double quotient = a / b;
    if (!(fabs(quotient) < 9007199254740992.0) || fabs(b) == infinity(a)) return quotient; // 2^53: an integer already
    double down = floor(quotient);
    const double rest = fma(-down, b, a); // exact in its sign: the quotient may have been rounded up to an integer
    if (rest != 0 && (rest < 0) != (b < 0)) down -= 1;
    return down == 0 ? copysign(0.0, quotient) : down;
}
INLINE float floor_divide(float a, float b) { return float(floor_divide(double(a), double(b))); }

INLINE double remainder_floating(double a, double b) {
    const double rest = fmod(a, b);
    if (rest == 0) return copysign(0.0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}
INLINE float remainder_floating(float a, float b) {
    const float rest = fmodf(a, b);
    if (rest == 0) return copysignf(0.0f, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

// ---------------------------------------------------------------------------------------------------- keys for sort
// An unsigned integer that orders as the value does: NaN largest, the zeros equal.

template <class T> INLINE Word<T> sort_key(T x) { return Word<T>(x) ^ Word<T>(lowest_integer<T>()); }
INLINE uint32 sort_key(bool x) { return x; }
INLINE uint32 sort_key(float x) {
    if (x != x) return 0xffffffffu;
    const uint32 bits = uint32(__float_as_int(x + 0.0f)); // -0 + 0 is +0
    return sign_bit(x + 0.0f) ? ~bits : bits | 0x80000000u;
}
INLINE uint64 sort_key(double x) {
    if (x != x) return ~uint64(0);
    const uint64 bits = uint64(__double_as_longlong(x + 0.0));
    return sign_bit(x + 0.0) ? ~bits : bits | 0x8000000000000000ull;
}
