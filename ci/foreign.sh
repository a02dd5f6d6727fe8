#!/usr/bin/env bash
# Tests and vectors that others have written, against this server. They are fetched from the package registry into
# target/foreign and run there; nothing of them is kept in this repository, only the list of what differs, and why
# (ci/foreign-expected.txt).
#
#   ci/foreign.sh         Gunicorn's request vectors; the suite's corpus beside gunicorn, waitress and nginx
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

VENV=${VENV:-$ROOT/target/venv-check}
MATERIAL=$ROOT/target/foreign
GUNICORN=27.0.1 # the version that docs/gunicorn-differences.md speaks of

fetch() { # PACKAGE VERSION: unpacks the source distribution into target/foreign/PACKAGE-VERSION
    local name=$1-$2
    [ -d "$MATERIAL/$name" ] && return
    mkdir -p "$MATERIAL"
    "$VENV/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary "$1" -d "$MATERIAL" "$1==$2"
    tar -xzf "$MATERIAL/$name.tar.gz" -C "$MATERIAL"
}

need_python
[ -x "$VENV/bin/rgunicorn" ] || die "build it first: ci/check.sh --only wheel requirements"
if ! fetch gunicorn "$GUNICORN"; then
    left_out "Gunicorn's request vectors: its source distribution cannot be fetched"
    finish
fi
vectors() { "$VENV/bin/python" ci/foreign.py "$MATERIAL/gunicorn-$GUNICORN"; }
timed "Gunicorn's request vectors" vectors

peers() {
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --target "$MATERIAL/packages" waitress==3.0.2
}
if [ -d "$MATERIAL/packages/waitress" ] || peers; then
    command -v nginx >/dev/null || left_out "disagreements with nginx: it is not installed"
    timed "disagreements with other servers" "$VENV/bin/python" ci/differential.py
else
    left_out "disagreements with other servers: waitress cannot be fetched"
fi
finish
