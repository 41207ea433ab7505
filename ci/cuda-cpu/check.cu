// Kernels for the check of the stand-in itself, check.cpp: one for each thing that it has to imitate.
#include "cuda_fp16.h"

// Each thread writes where it is.
extern "C" __global__ void check_places(unsigned *out) {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

// Per lane: the sum of the warp by a butterfly, the lane below by a shift, lane 5 by a broadcast.
extern "C" __global__ void check_shuffles(const int *in, int *out) {
    int value = in[threadIdx.x], sum = value;
    for (int with = 16; with; with /= 2) sum += __shfl_xor_sync(~0u, sum, with);
    out[3 * threadIdx.x] = sum;
    out[3 * threadIdx.x + 1] = __shfl_down_sync(~0u, value, 1);
    out[3 * threadIdx.x + 2] = __shfl_sync(~0u, value, 5);
}

// Turned round through shared memory of both kinds, as often as is said. The last threads have left by then.
extern "C" __global__ void check_barriers(const int *in, int *out, int count, int rounds) {
    __shared__ int fixed[1024];
    extern __shared__ int said[];
    if (int(threadIdx.x) >= count) return;
    int value = in[threadIdx.x];
    for (int round = 0; round < rounds; round++) {
        int *shared = round % 2 ? fixed : said;
        shared[threadIdx.x] = value;
        __syncthreads();
        value = shared[count - 1 - threadIdx.x] + 1;
        __syncthreads();
    }
    out[threadIdx.x] = value;
}

extern "C" __global__ void check_atomics(const int *in, int *out, float *sum) {
    int value = in[blockIdx.x * blockDim.x + threadIdx.x];
    atomicAdd(out, value);
    atomicMax(out + 1, value);
    atomicMin(out + 2, value);
    int old = out[3], assumed;
    do {
        assumed = old;
        old = atomicCAS(out + 3, assumed, assumed ^ value);
    } while (assumed != old);
    atomicAdd(sum, float(value));
}

extern "C" __global__ void check_copy(const char *in, char *out, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = in[i];
}
