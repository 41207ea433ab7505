// What devices were told to do. `CUDA_CPU_TRACE` names a folder, in which each OS thread has a file of its own
// that gets a line at once; `CUDA_CPU_TOTALS` a file, to which a program adds counts by name as it ends.
#include "runtime.h"
#include <cstdarg>
#include <cstdlib>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <sys/syscall.h>
#include <unistd.h>

namespace cuda_cpu {
static int open_trace() {
    static const char *const folder = getenv("CUDA_CPU_TRACE");
    if (!folder) return -1;
    std::string path = std::string(folder) + "/" + std::to_string(syscall(SYS_gettid));
    return open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static void append(int file, const std::string &text) {
    if (::write(file, text.data(), text.size()) != ssize_t(text.size())) perror("cuda-cpu: the trace");
}

void note(const char *format, ...) {
    static thread_local int file = open_trace();
    if (file < 0) return;
    char line[256];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line - 1, format, values);
    va_end(values);
    append(file, std::string(line) + "\n");
}

struct Totals {
    std::mutex lock;
    std::map<std::string, size_t> counts;
    ~Totals() {
        const char *path = getenv("CUDA_CPU_TOTALS");
        int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
        if (file < 0) return;
        std::string text;
        for (auto &[name, count] : counts) text += std::to_string(count) + " " + name + "\n";
        append(file, text);
        close(file);
    }
};
static Totals totals;

void count(const std::string &name) {
    std::lock_guard<std::mutex> guard(totals.lock);
    totals.counts[name]++;
}

bool counts_alone() {
    static const bool alone = getenv("CUDA_CPU_COUNT");
    return alone;
}
} // namespace cuda_cpu
