// Stable sorting of rows of unsigned keys, and searching in a sorted row. sort.py appends the entry points.
//
// A block sorts a tile of a row in shared memory; then runs are merged in pairs, twice as long in each launch. A block
// makes one tile of a merged run: where its tile begins and ends in the two runs is found by binary search (the merge
// path), and each thread merges four elements. What is equal keeps its order, so there is one right result.
#include "common.cuh"

constexpr int tile = 1024, per_thread = 4;

// Whether (a, i) goes behind (b, j): places settle what is equal.
template <class Key> INLINE bool behind(Key a, int32 i, Key b, int32 j) { return a != b ? b < a : i > j; }

// keys, places (rows, length): each tile of a row sorted by itself. One tile per block; `size`, a power of two of at
// least two, is that of a tile.
template <class Key> INLINE void sort_tiles(const Key* x, Key* keys, int32* places, int64 length, int32 size) {
    __shared__ Key key[tile];
    __shared__ int32 place[tile];
    const int64 tiles = (length + size - 1) / size, row = blockIdx.x / tiles, begin = blockIdx.x % tiles * size;
    x += row * length;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        const bool there = begin + i < length;
        key[i] = there ? x[begin + i] : highest_integer<Key>();
        place[i] = there ? int32(begin + i) : highest_integer<int32>(); // behind all that are there
    }
    __syncthreads();
    for (int run = 2; run <= size; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            for (int pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
                const int i = 2 * pair - (pair & (distance - 1)), j = i + distance;
                if (behind(key[i], place[i], key[j], place[j]) == ((i & run) == 0)) {
                    const Key k = key[i];
                    const int32 p = place[i];
                    key[i] = key[j], place[i] = place[j];
                    key[j] = k, place[j] = p;
                }
            }
            __syncthreads();
        }
    }
    for (int i = threadIdx.x; i < size; i += blockDim.x)
        if (begin + i < length) {
            keys[row * length + begin + i] = key[i];
            places[row * length + begin + i] = place[i];
        }
}

// How many of the first `taken` elements of two merged runs come from the first one.
template <class Key, class Count> INLINE Count from_first(const Key* a, Count m, const Key* b, Count n, Count taken) {
    Count low = taken > n ? taken - n : 0, high = taken < m ? taken : m;
    while (low < high) {
        const Count middle = (low + high) / 2;
        if (a[middle] <= b[taken - 1 - middle]) low = middle + 1; // of equal ones the first run's come first
        else high = middle;
    }
    return low;
}

// Runs of `run` elements, a multiple of a tile, merged in pairs. One tile of the result per block.
template <class Key>
INLINE void merge_runs(const Key* x, const int32* x_places, Key* y, int32* y_places, int64 length, int64 run) {
    __shared__ Key key[tile];
    __shared__ int32 place[tile];
    __shared__ int64 cut[2];
    const int64 tiles = (length + tile - 1) / tile, row = blockIdx.x / tiles, begin = blockIdx.x % tiles * tile;
    const int64 first = begin / (2 * run) * (2 * run);
    const int64 middle = first + run < length ? first + run : length;
    const int64 last = first + 2 * run < length ? first + 2 * run : length;
    const int64 end = begin + tile < length ? begin + tile : length;
    x += row * length, x_places += row * length, y += row * length, y_places += row * length;
    const Key *a = x + first, *b = x + middle;
    if (threadIdx.x < 2) {
        const int64 taken = (threadIdx.x == 0 ? begin : end) - first;
        cut[threadIdx.x] = from_first<Key, int64>(a, middle - first, b, last - middle, taken);
    }
    __syncthreads();
    const int64 skipped = begin - first - cut[0]; // of the second run
    const int count = int(end - begin), m = int(cut[1] - cut[0]), n = count - m;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int64 at = i < m ? first + cut[0] + i : middle + skipped + (i - m);
        key[i] = x[at];
        place[i] = x_places[at];
    }
    __syncthreads();
    const int taken = threadIdx.x * per_thread;
    if (taken >= count) return;
    int i = from_first<Key, int>(key, m, key + m, n, taken), j = taken - i;
    for (int k = taken; k < taken + per_thread && k < count; k++) {
        const bool left = j >= n || (i < m && key[i] <= key[m + j]);
        const int from = left ? i++ : m + j++;
        y[begin + k] = key[from];
        y_places[begin + k] = place[from];
    }
}

// y[i]: how many elements of the sorted `keys` are before wanted[i], or (`right`) before or equal.
template <class Key> INLINE void search(const Key* keys, const Key* wanted, int64* y, int64 length, int64 count, int32 right) {
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += int64(gridDim.x) * blockDim.x) {
        const Key key = wanted[i];
        int64 low = 0, high = length;
        while (low < high) {
            const int64 middle = low + (high - low) / 2;
            if (right ? keys[middle] <= key : keys[middle] < key) low = middle + 1;
            else high = middle;
        }
        y[i] = low;
    }
}

// The places of the elements that are chosen: `rank` counts them up to each place, itself included.
extern "C" __global__ void __launch_bounds__(256) chosen_places(const int64* rank, int64* y, int64 count) {
    for (int64 i = int64(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += int64(gridDim.x) * blockDim.x)
        if (rank[i] != (i > 0 ? rank[i - 1] : 0)) y[rank[i] - 1] = i;
}
