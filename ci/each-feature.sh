#!/usr/bin/env bash
# Checks the libraries with none of their features, with each one alone, and with all that the CPU can have together; and
# a new project from the folder `template`. Nothing else of the workspace is looked at, so that no feature that another
# member, a test or an example asks for hides one that is missing. cuda and cudnn are checked by ci/cuda-check.sh, mpi by
# ci/mpi.sh.
#
#     ci/each-feature.sh FOLDER    # builds there
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:?a folder to build in}")
export CARGO_TARGET_DIR=$folder/target RUSTFLAGS="-D warnings"

check() {
    printf '\n== cargo check %s\n' "$*"
    cargo check --quiet "$@"
}

check --locked -p hypernn-kernels --lib
for features in '' serde tracing serde,tracing; do
    check --locked -p hypernn --lib --no-default-features --features "$features"
done
check --locked -p hypernn-models --lib --no-default-features

printf '\n== a new project\n'
# As cargo-generate does it, with the crates of this workspace in place of those of crates.io.
rm -rf "$folder/spirals"
cp -r template "$folder/spirals"
sed -i 's/{{project-name}}/spirals/' "$folder/spirals/Cargo.toml"
printf '\n[patch.crates-io]\nhypernn = { path = "%s/hypernn" }\n\n[workspace]\n' "$PWD" >>"$folder/spirals/Cargo.toml"
cp Cargo.lock "$folder/spirals"
check --manifest-path "$folder/spirals/Cargo.toml"
