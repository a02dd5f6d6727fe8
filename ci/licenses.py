"""Check the licences and sources of all dependencies against deny.toml, with nothing but Cargo and Python.

cargo-deny does more (see ci/deny.sh); this is what can be had in a second where it is not installed.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORKSPACES = ["Cargo.toml", "tests/fuzz/Cargo.toml", "tests/models/Cargo.toml"]
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main() -> int:
    """Print one line for each finding."""
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(rules["licenses"]["allow"])
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in rules["licenses"]["exceptions"]}
    triples = rules["graph"]["targets"]
    seen, findings = set(), set()
    for manifest in WORKSPACES:
        for package in dependencies(manifest, triples):
            name, license = package["name"], package["license"] or ""
            seen.add((name, package["version"]))
            if package["source"] != CRATES_IO:
                findings.add(f"{name} {package['version']}: comes from {package['source']}")
            if not satisfied(license, allowed | exceptions.get(name, set())):
                findings.add(f"{name} {package['version']}: licence {license!r} is not allowed by deny.toml")
    for finding in sorted(findings):
        print(finding, file=sys.stderr)
    print(f"{len(seen)} packages, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


def dependencies(manifest: str, triples: list[str]) -> list[dict]:
    """Return the packages that are not our own, of the platforms that count."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--manifest-path", str(ROOT / manifest)]
    for triple in triples:
        command += ["--filter-platform", triple]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["source"] and package["id"] in used]


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Say whether an SPDX expression can be satisfied; the old `MIT/Apache-2.0` means OR. AND binds tighter."""
    words = re.findall(r"[()]|[^\s()]+(?: WITH [^\s()]+)?", expression.replace("/", " OR "))

    def choice() -> bool:
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            # Not `result or both()`: the words have to be consumed.
            result |= both()
        return result

    def both() -> bool:
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result &= one()
        return result

    def one() -> bool:
        if not words or words[0] != "(":
            return bool(words) and words.pop(0) in allowed
        words.pop(0)
        result = choice()
        return bool(words) and words.pop(0) == ")" and result

    return choice() and not words


if __name__ == "__main__":
    sys.exit(main())
