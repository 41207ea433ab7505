// Checks the stand-in itself: its own kernels and candle's against plain loops, products of every layout, and
// that each misuse of memory is found. Uses it as candle does, by the functions of the driver.
#include "include/cuda_bf16.h"
#include "include/cuda_fp16.h"
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>
#undef assert
#undef threadIdx

typedef uintptr_t Ptr;
extern "C" {
int cuInit(unsigned);
int cuCtxSetCurrent(void *);
int cuDevicePrimaryCtxRetain(void **, int);
int cuMemAlloc_v2(Ptr *, size_t);
int cuMemFree_v2(Ptr);
int cuMemcpyHtoD_v2(Ptr, const void *, size_t);
int cuMemcpyDtoH_v2(void *, Ptr, size_t);
int cuMemcpyDtoD_v2(Ptr, Ptr, size_t);
int cuMemsetD8_v2(Ptr, unsigned char, size_t);
int cuModuleLoadData(void **, const char *);
int cuModuleGetFunction(void **, void *, const char *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
int cublasDgemmStridedBatched(void *, int, int, int, int, int, const double *, Ptr, int, long long, Ptr, int, long long, const double *, Ptr, int, long long, int);
int cublasGemmStridedBatchedEx(void *, int, int, int, int, int, const void *, Ptr, int, int, long long, Ptr, int, int, long long, const void *, Ptr, int, int, long long, int, int, int);
}

static int checks;
static void expect(bool holds, const std::string &what) {
    checks++;
    if (holds) return;
    fprintf(stderr, "cuda-cpu, its own check: %s\n", what.c_str());
    exit(1);
}
static void must(int error, const char *what) { expect(error == 0, std::string(what) + " gave " + std::to_string(error)); }

// Values in the memory of a device.
template <class T> struct Values {
    Ptr p = 0;
    size_t count;
    explicit Values(size_t count) : count(count) { must(cuMemAlloc_v2(&p, count * sizeof(T)), "allocating"); }
    explicit Values(const std::vector<T> &v) : Values(v.size()) { must(cuMemcpyHtoD_v2(p, v.data(), count * sizeof(T)), "copying"); }
    Values(const Values &) = delete;
    ~Values() { cuMemFree_v2(p); }
    std::vector<T> get() const {
        std::vector<T> v(count);
        must(cuMemcpyDtoH_v2(v.data(), p, count * sizeof(T)), "copying");
        return v;
    }
};

static void *function_of(const char *file, const std::string &name) {
    void *module, *function;
    must(cuModuleLoadData(&module, (std::string("cuda-cpu ") + file).c_str()), "loading");
    must(cuModuleGetFunction(&function, module, name.c_str()), name.c_str());
    return function;
}
static void launch(void *function, const std::string &name, dim3 grid, dim3 block, unsigned shared, std::vector<void *> arguments) {
    must(cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, nullptr, arguments.data(), nullptr), name.c_str());
}
static void launch(const char *file, const std::string &name, dim3 grid, dim3 block, unsigned shared, std::vector<void *> arguments) {
    launch(function_of(file, name), name, grid, block, shared, arguments);
}

// Numbers in -1..1, as they are in T.
template <class T> std::vector<T> numbers(size_t count, unsigned seed) {
    std::vector<T> v(count);
    unsigned state = seed * 2654435761u + 1;
    for (auto &x : v) state = state * 1664525 + 1013904223, x = T(float(int(state >> 8 & 0xffff) - 32768) / 32768);
    return v;
}
template <class T> struct Named;
template <> struct Named<float> { static constexpr const char *name = "f32"; static constexpr double precision = 1e-6; };
template <> struct Named<double> { static constexpr const char *name = "f64"; static constexpr double precision = 1e-14; };
template <> struct Named<__half> { static constexpr const char *name = "f16"; static constexpr double precision = 1e-3; };
template <> struct Named<__nv_bfloat16> { static constexpr const char *name = "bf16"; static constexpr double precision = 8e-3; };

template <class T> static void close_to(const std::vector<T> &found, const std::vector<double> &expected, double bound, std::string what) {
    double worst = 0, scale = 0;
    for (size_t i = 0; i < found.size(); i++) {
        double error = fabs(double(found[i]) - expected[i]);
        worst = error <= worst ? worst : error; // Not a number is the worst.
        scale = std::max(scale, fabs(expected[i]));
    }
    expect(worst <= bound * scale, what + " in " + Named<T>::name + " is off by " + std::to_string(worst / scale));
}

// ---- its own kernels
static void places() {
    Values<unsigned> out(2 * 3 * 4 * 5 * 2 * 3);
    launch("check", "check_places", {2, 3, 4}, {5, 2, 3}, 0, {&out.p});
    auto found = out.get();
    for (unsigned i = 0; i < found.size(); i++) expect(found[i] == i / 30 * 1000 + i % 30, "threads are in their places");
}
static void shuffles() {
    std::vector<int> in(64);
    for (int i = 0; i < 64; i++) in[size_t(i)] = i * i;
    Values<int> of_in(in), out(192);
    launch("check", "check_shuffles", {1, 1, 1}, {64, 1, 1}, 0, {&of_in.p, &out.p});
    auto found = out.get();
    for (size_t i = 0; i < 64; i++) {
        size_t first = i / 32 * 32;
        int sum = 0;
        for (size_t l = first; l < first + 32; l++) sum += in[l];
        expect(found[3 * i] == sum, "a butterfly of shuffles");
        expect(found[3 * i + 1] == in[i % 32 == 31 ? i : i + 1], "a shuffle down");
        expect(found[3 * i + 2] == in[first + 5], "a broadcast");
    }
}
static void barriers() {
    for (int rounds : {1, 2, 7}) {
        int count = 77;
        std::vector<int> in;
        for (int i = 0; i < count; i++) in.push_back(i);
        Values<int> of_in(in), out(in.size());
        launch("check", "check_barriers", {1, 1, 1}, {96, 1, 1}, 96 * 4, {&of_in.p, &out.p, &count, &rounds});
        auto found = out.get();
        for (int i = 0; i < count; i++) expect(found[size_t(i)] == (rounds % 2 ? count - 1 - i : i) + rounds, "barriers and shared memory");
    }
}
static void atomics() {
    std::vector<int> in(4 * 64);
    int sum = 0, largest = -1000, least = 1000, all = 0;
    for (int i = 0; i < 256; i++) {
        int value = in[size_t(i)] = i * 37 % 101 - 50;
        sum += value, largest = std::max(largest, value), least = std::min(least, value), all ^= value;
    }
    Values<int> of_in(in), out(std::vector<int>{0, -1000, 1000, 0});
    Values<float> of_sum(std::vector<float>{0});
    launch("check", "check_atomics", {4, 1, 1}, {64, 1, 1}, 0, {&of_in.p, &out.p, &of_sum.p});
    expect(out.get() == std::vector<int>{sum, largest, least, all} && of_sum.get()[0] == float(sum), "atomics");
}

// ---- candle's kernels, in each dtype
// As often as it takes to have been launched with few threads too.
template <class T> static void affine() {
    size_t count = 5000, dims = 1;
    auto in = numbers<T>(count, 1);
    std::vector<double> expected;
    for (auto x : in) expected.push_back(2 * double(x) + 1);
    Ptr none = 0;
    T by = T(2.f), plus = T(1.f);
    std::string name = std::string("affine_") + Named<T>::name;
    void *function = function_of("affine", name);
    for (int time = 0; time < 20; time++) {
        Values<T> xs(in), ys(count);
        launch(function, name, {5, 1, 1}, {1024, 1, 1}, 0, {&count, &dims, &none, &xs.p, &ys.p, &by, &plus});
        close_to(ys.get(), expected, Named<T>::precision, "affine");
    }
}
template <class T> static void sums(size_t rows, size_t columns, unsigned block) {
    auto in = numbers<T>(rows * columns, 2);
    Values<T> xs(in), ys(rows);
    Values<size_t> info(std::vector<size_t>{rows, columns, columns, 1});
    size_t count = in.size(), dims = 2;
    launch("reduce", std::string("fast_sum_") + Named<T>::name, {unsigned(rows), 1, 1}, {block, 1, 1}, 0, {&count, &columns, &dims, &info.p, &xs.p, &ys.p});
    std::vector<double> expected(rows);
    for (size_t i = 0; i < count; i++) expected[i / columns] += double(in[i]);
    close_to(ys.get(), expected, 20 * Named<T>::precision, "a sum");
}
template <class T> static void softmax() {
    int columns = 45;
    auto in = numbers<T>(3 * 45, 3);
    Values<T> xs(in), ys(in.size());
    launch("reduce", std::string("softmax_") + Named<T>::name, {3, 1, 1}, {1, 32, 1}, 0, {&xs.p, &ys.p, &columns});
    std::vector<double> expected, sum(3);
    for (size_t i = 0; i < in.size(); i++) sum[i / 45] += exp(double(in[i]));
    for (size_t i = 0; i < in.size(); i++) expected.push_back(exp(double(in[i])) / sum[i / 45]);
    // Some of it is in single precision, whatever the dtype.
    close_to(ys.get(), expected, std::max(2 * Named<T>::precision, 1e-6), "softmax");
}
template <class T> static void layer_norm() {
    int columns = 1500, block = 1024;
    float eps = 1e-5f;
    auto in = numbers<T>(2 * 1500, 4), alpha = numbers<T>(1500, 5), beta = numbers<T>(1500, 6);
    Values<T> xs(in), ys(in.size()), of_alpha(alpha), of_beta(beta);
    launch("reduce", std::string("layernorm_") + Named<T>::name, {2, 1, 1}, {1024, 1, 1}, 0, {&xs.p, &ys.p, &of_alpha.p, &of_beta.p, &columns, &block, &eps});
    std::vector<double> expected;
    for (size_t row = 0; row < 2; row++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < 1500; i++) mean += double(in[row * 1500 + i]) / 1500;
        for (size_t i = 0; i < 1500; i++) square += pow(double(in[row * 1500 + i]) - mean, 2) / 1500;
        for (size_t i = 0; i < 1500; i++) expected.push_back((double(in[row * 1500 + i]) - mean) / sqrt(square + 1e-5) * double(alpha[i]) + double(beta[i]));
    }
    close_to(ys.get(), expected, std::max(4 * Named<T>::precision, 2e-5), "layer norm");
}
template <class T> static void sorts() {
    int columns = 100, padded = 128;
    auto in = numbers<T>(100, 7);
    Values<T> xs(in);
    Values<unsigned> order(100);
    for (bool up : {true, false}) {
        launch("sort", std::string(up ? "asort_asc_" : "asort_desc_") + Named<T>::name, {1, 1, 1}, {128, 1, 1}, 128 * 4, {&xs.p, &order.p, &columns, &padded});
        auto found = order.get();
        for (size_t i = 1; i < 100; i++) {
            float before = float(in[found[i - 1]]), after = float(in[found[i]]);
            expect(up ? before <= after : before >= after, std::string("sorting in ") + Named<T>::name);
        }
    }
}

// ---- products
static int multiply(int ta, int tb, int m, int n, int k, const double *alpha, Ptr a, int lda, long long sa, Ptr b, int ldb, long long sb, const double *beta, Ptr c, int ldc, long long sc, int batch, double) {
    return cublasDgemmStridedBatched(nullptr, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch);
}
template <class T> static int multiply(int ta, int tb, int m, int n, int k, const double *alpha, Ptr a, int lda, long long sa, Ptr b, int ldb, long long sb, const double *beta, Ptr c, int ldc, long long sc, int batch, T) {
    int dtype = std::is_same_v<T, float> ? 0 : std::is_same_v<T, __half> ? 2 : 14;
    float by = float(*alpha), plus = float(*beta);
    return cublasGemmStridedBatchedEx(nullptr, ta, tb, m, n, k, &by, a, dtype, lda, sa, b, dtype, ldb, sb, &plus, c, dtype, ldc, sc, batch, 68, -1);
}
template <class T> static void product(int ta, int tb, long long sa, double alpha, double beta) {
    const int m = 5, n = 4, k = 7, batch = 3, lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ldc = m + 1;
    const long long sb = ldb * 8, sc = ldc * n + 3;
    auto a = numbers<T>(300, 8), b = numbers<T>(300, 9), c = numbers<T>(200, 10);
    Values<T> of_a(a), of_b(b), of_c(c);
    must(multiply(ta, tb, m, n, k, &alpha, of_a.p, lda, sa, of_b.p, ldb, sb, &beta, of_c.p, ldc, sc, batch, T()), "a product");
    std::vector<double> expected(c.begin(), c.end());
    auto at = [](const std::vector<T> &v, long long first, int row, int column, int leading, bool turned) {
        return double(v[size_t(first + (turned ? row * leading + column : column * leading + row))]);
    };
    for (int i = 0; i < batch; i++)
        for (int row = 0; row < m; row++)
            for (int column = 0; column < n; column++) {
                double sum = 0;
                for (int l = 0; l < k; l++) sum += at(a, sa * i, row, l, lda, ta) * at(b, sb * i, l, column, ldb, tb);
                double &out = expected[size_t(sc * i + column * ldc + row)];
                out = alpha * sum + beta * out;
            }
    close_to(of_c.get(), expected, 4 * Named<T>::precision, "a product");
}

template <class T> static void in_dtype() {
    affine<T>(), sums<T>(7, 1000, 1024), sums<T>(3, 37, 64), softmax<T>(), layer_norm<T>(), sorts<T>();
    for (int ta : {0, 1})
        for (int tb : {0, 1})
            for (long long stride : {0, 70}) product<T>(ta, tb, stride, 1, 0), product<T>(ta, tb, stride, 0.5, 1);
}

// ---- misuses of memory, each in a process of its own, which must end with a message
static void ends(const char *expected, const std::function<void()> &misuse) {
    int pipe_of[2];
    if (pipe(pipe_of)) abort();
    pid_t child = fork();
    if (!child) {
        dup2(pipe_of[1], 2);
        misuse();
        _exit(0);
    }
    close(pipe_of[1]);
    std::string said;
    char part[256];
    for (ssize_t n; (n = read(pipe_of[0], part, sizeof part)) > 0;) said.append(part, size_t(n));
    close(pipe_of[0]);
    int status = 0;
    waitpid(child, &status, 0);
    expect(WIFSIGNALED(status) && said.find(expected) != std::string::npos, std::string("this must end with '") + expected + "', it said: " + said);
}
static void copy(Ptr from, Ptr to, int count) { launch("check", "check_copy", {1, 1, 1}, {32, 1, 1}, 0, {&from, &to, &count}); }
static void misuses(void *second_device) {
    Values<char> written(std::vector<char>(40, 'x')), fresh(40), released(40);
    cuMemsetD8_v2(released.p, 0, 40);
    copy(written.p, fresh.p, 39);
    ends("reads what was never written, 1 bytes at byte 39 of an allocation of 40", [&] { copy(fresh.p, written.p, 40); });
    ends("check_copy on device 0, block (0, 0, 0), thread (8, 0, 0): reads out of range, 1 bytes at byte 40", [&] { copy(written.p, fresh.p, 41); });
    ends("writes out of range", [&] { copy(written.p, fresh.p + 10, 40); });
    ends("that were released", [&] { cuMemFree_v2(released.p), copy(released.p, fresh.p, 1); });
    ends("never written", [&] { Values<char> v(8); v.get(); });
    ends("never written", [&] { Values<char> v(8); must(cuMemcpyDtoD_v2(written.p, v.p, 8), "copying"), written.get(); });
    ends("of device 0", [&] { cuCtxSetCurrent(second_device), copy(written.p, fresh.p, 1); });
    ends("a product on device 0, block (0, 0, 0), thread (0, 0, 0): reads out of range", [&] { Values<float> v(std::vector<float>(16)), w(17); double one = 1, zero = 0; multiply(0, 0, 4, 4, 5, &one, v.p, 4, 0, w.p, 5, 0, &zero, w.p, 4, 0, 1, 0.f); });
    expect(cuMemcpyHtoD_v2(written.p, "abc", 41) == 1, "a copy past the end is an invalid value");
    expect(cuMemFree_v2(written.p + 1) == 1, "what was not allocated can't be released");
}

int main() {
    setenv("CUDA_CPU_DEVICES", "2", 1);
    must(cuInit(0), "starting");
    void *first, *second;
    must(cuDevicePrimaryCtxRetain(&first, 0), "a context"), must(cuDevicePrimaryCtxRetain(&second, 1), "a context");
    must(cuCtxSetCurrent(first), "a context");
    places(), shuffles(), barriers(), atomics();
    in_dtype<float>(), in_dtype<double>(), in_dtype<__half>(), in_dtype<__nv_bfloat16>();
    misuses(second);
    printf("The stand-in for CUDA: %d checks of its own.\n", checks);
}
