// The functions of cuBLAS and cuRAND that candle calls.
#include "runtime.h"
#include "include/cuda_bf16.h"
#include "include/cuda_fp16.h"
#include <cstdlib>
#include <random>
#include <vector>

using namespace cuda_cpu;

// ---- cuBLAS: products of matrices that lie column after column
enum { BLAS_OK = 0, BLAS_INVALID_VALUE = 7, BLAS_NOT_SUPPORTED = 15 };
API cublasCreate_v2(void **h) { *h = malloc(1); return BLAS_OK; }
API cublasDestroy_v2(void *h) { free(h); return BLAS_OK; }
API cublasSetStream_v2(void *, void *) { return BLAS_OK; }

// A matrix as it lies in the memory of a device.
struct Matrix {
    Ptr start;
    int rows, columns, leading;
    long long stride; // From one of a batch to the next.
};

// One matrix of a batch, row after row, or column after column, so that sums run over neighbours.
template <class T, class S> static std::vector<S> load(const Matrix &m, int index, bool by_rows) {
    const T *first = reinterpret_cast<const T *>(m.start) + m.stride * index;
    std::vector<S> loaded(size_t(m.rows) * size_t(m.columns));
    for (int c = 0; c < m.columns; c++) {
        const T *column = first + size_t(c) * size_t(m.leading);
        read(Ptr(column), size_t(m.rows) * sizeof(T));
        for (int r = 0; r < m.rows; r++)
            loaded[by_rows ? size_t(r) * size_t(m.columns) + size_t(c) : size_t(c) * size_t(m.rows) + size_t(r)] = S(column[r]);
    }
    return loaded;
}

// `CUDA_CPU_FAULT=product` makes every product 0.1 % too large, which tests must notice.
static double planted() {
    static const double factor = [] {
        const char *fault = getenv("CUDA_CPU_FAULT");
        return fault && !strcmp(fault, "product") ? 1.001 : 1.;
    }();
    return factor;
}

// c = alpha × a b + beta × c, where a is turned over with TA and b with TB.
template <class T, class S>
static int product(bool ta, bool tb, S alpha, const Matrix &a, const Matrix &b, S beta, const Matrix &c, int batch) {
    const size_t inner = size_t(ta ? a.rows : a.columns);
    for (int i = 0; i < batch; i++) {
        std::vector<S> left = load<T, S>(a, i, !ta), right = load<T, S>(b, i, tb);
        for (int column = 0; column < c.columns; column++) {
            T *out = reinterpret_cast<T *>(c.start) + c.stride * i + size_t(column) * size_t(c.leading);
            if (beta != S(0)) read(Ptr(out), size_t(c.rows) * sizeof(T));
            write(Ptr(out), size_t(c.rows) * sizeof(T));
            for (int row = 0; row < c.rows; row++) {
                const S *x = &left[size_t(row) * inner], *y = &right[size_t(column) * inner];
                S sum = 0;
#pragma GCC ivdep
                for (size_t k = 0; k < inner; k++) sum += x[k] * y[k];
                out[row] = T(S(planted()) * alpha * sum + (beta == S(0) ? S(0) : beta * S(out[row])));
            }
        }
    }
    return BLAS_OK;
}

struct Call {
    int ta, tb, m, n, k;
    Matrix a, b, c;
    int batch;
};
static bool is_valid(const Call &x) {
    return x.m >= 0 && x.n >= 0 && x.k >= 0 && x.batch >= 0 && x.a.leading >= max(1, x.a.rows) &&
           x.b.leading >= max(1, x.b.rows) && x.c.leading >= max(1, x.m);
}
template <class T, class S> static int multiply(const char *dtype, const Call &x, S alpha, S beta) {
    if (!is_valid(x)) return BLAS_INVALID_VALUE;
    note("product %s %d x %d x %d, %d times", dtype, x.m, x.n, x.k, x.batch), count(std::string("product ") + dtype);
    operation = "a product";
    if (counts_alone()) return BLAS_OK;
    return product<T, S>(x.ta, x.tb, alpha, x.a, x.b, beta, x.c, x.batch);
}
static Call call(int ta, int tb, int m, int n, int k, Ptr a, int lda, long long sa, Ptr b, int ldb, long long sb,
                 Ptr c, int ldc, long long sc, int batch) {
    Matrix of_a{a, ta ? k : m, ta ? m : k, lda, sa}, of_b{b, tb ? n : k, tb ? k : n, ldb, sb};
    return {ta, tb, m, n, k, of_a, of_b, {c, m, n, ldc, sc}, batch};
}

API cublasDgemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const double *alpha, Ptr a, int lda,
                              long long sa, Ptr b, int ldb, long long sb, const double *beta, Ptr c, int ldc,
                              long long sc, int batch) {
    return multiply<double>("f64", call(ta, tb, m, n, k, a, lda, sa, b, ldb, sb, c, ldc, sc, batch), *alpha, *beta);
}
API cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *alpha, Ptr a, int at, int lda,
                               long long sa, Ptr b, int bt, int ldb, long long sb, const void *beta, Ptr c, int ct,
                               int ldc, long long sc, int batch, int compute, int) {
    enum { F32 = 0, F16 = 2, BF16 = 14, COMPUTE_16F = 64 };
    if (at != bt || at != ct) return BLAS_NOT_SUPPORTED;
    auto factor = [&](const void *p) {
        return compute == COMPUTE_16F ? float(*static_cast<const __half *>(p)) : *static_cast<const float *>(p);
    };
    Call x = call(ta, tb, m, n, k, a, lda, sa, b, ldb, sb, c, ldc, sc, batch);
    switch (at) {
    case F32: return multiply<float>("f32", x, factor(alpha), factor(beta));
    case F16: return multiply<__half>("f16", x, factor(alpha), factor(beta));
    case BF16: return multiply<__nv_bfloat16>("bf16", x, factor(alpha), factor(beta));
    default: return BLAS_NOT_SUPPORTED;
    }
}

// ---- cuRAND: the distributions, not NVIDIA's sequences
enum { RAND_OK = 0, LENGTH_NOT_MULTIPLE = 105 };
typedef std::mt19937_64 Random;
API curandCreateGenerator(Random **r, int) { *r = new Random; return RAND_OK; }
API curandDestroyGenerator(Random *r) { delete r; return RAND_OK; }
API curandSetStream(Random *, void *) { return RAND_OK; }
API curandSetPseudoRandomGeneratorSeed(Random *r, unsigned long long seed) { r->seed(seed); return RAND_OK; }
template <class T, class D> static int draw(T *p, size_t n, D one) {
    note("random %zu", n), count("random");
    operation = "drawing";
    write(Ptr(p), n * sizeof(T));
    for (size_t i = 0; i < n; i++) p[i] = one();
    return RAND_OK;
}
template <class T> static int normal(Random *r, T *p, size_t n, T mean, T deviation) {
    if (n % 2) return LENGTH_NOT_MULTIPLE;
    std::normal_distribution<T> drawn(mean, deviation);
    return draw(p, n, [&] { return drawn(*r); });
}
// Uniform in 0..1, without 0 and with 1, as cuRAND's.
API curandGenerateUniform(Random *r, float *p, size_t n) { return draw(p, n, [=] { return float(((*r)() >> 40) + 1) * 0x1p-24f; }); }
API curandGenerateUniformDouble(Random *r, double *p, size_t n) { return draw(p, n, [=] { return double(((*r)() >> 11) + 1) * 0x1p-53; }); }
API curandGenerateNormal(Random *r, float *p, size_t n, float mean, float deviation) { return normal(r, p, n, mean, deviation); }
API curandGenerateNormalDouble(Random *r, double *p, size_t n, double mean, double deviation) { return normal(r, p, n, mean, deviation); }
