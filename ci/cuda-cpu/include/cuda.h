// The version that kernels ask for.
#pragma once
#define CUDA_VERSION 13000
