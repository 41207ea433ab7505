// The functions of libcuda that cudarc calls for candle. Everything is done at once, in the order in which it
// is asked for. `CUDA_CPU_DEVICES` says how many devices there are: one, unless it says otherwise.
#include "runtime.h"
#include <atomic>
#include <cstdlib>
#include <dirent.h>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <vector>

using namespace cuda_cpu;

enum { OK, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE = 100, INVALID_DEVICE, INVALID_IMAGE = 200, INVALID_CONTEXT, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

static int devices() {
    static const int n = [] {
        const char *s = getenv("CUDA_CPU_DEVICES");
        return s ? min(max(atoi(s), 0), MOST_DEVICES) : 1;
    }();
    return n;
}

// ---- devices and contexts
static char contexts[MOST_DEVICES];
API cuInit(unsigned) { return devices() ? OK : NO_DEVICE; }
API cuDriverGetVersion(int *version) { *version = 13000; return OK; }
API cuDeviceGetCount(int *n) { *n = devices(); return OK; }
API cuDeviceGet(int *d, int ordinal) {
    if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
    *d = ordinal;
    return OK;
}
API cuDeviceGetName(char *name, int length, int) { snprintf(name, size_t(length), "a stand-in on the CPU"); return OK; }
API cuDeviceGetUuid_v2(void *uuid, int d) { memset(uuid, d, 16); return OK; }
API cuDeviceTotalMem_v2(size_t *n, int) { *n = size_t(1) << 34; return OK; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 1: *value = 1024; break;    // MAX_THREADS_PER_BLOCK
    case 8: *value = 49152; break;   // MAX_SHARED_MEMORY_PER_BLOCK
    case 10: *value = 32; break;     // WARP_SIZE
    case 16: *value = 132; break;    // MULTIPROCESSOR_COUNT
    case 75: *value = 9; break;      // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = 0; break;      // COMPUTE_CAPABILITY_MINOR
    case 97: *value = 232448; break; // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    case 115: *value = 1; break;     // MEMORY_POOLS_SUPPORTED
    default: fprintf(stderr, "cuda-cpu: attribute %d is not known\n", attribute); return NOT_SUPPORTED;
    }
    return OK;
}
// What is asked for without a context counts as asked of device 0; a card refuses it.
static thread_local bool has_context;
API cuDevicePrimaryCtxRetain(void **c, int d) { *c = &contexts[d]; return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxGetCurrent(void **c) { *c = has_context ? &contexts[device] : nullptr; return OK; }
API cuCtxSetCurrent(char *c) { has_context = c; device = c ? int(c - contexts) : 0; return OK; }
API cuCtxSynchronize() { return OK; }

API cuGetErrorName(int error, const char **s) {
    switch (error) {
    case OK: *s = "CUDA_SUCCESS"; break;
    case INVALID_VALUE: *s = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *s = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case NO_DEVICE: *s = "CUDA_ERROR_NO_DEVICE"; break;
    case INVALID_DEVICE: *s = "CUDA_ERROR_INVALID_DEVICE"; break;
    case INVALID_IMAGE: *s = "CUDA_ERROR_INVALID_IMAGE"; break;
    case INVALID_CONTEXT: *s = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case NOT_FOUND: *s = "CUDA_ERROR_NOT_FOUND"; break;
    case NOT_SUPPORTED: *s = "CUDA_ERROR_NOT_SUPPORTED"; break;
    default: *s = "an error that has no name here"; break;
    }
    return OK;
}
API cuGetErrorString(int, const char **s) { *s = "from the stand-in for CUDA on the CPU"; return OK; }

// ---- memory
static int allocated(Ptr *p, size_t n) { return (*p = allocate(device, n)) ? OK : OUT_OF_MEMORY; }
static int released(Ptr p) { return release(p) ? OK : INVALID_VALUE; }
API cuMemAlloc_v2(Ptr *p, size_t n) { return n ? allocated(p, n) : INVALID_VALUE; }
API cuMemAllocAsync(Ptr *p, size_t n, void *) { return allocated(p, n); } // Nothing at all is allowed here.
API cuMemFree_v2(Ptr p) { return released(p); }
API cuMemFreeAsync(Ptr p, void *) { return released(p); }
API cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = size_t(1) << 34; return OK; }
API cuMemHostAlloc(void **p, size_t n, unsigned) { *p = malloc(n); return OK; }
API cuMemFreeHost(void *p) { free(p); return OK; }

static int to_device(Ptr to, Ptr from, size_t n) {
    if (!within(to, n)) return INVALID_VALUE;
    note("copy to-device %zu", n), count("copy to-device");
    operation = "a copy to the device";
    write(to, n);
    memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), n);
    return OK;
}
static int from_device(Ptr to, Ptr from, size_t n) {
    if (!within(from, n)) return INVALID_VALUE;
    note("copy from-device %zu", n), count("copy from-device");
    operation = "a copy from the device";
    read(from, n);
    memcpy(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), n);
    return OK;
}
static int on_device(Ptr to, Ptr from, size_t n) {
    if (!within(to, n) || !within(from, n)) return INVALID_VALUE;
    note("copy on-device %zu", n), count("copy on-device");
    copy_on_device(to, from, n);
    return OK;
}
static int set(Ptr p, unsigned char value, size_t n) {
    if (!within(p, n)) return INVALID_VALUE;
    note("set %zu", n), count("set");
    operation = "a memset";
    write(p, n);
    memset(reinterpret_cast<void *>(p), value, n);
    return OK;
}
API cuMemcpyHtoD_v2(Ptr to, Ptr from, size_t n) { return to_device(to, from, n); }
API cuMemcpyHtoDAsync_v2(Ptr to, Ptr from, size_t n, void *) { return to_device(to, from, n); }
API cuMemcpyDtoH_v2(Ptr to, Ptr from, size_t n) { return from_device(to, from, n); }
API cuMemcpyDtoHAsync_v2(Ptr to, Ptr from, size_t n, void *) { return from_device(to, from, n); }
API cuMemcpyDtoD_v2(Ptr to, Ptr from, size_t n) { return on_device(to, from, n); }
API cuMemcpyDtoDAsync_v2(Ptr to, Ptr from, size_t n, void *) { return on_device(to, from, n); }
API cuMemcpyPeerAsync(Ptr to, void *, Ptr from, void *, size_t n, void *) { return on_device(to, from, n); }
API cuMemsetD8_v2(Ptr p, unsigned char value, size_t n) { return set(p, value, n); }
API cuMemsetD8Async(Ptr p, unsigned char value, size_t n, void *) { return set(p, value, n); }

// ---- streams and events
static int made(void **handle) { return (*handle = malloc(1)) ? OK : OUT_OF_MEMORY; }
API cuStreamCreate(void **s, unsigned) { return made(s); }
API cuStreamCreateWithPriority(void **s, unsigned, int) { return made(s); }
API cuStreamDestroy_v2(void *s) { free(s); return OK; }
API cuStreamSynchronize(void *) { return OK; }
API cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
API cuStreamIsCapturing(void *, int *status) { *status = 0; return OK; }
API cuEventCreate(void **e, unsigned) { return made(e); }
API cuEventDestroy_v2(void *e) { free(e); return OK; }
API cuEventRecord(void *, void *) { return OK; }
API cuEventSynchronize(void *) { return OK; }
API cuEventQuery(void *) { return OK; }
API cuEventElapsedTime_v2(float *ms, void *, void *) { *ms = 0; return OK; }

// ---- kernels. They lie beside this library, in `kernels/NAME.so`; what a program brings as their code is
// asked for names alone: `cuda-cpu NAME` is one of these files, PTX by NVIDIA's compiler has an entry of each.
struct Function {
    Kernel *kernel = nullptr;
    std::string name;
    std::string counted_as;
    int of_device = 0;
    bool in_strides = false;
    std::atomic<unsigned> launches{0};
};
struct Module {
    std::vector<void *> files;
    std::string ptx;
    int of_device;
    std::map<std::string, Function> functions;
};

static std::string folder() {
    Dl_info here;
    dladdr(contexts, &here);
    std::string path = here.dli_fname;
    return path.substr(0, path.rfind('/') + 1) + "kernels/";
}
static void open_file(Module &m, const std::string &path) {
    if (void *file = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) m.files.push_back(file);
    else fprintf(stderr, "cuda-cpu: %s\n", dlerror());
}
static void open_all(Module &m) {
    DIR *all = opendir(folder().c_str());
    while (dirent *entry = all ? readdir(all) : nullptr)
        if (strstr(entry->d_name, ".so")) open_file(m, folder() + entry->d_name);
    if (all) closedir(all);
}
API cuModuleLoadData(Module **m, const char *image) {
    *m = new Module{{}, image, device, {}};
    if (strncmp(image, "cuda-cpu ", 9)) open_all(**m);
    else open_file(**m, folder() + (image + 9) + ".so"), (*m)->ptx.clear();
    return (*m)->files.empty() ? INVALID_IMAGE : OK;
}
API cuModuleUnload(Module *m) { delete m; return OK; }

static bool find(Module &m, Function &f) {
    for (void *file : m.files) {
        void *found = dlsym(file, ("cuda_cpu_run_" + f.name).c_str());
        if (!found) continue;
        f.kernel = reinterpret_cast<Kernel *>(found), f.in_strides = dlsym(file, "cuda_cpu_in_strides");
        return true;
    }
    return false;
}
static std::mutex lock;
API cuModuleGetFunction(Function **f, Module *m, const char *name) {
    std::lock_guard<std::mutex> guard(lock);
    *f = &m->functions[name];
    if ((*f)->kernel) return OK;
    if (!m->ptx.empty() && m->ptx.find(".entry " + std::string(name) + "(") == std::string::npos) return NOT_FOUND;
    (*f)->name = name, (*f)->counted_as = std::string("launch ") + name, (*f)->of_device = m->of_device;
    return find(*m, **f) ? OK : NOT_FOUND;
}
API cuFuncSetAttribute(Function *, int, int) { return OK; }
API cuFuncGetAttribute(int *value, int, Function *) { *value = 0; return OK; }

// A kernel that takes its values in strides does the same with any number of threads, and candle asks for 1024
// where there are ten values: of a program's launches of it the first, and later one in sixteen, have all threads,
// the others 32.
static dim3 threads(Function &f, dim3 asked) {
    constexpr unsigned ALL_OF_THE_FIRST = 16, ONE_IN = 16, FEW = 32;
    unsigned before = f.launches++;
    bool all = !f.in_strides || before < ALL_OF_THE_FIRST || before % ONE_IN == 0 || asked.y * asked.z > 1;
    return all ? asked : dim3{min(asked.x, FEW), 1, 1};
}

API cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *, void **arguments, void **) {
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || bz > 64) return INVALID_VALUE;
    if (gx > 0x7fffffff || gy > 65535 || gz > 65535 || shared > 49152) return INVALID_VALUE;
    if (f->of_device != device) return INVALID_CONTEXT;
    note("launch %s (%u, %u, %u) (%u, %u, %u)", f->name.c_str(), gx, gy, gz, bx, by, bz), count(f->counted_as);
    operation = f->name.c_str();
    if (counts_alone()) return OK;
    run(f->kernel, arguments, {gx, gy, gz}, threads(*f, {bx, by, bz}));
    return OK;
}
