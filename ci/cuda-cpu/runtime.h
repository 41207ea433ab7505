// What the parts of the stand-in ask of each other. Kernels see `include/cuda_cpu.h` alone.
#pragma once
#include "include/cuda_cpu.h"
#include <string>

namespace cuda_cpu {
typedef uintptr_t Ptr;

// ---- memory.cpp: what lies where, and which of its bytes were written.
constexpr int MOST_DEVICES = 4;
// The device and the operation that this OS thread is at, for checks and for messages.
extern __thread int device __attribute__((tls_model("initial-exec")));
extern __thread const char *operation __attribute__((tls_model("initial-exec")));

Ptr allocate(int of_device, size_t bytes); // 0 where there is no more.
bool release(Ptr p);
// Whether these bytes belong to one living allocation.
bool within(Ptr p, size_t bytes);
// Each ends the program with a message unless the bytes may be read, or written.
void read(Ptr p, size_t bytes);
void write(Ptr p, size_t bytes);
// Copies bytes, written ones and others alike.
void copy_on_device(Ptr to, Ptr from, size_t bytes);

// ---- blocks.cpp
typedef void Kernel(void **arguments);
void run(Kernel *kernel, void **arguments, dim3 grid, dim3 block);

// ---- trace.cpp: a line for all that a device is told to do.
__attribute__((format(printf, 1, 2))) void note(const char *format, ...);
// Counts under a name, for the totals at the end of the program.
void count(const std::string &name);
// Whether `CUDA_CPU_COUNT` asks for counts alone: kernels and products are not run, and give what was there.
bool counts_alone();
} // namespace cuda_cpu

#define API extern "C" __attribute__((visibility("default"))) int
