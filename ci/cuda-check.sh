#!/usr/bin/env bash
# Type-checks and links the whole workspace with `--features cuda,nccl`, on a machine without the CUDA
# toolkit and without a card. Needs Rust as in rust-toolchain.toml, gcc and g++ 12 or newer, and binutils.
#
#     ci/cuda-check.sh          # the features `cuda` and `nccl`
#     ci/cuda-check.sh cudnn    # the features `cudnn`, which takes in `cuda`, and `nccl`
#
# nvcc and NVIDIA's libraries are stand-ins, by ci/cuda-cpu. Here they have no device: what is linked starts,
# computes on the CPU, and gets candle's own error for `Device::new_cuda(0)`. ci/cuda-cpu/run.sh runs the same
# programs with a device.
set -euo pipefail
source "$(dirname "$0")/cuda-cpu/env.sh"

feature=${1:-cuda},nccl
export CUDA_CPU_DEVICES=0

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

printf '\nThe features %s type-check and link; nothing ran on a card.\n' "$feature"
