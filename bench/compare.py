"""Server CPU per request and requests per second of a 'hello world', one worker, against other servers.

    bench/setup.sh
    target/venv-bench/bin/python bench/compare.py                 (about 15 minutes; --help for less)
    target/venv-bench/bin/python bench/compare.py --configured    (what logs, hooks and threads cost; about 7 minutes)

The server is pinned to one CPU and wrk to another. Servers are interleaved: every round runs each of them once, so
that a change of the machine's mood hits all alike. CPU time is that of all threads of the server's processes, from
the kernel's scheduler statistics, over the run of wrk, divided by the requests that wrk has completed; connecting is
included, a warm-up before is not. Medians over the rounds are reported, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import sys

import load
import report
import servers

DEFAULT = [
    *("rgunicorn uring", "rgunicorn epoll", "gunicorn sync", "gunicorn gthread", "gunicorn gevent"),
    *("granian", "freastal", "fastpysgi", "bjoern"),
]
"""The servers that the first entry of PERF.md has, and two. bench/field.py has all."""


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    default, table = (None, servers.CONFIGURED) if args.configured else (DEFAULT, servers.TABLE)
    chosen = servers.choose(args.servers, default, table)
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    load.check_machine(args, "wrk")
    facts = report.machine() | report.versions(chosen) | {"wrk": load.wrk_version(), "how": load.how(args)}
    runs = [
        run
        for connections in args.connections
        for round_number in range(args.rounds)
        for run in one_round(args, load.rotated(chosen, round_number), connections, round_number)
    ]
    facts["beside the server"] = load.others(runs)
    title = "Logs, hooks and threads" if args.configured else "Hello world, one worker"
    print(report.header(title, facts))
    for connections in args.connections:
        print(f"### {connections} keep-alive connection{'s' if connections > 1 else ''}\n")
        own = [run for run in runs if run["connections"] == connections]
        print(load.comparison(own, chosen, args.baseline))
    print(load.commands(args, chosen, [(64, "/")]))
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=numbers, help="default: 1,64,1000; with --configured 64")
    parser.add_argument("--configured", action="store_true", help="other servers: both with logs, hooks, threads")
    load.add_arguments(parser, "rgunicorn uring")
    args = parser.parse_args()
    args.connections = args.connections or ([64] if args.configured else [1, 64, 1_000])
    return args


def numbers(text: str) -> list[int]:
    """``1,64,1000``"""
    return [int(number) for number in text.split(",")]


def one_round(args: argparse.Namespace, chosen: list[servers.Server], connections: int, number: int) -> list[load.Run]:
    """Each server once; one that fails has no run in this round."""
    runs = []
    for server in chosen:
        try:
            run = load.measure(args, server, connections)
        except RuntimeError as error:
            report.say(f"{server.name}, round {number + 1}: not counted: {load.reason(error)}")
            continue
        runs.append({"server": server.name, "connections": connections, "round": number, **run})
        report.say(load.progress(runs[-1], args.rounds))
    return runs


if __name__ == "__main__":
    main()
