#!/usr/bin/env bash
# The whole check: what has to pass before a change lands. Installs what it needs on a fresh machine.
#
#   ci/check.sh            everything (about half an hour on two cores)
#   ci/check.sh --quick    formatting, lints and Rust tests only: no wheel, no Python suite
#
# Every step runs even when an earlier one has failed, except those that need the wheel where there is none. The last
# line counts the steps; the status is 0 only if all of them passed.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

QUICK=
case ${1:-} in
'') ;;
--quick) QUICK=1 ;;
*) die "unknown argument '$1' (only --quick is known)" ;;
esac

VENV=$ROOT/target/venv-check # apart from .venv: its rgunicorn is the build with debug assertions
RELEASE_VENV=$ROOT/target/venv-release # with one that has none
STARTED=$SECONDS
PASSED=0
FAILED=()

# step NAME COMMAND...: runs a command, reports how long it took, counts it.
step() {
    local name=$1 from=$SECONDS
    shift
    say "==> $name"
    if "$@" </dev/null; then
        PASSED=$((PASSED + 1))
        say "<== $name: ok, $((SECONDS - from)) s"
    else
        FAILED+=("$name")
        say "<== $name: FAILED, $((SECONDS - from)) s"
        return 1
    fi
}

# Like `step`, but the check goes on after a failure.
try() { step "$@" || true; }

# One target directory for everything. Incremental builds only cost disk where nothing is built a second time.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
[ -n "${CI:-}" ] && export CARGO_INCREMENTAL=0

nextest() { # ARGUMENTS...: nextest, or cargo's own runner where it is not installed
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --config-file ci/nextest.toml --locked --no-fail-fast "$@"
    else
        cargo test --locked --no-fail-fast "$@"
    fi
}

lints() { # CARGO_ARGUMENTS...
    cargo clippy --locked --workspace --quiet "$@" -- -D warnings
}

doctests() { cargo test --locked --doc --quiet --workspace; }

docs() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet --workspace --exclude rgunicorn-bench; }

# The profile `ci` of Cargo.toml: fast enough for the suite, debug assertions on. The feature is what `torture` needs.
wheel() {
    MATURIN_PEP517_ARGS='--profile ci --locked --features torture' install_rgunicorn "$VENV"
}

# The profile `ci-release`, in an environment that has everything else of the other one. Installed before it can see that
# one's rgunicorn, which pip would take for its own.
release_wheel() {
    venv "$RELEASE_VENV"
    local purelib="import sysconfig; print(sysconfig.get_path('purelib'))" link
    link=$("$RELEASE_VENV/bin/python" -c "$purelib")/venv-check.pth
    rm -f "$link"
    MATURIN_PEP517_ARGS='--profile ci-release --locked' install_rgunicorn "$RELEASE_VENV"
    "$VENV/bin/python" -c "$purelib" >"$link"
}

example() { VENV=$VENV INSTALL=no ci/run-example.sh --check; }

requirements() {
    pip_install "$VENV" ci/requirements-lint.txt ci/requirements-test.txt
}

suite() { # SERVERS [PYTEST_ARGUMENTS...]
    local servers=$1
    shift
    PATH="$VENV/bin:$PATH" "$VENV/bin/python" -m pytest tests/py -n 2 --servers="$servers" "$@"
}

release_stress() { # what the optimiser makes of the stack rule
    "$RELEASE_VENV/bin/python" -m pytest tests/py/test_gevent_stress.py -n 2 --servers=rgunicorn-uring,rgunicorn-epoll
}

torture() { RGUNICORN_TORTURE=1 suite rgunicorn-uring -m "not one_driver"; }

gevent_tests() { # DRIVER: gevent's own tests on our loop, those that are quick and stable
    "$VENV/bin/python" ci/gevent_tests.py --quick --driver "$1"
}

stubs() { "$VENV/bin/python" -m mypy.stubtest rgunicorn --allowlist ci/stubtest-allowed.txt; }

need_rust
need gcc gcc
need_python
venv "$VENV"
python_env "$VENV/bin/python"

try "rustfmt" cargo fmt --all --check
try "clippy of what is shipped" lints
try "clippy of everything" lints --all-targets
try "Rust tests without Python" nextest --workspace --exclude rgunicorn
try "Rust tests without Python, driver epoll" env RGUNICORN_IO_DRIVER=epoll bash -c \
    "$(declare -f nextest); nextest --workspace --exclude rgunicorn"
try "Rust tests with Python" nextest --package rgunicorn
try "doc tests" doctests
try "documentation builds without warnings" docs

if [ -n "$QUICK" ]; then
    say "left out: wheel and Python suite (--quick)"
elif step "wheel, profile ci" wheel && step "test requirements" requirements; then
    try "services of the suite" need_services
    try "example" example
    try "stubs match the native module" stubs
    try "gevent's tests on uring" gevent_tests uring
    try "gevent's tests on epoll" gevent_tests epoll
    try "suite on uring" suite rgunicorn-uring
    try "suite on epoll" suite rgunicorn-epoll -m "not one_driver"
    try "suite on uring, in threads" suite rgunicorn-threads-uring -m "not one_driver"
    try "suite on the real gunicorn" suite gunicorn
    try "suite on uring, torture sizes" torture
    if step "wheel, profile ci-release" release_wheel; then
        try "stress tests without assertions" release_stress
    fi
else
    say "left out: everything that needs the wheel"
fi

for name in "${FAILED[@]}"; do say "failed: $name"; done
say "steps done in $((SECONDS - STARTED)) s"
say "check: $PASSED passed, ${#FAILED[@]} failed"
[ ${#FAILED[@]} -eq 0 ]
