// Runs a kernel: block after block, and the threads of a block one after the other on one OS thread. A thread
// that comes to a barrier or an exchange waits there on a stack of its own, and the next one goes on.
#include "runtime.h"
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

namespace cuda_cpu {
__thread Place place;

// ---- Changing from one stack to another.
#if !defined(__x86_64__)
#error "cuda_cpu_switch is written for x86-64"
#endif
// Keeps what a call must keep, and the stack in *SAVE; goes on with the stack TO.
extern "C" void cuda_cpu_switch(void **save, void *to);
asm(R"(
.text
.globl cuda_cpu_switch
.hidden cuda_cpu_switch
.type cuda_cpu_switch, @function
cuda_cpu_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size cuda_cpu_switch, .-cuda_cpu_switch
)");
// What a new stack starts with: rbx, of which new_worker makes the stack's lowest address.
extern "C" void cuda_cpu_start() __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden cuda_cpu_start
.type cuda_cpu_start, @function
cuda_cpu_start:
    movq %rbx, %rdi
    call cuda_cpu_worker@PLT
    ud2
.size cuda_cpu_start, .-cuda_cpu_start
)");

enum State : unsigned char { Running, AtBarrier, AtExchange, Done };
struct Thread {
    void *stack_pointer;
    State state;
    // Of an exchange: the lanes that take part, the one that is asked, and the values.
    unsigned mask, asked;
    alignas(16) char gives[16], gets[16];
};

constexpr size_t STACK = 64 << 10;
constexpr unsigned MOST_THREADS = 1024, WARP = 32;

// The block that an OS thread is at.
struct Block {
    std::vector<Thread> threads = std::vector<Thread>(MOST_THREADS);
    std::vector<char *> free_stacks;
    char *finished = nullptr; // A stack that may be used again once it was left.
    void *scheduler = nullptr, *left = nullptr;
    unsigned count = 0, next = 0, current = 0, done = 0;
    Kernel *kernel = nullptr;
    void **arguments = nullptr;
};
static thread_local Block *block;

static void enter(unsigned thread) {
    block->current = thread;
    const dim3 &d = place.block_dim;
    place.thread = {thread % d.x, thread / d.x % d.y, thread / d.x / d.y};
}

// Back to the scheduler, until it comes here again.
static void wait(State state) {
    Thread &mine = block->threads[block->current];
    mine.state = state;
    cuda_cpu_switch(&mine.stack_pointer, block->scheduler);
}

// To the thread behind the current one, which is cheaper than by division.
static void enter_next() {
    const dim3 &d = place.block_dim;
    uint3 &t = place.thread;
    block->current = block->next++;
    if (++t.x < d.x) return;
    t.x = 0;
    if (++t.y < d.y) return;
    t.y = 0, ++t.z;
}

// Runs threads that have not started, one after the other on this stack: one that waits keeps the stack,
// and the scheduler starts another worker.
extern "C" void cuda_cpu_worker(char *stack) {
    Block *b = block;
    enter(b->next++);
    while (true) {
        b->threads[b->current].state = Running;
        b->kernel(b->arguments);
        b->threads[b->current].state = Done;
        b->done++;
        // Nothing that waits goes on before all have started: the next one is behind this one.
        if (b->next == b->count) break;
        enter_next();
    }
    b->finished = stack;
    cuda_cpu_switch(&b->left, b->scheduler);
    abort();
}

static char *new_stack() {
    if (block->free_stacks.empty()) {
        void *s = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s == MAP_FAILED) abort();
        return static_cast<char *>(s);
    }
    char *s = block->free_stacks.back();
    block->free_stacks.pop_back();
    return s;
}

static void go_on(void *stack_pointer) {
    cuda_cpu_switch(&block->scheduler, stack_pointer);
    if (block->finished) block->free_stacks.push_back(block->finished);
    block->finished = nullptr;
}

static void start_worker() {
    char *stack = new_stack();
    // Not all at the same place of a page, which would be the same lines of the cache.
    static thread_local unsigned workers;
    void **top = reinterpret_cast<void **>(stack + STACK - (workers++ % 64) * 192);
    *--top = nullptr;
    *--top = nullptr; // Where a call would have returned to, so that the stack is aligned.
    *--top = reinterpret_cast<void *>(cuda_cpu_start);
    *--top = nullptr; // rbp
    *--top = stack;   // rbx
    for (int i = 0; i < 4; i++) *--top = nullptr; // r12 to r15
    go_on(top);
}

static void resume(unsigned thread) {
    enter(thread);
    block->threads[thread].state = Running;
    go_on(block->threads[thread].stack_pointer);
}

// Carries out an exchange of a warp once all lanes that take part are there. Lanes that are done are not
// waited for.
static bool exchange(Thread *lanes, unsigned first, unsigned count) {
    unsigned there = 0, wanted = 0, done = 0;
    for (unsigned l = 0; l < count; l++) {
        if (lanes[l].state == AtExchange) there |= 1u << l, wanted |= lanes[l].mask;
        if (lanes[l].state == Done) done |= 1u << l;
    }
    if (count < WARP) done |= ~0u << count;
    if (!there || wanted & ~done & ~there) return false;
    for (unsigned l = 0; l < count; l++) {
        if (!(there >> l & 1)) continue;
        // What a lane gives that is not there is undefined on a card: one's own here.
        bool is_there = lanes[l].asked < WARP && there >> lanes[l].asked & 1;
        memcpy(lanes[l].gets, lanes[is_there ? lanes[l].asked : l].gives, sizeof lanes[l].gets);
    }
    for (unsigned l = 0; l < count; l++)
        if (there >> l & 1) resume(first + l);
    return true;
}

static bool exchanges() {
    bool any = false;
    for (unsigned first = 0; first < block->count; first += WARP)
        while (exchange(&block->threads[first], first, min(block->count - first, WARP))) any = true;
    return any;
}

static void barrier() {
    unsigned waiting = 0;
    for (unsigned t = 0; t < block->count; t++) waiting += block->threads[t].state == AtBarrier;
    if (waiting + block->done != block->count) {
        fprintf(stderr, "\ncuda-cpu: %s: threads wait for each other for ever\n", operation);
        abort();
    }
    for (unsigned t = 0; t < block->count; t++)
        if (block->threads[t].state == AtBarrier) resume(t);
}

static void run_block() {
    block->next = block->done = 0;
    while (block->next < block->count) start_worker();
    while (block->done < block->count)
        if (!exchanges()) barrier();
}

void run(Kernel *kernel, void **arguments, dim3 grid, dim3 block_dim) {
    static thread_local Block mine;
    block = &mine;
    mine.kernel = kernel, mine.arguments = arguments, mine.count = block_dim.x * block_dim.y * block_dim.z;
    place.grid_dim = grid, place.block_dim = block_dim;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                place.block = {x, y, z};
                run_block();
            }
    place = {};
}

// ---- What kernels call.
extern "C" void cuda_cpu_barrier() { wait(AtBarrier); }
extern "C" int cuda_cpu_lane() { return int(block->current % WARP); }
extern "C" void cuda_cpu_exchange(unsigned mask, void *value, size_t size, int lane) {
    Thread &mine = block->threads[block->current];
    mine.mask = mask, mine.asked = unsigned(lane);
    memcpy(mine.gives, value, size);
    wait(AtExchange);
    memcpy(value, mine.gets, size);
}
extern "C" void cuda_cpu_assert(const char *what, const char *file, int line) {
    fprintf(stderr, "\ncuda-cpu: %s:%d: block %u, thread %u: assertion failed: %s\n", file, line, blockIdx.x, threadIdx.x,
            what);
    abort();
}
} // namespace cuda_cpu
