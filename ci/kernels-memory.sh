#!/usr/bin/env bash
# Runs the tests of hypernn-kernels, where the kernels' unsafe code is, under valgrind's memcheck and under
# AddressSanitizer. Needs Linux on x86-64, Rust as in rust-toolchain.toml, a C toolchain and valgrind.
#
#     ci/kernels-memory.sh             # both
#     ci/kernels-memory.sh memcheck    # one of them
#     ci/kernels-memory.sh address
#
# valgrind has no AVX-512: kernels find that out as they do on any processor, and run by AVX2. Under AddressSanitizer
# they run by what the machine has.
set -euo pipefail
cd "$(dirname "$0")/.."

kernels_test() {
    cargo test --quiet --locked -p hypernn-kernels --lib "$@"
}

memcheck() {
    printf '\n== memcheck\n'
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite" \
        kernels_test
}

# Needs an option of rustc's that is not stable. With a target of its own, build scripts and macros are as usual.
address() {
    printf '\n== AddressSanitizer\n'
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/address-sanitizer \
        kernels_test --target x86_64-unknown-linux-gnu
}

case ${1:-both} in
    memcheck | address) "$1" ;;
    both)
        memcheck
        address
        ;;
    *)
        printf 'usage: %s [memcheck | address]\n' "$0" >&2
        exit 2
        ;;
esac
printf '\nNo errors.\n'
