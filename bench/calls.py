"""How far a request travels through our code: functions, files and borrows of one 'hello world', counted by callgrind.

    MATURIN_PEP517_ARGS='--profile dev --strip false' pip install .
    bench/calls.py               (about a minute; with --list also the single calls behind the counts)
    bench/calls.py --check       (1 if a count is above bench/calls.toml)

The build must not inline and must have its symbols: hence the profile `dev`. Counts are calls per request, without
closures and drops. A call that the standard library makes for us (`map`, `sort_by`) has no caller here, so what
leaves a file through one is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import callgrind
import report
import scenarios
from profile_text import readable

LIMITS = pathlib.Path(__file__).parent / "calls.toml"
WARM_UP = 60
REQUESTS = 100
SCENARIOS = {"direct": "hello", "threads": "threads-hello", "gevent": "gevent-hello"}

FOREIGN = r"^/?rustc/|/rustlib/|/registry/|/rust/deps/|/library/(core|alloc|std)/"
"""Source files of the standard library and of dependencies."""
OWN = r"(?:^|/)(?:crates/(?P<crate>[^/]+)/)?src/(?P<path>(?:(?!src/).)+\.rs)$"
"""Our source files; the path is without the crate's `src`."""
HIDDEN = r"\{\{closure|drop_in_place|::drop$|\{\{vtable"
"""Functions that are part of another one in the source."""


class Row(NamedTuple):
    """Counts the calls whose caller and callee match; an empty expression matches everything, other code included."""

    title: str
    caller_file: str
    file: str
    name: str


ROWS = [
    Row("wsgi -> Reactor", r"\bwsgi/", r"\bworker/", r"\bReactor\b"),
    Row("borrows of the reactor's core", "", r"\bworker/", r"\bReactor::core$"),
    Row("borrows of any cell in worker/", r"\bworker/", "", r"\bRefCell<.*>::(try_)?borrow(_mut)?$"),
    Row("GilCell::with", "", "", r"\bGilCell<.*>::with$"),
    Row("clock reads", "", "", r"\bclock::(now|coarse_now|unix_now)$"),
]
"""What is counted besides functions and files. To be kept in step with the names and places of the source."""

BUILD = "MATURIN_PEP517_ARGS='--profile dev --strip false' pip install ."
INLINED_OTHERWISE = r"\bRefCell<.*>::borrow"
SEEN_MIN = 0.05
"""Calls per request; what is rarer belongs to a timer or to the clock's next second."""


class Place(NamedTuple):
    """A function and its source file, which is empty for code that is not ours."""

    file: str
    name: str

    @property
    def folder(self) -> str:
        """The crate or the first folder below `src`."""
        return self.file.split("/")[0]

    @property
    def is_hidden(self) -> bool:
        """It is a closure or a drop."""
        return re.search(HIDDEN, self.name) is not None


Edges = Counter[tuple[Place, Place]]
Limits = dict[str, dict[str, int]]
"""By the table's row and column."""


def main() -> None:
    """Count, then print Markdown on stdout."""
    args = arguments()
    counts, listed = {}, []
    for mode, scenario in SCENARIOS.items():
        if mode in args.mode:
            found = edges(measured(args.python, scenario, mode).calls)
            counts[mode] = counted(found)
            listed += [f"### {mode}\n", *behind(found)]
    titles = dict.fromkeys(title for own in counts.values() for title in own)
    rows = [[title, *(f"{own[title]:,.0f}" for own in counts.values())] for title in titles]
    print(report.table(["per hello request", *counts], rows))
    if args.list:
        print("\n".join(listed))
    report.save(args.json, {"facts": scenarios.facts(args.python, "dev"), "counts": counts})
    complaints = exceeded(counts, tomllib.loads(LIMITS.read_text())) if args.check else []
    print(*complaints, sep="\n", end="\n" if complaints else "", file=sys.stderr)
    sys.exit(bool(complaints))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the dev build")
    parser.add_argument("--mode", nargs="+", choices=SCENARIOS, default=[*SCENARIOS])
    parser.add_argument("--json", metavar="FILE", help="save the counts")
    parser.add_argument("--check", action="store_true", help=f"fail when a count is above {LIMITS.name}")
    parser.add_argument("--list", action="store_true", help="print the calls that the rows have counted")
    return parser.parse_args()


def measured(python: str, name: str, mode: str) -> callgrind.Profile:
    """One request's calls."""
    scenario, started = scenarios.SCENARIOS[name], time.monotonic()
    load = dataclasses.replace(scenario.load, warm_up=WARM_UP, requests=REQUESTS)
    profile = callgrind.measure(scenarios.command(python, scenarios.OURS, scenario), load)
    if not any(re.search(INLINED_OTHERWISE, callee.name) for _, callee in profile.calls):
        sys.exit(f"rgunicorn is not a dev build with symbols: {BUILD}")
    report.say(f"{mode}: {profile.total:,.0f} instructions ({time.monotonic() - started:.0f} s)")
    return profile


def place(function: callgrind.Function) -> Place:
    """Where a function is in our source."""
    name = readable(function.name)
    match = None if re.search(FOREIGN, function.file) else re.search(OWN, function.file)
    if match is None:
        return Place("", name)
    return Place("/".join(filter(None, [match["crate"], match["path"]])), name)


def edges(calls: Counter[tuple[callgrind.Function, callgrind.Function]]) -> Edges:
    """Calls by place."""
    found: Edges = Counter()
    for (caller, callee), count in calls.items():
        if count >= SEEN_MIN:
            found[place(caller), place(callee)] += count
    return found


def counted(found: Edges) -> dict[str, float]:
    """The table's column."""
    own = {pair: count for pair, count in found.items() if pair[1].file and not pair[1].is_hidden}
    between = {pair: count for pair, count in own.items() if pair[0].file}
    counts = {
        "own functions entered": len({callee for _, callee in own}),
        "calls of them": sum(own.values()),
        "source files": len({callee.file for _, callee in own}),
        "calls that change the file": sum(n for (caller, callee), n in between.items() if caller.file != callee.file),
        "calls that change the folder": sum(n for (a, b), n in between.items() if a.folder != b.folder),
    }
    return counts | {row.title: sum(count for _, count in matching(row, found)) for row in ROWS}


def exceeded(counts: dict[str, dict[str, float]], limits: Limits) -> list[str]:
    """Say which counts are above their limits. None at all where there were some is a row that has lost its names."""
    complaints = []
    for title, allowed in limits.items():
        for mode in counts.keys() & allowed.keys():
            count = round(counts[mode][title])
            if count > allowed[mode]:
                complaints.append(f"{title}, {mode}: {count}, and may be {allowed[mode]}: see bench/calls.py --list")
            elif count == 0 < allowed[mode]:
                complaints.append(f"{title}, {mode}: none; does its row still name the source?")
    return sorted(complaints)


def matching(row: Row, found: Edges) -> Iterator[tuple[tuple[Place, Place], float]]:
    """The calls that a row counts."""
    for (caller, callee), count in found.items():
        places = re.search(row.caller_file, caller.file) and re.search(row.file, callee.file)
        if places and re.search(row.name, callee.name) and not callee.is_hidden:
            yield (caller, callee), count


def behind(found: Edges) -> Iterable[str]:
    """The single calls behind the rows."""
    for row in ROWS:
        yield f"{row.title}:"
        for (caller, callee), count in sorted(matching(row, found), key=lambda each: (-each[1], each[0])):
            yield f"{count:8.1f}  {caller.name} -> {callee.name}"
        yield ""


if __name__ == "__main__":
    main()
