#!/usr/bin/env bash
# Type-checks and links the whole workspace with `--features cuda`, on a machine without the CUDA
# toolkit and without a card. Needs Rust as in rust-toolchain.toml, cc, c++ and ar.
#
#     ci/cuda-check.sh          # the feature `cuda`
#     ci/cuda-check.sh cudnn    # the feature `cudnn`, which takes in `cuda`
#
# nvcc and NVIDIA's libraries are stand-ins: kernels are empty, and every function of a library says
# that there is no device. So what is linked starts, computes on the CPU, and gets candle's own error
# for `Device::new_cuda(0)`; that is looked at as well. It shows nothing of what a card computes.
set -euo pipefail
cd "$(dirname "$0")/.."

feature=${1:-cuda}
root=$PWD/target/cuda-check
stand_ins=$root/stand-ins
mkdir -p "$stand_ins/lib"

# Of its own, so that the usual build keeps its files; without optimisation, debug information and
# incremental files, since nothing here is meant to be fast: 2 GB of disk.
export CARGO_TARGET_DIR=$root CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
export CUDA_HOME=$stand_ins CUDA_COMPUTE_CAP=90 NVCC=$PWD/ci/nvcc CUDARC_CUDA_VERSION=13000
quick=(--config 'profile.dev.package."*".opt-level=0' --config 'profile.dev.package.hypernn.opt-level=0')

# The functions of a library, as a MODULE of cudarc declares them.
declared() {
    grep -A1 'extern "C" {' "$cudarc/src/$1/sys/mod.rs" | sed -n 's/^ *fn \([A-Za-z0-9_]*\)(.*/\1/p' | sort -u
}

# The names of errors, which cudarc asks the driver for.
errors() {
    echo 'int cuGetErrorName(int e, const char **s) { *s = "CUDA_ERROR_NO_DEVICE"; return 0; }'
    echo 'int cuGetErrorString(int e, const char **s) { *s = "stand-ins have no device"; return 0; }'
}

# A LIBRARY whose functions each return CODE.
stand_in() {
    local library=$1 module=$2 code=$3 object=$stand_ins/$1.o
    {
        declared "$module" | grep -v '^cuGetError' | sed "s/.*/int &(void) { return $code; }/"
        [ "$library" != cuda ] || errors
    } | cc -x c -c -fPIC -w -o "$object" -
    rm -f "$stand_ins/lib/lib$library.a"
    ar crs "$stand_ins/lib/lib$library.a" "$object"
}

cudarc=$(cargo metadata --format-version 1 --locked --features "$feature" |
    grep -o '"manifest_path":"[^"]*/cudarc[^/"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
cudarc=${cudarc%/Cargo.toml}
stand_in cuda driver 100 # CUDA_ERROR_NO_DEVICE
stand_in cublas cublas 1 # …_STATUS_NOT_INITIALIZED, as the next
stand_in cublasLt cublaslt 1
stand_in curand curand 203 # CURAND_STATUS_INITIALIZATION_FAILED
stand_in nvrtc nvrtc 11    # NVRTC_ERROR_INTERNAL_ERROR
stand_in cudnn cudnn 1001  # CUDNN_STATUS_NOT_INITIALIZED
rm -f "$stand_ins/lib/libcudart.a"
ar crs "$stand_ins/lib/libcudart.a" # Named by candle-kernels; nothing of it is called.

printf '\n== type-check and link, --features %s\n' "$feature"
cargo test --locked --workspace --all-targets --no-run --features "$feature" "${quick[@]}"

run() {
    cargo run --quiet --locked --features "$feature" "${quick[@]}" "$@"
}

# Whether TEXT is in what comes on stdin.
says() {
    local found
    found=$(cat)
    [[ $found == *"$1"* ]] || { printf 'expected: %s\nfound: %s\n' "$1" "$found"; exit 1; }
    printf 'it says: %s\n' "$1"
}

printf '\n== a card that is asked for, and one that is not\n'
sines=(run --example sines -- --steps 1 --out "$root/out")
if found=$("${sines[@]}" --device cuda 2>&1); then
    printf 'there is no card, but --device cuda succeeded: %s\n' "$found"
    exit 1
fi
says 'there is no CUDA device 0 here; `--device cpu` always works' <<<"$found"
says 'CUDA_ERROR_NO_DEVICE' <<<"$found"
"${sines[@]}" 2>&1 | says 'no CUDA device, computing on the CPU'
"${sines[@]}" --device cpu 2>&1 | says 'root mean square error over new sines'

printf '\n== the tests for a card\n'
# Those of the CPU are slow without optimisation, and run elsewhere. The whole workspace is named, so
# that nothing is built again with other features.
card=(cargo test --quiet --locked --workspace --features "$feature" "${quick[@]}" --test cuda cuda::)
"${card[@]}" -- --nocapture 2>&1 | says 'skipped: no CUDA device'
if found=$(HYPERNN_REQUIRE_CUDA=1 "${card[@]}" 2>&1); then
    printf 'there is no card, but HYPERNN_REQUIRE_CUDA=1 succeeded: %s\n' "$found"
    exit 1
fi
says 'HYPERNN_REQUIRE_CUDA is set' <<<"$found"

printf '\nThe feature %s type-checks and links; nothing ran on a card.\n' "$feature"
