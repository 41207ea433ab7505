// What a kernel of CUDA C++ needs, so that a C++ compiler for the CPU takes it as it is.
#pragma once
#include <cassert>
#include <math.h>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ thread_local // one block at a time on an OS thread
#define __restrict__ __restrict

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct char4 { signed char x, y, z, w; };
struct uchar4 { unsigned char x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return {x, y, z, w}; }

// What blocks.cpp gives to kernels.
namespace cuda_cpu {
struct Place { uint3 thread, block; dim3 block_dim, grid_dim; };
extern __thread Place place __attribute__((tls_model("initial-exec")));
extern "C" void cuda_cpu_barrier();
// Gives VALUE of LANE's thread, once all of the warp have come; 16 bytes at most.
extern "C" void cuda_cpu_exchange(unsigned mask, void *value, size_t size, int lane);
extern "C" int cuda_cpu_lane();
extern "C" void cuda_cpu_assert(const char *what, const char *file, int line) __attribute__((noreturn));

template <class... A, size_t... I>
inline void call(void (*f)(A...), void **args, std::index_sequence<I...>) {
    f(*static_cast<std::remove_cv_t<A> *>(args[I])...);
}
template <class... A> inline void call(void (*f)(A...), void **args) {
    call(f, args, std::index_sequence_for<A...>());
}
} // namespace cuda_cpu

#define threadIdx (cuda_cpu::place.thread)
#define blockIdx (cuda_cpu::place.block)
#define blockDim (cuda_cpu::place.block_dim)
#define gridDim (cuda_cpu::place.grid_dim)
#define warpSize 32
#undef assert
#define assert(x) ((x) ? void() : cuda_cpu::cuda_cpu_assert(#x, __FILE__, __LINE__))

static inline void __syncthreads() { cuda_cpu::cuda_cpu_barrier(); }
static inline void __syncwarp(unsigned mask = ~0u) { char c = 0; cuda_cpu::cuda_cpu_exchange(mask, &c, 1, cuda_cpu::cuda_cpu_lane()); }
template <class T> inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) {
    int lane = cuda_cpu::cuda_cpu_lane(), from = lane ^ with;
    cuda_cpu::cuda_cpu_exchange(mask, &v, sizeof v, from / width <= lane / width ? from : lane);
    return v;
}
template <class T> inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    int lane = cuda_cpu::cuda_cpu_lane(), from = lane + int(by);
    cuda_cpu::cuda_cpu_exchange(mask, &v, sizeof v, from / width == lane / width ? from : lane);
    return v;
}
template <class T> inline T __shfl_sync(unsigned mask, T v, int of, int width = 32) {
    int lane = cuda_cpu::cuda_cpu_lane();
    cuda_cpu::cuda_cpu_exchange(mask, &v, sizeof v, lane / width * width + of % width);
    return v;
}

// Blocks run one after the other, and threads change over at barriers only.
template <class T, class V> inline T atomicAdd(T *p, V v) { T old = *p; *p = old + T(v); return old; }
template <class T, class V> inline T atomicMin(T *p, V w) { T v = T(w); T old = *p; if (v < old) *p = v; return old; }
template <class T, class V> inline T atomicMax(T *p, V w) { T v = T(w); T old = *p; if (old < v) *p = v; return old; }
template <class T> inline T atomicCAS(T *p, T is, T to) { T old = *p; if (old == is) *p = to; return old; }

template <class T, class F> inline T cuda_cpu_bits(F f) { static_assert(sizeof(T) == sizeof f); T t; memcpy(&t, &f, sizeof t); return t; }
static inline float __uint_as_float(unsigned v) { return cuda_cpu_bits<float>(v); }
static inline float __int_as_float(int v) { return cuda_cpu_bits<float>(v); }
static inline unsigned __float_as_uint(float v) { return cuda_cpu_bits<unsigned>(v); }
static inline int __float_as_int(float v) { return cuda_cpu_bits<int>(v); }
static inline double __longlong_as_double(long long v) { return cuda_cpu_bits<double>(v); }
static inline long long __double_as_longlong(double v) { return cuda_cpu_bits<long long>(v); }
template <class T> inline T __ldg(const T *p) { return *p; }

template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b) { using C = std::common_type_t<A, B>; return C(b) < C(a) ? C(b) : C(a); }
template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b) { using C = std::common_type_t<A, B>; return C(a) < C(b) ? C(b) : C(a); }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1 / a; }
static inline unsigned __vsubss4(unsigned a, unsigned b) {
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8) {
        int d = int(int8_t(a >> i)) - int(int8_t(b >> i));
        r |= unsigned(uint8_t(d < -128 ? -128 : d > 127 ? 127 : d)) << i;
    }
    return r;
}
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += int(int8_t(a >> i)) * int(int8_t(b >> i));
    return c;
}
