#!/usr/bin/env bash
# The tests of several processes, by MPI: two and three ranks that train together, fail, are killed and go on; and
# examples by two ranks. Installs MPICH and libclang with apt-get where they are missing (Debian, Ubuntu; as root).
#
#     ci/mpi.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The bindings are made from mpi.h, when they are built, by libclang.
if ! command -v mpicc >/dev/null || ! command -v mpiexec >/dev/null || ! ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1; then
    apt-get update
    apt-get install --yes --no-install-recommends mpich libmpich-dev libclang-dev
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cargo test --locked -p hypernn-tests --features mpi --test mpi

# The same program starts its ranks, or is started as one; each rank of two has a core.
cargo build --locked -p hypernn-examples --features mpi --example mnist --example federated
examples=target/debug/examples
"$examples/mnist" --quick --dataset digits --ranks 2 --out "$scratch/mnist" | tee "$scratch/mnist.out"
grep -q 'Each of 2 ranks put' "$scratch/mnist.out"
export RAYON_NUM_THREADS=1 MPIEXEC_TIMEOUT=600
mpiexec -n 3 "$examples/federated" --quick --dataset digits --deaths 0.1 --out "$scratch/ranks"
# Which rank trains a client, and when, changes nothing.
"$examples/federated" --quick --dataset digits --deaths 0.1 --out "$scratch/alone"
cmp "$scratch/ranks/summary.json" "$scratch/alone/summary.json"
printf '\nSeveral processes train as one.\n'
