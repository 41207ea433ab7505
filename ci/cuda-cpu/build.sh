#!/usr/bin/env bash
# Builds the stand-in for CUDA: build.sh CUDARC KERNELS FOLDER, of which the first two are the sources of the
# crates cudarc and candle-kernels. It leaves in FOLDER
#
#     libcuda.so          driver, cuBLAS, cuRAND and NCCL; what else cudarc declares returns an error
#     lib….a, empty       for the other libraries that are linked; libcudnn.a returns errors
#     kernels/NAME.so     candle's kernels, compiled for the CPU
#     check               a program that checks all this
#
# and does nothing where that was made of the same files.
set -euo pipefail
cudarc=$(realpath "$1") kernels=$(realpath "$2") here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$3/kernels" "$3/objects"
cd "$3"

made_of=$(cat "$here"/{build.sh,*.cpp,*.cu,*.h} "$here"/include/{*.h,cuda/std/*} "$kernels"/src/*.cu* | sha256sum; g++ --version)
if [ "$(cat made-of 2>/dev/null)" = "$made_of" ]; then exit; fi
rm -f made-of kernels/* objects/*

# ---- libraries

# The functions of a library, as a MODULE of cudarc declares them, each of which returns CODE.
declared() {
    grep -A1 'extern "C" {' "$cudarc/src/$1/sys/mod.rs" |
        sed -n "s/^ *fn \([A-Za-z0-9_]*\)(.*/int \1(void) { return $2; }/p" | sort -u
}
object() { # NAME, of C on stdin
    cc -x c -c -fPIC -w -o "objects/$1.o" -
}
archive() { # LIBRARY [OBJECT]
    rm -f "lib$1.a"
    ar crs "lib$1.a" ${2:+"objects/$2.o"}
}
{ declared driver 801; declared cublas 15; declared cublaslt 15; declared curand 1000; declared nvrtc 11; declared nccl 5; } | object others
# Those that are written win.
objcopy --weaken objects/others.o
parts=()
for part in blocks driver libraries memory nccl trace; do
    # A thread's own variables are where they are, without a function that asks.
    g++ -std=c++17 -O3 -fPIC -c -fno-extern-tls-init -fno-strict-aliasing -Wall -Wextra \
        -o "objects/$part.o" "$here/$part.cpp"
    parts+=("objects/$part.o")
done
g++ -shared -o libcuda.so "${parts[@]}" objects/others.o -ldl
g++ -std=c++17 -O1 -Wall -Wextra -o check "$here/check.cpp" -L . -lcuda -Wl,-rpath,'$ORIGIN'
for library in cublas cublasLt curand nvrtc cudart nccl; do archive "$library"; done
declared cudnn 1001 | object cudnn # CUDNN_STATUS_NOT_INITIALIZED
archive cudnn cudnn

# ---- kernels

# Whether all kernels of a source take their values in strides, which goes with any number of threads: nothing asks
# where a thread is but `i = blockIdx.x * blockDim.x + threadIdx.x` and `i += blockDim.x * gridDim.x`, and none
# waits for another.
in_strides() {
    local text count
    text=$(cat "$1" $(sed -n 's|^#include "\(.*_macros.cuh\)"|'"$kernels"'/src/\1|p' "$1"))
    count() { grep -oE "$1" <<<"$text" | wc -l; }
    ! grep -qE '__shared__|__sync|__shfl|atomic|warp' <<<"$text" &&
        [ "$(count threadIdx) $(count blockIdx) $(count gridDim) $(count blockDim)" = "$(
            starts=$(count 'blockIdx\.x \* blockDim\.x \+ threadIdx\.x')
            strides=$(count '\+= blockDim\.x \* gridDim\.x')
            echo "$starts $starts $strides $((2 * strides))")" ]
}

# A wrapper of NAME.cu has a function for each kernel that takes its arguments as a launch does, and the arrays
# of shared memory whose size a launch says: 48 KiB of ints.
kernel() {
    local source=$1 out=kernels/$(basename "$1" .cu)
    local flags=(-std=c++17 -fno-extern-tls-init -fno-strict-aliasing -w -I "$here/include" -I "$kernels/src" -include cuda_cpu.h)
    g++ "${flags[@]}" -E -P -x c++ "$source" -o "$out.ii"
    {
        printf '#include "%s"\n' "$source"
        tr '\n' ' ' <"$out.ii" |
            grep -oE 'extern *"C" *(__attribute__\(\([^)]*\)\))? *void *[A-Za-z0-9_]+ *\(' |
            grep -vE 'void *cuda_cpu_' |
            sed -E 's/.*void *([A-Za-z0-9_]+) *\(/extern "C" void cuda_cpu_run_\1(void **a) { cuda_cpu::call(\1, a); }/' |
            sort -u
        if in_strides "$source"; then echo 'extern "C" { extern const char cuda_cpu_in_strides = 1; }'; fi
        sed -nE 's/.*extern (thread_local [A-Za-z0-9_]+ [A-Za-z0-9_]+)\[\].*/\1[12288];/p' "$out.ii" | sort -u
    } >"$out.cpp"
    # With the calls of a thread sanitizer, whose library is not linked: memory.cpp answers them.
    g++ "${flags[@]}" -O1 -fPIC -c -fsanitize=thread --param tsan-instrument-func-entry-exit=0 \
        -o "$out.o" "$out.cpp"
    g++ -shared -o "$out.so" "$out.o"
    rm "$out.ii" "$out.cpp" "$out.o"
}
export -f kernel in_strides
export here kernels
# Those that are loaded; candle links others, which hypernn never calls.
find "$kernels/src" -maxdepth 1 -name '*.cu' ! -name mmvq_gguf.cu -print0 | sort -z |
    { cat; printf '%s\0' "$here/check.cu"; } |
    xargs -0 -P "$(nproc)" -I SOURCE bash -euo pipefail -c 'kernel SOURCE'

printf '%s' "$made_of" >made-of
