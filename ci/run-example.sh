#!/usr/bin/env bash
# Installs rgunicorn from this directory into .venv and serves examples/hello.py with the io_uring worker.
#
#   ci/run-example.sh            install, serve on http://127.0.0.1:8000 until Ctrl-C
#   ci/run-example.sh --check    install, serve on a unix socket, make one request, stop (what ci/check.sh runs)
#
# VENV=DIR uses another virtual environment, BIND=HOST:PORT another address, INSTALL=no what is installed already.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

VENV=${VENV:-$ROOT/.venv}
BIND=${BIND:-127.0.0.1:8000}

case ${1:-} in
'' | --check) ;;
*) die "unknown argument '$1' (only --check is known)" ;;
esac

if [ "${INSTALL:-yes}" != no ]; then
    need_rust
    need gcc gcc
    need_python
    say "installing rgunicorn into $VENV (the first build takes a few minutes)"
    venv "$VENV"
    install_rgunicorn "$VENV"
fi

if [ "${1:-}" != --check ]; then
    say "serving examples/hello.py: open http://$BIND/ (Ctrl-C stops)"
    exec "$VENV/bin/rgunicorn" -k uring -b "$BIND" --chdir examples hello:app
fi

dir=$(mktemp -d)
"$VENV/bin/rgunicorn" -k uring -b "unix:$dir/socket" --chdir examples hello:app 2>"$dir/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
if ! "$VENV/bin/python" ci/get.py "$dir/socket" "$server"; then
    cat "$dir/log" >&2
    die "the example did not answer"
fi
kill -TERM "$server"
wait "$server" || die "the example's server left with status $?"
say "the example answered and stopped cleanly"
