#!/usr/bin/env bash
# The tests of the system calls, the driver and the processes (rgunicorn-io, rgunicorn-server) under AddressSanitizer
# (with LeakSanitizer) and under ThreadSanitizer, and the pure code under Miri. Tests of the driver, and of what stands
# on it, go through io_uring (where it works) and epoll by themselves. Needs a nightly toolchain of rustup; what is
# missing is named, and passes.
#
#   ci/sanitizers.sh                      all three
#   ci/sanitizers.sh address thread miri  those that are named
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} CARGO_INCREMENTAL=0
TARGET=$(rustc -vV | sed -n 's/^host: //p')
# Tests in forked processes come apart from the others: see below.
TESTS=(--lib --test 'driver_*' --test worker)
FORKING=(--test arbiter_process)

# sanitized NAME RUSTFLAGS ARGUMENTS...: tests of both crates in a target directory of the sanitizer's own.
sanitized() {
    local name=$1 flags=$2 runner=(test)
    shift 2
    if command -v cargo-nextest >/dev/null; then
        runner=(nextest run --config-file ci/nextest.toml --status-level fail)
    fi
    RUSTFLAGS="-Zsanitizer=$name $flags" \
        cargo +nightly "${runner[@]}" --locked --no-fail-fast --target "$TARGET" --target-dir "target/$name" \
        -p rgunicorn-io -p rgunicorn-server "$@"
}

address() {
    timed "AddressSanitizer" sanitized address "" "${TESTS[@]}"
    # A process forked by one thread of libtest has lost the stacks of its others, and what they pointed to.
    ASAN_OPTIONS=detect_leaks=0 timed "AddressSanitizer, processes" sanitized address "" "${FORKING[@]}"
}

# Races of our threads with each other only: what the kernel writes on io_uring, and when, is invisible to
# ThreadSanitizer. Not the processes: each has one thread, and ThreadSanitizer does not follow a fork of a process that
# has several, as a test's has.
thread() {
    local flags="-Cunsafe-allow-abi-mismatch=sanitizer" build=()
    # On the main thread, so that libtest's own handing over is left out of the picture.
    export RUST_TEST_THREADS=1
    if [ -e "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
        flags="" build=(-Zbuild-std)
    else
        say "rust-src is missing: the standard library is not instrumented, ci/tsan.supp says what is overlooked"
        export TSAN_OPTIONS="suppressions=$ROOT/ci/tsan.supp"
    fi
    timed "ThreadSanitizer" sanitized thread "$flags" "${build[@]}" "${TESTS[@]}"
}

# Code that makes no system call. Files are read, hence no isolation; few cases, since every instruction is interpreted.
pure() {
    local miri=(cargo +nightly miri test --locked --target-dir target/miri)
    export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 PROPTEST_DISABLE_FAILURE_PERSISTENCE=true
    # The speed of the parser says nothing here.
    "${miri[@]}" -p rgunicorn-http -p rgunicorn-settings -- --skip speed
    "${miri[@]}" -p rgunicorn-io --lib -- driver::optable driver::heap driver::timers driver::buffers
}

miri() {
    if cargo +nightly miri --version >/dev/null 2>&1; then
        timed "Miri" pure
    else
        left_out "Miri: not installed (rustup +nightly component add miri)"
    fi
}

[ $# -gt 0 ] || set -- address thread miri
for check in "$@"; do
    case $check in address | thread | miri) ;; *) die "unknown argument '$check' (address, thread, miri)" ;; esac
done
need_rust
if ! toolchain nightly >/dev/null; then
    left_out "$*: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
for check in "$@"; do "$check"; done
finish
