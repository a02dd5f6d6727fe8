# Shared by the scripts of this directory (sourced, not run): where things are, and what a fresh machine may lack.
# Everything made here lies in ignored places (.venv, target/), so a `git status` stays clean.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# need PROGRAM DEBIAN_PACKAGE: installs the package when the program is missing and this user may do so.
need() {
    command -v "$1" >/dev/null && return
    say "$1 is missing: installing the package $2"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        die "please install $1 (Debian: $2)"
    fi
    # Some packages ask questions: nobody is there to answer.
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
    "${apt[@]}" install -y -q "$2" >/dev/null 2>&1 || { "${apt[@]}" update -q && "${apt[@]}" install -y -q "$2"; } >&2
}

# Rust cannot be installed from a package registry in the version we need, so it is only asked for.
need_rust() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust $(rust_version) or later from https://rustup.rs"
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

need_python() {
    need "$PYTHON" python3
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$PYTHON is older than CPython 3.11"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || need_python_venv
}

# The services that the black-box suite talks to. It starts its own, in temporary directories, so only the programs are
# needed. Without them the tests in question are skipped, or fail where CI is set.
need_services() {
    (need redis-server redis-server) || left_out "tests that need Redis"
    # Debian keeps PostgreSQL's programs off PATH.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || (need initdb postgresql) ||
        left_out "tests that need PostgreSQL"
    # The recipes of docs/deploy.md are tried. Debian keeps the front ends in a directory of administrators.
    local PATH=$PATH:/usr/sbin
    (need nginx nginx-light) || left_out "tests that need nginx"
    (need haproxy haproxy) || left_out "tests that need HAProxy"
    (need systemd-analyze systemd) || left_out "the systemd units of the documentation"
    (need openssl openssl) || say "tests that need nginx or HAProxy will fail"
}

# Debian ships Python without ensurepip; the package that adds it carries the version in its name.
need_python_venv() {
    local version
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" -ne 0 ] || ! apt-get install -y -q "python$version-venv" >&2; then
        die "please install python$version-venv"
    fi
}

# venv DIRECTORY: makes a virtual environment once; a broken one (its Python has gone) is made anew.
venv() {
    "$1/bin/python" -c '' 2>/dev/null && return
    rm -rf "$1"
    "$PYTHON" -m venv "$1"
}

# pip_install VENV REQUIREMENTS...: installs requirement files once for each content that they have had.
pip_install() {
    local venv=$1 stamp
    shift
    stamp=$venv/.installed-$(cat "$@" | sha256sum | cut -c1-16)
    [ -e "$stamp" ] && return
    local file args=()
    for file in "$@"; do args+=(-r "$file"); done
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "${args[@]}" && touch "$stamp"
}

# install_rgunicorn VENV: builds and installs this tree; MATURIN_PEP517_ARGS chooses the profile.
install_rgunicorn() { "$1/bin/python" -m pip install -q --disable-pip-version-check "$ROOT"; }

# Test binaries of the extension module embed CPython, so the loader must find libpython, which may lie in a
# directory that ld.so does not know (pyenv, uv). PYO3_PYTHON pins one interpreter, so that nothing is built twice.
python_env() {
    local libdir
    libdir=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")')
    export PYO3_PYTHON=$1
    export LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# left_out WHY: a check that cannot be made on this machine. It is no failure, but nobody shall overlook it: ci/check.sh
# names the file that its table repeats it from.
left_out() {
    say "*** NOT CHECKED: $*"
    [ -z "${LEFT_OUT:-}" ] || printf '%s\n' "$*" >>"$LEFT_OUT"
}

# timed NAME COMMAND...: runs a command, says how long it took, and notes NAME if it has failed, for `finish` to tell.
# Never a condition, nor in front of `||`: a function would then go on after a command that has failed.
FAILED=()
timed() {
    local name=$1 from=$SECONDS status
    shift
    say "==> $name"
    # A shell of its own, which ends at the first command that fails.
    set +e
    (set -e; "$@") </dev/null
    status=$?
    set -e
    say "<== $name: $([ $status -eq 0 ] && echo ok || echo "FAILED ($status)"), $((SECONDS - from)) s"
    [ $status -eq 0 ] || FAILED+=("$name")
}

# finish: ends a script. The status is 0 only if nothing that was timed has failed.
finish() {
    local name
    for name in "${FAILED[@]}"; do say "failed: $name"; done
    [ ${#FAILED[@]} -eq 0 ] || exit 1
    exit 0
}

# toolchain NAME: the full name of an installed toolchain, or failure. The list is asked, because rustup would install
# what is named in a command.
toolchain() { rustup toolchain list 2>/dev/null | grep -oE -m1 "^${1//./\\.}(\.0)?-[^ ]+"; }
