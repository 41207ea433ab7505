#!/usr/bin/env bash
# Tests and measures on a card, in eight minutes, and writes one Markdown file.
#
#     ci/cuda-card.sh [FILE]           # on a machine with the card, the CUDA toolkit and Rust: builds and runs
#     ci/cuda-card.sh bundle [FILE]    # on any machine: an archive for one that has the card's driver alone;
#                                      # unpack it there and call `card/run.sh`
#
# `bundle` compiles the kernels with NVIDIA's compiler, which it takes from PyPI with pip, for compute capability
# 8.0 and newer (CUDA_CARD_CAP=80, unless it is set), and links against empty libraries of the names that are
# there on the other machine. CARD_PROFILE=dev builds without optimisation, for a rehearsal.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${CARD_PROFILE:-bench}
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
    nvidia-cuda-cccl==13.0.85)

# The program that `cargo test` or `cargo bench` would run.
features=cuda
program() {
    cargo test --locked --workspace --features "$features" --profile "$profile" "${more[@]}" --no-run \
        --message-format=json "$@" | grep -o '"executable":"[^"]*"' | tail -n 1 | cut -d '"' -f 4
}

# What runs on the card, into a FOLDER.
gather() {
    mkdir -p "$1/peers"
    local tests bench nccl
    tests=$(program --test cuda)
    bench=$(program --bench card)
    # Apart from the others, which are to start where there is no NCCL.
    nccl=$(features=cuda,nccl program --test nccl)
    cp "$tests" "$1/tests"
    cp "$bench" "$1/bench"
    cp "$nccl" "$1/nccl"
    strip "$1/tests" "$1/bench" "$1/nccl"
    cp -r tests/golden ci/cuda-card/run.sh "$1"
    cp ci/cuda-card/peers.py benches/peers/*.py "$1/peers"
    printf 'hypernn %s' "$(git describe --always --dirty 2>/dev/null || echo 'of an unknown commit')" >"$1/version"
}

more=()
if [ "${1:-}" != bundle ]; then
    root=$PWD/target/card
    rm -rf "$root"
    gather "$root"
    exec "$root/run.sh" "${1:-$PWD/card.md}"
fi

out=$(realpath "${2:-card.tar.gz}")
source ci/cuda-cpu/env.sh
root=$PWD/target/cuda-card
export CARGO_TARGET_DIR=$root CUDA_COMPUTE_CAP=${CUDA_CARD_CAP:-80}
# What is compiled for a rehearsal is compiled as ci/cuda-check.sh does.
[ "$profile" != dev ] || more=("${quick[@]}")

compiler() {
    [ ! -e "$root/wheels/complete" ] || return 0
    rm -rf "$root/wheels"
    mkdir -p "$root/wheels"
    python3 -m pip download --quiet --no-deps --dest "$root/wheels" "${wheels[@]}"
    for wheel in "$root"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/wheels"; done
    chmod +x "$root"/wheels/nvidia/cu13/bin/* "$root"/wheels/nvidia/cu13/nvvm/bin/*
    rm "$root"/wheels/*.whl
    touch "$root/wheels/complete"
}

# Libraries of the real names, whose functions do nothing: what is linked looks for NVIDIA's when it starts.
stubs() {
    mkdir -p "$root/stubs/lib"
    local name module file
    for pair in cuda:driver:libcuda.so.1 cublas:cublas:libcublas.so.13 cublasLt:cublaslt:libcublasLt.so.13 \
        curand:curand:libcurand.so.10 nvrtc:nvrtc:libnvrtc.so.13 cudart::libcudart.so.13 nccl:nccl:libnccl.so.2; do
        IFS=: read -r name module file <<<"$pair"
        { [ -z "$module" ] || grep -A1 'extern "C" {' "$(sources_of cudarc)/src/$module/sys/mod.rs"; } |
            sed -n 's/^ *fn \([A-Za-z0-9_]*\)(.*/void \1(void) {}/p' | sort -u |
            cc -x c -shared -fPIC -w -nostdlib -Wl,-soname,"$file" -o "$root/stubs/lib/lib$name.so" -
    done
}

compiler
stubs
export CUDA_HOME=$root/stubs NVCC=$PWD/ci/cuda-card/nvcc CUDA_WHEELS=$root/wheels
rm -rf "$root/card"
gather "$root/card"
tar -C "$root" -czf "$out" card
size=$(($(stat -c %s "$out") >> 20))
printf '%s: %d MiB\n' "$out" "$size"
[ "$size" -lt 60 ] || { echo 'an archive of 60 MiB and more is too large'; exit 1; }
