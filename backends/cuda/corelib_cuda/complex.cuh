// Functions of a complex number z = a + bi, with the special values of the array API standard, which are those of C99's
// Annex G, and an error of a few units in the last place of the larger part.
//
// complex64 is computed in float64 and rounded once: nothing overflows or cancels on the way, and one text serves both
// dtypes. complex128 is scaled where it could overflow.
//
// Two ideas cover most of the special values. A zero wins: where e^a cos b has a factor that is exactly zero, the
// product is zero, whatever the other is. A quarter turn: sin z = -i sinh(iz), and so for cos, tan, asin and atan.

constexpr double pi = 3.141592653589793, ln2 = 0.6931471805599453;
constexpr double largest = 0x1.fffffffffffffp1023;

INLINE double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }
INLINE bool is_infinite(double x) { return fabs(x) == infinity(x); }
INLINE bool is_finite(double x) { return fabs(x) < infinity(x); }
template <class T> INLINE bool is_nan(Complex<T> z) { return is_nan(z.re) || is_nan(z.im); }
template <class T> INLINE bool is_infinite(Complex<T> z) { return is_infinite(z.re) || is_infinite(z.im); }
template <class T> INLINE bool is_finite(Complex<T> z) { return is_finite(z.re) && is_finite(z.im); }

// i z, and back
INLINE complex128 turned(complex128 z) { return {-z.im, z.re}; }
INLINE complex128 turned_back(complex128 z) { return {z.im, -z.re}; }

// The exponent e of the larger part, 2^e <= |part| < 2^(e+1), of a finite number that is not 0; and z 2^e.
INLINE int32 exponent(complex128 z) { return ilogb(fmax(fabs(z.re), fabs(z.im))); }
INLINE complex128 scaled(complex128 z, int32 e) { return {scalbn(z.re, e), scalbn(z.im, e)}; }

// ----------------------------------------------------------------------------------------------- modulus, sign, division

// |z|; infinite if a part is, even beside NaN
INLINE double modulus(complex128 z) { return hypot(z.re, z.im); }
INLINE float modulus(complex64 z) {
    if (is_infinite(z)) return infinity(0.0f);
    return float(sqrt(double(z.re) * z.re + double(z.im) * z.im));
}

// z / |z|, 0 for 0
INLINE complex128 sign(complex128 z) {
    if (is_nan(z)) return {not_a_number(), not_a_number()};
    if (z == complex128(0)) return {0, 0};
    if (is_finite(z)) z = scaled(z, -exponent(z));
    const double r = modulus(z);
    return {z.re / r, z.im / r};
}

// ab + cd with the products' rounding errors made good; the sign of a zero is that of the plain formula
INLINE double sum_of_products(double a, double b, double c, double d) {
    const double cd = rounded_product(c, d), error = fma(c, d, -cd), sum = fma(a, b, cd);
    return error == 0 ? sum : sum + error;
}

INLINE double at_infinity(double x) { return copysign(is_infinite(x) ? 1.0 : 0.0, x); }

INLINE complex128 operator/(complex128 x, complex128 y) {
    double a = x.re, b = x.im, c = y.re, d = y.im;
    if (c == 0 && d == 0) return {a / c, b / c};
    if (is_finite(x) && is_finite(y)) {
        const int32 up = x == complex128(0) ? 0 : exponent(x), down = exponent(y);
        x = scaled(x, -up), y = scaled(y, -down);
        a = x.re, b = x.im, c = y.re, d = y.im;
        const double norm = fma(c, c, d * d);
        return scaled({sum_of_products(a, c, b, d) / norm, sum_of_products(b, c, -a, d) / norm}, up - down);
    }
    if (is_infinite(x) && is_finite(y)) {
        a = at_infinity(a), b = at_infinity(b);
        return {infinity(a) * (a * c + b * d), infinity(a) * (b * c - a * d)};
    }
    if (is_finite(x) && is_infinite(y)) {
        c = at_infinity(c), d = at_infinity(d);
        return {0 * (a * c + b * d), 0 * (b * c - a * d)};
    }
    return {not_a_number(), not_a_number()};
}
INLINE complex64 operator/(complex64 x, complex64 y) {
    const double a = x.re, b = x.im, c = y.re, d = y.im, norm = c * c + d * d;
    if (0 < norm && norm < infinity(norm) && is_finite(x)) // products of two float32 are exact in float64
        return {float((a * c + b * d) / norm), float((b * c - a * d) / norm)};
    return cast<complex64>(cast<complex128>(x) / cast<complex128>(y));
}

// ----------------------------------------------------------------------------------------------------------- square root

INLINE complex128 sqrt(complex128 z) {
    const double a = z.re, b = z.im;
    if (is_infinite(b)) return {infinity(b), b};
    if (a == -infinity(a)) return {b == b ? 0.0 : b, copysign(infinity(b), b)};
    if (a == infinity(a)) return {a, b == b ? copysign(0.0, b) : b};
    if (is_nan(z)) return {not_a_number(), not_a_number()};
    if (a == 0 && b == 0) return {0, b};
    const int32 half = exponent(z) >> 1;
    const double x = scalbn(fabs(a), -2 * half), y = scalbn(fabs(b), -2 * half);
    const double s = sqrt((x + sqrt(fma(x, x, y * y))) / 2), t = y / (2 * s);
    const complex128 root = scaled({s, t}, half);
    return a >= 0 ? complex128(root.re, copysign(root.im, b)) : complex128(root.im, copysign(root.re, b));
}

// ---------------------------------------------------------------------------------------------- exponential, hyperbolic

// xy, where a zero wins over infinity and NaN
INLINE double product(double x, double y) {
    if (x != 0 && y != 0) return x * y;
    return (x == x && sign_bit(x)) != (y == y && sign_bit(y)) ? -0.0 : 0.0;
}

// e^x factor; finite also where e^x alone is not
constexpr double e709 = 8.218407461554972e307;
INLINE double exp_times(double x, double factor) {
    for (int step = 0; step < 2 && x > 709; step++) x -= 709, factor *= e709;
    return product(exp(x), factor);
}
INLINE double sinh_times(double x, double factor) { // |x| > 709: e^|x| / 2 with the sign of x
    return fabs(x) > 709 ? exp_times(fabs(x) - 709, copysign(e709 / 2, x) * factor) : product(sinh(x), factor);
}
INLINE double cosh_times(double x, double factor) {
    return fabs(x) > 709 ? exp_times(fabs(x) - 709, e709 / 2 * factor) : product(cosh(x), factor);
}

// Infinitely far, in a direction that is not known.
INLINE bool lost(complex128 z) { return is_infinite(z.re) && !is_finite(z.im); }
INLINE complex128 infinite() { return {infinity(0.0), not_a_number()}; }

INLINE complex128 exp(complex128 z) {
    if (!is_finite(z.im) && z.re != -infinity(z.re))
        return lost(z) ? infinite() : complex128(not_a_number(), not_a_number());
    double sine, cosine;
    sincos(z.im, &sine, &cosine);
    return {exp_times(z.re, cosine), exp_times(z.re, sine)};
}
// (expm1(a) cos b - 2 sin(b/2)^2) + i e^a sin b: nothing large cancels near 0
INLINE complex128 expm1(complex128 z) {
    const complex128 power = exp(z);
    if (!(fabs(z.re) < 1 && is_finite(z.im))) return {power.re - 1, power.im};
    const double half = sin(z.im / 2);
    return {expm1(z.re) * cos(z.im) + (0 - 2 * half * half), power.im}; // 0 - 0: the sum is +0 also for a = -0
}
INLINE complex128 sinh(complex128 z) {
    if (lost(z)) return infinite();
    double sine, cosine;
    sincos(z.im, &sine, &cosine);
    return {sinh_times(z.re, cosine), cosh_times(z.re, sine)};
}
INLINE complex128 cosh(complex128 z) {
    if (lost(z)) return infinite();
    double sine, cosine;
    sincos(z.im, &sine, &cosine);
    return {cosh_times(z.re, cosine), sinh_times(z.re, sine)};
}
// (sinh a cosh a + i sin b cos b) / (sinh(a)^2 + cos(b)^2): nothing cancels. cosh a is taken from sinh a, whose error
// then partly cancels.
INLINE complex128 tanh(complex128 z) {
    const double a = z.re, b = z.im;
    if (is_infinite(a)) return {copysign(1.0, a), copysign(0.0, b)};
    if (!is_finite(b)) return {a == 0 ? a : not_a_number(), not_a_number()};
    double sine, cosine;
    sincos(b, &sine, &cosine);
    if (fabs(a) > 22) return {copysign(1.0, a), 4 * sine * cosine * exp(-2 * fabs(a))}; // sinh^2 is e^2|a| / 4
    if (a != a) return {a, b == 0 ? b : a};
    const double s = sinh(a), norm = fma(s, s, cosine * cosine);
    return {s * sqrt(fma(s, s, 1.0)) / norm, sine * cosine / norm};
}
INLINE complex128 sin(complex128 z) { return turned_back(sinh(turned(z))); }
INLINE complex128 cos(complex128 z) { return cosh(turned(z)); }
INLINE complex128 tan(complex128 z) { return turned_back(tanh(turned(z))); }

// ------------------------------------------------------------------------------------------------------------ logarithms

struct Natural {
    static INLINE double log(double x) { return ::log(x); }
    static INLINE double of_e() { return 1; }
};
struct Binary {
    static INLINE double log(double x) { return ::log2(x); }
    static INLINE double of_e() { return 1.4426950408889634; }
};
struct Decimal {
    static INLINE double log(double x) { return ::log10(x); }
    static INLINE double of_e() { return 0.4342944819032518; }
};

// log |z| where |z| is r, and |z|^2 - 1 is `excess` if r is near 1: from a rounded |z| all digits could be lost there.
template <class Base> INLINE double log_modulus(complex128 z, double r, double excess) {
    if (0.5 < r && r < 2) return log1p(excess) / 2 * Base::of_e();
    if (is_finite(z) && r > 0 && !(0x1p-1000 < r && r < 0x1p1000)) { // |z| overflows, or has lost digits
        const int32 e = exponent(z);
        return Base::log(modulus(scaled(z, -e))) + e * Base::log(2);
    }
    return Base::log(r);
}
template <class Base> INLINE complex128 logarithm(complex128 z) {
    const double x = fmax(fabs(z.re), fabs(z.im)), y = fmin(fabs(z.re), fabs(z.im));
    return {log_modulus<Base>(z, modulus(z), fma(x - 1, x + 1, y * y)), atan2(z.im, z.re) * Base::of_e()};
}
INLINE complex128 log(complex128 z) { return logarithm<Natural>(z); }
INLINE complex128 log2(complex128 z) { return logarithm<Binary>(z); }
INLINE complex128 log10(complex128 z) { return logarithm<Decimal>(z); }
INLINE complex128 log1p(complex128 z) {
    if (z == complex128(0)) return z;
    const complex128 w = {1 + z.re, z.im};
    return {log_modulus<Natural>(w, modulus(w), fma(z.re, 2 + z.re, z.im * z.im)), atan2(w.im, w.re)};
}

// ---------------------------------------------------------------------------------------------------- inverse functions
// Kahan, "Branch cuts for complex elementary functions" (1987): the square roots of 1 - z and 1 + z carry the sign of
// zero across the cuts. Beyond a quarter of the largest number they would overflow, and log 2|z| is all there is.

INLINE bool huge(complex128 z) { return fabs(z.re) > largest / 4 || fabs(z.im) > largest / 4; }
INLINE double log_twice(complex128 z) { return log(hypot(z.re / 2, z.im / 2)) + 2 * ln2; }

INLINE complex128 asinh(complex128 z) {
    const double a = z.re, b = z.im;
    if (huge(z)) return {copysign(log_twice(z), a), atan2(b, fabs(a))};
    if (a != a && b == 0) return z;
    const complex128 s = sqrt(complex128(1 + b, -a)), t = sqrt(complex128(1 - b, a));
    return {asinh(s.re * t.im - t.re * s.im), atan2(b, s.re * t.re - s.im * t.im)};
}
INLINE complex128 acos(complex128 z) {
    const double a = z.re, b = z.im;
    if (huge(z)) return {atan2(fabs(b), a), copysign(log_twice(z), -b)};
    if (a == 0 && b != b) return {pi / 2, b};
    const complex128 s = sqrt(complex128(1 - a, -b)), t = sqrt(complex128(1 + a, b));
    return {2 * atan2(s.re, t.re), asinh(t.re * s.im - t.im * s.re)};
}
INLINE complex128 acosh(complex128 z) {
    const complex128 w = acos(z); // a quarter turn away, to the side of b
    return {fabs(w.im), copysign(w.re, z.im)};
}
INLINE complex128 atanh(complex128 z) {
    const double a = z.re, b = z.im, x = fabs(a), y = fabs(b);
    if (is_infinite(z)) return {copysign(0.0, a), b == b ? copysign(pi / 2, b) : b};
    if (is_nan(z)) return {a == 0 ? a : not_a_number(), not_a_number()};
    double real, imag;
    if (x > 0x1p510 || y > 0x1p510) { // 1/z + i pi/2
        const double h = hypot(x / 2, y / 2);
        real = x / 4 / h / h, imag = pi / 2;
    } else if (x == 1 && y < 0x1p-510) {
        real = y == 0 ? infinity(y) : log(sqrt(hypot(y, 2.0)) / sqrt(y));
        imag = y == 0 ? 0 : atan2(2.0, -y) / 2;
    } else {
        real = log1p(4 * x / fma(1 - x, 1 - x, y * y)) / 4;
        imag = atan2(2 * y, fma(1 - x, 1 + x, -y * y)) / 2;
    }
    return {copysign(real, a), copysign(imag, b)};
}
INLINE complex128 asin(complex128 z) { return turned_back(asinh(turned(z))); }
INLINE complex128 atan(complex128 z) { return turned_back(atanh(turned(z))); }

// ---------------------------------------------------------------------------------------------------------------- powers
// x^y = exp(y log x) magnifies an error of log x by |y log x|, so log x is computed as a sum of two numbers, high + low,
// the second of which is what the first has lost, or smaller by three digits at least (Dekker 1971; Ogita, Rump, Oishi 2005).

struct Pair {
    double high, low;
};
INLINE Pair exact_sum(double a, double b) {
    const double sum = a + b, part = sum - a;
    return {sum, (a - (sum - part)) + (b - part)};
}
INLINE Pair dot(double a, double b, double c, double d) { // ab + cd
    const double ab = rounded_product(a, b), cd = rounded_product(c, d);
    const Pair sum = exact_sum(ab, cd);
    return {sum.high, sum.low + (fma(a, b, -ab) + fma(c, d, -cd))};
}
INLINE Pair quotient(Pair x, Pair y) {
    const double q = x.high / y.high;
    return {q, (fma(-q, y.high, x.high) + x.low - q * y.low) / y.high};
}
// x + x^3/3 + x^5/5 ... is x + x series(x^2), which is atanh x; and x + x series(-x^2) is atan x. |x| < 0.18
INLINE double series(double square) {
    double sum = 0;
#pragma unroll
    for (int k = 10; k > 0; k--) sum = (sum + 1.0 / (2 * k + 1)) * square;
    return sum;
}
// log |z 2^e| = (e + n/2) log 2 + atanh((s - 1) / (s + 1)), where s is |z|^2 / 2^n; the larger part of z is in [1, 2)
INLINE Pair log_in_two(complex128 z, int32 e) {
    Pair s = dot(z.re, z.re, z.im, z.im);
    int32 n = ilogb(s.high);
    if (scalbn(s.high, -n) > 1.414) n++;
    s = {scalbn(s.high, -n), scalbn(s.low, -n)};
    Pair above = exact_sum(s.high, 1);
    above.low += s.low;
    const Pair q = quotient({s.high - 1, s.low}, above);
    const double twos = e + n / 2.0;
    Pair sum = dot(twos, ln2, 1, q.high);
    sum.low += twos * 2.3190468138462996e-17 + (q.low + q.high * series(q.high * q.high));
    return sum;
}
// arg z = atan(k/4) + atan((y - xk/4) / (x + yk/4)) for parts x >= y >= 0 and the k nearest to 4y/x; then mirrored
INLINE Pair mirrored(double high, double low, Pair angle) {
    Pair sum = exact_sum(high, -angle.high);
    sum.low += low - angle.low;
    return sum;
}
INLINE Pair angle_in_two(complex128 z) {
    const double quarters[5][2] = {{0, 0},
                                   {0.24497866312686414, 1.0698755618734451e-17},
                                   {0.4636476090008061, 2.2698777452961687e-17},
                                   {0.6435011087932844, 1.5834785051444286e-17},
                                   {0.7853981633974483, 3.061616997868383e-17}};
    const double a = fabs(z.re), b = fabs(z.im), x = fmax(a, b), y = fmin(a, b);
    const int32 k = int32(rint(4 * y / x));
    const Pair q = quotient(dot(1, y, -k / 4.0, x), dot(1, x, k / 4.0, y));
    Pair angle = exact_sum(quarters[k][0], q.high);
    angle.low += quarters[k][1] + (q.low + q.high * series(-q.high * q.high));
    if (b > a) angle = mirrored(pi / 2, 6.123233995736766e-17, angle);
    if (sign_bit(z.re)) angle = mirrored(pi, 1.2246467991473532e-16, angle);
    return sign_bit(z.im) ? Pair{-angle.high, -angle.low} : angle;
}

// 1 for y = 0; 0^y is 0, infinite or NaN by the sign of y's real part; up to z^64 by multiplication
INLINE complex128 pow(complex128 x, complex128 y) {
    if (y == complex128(0)) return {1, 0};
    if (!is_finite(x) || !is_finite(y)) return exp(y * log(x));
    if (x == complex128(0)) {
        if (y.re > 0) return {0, 0};
        return y.re < 0 ? infinite() : complex128(not_a_number(), not_a_number());
    }
    if (y.im == 0 && fabs(y.re) <= 64 && y.re == rint(y.re)) {
        complex128 result = 1, square = x;
        for (int32 n = int32(fabs(y.re)); n; n >>= 1, square = square * square)
            if (n & 1) result = result * square;
        if (is_finite(result) && result != complex128(0)) return y.re < 0 ? complex128(1) / result : result;
    }
    const int32 e = exponent(x);
    const complex128 z = scaled(x, -e);
    const Pair l = log_in_two(z, e), t = angle_in_two(z);
    Pair re = dot(y.re, l.high, -y.im, t.high), im = dot(y.im, l.high, y.re, t.high);
    re = exact_sum(re.high, re.low + (y.re * l.low - y.im * t.low));
    im = exact_sum(im.high, im.low + (y.im * l.low + y.re * t.low));
    const complex128 result = exp(complex128(re.high, im.high)), low = {re.low, im.low};
    return is_finite(result) && is_finite(low) ? result + result * low : result;
}

// ------------------------------------------------------------------------------------------------------------- complex64

template <class T> INLINE Complex<T> rint(Complex<T> z) { return {T(rint(z.re)), T(rint(z.im))}; }

#define IN_FLOAT64(f)                                                                                                   \
    INLINE complex64 f(complex64 z) { return cast<complex64>(f(cast<complex128>(z))); }
IN_FLOAT64(sign) IN_FLOAT64(sqrt) IN_FLOAT64(exp) IN_FLOAT64(expm1) IN_FLOAT64(log) IN_FLOAT64(log1p) IN_FLOAT64(log2)
IN_FLOAT64(log10) IN_FLOAT64(sin) IN_FLOAT64(cos) IN_FLOAT64(tan) IN_FLOAT64(asin) IN_FLOAT64(acos) IN_FLOAT64(atan)
IN_FLOAT64(sinh) IN_FLOAT64(cosh) IN_FLOAT64(tanh) IN_FLOAT64(asinh) IN_FLOAT64(acosh) IN_FLOAT64(atanh)
INLINE complex64 pow(complex64 x, complex64 y) {
    return cast<complex64>(pow(cast<complex128>(x), cast<complex128>(y)));
}
