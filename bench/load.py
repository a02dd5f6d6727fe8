"""wrk against one server at a time, each pinned to a CPU of its own: what the benches of requests share.

A bench makes rounds; in every round each server is started, warmed up and loaded once (`measure`), another one first
each time (`rotated`). `comparison` makes the table.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import report
import servers

WARM_UP_S = 1
OTHER_FILES = 200
"""Open files besides connections."""

Run = dict[str, Any]
"""What one server did in one round: its name, the round, and the numbers of `measure`."""


def add_arguments(parser: argparse.ArgumentParser, baseline: str) -> None:
    """The options that all benches of requests know."""
    parser.add_argument("--servers", help="comma-separated names; default: all that are installed")
    parser.add_argument("--baseline", default=baseline, help=f"what ratios are taken to; default: {baseline}")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", default=4, type=int, help="length of one run of wrk")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where things run, and where the result goes."""
    parser.add_argument("--server-cpu", default=0, type=int)
    parser.add_argument("--load-cpu", default=1, type=int)
    parser.add_argument("--json", metavar="FILE", help="save every single run")


def check_machine(args: argparse.Namespace, *tools: str) -> None:
    """Fail early and clearly rather than measure nonsense."""
    missing = [tool for tool in (*tools, "taskset") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: run bench/setup.sh")
    if args.server_cpu == args.load_cpu or not {args.server_cpu, args.load_cpu} <= os.sched_getaffinity(0):
        sys.exit("needs two different CPUs, one for the server and one for the load")


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit to the hard one, for this process and for the servers that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and connections + OTHER_FILES > hard:
        sys.exit(f"{connections} connections need {connections + OTHER_FILES} open files; the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def rotated(chosen: Sequence[Any], by: int) -> list[Any]:
    """Another one goes first in each round."""
    by %= len(chosen)
    return [*chosen[by:], *chosen[:by]]


def measure(
    args: argparse.Namespace, server: servers.Server, connections: int, path: str = "/", beside: Sequence[int] = ()
) -> Run:
    """Start the server, warm it up, load it once. `beside`: processes that share the CPU of wrk, and serve the load."""
    with servers.running(server, args.server_cpu) as (port, pid):
        wrk(args, port, connections, WARM_UP_S, path)
        load_before, started, busy_before = load_cpu_s(beside), time.monotonic(), servers.busy_ns(args.server_cpu)
        before = servers.cpu_ns(pid)
        result = wrk(args, port, connections, args.seconds, path)
        used_ns = servers.cpu_ns(pid) - before
        busy_ns, load_s = servers.busy_ns(args.server_cpu) - busy_before, load_cpu_s(beside) - load_before
        elapsed_s = time.monotonic() - started
    if not result["requests"] or used_ns <= 0:
        raise RuntimeError(f"{server.name} has answered nothing, or left")
    result["cpu_us_per_request"] = used_ns / 1_000 / max(result["requests"], 1)
    result["cpu_share"] = used_ns / 1e9 / result["seconds"]
    result["load_share"] = load_s / elapsed_s
    result["others_share"] = max(busy_ns - used_ns, 0) / 1e9 / elapsed_s
    return result


def load_cpu_s(beside: Iterable[int]) -> float:
    """Seconds of CPU of the runs of wrk that have ended, and of the processes beside them."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(servers.cpu_ns(pid) for pid in beside) / 1e9


def wrk(
    args: argparse.Namespace, port: int, connections: int, seconds: int, path: str = "/", extra: Sequence[str] = ()
) -> Run:
    """Run wrk and read its report; `extra`: more of its options."""
    done = subprocess.run(
        ["taskset", "-c", str(args.load_cpu), *wrk_command(port, connections, seconds, path, extra)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    return parse_wrk(done.stdout)


def wrk_command(port: int, connections: int, seconds: int, path: str = "/", extra: Sequence[str] = ()) -> list[str]:
    """wrk with one thread."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *extra]
    return ["wrk", *options, f"http://127.0.0.1:{port}{path}"]


def parse_wrk(text: str) -> Run:
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


def reason(error: Exception) -> str:
    """The one line of a failure that says why: the last exception of a traceback in a server's log, else the end."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (raised or lines or [repr(error)])[-1]


def wrk_version() -> str:
    """wrk prints its version with its usage and leaves with 1."""
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return done.stdout.split("\n", 1)[0].split("[")[0].replace("wrk", "").strip() or "unknown"


def progress(run: Run, rounds: int) -> str:
    """The line about a run that is over."""
    return (
        f"{run['connections']:5} connections, round {run['round'] + 1}/{rounds}, {run['server']:17}"
        f"{run['cpu_us_per_request']:8.1f} us/request {run['requests_per_s']:9.0f}/s  {run['errors']} errors"
        f", others {run['others_share']:.0%}"
    )


def by_server(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each server, servers in the order of their first run."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run["server"], []).append(run)
    return found


def ratios(runs: Iterable[Run], baseline: str) -> dict[str, float]:
    """Each server's median CPU per request, divided by the baseline's."""
    cpu = {name: statistics.median(run["cpu_us_per_request"] for run in own) for name, own in by_server(runs).items()}
    return {name: own / cpu[baseline] for name, own in cpu.items()}


def comparison(runs: list[Run], chosen: list[servers.Server], wanted: str, shares: bool = False) -> str:
    """One table: a row per server; with `shares` also how busy the two CPUs were."""
    own = by_server(runs)
    names = [server.name for server in chosen if server.name in own]
    baseline = wanted if wanted in names else names[0]
    ratio = ratios(runs, baseline)
    rows = []
    for name in names:
        row = [name, report.spread([run["cpu_us_per_request"] for run in own[name]], 1), f"{ratio[name]:.2f}"]
        row.append(report.spread([run["requests_per_s"] for run in own[name]], 0))
        if shares:
            row += [median_percent(own[name], share) for share in ("cpu_share", "load_share")]
        rows.append([*row, f"{sum(run['errors'] for run in own[name]):,}"])
    busy = ["server busy", "load busy"] if shares else []
    return report.table(["server", "CPU us/request", f"CPU / {baseline}", "requests/s", *busy, "errors"], rows)


def median_percent(runs: list[Run], share: str) -> str:
    """``97%``"""
    return f"{statistics.median(run[share] for run in runs):.0%}"


def others(runs: Iterable[Run]) -> str:
    """How quiet the machine was: what ran on the server's CPU besides the server."""
    shares = [run["others_share"] for run in runs]
    return f"{statistics.median(shares):.0%} of its CPU in the median, {max(shares):.0%} at most" if shares else "?"


def how(args: argparse.Namespace) -> str:
    """The set-up in one line."""
    return (
        f"server on CPU {args.server_cpu}, wrk on CPU {args.load_cpu}, {args.rounds} rounds of {args.seconds} s each, "
        f"servers interleaved; median [min–max]"
    )


def commands(args: argparse.Namespace, chosen: list[servers.Server], loads: Iterable[tuple[int, str]]) -> str:
    """What was run, for those who want to run it by hand in tests/apps; `loads`: connections and paths."""
    lines = ["Commands:", "", "```sh"]
    for server in chosen:
        settings = "".join(f"{name}={value} " for name, value in server.environment.items())
        words = " ".join(quoted(word) for word in server.arguments(8000))
        lines.append(f"{settings}taskset -c {args.server_cpu} {words}")
    for connections, path in loads:
        load = [word for word in wrk_command(8000, connections, args.seconds, path) if word != "--latency"]
        lines.append(f"taskset -c {args.load_cpu} {' '.join(load)}")
    return "\n".join([*lines, "```"])


def quoted(word: str) -> str:
    """A word as a shell needs it."""
    return f'"{word}"' if re.search(r"[\s;()]", word) else word
