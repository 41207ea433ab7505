// __half, and what candle's kernels call for it.
#pragma once
#include "cuda_cpu.h"
#include "cuda_cpu_small.h"
static inline unsigned short cuda_cpu_f16(float f) { return cuda_cpu_bits<unsigned short>(_Float16(f)); }
static inline float cuda_cpu_of_f16(unsigned short x) { return float(cuda_cpu_bits<_Float16>(x)); }
CUDA_CPU_SMALL(__half, cuda_cpu_f16, cuda_cpu_of_f16)
typedef __half half;
struct __half_raw { unsigned short x; };
struct __half2 { __half x, y; };
typedef __half2 half2;
static inline float __half2float(__half a) { return a; }
static inline float __half2float(__half_raw a) { return cuda_cpu_of_f16(a.x); }
static inline __half __float2half(float a) { return a; }
static inline unsigned short __half_as_ushort(__half a) { return a.__x; }
static inline __half __ushort_as_half(unsigned short x) { __half a; a.__x = x; return a; }
static inline __half __low2half(__half2 a) { return a.x; }
static inline __half __high2half(__half2 a) { return a.y; }
static inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
static inline __half2 make_half2(__half x, __half y) { return {x, y}; }
static inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
static inline __half2 __hmul2(__half2 a, __half2 b) { return {a.x * b.x, a.y * b.y}; }
static inline __half2 __hadd2(__half2 a, __half2 b) { return {a.x + b.x, a.y + b.y}; }
static inline float __low2float(__half2 a) { return a.x; }
static inline float __high2float(__half2 a) { return a.y; }
