// Generated kernels: what emit.py's texts are made of, beside what they say themselves. A group of recorded steps is one
// entry point, written out for its dtypes and its way through memory.
#include "elementwise.cu"
#include "reducers.cuh"

// One reduction over the threads of a row; `scratch` is shared by all of a kernel's reductions.
template <class R> INLINE typename R::State over_row(typename R::State state, void* scratch) {
    typedef typename R::State State;
    return reduce_row(state, [](State a, State b) { return R::combine(a, b); }, static_cast<State*>(scratch));
}
