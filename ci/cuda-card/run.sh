#!/usr/bin/env bash
# Tests and measures on this machine's first card, and writes one Markdown file: run.sh [FILE]. It needs what lies
# beside it and the card's driver, with cuBLAS and cuRAND of CUDA 13, which PyTorch for CUDA 13 brings as well;
# where a Python here has PyTorch or JAX for CUDA, these are measured too (PYTHON says which, python3 else).
# Ends within eight minutes, and prints as it goes.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$PWD/card.md} python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export HYPERNN_GOLDEN=$here/golden HYPERNN_REQUIRE_CUDA=1

# Libraries that PyTorch brought, where the system has none.
brought=$("$python" -c 'import site, glob
print(":".join(f for s in site.getsitepackages() + [site.getusersitepackages()] for f in glob.glob(s + "/nvidia/*/lib")))' 2>/dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$brought

# SECONDS counts from the start of this script. CARD_SECONDS is for a rehearsal on something slower than a card:
# all limits grow with it.
all=${CARD_SECONDS:-480}
left() { echo $((all - 10 - SECONDS > 5 ? all - 10 - SECONDS : 5)); }
# At most so many of 480 seconds, and never past the end; 124 or 137 where that was not enough.
within() {
    local most=$(($1 * all / 480))
    shift
    timeout -k 3 "$(($(left) < most ? $(left) : most))" "$@"
}

tests() {
    local start=$SECONDS
    HYPERNN_TEST_DEVICE=cuda within 150 "$here/tests" 2>&1 | tee "$scratch/tests"
    case ${PIPESTATUS[0]} in
    0) verdict='all passed' ;;
    124 | 137) verdict="**stopped after $((SECONDS - start)) seconds**, when $(grep -c '\.\.\. ok$' "$scratch/tests") had passed" ;;
    *) verdict='**failed**' ;;
    esac
}
# One rank for each of the first two cards; NCCL is PyTorch's where the system has none.
over_nccl() {
    if ldd "$here/nccl" | grep -q 'libnccl.* not found'; then
        nccl_verdict='there is no NCCL here'
    elif within 40 "$here/nccl" 2>&1 | tee "$scratch/nccl"; [ "${PIPESTATUS[0]}" = 0 ]; then
        nccl_verdict='all passed'
    else
        nccl_verdict='**failed**, or did not come to an end'
    fi
    printf '%s\n' "$nccl_verdict"
}
# Into FILE, what did not come to its end included.
measure() { # FILE NAME SECONDS COMMAND
    local start=$SECONDS code
    within "${@:3}" 2>"$scratch/errors" | tee -a "$scratch/$1"
    code=${PIPESTATUS[0]}
    case $code in
    0) return ;;
    124 | 137) printf '# %s: stopped after %d seconds; what it had not come to is missing\n' "$2" $((SECONDS - start)) ;;
    *) printf '# %s: ended with %d: %s\n' "$2" "$code" "$(tail -n 1 "$scratch/errors")" ;;
    esac | tee -a "$scratch/$1"
}
peer() { # NAME SECONDS
    if "$python" -c "import ${1%_*}" 2>/dev/null; then
        PYTHONPATH=$here/peers measure cases "$1" "$2" "$python" "$here/peers/peers.py" "$1" 0.2
    else
        printf '# no %s here\n' "$1" | tee -a "$scratch/cases"
    fi
}

printf '== tests\n'
tests
printf '\n== several ranks, by NCCL\n'
over_nccl
printf '\n== the cases of the table\n'
measure cases hypernn 100 "$here/bench" cases 0.2
printf '\n== larger batches\n'
measure batches 'larger batches' 90 "$here/bench" batches 0.2
# What compiles for minutes comes last, and gets what is left.
printf '\n== others, where they are here\n'
peer torch 80
peer jax 80
peer torch_compiled 300

# ---- the file

# Milliseconds of each who beside each other: WHO… of one dtype.
table() {
    awk -v whos="$*" 'BEGIN {
            n = split(whos, who, " ")
            printf "| |"; for (i = 1; i <= n; i++) printf " %s |", who[i]
            printf "\n|---|"; for (i = 1; i <= n; i++) printf "---|"
            printf "\n"
        }
        /^[a-z]/ {
            split($1, path, "/"); row = path[1] " " path[2]; by = path[3] " " path[4]
            if (!(row in seen)) { seen[row] = 1; rows[++count] = row }
            value[row, by] = $2 == "failed:" ? "failed" : $2
        }
        END {
            for (r = 1; r <= count; r++) {
                line = "| " rows[r] " |"; any = 0
                for (i = 1; i <= n; i++) {
                    key = who[i]; sub(/:/, " ", key)
                    found = value[rows[r], key]; any = any || found != ""
                    line = line " " found " |"
                }
                if (any) print line
            }
        }'
}
{
    printf '# hypernn on a CUDA device, %s\n\n' "$(date -u +%F)"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | sed 's/^/- /'
    [ "${PIPESTATUS[0]}" = 0 ] || printf -- '- **There is no nvidia-smi: nothing says that this was a card.**\n'
    printf -- '- %s\n' "$(cat "$here/version")"
    cat "$scratch/cases" "$scratch/batches" | grep '^# ' | sed 's/^# /- /'
    printf '\n## Tests\n\nOf `tests/tests/cuda.rs` with `HYPERNN_REQUIRE_CUDA=1`: %s.\n\n```text\n' "$verdict"
    grep -E '^test result|^test .*FAILED|panicked' "$scratch/tests"
    printf '```\n\nOf `tests/tests/nccl.rs`: %s.\n' "$nccl_verdict"
    printf '\n## The cases of the table, milliseconds\n\n'
    table hypernn:f32 candle:f32 plain_candle:f32 torch:f32 torch_compiled:f32 jax:f32 <"$scratch/cases"
    printf '\n## Sets of weights at once, forward and backward, milliseconds\n\n'
    sort -t_ -k2 -n "$scratch/batches" | table hypernn:f32 candle:f32 hypernn:bf16 candle:bf16
    printf '\nWhat failed:\n\n```text\n'
    cat "$scratch/cases" "$scratch/batches" | grep 'failed:'
    printf '```\n'
} >"$out"
printf '\n%d seconds; written to %s\n' "$SECONDS" "$out"
[ "$verdict" = 'all passed' ]
