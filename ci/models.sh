#!/usr/bin/env bash
# The models of what threads and signal handlers share (tests/models), under a model checker: every order of their
# steps that takes three preemptions at most. Seconds, after the checker has been compiled.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

need_rust
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
package=(--locked --quiet --manifest-path tests/models/Cargo.toml --target-dir target/models)

# A registry that cannot be reached is a lack of this machine. Whatever else cargo complains of is our fault: above
# all a lock file that is behind its manifest.
if ! complaint=$(cargo fetch --quiet --locked --manifest-path tests/models/Cargo.toml 2>&1); then
    say "$complaint"
    grep -qE 'failed to download from|offline mode' <<<"$complaint" ||
        die "the packages of tests/models cannot be resolved"
    left_out "models: the checker (loom) cannot be fetched"
    finish
fi
timed "lints of the models" cargo clippy "${package[@]}" -- -D warnings
# A state space that has grown out of bounds is a failure of the model.
timed "models of shared memory" env LOOM_LOCATION=1 timeout 600 cargo run "${package[@]}"
finish
