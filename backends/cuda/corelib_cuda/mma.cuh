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
template <class T> INLINE uint32 packed(float low, float high) {
#ifdef __CUDACC_RTC__
    uint32 word;
    if constexpr (Same<T, bfloat16>::value) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return packed(narrowed<T>(low), narrowed<T>(high));
#endif
}

// Memory of a tile, aligned for accesses of any width.
template <class T, int n> struct alignas(32) Lines { T at[n]; };

// Four 8 x 8 matrices of 16-bit elements from shared memory: lane 8 m + r points to row r of matrix m, at a multiple of 16
// bytes. Word m of a lane is elements 2 t and 2 t + 1 of row g of matrix m; `turned`, of column g.
template <bool turned, class T> INLINE void load_matrices(uint32 (&word)[4], const T* row) {
#ifdef __CUDACC_RTC__
    const uint32 at = uint32(__cvta_generic_to_shared(row));
    if constexpr (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3]) : "r"(at) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3]) : "r"(at) : "memory");
#else
    emulator::load_matrices(word, row, turned);
#endif
}

// 16 bytes of global memory, or zeros, on their way to shared memory. They are there, for this thread, after
// arrived(); for the others after a barrier behind it.
INLINE void bring(void* to, const void* from, bool inside) {
#ifdef __CUDACC_RTC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint32(__cvta_generic_to_shared(to))), "l"(from),
                 "r"(inside ? 16 : 0) : "memory");
#else
    emulator::bring(to, from, inside);
#endif
}
INLINE void arrived() {
#ifdef __CUDACC_RTC__
    asm volatile("cp.async.wait_all;" ::: "memory");
#else
    emulator::arrived();
#endif
}
