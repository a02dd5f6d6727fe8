#!/usr/bin/env bash
# Tests and vectors that others have written, against this server. They are fetched from the package registry into
# target/foreign and run there; nothing of them is kept in this repository, only the list of what differs, and why
# (ci/foreign-expected.txt, ci/foreign-suites.txt).
#
#   ci/foreign.sh           Gunicorn's request vectors; the suite's corpus beside gunicorn, waitress and nginx; the
#                           tests of Gunicorn, waitress, cheroot and gevent's pywsgi that speak over sockets, and
#                           Gunicorn's of its modules, for which they get rgunicorn's
#   ci/foreign.sh --long    more of those tests, and on epoll too
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

# Packages that are run, or that the suites import; all pure Python.
PACKAGES=(
    waitress==3.0.2 cheroot==11.1.2 more_itertools==11.2.1 jaraco.functools==4.6.0 jaraco.text==4.3.0
    jaraco.context==6.1.2 backports.tarfile==1.2.0
)
peers() {
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --no-deps --target "$1" "${PACKAGES[@]}"
}
packages=$MATERIAL/packages-$(printf '%s\n' "${PACKAGES[@]}" | sha256sum | cut -c1-16)
if ! [ -d "$packages" ] && ! { peers "$packages.part" && mv "$packages.part" "$packages"; }; then
    left_out "disagreements with other servers, and their suites: their packages cannot be fetched"
    finish
fi
ln -sfn "$packages" "$MATERIAL/packages"
command -v nginx >/dev/null || left_out "disagreements with nginx: it is not installed"
timed "disagreements with other servers" "$VENV/bin/python" ci/differential.py

suites=(gunicorn names pywsgi)
for peer in "waitress 3.0.2" "cheroot 11.1.2"; do
    # shellcheck disable=SC2086  # Two words.
    if fetch $peer; then suites+=("${peer% *}"); else left_out "the suite of $peer: its source cannot be fetched"; fi
done
drivers=(uring)
[ "${1:-}" != --long ] || drivers+=(epoll)
for driver in "${drivers[@]}"; do
    timed "suites of others on $driver" \
        "$VENV/bin/python" ci/foreign_suites.py --driver "$driver" "$@" "$MATERIAL" "${suites[@]}"
done
finish
