# Sourced by what builds with a feature of CUDA on a machine without one: the stand-in is built, and cargo uses
# it. $root is the target folder, $stand_ins what build.sh leaves, $quick what cargo is called with.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

root=$PWD/target/cuda-check
stand_ins=$root/stand-ins
mkdir -p "$stand_ins"

# Of its own, so that the usual build keeps its files; without optimisation, debug information and
# incremental files, since nothing here is meant to be fast: 2 GB of disk.
export CARGO_TARGET_DIR=$root CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
export CUDA_HOME=$stand_ins CUDA_COMPUTE_CAP=90 NVCC=$PWD/ci/cuda-cpu/nvcc CUDARC_CUDA_VERSION=13000
export LD_LIBRARY_PATH=$stand_ins/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
optimised=$(sed -n '/^\[profile.dev.package\]/,/^\[profile.release/ s/^\(.*\)\.opt-level = 3$/\1/p' Cargo.toml)
quick=()
for package in $optimised; do quick+=(--config "profile.dev.package.$package.opt-level=0"); done

# Where cargo keeps the sources of a crate.
sources_of() {
    local manifest
    manifest=$(cargo metadata --format-version 1 --locked --features cuda |
        grep -o '"manifest_path":"[^"]*/'"$1"'-[0-9][^/"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
    printf '%s' "${manifest%/Cargo.toml}"
}
ci/cuda-cpu/build.sh "$(sources_of cudarc)" "$(sources_of candle-kernels)" "$stand_ins/lib"
