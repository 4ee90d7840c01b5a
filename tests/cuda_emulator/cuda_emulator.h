// Runs CUDA C++ kernels on the CPU: one fiber per CUDA thread, one block at a time.
//
// Fibers switch only at barriers and warp exchanges. The order in which the threads of a block run is chosen per launch
// (ascending, descending, shuffled), so a missing barrier gives a wrong answer in at least one of them. Shared memory is
// poisoned before every block, and what a real device would leave undefined stops the launch with the place: a barrier or a
// shuffle that not all threads reach, an access out of bounds or misaligned, a shift or a conversion out of range.
//
// What it cannot see: speed, races between blocks, the exact rounding of CUDA's math library, the order of streams.
#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>

#if !defined(__x86_64__)
#error "the emulator switches stacks by x86-64 instructions"
#endif

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared"))) // one block runs at a time: one copy is enough

namespace emulator {

struct Index {
    unsigned x, y, z;
};
enum class State { ready, at_barrier, in_warp, done };

// One exchange of a warp: lanes deposit a word and read the others'. Two buffers: a fast lane may be one exchange ahead.
struct Exchange {
    unsigned arrived = 0;
    int generation = 0, line = 0;
    uint64_t word[2][32];
};
struct Fiber {
    void* stack;
    Index thread;
    unsigned number;
    State state;
    int line;
};

constexpr size_t stack_size = 64 << 10;
inline Index grid, block, block_index;
inline std::vector<Fiber> fibers;
inline std::vector<Exchange> exchanges; // one per warp
inline Fiber* current;
inline void* scheduler;
inline char* stacks;
inline size_t stacks_made;
inline int barrier_arrived, barrier_line, alive;
inline char message[1024];
inline sigjmp_buf failure;
inline void (*body)(void*);
inline void* body_arguments;

// ------------------------------------------------------------------------------------------------------- switching

extern "C" void emulator_switch(void** save, void* to);
asm(R"(.text
.weak emulator_switch
.type emulator_switch,@function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size emulator_switch,.-emulator_switch
)");

inline void yield() { emulator_switch(&current->stack, scheduler); }

[[noreturn]] inline void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(message, 700, format, arguments);
    va_end(arguments);
    if (current)
        snprintf(message + n, 300, " [block %u, thread (%u, %u, %u)]", block_index.x, current->thread.x, current->thread.y,
                 current->thread.z);
    siglongjmp(failure, 1);
}

// --------------------------------------------------------------------------------------------------- barriers, warps

inline void release_barrier() {
    barrier_arrived = 0;
    for (Fiber& f : fibers)
        if (f.state == State::at_barrier) f.state = State::ready;
}

inline void barrier(int line) {
    if (barrier_arrived == 0) barrier_line = line;
    if (barrier_line != line) fail("barrier divergence: this thread is at line %d, others are at line %d", line, barrier_line);
    current->state = State::at_barrier;
    current->line = line;
    if (++barrier_arrived == alive) release_barrier();
    yield(); // the last to arrive waits as well: it gets no head start
}

// Every lane of the warp deposits a word; all may then read each other's.
inline const uint64_t* exchange(unsigned mask, uint64_t word, int line) {
    const unsigned lane = current->number % 32, warp = current->number / 32;
    const unsigned lanes = std::min<unsigned>(32, unsigned(fibers.size()) - warp * 32);
    if (mask != ~0u || lanes != 32) fail("line %d: only whole warps may exchange here (mask %08x, %u lanes)", line, mask, lanes);
    Exchange& e = exchanges[warp];
    if (e.arrived == 0) e.line = line;
    if (e.line != line) fail("warp divergence: this lane is at line %d, another at line %d", line, e.line);
    const int buffer = e.generation & 1;
    e.word[buffer][lane] = word;
    e.arrived |= 1u << lane;
    if (e.arrived == ~0u) {
        e.arrived = 0;
        e.generation++;
        for (unsigned i = 0; i < 32; i++)
            if (fibers[warp * 32 + i].state == State::in_warp) fibers[warp * 32 + i].state = State::ready;
    } else {
        current->state = State::in_warp;
        current->line = line;
        yield();
    }
    return e.word[buffer];
}

template <class T> T shuffle_xor_sync(unsigned mask, T value, int lane_mask, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    const uint64_t* words = exchange(mask, word, line);
    memcpy(&value, &words[(current->number % 32) ^ unsigned(lane_mask)], sizeof value);
    return value;
}

template <class T> T shuffle_up_sync(unsigned mask, T value, unsigned distance, int line = __builtin_LINE()) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    const uint64_t* words = exchange(mask, word, line);
    const unsigned lane = current->number % 32;
    memcpy(&value, &words[lane >= distance ? lane - distance : lane], sizeof value);
    return value;
}

// d += a b as mma.sync.m16n8k16 gives it: `widen` makes a number of the 16 bits of an element. Lanes exchange their words.
template <class Widen>
inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Widen widen, int line = __builtin_LINE()) {
    uint32_t held[6][32]; // of each lane: a[0..3], b[0..1]
    for (int pair = 0; pair < 3; pair++) {
        const uint32_t* from = pair < 2 ? a + 2 * pair : b;
        const uint64_t* words = exchange(~0u, from[0] | uint64_t(from[1]) << 32, line);
        for (int lane = 0; lane < 32; lane++) {
            held[2 * pair][lane] = uint32_t(words[lane]);
            held[2 * pair + 1][lane] = uint32_t(words[lane] >> 32);
        }
    }
    const auto element = [&](int word, int lane, int k) { return widen(held[word][lane] >> (16 * (k & 1)) & 0xffff); };
    const int g = int(current->number % 32) / 4, t = int(current->number % 4);
    for (int i = 0; i < 4; i++) {
        const int row = i / 2, column = 2 * t + i % 2; // the row is g + 8 row
        for (int k = 0; k < 16; k++)
            d[i] += element(row + 2 * (k / 8), 4 * g + k % 8 / 2, k) * element(4 + k / 8, 4 * column + k % 8 / 2, k);
    }
}

// ldmatrix.x4: lane 8 m + r points to row r of matrix m.
template <class T> void load_matrices(uint32_t (&word)[4], const T* row, bool turned, int line = __builtin_LINE()) {
    static_assert(sizeof(T) == 2);
    if (reinterpret_cast<uintptr_t>(row) % 16) fail("line %d: a row of a matrix is not at a multiple of 16 bytes", line);
    const uint64_t* rows = exchange(~0u, reinterpret_cast<uint64_t>(row), line);
    const unsigned g = current->number % 32 / 4, t = current->number % 4;
    for (unsigned m = 0; m < 4; m++) {
        uint16_t pair[2];
        for (unsigned i = 0; i < 2; i++) {
            const unsigned r = turned ? 2 * t + i : g, c = turned ? g : 2 * t + i;
            memcpy(&pair[i], reinterpret_cast<const T*>(rows[8 * m + r]) + c, 2);
        }
        word[m] = pair[0] | uint32_t(pair[1]) << 16;
    }
}

// cp.async: nothing arrives before it is waited for, so that a missing wait shows.
struct Copy {
    void* to;
    const void* from;
};
inline std::vector<std::vector<Copy>> under_way; // of each thread
inline void bring(void* to, const void* from, bool inside) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || (inside && reinterpret_cast<uintptr_t>(from) % 16)) fail("a copy of 16 bytes is misaligned");
    under_way[current->number].push_back({to, inside ? from : nullptr});
}
inline void arrived() {
    for (const Copy& copy : under_way[current->number]) {
        if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    }
    under_way[current->number].clear();
}

// -------------------------------------------------------------------------------------------------------- scheduling

inline void enter() {
    body(body_arguments);
    current->state = State::done;
    if (--alive && barrier_arrived == alive) release_barrier();
    yield();
    __builtin_trap(); // a finished fiber is never resumed
}

inline uint32_t random_state = 1;
inline uint32_t next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

inline void shuffle(std::vector<unsigned>& order) {
    for (unsigned i = unsigned(order.size()) - 1; i > 0; i--) std::swap(order[i], order[next_random() % (i + 1)]);
}

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

[[noreturn]] inline void report_deadlock() {
    int barrier = 0, warp = 0, done = 0, line = 0;
    for (const Fiber& f : fibers) {
        barrier += f.state == State::at_barrier;
        warp += f.state == State::in_warp;
        done += f.state == State::done;
        if (f.state != State::done) line = f.line;
    }
    current = nullptr;
    fail("deadlock in block %u: %d threads at a barrier, %d in a warp exchange, %d finished (line %d)", block_index.x, barrier,
         warp, done, line);
}

// order of warps, and of lanes in a warp: 0 ascending, 1 descending, 2 shuffled at every turn
inline void run_block(int order) {
    const unsigned n = block.x * block.y * block.z;
    fibers.assign(n, Fiber{});
    exchanges.assign((n + 31) / 32, Exchange{});
    under_way.assign(n, {});
    alive = int(n);
    barrier_arrived = 0;
    if (__start_emulated_shared) memset(__start_emulated_shared, 0xff, size_t(__stop_emulated_shared - __start_emulated_shared));
    const unsigned warps = (n + 31) / 32;
    std::vector<unsigned> turn(warps), lane_turn(32);
    for (unsigned w = 0; w < warps; w++) turn[w] = order == 1 ? warps - 1 - w : w;
    for (unsigned l = 0; l < 32; l++) lane_turn[l] = order == 1 ? 31 - l : l;
    for (unsigned i = 0; i < n; i++) {
        Fiber& f = fibers[i];
        f.number = i;
        f.state = State::ready;
        f.thread = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        void** top = reinterpret_cast<void**>(stacks + stack_size * (i + 1)) - 2;
        *top = reinterpret_cast<void*>(enter);
        f.stack = top - 6; // where the six saved registers would be
    }
    while (alive) {
        bool progress = false;
        if (order == 2) {
            shuffle(turn);
            shuffle(lane_turn);
        }
        for (unsigned w : turn) {
            // A warp runs until all its lanes wait at a barrier or have finished: as far ahead of the others as it can be.
            for (bool again = true; again;) {
                again = false;
                for (unsigned l : lane_turn) {
                    const unsigned i = w * 32 + l;
                    if (i >= n || fibers[i].state != State::ready) continue;
                    current = &fibers[i];
                    emulator_switch(&scheduler, current->stack);
                    progress = again = true;
                }
            }
        }
        if (!progress) report_deadlock();
    }
}

inline void on_signal(int, siginfo_t* info, void*) { fail("illegal address %p", info->si_addr); }

template <class... A, size_t... i> void call(void (*kernel)(A...), void** p, std::index_sequence<i...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(p[i])...);
}

// Run a whole grid. Returns 0, or 1 with the reason in `reason`.
template <class... A> int launch(void (*kernel)(A...), const unsigned* sizes, void** parameters, int order, char* reason) {
    grid = {sizes[0], sizes[1], sizes[2]};
    block = {sizes[3], sizes[4], sizes[5]};
    const size_t threads = size_t(block.x) * block.y * block.z;
    if (threads > stacks_made) {
        void* memory = mmap(nullptr, stack_size * threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        stacks = static_cast<char*>(memory);
        stacks_made = threads;
    }
    struct Call {
        void (*kernel)(A...);
        void** parameters;
    } bound{kernel, parameters};
    body_arguments = &bound;
    body = [](void* p) { call(static_cast<Call*>(p)->kernel, static_cast<Call*>(p)->parameters, std::index_sequence_for<A...>{}); };

    static char alternate[65536]; // a fiber's own stack may be what overflowed
    stack_t stack{}, old_stack;
    stack.ss_sp = alternate;
    stack.ss_size = sizeof alternate;
    sigaltstack(&stack, &old_stack);
    struct sigaction action {}, old_segv, old_bus;
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &old_segv);
    sigaction(SIGBUS, &action, &old_bus);
    volatile int failed = sigsetjmp(failure, 1);
    if (!failed) {
        const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
        for (uint64_t i = 0; i < blocks; i++) {
            const uint64_t b = order == 1 ? blocks - 1 - i : i;
            block_index = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / (uint64_t(grid.x) * grid.y))};
            run_block(order);
        }
    }
    current = nullptr;
    sigaction(SIGSEGV, &old_segv, nullptr);
    sigaction(SIGBUS, &old_bus, nullptr);
    sigaltstack(&old_stack, nullptr);
    if (failed) strcpy(reason, message);
    return failed;
}

// What each parameter is, so that the host's list can be checked: p pointer, f floating, i integer, s struct, with its size.
template <class A> void describe_one(char*& out) {
    const char kind = std::is_pointer_v<A> ? 'p' : std::is_floating_point_v<A> ? 'f' : std::is_integral_v<A> ? 'i' : 's';
    out += sprintf(out, "%c%d ", kind, int(sizeof(A)));
}
template <class... A> void describe(void (*)(A...), char* out) {
    *out = 0;
    (describe_one<std::remove_const_t<A>>(out), ...);
}

} // namespace emulator

// ------------------------------------------------------------------------------- reports of GCC's -fsanitize=undefined

struct SourceLocation {
    const char* file;
    unsigned line, column;
};
#define EMULATOR_REPORT(handler, what)                                                                                          \
    extern "C" __attribute__((visibility("hidden"), noreturn, used)) void __ubsan_handle_##handler##_abort(SourceLocation* at, ...) { \
        emulator::fail(what " at %s:%u", at->file, at->line);                                                                   \
    }
EMULATOR_REPORT(type_mismatch_v1, "misaligned or null access")
EMULATOR_REPORT(out_of_bounds, "array index out of bounds")
EMULATOR_REPORT(shift_out_of_bounds, "shift out of range")
EMULATOR_REPORT(divrem_overflow, "integer division by zero or overflow")
EMULATOR_REPORT(add_overflow, "signed overflow")
EMULATOR_REPORT(sub_overflow, "signed overflow")
EMULATOR_REPORT(mul_overflow, "signed overflow")
EMULATOR_REPORT(negate_overflow, "signed overflow")
EMULATOR_REPORT(float_cast_overflow, "conversion out of range")

// ------------------------------------------------------------------------------------------- the names of CUDA C++

#define threadIdx (emulator::current->thread)
#define blockIdx emulator::block_index
#define blockDim emulator::block
#define gridDim emulator::grid
#define __syncthreads() emulator::barrier(__LINE__)
#define __shfl_xor_sync emulator::shuffle_xor_sync
#define __shfl_up_sync emulator::shuffle_up_sync

inline float __int_as_float(int bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline int __float_as_int(float x) {
    int bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline long long __double_as_longlong(double x) {
    long long bits;
    memcpy(&bits, &x, sizeof x);
    return bits;
}
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t(uint64_t(a) * b >> 32); }
inline int __dp4a(int a, int b, int c) {
    uint32_t sum = uint32_t(c); // wraps
    for (int i = 0; i < 32; i += 8) sum += uint32_t(int(int8_t(a >> i)) * int(int8_t(b >> i)));
    return int(sum);
}
inline float __fmul_rn(float a, float b) { return a * b; }
template <class T> T atomicMax(T* at, T value) {
    const T old = *at;
    *at = std::max(old, value);
    return old;
}
