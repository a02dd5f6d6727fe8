#!/usr/bin/env bash
# Each target of tests/fuzz for some time, from the corpus of the parser's tests or from inputs in tests/fuzz/seeds.
# Needs no nightly toolchain and no cargo-fuzz: the compiler's coverage instrumentation is asked for directly, and
# libFuzzer comes with the dependency.
#
#   ci/fuzz.sh                        30 seconds each
#   ci/fuzz.sh SECONDS [TARGET...]    as long as that, some of them
#
# What is found grows a corpus of its own in target/fuzz, where the next run goes on. An input that fails is kept in
# target/fuzz/artifacts; `target/fuzz/*/release/TARGET FILE` runs it again.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

SECONDS_EACH=${1:-30}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- requests splits responses proxy access_formats op_table connection
REQUESTS=(crates/rgunicorn-http/tests/corpus/valid crates/rgunicorn-http/tests/corpus/invalid)
# Longer inputs are slower and seldom better: what matters about a request is in its first lines. A connection takes
# turns of a loop for each piece, and the table is compared with its list after each step.
declare -A INPUT_BYTES_MAX=([connection]=1024 [op_table]=512)
INPUT_BYTES_USUAL=4096
PACKAGE=(--quiet --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz)

need_rust
# It compiles libFuzzer itself.
if ! command -v g++ >/dev/null && ! (need g++ g++); then
    left_out "fuzzing: there is no C++ compiler"
    exit 0
fi
TARGET=$(rustc -vV | sed -n 's/^host: //p')

build() {
    local flags=(
        --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1
        -Cpasses=sancov-module
        -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares
        -Zsanitizer=address
    )
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" cargo build "${PACKAGE[@]}" --release --target "$TARGET"
}

# seeds NAME: the directories that a target begins with.
seeds() {
    case $1 in
    requests | splits | responses) printf '%s\n' "${REQUESTS[@]}" ;;
    connection) printf '%s\n' "${REQUESTS[@]}" tests/fuzz/seeds/connection ;;
    *) echo "tests/fuzz/seeds/$1" ;;
    esac
}

run() { # NAME: its report is only of interest when something is found, but for the last lines
    local name=$1 corpus=target/fuzz/corpus/$1 log=target/fuzz/$1.log status=0 seeds
    mapfile -t seeds < <(seeds "$name")
    mkdir -p "$corpus" target/fuzz/artifacts
    "target/fuzz/$TARGET/release/$name" -max_total_time="$SECONDS_EACH" \
        -max_len="${INPUT_BYTES_MAX[$name]:-$INPUT_BYTES_USUAL}" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="target/fuzz/artifacts/$name-" "$corpus" "${seeds[@]}" \
        >"$log" 2>&1 || status=$?
    if [ $status -eq 0 ]; then
        grep -E 'INITED|DONE|number_of_executed_units' "$log" >&2
    else
        tail -n 60 "$log" >&2
    fi
    return $status
}

timed "fuzz targets are built" build
[ ${#FAILED[@]} -eq 0 ] || finish
timed "lints of the fuzz targets" cargo clippy "${PACKAGE[@]}" -- -D warnings
for name in "$@"; do timed "fuzzing $name" run "$name"; done
finish
