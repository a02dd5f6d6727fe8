"""Instructions of user space per request, counted by valgrind: a figure that a busy machine does not change.

    bench/setup.sh
    target/venv-bench/bin/python bench/instructions.py               (every scenario and server; about 5 minutes)
    ... bench/instructions.py --scenario hello,json --server rgunicorn --check     (compares with the record)
    ... bench/instructions.py --scenario gevent-hello --profile      (where they go; --help for more)

One worker on epoll, since valgrind cannot run io_uring; requests one at a time over 4 kept-alive connections; the
worker process only. Two runs on one machine differ by 0.1% (JSON by 0.8%, by what malloc finds; threads by 1.5%, by
how they meet), and machines by up to 2%: medians of three are compared. callgrind.py says how it counts.
With --check, the exit status is 1 if a figure is above its record or has none, and 3 if none is, but a record is of
another environment, so that nothing is known of its figure.

The system calls' own work in the kernel is not in the figure, and an instruction is not a unit of time: what is cheap
here may miss the cache. compare.py measures time.

Names of our own functions in `--profile` need a build with symbols: MATURIN_PEP517_ARGS='--strip false' pip install .
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import statistics
import sys
import time
from typing import Any

import baseline
import callgrind
import profile_text
import report
import scenarios
from scenarios import OURS, PEERS, SCENARIOS

RECORDS = pathlib.Path(__file__).parent / "instructions.toml"
ALLOWED_PERCENT = 3.0
NOT_COMPARED = 3
"""The exit status where nothing has failed, and not every figure could be compared."""


def main() -> None:
    """Count, then print Markdown on stdout."""
    args = arguments()
    facts = scenarios.facts(args.python, args.build)
    # Counting disturbs no counting: valgrind counts what is done, not how long it takes.
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = [run for runs in pool.map(lambda pair: counted(args, *pair), chosen(args, facts)) for run in runs]
    figures = medians(runs)
    print(report.header("Instructions per request", facts))
    print(table(figures))
    status = check(args, facts, figures) if args.check else 0
    if args.record:
        record(args.baseline, facts, figures)
    report.save(args.json, {"facts": facts, "runs": runs})
    sys.exit(1 if any("error" in run for run in runs) else status)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=_names([OURS, *PEERS]), help="comma-separated; default: all installed ones")
    parser.add_argument("--scenario", type=_names(SCENARIOS), default=[*SCENARIOS], help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--repeat", default=1, type=int, help="runs of each, at least; the median counts")
    parser.add_argument("--jobs", default=os.cpu_count(), type=int, help="how many at a time; default: one a CPU")
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose packages are measured")
    parser.add_argument("--build", help="the profile that rgunicorn was built with, if setup.sh has not noted it")
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    parser.add_argument("--baseline", default=RECORDS, type=pathlib.Path, metavar="FILE", help="the records")
    parser.add_argument("--check", action="store_true", help="fail when a figure is above its record")
    parser.add_argument("--tolerance", default=ALLOWED_PERCENT, type=float, metavar="PERCENT", help="how much above")
    parser.add_argument("--record", action="store_true", help="write the figures into the records")
    parser.add_argument("--profile", action="store_true", help="print which functions the instructions are of")
    parser.add_argument("--top", default=40, type=int, help="how many functions")
    return parser.parse_args()


def _names(known: Any) -> Any:
    """A type for argparse: comma-separated names out of `known`."""

    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return text.split(",")

    return names


def chosen(args: argparse.Namespace, facts: dict[str, str]) -> list[tuple[str, str]]:
    """Scenarios and servers to count; a server that was asked for by name must be there."""
    pairs = []
    for name in args.scenario:
        wanted = [OURS, *PEERS] if SCENARIOS[name].peers else [OURS]
        for server in wanted:
            installed = ("rustc" if server == OURS else server) in facts
            if args.server and server in args.server and not installed:
                sys.exit(f"{server} is not installed in {args.python}: run bench/setup.sh")
            if installed and server in (args.server or wanted):
                pairs.append((name, server))
    return pairs


def counted(args: argparse.Namespace, name: str, server: str) -> list[dict[str, Any]]:
    """The runs of one pair. One that fails is told and has no figure."""
    scenario = SCENARIOS[name]
    runs = []
    repeat = max(args.repeat, scenario.runs_min)
    for number in range(repeat):
        title, started = f"{name}, {server}, run {number + 1}/{repeat}", time.monotonic()
        try:
            profile = callgrind.measure(scenarios.command(args.python, server, scenario), scenario.load)
        except (OSError, RuntimeError) as error:
            report.say(f"{title}: not counted: {error}")
            runs.append({"scenario": name, "server": server, "error": str(error)})
            continue
        runs.append({"scenario": name, "server": server, "instructions": profile.total})
        # Of a figure that another machine does not show, this says where to look.
        parts = ", ".join(f"{part} {cost:,.0f}" for part, cost in profile_text.by_part(profile).most_common(4))
        report.say(f"{title}: {profile.total:,.0f} ({time.monotonic() - started:.0f} s): {parts}")
    if args.profile and "instructions" in runs[-1]:
        print(profile_text.text(f"{name}, {server}", profile, args.top))
    return runs


def medians(runs: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """By scenario and server."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if "instructions" in run:
            found.setdefault((run["scenario"], run["server"]), []).append(run["instructions"])
    return {pair: statistics.median(figures) for pair, figures in found.items()}


def table(figures: dict[tuple[str, str], float]) -> str:
    """A row for each server, a column for each scenario."""
    columns = list(dict.fromkeys(name for name, _ in figures))
    rows = list(dict.fromkeys(server for _, server in figures))

    def cell(name: str, server: str) -> str:
        return f"{figures[name, server]:,.0f}" if (name, server) in figures else ""

    return report.table(["server", *columns], [[row, *(cell(name, row) for name in columns)] for row in rows])


def check(args: argparse.Namespace, facts: dict[str, str], figures: dict[tuple[str, str], float]) -> int:
    """Tell how each figure compares with its record, and return the exit status."""
    records, verdicts = baseline.read(args.baseline), []
    for (name, server), figure in figures.items():
        relevant = scenarios.relevant(server, SCENARIOS[name])
        verdict = baseline.compare(records, facts, relevant, f"{server} {name}", figure, args.tolerance)
        print(f"{server} {name}: {figure:,.0f}, {verdict.text}")
        verdicts.append(verdict)
    if any(verdict.failed for verdict in verdicts):
        return 1
    return 0 if all(verdict.compared for verdict in verdicts) else NOT_COMPARED


def record(path: pathlib.Path, facts: dict[str, str], figures: dict[tuple[str, str], float]) -> None:
    """Put the figures into the file."""
    named = {f"{server} {name}": round(figure) for (name, server), figure in figures.items()}
    path.write_text(baseline.written(baseline.merged(baseline.read(path), baseline.Record(facts, named))))
    report.say(f"wrote {path}")


if __name__ == "__main__":
    main()
