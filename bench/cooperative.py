"""Server CPU per request and requests per second of an application that waits in greenlets, one worker.

    bench/setup.sh
    target/venv-bench/bin/python bench/cooperative.py        (about 15 minutes; --help for less)

Three applications, all patched by gevent: one that does not wait, one that sleeps 10 ms, and one that asks a backend
three times on a pooled connection. The server is pinned to one CPU, wrk and the backend to another; so what is counted
is the server alone. Servers are interleaved and measured as in compare.py. One that does not start, or whose
application is not patched or not on the loop it should be on, is left out, with the reason on stderr.

'load busy' is how much of its CPU the load took, wrk and the backend: near 100% the requests per second are its limit,
not the server's; the CPU per request still is the server's. The rows of uWSGI contain its router, a process of its
own: the only way to keep its connections open.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import load
import report
import servers

BACKEND = servers.ROOT / "target" / "release" / "backend"
OUR_SERVERS = ("rgunicorn uring", "rgunicorn epoll")


@dataclass(frozen=True)
class Scenario:
    """One table of the report."""

    title: str
    path: str
    connections: int
    goal: float
    """The most that ours may take of the CPU of the baseline."""


SCENARIOS = {
    "hello": Scenario("no wait", "/", 64, 0.1),
    "sleep": Scenario("gevent.sleep(0.010)", "/sleep", 512, 0.2),
    "backend": Scenario("three exchanges with a backend", "/backend", 256, 0.5),
}


def main() -> None:
    """Measure, then print Markdown on stdout and save JSON."""
    args = arguments()
    load.check_machine(args, "wrk")
    if "backend" in args.scenarios and not BACKEND.exists():
        sys.exit(f"{BACKEND} not found: run bench/setup.sh")
    load.raise_file_limit(servers.CONNECTIONS_MAX // 2)
    chosen, loops = usable(args, servers.choose(args.servers, table=servers.COOPERATIVE))
    if not chosen:
        sys.exit("none of the servers can be measured")
    facts = report.machine() | report.versions(chosen)
    facts |= {"wrk": load.wrk_version(), "loops": ", ".join(loops), "how": load.how(args)}
    rounds = [(name, number) for name in args.scenarios for number in range(args.rounds)]
    runs = [run for name, number in rounds for run in one_round(args, chosen, name, number)]
    facts["beside the server"] = load.others(runs)
    print(report.header("Applications that wait in greenlets, one worker", facts))
    for name in args.scenarios:
        print(section(args, SCENARIOS[name], [run for run in runs if run["scenario"] == name], chosen))
    loads = [(SCENARIOS[name].connections, SCENARIOS[name].path) for name in args.scenarios]
    print(load.commands(args, chosen, loads))
    report.save(args.json, {"facts": facts, "runs": runs})


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ",".join(SCENARIOS)
    parser.add_argument("--scenarios", default=list(SCENARIOS), type=scenarios, help=f"default: {known}")
    load.add_arguments(parser, "gunicorn gevent")
    return parser.parse_args()


def scenarios(text: str) -> list[str]:
    """``hello,sleep``"""
    names = text.split(",")
    if unknown := set(names) - set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(SCENARIOS)}")
    return names


def usable(args: argparse.Namespace, chosen: list[servers.Server]) -> tuple[list[servers.Server], list[str]]:
    """The servers that start and run the application as they should, and what each runs it on."""
    good, loops = [], []
    for server in chosen:
        try:
            with servers.running(server, args.server_cpu) as (port, _):
                about = json.loads(servers.get(port, "/about"))
        except (OSError, RuntimeError, ValueError) as error:
            report.say(f"{server.name}: left out, it does not start: {load.reason(error)}")
            continue
        if not about["patched"] or about["loop"] != server.loop:
            report.say(f"{server.name}: left out, not on {server.loop}, or not patched: {about}")
            continue
        good.append(server)
        loops.append(f"{server.name} on {about['loop']} in a {about['greenlet']}")
    return good, loops


def one_round(args: argparse.Namespace, chosen: list[servers.Server], name: str, number: int) -> Iterator[load.Run]:
    """Each server once."""
    scenario = SCENARIOS[name]
    for each in load.rotated(chosen, number):
        server, beside = each, []
        with contextlib.ExitStack() as stack:
            if name == "backend":
                port, backend_pid = stack.enter_context(backend(args.load_cpu))
                server = replace(server, environment=server.environment | {"BENCH_BACKEND_PORT": str(port)})
                beside.append(backend_pid)
            try:
                measured = load.measure(args, server, scenario.connections, scenario.path, beside)
            except RuntimeError as error:
                report.say(f"{server.name}, {name}, round {number + 1}: not counted: {load.reason(error)}")
                continue
        run = {"server": server.name, "scenario": name, "connections": scenario.connections, "round": number}
        run |= measured
        report.say(f"{name:8}" + load.progress(run, args.rounds))
        yield run


@contextlib.contextmanager
def backend(cpu: int) -> Iterator[tuple[int, int]]:
    """Run the backend on a CPU; gives its port and process id. It ends when its input does."""
    with subprocess.Popen(
        ["taskset", "-c", str(cpu), str(BACKEND)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid


def section(args: argparse.Namespace, scenario: Scenario, runs: list[load.Run], chosen: list[servers.Server]) -> str:
    """The table of a scenario, and whether its goal was reached."""
    title = f"### {scenario.title}, {scenario.connections} keep-alive connections\n"
    return "\n".join([title, load.comparison(runs, chosen, args.baseline, shares=True), verdict(args, scenario, runs)])


def verdict(args: argparse.Namespace, scenario: Scenario, runs: list[load.Run]) -> str:
    """The goal, and how far ours are."""
    goal = f"Goal: at most {scenario.goal:.2f} of the CPU per request of {args.baseline}."
    if args.baseline not in load.by_server(runs):
        return f"{goal} Not judged: it was not measured.\n"
    ratio = load.ratios(runs, args.baseline)
    found = [
        f"{name}: {ratio[name]:.2f}, {'reached' if ratio[name] <= scenario.goal else 'missed'}"
        for name in OUR_SERVERS
        if name in ratio
    ]
    return f"{goal} {'; '.join(found) or 'Ours was not measured'}.\n"


if __name__ == "__main__":
    main()
