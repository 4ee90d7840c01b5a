// Casts between all dtypes, each rounded once, and the arithmetic of float16 and bfloat16, which is nothing but casts.

// ---------------------------------------------------------------------------------------- float16, bfloat16 <-> float32

INLINE float widened(bfloat16 x) { return __int_as_float(int32(uint32(x.bits) << 16)); }
INLINE float widened(float16 x) {
    const uint32 sign = uint32(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
    if (rest >= 0x7c00) return __int_as_float(int32(sign | rest << 13 | 0x7f800000)); // infinity, NaN
    // As float32's exponent and fraction these bits mean 2^-112 times the number, also where it is subnormal.
    return __int_as_float(int32(sign | uint32(__float_as_int(__int_as_float(int32(rest << 13)) * 0x1p112f))));
}

// To nearest, ties to even; infinity beyond the largest number.
template <class To> INLINE To narrowed(float x);
template <> INLINE bfloat16 narrowed<bfloat16>(float x) {
    const uint32 bits = uint32(__float_as_int(x));
    if (x != x) return {0x7fc0};
    return {uint16((bits + 0x7fff + (bits >> 16 & 1)) >> 16)}; // the carry may reach the exponent, as it should
}
template <> INLINE float16 narrowed<float16>(float x) {
    const uint32 all = uint32(__float_as_int(x)), sign = all >> 16 & 0x8000, bits = all & 0x7fffffff;
    if (x != x) return {0x7e00};
    if (bits >= 0x47800000) return {uint16(sign | 0x7c00)}; // 2^16 and more
    if (bits < 0x38800000) { // below 2^-14: in a sum with 1/2 the last bit is worth 2^-24, as in a subnormal number
        return {uint16(sign | (uint32(__float_as_int(__int_as_float(int32(bits)) + 0.5f)) - 0x3f000000))};
    }
    return {uint16(sign | (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13)};
}

// A float32 that rounds to fewer bits as x does: x itself, or of the two around it the one whose last bit is set. To the
// nearest float32 and then to float16 would be two roundings.
INLINE float odd(float x) { return x; }
INLINE float odd(double x) {
    const float y = float(x);
    const int32 bits = __float_as_int(y);
    if (x != x || double(y) == x || (bits & 1)) return y;
    return __int_as_float(fabs(double(y)) < fabs(x) ? bits + 1 : bits - 1);
}
template <class T> INLINE float odd(T x) {
    if constexpr (sizeof(T) < 8) return odd(double(x));
    else {
        uint64 size = is_negative(x) ? uint64(0) - uint64(x) : uint64(x);
        if (size >> 53) size = (size & ~uint64(2047)) | uint64((size & 2047) != 0) << 11; // 53 bits, the last one odd
        return odd(is_negative(x) ? -double(size) : double(size));
    }
}

// ------------------------------------------------------------------------------------------------------------ all casts

// Integers wrap modulo 2^n. From floating to an integer: truncated, saturated, NaN becomes 0. The limits as floating
// values are exact powers of two (2^bits is one above the largest integer), so the comparisons are exact as well.
template <class To, class From> INLINE To cast(From x) {
    typedef Number<From> Source;
    typedef Number<To> Target;
    if constexpr (Source::stored) return cast<To>(widened(x));
    else if constexpr (Target::stored) return narrowed<To>(odd(x));
    else if constexpr (Source::complex && Target::complex)
        return To(typename Target::Part(x.re), typename Target::Part(x.im));
    else if constexpr (Source::complex) {
        static_assert(Same<To, bool>::value, "a real number is made of a complex one by real, imag or abs");
        return x.re != 0 || x.im != 0;
    } else if constexpr (Target::complex) return To(cast<typename Target::Part>(x));
    else if constexpr (Same<To, bool>::value) return x != From(0); // NaN is True
    else if constexpr (Source::floating && !Target::floating) {
        const From above = From(2) * From(Word<To>(highest_integer<To>() / 2 + 1));
        if (x >= above) return highest_integer<To>();
        if (x <= From(lowest_integer<To>())) return lowest_integer<To>();
        return x == x ? To(x) : To(0);
    } else return To(x); // to floating: nearest, ties to even
}
