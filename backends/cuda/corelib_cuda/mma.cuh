// Products of small matrices by the tensor cores: float16 and bfloat16, summed in float32. Included after common.cuh; of
// compute capability 8.0 and newer. On a device one instruction, in the emulator its definition (tests/cuda_emulator).
#pragma once

// d += a b for a (16, 16), b (16, 8) and d (16, 8), which the lanes of a warp hold together. With g = lane / 4 and
// t = lane % 4, a word holding two neighbours: a: rows g, g + 8, g, g + 8 at columns 2 t, 2 t, 2 t + 8, 2 t + 8; b: column
// g at rows 2 t, 2 t + 8; d: row g at columns 2 t, 2 t + 1, then row g + 8.
template <class T> INLINE void multiply_add(float (&d)[4], const uint32 (&a)[4], const uint32 (&b)[2]) {
#ifdef __CUDACC_RTC__
    if constexpr (Same<T, bfloat16>::value)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulator::multiply_add(d, a, b, [](uint32 bits) { return widened(T{uint16(bits)}); });
#endif
}

// Two neighbours in one word, the first in the low half.
template <class T> INLINE uint32 packed(T low, T high) { return uint32(low.bits) | uint32(high.bits) << 16; }
template <class T> INLINE uint32 packed(float low, float high) { return packed(narrowed<T>(low), narrowed<T>(high)); }
