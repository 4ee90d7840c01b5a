// What a reduction accumulates: each reducer has its first State, how an element becomes one, how two combine, and the
// result. Included after common.cuh.
#pragma once

// float32 is summed in float64, complex64 in complex128: the result is then correctly rounded in practice, and the sum
// is bound by memory still. float64 is summed in as many partial sums as there are threads. Integers wrap, so any order will do.
template <class T> struct Accumulator { typedef uint64 type; };
template <> struct Accumulator<float> { typedef double type; };
template <> struct Accumulator<double> { typedef double type; };
template <class T> struct Accumulator<Complex<T>> { typedef complex128 type; };

template <class X, class T> struct Sum {
    typedef X In;
    typedef T Out;
    typedef typename Accumulator<T>::type State;
    static INLINE State start() { return 0; }
    static INLINE State load(X x, int64) { return cast<State>(cast<T>(x)); }
    static INLINE State combine(State a, State b) { return a + b; }
    static INLINE T finish(State s) { return cast<T>(s); }
};
template <class X, class T> struct Prod {
    typedef X In;
    typedef T Out;
    typedef typename Accumulator<T>::type State;
    static INLINE State start() { return 1; }
    static INLINE State load(X x, int64) { return cast<State>(cast<T>(x)); }
    static INLINE State combine(State a, State b) { return a * b; }
    static INLINE T finish(State s) { return cast<T>(s); }
};

template <class T, bool floating> struct Limits {
    static INLINE T lowest() { return lowest_integer<T>(); }
    static INLINE T highest() { return highest_integer<T>(); }
};
template <class T> struct Limits<T, true> {
    static INLINE T lowest() { return -infinity(T(0)); }
    static INLINE T highest() { return infinity(T(0)); }
};
template <> struct Limits<bool, false> {
    static INLINE bool lowest() { return false; }
    static INLINE bool highest() { return true; }
};

template <class T> struct Max {
    typedef T In, Out, State;
    static INLINE T start() { return Limits<T, Number<T>::floating>::lowest(); }
    static INLINE T load(T x, int64) { return x; }
    static INLINE T combine(T a, T b) { return maximum(a, b); }
    static INLINE T finish(T s) { return s; }
};
template <class T> struct Min {
    typedef T In, Out, State;
    static INLINE T start() { return Limits<T, Number<T>::floating>::highest(); }
    static INLINE T load(T x, int64) { return x; }
    static INLINE T combine(T a, T b) { return minimum(a, b); }
    static INLINE T finish(T s) { return s; }
};

template <class T> struct Any {
    typedef T In;
    typedef bool Out;
    typedef uint32 State;
    static INLINE uint32 start() { return 0; }
    static INLINE uint32 load(T x, int64) { return cast<bool>(x); }
    static INLINE uint32 combine(uint32 a, uint32 b) { return a | b; }
    static INLINE bool finish(uint32 s) { return s != 0; }
};
template <class T> struct All {
    typedef T In;
    typedef bool Out;
    typedef uint32 State;
    static INLINE uint32 start() { return 1; }
    static INLINE uint32 load(T x, int64) { return cast<bool>(x); }
    static INLINE uint32 combine(uint32 a, uint32 b) { return a & b; }
    static INLINE bool finish(uint32 s) { return s != 0; }
};

// The first place of the extreme; NaN is more extreme than any number. index < 0: nothing was seen yet.
template <class T> struct Found {
    T value;
    int64 index;
};
template <class T, bool greatest> struct ArgExtreme {
    typedef T In;
    typedef int64 Out;
    typedef Found<T> State;
    static INLINE State start() { return {T(0), -1}; }
    static INLINE State load(T x, int64 index) { return {x, index}; }
    static INLINE State combine(State a, State b) {
        if (a.index < 0) return b;
        if (b.index < 0) return a;
        const State &early = a.index < b.index ? a : b, &late = a.index < b.index ? b : a;
        if (is_nan(early.value)) return early;
        if (is_nan(late.value)) return late;
        return (greatest ? early.value < late.value : late.value < early.value) ? late : early;
    }
    static INLINE int64 finish(State s) { return s.index; }
};
template <class T> using ArgMax = ArgExtreme<T, true>;
template <class T> using ArgMin = ArgExtreme<T, false>;
