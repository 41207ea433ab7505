// __nv_bfloat16, and what candle's kernels call for it.
#pragma once
#include "cuda_cpu.h"
#include "cuda_cpu_small.h"
static inline unsigned short cuda_cpu_bf16(float f) {
    unsigned u = __float_as_uint(f);
    return std::isnan(f) ? 0x7fff : (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline float cuda_cpu_of_bf16(unsigned short x) { return __uint_as_float(unsigned(x) << 16); }
CUDA_CPU_SMALL(__nv_bfloat16, cuda_cpu_bf16, cuda_cpu_of_bf16)
struct __nv_bfloat162 { __nv_bfloat16 x, y; };
static inline float __bfloat162float(__nv_bfloat16 a) { return a; }
static inline __nv_bfloat16 __float2bfloat16(float a) { return a; }
static inline __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }
static inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x + b.x, a.y + b.y}; }
static inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) { return {a.x * b.x, a.y * b.y}; }
