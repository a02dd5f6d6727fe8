#!/usr/bin/env bash
# The models of what threads and signal handlers share (tests/models), under a model checker: every order of their
# steps, up to a bound on preemptions. Seconds, after the checker has been compiled.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

need_rust
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
model=(cargo run --locked --quiet --manifest-path tests/models/Cargo.toml --target-dir target/models)

if ! cargo fetch --quiet --locked --manifest-path tests/models/Cargo.toml 2>/dev/null; then
    left_out "models: the checker (loom) cannot be fetched"
    exit 0
fi
# A state space that has grown out of bounds is a failure of the model.
timed "models of shared memory" env LOOM_LOCATION=1 timeout 600 "${model[@]}"
finish
