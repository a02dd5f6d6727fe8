#!/usr/bin/env bash
# The whole check: what has to pass before a change lands. Installs what it needs on a fresh machine.
#
#   ci/check.sh                    the normal level: what continuous integration runs (under 30 minutes on two cores)
#   ci/check.sh --quick            while you work: one driver, the start of the suite (4 minutes, the first build apart)
#   ci/check.sh --long             normal, and what takes long or needs other versions of Python
#   ci/check.sh --list             the steps, with their levels
#   ci/check.sh --only NAME...     these steps, and those that they need; a NAME may be a pattern: --only 'suite-*'
#
# Every step runs even when an earlier one has failed, except those that need it. At the end stand a table of times and
# what this machine could not check. The last line counts the steps; the status is 0 only if none has failed.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

VENV=$ROOT/target/venv-check # apart from .venv: its rgunicorn is the build with debug assertions
RELEASE_VENV=$ROOT/target/venv-release # with what users get
ADDRESS_VENV=$ROOT/target/venv-address # with AddressSanitizer
CORES=$(nproc)
SUITE_JOBS=${SUITE_JOBS:-$((CORES > 7 ? 16 : CORES * 2 + 1))} # tests at a time: they wait most of their time
GEVENT_JOBS=$((CORES > 15 ? 16 : CORES + 1)) # those of gevent compute, and many bound the time of what they wait for
FUZZ_S=${FUZZ_S:-300}
MUTANTS=${MUTANTS:-1000000}
OPERATIONS=${OPERATIONS:-300000}
SEEDS=${SEEDS:-10000}
SCHEDULES=${SCHEDULES:-500}
LOOP_S=${LOOP_S:-180}

# One target directory for everything. Incremental builds only cost disk where nothing is built a second time.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
[ -n "${CI:-}" ] && export CARGO_INCREMENTAL=0

# ---- what the steps run ----

# The models and the fuzz targets are workspaces of their own.
fmt() {
    cargo fmt --all --check
    cargo fmt --check --manifest-path tests/models/Cargo.toml
    cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
}

lints() { # CARGO_ARGUMENTS...
    cargo clippy --locked --workspace --quiet "$@" -- -D warnings
}

nextest() { # ARGUMENTS...: nextest, or cargo's own runner where it is not installed
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --config-file ci/nextest.toml --locked --no-fail-fast --cargo-quiet "$@"
    else
        cargo test --locked --no-fail-fast --quiet "$@"
    fi
}

docs() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet --workspace --exclude rgunicorn-bench; }

requirements() { pip_install "$VENV" ci/requirements-lint.txt ci/requirements-test.txt; }

python() { "$VENV/bin/python" "$@"; }

ruff() {
    python -m ruff check --quiet
    python -m ruff format --check --quiet
}

# Each line of ci/house-limits.txt is a figure that may not grow.
house() {
    local limits
    mapfile -t limits < <(sed -n 's/^\([a-z].*=[0-9]*\).*/--max=\1/p' ci/house-limits.txt)
    "$PYTHON" ci/house.py "${limits[@]}"
}

# The profile `ci` of Cargo.toml: fast enough for the suite, debug assertions on. The feature is what `torture` needs.
wheel() { MATURIN_PEP517_ARGS='--profile ci --locked --features torture' install_rgunicorn "$VENV"; }

# beside OTHER_VENV MATURIN_ARGUMENTS: another build, in an environment that has everything else of the first one.
# Installed before it can see that one's rgunicorn, which pip would take for its own.
beside() {
    local purelib="import sysconfig; print(sysconfig.get_path('purelib'))" link
    venv "$1"
    link=$("$1/bin/python" -c "$purelib")/venv-check.pth
    rm -f "$link"
    MATURIN_PEP517_ARGS=$2 install_rgunicorn "$1"
    python -c "$purelib" >"$link"
}

release_wheel() { beside "$RELEASE_VENV" '--profile release --locked'; }

# pytest VENV ARGUMENTS...: no line for what has passed. Who has no test left takes some of another one's: the longest
# would be the last otherwise.
pytest() {
    local venv=$1
    shift
    PATH="$venv/bin:$PATH" "$venv/bin/python" -m pytest -q --no-header -n "$SUITE_JOBS" --dist worksteal "$@"
}

suite() { # SERVERS [PYTEST_ARGUMENTS...]
    pytest "$VENV" tests/py --servers="$1" "${@:2}"
}

# One file for each side of the server: requests, answers, the processes, the settings, greenlets.
SMOKE=(wsgi http_requests http_bodies signals config gevent_requests)

smoke() { # VENV
    local files=("${SMOKE[@]/#/tests/py/test_}")
    pytest "$1" "${files[@]/%/.py}" --servers=rgunicorn-uring
}

# The suite but for what it has found out on io_uring already.
again() { suite "$1" -m "not one_driver and not no_flavour"; }

# Only the loops of workers have tiny queues then: tests/py/test_queue_sizes.py proves that they have.
torture() { RGUNICORN_TORTURE=1 again rgunicorn-uring; }

# Programs that start Gunicorn by themselves. Without their dependencies: the real one is among those, and much that
# their servers do not import.
stand_in() {
    local venv=$ROOT/target/venv-programs
    venv "$venv"
    PIP_NO_DEPS=1 PIP_NO_COMPILE=1 pip_install "$venv" ci/requirements-programs.txt
    RGUNICORN_PROGRAMS=$venv pytest "$VENV" tests/py/test_stand_in_programs.py --servers=rgunicorn-uring -n 0
}

# Monitoring agents under rgunicorn and under the real gunicorn.
agents() {
    local venv=$ROOT/target/venv-agents
    venv "$venv"
    pip_install "$venv" ci/requirements-agents.txt
    RGUNICORN_AGENTS=$venv pytest "$VENV" tests/py/test_agents.py --servers=rgunicorn-uring
}

# The stress tests of the stack rule, which are longer with that switch.
long_stress() { RGUNICORN_TORTURE=1 pytest "$VENV" tests/py/test_gevent_stress.py --servers=rgunicorn-uring,rgunicorn-epoll; }

# The corpus of the suite, each request cut at every byte instead of one.
corpus_cuts() { # SERVERS
    RGUNICORN_CUTS=all pytest "$VENV" tests/py/test_corpus.py --servers="$1"
}

# Real programs on the gevent loop, more often.
programs() { # TIMES
    RGUNICORN_TIMES=$1 pytest "$VENV" tests/py/test_gevent_processes.py -k programs --servers=rgunicorn-uring
}

# Exchanges over gevent's sockets, more of them.
sockets() { RGUNICORN_EXCHANGES=1000000 pytest "$VENV" tests/py/test_gevent_sockets.py -k byte --servers=rgunicorn-uring; }

# Bent requests, and what a worker has grown by.
mutants() {
    local python=$VENV/bin/python
    PATH="$VENV/bin:$PATH" "$python" tests/py/mutants.py --requests "$MUTANTS" --servers rgunicorn-uring
    PATH="$VENV/bin:$PATH" "$python" tests/py/mutants.py --requests $((MUTANTS * 3 / 10)) --servers \
        rgunicorn-epoll,rgunicorn-threads-uring,rgunicorn-gevent-uring
}

# The extension module alone is instrumented. Not its stack: greenlets copy other greenlets' bytes over it, of which the
# sanitizer would know nothing.
address_wheel() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    need g++ g++ # and with it the runtime library
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Cllvm-args=-asan-stack=0'
    export CARGO_TARGET_DIR=$ROOT/target/address-wheel
    beside "$ADDRESS_VENV" "--profile ci --locked --target $host"
}

# address PROGRAM ARGUMENTS...: a program of tests/py against all modes of that build. A report fails it. The runtime
# looks for C++ when it begins, and gevent's greenlets throw.
address() {
    local runtime
    runtime=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so.6)
    PATH="$ADDRESS_VENV/bin:$PATH" "$ADDRESS_VENV/bin/python" "tests/py/$1.py" "${@:2}" \
        --sanitizer "$runtime" --servers \
        rgunicorn-uring,rgunicorn-epoll,rgunicorn-threads-uring,rgunicorn-gevent-uring
}

# Hostile clients of all kinds, and what a worker has grown by when they have gone.
siege() {
    PATH="$VENV/bin:$PATH" "$VENV/bin/python" tests/py/siege.py --operations "$OPERATIONS" --servers \
        rgunicorn-uring,rgunicorn-epoll,rgunicorn-threads-uring,rgunicorn-gevent-uring
}

# Random schedules of an operator and of bad luck, and one that is long and even.
drill() {
    local servers=rgunicorn-uring,rgunicorn-epoll,rgunicorn-threads-uring,rgunicorn-gevent-uring
    PATH="$VENV/bin:$PATH" "$VENV/bin/python" tests/py/drill.py --schedules "$SCHEDULES" --servers "$servers"
    PATH="$VENV/bin:$PATH" "$VENV/bin/python" tests/py/drill.py --steady-s 60 --servers rgunicorn-uring
    PATH="$VENV/bin:$PATH" "$VENV/bin/python" tests/py/drill.py --steady-s 60 --servers rgunicorn-epoll
}

# Simulated clients on simulated workers that leave, give and are killed.
histories() {
    CARGO_TARGET_DIR=$ROOT/target/histories CARGO_PROFILE_DEV_OPT_LEVEL=2 RGUNICORN_SEEDS=$SEEDS NEXTEST_PROFILE=long \
        nextest --package rgunicorn-server --test worker
}

loop_random() { RGUNICORN_LOOP_S=$LOOP_S pytest "$VENV" tests/py/test_gevent_loop_random.py; }

# System calls that fail for good, each by itself: all cells of tests/py/failures.py.
failures() {
    python tests/py/failures.py
    FAILURES=all pytest "$VENV" tests/py/test_failures.py --servers=rgunicorn-uring,rgunicorn-epoll,rgunicorn-threads-uring
}

# What the optimiser makes of the stack rule.
release_stress() {
    pytest "$RELEASE_VENV" tests/py/test_gevent_stress.py --servers=rgunicorn-uring,rgunicorn-epoll
}

# The recorded figures are of this profile. The peers of the benches are not installed here.
instructions() {
    need valgrind valgrind
    local status=0
    "$RELEASE_VENV/bin/python" bench/instructions.py --server rgunicorn --build release --check || status=$?
    if [ $status -eq 3 ]; then
        left_out "figures of bench/instructions.toml are of another environment: the lines above say what differs"
        return
    fi
    return $status
}

example() { VENV=$VENV INSTALL=no ci/run-example.sh --check; }

stubs() { python -m mypy.stubtest rgunicorn --allowlist ci/stubtest-allowed.txt; }

gevent_choice() { # DRIVER: gevent's own tests on our loop, those that are quick and stable
    python ci/gevent_tests.py --quick --quiet --jobs "$GEVENT_JOBS" --driver "$1"
}

# The baseline is of the same machine and the same hour. What fails on that loop is in it, and no fault of ours.
gevent_baseline() {
    rm -f target/libev.json
    python ci/gevent_tests.py --quiet --loop libev-cext --save target/libev.json || [ -e target/libev.json ]
}

gevent_all() { # DRIVER
    python ci/gevent_tests.py --quiet --driver "$1" --compare target/libev.json
}

# script NAME ARGUMENTS...: a check that is a file of its own. Each says by itself what this machine lacks for it.
script() { "ci/$1.sh" "${@:2}"; }

# Functions, files and borrows that a request passes, counted in a build that does not inline. Each figure of
# bench/calls.toml may not grow.
calls() {
    local venv=$ROOT/target/venv-calls
    need valgrind valgrind
    venv "$venv"
    pip_install "$venv" ci/requirements-test.txt
    MATURIN_PEP517_ARGS='--profile dev --strip false --locked' install_rgunicorn "$venv"
    "$venv/bin/python" bench/calls.py --check
}

# other_python VERSION: the Rust tests with Python, and the start of the suite, on another CPython. A virtual environment
# and a target directory of its own, so that what is built for one is not thrown away for the other.
other_python() {
    local version=$1 found venv=$ROOT/target/venv-$1
    if ! found=$(find_python "$version"); then
        left_out "CPython $version is not installed (looked on PATH and in ~/.pyenv/versions)"
        return
    fi
    say "CPython $version is $found"
    export CARGO_TARGET_DIR=$ROOT/target/python-$version
    PYTHON=$found venv "$venv"
    python_env "$venv/bin/python"
    nextest --package rgunicorn
    pip_install "$venv" ci/requirements-test.txt
    MATURIN_PEP517_ARGS='--profile ci --locked' install_rgunicorn "$venv"
    smoke "$venv"
}

find_python() { # VERSION: prints the path of an interpreter that can be embedded
    local each
    for each in "$HOME/.pyenv/versions/$1".*/bin/python "$(command -v "python$1")"; do
        "$each" -c 'import sysconfig, sys; sys.exit(not sysconfig.get_config_var("Py_ENABLE_SHARED"))' 2>/dev/null ||
            continue
        echo "$each"
        return
    done
    return 1
}

# ---- the steps ----

# step LEVEL NAME NEEDS WHAT COMMAND...: declares a step. LEVEL is the lowest that runs it; `smoke` is of `quick` alone.
# NEEDS are the steps without which it makes no sense.
NAMES=()
declare -A LEVEL NEEDS WHAT COMMAND RESULT TOOK LACKS=()
step() {
    NAMES+=("$2")
    LEVEL[$2]=$1
    NEEDS[$2]=$3
    WHAT[$2]=$4
    COMMAND[$2]=$(printf '%q ' "${@:5}")
}

step quick fmt '' "format of all Rust" fmt
step quick clippy '' "lints of the workspace, tests included (models and fuzz lint their own)" lints --all-targets
step normal clippy-shipped '' "lints of what a wheel is made of, without the features of tests" lints
step quick tidy '' "rules of the house that no compiler checks" nextest --package rgunicorn-tidy
# Tests of the driver and of what stands on it go through all back ends by themselves.
step quick rust '' "all other Rust tests" nextest --workspace --exclude rgunicorn-tidy
# There are no doc tests: `tidy` refuses them.
step normal docs '' "documentation builds without warnings" docs
step quick house '' "figures of ci/house.py, none above ci/house-limits.txt" house
step normal models '' "orders of steps of what threads and signal handlers share, up to 3 preemptions" script models
step normal msrv '' "everything compiles with the oldest Rust that is promised" script msrv
step normal deny '' "licences, advisories and sources of what we depend on" script deny

step quick requirements '' "packages of the Python tests and linters are installed" requirements
step quick ruff requirements "lints and format of all Python but the sample applications" ruff
step quick mypy requirements "types of the Python package, and of the bench of the field" python -m mypy --no-error-summary
step normal bench-tests requirements "what the benches make of callgrind's files, and of the field's figures" pytest "$VENV" bench/tests -n 0

step quick wheel '' "the wheel builds (profile ci, with debug assertions)" wheel
step smoke smoke 'requirements wheel' "the start of the suite, on io_uring" smoke "$VENV"
step normal example wheel "the example of the README answers" example
step normal stubs 'requirements wheel' "stubs match the native module" stubs
step normal services '' "PostgreSQL, Redis, nginx and what else the suite talks to are installed" need_services
step normal gevent-uring 'requirements wheel' "gevent's own tests on io_uring, the quick ones" gevent_choice uring
step normal gevent-epoll 'requirements wheel' "gevent's own tests on epoll, the quick ones" gevent_choice epoll
step normal suite-uring 'requirements wheel services' "black-box suite on io_uring" suite rgunicorn-uring
step normal suite-epoll 'requirements wheel services' "black-box suite on epoll" again rgunicorn-epoll
step normal suite-threads 'requirements wheel services' "black-box suite on io_uring, applications in threads" \
    again rgunicorn-threads-uring
step normal suite-gunicorn 'requirements services' "the suite on the real Gunicorn: what it says of Gunicorn is true" \
    suite gunicorn -m "not no_flavour"
step normal suite-torture 'requirements wheel services' "black-box suite on io_uring with tiny queues and two buffers" torture

step normal corpus 'requirements wheel' "the corpus cut at every byte on io_uring" corpus_cuts rgunicorn-uring
step normal foreign 'requirements wheel services' "requests and suites of others, and other servers beside this one" \
    script foreign
step normal release-wheel requirements "the wheel builds as users get it (profile release)" release_wheel
step normal release-stress release-wheel "stress tests of the stack rule without assertions" release_stress
step normal instructions release-wheel "instructions per request, none above bench/instructions.toml" instructions

step long gevent-baseline 'requirements wheel' "all of gevent's own tests on its default loop" gevent_baseline
step long gevent-all-uring gevent-baseline "all of gevent's own tests on io_uring, by that" gevent_all uring
step long gevent-all-epoll gevent-baseline "all of gevent's own tests on epoll, by that" gevent_all epoll
step long calls '' "calls into the reactor and borrows per request, none above bench/calls.toml" calls
step long stand-in 'requirements wheel' "mlflow and functions-framework start rgunicorn for Gunicorn" stand_in
step long agents 'requirements wheel' "what monitoring agents count is what they count under Gunicorn" agents
step long corpus-all 'requirements wheel' "the corpus cut at every byte on epoll and in threads" \
    corpus_cuts rgunicorn-epoll,rgunicorn-threads-uring,rgunicorn-threads-epoll
step long foreign-all 'requirements wheel services' "the suites of others on both drivers" script foreign --long
step long mutants 'requirements wheel' "$MUTANTS bent requests, and fewer in other modes" mutants
step long stress 'requirements wheel' "stress tests of the stack rule, eight times as long" long_stress
step long programs 'requirements wheel' "programs with processes on the gevent loop, 50 times each" programs 50
step long sockets 'requirements wheel' "a million exchanges over gevent's sockets, with kills and time-outs" sockets
step long siege 'requirements wheel' "$OPERATIONS hostile operations in each mode, and what is left of them" siege
step long histories '' "$SEEDS random histories of simulated workers, of each kind" histories
step long drill 'requirements wheel' "$SCHEDULES random schedules of reloads and kills under load, and a minute of it" drill
step long loop-random 'requirements wheel' "random calls of the gevent loop, $LOOP_S s on each driver" loop_random
step long address-wheel requirements "the wheel builds with AddressSanitizer" address_wheel
step long address-mutants address-wheel "fewer bent requests, in each mode, under AddressSanitizer" \
    address mutants --requests $((MUTANTS * 3 / 100))
step long address-siege address-wheel "fewer hostile operations, in each mode, under AddressSanitizer" \
    address siege --operations $((OPERATIONS / 10))
step long failures 'requirements wheel' "each system call that fails for good, with each error" failures
step long sanitizers '' "address and thread sanitizers, and Miri" script sanitizers
step long fuzz '' "each fuzz target, for $FUZZ_S seconds" script fuzz "$FUZZ_S"
step long python-3.12 '' "Rust tests and the start of the suite on CPython 3.12" other_python 3.12
step long python-3.13 '' "Rust tests and the start of the suite on CPython 3.13" other_python 3.13

# ---- running them ----

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; }

list() {
    local name
    for name in "${NAMES[@]}"; do printf '%-16s %-7s %s\n' "$name" "${LEVEL[$name]}" "${WHAT[$name]}"; done
}

# at_level LEVEL: the names of the steps that it runs.
at_level() {
    local name levels
    case $1 in
    quick) levels=' quick smoke ' ;;
    normal) levels=' quick normal ' ;;
    long) levels=' quick normal long ' ;;
    esac
    for name in "${NAMES[@]}"; do [[ $levels == *" ${LEVEL[$name]} "* ]] && echo "$name"; done
    return 0
}

# matching PATTERN...: the names that match one, each behind those that it needs; fails if a pattern matches none.
matching() {
    local pattern name found
    for pattern in "$@"; do
        found=
        for name in "${NAMES[@]}"; do
            # shellcheck disable=SC2053  # It is a pattern.
            if [[ $name == $pattern ]]; then
                # shellcheck disable=SC2086  # It is a list.
                [ -z "${NEEDS[$name]}" ] || matching ${NEEDS[$name]}
                echo "$name"
                found=1
            fi
        done
        [ -n "$found" ] || die "no step is called '$pattern': see ci/check.sh --list"
    done
}

# run NAME: runs a step, unless one that it needs has not passed.
run() {
    local name=$1 need status=0 from=$SECONDS
    for need in ${NEEDS[$name]}; do
        if [ "${RESULT[$need]:-passed}" != passed ]; then
            say "--- $name: left out, since $need has not passed"
            RESULT[$name]='left out'
            TOOK[$name]=0
            return
        fi
    done
    say "==> $name: ${WHAT[$name]} (alone: ci/check.sh --only $name)"
    # What a step leaves out, it writes there.
    : >"$LEFT_OUT"
    # A shell of its own, which ends at the first command that fails; `if` would switch that off.
    set +e
    (set -e; eval "${COMMAND[$name]}") </dev/null
    status=$?
    set -e
    TOOK[$name]=$((SECONDS - from))
    [ ! -s "$LEFT_OUT" ] || LACKS[$name]=$(<"$LEFT_OUT")
    if [ $status -eq 0 ]; then
        RESULT[$name]=passed
        say "<== $name: ok, ${TOOK[$name]} s"
    else
        RESULT[$name]=FAILED
        say "<== $name: FAILED, ${TOOK[$name]} s"
    fi
}

[ $# -le 1 ] || [ "$1" = --only ] || die "one argument at most, unless --only: see ci/check.sh --help"
case ${1:-} in
'') mapfile -t CHOSEN < <(at_level normal) ;;
--quick | --normal | --long) mapfile -t CHOSEN < <(at_level "${1#--}") ;;
--list)
    list
    exit
    ;;
--only)
    shift
    names=$(matching "$@")
    mapfile -t CHOSEN <<<"$names"
    ;;
--help | -h)
    usage
    exit
    ;;
*) die "unknown argument '$1': see ci/check.sh --help" ;;
esac

need_rust
need gcc gcc
need_python
venv "$VENV"
python_env "$VENV/bin/python"

# begin_early NAME: begins a step that is only compiled. The suites wait a fifth of their time: it runs when the
# processors have nothing else to do, and its place in the order is where the rest of it is waited for.
begin_early() {
    [[ " ${CHOSEN[*]} " == *" $1 "* ]] && [ -z "${EARLY:-}" ] && command -v chrt >/dev/null || return 0
    EARLY=$(mktemp -d)
    (
        set +e
        # Where that is forbidden it competes with the suites, and is as good.
        chrt --idle --pid 0 "$BASHPID"
        (set -e; eval "${COMMAND[$1]}") </dev/null >"$EARLY/log" 2>&1
        echo $? >"$EARLY/status"
    ) &
    EARLY_PID=$!
    COMMAND[$1]=end_early
}

end_early() {
    tail --pid="$EARLY_PID" -f /dev/null
    cat "$EARLY/log"
    return "$(<"$EARLY/status")"
}

LEFT_OUT=$(mktemp)
export LEFT_OUT
trap 'rm -rf "$LEFT_OUT" "${EARLY:-}"' EXIT
for name in "${CHOSEN[@]}"; do
    [[ $name != suite-* ]] || begin_early release-wheel
    [ -n "${RESULT[$name]:-}" ] || run "$name"
done

# Steps and their times, slowest first.
table() {
    local name why
    for name in "${!RESULT[@]}"; do printf '%6d s  %-8s  %s\n' "${TOOK[$name]}" "${RESULT[$name]}" "$name"; done |
        sort -rn >&2
    for name in "${NAMES[@]}"; do
        [ -n "${LACKS[$name]:-}" ] || continue
        while read -r why; do say "*** NOT CHECKED in $name: $why"; done <<<"${LACKS[$name]}"
    done
}

count() { # RESULT
    local name number=0
    for name in "${!RESULT[@]}"; do [ "${RESULT[$name]}" != "$1" ] || number=$((number + 1)); done
    echo "$number"
}

say
table
say "steps done in $SECONDS s"
failed=$(count FAILED)
say "check: $(count passed) passed, $failed failed, ${#LACKS[@]} left out in part"
[ "$failed" -eq 0 ]
