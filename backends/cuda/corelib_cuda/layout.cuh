// Operands of any layout: sizes and strides as the kernels get them. Dimensions are merged and those of size 1 dropped
// before the launch (layout.py), so most calls have one or two. Included after common.cuh.
#pragma once

constexpr int max_dims = 8;
template <class Index, int operands> struct Layout {
    Index size[max_dims];             // innermost first
    Index stride[operands][max_dims]; // in elements; negative ones as two's complement
    int64 ndim;
};

template <class Index> struct OffsetOf { typedef int32 type; };
template <> struct OffsetOf<uint64> { typedef int64 type; };
