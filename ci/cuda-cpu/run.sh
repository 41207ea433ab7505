#!/usr/bin/env bash
# Runs what has a device path with `--features cuda` on a machine without a card: candle's kernels compiled for
# the CPU, and a stand-in for the driver that launches them (docs/cuda.md, "The stand-in").
#
#     ci/cuda-cpu/run.sh             # its own checks, the tests, the examples, the negative control
#     ci/cuda-cpu/run.sh --faults    # faults planted in the library, each of which the tests must notice
#     ci/cuda-cpu/run.sh ARGUMENTS   # `cargo test ARGUMENTS`, such as `--test lora` or `--lib -- views`
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# Two devices, so that one can be mixed up with the other.
export HYPERNN_TEST_DEVICE=cuda HYPERNN_REQUIRE_CUDA=1 CUDA_CPU_DEVICES=2
# Of random sizes a few: all of them are run on the CPU.
export PROPTEST_CASES=${PROPTEST_CASES:-12}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CUDA_CPU_TOTALS=$scratch/totals
mkdir "$scratch/trace"

# All members and the same features always, so that nothing is built again.
cuda_test() {
    cargo test --quiet --locked --workspace --features cuda,nccl "${quick[@]}" "$@"
}

# Builds programs: `FOLDER PROGRAM` of each, the folder of its member, in which cargo runs it.
programs() {
    "$@" --quiet --locked --workspace --features cuda,nccl "${quick[@]}" --message-format=json |
        sed -nE 's|.*"manifest_path":"([^"]*)/Cargo.toml".*"executable":"([^"]+)".*|\1 \2|p'
}

# Runs a program in a FOLDER; says what failed, and its processor time in a file of $scratch.
run_program() {
    local folder=$1 program=$2 name code=0
    name=$(basename "$folder")/$(basename "$program")
    name=${name%-????????????????}
    local TIMEFORMAT="%U %S $name" out=$scratch/${name//\//-}
    cd "$folder"
    { time "$program" "${@:3}" >"$out.out" 2>&1 || code=$?; } 2>"$out.time"
    if [ "$code" = 0 ]; then
        printf '%s: %s\n' "$name" "$(grep -m 1 '^test result: ' "$out.out" || echo 'it ran')"
    else
        cat "$out.out"
        printf '%s failed\n' "$name"
    fi
    return "$code"
}
export -f run_program
export scratch

# Test files that have nothing to do with a device or take too long on one: docs/cuda.md says why.
others=(any_condition candle_faults compile_errors foreign_files huge_sizes hygiene
    lints memory model_gradients mpi near_misses operations parallel pretrained_models smollm2 smollm2_adapters
    threads tokenizer writing)
targets=(--lib)
for file in tests/tests/*.rs hypernn-models/tests/*.rs; do
    name=$(basename "$file" .rs)
    [[ " ${others[*]} " == *" $name "* ]] || targets+=(--test "$name")
done

slow='/(quantized|hypernn|cuda|exact_init|second_order|dynamic_sets|dynamic_gradients|audit)-[0-9a-f]*$'

# As many programs at once as there are cores; each writes what its threads tell a device to do, where it counts.
tests() {
    # The macros' own tests need the compiler's libraries, and no device.
    programs cargo test --no-run "${targets[@]}" | grep -v '/hypernn_macros-[0-9a-f]*$' >"$scratch/programs"
    # Those that nothing is computed for.
    grep '/launches-[0-9a-f]*$' "$scratch/programs" | while read -r folder program; do
        CUDA_CPU_COUNT=1 CUDA_CPU_TRACE=$scratch/trace CUDA_CPU_TOTALS='' run_program "$folder" "$program"
    done
    # What takes longest begins first.
    { grep -E "$slow" "$scratch/programs" || true; grep -vE "/launches-[0-9a-f]*$|$slow" "$scratch/programs"; } |
        xargs -P "$(nproc)" -L 1 bash -c 'run_program "$@" --test-threads 1' run_program
}

example() {
    run_program "$PWD" "$root/debug/examples/$1" --quick --device cuda --out "$scratch/$1" "${@:2}"
}
export -f example
export root
examples() {
    mkdir "$scratch/corpus" # Eighteen languages of made-up names.
    for language in {a..r}; do printf "$language%s\n" {a..l} >"$scratch/corpus/$language.txt"; done
    # Digits are in the repository; numbers for words in the place of MiniLM, which would have to be fetched.
    xargs -P "$(nproc)" -L 1 bash -c 'example "$@"' example <<END
text_to_adapter --dataset digits --encoder words --steps 20
mnist --dataset digits --epochs 1
multi_task --datasets digits,digits --epochs 1
doc_to_lora --documents 2 --questions 2
text_to_lora
image_field --dataset digits --steps 8
continual --dataset digits --epochs 1
names --names $scratch/corpus
digits
lunar_lander
sines --steps 20
END
}

summary() {
    printf '\nProcessor seconds, the most first:\n'
    cat "$scratch"/*.time | awk '{ printf "%.1f %s\n", $1 + $2, $3; all += $1 + $2 } END { printf "%.1f in all\n", all }' |
        sort -rn
    awk '/: test result: ok/ { passed += $5 } END { printf "\nTests on the stand-in: %d\n", passed }' "$scratch/tests"
    awk '{ count[$2 == "launch" ? "launches" : $2 == "product" ? "products" : $2 == "copy" ? "copies " $3 : $2 == "set" ? "memsets" : "draws"] += $1
           if ($2 == "product") dtypes[$3]
           else if ($2 == "launch" && match($3, /_(f16|bf16|f32|f64|u8|u32|i64)$/)) dtypes[substr($3, RSTART + 1)]
           if ($2 == "launch") kernels[$3] }
         END { for (name in count) printf "%s: %d\n", name, count[name]
               printf "different kernels: %d\ndtypes:", length(kernels)
               for (dtype in dtypes) printf " %s", dtype
               printf "\n" }' "$CUDA_CPU_TOTALS"
}

must_fail() {
    if cuda_test "$@" >"$scratch/failing" 2>&1; then
        echo "this should have been noticed, but all tests passed"
        exit 1
    fi
    # That they ran, and were not refused by the compiler.
    grep '^test result: FAILED' "$scratch/failing" || { cat "$scratch/failing"; exit 1; }
}

# A change of a file of the library, by sed.
plant() {
    local file=$1 change=$2 copy=$root/faulty
    rm -rf "$copy"
    mkdir "$copy"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy" 2>/dev/null || true
    sed -i "$change" "$copy/$file"
    if cmp -s "$file" "$copy/$file"; then
        echo "there is nothing in $file that '$change' changes"
        exit 1
    fi
    printf '\n== %s: %s\n' "$file" "$change"
    (cd "$copy" && cuda_test --no-run --test cuda && must_fail --test cuda)
    rm -rf "$copy"
}

case ${1:-} in
'') ;;
--faults)
    # Gradients that are not scaled, and a view that starts one value early.
    plant hypernn/src/ops/split/whole.rs 's/with_scale(factors.scale)/with_scale(factors.scale.map(|scale| scale.ones_like()).transpose()?)/'
    plant hypernn/src/ops/split/whole.rs 's/slot.offset, slot.len()/slot.offset.saturating_sub(1), slot.len()/'
    exit
    ;;
*)
    CUDA_CPU_TRACE=$scratch/trace cuda_test "$@"
    exit
    ;;
esac

printf '\n== the stand-in itself\n'
"$stand_ins/lib/check"

printf '\n== tests\n'
tests | tee "$scratch/tests"

printf '\n== examples\n'
programs cargo build --examples >/dev/null
examples

summary

printf '\n== the negative control: products that are 0.1 %% too large\n'
CUDA_CPU_FAULT=product must_fail --test cuda --no-fail-fast golden::
printf '\nAll of this ran on the CPU, and nothing on a card.\n'
