// __nv_fp8_e4m3: four bits of exponent, three of mantissa, no infinity.
#pragma once
#include "cuda_fp16.h"
#include "cuda_bf16.h"
enum __nv_fp8_interpretation_t { __NV_E4M3 };
static inline float cuda_cpu_of_f8(unsigned char x) {
    int e = x >> 3 & 15, m = x & 7;
    float v = e == 15 && m == 7 ? NAN : e ? ldexpf(1 + m / 8.f, e - 7) : ldexpf(m / 8.f, -6);
    return x & 128 ? -v : v;
}
static inline unsigned char cuda_cpu_f8(float f) {
    unsigned char s = std::signbit(f) ? 128 : 0;
    f = fabsf(f);
    if (std::isnan(f)) return 0x7f | s;
    if (f >= 448) return 0x7e | s;
    int e = f < 0.015625f ? -6 : ilogbf(f);
    int m = int(nearbyintf(ldexpf(f, 3 - e))); // 8..16, or 0..8 below the normals
    return s | (unsigned char)(e == -6 ? m : ((e + 7) << 3) + (m - 8));
}
struct __nv_fp8_e4m3 {
    unsigned char __x;
    __nv_fp8_e4m3() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    explicit __nv_fp8_e4m3(T v) : __x(cuda_cpu_f8(float(v))) {}
    explicit operator float() const { return cuda_cpu_of_f8(__x); }
};
static inline __half_raw __nv_cvt_fp8_to_halfraw(unsigned char x, __nv_fp8_interpretation_t) {
    return {cuda_cpu_f16(cuda_cpu_of_f8(x))};
}
