"""Server CPU per request and requests per second of a 'hello world', one worker, against other servers.

    bench/setup.sh
    target/venv-bench/bin/python bench/compare.py            (about 15 minutes; --help for less)

The server is pinned to one CPU and wrk to another. Servers are interleaved: every round runs each of them once, so
that a change of the machine's mood hits all alike. CPU time is that of all threads of the server's processes, from
the kernel's scheduler statistics, over the run of wrk, divided by the requests that wrk has completed; connecting is
included, a warm-up before is not. Medians over the rounds are reported, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
from typing import Any

import report
import servers

WARM_UP_S = 1


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    chosen = servers.choose(args.servers)
    if not chosen:
        sys.exit("none of the servers is installed: run bench/setup.sh")
    check_machine(args)
    facts = report.machine() | report.versions(chosen) | {"wrk": wrk_version()} | {"how": how(args)}
    runs = [
        run
        for connections in args.connections
        for round_number in range(args.rounds)
        for run in one_round(args, rotated(chosen, round_number), connections, round_number)
    ]
    print(report.header("Hello world, one worker", facts))
    for connections in args.connections:
        print(f"### {connections} keep-alive connection{'s' if connections > 1 else ''}\n")
        print(comparison(args, [run for run in runs if run["connections"] == connections], chosen))
    print(commands(args, chosen))
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help="comma-separated names; default: all that are installed")
    parser.add_argument("--baseline", default="rgunicorn uring", help="server that the ratios are taken to")
    parser.add_argument("--connections", default=[1, 64, 1_000], type=numbers, help="default: 1,64,1000")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", default=4, type=int, help="length of one run of wrk")
    parser.add_argument("--server-cpu", default=0, type=int)
    parser.add_argument("--load-cpu", default=1, type=int)
    parser.add_argument("--json", metavar="FILE", help="save every single run")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """``1,64,1000``"""
    return [int(number) for number in text.split(",")]


def check_machine(args: argparse.Namespace) -> None:
    """Fail early and clearly rather than measure nonsense."""
    missing = [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: run bench/setup.sh")
    if args.server_cpu == args.load_cpu or not {args.server_cpu, args.load_cpu} <= os.sched_getaffinity(0):
        sys.exit("needs two different CPUs, one for the server and one for wrk")


def rotated(chosen: list[servers.Server], by: int) -> list[servers.Server]:
    """Another server goes first in each round."""
    by %= len(chosen)
    return chosen[by:] + chosen[:by]


def one_round(
    args: argparse.Namespace, chosen: list[servers.Server], connections: int, number: int
) -> list[dict[str, Any]]:
    """Each server once."""
    runs = []
    for server in chosen:
        run = measure(args, server, connections)
        runs.append({"server": server.name, "connections": connections, "round": number, **run})
        report.say(
            f"{connections:5} connections, round {number + 1}/{args.rounds}, {server.name:17}"
            f"{run['cpu_us_per_request']:8.1f} us/request {run['requests_per_s']:9.0f}/s  {run['errors']} errors"
        )
    return runs


def measure(args: argparse.Namespace, server: servers.Server, connections: int) -> dict[str, Any]:
    """Start the server, warm it up, load it once."""
    with servers.running(server, args.server_cpu) as (port, pid):
        wrk(args, port, connections, WARM_UP_S)
        before = servers.cpu_ns(pid)
        result = wrk(args, port, connections, args.seconds)
        used_ns = servers.cpu_ns(pid) - before
    result["cpu_us_per_request"] = used_ns / 1_000 / max(result["requests"], 1)
    result["cpu_share"] = used_ns / 1e9 / result["seconds"]
    return result


def wrk(args: argparse.Namespace, port: int, connections: int, seconds: int) -> dict[str, Any]:
    """Run wrk and read its report."""
    load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/"]
    done = subprocess.run(
        ["taskset", "-c", str(args.load_cpu), *load], capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    return parse_wrk(done.stdout)


def parse_wrk(text: str) -> dict[str, Any]:
    """The numbers of wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", text)
    if total is None:
        raise RuntimeError(f"wrk said:\n{text}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[total[3]]
    seconds = float(total[2]) * unit
    socket_errors = re.search(r"Socket errors: (.*)", text)
    errors = sum(map(int, re.findall(r"\d+", socket_errors[1]))) if socket_errors else 0
    bad_status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    p99 = re.search(r"99%\s+(\S+)", text)
    return {
        "requests": int(total[1]),
        "seconds": seconds,
        "requests_per_s": int(total[1]) / seconds,
        "errors": errors + (int(bad_status[1]) if bad_status else 0),
        "p99": p99[1] if p99 else "?",
    }


def comparison(args: argparse.Namespace, runs: list[dict[str, Any]], chosen: list[servers.Server]) -> str:
    """One table: a row per server."""
    by_server = {server.name: [run for run in runs if run["server"] == server.name] for server in chosen}
    cpu = {name: [run["cpu_us_per_request"] for run in own] for name, own in by_server.items()}
    baseline = args.baseline if args.baseline in cpu else next(iter(cpu))
    unit = statistics.median(cpu[baseline])
    rows = []
    for name, own in by_server.items():
        rows.append(
            [
                name,
                report.spread(cpu[name], 1),
                f"{statistics.median(cpu[name]) / unit:.2f}",
                report.spread([run["requests_per_s"] for run in own], 0),
                f"{sum(run['errors'] for run in own):,}",
            ]
        )
    columns = ["server", "CPU us/request", f"CPU / {baseline}", "requests/s", "errors"]
    return report.table(columns, rows)


def how(args: argparse.Namespace) -> str:
    """The set-up in one line."""
    return (
        f"server on CPU {args.server_cpu}, wrk on CPU {args.load_cpu}, {args.rounds} rounds of {args.seconds} s each, "
        f"servers interleaved; median [min–max]"
    )


def commands(args: argparse.Namespace, chosen: list[servers.Server]) -> str:
    """What was run, for those who want to run it by hand in tests/apps."""
    lines = ["Commands:", "", "```sh"]
    for server in chosen:
        lines.append(f"taskset -c {args.server_cpu} " + " ".join(quoted(word) for word in server.arguments(8000)))
    lines += [f"taskset -c {args.load_cpu} wrk -t1 -c64 -d{args.seconds}s http://127.0.0.1:8000/", "```"]
    return "\n".join(lines)


def quoted(word: str) -> str:
    """A word as a shell needs it."""
    return f'"{word}"' if re.search(r"[\s;()]", word) else word


def wrk_version() -> str:
    """wrk prints its version with its usage and leaves with 1."""
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return done.stdout.split("\n", 1)[0].split("[")[0].replace("wrk", "").strip() or "unknown"


if __name__ == "__main__":
    main()
