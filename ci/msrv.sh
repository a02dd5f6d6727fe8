#!/usr/bin/env bash
# Whether the oldest Rust that Cargo.toml promises (`rust-version`) still builds everything that a wheel is made of.
# Without that toolchain, what can be told from here: no dependency asks for a newer one, and no function of the
# standard library is used that came later.
set -euo pipefail
# shellcheck source=ci/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
need_rust
need_python
python_env "$(command -v "$PYTHON")"
VERSION=$(rust_version)
HOST=$(rustc -vV | sed -n 's/^host: //p')
# The bench and the tests may need a newer one.
PACKAGES=(-p rgunicorn -p rgunicorn-http -p rgunicorn-io -p rgunicorn-server -p rgunicorn-settings)

build() { # TOOLCHAIN
    cargo "+$1" check --quiet --locked --target-dir target/msrv "${PACKAGES[@]}"
}

dependencies() {
    cargo metadata --locked --format-version=1 --filter-platform "$HOST" | "$PYTHON" -c '
import json, sys

number = lambda version: [int(part) for part in version.split(".")[:2]]
metadata = json.load(sys.stdin)
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
packages = {package["id"]: package for package in metadata["packages"]}
# What is built for the wheel: not what tests need.
reached, todo = set(), [metadata["resolve"]["root"]]
while todo:
    if (name := todo.pop()) not in reached:
        reached.add(name)
        todo += [dep["pkg"] for dep in nodes[name]["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]
newer = [
    "{name} {version} needs Rust {rust_version}".format(**package)
    for package in map(packages.get, sorted(reached))
    if package["rust_version"] and number(package["rust_version"]) > number(sys.argv[1])
]
print(f"{len(reached)} packages, {len(newer)} need more than Rust {sys.argv[1]}", *newer, sep="\n", file=sys.stderr)
sys.exit(bool(newer))
' "$VERSION"
}

functions() {
    cargo clippy --quiet --locked "${PACKAGES[@]}" -- -A clippy::all -A warnings -D clippy::incompatible_msrv
}

if found=$(toolchain "$VERSION"); then
    timed "build with Rust $VERSION" build "$found"
    finish
fi
left_out "the build with Rust $VERSION (rustup toolchain install $VERSION): newer syntax would not be noticed"
timed "rust-version of the dependencies" dependencies
timed "functions that are newer than Rust $VERSION" functions
finish
