#!/usr/bin/env bash
# Makes target/venv-bench with rgunicorn (release build), gunicorn, gevent, granian, bjoern, freastal, fastpysgi,
# peregrine, waitress, cheroot and uWSGI, the programs of the benches (target/release/backend, floor and loadgen), and
# installs wrk, valgrind, nginx and HAProxy. Run it again after a change of rgunicorn. VENV=DIR uses another directory.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/../ci/lib.sh"
cd "$ROOT"

VENV=${VENV:-$ROOT/target/venv-bench}

need_rust
need gcc gcc
need_python
need wrk wrk
need taskset util-linux
(need nginx nginx-light && need haproxy haproxy) || say "nginx or haproxy is missing: bench/proxied.py leaves it out"
(need valgrind valgrind) || say "valgrind is missing: bench/instructions.py and bench/calls.py will not run"
# bjoern is built from source and includes libev's header.
if ! echo '#include <ev.h>' | gcc -E - >/dev/null 2>&1; then
    { apt-get install -y -q libev-dev || { apt-get update -q && apt-get install -y -q libev-dev; }; } >&2 ||
        die "please install libev's header (Debian: libev-dev)"
fi
venv "$VENV"
pip_install "$VENV" bench/requirements.txt
# A peer of one bench only, compiled here; its profile "gevent" builds that plugin in.
UWSGI_PROFILE=gevent pip_install "$VENV" bench/requirements-uwsgi.txt || say "uWSGI does not build here: left out"
pip_install "$VENV" bench/requirements-peregrine.txt || say "peregrine has no wheel for this machine: left out"
pip_install "$VENV" bench/requirements-field.txt || say "matplotlib does not install here: bench/field.py draws no plots"
say "building rgunicorn (release)"
rm -f "$VENV/built-from" "$VENV/built-profile"
built_from=$(git describe --always --dirty --exclude='*' 2>/dev/null || echo "no commit")
install_rgunicorn "$VENV"
echo "$built_from" >"$VENV/built-from" # what the reports name
echo release >"$VENV/built-profile"
say "building the backend, the floor and the load generator"
cargo build -q --release --locked -p rgunicorn-bench --bins --target-dir "$ROOT/target"
say "ready: $VENV/bin/python bench/field.py, or another bench"
