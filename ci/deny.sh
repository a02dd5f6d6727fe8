#!/usr/bin/env bash
# The dependencies against deny.toml: licences, second versions, sources, and known faults where the database of
# advisories can be reached.
#
#   ci/deny.sh            with cargo-deny where there is one; else licences and sources only, in Python
#   ci/deny.sh --install  builds cargo-deny into target/tools first, once: four minutes of one processor
#
# cargo-deny itself takes a second, but it is compiled from ten times as many lines as this project.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

WORKSPACES=(Cargo.toml tests/fuzz/Cargo.toml tests/models/Cargo.toml)
export PATH=$PATH:$ROOT/target/tools/bin CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

deny() { # MANIFEST CHECK...
    local manifest=$1
    shift
    cargo-deny --log-level error --workspace --locked --manifest-path "$manifest" --config deny.toml check \
        --hide-inclusion-graph "$@"
}

install() {
    cargo install --quiet --locked --root target/tools --target-dir target/tools/build cargo-deny
    # What it was made from is of no further use, and large.
    rm -rf target/tools/build
}

need_rust
case ${1:-} in
'') ;;
--install) command -v cargo-deny >/dev/null || timed "cargo-deny is installed" install ;;
*) die "unknown argument '$1' (only --install is known)" ;;
esac

if ! command -v cargo-deny >/dev/null; then
    need_python
    left_out "second versions and advisories: no cargo-deny here (ci/deny.sh --install)"
    timed "licences and sources" "$PYTHON" ci/licenses.py
    finish
fi
for manifest in "${WORKSPACES[@]}"; do
    timed "licences, versions, sources of $manifest" deny "$manifest" licenses bans sources
done
if cargo-deny --log-level off --config deny.toml fetch db >/dev/null 2>&1; then
    for manifest in "${WORKSPACES[@]}"; do
        timed "advisories for $manifest" deny "$manifest" advisories
    done
else
    left_out "advisories: their database cannot be reached"
fi
finish
