// The memory of devices: a range of addresses for each, and a second range, the shadow, with one byte that
// says of each byte whether it belongs to an allocation and was written. Kernels are compiled with the
// calls that a thread sanitizer wants, `__tsan_read4` and its like; here they ask the shadow.
#include "runtime.h"
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <sys/mman.h>

namespace cuda_cpu {
__thread int device = 0;
__thread const char *operation = "nothing";

constexpr size_t PER_DEVICE = size_t(1) << 38, ALL = MOST_DEVICES * PER_DEVICE;
// Known when this is compiled, since a check is made for each access of a kernel.
constexpr Ptr MEMORY = size_t(1) << 44, SHADOW = MEMORY + ALL;
// Between allocations, so that what runs over the end of one does not reach the next.
constexpr size_t GAP = 64, UNIT = 256;
// What was released is kept that long, so that a late use is seen.
constexpr size_t KEPT = size_t(256) << 20;

enum State : unsigned char { Nobodys, Allocated, Written };

__attribute__((constructor)) static void reserve() {
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *wanted = reinterpret_cast<void *>(MEMORY);
    if (mmap(wanted, 2 * ALL, PROT_READ | PROT_WRITE, kind, -1, 0) == wanted) return;
    perror("cuda-cpu: no addresses for the memory of devices");
    abort();
}

struct Block {
    Ptr start;
    size_t bytes;
};
static std::mutex lock;
static std::map<Ptr, size_t> living;
static std::deque<Block> released;
static size_t released_bytes;
static std::multimap<size_t, Ptr> reusable[MOST_DEVICES]; // By room.
static size_t used[MOST_DEVICES];

static size_t room(size_t bytes) { return (bytes + GAP + UNIT - 1) / UNIT * UNIT; }
static unsigned char *shadow_of(Ptr p) { return reinterpret_cast<unsigned char *>(p + ALL); }
static int device_of(Ptr p) { return int((p - MEMORY) / PER_DEVICE); }

static Ptr find_room(int of_device, size_t bytes) {
    auto &free = reusable[of_device];
    auto found = free.find(room(bytes));
    if (found != free.end()) {
        Ptr p = found->second;
        free.erase(found);
        return p;
    }
    if (used[of_device] + room(bytes) > PER_DEVICE) return 0;
    Ptr p = MEMORY + size_t(of_device) * PER_DEVICE + used[of_device];
    used[of_device] += room(bytes);
    return p;
}

Ptr allocate(int of_device, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    Ptr p = find_room(of_device, bytes);
    if (!p) return 0;
    if (!counts_alone()) memset(shadow_of(p), Allocated, bytes);
    living[p] = bytes;
    return p;
}

static void retire_oldest() {
    Block oldest = released.front();
    released.pop_front();
    released_bytes -= room(oldest.bytes);
    reusable[device_of(oldest.start)].emplace(room(oldest.bytes), oldest.start);
}

bool release(Ptr p) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = living.find(p);
    if (found == living.end()) return false;
    if (!counts_alone()) memset(shadow_of(p), Nobodys, found->second);
    released.push_back({p, found->second});
    released_bytes += room(found->second);
    living.erase(found);
    while (released_bytes > KEPT) retire_oldest();
    return true;
}

bool within(Ptr p, size_t bytes) {
    if (!bytes) return true;
    std::lock_guard<std::mutex> guard(lock);
    auto next = living.upper_bound(p);
    if (next == living.begin()) return false;
    auto block = std::prev(next);
    return p + bytes <= block->first + block->second;
}

// ---- messages
static void say_where(Ptr p) {
    auto next = living.upper_bound(p);
    if (next != living.begin()) {
        auto block = std::prev(next);
        if (p < block->first + room(block->second)) {
            fprintf(stderr, "at byte %zu of an allocation of %zu bytes", p - block->first, block->second);
            return;
        }
    }
    for (const Block &block : released)
        if (p >= block.start && p < block.start + room(block.bytes)) {
            fprintf(stderr, "at byte %zu of %zu bytes that were released", p - block.start, block.bytes);
            return;
        }
    fprintf(stderr, "where nothing was allocated");
}

__attribute__((noinline, noreturn)) static void fault(const char *what, Ptr p, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    const uint3 &b = place.block, &t = place.thread;
    fprintf(stderr, "\ncuda-cpu: %s on device %d, block (%u, %u, %u), thread (%u, %u, %u): %s, %zu bytes ", operation,
            device, b.x, b.y, b.z, t.x, t.y, t.z, what, bytes);
    say_where(p);
    if (device_of(p) != device) fprintf(stderr, ", of device %d", device_of(p));
    fprintf(stderr, "\n");
    abort();
}

// ---- checks
static inline bool all_are(const unsigned char *states, size_t count, State least) {
    unsigned char lowest = Written;
    for (size_t i = 0; i < count; i++) lowest = states[i] < lowest ? states[i] : lowest;
    return lowest >= least;
}
// The same for as many bytes as an access has, at once.
template <class Word> static inline bool are_written(Ptr p) {
    Word states;
    memcpy(&states, shadow_of(p), sizeof states);
    return states == Word(~Word(0)) / 255 * Written;
}
// Host memory and a kernel's own variables are not looked at.
static bool is_of_devices(Ptr p) { return p - MEMORY < ALL; }

static void check_read(Ptr p, size_t bytes) {
    if (!is_of_devices(p)) return;
    if (__builtin_expect(device_of(p) == device && all_are(shadow_of(p), bytes, Written), 1)) return;
    bool allocated = all_are(shadow_of(p), bytes, Allocated) && device_of(p) == device;
    fault(allocated ? "reads what was never written" : "reads out of range", p, bytes);
}
static inline void check_write(Ptr p, size_t bytes) {
    if (!is_of_devices(p)) return;
    if (__builtin_expect(device_of(p) != device || !all_are(shadow_of(p), bytes, Allocated), 0))
        fault("writes out of range", p, bytes);
    memset(shadow_of(p), Written, bytes);
}

void read(Ptr p, size_t bytes) {
    if (!counts_alone()) check_read(p, bytes);
}
void write(Ptr p, size_t bytes) {
    if (!counts_alone()) check_write(p, bytes);
}
void copy_on_device(Ptr to, Ptr from, size_t bytes) {
    memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
    if (!counts_alone()) memmove(shadow_of(to), shadow_of(from), bytes);
}

// What the compiler puts before each access of a kernel.
#define CHECKED(BYTES, WORD)                                                                                \
    extern "C" void __tsan_read##BYTES(void *p) {                                                           \
        if (!is_of_devices(Ptr(p)) || (device_of(Ptr(p)) == device && are_written<WORD>(Ptr(p)))) return;   \
        check_read(Ptr(p), BYTES);                                                                          \
    }                                                                                                       \
    extern "C" void __tsan_write##BYTES(void *p) { check_write(Ptr(p), BYTES); }                            \
    extern "C" void __tsan_unaligned_read##BYTES(void *p) { __tsan_read##BYTES(p); }                        \
    extern "C" void __tsan_unaligned_write##BYTES(void *p) { check_write(Ptr(p), BYTES); }
CHECKED(1, uint8_t)
CHECKED(2, uint16_t)
CHECKED(4, uint32_t)
CHECKED(8, uint64_t)
CHECKED(16, unsigned __int128)
extern "C" void __tsan_read_range(void *p, size_t bytes) { check_read(Ptr(p), bytes); }
extern "C" void __tsan_write_range(void *p, size_t bytes) { check_write(Ptr(p), bytes); }
extern "C" void __tsan_init() {}
} // namespace cuda_cpu
