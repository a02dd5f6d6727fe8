#!/usr/bin/env bash
# Makes target/venv-bench with rgunicorn (release build), gunicorn, gevent, granian and bjoern, and installs wrk.
# Run it again after a change of rgunicorn. VENV=DIR uses another directory.
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
# bjoern is built from source and includes libev's header.
if ! echo '#include <ev.h>' | gcc -E - >/dev/null 2>&1; then
    { apt-get install -y -q libev-dev || { apt-get update -q && apt-get install -y -q libev-dev; }; } >&2 ||
        die "please install libev's header (Debian: libev-dev)"
fi
venv "$VENV"
pip_install "$VENV" bench/requirements.txt
say "building rgunicorn (release)"
install_rgunicorn "$VENV"
say "ready: $VENV/bin/python bench/compare.py"
