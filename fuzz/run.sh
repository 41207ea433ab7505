#!/usr/bin/env bash
# Fuzzes the readers of files under AddressSanitizer, each target for so many seconds: fuzz/run.sh [SECONDS].
#
# It does what `cargo fuzz run` does, without that tool, and starts from the files of tests/golden. What it finds
# lies in fuzz/artifacts; the targets are in README.md beside this file.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-300}

# The stable compiler takes the options of an unstable one.
export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
sancov='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
for option in trace-compares inline-8bit-counters pc-table; do
    sancov+=" -Cllvm-args=-sanitizer-coverage-$option"
done
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are compiled without them.
RUSTFLAGS="$sancov -Zsanitizer=address --cfg fuzzing -Cdebug-assertions" cargo build --release --target "$host"

mkdir -p corpus/{pickle,file} artifacts
cp ../tests/golden/*.{pt,safetensors} corpus/file
for archive in ../tests/golden/*.pt; do
    pickle=corpus/pickle/$(basename "$archive").pkl
    unzip -p "$archive" '*/data.pkl' >"$pickle" 2>/dev/null || rm -f "$pickle"
done

for target in pickle file; do
    printf '\n== %s, %d seconds\n' "$target" "$seconds"
    # A file may take 2 GiB and ten seconds, and no more.
    "$CARGO_TARGET_DIR/$host/release/$target" "corpus/$target" -artifact_prefix=artifacts/ \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -print_final_stats=1 2>&1 |
        grep -vE '^#[0-9]+ +(REDUCE|NEW|pulse)'
done
