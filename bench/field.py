"""The whole field: rgunicorn, its floor, and the WSGI servers of others under the same loads, one report.

    bench/setup.sh
    target/venv-bench/bin/python bench/field.py              (many hours: choose parts and servers)
    target/venv-bench/bin/python bench/field.py --quick      (a smoke of two minutes or three)
    target/venv-bench/bin/python bench/field.py --only hello:64,json --servers "rgunicorn uring,granian"
    target/venv-bench/bin/python bench/field.py --render DIRECTORY      (the report anew, from its figures)

The server is pinned to one CPU and the load to another. Every round starts each server anew; they are up side by side
and take turns, a slice of the load each, so that what slows the machine down slows down all of them. Rounds go on until
they are steady beside each other (`steady.RULE`), or their number is used up. CPU time is that of all
threads of the server's processes, from the kernel's scheduler statistics, divided by the requests that were completed.
What a server answers is looked at before each run, and how it streams before the case of streams.

The report is a directory: report.md, the plots (SVG), results.json with every single run. It is written after each
round, so that a run that was broken off has one, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import sys
from typing import Any

import cases
import field_report
import field_run
import load
import report
import servers
import steady
from cases import Case
from field_run import Results

QUICK_SERVERS = ["rgunicorn uring", "rgunicorn epoll", "gunicorn gthread", "granian", "bjoern", "floor uring"]


def main() -> None:
    """Measure and write the report, or write it anew."""
    args = arguments()
    if args.render:
        write(json.loads((args.render / "results.json").read_text()), args.render)
        return
    try:
        chosen = cases.choose(args.only, args.quick)
    except ValueError as error:
        sys.exit(str(error))
    check(args, chosen)
    # This process only waits and counts: it shall not take the server's CPU for that.
    os.sched_setaffinity(0, {args.load_cpu})
    results = Results(facts(args, chosen))
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        for number, case in enumerate(chosen):
            report.say(f"--- case {number + 1} of {len(chosen)}: {case.title}")
            results.cases.append(described(args, case))
            for _ in field_run.rounds(args, case, results):
                save(results, args.output)
    except KeyboardInterrupt:
        results.facts["broken off"] = "the last case lacks rounds, others are missing"
        save(results, args.output)
    write(dataclasses.asdict(results), args.output)
    # A smoke is a test of this bench. What servers of others cannot do is in its report.
    own = [failure for failure in results.failures if not field_run.is_peer(failure["server"])]
    sys.exit(1 if args.quick and own else 0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", metavar="PARTS", help=f"comma-separated, as hello or hello:64; of {', '.join(cases.PARTS)}"
    )
    parser.add_argument("--servers", metavar="NAMES", type=lambda text: text.split(","), help="comma-separated names")
    parser.add_argument("--rounds", type=int, help=f"at least so many; default: {steady.ROUNDS_MIN}")
    parser.add_argument("--rounds-max", type=int, help=f"at most so many; default: {steady.ROUNDS_MAX}")
    parser.add_argument("--seconds", type=float, help="length of one load; default: 3")
    parser.add_argument("--quick", action="store_true", help="one round of a second, few servers and points: a smoke")
    parser.add_argument("--output", metavar="DIRECTORY", type=pathlib.Path, help="default: target/field/ and the time")
    parser.add_argument("--render", metavar="DIRECTORY", type=pathlib.Path, help="only write a report anew")
    parser.add_argument("--server-cpu", default=0, type=int)
    parser.add_argument("--load-cpu", default=1, type=int)
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else steady.ROUNDS_MIN)
    args.rounds_max = max(args.rounds, args.rounds_max or (1 if args.quick else steady.ROUNDS_MAX))
    args.seconds = args.seconds or (1 if args.quick else 3)
    args.tries = 1 if args.quick else field_run.TRIES_MAX
    args.warm_up = 0 if args.quick else load.WARM_UP_S
    args.servers = args.servers or (QUICK_SERVERS if args.quick else None)
    args.worker_cpus = sorted(os.sched_getaffinity(0) - {args.load_cpu})
    now = datetime.datetime.now(datetime.UTC)
    args.output = args.output or servers.ROOT / "target" / "field" / f"{now:%Y-%m-%d-%H%M%S}"
    return args


def check(args: argparse.Namespace, chosen: list[Case]) -> None:
    """Fail early rather than after hours."""
    load.check_machine(args)
    if not field_run.LOADGEN.exists():
        sys.exit(f"{field_run.LOADGEN.name} is not built: run bench/setup.sh")
    known = {server.name for server in [*servers.table(), *servers.floors(0)]}
    unknown = [name for name in args.servers or [] if name not in known]
    if unknown:
        sys.exit(f"unknown server {unknown[0]!r}; known: {', '.join(sorted(known))}")
    for server in servers.table():
        if servers.version(server.package) is None:
            report.say(f"{server.name}: {server.package} is not installed, left out")
    load.raise_file_limit(max(case.load.connections + case.load.idle for case in chosen))


def facts(args: argparse.Namespace, chosen: list[Case]) -> dict[str, str]:
    """Where the figures come from."""
    used = {server.package: server for case in chosen for server in field_run.servers_of(args, case)}
    found = {"smoke": "yes"} if args.quick else {}
    found |= report.machine() | report.versions(used.values())
    if any(case.part == "flask" for case in chosen):
        found["flask"] = servers.version("flask") or "?"
    found["how"] = (
        f"loopback TCP, server on CPU {args.server_cpu}, load on CPU {args.load_cpu}, {args.seconds:g} s for each run "
        f"after a warm-up of {args.warm_up} s, in up to {cases.SLICES} slices between which the others have theirs, "
        f"{args.rounds} to {args.rounds_max} rounds; load: the generator of bench/"
    )
    if any(case.workers > 1 for case in chosen):
        found["several workers"] = f"on CPU {', '.join(map(str, args.worker_cpus))}"
        if len(args.worker_cpus) == 1:
            found["several workers"] += ": what more processes cost, not what more processors bring"
    return found | {"steady": steady.RULE, "disturbed": field_run.DISTURBED if args.tries > 1 else "counted"}


def described(args: argparse.Namespace, case: Case) -> dict[str, Any]:
    """A case as the report needs it."""
    cpus = ",".join(map(str, args.worker_cpus if case.workers > 1 else [args.server_cpu]))
    commands = {}
    for server in field_run.servers_of(args, case):
        words = [load.quoted(relative(word)) for word in server.arguments(8000)]
        commands[server.name] = f"taskset -c {cpus} {' '.join(words)}"
    made = case.load
    words = field_run.generator_command(8000, made, args.seconds / made.slices)
    shown = " ".join(load.quoted(relative(word)) for word in words)
    return {
        "part": case.part,
        "point": case.point,
        "title": case.title,
        "app": " ".join([*(f"{name}={value}" for name, value in case.environment.items()), case.app]),
        "workers": case.workers,
        "slices": made.slices,
        "servers": commands,
        "load": f"taskset -c {args.load_cpu} {shown}",
    }


def relative(word: str) -> str:
    """A path of this tree, from its root."""
    return word.removeprefix(f"{servers.ROOT}/")


def save(results: Results, directory: pathlib.Path) -> None:
    """Write what there is so far."""
    (directory / "results.json").write_text(json.dumps(dataclasses.asdict(results), indent=1) + "\n")


def write(saved: field_report.Saved, directory: pathlib.Path) -> None:
    """Write the report and its plots."""
    plots: field_report.Plots = {}
    try:
        import field_plots  # noqa: PLC0415  # Figures are worth having without it.
    except ImportError as error:
        report.say(f"no plots: {error}")
    else:
        plots = field_plots.draw(saved, directory)
    (directory / "report.md").write_text(field_report.markdown(saved, plots))
    report.say(f"wrote {relative(str(directory / 'report.md'))}")


if __name__ == "__main__":
    main()
